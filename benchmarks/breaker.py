"""The circuit breaker: a good call, a refused one, and fifty at once; beside the bare call and other breakers."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pybreaker

from benchmarks import harness
from benchmarks._calls import (
    HEADS,
    Cost,
    Subject,
    against,
    bare_goal,
    broken,
    cost_goal,
    find,
    measure,
    missing,
    opens,
    peer,
    peer_goal,
    report,
    returns_the_result,
    rows,
    work,
)
from benchmarks._goals import Goal, goal
from hireliab.core.circuit_breaker import CircuitBreaker

PEERS = {
    "pybreaker": "",
    "circuitbreaker": "",
    "purgatory": "",
    "interlock-cb": "it needs Python 3.11",
}
THREADS = 50
WAIT = 0.01
"""Seconds that each of the fifty calls takes."""
GROWTH = 1024
"""Bytes that any number of refusals may leave: the interpreter's own small change, not a list."""

Wrap: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def run(quick: bool) -> harness.Report:
    """All parts; `quick` finds breakage only."""
    harness.quiet("hireliab", "interlock")
    rounds, calls = (2, 2_000) if quick else (15, 100_000)
    refusals = 20_000 if quick else 1_000_000
    harness.progress(f"breaker: {rounds} rounds of three groups, and one to warm up")
    closed = measure(_closed(), rounds=rounds, calls=calls)
    window = measure(_window(), rounds=rounds, calls=calls)
    refused = measure(_refused(), rounds=rounds, calls=calls // 4)
    harness.progress(f"breaker: {THREADS} threads, and {refusals:,} refusals")
    crowd = _crowd(rounds=1 if quick else 5)
    grown = _growth(refusals)
    groups: dict[str, list[Cost]] = {"closed": closed, "window": window, "refused": refused}
    ratios = [
        f"closed, a good call: {against(closed, 'hireliab', 'pybreaker')}; {against(closed, 'hireliab', 'circuitbreaker')}",
        f"  {against(closed, 'hireliab', 'purgatory')}; {against(closed, 'hireliab', 'interlock-cb')}",
        f"time window with slow calls: {against(window, 'hireliab', 'interlock-cb')}",
        f"a refused call: {against(refused, 'hireliab', 'pybreaker')}; {against(refused, 'hireliab', 'circuitbreaker')}",
        *missing(PEERS),
    ]
    tables = [
        *harness.table(
            f"Closed, failures in a row: a decorated function, median of {rounds} rounds", HEADS, rows(closed)
        ),
        "",
        *harness.table("Time window with a failure share and a slow-call share", HEADS, rows(window)),
        "",
        *harness.table("Refused while open, the error caught; the first is hireliab's", HEADS, rows(refused)),
        "",
        *harness.table(
            f"{THREADS} threads, each makes one call of {WAIT * 1000:.0f} ms",
            ("contestant", "ms", "x unguarded"),
            [(name, f"{took * 1000:.1f}", f"{took / crowd['unguarded']:.2f}") for name, took in crowd.items()],
        ),
    ]
    extra = {"threads_seconds": crowd, "refusals": refusals, "refusals_grown_bytes": grown}
    held = goals(groups, crowd, grown)
    return report("breaker: what it costs to be guarded", ratios, held, tables, groups, **extra)


def goals(groups: Mapping[str, Sequence[Cost]], crowd: Mapping[str, float], grown: int) -> list[Goal]:
    """
    What the project asks of itself, beside what was measured.

    Args:
        crowd: Seconds of the fifty threads.
        grown: Bytes that the refusals left.
    """
    closed, window = groups["closed"], groups["window"]
    return [
        bare_goal("a good call", closed, "hireliab", most=5),
        peer_goal("a good call", closed, "hireliab", "pybreaker", least=5),
        peer_goal("a good call", closed, "hireliab", "circuitbreaker", least=2),
        bare_goal("a good call, time window", window, "hireliab", most=9),
        cost_goal("a refused call", find(groups["refused"], "hireliab"), "{:.2f} us", most=1.5),
        goal(
            f"{THREADS} threads at once: against unguarded",
            crowd["hireliab"] / crowd["unguarded"],
            "{:.2f} x its time",
            most=1.3,
        ),
        goal("a million refusals leave", float(grown), "{:,.0f} bytes", most=GROWTH),
    ]


def _peers() -> dict[str, tuple[Wrap, float]]:
    """Other breakers in their usual settings: how each wraps a function, and the share of a round that it gets."""
    wraps: dict[str, tuple[Wrap, float]] = {"pybreaker": (pybreaker.CircuitBreaker(reset_timeout=600), 0.2)}
    if circuitbreaker := peer("circuitbreaker"):
        wraps["circuitbreaker"] = (circuitbreaker.CircuitBreaker(recovery_timeout=600), 0.4)
    if purgatory := peer("purgatory"):
        factory = purgatory.SyncCircuitBreakerFactory(default_ttl=600)
        wraps["purgatory"] = (factory("bench"), 0.1)
    if interlock := peer("interlock"):
        wraps["interlock-cb"] = (interlock.CircuitBreaker(name="bench"), 0.1)
    return wraps


def _subject(name: str, wrap: Wrap, share: float = 1.0) -> Subject:
    call = wrap(work)
    return Subject(name=name, call=call, check=opens(call, wrap(broken)), share=share)


def _bare() -> Subject:
    return Subject(name="bare", call=work, check=lambda: returns_the_result(work))


def forward(func: Callable[..., Any]) -> Callable[..., Any]:
    """Do nothing but pass everything on: what a plain wrapper costs."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


def _closed() -> list[Subject]:
    call = forward(work)
    forwarding = Subject(name="a wrapper that only forwards", call=call, check=lambda: returns_the_result(call))
    ours = _subject("hireliab", CircuitBreaker(name="bench", reset_timeout=600))
    return [_bare(), forwarding, ours, *(_subject(name, *how) for name, how in _peers().items())]


def _window() -> list[Subject]:
    ours = CircuitBreaker(
        name="bench window", failure_share=0.5, slow_share=0.5, slow_after=1.0, window=60.0, reset_timeout=600
    )
    subjects = [_bare(), _subject("hireliab", ours)]
    if interlock := peer("interlock"):
        timed = interlock.Config(
            window_type=interlock.WindowType.TIME_BASED,
            window_size=60,
            slow_call_duration_threshold=1.0,
            slow_call_rate_threshold=0.5,
        )
        call = interlock.CircuitBreaker(name="bench window", config=timed)(work)
        # Another one for the check: a hundred failures are no share of the calls that were measured.
        fresh = interlock.CircuitBreaker(name="bench window check", config=timed)(broken)
        subjects.append(Subject(name="interlock-cb", call=call, check=opens(call, fresh), share=0.1))
    return subjects


def _refused() -> list[Subject]:
    """The first is ours: there is no bare refusal to compare with."""
    ours = CircuitBreaker(name="bench open", reset_timeout=3600)
    return [_refusing("hireliab", ours, 1.0), *(_refusing(name, *how) for name, how in _peers().items())]


def _refusing(name: str, wrap: Wrap, share: float) -> Subject:
    calls = []

    def record(value: object) -> object:
        calls.append(value)
        return broken(value)

    guarded = wrap(record)
    for _ in range(100):
        try:
            guarded(None)
        except Exception:  # until it is open, and then
            continue
    made = len(calls)

    def refuse() -> None:
        try:
            guarded(7)
        except Exception:
            return

    return Subject(
        name=name,
        call=refuse,
        takes=False,
        share=share,
        check=lambda: "" if len(calls) == made < 100 else f"it let {len(calls) - made} calls through",
    )


def _crowd(*, rounds: int) -> dict[str, float]:
    """Seconds that fifty threads take for one call each, the median of some rounds."""
    wraps: dict[str, Wrap] = {"unguarded": lambda func: func, "hireliab": CircuitBreaker(name="bench crowd")}
    wraps.update({name: wrap for name, (wrap, _) in _peers().items()})
    ended: dict[str, int] = dict.fromkeys(wraps, 0)
    lock = threading.Lock()  # guards ended

    def contestant(name: str, wrap: Wrap) -> harness.Contestant:
        guarded = wrap(lambda: time.sleep(WAIT))

        def one_round(_round: int) -> harness.Sample:
            ready = threading.Barrier(THREADS + 1)

            def call() -> None:
                ready.wait()
                guarded()
                with lock:
                    ended[name] += 1

            threads = [threading.Thread(target=call, daemon=True) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            ready.wait()
            began = time.perf_counter_ns()
            for thread in threads:
                thread.join()
            took = time.perf_counter_ns() - began
            return harness.Sample(operations=THREADS, elapsed_ns=took, latencies_ns=(took,), extra={})

        return harness.Contestant(name=name, run=one_round, check=lambda: "")

    contestants = [contestant(name, wrap) for name, wrap in wraps.items()]
    samples = harness.interleave(contestants, rounds=rounds)
    for name, calls in ended.items():
        if calls != THREADS * (rounds + 1):
            raise AssertionError(f"{name}: {calls} of {THREADS * (rounds + 1)} calls were made")
    return {
        name: harness.spread([sample.elapsed_ns / 1e9 for sample in taken]).median
        for name, taken in zip(wraps, samples, strict=True)
    }


def _growth(refusals: int) -> int:
    """Bytes that are still there after so many refusals and were not before."""
    breaker = CircuitBreaker(name="bench growth", reset_timeout=3600)
    breaker.open()
    guarded = breaker(work)

    def refuse(times: int) -> None:
        for _ in range(times):
            try:
                guarded(7)
            except Exception:  # the refusal
                continue

    refuse(1000)
    tracemalloc.start()
    try:
        refuse(1000)
        before = tracemalloc.get_traced_memory()[0]
        refuse(refusals)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    if breaker.stats().rejected != refusals + 2000:
        raise AssertionError("hireliab: not every refusal was one")
    return grown
