"""
What happens on the wire: urllib3's connections, watched.

urllib3's connection and pool classes are extended, not replaced. The extension looks at the clock before each write
and each read, so that an answer that drips, in its headers too, ends at the total limit; it knows whether a byte may
have left; it writes the head of a request together with its body; and it closes a connection that was silent for too
long instead of using it again.

The watch belongs to the call, not to the connection: `current.watch` is that of the call which this thread makes.
"""

from __future__ import annotations

import collections
import functools
import http.client
import io
import queue
import select
import socket
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

STOCK = issubclass(HTTPConnection, http.client.HTTPConnection) and not hasattr(urllib3, "AsyncPoolManager")
"""Whether this urllib3 stands on http.client. urllib3.future, which niquests puts in its place, does not: nothing of it
is extended, and the classes of its exceptions have to do."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing. PUT and DELETE may be repeated by RFC 9110, but an exchange's cancel that answers
"no such order" the second time confuses a bot."""

_NEVER = -1.0  # seconds of silence after which a connection is not used again
_JOIN = 65536  # bytes of head and body that go out as one write
_OVERHEAD = 65536  # bytes of chunk marks and trailers that the limit on the wire allows on top of the body
_HEAD = 1024 * 1024  # bytes of a head and of the interim answers before it, which http.client reads without end


class TooLongError(Exception):
    """The answer is longer than its limit; no OSError, which urllib3 would make something else of."""


