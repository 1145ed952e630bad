"""What answers of the exchange say about the questions that its documents leave open: each row's judgement."""

from __future__ import annotations

import base64
import dataclasses
from decimal import Decimal

import pytest

from hireliab.errors import InvalidOrderError, NotSentError
from hireliab.exchange import _nobitex_survey as survey
from hireliab.exchange import _nobitex_survey_order as order
from hireliab.exchange import _nobitex_survey_rows as rows
from hireliab.exchange._nobitex_markets import MarketRules, OrderBook
from hireliab.exchange._nobitex_survey import AS_ASSUMED, DIFFERS, NOT_ASKED, NOT_SEEN, Facts, Placed, Seen
from hireliab.exchange._nobitex_survey_reads import Notebook, _kept, _seen, _spoil, wanted
from hireliab.exchange._nobitex_survey_table import ROWS, judge
from hireliab.exchange._nobitex_transport import Answer, Request
from hireliab.exchange.adapter import Balance, Order
from hireliab.testing import FakeClock

NOW = 1_790_000_000.0
CID = "pfx-01ABCDEFGHJKMNPQRSTVWXYZ01"


def row(number, **fields):
    return {
        "id": number,
        "type": "buy",
        "execution": "Limit",
        "market": "BTC-USDT",
        "amount": "0.001",
        "price": "80000",
        "status": "Canceled",
        "clientOrderId": f"bot-{number}",
        "created_at": "2026-09-20T10:00:00+00:00",
    } | fields


def listed(*found, order="-id", status="all", more=False, **fields):
    payload = {"status": "ok", "orders": list(found), "hasNext": more}
    query = {"status": status, "order": order} | {k: v for k, v in fields.items() if k == "fromId"}
    rest = {k: v for k, v in fields.items() if k != "fromId"}
    return Seen(method="GET", path=survey.LIST, query=query, payload=payload, **rest)


def fills(*found):
    return Seen(method="GET", path=survey.FILLS, payload={"status": "ok", "trades": list(found)})


def fill(number, **fields):
    return {
        "id": number, "orderId": 10, "market": "BTC-USDT", "type": "buy", "amount": "0.5", "price": "90000", "fee": "0.001",
    } | fields  # fmt: skip


def profile(**options):
    return Seen(method="GET", path=survey.PROFILE, payload={"status": "ok", "profile": {"options": options}})


def facts(*seen, **fields):
    return Facts(seen=seen, now=NOW, **fields)


def status(found=None, *, label="", http=None, code="NotFound", **fields):
    if found is None:
        payload, http = {"error": code, "message": "No Order matches the given query."}, http or 404
    else:
        payload, http = {"status": "ok", "order": found}, http or 200
    return Seen(method="POST", path=survey.STATUS, status=http, payload=payload, label=label, **fields)


# -- from the history ---------------------------------------------------------------------------------------------------


def test_a_client_id_that_two_orders_had_shows_that_it_may_be_reused():
    judged = rows.client_id_reuse(facts(listed(row(2, clientOrderId="a"), row(1, clientOrderId="a"))))
    assert judged.verdict == AS_ASSUMED and "1" in judged.evidence and "2" in judged.evidence
    assert rows.client_id_reuse(facts(listed(row(2), row(1)), listed(row(2), row(1)))).verdict == NOT_SEEN


@pytest.mark.parametrize(("client_id", "verdict"), [("bot-1", AS_ASSUMED), ("bot_1", DIFFERS), ("x" * 33, DIFFERS)])
def test_the_characters_of_client_ids_are_read_from_the_history(client_id, verdict):
    judged = rows.client_id_charset(facts(listed(row(1, clientOrderId=client_id))))
    assert (judged.verdict, judged.action) == (verdict, "")
    assert rows.client_id_charset(facts(listed(row(1, clientOrderId=None)))).verdict == NOT_ASKED


def test_equal_orders_within_ten_seconds_show_that_a_client_id_exempts():
    early, late = row(1), row(2, created_at="2026-09-20T10:00:09+00:00")
    judged = rows.duplicate_rule(facts(listed(late, early)))
    assert judged.verdict == DIFFERS and not judged.action
    later = row(2, created_at="2026-09-20T10:00:11+00:00")
    assert rows.duplicate_rule(facts(listed(later, early))).verdict == NOT_SEEN
    dearer = row(2, created_at="2026-09-20T10:00:01+00:00", price="80001")
    assert rows.duplicate_rule(facts(listed(dearer, early))).verdict == NOT_SEEN


@pytest.mark.parametrize(
    ("code", "sent", "verdict"),
    [("DuplicateOrder", 12, DIFFERS), ("", 12, DIFFERS), ("", 21, NOT_SEEN), ("OverValueOrder", 12, NOT_SEEN)],
)
def test_a_second_equal_order_decides_before_the_history(code, sent, verdict):
    payload = {"status": "failed", "code": code} if code else {"status": "ok", "order": row(901)}
    second = Seen(method="POST", path=survey.ADD, payload=payload, **at(sent))
    early, late = row(1), row(2, created_at="2026-09-20T10:00:09+00:00")
    judged = rows.duplicate_rule(facts(listed(late, early), *life(), second))
    assert judged.verdict == (AS_ASSUMED if code == "DuplicateOrder" else verdict) and not judged.action


