"""
The circuit breaker's state machine: each state that it enters is a new gate with counters of its own. Pure.

A call keeps the gate that admitted it and reports to that object. Whether its result still matters is one
comparison, ``machine.gate is gate``, so a late result cannot move a state that it does not belong to.

There is no lock here: what changes something is called with the breaker's lock held. That lock is re-entrant, so
a signal handler may come between any two lines; methods write first and look afterwards.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import ClassVar


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


class Gate:
    """
    One era of one state.

    Attributes:
        generation: 0 for the breaker's first gate, one more for each later one.
        last_error: Text of the latest failure that led here, or None.
    """

    __slots__ = ("generation", "last_error")

    state: ClassVar[CircuitState]

    def __init__(self, generation: int, last_error: str | None = None) -> None:
        self.generation = generation
        self.last_error = last_error

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

    def retry_after(self, now: float) -> float | None:  # noqa: ARG002  # for the one state that has a time
        """Seconds until the next probe may start; 0.0 when closed, None when unknown."""
        return None


class ClosedGate(Gate):
    """Every call passes; `failures` counts those in a row."""

    __slots__ = ("failures",)

    state = CLOSED
    failures: int

    def __init__(self, generation: int) -> None:
        super().__init__(generation)
        self.failures = 0

    def retry_after(self, now: float) -> float | None:  # noqa: ARG002  # see the base class
        """See `Gate.retry_after`."""
        return 0.0


class OpenGate(Gate):
    """No call passes until the clock reads `until`."""

    __slots__ = ("until",)

    state = OPEN

    def __init__(self, generation: int, last_error: str | None, *, until: float) -> None:
        super().__init__(generation, last_error)
        self.until = until

    def retry_after(self, now: float) -> float | None:
        """See `Gate.retry_after`."""
        return max(0.0, self.until - now)


class IsolatedGate(Gate):
    """No call passes until a person says so."""

    __slots__ = ()

    state = ISOLATED


class HalfOpenGate(Gate):
    """A few calls pass as probes; each holds a lease that ends by itself. A probe may end at any moment, or never."""

    __slots__ = ("_leases", "_next_lease", "successes")

    state = HALF_OPEN
    successes: int

    def __init__(self, generation: int, last_error: str | None) -> None:
        super().__init__(generation, last_error)
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
        trips: How often the circuit opened.
        rejected: Calls that were refused.
        late: Failures and probes that ended after the state that admitted them; they changed nothing.
        retry_after: Seconds until the next probe may start; 0.0 when closed, None when that is unknown.
        last_error: Text of the latest failure, or None.
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


@dataclasses.dataclass(frozen=True)
class CircuitEvent:
    """
    One change of state, as listeners hear it.

    Attributes:
        name: The breaker's name.
        generation: The number of the new state; it rises from event to event.
        old: The state before.
        new: The state after.
        reason: Why, in a few words.
        last_error: Text of the failure that led here, or None.
    """

    name: str
    generation: int
    old: CircuitState
    new: CircuitState
    reason: str
    last_error: str | None


PROBE_LEASE = 60.0
"""Seconds after which a probe that has not come back counts as failed; with a longer `reset_timeout`, that long."""


class Machine:
    """
    The present gate, and every rule by which it changes.

    Args:
        name: The breaker's name, for events.
        fail_max: Failures in a row that open the circuit.
        reset_timeout: Seconds that it stays open.
        success_threshold: Good probes that close it.
        most_probes: Probes in flight at once.
        put: Takes each event, in order; must not run Python code (see `_swap`).
    """

    def __init__(
        self,
        *,
        name: str,
        fail_max: int,
        reset_timeout: float,
        success_threshold: int,
        most_probes: int,
        put: Callable[[CircuitEvent], None],
    ) -> None:
        self.name = name
        self.fail_max = fail_max
        self.reset_timeout = reset_timeout
        self.success_threshold = success_threshold
        self.most_probes = most_probes
        self._put = put
        self.gate: Gate = ClosedGate(0)
        self._trips = 0
        self._rejected = 0
        self._late = 0

    def admit(self, now: float) -> tuple[Gate, int | None] | None:
        """The gate that admits a call and the call's lease, if it is a probe; None when the call is refused."""
        while True:
            gate = self.gate
            if isinstance(gate, ClosedGate):
                return gate, None
            if isinstance(gate, OpenGate) and now >= gate.until:
                self._swap(gate, HalfOpenGate(gate.generation + 1, gate.last_error), "the break is over")
            elif isinstance(gate, HalfOpenGate) and gate.has_lost(now):
                self._trip(gate, now, "a probe did not come back", "a probe without a result")
            else:
                break
        if isinstance(gate, HalfOpenGate):
            ends = now + max(self.reset_timeout, PROBE_LEASE)
            lease = gate.take(ends, most=self.most_probes, wanted=self.success_threshold)
            if lease is not None:
                return gate, lease
        self._rejected += 1
        return None

    def settle(self, gate: Gate, lease: int | None, outcome: Outcome, error: str | None, now: float) -> None:
        """
        Take the outcome of one call.

        Args:
            gate: The gate that admitted it.
            lease: Its lease, or None.
            outcome: How it ended.
            error: Text of the error, if it failed.
            now: The clock's reading.
        """
        if isinstance(gate, HalfOpenGate):
            self._settle_probe(gate, lease, outcome, error, now)
        elif isinstance(gate, ClosedGate):
            self._settle_closed(gate, outcome, error, now)

    def _settle_closed(self, gate: ClosedGate, outcome: Outcome, error: str | None, now: float) -> None:
        if outcome is Outcome.SUCCESS:
            gate.failures = 0  # of a retired gate: harmless, nobody looks at it
        elif outcome is Outcome.FAILURE:
            if self.gate is not gate:
                self._late += 1
                return
            gate.failures += 1
            gate.last_error = error
            if gate.failures >= self.fail_max:
                self._trip(gate, now, f"failures in a row: {gate.failures}", error)

    def _settle_probe(
        self, gate: HalfOpenGate, lease: int | None, outcome: Outcome, error: str | None, now: float
    ) -> None:
        held = lease is not None and gate.give_back(lease)
        if not held or self.gate is not gate:
            self._late += 1
        elif outcome is Outcome.SUCCESS:
            gate.successes += 1
            if gate.successes >= self.success_threshold:
                self._swap(gate, ClosedGate(gate.generation + 1), f"good probes: {gate.successes}")
        elif outcome is Outcome.FAILURE:
            self._trip(gate, now, "a probe failed", error)

    def force(self, state: CircuitState, now: float) -> None:
        """Enter a state by hand. Only closing ends an isolation; entering closed again clears its counters."""
        gate = self.gate
        number = gate.generation + 1
        if state is CLOSED:
            self._swap(gate, ClosedGate(number), "closed by hand")
        elif gate.state is ISOLATED:
            return
        elif state is ISOLATED:
            self._swap(gate, IsolatedGate(number, gate.last_error), "isolated by hand")
        elif state is HALF_OPEN:
            self._swap(gate, HalfOpenGate(number, gate.last_error), "half-opened by hand")
        else:
            self._trip(gate, now, "opened by hand", gate.last_error)

    def stats(self, now: float) -> CircuitStats:
        """Everything there is to know now."""
        gate = self.gate
        return CircuitStats(
            name=self.name,
            state=gate.state,
            generation=gate.generation,
            failures=gate.failures,
            successes=gate.successes,
            probes=gate.probes,
            trips=self._trips,
            rejected=self._rejected,
            late=self._late,
            retry_after=gate.retry_after(now),
            last_error=gate.last_error,
        )

    def _trip(self, gate: Gate, now: float, reason: str, error: str | None) -> None:
        self._swap(gate, OpenGate(gate.generation + 1, error, until=now + self.reset_timeout), reason)

    def _swap(self, expected: Gate, new: Gate, reason: str) -> None:
        """Install a new gate unless another transition came first: the only way that the state changes."""
        event = CircuitEvent(self.name, new.generation, expected.state, new.state, reason, new.last_error)
        put = self._put
        # No Python function is called from here to `put`, so a signal handler sees either both or neither.
        if self.gate is not expected:
            return
        self.gate = new
        if new.state is not expected.state:
            put(event)
        self._trips += new.state is OPEN
