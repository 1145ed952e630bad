"""Commit rules with a timeout: what is not filled in time is cancelled, by a durable intent, and read back."""

import dataclasses
from decimal import Decimal

import pytest

from hireliab.errors import ConfigError, ConnectError, PartialFillError, ResponseLostError
from hireliab.exchange.adapter import OrderStatus
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Phase, Proof, State, Status, Verdict
from hireliab.testing import ScriptedExchange
from tests.support.pipeline import decide, finish, limit, market


def resting(pipeline, **more):
    return limit(pipeline, **{"commit": "filled_or_cancel", "timeout": 20.0, **more})


def cancels(exchange):
    return [argument for name, argument in exchange.calls if name == "cancel"]


def history(pipeline, transaction):
    return [state for _, state, _ in transaction.result().timeline]


def test_an_order_that_is_not_filled_in_time_is_cancelled_and_false(clock, exchange, make):
    pipeline = make()
    transaction = resting(pipeline)
    began = clock.monotonic()
    result = finish(clock, pipeline, transaction)
    assert (result.verdict, result.proof, bool(result)) == (Verdict.CANCELLED, Proof.CANCELLED, False)
    assert (transaction.phase, transaction.status) == (Phase.ROLLBACK, Status.ROLLED_BACK)
    assert 20.0 <= clock.monotonic() - began <= 21.0
    (order,) = exchange.orders.values()
    assert (order.status, cancels(exchange)) == (OrderStatus.CANCELED, [order.order_id])
    assert history(pipeline, transaction)[-2:] == ["CANCELLING", "ROLLED_BACK"]


def test_the_intent_to_cancel_is_on_disk_before_the_cancel_is_sent(clock, exchange, make, tmp_path):
    pipeline = make()
    transaction = resting(pipeline)
    seen = []

    def withdraw(order_id):
        seen.append(pipeline._journal.get(transaction.id))
        return ScriptedExchange.withdraw(exchange, order_id)

    exchange.withdraw = withdraw
    finish(clock, pipeline, transaction)
    assert [(row.state, row.goal) for row in seen] == [(State.CANCELLING, "ROLLBACK")]


def test_an_order_that_fills_in_time_is_true_and_not_cancelled(clock, exchange, make):
    pipeline = make()
    transaction = resting(pipeline)
    handle = pipeline.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.WORKING)
    (order,) = exchange.orders.values()
    exchange.change(order.order_id, status=OrderStatus.DONE, filled=order.amount)
    decide(clock, transaction)
    assert (bool(handle.result()), handle.result().proof, cancels(exchange)) == (True, Proof.FILLED, [])


def test_what_was_filled_before_the_cancel_is_kept_and_told(clock, exchange, make):
    pipeline = make()
    transaction = resting(pipeline)
    handle = pipeline.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.WORKING)
    (order,) = exchange.orders.values()
    exchange.change(order.order_id, filled=Decimal("0.2"))
    decide(clock, transaction)
    assert (transaction.state, handle.result().proof) == (State.COMPLETED, Proof.PARTIAL)
    with pytest.raises(PartialFillError) as caught:
        bool(handle.result())
    assert (caught.value.filled, caught.value.remaining) == (Decimal("0.2"), Decimal("0.3"))


def test_a_fill_at_the_same_instant_as_the_timeout_is_a_late_fill(clock, exchange, make):
    pipeline = make()
    transaction = resting(pipeline)

    def withdraw(order_id):
        exchange.change(order_id, status=OrderStatus.DONE, filled=transaction.record.order.amount)
        return ScriptedExchange.withdraw(exchange, order_id)

    exchange.withdraw = withdraw
    result = finish(clock, pipeline, transaction)
    assert (bool(result), result.verdict, result.proof) == (True, Verdict.COMPLETED, Proof.FILLED)


def test_a_cancel_whose_answer_is_lost_is_verified_by_reading_and_sent_again(clock, exchange, make):
    pipeline = make()
    transaction = resting(pipeline)
    answers = [ResponseLostError("lost"), ResponseLostError("lost again")]

    def withdraw(order_id):
        exchange.calls.append(("cancel", order_id))
        if answers:
            raise answers.pop()
        return ScriptedExchange.withdraw(exchange, order_id)

    exchange.withdraw = withdraw
    result = finish(clock, pipeline, transaction)
    assert (result.verdict, exchange.sends()) == (Verdict.CANCELLED, 1)
    assert len(cancels(exchange)) >= 3


def test_a_cancel_that_was_executed_without_an_answer_is_not_called_failed(clock, exchange, make):
    pipeline = make()
    transaction = resting(pipeline)

    def withdraw(order_id):
        ScriptedExchange.withdraw(exchange, order_id)
        raise ResponseLostError("lost")

    exchange.withdraw = withdraw
    result = finish(clock, pipeline, transaction)
    assert (result.verdict, len(cancels(exchange))) == (Verdict.CANCELLED, 1)


