"""
Cut the power at any write of the journal's files, and see what is left.

    python tests/crash/power_loss.py --orders 100 --images 6000 --seed 7 [--keep DIR]
    python tests/crash/power_loss.py --replay DIR --image 1234            (one image of a kept run, once more)
    python tests/crash/power_loss.py --orders 60 --images 200 --seed 7 --break synchronous_off

A bot trades with several threads through the real pipeline and the real SQLiteJournal against an exchange in its own
memory, in three lives: it makes the journal and stops; it is killed; it recovers and stops. Where the schema has
several versions, another recording starts from a journal of version 1; and some start from a crash image, so that the
power is cut a second time while the first cut is being repaired. `strace` records every system call that changes
the journal's files, and the bot writes every barrier that was acknowledged to a file of its own, so that the trace
shows what came first. The trace is then replayed up to a cut, and a crash image is made: what was synced is there; of
what was not, a seeded choice is kept, dropped, torn at 512 or 4096 bytes, or left as zeros or garbage. Names count as
writes to the folder: a file that was made, or removed, is so only after the folder was synced.

Each image must open with SQLiteJournal and with plain sqlite3 (on a copy), pass integrity_check, hold every barrier
that was acknowledged before the cut at that version or a newer one, and hold a prefix of the log: exactly the first
entries of what the bot wrote, and each transaction's row as its last entry says.

After Pillai et al., "All File Systems Are Not Created Equal" (ALICE, OSDI 2014), and SQLite's own crash tests (test6.c).
Not modelled: a disk that says "synced" and lies, and bits that rot. Exit code: 0 when every image was right, 1 for a
violation, 2 when it could not run, 3 where strace is missing or not allowed.
"""

