"""
Which alerts of one channel become messages, and when: dedup, grouping, repeat and resolve. Pure; times are given.

Alerts about the same trouble, that is of one source with the same dedup key or else the same title, are one group:

- The first is told at once when it is ERROR or more, else after `group_wait`, so that what ends by then is never told.
- Later ones are counted, and told in one summary per `group_interval`. A higher level than was told is told at once.
- What has a dedup key stands until it is resolved, and is told again every `repeat_interval`. What has none is an
  event: it is forgotten when nothing new came for a `group_interval`.
- A resolution is told only to a channel that was told of the trouble, at once, and once per `group_interval` when
  the trouble comes and goes.

Source: the rules of Prometheus' Alertmanager, shortened; alerts-and-bus.md R7.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hireliab.monitoring.alert import EVENT_KEY, Alert, AlertLevel

GROUP_WAIT = 2.0
GROUP_INTERVAL = 60.0
REPEAT_INTERVAL = 4 * 3600.0
FORGET_AFTER = 24 * 3600.0
"""Seconds without a new alert after which a trouble that nobody resolved is no longer repeated."""
CRASH_MEMORY = 600.0
"""Seconds for which an event that a former process told is only counted: a crash loop is one page, not twenty."""
MOST_GROUPS = 2000
_ALSO = 5
_HEAD = 160
_SEPARATOR = "\x1f"
_OVERFLOW = "many different alerts"


class Decision(enum.Enum):
    """What becomes of one alert."""

    SEND = "send"
    """A message is due now."""
    HOLD = "hold"
    """It is the first of its group and waits for `group_wait`."""
    COUNT = "count"
    """It is counted, and told with a message that is due anyway."""
    RAISE = "raise"
    """The group's message is not sent yet; it matters more now."""


@dataclass(eq=False)
class Group:
    """
    One trouble, as one channel knows it. Only `Groups` changes it.

    Attributes:
        source: Of its alerts.
        name: Their dedup key, or else their title.
        keyed: Whether it is a dedup key.
        latest: The last alert.
        since: When the first came, Unix seconds.
        count: How many came.
        level: The highest level that the message which is due, or was told last, has.
        firing: Whether the trouble stands.
        pending: Whether a message is on its way: queued, being sent, or to be tried again.
        told: Whether the channel was told last that it stands (True) or is over (False), or nothing yet (None).
    """

    source: str
    name: str
    keyed: bool
    latest: Alert
    since: float
    level: AlertLevel
    folded: bool = False
    count: int = 0
    firing: bool = True
    pending: bool = False
    told: bool | None = None
    restored: bool = False
    heads: deque[str] = field(default_factory=lambda: deque(maxlen=_ALSO))
    due: float | None = None
    last_at: float | None = None  # monotonic: when the last message was told or given up
    seen_at: float = 0.0  # monotonic: the last alert
    resolved_at: float | None = None  # monotonic: the last message that it is over
    told_count: int = 0
    told_level: AlertLevel = AlertLevel.DEBUG  # the highest that was told or given up
    over: Alert | None = None  # the words of the resolution
    message_id: str | None = None  # of the message on its way, the same at every attempt
    composed: tuple[bool, int, AlertLevel] = (True, 0, AlertLevel.DEBUG)  # what the message on its way says

    @property
    def fingerprint(self) -> str:
        """The same for the same trouble, in every process."""
        return f"{self.source}{_SEPARATOR}{self.name}"

    @property
    def untold(self) -> int:
        """Alerts that no message has told of."""
        return self.count - self.told_count

    @property
    def changed(self) -> bool:
        """Whether there is something to tell."""
        return self.untold > 0 or (self.told is not None and self.firing is not self.told)

    @property
    def fresh(self) -> bool:
        """Whether no message was ever tried."""
        return self.told is None and self.last_at is None


