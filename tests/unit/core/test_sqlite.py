"""The writer: order, group commit, isolation of one bad operation, poison, foreign files."""

import errno
import gc
import itertools
import logging
import os
import sqlite3
import threading
from collections import deque

import pytest

from hireliab.core import _sqlite, _sqlite_disk, _sqlite_open, _sqlite_readers, _sqlite_write
from hireliab.core._sqlite import INTENT, LINGER, SOFT, SQLiteFile
from hireliab.core._sqlite_disk import Ballast, LogLength, is_full, network_type
from hireliab.errors import ClosedError, JournalCorruptError, JournalError, JournalPoisonedError
from hireliab.testing import FakeClock
from tests.support.pools import with_interruption
from tests.support.together import Background, together

SCHEMA = ("CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT NOT NULL)",)


def make(path, schema=SCHEMA, application_id=77, **settings):
    return SQLiteFile(path, what="test", application_id=application_id, schema=schema, **settings)


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


# -- writes that nobody waits for -------------------------------------------------------------------------------


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def still(tmp_path, clock):
    """A file whose writer's time stands still, so that nothing is written because of time alone."""
    file = make(tmp_path / "still.db", clock=clock)
    file.open()
    yield file
    file.close()


def test_a_posted_write_rides_on_the_next_barrier(still):
    still.post(insert(1), what="one")
    still.post(insert(2), what="two")
    assert rows(still) == []
    still.write(insert(3))
    assert rows(still) == [1, 2, 3]
    assert (still.commits, still.operations, still.barriers) == (1, 3, 1)


def test_a_posted_write_is_committed_when_no_barrier_comes(still, clock):
    still.post(insert(1), what="one")
    clock.wait_parked()
    clock.advance(LINGER / 2)
    clock.wait_parked()
    assert rows(still) == []
    clock.advance_until(lambda: still.commits == 1, limit=3 * LINGER, threads=("hireliab.sqlite.",))
    assert rows(still) == [1]


def test_a_posted_write_wakes_a_writer_that_sleeps(still, clock):
    clock.advance_until(lambda: still._sleeping == _sqlite._ASLEEP, limit=2.0, threads=("hireliab.sqlite.",))
    still.post(insert(1), what="one")
    clock.advance_until(lambda: rows(still) == [1], limit=3 * LINGER, threads=("hireliab.sqlite.",))


def test_flush_waits_for_what_was_posted(still):
    still.post(insert(1), what="one")
    still.flush()
    assert rows(still) == [1]
    before = still.operations
    still.flush()
    assert still.operations == before


def test_what_was_posted_is_written_before_the_file_closes(still, tmp_path):
    still.post(insert(1), what="one")
    still.close()
    assert rows(still) == [1]


def test_the_failure_of_a_posted_write_is_logged_and_undoes_nothing(still, caplog):
    still.post(insert(1), what="the first")
    still.post(insert(1), what="the second", atomic=True)
    still.write(insert(2))
    assert rows(still) == [1, 2]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "the second: was not written: UNIQUE constraint failed: t.n"
    ]


def test_an_operation_that_fails_half_way_is_undone_unless_it_says_that_it_is_atomic(file):
    def half(db):
        db.execute("INSERT INTO t VALUES (5, 'x')")
        raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed my mind"):
        file.write(half)
    assert rows(file) == []


def test_waiting_for_a_write_has_a_limit(file):
    gate = threading.Event()
    held = file.submit(lambda db: gate.wait(10) and None)
    with pytest.raises(TimeoutError, match="0.001"):
        held.result(0.001)
    assert not held.done()
    gate.set()
    held.result(10)
    held.result(10)
    assert held.done()


class StruckByCtrlC:
    """The lock of a write; Ctrl-C comes when the first who waits for it has it."""

    def __init__(self, lock):
        self._lock, self._struck = lock, False

    def acquire(self, timeout):
        got = self._lock.acquire(timeout=timeout)
        if got and not self._struck:
            self._struck = True
            raise KeyboardInterrupt
        return got

    def release(self):
        self._lock.release()


