import abc
import copy
import dataclasses
import functools
import gc
import inspect
import itertools
import logging
import math
import pickle
import random
import threading
import traceback
import weakref

import pybreaker
import pytest

from hireliab import errors
from hireliab.core._breaker_machine import Machine
from hireliab.core._gate import ISOLATED, HalfOpenGate, OpenGate
from hireliab.core._listeners import Events
from hireliab.core.circuit_breaker import PROBE_LEASE, CircuitBreaker, Permit, circuit_breaker, registry
from hireliab.testing import FakeClock
from tests.support.together import JOIN_TIMEOUT, Background, together


class Boom(Exception):
    pass


def fail(error=None):
    raise error if error is not None else Boom("boom")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    """A breaker that opens at the third failure for 10 seconds."""
    return functools.partial(CircuitBreaker, name="api", failure_threshold=3, reset_timeout=10.0, clock=clock)


@pytest.fixture
def names():
    """Registry names that are discarded afterwards."""
    used = []

    def name(word):
        used.append(f"test.{word}")
        return used[-1]

    yield name
    for one in used:
        registry.discard(one)


def trip(breaker, error=None):
    for _ in range(breaker.fail_max - breaker.fail_counter):
        with pytest.raises(Boom if error is None else type(error)):
            breaker.execute(fail, error)
    assert breaker.state == "open"


def is_refused(breaker):
    try:
        breaker.acquire().ignore()
    except errors.CircuitOpenError:
        return True
    return False


# -- closed and open ------------------------------------------------------------------------------------------------


def test_a_closed_circuit_passes_arguments_and_result(make):
    assert make().execute(lambda *a, **k: (a, k), 1, func=2, name="x", self=3) == (
        (1,),
        {"func": 2, "name": "x", "self": 3},
    )


def test_it_opens_at_the_threshold_and_not_before(make):
    breaker = make()
    for _ in range(2):
        with pytest.raises(Boom):
            breaker.execute(fail)
    assert breaker.state == "closed"
    assert breaker.fail_counter == 2
    with pytest.raises(Boom):
        breaker.execute(fail)
    assert breaker.state == "open"


def test_a_success_starts_the_count_again(make):
    breaker = make()
    for _ in range(5):
        for _ in range(2):
            with pytest.raises(Boom):
                breaker.execute(fail)
        breaker.execute(int)
    assert breaker.state == "closed"


def test_the_call_that_opens_the_circuit_raises_its_own_exception_object(make):
    breaker = make(failure_threshold=1)
    error = Boom("the real one")
    with pytest.raises(Boom) as caught:
        breaker.execute(fail, error)
    assert caught.value is error
    assert error.__cause__ is None
    assert breaker.state == "open"


def test_an_open_circuit_does_not_call(make):
    breaker = make()
    trip(breaker)
    calls = []
    with pytest.raises(errors.CircuitOpenError):
        breaker.execute(calls.append, 1)
    assert calls == []


def test_the_refusal_says_when_and_why_and_either_except_clause_catches_it(make, clock):
    breaker = make()
    trip(breaker, Boom("no route\nto host"))
    clock.advance(4.0)
    with pytest.raises(pybreaker.CircuitBreakerError) as caught:
        breaker.execute(int)
    error = caught.value
    assert isinstance(error, errors.CircuitOpenError)
    assert isinstance(error, errors.NotSentError)
    assert (error.name, error.state, error.retry_after, error.last_error) == (
        "api",
        "open",
        6.0,
        "Boom: no route to host",
    )
    assert (
        str(error)
        == "circuit breaker 'api': open after Boom: no route to host, the call was not made; try again in 6.0 s"
    )
    assert not error.retryable


