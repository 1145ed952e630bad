"""One suite over both clocks: what holds of the real one holds of the fake."""

import threading

import pytest

from hireliab.core.clock import SystemClock
from hireliab.testing import FakeClock
from tests.support.together import Background


@pytest.fixture(params=[SystemClock, FakeClock])
def any_clock(request):
    return request.param()


def test_monotonic_never_steps_back(any_clock):
    readings = [any_clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)


def test_a_true_predicate_returns_at_once(any_clock):
    condition = threading.Condition()
    with condition:
        assert any_clock.wait_for(condition, lambda: True, None) is True


def test_a_timeout_of_zero_only_looks(any_clock):
    condition = threading.Condition()
    with condition:
        assert any_clock.wait_for(condition, lambda: False, 0) is False


def test_a_notify_ends_the_wait(any_clock):
    condition, flag, seen = threading.Condition(), [], []

    def wait():
        with condition:
            seen.append(any_clock.wait_for(condition, lambda: bool(flag), 1000.0))

    thread = threading.Thread(target=wait)
    thread.start()
    with condition:
        flag.append(1)
        condition.notify_all()
    thread.join(10)
    assert seen == [True]


@pytest.mark.parametrize("seconds", [1e10, 1e300, float("inf")])
def test_a_wait_may_be_longer_than_a_lock_can_wait(any_clock, seconds):
    condition, flag = threading.Condition(), []

    def wake():
        with condition:
            flag.append(1)
            condition.notify_all()

    with condition:  # so that it cannot be woken before it waits
        waking = Background(wake)
        assert any_clock.wait_for(condition, lambda: bool(flag), seconds)
    waking.result()
    assert any_clock.acquire(threading.Lock(), seconds)


def test_a_free_lock_is_acquired(any_clock):
    lock = threading.Lock()
    assert any_clock.acquire(lock, 0) is True
    assert any_clock.acquire(lock, 0) is False


def test_fake_time_wakes_those_whose_deadline_passed_and_no_others(clock):
    condition, woken = threading.Condition(), []

    def wait(seconds):
        with condition:
            clock.wait_for(condition, lambda: False, seconds)
        woken.append(seconds)

    threads = [threading.Thread(target=wait, args=(seconds,)) for seconds in (5, 10, 20)]
    for thread in threads:
        thread.start()
    clock.wait_parked(3)
    clock.advance(10)
    for thread in threads[:2]:
        thread.join(10)
    assert sorted(woken) == [5, 10]
    clock.advance(10)
    threads[2].join(10)
    assert sorted(woken) == [5, 10, 20]


def test_a_lock_is_given_up_after_fake_seconds(clock):
    lock, got = threading.Lock(), []
    lock.acquire()
    thread = threading.Thread(target=lambda: got.append(clock.acquire(lock, 5.0)))
    thread.start()
    clock.wait_parked(1)
    clock.advance(5.0)
    thread.join(10)
    assert got == [False]


def test_the_wall_clock_steps_alone(clock):
    before = clock.monotonic()
    clock.step_wall(-7200)
    assert clock.monotonic() == before
    assert clock.time() == 1_760_000_000.0 - 7200
