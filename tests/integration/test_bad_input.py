"""Each kind of bad input gets a typed error that names the field and what is allowed, and changes nothing."""

import threading

import pytest

from hireliab.errors import ConfigError, InvalidOrderError, JournalCorruptError, JournalError, JournalLockedError
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.nobitex_client import NobitexClient
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.monitoring.alert_system import AlertSystem
from hireliab.simulator.server import Simulator
from hireliab.simulator.truth import read


@pytest.fixture
def simulator(tmp_path):
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl") as simulator:
        yield simulator


@pytest.fixture
def adapter(simulator):
    with EnhancedNobitexAdapter(config={"token": simulator.token, "base_url": simulator.base_url}) as adapter:
        yield adapter


@pytest.fixture
def verifier(adapter, tmp_path):
    with TransactionVerificationPipeline(exchange_adapter=adapter, journal=tmp_path / "j") as verifier:
        yield verifier


def orders(tmp_path):
    return [r for r in read(tmp_path / "truth.jsonl") if r["kind"] == "order" and r["account"] == "user"]


@pytest.mark.parametrize(
    ("make", "wrong", "near"),
    [
        (
            lambda config: ConnectionPool(name="p", create_client_func=dict, config=config),
            "max_conections",
            "max_connections",
        ),
        (lambda config: EnhancedNobitexAdapter(config=config), "api_kye", "api_key"),
        (AlertSystem, "chanels", "channels"),
    ],
)
def test_an_unknown_setting_names_its_near_miss(make, wrong, near):
    with pytest.raises(ConfigError, match=near) as caught:
        make({wrong: 1})
    assert caught.value.near_miss == near


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"min_connections": 5, "max_connections": 2}, "min_connections"),
        ({"max_connections": -1}, "max_connections"),
        ({"connection_timeout": float("nan")}, "connection_timeout"),
        ({"idle_timeout": -0.5}, "idle_timeout"),
        ({"max_connections": 2.5}, "max_connections"),
    ],
)
def test_a_pool_setting_out_of_range_is_named(config, field):
    with pytest.raises(ConfigError, match=field):
        ConnectionPool(name="p", create_client_func=dict, config=config)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"api_key": "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA=", "api_secret": "not a key"}, "api_secret"),
        ({"api_key": "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA="}, "api_secret"),
        ({"token": "x" * 40, "api_key": "a", "api_secret": "b"}, "token"),
        ({"token": "0" * 40, "base_url": "apiv2.nobitex.ir"}, "base_url"),
        ({"token": "0" * 40, "base_url": "ftp://apiv2.nobitex.ir"}, "base_url"),
        ({"token": "0" * 40, "connection_pool": object()}, "connection_pool"),
    ],
)
def test_credentials_and_addresses_are_checked_and_no_secret_is_shown(config, named):
    with pytest.raises(ConfigError, match=named) as caught:
        EnhancedNobitexAdapter(config=config)
    for secret in ("not a key", "x" * 40):
        assert secret not in str(caught.value)


def test_a_pool_of_other_clients_is_refused(simulator):
    pool = ConnectionPool(name="p", create_client_func=dict)
    adapter = EnhancedNobitexAdapter(config={"token": simulator.token, "connection_pool": pool})
    with pool, pytest.raises(ConfigError, match="dict"):
        adapter.initialize()
        adapter.prepare_cancel("1")
    adapter.stop()


@pytest.mark.parametrize("symbol", ["BTC/XYZ", "NOSUCH/USDT", "BTC", "", "BTC/USDT'; --", "بیت/تتر", 7, None])
def test_an_unknown_symbol_is_an_invalid_order(verifier, tmp_path, symbol):
    with pytest.raises(InvalidOrderError, match="(?i)symbol|market"):
        verifier.create_transaction(type="market_buy", symbol=symbol, amount="0.001")
    assert not orders(tmp_path)


@pytest.mark.parametrize("amount", ["0.0000000001", 1e-12])
def test_an_amount_that_rounds_to_zero_is_an_invalid_order(verifier, tmp_path, amount):
    with pytest.raises(InvalidOrderError, match="amount"):
        verifier.execute_transaction(verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount=amount))
    assert not orders(tmp_path)


@pytest.mark.parametrize("number", ["۱۲", "1_000", "0x10", "1,5", "NaN", float("inf"), -1, True, "1e999", "٠.٥"])
@pytest.mark.parametrize("field", ["amount", "price"])
def test_a_number_that_is_none_is_an_invalid_order_that_names_the_field(verifier, tmp_path, field, number):
    asked = {"type": "limit_buy", "symbol": "BTC/USDT", "amount": "0.001", "price": "90000", field: number}
    with pytest.raises(InvalidOrderError, match=f"^{field}: "):
        verifier.create_transaction(**asked)
    assert not orders(tmp_path)


def test_an_order_below_the_minimum_is_an_invalid_order_with_the_minimum(verifier, tmp_path):
    with pytest.raises(InvalidOrderError, match="11"):
        verifier.execute_transaction(
            verifier.create_transaction(type="limit_buy", symbol="BTC/USDT", amount="0.0001", price="90000")
        )
    assert not orders(tmp_path)


def test_a_toman_price_is_an_invalid_order_that_says_rial(verifier, adapter, tmp_path):
    last = adapter.get_market_data("BTC/IRT").last_price
    with pytest.raises(InvalidOrderError, match="rial"):
        verifier.execute_transaction(
            verifier.create_transaction(type="limit_buy", symbol="BTC/IRT", amount="0.01", price=last / 10)
        )
    assert not orders(tmp_path)


def test_a_second_pipeline_on_the_journal_is_refused(verifier, adapter, tmp_path):
    with pytest.raises(JournalLockedError):
        TransactionVerificationPipeline(exchange_adapter=adapter, journal=tmp_path / "j").start()


def test_a_journal_of_another_account_is_refused(verifier, simulator, tmp_path):
    verifier.stop()
    other = EnhancedNobitexAdapter(
        config={"api_key": simulator.api_key, "api_secret": simulator.api_secret, "base_url": simulator.base_url}
    )
    with other, pytest.raises(JournalError, match="give this pipeline another name"):
        TransactionVerificationPipeline(exchange_adapter=other, journal=tmp_path / "j").start()


def test_a_journal_that_is_not_ours_is_refused(adapter, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "journal.db").write_bytes(b"someone's notes" * 1000)
    with pytest.raises(JournalCorruptError, match="move it away"):
        TransactionVerificationPipeline(exchange_adapter=adapter, journal=tmp_path / "x").start()


def test_a_transaction_executed_twice_at_once_is_one_order(verifier, tmp_path):
    order = verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.001")
    barrier, answers = threading.Barrier(8), []

    def execute():
        barrier.wait(10)
        answers.append(verifier.execute_transaction(order))

    threads = [threading.Thread(target=execute) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [True] * 8
    assert len({record["id"] for record in orders(tmp_path)}) == 1


def test_a_client_of_its_own_checks_its_address_too():
    with pytest.raises(ConfigError, match="base_url"):
        NobitexClient(base_url="127.0.0.1:8080")
