"""
The response: a `requests.Response` that bounds what it collects and says how a broken body ended.

On the fast path most of its attributes are made when somebody looks at them; which is why they are missing from
`vars(response)` until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import requests

from hireliab.exchange import _json
from hireliab.exchange._http_errors import CONNECTION, translate
from hireliab.exchange._http_wire import TooLongError, Watch

_CHUNK = 65536


class Response(requests.Response):
    """See `requests.Response`."""

    _watch: Watch | None = None
    _content: Any
    _content_consumed: bool

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
        if self.request.method != "HEAD" and length.isdecimal() and int(length) > limit:
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
        raise self._translated(TooLongError())

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        """See requests. With ``stream=True`` the total limit still holds, and the limit of bytes does not."""
        chunks = super().iter_content(chunk_size, decode_unicode)
        return chunks if self._watch is None or self._content_consumed else self._guarded(chunks)

    def _guarded(self, chunks: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from chunks
        except CONNECTION as error:
            made = self._translated(error)
            if made is error:
                raise
            raise made from made.__cause__

    def _translated(self, error: BaseException) -> BaseException:
        return translate(error, self._watch, self.request.method or "", str(self.request.url), request=self.request)

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


_UTF_8 = (None, "utf-8", "UTF-8", "utf8")
