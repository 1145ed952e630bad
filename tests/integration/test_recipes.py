"""docs/recipes-any-client.rst, run as it stands against a server on loopback and a small SDK in this file."""

import sqlite3
import sys
import threading
import types

import pytest
import requests

import hireliab
from hireliab.errors import ConnectError, OutcomeUnknownError, RateLimitedError, ResponseLostError
from tests.support import documents
from tests.support.together import Background, together
from tests.support.venue import LOST, Venue

PAGE = "docs/recipes-any-client.rst"
BEFORE, AFTER, POOLED, SDK, BROKEN, LIMIT, DATABASE = range(7)


class SdkError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


class Client:
    """Like most SDKs: one session with headers, the last answer kept on the object, errors by code, no close()."""

    BASE = ""  # set by the fixture

    def __init__(self, api_key, api_secret):
        self.session = requests.Session()
        self.session.headers.update({"X-API-KEY": api_key, "User-Agent": "exchange-sdk"})
        self.response = None

    def _request(self, method, path, **params):
        self.response = self.session.request(method, self.BASE + path, params=params, timeout=10)
        body = self.response.json()
        if self.response.status_code >= 400:
            raise SdkError(body["code"], body["message"])
        return body

    def get_ticker(self, symbol):
        return self._request("GET", "/v1/ticker", symbol=symbol)

    def create_order(self, **order):
        return self._request("POST", "/v1/order", **order)


class Exchange(Venue):
    def __init__(self):
        super().__init__()
        self.next_order = []  # what the next orders are answered, instead of their number

    def answer(self, path, fields, request):
        if path == "/v1/ticker":
            return {"symbol": fields["symbol"], "last": "50000"}
        return self.next_order.pop(0) if self.next_order else {"id": self.count("/v1/order")}


@pytest.fixture
def exchange(monkeypatch):
    with Exchange() as exchange:
        monkeypatch.setattr(Client, "BASE", exchange.url)
        sdk = types.ModuleType("exchange_sdk")
        sdk.Client, sdk.SdkError = Client, SdkError
        monkeypatch.setitem(sys.modules, "exchange_sdk", sdk)
        yield exchange


@pytest.fixture
def bot(exchange, tmp_path, monkeypatch):
    pools = []

    def remember(pool):
        pools.append(pool)
        return pool

    made = {name: getattr(hireliab, name) for name in ("ConnectionPool", "pool_of_sessions")}
    for name, make in made.items():
        monkeypatch.setattr(hireliab, name, lambda *args, make=make, **kwargs: remember(make(*args, **kwargs)))

    def start(*only):
        database = tmp_path / "history.db"
        with sqlite3.connect(database) as db:
            db.execute("create table if not exists prices (symbol text, price text)")
        db.close()
        space = {"API_KEY": "a key", "API_SECRET": "a secret", "DATABASE": database}
        here = [("https://api.example.com", exchange.url)]
        documents.run(PAGE, space, replace=here, only=only or None)
        if hasattr(space.get("session"), "close"):
            space["session"].close()
        return space

    yield start
    for pool in pools:
        pool.stop()


def client_of(pool):
    with pool.connection() as client:
        return client


def test_the_page_runs_from_top_to_bottom(bot, exchange):
    space = bot()
    with space["pool"].connection() as db:
        assert db.execute("select * from prices").fetchall() == [("BTCUSDT", "50000")]
    assert exchange.count("/v1/order") == 1


# -- one session for all threads ----------------------------------------------------------------------------------


def test_the_function_of_the_old_bot_answers_as_before_for_any_number_of_threads(bot, exchange):
    before = bot(BEFORE)["price"]("BTCUSDT")
    space = bot(AFTER)
    assert together(8, lambda i: [space["price"]("BTCUSDT") for _ in range(10)]) == [[before] * 10] * 8
    assert {request.header("X-API-KEY") for request in exchange.server.requests} == {"a key"}


def test_no_two_threads_ever_use_one_session_together(bot):
    space = bot(AFTER)
    lent = set()

    def borrow(i):
        with space["pool"].connection() as session:
            assert session not in lent
            lent.add(session)
            session.get("/v1/ticker", params={"symbol": "BTCUSDT"})
            lent.remove(session)

    together(8, lambda i: [borrow(i) for _ in range(10)])


def test_the_except_clauses_of_the_old_bot_still_work(bot, exchange):
    space = bot(AFTER)
    exchange.next_order = [LOST]
    with pytest.raises(requests.ConnectionError) as caught:
        space["pool"].execute("post", "/v1/order", json={"symbol": "BTCUSDT"})
    assert isinstance(caught.value, OutcomeUnknownError)
    assert exchange.count("/v1/order") == 1


