"""What a message bus hears of a pipeline: journalled in the commit of the record, published by the outbox's thread."""

import json
import os
import sqlite3
import threading

import pytest

from hireliab.errors import ConfigError
from hireliab.exchange._operator_offline import resolve
from hireliab.exchange.adapter import OrderStatus
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import State, Verdict
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.testing import FakeClock
from tests.support.pipeline import decide, finish, limit, market
from tests.support.together import Background, in_child, until

ALL = ("hireliab.txn.", "hireliab.resolver.", "hireliab.outbox.")


class Bus:
    """Keeps what it is given, on which thread; raises while it is down."""

    def __init__(self):
        self.heard, self.threads = [], set()
        self.down = False

    def publish(self, topic, data, *, message_id):
        assert message_id == data["event_id"]
        if self.down:
            raise OSError("no broker")
        self.threads.add(threading.current_thread().name)
        self.heard.append((topic, data))

    def topics(self, count):
        until(lambda: len(self.heard) >= count)
        return [topic for topic, _ in self.heard]

    def ids(self):
        return [data["event_id"] for _, data in self.heard]


@pytest.fixture
def bus():
    return Bus()


def journalled(folder):
    """(event id, topic, published) of every event, in order."""
    db = sqlite3.connect(f"{(folder / 'journal' / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        return db.execute("SELECT event_id, topic, published IS NOT NULL FROM event ORDER BY seq").fetchall()
    finally:
        db.close()


def crash(pipeline):
    """As after SIGKILL, but for the threads: nothing more is published, and the journal's lock is free."""
    pipeline._outbox.stop(0.0)
    pipeline._outbox = None
    pipeline.stop()


def test_the_caller_is_not_the_one_who_publishes(clock, make, bus):
    pipeline = make(message_bus=bus, name="main")
    finish(clock, pipeline, market(pipeline))
    assert bus.topics(1) == ["transaction.completed"]
    assert bus.threads == {"hireliab.outbox.main"}
    [(_, data)] = bus.heard
    assert (data["verdict"], data["filled"], data["time"]) == ("COMPLETED", "0.5", clock.time())
    json.dumps(data)


def test_every_event_of_a_life_is_in_the_journal_once_with_an_id_of_its_own(clock, exchange, make, bus, tmp_path):
    pipeline = make(message_bus=bus, verification_timeout=5.0)
    resting = limit(pipeline)
    finish(clock, pipeline, resting)
    exchange.script.append("reject")
    finish(clock, pipeline, market(pipeline, amount="0.6"))
    exchange.script.append("fill_answer_lost")
    exchange.blind = ConnectionError("cut")
    lost = market(pipeline, amount="0.7")
    finish(clock, pipeline, lost)
    exchange.blind = None
    decide(clock, lost)
    exchange.change(resting.record.order_id, status=OrderStatus.DONE, filled=resting.record.order.amount)
    clock.advance_until(lambda: resting.record.order_status == "Done")
    topics = ["transaction.completed", "transaction.rejected", "transaction.resolving", "transaction.unknown",
              "transaction.completed", "order.filled"]  # fmt: skip
    assert bus.topics(6) == topics
    pipeline.stop()
    rows = journalled(tmp_path)
    assert [topic for _, topic, _ in rows] == topics
    assert [event_id for event_id, _, _ in rows] == bus.ids()
    assert len(set(bus.ids())) == 6
    assert all(published for *_, published in rows)


def test_the_closing_of_an_order_that_was_cancelled_is_told(clock, make, bus):
    pipeline = make(message_bus=bus)
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    answers = []
    cancelling = Background(lambda: answers.append(pipeline.cancel(transaction.id)))
    clock.advance_until(lambda: bool(answers))
    cancelling.result()
    assert bus.topics(4) == ["transaction.completed", "transaction.cancelling", "transaction.cancelled", "order.closed"]


def test_a_bus_that_is_down_costs_no_order_and_the_next_start_publishes(clock, make, bus, tmp_path):
    bus.down = True
    first = make(message_bus=bus)
    for n in range(1, 4):
        assert bool(finish(clock, first, market(first, amount=f"0.{n}"))) is True
    first.stop()
    waiting = [event_id for event_id, _, published in journalled(tmp_path) if not published]
    assert (len(waiting), bus.heard) == (3, [])
    bus.down = False
    second = make(message_bus=bus)
    second.start()
    assert bus.topics(3) == ["transaction.completed"] * 3
    assert bus.ids() == waiting


def test_what_a_killed_bot_had_not_told_is_told_by_the_next_with_the_events_of_its_recovery(clock, exchange, make, bus):
    bus.down = True
    first = make(message_bus=bus)
    finish(clock, first, market(first))
    exchange.script.append("fill_answer_lost")
    exchange.blind = ConnectionError("cut")
    lost = market(first, amount="0.7")
    first.submit(lost)
    clock.advance_until(lambda: lost.state is State.RESOLVING)
    crash(first)
    bus.down, exchange.blind = False, None
    second = make(message_bus=bus)
    assert second.start().undecided == (lost.id,)
    clock.advance_until(lambda: second.get(lost.id).state.is_terminal)
    assert bus.topics(4) == [
        "transaction.completed", "transaction.resolving", "transaction.unknown", "transaction.completed",
    ]  # fmt: skip
    assert [event_id.partition(":")[0] for event_id in bus.ids()[1:]] == [lost.id] * 3


def test_a_word_that_was_given_while_no_bot_ran_is_told_by_the_next_start(clock, exchange, make, bus, tmp_path):
    first = make(message_bus=bus)
    exchange.script.append("fill_answer_lost")
    exchange.blind = ConnectionError("cut")
    lost = market(first)
    first.submit(lost)
    clock.advance_until(lambda: lost.state is State.RESOLVING)
    first.stop()
    journal = SQLiteJournal(tmp_path / "journal", clock=clock)
    journal.open()
    resolve(journal, lost.id, "completed", evidence="the exchange's page", who="sara", clock=clock)
    journal.close()
    second = make(message_bus=bus)
    second.start()
    assert bus.topics(3) == ["transaction.resolving", "transaction.unknown", "transaction.resolved_by_operator"]
    assert bus.heard[-1][1]["reason"] == "sara: the exchange's page"


def test_a_version_that_is_not_on_disk_is_not_told(clock, exchange, make, bus, alerts):
    pipeline = make(message_bus=bus)
    pipeline.start()
    transaction = market(pipeline)

    def fill(order):
        pipeline._journal._file._poison_with(OSError("EIO"), "a test")
        return exchange._accept(order, "fill")

    exchange.script.append(fill)
    result = finish(clock, pipeline, transaction)
    assert (result.verdict, result.durable) == (Verdict.COMPLETED, False)
    clock.advance_until(lambda: any("Journal cannot be written" in alert["title"] for alert in alerts))
    pipeline.stop()
    assert bus.heard == []
    again = make(message_bus=bus)
    again.start()
    clock.advance_until(lambda: again.get(transaction.id).state.is_terminal)
    until(
        lambda: bool(bus.heard) and bus.heard[-1][0] == "transaction.completed"
    )  # the outbox's thread has no rest to wait for
    assert len(set(bus.ids())) == len(bus.ids())


def test_without_a_bus_no_event_is_written(clock, make, tmp_path):
    pipeline = make()
    finish(clock, pipeline, market(pipeline))
    pipeline.stop()
    assert journalled(tmp_path) == []
    assert pipeline._outbox is None


def test_an_event_costs_no_commit_on_the_callers_way(clock, make, tmp_path):
    commits = []
    for bus in (None, Bus()):
        journal = SQLiteJournal(
            tmp_path / f"journal-{bus is None}", clock=FakeClock()
        )  # nothing is written without need
        pipeline = make(message_bus=bus, journal=journal)
        finish(clock, pipeline, market(pipeline))  # the first one also writes whose journal it is
        before = journal.stats().commits
        for n in range(1, 4):
            finish(clock, pipeline, market(pipeline, amount=f"0.{n}"))
        commits.append(journal.stats().commits - before)
        if bus is not None:
            assert len(journal.pending_events(0, 9)) <= 4
            bus.topics(4)
    assert commits == [9, 9]  # the scripted exchange hides client order ids in listings, so that answers are barriers


def test_a_bus_that_hangs_keeps_neither_an_order_nor_the_stop(clock, make):
    inside, go = threading.Event(), threading.Event()

    class Hangs:
        def publish(self, topic, data, *, message_id):
            inside.set()
            go.wait(10.0)

    pipeline = make(message_bus=Hangs())
    assert bool(finish(clock, pipeline, market(pipeline))) is True
    inside.wait(10.0)
    assert bool(finish(clock, pipeline, market(pipeline, amount="0.6"))) is True
    assert pipeline.stats().outbox.pending == 2
    go.set()


def test_late_events_are_an_alert_and_trading_goes_on(clock, make, bus, alerts):
    bus.down = True
    pipeline = make(message_bus=bus)
    finish(clock, pipeline, market(pipeline))
    clock.advance_until(lambda: any(alert["title"] == "Events are late" for alert in alerts), limit=200.0, threads=ALL)
    assert bool(finish(clock, pipeline, market(pipeline, amount="0.6"))) is True
    bus.down = False
    clock.advance_until(lambda: len(bus.heard) == 2, limit=200.0, threads=ALL)
    pipeline._journal._file.flush()  # the marks are written in real time
    clock.advance_until(lambda: any("caught up" in alert["title"] for alert in alerts), limit=200.0, threads=ALL)
    assert [alert["level"] for alert in alerts if "Events" in alert["title"]] == ["error", "info"]


def test_the_figures_of_the_outbox_are_in_the_stats_and_the_status(clock, make, bus):
    pipeline = make(message_bus=bus)
    finish(clock, pipeline, market(pipeline))
    until(lambda: pipeline._outbox.stats().published == 1)
    pipeline._journal._file.flush()
    stats = pipeline.stats()
    assert (stats.outbox.published, stats.outbox.pending, stats.outbox.in_flight) == (1, 0, 0)
    plain = json.loads(json.dumps(pipeline._status()))
    assert plain["outbox"]["published"] == 1
    assert make(journal=pipeline._journal.folder.parent / "other", name="other").stats().outbox is None


def test_the_memory_bus_hears_it_within_the_process(clock, make):
    heard = []
    with InMemoryMessageBus(clock=clock) as bus:
        bus.subscribe("transaction.#", heard.append)
        pipeline = make(message_bus=bus)
        transaction = market(pipeline)
        finish(clock, pipeline, transaction)
        until(lambda: len(heard) == 1)
        assert (heard[0].topic, heard[0].subject, heard[0].id) == (
            "transaction.completed", transaction.id, heard[0].data["event_id"],
        )  # fmt: skip
        pipeline.stop()


def test_what_becomes_of_unrouted_events_is_one_of_two_words(make, bus):
    with pytest.raises(ConfigError, match="unrouted_events must be one of keep, drop"):
        make(message_bus=bus, unrouted_events="lose")
    assert make(message_bus=bus, unrouted_events="drop")._outbox._keep_unrouted is False
    assert make(message_bus=bus)._outbox._keep_unrouted is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_child_publishes_nothing(clock, make, bus):
    pipeline = make(message_bus=bus)
    finish(clock, pipeline, market(pipeline))
    bus.topics(1)

    def child():
        assert pipeline.stop() == ()
        assert len(bus.heard) == 1
        return True

    in_child(child)
