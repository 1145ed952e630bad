"""docs/from-a-legacy-bot.rst: each step is run, and what it promises happens, by the exchange's truth file."""

import contextlib
import io
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

import hireliab
from hireliab import (
    AlertHandler,
    InvalidOrderError,
    NotSentError,
    OutcomeUnknownError,
    OwnVenue,
    TransactionVerificationPipeline,
    Verdict,
)
from hireliab.core.circuit_breaker import registry
from hireliab.simulator.server import Simulator
from hireliab.simulator.truth import read
from tests.support import documents
from tests.support.venue import OtherExchange

PAGE = "docs/from-a-legacy-bot.rst"
OLD, SESSION, ORDER, LOOP, READS, ALERTS, END, OTHER = range(8)
ADD = "POST /market/orders/add"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def exchange(tmp_path, home):
    # As most exchanges do: an equal order is an order. (Nobitex refuses it for ten seconds.)
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl", settings={"duplicate_window": 0}) as exchange:
        yield exchange


@pytest.fixture
def bot(exchange):
    """Runs blocks of the page, as one bot; everything that they started is stopped at the end."""
    spaces = []

    def start(*only, **more):
        space = {"TOKEN": exchange.token, "BASE_URL": exchange.base_url, "API_KEY": "a key", **more}
        spaces.append(space)
        return documents.run(PAGE, space, only=only)

    yield start
    for space in spaces:
        stop(space)


def stop(space):
    for name in ("verifier", "kraken_orders", "adapter", "alerts"):
        if name in space:
            space.pop(name).stop()
    for name in ("session", "kraken"):
        if name in space:
            space.pop(name).close()
    registry.discard("prices")
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, AlertHandler):
            logging.getLogger().removeHandler(handler)


def orders(exchange):
    """Requests for an order that arrived, and orders that came of them."""
    records = list(read(exchange.truth))
    arrived = sum(record["kind"] == "request" and record["path"] == ADD.split()[1] for record in records)
    return arrived, len({record["id"] for record in records if record["kind"] == "order"})


def test_the_old_bot_buys_twice_when_an_answer_is_lost(bot, exchange):
    space = bot(OLD)
    exchange.faults.add(route=ADD, kind="answer_lost", count=1)
    assert space["on_signal"]("monday", "buy", "0.01")["status"] == "Done"
    assert orders(exchange) == (2, 2)


def test_the_old_bots_except_clauses_catch_the_sessions_errors(bot, exchange):
    space = bot(OLD, SESSION)
    exchange.faults.add(route="GET /v3/orderbook", kind="answer_lost", count=5)
    with pytest.raises(requests.RequestException):
        space["last_price"]("BTCUSDT")


def test_the_guarded_bot_buys_once_and_knows_it(bot, exchange):
    space = bot(SESSION, ORDER, LOOP)
    exchange.faults.add(route=ADD, kind="answer_lost", count=1)
    order = space["on_signal"]("monday", "buy", "0.01")
    assert (order["status"], order["matchedAmount"]) == ("Done", "0.01")
    assert orders(exchange) == (1, 1)


def test_the_same_signal_after_a_restart_buys_nothing(bot, exchange):
    first = bot(SESSION, ORDER, LOOP)
    bought = first["on_signal"]("monday", "buy", "0.01")
    stop(first)
    again = bot(SESSION, ORDER, LOOP)["on_signal"]("monday", "buy", "0.01")
    assert again["id"] == bought["id"]
    assert orders(exchange) == (1, 1)


def test_a_refusal_is_a_refusal(bot, exchange, capsys):
    space = bot(SESSION, ORDER, LOOP)
    assert space["on_signal"]("monday", "buy", "900000") is None
    assert capsys.readouterr().out.startswith("monday refused: ")
    (transaction,) = space["verifier"].transactions()
    assert transaction.result().verdict is Verdict.REJECTED


def test_an_exchange_that_is_away_is_not_sent_or_unknown_but_never_an_order(bot, exchange, capsys):
    space = bot(SESSION, ORDER, LOOP)
    exchange.go_down()
    try:
        assert space["on_signal"]("monday", "buy", "0.01") is None
    finally:
        exchange.go_up()
    assert capsys.readouterr().out.startswith("monday nothing was sent")
    assert orders(exchange) == (0, 0)


def test_a_read_is_repeated_after_a_lost_answer(bot, exchange):
    space = bot(SESSION, READS)
    exchange.faults.add(route="GET /v3/orderbook", kind="answer_lost", count=2)
    assert space["last_price"]("BTCUSDT") == str(exchange.engine.pits["BTCUSDT"].tape.last)


def test_what_the_bot_logs_becomes_an_alert(bot, exchange, home):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        space = bot(SESSION, ORDER, ALERTS)
        logging.getLogger("grid").error("the grid is empty")
        stop(space)
    assert "the grid is empty" in printed.getvalue()


def test_the_commands_beside_the_running_bot_work(bot, exchange, capsys):
    space = bot(SESSION, ORDER, LOOP)
    assert space["on_signal"]("monday", "buy", "0.01")
    # Those of step 6 as they stand there.
    page = Path(documents.ROOT / PAGE).read_text(encoding="utf-8")
    commands = [line.strip() for line in page.splitlines() if line.startswith("   hireliab ")]
    assert len(commands) == 2
    for command in commands:
        head, _, quoted = command.partition(' "')
        program = [sys.executable, "-m", *head.split(), *([quoted.removesuffix('"')] if quoted else [])]
        done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        if "list" in command:
            assert "COMPLETED" in done.stdout
    capsys.readouterr()
    assert space["on_signal"]("tuesday", "buy", "0.01") is None
    assert capsys.readouterr().out.startswith("tuesday refused: ")
    assert orders(exchange) == (1, 1)


