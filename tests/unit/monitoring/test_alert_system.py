import gc
import itertools
import logging
import os
import sys
import threading
import weakref

import pytest

from hireliab.errors import ClosedError, ConfigError
from hireliab.monitoring import _freeze, alert, alert_system
from hireliab.monitoring.alert import make_alert
from hireliab.monitoring.alert_system import AlertConfig, AlertLevel, AlertReceipt, AlertSource, AlertSystem
from hireliab.testing import FakeClock
from tests.support.together import Background, until

CAP = 10.0  # real seconds after which a hang is a failure
SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("hireliab."):
            thread.join(CAP)
            assert not thread.is_alive(), thread.name


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    systems = []

    def make(thresholds=None, size=1000, **channels):
        config = {"channels": channels, "level_thresholds": thresholds or {}, "queue_size": size}
        config |= {"spool": False, "group_wait": 0}
        system = AlertSystem(config, clock=clock)
        systems.append(system)
        return system

    yield make
    for system in systems:
        system.stop(0.0)


class Held:
    """A channel that holds each alert until it is let go."""

    def __init__(self):
        self.alerts = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, alert):
        self.alerts.append(alert)
        self.entered.release()
        assert self.go.acquire(timeout=CAP)

    def wait_entered(self):
        assert self.entered.acquire(timeout=CAP)

    @property
    def titles(self):
        return [alert.title for alert in self.alerts]


_titles = itertools.count()


def send(system, title=None, level="error", **more):
    title = f"t{next(_titles)}" if title is None else title
    return system.send_alert(source="system", level=level, title=title, message="m", **more)


def channel(system, name="mine"):
    status = system.status().channels[name]
    waiting = status.queued + status.held + status.in_flight + status.spooled
    assert status.accepted == waiting + status.delivered + status.failed + status.dropped + status.deduplicated
    return status


def stuck(system, held, title="held"):
    """Let the only thread of `held` take one alert and hold it."""
    system.start()
    send(system, title, level="critical")
    held.wait_entered()


# -- the readme's example and the configuration -------------------------------------------------------------------


def test_the_original_example_prints_one_line(clock, capsys):
    alerts = AlertSystem(
        {
            "channels": {"console": True, "email": False, "telegram": False},
            "level_thresholds": {"console": "info"},
        },
        clock=clock,
    )
    alerts.start()
    receipt = alerts.send_alert(
        source=AlertSource.EXCHANGE,
        level=AlertLevel.WARNING,
        title="API Rate Limit Approaching",
        message="Exchange API rate limit is at 80% capacity",
        context={"exchange": "nobitex", "rate_limit": 80},
    )
    alerts.stop()
    assert receipt == AlertReceipt(id=receipt.id, accepted=True, channels=("console",), reason="queued")
    (line,) = capsys.readouterr().err.splitlines()
    assert "WARNING  exchange: API Rate Limit Approaching | Exchange API rate limit is at 80% capacity" in line
    assert f"exchange=nobitex rate_limit=80 [{receipt.id}]" in line


def test_config_is_taken_by_name_by_place_as_an_object_and_not_at_all(clock):
    for system in (
        AlertSystem(clock=clock),
        AlertSystem(config={"channels": {"console": True}}, clock=clock),
        AlertSystem(AlertConfig(), clock=clock),
        AlertSystem({"channels": {"console": True, "email": False, "telegram": False}}, clock=clock),
    ):
        assert list(system.status().channels) == ["console"]
        assert system.status().channels["console"].threshold is AlertLevel.INFO


