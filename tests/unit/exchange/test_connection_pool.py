import dataclasses
import gc
import logging
import pickle
import threading
import weakref

import pytest

from hireliab.errors import (
    ClosedError,
    ConfigError,
    NotSentError,
    OrderRejectedError,
    PoolCreateError,
    PoolDeadlockError,
    PoolDownError,
    PoolError,
    PoolFullError,
    PoolStoppedError,
    PoolTimeoutError,
    ResponseTimeoutError,
)
from hireliab.exchange import _pool_backoff, _pool_housekeeper
from hireliab.exchange.connection_pool import ConnectionPool, PoolConfig
from hireliab.testing import FakeClock
from tests.support.pools import other_thread


class Client:
    def __init__(self, number=0):
        self.number = number
        self.closed = 0
        self.calls = []

    def place(self, /, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self.number

    def fail(self, error):
        raise error

    def close(self):
        self.closed += 1


class Maker:
    """A factory that remembers its clients, and raises what `errors` holds first."""

    def __init__(self):
        self.made = []
        self.errors = []

    def __call__(self):
        if self.errors:
            raise self.errors.pop(0)
        self.made.append(Client(len(self.made)))
        return self.made[-1]


class Task:
    """A thread whose result or error is fetched with `.end()`."""

    def __init__(self, func, *args, **kwargs):
        self.result = None
        self.error = None

        def run():
            try:
                self.result = func(*args, **kwargs)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def end(self):
        self.thread.join(20)
        assert not self.thread.is_alive(), "the thread hangs"
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make():
    return Maker()


@pytest.fixture
def no_jitter(monkeypatch):
    """Each pause and each lifetime has its full length."""
    monkeypatch.setattr(_pool_backoff.random, "random", lambda: 1.0)


# -- settings -----------------------------------------------------------------------------------------------------


def test_an_unknown_setting_names_its_near_miss(pool_of):
    with pytest.raises(ConfigError, match="max_connections") as caught:
        pool_of(max_conections=3)
    assert caught.value.near_miss == "max_connections"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("min_connections", 11),
        ("min_connections", -1),
        ("min_connections", True),
        ("max_connections", 0),
        ("max_connections", 2.5),
        ("connection_timeout", float("nan")),
        ("connection_timeout", -1),
        ("connection_timeout", "10"),
        ("idle_timeout", 0),
        ("max_lifetime", -5),
        ("max_waiting", -1),
        ("validate_func", "ping"),
        ("close_func", 1),
        ("max_connecting", 0),
        ("max_connecting", True),
        ("keepalive_interval", 0),
        ("keepalive_interval", 5),
        ("leak_timeout", float("inf")),
        ("is_broken", True),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(pool_of, setting, value):
    with pytest.raises(ConfigError, match=setting) as caught:
        pool_of(**{"max_connections": 10, setting: value})
    assert caught.value.setting == setting
    assert caught.value.allowed


def test_a_factory_that_is_no_callable_is_refused():
    with pytest.raises(ConfigError, match="create_client_func"):
        ConnectionPool(name="p", create_client_func="requests.Session")


def test_a_config_object_is_taken_as_it_is(make):
    config = PoolConfig(max_connections=7)
    assert ConnectionPool(name="p", create_client_func=make, config=config).config is config


@pytest.mark.parametrize("timeout", [float("nan"), -0.1, "1", True])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(pool_of, timeout):
    pool = pool_of()
    with pytest.raises(ConfigError, match="timeout"):
        pool.acquire(timeout=timeout)
    with pytest.raises(ConfigError, match="timeout"):
        pool.connection(timeout=timeout)


def test_the_constructor_makes_no_client_and_no_thread(make):
    before = threading.active_count()
    ConnectionPool(name="p", create_client_func=make)
    assert (make.made, threading.active_count()) == ([], before)


# -- start --------------------------------------------------------------------------------------------------------


def test_initialize_makes_the_minimum_once(pool_of, make):
    pool = pool_of(min_connections=2)
    pool.initialize()
    pool.initialize()
    stats = pool.stats()
    assert (len(make.made), stats.idle, stats.status) == (2, 2, "running")


def test_a_factory_that_always_fails_leaves_the_pool_unstarted_and_is_the_cause(pool_of, make):
    pool = pool_of(min_connections=2)
    reason = OSError("no route")
    make.errors = [OSError("first"), reason]
    with pytest.raises(PoolCreateError) as caught:
        pool.initialize()
    assert caught.value.__cause__ is reason
    assert pool.stats().status == "new"
    pool.initialize()
    assert pool.stats().idle == 2


def test_one_client_of_two_is_enough_to_start(pool_of, make, caplog):
    pool = pool_of(min_connections=2)
    make.errors = [OSError("first")]
    with caplog.at_level(logging.WARNING):
        pool.initialize()
    assert (pool.stats().status, pool.stats().size) == ("running", 1)
    assert "1 new clients, not 2" in caplog.text
    pool._tend()
    assert pool.stats().size == 2


def test_initialize_ends_at_its_deadline_with_what_it_has(pool_of, clock):
    def slow():
        clock.advance(6)
        return Client()

    pool = pool_of(slow, min_connections=4, connection_timeout=10)
    pool.initialize()
    assert pool.stats().size == 2


def test_an_interrupted_initialize_can_be_repeated(pool_of, make):
    pool = pool_of(min_connections=1)
    make.errors = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        pool.initialize()
    assert pool.stats().create_failures == 0
    pool.initialize()
    assert pool.stats().idle == 1


def test_two_threads_share_one_initialize(pool_of, clock):
    inside, go = threading.Event(), threading.Event()
    made = []

    def factory():
        inside.set()
        go.wait(20)
        made.append(1)
        return Client()

    pool = pool_of(factory, min_connections=1)
    first = Task(pool.initialize)
    inside.wait(20)
    second = Task(pool.initialize)
    clock.wait_parked(1)
    go.set()
    first.end()
    second.end()
    assert made == [1]


def test_the_thread_that_joined_a_failed_initialize_gets_the_same_cause(pool_of, clock):
    inside, go = threading.Event(), threading.Event()

    def factory():
        inside.set()
        go.wait(20)
        raise OSError("down")

    pool = pool_of(factory, min_connections=1)
    tasks = [Task(pool.initialize)]
    inside.wait(20)
    tasks.append(Task(pool.initialize))
    clock.wait_parked(1)
    go.set()
    for task in tasks:
        with pytest.raises(PoolCreateError) as caught:
            task.end()
        assert isinstance(caught.value.__cause__, OSError)


def test_a_factory_that_initialises_its_own_pool_does_not_hang(pool_of):
    def factory():
        pool.initialize()
        return Client()

    pool = pool_of(factory, min_connections=1)
    pool.initialize()
    assert pool.stats().size == 1


def test_the_first_acquire_starts_the_pool_with_one_client(pool_of, make):
    pool = pool_of(min_connections=3)
    pool.acquire().release()
    assert len(make.made) == 1


def test_the_with_statement_starts_and_stops(pool_of, make):
    with pool_of(min_connections=1) as pool:
        assert pool.stats().idle == 1
    assert make.made[0].closed == 1
    assert pool.stats().status == "stopped"


# -- execute ------------------------------------------------------------------------------------------------------


def test_every_argument_reaches_the_method(pool_of, make):
    pool = pool_of()
    kwargs = {"self": 1, "method": 2, "name": 3, "timeout": 4, "type": 5}
    assert pool.execute("place", "BTC/USDT", **kwargs) == 0
    assert make.made[0].calls == [(("BTC/USDT",), kwargs)]


@pytest.mark.parametrize("name", ["_private", "__class__", "", "a b", 3, None, "place.x"])
def test_a_name_that_is_no_public_method_is_refused_before_a_client_is_made(pool_of, make, name):
    with pytest.raises(ConfigError, match="public method"):
        pool_of().execute(name)
    assert make.made == []


@pytest.mark.parametrize("name", ["plase", "number"])
def test_a_method_that_does_not_exist_keeps_the_client(pool_of, make, name):
    pool = pool_of()
    with pytest.raises(ConfigError):
        pool.execute(name)
    assert (pool.stats().idle, pool.stats().discarded) == (1, 0)


def test_a_missing_method_is_told_with_its_near_miss_even_when_no_client_is_free(pool_of):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    with pytest.raises(ConfigError, match="did you mean 'place'") as caught:
        pool.execute("plase")
    assert caught.value.near_miss == "place"
    lease.release()


def test_a_client_that_computes_its_methods_is_asked(pool_of):
    class Magic:
        def __getattr__(self, name):
            if name.startswith("fetch"):
                return lambda: name
            raise AttributeError(name)

    pool = pool_of(Magic)
    assert pool.execute("fetch_ticker") == "fetch_ticker"
    with pytest.raises(ConfigError):
        pool.execute("other")


@pytest.mark.parametrize("error", [ValueError("x"), OrderRejectedError("no"), ResponseTimeoutError("late"),
                                   ConnectionResetError(), KeyboardInterrupt()])  # fmt: skip
def test_the_users_exception_passes_untouched(pool_of, error):
    with pytest.raises(type(error)) as caught:
        pool_of().execute("fail", error)
    assert caught.value is error
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("error", [ResponseTimeoutError("late"), ConnectionResetError(), KeyboardInterrupt()])
def test_a_client_that_may_be_broken_is_closed_and_replaced(pool_of, make, error):
    pool = pool_of(max_connections=1)
    with pytest.raises(type(error)):
        pool.execute("fail", error)
    assert make.made[0].closed == 1
    assert pool.stats().size == 0
    assert pool.execute("place") == 1
    assert pool.stats().discards == {"broken": 1}


@pytest.mark.parametrize("error", [ValueError("x"), OrderRejectedError("no")])
def test_a_client_that_answered_is_kept(pool_of, make, error):
    pool = pool_of()
    with pytest.raises(type(error)):
        pool.execute("fail", error)
    assert (pool.stats().idle, make.made[0].closed) == (1, 0)


def test_a_pool_error_of_the_method_itself_passes_through(pool_of):
    error = PoolTimeoutError("of another pool")
    with pytest.raises(PoolTimeoutError) as caught:
        pool_of().execute("fail", error)
    assert caught.value is error


# -- leases -------------------------------------------------------------------------------------------------------


def test_the_client_used_last_is_lent_first(pool_of):
    pool = pool_of(max_connections=3)
    leases = [pool.acquire() for _ in range(3)]
    for number in (0, 2, 1):
        leases[number].release()
    assert [pool.acquire().client.number for _ in range(1)] == [1]


def test_a_second_release_changes_nothing(pool_of, caplog):
    pool = pool_of()
    lease = pool.acquire()
    lease.release()
    other = pool.acquire()
    with caplog.at_level(logging.WARNING):
        lease.release()
        lease.discard()
    assert caplog.text.count("given back twice") == 2
    assert (pool.stats().in_use, other.client.closed) == (1, 0)
    other.release()


def test_a_lease_that_was_given_back_yields_no_client(pool_of):
    lease = pool_of().acquire()
    lease.release()
    with pytest.raises(ClosedError, match="given back"):
        lease.client


def test_leaving_a_block_with_an_error_decides_like_execute(pool_of, make):
    pool = pool_of()
    with pytest.raises(ValueError), pool.connection():
        raise ValueError
    with pytest.raises(OSError), pool.connection():
        raise ConnectionResetError
    with pytest.raises(OSError), pool.acquire() as lease:
        assert lease.client.number == 1
        raise ConnectionResetError
    assert [client.closed for client in make.made] == [1, 1]


def test_a_lease_discarded_inside_its_block_stays_discarded(pool_of, make):
    pool = pool_of()
    with pool.acquire() as lease:
        lease.discard("odd answer")
    assert (make.made[0].closed, pool.stats().size) == (1, 0)


def test_one_connection_object_serves_one_block(pool_of):
    block = pool_of().connection()
    with block, pytest.raises(ConfigError):
        block.__enter__()


def test_a_dropped_lease_gives_its_place_back_and_its_client_is_never_lent_again(pool_of, make):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    cycle = [lease]
    cycle.append(cycle)
    del lease, cycle
    gc.collect()
    with pool.connection() as client:
        assert client is make.made[1]
    assert make.made[0].closed == 1
    assert pool.stats().discards == {"abandoned": 1}


def test_the_tend_round_finds_a_dropped_lease_too(pool_of, make):
    pool = pool_of(max_connections=1)
    pool.acquire()
    gc.collect()
    pool._tend()
    assert (pool.stats().size, make.made[0].closed) == (0, 1)


# -- waiting ------------------------------------------------------------------------------------------------------


def waiters(pool, clock, count, **kwargs):
    """Threads that wait for a client, queued one after the other."""
    tasks = []
    for n in range(count):
        tasks.append(Task(pool.acquire, **kwargs))
        clock.wait_parked(n + 1)
    return tasks


def test_waiters_are_served_in_their_order_and_from_hand_to_hand(pool_of, clock, make):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    tasks = waiters(pool, clock, 3)
    for task in tasks:
        lease.release()
        lease = task.end()
        assert lease.client is make.made[0]
    lease.release()
    assert len(make.made) == 1


def test_a_thread_that_returns_and_asks_again_does_not_pass_a_waiter(pool_of, clock):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    [task] = waiters(pool, clock, 1)
    lease.release()
    with pytest.raises(PoolTimeoutError):
        pool.acquire(timeout=0)
    task.end().release()


def test_a_timeout_tells_the_whole_picture_and_is_no_oserror(pool_of, clock):
    pool = pool_of(max_connections=1, connection_timeout=10)
    lease = pool.acquire()
    [task] = waiters(pool, clock, 1)
    clock.advance(9.9)
    clock.wait_parked(1)
    clock.advance(0.2)
    with pytest.raises(PoolTimeoutError) as caught:
        task.end()
    text = str(caught.value)
    for fact in ("'p'", "10.1 s", "total 1 of 1", "in use 1", "idle 0", "waiting 1"):
        assert fact in text
    assert not isinstance(caught.value, OSError)
    assert isinstance(caught.value, NotSentError)
    assert caught.value.retryable
    assert pickle.loads(pickle.dumps(caught.value)).pool == "p"
    assert (pool.stats().timeouts, pool.stats().waiting) == (1, 0)
    lease.release()


def test_the_timeout_of_a_call_wins_over_the_setting(pool_of, clock):
    pool = pool_of(max_connections=1, connection_timeout=10)
    lease = pool.acquire()
    [task] = waiters(pool, clock, 1, timeout=2)
    clock.advance(2)
    with pytest.raises(PoolTimeoutError):
        task.end()
    [task] = waiters(pool, clock, 1, timeout=None)
    clock.advance(1e9)
    clock.wait_parked(1)
    lease.release()
    task.end().release()


def test_a_timeout_beyond_what_locks_can_wait_is_taken(make):
    # On the real clock: a lock refuses such a number with OverflowError.
    pool = ConnectionPool(name="p", create_client_func=make, config={"max_connections": 1, "min_connections": 0})
    lease = pool.acquire()
    task = Task(pool.acquire, timeout=1e300)
    while pool.stats().waiting == 0:
        assert task.thread.is_alive()
    lease.release()
    task.end().release()
    pool.stop()


def test_zero_does_not_wait_but_makes_a_client_where_there_is_room(pool_of):
    pool = pool_of(max_connections=1, connection_timeout=0)
    lease = pool.acquire()
    with pytest.raises(PoolTimeoutError):
        Task(pool.acquire).end()
    lease.release()
    assert pool.execute("place") == 0


def test_more_waiters_than_allowed_are_refused_at_once(pool_of, clock):
    pool = pool_of(max_connections=1, max_waiting=1)
    lease = pool.acquire()
    [task] = waiters(pool, clock, 1)
    with pytest.raises(PoolFullError, match="1 callers wait already"):
        Task(pool.acquire).end()
    lease.release()
    task.end().release()
    assert pool.stats().refused_full == 1


def test_a_thousand_timeouts_leave_nothing_behind(pool_of):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    for _ in range(1000):
        with pytest.raises(PoolTimeoutError):
            pool.acquire(timeout=0)
    assert len(pool._state.waiting) == 0
    lease.release()


class HandOverAtTheDeadline(FakeClock):
    """Returns "time is over" from the wait, but only after `at_deadline` ran: the race, made certain."""

    def __init__(self):
        super().__init__()
        self.at_deadline = None

    def acquire(self, lock, timeout=None):
        if self.at_deadline is None:
            return super().acquire(lock, timeout)
        event, self.at_deadline = self.at_deadline, None
        self.advance(timeout)
        result = event()
        if isinstance(result, BaseException):
            raise result
        return False


@pytest.fixture
def race(make):
    clock = HandOverAtTheDeadline()
    pool = ConnectionPool(
        name="p", create_client_func=make, config={"min_connections": 0, "max_connections": 1}, clock=clock
    )
    yield clock, pool
    pool.stop(timeout=0)


def test_a_client_handed_over_at_the_deadline_is_taken_not_lost(race):
    clock, pool = race
    lease = Task(pool.acquire).end()
    clock.at_deadline = lease.release
    with pool.connection(timeout=5):
        assert pool.stats().in_use == 1
    assert (pool.stats().timeouts, pool.stats().idle) == (0, 1)


def test_a_waiter_interrupted_after_the_hand_over_gives_the_client_back(race):
    clock, pool = race
    lease = Task(pool.acquire).end()

    def event():
        lease.release()
        return KeyboardInterrupt()

    clock.at_deadline = event
    with pytest.raises(KeyboardInterrupt):
        pool.acquire(timeout=5)
    assert (pool.stats().idle, pool.stats().discarded) == (1, 0)


def test_a_waiter_interrupted_after_it_was_given_a_place_frees_it(race, make):
    clock, pool = race
    lease = Task(pool.acquire).end()

    def event():
        lease.discard()
        return KeyboardInterrupt()

    clock.at_deadline = event
    with pytest.raises(KeyboardInterrupt):
        pool.acquire(timeout=5)
    assert (pool.stats().creating, pool.stats().waiting) == (0, 0)
    assert pool.execute("place") == 1


def test_a_waiter_interrupted_while_it_waits_leaves_the_queue(race):
    clock, pool = race
    lease = Task(pool.acquire).end()
    clock.at_deadline = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        pool.acquire(timeout=5)
    assert len(pool._state.waiting) == 0
    lease.release()
    assert pool.stats().idle == 1


# -- deadlock -----------------------------------------------------------------------------------------------------


def test_a_thread_that_holds_every_client_is_told_at_once(pool_of):
    pool = pool_of(max_connections=2, connection_timeout=None)
    with pool.connection(), pool.connection():
        with pytest.raises(PoolDeadlockError, match="holds every client"):
            pool.acquire()
        with pytest.raises(PoolTimeoutError):
            pool.acquire(timeout=0)
        assert pool.stats().waiting == 0


def test_another_threads_client_is_worth_waiting_for(pool_of, clock):
    pool = pool_of(max_connections=2)
    other = Task(pool.acquire).end()

    def nested():
        with pool.connection(), pool.connection() as client:
            return client.number

    task = Task(nested)
    clock.wait_parked(1)
    other.release()
    assert task.end() == 0


def test_a_lease_handed_to_another_thread_is_that_threads(pool_of, clock):
    pool = pool_of(max_connections=1)

    def use(lease):
        assert lease.client.number == 0

    def dispatch():
        lease = pool.acquire()
        Task(use, lease).end()
        handed.append(lease)
        return pool.acquire()

    handed = []
    task = Task(dispatch)
    clock.wait_parked(1)
    handed[0].release()
    task.end().release()


def test_a_client_under_construction_elsewhere_is_worth_waiting_for(pool_of, clock):
    inside, go = threading.Event(), threading.Event()
    clients = [Client(0)]

    def factory():
        if clients:
            return clients.pop()
        inside.set()
        go.wait(20)
        return Client(1)

    pool = pool_of(factory, max_connections=2)

    def nested():
        with pool.connection():
            nonlocal other
            other = Task(pool.acquire)
            inside.wait(20)
            return pool.acquire()

    other = None
    task = Task(nested)
    clock.wait_parked(1)
    go.set()
    other.end().release()
    task.end().release()


def test_a_factory_that_needs_its_own_full_pool_fails_at_once(pool_of):
    def factory():
        with pool.connection():
            return Client()

    pool = pool_of(factory, max_connections=1, connection_timeout=None)
    with pytest.raises(PoolCreateError) as caught:
        pool.acquire()
    assert isinstance(caught.value.__cause__, PoolDeadlockError)
    assert pool.stats().creating == 0


# -- the factory misbehaves ---------------------------------------------------------------------------------------


def test_the_factorys_error_is_the_cause_and_its_place_is_free_again(pool_of, clock, make):
    pool = pool_of(max_connections=1)
    reason = OSError("down")
    make.errors = [reason]
    with pytest.raises(PoolCreateError) as caught:
        pool.execute("place")
    assert caught.value.__cause__ is reason
    clock.advance(0.05)
    assert pool.execute("place") == 0
    assert pool.stats().create_failures == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_in_the_factory_passes_raw_and_frees_the_place(pool_of, make, error):
    pool = pool_of(max_connections=1)
    make.errors = [error()]
    with pytest.raises(error):
        pool.acquire()
    assert (pool.stats().creating, pool.stats().create_failures) == (0, 0)
    assert pool.execute("place") == 0


def test_none_from_the_factory_is_refused(pool_of):
    pool = pool_of(lambda: None)
    with pytest.raises(PoolCreateError, match="None"):
        pool.acquire()
    assert (pool.stats().size, pool.stats().creating) == (0, 0)


def test_the_same_client_twice_is_refused_and_stays_open(pool_of):
    one = Client()
    pool = pool_of(lambda: one)
    with pool.connection(), pytest.raises(PoolCreateError, match="already"):
        pool.acquire()
    assert (one.closed, pool.stats().size) == (0, 1)


def test_a_hanging_factory_holds_nobody_else_up(pool_of, clock):
    inside, go = threading.Event(), threading.Event()
    clients = [Client(0)]

    def factory():
        if clients:
            return clients.pop()
        inside.set()
        go.wait(20)
        return Client(1)

    pool = pool_of(factory, max_connections=2)
    lease = pool.acquire()
    slow = Task(pool.acquire)
    inside.wait(20)
    [waiting] = waiters(pool, clock, 1)
    lease.release()  # goes to the waiter, not to the one that dials
    assert waiting.end().client.number == 0
    go.set()
    assert slow.end().client.number == 1


@pytest.mark.parametrize("close", ["fine", "raises"])
def test_a_broken_client_wakes_a_waiter_and_a_failed_creation_tells_the_next(pool_of, clock, make, close, no_jitter):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    first, second = waiters(pool, clock, 2)
    make.errors = [OSError("down")]
    if close == "raises":
        lease.client.close = lambda: 1 / 0
    lease.discard()
    with pytest.raises(PoolCreateError):
        first.end()
    with pytest.raises(PoolDownError):
        second.end()


def test_an_interrupted_creation_wakes_the_next_waiter(pool_of, clock, make):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    first, second = waiters(pool, clock, 2)
    make.errors = [SystemExit()]
    lease.discard()
    with pytest.raises(SystemExit):
        first.end()
    second.end().release()


# -- hooks --------------------------------------------------------------------------------------------------------


def test_only_a_client_that_lay_idle_for_a_second_is_checked(pool_of, clock):
    checked = []
    pool = pool_of(validate_func=lambda client: checked.append(client.number) or True)
    pool.execute("place")
    clock.advance(0.9)
    pool.execute("place")
    assert checked == []
    clock.advance(1.0)
    pool.execute("place")
    assert checked == [0]


@pytest.mark.parametrize("verdict", [lambda client: False, lambda client: 1 / 0], ids=["false", "raises"])
def test_a_client_that_fails_its_check_is_replaced_for_the_same_caller(pool_of, clock, make, verdict):
    pool = pool_of(max_connections=1, validate_func=verdict)
    pool.execute("place")
    clock.advance(1)
    assert pool.execute("place") == 1
    assert make.made[0].closed == 1
    assert pool.stats().discards == {"invalid": 1}


def test_a_failed_check_and_a_failed_creation_tell_the_next_waiter(pool_of, clock, make, no_jitter):
    inside, go = threading.Event(), threading.Event()

    def check(client):
        inside.set()
        go.wait(20)
        return False

    pool = pool_of(max_connections=1, validate_func=check)
    pool.execute("place")
    clock.advance(1)
    first = Task(pool.acquire)
    inside.wait(20)
    [second] = waiters(pool, clock, 1)
    make.errors = [OSError("down")]
    go.set()
    with pytest.raises(PoolCreateError):
        first.end()
    with pytest.raises(PoolDownError):
        second.end()


def test_an_interrupted_check_does_not_lend_the_client_again(pool_of, clock, make):
    def check(client):
        raise KeyboardInterrupt

    pool = pool_of(max_connections=1, validate_func=check)
    pool.execute("place")
    clock.advance(1)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert (pool.stats().size, make.made[0].closed) == (0, 1)


def test_a_check_that_eats_the_time_ends_in_a_timeout_with_nothing_lost(pool_of, clock, make):
    def check(client):
        clock.advance(11)
        return False

    pool = pool_of(max_connections=1, connection_timeout=10, validate_func=check)
    pool.execute("place")
    clock.advance(1)
    with pytest.raises(PoolTimeoutError):
        pool.acquire()
    stats = pool.stats()
    assert (stats.size, stats.creating, stats.timeouts, len(make.made)) == (0, 0, 1, 1)


def test_reset_runs_on_a_client_that_comes_back_and_its_failure_is_never_the_callers(pool_of, make):
    seen = []

    def reset(client):
        seen.append(client.number)
        if len(seen) == 2:
            raise ValueError("will not")

    pool = pool_of(reset_func=reset)
    assert [pool.execute("place") for _ in range(3)] == [0, 0, 1]
    assert make.made[0].closed == 1
    with pytest.raises(ConnectionResetError):
        pool.execute("fail", ConnectionResetError())
    assert seen == [0, 0, 1]
    assert pool.stats().discards == {"reset": 1, "broken": 1}


def test_an_interrupted_reset_closes_the_client_and_passes(pool_of, make):
    def reset(client):
        raise KeyboardInterrupt

    pool = pool_of(reset_func=reset)
    lease = pool.acquire()
    with pytest.raises(KeyboardInterrupt):
        lease.release()
    assert (make.made[0].closed, pool.stats().size) == (1, 0)


def test_close_func_is_used_instead_of_close(pool_of, make):
    closed = []
    pool = pool_of(close_func=closed.append)
    pool.acquire().discard()
    assert (closed, make.made[0].closed) == ([make.made[0]], 0)


def test_a_close_that_fails_is_counted_and_logged_only(pool_of, make, caplog):
    def close(client):
        raise OSError("already gone")

    pool = pool_of(close_func=close)
    with caplog.at_level(logging.WARNING):
        pool.acquire().discard()
    assert pool.stats().close_errors == 1
    assert "closing a client failed" in caplog.text


def test_a_ctrl_c_in_one_close_still_closes_the_others(pool_of, make):
    def close(client):
        client.closed += 1
        if client.number == 2:
            raise KeyboardInterrupt

    pool = pool_of(min_connections=3, close_func=close)
    pool.initialize()
    with pytest.raises(KeyboardInterrupt):
        pool.stop()
    assert [client.closed for client in make.made] == [1, 1, 1]
    assert pool.stats().status == "stopped"


def test_a_close_that_calls_the_pool_does_not_hang(pool_of, make):
    seen = []
    pool = pool_of(max_connections=1, close_func=lambda client: seen.append(pool.execute("place")))
    lease = pool.acquire()
    lease.discard()
    assert seen == [1]


class Hostile:
    """A client with every operator broken."""

    __slots__ = ("number",)
    __hash__ = None

    def __init__(self):
        self.number = 5

    def __eq__(self, other):
        raise AssertionError("compared")

    def __bool__(self):
        raise AssertionError("asked for its truth")

    def read(self):
        return self.number

    @property
    def close(self):
        raise ValueError("no close for you")


def test_a_client_with_odd_operators_is_handled_by_identity(pool_of):
    pool = pool_of(Hostile, max_connections=3)
    with pool.connection(), pool.connection():
        assert pool.execute("read") == 5
    pool.acquire().discard()
    assert pool.stop().closed == 2
    assert pool.stats().close_errors == 3


# -- eviction -----------------------------------------------------------------------------------------------------


def idle_pool(pool_of, count, **config):
    pool = pool_of(max_connections=count, **config)
    leases = [pool.acquire() for _ in range(count)]
    for lease in leases:
        lease.release()
    return pool


def test_idle_clients_above_the_minimum_are_closed_cold_end_first(pool_of, clock, make):
    pool = idle_pool(pool_of, 4, min_connections=2, idle_timeout=60)
    clock.advance(59)
    pool._tend()
    assert pool.stats().idle == 4
    clock.advance(1)
    pool._tend()
    assert [client.closed for client in make.made] == [1, 1, 0, 0]
    assert pool.stats().discards == {"idle": 2}


def test_a_client_used_lately_is_not_evicted(pool_of, clock, make):
    pool = idle_pool(pool_of, 2, idle_timeout=60)
    clock.advance(59)
    assert pool.execute("place") == 1
    clock.advance(1)
    pool._tend()
    assert [client.closed for client in make.made] == [1, 0]


def test_without_idle_timeout_nothing_is_evicted(pool_of, clock):
    pool = idle_pool(pool_of, 3, idle_timeout=None)
    clock.advance(1e6)
    pool._tend()
    assert pool.stats().idle == 3


def test_on_a_clock_of_its_own_a_pool_evicts_in_passing(pool_of, clock):
    pool = idle_pool(pool_of, 3, idle_timeout=60)
    clock.advance(61)
    pool.execute("place")
    assert pool.stats().size == 1


def test_an_old_client_is_not_lent_and_not_taken_back(pool_of, clock, make):
    pool = pool_of(max_lifetime=100, idle_timeout=None)
    pool._tended = float("inf")  # no upkeep in passing: the rule holds without it
    pool.execute("place")
    clock.advance(89)
    lease = pool.acquire()
    assert lease.client.number == 0
    clock.advance(11)
    lease.release()
    assert make.made[0].closed == 1
    assert pool.execute("place") == 1
    clock.advance(100)
    assert pool.execute("place") == 2
    assert pool.stats().discards == {"lifetime": 2}


def test_clients_made_together_do_not_expire_together(pool_of):
    pool = idle_pool(pool_of, 20, max_lifetime=1000)
    ends = {entry.expires for entry in pool._state.entries.values()}
    now = pool._clock.monotonic()
    assert len(ends) > 10
    assert all(now + 900 <= end <= now + 1000 for end in ends)


def test_a_tend_round_refills_to_the_minimum_and_survives_a_failing_factory(pool_of, clock, make, caplog):
    pool = pool_of(min_connections=2)
    pool.initialize()
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            pool.execute("fail", ConnectionResetError())
    make.errors = [OSError("down"), OSError("down")]
    with caplog.at_level(logging.WARNING):
        assert pool._tend()
        clock.advance(1)
        assert pool._tend()
    assert caplog.text.count("below min_connections") == 1
    clock.advance(1)
    pool._tend()
    assert pool.stats().idle == 2


def test_a_wall_clock_that_is_set_back_changes_nothing(pool_of, clock):
    pool = idle_pool(pool_of, 2, idle_timeout=60, max_lifetime=100)
    pool._tend()
    clock.step_wall(-7200)
    pool._tend()
    assert pool.stats().idle == 2


def test_a_machine_that_slept_closes_what_lay_idle(pool_of, clock, make):
    pool = idle_pool(pool_of, 2, idle_timeout=60)
    lease = pool.acquire()
    pool._tend()
    clock.step_wall(9)
    pool._tend()
    assert pool.stats().idle == 1
    clock.step_wall(3600)
    pool._tend()
    assert pool.stats().discards == {"suspend": 1}
    lease.release()
    assert pool.stats().idle == 1


# -- stop ---------------------------------------------------------------------------------------------------------


def test_stop_closes_idle_clients_once_and_refuses_calls(pool_of, make):
    pool = idle_pool(pool_of, 2)
    report = pool.stop()
    assert (report.closed, report.returned, report.left, report.creating) == (2, 0, 0, 0)
    assert pool.stop() == report
    assert [client.closed for client in make.made] == [1, 1]
    for use in (pool.acquire, lambda: pool.execute("place"), pool.connection().__enter__):
        with pytest.raises(PoolStoppedError):
            use()
    assert [client.calls for client in make.made] == [[], []]


def test_stop_waits_for_a_client_in_use(pool_of, clock, make):
    pool = pool_of()
    lease = pool.acquire()
    task = Task(pool.stop, timeout=5)
    clock.wait_parked(1)
    assert pool.stats().status == "stopping"
    with pytest.raises(PoolStoppedError):
        pool.initialize()
    lease.release()
    report = task.end()
    assert (report.returned, report.left, make.made[0].closed) == (1, 0, 1)


def test_a_client_that_is_left_is_closed_when_it_comes_back(pool_of, clock, make):
    pool = pool_of()
    lease = pool.acquire()
    task = Task(pool.stop, timeout=5)
    clock.wait_parked(1)
    clock.advance(5)
    assert task.end().left == 1
    assert make.made[0].closed == 0
    assert lease.client.place() == 0
    lease.release()
    assert (make.made[0].closed, pool.stats().size) == (1, 0)


def test_stop_fails_the_waiters_at_once_without_calling_anything(pool_of, clock, make):
    pool = pool_of(max_connections=1, connection_timeout=None)
    lease = pool.acquire()
    tasks = [Task(pool.execute, "place") for _ in range(3)]
    clock.wait_parked(3)
    stopper = Task(pool.stop, timeout=None)
    for task in tasks:
        with pytest.raises(PoolStoppedError) as caught:
            task.end()
        assert isinstance(caught.value, ClosedError)
    lease.release()
    stopper.end()
    assert make.made[0].calls == []


def test_a_borrower_that_stops_the_pool_does_not_wait_for_itself(pool_of, make):
    pool = pool_of()
    with pool.connection():
        assert pool.stop(timeout=None).left == 1
    assert make.made[0].closed == 1


def test_stopping_threads_join_the_first(pool_of, clock, make):
    pool = pool_of()
    lease = pool.acquire()
    tasks = [Task(pool.stop, timeout=None) for _ in range(5)]
    clock.wait_parked(5)
    lease.release()
    assert {task.end().returned for task in tasks} == {1}
    assert make.made[0].closed == 1


def test_a_client_made_during_stop_is_closed_once_and_its_caller_told(pool_of):
    inside, go = threading.Event(), threading.Event()
    made = []

    def factory():
        inside.set()
        go.wait(20)
        made.append(Client())
        return made[-1]

    pool = pool_of(factory)
    task = Task(pool.execute, "place")
    inside.wait(20)
    assert pool.stop(timeout=None).creating == 1
    go.set()
    with pytest.raises(PoolStoppedError):
        task.end()
    assert (made[0].closed, made[0].calls) == (1, [])


def test_a_factory_that_stops_its_pool_ends_the_call(pool_of, make):
    def factory():
        pool.stop()
        return make()

    pool = pool_of(factory)
    with pytest.raises(PoolStoppedError):
        pool.execute("place")
    assert make.made[0].closed == 1


def test_stop_before_start_and_start_after_stop(pool_of, make):
    pool = pool_of(min_connections=1)
    assert pool.stop().closed == 0
    with pytest.raises(PoolStoppedError):
        pool.acquire()
    pool.initialize()
    assert pool.execute("place") == 0
    pool.stop()
    pool.initialize()
    assert pool.execute("place") == 1


def test_a_client_in_use_at_a_stop_is_closed_on_return_even_after_a_new_start(pool_of, make):
    pool = pool_of()
    lease = pool.acquire()
    pool.stop(timeout=0)
    pool.initialize()
    lease.release()
    assert (make.made[0].closed, pool.stats().size) == (1, 0)


def test_stop_during_a_check_calls_nothing(pool_of, clock, make):
    pool = pool_of(validate_func=lambda client: pool.stop(timeout=0) is None)
    pool.execute("place")
    clock.advance(1)
    with pytest.raises(PoolStoppedError):
        pool.execute("place")
    assert len(make.made[0].calls) == 1
    assert make.made[0].closed == 1


# -- a signal handler or finaliser in the middle of a step ----------------------------------------------------------


def in_the_middle(pool, action):
    """Run `action` where a signal handler would run that interrupts the pool's own bookkeeping."""
    result = []
    pool._section(lambda _state: result.append(action()))
    return result[0]


def test_a_release_in_the_middle_of_a_step_is_done_right_after_it(pool_of):
    pool = pool_of()
    lease = pool.acquire()
    in_the_middle(pool, lease.release)
    assert (pool.stats().idle, pool.stats().in_use) == (1, 0)


def test_an_acquire_in_the_middle_of_a_step_is_refused(pool_of):
    pool = pool_of()
    for use in (pool.acquire, pool.initialize):

        def refused(use=use):
            with pytest.raises(PoolDeadlockError, match="signal handler"):
                use()

        in_the_middle(pool, refused)
    assert pool.execute("place") == 0


def test_a_stop_in_the_middle_of_a_step_happens_right_after_it(pool_of, make):
    pool = idle_pool(pool_of, 1)
    in_the_middle(pool, pool.stop)
    assert (pool.stats().status, make.made[0].closed) == ("stopped", 1)


def test_stats_can_be_read_in_the_middle_of_a_step(pool_of):
    pool = idle_pool(pool_of, 1)
    assert in_the_middle(pool, pool.stats).idle == 1


def test_a_finaliser_that_releases_is_harmless(pool_of):
    pool = pool_of(max_connections=1)

    class Holder:
        def __init__(self):
            self.lease = pool.acquire()
            self.me = self

        def __del__(self):
            self.lease.release()

    Holder()
    in_the_middle(pool, gc.collect)
    assert pool.execute("place") == 0
    assert pool.stats().size == 1


# -- the picture --------------------------------------------------------------------------------------------------


def test_stats_are_frozen_and_add_up(pool_of):
    pool = idle_pool(pool_of, 3)
    with pool.connection():
        stats = pool.stats()
    assert (stats.size, stats.idle, stats.in_use) == (3, 2, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.size = 0
    with pytest.raises(TypeError):
        stats.discards["idle"] = 1


def test_a_pool_refuses_to_be_pickled_and_prints_no_client(pool_of):
    pool = pool_of()
    with pytest.raises(TypeError, match="one in each process"):
        pickle.dumps(pool)
    assert repr(pool) == "<ConnectionPool 'p': new, 0 clients>"


def test_no_pool_error_is_an_oserror():
    for error in [PoolError, *PoolError.__subclasses__()]:
        assert not issubclass(error, OSError)


# -- the housekeeper, on the real clock -----------------------------------------------------------------------------


def housekeepers():
    return [thread for thread in threading.enumerate() if thread.name == "hireliab.pool-housekeeper"]


def test_one_daemon_thread_serves_all_pools_and_ends_with_the_last(make):
    pools = [ConnectionPool(name=f"p{n}", create_client_func=make) for n in range(3)]
    for pool in pools:
        pool.initialize()
    [thread] = housekeepers()
    assert thread.daemon
    pools[0].stop()
    pools[1].stop()
    assert housekeepers() == [thread]
    pools[2].stop()
    assert housekeepers() == []
    with pools[0]:
        assert len(housekeepers()) == 1
    assert housekeepers() == []


def test_the_housekeeper_refills_as_soon_as_a_client_is_discarded(monkeypatch):
    monkeypatch.setattr(_pool_housekeeper, "TICK", 3600.0)  # so that only the bell can wake it
    made = threading.Semaphore(0)

    def factory():
        made.release()
        return Client()

    config = {"min_connections": 1, "max_connections": 1}
    with ConnectionPool(name="p", create_client_func=factory, config=config) as pool:
        assert made.acquire(timeout=20)
        for _ in range(4):  # the thread's first rounds need no bell
            pool.acquire().discard()
            assert made.acquire(timeout=10)


def test_a_dropped_pool_is_collected_and_its_thread_ends(make):
    pool = ConnectionPool(name="p", create_client_func=make)
    pool.initialize()
    [thread] = housekeepers()
    dead = weakref.ref(pool)
    del pool
    gc.collect()
    thread.join(20)
    assert dead() is None
    assert not thread.is_alive()


def test_a_factory_that_exits_does_not_end_the_housekeeper(caplog):
    tried = threading.Semaphore(0)
    answers = [Client(), SystemExit(), Client()]

    def factory():
        answer = answers.pop(0)
        tried.release()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    with ConnectionPool(name="p", create_client_func=factory, config={"min_connections": 1}) as pool:
        [thread] = housekeepers()
        assert tried.acquire(timeout=20)
        pool.acquire().discard()
        assert tried.acquire(timeout=20)
        _pool_housekeeper.HOUSEKEEPER.ring()
        assert tried.acquire(timeout=20)
        assert housekeepers() == [thread]


def test_a_log_handler_that_raises_does_not_end_the_housekeeper(monkeypatch):
    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("no route to the log server")

    tried = threading.Semaphore(0)
    answers = [Client(), OSError("down"), Client()]

    def factory():
        answer = answers.pop(0)
        tried.release()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(_pool_backoff, "_FIRST", 0.0)
    broken = Broken()
    with ConnectionPool(name="p", create_client_func=factory, config={"min_connections": 1}) as pool:
        [thread] = housekeepers()
        assert tried.acquire(timeout=20)
        lease = pool.acquire()
        logging.getLogger("hireliab.pool").addHandler(broken)
        try:
            lease._pool._give_back(lease, "broken")  # and no line in this thread's log
            assert tried.acquire(timeout=20)
            _pool_housekeeper.HOUSEKEEPER.ring()
            assert tried.acquire(timeout=20)
            assert housekeepers() == [thread]
        finally:
            logging.getLogger("hireliab.pool").removeHandler(broken)


def test_without_a_thread_upkeep_moves_into_the_calls(make, monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    pool = ConnectionPool(name="p", create_client_func=make)
    pool.initialize()
    assert pool.execute("place") == 0
    assert pool._inline
    pool.stop()


@pytest.mark.parametrize("failure", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_pool_that_relied_on_a_thread_which_did_not_start_looks_after_itself(make, monkeypatch, failure):
    first = ConnectionPool(name="first", create_client_func=make)
    second = ConnectionPool(name="second", create_client_func=make)
    start = threading.Thread.start

    def fail(thread):
        if thread.name != "hireliab.pool-housekeeper":
            return start(thread)
        monkeypatch.undo()
        other_thread(second.initialize)  # sees that a housekeeper is posted
        raise failure

    monkeypatch.setattr(threading.Thread, "start", fail)
    if isinstance(failure, RuntimeError):
        first.initialize()
        assert first._inline
    else:
        with pytest.raises(KeyboardInterrupt):
            first.initialize()
    assert housekeepers() == []
    assert second._inline
    first.acquire().release()  # after Ctrl-C a second attempt
    assert first._inline == (housekeepers() == [])
    first.stop()
    second.stop()
    assert housekeepers() == []
