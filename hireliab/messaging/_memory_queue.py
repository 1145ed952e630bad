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
    """One message in one queue; `attempt` is changed only by the handler thread that holds it."""

    __slots__ = ("attempt", "body", "envelope")

    def __init__(self, envelope: Message, body: bytes) -> None:
        self.envelope = envelope
        self.body = body
        self.attempt = 0


class SubscriptionQueue:
    """The messages of one subscription or group; every field is guarded by the bus's lock."""

    def __init__(self, pattern: str, group: str | None, lock: threading.Lock) -> None:
        self.pattern = pattern
        self.group = group
        self.changed = threading.Condition(lock)  # handler threads wait here
        self.ready: deque[Delivery] = deque()
        self.delayed: list[tuple[float, int, Delivery]] = []  # a heap by due time, then by number
        self.in_flight = 0
        self.members: list[Member] = []
        self.accepted = 0
        self.acked = 0
        self.dead_lettered = 0
        self.unfinished = 0
        self.failures = 0

    def held_locked(self) -> int:
        return len(self.ready) + len(self.delayed) + self.in_flight

    def next_due_locked(self) -> float | None:
        return self.delayed[0][0] if self.delayed else None

    def promote_due_locked(self, now: float) -> None:
        while self.delayed and self.delayed[0][0] <= now:
            self.ready.append(heapq.heappop(self.delayed)[2])

    def leave_unfinished_locked(self) -> None:
        self.unfinished += len(self.ready) + len(self.delayed)
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
        )
