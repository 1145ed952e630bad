"""
Sockets: a listener with one thread per connection, and connections that can misbehave on purpose.

A loop of its own instead of `http.server`, because a fault must be able to cut, reset or drip an
answer, because the port must be able to go away and come back, and because it is four times faster.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from hireliab.simulator.clock import Clock, machine_ns
from hireliab.simulator.message import Reply, Request, page

_log = logging.getLogger(__name__)

_MAX_HEAD = 64 * 1024
_MAX_BODY = 2 * 1024 * 1024
_CHUNK = 64 * 1024
_BACKLOG = 256
_RETURN_POLL = 0.05
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# Without it Windows sends what is queued; the two shorts there are two ints elsewhere.
_RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class BadRequestError(Exception):
    """Bytes that are no acceptable HTTP request; carries the reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Connection:
    """
    One accepted connection, used by its own thread; `abort` may come from any.

    Args:
        idle: Seconds without a request after which it is closed.
    """

    def __init__(self, sock: socket.socket, ip: str, clock: Clock, idle: float) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(idle)
        self._sock = sock
        self._ip = ip
        self._clock = clock
        self._buffer = b""
        self._keep_alive = True
        self._is_aborted = False

    def read_request(self) -> Request | None:
        """
        The next request; None when the client is done, idle for too long, or gone.

        Raises:
            BadRequestError: Answer it and close.
        """
        try:
            head = self._read_head()
            return None if head is None else self._read_rest(head)
        except OSError:
            return None

    def send(self, reply: Reply, *, length: int | None = None) -> bool:
        """
        Send a reply in one write.

        Args:
            length: What Content-Length claims; None tells the truth.

        Returns:
            Whether the connection can serve another request.
        """
        return self.send_raw(self.wire(reply, length=length)) and self._keep_alive

    def send_raw(self, data: bytes) -> bool:
        """Send bytes; False when the client is gone."""
        if self._is_aborted:
            return False
        try:
            self._sock.sendall(data)
        except OSError:
            return False
        return True

    def wire(self, reply: Reply, *, length: int | None = None) -> bytes:
        """The bytes of a reply."""
        lines = [
            f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unknown')}",
            f"Date: {formatdate(self._clock.time_ns() // 1_000_000_000, usegmt=True)}",
            "Server: nginx",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {len(reply.body) if length is None else length}",
            f"Connection: {'keep-alive' if self._keep_alive else 'close'}",
            *(f"{name}: {value}" for name, value in reply.headers),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body

    def close(self) -> None:
        """Close in order; called by the connection's own thread."""
        self._sock.close()

    def reset(self) -> None:
        """Close so that the client sees a reset."""
        self._linger_off()
        self._sock.close()

    def abort(self, *, reset: bool) -> None:
        """Make the connection's own thread, which may be waiting for bytes, close it now."""
        self._is_aborted = True
        if reset:
            self._linger_off()
        # Closing only the reading half sends nothing, so that the close itself can be a reset;
        # where that does not wake a reader, both halves go.
        how = socket.SHUT_RD if reset and os.name == "posix" else socket.SHUT_RDWR
        with contextlib.suppress(OSError):  # already closed
            self._sock.shutdown(how)

    def _linger_off(self) -> None:
        with contextlib.suppress(OSError):  # already closed
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def _read_head(self) -> bytes | None:
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end >= 0:
                head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
                return head
            if len(self._buffer) > _MAX_HEAD:
                raise BadRequestError(page(431, "Request Header Fields Too Large"))
            if not self._receive():
                return None

    def _read_rest(self, head: bytes) -> Request | None:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequestError(page(400, "Bad Request"))
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise BadRequestError(page(400, "Bad Request"))
            headers[name.strip().lower()] = value.strip()
        body = self._read_body(headers)
        if body is None:
            return None
        asked = headers.get("connection", "").lower()
        self._keep_alive = asked == "keep-alive" if words[2] == "HTTP/1.0" else asked != "close"
        return Request(words[0], words[1], headers, body, self._ip, machine_ns())

    def _read_body(self, headers: dict[str, str]) -> bytes | None:
        if "transfer-encoding" in headers:
            raise BadRequestError(page(411, "Length Required"))
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise BadRequestError(page(400, "Bad Request"))
        if len(length) > len(str(_MAX_BODY)) or int(length) > _MAX_BODY:
            raise BadRequestError(page(413, "Request Entity Too Large"))
        if headers.get("expect", "").lower() == "100-continue":
            self.send_raw(b"HTTP/1.1 100 Continue\r\n\r\n")
        wanted = int(length)
        while len(self._buffer) < wanted:
            if not self._receive():
                return None
        body, self._buffer = self._buffer[:wanted], self._buffer[wanted:]
        return body

    def _receive(self) -> bool:
        data = self._sock.recv(_CHUNK)
        self._buffer += data
        return bool(data)


class Listener:
    """
    Accepts connections on one port and serves each on a thread of its own.

    Args:
        name: Part of its threads' names.
        serve: Called for each request; returns whether the connection goes on.
        clock: For the Date header.
        idle: Seconds after which an idle connection is closed.

    Thread safety: Any thread.
    """

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        serve: Callable[[Connection, Request], bool],
        clock: Clock,
        idle: float,
    ) -> None:
        self._name = f"hireliab.simulator.{name}"
        self._serve = serve
        self._clock = clock
        self._idle = idle
        self._address = address
        self._changed = threading.Condition()  # guards all below
        self._connections: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._socket: socket.socket | None = None
        self._is_wanted = False
        self._is_stopping = False
        self._returns_at: float | None = None
        self._accepted = 0
        self._acceptor: threading.Thread | None = None
        self._waker: socket.socket | None = None
        self._wakee: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port, chosen by the system if 0 was asked for; known after `start`."""
        return self._address[1]

    @property
    def is_listening(self) -> bool:
        """Whether clients can connect."""
        with self._changed:
            return self._socket is not None

    def start(self) -> None:
        """Bind and accept; OSError when the port is taken."""
        self._socket = self._bind()
        self._address = (self._address[0], self._socket.getsockname()[1])
        self._waker, self._wakee = socket.socketpair()
        self._waker.setblocking(False)
        self._wakee.setblocking(False)
        self._is_wanted = True
        self._acceptor = threading.Thread(target=self._accept_all, name=f"{self._name}-accept", daemon=True)
        self._acceptor.start()

    def cut_off(self, seconds: float | None = None) -> None:
        """Refuse connections and reset those that exist, for some seconds or until `reconnect`."""
        self._want(listening=False, returns_at=None if seconds is None else self._clock.monotonic() + seconds)
        self._abort_all(reset=True)

    def reconnect(self) -> None:
        """Accept again, on the same port."""
        self._want(listening=True)

    def begin_stop(self) -> None:
        """Accept no more, and let every connection end."""
        with self._changed:
            self._is_stopping = True
            self._wake_locked()
        self._abort_all(reset=False)

    def join(self, timeout: float) -> list[str]:
        """
        Wait for all threads, with one deadline; call `begin_stop` first.

        Returns:
            Names of threads that are still alive.
        """
        end = machine_ns() + round(timeout * 1e9)
        # The acceptor first: afterwards no thread can be added.
        threads = [self._acceptor] if self._acceptor is not None else []
        for thread in threads:
            thread.join(timeout)
        with self._changed:
            threads += self._threads
        for thread in threads:
            thread.join(max(0.0, (end - machine_ns()) / 1e9))
        with self._changed:
            for end_of_pair in (self._waker, self._wakee):
                if end_of_pair is not None:
                    end_of_pair.close()
            self._waker = self._wakee = None
        return [thread.name for thread in threads if thread.is_alive()]

    def _bind(self) -> socket.socket:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # Elsewhere the option would let others take the port.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(self._address)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise OSError(error.errno, error.strerror, f"{self._address[0]}:{self._address[1]}") from error
        return listening

    def _want(self, *, listening: bool, returns_at: float | None = None) -> None:
        with self._changed:
            self._is_wanted = listening
            self._returns_at = returns_at
            self._wake_locked()
            self._changed.wait_for(lambda: self._is_stopping or (self._socket is not None) == self._is_wanted, 5)

    def _wake_locked(self) -> None:
        if self._waker is not None:
            with contextlib.suppress(OSError):  # a wake-up is pending already
                self._waker.send(b"x")

    def _abort_all(self, *, reset: bool) -> None:
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            connection.abort(reset=reset)

    def _accept_all(self) -> None:
        """The accept thread; the only one that opens and closes the listening socket."""
        assert self._wakee is not None, "bug: accepting before start"
        assert self._socket is not None, "bug: accepting before start"
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakee, selectors.EVENT_READ)
            selector.register(self._socket, selectors.EVENT_READ)
            while True:
                # The moment of return is on the exchange's clock, which can be stepped.
                ready = selector.select(None if self._returns_at is None else _RETURN_POLL)
                if not self._follow_wishes(selector):
                    return
                for key, _ in ready:
                    if key.fileobj is self._wakee:
                        self._wakee.recv(_CHUNK)
                    else:
                        self._accept()

    def _follow_wishes(self, selector: selectors.BaseSelector) -> bool:
        """Open or close the port as asked; False to end."""
        with self._changed:
            if self._returns_at is not None and self._clock.monotonic() >= self._returns_at:
                self._is_wanted, self._returns_at = True, None
            wanted = self._is_wanted and not self._is_stopping
            if not wanted and self._socket is not None:
                selector.unregister(self._socket)
                self._socket.close()
                self._socket = None
            elif wanted and self._socket is None:
                try:
                    self._socket = self._bind()
                except OSError:
                    self._returns_at = self._clock.monotonic()  # somebody has the port: try again soon
                else:
                    selector.register(self._socket, selectors.EVENT_READ)
            self._changed.notify_all()
            return not self._is_stopping

    def _accept(self) -> None:
        listening = self._socket
        if listening is None:
            return
        try:
            sock, address = listening.accept()
        except OSError:
            return  # the client has gone already
        try:
            connection = Connection(sock, address[0], self._clock, self._idle)
        except OSError:
            sock.close()  # reset before it was accepted
            return
        with self._changed:
            self._accepted += 1
            name = f"{self._name}-connection-{self._accepted}"
            thread = threading.Thread(target=self._serve_all, args=(connection,), name=name, daemon=True)
            self._connections.add(connection)
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _serve_all(self, connection: Connection) -> None:
        """The thread of one connection."""
        try:
            while not self._is_stopping and self._is_wanted:
                try:
                    request = connection.read_request()
                except BadRequestError as error:
                    connection.send(error.reply)
                    return
                if request is None or not self._serve(connection, request):
                    return
        except Exception:  # one bad request must not end the exchange silently
            _log.exception("%s: a request failed", self._name)
        finally:
            connection.close()
            with self._changed:
                self._connections.discard(connection)
