"""What a pool does with a client: make, check, lend, take back, close. Runs the steps of `PoolState` under its lock."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from hireliab.core._listeners import Events
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import PoolCreateError, PoolDeadlockError, PoolStoppedError
from hireliab.exchange import _pool_making as making
from hireliab.exchange import _pool_phases as phases
from hireliab.exchange import _pool_upkeep as upkeep
from hireliab.exchange._discard import breaks_client
from hireliab.exchange._pool_housekeeper import HOUSEKEEPER, TICK
from hireliab.exchange._pool_lease import Claim, Entry, Lease, Status, gone
from hireliab.exchange._pool_settings import PoolConfig, PoolEvent, PoolStopReport
from hireliab.exchange._pool_state import PoolState

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("hireliab.pool")

_TRUSTED = 1.0
"""Seconds for which a client that was just used is lent without `validate_func`: a check costs a round trip."""


class ReenteredError(Exception):
    """A signal handler or finaliser called the pool in the middle of a step of its own thread."""


class PoolEngine(Generic[C]):
    """The machinery of a ConnectionPool, which adds what users call."""

    def __init__(self, name: str, config: PoolConfig, create_client: Callable[[], C], clock: Clock) -> None:
        self.name = name
        self.config = config
        self._create_client = create_client
        self._clock = clock
        self._monotonic = clock.monotonic
        self._trust = math.inf if config.validate_func is None else _TRUSTED
        self._timed = config.validate_func is not None or config.max_lifetime is not None
        self._leaky = config.leak_timeout is not None
        self._events: Events[PoolEvent] = Events(_log, lambda: f"connection pool {name!r}")
        self._state = self._new_state(Status.NEW)
        self._inline = clock is not SYSTEM_CLOCK  # upkeep inside acquire: no thread on a clock of tests
        self._tended = clock.monotonic()
        self._refill_failed = False
        self._report: PoolStopReport | None = None
        _POOLS.add(self)

    def _new_state(self, status: Status) -> PoolState:
        return PoolState(self.name, self.config, status, trust=self._trust, post=self._events.put)

    # -- a client's life ------------------------------------------------------------------------------------------

    def _create(self, claim: Claim, *, lend: bool) -> None:
        """Run the factory for a claim that has a slot."""
        home = self._state
        began = self._monotonic()
        new: list[C] = []  # until the pool has taken it in; what is left in it at the end is closed
        try:
            new = [self._create_client()]
        except Exception as error:
            self._section(making.failed_locked, claim, self._monotonic(), error, _bare(error))
            raise PoolCreateError(
                f"connection pool {self.name!r}: create_client_func raised {type(error).__name__}, no client was made; "
                "its cause says why",
                pool=self.name,
            ) from error
        except BaseException:  # Ctrl-C says nothing about the other side
            self._section(PoolState.drop_slot_locked, claim, self._monotonic())
            raise
        try:
            if self._state is not home:
                _bury(new.pop())  # the factory forked, and this is the child: the client is the parent's too
                raise PoolStoppedError(f"connection pool {self.name!r}: forked while a client was made", pool=self.name)
            now = self._monotonic()
            problem = self._section(making.admit_locked, claim, new, now, took=now - began, lend=lend)
        finally:
            if new:
                self._close_all(new)
        if problem is None:
            return
        claim.slot = None
        if problem != "stopped":
            raise PoolCreateError(f"connection pool {self.name!r}: {problem}", pool=self.name)
        raise PoolStoppedError(f"connection pool {self.name!r}: stopped while a client was made", pool=self.name)

    def _is_good(self, claim: Claim) -> bool:
        """Whether the claim's client may be lent: used lately, or validated now."""
        entry = claim._entry
        if self._monotonic() < entry.trusted:
            return True
        claim.touched = True  # interrupted in the check, the client must not be lent again
        if not self._validate(entry):
            return False
        claim.touched = False
        entry.checked = self._monotonic()
        return True

    def _validate(self, entry: Entry) -> bool:
        validate = self.config.validate_func
        try:
            return validate is None or bool(validate(entry.client))
        except Exception as error:
            _log.info("connection pool %r: a client failed its check: %s", self.name, type(error).__name__)
            return False

    def _breaks(self, lease: Lease[C], error: BaseException) -> bool:
        """Whether a client whose user got this error is closed: the user's word, else the classifier's."""
        is_broken = self.config.is_broken
        if is_broken is not None and isinstance(error, Exception):
            try:
                verdict = is_broken(lease._entry.client, error)
            except Exception as failure:  # the method was called: nothing but its own error may reach the caller
                _log.warning(
                    "connection pool %r: is_broken failed; the client is replaced", self.name, exc_info=failure
                )
                return True
            if verdict is not None:
                return bool(verdict)
        return breaks_client(error)

    def _give_back(self, lease: Lease[C], reason: str | None) -> bool:
        """End a lease: idle again, or closed for `reason`. False when it has ended before."""
        reset = self.config.reset_func
        try:
            if reason is None and reset is not None:
                done, reason = self._reset_and_finish(lease, reset)
            else:
                done = self._section(PoolState.finish_locked, lease, self._monotonic(), reason)
        except ReenteredError:
            self._state.mail.append(lambda: self._give_back(lease, reason))
            return True
        if done and reason is not None and not self._inline:
            HOUSEKEEPER.ring()  # it may be below the minimum now
        return done

    def _reset_and_finish(self, lease: Lease[C], reset: Callable[[C], object]) -> tuple[bool, str | None]:
        claim = Claim(self)
        if not self._section(PoolState.take_over_locked, lease, claim):
            return False, None
        reason: str | None = "interrupted"
        try:
            reset(claim._entry.client)
            reason = None
        except Exception as error:
            reason = "reset"
            _log.warning("connection pool %r: reset_func failed; the client is replaced", self.name, exc_info=error)
        finally:
            self._section(PoolState.finish_locked, claim, self._monotonic(), reason)
        return True, reason

    def _close_last(self, clients: list[C]) -> None:
        """
        Close the last of these clients, which are out of the pool; nobody is told of an error but the log and the
        counter. It leaves the list with nothing between that and the call of its close: where Ctrl-C comes, it is
        still to be closed, or closing.
        """
        rest = len(clients) - 1
        try:
            client, close = clients[-1], self.config.close_func
            if close is not None:
                del clients[rest:]
                close(client)
            else:
                own = getattr(client, "close", None)
                del clients[rest:]
                if own is not None:
                    own()
        except Exception as error:
            del clients[rest:]
            self._section(_count_close_error)
            _log.warning("connection pool %r: closing a client failed", self.name, exc_info=error)

    # -- upkeep ---------------------------------------------------------------------------------------------------

    def _start_upkeep(self) -> None:
        if not self._inline and not HOUSEKEEPER.add(self):
            self._inline = True
        self._section(phases.looked_after_locked)

    def _tend(self) -> float | None:
        """One round of upkeep; the seconds until the next, or None when the pool is stopped."""
        if not self._evict():
            return None
        while True:
            claim = Claim(self)
            if not self._section(upkeep.borrow_for_check_locked, claim, self._monotonic()):
                break
            reason: str | None = "interrupted"
            try:
                reason = None if self._validate(claim._entry) else "invalid"
            finally:
                self._section(_checked_locked, claim, self._monotonic(), reason)
        if not self._refill():
            return None
        due = (self.config.keepalive_interval, self.config.leak_timeout)
        return max(0.05, min(math.inf if seconds is None else seconds for seconds in due))

    def _refill(self) -> bool:
        """Make what is missing; False when the pool is stopped."""
        while self._section(upkeep.missing_locked):
            claim = Claim(self)
            if not self._section(making.reserve_locked, claim, self._monotonic()):
                break  # others are making the missing ones, or the factory rests
            try:
                self._create(claim, lend=False)
            except PoolCreateError as error:
                if not self._refill_failed:  # once per outage, not at every attempt
                    _log.warning("connection pool %r: below min_connections, and a new client cannot be made; trying "
                                 "on, at least every 30 s", self.name, exc_info=cause(error))  # fmt: skip
                self._refill_failed = True
                break
            except PoolStoppedError:
                return False
            self._refill_failed = False
        return True

    def _evict(self) -> bool:
        """Reap, evict, report leaks; False when the pool is stopped."""
        now = self._tended = self._monotonic()
        leaks = self._section(upkeep.tend_locked, now, self._clock.time())
        for where, seconds in leaks or ():
            _log.warning("connection pool %r: a client has been in use for %.1f s (leak_timeout %.1f s); acquired by %s",
                         self.name, seconds, self.config.leak_timeout, where)  # fmt: skip
        return leaks is not None

    def _tend_inline(self) -> None:
        """Without a thread: evict in passing, at most every five seconds. It never makes clients in a user's call."""
        if self._monotonic() - self._tended >= TICK:
            with contextlib.suppress(ReenteredError):
                self._evict()

    # -- machinery ------------------------------------------------------------------------------------------------

    def _section(self, step: Callable[Concatenate[PoolState, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one step under the lock; then close what it took out, and do what a signal handler posted meanwhile."""
        state = self._state
        closing: list[C] = []
        entered, ours = False, object()
        try:
            with state.lock:
                if state.inside:
                    raise ReenteredError
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
                try:
                    if closing:
                        self._close_all(closing)
                finally:
                    if closing:  # Ctrl-C came before the first
                        self._close_all(closing)
                if state.listeners:
                    self._events.deliver(self._hear)
                while state.mail:
                    try:
                        letter = state.mail.popleft()
                    except IndexError:
                        break  # another thread took it
                    letter()

    def _hear(self, event: PoolEvent) -> None:
        for listener in self._state.listeners:
            self._events.call(listener, listener, event)

    def _close_all(self, clients: list[C]) -> None:
        while clients:
            try:
                self._close_last(clients)
            except BaseException:
                self._close_all(clients)  # a Ctrl-C in one close() must not leave the others open
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

    def _deadline(self, limit: float | None) -> float | None:
        return None if limit is None else self._monotonic() + limit

    def _left(self, deadline: float | None) -> float | None:
        # A lock's own limit is about 292 years; a larger number would be an OverflowError.
        return None if deadline is None else min(max(0.0, deadline - self._monotonic()), threading.TIMEOUT_MAX)

    def _reentered(self) -> PoolDeadlockError:
        return PoolDeadlockError(
            f"connection pool {self.name!r}: called by a signal handler or finaliser that interrupted the pool itself; "
            "only release(), discard(), stop() and stats() work there",
            pool=self.name,
        )

    def _renew(self) -> None:
        """In a forked child: no lock held by a thread that is gone, no client of the parent."""
        old = self._state
        _bury(old)
        for entry in list(old.entries.values()):
            entry.holder, entry.doom = gone, "fork"  # the parent's leases are over here
        self._events.after_fork()
        stopped = old.status in (Status.STOPPING, Status.STOPPED)
        self._state = self._new_state(Status.STOPPED if stopped else Status.NEW)
        self._state.listeners = old.listeners


def cause(error: BaseException) -> BaseException:
    """The factory's error behind a PoolCreateError."""
    return error if error.__cause__ is None else error.__cause__


def _bare(error: Exception) -> BaseException | None:
    """A copy without its traceback, where the error's class can be copied."""
    try:
        twin = copy.copy(error)
    except Exception:
        return None
    return twin if isinstance(twin, BaseException) and twin is not error else None


def _checked_locked(state: PoolState, claim: Claim, now: float, reason: str | None) -> None:
    if reason is not None:
        state.suspect_locked(claim._entry)
    state.finish_locked(claim, now, reason, used=False)


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

_POOLS: weakref.WeakSet[PoolEngine[Any]] = weakref.WeakSet()
_GRAVEYARD: list[object] = []
"""
In a forked child: what belongs to the parent. Never emptied, because closing a client, or collecting it, would write
a farewell (TLS close_notify) on a socket that the parent still uses.
"""


def _bury(thing: object) -> None:
    _GRAVEYARD.append(thing)
    # One reference that nothing gives back: the list itself is emptied when the interpreter of the child ends.
    with contextlib.suppress(ImportError, AttributeError):
        import ctypes  # noqa: PLC0415  # only a forked child needs it

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _start_afresh() -> None:
    """In a forked child: no locks held by threads that are gone, no clients of the parent, no housekeeper yet."""
    HOUSEKEEPER.reset()
    for pool in list(_POOLS):
        pool._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
