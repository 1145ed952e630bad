"""A network between the bus and its broker that cuts, holds back, swallows and delays what is on its way."""

import threading
import time

import pytest

from hireliab.errors import BusFullError, UnconfirmedPublishError
from hireliab.messaging.bus import PublishStatus
from tests.support.bus_traffic import CAP, Collector, impatient, make_bus, until
from tests.support.tcp_proxy import TcpProxy
from tests.support.together import together

__all__ = ["impatient"]

pytestmark = pytest.mark.usefixtures("impatient")

CONFIRMED, UNKNOWN = PublishStatus.CONFIRMED, PublishStatus.UNKNOWN


@pytest.fixture
def proxy(broker):
    with TcpProxy(broker.node.host, broker.node.port) as proxy:
        yield proxy


@pytest.fixture
def far(broker, proxy):
    """The broker's URL by way of the proxy."""
    return broker.at(proxy.host, proxy.port)


def unacked(broker):
    """Messages of the group's queue in the hands of consumers, as the broker sees it."""
    listed = broker.node.ctl("list_queues", "-p", broker.name, "name", "messages_unacknowledged")
    return sum(int(line.split("\t")[1]) for line in listed.splitlines() if line.startswith("hireliab.queue.g\t"))


def once(messages):
    """The data of the messages without their repetitions; a repetition must be the same message."""
    ids = {}
    for message in messages:
        assert ids.setdefault(str(message.data), message.id) == message.id, "one message under two ids"
    return list(dict.fromkeys(message.data for message in messages))


@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_connection_cut_in_mid_frame_loses_nothing_and_keeps_the_order(broker, proxy, far, direction, how):
    with make_bus(broker.url, name="there") as there, make_bus(far) as bus:
        collector = Collector()
        there.subscribe("a", collector, group="g")
        bus.publish_sync("a", -1, timeout=CAP)
        receipts = []
        for round_ in range(12):
            # Another place of a frame each time; an answer has 21 bytes, and one may be for all.
            proxy.cut_after(37 + 101 * round_ if direction == "up" else 1 + round_, direction, how=how)
            accepted = proxy.accepted
            for i in range(round_ * 50, round_ * 50 + 50):
                receipts.append(bus.publish("a", i, timeout=CAP))
            until(lambda accepted=accepted: proxy.accepted > accepted)
            assert {receipt.wait(CAP) for receipt in receipts} == {CONFIRMED}
        expected = [-1, *range(600)]
        collector.wait(lambda messages: {message.data for message in messages} == set(expected))
        assert once(collector.messages) == expected
        assert bus.status().republished


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_connection_cut_while_it_is_made_is_made_again_at_once(broker, proxy, far, direction, monkeypatch):
    from hireliab.messaging.rabbitmq import _backoff

    monkeypatch.setattr(_backoff, "REFUSED_PAUSE", 3600.0)  # nobody has refused anything
    for count in (0, 1, 7, 100, 300, 420, 500, 530):
        proxy.cut_after(count, direction)
        with make_bus(far) as bus:
            assert bus.publish("a", 1).wait(CAP) is CONFIRMED, count
    proxy.heal()


def test_large_messages_cut_in_the_middle_arrive_whole(broker, proxy, far):
    with make_bus(broker.url, name="there") as there, make_bus(far) as bus:
        collector = Collector()
        there.subscribe("a", collector, group="g")
        bodies = [chr(ord("a") + i) * 700_000 for i in range(6)]
        receipts = []
        for body in bodies:
            proxy.cut_after(300_000, "up")
            receipts.append(bus.publish("a", body, timeout=CAP))
        assert {receipt.wait(CAP) for receipt in receipts} == {CONFIRMED}
        collector.wait(lambda messages: len({message.data for message in messages}) == 6)
        assert once(collector.messages) == bodies


