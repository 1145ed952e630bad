"""install_high_reliability with a real pip in a fresh environment, which knows nothing but a folder of small wheels."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hireliab

HOME_OF_HIRELIAB = Path(hireliab.__file__).parents[1]


def make_wheel(folder, name, version, source):
    """A wheel with one module."""
    files = {
        f"{name}.py": source,
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-{version}.dist-info/RECORD"
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}\n")
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(record, "".join([*rows, f"{record},,\n"]))


class Environment:
    """A virtual environment with pip and a hireliab that asks for what the test says, and no third party."""

    def __init__(self, folder):
        self.folder, self.wheels = folder / "venv", folder / "wheels"
        self.wheels.mkdir()
        subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        scripts = self.folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = str(scripts / "python")
        asked = subprocess.run(
            [self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.site = Path(asked.stdout.strip())
        # Only the package: what lies beside it, which may be a site-packages of many others, is not seen.
        package = self.site / "hireliab"
        package.symlink_to(HOME_OF_HIRELIAB / "hireliab", target_is_directory=True)

    def ask_for(self, *lines):
        info = self.site / "hireliab-1.0.dist-info"
        info.mkdir(exist_ok=True)
        head = "Metadata-Version: 2.1\nName: hireliab\nVersion: 1.0\n"
        (info / "METADATA").write_text(head + "".join(f"Requires-Dist: {line}\n" for line in lines))

    def run(self, *arguments, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        only_ours = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(
            [self.python, "-m", "hireliab.install_high_reliability", *arguments],
            cwd=self.folder, env=kept | only_ours | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    if not hasattr(os, "symlink"):
        pytest.skip("no symbolic links here")
    return Environment(tmp_path_factory.mktemp("install"))


def test_what_is_missing_is_installed_with_progress_and_what_is_too_old_is_replaced(environment):
    environment.ask_for('orjson>=3.10; extra == "all"', 'ruff>=0.9; extra == "lint"')
    make_wheel(environment.wheels, "orjson", "3.9", "raise ImportError('the old one')\n")
    installed = [
        environment.python,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "orjson==3.9",
        "--find-links",
        environment.wheels,
    ]
    subprocess.run(installed, check=True)
    looked = environment.run("--check")
    assert looked.returncode == 1
    assert "no: too old, at least 3.10 is needed" in looked.stdout

    # Enough of orjson for the check, which compares it with json.
    source = "import json\nJSONDecodeError = json.JSONDecodeError\nloads = json.loads\ndumps = lambda v: json.dumps(v).encode()\n"
    make_wheel(environment.wheels, "orjson", "3.10", source)
    done = environment.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installing orjson>=3.10" in done.stdout
    assert "Successfully installed orjson-3.10" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["orjson", "3.10", "fast:", "JSON", "yes"] in rows
    assert "ruff" not in done.stdout
    again = environment.run()
    assert again.returncode == 0
    assert "everything is installed" in again.stdout


def test_a_part_that_pip_installs_and_that_breaks_is_told(environment):
    environment.ask_for('rich>=13; extra == "all"')
    make_wheel(environment.wheels, "rich", "13.1", "raise ImportError('half of it is missing')\n")
    done = environment.run()
    assert "Successfully installed rich-13.1" in done.stdout
    assert done.returncode == 1
    assert "half of it is missing" in done.stdout
    assert "--force-reinstall 'rich>=13'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_what_pip_cannot_find_is_pips_message_a_table_and_a_code(environment):
    environment.ask_for("pybreaker>=1.2")
    done = environment.run()
    assert done.returncode == 1
    assert "No matching distribution found for pybreaker>=1.2" in done.stderr
    assert "pip ended with code 1" in done.stderr
    assert "no: not installed" in done.stdout
    assert "1 of 2 parts do not work: pybreaker." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_printed_command_is_the_one_that_installs(environment):
    environment.ask_for('orjson>=3.10; extra == "all"')
    printed = environment.run("--dry-run")
    assert printed.returncode == 0
    assert printed.stdout.startswith(environment.python)
    assert printed.stdout.endswith("'orjson>=3.10'\n")


def test_an_environment_without_pip_is_one_line(environment):
    environment.ask_for('click>=8.1; extra == "all"')
    pip, away = environment.site / "pip", environment.site / "pip-away"
    pip.rename(away)
    try:
        done = environment.run()
    finally:
        away.rename(pip)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "there is no pip in" in done.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_environment_of_somebody_else_is_one_line(environment):
    environment.ask_for('click>=8.1; extra == "all"')
    environment.site.chmod(0o500)
    try:
        done = environment.run()
    finally:
        environment.site.chmod(0o700)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no permission to write" in done.stderr
