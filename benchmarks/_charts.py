"""What the charts show: titles, units and bars, read from a record's figures. Pure; _plot.py draws them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import harness
from benchmarks._rows import OURS, counted, duration
from benchmarks._summary import Row, times

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    One contestant.

    Attributes:
        text: The figure as it stands at the bar's end.
        low, high: Of the rounds, where that is known.
        mine: Whether it is hireliab's although the label does not say so.
    """

    label: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    mine: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is hireliab's."""
        return self.mine or self.label.startswith((OURS, "import hireliab"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """
    Bars that are compared with each other.

    Attributes:
        axis: What the axis counts, with its unit, and which end is better.
        log: Whether it is logarithmic: where the largest is more than a hundred times the smallest.
        one: Whether the bars are ratios that start at 1.
    """

    title: str
    axis: str
    bars: Sequence[Bar]
    log: bool = False
    one: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One picture; `name` is that of its file."""

    name: str
    title: str
    panels: Sequence[Panel]


HEADLINES = (
    ("breaker", "a good call", "circuitbreaker", "a good call"),
    ("breaker", "a good call", "pybreaker", "a good call"),
    ("retry", "a success at once", "tenacity", "a success at once"),
    ("limiter", "room in both limits", "pyrate-limiter", "two limits"),
    ("pool", "acquire and release, one thread", "SQLAlchemy QueuePool", "one thread"),
    ("pool", "32 threads on 4 clients", "LifoQueue pool", "32 threads on 4 clients"),
    ("http", "GET http, kept connection", "requests.Session", "GET, kept connection"),
    ("http", "GET http, kept connection", "http.client", "GET, kept connection"),
    ("http", "GET https, new connection", "requests.Session", "GET, new TLS connection"),
    ("bus", "publish, 1 thread, quorum queue", "pika BlockingConnection", "publish on a quorum queue"),
    ("bus", "publish, 1 thread, quorum queue", "pika SelectConnection", "publish on a quorum queue"),
    ("alerts", "call while all hang, WARNING", "Apprise.notify()", "call while channels hang"),
    ("alerts", "call while all hang, WARNING", "QueueHandler and Apprise", "call while channels hang"),
    ("transactions", "orders, 32 threads, 0 ms", "DBOS set to WAL+FULL", "32 threads"),
    ("transactions", "orders, 32 threads, 0 ms", "an fsync for each step", "32 threads"),
    ("orders", "orders over HTTP, 1 thread", "bare requests bot", "over HTTP, 1 thread"),
)
"""What the overview shows: part, what, against whom, label: its usual peer and its hardest, also where hireliab loses."""


def of(benchmarks: Mapping[str, Figures], rows: Sequence[Row]) -> list[Chart]:
    """All charts that these figures have; `rows` are their rows."""
    charts = [*_overview(rows)]
    calls = [(name, benchmarks[name]) for name in ("breaker", "retry", "limiter", "policy") if name in benchmarks]
    if calls:
        panels = [panel for name, figures in calls for panel in _calls(name, figures)]
        charts.append(Chart(name="calls", title="What one guarded call costs", panels=panels))
    for name, (title, reader) in _READERS.items():
        if name in benchmarks:
            charts.append(Chart(name=name, title=title, panels=[one for one in reader(benchmarks[name]) if one.bars]))
    return [chart for chart in charts if chart.panels]


def _overview(rows: Sequence[Row]) -> Iterator[Chart]:
    found = {(row.part, row.what, row.against): row for row in rows if row.ratio is not None}
    bars = [
        Bar(label=f"{part}, {label}: {against}", value=row.ratio, text=times(row.ratio))
        for part, what, against, label in HEADLINES
        if (row := found.get((part, what, against))) is not None and row.ratio is not None
    ]
    if bars:
        panel = Panel(
            title="",
            axis="times as fast as the peer, log scale; left of 1 hireliab is slower",
            bars=bars,
            log=True,
            one=True,
        )
        yield Chart(name="overview", title="hireliab beside its peers", panels=[panel])


def _panel(title: str, axis: str, bars: Sequence[Bar]) -> Panel:
    values = [bar.value for bar in bars if bar.value > 0]
    log = bool(values) and len(values) == len(bars) and max(values) > 100 * min(values)
    return Panel(title=title, axis=axis + (", log scale" if log else ""), bars=bars, log=log)


LESS, MORE = "less is better", "more is better"


def _spread(label: str, spread: Figures, text: str, scale: float = 1.0) -> Bar:
    return Bar(
        label=label, value=spread["median"] * scale, low=spread["low"] * scale, high=spread["high"] * scale, text=text
    )


def _rates(title: str, unit: str, results: Sequence[Figures]) -> Panel:
    bars = [
        _spread(name, one["rate"], f"{one['rate']['median']:,.{0 if one['rate']['median'] >= 10 else 1}f}")
        for name, one in counted(results).items()
    ]
    return _panel(title, f"{unit}: {MORE}", bars)


_CALLS = {
    ("breaker", "closed"): "Circuit breaker: a good call",
    ("breaker", "refused"): "Circuit breaker: a refused call",
    ("retry", "good"): "Retry: a success at once",
    ("limiter", "room"): "Rate limiter: room in two limits",
    ("policy", "success"): "hireliab's policies: a success",
}


def _calls(name: str, figures: Figures) -> Iterator[Panel]:
    for (part, group), title in _CALLS.items():
        if part == name:
            bars = [
                Bar(
                    label=label,
                    mine=part == "policy" and label != "bare",
                    value=cost["ns"],
                    low=cost["low"],
                    high=cost["high"],
                    text=duration(cost["ns"]),
                )
                for label, cost in counted(figures[group]).items()
            ]
            yield _panel(title, f"ns a call: {LESS}", bars)


def _pool(figures: Figures) -> Iterator[Panel]:
    alone = [
        _spread(name, cost["nanoseconds"], duration(cost["nanoseconds"]["median"]), 1e-3)
        for name, cost in counted(figures["alone"]).items()
    ]
    yield _panel("One thread: acquire and release", f"us: {LESS}", alone)
    yield _rates("32 threads on 4 clients, 1 ms each", "turns a second", figures["crowd"])
    waits = [
        Bar(label=name, value=one["longest_ms"], text=duration(one["longest_ms"] * 1e6))
        for name, one in counted(figures["crowd"]).items()
    ]
    yield _panel("The same: the longest that a thread waits", f"ms: {LESS}", waits)
    for warm in dict.fromkeys(one["warm"] for one in figures["spikes"]):
        opened = [
            _spread(one["name"], one["opened"], f"{one['opened']['median']:.0f}")
            for one in figures["spikes"]
            if one["warm"] == warm
        ]
        yield _panel(f"Clients open after a spike of 50 threads, from {warm}", f"clients: {LESS}", opened)


def _http(figures: Figures) -> Iterator[Panel]:
    for one in figures["parts"]:
        yield _rates(one["part"], "calls a second", one["results"])


def _bus(figures: Figures) -> Iterator[Panel]:
    for one in figures["parts"]:
        if one["what"] != "latency":
            yield _rates(f"{one['what']}, {one['kind']} queue".capitalize(), "messages/s", one["results"])


def _alerts(figures: Figures) -> Iterator[Panel]:
    calls = [
        Bar(label=name, value=one["p50"] * 1000, text=duration(one["p50"] * 1e6))
        for name, one in counted(figures["calls"]).items()
    ]
    yield _panel("A call while six hooks hang, median", f"us: {LESS}", calls)
    for hung in dict.fromkeys(one["hung"] for one in figures["deliveries"]):
        bars = []
        for name, one in counted([one for one in figures["deliveries"] if one["hung"] == hung]).items():
            came = [ms for ms in one["took_ms"] if ms is not None]
            if came:
                ms = statistics.median(came)
                lost = f", {one['lost']} of {len(one['took_ms'])} lost" if one["lost"] else ""
                bars.append(Bar(label=name, value=ms, low=min(came), high=max(came), text=duration(ms * 1e6) + lost))
        yield _panel(f"Until a hook that works has an alert, beside {hung} that hang", f"ms: {LESS}", bars)


def _transactions(figures: Figures) -> Iterator[Panel]:
    for threads, latency in ((1, 0.0), (32, 0.0), (8, 0.02), (32, 0.02)):
        cell = [
            {**one, "name": one["bot"].replace("naive", "naive: an fsync for each step")}
            for one in figures["speed"]
            if (one["threads"], one["latency"]) == (threads, latency)
        ]
        title = f"{harness.threads(threads)}, the exchange answers in {latency * 1000:.0f} ms"
        yield _rates(title, "orders a second", cell)


def _orders(figures: Figures) -> Iterator[Panel]:
    for threads in dict.fromkeys(one["threads"] for one in figures["throughput"]):
        among = [one for one in figures["throughput"] if one["threads"] == threads]
        yield _rates(f"Speed, {harness.threads(threads)}", "orders a second", among)
    books = figures["books"]
    for key, title in (
        ("duplicates", "orders placed twice"),
        ("forgotten", "orders placed, and believed not to be"),
        ("imagined", "orders believed placed, that are not"),
        ("wrong_figures", "orders believed with wrong figures"),
    ):
        bars = [Bar(label=one["bot"], value=one[key], text=f"{one[key]}") for one in books]
        if key in ("imagined", "wrong_figures") and not any(bar.value for bar in bars):
            continue  # nobody did it
        yield _panel(f"Under faults: {title}, of {books[0]['asked']}", f"orders: {LESS}", bars)


def _imports(figures: Figures) -> Iterator[Panel]:
    bars = [
        _spread(name, one["ms"], f"{one['ms']['median']:.1f} ms") for name, one in counted(figures["started"]).items()
    ]
    yield _panel("", f"ms from start to end of the interpreter: {LESS}", bars)


_READERS: dict[str, tuple[str, Callable[[Figures], Iterator[Panel]]]] = {
    "pool": ("Connection pools", _pool),
    "http": ("HTTP clients on loopback", _http),
    "bus": ("RabbitMQ clients on one broker", _bus),
    "alerts": ("Alerts while channels hang", _alerts),
    "transactions": ("Orders made durable step by step", _transactions),
    "orders": ("Orders over HTTP, at a simulated exchange", _orders),
    "imports": ("The start of a program", _imports),
}
