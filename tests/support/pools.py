"""Clients that notice misuse, and ways to run code at every call of the pool's own, for the pool's adversarial cases."""

import contextlib
import dis
import gc
import signal
import sys
import threading

import pytest

from hireliab.errors import PoolTimeoutError
from hireliab.exchange import connection_pool
from tests.support.together import Background

FOLDER = connection_pool.__file__.rpartition("connection_pool.py")[0]


class Client:
    """Notices two users at once, a use after close, and a second close."""

    def __init__(self, number=0):
        self.number = number
        self.calls = 0
        self.closed = 0
        self.busy = threading.Lock()

    def work(self, error=None):
        assert self.busy.acquire(blocking=False), "one client in two threads"
        try:
            assert not self.closed, "a closed client was lent"
            self.calls += 1
            if error is not None:
                raise error
            return self.number
        finally:
            self.busy.release()

    def close(self):
        self.closed += 1


class Maker:
    """
    A factory that counts.

    Attributes:
        made: Its clients.
        errors: What the next calls raise.
        before: Called at the start of each call.
        calls: How often it was asked.
        living, peak: Clients asked for and not yet given up by their users (`gone`), now and at most.
    """

    def __init__(self):
        self.lock = threading.RLock()  # a test's signal handler or finaliser may make a client in between
        self.made = []
        self.errors = []
        self.before = lambda: None
        self.calls = 0
        self.living = 0
        self.peak = 0

    def __call__(self):
        self.before()
        with self.lock:
            self.calls += 1
            if self.errors:
                raise self.errors.pop(0)
            self.living += 1
            self.peak = max(self.peak, self.living)
            client = Client(len(self.made))
            self.made.append(client)
            return client

    def gone(self):
        with self.lock:
            self.living -= 1

    def method_calls(self):
        return sum(client.calls for client in self.made)


def full_capacity(pool, size):
    """Borrow all there is, without waiting: exactly `size` different clients, none closed; then give them back."""
    leases = [pool.acquire(timeout=0) for _ in range(size)]
    with pytest.raises(PoolTimeoutError):
        pool.acquire(timeout=0)
    assert len({id(lease.client) for lease in leases}) == size
    for lease in leases:
        lease.client.work()
    stats = pool.stats()
    assert (stats.size, stats.in_use, stats.idle, stats.waiting, stats.creating) == (size, size, 0, 0, 0)
    for lease in leases:
        lease.release()


@contextlib.contextmanager
def cheap_collections():
    """Let `gc.collect()` look only at what is made inside, and never by itself."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def with_interruption(places, interruption, call, *, folder=FOLDER):
    """
    Run `call`, and `interruption` at those places of the folder's own code, counted from 1: where a function of it
    begins or ends, and behind each call of a built-in one.

    There CPython looks for signals, so it is where a signal handler (or, if it raises, Ctrl-C) can come in. Not before
    a built-in is called: nothing can come between the end of a `with` block and the release of its lock. Returns the
    number of places that there were.
    """
    last = max(places)
    count = 0

    def profile(frame, event, arg):
        nonlocal count
        if count < last and event in ("call", "return", "c_return") and frame.f_code.co_filename.startswith(folder):
            count += 1
            if count in places:
                interruption()

    def trace(frame, event, arg):
        if sys.getprofile() is None:  # Python takes a profile function out when it raises
            sys.setprofile(profile)
        return trace

    before = sys.gettrace(), sys.getprofile()
    if len(places) > 1:
        sys.settrace(trace)
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])
        with_interruption.reached = count
    return count


_OPCODES = {code: name for name, code in dis.opmap.items()}


def with_handler(places, handler, call, *, loops_only=False):
    """
    Run `call`, and `handler` at those places of the pool's own code, counted from 1, where CPython looks for signals:
    at a function's beginning, behind every call, and at every turn of a loop.

    A handler that raises is as good as Ctrl-C only at the turns of loops (`loops_only`): behind a call it would come
    one instruction late. Returns the number of places that there were.
    """
    last = max(places)
    count = 0
    codes, behind = {}, {}

    def trace(frame, event, arg):
        nonlocal count
        code = frame.f_code
        if count >= last or not code.co_filename.startswith(FOLDER):
            return None
        frame.f_trace_opcodes = True
        here = event == "call" and not loops_only
        if event == "opcode":
            if code not in codes:
                codes[code] = code.co_code
            name = _OPCODES[codes[code][frame.f_lasti]]
            here = name.startswith(("JUMP_BACKWARD", "JUMP_ABSOLUTE")) or (not loops_only and behind.get(frame, False))
            behind[frame] = name.startswith("CALL")
        if here:
            count += 1
            if count in places:
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        behind.clear()  # it keeps frames, and those keep leases
        with_handler.reached = count
    return count


@contextlib.contextmanager
def at_most(seconds):
    """Turn a hang of the main thread in a lock of its own into a failure."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(signum, frame):
        raise AssertionError(f"hangs for {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Gate:
    """A place where user code waits until the test lets it go."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.count = 0

    def pass_through(self, *_):
        self.count += 1
        self.entered.release()
        assert self.open.wait(20)
        return True

    def wait(self, count=1):
        for _ in range(count):
            assert self.entered.acquire(timeout=20)


def waiting(pool, clock, count, act=None):
    """Threads that wait for a client, queued in this order."""
    tasks = []
    for n in range(clock.parked() + 1, clock.parked() + count + 1):
        tasks.append(Background(act or pool.acquire))
        clock.wait_parked(n)
    return tasks


def other_thread(func, *args, **kwargs):
    return Background(func, *args, **kwargs).result()
