"""What is shown while benchmarks run, and when: never while a round runs."""

import io
import sys
import threading

import pytest

from benchmarks import _progress, harness
from benchmarks.harness import Contestant, Sample


class Recorded:
    """A progress that notes what it is told."""

    def __init__(self, told):
        self.told = told

    def step(self, text):
        self.told.append(text)

    def between_rounds(self, done, rounds):
        self.told.append((done, rounds))


def test_nothing_is_told_while_a_round_runs(monkeypatch):
    told = []
    monkeypatch.setattr(_progress, "current", Recorded(told))

    def contestant(name):
        return Contestant(
            name=name,
            run=lambda _: told.append(name) or Sample(operations=1, elapsed_ns=1, latencies_ns=(1,), extra={}),
            check=lambda: "",
        )

    harness.progress("two contestants")
    harness.interleave([contestant("a"), contestant("b")], rounds=1)
    assert told == ["two contestants", (0, 1), "a", "b", (1, 1), "b", "a"]


def test_lines_are_counted_when_there_are_several(capsys):
    with _progress.shown({"pool": 1, "bus": 1}) as progress:
        progress.begin("bus")
        harness.progress("bus: publish")
    assert capsys.readouterr().err == "benchmarks: [2/2] bus: publish\n"
    with _progress.shown({"pool": 1}) as progress:
        progress.begin("pool")
        harness.progress("pool: one thread")
    assert capsys.readouterr().err == "benchmarks: pool: one thread\n"


def test_who_told_before_tells_again_afterwards():
    before = _progress.current
    with pytest.raises(KeyError), _progress.shown({}):
        assert _progress.current is not before
        raise KeyError
    assert _progress.current is before


@pytest.fixture
def terminal():
    consoles = pytest.importorskip("rich.console")
    return consoles.Console(file=io.StringIO(), force_terminal=True, width=120)


def test_a_bar_has_no_thread_and_draws_steps_but_not_every_round(terminal):
    before = threading.active_count()
    bar = _progress.Bar({"pool": 10.0, "bus": 30.0}, terminal)
    bar.begin("pool")
    bar.step("pool: one thread [not markup]")
    assert threading.active_count() == before
    shown = terminal.file.getvalue()
    assert "pool: one thread [not markup]" in shown
    assert "1/2" in shown
    for _ in range(1000):
        bar.between_rounds(1, 2)
    assert len(terminal.file.getvalue()) < len(shown) + 2000  # one drawing or two, not a thousand
    bar.begin("bus")
    assert "2/2" in terminal.file.getvalue()
    assert "25%" in terminal.file.getvalue()
    bar.end()
    bar.end()


def test_a_bar_is_for_terminals_with_rich(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "rich", None)
    with _progress.shown({"pool": 1}) as progress:
        assert isinstance(progress, _progress.Lines)
    assert capsys.readouterr().err == ""
