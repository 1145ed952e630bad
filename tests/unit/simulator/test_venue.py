"""A request from arrival to reply: limits, lags, and what the truth file gets."""

import json
from decimal import Decimal

import pytest

from hireliab.simulator import trading_floor, truth
from hireliab.simulator.settings import SettingError

D = Decimal


def lag(exchange, **seconds):
    """Set lags; a moment passes, because what happens at this very instant counts as seen."""
    exchange.engine.visibility.set(seconds, exchange.clock.monotonic())
    exchange.clock.advance(0.001)


# --- visibility -----------------------------------------------------------------------------


def test_each_kind_of_read_lags_on_its_own(exchange):
    lag(exchange, status=1, clientid=2, list=3, trades=4, wallets=5)
    row = exchange.order(execution="market", price=None)
    resting = exchange.order(clientOrderId="slow", amount="0.002")

    def visible():
        return (
            exchange.send("POST", "/market/orders/status", {"id": resting["id"]}).status == 200,
            exchange.send("POST", "/market/orders/status", {"clientOrderId": "slow"}).status == 200,
            bool(exchange.get("/market/orders/list")["orders"]),
            bool(exchange.get("/market/trades/list")["trades"]),
            exchange.wallet("btc")[0] != 10,
        )

    seen = []
    for _ in range(6):
        seen.append(sum(visible()))
        exchange.clock.advance(1.01)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert exchange.status(row["id"])["status"] == "Done"


def test_a_lagging_read_shows_an_order_in_its_older_state(exchange):
    row = exchange.order(clientOrderId="old")
    lag(exchange, status=2, clientid=2)
    exchange.clock.advance(10)
    exchange.engine.run_due()
    trading_floor.house_trade(exchange.engine, "BTCIRT", D(49_000_000_000))
    assert exchange.status(row["id"])["status"] == "Active"
    assert exchange.post("/market/orders/status", {"clientOrderId": "old"})["order"]["matchedAmount"] == "0"
    exchange.clock.advance(2)
    assert exchange.status(row["id"])["status"] == "Done"


def test_a_new_lag_hides_nothing_that_was_visible(exchange):
    row = exchange.order()
    lag(exchange, status=60, wallets=60)
    assert exchange.status(row["id"])["status"] == "Active"
    assert exchange.wallet("rls")[1] == 49_000_000


def test_a_lag_does_not_weaken_the_uniqueness_of_client_ids(exchange):
    lag(exchange, clientid=60)
    exchange.order(clientOrderId="x")
    assert exchange.add(clientOrderId="x", amount="0.002")["code"] == "DuplicateClientOrderId"


@pytest.mark.parametrize("wrong", [{"stats": 1}, {"list": -1}, {"list": "x"}])
def test_an_impossible_lag_is_refused(exchange, wrong):
    with pytest.raises(SettingError):
        lag(exchange, **wrong)


# --- limits ---------------------------------------------------------------------------------


def test_the_thirty_first_listing_in_a_minute_is_throttled(make_exchange):
    exchange = make_exchange(limits=True)
    assert {exchange.send("GET", "/market/orders/list").status for _ in range(30)} == {200}
    exchange.clock.advance(20)
    reply = exchange.send("GET", "/market/orders/list")
    body = json.loads(reply.body)
    assert (reply.status, body["code"], body["backOff"], body["limit"]) == (429, "TooManyRequests", 40, 30)
    assert exchange.send("GET", "/market/trades/list").status == 200
    exchange.clock.advance(40)
    assert exchange.send("GET", "/market/orders/list").status == 200


def test_orders_share_one_limit_and_an_oco_counts_twice(make_exchange):
    exchange = make_exchange(limits=True, limit_scale=0.02)  # 6 orders
    good = {"type": "buy", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "0.001", "price": "49000000000"}
    oco = {
        **good,
        "type": "sell",
        "mode": "oco",
        "price": "52000000000",
        "stopPrice": "48000000000",
        "stopLimitPrice": "47900000000",
    }
    exchange.order()
    exchange.order(**oco)
    batch = [{**good, "amount": f"0.00{i}"} for i in range(2, 8)]
    answer = exchange.post("/market/orders/batch-add", {"data": batch})
    assert [row["status"] for row in answer["results"]] == ["ok"] * 3
    reply = exchange.send("POST", "/market/orders/add", good)
    assert (reply.status, json.loads(reply.body)["limit"]) == (429, 6)


def test_refused_orders_count_and_throttled_ones_have_no_effect(make_exchange):
    exchange = make_exchange(limits=True, limit_scale=0.01)  # 3 orders
    for _ in range(3):
        assert exchange.add(amount="x")["code"] == "ParseError"
    assert exchange.send("POST", "/market/orders/add", {"type": "buy"}).status == 429
    assert len(exchange.engine.orders) == 0


def test_ignoring_limits_bans_the_token_on_every_endpoint(make_exchange):
    exchange = make_exchange(limits=True, ban_after=3)
    for _ in range(33):
        exchange.send("GET", "/market/orders/list")
    assert exchange.send("GET", "/users/profile").status == 429
    assert exchange.send("GET", "/v3/orderbook/BTCIRT", headers={"authorization": ""}).status == 200
    exchange.clock.advance(120)
    assert exchange.send("GET", "/users/profile").status == 200


def test_a_hundred_bad_tokens_block_the_address(make_exchange):
    exchange = make_exchange(limits=True)
    bad = {"authorization": "Token " + "0" * 40}
    assert {exchange.send("GET", "/users/profile", headers=bad).status for _ in range(100)} == {401}
    assert exchange.send("GET", "/users/profile", headers=bad).status == 429
    assert exchange.send("GET", "/users/profile").status == 429
    assert exchange.send("GET", "/users/profile", ip="10.0.0.1").status == 200
    exchange.clock.advance(1800)
    assert exchange.send("GET", "/users/profile").status == 200


