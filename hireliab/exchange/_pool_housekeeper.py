"""
The one thread that looks after every pool of the process.

It holds pools weakly, so a pool that is dropped without `stop()` is collected, and it ends with the last of them.
"""

from __future__ import annotations

import contextlib
import logging
import sys
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

    _inline: bool
    """Whether it looks after itself, in passing; set where there is no thread to do it."""

    def _tend(self) -> float | None:
        """Do what is due; the seconds until more is, or None when the pool is stopped and needs no looking after."""


class Housekeeper:
    """Calls `_tend` of each pool every five seconds or sooner if it asks for that, and at once after `ring()`."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget everything: at the start, and in a forked child, where the thread does not exist."""
        # Guards the rest. Re-entrant: a signal handler that interrupted this file may start or stop a pool.
        self._lock = threading.RLock()
        self._pools: list[weakref.ref[Tended]] = []
        # The thread and its bell, always changed together. The thread that is not posted here any more ends.
        self._post: tuple[threading.Thread, threading.Lock] | None = None
        self._busy = False  # somebody is inside add() or remove() with the lock

    def ring(self, _dead: object = None) -> None:
        """Wake the thread now. Safe anywhere, also in a finaliser: it takes no lock."""
        post = self._post
        if post is not None:
            _ring(post[1])

    def add(self, pool: Tended) -> bool:
        """Look after `pool` from now on; False when no thread can be started (the interpreter is ending)."""
        if sys.is_finalizing():
            return False  # a finaliser at the very end: start() would wait for a thread that may not run any more
        with self._lock:
            before, self._busy = self._busy, True
            try:
                self._drop_locked(pool)
                # A new reference each time: a round that began before drops the old one, which is not this one.
                self._pools.append(weakref.ref(pool, self.ring))
                post = self._new_post()
                # Looked at after the thread was made: a signal handler may have posted one in the meantime.
                new = self._post is None
                if new:
                    self._post = post
            finally:
                self._busy = before
        if new:
            try:
                post[0].start()
            except BaseException as error:
                with self._lock:
                    if self._post is post and not post[0].is_alive():
                        self._post = None
                        self._drop_locked(pool)
                        # Thread B may have seen our post, and left its pool to the thread that did not start.
                        for orphan in [ref() for ref in self._pools]:
                            if orphan is not None:
                                orphan._inline = True
                        self._pools = []
                if isinstance(error, RuntimeError):
                    return False
                raise
        self.ring()
        return True

    def remove(self, pool: Tended) -> None:
        """Forget `pool`; with the last one the thread ends, and is waited for at most two seconds."""
        with self._lock:
            before, self._busy = self._busy, True
            try:
                self._drop_locked(pool)
                if self._pools:
                    return
                # Dismissed, not asked: another thread may add its pool right now, and then posts a new housekeeper
                # while we wait for the old one.
                post, self._post = self._post, None
            finally:
                self._busy = before
        if post is None:
            return
        thread, bell = post
        _ring(bell)
        # A thread that add() is just about to start cannot be joined. And while the frame below a signal handler
        # holds our lock, the thread cannot end.
        if thread.is_alive() and not before:
            join_all([thread], timeout=JOIN, clock=self._clock)

    def _new_post(self) -> tuple[threading.Thread, threading.Lock]:
        bell = threading.Lock()  # held until it rings; a plain lock needs no other lock to ring
        bell.acquire()
        thread = threading.Thread(target=self._run, args=(bell,), name="hireliab.pool-housekeeper", daemon=True)
        return thread, bell

    def _drop_locked(self, pool: Tended) -> None:
        self._pools = [ref for ref in self._pools if ref() is not None and ref() is not pool]

    def _living(self) -> list[weakref.ref[Tended]]:
        """The pools to look after, weakly, so that none is kept alive while we sleep; none means that the thread was dismissed, or has resigned, and must return."""
        with self._lock:
            if self._post is None or self._post[0] is not threading.current_thread():
                return []
            self._pools = pools = [ref for ref in self._pools if ref() is not None]
            if not pools:
                # Under the same lock as add(): it either sees no thread and starts one, or we see its pool.
                self._post = None
            return list(pools)

    def _run(self, bell: threading.Lock) -> None:
        while True:
            pools = self._living()
            if not pools:
                return
            pause: float | None = TICK
            for ref in pools:
                due = self._tend(ref)
                pause = None if due is None or pause is None else min(pause, due)
            if pause is not None:  # after a drop, which may have been the last one, look again before we sleep
                self._clock.acquire(bell, pause)

    def _tend(self, ref: weakref.ref[Tended]) -> float | None:
        pool = ref()
        if pool is None:
            return None
        try:
            due = pool._tend()
        except BaseException:  # a factory's SystemExit too: nobody here to hand it to, and other pools need us
            with contextlib.suppress(BaseException):  # a broken log handler must not end this thread
                _log.exception("pool housekeeper: a round failed; the next one is in %.0f s", TICK)
            return TICK
        if due is None:
            with self._lock:
                self._pools = [other for other in self._pools if other is not ref]
        return due


def _ring(bell: threading.Lock) -> None:
    with contextlib.suppress(RuntimeError):  # it rings already
        bell.release()


HOUSEKEEPER = Housekeeper()
"""The process's housekeeper; it has no thread until the first pool starts."""
