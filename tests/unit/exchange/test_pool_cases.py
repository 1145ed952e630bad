"""
The 25 adversarial cases of the design (pool-and-http.md section 5) that no other test covers whole, and where the rest are.

Case 21 (resize) is not built. In case 22 an inline factory cannot be interrupted: what holds then is tested, and said in
the documents. Case 25 is the HTTP session's, in integration/test_http_session*.py.
"""
# Where each case is covered. cp = unit/exchange/test_connection_pool.py, pt = unit/exchange/test_pool_threads.py,
# cpu = unit/exchange/test_connection_pool_upkeep.py, di = unit/exchange/test_discard.py, pm = property/test_pool_model.py,
# pf = integration/test_pool_fork.py, pr = integration/test_pool_cases_process.py, int, down, time, cli = test_pool_cases_interrupts.py, _down.py, _time.py
# and _clients.py beside this file, here = this file. All begin with "test_".
#
#  1 bound                    here two_hundred_threads_never_have_more_than_four_clients;
#                             pt under_a_storm_no_client_is_lent_twice_and_none_is_lost; pm
#  2 Ctrl-C storm             int ctrl_c_at_any_call_of_the_pool_..., ctrl_c_at_any_turn_of_a_loop_...,
#                             a_second_ctrl_c_while_the_first_is_handled_...; here upkeep_that_ctrl_c_kept_from_starting_...;
#                             pt after_many_interrupts_all_the_capacity_is_back (a timer, with a rival thread);
#                             cp a_waiter_interrupted_... (3), an_interrupted_check_..., an_interrupted_reset_...
#  3 signal handler           int a_signal_handler_that_uses_the_pool_at_any_of_its_calls_is_served_or_refused;
#                             pt a_signal_handler_that_uses_the_pool_does_not_hang (a timer);
#                             cp ..._in_the_middle_of_a_step_... (4)
#  4 finaliser                int a_finaliser_that_uses_the_pool_may_run_at_any_of_its_calls,
#                             a_collection_inside_user_code_may_use_the_pool,
#                             with_a_collection_at_every_allocation_nothing_is_lost; cp a_finaliser_that_releases_is_harmless
#  5 time-out and hand-over   here of_ten_thousand_returns_at_the_deadline_none_is_lost;
#                             pt timeouts_that_meet_returns_lose_nothing; cp a_client_handed_over_at_the_deadline_...
#  6 starvation               here a_busy_loop_serves_a_waiter_at_its_next_release;
#                             cp waiters_are_served_in_their_order_..., a_thread_that_returns_and_asks_again_...
#  7 lost wake-up             here a_factory_that_makes_nothing_wakes_the_next_waiter,
#                             a_client_that_does_not_come_back_makes_room_for_a_waiter,
#                             a_waiter_is_served_before_the_broken_client_is_closed;
#                             cp a_broken_client_wakes_a_waiter_..., an_interrupted_creation_wakes_the_next_waiter,
#                             a_failed_check_and_a_failed_creation_tell_the_next_waiter
#  8 factory misbehaves       here a_factory_may_borrow_from_its_own_pool_while_there_is_room, only_so_many_factories_run_...;
#                             cpu all of "permits"; cp the_factorys_error_..., none_from_the_factory_is_refused, the_same_client_twice_...,
#                             a_hanging_factory_holds_nobody_else_up, a_factory_that_... (3);
#                             pf a_client_whose_factory_forked_is_not_used_in_the_child
#  9 down                     down (all of it); cpu all of "pauses"
# 10 interrupt in the factory cp an_interrupt_in_the_factory_passes_raw_and_frees_the_place;
#                             down an_interrupt_in_the_factory_says_nothing_..., an_interrupted_attempt_leaves_...
# 11 what discards            di; here an_sdks_..., the_users_own_rule_goes_before_the_classifier, a_rule_that_raises_...;
#                             cp a_client_that_may_be_broken_..., a_client_that_answered_is_kept, leaving_a_block_...
# 12 PoolError, not called    here no_way_to_a_pool_error_leads_through_the_method, a_stop_between_the_hand_over_and_the_call_...;
#                             pt a_pool_error_means_that_nothing_was_called; cp a_pool_error_of_the_method_itself_passes_through
# 13 stop                     here ten_stops_at_once_..., a_hook_may_stop_the_pool, a_listener_may_stop_the_pool,
#                             waiters_are_refused_at_the_instant_of_the_stop_..., a_pool_that_is_stopped_and_started_...; cp all of "stop"; int (handlers that stop)
# 14 closing                  cli all of "closing"; cp a_close_that_... (2), a_ctrl_c_in_one_close_..., close_func_...
# 15 release                  here all of "double, foreign and late release"; cp a_second_release_changes_nothing,
#                             a_lease_that_was_given_back_yields_no_client, a_client_in_use_at_a_stop_...
# 16 fork                     pf; pr all of "fork"; cp a_pool_refuses_to_be_pickled_and_prints_no_client
# 17 exit                     pr all of "exit"
# 18 self-deadlock            time all of "self-deadlock"; cp all of "deadlock"; cpu a_mark_that_a_killed_wait_left_...
# 19 dead owner, leak         time all of "dead owners and leaks"; cp a_dropped_lease_gives_its_place_back_...
#                             (a lease that lives on when its thread has ended is reported, not reclaimed: another thread
#                             may be using it)
# 20 idle and lifetime        time all of "growing old"; cp all of "eviction"; cpu all of "checks"
# 21 resize                   not built
# 22 one deadline             time all of "one deadline"; cp a_check_that_eats_the_time_..., zero_does_not_wait_...,
#                             a_timeout_beyond_what_locks_can_wait_is_taken, a_timeout_that_is_no_number_...
# 23 hostile clients, logs    cli all of "hostile clients", "logging and hooks that call back", "memory";
#                             cp a_client_with_odd_operators_is_handled_by_identity
# 24 results that run away    cli all of "results that run away"; cp every_argument_reaches_the_method,
#                             a_name_that_is_no_public_method_..., a_method_that_does_not_exist_keeps_the_client
# 25 HTTP session             integration/test_http_session*.py

