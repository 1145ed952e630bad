"""
What a SQLite file needs of its disk: a local one, room for the last writes, and names that survive power loss.

The ballast is a file of allocated blocks that holds nothing. When the disk is full it is deleted, so that what must
still be written (how orders ended) fits, while nothing new is begun.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sqlite3
from pathlib import Path

NETWORK_TYPES = frozenset(
    "9p acfs afs beegfs ceph cifs coda davfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs pvfs2 smb2 smb3"
    " smbfs".split()
)
"""File systems on which several machines may see one file, so that locks and shared memory cannot be trusted."""
_NETWORK_FUSE = re.compile(
    r"^fuse\.(?!ext|ntfs|exfat|zfs|bindfs|lxcfs|overlay|fuse-overlayfs|mergerfs|gocryptfs|encfs)"
)

_FULL, _SHMSIZE = 13, 4874  # SQLITE_FULL; SQLITE_IOERR_SHMSIZE: no room for the index of the log
_WAL_HEADER, _FRAME_HEADER = 32, 24  # sqlite.org/walformat.html


def is_full(error: BaseException) -> bool:
    """Whether SQLite says that the disk is full; then no fsync failed, and a rollback is clean."""
    if not isinstance(error, sqlite3.Error):
        return False
    code: int | None = getattr(error, "sqlite_errorcode", None)  # from Python 3.11 on
    if code is None:
        return "database or disk is full" in str(error)
    return code & 0xFF == _FULL or code == _SHMSIZE


def free_bytes(folder: Path) -> int:
    """What this user may still write there."""
    return shutil.disk_usage(folder).free


def network_type(path: str, mounts: str) -> str | None:
    """
    The type of a path's file system when it is one over a network.

    Args:
        path: Absolute, with links resolved.
        mounts: In the form of /proc/mounts: device, mount point, type; the last of equal mount points counts.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), words[1])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, words[2]
    return kind if kind in NETWORK_TYPES or _NETWORK_FUSE.match(kind) else None


def network_type_of(folder: Path) -> str | None:
    """`network_type` of this machine's mounts; None where the system has no list of them."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return network_type(str(folder.resolve()), mounts)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows cannot open a folder and needs no such thing."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Ballast:
    """
    A file that keeps room.

    Args:
        path: Where it is.
        size: In bytes; 0 for none.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size

    def ensure(self) -> bool:
        """Make it where it is missing; False when there is no room for it."""
        if self.size == 0 or self._is_whole():
            return True
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, self.size)
                else:
                    for _ in range(0, self.size, 65536):
                        os.write(descriptor, b"\0" * 65536)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.release()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise
        return True

    def _is_whole(self) -> bool:
        try:
            status = self.path.stat()
        except OSError:
            return False
        return status.st_size >= self.size and getattr(status, "st_blocks", self.size) * 512 >= self.size

    def release(self) -> bool:
        """Delete it; whether that made room."""
        with contextlib.suppress(OSError):
            self.path.unlink()
            return True
        return False


class LogLength:
    """
    How much of the write-ahead log is in use. The file does not shrink when SQLite begins it anew, so its size does
    not tell; a frame that is in use carries the salts of the log's header.

    Args:
        path: Of the log. SQLite takes no lock on this file, so opening and closing it here releases none.
        page_size: Of the database.
    """

    def __init__(self, path: Path, page_size: int) -> None:
        self._path = path
        self._frame = page_size + _FRAME_HEADER
        self._descriptor: int | None = None

    def exceeds(self, size: int) -> bool:
        """Whether more than `size` bytes of it are in use."""
        if self._descriptor is None:
            try:
                self._descriptor = os.open(
                    self._path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
                )
            except OSError:
                return False
        header = self._read(_WAL_HEADER, 0)
        frame = self._read(_FRAME_HEADER, _WAL_HEADER + size // self._frame * self._frame)
        return len(header) == _WAL_HEADER and len(frame) == _FRAME_HEADER and frame[8:16] == header[16:24]

    def _read(self, size: int, offset: int) -> bytes:
        assert self._descriptor is not None
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        return os.read(self._descriptor, size)

    def close(self) -> None:
        """Idempotent; before the database is closed, which deletes the log."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
