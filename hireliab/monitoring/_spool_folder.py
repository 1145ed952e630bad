"""The folder of a spool: one process owns it, and another one that wants it gets a folder below it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hireliab.core._sqlite_disk import network_type_of

LOCK, OWNER = "spool.lock", "owner.pid"
MOST = 16
"""Processes that may share a folder."""
PATIENCE = 0.2
"""Seconds for the lock of the folder itself: a process that was just killed lets go of it first."""


class Claim:
    """A folder that this process owns; the kernel takes it back when the process dies."""

    def __init__(self, folder: Path, lock: Any) -> None:
        self.folder = folder
        self._lock = lock

    def release(self) -> None:
        """Give it back; idempotent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):
                lock.release()

    def forget_in_child(self) -> None:
        """
        In a forked child: close the copy of the descriptor. The lock belongs to the open file, and a child that outlives
        its parent would keep it. Closing is not unlocking. filelock 4 does this by itself.
        """
        import filelock  # noqa: PLC0415 - third parties are imported where they are used

        context = getattr(self._lock, "_context", None)
        descriptor = getattr(context, "lock_file_fd", None)
        if context is not None and descriptor is not None and int(filelock.__version__.partition(".")[0]) < 4:
            context.lock_file_fd = None  # first: when it is collected it would unlock the file, the parent's too
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._lock = None


def claim(folder: Path) -> Claim | None:
    """
    This folder, or one below it where another process has it.

    Returns:
        None when all of them are taken.

    Raises:
        OSError: It cannot be made or written, or is on a network file system, whose locks lie.
    """
    for number in range(1, MOST + 1):
        own = folder if number == 1 else folder / str(number)
        claimed = _claim(own, PATIENCE if number == 1 else 0.0)
        if claimed is not None:
            return claimed
    return None


def abandoned(folder: Path) -> Iterator[Claim]:
    """The folders below this one that dead processes have left behind, each of them claimed; to be released."""
    for number in range(2, MOST + 1):
        own = folder / str(number)
        if own.is_dir() and any(own.iterdir()):
            claimed = _claim(own, 0.0)
            if claimed is not None:
                yield claimed


def _claim(folder: Path, patience: float) -> Claim | None:
    import filelock  # noqa: PLC0415 - third parties are imported where they are used

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = network_type_of(folder)
        if kind is not None:
            raise OSError(f"on a network file system ({kind}), whose locks lie; use a local disk")
        lock = filelock.FileLock(folder / LOCK, mode=0o600, thread_local=False)
        lock.acquire(timeout=patience, poll_interval=0.02)
    except filelock.Timeout:
        return None
    except (ValueError, NotImplementedError) as error:  # ValueError: a null byte in the name
        raise OSError(str(error)) from error
    claimed = Claim(folder, lock)
    try:
        (folder / OWNER).write_text(f"{os.getpid()}\n", encoding="ascii")  # for people
    except OSError:
        pass  # a full disk must not keep what is there from being sent
    except BaseException:
        claimed.release()
        raise
    return claimed
