"""One alert channel: its bounded queue, most important first, and the thread that empties it."""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
import traceback
import uuid
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from hireliab.core.clock import Clock
from hireliab.monitoring._freeze import clean
from hireliab.monitoring.alert import Alert, AlertLevel, AlertSource, make_alert
from hireliab.monitoring.alert_channels import Channel

_log = logging.getLogger("hireliab.alerts")

REPORT_EVERY = 60.0
"""Seconds between two reports of dropped alerts. Source: Sentry's client reports, alerts-and-bus.md R10."""

STUCK_AFTER = 30.0
"""Seconds in one send after which `status()` calls a channel stuck. Source: alerts-and-bus.md R5."""


class Put(enum.Enum):
    """What became of an alert that was offered to a channel."""

    QUEUED = "queued"
    BELOW_THRESHOLD = "below_threshold"
    DROPPED = "dropped"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class ChannelStatus:
    """
    One channel at one instant.

    Always: accepted = queued + in_flight + delivered + failed + dropped.

    Attributes:
        name: The channel's name.
        state: "not_started", "ready", "degraded" (its last send failed), "stuck" (more than 30 s in one send) or
            "stopped".
        threshold: The lowest level that it wants.
        accepted: Alerts of a level that it wants, offered before it was stopped.
        queued: Waiting.
        in_flight: 1 while an alert is being sent.
        delivered: Sent without an error.
        failed: Their send raised.
        dropped: Refused or evicted by a full queue, or left over by `stop()`.
        below_threshold: Alerts that it did not want; not accepted.
        refused: Alerts offered after it was stopped; not accepted.
        busy_for: Seconds that the present send has taken, or 0.
        last_error: The last failure, redacted, or None.
    """

    name: str
    state: str
    threshold: AlertLevel
    accepted: int
    queued: int
    in_flight: int
    delivered: int
    failed: int
    dropped: int
    below_threshold: int
    refused: int
    busy_for: float
    last_error: str | None


