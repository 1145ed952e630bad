"""The pool's short way, its permits and pauses, and what its housekeeper does."""

import logging
import threading

import pytest

from hireliab.errors import ConfigError, PoolCreateError, PoolDownError, PoolStoppedError, PoolTimeoutError
from hireliab.exchange import _pool_backoff, _pool_queue
from hireliab.exchange._pool_lease import Status, this_thread
from hireliab.exchange._pool_state import PoolState
from hireliab.exchange.connection_pool import ConnectionPool, PoolEvent
from hireliab.testing import FakeClock
from tests.support.together import Background


class Client:
    def __init__(self, number):
        self.number = number
        self.closed = 0

    def place(self):
        return self.number

    def close(self):
        self.closed += 1


class Maker:
    def __init__(self, clock):
        self.clock = clock
        self.made = []
        self.errors = []
        self.takes = 0.0
        self.calls = 0

    def __call__(self):
        self.calls += 1
        self.clock.advance(self.takes)
        if self.errors:
            raise self.errors.pop(0)
        self.made.append(Client(len(self.made)))
        return self.made[-1]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    return Maker(clock)


@pytest.fixture
def pool_of(clock, make):
    pools = []

    def build(factory=None, **config):
        config.setdefault("min_connections", 0)
        pool = ConnectionPool(name="p", create_client_func=factory or make, config=config, clock=clock)
        pool._tended = float("inf")  # upkeep only when the test asks for it
        pools.append(pool)
        return pool

    yield build
    for pool in pools:
        pool.stop(timeout=0)


@pytest.fixture
def no_jitter(monkeypatch):
    monkeypatch.setattr(_pool_backoff.random, "random", lambda: 1.0)


def idle_pool(pool_of, count, **config):
    pool = pool_of(max_connections=count, **config)
    leases = [pool.acquire() for _ in range(count)]
    for lease in leases:
        lease.release()
    return pool


# -- the short way ------------------------------------------------------------------------------------------------


def test_what_the_index_lists_wrongly_is_not_lent_twice(pool_of):
    # As a frame leaves it that was killed between lending a client and taking it off the list.
    pool = idle_pool(pool_of, 2)
    lease = pool.acquire()
    pool._state.idle.append(lease._entry)
    assert pool.acquire().client is not lease.client


def test_a_client_that_no_list_knows_is_found(pool_of, make):
    # As a frame leaves it that was killed between the two halves of a release.
    pool = idle_pool(pool_of, 1)
    pool._state.idle.clear()
    assert pool.acquire().client is make.made[0]


def test_a_client_whose_maker_was_killed_at_the_lending_is_one_of_the_pool(pool_of, monkeypatch):
    pool = pool_of(max_connections=1)
    lend = PoolState.lend_locked

    def killed(*args):
        lend(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PoolState, "lend_locked", killed)
        pool.acquire()
    lease = pool.acquire()
    assert pool.stats().size == 1
    with pytest.raises(PoolTimeoutError):
        pool.acquire(timeout=0)
    lease.release()


def test_a_client_that_a_signal_handler_gives_back_while_its_thread_queues_is_not_slept_past(pool_of, monkeypatch):
    pool = pool_of(max_connections=1)
    lease = Background(pool.acquire).result()
    lock = threading.Lock

    def interrupted():
        monkeypatch.undo()
        lease.release()
        return lock()

    monkeypatch.setattr(_pool_queue.threading, "Lock", interrupted)
    with pool.connection() as client:
        assert client.number == 0


def test_a_client_whose_hand_over_was_killed_goes_to_the_waiter_not_to_the_next_comer(pool_of, clock, monkeypatch):
    pool = pool_of(max_connections=1, max_lifetime=1e6)
    lease = pool.acquire()
    waiters = []

    def killed(*_):
        raise KeyboardInterrupt

    def meanwhile():
        # Between the next comer's first look at the queue and its lock.
        waiters.append(Background(pool.acquire))
        clock.wait_parked(1)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(PoolState, "hand_over_locked", lambda *_: False)
            patch.setattr(PoolState, "serve_locked", killed)
            lease.release()
        assert len(pool._state.idle) == 1

    events = iter([lambda: None, meanwhile])

    def monotonic():
        event = next(events)
        if event is meanwhile:
            pool._monotonic = clock.monotonic
        event()
        return clock.monotonic()

    pool._monotonic = monotonic
    with pytest.raises(PoolTimeoutError):
        pool.acquire(timeout=0)
    assert waiters[0].result().client.number == 0


