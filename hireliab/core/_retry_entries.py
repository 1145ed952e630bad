"""What ``on=`` of a retry may name, sorted at decoration. tenacity's objects are known by their classes' names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from hireliab.core import config
from hireliab.errors import ConfigError, NotSentError, ThrottledError

Entry: TypeAlias = type[Exception] | Callable[[Any], object]
"""What may stand in ``on=``: an exception type, a callable that takes the exception, a tenacity ``retry_*`` object."""


def sort_entries(
    on: Any, *, idempotent: bool
) -> tuple[tuple[type[Exception], ...] | None, list[Callable[..., object]], list[Callable[..., object]]]:
    """Sort `on` into exception types (None: the default), predicates on the exception, and tenacity's strategies."""
    given = list(on) if isinstance(on, Sequence | set | frozenset) and not isinstance(on, str) else [on]
    if on is None or not given:
        if idempotent:
            raise ConfigError(
                "on is missing; idempotent=True has no default for it, name the errors after which to call again",
                setting="on",
                allowed="exception types",
            )
        return None, [], []
    types: list[type[Exception]] = []
    predicates: list[Callable[..., object]] = []
    strategies: list[Callable[..., object]] = []
    while given:
        entry = given.pop(0)
        # Every class is a type here, whatever its metaclass: called as a predicate it would always be true.
        if isinstance(entry, type):
            if not issubclass(entry, Exception):
                raise wrong("on", entry, "Exception types; KeyboardInterrupt and its like are never retried")
            if not idempotent and not issubclass(entry, NotSentError | ThrottledError):
                raise ConfigError(
                    f"on: {entry.__name__} does not prove that the call did not go out; say idempotent=True if calling"
                    " twice does no harm, or raise a NotSentError where it is proven",
                    setting="on",
                    value=entry,
                    allowed="kinds of NotSentError and ThrottledError",
                )
            types.append(entry)
        elif not callable(entry):
            raise wrong("on", entry, "exception types, callables that take the exception, and retry_* objects")
        elif not _is_tenacity(entry):
            predicates.append(entry)
        elif _inherits(entry, "retry_any") and all(map(_is_tenacity, entry.retries)):
            given[:0] = entry.retries
        elif (plain := _inherits(entry, "retry_if_exception")) and type(entry).__call__ is plain.__call__:
            # It looks at the exception only, so a success need not be shown to it.
            predicates.append(entry.predicate)
        else:
            strategies.append(entry)
    return tuple(types), predicates, strategies


def _is_tenacity(entry: object) -> bool:
    return any(cls.__module__.partition(".")[0] == "tenacity" for cls in type(entry).__mro__)


def _inherits(entry: object, name: str) -> Any:
    """The tenacity class of this name that the entry's class is or inherits from, or None; by name, not by import."""
    return next((c for c in type(entry).__mro__ if c.__name__ == name and c.__module__.startswith("tenacity")), None)


def wrong(setting: str, value: object, allowed: str) -> ConfigError:
    """Make the error for a value of a wrong kind."""
    return ConfigError(
        f"{setting} must be {allowed}, got {config.shown(value)}", setting=setting, value=value, allowed=allowed
    )
