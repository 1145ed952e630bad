"""What one subscription of a RabbitMQ bus holds: state without threads."""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict, deque
from typing import Any, Protocol

from hireliab.messaging.bus import Handler, Message, SubscriptionStatus
from hireliab.messaging.rabbitmq._backoff import Backoff
from hireliab.messaging.rabbitmq._failures import Failure
from hireliab.messaging.rabbitmq._link import Link
from hireliab.messaging.rabbitmq.topology import Topology

_MOST_REMEMBERED = 10_000


class Lane:
    """
    One channel that feeds a subscription. What it brought can be answered on it only, and only while it is `open`.

    The consumer's lock guards `open`; the rest belongs to the connection's thread.
    """

    def __init__(self, link: Link, topology: Topology) -> None:
        self.link = link
        self.topology = topology
        self.channel: Any = None
        self.consume: Any = None  # begins a consumer of its queue
        self.number = 0
        self.tag = ""
        self.open = True
        self.ends_by_broker = False  # whether it must be the broker that closes it
        self.careful = False  # fed one message for each handler, until what was delivered before is through
        self.began = 0.0
        self.lasted_from: float | None = None


class Delivery:
    """A message in the hands of a subscription; `failures` and `message` belong to the thread that handles it."""

    __slots__ = ("body", "failures", "lane", "message", "number", "properties", "redelivered")

    def __init__(self, lane: Lane, number: int, redelivered: bool, properties: bytes, body: bytes) -> None:
        self.lane = lane
        self.number = number
        self.redelivered = redelivered
        self.properties = properties
        self.body = body
        self.failures = 0
        self.message: Message | None = None


class Owner(Protocol):
    """Who made a subscription."""

    def unsubscribe(self, subscription: RabbitMQSubscription, timeout: float) -> bool:
        """See `Subscription.unsubscribe`."""


class RabbitMQSubscription:
    """See `hireliab.messaging.bus.Subscription`; the consumer's lock guards all that changes."""

    def __init__(
        self,
        owner: Owner,
        pattern: str,
        handler: Handler,
        *,
        group: str | None,
        concurrency: int,
        prefetch: int,
        in_order: bool,
        lock: threading.RLock,
        backoff: Backoff,
    ) -> None:
        self.pattern = pattern
        self.group = group
        self.handler = handler
        self.concurrency = concurrency
        self.prefetch = prefetch
        self.in_order = in_order
        self.changed = threading.Condition(lock)  # its handler threads wait here
        self.ready: deque[Delivery] = deque()
        self.delayed: list[tuple[float, int, Delivery]] = []  # a heap by due time, then by number
        self.lane: Lane | None = None
        self.is_ready = False
        self.failure: Failure | None = None  # why it is not ready; None also while it is opened for the first time
        self.last_error = ""
        self.backoff = backoff  # the connection's thread's own
        self.closed = False
        self.alive = concurrency  # handler threads that have not ended
        self.threads: list[threading.Thread] = []
        self.failed: OrderedDict[tuple[str, str], int] = OrderedDict()  # failures of messages that may come again
        self.generation = 0
        self.accepted = 0
        self.in_flight = 0
        self.acked = 0
        self.dead_lettered = 0
        self.unfinished = 0
        self.failures = 0
        self.redelivered = 0
        self.stale = 0
        self._owner = owner

    def unsubscribe(self, timeout: float = 5.0) -> bool:
        """See `Subscription.unsubscribe`; what it holds and has not begun goes back to its group's queue."""
        return self._owner.unsubscribe(self, timeout)

    def promote_due_locked(self, now: float) -> None:
        """Make messages ready whose pause is over."""
        while self.delayed and self.delayed[0][0] <= now:
            self.ready.append(heapq.heappop(self.delayed)[2])

    def give_up_waiting_locked(self, *, delayed_only: bool = False) -> list[Delivery]:
        """Take out what no handler has begun; it counts as unfinished."""
        left = [delivery for _, _, delivery in self.delayed]
        self.delayed.clear()
        if not delayed_only:
            left += self.ready
            self.ready.clear()
        self.unfinished += len(left)
        return left

    def remember_failure_locked(self, key: tuple[str, str], failures: int) -> None:
        """Keep the count for when the broker delivers the message again."""
        self.failed[key] = failures
        self.failed.move_to_end(key)
        if len(self.failed) > _MOST_REMEMBERED:
            self.failed.popitem(last=False)

    def status_locked(self) -> SubscriptionStatus:
        """One consistent picture."""
        return SubscriptionStatus(
            pattern=self.pattern,
            group=self.group,
            handlers=self.alive,
            accepted=self.accepted,
            queued=len(self.ready),
            retrying=len(self.delayed),
            in_flight=self.in_flight,
            acked=self.acked,
            dead_lettered=self.dead_lettered,
            unfinished=self.unfinished,
            failures=self.failures,
            ready=self.is_ready,
            generation=self.generation,
            redelivered=self.redelivered,
            stale=self.stale,
            last_error=self.last_error,
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else "ready" if self.is_ready else "not ready"
        return f"<Subscription to {self.pattern!r}, group {self.group!r}: {state}>"
