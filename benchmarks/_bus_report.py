"""What the bus benchmark found, the goals it is held to, and both as tables. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import _calls, _goals, _losses, harness
from benchmarks._bus_work import PREFETCH, WINDOW
from benchmarks._goals import Goal, goal

OURS, SYNC, MEMORY = "hireliab", "hireliab publish_sync()", "hireliab in memory"
BLOCKING, PIPELINED, KOMBU, AMQPSTORM = "pika BlockingConnection", "pika SelectConnection", "kombu", "amqpstorm"
BARE = "no headers"
KINDS = ("classic", "quorum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    One table.

    Attributes:
        what: Such as "publish, 1 thread", "consume" or "latency".
        kind: Of the queue.
        results: A latency is a message's time: of "latency" from publish to handler.
    """

    what: str
    kind: str
    results: Sequence[harness.Result]

    def result(self, name: str) -> harness.Result | None:
        """Where it counts."""
        return next((one for one in self.results if one.name == name and one.checked), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What one call of publish() takes."""

    name: str
    kind: str
    median_us: float
    p99_us: float
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that was measured, on one broker."""

    broker: str
    rounds: int
    load: str
    parts: Sequence[Part]
    calls: Sequence[Calls]

    def problems(self) -> tuple[str, ...]:
        """Whose figures do not count."""
        found = [
            f"{part.what}, {part.kind}, {one.name}: {one.problem}"
            for part in self.parts
            for one in part.results
            if one.problem
        ]
        return (*found, *(f"publish(), {one.kind}, {one.name}: {one.problem}" for one in self.calls if one.problem))

    def part(self, what: str, kind: str) -> Part | None:
        """The table of this name."""
        return next((part for part in self.parts if (part.what, part.kind) == (what, kind)), None)

    def share(self, what: str, kind: str, ours: str, theirs: str) -> harness.Ratio | None:
        """Our rate as a share of theirs, where both count."""
        part = self.part(what, kind)
        mine, other = (None, None) if part is None else (part.result(ours), part.result(theirs))
        return None if mine is None or other is None else harness.ratio(mine, other)


def goals(found: Findings) -> list[Goal]:
    """What the project asks of itself, beside what was measured."""
    rows = []
    for kind in dict.fromkeys(part.kind for part in found.parts):
        one = f"{kind} queue, confirmed, one thread: "
        blocking = _median(found.share("publish, 1 thread", kind, OURS, BLOCKING))
        rows += [
            goal(f"{one}{BLOCKING} x", blocking, "{:.1f} x", least=8),
            goal("  the aim", blocking, "{:.1f} x", least=10),
            goal(f"{one}{PIPELINED} x", _median(found.share("publish, 1 thread", kind, OURS, PIPELINED)), "{:.2f} x", least=0.6),
            goal(f"{kind} queue, consume and ack: {BLOCKING} x", _median(found.share("consume", kind, OURS, BLOCKING)), "{:.2f} x", least=0.9),
        ]  # fmt: skip
    for call in found.calls:
        if call.name == OURS:
            measured = None if call.problem else call.median_us
            rows.append(goal(f"{call.kind} queue, a call of publish(), median", measured, "{:.1f} us", most=20))
    return rows


def _median(ratio: harness.Ratio | None) -> float | None:
    return None if ratio is None else ratio.median


def lines(found: Findings) -> Iterator[str]:
    """The report, ratios first."""
    title = f"bus: confirmed messages on {found.broker}, beside other clients"
    yield title
    yield "=" * len(title)
    for kind in dict.fromkeys(part.kind for part in found.parts):
        for what, theirs in (
            ("publish, 1 thread", BLOCKING),
            ("publish, 1 thread", PIPELINED),
            ("publish, 8 threads", BLOCKING),
            ("consume", BLOCKING),
            ("consume", f"{BLOCKING}, {BARE}"),
        ):
            if (share := found.share(what, kind, OURS, theirs)) is not None:
                yield f"{what}, {kind} queue, against {theirs}:"
                yield f"  {share.text()}"
    yield from _calls.missing({"pika": "", KOMBU: "", AMQPSTORM: "needs Python 3.11"})
    yield found.load
    yield ""
    yield from _goals.table(goals(found))
    yield "Memory in an outage: tests/integration/test_rabbitmq_storm.py measures it, on a broker of its own."
    yield ""
    yield from losses(found)
    for part in found.parts:
        yield ""
        yield from _table(part, found.rounds)
    if found.calls:
        yield ""
        rows = [
            (
                harness.named(one.name, one.problem),
                one.kind,
                f"{one.median_us:.1f}",
                f"{one.p99_us:.1f}",
            )
            for one in found.calls
        ]
        yield from harness.table(
            "A call of publish(), in bursts of 1,000", ("bus", "queue", "median us", "p99 us"), rows, words=2
        )
    yield ""
    yield "How to read: benchmarks/README.rst."


def losses(found: Findings) -> Iterator[str]:
    """Where somebody else is faster than the bus over RabbitMQ."""
    lost = []
    for part in found.parts:
        ours = part.result(OURS)
        for one in part.results:
            if ours is None or not one.checked or one.name in (OURS, SYNC, MEMORY):
                continue
            where = f"  {one.name}, {part.what}, {part.kind} queue"
            if part.what == "latency":
                if one.p50 < ours.p50:
                    lost.append(f"{where}: {ours.p50 / one.p50:.2f} x as early")
                continue
            if one.rate.median > ours.rate.median:
                lost.append(f"{where}: {one.rate.median / ours.rate.median:.2f} x as many")
            if 0 < one.extra["cpu_ns"] < ours.extra["cpu_ns"]:
                lost.append(f"{where}: {one.extra['cpu_ns'] / ours.extra['cpu_ns']:.2f} x our CPU time a message")
    yield from _losses.told(lost, [part.result(OURS) is not None for part in found.parts])


def _table(part: Part, rounds: int) -> list[str]:
    counted = {one.name: harness.named(one.name, one.problem) for one in part.results}
    if part.what == "latency":
        title = f"From publish to handler, {part.kind} queue, one message at a time, {rounds} rounds"
        rows = [(counted[one.name], f"{one.p50:.2f}", f"{one.p95:.2f}", f"{one.p99:.2f}") for one in part.results]
        return harness.table(title, ("contestant", "p50 ms", "p95 ms", "p99 ms"), rows)
    verb = "Confirmed" if part.what.startswith("publish") else "Consumed"
    limit = f"window {WINDOW}" if verb == "Confirmed" else f"prefetch {PREFETCH}"
    rows = [
        (counted[one.name], one.rate.text(), f"{one.extra['cpu_ns'] / 1000:.1f}", f"{one.operations:,}")
        for one in part.results
    ]
    heads = ("contestant", "messages/s (low-high)", "CPU us/message", "messages")
    return harness.table(f"{verb}: {part.what}, {part.kind} queue, {limit}, {rounds} rounds", heads, rows)


def plain(found: Findings) -> dict[str, Any]:
    """For JSON."""
    return {
        "goals": [asdict(one) for one in goals(found)],
        "broker": found.broker,
        "load": found.load,
        "parts": [
            {"what": part.what, "kind": part.kind, "results": [harness.plain(one) for one in part.results]}
            for part in found.parts
        ],
        "calls": [asdict(one) for one in found.calls],
    }
