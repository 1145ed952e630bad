"""The order and fill values, and the store that remembers every version of every order."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from hireliab.simulator import money
from hireliab.simulator.money import ZERO

NEW = "New"
ACTIVE = "Active"
INACTIVE = "Inactive"
DONE = "Done"
CANCELED = "Canceled"
REJECTED = "Rejected"

OPEN_STATUSES = frozenset({NEW, ACTIVE, INACTIVE})

EXECUTION_NAMES = {
    "limit": "Limit",
    "market": "Market",
    "stop_limit": "StopLimit",
    "stop_market": "StopMarket",
}


@dataclass(frozen=True)
class Order:
    """One version of one order. A change makes a new value."""

    id: int
    account: str
    market: str
    """Symbol, as in ``BTCIRT``."""
    side: str
    execution: str
    amount: Decimal
    price: Decimal | None
    """Limit price; for market orders the expected price, given or estimated."""
    stop_price: Decimal | None
    client_order_id: str | None
    created_ns: int
    request: int
    """Number of the request that placed it."""
    fee_currency: str
    """Base for a buy, quote for a sell."""
    worst_price: Decimal
    """The worst price it may fill at: its limit price, or the edge of the collar."""
    status: str = ACTIVE
    matched: Decimal = ZERO
    value: Decimal = ZERO
    """Sum of price times amount of all fills."""
    fee: Decimal = ZERO
    pair_id: int | None = None
    held: Decimal = ZERO
    """What it blocks in its wallet now; the stop leg of an OCO only what the limit leg lacks."""

    @property
    def is_open(self) -> bool:
        """Whether it can still change."""
        return self.status in OPEN_STATUSES

    @property
    def unmatched(self) -> Decimal:
        """What is left to fill."""
        return money.sub(self.amount, self.matched)

    @property
    def average_price(self) -> Decimal:
        """Mean price of its fills; 0 before the first."""
        return money.div(self.value, self.matched) if self.matched else ZERO

    @property
    def takes_market_price(self) -> bool:
        """Whether it never rests in the book."""
        return self.execution in {"market", "stop_market"}

    def need(self) -> Decimal:
        """What its unfilled rest needs: base for a sell, quote for a buy."""
        if self.side == "sell":
            return self.unmatched
        return money.mul(self.unmatched, self.worst_price)


@dataclass(frozen=True)
class Fill:
    """One user's side of one trade."""

    id: int
    order_id: int
    account: str
    market: str
    side: str
    amount: Decimal
    price: Decimal
    total: Decimal
    fee: Decimal
    fee_currency: str
    maker: bool
    at_ns: int
    at: float
    """The same moment on the monotonic clock, for visibility."""


class OrderStore:
    """
    Orders by id, account and client id, with the time of each version.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self) -> None:
        self._versions: dict[int, list[tuple[float, Order]]] = {}
        self._by_account: dict[str, dict[int, None]] = defaultdict(dict)
        self._by_client_id: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._open: dict[str, dict[int, None]] = defaultdict(dict)
        self._ended: deque[tuple[float, int]] = deque()

    def add(self, order: Order, at: float) -> None:
        """Store the first version of an order."""
        self._versions[order.id] = [(at, order)]
        self._by_account[order.account][order.id] = None
        if order.client_order_id is not None:
            self._by_client_id[order.account, order.client_order_id].append(order.id)
        if order.is_open:
            self._open[order.account][order.id] = None

    def update(self, order: Order, at: float) -> None:
        """Store the next version of a known order."""
        self._versions[order.id].append((at, order))
        if not order.is_open and self._open[order.account].pop(order.id, 0) is None:
            self._ended.append((at, order.id))

    def get(self, order_id: int) -> Order | None:
        """The newest version."""
        versions = self._versions.get(order_id)
        return versions[-1][1] if versions else None

    def visible(self, order_id: int, cutoff: float) -> Order | None:
        """The newest version that is not younger than `cutoff`."""
        for at, order in reversed(self._versions.get(order_id, ())):
            if at <= cutoff:
                return order
        return None

    def account_orders(self, account: str, cutoff: float, after: int = 0) -> Iterator[Order]:
        """Orders of an account with a greater id than `after`, as they were at `cutoff`, newest first."""
        for order_id in reversed(self._by_account[account]):
            if order_id <= after:
                return
            order = self.visible(order_id, cutoff)
            if order is not None:
                yield order

    def open_orders(self, account: str) -> list[Order]:
        """The orders of an account that can still change, oldest first."""
        return [self._versions[order_id][-1][1] for order_id in self._open[account]]

    def open_by_client_id(self, account: str, client_id: str, cutoff: float) -> Order | None:
        """The open order with this client id, as things looked at `cutoff`."""
        for order_id in reversed(self._by_client_id.get((account, client_id), ())):
            order = self.visible(order_id, cutoff)
            if order is not None and order.is_open:
                return order
        return None

    def prune(self, before: float) -> None:
        """Forget orders that ended before a moment."""
        while self._ended and self._ended[0][0] < before:
            _, order_id = self._ended.popleft()
            # The first version, because the last one may have lost its client id.
            order = self._versions.pop(order_id)[0][1]
            self._by_account[order.account].pop(order_id)
            if order.client_order_id is not None:
                self._by_client_id[order.account, order.client_order_id].remove(order_id)

    def __len__(self) -> int:
        return len(self._versions)
