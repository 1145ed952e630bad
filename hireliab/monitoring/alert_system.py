"""
The door to alerts: `AlertSystem`.

`send_alert` may stand in any except block of a trading bot: it never raises, never waits for a channel, and never
runs anybody's code on the caller's thread.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hireliab.core import config as checks
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ClosedError, ConfigError
from hireliab.monitoring._alert_crew import Crew
from hireliab.monitoring._alert_failover import MOST_LINES, last_words
from hireliab.monitoring._alert_hooks import watch
from hireliab.monitoring._alert_settings import AlertConfig, without_addresses
from hireliab.monitoring._alert_silences import Silence, Silences, source_of_a_silence, text_of_a_silence
from hireliab.monitoring._alert_trial import TestResult, try_channels
from hireliab.monitoring._channel_status import ChannelStatus, Put, new_id, reseed_ids
from hireliab.monitoring._freeze import freeze_text
from hireliab.monitoring._redaction import guard_loggers, known_secrets
from hireliab.monitoring.alert import (
    MAX_MESSAGE,
    MAX_TITLE,
    Alert,
    AlertLevel,
    AlertReceipt,
    AlertSource,
    make_alert,
    rescue_alert,
)
from hireliab.monitoring.alert_spool import SpoolStatus

__all__ = [
    "Alert",
    "AlertConfig",
    "AlertLevel",
    "AlertReceipt",
    "AlertSource",
    "AlertSystem",
    "AlertSystemStatus",
    "TestResult",
]

_log = logging.getLogger("hireliab.alerts")

LONGEST_SILENCE = 30 * 86400.0


@dataclass(frozen=True, kw_only=True)
class AlertSystemStatus:
    """
    An alert system at one instant; each channel's snapshot is consistent in itself.

    Attributes:
        state: "not_started", "running" or "stopped".
        channels: By name, those that are on.
        silenced: Alerts that a silence kept from all of them.
        silences: Those that have not ended.
        heartbeats: Signs of life that were taken.
        spool: The spool, or None for none.
    """

    state: str
    channels: Mapping[str, ChannelStatus]
    silenced: int = 0
    silences: tuple[Silence, ...] = ()
    heartbeats: int = 0
    spool: SpoolStatus | None = None


class AlertSystem:
    """
    Sends alerts to people, on one thread per channel, so that a stuck channel delays neither the bot nor the others.

    Alerts about the same trouble, that is of one source with the same `dedup_key` or else the same title, are told
    once: the first at once when it is ERROR or more, else after 2 s; later ones are counted and told in one summary a
    minute; a higher level is told at once. What has a dedup key stands until `resolve`, and is told again every 4 hours.

    Each channel has a bounded queue: the most important alert is sent first, and when there is no room the oldest
    one of the lowest level is dropped. Every drop is counted in `status()` and reported: to that channel when it
    works again, to the others at once. What a channel cannot send is tried again, for 5 minutes (INFO) up to 3 days
    (CRITICAL). An alert of ERROR or more that a channel could not tell within 30 s goes to its `failover` channels; the
    others are told when a channel is down, and when it is back. A send that takes longer than 30 s is abandoned.

    Alerts of ERROR or more survive a crash and a reboot in the spool, and are sent by the next start: at least once, so
    that an alert may come twice, with the same id. Secrets are masked before anything is queued.

    A normal exit of the interpreter stops a started system, with 5 s for what is queued. After a fork the child
    has an empty queue and threads of its own, started by its first alert; the parent sends what it had queued.

    Args:
        config: A mapping of `AlertConfig`'s settings, one of these, or None for the console alone.

    Attributes:
        name: The setting `name`, under which metrics and health show it.

    Raises:
        ConfigError: A wrong setting, named.
        MissingDependencyError: A channel has a URL, and apprise is not installed.
    """

    def __init__(self, config: AlertConfig | Mapping[str, Any] | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        try:
            loaded = checks.load(AlertConfig, config, where="alert system")
        except ConfigError as error:
            raise without_addresses(error) from None
        try:
            self._crew = Crew(loaded, clock=clock)
        except ConfigError as error:
            raise without_addresses(error, "alert system: ") from None
        self.name = loaded.name
        self._clock = clock
        self._lock = threading.RLock()  # guards _state; re-entrant because a signal handler may call stop()
        self._state = "not_started"
        self._resume = False  # set in a forked child whose parent was running
        self._exit_hook = self._at_exit  # one object, which holds this system until it is stopped
        self._never_told: list[Alert] = []  # CRITICAL ones, as long as nobody has called start()
        self._silences = Silences()
        self._silenced = 0
        _systems.add(self)

    def start(self) -> None:
        """
        Open the spool and start the channels' threads; what was queued before is sent now. A second call changes nothing.

        An unreachable channel does not fail the start, nor does a spool that cannot be opened. A start that failed, or
        that Ctrl-C cut short, may be tried again, and goes on where it was.

        Raises:
            ClosedError: It was stopped.
            RuntimeError: Python can start no thread.
        """
        try:
            with self._lock:
                if self._state == "stopped":
                    raise ClosedError("alert system: stopped; make a new one")
                if self._state == "running":
                    return
                self._state = "running"
            atexit.register(self._exit_hook)  # first: what was queued before is told at the exit, whatever comes now
            guard_loggers()
            self._crew.start()
            self._resume = False
            self._never_told.clear()
        except BaseException:
            with self._lock:
                if self._state == "running":
                    self._state = "not_started"
            raise

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

        Whatever the arguments are, it raises nothing but what a signal handler raises on this thread (and TypeError when
        one is missing or unknown, as every function does). It does no I/O, and takes a bounded time: an alert of ERROR or
        more waits at most 20 ms until the spool has it on the disk. What is wrong with the arguments is noted in the alert,
        and a level that is none becomes ERROR. Before `start()` the alert waits; after `stop()` it is counted, the receipt
        says so, and CRITICAL is written to standard error.

        Args:
            source: An AlertSource, its name in any case, or a text of your own.
            level: An AlertLevel or its name in any case.
            title: One line, at most 200 characters; the same for the same trouble.
            message: At most 4000 characters.
            context: Facts by name. A bounded copy is made now: 4 levels, 32 entries each, about 8000 characters.
                Texts, numbers, Decimal, times, enumerations, exceptions and plain containers of these are shown;
                of anything else the type's name, for its own code is not run.
            dedup_key: Alerts with the same key are about the same trouble, until `resolve` is called with it.

        Returns:
            A receipt: whether, where and how it was queued.
        """
        alert_id = ""
        try:
            alert_id = new_id()
            if self._resume:
                with contextlib.suppress(Exception):  # no more threads: the alert waits, and the next one tries again
                    self.start()
            try:
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
            except Exception:
                alert = rescue_alert(
                    id=alert_id, time=self._clock.time(), source=source, level=level, title=title, message=message
                )
            if self._silences.cover(alert, self._clock.monotonic()):
                self._silenced += 1
                return AlertReceipt(id=alert_id, accepted=False, reason="silenced")
            return self._offer(alert)
        except Exception:
            # Nothing is logged here: a log handler is I/O, and somebody's code, on the caller's thread.
            return AlertReceipt(id=alert_id, accepted=False, reason="error")

    def _offer(self, alert: Alert) -> AlertReceipt:
        taken = self._crew.take(alert, keep=self._state == "running")
        if taken.channels:
            reason = "not_started" if self._state == "not_started" else "queued"
            if reason == "not_started" and alert.level >= AlertLevel.CRITICAL:
                self._remember(alert)
        elif self._state == "stopped" or Put.STOPPED in taken.puts:
            reason = "stopped"
            if alert.level >= AlertLevel.CRITICAL:
                last_words(alert)
        elif Put.DROPPED in taken.puts:
            reason = "dropped"
        else:
            reason = "deduplicated" if Put.DEDUPLICATED in taken.puts else "below_threshold"
        return AlertReceipt(
            id=alert.id,
            accepted=reason in ("queued", "not_started", "deduplicated"),
            durable=taken.durable,
            channels=taken.channels,
            reason=reason,
        )

    def _remember(self, alert: Alert) -> None:
        """Have a critical alert on standard error at the exit when nobody calls start() until then."""
        if len(self._never_told) < MOST_LINES:
            self._never_told.append(alert)
        if len(self._never_told) == 1:
            atexit.register(self._exit_hook)

    def _at_exit(self) -> None:
        if not self._crew.is_sending:
            while self._never_told:
                last_words(self._never_told.pop(0))
        self.stop()

    def resolve(self, dedup_key: str, message: str = "", *, source: AlertSource | str | None = None) -> bool:
        """
        The trouble with this dedup key is over; told to the channels that were told of it, and to no other.

        It never raises. What was not told yet is not told any more when it is below ERROR, else together with its end.
        An unknown key changes nothing.

        Args:
            dedup_key: As given to `send_alert`; or the title of alerts without one.
            message: How it ended.
            source: Only of this source; None: of any.

        Returns:
            Whether any channel knew of it.
        """
        try:
            key = freeze_text(dedup_key, MAX_TITLE, one_line=True)
            over = make_alert(
                id=new_id(),
                time=self._clock.time(),
                source="system" if source is None else source,
                level=AlertLevel.INFO,
                title=key,
                message=freeze_text(message, MAX_MESSAGE),
            )
            of = None if source is None else str(over.source)
            return self._crew.resolve(key, over=over, source=of)
        except Exception:
            return False

    def silence(
        self,
        seconds: float,
        *,
        source: AlertSource | str | None = None,
        title: str | None = None,
        dedup_key: str | None = None,
        include_critical: bool = False,
    ) -> str:
        """
        Tell nobody of such alerts for a while; they are counted.

        Args:
            seconds: How long, more than 0 and at most 30 days. Restarts end it.
            source: Only alerts of this source.
            title: Only with this title; ``*`` stands for any characters.
            dedup_key: Only with this dedup key.
            include_critical: CRITICAL alerts, too.

        Returns:
            An id for `unsilence`.

        Raises:
            ConfigError: `seconds` is out of its range, or what should be a text is none.
        """
        checks.number("silence: seconds", seconds, above=0, high=LONGEST_SILENCE)
        now = self._clock.monotonic()
        silence = Silence(
            id=new_id(),
            until=now + seconds,
            source=source_of_a_silence(source),
            title=text_of_a_silence("title", title),
            dedup_key=text_of_a_silence("dedup_key", dedup_key),
            include_critical=include_critical,
        )
        self._silences.add(silence, now)
        return silence.id

    def unsilence(self, silence_id: str) -> bool:
        """End a silence early; whether there was one."""
        return self._silences.remove(silence_id)

    def watch(self, watched: object) -> None:
        """
        Alert when a circuit breaker opens, a pool is exhausted or down, or a pipeline's outcome is unknown; and resolve
        it when that is over.

        Args:
            watched: A CircuitBreaker, a ConnectionPool or a TransactionVerificationPipeline.

        Raises:
            ConfigError: It is none of these.
        """
        watch(self, watched)

    def test(self, channel: str | None = None, *, timeout: float = 20.0) -> tuple[TestResult, ...]:
        """
        Send a test message through each channel now, past queues, thresholds and rules, and wait for the answers.

        Args:
            channel: Only this one, or those that its setting makes; None: all.
            timeout: Seconds for all of them together.

        Raises:
            ConfigError: There is no such channel.
        """
        guard_loggers()
        if channel is not None:
            checks.choice("channel", channel, sorted({name for w in self._crew.workers for name in (w.name, w.family)}))
        chosen = [worker for worker in self._crew.workers if channel in (None, worker.name, worker.family)]
        return try_channels([(worker.name, worker.channel) for worker in chosen], timeout=timeout, clock=self._clock)

    def stop(self, timeout: float | None = 5.0) -> None:
        """
        Refuse new alerts, send those that are queued, most important first, and end the threads.

        What is not sent after `timeout` seconds (None: no limit) stays in the spool for the next start, or is dropped,
        counted, and logged. It may be called again, from any thread, from a channel and from an exit handler; it
        starts no thread.
        """
        with self._lock:
            self._state = "stopped"
            self._resume = False
        atexit.unregister(self._exit_hook)
        self._crew.stop(timeout)

    def status(self) -> AlertSystemStatus:
        """A snapshot of every channel."""
        self._crew.catch_up()
        channels = {worker.name: worker.status() for worker in self._crew.workers}
        return AlertSystemStatus(
            state=self._state,
            channels=MappingProxyType(channels),
            silenced=self._silenced,
            silences=self._silences.present(self._clock.monotonic()),
            heartbeats=0 if self._crew.heartbeat is None else self._crew.heartbeat.beats,
            spool=None if self._crew.spool is None else self._crew.spool.status(),
        )

    def __enter__(self) -> AlertSystem:
        try:
            self.start()
        except BaseException:
            self.stop()  # there will be no __exit__
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<AlertSystem {self._state}: {', '.join(worker.name for worker in self._crew.workers) or 'no channel'}>"

    def _after_fork(self) -> None:
        """In the child: no thread of the parent's is here, and a lock may be held by one of them."""
        self._lock = threading.RLock()
        self._silences.renew_in_child()
        self._never_told.clear()
        self._crew.after_fork(stopped=self._state == "stopped")
        if self._state == "running":
            self._state = "not_started"
            self._resume = True


_systems: weakref.WeakSet[AlertSystem] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    known_secrets.renew_in_child()
    reseed_ids()
    for system in list(_systems):
        system._after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
