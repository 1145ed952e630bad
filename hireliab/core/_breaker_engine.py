"""
How a circuit breaker admits a call and takes its outcome: the part that knows locks, listeners and predicates.

No lock is held while the user's code runs: the function, a predicate, a listener, an exception's ``__str__``.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar, cast

from hireliab.core import config
from hireliab.core._breaker_machine import Machine
from hireliab.core._breaker_permit import Permit
from hireliab.core._breaker_settings import Listener, Settings, default_outcome, text_of
from hireliab.core._gate import (
    CLOSED,
    HALF_OPEN,
    ISOLATED,
    OPEN,
    CircuitEvent,
    CircuitState,
    CircuitStats,
    Gate,
    OpenGate,
    Outcome,
)
from hireliab.core._listeners import Events
from hireliab.errors import CircuitOpenError

_log = logging.getLogger("hireliab.circuit_breaker")

R = TypeVar("R")


class Engine:
    """What `CircuitBreaker` does; its attributes are made there."""

    _settings: Settings
    _machine: Machine
    _mx: threading.RLock
    _events: Events[CircuitEvent]
    _blocks: threading.local
    _monotonic: Callable[[], float]
    _timed: bool  # whether a window is kept
    _slow_after: float
    _hooks: tuple[Listener, ...]  # the pybreaker listeners that hear of each call
    _listeners: list[Any]
    _excluded_exceptions: list[Any]

    def _refusal(self, gate: Gate, retry_after: float | None) -> CircuitOpenError:
        raise NotImplementedError

    # -- calls ------------------------------------------------------------------------------------------------

    def acquire(self) -> Permit:
        """
        Ask for leave to make one call.

        Returns:
            The permit; say on it how the call ended.

        Raises:
            CircuitOpenError: No leave: the call must not be made.
        """
        machine = self._machine
        gate = machine.gate
        if gate.passes:
            return Permit(self, gate, None, self._monotonic() if self._timed else 0.0)
        now = self._monotonic()
        if isinstance(gate, OpenGate) and now < gate.until:
            # Without the lock: the gate never changes, and in an outage this is what nearly every call does.
            next(machine.rejected.steps)
            raise self._refusal(gate, gate.until - now)
        with self._mx:
            admitted = machine.admit(now)
            gate = machine.gate
        permit = None if admitted is None else Permit(self, *admitted, now)
        try:
            self._events.deliver(self._tell_state)
        except BaseException:
            # Ctrl-C in a listener: nobody will get this permit.
            if permit is not None:
                permit.ignore()
            raise
        if permit is None:
            raise self._refusal(gate, gate.retry_after(now))
        return permit

    def peek(self) -> None:
        """
        Look whether a call would be refused now, before waiting for anything else; admits nothing.

        A refusal counts as one in `stats`. That nothing is raised promises nothing: the call must still be admitted.

        Raises:
            CircuitOpenError: It would be refused.
        """
        machine = self._machine
        if machine.gate.passes:
            return
        now = self._monotonic()
        with self._mx:
            # Or a lost probe would stay for ever where everybody peeks first.
            machine.give_up_probes(now)
            gate = machine.gate
            refused = not machine.would_admit(now)
        self._events.deliver(self._tell_state)
        if refused:
            next(machine.rejected.steps)
            raise self._refusal(gate, gate.retry_after(now))

    def __enter__(self) -> Permit:
        """
        Guard a block: ``with breaker:``.

        The permits of nested blocks are kept per thread, innermost last. In a generator or greenlet, where blocks
        need not end in that order, use ``with breaker.calling():``.
        """
        permit = self.acquire()
        try:
            self._blocks.permits.append(permit)
        except AttributeError:
            self._blocks.permits = [permit]
        return permit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._blocks.permits.pop().__exit__(kind, error, traceback)

    @contextlib.contextmanager
    def calling(self) -> Iterator[Permit]:
        """Guard a block: like ``with breaker:``, with the permit kept by the block itself."""
        with self.acquire() as permit:
            yield permit

    def _call(self, func: Callable[..., R], args: Any, kwargs: Any) -> R:
        machine = self._machine
        gate = machine.gate
        if gate.quick and not self._timed:
            # As in _breaker_guards.py, for functions that are not decorated.
            try:
                good = func(*args, **kwargs)
            except BaseException as error:
                self._failed(gate, error, 0.0)
                raise
            if gate.failures:
                self._finish(gate, Outcome.SUCCESS, 0.0)
            return good
        if isinstance(gate, OpenGate):
            now = self._monotonic()
            if now < gate.until:  # as in `acquire`, with a frame less
                next(machine.rejected.steps)
                raise self._refusal(gate, gate.until - now)
        return self._call_with(self.acquire(), func, args, kwargs)

    def _call_with(self, permit: Permit, func: Callable[..., R], args: Any, kwargs: Any) -> R:
        """Make the call that the permit admits."""
        with permit:
            if self._hooks:
                self._tell_call("before_call", func, *args, **kwargs)
            result = func(*args, **kwargs)
            if self._settings.is_bad_result is not None:
                self._judge(permit, result)
        return result

    # -- by hand ----------------------------------------------------------------------------------------------

    def isolate(self) -> None:
        """Refuse every call from now on, until `reset()`."""
        self._force(ISOLATED)

    def reset(self) -> None:
        """Close the circuit, from any state, and start counting from zero; the mode stays."""
        self._force(CLOSED)

    def force_open(self, seconds: float | None = None) -> None:
        """
        Open the circuit as if it had tripped; an isolated one stays isolated.

        Args:
            seconds: Of this break, at least 0, such as the server asked for; None for the usual length.
        """
        self._force(OPEN, seconds=config.number_or_none("seconds", seconds, low=0))

    def close(self) -> None:
        """Do what `reset` does, under pybreaker's name."""
        self._force(CLOSED)

    def open(self) -> bool:
        """Do what `force_open` does, under pybreaker's name. Returns False."""
        self._force(OPEN)
        return False

    def half_open(self) -> None:
        """Let probes through now; an isolated circuit stays isolated."""
        self._force(HALF_OPEN)

    def stats(self) -> CircuitStats:
        """One consistent look at the state and the counters."""
        now = self._monotonic()
        with self._mx:
            return self._machine.stats(now)

    # -- outcomes ---------------------------------------------------------------------------------------------

    def _settle(self, permit: Permit, outcome: Outcome, error: BaseException | str | None = None) -> None:
        gate = permit._gate
        if outcome is Outcome.SUCCESS and gate.quick and not gate.failures and not self._timed:
            # Nothing to write down. Should another thread call this permit a failure now, that counts; fair enough.
            permit._ended = True
            return
        text = text_of(error) if outcome is Outcome.FAILURE else None  # may run the user's __str__
        now = self._monotonic()
        with self._mx:
            if permit._ended:
                return
            permit._ended = True
            slow = now - permit._started >= self._slow_after
            self._machine.settle(gate, permit._lease, outcome, text, now, slow=slow)
        self._tell_outcome(outcome, error)

    def _finish(self, gate: Gate, outcome: Outcome, started: float) -> None:
        """Take the outcome of a guarded function whose gate was closed."""
        now = self._monotonic()
        with self._mx:
            self._machine.settle(gate, None, outcome, None, now, slow=now - started >= self._slow_after)
        self._tell_outcome(outcome, None)

    def _failed(self, gate: Gate, error: BaseException, started: float) -> None:
        """Take the exception of a guarded function whose gate was closed."""
        outcome = self._classify(error)
        text = text_of(error) if outcome is Outcome.FAILURE else None
        now = self._monotonic()
        with self._mx:
            self._machine.settle(gate, None, outcome, text, now, slow=now - started >= self._slow_after)
        self._tell_outcome(outcome, error)

    def _judge(self, permit: Permit, result: object) -> None:
        """Ask the user's predicate about a result."""
        predicate = cast("Callable[[Any], Any]", self._settings.is_bad_result)
        try:
            outcome = _outcome_of(predicate(result), Outcome.SUCCESS)
        except Exception:
            self._events.report(predicate, "predicate")
            outcome = Outcome.FAILURE
        self._settle(permit, outcome, "a bad result" if outcome is Outcome.FAILURE else None)

    def _classify(self, error: BaseException) -> Outcome:
        outcome = default_outcome(error)
        if outcome is Outcome.IGNORE or not isinstance(error, Exception):
            return outcome
        predicate: Any = None
        try:
            for entries, meaning in (
                (self._settings.ignore, Outcome.IGNORE),
                (tuple(self._excluded_exceptions), Outcome.SUCCESS),
            ):
                for predicate in entries:
                    # Every class is a type here, whatever its metaclass: called as a predicate it would make an
                    # instance, which is true, and exclude everything.
                    if isinstance(error, predicate) if isinstance(predicate, type) else predicate(error):
                        return meaning
            predicate = self._settings.is_failure
            if predicate is None:
                return outcome
            if isinstance(predicate, type | tuple):
                return Outcome.FAILURE if isinstance(error, predicate) else Outcome.SUCCESS
            return _outcome_of(predicate(error), outcome)
        except Exception:
            self._events.report(predicate, "predicate")
            return Outcome.FAILURE

    # -- listeners --------------------------------------------------------------------------------------------

    def _tell_outcome(self, outcome: Outcome, error: BaseException | str | None) -> None:
        # pybreaker's order: a failure is told before the change it causes, a success after it.
        if self._hooks and outcome is Outcome.FAILURE:
            self._tell_call("failure", error)
        self._events.deliver(self._tell_state)
        if self._hooks and outcome is Outcome.SUCCESS:
            self._tell_call("success")

    def _force(self, state: CircuitState, *, seconds: float | None = None) -> None:
        now = self._monotonic()
        with self._mx:
            self._machine.force(state, now, seconds=seconds)
        self._events.deliver(self._tell_state)

    def _tell_state(self, event: CircuitEvent) -> None:
        level = logging.WARNING if event.new in (OPEN, ISOLATED) or event.new is event.old else logging.INFO
        _log.log(level, "circuit breaker %r: %s, was %s: %s", event.name, event.new, event.old, event.reason)
        for listener in tuple(self._listeners):
            if hasattr(listener, "state_change"):
                self._events.call(listener, listener.state_change, self, event.old, event.new)
            else:
                self._events.call(listener, listener, event)

    def _tell_call(self, hook: str, /, *args: Any, **kwargs: Any) -> None:
        for listener in self._hooks:
            self._events.call(listener, getattr(listener, hook), self, *args, **kwargs)


def _outcome_of(verdict: object, otherwise: Outcome) -> Outcome:
    """What a predicate's answer means."""
    if isinstance(verdict, Outcome):
        return verdict
    if verdict is None:
        return otherwise
    return Outcome.FAILURE if verdict else Outcome.SUCCESS
