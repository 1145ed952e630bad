"""The other libraries of the bus benchmark, each used in the way of its own documents."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pika
import pika.exceptions

from benchmarks._bus_work import PREFETCH, SETTLE, WINDOW, Done, Place, Publisher, Sink, Timed, body, ping

PATIENCE = 60.0
PERSISTENT = pika.BasicProperties(content_type="application/json", delivery_mode=2)


class _Counting:
    """A publisher whose call returns when its message is confirmed."""

    def __init__(self, publish: Callable[[bytes], bool]) -> None:
        self._publish = publish
        self._confirmed = 0

    def publish(self, number: int) -> None:
        if self._publish(body(number)):
            self._confirmed += 1

    def finish(self) -> int:
        return self._confirmed


class _Ear:
    """A consumer in a thread of its own, that tells when it has handled a message."""

    def __init__(self) -> None:
        self.ready, self.ended = threading.Event(), threading.Event()
        self._handled = threading.Semaphore(0)
        self._seen: list[int] = []

    def hear(self, number: int) -> None:
        """A message was handled."""
        self._seen.append(number)
        self._handled.release()

    def _wait(self) -> None:
        self._handled.acquire(timeout=PATIENCE)

    def race(self, publisher: AbstractContextManager[Publisher], consume: Callable[[], None], count: int) -> Done:
        """Publish so many messages, each when the one before was handled."""
        consumer = threading.Thread(target=consume, daemon=True)
        consumer.start()
        if not self.ready.wait(PATIENCE):
            raise RuntimeError("the consumer does not start")
        try:
            with publisher as opened:
                for _ in range(20):  # warm
                    opened.publish(0)
                    self._wait()
                self._seen.clear()
                taken = ping(count, opened.publish, self._wait)
        finally:
            self.ended.set()
            consumer.join(PATIENCE)
        return Done(count=len(self._seen), distinct=len(set(self._seen)), calls_ns=taken)


class Blocking:
    """pika's BlockingConnection with confirms."""

    shared = False

    @contextlib.contextmanager
    def publisher(self, place: Place) -> Iterator[Publisher]:
        with pika.BlockingConnection(pika.URLParameters(place.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()

            def publish(data: bytes) -> bool:
                channel.basic_publish(place.exchange, place.key, data, PERSISTENT)  # raises when it is not confirmed
                return True

            yield _Counting(publish)

    def consume(self, place: Place, count: int) -> Done:
        sink = Sink(count)
        with pika.BlockingConnection(pika.URLParameters(place.url)) as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=PREFETCH)

            def handle(_channel: Any, method: Any, _properties: Any, data: bytes) -> None:
                number = json.loads(data)["n"]
                channel.basic_ack(method.delivery_tag)
                if sink.take(number):
                    connection.call_later(SETTLE, channel.stop_consuming)

            channel.basic_consume(place.queue, handle)
            connection.call_later(PATIENCE, channel.stop_consuming)
            channel.start_consuming()
        return sink.result()

    def latency(self, place: Place, count: int) -> Done:
        """Publisher and consumer are two threads with a connection each."""
        ear = _Ear()

        def consume() -> None:
            with pika.BlockingConnection(pika.URLParameters(place.url)) as connection:
                channel = connection.channel()
                channel.basic_qos(prefetch_count=PREFETCH)

                def handle(_channel: Any, method: Any, _properties: Any, data: bytes) -> None:
                    ear.hear(json.loads(data)["n"])
                    channel.basic_ack(method.delivery_tag)

                channel.basic_consume(place.queue, handle)
                ear.ready.set()
                while not ear.ended.is_set():
                    connection.process_data_events(0.05)

        return ear.race(self.publisher(place), consume, count)


class Pipelined:
    """A bare SelectConnection: publishes in its own loop, with up to WINDOW messages unconfirmed."""

    shared = False
    _AT_ONCE = 200

    def publish_alone(self, place: Place, seconds: float, *, most: float = math.inf) -> Done:
        """Publish for so long, and no more than so many; then until everything is confirmed. In this thread."""
        work = _Pipeline(place, seconds, self._AT_ONCE, most)
        work.run()
        return work.done


class _Pipeline:
    def __init__(self, place: Place, seconds: float, at_once: int, most: float = math.inf) -> None:
        self._place, self._seconds, self._at_once, self._most = place, seconds, at_once, most
        self._number = self._confirmed = self._open_from = 0
        self._acked: set[int] = set()
        self._waits = False
        self._timed = Timed()
        self.done = Done()
        self._error: BaseException | None = None
        self._connection: Any = pika.SelectConnection(
            pika.URLParameters(place.url), on_open_callback=self._on_open, on_open_error_callback=self._on_gone,
            on_close_callback=self._on_gone,
        )  # fmt: skip

    def run(self) -> None:
        try:
            self._connection.ioloop.start()
        finally:
            self._connection.ioloop.close()  # the sockets that wake it, else, are left to the collector
        if self._error is not None:
            raise self._error

    def _on_gone(self, _connection: Any, error: Any) -> None:
        if not self.done.elapsed_ns:
            self._error = error if isinstance(error, BaseException) else RuntimeError(str(error))
        self._connection.ioloop.stop()

    def _on_open(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_answer, callback=self._begin)

    def _begin(self, _frame: Any) -> None:
        self._timed.__enter__()
        self._end = time.perf_counter() + self._seconds
        self._pump()

    def _pump(self) -> None:
        publish, exchange, key = self._channel.basic_publish, self._place.exchange, self._place.key
        for _ in range(self._at_once):
            if self._number - self._confirmed >= WINDOW:
                self._waits = True
                return
            if self._number >= self._most:
                self._end = 0.0
                break
            publish(exchange, key, body(self._number), PERSISTENT)
            self._number += 1
        if time.perf_counter() < self._end:
            self._connection.ioloop.call_later(0, self._pump)
        else:
            self._end = 0.0
            self._look()

    def _on_answer(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        if frame.method.NAME == "Basic.Nack":
            raise RuntimeError("the broker refused a message")
        if frame.method.multiple:
            self._confirmed += sum(n not in self._acked for n in range(self._open_from + 1, tag + 1))
            self._acked = {n for n in self._acked if n > tag}
            self._open_from = max(tag, self._open_from)
        else:
            self._acked.add(tag)
            self._confirmed += 1
            while self._open_from + 1 in self._acked:
                self._open_from += 1
                self._acked.discard(self._open_from)
        if self._waits:
            self._waits = False
            self._pump()
        else:
            self._look()

    def _look(self) -> None:
        if self._end == 0.0 and self._confirmed == self._number and not self.done.elapsed_ns:
            self._timed.__exit__()
            self.done = Done(count=self._confirmed, elapsed_ns=self._timed.elapsed_ns, cpu_ns=self._timed.cpu_ns)
            self._connection.close()


class Kombu:
    """kombu on py-amqp, with confirms."""

    shared = False

    def _connection(self, place: Place) -> Any:
        kombu: Any = importlib.import_module("kombu")
        return kombu.Connection(place.url, transport_options={"confirm_publish": True})

    @contextlib.contextmanager
    def publisher(self, place: Place) -> Iterator[Publisher]:
        with self._connection(place) as connection:
            producer = connection.Producer(serializer=None)

            def publish(data: bytes) -> bool:
                producer.publish(
                    data,
                    exchange=place.exchange,
                    routing_key=place.key,
                    content_type="application/json",
                    content_encoding="utf-8",
                    delivery_mode=2,
                )
                return True

            yield _Counting(publish)

    def consume(self, place: Place, count: int) -> Done:
        sink = Sink(count)

        def handle(data: Any, message: Any) -> None:
            message.ack()
            sink.take(data["n"])

        self._consume(place, handle, until=sink.done.is_set)
        return sink.result()

    def _consume(self, place: Place, handle: Any, *, until: Callable[[], bool], ready: Any = None) -> None:
        kombu: Any = importlib.import_module("kombu")
        with self._connection(place) as connection:
            queue = kombu.Queue(place.queue, no_declare=True)
            consumer = connection.Consumer(
                [queue], callbacks=[handle], accept=["json"], prefetch_count=PREFETCH, auto_declare=False
            )
            end = time.monotonic() + PATIENCE
            with consumer:
                if ready is not None:
                    ready.set()
                while not until() and time.monotonic() < end:
                    with contextlib.suppress(TimeoutError):
                        connection.drain_events(timeout=0.05 if ready is not None else 1)
                time.sleep(SETTLE)

    def latency(self, place: Place, count: int) -> Done:
        """Publisher and consumer are two threads with a connection each."""
        ear = _Ear()

        def handle(data: Any, message: Any) -> None:
            ear.hear(data["n"])
            message.ack()

        def consume() -> None:
            self._consume(place, handle, until=ear.ended.is_set, ready=ear.ready)

        return ear.race(self.publisher(place), consume, count)


class AMQPStorm:
    """amqpstorm with confirms; it has a thread of its own that reads."""

    shared = False

    def _connection(self, place: Place) -> Any:
        amqpstorm: Any = importlib.import_module("amqpstorm")
        return amqpstorm.UriConnection(place.url)

    @contextlib.contextmanager
    def publisher(self, place: Place) -> Iterator[Publisher]:
        properties = {"content_type": "application/json", "delivery_mode": 2}
        with self._connection(place) as connection, connection.channel() as channel:
            channel.confirm_deliveries()

            def publish(data: bytes) -> bool:
                return bool(channel.basic.publish(data, place.key, place.exchange, dict(properties)))

            yield _Counting(publish)

    def consume(self, place: Place, count: int) -> Done:
        sink = Sink(count)

        def handle(message: Any) -> None:
            number = message.json()["n"]
            message.ack()
            sink.take(number)

        self._consume(place, handle, until=sink.done.is_set)
        return sink.result()

    def _consume(self, place: Place, handle: Any, *, until: Callable[[], bool], ready: Any = None) -> None:
        with self._connection(place) as connection, connection.channel() as channel:
            channel.basic.qos(PREFETCH)
            channel.basic.consume(handle, place.queue)
            if ready is not None:
                ready.set()
            end = time.monotonic() + PATIENCE
            while not until() and time.monotonic() < end:
                channel.process_data_events()  # what start_consuming() does
            time.sleep(SETTLE)

    def latency(self, place: Place, count: int) -> Done:
        """Publisher and consumer are two threads with a connection each."""
        ear = _Ear()

        def handle(message: Any) -> None:
            ear.hear(message.json()["n"])
            message.ack()

        def consume() -> None:
            self._consume(place, handle, until=ear.ended.is_set, ready=ear.ready)

        return ear.race(self.publisher(place), consume, count)
