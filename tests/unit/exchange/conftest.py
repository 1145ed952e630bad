"""What the tests of the exchange's parts share: pipelines and pools that are stopped again, and sessions without a network."""

import pytest

from hireliab.exchange import http_session
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.testing import ScriptedExchange
from tests.support.http_fakes import Network
from tests.support.pipeline import Alerts


@pytest.fixture
def exchange(clock):
    return ScriptedExchange(clock=clock)


@pytest.fixture
def alerts():
    return Alerts()


@pytest.fixture
def make(clock, exchange, alerts, tmp_path):
    made = []

    def make(**settings):
        given = {"operator_interval": None, "alert_system": alerts, "journal": tmp_path / "journal", **settings}
        pipeline = TransactionVerificationPipeline(exchange_adapter=exchange, clock=clock, **given)
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.stop()


@pytest.fixture
def pipeline(make):
    return make()


@pytest.fixture
def pool_of(clock, request):
    """Makes pools; their factory is the module's `make`, unless another is given."""
    pools = []

    def build(factory=None, *, clock=clock, **config):
        config.setdefault("min_connections", 0)
        factory = factory or request.getfixturevalue("make")
        pool = ConnectionPool(name="p", create_client_func=factory, config=config, clock=clock)
        pools.append(pool)
        return pool

    yield build
    for pool in pools:
        pool.stop(timeout=0)


@pytest.fixture
def plain_environment(monkeypatch, tmp_path):
    """No proxy, CA bundle or netrc of the machine's."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def network(monkeypatch):
    network = Network(monkeypatch)
    yield network
    network.close()


@pytest.fixture(params=["short", "long"])
def way(request, monkeypatch):
    """Which way calls go on a connection that is open; the first call on a connection always goes the long one."""
    if request.param == "long":
        monkeypatch.setattr(http_session, "attempt", lambda *_: None)
    return request.param
