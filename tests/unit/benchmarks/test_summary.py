"""The table at the end: its rows come from the figures, and no goal is left out."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks import _rows, _summary
from benchmarks._summary import Row

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
REPORT = json.loads((RESULTS / "report.json").read_text(encoding="utf-8"))


def goal(what, reached=True, wanted=">= 1 x", measured="2 x"):
    return {"what": what, "wanted": wanted, "measured": measured, "reached": reached}


def result(name, rate, problem="", p50=1.0):
    return {"name": name, "rate": {"median": rate}, "p50": p50, "problem": problem, "checked": not problem}


def cost(name, ns, ratio=None, problem=""):
    return {"name": name, "ns": ns, "ratio": ratio, "problem": problem}


def row(ratio=2.0, reached=None, wanted="", **more):
    facts = {"part": "pool", "what": "a turn", "against": "a peer", "absolute": "1 us", **more}
    return Row(ratio=ratio, reached=reached, wanted=wanted, **facts)


def rows_of(name, figures):
    rows, problems = _rows.of({name: figures})
    assert problems == []
    return [(one.what, one.against, one.ratio, one.absolute, one.wanted, one.reached) for one in rows]


def test_a_rate_is_compared_with_each_peer_and_takes_its_goal():
    part = {
        "part": "GET",
        "results": [result("hireliab Session", 300.0), result("requests", 100.0), result("fast", 600.0)],
    }
    figures = {"goals": [goal("GET: against requests", False, ">= 4 x"), goal("alone")], "parts": [part]}
    assert rows_of("http", figures) == [
        ("GET", "requests", 3.0, "300 calls/s", ">= 4 x", False),
        ("GET", "fast", 0.5, "300 calls/s", "", None),
        ("alone", "", None, "2 x", ">= 1 x", True),
    ]


def test_what_does_not_count_is_not_compared():
    part = {"part": "GET", "results": [result("hireliab Session", 300.0), result("requests", 100.0, "wrong answers")]}
    assert rows_of("http", {"goals": [], "parts": [part]}) == []
    part = {"part": "GET", "results": [result("hireliab Session", 300.0, "wrong"), result("requests", 100.0)]}
    assert rows_of("http", {"goals": [], "parts": [part]}) == []


def test_hireliabs_own_variants_are_no_peers():
    part = {
        "part": "GET",
        "results": [result("hireliab Session", 3.0), result("hireliab Session, pooled and guarded", 1.0)],
    }
    assert rows_of("http", {"goals": [], "parts": [part]}) == []


def test_a_cost_is_compared_by_time_and_with_the_bare_call_by_the_median_of_the_rounds():
    figures = {
        "goals": [goal("a success at once: against bare", True, "<= 5.0 x its time")],
        "good": [
            cost("bare", 50),
            cost("a wrapper that only forwards", 90, 1.8),
            cost("hireliab", 100, 2.5),
            cost("x", 400, 8),
        ],
        "third": [cost("hireliab", 2000.0), cost("x", 1000.0, 0.5)],
    }
    assert rows_of("retry", figures) == [
        ("a success at once", "bare", 0.4, "100 ns", "<= 5.0 x its time", True),
        ("a success at once", "x", 4.0, "100 ns", "", None),
        ("two failures, then a success", "x", 0.5, "2 us", "", None),
    ]


def test_lost_alerts_do_not_make_a_delivery_faster():
    def delivery(name, took):
        return {"name": name, "hung": 6, "took_ms": took, "problem": ""}

    figures = {
        "calls": [],
        "deliveries": [delivery("hireliab", [4.0, 4.0]), delivery("peer", [8.0, None]), delivery("deaf", [None])],
    }
    assert rows_of("alerts", figures) == [("until it is there, 6 others hang", "peer", 2.0, "4 ms", "", None)]


def test_an_indented_goal_is_told_with_the_one_above():
    figures = {"goals": [goal("32 threads, throughput"), goal("  overtaken", None)]}
    assert [one[0] for one in rows_of("of-tomorrow", figures)] == ["32 threads, throughput", "32 threads: overtaken"]


def test_figures_that_cannot_be_read_cost_no_other_benchmark_its_rows():
    rows, problems = _rows.of({"pool": {"goals": []}, "x": {"goals": [goal("g")]}, "http": {}})
    assert [one.what for one in rows] == ["g"]
    assert problems == ["pool: its figures are not what this version writes: KeyError: 'alone'"]


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(7.4, "7 ns"), (999.4, "999 ns"), (999.6, "1 us"), (14_000, "14 us"), (4.02e9, "4.02 s"), (118_500, "118 us")],
)
def test_a_duration_has_the_unit_that_fits(nanoseconds, text):
    assert _rows.duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.0111, "0.011 x"), (0.98, "0.98 x"), (0.999, "1.00 x"), (20.44, "20.4 x"), (33_929, "33,929 x")],
)
def test_a_ratio_has_the_digits_that_fit(ratio, text):
    assert _summary.times(ratio) == text


def test_the_table_counts_goals_and_losses_and_has_the_ratios_first():
    rows = [
        row(None, True, ">= 1", what="a goal alone"),
        row(0.5, False, ">= 1 x"),
        row(3.0),
        row(None, None, ">= 1", what="x"),
    ]
    lines = _summary.lines(rows)
    assert "3 goals: 1 reached, 1 missed, 1 not measured" in lines
    assert "2 comparisons: hireliab is slower in 1 of them (below 1 x)" in lines
    text = "\n".join(lines)
    assert text.index("0.50 x") < text.index("3.00 x") < text.index("a goal alone")
    assert next(line for line in lines if "0.50 x" in line).endswith("NO")
    assert next(line for line in lines if line.startswith("pool  x")).endswith("not measured")


def test_the_csv_has_the_same_cells_and_missed_goals_first():
    assert _summary.as_csv([row(3.0), row(None, True, ">= 1"), row(0.5, False, ">= 1 x", what="a, b")]) == (
        "x as fast,part,what,against,hireliab,wanted,reached\n"
        '0.50 x,pool,"a, b",a peer,1 us,>= 1 x,NO\n'
        "-,pool,a turn,a peer,1 us,>= 1,yes\n"
        "3.00 x,pool,a turn,a peer,1 us,,\n"
    )


# -- the committed report -----------------------------------------------------------------------------------------


def test_every_goal_of_the_committed_report_stands_in_the_table_once():
    rows, problems = _rows.of(REPORT["benchmarks"])
    assert problems == []
    for name, figures in REPORT["benchmarks"].items():
        wanted = sorted((one["wanted"], str(one["reached"])) for one in figures.get("goals", ()))
        assert sorted((one.wanted, str(one.reached)) for one in rows if one.part == name and one.wanted) == wanted


def test_the_committed_files_are_of_one_report(capsys):
    rows, _ = _rows.of(REPORT["benchmarks"])
    assert (RESULTS / "table.csv").read_text(encoding="utf-8") == _summary.as_csv(rows)
    command_line.main(["--from", str(RESULTS / "report.json")])
    assert (RESULTS / "report.txt").read_text(encoding="utf-8") == capsys.readouterr().out


def test_the_committed_report_is_one_of_this_version():
    rows, _ = _rows.of(REPORT["benchmarks"])
    assert REPORT["rows"] == [asdict(one) for one in rows]
    assert set(REPORT["benchmarks"]) <= set(command_line.BENCHMARKS)
    assert not any(run["quick"] for run in REPORT["runs"])
