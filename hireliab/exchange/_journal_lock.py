"""FolderLock: one process owns a journal's folder. The kernel gives the lock back when the process dies."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from hireliab.core._threads import renew_after_fork
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
        self._lock: Any = None

    def acquire(self) -> None:
        """
        Take the folder.

        Raises:
            JournalLockedError: Another process, or another pipeline of this one, owns it.
            JournalError: It cannot be made or written.
        """
        import filelock  # noqa: PLC0415 - third parties are imported where they are used

        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not thread-local: the thread that stops the pipeline is seldom the one that started it.
            lock = filelock.FileLock(self._folder / "journal.lock", mode=0o600, thread_local=False)
            lock.acquire(timeout=PATIENCE, poll_interval=0.02)
            try:
                (self._folder / "owner.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
            except BaseException:
                lock.release()
                raise
        except filelock.Timeout:
            raise JournalLockedError(
                f"journal {self._folder}: owned by {self.owner()}; stop it, or give this pipeline another name"
            ) from None
        except (OSError, ValueError, NotImplementedError) as error:  # ValueError: a null byte in the name
            why = getattr(error, "strerror", None) or error
            raise JournalError(
                f"journal folder {self._folder}: cannot be used ({why}); give a folder of your own on a local disk"
            ) from error
        self._lock = lock
        renew_after_fork(self)

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

    def renew_in_child(self) -> None:
        """
        Close the child's copy of the descriptor: the lock belongs to the open file, and a child that outlives its
        parent would keep it for ever. filelock 4 does this by itself. Closing is not unlocking.
        """
        context = getattr(self._lock, "_context", None)
        descriptor = getattr(context, "lock_file_fd", None)
        if context is not None and descriptor is not None and not _looks_after_forks():
            # First, and while it is still referred to: a filelock 3 that thinks that it is locked unlocks the file,
            # which is the parent's, too, when it is collected.
            context.lock_file_fd = None
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._lock = None


def _looks_after_forks() -> bool:
    import filelock  # noqa: PLC0415 - third parties are imported where they are used

    return int(filelock.__version__.partition(".")[0]) >= 4
