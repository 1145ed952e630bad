"""
What a pool knows: its clients, who holds them, who waits. No threads, no I/O, no user code.

`entries` is the only truth; every number is counted from it, and `idle` is an index that may be behind it. Holders,
creators and waiters are known by weak reference only: the strong one lives in the caller's frame. So a frame that is
killed between any two instructions (Ctrl-C) leaves at worst a dead reference behind, which `reap_locked` finds.
"""

from __future__ import annotations

import collections
import itertools
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

from hireliab.exchange._pool_backoff import Backoff
from hireliab.exchange._pool_lease import Claim, Entry, Lease, Refusal, Status, gone, open_gate
from hireliab.exchange._pool_picture import holders, picture, stuck, waiting
from hireliab.exchange._pool_settings import PoolConfig, PoolEvent


class PoolState:
    """Everything that the pool's lock guards, and the steps under it. A fork replaces it as a whole."""

    __slots__ = (
        "acquired",
        "backoff",
        "blame",
        "close_errors",
        "config",
        "create_failures",
        "created",
        "creating",
        "direct",
        "discards",
        "entries",
        "fill_error",
        "filled",
        "filling",
        "generation",
        "idle",
        "inside",
        "keys",
        "leaks",
        "listeners",
        "lock",
        "mail",
        "name",
        "offset",
        "patience",
        "post",
        "refused_down",
        "refused_full",
        "status",
        "stopper",
        "timeouts",
        "to_close",
        "trust",
        "upkeep",
        "waiting",
        "watchers",
    )

    def __init__(
        self, name: str, config: PoolConfig, status: Status, *, trust: float, post: Callable[[PoolEvent], object]
    ) -> None:
        # Guards everything below. Re-entrant, because a signal handler or a finaliser may call the pool in the middle
        # of a step of the same thread; `inside` tells the pool so, and it then only posts to `mail`.
        self.lock = threading.RLock()
        self.inside: object = None  # whose step it is
        self.mail: collections.deque[Callable[[], object]] = collections.deque()
        self.name = name
        self.config = config
        self.status = status
        self.trust = trust  # seconds for which a good client stays good
        self.direct = config.reset_func is None  # whether a client may come back the short way
        self.entries: dict[int, Entry] = {}
        self.idle: list[Entry] = []  # an index only; the right end was used last
        self.waiting: collections.deque[weakref.ref[Lease[Any]]] = collections.deque()
        self.creating: dict[int, weakref.ref[Lease[Any]]] = {}
        self.to_close: list[Any] = []  # clients taken out; closed by the section's thread when the lock is free
        self.watchers: list[threading.Lock] = []  # gates of threads that wait for a change, not for a client
        self.filling: weakref.ref[Lease[Any]] | None = None  # the running initialize(); dead: nobody's
        self.filled = False
        self.upkeep = False  # whether somebody looks after us while we run
        self.fill_error: BaseException | None = None  # why the last initialize() failed, for those who joined it
        self.stopper: weakref.ref[Lease[Any]] | None = None  # the running stop(), which alone ends it
        self.generation = 0  # clients of an older one are closed, not lent
        self.backoff = Backoff()
        self.blame: BaseException | None = None  # the error whose waiters are being refused
        self.patience = -math.inf
        self.offset: float | None = None  # wall clock less monotonic at the last round
        self.post = post
        self.listeners: tuple[Callable[[PoolEvent], object], ...] = ()
        self.keys = itertools.count(1)
        self.acquired = self.created = self.create_failures = self.timeouts = self.refused_full = 0
        self.refused_down = self.leaks = self.close_errors = 0
        self.discards: collections.Counter[str] = collections.Counter()

    # -- a claim's way --------------------------------------------------------------------------------------------

    def ask_locked(self, claim: Claim, now: float, *, may_wait: bool) -> bool:
        """Queue the claim and serve; afterwards it is settled or has a gate to sleep on. Whether upkeep is missing."""
        if self.status is Status.NEW:
            self.status = Status.RUNNING
        if self.status is not Status.RUNNING:
            self._refuse_locked(claim, Refusal.STOPPED)
            return False
        self.waiting.append(claim._ref)
        self.serve_locked(now)
        if not claim.settled() and self.reap_locked():
            self.serve_locked(now)
        if not claim.settled():
            limit = self.config.max_waiting
            claim._owner.waits = self
            if not may_wait:
                self.give_up_locked(claim, Refusal.TIMEOUT)
            elif stuck(self):
                alone = all(holder._owner is claim._owner for holder in holders(self))
                self.give_up_locked(claim, Refusal.DEADLOCK if alone else Refusal.CROSSWISE)
            elif limit is not None and waiting(self) > limit:
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
            if isinstance(claim, Claim):  # None: its frame was killed
                if not claim.settled() and not self._settle_locked(claim, now):
                    return
                claim.open_gate()
            self.waiting.popleft()

    def _settle_locked(self, claim: Claim, now: float) -> bool:
        """Give the first waiter what there is; False when it has to wait on."""
        entry = self._take_idle_locked(now)
        if entry is not None:
            self.lend_locked(entry, claim)
            return True
        at = self.may_make_at_locked()
        if at <= now:
            self.slot_locked(claim)
        elif self.backoff.failures and not self.entries and not self.creating:
            self.refused_down += 1
            claim.retry_after, claim.reason, claim.cause = (
                at - now,
                self.backoff.reason,
                self.blame or self.backoff.error,
            )
            self._refuse_locked(claim, Refusal.DOWN)  # nothing can come back
        else:
            alarm = None if at == math.inf else at
            if alarm != claim.alarm:
                claim.alarm = alarm
                claim.open_gate()  # not served: it sets its alarm and sleeps on
            return False
        return True

    def may_make_at_locked(self) -> float:
        """The instant from which a client may be made; infinity when that takes an event."""
        permits = 1 if self.backoff.failures else self.config.max_connecting  # in an outage: a single probe
        making = len(self.creating)
        if len(self.entries) + making >= self.config.max_connections or making >= permits:
            return math.inf
        return max(self.backoff.until, self.patience) if self.entries else self.backoff.until

    def look_again_locked(self, claim: Claim, now: float, *, late: bool) -> None:
        """The sleeper woke up unserved."""
        self.serve_locked(now)
        if claim.alarm is not None and claim.alarm <= now:
            claim.alarm = None  # it rang, and another was faster
        if late:
            self.give_up_locked(claim, Refusal.TIMEOUT)

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
            self.tell_locked("exhausted", "timeout")
        elif refusal is Refusal.FULL:
            self.refused_full += 1
            self.tell_locked("exhausted", "full")
        self._refuse_locked(claim, refusal)
        self.unqueue_locked(claim)

    def withdraw_locked(self, claim: Claim, now: float) -> None:
        """The caller was interrupted: give back whatever the claim has, or had been handed meanwhile."""
        self.unqueue_locked(claim)
        self.drop_slot_locked(claim, now)
        if claim.has_client():
            # A client that no user code has touched since it was idle goes back as it was.
            self.finish_locked(claim, now, "interrupted" if claim.touched else None, used=False, checked=False)
        else:
            self.serve_locked(now)  # the next one is the first now, and may have to set an alarm

    def drop_slot_locked(self, claim: Claim, now: float) -> None:
        """The claim makes no client: its place goes to the next waiter, who must not sleep on."""
        if claim.slot is None:
            return
        self.creating.pop(claim.slot, None)
        claim.slot = None
        self.serve_locked(now)
        self.changed_locked()

    def replace_locked(self, claim: Claim, now: float, *, late: bool) -> None:
        """The claim's client failed its check: take it out and give its place to the same caller, unless it is late."""
        entry = claim._entry
        claim.touched = False
        self.suspect_locked(entry)
        self.remove_locked(entry, "invalid")
        if self.status is not Status.RUNNING:
            self._refuse_locked(claim, Refusal.STOPPED)
        elif late:
            self.timeouts += 1
            self.tell_locked("exhausted", "timeout")
            self._refuse_locked(claim, Refusal.TIMEOUT)
            self.serve_locked(now)
        elif self.may_make_at_locked() <= now:
            self.slot_locked(claim)
        else:
            # It had its turn, so it waits as the first: for a permit, for a client, or for the news of an outage.
            self.waiting.appendleft(claim._ref)
            self.serve_locked(now)
            if not claim.settled():
                claim._owner.waits = self
                claim.gate = threading.Lock()
                claim.gate.acquire()
        self.changed_locked()

    def finish_locked(
        self, lease: Lease[Any], now: float, reason: str | None, *, used: bool = True, checked: bool = True
    ) -> bool:
        """Take a client back: idle again, or out of the pool for `reason`. False when that was done before."""
        entry = lease._entry
        if entry.holder is not lease._ref:
            return False
        reason = reason or entry.doom
        if reason is None and now >= entry.expires:
            reason = "lifetime"
        if reason is not None:
            self.remove_locked(entry, reason)
        else:
            if used:
                entry.idle_since = now
            if checked:
                entry.checked = now
                entry.trusted = min(entry.expires, now + self.trust)
            self.shelve_locked(entry)
        self.serve_locked(now)
        self.changed_locked()
        return True

    def hand_over_locked(self, lease: Lease[Any], now: float, trusted: float) -> bool:
        """
        The short way from hand to hand: while the first waiter wakes up, its client lies idle. False when there is more
        to be done than that.
        """
        claim = self.waiting[0]() if self.waiting else None  # a signal handler may have emptied it
        entry = lease._entry
        # Compared last and all at once, so that nothing has changed in a signal handler since.
        if (
            isinstance(claim, Claim)
            and self.direct
            and entry.doom is None
            and now < entry.expires
            and claim.slot is None
            and claim.refusal is None
            and claim._entry.holder is not claim._ref
            and entry.holder is lease._ref
        ):
            claim._entry = entry
            entry.idle_since = entry.checked = now
            entry.trusted = trusted
            entry.holder = claim._ref
            self.acquired += 1
            claim.open_gate()
            if self.waiting and self.waiting[0] is claim._ref:  # else somebody served the queue in between
                self.waiting.popleft()
            if self.waiting and len(self.entries) < self.config.max_connections:
                self.serve_locked(now)  # the next one is the first now, and has an alarm to set
            return True
        return False

    def take_over_locked(self, lease: Lease[Any], claim: Claim) -> bool:
        """The lease is over, and its client the claim's; False when it was over before."""
        entry = lease._entry
        if entry.holder is not lease._ref:
            return False
        claim._entry = entry
        entry.holder = claim._ref
        return True

    # -- small steps ----------------------------------------------------------------------------------------------

    def lend_locked(self, entry: Entry, claim: Claim) -> None:
        """The client is the claim's."""
        # The holder last: it alone says whose the client is.
        claim.slot = None
        claim._entry = entry
        entry.holder = claim._ref
        self.acquired += 1

    def remove_locked(self, entry: Entry, reason: str) -> None:
        """Out of the pool; its place is free at once, and it is closed when the lock is."""
        entry.holder = gone
        if entry.key in self.entries and self.entries[entry.key] is entry:
            # No call in these two lines, so that Ctrl-C comes before both or behind both.
            self.to_close += [entry.client]
            del self.entries[entry.key]
            self.discards[reason] += 1
            self.tell_locked("discarded", reason)

    def suspect_locked(self, failed: Entry) -> None:
        """A client failed its check: those that were good at the same time or before are looked at before use."""
        for entry in self.entries.values():
            if entry.holder is None and entry.checked <= failed.checked:
                entry.checked = entry.trusted = -math.inf

    def tell_locked(self, kind: str, reason: str | None = None) -> None:
        """Queue an event for the listeners, who hear of it when the lock is free."""
        if self.listeners:
            self.post(PoolEvent(self.name, kind, reason))

    def changed_locked(self) -> None:
        """Wake those who wait for a change."""
        if self.watchers:
            watchers, self.watchers = self.watchers, []
            for gate in watchers:
                open_gate(gate)

    def wake_watchers(self, _dead: object = None) -> None:
        """The same, for a weak reference's end: without the lock, which another thread may have."""
        for gate in list(self.watchers):
            open_gate(gate)

    def reap_locked(self) -> bool:
        """Find what killed frames have left behind, see the module's docstring; whether there was anything."""
        found = False
        for entry in list(self.entries.values()):
            if entry.holder is None:
                if not any(entry is other for other in self.idle):
                    self.idle.insert(0, entry)
                    found = True
            elif entry.holder() is None:
                # Nobody knows what its last user did with it, so it is not lent again.
                self.remove_locked(entry, "abandoned")
                found = True
        for slot, maker in list(self.creating.items()):
            if maker() is None:
                del self.creating[slot]
                found = True
        return found

    def slot_locked(self, claim: Claim) -> None:
        slot = next(self.keys)
        claim.generation = self.generation
        self.creating[slot] = claim._ref
        claim.slot = slot

    def shelve_locked(self, entry: Entry) -> None:
        """Idle again, in the order of use: a checked client goes back to its place."""
        entry.holder = None
        if entry.doom is not None:
            self.remove_locked(entry, entry.doom)
            return
        place = len(self.idle)
        while place and self.idle[place - 1].idle_since > entry.idle_since:
            place -= 1
        self.idle.insert(place, entry)

    def _take_idle_locked(self, now: float) -> Entry | None:
        """The idle client that was used last (its connection is the warmest), or None."""
        while self.idle:
            entry = self.idle.pop()
            if entry.holder is not None:
                continue  # the index was behind the truth
            if now < entry.expires:
                return entry
            self.remove_locked(entry, "lifetime")
        return None

    def _refuse_locked(self, claim: Claim, refusal: Refusal) -> None:
        claim.picture = picture(self)
        claim.refusal = refusal

    def refuse_all_locked(self) -> None:
        """The pool stops: nobody is left to wait."""
        for waiter in list(self.waiting):
            claim = waiter()
            if isinstance(claim, Claim):
                if not claim.settled():
                    self._refuse_locked(claim, Refusal.STOPPED)
                claim.open_gate()
        self.waiting.clear()

    def unqueue_locked(self, claim: Claim) -> None:
        for waiter in self.waiting:
            if waiter is claim._ref:
                self.waiting.remove(waiter)
                return
