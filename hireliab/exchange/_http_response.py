"""
The response: a `requests.Response` that bounds what it collects and says how a broken body ended.

On the fast path most of its attributes are made when somebody looks at them; which is why they are missing from
`vars(response)` until then.
"""

from __future__ import annotations

import datetime as dt
import functools
import http.client
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
import urllib3
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar
from requests.hooks import default_hooks
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from hireliab.exchange import _json
from hireliab.exchange._http_errors import ABSURD, CONNECTION, shown, translate
from hireliab.exchange._http_wire import TooLongError, Watch

_CHUNK = 65536
_STEP = 1024 * 1024  # bytes that are unpacked between two looks at the clock


class Made:
    """What was sent and answered on the fast path: of it, the rest of a response is made when asked for."""

    __slots__ = ("answer", "body", "elapsed", "extra", "fields", "method", "path", "received", "url")

    answer: http.client.HTTPResponse
    elapsed: float
    received: int

    def __init__(  # noqa: PLR0917 -- made once in each call
        self,
        method: str,
        url: str,
        path: str,
        fields: Mapping[str, tuple[str, str]],
        extra: list[tuple[str, str]],
        body: bytes | str | None,
    ) -> None:
        self.method = method
        self.url = url
        self.path = path
        self.fields = fields
        self.extra = extra
        self.body = body


