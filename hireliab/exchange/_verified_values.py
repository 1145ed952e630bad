"""
What a user's functions take and give: arguments by name, and orders of any shape. Pure.

A look-up may answer with ccxt's dictionaries, a venue's JSON, an object of an SDK or a hireliab OrderState. What is
there is read; what is not there is no error: the row of a call is for people, and its verdict does not rest on it.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, ValuesView
from decimal import Decimal
from typing import Any

from hireliab.core import money
from hireliab.errors import ConfigError, InvalidOrderError, MalformedResponseError
from hireliab.exchange.adapter import Order, OrderState, OrderStatus

_IDS = ("order_id", "orderId", "orderID", "ordId", "txid", "id")
_CLIENT_IDS = ("client_order_id", "clientOrderId", "origClientOrderId", "newClientOrderId", "clOrdId")
_STATUSES = ("status", "state", "orderStatus")
_FILLED = ("filled", "matchedAmount", "executedQty", "filled_amount")
_AMOUNTS = ("amount", "origQty", "quantity", "qty")
_AVERAGES = ("average_price", "averagePrice", "average", "avgPrice")
CLOSED = frozenset(("done", "filled", "closed", "canceled", "cancelled", "expired", "rejected"))
"""What venues call an order that can have no later fill, in lower case."""
_FULL = frozenset(("done", "filled"))
_SECRETS = ("key", "secret", "token", "password", "passphrase", "auth", "credential")
_QUERY = re.compile(r"\?[^\s'\"<>)]+")
MOST_TEXT = 2048
"""Bytes of a call's arguments that the journal keeps."""


