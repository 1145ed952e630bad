"""The breaker's windows, modes, growing breaks, peek, predicates and compiled wrappers; and what threads do to them."""

import dataclasses
import functools
import gc
import inspect
import itertools
import math
import os
import pickle
import random
import signal
import sys
import threading
import traceback
import tracemalloc

import pybreaker
import pytest

from hireliab import errors
from hireliab.core import _breaker_machine
from hireliab.core._window import Tally, Window
from hireliab.core.circuit_breaker import PROBE_LEASE, Backoff, CircuitBreaker, Outcome
from hireliab.testing import FakeClock
from tests.support.together import JOIN_TIMEOUT, Background, handler, together


class Boom(Exception):
    pass


def fail(error=None):
    raise error if error is not None else Boom("boom")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    """A breaker that opens at the third failure in a row for 10 seconds."""
    return functools.partial(CircuitBreaker, name="api", failure_threshold=3, reset_timeout=10.0, clock=clock)


@pytest.fixture
def shares(clock):
    """A breaker that looks at the last 10 seconds only."""
    return functools.partial(
        CircuitBreaker, name="api", failure_threshold=None, window=10.0, min_calls=4, reset_timeout=10.0, clock=clock
    )


def run(breaker, good=0, bad=0):
    """Calls through a decorated function."""
    guarded = breaker(lambda error: fail() if error else None)
    for error in [False] * good + [True] * bad:
        try:
            guarded(error)
        except Boom:
            pass


def is_refused(breaker):
    try:
        breaker.acquire().ignore()
    except errors.CircuitOpenError:
        return True
    return False


# -- shares ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "good", "bad", "state"),
    [
        (0.5, 51, 49, "closed"),
        (0.5, 50, 50, "open"),
        (0.1, 28, 2, "closed"),
        (0.1, 27, 3, "open"),
        (0.07, 93, 7, "open"),  # 0.07 * 100 is 7.000000000000001
        (1, 1, 99, "closed"),
        (1.0, 0, 4, "open"),
    ],
)
def test_the_share_of_failures_is_exact(shares, share, good, bad, state):
    breaker = shares(failure_share=share)
    run(breaker, good, bad)
    assert breaker.state == state


def test_fewer_calls_than_the_minimum_open_nothing(shares):
    breaker = shares(failure_share=0.5)
    run(breaker, bad=3)
    assert breaker.state == "closed"
    run(breaker, bad=1)
    assert breaker.state == "open"


def test_only_a_bad_call_opens_even_when_a_good_one_completes_the_minimum(shares):
    breaker = shares(failure_share=0.5)
    run(breaker, bad=3)
    run(breaker, good=1)
    assert breaker.state == "closed"
    run(breaker, bad=1)
    assert breaker.state == "open"


def test_calls_leave_the_window_in_tenths(shares, clock):
    breaker = shares(failure_share=0.5)
    run(breaker, bad=3)
    clock.advance(9.99)
    assert breaker.stats().failed == 3
    clock.advance(0.01)
    assert (breaker.stats().calls, breaker.stats().failed) == (0, 0)
    run(breaker, bad=3)
    assert breaker.state == "closed"


def test_each_tenth_leaves_by_itself(shares, clock):
    breaker = shares(failure_share=1.0, min_calls=1000)
    for i in range(10):
        run(breaker, good=i, bad=1)
        clock.advance(1.0)
    seen = []
    for _ in range(10):
        seen.append(breaker.stats().failed)
        clock.advance(1.0)
    assert seen == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_an_idle_time_longer_than_the_window_leaves_nothing(shares, clock):
    breaker = shares(failure_share=0.5)
    run(breaker, good=5, bad=3)
    clock.advance(1e9)
    run(breaker, good=1)
    assert (breaker.stats().calls, breaker.stats().failed) == (1, 0)


def test_a_recovered_circuit_starts_with_an_empty_window(shares, clock):
    breaker = shares(failure_share=0.5)
    run(breaker, bad=4)
    clock.advance(10.0)
    breaker.execute(int)
    assert (breaker.state, breaker.stats().calls) == ("closed", 0)


def test_either_rule_opens(clock):
    breaker = CircuitBreaker(failure_threshold=3, failure_share=0.5, min_calls=10, window=10.0, clock=clock)
    run(breaker, bad=3)
    assert breaker.state == "open"
    breaker.reset()
    run(breaker, good=8)
    for _ in range(4):
        run(breaker, bad=2)
        if breaker.state == "open":
            break
        run(breaker, good=1)
    assert breaker.state == "closed", "7 of 19 is too few"
    for _ in range(10):
        if breaker.state == "closed":
            run(breaker, bad=2)
        if breaker.state == "closed":
            run(breaker, good=1)
    assert breaker.state == "open"


