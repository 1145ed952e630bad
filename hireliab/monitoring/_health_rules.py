"""
What a part's figures mean for orders: healthy, degraded or down, with the reason in words. Pure.

Down: no order can be sent, or what became of one is not looked for. Degraded: something works worse, or a person should
look. Whatever only tells others, a message bus or an alert channel, is never worse than degraded.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hireliab.errors import ClosedError, HireliabError, JournalError
from hireliab.monitoring._parts import NotRunningError

UNKNOWN_FOR = 60.0
"""Seconds for which an outcome may be unknown before that is a reason; a listing finds most of them sooner."""


class Health(enum.Enum):
    """How well something is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"

    @property
    def rank(self) -> int:
        """The worse, the higher."""
        return (Health.HEALTHY, Health.DEGRADED, Health.DOWN).index(self)


Found = tuple[Health, str]
DEGRADED, DOWN = Health.DEGRADED, Health.DOWN


def _breaker(stats: Any) -> Iterator[Found]:
    state = str(stats.state)
    because = f" after {stats.last_error}" if stats.last_error else ""
    if state == "open":
        yield DEGRADED, f"open{because}: its calls are refused until a probe succeeds"
    elif state == "half-open":
        yield DEGRADED, f"half-open{because}: only probes pass"
    elif state == "isolated":
        yield DEGRADED, f"isolated{because}: its calls are refused until somebody resets it"


def _limiter(stats: Any) -> Iterator[Found]:
    if stats.blocked_for > 0:
        yield DEGRADED, "the venue asked for a pause: calls wait or are refused until it ends"


def _retry_budget(stats: Any) -> Iterator[Found]:
    if stats.tokens < 1:
        yield DEGRADED, "used up: what fails is not tried again for now"


def _pool(stats: Any) -> Iterator[Found]:
    if stats.status in ("stopping", "stopped"):
        yield DOWN, f"{stats.status}: no call goes out through it"
    elif stats.down and not stats.size:
        yield DOWN, "no client can be made and none is left: no order, cancel or look-up goes out through it"
    elif stats.down:
        yield DEGRADED, "no new client can be made; those that are left are lent"
    if stats.waiting and stats.size >= stats.max_connections and not stats.idle:
        yield DEGRADED, f"all {stats.max_connections} clients are in use and callers wait"


def _journal(stats: Any) -> Iterator[Found]:
    if stats.poisoned:
        yield DOWN, "a write failed: nothing more is sent until a restart"
    elif stats.full:
        yield DOWN, "the disk is full: no new order is sent until there is room"


def _outbox(stats: Any) -> Iterator[Found]:
    if stats.late:
        yield DEGRADED, f"events are late{_last(stats)}; trading goes on"


def _pipeline(stats: Any) -> Iterator[Found]:
    yield from _journal(stats.journal)
    if not stats.resolver_alive:
        yield DOWN, "the resolver's thread has ended: unknown outcomes are not looked for; restart"
    if stats.blind:
        yield DEGRADED, "orders are undecided, and for a minute no read of the exchange has worked"
    if stats.halt is not None:
        what = "only orders that sell are sent" if stats.halt == "REDUCING" else "no order is sent"
        yield DEGRADED, f"halted by an operator: {what} until 'hireliab unhalt'"
    if stats.needs_human:
        yield (
            DEGRADED,
            f"only a person can decide {_transactions(stats.needs_human)}: 'hireliab transactions list --unresolved'",
        )
    elif stats.oldest_unresolved is not None and stats.oldest_unresolved > UNKNOWN_FOR:
        yield DEGRADED, f"{_transactions(stats.unresolved)} undecided, the oldest for more than {UNKNOWN_FOR:g} s"
    if stats.orphans:
        yield (
            DEGRADED,
            f"{stats.orphans} orders at the venue with our prefix have no transaction: 'hireliab transactions adopt'",
        )
    if stats.outbox is not None:
        yield from _outbox(stats.outbox)


def _transactions(count: int) -> str:
    return "1 transaction" if count == 1 else f"{count} transactions"


def _bus(status: Any) -> Iterator[Found]:
    later = "events wait" if status.durable else "events are lost"
    if status.state in ("stopping", "stopped"):
        yield DEGRADED, f"{status.state}: {later}"
    elif not status.connected:
        yield DEGRADED, f"not connected{_last(status)}: events wait; trading goes on"
    elif status.blocked:
        yield DEGRADED, "the broker takes nothing for now: events wait; trading goes on"
    away = [one.pattern for one in status.subscriptions if not one.ready]
    if away and status.connected and status.state == "running":
        yield DEGRADED, f"{len(away)} of {len(status.subscriptions)} subscriptions are not fed, such as {away[0]}"


def _alerts(status: Any) -> Iterator[Found]:
    if status.state == "not_started":
        yield DEGRADED, "not started: alerts wait"
    elif status.state == "stopped":
        yield DEGRADED, "stopped: nobody is told of anything"
    if not status.channels:
        yield DEGRADED, "no channel is on: nobody is told of anything"
    if status.state == "running":
        for channel in status.channels.values():
            if channel.state not in ("ready", "not_started"):
                yield DEGRADED, f"channel {channel.name!r} is {channel.state}{_last(channel)}"
    if status.spool is not None and status.spool.state in ("full", "broken"):
        yield DEGRADED, f"the spool is {status.spool.state}{_last(status.spool)}: a crash loses unsent alerts"


def _last(status: Any) -> str:
    return f" ({status.last_error})" if status.last_error else ""


def _fine(_: Any) -> Iterator[Found]:
    """A part that refuses more than usual is at its work."""
    return iter(())


RULES: Mapping[str, Callable[[Any], Iterator[Found]]] = {
    "pipeline": _pipeline,
    "journal": _journal,
    "pool": _pool,
    "breaker": _breaker,
    "limiter": _limiter,
    "bulkhead": _fine,
    "retry_budget": _retry_budget,
    "outbox": _outbox,
    "inbox": _fine,
    "bus": _bus,
    "alerts": _alerts,
}
"""By kind of part."""
NEVER_DOWN = frozenset({"bus", "alerts", "outbox", "inbox"})
"""Orders do not depend on these."""


def of_error(error: BaseException) -> Found:
    """What it means that a part could not be asked."""
    if isinstance(error, NotRunningError):
        if error.state in ("new", "starting"):
            return DEGRADED, f"{error.state}: what the last run left undecided is not looked for yet"
        return DOWN, f"{error.state}: no order is sent"
    if isinstance(error, ClosedError | JournalError):
        return DOWN, f"cannot be asked: {error}"
    what = str(error) if isinstance(error, HireliabError) else f"{type(error).__name__}: {error}"
    return DEGRADED, f"cannot be asked: {what}"
