"""Health and metrics in real trouble: a broker that is away, and an exchange that is, beside orders that go on or do not."""

import pytest

from hireliab import EnhancedNobitexAdapter, HealthMonitor, TransactionVerificationPipeline
from hireliab.errors import HireliabError
from hireliab.monitoring.health import Health
from hireliab.monitoring.metrics import Metrics
from hireliab.simulator.server import Simulator
from tests.support.bus_traffic import impatient, make_bus
from tests.support.tcp_proxy import TcpProxy
from tests.support.together import until

__all__ = ["impatient"]

PATIENCE = 60.0


@pytest.fixture
def simulator(tmp_path):
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl") as simulator:
        yield simulator


@pytest.mark.usefixtures("impatient")
def test_a_broker_that_is_away_is_degraded_and_orders_go_on(broker, simulator, tmp_path):
    with (
        TcpProxy(broker.node.host, broker.node.port) as proxy,
        make_bus(broker.at(proxy.host, proxy.port), name="events") as bus,
        EnhancedNobitexAdapter(token=simulator.token, base_url=simulator.base_url) as adapter,
        TransactionVerificationPipeline(
            exchange_adapter=adapter, message_bus=bus, journal=tmp_path / "journal"
        ) as pipeline,
    ):
        health, metrics = HealthMonitor(pipeline, bus), Metrics(pipeline, bus)

        def connected():
            return metrics.snapshot().value("hireliab_bus_connected", name="events")

        def buy(amount):
            return pipeline.execute_transaction(
                pipeline.create_transaction(type="market_buy", symbol="BTC/USDT", amount=amount)
            )

        bus.subscribe("transaction.#", lambda _: None, group="books")
        assert buy("0.001")
        until(lambda: connected() == 1 and health.report(), PATIENCE)

        proxy.refuse()
        proxy.cut()
        until(lambda: connected() == 0, PATIENCE)
        report = health.report()
        assert report.status is Health.DEGRADED
        (told,) = [reason for reason in report.reasons if reason.startswith("bus events: not connected")]
        assert told.endswith("trading goes on")
        assert buy("0.002")

        proxy.heal()
        until(lambda: connected() == 1 and health.report(), PATIENCE)
        until(lambda: pipeline.stats().outbox.pending == 0, PATIENCE)


def test_an_exchange_that_is_away_opens_breakers_and_that_is_told(simulator, tmp_path):
    with (
        TcpProxy("127.0.0.1", int(simulator.base_url.rpartition(":")[2])) as proxy,
        EnhancedNobitexAdapter(token=simulator.token, base_url=f"http://{proxy.host}:{proxy.port}") as adapter,
    ):
        health, metrics = HealthMonitor(adapter), Metrics(adapter)
        assert adapter.get_market_data("BTC/USDT").best_bid
        assert health.report()
        proxy.refuse()
        proxy.cut()

        def is_open():
            with pytest.raises(HireliabError):
                adapter.get_market_data("ETH/USDT")
            return metrics.snapshot().value("hireliab_breaker_state", name="nobitex market", state="open") == 1

        until(is_open, PATIENCE)
        report = health.report()
        assert report.status is Health.DEGRADED
        assert any(reason.startswith("breaker nobitex market: open after ") for reason in report.reasons)
        assert simulator.token not in repr(report) + repr(metrics.snapshot())
