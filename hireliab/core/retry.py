"""
`@retry`: calls again what may be called again, and never what may have happened.

A call is repeated only after an error that proves that it did not go out, unless ``idempotent=True`` says that doing
it twice does no harm. tenacity's strategies and callbacks work here; its controller is not used, so a call that
succeeds at once costs no more than a forwarding wrapper. This is the only file that names tenacity, and it imports it
at the first failure that needs it.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import random
import sys
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

from hireliab.core import config
from hireliab.core._retry_budget import RetryBudget, RetryBudgetStats
from hireliab.core._retry_entries import Entry, sort_entries, wrong
from hireliab.core._threads import Stop
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.core.deadline import remaining
from hireliab.errors import NotSentError, OutcomeUnknownError, ThrottledError

__all__ = ["Retry", "RetryBudget", "RetryBudgetStats", "retry"]

_log = logging.getLogger("hireliab.retry")

P = ParamSpec("P")
R = TypeVar("R")


class _Mark(int):
    """On a spent error: when it was spent, counted in marks. In another process, where nobody counts so, always just now."""

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (math.inf,)


_numbers = itertools.count(1)
_newest = 0
"""The newest mark. Threads may write it in the other order; what is taken from `_numbers` after a look is still larger."""


class _Default(int):
    """A default that can be told from the same number given by the caller."""


_ATTEMPTS = _Default(3)
_BASE = 0.2  # seconds: the first wait is drawn from 0 to this
_CAP = 5.0  # seconds: no wait is drawn from more
_DOUBLINGS = 16  # more than the cap ever needs, and far from where a power of two stops being a float
_LINKS = 20  # of a chain of causes that are followed; a chain may be a circle


Through: TypeAlias = Callable[[Callable[..., Any], Any, Any], Any]
"""How a policy makes the call: it gets function, arguments and keyword arguments."""


class _Call:
    """One call that has failed at least once, or is looked at from its start."""

    __slots__ = ("args", "attempts", "failed_at", "func", "kwargs", "pause", "since", "state", "through")

    def __init__(
        self, since: int, func: Callable[..., Any], args: Any, kwargs: Any, through: Through | None = None
    ) -> None:
        self.since = since  # the newest mark before it began
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.through = through
        self.attempts = 1
        self.failed_at: float | None = None  # the clock's reading at the first failure
        self.pause: float | None = None  # seconds until the next attempt; None: there is none
        self.state: Any = None  # tenacity's RetryCallState, if a strategy or callback needs one


class Retry:
    """
    Calls a function again after certain errors.

    Without `idempotent` these are the errors that prove that the call did not go out: a `NotSentError` whose
    `retryable` is True (ConnectError, PoolTimeoutError, RateLimitedError) and `ThrottledError`; but not one that was
    raised while the call itself handled an `OutcomeUnknownError`, such as a look-up that is throttled after an order
    whose answer was lost. With it, `on` names them. Never retried: what is no Exception, such as KeyboardInterrupt; and
    a `NotSentError` that is not `retryable` (an open circuit, a full bulkhead, a passed deadline), unless `on` names
    its kind.

    A result that a tenacity strategy rejects is retried too, with `idempotent`, and returned when it gives up.

    Between attempts it waits: the error's `retry_after`, if it has one, and what `wait` says on top. It gives up at
    once, without a last wait, when the attempts are used up, when the wait would outlast the deadline in force, when
    `retry_after` is more than `max_retry_after`, or when the budget is empty. The original exception comes out then,
    as it is; its attribute `retry_attempts` is the number of calls made and `retry_elapsed` the seconds from the first
    failure to the last. It is marked as spent: a retry around this one, seeing it or its ``__cause__``, does not begin
    again, so nested retries do not multiply.

    Thread-safe and without state of its own; no lock is held while it calls or waits.

    Args:
        on: The errors to retry: exception types, callables that take the exception, tenacity ``retry_*`` objects, or
            several of them. Required with `idempotent`; without, only types that prove that nothing went out.
        idempotent: Whether calling twice does no harm. True is a promise about `func`.
        attempts: Calls in all, at least 1; with `stop` given alone, `stop` alone decides.
        wait: Seconds between attempts, or a tenacity ``wait_*`` object. Left out: full jitter, from 0 to 0.2 s before
            the second attempt, doubling up to 5 s.
        stop: A tenacity ``stop_*`` object.
        budget: A `RetryBudget`, or the target's name for the one that is shared by name.
        max_retry_after: Seconds; an error that asks for a longer pause is not retried. None: no limit.
        before, after, before_sleep: tenacity's callbacks. What they raise is logged and changes nothing.
        clock: Where the time comes from.

    Raises:
        ConfigError: A setting is out of range or of a wrong kind, or `on` and `idempotent` do not go together.

    Source: full jitter after Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """

    def __init__(
        self,
        *,
        on: Entry | Iterable[Entry] | None = None,
        idempotent: bool = False,
        attempts: int = _ATTEMPTS,
        wait: float | Callable[[Any], float] | None = None,
        stop: Callable[[Any], bool] | None = None,
        budget: RetryBudget | str | None = None,
        max_retry_after: float | None = 60.0,
        before: Callable[[Any], object] | None = None,
        after: Callable[[Any], object] | None = None,
        before_sleep: Callable[[Any], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.idempotent = config.flag("idempotent", idempotent)
        if stop is not None and isinstance(attempts, _Default):
            self.attempts: int | None = None
        else:
            self.attempts = config.whole("attempts", attempts, low=1)
        self._types, self._predicates, self._strategies = sort_entries(on, idempotent=self.idempotent)
        if wait is not None and not callable(wait):
            wait = config.number("wait", wait, low=0)
        self._wait = wait
        strategies = {"wait": None if isinstance(wait, float) else wait, "stop": stop}
        for setting, value in {**strategies, "before": before, "after": after, "before_sleep": before_sleep}.items():
            if value is not None and (not callable(value) or isinstance(value, type)):
                raise wrong(setting, value, "a callable that takes tenacity's RetryCallState, or None")
        self._stop = stop
        if isinstance(budget, str):
            budget = RetryBudget.shared(budget)
        elif budget is not None and not isinstance(budget, RetryBudget):
            raise wrong("budget", budget, "a RetryBudget, a target's name or None")
        self.budget = budget
        self._most_asked = config.number_or_none("max_retry_after", max_retry_after, low=0)
        self._before = before
        self._after = after
        self._before_sleep = before_sleep
        self._clock = clock
        self._needs_state = bool(callable(wait) or stop or before or after or before_sleep or self._strategies)
        # What must be known from the start of the first attempt: when it began, or what it returned.
        self._watches = bool(stop or before or after or (self._strategies and self.idempotent))

    def execute(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Call `func`, again where that is allowed, and return what it returns.

        Raises:
            ConfigError: `func` is a generator or async function; it was not called.
        """
        config.blocking_function("retry", func)
        return cast("R", self._run(func, args, kwargs))

    def __call__(self, func: Callable[P, R], /) -> Callable[P, R]:
        """
        Decorate a function.

        Raises:
            ConfigError: It is a generator function, an async function, a class or nothing that can be called.
        """
        if isinstance(func, staticmethod | classmethod):
            return cast("Callable[P, R]", type(func)(self(func.__func__)))
        config.decorable("retry", func)
        if self._watches or self.budget is not None:

            @functools.wraps(func)
            def retried(*args: Any, **kwargs: Any) -> Any:
                return self._run(func, args, kwargs)

        else:
            failed, again = self._failed, self._again

            # As short as can be: this is what every successful call pays.
            @functools.wraps(func)
            def retried(*args: Any, **kwargs: Any) -> Any:
                since = _newest
                try:
                    return func(*args, **kwargs)
                except Exception as error:
                    call = _Call(since, func, args, kwargs)
                    failed(call, error)
                    if call.pause is None:
                        raise
                return again(call)

        return cast("Callable[P, R]", retried)

    def explain(self) -> str:
        """What is retried how often, in words, for a human."""
        often = "as often as `stop` says" if self.attempts is None else f"at most {self.attempts} calls in all"
        if self._types is None:
            return f"{often}, only after errors that prove that the call did not go out"
        kinds = [kind.__name__ for kind in self._types]
        others = len(self._predicates) + len(self._strategies)
        return f"{often}, after " + ", ".join([*kinds, *(["what its predicates say"] if others else [])])

    def _run(self, func: Callable[..., Any], args: Any, kwargs: Any, through: Through | None = None) -> Any:
        since = _newest
        if self._watches:
            call = _Call(since, func, args, kwargs, through)
            self._begin(call)
            return self._attempt(call)
        try:
            result = func(*args, **kwargs) if through is None else through(func, args, kwargs)
        except Exception as error:
            call = _Call(since, func, args, kwargs, through)
            self._failed(call, error)
            if call.pause is None:
                raise
        else:
            budget = self.budget
            if budget is not None and budget._tokens < budget.capacity:
                budget.earn()
            return result
        return self._again(call)

    # -- after the first failure ------------------------------------------------------------------------------

    def _again(self, call: _Call) -> Any:
        """Wait as decided, and call again. No exception is being handled here, so none becomes another's context."""
        self._sleep(call)
        return self._attempt(call)

    def _attempt(self, call: _Call) -> Any:
        while True:
            self._tell(self._before, call)
            try:
                if call.through is None:
                    result = call.func(*call.args, **call.kwargs)
                else:
                    result = call.through(call.func, call.args, call.kwargs)
            except Exception as error:
                self._failed(call, error)
                if call.pause is None:
                    raise
            else:
                if not self._rejects(call, result):
                    if self.budget is not None:
                        self.budget.earn()
                    return result
            self._sleep(call)

    def _sleep(self, call: _Call) -> None:
        if call.pause:
            Stop(self._clock).sleep(call.pause)
        call.attempts += 1
        if call.state is not None:
            call.state.prepare_for_next_attempt()

    def _failed(self, call: _Call, error: Exception) -> None:
        """Decide what follows a failed attempt: `call.pause`. Raises no Exception."""
        now = self._clock.monotonic()
        if call.failed_at is None:
            call.failed_at = now
        call.pause = None
        wanted = False
        try:
            if not _is_spent(error, call.since):
                self._note(call, now, error=error)
                wanted = self._is_retryable(call, error)
                if wanted:
                    call.pause = self._pause(call, error)
        except Exception:
            _log.exception("retry: a strategy raised; %s is not called again", _name(call.func))
        if call.pause is not None:
            _log.info(
                "retry: %s failed with %s; attempt %d in %.2f s",
                _name(call.func), type(error).__name__, call.attempts + 1, call.pause,
            )  # fmt: skip
            return
        call.state = None  # it holds the exception, whose traceback holds the frame that holds the call
        if call.attempts > 1 or (wanted and self.attempts != 1):
            # Into the dictionary, past a __setattr__ that may refuse: a frozen dataclass can be an exception.
            facts = vars(error)
            if facts.get("_retry_mark", 0) <= call.since:  # else those of a retry below stay
                _spend(facts)
                facts["retry_attempts"] = call.attempts
                facts["retry_elapsed"] = now - call.failed_at

    def _is_retryable(self, call: _Call, error: Exception) -> bool:
        """Whether this error may be retried at all."""
        if not self.idempotent and _hides_unknown(error):
            return False
        sure = isinstance(error, ThrottledError) or (isinstance(error, NotSentError) and error.retryable)
        if self._types is None:
            return sure
        if isinstance(error, NotSentError) and not error.retryable:
            # A wide net such as Exception does not catch what fails again at once.
            narrow = [kind for kind in self._types if issubclass(kind, NotSentError) and kind is not NotSentError]
            return isinstance(error, tuple(narrow))
        if not self.idempotent and not sure:
            return False
        return (
            isinstance(error, self._types)
            or any(predicate(error) for predicate in self._predicates)
            or any(strategy(call.state) for strategy in self._strategies)
        )

    def _rejects(self, call: _Call, result: Any) -> bool:
        """Whether a tenacity strategy wants another attempt because of what was returned; sets the pause."""
        if not self._strategies or not self.idempotent:
            return False
        try:
            self._note(call, self._clock.monotonic(), result=result)
            call.pause = None
            if any(strategy(call.state) for strategy in self._strategies):
                call.pause = self._pause(call, None)
        except Exception:
            _log.exception("retry: a strategy raised; %s is not called again", _name(call.func))
            call.pause = None
        # Given up on a result, there is no error to raise: the result is the answer.
        return call.pause is not None

    def _pause(self, call: _Call, error: Exception | None) -> float | None:
        """Seconds until the next attempt; None when there is none."""
        self._tell(self._after, call)
        if self.attempts is not None and call.attempts >= self.attempts:
            return None
        pause = self._own_wait(call)
        asked = pause_asked_by(error)
        if asked is not None:
            if self._most_asked is not None and asked > self._most_asked:
                return None
            # On top: the backoff counts from the moment at which the server allows it.
            pause += asked
        if call.state is not None:
            call.state.upcoming_sleep = pause
        if self._stop is not None and self._stop(call.state):
            return None
        left = remaining()
        if left is not None and pause >= left:
            return None
        if self.budget is not None and not self.budget.take():
            _log.info("retry: the budget of %r is empty; %s is not called again", self.budget.target, _name(call.func))
            return None
        if call.state is not None:
            _plan(call.state, pause)
            self._tell(self._before_sleep, call)
        return pause

    def _own_wait(self, call: _Call) -> float:
        if self._wait is None:
            # The module's generator: a forked child reseeds it, so that children do not wait in step.
            return random.uniform(0.0, min(_CAP, _BASE * 2.0 ** min(call.attempts - 1, _DOUBLINGS)))
        if not callable(self._wait):
            return self._wait
        return config.number("wait", float(self._wait(call.state)), low=0)

    # -- tenacity ---------------------------------------------------------------------------------------------

    def _begin(self, call: _Call) -> None:
        if self._needs_state and call.state is None:
            from tenacity import RetryCallState  # noqa: PLC0415  # only those who use its strategies pay for its import

            # The controller is ours: tenacity's callbacks only ask it for its name.
            call.state = RetryCallState(cast("Any", self), call.func, call.args, call.kwargs)
            call.state.start_time = self._clock.monotonic()  # its own reading is of another clock

    def _note(self, call: _Call, now: float, *, error: Exception | None = None, result: Any = None) -> None:
        self._begin(call)
        state = call.state
        if state is None:
            return
        if error is None:
            state.set_result(result)
        else:
            state.set_exception((type(error), error, error.__traceback__))
        state.outcome_timestamp = now

    def _tell(self, callback: Callable[[Any], object] | None, call: _Call) -> None:
        if callback is None:
            return
        try:
            callback(call.state)
        except Exception:
            _log.exception("retry: a callback of %s raised; going on", _name(call.func))


