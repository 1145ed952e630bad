"""The code blocks of the pages that no other file runs, each against what it talks about."""

import inspect
import os
import sys

import pytest
from tenacity.wait import wait_exponential

from hireliab import (
    AlertSystem,
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    ClosedError,
    ConnectError,
    ConnectionPool,
    Inbox,
    InMemoryMessageBus,
    OrderRejectedError,
    OutcomeUnknownError,
    RateLimitedError,
    RateLimiter,
    ResponseLostError,
    RetryBudget,
    ThrottledError,
    TransactionVerificationPipeline,
)
from hireliab.core.circuit_breaker import registry
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.simulator.server import Simulator
from hireliab.testing import ScriptedExchange
from tests.support import documents
from tests.support.together import in_child
from tests.support.venue import Venue


def test_the_code_blocks_of_verified_transactions_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path / "home"))
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl") as simulator:
        space = documents.run(
            "docs/verified-transactions.rst", {"TOKEN": simulator.token, "BASE_URL": simulator.base_url}
        )
        record = space["order"].record
        space["verifier"].halt("stop", who="a test")
        assert space["buy"]("another signal") == 0
        assert capsys.readouterr().out == "not sent: halted\n"
        space["verifier"].stop()
        space["adapter"].stop()
    assert str(space["bought"]) == "0.001"
    assert (record.commit, record.timeout, str(record.order.price)) == ("filled_or_cancel", 20.0, "60000")


@pytest.mark.parametrize(
    ("word", "verdict", "error"),
    [
        ("not_sent", "NOT_SENT", ConnectError),
        ("reject", "REJECTED", OrderRejectedError),
        ("throttle", "REJECTED", ThrottledError),
    ],
)
def test_what_the_pipeline_answers_with_false_is_in_the_results_error(tmp_path, word, verdict, error):
    exchange = ScriptedExchange(clock=SYSTEM_CLOCK)
    exchange.script.append(word)
    with TransactionVerificationPipeline(exchange_adapter=exchange, journal=tmp_path, max_retries=0) as verifier:
        order = verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.001")
        assert verifier.execute_transaction(order) is False
    assert order.result().verdict.value == verdict
    assert isinstance(order.result().error, error)


def test_the_breakers_code_blocks_run():
    calls = []
    try:
        space = documents.run(
            "docs/circuit-breaker.rst",
            {"place": lambda *args, **kwargs: calls.append((args, kwargs)), "ask": lambda: calls.append("asked")},
        )
    finally:
        registry.discard("prices")
    assert calls == [(("BTC/USDT",), {"amount": "0.001"}), "asked"]
    assert 100.0 < space["orders"].stats().retry_after <= 120.0
    with pytest.raises(CircuitOpenError):
        space["orders"].execute(calls.append, "refused")
    assert "refused" not in calls


def test_the_limiters_code_blocks_run():
    space = documents.run("docs/rate-limiter.rst", {})
    with pytest.raises(RateLimitedError):
        space["limiter"].acquire()


def test_the_retrys_code_blocks_run():
    # The page's waits are real ones; here nobody wants to wait for them.
    space = documents.run(
        "docs/retry.rst", {}, replace=[("wait_exponential(max=10)", "wait_exponential(multiplier=0, max=10)")]
    )
    assert space["tenacity"].wait_exponential is wait_exponential
    calls = []

    def answers(*errors):
        left = iter(errors)

        def ask(what):
            calls.append(what)
            for error in left:
                raise error
            return "answer"

        return ask

    place = space["retry"](budget="nobitex", wait=0)(answers(ResponseLostError("lost")))
    with pytest.raises(OutcomeUnknownError):
        place("order")
    assert calls == ["order"]  # what may have happened is not done again
    place = space["retry"](budget="nobitex", wait=0)(answers(ConnectError("refused")))
    assert (place("order"), calls) == ("answer", ["order"] * 3)


class Books(Venue):
    def answer(self, path, fields, request):
        return {"path": path}


def test_the_bulkheads_code_blocks_run():
    with Books() as venue:
        space = documents.run("docs/bulkhead-and-deadline.rst", {}, replace=[("https://apiv2.nobitex.ir", venue.url)])
        assert [book["path"] for book in space["spread"]()] == ["/v3/orderbook/BTCIRT", "/v3/orderbook/BTCUSDT"]
    assert space["reads"].stats().running == 0


def test_the_policys_code_blocks_run():
    try:
        space = documents.run("docs/policy.rst", {})
        assert space["read_book"]() is None  # a function without a body
        assert space["place"]("an order") is None
    finally:
        for name in ("book", "place", "cancel"):
            registry.discard(name)
    assert space["minute"].stats().used == 1


def test_the_journals_code_blocks_run(tmp_path, capsys):
    exchange = ScriptedExchange(clock=SYSTEM_CLOCK)
    exchange.script.append("request_lost")
    settings = {"verification_timeout": 0.2, "price_collar": None}
    with TransactionVerificationPipeline(exchange_adapter=exchange, journal=tmp_path, **settings) as verifier:
        order = verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.001")
        with pytest.raises(OutcomeUnknownError):
            verifier.execute_transaction(order)
        documents.run("docs/journal-format.rst", {"folder": tmp_path})
    assert capsys.readouterr().out.startswith(order.id)


