"""Several limits at once, what the server says, and forks."""

import contextlib
import functools
import math
import os
import random
import signal
import sys
import threading

import pytest

from hireliab.core import _limiter_window, rate_limiter
from hireliab.core.rate_limiter import RateLimiter
from hireliab.errors import ConfigError, RateLimitedError
from hireliab.testing import FakeClock
from tests.support.together import JOIN_TIMEOUT, Background, together


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    """A limiter of 3 a second and 10 a minute."""
    return functools.partial(RateLimiter, name="api", limits=[(10, 60.0), (3, 1.0)], clock=clock)


def refusal(limiter, *args, **kwargs):
    with pytest.raises(RateLimitedError) as caught:
        limiter.acquire(*args, **kwargs)
    return caught.value


def take(limiter, count, **kwargs):
    return [limiter.acquire(**kwargs) for _ in range(count)]


def used(limiter):
    return [window.used for window in limiter.stats().windows]


# -- several limits -------------------------------------------------------------------------------------------------


def test_a_call_must_fit_in_every_window(make, clock):
    limiter = make()
    take(limiter, 3)
    error = refusal(limiter)
    assert error.retry_after == 1.0
    assert str(error) == "rate limiter 'api': 3 of 3 used in 1 s, room in 1.000 s; try again then"
    for _ in range(2):
        clock.advance(1.0)
        take(limiter, 3)
    clock.advance(1.0)
    limiter.acquire()
    error = refusal(limiter)
    assert error.retry_after == 57.0
    assert "10 of 10 used in 60 s" in str(error)


def test_a_refusal_by_one_window_takes_nothing_from_the_others(make):
    limiter = make()
    take(limiter, 3)
    for _ in range(5):
        refusal(limiter)
    assert used(limiter) == [3, 3]


def test_the_shortest_window_comes_first_and_the_fullest_is_shown(make, clock):
    limiter = make()
    assert limiter.limits == ((3, 1.0), (10, 60.0))
    assert (limiter.limit, limiter.per) == (3, 1.0)
    take(limiter, 2)
    stats = limiter.stats()
    assert (stats.used, stats.limit, stats.per) == (2, 3, 1.0)
    clock.advance(1.0)
    stats = limiter.stats()
    assert (stats.used, stats.limit, stats.per) == (2, 10, 60.0)


def test_a_weight_above_the_smallest_limit_is_refused_at_once(make):
    with pytest.raises(ConfigError, match=r"weight 4 is more than the 3 that the normal lane has in 1 s"):
        make().acquire(4, timeout=None)


def test_the_reserve_is_a_share_of_each_limit(make, clock):
    limiter = make(limits=[(4, 1.0), (10, 60.0)], reserved=0.5)
    take(limiter, 2)
    refusal(limiter)
    take(limiter, 2, lane="reserved")
    clock.advance(1.0)
    take(limiter, 2)
    clock.advance(1.0)
    limiter.acquire()
    refusal(limiter)
    take(limiter, 3, lane="reserved")
    assert used(limiter) == [4, 10]


def test_those_who_wait_are_played_through_every_window(make, clock):
    limiter = make(limits=[(2, 1.0), (3, 10.0)])
    served = []

    def wait(name, weight):
        limiter.acquire(weight, timeout=None)
        served.append((name, clock.monotonic() - 1000.0))

    take(limiter, 2)
    threads = []
    for i, name in enumerate("abc"):
        threads.append(Background(wait, name, 1))
        clock.wait_parked(i + 1)
    # a at 1, which fills the long window; b and c when the first two have left it.
    assert refusal(limiter, timeout=10.9).retry_after == 11.0
    clock.advance(1.0)
    threads[0].result()
    clock.wait_parked(2)
    clock.advance(9.0)
    for thread in threads:
        thread.result()
    assert sorted(served) == [("a", 1.0), ("b", 10.0), ("c", 10.0)]


@pytest.mark.parametrize("lane", ["normal", "reserved"])
def test_those_in_front_are_played_with_their_weights(make, clock, lane):
    limiter = make(limits=[(4, 10.0)])
    take(limiter, 4)
    waiting = Background(limiter.acquire, 3, timeout=None, lane=lane)
    clock.wait_parked(1)
    assert refusal(limiter, 2, timeout=9.0, lane=lane).retry_after == 20.0
    assert refusal(limiter, 1, timeout=9.0, lane=lane).retry_after == 10.0
    clock.advance(10.0)
    waiting.result()


