"""
Every snippet of ARCHITECTURE.md section 3, run against the simulator, and the code blocks of the documents of pool and
session, run against a small venue. (README and quick start: test_readme.py; recipes: test_recipes.py, …_ccxt.py.)
"""

import dataclasses
import inspect
from decimal import Decimal

import pytest

from hireliab import Session
from hireliab.exchange.connection_pool import PoolConfig
from hireliab.simulator.server import Simulator
from tests.support import documents
from tests.support.venue import Venue


@pytest.fixture
def simulator(tmp_path, monkeypatch):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path / "home"))
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl") as simulator:
        yield simulator


def test_the_breaker_snippet():
    from hireliab.core.circuit_breaker import CircuitBreaker, circuit_breaker, registry

    @circuit_breaker(name="api_operations", failure_threshold=3, reset_timeout=60.0)
    def call_api():
        return "called"

    class ApiClient:
        def get_data(self):
            return "data"

    api_client = ApiClient()
    breaker = CircuitBreaker(
        name="exchange_api", failure_threshold=5, reset_timeout=30.0, half_open_max_requests=2, success_threshold=3
    )
    result = breaker.execute(api_client.get_data)
    assert (call_api(), result) == ("called", "data")
    registry.discard("api_operations")


def test_the_trading_snippets(simulator, capsys):
    from hireliab.core.circuit_breaker import CircuitBreaker
    from hireliab.exchange.connection_pool import ConnectionPool
    from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
    from hireliab.exchange.nobitex_client import NobitexClient
    from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
    from hireliab.messaging.message_bus import InMemoryMessageBus
    from hireliab.monitoring.alert_system import AlertLevel, AlertSource, AlertSystem

    def create_client():
        return NobitexClient(base_url=simulator.base_url)

    pool = ConnectionPool(
        name="exchange_pool",
        create_client_func=create_client,
        config={"min_connections": 2, "max_connections": 10, "connection_timeout": 10, "idle_timeout": 60},
    )
    pool.initialize()
    book = pool.execute("get_market_data", "BTC/USDT")  # a method of the pooled client, by name
    assert book.best_bid < book.best_ask
    with pool.connection() as client:
        assert isinstance(client, NobitexClient)

    adapter = EnhancedNobitexAdapter(
        config={"api_key": simulator.api_key, "api_secret": simulator.api_secret, "connection_pool": pool}
    )
    adapter.initialize()

    bus = InMemoryMessageBus()
    events = []
    bus.start()
    bus.subscribe("transaction.*", events.append)
    verifier = TransactionVerificationPipeline(
        exchange_adapter=adapter, message_bus=bus, verification_timeout=30, max_retries=3
    )
    transaction = verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount=0.001, exchange="nobitex")
    success = verifier.execute_transaction(transaction)  # bool, or an exception that says why there is no bool
    assert success is True
    result = verifier.execute(transaction)  # TransactionResult: verdict, ids, fills, fee, proof, timeline
    assert (result.verdict.value, str(result.filled)) == ("COMPLETED", "0.001")

    alerts = AlertSystem(
        {"channels": {"console": True, "email": False, "telegram": False}, "level_thresholds": {"console": "info"}}
    )
    alerts.start()
    alerts.send_alert(
        source=AlertSource.EXCHANGE,
        level=AlertLevel.WARNING,
        title="API Rate Limit Approaching",
        message="Exchange API rate limit is at 80% capacity",
        context={"exchange": "nobitex", "rate_limit": 80},
    )
    breaker = CircuitBreaker(name="trading_operations", failure_threshold=3, reset_timeout=60.0)
    again = breaker.execute(verifier.create_transaction, type="market_buy", symbol="BTC/USDT", amount=0.002)
    assert verifier.execute_transaction(again) is True

    alerts.stop()
    verifier.stop()
    adapter.stop()
    pool.stop()
    bus.stop()
    assert [event.topic for event in events] == ["transaction.completed"] * 2
    printed = capsys.readouterr()
    assert "API Rate Limit Approaching" in printed.out + printed.err


def test_the_pools_table_of_settings_is_that_of_its_config():
    fields = {field.name: str(field.default) for field in dataclasses.fields(PoolConfig)}
    assert documents.settings("docs/connection-pool.rst") == fields


def test_the_sessions_table_of_settings_is_that_of_its_constructor():
    listed = documents.settings("docs/http-session.rst")
    parameters = dict(inspect.signature(Session).parameters)
    del parameters["clock"]
    assert list(listed) == list(parameters)
    defaults = {name: str(parameter.default) for name, parameter in parameters.items()}
    assert listed == defaults | {"max_response_bytes": "64 MiB"}
    assert defaults["max_response_bytes"] == str(64 * 1024 * 1024)


class Api(Venue):
    def answer(self, path, fields, request):
        return {"symbol": fields.get("symbol"), "last": "50000", "price": 50000.123, "path": path}


@pytest.fixture
def api():
    with Api() as api:
        yield api


def test_the_pools_code_blocks_run(api, capsys):
    documents.run("docs/connection-pool.rst", {}, replace=[("https://api.example.com", api.url)])
    assert capsys.readouterr().out == "[('created', None), ('discarded', 'stop')] 1\n"
    assert api.count("/v1/order") == 1


def test_the_sessions_code_blocks_run(api, capsys):
    space = documents.run("docs/http-session.rst", {}, replace=[("https://api.example.com", api.url)])
    assert (space["last"], space["price"]) == ("50000", Decimal("50000.123"))
    assert (api.count("/v1/order"), capsys.readouterr().out) == (1, "")
    space["pool"].stop()
    space["session"].close()
