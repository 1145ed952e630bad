"""What the transactions benchmark found, the goals it is held to, and both as tables. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import _goals, _losses, harness
from benchmarks._goals import Goal, goal
from benchmarks._transactions_bots import BOTS, NAIVE_SYNCS, OURS
from benchmarks._transactions_recovery import Recovery
from benchmarks._transactions_stub import CALLS
from benchmarks.orders import Speed

SHIPPED, TUNED = "DBOS", "DBOS WAL+FULL"
MANY = 32
THREADS_BESIDE = 3
"""The process's main thread, the resolver and the journal's writer: ARCHITECTURE.md section 5."""
PYTHON_MS = 0.7
"""What one thread may add to an order beyond the two waits for the disk."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Under which conditions a contestant was measured; `latency` is the exchange's, in seconds for each call."""

    bot: str
    threads: int
    latency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """Transactions that wait at once: `rss_each` in bytes, `threads_beside` those that run none of them."""

    number: int
    rss_each: float
    threads_beside: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """
    Everything that was measured.

    Attributes:
        speed: Of each contestant in each cell.
        disk: One fdatasync after an append of 4 KiB, in the same rounds.
        syncs: For contestant and threads: fsync and fdatasync of each order, counted by strace; None: not measured.
        facts: For each contestant how its file is set.
        absent: Contestants that did not take part, and why.
    """

    speed: Mapping[Cell, harness.Result]
    disk: harness.Result
    syncs: Mapping[tuple[str, int], float | None]
    facts: Mapping[str, Mapping[str, object]]
    absent: Mapping[str, str]
    flight: Flight
    recovery: Recovery
    http: Speed

    def problems(self) -> tuple[str, ...]:
        """Whose figures do not count."""
        found = [f"{cell.bot}, {result.problem}" for cell, result in self.speed.items() if result.problem]
        found += [f"over HTTP: {result.name}: {result.problem}" for _, result in self.http if result.problem]
        found += [f"in flight: {self.flight.problem}"] if self.flight.problem else []
        found += [f"recovery: {self.recovery.problem}"] if self.recovery.problem else []
        return tuple(dict.fromkeys(found))

    def counted(self, bot: str, threads: int, latency: float = 0.0) -> harness.Result | None:
        """A contestant's figures, where they count."""
        result = self.speed.get(Cell(bot, threads, latency))
        return result if result is not None and result.checked else None


# -- goals --------------------------------------------------------------------------------------------------------


def goals(found: Findings) -> list[Goal]:
    """What the project asks of itself, beside what was measured."""
    many, one = found.counted(OURS, MANY), found.counted(OURS, 1)
    flight = None if found.flight.problem else found.flight
    recovery = None if found.recovery.problem else found.recovery
    most = 2 * found.disk.p50 + PYTHON_MS
    return [
        _against(found, SHIPPED, 15),
        _against(found, TUNED, 10),
        goal(f"orders/s, {MANY} threads, 0 ms", None if many is None else many.rate.median, "{:,.0f}", least=1000),
        goal("fdatasync for each order, 1 thread", found.syncs.get((OURS, 1)), "{:.2f}", most=2),
        goal("p50 of added latency, 1 thread, 0 ms", None if one is None else one.p50, "{:.2f} ms", most=most),
        goal(f"fdatasync for each order, {MANY} threads", found.syncs.get((OURS, MANY)), "{:.2f}", most=0.5),
        goal(
            f"RSS for each of {found.flight.number:,} in flight",
            None if flight is None else flight.rss_each / 1024,
            "{:.1f} KiB",
            most=64,
        ),
        goal(
            "threads beside one for each of them",
            None if flight is None else flight.threads_beside,
            "{:.0f}",
            most=THREADS_BESIDE,
        ),
        goal(
            f"requests to recover {found.recovery.rows:,} rows",
            None if recovery is None else recovery.requests,
            "{:.0f}",
            most=15,
        ),
        goal(
            "of these over a limit of the exchange", None if recovery is None else recovery.throttled, "{:.0f}", most=0
        ),
    ]


def _against(found: Findings, theirs: str, wanted: float) -> Goal:
    mine, other = found.counted(OURS, MANY), found.counted(theirs, MANY)
    share = None if mine is None or other is None else harness.ratio(mine, other).median
    what = f"orders/s, {MANY} threads, 0 ms, as a multiple of {_long(theirs)}"
    return goal(what, share, "{:.1f} x", least=wanted)


# -- tables -------------------------------------------------------------------------------------------------------


def lines(found: Findings) -> Iterator[str]:
    """The report, ratios first."""
    title = "transactions: an order made durable step by step; an exchange inside the process"
    yield title
    yield "=" * len(title)
    for theirs in (SHIPPED, TUNED, "naive"):
        mine, other = found.counted(OURS, MANY), found.counted(theirs, MANY)
        if mine is not None and other is not None:
            yield f"orders/s, {MANY} threads, 0 ms, hireliab against {_long(theirs)}:"
            yield f"  {harness.ratio(mine, other).text()}"
    for bot, why in found.absent.items():
        yield f"NOT COMPARED: {_long(bot)}: {why}"
    yield ""
    yield from _goals.table(goals(found))
    yield ""
    yield from losses(found)
    yield ""
    yield from _speed(found)
    yield ""
    yield from _syncs(found)
    yield ""
    for bot, facts in found.facts.items():
        yield f"{bot}: {', '.join(f'{name}={value}' for name, value in facts.items())}"
    yield ""
    flight, recovery = found.flight, found.recovery
    paths = ", ".join(f"{number} x {path}" for path, number in recovery.by_path.items())
    yield from _wrapped(
        f"in flight: {flight.number:,} transactions take {flight.rss_each / 1024:.1f} KiB RSS each, a thread each, and"
        f" {flight.threads_beside} threads beside"
    )
    yield from _wrapped(
        f"recovery: {recovery.rows:,} rows whose answers were lost are decided {recovery.seconds:.1f} s after the start,"
        f" with {recovery.requests} requests ({paths}), {recovery.throttled} of them answered 429"
    )
    yield ""
    yield from _http(found)
    yield ""
    yield "How to read: added ms is an order's time less the exchange's; more: benchmarks/README.rst."