@pytest.mark.parametrize("clone", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_the_refusal_pickles_and_copies(make, clone):
    breaker = make()
    trip(breaker)
    with pytest.raises(errors.CircuitOpenError) as caught:
        breaker.acquire()
    twin = clone(caught.value)
    assert type(twin) is type(caught.value)
    assert vars(twin) == vars(caught.value)
    assert str(twin) == str(caught.value)


def test_each_refusal_is_a_new_error_with_a_short_traceback(make):
    breaker = make()
    trip(breaker)
    seen = []
    for _ in range(50):
        with pytest.raises(errors.CircuitOpenError) as caught:
            breaker.execute(int)
        seen.append(caught.value)
    assert len({id(error) for error in seen}) == 50
    assert len({len(traceback.extract_tb(error.__traceback__)) for error in seen}) == 1


def test_retry_after_falls_and_never_below_zero(make, clock):
    breaker = make()
    trip(breaker)
    seen = []
    for step in (3.0, 6.5, 0.5, 100.0):
        clock.advance(step)
        seen.append(breaker.stats().retry_after)
    assert seen == [7.0, 0.5, 0.0, 0.0]


def test_calls_run_in_parallel(make):
    breaker = make()
    inside = threading.Barrier(8)
    # Each call waits for all the others to be inside: a breaker that holds its lock during the call hangs here.
    assert together(8, lambda i: breaker.execute(lambda: inside.wait(JOIN_TIMEOUT) >= 0)) == [True] * 8


def test_a_circuit_can_be_opened_while_a_call_runs(make):
    breaker = make()
    entered, leave = threading.Event(), threading.Event()
    call = Background(breaker.execute, lambda: (entered.set(), leave.wait(JOIN_TIMEOUT)))
    assert entered.wait(JOIN_TIMEOUT)
    opener = Background(breaker.open)
    assert opener.result() is False
    assert breaker.state == "open"
    leave.set()
    call.result()


def test_failures_of_many_threads_are_all_counted(make):
    breaker = make(failure_threshold=100)
    permits = [breaker.acquire() for _ in range(99)]
    together(33, lambda i: [permit.failure() for permit in permits[i::33]])
    assert breaker.stats().failures == 99
    assert breaker.state == "closed"


# -- half-open ------------------------------------------------------------------------------------------------------


def test_time_changes_the_state_at_the_next_call_only(make, clock):
    breaker = make()
    trip(breaker)
    clock.advance(9.999)
    assert is_refused(breaker)
    clock.advance(60.0)
    assert breaker.state == "open"
    permit = breaker.acquire()
    assert breaker.state == "half-open"
    permit.success()
    assert breaker.state == "closed"


def test_a_good_probe_closes_and_a_bad_one_opens_for_a_full_break(make, clock):
    breaker = make()
    trip(breaker)
    clock.advance(10.0)
    with pytest.raises(Boom):
        breaker.execute(fail)
    assert breaker.stats().retry_after == 10.0
    clock.advance(10.0)
    assert breaker.execute(lambda: 7) == 7
    assert breaker.state == "closed"
    assert breaker.stats().failures == 0


def test_no_more_probes_than_allowed_run_at_once(make, clock):
    breaker = make(half_open_max_requests=2, success_threshold=3)
    trip(breaker)
    clock.advance(10.0)
    first, second = breaker.acquire(), breaker.acquire()
    with pytest.raises(errors.CircuitOpenError) as caught:
        breaker.acquire()
    assert caught.value.state == "half-open"
    assert caught.value.retry_after is None
    first.success()
    third = breaker.acquire()
    assert is_refused(breaker)
    second.success()
    assert is_refused(breaker), "two are good and one is in flight: no more are needed"
    assert breaker.stats().successes == 2
    third.success()
    assert breaker.state == "closed"


def test_no_more_probes_are_admitted_than_can_still_be_needed(make, clock):
    breaker = make(half_open_max_requests=5, success_threshold=2)
    trip(breaker)
    clock.advance(10.0)
    breaker.acquire(), breaker.acquire()
    assert is_refused(breaker)


def test_a_thousand_callers_when_the_break_ends_are_exactly_the_allowed_probes(make, clock):
    events = []
    breaker = make(half_open_max_requests=2, success_threshold=5, listeners=[events.append])
    trip(breaker)
    clock.advance(10.0)
    refused = together(20, lambda i: [is_refused_and_kept(breaker) for _ in range(50)])
    assert sum(not one for some in refused for one in some) == 2
    assert [event.new for event in events].count("half-open") == 1


def is_refused_and_kept(breaker):
    try:
        breaker.acquire()
    except errors.CircuitOpenError:
        return True
    return False


def test_the_first_bad_probe_opens_at_once_and_its_siblings_are_late(make, clock):
    breaker = make(half_open_max_requests=3, success_threshold=3)
    trip(breaker)
    clock.advance(10.0)
    bad, good, other = (breaker.acquire() for _ in range(3))
    bad.failure(Boom())
    assert breaker.state == "open"
    clock.advance(5.0)
    good.success()
    other.failure(Boom("later"))
    stats = breaker.stats()
    assert (stats.state, stats.retry_after, stats.late, stats.last_error) == ("open", 5.0, 2, "Boom")


def test_an_ignored_probe_neither_closes_nor_wedges(make, clock):
    breaker = make()
    trip(breaker)
    clock.advance(10.0)
    for _ in range(100):
        breaker.acquire().ignore()
        assert breaker.state == "half-open"
        assert breaker.stats().probes == 0
    breaker.execute(int)
    assert breaker.state == "closed"


def test_a_probe_that_never_returns_is_given_up_and_its_late_result_changes_nothing(make, clock):
    breaker = make()
    trip(breaker)
    clock.advance(10.0)
    lost = breaker.acquire()
    clock.advance(PROBE_LEASE - 0.001)
    assert is_refused(breaker)
    assert breaker.state == "half-open"
    clock.advance(0.001)
    assert is_refused(breaker)
    assert breaker.state == "open"
    assert breaker.stats().retry_after == 10.0
    clock.advance(10.0)
    probe = breaker.acquire()
    clock.advance(60.0 - 1.0)
    lost.failure(Boom())
    assert breaker.state == "half-open"
    probe.success()
    lost.success()
    assert breaker.state == "closed"


def test_a_forgotten_permit_does_not_wedge_the_half_open_state(make, clock):
    breaker = make(reset_timeout=100.0)
    trip(breaker)
    clock.advance(100.0)
    breaker.acquire()  # dropped at once
    gc.collect()
    clock.advance(99.0)
    assert is_refused(breaker)
    assert breaker.state == "half-open", "the lease is as long as the break, if that is longer than PROBE_LEASE"
    clock.advance(1.0)
    assert is_refused(breaker)
    clock.advance(100.0)
    breaker.execute(int)
    assert breaker.state == "closed"


def test_a_slow_probe_that_nobody_gave_up_still_counts(make, clock):
    breaker = make()
    trip(breaker)
    clock.advance(10.0)
    probe = breaker.acquire()
    clock.advance(10 * PROBE_LEASE)
    probe.success()
    assert breaker.state == "closed"


def test_a_break_of_no_length_probes_at_once_and_one_at_a_time(make):
    breaker = make(reset_timeout=0)
    trip(breaker)
    probe = breaker.acquire()
    assert is_refused(breaker)
    probe.failure()
    breaker.acquire().success()
    assert breaker.state == "closed"


def test_a_clock_that_starts_at_zero_and_a_break_of_milliseconds():
    clock = FakeClock(start=0.0)
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=0.005, clock=clock)
    trip(breaker)
    assert is_refused(breaker)
    clock.advance(0.005)
    breaker.execute(int)
    assert breaker.state == "closed"


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_the_wall_clock_does_not_matter(make, clock, step):
    breaker = make()
    trip(breaker)
    clock.step_wall(step)
    assert breaker.stats().retry_after == 10.0
    assert is_refused(breaker)
    clock.advance(10.0)
    assert not is_refused(breaker)


