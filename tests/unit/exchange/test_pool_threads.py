"""Many threads at once, switched as often as the interpreter can: invariants and permitted errors only."""

import gc
import random
import signal
import sys
import threading

import pytest

from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import (
    PoolCreateError,
    PoolDeadlockError,
    PoolDownError,
    PoolError,
    PoolFullError,
    PoolStoppedError,
    PoolTimeoutError,
)
from hireliab.exchange import (
    _pool_backoff,
    _pool_engine,
    _pool_lease,
    _pool_making,
    _pool_phases,
    _pool_queue,
    _pool_state,
    _pool_upkeep,
    connection_pool,
)
from hireliab.exchange.connection_pool import ConnectionPool
from tests.support.together import handler


class Client:
    """Notices two users at once and a second close."""

    def __init__(self, world):
        self.world = world
        self.busy = threading.Lock()
        self.closed = 0

    def work(self, error=None):
        self.world.calls += 1
        assert self.busy.acquire(blocking=False), "one client in two threads"
        try:
            assert not self.closed, "a closed client was lent"
            if error is not None:
                raise error
        finally:
            self.busy.release()

    def close(self):
        self.closed += 1
        assert self.closed == 1, "closed twice"


class World:
    def __init__(self, failing=0.0):
        self.clients = []
        self.failing = failing
        self.calls = 0  # racy, and only looked at by single threads

    def make(self):
        if random.random() < self.failing:
            raise OSError("down")
        client = Client(self)  # not clients[-1]: a signal handler may make another one in between
        self.clients.append(client)
        return client


@pytest.fixture
def fast_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def storm(pool, threads, rounds, act):
    barrier = threading.Barrier(threads)
    errors = []

    def run(seed):
        rng = random.Random(seed)
        try:
            barrier.wait(20)
            for _ in range(rounds):
                act(rng)
        except BaseException as error:
            errors.append(error)

    crew = [threading.Thread(target=run, args=(seed,), daemon=True) for seed in range(threads)]
    for thread in crew:
        thread.start()
    # Far beyond the second that it takes: niced beside a whole CI, a storm needs a hundred times as long.
    give_up = SYSTEM_CLOCK.monotonic() + 120
    for thread in crew:
        thread.join(max(0.0, give_up - SYSTEM_CLOCK.monotonic()))
        assert not thread.is_alive(), f"hangs: {pool.stats()}"
    if errors:
        raise errors[0]


def one_action(pool, rng):
    """One random use of the pool; only the errors that may happen are let pass."""
    choice = rng.randrange(8)
    try:
        if choice == 0:
            pool.execute("work", ConnectionResetError())
        elif choice == 1:
            pool.execute("work", ValueError())
        elif choice == 2:
            with pool.connection(timeout=rng.choice([0, 0.001, 2])) as client:
                client.work()
        elif choice == 3:
            lease = pool.acquire()
            lease.client.work()
            lease.discard()
        elif choice == 4:
            pool.acquire()  # dropped
        elif choice == 5:
            lease = pool.acquire()
            closer = [lease.release, lease.discard]
            rng.shuffle(closer)
            closer[0]()
        else:
            pool.execute("work")
    except (PoolTimeoutError, PoolCreateError, PoolDownError, ConnectionResetError, ValueError):
        pass


def recovered(pool):
    """Wait until the pool has seen that its factory works again."""
    give_up = SYSTEM_CLOCK.monotonic() + 60
    while pool.stats().down:
        assert SYSTEM_CLOCK.monotonic() < give_up, f"does not recover: {pool.stats()}"
        held = []
        try:
            while pool.stats().idle:  # they are lent as before, and prove nothing
                held.append(pool.acquire(timeout=1))
            pool.acquire(timeout=1).release()
        except (PoolDownError, PoolTimeoutError, PoolDeadlockError):
            pass
        for lease in held:
            lease.release()


def quiet(pool, world, size):
    """All the capacity is back: `size` clients can be borrowed at once, and no more."""
    gc.collect()
    world.failing = 0.0
    recovered(pool)
    leases = [pool.acquire(timeout=5) for _ in range(size)]
    with pytest.raises(PoolTimeoutError):
        pool.acquire(timeout=0)
    stats = pool.stats()
    assert (stats.size, stats.in_use, stats.idle, stats.waiting, stats.creating) == (size, size, 0, 0, 0)
    assert len({id(lease.client) for lease in leases}) == size
    for lease in leases:
        lease.release()
    stats = pool.stats()
    assert stats.created == stats.size + stats.discarded
    pool.stop()
    for thread in threading.enumerate():
        if thread.name == "hireliab.pool-housekeeper":
            thread.join(30)  # stop() waits two seconds for it, and it may still have to close what it took out
    assert [client for client in world.clients if client.closed != 1] == []
    assert pool.stats().close_errors == 0


@pytest.mark.parametrize("failing", [0.0, 0.3])
@pytest.mark.usefixtures("fast_switching")
def test_under_a_storm_no_client_is_lent_twice_and_none_is_lost(failing, monkeypatch):
    # Short pauses: else the first failure refuses the rest of the storm.
    monkeypatch.setattr(_pool_backoff, "_FIRST", 1e-4)
    world = World(failing)
    config = {"min_connections": 0, "max_connections": 3, "connection_timeout": 20}
    pool = ConnectionPool(name="storm", create_client_func=world.make, config=config)

    def act(rng):
        one_action(pool, rng)
        stats = pool.stats()
        assert stats.size == stats.idle + stats.in_use
        assert stats.size + stats.creating <= 3

    storm(pool, threads=8, rounds=60, act=act)
    assert pool.stats().created > 3, "it was a row of refusals"
    quiet(pool, world, 3)


