"""
Bounded, redacted, printable copies of whatever a caller hands over.

Nothing here runs the user's code: a value of an unknown type becomes its type's name, because its ``__repr__``
might block, raise or return a gigabyte. Methods of the built-in base class are called by name for the same reason:
a subclass may override them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from types import MappingProxyType
from typing import Any
from uuid import UUID

MASK = "***"
"""What stands where a secret was."""

MAX_DEPTH = 4
MAX_ITEMS = 32
MAX_NODES = 256
MAX_CONTEXT = 8192
MAX_VALUE = 1000
_MARGIN = 200

Frozen = str | int | float | bool | None | tuple["Frozen", ...] | Mapping[str, "Frozen"]
"""A value of a context: read-only all the way down."""

# Control characters, and those that reorder or break a line on a screen.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LAST_WORD = re.compile(r"[\w+/=.:~-]+\Z")
_LINE_BREAKS = re.compile(r"[\n\t]+")

_NAMES = (
    "token|secret|password|passwd|passphrase|pwd|api_?-?key|private_?-?key|access_?-?key|authorization|signature|"
    "credential|cookie"
)
_SECRET_KEY = re.compile(_NAMES, re.IGNORECASE)

# One expression, so that each text is read once. Every repetition is bounded or cannot overlap what follows it:
# the time is proportional to the text, whatever the text.
_SECRET = re.compile(
    r"(?P<pem>-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(?s:.)*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    # Authorization: Token 0123…   api_secret = "…"   'token': '…'   signature=…
    rf"|(?P<name>(?i:{_NAMES})[\w-]{{0,20}}[\"']?[^\S\n]{{0,3}}[:=][^\S\n]{{0,3}})"
    r"(?:(?P<quote>[\"'])[^\"'\n]*[\"']?|(?:(?i:token|bearer|basic)[^\S\n]{1,3})?[^\s\"',;&)}\]]+)"
    # Token 0123…   Bearer …
    r"|(?P<scheme>\b(?i:token|bearer|basic)[^\S\n]{1,3})[A-Za-z0-9._~+/=-]{16,}"
    # https://user:password@host
    r"|(?P<url>://)[^/\s@]{1,200}@"
    # a Telegram bot's token
    r"|(?<!\d)\d{6,12}:[A-Za-z0-9_-]{30,}"
    # a JSON web token
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    # 40 hexadecimal digits or more: a Nobitex token, a key
    r"|(?<![0-9A-Za-z])[0-9a-fA-F]{40,}(?![0-9A-Za-z])"
    # 32 or 64 bytes in base64: an Ed25519 key, a signature
    r"|(?<![0-9A-Za-z+/_-])(?:[A-Za-z0-9+/_-]{43}=|[A-Za-z0-9+/_-]{86}==)(?![=0-9A-Za-z])"
)


def redact(text: str) -> str:
    """
    Mask what looks like a secret: values of names such as ``api_secret=``, authorization headers, credentials in
    addresses, private keys, and runs of characters of the shape of a token.

    It would rather mask too much than too little.
    """
    return _SECRET.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    if match["pem"]:
        return MASK
    if match["name"]:
        quote = match["quote"] or ""
        return f"{match['name']}{quote}{MASK}{quote}"
    if match["scheme"]:
        return match["scheme"] + MASK
    if match["url"]:
        return f"://{MASK}@"
    return MASK


def is_secret_key(key: str) -> bool:
    """Whether the values under this name are masked whatever they look like."""
    return _SECRET_KEY.search(key) is not None


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
        text = text[: limit + _MARGIN]
        # What the cut leaves of its last word may be half a token, which no pattern knows; and masks further up
        # may shorten the text so that it would show. A word as long as the margin is no token of a known kind.
        tail = _LAST_WORD.sub("", text[limit:])
        text = text[:limit] + tail if tail else text
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates can be written nowhere
    text = _CONTROL.sub(" ", text.replace("\r\n", "\n"))
    if one_line:
        text = _LINE_BREAKS.sub(" ", text).strip()
    text = redact(text)
    if len(text) > limit:
        text = text[:limit]
    cut = length - limit
    return f"{text}… [{cut} characters cut]" if cut > 0 else text


def type_name(value: object) -> str:
    """The name of a value's type in angle brackets: all that can be said of a stranger without running its code."""
    kind = type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"[:200]


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
        frozen = f"<unprintable {type(value).__name__}>"
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


_CONTAINER: Any = object()
_SEQUENCES = (list, tuple, set, frozenset, deque)
_DICT: Any = dict
_ITERABLES: tuple[Any, ...] = (*_SEQUENCES, dict)


def _plain(value: Any) -> Any:
    """A value without parts, in its exact built-in type; `_CONTAINER` for one with parts."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, Enum):
        return str(object.__getattribute__(value, "_name_"))
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
        return f"<{len(value)} bytes>"
    if issubclass(kind, (dict, MappingProxyType, BaseException, *_SEQUENCES)):
        return _CONTAINER
    if issubclass(kind, datetime):
        return datetime.isoformat(value)
    if kind in (date, time, timedelta, UUID) or issubclass(kind, PurePath):
        return str(value)
    if kind.__module__ == "numpy" and hasattr(kind, "item"):
        scalar = value.item()
        return _plain(scalar) if type(scalar).__module__ != "numpy" else type_name(value)
    return type_name(value)


def _some(values: Any) -> tuple[list[object], int]:
    """The first items, and how many there are besides; another thread may be changing the container."""
    for _ in range(3):
        try:
            for base in _ITERABLES:
                if issubclass(type(values), base):
                    return list(islice(base.__iter__(values), MAX_ITEMS)), max(0, base.__len__(values) - MAX_ITEMS)
            return list(islice(values, MAX_ITEMS)), 0  # a MappingProxyType, which has no subclasses
        except RuntimeError:
            continue  # "changed size during iteration"
    return ["<changed while it was copied>"], 0


def _freeze_items(given: Any, depth: int, budget: _Budget) -> Frozen:
    keys, more = _some(given)
    frozen: dict[str, Frozen] = {}
    for key in keys:
        if budget.spent:
            more += 1
            continue
        name = freeze_text(key, 80, one_line=True)
        budget.characters -= len(name)
        if is_secret_key(name):
            frozen[name] = MASK
            continue
        try:
            value = _DICT.__getitem__(given, key) if issubclass(type(given), dict) else given[key]
        except Exception:
            value = "<gone>"  # removed by another thread, or a key whose hash fails
        frozen[name] = _freeze(value, depth + 1, budget)
    if more:
        frozen["…"] = f"<{more} more>"
    return MappingProxyType(frozen)


def _freeze_error(error: BaseException, depth: int, budget: _Budget) -> Frozen:
    base: Any = BaseException  # its own descriptor: a subclass may have a property of that name
    arguments = _freeze(base.args.__get__(error), depth + 1, budget)
    inner = ", ".join(str(thaw(item)) for item in arguments) if isinstance(arguments, tuple) else arguments
    return clean(f"{type(error).__name__}: {inner}" if inner else type(error).__name__, MAX_VALUE)
