"""When a factory that fails is tried again: pure."""

from __future__ import annotations

import math
import random

_FIRST = 0.05
"""Seconds of the first pause, at most; each failure in a row doubles it."""

_MOST = 30.0
"""Seconds of the longest pause, at most."""


class Backoff:
    """
    The pauses of one outage: exponential with full jitter, so that many bots do not come back at the same instant.

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    __slots__ = ("error", "failures", "reason", "until")

    def __init__(self) -> None:
        self.failures = 0
        """Failures in a row; 0 means that the factory works, as far as anybody knows."""
        self.until = -math.inf
        """No attempt before that instant."""
        self.reason = ""
        """The name of the last error's type."""
        self.error: BaseException | None = None
        """A copy of the last error: the traceback of the error itself would keep the frames' leases alive."""

    def failed(self, now: float, reason: str, error: BaseException | None) -> bool:
        """Count a failure; whether it is the first one of an outage."""
        self.failures += 1
        self.reason, self.error = reason, error
        # 2 ** 10 is past the limit already, and the exponent of a long outage would not fit a float.
        self.until = now + min(_MOST, _FIRST * 2.0 ** min(self.failures - 1, 10)) * random.random()
        return self.failures == 1

    def worked(self) -> bool:
        """The factory made a client; whether that ends an outage."""
        ended = self.failures > 0
        self.failures, self.until, self.error = 0, -math.inf, None
        return ended
