"""The pools that are compared, each opened and used in the way of its own documents."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks._calls import peer
from hireliab.exchange.connection_pool import ConnectionPool

OURS, LIFO, QUEUE_POOL = "hireliab", "LifoQueue pool", "SQLAlchemy QueuePool"
PATIENCE = 30.0
"""Seconds that everybody would wait for a client: SQLAlchemy's default."""


class Client:
    """
    What is pooled: it finds out when two threads use it at once.

    Attributes:
        served: How often it was used.
        shared: How often it was in use by another thread at that moment.
    """

    __slots__ = ("__weakref__", "_taken", "served", "shared")

    def __init__(self) -> None:
        self._taken = threading.Lock()
        self.served = self.shared = 0

    def use(self, work: Callable[[], None]) -> None:
        """Work with the client."""
        alone = self._taken.acquire(blocking=False)
        if not alone:
            self.shared += 1
        self.served += 1
        try:
            work()
        finally:
            if alone:
                self._taken.release()

    def close(self) -> None:
        """Nothing to close."""


class LifoPool:
    """
    A pool as it is often written by hand: a LifoQueue of clients, with None for each that was not made yet.

    Args:
        create: Makes a client.
        most: How many.
    """

    def __init__(self, create: Callable[[], Any], most: int) -> None:
        self._create = create
        self.queue: queue.LifoQueue[Any] = queue.LifoQueue(most)
        for _ in range(most):
            self.queue.put(None)

    def acquire(self, timeout: float | None = PATIENCE) -> Any:
        """A client, or queue.Empty."""
        client = self.queue.get(timeout=timeout)
        if client is None:
            try:
                client = self._create()
            except BaseException:
                self.queue.put(None)
                raise
        return client

    def release(self, client: Any) -> None:
        """Give it back."""
        self.queue.put(client)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A client for a block."""
        client = self.acquire()
        try:
            yield client
        finally:
            self.release(client)


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """
    A pool that is ready.

    Attributes:
        pool: The thing itself.
        use: Borrows a client, calls the function with it, gives it back.
        waiting: How many threads wait for a client.
        spare: Takes a client and returns what gives it back; raises when there is none within 10 ms.
        close: Ends it.
    """

    pool: Any
    use: Callable[[Callable[[Any], None]], None]
    waiting: Callable[[], int]
    spare: Callable[[], tuple[Any, Callable[[], object]]]
    close: Callable[[], object]


Opener = Callable[[Callable[[], Any], int, int], Open]
"""Opens a pool: how a client is made, how many are made now, how many there may be."""


def open_ours(create: Callable[[], Any], least: int, most: int) -> Open:
    """A ConnectionPool with its usual settings."""
    config = {
        "min_connections": least,
        "max_connections": most,
        "connection_timeout": PATIENCE,
        "idle_timeout": None,
    }
    pool: ConnectionPool[Any] = ConnectionPool(name="bench", create_client_func=create, config=config)
    pool.initialize()

    def use(work: Callable[[Any], None]) -> None:
        with pool.connection() as client:
            work(client)

    def spare() -> tuple[Any, Callable[[], object]]:
        lease = pool.acquire(timeout=0.01)
        return lease.client, lease.release

    return Open(pool=pool, use=use, waiting=lambda: pool.stats().waiting, spare=spare, close=pool.stop)


def open_lifo(create: Callable[[], Any], least: int, most: int) -> Open:
    """The hand-made one."""
    pool = LifoPool(create, most)
    _warm([pool.acquire() for _ in range(least)], pool.release)

    def use(work: Callable[[Any], None]) -> None:
        with pool.connection() as client:
            work(client)

    def spare() -> tuple[Any, Callable[[], object]]:
        client = pool.acquire(timeout=0.01)
        return client, lambda: pool.release(client)

    return Open(pool=pool, use=use, waiting=lambda: _waiters(pool.queue), spare=spare, close=lambda: None)


def open_queue_pool(create: Callable[[], Any], least: int, most: int) -> Open:
    """
    SQLAlchemy's pool around clients that are no database.

    It is spared the rollback on return, which is its default and would be work that the others do not do.
    """
    alchemy = peer("sqlalchemy.pool")
    pool = alchemy.QueuePool(create, pool_size=most, max_overflow=0, timeout=PATIENCE, reset_on_return=None)
    _warm([pool.connect() for _ in range(least)], lambda connection: connection.close())

    def use(work: Callable[[Any], None]) -> None:
        connection = pool.connect()
        try:
            work(connection.driver_connection)
        finally:
            connection.close()

    def spare() -> tuple[Any, Callable[[], object]]:
        pool._timeout = 0.01
        try:
            connection = pool.connect()
        finally:
            pool._timeout = PATIENCE
        return connection.driver_connection, connection.close

    return Open(pool=pool, use=use, waiting=lambda: _waiters(pool._pool), spare=spare, close=pool.dispose)


def _warm(clients: list[Any], release: Callable[[Any], object]) -> None:
    for client in clients:
        release(client)


def _waiters(waited_for: Any) -> int:
    """How many threads wait for an entry of a queue of the standard library or of SQLAlchemy."""
    return len(waited_for.not_empty._waiters)


def peers() -> dict[str, Opener]:
    """Those that can take part, ours first."""
    found: dict[str, Opener] = {OURS: open_ours, LIFO: open_lifo}
    if peer("sqlalchemy.pool") is not None:
        found[QUEUE_POOL] = open_queue_pool
    return found


def not_a_pool(opened: Open, most: int) -> str:
    """Why it does not do what a pool of so many clients does, or ""; nobody else may use it meanwhile."""
    taken: list[tuple[Any, Callable[[], object]]] = []
    try:
        try:
            for _ in range(most):
                taken.append(opened.spare())  # noqa: PERF401 - those taken before an error are given back
        except Exception as error:
            return f"it lends {len(taken)} clients, not {most}: {type(error).__name__}"
        if len({id(client) for client, _ in taken}) != most:
            return "it lends a client twice"
        try:
            taken.append(opened.spare())
        except Exception:  # of whatever library: it refused
            return ""
        return f"it lends more than {most} clients"
    finally:
        for _, give_back in taken:
            give_back()
