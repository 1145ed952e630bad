"""
HealthMonitor: are orders possible, and is somebody needed? One report, with reasons in words.

    health = HealthMonitor(bus, alerts)
    pipeline = TransactionVerificationPipeline(exchange_adapter=adapter, health=health)
    health.add(pipeline)
    health.report()     # and what 'hireliab status' prints for a bot that runs
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from hireliab.core import config
from hireliab.core._threads import Starting, renew_after_fork
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.monitoring._freeze import clean
from hireliab.monitoring._health_rules import NEVER_DOWN, RULES, Found, Health, of_error
from hireliab.monitoring._parts import Look, Parts

__all__ = ["CheckResult", "Health", "HealthMonitor", "HealthReport"]

MOST_REASON = 300  # characters
MOST_REASONS = 50
INTERVAL = 10.0
"""Seconds between two runs of a user's check that nobody waits for."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """
    What one check found.

    Attributes:
        name: Kind and name of the part, or "check" and the name of a user's check.
        status: How well it is.
        reasons: Why it is not healthy, worst first; redacted.
    """

    name: str
    status: Health
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthReport:
    """
    All checks at one instant.

    Attributes:
        status: The worst of them; healthy when there is none.
        checks: Each of them, parts first.
    """

    status: Health
    checks: tuple[CheckResult, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not healthy, worst first, each with the name of its check."""
        bad = sorted((check for check in self.checks if check.reasons), key=lambda check: -check.status.rank)
        return tuple(f"{check.name}: {reason}" for check in bad for reason in check.reasons)

    def as_dict(self) -> dict[str, Any]:
        """In JSON's types, for status.json; at most 50 reasons."""
        reasons = self.reasons
        more = len(reasons) - MOST_REASONS
        return {
            "status": self.status.value,
            "reasons": [*reasons[:MOST_REASONS], *([f"and {more} more"] if more > 0 else [])],
            "checks": {check.name: check.status.value for check in self.checks},
        }

    def __bool__(self) -> bool:
        """Whether everything is healthy."""
        return self.status is Health.HEALTHY


@dataclass(slots=True)
class _Check:
    """A user's check; everything below `timeout` is guarded by the monitor's lock."""

    name: str
    func: Callable[[], object]
    critical: bool
    timeout: float
    started: float | None = None  # when the run that has not ended began
    ended: float | None = None
    result: CheckResult | None = None
    run: object = None  # its thread; tells who waits for a run from the next one