import functools
import gc
import random
import threading

import pytest

from hireliab.errors import (
    ClosedError,
    PoolCreateError,
    PoolDeadlockError,
    PoolDownError,
    PoolFullError,
    PoolStoppedError,
    PoolTimeoutError,
)
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.testing import FakeClock
from tests.support.pools import Gate, Maker, full_capacity, other_thread, waiting
from tests.support.together import Background, together


@pytest.fixture
def make():
    return Maker()


# -- the bound (1) --------------------------------------------------------------------------------------------------


def test_two_hundred_threads_never_have_more_than_four_clients(make):
    pool = ConnectionPool(
        name="p", create_client_func=make, config={"max_connections": 4, "min_connections": 0, "connection_timeout": 20}
    )

    def use(seed):
        rng = random.Random(seed)
        for _ in range(4):
            choice = rng.randrange(4)
            lease = pool.acquire()
            lease.client.work()
            if choice == 0:
                make.gone()
                lease.discard()
            elif choice == 1:
                with pytest.raises(ConnectionResetError), lease:
                    make.gone()
                    raise ConnectionResetError
            elif choice == 2:
                with pytest.raises(ValueError), lease:
                    raise ValueError
            else:
                lease.release()

    together(200, use)
    assert make.peak <= 4
    full_capacity(pool, 4)
    pool.stop()
    assert [client.closed for client in make.made] == [1] * len(make.made)


# -- time-out against hand-over (5) ---------------------------------------------------------------------------------


class RacingClock(FakeClock):
    """A sleep ends at its deadline, and `meanwhile` happens in that instant: just before it or just after."""

    meanwhile = None

    def acquire(self, lock, timeout=None):
        event, self.meanwhile = self.meanwhile, None
        if event is None:
            return super().acquire(lock, timeout)
        self.advance(timeout)
        early = event()
        return lock.acquire(blocking=False) if early else False