def test_ignored_calls_are_in_no_share_and_excluded_ones_are_good(shares):
    breaker = shares(failure_share=0.5, ignore=[KeyError], exclude=[ValueError])
    for error in (KeyError(), ValueError(), KeyboardInterrupt(), Boom()):
        with pytest.raises(type(error)):
            breaker.execute(fail, error)
    assert (breaker.stats().calls, breaker.stats().failed) == (2, 1)


def take(clock, breaker, seconds, error=None):
    def work():
        clock.advance(seconds)
        if error is not None:
            raise error

    try:
        breaker(work)()
    except Boom:
        pass


def test_slow_calls_open_however_they_end(shares, clock):
    breaker = shares(slow_share=0.5, slow_after=1.0)
    take(clock, breaker, 0.999)
    take(clock, breaker, 0.999, Boom())
    take(clock, breaker, 1.0)
    assert (breaker.stats().calls, breaker.stats().failed, breaker.stats().slow) == (3, 1, 1)
    take(clock, breaker, 1.0, Boom())
    assert breaker.state == "open"


def test_a_slow_good_call_opens_by_itself(shares, clock):
    breaker = shares(slow_share=0.5, slow_after=1.0)
    for seconds in (0.1, 0.1, 1.0, 1.0):
        assert breaker.state == "closed"
        take(clock, breaker, seconds)
    assert breaker.state == "open"


@pytest.mark.parametrize("form", ["decorated", "execute", "with", "permit"])
def test_every_form_of_call_is_timed(shares, clock, form):
    breaker = shares(slow_share=1.0, slow_after=1.0)

    def work():
        clock.advance(1.0)

    if form == "decorated":
        breaker(work)()
    elif form == "execute":
        breaker.execute(work)
    elif form == "with":
        with breaker:
            work()
    else:
        permit = breaker.acquire()
        work()
        permit.success()
    assert (breaker.stats().calls, breaker.stats().slow) == (1, 1)


def test_a_slow_probe_opens_again(shares, clock):
    breaker = shares(slow_share=1.0, slow_after=1.0)
    breaker.open()
    clock.advance(10.0)
    take(clock, breaker, 1.0)
    assert (breaker.state, breaker.stats().last_error) == ("open", "a slow probe")
    clock.advance(10.0)
    take(clock, breaker, 0.5)
    assert breaker.state == "closed"


def test_a_call_of_no_length_is_slow_only_where_nothing_is_fast(shares, clock):
    breaker = shares(slow_share=1.0, slow_after=0)
    take(clock, breaker, 0.0)
    assert breaker.stats().slow == 1


def test_good_calls_of_many_threads_are_all_counted_while_the_buckets_turn(clock):
    breaker = CircuitBreaker(failure_threshold=None, failure_share=1.0, min_calls=10**6, window=1e6, clock=clock)
    guarded = breaker(lambda error: fail() if error else None)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(i):
        for j in range(300):
            if i == 0 and j % 50 == 0:
                clock.advance(1e5 / 2)
            try:
                guarded(j % 100 == 99)
            except Boom:
                pass

    try:
        together(8, work)
    finally:
        sys.setswitchinterval(before)
    stats = breaker.stats()
    assert (stats.calls, stats.failed) == (2400, 24)


def test_a_tally_counts_for_all_threads_and_not_its_own_looks():
    tally = Tally()
    together(8, lambda i: [next(tally.steps) for _ in range(200)])
    assert [tally.look() for _ in range(5)] == [1600] * 5


def test_a_late_clock_reading_counts_in_the_present_bucket():
    window = Window(10.0, 0.0)
    window.record(5.0, failed=True, slow=False)
    window.record(3.0, failed=True, slow=False)
    assert window.totals(5.0) == (2, 2, 0)
    assert window.totals(12.9) == (2, 2, 0)


def test_the_fast_path_meets_a_turned_window_and_an_ended_streak_with_the_lock(shares, clock):
    breaker = shares(failure_share=1.0, min_calls=100)
    run(breaker, bad=1)
    assert breaker.fail_counter == 1
    run(breaker, good=1)
    assert breaker.fail_counter == 0
    clock.advance(1.0)
    run(breaker, good=2)
    clock.advance(9.0)
    assert breaker.stats().calls == 2


# -- growing breaks -------------------------------------------------------------------------------------------------


def break_of(breaker):
    return breaker.stats().retry_after


def test_the_break_grows_while_probes_fail_up_to_its_limit(make, clock):
    breaker = make(failure_threshold=1, reset_timeout=Backoff(base=5.0, factor=3.0, most=100.0, jitter=0))
    seen = []
    for _ in range(5):
        with pytest.raises(Boom):
            breaker.execute(fail)
        seen.append(break_of(breaker))
        clock.advance(seen[-1])
    assert seen == [5.0, 15.0, 45.0, 100.0, 100.0]


