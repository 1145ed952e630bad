"""
SQLiteJournal: the embedded journal, one folder with one owner.

The folder holds journal.db (with its -wal and -shm), journal.lock and owner.pid; 0700, and 0600 for the files.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from hireliab.core._sqlite import SQLiteFile
from hireliab.errors import ClosedError, IdempotencyConflictError, JournalError
from hireliab.exchange._journal_lock import FolderLock
from hireliab.exchange._journal_rows import (
    INSERT_FILL,
    INSERT_LOG,
    SCHEMA,
    SELECT,
    SELECT_FILLS,
    UNFINISHED,
    UPSERT,
    from_fill_row,
    from_row,
    to_fill_row,
    to_log,
    to_row,
)
from hireliab.exchange.adapter import Account, Fill
from hireliab.exchange.transaction import Record

_log = logging.getLogger("hireliab.journal")

APPLICATION_ID = 0x48524C42  # "HRLB"
_SCHEMA = SCHEMA


class SQLiteJournal:
    """
    The journal of one pipeline in one folder; see `hireliab.exchange.journal.Journal`.

    Args:
        folder: Made with mode 0700 when it is missing. A local disk: SQLite's WAL does not work over a network.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._file: SQLiteFile | None = None
        self._lock_file: FolderLock | None = None
        self._lock = threading.Lock()  # guards _watermark
        self._watermark = "0"

    def open(self) -> None:
        """
        Take the folder's lock and open the file.

        Raises:
            JournalLockedError: Another process, or another pipeline of this one, owns the folder.
            JournalCorruptError: The file is damaged, foreign or of a newer version.
            JournalError: The folder cannot be made.
        """
        lock = FolderLock(self.folder)
        lock.acquire()
        file = SQLiteFile(
            self.folder / "journal.db",
            what=f"journal-{self.folder.name}",
            application_id=APPLICATION_ID,
            schema=_SCHEMA,
        )
        try:
            file.open()
            with file.reader() as connection:
                row = connection.execute("SELECT value FROM meta WHERE key='watermark'").fetchone()
        except BaseException:
            file.close()
            lock.release()
            raise
        self._watermark = "0" if row is None else row[0]
        self._file, self._lock_file = file, lock
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

    @property
    def bound(self) -> Account | None:
        """Whose orders these are, as written, or None for a new journal."""
        with self._db.reader() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key='account'").fetchone()
        return None if row is None else Account(**json.loads(row[0]))

    def bind(self, account: Account) -> None:
        """
        Write whose orders these are.

        Raises:
            JournalError: The journal holds the orders of another account, host or venue.
        """
        known = self.bound
        if known == account:
            return
        if known is not None:
            raise JournalError(
                f"journal {self.folder}: holds orders of {known.identity} at {known.venue} ({known.host}), not of"
                f" {account.identity} at {account.venue} ({account.host}); give this pipeline another name or folder"
            )
        value = json.dumps({"venue": account.venue, "host": account.host, "identity": account.identity})
        self._db.write(lambda db: db.execute("INSERT INTO meta VALUES ('account', ?)", (value,)) and None)

    def write(self, record: Record, *, cause: str, barrier: bool) -> None:
        """See `Journal.write`."""
        rows = [(record, to_row(record), to_log(record, cause))]
        future = self._db.submit(partial(_write_rows, rows))
        if barrier:
            future.result()
        else:
            future.add_done_callback(partial(_log_failure, record))

    def write_many(self, records: Sequence[tuple[Record, str]], *, barrier: bool) -> None:
        """See `Journal.write_many`."""
        if not records:
            return
        rows = [(record, to_row(record), to_log(record, cause)) for record, cause in records]
        future = self._db.submit(partial(_write_rows, rows))
        if barrier:
            future.result()
        else:
            future.add_done_callback(partial(_log_failure, records[0][0]))

    def write_fills(self, txn_id: str, fills: Sequence[Fill]) -> None:
        """See `Journal.write_fills`."""
        rows = [to_fill_row(txn_id, fill) for fill in fills]
        self._db.submit(lambda db: db.executemany(INSERT_FILL, rows) and None)

    def note_watermark(self, order_id: str) -> None:
        """See `Journal.note_watermark`; an older id is ignored."""
        with self._lock:
            if int(order_id) <= int(self._watermark):
                return
            self._watermark = order_id
        self._db.submit(
            lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES ('watermark', ?)", (order_id,)) and None
        )

    @property
    def watermark(self) -> str:
        """The newest own venue order id known, "0" for none."""
        with self._lock:
            return self._watermark

    def note_fact(self, name: str, value: str | None) -> None:
        """See `Journal.note_fact`."""
        if value is None:
            self._db.submit(lambda db: db.execute("DELETE FROM meta WHERE key=?", (f"fact {name}",)) and None)
            return
        row = (f"fact {name}", value)
        self._db.submit(lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row) and None)

    def fact(self, name: str) -> str | None:
        """See `Journal.fact`."""
        rows = self._query("SELECT value FROM meta WHERE key=?", (f"fact {name}",))
        return rows[0][0] if rows else None

    def facts(self, prefix: str) -> dict[str, str]:
        """See `Journal.facts`."""
        self._db.flush()
        rows = self._query("SELECT key, value FROM meta WHERE substr(key, 1, ?) = ?", (5 + len(prefix), f"fact {prefix}"))
        return {key.removeprefix("fact "): value for key, value in rows}

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._db.reader() as connection:
            return connection.execute(sql, values).fetchall()

    def unfinished(self) -> list[Record]:
        """See `Journal.unfinished`."""
        return [from_row(row) for row in self._query(UNFINISHED)]

    def get(self, txn_id: str) -> Record | None:
        """See `Journal.get`."""
        self._db.flush()
        rows = self._query(f"{SELECT} WHERE txn_id=?", (txn_id,))
        return from_row(rows[0]) if rows else None

    def find_key(self, idempotency_key: str) -> Record | None:
        """See `Journal.find_key`."""
        rows = self._query(f"{SELECT} WHERE idempotency_key=?", (idempotency_key,))
        return from_row(rows[0]) if rows else None

    def find_order(self, order_id: str) -> Record | None:
        """See `Journal.find_order`."""
        rows = self._query(f"{SELECT} WHERE order_id=? AND kind='ORDER'", (order_id,))
        return from_row(rows[0]) if rows else None

    def select(
        self, *, states: Sequence[str] | None = None, since: float | None = None, limit: int = 1000
    ) -> list[Record]:
        """See `Journal.select`."""
        self._db.flush()
        terms, values = [], list[Any]()
        if states is not None:
            terms.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if since is not None:
            terms.append("updated >= ?")
            values.append(since)
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        return [from_row(row) for row in self._query(f"{SELECT}{where} ORDER BY txn_id DESC LIMIT ?", [*values, limit])]

    def fills(self, txn_id: str) -> list[Fill]:
        """See `Journal.fills`."""
        return [from_fill_row(row) for row in self._query(SELECT_FILLS, (txn_id,))]

    def log(self, txn_id: str) -> list[tuple[float, int, str, int, str]]:
        """See `Journal.log`."""
        self._db.flush()
        return [
            (wall, version, state, attempt, cause)
            for wall, version, state, attempt, cause in self._query(
                "SELECT wall, version, state, attempt, cause FROM txn_log WHERE txn_id=? ORDER BY seq", (txn_id,)
            )
        ]

    def send_times(self, since: float) -> list[float]:
        """See `Journal.send_times`."""
        rows = self._query("SELECT wall FROM txn_log WHERE state='SUBMITTING' AND wall >= ?", (since,))
        return [row[0] for row in rows]

    def close(self) -> None:
        """See `Journal.close`."""
        file, lock = self._file, self._lock_file
        if file is None:
            return
        self._file = None
        if file.close():
            if lock is not None:
                lock.release()
        else:
            _log.error("journal %s: its writer does not end; the lock is kept until this process ends", self.folder)


