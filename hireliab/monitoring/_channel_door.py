"""
The door to one alert channel: where alerts come in, and what may be asked of it, from any thread.

The threads that send are `ChannelWorker`'s; what is sent, and when, is `ChannelDesk`'s business.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hireliab.core.clock import Clock
from hireliab.monitoring._channel_aftermath import AlertStore
from hireliab.monitoring._channel_desk import ChannelDesk
from hireliab.monitoring._channel_queue import Notice, Ticket
from hireliab.monitoring._channel_status import ChannelStatus, Put, new_id
from hireliab.monitoring._channel_work import Offer
from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.monitoring.alert_channels import Channel, Rate
from hireliab.monitoring.alert_groups import Groups

HARD_DEADLINE = 30.0
"""Seconds after which a send is abandoned. Source: alerts-and-bus.md R5."""


@dataclass(eq=False)
class Flight:
    """One call of the channel that has not come back."""

    since: float
    notice: Notice | None = None
    abandoned: bool = False
    thread: threading.Thread = field(default_factory=threading.current_thread)


class ChannelDoor:
    """
    A channel's desk and thread. `offer` and `push` may be called from anywhere, also from a signal handler or a
    finaliser that interrupts them.

    Args:
        name: The channel's name.
        family: The name under which it is configured: one setting may make several channels.
        channel: Called on the worker's thread.
        threshold: The lowest level that is queued.
        size: Most messages in the queue.
        rate: What the service takes; None: what the channel's own `rate` says.
        make_groups: Makes the channel's groups.
        store: The spool, or None.
        wake_by: Tells the watchdog to look at this monotonic second at the latest.
        fail_over: Called on the worker's thread with an alert that another channel should tell.
    """

    def __init__(
        self,
        *,
        name: str,
        channel: Channel,
        threshold: AlertLevel,
        size: int,
        clock: Clock,
        family: str | None = None,
        rate: Rate | None = None,
        make_groups: Callable[[], Groups] = lambda: Groups(make_id=new_id),
        store: AlertStore | None = None,
        wake_by: Callable[[float], None] = lambda _at: None,
        fail_over: Callable[[Any, Alert], None] = lambda _worker, _alert: None,
    ) -> None:
        self.name = name
        self.family = family or name
        self._channel = channel
        known = getattr(channel, "rate", None)  # of a callable it may be anything
        self._rate = known if rate is None and isinstance(known, Rate) else rate
        self._threshold = threshold
        self._size = size
        self._clock = clock
        self._make_groups = make_groups
        self._store = store
        self._wake_by = wake_by
        self._fail_over = fail_over
        self._generation = 0  # of the thread that may send; those before were abandoned, or are a parent's
        self.reset()

    def reset(self) -> None:
        """Start anew: at construction, and in a forked child, where neither the thread nor the lock's owner is."""
        # Guards every field below. Re-entrant because a signal handler or a finaliser may call send_alert while this
        # very thread is inside; `_inside` then says so, and what it brings waits in `_interrupting`.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._inside = False
        self._interrupting: deque[Callable[[float], object]] = deque()
        self._thread: threading.Thread | None = None
        self._generation += 1
        self._news = 0  # rises when the thread should look again
        self._parked = False  # whether the thread waits for that
        self._parked_until: float | None = None  # monotonic; None: only for that
        self._closed = False  # no further offer; the thread ends when the queue is empty
        self._abandoned = False  # the thread ends after its present send
        self._ended = False
        self._flight: Flight | None = None
        self._stuck = False
        self._sends_abandoned = 0
        self._said_down = False
        self._left = (0, 0)
        self._count_refused = 0
        self._desk = ChannelDesk(
            threshold=self._threshold,
            size=self._size,
            rate=self._rate,
            groups=self._make_groups(),
            now=self._clock.monotonic(),
        )

    @property
    def channel(self) -> Channel:
        """What sends."""
        return self._channel

    @property
    def threshold(self) -> AlertLevel:
        """The lowest level that it wants."""
        return self._threshold

    @property
    def is_blocked(self) -> bool:
        """Whether nothing goes through now: it is stuck, or was said to be down."""
        return self._stuck or self._said_down

    @property
    def is_failing(self) -> bool:
        """Whether its last send failed, however short the time since."""
        return self._stuck or self._desk.failing_since is not None

    @property
    def thread(self) -> threading.Thread | None:
        """The thread that sends, once started."""
        return self._thread

    @property
    def lock(self) -> threading.RLock:
        """The lock, of which somebody may ask whether he has it."""
        return self._lock

    # -- alerts in ------------------------------------------------------------------------------------------------

    def offer(self, alert: Alert, *, force: bool = False, at: float | None = None) -> Offer:
        """
        Take an alert; `push` must follow when there is something to push.

        Two steps, so that what matters is on its way to the disk before anything can be sent and settled.

        Args:
            alert: The alert.
            force: Take it whatever its level: it stands in for another channel.
            at: The monotonic second when it was sent; None: now.
        """
        with self._lock:
            if self._closed:
                self._count_refused += 1
                return Offer(Put.STOPPED)
            if self._inside:
                return Offer(Put.QUEUED, deferred=True)
            self._inside = True
            try:
                offer = self._desk.offer(alert, self._clock.monotonic() if at is None else at, force=force)
                if self._parked and not offer.needs_push:
                    self._notify_if_due_locked()
                return offer
            finally:
                self._inside = False

    def push(self, offer: Offer, alert: Alert, ticket: Ticket | None, *, force: bool = False) -> tuple[Put, bool]:
        """
        Queue what `offer` made.

        Returns:
            What became of it, and whether the other channels should be told that this one drops alerts.
        """
        if offer.deferred:
            self._interrupting.append(functools.partial(self._admit_locked, alert, force, ticket))
            with self._lock:
                if self._ended and not self._inside:
                    self._leave_locked(self._clock.monotonic())
                self._notify_locked()
            return Put.QUEUED, False
        if offer.group is None:
            return offer.put, False
        now = self._clock.monotonic()
        with self._lock:
            was_inside, self._inside = self._inside, True
            try:
                result = self._desk.push(offer, alert.id, ticket, now)
                if self._ended or self._abandoned:
                    self._leave_locked(now)
                self._notify_locked()
            finally:
                self._inside = was_inside
        if alert.level >= AlertLevel.ERROR:
            self._wake_by(now if self.is_blocked else now + HARD_DEADLINE)
        return result

    def put(self, alert: Alert, *, force: bool = False) -> Put:
        """Offer and push an alert of our own, which nobody needs to find on the disk."""
        offer = self.offer(alert, force=force)
        return self.push(offer, alert, None, force=force)[0]

    def would_count(self, key: tuple[str, str], level: AlertLevel, now: float) -> bool:
        """Whether an alert would only be counted; takes no lock."""
        return self._desk.groups.would_count(key, level, now)

    def knows(self, alert: Alert) -> bool:
        """Whether this channel was told of this trouble, or is about to be."""
        with self._lock:
            return self._desk.knows(alert)

    def resolve(self, name: str, *, over: Alert, source: str | None) -> bool:
        """The trouble is over; whether this channel knew of it, or will look whether it did."""
        with self._lock:
            if self._closed:
                return False
            if self._inside:
                self._interrupting.append(functools.partial(self._desk.resolve, name, over=over, source=source))
                self._notify_locked()
                return True
            with self._at_desk():
                known = self._desk.resolve(name, self._clock.monotonic(), over=over, source=source)
                self._notify_locked()
                return known

    def restore(self, told: Iterable[tuple[str, AlertLevel, bool, int, Alert, float]]) -> None:
        """Take what former processes have told: fingerprint, level, keyed, count, alert, age in seconds."""
        with self._at_desk():
            now = self._clock.monotonic()
            for fingerprint, level, keyed, count, alert, age in told:
                self._desk.remember(alert)
                self._desk.groups.restore(
                    fingerprint, level=level, keyed=keyed, count=count, alert=alert, age=age, now=now
                )

    def replay(self, alert: Alert, *, age: float) -> None:
        """Queue an alert of a former process, out of the spool; once closed, it is the next start's."""
        with self._at_desk():
            if self._closed:
                return
            self._desk.replay(alert, self._clock.monotonic(), age=age)
            self._notify_locked()

    def status(self) -> ChannelStatus:
        """One consistent snapshot."""
        with self._at_desk():
            desk, count, now = self._desk, self._desk.count, self._clock.monotonic()
            oldest = min((notice.queued_at for notice in desk.queue), default=now)
            return ChannelStatus(
                name=self.name,
                state=self._state_locked(now),
                threshold=self._threshold,
                accepted=count["accepted"],
                queued=len(desk.queue) + desk.pushing,
                held=len(desk.held),
                in_flight=len(desk.in_flight),
                spooled=desk.spooled,
                delivered=count["delivered"],
                failed=count["failed"],
                dropped=count["dropped"],
                deduplicated=count["deduplicated"],
                below_threshold=count["below_threshold"],
                refused=self._count_refused,
                groups=len(desk.groups),
                late=count["late"],
                retries=count["retries"],
                abandoned=self._sends_abandoned,
                busy_for=0.0 if self._flight is None else now - self._flight.since,
                oldest=now - oldest,
                last_error=desk.last_error,
            )

    # -- helpers ------------------------------------------------------------------------------------------------

    def _has_news_locked(self, seen: int) -> bool:
        return self._news != seen or bool(self._interrupting)

    def _notify_locked(self) -> None:
        self._news += 1
        if self._parked:  # else it looks before it waits; a wake-up in vain would take the caller's turn
            self._changed.notify_all()

    def _notify_if_due_locked(self) -> None:
        """Wake the thread when a group is due before it wakes by itself."""
        due = self._desk.groups.next_due()
        if due is not None and (self._parked_until is None or due < self._parked_until):
            self._notify_locked()

    @contextlib.contextmanager
    def _at_desk(self) -> Iterator[None]:
        """Hold the lock; what a signal handler or a finaliser brings meanwhile has to wait."""
        with self._lock:
            was_inside, self._inside = self._inside, True
            try:
                yield
            finally:
                self._inside = was_inside

    def _admit_interrupting_locked(self, now: float) -> None:
        while self._interrupting:
            self._interrupting.popleft()(now)

    def _admit_locked(self, alert: Alert, force: bool, ticket: Ticket | None, now: float) -> None:
        offer = self._desk.offer(alert, now, force=force)
        if offer.group is not None:
            self._desk.push(offer, alert.id, ticket, now)

    def _leave_locked(self, now: float) -> None:
        self._admit_interrupting_locked(now)
        kept, lost = self._desk.leave_all(now)
        self._left = (kept, self._left[1] + lost)

    def _state_locked(self, now: float) -> str:
        desk = self._desk
        if self._closed and (self._ended or self._thread is None):
            return "stopped"
        if self._thread is None:
            return "not_started"
        if self._stuck or (self._flight is not None and now - self._flight.since > HARD_DEADLINE):
            return "stuck"
        if desk.misconfigured:
            return "misconfigured"
        if desk.failing_since is None:
            return "ready"
        if desk.is_down(now):
            return "down"
        return "paused" if desk.paused_by_service else "degraded"