def test_a_second_order_changes_the_balances_that_are_looked_at_no_more():
    second = Seen(method="POST", path=survey.ADD, payload={"status": "ok", "order": row(901)}, **at(12))
    seen = (wallets(1, "5"), *life(), wallets(11, "85"), second, wallets(13, "165"))
    assert judged_order(order.blocked_funds, *seen).verdict == AS_ASSUMED


def test_a_closed_order_by_its_client_id_is_not_found_as_assumed():
    judged = rows.closed_by_client_id(facts(status(label=survey.CLOSED_BY_CLIENT_ID)))
    assert judged.verdict == AS_ASSUMED
    assert rows.closed_by_client_id(facts(status(label=survey.UNKNOWN_CLIENT_ID))).verdict == NOT_SEEN


def test_a_closed_order_that_is_found_by_its_client_id_differs_without_harm():
    judged = rows.closed_by_client_id(facts(status(row(1), label=survey.CLOSED_BY_CLIENT_ID)))
    assert judged.verdict == DIFFERS and not judged.action


@pytest.mark.parametrize("label", [survey.CLOSED_BY_CLIENT_ID, survey.UNKNOWN_CLIENT_ID])
@pytest.mark.parametrize(("http", "code"), [(200, "OrderNotFound"), (404, ""), (400, "NotFound")])
def test_another_answer_for_no_order_matters(label, http, code):
    judged = rows.closed_by_client_id(facts(status(label=label, http=http, code=code)))
    assert judged.verdict == DIFFERS and judged.action


def test_an_order_with_fills_that_left_the_list_matters():
    missing = fills(fill(7, orderId=11))
    judged = rows.retention(facts(listed(row(10)), missing))
    assert judged.verdict == DIFFERS and "11" in judged.evidence and judged.action
    assert rows.retention(facts(listed(row(11)), missing)).verdict == AS_ASSUMED


def test_an_order_older_than_a_list_that_goes_on_is_not_missing():
    assert rows.retention(facts(listed(row(12), more=True), fills(fill(7, orderId=11)))).verdict == AS_ASSUMED
    judged = rows.retention(facts(listed(row(12), row(10), more=True), fills(fill(7, orderId=11))))
    assert judged.verdict == DIFFERS


def test_the_age_of_the_oldest_closed_order_is_told():
    judged = rows.retention(facts(listed(row(1, created_at="2026-09-20T15:00:00+00:00"))))
    assert "1.6 days" in judged.observed or "days old" in judged.observed
    assert rows.retention(facts(listed(row(1, status="Active")))).verdict == NOT_SEEN
    assert rows.retention(facts()).verdict == NOT_SEEN


def test_closed_rows_with_client_ids_are_as_assumed():
    assert rows.closed_client_ids(facts(listed(row(2, clientOrderId=None), row(1)))).verdict == AS_ASSUMED


def test_closed_rows_that_lost_their_client_ids_matter_where_open_ones_show_them():
    judged = rows.closed_client_ids(facts(listed(row(2, clientOrderId=None), row(1, status="Active"))))
    assert judged.verdict == DIFFERS and "duplicate_guard" in judged.action


def test_closed_rows_without_client_ids_prove_nothing_where_nobody_sent_any():
    only_null = listed(row(2, clientOrderId=None), row(1, status="Active", clientOrderId=None))
    assert rows.closed_client_ids(facts(only_null)).verdict == NOT_SEEN
    assert rows.closed_client_ids(facts(listed(row(1, status="Active")))).verdict == NOT_SEEN


def test_the_placed_order_decides_about_client_ids_of_closed_rows():
    placed = life()
    shown = rows.closed_client_ids(facts(*placed, listed(row(1), row(900, clientOrderId=CID)), placed=PLACED))
    assert shown.verdict == AS_ASSUMED and "900" in shown.evidence
    lost = rows.closed_client_ids(facts(*placed, listed(row(1), row(900, clientOrderId=None)), placed=PLACED))
    assert lost.verdict == DIFFERS and lost.action


@pytest.mark.parametrize("token", ["Rejected", "Expired"])
def test_status_words_of_the_history_are_known_or_matter(token):
    judged = rows.status_tokens(facts(listed(row(2), row(1, status=token))))
    assert judged.verdict == (AS_ASSUMED if token == "Rejected" else DIFFERS)
    assert bool(judged.action) == (token != "Rejected")


def test_without_a_rejected_order_its_spelling_was_not_seen():
    judged = rows.status_tokens(facts(listed(row(2), row(1, status="Active"))))
    assert judged.verdict == NOT_SEEN and "Active, Canceled" in judged.observed
    assert rows.status_tokens(facts(listed())).verdict == NOT_SEEN


