"""What a RabbitMQMessageBus is told: RabbitMQConfig."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hireliab.core import config as checks
from hireliab.errors import ConfigError

LARGEST_MESSAGE = 16_777_216

_LONGEST_RETRY = 900  # seconds: half of the time after which RabbitMQ gives up a consumer that answers nothing
_EXCHANGE = re.compile(r"[A-Za-z0-9_.-]{1,60}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class RabbitMQConfig:
    """
    Settings of a bus over RabbitMQ.

    Attributes:
        source: `Message.source` of what is published here.
        amqp_exchange: Name of the topic exchange that all buses of one system share, and prefix of its queues.
        queue_type: "quorum" (replicated, the default) or "classic", for the queues of groups.
        max_length: Most messages in a group's queue; a message beyond them is refused. None: no limit.
        delivery_limit: Deliveries after which the broker itself gives a message of a quorum queue up, such as one
            that kills its handler's process each time. More than the attempts of `retry_delays`.
        retry_delays: Seconds before the second, third, … attempt; after the last attempt comes the dead letter.
        max_message_bytes: Most bytes of a message's data as JSON.
        window: Most messages that are taken and not settled.
        window_bytes: Most bytes of these.
        when_full: What `publish` does when that is reached and its `timeout` is over: "raise" BusFullError; "block"
            for `block_timeout` seconds first; "spill" the message into the local store that the bus was given.
        block_timeout: Seconds; see `when_full`.
        confirm_timeout: Seconds after its sending until a message without an answer is UNKNOWN.
        heartbeat: Seconds; a silent connection is given up 5 s after that. 0: never.
        connection_timeout: Seconds for a connection to be made.
    """

    source: str = "hireliab"
    amqp_exchange: str = "hireliab"
    queue_type: str = "quorum"
    max_length: int | None = 1_000_000
    delivery_limit: int = 20
    retry_delays: Sequence[float] = (1.0, 5.0, 30.0)
    max_message_bytes: int = 1_048_576
    window: int = 4000
    window_bytes: int = 8_388_608
    when_full: str = "raise"
    block_timeout: float = 5.0
    confirm_timeout: float = 30.0
    heartbeat: int = 15
    connection_timeout: float = 5.0

    def __post_init__(self) -> None:
        checks.text("source", self.source)
        _check_exchange(self.amqp_exchange)
        checks.choice("queue_type", self.queue_type, ("quorum", "classic"))
        if self.max_length is not None:
            checks.whole("max_length", self.max_length, low=1)
        if not isinstance(self.retry_delays, list | tuple):
            raise ConfigError("retry_delays must be a list of seconds", setting="retry_delays", value=self.retry_delays)
        delays = tuple(checks.number("retry_delays", delay, low=0, high=600) for delay in self.retry_delays)
        if sum(delays) > _LONGEST_RETRY:
            raise ConfigError(
                f"retry_delays must be {_LONGEST_RETRY} seconds together at most, got {sum(delays):g}; a message in hand "
                "for longer makes the broker close the channel",
                setting="retry_delays",
                value=self.retry_delays,
                allowed=f"{_LONGEST_RETRY} seconds together",
            )
        object.__setattr__(self, "retry_delays", delays)
        checks.whole("delivery_limit", self.delivery_limit, low=len(delays) + 2, high=1000)
        checks.whole("max_message_bytes", self.max_message_bytes, low=1, high=LARGEST_MESSAGE)
        checks.whole("window", self.window, low=1, high=1_000_000)
        checks.whole("window_bytes", self.window_bytes, low=65_536)
        if self.window_bytes < self.max_message_bytes:
            raise ConfigError(
                f"window_bytes must be at least max_message_bytes, {self.max_message_bytes}, got {self.window_bytes}",
                setting="window_bytes",
                value=self.window_bytes,
                allowed=f"at least {self.max_message_bytes}",
            )
        checks.choice("when_full", self.when_full, ("raise", "block", "spill"))
        checks.number("block_timeout", self.block_timeout, above=0, high=3600)
        checks.number("confirm_timeout", self.confirm_timeout, low=1, high=3600)
        checks.whole("heartbeat", self.heartbeat, low=0, high=3600)
        checks.number("connection_timeout", self.connection_timeout, low=0.1, high=300)


def _check_exchange(name: object) -> None:
    allowed = "1 to 60 letters, digits, _, . and -, not beginning with amq."
    if not isinstance(name, str) or not _EXCHANGE.fullmatch(name) or name.startswith("amq."):
        raise ConfigError(
            f"amqp_exchange must be {allowed}, got {name!r:.80}", setting="amqp_exchange", value=name, allowed=allowed
        )
