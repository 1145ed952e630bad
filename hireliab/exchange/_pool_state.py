"""
What a pool knows: its clients, who holds them, who waits. No threads, no I/O, no user code.

`entries` is the only truth; every number is counted from it. Holders, creators and waiters are known by weak
reference only: the strong one lives in the caller's frame. So a frame that is killed between any two instructions
(Ctrl-C) leaves at worst a dead reference behind, which `reap_locked` finds.
"""

from __future__ import annotations

import collections
import enum
import itertools
import random
import threading
import weakref
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from hireliab.errors import PoolDeadlockError, PoolError, PoolFullError, PoolStoppedError, PoolTimeoutError
from hireliab.exchange._pool_settings import PoolConfig, PoolStats

_JITTER = 0.1
"""Lifetimes are shortened by up to this share, so that clients made together do not expire together."""

_thread = threading.local()


def token() -> object:
    """One object per thread. Unlike a thread's ident it is never used again for another thread."""
    try:
        return _thread.token
    except AttributeError:
        _thread.token = object()
        return _thread.token


class Status(enum.Enum):
    """A pool's life."""

    NEW = "new"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Entry:
    """One client of the pool."""

    __slots__ = ("client", "expires", "given_up", "holder", "idle_since", "key")

    def __init__(self, key: int, client: Any, now: float, expires: float | None) -> None:
        self.key = key
        self.client = client
        self.expires = expires
        self.idle_since = now
        """When it was last known to be good: made, or returned unbroken."""
        self.holder: weakref.ref[Claim] | None = None
        """Who has it; None when it is idle."""
        self.given_up = False
        """It was in use at a stop(): it is closed when it comes back, also after a new start."""


class Refusal(enum.Enum):
    """Why a claim gets no client."""

    STOPPED = "stopped"
    TIMEOUT = "timeout"
    FULL = "full"
    DEADLOCK = "deadlock"


class Claim:
    """One caller's claim on a client: it waits, then makes one (`slot`) or holds one (`entry`), or is refused."""

    __slots__ = ("__weakref__", "entry", "gate", "over", "owner", "picture", "refusal", "slot", "touched")

    def __init__(self) -> None:
        self.owner = token()
        self.gate: threading.Lock | None = None  # locked while the caller sleeps; opened at hand-over
        self.entry: Entry | None = None
        self.slot: int | None = None
        self.refusal: Refusal | None = None
        self.picture: PoolStats | None = None  # the pool at the moment of refusal
        self.touched = False  # user code may have used the client
        self.over = False  # released or discarded

    def settled(self) -> bool:
        """Whether the wait is over."""
        return self.entry is not None or self.slot is not None or self.refusal is not None

    def open_gate(self) -> None:
        """Wake the caller if it sleeps."""
        open_gate(self.gate)


def open_gate(gate: threading.Lock | None) -> None:
    """Release a lock that somebody sleeps on, once or more."""
    if gate is not None and gate.locked():
        gate.release()