class Parameters:
    """The parameters of a function that may be given by name."""

    def __init__(self, what: str, func: Callable[..., Any]) -> None:
        try:
            parameters = inspect.signature(func).parameters.values()
        except (TypeError, ValueError):
            raise ConfigError(f"{what}: the signature of {func!r:.80} cannot be read; wrap it in a function") from None
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if any(p.kind is p.POSITIONAL_ONLY and p.default is p.empty for p in parameters):
            raise ConfigError(f"{what}: {func!r:.80} must take its parameters by name", setting=what)
        self.names = frozenset(p.name for p in named)
        self.required = frozenset(p.name for p in named if p.default is p.empty)
        self.takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)

    def pick(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the known values that the function takes."""
        return {name: value for name, value in known.items() if self.takes_all or name in self.names}


def simple(value: object, depth: int = 0) -> bool:
    """Whether a value can be kept in the journal and given to a function again."""
    if value is None or isinstance(value, bool | int | float | str | Decimal):
        return True
    if depth >= 3:
        return False
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and simple(item, depth + 1) for name, item in value.items())
    return isinstance(value, list | tuple) and all(simple(item, depth + 1) for item in value)


def is_secret(name: str) -> bool:
    """Whether a parameter of this name must not be written down."""
    return any(word in name.lower() for word in _SECRETS)


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items() if not is_secret(name)}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _rich(value: dict[str, Any]) -> Any:
    return Decimal(value["$decimal"]) if value.keys() == {"$decimal"} else value


def to_text(function: str, arguments: Mapping[str, Any]) -> str:
    """A call as the journal keeps it: simple arguments, no secrets, at most 2 KiB (the longest are left out)."""
    kept = {name: _plain(value) for name, value in arguments.items() if simple(value) and not is_secret(name)}
    while True:
        text = json.dumps({"function": function, "arguments": kept})
        if len(text) <= MOST_TEXT or not kept:
            return text
        del kept[max(kept, key=lambda name: len(json.dumps(kept[name])))]


def from_text(text: str) -> tuple[str, dict[str, Any]]:
    """The function's name and the arguments of a call that the journal kept."""
    call = json.loads(text, object_hook=_rich)
    return call["function"], call["arguments"]


def fingerprint_of(arguments: Mapping[str, Any]) -> str:
    """A text that is equal for equal arguments; objects that are no values (a session, self) do not count."""
    parts = []
    for name, value in sorted(arguments.items()):
        if is_secret(name):
            continue
        if simple(value):
            parts.append(f"{name}={json.dumps(_plain(value), sort_keys=True)}")
        elif dataclasses.is_dataclass(value):
            parts.append(f"{name}={value!r}")
    return "\n".join(parts)


# -- orders of any shape ----------------------------------------------------------------------------------------


def _field(value: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        found = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if found is not None and not callable(found):
            return found
    return None


def _number(value: object) -> Decimal | None:
    try:
        return None if value is None else money.parse(value, what="number")
    except InvalidOrderError:
        return None


def _unwrapped(value: Any) -> Any:
    """The order inside of ``{"status": "ok", "order": {...}}``."""
    inner = value.get("order") if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else value


def orders_in(value: Any) -> list[Any]:
    """
    The orders that a look-up showed: none, one, or those of a list.

    Raises:
        MalformedResponseError: Something else. A response object is false for an error 500 and true for a "not found",
            a coroutine is always true: what is no order must neither be found nor be a no.
    """
    if value is None or (isinstance(value, Mapping) and not value):
        return []
    several = isinstance(value, list | set | frozenset | Iterator | ValuesView)
    several = several or (isinstance(value, tuple) and not hasattr(value, "_fields"))
    items = [item for item in value if item is not None] if several else [value]
    for item in items:
        if not _id_of(_unwrapped(item)) and client_id_of(item) is None:
            raise MalformedResponseError(
                f"look-up: returned {type(item).__name__}, which shows no order id; return the order, a list of orders,"
                " or None when there is none"
            )
    return items


def _id_of(value: Any) -> str:
    found = value if isinstance(value, str | int) else _field(value, _IDS)
    return "" if isinstance(found, bool) or not isinstance(found, str | int) else word(str(found), 80)


def client_id_of(order: Any) -> str | None:
    """The client order id that an order shows, or None."""
    shown = _field(_unwrapped(order), _CLIENT_IDS)
    return shown if isinstance(shown, str) and shown else None


def order_state(value: Any, wanted: Order) -> OrderState:
    """
    What can be read of one order.

    Args:
        value: A mapping or object, or the order's id alone.
        wanted: Stands in for what is not shown.

    Returns:
        With the id "" where none is shown, and the status OTHER: the venue's word is in `raw_status`, in lower case,
        because "Active" in the journal would make a later start follow an order of its own.
    """
    value = _unwrapped(value)
    status = _field(value, _STATUSES)
    status = status.value if isinstance(status, enum.Enum) else status
    raw = word(status, 40).lower() if isinstance(status, str) else ""
    amount = _number(_field(value, _AMOUNTS)) or wanted.amount
    filled = _number(_field(value, _FILLED))
    if filled is None:
        filled = amount if raw in _FULL else money.ZERO  # the word says all of it
    return OrderState(
        order_id=_id_of(value),
        symbol=wanted.symbol,
        side=wanted.side,
        type=wanted.type,
        amount=amount,
        filled=filled,
        status=OrderStatus.OTHER,
        client_order_id=client_id_of(value),
        average_price=_number(_field(value, _AVERAGES)),
        raw_status=raw,
    )


def closed_with(value: Any, wanted: Order) -> str | None:
    """How an order ended: "filled", "partial", "unfilled"; None while it is open, or where it does not say enough."""
    order = order_state(value, wanted)
    if order.raw_status not in CLOSED:
        return None
    if order.raw_status in _FULL:
        return "filled"
    if _number(_field(_unwrapped(value), _FILLED)) is None:
        return None
    if order.filled == money.ZERO:
        return "unfilled"
    return "filled" if money.ZERO < order.amount <= order.filled else "partial"


def words_of(error: BaseException) -> str:
    """
    An exception of a user's function for the journal, logs and alerts.

    Without the queries of URLs: requests puts the whole address into its texts, and signed APIs put keys into it.
    """
    return word(f"{type(error).__name__}: {_QUERY.sub('?...', str(error))}", 500)


def word(text: str, most: int) -> str:
    """A text of others, cut, and without the lone surrogates that UTF-8 cannot hold."""
    return text.strip()[:most].encode("utf-8", "replace").decode("utf-8")
