"""
What the pipeline needs of a journal. Pure.

Rule: losing any record that was not a barrier may only cost extra look-ups, never a different decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hireliab.core._metrics import HistogramSnapshot
from hireliab.exchange.adapter import Account, Fill
from hireliab.exchange.transaction import Record
from hireliab.messaging.outbox import OutboxEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStats:
    """
    Attributes:
        commits: Each of them one fdatasync; checkpoints come on top.
        operations: What was written in them: records, fills, facts.
        barriers: Those of them that somebody waited for.
        batch_sizes: Operations in each commit.
        commit_seconds: From the beginning of a batch until it was on disk.
        file_bytes: Of the database on disk.
        wal_bytes: Of its write-ahead log.
        poisoned: Whether a write failed, so that nothing more is sent.
        full: Whether the disk is full, so that nothing new is sent.
    """

    commits: int
    operations: int
    barriers: int
    batch_sizes: HistogramSnapshot
    commit_seconds: HistogramSnapshot
    file_bytes: int
    wal_bytes: int
    poisoned: bool
    full: bool


FORGOTTEN = "forgotten"
"""The fact that holds the id up to which a journal's retention may have deleted finished transactions."""


class Journal(Protocol):
    """
    Durable records of transactions. Any thread may call any method.

    Guarantee: a `write` with ``barrier=True`` returns after the record, and everything written before it, survives
    power loss. After a crash the journal is a prefix of what was written.
    """

    @property
    def folder(self) -> Path | None:
        """Where HALT and the operator's files live, or None for a journal without a folder."""

    def open(self) -> None:
        """Open or make it and take its lock; raises JournalError and children."""

    def bind(self, account: Account) -> None:
        """Write whose orders these are, or raise JournalError when they are another account's."""

    @property
    def bound(self) -> Account | None:
        """Whose orders these are, as written, or None for a new journal."""

    @property
    def poisoned(self) -> bool:
        """Whether a write failed: nothing more is sent."""

    def write(self, record: Record, *, cause: str, barrier: bool, event: OutboxEvent | None = None) -> None:
        """
        Write the record's next version, and in the same commit what others are told about it.

        Raises:
            JournalPoisonedError: This or an earlier write failed.
            IdempotencyConflictError: Another transaction has the idempotency key.
            JournalError: The version is not newer than the stored one, the epoch is older (another pipeline claimed
                the transaction since), the venue's order id is another transaction's, or the disk is full and the
                record is the intent of a send (with barrier): nothing was written.
        """

    def write_many(
        self, records: Sequence[tuple[Record, str]], *, barrier: bool, events: Sequence[OutboxEvent] = ()
    ) -> None:
        """Write several records, each with its cause, and the events of them, in one commit; see `write`."""

    def write_fills(self, txn_id: str, fills: Sequence[Fill]) -> None:
        """Keep fills, each once; not a barrier."""

    def note_watermark(self, order_id: str) -> None:
        """Keep the newest own venue order id; not a barrier."""

    @property
    def watermark(self) -> str:
        """The newest own venue order id known, "0" for none."""

    def note_fact(self, name: str, value: str | None) -> None:
        """Keep something that was learnt, or forget it (None); not a barrier."""

    def facts(self, prefix: str) -> dict[str, str]:
        """Everything that was learnt under names with this beginning."""

    def fact(self, name: str) -> str | None:
        """What was learnt, or None."""

    def unfinished(self) -> list[Record]:
        """Not decided, or decided and still open or watched: what a restart goes on with. Oldest first."""

    def get(self, txn_id: str) -> Record | None:
        """One transaction, as last written."""

    def find_key(self, idempotency_key: str) -> Record | None:
        """The transaction that holds an idempotency key."""

    def find_order(self, order_id: str) -> Record | None:
        """The transaction that a venue order belongs to."""

    def select(
        self, *, states: Sequence[str] | None = None, since: float | None = None, limit: int = 1000
    ) -> list[Record]:
        """Transactions in these states that changed since then (Unix seconds), as last written, newest first."""

    def fills(self, txn_id: str) -> list[Fill]:
        """The fills of one transaction."""

    def log(self, txn_id: str) -> list[tuple[float, int, str, int, str]]:
        """Every version of one transaction: (Unix seconds, version, state, attempt, cause), oldest first."""

    def send_times(self, since: float) -> list[float]:
        """Unix seconds of every intended send from `since` on."""

    def attach_outbox(self, wake: Callable[[], None]) -> None:
        """
        Somebody publishes the events: keep finished transactions until theirs are published.

        Args:
            wake: Called when events were committed, by a thread that must not wait.
        """

    def pending_events(self, after: int, limit: int) -> list[OutboxEvent]:
        """At most `limit` committed events that are not published and have a greater seq than `after`, in its order."""

    def mark_published(self, seqs: Sequence[int]) -> None:
        """These events are published; not a barrier."""

    def event_backlog(self) -> tuple[int, float | None]:
        """How many committed events are not published, and when the oldest of them happened (Unix seconds)."""

    def drop_events(self, count: int) -> int:
        """Forget so many of the oldest unpublished events; how many there were to forget."""

    def stats(self) -> JournalStats:
        """What it did since it was opened."""

    def close(self) -> None:
        """Write what is pending, release the lock; idempotent."""
