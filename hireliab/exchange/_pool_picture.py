"""What is seen in a pool's state, under its lock: the numbers, who holds clients, and whether all wait for each other."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hireliab.exchange._pool_lease import Claim, Lease
from hireliab.exchange._pool_settings import PoolStats

if TYPE_CHECKING:
    from hireliab.exchange._pool_state import PoolState


def picture(state: PoolState) -> PoolStats:
    """The pool's numbers at this moment."""
    in_use = sum(entry.holder is not None for entry in state.entries.values())
    return PoolStats(
        name=state.name,
        status=state.status.value,
        min_connections=state.config.min_connections,
        max_connections=state.config.max_connections,
        size=len(state.entries),
        idle=len(state.entries) - in_use,
        in_use=in_use,
        creating=len(state.creating),
        waiting=waiting(state),
        down=state.backoff.failures > 0,
        acquired=state.acquired,
        created=state.created,
        create_failures=state.create_failures,
        discarded=sum(state.discards.values()),
        discards=MappingProxyType(dict(state.discards)),
        timeouts=state.timeouts,
        refused_full=state.refused_full,
        refused_down=state.refused_down,
        leaks=state.leaks,
        close_errors=state.close_errors,
    )


def waiting(state: PoolState) -> int:
    """Callers that wait for a client."""
    claims = (waiter() for waiter in state.waiting)
    return sum(isinstance(claim, Claim) and not claim.settled() for claim in claims)


def holders(state: PoolState) -> list[Lease[Any]]:
    """Whoever has a client or is making one."""
    held = [entry.holder for entry in state.entries.values()]
    claims = [None if holder is None else holder() for holder in [*held, *state.creating.values()]]
    return [claim for claim in claims if claim is not None]


def stuck(state: PoolState) -> bool:
    """Whether all who could bring a client, or a permit to make one, wait here themselves."""
    if state.may_make_at_locked() < math.inf:
        return False
    for holder in [*(entry.holder for entry in state.entries.values()), *state.creating.values()]:
        claim = None if holder is None else holder()
        if claim is None or claim._owner.waits is not state:
            return False  # the usual case, found at the first client
    # The hint may be stale, left by a killed frame.
    waiters = {id(claim._owner) for claim in (waiter() for waiter in state.waiting) if claim is not None}
    return all(id(claim._owner) in waiters for claim in holders(state))
