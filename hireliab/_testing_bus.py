"""`FaultyBus`: a message bus around another one that does to messages what networks and brokers do."""

from __future__ import annotations

import copy
import heapq
import itertools
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import Any

from hireliab._testing_faults import FaultPlan
from hireliab.core import config as checks
from hireliab.core._threads import Stop, join_all, run_forever, start_thread
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import BusError, BusFullError, ClosedError
from hireliab.messaging._publish_sync import PublishSync
from hireliab.messaging.bus import (
    BusStatus,
    Handler,
    Message,
    MessageBus,
    PublishReceipt,
    PublishStatus,
    Subscription,
    check_headers,
    check_message_id,
    check_topic,
    decode_data,
    encode_data,
)

_log = logging.getLogger("hireliab.testing")

_REFUSED = {
    "drop": (PublishStatus.UNKNOWN, "no confirmation came"),
    "nack": (PublishStatus.NACKED, "the broker refused it"),
    "return": (PublishStatus.RETURNED, "no queue wants it"),
}
_LARGEST = 16_777_216  # bytes; the limit of the bus inside holds


@dataclass(frozen=True, eq=False)
class _Letter:
    """What one call of publish was given, its data frozen."""

    topic: str
    data: Any
    headers: Mapping[str, str]
    subject: str | None
    message_id: str
    mandatory: bool

    def publish(self, bus: MessageBus, timeout: float | None) -> PublishReceipt:
        return bus.publish(
            self.topic,
            self.data,
            headers=self.headers,
            subject=self.subject,
            message_id=self.message_id,
            mandatory=self.mandatory,
            timeout=timeout,
        )


_Entry = tuple[float, int, bool, _Letter]
"""A message that is held back: when it is due, its number, and whether its successor frees it."""