def test_a_flapping_exchange_does_not_get_the_short_break_again(make, clock):
    breaker = make(failure_threshold=1, reset_timeout=Backoff(base=5.0, most=100.0, jitter=0))
    seen = []
    for _ in range(3):
        with pytest.raises(Boom):
            breaker.execute(fail)
        seen.append(break_of(breaker))
        clock.advance(seen[-1])
        breaker.execute(int)
        assert breaker.state == "closed"
    assert seen == [5.0, 10.0, 20.0]


@pytest.mark.parametrize(("quiet", "length"), [(19.9, 40.0), (20.0, 20.0), (40.0, 10.0), (1e9, 5.0)])
def test_one_opening_is_forgiven_for_each_break_length_spent_closed(make, clock, quiet, length):
    breaker = make(failure_threshold=1, reset_timeout=Backoff(base=5.0, most=100.0, jitter=0))
    for _ in range(3):
        with pytest.raises(Boom):
            breaker.execute(fail)
        clock.advance(break_of(breaker))
    breaker.execute(int)
    clock.advance(quiet)
    with pytest.raises(Boom):
        breaker.execute(fail)
    assert break_of(breaker) == length


def test_a_reset_forgives_everything(make, clock):
    breaker = make(failure_threshold=1, reset_timeout=Backoff(base=5.0, jitter=0))
    for _ in range(3):
        with pytest.raises(Boom):
            breaker.execute(fail)
        clock.advance(break_of(breaker))
    breaker.reset()
    with pytest.raises(Boom):
        breaker.execute(fail)
    assert break_of(breaker) == 5.0


def test_jitter_only_shortens_and_differs():
    lengths = {Backoff(base=10.0, most=10.0, jitter=0.5).length(n) for n in range(50)}
    assert len(lengths) > 40
    assert all(5.0 <= length <= 10.0 for length in lengths)


def test_a_break_after_very_many_openings_does_not_overflow():
    assert Backoff(base=1.0, factor=10.0, most=60.0, jitter=0).length(10**6) == 60.0


def test_a_growing_break_can_be_set_later_and_the_lease_is_that_of_its_base(make, clock):
    breaker = make()
    breaker.reset_timeout = Backoff(base=100.0, most=1000.0, jitter=0)
    breaker.open()
    clock.advance(100.0)
    breaker.acquire()
    clock.advance(99.0)
    assert is_refused(breaker)
    assert breaker.state == "half-open"
    clock.advance(1.0)
    assert is_refused(breaker)
    assert breaker.state == "open"


# -- modes and by hand ----------------------------------------------------------------------------------------------


def test_metrics_only_tells_and_refuses_nothing(make):
    events = []
    breaker = make(mode="metrics_only", listeners=[events.append])
    run(breaker, bad=7)
    stats = breaker.stats()
    assert (stats.state, stats.trips, stats.rejected, stats.failures, stats.retry_after) == (
        "metrics-only",
        2,
        0,
        1,
        0.0,
    )
    assert [(e.old, e.new, e.reason) for e in events] == [
        ("metrics-only", "metrics-only", "would open: failures in a row: 3")
    ] * 2
    assert events[0].last_error == "Boom: boom"
    breaker.reset()
    assert breaker.stats().failures == 0
    assert breaker.state == "metrics-only"


def test_disabled_counts_nothing(make, clock):
    for settings in ({}, {"slow_share": 0.5, "slow_after": 0.0}):
        breaker = make(mode="disabled", **settings)
        run(breaker, good=2, bad=20)
        breaker.execute(int)
        assert dataclasses.asdict(breaker.stats()) == dataclasses.asdict(make(mode="disabled").stats())
        assert breaker.state == "disabled"


def test_the_mode_can_be_changed_and_isolation_outlives_it(make):
    breaker = make(mode="disabled")
    run(breaker, bad=5)
    breaker.mode = "on"
    assert (breaker.mode, breaker.state, breaker.fail_counter) == ("on", "closed", 0)
    run(breaker, bad=3)
    assert breaker.state == "open"
    breaker.mode = "metrics_only"
    assert breaker.state == "metrics-only"
    breaker.isolate()
    breaker.mode = "disabled"
    assert is_refused(breaker)
    breaker.reset()
    assert breaker.state == "disabled"
    with pytest.raises(errors.ConfigError, match="mode"):
        breaker.mode = "metrics-only"


@pytest.mark.parametrize("mode", ["on", "metrics_only", "disabled"])
def test_a_person_opens_in_every_mode_and_it_recovers_to_its_mode(make, clock, mode):
    breaker = make(mode=mode)
    home = breaker.state
    breaker.force_open()
    assert is_refused(breaker)
    clock.advance(10.0)
    breaker.execute(int)
    assert breaker.state == home


