"""docs/operator.rst, executed: its commands run in its order beside a bot, and print what the page shows."""

import os
import re
import shlex

import pytest

from hireliab import (
    EnhancedNobitexAdapter,
    OutcomeUnknownError,
    TransactionDeniedError,
    TransactionVerificationPipeline,
    cli,
)
from hireliab.simulator.server import Simulator
from tests.support import documents
from tests.support.together import until

PAGE = "docs/operator.rst"
ULID = r"\b01[0-9A-Z]{24}\b"
SETTINGS = {
    "listing_interval": 0.3,
    "visibility_window": 0.5,
    "late_arrival_bound": 300.0,
    "operator_interval": 0.05,
}


def plain(text):
    """What does not depend on the day, the machine and the width of a column."""
    text = re.sub(ULID, "<id>", text)
    text = re.sub(r"\b[0-9a-z]{5}-<id>", "<prefix>-<id>", text)
    text = re.sub(r"/\S+/default", "<folder>", text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "<account>", text)
    text = re.sub(r"\d[\d,]*", "#", text)
    text = re.sub(r"just now|# (s|min)\b( ago)?", "# s", text)
    lines = [re.sub(r"-{3,}", "---", re.sub(r"\s+", " ", line)).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def blocks():
    """Each block of the page that shows commands: a list of (command, what it prints)."""
    for _line, language, source in documents.all_blocks(PAGE):
        assert language == "text"
        pairs = []
        for line in source.splitlines():
            if line.startswith("$ "):
                pairs.append((line[2:], []))
            else:
                pairs[-1][1].append(line)
        yield [(command, "\n".join(printed)) for command, printed in pairs]


class Story:
    """The bot of the page: what has happened before each block."""

    def __init__(self, simulator, folder):
        self.simulator = simulator
        self.folder = folder
        self.adapter = self.bot = None
        self.ids = {}

    def start(self, verification_timeout=30.0):
        self.stop()
        self.adapter = EnhancedNobitexAdapter(
            config={"token": self.simulator.token, "base_url": self.simulator.base_url}
        )
        self.adapter.initialize()
        (self.folder / "status.json").unlink(missing_ok=True)
        self.bot = TransactionVerificationPipeline(
            exchange_adapter=self.adapter, verification_timeout=verification_timeout, **SETTINGS
        )
        self.bot.start()
        until((self.folder / "status.json").exists)

    def stop(self):
        if self.bot is not None:
            self.bot.stop()
            self.adapter.stop()
        self.bot = None

    def order(self, name, **asked):
        order = self.bot.create_transaction(symbol="BTC/USDT", amount="0.001", **asked)
        self.ids[name] = order.id
        try:
            self.bot.execute_transaction(order)
        except (OutcomeUnknownError, TransactionDeniedError) as error:
            return type(error)
        return order.result().order_id

    def rest(self, name, share=9):
        price = int(self.adapter.get_market_data("BTC/USDT").best_bid * share / 10)
        return self.order(name, type="limit_buy", price=price)

    def ids_as_the_page_names_them(self):
        return [self.ids[name] for name in ("lost", "resting", "bought", "denied", "forgotten") if name in self.ids]

    def a_day(self):
        self.start()
        self.bot.halt("not yet", who="sara")
        assert self.order("denied", type="market_buy") is TransactionDeniedError
        self.bot.unhalt(who="sara")
        self.order("bought", type="market_buy")
        self.rest("resting")
        for route in ("/market/orders/status", "/market/orders/list", "/market/trades/list"):
            for method in ("GET", "POST"):
                self.simulator.faults.add({"route": f"{method} {route}", "kind": "http_502"})
        self.simulator.faults.add({"route": "POST /market/orders/add", "kind": "answer_lost", "count": 1})
        self.start(verification_timeout=0.5)  # nobody waits longer for the one that is never found
        assert self.order("lost", type="market_sell") is OutcomeUnknownError
        self.start()

    def after_the_journal_was_lost(self):
        self.simulator.faults.clear()
        self.start()
        assert isinstance(self.rest("forgotten", 8), str)
        self.stop()
        for path in self.folder.glob("journal.db*"):
            path.unlink()
        self.start()


@pytest.fixture
def story(tmp_path, monkeypatch):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "sara")
    monkeypatch.setenv("COLUMNS", "120")
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl", limits=False) as simulator:
        story = Story(simulator, tmp_path / "default")
        try:
            yield story
        finally:
            story.stop()


@pytest.mark.skipif(os.name != "posix", reason="compares modes and paths of POSIX")
def test_the_pages_commands_print_what_it_shows(story, capsys):
    before = {0: story.a_day, 4: story.after_the_journal_was_lost, 5: story.stop, 6: story.start}
    page = (documents.ROOT / PAGE).read_text(encoding="utf-8")
    pages_ids = list(dict.fromkeys(re.findall(ULID, page)))
    for number, block in enumerate(blocks()):
        before.get(number, lambda: None)()
        for command, shown in block:
            ids = dict(zip(pages_ids, story.ids_as_the_page_names_them(), strict=False))
            words = [ids.get(word, word) for word in shlex.split(command)]
            assert words[0] == "hireliab"
            code = cli.main(words[1:])
            out, err = capsys.readouterr()
            assert plain(out + err) == plain(shown), f"{command}\n{out}{err}"
            assert code == (1 if err else 0), command
    assert len(story.ids) == 5
