"""Several processes on one inbox file: each message is handled once, and what a killed one held is taken over."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hireliab.errors import BusError
from hireliab.messaging.bus import Message
from hireliab.messaging.inbox import Inbox

ROOT = Path(__file__).resolve().parents[2]
CONSUMER = """
import json, os, random, sys, time
from hireliab.errors import BusError
from hireliab.messaging.bus import Message
from hireliab.messaging.inbox import Inbox

folder, seed, count, stop_at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
log = os.open(os.path.join(folder, "handled"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
numbers = list(range(count)) * 2
random.Random(seed).shuffle(numbers)

def handle(message):
    os.write(log, f"begin {message.id} {os.getpid()}\\n".encode())
    if message.data["n"] == stop_at:
        print("stopped", flush=True)
        time.sleep(60)
    os.write(log, f"end {message.id} {os.getpid()}\\n".encode())

with Inbox(os.path.join(folder, "inbox.db"), group="g") as inbox:
    once = inbox.once(handle)
    print("ready", flush=True)
    sys.stdin.readline()
    for n in numbers:
        once(Message(id=str(n), source="s", topic="a.b", time=time.time(), data={"n": n}))
    print(json.dumps(vars(inbox.stats())), flush=True)
"""


@pytest.fixture
def consumer(tmp_path):
    made = []

    def consumer(seed, count, stop_at=-1):
        process = subprocess.Popen(
            [sys.executable, "-c", CONSUMER, str(tmp_path), str(seed), str(count), str(stop_at)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        made.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield consumer
    for process in made:
        process.kill()
        process.communicate()


def handled(folder):
    """The lines of the log, split."""
    return [line.split() for line in (folder / "handled").read_text().splitlines()]


def test_processes_that_get_the_same_messages_handle_each_once(consumer, tmp_path):
    processes = [consumer(seed, 60) for seed in range(3)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    stats = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(int(n) for word, n, _ in handled(tmp_path) if word == "end") == list(range(60))
    assert sum(one["handled"] for one in stats) == 60
    assert sum(one["duplicates"] for one in stats) == 3 * 120 - 60
    assert list((tmp_path / "inbox.db.owners").iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_what_a_killed_process_was_handling_is_handled_again_once(consumer, tmp_path):
    victim = consumer(1, 5, stop_at=3)
    victim.stdin.write("\n")
    victim.stdin.flush()
    assert victim.stdout.readline() == "stopped\n"
    other = consumer(2, 5)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(10)
    output, _ = other.communicate("\n", timeout=60)
    assert json.loads(output)["taken_over"] == 1
    lines = handled(tmp_path)
    assert sorted(int(n) for word, n, _ in lines if word == "end") == list(range(5))
    assert [pid for word, n, pid in lines if (word, n) == ("begin", "3")] == [str(victim.pid), str(other.pid)]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system has no SIGSTOP")
def test_a_process_that_is_only_paused_keeps_what_it_handles(consumer, tmp_path):
    paused = consumer(1, 5, stop_at=3)
    paused.stdin.write("\n")
    paused.stdin.flush()
    assert paused.stdout.readline() == "stopped\n"
    os.kill(paused.pid, signal.SIGSTOP)
    with Inbox(tmp_path / "inbox.db", group="g", patience=0.3) as inbox:
        message = Message(id="3", source="s", topic="a.b", time=inbox._clock.time(), data={"n": 3})
        seen = []
        with pytest.raises(BusError, match="elsewhere"):
            inbox.once(seen.append)(message)
        os.kill(paused.pid, signal.SIGKILL)
        paused.wait(10)
        inbox.once(seen.append)(message)
    assert [one.id for one in seen] == ["3"]