# -- another exchange ---------------------------------------------------------------------------------------------


@pytest.fixture
def other():
    with OtherExchange() as other:
        yield other


@pytest.fixture
def other_bot(other, home):
    spaces = []

    def start():
        space = {"API_KEY": "a key", "Refused": type("Refused", (Exception,), {})}
        here = [("https://api.example.com", other.url)]
        spaces.append(documents.run(PAGE, space, only=[OTHER], replace=here))
        return spaces[-1]

    yield start
    for space in spaces:
        stop(space)


def test_at_another_exchange_a_lost_answer_is_found_too(other, other_bot):
    space = other_bot()
    other.faults = [None, "answer lost"]
    assert [space["buy_on_kraken"](day, "BTC/USD", "0.01")["id"] for day in ("monday", "tuesday")] == [1, 2]
    assert (other.count("/v1/orders"), len(other.orders)) == (4, 2)  # two orders, two look-ups
    assert {request.header("X-API-KEY") for request in other.server.requests} == {"a key"}


def test_at_another_exchange_a_restart_knows_the_signal(other, other_bot):
    first = other_bot()
    bought = first["buy_on_kraken"]("monday", "BTC/USD", "0.01")
    stop(first)
    assert other_bot()["buy_on_kraken"]("monday", "BTC/USD", "0.01")["id"] == bought["id"]
    assert len(other.orders) == 1


def test_at_another_exchange_a_refusal_is_told_as_it_is(other, other_bot):
    space = other_bot()
    other.faults = ["refuse"]
    with pytest.raises(space["Refused"], match="balance"):
        space["buy_on_kraken"]("monday", "BTC/USD", "0.01")


def test_at_another_exchange_that_is_away_nothing_was_sent(other, other_bot):
    space = other_bot()
    other.server.stop()
    with pytest.raises(NotSentError):
        space["buy_on_kraken"]("monday", "BTC/USD", "0.01")
    (transaction,) = space["kraken_orders"].transactions()
    assert transaction.result().verdict is Verdict.NOT_SENT


def test_an_order_that_was_lost_on_the_way_is_unknown_and_then_presumed_absent(other, home, monkeypatch):
    made = hireliab.TransactionVerificationPipeline

    def shorter(**settings):  # the real bounds are a minute and more
        return made(
            **settings, verification_timeout=0.2, visibility_window=0.1, late_arrival_bound=0.2, listing_interval=0.1
        )

    monkeypatch.setattr(hireliab, "TransactionVerificationPipeline", shorter)
    space = {"API_KEY": "a key", "Refused": type("Refused", (Exception,), {})}
    documents.run(PAGE, space, only=[OTHER], replace=[("https://api.example.com", other.url)])
    try:
        other.faults = ["lost on the way"]
        with pytest.raises(OutcomeUnknownError):
            space["buy_on_kraken"]("monday", "BTC/USD", "0.01")
        assert space["kraken_orders"].wait_resolved(60.0)
        (transaction,) = space["kraken_orders"].transactions()
        assert transaction.result().verdict is Verdict.ABSENT
        assert other.orders == []
    finally:
        stop(space)


# -- the stand-in for an adapter ----------------------------------------------------------------------------------


def test_its_pipeline_places_no_order_itself_and_says_what_to_call(tmp_path):
    with TransactionVerificationPipeline(exchange_adapter=OwnVenue("kraken"), journal=tmp_path) as verifier:
        with pytest.raises(InvalidOrderError, match="call the function that @verified_transaction decorates"):
            verifier.create_transaction(type="market_buy", symbol="BTC/USD", amount="1")
        assert verifier.start().found == 0


def test_a_journal_belongs_to_one_account(tmp_path):
    with TransactionVerificationPipeline(exchange_adapter=OwnVenue("kraken", account="main"), journal=tmp_path):
        pass
    other = TransactionVerificationPipeline(exchange_adapter=OwnVenue("kraken", account="second"), journal=tmp_path)
    with pytest.raises(hireliab.JournalError, match="holds orders of main at kraken"):
        other.start()


def test_all_blocks_run_one_after_the_other(exchange, other, home, capsys):
    space = {"TOKEN": exchange.token, "BASE_URL": exchange.base_url, "API_KEY": "a key"}
    try:
        documents.run(PAGE, space, replace=[("https://api.example.com", other.url)])
        assert space["buy_on_kraken"]("monday", "BTC/USD", "0.01")["id"] == 1
    finally:
        space.pop("verifier", None)
        stop(space)


def test_the_client_order_id_looks_as_the_page_says(other, other_bot):
    other_bot()["buy_on_kraken"]("monday", "BTC/USD", "0.01")
    page = (documents.ROOT / PAGE).read_text(encoding="utf-8")
    shown = re.search(r"dash \(``([\w-]+)``\)", page)[1]
    (order,) = other.orders
    for text in (shown, order["clientOrderId"]):
        assert re.fullmatch(r"[a-z2-7]{5}-[0-9A-Z]{26}", text)
    assert len(shown) == 32
