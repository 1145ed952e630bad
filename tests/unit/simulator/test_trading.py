"""Section 8 of the API sheet: adding, finding, listing and cancelling orders."""

import json
from decimal import Decimal

import pytest

from hireliab.simulator import trading_floor

D = Decimal
LAST = D(49_980_000_000)  # where BTCIRT opens
OCO = {
    "type": "sell",
    "amount": "0.001",
    "mode": "oco",
    "price": "52000000000",
    "stopPrice": "48000000000",
    "stopLimitPrice": "47900000000",
}


def trade(exchange, price, amount=None, symbol="BTCIRT"):
    trading_floor.house_trade(exchange.engine, symbol, D(price), None if amount is None else D(amount))


def refused(answer, code):
    return answer["status"] == "failed" and answer["code"] == code


# --- add: answers ---------------------------------------------------------------------------


def test_an_accepted_limit_order_has_the_documented_fields(exchange):
    row = exchange.order(price="49000000000", amount="0.6", clientOrderId="order1")
    assert row.pop("id") > 2**31
    assert row.pop("created_at").endswith("+00:00")
    assert row == {
        "type": "buy",
        "execution": "Limit",
        "tradeType": "Spot",
        "market": "BTC-RLS",
        "srcCurrency": "Bitcoin",
        "dstCurrency": "﷼",
        "price": "49000000000",
        "amount": "0.6",
        "totalPrice": "0",
        "totalOrderPrice": "29400000000",
        "matchedAmount": "0",
        "unmatchedAmount": "0.6",
        "status": "Active",
        "partial": False,
        "fee": 0,
        "averagePrice": "0",
        "clientOrderId": "order1",
    }


def test_a_stop_market_order_is_inactive_and_shows_its_trigger(exchange):
    row = exchange.order(execution="stop_market", stopPrice="51000000000", price=None)
    assert (row["execution"], row["price"], row["param1"], row["status"]) == (
        "StopMarket",
        "market",
        "51000000000",
        "Inactive",
    )


def test_an_oco_makes_two_legs_that_point_at_each_other_and_only_the_limit_leg_has_the_client_id(exchange):
    limit, stop = exchange.order(**OCO, clientOrderId="pair")
    assert (limit["pairId"], stop["pairId"]) == (stop["id"], limit["id"])
    assert (limit["execution"], limit["status"], limit["clientOrderId"]) == ("Limit", "Active", "pair")
    assert (stop["execution"], stop["status"], stop["clientOrderId"]) == ("StopLimit", "Inactive", None)
    assert (stop["param1"], stop["price"]) == ("48000000000", "47900000000")
    assert not {"partial", "fee"} & set(limit)
    assert exchange.wallet("btc")[1] == D("0.001")


def test_json_urlencoded_and_multipart_bodies_are_taken(exchange):
    form = b"type=buy&srcCurrency=btc&dstCurrency=rls&amount=0.001&price=49000000000"
    parts = b"".join(
        b'--xx\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % tuple(pair.split(b"="))
        for pair in form.split(b"&")
    )
    for kind, body in (
        ("application/x-www-form-urlencoded", form),
        ("multipart/form-data; boundary=xx", parts.replace(b"0.001", b"0.002") + b"--xx--\r\n"),
    ):
        assert exchange.post("/market/orders/add", body, headers={"content-type": kind})["status"] == "ok"


def test_a_number_with_a_fraction_in_json_stays_exact(exchange):
    body = b'{"type":"buy","srcCurrency":"btc","dstCurrency":"usdt","amount":0.1000001,"price":97000.125}'
    row = exchange.post("/market/orders/add", body)["order"]
    assert (row["amount"], row["price"]) == ("0.1", "97000.12")


def test_amounts_are_floored_to_the_step_and_prices_rounded_to_even(exchange):
    row = exchange.order(amount="0.0019999999", price="49000000015")
    assert (row["amount"], row["price"]) == ("0.001999", "49000000020")
    assert exchange.order(amount="0.003", price="49000000025")["price"] == "49000000020"


