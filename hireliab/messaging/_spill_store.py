"""
SpillStore: messages on this machine's disk that a bus cannot take at the moment, oldest first and bounded.

One process owns the file; what a dead one left is the next owner's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hireliab.core._file_lock import FileLock
from hireliab.core._sqlite import SQLiteFile
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import BusError, ClosedError, JournalError

_log = logging.getLogger("hireliab.bus")

APPLICATION_ID = 0x48524C53
"""The letters HRLS, in the header of the file."""
PATIENCE = 0.5
"""Seconds that an opening waits for the owner to let go."""
OVERHEAD = 200
"""Bytes that a message counts for beside its texts."""
SCHEMA = (
    """
    CREATE TABLE spill (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT NOT NULL, topic TEXT NOT NULL, headers TEXT NOT NULL,
        body BLOB NOT NULL, size INTEGER NOT NULL)
    """,
)


class Spilled(NamedTuple):
    """A message that waits; `seq` is its place."""

    seq: int
    topic: str
    body: bytes
    headers: dict[str, str]
    message_id: str


class SpillStore:
    """
    A queue on disk. Any thread may call any method.

    Guarantees: a message for which `put` said True is on disk, and `oldest` gives it, in the order of the puts, until it
    is removed; after a crash also one that was removed within the last moment, with the same id.

    Args:
        path: The file; its folder is made with mode 0700. A lock file lies beside it.
        name: Part of the writing thread's name.
        most_rows: Most messages.
        most_bytes: Most bytes of them, with `OVERHEAD` for each.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        most_rows: int = 100_000,
        most_bytes: int = 256 * 1024 * 1024,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.path = Path(path)
        self._name = name
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._clock = clock
        # Guards _rows, _bytes and _told_full. Re-entrant, because a signal handler that publishes may interrupt the thread
        # that has it.
        self._lock = threading.RLock()
        self._rows = self._bytes = 0
        self._told_full = False
        self._file: SQLiteFile | None = None
        self._file_lock: FileLock | None = None

    def open(self) -> None:
        """
        Take the file and see what is in it.

        Raises:
            BusError: Another process has it, or it cannot be used.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
            if not lock.acquire(PATIENCE):
                raise BusError(f"spill {self.path}: another process has it; give this bus another file")
        except (OSError, ValueError, NotImplementedError) as error:
            why = getattr(error, "strerror", None) or error
            raise BusError(f"spill {self.path}: cannot be used ({why}); give a file on a local disk") from error
        self._file_lock = lock
        file = SQLiteFile(
            self.path, what=f"spill-{self._name}", application_id=APPLICATION_ID, schema=SCHEMA, clock=self._clock
        )
        try:
            file.open()
            self._file = file
            with file.reader() as db:
                rows, size = db.execute("SELECT count(*), total(size) FROM spill").fetchone()
        except JournalError as error:
            self.close()
            raise BusError(f"spill: {error}") from error
        except BaseException:
            self.close()
            raise
        with self._lock:
            self._rows, self._bytes = rows, int(size)
        if rows:
            _log.info("spill %s: %d messages of an earlier process wait", self.path, rows)

    def put(self, topic: str, body: bytes, headers: Mapping[str, str], message_id: str) -> bool:
        """Keep a message; False when there is no room, the store is closed, or the disk failed. Waits for the disk."""
        text = json.dumps(dict(headers))
        size = len(body) + len(text) + len(topic) + len(message_id) + OVERHEAD
        if self._file is None or not self._reserve(size):
            return False
        row = (message_id, topic, text, body, size)
        try:
            self._file.write(
                lambda db: (
                    db.execute("INSERT INTO spill (message_id, topic, headers, body, size) VALUES (?,?,?,?,?)", row)
                    and None
                )
            )
        except (JournalError, ClosedError, sqlite3.Error, UnicodeError) as error:
            self._give_back(1, size)
            _log.error("spill %s: a message was not kept: %s", self.path, error)
            return False
        return True

    def _reserve(self, size: int) -> bool:
        with self._lock:
            if self._rows < self._most_rows and self._bytes + size <= self._most_bytes:
                self._rows += 1
                self._bytes += size
                return True
            first, self._told_full = not self._told_full, True
        if first:
            _log.error("spill %s: full, %d messages wait; further ones are refused", self.path, self._rows)
        return False

    def _give_back(self, rows: int, size: int) -> None:
        with self._lock:
            self._rows -= rows
            self._bytes -= size
            self._told_full = self._told_full and self._rows > 0

    def oldest(self, limit: int, after: int = 0) -> list[Spilled]:
        """At most `limit` messages whose seq is greater than `after`, oldest first."""
        if self._file is None:
            return []
        with self._file.reader() as db:
            rows = db.execute(
                "SELECT seq, topic, body, headers, message_id FROM spill WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, limit),
            ).fetchall()
        return [
            Spilled(seq, topic, body, json.loads(headers), message_id) for seq, topic, body, headers, message_id in rows
        ]

    def remove(self, seqs: Sequence[int]) -> None:
        """
        Forget messages that the bus has confirmed; does not wait for the disk.

        `oldest` may still show them for a moment: read on from the last seq.
        """
        if self._file is None:
            return
        gone = [0, 0]

        def delete(db: sqlite3.Connection) -> None:
            for seq in seqs:
                row = db.execute("SELECT size FROM spill WHERE seq=?", (seq,)).fetchone()
                if row is not None:
                    db.execute("DELETE FROM spill WHERE seq=?", (seq,))
                    gone[0] += 1
                    gone[1] += row[0]

        with contextlib.suppress(JournalError, ClosedError):  # then they are published again, under the same ids
            self._file.post(
                delete, what=f"removal of {len(seqs)} spilled messages", then=lambda: self._give_back(*gone)
            )

    def __len__(self) -> int:
        """How many wait."""
        return self._rows

    def close(self) -> None:
        """Write what is asked for, and let go of the file; idempotent."""
        file, lock = self._file, self._file_lock
        if file is None or file.close():
            self._file = self._file_lock = None
            if lock is not None:
                lock.release()
        else:
            _log.error("spill %s: its writer does not end; the file is kept until this process ends", self.path)