async def _coroutine(alert):
    pass


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"channels": {"email": True}}, "'email' is True, but HIRELIAB_EMAIL_URL is not set"),
        ({"channels": {"telegram": True}}, "'telegram' is True, but HIRELIAB_TELEGRAM_URL is not set"),
        ({"channels": {"consol": True}}, "did you mean 'console'"),
        ({"channels": {"emial": False}}, "did you mean 'email'"),
        ({"channels": {"mine": None}}, "'mine' must be True, False, a callable or a mapping"),
        ({"channels": {"email": "x"}}, "'email' must be True, False, a callable or a mapping"),
        ({"channels": {"mine": _coroutine}}, "coroutine function"),
        ({"channels": {"": print}}, "channels must be a printable text"),
        ({"channels": ["console"]}, "channels must be a mapping"),
        ({"level_thresholds": ["console"]}, "level_thresholds must be a mapping"),
        ({"level_thresholds": {"consle": "info"}}, "did you mean 'console'"),
        ({"level_thresholds": {"console": "warn"}}, "did you mean 'warning'"),
        ({"level_thresholds": {"console": 20}}, "must be one of debug, info"),
        ({"queue_size": 0}, "queue_size"),
        ({"chanels": {}}, "did you mean 'channels'"),
        ([], "must be a mapping"),
    ],
)
def test_a_wrong_setting_is_named(config, words):
    with pytest.raises(ConfigError, match="alert system: ") as caught:
        AlertSystem(config)
    assert words in str(caught.value)


def test_a_threshold_may_be_a_level_or_a_name_in_any_case_and_for_a_channel_that_is_off(make):
    system = make({"mine": "Error", "other": AlertLevel.DEBUG, "telegram": "critical"}, mine=print, other=print)
    assert system.status().channels["mine"].threshold is AlertLevel.ERROR
    assert system.status().channels["other"].threshold is AlertLevel.DEBUG


def test_the_door_has_the_promised_names():
    assert {"AlertLevel", "AlertSource", "AlertSystem"} <= set(alert_system.__all__)


# -- sending ------------------------------------------------------------------------------------------------------


def test_each_channel_gets_the_levels_that_it_wants(make, clock):
    low, high = [], []
    with make({"low": "debug", "high": "critical"}, low=low.append, high=high.append) as system:
        receipt = send(system, level="error")
        assert receipt.channels == ("low",)
        assert send(system, level="critical").channels == ("low", "high")
        clock.wait_parked(3)
    assert sorted(a.level.name for a in low) == ["CRITICAL", "ERROR"]
    assert [a.level.name for a in high] == ["CRITICAL"]
    assert channel(system, "high").below_threshold == 1


def test_an_alert_that_no_channel_wants_says_so(make):
    system = make({"mine": "error"}, mine=print)
    receipt = send(system, level="info")
    assert (receipt.accepted, receipt.reason, receipt.channels) == (False, "below_threshold", ())
    assert send(make(console=False)).reason == "below_threshold"


def test_channels_run_on_named_daemon_threads_never_on_the_caller(make, clock):
    threads = []
    with make(mine=lambda a: threads.append(threading.current_thread())) as system:
        send(system)
        clock.wait_parked(2)
    (thread,) = threads
    assert thread is not threading.current_thread()
    assert thread.name == "hireliab.alerts.mine"
    assert thread.daemon


def test_alerts_before_start_wait_for_it(make, clock):
    got = []
    system = make(mine=got.append)
    receipt = send(system)
    assert (receipt.accepted, receipt.reason, receipt.channels) == (True, "not_started", ("mine",))
    assert system.status().state == "not_started"
    assert channel(system).state == "not_started"
    system.start()
    system.start()
    clock.wait_parked(2)
    assert [a.id for a in got] == [receipt.id]
    assert (system.status().state, channel(system).state) == ("running", "ready")


def test_alerts_after_stop_are_counted_and_the_receipt_says_so(make):
    got = []
    system = make(mine=got.append)
    system.start()
    system.stop()
    receipt = send(system, level="critical")
    assert (receipt.accepted, receipt.reason) == (False, "stopped")
    assert (channel(system).refused, channel(system).accepted, channel(system).state) == (1, 0, "stopped")
    assert got == []
    with pytest.raises(ClosedError):
        system.start()


def test_the_most_important_alert_goes_first_and_equals_keep_their_order(make, clock):
    got = []
    system = make({"mine": "debug"}, mine=got.append)
    for number, level in enumerate(["info", "critical", "debug", "error", "info", "critical"]):
        send(system, f"{level} {number}", level=level)
    system.start()
    clock.wait_parked(2)
    assert [a.title for a in got] == ["critical 1", "critical 5", "error 3", "info 0", "info 4", "debug 2"]