def test_a_forced_break_lasts_as_long_as_the_server_asked_for(make, clock):
    breaker = make()
    breaker.force_open(90.0)
    assert break_of(breaker) == 90.0
    clock.advance(89.9)
    assert is_refused(breaker)
    clock.advance(0.1)
    with pytest.raises(Boom):
        breaker.execute(fail)
    assert break_of(breaker) == 10.0
    breaker.isolate()
    breaker.force_open(0)
    assert breaker.state == "isolated"
    for wrong in (-1, math.nan, math.inf, "5"):
        with pytest.raises(errors.ConfigError):
            breaker.force_open(wrong)


# -- peek -----------------------------------------------------------------------------------------------------------


def peeks(breaker):
    try:
        breaker.peek()
    except errors.CircuitOpenError:
        return False
    return True


def test_peek_agrees_with_acquire_and_takes_no_probe(make, clock):
    breaker = make(half_open_max_requests=2, success_threshold=3)
    assert peeks(breaker)
    breaker.open()
    assert not peeks(breaker)
    assert breaker.stats().rejected == 1
    clock.advance(10.0)
    assert peeks(breaker)
    assert breaker.state == "open", "to look changes nothing"
    first, second = breaker.acquire(), breaker.acquire()
    assert not peeks(breaker)
    first.success()
    second.success()
    assert all(peeks(breaker) for _ in range(5))
    assert breaker.stats().probes == 0
    third = breaker.acquire()
    assert not peeks(breaker), "three are enough"
    third.ignore()
    breaker.isolate()
    with pytest.raises(pybreaker.CircuitBreakerError) as caught:
        breaker.peek()
    assert (caught.value.state, caught.value.retry_after) == ("isolated", None)


def test_a_lost_probe_does_not_wedge_callers_that_peek_first(make, clock):
    breaker = make()
    breaker.open()
    clock.advance(10.0)
    breaker.acquire()
    clock.advance(PROBE_LEASE)
    assert not peeks(breaker)
    assert breaker.state == "open"
    clock.advance(10.0)
    assert peeks(breaker)


# -- outcomes -------------------------------------------------------------------------------------------------------


def test_ignored_exceptions_neither_count_nor_clear_nor_close(make, clock):
    breaker = make(ignore=[KeyError, lambda e: e.args == ("skip",)])
    run(breaker, bad=2)
    for error in (KeyError(), Boom("skip")):
        with pytest.raises(type(error)):
            breaker.execute(fail, error)
    assert breaker.fail_counter == 2
    breaker.open()
    clock.advance(10.0)
    for _ in range(100):
        with pytest.raises(KeyError):
            breaker.execute(fail, KeyError())
        assert (breaker.state, breaker.stats().probes) == ("half-open", 0)


@pytest.mark.parametrize("types", [Boom, (Boom, OSError)])
def test_named_failures_make_everything_else_a_success(make, types):
    breaker = make(is_failure=types)
    run(breaker, bad=2)
    with pytest.raises(ZeroDivisionError):
        breaker.execute(lambda: 1 / 0)
    assert breaker.fail_counter == 0
    run(breaker, bad=3)
    assert breaker.state == "open"


def test_ignore_is_asked_before_exclude_and_exclude_before_is_failure(make):
    class Both(KeyError, ValueError):
        pass

    breaker = make(ignore=[KeyError], exclude=[ValueError], is_failure=lambda e: True)
    run(breaker, bad=1)
    with pytest.raises(Both):
        breaker.execute(fail, Both())
    assert breaker.fail_counter == 1
    with pytest.raises(ValueError):
        breaker.execute(fail, ValueError())
    assert breaker.fail_counter == 0


def test_a_predicate_may_name_the_outcome(make):
    breaker = make(is_failure=lambda e: {"a": Outcome.FAILURE, "b": Outcome.IGNORE, "c": Outcome.SUCCESS}[str(e)])
    counts = []
    for word in "aabc":
        with pytest.raises(Boom):
            breaker.execute(fail, Boom(word))
        counts.append(breaker.fail_counter)
    assert counts == [1, 2, 2, 0]


@pytest.mark.parametrize("form", ["decorated", "execute"])
def test_results_are_judged_and_returned(make, form):
    verdicts = {1: True, 2: False, 3: None, 4: Outcome.IGNORE, 5: Outcome.FAILURE}
    breaker = make(is_bad_result=verdicts.get)
    call = breaker(lambda x: x) if form == "decorated" else functools.partial(breaker.execute, lambda x: x)
    counts = []
    for value in (1, 4, 5, 2, 1, 3, 1, 1):
        assert call(value) == value
        counts.append(breaker.fail_counter)
    assert counts == [1, 1, 2, 0, 1, 0, 1, 2]
    assert call(1) == 1, "also the result that opens the circuit"
    assert (breaker.state, breaker.stats().last_error) == ("open", "a bad result")