# --- add: refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        ({"type": None}, "ParseError", 400),
        ({"type": "hold"}, "ParseError", 400),
        ({"execution": "fok"}, "ParseError", 400),
        ({"amount": None}, "ParseError", 400),
        ({"amount": "-1"}, "ParseError", 400),
        ({"amount": "x"}, "ParseError", 400),
        ({"clientOrderId": "with_underscore"}, "ParseError", 400),
        ({"clientOrderId": "x" * 33}, "ParseError", 400),
        ({"mode": "oco"}, "ParseError", 400),
        ({"srcCurrency": "nope"}, "InvalidMarketPair", 200),
        ({"price": None}, "InvalidOrderPrice", 200),
        ({"price": "abc"}, "InvalidOrderPrice", 200),
        ({"price": "0"}, "InvalidOrderPrice", 200),
        ({"execution": "stop_limit"}, "MissingStopPrice", 200),
        ({"price": "34000000000"}, "BadPrice", 200),
        ({"price": "66000000000"}, "BadPrice", 200),
        ({"execution": "stop_limit", "stopPrice": "51000000000", "price": "50900000000"}, "BadPrice", 200),
        ({"execution": "stop_limit", "stopPrice": "49000000000", "price": "49500000000"}, "PriceConditionFailed", 200),
        ({**OCO, "stopPrice": "51000000000", "stopLimitPrice": "50000000000"}, "PriceConditionFailed", 200),
        ({**OCO, "price": "48500000000"}, "PriceConditionFailed", 200),
        ({"amount": "0.00006"}, "SmallOrder", 200),
        ({"amount": "0.0000000001"}, "SmallOrder", 200),
        ({"amount": "100"}, "OverValueOrder", 200),
        ({"type": "sell", "amount": "10.000001", "price": "51000000000"}, "OverValueOrder", 200),
    ],
)
def test_a_refused_order_says_why_and_echoes_the_client_id(exchange, changes, code, status):
    given = {"clientOrderId": "echo-1", **changes}
    body = {
        "type": "buy",
        "srcCurrency": "btc",
        "dstCurrency": "rls",
        "amount": "0.001",
        "price": "49000000000",
        **given,
    }
    reply = exchange.send(
        "POST", "/market/orders/add", {name: value for name, value in body.items() if value is not None}
    )
    answer = json.loads(reply.body)
    assert (reply.status, answer["code"]) == (status, code)
    assert set(answer) == {"status", "code", "message", "clientOrderId"}
    assert answer["clientOrderId"] == given["clientOrderId"]
    assert len(exchange.engine.orders) == 0


def test_an_empty_client_id_is_echoed_as_the_text_null(exchange):
    assert exchange.add(clientOrderId="", amount="100")["clientOrderId"] == "null"
    assert exchange.add(amount="100")["clientOrderId"] is None


def test_the_minimum_value_itself_is_enough(exchange):
    assert exchange.add(srcCurrency="usdt", amount="6", price="500000")["status"] == "ok"
    assert refused(exchange.add(srcCurrency="usdt", amount="5.99", price="500000"), "SmallOrder")


def test_an_equal_order_is_a_duplicate_for_ten_seconds_unless_pro(exchange):
    exchange.order(clientOrderId="one")
    assert refused(exchange.add(clientOrderId="two"), "DuplicateOrder")
    assert exchange.add(clientOrderId="three", pro="yes")["status"] == "ok"
    exchange.clock.advance(9.9)
    assert refused(exchange.add(), "DuplicateOrder")
    exchange.clock.advance(10)
    assert exchange.add()["status"] == "ok"


def test_only_the_first_of_equal_orders_starts_the_ten_seconds(exchange):
    exchange.order()
    exchange.clock.advance(6)
    assert refused(exchange.add(), "DuplicateOrder")
    exchange.clock.advance(4)
    assert exchange.add()["status"] == "ok"


def test_a_client_id_is_taken_while_its_order_is_open_and_free_afterwards(exchange):
    row = exchange.order(clientOrderId="mine")
    assert refused(
        exchange.add(clientOrderId="mine", srcCurrency="usdt", amount="10", price="500000"), "DuplicateClientOrderId"
    )
    exchange.post("/market/orders/update-status", {"order": row["id"], "status": "canceled"})
    assert exchange.add(clientOrderId="mine", amount="0.002")["status"] == "ok"


