"""The shell blocks of the documents that name a command of hireliab's, run as they stand but for addresses and ports."""

import json
import shlex
import subprocess
import sys
import types

import pytest

from hireliab import cli
from hireliab.simulator.server import Simulator
from tests.support import documents
from tests.support.alert_endpoints import mail_server, telegram_endpoint


def commands(page, *begins):
    """The lines of the page's shell blocks that begin so, without what is a remark."""
    lines = [
        line for _line, language, source in documents.all_blocks(page) if language != "python"
        for line in source.splitlines() if line.startswith(begins)
    ]  # fmt: skip
    assert lines, f"{page}: no such command"
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", ["docs/simulator.rst", "docs/quick-start.rst"])
def test_the_simulator_starts_with_the_pages_command(page, tmp_path):
    for words in commands(page, "python -m hireliab.simulator"):
        there = ["0" if word == "8080" else word for word in words[1:]]  # whatever port is free
        process = subprocess.Popen([sys.executable, *there], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        try:
            told = json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.communicate(timeout=30)
        assert told["base_url"].startswith("http://127.0.0.1:")
        assert {"token", "api_key", "api_secret"} <= set(told)
        if "--token" in words:
            assert told["token"] == words[words.index("--token") + 1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:apprise")
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
def test_the_alerts_commands_reach_the_channels(monkeypatch, tmp_path, capsys):
    slack = []
    settings = types.ModuleType("mybot.settings")
    settings.ALERTS = {"channels": {"slack": slack.append, "other": slack.append}}
    monkeypatch.setitem(sys.modules, "mybot", types.ModuleType("mybot"))
    monkeypatch.setitem(sys.modules, "mybot.settings", settings)
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with telegram_endpoint(monkeypatch) as (telegram, url), mail_server() as mail:
        monkeypatch.setenv("HIRELIAB_TELEGRAM_URL", url)
        monkeypatch.setenv("HIRELIAB_EMAIL_URL", mail.url)
        for words in commands("docs/alerts.rst", "hireliab "):
            assert cli.main(words[1:]) == 0, capsys.readouterr()
        assert (len(telegram.accepted), len(mail.accepted), len(slack)) == (1, 1, 1)
    assert "telegram  ok" in capsys.readouterr().out


def test_the_checks_of_the_exchange_run(monkeypatch, tmp_path, capsys):
    with Simulator(seed=7, truth=tmp_path / "truth.jsonl") as exchange:
        given = {
            "NOBITEX_TOKEN": exchange.token,
            "NOBITEX_KEY": exchange.api_key,
            "NOBITEX_SECRET": exchange.api_secret,
        }
        exported = {
            word.partition("=")[0] for words in commands("docs/venue-check.rst", "export ") for word in words[1:]
        }
        assert exported == set(given)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        for words in commands("docs/venue-check.rst", "hireliab "):
            assert cli.main([*words[1:], "--base-url", exchange.base_url]) == 0, capsys.readouterr()
            assert "as assumed" in capsys.readouterr().out
