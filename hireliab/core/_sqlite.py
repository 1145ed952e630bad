"""
One SQLite file with one writer: durable writes that share their fsync.

Every write goes through one thread that owns the only writing connection: it drains its queue and commits the
whole batch at once. While a commit waits for the disk the next batch gathers, so N threads share one fsync and a
lone thread pays exactly one; there is no artificial delay. Order is kept, so what is durable is always a prefix of
what was asked for.

Decisions and their reasons
---------------------------
- WAL with synchronous=FULL: one fdatasync for each commit, and a commit that returned survives power loss.
- The writer alone checkpoints: SQLite before 3.51.3 can corrupt a WAL that two connections checkpoint at once.
- An error from COMMIT poisons the file for this process. A failed fsync must never be retried: the kernel marks the
  pages clean, and a second fsync would succeed without the data (Rebello et al., ATC 2020; PostgreSQL panics for
  the same reason).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from hireliab.core._threads import join_all, start_thread
from hireliab.errors import ClosedError, JournalCorruptError, JournalError, JournalPoisonedError

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_log = logging.getLogger("hireliab.sqlite")

BATCH = 512
"""Most operations in one commit: bounds the time that the first of them waits."""
CHECKPOINT_BYTES = 8 * 1024 * 1024
"""Size of the WAL at which the writer copies it back into the file."""
_PRAGMAS = (
    ("journal_mode", "wal"),
    ("synchronous", 2),
    ("wal_autocheckpoint", 0),
    ("busy_timeout", 30000),
    ("foreign_keys", 1),
    ("mmap_size", 0),
)


class SQLiteFile:
    """
    A file that one thread writes and anybody reads.

    Args:
        path: The file; it is made with mode 0600 in an existing folder.
        what: A word for the thread's name, such as "journal-main".
        application_id: Marks the file as ours in its header; another file is refused.
        schema: For each version from 1 on, the script that makes it from the one before.

    Guarantees: `write` returns after the operation is on disk. Operations are applied in the order of their calls,
    and after a crash the file holds a prefix of them.
    """

    def __init__(self, path: Path, *, what: str, application_id: int, schema: tuple[str, ...]) -> None:
        self.path = path
        self._what = what
        self._application_id = application_id
        self._schema = schema
        self._pid = os.getpid()
        # guards _queue, _closing, _poison and _thread; notified for every operation and for close()
        self._work = threading.Condition()
        self._queue: deque[tuple[Operation[Any], Future[Any]]] = deque()
        self._closing = False
        self._poison: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None  # the writer thread's own after open()
        self._submitted = 0
        self._settled = 0  # the writer thread's; read without the lock only to skip a wait that is not needed
        self.commits = 0
        self.operations = 0

    def open(self) -> None:
        """
        Open or make the file, check that it is ours, bring its schema up to date and start the writer.

        Raises:
            JournalCorruptError: Damaged, of another program, or of a newer version.
        """
        new = not self.path.exists()
        if new:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=256)
        try:
            self._check_owner(connection)
            for name, wanted in _PRAGMAS:
                connection.execute(f"PRAGMA {name}={wanted}").fetchall()
                got = connection.execute(f"PRAGMA {name}").fetchone()
                if got is None or got[0] != wanted:
                    raise JournalError(f"{self.path}: PRAGMA {name} is {got}, wanted {wanted}; use a local disk")
            self._migrate(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise JournalCorruptError(f"{self.path}: not a readable SQLite file ({error}); move it away") from error
        except BaseException:
            connection.close()
            raise
        if new:
            _sync_folder(self.path.parent)
        self._connection = connection
        self._thread = start_thread(self._run, name=f"hireliab.sqlite.{self._what}")

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if owner == self._application_id or (owner == 0 and tables == 0):
            return
        raise JournalCorruptError(
            f"{self.path}: the file belongs to another program (application id {owner:#x}); choose another folder"
        )

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(self._schema):
            raise JournalCorruptError(
                f"{self.path}: schema version {version} is newer than this hireliab's {len(self._schema)}; update it"
            )
        for number in range(version, len(self._schema)):
            connection.execute("BEGIN IMMEDIATE")
            for statement in self._schema[number].split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id={self._application_id}")
            connection.execute(f"PRAGMA user_version={number + 1}")
            connection.execute("COMMIT")

    # -- writing ----------------------------------------------------------------------------------------------

    def submit(self, operation: Operation[T]) -> Future[T]:
        """
        Queue an operation; it runs on the writer thread inside a transaction.

        Returns:
            A future that is done when the operation is on disk, or that holds why it is not: the operation's own
            exception (only it was undone), or JournalPoisonedError.

        Raises:
            ClosedError: After close().
            JournalPoisonedError: An earlier commit failed.
        """
        future: Future[T] = Future()
        with self._work:
            if self._poison is not None:
                raise self._poisoned()
            if self._closing or self._thread is None:
                raise ClosedError(f"{self.path}: the journal is closed; open a new pipeline")
            if os.getpid() != self._pid:
                raise JournalError(f"{self.path}: opened by process {self._pid}; open your own after fork()")
            self._queue.append((operation, future))
            self._submitted += 1
            self._work.notify()
        return future

    def write(self, operation: Operation[T]) -> T:
        """Like `submit`, and wait until it is on disk."""
        return self.submit(operation).result()

    @property
    def poisoned(self) -> bool:
        """Whether a commit failed: nothing can be written any more."""
        return self._poison is not None

    def _poisoned(self) -> JournalPoisonedError:
        error = JournalPoisonedError(f"{self.path}: a write failed ({self._poison}); restart to read what is on disk")
        error.__cause__ = self._poison
        return error

    def _run(self) -> None:
        connection = self._connection
        assert connection is not None
        while True:
            with self._work:
                while not self._queue and not self._closing:
                    self._work.wait()
                if not self._queue:
                    break
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            self._commit(connection, batch)
        with contextlib.suppress(sqlite3.Error):  # a checkpoint only saves the next start some work
            if self._poison is None:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[tuple[Operation[Any], Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            if self._poison is not None:
                raise self._poisoned()
            connection.execute("BEGIN IMMEDIATE")
            for operation, future in batch:
                done.append((future, *self._apply(connection, operation)))
            connection.execute("COMMIT")
        except BaseException as error:
            with self._work:
                self._poison = self._poison or error
            _log.critical("%s: a commit of %d operations failed: %s; no order is sent any more", self.path, len(batch), error)
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            for _, future in batch:
                future.set_exception(self._poisoned())
            return
        self.commits += 1
        self.operations += len(batch)
        self._settled += len(batch)
        for future, result, failure in done:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
        self._checkpoint_when_large(connection)

    @staticmethod
    def _apply(connection: sqlite3.Connection, operation: Operation[Any]) -> tuple[Any, BaseException | None]:
        """Run one operation in a savepoint, so that its own mistake undoes nothing of its neighbours."""
        connection.execute("SAVEPOINT operation")
        try:
            result = operation(connection)
        except (sqlite3.OperationalError, sqlite3.InternalError):
            raise  # the disk, not the operation: the whole commit is lost
        except Exception as error:
            connection.execute("ROLLBACK TO operation")
            connection.execute("RELEASE operation")
            return None, error
        connection.execute("RELEASE operation")
        return result, None

    def _checkpoint_when_large(self, connection: sqlite3.Connection) -> None:
        wal = self.path.with_name(self.path.name + "-wal")
        try:
            if wal.stat().st_size > CHECKPOINT_BYTES:
                # Not TRUNCATE: it would wait for readers. RESTART would too. PASSIVE copies what it can.
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except (OSError, sqlite3.Error) as error:
            _log.warning("%s: checkpoint failed: %s; the file goes on growing", self.path, error)

    def flush(self) -> None:
        """Wait until what was submitted before is on disk, so that a reader sees it; free when nothing is pending."""
        with self._work:
            pending = self._submitted != self._settled and self._poison is None and not self._closing
        if pending:
            self.write(lambda _: None)

    # -- reading ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A short-lived connection that can only read and never checkpoints; sees what is committed."""
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA query_only=1")
            connection.execute("PRAGMA busy_timeout=30000")
            yield connection
        finally:
            connection.close()

    def close(self, *, timeout: float = 10.0) -> bool:
        """Write what is queued, checkpoint, close; idempotent. Returns whether the writer ended in time (seconds)."""
        with self._work:
            self._closing = True
            self._work.notify_all()
            thread = self._thread
        return thread is None or not join_all([thread], timeout=timeout)


def _sync_folder(folder: Path) -> None:
    """Make the file's name durable; Windows cannot open a folder and needs no such thing."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
