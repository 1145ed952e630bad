"""How a pool starts, stops and begins a new generation: steps under its lock."""

from __future__ import annotations

import weakref

from hireliab.exchange._pool_lease import Claim, Owner, Status
from hireliab.exchange._pool_picture import picture
from hireliab.exchange._pool_settings import PoolStats
from hireliab.exchange._pool_state import PoolState


def begin_fill_locked(state: PoolState, claim: Claim) -> str:
    """What initialize() has to do: "go", "join" another thread's, or nothing because of "done" or "stopping"."""
    if status_locked(state) is Status.STOPPING:
        return "stopping"
    filler = None if state.filling is None else state.filling()
    if state.filled or (filler is not None and filler._owner is claim._owner):
        return "done"  # a factory that initialises its own pool gets here too
    if filler is not None:
        return "join"
    if state.status is Status.STOPPED:
        state.status = Status.NEW
    state.fill_error = None
    # Weakly, so that a frame killed before it could take this back does not fill for ever.
    state.filling = weakref.ref(claim, state.wake_watchers)
    return "go"


def filled_locked(state: PoolState) -> bool:
    """Whether no initialize() is running."""
    return state.filling is None or state.filling() is None


def end_fill_locked(state: PoolState, error: BaseException | None, *, interrupted: bool) -> str:
    """Open the pool, unless it has no client and an error says why; returns "failed", "stopped" or "started"."""
    state.filling = None
    state.changed_locked()
    if state.status in (Status.STOPPING, Status.STOPPED):
        return "stopped"
    if interrupted:
        return "failed"
    if error is not None and not state.entries:
        state.fill_error = error
        return "failed"
    state.status = Status.RUNNING
    state.filled = True
    return "started"


def looked_after_locked(state: PoolState) -> None:
    """Upkeep has begun."""
    state.upkeep = state.status is Status.RUNNING


def status_locked(state: PoolState) -> Status:
    """The status, after a look whether the thread that was stopping the pool is still at it."""
    if state.status is Status.STOPPING and (state.stopper is None or state.stopper() is None):
        _give_up_locked(state)
        state.status = Status.STOPPED
        state.changed_locked()
    return state.status


def begin_stop_locked(state: PoolState, stopper: Claim) -> tuple[int, int, int] | None:
    """
    Refuse all waiters, give up idle clients; (closed, in use, creating), or None when somebody stops already.

    A stop that Ctrl-C killed in its own clearing up is taken over: a traceback may keep its claim alive for ever.
    """
    status = status_locked(state)
    first = None if state.stopper is None else state.stopper()
    taken_over = isinstance(first, Claim) and first.touched and first._owner is stopper._owner
    if status is Status.STOPPED or (status is Status.STOPPING and not taken_over):
        state.reap_locked()  # leases that a stop left, and that were dropped since
        return None
    creating = len(state.creating)
    # All at once, so that Ctrl-C finds a pool that runs, or one whose stop is to be finished.
    state.stopper, state.status = weakref.ref(stopper, state.wake_watchers), Status.STOPPING
    closed = _give_up_locked(state)
    return closed, len(state.entries), creating


def end_stop_locked(state: PoolState, stopper: Claim) -> None:
    """No more waiting for clients in use; they are closed when they come back."""
    if state.status is Status.STOPPING and state.stopper is not None and state.stopper() is stopper:
        _give_up_locked(state)  # again, in case that a Ctrl-C cut the beginning short
        state.status, state.stopper = Status.STOPPED, None
    state.changed_locked()


def stopped_locked(state: PoolState, me: Owner) -> bool:
    """
    Whether the pool has stopped, or there is only this thread's own stop to wait for. That one is below, if a signal
    handler or a client's close() asks, and goes on when this one has returned.
    """
    first = None if state.stopper is None else state.stopper()
    mine = first is not None and first._owner is me
    return status_locked(state) is Status.STOPPED or (mine and in_use_locked(state, but_by=me) == 0)


def picture_locked(state: PoolState) -> PoolStats:
    """The pool's numbers at this moment."""
    status_locked(state)
    return picture(state)


def in_use_locked(state: PoolState, *, but_by: Owner | None = None) -> int:
    """Clients in use, without those of one thread."""
    count = 0
    for entry in state.entries.values():
        lease = None if entry.holder is None else entry.holder()
        count += lease is not None and lease._owner is not but_by
    return count


def invalidate_locked(state: PoolState, now: float) -> int:
    """A new generation: idle clients are closed, those in use and being made are when they come back; how many."""
    state.generation += 1
    state.reap_locked()
    closed = _close_idle_locked(state, "generation")
    for entry in state.entries.values():
        entry.doom = entry.doom or "generation"
    state.serve_locked(now)
    state.changed_locked()
    return closed + len(state.entries)


def _give_up_locked(state: PoolState) -> int:
    """What a stop does to waiters and clients; how many it closed. Done again, it does what Ctrl-C kept from it."""
    state.filled = state.upkeep = False
    state.reap_locked()
    state.refuse_all_locked()
    state.creating.clear()  # a client under construction finds no place on arrival and is closed by its maker
    closed = _close_idle_locked(state, "stop")
    for entry in state.entries.values():
        entry.doom = "stop"
    state.changed_locked()
    return closed


def _close_idle_locked(state: PoolState, reason: str) -> int:
    idle = [entry for entry in state.entries.values() if entry.holder is None]
    for entry in idle:
        state.remove_locked(entry, reason)
    state.idle.clear()
    return len(idle)
