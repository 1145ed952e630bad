"""A pipeline, a real broker that dies, and subscribers with an inbox: nothing is lost, and nothing is handled twice."""

import logging
import sqlite3
import time

import pytest

from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.messaging import outbox
from hireliab.messaging.inbox import Inbox
from hireliab.messaging.message_bus import open_message_bus
from hireliab.messaging.rabbitmq import _backoff
from hireliab.testing import ScriptedExchange
from tests.support.pipeline import Alerts
from tests.support.together import until

pytestmark = pytest.mark.slow
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(_backoff, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(outbox, "BACKOFF", 0.05)
    monkeypatch.setattr(outbox, "BACKOFF_MOST", 0.5)


@pytest.fixture
def opened():
    made = []

    def opened(thing):
        made.append(thing)
        thing.start() if hasattr(thing, "start") else thing.open()
        return thing

    yield opened
    for thing in reversed(made):
        (thing.close if isinstance(thing, Inbox) else thing.stop)()


def journalled(folder):
    db = sqlite3.connect(f"{(folder / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        return [row[0] for row in db.execute("SELECT event_id FROM event ORDER BY seq")]
    finally:
        db.close()


class Handler:
    """Keeps the ids that it was called with."""

    def __init__(self):
        self.ids = []

    def __call__(self, message):
        self.ids.append(message.id)


def test_a_broker_that_is_killed_while_orders_go_on_loses_no_event(broker_node, broker, opened, tmp_path):
    handler = Handler()
    consumer = opened(open_message_bus(broker.url, name="consumer"))
    inbox = opened(Inbox(tmp_path / "inbox.db", group="accounting"))
    consumer.subscribe("transaction.#", inbox.once(handler), group="accounting")
    alerts = Alerts()
    exchange = ScriptedExchange(clock=SYSTEM_CLOCK)
    bus = opened(open_message_bus(broker.url, name="bot"))
    pipeline = opened(
        TransactionVerificationPipeline(
            exchange_adapter=exchange, journal=tmp_path / "journal", message_bus=bus, alert_system=alerts,
            operator_interval=None,
        )
    )  # fmt: skip
    slowest = 0.0
    for n in range(60):
        if n in (15, 35):
            broker_node.kill()
        if n in (25, 45):
            broker_node.start()
        began = time.monotonic()
        order = pipeline.create_transaction(type="market_buy", symbol="BTC/USDT", amount=f"0.{n + 1:03}")
        assert bool(pipeline.execute(order)) is True
        slowest = max(slowest, time.monotonic() - began)
    until(lambda: len(handler.ids) >= 60, PATIENCE)
    until(lambda: pipeline.stats().outbox.pending == 0, PATIENCE)
    # Each once, in whatever order: one event an order, and an outbox keeps the order of each order's events alone.
    assert sorted(handler.ids) == sorted(journalled(tmp_path / "journal"))
    assert slowest < 5.0  # not a figure: an order that waited for the broker would have taken until its restart
    logging.getLogger("hireliab.tests").info("duplicates removed: %d", inbox.stats().duplicates)


def test_an_event_that_nobody_wants_waits_for_its_first_subscriber(broker, opened, tmp_path):
    alerts = Alerts()
    exchange = ScriptedExchange(clock=SYSTEM_CLOCK)
    bus = opened(open_message_bus(broker.url, name="bot"))
    pipeline = opened(
        TransactionVerificationPipeline(
            exchange_adapter=exchange, journal=tmp_path / "journal", message_bus=bus, alert_system=alerts,
            operator_interval=None,
        )
    )  # fmt: skip
    for n in range(5):
        order = pipeline.create_transaction(type="market_buy", symbol="BTC/USDT", amount=f"0.{n + 1:03}")
        assert bool(pipeline.execute(order)) is True
    until(lambda: any("no queue" in alert["message"] or "returned" in alert["message"] for alert in alerts), PATIENCE)
    assert pipeline.stats().outbox.pending == 5
    handler = Handler()
    consumer = opened(open_message_bus(broker.url, name="consumer"))
    consumer.subscribe("transaction.#", handler, group="late")
    until(lambda: len(handler.ids) >= 5, PATIENCE)
    until(lambda: pipeline.stats().outbox.pending == 0, PATIENCE)
    # No order: the first of them may be on its way back as unwanted while the queue is bound for those behind it.
    assert sorted(handler.ids) == sorted(journalled(tmp_path / "journal"))
    until(lambda: any("caught up" in alert["title"] for alert in alerts), PATIENCE)