def test_the_context_is_copied_at_the_call(make):
    got = []
    system = make(mine=got.append)
    context = {"orders": [1]}
    send(system, context=context)
    context["orders"].append(2)
    context["late"] = True
    system.start()
    system.stop()
    assert got[0].to_dict()["context"] == {"orders": [1]}


def test_what_is_wrong_with_a_call_is_noted_and_delivered(make):
    got = []
    with make(mine=got.append) as system:
        receipt = system.send_alert(source=7, level="urgent", title=None, message=ValueError("why"), context=["x"])
    assert receipt.accepted
    (alert,) = got
    assert (alert.level, alert.source, alert.message) == (AlertLevel.ERROR, AlertSource.SYSTEM, "ValueError: why")
    assert len(alert.notes) == 3


class Hostile:
    def _fail(self, *args):
        raise AssertionError("user code was run")

    __repr__ = __str__ = __hash__ = __eq__ = __iter__ = __len__ = __getattr__ = __bool__ = _fail  # type: ignore[assignment]


def test_nothing_that_is_passed_makes_it_raise_or_runs_code_of_the_users(make):
    system = make(mine=print)
    for bad in (Hostile(), None, b"\xff", float("nan"), "\ud800", [[[[[[]]]]]], {"x": Hostile()}, object):
        receipt = system.send_alert(bad, bad, bad, bad, bad, bad)
        assert receipt.reason == "not_started"


def test_even_an_error_of_our_own_does_not_reach_the_caller(make, monkeypatch):
    def broken(**given):
        raise RuntimeError("a bug")

    monkeypatch.setattr(alert_system, "make_alert", broken)
    monkeypatch.setattr(alert_system, "rescue_alert", broken)
    receipt = send(make(mine=print))
    assert (receipt.accepted, receipt.reason) == (False, "error")


