"""
RabbitMQ for tests: the shared broker, which is only used, and a node of our own, which is killed, paused and starved.

`amqp_url` is the shared broker, `broker_node` the test run's own node, `broker` a vhost of it for one test alone.
"""

import base64
import contextlib
import itertools
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.support.http_servers import Certificates

SHARED_URL = os.environ.get("HIRELIAB_AMQP_URL") or "amqp://guest:guest@127.0.0.1:5672"
START_CAP = 90.0
"""Seconds in which a node must have started; it needs four when nothing else runs."""

_ports = itertools.count(random.randrange(20_000, 29_000))
_vhosts = itertools.count(1)


def missing(what):
    """Skip this test with the reason, or fail where every service must be there."""
    if os.environ.get("HIRELIAB_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what}, and HIRELIAB_REQUIRE_SERVICES=1 requires it")
    pytest.skip(what)


def speaks_amqp(host, port, timeout=2.0):
    """Whether a broker answers there."""
    try:
        with socket.create_connection((host, port), timeout) as sock:
            sock.settimeout(timeout)
            sock.sendall(b"AMQP\x00\x00\x09\x01")
            return sock.recv(1) == b"\x01"  # the method frame of connection.start
    except OSError:
        return False


@contextlib.contextmanager
def connect(url, **settings):
    """A plain connection beside the bus's, to look and to meddle with; a context manager."""
    import pika

    parameters = pika.URLParameters(url)
    for name, value in settings.items():
        setattr(parameters, name, value)
    connection = pika.BlockingConnection(parameters)
    try:
        yield connection
    finally:
        if connection.is_open:
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.close()


def sweep(url, *, queues=(), exchanges=()):
    """Delete queues and exchanges; those that are not there are none the worse for it."""
    with connect(url) as connection:
        channel = connection.channel()
        for name in queues:
            channel.queue_delete(name)
        for name in exchanges:
            channel.exchange_delete(name)


def _free_port():
    # Below the ephemeral ports: a client that calls a dead node's port again and again might else become its own peer.
    while True:
        port = next(_ports)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                return port


