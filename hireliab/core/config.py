"""
Settings: a dictionary, a config object or nothing becomes one frozen, checked dataclass.

Each part has a ``@dataclass(frozen=True, kw_only=True)`` whose ``__post_init__`` checks its ranges with the
functions below. Every complaint is a ConfigError that names the setting, the value and the allowed range.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from hireliab.errors import ConfigError

T = TypeVar("T")

_LAZY = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def load(cls: type[T], given: T | Mapping[str, Any] | None, *, where: str) -> T:
    """
    Make a config of class `cls`.

    Args:
        cls: A frozen dataclass.
        given: An instance (returned as it is), a mapping of its settings, or None for the defaults.
        where: Who asks, for the error's text, such as "connection pool 'main'".

    Raises:
        ConfigError: An unknown key (with the near miss), a missing key, or a value out of its range.
    """
    if isinstance(given, cls):
        return given
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{where}: config must be a mapping, a {cls.__name__} or None, got {type(given).__name__}",
            setting="config",
            allowed=f"mapping, {cls.__name__} or None",
        )
    fields = {field.name: field for field in dataclasses.fields(cast("Any", cls)) if field.init}
    refuse_unknown(given, fields, where=where)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise ConfigError(f"{where}: {name} is missing; it has no default", setting=name)
    try:
        return cls(**given)
    except ConfigError as error:
        # The dataclass does not know its owner's name; the reader needs it.
        raise ConfigError(
            f"{where}: {error}",
            setting=error.setting,
            value=error.value,
            allowed=error.allowed,
            near_miss=error.near_miss,
        ) from None


def refuse_unknown(given: Iterable[str], known: Iterable[str], *, where: str) -> None:
    """Raise a ConfigError for the first key that is not known, with the nearest known one."""
    known = list(known)
    for key in given:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(sorted(known))}"
        raise ConfigError(
            f"{where}: no setting {key!r}; {hint}",
            setting=str(key),
            allowed=", ".join(sorted(known)),
            near_miss=near[0] if near else None,
        )


def _range(low: float | None, high: float | None, above: float | None) -> str:
    if above is not None:
        return f"more than {above:g}" + ("" if high is None else f" and at most {high:g}")
    if low is not None and high is not None:
        return f"from {low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    return "any" if high is None else f"at most {high:g}"


def _within(value: float, low: float | None, high: float | None, above: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high) and (above is None or value > above)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float; what it would be multiplied with is one
        return False


def shown(value: object, most: int = 80) -> str:
    """A value for an error's text, cut off; also one whose repr raises, such as a number of 5000 digits."""
    try:
        return repr(value)[:most]
    except Exception:
        return f"{type(value).__name__} that cannot be shown"


def number(
    name: str, value: object, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> float:
    """A finite number in its range, as float; a bool or a text is refused."""
    allowed = f"a number, {_range(low, high, above)}"
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not _is_finite(value)
        or not _within(value, low, high, above)
    ):
        raise ConfigError(f"{name} must be {allowed}, got {shown(value)}", setting=name, value=value, allowed=allowed)
    return float(value)


def number_or_none(
    name: str, value: object, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> float | None:
    """Like `number`, and None means "no limit"."""
    return None if value is None else number(name, value, low=low, high=high, above=above)


def whole(name: str, value: object, *, low: int | None = None, high: int | None = None) -> int:
    """A whole number in its range; a bool, a float with a fraction or a text is refused."""
    allowed = f"a whole number, {_range(low, high, None)}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not _is_finite(value)
        or not _within(value, low, high, None)
    ):
        raise ConfigError(f"{name} must be {allowed}, got {shown(value)}", setting=name, value=value, allowed=allowed)
    return value


def choice(name: str, value: object, choices: Iterable[str]) -> str:
    """One of the given words."""
    words = list(choices)
    if not isinstance(value, str) or value not in words:
        near = difflib.get_close_matches(value[:80] if isinstance(value, str) else "", words, n=1)
        allowed = ", ".join(words)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"{name} must be one of {allowed}, got {shown(value)}{hint}",
            setting=name,
            value=value,
            allowed=allowed,
            near_miss=near[0] if near else None,
        )
    return value


def flag(name: str, value: object) -> bool:
    """True or False, nothing else: the text "false" is true in Python."""
    if not isinstance(value, bool):
        raise ConfigError(
            f"{name} must be True or False, got {shown(value)}", setting=name, value=value, allowed="True or False"
        )
    return value


def text(name: str, value: object, *, most: int = 200) -> str:
    """A text that is not empty, printable and at most `most` characters long."""
    allowed = f"a printable text of 1 to {most} characters"
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise ConfigError(f"{name} must be {allowed}, got {shown(value)}", setting=name, value=value, allowed=allowed)
    return value


def blocking_function(where: str, func: Any) -> None:
    """
    Refuse what does not do its work when it is called: generator and async functions, and what cannot be called.

    Args:
        where: Who asks, such as "retry".
        func: Any callable; a partial, a method or an object with ``__call__`` is looked through.
    """
    code = getattr(func, "__code__", None)
    if code is not None and not code.co_flags & _LAZY:
        return  # a plain function or method, the common case, in little time
    if not callable(func):
        raise ConfigError(
            f"{where}: func must be a function or method, got {shown(func)}",
            setting="func",
            allowed="a blocking function",
        )
    called = getattr(type(func), "__call__", None)  # noqa: B004  # the method itself, not whether there is one
    for candidate in (func, called):
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            kind = "an async function"
        elif inspect.isgeneratorfunction(candidate):
            kind = "a generator function"
        else:
            continue
        name = getattr(func, "__qualname__", None) or type(func).__qualname__
        raise ConfigError(
            f"{where}: {name} is {kind}, its work would run after the call and unguarded; guard the blocking call"
            " inside it",
            setting="func",
            allowed="a blocking function",
        )


def decorable(where: str, func: Any) -> None:
    """Like `blocking_function`, and a class is refused too: decorated, it would be a class no more."""
    if isinstance(func, type):
        raise ConfigError(
            f"{where}: func must be a function or method, got the class {func.__qualname__}; decorate its methods",
            setting="func",
            allowed="a function or method",
        )
    blocking_function(where, func)
