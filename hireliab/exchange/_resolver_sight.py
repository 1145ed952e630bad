"""Sight: whether the resolver's reads of the exchange work at all; without them every verdict has to wait."""

from __future__ import annotations

from hireliab.core.clock import Clock
from hireliab.exchange._ledger import Ledger
from hireliab.exchange.adapter import ListingRead, OrderRead, Unavailable

BLIND_AFTER = 60.0
"""Seconds without one successful read while something is undecided, after which a person is told."""


class Sight:
    """
    Of the resolver's thread alone; any thread may read `is_blind`.

    Attributes:
        is_blind: Whether something is undecided, and no read has worked for `BLIND_AFTER` seconds.
    """

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._since: float | None = None  # of the first of the reads that failed without a success after it
        self._undecided = 0
        self.is_blind = False

    def saw(self, answer: OrderRead | ListingRead) -> None:
        """Take note of a read."""
        self._ledger.metrics.count_read(answer)
        if not isinstance(answer, Unavailable):
            if self.is_blind:
                self._ledger.alert("info", "The exchange can be seen again", f"{self._undecided} undecided")
            self._since, self.is_blind = None, False
        elif self._since is None:
            self._since = self._clock.monotonic()

    def watch(self, undecided: int) -> None:
        """Tell a person, once, when it is blind and so many transactions wait for it."""
        self._undecided = undecided
        if not undecided:
            self._since, self.is_blind = None, False
        elif self._since is not None and not self.is_blind:
            blind = self._clock.monotonic() - self._since
            if blind >= BLIND_AFTER:
                self.is_blind = True
                self._ledger.alert(
                    "error",
                    "Cannot see the exchange",
                    f"no read has worked for {blind:.0f} s; {undecided} transactions are undecided",
                )
