"""
Those of the thirty cases (see unit/exchange/test_thirty_cases.py) in which the wire, processes or signals matter.

The exchange is the simulator behind real sockets; its truth file says what it received and what it did.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest

from hireliab.errors import JournalLockedError, MalformedResponseError
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.nobitex_client import NobitexClient
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Proof, State, Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.simulator.server import Simulator
from hireliab.simulator.truth import read

ADD = "POST /market/orders/add"
READS = ("POST /market/orders/status", "GET /market/orders/list", "GET /market/trades/list")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


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


def trade(simulator, tmp_path, pool=None, **settings):
    """A pipeline on the simulator, and what must be stopped with it."""
    adapter = EnhancedNobitexAdapter(
        config={"token": simulator.token, "base_url": simulator.base_url, "connection_pool": pool}
    )
    adapter.initialize()
    given = {"listing_interval": 0.2, "visibility_window": 0.5, "late_arrival_bound": 4.0, **settings}
    return adapter, TransactionVerificationPipeline(exchange_adapter=adapter, journal=tmp_path / "journal", **given)


def buy(pipeline, **more):
    return pipeline.create_transaction(**{"type": "market_buy", "symbol": "BTC/USDT", "amount": "0.001", **more})


def told(result):
    try:
        return bool(result)
    except Exception as error:
        return type(error).__name__


def records(tmp_path, kind):
    return [record for record in read(tmp_path / "truth.jsonl") if record["kind"] == kind]


def sends(tmp_path):
    """How many requests to place an order came."""
    return len([r for r in records(tmp_path, "request") if r["path"].startswith("/market/orders/add")])


def orders(tmp_path):
    """The last version of each of the bot's orders, by client order id; an id that comes twice is a failure."""
    last = {record["id"]: record for record in records(tmp_path, "order") if record["account"] != "house"}
    by_client_id = {record["client_order_id"]: record for record in last.values()}
    assert len(by_client_id) == len(last)
    return by_client_id


class Alerts(list):
    def send_alert(self, **alert):
        self.append(alert)


# -- what comes over the wire ------------------------------------------------------------------------------------------


def test_the_same_502_page_for_an_order_that_is_live_and_one_that_is_not(simulate, tmp_path):
    simulator = simulate()
    simulator.faults.add({"route": ADD, "kind": "http_502", "processed": True, "nth": 1})
    simulator.faults.add({"route": ADD, "kind": "http_502", "nth": 2})
    adapter, pipeline = trade(simulator, tmp_path, late_arrival_bound=1.0)
    with adapter, pipeline:
        live, lost = buy(pipeline), buy(pipeline, amount="0.002")
        answers = [pipeline.execute(live), pipeline.execute(lost)]
        assert pipeline.wait_resolved(20)
    errors = [answer.error for answer in answers]
    assert [(type(error), error.http_status) for error in errors] == [(MalformedResponseError, 502)] * 2
    assert str(errors[0]) == str(errors[1]), "nothing in the answer tells the two apart"
    assert (told(live.result()), live.result().proof) == (True, Proof.FILLED)
    assert (told(lost.result()), lost.result().verdict) == ("OutcomeUnknownError", Verdict.ABSENT)
    assert (sends(tmp_path), set(orders(tmp_path))) == (2, {live.client_order_id})


def test_a_bot_that_asks_again_with_its_key_pays_once(simulate, tmp_path):
    lag = dict.fromkeys(("status", "clientid", "list", "trades"), 3)
    simulator = simulate(balances={"usdt": "1000000"}, settings={"duplicate_window": 0}, lag=lag)
    adapter, pipeline = trade(simulator, tmp_path, verification_timeout=1.0, late_arrival_bound=30.0)
    with adapter, pipeline:
        amount = Decimal(600_000) / adapter.get_market_data("BTC/USDT").best_ask  # there is money for one
        wanted = {"amount": amount.quantize(Decimal("0.000001")), "type": "limit_buy"}
        wanted["price"] = adapter.get_market_data("BTC/USDT").best_bid * 9 // 10
        simulator.faults.add({"route": ADD, "kind": "answer_lost", "nth": 1})
        first = buy(pipeline, idempotency_key="signal-9", **wanted)
        assert told(pipeline.execute(first)) == "OutcomeUnknownError"
        again = buy(pipeline, idempotency_key="signal-9", **wanted)
        assert (again is first, told(pipeline.execute(again))) == (True, "OutcomeUnknownError")
        assert pipeline.wait_resolved(20)
        assert told(pipeline.execute(buy(pipeline, idempotency_key="signal-9", **wanted))) is True
        assert sends(tmp_path) == 1
        refused = pipeline.execute(buy(pipeline, idempotency_key="signal-10", **wanted))
    assert (refused.verdict, told(refused)) == (Verdict.REJECTED, False)  # what a second send would have been told
    assert set(orders(tmp_path)) == {first.client_order_id}