class HealthMonitor:
    """
    Judges the parts by their figures, and runs checks of your own.

    Parts are held weakly and stand for what they consist of, as for `Metrics`. docs/metrics-and-health.rst has the
    table of what counts as degraded and what as down.

    Guarantees: a part that raises, and a check that raises or hangs, is told of and costs the report no more than the
    check's timeout, once. A message bus, an outbox or an alert system is never worse than degraded. Nothing is started
    by looking.

    Does not: decide about a restart. Most of what is "down" does not end by one, and a bot that runs still looks for
    what became of its orders.

    Thread safety: any thread. A check of yours runs on a thread ``hireliab.health.<name>``, which exists while it runs;
    one that hangs keeps its thread, and is not started again before it comes back. A forked child goes on with the same
    parts and checks.

    Args:
        parts: As for `add`.
        clock: The time; a FakeClock in tests.

    Raises:
        ConfigError: As for `add`.
    """

    def __init__(self, *parts: object, clock: Clock = SYSTEM_CLOCK) -> None:
        self._parts = Parts("health")
        self._clock = clock
        # Guards what the checks say, and _checks; notified when a check has ended. Re-entrant, because a signal handler
        # may ask for a report on the thread that is inside.
        self._changed = threading.Condition(threading.RLock())
        self._checks: dict[str, _Check] = {}
        renew_after_fork(self)
        self.add(*parts)

    def add(self, *parts: object, critical: bool = True) -> None:
        """
        Look after these, too.

        Args:
            parts: Pipelines, adapters, pools, circuit breakers or their registry, policies, rate limiters, retry
                budgets, message buses, alert systems, and the rest of what `Metrics.add` takes.
            critical: Whether orders depend on them; if not, they are never worse than degraded. A part that is reached
                in both ways is critical.

        Raises:
            ConfigError: One of them is something else; none was added.
        """
        self._parts.add(parts, critical=config.flag("critical", critical))

    def discard(self, part: object) -> bool:
        """Look after this one no more; whether it was known."""
        return self._parts.discard(part)

    def check(self, name: str, func: Callable[[], object], *, critical: bool = False, timeout: float = 1.0) -> None:
        """
        Run a check of your own with every report; the same name again replaces it.

        Args:
            name: What is looked at, in a few words.
            func: Called without arguments on a thread of its own. It returns True or None when all is well, False when
                not, or the complaint as a text. What it raises is a complaint.
            critical: Whether a complaint means that no order is possible: down instead of degraded.
            timeout: Seconds for which a report waits for it, more than 0 and at most 60.

        Raises:
            ConfigError: A setting is wrong, or `func` is a generator or async function.
        """
        config.text("name", name, most=60)
        config.blocking_function(f"health check {name!r}", func)
        config.flag("critical", critical)
        timeout = config.number("timeout", timeout, above=0, high=60)
        with self._changed:
            self._checks[name] = _Check(name, func, critical, timeout)

    def report(self) -> HealthReport:
        """Ask every part and run every check; waits for the checks, each at most for its timeout, and all at once."""
        with self._changed:
            checks = list(self._checks.values())
        for check in checks:
            self._start(check)
        results = [_judge(look) for look in self._parts.look()]
        for check in checks:
            self._wait(check)
        return self._gather(results, checks)

    def __call__(self) -> dict[str, Any]:
        """
        The report for status.json, under the key ``health``: give the monitor to a pipeline as ``health=``.

        It waits for no check: it tells what each found last, and runs it again when that is 10 s old.
        """
        with self._changed:
            checks = list(self._checks.values())
        now = self._clock.monotonic()
        for check in checks:
            if check.ended is None or now - check.ended >= INTERVAL:
                self._start(check)
        return {"health": self._gather([_judge(look) for look in self._parts.look()], checks).as_dict()}

    def renew_in_child(self) -> None:
        """In a forked child: the checks that run are the parent's, and so are their threads."""
        self._changed = threading.Condition(threading.RLock())
        for check in self._checks.values():
            check.started = None

    def __repr__(self) -> str:
        return f"<HealthMonitor with {len(self._checks)} checks of its user>"

    # -- checks ---------------------------------------------------------------------------------------------------

    def _start(self, check: _Check) -> None:
        """Run it, unless it runs already."""
        thread = Starting(partial(self._run, check), name=f"hireliab.health.{check.name}")
        try:
            with self._changed:
                if check.started is not None:
                    return
                check.run = thread
                check.started = self._clock.monotonic()
            thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter ends
            self._end(check, _complaint(check, f"cannot be run: {error}"))
        except BaseException:  # Ctrl-C: unless the thread has begun all the same, nobody would ever end this run
            if check.run is thread and thread.call_off():
                check.started = None
            raise

    def _wait(self, check: _Check) -> None:
        """Wait for the run that is going on, if its time is not over: one that hangs is waited for once."""
        with self._changed:
            run, started = check.run, check.started
            if started is not None:
                left = started + check.timeout - self._clock.monotonic()
                ended = partial(_has_ended, check, run)
                self._clock.wait_for(self._changed, ended, max(0.0, left))

    def _run(self, check: _Check) -> None:
        try:
            result = _answer(check, check.func())
        except BaseException as error:  # a SystemExit or KeyboardInterrupt of a check ends no more than the check
            result = _complaint(check, f"raised {_describe(error)}")
        self._end(check, result)

    def _end(self, check: _Check, result: CheckResult) -> None:
        with self._changed:
            check.result, check.started, check.ended = result, None, self._clock.monotonic()
            self._changed.notify_all()

    def _gather(self, results: list[CheckResult], checks: list[_Check]) -> HealthReport:
        now = self._clock.monotonic()
        with self._changed:
            results += [_latest(check, now) for check in checks]
        worst = max((result.status for result in results), key=lambda status: status.rank, default=Health.HEALTHY)
        return HealthReport(worst, tuple(results))


def _has_ended(check: _Check, run: object) -> bool:
    return check.started is None or check.run is not run


def _latest(check: _Check, now: float) -> CheckResult:
    if check.started is not None and now - check.started >= check.timeout:
        return _complaint(check, f"has not answered within {check.timeout:g} s")
    if check.result is None:
        return _complaint(check, "has not answered yet")
    return check.result


def _answer(check: _Check, said: object) -> CheckResult:
    if said is None or said is True or (isinstance(said, str) and not said):
        return CheckResult(_name(check), Health.HEALTHY)
    if isinstance(said, str):
        return _complaint(check, said)
    if said is False:
        return _complaint(check, "says no")
    return _complaint(check, f"returned {type(said).__name__}; a check returns True, None, False or a text")


def _complaint(check: _Check, words: str) -> CheckResult:
    return CheckResult(_name(check), Health.DOWN if check.critical else Health.DEGRADED, (_words(words),))


def _name(check: _Check) -> str:
    return f"check {check.name}"


# -- parts --------------------------------------------------------------------------------------------------------


def _judge(look: Look) -> CheckResult:
    found = list(_found(look))
    if not look.critical or look.kind in NEVER_DOWN:
        found = [(Health.DEGRADED if status is Health.DOWN else status, why) for status, why in found]
    found.sort(key=lambda one: -one[0].rank)
    status = found[0][0] if found else Health.HEALTHY
    return CheckResult(f"{look.kind} {look.name}", status, tuple(_words(why) for _, why in found))


def _found(look: Look) -> Iterator[Found]:
    if look.error is not None:
        try:
            yield of_error(look.error)
        except Exception:  # an error that cannot be printed
            yield Health.DEGRADED, f"cannot be asked: {type(look.error).__name__}"
        return
    try:
        yield from list(RULES[look.kind](look.snapshot))
    except Exception as error:
        yield Health.DEGRADED, f"tells what is not understood: {_describe(error)}"


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _words(text: str) -> str:
    return clean(text, MOST_REASON, one_line=True)
