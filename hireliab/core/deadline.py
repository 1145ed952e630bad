"""
`deadline`: one shrinking time budget for everything below it.

``with deadline(5.0):`` says how long the block may take in all. Nothing is interrupted: a blocking call cannot be
stopped from outside. Instead everything below asks how much is left: hireliab's own waits are cut to it, no attempt
starts after it, and the call's timeout is ``bounded(timeout)``.

The budget belongs to the thread (it is a context variable): a new thread starts without one, unless it runs in a copy
of the context.
"""

from __future__ import annotations

import contextvars
import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

from hireliab.core import config
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import DeadlineExceededError

__all__ = ["bounded", "check", "deadline", "remaining"]

P = ParamSpec("P")
R = TypeVar("R")


# One deadline in force: how to read its clock, the reading at which it ends, and the one around it. A tuple, because
# entering is what every call of a policy pays.
_Limit: TypeAlias = tuple[Callable[[], float], float, Any]

_current: contextvars.ContextVar[_Limit | None] = contextvars.ContextVar("hireliab.deadline", default=None)


class deadline:  # noqa: N801  # used like a function: with deadline(5.0):
    """
    Give the block, or each call of the decorated function, `seconds` in all.

    The time runs from the entry. Inside another deadline the earlier end counts: a budget only shrinks. The decorated
    function is not called when nothing is left; a call that has begun is never cut short, and its late result is
    returned as any other. One object may be used again, nested and by several threads.

    Do not ``yield`` inside the block: the deadline would stay in force for whoever asked the generator.

    Args:
        seconds: From the entry, at least 0; None sets no limit of its own.
        clock: Where the time comes from.

    Raises:
        ConfigError: `seconds` is negative or no number, or the decorated function is a generator or async function.
    """

    __slots__ = ("_monotonic", "_seconds")

    def __init__(self, seconds: float | None, /, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._seconds = config.number_or_none("seconds", seconds, low=0)
        self._monotonic = clock.monotonic

    def _within(self, outer: _Limit | None) -> _Limit:
        """This one inside the one in force."""
        seconds = self._seconds
        if outer is None:
            # Without a limit too, something is entered: the exit takes off one, whatever it is.
            return self._monotonic, math.inf if seconds is None else self._monotonic() + seconds, None
        # Compared as what is left, never as instants: the two may be readings of different clocks.
        if seconds is None or outer[1] - outer[0]() <= seconds:
            return outer[0], outer[1], outer
        return self._monotonic, self._monotonic() + seconds, outer

    def __enter__(self) -> None:
        _current.set(self._within(_current.get()))

    def __exit__(self, *_error: object) -> None:
        limit = _current.get()
        if limit is not None:  # None: the exit runs in another context than the entry
            _current.set(limit[2])

    def _run(self, call: Callable[..., R], /, *args: Any) -> R:
        """Call within it; unlike the block, a Ctrl-C at any instruction leaves nothing in force."""
        outer = _current.get()
        try:
            _current.set(self._within(outer))
            return call(*args)
        finally:
            _current.set(outer)

    def __call__(self, func: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function: each of its calls gets the budget anew."""
        if isinstance(func, staticmethod | classmethod):
            return cast("Callable[P, R]", type(func)(self(func.__func__)))
        config.decorable("deadline", func)
        what = getattr(func, "__qualname__", None) or type(func).__qualname__

        @functools.wraps(func)
        def limited(*args: Any, **kwargs: Any) -> R:
            with self:
                check(what)
                return func(*args, **kwargs)

        return limited


def remaining() -> float | None:
    """Seconds that are left, 0.0 when nothing is; None without a deadline."""
    limit = _current.get()
    if limit is None:
        return None
    left = limit[1] - limit[0]()
    return None if left == math.inf else max(0.0, left)


def bounded(timeout: float | None) -> float | None:
    """
    Cut a timeout to what is left: for the HTTP client's timeout, and for any wait of your own.

    Args:
        timeout: Seconds; None means no limit.

    Returns:
        The smaller of `timeout` and what is left, at least 0.0; None when neither limits.
    """
    limit = _current.get()
    if limit is None:
        return timeout
    left = max(0.0, limit[1] - limit[0]())
    if timeout is None:
        return None if left == math.inf else left
    return min(timeout, left)


def check(what: str) -> None:
    """
    Raise unless time is left: to be asked right before something starts.

    Args:
        what: Names what is about to start, for the error's text.

    Raises:
        DeadlineExceededError: Nothing is left; what was about to start has not started.
    """
    limit = _current.get()
    if limit is None:
        return
    late = limit[0]() - limit[1]
    if late >= 0:
        raise DeadlineExceededError(
            f"{what}: the deadline passed {late:.3f} s ago, the call was not made; allow more time"
        )
