"""A broker that refuses, blocks, loses what it was given to keep, or closes what is in use."""

import logging
import threading
import time

import pytest

from hireliab.errors import BusFullError, TopologyError, UnconfirmedPublishError
from hireliab.messaging.bus import PublishStatus
from tests.support.bus_traffic import CAP, Collector, fresh, impatient, make_bus, until

__all__ = ["impatient"]

pytestmark = pytest.mark.usefixtures("impatient")

CONFIRMED, NACKED, RETURNED = PublishStatus.CONFIRMED, PublishStatus.NACKED, PublishStatus.RETURNED


def exchange(method, broker, *args, **kwargs):
    with broker.connect() as connection:
        getattr(connection.channel(), method)(*args, **kwargs)


# -- full, unroutable, alarms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_a_full_queue_refuses_what_it_does_not_take_and_confirms_what_it_takes(broker, queue_type):
    with make_bus(broker.url, max_length=5, queue_type=queue_type) as bus:
        bus.subscribe("a", Collector(), group="g").unsubscribe()
        # One after the other: a quorum queue says late that it is full, and takes a few more than it should.
        statuses = [bus.publish("a", i).wait(CAP) for i in range(25)]
        assert set(statuses) == {CONFIRMED, NACKED}
        assert statuses.count(CONFIRMED) < 15
        broker.wait_for({"hireliab.queue.g": statuses.count(CONFIRMED), "hireliab.dead.queue.g": 0})
        with pytest.raises(UnconfirmedPublishError, match="refused it"):
            bus.publish_sync("a", 1, timeout=CAP)
        collector = Collector()
        bus.subscribe("a", collector, group="g")
        expected = [i for i, status in enumerate(statuses) if status is CONFIRMED]
        assert sorted(collector.wait(len(expected))) == expected
        until(lambda: bus.publish("a", "again").wait(CAP) is CONFIRMED)
        assert bus.status().nacked > statuses.count(NACKED)


def test_mandatory_messages_that_no_queue_wants_are_returned_and_none_of_those_around_them(broker):
    with make_bus(broker.url) as bus:
        collector = Collector()
        bus.subscribe("wanted.#", collector, group="g")
        receipts = []
        for i in range(300):
            receipts.append((CONFIRMED, bus.publish("wanted.a", i, mandatory=True, timeout=CAP)))
            receipts.append((RETURNED, bus.publish("nobody", i, mandatory=True, timeout=CAP)))
            receipts.append((CONFIRMED, bus.publish("nobody", i, timeout=CAP)))
        assert [receipt.wait(CAP) for _, receipt in receipts] == [expected for expected, _ in receipts]
        assert collector.wait(300) == list(range(300))
        status = bus.status()
        assert (status.published, status.returned, status.in_flight) == (600, 300, 0)


@pytest.mark.parametrize("which", ["memory", "disk"])
def test_a_broker_without_room_blocks_publishers_up_to_the_window_and_no_subscriber(broker, which):
    node = broker.node
    with make_bus(broker.url, window=100) as bus:
        gate = threading.Event()
        collector = Collector(lambda _: gate.wait(CAP))
        bus.subscribe("a", collector, group="g")
        for i in range(10):
            bus.publish_sync("a", i, timeout=CAP)
        with node.alarm(which):
            receipts = [bus.publish("a", 10)]
            until(lambda: bus.status().blocked, "the bus does not see that it is blocked")
            with pytest.raises(BusFullError):
                for i in range(11, 1000):
                    receipts.append(bus.publish("a", i))
            assert bus.status().in_flight == 100
            assert bus.status().connected
            began = time.monotonic()
            with pytest.raises(BusFullError):
                bus.publish("a", -1, timeout=0.2)
            assert time.monotonic() - began < CAP / 2
            with pytest.raises((BusFullError, UnconfirmedPublishError)):
                bus.publish_sync("a", -1, timeout=0.2)
            gate.set()  # what is there is still delivered and acknowledged: the consumers' connection is another
            assert collector.wait(10)[:10] == list(range(10))
            until(lambda: bus.status().subscriptions[0].acked == 10)
        for receipt in receipts:
            assert receipt.wait(CAP) is CONFIRMED
        assert collector.wait(10 + len(receipts)) == list(range(10 + len(receipts)))
        assert not bus.status().blocked


def test_stop_ends_in_time_while_the_broker_blocks(broker):
    kept = []
    bus = make_bus(broker.url, window=10, when_full="spill", spill=lambda *message: kept.append(message) or True)
    with bus:
        bus.publish_sync("a", "first", timeout=CAP)
        with broker.node.alarm("memory"):
            receipts = [bus.publish("a", i) for i in range(20)]
            until(lambda: bus.status().blocked)
            began = time.monotonic()
            bus.stop(1.0)
            assert time.monotonic() - began < CAP / 2
    assert all(receipt.status in (PublishStatus.BUFFERED, PublishStatus.UNKNOWN) for receipt in receipts)
    buffered = [receipt.message_id for receipt in receipts if receipt.status is PublishStatus.BUFFERED]
    assert sorted(message_id for *_, message_id in kept) == sorted(buffered)
    assert len(buffered) >= 10


