"""What the charts show is what was measured, losses included."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import _charts, _rows
from benchmarks._charts import HEADLINES

ROOT = Path(__file__).parents[3]
REPORT = json.loads((ROOT / "benchmarks" / "results" / "report.json").read_text(encoding="utf-8"))
IMAGES = ROOT / "docs" / "images"


def charts(benchmarks=REPORT["benchmarks"]):
    rows, _ = _rows.of(benchmarks)
    return {chart.name: chart for chart in _charts.of(benchmarks, rows)}


def test_each_benchmark_of_the_report_has_its_bars():
    found = charts()
    assert {"overview", "calls", "pool", "http", "alerts", "transactions", "orders"} <= set(found)
    for chart in found.values():
        for panel in chart.panels:
            assert len(panel.bars) > 1
            assert any(bar.ours for bar in panel.bars) or panel.one
            assert "better" in panel.axis or panel.one


def test_the_overview_shows_where_hireliab_loses():
    assert any(bar.value < 1 for bar in charts()["overview"].panels[0].bars)
    rows, _ = _rows.of(REPORT["benchmarks"])
    known = {(row.part, row.what, row.against) for row in rows}
    measured = [line[:3] for line in HEADLINES if line[0] in REPORT["benchmarks"]]
    assert [line for line in measured if line not in known] == []  # a renamed row would fall out of the picture


def test_who_does_not_count_has_no_bar():
    pool = json.loads(json.dumps(REPORT["benchmarks"]["pool"]))
    pool["crowd"][1].update(checked=False, problem="two threads had the same client")
    crowd = charts({"pool": pool})["pool"].panels[1]
    assert [bar.label for bar in crowd.bars] == ["hireliab", "SQLAlchemy QueuePool"]


def test_an_axis_is_logarithmic_only_where_bars_would_vanish():
    def panel(*values):
        return _charts._panel("t", "ms", [_charts.Bar(label="a", value=value, text="") for value in values])

    assert not panel(1.0, 100.0).log
    assert panel(1.0, 101.0).log
    assert panel(1.0, 101.0).axis == "ms, log scale"
    assert not panel(0.0, 500.0).log  # nothing has no place on such an axis


@pytest.mark.parametrize("name", sorted(charts()))
def test_the_committed_picture_has_the_reports_figures(name):
    file = IMAGES / f"benchmark-{name}.svg"
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text(encoding="utf-8"))
    for panel in charts()[name].panels:
        for bar in panel.bars:
            assert bar.text in shown, f"{file} is not drawn from benchmarks/results/report.json: {bar}"


def test_the_page_shows_every_picture_and_no_other():
    page = (ROOT / "docs" / "benchmarks.rst").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. image:: images/(\S+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(file.name for file in IMAGES.glob("benchmark-*.svg"))
    assert sorted(shown) == sorted(f"benchmark-{name}.svg" for name in charts())
