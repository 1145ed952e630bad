"""
Decimal arithmetic that does not depend on the caller's decimal context.

`add`, `sub` and `mul` are exact: a result that would need rounding raises, so that balances
conserve by construction. Rounding happens only where a function's name says so.
"""

from __future__ import annotations

from decimal import (
    ROUND_DOWN,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)

ZERO = Decimal(0)
ONE = Decimal(1)

_EXACT = Context(prec=100, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact])
_ROUNDED = Context(prec=50, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
_TEN_PLACES = Decimal("1E-10")
_MILLIONTH = Decimal("0.000001")

# Longer numbers are not money, and would overflow the exact context further down.
_MAX_TEXT = 40
_MAX_EXPONENT = 20
_MIN_EXPONENT = -30

add = _EXACT.add
sub = _EXACT.subtract
mul = _EXACT.multiply


def div(a: Decimal, b: Decimal) -> Decimal:
    """The quotient to 50 digits; for averages and percentages only."""
    return _ROUNDED.divide(a, b)


def millionths(n: int) -> Decimal:
    """The fraction n / 1 000 000, exactly."""
    return _EXACT.multiply(Decimal(n), _MILLIONTH)


def parse(value: object) -> Decimal | None:
    """
    Take a monetary input: plain text, exponent text, or a JSON number.

    Returns:
        The number, or None for anything that is not a finite decimal of sane length. Digits
        other than 0-9 and underscores, which Decimal itself would take, are refused.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)):
        value = str(value)
    if not isinstance(value, str):
        return None
    value = value.strip()
    if not value.isascii() or "_" in value or not 0 < len(value) <= _MAX_TEXT:
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < _MIN_EXPONENT:
        return None
    if number and number.adjusted() > _MAX_EXPONENT:
        return None
    return number


def text(value: Decimal) -> str:
    """Plain digits without exponent and without trailing zeros: ``0.6``, ``520000000``, ``0``."""
    plain = format(value, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in {"-0", ""} else plain


def ten_decimals(value: Decimal) -> str:
    """The exchange's other spelling: ``3.0000000000``, and ``0E-10`` for zero."""
    return str(value.quantize(_TEN_PLACES, context=_ROUNDED))


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` that is not above a positive `value`."""
    return mul(_ROUNDED.divide_int(value, step), step)


def round_to(value: Decimal, step: Decimal) -> Decimal:
    """The nearest multiple of `step`, ties to even."""
    return mul(_ROUNDED.divide(value, step).quantize(ONE, ROUND_HALF_EVEN, _ROUNDED), step)


def fee_of(value: Decimal, rate: Decimal) -> Decimal:
    """A fee, cut to ten decimals."""
    return mul(value, rate).quantize(_TEN_PLACES, ROUND_DOWN, _ROUNDED)
