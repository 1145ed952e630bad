"""
The one thread that looks after every pool of the process.

It holds pools weakly, so a pool that is dropped without `stop()` is collected, and it ends with the last of them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from typing import Protocol

from hireliab.core._threads import join_all
from hireliab.core.clock import SYSTEM_CLOCK, Clock

_log = logging.getLogger("hireliab.pool")

TICK = 5.0
"""Seconds between two looks at a pool; what is due is done at most this late."""

JOIN = 2.0
"""Seconds that the last `remove` waits for the thread; it may be inside a user's factory."""


class Tended(Protocol):
    """What the housekeeper knows of a pool."""

    def _tend(self) -> bool:
        """Do what is due; False when the pool is stopped and needs no more looking after."""


class Housekeeper:
    """Calls `_tend` of each pool every five seconds, and at once after `ring()`."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget everything: at the start, and in a forked child, where the thread does not exist."""
        # Guards _pools and _thread. Re-entrant: a pool may be stopped by a signal handler that interrupted this file.
        self._lock = threading.RLock()
        self._pools: list[weakref.ref[Tended]] = []
        self._thread: threading.Thread | None = None
        # A plain lock as a bell: ringing it takes no other lock, so finalisers and signal handlers may.
        self._bell = threading.Lock()
        self._bell.acquire()

    def ring(self, _dead: object = None) -> None:
        """Wake the thread now. Safe anywhere, also in a finaliser."""
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()

    def add(self, pool: Tended) -> bool:
        """Look after `pool` from now on; False when no thread can be started (the interpreter is ending)."""
        thread = None
        with self._lock:
            self._drop_locked(pool)
            self._pools.append(weakref.ref(pool, self.ring))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="hireliab.pool-housekeeper", daemon=True)
                self._thread = thread
        if thread is not None:
            try:
                thread.start()
            except BaseException as error:
                with self._lock:
                    if self._thread is thread and not thread.is_alive():
                        self._thread = None
                        self._drop_locked(pool)
                if isinstance(error, RuntimeError):
                    return False
                raise
        self.ring()
        return True

    def remove(self, pool: Tended) -> None:
        """Forget `pool`; with the last one the thread ends, and is waited for at most two seconds."""
        with self._lock:
            self._drop_locked(pool)
            last = not any(ref() is not None for ref in self._pools)
            thread = self._thread
        # A thread that add() of another pool is just about to start cannot be joined; it finds no pool and ends.
        if last and thread is not None and thread.is_alive():
            self.ring()
            join_all([thread], timeout=JOIN, clock=self._clock)

    def _drop_locked(self, pool: Tended) -> None:
        self._pools = [ref for ref in self._pools if ref() is not None and ref() is not pool]

    def _living(self) -> list[Tended]:
        """The pools to look after; none means that the thread has resigned under the lock and must return."""
        with self._lock:
            pools = [pool for pool in (ref() for ref in self._pools) if pool is not None]
            if not pools and self._thread is threading.current_thread():
                # Under the same lock as add(): it either sees no thread and starts one, or we see its pool.
                self._thread = None
            return pools

    def _run(self) -> None:
        while True:
            pools = self._living()
            if not pools:
                return
            while pools:
                self._tend(pools.pop())  # popped, so that no reference keeps a dropped pool alive while we sleep
            self._clock.acquire(self._bell, TICK)

    def _tend(self, pool: Tended) -> None:
        try:
            wanted = pool._tend()
        except BaseException:  # a factory's SystemExit too: nobody here to hand it to, and other pools need us
            _log.exception("pool housekeeper: a round failed; the next one is in %.0f s", TICK)
            return
        if not wanted:
            with self._lock:
                self._drop_locked(pool)
            self.ring()  # it may have been the last one: look again before sleeping


HOUSEKEEPER = Housekeeper()
"""The process's housekeeper; it has no thread until the first pool starts."""
