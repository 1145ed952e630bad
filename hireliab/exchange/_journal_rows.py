"""
The tables of the journal's file, and records as rows of them. Pure but for the words of SQL.

Money is plain text in every column. The numbers of `SCHEMA` are the versions of docs/journal-format.rst.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hireliab.core import money
from hireliab.exchange.adapter import Fill, Order
from hireliab.exchange.transaction import Proof, Record, State
from hireliab.messaging.outbox import OutboxEvent

SCHEMA = (
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
    # lease_until is for several processes on one journal, which do not exist yet. Trade ids are
    # unique per symbol only, and a trade between two orders of our own has a row for each side.
    """
    ALTER TABLE txn ADD COLUMN goal TEXT NOT NULL DEFAULT 'COMMIT';
    ALTER TABLE txn ADD COLUMN timeout REAL;
    ALTER TABLE txn ADD COLUMN deadline REAL;
    ALTER TABLE txn ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    ALTER TABLE txn ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE txn ADD COLUMN lease_until REAL;
    CREATE INDEX txn_parent ON txn (parent_id) WHERE parent_id IS NOT NULL;
    CREATE TABLE fill_2 (
        symbol TEXT NOT NULL, trade_id TEXT NOT NULL, txn_id TEXT NOT NULL, order_id TEXT, side TEXT NOT NULL,
        amount TEXT NOT NULL, price TEXT NOT NULL, fee TEXT NOT NULL, time REAL NOT NULL,
        PRIMARY KEY (symbol, trade_id, side)) WITHOUT ROWID;
    INSERT INTO fill_2 SELECT symbol, trade_id, txn_id, order_id, side, amount, price, fee, time FROM fill;
    DROP TABLE fill;
    ALTER TABLE fill_2 RENAME TO fill;
    CREATE INDEX fill_txn ON fill (txn_id)
    """,
    # An event's id begins with its transaction's, so that its index also finds a transaction's events. AUTOINCREMENT: a
    # seq is never used again, also after the newest rows were deleted; whoever reads on from a seq would miss them.
    """
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, txn_id TEXT NOT NULL, topic TEXT NOT NULL,
        body TEXT NOT NULL, created REAL NOT NULL, published REAL);
    CREATE INDEX event_pending ON event (seq) WHERE published IS NULL
    """,
)
"""For each version from 1 on, the script that makes it from the one before; a script that was released is never changed."""

_COLUMNS = (
    "txn_id kind parent_id symbol side type amount price stop_price client_order_id payload_hash idempotency_key"
    " commit_rule on_partial goal timeout deadline owner epoch state proof reason version attempt sent_wall baseline"
    " baseline_time order_id order_status filled average_price fee candidates needs_human watch_until created updated"
).split()
# The names are constants above: nothing of a user's reaches the text of a statement.
SELECT = f"SELECT {', '.join(_COLUMNS)} FROM txn"  # noqa: S608
UPSERT = (
    f"INSERT INTO txn ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
    f" ON CONFLICT (txn_id) DO UPDATE SET {', '.join(f'{name}=excluded.{name}' for name in _COLUMNS[1:])}"
    # Not "version = excluded.version - 1": one before it that was no barrier may have been lost; nothing rests on it.
    " WHERE version < excluded.version AND epoch <= excluded.epoch"
)
"""Compare and set: changes no row when the stored version is not older, or when another claimed the row since."""
UNFINISHED = (
    f"{SELECT} WHERE state NOT IN ('COMPLETED', 'FAILED', 'ROLLED_BACK')"
    " OR (state = 'COMPLETED' AND order_status IN ('Active', 'Inactive')) OR watch_until IS NOT NULL ORDER BY txn_id"
)
INSERT_LOG = "INSERT INTO txn_log (txn_id, version, wall, state, attempt, cause) VALUES (?,?,?,?,?,?)"
_FILL_COLUMNS = "trade_id, order_id, symbol, side, amount, price, fee, time"
INSERT_FILL = f"INSERT OR IGNORE INTO fill (txn_id, {_FILL_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)"  # noqa: S608
# A version is written once, and tells at most one event; a second row could only undo the commit of the record.
INSERT_EVENT = (
    "INSERT INTO event (event_id, txn_id, topic, body, created) VALUES (?,?,?,?,?) ON CONFLICT (event_id) DO NOTHING"
)
SELECT_EVENTS = (
    "SELECT seq, event_id, txn_id, topic, body, created FROM event WHERE published IS NULL AND seq > ?"
    " ORDER BY seq LIMIT ?"
)
EVENT_BACKLOG = "SELECT count(*), min(seq) FROM event WHERE published IS NULL"
MARK_PUBLISHED = "UPDATE event SET published=? WHERE seq=?"
DROP_EVENTS = "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE published IS NULL ORDER BY seq LIMIT ?)"
SELECT_FILLS = f"SELECT {_FILL_COLUMNS} FROM fill WHERE txn_id=? ORDER BY time"  # noqa: S608


def _plain(number: Decimal | None) -> str | None:
    return None if number is None else money.text(number)


def _optional(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _storable(words: str) -> str:
    """A text of others, cut, and without the lone surrogates that UTF-8 cannot hold."""
    if words.isascii():
        return words[:4000]
    return words[:4000].encode("utf-8", "replace").decode("utf-8")


def to_row(record: Record) -> tuple[Any, ...]:
    """The values of `UPSERT`."""
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
        record.goal,
        record.timeout,
        record.deadline,
        record.owner,
        record.epoch,
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
        json.dumps(record.candidates) if record.candidates else "[]",
        int(record.needs_human),
        record.watch_until,
        record.created,
        record.updated,
    )


def to_log(record: Record, cause: str) -> tuple[Any, ...]:
    """The values of `INSERT_LOG`."""
    return (record.txn_id, record.version, record.updated, record.state.value, record.attempt, _storable(cause))


def to_event_row(event: OutboxEvent) -> tuple[Any, ...]:
    """The values of `INSERT_EVENT`."""
    return (event.event_id, event.key, event.topic, event.body, event.created)


def from_event_row(row: tuple[Any, ...]) -> OutboxEvent:
    """The event of a row of `SELECT_EVENTS`."""
    seq, event_id, key, topic, body, created = row
    return OutboxEvent(event_id=event_id, key=key, topic=topic, body=body, created=created, seq=seq)


def from_row(row: tuple[Any, ...]) -> Record:
    """The record of a row of `SELECT`."""
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


def to_fill_row(txn_id: str, fill: Fill) -> tuple[Any, ...]:
    """The values of `INSERT_FILL`."""
    return (
        txn_id,
        fill.trade_id,
        fill.order_id,
        fill.symbol,
        fill.side,
        money.text(fill.amount),
        money.text(fill.price),
        money.text(fill.fee),
        fill.time,
    )


def from_fill_row(row: tuple[Any, ...]) -> Fill:
    """The fill of a row of `SELECT_FILLS`."""
    trade_id, order_id, symbol, side, amount, price, fee, time = row
    return Fill(
        trade_id=trade_id,
        order_id=order_id,
        symbol=symbol,
        side=side,
        amount=Decimal(amount),
        price=Decimal(price),
        fee=Decimal(fee),
        time=time,
    )
