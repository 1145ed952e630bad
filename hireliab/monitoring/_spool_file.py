"""
The file of a spool and what can happen to it: taken, damaged, too new, deleted, on a disk that is full or broken.

Used by one thread, the spool's writer, and before that by whoever opens the spool.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from hireliab.core._sqlite_disk import Ballast, free_bytes, is_full
from hireliab.core._sqlite_open import connect_to_write, refusal
from hireliab.core.clock import Clock
from hireliab.errors import JournalCorruptError, JournalError
from hireliab.monitoring import _spool_folder, _spool_rows

_log = logging.getLogger("hireliab.alerts")

FILE, DEAD = "alerts.db", "dead.jsonl"
MAX_DEAD = 1024 * 1024
"""Bytes of dead.jsonl before it is begun anew; the one before it is kept."""
MAX_ASIDE = 3
"""Unreadable files that are kept; the oldest ones go."""
LOG_PAGES = 128
"""Length of SQLite's log at which it is copied into the file: small, for a full disk must take all of it."""
BALLAST = 768 * 1024
"""Bytes that are kept free: room for the whole log, so that on a full disk it can be written what was sent."""
SPACE_CHECK = 1.0
"""Seconds between two looks at a full disk."""
TRY_AGAIN = 5.0
"""Seconds between two attempts to reach a disk that failed."""
_PRAGMAS: tuple[tuple[str, str | int], ...] = (
    ("journal_mode", "wal"),
    ("synchronous", 2),
    ("busy_timeout", 1000),
    ("wal_autocheckpoint", LOG_PAGES),
    ("journal_size_limit", 8192 * LOG_PAGES),
)


