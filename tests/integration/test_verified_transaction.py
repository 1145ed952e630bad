"""@verified_transaction around a bot's own place_order on requests, against a simulator in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
import requests

from hireliab.errors import OutcomeUnknownError
from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.transaction import Proof, Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.exchange.verified_transaction import never_connected, verified_transaction
from hireliab.simulator.truth import read
from tests.support import documents
from tests.support.together import together

ADD = "POST /market/orders/add"
OWN = """
import requests

class Refused(Exception):
    pass

class Api:
    '''A bot's functions, as they were written years ago.'''

    def __init__(self, url, token):
        self.url, self.session = url, requests.Session()
        self.session.headers["Authorization"] = f"Token {token}"

    def call(self, method, path, **body):
        answer = self.session.request(method, self.url + path, json=body or None, timeout=5)
        data = answer.json()
        if data.get("status") == "failed":
            raise Refused(data["code"])
        answer.raise_for_status()
        return data

    def place_order(self, symbol, side, amount, price, clientOrderId=None):
        src, dst = symbol.lower().split("/")
        return self.call("POST", "/market/orders/add", type=side, srcCurrency=src, dstCurrency=dst, amount=amount,
                         price=price, clientOrderId=clientOrderId)["order"]

    def find(self, client_order_id):
        orders = self.call("GET", "/market/orders/list?details=2&status=all&pageSize=100")["orders"]
        return [order for order in orders if order.get("clientOrderId") == client_order_id]

    def cancel(self, order_id):
        return self.call("POST", "/market/orders/update-status", order=int(order_id), status="canceled")
"""
BOT = (
    OWN
    + """
import os, signal, sys
import hireliab
from hireliab import EnhancedNobitexAdapter, TransactionVerificationPipeline, verified_transaction

url, token, journal, how = sys.argv[1:]
adapter = EnhancedNobitexAdapter(config={"token": token, "base_url": url})
adapter.initialize()
pipeline = TransactionVerificationPipeline(
    exchange_adapter=adapter, journal=journal, verification_timeout=20.0, listing_interval=0.2, visibility_window=0.5,
    late_arrival_bound=2.0,
)
api = Api(url, token)

def place(symbol, side, amount, price, signal_id, clientOrderId=None):
    if how == "barrier":
        os.kill(os.getpid(), signal.SIGKILL)
    print("sending", flush=True)
    return api.place_order(symbol, side, amount, price, clientOrderId)

def find(client_order_id):
    return api.find(client_order_id)

place_order = verified_transaction(
    pipeline, name="bot.place", find=find, finds_closed=True, idempotency_key=lambda signal_id: signal_id
)(place)
pipeline.start()
try:
    print("placed", place_order("BTC/USDT", "buy", "0.001", sys.stdin.readline().strip(), "signal-1")["id"], flush=True)
