"""EnhancedNobitexAdapter and NobitexClient against the simulator, with its faults."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal

import pytest

from hireliab.errors import (
    AuthenticationError,
    ConnectError,
    DuplicateOrderError,
    InsufficientFundsError,
    NotSentError,
    OutcomeUnknownError,
    RefusedError,
    ThrottledError,
)
from hireliab.exchange.adapter import Absent, FillListing, Found, Order, OrderListing, OrderStatus, Unavailable
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.nobitex_client import NobitexClient
from hireliab.simulator.server import Simulator
from tests.support.http_servers import serve
from tests.support.scripted_nobitex import BOOK, OPTIONS, TOKEN, order_row
from tests.support.together import Background

IDS = (f"t-{number}" for number in itertools.count())
ADD = "POST /market/orders/add"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(seed=5) as running:
        yield running


@pytest.fixture(params=["token", "pair"])
def adapter(sim, request) -> Iterator[EnhancedNobitexAdapter]:
    who = {"token": sim.token} if request.param == "token" else {"api_key": sim.api_key, "api_secret": sim.api_secret}
    timeouts = {"connect": 1.0, "read": 0.5, "total": 0.8}
    with EnhancedNobitexAdapter(base_url=sim.base_url, timeouts=timeouts, **who) as made:
        yield made


def market(**fields) -> Order:
    return Order(
        **{
            "symbol": "BTC/USDT",
            "side": "buy",
            "type": "market",
            "amount": Decimal("0.001"),
            "client_order_id": next(IDS),
        }
        | fields
    )


def far(**fields) -> Order:
    """A limit order that stays in the book."""
    return market(**{"type": "limit", "price": Decimal(80000)} | fields)


def send(adapter: EnhancedNobitexAdapter, order: Order):
    return adapter.prepare(order).submit(lambda: None)


def test_a_market_order_is_filled_and_every_look_up_shows_it(adapter):
    watermark = adapter.newest_order_id()
    assert watermark == "0"
    since = adapter.server_time() - 5
    order = market()
    state = send(adapter, order)
    assert state.filled == Decimal("0.001") and state.status is OrderStatus.DONE
    found = adapter.find_by_id(state.order_id)
    assert isinstance(found, Found) and found.order.filled == state.filled
    assert isinstance(adapter.find_by_client_id(order.client_order_id), Absent)  # closed orders are not found so
    listing = adapter.list_orders_since(watermark)
    assert isinstance(listing, OrderListing)
    assert [row.order_id for row in listing.orders] == [state.order_id]
    fills = adapter.list_fills_since(since)
    assert isinstance(fills, FillListing)
    assert {fill.order_id for fill in fills.fills} == {state.order_id}
    assert adapter.newest_order_id() == state.order_id
    assert adapter.capabilities.listing_shows_client_id is True


def test_an_open_order_is_found_by_both_ids_listed_and_cancelled(adapter):
    order = far()
    state = send(adapter, order)
    assert state.status is OrderStatus.ACTIVE
    by_client = adapter.find_by_client_id(order.client_order_id)
    assert isinstance(by_client, Found) and by_client.order.order_id == state.order_id
    assert [row.order_id for row in adapter.list_open("BTC/USDT")] == [state.order_id]
    assert adapter.list_open("BTC/IRT") == ()
    cancelled = adapter.prepare_cancel(state.order_id).submit(lambda: None)
    assert cancelled.status is OrderStatus.CANCELED
    again = adapter.prepare_cancel(state.order_id).submit(lambda: None)
    assert again.status is OrderStatus.CANCELED


def test_balances_and_market_data_are_those_of_the_exchange(adapter):
    before = adapter.balances()
    send(adapter, market(symbol="BTC/IRT", side="sell"))
    after = adapter.balances()
    assert before["BTC"].total - after["BTC"].total == Decimal("0.001")
    assert after["IRT"].total > before["IRT"].total
    data = adapter.get_market_data("btc-rls")
    assert data.best_bid < data.best_ask and data.stats["isClosed"] is False


def test_the_venues_definite_no_is_typed(adapter):
    with pytest.raises(InsufficientFundsError):
        send(adapter, far(amount=Decimal(1000)))
    order = far()
    send(adapter, order)
    with pytest.raises(DuplicateOrderError):
        send(adapter, order)
    with pytest.raises(RefusedError):
        adapter.prepare_cancel("999").submit(lambda: None)


@pytest.mark.parametrize("adapter", ["pair"], indirect=True)
@pytest.mark.parametrize(
    "kind",
    ["request_lost", "answer_lost", "delay", "http_500", "http_502", "http_503", "http_504", "truncated_json", "reset",
     "drip", "wrong_id", "no_id"],
)  # fmt: skip
def test_whatever_happens_to_an_order_on_the_way_is_unknown_and_it_is_sent_once(sim, adapter, kind):
    send(adapter, far(amount=Decimal("0.002")))  # wrong_id needs another order
    sim.faults.add_all([{"route": ADD, "kind": kind, "count": 1}])
    with pytest.raises(OutcomeUnknownError):
        send(adapter, far())
    listing = adapter.list_orders_since("0")
    assert isinstance(listing, OrderListing) and len(listing.orders) <= 2


@pytest.mark.parametrize("adapter", ["token"], indirect=True)
def test_a_throttled_order_is_refused_and_so_is_the_next_one_for_a_while(sim, adapter):
    sim.faults.add_all([{"route": ADD, "kind": "throttle", "count": 1, "seconds": 30}])
    with pytest.raises(ThrottledError) as caught:
        send(adapter, far())
    assert caught.value.retry_after >= 29
    with pytest.raises(NotSentError):
        adapter.prepare(far())


@pytest.mark.parametrize("kind", ["http_502", "unauthorized", "truncated_json", "request_lost", "drip", "throttle"])
@pytest.mark.parametrize("adapter", ["token"], indirect=True)
def test_a_look_up_that_fails_is_unavailable(sim, adapter, kind):
    state = send(adapter, far())
    sim.faults.add_all([{"route": "*", "kind": kind}])
    assert isinstance(adapter.find_by_id(state.order_id), Unavailable)
    assert isinstance(adapter.list_orders_since("0"), Unavailable)


@pytest.mark.parametrize(
    "quirk", ["int_zero", "ten_decimals", "rial_word", "missing_fields", "extra_fields", "no_echo"]
)
def test_the_quirks_of_its_answers_are_understood(quirk):
    with Simulator(seed=5, settings={"quirks": [quirk]}) as sim:
        with EnhancedNobitexAdapter(base_url=sim.base_url, token=sim.token) as adapter:
            order = market(symbol="BTC/IRT", type="limit", price=Decimal(40_000_000_000))
            state = send(adapter, order)
            assert state.symbol == "BTC/IRT" and state.amount == order.amount
            found = adapter.find_by_id(state.order_id)
            assert isinstance(found, Found) and found.order.symbol == "BTC/IRT"
            assert isinstance(adapter.balances(), dict)
            assert adapter.list_orders_since("0").orders[0].symbol == "BTC/IRT"


def test_a_wrong_token_is_refused_and_then_nothing_private_goes_out(sim):
    with EnhancedNobitexAdapter(base_url=sim.base_url, token="0" * 40) as adapter:
        read = adapter.find_by_id("1")
        assert isinstance(read, Unavailable) and isinstance(read.error, AuthenticationError)
        with pytest.raises(NotSentError):
            adapter.prepare(market())


def test_a_dead_exchange_does_not_fail_the_start_and_orders_go_once_it_lives():
    sim = Simulator(seed=5)
    sim.start()
    try:
        sim.go_down()
        with EnhancedNobitexAdapter(base_url=sim.base_url, token=sim.token) as adapter:
            with pytest.raises(NotSentError):
                adapter.prepare(market())
            unavailable = adapter.find_by_id("1")
            assert isinstance(unavailable, Unavailable) and isinstance(unavailable.error, ConnectError)
            sim.go_up()
            assert send(adapter, market()).filled > 0
    finally:
        sim.stop()


def test_a_borrowed_client_brings_its_own_address_and_keeps_its_own_credentials(sim):
    pool = ConnectionPool(
        name="users", create_client_func=lambda: NobitexClient(base_url=sim.base_url), config={"max_connections": 2}
    )
    with pool, EnhancedNobitexAdapter({"token": sim.token, "connection_pool": pool}) as adapter:
        assert send(adapter, market()).filled > 0
        assert pool.execute("get_market_data", "BTC/USDT").symbol == "BTC/USDT"
        assert pool.execute("get_orderbook", "BTC/USDT").bids
        with pool.connection() as client:
            assert client.credentials is None


def venue_that_drips(peer) -> None:
    """Answers look-ups of orders byte by byte, and everything else as it should."""
    done = {"status": "ok", "updatedStatus": "Canceled", "order": order_row(status="Canceled")}
    while (request := peer.read()) is not None:
        if request.target == "/market/orders/status":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            peer.drip(b" " * 100_000)
            return
        peer.reply(body=done if request.target == "/market/orders/update-status" else {**OPTIONS, **BOOK})


def test_answers_that_drip_on_all_clients_do_not_hold_up_a_cancel():
    timeouts = {"connect": 3.0, "read": 9.0, "total": 9.0}
    with EnhancedNobitexAdapter(base_url="http://127.0.0.1:1", token=TOKEN, timeouts=timeouts) as adapter:
        with serve(venue_that_drips) as server:
            adapter._access.base_url = server.url
            looks = [Background(adapter.find_by_id, str(number)) for number in range(1, 18)]
            with server.changed:
                assert server.changed.wait_for(lambda: len(server.requests) >= 16, 8)
            assert adapter._access.pool.stats().in_use == 16
            for _ in range(3):
                assert adapter.prepare_cancel("7").submit(lambda: None).status is OrderStatus.CANCELED
            assert adapter._access.pool.stats().in_use == 16
        assert all(isinstance(look.result(), Unavailable) for look in looks)


def test_a_cancel_takes_a_client_that_was_just_used_when_there_is_one():
    with serve(venue_that_drips) as server:
        with EnhancedNobitexAdapter(base_url=server.url, token=TOKEN) as adapter:
            for _ in range(2):
                adapter.prepare_cancel("7").submit(lambda: None)
        assert server.connections == 1 and len(server.requests) == 3


@pytest.mark.parametrize("pair", [False, True])
def test_every_method_of_the_client_works_on_the_simulator(sim, pair):
    who = {"api_key": sim.api_key, "api_secret": sim.api_secret} if pair else {"token": sim.token}
    client = NobitexClient(base_url=sim.base_url, **who)
    book = client.get_orderbook("BTC/USDT")
    assert client.get_trades("BTCUSDT")[0].price > 0
    assert "BTC/IRT" in client.get_stats() and list(client.get_stats("BTC/USDT")) == ["BTC/USDT"]
    candle = client.get_ohlc("BTC/IRT", resolution="60", end=int(client._clock.time()))[-1]
    last = client.get_orderbook("BTC/IRT").last_price
    assert Decimal("0.5") < candle.close / last < 2  # rial, not toman
    assert client.get_options().markets["BTC/USDT"].min_value == 11
    assert client.get_profile()["email"]
    assert client.get_balances()["BTC"].total > 0
    ask, bid = book.asks[0][0], book.bids[0][0]
    limit = client.place_limit(
        symbol="BTC/USDT", side="buy", amount="0.001", price=bid * Decimal("0.9"), client_order_id="c1"
    )
    assert client.get_order(client_order_id="c1").order_id == limit.order_id
    filled = client.place_market(symbol="BTC/USDT", side="buy", amount=0.0015, price=ask)
    assert client.list_fills().fills[0].order_id == filled.order_id
    stop = client.place_stop(symbol="BTC/USDT", side="sell", amount="0.001", stop_price=bid * Decimal("0.95"))
    assert (stop.type, stop.status) == ("stop_market", OrderStatus.INACTIVE)
    legs = client.place_oco(
        symbol="BTC/USDT",
        side="sell",
        amount="0.0012",
        price=ask * Decimal("1.1"),
        stop_price=bid * Decimal("0.9"),
        stop_limit_price=bid * Decimal("0.89"),
        client_order_id="c2",
    )
    assert [leg.client_order_id for leg in legs] == ["c2", None]
    assert {row.order_id for row in client.list_open("BTC/USDT")} == {
        limit.order_id,
        stop.order_id,
        *(leg.order_id for leg in legs),
    }
    assert len(client.list_since(limit.order_id)) == 4
    assert client.cancel(order_id=limit.order_id).status is OrderStatus.CANCELED
    assert client.cancel(client_order_id="c2").order is not None
    assert client.cancel_all("BTC/USDT") == ()