def retry(**settings: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Decorate a function so that it is called again after certain errors.

    Args:
        settings: As for `Retry`.

    Raises:
        ConfigError: A setting is wrong, or the function is a generator or async function.
    """
    return Retry(**settings)


def pause_asked_by(error: BaseException | None) -> float | None:
    """Seconds of the error's `retry_after`; None when it has none, or nonsense (negative, NaN, infinite, beyond a float)."""
    asked = getattr(error, "retry_after", None)
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not 0 <= asked < math.inf:
        return None
    try:
        return float(asked)
    except OverflowError:  # JSON knows whole numbers of any length
        return None


def _plan(state: Any, pause: float) -> None:
    """Fill in what tenacity's callbacks read before a sleep."""
    from tenacity import RetryAction  # noqa: PLC0415  # as above

    state.next_action = RetryAction(pause)
    state.idle_for += pause


def _spend(facts: dict[str, Any]) -> None:
    global _newest  # every call looks at it first, so it must cost next to nothing
    facts["_retry_mark"] = mark = _Mark(next(_numbers))
    _newest = int(mark)


def _is_spent(error: BaseException, since: int) -> bool:
    """
    Whether a retry below has used up its attempts on this error, or on one that it was raised from.

    A mark that is older than the call is of an earlier one that raised the same object.
    """
    link: BaseException | None = error
    for _ in range(_LINKS):
        if link is None:
            return False
        if vars(link).get("_retry_mark", 0) > since:
            return True
        # Not the context: an error raised in a handler of a spent one is an error of its own.
        link = link.__cause__
    return False


def _hides_unknown(error: BaseException) -> bool:
    """Whether it came up while the call handled an error of unknown outcome: an order lost, then its look-up refused."""
    for _ in range(_LINKS):
        link = error.__context__ if error.__cause__ is None else error.__cause__
        if link is None:
            return False
        error = link
        if isinstance(link, OutcomeUnknownError):
            # Not one that our caller is handling: that one was caught in a frame around this one.
            caught, frame = link.__traceback__, sys._getframe()
            while caught is not None and frame.f_back is not None and frame is not caught.tb_frame:
                frame = frame.f_back
            return caught is None or frame is not caught.tb_frame
    return False


def _name(func: Any) -> str:
    return getattr(func, "__qualname__", None) or type(func).__qualname__
