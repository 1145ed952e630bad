"""How fast one channel may send: a token bucket on the monotonic clock, with a share kept for CRITICAL. Pure."""

from __future__ import annotations

from hireliab.monitoring.alert import AlertLevel
from hireliab.monitoring.alert_channels import Rate

CRITICAL_SHARE = 0.3
"""Share of the tokens that only CRITICAL may take. Source: alerts-and-bus.md R11."""


class TokenBucket:
    """
    Tokens that come back evenly over a minute; it starts full.

    Args:
        rate: What the service takes; None: no limit.
        now: Monotonic seconds.
    """

    def __init__(self, rate: Rate | None, now: float) -> None:
        self._per_second = 0.0 if rate is None else rate.per_minute / 60.0
        self._size = 0.0 if rate is None else max(1.0, rate.per_minute)
        self._gap = 0.0 if rate is None else rate.gap
        self._tokens = self._size
        self._at = now
        self._next = now

    def wait(self, level: AlertLevel, now: float) -> float:
        """Seconds until a message of this level may be sent; 0 means now."""
        if not self._per_second:
            return 0.0
        self._refill(now)
        reserve = 0.0 if level is AlertLevel.CRITICAL else min(self._size - 1.0, self._size * CRITICAL_SHARE)
        missing = max(0.0, 1.0 + reserve - self._tokens)
        # A thousandth of a token is forgiven: the rounding of a sleep must not make another one.
        return max(missing / self._per_second if missing > 0.001 else 0.0, self._next - now)

    def take(self, now: float) -> None:
        """Count one message."""
        if self._per_second:
            self._refill(now)
            self._tokens = max(0.0, self._tokens - 1.0)
            self._next = now + self._gap

    def _refill(self, now: float) -> None:
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._at) * self._per_second)
        self._at = now
