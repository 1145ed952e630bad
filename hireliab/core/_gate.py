"""
The states of a circuit breaker: each time that it enters one, it makes a new gate with counters of its own. Pure.

A call keeps the gate that admitted it and reports to that object. Whether its result still matters is one
comparison, ``machine.gate is gate``, so a late result cannot move a state that it does not belong to.

There is no lock here: what changes something is called with the breaker's lock held. That lock is re-entrant, so
a signal handler may come between any two lines; methods write first and look afterwards.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import math
from collections.abc import Iterator
from typing import ClassVar

from hireliab.core._window import Window


class Outcome(enum.Enum):
    """What one call says about the health of the other side."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORE = "ignore"


class CircuitState(str):
    """A state's word. Its `name` is the word again, as pybreaker's state objects have it."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The word as plain text."""
        return str(self)


CLOSED = CircuitState("closed")
OPEN = CircuitState("open")
HALF_OPEN = CircuitState("half-open")
ISOLATED = CircuitState("isolated")
METRICS_ONLY = CircuitState("metrics-only")
DISABLED = CircuitState("disabled")

# Counts for gates that count nothing.
_NOBODY_LOOKS = itertools.count()


class Gate:
    """
    One era of one state.

    Attributes:
        generation: 0 for the breaker's first gate, one more for each later one.
        last_error: Text of the latest failure that led here, or None.
        opens: How often the circuit opened in a row; with a growing break the next one is that much longer.
        length: Seconds of the latest break, 0.0 before the first.
    """

    __slots__ = ("generation", "last_error", "length", "opens")

    state: ClassVar[CircuitState]
    word: ClassVar[str]
    """The state as plain text."""
    passes: ClassVar[bool] = False
    """Whether every call is admitted, without a look at the clock."""
    # What the guards of decorated functions look at; see _breaker_guards.py.
    quick: bool = False
    good: Iterator[int] = _NOBODY_LOOKS
    turn: float = math.inf

    def __init__(self, generation: int, last_error: str | None = None, *, opens: int = 0, length: float = 0.0) -> None:
        self.generation = generation
        self.last_error = last_error
        self.opens = opens
        self.length = length

    @property
    def failures(self) -> int:
        """Failures in a row while closed, else 0."""
        return 0

    @property
    def successes(self) -> int:
        """Good probes while half-open, else 0."""
        return 0

    @property
    def probes(self) -> int:
        """Probes in flight while half-open, else 0."""
        return 0

    def opens_at(self, now: float) -> int:  # noqa: ARG002  # for the one state in which it decays
        """`opens`, less what has been forgiven by now."""
        return self.opens

    def retry_after(self, now: float) -> float | None:  # noqa: ARG002  # for the one state that has a time
        """Seconds until the next probe may start; 0.0 when calls pass, None when unknown."""
        return 0.0 if self.passes else None


class ClosedGate(Gate):
    """
    Every call passes; `failures` counts those in a row.

    Args:
        since: The clock's reading.
        quick: Whether a good call may skip the lock: nobody wants to hear of it or to see its result.
        window: Counts the calls, if a rule asks for it.

    Attributes:
        good: ``next(gate.good)`` counts a good call in the window, without the lock.
        turn: The clock's reading from which on a good call needs the lock, because a bucket of the window ends, or
            failures must be cleared.
    """

    __slots__ = ("_since", "failures", "good", "quick", "turn", "window")

    state = CLOSED
    word = CLOSED.name
    passes = True
    failures: int

    def __init__(
        self,
        generation: int,
        *,
        opens: int = 0,
        length: float = 0.0,
        since: float = 0.0,
        quick: bool = False,
        window: Window | None = None,
    ) -> None:
        super().__init__(generation, opens=opens, length=length)
        self.failures = 0
        self.quick = quick
        self.window = window
        self._since = since
        self.look()

    def look(self) -> None:
        """Set `good` and `turn` after the window or `failures` changed."""
        if self.window is not None:
            self.good = self.window.good
            self.turn = -math.inf if self.failures else self.window.turn

    def opens_at(self, now: float) -> int:
        """See `Gate.opens_at`: one is forgiven for each full length of the last break without another."""
        if self.length <= 0.0:
            return 0
        return max(0, self.opens - int((now - self._since) / self.length))


