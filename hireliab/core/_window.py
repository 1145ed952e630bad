"""
Counts of the last so-many seconds, for which a good call needs no lock.

A good call is one step of an `itertools.count`, which is atomic with and without the interpreter's lock. Everything
else happens with the owner's lock held.
"""

from __future__ import annotations

import itertools
from collections import deque

_BUCKETS = 10


class Tally:
    """
    A count that threads raise without a lock.

    Attributes:
        steps: ``next(tally.steps)`` counts one; what it returns means nothing.
    """

    __slots__ = ("_looks", "steps")

    def __init__(self) -> None:
        self.steps = itertools.count()
        self._looks = 0  # how often `look` itself counted

    def look(self) -> int:
        """The count. With the owner's lock held; a signal handler that looks, too, may make it one too high, once."""
        count = next(self.steps) - self._looks
        self._looks += 1
        return count


class _Bucket:
    """A tenth of the window."""

    __slots__ = ("bad", "calls", "failed", "number", "slow")

    def __init__(self, number: int) -> None:
        self.number = number  # counted from the window's origin
        self.calls = Tally()  # the good ones that were quick
        self.bad = 0  # the others: each failed, was slow, or both
        self.failed = 0
        self.slow = 0


class Window:
    """
    Calls, failures and slow calls of the last `seconds`, counted in tenths: between 0.9 and 1.0 of the window.

    Args:
        seconds: Length, more than 0.
        now: The clock's reading.

    Attributes:
        good: ``next(window.good)`` counts one good, quick call; needs no lock.
        turn: The clock's reading from which on `advance` must be called before that.
    """

    __slots__ = ("_buckets", "_origin", "_width", "good", "turn")

    def __init__(self, seconds: float, now: float) -> None:
        self._origin = now
        self._width = seconds / _BUCKETS
        bucket = _Bucket(0)
        self._buckets = deque([bucket])  # oldest first; the last one is the present one
        self.good = bucket.calls.steps
        self.turn = now + self._width

    def advance(self, now: float) -> None:
        """Begin a new bucket if it is time, and drop those that left the window."""
        number = int((now - self._origin) / self._width)
        buckets = self._buckets
        # A thread that read the clock before another began a bucket counts in the newer one.
        if number > buckets[-1].number:
            bucket = _Bucket(number)
            buckets.append(bucket)
            while buckets[0].number <= number - _BUCKETS:
                buckets.popleft()
            # Thread A may look at `turn` before these lines and count after them: its call, which ended a
            # moment before the turn, counts as one that ended a moment after it.
            self.good = bucket.calls.steps
            self.turn = self._origin + (number + 1) * self._width

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count one call of any kind."""
        self.advance(now)
        if not failed and not slow:
            next(self.good)
            return
        bucket = self._buckets[-1]
        bucket.bad += 1
        bucket.failed += failed
        bucket.slow += slow

    def totals(self, now: float) -> tuple[int, int, int]:
        """Calls, failures and slow calls."""
        self.advance(now)
        buckets = self._buckets
        return (
            sum(bucket.calls.look() + bucket.bad for bucket in buckets),
            sum(bucket.failed for bucket in buckets),
            sum(bucket.slow for bucket in buckets),
        )