def test_ids_of_64_bits_are_as_assumed_and_others_do_no_harm():
    assert rows.id_sizes(facts(listed(row(2**62)))).verdict == AS_ASSUMED
    assert rows.id_sizes(facts(fills(fill(2**63 - 1)))).verdict == AS_ASSUMED
    for number in (2**63, "12"):
        judged = rows.id_sizes(facts(listed(row(number))))
        assert judged.verdict == DIFFERS and not judged.action
    assert rows.id_sizes(facts(listed())).verdict == NOT_SEEN


def test_the_legs_of_an_oco_show_where_the_client_id_goes():
    legs = row(1, pairId=2), row(2, pairId=1, clientOrderId=None)
    assert rows.oco_client_ids(facts(listed(*legs))).verdict == AS_ASSUMED
    both = row(1, pairId=2, clientOrderId="a"), row(2, pairId=1, clientOrderId="a")
    assert rows.oco_client_ids(facts(listed(*both))).verdict == DIFFERS
    assert rows.oco_client_ids(facts(listed(row(1), row(2)))).verdict == NOT_SEEN


# -- fees ---------------------------------------------------------------------------------------------------------------


def test_fees_in_the_assumed_currencies_and_below_the_profiles_rate():
    buy = fill(1, amount="0.5", fee="0.001")  # 0.2 % of the amount
    sell = fill(2, type="sell", amount="0.5", price="90000", fee="90")  # 0.2 % of 45000
    judged = rows.fees(facts(profile(fee="0.25", feeUsdt="0.2"), fills(buy, sell)))
    assert judged.verdict == AS_ASSUMED and "0.2 %" in judged.observed


@pytest.mark.parametrize(("side", "fee"), [("buy", "90"), ("sell", "0.001")])
def test_a_fee_in_the_other_currency_matters(side, fee):
    judged = rows.fees(facts(profile(feeUsdt="0.2"), fills(fill(1, type=side, fee=fee))))
    assert judged.verdict == DIFFERS and "TransactionResult.fee" in judged.action


def test_a_fee_above_the_profiles_matters_and_each_market_has_its_own():
    judged = rows.fees(facts(profile(fee="0.35", feeUsdt="0.1"), fills(fill(1))))
    assert judged.verdict == DIFFERS and judged.action
    rial = fill(1, market="BTC-RLS")
    assert rows.fees(facts(profile(fee="0.35", feeUsdt="0.1"), fills(rial))).verdict == AS_ASSUMED


def test_fills_without_a_fee_decide_nothing():
    assert rows.fees(facts(profile(feeUsdt="0.2"), fills(fill(1, fee="0")))).verdict == NOT_SEEN
    assert rows.fees(facts()).verdict == NOT_SEEN
    near_one = fill(1, amount="100", price="1.01", fee="50")
    assert rows.fees(facts(profile(feeUsdt="0.2"), fills(near_one))).verdict == NOT_SEEN


# -- public data --------------------------------------------------------------------------------------------------------


def book(path="BTCIRT", *, asks=("11", "12"), bids=("10", "9"), last="10"):
    payload = {
        "status": "ok",
        "lastTradePrice": last,
        "asks": [[p, "1"] for p in asks],
        "bids": [[p, "1"] for p in bids],
    }
    return Seen(method="GET", path=survey.BOOK + path, payload=payload)


def candles(close, symbol="BTCIRT"):
    return Seen(
        method="GET", path=survey.CANDLES, query={"symbol": symbol}, payload={"s": "ok", "c": [Decimal(5), close]}
    )


@pytest.mark.parametrize(
    ("close", "verdict", "matters"),
    [(Decimal("1.01"), AS_ASSUMED, False), (Decimal("10.2"), DIFFERS, True), (Decimal(3), NOT_SEEN, False)],
)
def test_candles_are_a_tenth_of_the_last_price_or_matter(close, verdict, matters):
    judged = rows.candle_unit(facts(book(), candles(close)))
    assert (judged.verdict, bool(judged.action)) == (verdict, matters)


def test_candles_are_compared_with_the_book_of_their_own_market():
    seen = book("BTCUSDT", last="1"), book("BTCIRT", last="10"), candles(Decimal(1))
    assert rows.candle_unit(facts(*seen)).verdict == AS_ASSUMED
    assert rows.candle_unit(facts(candles(Decimal(1)))).verdict == NOT_SEEN
    assert rows.candle_unit(facts(book("BTCUSDT"), candles(Decimal(1), "BTCUSDT"))).verdict == NOT_SEEN


def test_levels_in_another_order_do_no_harm_because_they_are_sorted():
    good, bad = rows.answer_order(facts(book())), rows.answer_order(facts(book(asks=("12", "11"))))
    assert good.verdict == bad.verdict == AS_ASSUMED
    assert "2+2 levels, best first" in good.observed and "not first" in bad.observed


