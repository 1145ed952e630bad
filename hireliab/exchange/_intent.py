"""What a caller asks for, checked: `create_transaction`'s arguments become a record that was never sent. Pure."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from hireliab.core import config, money
from hireliab.errors import InvalidOrderError
from hireliab.exchange.adapter import ORDER_TYPES, SIDES, Order
from hireliab.exchange.transaction import COMMIT_RULES, PARTIAL_RULES, Record, payload_hash

TYPES = tuple(f"{type_}_{side}" for type_ in ORDER_TYPES for side in SIDES)
"""market_buy, limit_sell, stop_limit_buy and so on."""


def make_record(
    *,
    txn_id: str,
    type: str,  # noqa: A002 - the original's name
    symbol: str,
    amount: object,
    price: object,
    stop_price: object,
    idempotency_key: str | None,
    commit: str | None,
    on_partial: str,
    timeout: float | None,
    created: float,
    patience: float,
) -> Record:
    """
    Check the form of everything; the market's rules are the adapter's.

    Args:
        patience: Seconds that "filled_or_cancel" waits where no timeout is given.

    Raises:
        ConfigError: A word that is not one of the choices.
        InvalidOrderError: A number or symbol that cannot be an order's.
    """
    config.choice("type", type, TYPES)
    config.choice("on_partial", on_partial, PARTIAL_RULES)
    order_type, _, side = type.rpartition("_")
    if commit is None:
        commit = "filled" if order_type in ("market", "stop_market") else "accepted"
        if order_type == "stop_market":
            commit = "accepted"  # it rests until its trigger, perhaps for days
    config.choice("commit", commit, COMMIT_RULES)
    timeout = config.number_or_none("timeout", timeout, above=0, high=30 * 86400)
    if timeout is None and commit == "filled_or_cancel":
        timeout = patience
    if idempotency_key is not None:
        config.text("idempotency_key", idempotency_key)
    if not isinstance(symbol, str) or not symbol.strip() or not symbol.isascii() or len(symbol) > 40:
        raise InvalidOrderError(f"symbol: must be a market such as BTC/USDT, got {symbol!r:.60}", by="hireliab")
    order = Order(
        symbol=symbol.strip(),
        side=side,
        type=order_type,
        amount=money.positive(amount, what="amount"),
        price=_price("price", price, needed=order_type in ("limit", "stop_limit"), of=type),
        stop_price=_price("stop_price", stop_price, needed=order_type.startswith("stop"), of=type),
    )
    if order.stop_price is not None and not order_type.startswith("stop"):
        raise InvalidOrderError(f"stop_price: a {type} has none; leave it out", by="hireliab")
    return Record(
        txn_id=txn_id,
        order=order,
        payload_hash=payload_hash(order, commit),
        idempotency_key=idempotency_key,
        commit=commit,
        on_partial=on_partial,
        timeout=timeout,
        created=created,
        updated=created,
    )


def with_symbol(record: Record, symbol: str) -> Record:
    """The same intent with the market's name in its one form, so that one key means one order however it is spelt."""
    if record.order.symbol == symbol:
        return record
    order = dataclasses.replace(record.order, symbol=symbol)
    return dataclasses.replace(record, order=order, payload_hash=payload_hash(order, record.commit))


def _price(name: str, value: object, *, needed: bool, of: str) -> Decimal | None:
    if value is None:
        if needed:
            raise InvalidOrderError(f"{name}: missing; a {of} needs one", by="hireliab")
        return None
    return money.positive(value, what=name)
