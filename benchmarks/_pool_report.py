"""What the pool benchmark found, the goals it is held to, and both as tables. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import _calls, _goals, _losses, harness
from benchmarks._calls import Cost
from benchmarks._goals import Goal, goal
from benchmarks._pool_crowd import CLIENTS, CONNECT, HOLD, NOISE_NS, SPIKE, SPIKE_LIMIT, THREADS, USE, Spike, bound
from benchmarks._pool_peers import LIFO, OURS, QUEUE_POOL

WITH, EXECUTE = "with connection()", "execute()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """
    Everything that was measured.

    Attributes:
        load: A line about what else the machine had to do.
        alone: One thread, the cost of a client's way out and back.
        crowd: Many threads on few clients; a latency is the wait for a client.
        longest_ms: The longest wait in the crowd, by name.
        overtaken: Turns of the crowd that were certainly overtaken, by name.
        order: Of the threads in a queue: how many were overtaken, exactly, by name.
        spikes: Of each contestant, from a warm and from a cold pool.
    """

    rounds: int
    load: str
    alone: Sequence[Cost]
    crowd: Sequence[harness.Result]
    longest_ms: Mapping[str, float]
    overtaken: Mapping[str, int]
    order: Mapping[str, int]
    spikes: Sequence[Spike]

    def problems(self) -> tuple[str, ...]:
        """Whose figures do not count."""
        found = [f"one thread, {cost.name}: {cost.problem}" for cost in self.alone if cost.problem]
        return (*found, *(f"{THREADS} threads, {one.name}: {one.problem}" for one in self.crowd if one.problem))

    def cost(self, name: str) -> Cost | None:
        """Of one thread, where it counts."""
        cost = _calls.find(self.alone, name)
        return cost if cost is not None and not cost.problem else None

    def among(self, name: str) -> harness.Result | None:
        """Of the crowd, where it counts."""
        return next((one for one in self.crowd if one.name == name and one.checked), None)

    def spike(self, name: str, warm: int) -> Spike | None:
        """From so many open clients."""
        return next((one for one in self.spikes if (one.name, one.warm) == (name, warm)), None)


def goals(found: Findings) -> list[Goal]:
    """What the project asks of itself, beside what was measured."""
    ours, theirs = found.cost(OURS), found.cost(QUEUE_POOL)
    share = _faster(ours, theirs)
    mine, lifo = found.among(OURS), found.among(LIFO)
    through = None if mine is None or lifo is None else harness.ratio(mine, lifo).median
    counted = mine is not None
    return [
        goal(
            "acquire and release, uncontended",
            None if ours is None else ours.nanoseconds.median / 1000,
            "{:.2f} us",
            most=1.5,
        ),
        goal(f"  as a multiple of {QUEUE_POOL}", None if share is None else share[0], "{:.1f} x", least=4),
        goal(f"{THREADS} threads, throughput against {LIFO}", through, "{:.2f} x", least=1),
        goal("  turns that were overtaken", found.overtaken.get(OURS) if counted else None, "{:.0f}", most=0),
        goal(f"a queue of {THREADS}, and one who comes back: overtaken", found.order.get(OURS), "{:.0f}", most=0),
        *(_spike_goal(found, warm) for warm in dict.fromkeys(one.warm for one in found.spikes)),
    ]


def _spike_goal(found: Findings, warm: int) -> Goal:
    mine = found.spike(OURS, warm)
    what = f"clients after the spike, from {warm}: the worst round"
    return goal(what, None if mine is None else mine.opened.high, "{:.0f}", most=bound(warm))


def _faster(ours: Cost | None, theirs: Cost | None) -> tuple[float, float] | None:
    """How many times as fast: median against median, and our worst round against their best."""
    if ours is None or theirs is None:
        return None
    mine, other = ours.nanoseconds, theirs.nanoseconds
    return other.median / mine.median, other.low / mine.high


def lines(found: Findings) -> Iterator[str]:
    """The report, ratios first."""
    title = "pool: a client's way out and back, beside other pools"
    yield title
    yield "=" * len(title)
    for name in (OURS, f"{OURS}, {WITH}", f"{OURS}, {EXECUTE}"):
        if (share := _faster(found.cost(name), found.cost(QUEUE_POOL))) is not None:
            yield f"{name}, against {QUEUE_POOL}:"
            yield f"  {share[0]:.1f}x (our worst round against their best: {share[1]:.1f}x)"
    for theirs in (LIFO, QUEUE_POOL):
        mine, other = found.among(OURS), found.among(theirs)
        if mine is not None and other is not None:
            yield f"{THREADS} threads on {CLIENTS} clients, against {theirs}:"
            yield f"  {harness.ratio(mine, other).text()}"
    yield from _calls.missing({"SQLAlchemy": ""})
    yield found.load
    yield ""
    yield from _goals.table(goals(found))
    yield ""
    yield from losses(found)
    yield ""
    title = f"One thread, {CLIENTS} clients, median of {found.rounds} rounds"
    yield from harness.table(title, _calls.HEADS, _calls.rows(found.alone))
    yield ""
    yield from _crowd(found)
    yield ""
    yield from _spikes(found)
    yield ""
    yield "How to read: benchmarks/README.rst."


def losses(found: Findings) -> Iterator[str]:
    """Where somebody else is faster."""
    lost = []
    mine, bare = found.cost(OURS), found.cost(LIFO)
    if (share := _faster(mine, bare)) is not None and share[0] < 1:
        lost.append(f"  {LIFO}, one thread: {1 / share[0]:.1f} x")
    ours = found.among(OURS)
    lost += [
        f"  {one.name}, {THREADS} threads: {one.rate.median / ours.rate.median:.2f} x as many turns"
        for one in found.crowd
        if ours is not None and one.checked and one.rate.median > ours.rate.median
    ]
    for theirs in found.spikes:
        spike = found.spike(OURS, theirs.warm)
        if spike is not None and theirs.all_served.median < spike.all_served.median:
            times = spike.all_served.median / theirs.all_served.median
            lost.append(f"  {theirs.name}, spike from {theirs.warm}: all served {times:.1f} x as early")
    yield from _losses.told(lost, [mine is not None, ours is not None])


def _crowd(found: Findings) -> list[str]:
    heads = ("pool", "turns/s (low-high)", "wait p50 ms", "p99 ms", "longest ms", "overtaken", "in a queue")
    rows = [
        (
            harness.named(one.name, one.problem),
            one.rate.text(),
            f"{one.p50:.2f}",
            f"{one.p99:.2f}",
            f"{found.longest_ms[one.name]:.0f}",
            f"{found.overtaken[one.name]:,}",
            f"{found.order[one.name]} of {THREADS + 1}",
        )
        for one in found.crowd
    ]
    title = (
        f"{THREADS} threads on {CLIENTS} clients, each held for {HOLD * 1000:.0f} ms; overtaken: by"
        f" {NOISE_NS / 1e6:.0f} ms, or in a queue at all"
    )
    return harness.table(title, heads, rows)


def _spikes(found: Findings) -> list[str]:
    heads = ("pool", "open before", "open after", "all served s (low-high)", "half served s")
    rows = [
        (
            one.name,
            str(one.warm),
            one.opened.text(),
            one.all_served.text(3),
            f"{one.half_served.median:.3f}",
        )
        for one in found.spikes
    ]
    title = (
        f"Spike: {SPIKE} threads at once, {CONNECT * 1000:.0f} ms to connect, {USE * 1000:.0f} ms of use, at most"
        f" {SPIKE_LIMIT} clients"
    )
    return harness.table(title, heads, rows)


def plain(found: Findings) -> dict[str, Any]:
    """For JSON."""
    return {
        "goals": [asdict(one) for one in goals(found)],
        "load": found.load,
        "alone": [asdict(cost) for cost in found.alone],
        "crowd": [
            {**harness.plain(one), "longest_ms": found.longest_ms[one.name], "overtaken": found.overtaken[one.name]}
            for one in found.crowd
        ],
        "queue_overtaken": dict(found.order),
        "spikes": [asdict(one) for one in found.spikes],
    }
