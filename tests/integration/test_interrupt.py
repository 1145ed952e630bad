"""Ctrl-C, exit and fork: nothing in flight is abandoned, and nothing is sent twice."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.simulator.server import Simulator
from hireliab.simulator.truth import read

BOT = """
import sys
from hireliab import EnhancedNobitexAdapter, TransactionVerificationPipeline
token, url, journal = sys.argv[1:]
adapter = EnhancedNobitexAdapter(config={"token": token, "base_url": url})
adapter.initialize()
verifier = TransactionVerificationPipeline(exchange_adapter=adapter, journal=journal)
order = verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.001", idempotency_key="one")
print("sending", flush=True)
verifier.execute_transaction(order)
"""


@pytest.fixture
def simulator(tmp_path):
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl") as simulator:
        yield simulator


def accepted(tmp_path):
    return {r["id"] for r in read(tmp_path / "truth.jsonl") if r["kind"] == "order" and r["account"] != "house"}


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_while_an_order_is_in_flight_ends_in_bounded_time_and_the_next_start_finds_it(simulator, tmp_path):
    simulator.faults.add({"route": "POST /market/orders/add", "kind": "delay", "seconds": 8, "count": 1})
    bot = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BOT), simulator.token, simulator.base_url, str(tmp_path / "j")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert bot.stdout.readline() == "sending\n"
    while not any(r["kind"] == "request" and "orders/add" in r["path"] for r in read(tmp_path / "truth.jsonl")):
        assert bot.poll() is None
    bot.send_signal(signal.SIGINT)
    _, errors = bot.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert "undecided" in errors
    adapter = EnhancedNobitexAdapter(config={"token": simulator.token, "base_url": simulator.base_url})
    with adapter, TransactionVerificationPipeline(exchange_adapter=adapter, journal=tmp_path / "j") as verifier:
        assert verifier.wait_resolved(20)
        order = verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.001", idempotency_key="one")
        assert order.restored
        assert verifier.execute_transaction(order) is True
    assert len(accepted(tmp_path)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_and_the_parent_goes_on(simulator, tmp_path):
    adapter = EnhancedNobitexAdapter(config={"token": simulator.token, "base_url": simulator.base_url})
    with adapter, TransactionVerificationPipeline(exchange_adapter=adapter, journal=tmp_path / "j") as verifier:
        order = verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.001")
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                verifier.execute_transaction(order)
                answer = "sent"
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(send, json.dumps(answer).encode())
            os._exit(0)
        os.close(send)
        with os.fdopen(receive) as pipe:
            answer = json.loads(pipe.read())
        os.waitpid(child, 0)
        assert answer.startswith("ClosedError")
        assert "make a new one after fork()" in answer
        assert verifier.execute_transaction(order) is True
    assert len(accepted(tmp_path)) == 1
