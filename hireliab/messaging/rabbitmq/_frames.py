"""
AMQP 0-9-1 frames of the four methods that each message costs: publish, deliver, ack, nack. Pure.

pika makes and reads each of them through several objects; here each is one packing or unpacking of bytes. All else
(handshake, declarations, closing) is pika's.

Source: the AMQP 0-9-1 specification, 2.3.5 and 4.2; RabbitMQ's publisher confirms.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

METHOD, HEADER, BODY = 1, 2, 3
FRAME_END = 0xCE
FRAME_START = struct.Struct(">BHL")
"""Kind, channel, size of what follows up to the end byte."""

PUBLISH = 60 << 16 | 40
DELIVER = 60 << 16 | 60
ACK = 60 << 16 | 80
NACK = 60 << 16 | 120

ANSWER = struct.Struct(">LQB")
"""Payload of an ack or nack: method, number, bits."""
ANSWER_MULTIPLE = 1

CONTENT = struct.Struct(">HHQH")
"""Start of a content header: class, weight, bytes of the body, flags of the properties that follow."""
BASIC = 60

# Flags of properties, in the order in which their values follow.
CONTENT_TYPE, ENCODING, HEADERS, DELIVERY_MODE = 0x8000, 0x4000, 0x2000, 0x1000
MESSAGE_ID, TIMESTAMP, TYPE = 0x0080, 0x0040, 0x0020

PIECE = 4096 - 8
"""Bytes of body that a frame may always hold: no peer may ask for frames below 4096 bytes."""
LARGEST_FRAME = 131_072
"""Largest frame that we accept and make; RabbitMQ's default."""

_U32 = struct.Struct(">L")
_U64 = struct.Struct(">Q")
_ONE_ACK = struct.Struct(">BHLLQBB")


def short(text: str) -> bytes:
    """
    A short string: at most 255 bytes.

    Raises:
        ValueError: It is longer, or has no UTF-8.
    """
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError(f"{len(encoded)} bytes, at most 255 are allowed")
    return bytes((len(encoded),)) + encoded


def entry(name: str, value: str) -> bytes:
    """
    One text of a header table.

    Raises:
        ValueError: The name is too long, or one of them has no UTF-8.
    """
    encoded = value.encode()
    return short(name) + b"S" + _U32.pack(len(encoded)) + encoded


def method(channel: int, payload: bytes) -> bytes:
    """A whole method frame."""
    return FRAME_START.pack(METHOD, channel, len(payload)) + payload + b"\xce"


def publish(channel: int, amqp_exchange: str, key: str, *, mandatory: bool) -> bytes:
    """The method frame of a basic.publish."""
    payload = _U32.pack(PUBLISH) + b"\x00\x00" + short(amqp_exchange) + short(key) + bytes((mandatory,))
    return method(channel, payload)


def acks(channel: int, numbers: Iterable[int]) -> bytes:
    """One method frame of a basic.ack for each delivery number."""
    pack = _ONE_ACK.pack
    return b"".join([pack(METHOD, channel, 13, ACK, number, 0, FRAME_END) for number in numbers])


def body(channel: int, content: bytes) -> bytes:
    """The body frames of a message; none for an empty one."""
    size = len(content)
    if size <= PIECE:
        return FRAME_START.pack(BODY, channel, size) + content + b"\xce" if size else b""
    most = LARGEST_FRAME - 8
    parts: list[bytes] = []
    for start in range(0, size, most):
        piece = content[start : start + most]
        parts += (FRAME_START.pack(BODY, channel, len(piece)), piece, b"\xce")
    return b"".join(parts)


