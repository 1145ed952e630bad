"""What follows an attempt: the spool is told, so that nothing is told twice by a restart alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hireliab.monitoring._channel_queue import Ticket
from hireliab.monitoring._channel_work import Aftermath
from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.monitoring.alert_spool import Notified

SETTLE_WAIT = 0.5
"""Seconds that a channel waits until its delivery is on disk: a kill then leaves at most one that is told again."""


class AlertStore(Protocol):
    """What a channel needs of the spool."""

    def settle(self, ids: Sequence[str], channel: str, notified: Notified | None = None) -> Ticket:
        """Forget these deliveries: they were made or given up."""

    def note(self, notified: Notified) -> None:
        """Remember that a channel was told of a trouble."""

    def forget(self, channel: str, fingerprint: str) -> None:
        """A channel was told that a trouble is over."""

    def load(self, ids: Sequence[str]) -> dict[str, Alert] | None:
        """Rows of this process by id; None when they cannot be read now."""

    def bury(self, alert: Alert, channel: str, reason: str) -> None:
        """Keep an alert that a service refuses for good."""


def carry_out(after: Aftermath, *, channel: str, alert: Alert, store: AlertStore | None, time: float) -> None:
    """Tell the spool."""
    if store is None:
        return
    notified = None
    if after.told is not None and alert.level >= AlertLevel.ERROR:
        group = after.told
        notified = Notified(
            channel=channel,
            fingerprint=group.fingerprint,
            level=int(alert.level),
            time=time,
            keyed=group.keyed,
            count=group.count,
        )
    if after.buried is not None:
        store.bury(alert, channel, after.buried)
    if after.settle:
        store.settle(after.settle, channel, notified).wait(SETTLE_WAIT)
    elif notified is not None:
        store.note(notified)
    if after.over is not None:
        store.forget(channel, after.over.fingerprint)
