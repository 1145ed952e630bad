"""
What a message bus is: the `MessageBus` contract, its values, topics and payloads.

Delivery is at least once: a handler may see a message again, with the same `Message.id`. Order is kept for one
publisher, one topic and one subscription with ``concurrency=1``, as long as nothing is redelivered.
"""

from __future__ import annotations

import enum
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Protocol

from hireliab.core import money
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import BusError, ConfigError, MessageDecodeError, UnconfirmedPublishError

MAX_TOPIC = 255
"""Longest topic or pattern in characters. Source: AMQP 0-9-1, a routing key is a short string."""

_WORD = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Reject(Exception):  # noqa: N818 - an instruction to the bus, not an error: handlers write `raise Reject(...)`
    """
    Raised by a handler: this message will never succeed, so it is dead-lettered now instead of being redelivered.

    Args:
        reason: Kept with the dead letter.
    """

    def __init__(self, reason: str = "rejected by the handler") -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Message:
    """
    What a handler receives. The attributes are those of CloudEvents 1.0; `source` and `id` together are unique.

    Attributes:
        id: The same at every redelivery, and when its publisher publishes it again.
        source: Who published it.
        topic: Words with dots between them, such as ``transaction.completed``; also the CloudEvents `type`.
        time: When it was published, Unix seconds.
        data: What JSON makes of the publisher's data: a Decimal arrives as text. A copy of this delivery's own.
        subject: What it is about, such as a transaction's id, or None.
        headers: Further texts, read-only.
        redelivered: Whether an earlier delivery of it may have been handled, wholly or partly.
        attempt: Which delivery to this subscription this is, from 1.
    """

    id: str
    source: str
    topic: str
    time: float
    data: Any = None
    subject: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    redelivered: bool = False
    attempt: int = 1

    @property
    def type(self) -> str:
        """The CloudEvents name of `topic`."""
        return self.topic


class PublishStatus(enum.Enum):
    """What became of a message."""

    CONFIRMED = "confirmed"
    """Every queue that wants it holds it."""
    RETURNED = "returned"
    """It was `mandatory` and no queue wants it; nobody will see it."""
    NACKED = "nacked"
    """The broker refused it."""
    UNKNOWN = "unknown"
    """No answer came: it may have been published. Publish it again under the same id."""
    BUFFERED = "buffered"
    """It is on this machine's disk and will be published later."""
    REJECTED = "rejected"
    """The bus stopped before it was sent; nobody will see it."""


