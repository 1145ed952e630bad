"""
A verified cancel: a child row with its own barrier, and what it tells its parent; or the roll back of a transaction whose
commit rule gave up, where the intent to cancel is a state of its own row.
"""

from __future__ import annotations

from collections.abc import Callable

from hireliab.core import _kill_points
from hireliab.errors import InvalidOrderError, OrderNotFoundError, OutcomeUnknownError
from hireliab.exchange._ledger import Ledger
from hireliab.exchange.adapter import ExchangeAdapter, OrderState
from hireliab.exchange.transaction import Proof, Record, State, Transaction, new_id


def cancel_of(parent: Record, *, wall: float) -> Record:
    """
    The child that cancels a transaction's order.

    Raises:
        InvalidOrderError: There is no order that could be cancelled.
        OutcomeUnknownError: The order has not been found yet.
    """
    if parent.kind != "ORDER":
        what = "is a cancel itself; cancel its parent" if parent.kind == "CANCEL" else "is a call of your own function"
        raise InvalidOrderError(f"transaction {parent.txn_id}: {what}", by="hireliab")
    if parent.order_id is None:
        if parent.state.is_terminal or parent.state is State.NEW:
            raise InvalidOrderError(
                f"transaction {parent.txn_id}: {parent.verdict.value}; there is no order to cancel", by="hireliab"
            )
        raise OutcomeUnknownError(
            f"transaction {parent.txn_id}: its order is not found yet; cancel when wait_resolved() has found it",
            transaction_id=parent.txn_id,
            client_order_id=parent.order.client_order_id,
            candidates=parent.candidates,
        )
    return Record(
        txn_id=new_id(wall),
        kind="CANCEL",
        parent_id=parent.txn_id,
        order=parent.order,
        order_id=parent.order_id,
        order_status=parent.order_status,
        filled=parent.filled,
        average_price=parent.average_price,
        fee=parent.fee,
        on_partial="accept",
        created=wall,
        updated=wall,
    )


def close_parent(ledger: Ledger, parent: Transaction, child: Record) -> None:
    """Give a decided parent what the verified cancel saw; an undecided one is read by whoever decides it."""
    record = parent.record
    if not child.state.is_terminal or child.state is State.FAILED or not record.is_open_at_venue:
        return
    ledger.note(
        parent,
        record,
        cause=f"cancel {child.txn_id}",
        topic="order.filled" if child.proof is Proof.FILLED else "order.closed",
        order_status=child.order_status,
        filled=child.filled,
        average_price=child.average_price,
        fee=child.fee,
    )


def roll_back(
    transaction: Transaction, *, ledger: Ledger, adapter: ExchangeAdapter, check_open: Callable[[], None], cause: str
) -> OrderState | None:
    """
    Write the intent to cancel the transaction's live order (T18, a barrier), and send the cancel once.

    Without the barrier a crash would leave a row whose recovery aims at having the order, not at having it closed.

    Returns:
        The order as the answer shows it, or None where it does not or nobody may cancel now; reads tell.

    Raises:
        NotSentError, JournalError: Nothing was written and nothing was sent.
    """
    record = transaction.record
    assert record.order_id is not None, "bug: only an order that is known can be rolled back"
    prepared = adapter.prepare_cancel(record.order_id)
    try:
        moved = ledger.move(transaction, record, "T18", State.CANCELLING, cause=cause, goal="ROLLBACK")
    except BaseException:
        prepared.abandon()
        raise
    if moved is None:
        prepared.abandon()
        return None
    if _kill_points.ARMED:
        _kill_points.at("L22")
    try:
        return prepared.submit(check_open)
    except OrderNotFoundError:
        return None
    except Exception as error:
        transaction.answer_error(error)
        ledger.note(transaction, transaction.record, cause=f"cancel: {type(error).__name__}: {error}")
        return None
