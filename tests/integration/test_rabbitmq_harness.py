"""The broker's node and the proxy do what the tests of the bus believe that they do."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pika
import pytest

from tests.support.broker import BrokerNode, connect, speaks_amqp
from tests.support.tcp_proxy import HELD, TcpProxy

CAP = 20.0


# -- the node -----------------------------------------------------------------------------------------------------------


def declare(connection, queue="q"):
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    return channel


def test_a_killed_node_starts_again_with_what_it_confirmed(broker):
    with broker.connect() as connection:
        declare(connection).basic_publish("", "q", b"kept")
    before = broker.node.pid
    broker.node.kill()
    assert not speaks_amqp(broker.node.host, broker.node.port)
    broker.node.start()
    assert broker.node.pid != before
    broker.wait_for({"q": 1})
    broker.node.stop()
    broker.node.start()
    broker.wait_for({"q": 1})


def test_a_paused_node_answers_again_when_it_is_resumed(broker_node):
    broker_node.pause()
    assert not speaks_amqp(broker_node.host, broker_node.port, timeout=0.2)
    broker_node.resume()
    broker_node.wait()


@pytest.mark.parametrize("which", ["memory", "disk"])
def test_a_node_with_an_alarm_takes_no_messages(broker, which):
    with broker.connect() as connection:
        channel = declare(connection)
        blocked = threading.Event()
        connection.add_on_connection_blocked_callback(lambda *_: blocked.set())
        with broker.node.alarm(which):
            channel._impl.basic_publish("", "q", b"x")  # the other one would wait for the confirm
            give_up = time.monotonic() + CAP
            while not blocked.is_set() and time.monotonic() < give_up:
                connection.process_data_events(time_limit=0.05)
            assert blocked.is_set()
            assert broker.queues() == {"q": 0}
        broker.wait_for({"q": 1})


def test_each_test_has_a_vhost_and_users_of_its_own(broker):
    broker.node.add_user("someone", "pass/word", vhost=broker.name, write="")
    url = broker.at(broker.node.host, broker.node.port, user="someone", password="pass/word")
    with connect(url) as connection:
        channel = declare(connection)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
            channel.basic_publish("", "q", b"x")
    broker.node.set_rights("someone", vhost=broker.name)
    with connect(url) as connection:
        declare(connection).basic_publish("", "q", b"x")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        connect(broker.at(broker.node.host, broker.node.port, user="someone", password="no")).__enter__()
    assert broker.name in broker.node.ctl("list_vhosts")


def test_connections_can_be_closed_as_from_the_management(broker):
    with broker.connect() as connection:
        assert broker.node.connections() == 1
        broker.node.close_connections("because")
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="because"):
            connection.process_data_events(time_limit=CAP)


def test_the_node_speaks_tls_with_a_certificate_of_our_ca(broker_node, broker_certificates):
    context = ssl.create_default_context(cafile=broker_certificates.ca)
    with (
        socket.create_connection((broker_node.host, broker_node.tls_port), CAP) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        tls.sendall(b"AMQP\x00\x00\x09\x01")
        assert tls.recv(1) == b"\x01"
    context = ssl.create_default_context(cafile=broker_certificates.other_ca)
    with socket.create_connection((broker_node.host, broker_node.tls_port), CAP) as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock, server_hostname="localhost")


@pytest.mark.slow
def test_a_node_ends_with_the_process_that_started_it():
    script = """
    import sys, threading
    from tests.support.broker import BrokerNode
    node = BrokerNode()
    node.start(wait=False)
    print(node.folder, node.pid, node._epmd.pid, flush=True)
    threading.Event().wait()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parent.parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    folder, *pids = process.stdout.readline().split()
    process.kill()
    process.communicate()
    give_up = time.monotonic() + CAP
    while any(_alive(int(pid)) for pid in pids):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    subprocess.run(["rm", "-rf", folder], check=True)


def _alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_node_that_cannot_start_says_why():
    node = BrokerNode(config=["no.such.setting = 1"])
    try:
        with pytest.raises(AssertionError, match="failed_to_prepare_configuration"):
            node.start()
    finally:
        node.close()
    assert not node.folder.exists()


# -- the proxy ----------------------------------------------------------------------------------------------------------


