"""What every bus takes: topics and patterns, data, headers, ids, and what subscriptions ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from hireliab.core import config as checks
from hireliab.core import money
from hireliab.errors import BusError, ConfigError, MessageDecodeError

MAX_TOPIC = 255
"""Longest topic or pattern in characters. Source: AMQP 0-9-1, a routing key is a short string."""

MAX_SHORT = 255
"""Most bytes of a message's id and of a header's name. Source: a short string of AMQP 0-9-1."""
MAX_GROUP = 180
"""Most bytes of a group's name, which is a part of its queue's."""
MAX_HEADER_BYTES = 65_536
"""Most bytes of all headers of a message."""
RESERVED_HEADERS = ("cloudEvents_", "hireliab_", "x-")
"""Beginnings of header names that are ours or the broker's."""

_WORD = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


# -- topics -----------------------------------------------------------------------------------------------------


def check_topic(topic: object) -> str:
    """The topic, if it is one; else a ConfigError."""
    if not isinstance(topic, str) or len(topic) > MAX_TOPIC or not all(map(_WORD.fullmatch, topic.split("."))):
        raise ConfigError(
            f"bus: {topic!r:.80} is no topic; write words of letters, digits, _ and - with dots between them, "
            f"at most {MAX_TOPIC} characters",
            setting="topic",
            value=topic,
            allowed="words with dots between them",
        )
    return topic


def check_pattern(pattern: object) -> str:
    """The pattern, if it is one; else a ConfigError."""
    if (
        not isinstance(pattern, str)
        or len(pattern) > MAX_TOPIC
        or not all(word in ("*", "#") or _WORD.fullmatch(word) for word in pattern.split("."))
    ):
        raise ConfigError(
            f"bus: {pattern!r:.80} is no topic pattern; write a topic in which a whole word may be * or #",
            setting="pattern",
            value=pattern,
            allowed="words, * and # with dots between them",
        )
    return pattern


def topic_matches(pattern: str, topic: str) -> bool:
    """
    Whether a topic matches a pattern of which ``*`` is exactly one word and ``#`` any number of them.

    Takes time proportional to the product of their lengths, whatever the pattern.

    Source: the topic exchange of AMQP 0-9-1.
    """
    words = topic.split(".")
    # reached[i]: the pattern so far matches the first i words.
    reached = [True] + [False] * len(words)
    for part in pattern.split("."):
        if part == "#":
            first = reached.index(True) if True in reached else len(reached)
            reached = [i >= first for i in range(len(reached))]
        else:
            reached = [False] + [reached[i] and part in ("*", words[i]) for i in range(len(words))]
    return reached[-1]


# -- subscribing ------------------------------------------------------------------------------------------------

MAX_PREFETCH = 300


def check_subscribing(
    pattern: str, handler: object, *, group: object, concurrency: object, prefetch: object, in_order: object
) -> tuple[int, int | None]:
    """The numbers of threads and of messages in hand at most; what nobody can subscribe with is a ConfigError."""
    check_pattern(pattern)
    checks.blocking_function("bus: handler", handler)
    if group is not None:
        check_group(group)
    threads = checks.whole("concurrency", concurrency, low=1, high=64)
    most = None if prefetch is None else checks.whole("prefetch", prefetch, low=threads, high=MAX_PREFETCH)
    if not checks.flag("in_order", in_order):
        return threads, most
    for name, number in (("concurrency", threads), ("prefetch", most or 1)):
        if number != 1:
            raise ConfigError(
                f"{name} must be 1 with in_order=True, got {number}: one message at a time is what keeps the order",
                setting=name,
                value=number,
                allowed="1",
            )
    return 1, 1


def check_same_group(bus: str, group: str, *, theirs: tuple[str, bool], ours: tuple[str, bool]) -> None:
    """Refuse another pattern, or another `in_order`, than the group's other members have: they share a queue."""
    if ours[0] != theirs[0]:
        what, setting = f"takes {theirs[0]!r} and cannot take {ours[0]!r} too", "group"
    elif ours[1] != theirs[1]:
        what, setting = f"has in_order={theirs[1]} for its other members and cannot have {ours[1]} too", "in_order"
    else:
        return
    raise ConfigError(
        f"bus {bus!r}: group {group!r} {what}; use another group",
        setting=setting,
        value=group if setting == "group" else ours[1],
        allowed=str(theirs[0] if setting == "group" else theirs[1]),
    )


