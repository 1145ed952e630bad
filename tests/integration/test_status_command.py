"""``hireliab status`` beside a real bot in a process of its own: while it runs, after it is killed, after it stopped."""

import json
import os
import signal
import subprocess
import sys

import pytest

from hireliab import cli
from tests.support.together import until

BOT = """
import sys
from hireliab import HealthMonitor, TransactionVerificationPipeline, CircuitBreaker
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.testing import ScriptedExchange

health = HealthMonitor()
pipeline = TransactionVerificationPipeline(exchange_adapter=ScriptedExchange(clock=SYSTEM_CLOCK), health=health)
breaker = CircuitBreaker(name="orders")
health.add(pipeline, breaker)
health.check("disk", lambda: True)
pipeline.start()
for line in sys.stdin:
    if line == "isolate\\n":
        breaker.isolate()
    if line == "stop\\n":
        pipeline.stop()
        break
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def bot(home):
    process = subprocess.Popen([sys.executable, "-c", BOT], stdin=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    process.stdin.close()


def status(*args):
    done = subprocess.run(
        [sys.executable, "-m", "hireliab", "status", *args], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def say(bot, word):
    bot.stdin.write(f"{word}\n")
    bot.stdin.flush()


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_a_bot_is_asked_while_it_runs_and_after_its_end(home, bot, capsys):
    def told():
        code = cli.main(["status", "--json"])
        found = json.loads(capsys.readouterr().out)
        return code, found["reasons"], found["status"]

    until((home / "default" / "status.json").exists, timeout=30)
    until(lambda: told()[0] == 0, timeout=30)
    assert (home / "default" / "status.json").stat().st_mode & 0o777 == 0o600
    code, reasons, said = told()
    assert (code, reasons, said["pid"]) == (0, [], bot.pid)
    assert said["health"]["checks"] == {
        "pipeline default": "healthy",
        "breaker orders": "healthy",
        "check disk": "healthy",
    }

    code, out, err = status()
    assert (code, err) == (0, "")
    assert out.startswith("bot default: healthy\n")
    assert "\x1b" not in out  # no terminal

    say(bot, "isolate")
    until(lambda: told()[0] == 1, timeout=30)
    assert told()[1] == ["breaker orders: isolated: its calls are refused until somebody resets it"]

    bot.send_signal(signal.SIGKILL)
    bot.wait()
    code, reasons, _ = told()
    assert code == 2
    assert reasons[0].startswith(f"no bot runs: process {bot.pid} is gone")


def test_a_bot_that_stopped_in_order(home, bot):
    until((home / "default" / "status.json").exists, timeout=30)
    say(bot, "stop")
    bot.wait(timeout=30)
    code, out, err = status()
    assert (code, err) == (2, "")
    assert out.startswith("bot default: down\n  - no bot runs: it was stopped\n")
