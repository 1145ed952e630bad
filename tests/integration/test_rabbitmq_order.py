"""Groups in order over RabbitMQ, whose members are cut off, stopped, killed, or have another queue there before them."""

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hireliab.errors import TopologyError
from hireliab.messaging.bus import PublishStatus
from hireliab.messaging.rabbitmq import _lanes
from tests.support.bus_traffic import CAP, Collector, impatient, make_bus, until
from tests.support.tcp_proxy import TcpProxy

__all__ = ["impatient"]

pytestmark = pytest.mark.usefixtures("impatient")

ROOT = Path(__file__).parent.parent.parent
QUEUES = pytest.mark.parametrize("queue_type", ["quorum", "classic"])


def first_time(messages):
    """The data without its repetitions."""
    return list(dict.fromkeys(message.data for message in messages))


class Log:
    """What several members handled, in one list."""

    def __init__(self):
        self.messages = []
        self._lock = threading.Lock()

    def member(self, act=None):
        def handle(message):
            with self._lock:
                self.messages.append(message)
            if act is not None:
                act(message)

        return handle


@QUEUES
def test_what_a_member_had_in_hand_when_it_was_cut_off_comes_to_the_next_one_first(broker, queue_type):
    with (
        TcpProxy(broker.node.host, broker.node.port) as proxy,
        make_bus(broker.at(proxy.host, proxy.port), name="far", queue_type=queue_type) as far,
        make_bus(broker.url, name="near", queue_type=queue_type) as near,
    ):
        log, gate = Log(), threading.Event()
        far.subscribe("a", log.member(lambda message: message.data == 5 and gate.wait(CAP)), group="g", in_order=True)
        near.subscribe("a", log.member(), group="g", in_order=True)
        for i in range(50):
            near.publish_sync("a", i, timeout=CAP)
        until(lambda: len(log.messages) == 6)
        proxy.refuse()
        proxy.cut()
        until(lambda: len(log.messages) == 51)
        assert [message.data for message in log.messages] == [*range(6), *range(5, 50)]
        assert log.messages[6].redelivered
        gate.set()


@QUEUES
def test_connections_that_break_again_and_again_keep_the_order_of_a_group(broker, queue_type):
    rng = random.Random(5)
    with (
        TcpProxy(broker.node.host, broker.node.port) as proxy,
        make_bus(broker.at(proxy.host, proxy.port), name="one", queue_type=queue_type) as one,
        make_bus(broker.at(proxy.host, proxy.port), name="two", queue_type=queue_type) as two,
    ):
        log = Log()
        for bus in (one, two):
            bus.subscribe("a", log.member(), group="g", in_order=True)
        receipts = []
        for i in range(600):
            receipts.append(one.publish("a", i, timeout=CAP))
            time.sleep(0.002)
            if i % 100 == 50:
                proxy.cut()
            elif i % 100 == 99:
                proxy.cut_after(rng.randrange(1, 300), rng.choice(["up", "down"]))
        proxy.heal()
        assert {receipt.wait(CAP) for receipt in receipts} == {PublishStatus.CONFIRMED}
        until(lambda: len(first_time(log.messages)) == 600)
        assert first_time(log.messages) == list(range(600))


@QUEUES
def test_a_bus_that_stops_leaves_the_rest_to_the_next_member_in_order(broker, queue_type):
    log = Log()
    with make_bus(broker.url, name="publisher", queue_type=queue_type) as publisher:
        members = [make_bus(broker.url, name="m0", queue_type=queue_type)]
        members[0].subscribe("a", log.member(), group="g", in_order=True)
        receipts = []
        for i in range(300):
            receipts.append(publisher.publish("a", i, timeout=CAP))
            if i % 100 == 60:
                members.append(make_bus(broker.url, name=f"m{len(members)}", queue_type=queue_type))
                members[-1].subscribe("a", log.member(), group="g", in_order=True)
                members[-2].stop(CAP)
        assert {receipt.wait(CAP) for receipt in receipts} == {PublishStatus.CONFIRMED}
        until(lambda: len(first_time(log.messages)) == 300)
        members[-1].stop(CAP)
    assert first_time(log.messages) == list(range(300))


@pytest.mark.parametrize("there", [True, False])
def test_a_queue_of_before_that_is_not_in_order_is_told_with_the_settings_name(broker, there):
    with make_bus(broker.url) as bus:
        collector = Collector()
        bus.subscribe("a", collector, group="g", in_order=there).unsubscribe(CAP)
        bus.publish_sync("a", 1, timeout=CAP)
        with pytest.raises(TopologyError, match=r"hireliab\.queue\.g.*x-single-active-consumer \(in_order\)") as caught:
            bus.subscribe("a", collector, group="g", in_order=not there)
        assert ("true at the broker and none here" if there else "none at the broker and true here") in str(
            caught.value
        )
        assert bus.status().subscriptions == ()
        bus.subscribe("a", collector, group="g", in_order=there)  # it still works as it was
        collector.wait(1)


MEMBER = """
import os, signal, sys, threading
from hireliab.messaging.message_bus import open_message_bus

bus = open_message_bus(sys.argv[1], name="member", config={"retry_delays": [], "delivery_limit": 3, "heartbeat": 5})
done = threading.Event()

def handle(message):
    os.write(1, f"{message.data}\\n".encode())
    if message.data in ("poison", int(sys.argv[2])):
        os.kill(os.getpid(), signal.SIGKILL)
    if message.data == 79:
        done.set()

bus.subscribe("a", handle, group="g", in_order=True)
done.wait(60)
bus.stop(5)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_members_killed_one_after_the_other_keep_the_order_and_poison_costs_no_neighbour(broker):
    said, codes = [], []
    with make_bus(broker.url, retry_delays=[], delivery_limit=3) as bus:
        bus.subscribe("a", Collector(), group="g", in_order=True).unsubscribe(CAP)
        for data in (*range(40), "poison", *range(40, 80)):
            bus.publish("a", data, timeout=CAP).result(CAP)
        kill_at = iter([3, 11])
        while 0 not in codes and len(codes) < 20:
            process = subprocess.run(
                [sys.executable, "-c", MEMBER, broker.url, str(next(kill_at, -1))],
                cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=90, check=False,
            )  # fmt: skip
            codes.append(process.returncode)
            said += process.stdout.split()
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    assert said.count("poison") == 4  # one delivery more than the limit, in the words of the broker
    assert list(dict.fromkeys(said)) == [*map(str, range(40)), "poison", *map(str, range(40, 80))]
    broker.wait_for({"hireliab.queue.g": 0, "hireliab.dead.queue.g": 1})


@pytest.mark.slow
@pytest.mark.parametrize("in_order", [True, False])
def test_what_was_handled_before_a_stop_does_not_come_again(broker, monkeypatch, in_order):
    # More than the bus waits: a machine that is busy with other things is no reason for a test to fail.
    monkeypatch.setattr(_lanes, "REST", 1.0)
    for round_ in range(3):
        with make_bus(broker.url) as bus:
            collector = Collector()
            bus.subscribe("a", collector, group="g", in_order=in_order)
            for i in range(50):
                bus.publish("a", [round_, i], timeout=CAP)
            collector.wait(50)
        assert all(not message.redelivered for message in collector.messages)
        broker.wait_for({"hireliab.queue.g": 0, "hireliab.dead.queue.g": 0})
