import dataclasses
import functools
import math
import threading

import pytest

from hireliab.core.rate_limiter import RateLimiter
from hireliab.errors import ConfigError, NotSentError, RateLimitedError
from hireliab.testing import FakeClock
from tests.support.together import JOIN_TIMEOUT, Background, together


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    """A limiter of 10 in 60 seconds."""
    return functools.partial(RateLimiter, name="orders", limit=10, per=60.0, clock=clock)


def refusal(limiter, *args, **kwargs):
    with pytest.raises(RateLimitedError) as caught:
        limiter.acquire(*args, **kwargs)
    return caught.value


def take(limiter, count, **kwargs):
    return [limiter.acquire(**kwargs) for _ in range(count)]


class Line:
    """Threads that wait in `acquire`, one behind the other."""

    def __init__(self, limiter, clock):
        self._limiter, self._clock = limiter, clock
        self.threads = {}
        self.served = []  # (name, clock reading), in the order in which they were let in

    def join(self, name, *args, timeout=None, **kwargs):
        def wait():
            self._limiter.acquire(*args, timeout=timeout, **kwargs)
            self.served.append((name, self._clock.monotonic()))

        before = self._limiter.stats().waiting
        self.threads[name] = Background(wait)
        self._clock.wait_parked(before + 1)

    def names(self):
        return [name for name, _ in self.served]


@pytest.fixture
def line(clock):
    return lambda limiter: Line(limiter, clock)


# -- the window -----------------------------------------------------------------------------------------------------


def test_the_limit_is_admitted_and_no_more(make):
    limiter = make()
    take(limiter, 10)
    error = refusal(limiter)
    assert isinstance(error, NotSentError)
    assert error.retryable
    assert error.retry_after == 60.0
    assert str(error) == "rate limiter 'orders': 10 of 10 used in 60 s, room in 60.000 s; try again then"


def test_each_admission_leaves_the_window_by_itself(make, clock):
    limiter = make()
    for _ in range(10):
        limiter.acquire()
        clock.advance(1.0)
    assert refusal(limiter).retry_after == 50.0
    clock.advance(49.999)
    refusal(limiter)
    clock.advance(0.001)
    limiter.acquire()
    assert refusal(limiter).retry_after == 1.0


def test_there_is_no_burst_across_a_boundary(make, clock):
    limiter = make()
    clock.advance(59.0)
    take(limiter, 10)
    clock.advance(1.0)  # where a fixed window would begin anew, and a token bucket would have something again
    refusal(limiter)


def test_a_refusal_takes_nothing(make, clock):
    limiter = make()
    take(limiter, 10)
    for _ in range(5):
        refusal(limiter)
    clock.advance(60.0)
    take(limiter, 10)


def test_weights_add_up(make, clock):
    limiter = make()
    limiter.acquire(7)
    clock.advance(10.0)
    limiter.acquire(3)
    assert refusal(limiter).retry_after == 50.0
    assert refusal(limiter, 8).retry_after == 60.0
    clock.advance(50.0)
    limiter.acquire(7)
    assert limiter.stats().used == 10


def test_a_weight_that_can_never_pass_is_refused_at_once(make):
    limiter = make(reserved=0.5)
    for kwargs in ({"weight": 11, "lane": "reserved"}, {"weight": 6}):
        with pytest.raises(ConfigError, match="wait for ever"):
            limiter.acquire(**kwargs, timeout=None)
    limiter.acquire(10, lane="reserved")


def test_the_wall_clock_does_not_matter(make, clock):
    limiter = make()
    take(limiter, 10)
    clock.step_wall(3600.0)
    assert refusal(limiter).retry_after == 60.0
    clock.step_wall(-7200.0)
    clock.advance(60.0)
    take(limiter, 10)


def test_a_long_idle_time_saves_nothing_up(make, clock):
    limiter = make()
    clock.advance(1e6)
    take(limiter, 10)
    refusal(limiter)


