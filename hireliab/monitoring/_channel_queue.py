"""The messages that wait for one channel: bounded, most important first. Not thread-safe."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.monitoring.alert_groups import Group


class Ticket(Protocol):
    """What the spool gives for a row."""

    def wait(self, timeout: float) -> bool:
        """Whether it is on disk; waits for that, at most `timeout` seconds."""


Sent = tuple[int, tuple[bool, int, AlertLevel] | None]


@dataclass(eq=False)
class Notice:
    """
    One message on its way.

    Attributes:
        group: The group that it tells of; None: it stands for itself.
        alert: What it says; a group's is composed anew before each attempt.
        level: How much it matters.
        queued_at: Monotonic seconds.
        expires_at: Monotonic seconds after which it is too old.
        attempts: How many have failed.
        not_before: Monotonic seconds of the next attempt.
        rows: Ids of its rows in the spool, each with its ticket.
        failed_over: Whether another channel was asked to tell it.
        waiting: Whether it is in the queue.
        sent: What the latest attempt told of: how many of the rows, and the group's state.
    """

    group: Group | None
    alert: Alert
    level: AlertLevel
    queued_at: float
    expires_at: float
    attempts: int = 0
    not_before: float = 0.0
    rows: list[tuple[str, Ticket | None]] = field(default_factory=list)
    failed_over: bool = False
    waiting: bool = False
    sent: Sent = (0, None)

    @property
    def durable(self) -> bool:
        """Whether the next start finds it in the spool."""
        return bool(self.rows) and all(ticket is None or ticket.wait(0.0) for _, ticket in self.rows)


class NoticeQueue:
    """
    Ready messages by level, oldest first, and those that wait for their next attempt.

    Args:
        size: Most messages of both kinds.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._ready: dict[AlertLevel, deque[Notice]] = {level: deque() for level in AlertLevel}  # lowest first
        self._later: list[tuple[float, int, Notice]] = []
        self._ticks = itertools.count()

    def __len__(self) -> int:
        return sum(map(len, self._ready.values())) + len(self._later)

    def __iter__(self) -> Iterator[Notice]:
        for waiting in reversed(self._ready.values()):
            yield from waiting
        yield from (notice for _, _, notice in sorted(self._later))

    @property
    def room(self) -> int:
        """How many more messages it takes without losing any."""
        return self._size - len(self)

    def put(self, notice: Notice) -> Notice | None:
        """
        Queue a message.

        Returns:
            What there is no room for: the oldest message of the lowest level, or the new one if all that wait matter
            more. CRITICAL gives way to nothing, not even to CRITICAL: the first ones tell most about a cause.
        """
        victim = None
        if len(self) >= self._size:
            victim = self._lowest()
            if victim.level > notice.level or victim.level is AlertLevel.CRITICAL:
                return notice
            self.remove(victim)
        self._place(notice, front=False)
        return victim

    def put_back(self, notice: Notice) -> None:
        """Queue a message that was taken: in front, or until its `not_before`. It had a place, and finds one again."""
        self._place(notice, front=True)

    def take(self, now: float, *, last: bool = False) -> Notice | None:
        """
        The message to send now, or None.

        Args:
            now: Monotonic seconds.
            last: There is no later: also those that wait for their next attempt.
        """
        self._mature(now, last=last)
        for waiting in reversed(self._ready.values()):
            if waiting:
                waiting[0].waiting = False
                return waiting.popleft()
        return None

    def first(self, now: float) -> Notice | None:
        """The message that `take` would return."""
        self._mature(now, last=False)
        return next((waiting[0] for waiting in reversed(self._ready.values()) if waiting), None)

    def next_at(self) -> float | None:
        """When the first of those that wait for their next attempt is ready."""
        return self._later[0][0] if self._later else None

    def lift(self, notice: Notice, level: AlertLevel) -> None:
        """Change what a queued message matters."""
        if self.remove(notice):
            notice.level = level
            notice.not_before = 0.0
            self._place(notice, front=False)
        else:
            notice.level = level

    def remove(self, notice: Notice) -> bool:
        """Take a message out; whether it was in."""
        ready = self._ready[notice.level]
        if notice in ready:
            ready.remove(notice)
        else:
            left = [entry for entry in self._later if entry[2] is not notice]
            if len(left) == len(self._later):
                return False
            self._later = left
            heapq.heapify(self._later)
        notice.waiting = False
        return True

    def clear(self) -> list[Notice]:
        """Take out everything, most important first."""
        everything = list(self)
        for waiting in self._ready.values():
            waiting.clear()
        self._later.clear()
        for notice in everything:
            notice.waiting = False
        return everything

    def _place(self, notice: Notice, *, front: bool) -> None:
        if notice.not_before:
            heapq.heappush(self._later, (notice.not_before, next(self._ticks), notice))
        elif front:
            self._ready[notice.level].appendleft(notice)
        else:
            self._ready[notice.level].append(notice)
        notice.waiting = True

    def _mature(self, now: float, *, last: bool) -> None:
        while self._later and (last or self._later[0][0] <= now):
            notice = heapq.heappop(self._later)[2]
            notice.not_before = 0.0
            self._ready[notice.level].append(notice)

    def _lowest(self) -> Notice:
        ready = next((waiting[0] for waiting in self._ready.values() if waiting), None)
        later = min(self._later, key=lambda entry: (entry[2].level, entry[1]), default=None)
        if ready is None or (later is not None and later[2].level < ready.level):
            assert later is not None
            return later[2]
        return ready
