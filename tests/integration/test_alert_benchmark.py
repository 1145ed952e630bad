"""`python -m benchmarks alerts --quick`, as CI runs it: for breakage, never for speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._alerts_worker import CONTESTANTS, HIRELIAB

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    file = tmp_path_factory.mktemp("benchmarks") / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "alerts", "--quick", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done, json.loads(file.read_text(encoding="utf-8"))["benchmarks"]["alerts"]


def test_everybody_took_every_call_and_hireliabs_books_balance(quick):
    _, figures = quick
    assert [one["name"] for one in figures["calls"]] == list(CONTESTANTS)
    for one in figures["calls"]:
        assert one["checked"], (one["name"], one["problem"])
        assert one["p50"] > 0


def test_every_alert_of_hireliab_came_beside_hung_channels_and_without(quick):
    _, figures = quick
    ours = [one for one in figures["deliveries"] if one["name"] in HIRELIAB]
    assert [one["hung"] for one in ours] == [0, 6]
    for one in ours:
        assert one["problem"] == ""
        assert one["lost"] == 0


def test_a_storm_of_one_alert_is_one_message_or_two(quick):
    _, figures = quick
    for one in figures["bursts"]:
        assert one["problem"] == ""
        if one["name"] in HIRELIAB:
            assert 1 <= one["sends"] <= 2


def test_the_goals_stand_before_the_tables_and_lines_fit(quick):
    done, figures = quick
    lines = done.stdout.splitlines()
    summary = next(i for i, line in enumerate(lines) if "how many times as fast" in line)
    assert max(map(len, lines[:summary])) <= 100  # the table of all has a column more than fits
    assert max(map(len, lines[summary:])) <= 130
    assert lines.count("Goals") == 1
    assert len(figures["goals"]) == 6
    assert lines.index("Goals") < lines.index("Calls while 6 hooks hang")
