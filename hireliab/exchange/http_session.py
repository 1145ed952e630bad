"""
Session: a `requests.Session` that is faster and has safe defaults.

Whatever works with a `requests.Session` works with it. Different are: a call has time limits unless it says otherwise;
the environment is read once; an idle connection that the server may have closed is not used; what breaks says whether
the call was sent (`NotSentError`) or may have happened (`OutcomeUnknownError`), in exceptions that requests' `except`
clauses catch too.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import requests

from hireliab.core import deadline as _deadline
from hireliab.core._threads import renew_after_fork
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.core.config import number, number_or_none, whole
from hireliab.errors import ConfigError
from hireliab.exchange import _tls
from hireliab.exchange._http_adapter import Adapter, forked
from hireliab.exchange._http_environment import Environment, WithoutEnvironment
from hireliab.exchange._http_errors import BAD_URL, deadline_passed, subject, unrevealing
from hireliab.exchange._http_fast import Lane, attempt
from hireliab.exchange._http_response import Response
from hireliab.exchange._http_wire import Watch, current, enclosing
from hireliab.exchange.connection_pool import ConnectionPool, PoolConfig

__all__ = ["Response", "Session", "pool_of_sessions"]

_MAX_RESPONSE = 64 * 1024 * 1024
_ABSOLUTE = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")


class _Given:
    """What stands for "not given", where None means "no limit"."""

    def __repr__(self) -> str:
        return "the session's"


_SESSIONS: Any = _Given()


class Session(requests.Session):
    """
    A `requests.Session` with time limits, kept-alive connections that are alive, and errors that say what happened.

    A GET (HEAD, OPTIONS, TRACE) is sent once more, on a new connection, when a reused connection died before any byte
    of an answer. Nothing else is ever sent twice, unless the call says ``retry_safe=True``.

    It may be shared by threads as a `requests.Session` may: calls at the same time are safe, changing its
    attributes meanwhile is not, and its cookies are everybody's. A pool of sessions (`pool_of_sessions`) needs none of
    these precautions. A forked child opens its own connections.

    What cannot be interrupted: a DNS look-up, and each address of a host gets the connect timeout.

    Args:
        base_url: What a path is joined to: ``session.get("/v2/orders")``.
        headers: Sent with every request, besides requests' own.
        timeout: Seconds to connect, and seconds without a byte; one number for both, None for no limit. Each call may
            say its own ``timeout=``.
        total_timeout: Seconds for a whole call: connection, redirects and body, also one that drips; with
            ``stream=True`` reading the body counts, too. None for no limit. Each call may say its own.
        max_idle: Seconds of silence after which a connection is not used again; less where the server's
            Keep-Alive says less. Each call may say its own.
        max_response_bytes: The longest body, on the wire and decoded, that is collected in memory. What a caller with
            ``stream=True`` iterates over is not limited.
        trust_env: Whether proxies, CA bundle and netrc of the environment count; they are read when the session is
            made, and again in `refresh_env`. A `verify` that was set on the session goes before REQUESTS_CA_BUNDLE
            (in requests it does not), and netrc never replaces an Authorization header.
        clock: Where the time comes from.

    Raises:
        ConfigError: A setting is out of its range.
    """

    _own: tuple[Any, ...] = ()

    __attrs__ = [  # noqa: RUF012 -- requests' name and type for what is pickled
        *requests.Session.__attrs__,
        "base_url",
        "timeout",
        "total_timeout",
        "max_idle",
        "max_response_bytes",
    ]

    def __init__(
        self,
        *,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | tuple[float | None, float | None] | None = (3.05, 10.0),
        total_timeout: float | None = None,
        max_idle: float = 30.0,
        max_response_bytes: int | None = _MAX_RESPONSE,
        trust_env: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__()
        self.base_url = None if base_url is None else _checked_base(base_url)
        self.timeout = _checked_timeout(timeout)
        self.total_timeout = number_or_none("total_timeout", total_timeout, above=0)
        self.max_idle = number("max_idle", max_idle, low=0)
        self.max_response_bytes = (
            None if max_response_bytes is None else whole("max_response_bytes", max_response_bytes, low=1)
        )
        self.trust_env = trust_env
        self.headers.update(headers or {})
        self.mount("https://", Adapter())
        self.mount("http://", Adapter())
        self._begin(clock)

    def _begin(self, clock: Clock) -> None:
        self._clock = clock
        self._environment = Environment()
        self._lane: Lane | None = None
        renew_after_fork(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self._begin(SYSTEM_CLOCK)

    def renew_in_child(self) -> None:
        """Called in a forked child."""
        forked(self.adapters.values())
        self._lane = None
        if hasattr(self.cookies, "_cookies_lock"):
            # http.cookiejar's own; another thread may have been inside it, which is not in the child.
            self.cookies._cookies_lock = threading.RLock()

    def refresh_env(self) -> None:
        """Read proxies, CA bundle, netrc and CA files again; connections that are open stay as they are."""
        self._environment = Environment()
        self._lane = None
        _tls.forget()

    # -- a call -------------------------------------------------------------------------------------------------

    if TYPE_CHECKING:  # requests' own, which pass on what `request` takes; its stubs do not know our words

        def get(self, url: str | bytes, **kwargs: Any) -> requests.Response: ...  # noqa: D102

        def options(self, url: str | bytes, **kwargs: Any) -> requests.Response: ...  # noqa: D102

        def head(self, url: str | bytes, **kwargs: Any) -> requests.Response: ...  # noqa: D102

        def post(self, url: str | bytes, data: Any = None, json: Any = None, **kwargs: Any) -> requests.Response: ...  # noqa: D102

        def put(self, url: str | bytes, data: Any = None, **kwargs: Any) -> requests.Response: ...  # noqa: D102

        def patch(self, url: str | bytes, data: Any = None, **kwargs: Any) -> requests.Response: ...  # noqa: D102

        def delete(self, url: str | bytes, **kwargs: Any) -> requests.Response: ...  # noqa: D102

    def request(  # type: ignore[override]  # noqa: PLR0917 -- requests' signature
        self,
        method: str,
        url: str | bytes,
        params: Any = None,
        data: Any = None,
        headers: Any = None,
        cookies: Any = None,
        files: Any = None,
        auth: Any = None,
        timeout: Any = _SESSIONS,
        allow_redirects: bool = True,
        proxies: Any = None,
        hooks: Any = None,
        stream: bool | None = None,
        verify: Any = None,
        cert: Any = None,
        json: Any = None,
        *,
        total_timeout: float | None = _SESSIONS,
        retry_safe: bool | None = None,
        max_idle: float | None = None,
        watch: Watch | None = None,
    ) -> requests.Response:
        """
        Send a request; see `requests.Session.request`.

        Args:
            timeout: Above 0, or a pair of those; None means no limit.
            total_timeout: Seconds for the whole call, instead of the session's; None means no limit.
            retry_safe: Whether the request may be sent twice (see the class); None: by its method.
            max_idle: Instead of the session's; 0 makes a new connection all but certain.
            watch: For the other parts of hireliab: gathers what happened on the wire.

        Raises:
            NotSentError: Nothing left this machine. A ConnectError (no connection, no TLS, no time), which is also
                requests' ConnectTimeout, SSLError, ProxyError or ConnectionError; or a DeadlineExceededError.
            OutcomeUnknownError: A byte may have left. A ResponseTimeoutError, also requests' ReadTimeout; a
                ResponseLostError, also a ConnectionError; a MalformedResponseError: too long, or undecodable.
            requests.RequestException: Bad URL, bad header, too many redirects: requests' own, without the query and the
                credentials of a URL in their texts.
            ConfigError: `timeout`, `total_timeout` or `max_idle` is out of its range; nothing was sent.
        """
        if self.base_url is not None:
            url = self._joined(url)
        if timeout is _SESSIONS:
            timeout = self.timeout
        outer = enclosing()
        if watch is None:
            watch = self._new_watch(outer, (method, url), total_timeout, retry_safe, max_idle)
        if (
            cookies is None
            and not files
            and auth is None
            and hooks is None
            and cert is None
            and not proxies
            and not stream
            and (verify is None or (verify is True and self.verify is True))
        ):
            answer = attempt(self, watch, method, url, params, data, json, headers, timeout, allow_redirects)
            if answer is not None:
                return answer
        current.watch = watch
        try:
            return super().request(
                method,
                url,
                params=params,
                data=data,
                headers=headers,
                cookies=cookies,
                files=files,
                auth=auth,
                timeout=timeout,
                allow_redirects=allow_redirects,
                proxies=proxies,
                hooks=hooks,
                stream=stream,
                verify=verify,
                cert=cert,
                json=json,
            )
        finally:
            current.watch = outer

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request; see `requests.Session.send`, and `request` for the rest."""
        total_timeout = kwargs.pop("total_timeout", _SESSIONS)
        retry_safe = kwargs.pop("retry_safe", None)
        max_idle = kwargs.pop("max_idle", None)
        watch = kwargs.pop("watch", None)
        outer = enclosing()
        if watch is None:
            if outer is not None and not outer.claimed:
                watch = outer  # `request` made it for this
            else:
                hop = outer if outer is not None and outer.hop is request else None
                watch = self._new_watch(
                    outer, (request.method, request.url), total_timeout, retry_safe, max_idle, hop=hop
                )
        watch.claimed = True
        kwargs.setdefault("timeout", self.timeout)
        _refuse_bad_timeout(kwargs["timeout"])
        if "proxies" not in kwargs and isinstance(request, requests.PreparedRequest):
            kwargs["proxies"] = self._proxies_for_one(str(request.url), self.proxies)
        current.watch = watch
        try:
            return super().send(request, **kwargs)
        except BAD_URL as error:
            url = getattr(request, "url", None)
            raise unrevealing(error, url if url and url in str(error) else None) from None
        finally:
            if outer is not None:
                outer.earlier = outer.earlier or watch.sent or watch.earlier
            current.watch = outer

    def _new_watch(
        self,
        outer: Watch | None,
        what: tuple[Any, Any],
        total: Any,
        retry_safe: bool | None,
        max_idle: float | None,
        *,
        hop: Watch | None = None,
    ) -> Watch:
        """What a call may take: its own limits (a redirect's hop: its call's), and those of the call and the `deadline` around it."""
        if hop is not None:
            total, retry_safe, idle = None, hop.retry_safe, hop.max_idle  # its deadline follows below, as `outer`'s
        else:
            idle = self.max_idle if max_idle is None else number("max_idle", max_idle, low=0)
        total = self.total_timeout if total is _SESSIONS else number_or_none("total_timeout", total, above=0)
        monotonic = self._clock.monotonic
        left = _deadline.remaining()
        if left is not None:
            if left <= 0:
                raise deadline_passed(
                    subject(*map(str, what)), earlier=outer is not None and (outer.earlier or outer.sent)
                )
            total = left if total is None else min(left, total)
        until = None if total is None else monotonic() + total
        earlier = False
        if outer is not None:
            # A redirect's next hop, or a hook that sends a request, inside a call of this thread.
            earlier = outer.earlier or outer.sent
            if outer.deadline is not None:
                outer_until = monotonic() + outer.deadline - outer.monotonic()  # its clock may be another one
                until = outer_until if until is None else min(until, outer_until)
        return Watch(
            monotonic,
            deadline=until,
            max_idle=idle,
            retry_safe=retry_safe,
            limit=self.max_response_bytes,
            earlier=earlier,
        )

    def _joined(self, url: Any) -> Any:
        text = url.decode("utf-8") if isinstance(url, bytes) else str(url)
        if self.base_url is None or _ABSOLUTE.match(text):
            return url
        return f"{self.base_url}/{text.lstrip('/')}" if text else self.base_url

    # -- the environment, read once -----------------------------------------------------------------------------

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """See requests."""
        url = self._joined(request.url)
        if url is not request.url:
            request = copy.copy(request)
            request.url = url
        auth = self.auth
        if self.trust_env and not request.auth and not auth and not _authorized(request.headers, self.headers):
            auth = self._environment.login(url.decode("utf-8") if isinstance(url, bytes) else str(url))
        try:
            return requests.Session.prepare_request(cast("Any", WithoutEnvironment(self, auth)), request)
        except BAD_URL as error:
            raise unrevealing(error, url) from None

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """See requests; a `verify` that was set on the session goes before the environment's CA bundle."""
        if self.trust_env:
            environment = self._environment
            proxies = dict(proxies or {})
            for scheme, proxy in environment.proxies(url, proxies.get("no_proxy")).items():
                proxies.setdefault(scheme, proxy)
            if environment.ca_bundle and (verify is True or (verify is None and self.verify is True)):
                verify = environment.ca_bundle
        view: Any = WithoutEnvironment(self, None)
        return requests.Session.merge_environment_settings(view, url, proxies, stream, verify, cert)

    def _proxies_for_one(self, url: str, proxies: Any) -> dict[str, str]:
        return self._environment.proxies_for_one(url, proxies) if self.trust_env else dict(proxies or {})

    def rebuild_proxies(self, prepared_request: requests.PreparedRequest, proxies: Any) -> Any:
        """See requests."""
        proxies = self._proxies_for_one(str(prepared_request.url), proxies)
        view: Any = WithoutEnvironment(self, None)
        return requests.Session.rebuild_proxies(view, prepared_request, proxies)  # type: ignore[no-untyped-call]

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """See requests; netrc fills in what is missing, and replaces nothing."""
        watch = current.watch
        if watch is not None:
            # requests asks this of each hop, and of nothing else, before it sends it. A keyword of `send` would reach
            # the tools that replace it.
            watch.hop = prepared_request
        view: Any = WithoutEnvironment(self, None)
        requests.Session.rebuild_auth(view, prepared_request, response)  # type: ignore[no-untyped-call]
        if self.trust_env and "Authorization" not in prepared_request.headers:
            login = self._environment.login(str(prepared_request.url))
            if login is not None:
                prepared_request.prepare_auth(login)


