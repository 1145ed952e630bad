"""
`InMemoryMessageBus`: the message bus inside one process, with the contract of the one over a broker.

It keeps nothing on disk: what is queued when the process dies is gone, and `status().durable` says so.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hireliab.core import config as checks
from hireliab.core._threads import join_all
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import BusFullError, ClosedError, MessageDecodeError
from hireliab.messaging._handlers import describe, handler_threads, start_all
from hireliab.messaging._memory_queue import Delivery, SubscriptionQueue
from hireliab.messaging._memory_settings import MemoryBusConfig
from hireliab.messaging._publish_sync import PublishSync
from hireliab.messaging.bus import (
    BusStatus,
    Handler,
    Message,
    PublishReceipt,
    PublishStatus,
    Reject,
    check_headers,
    check_message_id,
    check_same_group,
    check_subscribing,
    check_topic,
    decode_data,
    encode_data,
    topic_matches,
)

__all__ = ["DeadLetter", "InMemoryMessageBus", "MemoryBusConfig"]

_log = logging.getLogger("hireliab.bus")


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """
    A message that was given up.

    Attributes:
        message: As its handler saw it last.
        pattern: The subscription's pattern.
        group: The subscription's group, or None.
        reason: Why it was given up.
    """

    message: Message
    pattern: str
    group: str | None
    reason: str


class _MemorySubscription:
    """See `hireliab.messaging.bus.Subscription`; its mutable fields are guarded by the bus's lock."""

    def __init__(self, bus: InMemoryMessageBus, queue: SubscriptionQueue, handler: Handler) -> None:
        self.pattern = queue.pattern
        self.group = queue.group
        self.queue = queue
        self.handler = handler
        self.closed = False
        self.alive = 0  # handler threads that have not ended
        self.threads: list[threading.Thread] = []
        self._bus = bus

    def unsubscribe(self, timeout: float = 5.0) -> bool:
        """See `Subscription.unsubscribe`; what the last member of a queue leaves behind is counted as unfinished."""
        return self._bus._unsubscribe(self, timeout)