def losses(found: Findings) -> Iterator[str]:
    """Where somebody else is faster."""
    lost = []
    for cell, result in found.speed.items():
        mine = found.counted(OURS, cell.threads, cell.latency)
        if cell.bot.startswith(OURS) or mine is None or not result.checked or result.rate.median <= mine.rate.median:
            continue
        lost.append((cell, result.rate.median / mine.rate.median))
    shares = {
        bot: [f"{share:.1f} x with {_where(cell)}" for cell, share in lost if cell.bot == bot]
        for bot in dict.fromkeys(cell.bot for cell, _ in lost)
    }
    for threads in dict.fromkeys(threads for threads, _ in found.http):
        theirs, ours = (result for of, result in found.http if of == threads)
        if theirs.rate.median > ours.rate.median and theirs.checked and ours.checked:
            share = f"{theirs.rate.median / ours.rate.median:.1f} x with {harness.threads(threads)}"
            shares.setdefault("bare requests bot over HTTP, nothing durable", []).append(share)
    wrapped = [line for bot, figures in shares.items() for line in _wrapped(f"  {bot}: {'; '.join(figures)}")]
    counts = [result.checked for cell, result in found.speed.items() if cell.bot == OURS]
    counts += [result.checked for _, result in found.http if result.name == OURS]
    yield from _losses.told(wrapped, counts, "Where hireliab loses (their orders/s as a multiple of ours):")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, harness.WIDTH, subsequent_indent="    ")


def _where(cell: Cell) -> str:
    return f"{harness.threads(cell.threads)} at {cell.latency * 1000:.0f} ms"


def _speed(found: Findings) -> list[str]:
    rows = []
    for cell, result in found.speed.items():
        exchange = CALLS * cell.latency * 1000
        rows.append(
            (
                harness.named(cell.bot, result.problem),
                f"{cell.latency * 1000:.0f}",
                str(cell.threads),
                result.rate.text(),
                f"{result.p50 - exchange:.2f}",
                f"{result.p99 - exchange:.2f}",
                f"{result.extra['cpu_ns'] / 1000:,.0f}",
            )
        )
    heads = ("bot", "call ms", "threads", "orders/s (low-high)", "added p50 ms", "added p99 ms", "CPU us/order")
    disk = found.disk
    title = (
        f"Median of {disk.rounds} rounds after one to warm up; fdatasync meanwhile: p50 {disk.p50:.2f} ms,"
        f" p99 {disk.p99:.2f} ms"
    )
    return harness.table(title, heads, rows)


def _syncs(found: Findings) -> list[str]:
    counts = sorted({threads for _, threads in found.syncs})
    bots = [bot for bot in BOTS if any(of == bot for of, _ in found.syncs)]
    rows = []
    for bot in bots:
        measured = (found.syncs.get((bot, threads)) for threads in counts)
        rows.append((bot, *("not measured" if n is None else f"{n:.2f}" for n in measured)))
    title = f"fsync and fdatasync for each order, by strace in runs of their own (naive asks for {NAIVE_SYNCS})"
    return harness.table(title, ("bot", *map(harness.threads, counts)), rows)


def _http(found: Findings) -> list[str]:
    rows = [
        (
            harness.named(result.name, result.problem),
            str(threads),
            result.rate.text(),
            f"{result.p50:.1f}",
            f"{result.p99:.1f}",
        )
        for threads, result in found.http
    ]
    heads = ("bot", "threads", "orders/s (low-high)", "p50 ms", "p99 ms")
    return harness.table("Over HTTP, at the simulator on loopback (bare: requests, two calls, no file)", heads, rows)


def _long(bot: str) -> str:
    return {SHIPPED: "DBOS as shipped", TUNED: "DBOS set to WAL+FULL", "naive": "an fsync for each step"}.get(bot, bot)


def plain(found: Findings) -> dict[str, Any]:
    """For JSON."""
    return {
        "goals": [asdict(one) for one in goals(found)],
        "speed": [
            {**asdict(cell), **harness.plain(result), "added_p50": result.p50 - CALLS * cell.latency * 1000}
            for cell, result in found.speed.items()
        ],
        "fdatasync": harness.plain(found.disk),
        "syncs": [{"bot": bot, "threads": threads, "each": each} for (bot, threads), each in found.syncs.items()],
        "facts": {bot: dict(facts) for bot, facts in found.facts.items()},
        "absent": dict(found.absent),
        "in_flight": asdict(found.flight),
        "recovery": asdict(found.recovery),
        "http": [{"threads": threads, **harness.plain(result)} for threads, result in found.http],
    }
