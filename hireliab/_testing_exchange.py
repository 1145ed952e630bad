"""`ScriptedExchange`: an exchange in memory that does what its script says."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal

from hireliab.core import config as checks
from hireliab.core import money
from hireliab.core.clock import Clock
from hireliab.errors import (
    ConnectError,
    DuplicateOrderError,
    InvalidOrderError,
    OrderNotFoundError,
    OrderRejectedError,
    ResponseLostError,
    ResponseTimeoutError,
    ThrottledError,
)
from hireliab.exchange.adapter import (
    Absent,
    Account,
    Balance,
    Capabilities,
    Fill,
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

_ARRIVES = ("fill", "rest", "new", "partial", "unfilled", "rejected_later")
_WORDS = (
    *_ARRIVES,
    *(f"{word}_answer_lost" for word in _ARRIVES),
    *("reject", "throttle", "duplicate", "not_sent", "request_lost"),
)


class ScriptedExchange:
    """
    An ExchangeAdapter in memory that does what the next word of its script says; for tests of bots.

    Words: "fill", "rest" (stays in the book), "new" (not in the book yet), "partial" (closed, half filled),
    "unfilled" (closed, nothing filled), "rejected_later" (acknowledged, then rejected), "reject", "throttle",
    "duplicate", "not_sent" (proven not to have left), "request_lost" (left, never arrived), and any of the first six
    with "_answer_lost" behind it (arrived, and the answer did not come back). An empty script fills market orders and
    rests the others. A callable is called with the order and its answer, or what it raises, is the answer.

    Attributes:
        script: Words for the next submits.
        orders: What the exchange holds, by venue id.
        calls: Every call, as (method, argument).
        blind: While not None, every read is Unavailable with this error.
        hidden: Venue ids that listings do not show yet.
        null_client_ids: Closed orders are shown without their client order id.
        last_price: Of every market.
    """

    def __init__(self, *, clock: Clock, account: str = "tester", late_arrival_bound: float = 70.0) -> None:
        self.name = "scripted"
        self.account = Account(venue="scripted", host="memory", identity=account)
        self.capabilities = Capabilities(
            late_arrival_bound=late_arrival_bound,
            late_arrival_is_proof=False,
            finds_closed_by_client_id=False,
            listing_shows_client_id=None,
        )
        self.script: deque[str | Callable[[Order], OrderState]] = deque()
        self.orders: dict[str, OrderState] = {}
        self.calls: list[tuple[str, object]] = []
        self.blind: Exception | None = None
        self.hidden: set[str] = set()
        self.null_client_ids = False
        self.last_price = Decimal(100)
        self.restored: list[float] = []
        self._clock = clock
        self._lock = threading.Lock()  # guards orders, calls, script and _next
        self._next = 3_000_000_000

    def sends(self) -> int:
        """How many orders were given to `submit`."""
        return sum(1 for name, _ in self.calls if name == "submit")

    def change(self, order_id: str, **fields: object) -> None:
        """Change an order at the exchange, such as status=OrderStatus.DONE, filled=Decimal(1)."""
        status = fields.get("status")
        if isinstance(status, OrderStatus):
            fields.setdefault("raw_status", status.value)
        with self._lock:
            self.orders[order_id] = dataclasses.replace(self.orders[order_id], **fields)  # type: ignore[arg-type]

    def _note(self, name: str, argument: object = None) -> None:
        with self._lock:
            self.calls.append((name, argument))

    def restore_limits(self, send_ages: Sequence[float]) -> None:
        """See ExchangeAdapter."""
        self.restored = list(send_ages)

    def note_listing_shows_client_id(self, shown: bool) -> None:
        """See ExchangeAdapter."""
        self.capabilities = dataclasses.replace(self.capabilities, listing_shows_client_id=shown)

    def server_time(self) -> float:
        """See ExchangeAdapter."""
        return self._clock.time()

    def validate(self, order: Order) -> Order:
        """See ExchangeAdapter; knows every market but "NO/SUCH"."""
        if order.symbol == "NO/SUCH":
            raise InvalidOrderError("symbol: no market NO/SUCH", by="hireliab")
        return order

    def prepare(self, order: Order) -> _ScriptedOrder:
        """See ExchangeAdapter."""
        self._note("prepare", order)
        if order.type == "market" and order.price is None:
            order = dataclasses.replace(order, price=self.last_price)
        return _ScriptedOrder(self, self.validate(order))

    def prepare_cancel(self, order_id: str) -> _ScriptedCancel:
        """See ExchangeAdapter."""
        self._note("prepare_cancel", order_id)
        return _ScriptedCancel(self, order_id)

    def place(self, order: Order) -> OrderState:
        """Do what the script says."""
        with self._lock:
            self.calls.append(("submit", order))
            word = self.script.popleft() if self.script else ("fill" if order.type == "market" else "rest")
        if callable(word):
            return word(order)
        checks.choice("ScriptedExchange.script", word, _WORDS)
        action, lost, _ = word.partition("_answer_lost")
        if action == "reject":
            raise OrderRejectedError("order: refused by the script", code="SmallOrder", http_status=200)
        if action == "throttle":
            raise ThrottledError("order: throttled by the script", retry_after=1.0, http_status=429)
        if action == "duplicate":
            raise DuplicateOrderError("order: duplicate says the script", code="DuplicateOrder", http_status=200)
        if action == "not_sent":
            raise ConnectError("order: not sent by the script")
        if action == "request_lost":
            raise ResponseTimeoutError("order: request lost by the script")
        state = self._accept(order, action)
        if lost:
            raise ResponseLostError("order: answer lost by the script")
        return state

    def _accept(self, order: Order, action: str) -> OrderState:
        half = money.snap_down(money.divide(order.amount, Decimal(2)), Decimal("0.00000001"))
        status, filled = {
            "fill": (OrderStatus.DONE, order.amount),
            "rest": (OrderStatus.ACTIVE, money.ZERO),
            "new": (OrderStatus.NEW, money.ZERO),
            "partial": (OrderStatus.CANCELED, half),
            "unfilled": (OrderStatus.CANCELED, money.ZERO),
            "rejected_later": (OrderStatus.REJECTED, money.ZERO),
        }[action]
        with self._lock:
            self._next += 1
            state = OrderState(
                order_id=str(self._next),
                symbol=order.symbol,
                side=order.side,
                type=order.type,
                amount=order.amount,
                filled=filled,
                status=status,
                client_order_id=order.client_order_id,
                price=order.price,
                stop_price=order.stop_price,
                average_price=order.price if filled else None,
                created=self._clock.time(),
                raw_status=status.value,
            )
            self.orders[state.order_id] = state
        return state

    def withdraw(self, order_id: str) -> OrderState:
        """Cancel an order of the book."""
        with self._lock:
            self.calls.append(("cancel", order_id))
            state = self.orders.get(order_id)
            if state is None:
                raise OrderNotFoundError(f"order {order_id}: unknown")
            if not state.status.is_closed:
                state = dataclasses.replace(state, status=OrderStatus.CANCELED, raw_status="Canceled")
                self.orders[order_id] = state
            return state

    def _shown(self, state: OrderState) -> OrderState:
        hide = self.null_client_ids and state.status.is_closed
        return dataclasses.replace(state, client_order_id=None) if hide else state

    def find_by_id(self, order_id: str) -> OrderRead:
        """See ExchangeAdapter."""
        self._note("find_by_id", order_id)
        if self.blind is not None:
            return Unavailable(self.blind)
        with self._lock:
            state = self.orders.get(order_id)
        return Absent("status by id") if state is None else Found(self._shown(state))

    def find_by_client_id(self, client_order_id: str) -> OrderRead:
        """See ExchangeAdapter; like Nobitex it finds open orders only."""
        self._note("find_by_client_id", client_order_id)
        if self.blind is not None:
            return Unavailable(self.blind)
        with self._lock:
            for state in self.orders.values():
                if state.client_order_id == client_order_id and not state.status.is_closed:
                    return Found(state)
        return Absent("status by client id")

    def list_orders_since(self, order_id: str) -> ListingRead:
        """See ExchangeAdapter."""
        self._note("list_orders_since", order_id)
        if self.blind is not None:
            return Unavailable(self.blind)
        started = self._clock.monotonic()
        with self._lock:
            orders = [
                self._shown(o)
                for o in self.orders.values()
                if int(o.order_id) > int(order_id) and o.order_id not in self.hidden
            ]
        return OrderListing(
            orders=tuple(sorted(orders, key=lambda o: int(o.order_id))), since=order_id, started=started
        )

    def list_open_orders(self) -> ListingRead:
        """See ExchangeAdapter."""
        listing = self.list_orders_since("0")
        if isinstance(listing, Unavailable):
            return listing
        return dataclasses.replace(listing, orders=tuple(o for o in listing.orders if not o.status.is_closed))

    def reference_price(self, symbol: str) -> Decimal | Unavailable:  # noqa: ARG002 - every market has the same
        """See ExchangeAdapter."""
        return self.last_price if self.blind is None else Unavailable(self.blind)

    def newest_order_id(self) -> str | Unavailable:
        """See ExchangeAdapter."""
        if self.blind is not None:
            return Unavailable(self.blind)
        with self._lock:
            return max(self.orders, key=int, default="0")

    def list_fills_since(self, since: float) -> FillsRead:
        """See ExchangeAdapter."""
        self._note("list_fills_since", since)
        if self.blind is not None:
            return Unavailable(self.blind)
        with self._lock:
            fills = [
                Fill(
                    trade_id=f"t{o.order_id}",
                    order_id=o.order_id,
                    symbol=o.symbol,
                    side=o.side,
                    amount=o.filled,
                    price=o.average_price or self.last_price,
                    fee=money.ZERO,
                    time=o.created or 0.0,
                )
                for o in self.orders.values()
                if o.filled and (o.created or 0.0) >= since
            ]
        return FillListing(fills=tuple(fills), since=since, started=self._clock.monotonic())

    def balances(self) -> dict[str, Balance] | Unavailable:
        """See ExchangeAdapter; an empty wallet."""
        return {} if self.blind is None else Unavailable(self.blind)


class _ScriptedOrder:
    """A prepared order of a ScriptedExchange."""

    def __init__(self, exchange: ScriptedExchange, order: Order) -> None:
        self._exchange = exchange
        self.order = order

    def submit(self, before_send: Callable[[], None]) -> OrderState:
        """See Prepared."""
        before_send()
        return self._exchange.place(self.order)

    def abandon(self) -> None:
        """See Prepared."""


class _ScriptedCancel:
    """A prepared cancel of a ScriptedExchange."""

    def __init__(self, exchange: ScriptedExchange, order_id: str) -> None:
        self._exchange = exchange
        self._order_id = order_id

    def submit(self, before_send: Callable[[], None]) -> OrderState:
        """See Prepared."""
        before_send()
        return self._exchange.withdraw(self._order_id)

    def abandon(self) -> None:
        """See Prepared."""
