"""
Counters and histograms that many threads write and one snapshot reads: no third party, well under a microsecond each.

A histogram has fixed bounds, so that two of them add up and nothing grows.

Locks are re-entrant, because a signal handler may print the figures on the thread that is counting: it sees them without
the one that is being counted, or with a half of it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds for durations, in seconds."""
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Upper bounds for how many things were done at once."""


class Counter:
    """Counts things by a word."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards _counts
        self._counts: dict[str, int] = {}

    def add(self, word: str, number: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[word] = self._counts.get(word, 0) + number

    def snapshot(self) -> dict[str, int]:
        """All counts, by word."""
        with self._lock:
            counts = dict(self._counts)
        return dict(sorted(counts.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramSnapshot:
    """
    Attributes:
        bounds: Upper bounds, inclusive; what is above the last one is counted in one more place.
        counts: One more than there are bounds; not cumulative.
        count, total, most: Of everything observed.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    total: float
    most: float

    @property
    def mean(self) -> float:
        """0 when nothing was observed."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The bound below which this share of the observations lies; `most` where they lie above the last bound."""
        rank = share * self.count
        seen = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= rank:
                return min(bound, self.most)
        return self.most


class Histogram:
    """
    Counts observations by size.

    Args:
        bounds: Upper bounds in ascending order.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._lock = threading.RLock()  # guards everything below
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0
        self._most = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[place] += 1
            self._total += value
            self._most = max(self._most, value)

    def snapshot(self) -> HistogramSnapshot:
        """One consistent picture."""
        with self._lock:
            counts, total, most = tuple(self._counts), self._total, self._most
        return HistogramSnapshot(bounds=self._bounds, counts=counts, count=sum(counts), total=total, most=most)
