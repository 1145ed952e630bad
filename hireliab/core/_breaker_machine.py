"""Every rule by which a circuit breaker's state changes. Pure; for locks and signal handlers see _gate.py."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from fractions import Fraction

from hireliab.core import config
from hireliab.core._gate import (
    CLOSED,
    HALF_OPEN,
    ISOLATED,
    OPEN,
    CircuitEvent,
    CircuitState,
    CircuitStats,
    ClosedGate,
    DisabledGate,
    Gate,
    HalfOpenGate,
    IsolatedGate,
    MetricsOnlyGate,
    OpenGate,
    Outcome,
)
from hireliab.core._window import Tally, Window

PROBE_LEASE = 60.0
"""Seconds after which a probe that has not come back counts as failed; with a longer `reset_timeout`, that long."""

MODES = ("on", "metrics_only", "disabled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backoff:
    """
    A break that grows while the circuit keeps opening, and shrinks again while it stays closed.

    The n-th break in a row is ``base * factor ** (n - 1)`` seconds, at most `most`, less a random part, so that many
    bots do not come back in the same moment. For each full length of the last break that the circuit stays closed,
    one opening is forgiven.

    Args:
        base: Seconds of the first break, more than 0.
        factor: By which each further break is longer, 1 to 10.
        most: Seconds of the longest break, at least `base`.
        jitter: Largest share that is taken off at random, 0 to 1.

    Raises:
        ConfigError: A setting is out of range.

    Source: Envoy's outlier detection, for the growth and the decay.
    """

    base: float
    factor: float = 2.0
    most: float = 300.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        config.number("base", self.base, above=0)
        config.number("factor", self.factor, low=1, high=10)
        config.number("most", self.most, low=self.base)
        config.number("jitter", self.jitter, low=0, high=1)

    def length(self, opens: int) -> float:
        """Seconds of the break after `opens` others in a row."""
        try:
            length = min(self.most, self.base * self.factor**opens)
        except OverflowError:
            length = self.most
        # The module's generator: it is seeded anew in a forked child, so that children differ.
        return length * (1 - self.jitter * random.random())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shares:
    """
    The rules that look at the last seconds.

    Attributes:
        failure: Share of failures that opens the circuit, exact, or None.
        slow: Share of slow calls that opens the circuit, exact, or None.
        slow_after: Seconds from which on a call is slow.
        window: Seconds that are looked at.
        min_calls: Fewer calls say nothing.
    """

    failure: Fraction | None
    slow: Fraction | None
    slow_after: float
    window: float
    min_calls: int

    def reason(self, calls: int, failed: int, slow: int) -> str | None:
        """Why these figures open the circuit, or None."""
        if calls < self.min_calls:
            return None
        if self.failure is not None and failed >= self.failure * calls:
            return f"failed: {failed} of {calls} calls in {self.window:g} s"
        if self.slow is not None and slow >= self.slow * calls:
            return f"slow: {slow} of {calls} calls in {self.window:g} s"
        return None


class Machine:
    """
    The present gate, and every rule by which it changes.

    Args:
        name: The breaker's name, for events.
        fail_max: Failures in a row that open the circuit; None for no such rule.
        reset_timeout: Seconds that it stays open.
        success_threshold: Good probes that close it.
        most_probes: Probes in flight at once.
        put: Takes each event, in order; must not run Python code (see `_swap`).
        shares: The rules that need a window, or None.
        mode: One of MODES.
        quick: See `ClosedGate`.
        now: The clock's reading.
    """

    __slots__ = (
        "_late", "_put", "_trips", "fail_max", "gate", "mode", "most_probes", "name", "quick", "rejected",
        "reset_timeout", "shares", "success_threshold",
    )  # fmt: skip

    def __init__(
        self,
        *,
        name: str,
        fail_max: int | None,
        reset_timeout: float | Backoff,
        success_threshold: int,
        most_probes: int,
        put: Callable[[CircuitEvent], None],
        shares: Shares | None = None,
        mode: str = "on",
        quick: bool = False,
        now: float = 0.0,
    ) -> None:
        self.name = name
        self.fail_max = fail_max
        self.reset_timeout = reset_timeout
        self.success_threshold = success_threshold
        self.most_probes = most_probes
        self.shares = shares
        self.mode = mode
        self.quick = quick
        self._put = put
        self.rejected = Tally()
        self._trips = 0
        self._late = 0
        self.gate: Gate = self._closed(0, now)

    # -- calls ------------------------------------------------------------------------------------------------

    def admit(self, now: float) -> tuple[Gate, int | None] | None:
        """The gate that admits a call and the call's lease, if it is a probe; None when the call is refused."""
        while True:
            self.give_up_probes(now)
            gate = self.gate
            if gate.passes:
                return gate, None
            if not isinstance(gate, OpenGate) or now < gate.until:
                break
            half_open = HalfOpenGate(gate.generation + 1, gate.last_error, opens=gate.opens, length=gate.length)
            self._swap(gate, half_open, "the break is over")
        if isinstance(gate, HalfOpenGate):
            lease = gate.take(now + self._lease(), most=self.most_probes, wanted=self.success_threshold)
            if lease is not None:
                return gate, lease
        next(self.rejected.steps)
        return None

    def give_up_probes(self, now: float) -> None:
        """Open the circuit again when a probe has not come back."""
        gate = self.gate
        if isinstance(gate, HalfOpenGate) and gate.has_lost(now):
            self._trip(gate, now, "a probe did not come back", "a probe without a result")

    def would_admit(self, now: float) -> bool:
        """Whether `admit` would let a call through now."""
        gate = self.gate
        if isinstance(gate, HalfOpenGate):
            return gate.has_room(most=self.most_probes, wanted=self.success_threshold)
        return gate.passes or (isinstance(gate, OpenGate) and now >= gate.until)

    def settle(
        self, gate: Gate, lease: int | None, outcome: Outcome, error: str | None, now: float, *, slow: bool = False
    ) -> None:
        """
        Take the outcome of one call.

        Args:
            gate: The gate that admitted it.
            lease: Its lease, or None.
            outcome: How it ended.
            error: Text of the error, if it failed.
            now: The clock's reading.
            slow: Whether it took long.
        """
        if isinstance(gate, HalfOpenGate):
            if slow and outcome is Outcome.SUCCESS:
                outcome, error = Outcome.FAILURE, "a slow probe"
            self._settle_probe(gate, lease, outcome, error, now)
        elif isinstance(gate, ClosedGate):
            self._settle_closed(gate, outcome, error, now, slow=slow)

    def _settle_closed(self, gate: ClosedGate, outcome: Outcome, error: str | None, now: float, *, slow: bool) -> None:
        if outcome is Outcome.IGNORE:
            return
        failed = outcome is Outcome.FAILURE
        if self.gate is not gate:
            self._late += failed
            return
        if failed:
            gate.failures += 1
            gate.last_error = error
        else:
            gate.failures = 0
        if gate.window is not None:
            gate.window.record(now, failed=failed, slow=slow)
            gate.look()
        if failed or slow:
            reason = self._reason_to_trip(gate, now)
            if reason is not None:
                self._trip(gate, now, reason, gate.last_error)

    def _reason_to_trip(self, gate: ClosedGate, now: float) -> str | None:
        if self.fail_max is not None and gate.failures >= self.fail_max:
            return f"failures in a row: {gate.failures}"
        if self.shares is None or gate.window is None:
            return None
        return self.shares.reason(*gate.window.totals(now))

    def _settle_probe(
        self, gate: HalfOpenGate, lease: int | None, outcome: Outcome, error: str | None, now: float
    ) -> None:
        held = lease is not None and gate.give_back(lease)
        if not held or self.gate is not gate:
            self._late += 1
        elif outcome is Outcome.SUCCESS:
            gate.successes += 1
            self._close_if_enough(gate, now)
        elif outcome is Outcome.FAILURE:
            self._trip(gate, now, "a probe failed", error)

    def _close_if_enough(self, gate: HalfOpenGate, now: float) -> None:
        if gate.successes >= self.success_threshold:
            closed = self._closed(gate.generation + 1, now, opens=gate.opens, length=gate.length)
            self._swap(gate, closed, f"good probes: {gate.successes}")

    # -- by hand ----------------------------------------------------------------------------------------------

    def force(self, state: CircuitState, now: float, *, seconds: float | None = None) -> None:
        """
        Enter a state by hand. Only closing ends an isolation; entering closed again clears its counters.

        Args:
            state: CLOSED, OPEN, HALF_OPEN or ISOLATED.
            now: The clock's reading.
            seconds: Of the break, instead of the usual ones.
        """
        gate = self.gate
        number = gate.generation + 1
        if state is CLOSED:
            self._swap(gate, self._closed(number, now), "closed by hand")
        elif gate.state is ISOLATED:
            return
        elif state is ISOLATED:
            self._swap(gate, IsolatedGate(number, gate.last_error), "isolated by hand")
        elif state is HALF_OPEN:
            opens = gate.opens_at(now)
            half_open = HalfOpenGate(number, gate.last_error, opens=opens, length=gate.length)
            self._swap(gate, half_open, "half-opened by hand")
        else:
            self._open(gate, now, "opened by hand", gate.last_error, seconds=seconds)

    def switch(self, mode: str, now: float) -> None:
        """Change the mode; an isolated circuit stays isolated until it is closed by hand."""
        self.mode = mode
        gate = self.gate
        if gate.state is not ISOLATED:
            self._swap(gate, self._closed(gate.generation + 1, now), f"mode: {mode}")

    def want(self, successes: int, now: float) -> None:
        """Change the number of good probes; where there are enough already, no further one would be admitted."""
        self.success_threshold = successes
        if isinstance(self.gate, HalfOpenGate):
            self._close_if_enough(self.gate, now)

    def set_quick(self, quick: bool) -> None:
        """Say whether good calls may skip the lock, from now on."""
        self.quick = quick
        gate = self.gate
        if isinstance(gate, ClosedGate):
            gate.quick = quick

    def forget_probes(self) -> None:
        """In a forked child: the probes run in the parent, and their threads are not here."""
        gate = self.gate
        if isinstance(gate, HalfOpenGate):
            self.gate = HalfOpenGate(gate.generation, gate.last_error, opens=gate.opens, length=gate.length)

    # -- views ------------------------------------------------------------------------------------------------

    def stats(self, now: float) -> CircuitStats:
        """Everything there is to know now."""
        gate = self.gate
        window = gate.window if isinstance(gate, ClosedGate) else None
        calls, failed, slow = (0, 0, 0) if window is None else window.totals(now)
        return CircuitStats(
            name=self.name,
            state=gate.state,
            generation=gate.generation,
            failures=gate.failures,
            successes=gate.successes,
            probes=gate.probes,
            trips=self._trips,
            rejected=self.rejected.look(),
            late=self._late,
            retry_after=gate.retry_after(now),
            last_error=gate.last_error,
            calls=calls,
            failed=failed,
            slow=slow,
        )

    # -- transitions ------------------------------------------------------------------------------------------

    def _closed(self, generation: int, now: float, *, opens: int = 0, length: float = 0.0) -> Gate:
        """The gate through which calls pass in this mode."""
        if self.mode == "disabled":
            return DisabledGate(generation)
        kind = MetricsOnlyGate if self.mode == "metrics_only" else ClosedGate
        window = None if self.shares is None else Window(self.shares.window, now)
        return kind(generation, opens=opens, length=length, since=now, quick=self.quick, window=window)

    def _trip(self, gate: Gate, now: float, reason: str, error: str | None) -> None:
        if isinstance(gate, MetricsOnlyGate):
            again = self._closed(gate.generation + 1, now)
            again.last_error = error
            self._swap(gate, again, f"would open: {reason}", tripped=True)
        else:
            self._open(gate, now, reason, error)

    def _open(self, gate: Gate, now: float, reason: str, error: str | None, *, seconds: float | None = None) -> None:
        opens = gate.opens_at(now)
        if seconds is None:
            seconds = (
                self.reset_timeout.length(opens) if isinstance(self.reset_timeout, Backoff) else self.reset_timeout
            )
        new = OpenGate(gate.generation + 1, error, until=now + seconds, opens=opens + 1, length=seconds)
        self._swap(gate, new, reason, tripped=True)

    def _lease(self) -> float:
        break_ = self.reset_timeout
        return max(break_.base if isinstance(break_, Backoff) else break_, PROBE_LEASE)

    def _swap(self, expected: Gate, new: Gate, reason: str, *, tripped: bool = False) -> None:
        """Install a new gate unless another transition came first: the only way that the state changes."""
        event = CircuitEvent(self.name, new.generation, expected.state, new.state, reason, new.last_error)
        put = self._put
        # No Python function is called from here to `put`, so a signal handler sees either both or neither.
        if self.gate is not expected:
            return
        self.gate = new
        if new.state is not expected.state or (tripped and new.state is not OPEN):
            put(event)
        self._trips += tripped


def exact(share: float | None) -> Fraction | None:
    """A share as the decimal that it prints as: 0.07 of 100 calls are 7, not 7.000000000000001."""
    return None if share is None else Fraction(repr(share))


def make_shares(
    *, failure_share: float | None, slow_share: float | None, slow_after: float | None, window: float, min_calls: int
) -> Shares | None:
    """The rules that need a window, or None when none of them is armed."""
    if failure_share is None and slow_share is None:
        return None
    return Shares(
        failure=exact(failure_share),
        slow=exact(slow_share),
        slow_after=math.inf if slow_after is None else float(slow_after),
        window=float(window),
        min_calls=int(min_calls),
    )