def test_a_result_predicate_that_raises_means_failure_and_the_result_is_returned(make, caplog):
    def broken_predicate(result):
        raise RuntimeError("predicate")

    breaker = make(is_bad_result=broken_predicate)
    assert [breaker.execute(lambda: 7) for _ in range(2)] == [7, 7]
    assert breaker.fail_counter == 2
    assert len([r for r in caplog.records if "broken_predicate" in r.getMessage()]) == 1


def test_ctrl_c_in_a_result_predicate_gives_the_probe_back(make, clock):
    breaker = make(is_bad_result=lambda result: fail(KeyboardInterrupt()))
    breaker.open()
    clock.advance(10.0)
    with pytest.raises(KeyboardInterrupt):
        breaker.execute(int)
    assert (breaker.state, breaker.stats().probes) == ("half-open", 0)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), type("Timeout", (BaseException,), {})()]
)
@pytest.mark.parametrize("settings", [{}, {"failure_share": 0.1, "min_calls": 1}])
def test_a_decorated_function_lets_interrupts_through_uncounted(make, clock, error, settings):
    breaker = make(failure_threshold=1, **settings)
    guarded = breaker(lambda: fail(error))
    for state in ("closed", "half-open"):
        with pytest.raises(type(error)) as caught:
            guarded()
        assert caught.value is error
        assert (breaker.state, breaker.stats().probes, breaker.fail_counter) == (state, 0, 0)
        breaker.open()
        clock.advance(10.0)


@pytest.mark.parametrize("settings", [{}, {"failure_share": 0.5}], ids=["row", "window"])
def test_a_permit_that_said_well_says_nothing_more(make, settings):
    breaker = make(**settings)
    permit = breaker.acquire()
    permit.success()
    permit.failure()
    assert breaker.fail_counter == 0


# -- late results of decorated functions ----------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"failure_share": 0.5, "min_calls": 3}], ids=["row", "window"])
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_a_decorated_call_that_ends_after_the_trip_changes_nothing(make, clock, settings, ends):
    breaker = make(**settings)

    def work():
        breaker.open()
        clock.advance(4.0)
        if ends == "badly":
            fail()

    try:
        breaker(work)()
    except Boom:
        pass
    stats = breaker.stats()
    assert (stats.state, stats.retry_after, stats.trips, stats.late) == ("open", 6.0, 1, int(ends == "badly"))


def test_a_call_from_before_the_recovery_does_not_clear_failures_after_it(make, clock):
    breaker = make()

    def work():
        run(breaker, bad=3)
        clock.advance(10.0)
        breaker.execute(int)
        run(breaker, bad=2)

    breaker(work)()
    assert (breaker.state, breaker.fail_counter) == ("closed", 2)


def test_random_outcomes_in_half_open_keep_the_bounds(make, clock):
    """M=2, S=3, 200 callers: at most two fly, at most three are admitted when all succeed, a failure ends it."""
    rng = random.Random(7)
    for _ in range(30):
        breaker = make(half_open_max_requests=2, success_threshold=3)
        breaker.open()
        clock.advance(10.0)
        flying, admitted, failed = [], 0, False
        for _ in range(200):
            if breaker.state == "closed":
                break
            if flying and rng.random() < 0.5:
                permit = flying.pop(rng.randrange(len(flying)))
                if rng.random() < 0.2:
                    permit.failure()
                    failed = True
                    assert breaker.state == "open"
                    break
                permit.success()
            else:
                try:
                    flying.append(breaker.acquire())
                    admitted += 1
                except errors.CircuitOpenError:
                    pass
            assert len(flying) <= 2
        assert admitted <= 3
        for permit in flying:
            permit.success()
        assert breaker.state == ("open" if failed else "closed")


def test_an_old_open_gate_moves_nothing_after_it_was_replaced(make, clock):
    """A thread that was stopped between its look at the gate and its transition."""
    breaker = make()
    breaker.open()
    old = breaker._machine.gate
    clock.advance(10.0)
    breaker.execute(int)
    breaker._machine._swap(old, _breaker_machine.HalfOpenGate(9, None), "too late")
    assert breaker.state == "closed"
    breaker.open()
    breaker._machine._swap(old, _breaker_machine.HalfOpenGate(9, None), "too late")
    assert breaker.state == "open"


# -- the closed path ------------------------------------------------------------------------------------------------


class Forbidden:
    """A lock that must not be taken."""

    def __enter__(self):
        raise AssertionError("the lock was taken")

    def __exit__(self, *_):
        raise AssertionError("the lock was taken")


class NoClock(FakeClock):
    allowed = True

    def monotonic(self):
        assert self.allowed, "the clock was read"
        return super().monotonic()


