"""The charts, drawn by matplotlib from the committed report."""

import re
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line

pytest.importorskip("matplotlib", reason="of the extra `bench`; .ci/run draws with it when it runs the benchmarks")
ROOT = Path(__file__).parents[2]
REPORT = ROOT / "benchmarks" / "results" / "report.json"


def draw(folder, *options):
    assert command_line.main(["--from", str(REPORT), "--plot", str(folder), *options]) == 0
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_same_figures_give_the_same_bytes_and_the_same_pictures_as_are_committed(tmp_path):
    one, two = draw(tmp_path / "one"), draw(tmp_path / "two")
    assert one == two
    assert set(one) == {file.name for file in (ROOT / "docs" / "images").glob("benchmark-*.svg")}
    for text in one.values():
        assert b"<dc:date>" not in text
        assert re.search(rb"[ \t]$", text, re.MULTILINE) is None


def shown(figure):
    """The texts of a picture; matplotlib keeps labels of ticks beyond the axis, too, and draws none of them."""
    yield from figure.texts
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        yield from (label for place, label in ticks if low <= place <= high)
        yield from (text for text in [*axes.texts, *axes.get_yticklabels(), axes.xaxis.label] if text.get_text())


def test_nothing_stands_outside_the_picture_or_on_another_text():
    """Labels, figures at the bars' ends, titles: measured as matplotlib draws them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from benchmarks import _charts, _plot, _record, _rows

    record = _record.read([REPORT])
    rows, _ = _rows.of(record.benchmarks)
    with _plot.matplotlib.rc_context(_plot.SETTINGS):
        for chart in _charts.of(record.benchmarks, rows):
            figure = _plot.picture(chart, "footer")
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            renderer = canvas.get_renderer()
            boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown(figure)]
            width, height = figure.bbox.width, figure.bbox.height
            for name, box in boxes:
                assert box.x0 > -1, (chart.name, name)
                assert box.x1 < width + 1, (chart.name, name)
                assert box.y0 > -1, (chart.name, name)
                assert box.y1 < height + 1, (chart.name, name)
            for i, (name, box) in enumerate(boxes):
                for other, there in boxes[i + 1 :]:
                    assert not box.padded(-1).overlaps(there.padded(-1)), (chart.name, name, other)


def test_png_is_drawn_where_it_is_asked_for(tmp_path):
    files = draw(tmp_path, "--format", "png")
    assert all(name.endswith(".png") and content.startswith(b"\x89PNG") for name, content in files.items())
