"""Attacks on the transaction pipeline over real sockets, processes and signals, against the simulator."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest

from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.simulator.server import Simulator
from hireliab.simulator.truth import read
from tests.support.together import together

ADD = "POST /market/orders/add"
BOT = """
import sys
from hireliab import EnhancedNobitexAdapter, TransactionVerificationPipeline
token, url, journal = sys.argv[1:]
adapter = EnhancedNobitexAdapter(config={"token": token, "base_url": url})
adapter.initialize()
with TransactionVerificationPipeline(exchange_adapter=adapter, journal=journal) as verifier:
    order = verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.001")
    print("sending", flush=True)
    verifier.execute_transaction(order)
"""
PARENT = """
import os, sys, time
from hireliab.exchange.sqlite_journal import SQLiteJournal
journal = SQLiteJournal(sys.argv[1])
journal.open()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


@pytest.fixture
def simulate(tmp_path):
    made = []

    def simulate(**settings):
        simulator = Simulator(seed=1, truth=tmp_path / "truth.jsonl", limits=False, **settings)
        simulator.__enter__()
        made.append(simulator)
        return simulator

    yield simulate
    for simulator in made:
        simulator.__exit__(None, None, None)


def trade(simulator, tmp_path, **settings):
    """A pipeline on the simulator, and what must be stopped with it."""
    adapter = EnhancedNobitexAdapter(config={"token": simulator.token, "base_url": simulator.base_url})
    adapter.initialize()
    given = {"listing_interval": 0.2, "visibility_window": 0.5, "late_arrival_bound": 4.0, **settings}
    return adapter, TransactionVerificationPipeline(exchange_adapter=adapter, journal=tmp_path / "journal", **given)


def accepted(tmp_path):
    """The bot's orders: venue id to client id."""
    rows = [r for r in read(tmp_path / "truth.jsonl") if r["kind"] == "order" and r["account"] != "house"]
    return {str(r["id"]): r.get("clientOrderId") or r.get("client_id") for r in rows}


def told(result):
    try:
        return bool(result)
    except Exception as error:
        return type(error).__name__


def buy(pipeline, **more):
    return pipeline.create_transaction(**{"type": "market_buy", "symbol": "BTC/USDT", "amount": "0.001", **more})


def test_sixty_four_threads_with_lost_answers_send_each_order_once(simulate, tmp_path):
    simulator = simulate()
    simulator.faults.add({"route": ADD, "kind": "answer_lost", "probability": 0.15})
    adapter, pipeline = trade(simulator, tmp_path, max_running=8)
    with adapter, pipeline:
        # Different amounts: the venue refuses equal orders within ten seconds.
        amounts = [f"0.001{i:02d}" for i in range(64)]
        results = together(64, lambda i: pipeline.execute(buy(pipeline, amount=amounts[i], idempotency_key=f"k{i}")))
        assert pipeline.wait_resolved(30)
        final = [pipeline.get(result.transaction_id).result() for result in results]
    sent = [result for result in final if result.verdict is Verdict.COMPLETED]
    assert {result.verdict for result in final} <= {Verdict.COMPLETED, Verdict.NOT_SENT}
    assert sorted(result.order_id for result in sent) == sorted(accepted(tmp_path))


def test_sixteen_threads_with_one_key_place_one_order(simulate, tmp_path):
    simulator = simulate()
    simulator.faults.add({"route": ADD, "kind": "answer_lost", "nth": 1})
    adapter, pipeline = trade(simulator, tmp_path)
    with adapter, pipeline:
        results = together(16, lambda _: pipeline.execute(buy(pipeline, idempotency_key="one")))
    assert Counter(told(result) for result in results) == {True: 16}
    assert len(accepted(tmp_path)) == 1


def test_sixteen_cancels_at_once_close_one_order(simulate, tmp_path):
    simulator = simulate()
    adapter, pipeline = trade(simulator, tmp_path)
    with adapter, pipeline:
        price = adapter.get_market_data("BTC/USDT").best_bid
        order = pipeline.create_transaction(
            type="limit_buy", symbol="BTC/USDT", amount="0.001", price=int(price * 9 / 10)
        )
        assert pipeline.execute_transaction(order) is True
        simulator.faults.add({"route": "POST /market/orders/update-status", "kind": "answer_lost", "nth": 1})
        results = together(16, lambda _: pipeline.cancel(order.id))
        assert {result.verdict for result in results} == {Verdict.CANCELLED}
        assert order.result().order_status == "Canceled"


def test_an_order_that_a_proxy_delivered_twice_is_not_rejected_while_the_listings_lag(simulate, tmp_path):
    """The lag is longer than the visibility window and shorter than the bound that a lost answer would have had."""
    simulator = simulate(lag={"list": 3, "trades": 3, "clientid": 3})
    simulator.faults.add({"route": ADD, "kind": "duplicate", "nth": 1})
    adapter, pipeline = trade(simulator, tmp_path)
    with adapter, pipeline:
        result = pipeline.execute(buy(pipeline))
    assert len(accepted(tmp_path)) == 1
    assert told(result) is not False


def test_an_acknowledged_order_is_decided_by_its_id_although_closed_rows_hide_client_ids(simulate, tmp_path):
    simulator = simulate(lag={"status": 1.5}, null_client_ids=True)
    adapter, pipeline = trade(simulator, tmp_path, verification_timeout=8.0)
    with adapter, pipeline:
        assert told(pipeline.execute(buy(pipeline))) is True


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_a_second_ctrl_c_during_stop_does_not_hang_the_exit(simulate, tmp_path):
    simulator = simulate()
    simulator.faults.add({"route": ADD, "kind": "delay", "seconds": 6, "count": 1})
    bot = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BOT), simulator.token, simulator.base_url, str(tmp_path / "j")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert bot.stdout.readline() == "sending\n"
        while not any(r["kind"] == "request" and "orders/add" in r["path"] for r in read(tmp_path / "truth.jsonl")):
            assert bot.poll() is None
            time.sleep(0.01)
        for _ in range(2):
            bot.send_signal(signal.SIGINT)
            time.sleep(0.7)
        _, errors = bot.communicate(timeout=15)
    finally:
        bot.kill()
        bot.communicate()
    assert "KeyboardInterrupt" in errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_handle_that_a_forked_child_inherits_does_not_wait_for_ever(simulate, tmp_path):
    simulator = simulate()
    simulator.faults.add({"route": ADD, "kind": "delay", "seconds": 1.5, "count": 1})
    adapter, pipeline = trade(simulator, tmp_path)
    with adapter, pipeline:
        handle = pipeline.submit(buy(pipeline))
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(5)  # ends a child that waits for a thread which exists only in its parent
            try:
                answer = handle.result().verdict.value
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(send, json.dumps(answer).encode())
            os._exit(0)
        os.close(send)
        with os.fdopen(receive) as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        assert told(handle.result()) is True
    assert answer, "the child waited until its alarm"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_journals_lock_dies_with_its_owner_although_a_forked_child_lives(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PARENT), str(tmp_path / "j")],
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(parent.stdout.readline())
    try:
        parent.kill()
        parent.wait(10)
        journal = SQLiteJournal(tmp_path / "j")
        journal.open()
        journal.close()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()