def test_an_outage_that_ends_while_idle_clients_are_left_is_seen_to_end():
    world = World()
    config = {"min_connections": 0, "max_connections": 3}
    pool = ConnectionPool(name="storm", create_client_func=world.make, config=config)
    held = [pool.acquire(), pool.acquire()]
    world.failing = 1.0
    with pytest.raises(PoolCreateError):
        pool.acquire()
    for lease in held:
        lease.release()
    assert (pool.stats().down, pool.stats().idle) == (True, 2)
    quiet(pool, world, 3)


@pytest.mark.usefixtures("fast_switching")
def test_stopping_and_starting_in_the_middle_loses_nothing():
    world = World()
    config = {"min_connections": 1, "max_connections": 2, "connection_timeout": 20, "max_waiting": 5}
    pool = ConnectionPool(name="storm", create_client_func=world.make, config=config)

    def act(rng):
        try:
            if rng.random() < 0.1:
                pool.stop(timeout=0)
                pool.initialize()
            one_action(pool, rng)
        except (PoolStoppedError, PoolFullError):
            pass

    storm(pool, threads=6, rounds=40, act=act)
    pool.stop()
    pool.initialize()
    quiet(pool, world, 2)


@pytest.mark.usefixtures("fast_switching")
def test_timeouts_that_meet_returns_lose_nothing():
    world = World()
    config = {"min_connections": 0, "max_connections": 1}
    pool = ConnectionPool(name="race", create_client_func=world.make, config=config)

    def act(rng):
        try:
            with pool.connection(timeout=rng.random() * 0.0005):
                pass
        except PoolTimeoutError:
            pass

    storm(pool, threads=4, rounds=150, act=act)
    assert len(world.clients) == 1
    quiet(pool, world, 1)


def test_a_pool_error_means_that_nothing_was_called():
    world = World()
    pool = ConnectionPool(
        name="promise", create_client_func=world.make, config={"min_connections": 0, "max_connections": 1}
    )
    rng = random.Random(7)
    for _ in range(300):
        world.failing = rng.choice([0.0, 1.0])
        if not world.failing:
            recovered(pool)
        before = world.calls
        lease = pool.acquire() if rng.random() < 0.3 and not world.failing else None
        if rng.random() < 0.2:
            pool.stop(timeout=0)
        try:
            pool.execute("work", rng.choice([None, ConnectionResetError()]))
        except PoolError:
            assert world.calls == before
        except ConnectionResetError:
            assert world.calls == before + 1
        else:
            assert world.calls == before + 1
        if lease is not None:
            lease.release()
        if pool.stats().status == "stopped":
            world.failing = 0.0
            pool.initialize()
    pool.stop()


# -- Ctrl-C and signal handlers -------------------------------------------------------------------------------------

needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")


@pytest.fixture
def alarm():
    """Call `start(func, seconds)`: the function then runs in the main thread at random instructions."""
    before = signal.getsignal(signal.SIGALRM)

    def start(func, seconds):
        signal.signal(signal.SIGALRM, handler(func))
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@needs_timer
def test_after_many_interrupts_all_the_capacity_is_back(alarm):
    world = World()
    # A short time-out: a client whose frame died in a circle of traceback and exception is away until it is collected.
    config = {"min_connections": 0, "max_connections": 2, "connection_timeout": 0.05, "reset_func": lambda client: None}
    pool = ConnectionPool(name="ctrl-c", create_client_func=world.make, config=config)
    parts = (
        connection_pool,
        _pool_engine,
        _pool_lease,
        _pool_making,
        _pool_phases,
        _pool_queue,
        _pool_state,
        _pool_upkeep,
    )
    files = {module.__file__ for module in parts}
    hits = 0
    armed = False

    def interrupt(signum, frame):
        # Only inside the pool's own files: an interrupt in the test's code would prove nothing.
        if armed and frame is not None and frame.f_code.co_filename in files:
            raise KeyboardInterrupt

    barrier = threading.Barrier(2)
    stop = threading.Event()

    def rival():
        barrier.wait(20)
        rng = random.Random(1)
        while not stop.is_set():
            one_action(pool, rng)

    other = threading.Thread(target=rival, daemon=True)
    other.start()
    barrier.wait(20)
    alarm(interrupt, 0.0002)
    rng = random.Random(2)
    for _ in range(1500):
        try:
            armed = True
            one_action(pool, rng)
        except KeyboardInterrupt:
            hits += 1
        except PoolDeadlockError:
            # A lease that died in a circle of traceback and exception is this thread's until it is collected.
            gc.collect()
        finally:
            armed = False
        if hits >= 60:
            break
    stop.set()
    other.join(30)
    assert not other.is_alive()
    assert hits > 0
    # A client whose frame was killed between two instructions is collected, not closed: only capacity is promised.
    gc.collect()
    pool._tend()
    with pool.connection(timeout=5), pool.connection(timeout=5):
        assert pool.stats().size == 2
    pool.stop()


@needs_timer
def test_a_signal_handler_that_uses_the_pool_does_not_hang(alarm):
    world = World()
    config = {"min_connections": 0, "max_connections": 2, "connection_timeout": 5}
    pool = ConnectionPool(name="handler", create_client_func=world.make, config=config)
    runs = []

    def interrupt(signum, frame):
        runs.append(1)
        try:
            pool.acquire(timeout=0).release()
        except PoolError:
            pass
        if len(runs) % 7 == 0:
            pool.stop(timeout=0)

    alarm(interrupt, 0.0003)
    for _ in range(100_000):
        try:
            pool.execute("work")
        except PoolStoppedError:
            try:
                pool.initialize()
            except PoolError:
                pass
        if len(runs) >= 60:
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert runs
    pool.stop()
    pool.initialize()
    quiet(pool, world, 2)