def test_a_good_call_takes_no_lock_reads_no_clock_and_asks_no_listener():
    class OnlyState(pybreaker.CircuitBreakerListener):
        def state_change(self, cb, old_state, new_state):
            pass

    clock = NoClock()
    breaker = CircuitBreaker(clock=clock, listeners=[OnlyState(), print])
    guarded = breaker(lambda x: x)
    breaker._mx = breaker._events = Forbidden()
    clock.allowed = False
    assert guarded(1) == 1
    assert breaker.execute(lambda: 2) == 2
    breaker.acquire().success()
    breaker.peek()


def test_a_good_call_through_a_window_takes_no_lock(clock):
    breaker = CircuitBreaker(slow_share=0.5, slow_after=1.0, clock=clock)
    guarded = breaker(lambda x: x)
    breaker._mx = breaker._events = Forbidden()
    assert guarded(1) == 1


def test_a_refusal_takes_no_lock(make):
    breaker = make()
    breaker.open()
    guarded = breaker(lambda: None)
    breaker._mx = breaker._events = Forbidden()
    for attempt in (guarded, breaker.acquire):
        with pytest.raises(errors.CircuitOpenError):
            attempt()


def test_a_listener_that_comes_later_hears_of_calls_and_one_that_left_does_not(make):
    heard = []

    class Calls(pybreaker.CircuitBreakerListener):
        def success(self, cb):
            heard.append("success")

    breaker, listener = make(), Calls()
    guarded = breaker(lambda: None)
    guarded()
    breaker.add_listener(listener)
    guarded()
    breaker.reset()
    guarded()
    breaker.remove_listener(listener)
    guarded()
    assert heard == ["success"] * 2


# -- compiled wrappers ----------------------------------------------------------------------------------------------

FUNCTIONS = [
    (lambda: ("none",), [((), {})]),
    (lambda a, b=2: (a, b), [((1,), {}), ((1, 3), {}), ((), {"b": 5, "a": 4})]),
    (
        lambda a, /, b, *c, d=4, e, **f: (a, b, c, d, e, f),
        [((1, 2, 3, 4), {"e": 5, "a": 6, "g": 7}), ((1,), {"b": 2, "e": 3})],
    ),
    (lambda *, k=[]: (k,), [((), {}), ((), {"k": 1})]),  # the very object must arrive
    (lambda *args: args, [((), {}), ((1, 2), {})]),
    (lambda **kwargs: kwargs, [((), {"func": 1, "GATE": 2, "args": 3})]),
    (lambda func, GATE, wrapper: (func, GATE, wrapper), [((1, 2, 3), {})]),
    (lambda _hireliab_GATE, x: (_hireliab_GATE, x), [((1,), {"x": 2})]),
    (functools.partial(lambda a, b: (a, b), 1), [((2,), {})]),
    (len, [(("abc",), {})]),
]


@pytest.mark.parametrize(
    "settings",
    [{}, {"failure_share": 0.5}, {"is_bad_result": lambda result: False}],
    ids=["row", "window", "slow path"],
)
@pytest.mark.parametrize(("func", "calls"), FUNCTIONS)
def test_a_wrapper_passes_on_what_the_function_takes(make, settings, func, calls):
    guarded = make(**settings)(func)
    for args, kwargs in calls:
        assert guarded(*args, **kwargs) == func(*args, **kwargs)
    if not isinstance(func, functools.partial):
        assert inspect.signature(guarded) == inspect.signature(func)
    with pytest.raises(TypeError):
        guarded(*range(99), nonsense=1) if func not in (FUNCTIONS[4][0], FUNCTIONS[5][0]) else guarded(1, x=1)


def test_a_default_is_the_functions_own_object(make):
    default = []

    @make()
    def keep(item, into=default):
        into.append(item)
        return into

    keep(1)
    assert keep(2) is default
    assert default == [1, 2]


module_breaker = CircuitBreaker(name="module level")


@module_breaker
def pickled_by_name(x):
    """Its docstring."""
    return x


def test_a_decorated_function_pickles_by_name_and_keeps_what_describes_it():
    assert pickle.loads(pickle.dumps(pickled_by_name)) is pickled_by_name
    assert pickled_by_name.__wrapped__.__name__ == pickled_by_name.__name__ == "pickled_by_name"
    assert (pickled_by_name.__doc__, pickled_by_name.__module__) == ("Its docstring.", __name__)


def test_a_failing_decorated_call_adds_one_line_to_the_traceback(make):
    error = Boom()
    with pytest.raises(Boom) as caught:
        make()(fail)(error)
    assert caught.value is error
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][1:] == ["wrapper", "fail"]


def test_a_decorated_method_is_bound(make):
    class Client:
        @make()
        def get(self, x, *, depth=1):
            return self, x, depth

    client = Client()
    assert client.get(1, depth=2) == (client, 1, 2)


