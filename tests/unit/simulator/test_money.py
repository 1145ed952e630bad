import decimal
from decimal import Decimal

import pytest

from hireliab.simulator import money


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "1_000", "۱۲", "", "  ", "abc", "1e99", "1e-99", "9" * 41, None, True, [], 1.5]
)
def test_what_is_not_a_sane_decimal_is_refused(text):
    assert money.parse(text) is None


@pytest.mark.parametrize(
    ("given", "text"),
    [("1E+3", "1000"), ("0E-10", "0"), ("0.600", "0.6"), (5, "5"), ("-0", "0"), (Decimal("1.50"), "1.5")],
)
def test_numbers_are_spelled_as_plain_digits(given, text):
    assert money.text(money.parse(given)) == text


def test_the_other_spelling_has_ten_decimals_and_an_odd_zero():
    assert money.ten_decimals(Decimal(3)) == "3.0000000000"
    assert money.ten_decimals(Decimal(0)) == "0E-10"


def test_amounts_are_floored_and_prices_rounded_half_even():
    assert money.floor_to(Decimal("0.0019"), Decimal("0.001")) == Decimal("0.001")
    assert money.round_to(Decimal(25), Decimal(10)) == 20
    assert money.round_to(Decimal(35), Decimal(10)) == 40


def test_arithmetic_ignores_the_ambient_context():
    with decimal.localcontext(decimal.Context(prec=2, traps=[])):
        assert money.mul(Decimal("123456.789"), Decimal("1000.001")) == Decimal("123456912.456789")
        assert money.add(Decimal(10**20), Decimal("0.0000000001")) == Decimal("100000000000000000000.0000000001")


def test_exact_arithmetic_refuses_to_round():
    with pytest.raises(decimal.Inexact):
        money.add(Decimal("1E+99"), Decimal("1E-99"))
