"""
ConnectionPool: a bounded pool of any blocking client.

One promise carries the rest: **a PoolError means that the client's method was not called.** So an order wrapper may
try again after it without placing the order twice. The pool itself never calls a method a second time.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, TypeVar

from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.core.config import load, number_or_none, text
from hireliab.core.deadline import bounded
from hireliab.errors import ConfigError, PoolCreateError, PoolStoppedError
from hireliab.exchange import _pool_making as making
from hireliab.exchange import _pool_phases as phases
from hireliab.exchange._pool_engine import PoolEngine, ReenteredError, cause
from hireliab.exchange._pool_escape import uses_client
from hireliab.exchange._pool_housekeeper import HOUSEKEEPER
from hireliab.exchange._pool_lease import THREAD, Claim, Configured, Connection, Lease, Status, this_thread
from hireliab.exchange._pool_method import check_name, no_method, surely_lacks
from hireliab.exchange._pool_picture import picture
from hireliab.exchange._pool_queue import queue_locked
from hireliab.exchange._pool_refusals import refused
from hireliab.exchange._pool_settings import PoolConfig, PoolEvent, PoolStats, PoolStopReport
from hireliab.exchange._pool_state import PoolState
from hireliab.exchange._pool_upkeep import where_acquired

__all__ = ["ConnectionPool", "Lease", "PoolConfig", "PoolEvent", "PoolStats", "PoolStopReport"]

C = TypeVar("C")

_log = logging.getLogger("hireliab.pool")

_TIMEOUT = Configured.TIMEOUT
_RUNNING = Status.RUNNING
_ref = weakref.ref

_PLAIN = frozenset({dict, list, str, int, float, bool, type(None), tuple, bytes, Decimal})
"""Exact types of results that surely do not use the client any more; others are looked at."""


class ConnectionPool(PoolEngine[C]):
    """
    A bounded pool of clients that are used by one caller at a time.

    The client used last is lent first; callers that wait are served in their order, a client going from hand to
    hand. A client is made by the caller that needs it, without holding up the others. After an error that may have
    broken the connection (unknown outcome, connection, time-out, Ctrl-C) the client is closed and replaced; the
    user's exception passes through untouched. A forked child starts afresh and never touches its parent's clients.

    While the factory fails it rests, for longer from time to time (up to 30 s), and is then tried by one caller.
    Clients that exist are lent as before; without any, callers get a PoolDownError at once.

    Idle eviction, checks and the refill to `min_connections` run in one thread for all pools of the process. A pool
    with a clock of its own (tests) has no thread: its eviction runs inside `acquire`, and nothing refills it.

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
        name = text("name", name)
        settings = load(PoolConfig, config, where=f"connection pool {name!r}")
        factory: object = create_client_func
        if not callable(factory):
            allowed = "a callable without arguments that returns a new client"
            raise ConfigError(
                f"connection pool {name!r}: create_client_func must be {allowed}, got {type(factory).__name__}",
                setting="create_client_func",
                allowed=allowed,
            )
        self._where = f"connection pool {name!r}"
        # Caches of what was looked up before, so nothing guards them: method names, and what was warned of.
        self._known: set[str] = set()
        self._warned: set[tuple[type, str]] = set()
        super().__init__(name, settings, create_client_func, clock)

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
        claim = Claim(self)  # ours as long as this frame lives
        while True:
            try:
                todo = self._section(phases.begin_fill_locked, claim)
            except ReenteredError:
                raise self._reentered() from None
            if todo == "go":
                return self._fill(deadline)
            if todo == "done":
                return None
            if todo == "stopping":
                raise PoolStoppedError(f"connection pool {self.name!r}: it is being stopped", pool=self.name)
            if not self._watch(phases.filled_locked, deadline):
                return None  # the other thread is still at it
            error = self._state.fill_error
            if error is not None:
                raise self._not_started() from error

    def _fill(self, deadline: float | None) -> None:
        made, failure, interrupted = 0, None, True
        try:
            for _ in range(self.config.min_connections):
                claim = Claim(self)
                # Impatient: whoever starts a pool means now, also right after a failure.
                if not self._section(making.reserve_locked, claim, self._monotonic(), patient=False):
                    break
                try:
                    self._create(claim, lend=False)
                    made += 1
                except PoolCreateError as error:
                    failure = cause(error)
                if deadline is not None and self._monotonic() >= deadline:
                    break
            interrupted = False
        finally:
            outcome = self._section(phases.end_fill_locked, failure, interrupted=interrupted)
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

        Idempotent; a call during another thread's stop waits with it, and one after an interrupted stop finishes it.
        Clients held by the calling thread are not waited for. In a signal handler that interrupted the pool itself it
        only marks, and the pool stops at once after it.

        Args:
            timeout: Seconds to wait for clients in use; None without limit, 0 does not wait.

        Returns:
            What was closed and what is left. A client that is left is closed when it comes back.
        """
        deadline = self._deadline(number_or_none("timeout", timeout, low=0))
        stopper, state = Claim(self), self._state
        me = stopper._owner
        report = PoolStopReport(closed=0, returned=0, left=len(state.entries), creating=len(state.creating))
        try:
            begun = self._section(phases.begin_stop_locked, stopper)
            if begun is None:
                self._watch(lambda state: phases.stopped_locked(state, me), deadline)
                return self._report or report
            closed, in_use, creating = begun
            self._watch(lambda state: phases.in_use_locked(state, but_by=me) == 0, deadline)
            left = self._section(phases.in_use_locked)
            report = PoolStopReport(closed=closed, returned=in_use - left, left=left, creating=creating)
            self._report = report
        except ReenteredError:
            state.mail.append(lambda: self.stop(timeout=0))
            return report
        finally:
            stopper.touched = True  # from here on it only clears up; interrupted in that, the next stop() does it
            try:
                # While the pool is still stopping: once it has stopped, another thread may start it, and then that
                # life's upkeep is not ours to take away.
                if not self._inline and state.stopper is not None and state.stopper() is stopper:
                    HOUSEKEEPER.remove(self)
            finally:  # also after a Ctrl-C in a client's close(): a pool must not stay half stopped
                with contextlib.suppress(ReenteredError):
                    self._section(phases.end_stop_locked, stopper)
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

    def invalidate_all(self) -> int:
        """
        Replace every client, because credentials, addresses or settings have changed: idle ones are closed now, those
        in use and being made when they come back.

        Returns:
            How many clients that concerns.
        """
        try:
            count = self._section(phases.invalidate_locked, self._monotonic())
        except ReenteredError:
            self._state.mail.append(self.invalidate_all)
            return len(self._state.entries)
        if not self._inline:
            HOUSEKEEPER.ring()  # it is below the minimum now
        return count

    # -- use ------------------------------------------------------------------------------------------------------

    def execute(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """
        Call a client's method by name and return its result; the client is given back before that.

        The method is called once or, after a PoolError or ConfigError, not at all. A result that still uses the client
        (a generator, a coroutine, a response whose stream was not read) is reported in the log: use `connection()`.

        Args:
            method: Name of a public method of the client.
            *args: For the method.
            **kwargs: For the method, all of them: `timeout=` or `name=` too.

        Raises:
            ConfigError: The client has no such method.
            PoolError: No client was to be had; see `acquire`.
            BaseException: Whatever the method raises, untouched.
        """
        if type(method) is not str or method not in self._known:
            self._check_method(method)
        lease = self.acquire()
        client = lease._entry.client
        try:
            call = getattr(client, method, None)
            if not callable(call):
                raise no_method(client, method, where=self._where)
            result = call(*args, **kwargs)
        except BaseException as error:
            lease.__exit__(type(error), error, None)
            raise
        lease.release()
        if type(result) not in _PLAIN and uses_client(client, result):
            self._warn_of_result(client, method, result)
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
        return Connection(self, timeout if timeout is _TIMEOUT else self._limit(timeout))

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
            PoolDownError: The factory keeps failing and no client can come back; `retry_after` says when it is tried.
            PoolDeadlockError: The threads that hold all clients, this one among them, wait for another one. Not with
                timeout 0.
            PoolStoppedError: The pool is, or was meanwhile, stopped.
        """
        if timeout is not _TIMEOUT:
            timeout = self._limit(timeout)
        if self._inline:
            self._tend_inline()
        state = self._state
        if state.waiting:  # a peek: looked at again under the lock
            return self._acquire_slowly(timeout)
        now = self._monotonic() if self._timed else 0.0
        lease: Lease[C] = Lease()
        me = lease._ref = _ref(lease)
        lease._pool = self
        try:
            lease._owner = THREAD.owner
        except AttributeError:
            lease._owner = this_thread()
        if self._leaky:
            lease._taken = (self._monotonic(), where_acquired())
        with state.lock:
            idle = state.idle
            # The short way, when nobody waits and the client used last is good. From the last comparison to the end of
            # the block there is no call and no jump, so CPython lets neither a signal handler nor a finaliser in
            # between; a killed frame leaves a client in the index that is lent, or lent to nobody, and both are found.
            if (
                idle
                and state.status is _RUNNING
                and state.upkeep
                and not state.waiting
                and state.inside is None
                and now < (entry := idle[-1]).trusted
                and entry.holder is None
            ):
                entry.holder = me
                lease._entry = entry
                del idle[-1]
                state.acquired += 1
                return lease
        return self._acquire_slowly(timeout)

    def _acquire_slowly(self, limit: float | Configured | None) -> Lease[C]:
        """Every other way to a client: to wait for it, to check it, to make it."""
        limit = bounded(self.config.connection_timeout if isinstance(limit, Configured) else limit)
        began = self._monotonic()
        deadline = None if limit is None else began + limit
        claim = Claim(self)
        if self._leaky:
            claim._taken = (began, where_acquired())
        state = self._state
        try:
            with state.lock:
                queued = limit != 0 and state.inside is None and queue_locked(state, claim)
            if not queued and self._section(PoolState.ask_locked, claim, began, may_wait=limit != 0):
                self._start_upkeep()
            self._wait(claim, deadline)
            while claim.has_client() and not self._is_good(claim):
                now = self._monotonic()
                late = deadline is not None and now >= deadline > began  # with timeout 0 making one is no waiting
                self._section(PoolState.replace_locked, claim, now, late=late)
                self._wait(claim, deadline)
            if claim.refusal is not None:
                raise refused(claim, self._monotonic() - began) from claim.cause
            if claim.slot is not None:
                self._create(claim, lend=True)
            return claim
        except ReenteredError:
            raise self._reentered() from None
        except BaseException:
            self._section(PoolState.withdraw_locked, claim, self._monotonic())
            raise
        finally:
            claim._owner.waits = None

    def _wait(self, claim: Claim, deadline: float | None) -> None:
        """Sleep until the claim is settled; at an alarm, look whether a client may be made now."""
        while not claim.settled():
            gate, alarm = claim.gate, claim.alarm
            if gate is None:
                raise AssertionError("bug: an unsettled claim without a gate")
            last = alarm is None or (deadline is not None and deadline <= alarm)
            late = not self._clock.acquire(gate, self._left(deadline if last else alarm)) and last
            if not claim.settled():
                # Between the end of the sleep and this step another thread may have handed us a client: it is ours.
                self._section(PoolState.look_again_locked, claim, self._monotonic(), late=late)

    # -- what is seen of it ---------------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """One consistent picture of the pool."""
        try:
            return self._section(phases.picture_locked)
        except ReenteredError:
            return picture(self._state)  # the lock is this thread's own; reading disturbs nothing

    def add_listener(self, listener: Callable[[PoolEvent], object]) -> None:
        """
        Tell this callable of every event from now on: in order, without a lock, in the thread in which it happened or
        in one that was telling already. What it raises is logged once.
        """
        if not callable(listener):
            raise ConfigError(
                f"connection pool {self.name!r}: listener must be a callable that takes a PoolEvent, got "
                f"{type(listener).__name__}",
                setting="listener",
                allowed="a callable that takes a PoolEvent",
            )
        self._section(_listen_locked, listener)

    def remove_listener(self, listener: Callable[[PoolEvent], object]) -> None:
        """Tell this callable nothing more; unknown ones are ignored."""
        self._section(_forget_locked, listener)

    # -- machinery ------------------------------------------------------------------------------------------------

    def _limit(self, timeout: float | Configured | None) -> float | None:
        if isinstance(timeout, Configured):
            return self.config.connection_timeout
        return number_or_none("timeout", timeout, low=0)

    def _check_method(self, method: str) -> None:
        """Refuse what no client has before one is taken, as far as that can be told without running its code."""
        check_name(method, where=self._where)
        for entry in list(self._state.entries.values())[:1]:
            if surely_lacks(entry.client, method):
                raise no_method(entry.client, method, where=self._where)
            self._known.add(method)

    def _warn_of_result(self, client: C, method: str, result: object) -> None:
        """Say, once, that a result uses a client that has been given back. The result itself stays as it is."""
        kind = (type(client), method)
        if kind not in self._warned:
            self._warned.add(kind)
            _log.warning("connection pool %r: %s() returned %s, which uses the client after it was given back; call it in "
                         "a block of connection()", self.name, method, type(result).__name__)  # fmt: skip

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


def _listen_locked(state: PoolState, listener: Callable[[PoolEvent], object]) -> None:
    state.listeners = (*state.listeners, listener)


def _forget_locked(state: PoolState, listener: Callable[[PoolEvent], object]) -> None:
    # By equality: a bound method is a new object each time that it is named.
    state.listeners = tuple(other for other in state.listeners if other != listener)
