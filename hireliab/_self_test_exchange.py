"""The self-test of what talks to a venue: pool, session, client, adapter, verified orders and their journal."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal

import requests

from hireliab._install_parts import Failed, require
from hireliab._self_test_stage import ADD, BOOK, PATIENCE, STARTING, SYMBOL, Stage, closed_port, together
from hireliab.errors import AuthenticationError, ConnectError, OutcomeUnknownError
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.http_session import Session
from hireliab.exchange.nobitex_client import NobitexClient
from hireliab.exchange.transaction import TransactionResult, Verdict
from hireliab.exchange.verified_transaction import verified_transaction

_BOOK_PATH = f"/v3/orderbook/{SYMBOL.replace('/', '')}"
_KILLED = {"type": "market_buy", "symbol": SYMBOL, "amount": "0.03", "idempotency_key": "self-test"}


def simulator(stage: Stage) -> str:
    """Answers, and writes what it was asked into its truth file."""
    venue = stage.exchange
    with stage.client() as client:
        book = client.get_orderbook(SYMBOL)
    require(book.bids and book.asks and book.bids[0] < book.asks[0], "its order book has no spread")
    asked = any(r["kind"] == "request" and str(r["path"]).startswith(_BOOK_PATH) for r in venue.records())
    require(asked, "its truth file does not have the request")
    return f"process {venue.where['pid']} answers, and its truth file has the request"


def pool(stage: Stage) -> str:
    """Six threads share two clients, and one that broke is replaced."""
    made: list[NobitexClient] = []

    def create() -> NobitexClient:
        made.append(NobitexClient(base_url=stage.where["base_url"]))
        return made[-1]

    limits = {"min_connections": 0, "max_connections": 2, "connection_timeout": PATIENCE}
    with ConnectionPool(name="self-test", create_client_func=create, config=limits) as clients:
        together(6, lambda _: [clients.execute("get_orderbook", SYMBOL) for _ in range(2)])
        shared = len(made)
        require(1 <= shared <= 2, f"6 threads made {shared} clients, 2 at most were allowed")
        with clients.connection() as client:
            broken = client
            client.close()  # its next call makes a new connection
        stage.fault(BOOK, "answer_lost")
        try:
            clients.execute("get_orderbook", SYMBOL)
        except OutcomeUnknownError:
            pass
        else:
            raise Failed("a lost answer became a result")
        with clients.connection() as client:
            require(client is not broken, "a client whose call broke was lent again")
        lent = clients.stats().acquired
    return f"6 threads shared {shared} clients, lent {lent} times; one that broke was replaced"


def session(stage: Stage) -> str:
    """Says of each error whether the request was sent, in exceptions that requests' own clauses catch."""
    with Session(base_url=stage.where["base_url"]) as http:
        http.get(_BOOK_PATH).raise_for_status()
    with Session(base_url=stage.where["base_url"]) as http:
        stage.fault(BOOK, "answer_lost")
        try:
            http.get(_BOOK_PATH)
        except requests.ConnectionError as error:
            require(isinstance(error, OutcomeUnknownError), f"a lost answer is a {type(error).__name__}")
            lost = type(error).__name__
        else:
            raise Failed("a lost answer became a response")
        try:
            http.get(f"http://127.0.0.1:{closed_port()}/")
        except requests.ConnectionError as error:
            require(isinstance(error, ConnectError), f"a refused connection is a {type(error).__name__}")
        else:
            raise Failed("a closed port answered")
    return f"an answer; a lost one: {lost}; a refused connection: not sent"


def client(stage: Stage) -> str:
    """Signs its requests, and is refused with a signature that is wrong."""
    where = stage.where
    with stage.client(api_key=where["api_key"], api_secret=where["api_secret"]) as signed:
        balances = signed.get_balances()
        require("USDT" in balances, f"the account has no USDT, only {', '.join(sorted(balances))[:80]}")
    with stage.client(token="f" * 40) as stranger:
        try:
            stranger.get_balances()
        except AuthenticationError:
            return f"a signed read of {len(balances)} balances; a stranger's was refused"
    raise Failed("a stranger read the balances")


