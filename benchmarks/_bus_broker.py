"""The broker as the bus benchmark sees it: queues to publish to, what is in them, and whether the books balance."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import math
import os
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import pika
import pika.exceptions

from benchmarks._bus_ours import Hireliab
from benchmarks._bus_peers import Pipelined
from benchmarks._bus_work import Place
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq.topology import Binding, Exchange, Queue, subscribing

URL = os.environ.get("HIRELIAB_AMQP_URL") or "amqp://guest:guest@127.0.0.1:5672"
TOPIC = "benchmark.order.filled"
_SILENCE = 0.3  # seconds after which one looks whether the queue is empty
_SILENCES = 10  # how often, when it should not be, or should


def absent(url: str = URL) -> str:
    """Why the broker cannot be used, or ""."""
    try:
        with pika.BlockingConnection(_parameters(url)):
            return ""
    except pika.exceptions.AMQPError as error:
        return f"no broker ({type(error).__name__})"


def _parameters(url: str) -> Any:
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.blocked_connection_timeout = 20
    return parameters


def unbalanced(said: int, found: Sequence[int]) -> str:
    """
    Why a contestant's number of confirmed messages does not count, or "".

    Args:
        said: What it says was confirmed.
        found: The numbers of the messages that the queue then held.
    """
    times = collections.Counter(found)
    if said <= 0:
        return "nothing was confirmed"
    if len(times) != said:
        return f"{said} messages were confirmed, and the queue held {len(times)}"
    if len(found) != len(times):
        return f"{len(found) - len(times)} messages were in the queue twice"
    return ""


class Broker:
    """Makes places, fills them, looks into them, and takes them away."""

    def __init__(self, url: str = URL) -> None:
        self._url = url
        self._prefix = f"hl-bench-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        with self._channel() as channel:
            server = channel.connection._impl.server_properties or {}
        self.name = f"{_text(server.get('product'))} {_text(server.get('version'))}"

    @contextlib.contextmanager
    def _channel(self) -> Iterator[Any]:
        with pika.BlockingConnection(_parameters(self._url)) as connection:
            yield connection.channel()

    @contextlib.contextmanager
    def place(self, kind: str) -> Iterator[Place]:
        """A queue of this kind, as hireliab declares it, empty; it is deleted at the end."""
        exchange, group = f"{self._prefix}-{next(self._numbers)}", "work"
        config = RabbitMQConfig(amqp_exchange=exchange, queue_type=kind)
        topology = subscribing(config, TOPIC, group, unique="")
        exchanges, queues = set(), set()
        try:
            with self._channel() as channel:
                for one in topology.declarations:
                    if isinstance(one, Exchange):
                        exchanges.add(one.name)
                        channel.exchange_declare(one.name, one.type, durable=True)
                    elif isinstance(one, Queue):
                        queues.add(one.name)
                        channel.queue_declare(one.name, durable=one.durable, arguments=dict(one.arguments))
                    elif isinstance(one, Binding):
                        channel.queue_bind(one.queue, one.exchange, one.key)
            yield Place(url=self._url, exchange=exchange, key=TOPIC, queue=topology.queue, group=group, kind=kind)
        finally:
            with self._channel() as channel:
                for name in queues:
                    channel.queue_delete(name)
                for name in exchanges:
                    channel.exchange_delete(name)

    def empty(self, place: Place) -> None:
        """Throw away what an earlier turn may have left."""
        with self._channel() as channel:
            channel.queue_purge(place.queue)

    def drain(self, place: Place, said: int) -> list[int]:
        """The numbers of all messages in the queue, which is empty afterwards; `said` is how many there should be."""
        found: list[int] = []
        silent = 0
        with self._channel() as channel:
            for method, _, data in channel.consume(place.queue, auto_ack=True, inactivity_timeout=_SILENCE):
                if method is not None:
                    found.append(json.loads(data)["n"])
                    if len(found) < said or channel.get_waiting_message_count():
                        continue
                else:
                    silent += 1
                    if len(found) < said and silent < _SILENCES:
                        continue
                # What the broker has sent comes before its answer to the question how much is left.
                if not self._left(place, channel) and not channel.get_waiting_message_count():
                    break
        return found

    def _left(self, place: Place, channel: Any) -> int:
        return int(channel.queue_declare(place.queue, passive=True).method.message_count)

    def left(self, place: Place) -> int:
        """
        How many messages the queue holds, those that nobody acknowledged included once their consumer is gone.

        A busy broker counts acknowledgements late, so it is asked again for a while before the answer is not 0.
        """
        with self._channel() as channel:
            for _ in range(_SILENCES):
                left = self._left(place, channel)
                if not left:
                    break
                channel.connection.sleep(_SILENCE)
            return left

    def fill(self, place: Place, count: int, *, bare: bool) -> None:
        """Put so many messages in: hireliab's, or bare ones without any header."""
        if bare:
            # With confirms: a quorum queue drops what is open when the channel is closed.
            if Pipelined().publish_alone(place, math.inf, most=count).count != count:
                raise RuntimeError("the queue could not be filled")
        else:
            with Hireliab().publisher(place) as publisher:
                for number in range(count):
                    publisher.publish(number)
                if publisher.finish() != count:
                    raise RuntimeError("the queue could not be filled")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
