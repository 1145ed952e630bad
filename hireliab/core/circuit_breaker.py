"""
`CircuitBreaker`: stops calling what keeps failing, and tries it again carefully.

It is a `pybreaker.CircuitBreaker`, so existing ``isinstance`` checks, listeners and ``except`` clauses keep working,
but it does not hold its lock during the call, lets only a few probes through when it tries again, and ignores
results that come too late to say anything. This is the only file that names pybreaker.

The states::

    closed --failure_threshold failures in a row--> open --reset_timeout is over, next call--> half-open
    half-open --success_threshold good probes--> closed         half-open --one bad or lost probe--> open
    any --isolate()--> isolated --reset()--> closed
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

import pybreaker

from hireliab.core import config
from hireliab.core._breaker_settings import (
    FAILURE_THRESHOLD,
    Exclusion,
    Listener,
    default_outcome,
    load_settings,
    not_allowed,
    refuse_lazy,
    text_of,
)
from hireliab.core._gate import (
    CLOSED,
    HALF_OPEN,
    ISOLATED,
    OPEN,
    PROBE_LEASE,
    CircuitEvent,
    CircuitState,
    CircuitStats,
    Gate,
    Machine,
    Outcome,
)
from hireliab.core._listeners import Events
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import CircuitOpenError, ConfigError

__all__ = [
    "PROBE_LEASE",
    "CircuitBreaker",
    "CircuitEvent",
    "CircuitState",
    "CircuitStats",
    "Permit",
    "circuit_breaker",
    "registry",
]

_log = logging.getLogger("hireliab.circuit_breaker")

P = ParamSpec("P")
R = TypeVar("R")


class _OpenError(CircuitOpenError, pybreaker.CircuitBreakerError):
    """What is raised: code written for pybreaker catches it too."""


class Permit:
    """
    Leave to make one call, and the duty to say how it ended.

    Say it with `success`, `failure` or `ignore`; the first word counts, later ones do nothing. Or put the call
    into ``with permit:``, which applies the breaker's rule to the exception that leaves the block. A permit that is
    forgotten costs nothing while the circuit is closed; half-open it blocks its place for `PROBE_LEASE` seconds or
    `reset_timeout`, whichever is longer, and then counts as a failed probe.
    """

    __slots__ = ("_breaker", "_ended", "_gate", "_lease")

    def __init__(self, breaker: CircuitBreaker, gate: Gate, lease: int | None) -> None:
        self._breaker = breaker
        self._gate = gate
        self._lease = lease
        self._ended = False

    def success(self) -> None:
        """The other side answered."""
        self._breaker._settle(self, Outcome.SUCCESS)

    def failure(self, error: BaseException | str | None = None) -> None:
        """
        The other side failed.

        Args:
            error: What happened; its text becomes `last_error`.
        """
        self._breaker._settle(self, Outcome.FAILURE, error)

    def ignore(self) -> None:
        """The call says nothing about the other side, or was never made."""
        self._breaker._settle(self, Outcome.IGNORE)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Against None and not by truth: an exception class may define __len__ or __bool__.
        if error is None:
            self.success()
            return
        try:
            outcome = self._breaker._classify(error)
        except BaseException:
            # Ctrl-C while the user's predicate ran: the probe's place must not stay taken.
            self.ignore()
            raise
        self._breaker._settle(self, outcome, error)


class CircuitBreaker(pybreaker.CircuitBreaker):
    """
    Refuses calls to something that keeps failing, so that callers fail fast and it can recover.

    Thread-safe; calls run in parallel, no lock is held while one runs. Only results that belong to the present
    state count: a call that started before the circuit opened can neither close nor re-open it. The call that
    opens the circuit raises its own exception. There is no timer thread; an open circuit becomes half-open at the
    first call after `reset_timeout`.

    Half-open, at most `half_open_max_requests` probes run at once, and no more in all than `success_threshold`
    still needs. The first bad probe opens the circuit again, as does one that has not come back after `PROBE_LEASE`
    seconds (or `reset_timeout`, if that is longer).

    An exception counts as a failure, except: RefusedError by the venue is a success, because it answered; ignored
    are RefusedError by hireliab, NotSentError other than ConnectError, ConfigError, and whatever is no Exception,
    such as KeyboardInterrupt.

    pybreaker's `fail_max` and `exclude` are accepted. Different from pybreaker: `state` is a word (which has a
    `name`); listeners hear of a change after it was made; a listener that raises is logged and changes nothing.

    Args:
        name: For errors, logs and events.
        failure_threshold: Failures in a row that open the circuit, at least 1.
        reset_timeout: Seconds that the circuit stays open, at least 0.
        half_open_max_requests: Probes in flight at once, 1 to 1000.
        success_threshold: Good probes that close the circuit, 1 to 1000.
        clock: Where the time comes from.
        is_failure: Takes the exception: True counts it as a failure, False as a success, None leaves it to the
            rule above. It is not asked about what the rule ignores.
        exclude: Exception types, or callables that take the exception; those that match are successes.
        listeners: Callables that take a `CircuitEvent`, or pybreaker listeners.

    Raises:
        ConfigError: A setting is unknown, out of range, or given under both of its names.
    """

    def __init__(
        self,
        *,
        name: str = "unnamed",
        failure_threshold: int = FAILURE_THRESHOLD,
        reset_timeout: float = 30.0,
        half_open_max_requests: int = 1,
        success_threshold: int = 1,
        clock: Clock = SYSTEM_CLOCK,
        is_failure: Callable[[Exception], bool | None] | None = None,
        exclude: Iterable[Exclusion] | None = None,
        listeners: Iterable[Listener] | None = None,
        **pybreaker_names: Any,
    ) -> None:
        self._settings = load_settings(
            f"circuit breaker {name!r:.80}",
            {
                "name": name,
                "failure_threshold": failure_threshold,
                "reset_timeout": reset_timeout,
                "half_open_max_requests": half_open_max_requests,
                "success_threshold": success_threshold,
                "clock": clock,
                "is_failure": is_failure,
                "exclude": exclude,
                "listeners": listeners,
            },
            pybreaker_names,
        )
        self._clock = clock
        self._events: Events[CircuitEvent] = Events(_log, lambda: f"circuit breaker {self._machine.name!r}")
        self._blocks = threading.local()
        # Guards the gate and its counters. Re-entrant, because a signal handler or a finaliser may call the breaker
        # on the thread that is inside; a plain lock would never be released.
        self._mx = threading.RLock()
        self._machine = Machine(
            name=name,
            fail_max=int(self._settings.failure_threshold),
            reset_timeout=float(reset_timeout),
            success_threshold=int(success_threshold),
            most_probes=int(half_open_max_requests),
            put=self._events.put,
        )
        # Last, because it asks for the current state.
        super().__init__(
            exclude=cast("Any", self._settings.exclude),
            listeners=self._settings.listeners,
            throw_new_error_on_trip=False,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._machine.name!r} {self._machine.gate.state}>"

    # -- calls ------------------------------------------------------------------------------------------------

    def execute(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Call `func` and return what it returns; its exception passes through untouched.

        Raises:
            CircuitOpenError: The circuit is open; `func` was not called.
            ConfigError: `func` is a generator or async function; it was not called.
        """
        refuse_lazy(func)
        return self._call(func, args, kwargs)

    def call(  # type: ignore[override]  # positional-only: func= may be the callee's own
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Do what `execute` does, under pybreaker's name."""
        return self.execute(func, *args, **kwargs)

    def _call(self, func: Callable[..., R], args: Any, kwargs: Any) -> R:
        with self.acquire():
            if self._listeners:
                self._tell_call("before_call", func, *args, **kwargs)
            return func(*args, **kwargs)

    def __call__(self, func: Any = None, /, **unknown: Any) -> Any:  # type: ignore[override]  # one function
        """
        Decorate a function: ``@breaker``.

        Raises:
            ConfigError: It is a generator function, an async function, a class or nothing that can be called.
        """
        config.refuse_unknown(unknown, (), where=f"circuit breaker {self._machine.name!r} as decorator")
        if func is None:
            return self.__call__
        if isinstance(func, staticmethod | classmethod):
            return type(func)(self(func.__func__))
        if not callable(func) or isinstance(func, type):
            raise not_allowed("func", func, "a function or method")
        refuse_lazy(func)

        @functools.wraps(func)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self._call(func, args, kwargs)

        return guarded

    def acquire(self) -> Permit:
        """
        Ask for leave to make one call.

        Returns:
            The permit; say on it how the call ended.

        Raises:
            CircuitOpenError: No leave: the call must not be made.
        """
        now = self._clock.monotonic()
        with self._mx:
            admitted = self._machine.admit(now)
            gate = self._machine.gate
        permit = None if admitted is None else Permit(self, *admitted)
        try:
            self._events.deliver(self._tell_state)
        except BaseException:
            # Ctrl-C in a listener: nobody will get this permit.
            if permit is not None:
                permit.ignore()
            raise
        if permit is None:
            raise _OpenError(
                name=self._machine.name,
                state=str(gate.state),
                retry_after=gate.retry_after(now),
                last_error=gate.last_error,
            )
        return permit

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

    def call_async(self, func: Any, *_args: Any, **_kwargs: Any) -> Any:
        """Refused: pybreaker's Tornado coroutines would hold a lock while they are suspended."""
        raise not_allowed("func", func, "a blocking function")

    # -- by hand ----------------------------------------------------------------------------------------------

    def isolate(self) -> None:
        """Refuse every call from now on, until `reset()`."""
        self._force(ISOLATED)

    def reset(self) -> None:
        """Close the circuit, from any state, and start counting from zero."""
        self._force(CLOSED)

    def close(self) -> None:
        """Do what `reset` does, under pybreaker's name."""
        self._force(CLOSED)

    def open(self) -> bool:
        """Open the circuit for `reset_timeout` seconds; an isolated one stays isolated. Returns False."""
        self._force(OPEN)
        return False

    def half_open(self) -> None:
        """Let probes through now; an isolated circuit stays isolated."""
        self._force(HALF_OPEN)

    # -- views ------------------------------------------------------------------------------------------------

    @property  # type: ignore[misc]  # read-only: events and the registry know the breaker by it
    def name(self) -> str:
        """The breaker's name."""
        return self._machine.name

    @property  # type: ignore[misc]  # read-only: isolate(), open(), half_open() and reset() change it
    def state(self) -> CircuitState:  # type: ignore[override]  # a word that has a name, not a state object
        """``closed``, ``open``, ``half-open`` or ``isolated``."""
        return self._machine.gate.state

    @property
    def current_state(self) -> str:
        """The state as plain text, pybreaker's name."""
        return str(self._machine.gate.state)

    @property
    def fail_max(self) -> int:
        """`failure_threshold`, under pybreaker's name; it may be set."""
        return self._machine.fail_max

    @fail_max.setter
    def fail_max(self, number: int) -> None:
        self._machine.fail_max = config.whole("fail_max", number, low=1)

    failure_threshold = fail_max

    @property
    def reset_timeout(self) -> float:
        """Seconds that the circuit stays open; it may be set, for the next time that it opens."""
        return self._machine.reset_timeout

    @reset_timeout.setter
    def reset_timeout(self, timeout: float) -> None:
        self._machine.reset_timeout = config.number("reset_timeout", timeout, low=0)

    @property
    def success_threshold(self) -> int:
        """Good probes that close the circuit; it may be set."""
        return self._machine.success_threshold

    @success_threshold.setter
    def success_threshold(self, threshold: int) -> None:
        self._machine.success_threshold = config.whole("success_threshold", threshold, low=1, high=1000)

    @property
    def fail_counter(self) -> int:
        """Failures in a row while closed, else 0; pybreaker's name."""
        return self._machine.gate.failures

    @property
    def success_counter(self) -> int:
        """Good probes of this half-open state, else 0; pybreaker's name."""
        return self._machine.gate.successes

    def stats(self) -> CircuitStats:
        """One consistent look at the state and the counters."""
        now = self._clock.monotonic()
        with self._mx:
            return self._machine.stats(now)

    def is_system_error(self, exception: BaseException) -> bool:
        """Whether this exception would count as a failure; pybreaker's name."""
        return self._classify(exception) is Outcome.FAILURE

    # -- machinery --------------------------------------------------------------------------------------------

    def _create_new_state(self, *_args: Any, **_kwargs: Any) -> Any:
        """Stand in for pybreaker's state objects, which would write counters and call listeners."""
        return self._machine.gate.state

    def _inc_counter(self) -> None:
        """Do nothing: pybreaker's storage counts nothing here."""

    def _settle(self, permit: Permit, outcome: Outcome, error: BaseException | str | None = None) -> None:
        text = text_of(error) if outcome is Outcome.FAILURE else None  # may run the user's __str__
        now = self._clock.monotonic()
        with self._mx:
            if permit._ended:
                return
            permit._ended = True
            self._machine.settle(permit._gate, permit._lease, outcome, text, now)
        # pybreaker's order: a failure is told before the change it causes, a success after it.
        if self._listeners and outcome is Outcome.FAILURE:
            self._tell_call("failure", error)
        self._events.deliver(self._tell_state)
        if self._listeners and outcome is Outcome.SUCCESS:
            self._tell_call("success")

    def _force(self, state: CircuitState) -> None:
        now = self._clock.monotonic()
        with self._mx:
            self._machine.force(state, now)
        self._events.deliver(self._tell_state)

    def _classify(self, error: BaseException) -> Outcome:
        outcome = default_outcome(error)
        if outcome is Outcome.IGNORE or not isinstance(error, Exception):
            return outcome
        predicate: Any = None
        try:
            for predicate in tuple(self._excluded_exceptions):
                # Every class is a type here, whatever its metaclass: called as a predicate it would make an
                # instance, which is true, and exclude everything.
                if isinstance(error, predicate) if isinstance(predicate, type) else predicate(error):
                    return Outcome.SUCCESS
            predicate = self._settings.is_failure
            verdict = None if predicate is None else predicate(error)
        except Exception:
            self._events.report(predicate, "predicate")
            return Outcome.FAILURE
        if verdict is None:
            return outcome
        return Outcome.FAILURE if verdict else Outcome.SUCCESS

    def _tell_state(self, event: CircuitEvent) -> None:
        level = logging.WARNING if event.new in (OPEN, ISOLATED) else logging.INFO
        _log.log(level, "circuit breaker %r: %s, was %s: %s", event.name, event.new, event.old, event.reason)
        for listener in tuple(self._listeners):
            if hasattr(listener, "state_change"):
                self._events.call(listener, cast("Any", listener).state_change, self, event.old, event.new)
            else:
                self._events.call(listener, cast("Any", listener), event)

    def _tell_call(self, hook: str, /, *args: Any, **kwargs: Any) -> None:
        for listener in tuple(self._listeners):
            if hasattr(listener, "state_change"):
                self._events.call(listener, getattr(listener, hook), self, *args, **kwargs)


class _Registry:
    """Breakers by name, for code that shares one without passing it around. They live until they are discarded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _breakers
        self._breakers: dict[str, CircuitBreaker] = {}

    def get(self, name: str, **settings: Any) -> CircuitBreaker:
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
        candidate = CircuitBreaker(name=name, **settings)
        with self._lock:
            breaker = self._breakers.setdefault(name, candidate)
        for key in settings:
            setting = "failure_threshold" if key == "fail_max" else key
            have, want = getattr(breaker._settings, setting, None), getattr(candidate._settings, setting, None)
            if have != want:
                raise ConfigError(
                    f"circuit breaker {name!r}: {setting} is {have!r} already, got {want!r}; use one value, or call"
                    f" registry.discard({name!r}) first",
                    setting=setting,
                    value=want,
                    allowed=repr(have),
                )
        return breaker

    def discard(self, name: str) -> bool:
        """Forget a name; functions decorated with its breaker keep it. Whether the name was known."""
        with self._lock:
            return self._breakers.pop(name, None) is not None


registry = _Registry()
"""The process's breakers by name. Only `registry.get` and `@circuit_breaker` put anything into it."""


def circuit_breaker(*, name: str, **settings: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Decorate a function with the registry's breaker of this name.

    Functions that share a name share the breaker: they fail together and recover together.

    Args:
        name: The breaker's name.
        settings: As for `CircuitBreaker`.

    Raises:
        ConfigError: A setting is wrong or differs from that of the existing breaker, or the function is a generator
            or async function.
    """
    return cast("Callable[[Callable[P, R]], Callable[P, R]]", registry.get(name, **settings))
