"""What a pipeline counts, and one snapshot of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hireliab.core._metrics import SECONDS, Counter, Histogram, HistogramSnapshot
from hireliab.exchange.adapter import Absent, Found, Unavailable
from hireliab.exchange.journal import JournalStats
from hireliab.messaging.outbox import OutboxStats

PHASES = ("prepare", "intent", "send", "verify", "total")
"""Seconds of one transaction: until it may be sent, until its intent is on disk, from the send to its answer, from there
to the verdict or the hand-over, and from its thread's start to the caller's answer."""


class PipelineMetrics:
    """Counters that runner, resolver and ledger write."""

    def __init__(self) -> None:
        self.verdicts = Counter()
        self.events = Counter()
        self.reads = Counter()
        self.phases = {name: Histogram(SECONDS) for name in PHASES}

    def count_read(self, answer: object) -> None:
        """Count a read by what it answered."""
        if isinstance(answer, Found):
            word = "found"
        elif isinstance(answer, Absent):
            word = "absent"
        else:
            word = "unavailable" if isinstance(answer, Unavailable) else "listed"
        self.reads.add(word)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStats:
    """
    One snapshot.

    Attributes:
        name: The pipeline's.
        verdicts: How many transactions of this process were decided, by verdict.
        events: How many transitions were told, by event.
        reads: Look-ups and listings by answer: found, absent, listed, unavailable.
        running: Transactions in a thread of their own.
        unresolved: Transactions whose outcome is not known; `oldest_unresolved` is the greatest age in seconds, or None.
        needs_human: Those of them that only a person can decide.
        resting: Decided orders that rest in the book.
        watched: Orders that are presumed absent and still looked for.
        orphans: Venue orders with our prefix and no transaction.
        halt: "HALTED", "REDUCING" or None.
        resolver_alive: Whether the thread runs that finds out what became of unknown outcomes.
        blind: Whether something is undecided, and for a minute no read of the exchange has worked.
        phases: Seconds, by phase; see PHASES.
        journal: The journal's own figures: commits, batch sizes, commit seconds.
        outbox: What became of the events, or None without a message bus.
    """

    name: str
    verdicts: Mapping[str, int]
    events: Mapping[str, int]
    reads: Mapping[str, int]
    running: int
    unresolved: int
    oldest_unresolved: float | None
    needs_human: int
    resting: int
    watched: int
    orphans: int
    halt: str | None
    resolver_alive: bool
    blind: bool
    phases: Mapping[str, HistogramSnapshot]
    journal: JournalStats
    outbox: OutboxStats | None = None

    def as_dict(self) -> dict[str, Any]:
        """For status.json: histograms as count, mean, p50, p99 and most."""
        plain = {
            name: getattr(self, name)
            for name in (
                "verdicts", "events", "reads", "running", "unresolved", "oldest_unresolved", "needs_human", "resting",
                "watched", "orphans", "halt", "resolver_alive", "blind",
            )
        }  # fmt: skip
        plain["phases"] = {name: brief(histogram) for name, histogram in self.phases.items()}
        plain["journal"] = {"poisoned": self.journal.poisoned, "full": self.journal.full}
        if self.outbox is not None:
            plain["outbox"] = self.outbox.as_dict()
        return plain


def brief(histogram: HistogramSnapshot) -> dict[str, float]:
    """The figures of a histogram that a person reads."""
    return {
        "count": histogram.count,
        "mean": round(histogram.mean, 6),
        "p50": round(histogram.quantile(0.5), 6),
        "p99": round(histogram.quantile(0.99), 6),
        "most": round(histogram.most, 6),
    }
