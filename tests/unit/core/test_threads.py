"""Threads that are joined with one deadline."""

import threading

import pytest

from hireliab.core._threads import Starting, join_all, start_thread


@pytest.mark.parametrize("timeout", [1e10, 1e300, float("inf")])
def test_threads_may_be_waited_for_longer_than_a_lock_can_wait(timeout):
    gate = threading.Event()
    threads = [start_thread(lambda: gate.wait(10.0) and None, name=f"test-{number}") for number in range(2)]
    gate.set()
    assert join_all(threads, timeout=timeout) == []
    assert not any(thread.is_alive() for thread in threads)


def test_those_that_do_not_end_are_named():
    gate = threading.Event()
    threads = [start_thread(lambda: gate.wait(10.0) and None, name=f"test-{number}") for number in range(2)]
    try:
        assert join_all([*threads, threading.current_thread()], timeout=0.0) == ["test-0", "test-1"]
    finally:
        gate.set()
    assert join_all([*threads, threading.Thread()], timeout=10.0) == []


@pytest.mark.parametrize("begun", [False, True])
def test_a_thread_whose_start_was_cut_short_works_or_was_called_off(begun):
    done = threading.Event()
    thread = Starting(done.set, name="work")
    if begun:
        thread.start()
        assert done.wait(10.0)
    assert thread.call_off() is not begun
    if not begun:
        thread.start()  # it comes up all the same
    thread.join(10.0)
    assert done.is_set() is begun
