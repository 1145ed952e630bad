"""Opening a SQLite file that is ours: what is refused and why, the pragmas, the migration, and room for it on a full disk."""

from __future__ import annotations

import logging
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from hireliab.core import _kill_points
from hireliab.core._sqlite_disk import Ballast, free_bytes, is_full, sync_folder
from hireliab.core._sqlite_readers import connect_to_read
from hireliab.errors import JournalCorruptError, JournalError

_log = logging.getLogger("hireliab.sqlite")

CHECKED_BYTES = 128 * 1024 * 1024
"""Files up to this size are checked as a whole when they are opened: about half a second for the largest."""
_CORRUPT, _NOT_A_DATABASE = 11, 26  # SQLITE_CORRUPT, SQLITE_NOTADB
_LOG_ROOM = 128 * 1024
"""Bytes that the log and its index need to be opened."""


@dataclass(frozen=True, slots=True)
class Opened:
    """
    A file that was opened to be written.

    Attributes:
        connection: Of its only writer.
        page_size: In bytes.
        full: Whether the disk is, so that the ballast is not there.
    """

    connection: sqlite3.Connection
    page_size: int
    full: bool


def open_to_write(
    path: Path,
    *,
    ballast: Ballast,
    pragmas: tuple[tuple[str, str | int], ...],
    application_id: int,
    schema: tuple[str, ...],
) -> Opened:
    """
    Open the file, or make it where it is missing, and bring its schema up to date.

    Raises:
        JournalCorruptError, JournalError: See `look`, `connect_to_write` and `refusal`; or there is no room.
        OSError: The folder cannot be written.
    """
    new = not path.exists() or path.stat().st_size == 0
    full = not ballast.ensure()
    if new and full:
        raise _no_room(path, ballast)
    if new:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))

    def connect() -> sqlite3.Connection:
        if not new:
            look(path, application_id=application_id, newest=len(schema))
        return connect_to_write(path, pragmas=pragmas, application_id=application_id, schema=schema)

    try:
        try:
            connection = connect()
        except sqlite3.Error as error:
            if not _lacks_room(path, error) or not ballast.release():
                raise
            full = True  # the ballast's room is for the log's index
            connection = connect()
    except sqlite3.Error as error:
        raise (_no_room(path, ballast) if _lacks_room(path, error) else refusal(path, error)) from error
    try:
        page_size: int = connection.execute("PRAGMA page_size").fetchone()[0]
        if new:
            sync_folder(path.parent)
    except BaseException:
        connection.close()
        raise
    return Opened(connection, page_size, full)


def _lacks_room(path: Path, error: sqlite3.Error) -> bool:
    """Also by looking: Python 3.10 has no code of an I/O error, and nothing was written yet that could be lost."""
    return is_full(error) or free_bytes(path.parent) < _LOG_ROOM


def _no_room(path: Path, ballast: Ballast) -> JournalError:
    free, needed = free_bytes(path.parent), 2 * ballast.size
    return JournalError(f"{path}: disk full: {free} bytes are free, at least {needed} are needed; free some space")


def look(path: Path, *, application_id: int, newest: int) -> None:
    """
    Refuse what is not ours, before anything of it is changed.

    Args:
        newest: The version of the schema that this program knows.

    Raises:
        JournalCorruptError: Damaged, of another program, or of a newer version.
        sqlite3.Error: It cannot be read.
    """
    # A rollback journal that a cut while the file was made left behind: only who may write can undo it.
    hot = path.with_name(path.name + "-journal").exists()
    connection = sqlite3.connect(path, isolation_level=None) if hot else connect_to_read(path)
    try:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if owner != application_id and (owner != 0 or tables != 0):
            raise JournalCorruptError(
                f"{path}: the file belongs to another program (application id {owner:#x}); choose another folder"
            )
        if version > newest:
            raise JournalCorruptError(
                f"{path}: schema version {version} is newer than this hireliab's {newest}; update it"
            )
        problems = quick_check(connection, path)
    finally:
        connection.close()
    if problems:
        raise JournalCorruptError(
            f"{path}: damaged ({problems[0].splitlines()[-1]}); move it away or restore a back-up"
        )


def quick_check(connection: sqlite3.Connection, path: Path) -> list[str]:
    """What SQLite's quick check finds, nothing for a sound file; a large file is not read as a whole."""
    if path.stat().st_size > CHECKED_BYTES:
        _log.info("%s: larger than %d MiB, not checked at the start", path, CHECKED_BYTES // 1024 // 1024)
        return []
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(10)")]
    return [] if found == ["ok"] else found


def refusal(path: Path, error: sqlite3.Error) -> JournalError:
    """What an error while opening means to a person."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # from Python 3.11 on; before, the words must do
    words = str(error)
    if is_full(error):
        return JournalError(f"{path}: disk full; free some space")
    if code == _NOT_A_DATABASE or "not a database" in words:
        return JournalCorruptError(f"{path}: not a readable SQLite file ({words}); move it away")
    if code == _CORRUPT or "malformed" in words:
        return JournalCorruptError(f"{path}: damaged ({words}); move it away or restore a back-up")
    return JournalError(f"{path}: cannot be opened ({words}); is the folder writable, and no other program in it?")


def connect_to_write(
    path: Path, *, pragmas: tuple[tuple[str, str | int], ...], application_id: int, schema: tuple[str, ...]
) -> sqlite3.Connection:
    """
    The connection of the only writer, with the schema up to date.

    Raises:
        sqlite3.Error: The disk.
        JournalError: A pragma does not hold here.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        for name, wanted in pragmas:
            connection.execute(f"PRAGMA {name}={wanted}").fetchall()
            got = connection.execute(f"PRAGMA {name}").fetchone()
            if got is None or got[0] != wanted:
                raise JournalError(f"{path}: PRAGMA {name} is {got}, wanted {wanted}; use a local disk")
        _migrate(connection, application_id=application_id, schema=schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, *, application_id: int, schema: tuple[str, ...]) -> None:
    """All versions that are missing, in one transaction: the file has the old schema or the new one."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == len(schema):
        return
    connection.execute("BEGIN IMMEDIATE")
    for number in range(version, len(schema)):
        for statement in schema[number].split(";"):
            if statement.strip():
                connection.execute(statement)
        if _kill_points.ARMED:
            _kill_points.at("L27")
    connection.execute(f"PRAGMA application_id={application_id}")
    connection.execute(f"PRAGMA user_version={len(schema)}")
    connection.execute("COMMIT")
