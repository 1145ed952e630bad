"""
SQLiteJournal: the embedded journal, one folder with one owner.

The folder holds journal.db (with its -wal and -shm), ballast, journal.lock and owner.pid; 0700, and 0600 for the
files. docs/journal-format.rst describes them. `open_reader` reads a journal beside its bot, or without one.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hireliab.core._sqlite import INTENT, VERDICT, SQLiteFile
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ClosedError, ConfigError, IdempotencyConflictError, JournalError
from hireliab.exchange._journal_lock import FolderLock
from hireliab.exchange._journal_reader import APPLICATION_ID, JournalReader, open_reader
from hireliab.exchange._journal_reads import JournalReads
from hireliab.exchange._journal_retention import Retention
from hireliab.exchange._journal_rows import (
    DROP_EVENTS,
    INSERT_EVENT,
    INSERT_FILL,
    INSERT_LOG,
    MARK_PUBLISHED,
    SCHEMA,
    UPSERT,
    to_event_row,
    to_fill_row,
    to_log,
    to_row,
)
from hireliab.exchange.adapter import Account, Fill
from hireliab.exchange.journal import JournalStats
from hireliab.exchange.transaction import Record, State
from hireliab.messaging.outbox import OutboxEvent

__all__ = ["APPLICATION_ID", "JournalReader", "SQLiteJournal", "open_reader"]

_log = logging.getLogger("hireliab.journal")

BALLAST = 1024 * 1024
"""Bytes kept free for the last records on a full disk: a commit takes about 30 KiB, and holds many records."""
DURABILITIES = ("strict", "relaxed")
_SCHEMA = SCHEMA
_INTENTS = (State.SUBMITTING, State.CANCELLING)
_BIND = "INSERT INTO meta VALUES ('account', ?) ON CONFLICT (key) DO NOTHING"
_WATERMARK = "INSERT OR REPLACE INTO meta VALUES ('watermark', ?)"


class SQLiteJournal(JournalReads):
    """
    The journal of one pipeline in one folder; see `hireliab.exchange.journal.Journal`.

    Args:
        folder: Made with mode 0700 when it is missing. A local disk: SQLite's WAL does not work over a network.
        durability: "strict" waits for the disk before a verdict is told. "relaxed" does not: what a power cut or a
            kill takes away then is found out from the exchange again at the next start, and a caller who was told
            may see its transaction undecided until then. Before a send both wait.
        retention_days: Finished transactions that did not change for so long are deleted with their log and fills;
            None keeps them for ever. An idempotency key is known as long as its transaction.
        clock: Of the retention, and of the writer's pauses.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        durability: str = "strict",
        retention_days: float | None = 30.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if durability not in DURABILITIES:
            raise ConfigError(
                f"durability: must be one of {', '.join(DURABILITIES)}, got {durability!r}", setting="durability"
            )
        if retention_days is not None and not retention_days >= 0:
            raise ConfigError(
                f"retention_days: must be at least 0 or None, got {retention_days!r}", setting="retention_days"
            )
        self.folder = Path(folder)
        self._relaxed = durability == "relaxed"
        self._retention = None if retention_days is None else Retention(retention_days * 86400.0, clock)
        self._clock = clock
        self._file: SQLiteFile | None = None
        self._lock_file: FolderLock | None = None
        # Guards the steps of note_watermark. Re-entrant, because a signal handler may ask the journal on the thread that
        # has it. The writer's thread never takes it: the handler may wait for a commit.
        self._lock = threading.RLock()
        self._watermark = "0"
        self._watermark_waits = False  # a write of it is queued, and will take the newest
        self._wake: Callable[[], None] | None = None  # of the outbox
        self._told: dict[tuple[str, int], Record] = {}  # verdicts that were told and are not on disk yet

    def open(self) -> None:
        """
        Take the folder's lock and open the file.

        Raises:
            JournalLockedError: Another process, or another pipeline of this one, owns the folder.
            JournalCorruptError: The file is damaged, foreign or of a newer version.
            JournalError: The folder cannot be made.
        """
        lock = self._lock_file = FolderLock(self.folder)
        file = SQLiteFile(
            self.folder / "journal.db",
            what=f"journal-{self.folder.name}",
            application_id=APPLICATION_ID,
            schema=_SCHEMA,
            ballast=BALLAST,
            idle=None if self._retention is None else self._retention.sweep,
            ended=lock.release,
            clock=self._clock,
        )
        self._told.clear()
        try:
            lock.acquire()
            self._file = file
            file.open()
            self._watermark, self._watermark_waits = self._meta("watermark") or "0", False
            if file.full and not self.unfinished():
                raise JournalError(
                    f"journal {self.folder}: disk full, and nothing to recover; free at least {2 * BALLAST} bytes"
                )
        except BaseException:
            self.close()
            raise
        _log.info("journal: %s", self.folder)

    @property
    def _db(self) -> SQLiteFile:
        if self._file is None:
            raise ClosedError(f"journal {self.folder}: not open; start the pipeline")
        return self._file

    @property
    def poisoned(self) -> bool:
        """Whether a write failed: nothing more is sent."""
        return self._db.poisoned

    def bind(self, account: Account) -> None:
        """
        Write whose orders these are.

        Raises:
            JournalError: The journal holds the orders of another account, host or venue.
        """
        if self.bound is None:
            value = json.dumps({"venue": account.venue, "host": account.host, "identity": account.identity})
            # Two first orders may both come here: one binds, and both look.
            self._db.write(lambda db: db.execute(_BIND, (value,)) and None)
        known = self.bound
        if known is not None and known != account:
            raise JournalError(
                f"journal {self.folder}: holds orders of {known.identity} at {known.venue} ({known.host}), not of"
                f" {account.identity} at {account.venue} ({account.host}); give this pipeline another name or folder"
            )

    def write(self, record: Record, *, cause: str, barrier: bool, event: OutboxEvent | None = None) -> None:
        """See `Journal.write`."""
        told = None if event is None else to_event_row(event)
        operation = partial(_write_row, record, to_row(record), to_log(record, cause), told)
        mark, then = "", None if event is None else self._wake
        if record.state.is_terminal:
            mark = VERDICT
            # FAILED without a key may have freed one, and `find_key` must not find it any more.
            if self._relaxed and (record.state is not State.FAILED or record.idempotency_key is not None):
                barrier, then = False, partial(self._written, record, then)
                self._told[record.txn_id, record.version] = record
        elif barrier and record.state in _INTENTS:
            mark = INTENT
        if barrier:
            self._db.submit(operation, atomic=True, mark=mark, then=then).result()
        else:
            what = f"transaction {record.txn_id}: version {record.version}"
            self._db.post(operation, what=what, atomic=True, mark=mark, then=then)

    def write_many(
        self, records: Sequence[tuple[Record, str]], *, barrier: bool, events: Sequence[OutboxEvent] = ()
    ) -> None:
        """See `Journal.write_many`."""
        if not records:
            return
        rows = [(record, to_row(record), to_log(record, cause)) for record, cause in records]
        operation = partial(_write_rows, rows, [to_event_row(event) for event in events])
        then = self._wake if events else None
        if barrier:
            self._db.submit(operation, then=then).result()
        else:
            what = f"transaction {records[0][0].txn_id} and {len(records) - 1} others"
            self._db.post(operation, what=what, then=then)

    def write_fills(self, txn_id: str, fills: Sequence[Fill]) -> None:
        """See `Journal.write_fills`."""
        rows = [to_fill_row(txn_id, fill) for fill in fills]
        self._db.post(lambda db: db.executemany(INSERT_FILL, rows) and None, what=f"transaction {txn_id}: fills")

    def note_watermark(self, order_id: str) -> None:
        """See `Journal.note_watermark`; an older id is ignored."""
        with self._lock:
            if int(order_id) <= int(self._watermark):
                return
            self._watermark = order_id
            if self._watermark_waits:
                return
            self._watermark_waits = True
        try:
            self._db.post(self._write_watermark, what=f"watermark {order_id}", atomic=True)
        except BaseException:
            with self._lock:
                self._watermark_waits = False
            raise

    def _write_watermark(self, db: sqlite3.Connection) -> None:
        # The newest at this moment, so it may be ahead of the records around it: an id that was seen stays seen. In this
        # order, as note_watermark has it the other way round: a newer one is either read here or queued anew.
        self._watermark_waits = False
        db.execute(_WATERMARK, (self._watermark,))

    @property
    def watermark(self) -> str:
        """The newest own venue order id known, "0" for none."""
        return self._watermark

    def note_fact(self, name: str, value: str | None) -> None:
        """See `Journal.note_fact`."""
        key = f"fact {name}"
        if value is None:
            self._db.post(lambda db: db.execute("DELETE FROM meta WHERE key=?", (key,)) and None, what=key, atomic=True)
            return
        self._db.post(
            lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value)) and None,
            what=key,
            atomic=True,
        )

    # -- events -------------------------------------------------------------------------------------------------

    def attach_outbox(self, wake: Callable[[], None]) -> None:
        """See `Journal.attach_outbox`; the writer's thread calls `wake`."""
        self._wake = wake
        if self._retention is not None:
            self._retention.has_outbox = True

    def mark_published(self, seqs: Sequence[int]) -> None:
        """See `Journal.mark_published`."""
        now = self._clock.time()
        rows = [(now, seq) for seq in seqs]
        self._db.post(lambda db: db.executemany(MARK_PUBLISHED, rows) and None, what=f"marks of {len(rows)} events")

    def drop_events(self, count: int) -> int:
        """See `Journal.drop_events`."""
        return self._db.write(lambda db: db.execute(DROP_EVENTS, (count,)).rowcount)

    def stats(self) -> JournalStats:
        """What the journal did since it was opened, and how large it is."""
        file = self._db
        return JournalStats(
            commits=file.commits,
            operations=file.operations,
            barriers=file.barriers,
            batch_sizes=file.batch_sizes.snapshot(),
            commit_seconds=file.commit_seconds.snapshot(),
            file_bytes=_size(file.path),
            wal_bytes=_size(Path(f"{file.path}-wal")),
            poisoned=file.poisoned,
            full=file.full,
        )

    def _query(self, sql: str, values: Sequence[Any] = (), /) -> list[tuple[Any, ...]]:
        with self._db.reader() as connection:
            return connection.execute(sql, values).fetchall()

    def _settle(self) -> None:
        self._db.flush()

    def find_key(self, idempotency_key: str) -> Record | None:
        """See `Journal.find_key`."""
        return self._told_before_written("idempotency_key", idempotency_key) or super().find_key(idempotency_key)

    def find_order(self, order_id: str) -> Record | None:
        """See `Journal.find_order`."""
        return self._told_before_written("order_id", order_id) or super().find_order(order_id)

    def _told_before_written(self, field: str, value: str) -> Record | None:
        """A verdict that was told already (relaxed), so that nobody may find the record as it was before it."""
        if not self._relaxed:
            return None
        by_order = field == "order_id"  # a cancel's row has its parent's
        verdicts = self._told.copy().values()
        found = [r for r in verdicts if getattr(r, field) == value and not (by_order and r.kind != "ORDER")]
        return max(found, key=lambda record: record.version, default=None)

    def _written(self, record: Record, then: Callable[[], None] | None) -> None:
        self._told.pop((record.txn_id, record.version), None)
        if then is not None:
            then()

    def close(self) -> None:
        """See `Journal.close`."""
        file, lock = self._file, self._lock_file
        if file is None:
            if lock is not None:  # an open() that was interrupted
                lock.release()
            return
        if file.close():  # may be interrupted, and done again
            if lock is not None:
                lock.release()
        else:
            _log.error("journal %s: its writer has not ended yet; the folder stays locked until it does", self.folder)
        self._file = None


