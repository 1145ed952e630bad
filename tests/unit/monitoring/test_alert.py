import enum
import json
import logging
from types import MappingProxyType

import pytest

from hireliab.monitoring.alert import Alert, AlertLevel, AlertReceipt, AlertSource, alert_from_dict, make_alert


def make(**changes):
    given = {"id": "a1", "time": 1.0, "source": "risk", "level": "info", "title": "t", "message": "m"}
    return make_alert(**{**given, **changes})


def test_levels_are_ordered_and_have_the_numbers_of_logging():
    assert AlertLevel.DEBUG < AlertLevel.INFO < AlertLevel.WARNING < AlertLevel.ERROR < AlertLevel.CRITICAL
    for level in AlertLevel:
        assert getattr(logging, level.name) == level


@pytest.mark.parametrize("name", ["warning", "WARNING", " Warning ", AlertLevel.WARNING, 30])
def test_a_level_is_found_by_its_name_in_any_case(name):
    assert AlertLevel(name) is AlertLevel.WARNING
    assert make(level=name).level is AlertLevel.WARNING


def test_sources_are_those_of_the_library_or_the_users_own_text():
    assert {s.name for s in AlertSource} == {
        "SYSTEM", "EXCHANGE", "EXECUTION", "MARKET_DATA", "STRATEGY", "RISK", "NETWORK", "STORAGE",
    }  # fmt: skip
    assert AlertSource("MARKET_data") is AlertSource.MARKET_DATA
    assert make(source="exchange").source is AlertSource.EXCHANGE
    assert make(source=AlertSource.STORAGE).source is AlertSource.STORAGE
    assert make(source="my grid bot").source == "my grid bot"
    assert not make(source="my grid bot").notes


class Mine(enum.Enum):
    WARNING = "whatever"
    GRID = 2


def test_the_users_own_enumeration_counts_by_its_names():
    alert = make(level=Mine.WARNING, source=Mine.GRID)
    assert (alert.level, alert.source, alert.notes) == (AlertLevel.WARNING, "GRID", ())


@pytest.mark.parametrize("level", ["urgent", None, 25, True, object(), [], b"info", AlertSource.RISK])
def test_a_level_that_is_none_is_sent_as_error_with_a_note(level):
    alert = make(level=level)
    assert alert.level is AlertLevel.ERROR
    (note,) = alert.notes
    assert "unknown, sent as ERROR" in note


@pytest.mark.parametrize("source", [None, 7, object(), b"x"])
def test_a_source_that_is_none_is_system_with_a_note(source):
    alert = make(source=source)
    assert alert.source is AlertSource.SYSTEM
    assert "neither an AlertSource nor a text" in alert.notes[0]


@pytest.mark.parametrize("context", [["a"], "text", 7])
def test_a_context_that_is_no_mapping_is_kept_and_noted(context):
    alert = make(context=context)
    assert list(alert.context) == ["context"]
    assert alert.notes == ("context is no dictionary",)


def test_every_text_is_redacted():
    secret = "f" * 40
    alert = make(
        source=f"bot {secret}", level=f"x{secret} {secret}", title=f"t {secret}", message=f"token={secret}",
        context={"a": secret, "token": 1}, dedup_key=f"k {secret}",
    )  # fmt: skip
    assert f" {secret}" not in f"{alert.to_dict()}"
    assert f"={secret}" not in f"{alert.to_dict()}"
    assert alert.context["token"] == "***"


def test_texts_are_bounded_and_other_types_are_said():
    alert = make(title="x" * 10_000_000, message=ValueError("why"))
    assert len(alert.title) < 250
    assert alert.message == "ValueError: why"
    assert make(title=None).title == "None"


def test_an_alert_is_frozen_and_its_dictionary_is_fresh_json():
    alert = make(context={"a": [1, {"b": None}]}, dedup_key="k")
    with pytest.raises(AttributeError):
        alert.title = "x"  # type: ignore[misc]
    first, second = alert.to_dict(), alert.to_dict()
    first["context"]["a"].append(2)
    assert json.loads(json.dumps(second)) == {
        "id": "a1", "time": 1.0, "source": "risk", "level": "info", "title": "t", "message": "m",
        "context": {"a": [1, {"b": None}]}, "dedup_key": "k", "notes": [],
        "count": 1, "since": None, "also": [], "resolved": False, "replayed": False,
    }  # fmt: skip
    assert alert_from_dict(second) == alert


def test_its_text_is_one_line():
    alert = make_alert(
        id="i", time=0.0, source="risk", level="error", title="t", message="two\nlines", context={"a": 1}, dedup_key="k"
    )
    assert str(alert) == "1970-01-01 00:00:00Z ERROR    risk: t | two / lines | a=1 [i]"


def test_a_dictionary_of_a_newer_version_is_read_too():
    alert = make(source="my bot", dedup_key="k")
    assert alert_from_dict({**alert.to_dict(), "colour": "red"}) == alert
    old = {key: value for key, value in alert.to_dict().items() if key not in ("count", "since", "also", "resolved")}
    assert alert_from_dict(old) == alert


def test_defaults_are_empty_and_shared_safely():
    alert = Alert(id="1", time=0.0, source="x", level=AlertLevel.INFO, title="t", message="m")
    assert alert.context == MappingProxyType({})
    receipt = AlertReceipt(id="1", accepted=True)
    assert (receipt.durable, receipt.channels, receipt.reason) == (False, (), "queued")