def test_the_client_id_is_checked_before_the_ten_second_rule(exchange):
    exchange.order(clientOrderId="mine")
    assert refused(exchange.add(clientOrderId="mine"), "DuplicateClientOrderId")


def test_a_closed_market_and_a_limited_account_refuse_orders(exchange):
    exchange.engine.pits["BTCIRT"].is_closed = True
    assert refused(exchange.add(), "MarketClosed")
    exchange.engine.blocked_accounts["user"] = "TradingUnavailable"
    assert refused(exchange.add(), "TradingUnavailable")


# --- matching -------------------------------------------------------------------------------


def test_a_market_buy_fills_at_the_makers_prices_and_pays_its_fee_in_the_bought_coin(exchange):
    rials, coins = exchange.wallet("rls")[0], exchange.wallet("btc")[0]
    row = exchange.order(execution="market", amount="0.001", price="49980000000")
    best = D(exchange.get("/v3/orderbook/BTCIRT")["asks"][0][0])
    assert (row["status"], D(row["averagePrice"])) == ("Done", best)
    assert D(row["fee"]) == D("0.0000025")
    assert exchange.wallet("rls") == (rials - best * D("0.001"), 0)
    assert exchange.wallet("btc")[0] == coins + D("0.0009975")


def test_a_market_sell_pays_its_fee_in_the_quote(exchange):
    rials = exchange.wallet("rls")[0]
    row = exchange.order(type="sell", execution="market", price=None)
    total = D(row["totalPrice"])
    assert D(row["fee"]) == total * D("0.0025")
    assert exchange.wallet("rls")[0] == rials + total - D(row["fee"])


def test_the_house_refills_so_that_thousands_of_market_orders_fill(exchange):
    before = exchange.get("/v3/orderbook/BTCIRT")["asks"]
    for i in range(50):
        assert exchange.order(execution="market", amount=f"0.{100 + i}", price=None)["status"] == "Done"
    assert exchange.get("/v3/orderbook/BTCIRT")["asks"] == before


def test_the_house_does_not_refill_across_an_order_that_took_its_quotes(exchange):
    row = exchange.order(srcCurrency="usdt", amount="300000", price="520000")
    assert row["status"] == "Active"
    book = exchange.get("/v3/orderbook/USDTIRT")
    assert book["bids"][0] == ["520000", row["unmatchedAmount"]]
    assert D(book["asks"][0][0]) > 520_000
    exchange.post("/market/orders/update-status", {"order": row["id"], "status": "canceled"})
    assert D(exchange.get("/v3/orderbook/USDTIRT")["asks"][0][0]) < 520_000


def test_without_refill_the_book_runs_dry(make_exchange):
    exchange = make_exchange(refill=False, balances={"rls": "10000000000000"})
    statuses = [exchange.order(execution="market", amount=f"1.{i}", price=None)["status"] for i in range(8)]
    assert statuses[0] == "Done"
    assert statuses[-1] == "Canceled"


def test_a_market_order_ends_partially_at_the_one_percent_collar(exchange):
    trading_floor.thin(exchange.engine, "BTCIRT", D("0.0004"))
    row = exchange.order(execution="market", amount="0.001", price="49980000000")
    assert (row["status"], row["matchedAmount"], row["unmatchedAmount"], row["partial"]) == (
        "Canceled",
        "0.0004",
        "0.0006",
        True,
    )
    assert exchange.wallet("rls")[1] == 0


def test_a_market_order_in_an_empty_book_ends_with_nothing_filled(exchange):
    trading_floor.thin(exchange.engine, "BTCIRT", D(0))
    row = exchange.order(execution="market", amount="0.001", price=None)
    assert (row["status"], row["matchedAmount"], row["averagePrice"]) == ("Canceled", "0", "0")


