"""A person's word about a transaction while no bot runs: the journal is opened here, and no exchange is asked."""

from __future__ import annotations

from typing import Any

from hireliab.core import config, money
from hireliab.core.clock import Clock
from hireliab.errors import InvalidOrderError
from hireliab.exchange._decision import WORDS, check_unfilled
from hireliab.exchange._ledger import event_of
from hireliab.exchange.journal import Journal
from hireliab.exchange.transaction import BY_ID, Proof, Record, State

_TO_UNKNOWN: dict[State, tuple[tuple[str, State], ...]] = {
    State.SUBMITTING: (("T9", State.RESOLVING), ("T15", State.UNKNOWN)),
    State.ACKED: (("T15", State.UNKNOWN),),
    State.WORKING: (("T15", State.UNKNOWN),),
    State.RESOLVING: (("T15", State.UNKNOWN),),
    State.CANCELLING: (("T15", State.UNKNOWN),),
    State.UNKNOWN: (),
}
"""The rows of the table that lead to the only state from which a person's word is taken."""


def resolve(
    journal: Journal,
    transaction_id: str,
    as_: str,
    *,
    evidence: str,
    who: str,
    clock: Clock,
    order_id: str | None = None,
    filled: object = None,
) -> Record:
    """
    Decide a transaction in an open journal; see `TransactionVerificationPipeline.resolve`.

    The difference: nothing is read at the exchange, so an order id and a fill are the person's word alone, and the
    journal's log says so. The next start of a bot with a message bus publishes the events. All steps are one commit.

    Raises:
        InvalidOrderError: There is no such transaction, it is decided or was never sent, or the words contradict.
        ConfigError: A word is missing, too long or unknown.
        JournalError: It cannot be written, or the order id is another transaction's.
    """
    config.choice("as_", as_, WORDS)
    config.text("evidence", evidence, most=1000)
    config.text("who", who)
    record = journal.get(transaction_id)
    if record is None:
        raise InvalidOrderError(f"transaction {transaction_id!r:.60}: unknown", by="hireliab")
    steps = _TO_UNKNOWN.get(record.state)
    if steps is None:
        why = (
            "nothing was sent; the next start of the bot decides it"
            if not record.state.is_terminal
            else "only one whose outcome is not known can be resolved"
        )
        raise InvalidOrderError(
            f"transaction {record.txn_id}: {record.state.value} {record.proof.value}; {why}", by="hireliab"
        )
    check_unfilled(record, as_)
    facts = _facts(record, as_, order_id, filled)
    now = clock.time()
    written, events = [], []
    for row, state in steps:
        record = record.move(row, state, updated=now)
        events.append(event_of(f"transaction.{BY_ID[row].event}", record))
        written.append((record, f"{row} to be decided by {who}, no bot runs"))
    record = record.move(
        "T26",
        WORDS[as_],
        updated=now,
        proof=Proof.OPERATOR,
        reason=f"{who}: {evidence}",
        needs_human=False,
        candidates=(),
        **facts,
    )
    written.append((record, f"T26 {as_} says {who}, not read at the exchange: {evidence}"))
    events.append(event_of(f"transaction.{BY_ID['T26'].event}", record))
    journal.write_many(written, barrier=True, events=events)
    return record


def _facts(record: Record, as_: str, order_id: str | None, filled: object) -> dict[str, Any]:
    if as_ != "completed":
        if order_id is not None or filled is not None:
            raise InvalidOrderError(
                f"transaction {record.txn_id}: {as_} has neither an order id nor fills; say completed, or leave them out",
                by="hireliab",
            )
        return {}
    most = record.order.amount  # 0 where a call of the user's own function does not tell it
    word = most if filled is None else money.parse(filled, what="filled")
    if filled is not None and (word <= money.ZERO or money.ZERO < most < word):
        raise InvalidOrderError(
            f"filled: must be above 0 and at most the amount {money.text(most)}, got {money.text(word)}", by="hireliab"
        )
    if order_id is not None:
        config.text("order_id", order_id, most=100)
        if record.kind != "CALL" and not (order_id.isascii() and order_id.isdigit()):
            raise InvalidOrderError(f"order id {order_id!r:.60}: must be a whole number", by="hireliab")
    if None not in (order_id, record.order_id) and order_id != record.order_id:
        raise InvalidOrderError(
            f"transaction {record.txn_id}: the exchange gave it order {record.order_id}, not {order_id}", by="hireliab"
        )
    return {"filled": word, "order_id": order_id or record.order_id}
