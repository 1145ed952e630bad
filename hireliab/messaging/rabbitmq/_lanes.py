"""
The connection of a bus that consumes: a channel for each subscription, and the answers that go back over it.

What a channel brought can be answered on that channel only. When it closes, the broker takes back what was not
answered and delivers it again; a subscription whose channel closed gets another, for as long as it wants one.
"""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from hireliab.core.clock import Clock
from hireliab.messaging.rabbitmq import _frames as frames
from hireliab.messaging.rabbitmq._declare import declare
from hireliab.messaging.rabbitmq._failures import Failure, failure_of
from hireliab.messaging.rabbitmq._link import Link
from hireliab.messaging.rabbitmq._readers import Delivered, DeliveryReader
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._subscription import Delivery, Lane, RabbitMQSubscription
from hireliab.messaging.rabbitmq._url import Address
from hireliab.messaging.rabbitmq.connection import BrokerConnection
from hireliab.messaging.rabbitmq.topology import subscribing

_log = logging.getLogger("hireliab.bus")

STUCK = 30.0
"""Seconds after which a channel that does not open is a broken connection."""

BIND_AGAIN = 30.0
"""
Seconds between two bindings of the same queue. Who deletes an exchange deletes its bindings, and the broker tells no
consumer of it.
"""

REST = 0.3
"""
Seconds that a channel which the broker is made to close, see `_close`, stays open behind its last acknowledgement. A quorum
queue (3.10) works on these later, and forgets those that it has not come to by then: their messages would come again.
Without it that happened at every second stop, with 0.1 seconds in none of fifty.
"""

ACK, REJECT, REQUEUE = "ack", "reject", "requeue"
"""Answers: it is done; the broker is to dead-letter it; it goes back to its queue."""


