"""
Connections that only read: kept for the next reader, and closed before the writer closes.

A reader never checkpoints (its connection is opened read-only), and holds no snapshot between two statements.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

from hireliab.core.clock import Clock
from hireliab.errors import JournalError

KEPT = 8
"""Most idle connections: as many threads read at once without opening one."""


def connect_to_read(path: Path, options: str = "") -> sqlite3.Connection:
    """A connection that cannot write, may be used by one thread after the other, and sees what is committed."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{options}", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA query_only=1")
        connection.execute("PRAGMA busy_timeout=30000")
    except BaseException:
        connection.close()
        raise
    return connection


class _Loan:
    """Lives in the frame of a block that has a connection, and dies with it wherever Ctrl-C ends that."""

    __slots__ = ("__weakref__",)


class Readers:
    """
    Args:
        path: The database.
        clock: For the wait in `close`.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._pid = os.getpid()
        self._changed = threading.Condition()  # guards everything below; notified when a connection comes back
        self._idle: list[sqlite3.Connection] = []
        self._loans: weakref.WeakSet[_Loan] = weakref.WeakSet()
        self._closed = False

    @contextlib.contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """One for the block; after `close`, one of its own."""
        if os.getpid() != self._pid:
            raise JournalError(f"{self._path}: opened by process {self._pid}; open your own after fork()")
        loan = _Loan()
        with self._changed:
            self._loans.add(loan)
            connection = self._idle.pop() if self._idle else None
        sound = False
        try:
            if connection is None:
                connection = connect_to_read(self._path)
            yield connection
            sound = True
        finally:
            with self._changed:
                # One whose block failed may hold an unfinished statement, and with it a snapshot.
                keep = sound and not self._closed and len(self._idle) < KEPT
                if keep and connection is not None:
                    self._idle.append(connection)
                    self._loans.discard(loan)
            if not keep:
                if connection is not None:
                    connection.close()
                with self._changed:
                    self._loans.discard(loan)
                    self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Close those that are idle, wait for the others (seconds); whether none is left open."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        with self._changed:
            return self._clock.wait_for(self._changed, lambda: not self._loans, timeout)
