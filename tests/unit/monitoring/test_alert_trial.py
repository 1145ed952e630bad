"""Test messages, and the heartbeat."""

import logging
import threading
import urllib.error

import pytest

from hireliab.errors import ConfigError
from hireliab.monitoring import _alert_heartbeat
from hireliab.monitoring._alert_heartbeat import Heartbeat
from hireliab.monitoring.alert_channels import Misconfigured, Permanent, RateLimited, Retry, Unknown
from tests.support.alerts import Hanging, Scripted, system


@pytest.fixture
def make(clock):
    systems = []

    def make(**given):
        systems.append(system(clock, **given))
        return systems[-1]

    yield make
    for one in systems:
        one.stop(0.0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Retry("connection refused"), "not sent: connection refused"),
        (RateLimited("too many", after=5.0), "the service takes no more for now: too many"),
        (Permanent("too long"), "refused: too long"),
        (Misconfigured("the token is wrong"), "wrong settings: the token is wrong"),
        (Unknown("cut off"), "perhaps sent, no answer came: cut off"),
        (OSError("gone"), "not sent: OSError: gone"),
        (SystemExit("token=abcdef"), "not sent: SystemExit: token=***"),
    ],
)
def test_a_test_message_says_in_words_what_became_of_it(make, answer, reason):
    mine, other = Scripted(answer), Scripted()
    first, second = make(mine=mine, other=other, thresholds={"other": "critical"}).test()
    assert (first.channel, first.ok, first.reason) == ("mine", False, reason)
    assert (second.channel, second.ok, second.reason) == ("other", True, "sent")
    assert other.titles == ["test message"]
    assert other.alerts[0].message == "channel 'other' of hireliab works"


def test_a_test_message_goes_through_one_channel_when_it_is_named(make):
    mine, other = Scripted(), Scripted()
    alerts = make(mine=mine, other=other)
    assert [one.channel for one in alerts.test("other")] == ["other"]
    assert mine.alerts == []
    with pytest.raises(ConfigError, match="did you mean 'other'"):
        alerts.test("othre")


def test_a_channel_that_gives_no_answer_is_not_waited_for(make, clock):
    hangs = Hanging()
    alerts = make(mine=hangs)
    results = []
    thread = threading.Thread(target=lambda: results.extend(alerts.test(timeout=7.0)))
    thread.start()
    hangs.wait_entered()
    clock.wait_parked(1)
    clock.advance(7.0)
    thread.join(10.0)
    assert [(one.ok, one.reason, one.seconds) for one in results] == [(False, "no answer within 7 s", 7.0)]
    hangs.go.release()


class Watcher:
    """Stands for who watches the heartbeat; real requests are an integration test's."""

    def __init__(self, clock):
        self.clock = clock
        self.at = []
        self.error = None
        self.takes = 0.0
        self.always = True

    def __call__(self, request, timeout):
        assert timeout == 10.0
        self.at.append(self.clock.monotonic() - 1000.0)
        takes, self.takes = self.takes, self.takes if self.always else 0.0
        self.clock.advance(takes)
        if self.error is not None:
            raise self.error
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

    def read(self, most):
        return b"ok"


@pytest.fixture
def watcher(clock, monkeypatch):
    made = Watcher(clock)
    monkeypatch.setattr(_alert_heartbeat.urllib.request, "urlopen", made)
    return made


def test_the_heart_beats_at_once_and_then_evenly(clock, make, watcher):
    watcher.takes = 2.0
    alerts = make(mine=Scripted(), heartbeat={"url": "https://example.com/ping", "every": 10})
    with alerts:
        clock.wait_parked(3)
        for _ in range(3):
            clock.advance(clock.next_deadline())
            clock.wait_parked(3)
        assert [at for at in watcher.at if at in (0.0, 10.0, 20.0, 30.0)] == watcher.at
        assert len(watcher.at) >= 2
    assert alerts.status().heartbeats == len(watcher.at)


def test_what_was_missed_is_not_made_up_for(clock, watcher):
    heart = Heartbeat(url="https://example.com/ping", every=10.0, clock=clock)
    watcher.takes, watcher.always = 35.0, False
    heart.start()
    clock.wait_parked(1)
    assert watcher.at == [0.0, 35.0]
    assert clock.next_deadline() == 10.0
    heart.stop()
    heart.thread.join(10.0)


def test_a_heartbeat_that_is_not_taken_is_logged_once_an_outage_without_its_secret(clock, watcher, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "a1b2c3d4-e5f6-7890"
    heart = Heartbeat(url=f"https://example.com/{secret}", every=10.0, clock=clock)
    watcher.error = urllib.error.URLError(f"https://example.com/{secret} refused")
    for _ in range(3):
        heart._beat()
    assert len(caplog.records) == 1
    assert secret not in caplog.text
    assert heart.beats == 0
    watcher.error = None
    heart._beat()
    assert heart.beats == 1
    watcher.error = OSError("again")
    heart._beat()
    assert len(caplog.records) == 2
