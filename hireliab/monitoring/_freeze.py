"""
Bounded, redacted, printable copies of whatever a caller hands over.

Nothing here runs the user's code: a value of an unknown type becomes its type's name, because its ``__repr__``
might block, raise or return a gigabyte. Methods of the built-in base class are called by name for the same reason:
a subclass may override them.
"""

from __future__ import annotations

import gc
import re
import sys
from collections import deque
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

from hireliab.monitoring._redaction import MASK, is_secret_key, known_secrets, redact

MAX_DEPTH = 4
MAX_ITEMS = 32
MAX_NODES = 256
MAX_CONTEXT = 8192
MAX_VALUE = 1000
_MARGIN = 200

Frozen = str | int | float | bool | None | tuple["Frozen", ...] | Mapping[str, "Frozen"]
"""A value of a context: read-only all the way down."""

# Control characters, and those that reorder or break a line on a screen, become blanks. None of them is printable.
_CONTROL = dict.fromkeys(
    [
        *range(0x09),
        *range(0x0B, 0x20),
        *range(0x7F, 0xA0),
        0x2028,
        0x2029,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ],
    " ",
)
_LAST_WORD = re.compile(r"[\w+/=.:~-]+\Z")
_LINE_BREAKS = re.compile(r"[\n\t]+")


def clean(text: str, limit: int, *, one_line: bool = False) -> str:
    """
    A redacted copy without control characters, of about `limit` characters at most; a cut is marked.

    Args:
        text: Any length; only the first `limit` + 200 characters are looked at.
        limit: Characters.
        one_line: Turn line breaks and tabs into single spaces.
    """
    length = len(text)
    if length > limit + _MARGIN:
        if longest := known_secrets.longest:
            window = limit + _MARGIN + 2 * longest
            text = known_secrets.mask(text[:window])
            if length > window:  # only its end can hold the first part of a secret that we know
                text = text[:-longest]
        text = text[: limit + _MARGIN]
        # What the cut leaves of its last word may be half a token, which no pattern knows; and masks further up
        # may shorten the text so that it would show. A word as long as the margin is no token of a known kind.
        tail = _LAST_WORD.sub("", text[limit:])
        text = text[:limit] + tail if tail else text
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates can be written nowhere
    if not text.isprintable():
        text = text.replace("\r\n", "\n").translate(_CONTROL)
        if one_line:
            text = _LINE_BREAKS.sub(" ", text)
    if one_line:
        text = text.strip()
    text = redact(text)
    if len(text) > limit:
        text = text[:limit]
    cut = length - limit
    return f"{text}… [{cut} characters cut]" if cut > 0 else text


def type_name(value: object) -> str:
    """The name of a value's type in angle brackets: all that can be said of a stranger without running its code."""
    kind = type(value)
    return f"<{_fact('__module__', kind)}.{_fact('__qualname__', kind)}>"[:200]


def _fact(name: str, kind: type) -> str:
    """An attribute of a class as `type` itself has it: a metaclass may have a property of that name."""
    try:
        found = _TYPE.__dict__[name].__get__(kind)
    except Exception:
        return "?"
    return found if type(found) is str else "?"


class _Budget:
    def __init__(self) -> None:
        self.nodes = MAX_NODES
        self.characters = MAX_CONTEXT

    @property
    def spent(self) -> bool:
        return self.nodes <= 0 or self.characters <= 0


def freeze_text(value: Any, limit: int, *, one_line: bool = False) -> str:
    """A text as `clean` makes it, or a readable form of any other value."""
    if issubclass(type(value), str):
        return clean(_head(value, limit), limit, one_line=one_line)
    frozen = _freeze(value, 0, _Budget())
    return frozen if isinstance(frozen, str) else clean(str(thaw(frozen)), limit, one_line=one_line)


def freeze_mapping(given: object) -> Mapping[str, Frozen]:
    """A read-only copy of a context; what is no mapping becomes its only value, under "context"."""
    if given is None:
        return MappingProxyType({})
    budget = _Budget()
    if issubclass(type(given), dict | MappingProxyType):
        frozen = _freeze(given, 0, budget)
        assert isinstance(frozen, Mapping)
        return frozen
    return MappingProxyType({"context": _freeze(given, 1, budget)})