# -- clocks and changes in flight -----------------------------------------------------------------------------------


def test_fewer_wanted_probes_than_there_were_good_ones_close_at_once(make, clock):
    events = []
    breaker = make(success_threshold=3, listeners=[events.append])
    breaker.open()
    clock.advance(10.0)
    breaker.execute(int)
    breaker.execute(int)
    breaker.success_threshold = 2
    assert (breaker.state, events[-1].new) == ("closed", "closed")


def test_settings_that_change_while_calls_run_hold_for_how_they_end(make, clock):
    breaker = make(failure_threshold=5)
    permits = [breaker.acquire() for _ in range(4)]
    permits[0].failure()
    permits[1].failure()
    breaker.fail_max = 3
    breaker.reset_timeout = 2.0
    permits[2].failure()
    assert (breaker.state, breaker.stats().retry_after) == ("open", 2.0)
    permits[3].failure()
    assert breaker.stats().late == 1


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_the_wall_clock_does_not_matter_to_a_window(shares, clock, step):
    breaker = shares(failure_share=0.5)
    run(breaker, bad=3)
    clock.step_wall(step)
    assert breaker.stats().failed == 3
    run(breaker, bad=1)
    assert breaker.state == "open"


def test_a_coarse_clock_that_starts_at_zero():
    class Coarse(FakeClock):
        def monotonic(self):
            return super().monotonic() // 0.0156 * 0.0156

    clock = Coarse(start=0.0)
    breaker = CircuitBreaker(
        failure_threshold=None, failure_share=0.5, min_calls=2, window=0.05, reset_timeout=0.005, clock=clock
    )
    run(breaker, bad=2)
    assert is_refused(breaker)
    clock.advance(0.005)
    assert is_refused(breaker), "no tick has come"
    clock.advance(0.0156)
    run(breaker, good=1)
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    "settings",
    [{}, {"failure_share": 0.5}, {"is_bad_result": lambda result: False}],
    ids=["row", "window", "slow path"],
)
def test_fifty_calls_are_inside_at_once(make, settings):
    inside = threading.Barrier(50)
    guarded = make(**settings)(lambda: inside.wait(JOIN_TIMEOUT) >= 0)
    assert together(50, lambda i: guarded()) == [True] * 50


# -- refusals -------------------------------------------------------------------------------------------------------


