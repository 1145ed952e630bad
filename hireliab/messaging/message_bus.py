"""The door to the message bus: its names, and `open_message_bus(url)`."""

from __future__ import annotations

from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ConfigError
from hireliab.messaging.bus import Message, MessageBus, PublishReceipt, Reject
from hireliab.messaging.memory_bus import InMemoryMessageBus

__all__ = ["InMemoryMessageBus", "Message", "MessageBus", "PublishReceipt", "Reject", "open_message_bus"]


def open_message_bus(url: str, *, clock: Clock = SYSTEM_CLOCK) -> MessageBus:
    """
    Make the bus that an address names.

    Args:
        url: ``memory://`` or ``memory://<name>``.

    Returns:
        A bus that its first use starts; use it in a `with` block, or call `stop()`.

    Raises:
        ConfigError: Another address. Its text never repeats the address, which may hold a password.
    """
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    if scheme == "memory" and separator:
        return InMemoryMessageBus(name=rest or "memory", clock=clock)
    if scheme in ("amqp", "amqps"):
        raise ConfigError(
            f"message bus: {scheme}:// is not built yet, it comes with the RabbitMQ issue; use memory://",
            setting="url",
            allowed="memory://",
        )
    raise ConfigError(
        "message bus: the address has an unknown scheme; use memory://", setting="url", allowed="memory://"
    )
