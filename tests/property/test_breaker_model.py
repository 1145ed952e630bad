"""The circuit breaker against models that are lists of facts and no state machine of gates."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from hireliab.core.circuit_breaker import PROBE_LEASE, CircuitBreaker
from hireliab.errors import CircuitOpenError
from hireliab.testing import FakeClock


class BreakerAgainstModel(RuleBasedStateMachine):
    permits = Bundle("permits")

    @initialize(
        threshold=st.integers(1, 3),
        reset=st.sampled_from([0.0, 1.0, 10.0, 100.0]),
        most=st.integers(1, 3),
        wanted=st.integers(1, 4),
    )
    def start(self, threshold, reset, most, wanted):
        self.clock = FakeClock()
        self.threshold, self.reset, self.most, self.wanted = threshold, reset, most, wanted
        self.events = []
        self.breaker = CircuitBreaker(
            failure_threshold=threshold,
            reset_timeout=reset,
            half_open_max_requests=most,
            success_threshold=wanted,
            clock=self.clock,
            listeners=[self.events.append],
        )
        # The model.
        self.state = "closed"
        self.era = 0
        self.failures = 0
        self.opened_at = None
        self.good = 0
        self.flying = {}  # permit → when it was admitted, for the probes of this era
        self.history = []

    def enter(self, state):
        if state != self.state:
            self.history.append((self.state, state))
        self.state = state
        self.era += 1
        self.failures = self.good = 0
        self.flying = {}
        self.opened_at = self.clock.monotonic() if state == "open" else None

    @rule(target=permits)
    def acquire(self):
        now = self.clock.monotonic()
        lease = max(PROBE_LEASE, self.reset)
        if self.state == "half-open" and any(now - since >= lease for since in self.flying.values()):
            self.enter("open")
        if self.state == "open" and now - self.opened_at >= self.reset:
            self.enter("half-open")
        half_open_room = len(self.flying) < min(self.most, self.wanted - self.good)
        expected = self.state == "closed" or (self.state == "half-open" and half_open_room)
        try:
            permit = self.breaker.acquire()
        except CircuitOpenError as caught:
            permit, error = None, caught
        if permit is None:
            assert not expected, f"refused in {self.state}"
            assert error.state == self.state
            if self.state == "open":
                assert error.retry_after == pytest.approx(self.opened_at + self.reset - now)
            return multiple()
        assert expected, f"admitted in {self.state}"
        if self.state == "half-open":
            self.flying[permit] = now
        return (permit, self.era)

    @rule(ticket=consumes(permits), word=st.sampled_from(["success", "failure", "ignore"]), twice=st.booleans())
    def end(self, ticket, word, twice):
        permit, era = ticket
        getattr(permit, word)()
        if twice:
            permit.failure()
        if era != self.era:
            return
        if self.state == "half-open":
            del self.flying[permit]
        if word == "success" and self.state == "closed":
            self.failures = 0
        elif word == "success":
            self.good += 1
            if self.good == self.wanted:
                self.enter("closed")
        elif word == "failure":
            self.failures += 1
            if self.state == "half-open" or self.failures == self.threshold:
                self.enter("open")

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 9.5, 10.0, 59.0, 60.0, 100.0]))
    def advance(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def trip(self):
        """Get to the interesting states quickly."""
        while self.state == "closed":
            self.end(self.acquire(), "failure", twice=False)

    @rule(word=st.sampled_from(["isolate", "reset", "open", "half_open"]), really=st.integers(0, 3))
    def by_hand(self, word, really):
        if really:
            return  # seldom, or nothing else would ever come to its end
        getattr(self.breaker, word)()
        if word == "reset":
            self.enter("closed")
        elif self.state != "isolated":
            self.enter({"isolate": "isolated", "open": "open", "half_open": "half-open"}[word])

    @invariant()
    def agrees(self):
        if not hasattr(self, "breaker"):
            return
        stats = self.breaker.stats()
        assert (stats.state, stats.successes, stats.probes) == (self.state, self.good, len(self.flying))
        assert stats.failures == (self.failures if self.state == "closed" else 0)
        assert stats.probes <= self.most
        assert stats.successes + stats.probes <= self.wanted
        assert [(event.old, event.new) for event in self.events] == self.history


BreakerAgainstModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
test_the_breaker_does_what_the_model_does = BreakerAgainstModel.TestCase


class WindowAgainstModel(RuleBasedStateMachine):
    """The shares of the last seconds, through a decorated function, against a list of calls that is searched."""

    @initialize(
        failure=st.sampled_from([None, 0.3, 0.5, 1.0]),
        slow=st.sampled_from([None, 0.5]),
        least=st.integers(1, 6),
        row=st.sampled_from([None, 4]),
    )
    def start(self, failure, slow, least, row):
        if failure is None and slow is None and row is None:
            row = 4
        self.failure, self.slow, self.least, self.row = failure, slow, least, row
        self.clock = FakeClock(start=0.0)
        self.breaker = CircuitBreaker(
            failure_threshold=row,
            failure_share=failure,
            slow_share=slow,
            slow_after=None if slow is None else 1.0,
            min_calls=least,
            window=20.0,
            reset_timeout=5.0,
            clock=self.clock,
        )
        self.guarded = self.breaker(self.work)
        self.state, self.until = "closed", 0.0
        self.begin(0.0)

    def work(self, seconds, error):
        self.clock.advance(seconds)
        if error is not None:
            raise error

    def begin(self, now):
        self.since, self.calls, self.streak = now, [], 0  # a call: its tenth, whether it failed, whether it was slow

    def counted(self, now):
        tenth = (now - self.since) // 2.0
        return [call for call in self.calls if call[0] > tenth - 10]

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 3.0]), end=st.sampled_from(["well", "well", "badly", "ignored"]))
    def call(self, seconds, end):
        error = {"well": None, "badly": ValueError(), "ignored": KeyboardInterrupt()}[end]
        if self.state == "open" and self.clock.monotonic() < self.until:
            with pytest.raises(CircuitOpenError):
                self.guarded(seconds, error)
            return
        if error is None:
            self.guarded(seconds, error)
        else:
            with pytest.raises(type(error)):
                self.guarded(seconds, error)
        now = self.clock.monotonic()
        failed, slow = end == "badly", self.slow is not None and seconds >= 1.0
        if self.state != "closed":
            self.state = "half-open"
            if end != "ignored":
                self.state = "open" if failed or slow else "closed"
            self.until = now + 5.0
            self.begin(now)
            return
        if end == "ignored":
            return
        self.calls.append(((now - self.since) // 2.0, failed, slow))
        self.streak = self.streak + 1 if failed else 0
        calls = self.counted(now)
        trips = self.row is not None and self.streak >= self.row
        if len(calls) >= self.least and (failed or slow):
            for share, which in ((self.failure, 1), (self.slow, 2)):
                trips |= share is not None and sum(call[which] for call in calls) * 10 >= round(share * 10) * len(calls)
        if trips and (failed or slow):
            self.state, self.until = "open", now + 5.0

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 19.0, 20.0, 100.0]))
    def advance(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def agrees(self):
        if not hasattr(self, "breaker"):
            return
        stats = self.breaker.stats()
        assert stats.state == self.state
        if self.state == "closed":
            window = self.counted(self.clock.monotonic()) if self.failure or self.slow else []
            assert stats.calls == len(window)
            assert (stats.failed, stats.slow) == (sum(c[1] for c in window), sum(c[2] for c in window))
            assert stats.failures == self.streak


WindowAgainstModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
test_the_window_does_what_the_model_does = WindowAgainstModel.TestCase