import argparse
import bisect
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
for folder in (str(ROOT), str(HERE)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

from checks_events import TOLD  # noqa: E402
from power_loss_bot import JOURNAL, MUTANTS, THREADS, PowerError  # noqa: E402
from power_loss_disk import MODES, Disk  # noqa: E402
from power_loss_trace import CALLS, Event, Trace  # noqa: E402

LIVES = {"trading": ("stops", "killed", "stops"), "migration": ("version 1", "stops"), "again": ("stops",)}
OPENINGS = ("opening", "repairing", "version 1")  # phases in which the journal is being opened
AGAIN = 3  # recordings that start from a crash image


class Recording:
    """The lives of one bot, as events; what it started from, and the log that it left."""

    def __init__(self, folder, name):
        self.folder, self.name, self.lives = folder / name, name, LIVES[name.partition("-")[0]]
        start = self.folder / "start"
        self.start = {path.name: path.read_bytes() for path in start.glob(JOURNAL + "*")} if start.exists() else {}
        self.start_acks = (
            [tuple(ack) for ack in json.loads((start / "acks.json").read_text())] if start.exists() else []
        )
        self.events, names = [], set(self.start)
        for life, how in enumerate(self.lives):
            self.events.append(Event("life", facts=(life, how)))
            Trace(self.folder / f"trace-{life}", self.folder, names, self.events)
        disk = self.disk()
        for position, event in enumerate(self.events):
            disk.step(position, event)
        for file, content in disk.visible().items():
            actual = (self.folder / "journal" / file).read_bytes()
            if actual != content:
                raise PowerError(f"trace: it explains {len(content)} bytes of {file}, there are {len(actual)} others")
        self.log, *_ = contents(self.copy())

    def disk(self):
        """The disk before the first event."""
        return Disk(self.start, self.start_acks)

    def copy(self):
        """The journal's files as the last life left them, elsewhere: reading them changes them."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for path in (self.folder / "journal").glob(JOURNAL + "*"):
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, folder / path.name)
        return folder

    def phases(self):
        """For each position, what a cut right after it hits."""
        found, life, how, ready, backfilled = [], 0, "", False, False
        opening = "repairing" if self.start else "opening, life {}"
        for event in self.events:
            if event.kind == "life":
                (life, how), ready, backfilled = event.facts, False, False
            elif event.kind == "ack":
                ready = True
            if not ready:
                found.append("version 1 made" if how == "version 1" else opening.format(life))
                continue
            if event.kind in ("write", "truncate", "sync") and event.name == JOURNAL:
                backfilled = True
            elif event.kind == "write" and event.offset == 0:
                backfilled = False
                found.append("log started again")
                continue
            found.append("checkpoint" if backfilled and event.name == JOURNAL else "trading")
        return found


def record(folder, name, orders, seed, mutant=None, start=None):
    """
    Let a bot live under strace.

    Args:
        orders: In all lives together, about.
        start: Files and acknowledged barriers of a crash image, for a recording that begins with one.
    """
    own = folder / name
    own.mkdir(parents=True)
    lives, number = LIVES[name.partition("-")[0]], int(name.partition("-")[2] or 0)
    if start is not None:
        files, acks = start
        for place in ("journal", "start"):
            (own / place).mkdir(mode=0o700)
            for file, content in files.items():
                (own / place / file).write_bytes(content)
        (own / "start" / "acks.json").write_text(json.dumps(acks))
        shutil.copyfile(folder / "trading" / "venue.pickle", own / "venue.pickle")
    for life, how in enumerate(lives):
        share = max(THREADS, orders // max(1, sum(how != "version 1" for how in lives)))
        plan = {
            "recording": name, "life": 10 * number + life, "how": how, "orders": share, "seed": seed, "break": mutant,
            "kill_after": max(3, share),
        }  # fmt: skip
        command = ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-e", "signal=none"]
        command += ["--seccomp-bpf", "-o", str(own / f"trace-{life}")]
        command += [sys.executable, str(HERE / "power_loss_bot.py"), str(own), json.dumps(plan)]
        with (own / f"bot-{life}.log").open("wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
            done = subprocess.run(command, stdout=log, stderr=log, env=environment, timeout=300, check=False)
        killed = done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if killed != (how == "killed") or (done.returncode and not killed):
            text = (own / f"bot-{life}.log").read_text(errors="replace")[-1500:]
            raise PowerError(f"recording {name}: life {life} ended with code {done.returncode}:\n{text}")
    return Recording(folder, name)


def crash_image(recording, seed, number):
    """An image to begin a recording with: files and acknowledged barriers. Not one of an opening."""
    rng = random.Random(f"{seed}/again/{number}")
    cut = rng.choice([at for at, phase in enumerate(recording.phases()) if not phase.startswith("opening")])
    disk = recording.disk()
    for position, event in enumerate(recording.events[: cut + 1]):
        disk.step(position, event)
    return disk.image(rng.choice(("nothing", "some", "torn", "garbage")), rng), disk.acks


def contents(folder):
    """
    Log, rows by transaction, integrity and ids of events of a journal, by plain sqlite3; nothing where no table was made
    yet, and no ids where there is no table of events.
    """
    connection = sqlite3.connect(folder / JOURNAL)
    try:
        sound = connection.execute("PRAGMA integrity_check").fetchall()
        if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'txn_log'").fetchone()[0]:
            return [], {}, sound, None
        log = connection.execute(
            "SELECT seq, txn_id, version, state, attempt, cause FROM txn_log ORDER BY seq"
        ).fetchall()
        rows = {row[0]: row[1:] for row in connection.execute("SELECT txn_id, version, state FROM txn")}
        told = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'event'").fetchone()[0]
        events = {row[0] for row in connection.execute("SELECT event_id FROM event")} if told else None
        return log, rows, sound, events
    finally:
        connection.close()


def judge(files, acks, log, work):
    """What is wrong with an image: a list of texts. `log` is everything that was ever written."""
    problems, found = [], {}
    for who in ("sqlite3", "SQLiteJournal"):
        folder = work / who
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        try:
            if who == "SQLiteJournal":
                use(folder)
            found[who] = contents(folder)
        except Exception as error:  # whatever it is, this image does not open
            problems.append(f"{who} does not open it: {type(error).__name__}: {error}")
    for who, (entries, rows, sound, events) in found.items():
        if sound != [("ok",)]:
            problems.append(f"{who}: integrity_check says {sound[:3]}")
        if entries != log[: len(entries)]:
            first = next((i for i, (a, b) in enumerate(zip(entries, log)) if a != b), len(log))  # noqa: B905
            problems.append(f"{who}: the log is no prefix: entry {first} of {len(entries)} is {entries[first]}")
        last = {entry[1]: (entry[2], entry[3]) for entry in entries}
        if last != rows:
            odd = [txn for txn in set(last) | set(rows) if last.get(txn) != rows.get(txn)]
            problems.append(f"{who}: rows and log differ: {[(txn, rows.get(txn), last.get(txn)) for txn in odd[:3]]}")
        versions = {f"{entry[1]}:{entry[2]}": entry[5] for entry in entries}
        if events is not None:
            silent = [
                event for event, cause in versions.items() if cause.partition(" ")[0] in TOLD and event not in events
            ]
            if silent or not events <= set(versions):
                problems.append(
                    f"{who}: versions without their events {silent[:3]}, events of nothing {events - set(versions)}"
                )
        for what, txn, value in acks:
            row = rows.get(txn)
            if what == "row" and (row is None or row[0] < int(value)):
                problems.append(
                    f"{who}: barrier lost: transaction {txn} version {value} was acknowledged, there is {row}"
                )
            elif what == "told" and (row is None or row[1] != value):
                problems.append(f"{who}: promise lost: the caller was told {value} of {txn}, there is {row}")
    return problems


def use(folder):
    """Open an image as the pipeline does, read it, write to it and close it."""
    from hireliab.exchange.sqlite_journal import SQLiteJournal

    journal = SQLiteJournal(folder)
    journal.open()
    try:
        journal.unfinished()
        journal.note_fact("power", "back")
        journal.get("none")  # waits until the write is on disk
        if journal.fact("power") != "back":
            raise PowerError("what was written after the power came back cannot be read")
    finally:
        journal.close()


def plan(recording, images, seed):
    """
    Which cut and which mode each image has: every position before any position twice, and those of an opening first.
    They are few, each is different, and what the first open leaves half done meets nobody but the second.
    """
    rng = random.Random(f"{seed}/{recording.name}/images")
    opening = [phase.startswith(OPENINGS) for phase in recording.phases()]
    positions = []
    while len(positions) < images:
        fresh = list(range(len(recording.events)))
        rng.shuffle(fresh)
        positions += sorted(fresh, key=lambda position: not opening[position])
    return [
        (number, cut, *rng.choices(list(MODES), list(MODES.values()))) for number, cut in enumerate(positions[:images])
    ]


def examine(recording, images, seed, *, only=None, stop_after=None, say=lambda text: None):
    """
    Make and judge the images of a recording.

    Returns:
        Counters of images by phase, by mode and by cut, and a list of (number, cut, mode, problem).
    """
    wanted = [entry for entry in plan(recording, images, seed) if only is None or entry[0] == only]
    wanted.sort(key=lambda entry: entry[1])
    cuts = [entry[1] for entry in wanted]
    phases, by_phase, by_mode, by_cut, problems = recording.phases(), Counter(), Counter(), Counter(), []
    shm = Path("/dev/shm")
    work = Path(tempfile.mkdtemp(prefix="hireliab-power-", dir=shm if os.access(shm, os.W_OK) else None))
    disk, made = recording.disk(), 0
    try:
        for position, event in enumerate(recording.events):
            disk.step(position, event)
            for number, cut, mode in wanted[bisect.bisect_left(cuts, position) : bisect.bisect_right(cuts, position)]:
                files = disk.image(mode, random.Random(f"{seed}/{recording.name}/image/{number}"))
                by_phase[phases[cut]] += 1
                by_mode[mode] += 1
                by_cut[cut] += 1
                made += 1
                bad = judge(files, disk.acks, recording.log, work)
                problems += [(number, cut, mode, problem) for problem in bad]
                if bad:
                    kept = recording.folder / f"image-{number}"
                    shutil.rmtree(kept, ignore_errors=True)
                    kept.mkdir()
                    for name, content in files.items():
                        (kept / name).write_bytes(content)
                if made % 500 == 0:
                    say(f"  {recording.name}: {made} of {len(wanted)} images, {len(problems)} problems")
                if stop_after is not None and len({problem[0] for problem in problems}) >= stop_after:
                    return by_phase, by_mode, by_cut, problems
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return by_phase, by_mode, by_cut, problems


def table(recording, by_phase, by_mode, by_cut, problems):
    kinds = Counter(event.kind if event.kind != "write" else f"write {event.name}" for event in recording.events)
    bad = defaultdict(set)
    phases = recording.phases()
    for number, cut, _, _ in problems:
        bad[phases[cut]].add(number)
    text = [
        f"recording {recording.name}: {len(recording.events)} events, cut after {len(by_cut)} of them;"
        f" {len(recording.log)} entries in the log",
        "  " + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())),
        f"  {'cut during':<28}{'cuts possible':>14}{'images':>8}{'wrong':>8}",
    ]
    possible = Counter(phases)
    for phase, count in sorted(possible.items()):
        text.append(f"  {phase:<28}{count:>14}{by_phase[phase]:>8}{len(bad[phase]):>8}")
    text.append("  of what was not synced: " + ", ".join(f"{mode} {by_mode[mode]}" for mode in MODES if by_mode[mode]))
    return "\n".join(text)


def cannot_trace():
    """Why strace does not work here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install -y strace)"
    tried = subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-e", "trace=write", "-o", os.devnull, "true"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return None if tried.returncode == 0 else f"strace is not allowed here: {tried.stderr.strip()[-200:]}"


