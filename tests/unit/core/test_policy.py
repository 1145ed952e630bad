import functools
import math

import pytest

from hireliab.core.bulkhead import Bulkhead
from hireliab.core.circuit_breaker import CircuitBreaker, registry
from hireliab.core.deadline import deadline, remaining
from hireliab.core.policy import READ_ERRORS, Policy, reliable
from hireliab.core.rate_limiter import RateLimiter
from hireliab.core.retry import Retry
from hireliab.errors import (
    BulkheadFullError,
    CircuitOpenError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    InsufficientFundsError,
    MalformedResponseError,
    OutcomeUnknownError,
    RateLimitedError,
    ResponseLostError,
    ResponseTimeoutError,
    ThrottledError,
)
from hireliab.testing import FakeClock


class JumpingClock(FakeClock):
    """For one thread: to wait is to move the clock; the waits are kept."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait_for(self, condition, predicate, timeout=None):
        if not predicate():
            self.waits.append(timeout)
            self.go(timeout)
        return predicate()

    def go(self, seconds):
        with self._lock:
            self._now += seconds


@pytest.fixture
def clock():
    return JumpingClock()


@pytest.fixture
def parts(clock):
    """Every part, roomy enough to be in nobody's way."""
    return {
        "retry": Retry(wait=0, clock=clock),
        "breaker": CircuitBreaker(name="placing", failure_threshold=20, reset_timeout=30.0, clock=clock),
        "bulkhead": Bulkhead(name="orders", max_concurrent=2, clock=clock),
        "limiter": RateLimiter(name="minute", limit=100, per=60.0, clock=clock),
    }


@pytest.fixture
def make(clock):
    return functools.partial(Policy, name="orders", clock=clock)


@pytest.fixture
def name(request):
    """A name of its own in the process's registry."""
    yield request.node.name[:100]
    registry.discard(request.node.name[:100])


class Script:
    """A function that raises or returns what it is told, call by call; the last word is repeated."""

    def __init__(self, *words):
        self.words = words
        self.calls = 0

    def __call__(self, *_args, **_kwargs):
        word = self.words[min(self.calls, len(self.words) - 1)]
        self.calls += 1
        if isinstance(word, BaseException):
            raise word
        return word


def used(limiter):
    return limiter.stats().used


def fails(policy, kind, func):
    with pytest.raises(kind) as caught:
        policy.execute(func)
    return caught.value


# -- the order --------------------------------------------------------------------------------------------------------


def test_every_part_is_passed_in_the_stated_order(make, parts, clock, monkeypatch):
    seen = []

    def spy(owner, method, word):
        inner = getattr(owner, method)

        def watching(self, *args, **kwargs):
            seen.append(word)
            return inner(self, *args, **kwargs)

        monkeypatch.setattr(owner, method, watching)

    spy(deadline, "_run", "deadline")
    spy(Retry, "_run", "retry")
    spy(CircuitBreaker, "peek", "peek")
    spy(Bulkhead, "_take", "bulkhead")
    spy(Bulkhead, "_give", "bulkhead back")
    spy(CircuitBreaker, "acquire", "breaker")
    policy = make(idempotent=True, fallback=lambda error: seen.append("fallback"), deadline=5.0, **parts)
    spy(RateLimiter, "acquire", "limiter")  # later: at build it is asked whether the weight fits

    def broken():
        seen.append("function")
        raise ResponseLostError("x")

    policy.execute(broken)
    assert seen == [
        "deadline", "retry", "peek", "bulkhead", "limiter", "breaker", "function", "bulkhead back", "fallback",
    ]  # fmt: skip


def test_a_result_comes_through_all_parts(make, parts):
    policy = make(deadline=5.0, **parts)

    @policy
    def place(*args, func, name):
        """Place."""
        return args, func, name

    assert place(1, 2, func=3, name=4) == ((1, 2), 3, 4)
    assert (place.__name__, place.__doc__) == ("place", "Place.")
    assert policy.execute(place.__wrapped__, 5, func=6, name=7) == ((5,), 6, 7)
    assert (used(parts["limiter"]), parts["bulkhead"].stats().running) == (2, 0)


