"""Handlers that hang, die with their process, publish, or stop the bus; and messages that no publisher of ours wrote."""

import gzip
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hireliab.messaging.bus import PublishStatus, Reject
from tests.support.bus_traffic import CAP, Collector, impatient, make_bus, until
from tests.support.buses import ENVELOPE

__all__ = ["impatient"]

pytestmark = pytest.mark.usefixtures("impatient")

ROOT = Path(__file__).parent.parent.parent
DEAD = "hireliab.dead.queue.g"


def dead_letters(broker, count, queue=DEAD):
    """The dead letters of the group, once there are so many: (body, headers) each."""
    letters = []
    with broker.connect() as connection:
        channel = connection.channel()

        def fetch():
            _, properties, body = channel.basic_get(queue, auto_ack=True)
            if properties is not None:
                letters.append((body, properties.headers))
            return len(letters) >= count

        until(fetch, lambda: f"dead letters: {letters}")
    return letters


# -- handlers ---------------------------------------------------------------------------------------------------------


def test_a_handler_that_takes_longer_than_the_heartbeat_loses_no_connection(broker):
    with make_bus(broker.url, heartbeat=1) as bus:
        slow, fast = Collector(lambda _: time.sleep(3.5)), Collector()
        bus.subscribe("a", slow, group="g")
        bus.subscribe("b", fast, group="h")
        bus.publish_sync("a", 1, timeout=CAP)
        slow.wait(1)
        bus.publish_sync("b", 1, timeout=CAP)
        fast.wait(1, cap=CAP)
        until(lambda: bus.status().subscriptions[0].acked == 1)
        assert bus.status().reconnects == 0
        assert [one.redelivered for one in bus.status().subscriptions] == [0, 0]


def test_a_handler_that_hangs_holds_up_its_thread_alone_and_no_stop(broker):
    gate = threading.Event()
    bus = make_bus(broker.url)
    try:
        hung, other = Collector(lambda message: message.data == "hang" and gate.wait(CAP)), Collector()
        bus.subscribe("a", hung, group="g", concurrency=2)
        bus.subscribe("b", other, group="h")
        bus.publish_sync("a", "hang", timeout=CAP)
        hung.wait(1)
        for i in range(50):
            bus.publish("a", i)
            bus.publish("b", i)
        other.wait(50)
        hung.wait(51)
        began = time.monotonic()
        bus.stop(1.0)
        assert time.monotonic() - began < CAP / 2
        assert bus.status().state == "stopped"
    finally:
        gate.set()
        bus.stop(CAP)
    broker.wait_for({"hireliab.queue.g": 1, "hireliab.queue.h": 0, DEAD: 0, "hireliab.dead.queue.h": 0})
    with make_bus(broker.url) as again:
        late = Collector()
        again.subscribe("a", late, group="g")
        assert late.wait(1) == ["hang"]
        assert late.messages[0].redelivered


@pytest.mark.parametrize("during", ["calm", "outage"])
def test_a_handler_may_stop_the_bus(broker, during):
    stopped = threading.Event()
    bus = make_bus(broker.url)

    def stop(_):
        if during == "outage":
            broker.node.pause()
        bus.stop(1.0)
        stopped.set()

    try:
        bus.subscribe("a", stop, group="g")
        receipt = bus.publish("a", 1)
        assert stopped.wait(CAP)
        until(lambda: bus.status().state == "stopped")
        assert receipt.wait(CAP) is not None
    finally:
        broker.node.resume()
        bus.stop(CAP)


def test_a_handler_that_publishes_waits_for_no_room_and_gets_its_confirmations(broker):
    with make_bus(broker.url, window=50) as bus:
        derived = Collector()

        def derive(message):
            for i in range(3):
                bus.publish_sync("b", [message.data, i], timeout=CAP)

        bus.subscribe("b", derived, group="h")
        bus.subscribe("a", derive, group="g", concurrency=4)
        for i in range(40):
            bus.publish("a", i, timeout=CAP)
        derived.wait(lambda messages: len({tuple(message.data) for message in messages}) == 120)
        until(lambda: bus.status().subscriptions[1].acked == 40)


def test_a_publish_in_a_confirmations_waiter_and_many_waiters_at_once_hang_nowhere(broker):
    with make_bus(broker.url) as bus:
        errors = []

        def wait_and_publish(n):
            try:
                for i in range(30):
                    assert bus.publish("a", [n, i], timeout=CAP).result(CAP) is PublishStatus.CONFIRMED
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=wait_and_publish, args=(n,)) for n in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(CAP)
        assert errors == []
        assert bus.status().published == 960


# -- a handler that kills its process ------------------------------------------------------------------------------------

