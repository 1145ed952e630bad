"""``python -m benchmarks [name …] [--quick] [--json FILE] [--plot DIR]``; the command line."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from benchmarks import _measuring, _record, _rows, _summary
from benchmarks._measuring import INTERRUPTED, TERMINATED, TerminatedError
from benchmarks._record import Record, RecordError
from benchmarks.harness import Report
from hireliab._cli_arguments import Parser

SECONDS = {
    "imports": 30, "orders": 60, "breaker": 60, "retry": 40, "limiter": 20, "policy": 15, "transactions": 420,
    "pool": 70, "http": 120, "bus": 600, "alerts": 150,
}  # fmt: skip
"""The benchmarks in their order, and what each takes in full, for the bar alone."""


def _lazily(name: str) -> Callable[[bool], Report]:
    """Its module is imported when it runs: a peer that is missing costs one benchmark, and --from none."""

    def run(quick: bool) -> Report:
        report: Report = importlib.import_module(f"benchmarks.{name}").run(quick)
        return report

    return run


BENCHMARKS = {name: _lazily(name) for name in SECONDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when a contestant did not do its work or a benchmark failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["crash"]:  # no comparison of speeds, and with options of its own
        from benchmarks import crash  # noqa: PLC0415 - it is not among the others

        return crash.main(words[1:])
    parser = _parser()
    given = parser.read(words)
    for name in given.names:
        if name not in BENCHMARKS:
            near = difflib.get_close_matches(name, [*BENCHMARKS, "crash"], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(BENCHMARKS)}"
            parser.error(f"no benchmark {name!r}{hint}")
    try:
        draw = None if given.plot is None else _drawing(given.plot, given.format)
        for file in (given.json, given.csv):
            if file is not None:
                _record.require_writable(file)
        record, interrupted = Record(), 0
        if given.files:
            record = _read(given.files, given.names)
        else:
            chosen = {name: BENCHMARKS[name] for name in given.names or BENCHMARKS}
            interrupted = _measuring.measure(chosen, SECONDS, record, quick=given.quick)
        problems = _tell(record, given, draw)
    except RecordError as error:
        parser.error(str(error))
    for problem in problems:
        print(f"NOT COUNTED {problem}", file=sys.stderr)
    if interrupted:
        return interrupted
    return 1 if problems else 0


Draw: TypeAlias = Callable[[Record, Sequence[_summary.Row]], Sequence[Path]]


def _tell(record: Record, given: argparse.Namespace, draw: Draw | None) -> list[str]:
    """Print the table, write what is wanted; whose figures do not count."""
    rows, unread = _rows.of(record.benchmarks)
    if record.benchmarks:
        print("\n" + "\n".join(_summary.lines(rows)))
        if given.json is not None:
            _record.write(given.json, record, [asdict(row) for row in rows])
        try:
            if given.csv is not None:
                given.csv.write_text(_summary.as_csv(rows), encoding="utf-8")
            for file in draw(record, rows) if draw is not None else ():
                print(f"benchmarks: wrote {file}", file=sys.stderr)
        except OSError as error:
            raise RecordError(f"{error.filename}: {error.strerror}") from None
    if any(run["quick"] for run in record.runs):
        print("\n--quick: the rounds are too short for these figures to be quoted.")
    return [*record.problems, *unread]


def _parser() -> Parser:
    parser = Parser(
        prog="python -m benchmarks",
        description="Compares hireliab with the bare call. What the numbers mean: benchmarks/README.rst."
        " 'crash' is the crash campaign: see 'python -m benchmarks crash --help'.",
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="name", help=f"which ones: {', '.join(BENCHMARKS)} (default: all)")
    add("--quick", action="store_true", help="a few seconds: finds breakage, measures nothing")
    add("--json", metavar="FILE", type=Path, help="write the figures to this file, too")
    add("--csv", metavar="FILE", type=Path, help="write the table at the end to this file, too")
    add("--plot", metavar="DIR", type=Path, help="draw charts into this folder (needs matplotlib)")
    add("--format", choices=("svg", "png"), default="svg", help="of the charts (default: svg)")
    add(
        "--from", metavar="FILE", dest="files", type=Path, nargs="+",
        help="measure nothing: read the figures from files that --json wrote; of a benchmark in several, the last counts",
    )  # fmt: skip
    return parser


def _drawing(folder: Path, suffix: str) -> Draw:
    """How to draw, once it is known that it will be possible."""
    try:
        from benchmarks import _plot  # noqa: PLC0415 - it needs matplotlib
    except ImportError as error:
        raise RecordError(f"--plot needs matplotlib ({error}): pip install 'hireliab[bench]'") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be made: {error.strerror}") from None
    _record.require_writable(folder / "chart")
    return lambda record, rows: _plot.draw(record, rows, folder, suffix)


def _read(files: Sequence[Path], names: Sequence[str]) -> Record:
    """What stands in these files, of these benchmarks or of all; prints their reports."""
    record = _record.read(files)
    if names:
        record.keep(names)
    if not record.benchmarks:
        raise RecordError(f"{', '.join(map(str, files))}: no figures of {', '.join(names) or 'any benchmark'}")
    print("\n".join([*_record.header(record), "", "What each benchmark reported; the table of all is at the end."]))
    for lines in record.reports.values():
        print("\n" + "\n".join(lines))
    return record


# -- signals ------------------------------------------------------------------------------------------------------


def _end_orderly() -> None:
    """Let the first SIGINT or SIGTERM unwind the stack; a second one must not interrupt that."""
    wanted = (signal.SIGINT, signal.SIGTERM)

    def end(number: int, _frame: FrameType | None) -> None:
        for name in wanted:
            signal.signal(name, lambda *_: None)  # no SIG_IGN: a child would inherit that
        os.write(sys.stderr.fileno(), b"benchmarks: ending the children\n")  # print() may be what was interrupted
        raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError

    def arm() -> None:
        for name in wanted:
            signal.signal(name, end)

    def swallowed(found: sys.UnraisableHookArgs) -> None:
        """It came while a finaliser ran, from which nothing is raised: once more."""
        if not isinstance(found.exc_value, (KeyboardInterrupt, TerminatedError)):
            sys.__unraisablehook__(found)
            return
        number = signal.SIGINT if isinstance(found.exc_value, KeyboardInterrupt) else signal.SIGTERM
        arm()
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = swallowed
    arm()


def _run() -> int:
    if sys.argv[1:2] == ["crash"]:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that a terminated run ends its simulators
        return main()
    _end_orderly()
    try:
        return main()
    except KeyboardInterrupt:
        return INTERRUPTED
    except TerminatedError:
        return TERMINATED
    except BrokenPipeError:  # its reader has ended, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(_run())
