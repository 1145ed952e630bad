"""
`InMemoryMessageBus`: the message bus inside one process, with the contract of the one over a broker.

It keeps nothing on disk: what is queued when the process dies is gone, and `status().durable` says so.
"""

from __future__ import annotations

import contextlib
import heapq
import inspect
import itertools
import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hireliab.core import config as checks
from hireliab.core._threads import join_all
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import BusFullError, ClosedError, ConfigError, MessageDecodeError
from hireliab.messaging._memory_queue import Delivery, SubscriptionQueue
from hireliab.messaging.bus import (
    BusStatus,
    Handler,
    Message,
    PublishReceipt,
    PublishStatus,
    Reject,
    check_headers,
    check_pattern,
    check_topic,
    decode_data,
    encode_data,
    topic_matches,
)

_log = logging.getLogger("hireliab.bus")


@dataclass(frozen=True, kw_only=True)
class MemoryBusConfig:
    """
    Settings of an in-memory bus.

    Attributes:
        source: `Message.source` of what is published here.
        queue_size: Most messages that one subscription or group holds, those being handled included.
        max_message_bytes: Most bytes of a message's data as JSON.
        retry_delays: Seconds before the second, third, … attempt; after the last attempt comes the dead letter.
        dead_letters: Most dead letters that are kept; the oldest makes room.
    """

    source: str = "hireliab"
    queue_size: int = 1000
    max_message_bytes: int = 1_048_576
    retry_delays: Sequence[float] = (1.0, 5.0, 30.0)
    dead_letters: int = 1000

    def __post_init__(self) -> None:
        checks.text("source", self.source)
        checks.whole("queue_size", self.queue_size, low=1, high=1_000_000)
        checks.whole("max_message_bytes", self.max_message_bytes, low=1, high=16_777_216)
        checks.whole("dead_letters", self.dead_letters, low=0, high=100_000)
        if not isinstance(self.retry_delays, list | tuple):
            raise ConfigError("retry_delays must be a list of seconds", setting="retry_delays", value=self.retry_delays)
        delays = tuple(checks.number("retry_delays", delay, low=0, high=86_400) for delay in self.retry_delays)
        object.__setattr__(self, "retry_delays", delays)


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


