"""Order parameters and the checks that come before an order exists. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from hireliab.simulator import money
from hireliab.simulator.markets import Market
from hireliab.simulator.money import ONE
from hireliab.simulator.settings import Settings

_CLIENT_ID = re.compile(r"[A-Za-z0-9-]{1,32}")
_EXECUTIONS = ("limit", "market", "stop_limit", "stop_market")
_VALIDATION = "Order Validation Failed"


class OrderRefused(Exception):  # noqa: N818 - a business answer of the API, not a fault
    """The order was not registered; `code` and `message` are the API's words."""

    def __init__(self, code: str, message: str = _VALIDATION, status: int = 200) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.status = status


def parse_error(message: str) -> OrderRefused:
    """The refusal of something missing or ill-formed."""
    return OrderRefused("ParseError", message, 400)


@dataclass(frozen=True)
class Draft:
    """An order as it was asked for, on the market's steps."""

    market: Market
    side: str
    execution: str
    amount: Decimal
    price: Decimal | None
    """None when absent or unusable; `price_given` tells which."""
    price_given: bool
    stop_price: Decimal | None
    stop_limit_price: Decimal | None
    is_oco: bool
    client_order_id: str | None
    is_pro: bool

    def fingerprint(self) -> tuple[object, ...]:
        """What makes two orders equal for the ten-second rule; clientOrderId is not part of it."""
        return (
            self.side, self.execution, self.market.symbol, self.amount,
            self.price, self.stop_price, self.stop_limit_price, self.is_oco,
        )  # fmt: skip

    @property
    def is_stop(self) -> bool:
        """Whether it waits for a price first."""
        return self.execution.startswith("stop_")

    @property
    def takes_market_price(self) -> bool:
        """Whether it never rests in the book."""
        return self.execution.endswith("market")


def client_id_of(params: Mapping[str, object]) -> str | None:
    """The client id as answers echo it, valid or not; an empty one is echoed as ``null`` text."""
    value = params.get("clientOrderId")
    if value is None:
        return None
    return str(value) or "null"


def parse_order(params: Mapping[str, object], markets: Mapping[str, Market]) -> Draft:
    """
    Read the parameters of an add.

    Args:
        params: Request parameters by name, JSON values or text.
        markets: By ``btc-rls`` key.

    Raises:
        OrderRefused: ParseError, or InvalidMarketPair.
    """
    side = _choice(params, "type", ("buy", "sell"))
    execution = _choice(params, "execution", _EXECUTIONS, "limit")
    is_oco = _choice(params, "mode", ("default", "oco"), "default") == "oco"
    base, quote = _text(params, "srcCurrency").lower(), _text(params, "dstCurrency").lower()
    amount = _money(params, "amount")
    if amount is None:
        raise parse_error("Missing monetary value")
    stop_price, stop_limit_price = _money(params, "stopPrice"), _money(params, "stopLimitPrice")
    if is_oco:
        if execution != "limit":
            raise parse_error('Invalid choices value: "oco"')
        if stop_limit_price is None:
            raise parse_error("Missing monetary value")
    client_id = _client_id(params.get("clientOrderId"))
    market = markets.get(f"{base}-{quote}")
    if market is None:
        raise OrderRefused("InvalidMarketPair", "Market Validation Failed")
    if (is_oco or execution.startswith("stop_")) and stop_price is None:
        raise OrderRefused("MissingStopPrice", "Stop price is required")
    price_given = params.get("price") not in (None, "")
    price = money.parse(params.get("price"))
    return Draft(
        market=market,
        side=side,
        execution=execution,
        amount=money.floor_to(amount, market.amount_step),
        price=_on_step(price, market),
        price_given=price_given,
        stop_price=_on_step(stop_price, market) if is_oco or execution != "limit" else None,
        stop_limit_price=_on_step(stop_limit_price, market) if is_oco else None,
        is_oco=is_oco,
        client_order_id=client_id,
        is_pro=params.get("pro") == "yes",
    )


