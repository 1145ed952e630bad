"""Cases 18 to 20 and 22 of test_pool_cases.py: who waits for whom, who died, what grows old, and deadlines."""

import gc
import logging
import threading

import pytest

from hireliab.errors import ConfigError, PoolDeadlockError, PoolTimeoutError
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.testing import FakeClock
from tests.support.pools import Gate, Maker, full_capacity, other_thread, waiting
from tests.support.together import Background


@pytest.fixture
def make():
    return Maker()


# -- self-deadlock (18) ---------------------------------------------------------------------------------------------


class Borrower:
    """A thread that borrows, and borrows again when it is told; `end()` gives both back."""

    def __init__(self, pool, timeout=None):
        self.have, self.go, self.done = threading.Event(), threading.Event(), threading.Event()

        def run():
            with pool.connection():
                self.have.set()
                assert self.go.wait(20)
                with pool.connection(timeout=timeout):
                    assert self.done.wait(20)

        self.task = Background(run)
        assert self.have.wait(20)

    def end(self):
        self.done.set()
        return self.task.result()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_threads_that_wait_for_one_another_are_told_at_once(pool_of, clock, count):
    pool = pool_of(max_connections=count, connection_timeout=None)
    borrowers = [Borrower(pool) for _ in range(count)]
    for n, borrower in enumerate(borrowers[:-1], 1):
        borrower.go.set()
        clock.wait_parked(n)
    borrowers[-1].go.set()
    with pytest.raises(PoolDeadlockError):
        borrowers[-1].task.result()
    # Its first client went back when it failed, and serves the first of the others.
    for borrower in borrowers[:-1]:
        borrower.end()
    full_capacity(pool, count)


@pytest.mark.parametrize("third", ["works", "makes a client"])
def test_threads_that_wait_crosswise_beside_one_that_does_not_are_no_deadlock(pool_of, clock, make, third):
    pool = pool_of(max_connections=3, connection_timeout=None)
    first, second = Borrower(pool), Borrower(pool)
    gate = Gate()
    if third == "works":
        working = other_thread(pool.acquire)
    else:
        make.before = gate.pass_through
        working = Background(pool.acquire)
        gate.wait()
    first.go.set()
    clock.wait_parked(1)
    second.go.set()
    clock.wait_parked(2)
    assert pool.stats().waiting == 2
    gate.open.set()
    if third != "works":
        working = working.result()
    working.release()
    first.end()
    second.end()
    full_capacity(pool, 3)


def test_a_waiter_that_will_give_up_in_time_is_still_part_of_a_deadlock(pool_of, clock):
    pool = pool_of(max_connections=2)
    first, second = Borrower(pool, timeout=10), Borrower(pool, timeout=10)
    first.go.set()
    clock.wait_parked(1)
    second.go.set()
    with pytest.raises(PoolDeadlockError):
        second.task.result()
    first.end()


def test_who_does_not_wait_is_in_no_deadlock(pool_of, clock):
    pool = pool_of(max_connections=2)
    first, second = Borrower(pool), Borrower(pool, timeout=0)
    first.go.set()
    clock.wait_parked(1)
    second.go.set()
    with pytest.raises(PoolTimeoutError):
        second.task.result()
    first.end()


def test_a_lease_in_the_hands_of_a_thread_that_works_is_no_deadlock(pool_of, clock):
    # The thread that borrowed waits, but gave its lease away before: the other one will bring it back.
    pool = pool_of(max_connections=1, connection_timeout=None)
    handed, back = [], threading.Event()

    def borrow_and_wait():
        handed.append(pool.acquire())
        other = Background(work, handed[0])
        assert used.wait(20)
        pool.acquire().release()
        other.result()

    def work(lease):
        lease.client.work()
        used.set()
        assert back.wait(20)
        lease.release()

    used = threading.Event()
    task = Background(borrow_and_wait)
    clock.wait_parked(1)
    back.set()
    task.result()


# -- dead owners and leaks (19) -------------------------------------------------------------------------------------


