"""
ConnectionPool: a bounded pool of any blocking client.

One promise carries the rest: **a PoolError means that the client's method was not called.** So an order wrapper may
try again after it without placing the order twice. The pool itself never calls a method a second time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.core.config import load, number_or_none, text
from hireliab.core.deadline import bounded
from hireliab.errors import ConfigError, PoolCreateError, PoolDeadlockError, PoolStoppedError
from hireliab.exchange._pool_housekeeper import HOUSEKEEPER, TICK
from hireliab.exchange._pool_lease import Configured, Connection, Lease
from hireliab.exchange._pool_method import check_name, find_method, no_method, surely_lacks
from hireliab.exchange._pool_settings import PoolConfig, PoolStats, PoolStopReport
from hireliab.exchange._pool_state import Claim, Entry, PoolState, Refusal, Status, refused, token

__all__ = ["ConnectionPool", "Lease", "PoolConfig", "PoolStats", "PoolStopReport"]

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("hireliab.pool")

_TRUSTED = 1.0
"""Seconds for which a client that was just used is lent without `validate_func`: a check costs a round trip."""

_TIMEOUT = Configured.TIMEOUT


class _ReenteredError(Exception):
    """A signal handler or finaliser called the pool in the middle of a step of its own thread."""


class ConnectionPool(Generic[C]):
    """
    A bounded pool of clients that are used by one caller at a time.

    The client used last is lent first; callers that wait are served in their order, a client going from hand to
    hand. A client is made by the caller that needs it, without holding up the others. After an error that may have
    broken the connection (unknown outcome, connection, time-out, Ctrl-C) the client is closed and replaced; the
    user's exception passes through untouched. A forked child starts afresh and never touches its parent's clients.

    Idle eviction and the refill to `min_connections` run in one thread for all pools of the process. A pool with a
    clock of its own (tests) has no thread: its eviction runs inside `acquire` and `release`, and nothing refills it.

    Args:
        name: For errors, logs and metrics.
        create_client_func: Makes one new client; called without a lock, in the thread that needs the client. It
            cannot be interrupted, so give it a connect time-out of its own.
        config: A PoolConfig, or a mapping of its settings.
        clock: The time; a FakeClock in tests.

    Raises:
        ConfigError: A setting is unknown or out of its range.
    """

    def __init__(
        self,
        *,
        name: str,
        create_client_func: Callable[[], C],
        config: PoolConfig | Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = text("name", name)
        self.config = load(PoolConfig, config, where=f"connection pool {name!r}")
        factory: object = create_client_func
        if not callable(factory):
            allowed = "a callable without arguments that returns a new client"
            raise ConfigError(
                f"connection pool {name!r}: create_client_func must be {allowed}, got {type(factory).__name__}",
                setting="create_client_func",
                allowed=allowed,
            )
        self._create_client = create_client_func
        self._clock = clock
        self._state = PoolState(name, self.config, Status.NEW)
        self._inline = clock is not SYSTEM_CLOCK  # upkeep inside acquire and release: no thread on a clock of tests
        self._tended = clock.monotonic()
        self._refill_failed = False
        self._methods: set[tuple[type, str]] = set()  # looked up before; a cache, so nothing guards it
        self._report: PoolStopReport | None = None
        _POOLS.add(self)

    # -- start and stop -------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """
        Start: make `min_connections` clients in this thread, for at most `connection_timeout` seconds.

        Idempotent; callers at the same time share one attempt. With fewer clients than asked, but one at least, the
        pool starts and the housekeeper makes the rest. Optional: the first `acquire` starts a pool too, with the
        one client it needs. After `stop()` it starts the pool again.

        Raises:
            PoolCreateError: Not one client could be made; the cause is the factory's exception. The pool is not
                started, and may be initialised again.
            PoolStoppedError: The pool is being stopped.
        """
        deadline = self._deadline(self.config.connection_timeout)
        while True:
            try:
                todo = self._section(PoolState.begin_fill_locked, Claim())
            except _ReenteredError:
                raise self._reentered() from None
            if todo == "go":
                return self._fill(deadline)
            if todo == "done":
                return None
            if todo == "stopping":
                raise PoolStoppedError(f"connection pool {self.name!r}: it is being stopped", pool=self.name)
            if not self._watch(lambda state: state.filling is None, deadline):
                return None  # the other thread is still at it
            error = self._state.fill_error
            if error is not None:
                raise self._not_started() from error

    def _fill(self, deadline: float | None) -> None:
        made, failure, interrupted = 0, None, True
        try:
            for _ in range(self.config.min_connections):
                claim = Claim()
                if not self._section(PoolState.reserve_locked, claim):
                    break
                try:
                    self._create(claim, lend=False)
                    made += 1
                except PoolCreateError as error:
                    failure = _cause(error)
                if deadline is not None and self._clock.monotonic() >= deadline:
                    break
            interrupted = False
        finally:
            outcome = self._section(PoolState.end_fill_locked, failure, interrupted=interrupted)
        if outcome == "failed":
            raise self._not_started() from failure
        if outcome == "stopped":
            raise PoolStoppedError(f"connection pool {self.name!r}: stopped while it was started", pool=self.name)
        if failure is not None:
            _log.warning("connection pool %r: started with %d new clients, not %d; the rest follows in the background",
                         self.name, made, self.config.min_connections, exc_info=failure)  # fmt: skip
        self._start_upkeep()

    def stop(self, *, timeout: float | None = 5.0) -> PoolStopReport:
        """
        Stop: refuse all callers that wait or come, close the idle clients, wait for those in use.

        Idempotent; a call during another thread's stop waits with it. Clients held by the calling thread are not
        waited for. In a signal handler that interrupted the pool itself it only marks, and the pool stops at once
        after it.

        Args:
            timeout: Seconds to wait for clients in use; None without limit, 0 does not wait.

        Returns:
            What was closed and what is left. A client that is left is closed when it comes back.
        """
        deadline = self._deadline(number_or_none("timeout", timeout, low=0))
        me, stopper, state = token(), object(), self._state
        report = PoolStopReport(closed=0, returned=0, left=len(state.entries), creating=len(state.creating))
        try:
            begun = self._section(PoolState.begin_stop_locked, stopper)
            if begun is None:
                self._watch(lambda state: state.status is Status.STOPPED, deadline)
                return self._report or report
            closed, in_use, creating = begun
            self._watch(lambda state: state.in_use_locked(but_by=me) == 0, deadline)
            left = self._section(PoolState.in_use_locked)
            report = PoolStopReport(closed=closed, returned=in_use - left, left=left, creating=creating)
            self._report = report
        except _ReenteredError:
            state.mail.append(lambda: self.stop(timeout=0))
            return report
        finally:
            # Also after a Ctrl-C in a client's close(): a pool must not stay half stopped.
            with contextlib.suppress(_ReenteredError):
                self._section(PoolState.end_stop_locked, stopper)
                HOUSEKEEPER.remove(self)
        if left or creating:
            _log.warning("connection pool %r: stopped with %d clients in use and %d being made; each is closed when "
                         "it comes back", self.name, left, creating)  # fmt: skip
        return report

    def __enter__(self) -> ConnectionPool[C]:
        self.initialize()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- use ------------------------------------------------------------------------------------------------------

    def execute(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """
        Call a client's method by name and return its result; the client is given back before that.

        The method is called once or, after a PoolError or ConfigError, not at all.

        Args:
            method: Name of a public method of the client.
            *args: For the method.
            **kwargs: For the method, all of them: `timeout=` or `name=` too.

        Raises:
            ConfigError: The client has no such method.
            PoolError: No client was to be had; see `acquire`.
            BaseException: Whatever the method raises, untouched.
        """
        self._check_method(method)
        lease = self.acquire()
        try:
            result = find_method(lease.client, method, where=f"connection pool {self.name!r}")(*args, **kwargs)
        except BaseException as error:
            lease.__exit__(type(error), error, None)
            raise
        self._give_back(lease._claim, None)
        return result

    def connection(self, *, timeout: float | Configured | None = _TIMEOUT) -> contextlib.AbstractContextManager[C]:
        """
        Borrow a client for a block: ``with pool.connection() as client``. Leaving it with an error that may have
        broken the client discards it.

        Args:
            timeout: Seconds to wait; None without limit, 0 does not wait; left out, `connection_timeout`.

        Raises:
            PoolError: On entering; see `acquire`.
        """
        return Connection(self, self._limit(timeout))

    def acquire(self, *, timeout: float | Configured | None = _TIMEOUT) -> Lease[C]:
        """
        Borrow a client: an idle one, else a new one, else the next that comes back.

        One deadline covers waiting, checking and making. A factory that runs past it is not interrupted, and its
        client is still lent.

        Args:
            timeout: Seconds to wait; None without limit, 0 does not wait; left out, `connection_timeout`. A
                `core.deadline` around the call shortens it.

        Raises:
            PoolTimeoutError: No client became free in time.
            PoolFullError: `max_waiting` callers wait already.
            PoolCreateError: The factory failed; the cause is its exception.
            PoolDeadlockError: This thread holds all clients itself, and would wait for itself. Not with timeout 0.
            PoolStoppedError: The pool is, or was meanwhile, stopped.
        """
        limit = bounded(self._limit(timeout))
        began = self._clock.monotonic()
        deadline = None if limit is None else began + limit
        if self._inline:
            self._tend_inline(began)
        claim = Claim()
        try:
            if self._section(PoolState.ask_locked, claim, began, may_wait=limit != 0):
                self._start_upkeep()
            if claim.gate is not None and not claim.settled():
                self._clock.acquire(claim.gate, self._left(deadline))
                # Between the end of that wait and this step another thread may have handed us a client: it is ours.
                self._section(PoolState.give_up_locked, claim, Refusal.TIMEOUT)
            if claim.entry is not None and not self._is_good(claim, claim.entry):
                now = self._clock.monotonic()
                late = deadline is not None and now >= deadline > began  # with timeout 0 making one is no waiting
                self._section(PoolState.replace_locked, claim, now, late=late)
            if claim.refusal is not None:
                raise refused(claim, self._clock.monotonic() - began)
            if claim.entry is None:
                self._create(claim, lend=True)
            return Lease(self, claim)
        except _ReenteredError:
            raise self._reentered() from None
        except BaseException:
            self._section(PoolState.withdraw_locked, claim, self._clock.monotonic())
            raise

    def stats(self) -> PoolStats:
        """One consistent picture of the pool."""
        try:
            return self._section(PoolState.stats_locked)
        except _ReenteredError:
            return self._state.stats_locked()  # the lock is this thread's own; reading disturbs nothing

    # -- a client's life ------------------------------------------------------------------------------------------

    def _create(self, claim: Claim, *, lend: bool) -> None:
        """Run the factory for a claim that has a slot."""
        home = self._state
        try:
            client = self._create_client()
        except BaseException as error:
            failed = isinstance(error, Exception)  # Ctrl-C says nothing about the other side
            self._section(PoolState.drop_slot_locked, claim, self._clock.monotonic(), failed=failed)
            if not failed:
                raise
            raise PoolCreateError(
                f"connection pool {self.name!r}: create_client_func raised {type(error).__name__}, no client was made; "
                "its cause says why",
                pool=self.name,
            ) from error
        if self._state is not home:
            _GRAVEYARD.append(client)  # the factory forked, and this is the child: the client is the parent's too
            raise PoolStoppedError(f"connection pool {self.name!r}: forked while a client was made", pool=self.name)
        problem = self._section(PoolState.admit_locked, claim, client, self._clock.monotonic(), lend=lend)
        if problem is None:
            return
        claim.slot = None
        if problem != "stopped":
            raise PoolCreateError(f"connection pool {self.name!r}: {problem}", pool=self.name)
        self._close(client)
        raise PoolStoppedError(f"connection pool {self.name!r}: stopped while a client was made", pool=self.name)

    def _is_good(self, claim: Claim, entry: Entry) -> bool:
        validate = self.config.validate_func
        if validate is None or self._clock.monotonic() - entry.idle_since < _TRUSTED:
            return True
        claim.touched = True  # interrupted in the check, the client must not be lent again
        try:
            good = bool(validate(entry.client))
        except Exception as error:
            _log.info("connection pool %r: a client failed its check: %s", self.name, type(error).__name__)
            return False
        claim.touched = False
        return good

    def _owns(self, entry: Entry) -> bool:
        return self._state.owns(entry)

    def _give_back(self, claim: Claim, reason: str | None) -> bool:
        """End a lease: idle again, or closed for `reason`. False when it has ended before."""
        reset = self.config.reset_func
        try:
            if not self._section(PoolState.close_claim_locked, claim):
                return False
            entry = claim.entry
            if reason is None and reset is not None and entry is not None:
                reason = "interrupted"
                try:
                    reset(entry.client)
                    reason = None
                except Exception as error:
                    reason = "reset"
                    _log.warning("connection pool %r: reset_func failed; the client is replaced", self.name,
                                 exc_info=error)  # fmt: skip
                finally:
                    self._section(PoolState.finish_locked, claim, self._clock.monotonic(), reason)
            else:
                self._section(PoolState.finish_locked, claim, self._clock.monotonic(), reason)
        except _ReenteredError:
            self._state.mail.append(lambda: self._give_back(claim, reason))
            return True
        if reason is not None and not self._inline:
            HOUSEKEEPER.ring()  # it may be below the minimum now
        if self._inline:
            self._tend_inline(self._clock.monotonic())
        return True

    def _close(self, client: C) -> None:
        """Close a client that is out of the pool; nobody is told of an error but the log and the counter."""
        try:
            close = self.config.close_func
            if close is not None:
                close(client)
            else:
                own = getattr(client, "close", None)
                if own is not None:
                    own()
        except Exception as error:
            self._section(_count_close_error)
            _log.warning("connection pool %r: closing a client failed", self.name, exc_info=error)

    # -- upkeep ---------------------------------------------------------------------------------------------------

    def _start_upkeep(self) -> None:
        if not self._inline and not HOUSEKEEPER.add(self):
            self._inline = True
        self._section(PoolState.looked_after_locked)

    def _tend(self) -> bool:
        """One round of upkeep: reap, evict, refill to the minimum. False when the pool is stopped."""
        now = self._tended = self._clock.monotonic()
        if not self._section(PoolState.tend_locked, now):
            return False
        while self._section(PoolState.missing_locked):
            claim = Claim()
            if not self._section(PoolState.reserve_locked, claim):
                break  # others are making the missing ones
            try:
                self._create(claim, lend=False)
            except PoolCreateError as error:
                if not self._refill_failed:  # once per outage, not every five seconds
                    _log.warning("connection pool %r: below min_connections, and a new client cannot be made; trying "
                                 "every %.0f s", self.name, TICK, exc_info=_cause(error))  # fmt: skip
                self._refill_failed = True
                break
            except PoolStoppedError:
                return False
            self._refill_failed = False
        return True

    def _tend_inline(self, now: float) -> None:
        """Without a thread: evict in passing, at most every five seconds. It never makes clients in a user's call."""
        if now - self._tended >= TICK:
            self._tended = now
            with contextlib.suppress(_ReenteredError):
                self._section(PoolState.tend_locked, now)

    # -- machinery ------------------------------------------------------------------------------------------------

    def _section(self, step: Callable[Concatenate[PoolState, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one step under the lock; then close what it took out, and do what a signal handler posted meanwhile."""
        state = self._state
        closing: list[Entry] = []
        entered, ours = False, object()
        try:
            with state.lock:
                if state.inside:
                    raise _ReenteredError
                state.inside = ours
                entered = True
                try:
                    return step(state, *args, **kwargs)
                finally:
                    closing, state.to_close = state.to_close, []
                    state.inside = None
        finally:
            if state.inside is ours:  # Ctrl-C killed the step before its own `finally` was in force
                state.inside = None
            if entered:
                self._close_all(closing)
                while state.mail:
                    try:
                        letter = state.mail.popleft()
                    except IndexError:
                        break  # another thread took it
                    letter()

    def _close_all(self, entries: list[Entry]) -> None:
        while entries:
            try:
                self._close(entries.pop().client)
            except BaseException:
                self._close_all(entries)  # a Ctrl-C in one close() must not leave the others open
                raise

    def _watch(self, done: Callable[[PoolState], bool], deadline: float | None) -> bool:
        """Wait until `done`, evaluated under the lock after every change, or the deadline; whether it was done."""
        while True:
            gate = threading.Lock()
            gate.acquire()
            if self._section(_done_or_watch, done, gate):
                return True
            if not self._clock.acquire(gate, self._left(deadline)):
                return self._section(_stop_watching, done, gate)

    def _limit(self, timeout: float | Configured | None) -> float | None:
        if isinstance(timeout, Configured):
            return self.config.connection_timeout
        return number_or_none("timeout", timeout, low=0)

    def _deadline(self, limit: float | None) -> float | None:
        return None if limit is None else self._clock.monotonic() + limit

    def _left(self, deadline: float | None) -> float | None:
        # A lock's own limit is about 292 years; a larger number would be an OverflowError.
        return None if deadline is None else min(max(0.0, deadline - self._clock.monotonic()), threading.TIMEOUT_MAX)

    def _check_method(self, method: str) -> None:
        """Refuse what no client has before one is taken, as far as that can be told without running its code."""
        where = f"connection pool {self.name!r}"
        check_name(method, where=where)
        for entry in list(self._state.entries.values())[:1]:
            kind = (type(entry.client), method)
            if kind in self._methods:
                continue
            if surely_lacks(entry.client, method):
                raise no_method(entry.client, method, where=where)
            self._methods.add(kind)

    def _reentered(self) -> PoolDeadlockError:
        return PoolDeadlockError(
            f"connection pool {self.name!r}: called by a signal handler or finaliser that interrupted the pool itself; "
            "only release(), discard(), stop() and stats() work there",
            pool=self.name,
        )

    def _not_started(self) -> PoolCreateError:
        return PoolCreateError(
            f"connection pool {self.name!r}: not started, no client could be made; the cause says why",
            pool=self.name,
        )

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(f"connection pool {self.name!r}: cannot be pickled; make one in each process")

    def __repr__(self) -> str:
        state = self._state  # without the lock: a repr must not block
        return f"<ConnectionPool {self.name!r}: {state.status.value}, {len(state.entries)} clients>"


def _cause(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else error.__cause__


def _count_close_error(state: PoolState) -> None:
    state.close_errors += 1


def _done_or_watch(state: PoolState, done: Callable[[PoolState], bool], gate: threading.Lock) -> bool:
    if done(state):
        return True
    state.watchers.append(gate)
    return False


def _stop_watching(state: PoolState, done: Callable[[PoolState], bool], gate: threading.Lock) -> bool:
    state.watchers = [other for other in state.watchers if other is not gate]
    return done(state)


# -- fork ---------------------------------------------------------------------------------------------------------

_POOLS: weakref.WeakSet[ConnectionPool[Any]] = weakref.WeakSet()
_GRAVEYARD: list[object] = []
"""
In a forked child: what belongs to the parent. Never emptied, because closing a client, or collecting it, would write
a farewell (TLS close_notify) on a socket that the parent still uses.
"""


def _start_afresh() -> None:
    """In a forked child: no locks held by threads that are gone, no clients of the parent, no housekeeper yet."""
    HOUSEKEEPER.reset()
    for pool in list(_POOLS):
        old = pool._state
        _GRAVEYARD.append(old)
        stopped = old.status in (Status.STOPPING, Status.STOPPED)
        pool._state = PoolState(pool.name, pool.config, Status.STOPPED if stopped else Status.NEW)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
