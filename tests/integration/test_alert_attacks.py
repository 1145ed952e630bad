"""What broke the alerts when somebody set out to break them: hostile values, wrong settings, spoiled rows, the exit."""

import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime, tzinfo
from pathlib import PurePosixPath

import pytest

from hireliab.errors import ConfigError
from hireliab.monitoring import alert_spool, alert_system
from hireliab.monitoring.alert_channels import Retry
from hireliab.monitoring.alert_system import AlertSystem
from hireliab.monitoring.log_handler import AlertHandler
from hireliab.testing import FakeClock
from tests.support.alerts import Hanging, Scripted, channel, send, system
from tests.support.together import until

TOKEN = "123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"
SLACK = "slack://Tabcdefghi/Babcdefghi/s3cr3ts3cr3ts3cr3ts3"
CAP = 60


@pytest.fixture
def clock():
    return FakeClock()


def run(script, home, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments, *(["-c", script] if script else [])],
        capture_output=True,
        text=True,
        timeout=CAP,
        check=False,
        env={**os.environ, "HIRELIAB_HOME": str(home), **variables},
    )


# -- the exit -------------------------------------------------------------------------------------------------------


def test_a_system_that_is_a_local_of_main_is_stopped_at_exit(tmp_path):
    done = run(
        """
from hireliab.monitoring.alert_system import AlertSystem
def main():
    alerts = AlertSystem({"channels": {"mine": lambda alert: print("sent:", alert.title, flush=True)}, "spool": False})
    alerts.start()
    alerts.send_alert("system", "info", "waits for its group", "m")
main()
""",
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "sent: waits for its group\n"), done.stderr


def test_a_critical_alert_of_a_system_that_was_never_started_is_on_standard_error_at_exit(tmp_path):
    done = run(
        """
from hireliab.monitoring.alert_system import AlertSystem
alerts = AlertSystem({"channels": {"mine": lambda alert: None}, "spool": False})
alerts.send_alert("system", "critical", "nobody called start", "m")
""",
        tmp_path,
    )
    assert done.returncode == 0
    assert "nobody called start" in done.stderr


def test_a_stop_from_inside_a_channel_gives_the_spool_back(clock, tmp_path):
    alerts = system(clock, mine=lambda _alert: alerts.stop(0.0), spool=tmp_path)
    alerts.start()
    assert send(alerts, level="critical").accepted
    until(lambda: alerts.status().spool.state == "closed")
    assert channel(alerts).delivered == 1
    mine = Scripted()
    with system(clock, mine=mine, spool=tmp_path) as second:
        assert second.status().spool.folder == tmp_path  # not one of its own beside it
        clock.wait_parked(2)
        assert mine.alerts == []  # what was told is settled


# -- hostile values -------------------------------------------------------------------------------------------------


class Meta(type):
    @property
    def __module__(cls):
        raise RuntimeError("module")

    @property
    def __name__(cls):
        raise RuntimeError("name")


class Hostile(metaclass=Meta):
    pass


class HostileError(Exception, metaclass=Meta):
    pass


class Calls(bytes):
    def __len__(self):
        raise AssertionError("ran")


class Exits(bytes):
    def __len__(self):
        raise SystemExit(3)


class Path(PurePosixPath):
    def __str__(self):
        raise SystemExit(3)


class Zone(tzinfo):
    def utcoffset(self, _when):
        raise SystemExit(3)


class Key:
    armed = False

    def __hash__(self):
        if self.armed:
            raise SystemExit(3)
        return 1


def table():
    key = Key()
    made = {key: 1}
    key.armed = True
    return made


