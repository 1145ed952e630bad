"""Cases 2 to 4 and 10 of test_pool_cases.py: Ctrl-C, signal handlers and finalisers at every call the pool makes."""

import gc
import itertools
import random
import sys

import pytest

from hireliab.errors import PoolCreateError, PoolDeadlockError, PoolError, PoolTimeoutError
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.testing import FakeClock
from tests.support.pools import (
    Maker,
    at_most,
    cheap_collections,
    full_capacity,
    other_thread,
    with_handler,
    with_interruption,
)
from tests.support.together import Background


class WaitingClock(FakeClock):
    """Its `acquire` runs `meanwhile` instead of sleeping: what other threads do while the caller waits."""

    def __init__(self):
        super().__init__()
        self.meanwhile = None

    def acquire(self, lock, timeout=None):
        if self.meanwhile is not None:
            event, self.meanwhile = self.meanwhile, None
            event()
        if lock.acquire(blocking=timeout is None, timeout=20 if timeout is None else -1):
            return True
        self.advance(timeout)
        return False


@pytest.fixture(autouse=True)
def cheap():
    with cheap_collections(), at_most(30):
        yield


class World:
    """A fresh pool of two on a clock of its own."""

    def __init__(self, **config):
        self.clock = WaitingClock()
        self.make = Maker()
        self.before_the_end = lambda: None
        config = {"min_connections": 0, "max_connections": 2, "idle_timeout": 60, **config}
        self.pool = ConnectionPool(name="w", create_client_func=self.make, config=config, clock=self.clock)

    def warm(self, count=1):
        leases = [self.pool.acquire() for _ in range(count)]
        for lease in leases:
            lease.release()

    def end(self):
        """All capacity is there, and at the end each client was closed at most once."""
        self.make.errors = []
        self.before_the_end()
        other_thread(self.pool.stats)  # the lock is free
        full_capacity(self.pool, 2)
        self.pool.stop(timeout=0)
        assert [client.number for client in self.make.made if client.closed > 1] == []
        stats = self.pool.stats()
        assert (stats.size, stats.status, stats.close_errors) == (0, "stopped", 0)


def makes_a_client(world):
    return lambda: world.pool.acquire().release()


def lends_an_idle_one(world):
    world.warm()
    return lambda: world.pool.acquire().release()


def executes(world):
    world.warm()
    return lambda: world.pool.execute("work")


def uses_a_block(world):
    def act():
        with world.pool.connection() as client:
            client.work()

    return act


def discards(world):
    def act():
        with pytest.raises(ConnectionResetError):
            world.pool.execute("work", ConnectionResetError())

    world.warm()
    return act


def fails_its_check(world):
    world.warm()
    world.clock.advance(2)
    world.verdict = False
    return lambda: world.pool.acquire().release()


def waits_for_a_client(world):
    held = [Background(world.pool.acquire).result() for _ in range(2)]
    world.clock.meanwhile = held.pop().release

    def act():
        world.pool.acquire(timeout=5).release()
        assert world.clock.meanwhile is None, "it did not wait"
        held.clear()

    return act


def waits_for_a_place(world):
    held = [Background(world.pool.acquire).result() for _ in range(2)]
    world.clock.meanwhile = held.pop().discard

    def act():
        world.pool.acquire(timeout=5).release()
        assert world.clock.meanwhile is None, "it did not wait"
        held.clear()

    return act


def hands_over(world):
    held = [world.pool.acquire() for _ in range(2)]
    waiter = Background(lambda: world.pool.acquire(timeout=None).release())
    while world.pool.stats().waiting == 0:
        pass

    def give_all_back():
        for lease in held:
            lease.release()
        world.pool._tend()  # finds a lease that died with its frame
        try:
            waiter.result()
        except PoolError:  # stopped
            pass

    world.before_the_end = give_all_back
    return lambda: held.pop().release()


def waits_in_vain(world):
    held = [Background(world.pool.acquire).result() for _ in range(2)]

    def act():
        with pytest.raises(PoolTimeoutError):
            world.pool.acquire(timeout=5)
        held.clear()

    return act


def starts(world):
    return world.pool.initialize