def test_a_policy_in_which_nothing_waits_asks_the_breaker_once(make, parts, monkeypatch):
    monkeypatch.setattr(CircuitBreaker, "peek", lambda self: pytest.fail("a look before nothing"))
    policy = make(breaker=parts["breaker"])
    assert policy.execute(lambda: 1) == 1
    assert "a look" not in policy.explain()
    parts["breaker"].force_open()
    fails(policy, CircuitOpenError, lambda: pytest.fail("called"))
    assert parts["breaker"].stats().rejected == 1


def test_a_policy_without_parts_only_calls(make):
    error = ValueError("x")
    assert make().execute(lambda: 7) == 7
    assert fails(make(), ValueError, Script(error)) is error


def test_an_open_circuit_costs_nobody_a_place_or_a_permit(make, parts):
    parts["breaker"].open()
    held = [parts["bulkhead"].acquire() for _ in range(2)]
    func = Script(7)
    assert fails(make(**parts), CircuitOpenError, func).retry_after == 30.0
    assert (func.calls, used(parts["limiter"]), parts["bulkhead"].stats().refused) == (0, 0, 0)
    assert len(held) == 2


def test_the_breaker_sees_every_attempt(make, parts, clock):
    parts["retry"] = Retry(on=OutcomeUnknownError, idempotent=True, attempts=9, wait=1.0, clock=clock)
    parts["breaker"].fail_max = 2
    func = Script(ResponseTimeoutError("x"))
    error = fails(make(idempotent=True, **parts), CircuitOpenError, func)
    # Two attempts open it, and the look stops the third.
    assert (func.calls, error.retry_attempts, clock.waits) == (2, 3, [1.0, 1.0])


@pytest.mark.parametrize("waits", [False, True])
def test_the_breaker_judges_results_and_tells_its_listeners_of_calls(make, clock, waits):
    told = []

    class Listener:
        def before_call(self, breaker, func, *args, **kwargs):
            told.append(("before", args, kwargs))

        def failure(self, breaker, error):
            told.append("failure")

        def success(self, breaker):
            told.append("success")

        def state_change(self, breaker, old, new):
            told.append(str(new))

    breaker = CircuitBreaker(
        name="b",
        failure_threshold=1,
        is_bad_result=lambda result: result == "busy",
        listeners=[Listener()],
        clock=clock,
    )
    bulkhead = Bulkhead(name="b", max_concurrent=1) if waits else None
    limiter = RateLimiter(name="b", limit=10, per=1.0, clock=clock) if waits else None
    policy = make(breaker=breaker, bulkhead=bulkhead, limiter=limiter)
    answers = iter(["fine", "busy"])
    func = policy(lambda *_args, **_named: next(answers))
    assert func(1, a=2) == "fine"
    assert func() == "busy"  # the caller gets it; the breaker counts it
    assert told == [("before", (1,), {"a": 2}), "success", ("before", (), {}), "failure", "open"]
    assert breaker.current_state == "open"


def test_no_place_is_held_between_attempts(make, parts, clock):
    running = []
    clock.wait_for = lambda *_: running.append(parts["bulkhead"].stats().running)
    parts["retry"] = Retry(wait=1.0, clock=clock)
    assert make(**parts).execute(Script(ConnectError("x"), 7)) == 7
    assert running == [0]


def test_every_attempt_pays_the_limiter(make, parts):
    assert make(weight=10, **parts).execute(Script(ConnectError("x"), ConnectError("x"), 7)) == 7
    assert used(parts["limiter"]) == 30


def test_a_permit_is_given_back_when_the_breaker_refuses_after_it(make, parts):
    del parts["retry"]
    policy = make(**parts)
    limiter, breaker = parts["limiter"], parts["breaker"]
    breaker.peek = lambda: None  # it closed, and opened again while the call waited
    breaker.isolate()
    func = Script(7)
    fails(policy, CircuitOpenError, func)
    assert (used(limiter), func.calls, parts["bulkhead"].stats().running) == (0, 0, 0)


