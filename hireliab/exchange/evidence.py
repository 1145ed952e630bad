"""
What reads prove: found, absent or undecided. Pure.

A positive is decisive when the venue shows our client order id. A negative needs all of this (transactions.md 3.5 and
ARCHITECTURE.md section 6):

- A1: no byte of ours can still arrive: the listing was started after the fence.
- A2: three such listings, spread over the visibility window.
- A3: each was complete, orders and fills, and shows no row that could be ours.
- A5: each shows our newest order that had been acknowledged one visibility window before it, if there is one: it was
  not answered by a replica that lags further than we allow for.

Rows that could be ours but carry no client order id decide nothing: the account may be shared with a person who
trades by hand, so a likeness never binds by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from hireliab.core import money
from hireliab.exchange.adapter import Fill, Order, OrderState, OrderStatus
from hireliab.exchange.transaction import Proof, Record, State

CLOCK_MARGIN = 60.0
"""Seconds by which our idea of the venue's clock may be off."""
NEGATIVES = 3
"""How many complete, empty listings absence takes (A2)."""


@dataclass(frozen=True, slots=True)
class Step:
    """A transition that a read demands: row of the table, target state and proof."""

    row: str
    to: State
    proof: Proof


def settle(record: Record, order: OrderState) -> Step | None:
    """
    What a read of our own order means for an order transaction; None when it decides nothing.

    Args:
        record: In ACKED, WORKING, RESOLVING or UNKNOWN.
        order: What the venue shows.
    """
    status, filled = order.status, order.filled
    if status.is_closed:
        if filled >= record.order.amount:
            return Step("T11", State.COMPLETED, Proof.FILLED)
        if status is OrderStatus.DONE:
            return None  # "fully filled" with less than the amount contradicts itself: read again
        if filled > money.ZERO:
            return Step("T11b", State.COMPLETED, Proof.PARTIAL)
        if status is OrderStatus.REJECTED:
            return Step("T12", State.FAILED, Proof.REJECTED)
        return Step("T12b", State.FAILED, Proof.CLOSED_UNFILLED)
    if status.is_live and record.commit == "accepted":
        return Step("T11", State.COMPLETED, Proof.LIVE)
    return None


def settle_cancel(record: Record, order: OrderState) -> Step | None:
    """The same for a cancel; None while the order is not closed."""
    if not order.status.is_closed:
        return None
    if order.filled >= record.order.amount:
        return Step("T20", State.COMPLETED, Proof.FILLED)
    if order.status is OrderStatus.DONE:
        return None
    if order.filled > money.ZERO:
        return Step("T21", State.COMPLETED, Proof.PARTIAL)
    return Step("T19", State.ROLLED_BACK, Proof.CANCELLED)


def speaks_of(record: Record, order: OrderState) -> bool:
    """
    Whether an answer is about this transaction's order at all.

    A client order id decides where one is shown, whatever the venue's id is; else the venue's id must be the one
    that was asked for. Answers do get swapped.
    """
    if order.client_order_id is not None:
        return order.client_order_id == record.order.client_order_id
    return record.order_id is not None and order.order_id == record.order_id


def is_anothers(record: Record, order: OrderState) -> bool:
    """Whether the order under the id that we were given shows another client order id: the id was not ours."""
    shown = order.client_order_id
    return order.order_id == record.order_id and shown is not None and shown != record.order.client_order_id


def has_fields_of(wanted: Order, order: OrderState) -> bool:
    """Same side, type and amount; same market and prices where the answer shows them."""
    return (
        _may_be_in(wanted.symbol, order.symbol)
        and order.side == wanted.side
        and order.type == wanted.type
        and order.amount == wanted.amount
        and _agree(order.stop_price, wanted.stop_price)
        # A market order's price is an expectation; the venue may show its own, or the word "market".
        and (wanted.type in ("market", "stop_market") or _agree(order.price, wanted.price))
    )


def _may_be_in(symbol: str, shown: str) -> bool:
    return shown in ("", symbol)  # an answer may leave its market out, and that contradicts nothing


def _agree(a: Decimal | None, b: Decimal | None) -> bool:
    return a is None or b is None or a == b


def is_newer(order_id: str, than: str) -> bool:
    """Whether one venue id was given after another; Nobitex counts them up."""
    return int(order_id) > int(than)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one listing says about one transaction.

    Attributes:
        ours: Orders with our client order id; more than one is a duplicate that must be shouted about.
        candidates: Orders that could be ours but show no client order id.
        leads: Ids of orders that fills speak of and the listing does not show yet: worth a look by id.
        nameless: Whether a fill that could be ours does not say of which order it is.
    """

    ours: tuple[OrderState, ...]
    candidates: tuple[OrderState, ...]
    leads: tuple[str, ...]
    nameless: bool = False


def search(
    record: Record, orders: Iterable[OrderState], fills: Iterable[Fill], *, is_bound: Callable[[str], bool]
) -> Finding:
    """
    Look for a transaction's order in a listing of orders and one of fills.

    Args:
        record: Whose order is looked for.
        orders: Complete from the record's baseline on.
        fills: Complete from the record's baseline time on.
        is_bound: Whether a venue id belongs to another transaction of ours.
    """
    ours, candidates, shown = [], [], set()
    for order in orders:
        shown.add(order.order_id)
        if not is_newer(order.order_id, record.baseline):
            continue
        if order.client_order_id is not None:
            if order.client_order_id == record.order.client_order_id:
                ours.append(order)
        elif speaks_of(record, order):
            ours.append(order)
        elif has_fields_of(record.order, order) and not is_bound(order.order_id):
            candidates.append(order)
    leads, nameless = set(), False
    for fill in fills:
        if not _may_be_in(record.order.symbol, fill.symbol) or fill.side != record.order.side:
            continue
        if fill.order_id is None:
            nameless |= fill.time >= record.baseline_time - CLOCK_MARGIN and fill.amount <= record.order.amount
        elif fill.order_id not in shown and is_newer(fill.order_id, record.baseline) and not is_bound(fill.order_id):
            leads.add(fill.order_id)
    return Finding(tuple(ours), tuple(candidates), tuple(sorted(leads)), nameless)


class AbsenceProof:
    """
    Counts the negatives of one transaction; starts again from zero after a restart, which is the safe direction.

    Args:
        fence: Monotonic seconds after which no byte of ours can arrive any more.
        window: Seconds of visibility lag that are allowed for.
    """

    def __init__(self, *, fence: float, window: float) -> None:
        self.fence = fence
        self._window = window
        self._first: float | None = None
        self._count = 0

    def negative(self, *, started: float, canary_shown: bool) -> bool:
        """
        Count a complete listing without a candidate.

        Args:
            started: Monotonic seconds at which its first request was made.
            canary_shown: A5.

        Returns:
            Whether absence is proven now.
        """
        if started < self.fence or not canary_shown:
            return False
        if self._first is None:
            self._first = started
        self._count += 1
        return self._count >= NEGATIVES and started - self._first >= self._window

    def restart(self) -> None:
        """The order, or one that could be ours, was seen: earlier negatives were too early."""
        self._first, self._count = None, 0
