"""
`Bulkhead`: at most so many calls at once, and at most so many waiting.

A slow exchange then holds a bounded number of threads instead of all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from hireliab.core import config
from hireliab.core._threads import renew_after_fork
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.core.deadline import bounded, check
from hireliab.errors import BulkheadFullError, ConfigError

__all__ = ["Bulkhead", "BulkheadPermit", "BulkheadStats"]

P = ParamSpec("P")
R = TypeVar("R")


class BulkheadPermit:
    """One place; `release` gives it back, once, whichever thread calls it. Also a context manager."""

    __slots__ = ("_bulkhead",)

    def __init__(self, bulkhead: Bulkhead) -> None:
        self._bulkhead: Bulkhead | None = bulkhead

    def release(self) -> None:
        """Give the place back; a second time does nothing."""
        bulkhead, self._bulkhead = self._bulkhead, None
        if bulkhead is not None:
            bulkhead._give()

    def __enter__(self) -> BulkheadPermit:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()


class _Waiter:
    """One thread that may have to wait."""

    __slots__ = ("condition", "granted")

    condition: threading.Condition  # with the bulkhead's lock: each waiter is woken alone; in the queue, all have one

    def __init__(self) -> None:
        self.granted = False  # it has a place


@dataclasses.dataclass(frozen=True)
class BulkheadStats:
    """
    One consistent look at a bulkhead.

    Attributes:
        name: The bulkhead's name.
        running: Places taken.
        waiting: Threads in the queue.
        refused: Calls refused since the start, for want of a place or of time.
        max_concurrent: All places.
    """

    name: str
    running: int
    waiting: int
    refused: int
    max_concurrent: int


class Bulkhead:
    """
    Lets at most `max_concurrent` calls run at once.

    Thread-safe; no lock is held while a call runs. Those who wait are served in the order in which they came, and
    nobody overtakes them: a place that becomes free is handed to the first in the queue. A wait ends with the
    deadline in force, if that comes first. A thread that enters twice takes two places.

    Args:
        name: For errors and stats.
        max_concurrent: Calls at once, at least 1.
        max_waiting: Callers that may wait for a place, at least 0; the next one is refused at once.
        max_wait: Seconds that a caller waits at most. Above 0 if and only if `max_waiting` is.
        clock: Where the time comes from.

    Raises:
        ConfigError: A setting is out of range, or one of `max_waiting` and `max_wait` is 0 and the other is not.
    """

    def __init__(
        self,
        *,
        name: str,
        max_concurrent: int,
        max_waiting: int = 0,
        max_wait: float = 0.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = config.text("name", name)
        self.max_concurrent = config.whole("max_concurrent", max_concurrent, low=1)
        self.max_waiting = config.whole("max_waiting", max_waiting, low=0)
        self.max_wait = config.number("max_wait", max_wait, low=0)
        if bool(self.max_waiting) != bool(self.max_wait):
            raise ConfigError(
                f"bulkhead {name!r}: max_waiting={max_waiting!r} with max_wait={max_wait!r} lets nobody wait; give both,"
                " or neither",
                setting="max_wait",
                value=max_wait,
                allowed="above 0 if and only if max_waiting is",
            )
        self._clock = clock
        # Guards everything below. Re-entrant, because a signal handler or a finaliser may call a guarded function on
        # the thread that is inside; a plain lock would never be released.
        self._lock = threading.RLock()
        self._running = 0
        self._refused = 0
        self._queue: deque[_Waiter] = deque()  # not empty only while all places are taken
        renew_after_fork(self)

    def __repr__(self) -> str:
        return f"<Bulkhead {self.name!r} {self._running} of {self.max_concurrent}>"

    def acquire(self) -> BulkheadPermit:
        """
        Take a place, waiting for one if that is allowed.

        Returns:
            The permit; `release` it when the call has ended, however it did.

        Raises:
            BulkheadFullError: No place, and none became free in time.
            DeadlineExceededError: No place, and the deadline in force has passed.
        """
        permit = BulkheadPermit(self)  # made first: between taking the place and returning nothing may fail
        self._take()
        return permit

    def execute(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Call `func` in a place of its own; its exception passes through untouched.

        Raises:
            BulkheadFullError: No place; `func` was not called.
            DeadlineExceededError: The deadline passed while waiting; `func` was not called.
            ConfigError: `func` is a generator or async function; it was not called.
        """
        config.blocking_function(f"bulkhead {self.name!r}", func)
        with self:
            return func(*args, **kwargs)

    def __call__(self, func: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function: ``@bulkhead``."""
        if isinstance(func, staticmethod | classmethod):
            return cast("Callable[P, R]", type(func)(self(func.__func__)))
        config.decorable(f"bulkhead {self.name!r}", func)

        @functools.wraps(func)
        def guarded(*args: Any, **kwargs: Any) -> R:
            with self:
                return func(*args, **kwargs)

        return guarded

    def __enter__(self) -> None:
        self._take()

    def __exit__(self, *_error: object) -> None:
        self._give()

    def stats(self) -> BulkheadStats:
        """One consistent look at places and queue."""
        with self._lock:
            return BulkheadStats(self.name, self._running, len(self._queue), self._refused, self.max_concurrent)

    def renew_in_child(self) -> None:
        """Start empty in a forked child: the parent's other threads, who held places, are not here."""
        self._lock = threading.RLock()
        self._running = 0
        self._queue = deque()

    # -- machinery --------------------------------------------------------------------------------------------

    def _take(self) -> None:
        taken = False
        waiter = None
        try:
            with self._lock:
                if self._running < self.max_concurrent:
                    self._running += 1
                    taken = True
                    return
            what = f"bulkhead {self.name!r}"
            timeout = bounded(self.max_wait) or 0.0
            waiter = _Waiter()
            with self._lock:
                if self._taken_locked(waiter, timeout):
                    return
                self._refused += 1
                running, waiting = self._running, len(self._queue)
        except BaseException:
            # Ctrl-C, also where the lock was let go of. A place handed to this thread at the last moment goes on.
            if taken or (waiter is not None and waiter.granted):
                self._give()
            raise
        check(what)
        raise BulkheadFullError(
            f"{what}: {running} of {self.max_concurrent} running and {waiting} of {self.max_waiting} waiting, the call"
            " was not made; try again later"
        )

    def _taken_locked(self, waiter: _Waiter, timeout: float) -> bool:
        """Whether a place was had, now or within `timeout` seconds."""
        if self._running < self.max_concurrent:  # freed since the first look
            self._running += 1
            waiter.granted = True
            return True
        if timeout <= 0 or len(self._queue) >= self.max_waiting:
            return False
        waiter.condition = condition = threading.Condition(self._lock)
        try:
            self._queue.append(waiter)
            self._clock.wait_for(condition, lambda: waiter.granted, timeout)
        finally:
            with contextlib.suppress(ValueError):  # it was granted, and so taken out of the queue
                self._queue.remove(waiter)
        # Looked at with the lock held, as the one who grants does: thread A's time may be over while thread B hands
        # it the place; whoever has the lock first decides, and the place is never lost between the two.
        return waiter.granted

    def _give(self) -> None:
        with self._lock:
            if not self._running:
                return  # in a forked child, a permit of the parent came back
            if self._queue:
                # Handed over and not freed: a newcomer cannot take it first.
                waiter = self._queue.popleft()
                waiter.granted = True
                waiter.condition.notify()
            else:
                self._running -= 1
