"""One write that is asked of a SQLiteFile, how it is applied, and how it ended."""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_log = logging.getLogger("hireliab.sqlite")

OWN_MISTAKES = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)
"""What an operation did wrong itself; every other error of SQLite is the disk's or the file's."""
_LOOK = 1.0
"""Seconds between two looks of a thread that waits for a write and is not woken."""


class Write(Generic[T]):
    """A write that is asked for, and how it ended; a small fraction of a Future's price."""

    __slots__ = ("_done", "_settled", "atomic", "error", "mark", "operation", "then", "value", "what")

    def __init__(
        self,
        operation: Operation[T],
        atomic: bool,
        mark: str,
        what: str | None,
        then: Callable[[], None] | None = None,
    ) -> None:
        self.operation = operation
        self.atomic = atomic
        self.mark = mark
        self.what = what  # for the log, when nobody waits
        self.then = then
        self.value: T | None = None
        self.error: BaseException | None = None
        self._settled = False
        self._done: threading.Lock | None = None
        if what is None:
            self._done = threading.Lock()
            self._done.acquire()

    def settle(self) -> None:
        """Tell whoever waits; a second time does nothing."""
        if self._settled:
            return
        self._settled = True
        if self._done is not None:
            self._done.release()
        elif self.error is not None:
            _log.error("%s: was not written: %s", self.what, self.error)
        if self.then is not None and self.error is None:
            try:
                self.then()
            except (Exception, SystemExit):  # it is on disk: no reason to end the writer
                _log.exception("%s: on disk, but what was to be done then failed", self.what or "a write")

    def fail(self, error: BaseException) -> None:
        """Settle it with an error, unless it is settled."""
        if not self._settled:
            self.error = error
            self.settle()

    def done(self) -> bool:
        """Whether it is on disk, or failed."""
        return self._settled

    def result(self, timeout: float | None = None) -> T:
        """
        Wait until it is on disk.

        Raises:
            TimeoutError: It is not after these seconds; it may still come.
            Exception: The operation's own.
            JournalError: The disk is full, and this would begin something new; it was not written.
            JournalPoisonedError: A write failed.
        """
        assert self._done is not None, "bug: nobody may wait for a posted write"
        left = math.inf if timeout is None else timeout
        while not self._settled:
            # Ctrl-C may strike between the two: then the next who waits is not woken, and looks by itself.
            if self._done.acquire(timeout=min(left, _LOOK)):
                self._done.release()  # for the next who waits
            elif left <= _LOOK:
                raise TimeoutError(f"not written within {timeout:g} s")
            left -= _LOOK
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value] # set by the operation


def words_of(error: BaseException | None) -> str:
    """An error's text for a sentence, behind its type where it does not speak for itself."""
    if isinstance(error, sqlite3.Error | OSError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def in_savepoint(connection: sqlite3.Connection, operation: Operation[T]) -> T:
    """Run one operation so that its own mistake undoes nothing of its neighbours."""
    connection.execute("SAVEPOINT operation")
    try:
        value = operation(connection)
    except Exception as error:
        if isinstance(error, sqlite3.Error) and not isinstance(error, OWN_MISTAKES):
            raise  # the transaction may be gone already
        connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")
        raise
    connection.execute("RELEASE operation")
    return value


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo what was begun, if the disk lets us."""
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
