"""
The door to alerts: `AlertSystem`.

`send_alert` may stand in any except block of a trading bot: it never raises, never waits for a channel, and never
runs anybody's code on the caller's thread.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hireliab.core import config as checks
from hireliab.core._threads import join_all
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ClosedError, ConfigError
from hireliab.monitoring._channel_worker import ChannelStatus, ChannelWorker, Put, drop_announcement, new_id
from hireliab.monitoring.alert import Alert, AlertLevel, AlertReceipt, AlertSource, make_alert
from hireliab.monitoring.alert_channels import Channel, ConsoleChannel, check_channel

__all__ = ["Alert", "AlertLevel", "AlertReceipt", "AlertSource", "AlertSystem"]

_log = logging.getLogger("hireliab.alerts")

_BUILT_IN = ("console", "email", "telegram")


@dataclass(frozen=True, kw_only=True)
class AlertConfig:
    """
    Settings of an alert system.

    Attributes:
        channels: By name: True or False for "console"; False for "email" and "telegram"; under any name, a callable
            that takes an `Alert`.
        level_thresholds: By channel: the lowest level that it gets, an AlertLevel or its name; INFO when not given.
        queue_size: Most alerts that wait for one channel.
    """

    channels: Mapping[str, bool | Channel] = field(default_factory=lambda: MappingProxyType({"console": True}))
    level_thresholds: Mapping[str, AlertLevel | str] = field(default_factory=lambda: MappingProxyType({}))
    queue_size: int = 1000

    def __post_init__(self) -> None:
        for setting in ("channels", "level_thresholds"):
            if not isinstance(getattr(self, setting), Mapping):
                raise ConfigError(f"{setting} must be a mapping by channel", setting=setting, allowed="a mapping")
        for name, channel in self.channels.items():
            _check_setting(name, channel)
        checks.refuse_unknown(self.level_thresholds, {*self.channels, *_BUILT_IN}, where="level_thresholds")
        for name, level in self.level_thresholds.items():
            _threshold(name, level)
        checks.whole("queue_size", self.queue_size, low=1, high=100_000)

    def threshold(self, name: str) -> AlertLevel:
        """The lowest level that a channel gets."""
        return _threshold(name, self.level_thresholds.get(name, AlertLevel.INFO))


def _check_setting(name: str, channel: object) -> None:
    checks.text("channels", name, most=60)
    if not isinstance(channel, bool):
        check_channel(name, channel)
        return
    checks.refuse_unknown([name], _BUILT_IN, where="channels, where True and False are for those built in")
    if channel and name != "console":
        raise ConfigError(
            f"channels: {name!r} cannot be True yet, it comes with the alert issue; set it to False or to a callable",
            setting=name,
            value=channel,
            allowed="False or a callable",
        )


def _threshold(name: str, level: object) -> AlertLevel:
    if isinstance(level, AlertLevel):
        return level
    word = level.strip().lower() if isinstance(level, str) else level
    names = [known.name.lower() for known in AlertLevel]
    return AlertLevel[checks.choice(f"level_thresholds[{name!r}]", word, names).upper()]


@dataclass(frozen=True, kw_only=True)
class AlertSystemStatus:
    """
    An alert system at one instant; each channel's snapshot is consistent in itself.

    Attributes:
        state: "not_started", "running" or "stopped".
        channels: By name, those that are on.
    """

    state: str
    channels: Mapping[str, ChannelStatus]


class AlertSystem:
    """
    Sends alerts to people, on one thread per channel, so that a stuck channel delays neither the bot nor the others.

    Each channel has a bounded queue: the most important alert is sent first, and when there is no room the oldest
    one of the lowest level is dropped. Every drop is counted in `status()` and reported: to that channel when it
    works again, to the others at once. A channel that raises is logged and counted, and goes on with the next
    alert. Secrets are masked before anything is queued.

    A normal exit of the interpreter stops a started system, with 5 s for what is queued. After a fork the child
    has an empty queue and threads of its own, started by its first alert; the parent sends what it had queued.

    Args:
        config: A mapping of `AlertConfig`'s settings, one of these, or None for the console alone.

    Raises:
        ConfigError: A wrong setting, named.
    """

    def __init__(self, config: AlertConfig | Mapping[str, Any] | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        loaded = checks.load(AlertConfig, config, where="alert system")
        self._clock = clock
        self._lock = threading.RLock()  # guards _state; re-entrant because a signal handler may call stop()
        self._state = "not_started"
        self._resume = False  # set in a forked child whose parent was running
        self._exit_hook = functools.partial(_stop_at_exit, weakref.ref(self))
        self._workers = tuple(
            ChannelWorker(
                name=name,
                channel=ConsoleChannel() if channel is True else channel,
                threshold=loaded.threshold(name),
                size=loaded.queue_size,
                clock=clock,
            )
            for name, channel in loaded.channels.items()
            if channel is not False
        )
        _systems.add(self)

    def start(self) -> None:
        """
        Start the channels' threads; what was queued before is sent now. A second call changes nothing.

        An unreachable channel does not fail the start.

        Raises:
            ClosedError: It was stopped.
        """
        with self._lock:
            if self._state == "stopped":
                raise ClosedError("alert system: stopped; make a new one")
            if self._state == "running":
                return
            self._state = "running"
        for worker in self._workers:
            worker.start()
        atexit.register(self._exit_hook)

    def send_alert(  # noqa: PLR0917 - the original's parameters, which its callers may give by position
        self,
        source: AlertSource | str,
        level: AlertLevel | str,
        title: str,
        message: str,
        context: Mapping[str, Any] | None = None,
        dedup_key: str | None = None,
    ) -> AlertReceipt:
        """
        Queue an alert for every channel that wants its level.

        It never raises, whatever is passed, never does I/O, and takes a bounded time. What is wrong with the
        arguments is noted in the alert, and a level that is none becomes ERROR. Before `start()` the alert waits;
        after `stop()` it is counted, and the receipt says so.

        Args:
            source: An AlertSource, its name in any case, or a text of your own.
            level: An AlertLevel or its name in any case.
            title: One line, at most 200 characters; the same for the same trouble.
            message: At most 4000 characters.
            context: Facts by name. A bounded copy is made now: 4 levels, 32 entries each, about 8000 characters.
                Texts, numbers, Decimal, times, enumerations, exceptions and plain containers of these are shown;
                of anything else the type's name, for its own code is not run.
            dedup_key: Alerts with the same key are about the same trouble.

        Returns:
            A receipt: whether, where and how it was queued.
        """
        alert_id = ""
        try:
            alert_id = new_id()
            if self._resume:
                self._resume = False
                self.start()
            alert = make_alert(
                id=alert_id,
                time=self._clock.time(),
                source=source,
                level=level,
                title=title,
                message=message,
                context=context,
                dedup_key=dedup_key,
            )
            return self._offer(alert)
        except Exception:
            # Nothing is logged here: a log handler is I/O, and somebody's code, on the caller's thread.
            return AlertReceipt(id=alert_id, accepted=False, reason="error")

    def _offer(self, alert: Alert) -> AlertReceipt:
        results = set()
        queued = []
        for worker in self._workers:
            result, announce = worker.put(alert)
            results.add(result)
            if result is Put.QUEUED:
                queued.append(worker.name)
            if announce:
                announcement = drop_announcement(worker.name, time=alert.time)
                for other in self._workers:
                    if other is not worker:
                        other.put(announcement)
        if queued:
            reason = "not_started" if self._state == "not_started" else "queued"
        elif self._state == "stopped" or Put.STOPPED in results:
            reason = "stopped"
        else:
            reason = "dropped" if Put.DROPPED in results else "below_threshold"
        return AlertReceipt(id=alert.id, accepted=bool(queued), channels=tuple(queued), reason=reason)

    def stop(self, timeout: float | None = 5.0) -> None:
        """
        Refuse new alerts, send those that are queued, most important first, and end the threads.

        What is not sent after `timeout` seconds (None: no limit) is dropped, counted, and logged. It may be called
        again, from any thread, from a channel and from an exit handler; it starts no thread.
        """
        with self._lock:
            self._state = "stopped"
            self._resume = False
        atexit.unregister(self._exit_hook)
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        for worker in self._workers:
            worker.close()
        # A channel that calls stop() cannot wait for itself: its queue is emptied after it returns.
        others = [worker for worker in self._workers if worker.thread is not threading.current_thread()]
        ended = []
        for worker in others:
            left = None if deadline is None else max(0.0, deadline - self._clock.monotonic())
            if worker.wait_ended(left):
                ended.append(worker)
        dropped = {worker.name: worker.abandon() for worker in others}
        join_all([worker.thread for worker in ended if worker.thread is not None], timeout=1.0)
        for worker in others:
            if dropped[worker.name] or worker not in ended:
                _log.warning(
                    "alert channel %r: stopped with %d alerts not sent%s",
                    worker.name,
                    dropped[worker.name],
                    "" if worker in ended else " and one send still running",
                )

    def status(self) -> AlertSystemStatus:
        """A snapshot of every channel."""
        channels = {worker.name: worker.status() for worker in self._workers}
        return AlertSystemStatus(state=self._state, channels=MappingProxyType(channels))

    def __enter__(self) -> AlertSystem:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<AlertSystem {self._state}: {', '.join(worker.name for worker in self._workers) or 'no channel'}>"

    def _after_fork(self) -> None:
        """In the child: no thread of the parent's is here, and a lock may be held by one of them."""
        self._lock = threading.RLock()
        for worker in self._workers:
            worker.reset()
            if self._state == "stopped":
                worker.close()
        if self._state == "running":
            self._state = "not_started"
            self._resume = True


_systems: weakref.WeakSet[AlertSystem] = weakref.WeakSet()


def _stop_at_exit(system: weakref.ref[AlertSystem]) -> None:
    alive = system()
    if alive is not None:
        alive.stop()


def _after_fork_in_child() -> None:
    for system in list(_systems):
        system._after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
