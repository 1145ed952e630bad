import dataclasses
import io
import sys

import pytest

from hireliab.errors import ConfigError
from hireliab.monitoring._alert_text import fit, render_body, render_line, render_title
from hireliab.monitoring.alert import make_alert
from hireliab.monitoring.alert_channels import ConsoleChannel, check_channel


def make(**changes):
    given = {
        "id": "a1b2", "time": 1_760_000_000.0, "source": "exchange", "level": "warning", "title": "Rate limit",
        "message": "at 80%",
    }  # fmt: skip
    return make_alert(**{**given, **changes})


def test_a_line_has_everything_that_a_person_needs():
    line = render_line(make(context={"exchange": "nobitex", "rate_limit": 80, "text": "two words", "n": None}))
    assert line == (
        "2025-10-09 08:53:20Z WARNING  exchange: Rate limit | at 80% "
        '| exchange=nobitex rate_limit=80 text="two words" n=null [a1b2]'
    )


def test_an_alert_is_one_line_whatever_it_says():
    line = render_line(
        make(title="a\nb", message="c\nd\r\n\x0be", context={"k\ny": "f\ng", "list": ["h\ni"]}, level="?")
    )
    assert len(line.splitlines()) == 1
    assert "c / d" in line
    assert "(note: level ? is unknown, sent as ERROR)" in line


def test_the_console_is_standard_error_as_it_is_now(capsys):
    channel = ConsoleChannel()
    channel(make())
    assert capsys.readouterr().err == render_line(make()) + "\n"


def test_a_console_that_cannot_show_a_character_shows_its_number():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleChannel(stream)(make(title="naïve €"))
    assert b"na\\xefve \\u20ac" in raw.getvalue()


def test_a_program_without_a_console_sends_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    ConsoleChannel()(make())


def test_the_line_is_flushed():
    class Stream(io.StringIO):
        flushed = 0

        def flush(self):
            self.flushed += 1

    stream = Stream()
    ConsoleChannel(stream)(make())
    assert stream.flushed == 1


async def _coroutine(alert):
    pass


class _AsyncCallable:
    async def __call__(self, alert):
        pass


@pytest.mark.parametrize("channel", [_coroutine, _AsyncCallable()])
def test_a_coroutine_function_is_no_channel(channel):
    with pytest.raises(ConfigError, match="'mine' is a coroutine function"):
        check_channel("mine", channel)


@pytest.mark.parametrize("channel", [None, "console", 1, {"url": "x"}])
def test_what_cannot_be_called_is_no_channel(channel):
    with pytest.raises(ConfigError, match="'mine' must be True, False, a callable or a mapping"):
        check_channel("mine", channel)


# -- how an alert reads to a person ---------------------------------------------------------------------------------


def test_a_summary_says_how_often_since_when_and_what_else():
    alert = dataclasses.replace(make(), count=137, since=1_760_000_000.0 - 60, also=("at 70%", "at 75%"))
    assert render_title(alert) == "WARNING exchange: Rate limit (x137)"
    assert render_body(alert) == (
        "at 80%\n\n2025-10-09 08:53:20Z\n137 times, first 2025-10-09 08:52:20Z, last 2025-10-09 08:53:20Z\n"
        "also: at 70%\nalso: at 75%"
    )
    assert "Rate limit (x137) | at 80% (137 times, first" in render_line(alert)


def test_an_end_says_resolved_and_since_when():
    alert = dataclasses.replace(make(context={"a": 1}), resolved=True, since=1_760_000_000.0 - 60)
    assert render_title(alert) == "RESOLVED exchange: Rate limit"
    assert render_body(alert) == "at 80%\n\na: 1\n\n2025-10-09 08:53:20Z\nsince 2025-10-09 08:52:20Z"
    assert "exchange: RESOLVED Rate limit" in render_line(alert)


def test_what_comes_late_says_so():
    assert "the process ended before it could be sent" in render_body(dataclasses.replace(make(), replayed=True))


@pytest.mark.parametrize("time", [float("nan"), 1e300, -1e300])
def test_a_time_that_is_none_is_said_to_be_none(time):
    assert "(no valid time)" in render_line(dataclasses.replace(make(), time=time))


@pytest.mark.parametrize("limit", range(12, 260))
def test_a_text_that_is_too_long_keeps_its_head_its_tail_and_its_id(limit):
    body = "head " + "x" * 200 + " tail"
    text = fit("title", body, "[a1b2]", limit)
    assert len(text) <= limit
    assert text.endswith("[a1b2]")
    if limit >= 60:
        assert text.startswith("title\nhead")
        assert "tail\n[a1b2]" in text


def test_a_title_that_is_too_long_leaves_room_for_the_id():
    assert fit("t" * 50, "body", "[a1b2]", 20) == "t" * 12 + "…\n[a1b2]"


def test_a_text_that_fits_is_left_alone():
    assert fit("title", "body", "[id]", 100) == "title\nbody\n[id]"
    assert fit("title", "", "[id]", 100) == "title\n[id]"
    assert len(fit("t" * 50, "b", "", 10)) == 10
