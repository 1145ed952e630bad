"""The journal on real disks: full ones, failed ones, ones that may not be written, and after kill -9."""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from decimal import Decimal
from pathlib import Path

import pytest

from hireliab.core import _sqlite
from hireliab.errors import JournalCorruptError, JournalError, JournalPoisonedError
from hireliab.exchange.adapter import Order
from hireliab.exchange.sqlite_journal import SQLiteJournal, open_reader
from hireliab.exchange.transaction import Record, State

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts, strace and /proc are Linux's")

ORDER = Order(symbol="BTC/IRT", side="buy", type="limit", amount=Decimal("0.001"), price=Decimal(5))


def record(txn_id, **changes):
    order = dataclasses.replace(ORDER, client_order_id=f"abcde-{txn_id}")
    base = Record(txn_id=txn_id, order=order, state=State.SUBMITTING, version=1, created=1.5, updated=2.5)
    return dataclasses.replace(base, **changes)


def done(txn_id):
    return record(txn_id, version=2, state=State.COMPLETED, order_status="Done")


def missing(reason):
    if os.environ.get("HIRELIAB_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def opened(folder, **settings):
    journal = SQLiteJournal(folder, **settings)
    journal.open()
    try:
        yield journal
    finally:
        journal.close()


def snapshot(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# The bot of the tests below: writes intents one after the other, says after each how it went, and goes on.
BOT = """
import sys, time
from decimal import Decimal
from hireliab.exchange.adapter import Order
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Record, State

order = Order(symbol="BTC/IRT", side="buy", type="limit", amount=Decimal("0.001"), price=Decimal(5), client_order_id="a-1")
journal = SQLiteJournal(sys.argv[1])
journal.open()
for n in range(int(sys.argv[2])):
    record = Record(txn_id=f"T{n:05}", order=order, state=State.SUBMITTING, version=1, created=1.5, updated=2.5)
    try:
        journal.write(record, cause="x" * 300, barrier=True)
    except Exception as error:
        print(n, type(error).__name__, error, flush=True)
    else:
        print(n, "durable", flush=True)
print("open", flush=True)
time.sleep(float(sys.argv[3]))
journal.close()
print("closed", flush=True)
"""


@pytest.fixture
def bot(tmp_path):
    """Start the bot; its output is read line by line."""
    script = tmp_path / "bot.py"
    script.write_text(textwrap.dedent(BOT))
    started = []

    def start(folder, records, stay=0.0, before=(), **environment):
        process = subprocess.Popen(
            [*before, sys.executable, str(script), str(folder), str(records), str(stay)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def killed(bot, folder, records):
    """A bot that wrote these and was killed; what it said was durable."""
    process = bot(folder, records, 60)
    said = []
    for line in process.stdout:
        if line == "open\n":
            break
        said.append(line.split())
    process.kill()
    process.wait(30)
    return [int(number) for number, word, *_ in said if word == "durable"]


# -- a full disk --------------------------------------------------------------------------------------------------


class Disk:
    """A small disk of its own."""

    def __init__(self, path):
        self.path = path
        self.folder = path / "journal"

    def fill(self):
        with contextlib.suppress(OSError), (self.path / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def clear(self):
        (self.path / "filler").unlink()

    def free(self):
        return shutil.disk_usage(self.path).free


@pytest.fixture
def disk(tmp_path, monkeypatch):
    monkeypatch.setattr(_sqlite, "_SPACE_CHECK", 0.0)
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        missing(f"mount is not allowed here: {mounted.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


def until_full(journal):
    """Write what begins nothing until the disk is full and the ballast is gone."""
    for n in range(2000):
        journal.write(record(f"N{n:05}", state=State.UNKNOWN, reason="x" * 3000), cause="y" * 3000, barrier=True)
        if journal.stats().full:
            return f"N{n:05}"
    raise AssertionError("the disk never became full")


def test_verdicts_still_fit_on_a_full_disk_while_nothing_new_is_sent(disk):
    with opened(disk.folder) as journal:
        for n in range(20):
            journal.write(record(f"T{n:02}"), cause="intent", barrier=True)
        disk.fill()
        last = until_full(journal)
        assert journal.get(last) is not None  # the record that met the full disk
        with pytest.raises(JournalError, match="disk full: nothing was sent") as refused:
            journal.write(record("new"), cause="intent", barrier=True)
        assert not isinstance(refused.value, JournalPoisonedError)
        cancel = record("T00", version=2, state=State.CANCELLING)
        with pytest.raises(JournalError, match="disk full: nothing was sent"):
            journal.write(cancel, cause="cancel intent", barrier=True)
        for n in range(20):
            journal.write(done(f"T{n:02}"), cause="verdict", barrier=True)
        assert not journal.poisoned
        assert journal.stats().full
        assert journal.get("new") is None
    with opened(disk.folder) as journal:
        assert {journal.get(f"T{n:02}").state for n in range(20)} == {State.COMPLETED}


def test_a_disk_with_space_again_takes_new_intents_and_keeps_room_again(disk):
    with opened(disk.folder) as journal:
        disk.fill()
        until_full(journal)
        assert not (disk.folder / "ballast").exists()
        disk.clear()
        assert disk.free() > 2 * 1024 * 1024
        journal.write(record("new"), cause="intent", barrier=True)
        assert not journal.stats().full
        assert (disk.folder / "ballast").stat().st_blocks * 512 >= 1024 * 1024
        disk.fill()
        journal.write(done("new"), cause="verdict", barrier=True)


def test_an_intent_that_meets_the_full_disk_itself_is_not_written(disk):
    with opened(disk.folder) as journal:
        journal.write(record("before"), cause="intent", barrier=True)
        disk.fill()
        sent, refused = [], None
        for n in range(500):
            try:
                journal.write(record(f"S{n:03}", reason="x" * 3000), cause="y" * 3000, barrier=True)
                sent.append(f"S{n:03}")
            except JournalError as error:
                refused = (f"S{n:03}", str(error))
                break
        assert refused is not None
        assert "disk full: nothing was sent" in refused[1]
        assert not journal.poisoned
    with opened(disk.folder) as journal:
        assert {r.txn_id for r in journal.select()} == {"before", *sent}


def test_a_new_journal_on_a_full_disk_is_refused_with_what_is_free_and_needed(disk):
    disk.fill()
    with pytest.raises(JournalError, match="disk full|No space left"):
        SQLiteJournal(disk.folder).open()
    disk.clear()
    with (disk.path / "filler").open("wb") as file:
        file.write(b"x" * (disk.free() - 512 * 1024))
    with pytest.raises(JournalError, match=r"disk full: \d+ bytes are free, at least 2097152 are needed"):
        SQLiteJournal(disk.folder).open()
    disk.clear()
    with opened(disk.folder) as journal:
        journal.write(record("T"), cause="intent", barrier=True)


def test_a_full_disk_at_start_is_opened_to_recover_and_sends_nothing_new(disk):
    with opened(disk.folder) as journal:
        journal.write(record("T"), cause="intent", barrier=True)
    disk.fill()
    with opened(disk.folder) as journal:
        assert [r.txn_id for r in journal.unfinished()] == ["T"]
        claim = record("T", version=2, epoch=2, owner="next")
        journal.write_many([(claim, "T27 claimed")], barrier=True)
        with pytest.raises(JournalError, match="disk full: nothing was sent"):
            for n in range(200):
                journal.write(record(f"new {n}", reason="x" * 3000), cause="intent", barrier=True)
        journal.write(dataclasses.replace(claim, version=3, state=State.FAILED), cause="verdict", barrier=True)


def test_a_full_disk_without_ballast_and_with_nothing_to_recover_is_refused(disk):
    with opened(disk.folder) as journal:
        journal.write(record("T", state=State.COMPLETED, order_status="Done"), cause="done", barrier=True)
    (disk.folder / "ballast").unlink()
    disk.fill()
    (disk.path / "filler").write_bytes(b"")  # room for the log and its index, not for the ballast
    with (disk.path / "filler").open("wb") as file:
        file.write(b"x" * (disk.free() - 700 * 1024))
    with pytest.raises(JournalError, match="disk full, and nothing to recover"):
        SQLiteJournal(disk.folder).open()
    disk.clear()
    with opened(disk.folder) as journal:
        assert journal.get("T") is not None


# -- a failed disk ------------------------------------------------------------------------------------------------


@pytest.fixture
def strace():
    """The words before a command that runs it under strace."""
    if shutil.which("strace") is None:
        missing("strace is not installed (apt-get install -y strace)")
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        missing(f"strace is not allowed here: {tried.stderr.strip()[-200:]}")
    return ["strace", "-f", "-e", "trace=fdatasync,fsync"]


@pytest.mark.slow
def test_a_failed_sync_poisons_for_good_and_what_was_durable_is_there(bot, strace, tmp_path):
    trace = tmp_path / "trace"
    inject = ["-e", "inject=fdatasync:error=EIO:when=12", "-o", str(trace)]
    process = bot(tmp_path / "j", 20, before=[*strace, *inject])
    out, err = process.communicate(timeout=60)
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    outcomes = [line[1] for line in lines if line[0].isdigit()]
    assert len(outcomes) == 20, out + err
    durable = outcomes.count("durable")
    assert 1 <= durable <= 12
    # Only one sync failed, and the disk would take the next: nothing is written all the same.
    assert outcomes == ["durable"] * durable + ["JournalPoisonedError"] * (20 - durable)
    assert "I/O error" in lines[durable][2]
    calls = trace.read_text().splitlines()
    failed = next(i for i, call in enumerate(calls) if "EIO" in call)
    assert not any("fdatasync(" in call or "fsync(" in call for call in calls[failed + 1 :]), calls[failed:]
    with opened(tmp_path / "j") as journal:
        assert {r.txn_id for r in journal.select()} >= {f"T{n:05}" for n in range(durable)}
        journal.write(record("later"), cause="intent", barrier=True)


@pytest.mark.slow
def test_a_lone_thread_pays_one_sync_for_each_barrier(bot, strace, tmp_path):
    calls = {}
    for records in (10, 60):
        trace = tmp_path / f"trace-{records}"
        bot(tmp_path / f"j{records}", records, before=[*strace, "-o", str(trace)]).communicate(timeout=60)
        calls[records] = sum("fdatasync(" in line or "fsync(" in line for line in trace.read_text().splitlines())
    assert calls[60] - calls[10] == 50


# -- a killed bot -------------------------------------------------------------------------------------------------


def test_every_barrier_of_a_killed_bot_is_there(bot, tmp_path):
    durable = killed(bot, tmp_path / "j", 30)
    assert durable == list(range(30))
    with opened(tmp_path / "j") as journal:
        assert [r.txn_id for r in journal.unfinished()] == [f"T{n:05}" for n in durable]


def make_version_1(folder):
    from hireliab.exchange import sqlite_journal

    folder.mkdir()
    file = _sqlite.SQLiteFile(
        folder / "journal.db",
        what="old",
        application_id=sqlite_journal.APPLICATION_ID,
        schema=sqlite_journal._SCHEMA[:1],
    )
    file.open()
    fill = "'99', 'T1', '11', 'BTC/IRT', 'buy', '0.001', '5', '0.0001', 2.25"
    file.write(lambda db: db.execute(f"INSERT INTO fill VALUES ({fill})") and None)
    file.close()


@pytest.mark.parametrize("hit", [1, 2])
def test_a_migration_that_was_killed_is_done_by_the_next_start(bot, tmp_path, hit):
    folder = tmp_path / "j"
    if hit == 1:
        make_version_1(folder)
    process = bot(folder, 1, HIRELIAB_KILL_AT=f"L27:{hit}")
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    with opened(folder) as journal:
        if hit == 1:
            assert [fill.trade_id for fill in journal.fills("T1")] == ["99"]
        journal.write(record("T", owner="me", epoch=2), cause="test", barrier=True)
        assert journal.get("T").owner == "me"


@pytest.mark.parametrize("label", ["L02", "L03"])
def test_an_intent_killed_around_its_commit_is_there_or_not(bot, tmp_path, label):
    process = bot(tmp_path / "j", 5, HIRELIAB_KILL_AT=f"{label}:3")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert len(out.splitlines()) == 2
    with opened(tmp_path / "j") as journal:
        assert len(journal.select()) == (2 if label == "L02" else 3)


def test_a_log_that_was_cut_or_corrupted_anywhere_opens_with_its_prefix(tmp_path):
    marks = []
    with opened(tmp_path / "j", retention_days=None) as journal:
        wal = tmp_path / "j" / "journal.db-wal"
        for n in range(25):
            journal.write(record(f"T{n:05}"), cause="x" * 300, barrier=True)
            marks.append(wal.stat().st_size)
        files = {name: (tmp_path / "j" / name).read_bytes() for name in ("journal.db", "journal.db-wal")}
    rng = random.Random(20260706)
    size = len(files["journal.db-wal"])
    offsets = [0, 1, 31, 32, 33, size - 1, size, *marks, *(mark - 1 for mark in marks), *rng.sample(range(size), 40)]
    for number, offset in enumerate(offsets):
        folder = tmp_path / f"cut{number}"
        folder.mkdir()
        log = bytearray(files["journal.db-wal"])
        if number % 2:
            log[offset : offset + 100] = bytes(byte ^ 0x5A for byte in log[offset : offset + 100])
        else:
            del log[offset:]
        (folder / "journal.db").write_bytes(files["journal.db"])
        (folder / "journal.db-wal").write_bytes(log)
        promised = sum(mark <= offset for mark in marks)
        with opened(folder) as journal:
            found = [r.txn_id for r in journal.unfinished()]
            assert found == [f"T{n:05}" for n in range(len(found))], offset
            assert len(found) >= promised, offset
            journal.write(record("next"), cause="goes on", barrier=True)
        shutil.rmtree(folder)


# -- readers of other processes -----------------------------------------------------------------------------------


def test_a_reader_beside_a_live_bot_takes_nothing_from_it(bot, tmp_path):
    process = bot(tmp_path / "j", 5, 60)
    while process.stdout.readline() != "open\n":
        pass
    names = {path.name for path in (tmp_path / "j").iterdir()}
    with open_reader(tmp_path / "j") as reader:
        assert [r.txn_id for r in reader.select()] == [f"T{n:05}" for n in (4, 3, 2, 1, 0)]
        assert len(reader.log("T00000")) == 1
        assert reader.check() == []
    assert {path.name for path in (tmp_path / "j").iterdir()} == names
    with pytest.raises(JournalError, match="owned by process"):
        SQLiteJournal(tmp_path / "j").open()


def test_a_reader_of_a_killed_bots_journal_leaves_every_byte(bot, tmp_path):
    killed(bot, tmp_path / "j", 5)
    before = snapshot(tmp_path / "j")
    assert len(before["journal.db-wal"]) > 0
    with open_reader(tmp_path / "j") as reader:
        assert len(reader.select()) == 5
    assert snapshot(tmp_path / "j") == before
    # As in a back-up that took only the file and its log.
    (tmp_path / "j" / "journal.db-shm").unlink()
    before = snapshot(tmp_path / "j")
    with open_reader(tmp_path / "j") as reader:
        assert len(reader.select()) == 5
    assert snapshot(tmp_path / "j") == before


def test_a_reader_of_a_closed_journal_leaves_every_byte(tmp_path):
    with opened(tmp_path / "j") as journal:
        journal.write(record("T"), cause="test", barrier=True)
    before = snapshot(tmp_path / "j")
    assert not {"journal.db-wal", "journal.db-shm"} & set(before)
    with open_reader(tmp_path / "j") as reader:
        assert reader.get("T") == record("T")
    assert snapshot(tmp_path / "j") == before


def test_a_reader_sees_what_a_bot_writes_that_started_later(bot, tmp_path):
    with opened(tmp_path / "j"):
        pass
    with open_reader(tmp_path / "j") as reader:
        assert reader.select() == []
        process = bot(tmp_path / "j", 3, 60)
        while process.stdout.readline() != "open\n":
            pass
        assert len(reader.select()) == 3
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert len(reader.select()) == 3


# -- folders that cannot be used ----------------------------------------------------------------------------------

UNPRIVILEGED = """
import json, os, sys
import filelock
from hireliab.errors import HireliabError
from hireliab.exchange.sqlite_journal import SQLiteJournal
if os.getuid() == 0:  # root may write everywhere
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    journal = SQLiteJournal(sys.argv[1])
    journal.open()
except HireliabError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.mark.parametrize("what", ["folder", "parent", "file"])
def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path, what):
    parent = Path(os.path.realpath(tmp_path)) / "p"
    folder = parent / "j"
    folder.mkdir(parents=True)
    if what == "parent":
        folder.rmdir()
    if what == "file":
        folder.rmdir()
        folder.write_text("a file")
    for path in (folder, parent):
        if path.is_dir():
            path.chmod(0o555)
    for above in parent.parents:
        if above.stat().st_uid == os.getuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)
    found = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(folder)], capture_output=True, text=True, timeout=60, check=False,
        cwd="/", env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    parent.chmod(0o755)
    if what == "folder":
        folder.chmod(0o755)
    assert found.stdout, found.stderr
    name, words = json.loads(found.stdout)
    assert name == "JournalError"
    assert str(folder) in words


def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    from hireliab.core import _sqlite_disk

    mounts = f"/dev/vda / ext4 rw 0 0\nserver:/x {os.path.realpath(tmp_path)} nfs4 rw 0 0\n"
    monkeypatch.setattr(_sqlite_disk.Path, "read_text", lambda *_, **__: mounts)
    with pytest.raises(JournalError, match="network file system .nfs4."):
        SQLiteJournal(tmp_path / "j").open()
    monkeypatch.undo()
    with opened(tmp_path / "j") as journal:
        journal.write(record("T"), cause="test", barrier=True)


def test_a_damaged_journal_is_refused_and_can_be_read_by_hand(tmp_path):
    with opened(tmp_path / "j") as journal:
        for n in range(200):
            journal.write(record(f"T{n:05}"), cause="x" * 300, barrier=n == 199)
    path = tmp_path / "j" / "journal.db"
    content = bytearray(path.read_bytes())
    for page in range(4, len(content) // 4096, 7):
        content[page * 4096 : page * 4096 + 500] = b"\xff" * 500
    path.write_bytes(content)
    with pytest.raises(JournalCorruptError, match="damaged"):
        SQLiteJournal(tmp_path / "j").open()
    assert path.read_bytes() == content
    with contextlib.suppress(JournalError), open_reader(tmp_path / "j") as reader:
        assert reader.check() != []


def test_a_closed_journal_leaves_no_log_and_opens_at_once(tmp_path):
    began = time.monotonic()
    for n in range(5):
        with opened(tmp_path / "j") as journal:
            journal.write(record(f"T{n}"), cause="test", barrier=True)
    assert sorted(path.name for path in (tmp_path / "j").iterdir()) == [
        "ballast", "journal.db", "journal.lock", "owner.pid",
    ]  # fmt: skip
    assert time.monotonic() - began < 30
