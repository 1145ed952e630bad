"""`RabbitMQMessageBus`: the message bus between processes and machines."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import random
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hireliab.core import config as checks
from hireliab.core._threads import start_thread
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import BusFullError, ClosedError, ConfigError
from hireliab.messaging._publish_sync import PublishSync
from hireliab.messaging.bus import (
    BusStatus,
    Handler,
    PublishReceipt,
    PublishStatus,
    Spill,
    check_headers,
    check_message_id,
    check_subscribing,
    check_topic,
    encode_data,
)
from hireliab.messaging.rabbitmq import _frames as frames
from hireliab.messaging.rabbitmq._envelope import SUBJECT, Times, further_headers, subject_of, template
from hireliab.messaging.rabbitmq._link import tls_context
from hireliab.messaging.rabbitmq._outgoing import Outgoing
from hireliab.messaging.rabbitmq._replay import Kept, Replayer, Store
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._subscription import RabbitMQSubscription
from hireliab.messaging.rabbitmq._url import parse_addresses
from hireliab.messaging.rabbitmq.consumer import Consumer
from hireliab.messaging.rabbitmq.publisher import CHANNEL, Publisher

__all__ = ["RabbitMQConfig", "RabbitMQMessageBus"]

_log = logging.getLogger("hireliab.bus")

_MOST_TEMPLATES = 1000  # topics whose frames are kept half-made
_EXIT_TIMEOUT = 2.0
_NO_LIMIT = 1e9  # seconds
_REPLAY_PATIENCE = 1.0  # seconds for room in the window, for what comes from the store


class RabbitMQMessageBus(PublishSync):
    """
    A `MessageBus` over RabbitMQ 3.10 or later: see there for what every method promises.

    A message is confirmed when every queue that wants it holds it, a quorum queue on the disks of most of its nodes.
    Messages are taken while the broker is away, up to the window, and sent when it is back. A message may come to a
    handler more than once, with the same `Message.id`: use an `Inbox` where that matters.

    A group's queue outlives its members. A subscription without a group gets what is published while it is connected.
    Dead letters wait in the queues ``<amqp_exchange>.dead.queue.<group>`` and ``<amqp_exchange>.dead.own``, with the
    reason in the header ``hireliab_reason``.

    Args:
        config: A mapping of `RabbitMQConfig`'s settings, one of these, or None.
        url: ``amqp://user:password@host:port/vhost``, ``amqps://…`` (the certificate is checked), or a list of them.
        name: Part of the names of its threads, and of its connections at the broker.
        spill: A local store for what the broker cannot take. Used when the bus is full and `when_full` is "spill", and
            for what is not confirmed when the bus stops. A `SpillStore` belongs to the bus from now on, which publishes
            what is in it; a callable, see `Spill`, publishes it by itself.

    Raises:
        ConfigError: A malformed address or setting. No text of ours ever shows the password.
    """

    def __init__(
        self,
        config: RabbitMQConfig | Mapping[str, Any] | None = None,
        *,
        url: str | Sequence[str],
        name: str = "rabbitmq",
        spill: Spill | Store | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = checks.text("name", name, most=60)
        self._config = checks.load(RabbitMQConfig, config, where=f"bus {name!r}")
        self._replay: Replayer | None = None
        self._spill: Spill | None = None
        if spill is not None and not callable(spill):
            self._replay = Replayer(
                spill, name=name, publish=self._publish_again, ready=self._takes_messages, clock=clock
            )
            self._spill = self._replay.put
        else:
            self._spill = spill
        if spill is None and self._config.when_full == "spill":
            raise ConfigError(
                f'bus {name!r}: when_full is "spill" and there is no store; give it spill=', setting="spill"
            )
        addresses = parse_addresses(url)
        for address in addresses:
            if address.tls:
                tls_context(address)  # a missing file is found now, not in a thread
        self._clock = clock
        self._pid = os.getpid()
        rng = random.Random()
        self._publisher = Publisher(
            name=name,
            addresses=addresses,
            config=self._config,
            missing=self._bind_again,
            clock=clock,
            rng=rng,
        )
        self._consumer = Consumer(
            name=name, addresses=addresses, config=self._config, publisher=self._publisher, clock=clock, rng=rng
        )
        # Guards _state and _stopper; re-entrant, because a signal handler may stop the bus.
        self._lock = threading.RLock()
        self._stopped = threading.Condition(self._lock)  # a second stop() waits here for the first
        self._state = "new"
        self._stopper: list[threading.Thread] | None = None  # who is ending the bus
        # Shared without a lock: each is replaced or extended in one step.
        self._templates: dict[str, frames.Template] = {}
        self._times = Times()
        self._id_start = uuid.uuid4().hex[:20]
        self._id_count = itertools.count()

    # -- publishing -----------------------------------------------------------------------------------------------

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
        """See `MessageBus.publish`. It does no I/O; a full bus does what `when_full` says."""
        content = encode_data(data, limit=self._config.max_message_bytes)
        if message_id is None:
            message_id = f"{self._id_start}{next(self._id_count):012x}"
        else:
            check_message_id(message_id)
        if headers is not None:
            headers = check_headers(headers)
        if subject is not None:
            checks.text("subject", subject)
        if timeout != 0.0:
            timeout = checks.number_or_none("timeout", timeout, low=0)
        message = self._message(topic, content, headers, subject, message_id, mandatory=mandatory)
        if self._state != "running" or self._pid != os.getpid():
            self.start()
        self._send(message, timeout)
        return message.receipt

    def _message(
        self,
        topic: str,
        content: bytes,
        headers: Mapping[str, str] | None,
        subject: str | None,
        message_id: str,
        *,
        mandatory: bool = False,
        done: Callable[[PublishStatus, str], None] | None = None,
    ) -> Outgoing:
        made = self._templates.get(topic) if topic.__class__ is str else None
        if made is None:
            made = self._template(topic)
        more = further_headers(headers or {}, subject) if headers or subject is not None else b""
        at = self._clock.time()
        wire = made.marshal(message_id.encode(), self._times.text(at), int(at), content, more=more, mandatory=mandatory)
        receipt = PublishReceipt(message_id=message_id, topic=topic, clock=self._clock)
        return Outgoing(receipt, wire, headers, mandatory, done)

    def _send(self, message: Outgoing, timeout: float | None) -> None:
        config = self._config
        replay = self._replay
        if replay is not None and replay.must_wait() and self._buffer(message):
            return  # what waits in the store was published earlier
        if config.when_full == "block" and timeout is not None:
            timeout = max(timeout, config.block_timeout)
        if timeout != 0.0 and self._consumer.is_handler():
            timeout = 0.0  # a handler that waits for room may be what the room waits for
        try:
            self._publisher.send(message, timeout)
        except BusFullError:
            if config.when_full != "spill" or not self._buffer(message):
                raise

    def _buffer(self, message: Outgoing) -> bool:
        if not self._spilled(message):
            return False
        self._publisher.window.count({"buffered": 1})
        message.receipt.settle(PublishStatus.BUFFERED)
        return True

    def _publish_again(self, kept: Kept) -> PublishReceipt:
        """Publish a message that waited in the store."""
        headers = dict(kept.headers)
        subject = headers.pop(SUBJECT, None)
        message = self._message(kept.topic, kept.body, headers, subject, kept.message_id, done=_nothing)
        self._publisher.send(message, _REPLAY_PATIENCE)
        return message.receipt

    def _bind_again(self) -> None:
        self._consumer.bind_again()  # the consumer is made after the publisher

    def _takes_messages(self) -> bool:
        return self._publisher.connection.connected and not self._publisher.is_blocked

    def _template(self, topic: str) -> frames.Template:
        check_topic(topic)
        if len(self._templates) >= _MOST_TEMPLATES:
            self._templates.clear()
        made = template(
            channel=CHANNEL, amqp_exchange=self._config.amqp_exchange, topic=topic, source=self._config.source
        )
        self._templates[topic] = made
        return made

    def _spilled(self, message: Outgoing) -> bool:
        """Give a message to the local store; whether it has it."""
        if self._spill is None or message.done is not None:
            return False
        receipt = message.receipt
        _, properties, body = frames.content(message.wire)
        headers = dict(message.headers or {})
        subject = subject_of(properties)
        if subject is not None:
            headers[SUBJECT] = subject
        try:
            return bool(self._spill(receipt.topic, body, headers, receipt.message_id))
        except Exception:
            _log.exception("bus %r: the local store did not take message %s", self.name, receipt.message_id)
            return False

    # -- subscribing ----------------------------------------------------------------------------------------------

    def subscribe(
        self,
        pattern: str,
        handler: Handler,
        *,
        group: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        in_order: bool = False,
    ) -> RabbitMQSubscription:
        """
        See `MessageBus.subscribe`. It waits up to 5 s for the broker; one that is away gets it when it is back.

        `prefetch` bounds what the broker hands out ahead, messages that wait for another attempt included; left out,
        it is 16 and three for each handler thread. `in_order` makes the group's queue one with a single active consumer.

        Raises:
            TopologyError: The broker has the group's queue with other settings, or refuses it.
        """
        concurrency, prefetch = check_subscribing(
            pattern, handler, group=group, concurrency=concurrency, prefetch=prefetch, in_order=in_order
        )
        if prefetch is None:
            prefetch = 16 + 3 * concurrency
        self.start()
        return self._consumer.subscribe(
            pattern, handler, group=group, concurrency=concurrency, prefetch=prefetch, in_order=in_order
        )

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """
        See `MessageBus.start`. It does not wait for the broker, and does not fail without it.

        Raises:
            BusError: The local store cannot be used; the bus is not started.
        """
        self._check_process()
        self._check_open()
        if self._replay is not None:
            self._replay.start()
        with self._lock:
            if self._state != "new":
                return
            self._state = "running"
        _running.add(self)
        self._publisher.connection.start()

    def _check_open(self) -> None:
        if self._state in ("stopping", "stopped"):
            raise ClosedError(f"bus {self.name!r}: stopped; make a new one")

    def stop(self, timeout: float | None = 5.0) -> None:
        """
        See `MessageBus.stop`. What is in hand is handed out, what is sent is waited for, each within the time.

        Then what was not confirmed goes to the local store, or is UNKNOWN; what was not sent, REJECTED. What no handler
        has begun goes back to its group's queue. Inside a handler a thread of its own does this.
        """
        if self._pid != os.getpid():
            return  # the parent's threads are not here, and its locks may be held for ever
        limit = checks.number_or_none("timeout", timeout, low=0)
        deadline = self._clock.monotonic() + (_NO_LIMIT if limit is None else limit)
        with self._lock:
            first = self._state in ("new", "running")
            if first:
                self._state = "stopping"
        self._publisher.window.close()
        if self._consumer.is_handler():
            if first:
                start_thread(lambda: self._shut(deadline), name=f"hireliab.bus.{self.name}-stop")
        else:
            self._shut(deadline)

    def _left(self, deadline: float) -> float:
        return max(0.0, deadline - self._clock.monotonic())

    def _shut(self, deadline: float) -> None:
        """End the bus, or wait for whoever does. What Ctrl-C cut short is done by the next stop()."""
        claim = [threading.current_thread()]  # told from others by its identity
        try:
            with self._lock:
                if self._stopper == claim:
                    return  # a signal handler, which interrupted its own thread's stop()
                self._clock.wait_for(self._stopped, lambda: self._stopper is None, self._left(deadline))
                if self._stopper is not None:
                    return
                self._stopper = claim
            if self._state == "stopped":
                self._consumer.stop(self._left(deadline))  # handlers may still have been running
            else:
                self._end(deadline)
        finally:
            with self._lock:
                if self._stopper is claim:
                    self._stopper = None
                    self._stopped.notify_all()

    def _end(self, deadline: float) -> None:
        if self._replay is not None:
            self._replay.stop(min(1.0, self._left(deadline)))
        # Handlers that hang must not use up the time of what waits to be confirmed.
        ended = self._consumer.stop(self._left(deadline) * 0.75)
        left = self._publisher.stop(self._left(deadline), self._last_outcome)
        if self._replay is not None:
            self._replay.close()
        with self._lock:
            self._state = "stopped"
        _running.discard(self)
        subscriptions, handlers = self._consumer.status()
        unfinished = sum(one.unfinished for one in subscriptions)
        if left or unfinished or not ended:
            _log.warning(
                "bus %r: stopped with %d messages unconfirmed, %d unfinished and %d handlers still running",
                self.name,
                left,
                unfinished,
                handlers,
            )

    def _last_outcome(self, message: Outgoing) -> tuple[PublishStatus, str]:
        if message.receipt.status is None and self._spilled(message):  # not those that come from the store
            return PublishStatus.BUFFERED, ""
        if message.sendings:
            return PublishStatus.UNKNOWN, "the bus stopped before the broker answered"
        return PublishStatus.REJECTED, "the bus stopped before it was sent"

    def status(self) -> BusStatus:
        """See `MessageBus.status`."""
        self._check_process()
        in_flight, size, tally = self._publisher.window.picture()
        subscriptions, _ = self._consumer.status()
        publishing, consuming = self._publisher.connection, self._consumer.connection
        return BusStatus(
            name=self.name,
            state=self._state,
            durable=True,
            published=tally[PublishStatus.CONFIRMED.value],
            returned=tally[PublishStatus.RETURNED.value],
            full=tally["full"],
            subscriptions=subscriptions,
            connected=publishing.connected,
            blocked=self._publisher.is_blocked,
            in_flight=in_flight,
            in_flight_bytes=size,
            generation=publishing.generation,
            reconnects=max(0, publishing.generation - 1) + max(0, consuming.generation - 1),
            nacked=tally[PublishStatus.NACKED.value],
            unknown=tally[PublishStatus.UNKNOWN.value],
            rejected=tally[PublishStatus.REJECTED.value],
            buffered=tally[PublishStatus.BUFFERED.value],
            republished=tally["republished"],
            last_error=publishing.last_error or consuming.last_error,
        )

    def __enter__(self) -> RabbitMQMessageBus:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(f"bus {self.name!r}: cannot be pickled; make one in each process")

    def __repr__(self) -> str:
        return f"<RabbitMQMessageBus {self.name!r}: {self._state}>"

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise ClosedError(f"bus {self.name!r}: belongs to process {self._pid}; make a new one after a fork")


def _nothing(_status: PublishStatus, _reason: str) -> None:
    """The end of a message that the store has still got."""


_running: weakref.WeakSet[RabbitMQMessageBus] = weakref.WeakSet()


def _stop_all() -> None:
    """At the end of the process: what was published and not confirmed gets a moment, for its thread is a daemon."""
    for bus in list(_running):
        with contextlib.suppress(Exception):
            bus.stop(_EXIT_TIMEOUT)


atexit.register(_stop_all)