# -- late results ---------------------------------------------------------------------------------------------------


def test_a_late_success_does_not_close_an_open_circuit_nor_shorten_the_break(make, clock):
    breaker = make()
    old = breaker.acquire()
    trip(breaker)
    clock.advance(3.0)
    old.success()
    assert breaker.state == "open"
    assert breaker.stats().retry_after == 7.0


def test_a_late_failure_does_not_extend_the_break(make, clock):
    events = []
    breaker = make(listeners=[events.append])
    old = breaker.acquire()
    trip(breaker)
    clock.advance(3.0)
    old.failure(Boom("late"))
    stats = breaker.stats()
    assert (stats.retry_after, stats.trips, stats.late, stats.last_error) == (7.0, 1, 1, "Boom: boom")
    assert len(events) == 1


@pytest.mark.parametrize("word", ["success", "failure", "ignore"])
def test_a_late_result_does_not_disturb_a_probe_in_flight(make, clock, word):
    breaker = make()
    old = breaker.acquire()
    trip(breaker)
    clock.advance(10.0)
    probe = breaker.acquire()
    getattr(old, word)()
    assert breaker.state == "half-open"
    assert is_refused(breaker), "the probe's place is still taken"
    probe.success()
    assert breaker.state == "closed"


@pytest.mark.parametrize("word", ["success", "failure", "ignore"])
def test_a_probe_of_an_earlier_episode_neither_counts_nor_frees_a_place(make, clock, word):
    breaker = make(half_open_max_requests=2, success_threshold=2)
    trip(breaker)
    clock.advance(10.0)
    old, bad = breaker.acquire(), breaker.acquire()
    bad.failure()
    clock.advance(10.0)
    breaker.acquire(), breaker.acquire()
    getattr(old, word)()
    stats = breaker.stats()
    assert (stats.state, stats.probes, stats.successes) == ("half-open", 2, 0)
    assert is_refused(breaker)


def test_a_failure_from_before_a_recovery_is_not_counted_after_it(make, clock):
    breaker = make(failure_threshold=1)
    old = breaker.acquire()
    trip(breaker)
    clock.advance(10.0)
    breaker.execute(int)
    old.failure()
    assert breaker.state == "closed"
    assert breaker.stats().late == 1


def test_only_the_first_word_on_a_permit_counts(make):
    breaker = make()
    permit = breaker.acquire()
    for _ in range(5):
        permit.failure()
    assert breaker.stats().failures == 1
    permit.success()
    assert breaker.stats().failures == 1
    other = breaker.acquire()
    other.ignore()
    other.failure()
    assert breaker.stats().failures == 1


# -- what counts ----------------------------------------------------------------------------------------------------

COUNTED = [
    Boom(),
    errors.ConnectError(),
    errors.ResponseTimeoutError(),
    errors.ResponseLostError(),
    TimeoutError(),
    OSError(),
]
GOOD = [
    errors.OrderRejectedError(),
    errors.InsufficientFundsError(),
    errors.InvalidOrderError(),
    errors.ThrottledError(),
    errors.OrderNotFoundError(),
    errors.AuthenticationError(),
]
IGNORED = [
    errors.InvalidOrderError(by="hireliab"),
    errors.TransactionDeniedError(),
    errors.RateLimitedError(),
    errors.CircuitOpenError(),
    errors.PoolTimeoutError(),
    errors.BulkheadFullError(),
    errors.DeadlineExceededError(),
    errors.ConfigError(),
    KeyboardInterrupt(),
    SystemExit(),
    GeneratorExit(),
    type("GreenletTimeout", (BaseException,), {})(),
]


