"""Parameters of reads: whole numbers, choices, pages, markets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TypeVar

from hireliab.simulator.markets import DISPLAY_NAMES
from hireliab.simulator.message import Refused, answer, refuse

Params = Mapping[str, object]
T = TypeVar("T")
_WHOLE = re.compile(r"[0-9]{1,18}")


def parse_error(message: str) -> Refused:
    """400 ParseError, to be raised."""
    return refuse("ParseError", message, 400)


def not_found(what: str = "Order") -> Refused:
    """404 for an object that does not exist, in a shape of its own."""
    return Refused(answer({"error": "NotFound", "message": f"No {what} matches the given query."}, 404))


def whole(params: Params, name: str) -> int | None:
    """A whole number of at least 0, given as number or text; None when absent."""
    value = params.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not _WHOLE.fullmatch(value):
        raise parse_error(f'Invalid integer value: "{value}"')
    return int(value)


def bounded(params: Params, name: str, default: int, highest: int) -> int:
    """A whole number from 1 to `highest`."""
    value = whole(params, name)
    if value is None:
        return default
    if not 1 <= value <= highest:
        raise parse_error(f'Invalid integer value: "{value}"')
    return value


def choice(params: Params, name: str, allowed: tuple[str, ...], default: str | None = None) -> str | None:
    """One of some words."""
    value = params.get(name)
    if value is None or value == "":
        return default
    if value not in allowed:
        raise parse_error(f'Invalid choices value: "{value}"')
    return str(value)


def currency(params: Params, name: str) -> str | None:
    """A currency code, lower case; None when absent."""
    value = params.get(name)
    if value is None or value == "":
        return None
    code = str(value).lower()
    if code not in DISPLAY_NAMES:
        raise parse_error(f'Invalid currency value: "{value}"')
    return code


def moment(params: Params, name: str) -> int | None:
    """An ISO time as Unix nanoseconds; without offset it is UTC."""
    value = params.get(name)
    if value is None or value == "":
        return None
    try:
        # Python 3.10 does not know the Z.
        found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise parse_error(f'Invalid datetime value: "{value}"') from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=timezone.utc)
    return round(found.timestamp()) * 1_000_000_000


def cut(
    rows: list[T],
    params: Params,
    default_size: int,
    highest_size: int,
    highest_page: int = 10_000,
    *,
    most: int | None = None,
) -> tuple[list[T], bool]:
    """One page of rows, of at most `most` whatever was asked for, and whether more follow."""
    size = bounded(params, "pageSize", default_size, highest_size)
    size = size if most is None else min(size, most)
    start = (bounded(params, "page", 1, highest_page) - 1) * size
    return rows[start : start + size], len(rows) > start + size
