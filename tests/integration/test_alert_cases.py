"""
The alert cases of alerts-and-bus.md, sections 4 and 5, and where each is tested.

====  ==============================================  ==============================================================
case  what                                            tests
====  ==============================================  ==============================================================
F1    kill -9 while alerts are pending                test_alerts_crash: after_kill_9…, a_kill_in_the_middle…
F2    endpoints hang or drip                          test_alerts_channels: channels_that_hang_or_drip…; test_alert_delivery:
                                                      two_sends_are_abandoned_and_no_more…
F3    no network for an hour, a storm meanwhile       here: an_hour_without_network…
F4    clock steps                                     test_alert_delivery: the_wall_clock_may_step…; test_alerts_channels:
                                                      a_wall_clock_that_steps…
F5    disk full, deleted, read-only                   test_alerts_crash: a_full_disk…, a_file_that_may_not_grow…;
                                                      test_alert_spool; here: a_spool_that_cannot_be_written…
F6    fork with threads at work                       test_alerts_crash: a_fork_with_channels_at_work…;
                                                      test_alert_system_process: a_forked_child…
F7    stop: twice, from a channel, from handlers      test_alert_system; here: stop_from_a_signal_handler…
F8    planted secrets                                 test_alerts_channels: no_planted_secret…; test_redaction
F9    10,000 log lines a second                       test_alerts_channels: a_storm_of_log_lines…; test_log_handler
1     CRITICAL while the interpreter ends             here: critical_alerts_of_the_last_moments…
2, 3  hostile, changing, endless contexts             test_freeze, test_alert_freeze, test_alert_system
4     10 MB titles, control characters, markup        test_freeze, test_alerts_apprise
5     refused markup, then refused plain text         test_alerts_apprise: a_text_that_is_refused…
6     Retry-After of every kind                       test_alert_delivery: what_a_service_asks_for…; test_alerts_apprise
7     a success after the total deadline              test_alert_delivery: a_success_that_comes_late…
8     50,000 distinct titles                          here: a_storm_of_titles…
9     firing and resolved each 100 ms                 test_alert_groups: flapping…; here: flapping…
10    resolve of the unknown, twice, before firing    test_alert_groups; test_alert_groups_model
11    the sender's own failure as an alert            test_alerts_channels: the_senders_own_errors…
12    all channels down                               test_alert_delivery: when_no_channel_works…; here: what_no_channel…
13    two bots on one folder                          test_alerts_crash: two_bots_on_one_folder…; test_alert_spool
14    old, newer, torn, huge spools                   test_alert_spool; test_alerts_crash: a_spool_of_one_gigabyte…
15    crash loop                                      test_alerts_crash: a_crash_loop_pages_once; here: a_restart…
16    fork while a lock is held                       test_alert_system: a_forked_child…; test_alert_system_process
====  ==============================================  ==============================================================
"""

import os
import subprocess
import sys
import time

import pytest

from hireliab.monitoring.alert import AlertLevel
from hireliab.monitoring.alert_channels import Retry
from tests.support.alerts import Hanging, Scripted, channel, send, system

CAP = 60.0


@pytest.fixture
def make(clock, tmp_path):
    systems = []

    def make(**given):
        systems.append(system(clock, **{"spool": tmp_path / "spool", **given}))
        return systems[-1]

    yield make
    for one in systems:
        one.stop(0.0)


def until(condition):
    give_up = time.monotonic() + CAP
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


def run(script, tmp_path, code=0):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=CAP,
        check=False,
        env={**os.environ, "HIRELIAB_HOME": str(tmp_path)},
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout, done.stderr


# -- storms -------------------------------------------------------------------------------------------------------


def test_an_hour_without_network_loses_no_critical_alert_and_every_other_is_counted(make, clock):
    mine = Scripted(*[Retry("network is unreachable")] * 1_000_000)
    alerts = make(mine=mine, queue_size=100, thresholds={"mine": "debug"})
    alerts.start()
    levels = ["debug", "info", "warning", "error"]
    critical = []
    for minute in range(60):
        for number in range(100):
            send(alerts, f"{minute} {number}", level=levels[number % 4])
        for number in range(5):
            receipt = send(alerts, f"critical {minute} {number}", level="critical")
            assert receipt.durable
            critical.append(receipt.id)
        clock.advance(60.0)
    status = channel(alerts)  # whose sum is checked
    assert status.queued <= 101
    assert status.spooled > 0
    begin = len(mine.alerts)  # before the first one can be told
    mine.answers.clear()
    for _ in range(2000):
        told = {alert.id for alert in mine.alerts[begin:]}
        if set(critical) <= told and not channel(alerts).spooled:
            break
        clock.advance(1.0)
        time.sleep(0.002)
    assert set(critical) <= told
    channel(alerts)
    until(lambda: channel(alerts).in_flight == 0)
    assert channel(alerts).dropped > 0


