"""The self-test of what tells other processes: the bus in memory, outbox, inbox, and RabbitMQ where there is one."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from hireliab._install_parts import require
from hireliab._self_test_run import Skipped
from hireliab._self_test_stage import PATIENCE, SYMBOL, Stage, until
from hireliab.errors import BusFullError
from hireliab.messaging.inbox import Inbox
from hireliab.messaging.message_bus import InMemoryMessageBus, Message, Reject, open_message_bus
from hireliab.messaging.rabbitmq import topology
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._url import Address, parse_addresses

AMQP_URL = "amqp://guest:guest@127.0.0.1:5672/"


def memory_bus(_stage: Stage) -> str:
    """Delivers, delivers again what failed, and keeps what was given up."""
    seen: list[Message] = []

    def handler(message: Message) -> None:
        seen.append(message)
        if message.data == "bad":
            raise Reject("it is bad")
        if message.attempt == 1:
            raise ValueError("the first time")

    with InMemoryMessageBus(config={"retry_delays": [0.01]}) as bus:
        bus.subscribe("order.#", handler)
        for data in ("good", "bad"):
            bus.publish("order.filled", data).result(PATIENCE)
        done = until(lambda: len(seen) >= 3)
        require(done, f"{len(seen)} deliveries of 2 messages, not 3")
        ended = until(lambda: sum(s.acked + s.dead_lettered for s in bus.status().subscriptions) == 2)
        require(ended, f"it did not end its messages: {bus.status().subscriptions}")
        (dead,) = bus.dead_letters()
    attempts = [message.attempt for message in seen if message.data == "good"]
    require(attempts == [1, 2], f"a message that failed once was delivered as {attempts}")
    require(dead.message.data == "bad", f"the dead letter is {dead.message.data!r}")
    return "1 message delivered again after a failure, 1 rejected and kept as a dead letter"


class _Troubled:
    """A bus of a user's own that is down when it is asked first, and full when it is asked again."""

    def __init__(self, bus: InMemoryMessageBus) -> None:
        self._bus = bus
        self.refused = 0

    def publish(self, topic: str, data: Mapping[str, Any], /, *, message_id: str) -> object:
        self.refused += 1
        if self.refused == 1:
            raise ConnectionError("the bus is down")
        if self.refused == 2:
            raise BusFullError("the bus is full")
        self.refused = 2
        return self._bus.publish(topic, data, message_id=message_id)


def outbox(stage: Stage) -> str:
    """Events of an order reach the bus although it was down when they happened, each with one id, in order."""
    seen: list[Message] = []
    with InMemoryMessageBus() as bus:
        bus.subscribe("transaction.#", seen.append)
        troubled = _Troubled(bus)
        with stage.bot("outbox", message_bus=troubled) as bot:
            made = []
            for amount in ("0.004", "0.006"):
                made.append(bot.verifier.create_transaction(type="market_buy", symbol=SYMBOL, amount=amount))
                bot.verifier.execute(made[-1])
            until(lambda: len(seen) >= 2)
    require(troubled.refused == 2, f"the bus refused {troubled.refused} times, not 2")
    came = [(message.topic, message.data["transaction_id"]) for message in seen]
    expected = [("transaction.completed", order.id) for order in made]
    require(came == expected, f"of two orders that completed, these events came: {came}")
    require(len({message.id for message in seen}) == 2, "two events have one id")
    return "a bus that was down, then full, got the events of 2 orders, in their order"


def inbox(stage: Stage) -> str:
    """A message that comes three times is handled once, also after a restart."""
    handled: list[Message] = []
    path = stage.folder / "inbox.db"
    duplicates = 0
    for copies in (2, 1):  # the second round is the restarted process
        with InMemoryMessageBus() as bus, Inbox(path, group="self-test") as once:
            bus.subscribe("order.#", once.once(handled.append), group="self-test")
            for _ in range(copies):
                bus.publish("order.filled", {"id": 17}, message_id="self-test-17").result(PATIENCE)
            done = until(lambda: sum(s.acked for s in bus.status().subscriptions) == copies)  # noqa: B023 - ends here
            require(done, f"{copies} copies of a message were not handled: {bus.status().subscriptions}")
            duplicates += once.stats().duplicates
    require(len(handled) == 1, f"a message that came 3 times was handled {len(handled)} times")
    require(duplicates == 2, f"{duplicates} duplicates were counted, not 2")
    return "a message that came 3 times, once after a restart, was handled once"


# -- RabbitMQ -----------------------------------------------------------------------------------------------------


def rabbitmq(_stage: Stage) -> str:
    """A message is confirmed by a broker and delivered; what was made there is deleted."""
    url = os.environ.get("HIRELIAB_AMQP_URL") or AMQP_URL
    (address, *_) = parse_addresses(url)
    if not _answers(address):
        raise Skipped(f"not reachable at {address}; HIRELIAB_AMQP_URL names another broker")
    name = f"hireliab-self-test-{uuid.uuid4().hex[:12]}"
    seen: list[Message] = []
    with _swept(url, name), open_message_bus(url, config={"amqp_exchange": name}, name="self-test") as bus:
        bus.subscribe("order.#", seen.append)
        ready = until(lambda: all(s.ready for s in bus.status().subscriptions))
        require(ready, f"{address} does not feed a subscription: {bus.status().last_error}")
        receipt = bus.publish_sync("order.filled", {"amount": "0.01"}, mandatory=True, timeout=PATIENCE)
        require(until(lambda: seen), f"{address} confirmed a message and did not deliver it")
    require(seen[0].id == receipt.message_id, "another message came than was published")
    require(seen[0].data == {"amount": "0.01"}, f"the message became {seen[0].data!r:.80}")
    return f"a message was confirmed and delivered by {address}"


def _answers(address: Address) -> bool:
    """Whether somebody listens there; what it speaks is seen by using it."""
    try:
        with socket.create_connection((address.host, address.port), timeout=2.0):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _swept(url: str, name: str) -> Iterator[None]:
    """Afterwards the broker has nothing more of what a bus with this exchange declares."""
    try:
        yield
    finally:
        pika: Any = importlib.import_module("pika")  # a bus itself deletes nothing
        made = topology.subscribing(RabbitMQConfig(amqp_exchange=name), "order.#", None, unique="gone").declarations
        with contextlib.suppress(pika.exceptions.AMQPError, OSError):
            connection = pika.BlockingConnection(pika.URLParameters(url))
            channel = connection.channel()
            for one in made:
                if isinstance(one, topology.Queue):
                    channel.queue_delete(one.name)
                elif isinstance(one, topology.Exchange):
                    channel.exchange_delete(one.name)
            connection.close()