def test_a_lent_client_that_is_doomed_does_not_come_back(pool_of, make):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    assert pool.invalidate_all() == 1
    lease.release()
    assert (make.made[0].closed, pool.stats().discards) == (1, {"generation": 1})


def test_an_acquire_in_the_middle_of_a_step_leaves_idle_clients_alone(pool_of):
    pool = idle_pool(pool_of, 1)
    seen = []

    def step(state):
        with pytest.raises(Exception, match="signal handler"):
            pool.acquire()
        seen.append(len(state.idle))

    pool._section(step)
    assert seen == [1]


def test_a_pool_whose_stop_was_killed_at_its_beginning_lends_nothing(pool_of):
    pool = idle_pool(pool_of, 1)
    pool._state.status = Status.STOPPING
    with pytest.raises(PoolStoppedError):
        pool.acquire()


def test_nobody_is_asked_whether_ctrl_c_breaks_a_client(pool_of, make):
    pool = pool_of(is_broken=lambda client, error: False)
    with pytest.raises(KeyboardInterrupt), pool.connection():
        raise KeyboardInterrupt
    assert make.made[0].closed == 1


def test_a_waiter_gets_no_client_of_before_the_invalidation(pool_of, clock, make):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    waiter = Background(pool.acquire)
    clock.wait_parked(1)
    pool.invalidate_all()
    lease.release()
    assert waiter.result().client.number == 1
    assert make.made[0].closed == 1


def test_who_queues_finds_a_dropped_lease_among_living_ones(pool_of, make):
    pool = pool_of(max_connections=2)
    lease = Background(pool.acquire).result()
    pool.acquire()  # dropped
    assert pool.acquire().client.number == 2
    lease.release()


# -- permits ------------------------------------------------------------------------------------------------------


class Door:
    """A factory that lets its callers in one by one."""

    def __init__(self):
        self.inside = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.count = 0

    def __call__(self):
        with self.lock:
            self.count += 1
            number = self.count
        self.inside.release()
        assert self.go.acquire(timeout=20)
        return Client(number)


def test_waiters_wait_for_a_client_as_long_as_one_took_to_make_and_then_make_one(pool_of, clock):
    door = Door()
    pool = pool_of(door, max_connections=8, max_connecting=1)
    first = Background(pool.acquire)
    assert door.inside.acquire(timeout=20)
    second, third = Background(pool.acquire), None
    clock.wait_parked(1)
    clock.advance(0.15)
    door.go.release()
    lease = first.result()
    clock.wait_parked(1)
    assert (door.count, pool.stats().waiting, clock.next_deadline()) == (1, 1, pytest.approx(0.15))
    third = Background(pool.acquire)
    clock.wait_parked(2)
    lease.release()  # a client that comes back within that time serves the first of them
    lease = second.result()
    assert door.count == 1
    clock.wait_parked(1)
    clock.advance(0.15)
    assert door.inside.acquire(timeout=20)
    door.go.release()
    assert third.result().client.number == 2
    lease.release()


def test_a_long_creation_makes_nobody_wait_for_longer_than_a_second(pool_of, clock):
    door = Door()
    pool = pool_of(door, max_connections=8, max_connecting=1, connection_timeout=100)
    first = Background(pool.acquire)
    assert door.inside.acquire(timeout=20)
    second = Background(pool.acquire)
    clock.wait_parked(1)
    clock.advance(30)
    door.go.release()
    first.result()
    clock.wait_parked(1)
    assert clock.next_deadline() == pytest.approx(1.0)
    clock.advance(1)
    assert door.inside.acquire(timeout=20)
    door.go.release()
    second.result()


def test_over_the_permits_zero_does_not_wait(pool_of):
    door = Door()
    pool = pool_of(door, max_connections=8, max_connecting=1)
    first = Background(pool.acquire)
    assert door.inside.acquire(timeout=20)
    with pytest.raises(PoolTimeoutError):
        pool.acquire(timeout=0)
    door.go.release()
    first.result()


def test_the_start_makes_one_client_at_a_time_beside_the_callers(pool_of):
    door = Door()
    pool = pool_of(door, min_connections=2, max_connections=8, max_connecting=1)
    first = Background(pool.acquire)
    assert door.inside.acquire(timeout=20)
    pool.initialize()  # the permit is taken: the rest is left to the upkeep
    assert (door.count, pool.stats().status) == (1, "running")
    door.go.release()
    first.result()