def test_a_wait_in_the_normal_lane_is_for_its_own_share_only(make, clock):
    limiter = make(limits=[(4, 10.0)], reserved=0.5)
    take(limiter, 2)
    clock.advance(5.0)
    take(limiter, 2, lane="reserved")
    assert refusal(limiter, 2).retry_after == 5.0


def test_giving_back_frees_every_window_that_still_counts_it(make, clock):
    limiter = make()
    old = limiter.acquire()
    clock.advance(1.0)
    tokens = take(limiter, 3)
    limiter.give_back(old)
    assert used(limiter) == [3, 3]
    limiter.give_back(tokens[0])
    limiter.give_back(tokens[0])
    assert used(limiter) == [2, 2]
    clock.advance(60.0)
    limiter.give_back(tokens[1])
    assert used(limiter) == [0, 0]


def test_another_limiters_token_gives_nothing_back(make):
    limiter, other = make(), make()
    limiter.acquire()
    token = other.acquire()
    limiter.give_back(token)
    assert used(limiter) == [1, 1]
    other.give_back(token)
    assert used(other) == [0, 0]


def test_history_fills_every_window_by_its_age(make):
    limiter = make()
    limiter.preload([0.5, 5.0, 59.0, 61.0])
    assert used(limiter) == [1, 3]


def test_a_share_of_every_window_can_be_filled(make):
    limiter = make(limits=[(4, 1.0), (10, 60.0)])
    limiter.fill(0.5)
    assert used(limiter) == [2, 5]


@pytest.mark.parametrize("limits", [[(5, 1.0), (12, 4.0)], [(3, 0.5), (5, 1.0), (20, 10.0)]])
def test_no_window_at_any_position_holds_more_than_its_limit(clock, limits):
    limiter = RateLimiter(name="random", limits=limits, reserved=0.2, clock=clock)
    rng = random.Random(3)
    admitted = []
    for _ in range(2500):
        step = rng.choice([0.0, 0.0, 0.01, 0.1, 0.3])
        clock.advance(step)
        weight, lane = rng.randint(1, 2), rng.choice(["normal", "reserved"])
        try:
            token = limiter.acquire(weight, lane=lane)
        except RateLimitedError:
            continue
        if rng.random() < 0.1:
            limiter.give_back(token)
        else:
            admitted.append((token.at, weight, lane))
    assert len(admitted) > 100
    for limit, per in limits:
        start = held = normal = 0
        for at, weight, lane in admitted:
            held += weight
            normal += weight * (lane == "normal")
            while admitted[start][0] + per <= at:
                held -= admitted[start][1]
                normal -= admitted[start][1] * (admitted[start][2] == "normal")
                start += 1
            assert held <= limit
            assert normal <= math.floor(limit * 0.8 + 1e-9)


def test_threads_that_switch_all_the_time_get_exactly_the_limit(clock):
    limiter = RateLimiter(name="threads", limits=[(37, 1.0), (50, 60.0)], clock=clock)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def ask(_):
        got = 0
        for _ in range(20):
            try:
                limiter.acquire()
                got += 1
            except RateLimitedError:
                pass
        return got

    try:
        assert sum(together(8, ask)) == 37
    finally:
        sys.setswitchinterval(before)


# -- what the server says -------------------------------------------------------------------------------------------


def test_what_the_server_counts_beyond_our_own_count_is_used(make, clock):
    limiter = make()
    take(limiter, 2)
    limiter.observe(used=7, per=60.0)
    assert used(limiter) == [2, 7]
    clock.advance(30.0)
    limiter.observe(used=8, per=60.0)
    clock.advance(30.0)
    assert used(limiter) == [0, 1], "what was entered later leaves later"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"used": 4}, 4),
        ({"used": 2}, 3),  # an older answer
        ({"remaining": 6}, 4),
        ({"remaining": 9}, 3),
        ({"remaining": 50, "limit": 54}, 4),  # the venue's limit, of which ours is a careful part
        ({"remaining": 50, "limit": 52}, 3),
        ({"remaining": 2, "limit": 5}, 8),  # the venue admits less than we thought
        ({"used": 3, "limit": 5}, 8),
        ({"remaining": 0}, 10),
        ({"used": 99}, 99),
        ({"remaining": 99}, 3),
    ],
)
def test_an_answer_can_only_make_the_limiter_more_careful(make, said, expected):
    limiter = make(limits=[(10, 60.0)])
    take(limiter, 3)
    limiter.observe(**said)
    assert used(limiter) == [expected]


