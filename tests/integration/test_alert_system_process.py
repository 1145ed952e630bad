"""What alerts do when a real process ends or forks."""

import os
import subprocess
import sys

import pytest

CAP = 30.0


@pytest.fixture
def run(tmp_path):
    def run(script):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            capture_output=True,
            text=True,
            timeout=CAP,
            check=False,
            env={**os.environ, "HIRELIAB_HOME": str(tmp_path)},
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_program_that_ends_without_stop_still_sends_what_it_queued(run):
    code, _, err = run("""
from hireliab.monitoring.alert_system import AlertSystem
alerts = AlertSystem({"channels": {"console": True}})
alerts.start()
for i in range(100):
    alerts.send_alert("system", "error", f"number {i}", "m")
raise SystemExit(3)
""")
    assert code == 3
    assert len([line for line in err.splitlines() if "ERROR    system: number" in line]) == 100


def test_an_alert_from_an_exit_handler_is_sent(run):
    code, _, err = run("""
import atexit
from hireliab.monitoring.alert_system import AlertSystem
alerts = AlertSystem({"channels": {"console": True}})
alerts.start()
atexit.register(lambda: alerts.send_alert("system", "critical", "bot stopped", "m"))
""")
    assert code == 0
    assert "CRITICAL system: bot stopped" in err


def test_a_stuck_channel_does_not_keep_the_process(run):
    code, _, err = run("""
import threading
from hireliab.monitoring.alert_system import AlertSystem
alerts = AlertSystem({"channels": {"stuck": lambda alert: threading.Event().wait(), "console": True}})
alerts.start()
alerts.send_alert("system", "critical", "first", "m")
alerts.send_alert("system", "critical", "second", "m")
alerts.stop(timeout=0.2)
""")
    assert code == 0
    assert "second" in err
    assert "'stuck': stopped with 1 alerts not sent, 1 of them kept for the next start and one send still" in err


def test_an_alert_from_a_signal_handler_is_sent(run):
    if not hasattr(os, "kill") or os.name == "nt":
        pytest.skip("this system has no signals")
    code, _, err = run("""
import os, signal
from hireliab.monitoring.alert_system import AlertSystem
alerts = AlertSystem({"channels": {"console": True}, "queue_size": 100000})
alerts.start()
seen = []
def handler(number, frame):
    seen.append(alerts.send_alert("system", "critical", "signalled", "m"))
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for i in range(3000):
    alerts.send_alert("system", "info" if i % 2 else "error", f"busy {i}", "m")
signal.setitimer(signal.ITIMER_REAL, 0)
alerts.stop()
assert seen and all(receipt.accepted for receipt in seen), seen
status = alerts.status().channels["console"]
told = status.delivered + status.deduplicated + status.dropped
assert status.accepted == told >= 3000 + len(seen), (status, len(seen))
""")
    assert code == 0, err[-2000:]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_sends_its_own_alerts_and_none_of_the_parents(run):
    code, out, err = run("""
import os, threading
from hireliab.errors import ClosedError
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.monitoring.alert_system import AlertSystem
gate = threading.Event()
def channel(alert):
    gate.wait(20)
    print(os.getpid() == parent, alert.title, flush=True)
parent = os.getpid()
alerts = AlertSystem({"channels": {"out": channel}})
bus = InMemoryMessageBus()
bus.subscribe("#", print)
alerts.start()
alerts.send_alert("system", "error", "from the parent", "m")
child = os.fork()
if child == 0:
    gate.set()
    alerts.send_alert("system", "error", "from the child", "m")
    alerts.stop()
    try:
        bus.publish("a", 1)
    except ClosedError as error:
        print("bus:", error, flush=True)
    bus.stop()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
gate.set()
alerts.stop()
bus.stop()
""")
    assert code == 0, err
    assert sorted(out.splitlines())[:2] == ["False from the child", "True from the parent"]
    assert "make a new one after a fork" in out


def test_neither_part_loads_a_third_party(run):
    code, _, err = run("""
import sys
before = set(sys.modules)
import hireliab.messaging.message_bus, hireliab.monitoring.alert_system
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
strangers = loaded - set(sys.stdlib_module_names) - {"hireliab"}
assert not strangers, strangers
""")
    assert code == 0, err