class PublishReceipt:
    """
    The future of one published message; it settles exactly once.

    Attributes:
        message_id: The message's id.
        topic: The message's topic.
    """

    def __init__(self, *, message_id: str, topic: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.message_id = message_id
        self.topic = topic
        self._clock = clock
        self._settled = threading.Condition()  # guards _status and _reason
        self._status: PublishStatus | None = None
        self._reason = ""

    @property
    def status(self) -> PublishStatus | None:
        """What became of the message; None while that is open."""
        return self._status

    @property
    def reason(self) -> str:
        """Why it was not confirmed, or an empty text."""
        with self._settled:
            return self._reason

    def settle(self, status: PublishStatus, reason: str = "") -> bool:
        """For bus implementations: fix the outcome. Returns False, changing nothing, when it was fixed before."""
        with self._settled:
            if self._status is not None:
                return False
            self._reason = reason
            self._status = status
            self._settled.notify_all()
            return True

    def wait(self, timeout: float | None = None) -> PublishStatus | None:
        """Wait at most `timeout` seconds (None: without limit) for the outcome; None when it is still open."""
        with self._settled:
            self._clock.wait_for(self._settled, lambda: self._status is not None, timeout)
            return self._status

    def result(self, timeout: float | None = None) -> PublishStatus:
        """
        Wait for the outcome, and raise unless it is a good one.

        Args:
            timeout: Seconds; None waits without limit.

        Returns:
            CONFIRMED or BUFFERED.

        Raises:
            BusError: RETURNED, NACKED or REJECTED: nobody will see the message.
            UnconfirmedPublishError: UNKNOWN, or still open: it may have been published.
        """
        status = self.wait(timeout)
        if status is PublishStatus.CONFIRMED or status is PublishStatus.BUFFERED:
            return status
        what = f"message {self.message_id} on {self.topic!r}"
        why = f" ({self.reason})" if self.reason else ""
        if status is None or status is PublishStatus.UNKNOWN:
            raise UnconfirmedPublishError(
                f"{what}: not confirmed{why}, it may have been published; publish it again under the same id"
            )
        raise BusError(f"{what}: {status.value}{why}; nobody will see it")

    def __repr__(self) -> str:
        state = "open" if self._status is None else self._status.value
        return f"<PublishReceipt {self.message_id} on {self.topic!r}: {state}>"


@dataclass(frozen=True, kw_only=True)
class SubscriptionStatus:
    """
    One queue of a bus at one instant: a subscription of its own, or a group.

    Always: accepted = queued + retrying + in_flight + acked + dead_lettered + unfinished.

    Attributes:
        pattern: Which topics it takes.
        group: The group's name, or None.
        handlers: Handler threads that serve it.
        accepted: Messages that it ever took.
        queued: Waiting for a handler.
        retrying: Failed and waiting to be redelivered.
        in_flight: Being handled now.
        acked: Handled: the handler returned.
        dead_lettered: Given up, by `Reject` or after the last attempt.
        unfinished: Left over by `unsubscribe()` or `stop()`.
        failures: Times that a handler raised.
    """

    pattern: str
    group: str | None
    handlers: int
    accepted: int
    queued: int
    retrying: int
    in_flight: int
    acked: int
    dead_lettered: int
    unfinished: int
    failures: int


@dataclass(frozen=True, kw_only=True)
class BusStatus:
    """
    A bus at one instant.

    Attributes:
        name: The bus's name.
        state: "new", "running", "stopping" or "stopped".
        durable: Whether confirmed messages survive this process.
        published: Messages confirmed.
        returned: Mandatory messages that no queue wanted.
        full: Calls of publish that ended in BusFullError.
        subscriptions: Every queue, in the order of subscription.
    """

    name: str
    state: str
    durable: bool
    published: int
    returned: int
    full: int
    subscriptions: tuple[SubscriptionStatus, ...]


Handler = Callable[[Message], object]
"""Returning acknowledges; raising asks for redelivery; raising `Reject` dead-letters."""


class Subscription(Protocol):
    """What `MessageBus.subscribe` gives back."""

    @property
    def pattern(self) -> str:
        """Which topics it takes."""

    @property
    def group(self) -> str | None:
        """The group's name, or None."""

    def unsubscribe(self, timeout: float = 5.0) -> bool:
        """
        Start no further message; wait at most `timeout` seconds for the handlers that run now.

        Inside one of its own handlers it only signals. Calling it again is harmless.

        Returns:
            Whether every handler has ended.
        """


class MessageBus(Protocol):
    """
    Topics, wildcards and at-least-once delivery; in memory or over a broker.

    Any thread may call any method. Handlers run on the bus's own threads, never on the publisher's. The first use
    starts the bus; after `stop()` it cannot be used again.
    """

    def publish(
        self,
        topic: str,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        subject: str | None = None,
        message_id: str | None = None,
        mandatory: bool = False,
        timeout: float | None = 0.0,
    ) -> PublishReceipt:
        """
        Hand a message over; it does not wait for its confirmation, and never for a handler.

        Args:
            topic: Words of letters, digits, ``_`` and ``-`` with dots between them; no wildcards.
            data: Anything that JSON can say, and Decimal, which becomes text. Copied before this returns.
            headers: Further texts.
            subject: What it is about.
            message_id: The id to use, for a message that is published again; made when None.
            mandatory: Report RETURNED when no queue wants it.
            timeout: Seconds to wait for room when the bus is full; None waits without limit. A handler of this
                bus never waits: it might be waiting for itself.

        Raises:
            BusFullError: No room in time; nobody has got the message.
            BusError: The data is not JSON or is too large; nobody has got the message.
            ConfigError: The topic or a header is malformed.
            ClosedError: The bus was stopped, or belongs to the parent of this process.
        """

    def publish_sync(
        self,
        topic: str,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        subject: str | None = None,
        message_id: str | None = None,
        mandatory: bool = False,
        timeout: float | None = 30.0,
    ) -> PublishReceipt:
        """
        Publish and wait for the confirmation.

        Args:
            timeout: Seconds for room and confirmation together; None waits without limit.

        Returns:
            A receipt that is CONFIRMED or BUFFERED.

        Raises:
            UnconfirmedPublishError: No confirmation in time; it may have been published.
            BusError: Nobody will see it. As for `publish`, whose other errors are raised too.
        """

    def subscribe(
        self,
        pattern: str,
        handler: Handler,
        *,
        group: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
    ) -> Subscription:
        """
        Call `handler` with each message whose topic matches.

        Args:
            pattern: Like a topic; ``*`` stands for exactly one word, ``#`` for any number of them, also none.
            handler: A blocking callable. Returning acknowledges the message; raising has it redelivered after a
                pause, and dead-lettered after the last attempt; `Reject` dead-letters it at once. SystemExit and
                KeyboardInterrupt in a handler count as failures and end neither the thread nor the process.
            group: Subscriptions of one group share one queue: each message goes to one of them. None: a queue of
                its own.
            concurrency: Handler threads.
            prefetch: Most messages in the hands of this subscription at once; None lets the bus choose.

        Raises:
            ConfigError: A malformed argument, a coroutine function, or a group that has another pattern.
            ClosedError: The bus was stopped.
        """

    def start(self) -> None:
        """Start at a moment of your choice; otherwise the first use does. A second call changes nothing."""

    def stop(self, timeout: float = 5.0) -> None:
        """
        Refuse new messages, hand out those already queued, wait for the handlers, and end.

        What is not done after `timeout` seconds is left over: counted, and logged. It may be called again. Inside
        a handler of this bus it only signals, for a handler cannot wait for itself.
        """

    def status(self) -> BusStatus:
        """One consistent snapshot."""

    def __enter__(self) -> MessageBus:
        """Start."""

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""


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
        body = json.dumps(data, default=_decimal_as_text, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        encoded = body.encode()
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
    """A read-only copy of the headers, if they are texts; else a ConfigError."""
    if headers is None:
        return _NO_HEADERS
    if not isinstance(headers, Mapping) or not all(
        isinstance(part, str) and len(part) <= 1000 for pair in headers.items() for part in pair
    ):
        raise ConfigError(
            "bus: headers must be a mapping of texts to texts of at most 1000 characters", setting="headers"
        )
    if len(headers) > 50:
        raise ConfigError(f"bus: {len(headers)} headers, at most 50 are allowed", setting="headers")
    return MappingProxyType(dict(headers))