def test_what_others_used_leaves_the_reserve_alone(make):
    limiter = make(limits=[(10, 60.0)], reserved=0.3)
    limiter.observe(used=7)
    refusal(limiter)
    take(limiter, 3, lane="reserved")


def test_an_observation_holds_those_who_wait_already(make, clock):
    limiter = make(limits=[(2, 10.0)])
    limiter.acquire()
    clock.advance(5.0)
    limiter.acquire()
    waiting = Background(limiter.acquire, timeout=8.0)
    clock.wait_parked(1)
    limiter.observe(used=9)
    with pytest.raises(RateLimitedError):
        waiting.result()


def test_nobody_is_admitted_before_the_moment_that_was_set(make, clock):
    limiter, other = make(), make()
    when = clock.monotonic() + 5.0
    for one in (limiter, other):
        one.pause_until(when)
        one.pause_until(when - 3.0)
        one.penalize(1.0)
        assert refusal(one).retry_after == 5.0
    clock.advance(5.0)
    limiter.acquire()
    limiter.pause_until(-5.0)
    limiter.acquire()


def test_a_pause_wakes_those_who_cannot_be_served_in_time(make, clock):
    limiter = make(limits=[(1, 10.0)])
    limiter.acquire()
    waiting = Background(limiter.acquire, timeout=10.0)
    clock.wait_parked(1)
    limiter.pause_until(clock.monotonic() + 11.0)
    with pytest.raises(RateLimitedError) as caught:
        waiting.result()
    assert caught.value.retry_after == 11.0


# -- the short way --------------------------------------------------------------------------------------------------


def test_a_call_that_finds_room_joins_no_queue_and_one_behind_a_waiter_does(make, clock):
    limiter = make(limits=[(4, 10.0)], reserved=0.25)
    take(limiter, 2)
    waiting = Background(limiter.acquire, 3, timeout=None)
    clock.wait_parked(1)
    refusal(limiter)
    limiter.acquire(lane="reserved")
    waiting_reserved = Background(limiter.acquire, 4, timeout=None, lane="reserved")
    clock.wait_parked(2)
    refusal(limiter, lane="reserved")
    clock.advance(10.0)
    waiting_reserved.result()
    clock.wait_parked(1)
    clock.advance(10.0)
    waiting.result()


@pytest.mark.parametrize("call", [{"weight": 1.0}, {"timeout": 0}, {"timeout": None}, {"weight": 2, "timeout": 3}])
def test_what_is_not_recognised_quickly_is_admitted_all_the_same(make, call):
    limiter = make()
    limiter.acquire(**call)
    assert used(limiter)[0] == int(call.get("weight", 1))


# -- signal handlers and finalisers ---------------------------------------------------------------------------------


class HandlerClock(FakeClock):
    """A clock at whose next reading a signal handler runs: in the middle of whatever reads it."""

    handler = None

    def monotonic(self):
        handler, self.handler = self.handler, None
        if handler is not None:
            handler()
        return super().monotonic()


@pytest.mark.parametrize(
    "inner",
    [
        lambda limiter, token: limiter.acquire(),
        lambda limiter, token: limiter.give_back(token),
        lambda limiter, token: limiter.penalize(9.0),
        lambda limiter, token: limiter.observe(used=3),
        lambda limiter, token: limiter.preload([0.0]),
        lambda limiter, token: limiter.fill(1.0),
        lambda limiter, token: limiter.stats(),
    ],
    ids=["acquire", "give_back", "penalize", "observe", "preload", "fill", "stats"],
)
@pytest.mark.parametrize("outer", ["acquire", "stats"])
def test_a_signal_handler_in_the_middle_of_the_limiter_is_refused_and_changes_nothing(inner, outer):
    clock = HandlerClock()
    limiter = RateLimiter(name="l", limit=3, per=1.0, clock=clock)
    tokens = [limiter.acquire()]
    refused = []

    def handler():
        with pytest.raises(RateLimitedError, match="signal handler or a finaliser.*nothing was taken") as caught:
            inner(limiter, tokens[0])
        refused.append(caught.value)

    clock.handler = handler
    Background(getattr(limiter, outer)).result()
    assert len(refused) == 1
    assert limiter.stats().used == (2 if outer == "acquire" else 1)
    inner(limiter, tokens[0])  # after it, it may


