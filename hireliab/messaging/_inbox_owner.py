"""Who holds claims in an inbox, and whether they still live: a lock on a file, which the kernel drops with its process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hireliab.core._file_lock import FileLock


class Owner:
    """
    One inbox of one process, alive as long as it holds its file.

    Args:
        folder: One for each inbox file; made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"{os.getpid()}-{os.urandom(8).hex()}"
        self._lock = FileLock(folder / self.name)

    def begin(self) -> None:
        """
        Be alive; before the first claim, and not while another one begins: a file that is made is locked a moment later.

        Raises:
            OSError: The file cannot be made or locked.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if not self._lock.acquire(0.0):
            raise OSError(f"{self._folder / self.name} is locked by somebody else")
        for path in self._folder.iterdir():  # of those that died; a live one's lock cannot be had
            if path.name != self.name:
                self.is_dead(path.name)

    def is_dead(self, name: str) -> bool:
        """Whether this other owner holds its file no more."""
        path = self._folder / name
        if name == self.name:
            return False
        if not path.exists():
            return True
        lock = FileLock(path)
        if not lock.acquire(0.0):
            return False
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
        return True

    def end(self) -> None:
        """Hold nothing any more; after the last claim."""
        with contextlib.suppress(OSError):
            (self._folder / self.name).unlink()
        self._lock.release()