except hireliab.HireliabError as error:
    print(type(error).__name__, getattr(error, "presumed_absent", None), flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
pipeline.wait_resolved(20)
for transaction in pipeline.transactions():
    print(transaction.result().verdict.value, transaction.result().order_id, flush=True)
pipeline.stop()
"""
)
space = {}
exec(OWN, space)
Api, Refused = space["Api"], space["Refused"]


class Exchange:
    """``python -m hireliab.simulator``, and what it did."""

    def __init__(self, truth, faults=()):
        self.truth = truth
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "hireliab.simulator",
                "--truth",
                str(truth),
                "--no-limits",
                "--faults",
                json.dumps(list(faults)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        first = json.loads(self.process.stdout.readline())
        self.url, self.token = first["base_url"], first["token"]

    def accepted(self):
        """The bot's orders: venue id to client order id."""
        rows = [r for r in read(self.truth) if r["kind"] == "order" and r["account"] != "house"]
        return {str(r["id"]): r["client_order_id"] for r in rows}

    def adds(self):
        return sum(r["kind"] == "request" and "orders/add" in r["path"] for r in read(self.truth))

    def price(self):
        """Below the market, so that an order rests."""
        stats = requests.get(f"{self.url}/v3/orderbook/BTCUSDT", timeout=5).json()
        return str(int(float(stats["bids"][0][0]) * 0.9))

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def exchange(tmp_path):
    made = []

    def exchange(*faults):
        made.append(Exchange(tmp_path / "truth.jsonl", faults))
        return made[-1]

    yield exchange
    for each in made:
        each.stop()


@pytest.fixture
def open_pipeline(tmp_path):
    made = []

    def open_pipeline(at, **settings):
        adapter = EnhancedNobitexAdapter(config={"token": at.token, "base_url": at.url})
        adapter.initialize()
        given = {"verification_timeout": 5.0, "listing_interval": 0.2, "visibility_window": 0.5, **settings}
        pipeline = TransactionVerificationPipeline(
            exchange_adapter=adapter, journal=tmp_path / "journal", late_arrival_bound=2.0, **given
        )
        made.append((adapter, pipeline))
        return pipeline

    yield open_pipeline
    for adapter, pipeline in made:
        pipeline.stop()
        adapter.stop()


def decorate(pipeline, api, **settings):
    return verified_transaction(
        pipeline,
        **{
            "name": "bot.place",
            "find": api.find,
            "finds_closed": True,
            "cancel": api.cancel,
            "refused": Refused,
            **settings,
        },
    )(api.place_order)


def test_lost_answers_are_found_and_no_order_is_placed_twice(exchange, open_pipeline):
    at = exchange({"route": ADD, "kind": "answer_lost", "probability": 0.4})
    pipeline = open_pipeline(at)
    price = at.price()
    amounts = [f"0.001{i:02d}" for i in range(12)]  # the exchange refuses equal orders within ten seconds

    def place(i):
        return decorate(pipeline, Api(at.url, at.token), name=f"bot.place{i}")("BTC/USDT", "buy", amounts[i], price)

    shown = together(12, place)
    accepted = at.accepted()
    assert sorted(str(order["id"]) for order in shown) == sorted(accepted)
    assert (len(accepted), at.adds()) == (12, 12)
    results = [transaction.result() for transaction in pipeline.transactions()]
    assert {result.verdict for result in results} == {Verdict.COMPLETED}
    assert {result.order_id: result.client_order_id for result in results} == accepted


def test_a_request_that_was_lost_is_presumed_absent_and_one_without_a_look_up_is_unknown(exchange, open_pipeline):
    at = exchange({"route": ADD, "kind": "request_lost"})
    pipeline = open_pipeline(at, verification_timeout=1.0)
    api, price = Api(at.url, at.token), at.price()
    with pytest.raises(OutcomeUnknownError) as caught:
        decorate(pipeline, api)("BTC/USDT", "buy", "0.001", price)
    assert isinstance(caught.value.__cause__, requests.ConnectionError)
    assert pipeline.wait_resolved(20)
    assert pipeline.get(caught.value.transaction_id).result().verdict is Verdict.ABSENT
    with pytest.raises(OutcomeUnknownError) as caught:
        decorate(pipeline, api, find=None, finds_closed=False, cancel=None)("BTC/USDT", "buy", "0.002", price)
    assert pipeline.get(caught.value.transaction_id).record.needs_human
    assert at.accepted() == {}


def test_a_refusal_and_a_dead_exchange_pass_as_they_are(exchange, open_pipeline):
    at = exchange()
    pipeline = open_pipeline(at)
    api, price = Api(at.url, at.token), at.price()
    place = decorate(pipeline, api, not_sent=never_connected)
    with pytest.raises(Refused):
        place("BTC/USDT", "buy", "100000", price)
    at.stop()
    with pytest.raises(requests.ConnectionError):
        place("BTC/USDT", "buy", "0.001", price)
    assert [t.result().proof for t in pipeline.transactions()] == [Proof.NOT_SENT, Proof.REJECTED]


def test_a_cancel_whose_answer_is_lost_is_verified(exchange, open_pipeline):
    at = exchange({"route": "POST /market/orders/update-status", "kind": "answer_lost", "nth": 1})
    pipeline = open_pipeline(at)
    place = decorate(pipeline, Api(at.url, at.token))
    place("BTC/USDT", "buy", "0.001", at.price())
    (transaction,) = pipeline.transactions()
    assert place.cancel(transaction.id) is True
    child = pipeline.transactions()[0]
    assert (child.record.parent_id, child.result().verdict) == (transaction.id, Verdict.CANCELLED)


class Ccxt:
    """As much of a ccxt exchange as the document's example needs; the first answer is lost."""

    def __init__(self):
        self.orders = []

    def create_order(self, symbol, kind, side, amount, price, params):
        self.orders.append({"id": str(len(self.orders)), "symbol": symbol, "status": "open", "filled": 0.0, **params})
        if len(self.orders) == 1:
            raise ConnectionResetError("the answer is lost")
        return self.orders[-1]

    def fetch_orders(self, symbol, params):
        return [order for order in self.orders if order["symbol"] == symbol]


def test_the_documents_example_does_what_it_says(tmp_path, monkeypatch):
    ccxt = SimpleNamespace(InsufficientFunds=type("InsufficientFunds", (Exception,), {}), InvalidOrder=KeyError)
    monkeypatch.setitem(sys.modules, "ccxt", ccxt)
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path / "home"))
    space = {"exchange": Ccxt()}
    try:
        documents.run("docs/verified-function.rst", space)
        again = space["place_order"]("BTC/USDT", "buy", 0.001, 60000, signal_id="2026-05-01T10:00 breakout")
    finally:
        space["verifier"].stop()
    assert space["exchange"].orders == [again]