@pytest.mark.parametrize(("ask", "matched"), [("100.99", True), ("101", True), ("101.01", False)])
def test_a_market_buy_that_expects_100_fills_up_to_101(exchange, ask, matched):
    price = LAST * D(ask) / 100
    trading_floor.quote(exchange.engine, "BTCIRT", [("sell", price, D(1))])
    row = exchange.order(execution="market", price=str(LAST))
    assert (row["matchedAmount"] != "0") is matched


def test_a_resting_order_is_filled_by_a_trade_at_its_price_at_its_own_price(exchange):
    row = exchange.order(price="49000000000")
    trade(exchange, "49000000010")
    assert exchange.status(row["id"])["status"] == "Active"
    trade(exchange, "48500000000")
    filled = exchange.status(row["id"])
    assert (filled["status"], filled["averagePrice"]) == ("Done", "49000000000")


def test_a_partly_filled_order_stays_active(exchange):
    row = exchange.order(amount="0.002")
    trade(exchange, "49000000000", "0.0005")
    now = exchange.status(row["id"])
    assert (now["status"], now["partial"], now["matchedAmount"]) == ("Active", True, "0.0005")
    assert exchange.wallet("rls")[1] == D("0.0015") * 49_000_000_000


def test_two_users_trade_with_each_other_by_price_and_time(exchange):
    second = exchange.state.open_account("second")
    token = {"authorization": f"Token {second.token}"}
    trading_floor.quote(exchange.engine, "BTCIRT", [])
    first = exchange.order(price="49500000000", amount="0.001")
    better = exchange.order(price="49600000000", amount="0.001")
    body = {"type": "sell", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "0.0015", "price": "49400000000"}
    taker = exchange.post("/market/orders/add", body, headers=token)["order"]
    assert (taker["status"], taker["averagePrice"]) == ("Done", "49566666666.6666666666")
    assert exchange.status(better["id"])["status"] == "Done"
    assert exchange.status(first["id"])["matchedAmount"] == "0.0005"
    mine, theirs = (exchange.get("/market/trades/list", headers=who)["trades"] for who in ({}, token))
    assert [row["id"] for row in mine] == [row["id"] for row in theirs]
    assert exchange.send("POST", "/market/orders/status", {"id": taker["id"]}).status == 404


def test_a_user_may_trade_with_himself_unless_that_is_switched_off(exchange):
    trading_floor.quote(exchange.engine, "BTCIRT", [])
    resting = exchange.order(price="49000000000")
    assert exchange.order(type="sell", price="49000000000")["status"] == "Done"
    assert exchange.status(resting["id"])["status"] == "Done"
    exchange.state.change_settings({"self_trade": False})
    resting = exchange.order(price="49000000000", amount="0.002")
    assert exchange.order(type="sell", price="49000000000", amount="0.002")["status"] == "Active"
    assert exchange.status(resting["id"])["status"] == "Canceled"


# --- stops and OCO --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "stop", "limit", "short_of", "reached"),
    [
        ("buy", "51000000000", "51500000000", "50999999990", "51000000000"),
        ("sell", "49000000000", "48500000000", "49000000010", "49000000000"),
    ],
)
def test_a_stop_limit_activates_when_the_last_trade_reaches_its_stop_price(
    exchange, side, stop, limit, short_of, reached
):
    trading_floor.quote(exchange.engine, "BTCIRT", [])
    row = exchange.order(type=side, execution="stop_limit", stopPrice=stop, price=limit)
    trade(exchange, short_of)
    assert exchange.status(row["id"])["status"] == "Inactive"
    trade(exchange, reached)
    assert exchange.status(row["id"])["status"] == "Active"


def test_a_triggered_stop_market_fills_within_one_percent_of_its_stop_price(exchange):
    row = exchange.order(execution="stop_market", stopPrice="50500000000", price=None)
    blocked = exchange.wallet("rls")[1]
    assert blocked == D("0.001") * 50_500_000_000 * D("1.01")
    trade(exchange, "50500000000")
    assert exchange.status(row["id"])["status"] == "Done"
    assert exchange.wallet("rls")[1] == 0


