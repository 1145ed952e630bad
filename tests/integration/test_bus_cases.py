"""
The adversarial cases 17 to 25 of the bus, against a broker of our own.

====  ===================================================================  ============================================
Case  What is done                                                         Test
====  ===================================================================  ============================================
17    publish_sync, stop, unsubscribe inside a handler                     tests/contract/test_message_bus.py, "calls
                                                                           from handlers", for every bus
18    a handler raises SystemExit, KeyboardInterrupt, MemoryError          tests/contract/test_message_bus.py,
                                                                           test_whatever_a_handler_raises_the_bus_goes_on
19    publishing in the instant of a reconnect                             here
20    acks with multiple, out of order, twice, for unknown numbers         tests/unit/messaging/test_rabbitmq_parts.py
21    a late ack from a handler that ran across two reconnects             here
22    a queue or exchange with other settings, no permission to declare    here
23    the broker blocks, then stop()                                       here
24    a wrong, missing or future envelope, huge headers, gzip, odd times   here; the same id with another body:
                                                                           tests/unit/messaging/test_inbox.py
25    the inbox's states and a crash, a lost ack or an expiry in between   tests/unit/messaging/test_inbox.py,
                                                                           tests/integration/test_inbox_processes.py
====  ===================================================================  ============================================
"""

import gzip
import json
import random
import threading
import time
from collections import Counter

import pika
import pytest

from hireliab.errors import TopologyError, UnconfirmedPublishError
from hireliab.messaging.bus import PublishStatus
from hireliab.messaging.inbox import Inbox
from hireliab.messaging.message_bus import open_message_bus
from hireliab.messaging.rabbitmq import _backoff
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq.topology import subscribing
from hireliab.testing import FaultyBus
from tests.support.buses import ENVELOPE, until
from tests.support.tcp_proxy import TcpProxy
from tests.support.together import Background, together

CAP = 30.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(_backoff, "LONGEST_PAUSE", 0.05)


@pytest.fixture
def open_bus():
    """Open buses that are stopped at the end."""
    buses = []

    def open_bus(url, **config):
        bus = open_message_bus(url, config={"retry_delays": [0.0], **config}, name=f"case{len(buses)}")
        buses.append(bus)
        return bus

    yield open_bus
    for bus in buses:
        bus.stop(0.0)
        bus.stop(CAP)


@pytest.fixture
def proxy(broker):
    with TcpProxy(broker.node.host, broker.node.port) as proxy:
        proxy.url = broker.at(proxy.host, proxy.port)
        yield proxy


class Held:
    """A handler that keeps each message until it is let go."""

    def __init__(self):
        self._arrived = threading.Condition()
        self.messages = []
        self.go = threading.Semaphore(0)

    def __call__(self, message):
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()
        assert self.go.acquire(timeout=CAP)

    def wait(self, count):
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, CAP), self.messages
            return [message.data for message in self.messages]


def only(bus):
    (status,) = bus.status().subscriptions
    return status


def raw(broker, *, body=b"1", properties=None, key="a"):
    """Publish what no bus of ours would."""
    with broker.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("hireliab", key, body, properties)


def letters(broker, count, queue="hireliab.dead.queue.g"):
    """Reasons and bodies of the dead letters."""
    found = []
    with broker.connect() as connection:
        channel = connection.channel()

        def enough():
            _, properties, body = channel.basic_get(queue, auto_ack=True)
            if properties is not None:
                found.append((properties.headers["hireliab_reason"], body))
            return len(found) >= count

        until(enough, lambda: f"dead letters: {found}")
    return found


# -- 19 -----------------------------------------------------------------------------------------------------------


def test_what_is_published_while_the_connection_breaks_and_returns_is_settled_and_arrives(broker, proxy, open_bus):
    bus, seen = open_bus(proxy.url), []
    bus.subscribe("a", lambda message: seen.append(message.data), group="g")
    # Its connection stays: it sees the order in which the broker got them. The other may see another one, when the broker
    # learns late that a connection is gone and has given what comes next to the new one.
    witness, witnessed = open_bus(broker.url), []
    witness.subscribe("a", lambda message: witnessed.append(tuple(message.data)), group="witness")
    over = threading.Event()

    def publish(n):
        receipts = []
        while not over.is_set() or len(receipts) < 100:
            receipts.append(bus.publish("a", [n, len(receipts)], timeout=CAP))
            time.sleep(0.0001)
        return receipts

    publishers = [Background(publish, n) for n in range(4)]
    for generation in range(1, 7):
        until(lambda generation=generation: bus.status().generation >= generation and only(bus).ready)
        proxy.cut()
    until(lambda: bus.status().generation >= 7)
    over.set()
    receipts = [publisher.result() for publisher in publishers]
    assert {receipt.wait(CAP) for part in receipts for receipt in part} == {PublishStatus.CONFIRMED}
    published = {(n, i) for n, part in enumerate(receipts) for i in range(len(part))}
    until(lambda: {tuple(data) for data in list(seen)} == published)
    until(lambda: set(list(witnessed)) == published)
    assert bus.status().in_flight == 0
    # None is overtaken for good: first appearances are in order.
    first = list(dict.fromkeys(witnessed))
    for n in range(4):
        assert [i for m, i in first if m == n] == list(range(len(receipts[n])))