def test_sixty_four_answers_that_drip_free_their_threads_and_stop_nobody_else(simulate, tmp_path):
    simulator = simulate(settings={"duplicate_window": 0})
    pool = ConnectionPool(
        name="drip",
        create_client_func=lambda: NobitexClient(base_url=simulator.base_url, total_timeout=4.0),
        config={"min_connections": 0, "max_connections": 80},
    )
    with pool:
        adapter, pipeline = trade(simulator, tmp_path, pool, max_running=70)
        with adapter, pipeline:
            assert told(pipeline.execute(buy(pipeline))) is True  # everything is warm
            simulator.faults.add({"route": ADD, "kind": "drip", "seconds": 1, "count": 64})
            handles = [pipeline.submit(buy(pipeline, amount=f"0.001{n:02d}")) for n in range(64)]
            give_up = time.monotonic() + 20
            while simulator.faults.as_json()[0]["fired"] < 64:
                assert time.monotonic() < give_up
                time.sleep(0.01)
            other = pipeline.execute(buy(pipeline, amount="0.003"))
            assert told(other) is True
            assert not any(handle.done for handle in handles), "all of them were still dripping"
            results = [handle.result() for handle in handles]
            assert pipeline.wait_resolved(20)
            final = [pipeline.get(result.transaction_id).result() for result in results]
            assert {(told(result), result.proof) for result in final} == {(True, Proof.FILLED)}
            assert {type(result.error).__name__ for result in results} == {"ResponseTimeoutError"}
            give_up = time.monotonic() + 5
            while any(thread.name.startswith("hireliab.txn.") for thread in threading.enumerate()):
                assert time.monotonic() < give_up
                time.sleep(0.01)
    placed = orders(tmp_path)
    assert (sends(tmp_path), len(placed)) == (66, 66)
    assert {result.client_order_id for result in final} <= set(placed)


def test_orders_of_a_revoked_key_are_unknown_until_a_good_key_looks(simulate, tmp_path):
    simulator = simulate()
    alerts = Alerts()
    settings = {"verification_timeout": 3.0, "late_arrival_bound": 0.0, "alert_system": alerts}
    adapter, pipeline = trade(simulator, tmp_path, **settings)
    with adapter, pipeline:
        transaction = buy(pipeline)
        simulator.faults.add({"route": ADD, "kind": "answer_lost", "nth": 1})
        for route in READS:
            simulator.faults.add({"route": route, "kind": "unauthorized"})
        assert told(pipeline.execute(transaction)) == "OutcomeUnknownError"
        assert transaction.state is State.UNKNOWN
        assert any(transaction.id in alert["message"] and alert["level"] == "error" for alert in alerts)
    simulator.faults.clear()
    adapter, pipeline = trade(simulator, tmp_path, **settings)
    with adapter, pipeline:
        assert pipeline.recover().undecided == (transaction.id,)
        assert pipeline.wait_resolved(20)
        result = pipeline.get(transaction.id).result()
    assert (told(result), result.proof) == (True, Proof.FILLED)
    assert (sends(tmp_path), set(orders(tmp_path))) == (1, {transaction.client_order_id})