@pytest.mark.parametrize(
    "wrong", [listed(row(1), row(2)), listed(row(2), row(1), order="id"), listed(row(5), order="id", fromId="5")]
)
def test_a_listing_that_is_not_as_asked_matters(wrong):
    judged = rows.answer_order(facts(book(), wrong))
    assert judged.verdict == DIFFERS and judged.action


def test_listings_as_asked_are_as_assumed():
    seen = listed(row(2), row(1)), listed(row(6), row(7), order="id", fromId="5"), fills(fill(2), fill(1))
    judged = rows.answer_order(facts(*seen))
    assert judged.verdict == AS_ASSUMED and "trades/list newest first" in judged.observed


def test_a_maximum_in_the_options_is_told():
    def options(**section):
        return facts(Seen(method="GET", path=survey.OPTIONS, payload={"status": "ok", "nobitex": section}))

    judged = rows.maximum(options(maxOrders={"rls": "1"}))
    assert judged.verdict == DIFFERS and "maxOrders" in judged.observed and not judged.action
    assert rows.maximum(options(minOrders={})).verdict == NOT_SEEN
    assert rows.maximum(facts()).verdict == NOT_SEEN


# -- harmless wrong calls and what comes by itself ----------------------------------------------------------------------


def refused(label, http, payload):
    return Seen(method="POST", path=survey.STATUS, status=http, payload=payload, label=label)


def test_failures_that_the_adapter_knows_are_as_assumed():
    seen = (
        refused(survey.NO_ID, 200, {"status": "failed", "code": "NullIdAndClientOrderId"}),
        refused(survey.BAD_SYMBOL, 400, {"status": "failed", "code": "InvalidSymbol"}),
        refused(survey.UNKNOWN_CLIENT_ID, 404, {"error": "NotFound"}),
    )
    judged = rows.failure_statuses(facts(*seen))
    assert judged.verdict == AS_ASSUMED and "HTTP 400 InvalidSymbol" in judged.observed


@pytest.mark.parametrize(
    ("http", "payload"),
    [
        (200, {"status": "failed", "code": "NewCode"}),
        (404, None),
        (401, {"detail": "x"}),
        (302, {}),
        (200, {"status": "ok"}),
    ],
)
def test_a_failure_that_the_adapter_does_not_take_for_a_no_matters(http, payload):
    judged = rows.failure_statuses(facts(refused(survey.NO_ID, http, payload)))
    assert judged.verdict == DIFFERS and judged.action


def test_a_failure_of_the_server_says_nothing_about_failures_of_business():
    assert rows.failure_statuses(facts(refused(survey.NO_ID, 502, None))).verdict == NOT_SEEN


@pytest.mark.parametrize(
    ("http", "payload", "verdict"),
    [
        (401, {"detail": "x"}, AS_ASSUMED),
        (403, {"detail": "x"}, AS_ASSUMED),
        (400, {"status": "failed"}, AS_ASSUMED),
        (200, {"status": "ok"}, DIFFERS),
        (500, None, DIFFERS),
    ],
)
def test_the_answer_to_a_wrong_signature(http, payload, verdict):
    one = Seen(method="GET", path=survey.PROFILE, status=http, payload=payload, label=survey.BAD_SIGNATURE)
    judged = rows.bad_signature(facts(one, is_key_pair=True))
    assert judged.verdict == verdict and bool(judged.action) == (verdict == DIFFERS)


def test_a_wrong_signature_that_was_not_sent_was_not_asked():
    assert rows.bad_signature(facts(profile(fee="0.2"), is_key_pair=True)).verdict == NOT_ASKED


@pytest.mark.parametrize(
    ("skew", "is_key_pair", "verdict", "matters"),
    [
        (1.5, True, AS_ASSUMED, False),
        (-9.0, True, DIFFERS, True),
        (9.0, False, DIFFERS, False),
        (None, True, NOT_SEEN, False),
    ],
)
def test_the_clock_is_compared_by_private_answers_only(skew, is_key_pair, verdict, matters):
    public = dataclasses.replace(book(), skew=-500.0)
    private = dataclasses.replace(profile(), skew=skew)
    judged = rows.clock_skew(facts(public, private, is_key_pair=is_key_pair))
    assert (judged.verdict, bool(judged.action)) == (verdict, matters)


def test_headers_of_a_429_are_told():
    plain = Seen(method="GET", path=survey.LIST, status=429, payload={"code": "TooManyRequests", "backOff": 12})
    assert rows.throttle_headers(facts(plain)).verdict == AS_ASSUMED
    with_header = dataclasses.replace(plain, headers={"retry-after": "12"})
    judged = rows.throttle_headers(facts(with_header))
    assert judged.verdict == DIFFERS and not judged.action
    assert rows.throttle_headers(facts(book())).verdict == NOT_SEEN


def test_maintenance_answers():
    assert rows.maintenance(facts(book())).verdict == NOT_SEEN
    assert rows.maintenance(facts(Seen(method="GET", path="/x", status=503))).verdict == AS_ASSUMED
    assert rows.maintenance(facts(Seen(method="GET", path="/x", status=503, payload={"a": 1}))).verdict == DIFFERS
    assert rows.maintenance(facts(Seen(method="GET", path="/x", status=None, error="ConnectError"))).verdict == NOT_SEEN


