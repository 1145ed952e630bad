"""The spool's tables, and everything that reads or writes them. Each function runs inside its caller's transaction."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hireliab.monitoring.alert import AlertLevel

APPLICATION_ID = 0x68724153
"""In the file's header: "hrAS"."""
SCHEMA = (
    """
    CREATE TABLE alerts (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, level INTEGER NOT NULL,
        size INTEGER NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX by_level ON alerts (level, seq, size);
    CREATE TABLE deliveries (
        alert INTEGER NOT NULL, channel TEXT NOT NULL, PRIMARY KEY (alert, channel)
    ) WITHOUT ROWID;
    CREATE TABLE notified (
        channel TEXT NOT NULL, fingerprint TEXT NOT NULL, level INTEGER NOT NULL, time REAL NOT NULL,
        keyed INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (channel, fingerprint)
    ) WITHOUT ROWID
    """,
)
"""By version: the script that makes it from the one before. `seq` is never used twice."""
_LEVELS = frozenset(int(level) for level in AlertLevel)
EVICTED_AT_ONCE = 64
"""Most rows that one transaction evicts, so that an old and huge spool does not hold up the new alerts."""


@dataclass(frozen=True, kw_only=True)
class Notified:
    """
    What a channel has told already, so that a restart does not tell it again.

    Attributes:
        channel: The channel's name.
        fingerprint: Of the trouble, in plain text without secrets.
        level: The highest that was told.
        time: When, Unix seconds.
        keyed: Whether it is open until it is resolved.
        count: How often it had happened by then.
    """

    channel: str
    fingerprint: str
    level: int
    time: float
    keyed: bool
    count: int = 1


@dataclass
class Size:
    """How much there is; kept beside the file, because counting reads it."""

    rows: int = 0
    bytes: int = 0


def measure(connection: sqlite3.Connection) -> Size:
    """Count, from the index alone."""
    rows, size = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM alerts INDEXED BY by_level"
    ).fetchone()
    return Size(rows, size)


def newest(connection: sqlite3.Connection) -> int:
    """The last `seq` that was ever given."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'alerts'").fetchone()
    return 0 if row is None else int(row[0])


def add(connection: sqlite3.Connection, size: Size, *, id: str, level: int, body: str, channels: Iterable[str]) -> bool:  # noqa: A002
    """An alert and whom it must reach; False when it is there already, and only gets further channels."""
    length = len(body.encode("utf-8", "surrogatepass"))
    done = connection.execute(
        "INSERT INTO alerts (id, level, size, body) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (id, level, length, body),
    )
    added = done.rowcount == 1
    sequence = (
        done.lastrowid if added else connection.execute("SELECT seq FROM alerts WHERE id = ?", (id,)).fetchone()[0]
    )
    connection.executemany("INSERT OR IGNORE INTO deliveries VALUES (?, ?)", [(sequence, name) for name in channels])
    if added:
        size.rows += 1
        size.bytes += length
    return added


def settle(connection: sqlite3.Connection, size: Size, ids: Iterable[str], channel: str) -> None:
    """These have reached the channel or never will; an alert that nobody waits for any more is deleted."""
    for id_ in ids:
        row = connection.execute("SELECT seq, size FROM alerts WHERE id = ?", (id_,)).fetchone()
        if row is None:
            continue
        connection.execute("DELETE FROM deliveries WHERE alert = ? AND channel = ?", (row[0], channel))
        if connection.execute("SELECT 1 FROM deliveries WHERE alert = ? LIMIT 1", (row[0],)).fetchone() is None:
            _delete(connection, size, row[0], row[1])


def evict(connection: sqlite3.Connection, size: Size, *, rows: int, bytes: int) -> int:  # noqa: A002
    """Delete the lowest levels, oldest first, until the bounds are kept or enough was done; how many."""
    evicted = 0
    while (size.rows > rows or size.bytes > bytes) and evicted < EVICTED_AT_ONCE:
        lowest = connection.execute("SELECT seq, size FROM alerts ORDER BY level, seq LIMIT 1").fetchone()
        if lowest is None:  # it was counted wrongly
            size.rows = size.bytes = 0
            break
        connection.execute("DELETE FROM deliveries WHERE alert = ?", (lowest[0],))
        _delete(connection, size, lowest[0], lowest[1])
        evicted += 1
    return evicted


def _delete(connection: sqlite3.Connection, size: Size, sequence: int, length: int) -> None:
    connection.execute("DELETE FROM alerts WHERE seq = ?", (sequence,))
    size.rows -= 1
    size.bytes -= length


def discard(connection: sqlite3.Connection, size: Size, sequence: int) -> None:
    """One row that cannot be read."""
    row = connection.execute("SELECT size FROM alerts WHERE seq = ?", (sequence,)).fetchone()
    if row is not None:
        connection.execute("DELETE FROM deliveries WHERE alert = ?", (sequence,))
        _delete(connection, size, sequence, row[0])


def batch(
    connection: sqlite3.Connection, *, after: int, until: int, most: int
) -> list[tuple[int, str, tuple[str, ...]]]:
    """The next rows with `seq` above `after` and up to `until`: seq, body, channels."""
    found = connection.execute(
        "SELECT seq, body FROM alerts WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (after, until, most)
    ).fetchall()
    return [(sequence, _text(body), _channels(connection, sequence)) for sequence, body in found]


def _text(value: object) -> str:
    """A cell that should hold text: SQLite takes anything, and a damaged file may hold anything."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def load(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, str]:
    """Bodies by id, of those that are there."""
    found = {}
    for id_ in ids:
        row = connection.execute("SELECT body FROM alerts WHERE id = ?", (id_,)).fetchone()
        if row is not None:
            found[id_] = _text(row[0])
    return found