# -- waiting --------------------------------------------------------------------------------------------------------


def test_a_waiter_is_let_in_when_there_is_room_and_not_before(make, clock, line):
    limiter, start = make(), clock.monotonic()
    take(limiter, 10)
    waiting = line(limiter)
    waiting.join("a", timeout=60.0)
    clock.advance(59.0)
    clock.wait_parked(1)
    assert waiting.served == []
    clock.advance(1.0)
    waiting.threads["a"].result()
    assert waiting.served == [("a", start + 60.0)]


def test_a_wait_that_cannot_end_in_time_is_refused_without_waiting(make, clock):
    limiter = make()
    take(limiter, 10)
    # On a clock that stands still, only an immediate refusal returns.
    assert refusal(limiter, timeout=59.9).retry_after == 60.0
    assert limiter.stats().waiting == 0


def test_those_in_front_are_counted_when_the_wait_is_estimated(make, clock, line):
    limiter = make(limit=2)
    limiter.acquire()
    clock.advance(10.0)
    limiter.acquire()
    waiting = line(limiter)
    waiting.join("a")
    waiting.join("b")
    assert refusal(limiter, timeout=109.0).retry_after == 110.0, "the first place of the next window but one"
    waiting.join("c", timeout=110.0)
    for left, name in (2, "a"), (1, "b"), (0, "c"):
        clock.advance(clock.next_deadline())
        waiting.threads[name].result()
        clock.wait_parked(left)
    assert waiting.served == [("a", 1060.0), ("b", 1070.0), ("c", 1120.0)]


def test_first_come_first_served_whatever_the_weights(make, clock, line):
    limiter = make()
    take(limiter, 5)
    clock.advance(30.0)
    take(limiter, 5)
    waiting = line(limiter)
    waiting.join("heavy", 10)
    waiting.join("light", 1)
    # Half of the window is free: enough for the light one, who must not starve the heavy one in front.
    clock.advance(30.0)
    clock.wait_parked(2)
    assert waiting.served == []
    refusal(limiter)
    clock.advance(30.0)
    waiting.threads["heavy"].result()
    clock.wait_parked(1)
    assert waiting.names() == ["heavy"]
    clock.advance(60.0)
    waiting.threads["light"].result()


def test_when_the_first_gives_up_the_next_moves_up(make, clock, line):
    limiter = make(limit=2)
    take(limiter, 2)
    waiting = line(limiter)
    waiting.join("heavy", 2, timeout=60.0)
    waiting.join("light", 1)
    limiter.penalize(70.0)  # the heavy one cannot be served in time any more
    with pytest.raises(RateLimitedError) as caught:
        waiting.threads["heavy"].result()
    assert caught.value.retry_after == 70.0
    clock.wait_parked(1)
    clock.advance(70.0)
    waiting.threads["light"].result()
    assert waiting.served == [("light", 1070.0)]


def test_an_interrupted_waiter_leaves_the_queue_and_takes_nothing(clock):
    class Interrupted(FakeClock):
        def wait_for(self, condition, predicate, timeout=None):
            raise KeyboardInterrupt

    limiter = RateLimiter(name="x", limit=1, per=1.0, clock=Interrupted())
    limiter.acquire()
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire(timeout=None)
    assert (limiter.stats().waiting, limiter.stats().used) == (0, 1)
    assert refusal(limiter).retry_after == 1.0


def test_ctrl_c_between_a_waiters_leaving_and_its_waking_the_next_leaves_nobody_waiting_for_ever(clock):
    limiter = RateLimiter(name="x", limit=1, per=10.0, clock=clock)
    limiter.acquire()
    front = Background(limiter.acquire, timeout=60.0)
    clock.wait_parked(1)
    behind = Background(limiter.acquire, timeout=None)
    clock.wait_parked(2)
    wake, calls = limiter._wake_next_locked, []

    def strike():
        if not calls:
            calls.append(1)
            raise KeyboardInterrupt
        wake()

    limiter._wake_next_locked = strike
    clock.advance(10.0)
    with pytest.raises(KeyboardInterrupt):
        front.result()
    clock.wait_parked(1)
    clock.advance(10.0)
    assert behind.result().at == clock.monotonic()