def test_an_unknown_parameter_is_ignored_or_refused():
    asked = Seen(method="GET", path=survey.STATS, payload={"status": "ok"}, label=survey.EXTRA_PARAMETER)
    assert rows.extra_parameter(facts(asked)).verdict == AS_ASSUMED
    judged = rows.extra_parameter(facts(dataclasses.replace(asked, status=400)))
    assert judged.verdict == DIFFERS and not judged.action


# -- from the placed order ----------------------------------------------------------------------------------------------

ORDER = Order(
    symbol="BTC/USDT", side="buy", type="limit", amount=Decimal("0.001"), price=Decimal(80000), client_order_id=CID
)
PLACED = Placed(order=ORDER, last=Decimal(100_000), verdict="CANCELLED")


def at(sent, received=None, **fields):
    return {"sent": float(sent), "received": float(sent if received is None else received)} | fields


def wallets(sent, blocked):
    payload = {"status": "ok", "wallets": {"USDT": {"balance": "500", "blocked": blocked}}}
    return Seen(method="GET", path=survey.WALLETS, payload=payload, **at(sent))


def life(*, answer="Active", **fields):
    """The order was accepted at 10."""
    shown = row(900, clientOrderId=CID, status=answer) | fields
    return (Seen(method="POST", path=survey.ADD, payload={"status": "ok", "order": shown}, **at(9.9, 10)),)


def by_id(sent, word):
    return status(None if word is None else row(900, status=word, clientOrderId=CID), body={"id": 900}, **at(sent))


def by_client_id(sent, word):
    found = None if word is None else row(900, status=word, clientOrderId=CID)
    return status(found, body={"clientOrderId": CID}, **at(sent))


def in_list(sent, word, **fields):
    found = () if word is None else (row(900, status=word, clientOrderId=CID),)
    return listed(*found, **({"order": "id"} | fields), **at(sent))


def cancel(sent=30.0, word="Canceled"):
    return Seen(
        method="POST", path=survey.CANCEL, body={"order": 900, "status": "canceled"},
        payload={"status": "ok", "updatedStatus": word}, **at(sent, sent + 0.1),
    )  # fmt: skip


def judged_order(judgement, *seen, **changes):
    return judgement(facts(*seen, placed=dataclasses.replace(PLACED, **changes)))


def test_an_order_that_every_read_shows_at_once():
    seen = (*life(), by_id(10.1, "Active"), by_client_id(10.2, "Active"), in_list(10.3, "Active"))
    judged = judged_order(order.read_after_write, *seen)
    assert judged.verdict == AS_ASSUMED and judged.observed.count("at the first look") == 3


def test_a_lag_within_the_visibility_window_is_as_assumed():
    seen = (*life(), in_list(10.3, None), in_list(12.8, None), in_list(15.3, "Active"))
    judged = judged_order(order.read_after_write, *seen)
    assert judged.verdict == AS_ASSUMED and "between 2.8 and 5.3 s" in judged.observed


@pytest.mark.parametrize("read", [by_id, in_list])
def test_a_lag_beyond_the_visibility_window_names_the_setting(read):
    judged = judged_order(order.read_after_write, *life(), read(10.3, None), read(17, None), read(18, "Active"))
    assert judged.verdict == DIFFERS and "visibility_window to 14 " in judged.action


def test_an_order_that_a_list_never_shows_matters_and_by_client_id_it_does_not():
    assert judged_order(order.read_after_write, *life(), in_list(18, None)).action
    assert judged_order(order.read_after_write, *life(), by_client_id(18, None)).verdict == AS_ASSUMED


def test_lists_that_need_not_show_the_order_are_no_lag():
    seen = (*life(), in_list(18, None, status="open"), in_list(19, None, fromId="900"), by_id(20, "Active"))
    assert judged_order(order.read_after_write, *seen).verdict == AS_ASSUMED


def test_reads_after_the_cancel_are_no_lag():
    seen = (*life(), by_client_id(10.1, "Active"), cancel(12), by_client_id(20, None), in_list(20, "Canceled"))
    judged = judged_order(order.read_after_write, *seen)
    assert judged.verdict == AS_ASSUMED and "orders/list" not in judged.observed


def test_when_the_balances_follow_is_told():
    seen = (wallets(1, "5"), *life(), wallets(10.5, "5"), wallets(15, "85"))
    assert "wallets: by 5.0 s" in judged_order(order.read_after_write, *seen).observed


@pytest.mark.parametrize(
    ("after", "verdict", "matters"),
    [("85", AS_ASSUMED, False), ("86", DIFFERS, True), ("84", DIFFERS, False), ("5", DIFFERS, False)],
)
def test_blocked_funds_are_compared_with_the_value(after, verdict, matters):
    judged = judged_order(order.blocked_funds, wallets(1, "5"), *life(), wallets(11, after))
    assert (judged.verdict, bool(judged.action)) == (verdict, matters)


