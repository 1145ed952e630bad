"""
The power-loss stage as tests: short and seeded. The full one: ``python tests/crash/power_loss.py --images 6000``.

HIRELIAB_CRASH_SEED overrides the seed.
"""

import faulthandler
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SEED = os.environ.get("HIRELIAB_CRASH_SEED", "7")

pytestmark = [pytest.mark.crash]


def run(*arguments, timeout=240):
    """Exit code and what was printed; nothing of it outlives the test."""
    faulthandler.cancel_dump_traceback_later()  # it takes longer than pytest's patience, and has a limit of its own
    process = subprocess.Popen(
        [sys.executable, str(HERE / "power_loss.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, printed


def load(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import power_loss

    return power_loss


@pytest.fixture
def traced(monkeypatch):
    """The module, where strace works; else a visible skip, or a failure where services are required."""
    module = load(monkeypatch)
    reason = module.cannot_trace()
    if reason and os.environ.get("HIRELIAB_REQUIRE_SERVICES") == "1":
        pytest.fail(f"power loss: {reason}")
    if reason:
        pytest.skip(f"power loss: {reason}")
    return module


@pytest.mark.slow
def test_whatever_write_the_power_cuts_every_acknowledged_barrier_is_there(traced, tmp_path, capsys):
    code, printed = run("--orders", 60, "--images", 500, "--seed", SEED, "--keep", tmp_path / "run")
    with capsys.disabled():
        print("\n" + printed)
    assert code == 0, printed
    for phase in ("opening, life 0", "checkpoint", "log started again", "trading", "repairing"):
        images = re.findall(rf"^  {phase} +\d+ +(\d+)", printed, re.MULTILINE)
        assert sum(map(int, images)) > 0, f"{phase}: no cut hit it\n{printed}"
    for name in traced.recordings(None):
        assert f"recording {name}:" in printed
    for mode in traced.MODES:
        assert re.search(rf"{mode} \d", printed), mode


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["synchronous_off", "synchronous_normal", "unsynced_checkpoint", "barrier_does_not_wait"]
)
def test_a_journal_that_is_broken_on_purpose_is_caught(traced, name, tmp_path):
    assert name in traced.MUTANTS
    kept = tmp_path / "run"
    code, printed = run(
        "--orders", 60, "--images", 400, "--seed", SEED, "--break", name, "--stop-after", 1, "--keep", kept
    )  # fmt: skip
    assert code == 1, printed
    violation = re.search(r"^VIOLATION (\w+) image (\d+) .*$", printed, re.MULTILINE)
    assert violation, printed
    assert re.search(
        "barrier lost|promise lost|does not open it|integrity_check says|log is no prefix", violation[0]
    ), printed
    if name == "synchronous_off":  # the same image once more, from the kept trace
        again, replayed = run("--replay", kept, "--recording", violation[1], "--image", violation[2])
        assert again == 1, replayed
        assert violation[0].partition("/dev/shm")[0] in replayed


def test_a_cut_keeps_what_was_synced_and_anything_of_the_rest(monkeypatch):
    power_loss = load(monkeypatch)
    event = power_loss.Event
    events = [
        event("create", "journal.db"),
        event("write", "journal.db", offset=0, data=b"a" * 8192),
        event("sync", "journal.db", since=2),
        event("sync folder", since=3),
        event("write", "journal.db", offset=4096, data=b"b" * 8192),
        event("truncate", "journal.db", length=9000),
        event("create", "journal.db-wal"),
    ]
    disk = power_loss.Disk()
    for position, one in enumerate(events):
        disk.step(position, one)
    assert disk.image("nothing", random.Random(1)) == {"journal.db": b"a" * 8192}
    everything = {"journal.db": (b"a" * 4096 + b"b" * 8192)[:9000], "journal.db-wal": b""}
    assert disk.image("everything", random.Random(1)) == everything
    assert disk.visible() == everything
    assert disk.image("names only", random.Random(1)) == {"journal.db": b"a" * 8192, "journal.db-wal": b""}
    seen = set()
    for seed in range(200):
        content = disk.image("torn", random.Random(seed))["journal.db"]
        assert content[:4096] == b"a" * 4096
        seen.add(content)
    assert len(seen) > 20


def test_a_file_whose_name_was_never_synced_is_gone_with_all_its_synced_bytes(monkeypatch):
    power_loss = load(monkeypatch)
    event = power_loss.Event
    disk = power_loss.Disk()
    disk.step(0, event("create", "journal.db-wal"))
    disk.step(1, event("write", "journal.db-wal", offset=0, data=b"a" * 100))
    disk.step(2, event("sync", "journal.db-wal", since=2))
    assert disk.image("nothing", random.Random(1)) == {}
    disk.step(3, event("sync folder", since=3))
    assert disk.image("nothing", random.Random(1)) == {"journal.db-wal": b"a" * 100}
    disk.step(4, event("unlink", "journal.db-wal"))
    assert disk.image("nothing", random.Random(1)) == {"journal.db-wal": b"a" * 100}
    assert disk.image("everything", random.Random(1)) == {}


def test_a_write_that_began_before_the_sync_but_ended_after_it_is_not_synced_by_it(monkeypatch):
    power_loss = load(monkeypatch)
    event = power_loss.Event
    disk = power_loss.Disk()
    disk.step(0, event("create", "journal.db"))
    disk.step(1, event("sync folder", since=1))
    disk.step(2, event("write", "journal.db", offset=0, data=b"a"))
    disk.step(3, event("write", "journal.db", offset=1, data=b"b"))
    disk.step(4, event("sync", "journal.db", since=3))  # it began when only the first write had returned
    assert disk.image("nothing", random.Random(1)) == {"journal.db": b"a"}


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A small journal's files, its log, and what an image of it must hold."""
    power_loss = load(monkeypatch)
    folder = tmp_path / "journal"
    folder.mkdir()
    connection = sqlite3.connect(folder / "journal.db")
    with connection:
        connection.execute("CREATE TABLE txn (txn_id, version, state)")
        connection.execute("CREATE TABLE txn_log (seq INTEGER PRIMARY KEY, txn_id, version, state, attempt, cause)")
        connection.execute("INSERT INTO txn VALUES ('A', 2, 'COMPLETED'), ('B', 1, 'SUBMITTING')")
        entries = [
            (1, "A", 1, "SUBMITTING", 1, "T3"),
            (2, "B", 1, "SUBMITTING", 1, "T3"),
            (3, "A", 2, "COMPLETED", 1, "T9"),
        ]
        connection.executemany("INSERT INTO txn_log VALUES (?,?,?,?,?,?)", entries)
    connection.close()
    # SQLiteJournal would refuse this file, which has no application id; these tests are about the comparison.
    monkeypatch.setattr(power_loss, "use", lambda folder: None)
    return power_loss, folder, entries


ACKS = [("row", "A", "1"), ("row", "B", "1"), ("row", "A", "2"), ("told", "A", "COMPLETED")]
DAMAGES = {
    "a hole in the log": ("DELETE FROM txn_log WHERE seq = 2", "the log is no prefix"),
    "a row that is missing": ("DELETE FROM txn WHERE txn_id = 'B'", "barrier lost: transaction B version 1"),
    "an older version": ("UPDATE txn SET version = 1 WHERE txn_id = 'A'", "barrier lost: transaction A version 2"),
    "another state": (
        "UPDATE txn SET state = 'FAILED' WHERE txn_id = 'A'",
        "promise lost: the caller was told COMPLETED",
    ),
    "an entry that was never written": (
        "INSERT INTO txn_log VALUES (4, 'C', 1, 'SUBMITTING', 1, 'T3')",
        "the log is no prefix",
    ),
    "a row ahead of its log": ("UPDATE txn SET version = 3 WHERE txn_id = 'B'", "rows and log differ"),
}


def test_a_sound_image_has_no_problem(journal, tmp_path):
    power_loss, folder, entries = journal
    files = {"journal.db": (folder / "journal.db").read_bytes()}
    assert power_loss.judge(files, ACKS, [*entries, (4, "B", 2, "ACKED", 1, "T7")], tmp_path / "work") == []


@pytest.mark.parametrize("what", DAMAGES)
def test_an_image_that_lost_something_is_found_out(journal, tmp_path, what):
    power_loss, folder, entries = journal
    statement, problem = DAMAGES[what]
    connection = sqlite3.connect(folder / "journal.db")
    with connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()
    problems = power_loss.judge({"journal.db": (folder / "journal.db").read_bytes()}, ACKS, entries, tmp_path / "work")
    assert any(problem in text for text in problems), problems


def test_an_image_that_lost_an_event_or_has_one_of_nothing_is_found_out(journal, tmp_path):
    power_loss, folder, entries = journal
    connection = sqlite3.connect(folder / "journal.db")
    found = []
    for event in ("A:2", "A:2", "B:9"):
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS event (event_id)")
            connection.execute("INSERT INTO event VALUES (?)", (event,))
        found.append(
            power_loss.judge({"journal.db": (folder / "journal.db").read_bytes()}, [], entries, tmp_path / "work")
        )
        if len(found) == 1:
            with connection:
                connection.execute("DELETE FROM event")
            lost = {"journal.db": (folder / "journal.db").read_bytes()}
            assert any(
                "without their events ['A:2']" in text for text in power_loss.judge(lost, [], entries, tmp_path / "w")
            )
    connection.close()
    assert found[:2] == [[], []]
    assert any("events of nothing {'B:9'}" in text for text in found[2])


def test_an_image_that_is_no_database_is_found_out(journal, tmp_path):
    power_loss, _, entries = journal
    problems = power_loss.judge({"journal.db": b"x" * 4096}, [], entries, tmp_path / "work")
    assert any("sqlite3 does not open it" in text for text in problems), problems


def test_where_strace_is_missing_the_stage_says_how_to_get_it(monkeypatch):
    power_loss = load(monkeypatch)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install -y strace" in power_loss.cannot_trace()
