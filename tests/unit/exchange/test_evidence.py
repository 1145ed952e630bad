"""What reads prove."""

import dataclasses
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.exchange import evidence
from hireliab.exchange.adapter import Fill, Order, OrderState, OrderStatus
from hireliab.exchange.transaction import Proof, Record, State

ORDER = Order(
    symbol="BTC/USDT", side="buy", type="limit", amount=Decimal(10), price=Decimal(5), client_order_id="abcde-1"
)
RECORD = Record(txn_id="T1", order=ORDER, state=State.RESOLVING, baseline="100", commit="accepted")


def shown(order_id="101", status=OrderStatus.ACTIVE, **changes):
    base = OrderState(
        order_id=order_id,
        symbol="BTC/USDT",
        side="buy",
        type="limit",
        amount=Decimal(10),
        filled=Decimal(0),
        status=status,
        client_order_id="abcde-1",
        price=Decimal(5),
    )
    return dataclasses.replace(base, **changes)


def find(*orders, fills=(), bound=()):
    return evidence.search(RECORD, orders, fills, is_bound=lambda order_id: order_id in bound)


@pytest.mark.parametrize(
    ("status", "filled", "row"),
    [
        (OrderStatus.DONE, 10, ("T11", Proof.FILLED)),
        (OrderStatus.DONE, 9, None),
        (OrderStatus.CANCELED, 10, ("T11", Proof.FILLED)),
        (OrderStatus.CANCELED, 3, ("T11b", Proof.PARTIAL)),
        (OrderStatus.CANCELED, 0, ("T12b", Proof.CLOSED_UNFILLED)),
        (OrderStatus.REJECTED, 0, ("T12", Proof.REJECTED)),
        (OrderStatus.REJECTED, 3, ("T11b", Proof.PARTIAL)),
        (OrderStatus.ACTIVE, 0, ("T11", Proof.LIVE)),
        (OrderStatus.ACTIVE, 3, ("T11", Proof.LIVE)),
        (OrderStatus.INACTIVE, 0, ("T11", Proof.LIVE)),
        (OrderStatus.NEW, 0, None),
        (OrderStatus.OTHER, 0, None),
    ],
)
def test_what_a_read_of_our_order_means(status, filled, row):
    step = evidence.settle(RECORD, shown(status=status, filled=Decimal(filled)))
    assert (step and (step.row, step.proof)) == row


@pytest.mark.parametrize("status", [OrderStatus.ACTIVE, OrderStatus.INACTIVE, OrderStatus.NEW])
def test_a_live_order_does_not_fulfil_a_rule_that_wants_it_filled(status):
    assert evidence.settle(dataclasses.replace(RECORD, commit="filled"), shown(status=status)) is None


@pytest.mark.parametrize(
    ("status", "filled", "row"),
    [
        (OrderStatus.CANCELED, 0, "T19"),
        (OrderStatus.CANCELED, 3, "T21"),
        (OrderStatus.DONE, 10, "T20"),
        (OrderStatus.ACTIVE, 0, None),
    ],
)
def test_what_a_read_means_for_a_cancel(status, filled, row):
    step = evidence.settle_cancel(RECORD, shown(status=status, filled=Decimal(filled)))
    assert (step and step.row) == row


def test_our_client_order_id_is_decisive():
    assert [o.order_id for o in find(shown()).ours] == ["101"]


def test_orders_from_before_the_send_are_not_ours():
    assert find(shown("100"), shown("99", client_order_id=None)) == evidence.Finding((), (), ())


def test_somebody_elses_client_order_id_is_nobody():
    assert find(shown(client_order_id="stranger")) == evidence.Finding((), (), ())


def test_a_like_order_without_an_id_is_a_candidate_only():
    finding = find(shown(client_order_id=None))
    assert (finding.ours, [o.order_id for o in finding.candidates]) == ((), ["101"])


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "ETH/USDT"},
        {"side": "sell"},
        {"type": "market"},
        {"amount": Decimal("10.1")},
        {"price": Decimal("5.1")},
    ],
)
def test_an_unlike_order_is_no_candidate(change):
    assert find(shown(client_order_id=None, **change)).candidates == ()


def test_an_order_whose_market_cannot_be_told_may_be_ours():
    nowhere = shown(client_order_id=None, symbol="")
    assert find(nowhere).candidates == (nowhere,)
    assert evidence.has_fields_of(ORDER, shown(symbol=""))
    assert not evidence.has_fields_of(ORDER, shown(symbol="", side="sell"))


def test_an_order_of_another_transaction_is_no_candidate():
    assert find(shown(client_order_id=None), bound={"101"}).candidates == ()


def fill(order_id="105", **changes):
    base = Fill(
        trade_id="1",
        order_id=order_id,
        symbol="BTC/USDT",
        side="buy",
        amount=Decimal(1),
        price=Decimal(5),
        fee=Decimal(0),
        time=1.0,
    )
    return dataclasses.replace(base, **changes)


def test_a_fill_of_an_order_that_is_not_listed_is_a_lead():
    assert find(fills=[fill()]).leads == ("105",)
    assert find(shown("105", client_order_id="stranger"), fills=[fill()]).leads == ()
    assert find(fills=[fill("99"), fill("106", side="sell"), fill(None)]).leads == ()
    assert find(fills=[fill()], bound={"105"}).leads == ()
    assert find(fills=[fill(symbol="")]).leads == ("105",)
    assert find(fills=[fill(symbol="ETH/USDT")]).leads == ()


def test_absence_takes_three_listings_after_the_fence_over_the_window():
    proof = evidence.AbsenceProof(fence=100.0, window=5.0)
    assert not proof.negative(started=99.9, canary_shown=True)
    assert not proof.negative(started=100.0, canary_shown=True)
    assert not proof.negative(started=101.0, canary_shown=True)
    assert not proof.negative(started=102.0, canary_shown=True)
    assert proof.negative(started=105.0, canary_shown=True)


def test_a_candidate_starts_the_count_again():
    proof = evidence.AbsenceProof(fence=0.0, window=0.0)
    proof.negative(started=1.0, canary_shown=True)
    proof.negative(started=2.0, canary_shown=True)
    proof.restart()
    assert not proof.negative(started=3.0, canary_shown=True)


def test_a_listing_without_the_canary_counts_nothing():
    proof = evidence.AbsenceProof(fence=0.0, window=0.0)
    assert not any(proof.negative(started=float(n), canary_shown=False) for n in range(100))


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.booleans()), max_size=12), st.floats(0, 30), st.floats(0, 10))
def test_absence_never_comes_early(listings, fence, window):
    proof = evidence.AbsenceProof(fence=fence, window=window)
    good = []
    for started, canary in sorted(listings):
        if started >= fence and canary:
            good.append(started)
        if proof.negative(started=started, canary_shown=canary):
            assert len(good) >= 3
            assert good[-1] - good[0] >= window
