"""What follows from a read of a transaction's own order: the transition that `evidence` demands, written to the ledger."""

from __future__ import annotations

from hireliab.core import _kill_points
from hireliab.exchange import evidence
from hireliab.exchange._ledger import Ledger
from hireliab.exchange.adapter import OrderState
from hireliab.exchange.transaction import NOTHING_SEEN, Record, State, Transaction, seen


def conclude(transaction: Transaction, order: OrderState, *, ledger: Ledger) -> None:
    """
    Move a transaction to what a read of its order shows, or to nowhere when it is about another order or behind.

    Any thread may call it: the runner while the caller waits, the resolver, and a person's command. Of two that read at
    once the one whose move the ledger refuses has nothing to do: the other saw the order, too.
    """
    record = transaction.record
    if record.state.is_terminal:
        return
    if evidence.is_anothers(record, order):
        _drop_id(transaction, record, order, ledger=ledger)
        return
    different = record.kind == "ORDER" and not evidence.has_fields_of(record.order, order)
    behind = order.filled < record.filled  # a replica that does not know yet what was seen already
    if different or behind or not evidence.speaks_of(record, order):
        return
    ledger.note_order_id(order.order_id)
    ledger.settled(record.txn_id)  # it is known what there is, so new orders need not wait for it
    facts = seen(order)
    if _kill_points.ARMED and record.state in (State.RESOLVING, State.UNKNOWN):
        _kill_points.at("L21")
    if record.is_rollback:
        step = evidence.settle_cancel(record, order)
        if record.state in (State.UNKNOWN, State.RESOLVING):  # RESOLVING: it was presumed absent meanwhile
            row = "T16" if record.state is State.UNKNOWN else "T10"
            back = ledger.move(transaction, record, row, State.CANCELLING, cause="found", **facts)
            if back is None:
                return
            record = back
    else:
        step = evidence.settle(record, order)
    cause = f"venue shows {order.raw_status or order.status.value}, filled {facts['filled']}"
    if step is not None:
        if _kill_points.ARMED and not record.is_rollback:
            _kill_points.at("L13")
        if _kill_points.ARMED and record.is_rollback:
            _kill_points.at("L24")
        ledger.move(
            transaction,
            record,
            step.row,
            step.to,
            cause=cause,
            proof=step.proof,
            reason="",
            candidates=(),
            needs_human=False,
            **facts,
        )
    elif record.kind == "ORDER" and record.state is State.RESOLVING:
        to = State.WORKING if order.status.is_live else State.ACKED
        ledger.move(transaction, record, "T10", to, cause=cause, **facts)
    elif record.kind == "ORDER" and record.state is State.ACKED and order.status.is_live:
        ledger.move(transaction, record, "T10", State.WORKING, cause=cause, **facts)
    elif (
        record.kind == "ORDER"
        and record.state is State.UNKNOWN
        and (record.order_id is None or record.timeout is not None)
    ):
        to = State.WORKING if order.status.is_live else State.ACKED
        ledger.move(transaction, record, "T16", to, cause=cause, **facts)
    elif any(getattr(record, name) != value for name, value in facts.items()):
        ledger.note(transaction, record, cause=cause, **facts)


def _drop_id(transaction: Transaction, record: Record, order: OrderState, *, ledger: Ledger) -> None:
    """The id that we were given is another order's: forget it and what it showed, so that listings look for ours."""
    if record.kind != "ORDER":
        return
    row, to = {
        State.ACKED: ("T13", State.RESOLVING),
        State.WORKING: ("T13", State.RESOLVING),
        State.CANCELLING: ("T15", State.UNKNOWN),  # nor must the other order be cancelled again
    }.get(record.state, ("", record.state))
    cause = f"order {order.order_id} carries another client order id than ours"
    if row:
        ledger.move(transaction, record, row, to, cause=cause, **NOTHING_SEEN)
    else:
        ledger.note(transaction, record, cause=cause, **NOTHING_SEEN)