# -- refused ----------------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_no_storm_of_logins_and_a_right_one_later_is_taken(broker, caplog, monkeypatch):
    from hireliab.messaging.rabbitmq import _backoff

    monkeypatch.setattr(_backoff, "REFUSED_PAUSE", 4.0)
    caplog.set_level(logging.DEBUG)
    node = broker.node
    node.add_user("bot", "rotated-0815", vhost=broker.name)
    with make_bus(broker.at(node.host, node.port, user="bot", password="planted-4711")) as bus:
        receipt = bus.publish("a", 1)
        status = until(lambda: bus.status().last_error and bus.status())
        assert "refused the user or the password" in status.last_error
        assert not status.connected
        began = time.monotonic()
        refusals = node.log().count("PLAIN login refused")
        collector = Collector()
        bus.subscribe("a", collector, group="g")
        time.sleep(2.5)
        tries = node.log().count("PLAIN login refused") - refusals
        assert tries <= 2 * (1 + (time.monotonic() - began) / 2.0)  # two connections, each pauses two to four seconds
        node.add_user("bot", "planted-4711", vhost=broker.name)
        assert receipt.wait(CAP) is CONFIRMED
        until(lambda: bus.status().subscriptions[0].ready)
        bus.publish_sync("a", 2, timeout=CAP)
        collector.wait(lambda messages: any(message.data == 2 for message in messages))
    said = "\n".join(record.getMessage() + str(record.args) + str(record.exc_text) for record in caplog.records)
    assert "planted-4711" not in said + repr(bus) + str(bus.status())
    assert "hireliab.bus" in {record.name for record in caplog.records}


def test_a_missing_vhost_is_told_and_one_that_appears_is_used(broker):
    url = broker.url.rsplit("/", 1)[0] + "/missing"
    node = broker.node
    try:
        with make_bus(url) as bus:
            receipt = bus.publish("a", 1)
            error = until(lambda: bus.status().last_error)
            assert "vhost" in error or "NOT_ALLOWED" in error
            node.eval('rabbit_vhost:add(<<"missing">>, <<"t">>)')
            node.set_rights("guest", vhost="missing")
            assert receipt.wait(CAP) is CONFIRMED
    finally:
        node.eval('rabbit_vhost:delete(<<"missing">>, <<"t">>)')


def test_a_queue_with_other_arguments_is_one_error_that_names_both_values_and_disturbs_no_other(broker, caplog):
    exchange("queue_declare", broker, "hireliab.queue.g", durable=True, arguments={"x-max-length": 7})
    with make_bus(broker.url, queue_type="classic") as bus:
        other = Collector()
        bus.subscribe("b", other, group="other")
        with pytest.raises(TopologyError, match="hireliab.queue.g") as caught:
            bus.subscribe("a", Collector(), group="g")
        assert (
            "x-max-length" in str(caught.value)
            or "x-dead-letter" in str(caught.value)
            or "x-overflow" in str(caught.value)
        )

        def asks():
            lines = broker.node.log().splitlines()
            return sum("inequivalent arg" in line and f"vhost '{broker.name}'" in line for line in lines)

        for i in range(20):
            bus.publish_sync("b", i, timeout=CAP)
        assert other.wait(20) == list(range(20))
        asked = until(asks)
        time.sleep(1.0)
        assert asks() == asked, "it asks again and again"
        assert [one.group for one in bus.status().subscriptions] == ["other"]
        assert bus.status().connected


def test_an_exchange_of_another_type_is_told(broker):
    exchange("exchange_declare", broker, "hireliab", exchange_type="fanout", durable=True)
    with make_bus(broker.url, confirm_timeout=1) as bus:
        receipt = bus.publish("a", 1)
        error = until(lambda: bus.status().last_error)
        assert "type" in error
        assert "fanout" in error
        with pytest.raises(TopologyError, match="fanout"):
            bus.subscribe("a", Collector(), group="g")
        exchange("exchange_delete", broker, "hireliab")
        assert until(lambda: receipt.status or bus.publish("a", 2).wait(1)) is CONFIRMED


def test_a_revoked_right_to_write_is_told_and_ends_when_it_is_given_back(broker):
    node = broker.node
    node.add_user("bot", "pw", vhost=broker.name)
    with make_bus(broker.at(node.host, node.port, user="bot", password="pw")) as bus:
        bus.publish_sync("a", 1, timeout=CAP)
        node.set_rights("bot", vhost=broker.name, write="")
        node.close_connections("rights have changed")  # the broker asks for them when a channel is first used
        receipts = [bus.publish("a", i) for i in range(10)]
        error = until(lambda: "ACCESS_REFUSED" in bus.status().last_error and bus.status().last_error)
        assert "hireliab" in error
        node.set_rights("bot", vhost=broker.name)
        statuses = {receipt.wait(CAP) for receipt in receipts}
        assert statuses <= {CONFIRMED, PublishStatus.UNKNOWN}
        bus.publish_sync("a", 2, timeout=CAP)