def outcome(breaker, clock, error):
    """What an exception counts as, seen from outside."""
    breaker.reset()
    with pytest.raises(Boom):
        breaker.execute(fail)
    with pytest.raises(type(error)) as caught:
        breaker.execute(fail, error)
    assert caught.value is error
    closed = {2: "counted", 1: "ignored", 0: "good"}[breaker.stats().failures]
    # The same in half-open.
    trip(breaker)
    clock.advance(10.0)
    with pytest.raises(type(error)):
        breaker.execute(fail, error)
    assert breaker.stats().probes == 0
    assert {"open": "counted", "half-open": "ignored", "closed": "good"}[breaker.state] == closed
    return closed


@pytest.mark.parametrize(
    ("error", "expected"),
    [(e, "counted") for e in COUNTED] + [(e, "good") for e in GOOD] + [(e, "ignored") for e in IGNORED],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_the_default_rule(make, clock, error, expected):
    assert outcome(make(), clock, error) == expected


def test_excluded_types_and_predicates_are_successes(make, clock):
    class WithMeta(Exception, metaclass=abc.ABCMeta):
        pass

    class Mixin:
        pass

    class Mixed(Mixin, ValueError):
        pass

    breaker = make(exclude=[WithMeta, Mixin, lambda e: e.args == ("fine",)])
    assert outcome(breaker, clock, WithMeta()) == "good"
    assert outcome(breaker, clock, Mixed()) == "good"
    assert outcome(breaker, clock, Boom("fine")) == "good"
    assert outcome(breaker, clock, ZeroDivisionError()) == "counted"


def test_is_failure_decides_unless_it_returns_none(make, clock):
    verdicts = {"a": True, "b": False, "c": None}
    breaker = make(is_failure=lambda e: verdicts.get(str(e), True))
    assert outcome(breaker, clock, errors.ThrottledError("a")) == "counted"
    assert outcome(breaker, clock, Boom("b")) == "good"
    assert outcome(breaker, clock, errors.ThrottledError("c")) == "good"
    assert outcome(breaker, clock, Boom("c")) == "counted"
    assert outcome(breaker, clock, errors.RateLimitedError("a")) == "ignored"
    assert outcome(breaker, clock, KeyboardInterrupt("a")) == "ignored"


def test_a_predicate_that_raises_means_failure_is_logged_once_and_keeps_the_error(make, clock, caplog):
    def broken_predicate(error):
        raise RuntimeError("predicate")

    breaker = make(is_failure=broken_predicate)
    assert outcome(breaker, clock, Boom()) == "counted"
    assert len([r for r in caplog.records if "broken_predicate" in r.getMessage()]) == 1


def test_ctrl_c_inside_a_predicate_gives_the_probe_back(make, clock):
    interrupt = []

    def predicate(error):
        if interrupt:
            raise KeyboardInterrupt
        return True

    breaker = make(is_failure=predicate)
    trip(breaker)
    clock.advance(10.0)
    interrupt.append(True)
    with pytest.raises(KeyboardInterrupt):
        breaker.execute(fail)
    assert (breaker.state, breaker.stats().probes) == ("half-open", 0)


def test_awkward_exceptions_are_failures_like_any_other(make, clock):
    class Falsy(Exception):
        def __len__(self):
            return 0

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no text")

        __repr__ = __str__

        def __eq__(self, other):
            raise RuntimeError("no comparison")

        __hash__ = None

    for error in (Falsy(), Mute()):
        breaker = make()
        assert outcome(breaker, clock, error) == "counted"
    assert breaker.stats().last_error == "Mute"


def test_the_last_error_is_a_short_text_and_not_the_exception(make):
    breaker = make(failure_threshold=1)
    error = Boom("x" * 10_000)
    trace = weakref.ref(error)
    trip(breaker, error)
    assert len(breaker.stats().last_error) == 200
    del error
    gc.collect()
    assert trace() is None


# -- forms ----------------------------------------------------------------------------------------------------------


def test_a_with_block_counts_like_a_call(make):
    breaker = make()
    for _ in range(3):
        with pytest.raises(Boom), breaker:
            fail()
    assert breaker.state == "open"
    with pytest.raises(errors.CircuitOpenError), breaker:
        raise AssertionError("entered")


@pytest.mark.parametrize("form", ["with breaker", "calling"])
def test_blocks_nest(make, form):
    breaker = make()
    with pytest.raises(Boom), breaker if form == "with breaker" else breaker.calling() as outer:
        assert isinstance(outer, Permit)
        with breaker if form == "with breaker" else breaker.calling() as inner:
            assert inner is not outer
        fail()
    assert breaker.stats().failures == 1


def test_the_word_given_inside_a_block_counts(make):
    breaker = make()
    with breaker as permit:
        permit.failure("the answer was rubbish")
    assert (breaker.stats().failures, breaker.stats().last_error) == (1, "the answer was rubbish")


def test_a_block_of_one_thread_is_not_ended_by_another(make):
    breaker = make(failure_threshold=50)
    inside = threading.Barrier(2)

    def work(i):
        with breaker:
            inside.wait(JOIN_TIMEOUT)
            if i:
                fail()

    def safe(i):
        try:
            work(i)
        except Boom:
            return True
        return False

    assert together(2, safe) == [False, True]


def test_the_decorator_keeps_the_function_recognisable(make):
    breaker = make()

    @breaker
    def fetch(symbol: str, *, depth: int = 5) -> str:
        """Fetch a book."""
        return f"{symbol}{depth}"

    assert fetch("BTC", depth=2) == "BTC2"
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch a book.")
    assert list(inspect.signature(fetch).parameters) == ["symbol", "depth"]
    trip(breaker)
    with pytest.raises(errors.CircuitOpenError):
        fetch("BTC")


def test_methods_of_every_kind_and_callable_objects_are_guarded(make):
    breaker = make()

    class Client:
        @breaker
        def plain(self, x):
            return ("plain", x)

        @breaker
        @classmethod
        def of_class(cls, x):
            return (cls.__name__, x)

        @breaker()
        @staticmethod
        def static(x):
            return ("static", x)

        def __call__(self, x):
            return ("called", x)

    client = Client()
    assert client.plain(1) == ("plain", 1)
    assert client.of_class(2) == Client.of_class(2) == ("Client", 2)
    assert client.static(3) == Client.static(3) == ("static", 3)
    assert breaker.execute(client, 4) == ("called", 4)
    assert breaker.call(functools.partial(client.plain, 5)) == ("plain", 5)
    assert breaker.execute(len, "six") == 3
    trip(breaker)
    for call in (client.plain, Client.of_class, Client.static):
        with pytest.raises(errors.CircuitOpenError):
            call(1)


async def coroutine():
    pass


def generator():
    yield


async def async_generator():
    yield


class AsyncCallable:
    async def __call__(self):
        pass


LAZY = [coroutine, generator, async_generator, AsyncCallable(), functools.partial(generator), AsyncCallable().__call__]


@pytest.mark.parametrize("func", LAZY)
def test_functions_whose_work_runs_later_are_refused(make, func):
    breaker = make()
    for attempt in (breaker, breaker.execute, breaker.call):
        with pytest.raises(errors.ConfigError, match=r"(async|generator) function"):
            attempt(func)


@pytest.mark.parametrize("thing", [3, "text", int, property(lambda self: 1)])
def test_only_functions_are_decorated(make, thing):
    with pytest.raises(errors.ConfigError):
        make()(thing)


def test_tornado_coroutines_are_refused(make):
    with pytest.raises(errors.ConfigError):
        make().call_async(int)


# -- by hand --------------------------------------------------------------------------------------------------------


def test_an_isolated_circuit_refuses_until_it_is_reset(make, clock):
    breaker = make()
    probe = breaker.acquire()
    breaker.isolate()
    clock.advance(1e9)
    with pytest.raises(errors.CircuitOpenError) as caught:
        breaker.execute(int)
    assert (caught.value.state, caught.value.retry_after) == ("isolated", None)
    probe.success()
    breaker.open()
    breaker.half_open()
    assert breaker.state == "isolated"
    breaker.reset()
    assert breaker.execute(lambda: 1) == 1


def test_reset_closes_an_open_circuit_and_forgets_the_count(make):
    breaker = make()
    trip(breaker)
    breaker.reset()
    assert (breaker.state, breaker.stats().failures, breaker.stats().last_error) == ("closed", 0, None)
    with pytest.raises(Boom):
        breaker.execute(fail)
    breaker.reset()
    assert breaker.fail_counter == 0


def test_pybreakers_open_half_open_and_close(make, clock):
    breaker = make()
    breaker.open()
    assert breaker.current_state == pybreaker.STATE_OPEN
    assert breaker.stats().retry_after == 10.0
    breaker.half_open()
    assert breaker.current_state == pybreaker.STATE_HALF_OPEN
    breaker.execute(int)
    assert breaker.current_state == pybreaker.STATE_CLOSED
    breaker.open()
    breaker.close()
    assert breaker.state.name == pybreaker.STATE_CLOSED


def test_a_probe_in_flight_when_the_circuit_is_isolated_is_late(make, clock):
    breaker = make()
    trip(breaker)
    clock.advance(10.0)
    probe = breaker.acquire()
    breaker.isolate()
    probe.success()
    assert breaker.state == "isolated"
    assert breaker.stats().late == 1


def test_stats_are_a_frozen_snapshot(make):
    breaker = make()
    trip(breaker)
    assert is_refused(breaker)
    stats = breaker.stats()
    breaker.reset()
    assert dataclasses.asdict(stats) == {
        "name": "api",
        "state": "open",
        "generation": 1,
        "failures": 0,
        "successes": 0,
        "probes": 0,
        "trips": 1,
        "rejected": 1,
        "late": 0,
        "retry_after": 10.0,
        "last_error": "Boom: boom",
        "calls": 0,
        "failed": 0,
        "slow": 0,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.state = "closed"


def test_thresholds_can_be_changed_and_are_checked(make):
    breaker = make()
    breaker.fail_max = 1
    breaker.reset_timeout = 2
    breaker.success_threshold = 4
    assert (breaker.failure_threshold, breaker.reset_timeout, breaker.success_threshold) == (1, 2.0, 4)
    with pytest.raises(Boom):
        breaker.execute(fail)
    assert breaker.stats().retry_after == 2.0
    for setting, value in [
        ("fail_max", 0),
        ("failure_threshold", True),
        ("reset_timeout", math.nan),
        ("success_threshold", 0),
    ]:
        with pytest.raises(errors.ConfigError):
            setattr(breaker, setting, value)


# -- listeners ------------------------------------------------------------------------------------------------------


def test_listeners_hear_every_change_once_and_in_order(make, clock):
    events = []
    breaker = make(listeners=[events.append])
    trip(breaker)
    clock.advance(10.0)
    with pytest.raises(Boom):
        breaker.execute(fail)
    clock.advance(10.0)
    breaker.execute(int)
    breaker.isolate()
    breaker.isolate()
    breaker.reset()
    breaker.reset()
    assert [(e.old, e.new) for e in events] == [
        ("closed", "open"),
        ("open", "half-open"),
        ("half-open", "open"),
        ("open", "half-open"),
        ("half-open", "closed"),
        ("closed", "isolated"),
        ("isolated", "closed"),
    ]
    generations = [e.generation for e in events]
    assert generations == sorted(set(generations))
    assert events[0].reason == "failures in a row: 3"
    assert events[0].last_error == "Boom: boom"


def test_a_listener_may_use_the_breaker_and_other_threads_may_too(make):
    seen = []

    def listener(event):
        seen.append((event.new, breaker.state))
        # From another thread: this would hang if a lock were held while listeners run.
        Background(breaker.stats).result()
        if event.new == "open":
            breaker.isolate()
        elif event.new == "isolated":
            breaker.reset()
            assert breaker.execute(lambda: 1) == 1

    breaker = make(failure_threshold=1, listeners=[listener])
    with pytest.raises(Boom):
        Background(breaker.execute, fail).result()  # in a thread, so that a deadlock is a failure
    assert seen == [("open", "open"), ("isolated", "isolated"), ("closed", "closed")]
    assert breaker.state == "closed"


def test_a_slow_listener_delays_nobody_else_and_hears_the_rest_in_order(make):
    entered, leave = threading.Event(), threading.Event()
    seen = []

    def slow(event):
        seen.append(event.generation)
        entered.set()
        assert leave.wait(JOIN_TIMEOUT)

    breaker = make(listeners=[slow])
    first = Background(breaker.open)
    assert entered.wait(JOIN_TIMEOUT)
    Background(breaker.reset).result()
    Background(breaker.isolate).result()
    assert breaker.state == "isolated"
    assert seen == [1]
    leave.set()
    first.result()
    assert seen == [1, 2, 3]


def test_events_of_many_threads_are_delivered_once_in_order_and_one_at_a_time(make):
    seen, inside, overlaps = [], [], []

    def listener(event):
        if inside:
            overlaps.append(event)
        inside.append(event)
        seen.append(event.generation)
        inside.pop()

    breaker = make(listeners=[listener])
    together(8, lambda i: [random.Random(i * 100 + j).choice([breaker.open, breaker.reset])() for j in range(50)])
    assert seen == sorted(set(seen))
    assert not overlaps
    count = len(seen)
    breaker.isolate()
    assert seen[count:] == [breaker.stats().generation], "nothing was left in the queue"


def test_an_event_that_comes_while_the_deliverer_stops_is_not_left_behind():
    events = Events(logging.getLogger("test"), lambda: "test")
    seen = []

    class LastMoment(dict):
        """The deliverer's mark; before it is gone for the first time another thread puts an event and cannot deliver it."""

        def __delitem__(self, key):
            if len(seen) == 1:
                events.put("second")
                events.deliver(seen.append)
                assert seen == ["first"]
            super().__delitem__(key)

    events._delivering = LastMoment()
    events.put("first")
    Background(events.deliver, seen.append).result()
    assert seen == ["first", "second"]


def test_a_raising_listener_is_logged_once_by_name_and_changes_nothing(make, clock, caplog):
    def bad_listener(event):
        raise RuntimeError("alert system down")

    heard = []
    breaker = make(listeners=[bad_listener, heard.append])
    error = Boom("mine")
    breaker.fail_max = 1
    with pytest.raises(Boom) as caught:
        breaker.execute(fail, error)
    assert caught.value is error
    assert breaker.state == "open"
    breaker.reset()
    assert len(heard) == 2
    reports = [record for record in caplog.records if "bad_listener" in record.getMessage()]
    assert len(reports) == 1
    assert "'api'" in reports[0].getMessage()
    assert reports[0].exc_info[1].args == ("alert system down",)


def test_ctrl_c_in_a_listener_gives_the_probe_back_and_loses_no_later_event(make, clock):
    heard = []

    def listener(event):
        heard.append(event.new)
        if event.new == "half-open" and heard.count("half-open") == 1:
            raise KeyboardInterrupt

    breaker = make(listeners=[listener])
    trip(breaker)
    clock.advance(10.0)
    with pytest.raises(KeyboardInterrupt):
        breaker.execute(int)
    assert breaker.stats().probes == 0
    breaker.execute(int)
    assert heard == ["open", "half-open", "closed"]


def test_ctrl_c_before_the_deliverer_knows_that_it_is_the_one_silences_no_listener():
    events = Events(logging.getLogger("test"), lambda: "test")
    seen = []

    class Interrupted(dict):
        def setdefault(self, key, value):
            super().setdefault(key, value)
            raise KeyboardInterrupt

    events.put("first")
    events._delivering, plain = Interrupted(), events._delivering
    with pytest.raises(KeyboardInterrupt):
        events.deliver(seen.append)
    plain.update(events._delivering)  # what the call left there
    events._delivering = plain
    events.put("second")
    events.deliver(seen.append)
    assert seen == ["first", "second"]


def test_a_listener_that_makes_an_event_does_not_hear_it_inside_itself():
    events = Events(logging.getLogger("test"), lambda: "test")
    inside, seen = [], []

    def tell(event):
        assert not inside
        inside.append(event)
        if event < 3:
            events.put(event + 1)
            events.deliver(tell)
        seen.append(inside.pop())

    events.put(1)
    events.deliver(tell)
    assert seen == [1, 2, 3]


def test_transitions_are_logged(make, caplog):
    caplog.set_level(logging.INFO, logger="hireliab.circuit_breaker")
    breaker = make()
    trip(breaker)
    breaker.reset()
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "circuit breaker 'api': open, was closed: failures in a row: 3"),
        ("INFO", "circuit breaker 'api': closed, was open: closed by hand"),
    ]