class Watch:
    """
    One call: what it may take, and what happened to it on the wire. One thread at a time.

    A subclass may override `write`, `before_answer` and `begin` to mark places; each is called in the calling thread.

    Attributes:
        deadline: Reading of the clock at which the call ends; None without a limit.
        max_idle: Seconds of silence after which a connection is not used again; below 0: a new one only.
        retry_safe: Whether the call may be sent twice; None: by its method.
        limit: Bytes of an answer that is collected in memory; None without a limit.
        read_timeout: Seconds without a byte, for one write or read; None without a limit.
        earlier: A byte had left before: of an earlier sending, or of the call that encloses this one.
        seen: One of our connections served the call: what follows is true, not only unknown.
        connecting: Inside connect(), or it failed.
        connected: A connection was made for this exchange.
        stopped: We ended it before the first write.
        sent: A byte may have left.
        answered: A byte of the answer was read.
        ended: The server closed the connection.
        timed_out: A time limit ended it.
        too_long: The limit ended it.
        received: Bytes of the answer so far, headers included.
        wire_limit: The most of them at this place; None without a limit.
        in_head: The head of the answer was not read to its end.
        hop: The prepared request of the redirect's next hop, which has the limits of this call.
        claimed: A `Session.send` goes by it already; the next one inside it is a further hop.
    """

    __slots__ = (
        "answered", "claimed", "connected", "connecting", "deadline", "earlier", "ended", "hop", "in_head", "limit", "max_idle",
        "monotonic", "read_timeout", "received", "retry_safe", "seen", "sent", "stopped", "stream", "timed_out", "too_long",
        "wire_limit",
    )  # fmt: skip

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        deadline: float | None = None,
        max_idle: float = 30.0,
        retry_safe: bool | None = None,
        limit: int | None = None,
        earlier: bool = False,
    ) -> None:
        self.monotonic = monotonic
        self.deadline = deadline
        self.max_idle = max_idle
        self.retry_safe = retry_safe
        self.limit = limit
        self.earlier = earlier
        self.claimed = self.sent = False
        self.hop: Any = None
        self.begin(None, stream=False)

    def begin(self, read_timeout: float | None, *, stream: bool) -> None:
        """Forget what was seen: an exchange begins; not that an earlier one of the call was sent."""
        self.earlier = self.earlier or self.sent
        self.read_timeout = read_timeout
        self.in_head, self.stream = True, stream
        self.wire_limit: int | None = _HEAD
        self.received = 0
        self.seen = self.connecting = self.connected = self.stopped = False
        self.sent = self.answered = self.ended = self.timed_out = self.too_long = False

    def left(self) -> float:
        """Seconds until the deadline, which must be set; raises TimeoutError when they are over."""
        assert self.deadline is not None, "bug: no deadline is set"
        left = self.deadline - self.monotonic()
        if left <= 0:
            self.timed_out = True
            raise TimeoutError("the total time limit is over")
        return left

    def look(self) -> None:
        """Look at the clock; raises TimeoutError when the total time is over."""
        if self.deadline is not None:
            self.left()

    def patience(self) -> float | None:
        """The socket's timeout for the next write or read; raises TimeoutError when the time is over."""
        if self.deadline is None:
            return self.read_timeout
        left = self.left()
        return left if self.read_timeout is None else min(left, self.read_timeout)

    def before_write(self, sock: socket.socket) -> None:
        """Look at the clock; a byte may have left from here on."""
        try:
            set_timeout(sock, self.patience())
        except TimeoutError:
            self.stopped = not self.sent
            raise
        self.sent = True

    def write(self, sock: socket.socket, data: bytes) -> None:
        """Send `data`, whole."""
        if len(data) > _JOIN:
            # A TLS socket begins its patience anew with each record: a slow reader must not outlast the deadline.
            rest = memoryview(data)
            for start in range(0, len(data), _JOIN):
                self._write(sock, rest[start : start + _JOIN])
        else:
            self._write(sock, data)

    def _write(self, sock: socket.socket, data: bytes | memoryview) -> None:
        self.before_write(sock)
        try:
            sock.sendall(data)
        except TimeoutError:
            self.timed_out = True
            raise

    def before_answer(self) -> None:
        """The request is written; the next thing is to read."""

    def check_head(self) -> None:
        """Refuse a head in whose middle the connection ended, which http.client takes for whole; what follows is body."""
        if self.ended:
            raise http.client.RemoteDisconnected("Remote end closed connection within the head of the answer")
        self.in_head = False
        self.wire_limit = None if self.stream or self.limit is None else self.received + self.limit + _OVERHEAD

    def took(self, count: int) -> None:
        """`count` bytes were read."""
        self.answered = True
        self.received += count
        if self.wire_limit is not None and self.received > self.wire_limit:
            self.too_long = True
            raise TooLongError

    @property
    def stale(self) -> bool:
        """A reused connection died before any byte of the answer."""
        return self.seen and self.sent and not self.connected and not self.answered and not self.timed_out

    def may_resend(self, method: str, body: object) -> bool:
        """
        Whether the request may go out a second time. From then on only a new connection is taken, on which a call
        is never stale: True at most once.

        Source: shouldRetryRequest of Go's net/http.
        """
        safe = method in SAFE if self.retry_safe is None else self.retry_safe
        if not safe or not self.stale or not (body is None or isinstance(body, str | bytes)):
            return False
        self.max_idle = -1.0
        return True


class _Current(threading.local):
    watch: Watch | None = None


current = _Current()


def enclosing() -> Watch | None:
    """
    The watch of the call around this one, if there is one.

    Ctrl-C may keep a call from taking its watch away. Its limits must not become those of all later calls, so a
    watch counts only while a function of ours further out has it.
    """
    watch = current.watch
    if watch is not None:
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_globals.get("__package__") == __package__ and frame.f_locals.get("watch") is watch:
                return watch
            frame = frame.f_back
        current.watch = None
    return None


def set_timeout(sock: Any, seconds: float | None) -> None:
    """Do what ``sock.settimeout`` does, which is a system call each time, where it changes something."""
    asked = getattr(sock, "gettimeout", None)  # what stands for a socket may not have it, such as pyOpenSSL's
    if asked is None or asked() != seconds:
        sock.settimeout(seconds)


