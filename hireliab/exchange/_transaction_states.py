"""
The states of a transaction and the one table of allowed transitions. Pure data.

A durable SUBMITTING record means "may have been sent"; its absence means "was not sent". Everything else follows
from that and from the table. The original's phases and statuses are derived from the finer state.

Source: a saga with one pivot step (Garcia-Molina and Salem, 1987) behind a write-ahead intent; transactions.md 3.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """The persisted state."""

    NEW = "NEW"  # before the first record; never persisted
    PREPARED = "PREPARED"
    SUBMITTING = "SUBMITTING"
    ACKED = "ACKED"
    WORKING = "WORKING"
    RESOLVING = "RESOLVING"
    UNKNOWN = "UNKNOWN"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"

    @property
    def is_terminal(self) -> bool:
        """Decided; only a FAILED with proof ABSENT may ever be left again (T25)."""
        return self in (State.COMPLETED, State.FAILED, State.ROLLED_BACK)


class Phase(enum.Enum):
    """The original's phases."""

    PREPARE = "prepare"
    COMMIT = "commit"
    VERIFY = "verify"
    RECONCILE = "reconcile"
    COMPLETE = "complete"
    ROLLBACK = "rollback"
    FAILED = "failed"


class Status(enum.Enum):
    """The original's statuses."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    UNKNOWN = "unknown"


PHASES: dict[State, tuple[Phase, Status]] = {
    State.NEW: (Phase.PREPARE, Status.PENDING),
    State.PREPARED: (Phase.PREPARE, Status.PENDING),
    State.SUBMITTING: (Phase.COMMIT, Status.IN_PROGRESS),
    State.ACKED: (Phase.VERIFY, Status.IN_PROGRESS),
    State.WORKING: (Phase.VERIFY, Status.IN_PROGRESS),
    State.RESOLVING: (Phase.RECONCILE, Status.IN_PROGRESS),
    State.UNKNOWN: (Phase.RECONCILE, Status.UNKNOWN),
    State.CANCELLING: (Phase.ROLLBACK, Status.IN_PROGRESS),
    State.COMPLETED: (Phase.COMPLETE, Status.COMPLETED),
    State.FAILED: (Phase.FAILED, Status.FAILED),
    State.ROLLED_BACK: (Phase.ROLLBACK, Status.ROLLED_BACK),
}


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table: `barrier` says that the record is on disk before anybody acts on it."""

    id: str
    sources: tuple[State, ...]
    targets: tuple[State, ...]
    barrier: bool
    event: str
    guard: str


_S = State
_READING = (_S.ACKED, _S.WORKING, _S.RESOLVING, _S.UNKNOWN)