@pytest.mark.parametrize("wish", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", [(alert_system, "make_alert"), (_freeze, "_plain"), (alert, "_source")])
def test_ctrl_c_and_what_a_handler_of_sigterm_raises_are_not_swallowed(make, monkeypatch, wish, where):
    def interrupted(*args, **given):
        raise wish

    system = make(mine=print)
    if where[0] is alert:  # a bug first, and then the signal while the alert is rescued
        monkeypatch.setattr(alert_system, "make_alert", None)
    monkeypatch.setattr(*where, interrupted)
    with pytest.raises(wish):
        send(system, context={"a": 1})


def test_secrets_are_masked_everywhere(make, clock, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    got = []

    def leak(alert):
        raise ValueError(f"POST https://api.telegram.org/bot123456789:{'A' * 35}/send token={SECRET}")

    with make(mine=got.append, console=True, leak=leak) as system:
        receipt = send(system, f"t {SECRET}", context={"api_secret": "s3cr3t", "a": SECRET}, dedup_key=SECRET)
        clock.wait_parked(4)
        seen = f"{system.status()}{got}{caplog.text}{capsys.readouterr().err}{receipt}"
        assert channel(system, "leak").retries == 1
    assert "ValueError" in seen
    for secret in (SECRET, "s3cr3t", "A" * 35):
        assert secret not in seen


@pytest.mark.parametrize("level", ["info", "critical"])
@pytest.mark.parametrize("moment", ["offer", "push"])
def test_a_finaliser_may_send_while_the_same_thread_is_sending(make, clock, level, moment):
    got = []
    system = make(mine=got.append)
    desk = system._crew.workers[0]._desk
    inner = getattr(desk, moment)
    nested = []

    def interrupted(*args, **given):  # runs with the channel's lock held, as a signal handler may
        if not nested:
            nested.append(None)
            nested[0] = send(system, "nested", level=level)
        return inner(*args, **given)

    setattr(desk, moment, interrupted)
    assert send(system, "outer").accepted
    assert nested[0].accepted
    assert nested[0].channels == ("mine",)
    system.start()
    system.stop()
    assert sorted(alert.title for alert in got) == ["nested", "outer"]
    assert channel(system).delivered == 2


@pytest.mark.parametrize("moment", ["offer", "push"])
def test_a_channel_that_its_own_thread_enters_twice_changes_nothing_in_between(make, moment):
    got, during = [], []
    system = make(mine=got.append)
    (worker,) = system._crew.workers
    desk = worker._desk
    inner, once = getattr(desk, moment), [None]

    def interrupted(*args, **given):
        if once:
            once.pop()
            before = dict(desk.count), len(desk.queue)
            worker.put(make_alert(id="i", time=0.0, source="system", level="critical", title="second", message="m"))
            during.append((dict(desk.count), len(desk.queue)) == before)
        return inner(*args, **given)

    setattr(desk, moment, interrupted)
    assert send(system, "outer").accepted
    assert during == [True]
    system.start()
    system.stop()
    assert sorted(one.title for one in got) == ["outer", "second"]


def meeting(first, second, act):
    """
    Have `act` interrupt two threads at once, each as it holds a lock: once in `first`, and once in `second`.

    Both are pairs of an object and the name of a method that is called with the lock held.
    """
    barrier, did = threading.Barrier(2, timeout=CAP), []

    def interrupt(where, number):
        place, name = where
        inner, once = getattr(place, name), [None]

        def interrupted(*args, **given):
            if once:
                once.pop()
                barrier.wait()
                did.append((number, act(number)))
            return inner(*args, **given)

        setattr(place, name, interrupted)

    interrupt(first, 1)
    interrupt(second, 2)
    return did


@pytest.mark.parametrize("level", ["info", "critical"])
def test_two_threads_that_finalisers_interrupt_in_two_channels_do_not_wait_for_each_other(make, level):
    one, two = [], []
    system = make(one=one.append, two=two.append)
    first, second = (worker._desk for worker in system._crew.workers)
    did = meeting((first, "offer"), (second, "next"), lambda n: send(system, f"nested {n}", level=level))
    system.start()
    assert Background(send, system, "outer").result().accepted
    until(lambda: len(did) == 2)
    assert all(receipt.accepted and receipt.channels == ("one", "two") for _, receipt in did)
    system.stop()
    for got in (one, two):
        assert sorted(alert.title for alert in got) == ["nested 1", "nested 2", "outer"]


def test_what_was_put_off_before_the_start_is_counted_by_a_stop(make):
    system = make(mine=print)
    desk = system._crew.workers[0]._desk
    inner, once = desk.offer, [None]

    def interrupted(*args, **given):
        if once:
            once.pop()
            assert send(system, "nested").accepted
        return inner(*args, **given)

    desk.offer = interrupted
    send(system, "outer")
    assert desk.count["accepted"] == 1
    system.stop()
    assert channel(system).accepted == 2
    assert send(system, "late").reason == "stopped"


def test_two_threads_may_resolve_while_each_is_inside_another_channel(make):
    one, two = [], []
    system = make(one=one.append, two=two.append)
    send(system, "trouble", dedup_key="k")
    first, second = (worker._desk for worker in system._crew.workers)
    did = meeting((first, "offer"), (second, "next"), lambda n: system.resolve("k"))
    system.start()
    assert Background(send, system, "outer").result().accepted
    until(lambda: len(did) == 2)
    assert [known for _, known in did] == [True, True]
    system.stop()
    for got in (one, two):
        assert [alert.resolved for alert in got if alert.dedup_key == "k"] == [False, True]


# -- full queues --------------------------------------------------------------------------------------------------


def test_a_full_queue_drops_the_oldest_of_the_lowest_level(make):
    held = Held()
    system = make({"mine": "debug"}, size=3, mine=held)
    stuck(system, held)
    for title, level in (("w", "warning"), ("i1", "info"), ("i2", "info"), ("e", "error"), ("i3", "info")):
        assert send(system, title, level=level).accepted
    assert (channel(system).dropped, channel(system).queued) == (2, 3)
    held.go.release(10)
    system.stop(None)
    assert [t for t in held.titles if t in ("w", "i1", "i2", "e", "i3")] == ["e", "w", "i3"]


def test_an_alert_that_matters_less_than_all_that_wait_is_refused(make):
    held = Held()
    system = make(size=2, mine=held)
    stuck(system, held)
    send(system, level="error")
    send(system, level="warning")
    receipt = send(system, level="info")
    assert (receipt.accepted, receipt.reason) == (False, "dropped")
    assert channel(system).dropped == 1
    held.go.release(10)


def test_a_critical_alert_is_never_evicted(make):
    held = Held()
    system = make(size=2, mine=held)
    stuck(system, held)
    assert send(system, "first", level="critical").accepted
    assert send(system, "second", level="critical").accepted
    for level in ("error", "critical", "info"):
        assert send(system, level=level).reason == "dropped"
    held.go.release(10)
    system.stop(None)
    assert held.titles[0] == "held"
    assert [t for t in held.titles if t in ("first", "second")] == ["first", "second"]


def test_drops_are_reported_to_the_channel_when_it_works_again(make, clock, caplog):
    held = Held()
    system = make(size=1, mine=held)
    stuck(system, held)
    for level in ("info", "info", "error", "info"):
        send(system, level=level)
    held.go.release(10)
    clock.wait_parked(2)
    (report,) = [a for a in held.alerts if "dropped" in a.title]
    assert report.title == "3 alerts dropped"
    assert "3 INFO" in report.message
    assert (report.level, report.source) == (AlertLevel.WARNING, AlertSource.SYSTEM)
    assert "3 alerts dropped" in caplog.text


def test_drops_are_reported_once_a_minute_and_at_stop(make, clock):
    held = Held()
    system = make(size=1, mine=held)
    stuck(system, held)

    def drop():
        send(system, level="info")
        send(system, level="info")

    def reports():
        return [a.title for a in held.alerts if "dropped" in a.title]

    def hold_again(title):
        held.go = threading.Semaphore(0)
        held.entered = threading.Semaphore(0)
        stuck(system, held, title)

    drop()
    held.go.release(100)
    clock.wait_parked(2)
    assert len(reports()) == 1
    hold_again("second")
    drop()
    drop()
    held.go.release(100)
    clock.wait_parked(2)
    clock.advance(59.9)
    clock.wait_parked(2)
    assert len(reports()) == 1  # the second report is due 60 s after the first
    clock.advance(0.2)
    clock.wait_parked(2)
    assert reports()[1:] == ["3 alerts dropped"]
    hold_again("third")
    drop()
    held.go.release(100)
    system.stop(None)
    assert reports()[2:] == ["1 alerts dropped"]


def test_a_report_that_fails_is_told_later(make, clock):
    held = Held()
    fail = [True]

    def flaky(alert):
        held(alert)
        if "dropped" in alert.title and fail:
            raise OSError(fail.pop())

    system = make(size=1, mine=flaky)
    stuck(system, held)
    send(system, level="info")
    send(system, level="info")
    held.go.release(100)
    clock.wait_parked(2)
    assert fail == []
    clock.advance(59.9)
    clock.wait_parked(2)
    assert "dropped" not in held.titles[-1] or len(held.titles) == 3
    before = len(held.titles)
    clock.advance(0.2)
    clock.wait_parked(2)
    assert held.titles[before:] == ["1 alerts dropped"]


def test_a_last_report_that_fails_does_not_keep_the_thread(make):
    held = Held()

    def dead(alert):
        held(alert)
        raise OSError

    system = make(size=1, mine=dead)
    stuck(system, held)
    send(system, level="info")
    send(system, level="info")
    held.go.release(100)
    system.stop(None)
    assert channel(system).state == "stopped"


def test_the_other_channels_are_told_at_once_and_once_a_minute(make, clock):
    held, other = Held(), []
    system = make({"other": "error"}, size=1, mine=held, other=other.append)
    system.start()
    send(system, "held", level="critical")
    held.wait_entered()
    clock.wait_parked(2)  # the other channel has sent its copy: its own short queue is empty
    for _ in range(5):
        send(system, level="info")
    clock.wait_parked(2)
    told = [a for a in other if a.title != "held"]
    assert [a.title for a in told] == ["alert channel 'mine' drops alerts"]
    assert told[0].level is AlertLevel.ERROR
    clock.advance(60.0)
    send(system, level="info")
    clock.wait_parked(2)
    assert len(other) == 3
    held.go.release(100)


# -- broken channels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, MemoryError])
def test_a_channel_that_raises_is_logged_counted_and_goes_on(make, clock, caplog, error):
    got, good = [], []

    def bad(alert):
        got.append(alert)
        if len(got) == 1:
            raise error("why")

    with make(mine=bad, good=good.append) as system:
        receipt = send(system, "first")
        clock.wait_parked(3)
        assert channel(system).state == "degraded"
        assert channel(system).last_error == f"{error.__name__}: why"
        send(system, "second")
        clock.wait_parked(3)
        assert channel(system).state == "ready"
        assert (channel(system).retries, channel(system).delivered, channel(system).queued) == (1, 1, 1)
        clock.advance(1.0)
        clock.wait_parked(3)
    assert len(good) == 2
    assert [alert.title for alert in got] == ["first", "second", "first"]
    assert got[0].id == got[2].id
    (record,) = caplog.records
    assert receipt.id in record.getMessage()
    assert "Traceback" in record.getMessage()


def test_a_dead_channel_logs_one_line_an_alert_and_one_traceback_an_outage(make, clock, caplog):
    def dead(alert):
        raise OSError("gone")

    with make(mine=dead) as system:
        for _ in range(3):
            send(system)
        clock.wait_parked(2)
    messages = [record.getMessage() for record in caplog.records]
    assert ["Traceback" in message for message in messages] == [True, False, False]
    assert all("OSError: gone" in message for message in messages)


def test_an_error_that_cannot_be_printed_ends_nothing(make, clock):
    class Awful(Exception):
        def __str__(self):
            raise RuntimeError("not even its text")

    def bad(alert):
        raise Awful

    with make(mine=bad) as system:
        send(system)
        send(system)
        clock.wait_parked(2)
        assert channel(system).retries == 2
        assert channel(system).last_error == "Awful"


def test_a_broken_log_handler_ends_nothing(make, clock):
    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("disk full")

    def bad(alert):
        raise ValueError

    broken = Broken()
    logging.getLogger("hireliab.alerts").addHandler(broken)
    try:
        with make(mine=bad) as system:
            send(system)
            send(system)
            clock.wait_parked(2)
            assert channel(system).retries == 2
    finally:
        logging.getLogger("hireliab.alerts").removeHandler(broken)


def test_a_stuck_channel_delays_no_other_and_is_seen(make, clock):
    held, good = Held(), []
    system = make(mine=held, good=good.append)
    stuck(system, held)
    for _ in range(10):
        send(system)
    clock.wait_parked(2)
    assert len(good) == 11
    assert channel(system).state == "ready"
    clock.advance(30.5)
    assert channel(system).state == "stuck"
    assert channel(system).busy_for == 30.5
    assert (channel(system).in_flight, channel(system).queued) == (1, 10)
    held.go.release(100)


def test_a_broken_console_is_counted_and_kills_nothing(make, clock, monkeypatch):
    class Broken:
        encoding = "utf-8"

        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise AssertionError

    with make(console=True) as system:
        monkeypatch.setattr(sys, "stderr", Broken())
        send(system)
        send(system)
        clock.wait_parked(2)
        monkeypatch.undo()
        assert channel(system, "console").retries == 2


# -- stopping -----------------------------------------------------------------------------------------------------


def test_stop_sends_what_is_queued(make):
    held = Held()
    system = make(mine=held)
    stuck(system, held)
    for _ in range(5):
        send(system)
    held.go.release(6)
    system.stop(None)
    assert len(held.alerts) == 6
    assert (system.status().state, channel(system).delivered) == ("stopped", 6)
    system.stop()


def test_stop_returns_at_its_deadline_and_counts_what_is_left(make, clock, caplog):
    held, good = Held(), []
    system = make(mine=held, other=Held(), good=good.append)
    system._crew.workers[1]._channel.go.release(100)
    stuck(system, held)
    for _ in range(3):
        send(system)
    stopper = threading.Thread(target=system.stop, args=(5.0,))
    stopper.start()
    for worker in system._crew.workers[1:]:
        assert worker.wait_ended(CAP)  # from here on only the stopper can be parked, and its deadline is set
    clock.wait_parked(1)
    clock.advance(5.0)
    stopper.join(CAP)
    assert not stopper.is_alive()
    assert (channel(system).dropped, channel(system).in_flight, channel(system).queued) == (3, 1, 0)
    assert len(good) == 4
    assert "'mine': stopped with 3 alerts not sent and one send still running" in caplog.text
    assert "'good'" not in caplog.text
    held.go.release(10)
    system.stop(None)
    assert len(held.alerts) == 1  # nothing more was sent after the deadline
    assert channel(system).delivered == 1


def test_one_deadline_is_shared_by_all_channels(make, clock):
    first, second = Held(), Held()
    system = make(mine=first, second=second)
    stuck(system, first)
    second.wait_entered()
    stopper = threading.Thread(target=system.stop, args=(5.0,))
    stopper.start()
    clock.wait_parked(1)
    clock.advance(5.0)
    stopper.join(CAP)
    assert not stopper.is_alive()
    first.go.release()
    second.go.release()


def test_stop_without_start_drops_and_says_so(make, caplog):
    system = make(mine=pytest.fail)
    send(system)
    system.stop()
    assert channel(system).dropped == 1
    assert "1 alerts not sent" in caplog.text
    assert system.status().state == "stopped"


def test_a_channel_may_call_stop(make, clock):
    got = []

    def stopping(alert):
        got.append(alert)
        system.stop(None)

    system = make(mine=stopping)
    for _ in range(3):
        send(system)
    system.start()
    system._crew.workers[0].wait_ended(CAP)
    assert len(got) == 3
    assert channel(system).state == "stopped"


def test_a_with_block_starts_and_stops(make):
    got = []
    system = make(mine=got.append)
    with system as same:
        assert same is system
        assert "running" in repr(system)
        send(system)
    assert len(got) == 1
    assert system.status().state == "stopped"


def test_a_started_system_is_stopped_at_exit_and_a_stopped_one_is_not(make, monkeypatch):
    hooks = []
    monkeypatch.setattr(alert_system.atexit, "register", hooks.append)
    monkeypatch.setattr(alert_system.atexit, "unregister", hooks.remove)
    got = []
    system = make(mine=got.append)
    assert hooks == []
    system.start()
    (hook,) = hooks
    send(system)
    hook()
    assert len(got) == 1
    assert hooks == []
    monkeypatch.undo()


def test_only_a_started_system_is_kept_for_the_exit(make, clock):
    fresh, started = weakref.ref(AlertSystem(clock=clock)), make(mine=print)
    gc.collect()
    assert fresh() is None
    hooks = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alert_system.atexit, "register", hooks.append)
        patch.setattr(alert_system.atexit, "unregister", hooks.remove)
        started.start()
        assert [hook.__self__ for hook in hooks] == [started]
        started.stop()
        assert hooks == []


def test_a_critical_alert_of_a_system_that_nobody_starts_is_on_standard_error_at_the_exit(make, capsys):
    hooks = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alert_system.atexit, "register", hooks.append)
        system = make(mine=print)
        for number in range(30):
            send(system, title=f"t{number}", level="critical")
        send(system, level="error")
        (hook,) = hooks
        hook()
    assert len([line for line in capsys.readouterr().err.splitlines() if "told by no channel" in line]) == 20
    assert send(system).reason == "stopped"