def test_funds_are_unknown_without_a_balance_before():
    assert judged_order(order.blocked_funds, *life(), wallets(11, "80")).verdict == NOT_SEEN
    late = (wallets(1, "5"), *life(), cancel(12), wallets(13, "5"))
    assert judged_order(order.blocked_funds, *late).verdict == NOT_SEEN


def test_a_sale_blocks_its_amount():
    sale = dataclasses.replace(ORDER, side="sell", symbol="BTC/IRT")
    coins = {"status": "ok", "wallets": {"BTC": {"balance": "1", "blocked": "0.001"}}}
    after = Seen(method="GET", path=survey.WALLETS, payload=coins, **at(11))
    assert judged_order(order.blocked_funds, wallets(1, "0"), *life(), after, order=sale).verdict == AS_ASSUMED
    rial = dataclasses.replace(ORDER, symbol="BTC/IRT")
    held = {"status": "ok", "wallets": {"RLS": {"balance": "100", "blocked": "80"}}}
    after = Seen(method="GET", path=survey.WALLETS, payload=held, **at(11))
    assert judged_order(order.blocked_funds, wallets(1, "0"), *life(), after, order=rial).verdict == AS_ASSUMED


def test_an_order_that_is_active_in_its_answer():
    assert judged_order(order.activation, *life(), by_id(10.1, "Active")).observed.startswith("Active")


def test_the_time_an_order_is_new_is_bounded_by_reads():
    seen = (*life(answer="New"), by_id(10.5, "New"), by_id(12, "New"), by_id(13, "Active"))
    judged = judged_order(order.activation, *seen)
    assert judged.verdict == AS_ASSUMED and "between 2.0 and 3.0 s" in judged.observed


def test_an_order_that_is_new_for_longer_than_the_verification_matters():
    seen = (*life(answer="New"), by_id(41, "New"), by_id(42, "Active"))
    judged = judged_order(order.activation, *seen)
    assert judged.verdict == DIFFERS and "verification_timeout above 31" in judged.action
    assert judged_order(order.activation, *life(answer="New"), by_id(41, "New")).verdict == DIFFERS


def test_the_smallest_order_was_taken_or_was_too_small():
    judged = judged_order(order.minimum, *life())
    assert judged.verdict == AS_ASSUMED and "80" in judged.observed
    small = Seen(method="POST", path=survey.ADD, payload={"status": "failed", "code": "SmallOrder"})
    judged = judged_order(order.minimum, small, verdict="REJECTED")
    assert judged.verdict == DIFFERS and judged.action


def test_a_price_in_the_band_was_taken_or_refused():
    judged = judged_order(order.band, *life())
    assert judged.verdict == AS_ASSUMED and "20 % below" in judged.observed
    bad = Seen(method="POST", path=survey.ADD, payload={"status": "failed", "code": "BadPrice"})
    judged = judged_order(order.band, bad, verdict="REJECTED")
    assert judged.verdict == DIFFERS and "price_collar=0.10" in judged.action


def test_numbers_that_come_back_changed_matter():
    assert judged_order(order.echo, *life(price="80000.00")).verdict == AS_ASSUMED
    judged = judged_order(order.echo, *life(amount="0.0009"))
    assert judged.verdict == DIFFERS and judged.action and "amount" in judged.observed


def test_a_client_id_that_was_taken_or_not():
    assert judged_order(rows.client_id_charset, *life()).verdict == AS_ASSUMED
    bad = Seen(method="POST", path=survey.ADD, status=400, payload={"status": "failed", "code": "ParseError"})
    judged = judged_order(rows.client_id_charset, bad, verdict="REJECTED")
    assert judged.verdict == DIFFERS and judged.action


def test_a_cancel_that_the_next_read_shows_is_synchronous():
    judged = judged_order(order.cancel_synchronous, *life(), by_id(11, "Active"), cancel(), by_id(30.2, "Canceled"))
    assert judged.verdict == AS_ASSUMED and "first read" in judged.observed


def test_a_cancel_that_takes_time_is_bounded_by_reads():
    seen = (*life(), cancel(word="Active"), by_id(30.6, "Active"), by_id(31.6, "Canceled"))
    judged = judged_order(order.cancel_synchronous, *seen)
    assert judged.verdict == AS_ASSUMED and "between 0.5 and 1.5 s" in judged.observed


def test_a_cancel_that_does_not_close_in_time_matters():
    slow = (*life(), cancel(), by_id(62, "Active"), by_id(63, "Canceled"))
    assert "verification_timeout above 32" in judged_order(order.cancel_synchronous, *slow).action
    never = judged_order(order.cancel_synchronous, *life(), cancel(), by_id(62, "Active"))
    assert never.verdict == DIFFERS and never.action
    assert judged_order(order.cancel_synchronous, *life()).verdict == NOT_SEEN


