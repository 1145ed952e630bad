"""
What the pipeline needs of a venue: `ExchangeAdapter`, the values that cross it, and typed reads.

A read never answers None, and never an empty list for an error: it is `Found`, `Absent` or `Unavailable`. The
commonest real bug of trading bots is *unknown treated as absent*; here the two have different types.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypeAlias

ORDER_TYPES = ("market", "limit", "stop_limit", "stop_market")
SIDES = ("buy", "sell")


class OrderStatus(enum.Enum):
    """A venue order's status, in the words of Nobitex (nobitex-api.md 8.5)."""

    NEW = "New"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    DONE = "Done"
    CANCELED = "Canceled"
    REJECTED = "Rejected"
    OTHER = "Other"
    """A status that the venue does not document: needs attention, proves nothing."""

    @property
    def is_closed(self) -> bool:
        """No later fill is possible."""
        return self in (OrderStatus.DONE, OrderStatus.CANCELED, OrderStatus.REJECTED)

    @property
    def is_live(self) -> bool:
        """In the book, waiting for its trigger, or filled; `New` is not: validation may still reject it."""
        return self in (OrderStatus.ACTIVE, OrderStatus.INACTIVE, OrderStatus.DONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    An order as somebody wants it, before the venue knows it.

    Attributes:
        symbol: "BASE/QUOTE" in upper case, such as "BTC/IRT".
        side: "buy" or "sell".
        type: One of ORDER_TYPES.
        amount: In the base currency.
        price: Limit price, or the expected price of a market order; in the quote currency (rial for IRT).
        stop_price: Trigger of a stop order.
        client_order_id: Ours, at most 32 characters of [A-Za-z0-9-]; "" until the pipeline gives one.
    """

    symbol: str
    side: str
    type: str
    amount: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    client_order_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderState:
    """
    An order as the venue reports it.

    Attributes:
        order_id: The venue's id.
        symbol: As in Order; "" where the answer names no market that is known.
        client_order_id: None where the venue does not show one.
        amount: What the order is for, base currency.
        filled: What was executed so far, base currency.
        price: None for an order without one ("market").
        average_price: None until something was filled.
        fee: So far, in `fee_currency` as the venue charges it (Nobitex: a buy in base, a sell in quote).
        status: See OrderStatus.
        created: Unix seconds, or None where the venue does not say.
        raw_status: The venue's own word.
    """

    order_id: str
    symbol: str
    side: str
    type: str
    amount: Decimal
    filled: Decimal
    status: OrderStatus
    client_order_id: str | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    average_price: Decimal | None = None
    fee: Decimal = Decimal(0)
    created: float | None = None
    raw_status: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution of one of our orders; `symbol` as in OrderState, `time` in Unix seconds of the venue's clock."""

    trade_id: str
    order_id: str | None
    symbol: str
    side: str
    amount: Decimal
    price: Decimal
    fee: Decimal
    time: float


@dataclass(frozen=True, slots=True)
class Found:
    """A read that shows the order."""

    order: OrderState


@dataclass(frozen=True, slots=True)
class Absent:
    """A read that worked and does not show the order; what that proves is evidence.py's business."""

    source: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A read that did not work: error, throttle, open breaker, stopped pool. It proves nothing."""

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderListing:
    """
    A complete listing of our own orders with ids above `since`, oldest first.

    Attributes:
        orders: All of them, every page.
        since: The watermark that was asked for.
        started: `clock.monotonic()` when the first page was asked for: what happened later may be missing.
    """

    orders: tuple[OrderState, ...]
    since: str
    started: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FillListing:
    """
    A complete listing of our own fills since a time, any order; `started` as in OrderListing.

    Attributes:
        since: Unix seconds of the venue's clock from which on it is complete: what was asked for, or later where the
            venue keeps no fills for so long.
    """

    fills: tuple[Fill, ...]
    since: float
    started: float


OrderRead: TypeAlias = "Found | Absent | Unavailable"
ListingRead: TypeAlias = "OrderListing | Unavailable"
FillsRead: TypeAlias = "FillListing | Unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """One currency of the account; `available` is total minus blocked."""

    currency: str
    total: Decimal
    blocked: Decimal
    available: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketData:
    """
    Order book, last price and statistics of one market in one value.

    Attributes:
        asks: (price, amount) pairs, lowest price first.
        bids: (price, amount) pairs, highest price first.
        last_price: Of the last trade, or None.
        stats: The venue's 24 h statistics by its own names (bestSell, dayHigh, ...), numbers as Decimal.
        updated: Unix seconds at which the venue made the book.
    """

    symbol: str
    asks: tuple[tuple[Decimal, Decimal], ...]
    bids: tuple[tuple[Decimal, Decimal], ...]
    last_price: Decimal | None
    stats: dict[str, Decimal | bool | str]
    updated: float

    @property
    def best_ask(self) -> Decimal | None:
        """Lowest selling price, or None for an empty side."""
        return self.asks[0][0] if self.asks else None

    @property
    def best_bid(self) -> Decimal | None:
        """Highest buying price, or None for an empty side."""
        return self.bids[0][0] if self.bids else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose orders these are; written to the journal's meta row. `identity` is a hash or a profile name."""

    venue: str
    host: str
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """
    What the venue's answers prove.

    Attributes:
        late_arrival_bound: Seconds after the last moment at which a byte may have left until the request can no
            longer be executed, allowances included.
        late_arrival_is_proof: Whether the venue guarantees that bound (then absence is FENCED); when it is only
            believed, absence is presumed and watched.
        finds_closed_by_client_id: Whether the client id finds an order that is closed already.
        listing_shows_client_id: Whether listings show the client id of closed orders; None until one was seen.
    """

    late_arrival_bound: float
    late_arrival_is_proof: bool
    finds_closed_by_client_id: bool
    listing_shows_client_id: bool | None


class Prepared(Protocol):
    """
    An order, or a cancel, that has passed everything that can wait or refuse; it holds its permits and its client.

    Exactly one of `submit()` and `abandon()` is called, once.
    """

    def submit(self, before_send: Callable[[], None]) -> OrderState:
        """
        Call `before_send()`, sign, and send the bytes.

        Returns:
            The order as the answer shows it. An answer without an order id, or whose fields are not the order's,
            is an OutcomeUnknownError.

        Raises:
            NotSentError: No byte left.
            RefusedError: The venue's definite no.
            OutcomeUnknownError: Anything else that happened after a byte may have left.
            Exception: Whatever `before_send` raised, untouched; no byte left.
        """

    def abandon(self) -> None:
        """Give everything back; nothing was sent."""


class PreparedOrder(Prepared, Protocol):
    """A prepared order."""

    @property
    def order(self) -> Order:
        """The order as it will be sent: quantised, priced, with its client order id."""


class ExchangeAdapter(Protocol):
    """
    A venue, as the pipeline sees it. Any thread may call any method.

    Reads return `Unavailable` for every error and raise only ConfigError and BaseExceptions that are no Exception.
    """

    @property
    def name(self) -> str:
        """The venue's name, such as "nobitex"."""

    @property
    def account(self) -> Account:
        """Whose orders these are."""

    @property
    def capabilities(self) -> Capabilities:
        """What this venue's answers prove, as known now."""

    def restore_limits(self, send_ages: Sequence[float]) -> None:
        """
        Tell the limiters after a restart what was sent before it.

        Args:
            send_ages: How many seconds ago each order was sent. The windows of the other endpoints start half
                full, because nobody knows what the dead process read.
        """

    def note_listing_shows_client_id(self, shown: bool) -> None:
        """Tell the adapter after a restart what was learnt before it; see Capabilities."""

    def server_time(self) -> float:
        """The venue's clock as far as known: our wall clock plus the skew of its last answer. Unix seconds."""

    def validate(self, order: Order) -> Order:
        """
        Check and quantise without the network where the market's rules are known; raises InvalidOrderError.
        Where they are not known yet only the form is checked.
        """

    def prepare(self, order: Order) -> PreparedOrder:
        """
        Everything that can wait or refuse: rules, quantising, best price, limiter (at most 1 s), breaker, client.

        Raises:
            InvalidOrderError: The order breaks a rule; nothing was sent.
            NotSentError: Limiter, breaker, pool, or the market's rules or price could not be read.
        """

    def prepare_cancel(self, order_id: str) -> Prepared:
        """
        The same for a cancel of a venue order. `submit()` returns the order's state after it, also when it was
        closed already; an id that the venue does not know is an OrderNotFoundError.
        """

    def find_by_id(self, order_id: str) -> OrderRead:
        """Look for an order by the venue's id."""

    def find_by_client_id(self, client_order_id: str) -> OrderRead:
        """Look for an order by ours; see Capabilities for what Absent means."""

    def list_orders_since(self, order_id: str) -> ListingRead:
        """Every own order with a venue id above `order_id`, all markets, all states, all pages."""

    def list_open_orders(self) -> ListingRead:
        """Every own order that rests in the book now, waiting stops included; `since` is "0"."""

    def newest_order_id(self) -> str | Unavailable:
        """The newest own order's venue id, "0" for an account without orders: the first watermark."""

    def reference_price(self, symbol: str) -> Decimal | Unavailable:
        """A fresh price (at most a few seconds old) that a price collar compares with, above zero."""

    def list_fills_since(self, since: float) -> FillsRead:
        """
        Every own fill from `since` (Unix seconds of the venue's clock) on, all markets, all pages; the listing's own
        `since` is later where the venue has forgotten older ones.
        """

    def balances(self) -> dict[str, Balance] | Unavailable:
        """Every currency of the account by its upper-case code; an absent one is zero."""