KILLER = """
import os, signal, sys, threading
from hireliab.messaging.message_bus import open_message_bus

config = {"retry_delays": [], "delivery_limit": 3, "heartbeat": 5}
bus = open_message_bus(sys.argv[1], name="killer", config=config)
came = threading.Event()

def handle(message):
    if message.data == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(1, f"{message.data}\\n".encode())
    came.set()

bus.subscribe("a", handle, group="g", prefetch=int(sys.argv[2]))
while came.wait(2):
    came.clear()
bus.stop(5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("prefetch", ["1", "18"])
def test_a_message_that_kills_its_process_each_time_is_given_up_and_its_neighbours_are_not(broker, prefetch):
    settings = {"retry_delays": [], "delivery_limit": 3}
    with make_bus(broker.url, **settings) as bus:
        bus.subscribe("a", Collector(), group="g").unsubscribe(CAP)
        for data in (*range(10), "poison", *range(10, 50)):
            bus.publish("a", data).result(CAP)
        said = []
        for _ in range(30):
            process = subprocess.run(
                [sys.executable, "-c", KILLER, broker.url, prefetch],
                cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=90, check=False,
            )  # fmt: skip
            said += process.stdout.split()
            if process.returncode == 0:
                break
        assert {str(i) for i in range(50)} <= set(said), "a neighbour was given up, too"
        letters = dead_letters(broker, 1)
        assert [json.loads(body) for body, _ in letters] == ["poison"]
        assert letters[0][1]["x-death"][0]["reason"] == "delivery_limit"
    broker.wait_for({"hireliab.queue.g": 0, DEAD: 0})


# -- messages of others ---------------------------------------------------------------------------------------------------

FOREIGN = {
    "no envelope": (b"1", {}),
    "no JSON": (b"\xff\x00", ENVELOPE),
    "cut JSON": (b'{"a": [1,', ENVELOPE),
    "empty": (b"", ENVELOPE),
    "gzip": (gzip.compress(b"0" * 10_000_000), ENVELOPE),
    "deep": (b"[" * 200_000 + b"]" * 200_000, ENVELOPE),
    "future": (b"1", ENVELOPE | {"cloudEvents_specversion": "9.0"}),
    "no time": (b"1", {key: value for key, value in ENVELOPE.items() if key != "cloudEvents_time"}),
    "odd time": (b"1", ENVELOPE | {"cloudEvents_time": "yesterday"}),
    "time of no text": (b"1", ENVELOPE | {"cloudEvents_time": 12}),
    "id of no text": (b"1", ENVELOPE | {"cloudEvents_id": 12}),
    "empty id": (b"1", ENVELOPE | {"cloudEvents_id": ""}),
    "nested": (b"1", ENVELOPE | {"other": {"a": [1, {"b": None}]}}),
    "huge header": (b"1", ENVELOPE | {"big": "x" * 100_000}),
    "two megabytes": (json.dumps("x" * 2_000_000).encode(), ENVELOPE),
    "number": (b"1" * 100_000, ENVELOPE),
}


def test_what_others_publish_is_handled_or_dead_lettered_with_a_reason_and_holds_up_nothing(broker):
    import pika

    with make_bus(broker.url) as bus:
        collector = Collector()
        bus.subscribe("a", collector, group="g")
        with broker.connect() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for name, (body, headers) in FOREIGN.items():
                properties = pika.BasicProperties(headers=headers, message_id=name[:20], type="x", correlation_id=name)
                channel.basic_publish("hireliab", "a", body, properties)
                bus.publish_sync("a", f"after {name}", timeout=CAP)
        collector.wait(lambda messages: sum(str(m.data).startswith("after") for m in messages) == len(FOREIGN))
        until(lambda: not (bus.status().subscriptions[0].queued or bus.status().subscriptions[0].in_flight))
        (status,) = bus.status().subscriptions
        assert (status.accepted, status.failures) == (2 * len(FOREIGN), status.dead_lettered)
        assert status.acked + status.dead_lettered == status.accepted
        assert status.dead_lettered >= 6
        assert bus.status().reconnects == 0, bus.status().last_error
        letters = dead_letters(broker, status.dead_lettered)
        assert all(headers["hireliab_reason"] for _, headers in letters)
        bodies = {body for body, _ in letters}
        assert {FOREIGN[name][0] for name in ("no JSON", "cut JSON", "empty", "gzip")} <= bodies
        assert len(bodies - {b"1"}) >= 4


def test_a_dead_letter_keeps_the_message_as_it_came(broker):
    with make_bus(broker.url, source="bot 7") as bus:

        def reject(message):
            raise Reject("of no use")

        bus.subscribe("a", reject, group="g")
        receipt = bus.publish("a", {"x": "ü" * 1000}, headers={"k": "v"}, subject="order 1")
        receipt.result(CAP)
        ((body, headers),) = dead_letters(broker, 1)
        assert json.loads(body) == {"x": "ü" * 1000}
        assert headers["cloudEvents_id"] == receipt.message_id
        assert (headers["k"], headers["cloudEvents_subject"], headers["cloudEvents_source"]) == (
            "v",
            "order 1",
            "bot 7",
        )
        assert headers["hireliab_reason"] == "of no use"


def test_dead_letters_wait_for_a_broker_that_is_away(broker):
    gate = threading.Event()

    def reject(message):
        gate.wait(CAP)
        raise Reject("late")

    with make_bus(broker.url) as bus:
        bus.subscribe("a", reject, group="g")
        bus.publish_sync("a", 1, timeout=CAP)
        until(lambda: bus.status().subscriptions[0].in_flight)
        broker.node.kill()
        until(lambda: not bus.status().connected)
        gate.set()
        time.sleep(0.2)
        broker.node.start()
        assert [json.loads(body) for body, _ in dead_letters(broker, 1)] == [1]
        until(lambda: bus.status().subscriptions[0].ready)
        bus.publish_sync("b", 1, timeout=CAP)
    broker.wait_for({"hireliab.queue.g": 0, DEAD: 0})