def test_moving_the_market_fills_orders_that_it_passes_and_triggers_stops(exchange):
    resting = exchange.order(price="49000000000")
    stop = exchange.order(type="sell", execution="stop_market", stopPrice="48300000000", price=None)
    trading_floor.move_market(exchange.engine, "BTCIRT", D(48_000_000_000))
    assert exchange.status(resting["id"])["averagePrice"] == "49000000000"
    assert exchange.status(stop["id"])["status"] == "Done"
    assert exchange.get("/v3/orderbook/BTCIRT")["lastTradePrice"].startswith("479")


def test_the_first_fill_of_the_limit_leg_cancels_the_stop_leg(exchange):
    limit, stop = exchange.order(**OCO)
    trade(exchange, "52000000000", "0.0004")
    assert exchange.status(limit["id"])["status"] == "Active"
    assert exchange.status(stop["id"])["status"] == "Canceled"
    assert exchange.wallet("btc")[1] == D("0.0006")


def test_a_triggered_stop_leg_cancels_the_limit_leg_and_takes_over_its_balance(exchange):
    trading_floor.quote(exchange.engine, "BTCIRT", [])
    limit, stop = exchange.order(**OCO)
    trade(exchange, "48000000000")
    assert exchange.status(limit["id"])["status"] == "Canceled"
    assert exchange.status(stop["id"])["status"] == "Active"
    assert exchange.wallet("btc")[1] == D("0.001")


@pytest.mark.parametrize("leg", [0, 1])
def test_cancelling_one_leg_of_an_oco_cancels_both(exchange, leg):
    legs = exchange.order(**OCO)
    exchange.post("/market/orders/update-status", {"order": legs[leg]["id"], "status": "canceled"})
    assert [exchange.status(row["id"])["status"] for row in legs] == ["Canceled", "Canceled"]
    assert exchange.wallet("btc")[1] == 0


def test_a_buying_oco_blocks_what_its_dearer_leg_needs(exchange):
    oco = {**OCO, "type": "buy", "price": "48000000000", "stopPrice": "51000000000", "stopLimitPrice": "51100000000"}
    exchange.order(**oco)
    assert exchange.wallet("rls")[1] == D("0.001") * 51_100_000_000


# --- lifecycle switches ---------------------------------------------------------------------


def test_an_order_can_stay_new_for_a_while(make_exchange):
    exchange = make_exchange(new_delay=2)
    row = exchange.order(execution="market", price=None)
    assert row["status"] == "New"
    exchange.clock.advance(1.9)
    assert exchange.status(row["id"])["status"] == "New"
    exchange.clock.advance(0.1)
    assert exchange.status(row["id"])["status"] == "Done"


def test_an_acknowledged_order_can_be_rejected_afterwards(make_exchange):
    exchange = make_exchange(reject_probability=1, reject_delay=1)
    row = exchange.order(clientOrderId="poor")
    assert row["status"] == "New"
    exchange.clock.advance(1)
    assert exchange.status(row["id"])["status"] == "Rejected"
    assert exchange.wallet("rls")[1] == 0
    assert exchange.send("POST", "/market/orders/status", {"clientOrderId": "poor"}).status == 404


def test_a_slow_cancel_can_lose_the_race_against_a_fill(make_exchange):
    exchange = make_exchange(cancel_delay=2)
    row = exchange.order()
    answer = exchange.post("/market/orders/update-status", {"order": row["id"], "status": "canceled"})
    assert answer["updatedStatus"] == "Canceled"
    trade(exchange, "49000000000")
    exchange.clock.advance(5)
    assert exchange.status(row["id"])["status"] == "Done"


def test_a_shrinking_balance_makes_the_system_cancel_the_newest_orders(exchange):
    first, second = exchange.order(amount="0.001"), exchange.order(amount="0.002")
    exchange.engine.set_balance("user", "rls", D(49_000_000))
    assert [exchange.status(row["id"])["status"] for row in (first, second)] == ["Active", "Canceled"]
    assert exchange.wallet("rls") == (49_000_000, 49_000_000)


def test_terminal_rows_can_lose_their_client_id(make_exchange):
    exchange = make_exchange(null_client_ids=True)
    row = exchange.order(execution="market", price=None, clientOrderId="gone")
    listed = exchange.get("/market/orders/list?status=all&details=2")["orders"]
    assert [(one["id"], one["clientOrderId"]) for one in listed] == [(row["id"], None)]


