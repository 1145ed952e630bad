"""The pipeline at an exchange whose listings hide orders: by their pages, by their rows, and by forgetting."""

from contextlib import closing

import pytest

from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.nobitex_client import NobitexClient
from hireliab.exchange.transaction import Proof, State, Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.simulator.server import Simulator
from hireliab.simulator.truth import read
from tests.support.pipeline import Alerts
from tests.support.together import until

ADD = "POST /market/orders/add"


@pytest.fixture
def simulate(tmp_path):
    made = []

    def simulate(*, lag=None, **settings):
        settings = {"duplicate_window": 0, **settings}
        simulator = Simulator(seed=1, truth=tmp_path / "truth.jsonl", limits=False, lag=lag, settings=settings)
        made.append(simulator.__enter__())
        return made[-1]

    yield simulate
    for simulator in made:
        simulator.__exit__(None, None, None)


@pytest.fixture
def trade(tmp_path):
    made = []

    def trade(simulator, **settings):
        adapter = EnhancedNobitexAdapter(
            config={"token": simulator.token, "base_url": simulator.base_url, "rate_limits": "off"}
        )
        adapter.initialize()
        given = {
            "listing_interval": 0.1,
            "visibility_window": 0.3,
            "late_arrival_bound": 0.5,
            "verification_timeout": 30.0,
        }
        pipeline = TransactionVerificationPipeline(
            exchange_adapter=adapter, journal=tmp_path / "journal", **{**given, **settings}
        )
        made.append((adapter, pipeline))
        return adapter, pipeline

    yield trade
    for adapter, pipeline in made:
        pipeline.stop()
        adapter.stop()


def below(adapter):
    """A price at which a buy rests."""
    return int(adapter.get_market_data("BTC/USDT").best_bid * 9 / 10)


def ours(tmp_path, client_order_id):
    """The venue's id of an order."""
    rows = [
        r
        for r in read(tmp_path / "truth.jsonl")
        if r["kind"] == "order" and r.get("client_order_id") == client_order_id
    ]
    return str(rows[0]["id"])


@pytest.mark.parametrize(
    "quirks", [["no_next_page"], ["short_pages"], ["short_pages", "no_next_page"], ["no_market"]], ids="+".join
)
def test_a_live_order_behind_a_hundred_others_is_found_whatever_the_pages_say(simulate, trade, tmp_path, quirks):
    simulator = simulate(lag={"clientid": 3600}, quirks=quirks)  # so that only a listing shows it
    adapter, pipeline = trade(simulator)
    pipeline.start()
    price = below(adapter)
    with closing(NobitexClient(base_url=simulator.base_url, token=simulator.token)) as person:
        for _ in range(120):
            person.place_limit(symbol="BTC/USDT", side="buy", amount="0.001", price=price)
    simulator.faults.add({"route": ADD, "kind": "answer_lost", "count": 1})
    order = pipeline.create_transaction(type="limit_buy", symbol="BTC/USDT", amount="0.002", price=price)
    result = pipeline.execute(order)
    assert (result.verdict, result.proof) == (Verdict.COMPLETED, Proof.LIVE)
    assert result.order_id == ours(tmp_path, result.client_order_id)


def test_a_closed_order_whose_row_shows_neither_its_market_nor_its_client_id_is_a_candidate(simulate, trade, tmp_path):
    simulator = simulate(lag={"clientid": 3600}, quirks=["no_market"], null_client_ids=True)
    _, pipeline = trade(simulator, verification_timeout=1.0)
    simulator.faults.add({"route": ADD, "kind": "answer_lost", "count": 1})
    order = pipeline.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.002")
    result = pipeline.execute(order)
    assert result.verdict is Verdict.UNKNOWN
    until(lambda: order.record.needs_human, timeout=30.0)
    assert order.record.candidates == (ours(tmp_path, result.client_order_id),)


def test_an_order_that_was_filled_and_forgotten_is_never_absent_and_a_person_is_told(simulate, trade, tmp_path):
    """The listing of orders lags until the exchange has forgotten it; only its fill shows that there was one."""
    simulator = simulate(lag={"list": 3600, "clientid": 3600, "trades": 0.6}, prune_after=0.2)
    alerts = Alerts()
    _, pipeline = trade(simulator, verification_timeout=1.0)
    pipeline.add_alert_system(alerts)
    simulator.faults.add({"route": ADD, "kind": "answer_lost", "count": 1})
    order = pipeline.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.002")
    result = pipeline.execute(order)
    assert result.verdict is Verdict.UNKNOWN
    until(lambda: order.record.needs_human, timeout=30.0)
    number = ours(tmp_path, result.client_order_id)
    assert order.state is State.UNKNOWN
    assert order.record.candidates == (number,)
    assert [alert["title"] for alert in alerts if "needs a person" in alert["title"]]
    pipeline.stop()
    # The next start does not hold the market back for what only a person can decide.
    _, again = trade(simulator)
    assert again.start().gated == ()
    assert (
        again.resolve(order.id, "completed", evidence="the trade history shows it", who="me").verdict
        is Verdict.COMPLETED
    )


def test_an_order_that_was_closed_without_a_fill_and_forgotten_is_presumed_absent(simulate, trade):
    simulator = simulate(lag={"list": 3600, "clientid": 3600}, prune_after=0.2)
    adapter, pipeline = trade(simulator)
    simulator.faults.add({"route": ADD, "kind": "answer_lost", "count": 1})
    order = pipeline.create_transaction(type="limit_buy", symbol="BTC/USDT", amount="0.002", price=below(adapter))
    handle = pipeline.submit(order)
    with closing(NobitexClient(base_url=simulator.base_url, token=simulator.token)) as person:
        until(lambda: order.state is State.RESOLVING, timeout=30.0)
        person.cancel_all("BTC/USDT")
    assert handle.result().verdict is Verdict.ABSENT
