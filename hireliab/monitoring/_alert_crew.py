"""Everything of an alert system that has threads or files: channels, watchdog, heartbeat and spool, as one."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from hireliab.core._threads import join_all
from hireliab.core.clock import Clock
from hireliab.monitoring._alert_failover import Failover
from hireliab.monitoring._alert_heartbeat import Heartbeat
from hireliab.monitoring._alert_inbox import Inbox
from hireliab.monitoring._alert_replay import Replay
from hireliab.monitoring._alert_settings import AlertConfig, plan_channels
from hireliab.monitoring._alert_watchdog import Rounds, Watchdog
from hireliab.monitoring._channel_queue import Ticket
from hireliab.monitoring._channel_status import Put, drop_announcement, new_id
from hireliab.monitoring._channel_work import Offer
from hireliab.monitoring._channel_worker import ChannelWorker
from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.monitoring.alert_groups import Groups
from hireliab.monitoring.alert_spool import AlertSpool

_log = logging.getLogger("hireliab.alerts")

SPOOL_WAIT = 0.02
"""Seconds that the caller of an alert of ERROR or more waits until it is on the disk. Source: alerts-and-bus.md R1."""
OVERTAKE = 0.005
"""Seconds that it waits before, for what was said of the same trouble just now; overtaken, that is only counted later."""
CATCH_UP = 1.0
"""The same, of whoever wants to know, or resolves, what was said so far."""


@dataclass(frozen=True)
class Taken:
    """
    What became of an alert.

    Attributes:
        channels: Those that have queued it.
        durable: Whether it is on the disk.
        puts: What became of it, by channel.
    """

    channels: tuple[str, ...]
    durable: bool
    puts: tuple[Put, ...]


class Crew:
    """
    Args:
        config: Checked settings.

    Raises:
        ConfigError: A channel's URL is missing or cannot be read.
        MissingDependencyError: A channel has a URL, and apprise is not installed.
    """

    def __init__(self, config: AlertConfig, *, clock: Clock) -> None:
        self._clock = clock
        plans = plan_channels(config, clock)
        folder = config.spool_folder()
        self.spool = None if folder is None else AlertSpool(folder, clock=clock)
        self.failover = Failover(stand_ins=config.failover_of, clock=clock)
        self._watchdog = Watchdog(clock=clock)
        self.workers = tuple(
            ChannelWorker(
                name=plan.name,
                family=plan.family,
                channel=plan.channel,
                threshold=plan.threshold,
                rate=plan.rate,
                size=config.queue_size,
                clock=clock,
                make_groups=_groups_of(config),
                store=self.spool,
                wake_by=self._watchdog.wake_by,
                fail_over=self.failover.take,
            )
            for plan in plans
        )
        self.failover.workers = self.workers
        self._wanting = {level: tuple(one for one in self.workers if level >= one.threshold) for level in AlertLevel}
        # Without `group_wait` an alert is told at once, and there is nothing to win.
        self._inbox = Inbox(deliver=self._deliver, wait=config.group_wait, clock=clock) if config.group_wait else None
        self._replay = Replay(spool=self.spool, workers=self.workers, clock=clock)
        self._rounds = Rounds(
            workers=self.workers, failover=self.failover, replay=self._replay, spool=self.spool, clock=clock
        )
        self._watchdog.step = self._look
        self._watchdog.after = self._close_late
        self._stopped_by_a_channel = False
        # What a signal handler or a finaliser brought that interrupted a thread as it held one of our locks. Two such
        # threads would wait for each other, each for the other's lock, so neither asks for one: see `_put_off`.
        self._later: deque[Callable[[], object]] = deque()
        self._closing = False
        beat = None if config.heartbeat is None else config.heartbeat_settings()
        self.heartbeat = None if beat is None else Heartbeat(url=beat[0], every=beat[1], clock=clock)
        self._note_locks()

    def start(self) -> None:
        """
        Open the spool, have the channels know what they were told, and start every thread.

        What is done is not done again: a call that was cut short is finished by the next.
        """
        self._replay.open()
        for worker in self.workers:
            worker.start()
        self._watchdog.start()
        if self._inbox is not None:
            self._inbox.start()
        if self.heartbeat is not None:
            self.heartbeat.start()

    @property
    def is_sending(self) -> bool:
        """Whether every channel has its thread, so that what is queued is told."""
        return all(worker.thread is not None for worker in self.workers)

    def take(self, alert: Alert, *, keep: bool) -> Taken:
        """
        Give an alert to every channel that wants it.

        Args:
            alert: The alert.
            keep: Whether the spool is open for it.
        """
        if self._is_interrupting():
            return self._take_later(alert, keep=keep)
        if self._later:
            self._watchdog.wake_by(self._clock.monotonic())  # it may have missed its call
        if self._inbox is not None:
            key = (str(alert.source), alert.dedup_key or alert.title)
            if alert.level < AlertLevel.ERROR:
                taken = self._leave(self._inbox, alert, key)
                if taken is not None:
                    return taken
            elif self._inbox.level_of(key) is not None:
                self._inbox.flush(OVERTAKE)
        return self._offer(alert, keep=keep)

    def resolve(self, key: str, *, over: Alert, source: str | None) -> bool:
        """The trouble is over; whether a channel knew of it, or will look whether it did."""
        if self._is_interrupting():
            return self._put_off(functools.partial(self.resolve, key, over=over, source=source))
        self.catch_up()
        known = [worker.resolve(key, over=over, source=source) for worker in self.workers]
        return any(known)

    def catch_up(self) -> None:
        """Have every channel know what was said until now."""
        if not self._is_interrupting():
            self._make_up()
        if self._inbox is not None:
            self._inbox.flush(CATCH_UP)

    def _is_interrupting(self) -> bool:
        """Whether this call interrupts its own thread as it holds one of our locks."""
        return True in [owns() for owns in self._owns]

    def _note_locks(self) -> None:
        locks = [worker.lock for worker in self.workers]
        locks += [self._watchdog.lock, *(() if self._inbox is None else self._inbox.locks)]
        # Python has no public way to ask; Condition asks so, too.
        self._owns: list[Callable[[], bool]] = [lock._is_owned for lock in locks]  # type: ignore[attr-defined]

    def _take_later(self, alert: Alert, *, keep: bool) -> Taken:
        """Of its level alone, like every look that takes no lock; the receipt says that it is not on the disk yet."""
        wanting = self._wanting[alert.level]
        if not wanting:
            return Taken((), False, (Put.BELOW_THRESHOLD,))
        if not self._put_off(functools.partial(self._offer, alert, keep=keep, at=self._clock.monotonic())):
            return Taken((), False, (Put.STOPPED,))
        return Taken(tuple([worker.name for worker in wanting]), False, (Put.QUEUED,))

    def _put_off(self, act: Callable[[], object]) -> bool:
        """Leave it to the watchdog, whose lock is held by nobody who asks for another; False once all is closed."""
        self._later.append(act)
        if not self._closing:
            self._watchdog.wake_by(self._clock.monotonic())
            return True
        try:
            self._later.remove(act)
        except ValueError:
            return True  # stop() has found it
        return False

    def _make_up(self) -> None:
        while self._later:
            try:
                act = self._later.popleft()
            except IndexError:  # another thread came before
                return
            act()

    def _look(self) -> float | None:
        self._make_up()
        return self._rounds()

    def _leave(self, inbox: Inbox, alert: Alert, key: tuple[str, str]) -> Taken | None:
        """Leave an alert in the inbox, and say what will become of it; None when the inbox does not take it."""
        now, level = self._clock.monotonic(), alert.level
        before = inbox.level_of(key)
        wanting = self._wanting[level]
        if not inbox.put(alert, key, now):
            return None
        if not wanting:
            return Taken((), False, (Put.BELOW_THRESHOLD,))
        if before is not None and before >= level:
            return Taken((), False, (Put.DEDUPLICATED,))
        news = tuple([worker.name for worker in wanting if not worker.would_count(key, level, now)])
        return Taken(news, False, (Put.QUEUED if news else Put.DEDUPLICATED,))

    def _deliver(self, alert: Alert, at: float) -> None:
        self._offer(alert, keep=False, at=at)

    def _offer(self, alert: Alert, *, keep: bool, at: float | None = None) -> Taken:
        offers: list[tuple[ChannelWorker, Offer]] = []
        ticket: Ticket | None = None
        puts = []
        try:
            for worker in self.workers:
                offers.append((worker, worker.offer(alert, at=at)))  # noqa: PERF401 - those made before Ctrl-C count
            if keep and self.spool is not None and alert.level >= AlertLevel.ERROR:
                takers = [worker.name for worker, offer in offers if offer.needs_push]
                ticket = self.spool.add(alert, takers) if takers else None
        finally:
            # Also when a signal handler raises in between: what was offered counts as told to its group.
            for worker, offer in offers:
                put, announce = worker.push(offer, alert, ticket)
                puts.append(put)
                if announce:
                    announcement = drop_announcement(worker.name, time=alert.time)
                    for other in self.workers:
                        if other is not worker:
                            other.put(announcement)
        queued = tuple(worker.name for (worker, _), put in zip(offers, puts, strict=True) if put is Put.QUEUED)
        return Taken(queued, ticket is not None and ticket.wait(SPOOL_WAIT), tuple(puts))

    def stop(self, timeout: float | None) -> None:
        """Send what is queued, end every thread, and say what is left."""
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        self._closing = True
        self._make_up()
        if self._inbox is not None:
            self._inbox.close(CATCH_UP)
        for worker in self.workers:
            worker.close()
        # A channel that calls stop() cannot wait for itself: its queue is emptied after it returns.
        others = [worker for worker in self.workers if worker.thread is not threading.current_thread()]
        self._stopped_by_a_channel = len(others) < len(self.workers)
        self._watchdog.stop()
        if self.heartbeat is not None:
            self.heartbeat.stop()
        ended = [worker for worker in others if worker.wait_ended(self._left(deadline))]
        left = [(worker, *worker.abandon()) for worker in others]
        own = (None if self._stopped_by_a_channel else self._watchdog, self.heartbeat, self._inbox)
        helpers = [one.thread for one in own if one is not None]
        join_all([thread for thread in [*(w.thread for w in ended), *helpers] if thread is not None], timeout=1.0)
        if self.spool is not None and not self._stopped_by_a_channel:
            self.spool.close(max(1.0, self._left(deadline) or 0.0))
        for worker, kept, lost in left:
            if worker in ended:
                _close(worker)
            if kept or lost or worker not in ended:
                _log.warning(
                    "alert channel %r: stopped with %d alerts not sent%s%s",
                    worker.name,
                    kept + lost,
                    f", {kept} of them kept for the next start" if kept else "",
                    "" if worker in ended else " and one send still running",
                )

    def _close_late(self) -> None:
        """On the watchdog's thread, its last act: the channel that called stop() had still to send, and to settle."""
        if self.spool is not None and self._stopped_by_a_channel:
            for worker in self.workers:
                worker.wait_ended(None)
            self.spool.close(1.0)

    def after_fork(self, *, stopped: bool) -> None:
        """In the child: no thread of the parent's is here, and a lock may be held by one of them."""
        self._later.clear()  # the parent tells of it
        self.failover.renew_in_child()
        self._replay.reset()
        self._watchdog.reset()
        if self._inbox is not None:
            self._inbox.reset()
        if self.heartbeat is not None:
            self.heartbeat.reset()
        if self.spool is not None:
            self.spool.after_fork()
        for worker in self.workers:
            worker.reset()
            if stopped:
                worker.close()
        self._note_locks()

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else max(0.0, deadline - self._clock.monotonic())


def _groups_of(config: AlertConfig) -> Callable[[], Groups]:
    def make() -> Groups:
        return Groups(
            make_id=new_id,
            group_wait=config.group_wait,
            group_interval=config.group_interval,
            repeat_interval=config.repeat_interval,
        )

    return make


def _close(worker: ChannelWorker) -> None:
    """Let a channel give back what it has, if it can."""
    close = getattr(worker.channel, "close", None)
    if callable(close) and not isinstance(worker.channel, type):
        with contextlib.suppress(Exception):
            close()
