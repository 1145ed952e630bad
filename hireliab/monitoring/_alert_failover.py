"""Who tells what a channel cannot: its failover list, and in the end standard error."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from hireliab.core.clock import Clock
from hireliab.monitoring._alert_text import render_line
from hireliab.monitoring._channel_status import Put, new_id
from hireliab.monitoring._channel_worker import ChannelWorker
from hireliab.monitoring.alert import Alert, AlertLevel, AlertSource, make_alert
from hireliab.monitoring.alert_channels import ConsoleChannel

_log = logging.getLogger("hireliab.alerts")

MOST_LINES = 20
"""Alerts of one outage that are written to standard error: a person sees that there is trouble, and the disk stays free."""


WRITE_WAIT = 1.0
"""Seconds that a line on standard error is waited for."""
_WRITER = "hireliab.alerts.last-resort"


class Failover:
    """
    Args:
        stand_ins: The families that stand in for a family, in their order.
    """

    def __init__(self, *, stand_ins: Callable[[str], Sequence[str]], clock: Clock) -> None:
        self.workers: Sequence[ChannelWorker] = ()  # all channels, which know this object
        self._stand_ins = stand_ins
        self._clock = clock
        self._lock = threading.Lock()  # guards _lines and _writer
        self._lines = 0
        self._writer: threading.Thread | None = None

    def take(self, worker: ChannelWorker, alert: Alert) -> None:
        """Have an alert told that a channel could not tell, or has not for 30 s."""
        told = replace(alert, notes=(*alert.notes, f"channel {worker.name!r} could not tell it"))
        for family in self._stand_ins(worker.family):
            takers = [other for other in self.workers if other.family == family and not other.is_blocked]
            given = [self._give(other, told) for other in takers]  # all of them: they make one channel together
            if any(given):
                return
        # One that fails since a moment ago, too, may never tell it: both would rely on the other.
        others = [other for other in self.workers if other is not worker and not (other.is_blocked or other.is_failing)]
        if not any(other.knows(alert) for other in others):
            self._last_resort(told)

    def down(self, worker: ChannelWorker) -> None:
        """Tell the other channels, and only them, that one is down; once, until it is back."""
        status = worker.status()
        _log.error("alert channel %r: down: %s", worker.name, status.last_error)
        notice = make_alert(
            id=new_id(),
            time=self._clock.time(),
            source=AlertSource.SYSTEM,
            level=AlertLevel.ERROR,
            title=f"alert channel {worker.name!r} is down",
            message=status.last_error or "its sends do not come back",
            context={"channel": worker.name, "state": status.state, "waiting": status.queued + status.spooled},
            dedup_key=_key(worker),
        )
        others = [other for other in self.workers if other is not worker]
        puts = [other.put(notice) for other in others if not other.is_blocked]
        if all(put is Put.STOPPED for put in puts):
            self._last_resort(notice)

    def back(self, worker: ChannelWorker, late: int) -> None:
        """Tell those that were told that it works again."""
        with self._lock:
            self._lines = 0
        _log.warning("alert channel %r: back, %d delivered late", worker.name, late)
        over = make_alert(
            id=new_id(),
            time=self._clock.time(),
            source=AlertSource.SYSTEM,
            level=AlertLevel.INFO,
            title=f"alert channel {worker.name!r} is back",
            message=f"it is back; {late} delivered late",
        )
        for other in self.workers:
            if other is not worker:
                other.resolve(_key(worker), over=over, source=str(AlertSource.SYSTEM))

    def renew_in_child(self) -> None:
        """In a forked child the lock may be held by a thread that is not here."""
        self._lock = threading.Lock()
        self._writer = None

    def _give(self, other: ChannelWorker, alert: Alert) -> bool:
        if other.knows(alert):
            return True
        return other.put(alert, force=True) in (Put.QUEUED, Put.DEDUPLICATED)

    def _last_resort(self, alert: Alert) -> None:
        consoles = [worker for worker in self.workers if isinstance(worker.channel, ConsoleChannel)]
        if any(not worker.is_blocked or worker.status().state == "stuck" for worker in consoles):
            return  # the console has it, or does not want it, or nobody reads from standard error
        with self._lock:
            self._lines += 1
            number = self._lines
            writer = self._writer
            if number > MOST_LINES or (writer is not None and writer.is_alive()):
                return  # it is counted; or a line was written, and nobody reads it
            # A thread of its own: this one is the watchdog's, which must not wait for whoever reads standard error.
            self._writer = threading.Thread(
                target=last_words, args=(alert,), kwargs={"more": number == MOST_LINES}, name=_WRITER, daemon=True
            )
            writer = self._writer
        with contextlib.suppress(RuntimeError):  # no more threads: the interpreter is ending
            writer.start()
        writer.join(WRITE_WAIT)


def last_words(alert: Alert, *, more: bool = False) -> None:
    """Write an alert to standard error that no channel takes; never raises."""
    with contextlib.suppress(Exception):
        stream = sys.stderr
        if stream is not None:
            stream.write(f"hireliab alert, told by no channel: {render_line(alert)}\n")
            if more:
                stream.write("hireliab alerts: more is not written here until a channel works again\n")
            stream.flush()


def _key(worker: ChannelWorker) -> str:
    return f"channel_down:{worker.name}"
