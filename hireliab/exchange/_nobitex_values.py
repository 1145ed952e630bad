"""
Nobitex's JSON to typed values, and symbols to its four spellings; pure.

Every field that is missing, of a wrong type or out of range makes the whole answer malformed: half a listing is
worse than none. Sources: nobitex-api.md sections 1.5, 1.6, 6, 7 and 8.3.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hireliab.core import money
from hireliab.errors import InvalidOrderError, MalformedResponseError
from hireliab.exchange.adapter import Balance, Fill, OrderState, OrderStatus

# "-" and U+2212; underscores appear in v2/options. ASCII digits only, and no more than a sane number of them.
_NUMBER = re.compile(r"[-\u2212]?[0-9][0-9_]*(\.[0-9_]*)?([eE][+-]?[0-9]{1,2})?")
_LONGEST_NUMBER = 60
_BASE = re.compile(r"[A-Z0-9]+(_[A-Z0-9]+)?", re.ASCII)
_QUOTES = {"IRT": "rls", "RLS": "rls", "USDT": "usdt"}
_OTHER_TRADES = ("margin", "credit", "debit")
_EXECUTIONS = {"limit": "limit", "market": "market", "stoplimit": "stop_limit", "stopmarket": "stop_market"}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A spot market; `str()` is hireliab's form, such as "BTC/IRT"."""

    base: str
    quote: str

    def __str__(self) -> str:
        return f"{self.base}/{self.quote}"

    @property
    def path(self) -> str:
        """As in addresses: "BTCIRT"."""
        return self.base + self.quote

    @property
    def src(self) -> str:
        """As in requests: "btc"."""
        return self.base.lower()

    @property
    def dst(self) -> str:
        """As in requests: "rls"."""
        return _QUOTES[self.quote]


def symbol(text: object) -> Symbol:
    """
    Read "BTC/USDT", "BTCUSDT", "btc-usdt", "BTC-RLS" or "btcirt".

    Raises:
        InvalidOrderError: Not such a text, or a quote currency other than rial (IRT) and USDT.
    """
    if isinstance(text, Symbol):
        return text
    if isinstance(text, str):
        upper = text.strip().upper()
        for quote in _QUOTES:
            base = upper.removesuffix(quote)
            if base == upper:
                continue
            base = base[:-1] if base[-1:] in ("/", "-") else base
            quote = "IRT" if quote == "RLS" else quote  # noqa: PLW2901 -- two names of one currency
            if _BASE.fullmatch(base) and base not in (quote, "IRT", "RLS"):
                return Symbol(base, quote)
    raise InvalidOrderError(
        f"symbol: {text!r:.60} is no Nobitex market; write it like 'BTC/IRT' (priced in rial) or 'BTC/USDT'",
        by="hireliab",
    )


def loads(body: bytes) -> Any:
    """JSON with exact numbers; ValueError for anything that is none, NaN and infinity included."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def malformed(what: str, why: str) -> MalformedResponseError:
    """An answer whose shape is not the promised one."""
    return MalformedResponseError(f"{what}: {why}; what happened is unknown", http_status=200)


def number(value: object, what: str) -> Decimal:
    """A number as the venue writes it: int, text, exponents, underscores, U+2212."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    elif isinstance(value, Decimal):
        value = format(value)
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value):
        return Decimal(value.replace("\u2212", "-").replace("_", ""))
    raise malformed(what, f"{value!r:.60} is no number")


def amount(value: object, what: str) -> Decimal:
    """A number that is not negative."""
    parsed = number(value, what)
    if parsed < money.ZERO:
        raise malformed(what, f"{value!r:.60} is negative")
    return parsed


def positive_or_none(value: object, what: str) -> Decimal | None:
    if value is None or value == "market":
        return None
    parsed = amount(value, what)
    return None if parsed == money.ZERO else parsed


