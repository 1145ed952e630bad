"""The sign of life against a real server: on time, and neither stopped nor hurried by what the server does."""

import logging
import threading

import pytest

from hireliab.monitoring import _alert_heartbeat
from hireliab.monitoring._alert_heartbeat import TOTAL, Heartbeat
from hireliab.testing import FakeClock
from tests.support import alert_endpoints as ends
from tests.support.alert_endpoints import endpoint
from tests.support.alerts import Scripted, system
from tests.support.together import until

EVERY = 60.0
PATH = "ping/0123456789abcdef0123456789abcdef01234567"
"""The path of such a service is its password."""
CALL = "hireliab.alerts.heartbeat-call"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def start(clock):
    hearts = []

    def start(url):
        heart = Heartbeat(url=f"{url}/{PATH}?bot=one", every=EVERY, clock=clock)
        hearts.append(heart)
        heart.start()
        return heart

    yield start
    for heart in hearts:
        heart.stop()
        heart.thread.join(10.0)
        assert not heart.thread.is_alive()


def calls():
    return [thread for thread in threading.enumerate() if thread.name == CALL]


def rest(clock):
    """Until the thread waits for its next call, and not for an answer."""
    until(lambda: not calls() and clock.parked())


def test_it_calls_at_once_and_then_at_the_interval(clock, start):
    with endpoint() as watcher:
        heart = start(watcher.url)
        for number in range(1, 5):
            until(lambda number=number: heart.beats == number)
            rest(clock)
            clock.advance(EVERY - 1.0)
            rest(clock)
            assert watcher.taken == number
            clock.advance(1.0)
        until(lambda: heart.beats == 5)
        first = watcher.server.requests[0]
        assert (first.method, first.target) == ("GET", f"/{PATH}?bot=one")
        assert first.header("User-Agent") == "hireliab"


@pytest.mark.parametrize(
    "mode",
    [
        ends.status("500 Internal Server Error"),
        ends.status("404 Not Found"),
        ends.reset,
        ends.hang,
        ends.drip_head(0.05),
    ],
    ids=["500", "404", "reset", "hang", "drip"],
)
def test_a_call_that_fails_counts_for_nothing_and_stops_none(clock, start, caplog, mode):
    caplog.set_level(logging.DEBUG)
    with endpoint(mode) as watcher:
        heart = start(watcher.url)
        watcher.wait_taken(1)
        until(lambda: not calls() or clock.parked())
        clock.advance(TOTAL)
        until(lambda: "was not taken" in caplog.text)
        clock.wait_parked()
        assert heart.beats == 0
        watcher.mode = ends.ok
        clock.advance(EVERY)
        until(lambda: heart.beats == 1)
        assert len([line for line in caplog.messages if "was not taken" in line]) == 1
        assert PATH not in caplog.text


def test_a_body_that_drips_is_not_waited_for(clock, start):
    with endpoint(ends.drip(0.05)) as watcher:
        heart = start(watcher.url)
        for number in range(1, 4):
            until(lambda number=number: heart.beats == number)
            rest(clock)
            clock.advance(EVERY)


def test_calls_that_hang_do_not_pile_up(clock, start):
    with endpoint(ends.hang) as watcher:
        heart = start(watcher.url)
        for _ in range(10):
            clock.wait_parked()
            clock.advance(TOTAL)
            clock.wait_parked()
            clock.advance(EVERY)
        clock.wait_parked()
        until(lambda: watcher.taken == _alert_heartbeat.MOST_ABANDONED)
        assert len(calls()) == _alert_heartbeat.MOST_ABANDONED
        assert heart.beats == 0
    until(lambda: not calls())  # the server is gone, and they come back
    with endpoint() as other:
        heart._url = other.url
        rest(clock)
        clock.advance(EVERY)
        until(lambda: heart.beats == 1)


def test_a_dead_server_is_told_once_for_each_outage(clock, start, caplog):
    with endpoint() as watcher:
        url = watcher.url
    heart = start(url)

    def lines():
        return len([line for line in caplog.messages if "was not taken" in line])

    for _ in range(3):
        until(lambda: "was not taken" in caplog.text)
        rest(clock)
        clock.advance(EVERY)
    assert heart.beats == 0
    assert lines() == 1
    with endpoint() as watcher:
        heart._url = watcher.url
        rest(clock)
        clock.advance(EVERY)
        until(lambda: heart.beats == 1)
        rest(clock)
        watcher.mode = ends.status("503 Service Unavailable")
        clock.advance(EVERY)
        until(lambda: lines() == 2)


def test_stop_does_not_wait_for_a_call_that_hangs(clock):
    with endpoint(ends.hang) as watcher:
        alerts = system(clock, mine=Scripted(), heartbeat={"url": f"{watcher.url}/{PATH}", "every": EVERY})
        alerts.start()
        watcher.wait_taken(1)
        thread = alerts._crew.heartbeat.thread
        alerts.stop(5.0)  # on a clock that stands still: nothing here waited for a time to pass
        thread.join(10.0)
        assert not thread.is_alive()
        assert alerts.status().heartbeats == 0
    until(lambda: not calls())


def test_a_system_says_how_many_were_taken(clock):
    with endpoint() as watcher:
        with system(clock, mine=Scripted(), heartbeat={"url": f"{watcher.url}/{PATH}", "every": EVERY}) as alerts:
            until(lambda: alerts.status().heartbeats == 1)
        assert PATH not in repr(alerts.status())
