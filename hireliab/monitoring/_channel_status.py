"""What is said of one alert channel: its status, and the messages about alerts that it did not get."""

from __future__ import annotations

import enum
import random
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from hireliab.monitoring._freeze import clean
from hireliab.monitoring.alert import Alert, AlertLevel, AlertSource, make_alert


class Put(enum.Enum):
    """What became of an alert that was offered to a channel."""

    QUEUED = "queued"
    DEDUPLICATED = "deduplicated"
    BELOW_THRESHOLD = "below_threshold"
    DROPPED = "dropped"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class ChannelStatus:
    """
    One channel at one instant.

    Always: accepted = queued + held + in_flight + spooled + delivered + failed + dropped + deduplicated.

    Attributes:
        name: The channel's name.
        state: "not_started", "ready", "degraded" (its last send failed), "paused" (the service limits the rate),
            "misconfigured" (a person must mend it), "down" (nothing was sent for 30 s), "stuck" (sends do not come
            back) or "stopped".
        threshold: The lowest level that it wants.
        accepted: Alerts of a level that it wants, offered before it was stopped, and messages of its own: summaries,
            repeats and resolutions.
        queued: Waiting, also for another attempt.
        held: Waiting for `group_wait`.
        in_flight: 1 while a message is being sent.
        spooled: Had no room in the queue, or were left over by `stop()`; they are in the spool.
        delivered: Sent without an error.
        failed: Refused for good by the service.
        dropped: Evicted by a full queue, too old, or left over by `stop()`, and not in the spool.
        deduplicated: Counted in the message of their group.
        below_threshold: Alerts that it did not want; not accepted.
        refused: Alerts offered after it was stopped; not accepted.
        groups: Troubles that it keeps in mind.
        late: Delivered more than 30 s after they were queued.
        retries: Attempts that failed and were not the last.
        abandoned: Sends that did not come back within 30 s and run on, each on a thread of its own.
        busy_for: Seconds that the present send has taken, or 0.
        oldest: Seconds that the oldest message has waited, or 0.
        last_error: The last failure, redacted, or None.
    """

    name: str
    state: str
    threshold: AlertLevel
    accepted: int
    queued: int
    held: int
    in_flight: int
    spooled: int
    delivered: int
    failed: int
    dropped: int
    deduplicated: int
    below_threshold: int
    refused: int
    groups: int
    late: int
    retries: int
    abandoned: int
    busy_for: float
    oldest: float
    last_error: str | None


_ids = random.Random()  # one of our own: a bot that seeds the module's must not repeat its ids


def new_id() -> str:
    """An id short enough to be read out; no system call, which might cost the caller's thread its turn."""
    return f"{_ids.getrandbits(48):012x}"


def reseed_ids() -> None:
    """In a forked child: draw others than the parent."""
    _ids.seed()


def drop_report(channel: str, drops: Mapping[AlertLevel, int], *, time: float) -> Alert:
    """The alert that tells a channel what it did not get."""
    total = sum(drops.values())
    levels = ", ".join(f"{count} {level.name}" for level, count in sorted(drops.items(), reverse=True))
    return make_alert(
        id=new_id(),
        time=time,
        source=AlertSource.SYSTEM,
        level=AlertLevel.WARNING,
        title=f"{total} alerts dropped",
        message=f"channel {channel!r} was too slow: its queue was full or they became too old; not sent: {levels}",
        context={"channel": channel, "dropped": total},
    )


def drop_announcement(channel: str, *, time: float) -> Alert:
    """The alert that tells the other channels that one of them drops alerts."""
    return make_alert(
        id=new_id(),
        time=time,
        source=AlertSource.SYSTEM,
        level=AlertLevel.ERROR,
        title=f"alert channel {channel!r} drops alerts",
        message="its queue is full: it is too slow or stuck",
        context={"channel": channel},
    )


def describe(error: BaseException) -> tuple[str, str]:
    """One line about an error, and its traceback; redacted, bounded, and safe from an error that cannot be printed."""
    try:
        summary = clean(f"{type(error).__name__}: {error}", 500, one_line=True)
    except BaseException:  # somebody else's code again, on one of our threads
        summary = type(error).__name__
    try:
        return summary, clean("".join(traceback.format_exception(error)), 4000)
    except BaseException:
        return summary, ""
