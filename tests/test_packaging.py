"""What a built wheel holds, and that the lists of dependencies agree."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hireliab

ROOT = Path(__file__).parent.parent


def setup_constants():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "REQUIRED"
    }


def test_requirements_txt_is_the_required_dependencies():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert lines == setup_constants()["REQUIRED"]


def test_dependencies_have_lower_bounds_and_no_upper_ones():
    for line in setup_constants()["REQUIRED"]:
        assert re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", line), line


def test_the_installed_version_is_the_packages():
    try:
        installed = importlib.metadata.version("hireliab")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("hireliab is not installed here; it is run from its folder")
    assert installed == hireliab.__version__


def test_pyproject_holds_no_metadata():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "[project" not in text


def test_the_top_level_is_the_fixed_one():
    if shutil.which("git") is None:
        pytest.skip("git is not installed here")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    assert top <= {
        "hireliab", "tests", "benchmarks", "docs", "setup.py", "requirements.txt", "README.rst", "CHANGELOG.rst",
        "LICENSE", "pyproject.toml", ".gitignore", ".ci",
    }


def test_the_wheel_holds_the_package_its_marker_and_nothing_else(tmp_path):
    build = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named" in build.stderr or "Cannot import 'setuptools" in build.stderr:
        pytest.skip("setuptools and wheel are not installed here")
    assert build.returncode == 0, build.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "hireliab/py.typed" in names
    assert "hireliab/simulator/__main__.py" in names
    assert all(name.startswith(("hireliab/", "hireliab-")) for name in names)