# What the fast path would bypass, as it was written here: whoever replaces one of them is to be asked.
Session._own = (Session.send, Session.prepare_request, Session.merge_environment_settings)


def _authorized(*headers: Any) -> bool:
    """Whether one of them has an Authorization."""
    return any(str(name).lower() == "authorization" for some in headers if some for name in some)


def _checked_base(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
    except (ValueError, AttributeError, TypeError):
        good = False
    if not good:
        allowed = "a URL with http or https and a host, without query and fragment"
        raise ConfigError(f"session: base_url must be {allowed}", setting="base_url", allowed=allowed)
    return base_url.rstrip("/")


def _checked_timeout(timeout: Any) -> Any:
    if not isinstance(timeout, tuple):
        return number_or_none("timeout", timeout, above=0)
    if len(timeout) != 2:
        allowed = "seconds, a pair of (connect, read) seconds, or None"
        raise ConfigError(
            f"session: timeout must be {allowed}, got {timeout!r:.80}", setting="timeout", allowed=allowed
        )
    return tuple(number_or_none("timeout", seconds, above=0) for seconds in timeout)


def _refuse_bad_timeout(timeout: Any) -> None:
    """Refuse a call's timeout that urllib3 would, in words that say what is allowed; its own Timeout may pass."""
    pair = timeout if isinstance(timeout, tuple) else (timeout,)
    if isinstance(timeout, tuple) or any(isinstance(seconds, int | float | str | bytes | list) for seconds in pair):
        _checked_timeout(timeout)


def pool_of_sessions(
    name: str,
    base_url: str | None = None,
    *,
    config: PoolConfig | Mapping[str, Any] | None = None,
    **options: Any,
) -> ConnectionPool[Session]:
    """
    A pool that lends one `Session` to one caller at a time: ``pool_of_sessions("venue", "https://api.example")``.

    Args:
        name: The pool's, for errors, logs and metrics.
        base_url: What a path is joined to.
        config: The pool's settings, as for `ConnectionPool`.
        **options: Those of `Session`, such as ``headers`` with an API key.

    Raises:
        ConfigError: A setting is unknown or out of its range.
    """
    Session(base_url=base_url, **options).close()  # a wrong option is to be seen here, not at the first call

    def create() -> Session:
        return Session(base_url=base_url, **options)

    return ConnectionPool(name=name, create_client_func=create, config=config)
