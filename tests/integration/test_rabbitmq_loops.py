"""What the RabbitMQ bus does with pika's loops, with other ways of pika, with TLS, and at the end of a process."""

import logging
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hireliab.messaging.bus import PublishStatus, Reject
from hireliab.messaging.rabbitmq import _backoff, _link
from hireliab.messaging.rabbitmq.bus import RabbitMQMessageBus
from tests.support.broker import connect, sweep
from tests.support.buses import until

CAP = 20.0


@pytest.fixture
def prefix(amqp_url, amqp_prefix):
    yield amqp_prefix
    queues = [f"{amqp_prefix}.dead.own", f"{amqp_prefix}.queue.g", f"{amqp_prefix}.dead.queue.g"]
    sweep(amqp_url, queues=queues, exchanges=[amqp_prefix, f"{amqp_prefix}.dead"])


@pytest.fixture
def bus(amqp_url, prefix):
    with RabbitMQMessageBus({"amqp_exchange": prefix, "retry_delays": [0.0]}, url=amqp_url, name="loops") as bus:
        yield bus


BUG = RuntimeError("a bug")


def _break_loop(connection, error=BUG):
    """Let pika's own code in the loop raise, as a bug of its or of ours would."""

    def fail():
        raise error

    until(lambda: connection.connected)
    generation = connection.generation
    connection._link.wake(fail)
    until(lambda: connection.generation > generation)


def _open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_loop_that_breaks_is_replaced_and_nothing_is_lost(bus):
    got = []
    bus.subscribe("a", lambda message: got.append(message.data))
    for number in range(3):
        assert bus.publish("a", number).wait(CAP) is PublishStatus.CONFIRMED
    until(lambda: got == [0, 1, 2])
    _break_loop(bus._publisher.connection)
    receipts = [bus.publish("b", number) for number in range(10)]
    assert {receipt.wait(CAP) for receipt in receipts} == {PublishStatus.CONFIRMED}
    _break_loop(bus._consumer.connection)
    until(lambda: bus.status().subscriptions[0].ready)
    bus.publish_sync("a", 3)
    until(lambda: got == [0, 1, 2, 3])
    assert bus.status().reconnects == 2


@pytest.mark.parametrize(
    ("error", "worst"),
    [
        (BUG, logging.ERROR),
        # What pika raises when a socket is reset right behind its connect: nothing but a network that failed.
        (ValueError("Expected connected socket, but getpeername() failed: error=OSError(107, ...)"), logging.WARNING),
    ],
)
def test_a_loop_that_breaks_is_an_error_in_the_log_unless_the_network_did_it(bus, caplog, error, worst):
    bus.publish_sync("a", 1)
    _break_loop(bus._publisher.connection, error)
    bus.publish_sync("a", 2)
    assert max(record.levelno for record in caplog.records if record.name.startswith("hireliab")) == worst


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_connections_that_break_leave_no_file_open(bus, monkeypatch):
    monkeypatch.setattr(_backoff, "FIRST_PAUSE", 0.0)
    bus.publish_sync("a", 1)
    _break_loop(bus._publisher.connection)
    bus.publish_sync("a", 1)
    before = _open_files()
    for _ in range(5):
        _break_loop(bus._publisher.connection)
    bus.publish_sync("a", 1)
    until(lambda: _open_files() <= before)


def test_a_callback_of_ours_that_raises_costs_a_connection_not_the_loop(bus, monkeypatch, caplog):
    bus.publish_sync("a", 1)
    answered = bus._publisher._book.answered
    failed = []

    def fail_once(number, *, multiple):
        if not failed:
            failed.append(number)
            raise RuntimeError("a bug of ours")
        return answered(number, multiple=multiple)

    monkeypatch.setattr(bus._publisher._book, "answered", fail_once)
    assert bus.publish("a", 2).wait(CAP) is PublishStatus.CONFIRMED
    assert failed
    assert bus.status().republished == 1
    assert "a callback failed" in caplog.text


