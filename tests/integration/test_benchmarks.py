"""`python -m benchmarks orders --quick`, as CI runs it: for breakage, never for speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("benchmarks")
    file = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "orders", "--quick", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done, json.loads(file.read_text(encoding="utf-8"))


def test_the_json_has_the_machine_and_both_parts(quick):
    _, figures = quick
    (run,) = figures["runs"]
    assert run["quick"] is True
    assert set(run["machine"]) == {"cpu", "system", "python", "sqlite", "disk"}
    assert set(figures["benchmarks"]["orders"]) == {"throughput", "ratio", "books"}


def test_every_contestant_did_its_work(quick):
    _, figures = quick
    rows = figures["benchmarks"]["orders"]["throughput"]
    assert [(row["threads"], row["name"]) for row in rows] == [
        (1, "bare"), (1, "hireliab"), (8, "bare"), (8, "hireliab"),
    ]  # fmt: skip
    for row in rows:
        assert row["checked"]
        assert set(row["rate"]) == {"median", "low", "high"}
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
    assert set(figures["benchmarks"]["orders"]["ratio"]) == {"1", "8"}


def test_the_journals_commits_are_counted_for_hireliab_only(quick):
    _, figures = quick
    for row in figures["benchmarks"]["orders"]["throughput"]:
        if row["name"] == "bare":
            assert row["extra"] == {}
        else:
            assert row["extra"]["commits"] > 0
            assert row["extra"]["commit_wait_ns"] > 0


def test_under_faults_hireliab_believes_nothing_wrong_and_places_nothing_twice(quick):
    _, figures = quick
    rows = {row["bot"]: row for row in figures["benchmarks"]["orders"]["books"]}
    assert list(rows) == ["bare", "bare, pro=yes", "hireliab"]
    ours = rows["hireliab"]
    assert ours["faults"] > 0
    assert [ours[name] for name in ("duplicates", "forgotten", "imagined", "wrong_figures", "unresolved")] == [0] * 5
    assert float(ours["off_by_btc"]) == 0


def test_the_same_faults_meet_the_bare_bot_and_show_in_its_books(quick):
    _, figures = quick
    bare, pro, _ = figures["benchmarks"]["orders"]["books"]
    for row in (bare, pro):
        assert row["faults"] > 0
        assert row["duplicates"] + row["forgotten"] > 0
        assert float(row["off_by_btc"]) > 0


def test_the_ratio_stands_before_the_tables_and_the_lines_fit(quick):
    done, _ = quick
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    first_ratio = next(i for i, line in enumerate(lines) if "hireliab against bare" in line)
    first_table = next(i for i, line in enumerate(lines) if line.startswith("bot "))
    assert first_ratio < first_table
    assert any(line.startswith("How to read") for line in lines)


def test_the_table_at_the_end_has_the_comparisons_with_the_bare_bot(quick):
    done, figures = quick
    assert [(row["part"], row["what"], row["against"]) for row in figures["rows"]] == [
        ("orders", "orders over HTTP, 1 thread", "bare requests bot"),
        ("orders", "orders over HTTP, 8 threads", "bare requests bot"),
    ]
    for row, share in zip(figures["rows"], figures["benchmarks"]["orders"]["ratio"].values(), strict=True):
        assert row["ratio"] == pytest.approx(share["median"])
    assert "2 comparisons: hireliab is slower in" in done.stdout
