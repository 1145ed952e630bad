"""HealthMonitor: what each part's figures mean, and users' checks that raise, hang or lie. No real time passes."""

import dataclasses
import gc
import json
import os
import threading
from types import SimpleNamespace

import pytest

from hireliab import HealthMonitor
from hireliab.core.bulkhead import Bulkhead
from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.core.rate_limiter import RateLimiter
from hireliab.core.retry import RetryBudget
from hireliab.errors import ClosedError, ConfigError, ConnectError, JournalError, JournalPoisonedError, PoolCreateError
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.monitoring import _health_rules as rules
from hireliab.monitoring.alert_channels import Ok
from hireliab.monitoring.alert_system import AlertSystem
from hireliab.monitoring.health import INTERVAL, MOST_REASONS, Health
from tests.support.together import Background, in_child, together, until
from tests.support.whole_bot import whole_bot

HEALTHY, DEGRADED, DOWN = Health.HEALTHY, Health.DEGRADED, Health.DOWN
SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def health(clock):
    return HealthMonitor(clock=clock)


def judged(kind, snapshot):
    """(status, reasons) by the rules alone."""
    found = list(rules.RULES[kind](snapshot))
    worst = max((status for status, _ in found), key=lambda status: status.rank, default=HEALTHY)
    return worst, [why for _, why in found]


def fail():
    raise ConnectError("refused")


# -- the table ----------------------------------------------------------------------------------------------------


def test_a_bot_at_rest_is_healthy(tmp_path, clock):
    with whole_bot(tmp_path, clock) as parts:
        assert set(parts) == set(rules.RULES)
        report = HealthMonitor(*parts.values(), clock=clock).report()
    assert (report.status, report.reasons) == (HEALTHY, ())
    assert report
    assert len(report.checks) >= len(parts)


def test_an_open_breaker_is_degraded_until_it_is_closed(clock, health):
    breaker = CircuitBreaker(name="orders", failure_threshold=1, reset_timeout=10.0, success_threshold=2, clock=clock)
    health.add(breaker)
    with pytest.raises(ConnectError):
        breaker.execute(fail)
    report = health.report()
    assert report.status is DEGRADED
    assert not report
    (reason,) = report.reasons
    assert reason.startswith("breaker orders: open after ConnectError: refused")
    clock.advance(10.0)
    breaker.execute(lambda: 1)
    assert "half-open" in health.report().reasons[0]
    breaker.isolate()
    assert "isolated" in health.report().reasons[0]
    breaker.reset()
    assert health.report().status is HEALTHY


def test_a_breaker_that_refuses_nothing_is_healthy(clock, health):
    breaker = CircuitBreaker(name="x", failure_threshold=1, mode="metrics_only", clock=clock)
    health.add(breaker)
    with pytest.raises(ConnectError):
        breaker.execute(fail)
    assert health.report()


def test_a_pool_is_down_only_without_any_client(clock, health):
    works = [True]

    def make():
        if not works[0]:
            raise OSError("no route")
        return SimpleNamespace(close=lambda: None)

    pool = ConnectionPool(
        name="venue", create_client_func=make, config={"min_connections": 1, "max_connections": 2}, clock=clock
    )
    health.add(pool)
    assert health.report()  # not started: the first call does it
    pool.initialize()
    held = pool.acquire()
    works[0] = False
    with pytest.raises(PoolCreateError):
        pool.acquire(timeout=0)
    assert (health.report().status, health.report().reasons) == (
        DEGRADED,
        ("pool venue: no new client can be made; those that are left are lent",),
    )
    held.__exit__(ConnectionError, ConnectionError(), None)
    assert health.report().status is DOWN
    pool.stop()
    assert health.report().status is DOWN
    assert "stopped" in health.report().reasons[0]


def test_a_pool_whose_callers_wait_is_degraded():
    stats = dataclasses.replace(_pool_stats(), status="running", size=10, in_use=10, waiting=3)
    assert judged("pool", stats) == (DEGRADED, ["all 10 clients are in use and callers wait"])
    assert judged("pool", dataclasses.replace(stats, waiting=0)) == (HEALTHY, [])
    assert judged("pool", dataclasses.replace(stats, size=3, in_use=3)) == (HEALTHY, [])  # more are being made


def _pool_stats():
    return ConnectionPool(name="p", create_client_func=object, config={"max_connections": 10}).stats()