def _write_rows(rows: Sequence[tuple[Record, tuple[Any, ...], tuple[Any, ...]]], db: sqlite3.Connection) -> None:
    """All or, with the reason as an exception, none of them: the caller's savepoint undoes the others."""
    for record, row, log in rows:
        try:
            changed = db.execute(UPSERT, row).rowcount
        except sqlite3.IntegrityError as error:
            raise _refusal(error, record) from error
        if changed == 0:
            raise _stale(record, *db.execute("SELECT version, epoch FROM txn WHERE txn_id=?", (record.txn_id,)).fetchone())
        db.execute(INSERT_LOG, log)


def _stale(record: Record, version: int, epoch: int) -> JournalError:
    if record.epoch < epoch:
        return JournalError(
            f"transaction {record.txn_id}: epoch {record.epoch} is stale, another pipeline claimed it in epoch {epoch};"
            " nothing was written"
        )
    return JournalError(
        f"transaction {record.txn_id}: version {record.version} is not the next one, {version} is stored already"
    )


def _log_failure(record: Record, future: Future[None]) -> None:
    """Nobody waits for a write that is no barrier, so its failure is told here."""
    error = future.exception()
    if error is not None:
        _log.error("transaction %s: version %d was not written: %s", record.txn_id, record.version, error)


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
