"""
One SQLite file with one writer: durable writes that share their fsync.

Every write goes through one thread that owns the only writing connection: it drains its queue and commits the
whole batch at once. While a commit waits for the disk the next batch gathers, so N threads share one fsync and a
lone thread pays exactly one; a barrier is never delayed to gather more. What is no barrier (`post`) rides on the next
one, or is committed by itself when none comes within `LINGER`. Order is kept, so what is durable is always a prefix
of what was asked for.

Decisions and their reasons
---------------------------
- WAL with synchronous=FULL: one fdatasync for each commit, and a commit that returned survives power loss.
- The writer alone checkpoints: SQLite before 3.51.3 can corrupt a WAL that two connections checkpoint at once.
- An I/O error poisons the file for this process. A failed fsync must never be retried: the kernel marks the pages
  clean, and a second fsync would succeed without the data (Rebello et al., ATC 2020; PostgreSQL panics for the same
  reason). So does every error that nobody foresaw: without its writer the file would take writes and keep none.
- A full disk is no failed fsync: SQLite rolls back cleanly. What begins something new is refused from then on, and
  the ballast is deleted, so that the rest of the batch fits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from hireliab.core import _kill_points
from hireliab.core._metrics import SECONDS, SIZES, Histogram
from hireliab.core._sqlite_disk import (
    Ballast,
    LogLength,
    free_bytes,
    is_full,
    network_type_of,
)
from hireliab.core._sqlite_open import open_to_write
from hireliab.core._sqlite_readers import Readers, connect_to_read
from hireliab.core._sqlite_write import OWN_MISTAKES, Operation, Write, in_savepoint, roll_back, words_of
from hireliab.core._threads import join_all, start_thread
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ClosedError, JournalError, JournalPoisonedError

T = TypeVar("T")

_log = logging.getLogger("hireliab.sqlite")

BATCH = 512
"""Most operations in one commit: bounds the time that the first of them waits."""
LINGER = 0.05
"""Seconds that a write which nobody waits for may stay in memory: longer than most verdicts take, short for a crash."""
CHECKPOINT_BYTES = 32 * 1024 * 1024
"""Use of the WAL at which the writer copies it back into the file also when it is busy: two more fsyncs."""
IDLE_CHECKPOINT_BYTES = 1024 * 1024
"""The same when it is idle."""
INTENT, VERDICT = "intent", "verdict"
"""Marks of writes: one that begins something new, which a full disk refuses; and one that tells how it ended."""
SOFT = "soft"
"""Mark of a write that need not survive power loss, so that a commit of such writes alone waits for no disk."""
_WARM = 20
"""Waits of `LINGER` without work after which the writer is idle."""
_IDLE = 5.0
"""Seconds between two looks of the idle writer."""
_SPACE_CHECK = 1.0
"""Seconds between two looks at a full disk."""
_LOOK_BYTES = 4 * 1024 * 1024
"""Of `CHECKPOINT_BYTES`, for each of which one commit goes by without a look at the log's length."""
_READERS_WAIT = 2.0
"""Seconds that close() waits for readers."""
_AWAKE, _LINGERING, _ASLEEP = range(3)
_PRAGMAS: tuple[tuple[str, str | int], ...] = (
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
        ballast: Bytes that are kept free for the last writes on a full disk, in a file `ballast` beside it.
        idle: Called as an operation when there is nothing else to do; returns the seconds until it wants to be again.
        guard: Where several processes write the file: held around whatever writes, copies the log, opens or closes.
        ended: Called by the writer's thread once it has closed the file, however late.
        clock: For lingering and measuring.

    Guarantees: `write` returns after the operation is on disk. Operations are applied in the order of their calls,
    and after a crash the file holds a prefix of them.
    """

    def __init__(
        self,
        path: Path,
        *,
        what: str,
        application_id: int,
        schema: tuple[str, ...],
        ballast: int = 0,
        idle: Operation[float] | None = None,
        guard: AbstractContextManager[object] | None = None,
        ended: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.path = path
        self._what = what
        self._application_id = application_id
        self._schema = schema
        self._ballast = Ballast(path.with_name("ballast"), ballast)
        self._idle = idle
        self._guard = guard or contextlib.nullcontext()
        self._ended = ended
        self._clock = clock
        self._pid = os.getpid()
        self._readers = Readers(path, clock)
        # Guards everything down to the blank line. Re-entrant, so that a signal handler that comes upon the thread that
        # has it can be refused; a plain lock would never be released, and the writer would wait for it, too.
        self._lock = threading.RLock()
        self._inside = False  # a write is being queued
        self._queue: deque[Write[Any]] = deque()
        self._urgent = False  # somebody waits for what is queued
        self._busy = False  # a batch is being written
        self._sleeping = _AWAKE
        self._closing = False
        self._poison: BaseException | None = None
        self._thread: threading.Thread | None = None

        self._bell = threading.Lock()  # held, except while the writer is to wake up
        self._bell.acquire()
        # From here on the writer thread's own after open(); figures are read by anybody.
        self._connection: sqlite3.Connection | None = None
        self._log_length: LogLength | None = None
        self._checkpoint_at = 0
        self._full = False
        self._space_checked = -1e9
        self._idle_due = 0.0
        self._is_soft = False  # what the connection is set to
        self._batch: list[Write[Any]] = []  # taken from the queue last
        self._quiet = 0  # waits of LINGER without work, one after the other
        self.commits = 0
        self.operations = 0
        self.barriers = 0
        self.batch_sizes = Histogram(SIZES)
        self.commit_seconds = Histogram(SECONDS)

    def open(self) -> None:
        """
        Open or make the file, check that it is ours, bring its schema up to date and start the writer.

        Raises:
            JournalCorruptError: Damaged, of another program, or of a newer version.
            JournalError: On a network file system, or the folder cannot be written, or the disk is full, or no thread
                can be started.
        """
        kind = network_type_of(self.path.parent)
        if kind is not None:
            raise JournalError(f"{self.path}: on a network file system ({kind}), whose locks lie; use a local disk")
        try:
            with self._guard:
                opened = open_to_write(
                    self.path,
                    ballast=self._ballast,
                    pragmas=tuple(_PRAGMAS),
                    application_id=self._application_id,
                    schema=self._schema,
                )
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be opened ({error.strerror}); is the folder writable?") from error
        self._connection, self._full = opened.connection, opened.full
        self._log_length = LogLength(Path(f"{self.path}-wal"), opened.page_size)
        self._idle_due = self._clock.monotonic()
        if self._full:
            _log.critical("%s: the disk is full; nothing new is begun until there is space", self.path)
        try:
            thread = start_thread(self._run, name=f"hireliab.sqlite.{self._what}")
        except RuntimeError as error:  # too many threads
            self._end(opened.connection)
            raise JournalError(
                f"{self.path}: no thread can be started ({error}); end some, then open it again"
            ) from error
        with self._lock:
            self._thread = thread

    # -- writing ----------------------------------------------------------------------------------------------

    def submit(
        self,
        operation: Operation[T],
        *,
        atomic: bool = False,
        mark: str = "",
        then: Callable[[], None] | None = None,
    ) -> Write[T]:
        """
        Queue an operation that somebody waits for; it runs on the writer thread inside a transaction.

        Args:
            operation: What to do.
            atomic: It changes nothing when it raises, so that it needs no savepoint of its own.
            mark: `INTENT`, `VERDICT` or `SOFT` where it is one.
            then: Called by the writer when it is on disk, after whoever waits was told; what it raises is logged.

        Returns:
            A hold on it: `result()` waits until it is on disk, or says why it is not.

        Raises:
            ClosedError: After close().
            JournalPoisonedError: An earlier commit failed.
            JournalError: In a forked child, or in a signal handler that interrupted a write of its own thread.
        """
        write = Write(operation, atomic, mark, None, then)
        self._enqueue(write, urgent=True)
        return write

    def post(
        self,
        operation: Operation[Any],
        *,
        what: str,
        atomic: bool = False,
        mark: str = "",
        then: Callable[[], None] | None = None,
    ) -> None:
        """
        Queue an operation that nobody waits for: it rides on the next commit, or is committed after `LINGER`.

        Args:
            what: For the log, should it fail.
            operation, atomic, mark, then: As `submit`; raises what it raises.
        """
        self._enqueue(Write(operation, atomic, mark, what, then), urgent=False)

    def _enqueue(self, write: Write[Any], *, urgent: bool) -> None:
        if os.getpid() != self._pid:  # before the lock, which the parent's writer may have held at the fork
            raise JournalError(f"{self.path}: opened by process {self._pid}; open your own after fork()")
        ring = True  # also when Ctrl-C strikes in the block
        try:
            with self._lock:
                ring = False
                if self._poison is not None:
                    raise self._poisoned()
                if self._closing or self._thread is None:
                    raise ClosedError(f"{self.path}: the journal is closed; open a new pipeline")
                if self._inside:
                    raise JournalError(
                        f"{self.path}: a signal handler interrupted a write; it was not written, try after it"
                    )
                self._inside = True
                try:
                    ring = self._sleeping >= (_LINGERING if urgent else _ASLEEP)
                    self._urgent = self._urgent or urgent
                    self._queue.append(write)
                finally:
                    self._inside = False
        finally:
            if ring:
                self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()

    def write(self, operation: Operation[T]) -> T:
        """Like `submit`, and wait until it is on disk."""
        return self.submit(operation).result()

    @property
    def poisoned(self) -> bool:
        """Whether a commit failed: nothing can be written any more."""
        return self._poison is not None

    @property
    def full(self) -> bool:
        """Whether the disk is full, so that nothing new may begin."""
        return self._full

    def _poisoned(self) -> JournalPoisonedError:
        error = JournalPoisonedError(
            f"{self.path}: a write failed ({words_of(self._poison)}); restart to read what is on disk"
        )
        error.__cause__ = self._poison
        return error

    def _run(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            while True:
                batch = self._next_batch()
                if batch is None:
                    break
                if batch:
                    self._commit(connection, batch)
                else:
                    self._be_idle(connection)
        except BaseException as error:  # nobody else hears of it, and those who wait would wait for ever
            self._break_off(error)
        try:
            self._end(connection)
        finally:
            self._ended()

    def _break_off(self, error: BaseException) -> None:
        """Nothing is written any more; whoever waits is told, and whoever comes is refused."""
        with self._lock:
            self._poison = self._poison or error
            self._busy = False
            left = [*self._batch, *self._queue]
            self._queue.clear()
        for write in left:
            # What was settled keeps what it was told. Of the others those of the last batch may be on disk.
            with contextlib.suppress(Exception):  # a log handler of the user's
                write.fail(self._poisoned())
        with contextlib.suppress(Exception):
            _log.critical(
                "%s: the writer ended: %s; no order is sent any more", self.path, words_of(error), exc_info=error
            )

    def _next_batch(self) -> list[Write[Any]] | None:
        """Wait for work; an empty batch means that there was none for a while, None that it is time to end."""
        lingered = False
        while True:
            with self._lock:
                self._busy = False
                self._sleeping = _AWAKE
                if self._queue and (self._urgent or lingered or self._closing):
                    batch: list[Write[Any]] = []
                    self._batch = batch
                    batch.extend(self._queue.popleft() for _ in range(min(BATCH, len(self._queue))))
                    self._urgent = bool(self._queue)
                    self._busy = True
                    self._quiet = 0
                    return batch
                if self._closing:
                    return None
                if self._quiet >= _WARM and not self._queue:
                    return []
                self._quiet = 0 if self._queue else self._quiet + 1
                self._sleeping = _LINGERING
            lingered = not self._clock.acquire(self._bell, LINGER)

    def _be_idle(self, connection: sqlite3.Connection) -> None:
        """What waits for a quiet time; then sleep until there is work."""
        if self._poison is None:
            if self._log_length is not None and self._log_length.exceeds(min(IDLE_CHECKPOINT_BYTES, CHECKPOINT_BYTES)):
                self._checkpoint(connection)
            if self._full:
                self._is_still_full()
            elif self._idle is not None and self._clock.monotonic() >= self._idle_due:
                housework = Write(self._idle, False, "", "housework")
                self._commit(connection, [housework])
                self._idle_due = self._clock.monotonic() + (60.0 if housework.value is None else housework.value)
                if housework.value == 0.0:
                    return  # there is more of it, if nothing else came
        with self._lock:
            if self._queue or self._closing:
                return
            self._sleeping = _ASLEEP
        if self._clock.acquire(self._bell, _IDLE):
            self._quiet = 0

    def _commit(self, connection: sqlite3.Connection, batch: list[Write[Any]]) -> None:
        began = self._clock.monotonic()
        changes = connection.total_changes
        try:
            if self._poison is not None:
                raise self._poisoned()
            if self._full and self._is_still_full():
                batch = self._without_intents(batch)
            with self._guard:
                try:
                    self._transact(connection, batch)
                except sqlite3.Error as error:
                    if not is_full(error):
                        raise
                    self._make_room(connection)
                    batch = self._without_intents(batch)
                    self._transact(connection, batch)
        except BaseException as error:
            self._give_up(connection, batch, error)
            return
        waited_for = sum(write.what is None for write in batch)
        if _kill_points.ARMED and waited_for:
            _kill_points.at("L03")
        with self._lock:
            self._busy = False
        for write in batch:
            write.settle()
        self.operations += len(batch)
        self.barriers += waited_for
        if connection.total_changes == changes:
            return  # nothing was written, so nothing was synced
        self.commits += 1
        self.batch_sizes.observe(len(batch))
        self.commit_seconds.observe(self._clock.monotonic() - began)
        self._checkpoint_when_large(connection)

    def _transact(self, connection: sqlite3.Connection, batch: Sequence[Write[Any]]) -> None:
        """Apply the batch and make it durable; afterwards each write knows its value or its own error."""
        if not batch:
            return
        if _kill_points.ARMED and any(write.mark == INTENT for write in batch):
            _kill_points.at("L02")
        soft = all(write.mark == SOFT for write in batch)
        if soft is not self._is_soft:
            connection.execute(f"PRAGMA synchronous={1 if soft else 2}")
            self._is_soft = soft
        connection.execute("BEGIN IMMEDIATE")
        for write in batch:
            try:
                write.error = None
                write.value = write.operation(connection) if write.atomic else in_savepoint(connection, write.operation)
            except OWN_MISTAKES as error:
                write.error = error
            except sqlite3.Error:
                raise  # the disk, not the operation: the whole commit is lost
            except Exception as error:
                write.error = error
        if _kill_points.ARMED and any(write.mark == VERDICT for write in batch):
            _kill_points.at("L14")
        connection.execute("COMMIT")

    def _give_up(self, connection: sqlite3.Connection, batch: Sequence[Write[Any]], error: BaseException) -> None:
        self._poison_with(error, f"a commit of {len(batch)} operations failed")
        roll_back(connection)
        with self._lock:
            self._busy = False
        for write in batch:
            write.fail(self._poisoned())

    def _poison_with(self, error: BaseException, what: str) -> None:
        with self._lock:
            first = self._poison is None
            self._poison = self._poison or error
        if first:
            _log.critical("%s: %s: %s; no order is sent any more", self.path, what, words_of(error))

    # -- a full disk ------------------------------------------------------------------------------------------

    def _make_room(self, connection: sqlite3.Connection) -> None:
        """The disk is full: undo the batch, and give the ballast for what is left of it."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._full = True
        self._space_checked = self._clock.monotonic()
        self._ballast.release()
        _log.critical("%s: the disk is full; nothing new is begun until there is space", self.path)

    def _without_intents(self, batch: Sequence[Write[Any]]) -> list[Write[Any]]:
        """Refuse what would begin something new; the rest."""
        rest = []
        for write in batch:
            if write.mark == INTENT:
                write.fail(JournalError(f"{self.path}: disk full: nothing was sent; free some space"))
            else:
                rest.append(write)
        return rest

    def _is_still_full(self) -> bool:
        """Look at the disk, once a second at most; with twice the ballast free, take it back and go on."""
        now = self._clock.monotonic()
        if now - self._space_checked >= _SPACE_CHECK:
            self._space_checked = now
            with contextlib.suppress(OSError):
                if free_bytes(self.path.parent) >= 2 * self._ballast.size and self._ballast.ensure():
                    self._full = False
                    _log.warning("%s: there is space again", self.path)
        return self._full

    # -- checkpoints ------------------------------------------------------------------------------------------

    def _checkpoint_when_large(self, connection: sqlite3.Connection) -> None:
        length = self._log_length
        # A look is two system calls, each of which lets go of the interpreter's lock: not at every commit.
        if length is None or self.commits % max(1, CHECKPOINT_BYTES // _LOOK_BYTES):
            return
        if self._checkpoint_at and not length.exceeds(CHECKPOINT_BYTES):
            self._checkpoint_at = 0  # it was begun anew
        if length.exceeds(max(self._checkpoint_at, CHECKPOINT_BYTES)):
            self._checkpoint(connection)
            # Where a reader holds it back, not again at every commit.
            self._checkpoint_at = max(self._checkpoint_at, CHECKPOINT_BYTES) + CHECKPOINT_BYTES

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """
        Copy the log into the file; the next write begins it anew when no reader needs it.

        Not TRUNCATE: it would wait for readers. RESTART would too. PASSIVE copies what it can.
        """
        try:
            with self._guard:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except (sqlite3.Error, OSError) as error:
            if is_full(error):
                _log.warning("%s: checkpoint failed: %s; the log goes on growing", self.path, error)
            else:
                self._poison_with(error, "a checkpoint failed")
        if _kill_points.ARMED:
            _kill_points.at("L26")

    def _end(self, connection: sqlite3.Connection) -> None:
        """Close: readers first, because the last connection that closes checkpoints."""
        alone = self._readers.close(_READERS_WAIT)
        if self._log_length is not None:
            self._log_length.close()
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(self._guard)
            if self._poison is not None:
                # Nothing is copied after a failed sync: a connection that is not the last one to close does not.
                with contextlib.suppress(sqlite3.Error, OSError):
                    guard = connect_to_read(self.path)
                    stack.callback(guard.close)
                    guard.execute("PRAGMA user_version").fetchall()
            elif alone:
                with contextlib.suppress(sqlite3.Error):  # a checkpoint only saves the next start some work
                    connection.execute("PRAGMA busy_timeout=200")  # a reader of another process may keep it
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            else:
                _log.warning("%s: closed while somebody reads; the next start copies the log", self.path)
            connection.close()

    def flush(self) -> None:
        """Wait until what was asked for before is on disk, so that a reader sees it; free when nothing is pending."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            pending = (self._queue or self._busy) and self._poison is None and not self._closing
            # A signal handler sees what is on disk: its own thread holds up the rest.
            pending = pending and not self._inside
        if pending:
            self.write(lambda _: None)

    # -- reading ----------------------------------------------------------------------------------------------

    def reader(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection for a block that can only read and never checkpoints; sees what is committed."""
        return self._readers.lend()

    def close(self, *, timeout: float = 10.0) -> bool:
        """
        Write what is queued, checkpoint, close; idempotent. In a forked child it does nothing.

        Args:
            timeout: Seconds.

        Returns:
            Whether the writer ended in time. In a signal handler that interrupted a write of its own thread it cannot: the
            write comes first, when the handler has returned; then the writer ends by itself.
        """
        if os.getpid() != self._pid:  # before the lock, which another thread of the parent may have held at the fork
            return True
        with self._lock:
            self._closing = True
            thread, interrupted = self._thread, self._inside
        self._ring()
        if interrupted:
            return False
        return thread is None or not join_all([thread], timeout=timeout)
