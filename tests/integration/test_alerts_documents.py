"""docs/alerts.rst, executed: its code blocks reach a Telegram, a mail server and a Slack of loopback."""

import dataclasses
import logging
import re

import apprise
import pytest

from hireliab.monitoring.alert_system import AlertConfig
from tests.support import documents
from tests.support.alert_endpoints import endpoint, mail_server, telegram_endpoint

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


@pytest.fixture
def services(monkeypatch, tmp_path):
    """Telegram, mail server and Slack, and the variables that lead to them."""
    with telegram_endpoint(monkeypatch) as (telegram, url), mail_server() as mail, endpoint() as slack:
        # Slack's answer to a web hook is the word "ok".
        def takes(peer, request):
            peer.server.note(request)
            peer.reply(body=b"ok")

        slack.mode = takes
        plugin = type(apprise.Apprise.instantiate(SLACK))
        monkeypatch.setattr(plugin, "webhook_url", slack.url)
        monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path))
        monkeypatch.setenv("HIRELIAB_TELEGRAM_URL", url)
        monkeypatch.setenv("HIRELIAB_EMAIL_URL", mail.url)
        monkeypatch.setenv("GRID_BOT_SLACK", SLACK)
        yield telegram, mail, slack


@pytest.mark.filterwarnings("ignore::DeprecationWarning:apprise")
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
def test_the_alerts_code_blocks_run(services, capsys):
    telegram, mail, slack = services
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        space = documents.run("docs/alerts.rst", {})
    finally:
        for handler in [one for one in root.handlers if one not in handlers]:
            root.removeHandler(handler)
    out, err = capsys.readouterr()
    first, own, last = out.splitlines()
    # Whether it was on the disk within 20 ms is the machine's affair, not the document's.
    assert first in {f"True {durable} ('console', 'telegram', 'email', 'slack')" for durable in (True, False)}
    line = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ CRITICAL risk: position is not hedged \| rejected three times \| symbol=BTC/USDT \[\w{12}\]"
    assert re.fullmatch(line, own), own
    assert last == "stopped"
    assert "CRITICAL risk: position is not hedged" in err
    texts = [one["text"] for one in telegram.accepted]
    assert any("position is not hedged" in text for text in texts)
    assert any("is isolated" in text for text in texts)
    assert any("order 17 was rejected" in text for text in texts)
    assert any("position is not hedged" in str(letter["Subject"]) for letter in mail.accepted)
    assert any("position is not hedged" in str(one) for one in slack.accepted)
    assert space["alerts"].status().state == "stopped"


def test_the_alerts_table_of_settings_is_that_of_its_config():
    listed = documents.settings("docs/alerts.rst")
    fields = {field.name: field for field in dataclasses.fields(AlertConfig)}
    assert list(listed) == list(fields)
    plain = {name: str(field.default) for name, field in fields.items() if field.default is not dataclasses.MISSING}
    assert {name: listed[name] for name in plain} == plain