class PoolState:
    """Everything that the pool's lock guards, and the steps under it. A fork replaces it as a whole."""

    def __init__(self, name: str, config: PoolConfig, status: Status) -> None:
        # Guards everything below. Re-entrant, because a signal handler or a finaliser may call the pool in the middle
        # of a step of the same thread; `inside` tells the pool so, and it then only posts to `mail`.
        self.lock = threading.RLock()
        self.inside: object = None  # whose step it is
        self.mail: collections.deque[Callable[[], object]] = collections.deque()
        self.name = name
        self.config = config
        self.status = status
        self.entries: dict[int, Entry] = {}
        self.idle: list[Entry] = []  # an index only; the right end was used last
        self.waiting: collections.deque[weakref.ref[Claim]] = collections.deque()
        self.creating: dict[int, weakref.ref[Claim]] = {}
        self.to_close: list[Entry] = []  # taken out; closed by the section's thread when the lock is free
        self.watchers: list[threading.Lock] = []  # gates of threads that wait for a change, not for a client
        self.filling: Claim | None = None  # the running initialize()
        self.filled = False
        self.upkeep = False  # whether somebody looks after us while we run
        self.fill_error: BaseException | None = None  # why the last initialize() failed, for those who joined it
        self.stopper: object = None  # the running stop(), which alone ends it
        self.keys = itertools.count(1)
        self.acquired = self.created = self.create_failures = self.timeouts = self.refused_full = 0
        self.close_errors = 0
        self.discards: collections.Counter[str] = collections.Counter()

    # -- a claim's way --------------------------------------------------------------------------------------------

    def ask_locked(self, claim: Claim, now: float, *, may_wait: bool) -> bool:
        """Queue the claim and serve; afterwards it is settled or has a gate to sleep on. Whether upkeep is missing."""
        if self.status is Status.NEW:
            self.status = Status.RUNNING
        if self.status is not Status.RUNNING:
            self._refuse_locked(claim, Refusal.STOPPED)
            return False
        self.waiting.append(weakref.ref(claim))
        self.serve_locked(now)
        if not claim.settled():
            self.reap_locked()
            self.serve_locked(now)
        if not claim.settled():
            limit = self.config.max_waiting
            if not may_wait:
                self.give_up_locked(claim, Refusal.TIMEOUT)
            elif self._mine_alone_locked(claim.owner):
                self.give_up_locked(claim, Refusal.DEADLOCK)
            elif limit is not None and self._waiting_locked() > limit:
                self.give_up_locked(claim, Refusal.FULL)
            else:
                claim.gate = threading.Lock()
                claim.gate.acquire()
        return not self.upkeep

    def serve_locked(self, now: float) -> None:
        """
        Hand clients, or permission to make one, to the waiters in their order.

        Called after every event that brings a client or frees capacity: both are a wake-up. Each step is written so
        that a Ctrl-C behind it is repaired by the next call: a settled waiter is woken again, then dropped.
        """
        while self.waiting:
            claim = self.waiting[0]()
            if claim is not None:
                if not claim.settled():
                    entry = self._take_idle_locked(now)
                    if entry is not None:
                        self._lend_locked(entry, claim)
                    elif len(self.entries) + len(self.creating) < self.config.max_connections:
                        self._slot_locked(claim)
                    else:
                        return
                claim.open_gate()
            self.waiting.popleft()

    def give_up_locked(self, claim: Claim, refusal: Refusal) -> None:
        """
        Take a waiter out, unless it was served in the meantime: then the client is its own and nothing is refused.

        This is the waiter's answer to the hand-over. Both happen under the lock, so of a time-out and a return at
        the same instant exactly one wins.
        """
        if claim.settled():
            return
        if refusal is Refusal.TIMEOUT:
            self.timeouts += 1
        elif refusal is Refusal.FULL:
            self.refused_full += 1
        self._refuse_locked(claim, refusal)
        self._unqueue_locked(claim)

    def withdraw_locked(self, claim: Claim, now: float) -> None:
        """The caller was interrupted: give back whatever the claim has, or had been handed meanwhile."""
        self._unqueue_locked(claim)
        self.drop_slot_locked(claim, now, failed=False)
        if claim.entry is not None:
            # A client that no user code has touched since it was idle goes back as it was.
            self.finish_locked(claim, now, "interrupted" if claim.touched else None, used=False)

    def reserve_locked(self, claim: Claim) -> bool:
        """Permission to make one spare client, while there are fewer than the minimum."""
        alive = self.status in (Status.NEW, Status.RUNNING)
        if not alive or len(self.entries) + len(self.creating) >= self.config.min_connections:
            return False
        self._slot_locked(claim)
        return True

    def admit_locked(self, claim: Claim, client: Any, now: float, *, lend: bool) -> str | None:
        """Take a new client in, lent to its maker or idle; returns what is wrong with it, if anything."""
        if self.creating.pop(-1 if claim.slot is None else claim.slot, None) is None:
            return "stopped"
        claim.slot = None
        problem = None
        if client is None:
            problem = "the factory returned None"
        elif any(entry.client is client for entry in self.entries.values()):  # `is`: clients may have an odd ==
            problem = "the factory returned a client that the pool has already; it must make a new one each time"
        if problem is not None:
            self.create_failures += 1
            self.serve_locked(now)
            return problem
        self.created += 1
        life = self.config.max_lifetime
        expires = None if life is None else now + life * (1.0 - _JITTER * random.random())
        entry = Entry(next(self.keys), client, now, expires)
        if lend:
            self._lend_locked(entry, claim)
        self.entries[entry.key] = entry
        if not lend:
            self.idle.append(entry)
            self.serve_locked(now)
        return None

    def drop_slot_locked(self, claim: Claim, now: float, *, failed: bool) -> None:
        """The claim makes no client: its place goes to the next waiter, who must not sleep on."""
        if claim.slot is None:
            return
        if self.creating.pop(claim.slot, None) is not None and failed:
            self.create_failures += 1
        claim.slot = None
        self.serve_locked(now)
        self._changed_locked()

    def replace_locked(self, claim: Claim, now: float, *, late: bool) -> None:
        """The claim's client failed its check: take it out and give its place to the same caller, unless it is late."""
        entry, claim.entry = claim.entry, None
        claim.touched = False
        if entry is not None:
            self._remove_locked(entry, "invalid")
        if self.status is not Status.RUNNING:
            self._refuse_locked(claim, Refusal.STOPPED)
        elif late:
            self.timeouts += 1
            self._refuse_locked(claim, Refusal.TIMEOUT)
            self.serve_locked(now)
        else:
            self._slot_locked(claim)
        self._changed_locked()

    def close_claim_locked(self, claim: Claim) -> bool:
        """Mark the claim as given back; False when it already was, by this or another thread."""
        if claim.over:
            return False
        claim.over = True
        if claim.entry is not None and not self.owns(claim.entry):
            claim.entry = None  # it belongs to the parent process: not to be reset, lent or closed here
        return True

    def finish_locked(self, claim: Claim, now: float, reason: str | None, *, used: bool = True) -> None:
        """Take a client back: idle again, or out of the pool for `reason`."""
        claim.over = True
        entry = claim.entry
        if entry is None or not self.owns(entry):
            return
        if reason is None and entry.given_up:
            reason = "stop"
        if reason is None and self._expired(entry, now):
            reason = "lifetime"
        if reason is not None:
            self._remove_locked(entry, reason)
        else:
            if used:
                entry.idle_since = now
            entry.holder = None
            self.idle.append(entry)
        self.serve_locked(now)
        self._changed_locked()

    # -- start and stop -------------------------------------------------------------------------------------------

    def begin_fill_locked(self, claim: Claim) -> str:
        """What initialize() has to do: "go", "join" another thread's, or nothing because of "done" or "stopping"."""
        if self.status is Status.STOPPING:
            return "stopping"
        if self.filled or (self.filling is not None and self.filling.owner is claim.owner):
            return "done"  # a factory that initialises its own pool gets here too
        if self.filling is not None:
            return "join"
        if self.status is Status.STOPPED:
            self.status = Status.NEW
        self.filling = claim
        self.fill_error = None
        return "go"

    def end_fill_locked(self, error: BaseException | None, *, interrupted: bool) -> str:
        """Open the pool, unless it has no client and an error says why; returns "failed", "stopped" or "started"."""
        self.filling = None
        self._changed_locked()
        if self.status in (Status.STOPPING, Status.STOPPED):
            return "stopped"
        if interrupted:
            return "failed"
        if error is not None and not self.entries:
            self.fill_error = error
            return "failed"
        self.status = Status.RUNNING
        self.filled = True
        return "started"

    def begin_stop_locked(self, stopper: object) -> tuple[int, int, int] | None:
        """Refuse all waiters, give up idle clients; (closed, in use, creating), or None when somebody stops already."""
        if self.status in (Status.STOPPING, Status.STOPPED):
            return None
        self.status = Status.STOPPING
        self.stopper = stopper
        self.reap_locked()
        self._refuse_all_locked()
        creating = len(self.creating)
        self.creating.clear()  # a client under construction finds no place on arrival and is closed by its maker
        idle = [entry for entry in self.entries.values() if entry.holder is None]
        for entry in idle:
            self._remove_locked(entry, "stop")
        for entry in self.entries.values():
            entry.given_up = True
        self.idle.clear()
        self.filled = self.upkeep = False
        self._changed_locked()
        return len(idle), len(self.entries), creating

    def end_stop_locked(self, stopper: object) -> None:
        """No more waiting for clients in use; they are closed when they come back."""
        if self.stopper is stopper:
            self._refuse_all_locked()  # again, in case that a Ctrl-C cut the beginning short
        if self.status is Status.STOPPING and self.stopper is stopper:
            self.status = Status.STOPPED
        self._changed_locked()

    def in_use_locked(self, *, but_by: object = None) -> int:
        """Clients in use, without those of one thread."""
        count = 0
        for entry in self.entries.values():
            claim = None if entry.holder is None else entry.holder()
            count += claim is not None and claim.owner is not but_by
        return count

    # -- upkeep ---------------------------------------------------------------------------------------------------

    def looked_after_locked(self) -> None:
        """Upkeep has begun."""
        self.upkeep = self.status is Status.RUNNING

    def missing_locked(self) -> bool:
        """Whether the housekeeper should make clients now."""
        return self.status is Status.RUNNING and len(self.entries) < self.config.min_connections

    def reap_locked(self) -> None:
        """Find what killed frames have left behind; see the module's docstring."""
        for entry in list(self.entries.values()):
            if entry.holder is not None:
                if entry.holder() is None:
                    # Nobody knows what its last user did with it, so it is not lent again.
                    self._remove_locked(entry, "abandoned")
            elif not any(entry is other for other in self.idle):
                self.idle.insert(0, entry)
        for slot, maker in list(self.creating.items()):
            if maker() is None:
                del self.creating[slot]
        if any(waiter() is None for waiter in self.waiting):
            self.waiting = collections.deque(waiter for waiter in self.waiting if waiter() is not None)

    def tend_locked(self, now: float) -> bool:
        """Reap, evict, serve; False when the pool is stopped."""
        self.reap_locked()
        for entry in [entry for entry in self.idle if self._expired(entry, now)]:
            self._take_out_idle_locked(entry, "lifetime")
        limit = self.config.idle_timeout
        if limit is not None:
            for entry in [entry for entry in self.idle if now - entry.idle_since >= limit]:  # the cold end first
                if len(self.entries) <= self.config.min_connections:
                    break
                self._take_out_idle_locked(entry, "idle")
        self.serve_locked(now)
        self._changed_locked()
        return self.status is not Status.STOPPED

    def stats_locked(self) -> PoolStats:
        """The picture."""
        in_use = sum(entry.holder is not None for entry in self.entries.values())
        return PoolStats(
            name=self.name,
            status=self.status.value,
            min_connections=self.config.min_connections,
            max_connections=self.config.max_connections,
            size=len(self.entries),
            idle=len(self.entries) - in_use,
            in_use=in_use,
            creating=len(self.creating),
            waiting=self._waiting_locked(),
            acquired=self.acquired,
            created=self.created,
            create_failures=self.create_failures,
            discarded=sum(self.discards.values()),
            discards=MappingProxyType(dict(self.discards)),
            timeouts=self.timeouts,
            refused_full=self.refused_full,
            close_errors=self.close_errors,
        )

    def owns(self, entry: Entry) -> bool:
        """Whether this is a client of the pool now; safe without the lock."""
        return self.entries.get(entry.key) is entry

    # -- small steps ----------------------------------------------------------------------------------------------

    def _lend_locked(self, entry: Entry, claim: Claim) -> None:
        # The holder first: interrupted between the two lines, the entry is held by a claim that will die.
        entry.holder = weakref.ref(claim)
        claim.slot = None
        claim.entry = entry
        self.acquired += 1

    def _slot_locked(self, claim: Claim) -> None:
        slot = next(self.keys)
        self.creating[slot] = weakref.ref(claim)
        claim.slot = slot

    def _refuse_locked(self, claim: Claim, refusal: Refusal) -> None:
        claim.picture = self.stats_locked()
        claim.refusal = refusal

    def _refuse_all_locked(self) -> None:
        for waiter in list(self.waiting):
            claim = waiter()
            if claim is not None:
                if not claim.settled():
                    self._refuse_locked(claim, Refusal.STOPPED)
                claim.open_gate()
        self.waiting.clear()

    def _unqueue_locked(self, claim: Claim) -> None:
        for waiter in self.waiting:
            if waiter() is claim:
                self.waiting.remove(waiter)
                return

    def _waiting_locked(self) -> int:
        claims = (waiter() for waiter in self.waiting)
        return sum(claim is not None and not claim.settled() for claim in claims)

    def _mine_alone_locked(self, owner: object) -> bool:
        """Whether every client and every creation belongs to this one thread, which would wait for itself."""
        holders = [entry.holder for entry in self.entries.values()] + list(self.creating.values())
        claims = [None if holder is None else holder() for holder in holders]
        return all(claim is not None and claim.owner is owner for claim in claims)

    def _take_idle_locked(self, now: float) -> Entry | None:
        """The idle client that was used last (its connection is the warmest), or None."""
        while self.idle:
            entry = self.idle.pop()
            if not self.owns(entry) or entry.holder is not None:
                continue  # the index was behind the truth
            if not self._expired(entry, now):
                return entry
            self._remove_locked(entry, "lifetime")
        return None

    def _take_out_idle_locked(self, entry: Entry, reason: str) -> None:
        self.idle = [other for other in self.idle if other is not entry]
        self._remove_locked(entry, reason)

    def _remove_locked(self, entry: Entry, reason: str) -> None:
        """Out of the pool; its place is free at once, and it is closed when the lock is."""
        if self.entries.pop(entry.key, None) is not None:
            self.discards[reason] += 1
            self.to_close.append(entry)

    def _expired(self, entry: Entry, now: float) -> bool:
        return entry.expires is not None and now >= entry.expires

    def _changed_locked(self) -> None:
        if self.watchers:
            watchers, self.watchers = self.watchers, []
            for gate in watchers:
                open_gate(gate)


