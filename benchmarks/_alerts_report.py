"""What the alert benchmark found, the goals it is held to, and both as tables. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import _goals, _losses, harness
from benchmarks._alerts_worker import HIRELIAB, INLINE, LISTENER, OURS, POOL
from benchmarks._goals import Goal, goal

PLAIN, SPOOLED = HIRELIAB


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """
    Alerts to a hook that works.

    Attributes:
        hung: How many others hung.
        took_ms: From each call to the arrival; None: it never came.
        problem: Why it does not count, or "".
    """

    name: str
    hung: int
    took_ms: Sequence[float | None]
    problem: str

    @property
    def lost(self) -> int:
        """How many never came."""
        return sum(one is None for one in self.took_ms)

    @property
    def median(self) -> float | None:
        """Milliseconds, of those that came."""
        came = [one for one in self.took_ms if one is not None]
        return statistics.median(came) if came else None

    @property
    def longest(self) -> float | None:
        """Milliseconds, of those that came."""
        return max((one for one in self.took_ms if one is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Burst:
    """
    The same alert again and again.

    Attributes:
        grown_mib: Of the resident memory.
        sends: How many messages the hook had got when the last call had returned.
    """

    name: str
    calls: int
    seconds: float
    grown_mib: float
    sends: int
    problem: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that was measured; `load` is a line about what else the machine had to do."""

    rounds: int
    hung: int
    load: str
    calls: Sequence[harness.Result]
    deliveries: Sequence[Delivery]
    bursts: Sequence[Burst]

    def problems(self) -> tuple[str, ...]:
        """Whose figures do not count."""
        found = [f"calls, {one.name}: {one.problem}" for one in self.calls if not one.checked]
        found += [f"delivery, {one.name}: {one.problem}" for one in self.deliveries if one.problem]
        return (*found, *(f"burst, {one.name}: {one.problem}" for one in self.bursts if one.problem))

    def called(self, name: str) -> harness.Result | None:
        """Where it counts."""
        return next((one for one in self.calls if one.name == name and one.checked), None)

    def delivered(self, name: str, hung: int) -> Delivery | None:
        """Where it counts."""
        found = ((one.name, one.hung) == (name, hung) and not one.problem for one in self.deliveries)
        return next((one for one, right in zip(self.deliveries, found, strict=True) if right), None)


def goals(found: Findings) -> list[Goal]:
    """What the project asks of itself, beside what was measured."""
    plain_call, spooled = found.called(PLAIN), found.called(SPOOLED)
    alone, beside = found.delivered(SPOOLED, 0), found.delivered(SPOOLED, found.hung)
    added = None
    if alone is not None and beside is not None and alone.median is not None and beside.median is not None:
        added = beside.median - alone.median
    bursts = [one for one in found.bursts if one.name in HIRELIAB and not one.problem]
    return [
        goal("send_alert below ERROR while all hang, p99", _us(plain_call), "{:.0f} us", most=200),
        goal("send_alert spooled while all hang, p99", spooled.p99 if spooled else None, "{:.2f} ms", most=20),
        goal(f"{found.hung} hung channels add to a healthy one's median", added, "{:.1f} ms", most=5),
        goal("  alerts that never came there", None if beside is None else beside.lost, "{:.0f}", most=0),
        goal("a storm of one alert: messages", max((one.sends for one in bursts), default=None), "{:.0f}", most=2),
        goal("  growth of the memory", max((one.grown_mib for one in bursts), default=None), "{:.1f} MiB", most=20),
    ]


def _us(result: harness.Result | None) -> float | None:
    return None if result is None else result.p99 * 1000


def lines(found: Findings) -> Iterator[str]:
    """The report, ratios first."""
    title = f"alerts: the bot's call, and who delivers, while {found.hung} channels hang"
    yield title
    yield "=" * len(title)
    for theirs in (INLINE, POOL, LISTENER):
        for ours in HIRELIAB:
            mine, other = found.called(ours), found.called(theirs)
            if mine is not None and other is not None:
                yield f"{ours}, against {theirs}:"
                yield f"  {_times(other.p50 / mine.p50)}x as fast a call (median), {_times(other.p99 / mine.p99)}x at p99"
    yield found.load
    yield ""
    yield from _goals.table(goals(found))
    yield ""
    yield from losses(found)
    yield ""
    yield from _calls(found)
    yield ""
    yield from _deliveries(found)
    yield ""
    yield from _bursts(found)
    yield ""
    yield "How to read: benchmarks/README.rst."


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2f}" if ratio >= 1 else f"{ratio:.3f}"


def losses(found: Findings) -> Iterator[str]:
    """Where somebody else is faster."""
    lost = []
    for ours in HIRELIAB:
        mine = found.called(ours)
        lost += [
            f"  {one.name}: its call returns {mine.p50 / one.p50:.1f} x as fast as that of {ours}"
            for one in found.calls
            if mine is not None and one.checked and one.name not in OURS and one.p50 < mine.p50
        ]
    for one in found.deliveries:
        same = found.delivered(SPOOLED, one.hung)
        if one.name in OURS or one.lost or one.median is None or same is None or same.median is None:
            continue
        if one.median < same.median:
            lost.append(
                f"  {one.name}, beside {one.hung}: delivers in {one.median:.1f} ms, hireliab in {same.median:.1f} ms"
            )
    counts = [found.called(ours) is not None for ours in HIRELIAB]
    counts += [found.delivered(SPOOLED, hung) is not None for hung in {one.hung for one in found.deliveries}]
    yield from _losses.told(lost, counts)


def _calls(found: Findings) -> list[str]:
    rows = [
        (
            harness.named(one.name, one.problem),
            one.rate.text(1 if one.rate.median < 10 else 0),
            f"{one.p50 * 1000:,.1f}",
            f"{one.p99 * 1000:,.1f}",
        )
        for one in found.calls
    ]
    return harness.table(f"Calls while {found.hung} hooks hang", ("", "calls/s (low-high)", "p50 us", "p99 us"), rows)


def _deliveries(found: Findings) -> list[str]:
    rows = [
        (
            harness.named(one.name, one.problem),
            str(one.hung),
            "-" if one.median is None else f"{one.median:,.1f}",
            "-" if one.longest is None else f"{one.longest:,.0f}",
            f"{one.lost} of {len(one.took_ms)}",
        )
        for one in found.deliveries
    ]
    heads = ("", "hung beside it", "median ms", "longest ms", "not within 15 s")
    return harness.table("Until a hook that works has an alert", heads, rows)


def _bursts(found: Findings) -> list[str]:
    rows = [
        (
            harness.named(one.name, one.problem),
            f"{one.calls:,}",
            f"{one.seconds:.2f}",
            f"{one.sends:,}",
            f"{one.grown_mib:.1f}",
        )
        for one in found.bursts
    ]
    heads = ("", "calls", "seconds", "messages so far", "memory MiB")
    return harness.table("The same alert again and again, to a hook that works", heads, rows)


def plain(found: Findings) -> dict[str, Any]:
    """For JSON."""
    return {
        "goals": [asdict(one) for one in goals(found)],
        "load": found.load,
        "calls": [harness.plain(one) for one in found.calls],
        "deliveries": [{**asdict(one), "lost": one.lost} for one in found.deliveries],
        "bursts": [asdict(one) for one in found.bursts],
    }
