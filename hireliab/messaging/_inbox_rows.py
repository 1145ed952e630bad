"""The table of an inbox, in its own file or in the user's database, and what it answers about a message."""

from __future__ import annotations

import enum
import hashlib
import json
import sqlite3
from typing import NamedTuple

from hireliab.messaging.bus import Message

TABLE = """
    CREATE TABLE IF NOT EXISTS hireliab_inbox (
        consumer TEXT NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL, digest TEXT NOT NULL, owner TEXT,
        until REAL NOT NULL, PRIMARY KEY (consumer, source, id)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS hireliab_inbox_until ON hireliab_inbox (until)
"""
"""`owner` is who handles the message now; empty when it is done. After `until` a row that is done may go."""

_KEY = "consumer=? AND source=? AND id=?"
_SELECT = f"SELECT digest, owner FROM hireliab_inbox WHERE {_KEY}"  # noqa: S608
_INSERT = "INSERT INTO hireliab_inbox (consumer, source, id, digest, owner, until) VALUES (?,?,?,?,?,?)"
_TAKE = f"UPDATE hireliab_inbox SET owner=? WHERE {_KEY} AND owner=?"  # noqa: S608
_DONE = (
    "INSERT INTO hireliab_inbox (consumer, source, id, digest, owner, until) VALUES (?,?,?,?,NULL,?)"
    " ON CONFLICT (consumer, source, id) DO UPDATE SET owner=NULL, until=excluded.until"
)
_RELEASE = f"DELETE FROM hireliab_inbox WHERE {_KEY} AND owner=?"  # noqa: S608
_PRUNE = (
    "DELETE FROM hireliab_inbox WHERE (consumer, source, id) IN"
    " (SELECT consumer, source, id FROM hireliab_inbox WHERE until < ? AND owner IS NULL LIMIT ?)"
)
SLACK = 3600.0
"""Seconds that a row is kept longer than it is needed, for clocks that differ."""
MOST_AHEAD = 86400.0
"""Seconds that a publisher's clock may be ahead: a message from a later time counts as from then."""


class Key(NamedTuple):
    """What makes two deliveries one message for one group of consumers."""

    consumer: str
    source: str
    id: str


class Answer(enum.Enum):
    """What the table says about a delivery."""

    FIRST = "first"
    """It is claimed: handle it."""
    DONE = "done"
    HELD = "held"
    """Somebody handles it, or died while doing so."""
    CONFLICT = "conflict"
    """The id belongs to a message with another body."""
    OLD = "old"
    """It is so old that a row of it might have gone."""


def key_of(consumer: str, message: Message) -> Key:
    """The message's, for this group."""
    return Key(consumer, message.source, message.id)


def digest_of(message: Message) -> str:
    """Of what the message says: whoever publishes it again says the same, but perhaps under other headers."""
    said = json.dumps([message.topic, message.data], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def until_of(message: Message, now: float, keep: float) -> float:
    """Until when a row of it is kept: `is_old` holds from there on."""
    return max(now, min(message.time, now + MOST_AHEAD)) + keep + SLACK


def is_old(message: Message, now: float, keep: float) -> bool:
    """Whether its row may have been pruned."""
    return message.time < now - keep


def make_table(db: sqlite3.Connection) -> None:
    """Where it is missing; inside the open transaction."""
    for statement in TABLE.split(";"):
        db.execute(statement)


def claim(
    db: sqlite3.Connection, key: Key, digest: str, *, owner: str | None, until: float, old: bool
) -> tuple[Answer, str]:
    """
    Claim a message for the owner, or for nobody: then it is done when the transaction ends.

    Returns:
        The answer, and for HELD by whom.
    """
    row = db.execute(_SELECT, key).fetchone()
    if row is None:
        if old:
            return Answer.OLD, ""
        db.execute(_INSERT, (*key, digest, owner, until))
        return Answer.FIRST, ""
    if row[0] != digest:
        return Answer.CONFLICT, ""
    if row[1] is None:
        return Answer.DONE, ""
    return Answer.HELD, row[1]


def take_over(db: sqlite3.Connection, key: Key, *, owner: str, dead: str) -> bool:
    """Take a claim from an owner that is dead; whether it was still that one's."""
    return db.execute(_TAKE, (owner, *key, dead)).rowcount == 1


def done(db: sqlite3.Connection, key: Key, digest: str, until: float) -> None:
    """It was handled."""
    db.execute(_DONE, (*key, digest, until))


def release(db: sqlite3.Connection, key: Key, owner: str) -> None:
    """It was not handled, and anybody may claim it."""
    db.execute(_RELEASE, (*key, owner))


def prune(db: sqlite3.Connection, now: float, most: int) -> int:
    """Forget what nobody needs any more, so many rows at most; how many there were."""
    return db.execute(_PRUNE, (now, most)).rowcount
