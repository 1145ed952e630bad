"""
Cut the power at any write of the journal's files, and see what is left.

    python tests/crash/power_loss.py --orders 240 --images 4000 --seed 7 [--keep DIR]
    python tests/crash/power_loss.py --replay DIR --image 1234            (one image of a kept run, once more)
    python tests/crash/power_loss.py --orders 60 --images 200 --seed 7 --break synchronous_off

A bot trades with several threads through the real pipeline and the real SQLiteJournal against an exchange in its own
memory, in three lives: it makes the journal and stops; it is killed; it recovers and stops. Where the schema has
several versions, a second recording starts from a journal of version 1. `strace` records every system call that changes
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
import logging
import os
import pickle
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

JOURNAL = "journal.db"
CHECKPOINT = 96 * 1024  # bytes of WAL; 8 MiB would never be reached in a short run
THREADS = 6
CALLS = (
    "pwrite64,pwritev,pwritev2,write,writev,ftruncate,truncate,fallocate,fdatasync,fsync,sync_file_range,msync,mmap,"
    "openat,open,creat,link,linkat,unlink,unlinkat,rename,renameat,renameat2,copy_file_range,sendfile"
)
# What the exchange does with an order, and how often.
WORDS = {
    "fill": 12, "rest": 5, "partial": 2, "unfilled": 1, "reject": 1, "rejected_later": 1, "not_sent": 1,
    "fill_answer_lost": 3, "rest_answer_lost": 2, "request_lost": 1,
}  # fmt: skip
LIVES = {"trading": ("stops", "killed", "stops"), "migration": ("version 1", "stops")}
# How an image is made of what was not synced, with shares.
MODES = {"nothing": 3, "everything": 1, "some": 3, "torn": 4, "garbage": 2, "names only": 1, "data only": 1}


class PowerError(Exception):
    """The stage itself could not run."""


# -- the bot ---------------------------------------------------------------------------------------------------------


def _mutant_synchronous(level):
    from hireliab.core import _sqlite

    pragmas = [(name, level if name == "synchronous" else value) for name, value in _sqlite._PRAGMAS]
    if pragmas == list(_sqlite._PRAGMAS):
        raise PowerError("mutant: _sqlite._PRAGMAS sets no synchronous")
    _sqlite._PRAGMAS = tuple(pragmas)


def _mutant_unsynced_checkpoint():
    """The WAL is copied into the file and used again before the file was synced."""
    from hireliab.core._sqlite import SQLiteFile

    checkpoint = SQLiteFile._checkpoint_when_large

    def hasty(self, connection):
        connection.execute("PRAGMA synchronous=0")
        try:
            checkpoint(self, connection)
        finally:
            connection.execute("PRAGMA synchronous=2")

    SQLiteFile._checkpoint_when_large = hasty


def _mutant_barrier_does_not_wait():
    """`write` returns before the commit."""
    from hireliab.exchange.sqlite_journal import SQLiteJournal

    write = SQLiteJournal.write

    def careless(self, record, *, cause, barrier):
        return write(self, record, cause=cause, barrier=False)

    SQLiteJournal.write = careless


MUTANTS = {
    "synchronous_off": lambda: _mutant_synchronous(0),
    "synchronous_normal": lambda: _mutant_synchronous(1),
    "unsynced_checkpoint": _mutant_unsynced_checkpoint,
    "barrier_does_not_wait": _mutant_barrier_does_not_wait,
}


class Bot:
    """One life: trades until its orders are done, or until it kills itself."""

    def __init__(self, folder, plan):
        self.folder, self.plan = folder, plan
        self.rng = random.Random(f"{plan['seed']}/{plan['recording']}/{plan['life']}")
        self.acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.lock = threading.Lock()  # guards numbers and acknowledged
        self.numbers = iter(range(plan["orders"]))
        self.acknowledged = 0

    def acknowledge(self, *words):
        """Say that something is durable; the trace shows when."""
        os.write(self.acks, (" ".join(map(str, words)) + "\n").encode())
        if self.plan["how"] == "killed":
            with self.lock:
                self.acknowledged += 1
                over = self.acknowledged == self.plan["kill_after"]
            if over:
                threading.Thread(target=self.die, daemon=True).start()

    def die(self):
        time.sleep(self.rng.uniform(0, 0.004))
        os.kill(os.getpid(), signal.SIGKILL)

    def venue(self):
        """The exchange in memory; what it accepted outlives the bot in a file."""
        from hireliab.core.clock import SystemClock
        from hireliab.testing import ScriptedExchange

        book = self.folder / "venue.pickle"

        class Venue(ScriptedExchange):
            def _accept(self, order, action):
                state = super()._accept(order, action)
                with self._lock, book.open("ab") as file:
                    pickle.dump((state.order_id, self.orders[state.order_id]), file)
                return state

        exchange = Venue(clock=SystemClock(), late_arrival_bound=0.3)
        if book.exists():
            with book.open("rb") as file:
                while True:
                    try:
                        order_id, state = pickle.load(file)
                    except (EOFError, pickle.UnpicklingError):
                        break
                    exchange.orders[order_id] = state
        exchange._next += 1_000_000 * self.plan["life"]
        exchange.script.extend(self.rng.choices(list(WORDS), list(WORDS.values()), k=2 * self.plan["orders"]))
        return exchange

    def watch_barriers(self):
        """Acknowledge every barrier as the journal's caller sees it."""
        from hireliab.exchange.sqlite_journal import SQLiteJournal

        write = SQLiteJournal.write

        def told(journal, record, *, cause, barrier):
            write(journal, record, cause=cause, barrier=barrier)
            if barrier:
                self.acknowledge("row", record.txn_id, record.version)

        SQLiteJournal.write = told

    def live(self):
        from hireliab.core import _sqlite
        from hireliab.exchange.transaction_verification import TransactionVerificationPipeline

        if not isinstance(getattr(_sqlite, "CHECKPOINT_BYTES", None), int):
            raise PowerError("hireliab.core._sqlite.CHECKPOINT_BYTES is gone: this stage cannot reach a checkpoint")
        _sqlite.CHECKPOINT_BYTES = CHECKPOINT
        if self.plan["break"]:
            MUTANTS[self.plan["break"]]()
        if self.plan["how"] == "version 1":
            self.make_old()
            return
        self.watch_barriers()
        self.pipeline = TransactionVerificationPipeline(
            exchange_adapter=self.venue(),
            journal=self.folder / "journal",
            name="power",
            verification_timeout=1.0,
            visibility_window=0.1,
            listing_interval=0.05,
            watch_interval=0.2,
        )
        self.pipeline.start()
        threads = [threading.Thread(target=self.trade, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.pipeline.stop()

    def make_old(self):
        """A journal as the first version of the schema made it."""
        from hireliab.core._sqlite import SQLiteFile
        from hireliab.exchange import sqlite_journal

        folder = self.folder / "journal"
        folder.mkdir(mode=0o700)
        schema, mark = sqlite_journal._SCHEMA[:1], sqlite_journal.APPLICATION_ID
        file = SQLiteFile(folder / JOURNAL, what="journal-old", application_id=mark, schema=schema)
        file.open()
        file.write(lambda db: db.execute("INSERT INTO meta VALUES ('watermark', '7')") and None)
        file.close()

    def trade(self):
        from hireliab.errors import HireliabError

        while True:
            with self.lock:
                i = next(self.numbers, None)
                side, resting = self.rng.choice(("buy", "sell")), self.rng.random() < 0.3
            if i is None:
                return
            # A symbol for each thread and life: an order that stays unknown gates nobody else.
            symbol = f"C{self.plan['life']}{threading.get_ident() % 97}/USDT"
            wanted = {"symbol": symbol, "amount": f"{1 + i}.5", "type": f"market_{side}"}
            if resting:
                wanted.update(type=f"limit_{side}", price="100")
            key = f"{self.plan['recording']}-{self.plan['life']}-{i}"
            try:
                transaction = self.pipeline.create_transaction(**wanted, idempotency_key=key)
                result = self.pipeline.execute(transaction)
            except HireliabError as error:
                print(f"order {i}: {type(error).__name__}: {error}", flush=True)
                continue
            if result.durable and result.verdict.value in ("COMPLETED", "PARTIAL"):
                self.acknowledge("told", transaction.id, "COMPLETED")
            if result.order_status == "Active" and i % 2:
                self.pipeline.cancel(transaction.id)


def bot(folder, plan):
    logging.basicConfig(level=logging.ERROR)
    try:
        Bot(folder, plan).live()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


# -- the trace -------------------------------------------------------------------------------------------------------


@dataclass
class Event:
    """One step of the recording. Kinds: write, truncate, sync, sync folder, create, unlink, rename, ack, life."""

    kind: str
    name: str = ""  # the file, without its folder
    offset: int = 0
    data: bytes = b""
    length: int = 0  # truncate: the new one
    since: int = 0  # sync: position in the list of events at which it began
    other: str = ""  # rename: the new name
    facts: tuple = ()


STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
DESCRIPTOR = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>")
UNTOUCHED = ("pwritev", "writev", "truncate", "fallocate", "sync_file_range", "msync", "link", "copy_file_range", "sendfile")


def decode(text):
    return bytes.fromhex(text.replace("\\x", ""))


class Trace:
    """Reads what strace wrote of one life into events."""

    def __init__(self, path, folder, names, events):
        self.folder, self.names, self.events = str(folder / "journal"), names, events
        self.acks = str(folder / "acks")
        self.actual = folder / "journal"
        began = {}  # thread -> what it has begun, and where
        with path.open(encoding="ascii", errors="replace") as file:
            for line in file:
                thread, _, call = line.rstrip("\n").partition(" ")
                call = call.lstrip()
                if call.endswith("<unfinished ...>"):
                    text = call[: -len("<unfinished ...>")].rstrip()
                    began[thread] = (text, len(events))
                    self.enter(text)
                    continue
                if call.startswith("<..."):
                    text, at = began.pop(thread, ("", 0))
                    text += " " + call.partition("resumed>")[2].strip()
                    entered = True
                else:
                    text, at, entered = call, len(events), False
                head, found, result = text.rpartition(" = ")
                if not found or "(" not in head:
                    continue
                self.leave(head, result, at, entered=entered)
        for text, _ in began.values():  # cut off by the end of the process: the file tells whether it happened
            self.unfinished(text)

    def mine(self, path):
        """The file's name when it is one of the journal's, else None."""
        folder, _, name = path.rpartition("/")
        return name if folder == self.folder and name.startswith(JOURNAL) and not name.endswith("-shm") else None

    @staticmethod
    def split(text):
        name, _, rest = text.partition("(")
        descriptor = DESCRIPTOR.match(rest)
        path = decode(descriptor[2]).decode() if descriptor else ""
        return name, rest, path

    def enter(self, text):
        """A call that was split: what it wrote may be there from here on."""
        name, rest, path = self.split(text)
        if name == "write" and path == self.acks:
            self.ack(rest)

    def ack(self, rest):
        for line in decode(STRING.search(rest)[1]).decode().splitlines():
            self.events.append(Event("ack", facts=tuple(line.split())))

    def leave(self, head, result, at, *, entered):
        name, rest, path = self.split(head)
        if name == "write" and path == self.acks:
            if not entered:
                self.ack(rest)
            return
        if result.startswith(("-1", "?")):
            return
        file = self.mine(path)
        if name == "pwrite64" and file:
            self.write(file, rest, int(result.split()[0]))
        elif name in ("fdatasync", "fsync"):
            if file:
                self.events.append(Event("sync", file, since=at))
            elif path == self.folder:
                self.events.append(Event("sync folder", since=at))
        elif name == "ftruncate" and file:
            self.events.append(Event("truncate", file, length=int(rest.rpartition(",")[2].strip(" )"))))
        elif name in ("openat", "open", "creat"):
            self.open(name, rest)
        elif name in ("unlink", "unlinkat"):
            file = self.mine(decode(STRING.search(rest)[1]).decode())
            if file:
                self.names.discard(file)
                self.events.append(Event("unlink", file))
        elif name.startswith("rename"):
            old, new = (self.mine(decode(found[0]).decode()) for found in STRING.findall(rest)[:2])
            if old and new:
                self.names.discard(old)
                self.names.add(new)
                self.events.append(Event("rename", old, other=new))
            elif old or new:
                raise PowerError(f"trace: {name} moves a file of the journal in or out of its folder")
        elif file and (name in ("write", *UNTOUCHED) or (name == "mmap" and "PROT_WRITE" in rest and "MAP_SHARED" in rest)):
            raise PowerError(f"trace: {name} on {file} is not understood")

    def write(self, file, rest, count):
        found = STRING.search(rest)
        if found[2]:
            raise PowerError("trace: a write was cut short by strace")
        size, offset = (int(part) for part in rest[found.end() :].strip(" ,)").split(", "))
        data = decode(found[1])
        if len(data) != size:
            raise PowerError(f"trace: {len(data)} bytes of {size} of a write to {file}")
        self.events.append(Event("write", file, offset=offset, data=data[:count]))

    def open(self, name, rest):
        given = STRING.search(rest)
        file = self.mine(decode(given[1]).decode()) if given else None
        if file is None:
            return
        flags = rest[given.end() :]
        if file not in self.names and ("O_CREAT" in flags or name == "creat"):
            self.names.add(file)
            self.events.append(Event("create", file))
        elif "O_TRUNC" in flags or name == "creat":
            self.events.append(Event("truncate", file, length=0))

    def unfinished(self, text):
        name, rest, path = self.split(text)
        file = self.mine(path)
        if file is None or name in ("fdatasync", "fsync", "openat"):
            return
        if name != "pwrite64":
            raise PowerError(f"trace: the end of the process cut {name} on {file} off")
        found = STRING.search(rest)
        data, offset = decode(found[1]), int(rest.rpartition(",")[2].strip(" )"))
        there = self.actual / file
        if there.exists():
            there = there.read_bytes()[offset : offset + len(data)]
            if there == data:
                self.events.append(Event("write", file, offset=offset, data=data))


# -- the disk --------------------------------------------------------------------------------------------------------


@dataclass
class Inode:
    """A file's bytes on the platter, and the changes that are still on their way, each with its event's position."""

    platter: bytearray = field(default_factory=bytearray)
    pending: list = field(default_factory=list)


def change(content, event, data=None):
    """Apply a write or a truncation."""
    if event.kind == "truncate":
        del content[event.length :]
        content.extend(bytes(event.length - len(content)))
        return
    data = event.data if data is None else data
    if len(content) < event.offset:
        content.extend(bytes(event.offset - len(content)))
    content[event.offset : event.offset + len(data)] = data


class Disk:
    """The files as an honest disk and a POSIX file system may keep them."""

    def __init__(self):
        self.names, self.now = {}, {}  # durable, and as programs see them: name -> Inode
        self.pending = []  # changes of names: position, event, inode
        self.acks = []  # (position, facts)

    def step(self, position, event):
        kind = event.kind
        if kind in ("write", "truncate"):
            self.now[event.name].pending.append((position, event))
        elif kind == "sync":
            inode = self.now[event.name]
            done = [change_ for change_ in inode.pending if change_[0] < event.since]
            inode.pending = [change_ for change_ in inode.pending if change_[0] >= event.since]
            for _, change_ in done:
                change(inode.platter, change_)
        elif kind == "sync folder":
            done = [entry for entry in self.pending if entry[0] < event.since]
            self.pending = [entry for entry in self.pending if entry[0] >= event.since]
            for _, change_, inode in done:
                self.rename(self.names, change_, inode)
        elif kind in ("create", "unlink", "rename"):
            inode = Inode() if kind == "create" else self.now[event.name]
            self.rename(self.now, event, inode)
            self.pending.append((position, event, inode))
        elif kind == "ack":
            self.acks.append(event.facts)

    @staticmethod
    def rename(names, event, inode):
        if event.kind == "create":
            names[event.name] = inode
        elif event.kind == "unlink":
            if names.get(event.name) is inode:
                del names[event.name]
        else:
            names.pop(event.name, None)
            names[event.other] = inode

    def visible(self):
        """The files as programs see them: what a kill without a power loss leaves."""
        return {name: self.content(inode, lambda event: event.data) for name, inode in self.now.items()}

    @staticmethod
    def content(inode, choose):
        content = bytearray(inode.platter)
        for _, event in inode.pending:
            if event.kind == "truncate":
                if choose(event) is not None:
                    change(content, event)
            else:
                data = choose(event)
                if data is not None:
                    change(content, event, data if isinstance(data, bytes) else data(content, event))
        return bytes(content)

    def image(self, mode, rng):
        """The files after a power cut now, by name."""
        share = {"nothing": 0.0, "everything": 1.0, "names only": 0.0, "data only": 1.0}.get(mode)
        if share is None:
            share = rng.choice((0.1, 0.5, 0.9))
        for_names = {"names only": 1.0, "data only": 0.0}.get(mode, share)
        names = dict(self.names)
        for _, event, inode in self.pending:
            if rng.random() < for_names:
                self.rename(names, event, inode)

        def choose(event):
            if rng.random() >= share:
                return None
            if event.kind == "truncate" or mode not in ("torn", "garbage") or rng.random() < 0.4:
                return event.data
            return lambda content, event: tear(content, event, rng, garbage=mode == "garbage")

        return {name: self.content(inode, choose) for name, inode in names.items()}


def tear(content, event, rng, *, garbage):
    """A write of which only some sectors reached the disk."""
    sector = rng.choice((512, 4096))
    old = bytes(content[event.offset : event.offset + len(event.data)])
    old += bytes(len(event.data) - len(old))  # beyond the old end: zeros, as after a write of the length alone
    prefix_only, stop = rng.random() < 0.5, rng.random()
    parts, start = [], 0
    while start < len(event.data):
        end = min(len(event.data), (event.offset + start) // sector * sector + sector - event.offset)
        kept = start < stop * len(event.data) if prefix_only else rng.random() < 0.5
        if kept:
            parts.append(event.data[start:end])
        elif garbage and rng.random() < 0.5:
            parts.append(rng.randbytes(end - start))
        else:
            parts.append(old[start:end])
        start = end
    return b"".join(parts)


# -- the images ------------------------------------------------------------------------------------------------------


class Recording:
    """The lives of one bot, as events; and the log that it left."""

    def __init__(self, folder, name):
        self.folder, self.name = folder / name, name
        self.events, names, self.faults = [], set(), []
        for life, how in enumerate(LIVES[name]):
            self.events.append(Event("life", facts=(life, how)))
            Trace(self.folder / f"trace-{life}", self.folder, names, self.events)
            if life + 1 < len(LIVES[name]):
                continue
            disk = Disk()
            for position, event in enumerate(self.events):
                disk.step(position, event)
            for file, content in disk.visible().items():
                actual = (self.folder / "journal" / file).read_bytes()
                if actual != content:
                    raise PowerError(f"trace: it explains {len(content)} bytes of {file}, there are {len(actual)} others")
        self.log, _, _ = contents(self.copy())

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
        for event in self.events:
            if event.kind == "life":
                (life, how), ready, backfilled = event.facts, False, False
            elif event.kind == "ack":
                ready = True
            if not ready:
                found.append("version 1 made" if how == "version 1" else f"opening, life {life}")
                continue
            if event.kind in ("write", "truncate", "sync") and event.name == JOURNAL:
                backfilled = True
            elif event.kind == "write" and event.offset == 0:
                backfilled = False
                found.append("log started again")
                continue
            found.append("checkpoint" if backfilled and event.name == JOURNAL else "trading")
        return found


def record(folder, name, orders, seed, mutant=None):
    """Let a bot live under strace."""
    own = folder / name
    own.mkdir(parents=True)
    lives = LIVES[name]
    for life, how in enumerate(lives):
        share = max(THREADS, orders // max(1, sum(how != "version 1" for how in lives)))
        plan = {
            "recording": name, "life": life, "how": how, "orders": share, "seed": seed, "break": mutant,
            "kill_after": max(3, share),
        }  # fmt: skip
        command = ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-e", "signal=none"]
        command += ["--seccomp-bpf", "-o", str(own / f"trace-{life}")]
        command += [sys.executable, str(HERE / "power_loss.py"), "--bot", str(own), json.dumps(plan)]
        with (own / f"bot-{life}.log").open("wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
            done = subprocess.run(command, stdout=log, stderr=log, env=environment, timeout=300, check=False)
        killed = done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if killed != (how == "killed") or (done.returncode and not killed):
            text = (own / f"bot-{life}.log").read_text(errors="replace")[-1500:]
            raise PowerError(f"recording {name}: life {life} ended with code {done.returncode}:\n{text}")
    return Recording(folder, name)


def contents(folder):
    """Log, rows by transaction and integrity of a journal, by plain sqlite3; nothing where no table was made yet."""
    connection = sqlite3.connect(folder / JOURNAL)
    try:
        sound = connection.execute("PRAGMA integrity_check").fetchall()
        if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'txn_log'").fetchone()[0]:
            return [], {}, sound
        log = connection.execute("SELECT seq, txn_id, version, state, attempt, cause FROM txn_log ORDER BY seq").fetchall()
        rows = {row[0]: row[1:] for row in connection.execute("SELECT txn_id, version, state FROM txn")}
        return log, rows, sound
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
    for who, (entries, rows, sound) in found.items():
        if sound != [("ok",)]:
            problems.append(f"{who}: integrity_check says {sound[:3]}")
        if entries != log[: len(entries)]:
            first = next((i for i, (a, b) in enumerate(zip(entries, log)) if a != b), len(log))  # noqa: B905
            problems.append(f"{who}: the log is no prefix: entry {first} of {len(entries)} is {entries[first]}")
        last = {entry[1]: (entry[2], entry[3]) for entry in entries}
        if last != rows:
            odd = [txn for txn in set(last) | set(rows) if last.get(txn) != rows.get(txn)]
            problems.append(f"{who}: rows and log differ: {[(txn, rows.get(txn), last.get(txn)) for txn in odd[:3]]}")
        for what, txn, value in acks:
            row = rows.get(txn)
            if what == "row" and (row is None or row[0] < int(value)):
                problems.append(f"{who}: barrier lost: transaction {txn} version {value} was acknowledged, there is {row}")
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
    """Which cut and which mode each image has: every position before any position twice."""
    rng = random.Random(f"{seed}/{recording.name}/images")
    positions = []
    while len(positions) < images:
        fresh = list(range(len(recording.events)))
        rng.shuffle(fresh)
        positions += fresh
    return [(number, cut, *rng.choices(list(MODES), list(MODES.values()))) for number, cut in enumerate(positions[:images])]


def examine(recording, images, seed, *, only=None, stop_after=None, say=lambda text: None):
    """
    Make and judge the images of a recording.

    Returns:
        Counters of images by phase and by mode, and a list of (number, cut, mode, problem).
    """
    wanted = [entry for entry in plan(recording, images, seed) if only is None or entry[0] == only]
    wanted.sort(key=lambda entry: entry[1])
    cuts = [entry[1] for entry in wanted]
    phases, by_phase, by_mode, problems = recording.phases(), Counter(), Counter(), []
    shm = Path("/dev/shm")
    work = Path(tempfile.mkdtemp(prefix="hireliab-power-", dir=shm if os.access(shm, os.W_OK) else None))
    disk, made = Disk(), 0
    try:
        for position, event in enumerate(recording.events):
            disk.step(position, event)
            for number, cut, mode in wanted[bisect.bisect_left(cuts, position) : bisect.bisect_right(cuts, position)]:
                files = disk.image(mode, random.Random(f"{seed}/{recording.name}/image/{number}"))
                by_phase[phases[cut]] += 1
                by_mode[mode] += 1
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
                    return by_phase, by_mode, problems
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return by_phase, by_mode, problems


def table(recording, by_phase, by_mode, problems):
    kinds = Counter(event.kind if event.kind != "write" else f"write {event.name}" for event in recording.events)
    bad = defaultdict(set)
    phases = recording.phases()
    for number, cut, _, _ in problems:
        bad[phases[cut]].add(number)
    text = [
        f"recording {recording.name}: {len(recording.events)} events, {len(recording.log)} entries in the log",
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


def recordings():
    """Which recordings there are: the second needs a schema with a history."""
    from hireliab.exchange import sqlite_journal

    return ["trading", "migration"] if len(sqlite_journal._SCHEMA) > 1 else ["trading"]


def main(arguments=None):
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--bot"]:
        bot(Path(given[1]), json.loads(given[2]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--orders", type=int, default=240)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock; it is printed")
    parser.add_argument("--break", dest="break_", choices=tuple(MUTANTS), default=None, help="a deliberately broken journal")
    parser.add_argument("--keep", metavar="DIR", default=None, help="keep all files there; else they go when all is well")
    parser.add_argument("--stop-after", type=int, default=None, metavar="N", help="end after N wrong images")
    parser.add_argument("--replay", metavar="DIR", default=None, help="a kept run, instead of a new recording")
    parser.add_argument("--recording", default="trading", choices=tuple(LIVES), help="with --replay --image")
    parser.add_argument("--image", type=int, default=None, help="with --replay: only this image")
    options = parser.parse_args(given)
    if options.replay is None:
        reason = cannot_trace()
        if reason:
            print(f"power loss: {reason}")
            return 3
        seed = int(time.time()) % 1_000_000 if options.seed is None else options.seed
        folder = Path(options.keep or tempfile.mkdtemp(prefix="hireliab-power-run-")).resolve()
        facts = {"orders": options.orders, "images": options.images, "seed": seed, "break": options.break_}
        facts["recordings"] = recordings()
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
        for name in facts["recordings"]:
            images = facts["images"] if name == "trading" else max(1, facts["images"] // 5)
            if options.replay is None:
                orders = facts["orders"] if name == "trading" else 2 * THREADS
                recording = record(folder, name, orders, facts["seed"], facts["break"])
            else:
                recording = Recording(folder, name)
            found = examine(
                recording, images, facts["seed"], only=options.image, stop_after=options.stop_after,
                say=lambda text: print(text, flush=True),
            )  # fmt: skip
            print(table(recording, *found))
            wrong += len({number for number, _, _, _ in found[2]})
            by_image = defaultdict(list)
            for number, cut, mode, problem in found[2]:
                by_image[number, cut, mode].append(problem)
            for (number, cut, mode), problems in by_image.items():
                shown += 1
                if shown > 10:
                    continue
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                print(f"VIOLATION {name} image {number} (cut after event {cut}, {mode}): {problems[0]}{more}")
                print(f"  once more: python tests/crash/power_loss.py --replay {folder} --recording {name} --image {number}")
    except (PowerError, subprocess.TimeoutExpired) as error:
        print(f"power loss: {error}; see {folder}")
        return 2
    print(f"wrong images: {wrong}; took {time.monotonic() - started:.0f} s; files: {folder}")
    if not wrong and options.keep is None and options.replay is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