def test_ctrl_c_upon_one_who_waits_for_a_write_leaves_no_other_waiting(file, monkeypatch):
    monkeypatch.setattr(_sqlite_write, "_LOOK", 0.01)
    write, gate = held_back(file)
    write._done = StruckByCtrlC(write._done)
    waiting = [Background(write.result) for _ in range(3)]
    gate.set()
    ends = []
    for one in waiting:
        try:
            ends.append(one.result())
        except KeyboardInterrupt:
            ends.append("struck")
    assert sorted(ends, key=str) == [None, None, "struck"]
    assert write.done()
    assert write.result() is None


def test_a_forked_childs_write_is_refused_before_it_waits_for_a_lock(file, monkeypatch):
    monkeypatch.setattr(file, "_pid", os.getpid() + 1)
    with file._lock, pytest.raises(JournalError, match="fork"):
        file.write(insert(1))
    with file._lock:
        file.flush()


def test_a_signal_handler_in_the_middle_of_a_write_is_refused_and_the_write_goes_on(still):
    class Interrupted(deque):
        handler = None

        def append(self, write):
            handler, self.handler = self.handler, None
            if handler is not None:
                handler()
            super().append(write)

    def handler():
        with pytest.raises(JournalError, match="signal handler interrupted a write; it was not written"):
            still.write(insert(2))
        with pytest.raises(JournalError, match="signal handler"):
            still.post(insert(3), what="the third")
        still.flush()
        assert not still.close(timeout=60.0)  # the writer waits for us, so this does not wait for it
        refused.append(1)

    refused = []
    still._queue = Interrupted()
    still._queue.handler = handler
    assert Background(still.write, insert(1)).result() == 1
    assert refused == [1]
    assert still.close()
    assert rows(still) == [1]


def test_whoever_wants_to_know_is_told_when_the_file_is_closed_however_late(tmp_path):
    closed = threading.Event()
    file = make(tmp_path / "a.db", ended=closed.set)
    file.open()
    first, gate = held_back(file)
    assert not file.close(timeout=0.0)
    assert not closed.is_set()
    gate.set()
    first.result(10)
    assert closed.wait(10)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        file._connection.execute("SELECT 1")


def test_a_forked_childs_close_does_nothing_and_waits_for_no_lock(file, monkeypatch):
    monkeypatch.setattr(file, "_pid", os.getpid() + 1)
    with file._lock:
        assert Background(file.close).result()
    monkeypatch.undo()
    assert file.write(insert(1)) == 1


def test_a_file_for_which_no_thread_can_be_started_is_closed_again(tmp_path, monkeypatch):
    def no_thread(target, *, name):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_sqlite, "start_thread", no_thread)
    file = make(tmp_path / "a.db")
    with pytest.raises(JournalError, match="no thread can be started"):
        file.open()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        file._connection.execute("SELECT 1")
    assert file.close()


# -- idleness and checkpoints -----------------------------------------------------------------------------------


def test_housework_is_done_only_when_nothing_else_is_asked_for(tmp_path, clock):
    done = []

    def idle(db):
        done.append(clock.monotonic())
        db.execute("INSERT INTO t VALUES (?, 'idle')", (len(done),))
        return 0.0 if len(done) == 1 else 100.0

    file = make(tmp_path / "h.db", idle=idle, clock=clock)
    file.open()
    for n in range(100, 150):  # a lone thread that writes one after the other is not idle
        file.write(insert(n))
    assert done == []
    began = clock.monotonic()
    clock.advance_until(lambda: len(done) == 2, limit=3.0, threads=("hireliab.sqlite.",))
    assert min(done) - began >= 0.9
    clock.advance_until(lambda: len(done) == 3, limit=120.0, threads=("hireliab.sqlite.",))
    assert done[2] - done[1] >= 100.0
    file.close()
    assert rows(file)[:3] == [1, 2, 3]


