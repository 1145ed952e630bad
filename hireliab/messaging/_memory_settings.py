"""What an InMemoryMessageBus is told: MemoryBusConfig."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hireliab.core import config as checks
from hireliab.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MemoryBusConfig:
    """
    Settings of an in-memory bus.

    Attributes:
        source: `Message.source` of what is published here.
        queue_size: Most messages that one subscription or group holds, those being handled included.
        queue_bytes: Most bytes of their data, as JSON.
        max_message_bytes: Most bytes of a message's data as JSON.
        retry_delays: Seconds before the second, third, … attempt; after the last attempt comes the dead letter.
        dead_letters: Most dead letters that are kept; the oldest makes room.
    """

    source: str = "hireliab"
    queue_size: int = 1000
    queue_bytes: int = 67_108_864
    max_message_bytes: int = 1_048_576
    retry_delays: Sequence[float] = (1.0, 5.0, 30.0)
    dead_letters: int = 1000

    def __post_init__(self) -> None:
        checks.text("source", self.source)
        checks.whole("queue_size", self.queue_size, low=1, high=1_000_000)
        checks.whole("max_message_bytes", self.max_message_bytes, low=1, high=16_777_216)
        checks.whole("queue_bytes", self.queue_bytes, low=self.max_message_bytes, high=68_719_476_736)
        checks.whole("dead_letters", self.dead_letters, low=0, high=100_000)
        if not isinstance(self.retry_delays, list | tuple):
            raise ConfigError("retry_delays must be a list of seconds", setting="retry_delays", value=self.retry_delays)
        delays = tuple(checks.number("retry_delays", delay, low=0, high=86_400) for delay in self.retry_delays)
        object.__setattr__(self, "retry_delays", delays)
