"""What a former process could not tell, and what it has told: out of the spool, once, at the start."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from hireliab.core.clock import Clock
from hireliab.monitoring._channel_status import new_id
from hireliab.monitoring._channel_worker import ChannelWorker
from hireliab.monitoring.alert import Alert, AlertLevel, make_alert
from hireliab.monitoring.alert_spool import AlertSpool, Notified

_log = logging.getLogger("hireliab.alerts")


class Replay:
    """
    Args:
        spool: The spool, or None for none.
        workers: All channels.
    """

    def __init__(self, *, spool: AlertSpool | None, workers: Sequence[ChannelWorker], clock: Clock) -> None:
        self._spool = spool
        self._workers = workers
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Start anew: at construction and in a forked child."""
        self._done = False

    def open(self) -> None:
        """Open the spool, and have the channels know what they were told; before they send anything."""
        if self._spool is None:
            return
        self._spool.open()
        told = defaultdict(list)
        for notified in self._spool.notified():
            try:
                told[notified.channel].append(_remembered(notified, self._clock.time()))
            except Exception:  # whoever wrote it: it costs one repetition, not the start
                _log.exception("alerts: what channel %r was told is not known", notified.channel)
        for worker in self._workers:
            worker.restore(told[worker.name])

    def run(self) -> None:
        """Queue what is left of former processes; the first call does it, on the watchdog's thread."""
        if self._done or self._spool is None:
            return
        self._done = True
        by_name = {worker.name: worker for worker in self._workers}
        for alert, channels in self._spool.pending():
            try:
                self._tell(self._spool, alert, channels, by_name)
            except Exception:
                _log.exception("alerts: alert %s of a former process could not be queued", alert.id)

    def _tell(
        self, spool: AlertSpool, alert: Alert, channels: Sequence[str], by_name: Mapping[str, ChannelWorker]
    ) -> None:
        age = max(0.0, self._clock.time() - alert.time)
        gone = [name for name in channels if name not in by_name]
        heirs = [
            worker
            for worker in self._workers
            if gone and worker.name not in channels and alert.level >= worker.threshold
        ]
        if heirs:  # a channel was renamed: its alerts are told by the others rather than by nobody
            spool.add(alert, [worker.name for worker in heirs])
        for name in gone:
            spool.settle([alert.id], name)
        for worker in [*(by_name[name] for name in channels if name in by_name), *heirs]:
            worker.replay(alert, age=age)


def _remembered(told: Notified, now: float) -> tuple[str, AlertLevel, bool, int, Alert, float]:
    """What a group needs to know; the alerts themselves are not kept."""
    source, _, name = told.fingerprint.partition("\x1f")
    alert = make_alert(
        id=new_id(),
        time=told.time,
        source=source,
        level=AlertLevel(told.level),
        title=name,
        message="told by a former process",
        dedup_key=name if told.keyed else None,
    )
    return told.fingerprint, alert.level, told.keyed, told.count, alert, max(0.0, now - told.time)