class Echo:
    """A server that sends back what it gets, at most `limit` bytes of it unread."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.got = bytearray()
        self.ends = []
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=self._accept, name="sim-echo", daemon=True)]
        self.threads[0].start()
        return self

    def __exit__(self, *error):
        self.die()
        for thread in self.threads:
            thread.join(CAP)

    def die(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock = self.listener.accept()[0]
                self.threads.append(threading.Thread(target=self._serve, args=(sock,), name="sim-echo", daemon=True))
                self.threads[-1].start()

    def _serve(self, sock):
        end = "fin"
        try:
            with sock:
                while data := sock.recv(65536):
                    with self.changed:
                        self.got += data
                        self.changed.notify_all()
                    sock.sendall(data)
        except OSError:
            end = "rst"
        with self.changed:
            self.ends.append(end)
            self.changed.notify_all()

    def wait_for(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, CAP)


@pytest.fixture
def echo():
    with Echo() as server:
        yield server


@pytest.fixture
def proxy(echo):
    with TcpProxy("127.0.0.1", echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with socket.create_connection((proxy.host, proxy.port), CAP) as sock:
        yield sock


def read(sock, count):
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def silent(sock):
    sock.settimeout(0.1)
    try:
        return sock.recv(1) is None
    except TimeoutError:
        return True
    finally:
        sock.settimeout(CAP)


def ends_at_once(proxy):
    try:
        with socket.create_connection((proxy.host, proxy.port), CAP) as sock:
            return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_whole_proxy_hands_everything_on(proxy, client, echo):
    data = os.urandom(3 * HELD)
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert read(client, len(data)) == data
    sender.join(CAP)
    proxy.wait_for(lambda: (proxy.accepted, proxy.forwarded) == (1, {"up": len(data), "down": len(data)}))
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    echo.wait_for(lambda: echo.ends == ["fin"])


def test_a_stalled_direction_fills_the_senders_buffers_and_goes_on_when_healed(proxy, client, echo):
    client.sendall(b"before")
    assert read(client, 6) == b"before"
    proxy.stall("up")
    client.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            sent += client.send(b"x" * 65536)
    assert proxy.forwarded["up"] == 6
    client.settimeout(CAP)
    proxy.heal()
    assert len(read(client, sent)) == sent


def test_a_dropped_direction_takes_everything_and_tells_nobody(proxy, client, echo):
    proxy.drop("down")
    client.sendall(b"x" * 1000)
    echo.wait_for(lambda: len(echo.got) == 1000)
    assert silent(client)
    proxy.heal()
    client.sendall(b"new")
    assert read(client, 3) == b"new"
    proxy.drop()
    client.sendall(b"y" * 10 * HELD)
    client.close()
    with socket.create_connection((proxy.host, proxy.port), CAP) as other:
        other.sendall(b"y")
        assert silent(other)
    assert b"y" not in echo.got
    assert echo.ends == []


def test_a_delay_keeps_the_order(proxy, client):
    proxy.delay(0.15)
    began = time.monotonic()
    for i in range(10):
        client.sendall(bytes([i]))
    assert read(client, 10) == bytes(range(10))
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_cut_ends_both_ends(proxy, client, echo, how):
    client.sendall(b"x")
    read(client, 1)
    proxy.cut(how=how)
    if how == "rst":
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    else:
        assert client.recv(1) == b""
    echo.wait_for(lambda: echo.ends == [how])
    assert proxy.open() == 0
    with socket.create_connection((proxy.host, proxy.port), CAP) as other:
        other.sendall(b"z")
        assert read(other, 1) == b"z"


@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_cut_after_so_many_bytes_is_exact(proxy, client, echo, direction, how):
    client.sendall(b"12345")
    read(client, 5)
    proxy.cut_after(1007, direction, how=how)
    client.sendall(b"x" * 1000)
    read(client, 1000)
    with contextlib.suppress(OSError):
        client.sendall(b"y" * 1000)
    echo.wait_for(lambda: echo.ends)
    proxy.wait_for(lambda: proxy.forwarded[direction] == 1012)
    if how == "fin":
        assert len(echo.got) == (1012 if direction == "up" else 2005)
    with socket.create_connection((proxy.host, proxy.port), CAP) as other:
        other.sendall(b"z" * 2000)
        assert len(read(other, 2000)) == 2000


def test_a_refusing_proxy_ends_each_new_connection_and_no_old_one(proxy, client):
    client.sendall(b"x")
    read(client, 1)
    proxy.refuse()
    assert ends_at_once(proxy)
    client.sendall(b"x")
    assert read(client, 1) == b"x"


def test_a_proxy_before_a_dead_server_resets(proxy, echo):
    echo.die()
    assert ends_at_once(proxy)
