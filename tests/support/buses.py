"""The buses that the contract is about, each with the little that a test must know beyond the contract."""

import time
from contextlib import contextmanager

from hireliab.messaging import memory_bus
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.testing import FaultyBus
from tests.support.broker import connect, sweep

CAP = 20.0


def until(condition, what="that did not happen"):
    """Wait for the condition, which nothing announces; returns its value."""
    give_up = time.monotonic() + CAP
    while not (value := condition()):
        assert time.monotonic() < give_up, what() if callable(what) else what
        time.sleep(0.002)
    return value


class Memory:
    """An in-memory bus."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch

    def open(self, *, room=1000, **config):
        """
        Make a bus.

        Args:
            room: How many messages it takes before it is full.
        """
        return InMemoryMessageBus(name="contract", config={"retry_delays": [0.0, 0.0], "queue_size": room, **config})

    def inside(self, bus):
        return bus

    def dead_letters(self, bus, group=None, count=1):
        """Ids and reasons of the dead letters, once there are `count` of them."""
        letters = until(lambda: len(self.inside(bus).dead_letters()) >= count and self.inside(bus).dead_letters())
        return [(letter.message.id, letter.reason) for letter in letters if letter.group == group]

    def publish_raw(self, bus, topic, body):
        """Publish this body under this topic, which our own publish would never do."""
        with self._monkeypatch.context() as patch:
            patch.setattr(memory_bus, "encode_data", lambda data, *, limit: body)
            self.inside(bus).publish(topic, None, message_id="raw")

    def close(self):
        pass


class Faulty(Memory):
    """A FaultyBus without a fault: it must keep the whole contract."""

    def open(self, **config):
        return FaultyBus(super().open(**config))

    def inside(self, bus):
        return bus.bus


class RabbitMQ:
    """A bus over the shared broker, with names of its own there."""

    GROUPS = ("g", "h")
    """The groups that tests may use."""

    def __init__(self, url, prefix, queue_type):
        self._url = url
        self._prefix = prefix
        self._queue_type = queue_type

    def open(self, *, room=1000, **config):
        from hireliab.messaging.rabbitmq.bus import RabbitMQMessageBus

        return RabbitMQMessageBus(
            {
                "retry_delays": [0.0, 0.0],
                "window": room,
                "amqp_exchange": self._prefix,
                "queue_type": self._queue_type,
                **config,
            },
            url=self._url,
            name="contract",
        )

    @contextmanager
    def channel(self):
        with connect(self._url) as connection:
            yield connection.channel()

    def dead_letters(self, bus, group=None, count=1):
        queue = f"{self._prefix}.dead.own" if group is None else f"{self._prefix}.dead.queue.{group}"
        letters = []

        def found():
            _, properties, _ = channel.basic_get(queue, auto_ack=True)
            if properties is not None:
                letters.append((properties.message_id, properties.headers["hireliab_reason"]))
            return len(letters) >= count

        with self.channel() as channel:
            until(found, lambda: f"dead letters: {letters}")
        return letters

    def publish_raw(self, bus, topic, body):
        import pika

        with self.channel() as channel:
            channel.confirm_delivery()
            channel.basic_publish(self._prefix, topic, body, pika.BasicProperties(message_id="raw", headers=ENVELOPE))

    def close(self):
        queues = [f"{self._prefix}.dead.own"]
        queues += [f"{self._prefix}.{kind}.{group}" for kind in ("queue", "dead.queue") for group in self.GROUPS]
        sweep(self._url, queues=queues, exchanges=[self._prefix, f"{self._prefix}.dead"])


ENVELOPE = {
    "cloudEvents_id": "raw",
    "cloudEvents_source": "a test",
    "cloudEvents_type": "a",
    "cloudEvents_specversion": "1.0",
    "cloudEvents_time": "2026-11-25T15:00:00Z",
    "cloudEvents_datacontenttype": "application/json",
}
"""Headers of a message whose body alone is wrong."""
