"""
What a run leaves behind: one JSON file that says where, when and with what its figures were measured.

The schema, which keeps its number as long as these keys keep their meaning:

schema
    1.
runs
    One for each call of ``python -m benchmarks`` whose figures are in the file: ``date`` (UTC), ``commit`` and ``changed``
    (whether files of hireliab or of the benchmarks differed from it), ``machine``, ``peers`` (versions), ``load`` (processes
    that wanted to run, in the minute before and in the last one), ``seconds``, ``quick``, ``note``, and ``benchmarks``: the
    names. What is not known is null.
rows
    The table that is printed at the end, ratios first: see ``_summary.Row``. Written for other programs; it is computed again
    from the figures when the file is read.
benchmarks
    The figures of each benchmark, by its name. Each has ``goals``.
reports
    The lines that each printed.
problems
    Whose figures do not count and which benchmarks failed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1
_SAME = ("cpu", "system", "python")
"""What two files must agree in before their figures stand in one report."""


class RecordError(Exception):
    """The file cannot be read, written or joined; the text is one line that says why."""


@dataclass(kw_only=True)
class Record:
    """The file, as this module's text describes it."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    benchmarks: dict[str, Any] = field(default_factory=dict)
    reports: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, other: Record) -> None:
        """
        Join another record's figures; a benchmark that is in both is the other's from now on.

        Raises:
            RecordError: They come from different machines.
        """
        for run in other.runs:
            for mine in self.runs:
                for name in _SAME:
                    if mine["machine"].get(name) != run["machine"].get(name):
                        raise RecordError(
                            f"two machines in one report: {name} is {mine['machine'].get(name)!r} and"
                            f" {run['machine'].get(name)!r}"
                        )
        # Also those of a benchmark that failed: it has no figures to keep.
        problems = [line for line in self.problems if _benchmark(line) not in other.benchmarks]
        self.keep([name for name in self.benchmarks if name not in other.benchmarks])
        self.runs += other.runs
        self.problems = problems + other.problems
        self.benchmarks.update(other.benchmarks)
        self.reports.update(other.reports)

    def keep(self, names: Sequence[str]) -> None:
        """Forget all benchmarks but these."""
        for run in self.runs:
            run["benchmarks"] = [name for name in run["benchmarks"] if name in names]
        self.runs = [run for run in self.runs if run["benchmarks"]]
        self.benchmarks = {name: figures for name, figures in self.benchmarks.items() if name in names}
        self.reports = {name: lines for name, lines in self.reports.items() if name in names}
        self.problems = [line for line in self.problems if _benchmark(line) in names]


def _benchmark(problem: str) -> str:
    """The benchmark that a line of the problems is about."""
    return problem.partition(":")[0]


def read(files: Sequence[Path]) -> Record:
    """
    Read one or more files; what comes later wins.

    Raises:
        RecordError: One is no report, or they come from different machines.
    """
    record = Record()
    for file in files:
        record.add(_read(file))
    return record


def _read(file: Path) -> Record:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise RecordError(f"{file}: no report of 'python -m benchmarks --json' with schema {SCHEMA}, but {schema!r}")
    try:
        return Record(
            runs=data["runs"], benchmarks=data["benchmarks"], reports=data["reports"], problems=data["problems"]
        )
    except KeyError as error:
        raise RecordError(f"{file}: has no {error}") from None


def write(file: Path, record: Record, rows: Sequence[dict[str, Any]]) -> None:
    """
    Write it, whole or not at all.

    Raises:
        RecordError: It cannot be written.
    """
    data = {
        "schema": SCHEMA,
        "runs": record.runs,
        "rows": list(rows),
        "benchmarks": record.benchmarks,
        "reports": record.reports,
        "problems": record.problems,
    }
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(file)
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}") from None
    finally:
        new.unlink(missing_ok=True)


def require_writable(file: Path) -> None:
    """
    Find out before anything is measured whether this file can be written.

    Raises:
        RecordError: It cannot.
    """
    try:
        if file.is_dir():
            raise RecordError(f"{file}: is a folder")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise RecordError(f"{file}: cannot be written: {error.strerror}") from None


def header(record: Record) -> list[str]:
    """Where the figures come from, for people: the machine once, then a line for each run."""
    machine = record.runs[0]["machine"] if record.runs else {}
    lines = [f"{name:<7} {value}" for name, value in machine.items()]
    for run in record.runs:
        load = "unknown" if run["load"] is None else "{:.1f} before, {:.1f} after".format(*run["load"])
        changed = " and changes" if run["changed"] else ""
        lines.append(
            f"{'run':<7} {run['date'] or 'unknown date'}, commit {run['commit'] or 'unknown'}{changed}, load {load}"
        )
        lines.append(f"{'':<7} of {', '.join(run['benchmarks'])}")
        if run["note"]:
            lines.append(f"{'':<7} {run['note']}")
    return lines