def test_a_limiter_that_the_venue_paused_is_degraded(clock, health):
    limiter = RateLimiter(name="requests", limit=5, per=1.0, clock=clock)
    health.add(limiter)
    limiter.acquire(5)
    assert health.report()  # full is what a limiter is for
    limiter.penalize(30.0)
    assert health.report().status is DEGRADED
    clock.advance(30.0)
    assert health.report()


def test_a_budget_that_is_used_up_is_degraded(clock, health):
    budget = RetryBudget(target="venue", capacity=1, per_minute=0, clock=clock)
    health.add(budget)
    assert budget.take()
    assert "budget venue: used up" in health.report().reasons[0]


def test_a_full_bulkhead_is_at_its_work(health):
    bulkhead = Bulkhead(name="slow", max_concurrent=1)
    health.add(bulkhead)
    with bulkhead:
        assert health.report()


# What the pipeline's figures mean; its own words are in test_pipeline_stats.py.
FINE = {
    "journal": SimpleNamespace(poisoned=False, full=False),
    "resolver_alive": True,
    "blind": False,
    "halt": None,
    "needs_human": 0,
    "unresolved": 0,
    "oldest_unresolved": None,
    "orphans": 0,
    "outbox": None,
}


@pytest.mark.parametrize(
    ("figures", "status", "words"),
    [
        ({}, HEALTHY, None),
        ({"journal": SimpleNamespace(poisoned=True, full=False)}, DOWN, "nothing more is sent until a restart"),
        ({"journal": SimpleNamespace(poisoned=False, full=True)}, DOWN, "the disk is full"),
        ({"resolver_alive": False}, DOWN, "the resolver's thread has ended"),
        ({"blind": True}, DEGRADED, "no read of the exchange has worked"),
        ({"halt": "HALTED"}, DEGRADED, "no order is sent until 'hireliab unhalt'"),
        ({"halt": "REDUCING"}, DEGRADED, "only orders that sell are sent"),
        (
            {"needs_human": 1, "unresolved": 1, "oldest_unresolved": 9.0},
            DEGRADED,
            "only a person can decide 1 transaction:",
        ),
        ({"unresolved": 2, "oldest_unresolved": 60.0}, HEALTHY, None),
        ({"unresolved": 2, "oldest_unresolved": 60.1}, DEGRADED, "2 transactions undecided"),
        ({"orphans": 1}, DEGRADED, "have no transaction"),
        (
            {"outbox": SimpleNamespace(late=True, last_error="refused")},
            DEGRADED,
            "events are late (refused); trading goes on",
        ),
        ({"outbox": SimpleNamespace(late=False, last_error="")}, HEALTHY, None),
    ],
)
def test_what_a_pipelines_figures_mean(figures, status, words):
    found, reasons = judged("pipeline", SimpleNamespace(**{**FINE, **figures}))
    assert found is status
    assert (words is None) == (reasons == [])
    assert words is None or words in reasons[0]


def test_a_pipeline_that_does_not_run_says_so_and_is_not_started(tmp_path, clock):
    with whole_bot(tmp_path, clock) as parts:
        pipeline = parts["pipeline"]
        health = HealthMonitor(pipeline, clock=clock)
        assert health.report()
        pipeline.stop()
        assert (health.report().status, pipeline.state) == (DOWN, "stopped")
        assert health.report().reasons == ("pipeline default: stopped: no order is sent",)
    assert rules.of_error(_not_running("new"))[0] is DEGRADED
    assert rules.of_error(_not_running("starting"))[0] is DEGRADED
    assert rules.of_error(_not_running("stopping"))[0] is DOWN


def _not_running(state):
    from hireliab.monitoring._parts import NotRunningError

    error = NotRunningError(state)
    error.state = state
    return error


def test_a_poisoned_journal_is_down(tmp_path, clock, monkeypatch):
    from hireliab.core._sqlite import SQLiteFile

    with whole_bot(tmp_path, clock) as parts:
        health = HealthMonitor(parts["journal"], clock=clock)
        monkeypatch.setattr(SQLiteFile, "poisoned", property(lambda _: True))
        assert (health.report().status, len(health.report().reasons)) == (DOWN, 1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"connected": False, "last_error": "refused"}, "not connected (refused): events wait; trading goes on"),
        ({"blocked": True}, "the broker takes nothing for now"),
        ({"state": "stopped"}, "stopped: events are lost"),
        ({"state": "stopped", "durable": True}, "stopped: events wait"),
    ],
)
def test_a_broker_that_is_down_is_degraded_and_never_down(more, words):
    with InMemoryMessageBus(name="m") as bus:
        status = bus.status()
    found, reasons = judged("bus", dataclasses.replace(status, **{"state": "running", **more}))
    assert (found, len(reasons)) == (DEGRADED, 1)
    assert words in reasons[0]


