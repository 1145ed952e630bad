import copy
import dataclasses
import functools
import gc
import logging
import math
import pickle
import random
import subprocess
import sys
import weakref

import pytest
import tenacity

from hireliab.core import retry as retry_module
from hireliab.core.deadline import deadline
from hireliab.core.retry import Retry, RetryBudget, retry
from hireliab.errors import (
    BulkheadFullError,
    CircuitOpenError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    HireliabError,
    InsufficientFundsError,
    NotSentError,
    OutcomeUnknownError,
    PoolTimeoutError,
    RateLimitedError,
    ResponseTimeoutError,
    ThrottledError,
)
from hireliab.testing import FakeClock
from tests.support.together import Background, together


class JumpingClock(FakeClock):
    """For one thread: to wait is to move the clock; the waits are kept."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait_for(self, condition, predicate, timeout=None):
        self.waits.append(timeout)
        self.advance_quietly(timeout)
        return predicate()

    def advance_quietly(self, seconds):
        with self._lock:
            self._now += seconds


class Script:
    """A function that raises or returns what it is told, call by call; the last word is repeated."""

    def __init__(self, *words):
        self.words = words
        self.calls = 0

    def __call__(self):
        word = self.words[min(self.calls, len(self.words) - 1)]
        self.calls += 1
        if isinstance(word, BaseException):
            raise word
        return word


@pytest.fixture
def clock():
    return JumpingClock()


@pytest.fixture
def make(clock):
    return functools.partial(Retry, clock=clock)


@pytest.fixture
def reads(make):
    """For idempotent calls, after OSError, with waits of one second."""
    return functools.partial(make, on=OSError, idempotent=True, wait=1.0)


def run(retrying, *words):
    """Its outcome (the result, or the error) and the number of calls."""
    script = Script(*words)
    try:
        return retrying.execute(script), script.calls
    except Exception as error:
        return error, script.calls


# -- what is retried --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ConnectError("x"), PoolTimeoutError("x"), RateLimitedError("x"), ThrottledError("x")]
)
def test_an_error_that_proves_that_nothing_happened_is_retried_by_default(make, error):
    assert run(make(), error, error, "done") == ("done", 3)


@pytest.mark.parametrize(
    "error",
    [
        ResponseTimeoutError("x"), OutcomeUnknownError("x"), InsufficientFundsError("x"), TimeoutError("x"),
        OSError("x"), ValueError("x"), CircuitOpenError(retry_after=1.0), BulkheadFullError("x"),
        DeadlineExceededError("x"), HireliabError("x"), NotSentError("x"),
    ],
)  # fmt: skip
def test_an_order_whose_outcome_is_open_is_sent_once(make, error):
    assert run(make(), error, "sent twice") == (error, 1)
    assert not hasattr(error, "retry_attempts")


def test_the_default_makes_three_calls(make):
    errors = [ConnectError(str(number)) for number in range(3)]
    assert run(make(), *errors) == (errors[2], 3)
    assert run(make(attempts=1), *errors) == (errors[0], 1)
    assert run(make(attempts=1100), ConnectError("x"))[1] == 1100  # and no overflow


def test_on_names_what_an_idempotent_call_retries(make):
    reads = make(on=(OSError, KeyError), idempotent=True)
    assert run(reads, TimeoutError(), KeyError(), 7) == (7, 3)
    error = ValueError("x")
    assert run(reads, error, 7) == (error, 1)
    unnamed = ConnectError("x")
    assert run(reads, unnamed, 7) == (unnamed, 1)


def test_on_may_be_a_callable_that_takes_the_exception(make):
    reads = make(on=[KeyError, lambda error: getattr(error, "code", 0) == 503], idempotent=True)
    yes, no = ValueError("x"), ValueError("x")
    yes.code, no.code = 503, 400
    assert run(reads, yes, KeyError(), 7) == (7, 3)
    assert run(reads, no, 7) == (no, 1)


@pytest.mark.parametrize(
    "error", [CircuitOpenError(retry_after=1.0), BulkheadFullError("x"), DeadlineExceededError("x")]
)
def test_a_wide_net_does_not_catch_what_fails_again_at_once(make, error):
    for wide in (Exception, HireliabError, NotSentError):
        assert run(make(on=wide, idempotent=True), error, 7) == (error, 1)
    assert run(make(on=type(error), idempotent=True), error, 7) == (7, 2)


def test_on_narrows_what_is_retried_without_idempotent(make):
    orders = make(on=ConnectError)
    throttled = ThrottledError("x")
    assert run(orders, ConnectError("x"), 7) == (7, 2)
    assert run(orders, throttled, 7) == (throttled, 1)


def test_a_predicate_cannot_widen_what_is_retried_without_idempotent(make):
    orders = make(on=lambda error: True)
    unknown = ResponseTimeoutError("x")
    assert run(orders, unknown, 7) == (unknown, 1)
    assert run(orders, ConnectError("x"), 7) == (7, 2)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_is_never_retried(make, kind):
    script = Script(ConnectError("x"), kind())
    with pytest.raises(kind):
        make().execute(script)
    assert script.calls == 2
    negated = make(on=tenacity.retry_if_not_exception_type(ValueError), idempotent=True)
    script = Script(kind())
    with pytest.raises(kind):
        negated.execute(script)
    with pytest.raises(kind):
        negated(script)()
    assert script.calls == 2


def test_a_falsy_exception_is_an_exception(reads):
    class Falsy(OSError):
        def __bool__(self):
            return False

    assert run(reads(), Falsy(), 7) == (7, 2)


def test_a_predicate_that_raises_ends_it_with_the_original_error(make, caplog):
    error = ValueError("mine")
    reads = make(on=lambda error: error.nothing, idempotent=True)
    assert run(reads, error, 7) == (error, 1)
    assert "a strategy raised" in caplog.text


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_there_is_no_wait_after_the_last_failure(reads, clock):
    run(reads(attempts=3), OSError())
    assert clock.waits == [1.0, 1.0]


def test_the_default_wait_is_full_jitter_that_doubles_up_to_five_seconds(make, clock, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: (low, high)[1])
    run(make(attempts=8), ConnectError("x"))
    assert clock.waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    clock.waits.clear()
    run(make(), ConnectError("x"))
    assert clock.waits == []  # nothing to wait for


def test_the_hint_of_the_server_comes_on_top(make, clock):
    run(make(wait=0.5), ThrottledError("x", retry_after=7.0), RateLimitedError("x", retry_after=3.0), "done")
    assert clock.waits == [7.5, 3.5]


def test_an_open_circuit_is_waited_for_when_it_is_named(make, clock):
    assert run(make(on=CircuitOpenError, wait=0), CircuitOpenError(retry_after=9.0), 7) == (7, 2)
    assert clock.waits == [9.0]


@pytest.mark.parametrize("hint", [-1.0, math.nan, math.inf, "7", None, True])
def test_a_senseless_hint_is_no_hint(make, clock, hint):
    error = ThrottledError("x")
    error.retry_after = hint
    assert run(make(wait=0.5), error, "done") == ("done", 2)
    assert clock.waits == [0.5]


def test_a_hint_that_is_too_long_ends_it_at_once(make, clock):
    patient, error = make(wait=0), ThrottledError("x", retry_after=60.0)
    assert run(patient, error, 7) == (7, 2)
    banned = ThrottledError("x", retry_after=3 * 86400.0)
    assert run(patient, banned, 7) == (banned, 1)
    assert run(make(max_retry_after=5.0), error, 7) == (error, 1)
    assert clock.waits == [60.0]
    assert run(make(wait=0, max_retry_after=None), ThrottledError("x", retry_after=3 * 86400.0), 7) == (7, 2)


def test_no_wait_outlasts_the_deadline(reads, clock):
    started = clock.monotonic()
    errors = [OSError(str(number)) for number in range(9)]
    with deadline(2.5, clock=clock):
        assert run(reads(attempts=9), *errors) == (errors[2], 3)
    assert clock.waits == [1.0, 1.0]
    assert clock.monotonic() - started == 2.0
    with deadline(1.0, clock=clock):
        assert run(reads(), errors[5], 7) == (errors[5], 1)


def test_it_waits_in_real_threads_for_as_long_as_it_says():
    clock = FakeClock()
    script = Script(OSError("x"), "done")
    waiting = Background(Retry(on=OSError, idempotent=True, wait=3.0, clock=clock).execute, script)
    clock.wait_parked()
    clock.advance(2.999)
    assert (clock.parked(), script.calls) == (1, 1)
    clock.advance(0.001)
    assert waiting.result() == "done"


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_the_original_exception_comes_out_with_attempts_and_elapsed(reads):
    error = OSError("x")
    outcome, _ = run(reads(attempts=4), OSError("1"), OSError("2"), OSError("3"), error)
    assert outcome is error
    assert (error.retry_attempts, error.retry_elapsed) == (4, 3.0)
    assert error.__cause__ is None
    assert error.__context__ is None  # the earlier ones are no part of its story


def test_an_error_that_ends_it_early_tells_the_attempts_too(reads):
    error = ValueError("x")
    run(reads(), OSError("1"), error)
    assert (error.retry_attempts, error.retry_elapsed) == (2, 1.0)


def test_its_traceback_still_shows_where_it_was_raised(reads):
    def broken():
        raise OSError("here")

    with pytest.raises(OSError) as caught:
        reads(wait=0)(broken)()
    assert caught.traceback[-1].name == "broken"


@pytest.mark.parametrize("error", [OSError(5, "x"), ThrottledError("x", retry_after=0.0), KeyError("x")])
def test_the_facts_pickle_and_copy_with_the_error(make, error):
    outcome, _ = run(make(on=Exception, idempotent=True, wait=1.0), error)
    for twin in (pickle.loads(pickle.dumps(outcome)), copy.copy(outcome)):
        assert (type(twin), twin.args) == (type(error), error.args)
        assert (twin.retry_attempts, twin.retry_elapsed) == (3, 2.0)


def test_a_frozen_dataclass_can_be_retried(make):
    @dataclasses.dataclass(frozen=True)
    class Broken(Exception):
        code: int

    outcome, calls = run(make(on=Broken, idempotent=True, wait=0), Broken(7))
    assert (outcome.code, outcome.retry_attempts, calls) == (7, 3, 3)


def test_a_decorated_function_keeps_its_name_arguments_and_result(make):
    @make()
    def call(*args, func, name=1):
        """Call."""
        return args, func, name

    assert call(1, 2, func=3, name=4) == ((1, 2), 3, 4)
    assert (call.__name__, call.__doc__, call.__wrapped__.__name__) == ("call", "Call.", "call")
    assert make().execute(call, 5, func=6) == ((5,), 6, 1)


def test_methods_of_every_kind_can_be_decorated(make):
    class Client:
        calls = 0

        @make(wait=0)
        def bound(self):
            self.calls += 1
            if self.calls < 3:
                raise ConnectError("x")
            return self.calls

        @make()
        @classmethod
        def of_class(cls):
            return cls

        @make()
        @staticmethod
        def static():
            return 5

    assert (Client().bound(), Client.of_class(), Client.static()) == (3, Client, 5)


def test_a_failed_call_is_not_kept_alive_by_a_circle(make):
    class Payload:
        pass

    def call(payload):
        raise OSError("x")

    told = []
    for settings in ({}, {"stop": tenacity.stop_after_attempt(3)}, {"after": lambda state: told.append(1)}):
        payload = Payload()
        gone = weakref.ref(payload)
        gc.disable()
        try:
            with pytest.raises(OSError) as caught:
                make(on=OSError, idempotent=True, wait=0, **settings).execute(call, payload)
            del caught, payload
            assert gone() is None
        finally:
            gc.enable()


# -- nested -----------------------------------------------------------------------------------------------------------


def test_nested_retries_do_not_multiply(reads):
    script = Script(OSError("x"))
    inner = reads(wait=0)(script)
    middle = reads(wait=0)(inner)
    outer = reads(wait=0)(middle)
    with pytest.raises(OSError) as caught:
        outer()
    assert script.calls == 3
    assert caught.value.retry_attempts == 3


def test_a_spent_error_is_known_behind_a_wrapping_one(make, reads):
    script = Script(OSError("x"))
    inner = reads(wait=0)(script)

    def wrapping():
        try:
            return inner()
        except OSError as error:
            raise KeyError("wrapped") from error

    with pytest.raises(KeyError):
        make(on=KeyError, idempotent=True, wait=0).execute(wrapping)
    assert script.calls == 3


def test_a_retry_inside_of_a_handler_is_not_nested(reads):
    first, second = Script(OSError("x")), Script(OSError("y"))
    with pytest.raises(OSError) as caught:
        try:
            reads(wait=0).execute(first)
        except OSError:
            reads(wait=0).execute(second)
    assert (first.calls, second.calls) == (3, 3)
    assert caught.value.args == ("y",)


def test_a_retry_that_did_not_try_leaves_the_error_to_the_one_around_it(make, reads):
    script = Script(OSError("x"), 7)
    orders = make()(script)  # not its business
    assert reads(wait=0).execute(orders) == 7
    single = make(on=OSError, idempotent=True, attempts=1)(Script(OSError("x"), 8))
    assert reads(wait=0).execute(single) == 8


def test_an_error_raised_while_a_spent_one_is_handled_is_an_error_of_its_own(make, reads):
    script = Script(OSError("x"), OSError("x"), OSError("x"), 7)
    inner = reads(wait=0)(script)

    def handling():
        try:
            return inner()
        except OSError:
            raise KeyError("of its own")  # noqa: B904  # not from it

    assert make(on=KeyError, idempotent=True, wait=0).execute(handling) == 7


def test_the_facts_are_those_of_the_retry_that_gave_up_first(reads):
    inner = reads(wait=0)(Script(OSError("x")))
    steps = Script(OSError("the outer one's own"), inner)

    def step():
        func = steps()
        return func()

    with pytest.raises(OSError, match="x") as caught:
        reads(wait=0, attempts=5).execute(step)
    assert (steps.calls, caught.value.retry_attempts) == (2, 3)


def test_an_error_object_that_is_raised_again_and_again_is_retried_each_time(make, reads):
    shared = OSError("x")
    for attempts in (2, 3):
        assert run(reads(attempts=attempts, wait=0), shared) == (shared, attempts)
        assert shared.retry_attempts == attempts
    watching = make(on=OSError, idempotent=True, attempts=4, wait=0, after=lambda state: None)
    assert run(watching, shared) == (shared, 4)
    assert run(reads(wait=0), shared, 7) == (7, 2)
    script = Script(shared)
    with pytest.raises(OSError):
        reads(wait=0).execute(reads(wait=0)(script))
    assert script.calls == 3


def test_an_error_that_was_spent_on_another_thread_or_in_another_process_stays_spent(reads):
    script = Script(OSError("x"))
    inner = reads(wait=0)(script)
    with pytest.raises(OSError) as caught:
        reads(wait=0).execute(lambda: Background(inner).result())
    assert script.calls == 3
    sent = pickle.dumps(caught.value)

    def remote():
        script.calls += 1
        raise pickle.loads(sent)

    script.calls = 0
    with pytest.raises(OSError):
        reads(wait=0).execute(remote)
    assert script.calls == 1


def test_a_circle_of_causes_ends(make):
    one, two = OSError("1"), OSError("2")
    one.__cause__, two.__cause__ = two, one
    assert run(make(on=OSError, idempotent=True, wait=0), one, 7) == (7, 2)


def test_an_inner_retry_that_was_refused_the_budget_is_spent(reads):
    empty = RetryBudget(target="t", capacity=1, per_minute=0, clock=FakeClock())
    assert empty.take()
    script = Script(OSError("x"))
    inner = reads(budget=empty)(script)
    with pytest.raises(OSError):
        reads().execute(inner)
    assert script.calls == 1


# -- the budget -------------------------------------------------------------------------------------------------------


def test_an_outage_empties_the_budget_and_the_load_returns_to_one_call_each(reads):
    budget = RetryBudget(target="t", capacity=5, per_minute=0, clock=FakeClock())
    reading = reads(budget=budget, wait=0)
    calls = [run(reading, OSError("x"))[1] for _ in range(10)]
    assert calls == [3, 3, 2, 1, 1, 1, 1, 1, 1, 1]
    stats = budget.stats()
    assert (stats.target, stats.tokens, stats.granted, stats.refused) == ("t", 0.0, 5, 8)


def test_an_empty_budget_surfaces_the_original_error(reads):
    budget = RetryBudget(target="t", capacity=1, per_minute=0, clock=FakeClock())
    budget.take()
    error = OSError("mine")
    assert run(reads(budget=budget), error, 7) == (error, 1)
    assert error.retry_attempts == 1


def test_successes_refill_the_budget(reads):
    budget = RetryBudget(target="t", capacity=2, per_success=0.2, per_minute=0, clock=FakeClock())
    reading = reads(budget=budget, wait=0)
    run(reading, OSError("x"))
    for _ in range(5):
        assert run(reading, OSError("x"), 7)[1] == 1
        run(reading, "fine")
    assert run(reading, OSError("x"), 7) == (7, 2)  # five successes, one retry
    assert budget.stats().tokens == pytest.approx(0.2)  # its success counts as well
    decorated = reading(lambda: 7)
    for _ in range(100):
        decorated()
    assert budget.stats().tokens == 2.0


def test_time_refills_the_budget_so_that_a_quiet_bot_can_retry():
    clock = FakeClock()
    budget = RetryBudget(target="t", capacity=1, per_success=0, per_minute=3, clock=clock)
    assert budget.take()
    clock.advance(19.9)
    assert not budget.take()
    clock.advance(0.1)
    assert budget.take()
    clock.advance(86400.0)
    assert budget.stats().tokens == 1.0


def test_a_retry_that_is_not_made_costs_nothing(reads, clock):
    budget = RetryBudget(target="t", clock=clock)
    with deadline(0.5, clock=clock):
        run(reads(budget=budget), OSError("x"))
    run(reads(budget=budget, attempts=1), OSError("x"))
    assert budget.stats().granted == 0


def test_a_budget_is_shared_by_the_name_of_its_target(reads):
    one, two = reads(budget="shared-by-name"), reads(budget="shared-by-name")
    assert one.budget is two.budget is RetryBudget.shared("shared-by-name")
    assert one.budget is not RetryBudget.shared("another")
    assert RetryBudget(target="shared-by-name") is not one.budget  # a constructor registers nothing


def test_conflicting_settings_of_a_shared_budget_are_refused():
    RetryBudget.shared("settled", capacity=7)
    assert RetryBudget.shared("settled", capacity=7.0).capacity == 7
    with pytest.raises(ConfigError, match=r"capacity is 7\.0 already, got 8\.0"):
        RetryBudget.shared("settled", capacity=8)
    with pytest.raises(ConfigError, match="capacity"):
        RetryBudget.shared("settled", capacitty=8)


def test_many_threads_together_get_no_more_than_the_bucket_holds():
    budget = RetryBudget(target="t", capacity=50, per_minute=0, clock=FakeClock())
    got = together(8, lambda _: sum(budget.take() for _ in range(100)))
    assert sum(got) == 50


# -- tenacity ---------------------------------------------------------------------------------------------------------


def test_tenacitys_strategies_decide(make, clock):
    reads = make(
        on=tenacity.retry_if_exception_type(OSError) | tenacity.retry_if_exception_message("again"),
        idempotent=True,
        wait=tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(2)) + tenacity.wait_fixed(10),
        stop=tenacity.stop_after_attempt(4),
    )
    error = OSError("4")
    assert run(reads, OSError("1"), ValueError("again"), OSError("3"), error) == (error, 4)
    assert clock.waits == [11.0, 12.0, 12.0]
    other = ValueError("other")
    assert run(reads, other, 7) == (other, 1)


def test_stop_alone_decides_and_together_with_attempts_the_first_wins(reads):
    assert run(reads(stop=tenacity.stop_after_attempt(5)), OSError("x"))[1] == 5
    assert run(reads(stop=tenacity.stop_after_attempt(5), attempts=2), OSError("x"))[1] == 2
    assert run(reads(stop=tenacity.stop_after_attempt(2), attempts=5), OSError("x"))[1] == 2


def test_delays_are_measured_on_our_clock_from_the_start_of_the_first_attempt(reads, clock):
    def slow():
        clock.advance_quietly(4.0)
        raise OSError("x")

    for stop, attempts in ((tenacity.stop_after_delay(9.0), 2), (tenacity.stop_before_delay(10.0), 2)):
        with pytest.raises(OSError) as caught:
            reads(stop=stop).execute(slow)
        assert caught.value.retry_attempts == attempts


def test_a_rejected_result_is_retried_and_returned_at_the_end(make, clock):
    reads = make(on=tenacity.retry_if_result(lambda value: value is None), idempotent=True, wait=1.0)
    assert run(reads, None, None, 7) == (7, 3)
    assert run(reads, None) == (None, 3)
    assert len(clock.waits) == 4
    orders = make(on=tenacity.retry_if_result(lambda value: value is None))
    assert run(orders, None, 7) == (None, 1)  # a result is no proof that nothing happened
    orders = make(on=tenacity.retry_if_result(lambda value: value is None), stop=tenacity.stop_after_attempt(3))
    assert run(orders, None, 7) == (None, 1)


def test_a_plain_callable_among_tenacitys_strategies_gets_the_state(make):
    def lost(state):
        return isinstance(state.outcome.exception(), KeyError)

    reads = make(on=tenacity.retry_any(tenacity.retry_if_exception_type(OSError), lost), idempotent=True, wait=0)
    assert run(reads, OSError("x"), KeyError("x"), 7) == (7, 3)


def test_callbacks_fire_in_tenacitys_order(make):
    told = []

    def note(word):
        def callback(state):
            outcome = None if state.outcome is None else state.outcome.exception()
            told.append((word, state.attempt_number, outcome, state.upcoming_sleep, state.args, state.kwargs))

        return callback

    error = OSError("x")
    script = Script(error, error, 7)
    reading = make(
        on=OSError, idempotent=True, wait=1.0, before=note("before"), after=note("after"), before_sleep=note("sleep")
    )
    assert reading.execute(lambda value, key: script(), 1, key=2) == 7
    facts = ((1,), {"key": 2})
    assert told == [
        ("before", 1, None, 0.0, *facts),
        ("after", 1, error, 0.0, *facts),
        ("sleep", 1, error, 1.0, *facts),
        ("before", 2, None, 1.0, *facts),
        ("after", 2, error, 1.0, *facts),
        ("sleep", 2, error, 1.0, *facts),
        ("before", 3, None, 1.0, *facts),
    ]


def test_tenacitys_own_loggers_work(reads, caplog):
    log = logging.getLogger("bot")
    with caplog.at_level(logging.DEBUG, logger="bot"):
        reads(
            before=tenacity.before_log(log, logging.INFO),
            after=tenacity.after_log(log, logging.INFO),
            before_sleep=tenacity.before_sleep_log(log, logging.INFO),
        )(Script(OSError("x"), 7))()
    mine = [record.getMessage() for record in caplog.records if record.name == "bot"]
    assert len(mine) == 4
    assert "seconds as it raised OSError: x" in mine[2]


def test_a_callback_that_raises_changes_nothing(reads, caplog):
    def broken(state):
        raise RuntimeError("mine")

    assert run(reads(before=broken, after=broken, before_sleep=broken), OSError("x"), 7) == (7, 2)
    assert "a callback of" in caplog.text


@pytest.mark.parametrize("wait", [math.nan, math.inf, -1.0, "x"])
def test_a_strategy_that_returns_nonsense_ends_it_with_the_original_error(reads, wait):
    error = OSError("x")
    assert run(reads(wait=lambda state: wait), error, 7) == (error, 1)


def test_tenacity_is_not_imported_before_a_strategy_needs_it():
    code = """if True:
        import sys
        from hireliab.core.retry import Retry, retry
        from hireliab.errors import ConnectError
        calls = []
        @retry(wait=0)
        def call():
            calls.append(1)
            if len(calls) < 3:
                raise ConnectError("x")
            return len(calls)
        assert call() == 3
        Retry(before_sleep=print, wait=lambda state: 0)
        assert "tenacity" not in sys.modules, "imported"
        calls.clear()
        assert Retry(wait=lambda state: 0).execute(call.__wrapped__) == 3
        assert "tenacity" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"idempotent": True}, "on"),
        ({"idempotent": True, "on": ()}, "on"),
        ({"idempotent": True, "on": "OSError"}, "on"),
        ({"idempotent": True, "on": OSError("x")}, "on"),
        ({"idempotent": True, "on": [OSError, "ValueError"]}, "on"),
        ({"idempotent": True, "on": int}, "on"),
        ({"idempotent": True, "on": BaseException}, "on"),
        ({"idempotent": True, "on": KeyboardInterrupt}, "on"),
        ({"on": OSError}, "on"),
        ({"on": Exception}, "on"),
        ({"on": OutcomeUnknownError}, "on"),
        ({"idempotent": "yes"}, "idempotent"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": None}, "attempts"),
        ({"wait": -1}, "wait"),
        ({"wait": math.nan}, "wait"),
        ({"wait": "1"}, "wait"),
        ({"wait": tenacity.wait_fixed}, "wait"),
        ({"stop": 3}, "stop"),
        ({"stop": tenacity.stop_after_attempt}, "stop"),
        ({"before_sleep": "log"}, "before_sleep"),
        ({"budget": 5}, "budget"),
        ({"max_retry_after": -1}, "max_retry_after"),
    ],
)
def test_a_senseless_setting_is_refused_at_decoration(settings, named):
    with pytest.raises(ConfigError) as caught:
        retry(**settings)
    assert caught.value.setting == named


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"capacity": 0.5}, "capacity"), ({"per_success": 1.1}, "per_success"), ({"per_minute": -1}, "per_minute"),
     ({"capacity": math.nan}, "capacity"), ({"target": ""}, "target")],
)  # fmt: skip
def test_a_senseless_budget_is_refused(settings, named):
    with pytest.raises(ConfigError) as caught:
        RetryBudget(**{"target": "t", **settings})
    assert caught.value.setting == named


def test_generators_coroutines_and_classes_are_refused_at_decoration():
    def generate():
        yield 1

    async def wait():
        pass

    for func in (generate, wait, functools.partial(wait), dict, 7, None):
        with pytest.raises(ConfigError, match="retry: "):
            retry()(func)
    for func in (generate, wait):
        with pytest.raises(ConfigError, match="retry: "):
            Retry().execute(func)


def test_it_explains_itself():
    assert Retry().explain() == "at most 3 calls in all, only after errors that prove that the call did not go out"
    reads = Retry(on=(OSError, lambda error: True), idempotent=True, stop=tenacity.stop_never)
    assert reads.explain() == "as often as `stop` says, after OSError, what its predicates say"


def test_the_module_keeps_no_name_of_tenacity():
    assert not any("tenacity" in str(getattr(value, "__module__", "")) for value in vars(retry_module).values())
