"""
`CircuitBreaker`: stops calling what keeps failing, and tries it again carefully.

It is a `pybreaker.CircuitBreaker`, so existing ``isinstance`` checks, listeners and ``except`` clauses keep working,
but it does not hold its lock during the call, lets only a few probes through when it tries again, and ignores
results that come too late to say anything. This is the only file that names pybreaker.

The states::

    closed --failures in a row, or a share of the last calls--> open --reset_timeout is over, next call--> half-open
    half-open --success_threshold good probes--> closed         half-open --one bad or lost probe--> open
    any --isolate()--> isolated --reset()--> closed             mode: metrics-only or disabled instead of closed
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar, cast

import pybreaker

from hireliab.core import config
from hireliab.core._breaker_engine import Engine
from hireliab.core._breaker_guards import guard, guard_timed
from hireliab.core._breaker_machine import MODES, PROBE_LEASE, Backoff, Machine, make_shares
from hireliab.core._breaker_permit import Permit
from hireliab.core._breaker_registry import Registry
from hireliab.core._breaker_settings import (
    FAILURE_THRESHOLD,
    Exclusion,
    Listener,
    Verdict,
    check_exclusion,
    check_reset_timeout,
    load_settings,
    not_allowed,
)
from hireliab.core._gate import (
    CircuitEvent,
    CircuitState,
    CircuitStats,
    Gate,
    Outcome,
)
from hireliab.core._listeners import Events
from hireliab.core._threads import renew_after_fork
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import CircuitOpenError

__all__ = [
    "PROBE_LEASE",
    "Backoff",
    "CircuitBreaker",
    "CircuitEvent",
    "CircuitState",
    "CircuitStats",
    "Outcome",
    "Permit",
    "circuit_breaker",
    "registry",
]

_log = logging.getLogger("hireliab.circuit_breaker")

P = ParamSpec("P")
R = TypeVar("R")


class _OpenError(CircuitOpenError, pybreaker.CircuitBreakerError):
    """What is raised: code written for pybreaker catches it too."""


_new_error = _OpenError.__new__


def _hears_of_calls(listener: object) -> bool:
    """Whether it is a pybreaker listener that has more than `state_change`: those that have not cost a call nothing."""
    if not hasattr(listener, "state_change"):
        return False
    nothing = pybreaker.CircuitBreakerListener
    hooks = ("before_call", "success", "failure")
    return any(getattr(getattr(listener, hook), "__func__", None) is not getattr(nothing, hook) for hook in hooks)


class CircuitBreaker(Engine, pybreaker.CircuitBreaker):
    """
    Refuses calls to something that keeps failing, so that callers fail fast and it can recover.

    Thread-safe; calls run in parallel, no lock is held while one runs. Only results that belong to the present
    state count: a call that started before the circuit opened can neither close nor re-open it. The call that
    opens the circuit raises its own exception. There is no timer thread; an open circuit becomes half-open at the
    first call after `reset_timeout`. It may be called from a signal handler. A forked child keeps the state, without
    the probes of its parent.

    Half-open, at most `half_open_max_requests` probes run at once, and no more in all than `success_threshold`
    still needs. The first bad probe opens the circuit again, as does a slow one, and one that has not come back
    after `PROBE_LEASE` seconds (or `reset_timeout`, if that is longer).

    An exception counts as a failure, except: RefusedError by the venue is a success, because it answered; ignored
    are RefusedError by hireliab, NotSentError other than ConnectError, ConfigError, and whatever is no Exception,
    such as KeyboardInterrupt. Then `ignore`, `exclude` and `is_failure` are asked, in this order.

    pybreaker's `fail_max` and `exclude` are accepted. Different from pybreaker: `state` is a word (which has a
    `name`); listeners hear of a change after it was made; a listener that raises is logged and changes nothing.

    Args:
        name: For errors, logs and events.
        failure_threshold: Failures in a row that open the circuit, at least 1; None for no such rule.
        failure_share: Share of failures among the calls of the last `window` seconds that opens the circuit, above
            0 and at most 1; None for no such rule.
        slow_share: The same for calls that took `slow_after` seconds or longer, however they ended.
        slow_after: Seconds from which on a call is slow, at least 0; given together with `slow_share`.
        window: Seconds that the shares look at; they are counted in tenths.
        min_calls: Fewer calls in the window open nothing, at least 1.
        reset_timeout: Seconds that the circuit stays open, at least 0, or a `Backoff`.
        half_open_max_requests: Probes in flight at once, 1 to 1000.
        success_threshold: Good probes that close the circuit, 1 to 1000.
        mode: "on"; "metrics_only" counts and tells when it would have opened, but refuses nothing; "disabled" does
            not even count.
        clock: Where the time comes from.
        is_failure: Exception types that are failures while all others are successes; or a callable that takes the
            exception: True counts it as a failure, False as a success, an `Outcome` as itself, None leaves it to the
            rule above. It is not asked about what the rule ignores.
        is_bad_result: Takes what the function returned: True counts it as a failure, False and None as a success, an
            `Outcome` as itself. The caller gets the result in any case.
        exclude: Exception types, or callables that take the exception; those that match are successes.
        ignore: The same; those that match count neither way.
        listeners: Callables that take a `CircuitEvent`, or pybreaker listeners.

    Raises:
        ConfigError: A setting is unknown, out of range, or given under both of its names.
    """

    def __init__(
        self,
        *,
        name: str = "unnamed",
        failure_threshold: int | None = FAILURE_THRESHOLD,
        failure_share: float | None = None,
        slow_share: float | None = None,
        slow_after: float | None = None,
        window: float = 60.0,
        min_calls: int = 20,
        reset_timeout: float | Backoff = 30.0,
        half_open_max_requests: int = 1,
        success_threshold: int = 1,
        mode: str = "on",
        clock: Clock = SYSTEM_CLOCK,
        is_failure: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], Verdict] | None = None,
        is_bad_result: Callable[[Any], Verdict] | None = None,
        exclude: Iterable[Exclusion] | None = None,
        ignore: Iterable[Exclusion] | None = None,
        listeners: Iterable[Listener] | None = None,
        **pybreaker_names: Any,
    ) -> None:
        given = {key: value for key, value in locals().items() if key not in ("self", "pybreaker_names", "__class__")}
        self._settings = load_settings(f"circuit breaker {config.shown(name)}", given, pybreaker_names)
        threshold = self._settings.failure_threshold
        self._monotonic = clock.monotonic
        self._events: Events[CircuitEvent] = Events(_log, lambda: f"circuit breaker {self._machine.name!r}")
        self._blocks = threading.local()
        self._hooks = tuple(filter(_hears_of_calls, self._settings.listeners))
        shares = make_shares(
            failure_share=failure_share,
            slow_share=slow_share,
            slow_after=slow_after,
            window=window,
            min_calls=min_calls,
        )
        self._timed = shares is not None
        self._slow_after = math.inf if shares is None else shares.slow_after
        # Guards the gate and its counters. Re-entrant, because a signal handler or a finaliser may call the breaker
        # on the thread that is inside; a plain lock would never be released.
        self._mx = threading.RLock()
        self._machine = Machine(
            name=name,
            fail_max=None if threshold is None else int(threshold),
            reset_timeout=check_reset_timeout(reset_timeout),
            success_threshold=int(success_threshold),
            most_probes=int(half_open_max_requests),
            put=self._events.put,
            shares=shares,
            mode=mode,
            quick=self._is_quick(),
            now=self._monotonic(),
        )
        # Last, because it asks for the current state.
        super().__init__(
            exclude=cast("Any", self._settings.exclude),
            listeners=self._settings.listeners,
            throw_new_error_on_trip=False,
        )
        renew_after_fork(self)

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
        config.blocking_function("circuit breaker", func)
        return self._call(func, args, kwargs)

    def call(  # type: ignore[override]  # positional-only: func= may be the callee's own
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Do what `execute` does, under pybreaker's name."""
        config.blocking_function("circuit breaker", func)
        return self._call(func, args, kwargs)

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
        config.decorable("circuit breaker", func)
        if self._timed:
            return guard_timed(self, func, monotonic=self._monotonic, slow_after=self._slow_after)
        return guard(self, func)

    def call_async(self, func: Any, *_args: Any, **_kwargs: Any) -> Any:
        """Refused: pybreaker's Tornado coroutines would hold a lock while they are suspended."""
        raise not_allowed("func", func, "a blocking function")

    # -- views ------------------------------------------------------------------------------------------------

    @property  # type: ignore[misc]  # read-only: events and the registry know the breaker by it
    def name(self) -> str:
        """The breaker's name."""
        return self._machine.name

    @property  # type: ignore[misc]  # read-only: isolate(), open(), half_open() and reset() change it
    def state(self) -> CircuitState:  # type: ignore[override]  # a word that has a name, not a state object
        """``closed``, ``open``, ``half-open``, ``isolated``, ``metrics-only`` or ``disabled``."""
        return self._machine.gate.state

    @property
    def current_state(self) -> str:
        """The state as plain text, pybreaker's name."""
        return str(self._machine.gate.state)

    @property
    def mode(self) -> str:
        """``on``, ``metrics_only`` or ``disabled``; it may be set, and counting starts from zero then."""
        return self._machine.mode

    @mode.setter
    def mode(self, mode: str) -> None:
        mode = config.choice("mode", mode, MODES)
        now = self._monotonic()
        with self._mx:
            self._machine.switch(mode, now)
        self._events.deliver(self._tell_state)

    @property  # type: ignore[override]  # pybreaker's cannot be None
    def fail_max(self) -> int | None:
        """`failure_threshold`, under pybreaker's name; it may be set."""
        return self._machine.fail_max

    @fail_max.setter
    def fail_max(self, number: int) -> None:
        self._machine.fail_max = config.whole("fail_max", number, low=1)

    failure_threshold = fail_max

    @property  # type: ignore[override]  # pybreaker's is always a number
    def reset_timeout(self) -> float | Backoff:
        """Seconds that the circuit stays open; it may be set, for the next time that it opens."""
        return self._machine.reset_timeout

    @reset_timeout.setter
    def reset_timeout(self, timeout: float | Backoff) -> None:
        self._machine.reset_timeout = check_reset_timeout(timeout)

    @property
    def success_threshold(self) -> int:
        """Good probes that close the circuit; it may be set."""
        return self._machine.success_threshold

    @success_threshold.setter
    def success_threshold(self, threshold: int) -> None:
        threshold = config.whole("success_threshold", threshold, low=1, high=1000)
        now = self._monotonic()
        with self._mx:
            self._machine.want(threshold, now)
        self._events.deliver(self._tell_state)

    @property
    def fail_counter(self) -> int:
        """Failures in a row while closed, else 0; pybreaker's name."""
        return self._machine.gate.failures

    @property
    def success_counter(self) -> int:
        """Good probes of this half-open state, else 0; pybreaker's name."""
        return self._machine.gate.successes

    def is_system_error(self, exception: BaseException) -> bool:
        """Whether this exception would count as a failure; pybreaker's name."""
        return self._classify(exception) is Outcome.FAILURE

    def add_excluded_exception(self, exception: Any) -> None:
        """Count this exception type, or what this predicate is true of, as a success."""
        check_exclusion("exclude", exception)
        super().add_excluded_exception(exception)

    def add_listener(self, listener: Any) -> None:
        """Tell this listener, too, from now on."""
        super().add_listener(listener)
        self._look_at_listeners()

    def remove_listener(self, listener: Any) -> None:
        """Tell this listener nothing more."""
        super().remove_listener(listener)
        self._look_at_listeners()

    # -- machinery --------------------------------------------------------------------------------------------

    def _refusal(self, gate: Gate, retry_after: float | None) -> CircuitOpenError:
        # Without its __init__ and the five of its bases: an outage raises thousands of these a second.
        error = _new_error(_OpenError, "")
        error.name = self._machine.name
        error.state = gate.word
        error.retry_after = retry_after
        error.last_error = gate.last_error
        return error

    def _look_at_listeners(self) -> None:
        with self._mx:
            self._hooks = tuple(filter(_hears_of_calls, self._listeners))
            self._machine.set_quick(self._is_quick())

    def _is_quick(self) -> bool:
        return not self._hooks and self._settings.is_bad_result is None

    def _create_new_state(self, *_args: Any, **_kwargs: Any) -> Any:
        """Stand in for pybreaker's state objects, which would write counters and call listeners."""
        return self._machine.gate.state

    def _inc_counter(self) -> None:
        """Do nothing: pybreaker's storage counts nothing here."""

    def renew_in_child(self) -> None:
        """Keep the state in a forked child, without the parent's probes and with locks that nobody there holds."""
        self._lock = threading.RLock()  # pybreaker's, of the lists
        self._mx = threading.RLock()
        self._events.after_fork()
        self._machine.forget_probes()


registry: Registry[CircuitBreaker] = Registry(CircuitBreaker)
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
