"""The simulator's own time: real but steppable, or virtual for tests. Only this file imports `time`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def machine_ns() -> int:
    """Nanoseconds of the machine's monotonic clock, comparable between processes; never stepped."""
    return time.monotonic_ns()


class Clock:
    """
    Real time plus whatever was added by `advance`.

    Both the wall clock and the monotonic clock move together, so that windows, lags, token
    lifetimes and timestamps stay consistent after a step.

    Thread safety: Any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards _offset_ns; notified by advance and wake
        self._offset_ns = 0

    def monotonic(self) -> float:
        """Seconds for durations and deadlines."""
        return (time.monotonic_ns() + self._offset_ns) / 1e9

    def time_ns(self) -> int:
        """Unix time in nanoseconds, as this exchange believes it to be."""
        return time.time_ns() + self._offset_ns

    def advance(self, seconds: float) -> None:
        """Step forward and wake everybody who waits for a moment that has now passed."""
        with self._changed:
            self._offset_ns += round(seconds * 1e9)
            self._changed.notify_all()

    def wake(self) -> None:
        """Let all waiters look again whether they were told to stop."""
        with self._changed:
            self._changed.notify_all()

    def pause(self, seconds: float, stopped: Callable[[], bool]) -> bool:
        """
        Wait for a time, or until stopped.

        Args:
            seconds: How long, by this clock.
            stopped: Asked after every wake-up; must not take a lock.

        Returns:
            True when the time passed, False when `stopped` said so first.
        """
        with self._changed:
            deadline = self.monotonic() + seconds
            while not stopped():
                left = deadline - self.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(self._real_wait(left))
        return False

    def _real_wait(self, left: float) -> float | None:
        return left


class VirtualClock(Clock):
    """A clock that stands still between calls of `advance`."""

    def __init__(self, start: float = 1_760_000_000.0) -> None:
        super().__init__()
        self._start_ns = round(start * 1e9)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._offset_ns / 1e9

    def time_ns(self) -> int:
        """Unix time in nanoseconds."""
        return self._start_ns + self._offset_ns

    def _real_wait(self, left: float) -> float | None:  # noqa: ARG002 - time passes by advance only
        return None
