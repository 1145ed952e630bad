"""What one subscription or group of an in-memory bus holds: state without threads."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from typing import Protocol

from hireliab.messaging.bus import Message, SubscriptionStatus


class Member(Protocol):
    """A subscription, as its queue sees it."""

    alive: int
    threads: list[threading.Thread]


class Delivery:
    """One message in one queue; `attempt` counts how often it was taken, and is guarded by the bus's lock."""

    __slots__ = ("attempt", "body", "envelope")

    def __init__(self, envelope: Message, body: bytes) -> None:
        self.envelope = envelope
        self.body = body
        self.attempt = 0


class SubscriptionQueue:
    """The messages of one subscription or group; every field is guarded by the bus's lock."""

    def __init__(self, pattern: str, group: str | None, *, in_order: bool, lock: threading.RLock) -> None:
        self.pattern = pattern
        self.group = group
        self.in_order = in_order  # the first member alone takes, and nothing while it has a message
        self.changed = threading.Condition(lock)  # handler threads wait here
        self.ready: deque[Delivery] = deque()
        self.delayed: list[tuple[float, int, Delivery]] = []  # a heap by due time, then by number
        self.in_flight = 0
        self.held_bytes = 0
        self.members: list[Member] = []
        self.accepted = 0
        self.acked = 0
        self.dead_lettered = 0
        self.unfinished = 0
        self.failures = 0
        self.redelivered = 0

    def held_locked(self) -> int:
        return len(self.ready) + len(self.delayed) + self.in_flight

    def accept_locked(self, delivery: Delivery) -> None:
        self.accepted += 1
        self.held_bytes += len(delivery.body)
        self.ready.append(delivery)
        # In order, one thread may take it, and which one is not known here.
        self.changed.notify(len(self.members) if self.in_order else 1)

    def may_take_locked(self, member: Member) -> bool:
        """Whether a message is there for a thread of this member now."""
        if not self.in_order:
            return bool(self.ready)
        return bool(self.ready) and not self.in_flight and not self.delayed and member is self.members[0]

    def take_locked(self) -> Delivery:
        delivery = self.ready.popleft()
        delivery.attempt += 1
        self.redelivered += delivery.attempt > 1
        self.in_flight += 1
        return delivery

    def leave_locked(self, delivery: Delivery) -> None:
        """What was in hand is held no more."""
        self.in_flight -= 1
        self.held_bytes -= len(delivery.body)
        if self.in_order:
            self.changed.notify_all()  # the member that comes next may have waited for this one's last message

    def delay_locked(self, due: float, number: int, delivery: Delivery) -> None:
        """What was in hand waits for another attempt."""
        self.in_flight -= 1
        heapq.heappush(self.delayed, (due, number, delivery))
        self.changed.notify_all()  # a thread that waits without limit must now wait until `due`

    def next_due_locked(self) -> float | None:
        return self.delayed[0][0] if self.delayed else None

    def promote_due_locked(self, now: float) -> None:
        while self.delayed and self.delayed[0][0] <= now:
            delivery = heapq.heappop(self.delayed)[2]
            if self.in_order:
                self.ready.appendleft(delivery)
            else:
                self.ready.append(delivery)

    def leave_unfinished_locked(self) -> None:
        self.unfinished += len(self.ready) + len(self.delayed)
        left = [*self.ready, *(delivery for _, _, delivery in self.delayed)]
        self.held_bytes -= sum(len(delivery.body) for delivery in left)
        self.ready.clear()
        self.delayed.clear()

    def status_locked(self) -> SubscriptionStatus:
        return SubscriptionStatus(
            pattern=self.pattern,
            group=self.group,
            handlers=sum(member.alive for member in self.members),
            accepted=self.accepted,
            queued=len(self.ready),
            retrying=len(self.delayed),
            in_flight=self.in_flight,
            acked=self.acked,
            dead_lettered=self.dead_lettered,
            unfinished=self.unfinished,
            failures=self.failures,
            redelivered=self.redelivered,
        )
