"""
`RateLimiter`: never more than the limit in any window of time, for all threads together.

It keeps the exact time of every admission. Exchanges count in windows, and a token bucket lets nearly twice its
limit through one (a full bucket, then what flows in), which is why this is none.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from hireliab.core import config
from hireliab.core._limiter_window import (
    NORMAL,
    RESERVED,
    Played,
    RateLimiterStats,
    Token,
    Window,
    WindowStats,
    make_windows,
)
from hireliab.core._threads import renew_after_fork
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ConfigError, RateLimitedError

__all__ = ["RateLimiter", "RateLimiterStats", "Token", "WindowStats"]

T = TypeVar("T")

# Seconds. A wait that is too short for the clock's float would return at once without any time having passed.
_SHORTEST_WAIT = 1e-6


class _Waiter:
    """One thread inside `acquire`."""

    __slots__ = ("condition", "lane", "weight", "woken")

    def __init__(self, weight: int, lane: str) -> None:
        self.weight = weight
        self.lane = lane
        self.condition: threading.Condition | None = None  # with the limiter's lock: each waiter is woken alone
        self.woken = False


class RateLimiter:
    """
    Admits at most `limit` of weight in any window of `per` seconds, or keeps several such limits at once.

    Thread-safe. Each lane is first come, first served, whatever the weights; the reserved lane goes before the
    normal one. Callers that would have to wait longer than their timeout are refused at once. The lock is held for
    moments only; who waits does not hold it. A signal handler or finaliser that interrupts the limiter in the middle of a
    change is refused with RateLimitedError, whatever it calls. A forked child starts with what the parent had used, and
    counts for itself from then on.

    The time that counts is that of the admission. A venue counts arrivals, and requests may travel at different
    speeds, so ask for a little less than the venue allows.

    Args:
        name: For errors and stats.
        limit: Most weight in one window, a whole number of at least 1.
        per: Seconds of the window, more than 0.
        limits: Instead of the two: pairs of them, each `per` once, for a call that must fit in all.
        reserved: Share of each limit, from 0 to below 1, that only the lane "reserved" may use.
        clock: Where the time comes from.

    Raises:
        ConfigError: A setting is out of range, or there are none or two forms of the limit.
    """

    def __init__(
        self,
        *,
        name: str,
        limit: int | None = None,
        per: float | None = None,
        limits: Iterable[tuple[int, float]] | None = None,
        reserved: float = 0.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = config.text("name", name)
        self._windows = make_windows(name, limit, per, limits, reserved)
        self._clock = clock
        self._monotonic = clock.monotonic
        # The most that one call may ever weigh in each lane.
        self._most = {
            NORMAL: min(window.normal for window in self._windows),
            RESERVED: min(window.limit for window in self._windows),
        }
        # Guards everything below, and what is in the windows. Re-entrant, so that a signal handler or a finaliser that
        # comes upon the thread that has it can look at `_inside`; a plain lock would never be released.
        self._lock = threading.RLock()
        self._inside = False  # somebody is in the middle of a change
        self._queues: dict[str, deque[_Waiter]] = {RESERVED: deque(), NORMAL: deque()}  # in order of precedence
        self._blocked_until = -math.inf
        renew_after_fork(self)

    def acquire(self, weight: int = 1, *, timeout: float | None = 0.0, lane: str = NORMAL) -> Token:
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
        # What nearly every call looks like is recognised quickly; the rest is checked with care.
        if (
            type(weight) is not int
            or type(timeout) is not float
            or not 0.0 <= timeout < math.inf
            or not 0 < weight <= self._most.get(lane, 0)
        ):
            timeout = self._check(weight, timeout, lane)
            weight = int(weight)
        with self._lock:
            if self._inside:
                raise self._entered_twice()
            self._inside = True
            try:
                # Read with the lock held: an older time would let this admission leave the window too early.
                now = self._monotonic()
                queues = self._queues
                if now >= self._blocked_until and not queues[RESERVED] and (lane == RESERVED or not queues[NORMAL]):
                    for window in self._windows:
                        if not window.fits(weight, lane, now):
                            break
                    else:
                        return self._admit_locked(weight, lane, now)
                return self._wait_locked(weight, lane, math.inf if timeout is None else now + timeout)
            finally:
                self._inside = False

    def _check(self, weight: int, timeout: float | None, lane: str) -> float | None:
        """Raise ConfigError for values that no call may have; the timeout as a float."""
        config.whole("weight", weight, low=1)
        config.choice("lane", lane, self._most)
        most = self._most[lane]
        if weight > most:
            raise ConfigError(
                f"rate limiter {self.name!r}: weight {weight} is more than the {most} that the {lane} lane has in"
                f" {self._tightest(lane):g} s; it would wait for ever",
                setting="weight",
                value=weight,
                allowed=f"1 to {most}",
            )
        return config.number_or_none("timeout", timeout, low=0)

    def _tightest(self, lane: str) -> float:
        return min(self._windows, key=lambda window: window.most(lane)).per

    def _wait_locked(self, weight: int, lane: str, deadline: float) -> Token:
        waiter = _Waiter(weight, lane)
        queue = self._queues[lane]
        try:
            queue.append(waiter)
            while True:
                now = self._monotonic()
                due, window = self._due_locked(waiter, now)
                if due <= now:
                    return self._admit_locked(weight, lane, now)
                if due > deadline:
                    raise RateLimitedError(
                        f"rate limiter {self.name!r}: {window.used} of {window.limit} used in"
                        f" {window.per:g} s, room in {due - now:.3f} s; try again then",
                        retry_after=due - now,
                    )
                # Until its own time, also behind others: whoever is in front wakes it when it leaves earlier, unless Ctrl-C
                # strikes just then, twice.
                waiter.woken = False
                if waiter.condition is None:  # not for those that are refused at once
                    waiter.condition = threading.Condition(self._lock)
                self._inside = False  # while the others have the lock
                try:
                    self._clock.wait_for(waiter.condition, lambda: waiter.woken, max(due - now, _SHORTEST_WAIT))
                finally:
                    self._inside = True
        finally:
            # Admitted, refused or interrupted: the next in line must look again.
            with contextlib.suppress(ValueError):  # Ctrl-C may come before it was appended
                queue.remove(waiter)
            self._wake_next_locked()

    # -- what the server says ---------------------------------------------------------------------------------

    def penalize(self, seconds: float) -> None:
        """
        Admit nobody for this long: the server said so (429, Retry-After, backOff).

        Args:
            seconds: From now, at least 0. A running penalty that ends later stays.
        """
        seconds = config.number("seconds", seconds, low=0)
        self._alone(lambda: self._block_locked(self._monotonic() + seconds))

    def pause_until(self, when: float) -> None:
        """
        Admit nobody before this moment; several limiters can be paused to the same one.

        Args:
            when: A reading of the limiter's monotonic clock. A penalty that ends later stays.
        """
        when = config.number("when", when)
        self._alone(lambda: self._block_locked(when))

    def observe(
        self,
        *,
        used: int | None = None,
        remaining: int | None = None,
        limit: int | None = None,
        per: float | None = None,
    ) -> None:
        """
        Learn from an answer how much of a window the server has counted; give `used` or `remaining`.

        It can only make the limiter more careful: what the server counts beyond our own count, because another
        process uses the same account, is entered as if it had been sent just now. An answer that counts less than
        we do may be older than our latest requests, and changes nothing.

        Args:
            used: Weight that the server has counted, at least 0.
            remaining: Weight that the server would still admit, at least 0.
            limit: The server's limit, at least 1; None: the same as ours.
            per: Seconds of the window that is meant; None only where there is but one.

        Raises:
            ConfigError: Neither or both of `used` and `remaining`, or no limit with this `per`.
        """
        if (used is None) == (remaining is None):
            raise ConfigError(
                f"rate limiter {self.name!r}: observe needs used or remaining, and not both", setting="used", value=used
            )
        known = [window for window in self._windows if per is None or window.per == per]
        if len(known) != 1:
            allowed = ", ".join(f"{window.per:g}" for window in self._windows)
            raise ConfigError(
                f"rate limiter {self.name!r}: observe: per must be one of {allowed}, got {per!r}",
                setting="per",
                value=per,
                allowed=allowed,
            )
        window = known[0]
        theirs = window.limit if limit is None else config.whole("limit", limit, low=1)
        # Where the server's limit is below ours, what it will never admit counts as used.
        if remaining is not None:
            counted = max(theirs, window.limit) - config.whole("remaining", remaining, low=0)
        else:
            counted = config.whole("used", used, low=0) + max(0, window.limit - theirs)

        def learn() -> None:
            now = self._monotonic()
            window.expire(now)
            missing = counted - window.used
            if missing > 0:
                window.enter([Token(now, missing, NORMAL, self)])
                self._wake_next_locked()

        self._alone(learn)

    # -- history ----------------------------------------------------------------------------------------------

    def give_back(self, token: Token) -> None:
        """
        Undo an admission whose request provably did not go out; a second time, or too late, does nothing.

        Args:
            token: What this limiter's `acquire` returned.
        """
        self._alone(lambda: self._give_back_locked(token))

    def preload(self, ages: Iterable[float]) -> None:
        """
        Enter requests that were sent before this limiter existed, each with weight 1 in the normal lane.

        Args:
            ages: Seconds since each was sent. Below zero, after a step of the wall clock, counts as now.
        """
        checked = [max(0.0, config.number("ages", age)) for age in ages]

        def enter() -> None:
            now = self._monotonic()
            for window in self._windows:
                window.enter([Token(now - age, 1, NORMAL, self) for age in checked])
            self._wake_next_locked()

        self._alone(enter)

    def fill(self, share: float) -> None:
        """
        Start with this share of both lanes used, as if it had been sent just now: what was sent is not known.

        Args:
            share: From 0 to 1.
        """
        share = config.number("share", share, low=0, high=1)

        def enter() -> None:
            now = self._monotonic()
            for window in self._windows:
                amounts = {NORMAL: window.normal, RESERVED: window.limit - window.normal}
                filled = {lane: math.ceil(amount * share - 1e-9) for lane, amount in amounts.items()}
                window.enter([Token(now, weight, lane, self) for lane, weight in filled.items() if weight])
            self._wake_next_locked()

        self._alone(enter)

    # -- views ------------------------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """Most weight in the shortest window."""
        return self._windows[0].limit

    @property
    def per(self) -> float:
        """Seconds of the shortest window."""
        return self._windows[0].per

    @property
    def limits(self) -> Sequence[tuple[int, float]]:
        """Each limit with the seconds of its window, the shortest first."""
        return tuple((window.limit, window.per) for window in self._windows)

    def stats(self) -> RateLimiterStats:
        """One consistent look at the windows, the queue and the penalty."""
        return self._alone(self._stats_locked)

    # -- machinery --------------------------------------------------------------------------------------------

    def _alone(self, step: Callable[[], T]) -> T:
        """Take a step with the lock held; no block of `with`, so that Ctrl-C at any instruction leaves nobody inside."""
        with self._lock:
            if self._inside:
                raise self._entered_twice()
            self._inside = True
            try:
                return step()
            finally:
                self._inside = False

    def _entered_twice(self) -> RateLimitedError:
        return RateLimitedError(
            f"rate limiter {self.name!r}: called by a signal handler or a finaliser that interrupted it; nothing was taken"
            " or changed, call again after it"
        )

    def renew_in_child(self) -> None:
        """Keep the windows in a forked child, without the parent's waiters and with a lock that nobody there holds."""
        self._lock = threading.RLock()
        self._inside = False
        for queue in self._queues.values():
            queue.clear()

    def _give_back_locked(self, token: Token) -> None:
        if token.owner is not self:
            return  # given back before, or another limiter's
        token.owner = None
        for window in self._windows:
            window.remove(token)
        self._wake_next_locked()

    def _stats_locked(self) -> RateLimiterStats:
        now = self._monotonic()
        for window in self._windows:
            window.expire(now)
        fullest = max(self._windows, key=lambda window: window.used / window.limit)
        return RateLimiterStats(
            name=self.name,
            used=fullest.used,
            limit=fullest.limit,
            per=fullest.per,
            waiting=sum(map(len, self._queues.values())),
            blocked_for=max(0.0, self._blocked_until - now),
            windows=tuple(WindowStats(window.limit, window.per, window.used) for window in self._windows),
        )

    def _admit_locked(self, weight: int, lane: str, now: float) -> Token:
        token = Token(now, weight, lane, self)
        for window in self._windows:
            window.admit(token)
        return token

    def _block_locked(self, until: float) -> None:
        self._blocked_until = max(self._blocked_until, until)
        # All of them: those that cannot be served in time any more are refused now.
        for waiter in itertools.chain(*self._queues.values()):
            self._wake_locked(waiter)

    def _next_locked(self) -> _Waiter | None:
        return next(itertools.chain(*self._queues.values()), None)

    def _wake_next_locked(self) -> None:
        waiter = self._next_locked()
        if waiter is not None:
            self._wake_locked(waiter)

    def _wake_locked(self, waiter: _Waiter) -> None:
        waiter.woken = True
        if waiter.condition is not None:
            waiter.condition.notify()

    def _due_locked(self, waiter: _Waiter, now: float) -> tuple[float, Window]:
        """
        The time at which this waiter will be admitted if nothing changes, and the window that it waits for longest.

        Everybody before it goes first. The future is played through: those in front are admitted as soon as each
        fits, and leave a window later than everything that is in it now.
        """
        for window in self._windows:
            window.expire(now)
        due = max(now, self._blocked_until)
        plays = [Played(window) for window in self._windows]
        for other in itertools.chain(*self._queues.values()):
            longest = plays[0].window
            for play in plays:
                moment = play.make_room(other.weight, other.lane)
                if moment > due:
                    due, longest = moment, play.window
            if other is waiter:
                return due, longest
            for play in plays:
                play.admit(due, other.weight, other.lane)
        raise AssertionError("bug: the waiter is in no queue")
