"""How a client is made, from the permit to its place in the pool: steps under the pool's lock."""

from __future__ import annotations

import math
import random
from typing import Any

from hireliab.exchange._pool_lease import Claim, Entry, Status
from hireliab.exchange._pool_state import PoolState

_JITTER = 0.1
"""Lifetimes are shortened by up to this share, so that clients made together do not expire together."""

_PATIENCE = 1.0
"""Seconds for which waiters are left to clients that come back, at most, although they might make one."""


def reserve_locked(state: PoolState, claim: Claim, now: float, *, patient: bool = True) -> bool:
    """Permission to make one spare client, while there are fewer than the minimum."""
    alive = state.status in (Status.NEW, Status.RUNNING)
    if not alive or len(state.entries) + len(state.creating) >= state.config.min_connections:
        return False
    if len(state.creating) >= state.config.max_connecting or (patient and state.may_make_at_locked() > now):
        return False
    state.slot_locked(claim)
    return True


def admit_locked(state: PoolState, claim: Claim, new: list[Any], now: float, *, took: float, lend: bool) -> str | None:
    """
    Take the client in `new` in, lent to its maker or idle; returns what is wrong with it, if anything. What it leaves in
    the list is no client of the pool, and for its maker to close.
    """
    if state.creating.pop(-1 if claim.slot is None else claim.slot, None) is None:
        return "stopped"
    claim.slot = None
    problem, client = None, new[0]
    if client is None:
        problem = "the factory returned None"
    elif any(entry.client is client for entry in state.entries.values()):  # `is`: clients may have an odd ==
        problem = "the factory returned a client that the pool has already; it must make a new one each time"
    if problem is not None:
        new.clear()
        state.create_failures += 1
        state.serve_locked(now)
        state.changed_locked()
        return problem
    state.created += 1
    if state.backoff.worked():
        state.tell_locked("up")
    state.tell_locked("created")
    if state.waiting:
        # The first in the queue might make the next one now. It waits as long as that took for a client that
        # comes back, and is never worse off than twice the best choice (the ski rental problem): a short burst
        # does not open a connection for every thread.
        state.patience = now + min(took, _PATIENCE)
    life = state.config.max_lifetime
    entry = Entry(next(state.keys), client, now, math.inf if life is None else now + life * _shortened())
    entry.trusted = min(entry.expires, now + state.trust)
    if claim.generation != state.generation:
        entry.doom = "generation"
    state.entries[entry.key] = entry  # first: what is lent, or in the index, is always one of them
    del new[0]  # no call since the line above: Ctrl-C finds it in one of the two
    if lend:
        state.lend_locked(entry, claim)
    else:
        state.shelve_locked(entry)
    state.serve_locked(now)  # a permit is free again
    state.changed_locked()
    return None


def failed_locked(state: PoolState, claim: Claim, now: float, error: BaseException, bare: BaseException | None) -> None:
    """The factory failed: it rests for a while, and who can get nothing else is told at once."""
    if claim.slot is not None and claim.slot in state.creating:
        state.create_failures += 1
        if state.backoff.failed(now, type(error).__name__, bare):
            state.tell_locked("down", state.backoff.reason)
    state.blame = error
    try:
        state.drop_slot_locked(claim, now)
    finally:
        state.blame = None


def _shortened() -> float:
    return 1.0 - _JITTER * random.random()