# -- 21 -----------------------------------------------------------------------------------------------------------


def test_an_ack_of_an_earlier_connection_is_dropped_and_its_message_comes_again(broker, open_bus):
    bus, held = open_bus(broker.url), Held()
    bus.subscribe("a", held, group="g", prefetch=1)
    bus.publish_sync("a", "m")
    held.wait(1)
    for generation in (2, 3):
        broker.node.close_connections()
        until(lambda generation=generation: only(bus).generation == generation and only(bus).ready)
    until(lambda: only(bus).queued == 1)  # the same message by the new channel, with the same number
    held.go.release()
    assert held.wait(2) == ["m", "m"]
    assert only(bus).stale == 1
    first, second = held.messages
    assert (first.redelivered, second.redelivered, second.id) == (False, True, first.id)
    held.go.release(2)
    bus.publish_sync("a", "next")
    held.wait(3)
    broker.wait_for({"hireliab.queue.g": 0, "hireliab.dead.queue.g": 0})
    assert only(bus).generation == 3  # an ack for a number twice would have closed the channel


def test_a_late_ack_does_not_acknowledge_a_stranger_with_the_same_number(broker, proxy, open_bus):
    bus, held = open_bus(proxy.url), Held()
    bus.subscribe("a", held, group="g", prefetch=1)
    bus.publish_sync("a", "old")
    held.wait(1)
    proxy.refuse()
    proxy.cut()
    other, seen = open_bus(broker.url), []
    elsewhere = other.subscribe("a", lambda message: seen.append(message.data), group="g")
    until(lambda: seen == ["old"])
    assert elsewhere.unsubscribe(CAP)
    other.publish_sync("a", "stranger")
    proxy.heal()
    until(lambda: only(bus).queued == 1)  # it has number 1 on its channel, as "old" had on its own
    held.go.release()  # now "old" is acknowledged, too late
    assert held.wait(2) == ["old", "stranger"]
    until(lambda: only(bus).stale == 1)
    proxy.refuse()
    proxy.cut()
    broker.wait_for({"hireliab.queue.g": 1, "hireliab.dead.queue.g": 0})  # nobody has acknowledged the stranger
    held.go.release(2)


# -- 22 -----------------------------------------------------------------------------------------------------------


def arguments_of(queue_type):
    """What a bus of ours declares a group's queue with."""
    topology = subscribing(RabbitMQConfig(queue_type=queue_type), "a", "g", unique="")
    (queue,) = [one for one in topology.declarations if getattr(one, "name", None) == "hireliab.queue.g"]
    return queue.arguments


OURS = {queue_type: arguments_of(queue_type) for queue_type in ("classic", "quorum")}


def declared(broker, **queue):
    with broker.connect() as connection:
        connection.channel().queue_declare(**queue)


def works(bus, topic="other"):
    """Whether the rest of the bus is none the worse for it."""
    seen = []
    bus.subscribe(topic, seen.append, group="h")
    bus.publish_sync(topic, 1, mandatory=True)
    until(lambda: len(seen) == 1)
    return True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, ("x-dead-letter-exchange", "none", "hireliab.dead")),
        (OURS["classic"], ("x-queue-type", "classic", "quorum")),
        (OURS["quorum"] | {"x-max-length": 7}, ("x-max-length", "7", "1000000")),
        (OURS["quorum"] | {"x-delivery-limit": 3}, ("x-delivery-limit", "3", "20")),
    ],
)
def test_a_queue_with_other_arguments_is_one_error_that_names_both(broker, open_bus, arguments, words):
    declared(broker, queue="hireliab.queue.g", durable=True, arguments=arguments)
    bus = open_bus(broker.url)
    with pytest.raises(TopologyError, match="hireliab.queue.g") as caught:
        bus.subscribe("a", print, group="g")
    assert all(word in str(caught.value) for word in words), caught.value
    assert bus.status().subscriptions == ()
    assert works(bus)
    assert bus.status().generation == 1  # no connection was lost for it


