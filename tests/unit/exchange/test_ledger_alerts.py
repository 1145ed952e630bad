"""Which dedup key an alert about a transaction gets, from sinks of every signature."""

import pytest

from hireliab.exchange._ledger import _EVENT, _takes_a_key
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.monitoring._alert_hooks import PipelineSink
from hireliab.monitoring.alert import EVENT_KEY
from hireliab.monitoring.alert_system import AlertSystem
from hireliab.testing import FakeClock, ScriptedExchange
from tests.support.alerts import Scripted, system
from tests.support.together import until


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def exchange(clock):
    return ScriptedExchange(clock=clock)


@pytest.fixture
def make(clock, exchange, tmp_path):
    made = []

    def make(alerts):
        pipeline = TransactionVerificationPipeline(
            exchange_adapter=exchange,
            journal=tmp_path / f"journal{len(made)}",
            name=f"p{len(made)}",
            alert_system=alerts,
            clock=clock,
            operator_interval=None,
        )
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.stop()


class Plain:
    def __init__(self):
        self.got = []

    def send_alert(self, source, level, title, message, context=None):
        self.got.append({"title": title, "level": level, "context": context})


class Takes(Plain):
    def send_alert(self, source, level, title, message, context=None, dedup_key=None):
        self.got.append({"title": title, "level": level, "context": context, "dedup_key": dedup_key})


class TakesAll(Plain):
    def send_alert(self, **alert):
        self.got.append(alert)


class ByPositionOnly(Plain):
    def send_alert(self, dedup_key=None, /, *, source, level, title, message, context=None):
        assert dedup_key is None
        super().send_alert(source, level, title, message, context)


class Raises(Plain):
    """Its own TypeError must not be taken for a missing parameter, nor the alert be sent twice."""

    def send_alert(self, source, level, title, message, context=None, dedup_key=None):
        self.got.append({"title": title, "dedup_key": dedup_key})
        raise TypeError("unexpected keyword argument 'dedup_key'")


class Unreadable:
    """A callable whose signature cannot be read, as of some extension modules."""

    def __init__(self):
        self.got = []

    @property
    def __signature__(self):
        raise ValueError

    def __call__(self, **alert):
        self.got.append(alert)


def two_that_are_lost(clock, exchange, pipeline):
    """Two orders for the same, whose answers are lost; their ids."""
    ids = []
    for _ in range(2):
        exchange.script.append("request_lost")
        transaction = pipeline.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.001")
        pipeline.submit(transaction)
        clock.advance_until(lambda transaction=transaction: transaction.state.is_terminal, limit=3600.0)
        ids.append(transaction.id)
    return ids


@pytest.mark.parametrize("kind", [Takes, TakesAll, Raises])
def test_two_unknown_outcomes_with_one_title_have_two_keys(clock, exchange, make, kind):
    sink = kind()
    ids = two_that_are_lost(clock, exchange, make(sink))
    unknown = [alert for alert in sink.got if alert["title"].endswith("unknown")]
    assert len({alert["title"] for alert in unknown}) == 1
    keys = [alert["dedup_key"] for alert in unknown]
    assert len(keys) == 2  # each was told once, also by one that raises
    assert all(key.startswith(_EVENT) and txn_id in key for key, txn_id in zip(keys, ids, strict=True))


@pytest.mark.parametrize("kind", [Plain, ByPositionOnly])
def test_a_sink_that_takes_no_key_is_given_none(clock, exchange, make, kind):
    sink = kind()
    two_that_are_lost(clock, exchange, make(sink))
    assert len([alert for alert in sink.got if alert["title"].endswith("unknown")]) == 2


def test_a_sink_whose_signature_cannot_be_read_is_told_without_a_key(clock, exchange, make):
    sink = type("Sink", (), {})()
    sink.send_alert = Unreadable()
    assert not _takes_a_key(sink)
    two_that_are_lost(clock, exchange, make(sink))
    assert all("dedup_key" not in alert for alert in sink.send_alert.got)
    assert len(sink.send_alert.got) >= 2


def test_the_signature_is_looked_at_once(clock, exchange, make, monkeypatch):
    sink = Takes()
    pipeline = make(sink)
    monkeypatch.setattr("hireliab.exchange._ledger._takes_a_key", None)
    two_that_are_lost(clock, exchange, pipeline)
    assert sink.got


def test_who_takes_a_key():
    assert _takes_a_key(AlertSystem({"channels": {"mine": print}, "spool": False}))
    assert not _takes_a_key(
        PipelineSink(AlertSystem({"channels": {"mine": print}, "spool": False}))
    )  # it makes its own
    assert not _takes_a_key(object())
    assert _EVENT == EVENT_KEY


def test_an_alert_system_tells_of_both(clock, exchange, make):
    mine = Scripted()
    with system(clock, mine=mine) as alerts:
        two_that_are_lost(clock, exchange, make(alerts))
        until(lambda: len([title for title in mine.titles if title.endswith("unknown")]) == 2)
