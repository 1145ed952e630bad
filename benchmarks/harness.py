"""
How every benchmark here measures: interleaved rounds, checked work, the ratio first.

Contestants take turns within one run, in an order that is reversed each round, so that a busy minute of the machine
meets all of them. The first round warms up and is thrown away. A contestant's figure counts only when its work was
found done.
"""

from __future__ import annotations

import logging
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _progress

WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What one contestant did in one round.

    Attributes:
        operations: How many it finished.
        elapsed_ns: Wall time for all of them.
        latencies_ns: Of each, in the order of their ends.
        extra: Further figures of the contestant, by name, added up over the round.
    """

    operations: int
    elapsed_ns: int
    latencies_ns: tuple[int, ...]
    extra: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median between the least and the most of the rounds."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 0) -> str:
        """Such as "412 (398-420)"."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    One contestant over all counted rounds.

    Attributes:
        rate: Operations per second, over the rounds.
        mean, p50, p95, p99: Milliseconds, over all operations of all rounds.
        extra: Further figures for each operation.
        checked: Whether its work was found done.
        problem: Why not, or "".
    """

    name: str
    rounds: int
    operations: int
    rate: Spread
    mean: float
    p50: float
    p95: float
    p99: float
    extra: dict[str, float]
    checked: bool
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """
    Ours against theirs, as a share of theirs.

    Attributes:
        median: Median against median.
        worst: Our worst round against their best: what we cannot be accused of hiding.
    """

    median: float
    worst: float

    def text(self) -> str:
        """Such as "0.41x (worst round of ours against best of theirs: 0.38x)"."""
        return f"{self.median:.2f}x (our worst round against their best: {self.worst:.2f}x)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What a benchmark has to say.

    Attributes:
        lines: For people, at most WIDTH columns.
        data: The same figures for JSON.
        problems: Whose figures do not count, and why.
    """

    lines: tuple[str, ...]
    data: dict[str, Any]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """
    One of those that are compared.

    Attributes:
        run: Does one round, whose number it gets (0 is the warm-up).
        check: Called once after all rounds; why the work was not done, or "".
    """

    name: str
    run: Callable[[int], Sample]
    check: Callable[[], str]


def interleave(contestants: Sequence[Contestant], *, rounds: int) -> list[list[Sample]]:
    """
    Let contestants take turns.

    Args:
        contestants: In their order for even rounds.
        rounds: Counted ones; one more is run first and thrown away.

    Returns:
        For each contestant the samples of the counted rounds.
    """
    samples: list[list[Sample]] = [[] for _ in contestants]
    for number in range(rounds + 1):
        _progress.current.between_rounds(number, rounds)
        turn = list(enumerate(contestants))
        for i, contestant in turn if number % 2 == 0 else reversed(turn):
            sample = contestant.run(number)
            if number:
                samples[i].append(sample)
    return samples


def summarise(contestant: Contestant, samples: Sequence[Sample]) -> Result:
    """What the rounds of one contestant come to."""
    rates = [sample.operations / (sample.elapsed_ns / 1e9) for sample in samples]
    latencies = sorted(ns for sample in samples for ns in sample.latencies_ns)
    operations = sum(sample.operations for sample in samples)
    names = sorted({name for sample in samples for name in sample.extra})
    problem = contestant.check()
    return Result(
        name=contestant.name,
        rounds=len(samples),
        operations=operations,
        rate=spread(rates),
        mean=statistics.fmean(latencies) / 1e6,
        p50=percentile(latencies, 50) / 1e6,
        p95=percentile(latencies, 95) / 1e6,
        p99=percentile(latencies, 99) / 1e6,
        extra={name: sum(sample.extra.get(name, 0.0) for sample in samples) / operations for name in names},
        checked=not problem,
        problem=problem,
    )


def spread(numbers: Sequence[float]) -> Spread:
    """Median, least and most."""
    return Spread(median=statistics.median(numbers), low=min(numbers), high=max(numbers))


def percentile(ordered: Sequence[int], percent: float) -> int:
    """The smallest value that `percent` of the values do not exceed (nearest rank), of values in ascending order."""
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def ratio(ours: Result, theirs: Result) -> Ratio:
    """Our rate as a share of theirs."""
    return Ratio(median=ours.rate.median / theirs.rate.median, worst=ours.rate.low / theirs.rate.high)


def quiet(*loggers: str) -> None:
    """Let these loggers say nothing: what they report is what a benchmark provokes, and printing it takes time."""
    for name in loggers:
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False


# -- the machine --------------------------------------------------------------------------------------------------


def machine(folder: str | os.PathLike[str] | None = None, *, syncs: int = 30) -> dict[str, str]:
    """
    What the numbers depend on.

    Args:
        folder: On the disk that is written to; None takes the folder for temporary files.
        syncs: How often to measure the disk.
    """
    return {
        "cpu": f"{_cpu()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "disk": _disk(Path(folder or tempfile.gettempdir()), syncs),
    }


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown CPU"
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown CPU"


def _disk(folder: Path, syncs: int) -> str:
    sync = getattr(os, "fdatasync", os.fsync)
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(syncs):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter_ns()
            sync(file.fileno())
            took.append((time.perf_counter_ns() - began) / 1e6)
    found = spread(took)
    kind = _file_system(folder)
    note = "; not a disk: commits cost nothing here" if kind in ("tmpfs", "ramfs") else ""
    return f"{kind}, fdatasync of 4 KiB {found.text(2)} ms{note}"


def _file_system(folder: Path) -> str:
    """The type of the file system, where Linux tells."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown file system"
    where = str(folder.resolve())
    best = ("", "unknown file system")
    for line in mounts:
        _, point, kind, *_ = line.split()
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def load() -> float | None:
    """How many processes wanted to run in the last minute, where the system tells; this one is among them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def load_line(before: float | None, after: float | None) -> str:
    """What a report says of it."""
    if before is None or after is None:
        return "load of the machine: unknown"
    return f"load of the machine: {before:.1f} before, {after:.1f} after, on {os.cpu_count()} cores"


def header(facts: dict[str, str]) -> list[str]:
    """The machine, a line for each fact."""
    return [f"{name:<7} {value}" for name, value in facts.items()]


# -- tables -------------------------------------------------------------------------------------------------------


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> list[str]:
    """
    Lines of an aligned table.

    Args:
        heads: Of the columns, with their units.
        words: How many columns from the left hold words; the others hold numbers, and stand at the right.
    """
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return [title, line(heads), "  ".join("-" * width for width in widths), *map(line, rows)]


def named(name: str, problem: str) -> str:
    """A contestant in a table, marked when its figures do not count."""
    return f"{name} NOT COUNTED" if problem else name


def threads(number: int) -> str:
    """Such as "1 thread" and "8 threads"."""
    return f"{number} thread" if number == 1 else f"{number} threads"


def plain(result: Result) -> dict[str, Any]:
    """A result for JSON."""
    return asdict(result)


def progress(text: str) -> None:
    """Tell on standard error what is being done, so that standard output holds results only."""
    _progress.current.step(text)