HOSTILE = {
    "instance": Hostile,
    "error": HostileError,
    "bytes": lambda: Calls(b"x"),
    "bytes that exit": lambda: Exits(b"x"),
    "path": lambda: Path("/x"),
    "zone": lambda: datetime(2025, 1, 1, tzinfo=Zone()),
    "key": table,
    "class": lambda: Hostile,
    "class of errors": lambda: HostileError,
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("where", ["context", "message", "title", "source", "level", "dedup_key"])
def test_what_cannot_be_rendered_is_still_an_alert(clock, make, where):
    mine = Scripted()
    with system(clock, mine=mine) as alerts:
        given = {"source": "risk", "level": "critical", "title": "t", "message": "m"}
        given[where] = {"value": make()} if where == "context" else make()
        assert alerts.send_alert(**given).reason == "queued"
        until(lambda: mine.alerts)


def test_a_bug_of_ours_in_rendering_still_sends_something(clock, monkeypatch):
    def broken(**given):
        raise RuntimeError("a bug")

    mine = Scripted()
    with system(clock, mine=mine) as alerts:
        monkeypatch.setattr(alert_system, "make_alert", broken)
        receipt = alerts.send_alert("risk", "critical", "liquidation is near", f"token={'x' * 20}", {"a": 1})
        assert receipt.accepted
        until(lambda: mine.alerts)
    (told,) = mine.alerts
    assert (told.title, str(told.source), told.level) == ("liquidation is near", "risk", 50)
    assert told.notes == ("a part of this alert could not be shown",)
    assert "xxx" not in told.message


def test_a_log_line_that_cannot_be_printed_is_an_alert_all_the_same(clock):
    class Bad:
        def __str__(self):
            raise RuntimeError("no")

    mine = Scripted()
    with system(clock, mine=mine) as alerts:
        log = logging.getLogger("a bot that cannot print")
        handler = AlertHandler(alerts)
        log.addHandler(handler)
        log.propagate = False  # logging's own handlers would print a traceback
        try:
            log.error(Bad())
            log.error("%s", Bad())
        finally:
            log.removeHandler(handler)
        until(lambda: len(mine.alerts) == 2)
    assert "Bad" in mine.alerts[0].title


# -- silences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{"title": 5}, {"title": b"x*"}, {"title": object()}, {"dedup_key": []}, {"source": []}]
)
def test_a_silence_of_a_wrong_type_is_refused(clock, given):
    with system(clock, mine=Scripted()) as alerts:
        with pytest.raises(ConfigError, match="must be a text"):
            alerts.silence(60.0, **given)
        assert send(alerts, "real").reason == "queued"


def test_a_silence_that_fails_covers_nothing(clock, monkeypatch):
    with system(clock, mine=Scripted()) as alerts:
        alerts.silence(60.0, title="x*")
        monkeypatch.setattr("hireliab.monitoring._alert_silences._pattern", lambda _title: 5)
        assert send(alerts, "xx").reason == "queued"


def test_a_silence_takes_brackets_as_they_are(clock):
    with system(clock, mine=Scripted()) as alerts:
        alerts.silence(60.0, title="order [BTC] ?*", source="SYSTEM")
        assert send(alerts, "order [BTC] ?17").reason == "silenced"
        assert send(alerts, "order [BTC] x17").reason == "queued"
        assert send(alerts, "order B ?17").reason == "queued"
        alerts.silence(60.0, title="two\nlines", dedup_key="a\tkey")
        assert send(alerts, "two\nlines", dedup_key="a\tkey").reason == "silenced"  # cleaned as alerts are


# -- settings that hold a secret in the wrong place ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"channels": {f"tgram://{TOKEN}/123": True}},
        {"channels": {"ops": {f"tgram://{TOKEN}/123": True}}},
        {"channels": {"ops": {"url": "json://localhost"}}, "level_thresholds": {"ops": SLACK}},
        {"channels": {"ops": {"url": "json://localhost"}}, "failover": {"ops": SLACK}},
        {"channels": {"console": True}, SLACK: True},
        {"channels": {SLACK: print, "ops": True}},
        {"name": SLACK},
        {"channels": {"console": True}, "queue_size": SLACK},
        {"channels": {"console": True}, "spool": {"url": SLACK}},
    ],
)
def test_an_address_in_the_wrong_place_is_not_echoed(config):
    with pytest.raises(ConfigError) as caught:
        AlertSystem({"spool": False, **config})
    said = f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert "s3cr3t" not in said
    assert "AAbbCC" not in said


