"""
What one channel has to say next: groups, queue, rate, retries and counts together.

Not thread-safe, does no I/O and starts nothing: `ChannelWorker` calls it under its lock, and gives the time.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hireliab.monitoring._channel_queue import Notice, NoticeQueue, Sent, Ticket
from hireliab.monitoring._channel_rate import TokenBucket
from hireliab.monitoring._channel_retry import PROBE_EVERY, TIME_TO_LIVE, backoff, limit_pause
from hireliab.monitoring._channel_status import Put
from hireliab.monitoring._channel_work import Aftermath, Evicted, Offer, Refill, Report
from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.monitoring.alert_channels import Misconfigured, Ok, Permanent, Rate, RateLimited, Result, Retry, Unknown
from hireliab.monitoring.alert_groups import Decision, Group, Groups

REPORT_EVERY = 60.0
"""Seconds between two reports of dropped alerts. Source: Sentry's client reports, alerts-and-bus.md R10."""
FAILOVER_AFTER = 30.0
"""Seconds after which another channel is asked to tell an ERROR that this one could not. Source: R8."""
DOWN_AFTER = 30.0
"""Seconds without a success after which a failing channel is called down."""
REST_AFTER = 3
"""Failures in a row after which the channel rests, not only the message."""
REFILL = 200
"""Most messages that come back from the spool at once."""
MOST_REMEMBERED = 5000
"""Alerts and messages of which it is known that they were told."""
REFILL_AGAIN = 5.0
"""Seconds until the spool is asked again when it could not be read."""
PUSH_WITHIN = 5.0
LAST_PUSH_WITHIN = 0.1
"""Seconds after which an offer is queued without its push, which Ctrl-C has prevented; and the same at the end."""


