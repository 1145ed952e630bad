import functools
import os
import threading
import warnings

import pytest

from hireliab.core.bulkhead import Bulkhead
from hireliab.core.deadline import deadline
from hireliab.errors import BulkheadFullError, ConfigError, DeadlineExceededError, NotSentError
from hireliab.testing import FakeClock
from tests.support.together import JOIN_TIMEOUT, Background, together


@pytest.fixture
def make(clock):
    """A bulkhead of one place with a queue of three, each waiting 5 s at most."""
    return functools.partial(Bulkhead, name="orders", max_concurrent=1, max_waiting=3, max_wait=5.0, clock=clock)


def queue_up(bulkhead, clock, count, into):
    """Threads that wait for a place, one behind the other."""
    threads = []
    for number in range(count):

        def wait(number=number):
            permit = bulkhead.acquire()
            into.append((number, permit))

        before = bulkhead.stats().waiting
        threads.append(Background(wait))
        clock.wait_parked(before + 1)
    return threads


def test_places_are_given_out_and_no_more(clock):
    bulkhead = Bulkhead(name="orders", max_concurrent=2, clock=clock)
    first, _second = bulkhead.acquire(), bulkhead.acquire()
    with pytest.raises(BulkheadFullError) as caught:
        bulkhead.acquire()
    assert isinstance(caught.value, NotSentError)
    assert not caught.value.retryable
    assert str(caught.value) == (
        "bulkhead 'orders': 2 of 2 running and 0 of 0 waiting, the call was not made; try again later"
    )
    first.release()
    bulkhead.acquire()
    stats = bulkhead.stats()
    assert (stats.name, stats.running, stats.waiting, stats.refused, stats.max_concurrent) == ("orders", 2, 0, 1, 2)


def test_a_permit_gives_its_place_back_once():
    bulkhead = Bulkhead(name="b", max_concurrent=3)
    with bulkhead.acquire() as permit:
        bulkhead.acquire()
        permit.release()
    permit.release()
    assert bulkhead.stats().running == 1


def test_those_who_wait_are_served_in_the_order_in_which_they_came(make, clock):
    bulkhead, served = make(), []
    held = bulkhead.acquire()
    threads = queue_up(bulkhead, clock, 3, served)
    for number in range(3):
        held.release()
        threads[number].result()
        assert [name for name, _ in served] == list(range(number + 1))
        held = served[-1][1]
    assert bulkhead.stats().running == 1
    held.release()
    assert bulkhead.stats().running == 0


def test_a_place_is_handed_over_so_that_no_newcomer_can_take_it(make, clock):
    bulkhead, served = make(), []
    held = bulkhead.acquire()
    (thread,) = queue_up(bulkhead, clock, 1, served)
    with bulkhead._lock:  # the waiter cannot run before the newcomer looks
        held.release()
        stats = bulkhead.stats()
        assert (stats.running, stats.waiting) == (1, 0)
    thread.result()
    assert bulkhead.stats().running == 1


def test_the_queue_is_bounded(make, clock):
    bulkhead, served = make(), []
    held = bulkhead.acquire()
    threads = queue_up(bulkhead, clock, 3, served)
    with pytest.raises(BulkheadFullError, match="3 of 3 waiting"):
        bulkhead.acquire()
    for thread in threads:
        held.release()
        thread.result()
        held = served[-1][1]


def test_a_wait_ends_after_max_wait(make, clock):
    bulkhead = make()
    bulkhead.acquire()
    waiting = Background(bulkhead.acquire)
    clock.wait_parked()
    clock.advance(4.999)
    assert bulkhead.stats().waiting == 1
    clock.advance(0.001)
    with pytest.raises(BulkheadFullError):
        waiting.result()
    stats = bulkhead.stats()
    assert (stats.running, stats.waiting, stats.refused) == (1, 0, 1)


