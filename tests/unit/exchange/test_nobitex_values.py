"""Nobitex's JSON to typed values (nobitex-api.md 1.5, 1.6, 6, 7, 8.3)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from hireliab.errors import InvalidOrderError, MalformedResponseError
from hireliab.exchange import _nobitex_markets as markets
from hireliab.exchange import _nobitex_values as values
from hireliab.exchange.adapter import OrderStatus
from tests.support.scripted_nobitex import OPTIONS, order_row


@pytest.mark.parametrize(
    ("text", "base", "quote"),
    [
        ("BTC/USDT", "BTC", "USDT"),
        ("BTCUSDT", "BTC", "USDT"),
        ("btc-usdt", "BTC", "USDT"),
        (" btc/irt ", "BTC", "IRT"),
        ("BTC-RLS", "BTC", "IRT"),
        ("btc-rls", "BTC", "IRT"),
        ("USDTIRT", "USDT", "IRT"),
        ("usdt-rls", "USDT", "IRT"),
        ("1M_PEPEIRT", "1M_PEPE", "IRT"),
        ("100K_FLOKI/USDT", "100K_FLOKI", "USDT"),
        ("1INCH/USDT", "1INCH", "USDT"),
    ],
)
def test_a_symbol_is_read_in_all_its_spellings(text, base, quote):
    symbol = values.symbol(text)
    assert (symbol.base, symbol.quote, str(symbol)) == (base, quote, f"{base}/{quote}")
    assert symbol.path == base + quote
    assert (symbol.src, symbol.dst) == (base.lower(), "rls" if quote == "IRT" else "usdt")


@pytest.mark.parametrize(
    "text",
    ["", "BTC", "USDT", "/USDT", "BTC/EUR", "BTC//USDT", "BTC/TMN", "../x/USDT", "BT C/USDT", None, 7, "USDT/USDT",
     "IRT/USDT", "RLS-IRT", "ب/USDT", "_/USDT"],
)  # fmt: skip
def test_what_is_no_market_is_refused(text):
    with pytest.raises(InvalidOrderError):
        values.symbol(text)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0, "0"),
        ("0E-10", "0"),
        ("3.0000000000", "3"),
        ("4_000_0.00000000", "40000"),
        ("\u22122.5", "-2.5"),
        ("-2.5", "-2.5"),
        (Decimal("1E+3"), "1000"),
        (12345678901234567890, "12345678901234567890"),
        ("0.1234567890123456789012345678901234567", "0.1234567890123456789012345678901234567"),
    ],
)
def test_a_number_is_exact_in_every_spelling_of_the_venue(written, meant):
    assert values.number(written, "x") == Decimal(meant)


@pytest.mark.parametrize(
    "written", ["market", "", "۱۲", "1e999", "NaN", "Infinity", None, True, [], "1" * 61, "0x1", 1.5]
)
def test_what_is_no_number_makes_the_answer_malformed(written):
    with pytest.raises(MalformedResponseError):
        values.number(written, "x")


@pytest.mark.parametrize("body", [b"NaN", b'{"a": Infinity}', b"{", b"", b"\xff", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_exact_json_is_a_value_error(body):
    with pytest.raises(ValueError):
        values.loads(body)


def test_json_numbers_are_decimals():
    assert values.loads(b"[0.1, 1e-7]") == [Decimal("0.1"), Decimal("1e-7")]


def test_an_order_of_the_documents_is_read_with_all_its_fields():
    order = values.order(
        order_row(
            id=123456789012,
            type="sell",
            execution="StopLimit",
            market="BTC-RLS",
            param1="49000",
            matchedAmount="0.0005000000",
            averagePrice="50010.5",
            fee="12.5",
            status="Inactive",
        ),
        what="x",
    )
    assert (order.order_id, order.symbol, order.side, order.type) == ("123456789012", "BTC/IRT", "sell", "stop_limit")
    assert (order.price, order.stop_price) == (Decimal(50000), Decimal(49000))
    assert (order.filled, order.average_price, order.fee) == (Decimal("0.0005"), Decimal("50010.5"), Decimal("12.5"))
    assert order.status is OrderStatus.INACTIVE and order.created == pytest.approx(1767323045.678901)


def test_quirks_of_an_add_answer_are_read():
    row = order_row(matchedAmount=0, fee=0, dstCurrency="ریال", price="market", averagePrice="0E-10")
    for missing in ("execution", "market", "clientOrderId", "tradeType"):
        del row[missing]
    order = values.order(row, what="x", sent=values.symbol("BTC/IRT"), sent_type="market")
    assert (order.symbol, order.type, order.client_order_id) == ("BTC/IRT", "market", None)
    assert order.price is None and order.average_price is None and order.filled == 0


def test_a_fee_that_is_null_is_no_fee():
    assert values.order(order_row(fee=None), what="x").fee == 0


def test_a_row_without_market_is_known_by_its_display_names():
    row = order_row(srcCurrency="Bitcoin", dstCurrency="\ufdfc")
    del row["market"]
    names = markets.options(OPTIONS, "x").names
    assert values.order(row, what="x", names=names).symbol == "BTC/IRT"
    assert values.order(row | {"dstCurrency": "Tether"}, what="x", names=names).symbol == "BTC/USDT"
    assert values.order(row | {"srcCurrency": "Unheard"}, what="x", names=names).symbol == ""


@pytest.mark.parametrize(
    ("word", "status"), [("Done", OrderStatus.DONE), ("Rejected", OrderStatus.REJECTED), ("Weird", OrderStatus.OTHER)]
)
def test_a_status_that_is_not_documented_is_other_and_keeps_its_word(word, status):
    order = values.order(order_row(status=word), what="x")
    assert (order.status, order.raw_status) == (status, word)


@pytest.mark.parametrize("echo", ["", "null", None])
def test_an_empty_client_id_is_none(echo):
    assert values.order(order_row(clientOrderId=echo), what="x").client_order_id is None


@pytest.mark.parametrize(
    "broken",
    [
        {"id": None},
        {"id": 0},
        {"id": True},
        {"id": "x"},
        {"id": Decimal(7)},
        {"type": "short"},
        {"amount": None},
        {"amount": "-1"},
        {"matchedAmount": None},
        {"matchedAmount": "much"},
        {"status": None},
        {"market": "BTC-EUR"},
        {"created_at": "yesterday"},
        {"price": "cheap"},
    ],
)
def test_an_order_with_a_broken_field_is_malformed(broken):
    with pytest.raises(MalformedResponseError):
        values.order(order_row(**broken), what="x")


@pytest.mark.parametrize("row", [None, [], "x", 7])
def test_an_order_that_is_no_object_is_malformed(row):
    with pytest.raises(MalformedResponseError):
        values.order(row, what="x")


def test_a_book_is_sorted_and_its_time_is_in_seconds():
    book = markets.order_book(
        {"lastUpdate": "1644991756704", "asks": [["3", "1"], ["2", "1"]], "bids": [["1", "1"], ["1.5", "2"]]},
        values.symbol("BTC/USDT"),
        now=5.0,
        what="x",
    )
    assert [price for price, _ in book.asks] == [2, 3]
    assert [price for price, _ in book.bids] == [Decimal("1.5"), 1]
    assert book.updated == pytest.approx(1644991756.704) and book.last_price is None


def test_an_empty_book_is_no_error():
    book = markets.order_book({"asks": [], "bids": []}, values.symbol("BTC/USDT"), now=5.0, what="x")
    assert (book.asks, book.bids, book.updated) == ((), (), 5.0)


@pytest.mark.parametrize(
    "payload", [{}, {"asks": [], "bids": None}, {"asks": [["1"]], "bids": []}, {"asks": [["a", 1]], "bids": []}]
)
def test_a_book_of_a_wrong_shape_is_malformed(payload):
    with pytest.raises(MalformedResponseError):
        markets.order_book(payload, values.symbol("BTC/USDT"), now=5.0, what="x")


def test_balances_are_total_less_blocked_and_the_rial_is_irt():
    found = values.balances(
        {"RLS": {"balance": "100.5", "blocked": "0.5"}, "btc": {"balance": "0E-10", "blocked": "0"}}, "x"
    )
    assert found["IRT"].available == 100 and found["IRT"].total == Decimal("100.5")
    assert found["BTC"].total == 0


def test_options_give_rules_with_underscores_removed():
    rules = markets.options(OPTIONS, "x").markets
    assert rules["BTC/IRT"].min_value == 3_000_000
    assert rules["BTC/IRT"].price_step == 10
    assert set(rules) == {"BTC/IRT", "BTC/USDT", "DOGE/IRT"}


def test_a_market_without_both_steps_is_left_out():
    section = OPTIONS["nobitex"] | {"pricePrecisions": {"BTCIRT": "10"}}
    assert set(markets.options({"nobitex": section}, "x").markets) == {"BTC/IRT"}


def test_a_step_of_zero_is_malformed():
    section = OPTIONS["nobitex"] | {"pricePrecisions": {"BTCIRT": "0"}}
    with pytest.raises(MalformedResponseError):
        markets.options({"nobitex": section}, "x")


def test_candles_of_rial_markets_are_ten_times_what_is_sent():
    chart = {"s": "ok", "t": [2, 1], "o": [Decimal("1.5"), 1], "h": [2, 1], "l": [1, 1], "c": [2, 1], "v": [9, 8]}
    rial = markets.candles(chart, values.symbol("BTC/IRT"), "x")
    assert [candle.time for candle in rial] == [1, 2]
    assert rial[1].open == 15 and rial[1].volume == 9
    assert markets.candles(chart, values.symbol("BTC/USDT"), "x")[1].open == Decimal("1.5")


def test_a_chart_without_data_is_empty_and_a_wrong_one_malformed():
    assert markets.candles({"s": "no_data"}, values.symbol("BTC/IRT"), "x") == ()
    for chart in (
        {"s": "error", "errmsg": "Invalid resolution!"},
        {"s": "ok", "t": [1], "o": [], "h": [], "l": [], "c": [], "v": []},
    ):
        with pytest.raises(MalformedResponseError):
            markets.candles(chart, values.symbol("BTC/IRT"), "x")


def test_statistics_keep_what_is_no_number():
    found = markets.stats({"btc-rls": {"isClosed": True, "isClosedReason": "NoData", "latest": "5"}, "global": {}}, "x")
    assert found == {"BTC/IRT": {"isClosed": True, "isClosedReason": "NoData", "latest": Decimal(5)}}


def test_margin_rows_are_told_apart():
    assert values.is_spot({"tradeType": "Spot"}) and values.is_spot({})
    assert not values.is_spot({"tradeType": "Margin"})