def test_the_cancel_of_another_order_is_not_this_ones():
    foreign = dataclasses.replace(cancel(11), body={"order": 5, "status": "canceled"})
    assert judged_order(order.cancel_synchronous, *life(), foreign, by_id(12, "Active")).verdict == NOT_SEEN


PLACED_ROWS = [order.read_after_write, order.activation, order.minimum, order.band, order.blocked_funds, order.echo]


@pytest.mark.parametrize("judgement", [*PLACED_ROWS, order.cancel_synchronous])
def test_without_an_order_the_reason_is_told_and_after_a_refusal_the_code(judgement):
    judged = judgement(facts(not_placed="you did not agree to the order"))
    assert (judged.verdict, judged.observed) == (NOT_ASKED, "you did not agree to the order")
    no = Seen(method="POST", path=survey.ADD, payload={"status": "failed", "code": "MarketClosed"})
    judged = judged_order(judgement, no, verdict="REJECTED")
    assert judged.verdict == NOT_SEEN and "MarketClosed" in judged.observed


# -- the watch ----------------------------------------------------------------------------------------------------------


def test_looks_are_wanted_until_each_source_has_shown_the_order():
    def want(*seen):
        return set(wanted(facts(*seen, placed=PLACED)))

    before = wallets(1, "5")
    assert want(before) == set()
    assert want(before, *life()) == {"id", "client id", "list", "wallets"}
    seen = (before, *life(), by_id(11, "New"), by_client_id(11, None), in_list(11, "Active"), wallets(11, "5"))
    assert want(*seen) == {"id", "client id", "wallets"}
    seen = (*seen, by_id(12, "Active"), by_client_id(12, "Active"), wallets(12, "85"))
    assert want(*seen) == set()
    assert want(*seen, cancel()) == {"id", "list"}
    closed = (*seen, cancel(), by_id(31, "Canceled"), in_list(31, "Canceled"))
    assert want(*closed) == {"client id"}
    assert want(*closed, status(label=survey.CLOSED_BY_CLIENT_ID, body={"clientOrderId": CID}, **at(32))) == set()


def test_balances_that_never_follow_are_looked_at_three_times():
    seen = (wallets(1, "5"), *life(), *(wallets(11 + n, "5") for n in range(3)))
    assert "wallets" not in wanted(facts(*seen, placed=PLACED))
    assert "wallets" in wanted(facts(*seen[:-1], placed=PLACED))


# -- the smallest order -------------------------------------------------------------------------------------------------

RULES = MarketRules(amount_step=Decimal("0.0001"), price_step=Decimal("0.1"), min_value=Decimal(11))


def the_book(asks=((Decimal(101), Decimal(1)),), bids=((Decimal(99), Decimal(1)),), last=Decimal(100)):
    return OrderBook(symbol="BTC/USDT", asks=asks, bids=bids, last_price=last, updated=NOW)


def held(**free):
    return {c: Balance(currency=c, total=Decimal(n), blocked=Decimal(0), available=Decimal(n)) for c, n in free.items()}


def plan(balances, book=None, rules=RULES):
    return order.smallest_order("BTC/USDT", book=book or the_book(), rules=rules, balances=balances)


def test_the_smallest_purchase_is_just_above_the_minimum_and_a_fifth_below_the_price():
    made, last = plan(held(USDT=12, BTC=5))
    assert (made.side, made.price, last) == ("buy", Decimal(80), Decimal(100))
    assert made.amount * made.price > RULES.min_value >= (made.amount - RULES.amount_step) * made.price


def test_a_value_equal_to_the_minimum_is_one_step_too_small():
    made, _ = plan(held(USDT=100), rules=dataclasses.replace(RULES, min_value=Decimal(8)))
    assert made.amount == Decimal("0.1001")


def test_without_quote_currency_it_is_a_sale_above_the_price():
    made, _ = plan(held(USDT="10.99", BTC="0.0918"))
    assert (made.side, made.price) == ("sell", Decimal(120)) and made.amount <= Decimal("0.0918")


def test_without_any_balance_what_is_needed_is_said():
    with pytest.raises(InvalidOrderError, match=r"11\.008 USDT to buy or 0\.0917 BTC to sell"):
        plan(held(USDT="11"))


def test_the_balance_must_suffice_for_each_of_the_orders():
    balances = held(USDT=12)
    assert order.smallest_order("BTC/USDT", book=the_book(), rules=RULES, balances=balances)
    with pytest.raises(InvalidOrderError, match=r"22\.016 USDT"):
        order.smallest_order("BTC/USDT", book=the_book(), rules=RULES, balances=balances, times=2)


def test_an_order_that_would_trade_is_not_planned():
    crossed = the_book(asks=((Decimal(79), Decimal(1)),), bids=((Decimal(78), Decimal(1)),))
    made, _ = plan(held(USDT=100, BTC=1), book=crossed)
    assert made.side == "sell"
    with pytest.raises(InvalidOrderError, match="too far"):
        plan(held(USDT=100), book=dataclasses.replace(crossed, bids=((Decimal(130), Decimal(1)),)))
    with pytest.raises(InvalidOrderError, match="no price"):
        plan(held(USDT=100), book=the_book(asks=(), bids=(), last=None))