def test_when_no_thread_can_be_started_start_says_so_and_nothing_hangs(make, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    system = make(mine=print)
    send(system)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        system.start()
    monkeypatch.undo()
    system.stop(None)
    assert channel(system).dropped == 1


def test_a_start_that_failed_may_be_tried_again(make, monkeypatch, capsys):
    got, hooks, real = [], [], threading.Thread.start
    monkeypatch.setattr(alert_system.atexit, "register", hooks.append)
    system = make(mine=got.append, other=got.append)
    calls = itertools.count()

    def refuse_the_second(thread):
        if next(calls) == 1:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_second)
    with pytest.raises(RuntimeError):
        system.start()
    assert system.status().state == "not_started"
    assert hooks  # what is queued now must not be forgotten at the exit
    receipt = send(system, level="critical")
    system.start()
    assert system.status().state == "running"
    hooks[0]()
    assert [alert.id for alert in got] == [receipt.id] * 2
    assert capsys.readouterr().err == ""  # it was told


def test_a_with_block_that_is_cut_short_at_its_beginning_leaves_nothing_running(make, monkeypatch):
    hooks, system = [], make(mine=print)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alert_system.atexit, "register", hooks.append)
        patch.setattr(alert_system.atexit, "unregister", hooks.remove)
        patch.setattr(system._crew._watchdog, "start", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt), system:
            raise AssertionError("the block was entered")
    assert system.status().state == "stopped"
    assert hooks == []


