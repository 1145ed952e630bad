"""The demo as a newcomer runs it: one command, in a process of its own."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.together import is_running

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "hireliab.examples.high_reliability_demo"]


def environment(tmp_path):
    # A proxy that cannot be reached: whoever asks it has left loopback.
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://192.0.2.1:9")
    kept = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    return kept | proxies | {"TMPDIR": str(tmp_path), "TEMP": str(tmp_path), "HIRELIAB_HOME": str(tmp_path / "home")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        COMMAND, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=150, check=False
    )
    return done, tmp_path


def test_the_demo_ends_with_code_0_and_a_row_without_difference_for_each_order(finished):
    done, _ = finished
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    heads = next(i for i, line in enumerate(lines) if line.startswith("order ") and line.endswith("same"))
    rows = [line.split() for line in lines[heads + 2 : lines.index("", heads)]]
    assert [row[:3] + row[4:5] for row in rows] == [
        ["market", "buy", "0.01", "COMPLETED"],
        ["limit", "buy", "0.002", "COMPLETED"],
        ["market", "sell", "0.02", "COMPLETED"],
        ["market", "buy", "0.012", "PARTIAL"],
        ["market", "buy", "0.015", "NOT_SENT"],
        ["market", "buy", "0.015", "COMPLETED"],
        ["market", "buy", "0.03", "COMPLETED"],
    ]
    assert [row[-1] for row in rows] == ["yes"] * len(rows)
    assert "All 7 rows agree" in done.stdout


def test_the_demo_shows_its_steps_in_order(finished):
    done, _ = finished
    titles = re.findall(r"^(\d)\. (.+)$", done.stdout, re.MULTILINE)
    assert [int(number) for number, _ in titles] == list(range(1, 9))
    for (_, title), word in zip(
        titles, ("pool", "verified", "cancelled", "lost", "part", "cut off", "killed", "Alerts"), strict=True
    ):
        assert word in title


def test_the_demo_shows_what_it_says(finished):
    done, _ = finished
    steps = re.split(r"^\d\. ", done.stdout, flags=re.MULTILINE)
    assert "ResponseLostError" in steps[4]
    assert "RESOLVING" in steps[4]
    assert "1 request to place it arrived" in steps[4]
    assert "PartialFillError: 0.004 BTC filled, 0.008 BTC not" in steps[5]
    assert "open: the next read failed" in steps[6]
    assert "half-open -> closed" in steps[6]
    assert "1 undecided order in the journal" in steps[7]
    assert "1 request to place it arrived at the exchange, ever" in steps[7]
    assert "! WARNING" in steps[5] + steps[7]
    assert "[exchange] API rate limit approaching" in steps[8]


def test_the_demo_fits_a_terminal_and_writes_nothing_else(finished):
    done, _ = finished
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert done.stderr == ""


def test_the_demo_leaves_neither_file_nor_process(finished):
    done, tmp_path = finished
    assert list(tmp_path.iterdir()) == []
    pids = [int(number) for number in re.findall(r"process (\d+)", done.stdout)]
    assert len(pids) == 2
    assert not any(map(is_running, pids))


def test_the_picture_in_the_readme_is_this_table(finished):
    """Draw it anew with ``python docs/_demo_picture.py``."""
    done, _ = finished
    spec = importlib.util.spec_from_file_location("demo_picture", ROOT / "docs" / "_demo_picture.py")
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    lines = picture.last_table(done.stdout)
    assert len(lines) == 16
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.draw(lines)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C of another process is POSIX here")
def test_an_interrupted_demo_cleans_up(tmp_path):
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        try:
            printed = ""
            while "killed between" not in printed:  # its folder, the simulator and soon the other bot are there
                line = demo.stdout.readline()
                assert line, printed + demo.stderr.read()
                printed += line
            time.sleep(0.05)  # the other bot was started and needs longer than this to send its order
            demo.send_signal(signal.SIGINT)
            rest, errors = demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert demo.returncode == 130, errors
    assert "Interrupted" in rest
    assert errors == ""
    assert list(tmp_path.iterdir()) == []
    pids = [int(number) for number in re.findall(r"process (\d+)", printed + rest)]
    assert pids
    assert not any(map(is_running, pids))
