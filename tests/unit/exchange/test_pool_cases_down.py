"""Cases 9 and 10 of test_pool_cases.py: the other side is down, and what interrupts the factory is no proof of it."""

import pytest

from hireliab.errors import PoolCreateError, PoolDownError, PoolError
from tests.support.pools import Gate, Maker, other_thread, waiting
from tests.support.together import Background


@pytest.fixture
def make():
    return Maker()


# -- the other side is down (9) -------------------------------------------------------------------------------------


@pytest.fixture
def pool(pool_of):
    return pool_of(max_connections=4, connection_timeout=30)


def put_down(pool, make, error=None):
    """One failed attempt; the pool is down afterwards."""
    error = error or OSError("down")
    make.errors = [error]
    with pytest.raises(PoolCreateError) as caught:
        pool.acquire()
    assert caught.value.__cause__ is error
    return error


def test_the_next_callers_fail_at_once_and_are_told_when_to_come_back(pool, clock, make):
    put_down(pool, make)
    for _ in range(5):
        with pytest.raises(PoolDownError) as caught:
            pool.acquire()
        assert 0 < caught.value.retry_after <= 30
    assert make.calls == 1
    assert pool.stats().down
    assert clock.parked() == 0


def test_waiters_fail_at_once_when_nothing_can_come_back(pool_of, clock, make):
    pool = pool_of(max_connections=1, connection_timeout=30)
    lease = pool.acquire()
    tasks = waiting(pool, clock, 3)
    make.errors = [OSError("down")]
    lease.discard()
    errors = []
    for task in tasks:
        with pytest.raises((PoolCreateError, PoolDownError)) as caught:
            task.result()
        errors.append(type(caught.value))
    assert errors.count(PoolDownError) == 2
    assert make.calls == 2


def test_waiters_go_on_waiting_while_a_client_is_lent(pool, clock, make):
    lease = other_thread(pool.acquire)
    put_down(pool, make)
    [waiter] = waiting(pool, clock, 1)
    lease.release()
    assert waiter.result().client.number == 0


def test_idle_clients_are_lent_all_the_same(pool, make):
    leases = [pool.acquire() for _ in range(2)]
    leases[0].release()
    kept = pool.acquire()
    put_down(pool, make)
    kept.release()
    assert pool.execute("work") == 0
    assert pool.stats().down


def test_fifty_threads_make_one_attempt_when_the_pause_ends_and_its_success_serves_them_all(pool, clock, make):
    put_down(pool, make)
    with pytest.raises(PoolDownError) as caught:
        pool.acquire()
    clock.advance(caught.value.retry_after)
    gate = Gate()
    make.before = gate.pass_through
    tasks = [Background(pool.execute, "work") for _ in range(50)]
    gate.wait()
    clock.wait_parked(49)
    assert (gate.count, pool.stats().creating) == (1, 1)
    gate.open.set()
    for task in tasks:
        assert task.result() in range(4)
    assert not pool.stats().down


def test_fifty_threads_behind_a_failed_attempt_fail_at_once(pool, clock, make):
    put_down(pool, make)
    with pytest.raises(PoolDownError) as caught:
        pool.acquire()
    clock.advance(caught.value.retry_after)
    gate = Gate()
    make.before = gate.pass_through
    make.errors = [OSError("still down")] * 50
    tasks = [Background(pool.execute, "work") for _ in range(50)]
    gate.wait()
    clock.wait_parked(49)
    gate.open.set()
    errors = []
    for task in tasks:
        with pytest.raises(PoolError) as caught:
            task.result()
        errors.append(type(caught.value))
    assert gate.count == 1
    assert errors.count(PoolDownError) == 49


def test_the_attempts_of_a_minute_are_few(pool, clock, make):
    make.errors = [OSError("down")] * 10_000
    for _ in range(2000):
        with pytest.raises((PoolCreateError, PoolDownError)):
            pool.acquire()
        clock.advance(0.03)
    assert 2 <= make.calls <= 40


def test_the_first_success_ends_it(pool, clock, make):
    for _ in range(6):
        put_down(pool, make)
        with pytest.raises(PoolDownError) as caught:
            pool.acquire()
        clock.advance(caught.value.retry_after)
    pool.execute("work")
    assert not pool.stats().down
    with pool.connection(), pool.connection():
        assert pool.stats().size == 2
    # And the next outage begins with a short pause again.
    pool.stop()
    pool.initialize()
    put_down(pool, make)
    with pytest.raises(PoolDownError) as caught:
        pool.acquire()
    assert caught.value.retry_after <= 0.1


# -- an interrupt is no failure (10) --


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_in_the_factory_says_nothing_about_the_other_side(pool, make, error):
    make.errors = [error()]
    with pytest.raises(error):
        pool.acquire()
    assert not pool.stats().down
    assert pool.execute("work") == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_attempt_leaves_the_next_caller_to_try(pool, clock, make, error):
    put_down(pool, make)
    with pytest.raises(PoolDownError) as caught:
        pool.acquire()
    clock.advance(caught.value.retry_after)
    make.errors = [error()]
    with pytest.raises(error):
        pool.acquire()
    assert pool.execute("work") == 0
    assert not pool.stats().down


def test_an_interrupted_attempt_is_taken_up_by_the_first_of_those_behind_it(pool, clock, make):
    put_down(pool, make)
    with pytest.raises(PoolDownError) as caught:
        pool.acquire()
    clock.advance(caught.value.retry_after)
    gate = Gate()
    make.before = gate.pass_through
    make.errors = [SystemExit()]
    trying = Background(pool.acquire)
    gate.wait()
    tasks = waiting(pool, clock, 3)
    gate.open.set()
    with pytest.raises(SystemExit):
        trying.result()
    assert sorted(task.result().client.number for task in tasks) == [0, 1, 2]
    assert not pool.stats().down


def test_those_who_wait_through_a_pause_are_served_at_its_end(pool_of, clock, make):
    pool = pool_of(max_connections=4, connection_timeout=None)
    lease = other_thread(pool.acquire)  # something could come back, so nobody is refused
    put_down(pool, make)
    tasks = waiting(pool, clock, 3)
    clock.advance(31)
    assert sorted(task.result().client.number for task in tasks) == [1, 2, 3]
    assert make.calls == 5
    lease.release()
