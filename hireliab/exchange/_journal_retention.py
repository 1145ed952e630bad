"""Retention: finished transactions that are old are deleted, with their log, fills and events, while the writer is idle."""

from __future__ import annotations

import sqlite3

from hireliab.core.clock import Clock
from hireliab.exchange.journal import FORGOTTEN
from hireliab.exchange.transaction import new_id

ROWS = 100
"""Transactions looked at in one commit: a write that comes meanwhile waits for some milliseconds at most."""
INTERVAL = 3600.0
"""Seconds from the end of one pass to the next."""
_TERMINAL = "('COMPLETED', 'FAILED', 'ROLLED_BACK')"
# The ids are in order of time, so that the newest need no look; `updated` decides.
_CANDIDATES = "SELECT txn_id FROM txn WHERE txn_id > ? AND txn_id < ? ORDER BY txn_id LIMIT ?"
# A wall clock that jumped ahead must delete nothing: a key that was forgotten could be sent again. The newest order
# knows the venue's time; without one, its own.
_NEWEST = (
    "SELECT CASE WHEN baseline_time > 0 THEN baseline_time ELSE created END FROM txn WHERE kind <> 'CANCEL'"
    " ORDER BY txn_id DESC LIMIT 1"
)
_FINISHED = (
    f"SELECT txn_id FROM txn WHERE txn_id > ? AND txn_id <= ? AND updated < ? AND state IN {_TERMINAL}"  # noqa: S608
    " AND watch_until IS NULL"
    " AND NOT (kind = 'ORDER' AND state = 'COMPLETED' AND order_status IN ('Active', 'Inactive'))"
    f" AND NOT EXISTS (SELECT 1 FROM txn AS child WHERE child.parent_id = txn.txn_id AND child.state NOT IN {_TERMINAL})"
)
_PUBLISHED = (
    f"{_FINISHED} AND NOT EXISTS (SELECT 1 FROM event WHERE published IS NULL"  # noqa: S608
    " AND event_id > txn.txn_id || ':' AND event_id < txn.txn_id || ';')"
)
_DELETE = (
    "DELETE FROM event WHERE event_id > ?1 || ':' AND event_id < ?1 || ';'",
    "DELETE FROM txn_log WHERE txn_id = ?1",
    "DELETE FROM fill WHERE txn_id = ?1",
    "DELETE FROM txn WHERE txn_id = ?1",
)
# It never moves back: a later pass may delete older rows, which had not been finished.
_FORGET = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)"


class Retention:
    """
    Args:
        seconds: How long a finished transaction is kept after its last change, up to now or to the newest transaction,
            whichever is earlier.
        clock: Unix seconds, as the records have them.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._after = ""  # the id up to which this pass came; the writer thread's own
        self.has_outbox = False  # then a transaction is kept until its events are published

    def sweep(self, db: sqlite3.Connection) -> float:
        """Delete what is due among the next few rows; returns the seconds until it is to be called again."""
        newest = db.execute(_NEWEST).fetchone()
        before = min(self._clock.time(), newest[0] if newest else 0.0) - self._seconds
        candidates = db.execute(_CANDIDATES, (self._after, new_id(max(0.0, before))[:10], ROWS)).fetchall()
        if not candidates:
            self._after = ""
            return INTERVAL
        last = candidates[-1][0]
        finished = db.execute(_PUBLISHED if self.has_outbox else _FINISHED, (self._after, last, before)).fetchall()
        if finished:  # so that their orders, in a listing, are not taken for orphans
            db.execute(_FORGET, (f"fact {FORGOTTEN}", max(row[0] for row in finished)))
        for statement in _DELETE:
            db.executemany(statement, finished)
        self._after = last
        return 0.0