class Recorder(pybreaker.CircuitBreakerListener):
    def __init__(self):
        self.heard = []

    def before_call(self, cb, func, *args, **kwargs):
        self.heard.append(("before", func.__name__, args, kwargs))

    def failure(self, cb, exc):
        self.heard.append(("failure", str(exc)))

    def success(self, cb):
        self.heard.append("success")

    def state_change(self, cb, old_state, new_state):
        assert cb.current_state == new_state.name
        self.heard.append((old_state.name, new_state.name))


def test_pybreaker_listeners_hear_what_they_always_heard_in_its_order(make, clock):
    recorder = Recorder()
    breaker = make(listeners=[recorder])
    breaker.fail_max = 1
    with pytest.raises(Boom):
        breaker.execute(fail)
    assert is_refused(breaker)
    clock.advance(10.0)
    breaker.execute(int, "7", base=8)
    assert recorder.heard == [
        ("before", "fail", (), {}),
        ("failure", "boom"),
        ("closed", "open"),
        ("open", "half-open"),
        ("before", "int", ("7",), {"base": 8}),
        ("half-open", "closed"),
        "success",
    ]
    breaker.remove_listener(recorder)
    breaker.add_listener(recorder)
    assert breaker.listeners == (recorder,)


def test_a_late_word_does_not_make_pybreaker_listeners_hear_it_twice(make):
    recorder = Recorder()
    breaker = make(listeners=[recorder])
    permit = breaker.acquire()
    permit.success()
    permit.success()
    permit.failure()
    assert recorder.heard == ["success"]


