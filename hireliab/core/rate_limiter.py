"""
`RateLimiter`: never more than `limit` in any window of `per` seconds, for all threads together.

It keeps the exact time of every admission. Exchanges count in windows, and a token bucket lets nearly twice its
limit through one (a full bucket, then what flows in), which is why this is none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import threading
from collections import deque
from collections.abc import Iterable
from operator import attrgetter

from hireliab.core import config
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ConfigError, RateLimitedError

__all__ = ["RateLimiter", "RateLimiterStats", "Token"]

_NORMAL = "normal"
_RESERVED = "reserved"

# Seconds. A wait that is too short for the clock's float would return at once without any time having passed.
_SHORTEST_WAIT = 1e-6


class Token:
    """One admission; `RateLimiter.give_back` takes it if the request did not go out."""

    __slots__ = ("lane", "leaves", "weight")

    def __init__(self, leaves: float, weight: int, lane: str) -> None:
        self.leaves = leaves  # the clock's reading at which it is out of every window
        self.weight = weight
        self.lane = lane


class _Waiter:
    """One thread inside `acquire`."""

    def __init__(self, weight: int, lane: str, lock: threading.Lock) -> None:
        self.weight = weight
        self.lane = lane
        self.condition = threading.Condition(lock)  # the limiter's lock: each waiter is woken alone
        self.woken = False


@dataclasses.dataclass(frozen=True)
class RateLimiterStats:
    """
    One consistent look at a limiter.

    Attributes:
        name: The limiter's name.
        used: Weight in the present window; after a `preload` it may exceed the limit.
        limit: Most weight in one window.
        per: Seconds of the window.
        waiting: Threads that wait in `acquire`.
        blocked_for: Seconds until a penalty ends, else 0.0.
    """

    name: str
    used: int
    limit: int
    per: float
    waiting: int
    blocked_for: float


class RateLimiter:
    """
    Admits at most `limit` of weight in any window of `per` seconds.

    Thread-safe. Each lane is first come, first served, whatever the weights; the reserved lane goes before the
    normal one. Callers that would have to wait longer than their timeout are refused at once. Not for signal
    handlers: they may run on a thread that holds the limiter's lock.

    The time that counts is that of the admission. A venue counts arrivals, and requests may travel at different
    speeds, so ask for a little less than the venue allows.

    Args:
        name: For errors and stats.
        limit: Most weight in one window, a whole number of at least 1.
        per: Seconds of the window, more than 0.
        reserved: Share of the limit, from 0 to below 1, that only the lane "reserved" may use.
        clock: Where the time comes from.

    Raises:
        ConfigError: A setting is out of range.
    """

    def __init__(
        self, *, name: str, limit: int, per: float, reserved: float = 0.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.name = config.text("name", name)
        self.limit = config.whole("limit", limit, low=1)
        self.per = config.number("per", per, above=0)
        share = config.number("reserved", reserved, low=0, high=1)
        # The tiny addition undoes binary rounding: 10 * (1 - 0.9) is 0.9999999999999998.
        self._normal_limit = math.floor(self.limit * (1 - share) + 1e-9)
        if self._normal_limit < 1:
            raise ConfigError(
                f"rate limiter {name!r}: reserved={reserved!r} of {limit!r} leaves nothing to the normal lane",
                setting="reserved",
                value=reserved,
                allowed="a share that leaves at least 1",
            )
        self._clock = clock
        self._lock = threading.Lock()  # guards everything below
        self._log: deque[Token] = deque()  # admissions still in the window, in the order in which they leave it
        self._used = {_NORMAL: 0, _RESERVED: 0}
        self._queues: dict[str, deque[_Waiter]] = {_RESERVED: deque(), _NORMAL: deque()}  # in order of precedence
        self._blocked_until = -math.inf

    def acquire(self, weight: int = 1, *, timeout: float | None = 0.0, lane: str = _NORMAL) -> Token:
        """
        Wait for room, and take it.

        Args:
            weight: What the request costs, a whole number of at least 1.
            timeout: Seconds to wait at most; 0 does not wait, None waits without limit.
            lane: "normal", or "reserved" for what must get through, such as cancelling.

        Returns:
            The token, for `give_back`.

        Raises:
            RateLimitedError: There is no room in time; nothing was taken. Raised as soon as that is clear.
            ConfigError: The weight is more than the lane may ever use, or a value is out of range.
        """
        config.whole("weight", weight, low=1)
        config.choice("lane", lane, (_NORMAL, _RESERVED))
        patience = config.number_or_none("timeout", timeout, low=0)
        most = self.limit if lane == _RESERVED else self._normal_limit
        if weight > most:
            raise ConfigError(
                f"rate limiter {self.name!r}: weight {weight} is more than the {most} that the {lane} lane has in"
                f" {self.per:g} s; it would wait for ever",
                setting="weight",
                value=weight,
                allowed=f"1 to {most}",
            )
        waiter = _Waiter(int(weight), lane, self._lock)
        queue = self._queues[lane]
        with self._lock:
            deadline = math.inf if patience is None else self._clock.monotonic() + patience
            try:
                queue.append(waiter)
                while True:
                    # Read with the lock held: an older time would let this admission leave the window too early.
                    now = self._clock.monotonic()
                    due = self._due_locked(waiter, now)
                    if due <= now:
                        return self._admit_locked(waiter, now)
                    if due > deadline:
                        raise RateLimitedError(
                            f"rate limiter {self.name!r}: {self._total_locked()} of {self.limit} used in"
                            f" {self.per:g} s, room in {due - now:.3f} s; try again then",
                            retry_after=due - now,
                        )
                    # Behind others, wait to be woken by the one in front, who leaves at its time or earlier.
                    until = due if self._next_locked() is waiter else deadline
                    waiter.woken = False
                    self._clock.wait_for(
                        waiter.condition,
                        lambda: waiter.woken,
                        None if until == math.inf else max(until - now, _SHORTEST_WAIT),
                    )
            finally:
                # Admitted, refused or interrupted: the next in line must look again.
                with contextlib.suppress(ValueError):  # Ctrl-C may come before it was appended
                    queue.remove(waiter)
                self._wake_next_locked()

    def penalize(self, seconds: float) -> None:
        """
        Admit nobody for this long: the server said so (429, Retry-After, backOff).

        Args:
            seconds: From now, at least 0. A running penalty that ends later stays.
        """
        seconds = config.number("seconds", seconds, low=0)
        with self._lock:
            self._blocked_until = max(self._blocked_until, self._clock.monotonic() + seconds)
            # All of them: those that cannot be served in time any more are refused now.
            for waiter in itertools.chain(*self._queues.values()):
                self._wake_locked(waiter)

    def give_back(self, token: Token) -> None:
        """
        Undo an admission whose request provably did not go out; a second time, or too late, does nothing.

        Args:
            token: What this limiter's `acquire` returned.
        """
        with self._lock:
            try:
                self._log.remove(token)
            except ValueError:
                return  # given back before, or out of the window
            self._used[token.lane] -= token.weight
            self._wake_next_locked()

    def preload(self, ages: Iterable[float]) -> None:
        """
        Enter requests that were sent before this limiter existed, each with weight 1 in the normal lane.

        Args:
            ages: Seconds since each was sent. Below zero, after a step of the wall clock, counts as now.
        """
        checked = [max(0.0, config.number("ages", age)) for age in ages]
        with self._lock:
            now = self._clock.monotonic()
            self._enter_locked([Token(now - age + self.per, 1, _NORMAL) for age in checked])

    def fill(self, share: float) -> None:
        """
        Start with this share of both lanes used, as if it had been sent just now: what was sent is not known.

        Args:
            share: From 0 to 1.
        """
        share = config.number("share", share, low=0, high=1)
        with self._lock:
            leaves = self._clock.monotonic() + self.per
            amounts = {_NORMAL: self._normal_limit, _RESERVED: self.limit - self._normal_limit}
            filled = {lane: math.ceil(amount * share - 1e-9) for lane, amount in amounts.items()}
            self._enter_locked([Token(leaves, weight, lane) for lane, weight in filled.items() if weight])

    def stats(self) -> RateLimiterStats:
        """One consistent look at the window, the queue and the penalty."""
        with self._lock:
            now = self._clock.monotonic()
            self._expire_locked(now)
            return RateLimiterStats(
                name=self.name,
                used=self._total_locked(),
                limit=self.limit,
                per=self.per,
                waiting=sum(map(len, self._queues.values())),
                blocked_for=max(0.0, self._blocked_until - now),
            )

    def _total_locked(self) -> int:
        return sum(self._used.values())

    def _expire_locked(self, now: float) -> None:
        while self._log and self._log[0].leaves <= now:
            token = self._log.popleft()
            self._used[token.lane] -= token.weight

    def _enter_locked(self, tokens: list[Token]) -> None:
        self._log = deque(sorted((*self._log, *tokens), key=attrgetter("leaves")))
        for token in tokens:
            self._used[token.lane] += token.weight
        self._wake_next_locked()

    def _admit_locked(self, waiter: _Waiter, now: float) -> Token:
        token = Token(now + self.per, waiter.weight, waiter.lane)
        self._log.append(token)
        self._used[waiter.lane] += waiter.weight
        return token

    def _next_locked(self) -> _Waiter | None:
        return next(itertools.chain(*self._queues.values()), None)

    def _wake_next_locked(self) -> None:
        waiter = self._next_locked()
        if waiter is not None:
            self._wake_locked(waiter)

    def _wake_locked(self, waiter: _Waiter) -> None:
        waiter.woken = True
        waiter.condition.notify()

    def _due_locked(self, waiter: _Waiter, now: float) -> float:
        """
        The time at which this waiter will be admitted if nothing changes: everybody before it goes first.

        The future is played through: those in front are admitted as soon as each fits, and leave the window later
        than everything that is in it now.
        """
        self._expire_locked(now)
        due = max(now, self._blocked_until)
        used = dict(self._used)
        played: list[Token] = []
        leaving = itertools.chain(self._log, played)
        for other in itertools.chain(*self._queues.values()):
            while not self._fits(other, used):
                gone = next(leaving)
                used[gone.lane] -= gone.weight
                due = max(due, gone.leaves)
            if other is waiter:
                return due
            played.append(Token(due + self.per, other.weight, other.lane))
            used[other.lane] += other.weight
        raise AssertionError("bug: the waiter is in no queue")

    def _fits(self, waiter: _Waiter, used: dict[str, int]) -> bool:
        if waiter.lane == _NORMAL and used[_NORMAL] + waiter.weight > self._normal_limit:
            return False
        return sum(used.values()) + waiter.weight <= self.limit
