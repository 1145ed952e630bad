"""
What users test their bots with: `FakeClock` for time, `ScriptedExchange` for an exchange in memory, `FaultyBus` for a
message bus that loses, repeats and delays.

Nothing here sleeps for a reason of its own. Real time appears once, as a cap that turns a hang into a failure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hireliab._testing_bus import FaultyBus
from hireliab._testing_exchange import ScriptedExchange

__all__ = ["HANG_CAP", "FakeClock", "FaultyBus", "ScriptedExchange"]

HANG_CAP = 30.0
"""Real seconds after which a wait on a FakeClock that nobody advances is called a hang."""


class _Waiter:
    """One thread inside `FakeClock.wait_for` or `FakeClock.acquire`."""

    def __init__(
        self, deadline: float | None, condition: threading.Condition | None, predicate: Callable[[], bool]
    ) -> None:
        self.thread = threading.current_thread().name
        self.deadline = deadline
        self.condition = condition
        self.predicate = predicate


class FakeClock:
    """
    A `Clock` that stands still until `advance()`, for code that uses real threads.

    A thread that waits on it is *parked*. A test starts its threads, calls `wait_parked(n)`, then `advance(s)`:
    those whose deadline has passed go on, in real threads and with real locks, and the next `wait_parked` tells
    when they have come to rest again.

    Args:
        start: First value of `monotonic()`.
        wall: First value of `time()`; `advance` moves both, `step_wall` only this one.
    """

    def __init__(self, *, start: float = 1000.0, wall: float = 1_760_000_000.0) -> None:
        self._lock = threading.Lock()  # guards _now, _wall and _waiters; taken inside a waiter's condition
        self._now = start
        self._wall = wall
        self._waiters: set[_Waiter] = set()

    def monotonic(self) -> float:
        """The clock's seconds."""
        return self._now

    def time(self) -> float:
        """The clock's Unix seconds."""
        return self._wall

    def step_wall(self, seconds: float) -> None:
        """Step only the wall clock, as NTP or an operator does."""
        with self._lock:
            self._wall += seconds

    def advance(self, seconds: float) -> None:
        """Move both clocks and wake every thread whose deadline has passed."""
        if seconds < 0:
            raise ValueError(f"FakeClock.advance: seconds must be at least 0, got {seconds}")
        with self._lock:
            self._now += seconds
            self._wall += seconds
            due = [w for w in self._waiters if w.deadline is not None and w.deadline <= self._now]
        for waiter in due:
            # The waiter holds its condition from its look at the clock until it sleeps, so this notify cannot
            # fall between the two and be lost. _lock is not held here: the order is condition, then _lock.
            if waiter.condition is not None:
                with waiter.condition:
                    waiter.condition.notify_all()

    def next_deadline(self) -> float | None:
        """Seconds until the first parked thread is due, or None when none has a deadline."""
        with self._lock:
            deadlines = [w.deadline for w in self._waiters if w.deadline is not None]
            return None if not deadlines else max(0.0, min(deadlines) - self._now)

    def parked(self, names: tuple[str, ...] = ("",)) -> int:
        """How many threads, with names that begin so, wait now with nothing to wake them but time or a thread."""
        with self._lock:
            waiters = [waiter for waiter in self._waiters if waiter.thread.startswith(names)]
            now = self._now
        count = 0
        for waiter in waiters:
            if waiter.deadline is not None and waiter.deadline <= now:
                continue
            if waiter.condition is None:
                count += not waiter.predicate()
                continue
            with waiter.condition:  # a thread that was notified but has not woken yet is not parked
                count += waiter in self._waiters and not waiter.predicate()
        return count

    def wait_parked(self, count: int = 1) -> None:
        """
        Block until at least `count` threads are parked.

        Raises:
            AssertionError: That did not happen within 30 real seconds.
        """
        give_up = time.monotonic() + HANG_CAP
        while self.parked() < count:
            if time.monotonic() > give_up:
                raise AssertionError(f"FakeClock: {self.parked()} threads parked after {HANG_CAP} s, wanted {count}")
            time.sleep(0.0005)

    def advance_until(
        self,
        predicate: Callable[[], bool],
        *,
        limit: float = 3600.0,
        threads: tuple[str, ...] = ("hireliab.txn.", "hireliab.resolver.", "hireliab.outbox."),
    ) -> float:
        """
        Advance from deadline to deadline until the predicate holds, letting the threads come to rest in between.

        Args:
            predicate: Called by this thread.
            limit: Fake seconds at most.
            threads: Beginnings of the names of the threads whose rest is waited for.

        Returns:
            The fake seconds that passed.

        Raises:
            AssertionError: The limit was reached, or the threads did not come to rest within 30 real seconds.
        """
        start = self._now
        give_up = time.monotonic() + HANG_CAP
        while not predicate():
            names = [t.name for t in threading.enumerate() if t.name.startswith(threads)]
            if self.parked(threads) >= len(names) and not predicate():
                step = self.next_deadline()
                if step is None and time.monotonic() < give_up:
                    time.sleep(0.0002)  # time cannot help, but a thread with another name still may
                    continue
                if step is None or self._now - start + step > limit:
                    raise AssertionError(f"FakeClock: not reached in {self._now - start:g} s; threads {names}")
                self.advance(step)
                give_up = time.monotonic() + HANG_CAP
            elif time.monotonic() > give_up:
                raise AssertionError(
                    f"FakeClock: {names} did not come to rest in {HANG_CAP} s ({self.parked(threads)} parked)"
                )
            else:
                time.sleep(0.0002)
        return self._now - start

    def wait_for(
        self, condition: threading.Condition, predicate: Callable[[], bool], timeout: float | None = None
    ) -> bool:
        """See `hireliab.core.clock.Clock.wait_for`."""
        if predicate():
            return True
        deadline = None if timeout is None else self._now + timeout
        waiter = _Waiter(deadline, condition, predicate)
        give_up = time.monotonic() + HANG_CAP
        with self._lock:
            self._waiters.add(waiter)
        try:
            while not predicate():
                if deadline is not None and self._now >= deadline:
                    return False
                remaining = give_up - time.monotonic()
                if remaining <= 0:
                    raise AssertionError(f"FakeClock: nobody advanced the clock for {HANG_CAP} s (timeout {timeout})")
                condition.wait(remaining)
            return True
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def acquire(self, lock: threading.Lock, timeout: float | None = None) -> bool:
        """See `hireliab.core.clock.Clock.acquire`."""
        if lock.acquire(blocking=False):
            return True
        deadline = None if timeout is None else self._now + timeout
        waiter = _Waiter(deadline, None, lambda: not lock.locked())
        give_up = time.monotonic() + HANG_CAP
        with self._lock:
            self._waiters.add(waiter)
        try:
            # A plain lock cannot be told that fake time passed, so it is looked at every half millisecond.
            while not lock.acquire(timeout=0.0005):
                if deadline is not None and self._now >= deadline:
                    return False
                if time.monotonic() > give_up:
                    raise AssertionError(f"FakeClock: lock not released for {HANG_CAP} s (timeout {timeout})")
            return True
        finally:
            with self._lock:
                self._waiters.discard(waiter)
