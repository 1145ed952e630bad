"""The lock of a file across processes, where filelock does not look after forks itself."""

import os
from types import SimpleNamespace

import filelock
import pytest

from hireliab.core import _file_lock
from hireliab.core._file_lock import FileLock


@pytest.fixture
def old_filelock(monkeypatch):
    """A filelock 3, whose lock is a descriptor; `forks` are called in the child that comes when it has just been taken."""
    forks = []

    class Lock:
        def __init__(self, path, *, mode, thread_local):
            self._path = path
            self._context = SimpleNamespace(lock_file_fd=None)

        def acquire(self, *, timeout, poll_interval):
            self._context.lock_file_fd = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            for fork in forks:
                fork()

        def release(self):
            if self._context.lock_file_fd is not None:
                os.close(self._context.lock_file_fd)
                self._context.lock_file_fd = None

    monkeypatch.setattr(filelock, "FileLock", Lock)
    monkeypatch.setattr(_file_lock, "_looks_after_forks", lambda: False)
    return forks


def test_a_child_forked_while_the_lock_is_taken_keeps_no_descriptor_of_it(tmp_path, old_filelock):
    lock = FileLock(tmp_path / "lock")
    old_filelock.append(lock.renew_in_child)
    assert lock.acquire()
    assert lock._lock._context.lock_file_fd is None
    lock.release()


def test_a_child_forked_later_keeps_none_either(tmp_path, old_filelock):
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    descriptor = lock._lock._context.lock_file_fd
    lock.renew_in_child()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_two_objects_exclude_each_other_in_one_process(tmp_path):
    one, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.acquire()
    assert not other.acquire(0.0)
    one.release()
    assert other.acquire(0.0)
    other.release()
    other.release()