def test_a_waiter_that_gave_up_is_not_handed_a_place(make, clock):
    bulkhead = make()
    held = bulkhead.acquire()
    waiting = Background(bulkhead.acquire)
    clock.wait_parked()
    clock.advance(5.0)
    with pytest.raises(BulkheadFullError):
        waiting.result()
    held.release()
    assert bulkhead.stats().running == 0
    bulkhead.acquire()


def test_a_wait_ends_with_the_deadline(make, clock):
    bulkhead = make()
    held = bulkhead.acquire()

    def wait():
        with deadline(2.0, clock=clock):
            bulkhead.acquire()

    waiting = Background(wait)
    clock.wait_parked()
    assert clock.next_deadline() == 2.0
    clock.advance(2.0)
    with pytest.raises(DeadlineExceededError, match="bulkhead 'orders'"):
        waiting.result()
    held.release()
    assert bulkhead.stats().running == 0


def test_a_spent_deadline_waits_for_nothing(make, clock):
    bulkhead = make()
    bulkhead.acquire()
    with deadline(0, clock=clock), pytest.raises(DeadlineExceededError):
        bulkhead.acquire()
    assert bulkhead.stats().waiting == 0


class _Interrupted(FakeClock):
    """A clock whose waits end with Ctrl-C, after doing something."""

    def __init__(self, first):
        super().__init__()
        self._first = first

    def wait_for(self, condition, predicate, timeout=None):
        self._first()
        raise KeyboardInterrupt


def test_an_interrupted_waiter_leaves_the_queue():
    bulkhead = Bulkhead(name="b", max_concurrent=1, max_waiting=3, max_wait=5.0, clock=_Interrupted(lambda: None))
    held = bulkhead.acquire()
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire()
    assert bulkhead.stats().waiting == 0
    held.release()
    assert bulkhead.stats().running == 0


class InterruptedAtRelease:
    """A lock whose n-th release is met by Ctrl-C: Python looks for signals after the call, still inside the method."""

    def __init__(self, lock, at):
        self._lock, self._at, self._releases = lock, at, 0

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *error):
        self._lock.__exit__(*error)
        self._releases += 1
        if self._releases == self._at:
            raise KeyboardInterrupt

    def __getattr__(self, name):
        return getattr(self._lock, name)


def test_ctrl_c_at_the_moment_at_which_the_place_is_had_gives_it_back():
    bulkhead = Bulkhead(name="b", max_concurrent=1)
    bulkhead._lock = InterruptedAtRelease(bulkhead._lock, 1)
    with pytest.raises(KeyboardInterrupt):
        bulkhead.execute(int)
    assert bulkhead.stats().running == 0


def test_ctrl_c_at_the_moment_at_which_a_waiter_has_its_place_gives_it_back():
    held = []
    bulkhead = Bulkhead(
        name="b", max_concurrent=1, max_waiting=3, max_wait=5.0, clock=_JustInTime(lambda: held.pop().release())
    )
    held.append(bulkhead.acquire())
    bulkhead._lock = InterruptedAtRelease(bulkhead._lock, 3)  # the first look, the release of the other, its own
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire()
    assert (bulkhead.stats().running, bulkhead.stats().waiting) == (0, 0)


def test_a_place_granted_to_an_interrupted_waiter_goes_on():
    held = []
    bulkhead = Bulkhead(
        name="b", max_concurrent=1, max_waiting=3, max_wait=5.0, clock=_Interrupted(lambda: held.pop().release())
    )
    held.append(bulkhead.acquire())
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire()
    assert bulkhead.stats().running == 0
    bulkhead.acquire()


class _JustInTime(FakeClock):
    """A clock whose waits end without the place, which is granted before the lock is taken again."""

    def __init__(self, grant):
        super().__init__()
        self._grant = grant

    def wait_for(self, condition, predicate, timeout=None):
        self._grant()
        return False