def test_a_dead_letter_queue_with_other_arguments_is_that_error_too(broker, open_bus):
    declared(broker, queue="hireliab.dead.queue.g", durable=True)
    bus = open_bus(broker.url)
    with pytest.raises(TopologyError, match="hireliab.dead.queue.g"):
        bus.subscribe("a", print, group="g")
    assert works(bus)


def test_an_exchange_of_another_type_is_told_and_loses_no_message(broker, open_bus):
    with broker.connect() as connection:
        connection.channel().exchange_declare("hireliab", "direct", durable=True)
    bus = open_bus(broker.url)
    with pytest.raises(TopologyError, match="exchange 'hireliab'.*type.*direct.*topic"):
        bus.subscribe("a", print, group="g")
    with pytest.raises(UnconfirmedPublishError):
        bus.publish_sync("a", 1, timeout=1.0)
    until(lambda: "direct" in bus.status().last_error)
    generation = bus.status().generation
    time.sleep(0.5)
    assert bus.status().generation <= generation + 1  # no hot loop
    bus.stop(0.5)
    assert bus.status().in_flight == 0


def test_a_user_who_may_declare_nothing_is_told_so(broker, open_bus):
    broker.node.add_user("weak", "secret-password", vhost=broker.name, configure="^$")
    bus = open_bus(broker.at(broker.node.host, broker.node.port, user="weak", password="secret-password"))
    with pytest.raises(TopologyError, match="ACCESS_REFUSED|access") as caught:
        bus.subscribe("a", print, group="g")
    assert "secret-password" not in str(caught.value)
    assert "secret-password" not in str(bus.status())


# -- 23 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["memory", "disk"])
def test_a_bus_that_the_broker_blocks_can_be_stopped(broker, open_bus, which):
    bus, seen = open_bus(broker.url), []
    bus.subscribe("a", seen.append, group="g")
    bus.publish_sync("a", "before")
    with broker.node.alarm(which):
        receipts = [bus.publish("a", i) for i in range(20)]
        until(lambda: bus.status().blocked)
        receipts += [bus.publish("a", i) for i in range(20, 40)]
        began = time.monotonic()
        bus.stop(1.0)
        assert time.monotonic() - began < 20.0  # the broker blocks for as long as the block
        statuses = {receipt.status for receipt in receipts}
        assert statuses <= {PublishStatus.UNKNOWN, PublishStatus.REJECTED, PublishStatus.CONFIRMED}
        assert receipts[-1].status is PublishStatus.REJECTED
        assert bus.status().in_flight == 0


def test_what_a_blocked_broker_cannot_take_goes_to_the_local_store_at_stop(broker):
    kept = []

    def spill(topic, body, headers, message_id):
        kept.append((topic, body, dict(headers), message_id))
        return True

    bus = open_message_bus(broker.url, spill=spill)
    headers = {"h": "1"}
    bus.publish_sync("a", "before")
    with broker.node.alarm():
        bus.publish("a", "it tells that it blocks")
        until(lambda: bus.status().blocked)
        receipt = bus.publish("a", {"x": 1}, headers=headers, message_id="m")
        headers["h"] = "changed by its owner"
        bus.stop(1.0)
    assert receipt.status is PublishStatus.BUFFERED
    assert kept[-1] == ("a", b'{"x":1}', {"h": "1"}, "m")


# -- 24 -----------------------------------------------------------------------------------------------------------


def without(*names):
    return {name: value for name, value in ENVELOPE.items() if name.removeprefix("cloudEvents_") not in names}