def test_a_subscription_that_is_not_fed_is_told():
    with InMemoryMessageBus(name="m") as bus:
        bus.subscribe("a", print)
        bus.subscribe("b", print)
        status = bus.status()
    first, second = status.subscriptions
    status = dataclasses.replace(
        status, subscriptions=(first, dataclasses.replace(second, ready=False)), state="running"
    )
    assert judged("bus", status) == (DEGRADED, ["1 of 2 subscriptions are not fed, such as b"])
    # That nothing is connected says it already.
    assert len(judged("bus", dataclasses.replace(status, connected=False))[1]) == 1


def test_a_bus_and_alerts_that_cannot_be_asked_are_never_worse_than_degraded(health):
    class Broken:
        def subscribe(self):
            pass

        def send_alert(self):
            pass

        def status(self):
            raise ClosedError("belongs to process 1")

    bus = Broken()
    health.add(bus)
    assert (health.report().status, health.report().reasons) == (
        DEGRADED,
        ("bus bus: cannot be asked: belongs to process 1",),
    )


def test_alerts_that_reach_nobody_are_degraded(health):
    alerts = AlertSystem({"channels": {"told": lambda _: Ok()}, "spool": False})
    health.add(alerts)
    assert health.report().reasons == ("alerts main: not started: alerts wait",)
    alerts.start()
    assert health.report()
    alerts.stop()
    assert health.report().reasons == ("alerts main: stopped: nobody is told of anything",)


def test_alert_systems_are_told_apart_by_their_setting_name(health):
    systems = [AlertSystem({"name": name, "spool": False}) for name in ("grid", "hedge", "grid")]
    health.add(*systems)
    assert health.report().reasons == tuple(
        f"alerts {name}: not started: alerts wait" for name in ("grid", "hedge", "grid#2")
    )


def test_a_channel_and_a_spool_in_trouble_are_told():
    alerts = AlertSystem({"channels": {"told": lambda _: Ok()}, "spool": False})
    status = alerts.status()
    (channel,) = status.channels.values()
    for state in ("degraded", "paused", "misconfigured", "down", "stuck"):
        channels = {"told": dataclasses.replace(channel, state=state, last_error="refused")}
        found = judged("alerts", dataclasses.replace(status, state="running", channels=channels))
        assert found == (DEGRADED, [f"channel 'told' is {state} (refused)"])
    spool = SimpleNamespace(state="broken", last_error="disk")
    found = judged("alerts", SimpleNamespace(state="running", channels=status.channels, spool=spool))
    assert found == (DEGRADED, ["the spool is broken (disk): a crash loses unsent alerts"])
    assert "no channel is on" in judged("alerts", SimpleNamespace(state="running", channels={}, spool=None))[1][0]


# -- parts --------------------------------------------------------------------------------------------------------


def test_a_part_that_no_order_depends_on_is_never_down(health, clock):
    pool = ConnectionPool(name="news", create_client_func=object, clock=clock)
    pool.stop()
    health.add(pool, critical=False)
    assert health.report().status is DEGRADED

    class Adapter:
        parts = (pool,)

    adapter = Adapter()
    health.add(adapter)
    assert health.report().status is DOWN  # orders depend on it in another way
    health.discard(adapter)
    assert health.report().status is DEGRADED
    health.add(pool)
    assert health.report().status is DOWN


def test_a_part_that_the_bot_forgets_is_not_looked_after(health, clock):
    breaker = CircuitBreaker(name="x", clock=clock)
    breaker.isolate()
    health.add(breaker)
    assert health.report().status is DEGRADED
    assert health.discard(breaker)
    assert health.report()
    health.add(breaker)
    del breaker
    gc.collect()
    assert health.report().checks == ()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (JournalPoisonedError("journal x: failed"), DOWN),
        (JournalError("x"), DOWN),
        (ClosedError("x"), DOWN),
        (OSError("disk"), DEGRADED),
    ],
)
def test_a_part_that_raises_is_told(health, error, status):
    class Odd:
        preload = None
        name = "odd"

        def stats(self):
            raise error

    odd = Odd()
    health.add(odd)
    report = health.report()
    assert report.status is status
    assert report.reasons[0].startswith("limiter odd: cannot be asked: ")