class TimedReader(io.RawIOBase):
    """Reads a socket, each time with what is left of the time; http.client takes it for the socket."""

    surplus = False  # the server said more than its answer
    finished = False

    def __init__(
        self, sock: socket.socket, watch: Watch, raw: Any = None, connection: weakref.ref[Watched] | None = None
    ) -> None:
        self._sock = sock
        self._connection = connection  # weak: it holds the answer, and the answer holds this
        self._watch = watch
        self._raw = raw  # the socket's own reader, where its count of readers has to delay the socket's close
        self._read: Callable[[Any], int] = sock.recv_into if raw is None else raw.readinto

    def makefile(self, *_mode: Any, **_options: Any) -> io.BufferedReader:
        return _Buffered(self, 16384)

    def readable(self) -> bool:
        return True

    def flush(self) -> None:
        """Nothing: an answer that is dropped unread asks for it when this is closed, and complains of an error (3.13)."""

    def end(self, surplus: bool) -> None:
        """The answer was read, or is not read on; what lies in a buffer would be lost, or come too late."""
        pending: Any = getattr(self._sock, "pending", None)  # of TLS
        if surplus or (pending is not None and pending()):
            self.surplus = True
            connection = None if self._connection is None else self._connection()
            if connection is not None:
                connection.keep = _NEVER

    def readinto(self, buffer: Any) -> int | None:  # type: ignore[override, unused-ignore]
        if self.finished:
            return None
        watch = self._watch
        if watch.deadline is not None:
            set_timeout(self._sock, watch.patience())
        try:
            count = self._read(buffer)
        except TimeoutError:
            watch.timed_out = True
            raise
        if count:
            watch.took(count)
        else:
            watch.ended = True
        return count

    def close(self) -> None:
        if not self.closed and self._raw is not None:
            self._raw.close()
        super().close()


class _Buffered(io.BufferedReader):
    """What http.client reads an answer from, and closes when it has it."""

    raw: TimedReader

    def close(self) -> None:
        raw = self.raw
        if not raw.closed and not raw.finished:
            raw.finished = True  # looking is not to read
            raw.end(bool(self.peek(1)))
        super().close()


class _Through(NamedTuple):
    """The two methods of a socket that a watch uses; it writes through http.client, which others may have wrapped."""

    settimeout: Callable[[float | None], None]
    sendall: Callable[[Any], None]