class Template:
    """
    Frames of messages that differ in their id, time and data only: what they share is made once.

    Args:
        channel: The channel on which they are published.
        amqp_exchange: Where to,
        key: and under which routing key.
        content_type: The property.
        kind: The property `type`.
        headers: Texts that all of them carry.
        id_header: Header that repeats the message's id.
        time_header: Header that holds the time as text.
    """

    def __init__(
        self,
        *,
        channel: int,
        amqp_exchange: str,
        key: str,
        content_type: str,
        kind: str,
        headers: Mapping[str, str],
        id_header: str,
        time_header: str,
    ) -> None:
        self._channel = channel
        self._publish = tuple(publish(channel, amqp_exchange, key, mandatory=flag) for flag in (False, True))
        self._content_type = short(content_type)
        self._shared = b"".join(entry(name, value) for name, value in headers.items())
        self._id_name = short(id_header) + b"S"
        self._time_name = short(time_header) + b"S"
        self._kind = short(kind) + b"\xce"
        self._flags = CONTENT_TYPE | HEADERS | DELIVERY_MODE | MESSAGE_ID | TIMESTAMP | TYPE
        # Everything in a content header whose length is always the same: 14 bytes of its start, 4 of the table's
        # size, 1 of the delivery mode, 1 of the id's size, 8 of the timestamp.
        self._fixed = 28 + len(self._content_type) + len(self._kind) - 1
        self._table = len(self._shared) + len(self._id_name) + len(self._time_name) + 8  # 8: the sizes of both

    def marshal(
        self,
        message_id: bytes,
        when: bytes,
        seconds: int,
        content: bytes,
        *,
        more: bytes = b"",
        mandatory: bool = False,
    ) -> bytes:
        """
        All frames of one message.

        Args:
            message_id: At most 255 bytes.
            when: The time as text.
            seconds: The time in whole seconds.
            content: The body.
            more: Further entries of the header table; see `entry`.
            mandatory: Ask for the message back when no queue wants it.
        """
        id_size, time_size = len(message_id), len(when)
        table = self._table + id_size + time_size + len(more)
        # The properties without the table's own entries, the id a second time, and the table.
        size = self._fixed + id_size + table
        return b"".join(
            (
                self._publish[mandatory],
                FRAME_START.pack(HEADER, self._channel, size),
                CONTENT.pack(BASIC, 0, len(content), self._flags),
                self._content_type,
                _U32.pack(table),
                self._shared,
                self._id_name,
                _U32.pack(id_size),
                message_id,
                self._time_name,
                _U32.pack(time_size),
                when,
                more,
                b"\x02",  # delivery mode: persistent
                bytes((id_size,)),
                message_id,
                _U64.pack(seconds),
                self._kind,
                body(self._channel, content),
            )
        )


def read_deliver(payload: bytes) -> tuple[int, bool]:
    """The number of a basic.deliver, and whether the broker says that it was delivered before."""
    place = 5 + payload[4]  # behind the consumer's tag
    return _U64.unpack_from(payload, place)[0], payload[place + 8] & 1 == 1


def read_headers(payload: bytes) -> tuple[str, dict[str, object], str] | None:
    """
    Content type, header table and message id of a content header that a bus of ours wrote.

    Args:
        payload: Of the frame: what follows its class, weight and body size, that is the flags and properties.

    Returns:
        None when other properties are set, or the table holds more than texts and whole numbers: let pika read it.
    """
    try:
        if payload[0] << 8 | payload[1] != CONTENT_TYPE | HEADERS | DELIVERY_MODE | MESSAGE_ID | TIMESTAMP | TYPE:
            return None
        place = 3 + payload[2]
        content_type = payload[3:place].decode()
        end = place + 4 + _U32.unpack_from(payload, place)[0]
        place += 4
        table: dict[str, object] = {}
        while place < end:
            start = place + 1
            place = start + payload[place]
            name = payload[start:place].decode()
            kind = payload[place]
            if kind == 0x53:  # S: a long string
                start = place + 5
                place = start + _U32.unpack_from(payload, place + 1)[0]
                table[name] = payload[start:place].decode()
            elif kind == 0x6C:  # l: a signed number of 8 bytes, as the broker counts deliveries
                table[name] = int.from_bytes(payload[place + 1 : place + 9], "big", signed=True)
                place += 9
            else:
                return None
        if place != end:
            return None
        start = end + 2  # behind the delivery mode and the size of the id
        return content_type, table, payload[start : start + payload[end + 1]].decode()
    except (IndexError, UnicodeDecodeError, struct.error):
        return None


def content(wire: bytes) -> tuple[bytes, bytes, bytes]:
    """Payloads of the method and of the content header, and the body, of one message's frames."""
    method_payload = header_payload = b""
    pieces: list[bytes] = []
    place = 0
    while place < len(wire):
        kind, _, size = FRAME_START.unpack_from(wire, place)
        payload = wire[place + 7 : place + 7 + size]
        if kind == METHOD:
            method_payload = payload
        elif kind == HEADER:
            header_payload = payload
        else:
            pieces.append(payload)
        place += size + 8
    return method_payload, header_payload, b"".join(pieces)
