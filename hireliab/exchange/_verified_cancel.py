"""
Cancelling what a call of a user's function placed: a child row whose intent is on disk before the user's cancel runs,
decided by the user's look-up alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hireliab.errors import ClosedError, InvalidOrderError, JournalError, OutcomeUnknownError
from hireliab.exchange._runner import VERIFY_DELAYS
from hireliab.exchange._verified_calls import values_of
from hireliab.exchange._verified_values import Parameters, closed_with
from hireliab.exchange.adapter import Found, OrderState
from hireliab.exchange.transaction import Proof, Record, State, Transaction, new_id
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline

ENDS = {
    "filled": ("T20", State.COMPLETED, Proof.FILLED),
    "partial": ("T21", State.COMPLETED, Proof.PARTIAL),
    "unfilled": ("T19", State.ROLLED_BACK, Proof.CANCELLED),
}


class CallCanceller:
    """
    Args:
        name: Of the decorated function.
        cancel: The user's function.
        parameters: Of `cancel`.
    """

    def __init__(
        self,
        *,
        pipeline: TransactionVerificationPipeline,
        name: str,
        cancel: Callable[..., Any],
        parameters: Parameters,
    ) -> None:
        self._pipeline = pipeline
        self._name = name
        self._cancel = cancel
        self._parameters = parameters

    def __call__(self, transaction_id: str) -> bool:
        """See `VerifiedFunction.cancel`."""
        pipeline = self._pipeline
        pipeline.start()
        parent = pipeline._known(transaction_id).record
        name, arguments = pipeline._calls.call_of(transaction_id)
        self._check(parent, name)
        known = {**_order_values(parent), **values_of(parent, arguments)}
        missing = sorted(self._parameters.required - known.keys())
        if missing:
            raise InvalidOrderError(
                f"transaction {transaction_id}: cancel takes {', '.join(missing)}, which is not known any more",
                by="hireliab",
            )
        now = pipeline._clock.time()
        record = Record(
            txn_id=new_id(now),
            kind="CALL",
            parent_id=parent.txn_id,
            order=parent.order,
            goal="ROLLBACK",
            on_partial="accept",
            owner=pipeline._owner,
            candidates=() if parent.order_id is None else (parent.order_id,),
            created=now,
            updated=now,
        )
        child = Transaction(record, clock=pipeline._clock)
        pipeline._runner._check_open()
        pipeline._ledger.move(
            child, record, "T18", State.CANCELLING, cause=f"cancel of {parent.txn_id}", attempt=1, sent_wall=now
        )
        pipeline._ledger.add(child)  # not before: one whose intent is refused would stay among the live ones for ever
        try:
            self._cancel(**self._parameters.pick(known))
        except Exception as error:
            child.answer_error(error)  # also a refusal proves nothing: it may have been filled, or be closed already
        end = self._watch(parent, known)
        if end is None:
            why = "the look-up does not show how the order ended"
            self._write(child, "T15", State.UNKNOWN, cause=why, reason=why, needs_human=True)
            raise OutcomeUnknownError(
                f"transaction {parent.txn_id}: {why}, so it may still be open; cancel it again",
                transaction_id=child.id,
                client_order_id=parent.order.client_order_id or None,
                candidates=record.candidates,
            ) from child.result().error
        for other in [child, *self._earlier(parent, child)]:
            self._end(other, *end)
        return end[0] != "filled"

    def _check(self, parent: Record, name: str) -> None:
        if parent.kind != "CALL" or parent.parent_id is not None or name != self._name:
            raise InvalidOrderError(f"transaction {parent.txn_id}: is no call of {self._name}", by="hireliab")
        if not parent.state.is_terminal:
            raise OutcomeUnknownError(
                f"transaction {parent.txn_id}: its order is not found yet; cancel when wait_resolved() has found it",
                transaction_id=parent.txn_id,
                client_order_id=parent.order.client_order_id or None,
                candidates=parent.candidates,
            )
        if parent.state is not State.COMPLETED:
            raise InvalidOrderError(
                f"transaction {parent.txn_id}: {parent.verdict.value}; there is no order to cancel", by="hireliab"
            )

    def _watch(self, parent: Record, known: Mapping[str, Any]) -> tuple[str, OrderState] | None:
        """How the order ended and the order, once the look-up shows it closed, or None when the time is over."""
        clock, timeout = self._pipeline._clock, self._pipeline.config.verification_timeout
        deadline = clock.monotonic() + timeout
        looks = 0
        while True:
            read, shown = self._pipeline._calls.ask(parent, (self._name, known))
            if isinstance(read, Found):
                end = closed_with(shown, parent.order)
                if end is not None:
                    return end, read.order
            now = clock.monotonic()
            delay = VERIFY_DELAYS[min(looks, len(VERIFY_DELAYS) - 1)]
            looks += 1
            if now >= deadline or self._pipeline._stop.sleep(max(0.0, min(delay, deadline - now))):
                return None

    def _earlier(self, parent: Record, child: Transaction) -> list[Transaction]:
        """Cancels of the same order that were left open: what was seen now decides them, too."""
        return [
            other
            for other in self._pipeline._ledger.undecided()
            if other.record.parent_id == parent.txn_id and other is not child
        ]

    def _end(self, child: Transaction, end: str, order: OrderState) -> None:
        row, to, proof = ENDS[end]
        if child.state is State.UNKNOWN:
            self._write(child, "T16", State.CANCELLING, cause="a later cancel shows it")
        facts = {"order_id": order.order_id or None, "order_status": order.raw_status, "filled": order.filled}
        self._write(
            child,
            row,
            to,
            cause=f"the look-up shows {end}",
            proof=proof,
            reason="",
            needs_human=False,
            candidates=(),
            **facts,
        )

    def _write(self, child: Transaction, row: str, to: State, *, cause: str, **changes: Any) -> None:
        try:
            self._pipeline._ledger.move(child, child.record, row, to, cause=cause, **changes)
        except (JournalError, ClosedError) as error:
            child.answer_error(error)  # a person is told at the next start; cancelling again is harmless


def _order_values(record: Record) -> dict[str, Any]:
    order = record.order
    return {"symbol": order.symbol, "side": order.side, "amount": order.amount, "price": order.price}


def no_cancel(name: str) -> Callable[[str], bool]:
    """What `cancel` of a function without one does."""

    def refuse(transaction_id: str) -> bool:
        raise InvalidOrderError(
            f"transaction {transaction_id}: {name} was decorated without cancel=; cancel it at the exchange",
            by="hireliab",
        )

    return refuse