@pytest.mark.parametrize("fast", [True, False])
def test_the_slow_ways_of_pika_do_the_same_as_the_fast_ones(amqp_url, prefix, monkeypatch, fast):
    monkeypatch.setattr(_link, "FAST", fast)
    got = []

    def handle(message):
        got.append((message.id, message.data, message.subject, dict(message.headers), message.redelivered))
        if message.data == "reject":
            raise Reject("no")

    settings = {"amqp_exchange": prefix, "retry_delays": [0.0]}
    with RabbitMQMessageBus(settings, url=amqp_url, name="loops") as bus:
        bus.subscribe("a", handle, group="g")
        bus.publish_sync("a", {"n": 1}, headers={"k": "é"}, subject="s", message_id="1")
        bus.publish_sync("a", "x" * 1_000_000, message_id="2")
        bus.publish_sync("a", "reject", message_id="3")
        assert bus.publish("nobody", 1, mandatory=True).wait(CAP) is PublishStatus.RETURNED
        receipts = [bus.publish("a", number, message_id=f"n{number}") for number in range(500)]
        assert {receipt.wait(CAP) for receipt in receipts} == {PublishStatus.CONFIRMED}
        until(lambda: bus.status().subscriptions[0].acked == 502)
        until(lambda: bus.status().subscriptions[0].dead_lettered == 1)
    assert got[0] == ("1", {"n": 1}, "s", {"k": "é"}, False)
    assert got[1][:2] == ("2", "x" * 1_000_000)
    assert [data for _, data, *_ in got[3:]] == list(range(500))
    with connect(amqp_url) as connection:
        channel = connection.channel()
        _, properties, body = channel.basic_get(f"{prefix}.dead.queue.g", auto_ack=True)
        assert (properties.message_id, body) == ("3", b'"reject"')
        assert channel.queue_declare(f"{prefix}.queue.g", passive=True).method.message_count == 0


def test_a_process_that_ends_without_stop_has_sent_what_it_published(amqp_url, prefix):
    code = """
import sys
from hireliab import open_message_bus
bus = open_message_bus(sys.argv[1], config={"amqp_exchange": sys.argv[2]})
bus.subscribe("a", print, group="g").unsubscribe()
for number in range(500):
    bus.publish("a", number)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code, amqp_url, prefix], check=True, timeout=60)
    with connect(amqp_url) as connection:
        until(lambda: connection.channel().queue_declare(f"{prefix}.queue.g", passive=True).method.message_count == 500)


def test_the_password_is_in_no_log_and_no_picture(broker, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("pika", "hireliab"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    node = broker.node
    node.add_user("bot", "hunter2-hunter2", vhost=broker.name)
    try:
        for password in ("hunter2-hunter2", "hunter2-wrong"):
            url = broker.at(node.host, node.port, user="bot", password=password)
            bus = RabbitMQMessageBus(url=url, name="loops")
            with bus:
                until(lambda bus=bus: bus.status().connected or bus.status().last_error)
                seen = f"{bus!r}{bus.status()}{vars(bus._publisher.connection)}"
        assert "the user or the password" in bus._publisher.connection.last_error
    finally:
        for name in ("pika", "hireliab"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert "hunter2" not in seen
    assert len(caplog.records) > 20
    assert "hunter2" not in caplog.text


def _tls(node, broker, certificates, *, ca, host="localhost"):
    url = broker.at(host, node.tls_port, scheme="amqps")
    return f"{url}?cacertfile={ca}&heartbeat=5"


def test_tls_with_the_right_authority_carries_messages(broker, broker_node, broker_certificates):
    got = threading.Event()
    url = _tls(broker_node, broker, broker_certificates, ca=broker_certificates.ca)
    with RabbitMQMessageBus(url=url, name="loops") as bus:
        bus.subscribe("a", lambda message: message.data == 199 and got.set())
        receipts = [bus.publish("a", number) for number in range(200)]
        assert {receipt.wait(CAP) for receipt in receipts} == {PublishStatus.CONFIRMED}
        assert got.wait(CAP)
        assert bus.publish("a", "x" * 900_000).wait(CAP) is PublishStatus.CONFIRMED
        transport = bus._publisher.connection._link.connection._transport
        assert isinstance(transport._sock, ssl.SSLSocket)


@pytest.mark.parametrize(("which", "host"), [("other_ca", "localhost"), ("ca", "other.invalid")])
def test_tls_with_a_wrong_authority_or_name_sends_nothing(
    broker, broker_node, broker_certificates, monkeypatch, which, host
):
    ask = socket.getaddrinfo

    def answer(host, *args, **kwargs):
        return ask(broker_node.host if host == "other.invalid" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    url = _tls(broker_node, broker, broker_certificates, ca=getattr(broker_certificates, which), host=host)
    with RabbitMQMessageBus(url=url, name="loops") as bus:
        until(lambda: bus.status().last_error)
        assert not bus.status().connected
        assert bus._publisher.connection._failure.refused
        assert "ertificate" in bus.status().last_error
        receipt = bus.publish("a", 1)
        bus.stop(0.0)
    assert receipt.status is PublishStatus.REJECTED