def test_a_stop_in_the_middle_of_start_is_the_last_word(clock):
    system = AlertSystem({"channels": {"mine": print}, "spool": False}, clock=clock)
    inner = system._crew._watchdog.start

    def stop_first():  # as a signal handler may
        system.stop(0.0)
        inner()

    system._crew._watchdog.start = stop_first
    system.start()
    assert send(system, level="info").reason == "stopped"
    assert system.status().state == "stopped"


# -- forks --------------------------------------------------------------------------------------------------------


def test_a_child_that_can_start_no_thread_tries_again_with_its_next_alert(make, monkeypatch):
    got = []
    system = make(mine=got.append)
    system._state = "running"  # as in the parent, whose threads a child does not have
    alert_system._after_fork_in_child()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _thread: (_ for _ in ()).throw(RuntimeError("no more")))
        first = send(system)
    assert (first.accepted, first.reason) == (True, "not_started")
    second = send(system)
    assert second.reason == "queued"
    system.stop()
    assert [alert.id for alert in got] == [first.id, second.id]


def test_a_forked_child_starts_anew_with_its_first_alert(make, clock):
    got = []
    system = make(mine=got.append)
    system.start()
    clock.wait_parked(2)
    parents = system._crew.workers[0].thread
    worker = system._crew.workers[0]
    old = (worker._lock, worker._changed)
    watchdog = system._crew._watchdog
    old_watch = watchdog._changed
    worker._lock.acquire()  # as another thread of the parent may hold it at the fork
    alert_system._after_fork_in_child()
    assert worker._lock is not old[0]
    receipt = send(system)
    assert receipt.channels == ("mine",)
    assert system._crew.workers[0].thread is not parents
    # End the parent's threads, which the fork would not have copied.
    old[1].notify_all()
    old[0].release()
    with old_watch:
        watchdog._wanted = 0.0
        old_watch.notify_all()
    system.stop()
    assert [a.id for a in got] == [receipt.id]


