"""
A borrowed client: `Lease` for two steps, `Connection` for a with block.

Who has a client is written in one place, its entry's `holder`: a weak reference to the lease. The strong one lives in
the caller's frame. So a lease that is released, lost or the parent process's is known by one comparison, and a frame
that is killed between any two instructions leaves at worst a dead reference behind.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from hireliab.errors import ClosedError, ConfigError
from hireliab.exchange._pool_settings import PoolStats

if TYPE_CHECKING:
    from hireliab.exchange._pool_state import PoolState

C = TypeVar("C")

_log = logging.getLogger("hireliab.pool")


class Configured(Enum):
    """The default of `timeout=`: what the configuration says. None already means "without limit"."""

    TIMEOUT = "connection_timeout"


class Owner:
    """One object per thread. Unlike a thread's ident it is never used again for another thread."""

    __slots__ = ("waits",)

    def __init__(self) -> None:
        self.waits: object = None  # the pool's state that the thread waits for; a hint, to be confirmed


THREAD = threading.local()


def this_thread() -> Owner:
    """The calling thread's Owner."""
    try:
        owner: Owner = THREAD.owner
    except AttributeError:
        owner = THREAD.owner = Owner()
    return owner


class Status(Enum):
    """A pool's life."""

    NEW = "new"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


_RUNNING = Status.RUNNING


class Entry:
    """One client of the pool."""

    __slots__ = ("checked", "client", "doom", "expires", "holder", "idle_since", "key", "trusted")

    def __init__(self, key: int, client: Any, now: float, expires: float) -> None:
        self.key = key
        self.client = client
        self.holder: Callable[[], Lease[Any] | None] | None = None
        """Who has it, weakly; None when it is idle, and `gone` when it is no client of the pool any more."""
        self.doom: str | None = None
        """Why it is closed when it comes back, if it is: it was in use at a stop() or at an invalidate_all()."""
        self.expires = expires
        self.idle_since = now
        """When it was made or last used."""
        self.checked = now
        """When it was last known to be good: made, returned unbroken, or checked."""
        self.trusted = expires
        """Until when it is lent without a look at it."""


def gone() -> None:
    """The holder of an entry that left the pool: a reference that is dead for good."""


class _Lender(Protocol[C]):
    """What a lease knows of its pool."""

    name: str
    _state: PoolState
    _monotonic: Callable[[], float]
    _trust: float

    def _give_back(self, lease: Lease[C], reason: str | None) -> bool: ...

    def _breaks(self, lease: Lease[C], error: BaseException) -> bool: ...


class _Acquirable(_Lender[C], Protocol[C]):
    def acquire(self, *, timeout: float | Configured | None = ...) -> Lease[C]: ...


class Lease(Generic[C]):
    """
    One client, borrowed until `release()` or `discard()`; also a context manager that chooses between the two.

    It belongs to the thread that acquired it, or that last read `client`. A lease that is dropped without either
    call is noticed by the pool, which closes the client and makes room for another: keep the lease, not only the client.
    """

    # Filled in by the pool and not by an __init__, whose call would cost a fifth of the whole way out and back.
    __slots__ = ("__weakref__", "_entry", "_owner", "_pool", "_ref", "_taken")

    _entry: Entry
    _owner: Owner
    _pool: _Lender[C]
    _ref: weakref.ref[Lease[Any]]
    _taken: tuple[float, str] | None  # when and where it was acquired; set only with leak_timeout

    @property
    def client(self) -> C:
        """
        The borrowed client.

        Raises:
            ClosedError: The lease was released or discarded before.
        """
        entry = self._entry
        if entry.holder is not self._ref:
            raise ClosedError(
                f"connection pool {self._pool.name!r}: this lease was given back, or is the parent process's; acquire another"
            )
        self._owner = this_thread()  # handed to another thread: that one holds it now (see PoolDeadlockError)
        client: C = entry.client
        return client

    def release(self) -> None:
        """Give the client back unbroken. A second call does nothing but log a warning."""
        pool = self._pool
        entry = self._entry
        now = pool._monotonic()
        trusted = now + pool._trust
        if trusted > entry.expires:  # noqa: PLR1730  # a call of min() costs more than the rest of it
            trusted = entry.expires
        state = pool._state
        with state.lock:
            # The short way: nobody waits, nothing is to be looked at. From the last comparison to the end of the block
            # there is no call and no jump, so CPython lets neither a signal handler nor a finaliser in between.
            if (
                state.status is _RUNNING
                and state.direct
                and entry.doom is None
                and now < entry.expires
                and not state.waiting
                and state.inside is None
                and entry.holder is self._ref
            ):
                entry.idle_since = entry.checked = now
                entry.trusted = trusted
                entry.holder = None
                state.idle.append(entry)
                return
            if state.waiting and state.inside is None and state.hand_over_locked(self, now, trusted):
                return
        if not pool._give_back(self, None):
            self._complain()

    def discard(self, reason: str = "broken") -> None:
        """
        Give the client back as broken: it is closed, and another takes its place. A second call only logs.

        Args:
            reason: For the log; `stats()` counts it as "broken".
        """
        if self._pool._give_back(self, "broken"):
            _log.info("connection pool %r: a client was discarded: %s", self._pool.name, reason)
        else:
            self._complain()

    def _complain(self) -> None:
        if self._entry.doom != "fork":  # in a forked child the parent's leases are silently of no effect
            _log.warning("connection pool %r: a lease was given back twice; ignored", self._pool.name)

    def __enter__(self) -> Lease[C]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entry.holder is not self._ref:
            return  # the block may have released or discarded the lease itself
        if error is None:
            self.release()
        else:
            self._pool._give_back(self, "broken" if self._pool._breaks(self, error) else None)

    def __repr__(self) -> str:
        held = self._entry.holder is self._ref
        return f"<Lease of connection pool {self._pool.name!r}: {'held' if held else 'given back'}>"


