"""A message on its way out, and the bounded window of such messages that publishers and the I/O thread share."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from hireliab.core.clock import Clock
from hireliab.errors import BusFullError, ClosedError
from hireliab.messaging.bus import PublishReceipt, PublishStatus

BATCH = 256
"""Most messages that are written at once, so that what comes in is looked at in between."""
BATCH_BYTES = 262_144
"""Bytes after which no further message is written at once."""


class Outgoing:
    """
    A message between `publish` and its settlement. Its publisher makes it, then the I/O thread alone changes it.

    Attributes:
        receipt: Its future.
        wire: All its frames.
        headers: The user's, for the local store.
        mandatory: Whether the broker is asked to return it.
        done: Called, on the I/O thread, with its outcome; None for the users' messages.
        sendings: How often it was written to a connection.
        nacks: How often the broker refused it.
        strikes: How often it was open when a connection ended for a reason that may have been it.
        first_sent: Monotonic seconds of its first sending,
        last_sent: and of its latest.
    """

    __slots__ = (
        "done",
        "first_sent",
        "headers",
        "last_sent",
        "mandatory",
        "nacks",
        "receipt",
        "sendings",
        "strikes",
        "wire",
    )

    def __init__(
        self,
        receipt: PublishReceipt,
        wire: bytes,
        headers: Mapping[str, str] | None,
        mandatory: bool,
        done: Callable[[PublishStatus, str], None] | None = None,
    ) -> None:
        self.receipt = receipt
        self.wire = wire
        self.headers = headers
        self.mandatory = mandatory
        self.done = done
        self.sendings = 0
        self.nacks = 0
        self.strikes = 0
        self.first_sent = 0.0
        self.last_sent = 0.0


class Window:
    """
    What was taken from publishers and is not settled, bounded in messages and bytes.

    Args:
        name: The bus's, for errors.
        most: Messages.
        most_bytes: Bytes of their frames. A message alone may have more.
    """

    def __init__(self, *, name: str, most: int, most_bytes: int, clock: Clock) -> None:
        self._name = name
        self._most = most
        self._most_bytes = most_bytes
        self._clock = clock
        # Guards every field below. Re-entrant, because a signal handler or a finaliser that publishes may run between any
        # two steps of a publisher that has it.
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)  # publishers wait here
        self._empty = threading.Condition(self._lock)  # whoever stops the bus waits here
        self._queue: deque[Outgoing] = deque()  # not written to the present connection
        # A publisher may be interrupted (Ctrl-C) between any two steps, the I/O thread is not: what a publisher adds is
        # counted by its one step of queueing, and the bytes of an empty queue are none.
        self._queued_bytes = 0
        self._sent = 0  # written and not settled
        self._sent_bytes = 0
        self._waiting = 0  # publishers in _room
        self._closed = False
        self._sending = False  # there is a connection, and the broker takes messages
        self._awake = False  # the I/O thread will call take() without being woken
        self._tally: Counter[str] = Counter()

    # -- for publishers -------------------------------------------------------------------------------------------

    def offer(self, message: Outgoing, timeout: float | None) -> bool:
        """
        Take a message.

        Args:
            message: The message.
            timeout: Seconds to wait for room; None waits without limit.

        Returns:
            Whether the I/O thread must be woken.

        Raises:
            BusFullError: No room in time.
            ClosedError: Closed, before or while it waited.
        """
        size = len(message.wire)
        with self._lock:
            if self._closed:
                raise self._is_closed()
            count = len(self._queue) + self._sent
            if count >= self._most or (count and self._queued_bytes + self._sent_bytes + size > self._most_bytes):
                self._wait_for_room_locked(size, timeout, message.receipt.topic)
            self._queued_bytes += size
            return self._put_locked(message)

    def offer_own(self, message: Outgoing) -> bool:
        """Take a message of the bus itself, also when full or closed; returns whether to wake the I/O thread."""
        with self._lock:
            self._queued_bytes += len(message.wire)
            return self._put_locked(message)

    def _put_locked(self, message: Outgoing) -> bool:
        self._queue.append(message)
        if self._awake or not self._sending:
            return False
        self._awake = True
        return True

    def _wait_for_room_locked(self, size: int, timeout: float | None, topic: str) -> None:
        def room() -> bool:
            count = self._count_locked()
            return self._closed or not count or (count < self._most and self._bytes_locked() + size <= self._most_bytes)

        self._waiting += 1
        try:
            found = self._clock.wait_for(self._room, room, timeout)
        finally:
            self._waiting -= 1
        if self._closed:
            raise self._is_closed()
        if not found:
            self._tally["full"] += 1
            raise BusFullError(
                f"bus {self._name!r}: {self._count_locked()} messages of {self._bytes_locked()} bytes wait to be "
                f"confirmed, {topic!r} was not published; publish again later, or look at status().last_error"
            )

    def _count_locked(self) -> int:
        return len(self._queue) + self._sent

    def _bytes_locked(self) -> int:
        return self._queued_bytes + self._sent_bytes

    def _is_closed(self) -> ClosedError:
        return ClosedError(f"bus {self._name!r}: stopped; make a new one")

    def close(self) -> None:
        """Refuse every further message of users; those that wait for room, too."""
        with self._lock:
            self._closed = True
            self._room.notify_all()

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until everything is settled; whether it is."""
        with self._lock:
            return self._clock.wait_for(self._empty, lambda: not self._count_locked(), timeout)

    # -- for the I/O thread ---------------------------------------------------------------------------------------

    def allow(self, sending: bool) -> bool:
        """Whether there is somewhere to send now; returns whether to call `take` now."""
        with self._lock:
            self._sending = sending
            self._awake = sending and bool(self._queue)
            return self._awake

    def take(self) -> list[Outgoing]:
        """The next messages to write; none: they have run out, and the next `offer` asks to be woken."""
        with self._lock:
            queue = self._queue
            if not queue or not self._sending:
                self._awake = False
                return []
            if len(queue) <= BATCH and self._queued_bytes <= BATCH_BYTES:
                batch = list(queue)
                queue.clear()
            else:
                batch, size = [], 0
                while queue and len(batch) < BATCH and size < BATCH_BYTES:
                    message = queue.popleft()
                    batch.append(message)
                    size += len(message.wire)
            self._move_locked(batch)
            return batch

    def _move_locked(self, batch: list[Outgoing]) -> None:
        """These are queued no longer, and not settled."""
        size = sum([len(message.wire) for message in batch])
        self._sent += len(batch)
        self._sent_bytes += size
        self._queued_bytes = self._queued_bytes - size if self._queue else 0

    def give_back(self, messages: Iterable[Outgoing], *, first: bool) -> bool:
        """Queue messages again, in their order, before or behind all others; whether to call `take` now."""
        batch = list(messages)
        size = sum([len(message.wire) for message in batch])
        with self._lock:
            self._sent -= len(batch)
            self._sent_bytes -= size
            self._queued_bytes += size
            if first:
                self._queue.extendleft(reversed(batch))
            else:
                self._queue.extend(batch)
            if self._awake or not self._sending or not self._queue:
                return False
            self._awake = True
            return True

    def sent_before(self) -> list[Outgoing]:
        """Those queued that an earlier connection has seen; they stand first."""
        found = []
        with self._lock:
            for message in self._queue:
                if not message.sendings:
                    break
                found.append(message)
        return found

    def drain(self) -> list[Outgoing]:
        """Take out everything that is queued."""
        with self._lock:
            messages = list(self._queue)
            self._queue.clear()
            self._move_locked(messages)
            return messages

    def release(self, messages: list[Outgoing], tally: Mapping[str, int]) -> None:
        """Messages that were taken are settled: make room, and count what became of them."""
        size = sum([len(message.wire) for message in messages])
        with self._lock:
            self._sent -= len(messages)
            self._sent_bytes -= size
            count = self._count_locked()
            self._tally.update(tally)
            # Woken for each single place, a publisher and the I/O thread would take turns at every message.
            if self._waiting and (count <= self._most * 3 // 4 or not count):
                self._room.notify_all()
            if not count:
                self._empty.notify_all()

    def count(self, tally: Mapping[str, int]) -> None:
        """Count what happened without settling a message."""
        with self._lock:
            self._tally.update(tally)

    # -- for anybody ----------------------------------------------------------------------------------------------

    def picture(self) -> tuple[int, int, Counter[str]]:
        """Messages, their bytes and all counts, at one instant."""
        with self._lock:
            return self._count_locked(), self._bytes_locked(), Counter(self._tally)
