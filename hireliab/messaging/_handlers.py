"""The threads that run a subscription's handlers, and what is said of a handler's error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from hireliab.messaging.bus import Reject


def handler_threads(
    count: int, target: Callable[[], None], *, bus: str, numbers: Iterator[int]
) -> list[threading.Thread]:
    """So many daemon threads that run it, not started yet."""
    return [
        threading.Thread(target=target, name=f"hireliab.bus.{bus}-handler-{next(numbers)}", daemon=True)
        for _ in range(count)
    ]


def start_all(threads: list[threading.Thread], *, missing: Callable[[list[threading.Thread]], None]) -> None:
    """Start them. When the system gives no more, those that were not started go to `missing`: none reports its end."""
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    except BaseException:
        missing(threads[started:])
        raise


def describe(error: BaseException) -> str:
    """The error in at most 500 characters; its `__str__` is the user's and may fail."""
    try:
        text = error.reason if isinstance(error, Reject) else f"{type(error).__name__}: {error}"
        return str(text)[:500]
    except Exception:
        return type(error).__name__