class InMemoryMessageBus:
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
        self._lock = threading.Lock()  # guards every field below and every queue, subscription and condition
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
            id=uuid.uuid4().hex if message_id is None else checks.text("message_id", message_id),
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
                self._room, lambda: self._state != "running" or self._full_queue_locked(topic) is None, timeout
            )
            self._check_open_locked()
            full = self._full_queue_locked(topic)
            if full is not None:
                self._full += 1
                raise BusFullError(
                    f"bus {self.name!r}: the queue of {full.pattern!r} holds {self._config.queue_size} messages, {topic!r} "
                    "was not published; publish again later or make its handler faster"
                )
            queues = [queue for queue in self._queues if topic_matches(queue.pattern, topic)]
            for queue in queues:
                queue.accepted += 1
                queue.ready.append(Delivery(envelope, body))
                queue.changed.notify()
            returned = mandatory and not queues
            self._returned += returned
            self._published += not returned
        if returned:
            receipt.settle(PublishStatus.RETURNED, "no subscription matches")
        else:
            receipt.settle(PublishStatus.CONFIRMED)
        return receipt

    def publish_sync(
        self,
        topic: str,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        subject: str | None = None,
        message_id: str | None = None,
        mandatory: bool = False,
        timeout: float | None = 30.0,
    ) -> PublishReceipt:
        """See `MessageBus.publish_sync`; only a full queue makes it wait."""
        receipt = self.publish(
            topic,
            data,
            headers=headers,
            subject=subject,
            message_id=message_id,
            mandatory=mandatory,
            timeout=timeout,
        )
        receipt.result(0.0)
        return receipt

    def _full_queue_locked(self, topic: str) -> SubscriptionQueue | None:
        for queue in self._queues:
            if queue.held_locked() >= self._config.queue_size and topic_matches(queue.pattern, topic):
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
    ) -> _MemorySubscription:
        """See `MessageBus.subscribe`. Here `prefetch` is checked and has no effect: a thread takes one at a time."""
        check_pattern(pattern)
        _check_handler(handler)
        group = None if group is None else checks.text("group", group)
        concurrency = checks.whole("concurrency", concurrency, low=1, high=64)
        if prefetch is not None:
            checks.whole("prefetch", prefetch, low=concurrency, high=300)
        self._check_process()
        with self._lock:
            self._begin_locked()
            queue = self._queue_locked(pattern, group)
            subscription = _MemorySubscription(self, queue, handler)
            queue.members.append(subscription)
            subscription.alive = concurrency
            for _ in range(concurrency):
                thread = threading.Thread(
                    target=self._work,
                    args=(subscription,),
                    name=f"hireliab.bus.{self.name}-handler-{next(self._numbers)}",
                    daemon=True,
                )
                subscription.threads.append(thread)
                self._threads.add(thread)
        started = 0
        try:
            for thread in subscription.threads:
                thread.start()
                started += 1
        except BaseException:
            # The system gives no more threads: those that were not started will never report their end.
            with self._lock:
                subscription.alive -= concurrency - started
                self._threads.difference_update(subscription.threads[started:])
                del subscription.threads[started:]
            self._unsubscribe(subscription, 0.0)
            raise
        return subscription

    def _queue_locked(self, pattern: str, group: str | None) -> SubscriptionQueue:
        if group is not None:
            for queue in self._queues:
                if queue.group != group:
                    continue
                if queue.pattern != pattern:
                    raise ConfigError(
                        f"bus {self.name!r}: group {group!r} takes {queue.pattern!r} and cannot take {pattern!r} too; "
                        "use another group",
                        setting="group",
                        value=group,
                        allowed=queue.pattern,
                    )
                return queue
        queue = SubscriptionQueue(pattern, group, self._lock)
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
                delivery.attempt += 1
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
                        queue.in_flight -= 1
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
                if queue.ready:
                    queue.in_flight += 1
                    return queue.ready.popleft()
                if self._state == "stopping":
                    return None
                due = queue.next_due_locked()

                def woken(due: float | None = due) -> bool:
                    return (
                        bool(queue.ready)
                        or subscription.closed
                        or self._state != "running"
                        or queue.next_due_locked() != due
                    )

                self._clock.wait_for(queue.changed, woken, None if due is None else due - now)

    def _failed(
        self, queue: SubscriptionQueue, delivery: Delivery, message: Message, error: BaseException, *, last: bool
    ) -> None:
        reason = _describe(error)
        with self._lock:
            queue.in_flight -= 1
            queue.failures += 1
            if last:
                queue.dead_lettered += 1
                self._dead_letters.append(
                    DeadLetter(message=message, pattern=queue.pattern, group=queue.group, reason=reason)
                )
                then = "dead-lettered"
            elif self._state != "running" or not queue.members:
                queue.unfinished += 1
                then = "left unfinished, for the bus or the subscription ends"
            else:
                delay = self._retry_delays[delivery.attempt - 1]
                due = self._clock.monotonic() + delay
                heapq.heappush(queue.delayed, (due, next(self._numbers), delivery))
                queue.changed.notify_all()  # a thread that waits without limit must now wait until `due`
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


def _describe(error: BaseException) -> str:
    """The error in at most 500 characters; its `__str__` is the user's and may fail."""
    try:
        text = error.reason if isinstance(error, Reject) else f"{type(error).__name__}: {error}"
        return str(text)[:500]
    except Exception:
        return type(error).__name__


def _check_handler(handler: object) -> None:
    if not callable(handler):
        raise ConfigError("bus: the handler is not callable", setting="handler", allowed="a blocking callable")
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
        # Calling it would only make a coroutine that nobody runs, and acknowledge the message.
        raise ConfigError(
            "bus: the handler is a coroutine function; write it without async",
            setting="handler",
            allowed="a blocking callable",
        )
