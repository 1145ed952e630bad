"""Whether what a client's method returned still uses the client: pure, and without importing a third party."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

# Responses whose body may not have been read yet, by top package and name; the answer is False when in doubt.
_UNREAD: dict[tuple[str, str], Callable[[object], bool]] = {
    ("requests", "Response"): lambda response: getattr(response, "_content_consumed", None) is False,
    ("niquests", "Response"): lambda response: getattr(response, "_content_consumed", None) is False,
    ("httpx", "Response"): lambda response: getattr(response, "is_closed", None) is False,
    ("urllib3", "BaseHTTPResponse"): lambda response: getattr(response, "closed", None) is False,
    ("http", "HTTPResponse"): lambda response: getattr(response, "fp", None) is not None,
}


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
        if result is client or inspect.isgenerator(result) or inspect.isasyncgen(result) or inspect.isawaitable(result):
            return True
        function = result.func if isinstance(result, functools.partial) else result
        if inspect.ismethod(function) or inspect.isbuiltin(function):
            return function.__self__ is client
        for cls in type(result).__mro__:
            unread = _UNREAD.get((str(cls.__module__).partition(".")[0], cls.__name__))
            if unread is not None:
                return unread(result)
    except Exception:  # an odd result; the method was called, so nothing may be raised any more
        return False
    return False