def test_the_log_is_copied_when_it_is_long_and_then_begun_anew(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(_sqlite, "CHECKPOINT_BYTES", 60_000)
    file = make(tmp_path / "w.db", clock=clock)
    file.open()
    wal = tmp_path / "w.db-wal"
    for n in range(100):
        file.write(insert(n, "x" * 3000))
    assert wal.stat().st_size < 120_000
    assert (tmp_path / "w.db").stat().st_size > 200_000
    assert len(rows(file)) == 100
    file.close()


def test_a_reader_that_holds_a_snapshot_does_not_make_every_commit_a_checkpoint(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(_sqlite, "CHECKPOINT_BYTES", 200_000)
    checkpoints = []
    plain = SQLiteFile._checkpoint
    monkeypatch.setattr(SQLiteFile, "_checkpoint", lambda self, db: (checkpoints.append(1), plain(self, db)))
    file = make(tmp_path / "x.db", clock=clock)
    file.open()
    file.write(insert(1000))
    with file.reader() as db:
        db.execute("BEGIN")
        db.execute("SELECT * FROM t").fetchall()
        for n in range(60):
            file.write(insert(n, "x" * 3000))
        assert (tmp_path / "x.db-wal").stat().st_size > 1_000_000
        assert len(checkpoints) <= 10
        db.execute("COMMIT")
    file.close()


def test_the_length_of_a_log_is_what_is_in_use(tmp_path):
    db = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=wal")
    db.execute("CREATE TABLE t (v)")
    for _ in range(10):
        db.execute("INSERT INTO t VALUES (randomblob(3000))")
    length = LogLength(tmp_path / "l.db-wal", 4096)
    assert length.exceeds(10 * 4096)
    assert not length.exceeds(100 * 4096)
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    db.execute("INSERT INTO t VALUES (1)")
    assert (tmp_path / "l.db-wal").stat().st_size > 10 * 4096
    assert not length.exceeds(10 * 4096)
    length.close()
    length.close()
    db.close()


# -- readers ----------------------------------------------------------------------------------------------------


def test_readers_are_kept_for_the_next_and_closed_before_the_writer(file, tmp_path):
    file.write(insert(1))
    with file.reader() as first:
        first.execute("SELECT 1").fetchall()
    with file.reader() as again, file.reader() as other:
        assert again is first
        assert other is not first
    file.close()
    for connection in (first, other):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    assert not (tmp_path / "a.db-wal").exists()


def test_a_reader_whose_block_failed_is_not_used_again(file):
    with pytest.raises(ZeroDivisionError), file.reader() as first:
        raise ZeroDivisionError
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")
    with file.reader() as second:
        assert second is not first


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")  # of a connection that died with its frame
def test_ctrl_c_anywhere_in_a_reading_block_loses_no_connection_and_no_count(file):
    file.write(insert(1))

    def strike():
        raise KeyboardInterrupt

    for place in itertools.count(1):
        readers = _sqlite_readers.Readers(file.path, _sqlite.SYSTEM_CLOCK)
        with readers.lend() as first:
            first.execute("SELECT 1").fetchall()

        def read(readers=readers):
            with readers.lend() as db:
                assert db.execute("SELECT n FROM t").fetchall() == [(1,)]

        try:
            with_interruption({place}, strike, read, folder=_sqlite_readers.__file__)
        except KeyboardInterrupt:
            pass
        else:
            assert place > 5
            assert readers.close(0.0)
            break
        read()
        assert readers.close(0.0), place
    gc.collect()  # here, and in no test after this one


def test_closing_waits_for_a_reader_and_then_leaves_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(_sqlite, "_READERS_WAIT", 0.01)
    file = make(tmp_path / "r.db")
    file.open()
    file.write(insert(1))
    with file.reader() as db:
        assert db.execute("SELECT n FROM t").fetchall() == [(1,)]
        assert file.close()
        assert db.execute("SELECT n FROM t").fetchall() == [(1,)]
    assert (tmp_path / "r.db-wal").stat().st_size > 0
    again = make(tmp_path / "r.db")
    again.open()
    assert rows(again) == [1]
    again.close()


# -- a full disk, a failed one ----------------------------------------------------------------------------------


def no_space(db):
    raise sqlite3.OperationalError("database or disk is full")


class OnceFull:
    """An operation that a full disk stops the first time."""

    def __init__(self, n):
        self.n, self.calls = n, 0

    def __call__(self, db):
        self.calls += 1
        if self.calls == 1:
            no_space(db)
        return insert(self.n)(db)


def test_a_full_disk_takes_everything_but_what_begins_something_new(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(_sqlite, "free_bytes", lambda folder: 100)
    file = make(tmp_path / "n.db", ballast=8192, clock=clock)
    file.open()
    assert (tmp_path / "ballast").stat().st_size == 8192
    gate, opened = threading.Event(), threading.Event()
    file.submit(lambda db: (opened.set(), gate.wait(10)) and None)
    opened.wait(10)
    intent, verdict = file.submit(insert(1), mark=INTENT), file.submit(OnceFull(2))
    gate.set()
    assert verdict.result(10) == 2
    with pytest.raises(JournalError, match="disk full: nothing was sent") as caught:
        intent.result(10)
    assert not isinstance(caught.value, JournalPoisonedError)
    assert file.full
    assert not file.poisoned
    assert not (tmp_path / "ballast").exists()
    with pytest.raises(JournalError, match="disk full"):
        file.submit(insert(3), mark=INTENT).result(10)
    file.write(insert(4))
    assert rows(file) == [2, 4]
    file.close()


def test_a_disk_that_has_space_again_takes_new_things_and_the_ballast_is_back(tmp_path, clock, monkeypatch):
    space = [100]
    asked = []
    monkeypatch.setattr(_sqlite, "free_bytes", lambda folder: asked.append(1) or space[0])
    file = make(tmp_path / "m.db", ballast=8192, clock=clock)
    file.open()
    file.write(OnceFull(1))
    space[0] = 2 * 8192
    for _ in range(5):  # not asked more than once a second
        with pytest.raises(JournalError, match="disk full"):
            file.submit(insert(2), mark=INTENT).result(10)
    assert asked == []
    clock.advance(1.0)
    file.submit(insert(2), mark=INTENT).result(10)
    assert not file.full
    assert (tmp_path / "ballast").stat().st_size == 8192
    assert rows(file) == [1, 2]
    file.close()


def test_a_disk_that_is_full_without_the_ballast_poisons(tmp_path, clock):
    file = make(tmp_path / "p.db", ballast=8192, clock=clock)
    file.open()
    with pytest.raises(JournalPoisonedError, match="full"):
        file.write(no_space)
    file.close()


def test_a_poisoned_file_is_not_copied_when_it_closes(tmp_path):
    file = make(tmp_path / "q.db")
    file.open()
    file.write(insert(1))

    def broken(db):
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(JournalPoisonedError):
        file.write(broken)
    file.close()
    assert (tmp_path / "q.db-wal").stat().st_size > 0
    again = make(tmp_path / "q.db")
    again.open()
    assert rows(again) == [1]
    again.close()


def test_a_checkpoint_that_fails_for_the_disk_poisons(still):
    class Broken:
        def execute(self, sql):
            raise sqlite3.OperationalError("disk I/O error")

    still._checkpoint(Broken())
    assert still.poisoned


def held_back(file):
    """An operation that holds the writer, and the event that lets it go on."""
    gate, opened = threading.Event(), threading.Event()
    first = file.submit(lambda db: (opened.set(), gate.wait(10), insert(1)(db)) and None)
    assert opened.wait(10)
    return first, gate


def test_an_error_that_nobody_foresaw_poisons_and_leaves_nobody_waiting(tmp_path, monkeypatch, caplog):
    def no_disk(self, size):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(_sqlite, "CHECKPOINT_BYTES", 1)  # a look at the log after every commit
    monkeypatch.setattr(LogLength, "exceeds", no_disk)
    file = make(tmp_path / "a.db")
    file.open()
    first, gate = held_back(file)
    second = file.submit(insert(2))
    file.post(insert(3), what="the third")
    monkeypatch.setattr(_sqlite, "BATCH", 1)
    gate.set()
    first.result(10)  # on disk before the error
    with pytest.raises(JournalPoisonedError, match="Input/output error.*restart to read what is on disk"):
        second.result(10)
    with pytest.raises(JournalPoisonedError):
        file.submit(insert(4))
    assert file.poisoned
    assert file.close()
    texts = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert (
        logging.CRITICAL,
        f"{file.path}: the writer ended: [Errno 5] Input/output error; no order is sent any more",
    ) in texts
    assert [text for level, text in texts if level == logging.ERROR and text.startswith("the third: was not written: ")]
    monkeypatch.undo()
    again = make(tmp_path / "a.db")
    again.open()
    assert rows(again) == [1]
    again.close()


class BrokenHandler(logging.Handler):
    """A user's log handler that raises."""

    def emit(self, record):
        raise RuntimeError("no room for logs")


def test_a_log_handler_that_raises_leaves_nobody_waiting_for_a_failed_commit(file):
    def no_disk(db):
        raise sqlite3.OperationalError("disk I/O error")

    handler = BrokenHandler(logging.ERROR)
    logging.getLogger("hireliab.sqlite").addHandler(handler)
    try:
        first, gate = held_back(file)
        file.post(no_disk, what="a write that nobody waits for")
        failed = file.submit(insert(2))
        gate.set()
        first.result(10)
        with pytest.raises(JournalPoisonedError, match="disk I/O error"):
            failed.result(10)
        assert file.close()
    finally:
        logging.getLogger("hireliab.sqlite").removeHandler(handler)


def test_what_is_to_be_done_after_a_write_may_fail_and_the_writer_goes_on(file, caplog):
    def fail():
        raise MemoryError

    def leave():
        raise SystemExit

    file.submit(insert(1), then=fail).result(10)
    file.post(insert(2), what="the second", then=leave)
    file.submit(insert(3)).result(10)
    assert file.write(insert(4)) == 4
    assert rows(file) == [1, 2, 3, 4]
    assert not file.poisoned
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "a write: on disk, but what was to be done then failed",
        "the second: on disk, but what was to be done then failed",
    ]


@pytest.mark.parametrize(
    ("code", "words", "full"),
    [
        (13, "database or disk is full", True),
        (4874, "disk I/O error", True),
        (1034, "disk I/O error", False),
        (778, "disk I/O error", False),
        (None, "database or disk is full", True),
        (None, "disk I/O error", False),
    ],
)
def test_a_full_disk_is_told_from_a_failed_one(code, words, full):
    error = sqlite3.OperationalError(words)
    if code is not None:
        error.sqlite_errorcode = code
    assert is_full(error) is full
    assert not is_full(OSError(errno.ENOSPC, "no space"))


def test_a_ballast_is_really_allocated_and_given_back(tmp_path):
    ballast = Ballast(tmp_path / "ballast", 1 << 16)
    (tmp_path / "ballast").write_bytes(b"")
    assert ballast.ensure()
    status = (tmp_path / "ballast").stat()
    assert status.st_size == 1 << 16
    assert getattr(status, "st_blocks", 128) * 512 >= 1 << 16
    assert ballast.release()
    assert not ballast.release()


def test_a_ballast_without_room_is_none(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    assert not Ballast(tmp_path / "ballast", 1 << 16).ensure()
    assert not (tmp_path / "ballast").exists()
    new = make(tmp_path / "new.db", ballast=1 << 16)
    with pytest.raises(JournalError, match=r"disk full: \d+ bytes are free, at least 131072 are needed"):
        new.open()
    assert not (tmp_path / "new.db").exists()


# -- what is refused --------------------------------------------------------------------------------------------

MOUNTS = """\
/dev/vda / ext4 rw 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
//box/share /mnt/my\\040share cifs rw 0 0
me@host:/ /mnt/ssh fuse.sshfs rw 0 0
/dev/sdc1 /mnt/usb fuse.ntfs-3g rw 0 0
share /mnt/plan 9p rw 0 0
/dev/vdc /mnt/plan ext4 rw 0 0
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/bot", None),
        ("/home", "nfs4"),
        ("/home/me/bot", "nfs4"),
        ("/home/local/bot", None),
        ("/homeless/bot", None),
        ("/mnt/my share/bot", "cifs"),
        ("/mnt/ssh/bot", "fuse.sshfs"),
        ("/mnt/usb/bot", None),
        ("/mnt/plan/bot", None),
    ],
)
def test_network_file_systems_are_known_by_their_type(path, kind):
    assert network_type(path, MOUNTS) == kind
    assert network_type(path, "") is None


def test_a_network_file_system_is_refused_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(_sqlite, "network_type_of", lambda folder: "nfs4")
    with pytest.raises(JournalError, match=r"network file system \(nfs4\)"):
        make(tmp_path / "a.db").open()
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    ("offset", "damage"),
    [(2 * 4096, b"\xff" * 2000), (5 * 4096 + 8, b"\0\5\0\6")],
    ids=["a page is gone", "two rows point nowhere"],
)
def test_a_damaged_file_is_refused_and_untouched(tmp_path, offset, damage):
    path = tmp_path / "z.db"
    file = make(path)
    file.open()
    for n in range(200):
        file.submit(insert(n, "x" * 500))
    file.close()
    content = bytearray(path.read_bytes())
    content[offset : offset + len(damage)] = damage
    path.write_bytes(content)
    with pytest.raises(JournalCorruptError, match="damaged .*; move it away"):
        make(path).open()
    assert path.read_bytes() == content


def test_a_large_file_is_not_read_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(_sqlite_open, "CHECKED_BYTES", 100)
    asked = []
    file = make(tmp_path / "big.db")
    file.open()
    file.close()
    plain = sqlite3.connect(tmp_path / "big.db")
    plain.set_trace_callback(asked.append)
    assert _sqlite_open.quick_check(plain, tmp_path / "big.db") == []
    assert asked == []
    monkeypatch.setattr(_sqlite_open, "CHECKED_BYTES", 1 << 20)
    assert _sqlite_open.quick_check(plain, tmp_path / "big.db") == []
    assert len(asked) == 1
    plain.close()


def test_an_empty_file_is_a_new_one(tmp_path):
    (tmp_path / "empty.db").touch()
    file = make(tmp_path / "empty.db")
    file.open()
    file.write(insert(1))
    file.close()


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path):
    old = make(tmp_path / "v.db")
    old.open()
    old.write(insert(1))
    old.close()
    broken = (*SCHEMA, "CREATE TABLE u (n); INSERT INTO u VALUES (5)", "CREATE TABLE t (again)")
    with pytest.raises(JournalError, match="already exists"):
        make(tmp_path / "v.db", schema=broken).open()
    same = make(tmp_path / "v.db")
    same.open()
    assert rows(same) == [1]
    with same.reader() as db:
        assert [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")] == ["t"]
    same.close()


def test_a_machine_without_a_list_of_mounts_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(_sqlite_disk.Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert _sqlite_disk.network_type_of(tmp_path) is None


# -- several processes on one file ----------------------------------------------------------------------------------


class Guard:
    """A guard that knows how often it was taken, and refuses to be taken twice at once."""

    def __init__(self):
        self.lock, self.taken = threading.Lock(), 0

    def __enter__(self):
        assert self.lock.acquire(timeout=10.0)
        self.taken += 1

    def __exit__(self, *exc_info):
        self.lock.release()


def test_a_guard_is_held_while_the_file_is_opened_written_copied_and_closed(tmp_path):
    guard = Guard()
    one = make(tmp_path / "g.db", guard=guard)
    one.open()
    assert guard.taken == 1

    def held(db):
        assert guard.lock.locked()
        return insert(1)(db)

    one.write(held)
    with guard:
        waiting = one.submit(insert(2))
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
    waiting.result(10.0)
    before = guard.taken
    one.close()
    assert guard.taken == before + 1


def test_two_writers_of_one_file_that_share_a_guard_lose_nothing(tmp_path):
    guard = Guard()
    files = [make(tmp_path / "g.db", guard=guard) for _ in range(2)]
    for one in files:
        one.open()
    together(4, lambda i: [files[i % 2].write(insert(100 * i + n)) for n in range(25)])
    assert sorted(rows(files[0])) == sorted(rows(files[1])) == sorted(100 * i + n for i in range(4) for n in range(25))
    files[0].close()
    files[1].write(insert(999))
    assert 999 in rows(files[1])
    files[1].close()


def test_a_commit_of_soft_writes_alone_syncs_nothing_and_the_next_one_does_again(file):
    def level(db):
        return db.execute("PRAGMA synchronous").fetchone()[0]

    seen = [file.submit(level, mark=mark).result() for mark in ("", SOFT, SOFT, "", SOFT)]
    assert seen == [2, 1, 1, 2, 1]
    file.submit(insert(5), mark=SOFT).result()
    assert rows(file) == [5]
