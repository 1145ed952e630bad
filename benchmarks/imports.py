"""
What ``import hireliab`` adds to the start of an interpreter, and what a program pays that also uses the names.

Each contestant is a fresh interpreter in each round; they take turns.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import _goals, harness
from benchmarks._goals import Goal, goal

ROOT = Path(__file__).parents[1]
ROUNDS = 20
ALLOWED_MS = 10.0
BARE, OURS, USED, REQUESTS = (
    "a bare interpreter",
    "import hireliab",
    "import hireliab and use every name",
    "import requests",
)
CODE = {
    BARE: "pass",
    OURS: "import hireliab",
    USED: "import hireliab\nfor name in hireliab.__all__: getattr(hireliab, name)",
    REQUESTS: "import requests",
}
_FOREIGN = """
import json, sys
known = {*sys.stdlib_module_names, "hireliab", "__mp_main__"}
before = {name.partition(".")[0] for name in sys.modules}
import hireliab
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} - before - known)))
"""
"""What others' modules an import brings along; what was there before is the environment's own (.pth files)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Milliseconds from the start of an interpreter to its end, over the rounds."""

    name: str
    ms: harness.Spread
    problem: str


def run(quick: bool) -> harness.Report:
    """Every contestant; `quick` finds breakage only."""
    rounds = 2 if quick else ROUNDS
    found, added = measure(rounds=rounds)
    held = goals(found, added)
    return harness.Report(
        lines=tuple(_lines(found, added, held, rounds)),
        data={
            "goals": [asdict(one) for one in held],
            "started": [asdict(one) for one in found],
            "added_ms": dict(added),
        },
        problems=tuple(f"{one.name}: {one.problem}" for one in found if one.problem),
    )


def measure(*, rounds: int) -> tuple[list[Started], Mapping[str, float]]:
    """
    Start them in turn.

    Returns:
        What each took, and for each but the bare one the median over the rounds of what it took more than the bare one.
    """
    harness.progress(f"imports: {rounds} rounds of {len(CODE)} interpreters, and one to warm up")
    failed: dict[str, str] = {}
    contestants = [_contestant(name, code, failed) for name, code in CODE.items()]
    samples = harness.interleave(contestants, rounds=rounds)
    took = {name: [one.elapsed_ns / 1e6 for one in taken] for name, taken in zip(CODE, samples, strict=True)}
    foreign = foreign_modules()
    if foreign:
        failed.setdefault(OURS, f"it loads modules of others: {', '.join(foreign)}")
    found = [Started(name=name, ms=harness.spread(ms), problem=failed.get(name, "")) for name, ms in took.items()]
    added = {
        name: statistics.median(a - b for a, b in zip(ms, took[BARE], strict=True))
        for name, ms in took.items()
        if name != BARE
    }
    return found, added


def foreign_modules() -> list[str]:
    """The top names of third-party modules that ``import hireliab`` loads; there should be none."""
    done = subprocess.run([sys.executable, "-c", _FOREIGN], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    names: list[str] = json.loads(done.stdout)
    return names


def _contestant(name: str, code: str, failed: dict[str, str]) -> harness.Contestant:
    command = [sys.executable, "-c", code]

    def one_round(_number: int) -> harness.Sample:
        began = time.perf_counter_ns()
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
        took = time.perf_counter_ns() - began
        if done.returncode:
            failed.setdefault(name, f"ended with code {done.returncode}: {done.stderr.strip()[-200:]}")
        return harness.Sample(operations=1, elapsed_ns=took, latencies_ns=(took,), extra={})

    return harness.Contestant(name=name, run=one_round, check=lambda: "")


def goals(found: Sequence[Started], added: Mapping[str, float]) -> list[Goal]:
    """What the project asks of itself, beside what was measured."""
    what = "import hireliab adds to a bare interpreter, median"
    return [goal(what, added[OURS] if _counts(found) else None, "{:.1f} ms", most=ALLOWED_MS)]


def _counts(found: Sequence[Started]) -> bool:
    return not any(one.problem for one in found if one.name in (BARE, OURS))


def _lines(found: Sequence[Started], added: Mapping[str, float], held: Sequence[Goal], rounds: int) -> Iterator[str]:
    title = "imports: from the start of an interpreter to its end"
    yield title
    yield "=" * len(title)
    bare = next(one for one in found if one.name == BARE)
    ours = next(one for one in found if one.name == OURS)
    if _counts(found):
        yield f"import hireliab, against {BARE}: {bare.ms.median / ours.ms.median:.2f}x"
    yield ""
    yield from _goals.table(held)
    yield ""
    rows = [
        (
            harness.named(one.name, one.problem),
            one.ms.text(1),
            "-" if one.name == BARE else f"{added[one.name]:+.1f}",
        )
        for one in found
    ]
    yield from harness.table(f"Median of {rounds} rounds", ("program", "ms (low-high)", "added ms"), rows)