def but(**changed):
    return ENVELOPE | {f"cloudEvents_{name}": value for name, value in changed.items()}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({}, "specversion"),
        ({"headers": {}}, "specversion"),
        ({"headers": without("id")}, "no id"),
        ({"headers": without("source")}, "no source"),
        ({"headers": without("type")}, "no type"),
        ({"headers": without("time")}, "no time"),
        ({"headers": but(specversion="2.0")}, "specversion"),
        ({"headers": but(specversion=1)}, "specversion"),
        ({"headers": but(id=7)}, "id"),
        ({"headers": but(time="yesterday")}, "time"),
        ({"headers": but(time="9999999-01-01T00:00:00Z")}, "time"),
        ({"headers": but(datacontenttype="application/xml")}, "application/xml"),
        ({"headers": ENVELOPE | {f"h{i}": "x" * 1000 for i in range(100)}}, "headers"),
        ({"headers": ENVELOPE | {"long": "x" * 100_000}}, "headers"),
        ({"headers": ENVELOPE, "content_encoding": "gzip", "body": gzip.compress(b"0" * 1_000_000)}, "gzip|encoding"),
        ({"headers": ENVELOPE, "body": b'{"x": NaN}'}, None),
        ({"headers": ENVELOPE, "body": b"{" * 50_000}, "not JSON"),
        ({"headers": ENVELOPE, "body": b"\x80abc"}, "not JSON"),
    ],
)
def test_what_no_bus_of_ours_writes_is_a_dead_letter_with_the_reason(broker, open_bus, what, reason):
    bus, seen = open_bus(broker.url), []
    bus.subscribe("a", lambda message: seen.append(message.data), group="g")
    what = dict(what)
    body = what.pop("body", b"1")
    raw(broker, body=body, properties=pika.BasicProperties(**what) if what else None)
    bus.publish_sync("a", "neighbour")
    until(lambda: seen and seen[-1] == "neighbour")
    if reason is None:
        return  # a matter of taste: Python reads it
    assert seen == ["neighbour"]
    ((found, kept),) = letters(broker, 1)
    assert any(word in found for word in reason.split("|")), found
    assert kept == body


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z", "2026-11-25T15:00:00+05:30"])
def test_a_senders_clock_is_the_senders_matter(broker, open_bus, at):
    bus, seen = open_bus(broker.url), []
    bus.subscribe("a", seen.append, group="g")
    raw(broker, properties=pika.BasicProperties(headers=but(time=at)))
    until(lambda: seen)
    assert seen[0].data == 1


def test_other_programs_headers_are_read_as_far_as_they_are_texts(broker, open_bus):
    bus, seen = open_bus(broker.url), []
    bus.subscribe("a", seen.append, group="g")
    odd = {"text": "t", "number": 7, "flag": True, "list": [1, "x"], "table": {"a": None}, "bytes": b"\xff"}
    body = json.dumps({"amount": "0.1"}).encode()
    raw(broker, body=body, properties=pika.BasicProperties(headers=ENVELOPE | odd, priority=3, reply_to="x"))
    until(lambda: seen)
    assert seen[0].headers["text"] == "t"
    assert "number" not in seen[0].headers
    assert seen[0].data == {"amount": "0.1"}


# -- all of them together -----------------------------------------------------------------------------------------

RATES = {"drop": 0.05, "drop_confirm": 0.1, "duplicate": 0.1, "reorder": 0.1, "delay": 0.1, "disconnect": 0.02}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("over", ["memory", "rabbitmq"])
def test_publishing_until_confirmed_and_an_inbox_do_each_thing_once_whatever_happens(request, tmp_path, over, seed):
    url = "memory://" if over == "memory" else request.getfixturevalue("broker").url
    inside = open_message_bus(url, config={"retry_delays": [0.0] * 4})
    effects, chance = Counter(), random.Random(seed)

    def handler(message):
        if chance.random() < 0.1:
            raise ValueError("before its effect")
        effects[message.id] += 1

    def publish(n):
        for i in range(60):
            message_id, data = f"{n}:{i}", [n, i]
            while bus.publish("a", data, message_id=message_id, timeout=CAP).wait(CAP) is not PublishStatus.CONFIRMED:
                pass  # under the same id, as the receipt's text says

    rates = RATES | {"nack": 0.05, "return": 0.05, "drop_ack": 0.2}
    with (
        Inbox(tmp_path / "inbox.db", group="g") as inbox,
        FaultyBus(inside, seed=seed, rates=rates, delay_by=0.01) as bus,
    ):
        bus.subscribe("a", inbox.once(handler), group="g", concurrency=2)
        together(3, publish)
        bus.heal()
        until(lambda: len(effects) + len(dead(bus, over)) >= 180, lambda: f"{len(effects)} of 180")
        bus.stop(CAP)
    assert set(effects.values()) == {1}
    assert len(effects) == 180, dead(bus, over)


def dead(bus, over):
    if over == "memory":
        return {letter.message.id for letter in bus.bus.dead_letters()}
    return range(bus.status().subscriptions[0].dead_lettered)