# -- payloads ---------------------------------------------------------------------------------------------------


def encode_data(data: Any, *, limit: int) -> bytes:
    """
    JSON in UTF-8, with Decimal as text.

    Args:
        data: What JSON can say, and finite Decimals.
        limit: Most bytes.

    Raises:
        BusError: It cannot be said in JSON, or is longer than `limit`.
    """
    try:
        encoded = _encode(data).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BusError(f"bus: the data is not JSON ({error}); nothing was published") from error
    if len(encoded) > limit:
        raise BusError(f"bus: the data has {len(encoded)} bytes, at most {limit} are allowed; nothing was published")
    return encoded


def _decimal_as_text(value: object) -> str:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is not a finite number")
        # Written out, 1E+999999 would be a megabyte of zeros.
        return money.text(value) if -60 <= value.adjusted() <= 60 else str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


# Made once: `json.dumps` would make an encoder for each message.
_encode = json.JSONEncoder(default=_decimal_as_text, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def decode_data(body: bytes) -> Any:
    """
    What `encode_data` wrote.

    Raises:
        MessageDecodeError: It is not JSON in UTF-8.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MessageDecodeError(f"bus: a body of {len(body)} bytes is not JSON ({error})") from error


def check_headers(headers: object) -> Mapping[str, str]:
    """
    A read-only copy of the headers, if they are texts that a broker can carry; else a ConfigError.

    Names are at most 255 bytes long and do not begin with ``cloudEvents_``, ``hireliab_`` or ``x-``; CC and BCC are
    none, for RabbitMQ would send copies to what they name. Texts are at most 1000 characters long, all headers
    together 64 KiB.
    """
    if headers is None:
        return NO_HEADERS
    if not isinstance(headers, Mapping) or not all(
        isinstance(part, str) and len(part) <= 1000 for pair in headers.items() for part in pair
    ):
        raise ConfigError(
            "bus: headers must be a mapping of texts to texts of at most 1000 characters", setting="headers"
        )
    if len(headers) > 50:
        raise ConfigError(f"bus: {len(headers)} headers, at most 50 are allowed", setting="headers")
    copy = dict(headers)
    size = sum(_header_bytes(name, text) for name, text in copy.items())
    if size > MAX_HEADER_BYTES:
        raise ConfigError(
            f"bus: the headers have {size} bytes, at most {MAX_HEADER_BYTES} are allowed", setting="headers"
        )
    return MappingProxyType(copy)


def _header_bytes(name: str, text: str) -> int:
    if not name or name in ("CC", "BCC") or name.startswith(RESERVED_HEADERS):
        raise ConfigError(
            f"bus: the header {name!r:.80} has a reserved name (CC, BCC, none at all, or one that begins with "
            f"{', '.join(RESERVED_HEADERS)}); rename it",
            setting="headers",
            value=name,
        )
    try:
        size = len(name.encode())
        if size > MAX_SHORT:
            raise ConfigError(
                f"bus: the header {name!r:.80} has a name of {size} bytes, at most {MAX_SHORT} are allowed",
                setting="headers",
                value=name,
            )
        return size + len(text.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"bus: the header {name!r:.80} cannot be said in UTF-8", setting="headers") from None


def check_message_id(message_id: object) -> str:
    """The message id, if it is a printable text of at most 200 characters and 255 bytes; else a ConfigError."""
    found = checks.text("message_id", message_id)
    if not found.isascii() and len(found.encode()) > MAX_SHORT:
        raise ConfigError(
            f"bus: the message id has {len(found.encode())} bytes, at most {MAX_SHORT} are allowed",
            setting="message_id",
            value=found,
            allowed=f"at most {MAX_SHORT} bytes",
        )
    return found


def check_group(group: object) -> str:
    """The group's name, if it is a printable text of at most 120 characters and 180 bytes; else a ConfigError."""
    found = checks.text("group", group, most=120)
    if len(found.encode()) > MAX_GROUP:
        raise ConfigError(
            f"bus: the group {found!r:.80} has {len(found.encode())} bytes, at most {MAX_GROUP} are allowed",
            setting="group",
            value=found,
            allowed=f"at most {MAX_GROUP} bytes",
        )
    return found