def _scripts():
    """The folder of rabbitmq-server itself, without the wrapper that changes the user; None when it is not installed."""
    candidates = [Path("/usr/lib/rabbitmq/bin"), *sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin"))]
    found = shutil.which("rabbitmq-server", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found:
        candidates.append(Path(found).parent)
    return next((folder for folder in candidates if (folder / "rabbitmq-server").exists()), None)


class BrokerNode:
    """
    A node of its own: ports, name, folder, cookie and name server are its own, so that nothing that is done to it
    touches another. It runs as the user of the tests, and ends with their process, however that ends.

    Args:
        tls: Listen for amqps, too, with the server certificate of these `Certificates`.
        config: Further lines of rabbitmq.conf.
    """

    host = "127.0.0.1"

    def __init__(self, *, tls=None, config=()):
        self._bin = _scripts()
        if self._bin is None:
            missing("rabbitmq-server is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="hireliab-broker-"))
        self.port, dist, names = _free_port(), _free_port(), _free_port()
        self._address = f"{self.host}:{dist}"
        self.name = f"hireliab{self.port}@localhost"
        self._cookie = secrets.token_hex(10)
        self._erl_call = ["erl_call", "-r", "-c", self._cookie, "-address", self._address, "-e"]
        self._process = self._epmd = self._guard = None
        lines = [f"listeners.tcp.1 = {self.host}:{self.port}", "log.file.level = info", *config]
        if tls is not None:
            self.tls_port = _free_port()
            lines += [
                f"listeners.ssl.1 = {self.host}:{self.tls_port}",
                f"ssl_options.cacertfile = {tls.ca}",
                f"ssl_options.certfile = {tls.folder / 'server.pem'}",
                f"ssl_options.keyfile = {tls.folder / 'server.pem'}",
                "ssl_options.verify = verify_none",
            ]
        self._write("rabbitmq.conf", "\n".join(lines) + "\n")
        self._write("env", "")  # instead of the machine's /etc/rabbitmq/rabbitmq-env.conf
        self._write("plugins", "[].")
        self._write(".erlang.cookie", self._cookie, 0o400)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")} | {
            "HOME": str(self.folder),
            "ERL_EPMD_ADDRESS": self.host,
            "ERL_EPMD_PORT": str(names),
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_ALLOW_INPUT": "1",  # no shell between us and the machine: its process is the one that we kill
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "env"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_NODENAME": self.name,
        }

    def _write(self, name, text, mode=0o600):
        (self.folder / name).write_text(text, encoding="utf-8")
        (self.folder / name).chmod(mode)

    # -- life ---------------------------------------------------------------------------------------------------

    @property
    def url(self):
        """Of the vhost ``/``, with its first user."""
        return f"amqp://guest:guest@{self.host}:{self.port}/%2F"

    @property
    def pid(self):
        """Of the running node, or None."""
        return None if self._process is None else self._process.pid

    def start(self, *, wait=True):
        """Start it and wait until it serves; a running one is left alone."""
        if self._process is None:
            if self._epmd is None:
                self._epmd = self._run("epmd", "-port", self._environment["ERL_EPMD_PORT"], "-address", self.host)
                _until(lambda: _listens(self.host, int(self._environment["ERL_EPMD_PORT"])), 20.0, "epmd")
            self._process = self._run(self._bin / "rabbitmq-server", start_new_session=True)
            # Its standard input ends when we end: then nothing of the node is left behind.
            self._guard = subprocess.Popen(
                ["sh", "-c", 'read _; kill -9 "$0" "$1"', str(self._process.pid), str(self._epmd.pid)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        if wait:
            self.wait()

    def _run(self, *command, **kwargs):
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                [str(word) for word in command],
                cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **kwargs,
            )  # fmt: skip

    def wait(self):
        """Until it serves."""
        give_up = time.monotonic() + START_CAP
        while not speaks_amqp(self.host, self.port):
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise AssertionError(f"the broker's node does not start: {self.log()[-3000:]}")
            time.sleep(0.02)

    def kill(self):
        """
        SIGKILL; returns when it is dead.

        RabbitMQ 3.10 writes down some seconds late who leads a quorum queue. Killed before, it keeps the messages, but
        a young queue has no leader until `ra:trigger_election`. That is not what our tests are about: it is written
        first.
        """
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):  # it is paused, or starts
                self._call(self._erl_call, "[dets:sync(T) || T <- dets:all()].\n", cap=3.0)
        self._end(signal.SIGKILL)

    def stop(self):
        """An orderly end, as at a shutdown of the machine."""
        self._end(signal.SIGTERM)

    def _end(self, how):
        if self._process is not None:
            guard, process, self._guard, self._process = self._guard, self._process, None, None
            guard.kill()
            guard.communicate()
            process.send_signal(how)
            try:
                process.wait(START_CAP)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def restart(self):
        """Kill it and start it again; its durable queues and what they confirmed are there again."""
        self.kill()
        self.start()

    def pause(self):
        """SIGSTOP: its sockets stay open and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        """After `pause`."""
        self._process.send_signal(signal.SIGCONT)

    def close(self):
        """Kill it, and delete its folder."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.close()

    # -- hands ----------------------------------------------------------------------------------------------------

    def log(self):
        """All that it has written so far."""
        files = [self.folder / "output", *sorted((self.folder / "log").glob("*.log"))]
        return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())

    def ctl(self, *args):
        """rabbitmqctl with these arguments; half a second. Returns what it printed."""
        return self._call([self._bin / "rabbitmqctl", "-n", self.name, "--quiet", *args])

    def eval(self, expression, *, text=False):
        """An Erlang expression in the node; a hundredth of a second. Its value as Erlang writes it, or an iolist's text."""
        expression = expression.rstrip(".\n")
        if text:
            written = self.eval(f"binary_to_list(base64:encode(iolist_to_binary({expression})))")
            return base64.b64decode("".join(re.findall(r"[\w+/=]+", written))).decode()
        expression += ".\n"
        if shutil.which("erl_call") is None:
            return self.ctl("eval", expression)
        said = _until(lambda: self._said(expression), 20.0, f"erl_call finds no {self.name}")
        assert said.startswith("{ok, "), f"{expression}: {said}"
        return said[len("{ok, ") : -1]

    def _said(self, expression):
        """None when the node was not reached: a call may meet the end of another one's connection."""
        try:
            return self._call(self._erl_call, expression)
        except AssertionError as error:
            if "failed to connect" not in str(error):
                raise
            return None

    def _call(self, command, text=None, cap=START_CAP):
        done = subprocess.run(
            [str(word) for word in command],
            env=self._environment, input=text or "", capture_output=True, text=True, timeout=cap, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def add_user(self, name, password, *, vhost="/", configure=".*", write=".*", read=".*"):
        """A user that may do this there; one that exists gets the password and the rights."""
        allow = f"{_bin(name)}, {_bin(vhost)}, {_bin(configure)}, {_bin(write)}, {_bin(read)}"
        self.eval(
            f"case rabbit_auth_backend_internal:exists({_bin(name)}) of "
            f"true -> rabbit_auth_backend_internal:change_password({_bin(name)}, {_bin(password)}, <<\"t\">>); "
            f"false -> rabbit_auth_backend_internal:add_user({_bin(name)}, {_bin(password)}, <<\"t\">>) end, "
            f"rabbit_auth_backend_internal:set_permissions({allow}, <<\"t\">>)."
        )  # fmt: skip

    def set_rights(self, name, *, vhost="/", configure=".*", write=".*", read=".*"):
        """What a user may do there from now on; the empty pattern is nothing."""
        allow = f"{_bin(name)}, {_bin(vhost)}, {_bin(configure)}, {_bin(write)}, {_bin(read)}"
        self.eval(f'rabbit_auth_backend_internal:set_permissions({allow}, <<"t">>).')

    def connections(self):
        """How many clients are connected now."""
        return int(self.eval("length(rabbit_networking:connections())."))

    def close_connections(self, why="closed by a test"):
        """What ``rabbitmqctl close_all_connections`` does."""
        self.eval(f'rabbit_networking:close_connections(rabbit_networking:connections(), "{why}").')

    @contextlib.contextmanager
    def alarm(self, which="memory"):
        """Within it the node takes no messages: it is short of "memory", or of "disk"."""
        limit = {
            "memory": "vm_memory_monitor:set_vm_memory_high_watermark(0)",
            "disk": "rabbit_disk_monitor:set_disk_free_limit(1000000000000000)",
        }
        self.eval(limit[which])
        try:
            alarm = f"fun({{{{resource_limit, {which}, _}}, _}}) -> true; (_) -> false end"
            self.until(f"lists:any({alarm}, rabbit_alarm:get_alarms())")
            yield
        finally:
            self.calm()

    def calm(self):
        """No alarm any more."""
        self.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.9)")
        self.eval("rabbit_disk_monitor:set_disk_free_limit(1000000)")
        self.until("rabbit_alarm:get_alarms() =:= []")

    def until(self, expression, cap=30.0):
        """Wait until this Erlang expression is true."""
        _until(lambda: self.eval(expression) == "true", cap, expression)

    def well(self):
        """Undo what a test may have done to it: it runs, it is not paused, and it has no alarm."""
        if self._process is not None and self._process.poll() is None:
            self.resume()
        else:
            self.kill()
        self.start()


class Vhost:
    """
    A vhost of a node for one test: its queues and exchanges are nobody else's.

    Attributes:
        node: Its `BrokerNode`.
        name: The vhost.
        url: For the first user.
    """

    def __init__(self, node):
        self.node = node
        self.name = f"t{next(_vhosts)}"
        node.eval(f'rabbit_vhost:add({_bin(self.name)}, <<"t">>).')
        node.set_rights("guest", vhost=self.name)
        self.url = self.at(node.host, node.port)

    def at(self, host, port, *, user="guest", password="guest", scheme="amqp"):
        """The URL of this vhost by another way."""
        return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{quote(self.name, safe='')}"

    def connect(self):
        """A plain connection to it; a context manager."""
        return connect(self.url)

    def queues(self):
        """How many messages are ready in each queue, by name; those in the hands of a consumer do not count."""
        listed = self.node.eval(
            f"[[element(4, N), 10] || [{{name, N}}] <- rabbit_amqqueue:info_all({_bin(self.name)}, [name])]", text=True
        )
        with self.connect() as connection:
            return {name: self._ready(connection, name) for name in listed.split("\n") if name}

    def wait_for(self, ready, cap=30.0):
        """Until just these queues with so many ready messages are there."""
        seen = []
        _until(lambda: seen.append(self.queues()) or seen[-1] == ready, cap, lambda: f"{ready}; last seen {seen[-1]}")

    @staticmethod
    def _ready(connection, name):
        # The listing's own numbers are up to five seconds old for a quorum queue.
        return connection.channel().queue_declare(name, passive=True).method.message_count

    def delete(self):
        self.node.eval(f'rabbit_vhost:delete({_bin(self.name)}, <<"t">>).')


def _bin(text):
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'<<"{escaped}">>'


def _listens(host, port):
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1.0):
        return True
    return False


