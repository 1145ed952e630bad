"""A policy of all parts around a call that succeeds, and of fewer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import harness
from benchmarks._calls import (
    HEADS,
    BrokenError,
    Cost,
    Subject,
    broken,
    cost_goal,
    find,
    measure,
    report,
    returns_the_result,
    rows,
    work,
)
from benchmarks._goals import Goal
from hireliab.core.bulkhead import Bulkhead
from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.core.policy import Policy, reliable
from hireliab.core.rate_limiter import RateLimiter
from hireliab.core.retry import Retry

LIMITS = ((100_000_000, 1.0), (1_000_000_000, 60.0))


def run(quick: bool) -> harness.Report:
    """Every policy in one group; `quick` finds breakage only."""
    harness.quiet("hireliab")
    rounds, calls = (2, 500) if quick else (15, 20_000)
    harness.progress(f"policy: {rounds} rounds, and one to warm up")
    costs = measure(_subjects(), rounds=rounds, calls=calls)
    title = f"A success through a policy: a decorated function, median of {rounds} rounds"
    ratios = ["peers: none; no other library has these parts in one order"]
    tables = harness.table(title, HEADS, rows(costs))
    return report("policy: what all parts cost together", ratios, goals(costs), tables, {"success": costs})


def goals(costs: Sequence[Cost]) -> list[Goal]:
    """What the project asks of itself, beside what was measured."""
    return [cost_goal("a success through all parts", find(costs, "all parts"), "{:.1f} us", most=6)]


def _limiter() -> RateLimiter:
    return RateLimiter(name="bench", limits=LIMITS)


def _breaker() -> CircuitBreaker:
    return CircuitBreaker(name="bench", reset_timeout=600)


def _retry() -> Retry:
    return Retry(on=BrokenError, idempotent=True, attempts=2, wait=0)


def _subjects() -> list[Subject]:
    everything = Policy(
        name="all parts",
        idempotent=True,
        fallback=_reraise,
        fallback_on=BrokenError,
        deadline=30.0,
        retry=_retry(),
        breaker=_breaker(),
        bulkhead=Bulkhead(name="bench", max_concurrent=10),
        limiter=_limiter(),
    )
    return [
        Subject(name="bare", call=work, check=lambda: returns_the_result(work)),
        _subject("all parts", everything),
        _subject("retry and breaker", Policy(name="two", idempotent=True, retry=_retry(), breaker=_breaker())),
        _subject("limiter", Policy(name="limiter", limiter=_limiter()), refuses=False),
        _subject(
            "bulkhead", Policy(name="bulkhead", bulkhead=Bulkhead(name="bench", max_concurrent=10)), refuses=False
        ),
        _subject("@reliable(name)", reliable("bench.order")),
        _subject("@reliable(name, idempotent=True)", reliable("bench.read", idempotent=True, on=BrokenError)),
    ]


def _reraise(error: Exception) -> Any:
    raise error


def _subject(name: str, policy: Callable[[Callable[..., Any]], Callable[..., Any]], *, refuses: bool = True) -> Subject:
    call = policy(work)
    guarded = policy(broken)

    def check() -> str:
        problem = returns_the_result(call)
        if problem or not refuses:
            return problem
        for _ in range(20):
            try:
                guarded(None)
            except BrokenError:
                continue
            except Exception:  # it refused
                return ""
        return "20 failures did not open its breaker"

    return Subject(name=name, call=call, check=check)
