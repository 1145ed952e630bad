"""What follows when a channel does not take an alert: retry, rest, failover, watchdog, and what is said about it."""

import itertools
import logging
import threading

import pytest

from hireliab.errors import ConfigError
from hireliab.monitoring import _channel_desk, _channel_retry
from hireliab.monitoring._channel_rate import TokenBucket
from hireliab.monitoring._channel_retry import backoff, limit_pause
from hireliab.monitoring._channel_work import Refill, Report
from hireliab.monitoring._channel_worker import ChannelWorker
from hireliab.monitoring.alert import AlertLevel, make_alert
from hireliab.monitoring.alert_channels import Misconfigured, Ok, Permanent, Rate, RateLimited, Retry, Unknown
from hireliab.monitoring.alert_groups import Groups
from tests.support.alerts import CAP, Hanging, Scripted, channel, send, system

ERROR, CRITICAL = AlertLevel.ERROR, AlertLevel.CRITICAL


@pytest.fixture
def make(clock, monkeypatch):
    monkeypatch.setattr(_channel_retry.random, "random", lambda: 1.0)
    systems = []

    def make(**given):
        systems.append(system(clock, **given))
        return systems[-1]

    yield make
    for one in systems:
        one.stop(0.0)


def rest(clock, count=1):
    """Until the watchdog and `count` channels have nothing to do."""
    clock.wait_parked(count + 1)


# -- retry --------------------------------------------------------------------------------------------------------


def test_the_pause_between_attempts_doubles_up_to_a_minute_with_full_jitter():
    assert [backoff(n, lambda: 1.0) for n in (1, 2, 3, 6, 7, 100)] == [1.0, 2.0, 4.0, 32.0, 60.0, 60.0]
    assert backoff(5, lambda: 0.0) == pytest.approx(1.6)
    assert backoff(5, lambda: 0.5) == pytest.approx(8.8)


@pytest.mark.parametrize(
    ("after", "pause"),
    [(None, 30.0), (5.0, 5.0), (0.0, 1.0), (-1.0, 30.0), (float("nan"), 30.0), (1e9, 3600.0), (float("inf"), 3600.0)],
)
def test_what_a_service_asks_for_is_kept_within_reason(after, pause):
    assert limit_pause(after) == pause


@pytest.mark.parametrize("answer", [Retry("reset"), Unknown("no answer"), OSError("gone")])
def test_what_was_not_sent_is_sent_later_with_the_same_id_and_the_others_do_not_wait(make, clock, answer):
    mine, other = Scripted(answer), Scripted()
    with make(mine=mine, other=other) as alerts:
        receipt = send(alerts, "first")
        rest(clock, 2)
        send(alerts, "second")
        rest(clock, 2)
        assert mine.titles == ["first", "second"]
        assert other.titles == ["first", "second"]
        clock.advance(0.9)
        rest(clock, 2)
        assert len(mine.alerts) == 2
        clock.advance(0.1)
        rest(clock, 2)
        assert mine.titles == ["first", "second", "first"]
        assert mine.alerts[0].id == mine.alerts[2].id == receipt.id
        assert channel(alerts).retries == 1


def test_a_service_that_names_a_pause_gets_it(make, clock):
    mine = Scripted(Retry("busy", after=7.0))
    with make(mine=mine) as alerts:
        send(alerts)
        rest(clock)
        clock.advance(6.9)
        rest(clock)
        assert len(mine.alerts) == 1
        clock.advance(0.1)
        rest(clock)
        assert len(mine.alerts) == 2


def test_a_channel_that_fails_three_times_in_a_row_rests(make, clock):
    mine = Scripted(*[Retry("down")] * 3)
    with make(mine=mine) as alerts:
        for _ in range(5):
            send(alerts)
        rest(clock)
        assert len(mine.alerts) == 3  # the last two wait, too
        clock.advance(1.0)
        rest(clock)
        assert channel(alerts).delivered == 5


def test_a_refused_alert_is_counted_logged_and_not_tried_again_and_the_next_one_goes_on(make, clock, caplog):
    mine = Scripted(Permanent("message is too long"))
    with make(mine=mine) as alerts:
        send(alerts, "bad")
        send(alerts, "good")
        rest(clock)
        clock.advance(3600)
        rest(clock)
    assert mine.titles == ["bad", "good"]
    assert (channel(alerts).failed, channel(alerts).delivered) == (1, 1)
    assert "message is too long" in caplog.text
    assert channel(alerts).last_error == "message is too long"