def test_a_waiter_does_not_hold_the_lock(make, clock, line):
    limiter = make()
    take(limiter, 10)
    waiting = line(limiter)
    waiting.join("a")
    assert limiter.stats().waiting == 1
    refusal(limiter)
    clock.advance(60.0)
    waiting.threads["a"].result()


def test_a_clock_that_rounds_does_not_spin(clock):
    """A wait of less than the float's step returns at once; the limiter must wait a little longer instead."""

    class Rounding(FakeClock):
        waits = 0

        def monotonic(self):
            return super().monotonic() - 1e-9 if self.waits == 1 else super().monotonic()

        def wait_for(self, condition, predicate, timeout=None):
            Rounding.waits += 1
            assert timeout >= 1e-6
            self._now += timeout
            return predicate()

    limiter = RateLimiter(name="x", limit=1, per=1.0, clock=Rounding())
    limiter.acquire()
    limiter.acquire(timeout=2.0)
    assert Rounding.waits == 2


# -- lanes ----------------------------------------------------------------------------------------------------------


def test_the_normal_lane_leaves_the_reserved_share_alone(make):
    limiter = make(reserved=0.3)
    take(limiter, 7)
    refusal(limiter)
    take(limiter, 3, lane="reserved")
    refusal(limiter, lane="reserved")


def test_the_reserved_lane_may_use_the_whole_window(make):
    limiter = make(reserved=0.3)
    take(limiter, 10, lane="reserved")
    refusal(limiter)
    refusal(limiter, lane="reserved")


def test_use_of_the_reserved_share_does_not_shrink_the_normal_one(make):
    limiter = make(reserved=0.3)
    take(limiter, 3, lane="reserved")
    take(limiter, 7)
    refusal(limiter)


@pytest.mark.parametrize(("limit", "reserved", "normal"), [(10, 0.9, 1), (300, 0.1, 270), (3, 0.5, 1), (7, 0.0, 7)])
def test_shares_are_exact_in_spite_of_binary_fractions(make, limit, reserved, normal):
    limiter = make(limit=limit, reserved=reserved)
    take(limiter, normal)
    refusal(limiter)


def test_the_reserved_lane_goes_before_normal_waiters(make, clock, line):
    limiter = make(limit=2, reserved=0.5)
    take(limiter, 2, lane="reserved")
    waiting = line(limiter)
    waiting.join("n1")
    waiting.join("r1", 2, lane="reserved")
    clock.advance(60.0)
    waiting.threads["r1"].result()
    clock.wait_parked(1)
    assert waiting.names() == ["r1"]
    clock.advance(60.0)
    waiting.threads["n1"].result()


def test_normal_callers_do_not_starve_a_heavy_reserved_waiter(make, clock, line):
    limiter = make()
    take(limiter, 5)
    waiting = line(limiter)
    waiting.join("cancel all", 6, lane="reserved")
    refusal(limiter)  # there would be room for one, but not after this one
    clock.advance(60.0)
    waiting.threads["cancel all"].result()


def test_the_reserved_lane_passes_while_normal_waiters_wait_for_their_share(make, clock, line):
    limiter = make(reserved=0.5)
    take(limiter, 5)
    waiting = line(limiter)
    waiting.join("n")
    take(limiter, 5, lane="reserved")
    assert waiting.served == []
    clock.advance(60.0)
    waiting.threads["n"].result()


# -- what the server says -------------------------------------------------------------------------------------------