def test_a_permit_of_a_call_that_was_made_is_spent_however_it_ended(make, parts):
    fails(make(**parts), ConnectError, Script(ConnectError("x")))
    assert used(parts["limiter"]) == 3


def test_a_full_bulkhead_neither_calls_nor_pays_nor_counts(make, parts):
    held = [parts["bulkhead"].acquire() for _ in range(2)]
    func = Script(7)
    for _ in range(5):
        fails(make(**parts), BulkheadFullError, func)
    assert (func.calls, used(parts["limiter"]), parts["breaker"].state, len(held)) == (0, 0, "closed", 2)


def test_a_full_limiter_is_waited_for_as_long_as_allowed(make, clock):
    limiter = RateLimiter(name="l", limit=1, per=0.8, clock=clock)
    policy = make(limiter=limiter)
    assert [policy.execute(Script(7)), policy.execute(Script(8))] == [7, 8]
    assert sum(clock.waits) == pytest.approx(0.8)
    slow = RateLimiter(name="l", limit=1, per=60.0, clock=clock)
    policy = make(limiter=slow)
    policy.execute(Script(7))
    func = Script(8)
    assert fails(policy, RateLimitedError, func).retry_after == pytest.approx(60.0)
    assert func.calls == 0
    assert make(limiter=slow, max_wait=None).execute(func) == 8


def test_the_reserved_lane_is_used_when_it_is_named(make, clock):
    limiter = RateLimiter(name="l", limit=2, per=60.0, reserved=0.5, clock=clock)
    assert make(limiter=limiter).execute(Script(1)) == 1
    fails(make(limiter=limiter), RateLimitedError, Script(2))
    assert make(limiter=limiter, lane="reserved").execute(Script(3)) == 3


def test_when_the_venue_throttles_one_caller_the_others_pause_too(make, parts):
    parts["retry"] = None
    policy = make(**parts)
    fails(policy, ThrottledError, Script(ThrottledError("x", retry_after=20.0)))
    func = Script(7)
    assert fails(policy, RateLimitedError, func).retry_after == pytest.approx(20.0)
    assert func.calls == 0


@pytest.mark.parametrize("hint", [-1.0, math.nan, math.inf, None])
def test_a_senseless_pause_is_not_passed_on(make, parts, hint):
    throttled = ThrottledError("x")
    throttled.retry_after = hint
    parts["retry"] = None
    assert fails(make(**parts), ThrottledError, Script(throttled)) is throttled
    assert parts["limiter"].stats().blocked_for == 0.0


# -- the deadline -----------------------------------------------------------------------------------------------------


def test_the_deadline_holds_for_all_attempts_together(make, parts, clock):
    parts["retry"] = Retry(attempts=9, wait=2.0, clock=clock)
    left = []

    def call():
        left.append(remaining())
        raise ConnectError("x")

    parts["breaker"] = None
    fails(make(deadline=5.0, **parts), ConnectError, call)
    assert left == [5.0, 3.0, 1.0]
    assert remaining() is None


def test_a_spent_deadline_makes_no_call_and_pays_nothing(make, parts, clock):
    func = Script(7)
    with deadline(0, clock=clock):
        fails(make(**parts), DeadlineExceededError, func)
        for part in ({}, {"breaker": parts["breaker"]}):
            fails(make(**part), DeadlineExceededError, func)
    assert (func.calls, used(parts["limiter"]), parts["breaker"].stats().probes) == (0, 0, 0)


def test_a_wait_in_the_limiter_is_cut_to_the_deadline(make, clock):
    limiter = RateLimiter(name="l", limit=1, per=10.0, clock=clock)
    policy = make(limiter=limiter, deadline=5.0, max_wait=60.0)
    policy.execute(Script(7))
    fails(policy, RateLimitedError, Script(8))
    assert clock.waits == []


# -- the fallback -----------------------------------------------------------------------------------------------------


def test_the_fallback_answers_when_nothing_else_can(make, parts):
    seen = []

    def stale(error):
        seen.append(error)
        return "stale"

    policy = make(idempotent=True, fallback=stale, **parts)
    errors = [ConnectError("x"), ThrottledError("x", retry_after=0.0), MalformedResponseError("x"), TimeoutError("x")]
    for error in errors:
        assert policy.execute(Script(error)) == "stale"
    parts["breaker"].isolate()
    assert policy.execute(Script(7)) == "stale"
    assert [*map(type, seen)] == [*map(type, errors), type(seen[-1])]
    assert isinstance(seen[-1], CircuitOpenError)