def mapping(value: object, what: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise malformed(what, f"expected an object, got {type(value).__name__}")
    return value


def rows(value: object, what: str) -> list[Any]:
    """A JSON list."""
    if not isinstance(value, list):
        raise malformed(what, f"expected a list, got {type(value).__name__}")
    return value


def identifier(value: object, what: str) -> str:
    """A venue id, 64 bits and more, as text."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    if isinstance(value, str) and 0 < len(value) <= 30 and value.isascii() and value.isdigit():
        return str(int(value))
    raise malformed(what, f"{value!r:.60} is no id")


def when(value: object, what: str) -> float:
    """ISO-8601 to Unix seconds."""
    try:
        parsed = dt.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=dt.timezone.utc)
        return parsed.timestamp()
    except (ValueError, OverflowError):
        raise malformed(what, f"{value!r:.60} is no time") from None


def milliseconds(value: object, what: str) -> float:
    """Unix milliseconds, as int or text, to seconds."""
    return float(number(value, what)) / 1000


def side_of(value: object, what: str) -> str:
    side = value.lower() if isinstance(value, str) else ""
    if side not in ("buy", "sell"):
        raise malformed(what, f"{value!r:.60} is no side")
    return side


def _market(row: Mapping[str, Any], names: Mapping[str, str], fallback: Symbol | None, what: str) -> str:
    """The row's market; by its display names where it has no `market`; else what we sent; else "" for unknown."""
    named = row.get("market")
    if isinstance(named, str) and named:
        try:
            return str(symbol(named))
        except InvalidOrderError:
            raise malformed(what, f"{named!r:.60} is no market") from None
    if fallback is not None:
        return str(fallback)
    base, quote = (row.get(key) for key in ("srcCurrency", "dstCurrency"))
    if isinstance(base, str) and isinstance(quote, str):
        quote = {"\ufdfc": "IRT", "ریال": "IRT", "rls": "IRT", "tether": "USDT", "usdt": "USDT"}.get(quote.lower())
        base = names.get(base.lower())
        if base and quote:
            return str(Symbol(base, quote))
    return ""


def _fee(row: Mapping[str, Any], what: str) -> Decimal:
    fee = row.get("fee")
    return money.ZERO if fee is None else amount(fee, f"{what} fee")


def order(
    row: object, *, what: str, names: Mapping[str, str] | None = None, sent: Symbol | None = None, sent_type: str = ""
) -> OrderState:
    """
    An order object of any endpoint and era.

    Args:
        what: The endpoint, for errors.
        names: Display name in lower case to currency code, from v2/options.
        sent: The market that we asked for, where the answer may leave it out.
        sent_type: The order type that we sent, likewise.
    """
    row = mapping(row, what)
    execution = row.get("execution")
    kind = _EXECUTIONS.get(str(execution).replace("_", "").lower(), "") if execution is not None else sent_type
    if not kind:
        # Without "execution", the other fields tell: a stop has param1, a market order has no price.
        kind = ("stop_" if row.get("param1") is not None else "") + (
            "market" if row.get("price") == "market" else "limit"
        )
    raw_status = row.get("status")
    if not isinstance(raw_status, str):
        raise malformed(what, "an order without status")
    try:
        status = OrderStatus(raw_status)
    except ValueError:
        status = OrderStatus.OTHER
    client_id = row.get("clientOrderId")
    filled = amount(row.get("matchedAmount"), f"{what} matchedAmount")
    return OrderState(
        order_id=identifier(row.get("id"), f"{what} id"),
        # "null": an empty id sent was once echoed so.
        client_order_id=client_id if isinstance(client_id, str) and client_id not in ("", "null") else None,
        symbol=_market(row, names or {}, sent, what),
        side=side_of(row.get("type"), what),
        type=kind,
        amount=amount(row.get("amount"), f"{what} amount"),
        filled=filled,
        status=status,
        price=positive_or_none(row.get("price"), f"{what} price"),
        stop_price=positive_or_none(row.get("param1"), f"{what} param1"),
        average_price=positive_or_none(row.get("averagePrice"), f"{what} averagePrice"),
        fee=_fee(row, what),
        created=None if row.get("created_at") is None else when(row["created_at"], f"{what} created_at"),
        raw_status=raw_status[:40],
    )


def is_spot(row: object) -> bool:
    """Whether a listing's row is to be taken for a spot order: every one that is not known to be another's."""
    kind = row.get("tradeType") if isinstance(row, dict) else None
    # Not "is Spot": under a new word for it our own order would be left out, and look absent.
    return str(kind).lower() not in _OTHER_TRADES


def fill(row: object, what: str) -> Fill:
    """One row of trades/list."""
    row = mapping(row, what)
    order_id = row.get("orderId")
    return Fill(
        trade_id=identifier(row.get("id"), f"{what} id"),
        order_id=None if order_id is None else identifier(order_id, f"{what} orderId"),
        symbol=_market(row, {}, None, what),
        side=side_of(row.get("type"), what),
        amount=amount(row.get("amount"), f"{what} amount"),
        price=amount(row.get("price"), f"{what} price"),
        fee=_fee(row, what),
        time=when(row.get("timestamp"), f"{what} timestamp"),
    )


def balances(wallets: object, what: str) -> dict[str, Balance]:
    """v2/wallets; the rial is "IRT", as in symbols."""
    found = {}
    for code, row in mapping(wallets, what).items():
        wallet = mapping(row, what)
        currency = "IRT" if code.upper() == "RLS" else code.upper()
        total = number(wallet.get("balance"), f"{what} {code}")
        blocked = number(wallet.get("blocked"), f"{what} {code}")
        found[currency] = Balance(
            currency=currency, total=total, blocked=blocked, available=money.subtract(total, blocked)
        )
    return found
