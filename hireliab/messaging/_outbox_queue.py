"""Which journalled events may be published now: oldest first, and of each key one at a time. State without threads."""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """
    Something that happened, written down together with it.

    Attributes:
        event_id: The same whenever it is published.
        key: What it is about; events of one key are published one after the other.
        topic: Where it is published.
        body: Its data, as the text of a JSON object.
        created: When it happened, Unix seconds.
        seq: Its place among all events; 0 before it is stored.
    """

    event_id: str
    key: str
    topic: str
    body: str
    created: float
    seq: int = 0


class OutboxQueue:
    """
    Events that were read from the store and are not published yet; used by one thread.

    An event is ready, late (it failed and has a time of its own), out (somebody took it), or in the line of its key
    behind one that is.
    """

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._lines: dict[str, deque[OutboxEvent]] = {}
        self._ready: list[tuple[int, OutboxEvent]] = []
        self._late: list[tuple[float, int, OutboxEvent]] = []

    @property
    def held(self) -> int:
        """How many there are."""
        return len(self._held)

    def add(self, event: OutboxEvent) -> None:
        """One that was read; one that is here already stays where it is."""
        if event.seq in self._held:
            return
        self._held.add(event.seq)
        line = self._lines.get(event.key)
        if line is None:
            self._lines[event.key] = deque()
            heapq.heappush(self._ready, (event.seq, event))
        elif line and event.seq < line[-1].seq:  # it stepped aside, and comes back before those that it let pass
            insort(line, event, key=attrgetter("seq"))
        else:
            line.append(event)

    def take(self) -> OutboxEvent | None:
        """The oldest that is ready; it is out until `done` or `again`."""
        return heapq.heappop(self._ready)[1] if self._ready else None

    def done(self, event: OutboxEvent) -> None:
        """It is published: the next of its key is ready."""
        self._held.remove(event.seq)
        line = self._lines[event.key]
        if line:
            following = line.popleft()
            heapq.heappush(self._ready, (following.seq, following))
        else:
            del self._lines[event.key]

    def again(self, event: OutboxEvent, at: float) -> None:
        """It failed, and is ready again at this monotonic second; those of its key wait behind it."""
        heapq.heappush(self._late, (at, event.seq, event))

    def promote(self, now: float) -> None:
        """Make ready what is due."""
        while self._late and self._late[0][0] <= now:
            _, seq, event = heapq.heappop(self._late)
            heapq.heappush(self._ready, (seq, event))

    @property
    def is_ready(self) -> bool:
        """Whether `take` gives one."""
        return bool(self._ready)

    def next_due(self) -> float | None:
        """When the first late one is ready again."""
        return self._late[0][0] if self._late else None


class Unrouted:
    """
    Topics that no queue wants at the moment; used by one thread.

    Their events step aside, so that they hold up no others, and stay in the store; now and then all are tried again from
    the oldest on, so that whoever subscribes gets them in order.

    Args:
        pause: Seconds until the given try, counted from 1.
    """

    def __init__(self, pause: Callable[[int], float]) -> None:
        self._pause = pause
        self._topics: set[str] = set()
        self._tries = 0
        self.again_at: float | None = None

    def add(self, topic: str, now: float) -> None:
        """No queue wants it."""
        self._topics.add(topic)
        if self.again_at is None:
            self._tries += 1
            self.again_at = now + self._pause(self._tries)

    def __contains__(self, topic: str) -> bool:
        return topic in self._topics

    def try_again(self, now: float) -> bool:
        """Whether it is time; then every topic has another chance."""
        if self.again_at is None or now < self.again_at:
            return False
        self.again_at = None
        self._topics.clear()
        return True
