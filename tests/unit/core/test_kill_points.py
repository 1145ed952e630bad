"""The labels at which the crash campaign kills: inert, countable, and placed where their names say."""

import os
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from hireliab.core import _kill_points
from hireliab.errors import ConfigError

PACKAGE = Path(_kill_points.__file__).parents[1]


@pytest.fixture
def killed(monkeypatch):
    """The signals that the process sent to itself, instead of dying."""
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    yield sent
    _kill_points.arm(None)


def test_nothing_is_armed_without_the_variable():
    assert _kill_points.VARIABLE not in os.environ
    assert _kill_points.ARMED is None


def test_the_process_dies_at_the_hit_that_was_asked_for_and_at_no_other(killed):
    _kill_points.arm("L05:3")
    for label in ("L05", "L06", "L05", "L06", "L06"):
        _kill_points.at(label)
    assert killed == []
    _kill_points.at("L05")
    assert killed == [(os.getpid(), signal.SIGKILL)]
    _kill_points.at("L05")
    assert len(killed) == 1


def test_without_a_number_it_is_the_first_hit(killed):
    _kill_points.arm("L22")
    _kill_points.at("L22")
    assert killed == [(os.getpid(), signal.SIGKILL)]


def test_every_hit_is_noted_also_the_last_one(killed, tmp_path):
    hits = tmp_path / "hits"
    _kill_points.arm(f"L05:2@{hits}")
    for label in ("L05", "L06", "L05"):
        _kill_points.at(label)
    assert hits.read_text().split() == ["L05", "L06", "L05"]
    assert len(killed) == 1


def test_a_file_alone_only_counts(killed, tmp_path):
    hits = tmp_path / "hits"
    _kill_points.arm(f"@{hits}")
    assert _kill_points.ARMED
    _kill_points.at("L05")
    assert hits.read_text() == "L05\n"
    assert killed == []


@pytest.mark.parametrize("spec", ["L99", "L05:0", "L05:-1", "L05:x", "L05:1.5", "5"])
def test_a_label_or_a_number_that_makes_no_sense_is_refused(spec, killed):
    with pytest.raises(ConfigError, match="HIRELIAB_KILL_AT"):
        _kill_points.arm(spec)
    assert _kill_points.ARMED is None


def test_every_label_stands_somewhere_and_each_call_is_guarded():
    placed = Counter()
    for path in PACKAGE.rglob("*.py"):
        if path.name == "_kill_points.py":
            continue
        text = path.read_text(encoding="utf-8")
        guarded = re.findall(r'if _kill_points\.ARMED\b[^\n]*:\n\s+_kill_points\.at\("(L\d\d)"\)', text)
        assert len(guarded) == text.count("_kill_points.at("), path
        placed.update(guarded)
    assert set(placed) == set(_kill_points.LABELS)