def test_a_storm_of_titles_is_bounded_and_a_critical_alert_is_first(clock, make):
    mine = Hanging()
    alerts = make(mine=mine, spool=False, thresholds={"mine": "debug"})
    alerts.start()
    send(alerts, "first", level="critical")
    mine.wait_entered()
    for number in range(50_000):
        send(alerts, f"order {number} is late", level="warning")
    send(alerts, "the account is empty", level="critical")
    assert channel(alerts).groups <= 2000
    assert channel(alerts).queued <= 1000
    mine.go.release(2)
    mine.wait_entered()
    mine.wait_entered()
    assert mine.alerts[1].level is AlertLevel.CRITICAL
    mine.go.release(10_000)
    alerts.stop(None)
    assert any("the account is empty" in f"{one.title}{one.message}{one.also}" for one in mine.alerts[:3])


def test_flapping_is_bounded_through_the_whole_system(clock, make):
    mine = Scripted()
    alerts = make(mine=mine, spool=False)
    alerts.start()
    for number in range(1200):  # two minutes, each 100 ms
        if number % 2 == 0:
            send(alerts, "flap", dedup_key="k")
        else:
            alerts.resolve("k")
        clock.advance(0.1)
        clock.wait_parked(2)
    clock.advance(61.0)
    clock.wait_parked(2)
    assert len(mine.alerts) <= 8
    assert mine.alerts[-1].resolved


def test_a_burst_of_100_000_equal_alerts_is_one_message_and_one_summary_and_costs_little_memory(tmp_path):
    out, _ = run(
        """
import gc, time
from hireliab.monitoring.alert_system import AlertSystem
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
got = []
alerts = AlertSystem({"channels": {"one": got.append, "two": got.append}, "group_interval": 1.0})
alerts.start()
alerts.send_alert("exchange", "critical", "warm up", "m")
before = rss()
begin = time.monotonic()
for i in range(100_000):
    alerts.send_alert("exchange", "error", "the same", f"message {i}", {"i": i})
took = time.monotonic() - begin
grown = (rss() - before) / 2**20
time.sleep(1.2)
alerts.stop()
same = [a for a in got if a.title == "the same"]
print(len(same), int(took), round(grown, 1), sorted(a.count for a in same)[-2:])
""",
        tmp_path,
    )
    sent, took, grown, counts = out.split(" ", 3)
    assert int(sent) <= 2 * (2 + int(took) + 1)  # a first one, and a summary for each begun interval, to each of two
    assert float(grown) <= 20
    assert counts.strip() == "[100000, 100000]"


# -- the spool ----------------------------------------------------------------------------------------------------


def test_what_the_queue_has_no_room_for_waits_in_the_spool_and_is_told(make, clock):
    mine = Hanging()
    alerts = make(mine=mine, queue_size=2)
    alerts.start()
    send(alerts, "held", level="critical")
    mine.wait_entered()
    receipts = [send(alerts, f"c{number}", level="critical") for number in range(6)]
    assert all(receipt.durable and receipt.accepted for receipt in receipts)
    assert (channel(alerts).queued, channel(alerts).spooled, channel(alerts).dropped) == (2, 4, 0)
    mine.go.release(100)
    until(lambda: channel(alerts).delivered == 7)
    assert sorted(one.title for one in mine.alerts) == ["c0", "c1", "c2", "c3", "c4", "c5", "held"]
    until(lambda: alerts.status().spool.rows == 0)
    assert channel(alerts).spooled == 0
    alerts.stop()


def test_what_is_left_by_stop_is_told_by_the_next_start_with_its_time_and_id(make, clock):
    dead = Scripted(*[Retry("down")] * 1000)
    first = make(mine=dead)
    first.start()
    receipt = send(first, "trouble", level="critical")
    first.stop()
    assert (channel(first).spooled, channel(first).dropped) == (1, 0)
    when = clock.time()
    clock.advance(3600.0)
    mine = Scripted()
    second = make(mine=mine)
    second.start()
    until(lambda: mine.alerts)
    (told,) = mine.alerts
    assert (told.id, told.time, told.replayed, told.title) == (receipt.id, when, True, "trouble")
    until(lambda: second.status().spool.rows == 0)
    second.stop()
    third = make(mine=mine)
    third.start()
    third.stop()
    assert len(mine.alerts) == 1


def test_what_is_older_than_its_time_to_live_is_not_told_by_a_later_start(make, clock):
    first = make(mine=Scripted(*[Retry("down")] * 1000))
    first.start()
    send(first, "old", level="error")
    first.stop()
    clock.advance(6 * 3600.0 + 1)
    mine = Scripted()
    second = make(mine=mine)
    second.start()
    until(lambda: channel(second).accepted and not channel(second).queued)
    until(lambda: second.status().spool.rows == 0)
    second.stop()
    assert "old" not in [alert.title for alert in mine.alerts]
    assert channel(second).dropped == 1


def test_the_alerts_of_a_channel_that_is_gone_are_told_by_the_others(make, clock):
    first = make(old=Scripted(*[Retry("down")] * 1000))
    first.start()
    send(first, "trouble", level="critical")
    first.stop()
    new, high = Scripted(), Scripted()
    second = make(new=new, high=high, thresholds={"new": "error"})
    second.start()
    until(lambda: new.alerts and high.alerts)
    until(lambda: second.status().spool.rows == 0)
    second.stop()
    assert new.titles == high.titles == ["trouble"]


