"""Complete listings of own orders and fills: every page, or `Unavailable`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

from hireliab.core.clock import Clock
from hireliab.errors import ConfigError, MalformedResponseError
from hireliab.exchange._nobitex_access import Access
from hireliab.exchange._nobitex_calls import FillPage, OrderPage
from hireliab.exchange.adapter import (
    Fill,
    FillListing,
    FillsRead,
    ListingRead,
    Order,
    OrderListing,
    OrderState,
    Unavailable,
)
from hireliab.exchange.nobitex_client import MAX_PAGE

_LANE = "reserved"
# A page with fewer rows is the last one. Not MAX_PAGE: a venue that caps the page size below what was asked would make
# each page look like the last one, and orders look absent. 50 is the smallest default page size in its documents
# (nobitex-api.md 4.4), of fills 30 (8.11).
_SHORT_PAGE = 50
_SHORT_FILL_PAGE = 30
_FILLS_KEPT = 3 * 86400.0
"""Seconds for which the venue lists fills at least (nobitex-api.md 8.11)."""
_MOST_PAGES = 100
_REMEMBERED = 1000


class Listings:
    """
    Listings of one account. Thread-safe.

    Args:
        names: Gives the display names of currencies, as known now.
    """

    def __init__(self, access: Access, *, names: Callable[[], Mapping[str, str]], clock: Clock) -> None:
        self._access = access
        self._names = names
        self._clock = clock
        self._lock = threading.Lock()  # guards _own and _shows
        self._own: OrderedDict[str, str] = OrderedDict()  # order id -> the client id that we sent
        self._shows: bool | None = None

    @property
    def shows_client_id(self) -> bool | None:
        """Whether closed rows show the client id; None until one of ours was seen."""
        return self._shows

    @shows_client_id.setter
    def shows_client_id(self, shows: bool) -> None:
        with self._lock:
            self._shows = shows

    def remember(self, order: Order, state: OrderState) -> None:
        """An order of ours was accepted: its closed row will tell whether listings show client ids."""
        if not order.client_order_id:
            return
        with self._lock:
            self._own[state.order_id] = order.client_order_id
            while len(self._own) > _REMEMBERED:
                self._own.popitem(last=False)

    def _learn(self, orders: tuple[OrderState, ...]) -> None:
        with self._lock:
            for order in orders:
                if order.status.is_closed and order.order_id in self._own:
                    self._shows = order.client_order_id == self._own[order.order_id]

    def orders_since(self, order_id: str) -> ListingRead:
        """Every own spot order with an id above `order_id`, oldest first."""
        listing = self._all_pages("all", order_id)
        if isinstance(listing, OrderListing):
            self._learn(listing.orders)
        return listing

    def _all_pages(self, status: str, order_id: str) -> ListingRead:
        started = self._clock.monotonic()
        orders: list[OrderState] = []
        above = int(order_id)
        try:
            for _ in range(_MOST_PAGES):
                page = self._page(status=status, order="id", from_id=above)
                ids = [int(order.order_id) for order in page.orders]
                if ids != sorted(set(ids)) or (ids and ids[0] <= above):
                    raise _wrong("orders/list", "the page is not in the order asked for")
                orders.extend(page.orders)
                # Its "no next page" is not believed: the venue does not combine pages with `fromId`, and may mean that.
                if page.rows < _SHORT_PAGE and not page.has_next:
                    return OrderListing(orders=tuple(orders), since=order_id, started=started)
                if not ids:
                    raise _wrong("orders/list", "a page without spot orders and without an end")
                above = ids[-1]
            raise _wrong("orders/list", f"more than {_MOST_PAGES} pages")
        except ConfigError:
            raise
        except Exception as error:  # whatever it is, it proves nothing
            return Unavailable(error)

    def newest_order_id(self) -> str | Unavailable:
        """The newest own order's id, "0" without one."""
        try:
            page = self._page(status="all", order="-id", page_size=10)
        except ConfigError:
            raise
        except Exception as error:  # whatever it is, it proves nothing
            return Unavailable(error)
        return str(max((int(order.order_id) for order in page.orders), default=0))

    def open_orders(self, symbol: str | None) -> tuple[OrderState, ...]:
        """Own open spot orders; on the normal lane, and it raises."""
        return self._page(status="open", order="id", symbol=symbol, lane="normal").orders

    def open_now(self) -> ListingRead:
        """Own open spot orders, oldest first, as a listing."""
        return self._all_pages("open", "0")

    def _page(
        self,
        *,
        status: str,
        order: str,
        from_id: int | None = None,
        symbol: str | None = None,
        page_size: int = MAX_PAGE,
        lane: str = _LANE,
    ) -> OrderPage:
        names, who, url = self._names(), self._access.credentials, self._access.base_url
        return self._access.call(
            "orders/list",
            lambda client: client.list_orders(
                status=status,
                order=order,
                from_id=from_id,
                symbol=symbol,
                page_size=page_size,
                names=names,
                credentials=who,
                base_url=url,
            ),
            lane=lane,
        )

    def fills_since(self, since: float) -> FillsRead:
        """Every own fill from `since` on, each once, as far back as the venue keeps them."""
        started = self._clock.monotonic()
        now = self._clock.time() + self._access.skew
        found: dict[tuple[str, ...], Fill] = {}  # a trade between two own orders has one row for each side
        try:
            for number in range(1, _MOST_PAGES + 1):
                page = self._fill_page(number)
                # A fill that comes while we turn pages moves an old one to the next page: keyed by id, not listed.
                found |= {(fill.symbol, fill.trade_id, fill.side): fill for fill in page.fills}
                if _is_last(page) or _reaches(page, since):
                    fills = tuple(fill for fill in found.values() if fill.time >= since)
                    # One that is old enough shows that what came after it is kept, too.
                    kept = min([now - _FILLS_KEPT, *(fill.time for fill in found.values())])
                    return FillListing(fills=fills, since=max(since, kept), started=started)
            raise _wrong("trades/list", f"more than {_MOST_PAGES} pages")
        except ConfigError:
            raise
        except Exception as error:  # whatever it is, it proves nothing
            return Unavailable(error)

    def _fill_page(self, number: int) -> FillPage:
        who, url = self._access.credentials, self._access.base_url
        return self._access.call(
            "trades/list",
            lambda client: client.list_fills(page=number, credentials=who, base_url=url),
            lane=_LANE,
        )


def _is_last(page: FillPage) -> bool:
    return len(page.fills) < _SHORT_FILL_PAGE if page.has_next is None else not page.has_next


def _reaches(page: FillPage, since: float) -> bool:
    """Whether later pages hold only older fills than `since`: true only where this page runs from new to old."""
    times = [fill.time for fill in page.fills]
    return bool(times) and times[-1] < since and times == sorted(times, reverse=True)


def _wrong(endpoint: str, why: str) -> MalformedResponseError:
    return MalformedResponseError(f"nobitex {endpoint}: {why}; the listing is not complete", http_status=200)
