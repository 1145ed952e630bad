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
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from hireliab.core import money
from hireliab.core._sqlite import SQLiteFile
from hireliab.errors import ClosedError, IdempotencyConflictError, JournalError, JournalLockedError
from hireliab.exchange.adapter import Account, Fill, Order
from hireliab.exchange.transaction import Proof, Record, State

_log = logging.getLogger("hireliab.journal")

APPLICATION_ID = 0x48524C42  # "HRLB"
_SCHEMA = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE txn (
        txn_id TEXT PRIMARY KEY, kind TEXT NOT NULL, parent_id TEXT, symbol TEXT NOT NULL, side TEXT NOT NULL,
        type TEXT NOT NULL, amount TEXT NOT NULL, price TEXT, stop_price TEXT, client_order_id TEXT NOT NULL,
        payload_hash TEXT NOT NULL, idempotency_key TEXT, commit_rule TEXT NOT NULL, on_partial TEXT NOT NULL,
        state TEXT NOT NULL, proof TEXT NOT NULL, reason TEXT NOT NULL, version INTEGER NOT NULL,
        attempt INTEGER NOT NULL, sent_wall REAL, baseline TEXT NOT NULL, baseline_time REAL NOT NULL,
        order_id TEXT, order_status TEXT NOT NULL, filled TEXT NOT NULL, average_price TEXT, fee TEXT NOT NULL,
        candidates TEXT NOT NULL, needs_human INTEGER NOT NULL, watch_until REAL, created REAL NOT NULL,
        updated REAL NOT NULL) WITHOUT ROWID;
    CREATE UNIQUE INDEX txn_key ON txn (idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE UNIQUE INDEX txn_order ON txn (order_id) WHERE order_id IS NOT NULL AND kind = 'ORDER';
    CREATE INDEX txn_unfinished ON txn (state, order_status) WHERE state NOT IN ('COMPLETED', 'FAILED', 'ROLLED_BACK')
        OR (state = 'COMPLETED' AND order_status IN ('Active', 'Inactive')) OR watch_until IS NOT NULL;
    CREATE TABLE txn_log (
        seq INTEGER PRIMARY KEY, txn_id TEXT NOT NULL, version INTEGER NOT NULL, wall REAL NOT NULL,
        state TEXT NOT NULL, attempt INTEGER NOT NULL, cause TEXT NOT NULL);
    CREATE INDEX txn_log_txn ON txn_log (txn_id);
    CREATE INDEX txn_log_sent ON txn_log (wall) WHERE state = 'SUBMITTING';
    CREATE TABLE fill (
        trade_id TEXT PRIMARY KEY, txn_id TEXT NOT NULL, order_id TEXT, symbol TEXT NOT NULL, side TEXT NOT NULL,
        amount TEXT NOT NULL, price TEXT NOT NULL, fee TEXT NOT NULL, time REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX fill_txn ON fill (txn_id)
    """,
)
_COLUMNS = (
    "txn_id kind parent_id symbol side type amount price stop_price client_order_id payload_hash idempotency_key"
    " commit_rule on_partial state proof reason version attempt sent_wall baseline baseline_time order_id order_status"
    " filled average_price fee candidates needs_human watch_until created updated"
).split()
# The names are constants above: nothing of a user's reaches the text of a statement.
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM txn"  # noqa: S608
_INSERT = f"INSERT INTO txn ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_FIXED = 1  # txn_id
_UPDATE = (
    # Not "version=? - 1": a version before it that was no barrier may have been lost, and nothing rests on it.
    f"UPDATE txn SET {', '.join(f'{name}=?' for name in _COLUMNS[_FIXED:])} WHERE txn_id=? AND version<?"  # noqa: S608
)
_UNFINISHED = (
    f"{_SELECT} WHERE state NOT IN ('COMPLETED', 'FAILED', 'ROLLED_BACK')"
    " OR (state = 'COMPLETED' AND order_status IN ('Active', 'Inactive')) OR watch_until IS NOT NULL ORDER BY txn_id"
)


def _plain(number: Decimal | None) -> str | None:
    return None if number is None else money.text(number)


def _storable(words: str) -> str:
    """A text of others, cut, and without the lone surrogates that UTF-8 cannot hold."""
    return words[:4000].encode("utf-8", "replace").decode("utf-8")


def _to_row(record: Record) -> tuple[Any, ...]:
    order = record.order
    return (
        record.txn_id,
        record.kind,
        record.parent_id,
        order.symbol,
        order.side,
        order.type,
        money.text(order.amount),
        _plain(order.price),
        _plain(order.stop_price),
        order.client_order_id,
        record.payload_hash,
        record.idempotency_key,
        record.commit,
        record.on_partial,
        record.state.value,
        record.proof.value,
        _storable(record.reason),
        record.version,
        record.attempt,
        record.sent_wall,
        record.baseline,
        record.baseline_time,
        record.order_id,
        record.order_status,
        money.text(record.filled),
        _plain(record.average_price),
        money.text(record.fee),
        json.dumps(record.candidates),
        int(record.needs_human),
        record.watch_until,
        record.created,
        record.updated,
    )


def _optional(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _from_row(row: tuple[Any, ...]) -> Record:
    values = dict(zip(_COLUMNS, row, strict=True))
    order = Order(
        symbol=values.pop("symbol"),
        side=values.pop("side"),
        type=values.pop("type"),
        amount=Decimal(values.pop("amount")),
        price=_optional(values.pop("price")),
        stop_price=_optional(values.pop("stop_price")),
        client_order_id=values.pop("client_order_id"),
    )
    values["commit"] = values.pop("commit_rule")
    values["state"] = State(values["state"])
    values["proof"] = Proof(values["proof"])
    values["filled"] = Decimal(values["filled"])
    values["average_price"] = _optional(values["average_price"])
    values["fee"] = Decimal(values["fee"])
    values["candidates"] = tuple(json.loads(values["candidates"]))
    values["needs_human"] = bool(values["needs_human"])
    return Record(order=order, **values)


class SQLiteJournal:
    """
    The journal of one pipeline in one folder; see `hireliab.exchange.journal.Journal`.

    Args:
        folder: Made with mode 0700 when it is missing. A local disk: SQLite's WAL does not work over a network.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._file: SQLiteFile | None = None
        self._lock_file: Any = None
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
        import filelock  # noqa: PLC0415 - third parties are imported where they are used

        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"journal folder {self.folder}: {error.strerror}; give a folder of your own") from error
        # Not thread-local: the thread that stops the pipeline is seldom the one that started it.
        lock = filelock.FileLock(self.folder / "journal.lock", mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise JournalLockedError(
                f"journal {self.folder}: owned by {self._owner()}; stop it, or give this pipeline another name"
            ) from None
        file = SQLiteFile(
            self.folder / "journal.db",
            what=f"journal-{self.folder.name}",
            application_id=APPLICATION_ID,
            schema=_SCHEMA,
        )
        try:
            (self.folder / "owner.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
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

    def _owner(self) -> str:
        try:
            return f"process {int((self.folder / 'owner.pid').read_text(encoding='ascii'))}"
        except (OSError, ValueError):
            return "another pipeline"

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
        row = _to_row(record)
        log = (record.txn_id, record.version, record.updated, record.state.value, record.attempt, _storable(cause))

        def operation(db: sqlite3.Connection) -> None:
            try:
                if db.execute(_UPDATE, (*row[_FIXED:], record.txn_id, record.version)).rowcount == 0:
                    db.execute(_INSERT, row)
            except sqlite3.IntegrityError as error:
                raise _refusal(error, record) from error
            db.execute("INSERT INTO txn_log (txn_id, version, wall, state, attempt, cause) VALUES (?,?,?,?,?,?)", log)

        future = self._db.submit(operation)
        if barrier:
            future.result()
        else:
            future.add_done_callback(partial(_log_failure, record))

    def write_many(self, records: Sequence[tuple[Record, str]], *, barrier: bool) -> None:
        """See `Journal.write_many`."""
        for place, (record, cause) in enumerate(records):
            self.write(record, cause=cause, barrier=barrier and place == len(records) - 1)

    def write_fills(self, txn_id: str, fills: Sequence[Fill]) -> None:
        """See `Journal.write_fills`."""
        rows = [
            (
                fill.trade_id,
                txn_id,
                fill.order_id,
                fill.symbol,
                fill.side,
                money.text(fill.amount),
                money.text(fill.price),
                money.text(fill.fee),
                fill.time,
            )
            for fill in fills
        ]
        self._db.submit(
            lambda db: db.executemany("INSERT OR IGNORE INTO fill VALUES (?,?,?,?,?,?,?,?,?)", rows) and None
        )

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
        rows = self._query("SELECT key, value FROM meta WHERE key LIKE ?", (f"fact {prefix}%",))
        return {key.removeprefix("fact "): value for key, value in rows}

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._db.reader() as connection:
            return connection.execute(sql, values).fetchall()

    def unfinished(self) -> list[Record]:
        """See `Journal.unfinished`."""
        return [_from_row(row) for row in self._query(_UNFINISHED)]

    def get(self, txn_id: str) -> Record | None:
        """See `Journal.get`."""
        self._db.flush()
        rows = self._query(f"{_SELECT} WHERE txn_id=?", (txn_id,))
        return _from_row(rows[0]) if rows else None

    def find_key(self, idempotency_key: str) -> Record | None:
        """See `Journal.find_key`."""
        rows = self._query(f"{_SELECT} WHERE idempotency_key=?", (idempotency_key,))
        return _from_row(rows[0]) if rows else None

    def find_order(self, order_id: str) -> Record | None:
        """See `Journal.find_order`."""
        rows = self._query(f"{_SELECT} WHERE order_id=? AND kind='ORDER'", (order_id,))
        return _from_row(rows[0]) if rows else None

    def select(self, *, states: Sequence[str] | None = None, limit: int = 1000) -> list[Record]:
        """See `Journal.select`."""
        self._db.flush()
        where, values = "", list[Any]()
        if states is not None:
            where, values = f" WHERE state IN ({', '.join('?' * len(states))})", list(states)
        return [_from_row(row) for row in self._query(f"{_SELECT}{where} ORDER BY txn_id DESC LIMIT ?", [*values, limit])]

    def fills(self, txn_id: str) -> list[Fill]:
        """See `Journal.fills`."""
        rows = self._query(
            "SELECT trade_id, order_id, symbol, side, amount, price, fee, time FROM fill WHERE txn_id=? ORDER BY time",
            (txn_id,),
        )
        return [
            Fill(
                trade_id=trade_id,
                order_id=order_id,
                symbol=symbol,
                side=side,
                amount=Decimal(amount),
                price=Decimal(price),
                fee=Decimal(fee),
                time=time,
            )
            for trade_id, order_id, symbol, side, amount, price, fee, time in rows
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
            lock.release()
        else:
            _log.error("journal %s: its writer does not end; the lock is kept until this process ends", self.folder)


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
    return JournalError(f"transaction {record.txn_id}: version {record.version} is not the next one ({error})")
