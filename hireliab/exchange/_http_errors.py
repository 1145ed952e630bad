"""
What a failed HTTP call raises: one class that belongs to both families, hireliab's words and requests' exceptions.

Whether a call was *not sent* is decided by what was seen on the wire (`_http_wire.Watch`), never by the name of an
exception. Only where the wire cannot be seen (a test double, urllib3.future) do requests' own classes decide, and
then "not sent" is believed only of a connection that was never made.
"""

from __future__ import annotations

import http.client
import re
import ssl
from typing import Any

import urllib3
from requests import exceptions as theirs

from hireliab.errors import (
    ConnectError,
    DeadlineExceededError,
    HireliabError,
    MalformedResponseError,
    ResponseLostError,
    ResponseTimeoutError,
)
from hireliab.exchange._http_wire import TooLongError, Watch


class HTTPDeadlineError(DeadlineExceededError, theirs.ConnectTimeout):
    """The deadline around the call had passed; nothing was sent."""


class HTTPConnectError(ConnectError, theirs.ConnectionError):
    """No connection; nothing was sent."""


class HTTPConnectTimeoutError(ConnectError, theirs.ConnectTimeout):
    """No connection in time; nothing was sent."""


class HTTPTLSConnectError(ConnectError, theirs.SSLError):
    """The TLS handshake failed; nothing was sent."""


class HTTPProxyConnectError(ConnectError, theirs.ProxyError):
    """No connection through the proxy; nothing was sent."""


class HTTPResponseTimeoutError(ResponseTimeoutError, theirs.ReadTimeout):
    """The request went out, and no answer began in time."""


# requests raises its ConnectionError when the time is over within the body or while sending.
class HTTPBodyTimeoutError(ResponseTimeoutError, theirs.ReadTimeout, theirs.ConnectionError):
    """The request went out, at least in part, and no whole answer came in time."""


class HTTPConnectTimeoutLaterError(ResponseTimeoutError, theirs.ConnectTimeout):
    """A further hop of a call that was sent found no connection in time."""


class HTTPResponseLostError(ResponseLostError, theirs.ConnectionError):
    """
    The connection broke after a byte of the request may have left.

    Attributes:
        stale: A connection that had been used before died without a byte of an answer: the server most probably had
            closed it, and has not seen the request. Probably is not surely.
    """

    stale = False


class HTTPTLSLostError(HTTPResponseLostError, theirs.SSLError):
    """The connection broke within TLS."""


class HTTPProxyLostError(HTTPResponseLostError, theirs.ProxyError):
    """The connection through the proxy broke, or a further hop of a call found none."""


class HTTPBodyLostError(ResponseLostError, theirs.ChunkedEncodingError):
    """The connection broke within the answer."""

    stale = False


class HTTPUndecodableError(MalformedResponseError, theirs.ContentDecodingError):
    """The answer cannot be decoded."""


class HTTPInvalidHeaderError(MalformedResponseError, theirs.InvalidHeader):
    """The answer's headers contradict each other."""


class HTTPTooLongError(MalformedResponseError, theirs.RequestException):
    """The answer is longer than the session allows."""


CONNECTION = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, TooLongError)
"""What the wire raises. requests' exceptions are OSErrors."""

ABSURD = (ValueError, OverflowError, MemoryError)
"""What reading an answer raises, besides: http.client and urllib3 give a peer's absurd numbers to int() and read()."""

# Ours already, and what requests finds wrong with a request before it looks for a connection.
_TO_BE_KEPT = (
    HireliabError,
    theirs.InvalidURL,
    theirs.InvalidSchema,
    theirs.MissingSchema,
    theirs.InvalidProxyURL,
    theirs.RetryError,
    theirs.TooManyRedirects,
    theirs.StreamConsumedError,
    theirs.HTTPError,
)