def test_maintenance_is_a_page(make_exchange):
    reply = make_exchange(maintenance=True).send("GET", "/v2/options")
    assert (reply.status, reply.content_type[:9]) == (503, "text/html")


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"x"', b'{"a": NaN}', b"\xff", b"[" * 100_000])
def test_a_broken_body_is_a_parse_error(exchange, body):
    reply = exchange.send("POST", "/market/orders/add", body)
    assert (reply.status, reply.code) == (400, "ParseError")


# --- truth ----------------------------------------------------------------------------------


@pytest.fixture
def recorded(make_exchange, tmp_path):
    path = tmp_path / "truth.jsonl"
    exchange = make_exchange(truth=path)
    exchange.state.truth.flush()
    exchange.records = lambda: list(truth.read(path))
    return exchange


def test_a_request_is_recorded_with_all_its_changes_before_its_reply(recorded):
    before = len(recorded.records())
    row = recorded.order(execution="market", price=None, clientOrderId="t-1")
    records = recorded.records()[before:]
    assert [record["kind"] for record in records] == ["request", "order", "order", "fill", "balance", "balance"]
    request, accepted, done, fill, *balances = records
    assert (request["method"], request["path"], request["account"]) == ("POST", "/market/orders/add", "user")
    assert (request["status"], request["code"], request["fault"]) == (200, None, None)
    assert json.loads(request["body"])["clientOrderId"] == request["client_order_id"] == "t-1"
    assert [one["id"] for one in (accepted, done)] == [row["id"]] * 2
    assert [(one["status"], one["reason"]) for one in (accepted, done)] == [("Active", "accepted"), ("Done", "match")]
    assert {accepted["request"], accepted["cause"], done["cause"]} == {request["n"]}
    assert (fill["order_id"], fill["amount"], fill["maker"]) == (row["id"], "0.001", False)
    assert {one["currency"] for one in balances} == {"rls", "btc"}
    assert len({record["mono"] for record in records}) == 1


def test_sequence_numbers_have_no_gap(recorded):
    recorded.order()
    recorded.add(amount="x")
    numbers = [record["seq"] for record in recorded.records()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_refused_order_is_recorded_with_its_code(recorded):
    recorded.add(amount="1000")
    assert recorded.records()[-1]["code"] == "OverValueOrder"


def test_the_truth_keeps_client_ids_that_reads_lose(recorded):
    recorded.state.change_settings({"null_client_ids": True})
    recorded.order(execution="market", price=None, clientOrderId="kept")
    assert [record["client_order_id"] for record in recorded.records() if record["kind"] == "order"] == ["kept", "kept"]


def test_what_time_does_has_no_cause(recorded):
    recorded.state.change_settings({"new_delay": 5})
    recorded.order()
    recorded.clock.advance(5)
    recorded.get("/v2/options")
    last = [record for record in recorded.records() if record["kind"] == "order"][-1]
    assert (last["reason"], last["cause"]) == ("activated", None)


def test_no_secret_reaches_the_truth(recorded):
    login = {"username": "user@example.com", "password": "password", "captcha": "api"}
    answer = recorded.post("/auth/login/", login, headers={"user-agent": "TraderBot/x", "x-totp": "123456"})
    made = recorded.post("/apikeys/create", {"name": "a", "permissions": "READ"}, headers={"x-totp": "123456"})
    text = json.dumps(recorded.records())
    for secret in (recorded.opened.token, recorded.opened.api_secret, answer["key"], made["privateKey"], "password\\"):
        assert secret not in text
    assert '"body_redacted": true' in text


def test_a_body_that_is_no_text_is_kept_as_base64(recorded):
    recorded.send("POST", "/market/orders/add", b"\xff\xfe")
    assert recorded.records()[-1]["body_base64"] == "//4="


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "truth.jsonl"
    path.write_bytes(b'{"seq":1,"kind":"stop"}\n{"seq":2,"ki')
    assert [record["seq"] for record in truth.read(path)] == [1]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "truth.jsonl"
    path.write_bytes(b'{"seq":1,"kind":"stop"}\nrubbish\n{"seq":2,"kind":"order"}\n')
    with pytest.raises(truth.TruthError, match=":2:"):
        list(truth.read(path))


def test_a_restarted_exchange_continues_numbers_behind_a_torn_line(make_exchange, tmp_path):
    path = tmp_path / "truth.jsonl"
    first = make_exchange(truth=path)
    placed = first.order(execution="market", price=None)
    last = list(truth.read(path))[-1]["seq"]
    with path.open("ab") as file:
        file.write(b'{"seq":99')
    second = make_exchange(truth=path)
    second.state.truth.add_first("start", second.state.describe_start())
    again = second.order(execution="market", price=None)
    assert again["id"] == placed["id"] + 1
    records = list(truth.read(path))
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert records[last]["kind"] == "start"
    fills = [record["id"] for record in records if record["kind"] == "fill"]
    assert fills == sorted(set(fills))


def test_a_simulator_bug_is_answered_500_and_recorded(recorded, monkeypatch, caplog):
    monkeypatch.setattr(recorded.engine, "place", None)
    reply = recorded.send(
        "POST",
        "/market/orders/add",
        {"type": "buy", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "1", "price": "49000000000"},
    )
    assert reply.status == 500
    assert recorded.records()[-1]["status"] == 500
    assert "request 1 failed" in caplog.text