def start_bot(at, tmp_path, how, price):
    bot = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BOT), at.url, at.token, str(tmp_path / "journal"), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    bot.stdin.write(f"{price}\n")
    bot.stdin.flush()
    return bot


def end(bot):
    output, _ = bot.communicate(timeout=60)
    return output.splitlines()


def wait_for_order(at, bot):
    assert bot.stdout.readline() == "sending\n"
    give_up = time.monotonic() + 20
    while not at.accepted():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_between_send_and_answer_passes_at_once_and_the_order_is_found(exchange, tmp_path):
    at = exchange({"route": ADD, "kind": "delay", "seconds": 30, "nth": 1})
    bot = start_bot(at, tmp_path, "normal", at.price())
    wait_for_order(at, bot)
    bot.send_signal(signal.SIGINT)
    output = end(bot)
    (order_id,) = at.accepted()
    assert output == ["interrupted", f"COMPLETED {order_id}"]
    assert at.adds() == 1


def test_killed_between_send_and_answer_the_restart_finds_the_order_and_the_loop_places_no_second(exchange, tmp_path):
    at = exchange({"route": ADD, "kind": "delay", "seconds": 4, "nth": 1})  # processed at once, answered later
    price = at.price()
    bot = start_bot(at, tmp_path, "normal", price)
    wait_for_order(at, bot)
    bot.kill()
    end(bot)
    (order_id,) = at.accepted()
    assert end(start_bot(at, tmp_path, "normal", price)) == [f"placed {order_id}", f"COMPLETED {order_id}"]
    assert (list(at.accepted()), at.adds()) == ([order_id], 1)


@pytest.mark.skipif(os.name != "posix", reason="a process kills itself")
def test_killed_at_the_barrier_the_restart_says_presumed_absent_and_places_nothing(exchange, tmp_path):
    at = exchange()
    price = at.price()
    assert end(start_bot(at, tmp_path, "barrier", price)) == []
    assert at.accepted() == {}
    assert end(start_bot(at, tmp_path, "normal", price)) == ["OutcomeUnknownError True", "ABSENT None"]
    assert (at.accepted(), at.adds()) == ({}, 0)