def test_the_porters_code_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path / "home"))

    class ApiClient:
        def get_data(self):
            return "data"

    try:
        with Simulator(seed=1, truth=tmp_path / "truth.jsonl") as simulator:
            space = {
                "api_client": ApiClient(),
                "BASE_URL": simulator.base_url,
                "API_KEY": simulator.api_key,
                "API_SECRET": simulator.api_secret,
            }
            blocks = list(documents.blocks("docs/from-the-original.rst"))
            stops = next(n for n, (_line, source) in enumerate(blocks) if "verifier.stop()" in source)
            documents.run("docs/from-the-original.rst", space, only=range(stops))
            verifier = space["verifier"]
            order = verifier.create_transaction(type="market_sell", symbol="BTC/USDT", amount="0.001")
            space["verifier_result"] = verifier.execute(order)
            assert (space["call_api"](), space["make_request"]()) == ("data", "data")
            assert space["trade"]("2026-11-22 09:30 breakout") == "done"  # the same signal, the same order
            assert space["trade"].__globals__ is space
            verifier.halt("stop", who="a test")
            assert space["trade"]("another").startswith("refused: halt")
            documents.run("docs/from-the-original.rst", space, only=range(stops, len(blocks)))
    finally:
        registry.discard("api_operations")
    assert space["answer"] == "done"
    assert "execution: bought" in capsys.readouterr().err


def test_every_name_of_the_original_that_the_porters_page_promises_is_there():
    """The names of ../shared/original/README.txt, as they stand there."""
    from hireliab.core.circuit_breaker import CircuitBreaker
    from hireliab.exchange.connection_pool import PoolConfig
    from hireliab.monitoring.alert_system import AlertConfig, AlertSystem

    page = (documents.ROOT / "docs" / "from-the-original.rst").read_text(encoding="utf-8")
    for callee, names in (
        (CircuitBreaker, "name failure_threshold reset_timeout half_open_max_requests success_threshold"),
        (PoolConfig, "min_connections max_connections connection_timeout idle_timeout"),
        (TransactionVerificationPipeline, "exchange_adapter message_bus verification_timeout max_retries"),
        (AlertConfig, "channels level_thresholds"),
        (AlertSystem.send_alert, "source level title message context"),
    ):
        taken = inspect.signature(callee).parameters
        for name in names.split():
            assert f"``{name}``" in page
            assert name in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values()), (callee, name)


def test_an_async_function_that_is_left_over_is_refused():
    from hireliab import AlertSystem, CircuitBreaker, ConfigError, circuit_breaker

    async def call_api():
        pass

    with pytest.raises(ConfigError):
        CircuitBreaker(name="left over").execute(call_api)
    with pytest.raises(ConfigError):
        circuit_breaker(name="left over")(call_api)
    with pytest.raises(ConfigError):
        AlertSystem({"chanels": {"console": True}})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_the_table_of_forks_says_what_a_child_finds(tmp_path, capfd):
    """The last column of "What may be called from where" in docs/threads.rst, row by row."""
    page = (documents.ROOT / "docs" / "threads.rst").read_text(encoding="utf-8")
    breaker = CircuitBreaker(name="forked", failure_threshold=1)
    with pytest.raises(ZeroDivisionError):
        breaker.execute(lambda: 1 / 0)
    limiter = RateLimiter(name="forked", limit=10, per=3600.0)
    limiter.acquire(weight=7)
    bulkhead = Bulkhead(name="forked", max_concurrent=1)
    taken = bulkhead.acquire()
    budget = RetryBudget(target="forked", capacity=5)
    before = budget.stats()
    pool = ConnectionPool(name="forked", create_client_func=dict)
    lease = pool.acquire()
    bus = InMemoryMessageBus()
    bus.start()
    inbox = Inbox(tmp_path / "inbox.db", group="g")
    inbox.once(lambda message: None)
    alerts = AlertSystem({"channels": {"console": True}})
    alerts.start()
    alerts.send_alert(level="error", source="system", title="of the parent", message="m")
    exchange = ScriptedExchange(clock=SYSTEM_CLOCK)
    verifier = TransactionVerificationPipeline(exchange_adapter=exchange, journal=tmp_path / "journal")
    verifier.start()

    def closed(call):
        try:
            call()
        except ClosedError:
            return True
        return False

    def child():
        found = {
            "pipeline": closed(
                lambda: verifier.execute_transaction(
                    verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount=1)
                )
            ),
            "breaker": breaker.stats().state == "open",
            "limiter": limiter.stats().used == 7,
            "bulkhead": bulkhead.stats().running == 0,
            "budget": budget.stats().tokens >= before.tokens,
            "pool": pool.stats().size == 0 and closed(lambda: lease.client) and pool.execute("copy") == {},
            "bus": closed(lambda: bus.publish("a", {})),
            "inbox": closed(lambda: inbox.once(lambda message: None)(None)),
            "alerts": alerts.send_alert(level="error", source="system", title="of the child", message="m").accepted,
        }
        alerts.stop()
        wrong = [name for name, right in found.items() if not right]
        if wrong:
            print("WRONG", wrong, file=sys.stderr, flush=True)
        return not wrong

    try:
        in_child(child)
    finally:
        taken.release()
        lease.release()
        pool.stop()
        bus.stop()
        inbox.close()
        alerts.stop()
        verifier.stop()
    for words in (
        "keeps the state",
        "starts with what the parent had used",
        "starts with free places",
        "an empty pool",
    ):
        assert words in page
    assert "WRONG" not in capfd.readouterr().err
