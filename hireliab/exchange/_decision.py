"""
What only a person may decide: what became of an order that nobody can find out about (T26), and that an order at the
exchange is ours although the journal does not know it (T28). Both are written with the person's name.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hireliab.core import config, money
from hireliab.core.clock import Clock
from hireliab.errors import InvalidOrderError, JournalError, JournalPoisonedError
from hireliab.exchange import evidence
from hireliab.exchange._conclusion import conclude
from hireliab.exchange._ledger import Ledger
from hireliab.exchange._orphans import Orphans
from hireliab.exchange._resolver import Resolver
from hireliab.exchange.adapter import Absent, ExchangeAdapter, Order, OrderState, Unavailable
from hireliab.exchange.transaction import Proof, Record, State, Transaction, payload_hash, seen

WORDS = {"completed": State.COMPLETED, "failed": State.FAILED, "cancelled": State.ROLLED_BACK}
"""What a person may say: it was executed; nothing of it exists and nothing was filled; it was closed without a fill."""
_UNDECIDED = (State.ACKED, State.WORKING, State.RESOLVING, State.UNKNOWN, State.CANCELLING)


class Decisions:
    """Any thread may call any method."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        adapter: ExchangeAdapter,
        resolver: Resolver,
        orphans: Orphans,
        clock: Clock,
        owner: str,
    ) -> None:
        self._ledger = ledger
        self._adapter = adapter
        self._resolver = resolver
        self._orphans = orphans
        self._clock = clock
        self._owner = owner

    def resolve(
        self,
        transaction: Transaction,
        as_: str,
        *,
        evidence: str,
        who: str,
        order_id: str | None,
        filled: object,
    ) -> None:
        """Write a person's word; see `TransactionVerificationPipeline.resolve`."""
        config.choice("as_", as_, WORDS)
        config.text("evidence", evidence, most=1000)
        config.text("who", who)
        record = transaction.record
        if as_ != "completed" and (order_id is not None or filled is not None):
            raise InvalidOrderError(
                f"transaction {record.txn_id}: {as_} has neither an order id nor fills; say completed, or leave them out",
                by="hireliab",
            )
        for _ in range(4):  # the resolver may write what it saw meanwhile: then its read counts, too
            record = transaction.record
            if record.state not in _UNDECIDED:
                break
            check_unfilled(record, as_)
            facts = self._facts(record, as_, order_id, filled)
            unknown: Record | None = record
            if record.state is not State.UNKNOWN:
                cause = f"to be decided by {who}"
                unknown = self._ledger.move(transaction, record, "T15", State.UNKNOWN, cause=cause)
            moved = unknown and self._ledger.move(
                transaction,
                unknown,
                "T26",
                WORDS[as_],
                cause=f"{as_} says {who}: {evidence}",
                proof=Proof.OPERATOR,
                reason=f"{who}: {evidence}",
                needs_human=False,
                candidates=(),
                **facts,
            )
            if moved:
                return
            transaction.wait_settled()
        raise InvalidOrderError(
            f"transaction {record.txn_id}: {record.state.value} {record.proof.value}; only one whose outcome is not"
            " known can be resolved",
            by="hireliab",
        )

    def _facts(self, record: Record, as_: str, order_id: str | None, filled: object) -> dict[str, Any]:
        """What became of it: as the exchange shows it where it can be asked, else as the person says."""
        word = None if filled is None else money.parse(filled, what="filled")
        if word is not None and not money.ZERO < word <= record.order.amount:
            raise InvalidOrderError(
                f"filled: must be above 0 and at most the amount {money.text(record.order.amount)}, got"
                f" {money.text(word)}",
                by="hireliab",
            )
        order_id = order_id or record.order_id
        if order_id is None or record.kind == "CALL":  # the call's exchange need not be ours
            if as_ != "completed":
                return {}
            return {"filled": record.order.amount if word is None else word, "order_id": order_id}
        if self._ledger.is_bound(order_id, to_other_than=record.parent_id or record.txn_id):
            raise InvalidOrderError(f"venue order {order_id:.60}: belongs to another transaction", by="hireliab")
        read = self._adapter.find_by_id(order_id)
        if isinstance(read, Unavailable):
            raise read.error
        if isinstance(read, Absent):
            if as_ == "failed":
                return {}
            raise InvalidOrderError(f"venue order {order_id:.60}: the exchange does not know it", by="hireliab")
        order = read.order
        stranger = order.client_order_id not in (None, record.order.client_order_id)
        if stranger or (record.kind == "ORDER" and not evidence.has_fields_of(record.order, order)):
            raise InvalidOrderError(
                f"venue order {order_id:.60}: is another order ({order.type} {order.side} {money.text(order.amount)}"
                f" {order.symbol}, client order id {order.client_order_id}) than transaction {record.txn_id} asked for",
                by="hireliab",
            )
        shown = f"the exchange shows {order.status.value} with {money.text(order.filled)} filled"
        unfilled = order.status.is_closed and order.filled == money.ZERO
        if unfilled == (as_ == "completed") or (word is not None and word != order.filled):
            raise InvalidOrderError(f"venue order {order_id:.60}: {shown}, which is not {as_} as said", by="hireliab")
        if order.filled < record.filled:
            raise InvalidOrderError(
                f"venue order {order_id:.60}: {shown}, less than was read before; ask again in a moment", by="hireliab"
            )
        return seen(order)

    def adopt(self, order_id: str, *, who: str, prefix: str, commit: str = "accepted") -> Transaction:
        """Take an orphan in; see `TransactionVerificationPipeline.adopt`."""
        config.text("who", who)
        read = self._adapter.find_by_id(order_id)
        if isinstance(read, Unavailable):
            raise read.error
        if isinstance(read, Absent):
            raise InvalidOrderError(f"venue order {order_id:.60}: the exchange does not know it", by="hireliab")
        found = read.order
        # Where the exchange hides it now, a listing may have shown it before.
        client_id = found.client_order_id or self._orphans.client_id(order_id)
        start, _, txn_id = (client_id or "").rpartition("-")
        if start != prefix or not txn_id:
            raise InvalidOrderError(
                f"venue order {order_id:.60}: its client order id is {client_id}, and ours begin with {prefix}-;"
                " only an order of this pipeline's can be adopted",
                by="hireliab",
            )
        known = self._ledger.journal.get(txn_id) or self._ledger.journal.find_order(order_id)
        if known is not None:
            self._orphans.forget(order_id)
            raise InvalidOrderError(f"venue order {order_id:.60}: is transaction {known.txn_id} already", by="hireliab")
        now = self._clock.time()
        order = _as_wanted(found, client_id or "")
        record = Record(
            txn_id=txn_id,
            order=order,
            payload_hash=payload_hash(order, commit),
            commit=commit,
            on_partial="accept",
            owner=self._owner,
            attempt=1,
            sent_wall=found.created or now,
            baseline=str(int(order_id) - 1),
            baseline_time=found.created or self._adapter.server_time(),
            created=found.created or now,
            updated=now,
        )
        transaction = Transaction(record, clock=self._clock)
        transaction.restored = True  # it was sent long ago: executing it joins it
        transaction.take()
        try:
            self._ledger.move(transaction, record, "T28", State.WORKING, cause=f"adopted by {who}", **seen(found))
        except JournalPoisonedError:
            raise
        except JournalError as error:  # another thread adopted it since we looked
            raise InvalidOrderError(
                f"venue order {order_id:.60}: has a transaction by now ({error})", by="hireliab"
            ) from error
        self._ledger.add(transaction)  # not before: whoever comes second must not take the first one's place
        self._orphans.forget(order_id)
        conclude(transaction, found, ledger=self._ledger)
        if not transaction.state.is_terminal:
            self._resolver.add(transaction)
        elif transaction.record.is_open_at_venue:
            self._resolver.follow()
        return transaction


def check_unfilled(record: Record, as_: str) -> None:
    """
    A person cannot say that nothing was filled of an order of which the exchange showed fills.

    Raises:
        InvalidOrderError: It is said.
    """
    if as_ != "completed" and record.filled > money.ZERO:
        raise InvalidOrderError(
            f"transaction {record.txn_id}: the exchange showed {money.text(record.filled)} of it filled, which is not"
            f" {as_}; say completed, with what was filled",
            by="hireliab",
        )


def _as_wanted(found: OrderState, client_id: str) -> Order:
    """The order that somebody must have asked for."""
    price: Decimal | None = None if found.type == "stop_market" else found.price
    return Order(
        symbol=found.symbol,
        side=found.side,
        type=found.type,
        amount=found.amount,
        price=price,
        stop_price=found.stop_price,
        client_order_id=client_id,
    )
