"""A borrowed client: `Lease` for two steps, `Connection` for a with block."""

from __future__ import annotations

import contextlib
import logging
from enum import Enum
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from hireliab.errors import ClosedError, ConfigError
from hireliab.exchange._discard import breaks_client
from hireliab.exchange._pool_state import Claim, Entry, token

C = TypeVar("C")

_log = logging.getLogger("hireliab.pool")


class Configured(Enum):
    """The default of `timeout=`: what the configuration says. None already means "without limit"."""

    TIMEOUT = "connection_timeout"


class _Lender(Protocol[C]):
    """What a lease knows of its pool."""

    name: str

    def acquire(self, *, timeout: float | Configured | None = ...) -> Lease[C]: ...

    def _owns(self, entry: Entry) -> bool: ...

    def _give_back(self, claim: Claim, reason: str | None) -> bool: ...


class Lease(Generic[C]):
    """
    One client, borrowed until `release()` or `discard()`; also a context manager that chooses between the two.

    It belongs to the thread that acquired it, or that last read `client`. A lease that is dropped without either
    call is noticed by the pool, which closes the client and makes room for another: keep the lease, not only the client.
    """

    __slots__ = ("__weakref__", "_claim", "_pool")

    def __init__(self, pool: _Lender[C], claim: Claim) -> None:
        self._pool = pool
        self._claim = claim

    @property
    def client(self) -> C:
        """
        The borrowed client.

        Raises:
            ClosedError: The lease was released or discarded before.
        """
        claim = self._claim
        entry = claim.entry
        if claim.over or entry is None or not self._pool._owns(entry):
            raise ClosedError(
                f"connection pool {self._pool.name!r}: this lease was given back, or is the parent process's; acquire another"
            )
        claim.owner = token()  # handed to another thread: that one holds it now (see PoolDeadlockError)
        client: C = entry.client
        return client

    def release(self) -> None:
        """Give the client back unbroken. A second call does nothing but log a warning."""
        if not self._pool._give_back(self._claim, None):
            _log.warning("connection pool %r: a lease was given back twice; ignored", self._pool.name)

    def discard(self, reason: str = "broken") -> None:
        """
        Give the client back as broken: it is closed, and another takes its place. A second call only logs.

        Args:
            reason: For the log; `stats()` counts it as "broken".
        """
        if self._pool._give_back(self._claim, "broken"):
            _log.info("connection pool %r: a client was discarded: %s", self._pool.name, reason)
        else:
            _log.warning("connection pool %r: a lease was given back twice; ignored", self._pool.name)

    def __enter__(self) -> Lease[C]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # False from _give_back is right here: the block may have released or discarded the lease itself.
        self._pool._give_back(self._claim, "broken" if error is not None and breaks_client(error) else None)

    def __repr__(self) -> str:
        return f"<Lease of connection pool {self._pool.name!r}: {'given back' if self._claim.over else 'held'}>"


class Connection(contextlib.AbstractContextManager[C]):
    """What `connection()` returns. A class, not a generator: an interrupt finds no half-closed frame in it."""

    __slots__ = ("_lease", "_pool", "_timeout")

    def __init__(self, pool: _Lender[C], timeout: float | Configured | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._lease: Lease[C] | None = None

    def __enter__(self) -> C:
        if self._lease is not None:
            raise ConfigError(f"connection pool {self._pool.name!r}: one connection() serves one with; call it again")
        self._lease = self._pool.acquire(timeout=self._timeout)
        return self._lease.client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lease is not None:
            self._lease.__exit__(kind, error, trace)
