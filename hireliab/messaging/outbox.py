"""
Outbox: a thread that publishes journalled events, in order and until each is confirmed.

It knows its journal by callables only. An event is marked as published after the bus confirmed it, so a crash in
between publishes it again under the same id: at least once, never lost. Nobody who writes events waits for the bus.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from hireliab.core import _kill_points
from hireliab.core._threads import join_all, start_thread
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import BusError, BusFullError, ConfigError
from hireliab.messaging._outbox_queue import OutboxEvent, OutboxQueue, Unrouted
from hireliab.messaging._outbox_watch import LOOK, OutboxWatch
from hireliab.messaging.bus import PublishStatus

__all__ = ["EventBus", "Outbox", "OutboxEvent", "OutboxStats"]

_log = logging.getLogger("hireliab.outbox")

WINDOW = 256
"""Most events that wait for their confirmation at once."""
HELD = 2000
"""Most events in memory; the others wait in the journal."""
CONFIRM_TIMEOUT = 60.0
"""Seconds without an answer after which an event is published again; not while the bus says that it is disconnected, for
then it still has the event."""
UNROUTED_KEEP = 86400.0
"""Seconds after which an event is let go that no queue wants although others are taken."""
MARKS_SETTLE = 1.0
"""Seconds for which a read of the journal may still show an event that was marked: the mark is on disk by then."""
POLL = 5.0
"""Seconds between two looks for events that nobody told about."""
FULL_PAUSE = 0.1
"""Seconds until a bus that was full is tried again."""
BACKOFF, BACKOFF_MOST = 0.5, 30.0
"""Seconds until the second try, twice as long at each further one, up to this; a random half of it is left out."""
_GOOD = (PublishStatus.CONFIRMED, PublishStatus.BUFFERED)


class EventBus(Protocol):
    """What an outbox needs of a bus: a `MessageBus`, or any object of the user's with this one method."""

    def publish(self, topic: str, data: Mapping[str, Any], /, *, message_id: str) -> object:
        """
        Hand over an event; the same event has the same id whenever it comes.

        Returns a `PublishReceipt` that settles. Anything else that it returns, None too, says that it was published;
        to be called again with the event later, raise.
        """


@dataclass(frozen=True, kw_only=True)
class OutboxStats:
    """
    An outbox at one instant.

    Attributes:
        pending: Events that are not published yet.
        oldest: Seconds since the oldest of them happened, or None.
        in_flight: Handed to the bus, without an answer yet.
        published: Confirmed since the start.
        retries: Times that an event had to be published again.
        returned: Answers that no queue wants an event.
        nacked: Answers that the bus refuses one.
        unknown: Times that no answer came.
        errors: Times that the bus raised.
        dropped: Events that were given up because too many waited.
        unrouted: Events that were given up because for a day no queue wanted them.
        late: Whether somebody was told that events are late, and not yet that they have caught up.
        last_error: What went wrong last, or an empty text.
    """

    pending: int
    oldest: float | None
    in_flight: int
    published: int
    retries: int
    returned: int
    nacked: int
    unknown: int
    errors: int
    dropped: int
    unrouted: int
    late: bool
    last_error: str

    def as_dict(self) -> dict[str, Any]:
        """For status.json."""
        return asdict(self)


class _Flight(NamedTuple):
    """An event without an answer yet; monotonic seconds."""

    event: OutboxEvent
    receipt: object
    since: float