def test_a_thread_that_died_holding_leaves_its_place_and_never_its_client(pool_of, make, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    pool = pool_of(max_connections=1)

    def die():
        lease = pool.acquire()
        circle = [lease]
        circle.append(circle)
        raise ValueError(lease.client.number)

    for n in range(3):
        thread = threading.Thread(target=die)
        thread.start()
        thread.join(20)
        assert make.made[n].closed == 0
        gc.collect()
        with pool.connection() as client:
            assert client.number == n + 1
        assert [client.closed for client in make.made] == [1] * (n + 1) + [0]
    full_capacity(pool, 1)


def test_many_dropped_leases_cost_nothing_but_their_clients(pool_of, make):
    pool = pool_of(max_connections=2)
    for n in range(50):
        circle = [pool.acquire()]
        assert circle[0].client.number == n
        circle.append(circle)
        del circle
        gc.collect(0)
    gc.collect()
    pool._tend()
    assert [client.closed for client in make.made] == [1] * 50
    assert pool.stats().size == 0


def test_a_client_in_use_for_too_long_is_reported_once_with_the_place_that_took_it(pool_of, clock, caplog):
    pool = pool_of(max_connections=2, leak_timeout=30)

    def the_culprit():
        return pool.acquire()

    with caplog.at_level(logging.WARNING):
        lease = the_culprit()
        quick = pool.acquire()
        clock.advance(29)
        pool._tend()
        assert (pool.stats().leaks, caplog.text) == (0, "")
        quick.release()
        for _ in range(3):
            clock.advance(2)
            pool._tend()
    assert pool.stats().leaks == 1
    assert caplog.text.count("the_culprit") == 1
    assert lease.client.work() == 0  # reported, not taken away
    lease.release()
    assert pool.stats().idle == 2
    with caplog.at_level(logging.WARNING):
        again = the_culprit()
        clock.advance(31)
        pool._tend()
    assert pool.stats().leaks == 2
    again.release()


def test_a_report_of_a_leak_tells_no_client(pool_of, clock, caplog):
    class Secretive:
        def __repr__(self):
            return "the secret"

    pool = pool_of(Secretive, leak_timeout=1)
    with caplog.at_level(logging.DEBUG):
        lease = pool.acquire()
        clock.advance(2)
        pool._tend()
    assert "the secret" not in caplog.text
    assert pool.stats().leaks == 1
    lease.release()


# -- growing old (20) -----------------------------------------------------------------------------------------------


def test_fifty_clients_made_together_are_not_replaced_together(pool_of, clock, make):
    pool = pool_of(
        max_connections=50, min_connections=50, max_lifetime=1000, idle_timeout=None, connection_timeout=None
    )
    pool.initialize()
    deaths = []
    for _ in range(210):
        clock.advance(5)
        before = sum(client.closed for client in make.made[:50])
        pool._tend()
        deaths.append(sum(client.closed for client in make.made[:50]) - before)
    assert sum(deaths) == 50
    assert max(deaths) <= 15  # of 20 rounds in the last tenth of the lifetime
    assert sum(count > 0 for count in deaths) >= 8
    assert pool.stats().idle == 50


def test_the_minimum_outlives_every_idle_time_and_old_age_is_refilled(pool_of, clock, make):
    pool = pool_of(max_connections=5, min_connections=2, idle_timeout=10, max_lifetime=100)
    leases = [pool.acquire() for _ in range(5)]
    for lease in leases:
        lease.release()
    for _ in range(60):
        clock.advance(5)
        pool._tend()
        assert pool.stats().idle >= 2
    assert pool.stats().idle == 2
    assert pool.stats().discards["idle"] == 3
    assert pool.stats().discards["lifetime"] >= 4


def test_a_client_that_grew_old_in_use_is_closed_on_return_and_not_before(pool_of, clock, make):
    pool = pool_of(max_connections=1, max_lifetime=10)
    lease = pool.acquire()
    clock.advance(100)
    pool._tend()
    assert lease.client.work() == 0
    lease.release()
    assert make.made[0].closed == 1


def test_a_check_in_the_background_and_a_borrower_never_have_one_client(pool_of, clock, make):
    gate = Gate()
    pool = pool_of(max_connections=2, keepalive_interval=10, idle_timeout=None, validate_func=gate.pass_through)
    pool.execute("work")
    clock.advance(10)
    checking = Background(pool._tend)
    gate.wait()
    with pool.connection() as client:
        assert client.number == 1  # the idle one is being checked
        stats = pool.stats()
        assert (stats.size, stats.idle + stats.in_use) == (2, 2)
        [waiter] = waiting(pool, clock, 1, lambda: pool.acquire(timeout=None))
        gate.open.set()
        lease = waiter.result()  # after its check it goes to who waits
        assert lease.client.number == 0
        lease.release()
    checking.result()
    assert make.made[0].closed == 0


@pytest.mark.parametrize("verdict", [lambda client: False, lambda client: 1 / 0], ids=["false", "raises"])
def test_a_client_that_fails_its_check_in_the_background_is_replaced(pool_of, clock, make, verdict):
    pool = pool_of(
        max_connections=2, min_connections=1, keepalive_interval=10, idle_timeout=None, validate_func=verdict
    )
    pool.initialize()
    clock.advance(10.5)
    pool._tend()
    pool._tend()
    assert make.made[0].closed == 1
    assert pool.stats().idle == 1
    assert pool.execute("work") == 1


def test_a_client_that_is_lent_or_was_just_used_is_not_checked_in_the_background(pool_of, clock):
    checked = []
    pool = pool_of(
        keepalive_interval=10, idle_timeout=None, validate_func=lambda client: checked.append(client) or True
    )
    lease = pool.acquire()
    clock.advance(100)
    pool._tend()
    lease.release()
    clock.advance(5)
    pool._tend()
    assert checked == []
    clock.advance(6)
    pool._tend()
    assert len(checked) == 1
    pool._tend()
    assert len(checked) == 1


def test_a_check_in_the_background_needs_something_to_check_with(pool_of):
    with pytest.raises(ConfigError, match="validate_func"):
        pool_of(keepalive_interval=10)


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_step_of_the_wall_clock_expires_and_prolongs_nothing(pool_of, clock, step):
    pool = pool_of(max_connections=1, idle_timeout=60, max_lifetime=600)
    lease = pool.acquire()
    [waiter] = waiting(pool, clock, 1, lambda: pool.acquire(timeout=10))
    clock.step_wall(step)
    pool._tend()
    assert pool.stats().waiting == 1
    clock.advance(10)
    with pytest.raises(PoolTimeoutError, match=r"10\.0 s"):
        waiter.result()
    lease.release()
    assert pool.stats().idle == 1


# -- invalidation ---------------------------------------------------------------------------------------------------


def test_after_an_invalidation_no_client_from_before_it_is_lent(pool_of, clock, make):
    pool = pool_of(max_connections=3)
    held = [pool.acquire(), pool.acquire()]
    held.pop().release()
    pool.invalidate_all()
    assert [client.closed for client in make.made] == [0, 1]
    assert held[0].client.work() == 0  # whoever has one may finish
    with pool.connection() as client:
        assert client.number == 2
    held[0].release()
    assert [client.closed for client in make.made] == [1, 1, 0]
    assert pool.execute("work") == 2


def test_a_client_that_was_being_made_at_the_invalidation_is_not_lent_twice(pool_of, make):
    # It may have been made with the old credentials: its maker may use it, and nobody after that.
    pool = pool_of(max_connections=1)
    gate = Gate()
    make.before = gate.pass_through
    making = Background(pool.acquire)
    gate.wait()
    pool.invalidate_all()
    gate.open.set()
    lease = making.result()
    number = lease.client.number
    lease.release()
    assert make.made[number].closed == 1
    assert pool.execute("work") == number + 1


# -- one deadline (22) ----------------------------------------------------------------------------------------------


def slow(clock, seconds, answer):
    def run(*client):
        clock.advance(seconds)
        return answer() if callable(answer) else answer

    return run


def test_a_factory_that_outruns_the_deadline_is_not_interrupted_and_its_client_is_lent(pool_of, clock, make):
    # The budget is 0.5 s: the check takes 0.4 s and fails, and in the 0.1 s left a factory that needs 0.4 s starts.
    pool = pool_of(slow(clock, 0.4, make), validate_func=slow(clock, 0.4, False), connection_timeout=0.5)
    pool.execute("work")
    clock.advance(2)
    began = clock.monotonic()
    with pool.connection() as client:
        assert client.number == 1
    assert clock.monotonic() - began == pytest.approx(0.8)
    assert "not interrupted" in ConnectionPool.acquire.__doc__
    assert "cannot be interrupted" in ConnectionPool.__doc__.replace("\n            ", " ")


def test_a_check_that_outruns_the_deadline_makes_no_client_any_more(pool_of, clock, make):
    pool = pool_of(validate_func=slow(clock, 0.6, False), connection_timeout=0.5)
    pool.execute("work")
    clock.advance(2)
    with pytest.raises(PoolTimeoutError):
        pool.acquire()
    assert (make.calls, pool.stats().size) == (1, 0)


def test_those_behind_a_slow_factory_keep_their_own_deadlines(pool_of, clock, make):
    gate = Gate()
    pool = pool_of(max_connections=2)
    lease = pool.acquire()
    make.before = gate.pass_through
    making = Background(pool.acquire, timeout=1)
    gate.wait()
    [early] = waiting(pool, clock, 1, lambda: pool.acquire(timeout=2))
    [late] = waiting(pool, clock, 1, lambda: pool.acquire(timeout=5))
    clock.advance(3)
    with pytest.raises(PoolTimeoutError, match=r"3\.0 s"):
        early.result()
    lease.release()
    assert late.result().client.number == 0
    gate.open.set()
    assert making.result().client.number == 1


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), float("-inf"), -1, -0.001, True, "1", b"1", [], 1j])
def test_what_is_no_time_is_refused_before_anything_happens(pool_of, make, timeout):
    pool = pool_of(max_connections=1)
    for act in (pool.acquire, pool.connection, pool.stop):
        with pytest.raises(ConfigError):
            act(timeout=timeout)
    assert (make.calls, pool.stats().status) == (0, "new")


@pytest.mark.parametrize("timeout", [threading.TIMEOUT_MAX + 1, 1e300, 10**30, None])
def test_a_huge_time_is_a_time(pool_of, clock, timeout):
    pool = pool_of(max_connections=1)
    lease = pool.acquire()
    [waiter] = waiting(pool, clock, 1, lambda: pool.acquire(timeout=timeout))
    lease.release()
    waiter.result().release()


class SleeplessClock(FakeClock):
    def acquire(self, lock, timeout=None):
        raise AssertionError("slept")


def test_zero_never_sleeps():
    make = Maker()
    pool = ConnectionPool(
        name="p", create_client_func=make, config={"max_connections": 1, "min_connections": 0}, clock=SleeplessClock()
    )
    pool.acquire(timeout=0).release()
    lease = other_thread(pool.acquire, timeout=0)
    for act in (pool.acquire, lambda timeout: pool.connection(timeout=timeout).__enter__()):
        with pytest.raises(PoolTimeoutError):
            act(timeout=0)
    lease.release()
    pool.stop(timeout=0)
