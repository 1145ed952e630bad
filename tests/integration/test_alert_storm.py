"""
Storms of alerts, drawn by a seed: many threads, channels that fail in every way, silences, resolutions, and restarts.

What must hold, whatever is drawn: no call raises; each channel's books balance; a critical alert that was durable is told by
each channel that took it, if not in this life then in a later one, unless the service refused it for good; and no
channel tells a message twice unless an attempt's outcome was unknown.

To replay one: HIRELIAB_STORM=<seed> pytest tests/integration/test_alert_storm.py
"""

import contextlib
import os
import random
import threading
from collections import Counter, defaultdict

import pytest

from hireliab.monitoring.alert import AlertLevel
from hireliab.monitoring.alert_channels import Misconfigured, Ok, Permanent, RateLimited, Retry, Unknown
from tests.support.alerts import system
from tests.support.together import together

SEEDS = [int(os.environ["HIRELIAB_STORM"])] if "HIRELIAB_STORM" in os.environ else [1, 2]
THREADS, CALLS, LIVES = 5, 40, 3
LEVELS = ["debug", "info", "warning", "error", "critical"]


class Service:
    """A channel's other end: what it answers is drawn, what it was told is kept over all lives."""

    def __init__(self, seed, answers):
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._answers = answers
        self.well = False  # from now on it takes everything
        self.told = []  # alerts, in order
        self.unknown = Counter()  # attempts by id whose outcome nobody knows
        self.refused = set()
        self.gate = threading.Event()

    def __call__(self, alert):
        with self._lock:
            answer = Ok() if self.well else self._draw.choice(self._answers)
            if answer == "hang":
                self.unknown[alert.id] += 1
            if isinstance(answer, Unknown):
                self.unknown[alert.id] += 1
                if self._draw.random() < 0.5:
                    self.told.append(alert)
            if isinstance(answer, Permanent):
                self.refused.add(alert.title)
            if isinstance(answer, Ok):
                self.told.append(alert)
        if answer == "hang":
            assert self.gate.wait(60.0)
            return Retry("let go")
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _services(seed):
    return {
        "well": Service(f"{seed} well", [Ok()]),
        "flaky": Service(f"{seed} flaky", [Ok(), Ok(), Retry("reset"), Unknown("no answer"), OSError("gone")]),
        "limited": Service(
            f"{seed} limited", [Ok(), RateLimited("slow down", 7.0), RateLimited("?"), Misconfigured("401")]
        ),
        "strict": Service(f"{seed} strict", [Ok(), Ok(), Permanent("400")]),
        "hung": Service(f"{seed} hung", [Ok(), Ok(), Ok(), "hang"]),
        "dead": Service(f"{seed} dead", [Retry("refused"), ConnectionRefusedError()]),
    }


@pytest.fixture
def ends():
    """What a storm that failed leaves running must not fail the tests after it."""
    with contextlib.ExitStack() as ends:
        yield ends


def _end(alerts, services):
    for service in services.values():
        service.gate.set()
    alerts.stop(5.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_loses_no_critical_alert_and_tells_nothing_twice(clock, tmp_path, seed, ends):
    services = _services(seed)
    durable = {}  # id: title, of critical alerts
    takers = defaultdict(set)  # id: channels
    for life in range(LIVES):
        alerts = system(
            clock,
            spool=tmp_path,
            queue_size=20,
            group_wait=random.Random(seed).choice([0, 2.0]),
            thresholds={"well": "debug", "strict": "warning"},
            failover={"dead": ["well"], "flaky": ["strict"], "strict": ["flaky"]},
            **services,
        )
        ends.callback(_end, alerts, services)
        ended = threading.Event()

        def storm(number, alerts=alerts, life=life):
            draw = random.Random(f"{seed} {life} {number}")
            for call in range(CALLS):
                what = draw.random()
                level = draw.choice(LEVELS)
                name = f"{life}.{number}.{call}" if level == "critical" else f"trouble {draw.randrange(12)}"
                if what < 0.75:
                    key = name if draw.random() < 0.5 else None
                    receipt = alerts.send_alert(
                        draw.choice(["risk", "exchange"]), level, name, "m", {"call": call}, key
                    )
                    assert receipt.reason in {
                        "queued", "silenced", "deduplicated", "below_threshold", "dropped", "not_started"
                    }, receipt  # fmt: skip
                    if level == "critical" and receipt.durable:
                        durable[receipt.id] = name
                        takers[receipt.id] |= set(receipt.channels)
                elif what < 0.85:
                    alerts.resolve(f"trouble {draw.randrange(12)}")
                elif what < 0.9:
                    silence = alerts.silence(draw.uniform(0.1, 30.0), title=f"trouble {draw.randrange(12)}")
                    if draw.random() < 0.5:
                        alerts.unsilence(silence)
                elif what < 0.95:
                    alerts.status()
                elif number == 0:
                    clock.advance(draw.choice([0.3, 1.0, 5.0, 31.0]))
            return True

        if life % 2 == 0:  # some before the start
            assert storm(99)
        alerts.start()
        assert all(together(THREADS, storm))
        ended.set()
        for _ in range(20):
            clock.advance(random.Random(f"{seed} {life}").choice([1.0, 7.0]))
        for service in services.values():
            service.gate.set()
        if life == LIVES - 1:
            for service in services.values():
                service.well = True
            for number in range(200):  # less than four hours: nothing becomes too old
                clock.advance(61.0)
                if not any(_missing(durable, takers, services).values()):
                    break
                threading.Event().wait(0.02 if number < 100 else 0.3)  # a busy machine has its time, too
            assert not any(_missing(durable, takers, services).values()), _missing(durable, takers, services)
        else:
            for service in services.values():
                service.gate.clear()
        for one in alerts.status().channels.values():
            _balances(one)
        if life < LIVES - 1:
            for service in services.values():
                service.gate.set()
        alerts.stop(5.0)
        for one in alerts.status().channels.values():
            _balances(one)
    for name, service in services.items():
        told = Counter(one.id for one in service.told if one.level is AlertLevel.CRITICAL)  # each its own trouble
        twice = {id_: count for id_, count in told.items() if count > 1 + service.unknown[id_]}
        assert not twice, (name, twice)


def _balances(one):
    waiting = one.queued + one.held + one.in_flight + one.spooled
    told = one.delivered + one.failed + one.dropped + one.deduplicated
    assert one.accepted == waiting + told, one


def _missing(durable, takers, services):
    missing = {}
    for name, service in services.items():
        told = {one.title for one in list(service.told)}
        missing[name] = {
            durable[id_] for id_ in durable if name in takers[id_] and durable[id_] not in told | service.refused
        }
    return missing
