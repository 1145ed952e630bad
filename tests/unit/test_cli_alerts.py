"""``hireliab alerts test``: the table, the exit codes, and that no secret is shown."""

import json
import sys
import textwrap

import pytest

from hireliab import cli

TOKEN = "123456789:AAsecretsecretsecretsecretsecret0123"


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("HIRELIAB_ALERTS", "HIRELIAB_EMAIL_URL", "HIRELIAB_TELEGRAM_URL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


@pytest.fixture
def run(capsys):
    def run(*args):
        code = cli.main(["alerts", *args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A bot's module with settings, beside the operator."""
    (tmp_path / "a_bots_settings.py").write_text(
        textwrap.dedent("""
        from hireliab.monitoring.alert_channels import Misconfigured
        from hireliab.monitoring.alert_system import AlertConfig
        got = []
        def refuse(alert):
            return Misconfigured("the chat does not exist")
        GOOD = {"channels": {"mine": got.append}}
        BAD = AlertConfig(channels={"mine": got.append, "other": refuse}, name="x")
        NONE = {"channels": {}}
        NUMBER = 7
        """)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "a_bots_settings"
    sys.modules.pop("a_bots_settings", None)


def test_without_settings_the_console_is_tried(run):
    code, out, err = run("test")
    assert code == 0
    assert "console  ok" in out
    assert "test message" in err


def test_settings_may_be_in_a_module_and_every_channel_has_a_row(run, module):
    code, out, _ = run("test", "--config", f"{module}:GOOD")
    assert (code, sys.modules[module].got[0].title) == (0, "test message")
    code, out, _ = run("test", "--config", f"{module}:BAD")
    assert code == 1
    lines = out.splitlines()
    assert lines[0].split() == ["channel", "result", "seconds", "what", "happened"]
    assert lines[2].split()[:2] == ["mine", "ok"]
    assert lines[3].startswith("other    FAILED")
    assert lines[3].endswith("wrong settings: the chat does not exist")


def test_one_channel_may_be_named(run, module):
    code, out, _ = run("test", "mine", "--config", f"{module}:BAD")
    assert (code, "other" in out) == (0, False)


def test_json_is_the_same_for_programs(run, module):
    code, out, _ = run("test", "--json", "--config", f"{module}:BAD")
    assert code == 1
    rows = json.loads(out)
    assert [(row["channel"], row["ok"]) for row in rows] == [("mine", True), ("other", False)]
    assert rows[1]["reason"] == "wrong settings: the chat does not exist"


def test_settings_may_be_in_a_file_that_a_variable_names(run, tmp_path, monkeypatch):
    file = tmp_path / "alerts.json"
    file.write_text(json.dumps({"channels": {"console": True}, "spool": "/nowhere", "heartbeat": "http://127.0.0.1:1"}))
    monkeypatch.setenv("HIRELIAB_ALERTS", str(file))
    code, out, _ = run("test")
    assert (code, "console  ok" in out) == (0, True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["test", "nosuch"], "channel must be one of console, got 'nosuch'"),
        (["test", "consol"], "did you mean 'console'"),
        (["tset"], "did you mean 'test'"),
        (["test", "--config", "/no/such/file"], "/no/such/file cannot be read: No such file or directory"),
        (["test", "--config", "no_such_module:X"], "no_such_module:X cannot be read: ModuleNotFoundError"),
        (["test", "--config", "a_bots_settings:NUMBER"], "holds no mapping"),
        (["test", "--config", "a_bots_settings:NOTHING"], "cannot be read: AttributeError"),
        (["test", "--config", "a_bots_settings:NONE"], "no channel is on"),
        (["test", "--config", "broken.json"], "broken.json is no JSON: line 2"),
        (["test", "--config", "list.json"], "holds no mapping"),
        (["test", "--config", "wrong.json"], "did you mean 'url'"),
        (["test", "--timeout", "0"], "timeout"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_exit_code_two_and_shows_no_secret(run, module, tmp_path, args, words):
    (tmp_path / "broken.json").write_text('{"channels":\n {"ops": {"url": "tgram://' + TOKEN + "/9}}")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "wrong.json").write_text(json.dumps({"channels": {"ops": {"ulr": f"tgram://{TOKEN}/9"}}}))
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert words in err
    assert TOKEN not in err