def test_a_signal_handler_is_refused_also_by_one_who_has_waited():
    clock = HandlerClock()
    limiter = RateLimiter(name="l", limit=1, per=1.0, clock=clock)
    limiter.acquire()
    refused = []

    def handler():
        with pytest.raises(RateLimitedError, match="signal handler"):
            limiter.acquire()
        refused.append(1)

    waiting = Background(limiter.acquire, timeout=None)
    clock.wait_parked(1)
    assert limiter.stats().waiting == 1  # who waits keeps nobody out
    clock.handler = handler
    clock.advance(1.0)
    waiting.result()
    assert (refused, limiter.stats().used) == ([1], 1)


FILES = {rate_limiter.__file__, _limiter_window.__file__, contextlib.__file__}


@pytest.mark.parametrize(
    "call",
    [
        lambda limiter, token: limiter.acquire(),
        lambda limiter, token: limiter.give_back(token),
        lambda limiter, token: limiter.penalize(0.0),
        lambda limiter, token: limiter.observe(used=3),
        lambda limiter, token: limiter.preload([0.0]),
        lambda limiter, token: limiter.fill(1.0),
        lambda limiter, token: limiter.stats(),
    ],
    ids=["acquire", "give_back", "penalize", "observe", "preload", "fill", "stats"],
)
def test_ctrl_c_at_any_call_leaves_nobody_inside(call):
    def interrupt(frame, event, _):
        nonlocal left
        if event in ("call", "c_return") and frame.f_code.co_filename in FILES:  # where Python looks for signals
            left -= 1
            if left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    for number in range(1, 200):
        limiter, left = RateLimiter(name="l", limit=9, per=1.0), number
        token = limiter.acquire()
        try:
            sys.setprofile(interrupt)
            call(limiter, token)
        except KeyboardInterrupt:
            # Looked at while the exception still holds its frames, as an operator's clean-up would.
            assert Background(limiter.stats).result().waiting == 0
        else:
            assert number > 2
            return
        finally:
            sys.setprofile(None)
    raise AssertionError("it was interrupted each time")


# -- fork -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_keeps_the_windows_without_waiters_or_a_held_lock(make, clock):
    limiter = make()
    take(limiter, 3)
    waiting = Background(limiter.acquire, timeout=None)
    clock.wait_parked(1)
    held, leave = threading.Event(), threading.Event()

    def hold():
        with limiter._lock:
            held.set()
            leave.wait(JOIN_TIMEOUT)

    holder = Background(hold)
    assert held.wait(JOIN_TIMEOUT)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)  # a hang is a failure
            stats = limiter.stats()
            code = 0 if stats.waiting == 0 and stats.used == 3 else 2
            clock._now += 1.0
            limiter.acquire()
        finally:
            os._exit(code)
    leave.set()
    holder.result()
    assert os.waitpid(child, 0)[1] == 0
    clock.advance(1.0)
    waiting.result()


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({}, "limit"),
        ({"limit": 3}, "per"),
        ({"limits": []}, "limits"),
        ({"limits": 3}, "limits"),
        ({"limits": [3]}, "limits"),
        ({"limits": [(3, 1.0, 2)]}, "limits"),
        ({"limits": [(0, 1.0)]}, "limits"),
        ({"limits": [(3, math.nan)]}, "limits"),
        ({"limits": [(3, 1.0), (5, 1)]}, "limits"),
        ({"limits": [(3, 1.0)], "limit": 3}, "limits"),
        ({"limits": [(3, 1.0)], "per": 1.0}, "limits"),
        ({"limits": [(3, 1.0), (100, 60.0)], "reserved": 0.8}, "reserved"),
    ],
)
def test_bad_limits_are_refused(settings, setting):
    with pytest.raises(ConfigError) as caught:
        RateLimiter(name="bad", **settings)
    assert caught.value.setting == setting


@pytest.mark.parametrize(
    ("call", "setting"),
    [
        (lambda x: x.observe(), "used"),
        (lambda x: x.observe(used=1, remaining=1, per=1.0), "used"),
        (lambda x: x.observe(used=1), "per"),
        (lambda x: x.observe(used=1, per=2.0), "per"),
        (lambda x: x.observe(used=-1, per=1.0), "used"),
        (lambda x: x.observe(remaining=-1, per=1.0), "remaining"),
        (lambda x: x.observe(remaining=1, limit=0, per=1.0), "limit"),
        (lambda x: x.pause_until(math.inf), "when"),
        (lambda x: x.acquire(True), "weight"),
        (lambda x: x.acquire(timeout=math.inf), "timeout"),
        (lambda x: x.acquire(lane=None), "lane"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(make, call, setting):
    limiter = make()
    with pytest.raises(ConfigError) as caught:
        call(limiter)
    assert caught.value.setting == setting
    assert limiter.stats() == make().stats()