def thaw(value: Frozen) -> object:
    """A fresh copy of plain dicts and lists, ready for JSON."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    return value


def _head(value: str, limit: int) -> str:
    # Of a subclass: the base class's slice is an exact str and never the subclass's code.
    return value if type(value) is str else str.__getitem__(value, slice(0, limit + 2 * _MARGIN))


def _freeze(value: Any, depth: int, budget: _Budget) -> Frozen:
    budget.nodes -= 1
    if budget.spent:
        return "<cut>"
    frozen: Any
    try:
        frozen = _plain(value)
    except Exception:
        frozen = f"<unprintable {_fact('__name__', type(value))}>"
    if frozen is not _CONTAINER:
        if isinstance(frozen, str):
            frozen = clean(frozen, min(MAX_VALUE, max(1, budget.characters)))
            budget.characters -= len(frozen)
        else:
            budget.characters -= 8
        result: Frozen = frozen
        return result
    if depth >= MAX_DEPTH:
        return "<deeper>"
    if issubclass(type(value), BaseException):
        return _freeze_error(value, depth, budget)
    if issubclass(type(value), dict | MappingProxyType):
        return _freeze_items(value, depth, budget)
    items, more = _some(value)
    frozen_items = [_freeze(item, depth + 1, budget) for item in items]
    if more:
        frozen_items.append(f"<{more} more>")
    return tuple(frozen_items)


_TYPE: Any = type
_CONTAINER: Any = object()
_SEQUENCES = (list, tuple, set, frozenset, deque)
_ITERABLES: tuple[Any, ...] = _SEQUENCES


def _plain(value: Any) -> Any:
    """A value without parts, in its exact built-in type; `_CONTAINER` for one with parts."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, Enum):
        name = object.__getattribute__(value, "_name_")
        return name if type(name) is str else type_name(value)
    if issubclass(kind, str):
        return _head(value, MAX_VALUE)
    if issubclass(kind, int):
        bits = int.bit_length(value)
        return int.__index__(value) if bits <= 512 else f"<int of {bits} bits>"
    if issubclass(kind, float):
        number = float.__float__(value)
        return number if number - number == 0 else float.__repr__(number)  # JSON has no NaN and no infinity
    if issubclass(kind, Decimal):
        return Decimal.__str__(value)
    if issubclass(kind, bytes | bytearray | memoryview):
        return f"<{_length(value)} bytes>"
    if issubclass(kind, (dict, MappingProxyType, BaseException, *_SEQUENCES)):
        return _CONTAINER
    if issubclass(kind, datetime):
        return _instant(value)
    if kind in _PRINTED or (kind is time and _is_known_zone(value.tzinfo)):
        return str(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and _fact("__module__", kind) == "numpy" and issubclass(kind, numpy.generic):
        scalar = value.item()
        return type_name(value) if isinstance(scalar, numpy.generic) else _plain(scalar)
    return type_name(value)


_PRINTED = (date, timedelta, UUID, PurePath, PurePosixPath, PureWindowsPath, Path, PosixPath, WindowsPath)
"""Exactly these types, whose code is the standard library's."""


def _length(value: Any) -> int:
    for base in (bytes, bytearray):
        if issubclass(type(value), base):
            return base.__len__(value)
    return int(value.nbytes)  # a memoryview, which has no subclasses


def _is_known_zone(zone: object) -> bool:
    zoneinfo = sys.modules.get("zoneinfo")
    return zone is None or type(zone) is timezone or (zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo)


def _instant(value: Any) -> str:
    """A datetime; of a zone that is a stranger's, its type's name, for only its code knows the offset."""
    zone = _part(datetime, "tzinfo", value)
    if _is_known_zone(zone):
        return datetime.isoformat(value)
    parts = [_part(date, name, value) for name in ("year", "month", "day")]
    parts += [_part(datetime, name, value) for name in ("hour", "minute", "second", "microsecond")]
    return f"{datetime(*parts).isoformat()} {type_name(zone)}"  # noqa: DTZ001 - the zone stands beside it


def _part(owner: Any, name: str, value: object) -> Any:
    return owner.__dict__[name].__get__(value)


def _some(values: Any) -> tuple[list[object], int]:
    """The first items, and how many there are besides; another thread may be changing the container."""
    for _ in range(3):
        try:
            for base in _ITERABLES:
                if issubclass(type(values), base):
                    return list(islice(base.__iter__(values), MAX_ITEMS)), max(0, base.__len__(values) - MAX_ITEMS)
        except RuntimeError:
            continue  # "changed size during iteration"
    return ["<changed while it was copied>"], 0


def _some_items(given: Any) -> tuple[list[tuple[object, object]], int]:
    """The same of a dictionary's pairs; also of one that is behind a MappingProxyType."""
    while type(given) is MappingProxyType:
        (given,) = gc.get_referents(given)
    if not issubclass(type(given), dict):
        return [("…", type_name(given))], 0  # only its own code knows what is in it
    for _ in range(3):
        try:
            return list(islice(dict.items(given), MAX_ITEMS)), max(0, dict.__len__(given) - MAX_ITEMS)
        except RuntimeError:
            continue
    return [("…", "<changed while it was copied>")], 0


def _freeze_items(given: Any, depth: int, budget: _Budget) -> Frozen:
    pairs, more = _some_items(given)
    frozen: dict[str, Frozen] = {}
    for key, value in pairs:
        if budget.spent:
            more += 1
            continue
        name = freeze_text(key, 80, one_line=True)
        budget.characters -= len(name)
        if is_secret_key(name):
            frozen[name] = MASK
            continue
        frozen[name] = _freeze(value, depth + 1, budget)
    if more:
        frozen["…"] = f"<{more} more>"
    return MappingProxyType(frozen)


def _freeze_error(error: BaseException, depth: int, budget: _Budget) -> Frozen:
    base: Any = BaseException  # its own descriptor: a subclass may have a property of that name
    arguments = _freeze(base.args.__get__(error), depth + 1, budget)
    inner = ", ".join(str(thaw(item)) for item in arguments) if isinstance(arguments, tuple) else arguments
    name = _fact("__name__", type(error))
    return clean(f"{name}: {inner}" if inner else name, MAX_VALUE)
