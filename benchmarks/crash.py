"""
``python -m benchmarks crash --kills 10000``: the crash campaign at scale.

Not a race: it kills a bot that trades through hireliab, again and again, and compares the bot's books with the
exchange's. The kills are split into shards, each a campaign of its own (tests/crash/campaign.py) with its own exchange,
journal, seed and profile; several run side by side. Before them each profile goes through the stage of labels, in which
the bot dies at every named place of its code. A shard in which the checker finds something can be run again alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import harness

ROOT = Path(__file__).resolve().parents[1]
CAMPAIGN = ROOT / "tests" / "crash" / "campaign.py"
PROFILES = ("default", "null-client-ids")
CLASSES = ("calm", "lost", "dropped", "stormy")
SHARD = 250
"""Most kills of one shard: what its last, long life costs is then little, and what is run again is short."""
LABEL_KILLS = 105
"""About so many kills one class of faults takes in the stage of labels; for the progress bar only."""
DECIDED = 0.95
"""Of the orders of one profile that were sent while faults were on, so many must be decided within the bound."""
SAID = 40
"""Lines of a failed shard that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One campaign."""

    stage: str
    profile: str
    seed: int
    kills: int
    classes: str = ""

    @property
    def name(self) -> str:
        """For its folder and for people."""
        return f"{self.stage}-{self.profile}-{self.seed}"

    @property
    def arguments(self) -> list[str]:
        """Of campaign.py: what makes the same campaign again."""
        found = ["--stage", self.stage, "--profile", self.profile, "--seed", str(self.seed)]
        return found + (["--classes", self.classes] if self.classes else ["--kills", str(self.kills)])


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a shard."""

    shard: Shard
    code: int
    text: list[str]
    report: dict[str, Any] = field(default_factory=dict)


def shards_of(
    *, kills: int, seed: int, profiles: Sequence[str], size: int = SHARD, classes: Sequence[str] = CLASSES
) -> list[Shard]:
    """
    Split a campaign.

    Args:
        kills: Random ones, over all profiles.
        seed: Of the first shard; each further one adds 1.
        classes: Of faults, for the stage of labels; none leaves it out.
    """
    found: list[Shard] = []
    if classes:
        words = ",".join(classes)
        found += [
            Shard(stage="labels", profile=profile, seed=seed, kills=LABEL_KILLS * len(classes), classes=words)
            for profile in profiles
        ]
    wanted = {
        profile: kills // len(profiles) + (place < kills % len(profiles)) for place, profile in enumerate(profiles)
    }
    number = 0
    while any(wanted.values()):
        for profile, left in wanted.items():
            if left:
                share = -(-left // -(-left // size))  # as even as can be
                found.append(Shard(stage="storm", profile=profile, seed=seed + number, kills=share))
                wanted[profile], number = left - share, number + 1
    return found


class Crew:
    """
    Runs shards side by side.

    Args:
        folder: Gets a folder for each shard; that of one without a violation is removed again.
        told: Called with a shard and how many kills it has made so far.
        keep: Remove nothing.
    """

    def __init__(self, folder: Path, *, told: Callable[[Shard, int], None], keep: bool) -> None:
        self._folder = folder
        self._told = told
        self._keep = keep
        self._lock = threading.Lock()  # guards _running and _over
        self._running: set[subprocess.Popen[str]] = set()
        self._over = False

    def run(self, shards: Sequence[Shard], jobs: int) -> list[Outcome]:
        """All of them, in their order, at most `jobs` at once."""
        waiting: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        for shard in shards:
            waiting.put(shard)
        outcomes: list[Outcome] = []

        def work() -> None:
            while not self._over:
                try:
                    shard = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    outcomes.append(self._one(shard))
                except Exception as error:  # a shard that is not heard of must not look like one without a violation
                    outcomes.append(
                        Outcome(shard=shard, code=2, text=[f"not run to its end: {type(error).__name__}: {error}"])
                    )

        threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.5)
        finally:
            self._end()
        return outcomes

    def _one(self, shard: Shard) -> Outcome:
        folder = self._folder / shard.name
        with self._lock:
            if self._over:
                return Outcome(shard=shard, code=2, text=["not run"])
            process = subprocess.Popen(
                [sys.executable, str(CAMPAIGN), *shard.arguments, "--progress", "--keep", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=ROOT,
                start_new_session=True,
            )
            self._running.add(process)
        text: list[str] = []
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith('{"kills"'):
                    self._told(shard, json.loads(line)["kills"])
                else:
                    text.append(line.rstrip())
        except BaseException:
            _kill(process)  # nobody reads what it says any more
            raise
        finally:
            code = process.wait()
            process.stdout.close()
            with self._lock:
                self._running.discard(process)
        outcome = Outcome(shard=shard, code=code, text=text)
        with contextlib.suppress(OSError, ValueError):  # a campaign that could not run has none
            outcome.report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        if code == 0 and not self._keep:
            shutil.rmtree(folder, ignore_errors=True)
        return outcome

    def _end(self) -> None:
        """Leave no process behind: each shard is a process group of its own."""
        with self._lock:
            self._over = True
            running = list(self._running)
        for process in running:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[Shard, int], None]]:
    """A bar where a person looks and rich is installed, else a line now and then; on standard error."""
    lock = threading.Lock()
    made: Counter[str] = Counter()
    bar: Any = None
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from rich import console, progress as rich  # noqa: PLC0415, I001 - it may be missing

            columns = (
                rich.TextColumn("kills"),
                rich.BarColumn(),
                rich.MofNCompleteColumn(),
                rich.TimeElapsedColumn(),
                rich.TimeRemainingColumn(),
            )
            bar = rich.Progress(*columns, console=console.Console(stderr=True))
    task = None if bar is None else bar.add_task("kills", total=total)
    began = time.monotonic()
    said = began

    def told(shard: Shard, kills: int) -> None:
        nonlocal said
        with lock:
            made[shard.name] = kills
            done = made.total()
            if bar is not None:
                bar.update(task, completed=min(done, total))
            elif time.monotonic() - said >= 30:
                said = time.monotonic()
                rate = done / (said - began)
                left = max(0, total - done) / rate if rate else 0
                harness.progress(f"crash: {done} of about {total} kills, {rate:.1f} a second, {left / 60:.0f} min left")

    with bar if bar is not None else contextlib.nullcontext():
        yield told