def test_nobody_is_admitted_before_a_penalty_ends(make, clock):
    limiter = make()
    limiter.penalize(12.0)
    assert refusal(limiter).retry_after == 12.0
    assert refusal(limiter, lane="reserved").retry_after == 12.0
    assert limiter.stats().blocked_for == 12.0
    clock.advance(11.999)
    refusal(limiter)
    clock.advance(0.001)
    assert limiter.stats().blocked_for == 0.0
    limiter.acquire()


def test_a_shorter_penalty_does_not_end_a_longer_one(make, clock):
    limiter = make()
    limiter.penalize(30.0)
    limiter.penalize(5.0)
    limiter.penalize(0)
    assert refusal(limiter).retry_after == 30.0


def test_a_penalty_holds_those_who_wait_already(make, clock, line):
    limiter, start = make(), clock.monotonic()
    take(limiter, 10)
    waiting = line(limiter)
    waiting.join("patient", timeout=100.0)
    waiting.join("hasty", timeout=60.0)
    clock.advance(50.0)
    limiter.penalize(20.0)
    with pytest.raises(RateLimitedError):  # at once, though its time is not over
        waiting.threads["hasty"].result()
    clock.advance(10.0)
    clock.wait_parked(1)
    assert waiting.served == []
    clock.advance(10.0)
    waiting.threads["patient"].result()
    assert waiting.served == [("patient", start + 70.0)]


# -- history --------------------------------------------------------------------------------------------------------


def test_known_send_times_fill_the_window_after_a_restart(make, clock):
    limiter = make(limit=3)
    limiter.preload([70.0, 60.0, 59.0, 10.0])
    assert limiter.stats().used == 2
    limiter.acquire()
    assert refusal(limiter).retry_after == 1.0
    clock.advance(1.0)
    limiter.acquire()
    assert refusal(limiter).retry_after == 49.0


def test_a_send_time_in_the_future_counts_as_now(make):
    limiter = make(limit=1)
    limiter.preload([-3600.0])
    assert refusal(limiter).retry_after == 60.0


def test_more_history_than_the_limit_blocks_until_it_has_left(make, clock):
    limiter = make(limit=2)
    limiter.preload([0.0, 10.0, 20.0, 30.0])
    assert limiter.stats().used == 4
    assert refusal(limiter).retry_after == 50.0


def test_history_may_come_after_the_first_admissions(make, clock):
    limiter = make(limit=3)
    limiter.acquire()
    clock.advance(20.0)
    limiter.preload([50.0, 5.0])
    assert refusal(limiter).retry_after == 10.0
    clock.advance(10.0)
    limiter.acquire()
    assert refusal(limiter).retry_after == 30.0


def test_a_window_can_start_half_full(make, clock):
    limiter = make(limit=20, reserved=0.5)
    limiter.fill(0.5)
    assert limiter.stats().used == 10
    take(limiter, 5)
    assert refusal(limiter).retry_after == 60.0
    take(limiter, 5, lane="reserved")
    assert refusal(limiter, lane="reserved").retry_after == 60.0
    clock.advance(60.0)
    take(limiter, 10)


@pytest.mark.parametrize(("share", "used"), [(0, 0), (0.01, 1), (0.5, 4), (1, 7)])
def test_a_share_is_rounded_to_the_safe_side(make, share, used):
    limiter = make(limit=7)
    limiter.fill(share)
    assert limiter.stats().used == used


# -- giving back ----------------------------------------------------------------------------------------------------


def test_a_request_that_did_not_go_out_gives_its_place_back_once(make):
    limiter = make()
    tokens = take(limiter, 9)
    heavy = limiter.acquire()
    limiter.give_back(heavy)
    limiter.give_back(heavy)
    assert limiter.stats().used == 9
    limiter.acquire()
    refusal(limiter)
    for token in tokens:
        limiter.give_back(token)
    limiter.acquire(9)
    refusal(limiter)


