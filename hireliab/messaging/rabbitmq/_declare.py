"""Sends declarations without waiting for each: the broker works on a channel's methods in order, or closes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hireliab.messaging.rabbitmq.topology import Binding, Declaration, Exchange


def declare(channel: Any, declarations: Iterable[Declaration]) -> None:
    """Send them; a method sent behind them with a callback tells that all have succeeded."""
    for one in declarations:
        if isinstance(one, Exchange):
            channel.exchange_declare(one.name, exchange_type=one.type, durable=True)
        elif isinstance(one, Binding):
            channel.queue_bind(one.queue, one.exchange, one.key)
        else:
            channel.queue_declare(
                one.name,
                durable=one.durable,
                exclusive=one.exclusive,
                auto_delete=one.exclusive,
                arguments=one.arguments,
            )
