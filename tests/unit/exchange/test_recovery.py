"""What a start does with each state that a dead process can have left."""

import dataclasses
from decimal import Decimal

import pytest

from hireliab.errors import ClosedError, JournalError, JournalLockedError, ResponseTimeoutError
from hireliab.exchange.adapter import Account, Order, OrderStatus, Unavailable
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Proof, Record, State, Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.testing import ScriptedExchange
from tests.support.pipeline import decide, finish, market


@pytest.fixture
def exchange(clock):
    return ScriptedExchange(clock=clock)


@pytest.fixture
def start(clock, exchange, tmp_path):
    made = []

    def start(adapter=exchange, **settings):
        pipeline = TransactionVerificationPipeline(
            exchange_adapter=adapter,
            journal=tmp_path / "journal",
            clock=clock,
            **{"operator_interval": None, **settings},
        )
        made.append(pipeline)
        pipeline.start()
        return pipeline

    yield start
    for pipeline in made:
        pipeline.stop()


@pytest.fixture
def left(clock, exchange, tmp_path):
    """Write rows as a dead process left them."""

    def left(*records):
        journal = SQLiteJournal(tmp_path / "journal")
        journal.open()
        journal.bind(exchange.account)
        for record in records:
            journal.write(record, cause="left by a dead process", barrier=True)
        journal.close()

    return left


def order(txn_id="T1", **changes):
    base = Order(
        symbol="BTC/USDT",
        side="buy",
        type="limit",
        amount=Decimal("0.5"),
        price=Decimal(100),
        client_order_id=f"abcde-{txn_id}",
    )
    return dataclasses.replace(base, **changes)


def row(clock, state, txn_id="T1", **changes):
    base = Record(
        txn_id=txn_id,
        order=order(txn_id),
        state=state,
        version=1,
        attempt=1,
        sent_wall=clock.time(),
        baseline_time=clock.time(),
        created=clock.time(),
        updated=clock.time(),
    )
    return dataclasses.replace(base, **changes)


def decided(clock, pipeline, limit=3600.0):
    clock.advance_until(lambda: not pipeline.unresolved(), limit=limit)


def test_a_prepared_row_was_never_sent(clock, exchange, start, left):
    left(row(clock, State.PREPARED))
    pipeline = start()
    assert pipeline.recover().not_sent == ("T1",)
    assert pipeline.get("T1").result().verdict is Verdict.NOT_SENT
    assert exchange.calls == [("list_orders_since", "0")]  # the one look that every start takes


def test_a_submitting_row_whose_order_arrived_is_found_and_not_sent(clock, exchange, start, left):
    exchange._accept(order(), "fill")
    left(row(clock, State.SUBMITTING))
    pipeline = start()
    assert pipeline.recover().undecided == ("T1",)
    decided(clock, pipeline)
    result = pipeline.get("T1").result()
    assert (result.verdict, result.filled) == (Verdict.COMPLETED, Decimal("0.5"))
    assert exchange.sends() == 0


def test_a_submitting_row_whose_order_never_arrived_is_absent_and_not_sent(clock, exchange, start, left):
    left(row(clock, State.SUBMITTING))
    pipeline = start()
    started = clock.monotonic()
    decided(clock, pipeline)
    assert clock.monotonic() - started >= 70.0
    assert pipeline.get("T1").result().verdict is Verdict.ABSENT
    assert exchange.sends() == 0


@pytest.mark.parametrize("state", [State.ACKED, State.WORKING, State.RESOLVING, State.UNKNOWN])
def test_a_row_with_an_id_is_read_by_it(clock, exchange, start, left, state):
    placed = exchange._accept(order(), "rest")
    left(row(clock, state, order_id=placed.order_id))
    pipeline = start()
    decided(clock, pipeline)
    assert pipeline.get("T1").result().verdict is Verdict.COMPLETED
    assert exchange.sends() == 0


def test_a_cancelling_row_is_finished(clock, exchange, start, left):
    placed = exchange._accept(order(), "rest")
    left(
        row(clock, State.COMPLETED, order_id=placed.order_id, order_status="Active", proof=Proof.LIVE),
        row(clock, State.CANCELLING, "T2", kind="CANCEL", parent_id="T1", order=order(), order_id=placed.order_id),
    )
    pipeline = start()
    decided(clock, pipeline)
    assert pipeline.get("T2").result().verdict is Verdict.CANCELLED
    assert exchange.orders[placed.order_id].status is OrderStatus.CANCELED
    clock.advance_until(lambda: pipeline.get("T1").record.order_status == "Canceled")


