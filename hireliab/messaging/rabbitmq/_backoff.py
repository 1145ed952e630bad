"""When a connection, or a subscription's channel, is tried again: by the kind of its failure. Pure but for chance."""

from __future__ import annotations

import random

FIRST_PAUSE = 0.5
"""Seconds of which the first pause is at most as long; it doubles with each failure."""
LONGEST_PAUSE = 30.0
"""Most seconds between two tries after a failure that may pass by itself."""
REFUSED_PAUSE = 60.0
"""Most seconds between two tries after a refusal, such as of a password: asking more often changes nothing."""


class Backoff:
    """Pauses with full jitter, so that many bots do not return to a broker in step. Its owner's thread's own."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    def pause(self, *, refused: bool, lasted: float = 0.0) -> float:
        """
        Seconds until the next try.

        What had worked for at least as long as the pause before it, and a second, is held to have recovered: a broker that
        restarts now and then is back at once, and one that never stays is not bothered.

        Args:
            refused: Whether the other side said no, rather than nothing.
            lasted: Seconds that it had worked before it failed.
        """
        if refused:
            return self._rng.uniform(REFUSED_PAUSE / 2, REFUSED_PAUSE)
        longest = self._longest()
        if lasted >= max(1.0, longest):
            self._failures = 0
            longest = self._longest()
        self._failures += 1
        return self._rng.uniform(0.0, longest)

    def _longest(self) -> float:
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures, 10))
