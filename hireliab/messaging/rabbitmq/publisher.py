"""
Sends messages and tells their receipts what became of them.

What was sent and not confirmed when a connection ends is sent again on the next one, first and in its old order,
under the same id: a subscriber may see a message twice, but none is lost and none overtakes another.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from pika import spec

from hireliab.core.clock import Clock
from hireliab.messaging.bus import PublishStatus
from hireliab.messaging.rabbitmq import _frames as frames
from hireliab.messaging.rabbitmq._confirms import ConfirmBook
from hireliab.messaging.rabbitmq._declare import declare
from hireliab.messaging.rabbitmq._failures import Failure, failure_of
from hireliab.messaging.rabbitmq._link import Link
from hireliab.messaging.rabbitmq._outgoing import Outgoing, Window
from hireliab.messaging.rabbitmq._readers import Answer, AnswerReader
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._url import Address
from hireliab.messaging.rabbitmq.connection import BrokerConnection
from hireliab.messaging.rabbitmq.topology import publishing

_log = logging.getLogger("hireliab.bus")

CHANNEL = 1
"""The publishing connection has one channel: a message's frames are finished before there is a connection."""
MOST_STRIKES = 5
"""
Connections that may end with a message open and for a reason that may have been it, such as no answer in time; then it
stays UNKNOWN. A line that is cut is no such reason.
"""
NACK_PAUSES = (0.1, 0.5)
"""Seconds before a message that the broker refused is sent again, each time; then it is NACKED."""

_NOT_FOUND = 404
_CONFIRMED, _UNKNOWN = PublishStatus.CONFIRMED, PublishStatus.UNKNOWN


