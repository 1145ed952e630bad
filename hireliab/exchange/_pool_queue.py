"""The short way into a pool's queue: a step under the pool's lock."""

from __future__ import annotations

import threading

from hireliab.exchange._pool_lease import Claim, Status
from hireliab.exchange._pool_state import PoolState


def queue_locked(state: PoolState, claim: Claim) -> bool:
    """
    The short way into the queue: all clients are lent, to leases that live, and one of them is worth waiting for.
    False when there is more to be done than that. The sooner the caller sleeps, the sooner the one wakes to whom it
    has just passed its client.
    """
    if state.creating or not _is_full(state) or state.config.max_waiting is not None:
        return False
    claim._owner.waits = state  # first: what this thread holds itself is not worth waiting for
    busy = False
    for entry in list(state.entries.values()):
        lease = None if entry.holder is None else entry.holder()
        if lease is None:
            return False
        busy = busy or lease._owner.waits is not state
    if not busy:
        return False
    claim.gate = threading.Lock()
    claim.gate.acquire()
    state.waiting.append(claim._ref)
    if _is_full(state) or claim.settled():
        return True
    state.unqueue_locked(claim)  # a signal handler has given a client back, or stopped the pool, since we looked
    return claim.settled()


def _is_full(state: PoolState) -> bool:
    return (
        not state.idle
        and len(state.entries) >= state.config.max_connections
        and state.status is Status.RUNNING
        and state.upkeep
    )