def test_of_ten_thousand_returns_at_the_deadline_none_is_lost():
    clock, make, rng = RacingClock(), Maker(), random.Random(5)
    config = {"min_connections": 0, "max_connections": 2, "idle_timeout": None}
    pool = ConnectionPool(name="p", create_client_func=make, config=config, clock=clock)
    release = threading.Event()
    asked = threading.Event()

    def hold():  # so that the main thread does not wait for itself
        with pool.connection():
            asked.set()
            release.wait(60)

    holder = Background(hold)
    assert asked.wait(20)
    lease = pool.acquire()
    timeouts = broken = 0
    for _ in range(10_000):
        choice = rng.randrange(6)
        early = choice % 2
        if choice < 2:
            end = None
        elif choice < 4:
            end = lease.release
        else:
            end = lease.discard
            broken += 1

        def meanwhile(end=end, early=early):
            if end is not None:
                end()
            return early

        clock.meanwhile = meanwhile
        before = lease.client
        try:
            got = pool.acquire(timeout=0.25)
        except PoolTimeoutError:
            assert end is None, "a client was handed over, and the time-out raised all the same"
            timeouts += 1
            continue
        assert end is not None, "lent twice"
        assert (got.client is before) == (end == lease.release)
        lease = got
    stats = pool.stats()
    assert (stats.timeouts, stats.waiting, stats.in_use, stats.size) == (timeouts, 0, 2, 2)
    assert stats.discarded == broken == sum(client.closed for client in make.made)
    assert timeouts > 1000
    lease.release()
    release.set()
    holder.result()
    full_capacity(pool, 2)
    pool.stop()


# -- starvation (6) -------------------------------------------------------------------------------------------------


def test_a_busy_loop_serves_a_waiter_at_its_next_release(make):
    pool = ConnectionPool(name="p", create_client_func=make, config={"max_connections": 1, "min_connections": 0})
    stop, order = threading.Event(), []

    def loop():
        while not stop.is_set():
            with pool.connection() as client:
                order.append("loop")
                client.work()

    busy = Background(loop)
    for _ in range(100):
        with pool.connection():
            order.append("other")
    stop.set()
    busy.result()
    # Between two turns of the second caller the loop may have many: it is not always waiting. But once it waits...
    assert order.count("other") == 100
    lease = pool.acquire()
    waiter = Background(pool.acquire)
    while pool.stats().waiting == 0:
        pass
    for _ in range(3):
        lease.release()
        with pytest.raises(PoolTimeoutError):
            pool.acquire(timeout=0)
        lease = waiter.result()
        waiter = Background(pool.acquire)
        while pool.stats().waiting == 0:
            pass
    lease.release()
    waiter.result().release()
    pool.stop()


# -- lost wake-ups (7) ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["none", "the same again"])
def test_a_factory_that_makes_nothing_wakes_the_next_waiter(pool_of, clock, make, answer):
    one = make()
    answers = [one, None if answer == "none" else one, make()]
    pool = pool_of(lambda: answers.pop(0), max_connections=2)
    held = pool.acquire()
    answers.insert(0, make())
    lease = pool.acquire()
    first, second = waiting(pool, clock, 2)
    lease.discard()
    with pytest.raises(PoolCreateError):
        first.result()
    assert second.result().client is make.made[1]
    held.release()


@pytest.mark.parametrize("way", ["reset", "lifetime", "dropped"])
def test_a_client_that_does_not_come_back_makes_room_for_a_waiter(pool_of, clock, way):
    def reset(client):
        if way == "reset":
            raise ValueError

    life = 10 if way == "lifetime" else None
    pool = pool_of(max_connections=1, connection_timeout=None, max_lifetime=life, reset_func=reset)
    lease = pool.acquire()
    [waiter] = waiting(pool, clock, 1)
    clock.advance(11)
    if way == "dropped":
        del lease
        gc.collect()
        pool._tend()
    else:
        lease.release()
    assert waiter.result().client.number == 1