def test_a_token_that_left_the_window_gives_nothing_back(make, clock):
    limiter = make()
    old = limiter.acquire(10)
    clock.advance(60.0)
    limiter.acquire(10)
    limiter.give_back(old)
    assert limiter.stats().used == 10
    refusal(limiter)


def test_a_place_given_back_wakes_the_first_in_line(make, clock, line):
    limiter = make(limit=1)
    token = limiter.acquire()
    waiting = line(limiter)
    waiting.join("a")
    limiter.give_back(token)
    waiting.threads["a"].result()
    assert waiting.served == [("a", clock.monotonic())]


# -- threads --------------------------------------------------------------------------------------------------------


def test_twenty_threads_at_once_are_not_twenty_requests(make):
    limiter = make(limit=5)

    def ask(_):
        try:
            limiter.acquire()
        except RateLimitedError:
            return 0
        return 1

    assert sum(together(20, ask)) == 5


def test_twenty_waiting_threads_are_spread_over_the_windows(make, clock):
    limiter = make(limit=5, per=1.0)
    through = threading.Semaphore(0)

    def ask():
        limiter.acquire(timeout=None)
        through.release()

    threads = [Background(ask) for _ in range(20)]
    for window in range(4):
        for _ in range(5):
            assert through.acquire(timeout=JOIN_TIMEOUT)
        clock.wait_parked(15 - 5 * window)
        assert not through.acquire(blocking=False)
        clock.advance(1.0)
    for thread in threads:
        thread.result()
    assert limiter.stats().waiting == 0


def test_tokens_given_back_by_many_threads_leave_the_count_exact(make):
    limiter = make(limit=1000)
    together(8, lambda i: [limiter.give_back(limiter.acquire(1 + j % 3)) for j in range(50)])
    assert limiter.stats().used == 0


# -- settings -------------------------------------------------------------------------------------------------------


def test_stats_are_a_frozen_snapshot(make):
    limiter = make(reserved=0.2)
    limiter.acquire(3)
    stats = limiter.stats()
    limiter.acquire()
    assert dataclasses.asdict(stats) == {
        "name": "orders",
        "used": 3,
        "limit": 10,
        "per": 60.0,
        "waiting": 0,
        "blocked_for": 0.0,
        "windows": ({"limit": 10, "per": 60.0, "used": 3},),
    }


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"name": ""}, "name"),
        ({"limit": 0}, "limit"),
        ({"limit": 2.5}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": math.inf}, "limit"),
        ({"per": 0}, "per"),
        ({"per": math.nan}, "per"),
        ({"reserved": -0.1}, "reserved"),
        ({"reserved": 1.0}, "reserved"),
        ({"reserved": 0.95}, "reserved"),
        ({"reserved": math.nan}, "reserved"),
    ],
)
def test_bad_settings_are_refused(make, settings, setting):
    with pytest.raises(ConfigError) as caught:
        make(**settings)
    assert caught.value.setting == setting


@pytest.mark.parametrize(
    ("call", "setting"),
    [
        (lambda x: x.acquire(0), "weight"),
        (lambda x: x.acquire(-1), "weight"),
        (lambda x: x.acquire(1.5), "weight"),
        (lambda x: x.acquire(timeout=-1), "timeout"),
        (lambda x: x.acquire(timeout=math.nan), "timeout"),
        (lambda x: x.acquire(lane="reservd"), "lane"),
        (lambda x: x.penalize(-1), "seconds"),
        (lambda x: x.penalize(math.nan), "seconds"),
        (lambda x: x.penalize(math.inf), "seconds"),
        (lambda x: x.preload([1.0, math.nan]), "ages"),
        (lambda x: x.fill(1.1), "share"),
        (lambda x: x.fill(-0.1), "share"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(make, call, setting):
    limiter = make()
    with pytest.raises(ConfigError) as caught:
        call(limiter)
    assert caught.value.setting == setting
    assert limiter.stats() == make().stats()