class Groups:
    """
    The groups of one channel. Not thread-safe; all times are monotonic seconds, except those of alerts.

    Args:
        make_id: Makes the id of a message that is no alert's own.
        limit: Most groups; a quarter of it is kept for ERROR and above. Beyond it, a source's alerts share one group.
    """

    def __init__(
        self,
        *,
        make_id: Callable[[], str],
        group_wait: float = GROUP_WAIT,
        group_interval: float = GROUP_INTERVAL,
        repeat_interval: float = REPEAT_INTERVAL,
        limit: int = MOST_GROUPS,
    ) -> None:
        self._make_id = make_id
        self._wait = group_wait
        self._interval = group_interval
        self._repeat = repeat_interval
        self._limit = limit
        self._groups: dict[tuple[str, str], Group] = {}
        self._by_name: dict[str, set[str]] = {}  # dedup key or title -> sources
        self._heap: list[tuple[float, int, Group]] = []
        self._ticks = itertools.count()

    def __len__(self) -> int:
        return len(self._groups)

    def knows(self, alert: Alert) -> bool:
        """Whether this trouble was told, or is about to be."""
        group = self._groups.get((str(alert.source), alert.dedup_key or alert.title))
        return group is not None and group.firing and (group.pending or bool(group.told))

    def would_count(self, key: tuple[str, str], level: AlertLevel, now: float) -> bool:
        """
        Whether an alert would only be counted, for a group that there is.

        It changes nothing, so it may be asked without a lock; then the answer may be old.

        Args:
            key: Source, and dedup key or title.
        """
        group = self._groups.get(key)
        if group is None:
            return False
        if group.pending:
            return level <= group.level
        if group.fresh:
            return True
        return level <= group.told_level and not self._has_ended(group, now)

    # -- alerts -------------------------------------------------------------------------------------------------

    def offer(self, alert: Alert, now: float, *, insist: bool = False) -> tuple[Decision, Group]:
        """
        Take an alert; after SEND the group is pending, and the caller owes it `delivered` or `given_up`.

        Args:
            alert: The alert.
            now: The time.
            insist: It must be told, whatever was told before; also, it may be older than the latest.
        """
        group = self._find(alert, now)
        new = group.count == 0
        was_level = group.level
        if group.untold == 0 and not group.pending:
            group.level = alert.level  # of the next message
        elif alert.level > group.level:
            group.level = alert.level
        if not new and alert.message != group.latest.message and group.untold:
            group.heads.append(" ".join(group.latest.message[:_HEAD].split()) or group.latest.title)
        if not insist or alert.time >= group.latest.time:
            group.latest = alert
        group.since = min(group.since, alert.time) if insist else group.since
        group.count += 1
        group.seen_at = now
        group.firing = True
        group.over = None
        if group.pending:
            return (Decision.RAISE if alert.level > was_level else Decision.COUNT), group
        if insist:
            return self._send(group), group
        if group.fresh:
            if group.level >= AlertLevel.ERROR or not self._wait:
                return self._send(group), group
            self._schedule(group, now)
            return (Decision.HOLD if new else Decision.COUNT), group
        if alert.level > group.told_level:
            return self._send(group), group
        self._schedule(group, now)
        return Decision.COUNT, group

    def resolve(self, name: str, now: float, *, over: Alert, source: str | None = None) -> list[tuple[Decision, Group]]:
        """
        The trouble of this dedup key (or title) is over.

        Args:
            name: The dedup key, or the title of alerts without one.
            over: Whose time and message the resolution gets.
            source: Only of this source; None: of any.

        Returns:
            For each group that this changes: SEND, COUNT (told with a message that is due anyway), or HOLD for one that
            was waiting and is dropped, never told.
        """
        changes = []
        for owner in sorted(self._by_name.get(name, ())):
            group = self._groups[owner, name]
            if not group.firing or (source is not None and owner != source):
                continue
            group.firing = False
            group.over = over
            if group.pending:
                changes.append((Decision.COUNT, group))
            elif group.told is None:
                if group.fresh:
                    changes.append((Decision.HOLD, group))
                self._forget(group)
            elif group.told and (group.resolved_at is None or now >= group.resolved_at + self._interval):
                changes.append((self._send(group), group))
            else:
                self._schedule(group, now)
                changes.append((Decision.COUNT, group))
        return changes

    # -- messages -----------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When `take_due` has something to do."""
        while self._heap and self._is_stale(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> list[Group]:
        """The groups that have a message due; they are pending from now on."""
        due = []
        while (at := self.next_due()) is not None and at <= now:
            group = heapq.heappop(self._heap)[2]
            group.due = None
            if self._has_ended(group, now):
                self._forget(group)
            else:
                self._send(group)
                due.append(group)
        return due

    def take_all(self) -> list[Group]:
        """The groups that have anything to tell, due or not: last words."""
        waiting = [group for group in self._groups.values() if not group.pending and group.changed]
        for group in waiting:
            self._send(group)
        return waiting

    def compose(self, group: Group) -> Alert:
        """What a pending group's message says now; the same id at every attempt."""
        if group.message_id is None:
            group.message_id = group.latest.id if group.firing and group.untold else self._make_id()
        group.composed = (group.firing, group.count, group.level)
        latest = group.latest
        changes: dict[str, object] = {
            "id": group.message_id,
            "level": group.level,
            "count": group.count,
            "since": group.since if group.count > 1 or not group.firing else None,
            "also": tuple(group.heads),
        }
        if group.folded:
            changes["title"] = _OVERFLOW
            changes["message"] = f"{latest.title}\n{latest.message}"
        if group.firing and not group.untold:
            changes["notes"] = (*latest.notes, "still not resolved")
        if not group.firing:
            over = latest if group.over is None else group.over
            changes |= {"resolved": True, "time": over.time, "also": (), "message": over.message or latest.message}
        return replace(latest, **changes)  # type: ignore[arg-type]

    def delivered(self, group: Group, now: float) -> None:
        """The message that `compose` made last was told."""
        firing, count, level = group.composed
        group.told = firing
        group.told_count = count
        group.told_level = max(group.told_level, level)
        group.restored = False
        if not firing:
            group.resolved_at = now
        if group.untold == 0:
            group.heads.clear()
        self._end(group, now)
        if group.firing and group.untold and group.level > group.told_level:  # it rose while the message was being sent
            self._look(group, now)

    def given_up(self, group: Group, now: float) -> None:
        """The message will not be told; what comes next is counted until the next summary, lest a storm goes on."""
        group.told_count = group.count
        group.told_level = max(group.told_level, group.level)
        group.heads.clear()
        if not group.firing:
            group.told = False
        self._end(group, now)

    # -- a former process's -------------------------------------------------------------------------------------

    def restore(
        self, fingerprint: str, *, level: AlertLevel, keyed: bool, count: int, alert: Alert, age: float, now: float
    ) -> None:
        """
        Take a group that a former process has told of.

        Args:
            alert: Stands for its alerts.
            age: Seconds since it was told.
        """
        source, _, name = fingerprint.partition(_SEPARATOR)
        if (source, name) in self._groups or len(self._groups) >= self._limit:
            return
        if age >= (self._repeat if keyed else CRASH_MEMORY):
            return
        group = Group(source=source, name=name, keyed=keyed, latest=alert, since=alert.time, level=level)
        group.count = group.told_count = max(1, count)
        group.told_level = level
        group.told = group.restored = True
        group.last_at = now - age
        group.seen_at = now
        self._add(group)
        self._schedule(group, now)

    # -- helpers ------------------------------------------------------------------------------------------------

    def _find(self, alert: Alert, now: float) -> Group:
        source = str(alert.source)
        name = alert.dedup_key or alert.title
        folded = False
        group = self._groups.get((source, name))
        if group is not None and self._has_ended(group, now):
            self._forget(group)
            group = None
        if group is None and len(self._groups) >= (
            self._limit if alert.level >= AlertLevel.ERROR else self._limit - self._limit // 4
        ):
            name, folded = _OVERFLOW, True
            group = self._groups.get((source, name))
            if group is None and len(self._groups) >= self._limit + self._limit // 20 + 1:
                source = "overflow"  # as many sources as alerts: one group for all of them
                group = self._groups.get((source, name))
        if group is None:
            group = Group(
                source=source,
                name=name,
                keyed=alert.dedup_key is not None and not folded and not alert.dedup_key.startswith(EVENT_KEY),
                latest=alert,
                since=alert.time,
                level=alert.level,
                folded=folded,
            )
            self._add(group)
        return group

    def _add(self, group: Group) -> None:
        self._groups[group.source, group.name] = group
        self._by_name.setdefault(group.name, set()).add(group.source)

    def _forget(self, group: Group) -> None:
        del self._groups[group.source, group.name]
        sources = self._by_name[group.name]
        sources.discard(group.source)
        if not sources:
            del self._by_name[group.name]
        group.due = None

    def _send(self, group: Group) -> Decision:
        group.pending = True
        group.due = None
        return Decision.SEND

    def _end(self, group: Group, now: float) -> None:
        group.pending = False
        group.message_id = None
        group.last_at = now
        self._schedule(group, now)

    def _schedule(self, group: Group, now: float) -> None:
        """Set when a group is looked at next."""
        if group.last_at is None:
            at = now + self._wait if group.due is None else group.due
        elif group.restored and group.changed:
            # Not at once, however long ago it was told: a process that dies sooner than that is in a crash loop.
            at = now + self._interval if group.due is None else min(group.due, now + self._interval)
        elif group.changed or not (group.firing and group.keyed and group.told):
            over = group.told and not group.firing
            again = group.resolved_at is not None and now < group.resolved_at + self._interval
            at = now if over and not again else group.last_at + (CRASH_MEMORY if group.restored else self._interval)
        else:
            at = group.last_at + self._repeat
        self._look(group, at)

    def _look(self, group: Group, at: float) -> None:
        if group.due != at:
            group.due = at
            heapq.heappush(self._heap, (at, next(self._ticks), group))

    def _has_ended(self, group: Group, now: float) -> bool:
        """Whether a group has nothing more to tell, now or ever."""
        if group.pending or group.last_at is None:
            return False
        if group.firing and group.keyed and group.told:
            return not group.changed and now >= group.seen_at + FORGET_AFTER
        quiet = CRASH_MEMORY if group.restored else self._interval
        return not group.changed and now >= group.last_at + quiet

    def _is_stale(self, at: float, _tick: int, group: Group) -> bool:
        return group.due != at