class ChannelDesk:
    """
    Args:
        threshold: The lowest level that is taken.
        size: Most messages in the queue.
        rate: What the service takes.
        groups: The channel's groups.
        now: Monotonic seconds.
    """

    def __init__(self, *, threshold: AlertLevel, size: int, rate: Rate | None, groups: Groups, now: float) -> None:
        self.threshold = threshold
        self.groups = groups
        self.count: Counter[str] = Counter()
        self.queue = NoticeQueue(size)
        self.held: set[Group] = set()
        self.paused_until = now
        self.failing_since: float | None = None
        self.misconfigured = False
        self.last_error: str | None = None
        self.unreported: Counter[AlertLevel] = Counter()  # dropped since the last report
        self.report_at = now  # no report before
        self.late_since_down = 0
        self.in_flight: set[Notice] = set()
        self.expired: list[str] = []  # rows in the spool of messages that became too old
        self._announced_until = now
        self._bucket = TokenBucket(rate, now)
        self._notices: dict[Group, Notice] = {}
        self._told_ids: dict[str, None] = {}  # of alerts and messages, oldest first
        self._told_before: dict[tuple[str, str], tuple[float, AlertLevel]] = {}  # by trouble: in former processes
        self._rows: dict[Group, list[tuple[str, Ticket | None]]] = {}  # of alerts that came during their group's send
        self._offered: dict[Notice, float] = {}  # since when they wait for their push, oldest first
        self._refilling = 0  # asked for, and not yet readmitted
        self._refill_at = now  # not before
        self._spooled: dict[AlertLevel, deque[Evicted]] = {level: deque() for level in reversed(AlertLevel)}
        self._spooled_ids: set[str] = set()  # with those that are being read
        self._former_ids: set[str] = set()  # of those that a former process left
        self._failures = 0  # in a row
        self._told_to_rest = False  # by the service, and until paused_until
        self._said_all = False

    # -- alerts in ------------------------------------------------------------------------------------------------

    def offer(self, alert: Alert, now: float, *, force: bool = False) -> Offer:
        """Take an alert; with `force`, whatever its level."""
        if alert.level < self.threshold and not force:
            self.count["below_threshold"] += 1
            return Offer(Put.BELOW_THRESHOLD)
        self.count["accepted"] += 1
        decision, group = self.groups.offer(alert, now)
        if decision is Decision.SEND:
            self._unhold(group)
            return self._offer(group, alert, now)
        if group.pending and self._is_lost(group):
            return self._offer_anew(group, alert, now)
        if decision is Decision.HOLD:
            self.held.add(group)
            return Offer(Put.QUEUED)
        self.count["deduplicated"] += 1
        if decision is Decision.RAISE:
            return Offer(Put.QUEUED, group)
        return Offer(Put.DEDUPLICATED)

    def push(self, offer: Offer, alert_id: str, ticket: Ticket | None, now: float) -> tuple[Put, bool]:
        """
        Queue what an offer made, with its row in the spool.

        Returns:
            What became of it, and whether the other channels should be told that this one drops alerts.
        """
        group = offer.group
        assert group is not None
        if offer.notice is None:
            self._attach(group, [] if ticket is None else [(alert_id, ticket)])
            return Put.QUEUED, False
        row: list[tuple[str, Ticket | None]] = [] if ticket is None else [(alert_id, ticket)]
        if offer.notice not in self._offered:
            self._push_late(offer.notice, group, alert_id, row)
            return Put.QUEUED, False
        offer.notice.rows += row
        victim = self._queue(offer.notice, now)
        self._offered.pop(offer.notice, None)
        if victim is None:
            return Put.QUEUED, False
        announce = now >= self._announced_until
        if announce:
            self._announced_until = now + REPORT_EVERY
        return (Put.DROPPED if victim is offer.notice and not victim.rows else Put.QUEUED), announce

    def resolve(self, name: str, now: float, *, over: Alert, source: str | None) -> bool:
        """The trouble is over; whether this channel knew of it."""
        changes = self.groups.resolve(name, now, over=over, source=source)
        for decision, group in changes:
            if decision is Decision.SEND:
                self.count["accepted"] += 1
                self._queue(self._make(group, group.latest, now), now)
            elif decision is Decision.HOLD:
                self._unhold(group)
        return bool(changes)

    def readmit(self, refill: Refill, alerts: Mapping[str, Alert] | None, now: float) -> None:
        """Queue again what `Refill` asked for; None: it cannot be read now."""
        self._refilling -= len(refill.evicted)
        if alerts is None:
            self._spooled[refill.level].extendleft(reversed(refill.evicted))
            self._refill_at = now + REFILL_AGAIN
            return
        for one in refill.evicted:
            self._spooled_ids.difference_update(one.rows)
            told = [row for row in one.rows if row in self._told_ids]
            self.expired += told  # it came by another way meanwhile: as another channel's stand-in
            found = [
                replace(alerts[row], replayed=row in self._former_ids)
                for row in one.rows
                if row in alerts and row not in self._told_ids
            ]
            if found:
                self._insist(found, now)
            elif told:
                self.count["deduplicated"] += 1
            else:
                self._dropped(refill.level)  # the spool had no room either

    def replay(self, alert: Alert, now: float, *, age: float) -> None:
        """Queue an alert of a former process."""
        self.count["accepted"] += 1
        self._former_ids.add(alert.id)
        self._insist([alert], now, age=age)

    def remember(self, told: Alert) -> None:
        """A former process has told this."""
        self._told_before[_trouble(told)] = told.time, told.level

    def knows(self, alert: Alert) -> bool:
        """Whether this was told, or is about to be; also when its group has ended since."""
        if self.groups.knows(alert) or alert.id in self._told_ids or alert.id in self._spooled_ids:
            return True
        time, level = self._told_before.get(_trouble(alert), (-math.inf, AlertLevel.DEBUG))
        return alert.replayed and time >= alert.time and level >= alert.level

    # -- messages out ---------------------------------------------------------------------------------------------

    def next(self, now: float, *, closing: bool) -> tuple[Notice | Report | Refill | None, float | None]:
        """
        What to do now, or the seconds until there may be something (None: until something changes).

        Args:
            now: Monotonic seconds.
            closing: These are the last words: nothing waits any more. When there is nothing to do, it is the end.
        """
        if closing and not self._said_all:
            self._said_all = True
            self._due(self.groups.take_all(), now)
        self._due(self.groups.take_due(now), now)
        push_at = self._push_overdue(now, closing=closing)
        self._drop_expired(now)
        rest = self.paused_until - now
        if closing:
            return self._last_work(now, rest=rest, push_at=push_at)
        first = self.queue.first(now)
        waits = [self.groups.next_due(), self.queue.next_at(), push_at]
        spooled = next((level for level, rows in self._spooled.items() if rows), None)
        if spooled is not None and (spooled > first.level if first is not None else not len(self.queue)):
            at = max(self.paused_until, self._refill_at)
            if at <= now:
                return self._refill(spooled), None
            waits.append(at)
        if self.unreported and (first is None or first.level is not AlertLevel.CRITICAL):  # which waits for no report
            # A service that asked for rest asked whatever it is that we have to say.
            at = max(self.report_at, self.paused_until, now + self._bucket.wait(AlertLevel.WARNING, now))
            if at <= now:
                return self._make_report(now), None
            waits.append(at)
        if first is not None:
            rest = max(rest, self._bucket.wait(first.level, now))
            if rest <= 0:
                taken = self.queue.take(now)
                assert taken is not None
                return self._start(taken, now), None
            waits.append(now + rest)
        known = [at for at in waits if at is not None]
        return None, max(0.0, min(known) - now) if known else None

    def _last_work(
        self, now: float, *, rest: float, push_at: float | None
    ) -> tuple[Notice | Report | None, float | None]:
        if rest > 0 and self._told_to_rest:
            return None, None
        notice = self._take(now, last=True)
        if notice is not None:
            return self._start(notice, now), None
        if self.unreported:
            return self._make_report(now), None
        return None, None if push_at is None else max(0.0, push_at - now)

    def _make_report(self, now: float) -> Report:
        self.report_at = now + REPORT_EVERY
        drops, self.unreported = self.unreported, Counter()
        self._bucket.take(now)
        return Report(drops)

    def _refill(self, level: AlertLevel) -> Refill:
        spooled = self._spooled[level]
        # Not more than there is room for; at least one, which then takes the place of one that matters less.
        room = max(1, self.queue.room)
        evicted = tuple(spooled.popleft() for _ in range(min(REFILL, room, len(spooled))))
        self._refilling += len(evicted)
        return Refill(level, evicted)

    def finish(self, notice: Notice, result: Result, now: float, *, closing: bool) -> Aftermath:
        """Take the result of an attempt."""
        self.in_flight.discard(notice)
        if isinstance(result, Ok):
            return self._told(notice, now)
        self.last_error = result.reason
        if isinstance(result, Permanent):
            self._works(now)  # it answered
            self.count["failed"] += 1
            return self._gone(notice, now, buried=result.reason)
        if self.failing_since is None:
            self.failing_since = now
        self._told_to_rest = isinstance(result, RateLimited | Misconfigured)
        if isinstance(result, RateLimited):
            self.paused_until = now + limit_pause(result.after)
        elif isinstance(result, Misconfigured):
            self.misconfigured = True
            self.paused_until = now + PROBE_EVERY
        else:
            self._failures += 1
            notice.attempts += 1
            asked = result.after if isinstance(result, Retry) else None
            notice.not_before = now + (limit_pause(asked) if asked is not None else backoff(notice.attempts))
            if self._failures >= REST_AFTER:
                self.paused_until = now + backoff(self._failures - REST_AFTER + 1)
        if closing:
            return self._leave(notice, now)
        self.count["retries"] += 1
        self.queue.put_back(notice)
        return Aftermath()

    def take_back(self, notice: Notice, reason: str, now: float) -> None:
        """A send does not come back: it is tried again by the thread that comes next."""
        self.finish(notice, Unknown(reason), now, closing=False)

    def late_success(self, notice: Notice, sent: Sent, now: float) -> Aftermath | None:
        """
        A send that was abandoned has succeeded after all; None when the message is being sent again, or was.

        Args:
            notice: What was sent.
            sent: Its `sent` at that time: it has not told of what came later.
            now: Monotonic seconds.
        """
        if not self.queue.remove(notice):
            return None
        told, state = sent
        group = notice.group
        if group is not None and state is not None:
            group.composed = state
            if later := notice.rows[told:]:
                self._rows.setdefault(group, []).extend(later)
                del notice.rows[told:]
        return self._told(notice, now)

    def leave_all(self, now: float) -> tuple[int, int]:
        """Nothing more will be sent; how many messages are in the spool for the next start, and how many are lost."""
        self._due(self.groups.take_all(), now)
        kept = lost = 0
        for notice in self.queue.clear():
            if notice.durable:
                kept += 1
            else:
                lost += 1
            self._leave(notice, now)
        return kept + self._count_spooled(), lost

    # -- what a watchdog sees -----------------------------------------------------------------------------------

    @property
    def paused_by_service(self) -> bool:
        """Whether the service asked for a rest."""
        return self._told_to_rest

    def is_down(self, now: float) -> bool:
        """Whether a person should be told that nothing goes through."""
        return self.misconfigured or (self.failing_since is not None and now - self.failing_since >= DOWN_AFTER)

    def overdue(self, now: float, *, blocked: bool) -> tuple[list[Alert], float | None]:
        """
        The messages of ERROR and above that another channel should tell, and when the next one will be.

        Args:
            now: Monotonic seconds.
            blocked: This channel is known to take nothing.
        """
        late, next_at = [], None
        for notice in self.queue:
            if notice.level < AlertLevel.ERROR or notice.failed_over:
                continue
            at = notice.queued_at + FAILOVER_AFTER
            if blocked or now >= at or self.paused_until > at:
                notice.failed_over = True
                late.append(self._compose(notice))
            else:
                next_at = at if next_at is None else min(at, next_at)
        return late, next_at

    def backlog(self, now: float) -> bool:
        """Whether messages wait that should have been told by now."""
        return self._count_spooled() > 0 or any(
            notice.attempts or now - notice.queued_at >= FAILOVER_AFTER for notice in self.queue
        )

    @property
    def spooled(self) -> int:
        """Messages that are in the spool and not in the queue."""
        return self._count_spooled() + self.count["kept"]

    @property
    def pushing(self) -> int:
        """Messages on their way into the queue: offered and not yet pushed, or being read from the spool."""
        return len(self._offered) + self._refilling

    # -- helpers ----------------------------------------------------------------------------------------------

    def _offer(self, group: Group, alert: Alert, now: float) -> Offer:
        notice = self._make(group, alert, now)
        self._offered[notice] = now
        return Offer(Put.QUEUED, group, notice)

    def _offer_anew(self, group: Group, alert: Alert, now: float) -> Offer:
        """A message that tells of a lost one, too."""
        lost = self._notices.get(group)
        offer = self._offer(group, alert, now)
        if lost is not None and offer.notice is not None:
            offer.notice.rows += lost.rows
        self.count["deduplicated"] += 1
        return offer

    def _push_overdue(self, now: float, *, closing: bool) -> float | None:
        """
        Queue what was offered and never pushed, since Ctrl-C or another error came in between: its group would count
        all later alerts into a message that is never sent. Returns when the next one is overdue.
        """
        within = LAST_PUSH_WITHIN if closing else PUSH_WITHIN
        while self._offered:
            notice, since = next(iter(self._offered.items()))
            if now < since + within:
                return since + within
            if not notice.waiting:
                self._queue(notice, now)
            self._offered.pop(notice, None)
        return None

    def _push_late(self, notice: Notice, group: Group, alert_id: str, row: list[tuple[str, Ticket | None]]) -> None:
        """Give a message its row when it was queued without waiting any longer: its process had been stopped in between."""
        if notice.waiting or notice in self.in_flight:
            notice.rows += row
        elif notice.alert.id in self._told_ids or alert_id in self._told_ids:
            self.expired += [id_ for id_, _ in row]
        elif row and self._notices.get(group) is None:  # it found no room, and had no row to come back from
            self.count["accepted"] += 1
            self._spooled[notice.level].append(Evicted((alert_id,), group, group.count, notice.level))
            self._spooled_ids.add(alert_id)
        else:
            self._attach(group, row)

    def _is_lost(self, group: Group) -> bool:
        """Whether a group's message is nowhere, because Ctrl-C came while it was moved."""
        notice = self._notices.get(group)
        return notice is None or not (notice.waiting or notice in self.in_flight or notice in self._offered)

    def _count_spooled(self) -> int:
        return sum(map(len, self._spooled.values()))

    def _make(self, group: Group, alert: Alert, now: float, *, age: float = 0.0) -> Notice:
        notice = Notice(
            group=group,
            alert=alert,
            level=group.level,
            queued_at=now,
            expires_at=now + TIME_TO_LIVE[group.level] - age,
            rows=self._rows.pop(group, []),
        )
        self._notices[group] = notice
        return notice

    def _unhold(self, group: Group) -> None:
        if group in self.held:
            self.held.discard(group)
            self.count["deduplicated"] += 1

    def _due(self, groups: Sequence[Group], now: float) -> None:
        for group in groups:
            if group in self.held:
                self.held.discard(group)
            else:
                self.count["accepted"] += 1
            self._queue(self._make(group, group.latest, now), now)

    def _insist(self, alerts: Sequence[Alert], now: float, *, age: float = 0.0) -> None:
        for position, alert in enumerate(alerts):
            decision, group = self.groups.offer(alert, now, insist=True)
            row: tuple[str, Ticket | None] = (alert.id, None)
            if decision is Decision.SEND:
                self._unhold(group)
                notice = self._make(group, alert, now, age=age)
                notice.rows.append(row)
                self._queue(notice, now)
                continue
            if position == 0:
                self.count["deduplicated"] += 1
            self._attach(group, [row])

    def _attach(self, group: Group, rows: list[tuple[str, Ticket | None]]) -> None:
        """Have the message of a pending group stand for these rows, too, and matter as much as the group does now."""
        notice = self._notices.get(group)
        if notice is None or notice in self.in_flight:
            # What is being sent does not tell of them; the next attempt, or the next message, does.
            self._rows.setdefault(group, []).extend(rows)
            if notice is not None:
                notice.level = group.level
            return
        notice.rows += rows
        self.queue.lift(notice, group.level)

    def _queue(self, notice: Notice, now: float) -> Notice | None:
        victim = self.queue.put(notice)
        if victim is not None:
            self._give_up(victim, now)
            if victim.rows:
                rows = tuple(row for row, _ in victim.rows)
                count = 0 if victim.group is None else victim.group.count
                self._spooled[victim.level].append(Evicted(rows, victim.group, count, victim.level))
                self._spooled_ids.update(rows)
            else:
                self._dropped(victim.level)
        return victim

    def _take(self, now: float, *, last: bool = False) -> Notice | None:
        while (notice := self.queue.take(now, last=last)) is not None and notice.expires_at <= now:
            self._drop_old(notice, now)
        return notice

    def _drop_expired(self, now: float) -> None:
        while (notice := self.queue.first(now)) is not None and notice.expires_at <= now:
            self.queue.remove(notice)
            self._drop_old(notice, now)

    def _drop_old(self, notice: Notice, now: float) -> None:
        self._give_up(notice, now)
        self._dropped(notice.level)
        self.expired += [row for row, _ in notice.rows]

    def _start(self, notice: Notice, now: float) -> Notice:
        self._bucket.take(now)
        if notice.group is not None:
            notice.rows += self._rows.pop(notice.group, [])
        notice.alert = self._compose(notice)
        notice.sent = (len(notice.rows), None if notice.group is None else notice.group.composed)
        self.in_flight.add(notice)
        return notice

    def _compose(self, notice: Notice) -> Alert:
        return notice.alert if notice.group is None else self.groups.compose(notice.group)

    def _told(self, notice: Notice, now: float) -> Aftermath:
        self._works(now)
        self.count["delivered"] += 1
        if now - notice.queued_at >= FAILOVER_AFTER:
            self.count["late"] += 1
            self.late_since_down += 1
        group = notice.group
        covered: list[str] = []
        if group is not None:
            self._notices.pop(group, None)
            covered = self._covered(group)
            self.groups.delivered(group, now)
        rows = [row for row, _ in notice.rows]
        self._former_ids.difference_update(rows)
        self._told_ids |= dict.fromkeys([notice.alert.id, *rows])
        while len(self._told_ids) > MOST_REMEMBERED:
            del self._told_ids[next(iter(self._told_ids))]
        return Aftermath(
            settle=(*rows, *covered),
            told=group if group is not None and group.told else None,
            over=group if group is not None and not group.told else None,
        )

    def _covered(self, group: Group) -> list[str]:
        """The rows of evicted messages that a message tells of, too: of the same group, and no more important."""
        _, count, level = group.composed
        rows: list[str] = []
        for spooled in self._spooled.values():
            done = [one for one in spooled if one.group is group and one.count <= count and one.level <= level]
            for one in done:
                spooled.remove(one)
                self._spooled_ids.difference_update(one.rows)
                self.count["deduplicated"] += 1
                rows += one.rows
        return rows

    def _gone(self, notice: Notice, now: float, *, buried: str | None = None) -> Aftermath:
        self._give_up(notice, now)
        return Aftermath(
            settle=tuple(row for row, _ in notice.rows),
            buried=buried,
            fail_over=buried is not None and notice.level >= AlertLevel.ERROR and not notice.failed_over,
        )

    def _give_up(self, notice: Notice, now: float) -> None:
        if notice.group is not None:
            notice.rows += self._rows.pop(notice.group, [])
            self._notices.pop(notice.group, None)
            self.groups.given_up(notice.group, now)

    def _leave(self, notice: Notice, now: float) -> Aftermath:
        if notice.durable:
            self.count["kept"] += 1
        else:
            self.count["dropped"] += 1
        self._give_up(notice, now)
        return Aftermath()

    def _works(self, now: float) -> None:
        self._failures = 0
        self._told_to_rest = False
        self.failing_since = None
        self.misconfigured = False
        self.paused_until = now

    def _dropped(self, level: AlertLevel) -> None:
        self.count["dropped"] += 1
        self.unreported[level] += 1


def _trouble(alert: Alert) -> tuple[str, str]:
    return str(alert.source), alert.dedup_key or alert.title