def test_a_fork_before_start_and_after_stop_changes_nothing(make):
    fresh, stopped = make(mine=print), make(mine=print)
    stopped.stop()
    alert_system._after_fork_in_child()
    assert send(fresh).reason == "not_started"
    assert send(stopped).reason == "stopped"


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="this system does not fork")
def test_systems_are_reset_after_a_fork_whoever_made_them(make):
    assert make(mine=print) in alert_system._systems


# -- many threads -------------------------------------------------------------------------------------------------


def test_nothing_is_lost_or_invented_under_load(make):
    got = []
    system = make({"mine": "debug"}, size=50, mine=got.append)
    threads, each = 8, 100
    barrier = threading.Barrier(threads)
    receipts, errors = [], []
    levels = list(AlertLevel)

    def run(number):
        try:
            barrier.wait(CAP)
            receipts.extend([send(system, f"{number}.{i}", level=levels[i % 5]) for i in range(each)])
        except BaseException as error:
            errors.append(error)

    system.start()
    workers = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(CAP)
    system.stop(CAP)
    status = channel(system)
    assert errors == []
    assert status.accepted == threads * each == status.delivered + status.dropped
    delivered = [a.id for a in got if "dropped" not in a.title]
    assert len(delivered) == len(set(delivered)) == status.delivered
    assert set(delivered) <= {r.id for r in receipts if r.accepted}
