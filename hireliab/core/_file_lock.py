"""FileLock: one holder of a file among all processes. The kernel lets go of it when the holder dies."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from hireliab.core._threads import renew_after_fork

_FOR_EVER = -1.0


class FileLock:
    """
    A lock on a file, which is made with mode 0600 and stays.

    Two objects exclude each other also in one process. A forked child holds nothing, and keeps nothing from anybody.

    Args:
        path: In a folder that exists, on a local disk.
        poll: Seconds between two tries while another holds it.
    """

    def __init__(self, path: Path, *, poll: float = 0.02) -> None:
        self._path = path
        self._poll = poll
        self._lock: Any = None
        self._taking: Any = None  # its file may be locked already: a fork must not come in between
        renew_after_fork(self)

    def acquire(self, timeout: float = _FOR_EVER) -> bool:
        """
        Whether it was taken within these seconds; negative ones wait for ever.

        Raises:
            OSError, ValueError, NotImplementedError: The file cannot be made, or not be locked here.
        """
        import filelock  # noqa: PLC0415 - third parties are imported where they are used

        # Not thread-local: the thread that lets go of it need not be the one that took it.
        lock = self._taking = filelock.FileLock(self._path, mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=timeout, poll_interval=self._poll)
            self._lock = lock
        except filelock.Timeout:
            return False
        finally:
            self._taking = None
        return True

    def release(self) -> None:
        """Let go of it; idempotent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def renew_in_child(self) -> None:
        """
        Close the child's copy of the descriptor: the lock belongs to the open file, and a child that outlives its
        parent would keep it for ever. filelock 4 does this by itself. Closing is not unlocking.
        """
        for lock in (self._lock, self._taking):
            context = getattr(lock, "_context", None)
            descriptor = getattr(context, "lock_file_fd", None)
            if context is not None and descriptor is not None and not _looks_after_forks():
                # First, and while it is still referred to: a filelock 3 that thinks that it is locked unlocks the file,
                # which is the parent's, too, when it is collected.
                context.lock_file_fd = None
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._lock = self._taking = None


def _looks_after_forks() -> bool:
    import filelock  # noqa: PLC0415 - third parties are imported where they are used

    return int(filelock.__version__.partition(".")[0]) >= 4
