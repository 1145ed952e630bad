"""What a built wheel holds, and that the lists of dependencies agree."""

import ast
import email
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import hireliab
from hireliab._install_parts import PARTS, parse

ROOT = Path(__file__).parent.parent
if not (ROOT / "setup.py").exists():
    pytest.skip(
        "these look at the source tree, and there is none here: an installed wheel is tested", allow_module_level=True
    )


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
        "hireliab",
        "tests",
        "benchmarks",
        "docs",
        "setup.py",
        "requirements.txt",
        "README.rst",
        "CHANGELOG.rst",
        "LICENSE",
        "pyproject.toml",
        ".gitignore",
        ".ci",
    }


# -- what is built ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution of a copy of this tree, and the wheel made from it: what a release would be."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("hireliab", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.rst", "CHANGELOG.rst", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, tree)
    build = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", tree / "dist", tree], capture_output=True, text=True, check=False
    )
    said = build.stdout + build.stderr
    if os.environ.get("HIRELIAB_REQUIRE_SERVICES") != "1":
        if "No module named build" in said:
            pytest.skip("build is not installed here; the extra `test` has it")
        if "No matching distribution found for setuptools" in said:
            pytest.skip("no index of packages can be reached from here")
    assert build.returncode == 0, said
    (sdist,), (wheel,) = (tree / "dist").glob("*.tar.gz"), (tree / "dist").glob("*.whl")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    return inside, texts


def sources():
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "hireliab").rglob("*.py")}
    return found | {"hireliab/py.typed"}


def metadata(texts):
    (text,) = (text for name, text in texts.items() if name.endswith(".dist-info/METADATA"))
    return email.message_from_string(text)


def test_the_wheel_holds_every_module_the_marker_and_nothing_else(built):
    _, texts = built
    info = f"hireliab-{hireliab.__version__}.dist-info/"
    assert {name for name in texts if not name.startswith(info)} == sources()
    assert any(name.startswith(info) and name.endswith("LICENSE") for name in texts)


def test_the_wheel_has_the_command(built):
    _, texts = built
    (points,) = (text for name, text in texts.items() if name.endswith("entry_points.txt"))
    assert "hireliab = hireliab.cli:main" in points


def test_the_source_distribution_builds_the_same_and_holds_no_tests_or_benchmarks(built):
    inside, _ = built
    assert sources() | {"setup.py", "pyproject.toml", "README.rst", "LICENSE"} <= inside
    tops = {name.partition("/")[0] for name in inside if name}
    assert not tops & {"tests", "benchmarks", "docs"}


def test_the_wheels_metadata_is_what_setup_py_says(built):
    _, texts = built
    said = metadata(texts)
    assert said["Version"] == hireliab.__version__
    assert said["Requires-Python"] == ">=3.10"
    asked = said.get_all("Requires-Dist")
    assert sorted(line for line in asked if ";" not in line) == setup_constants()["REQUIRED"]
    extras = set(said.get_all("Provides-Extra"))
    assert extras == {"all", "bench", "cli", "docs", "fast", "lint", "prometheus", "test", "test-compat"}


def test_the_extra_all_is_every_extra_for_users_whatever_the_machine(built):
    _, texts = built
    by_extra = {}
    for line in metadata(texts).get_all("Requires-Dist"):
        one = parse(line)
        by_extra.setdefault(one.extra, set()).add(one.line)
    users = by_extra["cli"] | by_extra["fast"] | by_extra["prometheus"]
    assert by_extra["all"] == users
    assert not any(";" in line for line in users), (
        "the installer takes no environment markers into account in its table"
    )
    assert {re.split("[<>=]", line)[0] for line in users | by_extra[None]} == {part.name for part in PARTS}


def test_the_readme_in_the_wheel_is_the_readme(built):
    _, texts = built
    assert metadata(texts).get_payload().strip() == (ROOT / "README.rst").read_text(encoding="utf-8").strip()