def _channels(connection: sqlite3.Connection, sequence: int) -> tuple[str, ...]:
    rows = connection.execute("SELECT channel FROM deliveries WHERE alert = ?", (sequence,))
    return tuple(_text(row[0]) for row in rows)


# -- the notification log -------------------------------------------------------------------------------------------


def note(connection: sqlite3.Connection, told: Notified) -> None:
    """Write or replace what a channel was told about a trouble."""
    connection.execute(
        "INSERT OR REPLACE INTO notified VALUES (?, ?, ?, ?, ?, ?)",
        (told.channel, told.fingerprint, told.level, told.time, told.keyed, told.count),
    )


def forget(connection: sqlite3.Connection, channel: str, fingerprint: str) -> None:
    """It is over."""
    connection.execute("DELETE FROM notified WHERE channel = ? AND fingerprint = ?", (channel, fingerprint))


def notified(connection: sqlite3.Connection, *, since: float) -> list[Notified]:
    """Those not older than this; what nobody here can have written is left out."""
    rows = connection.execute(
        "SELECT channel, fingerprint, level, time, keyed, count FROM notified WHERE time >= ? ORDER BY time", (since,)
    )
    return [
        Notified(channel=channel, fingerprint=fingerprint, level=level, time=time, keyed=bool(keyed), count=count)
        for channel, fingerprint, level, time, keyed, count in rows
        if isinstance(channel, str) and isinstance(fingerprint, str) and isinstance(count, int)
        if level in _LEVELS and isinstance(time, int | float) and math.isfinite(time)
    ]


def drop_old(connection: sqlite3.Connection, *, before: float) -> None:
    """Forget what nobody asks for any more."""
    connection.execute("DELETE FROM notified WHERE time < ?", (before,))


# -- another file ---------------------------------------------------------------------------------------------------


def copy(source: sqlite3.Connection, into: sqlite3.Connection, size: Size) -> int:
    """Take over what another spool left behind, oldest first; how many alerts."""
    count = 0
    for sequence, id_, level, body in source.execute("SELECT seq, id, level, body FROM alerts ORDER BY seq"):
        count += add(into, size, id=_text(id_), level=level, body=_text(body), channels=_channels(source, sequence))
    for told in notified(source, since=0.0):
        note(into, told)
    return count