class SpoolFile:
    """
    Attributes:
        state: "closed", "open", "full" or "broken".
        last_error: The last thing that went wrong, in words, or None.
        set_aside: Files that could not be used and were renamed.
        connection: To the file, or None.
    """

    def __init__(self, wanted: Path, clock: Clock) -> None:
        self._wanted = wanted
        self._clock = clock
        self._claim: _spool_folder.Claim | None = None
        self._identity: tuple[int, int] | None = None
        self._try_at = self._look_at = 0.0
        self.connection: sqlite3.Connection | None = None
        self.state = "closed"
        self.last_error: str | None = None
        self.set_aside = 0

    @property
    def folder(self) -> Path | None:
        """The folder that is ours, or None."""
        return None if self._claim is None else self._claim.folder

    def open(self) -> None:
        """Take the folder and open the file, unless that is done; what fails is in `state` and `last_error`."""
        self._try_at = self._clock.monotonic() + TRY_AGAIN
        try:
            if self._claim is None:
                self._claim = _spool_folder.claim(self._wanted)
        except OSError as error:
            self.failed(f"{self._wanted}: cannot be used ({error.strerror or error})")
            return
        if self._claim is None:
            self.failed(f"{self._wanted} and the folders below it belong to other processes")
            return
        if self.connection is None:
            self._reopen(self._claim.folder)

    def connected(self) -> bool:
        """Whether there is a file to write; one that was deleted or replaced is made anew, a broken one tried again."""
        if self.connection is not None and self._claim is not None:
            if self._identity == _identity(self._claim.folder / FILE):
                return True
            self._drop(f"{self._claim.folder / FILE}: was deleted or replaced; it is made anew")
        elif self._clock.monotonic() < self._try_at:
            return False
        if self._claim is None:
            self.open()
        else:
            self._reopen(self._claim.folder)
        return self.connection is not None

    def _reopen(self, folder: Path) -> None:
        path = folder / FILE
        self._try_at = self._clock.monotonic() + TRY_AGAIN
        for _ in range(2):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.connection = open_file(path)
            except JournalCorruptError as error:
                self.failed(str(error))
                if not self._put_aside(path):
                    return
            except (JournalError, OSError) as error:
                self.failed(str(error), "full" if is_full(error.__cause__ or error) else "broken")
                return
            else:
                self._identity = _identity(path)
                self.state = "open"
                with contextlib.suppress(OSError):
                    self._ballast(folder).ensure()
                return

    # -- trouble ------------------------------------------------------------------------------------------------

    def broke(self, error: Exception) -> None:
        """An operation failed by no fault of its own."""
        if is_full(error):
            self._look_at = self._clock.monotonic() + SPACE_CHECK
            self.failed(f"{self._wanted}: the disk is full", "full")
            return
        folder = self.folder or self._wanted
        meant = refusal(folder / FILE, error) if isinstance(error, sqlite3.Error) else error
        self._drop(str(meant))
        self._try_at = self._clock.monotonic() + TRY_AGAIN
        if isinstance(meant, JournalCorruptError) and self._put_aside(folder / FILE):
            self._reopen(folder)

    def try_now(self) -> None:
        """Forget that the next attempt is not due yet."""
        self._try_at = self._clock.monotonic()

    def make_room(self) -> None:
        """On a full disk: give up the ballast, and copy the log into the file, which shortens it."""
        if self._claim is None or self.connection is None:
            return
        self._ballast(self._claim.folder).release()
        with contextlib.suppress(sqlite3.Error):
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def takes_more(self) -> bool:
        """Whether there is room for new alerts: always, unless the disk was full the last time."""
        if self.state != "full" or self._claim is None:
            return True
        now = self._clock.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + SPACE_CHECK
        try:
            return free_bytes(self._claim.folder) >= 2 * BALLAST and self._ballast(self._claim.folder).ensure()
        except OSError:
            return False

    def _ballast(self, folder: Path) -> Ballast:
        return Ballast(folder / "ballast", BALLAST)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """For reading outside a write."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self.broke(error)

    def works(self) -> None:
        """An operation succeeded."""
        if self.state != "open":
            self.state = "open"
            _log.warning("alert spool %s: it can be written again", self._wanted)

    def failed(self, why: str, state: str = "broken") -> None:
        """Say it, once as long as nothing else happens."""
        first = (self.state, self.last_error) != (state, why)
        self.state, self.last_error = state, why
        if first:
            _log.error("alert spool: %s; alerts go on in memory", why)

    def _drop(self, why: str) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self.failed(why)

    def _put_aside(self, path: Path) -> bool:
        """Rename a file that cannot be used; whether there is room for a new one."""
        aside = path.with_name(f"{path.name}.{int(self._clock.time() * 1000)}.aside")
        try:
            for old, new in zip(whole(path), whole(aside), strict=True):
                with contextlib.suppress(FileNotFoundError):
                    old.rename(new)
            for old in sorted(path.parent.glob(f"{path.name}.*.aside"))[:-MAX_ASIDE]:
                for name in whole(old):
                    name.unlink(missing_ok=True)
        except OSError as error:
            self.failed(f"{path}: cannot be set aside ({error.strerror})")
            return False
        self.set_aside += 1
        return True

    # -- the rest -----------------------------------------------------------------------------------------------

    def bury(self, line: dict[str, object]) -> None:
        """
        Append to dead.jsonl.

        Raises:
            OSError: The disk.
        """
        if self._claim is None:
            return
        path = self._claim.folder / DEAD
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > MAX_DEAD:
                path.replace(path.with_name(DEAD + ".1"))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Close the file and give the folder back."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if self._claim is not None:
            self._claim.release()
        self.state = "closed"

    def forget_in_child(self) -> None:
        """In a forked child: let go of what is the parent's without a touch."""
        if self.connection is not None:
            _inherited.append(self.connection)
        if self._claim is not None:
            self._claim.forget_in_child()


_inherited: list[sqlite3.Connection] = []
"""Connections of the parent process, kept because closing one would end the parent's log."""


def open_file(path: Path) -> sqlite3.Connection:
    """
    The file with its schema up to date. It is not read as a whole: damage shows when something meets it.

    Raises:
        JournalCorruptError: It is no spool, or of a newer version.
        JournalError, OSError: It cannot be opened now.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        finally:
            connection.close()
        if owner != _spool_rows.APPLICATION_ID and (owner or tables):
            raise JournalCorruptError(f"{path}: the file belongs to another program; it is set aside")
        if version > len(_spool_rows.SCHEMA):
            raise JournalCorruptError(f"{path}: version {version} is of a newer hireliab; it is set aside")
        connection = connect_to_write(
            path, pragmas=_PRAGMAS, application_id=_spool_rows.APPLICATION_ID, schema=_spool_rows.SCHEMA
        )
    except sqlite3.Error as error:
        raise refusal(path, error) from error
    # SQLite does not see a text whose bytes have changed on the disk; one of them must not keep us from all others.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def whole(path: Path) -> list[Path]:
    """The files that are one database."""
    return [path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm"))]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