def recordings(mutant):
    """Which recordings there are; a broken journal is found out in the first."""
    from hireliab.exchange import sqlite_journal

    more = ["migration"] if len(sqlite_journal._SCHEMA) > 1 else []
    return ["trading"] if mutant else ["trading", *more, *(f"again-{number}" for number in range(1, AGAIN + 1))]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock; it is printed")
    parser.add_argument(
        "--break", dest="break_", choices=tuple(MUTANTS), default=None, help="a deliberately broken journal"
    )
    parser.add_argument(
        "--keep", metavar="DIR", default=None, help="keep all files there; else they go when all is well"
    )
    parser.add_argument("--stop-after", type=int, default=None, metavar="N", help="end after N wrong images")
    parser.add_argument("--replay", metavar="DIR", default=None, help="a kept run, instead of a new recording")
    parser.add_argument("--recording", default="trading", help="with --replay --image")
    parser.add_argument("--image", type=int, default=None, help="with --replay: only this image")
    options = parser.parse_args(arguments)
    if options.replay is None:
        reason = cannot_trace()
        if reason:
            print(f"power loss: {reason}")
            return 3
        seed = int(time.time()) % 1_000_000 if options.seed is None else options.seed
        folder = Path(options.keep or tempfile.mkdtemp(prefix="hireliab-power-run-")).resolve()
        facts = {"orders": options.orders, "images": options.images, "seed": seed, "break": options.break_}
        facts["recordings"] = recordings(options.break_)
    else:
        folder = Path(options.replay).resolve()
        facts = json.loads((folder / "run.json").read_text())
        if options.image is not None:
            facts["recordings"] = [options.recording]
    again = f"--orders {facts['orders']} --images {facts['images']} --seed {facts['seed']}"
    again += f" --break {facts['break']}" if facts["break"] else ""
    print(f"seed {facts['seed']}; once more: python tests/crash/power_loss.py {again}", flush=True)
    started, wrong, shown = time.monotonic(), 0, 0
    try:
        if options.replay is None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "run.json").write_text(json.dumps(facts))
        first = None
        for name in facts["recordings"]:
            images = facts["images"] if name == "trading" else max(1, facts["images"] // 8)
            if options.replay is not None:
                recording = Recording(folder, name)
            elif name == "trading":
                recording = first = record(folder, name, facts["orders"], facts["seed"], facts["break"])
            else:
                number = name.partition("-")[2]
                start = crash_image(first, facts["seed"], number) if number else None
                recording = record(folder, name, 2 * THREADS, facts["seed"], start=start)
            found = examine(
                recording, images, facts["seed"], only=options.image, stop_after=options.stop_after,
                say=lambda text: print(text, flush=True),
            )  # fmt: skip
            print(table(recording, *found))
            wrong += len({number for number, _, _, _ in found[3]})
            by_image = defaultdict(list)
            for number, cut, mode, problem in found[3]:
                by_image[number, cut, mode].append(problem)
            for (number, cut, mode), problems in by_image.items():
                shown += 1
                if shown > 10:
                    continue
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                print(f"VIOLATION {name} image {number} (cut after event {cut}, {mode}): {problems[0]}{more}")
                print(
                    f"  once more: python tests/crash/power_loss.py --replay {folder} --recording {name} --image {number}"
                )
    except (PowerError, subprocess.TimeoutExpired) as error:
        print(f"power loss: {error}; see {folder}")
        return 2
    print(f"wrong images: {wrong}; took {time.monotonic() - started:.0f} s; files: {folder}")
    if not wrong and options.keep is None and options.replay is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
