"""Retry: what it costs around a call that succeeds at once, and around one that succeeds at the third attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import tenacity

from benchmarks import harness
from benchmarks._calls import (
    HEADS,
    BrokenError,
    Cost,
    Subject,
    against,
    bare_goal,
    measure,
    missing,
    peer,
    peer_goal,
    report,
    returns_the_result,
    rows,
    work,
)
from benchmarks._goals import Goal
from benchmarks.breaker import forward
from hireliab.core.retry import Retry, RetryBudget

PEERS = {"tenacity": "", "stamina": "", "backoff": ""}

Wrap: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def run(quick: bool) -> harness.Report:
    """Both parts; `quick` finds breakage only."""
    harness.quiet("hireliab", "backoff", "stamina")
    rounds, calls = (2, 1_000) if quick else (15, 100_000)
    harness.progress(f"retry: {rounds} rounds of two groups, and one to warm up")
    with _quiet_stamina():
        good = measure(_good(), rounds=rounds, calls=calls)
        third = measure(_third(), rounds=rounds, calls=calls // 50)
    ratios = [
        f"a success at once: {against(good, 'hireliab', 'tenacity')}",
        f"  {against(good, 'hireliab', 'stamina')}; {against(good, 'hireliab', 'backoff')}",
        f"two failures, no waits: {against(third, 'hireliab', 'tenacity')}",
        *missing(PEERS),
    ]
    tables = [
        *harness.table(f"A success at once: a decorated function, median of {rounds} rounds", HEADS, rows(good)),
        "",
        *harness.table("Two failures, then a success; no waits between; the first is hireliab's", HEADS, rows(third)),
    ]
    title = "retry: what it costs not to need it, and to need it"
    return report(title, ratios, goals(good), tables, {"good": good, "third": third})


def goals(good: Sequence[Cost]) -> list[Goal]:
    """What the project asks of itself, beside what was measured."""
    return [
        bare_goal("a success at once", good, "hireliab", most=5),
        peer_goal("a success at once", good, "hireliab", "tenacity", least=40),
    ]


class _quiet_stamina:  # noqa: N801  # a context manager
    """Stamina logs each retry to structlog or logging; not here, as the others do not."""

    def __enter__(self) -> None:
        if stamina := peer("stamina"):
            stamina.instrumentation.set_on_retry_hooks([])

    def __exit__(self, *_: object) -> None:
        if stamina := peer("stamina"):
            stamina.instrumentation.set_on_retry_hooks(None)


def _wraps() -> dict[str, tuple[Wrap, float]]:
    """How each wraps a function that fails with BrokenError, without waits; and the share of a round that it gets."""
    wraps: dict[str, tuple[Wrap, float]] = {
        "hireliab": (Retry(on=BrokenError, idempotent=True, attempts=4, wait=0), 1.0),
        "hireliab, with a budget": (
            Retry(
                on=BrokenError, idempotent=True, attempts=4, wait=0, budget=RetryBudget(target="bench", capacity=10**9)
            ),
            1.0,
        ),
        "tenacity": (
            tenacity.retry(
                retry=tenacity.retry_if_exception_type(BrokenError),
                stop=tenacity.stop_after_attempt(4),
                wait=tenacity.wait_none(),
                reraise=True,
            ),
            0.05,
        ),
    }
    if stamina := peer("stamina"):
        wraps["stamina"] = (stamina.retry(on=BrokenError, attempts=4, wait_initial=0, wait_jitter=0), 0.05)
    if backoff := peer("backoff"):
        wraps["backoff"] = (
            backoff.on_exception(backoff.constant, BrokenError, max_tries=4, interval=0, jitter=None),
            0.2,
        )
    return wraps


def _good() -> list[Subject]:
    bare = Subject(name="bare", call=work, check=lambda: returns_the_result(work))
    passing = forward(work)
    return [
        bare,
        Subject(name="a wrapper that only forwards", call=passing, check=lambda: returns_the_result(passing)),
        *(_subject(name, wrap, share) for name, (wrap, share) in _wraps().items()),
    ]


def _subject(name: str, wrap: Wrap, share: float) -> Subject:
    call = wrap(work)

    def check() -> str:
        return returns_the_result(call) or _retries(wrap)

    return Subject(name=name, call=call, check=check, share=share)


def _failing_twice(wrap: Wrap) -> tuple[Callable[[], object], list[int]]:
    """A function whose every third call succeeds, and how often it was called."""
    made = [0]

    def flaky() -> int:
        made[0] += 1
        if made[0] % 3:
            raise BrokenError
        return made[0]

    return wrap(flaky), made


def _retries(wrap: Wrap) -> str:
    call, made = _failing_twice(wrap)
    call()
    return "" if made[0] == 3 else f"it called {made[0]} times instead of three"


def _third() -> list[Subject]:
    subjects = []
    for name, (wrap, _) in _wraps().items():
        call, made = _failing_twice(wrap)
        check = _thirds(call, made)
        subjects.append(Subject(name=name, call=call, takes=False, check=check))
    return subjects


def _thirds(call: Callable[[], object], made: list[int]) -> Callable[[], str]:
    def check() -> str:
        before = made[0]
        call()
        return "" if before % 3 == 0 and made[0] == before + 3 else f"{made[0]} calls were made, no multiple of three"

    return check
