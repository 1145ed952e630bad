"""What a channel's desk hands out: offers, work for its thread, and what follows an attempt."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hireliab.monitoring._channel_queue import Notice
from hireliab.monitoring._channel_status import Put
from hireliab.monitoring.alert import AlertLevel
from hireliab.monitoring.alert_groups import Group


@dataclass(frozen=True)
class Offer:
    """What became of an alert; `push` must follow when there is a group to push."""

    put: Put
    group: Group | None = None
    notice: Notice | None = None
    deferred: bool = False

    @property
    def needs_push(self) -> bool:
        """Whether it makes or changes a message, which then needs a row in the spool."""
        return self.deferred or self.group is not None


@dataclass(frozen=True)
class Report:
    """Work: tell the channel what it did not get."""

    drops: Counter[AlertLevel]


@dataclass(frozen=True, eq=False)
class Evicted:
    """
    A message that had no room in the queue, and is in the spool.

    Attributes:
        rows: Its rows.
        group: Its group; and how many alerts of it there were by then.
        count: See above.
        level: How much it matters.
    """

    rows: tuple[str, ...]
    group: Group | None
    count: int
    level: AlertLevel


@dataclass(frozen=True)
class Refill:
    """Work: read these, all of one level, out of the spool."""

    level: AlertLevel
    evicted: tuple[Evicted, ...]

    @property
    def ids(self) -> list[str]:
        """All rows."""
        return [row for one in self.evicted for row in one.rows]


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """What is to be done after an attempt, outside of the lock."""

    settle: tuple[str, ...] = ()
    told: Group | None = None
    over: Group | None = None
    buried: str | None = None
    fail_over: bool = False