# -- locks ----------------------------------------------------------------------------------------------------------


def test_a_signal_handler_or_finaliser_inside_the_lock_does_not_deadlock(make):
    breaker = make(failure_threshold=1)

    def interrupted():
        # What a handler sees that runs on the thread which is just inside the locked section.
        with breaker._mx:
            with pytest.raises(Boom):
                breaker.execute(fail)
            return is_refused(breaker)

    assert Background(interrupted).result() is True


def test_a_signal_handler_between_two_steps_of_an_admission_takes_no_extra_probe():
    class Interrupted(dict):
        """Calls back before a lease is written, as a signal handler may."""

        def __setitem__(self, key, value):
            if key == 1:
                admitted.append(gate.take(1.0, most=1, wanted=1))
            super().__setitem__(key, value)

    gate = HalfOpenGate(1, None)
    gate._leases = Interrupted()
    admitted = []
    admitted.append(gate.take(1.0, most=1, wanted=1))
    assert admitted == [2, None]
    assert gate.probes == 1


def test_a_transition_from_a_state_that_is_gone_does_nothing():
    events = []
    machine = Machine(name="m", fail_max=1, reset_timeout=1.0, success_threshold=1, most_probes=1, put=events.append)
    stale = machine.gate
    machine.force(ISOLATED, 0.0)
    # What is left of a transition that a signal handler came before.
    machine._swap(stale, OpenGate(1, None, until=1.0), "too late")
    assert machine.gate.state == "isolated"
    assert (machine.stats(0.0).trips, len(events)) == (0, 1)