def test_the_fallback_does_not_hide_a_definite_answer(make):
    policy = make(idempotent=True, fallback=Script("stale"))
    for error in (InsufficientFundsError("x"), ValueError("x"), ConfigError("x"), KeyboardInterrupt()):
        assert fails(policy, type(error), Script(error)) is error


def test_the_fallback_answers_what_it_is_told_to(make):
    policy = make(idempotent=True, fallback=Script("stale"), fallback_on=[KeyError, ValueError])
    assert policy.execute(Script(ValueError("x"))) == "stale"
    fails(policy, ConnectError, Script(ConnectError("x")))


# -- checks at build --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"fallback": print}, "fallback"),
        ({"fallback": 7, "idempotent": True}, "fallback"),
        ({"fallback_on": ValueError}, "fallback_on"),
        ({"fallback": print, "fallback_on": (), "idempotent": True}, "fallback_on"),
        ({"fallback": print, "fallback_on": "ValueError", "idempotent": True}, "fallback_on"),
        ({"fallback": print, "fallback_on": ValueError("x"), "idempotent": True}, "fallback_on"),
        ({"fallback": print, "fallback_on": BaseException, "idempotent": True}, "fallback_on"),
        ({"retry": Retry(on=OSError, idempotent=True)}, "retry"),
        ({"retry": 3}, "retry"),
        ({"retry": Bulkhead(name="b", max_concurrent=1)}, "retry"),
        ({"breaker": "placing"}, "breaker"),
        ({"bulkhead": 4}, "bulkhead"),
        ({"limiter": 4}, "limiter"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": math.nan}, "deadline"),
        ({"weight": 0}, "weight"),
        ({"lane": "fast"}, "lane"),
        ({"max_wait": -1}, "max_wait"),
        ({"idempotent": 1}, "idempotent"),
        ({"name": ""}, "name"),
    ],
)
def test_a_senseless_setting_is_refused_at_build(make, settings, named):
    with pytest.raises(ConfigError) as caught:
        make(**settings)
    assert caught.value.setting == named


def test_a_weight_that_the_limiter_can_never_admit_is_refused_at_build(make, parts):
    limiter = parts["limiter"]
    with pytest.raises(ConfigError) as caught:
        make(limiter=limiter, weight=101)
    assert caught.value.setting == "weight"
    make(limiter=limiter, weight=100)
    assert used(limiter) == 0
    limiter.acquire(100)
    make(limiter=limiter, weight=100)  # full now, and not for ever


def test_generators_coroutines_and_classes_are_refused_at_decoration(make):
    def generate():
        yield 1

    async def wait():
        pass

    for func in (generate, wait, dict, 7):
        with pytest.raises(ConfigError, match="policy 'orders': "):
            make()(func)
    for func in (generate, wait):
        with pytest.raises(ConfigError, match="policy 'orders': "):
            make().execute(func)


def test_methods_of_every_kind_can_be_decorated(make, parts):
    policy = make(**parts)

    class Client:
        @policy
        def bound(self):
            return self

        @policy
        @classmethod
        def of_class(cls):
            return cls

        @policy
        @staticmethod
        def static():
            return 5

    client = Client()
    assert (client.bound(), client.of_class(), client.static()) == (client, Client, 5)


# -- explain ----------------------------------------------------------------------------------------------------------


def test_it_explains_its_order_in_words(make, parts):
    policy = make(idempotent=True, fallback=print, fallback_on=ValueError, deadline=5, weight=2, **parts)
    assert (
        policy.explain()
        == """\
policy 'orders', from the outside in:
1. fallback: answers instead after ValueError
2. deadline: 5 s for everything below
3. retry: at most 3 calls in all, only after errors that prove that the call did not go out
4. circuit breaker 'placing', a look: refuses at once while open, before anything waits
5. bulkhead 'orders': at most 2 at once, does not wait
6. rate limiter 'minute': weight 2 in the normal lane, waits at most 1 s
7. circuit breaker 'placing', admission: counts how the call ends
8. the function, which may be called twice"""
    )
    assert make().explain() == "policy 'orders', from the outside in:\n1. the function"