class Watched(HTTPConnection):
    """Mixed in front of urllib3's connection classes, those for HTTPS and proxies included."""

    watch: Watch | None = None
    idle_since = 0.0
    keep = float("inf")  # seconds of silence that the server said it allows, less one
    _opening = False
    _held: list[bytes] | None = None
    _asked: Any = None  # the socket that _poll looks at

    def _take_watch(self) -> Watch:
        watch = current.watch
        if watch is None:  # urllib3 used directly, on a pool of a session
            watch = self.watch or Watch(_NO_CLOCK)
        watch.seen = True
        self.watch = watch
        return watch

    def rested(self, watch: Watch) -> bool:
        """Whether it was silent for so long that the server may have closed it."""
        idle = watch.monotonic() - self.idle_since
        return idle > watch.max_idle or idle > self.keep

    @property
    def is_connected(self) -> bool:
        # urllib3 asks when it takes an idle connection from its pool, and makes a new one when told False.
        return not self.rested(self._take_watch()) and super().is_connected

    def spoke(self) -> bool:
        """Whether the server closed it, or said something that nobody asked for."""
        sock = self.sock
        if sock is None:
            return True
        if self._asked is not sock:
            if not hasattr(select, "poll"):  # Windows
                return not super().is_connected
            poll = select.poll()
            try:
                poll.register(sock, select.POLLIN)
            except (OSError, ValueError):
                return True
            self._asked, self._poll = sock, poll.poll
        return bool(self._poll(0))

    def connect(self) -> None:
        watch = self._take_watch()
        watch.connecting = watch.connected = True
        if watch.deadline is not None:
            left = watch.left()
            timeout: Any = self.timeout
            self.timeout = min(timeout, left) if isinstance(timeout, int | float) else left
        self.keep = float("inf")
        self._opening = True
        try:
            super().connect()
        finally:
            self._opening = False
        # What a proxy was asked and answered is no byte of the request.
        watch.connecting = watch.answered = False
        watch.received = 0

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._take_watch()
        self._held = []
        try:
            super().request(*args, **kwargs)
            self._let_go()
        finally:
            self._held = None

    def send(self, data: Any) -> None:
        if self._opening:
            super().send(data)
            return
        held = self._held
        if held is not None and type(data) is bytes and sum(map(len, held)) + len(data) <= _JOIN:
            held.append(data)
            return
        self._let_go()
        if self.sock is None:
            self.connect()
        watch = self.watch or self._take_watch()
        if isinstance(data, bytes):
            through: Any = _Through(self.sock.settimeout, super().send)
            watch.write(through, data)
        else:
            watch.before_write(self.sock)
            super().send(data)

    def _let_go(self) -> None:
        """Write what was held back."""
        held, self._held = self._held, None
        if held:
            self.send(b"".join(held))

    def response_class(self, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        watch = self.watch or self._take_watch()
        reader: Any = TimedReader(sock, watch, sock.makefile("rb", buffering=0), weakref.ref(self))
        return http.client.HTTPResponse(reader, *args, **kwargs)

    def getresponse(self) -> Any:
        watch = self.watch or self._take_watch()
        watch.before_answer()
        response = super().getresponse()
        try:
            watch.check_head()
        except http.client.RemoteDisconnected:
            response.close()
            raise
        self.idle_since = watch.monotonic()
        # After a 1xx the answer proper is still to come, and would be taken for that of the next request.
        self.keep = keep_alive(response.headers.get("keep-alive")) if response.status >= 200 else _NEVER
        return response


def _no_clock() -> float:
    return 0.0


_NO_CLOCK = _no_clock


@functools.lru_cache(maxsize=64)
def keep_alive(hint: str | None) -> float:
    """Seconds for which an idle connection may be used again, from a Keep-Alive header."""
    for part in (hint or "").split(","):
        name, _, value = part.partition("=")
        if name.strip().lower() == "timeout" and value.strip().isdecimal():
            # float, which a server may give any number of digits: int() refuses more than 4300 of them.
            return max(0.0, float(value) - 1.0)  # the server's second may begin before ours
    return float("inf")


class Stack:
    """
    The idle connections of one pool, the last one used on top: what urllib3 asks of a queue, without its locks.

    A deque's append and pop are atomic. Two threads that return a connection at the same time may leave one more than
    `maxsize`.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.idle: collections.deque[Any] = collections.deque()

    def get(self, block: bool = False, timeout: float | None = None) -> Any:  # noqa: ARG002 -- as queue.LifoQueue
        """The connection used last; raises queue.Empty, upon which urllib3 makes one."""
        try:
            return self.idle.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, item: Any, block: bool = False, timeout: float | None = None) -> None:  # noqa: ARG002
        """Keep a connection; urllib3's None, a place for one, is not kept."""
        if item is None:
            return
        if len(self.idle) >= self.maxsize:
            raise queue.Full
        self.idle.append(item)

    def qsize(self) -> int:
        """How many are idle."""
        return len(self.idle)


_STOCK_CLASSES = {pool: pool.ConnectionCls for pool in (HTTPConnectionPool, HTTPSConnectionPool)}


@functools.lru_cache(maxsize=16)
def _watched(connection: type[Any]) -> type[Any]:
    return type(f"Watched{connection.__name__}", (Watched, connection), {"__module__": __name__})


def connections_untouched() -> bool:
    """Whether urllib3's pools have the connection classes that they came with; vcrpy exchanges them."""
    return (
        HTTPConnectionPool.ConnectionCls is _STOCK_CLASSES[HTTPConnectionPool]
        and HTTPSConnectionPool.ConnectionCls is _STOCK_CLASSES[HTTPSConnectionPool]
    )


@functools.lru_cache(maxsize=16)
def watched_pool(pool: type[Any]) -> type[Any]:
    """urllib3's pool class with watched connections."""

    def connection_class(_pool: Any) -> Any:
        # Looked up each time: a class that somebody has put there meanwhile is used as it is.
        now = pool.ConnectionCls
        return _watched(now) if connections_untouched() and issubclass(now, HTTPConnection) else now

    return type(
        f"Watched{pool.__name__}",
        (pool,),
        {"__module__": __name__, "QueueCls": Stack, "ConnectionCls": property(connection_class)},
    )