def test_open_rows_keep_their_client_id(make_exchange):
    exchange = make_exchange(null_client_ids=True)
    row = exchange.order(clientOrderId="kept")
    trade(exchange, "49000000000", "0.0004")
    assert exchange.status(row["id"])["clientOrderId"] == "kept"


def test_terminal_orders_can_be_pruned(make_exchange):
    exchange = make_exchange(prune_after=60)
    done, open_one = (
        exchange.order(execution="market", price=None, clientOrderId="a"),
        exchange.order(clientOrderId="b"),
    )
    exchange.clock.advance(61)
    assert exchange.send("POST", "/market/orders/status", {"id": done["id"]}).status == 404
    assert exchange.status(open_one["id"])["status"] == "Active"


# --- status, cancel -------------------------------------------------------------------------


def test_status_by_id_finds_terminal_orders_and_by_client_id_only_open_ones(exchange):
    row = exchange.order(clientOrderId="c-1")
    by_client_id = {"clientOrderId": "c-1"}
    assert exchange.post("/market/orders/status", by_client_id)["order"]["id"] == row["id"]
    trade(exchange, "49000000000")
    reply = exchange.send("POST", "/market/orders/status", by_client_id)
    assert (reply.status, json.loads(reply.body)) == (
        404,
        {"error": "NotFound", "message": "No Order matches the given query."},
    )
    assert exchange.status(row["id"])["status"] == "Done"


def test_an_untriggered_stop_is_found_by_its_client_id(exchange):
    exchange.order(execution="stop_market", stopPrice="51000000000", price=None, clientOrderId="stop")
    assert exchange.post("/market/orders/status", {"clientOrderId": "stop"})["order"]["status"] == "Inactive"


def test_the_id_wins_over_the_client_id(exchange):
    first, _ = exchange.order(clientOrderId="one"), exchange.order(clientOrderId="two", amount="0.002")
    body = {"id": first["id"], "clientOrderId": "two"}
    assert exchange.post("/market/orders/status", body)["order"]["id"] == first["id"]


@pytest.mark.parametrize("path", ["/market/orders/status", "/market/orders/update-status"])
def test_a_call_without_any_id_is_a_failure_with_http_200(exchange, path):
    reply = exchange.send("POST", path, {"status": "canceled"})
    assert (reply.status, reply.code) == (200, "NullIdAndClientOrderId")


def test_status_takes_a_get_too(exchange):
    row = exchange.order()
    assert exchange.get(f"/market/orders/status?id={row['id']}")["order"]["id"] == row["id"]


def test_a_cancel_answers_with_the_order_and_frees_the_balance(exchange):
    row = exchange.order()
    answer = exchange.post("/market/orders/update-status", {"order": row["id"], "status": "canceled"})
    assert (answer["status"], answer["updatedStatus"], answer["order"]["status"]) == ("ok", "Canceled", "Canceled")
    assert exchange.wallet("rls")[1] == 0


def test_a_cancel_of_a_finished_order_has_no_code(exchange):
    row = exchange.order(execution="market", price=None)
    reply = exchange.send("POST", "/market/orders/update-status", {"order": row["id"], "status": "canceled"})
    assert (reply.status, json.loads(reply.body)) == (200, {"status": "failed", "updatedStatus": "Done"})


def test_cancel_old_cancels_active_orders_and_oco_pairs_but_no_untriggered_stop(exchange):
    plain, usdt = exchange.order(), exchange.order(srcCurrency="usdt", amount="10", price="500000")
    stop = exchange.order(execution="stop_market", stopPrice="51000000000", price=None)
    pair = exchange.order(**OCO)
    body = {"tradeType": "spot", "srcCurrency": "btc", "dstCurrency": "rls"}
    assert exchange.post("/market/orders/cancel-old", body) == {"status": "ok"}
    statuses = [exchange.status(row["id"])["status"] for row in (plain, usdt, stop, *pair)]
    assert statuses == ["Canceled", "Active", "Inactive", "Canceled", "Canceled"]