def test_a_place_granted_in_the_instant_of_the_timeout_is_used():
    held = []
    bulkhead = Bulkhead(
        name="b", max_concurrent=1, max_waiting=3, max_wait=5.0, clock=_JustInTime(lambda: held.pop().release())
    )
    for _ in range(1000):
        held.append(bulkhead.acquire())
        permit = bulkhead.acquire()
        assert bulkhead.stats().running == 1
        permit.release()
    assert bulkhead.stats().running == 0


def test_the_place_is_given_back_however_the_call_ends():
    bulkhead = Bulkhead(name="b", max_concurrent=1)

    def fail(error):
        raise error

    for error in (ValueError("x"), KeyboardInterrupt(), GeneratorExit()):
        with pytest.raises(type(error)) as caught:
            bulkhead.execute(fail, error)
        assert caught.value is error
        assert bulkhead.stats().running == 0
    with pytest.raises(ValueError), bulkhead:
        raise ValueError
    assert bulkhead.execute(max, 3, 5) == 5
    assert bulkhead.stats().running == 0


def test_a_decorated_function_has_its_name_and_its_place():
    bulkhead = Bulkhead(name="b", max_concurrent=1)

    @bulkhead
    def outer(value, *, name):
        """Say."""
        with pytest.raises(BulkheadFullError):  # a thread that enters twice takes two places
            outer(value, name=name)
        return value, name, bulkhead.stats().running

    assert outer(1, name="x") == (1, "x", 1)
    assert (outer.__name__, outer.__doc__) == ("outer", "Say.")


def test_calls_run_side_by_side_up_to_the_limit():
    bulkhead = Bulkhead(name="b", max_concurrent=4, max_waiting=100, max_wait=JOIN_TIMEOUT)
    lock = threading.Lock()
    now = [0, 0]

    def call(_):
        for _ in range(50):
            with bulkhead:
                with lock:
                    now[0] += 1
                    now[1] = max(now)
                with lock:
                    now[0] -= 1

    together(12, call)
    assert 1 <= now[1] <= 4
    stats = bulkhead.stats()
    assert (stats.running, stats.waiting, stats.refused) == (0, 0, 0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_concurrent": 1.5}, "max_concurrent"),
        ({"max_waiting": -1}, "max_waiting"),
        ({"max_wait": -0.1}, "max_wait"),
        ({"max_wait": float("nan")}, "max_wait"),
        ({"max_wait": None}, "max_wait"),
        ({"max_wait": 0.0}, "max_wait"),
        ({"max_waiting": 0}, "max_wait"),
        ({"name": ""}, "name"),
    ],
)
def test_a_senseless_setting_is_refused(make, settings, named):
    with pytest.raises(ConfigError) as caught:
        make(**settings)
    assert caught.value.setting == named


def test_generators_and_coroutines_are_refused():
    bulkhead = Bulkhead(name="b", max_concurrent=1)

    def generate():
        yield 1

    async def wait():
        pass

    class Lazy:
        async def __call__(self):
            pass

    for func in (generate, wait, functools.partial(generate), Lazy()):
        with pytest.raises(ConfigError, match="bulkhead 'b'"):
            bulkhead(func)
        with pytest.raises(ConfigError, match="bulkhead 'b'"):
            bulkhead.execute(func)
    with pytest.raises(ConfigError, match="the class dict"):
        bulkhead(dict)
    assert bulkhead.stats().running == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_starts_with_free_places_and_a_free_lock():
    bulkhead = Bulkhead(name="b", max_concurrent=1)
    permit = bulkhead.acquire()
    bulkhead._lock.acquire()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads, which are the point here
        child = os.fork()
    if child == 0:
        code = 1
        try:
            thread = threading.Thread(target=bulkhead._take, daemon=True)  # another thread than the lock's owner
            thread.start()
            thread.join(5.0)
            taken = bulkhead.stats().running == 1 and bulkhead.stats().refused == 0 and not thread.is_alive()
            bulkhead._give()
            permit.release()  # the parent's
            code = 0 if taken and bulkhead.stats().running == 0 else 2
        finally:
            os._exit(code)
    bulkhead._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bulkhead.stats().running == 1
