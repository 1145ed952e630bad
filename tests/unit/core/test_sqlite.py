"""The writer: order, group commit, isolation of one bad operation, poison, foreign files."""

import sqlite3
import threading

import pytest

from hireliab.core._sqlite import SQLiteFile
from hireliab.errors import ClosedError, JournalCorruptError, JournalPoisonedError

SCHEMA = ("CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT NOT NULL)",)


def make(path, schema=SCHEMA, application_id=77):
    return SQLiteFile(path, what="test", application_id=application_id, schema=schema)


@pytest.fixture
def file(tmp_path):
    file = make(tmp_path / "a.db")
    file.open()
    yield file
    file.close()


def insert(n, v="x"):
    return lambda db: db.execute("INSERT INTO t VALUES (?, ?)", (n, v)) and n


def rows(file):
    with file.reader() as db:
        return [row[0] for row in db.execute("SELECT n FROM t ORDER BY rowid")]


def test_a_write_is_visible_when_it_returns(file):
    assert file.write(insert(1)) == 1
    assert rows(file) == [1]


def test_the_file_survives_being_closed_and_opened(file, tmp_path):
    file.write(insert(1))
    file.close()
    again = make(tmp_path / "a.db")
    again.open()
    assert rows(again) == [1]
    again.close()


def test_the_promised_pragmas_hold(file):
    asked = {}
    for name in ("journal_mode", "synchronous", "wal_autocheckpoint"):
        asked[name] = file.write(lambda db, name=name: db.execute(f"PRAGMA {name}").fetchone()[0])
    assert asked == {"journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 0}


def test_threads_share_commits_and_keep_their_order(file):
    barrier = threading.Barrier(16)
    gate, opened = threading.Event(), threading.Event()

    def hold(db):
        opened.set()
        gate.wait(10)

    holder = file.submit(hold)
    opened.wait(10)
    futures = []

    def work(k):
        barrier.wait(10)
        futures.extend([file.submit(insert(k * 100 + i)) for i in range(10)])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    gate.set()
    holder.result(10)
    for future in futures:
        future.result(10)
    assert file.commits <= 3
    assert file.operations == 161
    written = rows(file)
    for k in range(16):
        mine = [n for n in written if n // 100 == k]
        assert mine == sorted(mine)
        assert len(mine) == 10


def test_one_bad_operation_does_not_undo_its_neighbours(file):
    gate, opened = threading.Event(), threading.Event()

    def hold(db):
        opened.set()
        gate.wait(10)

    file.submit(hold)
    opened.wait(10)
    good, bad, after = file.submit(insert(1)), file.submit(insert(1)), file.submit(insert(2))
    gate.set()
    good.result(10)
    after.result(10)
    with pytest.raises(sqlite3.IntegrityError):
        bad.result(10)
    assert rows(file) == [1, 2]


def test_a_failed_commit_poisons_the_file_for_good(file):
    def no_disk(db):
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(JournalPoisonedError, match="disk I/O error"):
        file.write(no_disk)
    assert file.poisoned
    with pytest.raises(JournalPoisonedError):
        file.write(insert(1))
    assert rows(file) == []


def test_what_was_queued_behind_a_failed_commit_fails_too(file):
    gate, opened = threading.Event(), threading.Event()

    def fail(db):
        opened.set()
        gate.wait(10)
        raise sqlite3.OperationalError("disk I/O error")

    first = file.submit(fail)
    opened.wait(10)
    second = file.submit(insert(1))
    gate.set()
    for future in (first, second):
        with pytest.raises(JournalPoisonedError):
            future.result(10)
    assert rows(file) == []


def test_a_closed_file_takes_no_more(file):
    file.close()
    with pytest.raises(ClosedError):
        file.write(insert(1))


def test_what_was_queued_before_close_is_written(file):
    futures = [file.submit(insert(n)) for n in range(50)]
    file.close()
    assert all(future.done() for future in futures)
    assert len(rows(file)) == 50


def test_readers_cannot_write(file):
    with file.reader() as db, pytest.raises(sqlite3.OperationalError):
        db.execute("INSERT INTO t VALUES (1, 'x')")


def test_another_programs_file_is_refused_and_untouched(tmp_path):
    path = tmp_path / "b.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (n)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalCorruptError, match="another program"):
        make(path).open()
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "c.db"
    path.write_bytes(b"not a database at all, but long enough to look at" * 100)
    with pytest.raises(JournalCorruptError, match="move it away"):
        make(path).open()


def test_a_newer_schema_is_refused(tmp_path):
    newer = make(tmp_path / "d.db", schema=(*SCHEMA, "CREATE TABLE u (n)"))
    newer.open()
    newer.close()
    with pytest.raises(JournalCorruptError, match="newer"):
        make(tmp_path / "d.db").open()


def test_an_older_schema_is_brought_up_to_date(tmp_path):
    old = make(tmp_path / "e.db")
    old.open()
    old.write(insert(1))
    old.close()
    new = make(tmp_path / "e.db", schema=(*SCHEMA, "CREATE TABLE u (n); INSERT INTO u VALUES (5)"))
    new.open()
    assert new.write(lambda db: db.execute("SELECT n FROM u").fetchone()[0]) == 5
    assert rows(new) == [1]
    new.close()


def test_a_torn_write_ahead_log_opens_with_its_prefix(tmp_path):
    import shutil

    file = make(tmp_path / "f.db")
    file.open()
    for n in range(5):
        file.write(insert(n))
    image = tmp_path / "image"
    image.mkdir()
    for name in ("f.db", "f.db-wal"):
        shutil.copy(tmp_path / name, image / name)
    file.close()
    wal = image / "f.db-wal"
    wal.write_bytes(wal.read_bytes()[:-700])
    again = make(image / "f.db")
    again.open()
    assert rows(again) == [0, 1, 2, 3]
    again.close()


def test_the_files_are_the_owners_alone(tmp_path):
    import os
    import stat

    if os.name != "posix":
        pytest.skip("modes are POSIX")
    file = make(tmp_path / "g.db")
    file.open()
    file.write(insert(1))
    for path in tmp_path.glob("g.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    file.close()
