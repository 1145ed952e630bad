"""Fork and exit with a RabbitMQ bus, in processes of their own, and secrets in what they write. A hang is killed."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from hireliab.errors import ConfigError
from hireliab.messaging.bus import PublishStatus
from tests.support.bus_traffic import CAP, Collector, impatient, make_bus, until
from tests.support.http_servers import serve

__all__ = ["impatient"]

pytestmark = pytest.mark.usefixtures("impatient")

ROOT = Path(__file__).parent.parent.parent
HANG = 40.0
"""Seconds for a script that needs two, on a machine that is busy with other things."""

PREAMBLE = """
import atexit, gc, os, signal, socket, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork in a process with threads, our very case
from hireliab.errors import BusError, ClosedError
from hireliab.messaging.message_bus import open_message_bus

def say(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\\n").encode())

def hang(*_):
    threading.Event().wait()

def child(act):
    pid = os.fork()
    if pid == 0:
        signal.alarm(25)
        code = 1
        try:
            code = 0 if act() else 2
        except BaseException as error:
            say("child:", repr(error))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

url = sys.argv[1]
bus = open_message_bus(url, name="script", config={"heartbeat": 5, "retry_delays": [0.0]})
"""


def run(url, script):
    """Run a script to its end: (exit code, what it said, what it complained of)."""
    process = subprocess.Popen(
        [sys.executable, "-W", "default", "-X", "faulthandler", "-c", PREAMBLE + textwrap.dedent(script), url],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        out, complaints = process.communicate(timeout=HANG)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler then shows where it hangs
        out, complaints = process.communicate(timeout=HANG)
        raise AssertionError(f"it hangs; it said {out!r}\n{complaints}") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, out.split("\n")[:-1], complaints


# -- fork -------------------------------------------------------------------------------------------------------------

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@forks
def test_a_forked_child_gets_a_clear_error_can_make_its_own_bus_and_disturbs_no_message_of_the_parent(broker):
    script = """
    got = []
    bus.subscribe("a", lambda m: got.append(m.data), group="g")
    bus.publish_sync("a", 0)
    receipts = [bus.publish("a", i, timeout=None) for i in range(1, 200)]
    def act():
        for use in (lambda: bus.publish("a", -1), lambda: bus.publish_sync("a", -1), bus.start, bus.status,
                    lambda: bus.subscribe("a", print)):
            try:
                use()
            except ClosedError as error:
                assert "belongs to process" in str(error), error
            else:
                return False
        bus.stop()
        with open_message_bus(url, name="child") as mine:
            mine.publish_sync("b", "from the child")
        return True
    say("codes", [child(act) for _ in range(3)])
    receipts += [bus.publish("a", i, timeout=None) for i in range(200, 300)]
    say({str(receipt.wait(30)) for receipt in receipts})
    until = time.monotonic() + 30
    while len(got) < 300 and time.monotonic() < until:
        time.sleep(0.01)
    say(got == list(range(300)), bus.status().reconnects)
    bus.stop()
    """
    code, said, complaints = run(broker.url, script)
    assert (code, complaints) == (0, "")
    assert said == ["codes [0, 0, 0]", "{'PublishStatus.CONFIRMED'}", "True 0"]


@forks
@pytest.mark.parametrize(
    "end", ["sys.exit(0)", "del bus; gc.collect(); os._exit(0)", "bus.__exit__(); sys.exit(0)", "pass"]
)
def test_a_forked_child_that_ends_closes_nothing_of_the_parents(broker, end):
    script = f"""
    bus.publish_sync("a", 0)
    pid = os.fork()
    if pid == 0:
        {end}
    else:
        assert os.waitpid(pid, 0)[1] == 0
        for i in range(100):
            bus.publish_sync("a", i)
        say(bus.status().generation, bus.status().published)
        bus.stop()
    """
    code, said, complaints = run(broker.url, script)
    assert (code, said, complaints) == (0, ["1 101"], "")


@forks
def test_forks_while_threads_publish_and_handle_leave_no_child_hanging(broker):
    script = """
    stop = threading.Event()
    bus.subscribe("a", lambda m: None, group="g", concurrency=2)
    def publish():
        while not stop.is_set():
            bus.publish("a", 1, timeout=None)
    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    def act():
        try:
            bus.publish("a", 1)
        except ClosedError:
            bus.stop()
            with open_message_bus(url, name="child") as mine:
                mine.publish_sync("b", 1)
            return True
    codes = [child(act) for _ in range(6)]
    stop.set()
    for thread in threads:
        thread.join()
    say(codes)
    bus.stop(30)
    say(bus.status().in_flight, bus.status().unknown)
    """
    code, said, complaints = run(broker.url, script)
    assert (code, said, complaints) == (0, ["[0, 0, 0, 0, 0, 0]", "0 0"], "")


# -- exit -------------------------------------------------------------------------------------------------------------

ENDINGS = {
    "never used": "",
    "not stopped": """
        bus.subscribe("a", print, group="g")
        bus.publish_sync("a", "x")
        """,
    "with messages on their way": """
        receipts = [bus.publish("a", i, timeout=None) for i in range(1000)]
        """,
    "a handler hangs": """
        inside = threading.Event()
        bus.subscribe("a", lambda m: (inside.set(), hang()), group="g")
        bus.publish_sync("a", 1)
        inside.wait()
        """,
    "stopped at exit": """
        bus.publish_sync("a", 1)
        atexit.register(bus.stop)
        """,
    "used at exit": """
        bus.publish_sync("a", 1)
        atexit.register(lambda: bus.publish("a", 2))
        """,
    "a daemon thread publishes": """
        def publish():
            try:
                while True:
                    bus.publish("a", 1, timeout=None)
            except ClosedError:
                pass
        threading.Thread(target=publish, daemon=True).start()
        time.sleep(0.2)
        """,
    "without a broker": """
        bus.stop()
        bus = open_message_bus("amqp://127.0.0.1:1", name="nowhere")
        bus.publish("a", 1)
        """,
    "a wrong password": """
        bus.stop()
        bus = open_message_bus(url.replace("guest:guest", "guest:planted-4711"), name="refused")
        bus.publish("a", 1)
        time.sleep(0.5)
        """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_ends_in_time_and_with_its_own_exit_code(broker, ending):
    began = time.monotonic()
    code, said, complaints = run(broker.url, textwrap.dedent(ENDINGS[ending]) + "\nsay('end')\nsys.exit(3)\n")
    assert code == 3, complaints
    assert said[-1] == "end" or ending == "not stopped"
    assert "Traceback" not in complaints
    assert "planted-4711" not in complaints
    assert time.monotonic() - began < HANG / 2


def test_what_was_published_before_a_normal_exit_has_arrived(broker):
    with make_bus(broker.url) as bus:
        bus.subscribe("a", Collector(), group="g").unsubscribe(CAP)
        code, said, complaints = run(broker.url, "for i in range(500): bus.publish('a', i, timeout=None)\n")
        assert (code, said, complaints) == (0, [], "")
        broker.wait_for({"hireliab.queue.g": 500, "hireliab.dead.queue.g": 0})


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc")
def test_many_buses_and_connections_leave_no_thread_and_no_socket_behind(broker):
    script = """
    bus.publish_sync("a", 1)
    bus.stop()
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")))
    for n in range(12):
        with open_message_bus(url, name="again", config={"heartbeat": 5}) as one:
            one.subscribe("a", print, group="g")
            one.publish_sync("b", n)
        with open_message_bus("amqp://127.0.0.1:1", name="nowhere") as one:
            one.publish("b", n)
            one.stop(0.1)
    gc.collect()
    say(before == (threading.active_count(), len(os.listdir("/proc/self/fd"))))
    """
    code, said, complaints = run(broker.url, script)
    assert (code, said) == (0, ["True"]), complaints
    assert "Warning" not in complaints
    until(lambda: broker.node.connections() == 0)


# -- TLS and secrets --------------------------------------------------------------------------------------------------


def amqps(broker, certificates, *, host="localhost", port=None, ca="ca"):
    url = broker.at(host, port or broker.node.tls_port, scheme="amqps")
    return f"{url}?cacertfile={getattr(certificates, ca)}"


def test_amqps_with_a_certificate_of_our_ca_works(broker, broker_certificates):
    for host in ("localhost", "127.0.0.1"):
        with make_bus(amqps(broker, broker_certificates, host=host)) as bus:
            collector = Collector()
            bus.subscribe("a", collector, group=f"g-{host}")
            receipts = [bus.publish("a", "x" * 100_000 if i % 50 == 0 else i, timeout=CAP) for i in range(500)]
            assert {receipt.wait(CAP) for receipt in receipts} == {PublishStatus.CONFIRMED}
            collector.wait(500)
            broker.node.close_connections()
            bus.publish_sync("a", "again", timeout=CAP)
            collector.wait(lambda messages: any(message.data == "again" for message in messages))


@pytest.mark.parametrize("wrong", ["another CA", "another name", "no CA", "no TLS at the other end"])
def test_amqps_refuses_every_other_certificate_and_sends_it_no_password(broker, broker_certificates, wrong, caplog):
    caplog.set_level(logging.DEBUG)
    heard = []

    def script(peer):
        heard.append(peer.sock.recv(4096))

    misnamed = wrong == "another name"
    with serve(script, tls=broker_certificates.server_context(misnamed=misnamed) if misnamed else None) as server:
        url = {
            "another CA": amqps(broker, broker_certificates, ca="other_ca"),
            "another name": amqps(broker, broker_certificates, port=server.port),
            "no CA": amqps(broker, broker_certificates).partition("?")[0],
            "no TLS at the other end": amqps(broker, broker_certificates, port=broker.node.port),
        }[wrong]
        with make_bus(url) as bus:
            receipt = bus.publish("a", 1)
            error = until(lambda: bus.status().last_error)
            assert not bus.status().connected
            assert receipt.status is None
            if wrong != "no TLS at the other end":
                assert "certificate" in error.lower()
            bus.stop(0.1)
    assert b"guest" not in b"".join(heard)
    assert receipt.status is PublishStatus.REJECTED
    assert "guest:guest" not in caplog.text


def test_no_secret_is_in_any_record_error_or_picture(broker, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "pl/ant%ed:4711@x"
    node = broker.node
    node.add_user("bot", secret, vhost=broker.name)
    errors = []
    with make_bus(broker.at(node.host, node.port, user="bot", password=secret)) as bus:
        collector = Collector()
        bus.subscribe("a", collector, group="g")
        bus.publish_sync("a", 1, timeout=CAP)
        errors += [repr(bus), repr(vars(bus)), repr(bus.status())]
        node.close_connections()
        until(lambda: bus.status().generation > 1)
        node.eval('rabbit_auth_backend_internal:change_password(<<"bot">>, <<"other">>, <<"t">>)')
        node.close_connections()
        until(lambda: "refused" in bus.status().last_error)
        errors += [repr(bus), repr(bus.status())]
    broken = broker.at("ho st", 1, user="bot", password=secret)
    for url in (broken, broker.url.replace("amqp", "amqq"), f"amqp://bot:{secret}@[::1/"):
        with pytest.raises(ConfigError) as caught:
            make_bus(url)
        errors += [str(caught.value), repr(caught.value), repr(vars(caught.value))]
    quoted = broker.at("h", 1, user="bot", password=secret).split("@")[0].split(":")[2]
    for text in [*errors, caplog.text, *(repr(record.__dict__) for record in caplog.records)]:
        for hidden in (secret, quoted, "ant%ed", "ed:4711"):
            assert hidden not in text
