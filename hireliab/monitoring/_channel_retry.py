"""When a message is tried again, for how long, and when a channel rests. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from hireliab.monitoring.alert import AlertLevel

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Bounds of the pause between two attempts; it doubles. Source: alerts-and-bus.md R6."""

DEFAULT_LIMIT_PAUSE = 30.0
"""Seconds of rest when a service limits the rate and does not say for how long."""
LONGEST_LIMIT_PAUSE = 3600.0
"""Most seconds of rest, whatever a service asks for."""
PROBE_EVERY = 600.0
"""Seconds between two attempts at a channel that a person must mend."""

TIME_TO_LIVE: Mapping[AlertLevel, float] = MappingProxyType(
    {
        AlertLevel.DEBUG: 300.0,
        AlertLevel.INFO: 300.0,
        AlertLevel.WARNING: 1800.0,
        AlertLevel.ERROR: 6 * 3600.0,
        AlertLevel.CRITICAL: 72 * 3600.0,
    }
)
"""Seconds after which a message is too old to be sent."""


def backoff(attempt: int, draw: Callable[[], float] | None = None) -> float:
    """
    Seconds until the next attempt: full jitter below a bound that doubles.

    Args:
        attempt: How many have failed, from 1 on.
        draw: From 0 up to 1; None: at random.
    """
    share = random.random() if draw is None else draw()
    # At least a tenth: a run of small draws must not become a hot loop.
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 30)) * (0.1 + 0.9 * share)


def limit_pause(after: float | None) -> float:
    """Seconds of rest for a service that limits the rate; what it asks for, within reason."""
    if after is None or not after >= 0.0:  # also NaN
        return DEFAULT_LIMIT_PAUSE
    return min(LONGEST_LIMIT_PAUSE, max(FIRST_PAUSE, after))
