"""Alerts below ERROR between the call and the channels: left by the caller, carried by a thread, in order, none lost."""

import threading

import pytest

from hireliab.monitoring import _alert_inbox
from hireliab.monitoring._alert_inbox import Inbox
from hireliab.monitoring.alert import AlertLevel, make_alert
from tests.support.alerts import Scripted, channel, send, system
from tests.support.together import Background, together, until

WAIT = 2.0
WARNING = AlertLevel.WARNING


@pytest.fixture
def make(clock):
    systems = []

    def make(*, started=True, **given):
        systems.append(system(clock, group_wait=WAIT, **given))
        if started:
            systems[-1].start()
        return systems[-1]

    yield make
    for one in systems:
        one.stop(0.0)


@pytest.fixture
def inbox(clock):
    """An inbox, and what it delivered."""
    got = []
    made = Inbox(deliver=lambda alert, at: got.append((alert.title, at)), wait=WAIT, clock=clock)
    yield made, got
    made.close(0.0)


def alert(title, level=WARNING):
    return make_alert(id=title, time=0.0, source="system", level=level, title=title, message="m")


def put(box, title, at=1000.0):
    return box.put(alert(title), ("system", title), at)


# -- the call -------------------------------------------------------------------------------------------------------


def test_a_call_below_error_waits_for_no_channel(make):
    alerts = make(mine=Scripted())
    held = alerts._crew.workers[0]._lock
    with held:  # as the channel's thread has it, for as long as it likes
        receipt = Background(send, alerts, "t", "warning").result()
    assert (receipt.accepted, receipt.reason, receipt.channels) == (True, "queued", ("mine",))


def test_a_receipt_says_what_will_become_of_the_alert(make, clock):
    mine = Scripted()
    alerts = make(mine=mine, other=Scripted(), thresholds={"other": "critical"})
    assert send(alerts, "t", "warning").channels == ("mine",)
    assert send(alerts, "t", "warning").reason == "deduplicated"
    assert send(alerts, "t", "info").reason == "deduplicated"
    assert send(alerts, "t", "debug").reason == "below_threshold"
    channel(alerts)  # which has the channel know of them
    assert send(alerts, "t", "warning").reason == "deduplicated"
    clock.wait_parked(4)
    clock.advance(WAIT)
    until(lambda: mine.titles == ["t"] and channel(alerts).in_flight == 0)
    assert send(alerts, "t", "info").reason == "deduplicated"
    channel(alerts)
    clock.wait_parked(4)  # the watchdog, the inbox and two channels
    clock.advance(60.0)
    until(lambda: mine.titles == ["t", "t"])  # the summary
    until(lambda: channel(alerts).in_flight == 0)
    clock.wait_parked(4)
    clock.advance(60.0)
    until(lambda: channel(alerts).groups == 0)
    assert send(alerts, "t", "info").reason == "queued"  # it was forgotten: a new one
    channel(alerts)
    clock.wait_parked(4)
    clock.advance(WAIT)
    until(lambda: len(mine.titles) == 3 and channel(alerts).in_flight == 0)
    receipt = send(alerts, "t", "warning")  # higher than was told
    assert (receipt.reason, receipt.channels) == ("queued", ("mine",))
    clock.advance(WAIT)
    until(lambda: len(mine.titles) == 4)


def test_the_wait_of_a_group_begins_with_the_call(make, clock):
    mine = Scripted()
    alerts = make(mine=mine)
    clock.wait_parked(3)
    send(alerts, "t", "warning")
    clock.advance(0.25)
    channel(alerts)  # which knows of it now at the latest
    clock.wait_parked(3)
    clock.advance(WAIT - 0.25 - 0.01)
    channel(alerts)
    clock.wait_parked(3)  # the watchdog, the inbox and the channel
    assert mine.titles == []
    clock.advance(0.01)
    until(lambda: mine.titles == ["t"])


def test_a_status_knows_what_was_sent_before(make):
    alerts = make(mine=Scripted())
    for number in range(50):
        send(alerts, f"t{number}", "warning")
        assert channel(alerts).accepted == number + 1
    assert channel(alerts).held == 50


# -- what comes after -----------------------------------------------------------------------------------------------


def test_an_error_stands_for_the_warning_before_it(make):
    mine = Scripted()
    alerts = make(mine=mine)
    send(alerts, "t", "warning")
    send(alerts, "t", "error")
    until(lambda: mine.alerts)
    assert (mine.alerts[0].level, mine.alerts[0].count) == (AlertLevel.ERROR, 2)


def test_what_is_resolved_at_once_is_never_told(make, clock):
    mine = Scripted()
    alerts = make(mine=mine)
    for number in range(20):
        send(alerts, f"t{number}", "warning", dedup_key=f"k{number}")
        assert alerts.resolve(f"k{number}")
    clock.advance(WAIT)
    assert channel(alerts).groups == 0
    assert mine.alerts == []


def test_stop_tells_what_was_left_a_moment_before(make):
    mine = Scripted()
    alerts = make(mine=mine)
    for number in range(20):
        send(alerts, f"t{number}", "warning")
    alerts.stop()
    assert mine.titles == [f"t{number}" for number in range(20)]
    assert send(alerts, "late", "warning").reason == "stopped"
    assert channel(alerts).refused == 1