def test_a_cut_between_publish_and_confirm_doubles_under_the_same_id(broker, proxy, far):
    with make_bus(broker.url, name="there") as there, make_bus(far) as bus:
        collector = Collector()
        there.subscribe("a", collector, group="g")
        bus.publish_sync("a", -1, timeout=CAP)
        proxy.drop("down")
        receipts = [bus.publish("a", i) for i in range(50)]
        collector.wait(51)  # the broker has them all, and its answers are gone
        assert [receipt.status for receipt in receipts] == [None] * 50
        proxy.heal()
        proxy.cut()
        assert {receipt.wait(CAP) for receipt in receipts} == {CONFIRMED}
        collector.wait(101)
        assert once(collector.messages) == list(range(-1, 50))
        assert len(collector.data()) == 101
        assert (bus.status().published, bus.status().republished) == (51, 50)


def test_a_cut_between_the_end_of_a_handler_and_its_ack_delivers_again_and_says_so(broker, proxy, far):
    with make_bus(broker.url, name="there") as there, make_bus(far) as bus:
        collector = Collector()
        bus.subscribe("a", collector, group="g", prefetch=20)
        there.publish_sync("a", -1, timeout=CAP)
        until(lambda: bus.status().subscriptions[0].acked == 1)
        until(lambda: not unacked(broker))
        proxy.stall("up")
        for i in range(10):
            there.publish_sync("a", i, timeout=CAP)
        collector.wait(11)
        until(lambda: bus.status().subscriptions[0].acked == 11)  # said, but the broker does not hear it
        proxy.cut()
        proxy.heal()
        collector.wait(21)
        assert collector.data() == [*range(-1, 10), *range(10)]
        assert all(message.redelivered for message in collector.messages[11:])
        assert not any(message.redelivered for message in collector.messages[:11])
        until(lambda: not unacked(broker))
        broker.wait_for({"hireliab.queue.g": 0, "hireliab.dead.queue.g": 0})


def test_an_ack_of_a_handler_that_outlived_its_connection_acknowledges_nothing_else(broker, proxy, far):
    # The new channel gives out the same numbers: an old ack on it would take a message away from another handler.
    with make_bus(broker.url, name="there") as there, make_bus(far) as bus:
        first, second = threading.Event(), threading.Event()
        collector = Collector(lambda message: (first if not message.redelivered else second).wait(CAP))
        bus.subscribe("a", collector, group="g", prefetch=2)
        there.publish_sync("a", 0, timeout=CAP)
        collector.wait(1)

        def cut():
            generation = bus.status().subscriptions[0].generation
            proxy.cut()
            until(lambda: bus.status().subscriptions[0].generation > generation and bus.status().subscriptions[0].ready)

        cut()
        first.set()  # the first handling ends now; its ack belongs to a channel that is gone
        collector.wait(2)
        until(lambda: bus.status().subscriptions[0].stale == 1)
        cut()  # the second handling's ack has nowhere to go either: the broker still has the message
        second.set()
        collector.wait(3)
        until(lambda: bus.status().subscriptions[0].acked == 1)
        assert bus.status().subscriptions[0].stale == 2
        assert {message.id for message in collector.messages} == {collector.messages[0].id}


@pytest.mark.slow
@pytest.mark.parametrize("idle", [True, False], ids=["idle", "busy"])
def test_a_half_open_link_is_found_within_heartbeat_and_five_seconds(broker, proxy, far, idle):
    heartbeat = 2
    with make_bus(broker.url, name="there") as there, make_bus(far, heartbeat=heartbeat) as bus:
        collector = Collector()
        bus.subscribe("a", collector, group="g")
        bus.publish_sync("a", 0, timeout=CAP)
        until(lambda: collector.data() == [0])
        proxy.drop()
        accepted, began = proxy.accepted, time.monotonic()
        receipts = []
        while proxy.accepted < accepted + 2:  # both connections are made anew
            if not idle and len(receipts) < 500:
                receipts.append(bus.publish("a", len(receipts), timeout=CAP))
            time.sleep(0.01)
            assert time.monotonic() < began + CAP
        found = time.monotonic() - began
        assert found <= heartbeat + 5 + 3  # 3: a look each second, jitter, and a machine with other work
        proxy.heal()
        proxy.cut()
        assert {receipt.wait(CAP) for receipt in receipts} <= {CONFIRMED}
        until(lambda: bus.status().subscriptions[0].ready and bus.status().connected)
        there.publish_sync("a", "new", timeout=CAP)
        collector.wait(lambda messages: any(message.data == "new" for message in messages))


