"""Threads for tests: they start on one barrier, are joined with a timeout, and their errors come out."""

import threading
from concurrent.futures import Future

JOIN_TIMEOUT = 10.0


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