def test_what_was_sent_before_the_start_is_told(make, clock):
    mine = Scripted()
    alerts = make(started=False, mine=mine)
    assert send(alerts, "t", "warning").reason == "not_started"
    alerts.start()
    clock.wait_parked(3)
    clock.advance(WAIT)
    until(lambda: mine.titles == ["t"])


# -- the inbox itself -----------------------------------------------------------------------------------------------


def test_a_burst_wakes_the_thread_once_and_comes_in_order(inbox, clock, monkeypatch):
    box, got = inbox
    box.start()
    clock.wait_parked()
    woken = []
    real = box._clerk.wake_by
    monkeypatch.setattr(box._clerk, "wake_by", lambda at: (woken.append(at), real(at)))
    for number in range(30):
        assert put(box, str(number), 1000.0 + number / 1000)
    assert woken == [1000.0 + _alert_inbox.REST]
    assert got == []
    clock.advance(_alert_inbox.REST)
    until(lambda: len(got) == 30)
    assert got == [(str(number), 1000.0 + number / 1000) for number in range(30)]
    clock.wait_parked()
    put(box, "next", 1000.1)
    assert len(woken) == 2
    put(box, "at once", 1000.1)
    assert len(woken) == 2
    put(box, "much later", 1001.1)  # whether or not somebody was interrupted before he woke it
    assert len(woken) == 3


def test_what_finds_no_room_is_its_callers(inbox, clock, monkeypatch):
    monkeypatch.setattr(_alert_inbox, "MOST", 3)
    box, got = inbox
    box.start()
    clock.wait_parked()
    assert [put(box, str(number)) for number in range(5)] == [True, True, True, False, False]
    box.flush(10.0)
    assert [title for title, _ in got] == ["0", "1", "2"]
    assert put(box, "6")


def test_a_flood_loses_nothing(make, clock, monkeypatch):
    monkeypatch.setattr(_alert_inbox, "MOST", 5)
    alerts = make(mine=Scripted())

    def flood(i):
        return [send(alerts, f"{i}-{number}", "warning").reason for number in range(100)]

    assert together(4, flood) == [["queued"] * 100] * 4
    assert channel(alerts).held == 400


def test_one_that_fails_keeps_no_other(clock, caplog):
    got = []

    def deliver(one, _at):
        if one.title == "bad":
            raise ZeroDivisionError
        got.append(one.title)

    box = Inbox(deliver=deliver, wait=WAIT, clock=clock)
    box.start()
    for title in ("a", "bad", "b"):
        put(box, title)
    box.flush(10.0)
    assert got == ["a", "b"]
    assert box.level_of(("system", "bad")) is None
    clock.wait_parked()
    assert "a look of the inbox failed" in caplog.text
    put(box, "c")
    box.close(0.0)
    assert got == ["a", "b", "c"]


def test_who_is_interrupted_by_the_close_is_either_taken_or_told_so(clock):
    for _ in range(20):
        got = []
        box = Inbox(deliver=lambda one, _at, got=got: got.append(one.title), wait=WAIT, clock=clock)
        box.start()

        def act(i, box=box):
            if i == 0:
                box.close(10.0)
                return []
            return [title for title in (f"{i}-{number}" for number in range(20)) if put(box, title)]

        taken = [title for titles in together(4, act) for title in titles]
        box.close(0.0)
        assert sorted(got) == sorted(taken)


@pytest.mark.parametrize("in_time", [False, True])
def test_what_is_left_in_the_moment_of_the_close_is_carried_once(inbox, clock, monkeypatch, in_time):
    box, got = inbox
    box.start()
    clock.wait_parked()

    def close(_at):
        box._open = False
        if in_time:
            box._carry_one()

    monkeypatch.setattr(box._clerk, "wake_by", close)
    assert put(box, "a") is in_time  # else its caller brings it to the channels
    assert not box._carry_one()
    assert [title for title, _ in got] == (["a"] if in_time else [])


def test_a_child_does_not_carry_what_its_parent_left(inbox):
    box, got = inbox
    box._open = True  # without the thread, which a child does not have either
    assert put(box, "parent's")
    box.reset()
    assert not box.is_open
    assert box.level_of(("system", "parent's")) is None
    box.start()
    assert put(box, "child's")
    box.flush(10.0)
    assert [title for title, _ in got] == ["child's"]


def test_flush_waits_for_the_one_that_is_being_carried(clock):
    entered, go = threading.Semaphore(0), threading.Semaphore(0)
    got = []

    def deliver(one, _at):
        entered.release()
        assert go.acquire(timeout=10.0)
        got.append(one.title)

    box = Inbox(deliver=deliver, wait=WAIT, clock=clock)
    box.start()
    box.flush(10.0)  # nothing there
    put(box, "a")
    clock.wait_parked()
    clock.advance(1.0)
    assert entered.acquire(timeout=10.0)
    waiting = Background(box.flush, 10.0)
    until(lambda: box._watchers == 1)
    assert got == []
    go.release()
    waiting.result()
    assert got == ["a"]
    box.close(0.0)
