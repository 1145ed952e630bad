"""Looks how much an outbox has not published, tells a person, and bounds it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from hireliab.core.clock import Clock

LOOK = 1.0
"""Seconds between two looks at how much waits."""


class OutboxWatch:
    """
    Any thread may use it; it calls nobody under its lock.

    Args:
        name: The outbox's.
        backlog, drop, alert, late_after, late_rows, most_rows: See `Outbox`.
        last_error: What went wrong last, or an empty text.
    """

    def __init__(
        self,
        *,
        name: str,
        backlog: Callable[[], tuple[int, float | None]],
        drop: Callable[[int], int],
        alert: Callable[[str, str, str], object],
        last_error: Callable[[], str],
        late_after: float,
        late_rows: int,
        most_rows: int,
        clock: Clock,
    ) -> None:
        self._name = name
        self._backlog, self._drop, self._alert, self._last_error = backlog, drop, alert, last_error
        self._late_after, self._late_rows, self._most_rows = late_after, late_rows, most_rows
        self._clock = clock
        self._lock = threading.Lock()  # guards the fields below
        self._looked = float("-inf")
        self._dropping = False
        self.is_late = False
        self.dropped = 0

    def look(self) -> None:
        """See `Outbox.watch`."""
        now = self._clock.monotonic()
        with self._lock:
            if now - self._looked < LOOK:
                return
            self._looked = now
        with contextlib.suppress(Exception):  # the journal is being closed, or has failed and says so itself
            rows, oldest = self._backlog()
            if rows > self._most_rows:
                self._drop_oldest(rows - self._most_rows)
            age = 0.0 if oldest is None else max(0.0, self._clock.time() - oldest)
            if age >= self._late_after or rows >= self._late_rows:
                error = self._last_error()
                why = f"; {error}" if error else ""
                self.tell_late(f"{rows} events wait for the message bus, the oldest for {age:.0f} s{why}")
            elif rows == 0:
                self._tell_caught_up()

    def tell_late(self, message: str) -> None:
        """Alert, unless that was done already."""
        with self._lock:
            if self.is_late:
                return
            self.is_late = True
        self._alert("error", "Events are late", f"outbox {self._name}: {message}; trading goes on, nothing is lost")

    def _tell_caught_up(self) -> None:
        with self._lock:
            if not self.is_late:
                return
            self.is_late = self._dropping = False
        self._alert("info", "Events have caught up", f"outbox {self._name}: every event is published")

    def _drop_oldest(self, count: int) -> None:
        dropped = self._drop(count)
        with self._lock:
            self.dropped += dropped
            first, self._dropping = not self._dropping, True
            self.is_late = True
        if first and dropped:
            message = (
                f"more than {self._most_rows} wait for the message bus ({self._last_error()}); the oldest are given up"
            )
            self._alert(
                "critical", "Events are given up", f"outbox {self._name}: {message}, so that the disk does not fill"
            )
