"""Section 7 of the API sheet: profile, balances, histories."""

from decimal import Decimal

import pytest

D = Decimal


def test_the_profile_shows_fees_in_percent_and_the_months_trades(exchange):
    exchange.order(execution="market", price=None)
    answer = exchange.get("/users/profile")
    assert answer == exchange.post("/users/profile")
    options = answer["profile"]["options"]
    assert (options["fee"], options["feeUsdt"]) == ("0.25", "0.2")
    assert answer["tradeStats"]["monthTradesCount"] == 1


def test_limitations_show_whether_the_account_may_trade(exchange):
    assert exchange.get("/users/limitations")["limitations"]["features"]["crypto_trade"] is True
    exchange.engine.blocked_accounts["user"] = "TradingUnavailable"
    assert exchange.post("/users/limitations")["limitations"]["features"]["crypto_trade"] is False


def test_wallets_have_upper_case_keys_and_odd_zeros(make_exchange):
    exchange = make_exchange(balances={"rls": "1000000", "btc": "0"})
    assert exchange.get("/v2/wallets")["wallets"]["RLS"]["balance"] == "1000000"
    assert exchange.post("/v2/wallets", {"currencies": "btc,eth"})["wallets"] == {
        "BTC": {"id": 133778, "balance": "0E-10", "blocked": "0"}
    }
    assert exchange.get("/v2/wallets?type=margin")["wallets"] == {}


def test_a_wallet_comes_into_being_with_its_first_movement(make_exchange):
    exchange = make_exchange(balances={"rls": "100000000000"})
    assert set(exchange.get("/v2/wallets")["wallets"]) == {"RLS"}
    exchange.order(execution="market", price=None)
    assert set(exchange.get("/v2/wallets")["wallets"]) == {"RLS", "BTC"}


def test_listed_wallets_add_up_and_are_worth_rials(exchange):
    exchange.order()
    rows = {row["currency"]: row for row in exchange.get("/users/wallets/list")["wallets"]}
    rials = rows["rls"]
    assert D(rials["balance"]) == D(rials["activeBalance"]) + D(rials["blockedBalance"])
    assert rows["usdt"]["rialBalance"] == 1_000_000 * 510_000


def test_a_single_balance_is_the_total_with_ten_decimals(exchange):
    exchange.order()
    assert exchange.post("/users/wallets/balance", {"currency": "btc"}) == {"balance": "10.0000000000", "status": "ok"}
    assert exchange.send("POST", "/users/wallets/balance", {"currency": "nope"}).status == 400


def test_a_fill_leaves_a_credit_and_a_debit_in_the_histories(exchange):
    order = exchange.order(execution="market", price=None)
    history = exchange.get("/users/transactions-history?pageSize=2")
    assert history["hasNext"] is True
    assert [(row["tp"], row["currency"]) for row in history["transactions"]] == [("buy", "btc"), ("sell", "rls")]
    wallet = exchange.get("/v2/wallets")["wallets"]["BTC"]["id"]
    newest = exchange.get(f"/users/wallets/transactions/list?wallet={wallet}")["transactions"][0]
    assert D(newest["amount"]) == D("0.0009975")
    assert str(order["id"]) in newest["description"]


def test_the_history_filters_by_kind_currency_id_and_time(exchange):
    exchange.clock.advance(10)
    exchange.order(execution="market", price=None)

    def rows(query):
        return exchange.get("/users/transactions-history?" + query)["transactions"]

    assert {row["tp"] for row in rows("tp=deposit")} == {"deposit"}
    assert {row["currency"] for row in rows("currency=btc")} == {"btc"}
    deposits = rows("tp=deposit")
    assert [row["tp"] for row in rows(f"from_id={deposits[0]['id']}")] == ["buy", "sell"]
    since = "2025-10-09T08:53:25Z"  # five seconds after the virtual start
    assert [row["tp"] for row in rows(f"from={since}&to=2025-10-10T00:00:00%2B00:00")] == ["buy", "sell"]


@pytest.mark.parametrize(
    "query",
    [
        "from=2025-01-02T00:00:00&to=2025-01-01T00:00:00",
        "from=2025-01-01T00:00:00&to=2025-06-01T00:00:00",
        "from=x",
        "tp=x",
    ],
)
def test_impossible_history_parameters_are_parse_errors(exchange, query):
    assert exchange.send("GET", "/users/transactions-history?" + query).status == 400


def test_starting_balances_are_deposits(exchange):
    everything = exchange.get("/users/wallets/deposits/list?wallet=all")["deposits"]
    assert len(everything) == 5
    wallet = exchange.get("/v2/wallets")["wallets"]["BTC"]["id"]
    assert [row["amount"] for row in exchange.get(f"/users/wallets/deposits/list?wallet={wallet}")["deposits"]] == [
        "10"
    ]
