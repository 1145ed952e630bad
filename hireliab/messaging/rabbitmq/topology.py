"""
What is declared at the broker: names, arguments, and what it means when the broker refuses. Pure.

One durable topic exchange carries every topic. A group has one durable queue, and one for its dead letters; a
subscription without a group has a queue of its own that goes away with it. Dead letters travel over an exchange of
their own and are declared first: a quorum queue keeps a message that it cannot hand on, and would fill up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from hireliab.errors import TopologyError
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig

SINGLE_ACTIVE = "x-single-active-consumer"

UNGROUPED_DEAD_LETTERS = 10_000
"""Most dead letters of subscriptions without a group that are kept; the oldest makes room, for nobody may read them."""

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>queue|exchange) '(?P<name>[^']*)'.*?"
    r"received (?:the value )?(?P<ours>.+?) but current is (?P<theirs>.+)",
    re.DOTALL,
)
_VALUE = re.compile(r"(?:the value )?'(?P<value>.*)' of type '(?P<type>\w+)'", re.DOTALL)


@dataclass(frozen=True)
class Exchange:
    """An exchange to declare."""

    name: str
    type: str


@dataclass(frozen=True)
class Queue:
    """A queue to declare."""

    name: str
    durable: bool
    exclusive: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Binding:
    """A binding to declare."""

    queue: str
    exchange: str
    key: str


Declaration = Exchange | Queue | Binding


@dataclass(frozen=True)
class Topology:
    """
    What one subscription needs at the broker.

    Attributes:
        queue: What it consumes.
        dead_exchange: Where its dead letters are published,
        dead_key: and under which key.
        declarations: In the order in which they must be made.
    """

    queue: str
    dead_exchange: str
    dead_key: str
    declarations: tuple[Declaration, ...]

    @property
    def bindings(self) -> tuple[Declaration, ...]:
        """What is lost when an exchange is deleted, and the exchanges."""
        return tuple(one for one in self.declarations if not isinstance(one, Queue))


def publishing(config: RabbitMQConfig) -> tuple[Declaration, ...]:
    """What a publisher declares."""
    return (Exchange(config.amqp_exchange, "topic"),)


def subscribing(
    config: RabbitMQConfig, pattern: str, group: str | None, *, in_order: bool = False, unique: str
) -> Topology:
    """
    What a subscription needs.

    Args:
        config: The bus's settings.
        pattern: Which topics it takes.
        group: The group's name, or None.
        in_order: Whether one consumer at a time gets messages, and the next when all of its are back.
        unique: Makes the name of a queue without a group.
    """
    exchange = config.amqp_exchange
    dead = f"{exchange}.dead"
    if group is None:
        queue = f"{exchange}.own.{unique}"
        dead_queue, dead_key = f"{exchange}.dead.own", "own"
    else:
        queue = f"{exchange}.queue.{group}"
        dead_queue, dead_key = f"{exchange}.dead.queue.{group}", queue
    dead_arguments: dict[str, Any] = {"x-queue-type": config.queue_type}
    arguments: dict[str, Any] = {"x-dead-letter-exchange": dead, "x-dead-letter-routing-key": dead_key}
    if group is None:
        dead_arguments |= {"x-max-length": UNGROUPED_DEAD_LETTERS, "x-overflow": "drop-head"}
        if config.max_length is not None:
            arguments["x-max-length"] = config.max_length
        declared = Queue(queue, durable=False, exclusive=True, arguments=arguments)
    else:
        arguments |= {"x-queue-type": config.queue_type, "x-overflow": "reject-publish"}
        if config.max_length is not None:
            arguments["x-max-length"] = config.max_length
        if config.queue_type == "quorum":
            # Without reject-publish, at-least-once silently becomes at-most-once.
            arguments |= {"x-delivery-limit": config.delivery_limit, "x-dead-letter-strategy": "at-least-once"}
        if in_order:
            arguments[SINGLE_ACTIVE] = True
        declared = Queue(queue, durable=True, arguments=arguments)
    return Topology(
        queue=queue,
        dead_exchange=dead,
        dead_key=dead_key,
        declarations=(
            *publishing(config),
            Exchange(dead, "direct"),
            Queue(dead_queue, durable=True, arguments=dead_arguments),
            Binding(dead_queue, dead, dead_key),
            declared,
            Binding(queue, exchange, pattern),
        ),
    )


def topology_error(text: str) -> TopologyError | None:
    """
    What a refused declaration means, or None when the refusal is about something else.

    Args:
        text: The broker's words, such as "PRECONDITION_FAILED - inequivalent arg 'durable' for queue …".
    """
    found = _INEQUIVALENT.search(text)
    if found is None:
        return None
    ours, theirs = (_plain(found[part]) for part in ("ours", "theirs"))
    argument = f"{SINGLE_ACTIVE} (in_order)" if found["argument"] == SINGLE_ACTIVE else found["argument"]
    return TopologyError(
        f"{found['kind']} {found['name']!r}: its {argument} is {theirs} at the broker and {ours} here; use that "
        f"setting, or delete the {found['kind']} when nobody needs what it holds"
    )


def _plain(value: str) -> str:
    value = value.strip()
    found = _VALUE.fullmatch(value)
    return found["value"] if found else value.strip("'")