def test_a_restart_does_not_tell_again_what_was_told_and_counts_it(make, clock):
    for life in range(20):
        mine = Scripted()
        alerts = make(mine=mine)
        alerts.start()
        receipt = send(alerts, "the bot crashed", level="critical")
        assert receipt.reason == ("queued" if life == 0 else "deduplicated")
        clock.wait_parked(2)
        # A kill: nothing is said any more. What is counted is not told by a stop that never comes.
        for worker in alerts._crew.workers:
            worker._desk.groups.take_all()
        alerts.stop()
        assert len(mine.alerts) == (1 if life == 0 else 0)
        clock.advance(3.0)
    mine = Scripted()
    alerts = make(mine=mine)
    alerts.start()
    clock.advance(600.0)
    send(alerts, "the bot crashed", level="critical")
    until(lambda: mine.alerts)
    alerts.stop()


def test_an_end_reaches_a_channel_that_a_former_process_told(make, clock):
    first, second = Scripted(), Scripted()
    alerts = make(mine=first)
    alerts.start()
    send(alerts, "trouble", dedup_key="k")
    clock.wait_parked(2)
    alerts.stop()
    alerts = make(mine=second)
    alerts.start()
    assert alerts.resolve("k", "mended")
    until(lambda: second.alerts)
    assert (second.alerts[0].resolved, second.alerts[0].message) == (True, "mended")
    alerts.stop()
    third = Scripted()
    alerts = make(mine=third)
    alerts.start()
    assert not alerts.resolve("k")
    alerts.stop()


def test_what_no_channel_takes_stays_in_the_spool_and_the_status_says_down(make, clock, capsys):
    mine, other = Scripted(*[Retry("a")] * 9999), Scripted(*[Retry("b")] * 9999)
    alerts = make(mine=mine, other=other)
    alerts.start()
    send(alerts, "trouble", level="critical")

    def down():
        clock.advance(1.0)
        return {one.state for one in alerts.status().channels.values()} == {"down"}

    until(down)
    # What a stop meets inside a send may have arrived, and is told by nobody else; it stays in the spool.
    until(lambda: not any(one.in_flight for one in alerts.status().channels.values()))
    assert alerts.status().spool.rows == 1
    told = ""

    def is_told():
        nonlocal told
        clock.advance(1.0)
        told += capsys.readouterr().err
        return "CRITICAL" in told

    until(is_told)
    assert "trouble" in told
    alerts.stop(0.0)


def test_a_spool_that_cannot_be_written_is_told_once_and_costs_durability_alone(make, clock, tmp_path):
    (tmp_path / "spool").write_text("a file where the folder should be")
    mine = Scripted()
    alerts = make(mine=mine)
    alerts.start()
    receipt = send(alerts, "trouble")
    assert receipt.accepted
    until(lambda: mine.alerts)
    assert not receipt.durable
    until(lambda: any("spool" in title for title in mine.titles))
    for _ in range(20):
        clock.advance(5.0)
        time.sleep(0.002)
    assert len([title for title in mine.titles if "spool" in title]) == 1
    alerts.stop()


# -- ends ---------------------------------------------------------------------------------------------------------


def test_critical_alerts_of_the_last_moments_are_sent_or_on_standard_error(tmp_path):
    out, err = run(
        """
import atexit, sys, threading
from hireliab.monitoring.alert_system import AlertSystem
def channel(alert):
    print("sent:", alert.title, flush=True)
alerts = AlertSystem({"channels": {"mine": channel}})
class Bot:
    def __del__(self):
        receipt = alerts.send_alert("system", "critical", "finaliser", "m")
        print(receipt.reason, flush=True)
atexit.register(lambda: alerts.send_alert("system", "critical", "after our own handler", "m"))
alerts.start()
atexit.register(lambda: alerts.send_alert("system", "critical", "exit handler", "m"))
keep = Bot()
threading.Thread(target=lambda: alerts.send_alert("system", "critical", "daemon", "m"), daemon=True).start()
""",
        tmp_path,
    )
    assert {"sent: exit handler", "sent: daemon"} <= set(out.splitlines())
    assert "after our own handler" in err
    assert "finaliser" in err or "sent: finaliser" in out
    assert "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="this system has no signals")
def test_stop_from_a_signal_handler_in_the_middle_of_anything_returns(tmp_path):
    out, _ = run(
        """
import os, signal, time
from hireliab.monitoring.alert_system import AlertSystem
got = []
alerts = AlertSystem({"channels": {"mine": got.append}})
alerts.start()
def handler(number, frame):
    begin = time.monotonic()
    alerts.stop(2.0)
    print("stopped", time.monotonic() - begin < 4.0, flush=True)
    raise SystemExit(0)
signal.signal(signal.SIGTERM, handler)
signal.signal(signal.SIGALRM, lambda n, f: os.kill(os.getpid(), signal.SIGTERM))
signal.setitimer(signal.ITIMER_REAL, 0.2)
i = 0
while True:
    i += 1
    alerts.send_alert("system", ("info", "error")[i % 2], f"t {i}", "m")
""",
        tmp_path,
    )
    assert out == "stopped True\n"
