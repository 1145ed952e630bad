"""hireliab's contestants of the bus benchmark."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks._bus_work import PREFETCH, SETTLE, WINDOW, Done, Place, Publisher, Sink, order, ping
from hireliab.messaging.bus import Message, MessageBus, PublishStatus
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.messaging.rabbitmq.bus import RabbitMQMessageBus

PATIENCE = 60.0


class _Async:
    """publish(), whose receipts are looked at in the end."""

    def __init__(self, bus: MessageBus, key: str) -> None:
        self._publish, self._key = bus.publish, key
        self._receipts: list[Any] = []

    def publish(self, number: int) -> None:
        self._receipts.append(self._publish(self._key, order(number), timeout=None))

    def finish(self) -> int:
        return sum(receipt.wait(PATIENCE) is PublishStatus.CONFIRMED for receipt in self._receipts)


class _Sync:
    """publish_sync()."""

    def __init__(self, bus: MessageBus, key: str) -> None:
        self._publish, self._key = bus.publish_sync, key
        self._counts: list[None] = []  # several threads: append is one step

    def publish(self, number: int) -> None:
        if self._publish(self._key, order(number)).status is PublishStatus.CONFIRMED:
            self._counts.append(None)

    def finish(self) -> int:
        return len(self._counts)


class Hireliab:
    """The bus over RabbitMQ, publish() and receipts."""

    shared = True
    _way: type[_Async | _Sync] = _Async

    def _bus(self, place: Place) -> RabbitMQMessageBus:
        config = {"amqp_exchange": place.exchange, "queue_type": place.kind, "window": WINDOW}
        return RabbitMQMessageBus(config, url=place.url, name="benchmark")

    @contextlib.contextmanager
    def publisher(self, place: Place) -> Iterator[Publisher]:
        with self._bus(place) as bus:
            bus.publish_sync("warm.up", None)
            yield self._way(bus, place.key)

    def consume(self, place: Place, count: int) -> Done:
        sink = Sink(count)
        with self._bus(place) as bus:
            bus.subscribe(place.key, lambda message: sink.take(message.data["n"]), group=place.group, prefetch=PREFETCH)
            sink.done.wait(PATIENCE)
            time.sleep(SETTLE)
            bus.stop()
        return sink.result()

    def latency(self, place: Place, count: int) -> Done:
        with self._bus(place) as bus:
            return _latency(bus, place, count)

    def calls(self, place: Place, count: int) -> Done:
        """What publish() itself takes: in bursts that fit the window."""
        with self._bus(place) as bus:
            done = _calls(bus, place, count)
            time.sleep(SETTLE)
            return done


class HireliabSync(Hireliab):
    """The bus over RabbitMQ, publish_sync(): each call waits for its confirmation."""

    _way = _Sync


class Memory:
    """The bus in memory, with one handler that takes what is published."""

    shared = True

    @contextlib.contextmanager
    def publisher(self, place: Place) -> Iterator[Publisher]:
        taken: list[int] = []
        with InMemoryMessageBus(config={"queue_size": 10_000}) as bus:
            bus.subscribe(place.key, lambda message: taken.append(message.data["n"]), group=place.group)
            yield _Handled(bus, place.key, taken)

    def consume(self, place: Place, count: int) -> Done:
        sink, gate = Sink(count), threading.Event()

        def handle(message: Message) -> None:
            gate.wait(PATIENCE)
            sink.take(message.data["n"])

        with InMemoryMessageBus(config={"queue_size": count + 1}) as bus:
            bus.subscribe(place.key, handle, group=place.group)
            for number in range(count):
                bus.publish(place.key, order(number))
            gate.set()
            sink.done.wait(PATIENCE)
            bus.stop()
        return sink.result()

    def latency(self, place: Place, count: int) -> Done:
        with InMemoryMessageBus() as bus:
            return _latency(bus, place, count)

    def calls(self, place: Place, count: int) -> Done:
        """What publish() itself takes, while a handler works."""
        with InMemoryMessageBus(config={"queue_size": 10_000}) as bus:
            return _calls(bus, place, count)


class _Handled(_Async):
    """A message in memory counts when it was handled, too."""

    def __init__(self, bus: MessageBus, key: str, taken: list[int]) -> None:
        super().__init__(bus, key)
        self._bus, self._taken = bus, taken

    def finish(self) -> int:
        confirmed = super().finish()
        end = time.monotonic() + PATIENCE
        while len(self._taken) < confirmed and time.monotonic() < end:
            time.sleep(0.001)
        return min(confirmed, len(set(self._taken)))


def _latency(bus: MessageBus, place: Place, count: int) -> Done:
    handled = threading.Semaphore(0)
    seen: list[int] = []

    def handle(message: Message) -> None:
        seen.append(message.data["n"])
        handled.release()

    bus.subscribe(place.key, handle, group=place.group, prefetch=PREFETCH)
    for number in range(20):  # connected, and warm
        bus.publish_sync(place.key, order(number))
        handled.acquire(timeout=PATIENCE)
    seen.clear()
    taken = ping(
        count,
        lambda number: bus.publish(place.key, order(number)),
        lambda: handled.acquire(timeout=PATIENCE),
    )
    return Done(count=len(seen), distinct=len(set(seen)), calls_ns=taken)


def _calls(bus: MessageBus, place: Place, count: int) -> Done:
    seen: list[int] = []
    bus.subscribe(place.key, lambda message: seen.append(message.data["n"]), group=place.group, prefetch=PREFETCH)
    bus.publish_sync(place.key, order(-1))
    taken, confirmed = [], 0
    publish, clock, key = bus.publish, time.perf_counter_ns, place.key
    for start in range(0, count, 1000):
        receipts = []
        for number in range(start, start + 1000):
            event = order(number)
            began = clock()
            receipt = publish(key, event)
            taken.append(clock() - began)
            receipts.append(receipt)
        confirmed += sum(receipt.wait(PATIENCE) is PublishStatus.CONFIRMED for receipt in receipts)
        end = time.monotonic() + PATIENCE
        while len(seen) < confirmed + 1 and time.monotonic() < end:  # the next burst finds nothing in its way
            time.sleep(0.001)
    return Done(count=confirmed, distinct=len(set(seen)) - 1, calls_ns=taken)
