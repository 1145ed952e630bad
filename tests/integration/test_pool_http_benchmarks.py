"""`python -m benchmarks pool http --quick`, as CI runs it, with nginx and without: for breakage, never for speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import http
from benchmarks._http_clients import foreign_urllib3
from benchmarks._http_server import find_nginx

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(bool(foreign_urllib3()), reason="another library is in the place of urllib3")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    file = tmp_path_factory.mktemp("benchmarks") / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "pool", "http", "--quick", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done, json.loads(file.read_text(encoding="utf-8"))["benchmarks"]


def test_every_pool_lent_its_clients_and_nobody_was_passed_at_ours(quick):
    _, figures = quick
    assert all(cost["problem"] == "" for cost in figures["pool"]["alone"])
    assert all(one["checked"] for one in figures["pool"]["crowd"])
    assert figures["pool"]["queue_overtaken"]["hireliab"] == 0


def test_every_client_fetched_what_it_was_asked_for(quick):
    _, figures = quick
    parts = figures["http"]["parts"]
    assert len(parts) == 5
    for part in parts:
        for one in part["results"]:
            assert one["checked"], (part["part"], one["problem"])
            assert one["p50"] > 0


def test_hireliabs_session_takes_part_and_its_guard_is_priced(quick):
    _, figures = quick
    for part in figures["http"]["parts"]:
        assert {"hireliab Session", "hireliab Session, pooled and guarded"} <= {one["name"] for one in part["results"]}
    assert [added["scheme"] for added in figures["http"]["added_us"]] == ["http", "https"] * 2


def test_both_have_goals_before_their_tables_and_lines_that_fit(quick):
    done, _ = quick
    lines = done.stdout.splitlines()
    summary = next(i for i, line in enumerate(lines) if "how many times as fast" in line)
    assert max(map(len, lines[:summary])) <= 100  # the table of all has a column more than fits
    assert max(map(len, lines[summary:])) <= 130
    assert lines.count("Goals") == 2
    assert lines.index("Goals") < next(i for i, line in enumerate(lines) if line.startswith("contestant"))


def test_without_nginx_a_python_server_takes_its_place():
    found = http.find(http.QUICK, None)
    assert "Python" in found.server
    assert found.problems() == ()


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
def test_where_nginx_is_it_is_the_server(quick):
    _, figures = quick
    assert figures["http"]["server"].startswith("nginx/")
