"""A dead letter: the message as it came, with the reason in its headers."""

from __future__ import annotations

from pika import frame, spec

from hireliab.messaging.rabbitmq import _frames as frames
from hireliab.messaging.rabbitmq._envelope import ATTEMPTS, QUEUE, REASON, decode_properties
from hireliab.messaging.rabbitmq.topology import Topology

_COPIES = ("CC", "BCC")  # headers with which RabbitMQ would route copies to further queues


def dead_letter(
    channel: int, topology: Topology, properties: bytes, body: bytes, *, reason: str, attempts: int
) -> tuple[bytes, str]:
    """
    Frames that publish a delivery to its dead letters, and its message id, which may be empty.

    Args:
        channel: The publishing channel.
        topology: Whose dead letter it is.
        properties: The delivery's, from the flags on.
        body: The delivery's.
        reason: Why it is given up.
        attempts: How often a handler tried.
    """
    told = {
        REASON: reason[:500].encode(errors="replace").decode(),
        QUEUE: topology.queue,
        ATTEMPTS: str(attempts),
    }
    given = decode_properties(properties)
    header = None if given is None else _header(channel, given, told, len(body))
    if header is None:
        # Unreadable, or so full that there is no room for the reason: the body is what can be kept.
        given = spec.BasicProperties(headers=told, delivery_mode=2)
        header = frame.Header(channel, len(body), given).marshal()
    start = frames.publish(channel, topology.dead_exchange, topology.dead_key, mandatory=True)
    return start + header + frames.body(channel, body), str(given.message_id or "")


def _header(channel: int, properties: spec.BasicProperties, told: dict[str, str], size: int) -> bytes | None:
    headers = properties.headers if isinstance(properties.headers, dict) else {}
    properties.headers = {name: value for name, value in headers.items() if name not in _COPIES} | told
    properties.delivery_mode = 2
    properties.expiration = None  # a dead letter waits for a person
    properties.user_id = None  # the broker would compare it with ours
    try:
        header = bytes(frame.Header(channel, size, properties).marshal())
    except Exception:
        # pika cannot write everything that it can read.
        return None
    return header if len(header) <= frames.LARGEST_FRAME else None
