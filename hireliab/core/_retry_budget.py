"""`RetryBudget`: bounds the retries of all callers of one target together. Part of retry.py, which exports it."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

from hireliab.core import config
from hireliab.core._threads import renew_after_fork
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RetryBudgetStats:
    """
    One consistent look at a budget. One that stays empty, or never refuses in an outage, is set wrong.

    Attributes:
        target: What is protected.
        tokens: Retries that could be made now.
        capacity: Retries in a full bucket.
        granted: Retries made since the start.
        refused: Retries not made for want of budget.
    """

    target: str
    tokens: float
    capacity: float
    granted: int
    refused: int


class RetryBudget:
    """
    Bounds how many retries a target gets from all its callers together, so that an outage is not made worse.

    A bucket of retries. Each retry takes one; each success puts `per_success` in, and time puts `per_minute` in, so
    that a caller of little traffic can retry too. When it is empty, the original error comes out at once. In any span
    of time at most ``capacity + per_success * successes + per_minute * minutes`` retries are made.

    Thread-safe. While the bucket is full, a success costs one comparison.

    Args:
        target: What is protected, such as the venue's name; for logs and stats.
        capacity: Retries in a full bucket, at least 1. It starts full.
        per_success: What a success puts in, from 0 to 1.
        per_minute: What a minute puts in, at least 0.
        clock: Where the time comes from.

    Raises:
        ConfigError: A setting is out of range.

    Source: the retry quota of the AWS SDKs (botocore, standard mode), with Finagle's share of successes.
    """

    def __init__(
        self,
        *,
        target: str,
        capacity: float = 20.0,
        per_success: float = 0.2,
        per_minute: float = 3.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.target = config.text("target", target)
        self.capacity = config.number("capacity", capacity, low=1)
        self.per_success = config.number("per_success", per_success, low=0, high=1)
        self.per_minute = config.number("per_minute", per_minute, low=0)
        self._clock = clock
        # Guards everything below. Re-entrant, because a signal handler or a finaliser may make a call of its own.
        self._lock = threading.RLock()
        self._tokens = self.capacity
        self._filled = clock.monotonic()  # until then, time has been paid for
        self._granted = 0
        self._refused = 0
        renew_after_fork(self)

    @classmethod
    def shared(cls, target: str, **settings: Any) -> RetryBudget:
        """
        The process's budget of this target, made on first use.

        Args:
            target: The target's name.
            settings: As for `RetryBudget`; those given must equal the ones it was made with.

        Raises:
            ConfigError: A setting is wrong, or differs from that of the existing budget.
        """
        config.refuse_unknown(settings, _SETTINGS, where=f"retry budget {config.shown(target)}")
        candidate = cls(target=target, **settings)
        budget = _shared.setdefault(target, candidate)  # one step of the dictionary's: no lock that a fork may copy
        for setting in settings:
            name = "_clock" if setting == "clock" else setting
            have, want = getattr(budget, name), getattr(candidate, name)
            if have != want:
                raise ConfigError(
                    f"retry budget {target!r}: {setting} is {have!r} already, got {want!r}; use one value",
                    setting=setting,
                    value=want,
                    allowed=repr(have),
                )
        return budget

    def take(self) -> bool:
        """Take one retry; whether there was one."""
        now = self._clock.monotonic()
        with self._lock:
            self._fill_locked(now)
            # The hair undoes binary rounding: five times 0.2 must be one.
            if self._tokens < 1 - 1e-9:
                self._refused += 1
                return False
            self._tokens = max(0.0, self._tokens - 1)
            self._granted += 1
            return True

    def earn(self) -> None:
        """Enter a success."""
        # Without the lock: thread A may see a full bucket that thread B is about to take from. That success is not
        # counted, which errs on the side of fewer retries.
        if self._tokens < self.capacity:
            with self._lock:
                self._tokens = min(self.capacity, self._tokens + self.per_success)

    def stats(self) -> RetryBudgetStats:
        """One consistent look at the bucket."""
        now = self._clock.monotonic()
        with self._lock:
            self._fill_locked(now)
            return RetryBudgetStats(self.target, self._tokens, self.capacity, self._granted, self._refused)

    def renew_in_child(self) -> None:
        """Take a lock of its own in a forked child, where nobody would release the parent's."""
        self._lock = threading.RLock()

    def _fill_locked(self, now: float) -> None:
        # Two threads may come with their readings in the other order: the older one pays nothing.
        passed = max(0.0, now - self._filled)
        self._filled += passed
        self._tokens = min(self.capacity, self._tokens + passed * self.per_minute / 60.0)


_SETTINGS = ("capacity", "per_success", "per_minute", "clock")
_shared: dict[str, RetryBudget] = {}