def refused(claim: Claim, waited: float) -> PoolError:
    """The error for a refused claim, with the whole picture in its text."""
    seen, refusal = claim.picture, claim.refusal
    if seen is None:
        raise AssertionError("bug: a claim without a refusal was refused")
    picture = (
        f"total {seen.size} of {seen.max_connections}, in use {seen.in_use}, idle {seen.idle}, "
        f"being made {seen.creating}, waiting {seen.waiting}"
    )
    where = f"connection pool {seen.name!r}"
    if refusal is Refusal.TIMEOUT:
        return PoolTimeoutError(
            f"{where}: no client became free within {waited:.1f} s ({picture}); raise max_connections or "
            "connection_timeout, or give clients back sooner",
            pool=seen.name,
        )
    if refusal is Refusal.FULL:
        return PoolFullError(
            f"{where}: {seen.waiting - 1} callers wait already ({picture}); try later, or raise max_waiting",
            pool=seen.name,
        )
    if refusal is Refusal.DEADLOCK:
        return PoolDeadlockError(
            f"{where}: this thread holds every client itself and would wait for ever ({picture}); give one back "
            "first, or raise max_connections",
            pool=seen.name,
        )
    return PoolStoppedError(f"{where}: {seen.status}, the call was not made; initialize() starts it", pool=seen.name)
