"""Shape: what one decorated function's arguments say: the order, for people, and where the client order id goes."""

from __future__ import annotations

import enum
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hireliab.core import money
from hireliab.errors import ConfigError, InvalidOrderError
from hireliab.exchange._verified_values import fingerprint_of, word
from hireliab.exchange.adapter import Order

ID_NAMES = ("client_order_id", "clientOrderId", "newClientOrderId")
"""Parameters that get the client order id by themselves. Not "client_id": that may be anybody's, such as an OAuth
client's; it must be named."""
_SYMBOLS = ("symbol", "market", "pair", "instrument")
_TYPES = ("order_type", "ordertype", "orderType", "execution", "type")
_AMOUNTS = ("amount", "qty", "quantity", "volume", "size")
_PRICES = ("price", "limit_price", "limitPrice")
_STOPS = ("stop_price", "stopPrice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One call that is about to be made.

    Attributes:
        args: As the function gets them, like `kwargs`.
        known: Every argument by name, defaults and the client order id included.
        order: What it seems to order.
        payload_hash: Equal for calls that ask for the same.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    known: Mapping[str, Any]
    order: Order
    payload_hash: str


class Shape:
    """
    Args:
        name: The function's name in the journal.
        func: The decorated function.
        id_name: The parameter that gets the client order id; None looks for one of ID_NAMES.

    Raises:
        ConfigError: The function has no such parameter.
    """

    def __init__(self, name: str, func: Callable[..., Any], id_name: str | None) -> None:
        self.name = name
        try:
            self._signature = inspect.signature(func)
        except (TypeError, ValueError):
            raise ConfigError(f"{name}: its signature cannot be read; wrap it in a function") from None
        parameters = self._signature.parameters
        by_name = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self.takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if id_name is not None and id_name not in by_name and not self.takes_all:
            raise ConfigError(
                f"{name}: client_order_id_arg names {id_name!r}, which is none of its parameters that can be given by"
                f" name ({', '.join(by_name)})",
                setting="client_order_id_arg",
                value=id_name,
                allowed=", ".join(by_name),
            )
        self.id_name = id_name or next((known for known in ID_NAMES if known in by_name), None)
        self.names = frozenset(by_name)

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise the TypeError that the function would raise for these arguments."""
        self._signature.bind(*args, **kwargs)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], client_order_id: str) -> Call:
        """
        Put the client order id where it belongs, unless the caller gave one.

        Args:
            client_order_id: Ours.
        """
        bound = self._signature.bind(*args, **kwargs)
        extra = next((p.name for p in self._signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
        own = ""
        if self.id_name is not None:
            inside = self.id_name in self._signature.parameters
            where = bound.arguments if inside else bound.arguments.setdefault(extra or "", {})
            if where.get(self.id_name) is None:
                where[self.id_name] = client_order_id
            own = str(where[self.id_name])
        called_args, called_kwargs = bound.args, bound.kwargs
        bound.apply_defaults()
        known = dict(bound.arguments)
        known.update(known.pop(extra, {}) if extra is not None else {})
        same = {name: value for name, value in known.items() if name not in (self.id_name, "self", "cls")}
        digest = hashlib.sha256(f"{self.name}\n{fingerprint_of(same)}".encode("utf-8", "replace")).hexdigest()
        return Call(
            args=called_args, kwargs=called_kwargs, known=known, order=_order(known, word(own, 80)), payload_hash=digest
        )


def _first(known: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((known[name] for name in names if known.get(name) is not None), None)


def _text(value: Any) -> str:
    value = value.value if isinstance(value, enum.Enum) else value
    return word(value, 40) if isinstance(value, str) else ""


def _order(known: Mapping[str, Any], client_order_id: str) -> Order:
    """The order as far as common names tell; "" and 0 stand for what they do not."""
    side, kind = _text(known.get("side")).lower(), _text(_first(known, _TYPES)).lower()
    if not side and _text(known.get("type")).lower() in ("buy", "sell"):  # Nobitex: type and execution
        side = _text(known.get("type")).lower()
        kind = "" if kind == side else kind
    symbol = _text(_first(known, _SYMBOLS))
    if not symbol:
        symbol = "/".join(filter(None, (_text(known.get("srcCurrency")), _text(known.get("dstCurrency")))))
    return Order(
        symbol=symbol,
        side=side,
        type=kind,
        amount=_number(_first(known, _AMOUNTS)) or money.ZERO,
        price=_number(_first(known, _PRICES)),
        stop_price=_number(_first(known, _STOPS)),
        client_order_id=client_order_id,
    )


def _number(value: Any) -> Any:
    try:
        return None if value is None else money.positive(value, what="number")
    except InvalidOrderError:
        return None
