"""Breakers by name, for code that shares one without passing it around."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hireliab.core._threads import renew_after_fork
from hireliab.errors import ConfigError

B = TypeVar("B")


class Registry(Generic[B]):
    """
    Breakers by name. They live until they are discarded.

    Args:
        make: Makes one, from `name` and the settings.
    """

    def __init__(self, make: Callable[..., B]) -> None:
        self._make = make
        # Guards _breakers. Re-entrant, because a signal handler may ask on the thread that is inside.
        self._lock = threading.RLock()
        self._breakers: dict[str, B] = {}
        renew_after_fork(self)

    def get(self, name: str, **settings: Any) -> B:
        """
        The breaker of this name, made on first use.

        Args:
            name: The breaker's name.
            settings: As for `CircuitBreaker`; those given must equal the ones it was made with.

        Raises:
            ConfigError: A setting is wrong, or differs from that of the existing breaker.
        """
        with self._lock:
            found = self._breakers.get(name)
        if found is not None and not settings:
            return found
        candidate = self._make(name=name, **settings)
        with self._lock:
            breaker = self._breakers.setdefault(name, candidate)
        for key in settings:
            setting = "failure_threshold" if key == "fail_max" else key
            have, want = (getattr(getattr(one, "_settings", None), setting, None) for one in (breaker, candidate))
            if have != want:
                raise ConfigError(
                    f"circuit breaker {name!r}: {setting} is {have!r} already, got {want!r}; use one value, or call"
                    f" registry.discard({name!r}) first",
                    setting=setting,
                    value=want,
                    allowed=repr(have),
                )
        return breaker

    @property
    def parts(self) -> tuple[B, ...]:
        """The breakers that there are now, for whoever measures them."""
        with self._lock:
            return tuple(self._breakers.values())

    def discard(self, name: str) -> bool:
        """Forget a name; functions decorated with its breaker keep it. Whether the name was known."""
        with self._lock:
            return self._breakers.pop(name, None) is not None

    def renew_in_child(self) -> None:
        """Keep the names in a forked child, with a lock that nobody there holds."""
        self._lock = threading.RLock()
