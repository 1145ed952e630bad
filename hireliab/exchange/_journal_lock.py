"""FolderLock: one process owns a journal's folder. The kernel gives the lock back when the process dies."""

from __future__ import annotations

import os
from pathlib import Path

from hireliab.core._file_lock import FileLock
from hireliab.errors import JournalError, JournalLockedError

PATIENCE = 0.5
"""Seconds that a start waits for the lock: a child that was forked just before its parent died lets go of it first."""


class FolderLock:
    """
    The files journal.lock and owner.pid; the second is for people.

    Args:
        folder: Made with mode 0700 when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: FileLock | None = None

    def acquire(self) -> None:
        """
        Take the folder.

        Raises:
            JournalLockedError: Another process, or another pipeline of this one, owns it.
            JournalError: It cannot be made or written.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self._folder / "journal.lock")
            if not lock.acquire(PATIENCE):
                raise JournalLockedError(
                    f"journal {self._folder}: owned by {self.owner()}; stop it, or give this pipeline another name"
                )
            try:
                (self._folder / "owner.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
            except BaseException:
                lock.release()
                raise
        except (OSError, ValueError, NotImplementedError) as error:  # ValueError: a null byte in the name
            why = getattr(error, "strerror", None) or error
            raise JournalError(
                f"journal folder {self._folder}: cannot be used ({why}); give a folder of your own on a local disk"
            ) from error
        self._lock = lock

    def owner(self) -> str:
        """Who owns it, as far as known."""
        try:
            return f"process {int((self._folder / 'owner.pid').read_text(encoding='ascii'))}"
        except (OSError, ValueError):
            return "another pipeline"

    def release(self) -> None:
        """Give the folder back; idempotent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
