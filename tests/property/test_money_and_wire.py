"""No float, and no ambient decimal context, ever reaches the wire."""

from __future__ import annotations

import decimal
import json
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.core import money
from hireliab.errors import InvalidOrderError
from hireliab.exchange.adapter import Order
from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.testing import FakeClock
from tests.support.scripted_nobitex import TOKEN, Script, order_row, scripted_client, scripted_pool

CHECK = settings(derandomize=True, max_examples=150, deadline=None)
PLAIN = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")

numbers = st.decimals(min_value=Decimal("1e-8"), max_value=Decimal("1e12"), places=8)
steps = st.sampled_from([Decimal(step) for step in ("1e-8", "0.000001", "0.01", "0.25", "1", "10", "1000")])


@pytest.fixture(autouse=True, scope="module")
def poor_context():
    """The bot's own decimal context: five digits, rounding the wrong way."""
    with decimal.localcontext() as context:
        context.prec = 5
        context.rounding = decimal.ROUND_UP
        yield


def test_the_ambient_context_is_really_poor():
    assert Decimal(1) / Decimal(3) == Decimal("0.33334")


@CHECK
@given(numbers)
def test_text_is_plain_and_reads_back_as_the_same_number(number):
    text = money.text(number)
    assert PLAIN.fullmatch(text)
    assert Fraction(text) == Fraction(number)


@CHECK
@given(st.floats(min_value=1e-8, max_value=1e12))
def test_a_float_is_the_decimal_that_it_prints_as(number):
    assert Fraction(money.parse(number, what="x")) == Fraction(repr(number))


@CHECK
@given(numbers, steps)
def test_snapping_stays_on_the_step_and_near_the_number(number, step):
    down, nearest, up = (snap(number, step) for snap in (money.snap_down, money.snap_nearest, money.snap_up))
    for snapped in (down, nearest, up):
        assert (Fraction(snapped) / Fraction(step)).denominator == 1
    assert abs(Fraction(nearest) - Fraction(number)) <= Fraction(step) / 2
    slack = Fraction(step) / 1000  # what undoes binary floating point
    assert Fraction(number) - Fraction(step) < Fraction(down) <= Fraction(number) + slack
    assert Fraction(number) - slack <= Fraction(up) < Fraction(number) + Fraction(step)


@CHECK
@given(st.integers(min_value=1, max_value=10**9), steps)
def test_a_float_that_means_a_step_snaps_to_it(count, step):
    exact = Fraction(step) * count
    for number in (float(exact), float(exact) * (1 + 2**-52), float(exact) * (1 - 2**-53)):
        assert Fraction(money.snap_down(money.parse(number, what="x"), step)) == exact


@CHECK
@given(st.lists(numbers, max_size=20))
def test_sums_are_exact(many):
    assert Fraction(money.total(many)) == sum(map(Fraction, many))


def bench() -> tuple[Script, EnhancedNobitexAdapter]:
    clock = FakeClock()
    script = Script(clock)
    adapter = EnhancedNobitexAdapter(token=TOKEN, connection_pool=scripted_pool(script), rate_limits="off", clock=clock)

    def echo(sent):
        body = json.loads(sent.body)
        return {"status": "ok", "order": order_row(amount=body["amount"], type=body["type"])}

    script.answers["/market/orders/add"] = echo
    return script, adapter


SCRIPT, ADAPTER = bench()


@CHECK
@given(
    amount=st.one_of(numbers, st.floats(min_value=1e-6, max_value=1e6)),
    price=st.one_of(st.decimals(min_value=1, max_value=10**7, places=5), st.floats(min_value=1, max_value=1e7)),
    side=st.sampled_from(["buy", "sell"]),
)
def test_the_bytes_of_an_order_are_exactly_the_quantised_numbers(amount, price, side):
    order = Order(symbol="BTC/USDT", side=side, type="limit", amount=amount, price=price, client_order_id="a1")
    SCRIPT.requests.clear()
    try:
        prepared = ADAPTER.prepare(order)
    except InvalidOrderError:
        assert not SCRIPT.bodies("/market/orders/add")
        return
    prepared.submit(lambda: None)
    ready = prepared.order
    body = SCRIPT.bodies("/market/orders/add")[0]
    assert body == (
        f'{{"type":"{side}","srcCurrency":"btc","dstCurrency":"usdt","amount":"{money.text(ready.amount)}",'
        f'"clientOrderId":"a1","execution":"limit","price":"{money.text(ready.price)}"}}'
    ).encode("ascii")
    sent = json.loads(body)
    for name, given_number, step in (("amount", amount, "0.000001"), ("price", price, "0.01")):
        assert PLAIN.fullmatch(sent[name])
        steps_sent = Fraction(sent[name]) / Fraction(step)
        assert steps_sent.denominator == 1
        assert abs(
            Fraction(sent[name]) - Fraction(repr(given_number) if isinstance(given_number, float) else given_number)
        ) < (Fraction(step) * Fraction(1001, 1000))


@CHECK
@given(number=st.one_of(numbers, st.floats(min_value=1e-6, max_value=1e12), st.integers(1, 10**15)))
def test_the_client_alone_writes_what_it_was_given_digit_by_digit(number):
    script = Script(FakeClock())
    script.answers["/market/orders/add"] = {"status": "ok", "order": order_row()}
    client = scripted_client(script, token=TOKEN)
    client.place_limit(symbol="BTC/USDT", side="buy", amount=number, price=number)
    sent = json.loads(script.requests[0].body)
    meant = Fraction(repr(number) if isinstance(number, float) else number)
    assert Fraction(sent["amount"]) == Fraction(sent["price"]) == meant
    assert PLAIN.fullmatch(sent["amount"])