class Refusal(Enum):
    """Why a claim gets no client."""

    STOPPED = "stopped"
    TIMEOUT = "timeout"
    FULL = "full"
    DOWN = "down"
    DEADLOCK = "deadlock"
    CROSSWISE = "crosswise"


_NO_ENTRY = Entry(0, None, 0.0, 0.0)
_NO_ENTRY.holder = gone


class Claim(Lease[Any]):
    """
    A lease that had to wait or to make its client: it queues, then gets a client or a `slot`, or is refused.

    The pool itself uses one wherever it holds a client or a place: weakly known, so that a killed frame heals.
    """

    __slots__ = (
        "alarm",
        "cause",
        "gate",
        "generation",
        "picture",
        "reason",
        "refusal",
        "retry_after",
        "slot",
        "touched",
    )

    def __init__(self, pool: _Lender[Any]) -> None:
        self._pool = pool
        self._ref = weakref.ref(self)
        self._owner = this_thread()
        self._entry = _NO_ENTRY
        self._taken = None
        self.gate: threading.Lock | None = None  # locked while the caller sleeps; opened at hand-over
        self.alarm: float | None = None  # when the sleeper must look again: a creation may begin then
        self.slot: int | None = None  # permission to make a client
        self.generation = 0  # of the slot
        self.refusal: Refusal | None = None
        self.picture: PoolStats | None = None  # the pool at the moment of refusal
        self.cause: BaseException | None = None  # the factory's error, for those who waited when it failed
        self.reason = ""
        self.retry_after = 0.0
        self.touched = False  # user code may have used the client

    def has_client(self) -> bool:
        """Whether it holds a client."""
        return self._entry.holder is self._ref

    def settled(self) -> bool:
        """Whether the wait is over."""
        return self.slot is not None or self.refusal is not None or self._entry.holder is self._ref

    def open_gate(self) -> None:
        """Wake the caller if it sleeps."""
        open_gate(self.gate)


def open_gate(gate: threading.Lock | None) -> None:
    """Release a lock that somebody sleeps on, once or more."""
    if gate is not None and gate.locked():
        try:  # noqa: SIM105  # contextlib.suppress costs a microsecond, in which the one who is woken waits for us
            gate.release()
        except RuntimeError:
            pass  # a weak reference's end opened it at the same moment, without the lock


class Connection(contextlib.AbstractContextManager[C]):
    """What `connection()` returns. A class, not a generator: an interrupt finds no half-closed frame in it."""

    __slots__ = ("_lease", "_pool", "_timeout")

    def __init__(self, pool: _Acquirable[C], timeout: float | Configured | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._lease: Lease[C] | None = None

    def __enter__(self) -> C:
        if self._lease is not None:
            raise ConfigError(f"connection pool {self._pool.name!r}: one connection() serves one with; call it again")
        lease = self._lease = self._pool.acquire(timeout=self._timeout)
        client: C = lease._entry.client
        return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease = self._lease
        if lease is None:
            return
        if error is None:
            lease.release()  # nobody else has it, so it cannot have been given back
        else:
            lease.__exit__(kind, error, trace)
