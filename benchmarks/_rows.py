"""
The rows of each benchmark for the table at the end, read from its figures as they stand in the JSON file. Pure.

A goal that belongs to a comparison stands in its row; every other goal has a row of its own, so none can be left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import harness
from benchmarks._summary import Row

Figures = Mapping[str, Any]
OURS = "hireliab"


def of(benchmarks: Mapping[str, Figures]) -> tuple[list[Row], list[str]]:
    """
    All rows, in the order of the benchmarks.

    Returns:
        The rows, and a line for each benchmark whose figures could not be read: that costs no other its rows.
    """
    rows: list[Row] = []
    problems = []
    for name, figures in benchmarks.items():
        if not figures:  # it was not measured, and said why
            continue
        try:
            rows += _rows(_Part(name, figures))
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            problems.append(f"{name}: its figures are not what this version writes: {type(error).__name__}: {error}")
    return rows, problems


def _rows(part: _Part) -> list[Row]:
    reader = READERS.get(part.name)
    return [*(reader(part) if reader is not None else ()), *part.rest()]


class _Part:
    """A benchmark: its figures, and the goals that no row has taken yet."""

    def __init__(self, name: str, figures: Figures) -> None:
        self.name, self.figures = name, figures
        self._goals: dict[str, Figures] = {}
        above = ""
        for goal in figures.get("goals", ()):
            what = str(goal["what"])
            if what.startswith("  "):  # it goes on with the one above
                what = f"{above}: {what.strip()}"
            else:
                above = what.partition(":")[0].partition(",")[0]
            self._goals[what] = goal

    def row(self, what: str, against: str, ratio: float, absolute: str, *, goal: str = "") -> Row:
        """A comparison, with the goal of this name where there is one."""
        held = self._goals.pop(goal, None)
        return Row(
            part=self.name,
            what=what,
            against=against,
            ratio=ratio,
            absolute=absolute,
            wanted="" if held is None else str(held["wanted"]),
            reached=None if held is None else held["reached"],
        )

    def rest(self) -> Iterator[Row]:
        """A row for each goal that is left."""
        for what, goal in self._goals.items():
            yield Row(
                part=self.name,
                what=what,
                against="",
                ratio=None,
                absolute=str(goal["measured"]),
                wanted=str(goal["wanted"]),
                reached=goal["reached"],
            )

    def rates(
        self, what: str, results: Sequence[Figures], unit: str, *, goal: str = "{what}: against {against}"
    ) -> Iterator[Row]:
        """Ours against each of the others, by operations a second."""
        found = counted(results)
        mine = found.get(OURS) or found.get(f"{OURS} Session")
        for name, one in found.items():
            if mine is not None and not name.startswith(OURS):
                rate = mine["rate"]["median"]
                absolute = f"{rate:,.{0 if rate >= 10 else 1}f} {unit}"
                yield self.row(
                    what, name, rate / one["rate"]["median"], absolute, goal=goal.format(what=what, against=name)
                )

    def times(self, what: str, took: Mapping[str, float], ours: str | None) -> Iterator[Row]:
        """Ours against each of the others, by nanoseconds."""
        for name, ns in took.items():
            if ours in took and not name.startswith((OURS, "import hireliab")):
                mine = took[str(ours)]
                yield self.row(what, name, ns / mine, duration(mine), goal=f"{what}: against {name}")


Reader = Callable[[_Part], Iterator[Row]]


def duration(nanoseconds: float) -> str:
    """Such as "108 ns", "1.47 us" and "4.02 s"."""
    for unit, size in (("ns", 1.0), ("us", 1e3), ("ms", 1e6)):
        if nanoseconds < 999.5 * size:
            shown = nanoseconds / size
            return f"{shown:.0f} {unit}" if unit == "ns" or shown >= 100 else f"{shown:.3g} {unit}"
    return f"{nanoseconds / 1e9:.3g} s"


def counted(results: Sequence[Figures]) -> dict[str, Figures]:
    """By name, whose figures count."""
    return {str(one["name"]): one for one in results if not one["problem"]}


# -- one reader for each benchmark --------------------------------------------------------------------------------

_GROUPS = {
    "breaker": {"closed": "a good call", "window": "a good call, time window", "refused": "a refused call"},
    "retry": {"good": "a success at once", "third": "two failures, then a success"},
    "limiter": {"room": "room in both limits", "full": "no room"},
    "policy": {"success": "a success through all parts"},
}


def _calls(part: _Part) -> Iterator[Row]:
    for group, what in _GROUPS[part.name].items():
        costs = counted(part.figures[group])
        mine = costs.get(OURS) or costs.get("all parts")
        for name, cost in costs.items():
            if mine is None or name.startswith((OURS, "a wrapper")) or (part.name == "policy" and name != "bare"):
                continue
            # What stands in the report beside the bare call is the median of the rounds' ratios: the same figure here.
            ratio = 1 / mine["ratio"] if name == "bare" else cost["ns"] / mine["ns"]
            yield part.row(what, name, ratio, duration(mine["ns"]), goal=f"{what}: against {name}")
    crowd = part.figures.get("threads_seconds", {})
    yield from part.times("50 threads at once", {name: seconds * 1e9 for name, seconds in crowd.items()}, OURS)


def _pool(part: _Part) -> Iterator[Row]:
    goals = {"SQLAlchemy QueuePool": "acquire and release: as a multiple of SQLAlchemy QueuePool"}
    costs = {name: cost["nanoseconds"]["median"] for name, cost in counted(part.figures["alone"]).items()}
    for name, ns in costs.items():
        if OURS in costs and "," not in name and name != OURS:
            mine = costs[OURS]
            yield part.row("acquire and release, one thread", name, ns / mine, duration(mine), goal=goals.get(name, ""))
    goal = "32 threads, throughput against {against}"
    yield from part.rates("32 threads on 4 clients", part.figures["crowd"], "turns/s", goal=goal)
    spikes = part.figures["spikes"]
    for warm in dict.fromkeys(one["warm"] for one in spikes):
        took = {one["name"]: one["all_served"]["median"] * 1e9 for one in spikes if one["warm"] == warm}
        yield from part.times(f"spike of 50 threads, {warm} open", took, OURS)


def _http(part: _Part) -> Iterator[Row]:
    for one in part.figures["parts"]:
        yield from part.rates(one["part"], one["results"], "calls/s")


def _bus(part: _Part) -> Iterator[Row]:
    for one in part.figures["parts"]:
        kind, what = one["kind"], f"{one['what']}, {one['kind']} queue"
        if one["what"] == "latency":
            took = {name: result["p50"] * 1e6 for name, result in counted(one["results"]).items()}
            yield from part.times(what, took, OURS)
            continue
        goals = {
            "publish, 1 thread": f"{kind} queue, confirmed, one thread: {{against}} x",
            "consume": f"{kind} queue, consume and ack: {{against}} x",
        }
        yield from part.rates(what, one["results"], "messages/s", goal=goals.get(one["what"], ""))


def _alerts(part: _Part) -> Iterator[Row]:
    took = {name: one["p50"] * 1e6 for name, one in counted(part.figures["calls"]).items()}
    for mine in took:
        if mine.startswith(OURS):
            yield from part.times(f"call while all hang{mine.removeprefix(OURS)}", took, mine)
    for hung in dict.fromkeys(one["hung"] for one in part.figures["deliveries"]):
        came = {}
        for name, one in counted([one for one in part.figures["deliveries"] if one["hung"] == hung]).items():
            if arrived := [ms for ms in one["took_ms"] if ms is not None]:
                came[name] = statistics.median(arrived) * 1e6
        ours = next((name for name in came if name.startswith(OURS)), None)
        yield from part.times(f"until it is there, {hung} others hang", came, ours)


_LONG = {"DBOS": "DBOS as shipped", "DBOS WAL+FULL": "DBOS set to WAL+FULL", "naive": "an fsync for each step"}


def _transactions(part: _Part) -> Iterator[Row]:
    speed = part.figures["speed"]
    for threads, latency in dict.fromkeys((one["threads"], one["latency"]) for one in speed):
        cell = [one for one in speed if (one["threads"], one["latency"]) == (threads, latency)]
        what = f"{harness.threads(threads)}, {latency * 1000:.0f} ms"
        among = [{**one, "name": _LONG.get(one["bot"], one["bot"])} for one in cell]
        yield from part.rates(
            f"orders, {what}", among, "orders/s", goal=f"orders/s, {what}, as a multiple of {{against}}"
        )
    yield from _over_http(part, part.figures["http"])


def _over_http(part: _Part, results: Sequence[Figures]) -> Iterator[Row]:
    for threads in dict.fromkeys(one["threads"] for one in results):
        among = [
            {**one, "name": one["name"].replace("bare", "bare requests bot")}
            for one in results
            if one["threads"] == threads
        ]
        yield from part.rates(f"orders over HTTP, {harness.threads(threads)}", among, "orders/s")


def _orders(part: _Part) -> Iterator[Row]:
    yield from _over_http(part, part.figures["throughput"])


def _imports(part: _Part) -> Iterator[Row]:
    took = {name: one["ms"]["median"] * 1e6 for name, one in counted(part.figures["started"]).items()}
    yield from part.times("start and import hireliab", took, "import hireliab")


READERS: dict[str, Reader] = {
    "imports": _imports,
    "orders": _orders,
    "transactions": _transactions,
    "breaker": _calls,
    "retry": _calls,
    "limiter": _calls,
    "policy": _calls,
    "pool": _pool,
    "http": _http,
    "bus": _bus,
    "alerts": _alerts,
}
