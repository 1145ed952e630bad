"""A scripted exchange, alerts that are kept, and pipelines that are stopped: for the tests of the pipeline's parts."""

import pytest

from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.testing import ScriptedExchange
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
