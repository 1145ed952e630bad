"""
What one call costs: loops of their own for each contestant, and a table with the ratio to the bare call.

Each loop is compiled for its contestant alone. Where contestants share one, the interpreter adapts it to the first
of them and the others pay for that.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import statistics
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import _goals, harness
from benchmarks._goals import Goal, goal


class BrokenError(Exception):
    """What the guarded function raises when it is asked to fail."""


def work(value: object) -> object:
    """The bare call."""
    return value


def broken(value: object) -> object:
    """A function that fails."""
    raise BrokenError(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """
    One way to make a call.

    Attributes:
        call: Is called as ``call(value)`` in the loop; as ``call()`` when `takes` is False; or as `code` says.
        check: Why it did not do its work, or "".
        share: Of the round's calls that it makes; slow ones make fewer.
    """

    name: str
    call: Callable[..., Any]
    check: Callable[[], str]
    takes: bool = True
    share: float = 1.0
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """
    Nanoseconds of one call, over the rounds.

    Attributes:
        ratio: To the first subject, the median over the rounds of the ratio within one round; None for the first.
    """

    name: str
    nanoseconds: harness.Spread
    ratio: float | None
    problem: str


def measure(subjects: Sequence[Subject], *, rounds: int, calls: int) -> list[Cost]:
    """Let them take turns; the first one is what the others are compared with."""
    contestants = [_contestant(subject, calls) for subject in subjects]
    samples = harness.interleave(contestants, rounds=rounds)
    costs = [[sample.elapsed_ns / sample.operations for sample in taken] for taken in samples]
    return [
        Cost(
            name=subject.name,
            nanoseconds=harness.spread(cost),
            ratio=None if i == 0 else statistics.median(a / b for a, b in zip(cost, costs[0], strict=True)),
            problem=contestant.check(),
        )
        for i, (subject, contestant, cost) in enumerate(zip(subjects, contestants, costs, strict=True))
    ]


def _contestant(subject: Subject, calls: int) -> harness.Contestant:
    number = max(1, int(calls * subject.share))
    code = subject.code or ("call(value)" if subject.takes else "call()")
    timer = timeit.Timer(code, globals={"call": subject.call, "value": 7})

    def run(_round: int) -> harness.Sample:
        elapsed = round(timer.timeit(number) * 1e9)
        return harness.Sample(operations=number, elapsed_ns=elapsed, latencies_ns=(elapsed // number,), extra={})

    return harness.Contestant(name=subject.name, run=run, check=subject.check)


def returns_the_result(call: Callable[[object], object]) -> str:
    """Why a wrapper of `work` does not do its work, or ""."""
    mark = object()
    return "" if call(mark) is mark else "it does not return what the function returned"


def opens(call: Callable[[object], object], guarded: Callable[[object], object]) -> Callable[[], str]:
    """
    Make the check of a breaker.

    Args:
        call: What was timed: `work` behind the breaker.
        guarded: `broken` behind the same breaker.
    """

    def check() -> str:
        problem = returns_the_result(call)
        if problem:
            return problem
        for _ in range(100):
            try:
                guarded(None)
            except BrokenError:
                continue
            except Exception:  # of whatever library: it refused
                return ""
        return "100 failures did not open it"

    return check


def rows(costs: Sequence[Cost]) -> list[tuple[str, ...]]:
    """For `harness.table`."""
    return [
        (
            harness.named(cost.name, cost.problem),
            cost.nanoseconds.text(),
            "1" if cost.ratio is None else f"{cost.ratio:.1f}",
        )
        for cost in costs
    ]


HEADS = ("contestant", "ns a call (low-high)", "x first")


def find(costs: Sequence[Cost], name: str) -> Cost | None:
    """The cost of a contestant that took part."""
    return next((cost for cost in costs if cost.name == name), None)


def against(costs: Sequence[Cost], ours: str, theirs: str) -> str:
    """Such as "12.3 x as fast as pybreaker", or why that is not said."""
    mine, other = find(costs, ours), find(costs, theirs)
    if mine is None or other is None:
        return f"{theirs}: not installed"
    if mine.problem:
        return f"{theirs}: not compared, {ours} is not counted"
    if other.problem:
        return f"{theirs}: not counted"
    return f"{other.nanoseconds.median / mine.nanoseconds.median:.1f} x as fast as {theirs}"


def bare_goal(what: str, costs: Sequence[Cost], ours: str, *, most: float) -> Goal:
    """How many times the bare call's time ours may take."""
    mine = find(costs, ours)
    return goal(
        f"{what}: against bare", _counted(mine, None if mine is None else mine.ratio), "{:.1f} x its time", most=most
    )


def peer_goal(what: str, costs: Sequence[Cost], ours: str, theirs: str, *, least: float) -> Goal:
    """How many times as fast as a peer ours has to be."""
    mine, other = find(costs, ours), find(costs, theirs)
    share = (
        None if mine is None or other is None or other.problem else other.nanoseconds.median / mine.nanoseconds.median
    )
    return goal(f"{what}: against {theirs}", _counted(mine, share), "{:.1f} x", least=least)


def cost_goal(what: str, cost: Cost | None, text: str, *, most: float) -> Goal:
    """How many microseconds one call may take."""
    return goal(what, _counted(cost, None if cost is None else cost.nanoseconds.median / 1000), text, most=most)


def _counted(cost: Cost | None, figure: float | None) -> float | None:
    return None if cost is None or cost.problem else figure


def peer(module: str) -> Any:
    """An optional peer's module, or None."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def missing(peers: Mapping[str, str]) -> list[str]:
    """
    Lines that name the peers that are not installed, and those that are with their versions.

    Args:
        peers: Distribution names, and why one may be missing for a good reason, or "".
    """
    found, lost = [], []
    for name, why in peers.items():
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            lost.append(f"{name} ({why})" if why else name)
    lines = [f"peers: {', '.join(found) or 'none'}"]
    if lost:
        lines.append(f"NOT COMPARED, not installed: {', '.join(lost)}; pip install 'hireliab[bench]'")
    return lines


def report(
    title: str,
    ratios: Sequence[str],
    goals: Sequence[Goal],
    tables: Sequence[str],
    groups: Mapping[str, Sequence[Cost]],
    **extra: Any,
) -> harness.Report:
    """
    Put a benchmark's report together.

    Args:
        ratios: Lines that come first.
        tables: Lines that come behind the goals.
        groups: All costs, for JSON and for what does not count.
        extra: Further figures for JSON.
    """
    return harness.Report(
        lines=(title, "=" * len(title), *ratios, "", *_goals.table(goals), "", *tables),
        data={
            "goals": [asdict(one) for one in goals],
            **{
                group: [
                    {
                        "name": cost.name,
                        "ns": cost.nanoseconds.median,
                        "low": cost.nanoseconds.low,
                        "high": cost.nanoseconds.high,
                        "ratio": cost.ratio,
                        "problem": cost.problem,
                    }
                    for cost in costs
                ]
                for group, costs in groups.items()
            },
            **extra,
        },
        problems=tuple(
            f"{group}, {cost.name}: {cost.problem}" for group, costs in groups.items() for cost in costs if cost.problem
        ),
    )
