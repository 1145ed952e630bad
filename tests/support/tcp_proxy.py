"""
A network between a client and a server on loopback that breaks as a test tells it.

What is said about "up" concerns the bytes from the client to the server, "down" those from the server, None both. It
holds for the connections that are there and for those to come, until `heal()`.
"""

import collections
import contextlib
import selectors
import socket
import struct
import threading
import time

HELD = 256 * 1024
"""Bytes of one direction that the proxy holds at most; then it stops reading, and the sender feels it."""


class TcpProxy:
    """
    A context manager: clients call `host`:`port`, and are connected with the server's address.

    Attributes:
        accepted: Connections so far.
        forwarded: Bytes handed on so far, by direction.
    """

    host = "127.0.0.1"

    def __init__(self, host, port):
        self._server = (host, port)
        self._lock = threading.Condition()  # guards all that a command or a counter touches
        self._commands = collections.deque()
        self._links = []
        self._heal()
        self.accepted = 0
        self.forwarded = {"up": 0, "down": 0}
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"sim-proxy-{self.port}", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._do(self._stop)
        self._thread.join(10.0)

    # -- commands -------------------------------------------------------------------------------------------------

    def stall(self, direction=None):
        """Read nothing more from the sender, so that its buffers fill."""
        self._do(lambda: self._stalled.update(_directions(direction)))

    def drop(self, direction=None):
        """Read and throw away, as when the other end's machine has gone: nobody is told. Calls are still taken."""
        self._do(lambda: self._dropped.update(_directions(direction)))

    def delay(self, seconds, direction=None):
        """Hand everything on this much later, in order."""
        self._do(lambda: self._delays.update(dict.fromkeys(_directions(direction), seconds)))

    def refuse(self):
        """End every new connection at once."""
        self._do(lambda: setattr(self, "_refusing", True))

    def heal(self):
        """Break nothing more. What was thrown away stays so."""
        self._do(self._heal)

    def cut(self, *, how="rst"):
        """End every connection now, by "rst" or by "fin"; what the proxy holds of it is gone."""
        self._do(lambda: [link.end(how) for link in self._links])

    def cut_after(self, count, direction, *, how="rst"):
        """End the connection that is the first to bring this many further bytes; the last of them is handed on."""
        self._do(lambda: self._cuts.update({direction: (count, how)}))

    def open(self):
        """How many connections there are now."""
        with self._lock:
            return sum(not link.ended for link in self._links)

    def wait_for(self, condition, timeout=20.0):
        """Until this callable is true; it is asked again after everything that happens."""
        with self._lock:
            assert self._lock.wait_for(condition, timeout), "the proxy waits in vain"

    def _do(self, command):
        done = threading.Event()
        with self._lock:
            self._commands.append((command, done))
            self._mouth.send(b"x")  # not later: `_stop` closes it
        assert done.wait(20.0), "the proxy hangs"

    def _heal(self):
        self._stalled, self._dropped, self._delays, self._cuts = set(), set(), {}, {}
        self._refusing = False

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _run(self):
        self._running = True
        while self._running:
            with selectors.PollSelector() as selector:
                selector.register(self._ear, selectors.EVENT_READ)
                selector.register(self._listener, selectors.EVENT_READ)
                for link in self._links:
                    link.register(selector, self._stalled)
                ready = dict((key.fileobj, mask) for key, mask in selector.select(self._next_due()))
            with self._lock:
                self._turn(ready)
                self._lock.notify_all()

    def _next_due(self):
        due = [half.held[0][0] for link in self._links for half in link.halves if half.held]
        now = time.monotonic()
        return min((max(at - now, 0.0) for at in due if at > now), default=None)

    def _turn(self, ready):
        if self._ear in ready:
            with contextlib.suppress(BlockingIOError):
                self._ear.recv(4096)
        while self._commands:
            command, done = self._commands.popleft()
            command()
            done.set()
        if self._running and self._listener in ready:
            with contextlib.suppress(OSError):
                self._accept(self._listener.accept()[0])
        for link in self._links:
            for half in link.halves:
                if not link.ended and half.source in ready and half.name not in self._stalled:
                    self._read(link, half)
            for half in link.halves:
                if not link.ended:
                    self._write(link, half)
        self._links = [link for link in self._links if not link.ended]

    def _accept(self, client):
        self.accepted += 1
        server = socket.socket()
        link = _Link(client, server)
        self._links.append(link)
        if self._refusing:
            link.end("rst")
            return
        try:
            server.connect(self._server)
        except OSError:
            link.end("rst")
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _read(self, link, half):
        if half.over or half.size >= HELD:
            return
        try:
            data = half.source.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            link.end("rst")
            return
        if half.name in self._dropped:
            # An end is not handed on either; but a sender that has gone makes no noise in the loop.
            half.over = half.over or not data
            half.silent = half.over
            return
        half.over = not data
        half.size += len(data)
        half.held.append((time.monotonic() + self._delays.get(half.name, 0.0), data))

    def _write(self, link, half):
        while half.held and half.held[0][0] <= time.monotonic():
            at, data = half.held.popleft()
            if half.name in self._dropped:
                half.size -= len(data)
                half.silent = half.silent or not data
                continue
            left, how = self._cuts.get(half.name, (None, None))
            piece = data if left is None else data[:left]
            try:
                sent = half.target.send(piece) if piece else 0
            except BlockingIOError:
                half.held.appendleft((at, data))
                return
            except OSError:
                link.end("rst")
                return
            self.forwarded[half.name] += sent
            half.size -= sent
            if left is not None:
                if sent == left:
                    del self._cuts[half.name]
                    link.end(how)
                    return
                self._cuts[half.name] = (left - sent, how)
            if sent < len(data):
                half.held.appendleft((at, data[sent:]))
            elif not data:
                with contextlib.suppress(OSError):
                    half.target.shutdown(socket.SHUT_WR)
                half.done = True
        if all(h.done for h in link.halves):
            link.end("fin")

    def _stop(self):
        self._running = False
        for link in self._links:
            link.end("rst")
        self._listener.close()
        self._ear.close()
        self._mouth.close()


class _Half:
    """One direction of a connection."""

    def __init__(self, name, source, target):
        self.name, self.source, self.target = name, source, target
        self.held = collections.deque()  # (when to hand it on, bytes); empty bytes are the sender's end
        self.size = 0
        self.over = False  # the sender will send no more
        self.silent = False  # and the receiver will never know
        self.done = False  # the receiver has been told so


class _Link:
    """One connection."""

    def __init__(self, client, server):
        self._sockets = (client, server)
        self.halves = (_Half("up", client, server), _Half("down", server, client))
        self.ended = False

    def register(self, selector, stalled):
        now = time.monotonic()
        up, down = self.halves
        for sock, reads, writes in ((up.source, up, down), (down.source, down, up)):
            events = 0
            if not reads.over and reads.size < HELD and reads.name not in stalled:
                events |= selectors.EVENT_READ
            if writes.held and writes.held[0][0] <= now:
                events |= selectors.EVENT_WRITE
            if events:
                selector.register(sock, events)

    def end(self, how):
        if not self.ended:
            self.ended = True
            for sock in self._sockets:
                if how == "rst":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()


def _directions(direction):
    assert direction in ("up", "down", None), direction
    return {"up", "down"} if direction is None else {direction}
