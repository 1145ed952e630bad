"""Threads and forked children for tests: errors come out, threads start on one barrier and are joined with a timeout."""

import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import Future

JOIN_TIMEOUT = 10.0
CHILD_TIMEOUT = 30.0


class Background:
    """A function that runs in a thread of its own; `result()` joins it and returns or raises what it did."""

    def __init__(self, func, *args, **kwargs):
        self._future = Future()

        def run():
            try:
                self._future.set_result(func(*args, **kwargs))
            except BaseException as error:
                self._future.set_exception(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self):
        value = self._future.result(timeout=JOIN_TIMEOUT)
        self._thread.join(JOIN_TIMEOUT)
        return value


def together(count, func):
    """Call ``func(i)`` in `count` threads at the same moment; returns their results in order."""
    barrier = threading.Barrier(count)

    def start(i):
        barrier.wait(JOIN_TIMEOUT)
        return func(i)

    threads = [Background(start, i) for i in range(count)]
    return [thread.result() for thread in threads]


def until(predicate, timeout=JOIN_TIMEOUT):
    """Wait in real time for what another thread does by itself; raises after the timeout."""
    give_up = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {timeout} s")
        time.sleep(0.001)


def handler(func):
    """
    A signal handler that calls ``func(number, frame)``, but neither inside itself nor inside coverage.

    Where a slow machine takes longer for the handler than the timer's interval, handlers would nest until the stack is
    full. And coverage holds a lock of its own in a few places: interrupted there for good, or entered again from there,
    it would hang every thread that it measures.
    """
    running = False

    def handle(number, frame):
        nonlocal running
        place = frame
        while place is not None and f"{os.sep}coverage{os.sep}" not in place.f_code.co_filename:
            place = place.f_back
        if running or place is not None:
            return
        running = True
        try:
            func(number, frame)
        finally:
            running = False

    return handle


def is_running(pid):
    """Whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def in_child(check):
    """Run `check` in a forked child; its True is the test's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork in a process with threads, our very case
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 2
        except BaseException as error:
            sys.__stderr__.write(f"child: {error!r}\n")
        finally:
            os._exit(code)
    give_up = time.monotonic() + CHILD_TIMEOUT
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > give_up:
            os.kill(pid, signal.SIGABRT)  # pytest's faulthandler, inherited by the child, prints its threads
            os.waitpid(pid, 0)
            raise AssertionError(f"the child hung for {CHILD_TIMEOUT} s: its threads are on stderr")
        time.sleep(0.001)
    assert os.waitstatus_to_exitcode(ended[1]) == 0