def _write_row(
    record: Record, row: tuple[Any, ...], log: tuple[Any, ...], event: tuple[Any, ...] | None, db: sqlite3.Connection
) -> None:
    """Compare and set; when it raises, it changed nothing."""
    try:
        changed = db.execute(UPSERT, row).rowcount
    except sqlite3.IntegrityError as error:
        raise _refusal(error, record) from error
    if changed == 0:
        raise _stale(record, *db.execute("SELECT version, epoch FROM txn WHERE txn_id=?", (record.txn_id,)).fetchone())
    db.execute(INSERT_LOG, log)
    if event is not None:
        db.execute(INSERT_EVENT, event)


def _write_rows(
    rows: Sequence[tuple[Record, tuple[Any, ...], tuple[Any, ...]]],
    events: Sequence[tuple[Any, ...]],
    db: sqlite3.Connection,
) -> None:
    for record, row, log in rows:
        _write_row(record, row, log, None, db)
    db.executemany(INSERT_EVENT, events)


def _stale(record: Record, version: int, epoch: int) -> JournalError:
    if record.epoch < epoch:
        return JournalError(
            f"transaction {record.txn_id}: epoch {record.epoch} is stale, another pipeline claimed it in epoch {epoch};"
            " nothing was written"
        )
    return JournalError(
        f"transaction {record.txn_id}: version {record.version} is not the next one, {version} is stored already"
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _refusal(error: sqlite3.IntegrityError, record: Record) -> Exception:
    """What a violated constraint means."""
    if "idempotency_key" in str(error):
        return IdempotencyConflictError(
            f"idempotency key {record.idempotency_key!r}: held by another transaction; nothing was sent",
            idempotency_key=record.idempotency_key or "",
        )
    if "order_id" in str(error):
        return JournalError(f"venue order {record.order_id}: belongs to another transaction than {record.txn_id}")
    return JournalError(f"transaction {record.txn_id}: version {record.version} cannot be stored ({error})")