def test_a_right_to_declare_that_is_missing_is_a_topology_error(broker):
    node = broker.node
    node.add_user("bot", "pw", vhost=broker.name)
    with make_bus(broker.url) as owner:
        owner.publish_sync("a", 1, timeout=CAP)
    node.set_rights("bot", vhost=broker.name, configure="^hireliab$")
    with make_bus(broker.at(node.host, node.port, user="bot", password="pw")) as bus:
        with pytest.raises(TopologyError, match="ACCESS_REFUSED"):
            bus.subscribe("a", Collector(), group="g")
        bus.publish_sync("a", 1, timeout=CAP)


# -- taken away while in use -----------------------------------------------------------------------------------------------


def test_a_deleted_queue_is_made_again_and_disturbs_no_other(broker):
    with make_bus(broker.url) as bus:
        lost, other = Collector(), Collector()
        bus.subscribe("a", lost, group="g")
        bus.subscribe("b", other, group="h")
        bus.publish_sync("a", 1, timeout=CAP)
        lost.wait(1)
        generation = bus.status().subscriptions[1].generation
        exchange("queue_delete", broker, "hireliab.queue.g")
        for i in range(20):
            bus.publish_sync("b", i, timeout=CAP)

        def again():
            bus.publish_sync("a", "again", timeout=CAP)
            return "again" in lost.data()

        until(again, "the deleted queue does not come back")
        assert other.wait(20) == list(range(20))
        assert bus.status().subscriptions[1].generation == generation, "the other subscription had to go, too"


def test_a_deleted_exchange_is_made_again_for_publishers_and_subscribers(broker):
    with make_bus(broker.url) as bus:
        collector = Collector()
        bus.subscribe("a", collector, group="g")
        bus.publish_sync("a", 1, timeout=CAP)
        collector.wait(1)
        exchange("exchange_delete", broker, "hireliab")
        receipt = bus.publish("a", 2, mandatory=True)
        assert receipt.wait(CAP) in (CONFIRMED, RETURNED)

        def again():
            # Its bindings went with it: a subscription that stays deaf must not look well.
            if bus.publish("a", "again", mandatory=True).wait(CAP) is not CONFIRMED:
                return False
            return "again" in collector.data()

        until(again, lambda: f"deaf: {bus.status().subscriptions}", cap=20.0)


def test_a_closed_connection_is_made_again_and_nothing_is_lost(broker):
    with make_bus(broker.url) as bus:
        collector, own = Collector(), Collector()
        bus.subscribe("a", collector, group="g")
        bus.subscribe("a", own)  # its queue goes away with each connection
        receipts = []
        for i in range(400):
            receipts.append(bus.publish("a", i, timeout=CAP))
            if i % 100 == 50:
                generation = bus.status().generation
                broker.node.close_connections("closed by the operator")
                until(lambda generation=generation: bus.status().generation > generation and bus.status().connected)
        assert {receipt.wait(CAP) for receipt in receipts} == {CONFIRMED}
        collector.wait(lambda messages: {message.data for message in messages} == set(range(400)))
        numbers = fresh(collector.messages)
        assert numbers == sorted(numbers)
        assert len(numbers) > 200
        assert bus.status().reconnects >= 4
        listed = broker.node.ctl("list_connections", "pid", "client_properties")
        pids = [line.split("\t")[0] for line in listed.splitlines() if "hireliab.bus.faults-publish" in line]
        assert len(pids) == 1
        generation = bus.status().generation
        broker.node.ctl("close_connection", pids[0], "rabbitmqctl says so")
        until(lambda: bus.status().generation > generation)
        until(lambda: all(one.ready for one in bus.status().subscriptions))
        bus.publish_sync("a", "after", timeout=CAP)
        for one in (collector, own):
            one.wait(lambda messages: any(message.data == "after" for message in messages))


@pytest.mark.slow
def test_a_paused_broker_delays_and_loses_nothing(broker):
    node = broker.node
    with make_bus(broker.url, heartbeat=1, confirm_timeout=60) as bus:
        collector = Collector()
        bus.subscribe("a", collector, group="g")
        receipts = [bus.publish("a", i, timeout=CAP) for i in range(100)]
        node.pause()
        try:
            for i in range(100, 300):
                receipts.append(bus.publish("a", i, timeout=CAP))
            until(lambda: not bus.status().connected, "a silent broker is not noticed")
            began = time.monotonic()
            bus.publish("a", "paused").wait(0.01)
            assert time.monotonic() - began < 5
        finally:
            node.resume()
        assert {receipt.wait(CAP) for receipt in receipts} == {CONFIRMED}
        collector.wait(lambda messages: set(range(300)) <= {message.data for message in messages})
        numbers = [number for number in fresh(collector.messages) if number != "paused"]
        assert numbers == sorted(numbers)
