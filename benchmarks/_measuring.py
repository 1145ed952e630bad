"""Runs benchmarks into a record: one after the other, with the machine, the versions and the load beside their figures."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import _progress, harness
from benchmarks._record import Record
from benchmarks.harness import Report

ROOT = Path(__file__).parents[1]
PEERS = (
    "amqpstorm", "backoff", "circuitbreaker", "dbos", "httpx", "interlock-cb", "kombu", "pika", "purgatory", "pybreaker",
    "pyrate-limiter", "requests", "sqlalchemy", "stamina", "tenacity", "urllib3",
)  # fmt: skip
INTERRUPTED, TERMINATED = 130, 143
"""Exit codes, as shells have them."""
_LAST_WORDS = 5.0
"""Seconds that a child has to end after an interrupt, before it is killed."""


class TerminatedError(BaseException):
    """SIGTERM came; raised in the main thread, so that every block ends its children and removes its files."""


def measure(
    benchmarks: Mapping[str, Callable[[bool], Report]], seconds: Mapping[str, float], record: Record, *, quick: bool
) -> int:
    """
    Run them into `record`; one that fails costs none of the others its figures.

    Args:
        seconds: What each takes as a rule, for the bar alone.

    Returns:
        0, or the exit code of an interrupted run: what had been measured until then is in the record.
    """
    run: dict[str, Any] = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        **_commit(),
        "machine": harness.machine(),
        "peers": _versions(),
        "load": None,
        "seconds": 0.0,
        "quick": quick,
        "note": "",
        "benchmarks": [],
    }
    began, load = time.monotonic(), harness.load()
    record.runs.append(run)
    print("\n".join(harness.header(run["machine"])), flush=True)
    interrupted = 0
    with _folder_for_all(), _progress.shown({name: float(seconds.get(name, 60)) for name in benchmarks}) as progress:
        try:
            for name, measure_it in benchmarks.items():
                progress.begin(name)
                try:
                    report = measure_it(quick)
                except Exception as error:  # whatever it was, the others' figures are worth having
                    progress.end()
                    traceback.print_exc()
                    record.problems.append(
                        f"{name}: FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
                    )
                    continue
                progress.end()
                print("\n" + "\n".join(report.lines), flush=True)
                run["benchmarks"].append(name)
                record.benchmarks[name], record.reports[name] = report.data, list(report.lines)
                record.problems += [f"{name}: {problem}" for problem in report.problems]
        except KeyboardInterrupt:
            interrupted = INTERRUPTED
        except TerminatedError:
            interrupted = TERMINATED
        if interrupted:
            progress.end()
            _end_children()
            left = [name for name in benchmarks if name not in run["benchmarks"]]
            print(f"benchmarks: interrupted; not measured: {', '.join(left)}", file=sys.stderr)
    after = harness.load()
    run["load"] = None if load is None or after is None else [round(load, 2), round(after, 2)]
    run["seconds"] = round(time.monotonic() - began, 1)
    return interrupted


@contextlib.contextmanager
def _folder_for_all() -> Iterator[None]:
    """Where this process and its children put temporary files, so that those of a killed child go, too."""
    with tempfile.TemporaryDirectory(prefix="hireliab-benchmarks-", ignore_cleanup_errors=True) as folder:
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = None  # found again at the next use
            del os.environ["TMPDIR"]
            if before is not None:
                os.environ["TMPDIR"] = before


def _end_children() -> None:
    """End what still runs of them: one whose Popen() the interrupt hit is in nobody's hands, and would go on to write."""
    children = _children()
    for number in (signal.SIGTERM, signal.SIGKILL):  # nginx ends its worker at the first
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        deadline = time.monotonic() + _LAST_WORDS
        while children and time.monotonic() < deadline:
            children = [child for child in children if not _has_ended(child)]
            time.sleep(0.01)


def _children() -> list[int]:
    """The processes that this one has started and not yet waited for, as far as the system tells: Linux does."""
    found: list[int] = []
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += map(int, file.read_text().split())
    return found


def _has_ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except ChildProcessError:  # somebody else has waited for it
        return True


def _commit() -> dict[str, Any]:
    """The checkout that is measured; nulls outside of one."""
    git = ("git", "-C", str(ROOT))
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        status = [*git, "status", "--porcelain", "--", "hireliab", "benchmarks"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}
    return {"commit": commit.stdout.strip(), "changed": bool(changed.stdout.strip())}


def _versions() -> dict[str, str]:
    """Of the peers that are installed."""
    found = {}
    for name in PEERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