def test_a_rate_limit_pauses_the_channel_and_loses_nothing(make, clock):
    mine = Scripted(RateLimited("too many", after=20.0))
    with make(mine=mine) as alerts:
        send(alerts)
        send(alerts, level="critical")
        rest(clock)
        assert channel(alerts).state == "paused"
        clock.advance(19.9)
        rest(clock)
        assert len(mine.alerts) == 1
        clock.advance(0.1)
        rest(clock)
        assert channel(alerts).delivered == 2
        assert channel(alerts).state == "ready"


def test_a_wrong_setting_is_tried_every_ten_minutes(make, clock):
    mine = Scripted(*[Misconfigured("the token is wrong")] * 2)
    with make(mine=mine) as alerts:
        send(alerts)
        rest(clock)
        assert channel(alerts).state == "misconfigured"
        send(alerts)
        clock.advance(599)
        rest(clock)
        assert len(mine.alerts) == 1
        clock.advance(1)
        rest(clock)
        clock.advance(600)
        rest(clock)
        assert len(mine.alerts) == 4
        assert channel(alerts).delivered == 2


@pytest.mark.parametrize(
    ("level", "seconds"), [("info", 300), ("warning", 1800), ("error", 21600), ("critical", 259200)]
)
def test_what_is_too_old_is_dropped_and_reported(make, clock, level, seconds):
    mine = Scripted(*[Misconfigured("wrong")] * 10_000)
    with make(mine=mine) as alerts:
        send(alerts, "old", level=level)
        rest(clock)
        while seconds > 601:
            clock.advance(600)
            rest(clock)
            seconds -= 600
        clock.advance(seconds - 1)
        rest(clock)
        assert channel(alerts).dropped == 0
        mine.answers.clear()
        clock.advance(601)
        rest(clock)
        assert channel(alerts).dropped == 1
        assert mine.titles[-1] == "1 alerts dropped"
        assert f"1 {level.upper()}" in mine.alerts[-1].message


def test_stop_tries_what_waits_once_more_and_keeps_to_a_service_that_asked_for_rest(make, clock):
    mine, limited = Scripted(Retry("reset")), Scripted(RateLimited("later", after=100.0))
    alerts = make(mine=mine, limited=limited)
    alerts.start()
    send(alerts)
    rest(clock, 2)
    alerts.stop()
    assert channel(alerts).delivered == 1
    assert (len(limited.alerts), channel(alerts, "limited").dropped) == (1, 1)


# -- rate ---------------------------------------------------------------------------------------------------------


def test_tokens_come_back_evenly_and_a_share_is_kept_for_critical():
    bucket = TokenBucket(Rate(10), 0.0)
    for _ in range(7):
        assert bucket.wait(ERROR, 0.0) == 0.0
        bucket.take(0.0)
    assert bucket.wait(ERROR, 0.0) == pytest.approx(6.0)
    for _ in range(3):
        assert bucket.wait(CRITICAL, 0.0) == 0.0
        bucket.take(0.0)
    assert bucket.wait(CRITICAL, 0.0) == pytest.approx(6.0)
    assert bucket.wait(CRITICAL, 6.0) == 0.0
    assert bucket.wait(ERROR, 24.0) == 0.0
    assert bucket.wait(ERROR, 1e9) == 0.0


def test_a_rate_of_less_than_one_a_minute_works_and_the_gap_is_kept():
    bucket = TokenBucket(Rate(0.5, gap=3.0), 0.0)
    assert bucket.wait(ERROR, 0.0) == 0.0
    bucket.take(0.0)
    assert bucket.wait(ERROR, 0.0) == pytest.approx(120.0)
    fast = TokenBucket(Rate(600, gap=3.0), 0.0)
    fast.take(0.0)
    assert fast.wait(CRITICAL, 1.0) == pytest.approx(2.0)


def test_a_channel_sends_no_faster_than_its_service_takes(make, clock):
    mine = Scripted()
    mine.rate = Rate(10)
    with make(mine=mine) as alerts:
        for _ in range(9):
            send(alerts)
        rest(clock)
        assert len(mine.alerts) == 7
        send(alerts, "urgent", level="critical")
        rest(clock)
        assert mine.titles[-1] == "urgent"
        clock.advance(12.0)
        rest(clock)
        assert len(mine.alerts) == 9


