"""
How a `Message` travels: CloudEvents attributes as headers with the prefix ``cloudEvents_``, the data as JSON body.

The attributes are mirrored into AMQP's own properties, for the eyes of other tools. What arrives without them, or
with what this version does not know, is a MessageDecodeError: it goes to the dead letters and not to a handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pika import spec

from hireliab.errors import ConfigError, MessageDecodeError
from hireliab.messaging.bus import RESERVED_HEADERS, Message, check_headers, decode_data
from hireliab.messaging.rabbitmq import _frames as frames

JSON = "application/json"
SPECVERSION = "1.0"
PREFIX = "cloudEvents_"
ID, SOURCE, TYPE, TIME, SUBJECT = (PREFIX + name for name in ("id", "source", "type", "time", "subject"))
_SPECVERSION, _CONTENT_TYPE = PREFIX + "specversion", PREFIX + "datacontenttype"
DELIVERIES = "x-delivery-count"
"""Header in which a quorum queue says how often it has delivered a message before."""

REASON = "hireliab_reason"
"""Header of a dead letter: why it was given up."""
QUEUE = "hireliab_queue"
"""Header of a dead letter: which queue gave it up."""
ATTEMPTS = "hireliab_attempts"
"""Header of a dead letter: how many attempts there were here."""


def template(*, channel: int, amqp_exchange: str, topic: str, source: str) -> frames.Template:
    """What all messages of a topic share."""
    return frames.Template(
        channel=channel,
        amqp_exchange=amqp_exchange,
        key=topic,
        content_type=JSON,
        kind=topic,
        headers={_SPECVERSION: SPECVERSION, SOURCE: source, TYPE: topic, _CONTENT_TYPE: JSON},
        id_header=ID,
        time_header=TIME,
    )


def further_headers(headers: Mapping[str, str], subject: str | None) -> bytes:
    """The table entries of a message's own headers, which are checked, and of its subject."""
    parts = [] if subject is None else [frames.entry(SUBJECT, subject)]
    parts += [frames.entry(name, text) for name, text in headers.items()]
    return b"".join(parts)


class Times:
    """Times as CloudEvents writes them, RFC 3339 in UTC; what the same second's have in common is made once."""

    def __init__(self) -> None:
        self._latest: tuple[int, str] = (-1, "")  # replaced as a whole: threads may share it

    def text(self, at: float) -> bytes:
        """Unix seconds as text."""
        whole = int(at)
        second, start = self._latest
        if second != whole:
            start = datetime.fromtimestamp(whole, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.")
            self._latest = (whole, start)
        return f"{start}{int((at - whole) * 1_000_000):06d}Z".encode()


def read_message(properties: bytes, content: bytes, *, redelivered: bool, attempt: int) -> Message:
    """
    A delivery as a handler sees it.

    Args:
        properties: The payload of the content header's frame from its flags on.
        content: The body.
        redelivered: Whether the broker, or this bus, delivered it before.
        attempt: Which delivery this is, as far as this bus knows; what the broker counted is added.

    Raises:
        MessageDecodeError: The envelope or the body is not what this version writes.
    """
    own = frames.read_headers(properties)
    if own is None:
        own = _read_foreign(properties)
    content_type, table, property_id = own
    if table.get(_SPECVERSION) != SPECVERSION:
        raise _unreadable(f"its specversion is {table.get(_SPECVERSION)!r:.40}, not {SPECVERSION!r}")
    message_id, source, topic = (
        _attribute(table, ID) if ID in table else property_id,
        _attribute(table, SOURCE),
        _attribute(table, TYPE),
    )
    if not message_id:
        raise _unreadable("it has no id")
    kind = table.get(_CONTENT_TYPE, content_type)
    if kind != JSON:
        raise _unreadable(f"its data is {kind!r:.80}, not {JSON}")
    at = _time(_attribute(table, TIME))
    count = table.get(DELIVERIES)
    before = count if isinstance(count, int) and count > 0 else 0
    subject = table.get(SUBJECT)
    headers = {name: value for name, value in table.items() if not name.startswith(RESERVED_HEADERS)}
    return Message(
        id=message_id,
        source=source,
        topic=topic,
        time=at,
        data=decode_data(content),
        subject=subject if isinstance(subject, str) else None,
        headers=_headers(headers) if headers else _NONE,
        redelivered=redelivered,
        attempt=attempt + before,
    )


_NONE = check_headers(None)


def _headers(table: dict[str, object]) -> Mapping[str, str]:
    texts = {name: value for name, value in table.items() if isinstance(value, str) and name not in ("CC", "BCC")}
    try:
        return check_headers(texts)
    except ConfigError as error:
        raise _unreadable(str(error).removeprefix("bus: ")) from None


def subject_of(properties: bytes) -> str | None:
    """The subject in properties that a bus of ours wrote."""
    own = frames.read_headers(properties[12:])
    subject = None if own is None else own[1].get(SUBJECT)
    return subject if isinstance(subject, str) else None


def _attribute(table: dict[str, object], name: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise _unreadable(f"it has no {name.removeprefix(PREFIX)}")
    return value


def _time(text: str) -> float:
    try:
        at = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        return at.timestamp()
    except (ValueError, OverflowError):
        raise _unreadable(f"its time {text!r:.60} is none") from None


def _read_foreign(payload: bytes) -> tuple[str, dict[str, object], str]:
    properties = decode_properties(payload)
    if properties is None:
        raise _unreadable("its properties cannot be read")
    if properties.content_encoding not in (None, "", "utf-8", "UTF-8", "identity"):
        raise _unreadable(f"its encoding is {properties.content_encoding!r:.40}")
    headers = properties.headers
    table = {} if not isinstance(headers, dict) else headers
    return str(properties.content_type or JSON), table, str(properties.message_id or "")


def decode_properties(payload: bytes) -> Any:
    """BasicProperties of pika, or None when they cannot be read."""
    try:
        return spec.BasicProperties().decode(payload)
    except Exception:
        # Whatever another program sent: pika has no error of its own for it.
        return None


def _unreadable(what: str) -> MessageDecodeError:
    return MessageDecodeError(f"bus: the message cannot be read, {what}")
