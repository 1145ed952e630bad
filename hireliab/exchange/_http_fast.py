"""
The short way of a call: one write and one read on a connection that is open, without requests' and urllib3's detours.

It is taken only by what is common and simple, on an idle connection of the session's own pool; everything else returns
None, and the call goes the long way, through `requests.Session.request`. So it opens no connections, knows no
proxies, cookies, authentication, hooks or streams, and goes back to requests' code for redirects. Where a tool has
replaced what would be bypassed (see `_http_replaced`), it steps aside too.
"""

from __future__ import annotations

import http.client
import json as _stdlib_json
import logging
import re
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import requests
import requests.compat
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar
from requests.models import REDIRECT_STATI
from requests.structures import CaseInsensitiveDict
from requests.utils import check_header_validity, get_auth_from_url, select_proxy

from hireliab.exchange._http_adapter import Adapter, idle_connections
from hireliab.exchange._http_errors import ABSURD, CONNECTION, translate
from hireliab.exchange._http_replaced import untouched
from hireliab.exchange._http_response import Made, Response, decoded, length_is_sane, prepared
from hireliab.exchange._http_wire import (
    STOCK,
    Stack,
    TimedReader,
    TooLongError,
    Watch,
    Watched,
    current,
    keep_alive,
)

_MOST = 512  # URLs remembered for each session
_BODILESS = frozenset({"GET", "HEAD"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NUMBERS = (int, float)
_plain_query = re.compile(r"[A-Za-z0-9_.~=&-]+").fullmatch
_clean = re.compile(r"/[!-~]*").fullmatch
# A header that changes how the message is framed, or that requests or urllib3 act upon.
_SPECIAL = frozenset({"host", "content-length", "transfer-encoding", "expect", "upgrade", "te", "trailer"})
_NEEDED = ("user-agent", "accept-encoding")  # urllib3 adds its own where they are missing

_json: Any = vars(requests.compat)["json"]  # simplejson where requests found it
_urllib3_log = logging.getLogger("urllib3.connectionpool")
# What json.dumps(..., allow_nan=False) does, without a new encoder for each call.
_dumps: Callable[[Any], str] = (
    _stdlib_json.JSONEncoder(allow_nan=False).encode
    if _json is _stdlib_json
    else lambda value: str(_json.dumps(value, allow_nan=False))
)

_Http = http.client.HTTPConnection
_Base = requests.Session


# -- what a session's calls have in common ----------------------------------------------------------------------


class Target:
    """One URL, as requests prepares it, and the pool of its host."""

    __slots__ = ("adapter", "head", "own", "path", "pool", "retries", "url")

    def __init__(self, url: str, path: str, head: str, adapter: Adapter, pool: Any) -> None:
        self.url = url
        self.path = path
        self.head = head  # of the request, from the version to the Host header
        self.adapter = adapter
        self.own: dict[str, Any] = adapter.__dict__
        self.retries = adapter.max_retries
        self.pool = weakref.ref(pool)  # requests closes a pool by letting go of it


class Lane:
    """What was worked out for a session, valid while its settings stay as they are; replaced, never changed."""

    __slots__ = ("adapters", "block", "cert", "environment", "fields", "seen", "targets", "trust_env", "verify")

    def __init__(self, session: Any, seen: list[Any]) -> None:
        self.adapters = list(session.adapters.items())
        self.verify, self.cert, self.trust_env = session.verify, session.cert, session.trust_env
        self.environment = session._environment
        self.targets: dict[str, Target | None] = {}
        self.seen = seen
        fields = {name.lower(): (name, value) for name, value in seen}
        self.fields: dict[str, tuple[str, str]] | None = fields
        block = _block(fields)
        if block is None or isinstance(self.cert, list):  # what a list holds may change unnoticed
            self.fields = None
        self.block = block or ""

    def target(self, session: Any, url: str) -> Target | None:
        """The target of `url`; None when calls there go the long way."""
        target = self.targets.get(url)
        if target is None and url not in self.targets:
            if len(self.targets) >= _MOST:
                self.targets.clear()
            target = self.targets[url] = self._learn(session, url)
        return target

    def _learn(self, session: Any, url: str) -> Target | None:
        try:
            request = requests.PreparedRequest()
            request.prepare_url(url, None)
            whole = str(request.url)
            scheme, _, rest = whole.partition("://")
            adapter = session.get_adapter(whole)
            if type(adapter) is not Adapter or scheme not in ("http", "https") or "#" in rest:
                return None
            if any(get_auth_from_url(whole)) or adapter.max_retries.total != 0 or adapter.max_retries.read is not False:
                return None
            verify = self.verify
            if self.trust_env:
                environment = self.environment
                if select_proxy(whole, environment.proxies(whole)) or environment.login(whole):
                    return None
                if verify is True and environment.ca_bundle:
                    verify = environment.ca_bundle
            if scheme == "https" and not verify:
                return None  # urllib3 warns of each call
            pool: Any = adapter.get_connection_with_tls_context(request, verify, proxies={}, cert=self.cert)
            if idle_connections(pool) is None or pool.proxy is not None or ":" in pool.host:
                return None
            host = pool.host.rstrip(".")
            port = pool.port or 0
            standard = port == (443 if scheme == "https" else 80)
            path = request.path_url
            if not _clean(path):
                return None
        except Exception:
            return None  # the long way words the error
        head = f" HTTP/1.1\r\nHost: {host if standard else f'{host}:{port}'}\r\n"
        return Target(whole, path, head, adapter, pool)


def _block(fields: Mapping[str, tuple[Any, Any]]) -> str | None:
    """The fields as they are sent; None when one of them is not for this way."""
    if any(name not in fields for name in _NEEDED) or not _SPECIAL.isdisjoint(fields):
        return None
    lines = []
    try:
        for field in fields.values():
            name, value = field
            if type(name) is not str or type(value) is not str:
                return None
            if not name.isascii():
                return None
            check_header_validity(field)
            lines.append(f"{name}: {value}\r\n")
        block = "".join(lines)
        block.encode("latin-1")
        # A line break of a user's: requests before 2.33 lets one pass at the end, and http.client words the error.
        return block if block.count("\n") == block.count("\r") == len(lines) else None
    except Exception:
        return None


# -- the call ---------------------------------------------------------------------------------------------------


def attempt(  # noqa: PLR0917 -- keywords cost time here
    session: Any,
    watch: Watch,
    method: str,
    url: Any,
    params: Any,
    data: Any,
    json: Any,
    headers: Any,
    timeout: Any,
    allow_redirects: bool,
) -> Response | None:
    """
    Make the call the short way.

    Returns:
        The response; None when the call is to go the long way, nothing having been sent, or what was sent may
        be sent again on a new connection.
    """
    lane = _lane(session)
    if lane is None or type(url) is not str or not untouched():
        return None

    # Where to, and how long it may take.
    if method not in _METHODS:
        method = method.upper()
        if method not in _METHODS:
            return None
    if type(timeout) is tuple:
        if len(timeout) != 2:
            return None
        connect, read = timeout
    else:
        connect = read = timeout
    if not (read is None or (type(read) in _NUMBERS and 0 < read < _FOR_EVER)) or not (
        connect is None or (type(connect) in _NUMBERS and 0 < connect < _FOR_EVER)
    ):
        return None
    target = lane.targets.get(url)
    query = ""
    if target is None:
        base, mark, query = url.partition("?")
        if not mark or not _plain_query(query):
            base, query = url, ""
        target = lane.target(session, base)
        if target is None:
            return None
    own = target.own
    if "send" in own or own["max_retries"] is not target.retries:  # somebody else's, put there meanwhile
        session._lane = None
        return None
    if params:
        encoded = _encoded(params)
        if encoded is None:
            return None
        query = f"{query}&{encoded}" if query else encoded
    if query:
        path, full = target.path, target.url
        mark = "&" if "?" in path else "?"
        path, full = f"{path}{mark}{query}", f"{full}{mark}{query}"
    else:
        path, full = target.path, target.url

    # What.
    fields, block = lane.fields, lane.block
    if headers:
        merged = _merged(fields, headers)
        if merged is None:
            return None
        fields = merged
        block = _block(fields) or ""
        if not block:
            return None
    assert fields is not None, "bug: a lane without fields was taken"
    body: Any = None
    kind = None
    if data:
        if type(data) is dict:
            body = _encoded(data)
            kind = "application/x-www-form-urlencoded"
            if body is None:
                return None
        elif type(data) is bytes or type(data) is str:
            body = data
        else:
            return None
    elif json is not None:
        try:
            body = _dumps(json).encode()
        except Exception:
            return None  # the long way words the error
        kind = "application/json"
    extra: list[tuple[str, str]] = []
    if body is None:
        wire = b""
        if method not in _BODILESS:
            extra.append(("Content-Length", "0"))
            block += "Content-Length: 0\r\n"
    else:
        try:
            wire = body if type(body) is bytes else body.encode()
        except UnicodeEncodeError:
            return None
        length = str(len(wire))
        extra.append(("Content-Length", length))
        block += f"Content-Length: {length}\r\n"
        if kind is not None and "content-type" not in fields:
            extra.append(("Content-Type", kind))
            block += f"Content-Type: {kind}\r\n"

    # On which connection.
    pool: Any = target.pool()
    stack = None if pool is None else pool.pool
    if type(stack) is not Stack:
        session._lane = None  # the session was closed
        return None
    try:
        connection = stack.idle.pop()
    except IndexError:
        return None
    if not isinstance(connection, Watched) or connection.debuglevel != 0:
        stack.put(connection)
        return None
    started = watch.monotonic()
    idle = started - connection.idle_since
    if idle > watch.max_idle or idle > connection.keep or connection.spoke():
        connection.close()
        return None

    watch.read_timeout = read
    watch.seen = True
    connection.watch = watch
    made = Made(method, full, path, fields, extra, body)
    answer: Any = None
    try:
        message = f"{method} {path}{target.head}{block}\r\n".encode("latin-1") + wire
        sys.audit("http.client.send", connection, message)  # as http.client does
        try:  # noqa: SIM105 -- costs less
            watch.write(connection.sock, message)
        except (BrokenPipeError, ConnectionResetError):
            pass  # as urllib3: the server may have answered before it closed
        watch.before_answer()
        reader: Any = TimedReader(connection.sock, watch)
        answer = http.client.HTTPResponse(reader, method=method)
        answer.begin()
        watch.check_head()
        now = watch.monotonic()
        names = [name.lower() for name in answer.headers.keys()]  # noqa: SIM118 -- not a dict
        length_is_sane(answer, names, watch.limit)
        content = answer.read()
    except CONNECTION as error:
        _drop(connection, answer)
        if watch.may_resend(method, body):
            return None
        failed = _failed(error, watch, made)
        raise failed from failed.__cause__
    except ABSURD as error:
        _drop(connection, answer)
        if not watch.answered:
            raise
        failed = _failed(error, watch, made)
        raise failed from failed.__cause__
    except BaseException:
        _drop(connection, answer)  # half an answer must not be what the next request reads
        raise
    if answer.will_close or answer.status < 200 or not answer.isclosed() or reader.surplus or pool.pool is not stack:
        connection.close()
    else:
        connection.idle_since = now
        connection.keep = keep_alive(answer.headers.get("keep-alive")) if "keep-alive" in names else _FOR_EVER
        if len(stack.idle) < stack.maxsize:
            stack.idle.append(connection)
        else:
            connection.close()

    made.answer, made.received, made.elapsed = answer, len(content), now - started
    try:
        if "content-encoding" in names and content:
            content = decoded(content, ", ".join(answer.headers.get_all("content-encoding") or ()), watch)
        elif watch.limit is not None and len(content) > watch.limit:
            raise TooLongError
    except CONNECTION as error:
        failed = _failed(error, watch, made)
        raise failed from failed.__cause__

    response: Any = _new(Response)
    status = answer.status
    response.__dict__ = {
        "_content": content,
        "_content_consumed": True,
        "_next": None,
        "_made": made,
        "status_code": status,
        "reason": answer.reason,
        "url": full,
        "connection": target.adapter,
    }
    if "set-cookie" in names:
        extract_cookies_to_jar(session.cookies, response.request, response.raw)  # type: ignore[no-untyped-call]
    if status in REDIRECT_STATI and "location" in names:
        return _followed(session, watch, response, timeout, allow_redirects)
    result: Response = response
    return result


_FOR_EVER = float("inf")
_new: Any = Response.__new__
_JAR = RequestsCookieJar
_DICT = CaseInsensitiveDict


def _drop(connection: Watched, answer: http.client.HTTPResponse | None) -> None:
    try:
        if answer is not None:
            answer.close()  # since Python 3.13 its finaliser complains otherwise
    finally:
        connection.close()


def _failed(error: BaseException, watch: Watch, made: Made) -> BaseException:
    return translate(error, watch, made.method, made.url, request=prepared(made))


def _lane(session: Any) -> Lane | None:
    """The session's lane; None when something about the session wants the long way."""
    if session.auth is not None or session.proxies or session.params or session.stream or not STOCK:
        return None
    cookies, hooks, headers = session.cookies, session.hooks, session.headers
    if type(cookies) is not _JAR or type(hooks) is not dict or hooks.get("response"):
        return None
    try:
        if cookies._cookies and len(cookies):  # type: ignore[attr-defined]
            return None
        # The bound methods' functions: what an instance, a subclass or a tool has put there is somebody else's.
        send, prepare, merge = session._own
        if (
            session.send.__func__ is not send
            or session.prepare_request.__func__ is not prepare
            or session.merge_environment_settings.__func__ is not merge
            or session.get_adapter.__func__ is not _Base.get_adapter
        ):
            return None
        if type(headers) is _DICT:
            seen = list(headers._store.values())  # type: ignore[attr-defined]
        elif type(headers) is dict:
            seen = list(headers.items())
        else:
            return None
    except AttributeError:
        return None
    if _urllib3_log.isEnabledFor(logging.DEBUG) or _Http.debuglevel:
        return None
    lane: Lane | None = session._lane
    if (
        lane is None
        or lane.seen != seen
        or lane.verify is not session.verify
        or lane.cert is not session.cert
        or lane.trust_env is not session.trust_env
        or lane.environment is not session._environment
        or lane.adapters != list(session.adapters.items())
    ):
        lane = session._lane = Lane(session, seen)
    return lane if lane.fields is not None else None


def _merged(fields: Any, headers: Any) -> dict[str, tuple[str, str]] | None:
    """The session's fields with those of the call, in requests' order."""
    if type(headers) is not dict and type(headers) is not CaseInsensitiveDict:
        return None
    merged = dict(fields)
    for name, value in headers.items():
        if type(name) is not str or type(value) is not str:
            return None  # None takes a field out; bytes are rare
        merged[name.lower()] = (name, value)
    return merged


def _encoded(values: Any) -> str | None:
    """A dictionary of texts and numbers as a query; None when it is anything else."""
    if type(values) is not dict:
        return None
    for name, value in values.items():
        if type(name) is not str or not (type(value) is str or type(value) in _NUMBERS):
            return None
    try:
        return urlencode(values)
    except UnicodeEncodeError:
        return None


def _followed(session: Any, watch: Watch, response: Any, timeout: Any, allow_redirects: bool) -> Response:
    """A redirect, by requests' code; as the end of requests' own `send` has it."""
    settings = session.merge_environment_settings(response.url, {}, False, None, None)
    hops = session.resolve_redirects(
        response, response.request, yield_requests=not allow_redirects, timeout=timeout, **settings
    )
    outer, current.watch = current.watch, watch
    watch.claimed = True
    try:
        if not allow_redirects:
            response._next = next(hops, None)
            hops = ()
        history = [response, *hops]
    finally:
        current.watch = outer
    last: Response = history.pop()
    last.history = history
    return last