def test_the_wall_clock_may_step_by_an_hour(make, clock):
    mine = Scripted(Retry("reset"))
    mine.rate = Rate(10)
    with make(mine=mine) as alerts:
        send(alerts)
        rest(clock)
        for step in (-3600, 7200, -86400):
            clock.step_wall(step)
            send(alerts)
            rest(clock)
        assert len(mine.alerts) == 4
        assert clock.next_deadline() <= 60.0
        clock.advance(1.0)
        rest(clock)
        assert channel(alerts).delivered == 4


# -- failover and what is said of a channel -------------------------------------------------------------------------


def test_another_channel_tells_what_one_could_not_within_thirty_seconds(make, clock):
    mine, spare = Scripted(*[Retry("reset")] * 100), Scripted()
    with make(mine=mine, spare=spare, thresholds={"spare": "critical"}, failover={"mine": "spare"}) as alerts:
        send(alerts, "trouble")
        rest(clock, 2)
        for _ in range(29):
            clock.advance(1.0)
            rest(clock, 2)
        assert spare.alerts == []
        clock.advance(1.0)
        rest(clock, 2)
        assert [title for title in spare.titles if "down" not in title] == ["trouble"]
        assert "channel 'mine' could not tell it" in spare.alerts[0].notes
        for _ in range(60):
            clock.advance(1.0)
            rest(clock, 2)
        assert spare.titles.count("trouble") == 1
        mine.answers.clear()
        clock.advance(60.0)
        rest(clock, 2)
        assert channel(alerts).delivered >= 1  # late, and by itself


def test_what_matters_less_is_not_told_by_another(make, clock):
    mine, spare = Scripted(*[Retry("reset")] * 100), Scripted()
    with make(mine=mine, spare=spare, thresholds={"spare": "critical"}, failover={"mine": "spare"}) as alerts:
        send(alerts, "unimportant", level="warning")
        rest(clock, 2)
        for _ in range(100):
            clock.advance(1.0)
            rest(clock, 2)
        assert "unimportant" not in spare.titles


def test_a_channel_that_was_told_by_itself_is_not_told_again_by_failover(make, clock):
    mine, spare = Scripted(*[Retry("reset")] * 100), Scripted()
    with make(mine=mine, spare=spare, failover={"mine": ["spare"]}) as alerts:
        send(alerts, "trouble")
        rest(clock, 2)
        for _ in range(100):
            clock.advance(1.0)
            rest(clock, 2)
        assert spare.titles.count("trouble") == 1


def test_the_first_stand_in_that_works_takes_over(make, clock):
    mine, dead, spare = Scripted(*[Retry("x")] * 500), Scripted(*[Misconfigured("y")] * 99), Scripted()
    with make(
        mine=mine,
        dead=dead,
        spare=spare,
        thresholds={"dead": "critical", "spare": "critical"},
        failover={"mine": ["dead", "spare"]},
    ) as alerts:
        send(alerts, "wakes it", level="critical")
        rest(clock, 3)
        clock.advance(31.0)
        rest(clock, 3)
        send(alerts, "trouble")
        rest(clock, 3)
        clock.advance(31.0)
        rest(clock, 3)
        assert "trouble" in spare.titles
        assert "trouble" not in dead.titles


def test_a_pause_longer_than_thirty_seconds_is_not_waited_for(make, clock):
    mine, spare = Scripted(RateLimited("later", after=3600.0)), Scripted()
    with make(mine=mine, spare=spare, thresholds={"spare": "critical"}, failover={"mine": "spare"}) as alerts:
        send(alerts, "trouble")
        rest(clock, 2)
        assert spare.titles == ["trouble"]


def test_what_a_service_refuses_for_good_is_told_by_another(make, clock):
    mine, spare = Scripted(Permanent("too long")), Scripted()
    with make(mine=mine, spare=spare, thresholds={"spare": "critical"}, failover={"mine": "spare"}) as alerts:
        send(alerts, "trouble")
        rest(clock, 2)
        assert spare.titles == ["trouble"]


def test_the_others_hear_once_that_a_channel_is_down_and_once_that_it_is_back(make, clock):
    mine, other = Scripted(*[Retry("connection refused")] * 40), Scripted()
    with make(mine=mine, other=other) as alerts:
        for _ in range(3):
            send(alerts)
        rest(clock, 2)
        del other.alerts[:]
        for _ in range(120):
            clock.advance(1.0)
            rest(clock, 2)
        assert other.titles == ["alert channel 'mine' is down"]
        assert other.alerts[0].message == "connection refused"
        assert channel(alerts).state == "down"
        mine.answers.clear()
        for _ in range(70):
            clock.advance(1.0)
            rest(clock, 2)
        assert channel(alerts).state == "ready"
        assert other.titles == ["alert channel 'mine' is down"] * 2
        assert other.alerts[1].resolved
        assert other.alerts[1].message == "it is back; 3 delivered late"
        assert "down" not in " ".join(mine.titles)