class MetricsOnlyGate(ClosedGate):
    """Like closed, but it only tells when it would have opened."""

    __slots__ = ()

    state = METRICS_ONLY
    word = METRICS_ONLY.name


class DisabledGate(Gate):
    """Every call passes and none is counted."""

    __slots__ = ()

    state = DISABLED
    word = DISABLED.name
    passes = True
    quick = True
    failures = 0


class OpenGate(Gate):
    """No call passes until the clock reads `until`."""

    __slots__ = ("until",)

    state = OPEN
    word = OPEN.name

    def __init__(
        self, generation: int, last_error: str | None, *, until: float, opens: int = 1, length: float = 0.0
    ) -> None:
        super().__init__(generation, last_error, opens=opens, length=length)
        self.until = until

    def retry_after(self, now: float) -> float | None:
        """See `Gate.retry_after`."""
        return max(0.0, self.until - now)


class IsolatedGate(Gate):
    """No call passes until a person says so."""

    __slots__ = ()

    state = ISOLATED
    word = ISOLATED.name


class HalfOpenGate(Gate):
    """A few calls pass as probes; each holds a lease that ends by itself. A probe may end at any moment, or never."""

    __slots__ = ("_leases", "_next_lease", "successes")

    state = HALF_OPEN
    word = HALF_OPEN.name
    successes: int

    def __init__(self, generation: int, last_error: str | None, *, opens: int = 0, length: float = 0.0) -> None:
        super().__init__(generation, last_error, opens=opens, length=length)
        self.successes = 0
        self._leases: dict[int, float] = {}  # lease number → the clock's reading at which it is lost
        self._next_lease = 1

    @property
    def probes(self) -> int:
        """How many probes are in flight."""
        return len(self._leases)

    def take(self, ends: float, *, most: int, wanted: int) -> int | None:
        """
        Lease one probe, or None when no probe may start.

        Args:
            ends: The clock's reading at which the lease is lost.
            most: How many probes may be in flight together.
            wanted: How many successful probes close the circuit. No more are admitted than can still be needed.
        """
        lease = self._next_lease
        self._next_lease += 1
        self._leases[lease] = ends
        if self.probes > most or self.successes + self.probes > wanted:
            del self._leases[lease]
            return None
        return lease

    def has_room(self, *, most: int, wanted: int) -> bool:
        """Whether `take` would lease a probe now."""
        return self.probes < most and self.successes + self.probes < wanted

    def give_back(self, lease: int) -> bool:
        """End a lease; whether it was still held."""
        return self._leases.pop(lease, None) is not None

    def has_lost(self, now: float) -> bool:
        """Whether a probe has not come back within its lease."""
        return any(ends <= now for ends in self._leases.values())


@dataclasses.dataclass(frozen=True)
class CircuitStats:
    """
    One consistent look at a breaker.

    Attributes:
        name: The breaker's name.
        state: Its state; a change that only time brings shows after the next call.
        generation: How many transitions there were.
        failures: Failures in a row while closed, else 0.
        successes: Good probes of this half-open state, else 0.
        probes: Probes in flight.
        trips: How often the circuit opened; in metrics-only mode, how often it would have.
        rejected: Calls that were refused.
        late: Failures and probes that ended after the state that admitted them; they changed nothing.
        retry_after: Seconds until the next probe may start; 0.0 when calls pass, None when that is unknown.
        last_error: Text of the latest failure, or None.
        calls: Calls in the present window, ignored ones not among them; 0 without a window.
        failed: Those of them that failed.
        slow: Those of them that were slow.
    """

    name: str
    state: CircuitState
    generation: int
    failures: int
    successes: int
    probes: int
    trips: int
    rejected: int
    late: int
    retry_after: float | None
    last_error: str | None
    calls: int
    failed: int
    slow: int


@dataclasses.dataclass(frozen=True)
class CircuitEvent:
    """
    One change of state, as listeners hear it.

    Attributes:
        name: The breaker's name.
        generation: The number of the new state; it rises from event to event.
        old: The state before.
        new: The state after; in metrics-only mode the same one, when the circuit would have opened.
        reason: Why, in a few words.
        last_error: Text of the failure that led here, or None.
    """

    name: str
    generation: int
    old: CircuitState
    new: CircuitState
    reason: str
    last_error: str | None
