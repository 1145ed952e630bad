"""Whether what a client's method returned still uses the client: pure, and without importing a third party."""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Callable
from typing import Any

# Responses whose body may not have been read yet, by top package and name; the answer is False when in doubt.
_UNREAD: dict[tuple[str, str], Callable[[object], bool]] = {
    ("requests", "Response"): lambda response: getattr(response, "_content_consumed", None) is False,
    ("niquests", "Response"): lambda response: getattr(response, "_content_consumed", None) is False,
    ("httpx", "Response"): lambda response: getattr(response, "is_closed", None) is False,
    ("urllib3", "BaseHTTPResponse"): lambda response: getattr(response, "closed", None) is False,
    ("http", "HTTPResponse"): lambda response: getattr(response, "fp", None) is not None,
}


_Question = Callable[[object, Any], bool]


def uses_client(client: object, result: object) -> bool:
    """
    Whether `result` needs the client after the method that returned it is over.

    True of generators, coroutines and whatever else is awaited, of the client itself, of its bound methods, and of
    HTTP responses whose body is still to be read. False of everything else, and when the result does not let itself be
    asked: a wrong "no" costs a warning, a wrong "yes" would cost its credibility.

    Args:
        client: The client whose method was called.
        result: What the method returned.
    """
    try:
        kind: Any = type(result)  # mypy does not take a type for hashable
        question = _question(kind)
        return result is client or (question is not None and question(client, result))
    except Exception:  # an odd result; the method was called, so nothing may be raised any more
        return False


@functools.lru_cache(maxsize=256)  # most clients return things of a few types, and each call asks
def _question(kind: type) -> _Question | None:
    """What to ask of results of this type; None when there is nothing to ask."""
    if issubclass(kind, types.GeneratorType | types.AsyncGeneratorType | Awaitable):
        return lambda _client, _result: True
    if issubclass(kind, functools.partial):
        return lambda client, result: uses_client(client, result.func)
    if issubclass(kind, types.MethodType | types.BuiltinMethodType):
        return lambda client, result: result.__self__ is client
    for cls in kind.__mro__:
        unread = _UNREAD.get((str(cls.__module__).partition(".")[0], cls.__name__))
        if unread is not None:
            return lambda _client, result: unread(result)
    return None