class Lanes:
    """
    The connection, and all that its thread and the handlers' threads share; see `Client` for what it is called for.

    Args:
        name: The bus's.
        addresses: The brokers.
        config: The bus's settings.
    """

    def __init__(
        self, *, name: str, addresses: tuple[Address, ...], config: RabbitMQConfig, clock: Clock, rng: random.Random
    ) -> None:
        self.connection = BrokerConnection(
            name=f"hireliab.bus.{name}-consume", addresses=addresses, config=config, client=self, clock=clock, rng=rng
        )
        self._name = name
        self._config = config
        self._clock = clock
        # Guards every field below, every subscription, and the consumer's fields. Re-entrant, because a signal handler that
        # stops the bus may run while its thread has it.
        self.lock = threading.RLock()
        self.opening = threading.Condition(self.lock)  # subscribe() waits here
        self.subscriptions: list[RabbitMQSubscription] = []
        self.taking = True  # deliveries are wanted, and channels for them
        self.dropping = False  # deliveries that still come go back at once
        self.away = False  # the broker could not be reached
        self._acked_at = float("-inf")  # when a message was last acknowledged that `REST` is about
        self._answers: list[tuple[Lane, str, int]] = []  # to be written by the connection's thread
        self._errands: list[Callable[[], None]] = []  # to be run by it
        self._awake = False  # it will look at both without being woken
        self._link: Link | None = None  # written by the connection's thread
        self._bound = 0.0  # when queues were last bound; the connection's thread's own

    # -- for any thread -------------------------------------------------------------------------------------------

    def answer_locked(self, verb: str, deliveries: Iterable[Delivery]) -> None:
        """Note answers to be written; those for a channel that is gone are nobody's any more."""
        for delivery in deliveries:
            lane = delivery.lane
            if lane.open:
                self._answers.append((lane, verb, delivery.number))
                if lane.ends_by_broker and verb is ACK:
                    self._acked_at = self._clock.monotonic()

    def rest_locked(self) -> float:
        """Seconds for which channels should still stay open, see `REST`."""
        return max(0.0, self._acked_at + REST - self._clock.monotonic())

    def open_locked(self, subscription: RabbitMQSubscription) -> None:
        """Have a channel opened, now or when the connection is up."""
        self._errands.append(partial(self._open, subscription))

    def cancel_locked(self, subscription: RabbitMQSubscription) -> None:
        """
        Have no further message sent to a subscription; what it has can still be answered.

        Not to one in order: the broker would give the next message to another member while this one has the last in
        hand. Its channel's closing ends it, and gives back what may still come, unhandled.
        """
        if subscription.lane is not None and not subscription.in_order:
            self._errands.append(partial(self._cancel, subscription.lane))

    def close_locked(self, subscription: RabbitMQSubscription) -> None:
        """Have a subscription's channel closed, after the answers that were noted before."""
        lane = subscription.lane
        if lane is not None:
            self._errands.append(partial(self._close_later, lane, self.rest_locked() if lane.ends_by_broker else 0.0))

    def end_locked(self) -> bool:
        """Have the broker close, before their connection ends, the channels that it must; whether there are any."""
        lanes = [one.lane for one in self.subscriptions if one.lane is not None and one.lane.ends_by_broker]
        self._errands += [partial(self._close, lane) for lane in lanes]
        return bool(lanes)

    def is_ended_locked(self) -> bool:
        """Whether these have been closed."""
        return not any(one.lane is not None and one.lane.ends_by_broker for one in self.subscriptions)

    def widen_locked(self, subscription: RabbitMQSubscription) -> None:
        """Have a subscription fed in full, for a message of it waits for its next attempt."""
        lane = subscription.lane
        if lane is not None and lane.careful:
            self._errands.append(partial(self._widen, subscription, lane))

    def bind_again_locked(self) -> None:
        """Have every queue bound again."""
        self._errands.append(self._bind_again)

    def wake_locked(self) -> bool:
        """Whether `connection.wake` is to be called, without the lock, for what was noted."""
        if self._awake or self._link is None or not (self._answers or self._errands):
            return False
        self._awake = True
        return True

    # -- on the connection's thread -------------------------------------------------------------------------------

    def opened(self, link: Link) -> None:
        """Open a channel for each subscription."""
        with self.lock:
            self._link = link
            self._bound = self._clock.monotonic()
            self.away = False
            self._awake = False
            subscriptions = list(self.subscriptions)
        for subscription in subscriptions:
            self._open(subscription)
        self.turn()

    def closed(self, failure: Failure) -> None:
        """Take back what was not answered: the broker delivers it again."""
        with self.lock:
            self._link = None
            self.away = True
            self._awake = False
            lanes = [(one, one.lane) for one in self.subscriptions if one.lane is not None]
        for subscription, lane in lanes:
            self._lose(subscription, lane, failure)
        with self.lock:
            self._answers.clear()  # their channels are gone
            self.opening.notify_all()

    def blocked(self, reason: str | None) -> None:
        """Nothing: a connection that consumes is not held up."""

    def leaving(self) -> None:
        """Write the last answers."""
        self.turn()

    def tick(self) -> None:
        """Look after subscriptions that no channel feeds: none is to be forgotten in silence."""
        link = self._link
        if link is None:
            return
        now = self._clock.monotonic()
        with self.lock:
            waiting = [(one, one.lane) for one in self.subscriptions if not one.is_ready]
        for subscription, lane in waiting:
            if lane is not None and now - lane.began > STUCK:
                link.give_up(Failure(f"the broker has not opened {subscription.pattern!r} for {STUCK:g} s"))
        if now - self._bound > BIND_AGAIN:
            self._bind_again()
        self.turn()  # whoever was to wake this thread may have been interrupted

    def turn(self) -> None:
        """Run errands and write answers; it comes again by itself until there are none."""
        link = self._link
        if link is None:
            return
        with self.lock:
            answers, self._answers = self._answers, []
            errands, self._errands = self._errands, []
            self._awake = bool(answers or errands)
        if not answers and not errands:
            return
        # Errands first: what goes back must not come again to a consumer that is just being cancelled.
        for errand in errands:
            errand()
        acks: dict[Lane, list[int]] = {}
        for lane, verb, number in answers:
            if not lane.open or lane.link is not link or not lane.channel.is_open:
                continue
            if verb == ACK:
                acks.setdefault(lane, []).append(number)
            elif verb == REJECT:
                lane.channel.basic_reject(number, requeue=False)
            else:
                lane.channel.basic_nack(number, multiple=False, requeue=True)
        for lane, numbers in acks.items():
            if link.fast:
                link.emit(frames.acks(lane.number, numbers))
            else:
                for number in numbers:
                    lane.channel.basic_ack(number)
        link.later(0.0, link.guarded(self.turn))

    def _bind_again(self) -> None:
        self._bound = self._clock.monotonic()
        with self.lock:
            lanes = [one.lane for one in self.subscriptions if one.lane is not None and one.is_ready]
        for lane in lanes:
            if lane.channel.is_open:
                declare(lane.channel, lane.topology.bindings)

    def _open(self, subscription: RabbitMQSubscription) -> None:
        """Open a channel for a subscription that has none."""
        link = self._link
        if link is None or link.connection is None or not link.connection.is_open:
            return  # `opened` comes back to it
        topology = subscribing(
            self._config,
            subscription.pattern,
            subscription.group,
            in_order=subscription.in_order,
            unique=uuid.uuid4().hex,
        )
        lane = Lane(link, topology)
        lane.began = self._clock.monotonic()
        # A quorum queue gives the next member newer messages first when this one leaves by itself; a classic one may
        # crash then (3.10.8: "badmatch" in rabbit_amqqueue_process), and comes back with its messages out of order.
        lane.ends_by_broker = subscription.in_order and subscription.group is not None
        with self.lock:
            if subscription.closed or subscription.lane is not None or not self.taking:
                return
            subscription.lane = lane
        link.channel(None, lambda channel: self._channel_opened(subscription, lane, channel))

    def _channel_opened(self, subscription: RabbitMQSubscription, lane: Lane, channel: Any) -> None:
        link = lane.link
        lane.channel, lane.number = channel, channel.channel_number
        lane.tag = self._new_tag()

        def arrived(deliveries: list[Delivered]) -> None:
            self._arrived(subscription, lane, deliveries)

        def pika_arrived(_channel: object, method: Any, properties: Any, body: bytes) -> None:
            raw = b"".join(properties.encode())
            arrived([Delivered(method.delivery_tag, bool(method.redelivered), raw, body)])

        channel.add_on_close_callback(
            link.guarded(lambda _, reason: self._channel_closed(subscription, lane, failure_of(reason)))
        )
        if not self._is_wanted(subscription, lane):
            return
        channel.add_on_cancel_callback(link.guarded(lambda _: self._cancelled(subscription, lane)))
        declare(channel, lane.topology.declarations)
        if link.fast and link.connection is not None:
            link.connection.readers[lane.number] = DeliveryReader(link.guarded(arrived))
            # A message that kills its handler's process has the broker charge all that are in hand, at each death. What was
            # delivered before comes first, so it is taken with nothing beside it; then there is the full prefetch. A
            # queue of our own has no such messages, and pika's slow way would give back what comes in between.
            lane.careful = subscription.group is not None and subscription.concurrency < subscription.prefetch
        lane.consume = partial(channel.basic_consume, lane.topology.queue, link.guarded(pika_arrived))
        channel.basic_qos(prefetch_count=subscription.concurrency if lane.careful else subscription.prefetch)
        lane.consume(consumer_tag=lane.tag, callback=link.guarded(lambda _: self._consuming(subscription, lane)))

    def _widen(self, subscription: RabbitMQSubscription, lane: Lane) -> None:
        """
        Let a consumer with the full prefetch follow the careful one: that of one that is there cannot be changed.

        The first must have ended before, for the broker keeps no order between two.
        """
        if not lane.careful or not lane.open or not lane.channel.is_open:
            return
        lane.careful = False

        def ended(_frame: object) -> None:
            with self.lock:
                wanted = lane.open and not subscription.closed and self.taking
            if wanted and lane.channel.is_open:
                lane.tag = self._new_tag()
                # What the careful one brought may still be in hand.
                lane.channel.basic_qos(prefetch_count=max(1, subscription.prefetch - subscription.concurrency))
                lane.consume(consumer_tag=lane.tag)

        lane.channel.basic_cancel(lane.tag, callback=lane.link.guarded(ended))

    def _new_tag(self) -> str:
        return f"{self._name}.{uuid.uuid4().hex[:12]}"

    def _is_wanted(self, subscription: RabbitMQSubscription, lane: Lane) -> bool:
        """Whether a lane is to be fed; one whose subscription ended while it was opened is closed."""
        with self.lock:
            wanted = lane.open and not subscription.closed and self.taking
        if not wanted:
            self._close(lane)
        return wanted

    def _consuming(self, subscription: RabbitMQSubscription, lane: Lane) -> None:
        if not self._is_wanted(subscription, lane):
            return
        lane.lasted_from = self._clock.monotonic()
        with self.lock:
            subscription.is_ready = True
            subscription.failure = None
            subscription.generation += 1
            self.opening.notify_all()

    def _arrived(self, subscription: RabbitMQSubscription, lane: Lane, deliveries: list[Delivered]) -> None:
        with self.lock:
            batch = [Delivery(lane, *delivered) for delivered in deliveries]
            if subscription.in_order and (subscription.closed or not self.taking):
                wake = False  # unanswered, so that it does not come again and again until the channel closes
            elif subscription.closed or self.dropping or not lane.open:
                self.answer_locked(REQUEUE, batch)
                wake = self.wake_locked()
            else:
                wake = False
                subscription.accepted += len(batch)
                subscription.redelivered += sum(one.redelivered for one in batch)
                subscription.ready.extend(batch)
                subscription.changed.notify(len(batch))
        if wake:
            self.turn()
        if lane.careful and not all(one.redelivered for one in deliveries):
            self._widen(subscription, lane)

    def _cancel(self, lane: Lane) -> None:
        """Have no further message sent; what has been sent can still be answered."""
        if lane.open and lane.channel is not None and lane.channel.is_open:
            lane.channel.basic_cancel(lane.tag, callback=lane.link.guarded(lambda _: None))

    def _close_later(self, lane: Lane, seconds: float) -> None:
        """Close it in the loop's next round, at the earliest."""
        if lane.link is self._link:  # otherwise its channel is gone, and a loop that has ended calls nobody
            lane.link.later(seconds, lane.link.guarded(partial(self._close, lane)))

    def _close(self, lane: Lane) -> None:
        if lane.channel is None or not lane.channel.is_open:
            return
        if lane.ends_by_broker:
            # A quorum queue (3.10) whose consumer ends in order gives the next message to the next consumer, and only then
            # takes back what the first one had. It does so the other way round when the broker closes the channel, as it
            # does for asking after a queue that does not exist.
            lane.channel.queue_declare(f"{lane.topology.queue}.{uuid.uuid4().hex}", passive=True)
        else:
            lane.channel.close()

    def _cancelled(self, subscription: RabbitMQSubscription, lane: Lane) -> None:
        # The broker ended the consumer, such as when its queue was deleted: a new channel declares everything anew.
        self._channel_closed(subscription, lane, Failure("the broker cancelled the consumer"))
        self._close(lane)

    def _channel_closed(self, subscription: RabbitMQSubscription, lane: Lane, failure: Failure) -> None:
        connection = lane.link.connection
        if connection is not None and lane.channel.is_closed:
            connection.readers.pop(lane.number, None)
        if not self._lose(subscription, lane, failure) or connection is None or not connection.is_open:
            return
        since = lane.lasted_from
        lasted = 0.0 if since is None else self._clock.monotonic() - since
        pause = subscription.backoff.pause(refused=failure.refused, lasted=lasted)
        _log.warning(
            "bus %r: %r is cut off: %s; again in %.1f s", self._name, subscription.pattern, failure.text, pause
        )
        lane.link.later(pause, lane.link.guarded(lambda: self._open(subscription)))

    def _lose(self, subscription: RabbitMQSubscription, lane: Lane, failure: Failure) -> bool:
        """The lane is gone, and what it brought; whether the subscription wants another."""
        with self.lock:
            if not lane.open:
                return False
            lane.open = False
            subscription.give_up_waiting_locked()
            if subscription.lane is lane:
                subscription.lane = None
                subscription.is_ready = False
                subscription.failure = failure
                subscription.last_error = failure.text
            self.opening.notify_all()
            return not subscription.closed and self.taking