def test_a_wrong_setting_is_told_at_once(make, clock):
    mine, other = Scripted(Misconfigured("the chat does not exist")), Scripted()
    with make(mine=mine, other=other, thresholds={"mine": "critical"}) as alerts:
        send(alerts, level="critical")
        rest(clock, 2)
        assert other.titles[-1] == "alert channel 'mine' is down"
        assert other.alerts[-1].message == "the chat does not exist"


def test_when_no_channel_works_standard_error_has_it_once(make, clock, capsys):
    mine, other = Scripted(*[Retry("a")] * 999), Scripted(*[Retry("b")] * 999)
    with make(mine=mine, other=other, failover={"mine": "other", "other": "mine"}) as alerts:
        send(alerts, "trouble", level="critical")
        rest(clock, 2)
        for _ in range(200):
            clock.advance(1.0)
            rest(clock, 2)
        lines = capsys.readouterr().err.splitlines()
        assert len([line for line in lines if "trouble" in line]) in (1, 2)  # each channel's copy at most once
        assert len([line for line in lines if "is down" in line]) in (1, 2)
        assert {channel(alerts, name).state for name in ("mine", "other")} == {"down"}


def test_a_storm_that_no_channel_takes_is_twenty_lines_on_standard_error(make, clock, capsys):
    mine = Scripted(*[Misconfigured("wrong")] * 999)
    with make(mine=mine) as alerts:
        for _ in range(100):
            send(alerts)
        rest(clock)
        clock.advance(100.0)
        rest(clock)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 21
        assert "more is not written here" in lines[-1]


# -- sends that do not come back --------------------------------------------------------------------------------------


def test_a_send_that_does_not_come_back_is_abandoned_and_tried_again(make, clock):
    hangs = Hanging()
    alerts = make(mine=hangs)
    alerts.start()
    receipt = send(alerts)
    hangs.wait_entered()
    clock.wait_parked(1)
    clock.advance(29.9)
    clock.wait_parked(1)
    assert channel(alerts).abandoned == 0
    clock.advance(0.1)
    clock.wait_parked(2)  # the watchdog, and the new thread, which waits for the next attempt
    assert channel(alerts).abandoned == 1
    clock.advance(1.0)
    hangs.wait_entered()
    assert [alert.id for alert in hangs.alerts] == [receipt.id] * 2
    hangs.go.release(2)
    clock.wait_parked(2)
    assert (channel(alerts).delivered, channel(alerts).abandoned) == (1, 0)
    alerts.stop()


def test_a_success_that_comes_late_is_counted_and_the_alert_is_not_sent_again(make, clock):
    hangs = Hanging()
    alerts = make(mine=hangs)
    alerts.start()
    send(alerts)
    hangs.wait_entered()
    clock.wait_parked(1)
    clock.advance(30.0)
    clock.wait_parked(2)
    hangs.go.release()
    for thread in threading.enumerate():
        if thread.name == "hireliab.alerts.mine" and thread is not alerts._crew.workers[0].thread:
            thread.join(CAP)
    clock.advance(60.0)
    clock.wait_parked(2)
    assert len(hangs.alerts) == 1
    assert (channel(alerts).delivered, channel(alerts).queued, channel(alerts).late) == (1, 0, 1)
    alerts.stop()


def test_two_sends_are_abandoned_and_no_more_then_the_channel_is_stuck_and_another_tells(make, clock):
    hangs, spare = Hanging(), Scripted()
    alerts = make(mine=hangs, spare=spare, thresholds={"spare": "critical"}, failover={"mine": "spare"})
    alerts.start()
    before = threading.active_count()
    send(alerts, "trouble")
    for _ in range(3):
        hangs.wait_entered()
        clock.wait_parked(2)
        clock.advance(30.0)
        clock.wait_parked(2)
        clock.advance(10.0)
    clock.wait_parked(2)
    assert channel(alerts).state == "stuck"
    assert channel(alerts).abandoned == 2
    assert threading.active_count() == before + 2
    assert spare.titles[0] == "trouble"
    assert "alert channel 'mine' is down" in spare.titles or spare.titles == ["trouble"]
    receipt = send(alerts, "more trouble")
    assert receipt.channels == ("mine",)
    clock.wait_parked(2)
    assert spare.titles[-1] == "more trouble"  # at once: nothing goes through
    hangs.go.release(100)
    for _ in range(100):
        clock.wait_parked(3)
        if channel(alerts).state == "ready":
            break
        clock.advance(1.0)
    assert channel(alerts).abandoned == 0
    alerts.stop()


