"""What the http benchmark found, the goals it is held to, and both as tables. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import _goals, _losses, harness
from benchmarks._goals import Goal, goal
from benchmarks._http_clients import HTTPX, OURS, PRESET, REQUESTS, URLLIB3

ALLOWED_US = 15
"""What a pool and a guard may add to a call."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is asked: method, scheme, and whether the connection is "kept" or used "once"."""

    method: str
    scheme: str
    folder: str

    @property
    def name(self) -> str:
        """Such as "GET https, new connection"."""
        return f"{self.method} {self.scheme}, {'kept' if self.folder == 'kept' else 'new'} connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What a pool and a guard add to a GET: over the rounds, the difference of the two medians of a round."""

    guard: str
    scheme: str
    microseconds: harness.Spread
    pairs: int

    @property
    def what(self) -> str:
        """Such as "pool and the preset for reads add to a GET"."""
        return f"pool and {self.guard} add to a GET"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """
    Everything that was measured.

    Attributes:
        server: Its name and version.
        load: A line about what else the machine had to do.
        results: Of each part, a contestant each, requests first.
        added: Of each guard and scheme.
    """

    server: str
    versions: Mapping[str, str]
    load: str
    results: Mapping[Part, Sequence[harness.Result]]
    added: Sequence[Added]

    def problems(self) -> tuple[str, ...]:
        """Whose figures do not count."""
        return tuple(
            f"{part.name}, {one.name}: {one.problem}"
            for part, results in self.results.items()
            for one in results
            if one.problem
        )

    def counted(self, part: Part, name: str) -> harness.Result | None:
        """A contestant's figures, where they count."""
        return next((one for one in self.results[part] if one.name == name and one.checked), None)

    def ratio(self, part: Part, theirs: str) -> harness.Ratio | None:
        """Ours against theirs."""
        mine, other = self.counted(part, OURS), self.counted(part, theirs)
        return None if mine is None or other is None else harness.ratio(mine, other)


def goals(found: Findings) -> list[Goal]:
    """What the project asks of itself, beside what was measured."""
    held = []
    for part in found.results:
        if part.folder == "once":
            held.append(_against(found, part, REQUESTS, least=3.0))
        elif part.method == "POST":
            held.append(_against(found, part, REQUESTS, least=1.8))
        else:
            held.append(_against(found, part, REQUESTS, least=2.0))
            held.append(_against(found, part, HTTPX, above=1.0))
            held.append(_against(found, part, URLLIB3, least=1.0))
    held += [
        goal(f"{added.what}, {added.scheme}", added.microseconds.median, "{:.1f} us", most=ALLOWED_US)
        for added in found.added
        if added.guard == PRESET
    ]
    return held


def _against(found: Findings, part: Part, theirs: str, **bound: float) -> Goal:
    share = found.ratio(part, theirs)
    return goal(f"{part.name}: against {theirs}", None if share is None else share.median, "{:.2f} x", **bound)


def lines(found: Findings) -> Iterator[str]:
    """The report, ratios first."""
    title = f"http: Session beside other clients; {found.server} on loopback"
    yield title
    yield "=" * len(title)
    for part in found.results:
        if (share := found.ratio(part, REQUESTS)) is not None:
            yield f"{part.name}, hireliab against requests:"
            yield f"  {share.text()}"
    yield f"measured: {', '.join(f'{name} {version}' for name, version in found.versions.items())}"
    yield found.load
    if "httpx" not in found.versions:
        yield "NOT COMPARED, not installed: httpx; pip install 'hireliab[bench]'"
    yield ""
    yield from _goals.table(goals(found))
    yield ""
    yield from losses(found)
    for part, results in found.results.items():
        yield ""
        yield from _part(part, results)
    yield ""
    for added in found.added:
        yield f"{added.what}, {added.scheme}: {added.microseconds.text(1)} us, {added.pairs:,} pairs"
    yield "How to read: benchmarks/README.rst."


def losses(found: Findings) -> Iterator[str]:
    """Where somebody else is faster."""
    lost = [
        f"  {one.name}, {part.name}: {one.rate.median / mine.rate.median:.2f} x"
        for part, results in found.results.items()
        for one in results
        if (mine := found.counted(part, OURS)) is not None and one.checked and one.rate.median > mine.rate.median
    ]
    lost += [
        f"  {added.what}, {added.scheme}: {added.microseconds.median:.1f} us, more than {ALLOWED_US}"
        for added in found.added
        if added.microseconds.median > ALLOWED_US
    ]
    counts = [found.counted(part, OURS) is not None for part in found.results]
    yield from _losses.told(lost, counts, "Where hireliab loses (their calls/s as a multiple of ours):")


def _part(part: Part, results: Sequence[harness.Result]) -> list[str]:
    heads = ("client", "x requests", "calls/s (low-high)", "p50 us", "p99 us")
    base = results[0].rate.median
    rows = [
        (
            harness.named(one.name, one.problem),
            f"{one.rate.median / base:.2f}",
            one.rate.text(),
            f"{one.p50 * 1000:,.0f}",
            f"{one.p99 * 1000:,.0f}",
        )
        for one in results
    ]
    return harness.table(f"{part.name}: median of {results[0].rounds} rounds, of each its median call", heads, rows)


def plain(found: Findings) -> dict[str, Any]:
    """For JSON."""
    return {
        "goals": [asdict(one) for one in goals(found)],
        "server": found.server,
        "versions": dict(found.versions),
        "load": found.load,
        "parts": [
            {"part": part.name, "results": [harness.plain(one) for one in results]}
            for part, results in found.results.items()
        ],
        "added_us": [asdict(added) for added in found.added],
    }