# -- settings -------------------------------------------------------------------------------------------------------


def test_it_is_a_pybreaker_breaker():
    breaker = CircuitBreaker()
    assert isinstance(breaker, pybreaker.CircuitBreaker)
    assert (breaker.name, breaker.fail_max, breaker.reset_timeout, breaker.success_threshold) == ("unnamed", 5, 30.0, 1)
    assert (breaker.fail_counter, breaker.success_counter, breaker.current_state) == (0, 0, "closed")
    assert breaker.is_system_error(Boom())
    assert not breaker.is_system_error(KeyboardInterrupt())
    breaker.add_excluded_exception(Boom)
    assert not breaker.is_system_error(Boom())
    assert repr(breaker) == "<CircuitBreaker 'unnamed' closed>"


def test_pybreakers_names_are_accepted():
    breaker = CircuitBreaker(
        fail_max=2, reset_timeout=5, exclude=[KeyError], state_storage=None, throw_new_error_on_trip=False, name="old"
    )
    assert (breaker.fail_max, breaker.failure_threshold, breaker.reset_timeout, breaker.name) == (2, 2, 5.0, "old")
    assert breaker.excluded_exceptions == (KeyError,)


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"failure_threshold": 0}, "failure_threshold"),
        ({"failure_threshold": -1}, "failure_threshold"),
        ({"failure_threshold": True}, "failure_threshold"),
        ({"failure_threshold": 2.5}, "failure_threshold"),
        ({"fail_max": 0}, "failure_threshold"),
        ({"failure_threshold": 5, "fail_max": 5}, "fail_max"),
        ({"reset_timeout": math.nan}, "reset_timeout"),
        ({"reset_timeout": math.inf}, "reset_timeout"),
        ({"reset_timeout": -0.1}, "reset_timeout"),
        ({"reset_timeout": "30"}, "reset_timeout"),
        ({"half_open_max_requests": 0}, "half_open_max_requests"),
        ({"half_open_max_requests": 1001}, "half_open_max_requests"),
        ({"success_threshold": 0}, "success_threshold"),
        ({"success_threshold": None}, "success_threshold"),
        ({"name": ""}, "name"),
        ({"is_failure": 3}, "is_failure"),
        ({"listeners": [3]}, "listeners"),
        ({"exclude": ["KeyError"]}, "exclude"),
        ({"throw_new_error_on_trip": True}, "throw_new_error_on_trip"),
        ({"state_storage": pybreaker.CircuitMemoryStorage("closed")}, "state_storage"),
    ],
)
def test_bad_settings_are_refused(settings, setting):
    with pytest.raises(errors.ConfigError) as caught:
        CircuitBreaker(**{"name": "bad", **settings})
    assert caught.value.setting == setting
    assert str(caught.value).startswith("circuit breaker ")


