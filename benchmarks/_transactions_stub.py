"""
An exchange inside the process, so that only what a contestant adds is measured.

It fills market orders at once and keeps the truth that every contestant's figures are checked against. hireliab meets
it as an ExchangeAdapter, the others call it directly; both make the same two calls for an order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from hireliab.errors import InvalidOrderError, OrderNotFoundError
from hireliab.exchange.adapter import (
    Absent,
    Account,
    Balance,
    Capabilities,
    FillListing,
    FillsRead,
    Found,
    ListingRead,
    Order,
    OrderListing,
    OrderRead,
    OrderState,
    OrderStatus,
    Unavailable,
)

CALLS = 2
"""Calls for one order: place it, read it back."""
PRICE = Decimal(50_000)
SYMBOL = "BTC/USDT"
_FIRST_ID = 3_000_000_000


class StubExchange:
    """
    Holds orders, and answers after `latency` seconds.

    Attributes:
        latency: Of each call; may be changed between rounds.
        held: While set, an order is read back as New, so that whoever placed it goes on waiting.
        calls: How many were made to place or to read an order.
    """

    def __init__(self) -> None:
        self.latency = 0.0
        self.held = False
        self.calls = 0
        self._lock = threading.Lock()  # guards calls, _orders and _next
        self._orders: dict[str, OrderState] = {}
        self._next = _FIRST_ID

    def place(self, client_order_id: str, side: str, amount: Decimal) -> OrderState:
        """Fill a market order; a second one with the same client order id is placed as well, as at Nobitex."""
        if self.latency:
            time.sleep(self.latency)
        with self._lock:
            self.calls += 1
            self._next += 1
            number = str(self._next)
            state = self._orders[number] = OrderState(
                order_id=number,
                symbol=SYMBOL,
                side=side,
                type="market",
                amount=amount,
                filled=amount,
                status=OrderStatus.DONE,
                client_order_id=client_order_id,
                price=PRICE,
                average_price=PRICE,
                created=time.time(),
                raw_status="Done",
            )
        return self._shown(state)

    def read(self, order_id: str) -> OrderState:
        """An order by id; raises KeyError for one that does not exist."""
        if self.latency:
            time.sleep(self.latency)
        with self._lock:
            self.calls += 1
            state = self._orders[order_id]
        return self._shown(state)

    def _shown(self, state: OrderState) -> OrderState:
        if not self.held:
            return state
        return replace(state, status=OrderStatus.NEW, raw_status="New", filled=Decimal(0), average_price=None)

    def orders(self) -> list[OrderState]:
        """The truth: every order that was placed, oldest first."""
        with self._lock:
            return list(self._orders.values())


class StubAdapter:
    """The same exchange as hireliab's pipeline sees it; see ExchangeAdapter."""

    def __init__(self, exchange: StubExchange) -> None:
        self.name = "stub"
        self.account = Account(venue="stub", host="memory", identity="benchmark")
        self.capabilities = Capabilities(
            late_arrival_bound=70.0,
            late_arrival_is_proof=False,
            finds_closed_by_client_id=True,
            listing_shows_client_id=True,
        )
        self._exchange = exchange

    def restore_limits(self, send_ages: Sequence[float]) -> None:
        """It has no limits."""

    def note_listing_shows_client_id(self, shown: bool) -> None:
        """See ExchangeAdapter."""
        self.capabilities = replace(self.capabilities, listing_shows_client_id=shown)

    def server_time(self) -> float:
        """See ExchangeAdapter."""
        return time.time()

    def validate(self, order: Order) -> Order:
        """See ExchangeAdapter."""
        if order.symbol != SYMBOL or order.type != "market":
            raise InvalidOrderError(f"order: only market orders of {SYMBOL}, got {order.type} {order.symbol}")
        return order

    def prepare(self, order: Order) -> _StubOrder:
        """See ExchangeAdapter; market orders carry a price."""
        return _StubOrder(self._exchange, replace(self.validate(order), price=order.price or PRICE))

    def prepare_cancel(self, order_id: str) -> _StubCancel:
        """See ExchangeAdapter; everything is filled at once, so a cancel changes nothing."""
        return _StubCancel(self._exchange, order_id)

    def find_by_id(self, order_id: str) -> OrderRead:
        """See ExchangeAdapter."""
        try:
            return Found(self._exchange.read(order_id))
        except KeyError:
            return Absent("status by id")

    def find_by_client_id(self, client_order_id: str) -> OrderRead:
        """See ExchangeAdapter."""
        for state in self._exchange.orders():
            if state.client_order_id == client_order_id:
                return Found(state)
        return Absent("status by client id")

    def list_orders_since(self, order_id: str) -> ListingRead:
        """See ExchangeAdapter."""
        started = time.monotonic()
        orders = tuple(state for state in self._exchange.orders() if int(state.order_id) > int(order_id))
        return OrderListing(orders=orders, since=order_id, started=started)

    def list_open_orders(self) -> ListingRead:
        """See ExchangeAdapter; nothing rests."""
        return OrderListing(orders=(), since="0", started=time.monotonic())

    def newest_order_id(self) -> str | Unavailable:
        """See ExchangeAdapter."""
        return max((state.order_id for state in self._exchange.orders()), key=int, default="0")

    def reference_price(self, symbol: str) -> Decimal | Unavailable:
        """See ExchangeAdapter."""
        return PRICE if symbol == SYMBOL else Unavailable(InvalidOrderError(f"symbol: no market {symbol}"))

    def list_fills_since(self, since: float) -> FillsRead:
        """See ExchangeAdapter; nobody asks here."""
        return FillListing(fills=(), since=since, started=time.monotonic())

    def balances(self) -> dict[str, Balance] | Unavailable:
        """See ExchangeAdapter; an empty wallet."""
        return {}


@dataclass(frozen=True, slots=True)
class _StubOrder:
    _exchange: StubExchange
    order: Order

    def submit(self, before_send: Callable[[], None]) -> OrderState:
        before_send()
        return self._exchange.place(self.order.client_order_id, self.order.side, self.order.amount)

    def abandon(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _StubCancel:
    _exchange: StubExchange
    _order_id: str

    def submit(self, before_send: Callable[[], None]) -> OrderState:
        before_send()
        try:
            return self._exchange.read(self._order_id)
        except KeyError:
            raise OrderNotFoundError(f"order {self._order_id}: unknown") from None

    def abandon(self) -> None:
        pass
