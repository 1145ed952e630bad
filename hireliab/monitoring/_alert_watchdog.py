"""The thread that looks after the channels: abandons what is stuck, asks others to stand in, tells who is down."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Sequence

from hireliab.core._threads import Starting
from hireliab.core.clock import Clock
from hireliab.monitoring._alert_failover import Failover
from hireliab.monitoring._alert_replay import Replay
from hireliab.monitoring._channel_status import new_id
from hireliab.monitoring._channel_worker import ChannelWorker
from hireliab.monitoring.alert import Alert, AlertLevel, AlertSource, make_alert
from hireliab.monitoring.alert_spool import AlertSpool, SpoolStatus

_log = logging.getLogger("hireliab.alerts")

SPOOL_LOOK = 5.0
"""Seconds between two looks at the spool."""
_SPOOL = "alert_spool"


class Watchdog:
    """
    A thread that looks when it is time, or when somebody wakes it.

    Attributes:
        after: Called on the thread when `stop` has ended it.
        step: Looks once; returns the monotonic second of the next look, or None for none by itself.
        thread: Its thread, once started.
    """

    def __init__(
        self, *, clock: Clock, name: str = "watchdog", step: Callable[[], float | None] = lambda: None
    ) -> None:
        self.step = step
        self.after: Callable[[], None] = lambda: None
        self._name = name
        self._clock = clock
        self._generation = 0  # of the thread, so that none of a parent's goes on in a child
        self.reset()

    def reset(self) -> None:
        """Start anew: at construction and in a forked child."""
        # Guards every field below. Re-entrant: a signal handler may send an alert while this thread's owner wakes it.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._asleep_until: float | None = None  # while it sleeps with an end
        self._wanted: float | None = None  # when somebody asked for a look since the last one began
        self._stopped = False
        self._generation += 1
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; a second call changes nothing."""
        if self.thread is not None:
            return
        run = functools.partial(self._run, self._generation)
        self.thread = thread = Starting(run, name=f"hireliab.alerts.{self._name}")
        try:
            thread.start()
        except BaseException:
            if thread.call_off():
                self.thread = None
            raise

    def wake_by(self, at: float) -> None:
        """Look at this monotonic second at the latest."""
        until = self._asleep_until
        if until is not None and until <= at:
            return
        with self._lock:
            self._wanted = at if self._wanted is None else min(at, self._wanted)
            self._changed.notify_all()

    @property
    def lock(self) -> threading.RLock:
        """The lock, of which somebody may ask whether he has it."""
        return self._lock

    def stop(self) -> None:
        """Let the thread end."""
        with self._lock:
            self._stopped = True
            self._changed.notify_all()

    def _run(self, generation: int) -> None:
        self._look_again_and_again(generation)
        if generation == self._generation:
            self.after()

    def _look_again_and_again(self, generation: int) -> None:
        while not self._stopped and generation == self._generation:
            with self._lock:
                self._wanted = None
            try:
                at = self.step()
            except (Exception, SystemExit):
                with contextlib.suppress(Exception):
                    _log.exception("alerts: a look of the %s failed; the next one is in 5 s", self._name)
                at = self._clock.monotonic() + 5.0
            with self._lock:
                while not self._stopped and generation == self._generation:
                    ats = [end for end in (at, self._wanted) if end is not None]
                    self._asleep_until = min(ats) if ats else None
                    pause = None if self._asleep_until is None else self._asleep_until - self._clock.monotonic()
                    if pause is not None and pause <= 0:
                        break
                    seen = self._wanted
                    self._clock.wait_for(self._changed, functools.partial(self._is_woken_locked, seen), pause)
                self._asleep_until = None

    def _is_woken_locked(self, seen: float | None) -> bool:
        return self._stopped or self._wanted != seen


class Rounds:
    """
    What the watchdog does at each look.

    Args:
        workers: All channels.
        failover: Who stands in for them.
        replay: What former processes left; done at the first look.
        spool: Looked at for trouble of its own, or None.
    """

    def __init__(
        self,
        *,
        workers: Sequence[ChannelWorker],
        failover: Failover,
        replay: Replay,
        spool: AlertSpool | None,
        clock: Clock,
    ) -> None:
        self._workers = workers
        self._failover = failover
        self._replay = replay
        self._spool = spool
        self._clock = clock
        self._spool_trouble: tuple[object, ...] = ("open", 0, 0)

    def __call__(self) -> float | None:
        """Look once; the monotonic second of the next look."""
        self._replay.run()
        ats = [self._look_at_spool()]
        for worker in self._workers:
            look = worker.look()
            for alert in look.overdue:
                self._failover.take(worker, alert)
            if look.down:
                self._failover.down(worker)
            if look.back is not None:
                self._failover.back(worker, look.back)
            ats.append(look.next_at)
        known = [at for at in ats if at is not None]
        return min(known) if known else None

    def _look_at_spool(self) -> float | None:
        """Tell once when alerts do not survive a crash any more, or an unreadable file was set aside."""
        if self._spool is None:
            return None
        status = self._spool.status()
        trouble = (status.state, status.not_durable, status.set_aside)
        before, self._spool_trouble = self._spool_trouble, trouble
        if status.state in ("broken", "full"):
            if before[0] != status.state:
                self._tell_of_spool(AlertLevel.ERROR, "the alert spool cannot be written", status)
        elif status.state == "open" and before[0] in ("broken", "full"):
            for worker in self._workers:
                worker.resolve(_SPOOL, over=self._spool_alert(AlertLevel.INFO, "", "it works again"), source=None)
        if status.set_aside > int(str(before[2])):
            self._tell_of_spool(AlertLevel.WARNING, "an unreadable alert spool was set aside", status)
        return self._clock.monotonic() + SPOOL_LOOK

    def _tell_of_spool(self, level: AlertLevel, title: str, status: SpoolStatus) -> None:
        alert = self._spool_alert(level, title, f"alerts may not survive a crash: {status.last_error}")
        for worker in self._workers:
            worker.put(alert)

    def _spool_alert(self, level: AlertLevel, title: str, message: str) -> Alert:
        return make_alert(
            id=new_id(),
            time=self._clock.time(),
            source=AlertSource.STORAGE,
            level=level,
            title=title,
            message=message,
            dedup_key=_SPOOL if level is AlertLevel.ERROR else None,
        )