def test_stop_starts_no_thread_for_a_send_that_hangs(make, clock):
    hangs = Hanging()
    alerts = make(mine=hangs)
    alerts.start()
    send(alerts)
    hangs.wait_entered()
    stopper = threading.Thread(target=alerts.stop, args=(40.0,))
    stopper.start()
    clock.wait_parked(1)
    before = {thread.ident for thread in threading.enumerate()}
    clock.advance(35.0)
    clock.wait_parked(1)
    assert {thread.ident for thread in threading.enumerate()} <= before
    clock.advance(5.0)
    stopper.join(CAP)
    assert not stopper.is_alive()
    hangs.go.release(5)


# -- resolve and silence ----------------------------------------------------------------------------------------------


def test_an_end_goes_to_the_channels_that_were_told_and_to_no_other(make, clock):
    low, high = Scripted(), Scripted()
    with make(low=low, high=high, thresholds={"high": "critical"}) as alerts:
        send(alerts, "trouble", dedup_key="k")
        rest(clock, 2)
        assert alerts.resolve("k", "mended")
        assert not alerts.resolve("k")
        assert not alerts.resolve("never heard of")
        rest(clock, 2)
        assert [alert.resolved for alert in low.alerts] == [False, True]
        assert low.alerts[1].message == "mended"
        assert high.alerts == []
        assert channel(alerts, "low").delivered == 2


def test_an_end_is_of_one_source_when_it_is_named(make, clock):
    mine = Scripted()
    with make(mine=mine) as alerts:
        send(alerts, "trouble", dedup_key="k")
        rest(clock)
        assert not alerts.resolve("k", source="risk")
        assert alerts.resolve("k", source="System")


def test_resolve_takes_anything_and_raises_nothing(make):
    class Hostile:
        def __str__(self):
            raise AssertionError("user code was run")

        __repr__ = __hash__ = __eq__ = __str__  # type: ignore[assignment]

    for key in (None, Hostile(), 7, b"x", "\ud800"):
        assert make(mine=print).resolve(key, key) is False


def test_a_repeated_alert_is_counted_and_the_receipt_says_so(make, clock):
    mine = Scripted()
    with make(mine=mine) as alerts:
        assert send(alerts, "t").reason == "queued"
        rest(clock)
        receipt = send(alerts, "t")
        assert (receipt.reason, receipt.accepted, receipt.channels) == ("deduplicated", True, ())
        clock.advance(60.0)
        rest(clock)
        assert [alert.count for alert in mine.alerts] == [1, 2]


def test_a_silence_keeps_what_it_names_from_everybody_until_it_ends(make, clock):
    mine = Scripted()
    with make(mine=mine) as alerts:
        alerts.silence(60.0, title="maint*")
        alerts.silence(120.0, title="order [BTC] ?*")
        assert send(alerts, "order [BTC] ?17").reason == "silenced"
        assert send(alerts, "order B ?17").reason == "queued"
        assert send(alerts, "maintenance").reason == "silenced"
        assert send(alerts, "maintenance", level="critical").reason == "queued"
        assert send(alerts, "other").reason == "queued"
        assert alerts.status().silenced == 2
        assert len(alerts.status().silences) == 2
        clock.advance(60.0)
        assert send(alerts, "maintenance 2").reason == "queued"
        assert len(alerts.status().silences) == 1
        clock.advance(60.0)
        assert alerts.status().silences == ()


def test_a_silence_may_name_source_and_key_include_critical_and_be_ended(make):
    alerts = make(mine=print)
    one = alerts.silence(60.0, source="SYSTEM", dedup_key="k", include_critical=True)
    assert send(alerts, "t", level="critical", dedup_key="k").reason == "silenced"
    assert send(alerts, "t", dedup_key="other").reason == "not_started"
    assert alerts.send_alert("risk", "error", "t", "m", None, "k").reason == "not_started"
    assert alerts.unsilence(one)
    assert not alerts.unsilence(one)
    assert send(alerts, "t", dedup_key="k").reason == "not_started"


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "60", None, 31 * 86400])
def test_a_silence_always_ends(make, seconds):
    with pytest.raises(ConfigError, match="silence: seconds must be a number, more than 0 and at most"):
        make(mine=print).silence(seconds)


