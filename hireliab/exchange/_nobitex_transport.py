"""
Nobitex's requests on hireliab's `Session`: what each may take, which may be sent twice, and what its failure means.

The session knows what happened on the wire and sends nothing twice here: a second sending needs a new signature.
"""

from __future__ import annotations

import email.utils
import functools
import http.cookiejar
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.utils import get_environ_proxies

from hireliab.core import _kill_points
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.core.deadline import bounded, check
from hireliab.errors import (
    ConfigError,
    ConnectError,
    HireliabError,
    MalformedResponseError,
    ResponseLostError,
    ResponseTimeoutError,
)
from hireliab.exchange._http_errors import HTTPTooLongError, words
from hireliab.exchange._http_wire import Watch
from hireliab.exchange.http_session import Session

ORDER_MAX_IDLE = 5.0
"""A connection that was silent for longer may be closed at the other end: the commonest false "unknown"."""

READ_MAX_IDLE = 30.0

_NEW = -1.0  # of what is sent again: on a new connection

_HEADERS = {"User-Agent": "TraderBot/hireliab", "Accept": "application/json", "Accept-Encoding": "gzip, deflate"}

# What requests makes of a URL, an environment proxy or a missing SOCKS package, before it looks for a connection.
_LOCAL = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)


@dataclass(slots=True, kw_only=True)
class Request:
    """
    A request, signed.

    Attributes:
        url: As `address` gives it, with the query.
        path: What of it goes on the wire, byte for byte.
        headers: Besides those of every request.
    """

    method: str
    url: str
    path: str
    headers: dict[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    An answer, read to its end.

    Attributes:
        headers: Looked up without regard to case.
        sent: Wall clock before the request.
        received: Wall clock when the last byte was read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent: float
    received: float

    @property
    def skew(self) -> float | None:
        """Seconds that the server's clock is ahead of ours, to about a second; None without a Date header."""
        date = _seconds(self.headers.get("Date", ""))
        # The header is cut to whole seconds, and was written somewhere between our two looks at the clock.
        return None if date is None else date + 0.5 - (self.sent + self.received) / 2


@functools.lru_cache(maxsize=64)
def _seconds(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


@functools.lru_cache(maxsize=2048)
def address(url: str) -> tuple[str, str]:
    """
    A URL without a query as requests encodes it, and the part of it that goes on the wire as the path.

    What `urllib.parse.urlencode` makes may follow either after a "?": requests leaves that as it is.

    Raises:
        ValueError: requests refuses it.
    """
    prepared = requests.PreparedRequest()
    prepared.prepare_url(url, None)
    return str(prepared.url), prepared.path_url


class _Watch(Watch):
    """A watch that marks the crash campaign's labels, in what places or cancels."""

    __slots__ = ("cancels", "places")

    def __init__(self, what: str, monotonic: Callable[[], float], **limits: Any) -> None:
        super().__init__(monotonic, **limits)
        self.places = what.endswith("orders/add")
        self.cancels = what.endswith("orders/update-status")

    def write(self, sock: socket.socket, data: bytes) -> None:
        if _kill_points.ARMED and self.places:
            # Otherwise one write, it gets a middle at which to die.
            head, end, body = data.partition(b"\r\n\r\n")
            super().write(sock, head + end)
            data = body
        super().write(sock, data)

    def before_write(self, sock: socket.socket) -> None:
        begun = self.sent
        super().before_write(sock)
        if _kill_points.ARMED and self.places and not begun:
            _kill_points.at("L05")
        if _kill_points.ARMED and self.places and begun:
            _kill_points.at("L06")

    def before_answer(self) -> None:
        if _kill_points.ARMED and self.places:
            _kill_points.at("L07")
        if _kill_points.ARMED and self.cancels:
            _kill_points.at("L23")

    def took(self, count: int) -> None:
        first = self.sent and not self.answered  # not what a proxy says before
        super().took(count)
        if _kill_points.ARMED and self.places and first:
            _kill_points.at("L08")


class _Session(Session):
    """A session that follows no redirect: it would send an order, or its credentials, somewhere else."""

    def get_redirect_target(self, resp: Any) -> None:  # noqa: ARG002 -- requests' signature
        return None


class Transport:
    """
    Sends requests over kept-alive connections. One thread at a time.

    DNS look-ups cannot be interrupted, and each address of a host gets `connect_timeout`; when that has used up
    the total limit, nothing is sent.

    Args:
        connect_timeout: Seconds to make a connection, TLS included.
        read_timeout: Seconds without a byte.
        total_timeout: Seconds for everything, from the connection to the last byte.
        max_bytes: The longest body that is read.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        read_timeout: float,
        total_timeout: float,
        max_bytes: int,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._timeouts = (connect_timeout, read_timeout)
        self._total_timeout = total_timeout
        self._max_bytes = max_bytes
        self._clock = clock
        # No netrc: its logins are for other programs. CA bundle and proxies are read here, once.
        self._session = _Session(trust_env=False, clock=clock)
        self._session.headers.clear()
        self._session.headers.update(_HEADERS)
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.verify = _ca_bundle()
        self._proxies: dict[str, dict[str, str]] = {}

    def close(self) -> None:
        """Close idle connections; a later request opens new ones."""
        self._session.close()

    def request(self, make: Callable[[], Request], *, what: str, read: bool) -> Answer:
        """
        Send one request and read its answer.

        A read is sent once more, on a new connection, when a reused connection died before any byte of the answer.
        Whatever may change something is sent once, on a new connection or one that answered within 5 s.

        Args:
            make: Makes the request; called again, for a new signature, before a second sending.
            what: The endpoint, for errors.
            read: Whether the request changes nothing.

        Raises:
            DeadlineExceededError: The `core.deadline` around the call had passed; nothing was sent.
            ConnectError: No byte left.
            OutcomeUnknownError: ResponseTimeoutError, ResponseLostError or MalformedResponseError (body too long,
                or encoded in an undecodable way).
        """
        check(what)
        budget = bounded(self._total_timeout)
        assert budget is not None, "bug: the total time always has a limit"
        deadline = self._clock.monotonic() + budget
        watch = self._watch(what, deadline, READ_MAX_IDLE if read else ORDER_MAX_IDLE)
        try:
            return self._exchange(make(), watch, what)
        except ResponseLostError:
            if not read or not watch.stale:
                raise
        return self._exchange(make(), self._watch(what, deadline, _NEW), what)

    def _watch(self, what: str, deadline: float, max_idle: float) -> _Watch:
        return _Watch(
            what,
            self._clock.monotonic,
            deadline=deadline,
            max_idle=max_idle,
            retry_safe=False,
            limit=self._max_bytes,
        )

    def _exchange(self, request: Request, watch: _Watch, what: str) -> Answer:
        origin = "/".join(request.url.split("/", 3)[:3])
        if origin not in self._proxies:
            self._proxies[origin] = get_environ_proxies(origin)
        sent = self._clock.time()
        try:
            response = self._session.request(
                request.method,
                request.url,
                data=request.body,
                headers=request.headers,
                timeout=self._timeouts,
                allow_redirects=False,
                proxies=self._proxies[origin],
                watch=watch,
            )
            body = response.content
        except Exception as error:
            raise _error(what, error, watch) from error
        if _kill_points.ARMED and watch.places:
            _kill_points.at("L09")
        return Answer(
            status=response.status_code,
            headers=response.headers,
            body=body,
            sent=sent,
            received=self._clock.time(),
        )


def _error(what: str, error: Exception, watch: Watch) -> HireliabError:
    """The session's error as one about an endpoint of Nobitex; whatever is not known to be something else is unknown."""
    if isinstance(error, ConnectError) or (isinstance(error, _LOCAL) and not watch.sent):
        return ConnectError(f"{what}: no connection, nothing was sent ({words(error)}); it may be tried again")
    if isinstance(error, ResponseTimeoutError):
        return ResponseTimeoutError(f"{what}: no complete answer in time; what happened is unknown")
    if isinstance(error, MalformedResponseError):
        wrong = f"is longer than {watch.limit} bytes" if isinstance(error, HTTPTooLongError) else "cannot be read"
        return MalformedResponseError(f"{what}: the answer {wrong}; what happened is unknown")
    return ResponseLostError(f"{what}: the connection broke ({words(error)}); what happened is unknown")


def _ca_bundle() -> str | bool:
    """The certificate authorities that the environment names, or True for requests' own."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        path = os.environ.get(name)
        if path and not os.path.exists(path):  # noqa: PTH110 -- requests looks at it in the same way
            raise ConfigError(f"{name}: names {path!r:.200}, which does not exist; correct or unset it", setting=name)
        if path:
            return path
    return True