def test_a_lone_listener_where_a_list_belongs_is_refused():
    for setting in ("listeners", "exclude"):
        with pytest.raises(errors.ConfigError, match=setting):
            CircuitBreaker(**{setting: print})


def test_an_unknown_setting_is_refused_with_the_nearest_known_one():
    with pytest.raises(errors.ConfigError, match="did you mean 'failure_threshold'") as caught:
        CircuitBreaker(failure_treshold=3)
    assert caught.value.near_miss == "failure_threshold"
    with pytest.raises(TypeError):
        CircuitBreaker(3)


# -- registry -------------------------------------------------------------------------------------------------------


def test_functions_that_share_a_name_share_the_breaker(names):
    name = names("shared")
    clock = FakeClock()

    @circuit_breaker(name=name, failure_threshold=1, clock=clock)
    def first():
        fail()

    @circuit_breaker(name=name, failure_threshold=1, clock=clock)
    def second():
        return 2

    with pytest.raises(Boom):
        first()
    with pytest.raises(errors.CircuitOpenError):
        second()
    assert registry.get(name).state == "open"


def test_conflicting_settings_name_both_values_and_the_way_out(names):
    name = names("conflict")
    first = registry.get(name, failure_threshold=3, reset_timeout=60)
    assert registry.get(name) is first
    assert registry.get(name, fail_max=3) is first
    assert registry.get(name, reset_timeout=60.0, failure_threshold=3) is first
    with pytest.raises(errors.ConfigError) as caught:
        circuit_breaker(name=name, failure_threshold=4)
    text = str(caught.value)
    assert "failure_threshold is 3 already, got 4" in text
    assert f"registry.discard({name!r})" in text
    with pytest.raises(errors.ConfigError, match="reset_timeout"):
        registry.get(name, reset_timeout=30.0)
    assert registry.discard(name)
    assert not registry.discard(name)
    assert registry.get(name, failure_threshold=4) is not first


def test_a_constructor_does_not_register(names):
    name = names("constructed")
    made = CircuitBreaker(name=name)
    assert registry.get(name) is not made


def test_a_mistake_in_the_settings_registers_nothing(names):
    name = names("mistake")
    with pytest.raises(errors.ConfigError):
        registry.get(name, failure_threshold=0)
    assert registry.get(name, failure_threshold=2).fail_max == 2


def test_threads_that_ask_first_get_the_same_breaker(names):
    name = names("race")
    assert len({id(b) for b in together(16, lambda i: registry.get(name, failure_threshold=2))}) == 1


def test_the_decorator_refuses_a_generator_function(names):
    with pytest.raises(errors.ConfigError):
        circuit_breaker(name=names("generator"))(generator)


def test_two_breakers_share_nothing(make):
    breakers = [make() for _ in range(2)]
    trip(breakers[0])
    assert [b.state for b in breakers] == ["open", "closed"]
    assert len(set(map(id, itertools.chain.from_iterable([b._mx, b._events] for b in breakers)))) == 4