def test_a_session_like_object_borrows_for_each_call(bot, exchange):
    space = bot(AFTER, POOLED)
    said = together(4, lambda i: space["session"].get("/v1/ticker", params={"symbol": f"S{i}"}).json()["symbol"])
    assert said == ["S0", "S1", "S2", "S3"]
    assert space["pool"].stats().in_use == 0


# -- an SDK -------------------------------------------------------------------------------------------------------


def test_a_shared_sdk_client_mixes_answers_up_and_a_pool_of_them_does_not(bot, exchange, monkeypatch):
    first_has_asked, second_is_done = threading.Event(), threading.Event()

    class Held(Client):
        """The first thread is held between its request and the reading of its answer."""

        def get_ticker(self, symbol):
            self.response = self.session.get(self.BASE + "/v1/ticker", params={"symbol": symbol}, timeout=10)
            if symbol == "FIRST":
                first_has_asked.set()
                assert second_is_done.wait(10)
            return self.response.json()["symbol"]

    def both(ask):
        first_has_asked.clear()
        second_is_done.clear()
        first = Background(ask, "FIRST")
        try:
            assert first_has_asked.wait(10)
            second = ask("SECOND")
        finally:
            second_is_done.set()
        return first.result(), second

    shared = Held("a key", "a secret")
    assert both(shared.get_ticker) == ("SECOND", "SECOND")  # the first thread was given the second one's answer
    shared.session.close()
    monkeypatch.setattr(sys.modules["exchange_sdk"], "Client", Held)
    pool = bot(SDK)["pool"]
    assert both(lambda symbol: pool.execute("get_ticker", symbol=symbol)) == ("FIRST", "SECOND")


def test_the_clients_keep_the_headers_that_the_sdk_has_set(bot, exchange):
    bot(SDK)
    (request,) = exchange.server.requests
    assert (request.header("X-API-KEY"), request.header("User-Agent")) == ("a key", "exchange-sdk")


def test_a_refused_order_keeps_the_client_and_a_lost_answer_replaces_it(bot, exchange):
    space = bot(SDK)
    exchange.next_order = [("400 Bad Request", {"code": -2010, "message": "insufficient balance"}), LOST]
    before = client_of(space["pool"])
    with pytest.raises(SdkError, match="insufficient"):
        space["pool"].execute("create_order", symbol="BTCUSDT")
    assert client_of(space["pool"]) is before
    with pytest.raises(ResponseLostError):
        space["pool"].execute("create_order", symbol="BTCUSDT")
    assert client_of(space["pool"]) is not before
    assert exchange.count("/v1/order") == 2


def test_a_client_whose_login_ran_out_is_replaced_where_is_broken_says_so(bot, exchange):
    space = bot(SDK, BROKEN)
    exchange.next_order = [
        ("400 Bad Request", {"code": -2010, "message": "insufficient"}),
        ("401 Unauthorized", {"code": -2014, "message": "login"}),
    ]
    before = client_of(space["pool"])
    with pytest.raises(SdkError, match="-2010"):
        space["pool"].execute("create_order", symbol="BTCUSDT")
    assert client_of(space["pool"]) is before
    with pytest.raises(SdkError, match="-2014"):
        space["pool"].execute("create_order", symbol="BTCUSDT")
    assert client_of(space["pool"]) is not before


def test_where_there_is_no_connection_nothing_was_sent(bot, exchange):
    space = bot(SDK)
    exchange.server.stop()
    client_of(space["pool"]).session.close()
    with pytest.raises(ConnectError):
        space["pool"].execute("create_order", symbol="BTCUSDT")


# -- one limit for all --------------------------------------------------------------------------------------------


def test_a_call_that_the_limiter_refuses_borrows_no_client(bot, exchange):
    space = bot(SDK, LIMIT)
    acquired = space["pool"].stats().acquired
    space["orders"]._limiter.penalize(60.0)
    with pytest.raises(RateLimitedError):
        space["orders"].execute(space["pool"].execute, "create_order", symbol="BTCUSDT")
    assert space["pool"].stats().acquired == acquired
    assert exchange.count("/v1/order") == 1


def test_refused_orders_do_not_open_the_breaker(bot, exchange):
    space = bot(SDK, LIMIT)
    exchange.next_order = [("400 Bad Request", {"code": -2010, "message": "insufficient balance"})] * 10
    for _ in range(10):
        with pytest.raises(SdkError, match="insufficient"):
            space["orders"].execute(space["pool"].execute, "create_order", symbol="BTCUSDT")


# -- a client that is no HTTP client ------------------------------------------------------------------------------


def test_a_transaction_that_a_borrower_left_open_is_rolled_back(bot):
    space = bot(DATABASE)
    with space["pool"].connection() as db:
        db.execute("insert into prices values ('ETHUSDT', '1')")
    with space["pool"].connection() as db:
        assert db.execute("select symbol from prices").fetchall() == [("BTCUSDT",)]