# -- pauses -------------------------------------------------------------------------------------------------------


def test_pauses_double_up_to_thirty_seconds(pool_of, clock, make, no_jitter):
    pool = pool_of()
    pauses = []
    for _ in range(14):
        make.errors = [OSError("down")]
        with pytest.raises(PoolCreateError):
            pool.acquire()
        with pytest.raises(PoolDownError) as caught:
            pool.acquire()
        pauses.append(caught.value.retry_after)
        clock.advance(caught.value.retry_after + 1e-6)
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30, 30])
    assert make.calls == 14
    assert pool.execute("place") == 0
    make.errors = [OSError("down")]
    lease = pool.acquire()
    with pytest.raises(PoolCreateError):
        pool.acquire()
    clock.advance(0.05)
    lease.release()
    assert pool.stats().down


def test_pauses_are_of_random_length(pool_of, clock, make):
    pool = pool_of()
    pauses = set()
    for _ in range(20):
        make.errors = [OSError("down")]
        with pytest.raises(PoolCreateError):
            pool.acquire()
        pauses.add(pool._state.backoff.until - clock.monotonic())
        clock.advance(60)
        pool.acquire().discard()
    assert len(pauses) > 10
    assert all(0 <= pause <= 0.05 for pause in pauses)


def test_a_waiter_tries_at_the_end_of_the_pause_although_nothing_came_back(pool_of, clock, make, no_jitter):
    pool = pool_of(max_connections=2)
    lease = pool.acquire()
    make.errors = [OSError("down")]
    with pytest.raises(PoolCreateError):
        pool.acquire()
    tasks = []
    for n in range(2):
        tasks.append(Background(pool.acquire))
        clock.wait_parked(n + 1)
    assert clock.next_deadline() == pytest.approx(0.05)
    clock.advance(0.06)
    assert tasks[0].result().client.number == 1
    lease.release()
    assert tasks[1].result().client.number == 0


def test_a_waiter_whose_time_ends_with_the_pause_still_makes_its_client(pool_of, clock, make, no_jitter):
    pool = pool_of(max_connections=2)
    lease = pool.acquire()
    make.errors = [OSError("down")]
    with pytest.raises(PoolCreateError):
        pool.acquire()
    waiter = Background(pool.acquire, timeout=pool._state.backoff.until - clock.monotonic())
    clock.wait_parked(1)
    clock.advance(0.05)
    assert waiter.result().client.number == 1
    assert pool.stats().timeouts == 0
    lease.release()


def test_when_the_first_waiter_gives_up_the_next_one_watches_for_the_end_of_the_pause(pool_of, clock, make, no_jitter):
    pool = pool_of(max_connections=2)
    lease = pool.acquire()
    make.errors = [OSError("down")] * 6
    for _ in range(6):  # a pause of 1.6 s
        with pytest.raises(PoolCreateError):
            pool.acquire()
        if make.errors:
            clock.advance(pool._state.backoff.until - clock.monotonic())
    first = Background(pool.acquire, timeout=1)
    clock.wait_parked(1)
    second = Background(pool.acquire)
    clock.wait_parked(2)
    clock.advance(1)
    with pytest.raises(PoolTimeoutError):
        first.result()
    clock.wait_parked(1)
    clock.advance(0.7)
    assert second.result().client.number == 1
    lease.release()


def test_the_error_of_later_callers_has_a_cause_without_frames(pool_of, make, no_jitter):
    pool = pool_of()
    make.errors = [OSError("no route")]
    with pytest.raises(PoolCreateError) as first:
        pool.acquire()
    with pytest.raises(PoolDownError) as later:
        pool.acquire()
    cause = later.value.__cause__
    assert (type(cause), str(cause), cause.__traceback__) == (OSError, "no route", None)
    assert first.value.__cause__.__traceback__ is not None
    assert "OSError" in str(later.value)


def test_a_refill_that_fails_tells_those_who_wait_behind_it(pool_of, clock, no_jitter):
    inside, go = threading.Event(), threading.Event()
    reason = OSError("down")

    def factory():
        inside.set()
        assert go.wait(20)
        raise reason

    pool = pool_of(factory, min_connections=1, max_connecting=1)
    pool._state.status = Status.RUNNING
    refill = Background(pool._tend)
    assert inside.wait(20)
    waiter = Background(pool.acquire)
    clock.wait_parked(1)
    go.set()
    with pytest.raises(PoolDownError) as caught:
        waiter.result()
    assert caught.value.__cause__ is reason
    refill.result()


