"""
What a message bus is: the `MessageBus` contract, its values, topics and payloads.

Delivery is at least once: a handler may see a message again, with the same `Message.id`. Order is kept for one
publisher, one topic and one subscription with ``concurrency=1``, as long as nothing is redelivered; a subscription
with ``in_order=True`` keeps it then, too.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import BusError, UnconfirmedPublishError
from hireliab.messaging._bus_checks import (
    MAX_GROUP,
    MAX_HEADER_BYTES,
    MAX_SHORT,
    MAX_TOPIC,
    NO_HEADERS,
    RESERVED_HEADERS,
    check_group,
    check_headers,
    check_message_id,
    check_pattern,
    check_same_group,
    check_subscribing,
    check_topic,
    decode_data,
    encode_data,
    topic_matches,
)

__all__ = [
    "MAX_GROUP",
    "MAX_HEADER_BYTES",
    "MAX_SHORT",
    "MAX_TOPIC",
    "RESERVED_HEADERS",
    "BusStatus",
    "Handler",
    "Message",
    "MessageBus",
    "PublishReceipt",
    "PublishStatus",
    "Reject",
    "Spill",
    "Subscription",
    "SubscriptionStatus",
    "check_group",
    "check_headers",
    "check_message_id",
    "check_pattern",
    "check_same_group",
    "check_subscribing",
    "check_topic",
    "decode_data",
    "encode_data",
    "topic_matches",
]


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
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
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
    """A queue that wants it refused it, such as one that is full; others may hold it. Publish it again under the same id."""
    UNKNOWN = "unknown"
    """No answer came, so it may have been published; publish it again under the same id."""
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

    # Made for every message, so a receipt has no lock of its own until somebody waits for it. What decides is
    # dict.setdefault, which is one step for all threads. The dictionary is not the instance's own: CPython 3.11 may make
    # that one twice when two threads ask for it at once, and then frees its values twice.
    __slots__ = ("_cell", "_clock", "message_id", "topic")

    def __init__(self, *, message_id: str, topic: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.message_id = message_id
        self.topic = topic
        self._clock = clock
        self._cell: dict[str, Any] = {}  # "outcome": (status, reason), "waiting": a condition

    @property
    def status(self) -> PublishStatus | None:
        """What became of the message; None while that is open."""
        outcome: tuple[PublishStatus, str] | None = self._cell.get("outcome")
        return None if outcome is None else outcome[0]

    @property
    def reason(self) -> str:
        """Why it was not confirmed, or an empty text."""
        outcome: tuple[PublishStatus, str] | None = self._cell.get("outcome")
        return "" if outcome is None else outcome[1]

    def settle(self, status: PublishStatus, reason: str = "") -> bool:
        """For bus implementations: fix the outcome. Returns False, changing nothing, when it was fixed before."""
        outcome = (status, reason)
        if self._cell.setdefault("outcome", outcome) is not outcome:
            return False
        # A waiter that is not seen here looks at the outcome before it sleeps.
        waiting = self._cell.get("waiting")
        if waiting is not None:
            with waiting:
                waiting.notify_all()
        return True

    def wait(self, timeout: float | None = None) -> PublishStatus | None:
        """Wait at most `timeout` seconds (None: without limit) for the outcome; None when it is still open."""
        if "outcome" not in self._cell:
            waiting = self._cell.setdefault("waiting", threading.Condition())
            with waiting:
                self._clock.wait_for(waiting, lambda: "outcome" in self._cell, timeout)
        return self.status

    def result(self, timeout: float | None = None) -> PublishStatus:
        """
        Wait for the outcome, and raise unless it is a good one.

        Args:
            timeout: Seconds; None waits without limit.

        Returns:
            CONFIRMED or BUFFERED.

        Raises:
            BusError: RETURNED or REJECTED: nobody will see the message.
            UnconfirmedPublishError: NACKED, UNKNOWN, or still open: somebody may see it.
        """
        status = self.wait(timeout)
        if status is PublishStatus.CONFIRMED or status is PublishStatus.BUFFERED:
            return status
        what = f"message {self.message_id} on {self.topic!r}"
        reason = self.reason
        why = f" ({reason})" if reason else ""
        if status is PublishStatus.NACKED:
            raise UnconfirmedPublishError(
                f"{what}: nacked{why}, another queue may hold it; publish it again under the same id"
            )
        if status is None or status is PublishStatus.UNKNOWN:
            raise UnconfirmedPublishError(
                f"{what}: not confirmed{why}, it may have been published; publish it again under the same id"
            )
        raise BusError(f"{what}: {status.value}{why}; nobody will see it")

    def __repr__(self) -> str:
        status = self.status
        state = "open" if status is None else status.value
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
        ready: Whether it is fed now; False while a broker is away, or refuses it.
        generation: How often it was opened at the broker.
        redelivered: Messages that the broker marked as delivered before.
        stale: Messages whose handler ended when the connection that brought them was gone; the broker delivers
            them again. They count as unfinished.
        last_error: Why it is not ready, or was not; an empty text when there was nothing.
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
    ready: bool = True
    generation: int = 0
    redelivered: int = 0
    stale: int = 0
    last_error: str = ""


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
        connected: Whether the connection that publishes is up; always, in memory.
        blocked: Whether the broker has asked to publish nothing for now.
        in_flight: Messages taken and not settled: waiting to be sent or to be confirmed.
        in_flight_bytes: Their bytes.
        generation: How often the connection that publishes was made.
        reconnects: How often a connection, of either kind, was made again.
        nacked: Messages that the broker refused for good.
        unknown: Messages whose outcome stayed unknown.
        rejected: Messages that were not sent before the bus stopped.
        buffered: Messages given to the local store.
        republished: Sendings after a message's first.
        last_error: What the broker or the network said last, without secrets; an empty text when there was nothing.
    """

    name: str
    state: str
    durable: bool
    published: int
    returned: int
    full: int
    subscriptions: tuple[SubscriptionStatus, ...]
    connected: bool = True
    blocked: bool = False
    in_flight: int = 0
    in_flight_bytes: int = 0
    generation: int = 0
    reconnects: int = 0
    nacked: int = 0
    unknown: int = 0
    rejected: int = 0
    buffered: int = 0
    republished: int = 0
    last_error: str = ""


Handler = Callable[[Message], object]
"""Returning acknowledges; raising asks for redelivery; raising `Reject` dead-letters."""

Spill = Callable[[str, bytes, Mapping[str, str], str], bool]
"""
A local store for what a broker cannot take now: ``spill(topic, body, headers, message_id)``.

`body` is the data as JSON. True: it is on this machine's disk and will be published later under the same id.
"""


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
            UnconfirmedPublishError: No confirmation in time, or a queue refused it; it may have been published.
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
        in_order: bool = False,
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
            in_order: One message at a time, and the next when that one is done or dead: for each publisher the first
                deliveries have the order of publishing, whatever fails or breaks. Of a group one member has
                messages, the others stand by. `concurrency` and `prefetch` are 1 then.

        Raises:
            ConfigError: A malformed argument, a coroutine function, or a group that has another pattern, or is in
                order for its other members alone.
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