def looks_after_it(world):
    world.warm(2)
    world.clock.advance(100)
    return world.pool._tend


def fills_up(world):
    world.warm()
    return world.pool._tend


def stops_and_starts(world):
    world.warm(2)

    def act():
        world.pool.stop(timeout=0)
        world.pool.initialize()

    return act


def fails_to_make_one(world):
    world.make.errors = [OSError("down")]

    def act():
        try:
            world.pool.acquire().release()  # the failure may have met the handler instead
        except PoolCreateError:
            pass

    return act


def waits_for_the_end_of_a_pause(world):
    held = [Background(world.pool.acquire).result()]
    fails_to_make_one(world)()

    def act():
        world.pool.acquire(timeout=60).release()
        held.clear()

    return act


def checks_in_the_background(world):
    world.warm(2)
    world.clock.advance(30)
    return world.pool._tend


def invalidates(world):
    world.warm(2)

    def act():
        with world.pool.connection():
            world.pool.invalidate_all()

    return act


SCENES = [makes_a_client, lends_an_idle_one, executes, uses_a_block, discards, fails_its_check, waits_for_a_client,
          waits_for_a_place, hands_over, waits_in_vain, looks_after_it, starts, stops_and_starts, fails_to_make_one,
          waits_for_the_end_of_a_pause, checks_in_the_background, invalidates]  # fmt: skip


def scene_world(scene):
    config = {"min_connections": 2 if scene in (starts, stops_and_starts, fills_up) else 0}
    if scene in (executes, fails_its_check):
        config["reset_func"] = lambda client: None
    if scene in (fails_its_check, checks_in_the_background, looks_after_it):
        config["validate_func"] = lambda client: getattr(world, "verdict", True)
    if scene is checks_in_the_background:
        config["keepalive_interval"] = 20
    world = World(**config)
    if scene in (discards, fails_to_make_one, invalidates):
        world.pool.add_listener(lambda event: None)
    return world


def places_of(scene):
    """How many places there are in a scene that nothing interrupts."""
    world = scene_world(scene)
    return with_handler([100_000], ctrl_c, scene(world))


def ctrl_c():
    raise KeyboardInterrupt


# -- Ctrl-C (2) -----------------------------------------------------------------------------------------------------