def adapter(stage: Stage) -> str:
    """Market data, balances and open orders through pool, breakers and limits; an error is no empty list."""
    with stage.bot("adapter") as bot:
        data = bot.adapter.get_market_data(SYMBOL)
        balances = bot.adapter.balances()
        if not isinstance(balances, dict):
            raise Failed(f"no balances but {balances!r:.100}")
        orders = bot.adapter.list_open()
    bid, ask = data.best_bid, data.best_ask
    if bid is None or ask is None or bid >= ask:
        raise Failed(f"best bid {bid}, best ask {ask}")
    return f"best bid {bid:,f}, best ask {ask:,f}, {len(balances)} balances, {len(orders)} open orders"


def order(stage: Stage) -> str:
    """A market order is filled, and so says the exchange's truth file."""
    before = stage.placings()
    with stage.bot("order") as bot:
        made = bot.verifier.create_transaction(type="market_buy", symbol=SYMBOL, amount="0.01")
        result = bot.verifier.execute(made)
    _expect_completed(result)
    stage.bear_out(result, before=before)
    return f"{result.verdict.value}: {result.filled} filled; the truth file agrees"


def lost_answer(stage: Stage) -> str:
    """An order whose answer was lost is found at the exchange, and not sent again."""
    before = stage.placings()
    with stage.bot("lost-answer") as bot:
        made = bot.verifier.create_transaction(type="market_sell", symbol=SYMBOL, amount="0.02")
        stage.fault(ADD, "answer_lost")
        result = bot.verifier.execute(made)
    error = result.error
    require(isinstance(error, OutcomeUnknownError), f"the answer was not lost: {error!r:.100}")
    _expect_completed(result)
    stage.bear_out(result, before=before)
    return f"{type(error).__name__}, then {result.verdict.value}; 1 request arrived at the exchange"


def function(stage: Stage) -> str:
    """A place_order function of the user's keeps its value, and loses no order when its answer is lost."""
    where, before = stage.where, stage.placings()
    with (
        stage.bot("function") as bot,
        stage.client(api_key=where["api_key"], api_secret=where["api_secret"]) as mine,
    ):
        price = mine.get_orderbook(SYMBOL).bids[0][0] * Decimal("0.95")

        def find(client_order_id: str) -> object:
            return mine.get_order(client_order_id=client_order_id)

        @verified_transaction(bot.verifier, find=find)
        def place_order(symbol: str, side: str, amount: str, client_order_id: str | None = None) -> object:
            stage.fault(ADD, "answer_lost")
            return mine.place_limit(
                symbol=symbol, side=side, amount=amount, price=price, client_order_id=client_order_id
            )

        found = place_order(SYMBOL, "buy", "0.005")
        (row,) = bot.verifier.transactions()
        result = row.result()
    _expect_completed(result)
    stage.sent_once(before)
    require(getattr(found, "order_id", None), f"the function returned {found!r:.80}, and no order")
    return "its answer was lost, its order was found; 1 request arrived at the exchange"


def journal(stage: Stage) -> str:
    """A bot is killed in the middle of an order; the next one finds the order, and does not send it again."""
    folder, before = stage.folder / "killed", stage.placings()
    stage.fault(ADD, "delay", seconds=30)
    given = {"where": dict(stage.where), "journal": str(folder), "name": "killed", "order": _KILLED}
    child = subprocess.Popen(
        [sys.executable, "-m", "hireliab.examples._demo_bot"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert child.stdin is not None
        child.stdin.write(json.dumps(given))  # through a pipe: anybody can read a command line
        child.stdin.close()
        arrived = stage.exchange.wait_for(
            lambda record: record["kind"] == "order" and record["amount"] == _KILLED["amount"], timeout=STARTING
        )
    finally:
        child.kill()  # SIGKILL; on Windows TerminateProcess
        child.wait()
    require(arrived, f"the order of the bot that was to be killed did not arrive within {STARTING:g} s")
    with stage.bot("killed") as heir:
        undecided = len(heir.verifier.start().undecided)
        require(undecided == 1, f"the journal has {undecided} undecided orders, not 1")
        require(heir.verifier.wait_resolved(timeout=PATIENCE), f"the order was not found within {PATIENCE:g} s")
        result = heir.verifier.execute(heir.verifier.create_transaction(**_KILLED))  # type: ignore[arg-type]
    _expect_completed(result)
    stage.bear_out(result, before=before)
    return f"process {child.pid} killed in mid-order; the next one found it: {result.verdict.value}, sent once"


def _expect_completed(result: TransactionResult) -> None:
    require(result.verdict is Verdict.COMPLETED, f"{result.verdict.value} instead of COMPLETED: {result.reason}")
