"""Order, fill and wallet values as the API shows them, with the quirks that are switched on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal

from hireliab.simulator import money
from hireliab.simulator.markets import DISPLAY_NAMES, RIAL_WORD, Market
from hireliab.simulator.orders import EXECUTION_NAMES, Fill, Order
from hireliab.simulator.settings import Settings

_LIST_1 = (
    "type", "execution", "tradeType", "market", "srcCurrency", "dstCurrency", "price", "amount",
    "param1", "matchedAmount", "unmatchedAmount", "totalOrderPrice",
)  # fmt: skip


def iso(ns: int) -> str:
    """ISO time with microseconds and offset, as in orders and trades."""
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds")


def iso_z(ns: int) -> str:
    """ISO time with Z, as in API-key objects."""
    return iso(ns).replace("+00:00", "Z")


def display_name(currency: str, settings: Settings) -> str:
    """The English name of a currency; the rial sign, or its Persian word by quirk."""
    if currency == "rls" and "rial_word" in settings.quirks:
        return RIAL_WORD
    return DISPLAY_NAMES[currency]


def added_order(order: Order, market: Market, settings: Settings) -> dict[str, object]:
    """As orders/add answers: `fee` of nothing is the number 0."""
    shown = _order(order, market, settings, money.text)
    if not order.fee:
        shown["fee"] = 0
    if order.pair_id is not None:
        # The documents' OCO answer lacks these two.
        del shown["partial"], shown["fee"]
    quirks = settings.quirks
    if "int_zero" in quirks and not order.matched:
        shown["matchedAmount"] = 0
    if "missing_fields" in quirks:
        for name in ("execution", "market", "averagePrice"):
            del shown[name]
    if "no_echo" in quirks:
        del shown["clientOrderId"]
    return shown


def full_order(order: Order, market: Market, settings: Settings) -> dict[str, object]:
    """As orders/status, update-status and list with details=2 show it."""
    return _order(order, market, settings, money.ten_decimals if "ten_decimals" in settings.quirks else money.text)


def _order(order: Order, market: Market, settings: Settings, number: Callable[[Decimal], str]) -> dict[str, object]:
    price = order.price or order.worst_price
    shown: dict[str, object] = {
        "id": order.id,
        "type": order.side,
        "execution": EXECUTION_NAMES[order.execution],
        "tradeType": "Spot",
        "market": market.label,
        "srcCurrency": display_name(market.base, settings),
        "dstCurrency": display_name(market.quote, settings),
        "price": "market" if order.takes_market_price else number(price),
        "amount": number(order.amount),
    }
    if order.stop_price is not None:
        shown["param1"] = number(order.stop_price)
    shown |= {
        "totalPrice": number(order.value),
        "totalOrderPrice": number(money.mul(price, order.amount)),
        "matchedAmount": number(order.matched),
        "unmatchedAmount": number(order.unmatched),
        "status": order.status,
        "partial": bool(order.matched) and bool(order.unmatched),
        "fee": number(order.fee),
        "created_at": iso(order.created_ns),
        "averagePrice": number(_short(order.average_price)),
        "clientOrderId": order.client_order_id,
    }
    if order.pair_id is not None:
        shown["pairId"] = order.pair_id
    if "extra_fields" in settings.quirks:
        shown |= {"isMyOrder": False, "user": "user@example.com", "leverage": None}
    return shown


def brief_order(order: Order, market: Market, settings: Settings) -> dict[str, object]:
    """As list with details=1 shows it: without id, status and client id."""
    full = full_order(order, market, settings)
    return {name: full[name] for name in _LIST_1 if name in full}


def fill_row(fill: Fill, market: Market, settings: Settings) -> dict[str, object]:
    """As trades/list shows a fill."""
    return {
        "id": fill.id,
        "orderId": fill.order_id,
        "srcCurrency": display_name(market.base, settings),
        "dstCurrency": display_name(market.quote, settings),
        "market": market.label,
        "timestamp": iso(fill.at_ns),
        "type": fill.side,
        "price": money.text(fill.price),
        "amount": money.text(fill.amount),
        "total": money.text(fill.total),
        "fee": money.text(fill.fee),
    }


def wallet_number(value: Decimal) -> str:
    """Wallet amounts; an empty wallet is spelled ``0E-10``."""
    return money.text(value) if value else money.ten_decimals(value)


def _short(value: Decimal) -> Decimal:
    """An average cut to ten decimals."""
    return money.floor_to(value, Decimal("1E-10")) if value else value