@pytest.fixture
def swallowed(monkeypatch):
    """What Python itself could not raise: an interrupt while a generator or finaliser is put away."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda caught: seen.append(caught.exc_type))
    return seen


def heals(world, places, scene, swallowed, **how):
    """Ctrl-C at these places; afterwards everything is there. Returns how many of the places there were."""
    swallowed.clear()
    raised = False
    act = scene(world)  # not the caller's: what it holds must go with it
    run = with_handler if how else with_interruption
    try:
        count = run(places, ctrl_c, act, **how)
    except KeyboardInterrupt:
        raised, count = True, run.reached
    act = world.clock.meanwhile = None
    gc.collect()
    try:
        assert raised or swallowed or count < min(places), "Ctrl-C was swallowed"
        world.clock.advance(100)  # any pause after a failure is over
        if world.pool.stats().status != "running":
            world.pool.stop(timeout=0)
            world.pool.initialize()
        world.end()
    except BaseException as error:
        raise AssertionError(f"after Ctrl-C at places {places}") from error
    return count


@pytest.mark.parametrize("scene", SCENES)
def test_ctrl_c_at_any_call_of_the_pool_loses_no_capacity(scene, swallowed):
    for nth in itertools.count(1):
        world = scene_world(scene)
        if heals(world, [nth], scene, swallowed) < nth:
            break
    assert nth > 3


@pytest.mark.parametrize("scene", SCENES)
def test_ctrl_c_at_any_turn_of_a_loop_of_the_pool_loses_no_capacity(scene, swallowed):
    for nth in itertools.count(1):
        world = scene_world(scene)
        if heals(world, [nth], scene, swallowed, loops_only=True) < nth:
            break


@pytest.mark.parametrize("scene", SCENES)
def test_a_second_ctrl_c_while_the_first_is_handled_loses_no_capacity(scene, swallowed):
    rng = random.Random(scene.__name__)
    for _ in range(60):
        first = rng.randrange(1, 60)
        world = scene_world(scene)
        heals(world, [first, first + rng.randrange(1, 12)], scene, swallowed)


def started_world(**config):
    world = World(min_connections=2, **config)
    world.pool.initialize()
    return world


def test_a_stop_that_ctrl_c_cut_short_is_finished_by_the_next_one(swallowed):
    for nth in itertools.count(1):
        world = started_world()
        try:
            count = with_interruption([nth], ctrl_c, world.pool.stop)
        except KeyboardInterrupt:
            count = nth
        world.pool.stop(timeout=0)
        assert [client.closed for client in world.make.made] == [1, 1], f"after Ctrl-C at place {nth}"
        world.pool.initialize()
        world.end()
        if count < nth:
            break
    assert nth > 30


@pytest.mark.parametrize("scene", [makes_a_client, starts, fills_up])
def test_a_client_that_was_made_when_ctrl_c_came_is_the_pools_or_closed(scene, swallowed):
    for nth in itertools.count(1):
        world = scene_world(scene)
        act = scene(world)
        try:
            count = with_interruption([nth], ctrl_c, act)
        except KeyboardInterrupt:
            count = nth
        act = None
        gc.collect()
        world.pool.stop(timeout=0)
        world.pool.stop(timeout=0)
        assert [client.closed for client in world.make.made if client.closed != 1] == [], f"Ctrl-C at place {nth}"
        if count < nth:
            break
    assert nth > 10


def test_a_stop_that_two_ctrl_cs_killed_is_finished_while_its_traceback_lives(swallowed):
    places = with_interruption([100_000], ctrl_c, started_world().pool.stop)
    killed = 0
    for first in range(10, places, 3):
        for gap in (1, 4, 9, 16):
            world = started_world()
            try:
                with_interruption([first, first + gap], ctrl_c, world.pool.stop)
            except KeyboardInterrupt:
                killed += world.pool.stats().status == "stopping"
                world.pool.stop(timeout=None)
                stats = world.pool.stats()
                assert (stats.status, stats.size) == ("stopped", 0), (first, gap)
            world.pool.stop()
            world.pool.initialize()
            world.end()
    assert killed


@pytest.mark.parametrize("timeout", [5, None])
def test_a_clients_close_that_stops_the_pool_does_not_wait_for_itself(timeout):
    def close(client):
        client.close()
        reports.append(world.pool.stop(timeout=timeout))

    reports = []
    world = started_world(close_func=close)
    before = world.clock.monotonic()
    report = world.pool.stop(timeout=timeout)
    assert (report.closed, report.left, len(reports)) == (2, 0, 2)
    assert world.clock.monotonic() == before


def test_a_lease_that_was_left_by_a_stop_and_dropped_is_closed_by_the_next_stop():
    world = started_world()
    lease = other_thread(world.pool.acquire)
    assert world.pool.stop(timeout=0).left == 1
    client = lease.client
    del lease
    world.pool.stop(timeout=0)
    assert (client.closed, world.pool.stats().size) == (1, 0)


# -- a signal handler (3) -------------------------------------------------------------------------------------------


def uses(world):
    world.pool.acquire(timeout=0).release()


def discards_a_lease(world):
    world.pool.acquire(timeout=0).discard()


def drops_a_lease(world):
    world.pool.acquire(timeout=0)


def asks_for_stats(world):
    stats = world.pool.stats()
    assert stats.size == stats.idle + stats.in_use
    assert stats.size + stats.creating <= 2


def stops(world):
    world.pool.stop(timeout=0)


def stops_and_starts_again(world):
    world.pool.stop(timeout=0)
    world.pool.initialize()


HANDLERS = [uses, discards_a_lease, drops_a_lease, asks_for_stats, stops, stops_and_starts_again]


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_signal_handler_that_uses_the_pool_at_any_of_its_calls_is_served_or_refused(scene, handler):
    # Each run puts the handler at three places: with these scenes and handlers nearly all places are met.
    rng = random.Random(f"{scene.__name__} {handler.__name__}")
    count = places_of(scene)
    entered = 0
    for _ in range(15):
        world = scene_world(scene)
        act = scene(world)

        def interruption(world=world):
            nonlocal entered
            entered += 1
            try:
                handler(world)
            except PoolError:
                pass

        places = [rng.randint(1, count) for _ in range(3)]
        try:
            with_handler(places, interruption, act)
        except PoolError:
            # Refused by a stop, by the handler's own share of the two clients, or because it made the last one.
            pass
        act = world.clock.meanwhile = None
        gc.collect()
        world.clock.advance(100)
        try:
            if world.pool.stats().status != "running":
                world.pool.initialize()
            world.end()
        except BaseException as error:
            raise AssertionError(f"after the handler at places {places}") from error
    assert entered


# -- finalisers (4) -------------------------------------------------------------------------------------------------


class Garbage:
    """A reference cycle that does something when it is collected; only a collection can free it."""

    def __init__(self, action):
        self.me = self
        self.action = action

    def __del__(self):
        try:
            self.action()
        except PoolError:
            pass


def gives_a_lease_back(world):
    lease = world.pool.acquire(timeout=0)
    return lease.release


def gives_a_broken_one_back(world):
    lease = world.pool.acquire(timeout=0)
    return lease.discard


def borrows_one(world):
    return lambda: world.pool.acquire(timeout=0).release()


def leaves_a_lease(world):
    lease = world.pool.acquire(timeout=0)
    return lambda: lease.client  # the lease itself is part of the cycle and dies with it


FINALISERS = [gives_a_lease_back, gives_a_broken_one_back, borrows_one, leaves_a_lease]


@pytest.mark.parametrize("finaliser", FINALISERS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_finaliser_that_uses_the_pool_may_run_at_any_of_its_calls(scene, finaliser, swallowed):
    rng = random.Random(f"{scene.__name__} {finaliser.__name__}")
    count = places_of(scene)
    collected = 0
    for _ in range(15):
        world = scene_world(scene)
        act = scene(world)
        try:
            Garbage(finaliser(world))
        except PoolError:
            Garbage(borrows_one(world))  # the scene holds all the clients itself

        def interruption():
            nonlocal collected
            collected += gc.collect() > 0

        place = rng.randint(1, count)
        try:
            with_handler([place], interruption, act)
        except PoolError:
            pass  # the garbage had the client
        act = world.clock.meanwhile = None
        gc.collect()
        world.clock.advance(100)
        try:
            if world.pool.stats().status != "running":
                world.pool.initialize()
            world.end()
        except BaseException as error:
            raise AssertionError(f"after a collection at place {place}") from error
    assert collected
    assert swallowed == []


@pytest.mark.parametrize("where", ["factory", "validate_func", "reset_func", "close_func"])
def test_a_collection_inside_user_code_may_use_the_pool(where, swallowed):
    def collect(*client):
        Garbage(lambda: world.pool.acquire(timeout=0).release())
        Garbage(lambda: world.pool.acquire(timeout=0).discard())
        Garbage(lambda: world.pool.acquire(timeout=0))
        calls.append(1)
        if len(calls) < 20:  # a finaliser that makes garbage would go on for ever
            gc.collect()
        return True

    calls = []
    world = World(**({} if where == "factory" else {where: collect}))
    if where == "factory":
        world.make.before = collect
    for _ in range(5):
        with world.pool.connection() as client:
            client.work()
        world.clock.advance(2)
        world.pool.acquire().discard()
    assert calls
    calls.extend([1] * 20)
    gc.collect()
    full_capacity(world.pool, 2)
    world.pool.stop(timeout=0)
    assert swallowed == []


def test_with_a_collection_at_every_allocation_nothing_is_lost(swallowed):
    world = World()
    gc.enable()
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(100):
            Garbage(borrows_one(world))
            try:
                Garbage(gives_a_lease_back(world))
                world.pool.execute("work")
                with pytest.raises(ConnectionResetError):
                    world.pool.execute("work", ConnectionResetError())
            except (PoolTimeoutError, PoolDeadlockError):
                pass
    finally:
        gc.set_threshold(*before)
        gc.disable()
    gc.collect()
    world.end()
    assert swallowed == []
