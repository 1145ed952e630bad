"""What a circuit breaker is told: its settings under both spellings, and the rule that judges an outcome. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from hireliab.core import config
from hireliab.core._breaker_machine import MODES, Backoff
from hireliab.core._gate import Outcome
from hireliab.core.clock import Clock
from hireliab.errors import ConfigError, ConnectError, NotSentError, RefusedError

_MOST_ERROR_TEXT = 200


Listener: TypeAlias = Any
"""A callable that takes a `CircuitEvent`, or a pybreaker listener (which only circuit_breaker.py may name)."""

Exclusion: TypeAlias = type | Callable[[Any], object]

Verdict: TypeAlias = bool | Outcome | None
"""What a predicate says: failure (True), success (False), nothing (None), or an outcome by its name."""


class _Default(int):
    """A default that can be told from the same number given by the caller."""


FAILURE_THRESHOLD = _Default(5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings under hireliab's names, checked."""

    name: str
    failure_threshold: int | None
    failure_share: float | None
    slow_share: float | None
    slow_after: float | None
    window: float
    min_calls: int
    reset_timeout: float | Backoff
    half_open_max_requests: int
    success_threshold: int
    mode: str
    clock: Clock
    is_failure: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], Verdict] | None
    is_bad_result: Callable[[Any], Verdict] | None
    exclude: tuple[Exclusion, ...]
    ignore: tuple[Exclusion, ...]
    listeners: tuple[Listener, ...]

    def __post_init__(self) -> None:
        config.text("name", self.name)
        if self.failure_threshold is not None:
            config.whole("failure_threshold", self.failure_threshold, low=1)
        for name, share in (("failure_share", self.failure_share), ("slow_share", self.slow_share)):
            if share is not None:
                config.number(name, share, above=0, high=1)
        config.number_or_none("slow_after", self.slow_after, low=0)
        if (self.slow_share is None) != (self.slow_after is None):
            raise ConfigError(
                f"slow_share={self.slow_share!r} and slow_after={self.slow_after!r} are one rule; give both or neither",
                setting="slow_after",
                value=self.slow_after,
            )
        if self.failure_threshold is None and self.failure_share is None and self.slow_share is None:
            raise ConfigError(
                "failure_threshold, failure_share and slow_share are all None, the circuit would never open; give one,"
                ' or mode="disabled"',
                setting="failure_threshold",
            )
        config.number("window", self.window, above=0)
        config.whole("min_calls", self.min_calls, low=1)
        check_reset_timeout(self.reset_timeout)
        config.whole("half_open_max_requests", self.half_open_max_requests, low=1, high=1000)
        config.whole("success_threshold", self.success_threshold, low=1, high=1000)
        config.choice("mode", self.mode, MODES)
        self._check_predicates()
        for listener in self.listeners:
            if not callable(listener) and not hasattr(listener, "state_change"):
                raise not_allowed("listeners", listener, "callables and pybreaker listeners")

    def _check_predicates(self) -> None:
        types = self.is_failure if isinstance(self.is_failure, tuple) else (self.is_failure,)
        for entry in types:
            if isinstance(entry, type):
                if not issubclass(entry, Exception):
                    raise not_allowed("is_failure", entry, "exception types")
            elif isinstance(self.is_failure, tuple) or not (entry is None or is_predicate(entry)):
                raise not_allowed("is_failure", entry, "a callable that takes the exception, exception types, or None")
        if self.is_bad_result is not None and not is_predicate(self.is_bad_result):
            raise not_allowed("is_bad_result", self.is_bad_result, "a callable that takes the result, or None")
        for name, entries in (("exclude", self.exclude), ("ignore", self.ignore)):
            for exclusion in entries:
                check_exclusion(name, exclusion)


def is_predicate(entry: object) -> bool:
    """Whether it can be asked: an exception object is a mistake even if it can be called."""
    return callable(entry) and not isinstance(entry, type | BaseException)


def check_exclusion(setting: str, entry: object) -> None:
    """Raise ConfigError for what is neither a type nor a predicate."""
    if not isinstance(entry, type) and not is_predicate(entry):
        raise not_allowed(setting, entry, "exception types and callables that take the exception")


def check_reset_timeout(timeout: object) -> float | Backoff:
    """A number of seconds, or a `Backoff`."""
    return timeout if isinstance(timeout, Backoff) else config.number("reset_timeout", timeout, low=0)


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
    for several in ("exclude", "ignore", "listeners"):
        try:
            values = {**values, several: tuple(values[several] or ())}
        except TypeError:
            raise not_allowed(f"{where}: {several}", values[several], "a list or tuple") from None
    return config.load(Settings, values, where=where)


def not_allowed(setting: str, value: object, allowed: str) -> ConfigError:
    """Make the error for a value of a wrong kind."""
    return ConfigError(
        f"{setting} must be {allowed}, got {config.shown(value)}", setting=setting, value=value, allowed=allowed
    )


def default_outcome(error: BaseException) -> Outcome:
    """Judge an exception by the default rule (ARCHITECTURE.md, section 3)."""
    if not isinstance(error, Exception):
        return Outcome.IGNORE
    if isinstance(error, RefusedError):
        return Outcome.SUCCESS if error.by == "venue" else Outcome.IGNORE
    if isinstance(error, ConfigError) or (isinstance(error, NotSentError) and not isinstance(error, ConnectError)):
        return Outcome.IGNORE
    return Outcome.FAILURE


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