def translate(
    error: BaseException, watch: Watch | None, method: str, url: str, *, request: Any = None
) -> BaseException:
    """
    The exception to raise instead of `error`; `error` itself when it is not about the connection.

    Args:
        error: From requests, urllib3, http.client or a socket.
        watch: What was seen on the wire, or None.
        method: Of the request.
        url: Of the request; its query and credentials are not shown.
        request: The prepared request, for the attribute that requests' exceptions have.
    """
    if isinstance(error, _TO_BE_KEPT):
        return error
    if isinstance(error, theirs.InvalidHeader) and (watch is None or not watch.sent):
        return error
    seen = watch is not None and (watch.seen or watch.stopped)
    if not seen:
        if not _is_requests_own(error):
            return error  # a test double's exception, or a file that is missing
        made: HireliabError = _unseen(error, subject(method, url))
    else:
        assert watch is not None
        made = _seen(error, watch, subject(method, url))
    facts: Any = made
    facts.request = request if request is not None else getattr(error, "request", None)
    facts.response = getattr(error, "response", None)
    made.__cause__ = root(error)
    made.__suppress_context__ = True  # the texts of requests and urllib3 show the URL with its query
    return made


def _seen(error: BaseException, watch: Watch, what: str) -> HireliabError:
    kind = _kind(error)
    if not watch.sent:
        over = watch.stopped or watch.timed_out
        cause = "the total time is over" if over else words(error)
        if over or isinstance(root(error), TimeoutError):
            kind = theirs.ConnectTimeout
        if watch.earlier:
            return _LATER.get(kind, HTTPResponseLostError)(
                f"{what}: no connection for a further sending ({cause}), the call was sent before; look before repeating it"
            )
        return _CONNECT.get(kind, HTTPConnectError)(
            f"{what}: no connection ({cause}), nothing was sent; it may be tried again"
        )
    if isinstance(error, TooLongError) or watch.too_long:
        if watch.in_head:
            return HTTPTooLongError(f"{what}: the head of the answer does not end, what happened is unknown")
        return HTTPTooLongError(
            f"{what}: the answer is longer than {watch.limit} bytes, what happened is unknown; allow more"
        )
    if watch.timed_out:
        late = HTTPResponseTimeoutError if kind is theirs.ReadTimeout else HTTPBodyTimeoutError
        return late(f"{what}: no complete answer in time, what happened is unknown; look before repeating it")
    if kind is theirs.ContentDecodingError:
        return HTTPUndecodableError(f"{what}: the answer cannot be decoded, what happened is unknown")
    if kind is theirs.InvalidHeader:
        return HTTPInvalidHeaderError(f"{what}: the answer has two lengths, what happened is unknown")
    lost = HTTPBodyLostError if kind is theirs.ChunkedEncodingError else _LOST.get(kind, HTTPResponseLostError)
    made: Any = lost(
        f"{what}: the connection broke ({words(error)}), what happened is unknown; look before repeating it"
    )
    made.stale = watch.stale
    result: HireliabError = made
    return result


def deadline_passed(what: str, *, earlier: bool) -> HireliabError:
    """The deadline around the call has passed before this sending; `earlier` tells whether there was one before it."""
    if earlier:
        return HTTPConnectTimeoutLaterError(
            f"{what}: the deadline has passed before a further sending, the call was sent before; look before repeating it"
        )
    return HTTPDeadlineError(f"{what}: the deadline has passed, nothing was sent; allow more time")


def _unseen(error: BaseException, what: str) -> HireliabError:
    kind = _kind(error)
    inner = root(error)
    reason = _reason(error)
    # A proxy's error has that of its connection in it. Of TLS, only a refused certificate is surely of the handshake.
    reason = getattr(reason, "original_error", reason)
    never = isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError) or (
        kind is theirs.SSLError and isinstance(inner, ssl.SSLCertVerificationError)
    )
    if kind is theirs.ConnectTimeout or never:
        return _CONNECT.get(kind, HTTPConnectError)(
            f"{what}: no connection ({words(inner)}), nothing was sent; it may be tried again"
        )
    if kind is theirs.ReadTimeout:
        return HTTPResponseTimeoutError(f"{what}: no complete answer in time, what happened is unknown")
    if kind is theirs.ContentDecodingError:
        return HTTPUndecodableError(f"{what}: the answer cannot be decoded, what happened is unknown")
    lost = HTTPBodyLostError if kind is theirs.ChunkedEncodingError else _LOST.get(kind, HTTPResponseLostError)
    return lost(f"{what}: the connection broke ({words(inner)}), what happened is unknown; look before repeating it")