def test_a_cancel_that_cannot_be_sent_yet_is_tried_again(clock, exchange, make):
    pipeline = make()
    transaction = resting(pipeline)
    prepare, failures = exchange.prepare_cancel, [1, 2, 3]

    def prepare_cancel(order_id):
        if failures:
            failures.pop()
            raise ConnectError("no way to the exchange")
        return prepare(order_id)

    exchange.prepare_cancel = prepare_cancel
    assert finish(clock, pipeline, transaction).verdict is Verdict.CANCELLED


def test_a_cancel_that_never_gets_an_answer_is_unknown_and_still_cancelled_later(clock, exchange, make):
    pipeline = make(verification_timeout=10.0)
    transaction = resting(pipeline)
    handle = pipeline.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.WORKING)
    exchange.blind = ConnectionError("cut")
    exchange.withdraw = lambda order_id: (_ for _ in ()).throw(ResponseLostError("cut"))
    clock.advance_until(lambda: transaction._answered)
    assert handle.result().verdict is Verdict.UNKNOWN
    assert transaction.record.goal == "ROLLBACK"
    exchange.blind = None
    del exchange.withdraw
    assert decide(clock, transaction).verdict is Verdict.CANCELLED


def test_an_order_whose_answer_was_lost_is_cancelled_once_it_is_found_too_late(clock, exchange, make):
    pipeline = make(verification_timeout=5.0)
    exchange.script.append("rest_answer_lost")
    exchange.blind = ConnectionError("cut")
    transaction = resting(pipeline)
    result = finish(clock, pipeline, transaction)
    assert result.verdict is Verdict.UNKNOWN
    clock.advance_until(lambda: clock.monotonic() > 1040.0)
    exchange.blind = None
    assert decide(clock, transaction).verdict is Verdict.CANCELLED
    assert exchange.sends() == 1


def test_a_restart_keeps_the_deadline_and_cancels(clock, exchange, make):
    first = make(verification_timeout=100.0)
    transaction = resting(first, timeout=50.0)
    first.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.WORKING)
    first.stop()
    second = make()
    second.start()
    found = second.get(transaction.id)
    assert (found.record.epoch, found.record.goal) == (2, "COMMIT")
    assert cancels(exchange) == []
    assert decide(clock, found).verdict is Verdict.CANCELLED


def test_a_restart_in_the_middle_of_a_cancel_goes_on_with_the_cancel(clock, exchange, make):
    first = make()
    transaction = resting(first)
    first.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.WORKING)
    exchange.withdraw = lambda order_id: (_ for _ in ()).throw(ResponseLostError("cut"))
    exchange.find_by_id = lambda order_id: type(exchange).find_by_id(exchange, "0" * 9 + "1")  # never found
    clock.advance_until(lambda: transaction.state is State.CANCELLING)
    first.stop()
    del exchange.withdraw, exchange.find_by_id
    (order,) = exchange.orders.values()
    assert not order.status.is_closed
    second = make()
    second.start()
    found = second.get(transaction.id)
    assert found.record.goal == "ROLLBACK"
    assert decide(clock, found).verdict is Verdict.CANCELLED


def test_filled_or_cancel_without_a_timeout_waits_for_the_verification_timeout(make):
    pipeline = make(verification_timeout=7.0)
    assert resting(pipeline, timeout=None).record.timeout == 7.0
    assert limit(pipeline, commit="filled").record.timeout is None


@pytest.mark.parametrize("bad", [0, -1, float("nan"), "5", True])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(make, bad):
    with pytest.raises(ConfigError, match="timeout"):
        limit(make(), timeout=bad)


def test_a_market_order_with_a_timeout_needs_no_cancel_when_it_fills(clock, exchange, make):
    pipeline = make()
    assert finish(clock, pipeline, market(pipeline, timeout=5.0)).verdict is Verdict.COMPLETED
    assert cancels(exchange) == []


def test_a_resting_order_without_a_commit_timeout_is_never_cancelled(clock, exchange, make):
    pipeline = make()
    transaction = limit(pipeline, commit="filled")
    result = finish(clock, pipeline, transaction)
    assert result.verdict is Verdict.UNKNOWN  # it is live, and not filled: the caller's time is over
    assert cancels(exchange) == []


def test_the_goal_and_the_deadline_are_in_the_journal(clock, exchange, make, tmp_path):
    pipeline = make()
    transaction = resting(pipeline, timeout=50.0)
    pipeline.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.WORKING)
    pipeline.stop()
    journal = SQLiteJournal(tmp_path / "journal")
    journal.open()
    row = journal.get(transaction.id)
    journal.close()
    assert dataclasses.replace(row, version=0, updated=0) == dataclasses.replace(
        transaction.record, version=0, updated=0
    )
    assert (row.timeout, row.deadline) == (50.0, row.baseline_time + 50.0)