def test_a_stalled_link_bounds_what_publishers_leave_behind(broker, proxy, far):
    with make_bus(far, window=200, window_bytes=1_048_576, heartbeat=0, confirm_timeout=3600) as bus:
        bus.publish_sync("a", 0, timeout=CAP)
        proxy.stall("up")
        receipts = []
        with pytest.raises(BusFullError):
            while True:
                receipts.append(bus.publish("a", "x" * 20_000))
        status = bus.status()
        assert status.in_flight == len(receipts) <= 200
        assert status.in_flight_bytes <= 1_048_576
        with pytest.raises((UnconfirmedPublishError, BusFullError)):
            bus.publish_sync("a", 1, timeout=0.1)
        proxy.heal()
        assert {receipt.wait(CAP) for receipt in receipts} == {CONFIRMED}


def test_no_answer_in_time_is_unknown_and_the_message_is_published_again_under_its_id(broker, proxy, far):
    with make_bus(broker.url, name="there") as there, make_bus(far, confirm_timeout=1, heartbeat=0) as bus:
        collector = Collector()
        there.subscribe("a", collector, group="g")
        bus.publish_sync("a", 0, timeout=CAP)
        proxy.drop("down")
        receipt = bus.publish("a", 1)
        assert receipt.wait(CAP) is UNKNOWN
        with pytest.raises(UnconfirmedPublishError, match="publish it again under the same id"):
            receipt.result(0)
        proxy.heal()
        collector.wait(3)  # once as it was sent, once more after the connection was given up
        assert collector.data() == [0, 1, 1]
        assert {message.id for message in collector.messages[1:]} == {receipt.message_id}
        assert receipt.status is UNKNOWN
        until(lambda: bus.status().in_flight == 0)
        bus.publish_sync("a", 2, timeout=CAP)
        assert collector.wait(4)[3] == 2


def test_a_slow_link_only_delays(broker, proxy, far):
    with make_bus(broker.url, name="there") as there, make_bus(far) as bus:
        collector = Collector()
        there.subscribe("a", collector, group="g")
        bus.publish_sync("a", -1, timeout=CAP)
        proxy.delay(0.1)
        receipts = together(4, lambda t: [bus.publish("a", t * 1000 + i, timeout=CAP) for i in range(100)])
        assert {receipt.wait(CAP) for some in receipts for receipt in some} == {CONFIRMED}
        data = collector.wait(401)
        assert len(data) == len(set(data)) == 401
        for t in range(4):
            assert [n for n in data if n // 1000 == t and n >= 0] == [t * 1000 + i for i in range(100)]
        assert bus.status().generation == 1


def test_a_bus_whose_broker_refuses_each_connection_goes_on_when_it_takes_them_again(broker, proxy, far):
    proxy.refuse()
    with make_bus(far) as bus:
        collector = Collector()
        bus.subscribe("a", collector, group="g")
        receipts = [bus.publish("a", i) for i in range(20)]
        until(lambda: proxy.accepted > 4)
        assert bus.status().last_error
        proxy.heal()
        assert {receipt.wait(CAP) for receipt in receipts} == {CONFIRMED}
        until(lambda: bus.status().subscriptions[0].ready)
        bus.publish_sync("a", "last", timeout=CAP)
        collector.wait(lambda messages: messages and messages[-1].data == "last")


def test_of_several_addresses_the_next_one_is_used(broker, proxy, far):
    dead = broker.at("127.0.0.1", 1)
    with make_bus([dead, far, dead]) as bus:
        bus.publish_sync("a", 1, timeout=CAP)
    with make_bus([far, broker.url]) as bus:
        bus.publish_sync("a", 1, timeout=CAP)
        proxy.refuse()
        proxy.cut()
        for i in range(10):
            bus.publish_sync("a", i, timeout=CAP)