def test_refusals_leave_nothing_behind(make, clock):
    breaker = make()
    breaker.open()
    guarded = breaker(lambda: None)

    def refuse(times):
        last = None
        for _ in range(times):
            clock._now += 1e-6
            try:
                guarded()
            except errors.CircuitOpenError as error:
                now = error.retry_after
            assert last is None or 0 <= now < last
            last = now

    refuse(100)
    gc.collect()
    tracemalloc.start()
    try:
        refuse(100)
        before = tracemalloc.get_traced_memory()[0]
        refuse(1000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2000, "two bytes for each refusal would be more"
    assert breaker.stats().rejected == 1200


def test_refusals_of_many_threads_are_all_counted(make):
    breaker = make()
    breaker.open()
    together(8, lambda i: [is_refused(breaker) for _ in range(100)])
    assert breaker.stats().rejected == 800


# -- signals, forks, switches ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer here")
@pytest.mark.parametrize("settings", [{}, {"failure_share": 0.9, "min_calls": 5}], ids=["row", "window"])
def test_a_signal_handler_that_calls_the_breaker_while_it_is_inside_does_not_hang(settings):
    breaker = CircuitBreaker(
        failure_threshold=3, reset_timeout=0, half_open_max_requests=2, success_threshold=2, **settings
    )
    guarded = breaker(lambda error: fail() if error else None)
    entries = []

    def call(error):
        try:
            guarded(error)
        except (Boom, errors.CircuitOpenError):
            pass

    def interrupt(*_):
        entries.append(1)
        call(len(entries) % 2)
        breaker.stats()

    old = signal.signal(signal.SIGALRM, handler(interrupt))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        for i in itertools.count():
            call(i % 3 == 0)
            if i > 1000 and len(entries) > 20:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    breaker.reset()
    assert guarded(False) is None
    stats = breaker.stats()
    assert (stats.state, stats.failures, stats.probes) == ("closed", 0, 0)
    assert stats.generation >= 2 * stats.trips - 1


def test_the_threads_of_a_random_run_leave_sane_counters():
    breaker = CircuitBreaker(failure_threshold=2, reset_timeout=0, half_open_max_requests=2, success_threshold=2)
    most, inside, lock = [0], [0], threading.Lock()
    events = []
    breaker.add_listener(events.append)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(i):
        rng = random.Random(i)
        for _ in range(150):
            try:
                permit = breaker.acquire()
            except errors.CircuitOpenError:
                continue
            probe = permit._lease is not None
            with lock:
                inside[0] += probe
                most[0] = max(most[0], inside[0]) if breaker.state == "half-open" else most[0]
            with lock:
                inside[0] -= probe
            rng.choice([permit.success, permit.failure, permit.ignore])()

    try:
        together(8, work)
    finally:
        sys.setswitchinterval(before)
    stats = breaker.stats()
    assert stats.probes == 0
    assert [e.generation for e in events] == sorted({e.generation for e in events})
    assert sum(e.new == "open" for e in events) == stats.trips
    for one, two in itertools.pairwise(events):
        assert one.new == two.old, "no event is missing and none is told twice"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_keeps_the_state_drops_the_probes_and_does_not_inherit_a_held_lock(make, clock):
    opened, probing = make(name="opened"), make(name="probing")
    opened.open()
    probing.open()
    clock.advance(10.0)
    probing.acquire()
    opened.open()
    held, leave = threading.Event(), threading.Event()

    def hold():
        with opened._mx, opened._lock, probing._lock, probing._mx:
            probing._events._delivering[0] = "another thread's"
            held.set()
            leave.wait(JOIN_TIMEOUT)
            del probing._events._delivering[0]

    holder = Background(hold)
    assert held.wait(JOIN_TIMEOUT)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)  # a hang is a failure
            ok = opened.stats().state == "open" and is_refused(opened) and probing.stats().probes == 0
            heard = []
            probing.add_listener(heard.append)
            probing.execute(int)
            code = 0 if ok and probing.state == "closed" and len(heard) == 1 else 2
        finally:
            os._exit(code)
    leave.set()
    holder.result()
    assert os.waitpid(child, 0)[1] == 0
    assert probing.stats().probes == 1, "the parent's probe still flies"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_children_take_breaks_of_different_lengths():
    lengths = []
    for _ in range(2):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, repr(Backoff(base=100.0, jitter=1.0).length(0)).encode())
            os._exit(0)
        os.close(write)
        lengths.append(os.read(read, 100))
        os.close(read)
        os.waitpid(child, 0)
    assert lengths[0] != lengths[1]


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"failure_threshold": None}, "failure_threshold"),
        ({"failure_share": 0}, "failure_share"),
        ({"failure_share": 1.1}, "failure_share"),
        ({"failure_share": math.nan}, "failure_share"),
        ({"slow_share": 0.5}, "slow_after"),
        ({"slow_after": 0.5}, "slow_after"),
        ({"slow_share": 0.5, "slow_after": -1}, "slow_after"),
        ({"slow_share": -0.5, "slow_after": 1}, "slow_share"),
        ({"window": 0}, "window"),
        ({"window": math.inf}, "window"),
        ({"min_calls": 0}, "min_calls"),
        ({"mode": "off"}, "mode"),
        ({"ignore": ["KeyError"]}, "ignore"),
        ({"ignore": [KeyError()]}, "ignore"),
        ({"exclude": [KeyError()]}, "exclude"),
        ({"is_failure": "KeyError"}, "is_failure"),
        ({"is_failure": KeyError()}, "is_failure"),
        ({"is_failure": (KeyError, "OSError")}, "is_failure"),
        ({"is_failure": int}, "is_failure"),
        ({"is_failure": KeyboardInterrupt}, "is_failure"),
        ({"is_bad_result": 3}, "is_bad_result"),
        ({"is_bad_result": KeyError}, "is_bad_result"),
        ({"reset_timeout": lambda: 3}, "reset_timeout"),
    ],
)
def test_bad_settings_are_refused(settings, setting):
    with pytest.raises(errors.ConfigError) as caught:
        CircuitBreaker(**{"name": "bad", **settings})
    assert caught.value.setting == setting
    assert str(caught.value).startswith("circuit breaker 'bad'")


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"base": 0}, "base"),
        ({"base": math.nan}, "base"),
        ({"base": 5, "factor": 0.5}, "factor"),
        ({"base": 5, "factor": 11}, "factor"),
        ({"base": 5, "most": 4}, "most"),
        ({"base": 5, "jitter": 1.1}, "jitter"),
        ({"base": 5, "jitter": -0.1}, "jitter"),
    ],
)
def test_bad_backoffs_are_refused(settings, setting):
    with pytest.raises(errors.ConfigError) as caught:
        Backoff(**settings)
    assert caught.value.setting == setting


@pytest.mark.parametrize("entry", ["KeyError", KeyError(), 3])
def test_an_exclusion_that_is_none_is_refused_when_it_is_added(make, entry):
    breaker = make()
    with pytest.raises(errors.ConfigError):
        breaker.add_excluded_exception(entry)
    assert breaker.excluded_exceptions == ()
