"""The demo's last table: a tampered truth, or a tampered belief, is a difference."""

from dataclasses import replace
from decimal import Decimal

import pytest

from hireliab import Verdict
from hireliab.examples._demo_books import Belief, compare, table
from hireliab.examples._demo_screen import Screen
from hireliab.examples.high_reliability_demo import conclude

D = Decimal
BOUGHT = Belief(
    label="market buy 0.01 BTC",
    client_order_id="abcde-1",
    verdict=Verdict.COMPLETED,
    order_id="7",
    status="Done",
    filled=D("0.01"),
    average_price=D("98000"),
    fee=D("0.00002"),
    attempts=1,
)
NOT_SENT = Belief(
    label="market buy 0.02 BTC",
    client_order_id="abcde-2",
    verdict=Verdict.NOT_SENT,
    order_id=None,
    status="",
    filled=D(0),
    average_price=D(0),
    fee=D(0),
    attempts=0,
)


def request(client_order_id="abcde-1", **changes):
    return {
        "kind": "request", "account": "user", "path": "/market/orders/add", "client_order_id": client_order_id,
    } | changes  # fmt: skip


def order(**changes):
    return {
        "kind": "order", "account": "user", "id": 7, "client_order_id": "abcde-1", "execution": "market", "side": "buy",
        "market": "BTCUSDT", "amount": "0.010000", "matched": "0.010000", "average_price": "98000.00", "fee": "0.00002",
        "status": "Done",
    } | changes  # fmt: skip


TRUTH = [request(), order(status="Active", matched="0", average_price="0", fee="0"), order()]


def only(belief, records):
    (row,) = compare([belief], records, account="user")
    return row


def test_a_belief_that_the_truth_bears_out_has_no_difference():
    row = only(BOUGHT, TRUTH)
    assert row.differences == ()
    assert row.received == 1


def test_an_order_that_never_left_agrees_with_an_empty_truth():
    assert only(NOT_SENT, []).differences == ()


@pytest.mark.parametrize(
    "change",
    [
        {"status": "Canceled"},
        {"matched": "0.004"},
        {"average_price": "98001"},
        {"fee": "0.00003"},
        {"id": 8},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_tampered_order_is_a_difference(change):
    tampered = [record | change if record["kind"] == "order" else record for record in TRUTH]
    assert only(BOUGHT, tampered).differences


def test_a_stale_status_is_a_difference_even_when_the_amounts_agree():
    assert only(replace(BOUGHT, status="Active"), TRUTH).differences == ("status: believed Active, is Done",)


def test_only_the_last_version_of_an_order_counts():
    assert only(BOUGHT, [*TRUTH, order(status="Canceled")]).differences


def test_a_second_order_under_the_same_client_id_is_a_difference():
    row = only(BOUGHT, [*TRUTH, order(id=8)])
    assert row.differences == ("1 orders believed, 2 exist",)
    assert len(row.orders) == 2


def test_an_order_that_was_believed_and_does_not_exist_is_a_difference():
    assert only(BOUGHT, [request()]).differences == ("1 orders believed, 0 exist",)


def test_an_order_that_was_believed_unsent_and_exists_is_a_difference():
    records = [order(client_order_id="abcde-2")]
    assert only(NOT_SENT, records).differences == ("0 orders believed, 1 exist",)


def test_more_requests_than_sends_is_a_difference_even_when_one_order_exists():
    assert only(BOUGHT, [request(), *TRUTH]).differences == ("sent 1 times at most, but 2 requests arrived",)


def test_requests_to_other_endpoints_are_not_sends():
    assert only(BOUGHT, [request(path="/market/orders/status"), *TRUTH]).received == 1


def test_unknown_is_a_difference_at_the_end():
    belief = replace(BOUGHT, verdict=Verdict.UNKNOWN)
    assert only(belief, TRUTH).differences == ("the bot does not know",)


def test_an_order_that_the_bot_does_not_know_gets_a_row_of_its_own():
    rows = compare([BOUGHT], [*TRUTH, order(id=9, client_order_id="abcde-9")], account="user")
    assert [bool(row.differences) for row in rows] == [False, True]
    assert rows[1].belief is None
    assert "market buy 0.010000 BTCUSDT" in table(rows)[-2]


def test_orders_of_other_accounts_are_no_business_of_ours():
    assert len(compare([BOUGHT], [*TRUTH, order(id=9, account="house", client_order_id="x")], account="user")) == 1


def test_partial_needs_a_closed_order_that_is_filled_in_part():
    belief = replace(BOUGHT, verdict=Verdict.PARTIAL, status="Canceled", filled=D("0.004"))
    partial = order(status="Canceled", matched="0.004")
    assert only(belief, [request(), partial]).differences == ()
    resting = replace(belief, status="Active")
    assert only(resting, [request(), partial | {"status": "Active"}]).differences


def test_completed_needs_a_live_or_full_order_unless_the_bot_cancelled_it():
    closed = replace(BOUGHT, status="Canceled", filled=D(0), average_price=D(0), fee=D(0))
    records = [request(), order(status="Canceled", matched="0", average_price="0", fee="0")]
    assert only(closed, records).differences
    assert only(replace(closed, cancelled=True), records).differences == ()


def test_the_exit_code_is_1_when_a_row_differs_and_0_otherwise(capsys):
    rows = compare([BOUGHT, NOT_SENT], TRUTH, account="user")
    assert conclude(Screen(), rows) == 0
    assert "All 2 rows agree" in capsys.readouterr().out
    tampered = compare([BOUGHT, NOT_SENT], [*TRUTH, order(matched="0.02")], account="user")
    assert conclude(Screen(), tampered) == 1
    printed = capsys.readouterr().out
    assert "1 of 2 rows differ." in printed
    assert "filled: believed 0.01, is 0.02" in printed
    assert "agree" not in printed


def test_the_table_is_aligned_and_ends_each_row_with_its_verdict():
    lines = table(compare([BOUGHT, NOT_SENT], TRUTH, account="user"))
    assert [line.split()[-1] for line in lines[3:]] == ["yes", "yes"]
    assert len({line.index("yes") for line in lines[3:]}) == 1
