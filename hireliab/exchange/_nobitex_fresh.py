"""Values that are read from the venue by one thread at a time and shared while they are fresh."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from hireliab.core.clock import Clock
from hireliab.errors import NotSentError

T = TypeVar("T")


class Fresh(Generic[T]):
    """
    One value for each key. Callers of the same key at the same time share one read, and its failure.

    Args:
        what: Names the values, for errors.
    """

    def __init__(self, what: str, *, clock: Clock) -> None:
        self._what = what
        self._clock = clock
        self._condition = threading.Condition()  # guards _values, _reading and _failed
        self._values: dict[str, tuple[float, T]] = {}
        self._reading: set[str] = set()
        self._failed: dict[str, tuple[int, Exception | None]] = {}  # how many reads failed so far, and the last error

    def peek(self, key: str, *, max_age: float) -> T | None:
        """The value if it is at most `max_age` seconds old, without reading."""
        now = self._clock.monotonic()
        with self._condition:
            return self._peek_locked(key, now, max_age)

    def _peek_locked(self, key: str, now: float, max_age: float) -> T | None:
        read = self._values.get(key)
        return read[1] if read is not None and now - read[0] <= max_age else None

    def put(self, key: str, value: T, *, age: float = 0.0) -> None:
        """Keep a value as if it had been read `age` seconds ago."""
        now = self._clock.monotonic()
        with self._condition:
            self._values[key] = (now - age, value)

    def get(self, key: str, read: Callable[[], T], *, max_age: float, wait: float) -> T:
        """
        The value, read now unless it is at most `max_age` seconds old.

        Args:
            read: Called without a lock, by one thread at a time for each key.
            max_age: Seconds since its read *began*.
            wait: Seconds to wait for another thread's read.

        Raises:
            NotSentError: Another thread's read did not end in time, or failed.
            Exception: Whatever `read` raises.
        """
        with self._condition:
            began = self._clock.monotonic()
            value = self._peek_locked(key, began, max_age)
            if value is not None:
                return value
            if key in self._reading:
                count = self._failed.get(key, (0, None))[0]
                self._clock.wait_for(self._condition, lambda: key not in self._reading, wait)
                value = self._peek_locked(key, self._clock.monotonic(), max_age + wait)
                failed, error = self._failed.get(key, (0, None))
                if failed == count and value is not None and key not in self._reading:
                    return value
                raise NotSentError(f"{self._what} {key}: another thread's read brought nothing; try again") from error
            self._reading.add(key)
        error = None
        try:
            value = read()
        except BaseException as caught:
            error = caught if isinstance(caught, Exception) else NotSentError("interrupted")
            raise
        finally:
            with self._condition:
                self._reading.discard(key)
                if error is not None:
                    self._failed[key] = (self._failed.get(key, (0, None))[0] + 1, error)
                elif value is not None:
                    self._values[key] = (began, value)
                self._condition.notify_all()
        return value
