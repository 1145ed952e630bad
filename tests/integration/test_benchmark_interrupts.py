"""A benchmark that is stopped in the middle: its children end with it, and it leaves no files."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.support.together import until

ROOT = Path(__file__).parents[2]
PROCESSES = Path("/proc")
pytestmark = pytest.mark.skipif(not (PROCESSES / "self" / "environ").exists(), reason="needs Linux's /proc")
FINALISER = """
import os, signal, sys, time
from benchmarks import __main__ as command_line

class Unlucky:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # the handler runs in here
            pass

def run(quick):
    Unlucky()
    time.sleep(30)

command_line.BENCHMARKS = {"unlucky": run}
sys.argv = ["benchmarks"]
sys.exit(command_line._run())
"""


def marked(mark, files):
    """The processes that have this in their environment or their command: the benchmark and what it has started."""
    found = set()
    for process in PROCESSES.iterdir():
        try:
            if not process.name.isdigit():
                continue
            command = (process / "cmdline").read_bytes()  # nginx writes its title over its environment
            if mark in (process / "environ").read_bytes() or str(files).encode() in command:
                found.add(int(process.name))
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return found


@pytest.fixture
def started(tmp_path):
    """Start Python with a folder for temporary files of its own; whatever is left in the end is killed."""
    mark = uuid.uuid4().hex
    files = tmp_path / "files"
    files.mkdir()
    environment = {**os.environ, "TMPDIR": str(files), "HIRELIAB_TEST_MARK": mark}
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start, files, mark.encode()
    for number in marked(mark.encode(), files):
        os.kill(number, signal.SIGKILL)
    for process in processes:
        process.communicate()


@pytest.mark.parametrize("name", ["transactions", "http", "orders", "alerts"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_its_children_end_and_no_file_is_left(started, tmp_path, name, number, code):
    start, files, mark = started
    figures = tmp_path / "figures.json"
    process = start("-m", "benchmarks", name, "--json", str(figures))
    until(lambda: len(marked(mark, files)) > 1 and any(files.iterdir()), timeout=60)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"interrupted; not measured: {name}" in err
    until(lambda: not marked(mark, files))
    assert list(files.iterdir()) == []
    assert not figures.exists()


def test_a_signal_that_a_finaliser_swallows_ends_it_all_the_same(started):
    start, _, _ = started
    process = start("-c", FINALISER)
    _, err = process.communicate(timeout=25)
    assert process.returncode == 143, err
    assert "interrupted; not measured: unlucky" in err
