"""The door to the message bus: its names, and `open_message_bus(url)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ConfigError
from hireliab.messaging._spill_store import SpillStore
from hireliab.messaging.bus import Message, MessageBus, PublishReceipt, Reject, Spill
from hireliab.messaging.inbox import Inbox
from hireliab.messaging.memory_bus import InMemoryMessageBus

__all__ = ["InMemoryMessageBus", "Inbox", "Message", "MessageBus", "PublishReceipt", "Reject", "open_message_bus"]

_ALLOWED = "memory://, amqp://… or amqps://…"


def open_message_bus(
    url: str | Sequence[str],
    *,
    config: Mapping[str, Any] | None = None,
    name: str | None = None,
    spill: str | Path | Spill | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> MessageBus:
    """
    Make the bus that an address names: one line moves a bot from one process to a cluster.

    Args:
        url: ``memory://`` or ``memory://<name>``; ``amqp://user:password@host:port/vhost``, or ``amqps://…``, which
            checks the broker's certificate; or a list of those two, for the hosts of one cluster.
        config: Settings of the bus: those of `MemoryBusConfig` or of `RabbitMQConfig`.
        name: For errors, logs and threads; left out, what the address says.
        spill: Where to keep what a broker cannot take: the path of a file of the bus's own, or a callable that keeps and
            publishes it by itself. With it ``when_full`` is "spill" unless given.

    Returns:
        A bus that its first use starts; use it in a `with` block, or call `stop()`.

    Raises:
        ConfigError: Another address or setting. Its text never repeats the address, which may hold a password.
    """
    first = url if isinstance(url, str) else url[0] if isinstance(url, list | tuple) and url else ""
    scheme, separator, rest = first.partition("://") if isinstance(first, str) else ("", "", "")
    if scheme == "memory" and separator and isinstance(url, str):
        if spill is not None:
            raise ConfigError("message bus: memory:// has no use for a local store", setting="spill")
        return InMemoryMessageBus(name=name or rest or "memory", config=config, clock=clock)
    if scheme in ("amqp", "amqps") and separator:
        from hireliab.messaging.rabbitmq.bus import RabbitMQMessageBus  # noqa: PLC0415 - loads pika only when it is used

        if spill is not None and (config is None or isinstance(config, Mapping)):
            config = {"when_full": "spill", **(config or {})}
        name = name or "rabbitmq"
        store = SpillStore(Path(spill), name=name, clock=clock) if isinstance(spill, str | Path) else spill
        return RabbitMQMessageBus(config, url=url, name=name, spill=store, clock=clock)
    raise ConfigError(
        f"message bus: the address has an unknown scheme; use {_ALLOWED}", setting="url", allowed=_ALLOWED
    )