def summary(outcomes: Sequence[Outcome], *, seed: int, seconds: float) -> tuple[list[str], dict[str, Any]]:
    """The report's lines, and the same for JSON."""
    reports = [outcome.report for outcome in outcomes if outcome.report]

    def total(name: str, **which: str) -> int:
        return sum(int(r[name]) for r in reports if all(r[key] == value for key, value in which.items()))

    def counted(name: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for report in reports:
            found.update(report[name])
        return found

    kills, violations = total("kills"), counted("violations")
    by_profile = {
        profile: {
            "kills": total("kills", profile=profile),
            "undecidable": total("undecidable", profile=profile),
            **_decided(
                [report["decided"] for report in reports if report["profile"] == profile and report["stage"] == "storm"]
            ),
        }
        for profile in PROFILES
    }
    # Judged over all campaigns: of one alone a single slow recovery makes several percent late.
    slow = [profile for profile, figures in by_profile.items() if figures["in time"] < DECIDED * figures["timed"]]
    if slow:
        violations["LIVENESS"] += len(slow)
    failed = [outcome for outcome in outcomes if outcome.code != 0]
    wrong = ", ".join(f"{kind} {number}" for kind, number in sorted(violations.items())) or "none"
    pace = f"{seconds / 60:.1f} min, {kills / seconds:.1f} kills a second"
    lines = [
        f"crash campaign: {kills:,} kills, {total('accepted'):,} orders at the exchange, violations: {wrong}",
        f"  seed {seed}, {len(outcomes)} campaigns ({len(failed)} failed), {pace}",
    ]
    if kills and not violations and not failed:
        lines.append(
            f"  none in {kills:,}: fewer than {3 / kills:.1e} for each kill, with 95 % confidence (rule of three)"
        )
    for profile, figures in by_profile.items():
        lines.append(
            f"  {profile}: {figures['kills']:,} kills; a person had to decide {figures['undecidable']:,} orders;"
            f" {figures['in time']:,} of {figures['timed']:,} decided within the bound while faults were on"
        )
    lines.append(f"  requests {total('requests'):,}; rows claimed by a later life {total('claims'):,}")
    phases, stormy = counted("phases"), max(1, kills)
    lines += ["", *harness.table(
        "In flight at the kills (a kill may hit several)",
        ("phase", "kills", "share"),
        [(phase, f"{n:,}", f"{n / stormy:.0%}") for phase, n in phases.most_common()],
    )]  # fmt: skip
    deaths, hits, nested = counted("deaths"), counted("hits"), counted("nested")
    if deaths or hits:
        died: Counter[str] = Counter()
        for name, number in deaths.items():
            died[name.split()[0]] += number
        labels = sorted({*died, *hits, *nested})
        lines += ["", *harness.table(
            "Kills at labels (core/_kill_points.py)",
            ("label", "died there", "in a recovery after a kill", "passed"),
            [(label, f"{died[label]:,}", f"{nested[label]:,}", f"{hits[label]:,}") for label in labels],
        )]  # fmt: skip
    lines += ["", *harness.table(
        "What callers were told",
        ("answer", "times"),
        [(answer, f"{n:,}") for answer, n in sorted(counted("told").items())],
    )]  # fmt: skip
    lines += [f"TOO SLOW {profile}: fewer than {DECIDED:.0%} were decided within the bound" for profile in slow]
    for outcome in failed:
        lines += [
            "",
            f"FAILED {outcome.shard.name}; once more: python tests/crash/campaign.py {' '.join(outcome.shard.arguments)}",
        ]
        lines += [line[:600] for line in outcome.text if line.startswith(("VIOLATION", "crash campaign:", "took"))][
            :SAID
        ]
        if not outcome.report:
            lines += outcome.text[-SAID:]
    data = {
        "seed": seed,
        "kills": kills,
        "accepted": total("accepted"),
        "requests": total("requests"),
        "claims": total("claims"),
        "seconds": seconds,
        "violations": dict(violations),
        "profiles": by_profile,
        "phases": dict(phases),
        "deaths": dict(deaths),
        "nested": dict(nested),
        "hits": dict(hits),
        "told": dict(counted("told")),
        "failed": [outcome.shard.arguments for outcome in failed],
    }
    return lines, data


def _decided(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """How many orders were decided in time, and of how many the time was taken."""
    total = Counter[str]()
    for count in counts:
        total.update(count)
    return {"in time": total["in time"], "timed": total["in time"] + total["late"]}


def main(arguments: Sequence[str]) -> int:
    """The command line; 1 for a violation, 2 when a campaign could not run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks crash", description=(__doc__ or "").partition("\n\n")[2]
    )
    add = parser.add_argument
    add("--kills", type=int, default=10_000, help="random ones (default: %(default)s)")
    add("--seed", type=int, default=None, help="default: from the clock; it is printed")
    add("--profile", choices=("both", *PROFILES), default="both", help="of the exchange (default: %(default)s)")
    add("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="campaigns at once (default: %(default)s)")
    add("--shard", type=int, default=SHARD, help="most kills of one campaign (default: %(default)s)")
    add("--classes", default=",".join(CLASSES), help="of faults at the labels; empty leaves the labels out")
    add("--keep", metavar="DIR", type=Path, help="keep every file there; else only those of failed campaigns are kept")
    add("--json", metavar="FILE", type=Path, help="write the figures to this file, too")
    given = parser.parse_args(arguments)
    if given.kills < 0 or given.jobs < 1 or given.shard < 1:
        parser.error("--kills must be 0 or more, --jobs and --shard 1 or more")
    seed = int(time.time()) % 1_000_000 if given.seed is None else given.seed
    profiles = PROFILES if given.profile == "both" else (given.profile,)
    classes = [word for word in given.classes.split(",") if word]
    shards = shards_of(kills=given.kills, seed=seed, profiles=profiles, size=given.shard, classes=classes)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="hireliab-crash-"))
    folder.mkdir(parents=True, exist_ok=True)
    harness.progress(f"crash: seed {seed}, {len(shards)} campaigns, {given.jobs} at once, files in {folder}")
    began = time.monotonic()
    with progress(sum(shard.kills for shard in shards)) as told:
        outcomes = Crew(folder, told=told, keep=given.keep is not None).run(shards, given.jobs)
    lines, data = summary(outcomes, seed=seed, seconds=time.monotonic() - began)
    print("\n".join(lines), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": harness.machine(), **data}, indent=2) + "\n", encoding="utf-8")
    with contextlib.suppress(OSError):
        folder.rmdir()  # empty when all is well
    codes = [outcome.code if outcome.code in (0, 1) else 2 for outcome in outcomes]
    return max([*codes, 1 if data["violations"] else 0])