# -- the notebook -------------------------------------------------------------------------------------------------------


def test_a_run_that_reads_lets_nothing_out_that_changes_something():
    notebook = Notebook(FakeClock())
    with pytest.raises(NotSentError, match="only reads"):
        notebook.admit("nobitex /market/orders/add", reads=False)
    assert notebook.count == 0
    notebook.may_change = True
    notebook.admit("nobitex /market/orders/add", reads=False)
    assert notebook.count == 1


def test_a_run_that_reads_ends_at_its_number_of_requests():
    notebook = Notebook(FakeClock(), most=2)
    for _ in range(2):
        notebook.admit("x", reads=True)
    with pytest.raises(NotSentError, match="2 requests"):
        notebook.admit("x", reads=True)
    notebook.most = None
    notebook.admit("x", reads=True)


def test_of_a_profile_only_the_fees_are_kept_and_of_headers_only_what_is_asked_about():
    body = b'{"status":"ok","profile":{"email":"a@b.c","nationalCode":"1","options":{"fee":"0.2","tfa":true}}}'
    answer = Answer(status=200, headers={"Date": "x", "Set-Cookie": "secret"}, body=body, sent=0.0, received=0.0)
    path = "/users/profile?a=1"
    request = Request(
        method="GET", url="http://venue" + path, path=path, headers={"Authorization": "Token t"}, body=None
    )
    seen = _seen(request, answer, began=1.0, ended=2.0, label="")
    assert seen.payload == {"status": "ok", "profile": {"options": {"fee": "0.2", "feeUsdt": None}}}
    assert "secret" not in repr(seen) and "Token" not in repr(seen) and "a@b.c" not in repr(seen)
    assert seen.query == {"a": "1"} and seen.path == survey.PROFILE
    assert _kept({"Retry-After": "3", "X-RateLimit-Limit": "9", "Server": "x"}) == {
        "retry-after": "3",
        "x-ratelimit-limit": "9",
    }


@pytest.mark.parametrize("first", [0, 255])
def test_a_spoiled_signature_is_another_of_the_same_form(first):
    good = base64.urlsafe_b64encode(bytes([first]) * 64).decode()
    request = Request(method="GET", url="http://venue/", path="/", headers={"Nobitex-Signature": good}, body=None)
    _spoil(request)
    spoiled = request.headers["Nobitex-Signature"]
    assert spoiled != good and len(base64.b64decode(spoiled, altchars=b"-_", validate=True)) == 64


# -- the table ----------------------------------------------------------------------------------------------------------


def test_every_row_of_the_register_is_judged_once_also_when_nothing_came_back():
    findings = judge(facts())
    assert [finding.row for finding in findings] == list(range(1, 38)) == [number for number, *_ in ROWS]
    assert {finding.verdict for finding in findings} == {NOT_SEEN, NOT_ASKED}
    assert all(finding.observed for finding in findings)


def test_every_row_survives_answers_of_a_wrong_shape():
    shapes = [None, [], "x", 5, {}, {"status": "ok", "orders": 5, "trades": [5, {}], "order": 7, "wallets": [], "asks": 3,
              "bids": [], "profile": [], "nobitex": 3, "c": "x"}]  # fmt: skip
    paths = [survey.ADD, survey.STATUS, survey.LIST, survey.CANCEL, survey.FILLS, survey.WALLETS, survey.PROFILE,
             survey.OPTIONS, survey.BOOK + "BTCIRT", survey.CANDLES, survey.STATS]  # fmt: skip
    for shape in shapes:
        for http in (200, 404, 502, None):
            seen = [Seen(method="GET", path=path, status=http, payload=shape) for path in paths]
            for placed in (None, PLACED):
                for _, _, _, judgement in ROWS:
                    judgement(facts(*seen, placed=placed))


def test_an_answer_that_cannot_be_judged_matters_and_costs_no_other_row():
    found = judge(facts(listed(row(1), row(2), more=True), fills(fill(1, orderId="odd"))))
    assert found[6].matters and "ValueError" in found[6].observed
    assert found[29].matters and "order=-id" in found[29].observed


def test_what_the_exchange_writes_cannot_steer_a_terminal():
    found = judge(facts(listed(row(1, status="\x1b[31mEvil\n"))))[19]
    assert found.verdict == DIFFERS and found.matters and found.observed.isprintable()
    found = judge(facts(listed(row("7\x1b[2J"))))[7]
    assert found.verdict == AS_ASSUMED and "7 [2J" in found.evidence and found.evidence.isprintable()


def test_a_difference_matters_where_there_is_something_to_do():
    found = {
        finding.row: finding for finding in judge(facts(listed(row(1, clientOrderId="a_b"), row(1, status="Odd"))))
    }
    assert found[20].matters
    assert found[32].matters is False