def test_a_waiter_is_served_before_the_broken_client_is_closed(pool_of, clock):
    gate = Gate()
    pool = pool_of(max_connections=1, close_func=gate.pass_through)
    lease = pool.acquire()
    [waiter] = waiting(pool, clock, 1)
    closing = Background(lease.discard)
    gate.wait()
    assert waiter.result().client.number == 1  # although that close() hangs
    gate.open.set()
    closing.result()


# -- the factory misbehaves (8) -------------------------------------------------------------------------------------


def test_a_factory_may_borrow_from_its_own_pool_while_there_is_room(pool_of, make):
    def factory():
        if len(make.made) == 1:
            with pool.connection() as client:
                assert client.work() == 0
        return make()

    pool = pool_of(factory, max_connections=2)
    first = pool.acquire()
    first.release()
    with pool.connection() as client:
        assert client.number == 0
        first = client
    leases = [pool.acquire()]
    with pytest.raises(PoolCreateError) as caught:
        pool.acquire()  # the factory finds no client for itself: the one is lent, the other's place is its own
    assert isinstance(caught.value.__cause__, PoolDeadlockError)
    leases[0].release()
    full = pool.stats()
    assert (full.size, full.creating, full.in_use) == (1, 0, 0)


def test_only_so_many_factories_run_at_one_time_and_the_others_take_what_comes_back(pool_of, clock, make):
    gate = Gate()
    pool = pool_of(max_connections=8, max_connecting=2)
    lease = pool.acquire()
    make.before = gate.pass_through
    makers = [Background(pool.acquire) for _ in range(2)]
    gate.wait(2)
    first, second = waiting(pool, clock, 2)
    assert pool.stats().creating == 2
    lease.release()
    assert first.result().client.number == 0  # not held up by the two that dial
    assert gate.count == 2
    gate.open.set()
    numbers = {task.result().client.number for task in [*makers, second]}
    assert numbers == {1, 2, 3}


# -- what discards (11) ---------------------------------------------------------------------------------------------


def foreign(module, name, *bases):
    """An exception class as another package defines it."""
    return type(name, bases or (Exception,), {"__module__": module})


CcxtError = foreign("ccxt.base.errors", "BaseError")