def _until(condition, cap, what):
    give_up = time.monotonic() + cap
    while not (value := condition()):
        assert time.monotonic() < give_up, f"not so after {cap} s: {what() if callable(what) else what}"
        time.sleep(0.01)
    return value


# -- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def amqp_url():
    """The shared broker. Take names of your own (`amqp_prefix`), and `sweep` them afterwards."""
    at = urlsplit(SHARED_URL)
    if not speaks_amqp(at.hostname, at.port or 5672):
        missing(f"no RabbitMQ at {at.hostname}:{at.port or 5672}")
    return SHARED_URL


@pytest.fixture
def amqp_prefix():
    """The beginning of names that nobody else has."""
    return f"hireliab-test-{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def broker_certificates(tmp_path_factory):
    """The CA of the node's certificate."""
    return Certificates(tmp_path_factory.mktemp("broker-certificates"))


@pytest.fixture(scope="session")
def _session_node(broker_certificates):
    with BrokerNode(tls=broker_certificates) as node:
        yield node


@pytest.fixture
def broker_node(_session_node):
    """The test run's own node, to be killed, paused and starved; it runs again for the next test."""
    _session_node.well()
    yield _session_node
    _session_node.well()


@pytest.fixture
def broker(broker_node):
    """A vhost of the own node."""
    vhost = Vhost(broker_node)
    yield vhost
    broker_node.well()
    vhost.delete()