def test_cancel_old_with_hours_spares_younger_orders(exchange):
    old = exchange.order()
    exchange.clock.advance(3600)
    young = exchange.order(amount="0.002")
    exchange.post("/market/orders/cancel-old", {"hours": 0.5})
    assert [exchange.status(row["id"])["status"] for row in (old, young)] == ["Canceled", "Active"]


def test_cancel_batch_answers_for_each_id(exchange):
    row, done = exchange.order(), exchange.order(execution="market", price=None)
    answer = exchange.post("/market/orders/cancel-batch", {"orderIds": [row["id"], done["id"], 7]})
    assert [answer["orders"][str(number)]["status"] for number in (row["id"], done["id"], 7)] == [
        "ok",
        "failed",
        "failed",
    ]
    assert (
        exchange.post("/market/orders/cancel-batch", {"orderIds": list(range(21))})["message"]
        == "The maximum number of orderIds should be 20"
    )
    assert exchange.post("/market/orders/cancel-batch", {"orderIds": []})["message"] == "Order_ids list is empty"
    assert exchange.post("/market/orders/cancel-batch", {"orderIds": ["x"]})["message"] == 'Invalid integer value: "x"'


def test_batch_add_answers_in_order_and_each_item_stands_alone(exchange):
    good = {"type": "buy", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "0.001", "price": "49000000000"}
    bad = {**good, "amount": "x", "clientOrderId": "bad"}
    pair = {**good, **OCO}
    answer = exchange.post("/market/orders/batch-add", {"data": [good, bad, pair, good]})
    assert [row["status"] for row in answer["results"]] == ["ok", "failed", "ok", "failed"]
    assert (answer["results"][1]["code"], answer["results"][1]["clientOrderId"]) == ("ParseError", "bad")
    assert len(answer["results"][2]["orders"]) == 2
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert exchange.send("POST", "/market/orders/batch-add", b"data=1", headers=form).status == 415


# --- lists ----------------------------------------------------------------------------------


@pytest.fixture
def listed(exchange):
    """One order of each kind, by name."""
    rows = {
        "buy": exchange.order(price="48000000000"),
        "buy2": exchange.order(price="49000000000"),
        "sell": exchange.order(type="sell", price="51000000000"),
        "sell2": exchange.order(type="sell", price="52000000000"),
        "done": exchange.order(execution="market", price=None),
        "stop": exchange.order(type="sell", execution="stop_market", stopPrice="47000000000", price=None),
        "usdt": exchange.order(dstCurrency="usdt", price="97000"),
    }
    cancelled = exchange.order(price="45000000000")
    exchange.post("/market/orders/update-status", {"order": cancelled["id"], "status": "canceled"})
    names = {row["id"]: name for name, row in rows.items()} | {cancelled["id"]: "cancelled"}

    def names_of(query):
        answer = exchange.get("/market/orders/list?details=2&" + query)
        return [names[row["id"]] for row in answer["orders"]], answer["hasNext"]

    names_of.ids = {name: number for number, name in names.items()}
    return names_of


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("order=id", "buy buy2 sell sell2 stop usdt"),
        ("status=all&order=-id", "cancelled usdt stop done sell2 sell buy2 buy"),
        ("status=done", "done"),
        ("status=close&order=id", "done cancelled"),
        ("type=buy&dstCurrency=rls", "buy2 buy"),
        ("type=sell&execution=limit", "sell sell2"),
        ("execution=stop_market", "stop"),
        ("dstCurrency=usdt", "usdt"),
        ("srcCurrency=eth", ""),
        ("tradeType=margin", ""),
        ("tradeType=spot&type=buy&order=-created_at", "usdt buy2 buy"),
        ("type=sell&execution=limit&order=-price", "sell2 sell"),
    ],
)
def test_the_list_filters_and_sorts(listed, query, names):
    assert listed(query) == (names.split(), False)


def test_pages_follow_each_other_and_say_whether_more_come(listed):
    assert listed("order=id&pageSize=4") == (["buy", "buy2", "sell", "sell2"], True)
    assert listed("order=id&pageSize=4&page=2") == (["stop", "usdt"], False)


