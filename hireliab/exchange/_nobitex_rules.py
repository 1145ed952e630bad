"""An order against the rules of its market: form, steps, minimum value, and rial or toman; pure."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from hireliab.core import money
from hireliab.errors import InvalidOrderError
from hireliab.exchange._nobitex_calls import checked_client_id
from hireliab.exchange._nobitex_markets import MarketRules, OrderBook
from hireliab.exchange._nobitex_values import symbol
from hireliab.exchange.adapter import ORDER_TYPES, SIDES, Order

_LEAST, _MOST = Decimal(8), Decimal(12)  # around 10, which is how many rial a toman is


def form(order: Order) -> Order:
    """
    Check what can be checked without knowing the market; its symbol, side and numbers in their canonical form.

    Raises:
        InvalidOrderError: Something is missing, superfluous or of a wrong form.
    """
    kind = str(order.type).lower()
    if kind not in ORDER_TYPES:
        raise _invalid(f"type: must be one of {', '.join(ORDER_TYPES)}, got {order.type!r:.40}")
    side = str(order.side).lower()
    if side not in SIDES:
        raise _invalid(f"side: must be buy or sell, got {order.side!r:.40}")
    if (order.stop_price is not None) != kind.startswith("stop_"):
        raise _invalid(f"stop_price: {'missing' if order.stop_price is None else 'not used'} in a {kind} order")
    if order.price is None and kind in ("limit", "stop_limit"):
        raise _invalid(f"price: missing in a {kind} order")
    if order.price is not None and kind == "stop_market":
        raise _invalid("price: not used in a stop_market order; use stop_limit")
    if order.client_order_id != "":
        checked_client_id(order.client_order_id)
    return dataclasses.replace(
        order,
        symbol=str(symbol(order.symbol)),
        side=side,
        type=kind,
        amount=money.positive(order.amount, what="amount"),
        price=None if order.price is None else money.positive(order.price, what="price"),
        stop_price=None if order.stop_price is None else money.positive(order.stop_price, what="stop_price"),
    )


def fit(order: Order, rules: MarketRules, *, last: Decimal | None) -> Order:
    """
    Quantise an order of `form`, and check it against its market.

    The amount goes down to its step and prices to the nearest, as the venue would do itself; a float within 1e-9 of
    a step snaps to it.

    Args:
        last: The market's last price; None leaves out the question of rial or toman.

    Raises:
        InvalidOrderError: Nothing is left of the amount or a price, the value is not above the minimum, or a price
            looks like toman.
    """
    amount = money.snap_down(order.amount, rules.amount_step)
    if amount <= money.ZERO:
        raise _invalid(
            f"amount: {money.text(order.amount)} is less than one step of {order.symbol}, {money.text(rules.amount_step)}"
        )
    price = _snapped("price", order.price, order, rules)
    stop_price = _snapped("stop_price", order.stop_price, order, rules)
    if last is not None and order.symbol.endswith("/IRT"):
        for name, number in (("price", price), ("stop_price", stop_price)):
            if number is not None:
                _guard_rial(name, number, last, order.symbol)
    unit = stop_price if price is None else price
    if unit is not None and money.multiply(amount, unit) <= rules.min_value:
        raise _invalid(
            f"amount: {money.text(amount)} at {money.text(unit)} is worth {money.text(money.multiply(amount, unit))};"
            f" an order on {order.symbol} must be worth more than {money.text(rules.min_value)}"
        )
    return dataclasses.replace(order, amount=amount, price=price, stop_price=stop_price)


def _snapped(name: str, number: Decimal | None, order: Order, rules: MarketRules) -> Decimal | None:
    if number is None:
        return None
    snapped = money.snap_nearest(number, rules.price_step)
    if snapped <= money.ZERO:
        raise _invalid(
            f"{name}: {money.text(number)} is less than one step of {order.symbol}, {money.text(rules.price_step)}"
        )
    return snapped


def _guard_rial(name: str, number: Decimal, last: Decimal, market: str) -> None:
    if money.multiply(last, _LEAST) <= number <= money.multiply(last, _MOST):
        about = "about ten times"
    elif money.multiply(number, _LEAST) <= last <= money.multiply(number, _MOST):
        about = "about a tenth of"
    else:
        return
    raise _invalid(
        f"{name}: {money.text(number)} is {about} the last price of {market}, {money.text(last)};"
        " this market is priced in rial, and a toman is 10 rial"
    )


def reference(book: OrderBook) -> Decimal | None:
    """What a price is compared with: the last price, else a best one."""
    if book.last_price is not None:
        return book.last_price
    side = book.asks or book.bids
    return side[0][0] if side else None


def best_opposite(book: OrderBook, side: str) -> Decimal | None:
    """What a market order of this side meets first, or None for an empty book."""
    levels = book.asks if side == "buy" else book.bids
    return levels[0][0] if levels else None


def _invalid(text: str) -> InvalidOrderError:
    return InvalidOrderError(text, by="hireliab")
