"""The rate limiter against a model that is a list of admissions, searched through each time."""

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from hireliab.core.rate_limiter import RateLimiter
from hireliab.errors import ConfigError, RateLimitedError
from hireliab.testing import FakeClock
from tests.support.together import Background


class JumpingClock(FakeClock):
    """For one thread: to wait is to move the clock."""

    def wait_for(self, condition, predicate, timeout=None):
        if not predicate():
            assert timeout is not None
            with self._lock:
                self._now += timeout
        return predicate()


class LimiterAgainstModel(RuleBasedStateMachine):
    tokens = Bundle("tokens")

    @initialize(
        limit=st.integers(1, 8),
        per=st.sampled_from([1.0, 0.1, 60.0]),
        reserved=st.sampled_from([0.0, 0.0, 0.25, 0.5]),
        second=st.sampled_from([None, (2, 0.5), (3, 4.0), (12, 3.0)]),
    )
    def start(self, limit, per, reserved, second):
        self.limit, self.per = limit, per
        self.normal = max(1, int(limit * (1 - reserved)))
        if limit * (1 - reserved) < 1:
            reserved = 0.0
        self.clock = JumpingClock()
        # Each limit: weight, what of it is the normal lane's, seconds.
        self.limits = [(limit, self.normal, per)]
        if second is not None and second[0] * (1 - reserved) >= 1:
            self.limits.append((second[0], int(second[0] * (1 - reserved)), second[1] * per))
        self.limiter = RateLimiter(
            name="m",
            limits=[(most, seconds) for most, _, seconds in self.limits],
            reserved=reserved,
            clock=self.clock,
        )
        self.sent = {}  # number → (time, weight, lane)
        self.number = 0
        self.blocked_until = 0.0

    def note(self, at, weight, lane):
        self.number += 1
        self.sent[self.number] = (at, weight, lane)
        return self.number

    def used(self, now, per, lane=None):
        return sum(w for at, w, its in self.sent.values() if at + per > now and lane in (None, its))

    def fits(self, now, weight, lane):
        return now >= self.blocked_until and all(
            self.used(now, per) + weight <= limit
            and (lane == "reserved" or self.used(now, per, "normal") + weight <= normal)
            for limit, normal, per in self.limits
        )

    def earliest(self, weight, lane):
        now = self.clock.monotonic()
        moments = [now, self.blocked_until, *(at + per for at, _, _ in self.sent.values() for _, _, per in self.limits)]
        return min(moment for moment in moments if moment >= now and self.fits(moment, weight, lane))

    @rule(
        target=tokens,
        weight=st.integers(1, 8),
        lane=st.sampled_from(["normal", "normal", "reserved"]),
        patience=st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0]),
    )
    def acquire(self, weight, lane, patience):
        timeout = patience * self.per
        if weight > min(normal if lane == "normal" else limit for limit, normal, _ in self.limits):
            with pytest.raises(ConfigError):
                self.limiter.acquire(weight, timeout=timeout, lane=lane)
            return multiple()
        start = self.clock.monotonic()
        due = self.earliest(weight, lane)
        try:
            token = self.limiter.acquire(weight, timeout=timeout, lane=lane)
        except RateLimitedError as caught:
            error = caught
        else:
            error = None
        if error is not None:
            assert due > start + timeout
            assert self.clock.monotonic() == start, "a hopeless wait is refused at once"
            assert error.retry_after == pytest.approx(due - start)
            return multiple()
        now = self.clock.monotonic()
        assert now == pytest.approx(due, abs=1e-5)
        assert now >= due
        return (token, self.note(now, weight, lane))

    @rule(ticket=consumes(tokens))
    def give_back(self, ticket):
        token, number = ticket
        self.limiter.give_back(token)
        del self.sent[number]  # where it has left a window, it is not counted anyway

    @rule(steps=st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 2.0]))
    def advance(self, steps):
        self.clock.advance(steps * self.per)

    @rule(seconds=st.sampled_from([0.0, 0.05, 1.0]))
    def penalize(self, seconds):
        self.limiter.penalize(seconds)
        self.blocked_until = max(self.blocked_until, self.clock.monotonic() + seconds)

    @rule(ages=st.lists(st.sampled_from([-1.0, 0.0, 0.2, 0.5, 0.99, 1.5]), max_size=2))
    def preload(self, ages):
        now = self.clock.monotonic()
        self.limiter.preload([age * self.per for age in ages])
        for age in ages:
            self.note(now - max(0.0, age * self.per), 1, "normal")

    @invariant()
    def agrees(self):
        if hasattr(self, "limiter"):
            stats = self.limiter.stats()
            now = self.clock.monotonic()
            assert sorted((w.per, w.used) for w in stats.windows) == sorted(
                (p, self.used(now, p)) for _, _, p in self.limits
            )
            assert stats.waiting == 0


LimiterAgainstModel.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
test_the_limiter_does_what_the_model_does = LimiterAgainstModel.TestCase


@pytest.mark.parametrize("reserved", [0.0, 0.4])
def test_no_window_ever_holds_more_than_the_limit_with_threads_that_wait_and_give_up(reserved):
    clock = FakeClock()
    limiter = RateLimiter(name="threads", limit=10, per=10.0, reserved=reserved, clock=clock)
    admitted, refused, lock = [], [], threading.Lock()

    def work(i):
        for j in range(4):
            weight, lane = 1 + (i + j) % 4, "reserved" if (i + j) % 5 == 0 else "normal"
            try:
                token = limiter.acquire(weight, timeout=[None, 25.0, 60.0][i % 3], lane=lane)
            except RateLimitedError:
                with lock:
                    refused.append(i)
            else:
                with lock:
                    # Of the token, because the test's thread may have moved the clock since.
                    admitted.append((token.at, weight, lane))

    threads = [Background(work, i) for i in range(12)]
    while len(admitted) + len(refused) < 48:
        wait = clock.next_deadline()
        if wait is not None and clock.parked():
            clock.advance(min(wait, 1.0))
        if clock.monotonic() == 1003.0:
            limiter.penalize(4.0)
    for thread in threads:
        thread.result()
    assert refused, "some were too impatient"
    for start, _, _ in admitted:
        inside = [(weight, lane) for at, weight, lane in admitted if start <= at < start + 10.0]
        assert sum(weight for weight, _ in inside) <= 10
        assert sum(weight for weight, lane in inside if lane == "normal") <= (10 if not reserved else 6)
    assert limiter.stats().waiting == 0