class InMemoryMessageBus(PublishSync):
    """
    A `MessageBus` inside this process: see there for what every method promises.

    A message is confirmed when every matching queue holds it; either all of them take it or none does. A queue
    that is full makes `publish` wait for at most its `timeout`, then raise BusFullError. A failed message waits
    for its next attempt without holding up those behind it. A group lives as long as it has a member.

    Args:
        name: Part of the names of its threads.
        config: A mapping of `MemoryBusConfig`'s settings, one of these, or None.
    """

    def __init__(
        self,
        *,
        name: str = "memory",
        config: MemoryBusConfig | Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = checks.text("name", name, most=60)
        self._config = checks.load(MemoryBusConfig, config, where=f"bus {name!r}")
        self._retry_delays = tuple(self._config.retry_delays)
        self._clock = clock
        self._pid = os.getpid()
        # Guards every field below and every queue, subscription and condition. Re-entrant, because a signal handler that
        # publishes or stops the bus may interrupt the thread that has it.
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)  # publishers wait here
        self._ended = threading.Condition(self._lock)  # stop() and unsubscribe() wait here
        self._state = "new"
        self._queues: list[SubscriptionQueue] = []
        self._threads: set[threading.Thread] = set()
        self._numbers = itertools.count()  # of handler threads and of deliveries
        self._published = 0
        self._returned = 0
        self._full = 0
        self._dead_letters: deque[DeadLetter] = deque(maxlen=self._config.dead_letters)

    # -- publishing ---------------------------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        subject: str | None = None,
        message_id: str | None = None,
        mandatory: bool = False,
        timeout: float | None = 0.0,
    ) -> PublishReceipt:
        """See `MessageBus.publish`. The receipt is settled when this returns."""
        envelope = Message(
            id=uuid.uuid4().hex if message_id is None else check_message_id(message_id),
            source=self._config.source,
            topic=check_topic(topic),
            time=self._clock.time(),
            subject=None if subject is None else checks.text("subject", subject),
            headers=check_headers(headers),
        )
        body = encode_data(data, limit=self._config.max_message_bytes)
        receipt = PublishReceipt(message_id=envelope.id, topic=topic, clock=self._clock)
        self._check_process()
        with self._lock:
            self._begin_locked()
            if threading.current_thread() in self._threads:
                timeout = 0.0  # a handler that waits for room may be what the room waits for
            self._clock.wait_for(
                self._room,
                lambda: self._state != "running" or self._full_queue_locked(topic, len(body)) is None,
                timeout,
            )
            self._check_open_locked()
            full = self._full_queue_locked(topic, len(body))
            if full is not None:
                self._full += 1
                raise BusFullError(
                    f"bus {self.name!r}: the queue of {full.pattern!r} holds {full.held_locked()} messages of "
                    f"{full.held_bytes} bytes, {topic!r} was not published; publish again later or make its handler faster"
                )
            queues = [queue for queue in self._queues if topic_matches(queue.pattern, topic)]
            for queue in queues:
                queue.accept_locked(Delivery(envelope, body))
            returned = mandatory and not queues
            self._returned += returned
            self._published += not returned
        if returned:
            receipt.settle(PublishStatus.RETURNED, "no subscription matches")
        else:
            receipt.settle(PublishStatus.CONFIRMED)
        return receipt

    def _full_queue_locked(self, topic: str, size: int) -> SubscriptionQueue | None:
        for queue in self._queues:
            if (
                queue.held_locked() >= self._config.queue_size or queue.held_bytes + size > self._config.queue_bytes
            ) and topic_matches(queue.pattern, topic):
                return queue
        return None

    # -- subscribing --------------------------------------------------------------------------------------------

    def subscribe(
        self,
        pattern: str,
        handler: Handler,
        *,
        group: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        in_order: bool = False,
    ) -> _MemorySubscription:
        """See `MessageBus.subscribe`. A thread takes one message at a time, so `prefetch` bounds nothing further."""
        concurrency, _ = check_subscribing(
            pattern, handler, group=group, concurrency=concurrency, prefetch=prefetch, in_order=in_order
        )
        self._check_process()
        with self._lock:
            self._begin_locked()
            queue = self._queue_locked(pattern, group, in_order=in_order)
            subscription = _MemorySubscription(self, queue, handler)
            queue.members.append(subscription)
            subscription.alive = concurrency
            subscription.threads = handler_threads(
                concurrency, partial(self._work, subscription), bus=self.name, numbers=self._numbers
            )
            self._threads.update(subscription.threads)
        start_all(list(subscription.threads), missing=partial(self._threads_missing, subscription))
        return subscription

    def _threads_missing(self, subscription: _MemorySubscription, threads: list[threading.Thread]) -> None:
        with self._lock:
            subscription.alive -= len(threads)
            self._threads.difference_update(threads)
            subscription.threads = [thread for thread in subscription.threads if thread not in threads]
        self._unsubscribe(subscription, 0.0)

    def _queue_locked(self, pattern: str, group: str | None, *, in_order: bool) -> SubscriptionQueue:
        if group is not None:
            for queue in self._queues:
                if queue.group == group:
                    theirs = queue.pattern, queue.in_order
                    check_same_group(self.name, group, theirs=theirs, ours=(pattern, in_order))
                    return queue
        queue = SubscriptionQueue(pattern, group, in_order=in_order, lock=self._lock)
        self._queues.append(queue)
        return queue

    def _unsubscribe(self, subscription: _MemorySubscription, timeout: float) -> bool:
        self._check_process()
        queue = subscription.queue
        with self._lock:
            if not subscription.closed:
                subscription.closed = True
                queue.members.remove(subscription)
                if not queue.members:
                    queue.leave_unfinished_locked()
                    self._queues.remove(queue)
                queue.changed.notify_all()
                self._room.notify_all()
            if threading.current_thread() in subscription.threads:
                return subscription.alive == 0  # a handler cannot wait for itself
            ended = self._clock.wait_for(self._ended, lambda: subscription.alive == 0, timeout)
            threads = list(subscription.threads)
        if ended:
            join_all(threads, timeout=1.0)  # they have nothing left to do but to return
        return ended

    # -- handling -----------------------------------------------------------------------------------------------

    def _work(self, subscription: _MemorySubscription) -> None:
        queue = subscription.queue
        try:
            while (delivery := self._take(subscription)) is not None:
                message = replace(delivery.envelope, attempt=delivery.attempt, redelivered=delivery.attempt > 1)
                try:
                    # Decoded anew for each delivery: handlers may change their copy.
                    message = replace(message, data=decode_data(delivery.body))
                    subscription.handler(message)
                except (Reject, MessageDecodeError) as error:
                    self._failed(queue, delivery, message, error, last=True)
                except BaseException as error:
                    # Also SystemExit, which a thread would swallow together with itself and all later messages.
                    self._failed(queue, delivery, message, error, last=delivery.attempt > len(self._retry_delays))
                else:
                    with self._lock:
                        queue.leave_locked(delivery)
                        queue.acked += 1
                        self._room.notify_all()
        finally:
            with self._lock:
                subscription.alive -= 1
                self._threads.discard(threading.current_thread())
                self._ended.notify_all()

    def _take(self, subscription: _MemorySubscription) -> Delivery | None:
        """The next message, waiting for it; None when this thread should end."""
        queue = subscription.queue
        with self._lock:
            while True:
                if subscription.closed or self._state == "stopped":
                    return None
                now = self._clock.monotonic()
                queue.promote_due_locked(now)
                if queue.may_take_locked(subscription):
                    return queue.take_locked()
                if self._state == "stopping":
                    return None
                due = queue.next_due_locked()

                def woken(due: float | None = due) -> bool:
                    return (
                        subscription.closed
                        or queue.may_take_locked(subscription)
                        or self._state != "running"
                        or queue.next_due_locked() != due
                    )

                self._clock.wait_for(queue.changed, woken, None if due is None else due - now)

    def _failed(
        self, queue: SubscriptionQueue, delivery: Delivery, message: Message, error: BaseException, *, last: bool
    ) -> None:
        reason = describe(error)
        with self._lock:
            queue.failures += 1
            if last:
                queue.leave_locked(delivery)
                queue.dead_lettered += 1
                self._dead_letters.append(
                    DeadLetter(message=message, pattern=queue.pattern, group=queue.group, reason=reason)
                )
                then = "dead-lettered"
            elif self._state != "running" or not queue.members:
                queue.leave_locked(delivery)
                queue.unfinished += 1
                if queue.in_order:
                    queue.leave_unfinished_locked()  # nothing overtakes it
                then = "left unfinished, for the bus or the subscription ends"
            else:
                delay = self._retry_delays[delivery.attempt - 1]
                due = self._clock.monotonic() + delay
                queue.delay_locked(due, next(self._numbers), delivery)
                then = f"again in {delay:g} s"
            self._room.notify_all()
        with contextlib.suppress(Exception):  # a broken log handler must not end this thread; the failure is counted
            _log.warning(
                "bus %r: handler of %r failed with message %s on %r, attempt %d; %s",
                self.name,
                queue.pattern,
                message.id,
                message.topic,
                message.attempt,
                then,
                exc_info=error,
            )

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """See `MessageBus.start`."""
        self._check_process()
        with self._lock:
            self._begin_locked()

    def stop(self, timeout: float = 5.0) -> None:
        """See `MessageBus.stop`. Messages that wait for another attempt are left over at once."""
        if self._pid != os.getpid():
            return  # the parent's threads are not here, and its lock may be
        with self._lock:
            if self._state in ("new", "running"):
                self._state = "stopping"
                self._wake_all_locked()
            if threading.current_thread() in self._threads:
                return
            ended = self._clock.wait_for(self._ended, self._idle_locked, timeout)
            first = self._state != "stopped"
            self._state = "stopped"
            for queue in self._queues:
                queue.leave_unfinished_locked()
            self._wake_all_locked()
            unfinished = sum(queue.unfinished for queue in self._queues)
            threads = list(self._threads)
            finished = [t for queue in self._queues for member in queue.members for t in member.threads]
        if ended:
            join_all(finished, timeout=1.0)  # they have nothing left to do but to return
        if first and (threads or unfinished):
            _log.warning(
                "bus %r: stopped with %d messages unfinished and %d handlers still running",
                self.name,
                unfinished,
                len(threads),
            )

    def status(self) -> BusStatus:
        """See `MessageBus.status`."""
        self._check_process()
        with self._lock:
            return BusStatus(
                name=self.name,
                state=self._state,
                durable=False,
                published=self._published,
                returned=self._returned,
                full=self._full,
                subscriptions=tuple(queue.status_locked() for queue in self._queues),
            )

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The latest dead letters, oldest first; at most as many as configured are kept."""
        self._check_process()
        with self._lock:
            return tuple(self._dead_letters)

    def __enter__(self) -> InMemoryMessageBus:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<InMemoryMessageBus {self.name!r}: {self._state}>"

    def _begin_locked(self) -> None:
        self._check_open_locked()
        self._state = "running"

    def _check_open_locked(self) -> None:
        if self._state in ("stopping", "stopped"):
            raise ClosedError(f"bus {self.name!r}: stopped; make a new one")

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            # Its threads stayed with the parent, and its lock may have been held at the fork: touch neither.
            raise ClosedError(f"bus {self.name!r}: belongs to process {self._pid}; make a new one after a fork")

    def _idle_locked(self) -> bool:
        return not self._threads

    def _wake_all_locked(self) -> None:
        for queue in self._queues:
            queue.changed.notify_all()
        self._room.notify_all()
        self._ended.notify_all()