# -- last words ---------------------------------------------------------------------------------------------------


def test_a_critical_alert_after_stop_is_on_standard_error(make, capsys):
    alerts = make(mine=print)
    alerts.start()
    alerts.stop()
    assert send(alerts, "late", level="critical").reason == "stopped"
    assert send(alerts, "less", level="error").reason == "stopped"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "late" in lines[0]


def test_what_waits_for_its_group_is_sent_by_stop(make):
    mine = Scripted()
    alerts = make(mine=mine, group_wait=2.0)
    alerts.start()
    send(alerts, "t", level="info")
    send(alerts, "t", level="info")
    alerts.stop()
    assert [(alert.title, alert.count) for alert in mine.alerts] == [("t", 2)]
    assert channel(alerts).deduplicated == 1


def test_a_channels_close_is_called_when_it_is_idle_and_may_raise(make, caplog):
    class Closing(Scripted):
        closed = 0

        def close(self):
            self.closed += 1
            raise OSError

    mine = Closing()
    alerts = make(mine=mine)
    alerts.start()
    alerts.stop()
    assert mine.closed == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- a process that was stopped between the two steps of an alert --------------------------------------------------------


class OnDisk:
    """A ticket of a row that is written."""

    def wait(self, timeout):
        return True


def critical(title):
    return make_alert(id=f"id of {title}", time=0.0, source="system", level="critical", title=title, message="m")


def stopped_before_the_push(desk, title):
    """Offer an alert, and have the channel lose its patience with it; what is left to do."""
    offer = desk.offer(critical(title), 0.0)
    work = desk.next(_channel_desk.PUSH_WITHIN + 0.1, closing=False)[0]
    return work, lambda: desk.push(offer, f"id of {title}", OnDisk(), _channel_desk.PUSH_WITHIN + 0.2)


@pytest.fixture
def desk():
    groups = Groups(make_id=itertools.count().__next__, group_wait=0.0)
    return _channel_desk.ChannelDesk(threshold=AlertLevel.INFO, size=1, rate=None, groups=groups, now=0.0)


def test_an_alert_that_found_no_room_before_its_row_was_known_comes_back_from_the_spool(desk):
    first = desk.offer(critical("first"), 0.0)
    desk.push(first, "id of first", OnDisk(), 0.0)
    work, push = stopped_before_the_push(desk, "second")
    assert work.alert.title == "first"
    desk.take_back(work, "no answer", 6.0)  # the queue is full again
    push()
    assert desk.count["accepted"] == len(desk.queue) + desk.spooled + desk.count["dropped"] + desk.count["delivered"]
    told = []
    for now in range(10, 100):
        work, _ = desk.next(float(now), closing=False)
        if isinstance(work, Refill):
            desk.readmit(work, {"id of second": critical("second")}, float(now))
        elif work is not None and not isinstance(work, Report):
            told.append(work.alert.title)
            desk.finish(work, Ok(), float(now), closing=False)
    assert told == ["first", "second"]


@pytest.mark.parametrize("moment", ["told", "being told", "waiting"])
def test_the_row_of_an_alert_that_did_not_wait_for_it_is_settled(desk, moment):
    work, push = stopped_before_the_push(desk, "one")
    assert work.alert.title == "one"
    settled = ()
    if moment == "told":
        settled += desk.finish(work, Ok(), 6.0, closing=False).settle
    elif moment == "waiting":
        desk.take_back(work, "no answer", 6.0)
    push()
    if moment == "waiting":
        work, _ = desk.next(100.0, closing=False)
    if moment != "told":
        settled += desk.finish(work, Ok(), 101.0, closing=False).settle
    assert (*settled, *desk.expired) == ("id of one",)


def test_what_was_told_by_another_way_is_settled_also_at_the_end(clock):
    class Store:
        settled = []

        def settle(self, ids, channel):
            self.settled.append((ids, channel))

    worker = ChannelWorker(
        name="mine", channel=Scripted(), threshold=ERROR, size=9, clock=clock, store=Store(), wake_by=lambda _: None
    )
    with worker.lock:  # its thread comes no further than to its first look
        worker.start()
        worker._desk.expired.append("row")
        worker.close()
    worker.thread.join(CAP)
    assert Store.settled == [(["row"], "mine")]
