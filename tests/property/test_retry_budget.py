"""The retry budget against its promise, for every history of calls, successes and time."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.core.retry import Retry, RetryBudget
from hireliab.testing import FakeClock
from tests.support.together import together

STEPS = st.lists(
    st.one_of(st.just("retry"), st.just("success"), st.sampled_from([0.0, 0.1, 1.0, 19.0, 20.0, 60.0, 3600.0])),
    max_size=120,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(STEPS, st.integers(1, 20), st.sampled_from([0, 0.1, 0.2, 0.5, 1]), st.sampled_from([0, 1, 3, 60]))
def test_the_bucket_equals_one_of_exact_fractions(steps, capacity, per_success, per_minute):
    clock = FakeClock(start=0.0)
    budget = RetryBudget(target="t", capacity=capacity, per_success=per_success, per_minute=per_minute, clock=clock)
    tokens, share, granted = Fraction(capacity), Fraction(str(per_success)), 0
    for step in steps:
        if step == "retry":
            allowed = tokens >= 1
            assert budget.take() is allowed
            tokens -= allowed
            granted += allowed
        elif step == "success":
            budget.earn()
            tokens = min(Fraction(capacity), tokens + share)
        else:
            clock.advance(step)
            tokens = min(Fraction(capacity), tokens + Fraction(str(step)) * per_minute / 60)
        stats = budget.stats()
        assert 0 <= stats.tokens <= capacity
        assert abs(stats.tokens - tokens) < 1e-6
    assert budget.stats().granted == granted


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.booleans(), max_size=150), st.integers(1, 10), st.integers(2, 5))
def test_all_callers_together_stay_within_the_budget(outcomes, capacity, attempts):
    clock = FakeClock()
    budget = RetryBudget(target="t", capacity=capacity, per_minute=0, clock=clock)
    script, made, good, calls = iter(outcomes), 0, 0, 0

    def call():
        nonlocal made, good
        made += 1
        if next(script, True):
            good += 1
            return True
        raise OSError

    reading = Retry(on=OSError, idempotent=True, attempts=attempts, wait=0, budget=budget, clock=clock)
    while made < len(outcomes):
        calls += 1
        before = made
        try:
            reading.execute(call)
        except OSError:
            pass
        assert made - before <= attempts
    assert made - calls == budget.stats().granted <= capacity + good * 0.2 + 1e-6


def test_threads_together_get_what_was_put_in_and_no_more():
    budget = RetryBudget(target="t", capacity=10, per_success=1, per_minute=0, clock=FakeClock())

    def work(number):
        if number % 2:
            for _ in range(500):
                budget.earn()
            return 0
        return sum(budget.take() for _ in range(500))

    taken = sum(together(6, work))
    stats = budget.stats()
    assert stats.granted == taken <= 10 + 1500
    assert 0 <= stats.tokens <= 10
