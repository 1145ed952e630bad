"""
Subscriptions: each has a channel of its own, a few handler threads, and a queue as long as its prefetch between them.

A message is acknowledged when its handler has returned. One that fails stays in hand for its pauses and is then
published to the dead letters with the reason, before it is acknowledged: a crash in between doubles it, and loses
nothing. A connection that breaks takes its unanswered messages back; the broker delivers them again.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import random
import threading
from dataclasses import replace
from functools import partial

from hireliab.core._threads import join_all
from hireliab.core.clock import Clock
from hireliab.errors import ClosedError, MessageDecodeError, TopologyError
from hireliab.messaging._handlers import describe, handler_threads, start_all
from hireliab.messaging.bus import (
    Handler,
    Message,
    PublishReceipt,
    PublishStatus,
    Reject,
    SubscriptionStatus,
    check_same_group,
)
from hireliab.messaging.rabbitmq import publisher as publishers
from hireliab.messaging.rabbitmq._backoff import Backoff
from hireliab.messaging.rabbitmq._dead_letter import dead_letter
from hireliab.messaging.rabbitmq._envelope import read_message
from hireliab.messaging.rabbitmq._lanes import ACK, REJECT, REQUEUE, Lanes
from hireliab.messaging.rabbitmq._outgoing import Outgoing
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._subscription import Delivery, RabbitMQSubscription
from hireliab.messaging.rabbitmq._url import Address

_log = logging.getLogger("hireliab.bus")

PARTING = 1.0
"""Seconds at most until the broker has closed the channels that it must."""

OPEN_TIMEOUT = 5.0
"""Seconds that `subscribe` waits for the broker; a subscription that is opened later than that is none the worse."""


class Consumer:
    """
    The subscriptions of a bus, and the threads that run their handlers.

    Args:
        name: The bus's.
        addresses: The brokers.
        config: The bus's settings.
        publisher: Publishes the dead letters.
    """

    def __init__(
        self,
        *,
        name: str,
        addresses: tuple[Address, ...],
        config: RabbitMQConfig,
        publisher: publishers.Publisher,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._name = name
        self._pid = os.getpid()
        self._delays = tuple(config.retry_delays)
        self._publisher = publisher
        self._clock = clock
        self._rng = rng
        self._lanes = Lanes(name=name, addresses=addresses, config=config, clock=clock, rng=rng)
        self.connection = self._lanes.connection
        self._lock = self._lanes.lock  # guards the fields below, too
        self._subscriptions = self._lanes.subscriptions
        self._ended = threading.Condition(self._lock)  # stop() and unsubscribe() wait here
        self._state = "running"
        self._threads: set[threading.Thread] = set()
        self._numbers = itertools.count()  # of handler threads and of delayed messages

    # -- for any thread -------------------------------------------------------------------------------------------

    def subscribe(
        self,
        pattern: str,
        handler: Handler,
        *,
        group: str | None,
        concurrency: int,
        prefetch: int,
        in_order: bool = False,
    ) -> RabbitMQSubscription:
        """See `MessageBus.subscribe`; the arguments are checked."""
        with self._lock:
            self._check_open_locked()
            for other in self._subscriptions:
                if group is not None and other.group == group:
                    theirs = other.pattern, other.in_order
                    check_same_group(self._name, group, theirs=theirs, ours=(pattern, in_order))
            subscription = RabbitMQSubscription(
                self,
                pattern,
                handler,
                group=group,
                concurrency=concurrency,
                prefetch=prefetch,
                in_order=in_order,
                lock=self._lock,
                backoff=Backoff(self._rng),
            )
            self._subscriptions.append(subscription)
            subscription.threads = handler_threads(
                concurrency, partial(self._work, subscription), bus=self._name, numbers=self._numbers
            )
            self._threads.update(subscription.threads)
        start_all(list(subscription.threads), missing=partial(self._threads_missing, subscription))
        self.connection.start()
        with self._lock:
            self._lanes.open_locked(subscription)
            wake = self._lanes.wake_locked()
        if wake:
            self.connection.wake()
        with self._lock:
            self._clock.wait_for(
                self._lanes.opening,
                lambda: (
                    subscription.is_ready
                    or subscription.failure is not None
                    or subscription.closed
                    or self._lanes.away
                    or not self._lanes.taking
                ),
                OPEN_TIMEOUT,
            )
            failure, ready = subscription.failure, subscription.is_ready
        if failure is not None and failure.refused:
            self.unsubscribe(subscription, 0.0)
            raise failure.error or TopologyError(f"bus {self._name!r}: the broker refuses {pattern!r}: {failure.text}")
        if not ready:
            _log.warning("bus %r: %r is not at the broker yet; it will be as soon as that answers", self._name, pattern)
        return subscription

    def _threads_missing(self, subscription: RabbitMQSubscription, threads: list[threading.Thread]) -> None:
        with self._lock:
            subscription.alive -= len(threads)
            self._threads.difference_update(threads)
            subscription.threads = [thread for thread in subscription.threads if thread not in threads]
        self.unsubscribe(subscription, 0.0)

    def unsubscribe(self, subscription: RabbitMQSubscription, timeout: float) -> bool:
        """See `Subscription.unsubscribe`."""
        if self._pid != os.getpid():
            raise ClosedError(f"bus {self._name!r}: belongs to process {self._pid}; make a new one after a fork")
        with self._lock:
            if not subscription.closed:
                subscription.closed = True
                self._subscriptions.remove(subscription)
                self._lanes.cancel_locked(subscription)
                self._lanes.answer_locked(REQUEUE, subscription.give_up_waiting_locked())
                subscription.changed.notify_all()
                self._lanes.opening.notify_all()
            wake = self._lanes.wake_locked()
            inside = threading.current_thread() in subscription.threads
        if wake:
            self.connection.wake()
        with self._lock:
            # A handler cannot wait for itself.
            ended = self._clock.wait_for(self._ended, lambda: not subscription.alive, 0.0 if inside else timeout)
            threads = list(subscription.threads)
        if ended and not inside:
            join_all(threads, timeout=1.0)  # they have nothing left to do but to return
        return ended

    def bind_again(self) -> None:
        """Bind every queue again soon: the exchange was gone."""
        with self._lock:
            self._lanes.bind_again_locked()
            wake = self._lanes.wake_locked()
        if wake:
            self.connection.wake()

    def is_handler(self) -> bool:
        """Whether the calling thread runs handlers of this bus."""
        return threading.current_thread() in self._threads

    def stop(self, timeout: float) -> bool:
        """
        Take no further messages, hand out those in hand, and end the connection; whether every handler has ended.

        What no handler has begun by then goes back to its queue. Not in a handler.
        """
        deadline = self._clock.monotonic() + timeout
        with self._lock:
            if self._state != "stopped":  # "stopping": one that was cut short
                self._state = "stopping"
                self._lanes.taking = False
                for subscription in self._subscriptions:
                    self._lanes.cancel_locked(subscription)
                    # Those that wait for another attempt would wait longer than we do.
                    self._lanes.answer_locked(REQUEUE, subscription.give_up_waiting_locked(delayed_only=True))
                    subscription.changed.notify_all()
            wake = self._lanes.wake_locked()
        if wake:
            self.connection.wake()
        with self._lock:
            ended = self._clock.wait_for(self._ended, self._idle_locked, timeout)
            self._state = "stopped"
            self._lanes.dropping = True
            for subscription in self._subscriptions:
                self._lanes.answer_locked(REQUEUE, subscription.give_up_waiting_locked())
                subscription.changed.notify_all()
            self._lanes.opening.notify_all()
            threads = [thread for subscription in self._subscriptions for thread in subscription.threads]
        if ended:
            join_all(threads, timeout=1.0)
        if self.connection.connected:
            self._part(deadline)
        self.connection.close(max(0.5, deadline - self._clock.monotonic()))
        return ended

    def _part(self, deadline: float) -> None:
        """Let the broker take back in order what must stay in order, with the last answers known to it."""

        def left() -> float:
            return max(0.0, deadline - self._clock.monotonic())

        with self._lock:
            self._clock.wait_for(self._lanes.opening, lambda: self._lanes.away, min(self._lanes.rest_locked(), left()))
            ends = self._lanes.end_locked()
            wake = self._lanes.wake_locked()
        if wake:
            self.connection.wake()
        if ends:
            with self._lock:
                self._clock.wait_for(self._lanes.opening, self._lanes.is_ended_locked, min(PARTING, left()))

    def status(self) -> tuple[tuple[SubscriptionStatus, ...], int]:
        """Every subscription, and how many handler threads there are."""
        with self._lock:
            return tuple(one.status_locked() for one in self._subscriptions), len(self._threads)

    def _idle_locked(self) -> bool:
        return not self._threads and not any(one.in_flight for one in self._subscriptions)

    def _check_open_locked(self) -> None:
        if self._state != "running":
            raise ClosedError(f"bus {self._name!r}: stopped; make a new one")

    # -- on handler threads ---------------------------------------------------------------------------------------

    def _work(self, subscription: RabbitMQSubscription) -> None:
        delivery: Delivery | None = None
        try:
            while (delivery := self._next(subscription, delivery)) is not None:
                delivery = self._handle(subscription, delivery)
        finally:
            with self._lock:
                subscription.alive -= 1
                self._threads.discard(threading.current_thread())
                self._ended.notify_all()
                self._let_go_locked(subscription)
                wake = self._lanes.wake_locked()
            if wake:
                self.connection.wake()

    def _let_go_locked(self, subscription: RabbitMQSubscription) -> None:
        """Close the channel of a closed subscription that has nothing in hand any more."""
        if subscription.closed and not subscription.alive and not subscription.in_flight:
            self._lanes.close_locked(subscription)

    def _next(self, subscription: RabbitMQSubscription, handled: Delivery | None) -> Delivery | None:
        """Acknowledge what was handled; then the next message, waiting for it. None: the thread should end."""
        with self._lock:
            if handled is None or not self._handled_locked(subscription, handled):
                return self._take_locked(subscription)
        self.connection.wake()  # not under the lock; one time of many
        with self._lock:
            return self._take_locked(subscription)

    def _handled_locked(self, subscription: RabbitMQSubscription, delivery: Delivery) -> bool:
        subscription.in_flight -= 1
        if delivery.failures and delivery.message is not None:
            subscription.failed.pop((delivery.message.source, delivery.message.id), None)
        if not delivery.lane.open:
            # Its channel is gone: the broker delivers it again, and the number may mean another message by now.
            subscription.stale += 1
            subscription.unfinished += 1
            return False
        subscription.acked += 1
        self._lanes.answer_locked(ACK, (delivery,))
        return self._lanes.wake_locked()

    def _take_locked(self, subscription: RabbitMQSubscription) -> Delivery | None:
        while True:
            if subscription.closed or self._state == "stopped":
                return None
            if subscription.delayed:
                subscription.promote_due_locked(self._clock.monotonic())
            if subscription.ready:
                subscription.in_flight += 1
                return subscription.ready.popleft()
            if self._state == "stopping":
                return None
            due = subscription.delayed[0][0] if subscription.delayed else None

            def woken(due: float | None = due) -> bool:
                return (
                    bool(subscription.ready)
                    or subscription.closed
                    or self._state != "running"
                    or (subscription.delayed[0][0] if subscription.delayed else None) != due
                )

            left = None if due is None else max(0.0, due - self._clock.monotonic())
            self._clock.wait_for(subscription.changed, woken, left)

    def _handle(self, subscription: RabbitMQSubscription, delivery: Delivery) -> Delivery | None:
        """Run the handler; the delivery comes back when it is to be acknowledged."""
        try:
            message = read_message(
                delivery.properties,
                delivery.body,
                redelivered=delivery.redelivered or delivery.failures > 0,
                attempt=delivery.failures + 1,
            )
            if subscription.failed and not delivery.failures:
                message = self._recall(subscription, delivery, message)
            delivery.message = message
            subscription.handler(message)
        except (Reject, MessageDecodeError) as error:
            self._failed(subscription, delivery, error, last=True)
            return None
        except BaseException as error:
            # Also SystemExit, which a thread would swallow together with itself and all later messages.
            self._failed(subscription, delivery, error, last=delivery.failures >= len(self._delays))
            return None
        return delivery

    def _recall(self, subscription: RabbitMQSubscription, delivery: Delivery, message: Message) -> Message:
        """A message that failed on an earlier connection goes on counting its failures from there."""
        with self._lock:
            delivery.failures = subscription.failed.get((message.source, message.id), 0)
        if not delivery.failures:
            return message
        return replace(message, attempt=message.attempt + delivery.failures, redelivered=True)

    def _failed(
        self, subscription: RabbitMQSubscription, delivery: Delivery, error: BaseException, *, last: bool
    ) -> None:
        reason = describe(error)
        message = delivery.message
        delivery.failures += 1
        wake = False
        with self._lock:
            subscription.failures += 1
            if message is not None:
                subscription.remember_failure_locked((message.source, message.id), delivery.failures)
            if not delivery.lane.open:
                subscription.in_flight -= 1
                subscription.stale += 1
                subscription.unfinished += 1
                then = "the broker delivers it again, for its connection is gone"
            elif last:
                then = "dead-lettered"
            elif self._state != "running" or subscription.closed:
                subscription.in_flight -= 1
                subscription.unfinished += 1
                self._lanes.answer_locked(REQUEUE, [delivery])
                wake = self._lanes.wake_locked()
                then = "given back, for the bus or the subscription ends"
            else:
                subscription.in_flight -= 1
                delay = self._delays[delivery.failures - 1]
                due = self._clock.monotonic() + delay
                heapq.heappush(subscription.delayed, (due, next(self._numbers), delivery))
                subscription.changed.notify_all()  # a thread that waits without limit must now wait until `due`
                self._lanes.widen_locked(subscription)
                wake = self._lanes.wake_locked()
                then = f"again in {delay:g} s"
        if wake:
            self.connection.wake()
        if then == "dead-lettered":
            self._bury(subscription, delivery, reason)
        with contextlib.suppress(Exception):  # a broken log handler must not end this thread; the failure is counted
            _log.warning(
                "bus %r: handler of %r failed with message %s, attempt %d; %s",
                self._name,
                subscription.pattern,
                None if message is None else message.id,
                delivery.failures,
                then,
                exc_info=error,
            )

    def _bury(self, subscription: RabbitMQSubscription, delivery: Delivery, reason: str) -> None:
        """Publish a dead letter; the message is acknowledged when that is confirmed."""
        wire, message_id = dead_letter(
            publishers.CHANNEL,
            delivery.lane.topology,
            delivery.properties,
            delivery.body,
            reason=reason,
            attempts=delivery.failures,
        )
        receipt = PublishReceipt(message_id=message_id, topic=delivery.lane.topology.dead_key, clock=self._clock)

        def done(status: PublishStatus, why: str) -> None:
            self._buried(subscription, delivery, status, why)

        self._publisher.send_own(Outgoing(receipt, wire, None, True, done))

    # -- on the publisher's thread --------------------------------------------------------------------------------

    def _buried(self, subscription: RabbitMQSubscription, delivery: Delivery, status: PublishStatus, why: str) -> None:
        with self._lock:
            subscription.in_flight -= 1
            if not delivery.lane.open:
                subscription.stale += 1
                subscription.unfinished += 1
            elif status in (PublishStatus.UNKNOWN, PublishStatus.REJECTED):
                subscription.unfinished += 1
                self._lanes.answer_locked(REQUEUE, [delivery])
            else:
                subscription.dead_lettered += 1
                if delivery.message is not None:
                    subscription.failed.pop((delivery.message.source, delivery.message.id), None)
                # Where we could not publish it, the broker moves it by itself, without our reason.
                self._lanes.answer_locked(ACK if status is PublishStatus.CONFIRMED else REJECT, [delivery])
            self._let_go_locked(subscription)
            wake = self._lanes.wake_locked()
            self._ended.notify_all()
        if wake:
            self.connection.wake()
        if status is not PublishStatus.CONFIRMED:
            _log.warning("bus %r: a dead letter of %r was %s: %s", self._name, subscription.pattern, status.value, why)