class Response(requests.Response):
    """See `requests.Response`."""

    _watch: Watch | None = None
    _content: Any
    _content_consumed: bool

    def __getattr__(self, name: str) -> Any:
        # Only for what is not there: that is, on the fast path, what nobody has looked at or set before.
        make, made = _MAKERS.get(name), self.__dict__.get("_made")
        if make is None or made is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__.setdefault(name, make(self, made))

    def close(self) -> None:
        """See requests."""
        if "_made" not in self.__dict__:
            super().close()

    @property
    def content(self) -> bytes:
        """The body, decoded; raises MalformedResponseError when it is longer than `max_response_bytes`."""
        watch = self._watch
        if watch is not None and self._content is False and not self._content_consumed and watch.limit is not None:
            self._content = self._collect(watch.limit)
            self._content_consumed = True
        return super().content

    def _collect(self, limit: int) -> bytes:
        length = self.headers.get("Content-Length", "")
        if self.request.method != "HEAD" and _declared(length) > limit:
            self._too_long()
        chunks: list[bytes] = []
        size = 0
        for chunk in self.iter_content(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                self._too_long()
        return b"".join(chunks)

    def _too_long(self) -> None:
        watch = self._watch
        assert watch is not None, "bug: no limit without a watch"
        self.close()  # what is left of the answer must not be what the next request reads
        watch.too_long = watch.seen = watch.sent = True
        watch.in_head = False  # on urllib3.future nobody saw it end
        raise self._translated(TooLongError())

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        """See requests. With ``stream=True`` the total limit still holds, and the limit of bytes does not."""
        chunks = super().iter_content(chunk_size, decode_unicode)
        watch = self._watch
        return chunks if watch is None or self._content_consumed else self._guarded(watch, chunks)

    def _guarded(self, watch: Watch, chunks: Iterator[Any]) -> Iterator[Any]:
        try:
            for chunk in chunks:
                try:
                    watch.look()  # reading looks too, but what was read may unpack for long
                except TimeoutError:
                    self.close()  # what is left of the answer must not be what the next request reads
                    raise
                yield chunk
        except (*CONNECTION, *ABSURD) as error:
            if not isinstance(error, CONNECTION):
                self.close()  # where the next answer begins is not known
            made = self._translated(error)
            if made is error:
                raise
            raise made from made.__cause__

    def _translated(self, error: BaseException) -> BaseException:
        return translate(error, self._watch, self.request.method or "", str(self.request.url), request=self.request)

    def raise_for_status(self) -> None:
        """See requests; the error's text shows the URL without its query, which may hold a key or a signature."""
        try:
            super().raise_for_status()
        except requests.HTTPError as error:
            text = str(error).rpartition(" for url: ")[0]
            error.args = (f"{text} for url: {shown(str(self.url))}",)
            raise

    def json(self, **kwargs: Any) -> Any:
        """
        The body as JSON; integers of any length are exact.

        Args:
            **kwargs: For `json.loads`, such as ``parse_float=Decimal``: prices are money.

        Raises:
            requests.exceptions.JSONDecodeError: It is no JSON.
        """
        if not kwargs and self.encoding in _UTF_8:
            try:
                return _json.loads(self.content)
            except (ValueError, RecursionError):
                pass  # requests knows more encodings, and words the error
        return super().json(**kwargs)


def _declared(length: str) -> int:
    """A Content-Length; -1 when it is none, as which http.client takes one of more digits than int() reads, too."""
    try:
        return int(length) if length.isdecimal() else -1
    except ValueError:
        return -1


_UTF_8 = (None, "utf-8", "UTF-8", "utf8")


# -- what the fast path leaves for later ------------------------------------------------------------------------


def prepared(made: Made) -> requests.PreparedRequest:
    """The request that was sent, as requests would have prepared it."""
    request: Any = requests.PreparedRequest()
    request.method = made.method
    request.url = made.url
    request.headers = CaseInsensitiveDict([*made.fields.values(), *made.extra])
    request.body = made.body
    request.hooks = default_hooks()
    request._cookies = RequestsCookieJar()
    result: requests.PreparedRequest = request
    return result


_folded = re.compile(r"[ \t]*\r?\n[ \t]+")


def _fields(answer: http.client.HTTPResponse) -> list[tuple[str, str]]:
    fields = answer.headers.items()
    if any("\n" in value for _, value in fields):
        # As urllib3 does it, and in its message too: a field may not be folded any more.
        fields = [(name, _folded.sub(" ", value)) for name, value in fields]
        for name, _ in fields:
            del answer.headers[name]
        for name, value in fields:
            answer.headers[name] = value
    return fields


def _headers(_response: Response, made: Made) -> CaseInsensitiveDict[str]:
    fields = _fields(made.answer)
    headers = CaseInsensitiveDict(fields)
    # A field that came twice is one with both values, as urllib3 joins them.
    return headers if len(headers) == len(fields) else CaseInsensitiveDict(urllib3.HTTPHeaderDict(fields))


def _raw(_response: Response, made: Made) -> urllib3.HTTPResponse:
    answer = made.answer
    raw: Any = urllib3.HTTPResponse(
        body=answer,
        headers=urllib3.HTTPHeaderDict(_fields(answer)),
        status=answer.status,
        version=answer.version,
        reason=answer.reason,
        preload_content=False,
        decode_content=False,
        original_response=answer,
        request_method=made.method,
        request_url=made.path,
    )
    # It was read to its end.
    raw.version_string = "HTTP/1.0" if answer.version == 10 else "HTTP/1.1"
    raw._fp_bytes_read = made.received
    if raw.length_remaining is not None:
        raw.length_remaining = 0
    result: urllib3.HTTPResponse = raw
    return result


def _cookies(response: Response, _made: Made) -> RequestsCookieJar:
    jar = RequestsCookieJar()
    extract_cookies_to_jar(jar, response.request, response.raw)  # type: ignore[no-untyped-call]
    return jar


@functools.lru_cache(maxsize=256)
def _encoding(content_type: str) -> str | None:
    return get_encoding_from_headers(CaseInsensitiveDict({"content-type": content_type}))


_MAKERS: dict[str, Callable[[Response, Made], Any]] = {
    "raw": _raw,
    "headers": _headers,
    "encoding": lambda _response, made: _encoding(", ".join(made.answer.headers.get_all("content-type") or ())),
    "history": lambda _response, _made: [],
    "cookies": _cookies,
    "elapsed": lambda _response, made: dt.timedelta(seconds=made.elapsed),
    "request": lambda _response, made: prepared(made),
}


def length_is_sane(answer: http.client.HTTPResponse, names: list[str], limit: int | None) -> None:
    """Refuse, before the body is read, an answer that has two lengths, or one that is too long."""
    length: int | None = answer.length
    if length is not None and limit is not None and length > limit:
        raise TooLongError
    if "content-length" not in names or (names.count("content-length") == 1 and length is not None):
        return
    values = {value.strip() for text in answer.headers.get_all("content-length") or () for value in text.split(",")}
    if len(values) > 1 and not getattr(answer, "chunked", False):
        raise urllib3.exceptions.InvalidHeader("Content-Length contained multiple unmatching values")


def decoded(content: bytes, encoding: str | None, watch: Watch) -> bytes:
    """
    The body, decoded.

    Raises:
        TooLongError: It is longer than the limit.
        TimeoutError: The total time is over.
        urllib3.exceptions.DecodeError: It cannot be decoded.
    """
    limit = watch.limit
    if encoding == "gzip":
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        parts: list[bytes] = []
        size, rest, more = 0, content, True
        try:
            while more:
                part = inflater.decompress(rest, _STEP)
                parts.append(part)
                size += len(part)
                if limit is not None and size > limit:
                    raise TooLongError
                rest = inflater.unconsumed_tail
                more = not inflater.eof and (len(part) == _STEP or bool(rest))
                if more:
                    watch.look()
        except zlib.error:
            pass
        if inflater.eof and not inflater.unused_data:
            return b"".join(parts)
    # Everything else, and whatever is unusual about it, is urllib3's.
    raw = urllib3.HTTPResponse(
        body=io.BytesIO(content), headers={"content-encoding": encoding or ""}, preload_content=False
    )
    chunks: list[bytes] = []
    size = 0
    for chunk in raw.stream(_CHUNK, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if limit is not None and size > limit:
            raise TooLongError
        watch.look()
    return b"".join(chunks)
