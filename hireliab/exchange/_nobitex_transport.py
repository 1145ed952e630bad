"""
One HTTP exchange on `requests`, with a total time limit and the knowledge of whether a byte may have left.

Only what `_nobitex_wire` sees decides between "not sent" and "unknown"; the names of exceptions decide nothing.
"""

from __future__ import annotations

import email.utils
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
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
from hireliab.exchange._nobitex_wire import Watch, WatchedAdapter

ORDER_MAX_IDLE = 5.0
"""A connection that was silent for longer may be closed at the other end: the commonest false "unknown"."""

READ_MAX_IDLE = 30.0

# What requests makes of a URL, an environment proxy or a missing SOCKS package, before it looks for a connection.
_LOCAL = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)


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
        try:
            date = email.utils.parsedate_to_datetime(self.headers.get("Date", ""))
        except (TypeError, ValueError, IndexError):
            return None
        # The header is cut to whole seconds, and was written somewhere between our two looks at the clock.
        return date.timestamp() + 0.5 - (self.sent + self.received) / 2


class _Session(requests.Session):
    """A session that follows no redirect: it would send an order, or its credentials, somewhere else."""

    def get_redirect_target(self, resp: Any) -> None:  # noqa: ARG002 -- requests' signature
        return None


class Transport:
    """
    Sends prepared requests over kept-alive connections. One thread at a time.

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
        self._connect_timeout = connect_timeout
        self._total_timeout = total_timeout
        self._max_bytes = max_bytes
        self._clock = clock
        self._watch = Watch(clock, read_timeout)
        # The environment is read once; requests would search it in every call.
        self._verify = _ca_bundle()
        self._proxies: dict[str, dict[str, str]] = {}
        self._left_behind: list[requests.Session] = []
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._session = _Session()
        self._session.trust_env = False
        adapter = WatchedAdapter(self._watch)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def close(self) -> None:
        """Close idle connections; a later request opens new ones."""
        self._session.close()

    def request(self, prepare: Callable[[], requests.PreparedRequest], *, what: str, read: bool) -> Answer:
        """
        Send one request and read its answer.

        A read is sent once more, on a new connection, when a reused connection died before any byte of the answer.
        Whatever may change something is sent once, on a new connection or one that answered within 5 s.

        Args:
            prepare: Makes the request; called again, for a new signature, before a second sending.
            what: The endpoint, for errors.
            read: Whether the request changes nothing.

        Raises:
            DeadlineExceededError: The `core.deadline` around the call had passed; nothing was sent.
            ConnectError: No byte left.
            OutcomeUnknownError: ResponseTimeoutError, ResponseLostError or MalformedResponseError (body too long,
                or encoded in an undecodable way).
        """
        if self._pid != os.getpid():
            # A forked child: the parent's sockets are not ours to use, nor to close.
            self._left_behind.append(self._session)
            self._open()
        check(what)
        budget = bounded(self._total_timeout)
        assert budget is not None, "bug: the total time always has a limit"
        deadline = self._clock.monotonic() + budget
        try:
            return self._exchange(
                prepare(), what=what, deadline=deadline, max_idle=READ_MAX_IDLE if read else ORDER_MAX_IDLE
            )
        except ResponseLostError:
            watch = self._watch
            if not read or watch.connected or watch.answered:
                raise
        # urllib3 has closed the connection that died, and one thread has no second one: this one will be new.
        return self._exchange(prepare(), what=what, deadline=deadline, max_idle=READ_MAX_IDLE)

    def _exchange(
        self, prepared: requests.PreparedRequest, *, what: str, deadline: float, max_idle: float
    ) -> Answer:
        origin = "/".join((prepared.url or "").split("/", 3)[:3])
        if origin not in self._proxies:
            self._proxies[origin] = get_environ_proxies(origin)
        watch = self._watch
        watch.begin(deadline=deadline, max_idle=max_idle, what=what)
        sent = self._clock.time()
        response = None
        try:
            response = self._session.send(
                prepared,
                stream=True,
                timeout=(self._connect_timeout, watch.read_timeout),
                verify=self._verify,
                proxies=self._proxies[origin],
                allow_redirects=False,
            )
            if _kill_points.ARMED and watch.places:
                _kill_points.at("L08")
            body = self._read(response, what)
            if _kill_points.ARMED and watch.places:
                _kill_points.at("L09")
        except HireliabError:
            self._drop(response)
            raise
        except Exception as error:
            self._drop(response)
            raise self._error(what, error) from error
        except BaseException:
            self._drop(response)  # half an answer must not be what the next request reads
            raise
        return Answer(
            status=response.status_code,
            headers=response.headers,
            body=body,
            sent=sent,
            received=self._clock.time(),
        )

    def _read(self, response: requests.Response, what: str) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while chunk := response.raw.read(65536, decode_content=True):
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                raise MalformedResponseError(
                    f"{what}: the answer is longer than {self._max_bytes} bytes; what happened is unknown",
                    http_status=response.status_code,
                )
        return b"".join(chunks)

    @staticmethod
    def _drop(response: requests.Response | None) -> None:
        if response is not None:
            response.close()

    def _error(self, what: str, error: Exception) -> HireliabError:
        watch = self._watch
        cause = _words(error)
        if watch.not_sent or (isinstance(error, _LOCAL) and not watch.sent):
            return ConnectError(f"{what}: no connection, nothing was sent ({cause}); it may be tried again")
        if watch.timed_out:
            return ResponseTimeoutError(f"{what}: no complete answer in time; what happened is unknown")
        if isinstance(error, urllib3.exceptions.DecodeError):
            return MalformedResponseError(f"{what}: the answer cannot be decoded; what happened is unknown")
        return ResponseLostError(f"{what}: the connection broke ({cause}); what happened is unknown")


def _ca_bundle() -> str | bool:
    """The certificate authorities that the environment names, or True for requests' own."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        path = os.environ.get(name)
        if path and not os.path.exists(path):  # noqa: PTH110 -- requests looks at it in the same way
            raise ConfigError(f"{name}: names {path!r:.200}, which does not exist; correct or unset it", setting=name)
        if path:
            return path
    return True


def _words(error: BaseException) -> str:
    """The innermost cause in words; urllib3's texts name its objects, and the URL with its query."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None) or error.__cause__
        if inner is None:
            break
        error = inner
    text = getattr(error, "strerror", None) or (error.args[-1] if error.args else "")
    return f"{type(error).__name__}: {str(text)[:120]}" if text else type(error).__name__
