"""The pictures of the documents are those of the code's tables: a table that changes changes its picture."""

import dataclasses
import importlib
import xml.etree.ElementTree as ET

import pytest

from hireliab.core import _kill_points
from hireliab.exchange import transaction
from tests.support.documents import ROOT

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def diagrams(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("_diagrams")


def texts(svg):
    return [node.text for node in ET.fromstring(svg).iter(f"{SVG}text")]


def test_every_picture_is_sound_xml_with_a_title_and_the_same_each_time(diagrams):
    for draw in diagrams.PICTURES.values():
        svg = draw()
        assert ET.fromstring(svg).find(f"{SVG}title").text
        assert svg == draw()


def test_nothing_is_drawn_outside_of_the_picture(diagrams):
    for draw in diagrams.PICTURES.values():
        root = ET.fromstring(draw())
        _, _, width, height = map(float, root.get("viewBox").split())
        for node in root.iter(f"{SVG}text"):
            assert 0 <= float(node.get("x")) <= width
            assert 0 <= float(node.get("y")) <= height
        for node in root.iter(f"{SVG}rect"):
            assert float(node.get("x")) + float(node.get("width")) <= width


def test_the_picture_of_the_states_shows_each_state_and_each_transition(diagrams):
    shown = texts(diagrams.transaction_states())
    for state in transaction.State:
        assert state.value in shown or set(state.value.split("_")) <= set(shown)
    for row in transaction.TRANSITIONS:
        assert shown.count(row.id) == 1
        assert row.guard.split()[0] in " ".join(shown)


def test_an_arrow_has_a_dot_for_each_source_and_a_head_for_each_target(diagrams):
    row = diagrams.Row("T", ("A", "B"), ("B", "C"), "x")
    svg = ET.fromstring(diagrams.lanes("t", ["A", "B", "C"], [row]))
    circles = [(node.get("cx"), node.get("fill")) for node in svg.iter(f"{SVG}circle")]
    a, b, c = (f"{diagrams.GUTTER + (diagrams.WIDTH - diagrams.GUTTER) / 3 * (n + 0.5):.1f}" for n in range(3))
    assert circles == [(a, "currentColor"), (b, "none"), (b, "currentColor")]
    (head,) = [node.get("d") for node in svg.iter(f"{SVG}path") if node.get("d").endswith("z")]
    assert head.startswith(f"M{c} ")
    assert "l-9 " in head  # it comes from the left


@pytest.mark.parametrize(
    "change",
    [
        lambda row: dataclasses.replace(row, targets=(transaction.State.FAILED,)),
        lambda row: dataclasses.replace(row, sources=(transaction.State.NEW,)),
        lambda row: dataclasses.replace(row, barrier=not row.barrier),
        lambda row: dataclasses.replace(row, guard="something else"),
        lambda row: dataclasses.replace(row, event="something_else"),
    ],
)
def test_a_changed_table_of_transitions_changes_the_picture(diagrams, monkeypatch, change):
    before = diagrams.transaction_states()
    at = next(n for n, row in enumerate(transaction.TRANSITIONS) if row.id == "T8")
    changed = list(transaction.TRANSITIONS)
    changed[at] = change(changed[at])
    monkeypatch.setattr(transaction, "TRANSITIONS", tuple(changed))
    assert diagrams.transaction_states() != before


def test_a_transition_that_is_gone_is_gone_from_the_picture(diagrams, monkeypatch):
    monkeypatch.setattr(transaction, "TRANSITIONS", transaction.TRANSITIONS[1:])
    assert "T1" not in texts(diagrams.transaction_states())


def test_each_label_of_the_crash_campaign_is_found_in_the_code_and_no_other_is(diagrams):
    assert set(diagrams.places()) == set(_kill_points.LABELS)
    assert set(diagrams.BEGINNINGS) <= set(_kill_points.LABELS)


def test_a_label_that_moves_to_another_module_moves_in_the_picture(diagrams, tmp_path):
    for name, label in (("first", "L01"), ("second", "L02")):
        (tmp_path / f"{name}.py").write_text(f"if _kill_points.ARMED:\n    _kill_points.at({label!r})\n")
    assert diagrams.places(tmp_path) == {"L01": ["first"], "L02": ["second"]}
    (tmp_path / "second.py").write_text("_kill_points.at('L01')\n_kill_points.at('L02')\n_kill_points.at('L02')\n")
    assert diagrams.places(tmp_path) == {"L01": ["first", "second"], "L02": ["second"]}


def test_the_way_of_an_order_shows_each_label_with_its_words(diagrams, monkeypatch):
    shown = texts(diagrams.way_of_an_order())
    for label, words in _kill_points.LABELS.items():
        assert label in shown
        assert words in shown
    monkeypatch.setitem(_kill_points.LABELS, "L05", "other words")
    assert "other words" in texts(diagrams.way_of_an_order())


def test_the_picture_of_the_parts_shows_every_ranked_module(diagrams):
    from tests import test_layers

    shown = texts(diagrams.parts())
    for row in test_layers.ROWS:
        for module in row:
            assert module.rpartition(".")[2] in shown
