"""
Exact money: Decimal in, plain text out, in a decimal context of our own.

The ambient decimal context belongs to the user and may have any precision, so no operator of Decimal that rounds
(``+ - * /``, unary minus, ``abs``, ``sum``) is used on money anywhere in hireliab: the functions here are.
Comparisons and `Decimal(text)` are exact in Python whatever the context is.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable
from decimal import Decimal

from hireliab.core import config
from hireliab.errors import InvalidOrderError

# 60 digits hold the product of two 28-digit numbers; Inexact raises wherever exactness is promised.
_EXACT = decimal.Context(
    prec=60,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-200,
    Emax=200,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Inexact],
)
_ROUNDING = _EXACT.copy()
_ROUNDING.traps[decimal.Inexact] = False

_SNAP_CAP = Decimal("1e-3")

# ASCII only: \d and Decimal() take Persian and other digits, and Decimal() takes underscores.
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
MAX_DIGITS = 28
"""Most significant digits of an amount or a price that a user may give."""

ZERO = Decimal(0)
SNAP_TOLERANCE = Decimal("1e-9")
"""A float this near to a step (relative) is meant to be on it: 0.1 + 0.2 means 0.3. ARCHITECTURE.md section 3."""


def parse(value: object, *, what: str) -> Decimal:
    """
    Take a number as its writer meant it.

    Args:
        value: Decimal, int, text in ASCII digits, or float (taken as the decimal it prints as).
        what: The field's name, for the error.

    Raises:
        InvalidOrderError: Not a finite number, or more than 28 significant digits. Nothing was sent.
    """
    if isinstance(value, bool):
        raise _invalid(what, value, "a number")
    if isinstance(value, float):
        value = float.__repr__(value)  # not its class's own: numpy's says np.float64(0.1)
    if isinstance(value, int):
        number = Decimal(value)
    elif isinstance(value, Decimal):
        number = value
    elif isinstance(value, str) and len(value) <= 2 * MAX_DIGITS and _NUMBER.fullmatch(value.strip(" ")):
        number = Decimal(value.strip(" "))
    else:
        raise _invalid(what, value, "a finite number in ASCII digits")
    if not number.is_finite():
        raise _invalid(what, value, "a finite number")
    digits = number.as_tuple().digits
    if len(digits) > MAX_DIGITS or not -MAX_DIGITS <= number.adjusted() <= MAX_DIGITS:
        raise _invalid(what, value, f"a number of at most {MAX_DIGITS} digits")
    return number


def positive(value: object, *, what: str) -> Decimal:
    """Like `parse`, and more than zero."""
    number = parse(value, what=what)
    if number <= ZERO:
        raise _invalid(what, value, "a number more than 0")
    return number


def _invalid(what: str, value: object, allowed: str) -> InvalidOrderError:
    return InvalidOrderError(f"{what}: must be {allowed}, got {config.shown(value, 60)}", by="hireliab")


def text(number: Decimal) -> str:
    """Plain digits without exponent or trailing zeros: the only form that reaches the wire and the journal."""
    if number == ZERO:
        return "0"
    plain = format(number, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def add(*numbers: Decimal) -> Decimal:
    """The exact sum."""
    return total(numbers)


def total(numbers: Iterable[Decimal]) -> Decimal:
    """The exact sum of many."""
    result = ZERO
    for number in numbers:
        result = _EXACT.add(result, number)
    return result


def subtract(a: Decimal, b: Decimal) -> Decimal:
    """Exactly a - b."""
    return _EXACT.subtract(a, b)


def multiply(a: Decimal, b: Decimal) -> Decimal:
    """Exactly a * b."""
    return _EXACT.multiply(a, b)


def divide(a: Decimal, b: Decimal) -> Decimal:
    """The quotient to 60 digits; for averages and ratios, never for an amount that is sent."""
    return _ROUNDING.divide(a, b)


def snap_down(number: Decimal, step: Decimal) -> Decimal:
    """
    The nearest multiple of `step` when `number` is within 1e-9 (relative) of it, else the next one below.

    Source: the first half undoes binary floating point (ARCHITECTURE.md section 3); the second is what Nobitex
    does with excess digits of an amount (nobitex-api.md 8.1).
    """
    return _snap(number, step, decimal.ROUND_FLOOR)


def snap_nearest(number: Decimal, step: Decimal) -> Decimal:
    """The nearest multiple of `step`, half to even: what Nobitex does with a price (nobitex-api.md 8.1)."""
    return _snap(number, step, decimal.ROUND_HALF_EVEN)


def snap_up(number: Decimal, step: Decimal) -> Decimal:
    """The nearest multiple of `step` within 1e-9, else the next one above."""
    return _snap(number, step, decimal.ROUND_CEILING)


def _snap(number: Decimal, step: Decimal, rounding: str) -> Decimal:
    steps = _ROUNDING.divide(number, step)
    nearest = steps.to_integral_value(decimal.ROUND_HALF_EVEN, context=_ROUNDING)
    distance = _ROUNDING.abs(_ROUNDING.subtract(steps, nearest))
    # The cap keeps "near" below a thousandth of a step where a number has more than a million of them: without it
    # every such number would round to the nearest step, that is, half of them up.
    near = _ROUNDING.multiply(SNAP_TOLERANCE, _ROUNDING.max(_ROUNDING.abs(steps), Decimal(1)))
    if distance > _ROUNDING.min(near, _SNAP_CAP):
        nearest = steps.to_integral_value(rounding, context=_ROUNDING)
    return _EXACT.multiply(nearest, step)
