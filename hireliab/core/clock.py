"""
Time, as everything in hireliab sees it: the `Clock` protocol and the real one.

Only this module imports `time`. Durations and deadlines are monotonic; the wall clock is for people and for the
exchange's timestamps, because it steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What hireliab needs of time. `hireliab.testing.FakeClock` is the other implementation."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps back. For every duration and deadline."""

    def time(self) -> float:
        """Unix seconds, UTC. For people, and for timestamps that the exchange compares."""

    def wait_for(
        self, condition: threading.Condition, predicate: Callable[[], bool], timeout: float | None = None
    ) -> bool:
        """
        Wait until the predicate holds or the time is over; the caller holds the condition's lock.

        Args:
            condition: Notified by whoever makes the predicate true.
            predicate: Evaluated with the condition's lock held, possibly by another thread; must not block.
            timeout: Seconds; None waits without limit, 0 only looks.

        Returns:
            The predicate's last value.
        """

    def acquire(self, lock: threading.Lock, timeout: float | None = None) -> bool:
        """Acquire a plain lock within `timeout` seconds (None: without limit); whether it was acquired."""


_LONGEST = threading.TIMEOUT_MAX
"""Seconds, about 292 years: a wait that is asked to be longer is an OverflowError of Python's."""


class SystemClock:
    """The machine's clocks."""

    # The function itself: a method around it would double the price of a call that a breaker or a limiter makes.
    monotonic = staticmethod(time.monotonic)

    def time(self) -> float:
        """Seconds of `time.time`."""
        return time.time()

    def wait_for(
        self, condition: threading.Condition, predicate: Callable[[], bool], timeout: float | None = None
    ) -> bool:
        """See `Clock.wait_for`."""
        return bool(condition.wait_for(predicate, None if timeout is None else min(timeout, _LONGEST)))

    def acquire(self, lock: threading.Lock, timeout: float | None = None) -> bool:
        """See `Clock.acquire`."""
        return lock.acquire(timeout=-1 if timeout is None else min(max(0.0, timeout), _LONGEST))


SYSTEM_CLOCK: Clock = SystemClock()
"""The default of every `clock=` parameter; it has no state."""