class FaultyBus(PublishSync):
    """
    A `MessageBus` around any other one, with fault switches: test what your handlers do when the network misbehaves.

    Nothing happens unless you ask for it: `next()` gives a fault to the next publishes or deliveries, `rates` lets
    the seed choose. With one publishing thread, and handlers with ``concurrency=1``, a seed does the same each time.

    ================  ==============================================================================================
    Fault             What the bot sees
    ================  ==============================================================================================
    ``drop``          the message is lost on the way: the receipt is UNKNOWN, no handler gets it
    ``drop_confirm``  its confirmation is lost: the receipt is UNKNOWN, handlers do get it
    ``duplicate``     it is published twice under the same id, as a publisher does that got no confirmation
    ``reorder``       it is confirmed, and the next message overtakes it (it waits for at most `delay_by` seconds)
    ``delay``         it is confirmed, and comes `delay_by` seconds later
    ``disconnect``    the connection breaks behind it and comes back at once: it is published twice, and what handlers
                      have in hand comes to them again
    ``nack``          the broker refuses it: the receipt is NACKED
    ``return``        no queue wants it: the receipt is RETURNED
    ``drop_ack``      the acknowledgement of a delivery is lost: the handler gets the message again, `redelivered`
    ================  ==============================================================================================

    Args:
        bus: What does the work. It is started and stopped together with this one.
        seed: Of the random choices.
        rates: Probabilities, such as ``{"duplicate": 0.1, "drop_ack": 0.05}``. Of the faults at publishing at most
            one happens to a message.
        delay_by: Seconds.
        window: Messages that it takes while it is disconnected; then `publish` finds it full.
        clock: The clock of the delays.

    Raises:
        ConfigError: An unknown fault, or a rate out of its range.
    """

    def __init__(
        self,
        bus: MessageBus,
        *,
        seed: object = 0,
        rates: Mapping[str, float] | None = None,
        delay_by: float = 1.0,
        window: int = 1000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.bus = bus
        self.name = str(getattr(bus, "name", "bus"))
        self._delay_by = checks.number("delay_by", delay_by, low=0, high=86_400)
        self._window = checks.whole("window", window, low=0, high=1_000_000)
        self._clock = clock
        # Guards every field below; nothing of the bus inside is called under it. Re-entrant for signal handlers.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # whoever waits for the connection or for room waits here
        self._plan = FaultPlan(seed, rates)
        self._subscriptions = itertools.count()
        self._numbers = itertools.count()
        self._late: list[_Entry] = []  # a heap
        self._waiting: list[tuple[_Letter, PublishReceipt]] = []  # taken while disconnected
        self._connected = True  # deliveries
        self._passing = True  # publishes go through; False until those of an outage have gone before them
        self._generation = 0  # of the connection: an acknowledgement of an earlier one is lost
        self._stopping = False
        self._late_stop = Stop(clock)
        self._has_thread = False
        self._late_thread: threading.Thread | None = None

    # -- switches -----------------------------------------------------------------------------------------------

    def next(self, fault: str, count: int = 1) -> None:
        """
        Let `fault` happen to the next `count` messages published here, or (``drop_ack``) deliveries.

        Raises:
            ConfigError: No such fault.
        """
        with self._lock:
            self._plan.plan(fault, count)

    def disconnect(self) -> None:
        """
        Cut the connection until `reconnect()`.

        Messages published meanwhile are taken, up to `window`, and their receipts stay open. No handler starts; what
        handlers have in hand is delivered again afterwards, whatever they do with it.
        """
        with self._lock:
            self._connected = self._passing = False
            self._generation += 1
            self._plan.injected["disconnect"] += 1

    def reconnect(self, timeout: float | None = 30.0) -> None:
        """Mend the connection, publish in order what was taken meanwhile, and wait `timeout` seconds for its receipts."""
        with self._lock:
            self._connected = True
            self._changed.notify_all()
        sent = []
        while True:
            with self._lock:
                waiting, self._waiting = self._waiting, []
                if not waiting:
                    self._passing = True
                self._changed.notify_all()
            if not waiting:
                break
            for letter, receipt in waiting:
                try:
                    sent.append((receipt, letter.publish(self.bus, timeout)))
                except BusFullError as error:
                    receipt.settle(PublishStatus.NACKED, str(error))
                except (BusError, ClosedError) as error:
                    receipt.settle(PublishStatus.REJECTED, str(error))
        for receipt, inner in sent:
            receipt.settle(inner.wait(timeout) or PublishStatus.UNKNOWN, inner.reason)

    def release(self) -> None:
        """Pass on now what ``reorder`` and ``delay`` hold back."""
        self._pass_on(self._take_late())

    def heal(self) -> None:
        """End all faults: nothing further is drawn or planned, the connection stands, nothing is held back."""
        with self._lock:
            self._plan.clear()
        self.reconnect()
        self.release()

    @property
    def injected(self) -> Mapping[str, int]:
        """How often each fault has happened."""
        with self._lock:
            return MappingProxyType(dict(self._plan.injected))

    # -- the bus ------------------------------------------------------------------------------------------------

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
        """See `MessageBus.publish`, and the faults above."""
        letter = _Letter(
            topic=check_topic(topic),
            data=decode_data(encode_data(data, limit=_LARGEST)),
            headers=check_headers(headers),
            subject=subject,
            message_id=uuid.uuid4().hex if message_id is None else check_message_id(message_id),
            mandatory=mandatory,
        )
        self.bus.start()  # what was stopped refuses also what a fault would have swallowed
        taken = self._take_while_disconnected(letter, timeout)
        if taken is not None:
            return taken
        with self._lock:
            fault = self._plan.at_publish()
            if fault is not None:
                self._plan.injected[fault] += 1
        receipt = self._publish_with(fault, letter, timeout)
        if fault not in ("drop", "nack", "return", "reorder", "delay"):
            self._pass_on(self._take_late(lambda entry: entry[2]))
        return receipt

    def subscribe(
        self,
        pattern: str,
        handler: Handler,
        *,
        group: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        in_order: bool = False,
    ) -> Subscription:
        """See `MessageBus.subscribe`, and the faults above."""
        checks.blocking_function("bus: handler", handler)
        with self._lock:
            source = self._plan.source(f"{pattern}/{group}/{next(self._subscriptions)}")
        faulty = _FaultyHandler(self, handler, source)
        return self.bus.subscribe(
            pattern, faulty, group=group, concurrency=concurrency, prefetch=prefetch, in_order=in_order
        )

    def start(self) -> None:
        """See `MessageBus.start`."""
        self.bus.start()

    def stop(self, timeout: float = 5.0) -> None:
        """See `MessageBus.stop`. What is held back is passed on first; what waits for the connection is REJECTED."""
        with self._lock:
            self._stopping = True
            waiting, self._waiting = self._waiting, []
            self._changed.notify_all()
            thread = self._late_thread
        self._late_stop.set()
        for _, receipt in waiting:
            receipt.settle(PublishStatus.REJECTED, "the bus stopped before it was sent")
        self._pass_on(self._take_late())
        if thread is not None:
            join_all([thread], timeout=1.0)
        self.bus.stop(timeout)

    def status(self) -> BusStatus:
        """That of the bus inside; `connected` and `in_flight` know of what happens here."""
        inside = self.bus.status()
        with self._lock:
            return replace(
                inside,
                connected=inside.connected and self._passing,
                in_flight=inside.in_flight + len(self._waiting),
            )

    def __enter__(self) -> FaultyBus:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<FaultyBus around {self.bus!r}>"

    # -- publishing ---------------------------------------------------------------------------------------------

    def _take_while_disconnected(self, letter: _Letter, timeout: float | None) -> PublishReceipt | None:
        with self._lock:
            if self._passing:
                return None
            self._clock.wait_for(self._changed, self._may_publish_locked, timeout)
            if self._passing_locked():
                return None
            if self._stopping:
                raise ClosedError(f"bus {self.name!r}: stopped; make a new one")
            if len(self._waiting) >= self._window:
                raise BusFullError(
                    f"bus {self.name!r}: {self._window} messages wait for the connection, {letter.topic!r} was not "
                    "published; publish again later"
                )
            receipt = PublishReceipt(message_id=letter.message_id, topic=letter.topic, clock=self._clock)
            self._waiting.append((letter, receipt))
            return receipt

    def _passing_locked(self) -> bool:
        return self._passing

    def _may_publish_locked(self) -> bool:
        return self._passing or self._stopping or len(self._waiting) < self._window

    def _publish_with(self, fault: str | None, letter: _Letter, timeout: float | None) -> PublishReceipt:
        if fault is None:
            return letter.publish(self.bus, timeout)
        own = PublishReceipt(message_id=letter.message_id, topic=letter.topic, clock=self._clock)
        if fault in _REFUSED:
            own.settle(*_REFUSED[fault])
            return own
        if fault in ("reorder", "delay"):
            if not self._hold(letter, until_overtaken=fault == "reorder"):
                raise ClosedError(f"bus {self.name!r}: stopped; make a new one")
            own.settle(PublishStatus.CONFIRMED)
            return own
        receipt = letter.publish(self.bus, timeout)
        if fault == "drop_confirm":
            own.settle(PublishStatus.UNKNOWN, "no confirmation came")
            return own
        if fault == "disconnect":
            with self._lock:
                self._generation += 1
        self._pass_on([letter])  # the second time
        return receipt

    def _hold(self, letter: _Letter, *, until_overtaken: bool) -> bool:
        """Hold it back for its time; False when the bus is stopping."""
        with self._lock:
            if self._stopping:
                return False
            due = self._clock.monotonic() + self._delay_by
            heapq.heappush(self._late, (due, next(self._numbers), until_overtaken, letter))
            first, self._has_thread = not self._has_thread, True
        if first:
            self._late_thread = start_thread(
                lambda: run_forever(self._pass_on_due, self._late_stop, what=f"bus {self.name!r}, late messages"),
                name=f"hireliab.bus.{self.name}-late",
            )
        self._late_stop.wake()
        return True

    def _pass_on_due(self) -> float | None:
        """Pass on what is due; returns the seconds until the next."""
        now = self._clock.monotonic()
        self._pass_on(self._take_late(lambda entry: entry[0] <= now))
        with self._lock:
            return max(0.0, self._late[0][0] - self._clock.monotonic()) if self._late else None

    def _take_late(self, wanted: Callable[[_Entry], bool] | None = None) -> list[_Letter]:
        with self._lock:
            taken = sorted(entry for entry in self._late if wanted is None or wanted(entry))
            self._late = sorted(set(self._late).difference(taken))  # a sorted list is a heap
            return [letter for _, _, _, letter in taken]

    def _pass_on(self, letters: list[_Letter]) -> None:
        for letter in letters:
            try:
                letter.publish(self.bus, 0.0)
            except BusFullError:
                if not self._hold(letter, until_overtaken=False):
                    _log.warning("faulty bus %r: no room for message %s; it is lost", self.name, letter.message_id)
            except (BusError, ClosedError) as error:
                _log.warning("faulty bus %r: message %s is lost: %s", self.name, letter.message_id, error)

    # -- delivering ---------------------------------------------------------------------------------------------

    def _begin_delivery(self, source: Random) -> tuple[int, bool]:
        """Wait for the connection; the delivery's generation, and whether its acknowledgement will be lost."""
        with self._lock:
            self._clock.wait_for(self._changed, lambda: self._connected or self._stopping, None)
            if not self._connected:
                raise BusError(f"bus {self.name!r}: stopped while disconnected; the message was not handled")
            lost = self._plan.at_delivery(source) is not None
            if lost:
                self._plan.injected["drop_ack"] += 1
            return self._generation, lost

    def _is_current(self, generation: int) -> bool:
        with self._lock:
            return generation == self._generation


class _FaultyHandler:
    """A user's handler behind a connection that may lose its acknowledgements."""

    def __init__(self, bus: FaultyBus, handler: Handler, source: Random) -> None:
        self._bus = bus
        self._handler = handler
        self._source = source
        self._lock = threading.Lock()  # guards _extra
        self._extra: dict[tuple[str, str], int] = {}  # deliveries of which the bus inside does not know

    def __call__(self, message: Message) -> None:
        key = message.source, message.id
        with self._lock:
            extra = self._extra.pop(key, 0) if message.attempt > 1 else 0
        while True:
            generation, lost = self._bus._begin_delivery(self._source)
            delivery = replace(
                message,
                data=copy.deepcopy(message.data),  # handlers may change their copy
                attempt=message.attempt + extra,
                redelivered=message.redelivered or extra > 0,
            )
            try:
                self._handler(delivery)
            except BaseException as error:
                if self._bus._is_current(generation):
                    if extra:
                        with self._lock:
                            self._extra[key] = extra
                    raise
                _log.warning(
                    "faulty bus %r: the link that message %s came by is gone",
                    self._bus.name,
                    message.id,
                    exc_info=error,
                )
            else:
                if not lost and self._bus._is_current(generation):
                    return
            extra += 1
