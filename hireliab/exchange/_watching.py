"""
Watching: what is still looked at after the verdict: orders that rest in the book until they close, and orders that are
presumed absent for as long as they might appear after all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from hireliab.core.clock import Clock
from hireliab.exchange import evidence
from hireliab.exchange._ledger import Ledger, fingerprint
from hireliab.exchange.adapter import (
    ExchangeAdapter,
    Found,
    ListingRead,
    OrderListing,
    OrderRead,
    OrderState,
    OrderStatus,
    Unavailable,
)
from hireliab.exchange.transaction import Proof, Record, State, Transaction, seen

AFTERWATCH_AGES = (60.0, 300.0, 900.0, 3600.0)
"""Seconds after an ABSENT verdict at which the order is looked for again; then every hour."""
_HOUR = 3600.0
FEW = 3
"""So many orders are looked up by id at once; more of them wait for one listing that serves all."""


class _Watch(NamedTuple):
    """Of one transaction that is presumed absent; monotonic seconds."""

    next_look: float
    looks: int
    end: float


class Watching:
    """
    Of the resolver's thread alone.

    Args:
        most: Longest afterwatch, in seconds.
        saw: Told of every read.
        guarded: Runs the work on one transaction, so that its trouble is not the others'.
        resurrected: Called with a transaction that left its decided state, and the order that appeared.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        adapter: ExchangeAdapter,
        clock: Clock,
        most: float,
        resurrected: Callable[[Transaction, OrderState], None],
        saw: Callable[[OrderRead | ListingRead], None],
        guarded: Callable[[Transaction, Callable[[], None]], None],
    ) -> None:
        self._guarded = guarded
        self._ledger = ledger
        self._adapter = adapter
        self._saw = saw
        self._most = most
        self._clock = clock
        self._resurrected = resurrected
        self._watches: dict[str, _Watch] = {}

    def due(self, transaction: Transaction) -> float:
        """Monotonic seconds at which a presumed absent order is looked for next."""
        watch = self._watches.get(transaction.id)
        if watch is None:
            now = self._clock.monotonic()
            left = (transaction.record.watch_until or 0.0) - self._clock.time()
            # From here on the wall clock may jump. What it says of the time before the restart may be wrong, too: an
            # hour at least.
            left = min(max(left, _HOUR), max(_HOUR, self._most))
            watch = self._watches[transaction.id] = _Watch(now + AFTERWATCH_AGES[0], 0, now + left)
        return watch.next_look

    def look(self, transaction: Transaction, orders: OrderListing) -> None:
        """Look again for an order that was presumed absent; the only way out of a decided state."""
        record = transaction.record
        now = self._clock.monotonic()
        watch = self._watches[transaction.id]
        looks = watch.looks + 1
        age = AFTERWATCH_AGES[looks] - AFTERWATCH_AGES[looks - 1] if looks < len(AFTERWATCH_AGES) else _HOUR
        self._watches[transaction.id] = _Watch(now + age, looks, watch.end)
        finding = evidence.search(
            record,
            orders.orders,
            (),
            is_bound=lambda order_id: self._ledger.is_bound(order_id, to_other_than=record.txn_id),
        )
        found = tuple(order.order_id for order in finding.candidates)
        if found and not finding.ours and found != record.candidates:
            self._ledger.note(transaction, record, cause="likenesses appeared", candidates=found, needs_human=True)
            self._ledger.alert(
                "critical",
                f"{record.order.type} {record.order.side} {record.order.symbol}: needs a person",
                f"transaction {record.txn_id} was presumed absent, and venue orders without a client order id that"
                f" look like it appeared: {', '.join(found)}; look at the exchange's order history",
                record,
            )
            return
        if finding.ours:
            self._watches.pop(transaction.id)
            cause = f"venue order {finding.ours[0].order_id} appeared after it was presumed absent"
            equals = self._later_equals(record)
            if equals:
                cause += f"; equal orders were sent meanwhile: {', '.join(equals)}"
            moved = self._ledger.move(
                transaction, record, "T25", State.RESOLVING, cause=cause, proof=Proof.NONE, watch_until=None
            )
            if moved is not None:
                self._resurrected(transaction, finding.ours[0])
        elif record.watch_until is not None and now > watch.end:
            self._watches.pop(transaction.id)
            self._ledger.note(transaction, record, cause="afterwatch ended", watch_until=None)

    def _later_equals(self, record: Record) -> list[str]:
        """Transactions that asked for the same after this one: together they may be twice what was wanted."""
        key = fingerprint(record.order)
        newest = self._ledger.journal.select(limit=1000)
        # By the watermark, not by the time in the ids: clocks step back. Naming one too many is the safe mistake.
        return [
            r.txn_id
            for r in newest
            if r.txn_id != record.txn_id
            and r.sent_wall
            and int(r.baseline) >= int(record.baseline)
            and fingerprint(r.order) == key
        ]

    def look_at_resting(self) -> None:
        """
        Look at the orders that rest in the book: one listing of what is open, and by its id what is missing there.

        Not by the history: an order that rests for a month would make every listing a month long.
        """
        resting = [t for t in self._ledger.live() if t.record.is_open_at_venue]
        listing = self._adapter.list_open_orders()
        self._saw(listing)
        if isinstance(listing, Unavailable):
            return
        by_id = {order.order_id: order for order in listing.orders}
        missing = [t for t in resting if t.record.order_id not in by_id]
        if len(missing) > FEW:  # as after a night without the bot: one listing serves them all
            history = self._adapter.list_orders_since(str(min(int(t.record.order_id or "0") for t in missing) - 1))
            self._saw(history)
            if isinstance(history, OrderListing):
                by_id |= {order.order_id: order for order in history.orders}
                missing = [t for t in missing if t.record.order_id not in by_id]
        for transaction in missing[:FEW]:  # the others at the next look
            read = self._adapter.find_by_id(transaction.record.order_id or "")
            self._saw(read)
            if isinstance(read, Found):
                by_id[transaction.record.order_id or ""] = read.order
        for transaction in resting:
            shown = by_id.get(transaction.record.order_id or "")
            if shown is not None:
                self._guarded(transaction, partial(self.follow, transaction, shown))

    def follow(self, transaction: Transaction, order: OrderState) -> None:
        """Keep the record of a decided, resting order current until it closes."""
        record = transaction.record
        facts = seen(order)
        if not any(getattr(record, name) != value for name, value in facts.items()) or order.filled < record.filled:
            return
        # A listing lags: it may show an order as New that a look-up by id showed as live, or as open that a cancel
        # closed since. A record that took that over would be followed no more.
        if not record.is_open_at_venue or order.status in (OrderStatus.NEW, OrderStatus.OTHER):
            return
        cause = f"venue shows {order.raw_status or order.status.value}, filled {order.filled}"
        event = {"Done": "filled", "Canceled": "closed", "Rejected": "closed"}.get(order.status.value, "updated")
        self._ledger.note(transaction, record, cause=cause, topic=f"order.{event}", **facts)