def check_prices(draft: Draft, last: Decimal, settings: Settings) -> None:
    """
    Price sanity, then the relation of prices to the market, then the minimum value.

    Raises:
        OrderRefused: InvalidOrderPrice, BadPrice, PriceConditionFailed or SmallOrder.
    """
    needs_price = not draft.takes_market_price
    if draft.price is None and (needs_price or (draft.price_given and draft.execution == "market")):
        raise OrderRefused("InvalidOrderPrice", "Price is missing or invalid")
    if draft.is_stop or draft.is_oco:
        if draft.stop_price is None:
            raise OrderRefused("InvalidOrderPrice", "Stop price is invalid")
        _check_stop_prices(draft, draft.stop_price)
    if draft.price is not None and not draft.is_stop:
        _check_band(draft.price, last, settings.band)
    _check_condition(draft, last)
    minimum = settings.min_order_rls if draft.market.quote == "rls" else settings.min_order_usdt
    if not draft.amount or money.mul(draft.amount, expected_price(draft, last)) < minimum:
        raise OrderRefused("SmallOrder")


def expected_price(draft: Draft, last: Decimal) -> Decimal:
    """The price an order is valued at: its own, else its stop price, else the live price."""
    if draft.execution == "stop_market" and draft.stop_price is not None:
        return draft.stop_price
    return last if draft.price is None else draft.price


def worst_price(draft: Draft, last: Decimal, collar: Decimal) -> Decimal:
    """The worst price the order may fill at."""
    price = expected_price(draft, last)
    if not draft.takes_market_price:
        return price
    change = money.add if draft.side == "buy" else money.sub
    return money.mul(price, change(ONE, collar))


def _check_stop_prices(draft: Draft, stop_price: Decimal) -> None:
    """A stop order's limit may not be better than its stop price."""
    limit = draft.stop_limit_price if draft.is_oco else draft.price
    if draft.execution == "stop_market":
        return
    if limit is None:
        raise OrderRefused("InvalidOrderPrice", "Price is missing or invalid")
    if (limit < stop_price) if draft.side == "buy" else (limit > stop_price):
        raise OrderRefused("BadPrice")


def _check_band(price: Decimal, last: Decimal, band: Decimal) -> None:
    allowed = money.mul(last, band)
    if not money.sub(last, allowed) <= price <= money.add(last, allowed):
        raise OrderRefused("BadPrice")


def _check_condition(draft: Draft, last: Decimal) -> None:
    """Stops must not be past their trigger; an OCO must have the market between its legs."""
    stop = draft.stop_price
    if stop is None:
        return
    buying = draft.side == "buy"
    holds = last < stop if buying else last > stop
    if draft.is_oco and draft.price is not None and draft.stop_limit_price is not None:
        far = draft.stop_limit_price
        if buying:
            holds = holds and draft.price < last < far
        else:
            holds = holds and draft.price > last > far
    if not holds:
        raise OrderRefused("PriceConditionFailed", "Price condition failed")


def _choice(params: Mapping[str, object], name: str, allowed: tuple[str, ...], default: str = "") -> str:
    value = params.get(name)
    if value is None:
        value = default
    if value == "":
        raise parse_error("Missing choices value")
    if value not in allowed:
        raise parse_error(f'Invalid choices value: "{value}"')
    return str(value)


def _text(params: Mapping[str, object], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise parse_error("Missing currency value")
    return value


def _money(params: Mapping[str, object], name: str) -> Decimal | None:
    value = params.get(name)
    if value is None or value == "":
        return None
    number = money.parse(value)
    if number is None or number <= 0:
        raise parse_error(f'Invalid monetary value: "{value}"')
    return number


def _client_id(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _CLIENT_ID.fullmatch(value):
        raise parse_error("Invalid clientOrderId")
    return value


def _on_step(price: Decimal | None, market: Market) -> Decimal | None:
    if price is None or price <= 0:
        return None
    return money.round_to(price, market.price_step) or None