class Outbox:
    """
    Publishes what `pending` gives, oldest first; of events with one key the next one after the one before is confirmed.
    Events on a topic that no queue wants step aside until one does, for a day at most; they may then come after later
    ones of their key.

    Guarantees: every event is published at least once, under the same id each time, and is marked only after its
    confirmation. A bus that is down, full, blocked or stopped, or that raises, costs the callers of `wake` nothing;
    it is tried again after jittered pauses. At most `HELD` events are in memory.

    Args:
        bus: A `MessageBus`, or an object with ``publish(topic, data, message_id=...)``, see `EventBus`.
        name: Part of the thread's name.
        pending: Given a seq and a number, up to that many unpublished events after that seq, in the order of seq.
        mark_published: Given seqs; need not be durable when it returns.
        backlog: How many events are not published, and when the oldest happened (Unix seconds, or None).
        drop: Given a number, forget that many of the oldest unpublished events; returns how many it forgot.
        alert: Called with level, title and message, once when events are late or refused, and once when they have
            caught up.
        keep_unrouted: Whether an event that no queue of a durable bus wants is kept as above; otherwise nobody gets it.
        late_after: Seconds that an event may wait before somebody is told.
        late_rows: The same as a number of events.
        most_rows: Most unpublished events; the oldest of more are dropped, because a full disk would stop trading.

    Thread safety: any thread may call `wake`, `watch`, `stats` and `stop`.
    """

    def __init__(
        self,
        bus: EventBus,
        *,
        name: str,
        pending: Callable[[int, int], Sequence[OutboxEvent]],
        mark_published: Callable[[Sequence[int]], None],
        backlog: Callable[[], tuple[int, float | None]],
        drop: Callable[[int], int] = lambda _: 0,
        alert: Callable[[str, str, str], object] = lambda _level, _title, _message: None,
        keep_unrouted: bool = True,
        late_after: float = 60.0,
        late_rows: int = 10_000,
        most_rows: int = 1_000_000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self._bus: Any = bus
        self._pending, self._mark_published = pending, mark_published
        self._backlog = backlog
        self._keep_unrouted = keep_unrouted
        self._clock = clock
        self._watch = OutboxWatch(
            name=name,
            backlog=backlog,
            drop=drop,
            alert=alert,
            last_error=lambda: self._last_error,
            late_after=late_after,
            late_rows=late_rows,
            most_rows=most_rows,
            clock=clock,
        )
        self._changed = threading.Condition()  # guards _thread, _woken and _deadline
        self._thread: threading.Thread | None = None
        self._woken = False
        self._deadline: float | None = None  # monotonic; set by stop()
        # From here on the relay thread's own; figures are read by anybody.
        self._queue = OutboxQueue()
        self._flights: dict[str, _Flight] = {}
        self._doubtful: dict[str, object] = {}  # receipts of events that are published again, should they settle
        self._tries: dict[str, int] = {}
        self._unrouted = Unrouted(_backoff)
        self._marks: list[int] = []
        self._marked_at: dict[int, float] = {}  # monotonic, of what was marked lately; oldest first
        self._seen = 0  # the seq up to which events were read
        self._paused_until = float("-inf")
        self._errors_in_a_row = 0
        self._mandatory: bool | None = None  # unknown until the bus is asked
        self._connected, self._asked = True, float("-inf")
        self._counts = dict.fromkeys(("published", "retries", "returned", "nacked", "unknown", "errors", "unrouted"), 0)
        self._last_error = ""

    # -- for others -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; what an earlier process left unpublished goes first."""
        with self._changed:
            if self._thread is None and self._deadline is None:
                self._thread = start_thread(self._run, name=f"hireliab.outbox.{self.name}")

    def wake(self) -> None:
        """There are new events; costs about a microsecond and never waits for the bus."""
        if self._woken:  # the relay clears it before it reads
            return
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stop(self, timeout: float = 2.0) -> bool:
        """
        Publish what can be published now, wait at most `timeout` seconds for the answers, and end.

        The rest stays in the journal for the next start. Inside the bus's `publish` it only signals.

        Returns:
            Whether the thread has ended.
        """
        with self._changed:
            if self._deadline is None:
                self._deadline = self._clock.monotonic() + timeout
            thread = self._thread
            self._woken = True
            self._changed.notify_all()
        if thread is None or thread is threading.current_thread():
            return thread is None
        return not join_all([thread], timeout=timeout + 1.0)

    def watch(self) -> None:
        """
        Look how much waits, once a second at most, and tell somebody; never raises.

        The relay does so itself, but not while it is inside a `publish` that hangs.
        """
        self._watch.look()

    def stats(self) -> OutboxStats:
        """What it did and what waits."""
        rows, oldest = self._backlog()
        return OutboxStats(
            pending=rows,
            oldest=None if oldest is None else max(0.0, self._clock.time() - oldest),
            in_flight=len(self._flights),
            late=self._watch.is_late,
            dropped=self._watch.dropped,
            last_error=self._last_error,
            **self._counts,
        )

    # -- the relay's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                pause = self._step()
            except (Exception, SystemExit):  # a failed read of the journal, or a bug, must not end the thread
                if self._deadline is not None:
                    return
                _log.exception("outbox %s: a step failed; going on in 1 s", self.name)
                pause = 1.0
            with self._changed:
                if self._deadline is not None:
                    left = self._deadline - self._clock.monotonic()
                    if left <= 0 or (pause > 0 and not self._flights):
                        return
                    pause = min(pause, left)
                self._clock.wait_for(self._changed, lambda: self._woken, pause)
                self._woken = False

    def _step(self) -> float:
        """Do what can be done; the seconds until there may be more, 0 when there is."""
        now = self._clock.monotonic()
        self._collect(now)
        more = False
        if now >= self._paused_until:
            if self._unrouted.try_again(now):
                self._mark()  # what is read now passes over those
                self._seen = 0
            self._queue.promote(now)
            more = self._fill(now)
            self._send(now)
        self._mark()
        self.watch()
        return self._pause(self._clock.monotonic(), more)

    def _collect(self, now: float) -> None:
        """Look at what is in flight."""
        for flight in list(self._flights.values()):
            status = getattr(flight.receipt, "status", None)
            if status is None and (now - flight.since < CONFIRM_TIMEOUT or not self._is_connected(now)):
                continue
            del self._flights[flight.event.event_id]
            if status is None or status is PublishStatus.UNKNOWN:
                self._doubtful[flight.event.event_id] = flight.receipt
            self._settle(flight.event, status, getattr(flight.receipt, "reason", ""), now)

    def _is_connected(self, now: float) -> bool:
        """What the bus says of itself, asked once a second; a bus that says nothing is."""
        if now - self._asked >= LOOK:
            self._asked = now
            self._connected = True
            with contextlib.suppress(Exception):
                self._connected = bool(self._bus.status().connected)
        return self._connected

    def _fill(self, now: float) -> bool:
        """Read more events; whether there may be others behind them. One that is in hand, or marked, comes up again."""
        room = HELD - self._queue.held
        if room <= 0:
            return False
        events = self._pending(self._seen, room)
        for event in events:
            self._seen = event.seq
            if now - self._marked_at.get(event.seq, float("-inf")) >= MARKS_SETTLE:
                self._queue.add(event)
        return len(events) == room

    def _send(self, now: float) -> None:
        while len(self._flights) < WINDOW and now >= self._paused_until:
            event = self._queue.take()
            if event is None:
                return
            if event.topic in self._unrouted:
                self._step_aside(event)
                continue
            before = self._doubtful.pop(event.event_id, None)
            if before is not None and getattr(before, "status", None) in _GOOD:
                self._settle(event, PublishStatus.CONFIRMED, "", now)  # the answer came late
                continue
            self._publish(event, now)

    def _publish(self, event: OutboxEvent, now: float) -> None:
        if _kill_points.ARMED:
            _kill_points.at("L16")
        try:
            receipt = self._hand_over(event)
        except BusFullError as error:
            self._failed(event, error)
            self._paused_until = now + FULL_PAUSE
            self._queue.again(event, self._paused_until)
            return
        except (BusError, ConfigError) as error:  # about this event, and not about the bus
            self._settle(event, PublishStatus.NACKED, str(error), now)
            return
        except (Exception, SystemExit) as error:
            self._failed(event, error)
            self._errors_in_a_row += 1
            self._paused_until = now + _backoff(self._errors_in_a_row)
            self._queue.again(event, self._paused_until)
            return
        if _kill_points.ARMED:
            _kill_points.at("L17")
        status = getattr(receipt, "status", PublishStatus.CONFIRMED)
        if status is None:
            self._flights[event.event_id] = _Flight(event, receipt, now)
        else:
            known = isinstance(status, PublishStatus)
            self._settle(event, status if known else PublishStatus.CONFIRMED, getattr(receipt, "reason", ""), now)

    def _hand_over(self, event: OutboxEvent) -> object:
        data = json.loads(event.body)
        if not hasattr(self._bus, "publish_sync"):
            return self._bus.publish(event.topic, data, message_id=event.event_id)
        if self._mandatory is None:
            # A bus that only reaches this process has no readers who are away.
            self._mandatory = self._keep_unrouted and bool(self._bus.status().durable)
        return self._bus.publish(
            event.topic, data, subject=event.key, message_id=event.event_id, mandatory=self._mandatory
        )

    def _failed(self, event: OutboxEvent, error: BaseException) -> None:
        self._counts["errors"] += 1
        self._counts["retries"] += 1
        first = not self._last_error or self._errors_in_a_row == 0
        self._last_error = f"event {event.event_id} on {event.topic}: {type(error).__name__}: {error}"[:500]
        if first:
            _log.warning("outbox %s: %s; trying again", self.name, self._last_error)

    def _settle(self, event: OutboxEvent, status: PublishStatus | None, reason: str, now: float) -> None:
        """An answer came, or none in time (None)."""
        if status in _GOOD:
            self._counts["published"] += 1
            self._tries.pop(event.event_id, None)
            self._errors_in_a_row = 0
            self._marks.append(event.seq)
            self._queue.done(event)
            return
        tries = self._tries[event.event_id] = self._tries.get(event.event_id, 0) + 1
        word = "unknown" if status is None else status.value
        self._counts["retries"] += 1
        self._counts[word if word in self._counts else "unknown"] += 1
        self._last_error = f"event {event.event_id} on {event.topic}: {word}{f' ({reason})' if reason else ''}"[:500]
        if status is PublishStatus.RETURNED:
            self._unrouted.add(event.topic, now)
            self._step_aside(event)
            self._watch.tell_late(
                f"{self._last_error}; subscribe a group to it, or let it go with unrouted_events='drop'"
            )
            return
        self._queue.again(event, now + _backoff(tries))
        if status is PublishStatus.NACKED:
            self._watch.tell_late(self._last_error)

    def _step_aside(self, event: OutboxEvent) -> None:
        """No queue wants it now: it stays in the journal, and those behind it go on."""
        self._tries.pop(event.event_id, None)
        self._doubtful.pop(event.event_id, None)
        if self._clock.time() - event.created >= UNROUTED_KEEP:
            self._counts["unrouted"] += 1
            self._marks.append(event.seq)
        self._queue.done(event)

    def _mark(self) -> None:
        if not self._marks:
            return
        if _kill_points.ARMED:
            _kill_points.at("L18")
        marks, self._marks = self._marks, []
        now = self._clock.monotonic()
        while self._marked_at and now - self._marked_at[first := next(iter(self._marked_at))] >= MARKS_SETTLE:
            del self._marked_at[first]
        self._marked_at.update(dict.fromkeys(marks, now))
        try:
            self._mark_published(marks)
        except Exception as error:  # closed or failed: the next start publishes them again, under the same ids
            _log.warning("outbox %s: %d published events were not marked: %s", self.name, len(marks), error)

    def _pause(self, now: float, more: bool) -> float:
        if now < self._paused_until and not self._flights:
            return min(POLL, self._paused_until - now)
        if self._queue.is_ready and len(self._flights) < WINDOW and now >= self._paused_until:
            return 0.0
        if more and self._queue.held < HELD and now >= self._paused_until:
            return 0.0
        pause = POLL
        for due in (self._queue.next_due(), self._unrouted.again_at):
            if due is not None:
                pause = min(pause, max(0.001, due - now) if due > now else MARKS_SETTLE)
        if self._flights:
            # Receipts are looked at again soon while they are young: a confirmation takes about a millisecond.
            newest = next(reversed(self._flights.values())).since
            pause = min(pause, 1.0, max(0.001, (now - newest) / 2))
        return pause


def _backoff(tries: int) -> float:
    return float(min(BACKOFF_MOST, BACKOFF * 2.0 ** min(tries - 1, 16)) * random.uniform(0.5, 1.0))