TRANSITIONS: tuple[Transition, ...] = (
    Transition("T1", (_S.NEW,), (_S.FAILED,), False, "denied", "refused before sending"),
    Transition("T2", (_S.NEW,), (_S.PREPARED,), False, "", "two-step use only; losing it means never sent"),
    Transition("T3", (_S.NEW, _S.PREPARED), (_S.SUBMITTING,), True, "", "everything that can wait or refuse passed"),
    Transition("T4", (_S.NEW, _S.PREPARED), (_S.FAILED,), False, "failed", "not sent: aborted, or recovery found it"),
    Transition("T5", (_S.SUBMITTING,), (_S.FAILED,), True, "failed", "proven not sent, no further send allowed"),
    Transition("T6", (_S.SUBMITTING,), (_S.SUBMITTING,), True, "", "proven not sent or throttled, retries left"),
    Transition("T7", (_S.SUBMITTING,), (_S.FAILED,), True, "rejected", "the venue's definite no"),
    Transition("T8", (_S.SUBMITTING,), (_S.ACKED,), False, "", "answer with an id and the order's own fields"),
    Transition("T9", (_S.SUBMITTING,), (_S.RESOLVING,), False, "resolving", "anything ambiguous"),
    Transition(
        "T10",
        (_S.RESOLVING, _S.ACKED),
        (_S.ACKED, _S.WORKING, _S.CANCELLING),
        False,
        "",
        "the order was found (ACKED: a read shows it live, and the commit rule waits; CANCELLING: the goal is to cancel)",
    ),
    Transition("T11", _READING, (_S.COMPLETED,), True, "completed", "a read shows that the goal is reached"),
    Transition("T11b", _READING, (_S.COMPLETED,), True, "partial", "the venue closed it, 0 < filled < amount"),
    Transition("T12", _READING, (_S.FAILED,), True, "rejected", "a read shows Rejected, nothing filled"),
    Transition("T12b", _READING, (_S.FAILED,), True, "closed_unfilled", "the venue closed it, nothing filled"),
    Transition("T13", (_S.ACKED, _S.WORKING), (_S.RESOLVING,), False, "resolving", "the look-up by id says absent"),
    Transition("T14", (_S.RESOLVING,), (_S.FAILED,), True, "absent", "absence proof"),
    Transition(
        "T15",
        (_S.RESOLVING, _S.ACKED, _S.WORKING, _S.CANCELLING),
        (_S.UNKNOWN,),
        True,
        "unknown",
        "foreground time spent without a decisive read; the goal is kept",
    ),
    Transition("T16", (_S.UNKNOWN,), (_S.ACKED, _S.WORKING, _S.CANCELLING), False, "", "found in the background"),
    Transition("T17", (_S.UNKNOWN,), (_S.FAILED,), True, "absent", "absence proof"),
    Transition(
        "T18",
        (_S.NEW, _S.WORKING, _S.ACKED, _S.CANCELLING),
        (_S.CANCELLING,),
        True,
        "cancelling",
        "cancel intent, before the cancel is sent (NEW: a child row; else the commit rule gave up)",
    ),
    Transition("T19", (_S.CANCELLING,), (_S.ROLLED_BACK,), True, "cancelled", "a read shows closed, nothing filled"),
    Transition("T20", (_S.CANCELLING,), (_S.COMPLETED,), True, "late_fill", "fully filled before the cancel"),
    Transition("T21", (_S.CANCELLING,), (_S.COMPLETED,), True, "partial", "closed with 0 < filled < amount"),
    Transition("T25", (_S.FAILED,), (_S.RESOLVING,), True, "resurrected", "proof ABSENT, and the order appeared"),
    Transition(
        "T26",
        (_S.UNKNOWN,),
        (_S.COMPLETED, _S.FAILED, _S.ROLLED_BACK),
        True,
        "resolved_by_operator",
        "the operator's word, with evidence and name",
    ),
    Transition(
        "T27",
        tuple(state for state in State if not state.is_terminal and state is not State.NEW),
        tuple(state for state in State if not state.is_terminal and state is not State.NEW),
        True,
        "",
        "claimed by a recovering owner; the state stays",
    ),
    Transition(
        "T28", (_S.NEW,), (_S.WORKING, _S.COMPLETED), True, "orphan_adopted", "the operator adopts a foreign order"
    ),
)
BY_ID: dict[str, Transition] = {row.id: row for row in TRANSITIONS}


class Proof(enum.Enum):
    """Why a decided transaction is decided so."""

    NONE = ""
    LIVE = "LIVE"
    FILLED = "FILLED"
    PARTIAL = "PARTIAL"
    DENIED = "DENIED"
    NOT_SENT = "NOT_SENT"
    REJECTED = "REJECTED"
    CLOSED_UNFILLED = "CLOSED_UNFILLED"
    FENCED = "FENCED"
    ABSENT = "ABSENT"
    CANCELLED = "CANCELLED"
    OPERATOR = "OPERATOR"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    """Of a call without a look-up: it returned, and nobody read it back."""


class Verdict(enum.Enum):
    """What is told to the caller."""

    COMPLETED = "COMPLETED"
    PARTIAL = "PARTIAL"
    REJECTED = "REJECTED"
    NOT_SENT = "NOT_SENT"
    CLOSED_UNFILLED = "CLOSED_UNFILLED"
    FENCED = "FENCED"
    ABSENT = "ABSENT"
    CANCELLED = "CANCELLED"
    DENIED = "DENIED"
    UNKNOWN = "UNKNOWN"


FAILED_VERDICTS = {
    Proof.DENIED: Verdict.DENIED,
    Proof.NOT_SENT: Verdict.NOT_SENT,
    Proof.REJECTED: Verdict.REJECTED,
    Proof.CLOSED_UNFILLED: Verdict.CLOSED_UNFILLED,
    Proof.FENCED: Verdict.FENCED,
    Proof.ABSENT: Verdict.ABSENT,
    Proof.OPERATOR: Verdict.CLOSED_UNFILLED,
}