def test_from_id_gives_the_newest_slice_unless_asked_for_ascending(listed):
    first = listed.ids["buy2"]
    assert listed(f"fromId={first}&pageSize=2") == (["usdt", "stop"], True)
    assert listed(f"fromId={first}&pageSize=2&order=id") == (["sell", "sell2"], True)


@pytest.mark.parametrize(
    "query", ["page=1&fromId=5", "pageSize=1001", "page=0", "status=active", "order=amount", "details=3", "pageSize=x"]
)
def test_impossible_list_parameters_are_parse_errors(exchange, query):
    reply = exchange.send("GET", "/market/orders/list?" + query)
    assert (reply.status, reply.code) == (400, "ParseError")


def test_brief_rows_lack_id_status_and_client_id(exchange):
    exchange.order(clientOrderId="x")
    row = exchange.get("/market/orders/list")["orders"][0]
    assert not {"id", "status", "clientOrderId", "created_at"} & set(row)
    assert (row["type"], row["price"]) == ("buy", "49000000000")


def test_own_fills_are_newest_first_and_three_days_old_at_most(exchange):
    old = exchange.order(execution="market", price=None)
    exchange.clock.advance(2 * 86400)
    new = exchange.order(execution="market", price=None, amount="0.002")
    answer = exchange.get("/market/trades/list?srcCurrency=btc&dstCurrency=rls")
    assert [row["orderId"] for row in answer["trades"]] == [new["id"], old["id"]]
    assert answer["hasNext"] is False
    assert set(answer["trades"][0]) == {
        "id",
        "orderId",
        "srcCurrency",
        "dstCurrency",
        "market",
        "timestamp",
        "type",
        "price",
        "amount",
        "total",
        "fee",
    }
    newest = answer["trades"][0]["id"]
    assert [row["id"] for row in exchange.get(f"/market/trades/list?fromId={newest}")["trades"]] == [newest]
    exchange.clock.advance(1.5 * 86400)
    assert [row["orderId"] for row in exchange.get("/market/trades/list")["trades"]] == [new["id"]]


def test_own_fills_of_an_unknown_pair_are_an_error_that_says_ok(exchange):
    answer = exchange.get("/market/trades/list?srcCurrency=doge&dstCurrency=usdt")
    assert (answer["status"], answer["code"]) == ("ok", "InvalidMarketPair")
    assert exchange.send("GET", "/market/trades/list?srcCurrency=btc").status == 400


def test_open_orders_are_counted(exchange):
    exchange.order()
    exchange.order(**OCO)
    assert exchange.get("/market/orders/open-count?tradeType=spot") == {"status": "ok", "count": 3}


# --- quirks ---------------------------------------------------------------------------------


def test_quirks_cut_pages_and_hide_what_follows(make_exchange):
    exchange = make_exchange(quirks=["short_pages", "no_next_page", "no_market"], duplicate_window=0)
    ids = [exchange.order()["id"] for _ in range(51)]
    first = exchange.get("/market/orders/list?details=2&order=id&pageSize=1000")
    assert ([row["id"] for row in first["orders"]], first["hasNext"]) == (ids[:50], False)
    assert not {"market", "srcCurrency", "dstCurrency"} & set(first["orders"][0])
    second = exchange.get("/market/orders/list?details=2&order=id&pageSize=1000&page=2")
    assert [row["id"] for row in second["orders"]] == ids[50:]


def test_quirks_change_the_spelling_of_answers(make_exchange):
    exchange = make_exchange(
        quirks=["int_zero", "ten_decimals", "rial_word", "missing_fields", "extra_fields", "no_echo"]
    )
    row = exchange.order(clientOrderId="x")
    assert row["matchedAmount"] == 0
    assert row["dstCurrency"] == "ریال"
    assert not {"execution", "market", "averagePrice", "clientOrderId"} & set(row)
    assert row["isMyOrder"] is False
    status = exchange.status(row["id"])
    assert (status["amount"], status["matchedAmount"]) == ("0.0010000000", "0E-10")
