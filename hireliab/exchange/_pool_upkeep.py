"""What the housekeeper does to a pool: steps under its lock."""

from __future__ import annotations

import collections
import random
import sys
import threading
from types import FrameType

from hireliab.exchange._pool_lease import Claim, Status
from hireliab.exchange._pool_phases import status_locked
from hireliab.exchange._pool_state import PoolState

_ASLEEP = 10.0
"""Seconds by which the wall clock must run ahead of the monotonic one between two rounds to mean a suspended machine."""

_JITTER = 0.1
"""Checks come earlier by up to this share of the interval, so that they do not come together."""


def tend_locked(state: PoolState, now: float, wall: float) -> list[tuple[str, float]] | None:
    """Reap, evict, serve; the leaks to report, or None when the pool is stopped."""
    state.reap_locked()
    if any(waiter() is None for waiter in state.waiting):
        state.waiting = collections.deque(waiter for waiter in state.waiting if waiter() is not None)
    for entry in [entry for entry in state.idle if now >= entry.expires]:
        state.remove_locked(entry, "lifetime")
    if _slept(state, now, wall):
        # The other side has hung up in the meantime. The wall clock may have been set instead; then this costs a few
        # new connections.
        for entry in list(state.idle):
            state.remove_locked(entry, "suspend")
    limit = state.config.idle_timeout
    if limit is not None:
        for entry in [entry for entry in state.idle if now - entry.idle_since >= limit]:  # the cold end first
            if len(state.entries) <= state.config.min_connections:
                break
            state.remove_locked(entry, "idle")
    state.idle = [entry for entry in state.idle if entry.key in state.entries]
    leaks = _leaks_locked(state, now)
    state.serve_locked(now)
    state.changed_locked()
    return None if status_locked(state) is Status.STOPPED else leaks


def missing_locked(state: PoolState) -> bool:
    """Whether the housekeeper should make clients now."""
    return state.status is Status.RUNNING and len(state.entries) < state.config.min_connections


def borrow_for_check_locked(state: PoolState, claim: Claim, now: float) -> bool:
    """Lend the housekeeper an idle client that is due for a check, the coldest first; False when none is."""
    interval = state.config.keepalive_interval
    if interval is None or state.status is not Status.RUNNING:
        return False
    for entry in state.idle:
        if entry.holder is None and now - entry.checked >= interval * (1.0 - _JITTER * random.random()):
            claim._entry = entry
            entry.holder = claim._ref
            state.idle = [other for other in state.idle if other is not entry]
            return True
    return False


def where_acquired() -> str:
    """The three innermost callers outside of the pool, and the thread: for the report of a leak."""
    frame: FrameType | None = sys._getframe(1)
    lines: list[str] = []
    while frame is not None and len(lines) < 3:
        code = frame.f_code
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("hireliab.exchange.connection_pool", "hireliab.exchange._pool_")):
            lines.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return f"thread {threading.current_thread().name!r}, {', called from '.join(lines)}"


def _slept(state: PoolState, now: float, wall: float) -> bool:
    before, state.offset = state.offset, wall - now
    return before is not None and state.offset - before > _ASLEEP


def _leaks_locked(state: PoolState, now: float) -> list[tuple[str, float]]:
    limit = state.config.leak_timeout
    if limit is None:
        return []
    leaks = []
    for entry in state.entries.values():
        lease = None if entry.holder is None else entry.holder()
        taken = None if lease is None else lease._taken
        if lease is not None and taken is not None and now - taken[0] >= limit:
            lease._taken = None  # once per lease
            state.leaks += 1
            state.tell_locked("leaked", taken[1])
            leaks.append((taken[1], now - taken[0]))
    return leaks