def test_an_order_that_a_proxy_delivered_twice_is_one_order_and_true(simulate, tmp_path):
    simulator = simulate()
    simulator.faults.add({"route": ADD, "kind": "duplicate", "nth": 1})
    adapter, pipeline = trade(simulator, tmp_path)
    with adapter, pipeline:
        result = pipeline.execute(buy(pipeline))
        assert type(result.error).__name__ == "DuplicateOrderError"  # the answer to the second copy
    assert (told(result), result.proof, result.attempts) == (True, Proof.FILLED, 1)
    assert list(orders(tmp_path)) == [result.client_order_id]


# -- processes ---------------------------------------------------------------------------------------------------------

CONTENDER = """
import json, sys
from hireliab import EnhancedNobitexAdapter, TransactionVerificationPipeline
from hireliab.errors import JournalLockedError
token, url, journal = sys.argv[1:]
adapter = EnhancedNobitexAdapter(config={"token": token, "base_url": url})
adapter.initialize()
verifier = TransactionVerificationPipeline(exchange_adapter=adapter, journal=journal)
print("ready", flush=True)
sys.stdin.readline()
try:
    report = verifier.start()
    print(json.dumps(report.undecided), flush=True)
except JournalLockedError as error:
    print("locked", flush=True)
sys.stdin.readline()
verifier.stop()
adapter.stop()
"""


def test_of_two_processes_that_recover_at_once_one_claims_and_none_sends(simulate, tmp_path):
    simulator = simulate()
    simulator.faults.add({"route": ADD, "kind": "answer_lost", "nth": 1})
    for route in READS:
        simulator.faults.add({"route": route, "kind": "http_502"})
    adapter, pipeline = trade(simulator, tmp_path, verification_timeout=0.5)
    with adapter, pipeline:
        transaction = buy(pipeline)
        assert told(pipeline.execute(transaction)) == "OutcomeUnknownError"
    simulator.faults.clear()
    arguments = [sys.executable, "-c", CONTENDER, simulator.token, simulator.base_url, str(tmp_path / "journal")]
    contenders = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        for contender in contenders:
            assert contender.stdout.readline() == "ready\n"
        for contender in contenders:
            contender.stdin.write("go\n")
            contender.stdin.flush()
        said = [contender.stdout.readline().strip() for contender in contenders]
        for contender in contenders:
            contender.communicate("end\n", timeout=30)
    finally:
        for contender in contenders:
            contender.kill()
            contender.communicate()
    assert sorted(said) == sorted(["locked", "locked", json.dumps([transaction.id])])
    adapter, pipeline = trade(simulator, tmp_path)
    with adapter, pipeline:
        assert pipeline.wait_resolved(20)
        assert told(pipeline.get(transaction.id).result()) is True
    journal = sqlite3.connect(tmp_path / "journal" / "journal.db")
    claims = journal.execute("SELECT count(*) FROM txn_log WHERE cause LIKE 'T27%'").fetchone()[0]
    journal.close()
    assert claims in (1, 2), "the one that won, and this process where that one had no time to decide"
    assert (sends(tmp_path), set(orders(tmp_path))) == (1, {transaction.client_order_id})


FORKING = """
import multiprocessing, os, sys, time
from hireliab import EnhancedNobitexAdapter, TransactionVerificationPipeline
from hireliab.simulator.truth import read
token, url, journal, truth = sys.argv[1:]
adapter = EnhancedNobitexAdapter(config={"token": token, "base_url": url})
adapter.initialize()
verifier = TransactionVerificationPipeline(exchange_adapter=adapter, journal=journal)
ask = {"type": "market_buy", "symbol": "BTC/USDT", "amount": "0.001"}
handle = verifier.submit(verifier.create_transaction(**ask, idempotency_key="parent"))

def child():
    try:
        verifier.execute_transaction(verifier.create_transaction(**ask, idempotency_key="child"))
        said = "sent"
    except BaseException as error:
        said = type(error).__name__
    print(os.getpid(), said, flush=True)
    time.sleep(120)

while not any(r["kind"] == "request" and "orders/add" in r["path"] for r in read(truth)):
    time.sleep(0.01)
multiprocessing.get_context("fork").Process(target=child).start()
time.sleep(120)
"""