def test_the_refill_rests_with_the_factory(pool_of, clock, make, no_jitter):
    pool = pool_of(min_connections=1)
    pool.initialize()
    pool.acquire().discard()
    make.errors = [OSError("down")]
    pool._tend()
    calls = make.calls
    pool._tend()
    assert make.calls == calls
    clock.advance(0.05)
    pool._tend()
    assert pool.stats().idle == 1


# -- deadlocks ----------------------------------------------------------------------------------------------------


def test_a_mark_that_a_killed_wait_left_is_no_deadlock(pool_of, clock):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    this_thread().waits = pool._state
    try:
        waiter = Background(pool.acquire)
        clock.wait_parked(1)
        lease.release()
        waiter.result().release()
    finally:
        this_thread().waits = None


# -- checks -------------------------------------------------------------------------------------------------------


def test_after_a_failed_check_the_older_ones_are_looked_at_before_use(pool_of, clock, make):
    checked = []

    def check(client):
        checked.append(client.number)
        return client.number != 2

    pool = idle_pool(pool_of, 3, validate_func=check, idle_timeout=None)
    clock.advance(1)
    assert pool.acquire().client.number != 2
    pool._tend()
    clock.advance(0.5)
    assert pool.execute("place") == 1
    assert checked == [2, 1]


def test_a_check_in_the_background_does_not_make_a_client_young(pool_of, clock, make):
    checked = []
    config = {"validate_func": lambda client: checked.append(client.number) or True}
    pool = idle_pool(pool_of, 2, keepalive_interval=20, idle_timeout=60, **config)
    clock.advance(17)
    pool._tend()
    assert checked == []
    clock.advance(3)
    pool._tend()
    pool._tend()
    assert checked == [0, 1]
    assert [entry.client.number for entry in pool._state.idle] == [0, 1]
    clock.advance(40)
    pool._tend()
    assert pool.stats().discards == {"idle": 2}


def test_a_client_in_use_is_not_checked_even_if_the_index_lists_it(pool_of, clock):
    checked = []
    config = {"validate_func": lambda client: checked.append(client.number) or True}
    pool = idle_pool(pool_of, 1, keepalive_interval=20, idle_timeout=None, **config)
    lease = pool.acquire()
    pool._state.idle.append(lease._entry)
    clock.advance(100)
    pool._tend()
    assert checked == []
    lease.release()


def test_the_housekeeper_comes_as_often_as_the_settings_ask(pool_of):
    assert pool_of(validate_func=bool, keepalive_interval=2)._tend() == 2
    assert pool_of(leak_timeout=3)._tend() == 3
    assert pool_of(leak_timeout=0.001)._tend() == 0.05


# -- events -------------------------------------------------------------------------------------------------------


def test_a_listener_hears_of_a_clients_life_and_of_an_outage(pool_of, clock, make, no_jitter):
    pool = pool_of(max_connections=1, leak_timeout=10)
    heard = []
    pool.add_listener(heard.append)
    pool.acquire().discard()
    make.errors = [OSError("down")]
    with pytest.raises(PoolCreateError):
        pool.acquire()
    clock.advance(1)
    lease = pool.acquire()
    clock.advance(10)
    pool._tend()
    assert [(event.kind, event.reason) for event in heard[:-1]] == [
        ("created", None),
        ("discarded", "broken"),
        ("down", "OSError"),
        ("up", None),
        ("created", None),
    ]
    assert (heard[-1].pool, heard[-1].kind) == ("p", "leaked")
    assert f"{__file__}:" in heard[-1].reason.split(", called from ")[0]
    pool.remove_listener(heard.append)
    pool.remove_listener(print)
    lease.release()
    pool.stop()
    assert len(heard) == 6
    with pytest.raises(ConfigError):
        pool.add_listener("print")
    assert PoolEvent("p", "up") == heard[3]


def test_a_leak_is_told_once_with_its_place_and_thread(pool_of, clock, caplog):
    pool = pool_of(leak_timeout=10)
    with caplog.at_level(logging.WARNING), pool.connection():
        clock.advance(9)
        pool._tend()
        assert pool.stats().leaks == 0
        clock.advance(1)
        pool._tend()
        pool._tend()
    assert pool.stats().leaks == 1
    assert caplog.text.count("has been in use for 10.0 s") == 1
    assert "test_a_leak_is_told_once" in caplog.text
    assert "MainThread" in caplog.text
