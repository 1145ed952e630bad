"""What a bus keeps to when it confirms and when it connects again (B3 and B5 of the design), against a real broker."""

import json
import random
import socket

import pytest

from hireliab.errors import UnconfirmedPublishError
from hireliab.messaging.bus import PublishStatus
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._url import parse_addresses
from hireliab.messaging.rabbitmq.connection import BrokerConnection
from hireliab.testing import FakeClock
from tests.support.bus_traffic import CAP, Collector, impatient, make_bus, until
from tests.support.tcp_proxy import TcpProxy
from tests.support.together import together

__all__ = ["impatient"]

pytestmark = pytest.mark.usefixtures("impatient")

CONFIRMED, RETURNED, NACKED = PublishStatus.CONFIRMED, PublishStatus.RETURNED, PublishStatus.NACKED


# -- B3: confirms -----------------------------------------------------------------------------------------------------


def test_confirms_of_quick_and_slow_queues_and_returned_messages_settle_each_receipt_as_its_own(broker):
    """Answers of queues of different kinds come out of turn, alone and for many at once, with returns between them."""
    with (
        make_bus(broker.url, name="quorum") as quorum,
        make_bus(broker.url, name="classic", queue_type="classic") as classic,
        make_bus(broker.url, name="here") as here,
    ):
        everything, quick = Collector(), Collector()
        quorum.subscribe("all.#", everything, group="slow", concurrency=2)
        classic.subscribe("all.quick", quick, group="quick")
        topics = ["all.quick", "all.slow", "nobody"]

        def publish(t):
            chance = random.Random(t)
            sent = [(chance.choice(topics), [t, i]) for i in range(400)]
            return [
                (topic, data, here.publish(topic, data, mandatory=True, message_id=f"{t}-{data[1] // 2}", timeout=CAP))
                for topic, data in sent
            ]

        published = [one for part in together(4, publish) for one in part]
        for topic, _, receipt in published:
            assert receipt.wait(CAP) is (RETURNED if topic == "nobody" else CONFIRMED)
        wanted = sorted(data for topic, data, _ in published if topic != "nobody")
        everything.wait(len(wanted))
        assert sorted(everything.data()) == wanted
        quick_ones = sorted(data for topic, data, _ in published if topic == "all.quick")
        quick.wait(len(quick_ones))
        assert sorted(quick.data()) == quick_ones
        until(lambda: here.status().in_flight == 0)
        status = here.status()
        assert (status.published, status.returned) == (len(wanted), len(published) - len(wanted))
        assert (status.republished, status.unknown, status.nacked, status.generation) == (0, 0, 0, 1)


def test_a_refusal_is_never_taken_for_a_confirmation_when_the_connection_breaks_in_between(broker):
    with (
        TcpProxy(broker.node.host, broker.node.port) as proxy,
        make_bus(broker.url, name="there", max_length=5, queue_type="classic") as there,
        make_bus(broker.at(proxy.host, proxy.port), name="far") as far,
    ):
        collector = Collector()
        there.subscribe("a", collector, group="g").unsubscribe(CAP)
        receipts = [far.publish_sync("a", [0, i], timeout=CAP) for i in range(3)]
        sent = [(0, 0), (0, 1), (0, 2)]
        for round_ in range(1, 6):
            sent += [(round_, i) for i in range(20)]
            receipts += [far.publish("a", [round_, i], timeout=CAP) for i in range(20)]
            proxy.cut_after(1 + 13 * round_, "down")
        statuses = [receipt.wait(CAP) for receipt in receipts]
        assert set(statuses) == {CONFIRMED, NACKED}  # what was taken when its answer was cut off may be refused now
        proxy.heal()
        held = broker.queues()["hireliab.queue.g"]
        confirmed = {data for data, status in zip(sent, statuses, strict=True) if status is CONFIRMED}
        there.subscribe("a", collector, group="g")
        collector.wait(held)
        until(lambda: broker.queues()["hireliab.queue.g"] == 0)
        assert confirmed <= {tuple(data) for data in collector.data()}
        with pytest.raises(UnconfirmedPublishError, match="nacked"):
            receipts[statuses.index(NACKED)].result(0)


# -- B5: reconnecting ---------------------------------------------------------------------------------------------------


def test_a_name_is_looked_up_for_each_connection(broker, monkeypatch):
    """A broker that moves keeps its name, not its address."""
    ask, asked, there = socket.getaddrinfo, [], [("127.0.0.1", 1)]

    def answer(host, port, *args, **kwargs):
        if host != "broker.invalid":
            return ask(host, port, *args, **kwargs)
        asked.append(there[-1])
        return ask(*there[-1], *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with make_bus(broker.at("broker.invalid", 5672)) as bus:
        receipt = bus.publish("a", 1)
        until(lambda: len(asked) >= 2)
        assert receipt.status is None
        there.append((broker.node.host, broker.node.port))
        assert receipt.wait(CAP) is CONFIRMED
        broker.node.close_connections()
        bus.publish_sync("a", 2, timeout=CAP)
        assert asked.count(there[-1]) >= 2


def test_the_broker_knows_each_connection_by_its_name(broker):
    with make_bus(broker.url, name="prices") as bus:
        bus.subscribe("a", Collector(), group="g")
        bus.publish_sync("a", 1, timeout=CAP)
        names = broker.node.ctl("list_connections", "client_properties")
    assert '"connection_name","hireliab.bus.prices-publish"' in names
    assert '"connection_name","hireliab.bus.prices-consume"' in names


def test_several_brokers_are_tried_in_an_order_of_ones_own():
    """A hundred bots that start at once do not all call the first of the list."""
    addresses = parse_addresses([f"amqp://h{n}" for n in range(4)])
    firsts = {
        BrokerConnection(
            name="b", addresses=addresses, config=RabbitMQConfig(), client=None, clock=FakeClock(), rng=random.Random(seed)
        )._addresses[0].host
        for seed in range(50)
    }  # fmt: skip
    assert firsts == {f"h{n}" for n in range(4)}


def test_each_generation_declares_what_it_needs_again(broker):
    with make_bus(broker.url) as bus:
        collector = Collector()
        bus.subscribe("a.#", collector, group="g")
        for generation in range(1, 4):
            bus.publish_sync(f"a.{generation}", generation, timeout=CAP)
            with broker.connect() as connection:
                channel = connection.channel()
                channel.queue_unbind("hireliab.queue.g", "hireliab", "a.#")
            broker.node.close_connections()
            until(lambda generation=generation: bus.status().generation > generation)
            # The consumers' connection may come back after the publishers': until then the message is returned.
            until(lambda: bus.publish("a.b", "after", mandatory=True, timeout=CAP).wait(CAP) is CONFIRMED)
        collector.wait(6)
        assert json.dumps(collector.data()).count("after") == 3
