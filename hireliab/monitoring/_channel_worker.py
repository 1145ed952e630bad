"""One alert channel's threads: the one that sends, and those that were abandoned because a send did not come back."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from hireliab.core._threads import Starting
from hireliab.monitoring._channel_aftermath import carry_out
from hireliab.monitoring._channel_answer import judge
from hireliab.monitoring._channel_door import HARD_DEADLINE, ChannelDoor, Flight
from hireliab.monitoring._channel_queue import Notice
from hireliab.monitoring._channel_status import describe, drop_report
from hireliab.monitoring._channel_work import Aftermath, Refill, Report
from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.monitoring.alert_channels import Ok, Permanent, Result, Retry

_log = logging.getLogger("hireliab.alerts")

MOST_ABANDONED = 2
"""Threads of one channel that may be left behind in a send at the same time."""
REST_AFTER_BUG = 1.0
"""Seconds that a thread rests after a mistake of ours, which must neither end it nor keep the processor busy."""


@dataclass(frozen=True)
class Look:
    """
    What a watchdog finds at a channel.

    Attributes:
        overdue: What another channel should tell.
        down: Whether it is newly down.
        back: How many messages came late, when it newly works again; else None.
        next_at: When to look again, monotonic seconds; None: when something changes.
    """

    overdue: list[Alert]
    down: bool
    back: int | None
    next_at: float | None


class ChannelWorker(ChannelDoor):
    """A channel with its thread: see `ChannelDoor` for the arguments."""

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; a second call, or one after `close`, changes nothing."""
        thread: Starting | None = None
        try:
            with self._lock:
                if self._thread is not None or self._closed:
                    return
                run = functools.partial(self._run, self._generation)
                self._thread = thread = Starting(run, name=f"hireliab.alerts.{self.name}")
            thread.start()  # from before that on stop() in another thread waits for its end
        except BaseException:
            if thread is not None and thread.call_off():
                with self._lock:
                    self._thread = None
            raise

    def close(self) -> None:
        """Refuse further alerts; the thread ends when the queue is empty."""
        with self._lock:
            self._closed = True
            self._notify_locked()

    def wait_ended(self, timeout: float | None) -> bool:
        """Wait for the thread's end; True at once when it never started."""
        with self._lock:
            return self._clock.wait_for(self._changed, lambda: self._ended or self._thread is None, timeout)

    def abandon(self) -> tuple[int, int]:
        """Let the thread end after its present send; how many messages stay in the spool, and how many are lost."""
        with self._at_desk():
            self._closed = self._abandoned = True
            self._leave_locked(self._clock.monotonic())
            self._notify_locked()
            return self._left

    def look(self) -> Look:
        """What the watchdog should know; abandons a send that does not come back."""
        now = self._clock.monotonic()
        with self._at_desk():
            replace = self._look_at_flight_locked(now)
            stuck_alert = self._overdue_in_flight_locked()
            overdue, next_at = self._desk.overdue(now, blocked=self.is_blocked)
            if stuck_alert is not None:
                overdue.insert(0, stuck_alert)
            failing = self._desk.is_down(now) or self._stuck
            down = failing and not self._said_down and not self._closed
            back = None
            if down:
                self._said_down = True
                self._desk.late_since_down = 0
            elif (
                self._said_down and self._desk.failing_since is None and not self._stuck and not self._desk.backlog(now)
            ):
                self._said_down = False
                back = self._desk.late_since_down
            ats = [next_at]
            if self._flight is not None and not self._stuck:
                ats.append(self._flight.since + HARD_DEADLINE)
            if self._desk.failing_since is not None and not self._said_down:
                ats.append(self._desk.failing_since + HARD_DEADLINE)
            known = [at for at in ats if at is not None]
        if replace:
            with contextlib.suppress(RuntimeError):  # no thread can be started now: at the next look
                self.start()
        return Look(overdue, down, back, min(known) if known else None)

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self, generation: int) -> None:
        try:
            while self._step(generation):
                pass
        finally:
            with self._at_desk():
                if generation == self._generation:
                    self._ended = True
                    if self._closed:
                        self._leave_locked(self._clock.monotonic())
                self._changed.notify_all()
            self._settle_expired()

    def _step(self, generation: int) -> bool:
        """Do one thing; whether to go on."""
        work = None
        try:
            work = self._take(generation)
            if work is None:
                return False
            self._settle_expired()
            if isinstance(work, Notice):
                self._send(work, generation)
            elif isinstance(work, Report):
                self._report(work.drops, generation)
            else:
                self._refill(work)
        except Exception:
            # A bug of ours, or no memory: without this thread all later alerts would be lost in silence.
            self._log("bug: going on in 1 s", exc_info=True)
            return self._recover(work, generation)
        return True

    def _recover(self, work: Notice | Report | Refill | None, generation: int) -> bool:
        """Put back what was being done when a bug showed, and rest; whether to go on."""
        with self._lock:
            if generation != self._generation:
                return False
            self._flight = None
            if isinstance(work, Notice) and work in self._desk.in_flight:
                self._desk.take_back(work, "a bug in hireliab", self._clock.monotonic())
            if not self._closed:
                self._clock.wait_for(self._changed, lambda: self._closed, REST_AFTER_BUG)
            return not self._closed

    def _take(self, generation: int) -> Notice | Report | Refill | None:
        """What to do next; waits for it, and returns None when the thread should end."""
        while True:
            now = self._clock.monotonic()
            with self._lock:
                if self._abandoned or generation != self._generation:
                    return None
                seen = self._news
                with self._at_desk():
                    self._admit_interrupting_locked(now)
                    work, pause = self._desk.next(now, closing=self._closed)
                self._inside = False  # also when Ctrl-C left it so in another thread
                if work is None and pause is None and self._closed and not self._interrupting:
                    return None
                if work is None and not self._desk.expired:
                    self._parked = True
                    self._parked_until = None if pause is None else now + pause
                    try:
                        self._clock.wait_for(self._changed, functools.partial(self._has_news_locked, seen), pause)
                    finally:
                        if generation == self._generation:
                            self._parked = False
                    continue
                if isinstance(work, Notice):
                    self._flight = Flight(now, work)
                elif isinstance(work, Report):
                    self._flight = Flight(now)
            if work is None:
                self._settle_expired()
                continue
            if not isinstance(work, Refill):
                self._wake_by(now + HARD_DEADLINE)
            return work

    def _send(self, notice: Notice, generation: int) -> None:
        alert, sent = notice.alert, notice.sent  # the notice may be changed while we are in an abandoned send
        result, summary = self._call(alert)
        now = self._clock.monotonic()
        after: Aftermath | None
        with self._at_desk():
            if generation == self._generation:
                self._flight = None
                self._stuck = False
                after = self._desk.finish(notice, result, now, closing=self._closed or self._abandoned)
            else:
                self._sends_abandoned -= 1
                after = self._desk.late_success(notice, sent, now) if isinstance(result, Ok) else None
        if not isinstance(result, Ok) and (notice.attempts <= 1 or isinstance(result, Permanent)):
            what = (alert.id, alert.level.name, alert.source, alert.title)
            self._log("could not send alert %s (%s, %s: %s): %s", *what, summary)
        if after is not None:
            carry_out(after, channel=self.name, alert=alert, store=self._store, time=self._clock.time())
            if after.fail_over:
                self._fail_over(self, alert)
        if self._said_down or not isinstance(result, Ok):
            self._wake_by(now)

    def _report(self, drops: Mapping[AlertLevel, int], generation: int) -> None:
        result, _ = self._call(drop_report(self.name, drops, time=self._clock.time()))
        with self._lock:
            if generation == self._generation:
                self._flight = None
                self._stuck = False
            else:
                self._sends_abandoned -= 1
            if not isinstance(result, Ok):
                self._desk.unreported.update(drops)  # told later, together with those to come
                if self._closed and not self._desk.queue:
                    self._abandoned = True  # these were the last words
        self._log("%d alerts dropped", sum(drops.values()))

    def _refill(self, work: Refill) -> None:
        alerts: Mapping[str, Alert] | None = None
        try:
            alerts = {} if self._store is None else self._store.load(work.ids)
        finally:
            with self._at_desk():
                self._desk.readmit(work, alerts, self._clock.monotonic())

    def _call(self, alert: Alert) -> tuple[Result, str]:
        """Call the channel once; what came of it, and the words for the log."""
        trace = ""
        try:
            result: Result = judge(self._channel(alert))
        except BaseException as error:
            # Also SystemExit, which a thread would swallow together with itself and all later alerts.
            summary, trace = describe(error)
            result = Retry(summary)
        if isinstance(result, Ok):
            return result, ""
        # The traceback once per outage; a dead channel would fill the log with it.
        first = self._desk.failing_since is None
        return result, f"{result.reason}\n{trace}" if first and trace else result.reason

    def _settle_expired(self) -> None:
        with self._lock:
            expired, self._desk.expired = self._desk.expired, []
        if expired and self._store is not None:
            self._store.settle(expired, self.name)

    def _log(self, what: str, *facts: object, exc_info: bool = False) -> None:
        with contextlib.suppress(Exception):  # a broken log handler must not end this thread; all is counted
            _log.error(f"alert channel %r: {what}", self.name, *facts, exc_info=exc_info)

    # -- helpers ------------------------------------------------------------------------------------------------

    def _look_at_flight_locked(self, now: float) -> bool:
        """Abandon a send that does not come back; whether a thread must be started."""
        flight = self._flight
        if flight is None or self._closed or now - flight.since < HARD_DEADLINE:
            return self._thread is None and self._sends_abandoned > 0 and not self._closed
        if self._sends_abandoned >= MOST_ABANDONED:
            self._stuck = True
            return False
        self._generation += 1
        self._sends_abandoned += 1
        self._thread = None
        self._flight = None
        if flight.notice is not None:
            self._desk.take_back(flight.notice, f"no answer within {HARD_DEADLINE:g} s", now)
        return True

    def _overdue_in_flight_locked(self) -> Alert | None:
        flight = self._flight
        if not self._stuck or flight is None or flight.notice is None or flight.notice.failed_over:
            return None
        flight.notice.failed_over = True
        return flight.notice.alert if flight.notice.level >= AlertLevel.ERROR else None
