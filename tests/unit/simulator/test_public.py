"""Section 6 of the API sheet: market data."""

import json
from decimal import Decimal

import pytest

from hireliab.simulator import trading_floor

D = Decimal
ANYBODY = {"authorization": ""}


def test_the_order_book_is_best_first_with_24_levels_of_texts(exchange):
    book = exchange.get("/v3/orderbook/BTCIRT", headers=ANYBODY)
    asks, bids = ([D(price) for price, _ in book[side]] for side in ("asks", "bids"))
    assert asks == sorted(asks)
    assert bids == sorted(bids, reverse=True)
    assert bids[0] < D(book["lastTradePrice"]) < asks[0]
    assert len(asks) == len(bids) == 24
    assert book["lastUpdate"] == exchange.clock.time_ns() // 1_000_000
    assert all(isinstance(text, str) for level in book["asks"] + book["bids"] for text in level)


def test_all_books_are_siblings_of_the_status_with_eight_levels(exchange):
    books = exchange.get("/v3/orderbook/all")
    assert books.pop("status") == "ok"
    assert set(books) == {"BTCIRT", "BTCUSDT", "ETHIRT", "ETHUSDT", "USDTIRT", "DOGEIRT"}
    assert {len(book["asks"]) for book in books.values()} == {8}
    assert "lastTradePrice" not in books["BTCIRT"]


def test_the_legacy_book_has_its_sides_swapped(exchange):
    new, old = exchange.get("/v3/orderbook/BTCIRT"), exchange.get("/v2/orderbook/BTCIRT")
    assert (old["bids"], old["asks"]) == (new["asks"], new["bids"])


def test_depth_is_cumulative_and_its_time_is_a_text(exchange):
    depth = exchange.get("/v2/depth/BTCIRT")
    assert isinstance(depth["lastUpdate"], str)
    for side, outwards in (("asks", depth["asks"]), ("bids", depth["bids"][::-1])):
        amounts = [D(amount) for _, amount in outwards]
        assert amounts == sorted(amounts), side


def test_an_empty_book_is_two_empty_lists(exchange):
    trading_floor.quote(exchange.engine, "BTCIRT", [])
    book = exchange.get("/v3/orderbook/BTCIRT")
    assert (book["asks"], book["bids"]) == ([], [])


@pytest.mark.parametrize("path", ["/v3/orderbook/NOPE", "/v2/depth/btcirt", "/v2/trades/all", "/v2/orderbook/X"])
def test_an_unknown_symbol_is_http_400(exchange, path):
    reply = exchange.send("GET", path, headers=ANYBODY)
    assert (reply.status, reply.code) == (400, "InvalidSymbol")


def test_a_book_can_be_served_from_a_cache(make_exchange):
    exchange = make_exchange(book_cache=1)
    before = exchange.get("/v3/orderbook/BTCIRT")
    exchange.order(price="49979999990")
    assert exchange.get("/v3/orderbook/BTCIRT") == before
    exchange.clock.advance(1)
    assert exchange.get("/v3/orderbook/BTCIRT")["bids"][0] == ["49979999990", "0.001"]


def test_public_trades_are_newest_first_without_ids(exchange):
    trading_floor.house_trade(exchange.engine, "BTCIRT", D(49_000_000_000), D("0.5"), "sell")
    trades = exchange.get("/v2/trades/BTCIRT", headers=ANYBODY)["trades"]
    assert len(trades) == 20
    assert trades[0] == {
        "time": exchange.clock.time_ns() // 1_000_000,
        "price": "49000000000",
        "volume": "0.5",
        "type": "sell",
    }
    times = [trade["time"] for trade in trades]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("?srcCurrency=btc&dstCurrency=rls", {"btc-rls"}),
        ("?srcCurrency=btc,eth", {"btc-rls", "btc-usdt", "eth-rls", "eth-usdt"}),
        ("?dstCurrency=usdt", {"btc-usdt", "eth-usdt"}),
        ("", {"btc-rls", "btc-usdt", "eth-rls", "eth-usdt", "usdt-rls", "doge-rls"}),
    ],
)
def test_stats_are_filtered_by_either_currency(exchange, query, keys):
    assert set(exchange.get("/market/stats" + query)["stats"]) == keys


