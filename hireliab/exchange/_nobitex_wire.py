"""
What happens on the wire: urllib3's connections, watched.

urllib3's connection classes are extended, not replaced: the extension looks at the clock before each write and each
read, so that an answer that drips, in its headers too, ends at the total limit. A call is *not sent* when making
the connection failed, or when we ourselves stopped before the first write.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from hireliab.core import _kill_points
from hireliab.core.clock import Clock


class Watch:
    """What happens on the wire during the current exchange; one thread at a time."""

    def __init__(self, clock: Clock, read_timeout: float) -> None:
        self.clock = clock
        self.read_timeout = read_timeout
        self.begin(deadline=0.0, max_idle=0.0)

    def begin(self, *, deadline: float, max_idle: float, what: str = "") -> None:
        self.deadline = deadline
        self.max_idle = max_idle
        self.places = what.endswith("orders/add")  # for the kill points only, as is the next
        self.cancels = what.endswith("orders/update-status")
        self.connecting = False  # inside connect(), or it failed
        self.connected = False  # a connection was made for this exchange
        self.stopped = False  # we ended it before the first write
        self.sent = False  # a byte may have left
        self.answered = False  # a byte of the answer was read
        self.timed_out = False

    def left(self) -> float:
        """Seconds until the total limit; raises TimeoutError when they are over."""
        left = self.deadline - self.clock.monotonic()
        if left <= 0:
            self.timed_out = True
            raise TimeoutError("the total time limit is over")
        return left

    def before_write(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(min(self.read_timeout, self.left()))
        except TimeoutError:
            self.stopped = not self.sent
            raise
        if _kill_points.ARMED and self.places and not self.sent:
            _kill_points.at("L05")
        if _kill_points.ARMED and self.places and self.sent:
            _kill_points.at("L06")
        self.sent = True

    def before_read(self, sock: socket.socket) -> None:
        sock.settimeout(min(self.read_timeout, self.left()))

    @property
    def not_sent(self) -> bool:
        return not self.sent and (self.connecting or self.stopped)


class _TimedReader(io.RawIOBase):
    """Reads a socket, each time with what is left of the total limit."""

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        self._sock = sock
        self._watch = watch
        # The socket's own reader keeps the count of readers that delays its close.
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._watch.before_read(self._sock)
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            self._watch.timed_out = True
            raise
        self._watch.answered = self._watch.answered or bool(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _TimedSocket:
    """The one method of a socket that http.client's response uses."""

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        self._sock = sock
        self._watch = watch

    def makefile(self, *_mode: Any, **_options: Any) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._watch))


def _response(watch: Watch, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
    timed: Any = _TimedSocket(sock, watch)
    return http.client.HTTPResponse(timed, *args, **kwargs)


class _Watched(HTTPConnection):
    """Mixed in front of urllib3's connection classes, HTTPS and proxies included."""

    def __init__(self, *args: Any, watch: Watch, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch = watch
        self._answered_at = watch.clock.monotonic()
        self._opening = False
        make: Any = functools.partial(_response, watch)
        self.response_class = make

    @property
    def is_connected(self) -> bool:
        # urllib3 asks when it takes an idle connection from its pool, and makes a new one when told False.
        idle = self._watch.clock.monotonic() - self._answered_at
        return idle <= self._watch.max_idle and super().is_connected

    def connect(self) -> None:
        watch = self._watch
        watch.connecting = watch.connected = True
        left = watch.left()
        timeout: Any = self.timeout
        self.timeout = left if not isinstance(timeout, int | float) else min(timeout, left)
        # What a proxy is asked during connect() is no byte of the request.
        self._opening = True
        try:
            super().connect()
        finally:
            self._opening = False
        watch.connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if not self._opening:
            self._watch.before_write(self.sock)
        try:
            super().send(data)
        except TimeoutError:
            self._watch.timed_out = True
            raise

    def getresponse(self) -> Any:
        if _kill_points.ARMED and self._watch.places:
            _kill_points.at("L07")
        if _kill_points.ARMED and self._watch.cancels:
            _kill_points.at("L23")
        response = super().getresponse()
        self._answered_at = self._watch.clock.monotonic()
        return response


@functools.lru_cache(maxsize=16)
def _watched(connection: type[HTTPConnection]) -> type[_Watched]:
    return type(f"Watched{connection.__name__}", (_Watched, connection), {})


def _watched_pool(pool_class: Any, watch: Watch, *args: Any, **kwargs: Any) -> Any:
    pool = pool_class(*args, **kwargs)
    pool.ConnectionCls = functools.partial(_watched(pool.ConnectionCls), watch=watch)
    return pool


class WatchedAdapter(HTTPAdapter):
    """requests' adapter whose connections are watched; it retries nothing."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        super().__init__(pool_connections=4, pool_maxsize=1, max_retries=0, pool_block=False)

    def _watch_pools(self, manager: Any) -> None:
        if not isinstance(next(iter(manager.pool_classes_by_scheme.values())), functools.partial):
            manager.pool_classes_by_scheme = {
                scheme: functools.partial(_watched_pool, pool_class, self._watch)
                for scheme, pool_class in manager.pool_classes_by_scheme.items()
            }

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._watch_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._watch_pools(manager)
        return manager