# -- @reliable --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [ResponseTimeoutError("x"), ResponseLostError("x"), MalformedResponseError("x"), TimeoutError("x"), OSError("x"),
     ConnectionResetError("x"), ValueError("x"), InsufficientFundsError("x")],
)  # fmt: skip
def test_an_order_is_sent_once(name, clock, error):
    func = Script(error, "sent twice")
    with pytest.raises(type(error)) as caught:
        reliable(name, clock=clock)(func)()
    assert caught.value is error
    assert func.calls == 1


def test_an_order_that_did_not_go_out_is_sent_again(name, clock):
    func = Script(ConnectError("x"), ThrottledError("x", retry_after=2.0), "done")
    assert reliable(name, clock=clock)(func)() == "done"
    assert func.calls == 3
    assert clock.waits[1] >= 2.0


def test_a_read_is_repeated(name, clock):
    func = Script(ResponseTimeoutError("x"), ConnectionResetError("x"), "done")
    assert reliable(name, idempotent=True, clock=clock)(func)() == "done"
    refused = Script(InsufficientFundsError("x"), "done")
    with pytest.raises(InsufficientFundsError):
        reliable(name, idempotent=True, clock=clock)(refused)()
    assert refused.calls == 1


def test_a_read_has_thirty_seconds_and_an_order_no_limit_of_its_own(name, clock):
    assert reliable(name, idempotent=True, clock=clock)(remaining)() == 30.0
    assert reliable(name, clock=clock)(remaining)() is None
    assert reliable(name, clock=clock, deadline=4.0)(remaining)() == 4.0
    assert reliable(name, idempotent=True, clock=clock, deadline=None)(remaining)() is None


def test_functions_of_one_name_share_breaker_and_budget(name, clock):
    one, two = reliable(name, clock=clock), reliable(name, clock=clock)
    assert one._breaker is two._breaker is registry.get(name)
    assert one._retry.budget is two._retry.budget
    assert one._retry.budget.target == name


def test_a_preset_part_can_be_replaced_or_left_out(name, clock, parts):
    mine = reliable(name, clock=clock, **parts)
    assert "circuit breaker 'placing'" in mine.explain()
    assert reliable(name, retry=None, breaker=None, clock=clock).explain().count("\n") == 1
    func = Script(ConnectError("x"))
    with pytest.raises(ConnectError):
        reliable(name, attempts=5, clock=clock)(func)()
    assert func.calls == 5
    func = Script(KeyError("x"), 7)
    assert reliable(name, idempotent=True, on=KeyError, breaker=None, clock=clock)(func)() == 7


def test_reliable_refuses_what_does_not_go_together(name, clock, parts):
    for settings, named in (
        ({"on": OSError}, "on"),  # without idempotent it proves nothing
        ({"fallback": print}, "fallback"),
        ({"fallbak": print}, "fallbak"),
        ({"retry": parts["retry"], "attempts": 5}, "retry"),
        ({"retry": parts["retry"], "on": ConnectError}, "retry"),
        ({"attempts": 0}, "attempts"),
    ):
        with pytest.raises(ConfigError) as caught:
            reliable(name, clock=clock, **settings)
        assert caught.value.setting == named
    with pytest.raises(ConfigError):
        reliable("")


def test_the_read_preset_has_no_error_that_a_repeated_read_could_not_cure():
    assert not any(issubclass(CircuitOpenError, kind) or issubclass(BulkheadFullError, kind) for kind in READ_ERRORS)


def test_a_policy_around_a_policy_does_not_multiply_the_attempts(name, clock):
    func = Script(ConnectError("x"))
    inner = reliable(name, breaker=None, clock=clock)(func)
    outer = reliable(name, breaker=None, clock=clock)(inner)
    with pytest.raises(ConnectError):
        outer()
    assert func.calls == 3