_CONNECT: dict[type, type[HireliabError]] = {
    theirs.ConnectTimeout: HTTPConnectTimeoutError,
    theirs.SSLError: HTTPTLSConnectError,
    theirs.ProxyError: HTTPProxyConnectError,
}
_LATER: dict[type, type[HireliabError]] = {
    theirs.ConnectTimeout: HTTPConnectTimeoutLaterError,
    theirs.SSLError: HTTPTLSLostError,
    theirs.ProxyError: HTTPProxyLostError,
}
_LOST: dict[type, type[HireliabError]] = {
    theirs.SSLError: HTTPTLSLostError,
    theirs.ProxyError: HTTPProxyLostError,
}


def _kind(error: BaseException) -> type:
    """The class of requests' exceptions that `error` is, or that requests would make of it."""
    for kind in (
        theirs.ConnectTimeout,
        theirs.ReadTimeout,
        theirs.SSLError,
        theirs.ProxyError,
        theirs.ChunkedEncodingError,
        theirs.ContentDecodingError,
        theirs.InvalidHeader,
    ):
        if isinstance(error, kind):
            return kind
    if isinstance(error, theirs.ConnectionError):
        return theirs.ConnectionError
    if isinstance(error, http.client.IncompleteRead | urllib3.exceptions.IncompleteRead):
        return theirs.ChunkedEncodingError
    if isinstance(error, urllib3.exceptions.DecodeError):
        return theirs.ContentDecodingError
    if isinstance(error, urllib3.exceptions.InvalidHeader):
        return theirs.InvalidHeader
    if isinstance(error, ssl.SSLError | urllib3.exceptions.SSLError):
        return theirs.SSLError
    if isinstance(error, ABSURD):
        return theirs.ChunkedEncodingError
    return theirs.ConnectionError


def _is_requests_own(error: BaseException) -> bool:
    """Whether requests made it of an exception of urllib3; one that a test double raises has a text instead."""
    return isinstance(error, theirs.RequestException) and bool(error.args) and isinstance(error.args[0], Exception)


def _reason(error: BaseException) -> BaseException:
    """What a MaxRetryError was raised for."""
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", None)
    return reason if isinstance(reason, BaseException) else error


def root(error: BaseException) -> BaseException:
    """The innermost cause: its text names no URL and none of urllib3's objects."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None) or error.__cause__
        if inner is None:
            break
        error = inner
    return error


def words(error: BaseException) -> str:
    """The innermost cause in words."""
    error = root(error)
    text = getattr(error, "strerror", None) or (error.args[-1] if error.args else "")
    return f"{type(error).__name__}: {str(text)[:120]}" if text else type(error).__name__


def subject(method: str, url: str) -> str:
    """The method and the URL without query, fragment and credentials."""
    return f"{method} {shown(url)}"


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//")
_HOST = re.compile(r"([^:]*|\[[^\]]*\])(:\d*)?")


def shown(url: str) -> str:
    """What of a URL may be shown: all but credentials, query and fragment."""
    plain = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme = _SCHEME.match(plain)
    head = scheme[0] if scheme else ""
    authority, slash, path = plain[len(head) :].partition("/")
    host = authority.rpartition("@")[2]
    if "@" in url and not _HOST.fullmatch(host):
        return f"{head}..."  # no host and port: what came before a ? # or / of a password
    return f"{head}{host}{slash}{path}"


def unrevealing(error: theirs.RequestException, url: object) -> theirs.RequestException:
    """
    The same error about a bad URL, with a text that shows neither query nor credentials.

    Args:
        error: From requests, whose text shows the URL, or the part of it that is wrong.
        url: The URL; None when it is not known, such as a redirect's.
    """
    text = str(error)
    if not text.startswith(_WITHOUT_URL):
        whole = url.decode("utf-8", "replace") if isinstance(url, bytes) else str(url)
        about = "on the way" if url is None else repr(shown(whole))
        reason = next((reason for mark, reason in _BAD_URLS if mark in text), "it cannot be parsed")
        error.args = (f"Invalid URL {about}: {reason}",)
    error.__cause__, error.__suppress_context__ = None, True
    return error


_WITHOUT_URL = ("Missing dependencies for SOCKS", "Please check proxy URL", "URL has an invalid label")
_BAD_URLS = (
    ("No scheme supplied", "No scheme supplied; begin it with https://"),
    ("No host supplied", "No host supplied"),
    ("No connection adapters", "No connection adapters were found; http:// and https:// have one"),
)
BAD_URL = (theirs.InvalidURL, theirs.InvalidSchema, theirs.MissingSchema)
"""What requests says of a URL."""