@pytest.mark.parametrize("wish", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_and_what_a_handler_of_sigterm_raises_are_not_swallowed(health, wish):
    class Struck:
        preload = None

        def stats(self):
            return self

        @property
        def blocked_for(self):
            raise wish

    struck = Struck()
    health.add(struck)
    with pytest.raises(wish):
        health.report()


def test_figures_of_another_shape_are_told(health):
    class Odd:
        preload = None

        def stats(self):
            return object()

    odd = Odd()
    health.add(odd)
    assert "tells what is not understood: AttributeError" in health.report().reasons[0]


def test_the_worst_is_told_first(clock, health):
    breaker = CircuitBreaker(name="x", clock=clock)
    breaker.isolate()
    pool = ConnectionPool(name="p", create_client_func=object, clock=clock)
    pool.stop()
    health.add(breaker, pool)
    report = health.report()
    assert report.status is DOWN
    assert [reason.split(":")[0] for reason in report.reasons] == ["pool p", "breaker x"]


# -- users' checks ------------------------------------------------------------------------------------------------


class Rude(Exception):
    def __str__(self):
        raise ValueError


def raising(error):
    def check():
        raise error

    return check


@pytest.mark.parametrize(
    ("func", "words"),
    [
        (lambda: True, None),
        (lambda: None, None),
        (lambda: "", None),
        (lambda: False, "says no"),
        (lambda: "93 % full", "93 % full"),
        (lambda: 0, "returned int; a check returns True, None, False or a text"),
        (lambda: 1, "returned int; a check returns True, None, False or a text"),
        (object, "returned object; a check returns True, None, False or a text"),
        (raising(OSError("gone")), "raised OSError: gone"),
        (raising(SystemExit(3)), "raised SystemExit: 3"),
        (raising(KeyboardInterrupt()), "raised KeyboardInterrupt: "),
        (raising(Rude()), "raised Rude"),
        (lambda: f"token={SECRET}\nsecond line", "token=*** second line"),
    ],
)
@pytest.mark.parametrize("critical", [False, True])
def test_what_a_check_says(health, func, words, critical):
    health.check("disk", func, critical=critical)
    report = health.report()
    if words is None:
        assert report
        assert [check.name for check in report.checks] == ["check disk"]
    else:
        assert report.status is (DOWN if critical else DEGRADED)
        assert report.reasons == (f"check disk: {words.strip()}",)


def test_the_same_name_replaces_a_check(health):
    health.check("disk", lambda: False)
    health.check("disk", lambda: True)
    assert health.report()
    assert len(health.report().checks) == 1


async def coroutine():
    pass


def generator():
    yield


@pytest.mark.parametrize(
    "settings",
    [
        {"func": coroutine}, {"func": generator}, {"func": None}, {"name": ""}, {"name": "a\nb"}, {"timeout": 0},
        {"timeout": 61}, {"timeout": None}, {"critical": "no"},
    ],
)  # fmt: skip
def test_a_check_that_cannot_be_one_is_refused(health, settings):
    with pytest.raises(ConfigError):
        health.check(**{"name": "x", "func": lambda: None, **settings})


class Hang:
    """A check that does not come back until it is let go."""

    def __init__(self):
        self.go = threading.Event()
        self.runs = 0

    def __call__(self):
        self.runs += 1
        assert self.go.wait(30)
        return True


def reported(clock, health, seconds):
    """A report that waits, while a thread lets the time pass."""
    background = Background(health.report)
    clock.wait_parked(1)
    clock.advance(seconds)
    return background.result()


def test_a_check_that_hangs_costs_its_timeout_once(clock, health):
    hang = Hang()
    health.check("dns", hang, timeout=2.0)
    health.check("fine", lambda: True)
    report = reported(clock, health, 2.0)
    assert (report.status, report.reasons) == (DEGRADED, ("check dns: has not answered within 2 s",))
    for _ in range(5):
        assert health.report().reasons == report.reasons  # without waiting
    until(lambda: hang.runs == 1)
    hang.go.set()
    until(health.report)
    assert health.report()
    assert hang.runs >= 2  # it runs again, now that it comes back


def test_checks_that_hang_are_waited_for_at_the_same_time(clock, health):
    hang = Hang()
    for n in range(5):
        health.check(f"dns {n}", hang, timeout=1.0)
    assert len(reported(clock, health, 1.0).reasons) == 5
    hang.go.set()
    until(health.report)


def test_parts_are_asked_although_a_check_hangs(clock, health):
    hang = Hang()
    health.check("dns", hang)
    breaker = CircuitBreaker(name="x", clock=clock)
    breaker.isolate()
    health.add(breaker)
    assert len(reported(clock, health, 1.0).reasons) == 2
    hang.go.set()
    until(lambda: len(health.report().reasons) == 1)


def test_a_check_that_is_late_and_then_replaced_is_forgotten(clock, health):
    hang = Hang()
    health.check("dns", hang)
    reported(clock, health, 1.0)
    health.check("dns", lambda: True)
    assert health.report()
    hang.go.set()
    until(lambda: not [t for t in threading.enumerate() if t.name == "hireliab.health.dns"])
    assert health.report()


def test_many_reports_at_once_run_a_check_once(clock, health):
    hang = Hang()
    health.check("dns", hang, timeout=5.0)
    background = Background(lambda: together(4, lambda _: health.report().status))
    clock.wait_parked(4)
    hang.go.set()
    assert background.result() == [HEALTHY] * 4
    assert hang.runs == 1


def test_no_thread_can_be_started(health, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    health.check("dns", lambda: True)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert health.report().reasons == ("check dns: cannot be run: can't start new thread",)


@pytest.mark.parametrize("began", [False, True])
def test_ctrl_c_while_a_check_is_started_leaves_it_to_the_next_report(clock, health, monkeypatch, began):
    hang = Hang()
    health.check("dns", hang)
    start = threading.Thread.start

    def interrupted(thread):
        if began:
            start(thread)
            until(lambda: hang.runs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            health.report()
    background = Background(health.report)
    clock.wait_parked(1)  # it waits for the run that began, or for one of its own
    hang.go.set()
    assert background.result()
    assert hang.runs == 1


# -- for status.json ----------------------------------------------------------------------------------------------


def test_what_a_pipeline_is_given_never_waits_and_runs_a_check_every_ten_seconds(clock, health):
    runs = []
    answers = [True, "full"]
    health.check("disk", lambda: runs.append(1) or answers[min(len(runs), 2) - 1])
    first = health()["health"]
    assert first == {
        "status": "degraded",
        "reasons": ["check disk: has not answered yet"],
        "checks": {"check disk": "degraded"},
    } or (first["status"] == "healthy")
    until(lambda: health()["health"]["status"] == "healthy")
    assert len(runs) == 1
    clock.advance(INTERVAL - 0.1)
    assert health()["health"]["status"] == "healthy"
    assert len(runs) == 1
    clock.advance(0.1)
    until(lambda: health()["health"]["reasons"] == ["check disk: full"])
    assert len(runs) == 2


def test_what_a_pipeline_is_given_does_not_wait_for_one_that_hangs(clock, health):
    hang = Hang()
    health.check("dns", hang, timeout=1.0)
    assert health()["health"]["reasons"] == ["check dns: has not answered yet"]
    clock.advance(1.0)
    assert health()["health"]["reasons"] == ["check dns: has not answered within 1 s"]
    clock.advance(100.0)
    health()
    until(lambda: hang.runs == 1)
    hang.go.set()
    until(lambda: health()["health"]["status"] == "healthy")


def test_the_mapping_is_json_and_bounded(clock, health):
    breakers = [CircuitBreaker(name=f"b{n}", clock=clock) for n in range(MOST_REASONS + 5)]
    for breaker in breakers:
        breaker.isolate()
    health.add(*breakers)
    said = json.loads(json.dumps(health()))["health"]
    assert len(said["reasons"]) == MOST_REASONS + 1
    assert said["reasons"][-1] == "and 5 more"
    assert len(said["checks"]) == MOST_REASONS + 5


# -- forks --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_runs_the_checks_that_hang_in_its_parent(clock, health):
    hang = Hang()
    health.check("dns", hang)
    reported(clock, health, 1.0)

    def child():
        hang.go = threading.Event()  # the parent's may have been inside
        hang.go.set()
        hang.runs = 0
        return health.report().status is HEALTHY and hang.runs == 1

    in_child(child)
    hang.go.set()
    until(health.report)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_lock_of_its_own(health):
    health.check("x", lambda: True)
    inside, go = threading.Event(), threading.Event()

    def hold():
        with health._changed:
            inside.set()
            go.wait(30)

    holder = Background(hold)
    inside.wait(30)
    in_child(lambda: Background(health.report).result().status is HEALTHY)
    go.set()
    holder.result()
