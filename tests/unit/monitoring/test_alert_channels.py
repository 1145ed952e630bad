import io
import sys

import pytest

from hireliab.errors import ConfigError
from hireliab.monitoring.alert import make_alert
from hireliab.monitoring.alert_channels import ConsoleChannel, check_channel, render_line


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
    with pytest.raises(ConfigError, match="'mine' must be True, False or a callable"):
        check_channel("mine", channel)