class Publisher:
    """
    A connection that publishes; see `Client` for the methods that its thread calls.

    Args:
        name: The bus's.
        addresses: The brokers.
        config: The bus's settings.
        missing: Called when the broker says that the exchange is gone, and with it all its bindings.
    """

    def __init__(
        self,
        *,
        name: str,
        addresses: tuple[Address, ...],
        config: RabbitMQConfig,
        missing: Callable[[], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.window = Window(name=name, most=config.window, most_bytes=config.window_bytes, clock=clock)
        self.connection = BrokerConnection(
            name=f"hireliab.bus.{name}-publish", addresses=addresses, config=config, client=self, clock=clock, rng=rng
        )
        self.is_blocked = False  # written on the connection's thread only
        self._name = name
        self._config = config
        self._missing = missing
        self._clock = clock
        self._left: list[Outgoing] = []  # not settled when the connection had ended; used by whoever stops the bus
        # The connection's thread alone uses what follows.
        self._link: Link | None = None
        self._channel: Any = None
        self._book: ConfirmBook[Outgoing] = ConfirmBook()
        self._refused: list[tuple[float, Outgoing]] = []  # with the time of the next sending
        self._returned: Counter[tuple[str, str]] = Counter()  # id and key of what came back and is not confirmed yet

    # -- for any thread -------------------------------------------------------------------------------------------

    def send(self, message: Outgoing, timeout: float | None) -> None:
        """Take a message; see `Window.offer`."""
        if self.window.offer(message, timeout):
            self.connection.wake()

    def send_own(self, message: Outgoing) -> None:
        """Take a message of the bus itself; see `Window.offer_own`."""
        if self.window.offer_own(message):
            self.connection.wake()

    def stop(self, timeout: float, outcome: Callable[[Outgoing], tuple[PublishStatus, str]]) -> int:
        """
        Wait for what is open, end the connection, and settle what is still open; how many these were.

        The window refuses messages already. Once cut short by an exception, it can be called again.
        """
        deadline = self._clock.monotonic() + timeout
        self.window.wait_until_empty(timeout)
        ended = self.connection.close(deadline - self._clock.monotonic())
        self._left += self.window.drain()
        # A thread that has not ended has not given its messages back; a receipt that settles twice does it once.
        held = [] if ended else self._book.waiting() + [message for _, message in self._refused]
        left = held + self._left
        self.settle(left, outcome)
        self._left.clear()
        return len(left)

    def settle(self, messages: list[Outgoing], outcome: Callable[[Outgoing], tuple[PublishStatus, str]]) -> None:
        """Give messages their outcome, and their places in the window to others."""
        tally: Counter[str] = Counter()
        for message in messages:
            status, reason = outcome(message)
            tally[status.value] += self._finish(message, status, reason)
        self.window.release(messages, tally)

    # -- on the connection's thread -------------------------------------------------------------------------------

    def opened(self, link: Link) -> None:
        """Open the channel, declare, and ask for confirms."""

        def channel_opened(channel: Any) -> None:
            channel.add_on_close_callback(link.guarded(lambda _, reason: self._channel_closed(link, reason)))
            channel.add_on_return_callback(link.guarded(self._came_back))
            declare(channel, publishing(self._config))
            channel.confirm_delivery(
                link.guarded(self._pika_answer), link.guarded(lambda _: self._ready(link, channel))
            )

        link.channel(CHANNEL, channel_opened)

    def _ready(self, link: Link, channel: Any) -> None:
        self._link, self._channel = link, channel
        if link.fast and link.connection is not None:
            link.connection.readers[CHANNEL] = AnswerReader(link.guarded(self._answered))
        if self.window.allow(not self.is_blocked):
            self.turn()

    def _channel_closed(self, link: Link, reason: object) -> None:
        # Whatever closed it, such as an exchange that somebody deleted: a new connection declares everything anew.
        link.give_up(failure_of(reason))
        if getattr(reason, "reply_code", 0) == _NOT_FOUND:
            self._missing()

    def leaving(self) -> None:
        """Nothing: what is not sent by now can still be said to be unsent."""

    def closed(self, failure: Failure) -> None:
        """Take back what was sent and not confirmed."""
        self.window.allow(False)
        self._link = self._channel = None
        self.is_blocked = False
        self._returned.clear()
        unconfirmed = self._book.forget() + [message for _, message in self._refused]
        self._refused.clear()
        if failure.blames:
            for message in unconfirmed:
                message.strikes += 1
            given_up = [message for message in unconfirmed if message.strikes >= MOST_STRIKES]
            reason = f"not confirmed by {MOST_STRIKES} connections, the last: {failure.text}"
            self.settle(given_up, lambda _: (_UNKNOWN, reason))
            unconfirmed = [message for message in unconfirmed if message.strikes < MOST_STRIKES]
        self.window.give_back(unconfirmed, first=True)

    def blocked(self, reason: str | None) -> None:
        """Send nothing while the broker is short of memory or disk."""
        self.is_blocked = reason is not None
        if reason is not None:
            _log.warning("bus %r: the broker takes no messages for now: %s", self._name, reason)
        if self.window.allow(self._link is not None and reason is None):
            self.turn()

    def turn(self) -> None:
        """Write the next messages; it comes again by itself until there are none."""
        link = self._link
        if link is None:
            return
        batch = self.window.take()
        if not batch:
            return
        now, sent = self._clock.monotonic(), self._book.sent
        again = 0
        for message in batch:
            if message.sendings:
                again += 1
            else:
                message.first_sent = now
            message.sendings += 1
            message.last_sent = now
            sent(message)
        if again:
            self.window.count({"republished": again})
        if link.fast:
            link.emit(b"".join([message.wire for message in batch]))
        else:
            for message in batch:
                publish_slowly(self._channel, message.wire)
        link.later(0.0, link.guarded(self.turn))

    def tick(self) -> None:
        """Look for messages that have waited too long for their answer, and send refused ones again."""
        now = self._clock.monotonic()
        limit = now - self._config.confirm_timeout
        sent = self._book.waiting()
        late = [message for message in sent if message.first_sent <= limit]
        for message in late + [message for message in self.window.sent_before() if message.first_sent <= limit]:
            # It stays in the window: it is sent once more on the next connection, under the same id.
            settled = message.receipt.settle(_UNKNOWN, f"no answer in {self._config.confirm_timeout:g} s")
            if settled and message.done is None:
                self.window.count({"unknown": 1})
        link = self._link
        if link is not None and not self.is_blocked and any(message.last_sent <= limit for message in late):
            text = f"the broker has not confirmed a message for {self._config.confirm_timeout:g} s"
            link.give_up(Failure(text, blames=True))
        elif link is not None:
            self.turn()  # a publisher that was interrupted before it woke this thread

    def _pika_answer(self, frame: Any) -> None:
        answer = frame.method
        self._answered([Answer(answer.delivery_tag, bool(answer.multiple), isinstance(answer, spec.Basic.Nack))])

    def _came_back(self, _channel: object, method: Any, properties: Any, _body: bytes) -> None:
        self._returned[str(properties.message_id or ""), str(method.routing_key)] += 1

    def _answered(self, answers: list[Answer]) -> None:
        """Settle what the broker has answered: all receipts first, then their places in one step."""
        confirmed: list[Outgoing] = []
        refused: list[Outgoing] = []
        for number, multiple, is_refused in answers:
            messages = self._book.answered(number, multiple=multiple)
            if is_refused:
                refused += messages
            else:
                confirmed += messages
        if confirmed:
            published = 0
            tally: Counter[str] = Counter()
            for message in confirmed:
                if message.mandatory and self._has_come_back(message):
                    tally["returned"] += self._finish(message, PublishStatus.RETURNED, "no queue wants it")
                elif message.done is not None:
                    self._finish(message, _CONFIRMED, "")
                elif message.receipt.settle(_CONFIRMED):
                    published += 1
            tally["confirmed"] = published
            self.window.release(confirmed, tally)
        if refused:
            self._refuse(refused)

    def _finish(self, message: Outgoing, status: PublishStatus, reason: str) -> bool:
        """Settle one message; whether it is a user's, and was open."""
        settled = message.receipt.settle(status, reason)
        done, message.done = message.done, None  # once
        if done is None:
            return settled
        try:
            done(status, reason)
        except Exception:
            _log.exception("bus %r: a message of its own could not be finished; this is a bug of hireliab", self._name)
        return False

    def _has_come_back(self, message: Outgoing) -> bool:
        key = (message.receipt.message_id, message.receipt.topic)
        count = self._returned.pop(key, 0)
        if count > 1:
            self._returned[key] = count - 1
        return count > 0

    def _refuse(self, messages: list[Outgoing]) -> None:
        link = self._link
        final = [message for message in messages if message.nacks >= len(NACK_PAUSES)]
        self.settle(final, lambda _: (PublishStatus.NACKED, "the broker refused it, such as for a queue that is full"))
        now = self._clock.monotonic()
        for message in messages:
            if message.nacks < len(NACK_PAUSES):
                self._refused.append((now + NACK_PAUSES[message.nacks], message))
                message.nacks += 1
        if link is not None and self._refused:
            link.later(max(0.0, self._refused[0][0] - now), link.guarded(self._send_refused))

    def _send_refused(self) -> None:
        now = self._clock.monotonic()
        due = [message for at, message in self._refused if at <= now]
        self._refused = [(at, message) for at, message in self._refused if at > now]
        link = self._link
        if link is not None and self._refused:
            link.later(max(0.0, min(at for at, _ in self._refused) - now), link.guarded(self._send_refused))
        if self.window.give_back(due, first=False):
            self.turn()


def publish_slowly(channel: Any, wire: bytes) -> None:
    """Publish frames of ours through pika's public method, for a pika or a broker that wants other frames."""
    method, header, body = frames.content(wire)
    publish = spec.Basic.Publish().decode(method, 4)
    properties = spec.BasicProperties().decode(header[12:])
    channel.basic_publish(publish.exchange, publish.routing_key, body, properties, mandatory=publish.mandatory)
