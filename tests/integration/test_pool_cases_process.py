"""Cases 16 and 17 of unit/exchange/test_pool_cases.py: fork and exit, in processes of their own. A hang is killed."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
HANG = 20.0
"""Seconds for a script that needs one, on a machine that is busy with other things."""

PREAMBLE = """
import atexit, os, signal, socket, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork in a process with threads, our very case
from hireliab.errors import PoolError, PoolStoppedError, PoolTimeoutError
from hireliab.exchange.connection_pool import ConnectionPool

class Client:
    # Owns one end of a socket pair, like a session its connection, and says goodbye when it is closed or collected.
    def __init__(self):
        self.near, self.far = socket.socketpair()
        self.pid = os.getpid()
    def ping(self):
        self.near.send(b"ping")
        assert self.far.recv(100) == b"ping"
        return self.pid
    def close(self):
        if self.near.fileno() != -1:
            self.near.send(b"bye")
            self.near.close()
    __del__ = close
    def heard(self):
        self.far.setblocking(False)
        try:
            return self.far.recv(100)
        except BlockingIOError:
            return b""
        finally:
            self.far.setblocking(True)

def say(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\\n").encode())

def pool_of(factory=Client, **config):
    config = {"min_connections": 1, "max_connections": 2, "connection_timeout": 10, **config}
    return ConnectionPool(name="p", create_client_func=factory, config=config)

def thread(target, daemon=True):
    started = threading.Thread(target=target, daemon=daemon)
    started.start()
    return started

def hang(*_):
    threading.Event().wait()

def child(act):
    # The exit code of a forked child that runs `act`: 0 if it returned true. Its own alarm kills one that hangs.
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(15)
        code = 1
        try:
            code = 0 if act() else 2
        except BaseException as error:
            say("child:", repr(error))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def run(script, *, send=None, after=None):
    """Run a script to its end: (exit code, what it said, what it complained of). A signal is sent after a word."""
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", PREAMBLE + textwrap.dedent(script)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = ""
    try:
        if after is not None:
            while said.count(after) == 0:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                said += line
            process.send_signal(send)
        out, complaints = process.communicate(timeout=HANG)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler then shows where it hangs
        out, complaints = process.communicate(timeout=HANG)
        raise AssertionError(f"it hangs; it said {said + out!r}\n{complaints}") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, (said + out).split("\n")[:-1], complaints


# -- fork (16) ------------------------------------------------------------------------------------------------------

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@forks
@pytest.mark.parametrize("end", ["sys.exit(0)", "raise SystemExit(0)", "pool.stop(); sys.exit(0)", "forget()", "pass"])
def test_a_forked_child_that_ends_normally_says_no_goodbye(end):
    script = f"""
    import gc
    def forget():
        # What the interpreter's end does to the modules' lists, sooner or later and in an order of its own.
        for name, module in list(sys.modules.items()):
            for value in vars(module).values() if name.startswith("hireliab") else ():
                if type(value) is list:
                    value.clear()
        for name in ("pool", "lease"):
            del globals()[name]
        gc.collect()
        os._exit(0)
    pool = pool_of(min_connections=0)
    lease = pool.acquire()
    ends = [lease.client.far]
    with pool.connection() as client:
        ends.append(client.far)
    del client
    if os.fork() == 0:
        say("in child", pool.execute("ping") == os.getpid())
        {end}
    else:
        assert os.wait()[1] == 0
        for far in ends:
            far.setblocking(False)
            try:
                say("heard", far.recv(100))
            except BlockingIOError:
                say("heard nothing")
        lease.release()
        say("in parent", pool.execute("ping") == os.getpid())
        pool.stop()
    """
    code, said, complaints = run(script)
    assert (code, complaints) == (0, "")
    assert said == ["in child True", "heard nothing", "heard nothing", "in parent True"]


@forks
def test_children_of_a_process_whose_threads_are_inside_the_pool_start_afresh():
    # The threads wait, make clients, give them back: whatever they hold at the fork is held for ever in the child.
    script = """
    pool = pool_of(max_connections=2)
    stop = threading.Event()
    errors = []
    def use():
        n = 0
        while not stop.is_set():
            n += 1
            try:
                with pool.connection() as client:
                    if client.ping() != os.getpid():
                        errors.append("a client of another process")
                    if n % 5 == 0:
                        raise ConnectionResetError
            except ConnectionResetError:
                pass
            except BaseException as error:
                errors.append(repr(error))
    threads = [thread(use) for _ in range(5)]
    def act():
        fresh = pool.stats()
        ok = (fresh.size, fresh.waiting, fresh.creating, fresh.in_use) == (0, 0, 0, 0)
        with pool.connection() as one, pool.connection() as other:
            ok = ok and one.ping() == other.ping() == os.getpid() and one is not other
        ok = ok and child(lambda: pool.execute("ping") == os.getpid()) == 0  # a grandchild
        pool.stop()
        return ok
    for _ in range(8):
        assert child(act) == 0
    stop.set()
    for one in threads:
        one.join(10)
        assert not one.is_alive()
    pool.stop()
    say("errors", errors, pool.stats().size)
    """
    assert run(script) == (0, ["errors [] 0"], "")


@forks
def test_a_fork_while_other_threads_wait_or_make_a_client_disturbs_neither():
    script = """
    inside, go = threading.Event(), threading.Event()
    def slow():
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            go.wait()
        return Client()
    pool = pool_of(slow, min_connections=0, max_connections=2)
    lease = pool.acquire()
    got = []
    def ask():
        with pool.connection() as client:
            got.append(client.ping() == os.getpid())
    making = thread(ask)
    inside.wait()
    waiting = [thread(ask) for _ in range(3)]
    while pool.stats().waiting < 3:
        pass
    assert child(lambda: pool.execute("ping") == os.getpid() and pool.stats().waiting == 0) == 0
    assert lease.client.heard() == b""
    lease.release()
    go.set()
    for one in [making, *waiting]:
        one.join(10)
        assert not one.is_alive()
    say(got, pool.stats().idle)
    pool.stop()
    """
    code, said, complaints = run(script)
    assert (code, complaints) == (0, "")
    assert said == ["[True, True, True, True] 2"]


@forks
@pytest.mark.parametrize("hook", ["validate_func", "reset_func", "close_func"])
def test_a_hook_that_forks_leaves_the_parents_pool_as_it_was(hook):
    script = f"""
    codes, forked = [], []
    def fork(client):
        if not forked:
            forked.append(1)
            codes.append(child(lambda: pool.execute("ping") == os.getpid()))
        return True
    import hireliab.testing
    clock = hireliab.testing.FakeClock()
    pool = ConnectionPool(
        name="p", create_client_func=Client, config={{"min_connections": 0, {hook!r}: fork}}, clock=clock
    )
    pool.execute("ping")
    clock.advance(2)
    pool.execute("ping")
    pool.acquire().discard()
    pool.execute("ping")
    stats = pool.stats()
    say(codes, stats.size, stats.in_use, stats.created)
    pool.stop()
    """
    assert run(script) == (0, ["[0] 1 0 2"], "")


@forks
def test_a_worker_of_multiprocessing_that_inherits_a_pool_starts_afresh_and_a_spawned_one_is_told(tmp_path):
    script = """
    import multiprocessing
    pool = pool_of()
    pool.initialize()
    def work(queue):
        queue.put(pool.execute("ping") == os.getpid())
    if __name__ == "__main__":
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        worker = context.Process(target=work, args=(queue,))
        worker.start()
        say("worker", queue.get())
        worker.join()
        with pool.connection() as client:
            say("heard", client.heard())
        del client
        try:
            multiprocessing.get_context("spawn").Process(target=print, args=(pool,)).start()
        except TypeError as error:
            say(error)
        say("parent", pool.execute("ping") == os.getpid())
        pool.stop()
    """
    code, said, complaints = run(script)
    assert (code, complaints) == (0, "")
    assert said == [
        "worker True",
        "heard b''",
        "connection pool 'p': cannot be pickled; make one in each process",
        "parent True",
    ]


# -- exit (17) ------------------------------------------------------------------------------------------------------

ENDINGS = {
    "idle": """
        pool = pool_of()
        pool.initialize()
        """,
    "never used": """
        pool = pool_of()
        """,
    "borrowed": """
        pool = pool_of()
        lease = pool.acquire()
        """,
    "borrowed by a daemon thread": """
        pool = pool_of()
        held = threading.Event()
        def hold():
            with pool.connection():
                held.set()
                hang()
        thread(hold)
        held.wait()
        """,
    "a daemon thread waits": """
        pool = pool_of(max_connections=1, connection_timeout=None)
        lease = pool.acquire()
        thread(lambda: pool.execute("ping"))
        while not pool.stats().waiting:
            pass
        """,
    "a thread that waits is served before the end": """
        pool = pool_of(max_connections=1, connection_timeout=None)
        lease = pool.acquire()
        thread(lambda: pool.execute("ping"), daemon=False)
        while not pool.stats().waiting:
            pass
        lease.release()
        """,
    "the factory hangs": """
        inside = threading.Event()
        def factory():
            inside.set()
            hang()
        pool = pool_of(factory)
        thread(pool.acquire)
        inside.wait()
        """,
    "the housekeeper is in the factory": """
        inside = threading.Event()
        def factory():
            if threading.current_thread().name == "hireliab.pool-housekeeper":
                inside.set()
                hang()
            return Client()
        pool = pool_of(factory)
        pool.initialize()
        pool.acquire().discard()
        inside.wait()
        """,
    "the housekeeper is in a close": """
        inside = threading.Event()
        def close(client):
            if threading.current_thread().name == "hireliab.pool-housekeeper":
                inside.set()
                hang()
        pool = pool_of(close_func=close, idle_timeout=0.01, min_connections=0, max_connections=3)
        leases = [pool.acquire() for _ in range(3)]
        for lease in leases[1:]:
            lease.release()
        inside.wait(0.05)
        leases[0].discard()
        inside.wait()
        """,
    "stopped at exit": """
        pool = pool_of()
        pool.initialize()
        atexit.register(pool.stop)
        """,
    "used at exit": """
        pool = pool_of()
        pool.initialize()
        atexit.register(lambda: pool.execute("ping"))
        """,
    "first used at exit": """
        pool = pool_of()
        atexit.register(lambda: pool.execute("ping"))
        """,
    "a finaliser at exit uses it": """
        pool = pool_of()
        class Last:
            def __del__(self, pool=pool, error=PoolError):
                try:
                    pool.acquire(timeout=0).release()
                except error:
                    pass
        last = Last()
        last.me = last
        """,
    "half of a block": """
        pool = pool_of()
        block = pool.connection()
        client = block.__enter__()
        """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_ends_in_time_and_without_a_complaint(ending):
    began = time.monotonic()
    assert run(textwrap.dedent(ENDINGS[ending]) + "\nsay('end')\n") == (0, ["end"], "")
    assert time.monotonic() - began < HANG / 2


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit(3)", 3), ("os._exit(4)", 4), ("thread(lambda: sys.exit(5)).join()", 0)]
)
def test_the_exit_code_is_the_scripts_own(ending, code):
    script = f"""
    pool = pool_of(max_connections=3)
    pool.initialize()
    lease = pool.acquire()
    blocks = []  # what is dropped gives its client back, also under a ping
    thread(lambda: (blocks.append(pool.connection()), blocks[0].__enter__().ping()))
    {ending}
    """
    assert run(script) == (code, [], "")


def test_sys_exit_inside_a_borrowed_block_ends_the_script_and_closes_the_client():
    script = """
    def close(client):
        say("closed")
    pool = pool_of(close_func=close)
    with pool.connection():
        sys.exit(6)
    """
    assert run(script) == (6, ["closed"], "")


def test_an_error_of_the_script_is_the_only_one_it_shows():
    code, said, complaints = run("pool = pool_of()\nlease = pool.acquire()\nraise ValueError('mine')\n")
    assert (code, said) == (1, [])
    assert complaints.count("Traceback") == 1
    assert complaints.endswith("ValueError: mine\n")


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("where", ["waits", "makes a client", "uses a client", "stops"])
def test_ctrl_c_ends_a_script_wherever_in_the_pool_it_is(where):
    script = f"""
    def factory():
        if {where!r} == "makes a client":
            say("now")
            hang()
        return Client()
    pool = pool_of(factory, min_connections=0, max_connections=1, connection_timeout=None)
    if {where!r} in ("waits", "stops"):
        held = threading.Event()
        def hold():
            with pool.connection():
                held.set()
                hang()
        thread(hold)
        held.wait()
        say("now")
        if {where!r} == "waits":
            pool.acquire()
        else:
            pool.stop(timeout=None)
    with pool.connection():
        say("now")
        hang()
    """
    code, said, complaints = run(script, send=signal.SIGINT, after="now")
    assert code in (-signal.SIGINT, 130)
    assert said == ["now"]
    assert complaints.count("Traceback") == 1
    assert complaints.endswith("KeyboardInterrupt\n")
