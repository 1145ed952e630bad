"""Exact money: what is taken, what is refused, and how it is written and snapped."""

from __future__ import annotations

import decimal
from decimal import Decimal

import pytest

from hireliab.core import config, money
from hireliab.errors import InvalidOrderError


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (0.001, "0.001"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e-7, "1e-7"),
        (5, "5"),
        ("1.50", "1.50"),
        (" 7 ", "7"),
        ("+.5", "0.5"),
        ("1e3", "1000"),
        (Decimal("1E-8"), "1E-8"),
    ],
)
def test_a_number_is_taken_as_its_writer_meant_it(given, meant):
    assert money.parse(given, what="amount") == Decimal(meant)


@pytest.mark.parametrize(
    "given",
    [True, None, "", "abc", "1_000", "۱۲", "1,5", "0x10", "NaN", "Infinity", float("nan"), float("inf"), Decimal("sNaN"),
     Decimal("-Infinity"), [], b"1", "1" * 29, "9" * 60, 10**29, 10**5000, "1e-40", 1e300, "1\n", "\u22125"],
    ids=lambda value: config.shown(value, 30),
)  # fmt: skip
def test_what_is_no_sane_number_is_refused_by_name(given):
    with pytest.raises(InvalidOrderError, match="^amount: ") as caught:
        money.parse(given, what="amount")
    assert caught.value.by == "hireliab"


def test_a_float_of_a_class_of_its_own_is_the_number_that_it_is():
    class Numpys(float):
        def __repr__(self):
            return f"np.float64({float(self)!r})"

    assert money.parse(Numpys(0.1), what="amount") == Decimal("0.1")


@pytest.mark.parametrize("given", [0, -1, "0.0", "-0.001", 0.0, -0.0])
def test_zero_and_less_are_not_positive(given):
    with pytest.raises(InvalidOrderError):
        money.positive(given, what="price")


@pytest.mark.parametrize(
    ("number", "plain"),
    [
        ("1E+3", "1000"),
        ("1E-8", "0.00000001"),
        ("0E-10", "0"),
        ("-0", "0"),
        ("1.500", "1.5"),
        ("100", "100"),
        ("-2.50", "-2.5"),
    ],
)
def test_text_is_plain_digits(number, plain):
    assert money.text(Decimal(number)) == plain


@pytest.mark.parametrize(
    ("number", "step", "down", "nearest", "up"),
    [
        ("1.2345", "0.01", "1.23", "1.23", "1.24"),
        ("1.235", "0.01", "1.23", "1.24", "1.24"),
        ("1.245", "0.01", "1.24", "1.24", "1.25"),
        ("1.23", "0.01", "1.23", "1.23", "1.23"),
        ("0.30000000000000004", "0.1", "0.3", "0.3", "0.3"),
        ("0.29999999999999998", "0.1", "0.3", "0.3", "0.3"),
        ("12345", "10", "12340", "12340", "12350"),
        ("12355", "10", "12350", "12360", "12360"),
        ("0.0000004", "0.000001", "0", "0", "0.000001"),
        ("7.25", "0.25", "7.25", "7.25", "7.25"),
        ("99999999.9999999", "0.000001", "99999999.999999", "100000000", "100000000"),
    ],
)
def test_snapping_to_a_step(number, step, down, nearest, up):
    number, step = Decimal(number), Decimal(step)
    assert money.snap_down(number, step) == Decimal(down)
    assert money.snap_nearest(number, step) == Decimal(nearest)
    assert money.snap_up(number, step) == Decimal(up)


def test_arithmetic_ignores_the_ambient_context():
    with decimal.localcontext() as context:
        context.prec = 2
        context.rounding = decimal.ROUND_UP
        big, small = Decimal("123456789.123456789"), Decimal("0.000000001")
        assert money.add(big, small) == Decimal("123456789.123456790")
        assert money.total([big, big, small]) == Decimal("246913578.246913579")
        assert money.subtract(big, small) == Decimal("123456789.123456788")
        assert money.multiply(big, Decimal(2)) == Decimal("246913578.246913578")
        assert str(money.divide(Decimal(1), Decimal(3))) == "0." + "3" * 60
        assert money.snap_down(big, small) == big
        assert money.text(big) == "123456789.123456789"


def test_what_cannot_be_exact_raises_instead_of_rounding():
    with pytest.raises(decimal.Inexact):
        money.multiply(Decimal("1." + "1" * 40), Decimal("1." + "1" * 40))