class ChannelWorker:
    """
    A channel's queue and thread. `put` may be called from anywhere, also from a signal handler or a finaliser.

    Args:
        name: The channel's name.
        channel: Called on the worker's thread.
        threshold: The lowest level that is queued.
        size: Most alerts in the queue.
    """

    def __init__(self, *, name: str, channel: Channel, threshold: AlertLevel, size: int, clock: Clock) -> None:
        self.name = name
        self._channel = channel
        self._threshold = threshold
        self._size = size
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Start anew: at construction, and in a forked child, where neither the thread nor the lock's owner is."""
        # Guards every field below. Re-entrant because a signal handler or a finaliser may call send_alert or stop
        # while this very thread is inside put(); counts are changed in an order that then leaves a queue one alert
        # too long, or its last alert unsent by stop(), and nothing worse.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._levels: dict[AlertLevel, deque[Alert]] = {level: deque() for level in AlertLevel}  # lowest first
        self._queued = 0
        self._closed = False  # no further put; the thread ends when the queue is empty
        self._abandoned = False  # the thread ends after its present send
        self._ended = False
        self._busy_since: float | None = None
        self._in_flight = 0
        self._failing = False
        self._last_error: str | None = None
        self._count: Counter[str] = Counter()
        self._unreported: Counter[AlertLevel] = Counter()  # dropped since the last report
        self._report_at = self._clock.monotonic()  # no report before
        self._announced_until = self._report_at

    @property
    def thread(self) -> threading.Thread | None:
        """The worker's thread, once started."""
        return self._thread

    def put(self, alert: Alert) -> tuple[Put, bool]:
        """
        Queue an alert, dropping the oldest one of the lowest level when there is no room.

        A CRITICAL alert is dropped for nothing; when the queue holds nothing else, the new one is refused, for the
        first ones tell most about a cause.

        Returns:
            What became of it, and whether the other channels should be told that this one drops alerts.
        """
        with self._lock:
            if alert.level < self._threshold:
                self._count["below_threshold"] += 1
                return Put.BELOW_THRESHOLD, False
            if self._closed:
                self._count["refused"] += 1
                return Put.STOPPED, False
            self._count["accepted"] += 1
            result, announce = Put.QUEUED, False
            if self._queued >= self._size:
                lowest = self._lowest_locked()
                if lowest > alert.level or lowest is AlertLevel.CRITICAL:
                    self._dropped_locked(alert.level)
                    result = Put.DROPPED
                else:
                    self._queued -= 1
                    self._levels[lowest].popleft()
                    self._dropped_locked(lowest)
                now = self._clock.monotonic()
                announce = now >= self._announced_until
                if announce:
                    self._announced_until = now + REPORT_EVERY
            if result is Put.QUEUED:
                self._levels[alert.level].append(alert)
                self._queued += 1
                self._changed.notify_all()
            return result, announce

    def start(self) -> None:
        """Start the thread; a second call, or one after `close`, changes nothing."""
        with self._lock:
            if self._thread is not None or self._closed:
                return
            thread = threading.Thread(target=self._run, name=f"hireliab.alerts.{self.name}", daemon=True)
            self._thread = thread  # from now on stop() in another thread waits for its end
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._thread = None
            raise

    def close(self) -> None:
        """Refuse further alerts; the thread ends when the queue is empty."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def wait_ended(self, timeout: float | None) -> bool:
        """Wait for the thread's end; True at once when it never started."""
        with self._lock:
            return self._clock.wait_for(self._changed, lambda: self._ended or self._thread is None, timeout)

    def abandon(self) -> int:
        """Drop what is queued, and let the thread end after its present send; how many were dropped."""
        with self._lock:
            self._closed = self._abandoned = True
            left = self._queued
            self._count["dropped"] += left
            self._queued = 0
            for waiting in self._levels.values():
                waiting.clear()
            self._changed.notify_all()
            return left

    def status(self) -> ChannelStatus:
        """One consistent snapshot."""
        with self._lock:
            busy_for = 0.0 if self._busy_since is None else self._clock.monotonic() - self._busy_since
            if self._closed and (self._ended or self._thread is None):
                state = "stopped"
            elif self._thread is None:
                state = "not_started"
            elif busy_for > STUCK_AFTER:
                state = "stuck"
            else:
                state = "degraded" if self._failing else "ready"
            return ChannelStatus(
                name=self.name,
                state=state,
                threshold=self._threshold,
                accepted=self._count["accepted"],
                queued=self._queued,
                in_flight=self._in_flight,
                delivered=self._count["delivered"],
                failed=self._count["failed"],
                dropped=self._count["dropped"],
                below_threshold=self._count["below_threshold"],
                refused=self._count["refused"],
                busy_for=busy_for,
                last_error=self._last_error,
            )

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (work := self._take()) is not None:
                if isinstance(work, Alert):
                    self._send(work)
                else:
                    self._report(work)
        finally:
            with self._lock:
                self._ended = True
                self._changed.notify_all()

    def _take(self) -> Alert | Counter[AlertLevel] | None:
        """The next alert, or the drops to report; waits for one, and returns None when the thread should end."""
        with self._lock:
            while not self._abandoned:
                now = self._clock.monotonic()
                last_words = self._closed and not self._queued
                if self._unreported and (now >= self._report_at or last_words):
                    self._report_at = now + REPORT_EVERY
                    drops, self._unreported = self._unreported, Counter()
                    self._busy_since = now
                    return drops
                if self._queued:
                    self._busy_since = now
                    self._in_flight = 1
                    self._queued -= 1
                    highest = max(level for level, waiting in self._levels.items() if waiting)
                    return self._levels[highest].popleft()
                if self._closed:
                    return None
                self._clock.wait_for(
                    self._changed,
                    lambda: self._queued > 0 or self._closed or self._abandoned,
                    self._report_at - now if self._unreported else None,
                )
            return None

    def _send(self, alert: Alert) -> None:
        error = self._call(alert)
        with self._lock:
            self._busy_since = None
            self._in_flight = 0
            self._count["delivered" if error is None else "failed"] += 1
        if error is not None:
            what = (alert.id, alert.level.name, alert.source, alert.title)
            self._log("could not send alert %s (%s, %s: %s): %s", *what, error)

    def _report(self, drops: Mapping[AlertLevel, int]) -> None:
        error = self._call(drop_report(self.name, drops, time=self._clock.time()))
        with self._lock:
            self._busy_since = None
            if error is not None:
                self._unreported.update(drops)  # told later, together with those to come
                if self._closed and not self._queued:
                    self._abandoned = True  # these were the last words
        self._log("%d alerts dropped, the queue was full", sum(drops.values()))

    def _call(self, alert: Alert) -> str | None:
        """Call the channel; what went wrong, or None."""
        described: str | None = None
        try:
            self._channel(alert)
        except BaseException as error:
            # Also SystemExit, which a thread would swallow together with itself and all later alerts.
            described = _describe(error)
        with self._lock:
            first = described is not None and not self._failing
            self._failing = described is not None
            if described is None:
                return None
            summary = described.partition("\n")[0]
            self._last_error = summary
        # The traceback once per outage; a dead channel would fill the log with it.
        return described if first else summary

    def _log(self, what: str, *facts: object) -> None:
        with contextlib.suppress(Exception):  # a broken log handler must not end this thread; all is counted
            _log.error(f"alert channel %r: {what}", self.name, *facts)

    # -- helpers ------------------------------------------------------------------------------------------------

    def _lowest_locked(self) -> AlertLevel:
        return min(level for level, waiting in self._levels.items() if waiting)

    def _dropped_locked(self, level: AlertLevel) -> None:
        self._count["dropped"] += 1
        self._unreported[level] += 1


def new_id() -> str:
    """An id short enough to be read out."""
    return uuid.uuid4().hex[:12]


def drop_report(channel: str, drops: Mapping[AlertLevel, int], *, time: float) -> Alert:
    """The alert that tells a channel what it did not get."""
    total = sum(drops.values())
    levels = ", ".join(f"{count} {level.name}" for level, count in sorted(drops.items(), reverse=True))
    return make_alert(
        id=new_id(),
        time=time,
        source=AlertSource.SYSTEM,
        level=AlertLevel.WARNING,
        title=f"{total} alerts dropped",
        message=f"channel {channel!r} was too slow and its queue was full; not sent: {levels}",
        context={"channel": channel, "dropped": total},
    )


def drop_announcement(channel: str, *, time: float) -> Alert:
    """The alert that tells the other channels that one of them drops alerts."""
    return make_alert(
        id=new_id(),
        time=time,
        source=AlertSource.SYSTEM,
        level=AlertLevel.ERROR,
        title=f"alert channel {channel!r} drops alerts",
        message="its queue is full: it is too slow or stuck",
        context={"channel": channel},
    )


def _describe(error: BaseException) -> str:
    """One line about an error, then its traceback; redacted, bounded, and safe from an error that cannot be printed."""
    try:
        summary = clean(f"{type(error).__name__}: {error}", 500, one_line=True)
    except Exception:
        summary = type(error).__name__
    try:
        return summary + "\n" + clean("".join(traceback.format_exception(error)), 4000)
    except Exception:
        return summary