@pytest.mark.parametrize(
    "error",
    [
        foreign("ccxt.base.errors", "InsufficientFunds", CcxtError)("no money"),
        foreign("ccxt.base.errors", "AuthenticationError", CcxtError)("no key"),
        foreign("ccxt.base.errors", "RateLimitExceeded", CcxtError)("slow"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_sdks_definite_answer_keeps_the_client(pool_of, make, error):
    pool = pool_of()
    with pytest.raises(type(error)):
        pool.execute("work", error)
    assert (make.made[0].closed, pool.stats().idle) == (0, 1)


def test_an_sdks_error_around_a_broken_connection_discards(pool_of, make):
    pool = pool_of()
    error = CcxtError("wrapped")
    error.__cause__ = ValueError("twice")
    error.__cause__.__cause__ = ConnectionResetError()
    with pytest.raises(CcxtError) as caught:
        pool.execute("work", error)
    assert caught.value is error
    assert make.made[0].closed == 1


@pytest.mark.parametrize(("answer", "error", "closed"), [
    (True, ValueError(), 1), (False, ConnectionResetError(), 0), (None, ValueError(), 0), (None, ConnectionResetError(), 1)
])  # fmt: skip
def test_the_users_own_rule_goes_before_the_classifier(pool_of, make, answer, error, closed):
    seen = []
    pool = pool_of(is_broken=lambda client, error: seen.append((client, error)) or answer)
    with pytest.raises(type(error)):
        pool.execute("work", error)
    assert seen == [(make.made[0], error)]
    assert make.made[0].closed == closed
    with pytest.raises(type(error)), pool.connection():
        raise error
    assert len(seen) == 2


def test_a_rule_that_raises_discards_and_the_callers_error_passes(pool_of, make):
    pool = pool_of(is_broken=lambda client, error: 1 / 0, max_connections=1)
    error = ValueError()
    with pytest.raises(ValueError) as caught:
        pool.execute("work", error)
    assert caught.value is error
    assert make.made[0].closed == 1
    full_capacity(pool, 1)


# -- a pool error means: not called (12) ----------------------------------------------------------------------------


def test_no_way_to_a_pool_error_leads_through_the_method(pool_of, clock, make):
    errors = set()

    def refused(kind, act):
        before = make.method_calls()
        with pytest.raises(kind) as caught:
            act()
        assert make.method_calls() == before
        errors.add(type(caught.value))
        return caught.value

    pool = pool_of(max_connections=1, max_waiting=1, connection_timeout=5)
    call = functools.partial(pool.execute, "work")
    lease = other_thread(pool.acquire)
    tasks = waiting(pool, clock, 1, call)
    refused(PoolFullError, call)
    clock.advance(5)
    refused(PoolTimeoutError, tasks[0].result)
    refused(PoolTimeoutError, lambda: pool.connection(timeout=0).__enter__())
    lease.release()
    with pool.connection():
        refused(PoolDeadlockError, call)
    lease = other_thread(pool.acquire)
    tasks = waiting(pool, clock, 1, call)
    stopping = Background(pool.stop, timeout=None)
    refused(PoolStoppedError, tasks[0].result)
    lease.release()
    stopping.result()
    refused(PoolStoppedError, call)
    pool.initialize()
    make.errors = [OSError()]
    refused(PoolCreateError, call)
    refused(PoolDownError, call)
    assert len(errors) == 6


@pytest.mark.parametrize("moment", ["check", "reset of another", "close of another"])
def test_a_stop_between_the_hand_over_and_the_call_lets_the_call_be_made_or_refused_but_not_both(
    pool_of, clock, make, moment
):
    def stop(client):
        if armed:
            pool.stop(timeout=0)
        return moment != "close of another"

    hook = {"check": "validate_func", "reset of another": "reset_func", "close of another": "validate_func"}[moment]
    armed = False
    pool = pool_of(**{hook: stop}, **({"close_func": stop} if moment == "close of another" else {}))
    pool.execute("work")
    clock.advance(2)
    armed = True
    before = make.method_calls()
    try:
        pool.execute("work")
    except PoolStoppedError:
        assert make.method_calls() == before
    else:
        assert make.method_calls() == before + 1
    assert pool.stats().size == 0


# -- stop (13) ------------------------------------------------------------------------------------------------------


def test_ten_stops_at_once_with_idle_and_lent_clients_close_each_once(pool_of, clock, make):
    pool = pool_of(max_connections=4)
    leases = [other_thread(pool.acquire) for _ in range(4)]
    leases.pop().release()
    leases.pop().release()
    stops = [Background(pool.stop, timeout=5)]
    clock.wait_parked(1)
    stops += [Background(pool.stop, timeout=None) for _ in range(9)]
    clock.wait_parked(10)
    leases.pop().release()
    clock.advance(5)
    reports = [task.result() for task in stops]
    assert {(report.closed, report.returned, report.left) for report in reports} == {(2, 1, 1)}
    leases.pop().release()
    assert [client.closed for client in make.made] == [1] * 4


@pytest.mark.parametrize("hook", ["validate_func", "reset_func", "close_func"])
def test_a_hook_may_stop_the_pool(pool_of, clock, make, hook):
    def stop(client):
        pool.stop(timeout=0)
        return True

    pool = pool_of(**{hook: stop})
    try:
        pool.execute("work")
        clock.advance(2)
        pool.execute("work")
        pool.acquire().discard()
    except PoolStoppedError:
        pass
    assert pool.stats().status == "stopped"
    assert pool.stats().size == 0
    closed = 0 if hook == "close_func" else 1
    assert [client.closed for client in make.made] == [closed]
    pool.initialize()
    pool.acquire()


def test_a_listener_may_stop_the_pool(pool_of, make):
    pool = pool_of()
    pool.add_listener(lambda event: pool.stop(timeout=0))
    try:
        pool.execute("work")
    except PoolStoppedError:
        assert make.method_calls() == 0
    assert (pool.stats().status, pool.stats().size) == ("stopped", 0)
    assert [client.closed for client in make.made] == [1]


def test_waiters_are_refused_at_the_instant_of_the_stop_and_their_places_are_free(pool_of, clock):
    pool = pool_of(max_connections=1, connection_timeout=None)
    lease = pool.acquire()
    tasks = waiting(pool, clock, 5)
    began = clock.monotonic()
    pool.stop(timeout=0)
    for task in tasks:
        with pytest.raises(PoolStoppedError):
            task.result()
    assert (clock.monotonic(), pool.stats().waiting) == (began, 0)
    lease.release()


def test_a_pool_that_is_stopped_and_started_during_a_round_of_upkeep_is_looked_after_all_the_same(make):
    # On the real clock. The round began in the old life; that it ends with "stopped" says nothing about the new one.
    gate = Gate()
    upkeep = threading.Semaphore(0)

    def factory():
        if threading.current_thread().name == "hireliab.pool-housekeeper":
            upkeep.release()
            gate.pass_through()
        return make()

    with ConnectionPool(name="other", create_client_func=make):  # so that the thread goes on
        pool = ConnectionPool(name="p", create_client_func=factory, config={"max_connections": 2})
        pool.initialize()
        pool.acquire().discard()
        gate.wait()
        pool.stop(timeout=0)
        pool.initialize()
        gate.open.set()
        assert upkeep.acquire(timeout=20)
        pool.acquire().discard()
        assert upkeep.acquire(timeout=20), "nobody refills the pool"
        pool.stop()


def test_upkeep_that_ctrl_c_kept_from_starting_is_started_by_the_next_caller(make, monkeypatch):
    def ctrl_c(thread):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", ctrl_c)
    pool = ConnectionPool(name="p", create_client_func=make, config={"max_connections": 2})
    with pytest.raises(KeyboardInterrupt):
        pool.initialize()
    assert pool.execute("work") == 0
    assert [thread.name for thread in threading.enumerate()].count("hireliab.pool-housekeeper") == 1
    pool.stop()


# -- double, foreign and late release (15) ---------------------------------------------------------------------------


def test_of_two_threads_that_give_one_lease_back_at_once_one_counts(make):
    pool = ConnectionPool(name="p", create_client_func=make, config={"max_connections": 2, "min_connections": 0})
    rng = random.Random(15)
    for _ in range(60):
        lease = pool.acquire()
        ways = [lease.release, rng.choice([lease.release, lease.discard])]
        together(2, lambda i, ways=ways: ways[i]())
        with pytest.raises(ClosedError):
            lease.client
        stats = pool.stats()
        assert (stats.in_use, stats.size) == (0, stats.idle)
        assert stats.size <= 1
    full_capacity(pool, 2)
    pool.stop()
    assert {client.closed for client in make.made} == {1}


def test_a_lease_given_back_twice_does_not_free_its_next_borrower(pool_of, clock):
    pool = pool_of(max_connections=1)
    old = pool.acquire()
    old.release()
    lease = pool.acquire()
    [waiter] = waiting(pool, clock, 1)
    for end in (old.release, old.discard, lambda: old.__exit__(ValueError, ConnectionResetError(), None)):
        end()
        assert (pool.stats().in_use, pool.stats().waiting, lease.client.closed) == (1, 1, 0)
    lease.release()
    waiter.result().release()


def test_a_lease_goes_back_to_its_own_pool_wherever_it_is_ended(pool_of):
    one, other = pool_of(), pool_of()
    lease = one.acquire()
    with other.connection():
        other_thread(lease.release)
    assert (one.stats().idle, other.stats().idle) == (1, 1)