def test_stats_are_texts_and_agree_with_the_book(exchange):
    book = exchange.get("/v3/orderbook/BTCIRT")
    stats = exchange.get("/market/stats?srcCurrency=btc&dstCurrency=rls")["stats"]["btc-rls"]
    assert stats.pop("isClosed") is False
    assert all(isinstance(value, str) for value in stats.values())
    assert (stats["bestSell"], stats["bestBuy"], stats["latest"]) == (
        book["asks"][0][0],
        book["bids"][0][0],
        book["lastTradePrice"],
    )
    assert D(stats["dayLow"]) <= D(stats["latest"]) <= D(stats["dayHigh"])


def candles(exchange, **params):
    query = "&".join(f"{name.rstrip('_')}={value}" for name, value in params.items())
    return exchange.get("/market/udf/history?" + query)


def test_candles_of_rial_markets_are_in_toman_and_end_at_the_last_price(exchange):
    now = exchange.clock.time_ns() // 1_000_000_000
    found = candles(exchange, symbol="BTCIRT", resolution="60", to=now, from_=now - 86400)
    assert found["s"] == "ok"
    assert found["c"][-1] * 10 == D(exchange.get("/v3/orderbook/BTCIRT")["lastTradePrice"])
    tether = candles(exchange, symbol="BTCUSDT", resolution="60", to=now, countback=5)
    assert tether["c"][-1] == D(exchange.get("/v3/orderbook/BTCUSDT")["lastTradePrice"])
    assert len(tether["t"]) == 5
    assert found["t"] == sorted(found["t"])
    assert {len(found[name]) for name in "tohlcv"} == {len(found["t"])}
    assert all(
        low <= min(o, c) <= max(o, c) <= high
        for o, high, low, c in zip(found["o"], found["h"], found["l"], found["c"], strict=True)
    )


def test_daily_candles_start_at_tehran_midnight(exchange):
    now = exchange.clock.time_ns() // 1_000_000_000
    found = candles(exchange, symbol="BTCIRT", resolution="D", to=now, countback=3)
    assert {start % 86400 for start in found["t"]} == {20 * 3600 + 30 * 60}


def test_a_page_of_candles_has_at_most_500(exchange):
    now = exchange.clock.time_ns() // 1_000_000_000
    first, second = (
        candles(exchange, symbol="BTCIRT", resolution="1", to=now, from_=now - 86400, page=page) for page in (1, 2)
    )
    assert len(first["t"]) == 500
    assert second["t"][-1] + 60 == first["t"][0]


def test_the_invented_past_is_the_same_for_every_look(exchange):
    now = exchange.clock.time_ns() // 1_000_000_000
    params = {"symbol": "ETHIRT", "resolution": "15", "to": now - 3600, "countback": 50}
    assert candles(exchange, **params) == candles(exchange, **params)


@pytest.mark.parametrize(
    ("params", "answer"),
    [
        ({"symbol": "BTCIRT", "resolution": "7", "to": 1}, {"s": "error", "errmsg": "Invalid resolution!"}),
        ({"symbol": "NOPE", "resolution": "D", "to": 1}, {"s": "error", "errmsg": "Invalid symbol!"}),
        ({"symbol": "BTCIRT", "resolution": "D", "to": 100, "from_": 99}, {"s": "no_data"}),
    ],
)
def test_candles_have_an_envelope_of_their_own(exchange, params, answer):
    assert candles(exchange, **params) == answer


def test_options_list_steps_and_minimums(exchange):
    options = exchange.get("/v2/options", headers=ANYBODY)
    nobitex = options["nobitex"]
    assert nobitex["minOrders"] == {"rls": "3000000", "usdt": "11", "2": "3000000", "13": "11"}
    assert (nobitex["amountPrecisions"]["BTCIRT"], nobitex["pricePrecisions"]["BTCIRT"]) == ("0.000001", "10")
    assert nobitex["pricePrecisions"]["BTCUSDT"] == "0.01"
    assert {coin["coin"]: coin["name"] for coin in options["coins"]}["btc"] == "Bitcoin"


def test_an_unknown_path_is_a_page_and_a_wrong_method_is_405(exchange):
    reply = exchange.send("GET", "/v2/nothing")
    assert (reply.status, reply.content_type[:9]) == (404, "text/html")
    reply = exchange.send("GET", "/market/orders/add")
    assert (reply.status, json.loads(reply.body)) == (405, {"detail": 'Method "GET" not allowed.'})
