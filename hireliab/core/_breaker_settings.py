"""What a circuit breaker is told: its settings under both spellings, and the rule that judges an outcome. Pure."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from hireliab.core import config
from hireliab.core._gate import Outcome
from hireliab.core.clock import Clock
from hireliab.errors import ConfigError, ConnectError, NotSentError, RefusedError

_MOST_ERROR_TEXT = 200


Listener: TypeAlias = Any
"""A callable that takes a `CircuitEvent`, or a pybreaker listener (which only circuit_breaker.py may name)."""

Exclusion: TypeAlias = type | Callable[[Any], object]


class _Default(int):
    """A default that can be told from the same number given by the caller."""


FAILURE_THRESHOLD = _Default(5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings under hireliab's names, checked."""

    name: str
    failure_threshold: int
    reset_timeout: float
    half_open_max_requests: int
    success_threshold: int
    clock: Clock
    is_failure: Callable[[Exception], bool | None] | None
    exclude: tuple[Exclusion, ...]
    listeners: tuple[Listener, ...]

    def __post_init__(self) -> None:
        config.text("name", self.name)
        config.whole("failure_threshold", self.failure_threshold, low=1)
        config.number("reset_timeout", self.reset_timeout, low=0)
        config.whole("half_open_max_requests", self.half_open_max_requests, low=1, high=1000)
        config.whole("success_threshold", self.success_threshold, low=1, high=1000)
        if self.is_failure is not None and not callable(self.is_failure):
            raise not_allowed("is_failure", self.is_failure, "a callable that takes the exception, or None")
        for entry in self.exclude:
            if not callable(entry):
                raise not_allowed("exclude", entry, "exception types and callables")
        for listener in self.listeners:
            if not callable(listener) and not hasattr(listener, "state_change"):
                raise not_allowed("listeners", listener, "callables and pybreaker listeners")


def load_settings(where: str, values: dict[str, Any], pybreaker_names: dict[str, Any]) -> Settings:
    """
    Check all settings and return them under hireliab's names.

    Args:
        where: Names the breaker in an error.
        values: hireliab's settings.
        pybreaker_names: The caller's other keywords: pybreaker's names, or mistakes.

    Raises:
        ConfigError: A setting is unknown, out of range, or given under both of its names.
    """
    config.refuse_unknown(
        pybreaker_names, (*values, "fail_max", "state_storage", "throw_new_error_on_trip"), where=where
    )
    if pybreaker_names.get("state_storage") is not None:
        raise ConfigError(
            f"{where}: state_storage is not supported; each process keeps a state of its own", setting="state_storage"
        )
    if pybreaker_names.get("throw_new_error_on_trip"):
        raise ConfigError(
            f"{where}: throw_new_error_on_trip must be False; the call that opens the circuit raises its own error",
            setting="throw_new_error_on_trip",
            value=True,
            allowed="False",
        )
    if "fail_max" in pybreaker_names:
        ours, theirs = values["failure_threshold"], pybreaker_names["fail_max"]
        if not isinstance(ours, _Default):
            raise ConfigError(
                f"{where}: failure_threshold={ours!r} and fail_max={theirs!r} are one setting; give one of them",
                setting="fail_max",
                value=theirs,
            )
        values = {**values, "failure_threshold": theirs}
    for several in ("exclude", "listeners"):
        try:
            values = {**values, several: tuple(values[several] or ())}
        except TypeError:
            raise not_allowed(f"{where}: {several}", values[several], "a list or tuple") from None
    return config.load(Settings, values, where=where)


def not_allowed(setting: str, value: object, allowed: str) -> ConfigError:
    """Make the error for a value of a wrong kind."""
    return ConfigError(f"{setting} must be {allowed}, got {value!r}", setting=setting, value=value, allowed=allowed)


def default_outcome(error: BaseException) -> Outcome:
    """Judge an exception by the default rule (ARCHITECTURE.md, section 3)."""
    if not isinstance(error, Exception):
        return Outcome.IGNORE
    if isinstance(error, RefusedError):
        return Outcome.SUCCESS if error.by == "venue" else Outcome.IGNORE
    if isinstance(error, ConfigError) or (isinstance(error, NotSentError) and not isinstance(error, ConnectError)):
        return Outcome.IGNORE
    return Outcome.FAILURE


def refuse_lazy(func: Any) -> None:
    """Refuse functions whose call only makes an object: the work would run later, unguarded."""
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
            f"circuit breaker: {name} is {kind}, its work would run after the call and unguarded; guard the blocking"
            " call inside it",
            setting="func",
            allowed="a blocking function",
        )


def text_of(error: BaseException | str | None) -> str | None:
    """Text of an error, in one line. The exception itself is not kept: it would pin its frames."""
    if error is None:
        return None
    try:
        words = " ".join(str(error)[: 2 * _MOST_ERROR_TEXT].split())
    except Exception:
        words = ""  # the exception's __str__ is user code
    if not isinstance(error, str):
        words = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return words[:_MOST_ERROR_TEXT]