@pytest.mark.parametrize("given", ["json", "address", "long"])
def test_the_command_line_does_not_echo_settings_that_stand_in_the_variable(tmp_path, given):
    settings = json.dumps({"channels": {"ops": {"url": f"tgram://{TOKEN}/123"}}})
    text = {"json": settings, "address": f"tgram://{TOKEN}/123", "long": settings + " " * 300}[given]
    done = run("", tmp_path, "-m", "hireliab", "alerts", "test", HIRELIAB_ALERTS=text)
    assert TOKEN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


# -- a spool that somebody spoiled --------------------------------------------------------------------------------------

ROWS = {
    "deep": "[" * 100_000,
    "infinite": '{"id": 1e999, "time": 1, "source": "s", "level": 40, "title": "t", "message": "m", "count": 1e999}',
    "list for a level": '{"id": "a", "time": 1, "source": "s", "level": [40], "title": "t", "message": "m"}',
    "number": "5",
    "null": "null",
    "list": "[]",
    "surrogate": b"\xed\xa0\x80",
    "integer": 7,
    "real": 1.5,
    "no utf-8": b"\xff\xfe",
    "nothing": b"",
    "odd fields": '{"id": "a", "time": "nan", "source": "s", "level": 40, "title": "t", "message": "m", "since": {}}',
}


@pytest.mark.parametrize("body", ROWS.values(), ids=ROWS)
def test_a_row_that_cannot_be_read_does_not_keep_the_others_from_being_told(clock, tmp_path, body):
    first = system(clock, spool=tmp_path, mine=Scripted(*[Retry("down")] * 99))
    first.start()
    assert send(first, "one", level="critical").durable
    assert send(first, "two", level="critical").durable
    first.stop(0.0)
    on = sqlite3.connect(tmp_path / "alerts.db")
    on.execute("UPDATE alerts SET body = ? WHERE seq = 1", (body,))
    on.commit()
    on.close()
    mine = Scripted()
    with system(clock, spool=tmp_path, mine=mine):
        until(lambda: "two" in mine.titles)


def test_two_threads_that_fork_at_once_leave_no_lock_behind(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(alert_spool, "_FORK_WAITS", 0.0)
    made = alert_spool.AlertSpool(tmp_path, clock=clock)
    alert_spool._before_fork()
    other = threading.Thread(target=alert_spool._before_fork)  # finds it held, and goes on
    other.start()
    other.join(10.0)
    assert made._inside.locked()
    alert_spool._after_fork()
    assert not made._inside.locked()


# -- standard error that nobody reads -----------------------------------------------------------------------------------


def test_a_last_resort_that_blocks_does_not_stop_the_watchdog(clock, monkeypatch):
    entered, go = threading.Semaphore(0), threading.Event()

    def write(_alert, more=False):
        entered.release()
        go.wait(10.0)

    monkeypatch.setattr("hireliab.monitoring._alert_failover.last_words", write)
    monkeypatch.setattr("hireliab.monitoring._alert_failover.WRITE_WAIT", 0.0)
    alerts = system(clock, mine=Hanging())
    failover = alerts._crew.failover
    one = alert_system.make_alert(id="1", time=0.0, source="system", level="critical", title="t", message="m")
    failover._last_resort(one)
    assert entered.acquire(timeout=10.0)
    failover._last_resort(one)  # comes back, and starts no second thread
    assert not entered.acquire(timeout=0.0)
    go.set()
    failover._writer.join(10.0)
    failover._last_resort(one)
    assert entered.acquire(timeout=10.0)
    failover._writer.join(10.0)
    alerts.stop(0.0)