def test_a_resting_order_is_followed_after_the_restart(clock, exchange, start, left):
    placed = exchange._accept(order(), "rest")
    left(row(clock, State.COMPLETED, order_id=placed.order_id, order_status="Active", proof=Proof.LIVE))
    pipeline = start()
    exchange.change(placed.order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
    clock.advance_until(lambda: pipeline.get("T1").record.order_status == "Done")


def test_a_first_order_has_a_baseline_although_the_newest_id_could_not_be_read_at_the_start(clock, exchange, start):
    """Without one every listing of a lost order goes through the account's whole history, or has too many pages."""
    exchange._accept(Order(symbol="BTC/USDT", side="buy", type="limit", amount=Decimal(1), price=Decimal(100)), "fill")
    (old,) = exchange.orders
    newest = exchange.newest_order_id
    exchange.newest_order_id = lambda: Unavailable(ResponseTimeoutError("once"))
    pipeline = start()
    pipeline.start()  # the open orders could be listed
    exchange.newest_order_id = newest
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    assert transaction.record.baseline == old


def test_an_absent_order_is_watched_after_the_restart(clock, exchange, start, left):
    left(row(clock, State.FAILED, proof=Proof.ABSENT, watch_until=clock.time() + 86400))
    pipeline = start()
    transaction = pipeline.get("T1")
    exchange._accept(order(), "fill")
    clock.advance_until(lambda: transaction.state is State.COMPLETED)


def test_the_same_key_gets_the_transaction_of_the_dead_process(clock, exchange, start, left):
    exchange._accept(order(amount=Decimal("0.5")), "fill")
    first = start()
    asked = {"type": "limit_buy", "symbol": "BTC/USDT", "amount": "0.5", "price": "100", "idempotency_key": "k"}
    transaction = first.create_transaction(**asked)
    handle = first.submit(transaction)
    clock.advance_until(lambda: handle.done)
    first.stop()
    second = start()
    again = second.create_transaction(**asked)
    assert again.id == transaction.id
    assert second.execute_transaction(again) is True
    assert exchange.sends() == 1


def test_recovery_tells_the_limiters_what_was_sent(clock, exchange, start, left):
    left(row(clock, State.COMPLETED, proof=Proof.FILLED, order_status="Done", order_id="1"))
    left(row(clock, State.SUBMITTING, "T2", updated=clock.time() - 100))
    start()
    assert exchange.restored == [100.0]


def test_a_wall_clock_that_stepped_back_does_not_disturb_recovery(clock, exchange, start, left):
    exchange._accept(order(), "fill")
    left(row(clock, State.SUBMITTING))
    clock.step_wall(-7200)
    pipeline = start()
    decided(clock, pipeline)
    assert pipeline.get("T1").result().verdict is Verdict.COMPLETED
    assert min(exchange.restored, default=0.0) >= 0.0


def test_a_dead_exchange_does_not_fail_the_start(clock, exchange, start, left):
    exchange.blind = ConnectionError("down")
    left(row(clock, State.SUBMITTING))
    assert start().recover().gated == ("BTC/USDT",)


def test_a_second_pipeline_on_the_journal_is_refused(start):
    start()
    with pytest.raises(JournalLockedError):
        start()


def test_a_journal_of_another_account_is_refused_and_released(clock, exchange, start, left):
    left(row(clock, State.SUBMITTING))
    stranger = ScriptedExchange(clock=clock, account="somebody else")
    with pytest.raises(JournalError, match="somebody else"):
        start(adapter=stranger)
    assert stranger.calls == []
    start()


def test_a_stopped_pipeline_says_so(start):
    pipeline = start()
    pipeline.stop()
    pipeline.stop()
    with pytest.raises(ClosedError, match="make a new one"):
        pipeline.unresolved()


def test_stop_lists_what_is_undecided_and_waits_for_none_of_it(clock, exchange, start):
    pipeline = start()
    exchange.script.append("request_lost")
    transaction = pipeline.create_transaction(type="market_buy", symbol="BTC/USDT", amount=1)
    handle = pipeline.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.RESOLVING)
    assert pipeline.stop() == (transaction.id,)
    assert handle.result().verdict is Verdict.UNKNOWN


def test_the_account_type_is_part_of_the_binding():
    assert Account(venue="a", host="b", identity="c") != Account(venue="a", host="b", identity="d")


def test_a_duplicate_answer_right_after_a_restart_is_explained_by_the_order_before_it(clock, exchange, start):
    first = start()
    assert finish(clock, first, market(first)).verdict is Verdict.COMPLETED
    first.stop()
    second = start()
    exchange.script.append("duplicate")
    began = clock.monotonic()
    again = market(second)
    finish(clock, second, again)
    assert decide(clock, again).verdict is Verdict.REJECTED
    assert clock.monotonic() - began < 30.0  # no fence: nothing of it can arrive late
