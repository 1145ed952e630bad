"""
`Policy` and `@reliable`: retry, circuit breaker, bulkhead, rate limiter and deadline around one call, in one order.

From the outside in::

    fallback > deadline > retry > breaker, a look > bulkhead > rate limiter > breaker, admission > the function

The breaker is asked twice: a look before anything waits (if anything does), so that an open circuit costs nobody a place
or a permit; and the admission after the waits, so that it is fresh and a probe's place is not spent in a queue. Everything that waits is
inside the retry, so no place is held between attempts. The limiter comes last before the send: a permit taken early
and used late would be a burst at the exchange.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar, cast

from hireliab.core import config
from hireliab.core.bulkhead import Bulkhead
from hireliab.core.circuit_breaker import CircuitBreaker, registry
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.core.deadline import bounded, check
from hireliab.core.deadline import deadline as time_budget
from hireliab.core.rate_limiter import RateLimiter
from hireliab.core.retry import Retry, RetryBudget, pause_asked_by
from hireliab.errors import (
    ConfigError,
    ConnectError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    ThrottledError,
)

__all__ = ["READ_ERRORS", "Policy", "reliable"]

_log = logging.getLogger("hireliab.policy")

P = ParamSpec("P")
R = TypeVar("R")

READ_ERRORS: tuple[type[Exception], ...] = (
    ConnectError,
    RateLimitedError,
    ThrottledError,
    OutcomeUnknownError,
    TimeoutError,
    ConnectionError,
)
"""After these, ``@reliable(…, idempotent=True)`` calls again."""

_UNAVAILABLE: tuple[type[Exception], ...] = (NotSentError, *READ_ERRORS)

_LONGEST_PAUSE = 3600.0  # seconds that one answer may silence the limiter; a longer ban is asked for again then

_PRESET: Any = object()  # told from None, which says "without"


class Policy:
    """
    Makes calls through the given parts, always in the order that `explain` tells.

    Thread-safe, with no state but its parts'; parts may be shared between policies. A part that is not given costs a
    comparison. When the venue throttles, the shared limiter pauses too, because other threads are about to make the same
    mistake; a permit of the limiter is given back when the call was refused after it.

    Args:
        name: For errors, logs and `explain`.
        idempotent: Whether calling twice does no harm; a promise about the function.
        fallback: Takes the exception and returns the answer instead. Only with `idempotent`: after an order whose
            outcome is unknown, a second venue would double the position.
        fallback_on: The exceptions that it answers. Left out: everything that means "not available now".
        deadline: Seconds for the whole call, all attempts and waits included; None: no limit of its own.
        retry: May be idempotent only if the policy is.
        breaker: Sees every attempt.
        bulkhead: Its place is held during one attempt.
        limiter: Every attempt pays.
        weight: What one attempt costs in the limiter.
        lane: The limiter's lane, "normal" or "reserved".
        max_wait: Seconds to wait for the limiter; None: no limit. A stale order is worse than none.
        clock: Where the deadline's time comes from.

    Raises:
        ConfigError: A part is of a wrong kind, parts contradict each other, or the limiter can never admit `weight`.
    """

    def __init__(
        self,
        *,
        name: str,
        idempotent: bool = False,
        fallback: Callable[[Exception], Any] | None = None,
        fallback_on: type[Exception] | Iterable[type[Exception]] | None = None,
        deadline: float | None = None,
        retry: Retry | None = None,
        breaker: CircuitBreaker | None = None,
        bulkhead: Bulkhead | None = None,
        limiter: RateLimiter | None = None,
        weight: int = 1,
        lane: str = "normal",
        max_wait: float | None = 1.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = config.text("name", name)
        self._what = f"policy {name!r}"
        self.idempotent = config.flag("idempotent", idempotent)
        for setting, part, kind in (
            ("retry", retry, Retry),
            ("breaker", breaker, CircuitBreaker),
            ("bulkhead", bulkhead, Bulkhead),
            ("limiter", limiter, RateLimiter),
        ):
            if part is not None and not isinstance(part, kind):
                raise self._wrong(setting, part, f"a {kind.__name__} or None")
        self._fallback = fallback
        self._fallback_on = self._checked_fallback(fallback, fallback_on)
        self._run = self._within_deadline if fallback is None else self._with_fallback
        if retry is not None and retry.idempotent and not self.idempotent:
            raise self._wrong("retry", retry, "without idempotent=True, unless the policy is idempotent too")
        seconds = config.number_or_none("deadline", deadline, above=0)
        self._deadline = None if seconds is None else time_budget(seconds, clock=clock)
        self._retry = retry
        self._attempts = _once if retry is None else retry._run
        self._breaker = breaker
        self._bulkhead = bulkhead
        self._limiter = limiter
        self._waits = bulkhead is not None or limiter is not None
        self._attempt = self._after_waits if self._waits else self._at_once
        self._weight = config.whole("weight", weight, low=1)
        self._lane = config.choice("lane", lane, ("normal", "reserved"))
        self._max_wait = config.number_or_none("max_wait", max_wait, low=0)
        if limiter is not None:
            _try_weight(limiter, self._weight, self._lane)
        self._order = tuple(self._tell(seconds))

    def execute(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Call `func` through all parts; its exception passes through untouched.

        Raises:
            NotSentError: A part refused; `func` was not called by this attempt.
            ConfigError: `func` is a generator or async function; it was not called.
        """
        config.blocking_function(self._what, func)
        return cast("R", self._run(func, args, kwargs))

    def __call__(self, func: Callable[P, R], /) -> Callable[P, R]:
        """
        Decorate a function: ``@policy``.

        Raises:
            ConfigError: It is a generator function, an async function, a class or nothing that can be called.
        """
        if isinstance(func, staticmethod | classmethod):
            return cast("Callable[P, R]", type(func)(self(func.__func__)))
        config.decorable(self._what, func)
        run = self._run

        @functools.wraps(func)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return run(func, args, kwargs)

        return cast("Callable[P, R]", guarded)

    def explain(self) -> str:
        """The order of the parts in words, one line each, for a human: ``print(policy.explain())``."""
        lines = (f"{number}. {line}" for number, line in enumerate(self._order, start=1))
        return "\n".join((f"{self._what}, from the outside in:", *lines))

    @property
    def parts(self) -> tuple[object, ...]:
        """What can be measured of it: breaker, bulkhead, limiter and the retry's budget, those that it has."""
        budget = None if self._retry is None else self._retry.budget
        return tuple(part for part in (self._breaker, self._bulkhead, self._limiter, budget) if part is not None)

    def __repr__(self) -> str:
        return f"<Policy {self.name!r} of {len(self._order) - 1} parts>"

    # -- machinery, from the outside in -----------------------------------------------------------------------

    def _with_fallback(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            return self._within_deadline(func, args, kwargs)
        except self._fallback_on as error:
            _log.info("%s: %s, the fallback answers", self._what, type(error).__name__)
            return cast("Callable[..., Any]", self._fallback)(error)

    def _within_deadline(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._deadline is None:
            return self._attempts(func, args, kwargs, self._attempt)
        return self._deadline._run(self._attempts, func, args, kwargs, self._attempt)

    def _after_waits(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """One attempt that may have to wait, for a place or a permit."""
        if self._breaker is not None:
            self._breaker.peek()
        if self._bulkhead is None:
            return self._paid(func, args, kwargs)
        self._bulkhead._take()
        try:
            return self._paid(func, args, kwargs)
        finally:
            self._bulkhead._give()

    def _paid(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        limiter, breaker = self._limiter, self._breaker
        if limiter is None:
            return self._at_once(func, args, kwargs)
        token = limiter.acquire(self._weight, timeout=bounded(self._max_wait), lane=self._lane)
        try:
            check(self._what)
            permit = None if breaker is None else breaker.acquire()
        except BaseException:
            limiter.give_back(token)
            raise
        try:
            if breaker is None or permit is None:
                return func(*args, **kwargs)
            return breaker._call_with(permit, func, args, kwargs)
        except ThrottledError as error:
            asked = pause_asked_by(error)
            if asked is not None:
                limiter.penalize(min(asked, _LONGEST_PAUSE))
            raise

    def _at_once(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """One attempt that has nothing to wait for any more."""
        check(self._what)
        return func(*args, **kwargs) if self._breaker is None else self._breaker._call(func, args, kwargs)

    # -- at build ---------------------------------------------------------------------------------------------

    def _wrong(self, setting: str, value: object, allowed: str) -> ConfigError:
        return ConfigError(
            f"{self._what}: {setting} must be {allowed}, got {config.shown(value)}",
            setting=setting,
            value=value,
            allowed=allowed,
        )

    def _checked_fallback(self, fallback: object, on: Any) -> tuple[type[Exception], ...]:
        if fallback is None:
            if on is not None:
                raise self._wrong("fallback_on", on, "left out without a fallback")
            return ()
        if not callable(fallback):
            raise self._wrong("fallback", fallback, "a callable that takes the exception")
        if not self.idempotent:
            raise self._wrong(
                "fallback", fallback, "left out, unless idempotent=True says that the call may be made twice"
            )
        if on is None:
            return _UNAVAILABLE
        kinds = on if isinstance(on, tuple | list | set | frozenset) else (on,)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise self._wrong("fallback_on", on, "Exception types")
        return tuple(cast("Iterable[type[Exception]]", kinds))

    def _tell(self, seconds: float | None) -> Iterable[str]:
        if self._fallback is not None:
            kinds = ", ".join(kind.__name__ for kind in self._fallback_on)
            yield f"fallback: answers instead after {kinds}"
        if self._deadline is not None:
            yield f"deadline: {seconds:g} s for everything below"
        if self._retry is not None:
            yield f"retry: {self._retry.explain()}"
        if self._breaker is not None and self._waits:
            yield f"circuit breaker {self._breaker.name!r}, a look: refuses at once while open, before anything waits"
        if self._bulkhead is not None:
            most, wait = self._bulkhead.max_concurrent, self._bulkhead.max_wait
            waits = f"waits at most {wait:g} s" if wait else "does not wait"
            yield f"bulkhead {self._bulkhead.name!r}: at most {most} at once, {waits}"
        if self._limiter is not None:
            waits = "waits as long as it takes" if self._max_wait is None else f"waits at most {self._max_wait:g} s"
            yield f"rate limiter {self._limiter.name!r}: weight {self._weight} in the {self._lane} lane, {waits}"
        if self._breaker is not None:
            yield f"circuit breaker {self._breaker.name!r}, admission: counts how the call ends"
        yield "the function" + (", which may be called twice" if self.idempotent else "")


def _once(func: Callable[..., Any], args: Any, kwargs: Any, through: Callable[..., Any]) -> Any:
    """Stand in for the retry of a policy that has none."""
    return through(func, args, kwargs)


def _try_weight(limiter: RateLimiter, weight: int, lane: str) -> None:
    """Raise a ConfigError if the limiter can never admit this weight; it is asked, and takes nothing."""
    with contextlib.suppress(RateLimitedError):  # full just now; it will admit it at another time
        limiter.give_back(limiter.acquire(weight, timeout=0.0, lane=lane))


def reliable(
    name: str,
    *,
    idempotent: bool = False,
    on: Any = None,
    attempts: int = 3,
    deadline: float | None = _PRESET,
    retry: Retry | None = _PRESET,
    breaker: CircuitBreaker | None = _PRESET,
    clock: Clock = SYSTEM_CLOCK,
    **parts: Any,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Decorate a function with a policy that is safe for orders, or with ``idempotent=True`` one for reads.

    For orders: one send. It is repeated only after an error that proves that it did not go out. For reads: repeated
    after `READ_ERRORS`, within 30 s in all. Both have the registry's circuit breaker of this name and the retry budget
    that is shared under it. Give placing, cancelling and reading different names: what fails for one may work for the
    other.

    Args:
        name: Of the policy, its breaker and its budget.
        idempotent: Whether calling twice does no harm; a promise about the function.
        on: The errors to retry instead of the preset's.
        attempts: Calls in all.
        deadline: Seconds for the whole call; None: no limit.
        retry: Instead of the preset's; None: without.
        breaker: Instead of the registry's; None: without.
        clock: Where the time comes from.
        parts: As for `Policy`: fallback, fallback_on, bulkhead, limiter, weight, lane, max_wait.

    Raises:
        ConfigError: A setting is wrong, or the function is a generator or async function.
    """
    config.refuse_unknown(parts, _PARTS, where=f"reliable {config.shown(name)}")
    config.text("name", name)
    if retry is _PRESET:
        retry = Retry(
            on=READ_ERRORS if on is None and idempotent else on,
            idempotent=idempotent,
            attempts=attempts,
            budget=RetryBudget.shared(name, clock=clock),
            clock=clock,
        )
    elif on is not None or attempts != 3:
        raise ConfigError(f"reliable {name!r}: on and attempts belong to the retry that was given", setting="retry")
    if breaker is _PRESET:
        breaker = registry.get(name) if clock is SYSTEM_CLOCK else registry.get(name, clock=clock)
    if deadline is _PRESET:
        deadline = 30.0 if idempotent else None
    return Policy(
        name=name, idempotent=idempotent, retry=retry, breaker=breaker, deadline=deadline, clock=clock, **parts
    )


_PARTS = ("fallback", "fallback_on", "bulkhead", "limiter", "weight", "lane", "max_wait")
