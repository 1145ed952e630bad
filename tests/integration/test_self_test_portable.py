"""The self-test, the installer and every import on a machine without what Windows lacks; its children lack it, too."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hireliab

PACKAGE = Path(hireliab.__file__).parent
TESTS = Path(__file__).parents[1]

# Every interpreter that finds this file runs it first. What only the standard library's own code for POSIX needs stays.
SITE = """\
import os, signal, subprocess, sys
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None  # importing it is an ImportError
for name in ("fork", "forkpty", "register_at_fork", "posix_fallocate", "pread", "pwrite", "fdatasync", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGQUIT"):
    if hasattr(signal, name):
        delattr(signal, name)
subprocess.Popen.kill = subprocess.Popen.terminate  # as Windows has it
"""
IMPORTS = """\
import importlib, importlib.util, pathlib, pkgutil, sys
import hireliab
names = [module.name for module in pkgutil.walk_packages(hireliab.__path__, "hireliab.") if not module.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
files = sorted(pathlib.Path(sys.argv[1], "unit").rglob("test_*.py"))
for number, file in enumerate(files):
    spec = importlib.util.spec_from_file_location(f"unit_{number}", file)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
print(len(names), len(files))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Runs an interpreter that lacks all that."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(folder), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            # filelock warns that its lock is a soft one; an interpreter without fcntl has no other.
            env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore:only soft file lock:UserWarning"},
            cwd=folder, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    "gone", ["import fcntl", "import os; os.fork", "import signal; signal.SIGKILL", "import pwd", "import os; os.pread"]
)
def test_the_interpreter_really_lacks_it(python, gone):
    done = python("-c", gone)
    assert done.returncode == 1
    assert re.search("ModuleNotFoundError|AttributeError", done.stderr)


def test_the_self_test_passes_without_it(python):
    done = python("-m", "hireliab.test_high_reliability", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)["parts"]
    assert {row["verdict"] for row in rows if row["part"] != "RabbitMQ"} == {"ok"}
    assert done.stderr == ""


def test_the_installer_finds_every_part_working_without_it(python):
    done = python("-m", "hireliab.install_high_reliability", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "parts work" in done.stdout
    assert python("-m", "hireliab.install_high_reliability", "--dry-run").returncode == 0


def test_every_module_and_every_unit_test_can_be_imported_without_it(python):
    done = python("-c", IMPORTS, str(TESTS))
    assert done.returncode == 0, done.stderr[-3000:]
    modules, files = map(int, done.stdout.split())
    assert modules == sum(path.name != "__main__.py" for path in PACKAGE.rglob("*.py")) - 1  # the package itself
    assert files == sum(1 for _ in TESTS.glob("unit/**/test_*.py")) > 80
