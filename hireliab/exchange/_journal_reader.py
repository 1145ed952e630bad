"""
JournalReader: reads a journal that another process owns, or that nobody owns. It takes no lock that the owner would
wait for, never checkpoints, and leaves the folder as it is.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hireliab.core._sqlite_open import refusal
from hireliab.core._sqlite_readers import connect_to_read
from hireliab.errors import ClosedError, JournalCorruptError, JournalError
from hireliab.exchange._journal_reads import JournalReads
from hireliab.exchange._journal_rows import SCHEMA

APPLICATION_ID = 0x48524C42
"""The letters HRLB, in the header of the file."""
_TRIES = 5
"""How often a question is asked again because the owner started, stopped or copied its log in between."""


class JournalReader(JournalReads):
    """
    The questions of `SQLiteJournal` that change nothing; made by `open_reader`, used by one thread at a time.

    Three ways to read, chosen anew whenever the files changed: with the log that is there, without touching its
    index; as a file that does not change, where there is no log; from a copy, where the log has no index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "journal.db"
        self._log = folder / "journal.db-wal"
        self._connection: sqlite3.Connection | None = None
        self._still: object | None = None  # what the files looked like, where a change of them would go unnoticed
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._closed = False

    def _query(self, sql: str, values: Sequence[Any] = (), /) -> list[tuple[Any, ...]]:
        if self._closed:
            raise ClosedError(f"journal {self.folder}: the reader is closed; open another")
        failure: sqlite3.Error | None = None
        for _ in range(_TRIES):
            try:
                connection = self._connection or self._connect()
                rows = connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                failure = error
                self._disconnect()
                continue
            if self._still is None or self._still == self._look():
                return rows
            self._disconnect()
        raise refusal(self._path, failure or sqlite3.OperationalError("the file changes all the time"))

    def _look(self) -> object:
        """What changes when somebody writes to the file."""
        return [
            (status.st_size, status.st_mtime_ns, status.st_ino) if status is not None else None
            for status in (_stat(self._path), _stat(self._log))
        ]

    def _connect(self) -> sqlite3.Connection:
        if _stat(self._path) is None:
            raise JournalError(f"journal {self.folder}: there is none (no journal.db); is the folder right?")
        log = _stat(self._log)
        self._still = None
        if log is None or log.st_size == 0:
            self._still = self._look()
            connection = connect_to_read(self._path, "&immutable=1")
        elif Path(f"{self._path}-shm").exists():
            connection = self._connect_beside()
        else:
            self._still = self._look()
            self._copy = tempfile.TemporaryDirectory(prefix="hireliab-journal-")
            for path in (self._path, self._log):
                shutil.copy(path, self._copy.name)
            connection = connect_to_read(Path(self._copy.name) / self._path.name)
        self._connection = connection
        _check(connection, self._path)
        return connection

    def _connect_beside(self) -> sqlite3.Connection:
        """With the log's index as it is: a read-only one, unless a live owner's has no place for a reader yet."""
        connection = connect_to_read(self._path, "&readonly_shm=1")
        try:
            connection.execute("PRAGMA user_version").fetchall()
        except sqlite3.OperationalError:
            connection.close()
            connection = connect_to_read(self._path)
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        copy, self._copy = self._copy, None
        if connection is not None:
            connection.close()
        if copy is not None:
            copy.cleanup()

    def check(self) -> list[str]:
        """What SQLite's integrity check finds wrong with the file; nothing for a sound one. Reads all of it."""
        found = [str(row[0]) for row in self._query("PRAGMA integrity_check(100)")]
        return [] if found == ["ok"] else found

    def counts(self) -> dict[str, int]:
        """How many transactions there are, by state."""
        return dict(self._query("SELECT state, count(*) FROM txn GROUP BY state ORDER BY state"))

    @property
    def watermark(self) -> str:
        """The newest own venue order id known, "0" for none."""
        return self._meta("watermark") or "0"

    def close(self) -> None:
        """Idempotent."""
        self._closed = True
        self._disconnect()


def _stat(path: Path) -> Any:
    try:
        return path.stat()
    except OSError:
        return None


def _check(connection: sqlite3.Connection, path: Path) -> None:
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if owner != APPLICATION_ID:
        raise JournalCorruptError(f"{path}: not a journal of hireliab (application id {owner:#x})")
    if version > len(SCHEMA):
        raise JournalCorruptError(
            f"{path}: schema version {version} is newer than this hireliab's {len(SCHEMA)}; update it"
        )
    if version < len(SCHEMA):
        raise JournalError(f"{path}: schema version {version} is old; start the bot once, which brings it up to date")


@contextlib.contextmanager
def open_reader(folder: Path) -> Iterator[JournalReader]:
    """
    Read a journal beside its bot, or without one.

    Args:
        folder: The journal's.

    Raises:
        JournalError: There is no journal, or it cannot be read.
        JournalCorruptError: It is damaged, of another program, or of a newer version.
    """
    reader = JournalReader(Path(folder))
    try:
        reader._meta("account")
        yield reader
    finally:
        reader.close()