@needs_fork
def test_a_forked_child_that_outlives_its_parent_does_not_keep_the_journal(simulate, tmp_path):
    simulator = simulate()
    simulator.faults.add({"route": ADD, "kind": "delay", "seconds": 60, "nth": 1})
    files = (tmp_path / "journal", tmp_path / "truth.jsonl")
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKING, simulator.token, simulator.base_url, *map(str, files)],
        stdout=subprocess.PIPE,
        text=True,
    )
    child = None
    try:
        pid, said = parent.stdout.readline().split()
        child = int(pid)
        assert said == "ClosedError"
        parent.kill()
        parent.wait(10)
        os.kill(child, 0)  # it lives
        adapter, pipeline = trade(simulator, tmp_path)
        with adapter, pipeline:
            again = buy(pipeline, idempotency_key="parent")
            assert again.restored
            assert pipeline.wait_resolved(20)
            assert told(pipeline.execute(again)) is True
            with pytest.raises(JournalLockedError):
                TransactionVerificationPipeline(exchange_adapter=adapter, journal=tmp_path / "journal").start()
        os.kill(child, 0)
    finally:
        parent.kill()
        if child is not None:
            os.kill(child, signal.SIGKILL)
        parent.stdout.close()
        parent.wait(10)
    assert (sends(tmp_path), set(orders(tmp_path))) == (1, {again.client_order_id})


HOLDING = """
import os, sys
from hireliab.exchange.sqlite_journal import SQLiteJournal
journal = SQLiteJournal(sys.argv[1])
journal.open()
child = os.fork()
if child == 0:
    sys.stdin.readline()
    sys.exit(0)  # with all finalisers
print("forked", flush=True)
os.waitpid(child, 0)
print("the child has ended", flush=True)
sys.stdin.readline()
"""


@needs_fork
def test_a_forked_child_that_ends_first_does_not_give_the_journal_away(tmp_path):
    """The lock belongs to the open file, which the two share: whoever unlocks it unlocks it for both."""
    arguments = [sys.executable, "-W", "ignore", "-c", HOLDING, str(tmp_path / "journal")]
    owner = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for line in ("forked\n", "the child has ended\n"):
            assert owner.stdout.readline() == line
            with pytest.raises(JournalLockedError):
                SQLiteJournal(tmp_path / "journal").open()
            if line == "forked\n":
                owner.stdin.write("end\n")
                owner.stdin.flush()
    finally:
        owner.kill()
        owner.communicate()
    journal = SQLiteJournal(tmp_path / "journal")
    journal.open()
    journal.close()


# -- bad input ---------------------------------------------------------------------------------------------------------

LOCKED_OUT = """
import os, sys, tempfile
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.testing import FakeClock, ScriptedExchange
clock = FakeClock()
exchange = ScriptedExchange(clock=clock)
pipeline = TransactionVerificationPipeline(exchange_adapter=exchange, clock=clock, journal=sys.argv[1])
if os.geteuid() == 0:
    with tempfile.TemporaryDirectory() as folder:  # imports everything while that may be read
        journal = SQLiteJournal(folder)
        journal.open()
        journal.close()
    os.seteuid(65534)  # permissions mean nothing to root
for _ in range(2):
    try:
        pipeline.create_transaction(type="market_buy", symbol="BTC/USDT", amount=1)
    except Exception as error:
        print(type(error).__name__, error)
print(exchange.calls)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
@pytest.mark.parametrize("what", ["folder", "journal.lock", "owner.pid", "journal.db"])
def test_a_journal_that_cannot_be_written_is_a_journal_error_and_nothing_is_sent(what):
    with tempfile.TemporaryDirectory() as parent:  # outside of tmp_path, which nobody else may enter
        os.chmod(parent, 0o755)
        folder = Path(parent, "journal")
        folder.mkdir(mode=0o755)
        if what == "folder":
            folder.chmod(0o555)
        else:
            (folder / what).touch(mode=0o400)
            folder.chmod(0o777)
        arguments = [sys.executable, "-c", LOCKED_OUT, str(folder)]
        bot = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        first, second, calls = bot.stdout.splitlines()
        assert first == second, "and it may be tried again"
        assert re.match(r"JournalError .*(Permission denied|readonly|unable to open)", first)
        assert str(folder) in first
        assert calls == "[]"
