"""Draws the charts with matplotlib: the only file that names it. The same figures give the same bytes of SVG."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import _charts
from benchmarks._charts import Bar, Chart, Panel
from benchmarks._record import Record
from benchmarks._summary import Row

matplotlib: Any = importlib.import_module("matplotlib")
_figure: Any = importlib.import_module("matplotlib.figure")
_ticker: Any = importlib.import_module("matplotlib.ticker")

# Okabe and Ito's colours, which colour-blind people tell apart; the hatch says the same to a printer.
OURS, THEIRS, LOST, TEXT, FAINT = "#0072B2", "#B8B8B8", "#D55E00", "#222222", "#666666"
SETTINGS = {
    "svg.hashsalt": "hireliab",  # ids that do not change from run to run
    "svg.fonttype": "none",  # text stays text: readable in a diff, and for a screen reader
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9,
    "hatch.linewidth": 0.6,
}
WIDTH, MARGIN = 9.6, 0.12
BAR = 0.27
"""Inches of height for a bar."""
LETTER, BOLD = 0.066, 0.073
"""Inches of width for a letter of a label."""
PREFIX = "benchmark-"


def draw(record: Record, rows: Sequence[Row], folder: Path, suffix: str) -> list[Path]:
    """
    Draw every chart of the record's figures.

    Args:
        suffix: "svg" or "png".

    Returns:
        The files.
    """
    written = []
    with matplotlib.rc_context(SETTINGS):
        for chart in _charts.of(record.benchmarks, rows):
            figure = picture(chart, _footer(record, chart))
            file = folder / f"{PREFIX}{chart.name}.{suffix}"
            metadata = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
            figure.savefig(file, dpi=110, metadata=metadata, facecolor="white")
            if suffix == "svg":  # matplotlib leaves blanks at the ends of lines
                lines = file.read_text(encoding="utf-8").splitlines()
                file.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
            written.append(file)
    return written


def _footer(record: Record, chart: Chart) -> str:
    """Where the figures come from."""
    names = {"calls": ("breaker", "retry", "limiter", "policy"), "overview": tuple(record.benchmarks)}.get(
        chart.name, (chart.name,)
    )
    runs = [run for run in record.runs if set(run["benchmarks"]) & set(names)]
    machine = runs[0]["machine"] if runs else {}
    dates = ", ".join(dict.fromkeys(str(run["date"])[:10] for run in runs))
    quick = "; QUICK RUN, NOT TO BE QUOTED" if any(run["quick"] for run in runs) else ""
    return f"{machine.get('cpu', 'unknown CPU')}; {machine.get('python', 'unknown Python')}; {dates}{quick}"


def picture(chart: Chart, footer: str) -> Any:
    """A figure of one column of panels, or of two when there are several."""
    columns = 1 if len(chart.panels) < 3 else 2
    rows = [chart.panels[i : i + columns] for i in range(0, len(chart.panels), columns)]
    above = 0.32 if any(panel.title for panel in chart.panels) else 0.05
    heights = [max(len(panel.bars) for panel in row) * BAR + above + 0.6 for row in rows]
    height = sum(heights) + 0.6
    figure = _figure.Figure(figsize=(WIDTH, height))
    figure.text(MARGIN / WIDTH, 1 - 0.1 / height, chart.title, fontsize=13, fontweight="bold", color=TEXT, va="top")
    figure.text(MARGIN / WIDTH, 0.08 / height, footer, fontsize=7.5, color=FAINT, va="bottom")
    room = WIDTH / columns
    labels = [
        max(_room(panel, bar) for panel in chart.panels[i::columns] for bar in panel.bars) + 0.25
        for i in range(columns)
    ]
    top = height - 0.45
    for row, tall in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            bars = len(panel.bars) * BAR
            left, width = column * room + labels[column], room - labels[column] - 0.12
            title = (column * room + MARGIN) / WIDTH
            figure.text(title, (top - 0.05) / height, panel.title, fontsize=9.5, color=TEXT, va="top")
            box = (left / WIDTH, (top - above - bars) / height, width / WIDTH, bars / height)
            _draw(figure.add_axes(box), panel, width)
        top -= tall
    return figure


def _room(panel: Panel, bar: Bar) -> float:
    """Inches that a label takes; bold letters are wider."""
    return len(bar.label) * (LETTER if panel.one or not bar.ours else BOLD)


def _draw(axes: Any, panel: Panel, width: float) -> None:
    bars = panel.bars
    places = range(len(bars) - 1, -1, -1)  # the first at the top
    if panel.log:
        axes.set_xscale("log")
    start = _start(panel)
    for place, bar in zip(places, bars, strict=True):
        _bar(axes, panel, place, bar, start)
    axes.set_yticks(list(places), [bar.label for bar in bars])
    axes.set_ylim(-0.6, len(bars) - 0.4)
    least = min([start, *(bar.value for bar in bars)])
    highest = max(bar.value if bar.high is None else max(bar.high, bar.value) for bar in bars)
    # Room for the figures at the bars' ends, on the left, too, where bars go there.
    share = min(0.6, (max(len(bar.text) for bar in bars) * 0.07 + 0.15) / width)
    if not panel.log:
        axes.set_xlim(0, highest / (1 - share) if highest else 1)
    else:
        left = share if least < start else 0.0
        decade = (highest / least) ** (1 / (1 - share - left))  # the whole axis, as a factor
        axes.set_xlim(least / decade**left, highest * decade**share)
    _dress(axes, panel, width)


def _bar(axes: Any, panel: Panel, place: int, bar: Bar, start: float) -> None:
    lost = panel.one and bar.value < 1
    bold = panel.one or bar.ours
    axes.barh(
        place, bar.value - start, left=start, height=0.66, linewidth=0,
        color=LOST if lost else OURS if bold else THEIRS, hatch="///" if lost else None, edgecolor="white",
    )  # fmt: skip
    end = bar.value
    if bar.low is not None and bar.high is not None and bar.high > bar.low:
        axes.plot([bar.low, bar.high], [place, place], color=TEXT, linewidth=1.0, solid_capstyle="butt")
        end = bar.high
    axes.annotate(
        bar.text, (end, place), xytext=(-4 if lost else 4, 0), textcoords="offset points", ha="right" if lost else "left",
        va="center", fontsize=8.5, color=TEXT, fontweight="bold" if bold else "normal",
    )  # fmt: skip


def _start(panel: Panel) -> float:
    """Where bars begin: at 1 for ratios, at 0; on a log scale, which has no 0, a power of ten below the least."""
    if panel.one:
        return 1.0
    least = min(min(bar.value, bar.low if bar.low is not None else bar.value) for bar in panel.bars)
    return 10.0 ** math.floor(math.log10(least) - 0.05) if panel.log else 0.0


def _dress(axes: Any, panel: Panel, width: float) -> None:
    axes.set_xlabel(panel.axis, fontsize=8, color=FAINT, labelpad=2)
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.tick_params(axis="x", labelsize=7.5, colors=FAINT, length=2)
    for label, bar in zip(axes.get_yticklabels(), panel.bars, strict=True):
        label.set_fontweight("bold" if bar.ours and not panel.one else "normal")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(THEIRS)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    locator = _ticker.MaxNLocator(max(2, int(width / 0.55)), integer=True)
    if panel.log:
        low, high = (math.log10(end) for end in axes.get_xlim())
        powers = range(math.ceil(low - 0.01), math.floor(high + 0.01) + 1)
        locator = _ticker.FixedLocator([10.0**power for power in powers[:: math.ceil(len(powers) * 0.65 / width)]])
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_minor_locator(_ticker.NullLocator())
    axes.xaxis.set_major_formatter(_ticker.FuncFormatter(_number))
    if panel.one:
        axes.axvline(1.0, color=TEXT, linewidth=1.0)


def _number(value: float, _place: int | None = None) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
