"""
What is told of each part: a table from the fields of its snapshot to metrics, by the conventions of Prometheus. Pure.

A new field of a snapshot belongs here, as a metric or under `Kind.left_out`; tests/contract/test_metrics.py sees to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

GAUGE = "gauge"
COUNTER = "counter"
HISTOGRAM = "histogram"


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """
    One field of a snapshot as one metric.

    Attributes:
        field: The field's name. A number; a Boolean, which is 0 or 1; None, which is left out; or a mapping with `by`.
        type: "gauge", "counter" or "histogram".
        name: The metric's name after the kind's prefix; a counter's without ``_total``.
        help: What it says.
        by: The label of a mapping's keys.
        fixed: A label and its value, where several fields are one metric.
        states: The words that the field can be: one sample for each, 1 for the present one; `by` is their label.
        size: Whether the length of the field counts.
    """

    field: str
    type: str
    name: str
    help: str
    by: str = ""
    fixed: tuple[str, str] | None = None
    states: tuple[str, ...] = ()
    size: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Within:
    """
    A field that holds snapshots of another kind: one, a sequence, a mapping, or None.

    Attributes:
        kind: Key of `TABLE`.
        labels: Their labels, from the snapshot.
    """

    field: str
    kind: str
    labels: Callable[[Any], Mapping[str, str]] = dataclasses.field(default=lambda _: {})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """
    What is told of one kind of snapshot.

    Attributes:
        prefix: Of its metrics, after ``hireliab_``.
        left_out: Fields that are no metric, and why.
    """

    prefix: str
    measures: tuple[Measure, ...]
    within: tuple[Within, ...] = ()
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)


_NAME = {"name": "is the label"}
_TEXT = {"last_error": "a text: of any length, and it may hold a secret"}


def _states(name: str, *states: str) -> Measure:
    return Measure(name, GAUGE, name, f"1 for the present {name}, 0 for the others.", by=name, states=states)


def _one_of(metric: str, label: str, help_: str, **fields: str) -> tuple[Measure, ...]:
    """Counters that are one metric, told apart by a label: field and its value."""
    return tuple(Measure(name, COUNTER, metric, help_, fixed=(label, value)) for name, value in fields.items())


TABLE: Mapping[str, Kind] = {
    "breaker": Kind(
        prefix="breaker",
        measures=(
            _states("state", "closed", "open", "half-open", "isolated", "metrics-only", "disabled"),
            Measure("generation", COUNTER, "transitions", "Changes of state."),
            Measure("failures", GAUGE, "failures_in_a_row", "Failures in a row while closed."),
            Measure("successes", GAUGE, "probe_successes", "Good probes of this half-open state."),
            Measure("probes", GAUGE, "probes", "Probes in flight."),
            Measure("trips", COUNTER, "trips", "Times that the circuit opened, or in metrics-only mode would have."),
            Measure("rejected", COUNTER, "rejected", "Calls that were refused."),
            Measure("late", COUNTER, "late_results", "Results that came after their state and changed nothing."),
            Measure("retry_after", GAUGE, "retry_after_seconds", "Seconds until the next probe may start."),
            Measure("calls", GAUGE, "window_calls", "Calls in the present window."),
            Measure("failed", GAUGE, "window_failures", "Those of them that failed."),
            Measure("slow", GAUGE, "window_slow_calls", "Those of them that were slow."),
        ),
        left_out={**_NAME, **_TEXT},
    ),
    "limiter": Kind(
        prefix="limiter",
        measures=(
            Measure("waiting", GAUGE, "waiting", "Threads that wait for a permit."),
            Measure("blocked_for", GAUGE, "blocked_seconds", "Seconds until a penalty ends."),
        ),
        within=(Within("windows", "window", lambda window: {"window": f"{window.per:g}s"}),),
        left_out={**_NAME, **dict.fromkeys(("used", "limit", "per"), "repeats one of the windows")},
    ),
    "window": Kind(
        prefix="limiter_window",
        measures=(
            Measure("used", GAUGE, "used", "Weight in the present window."),
            Measure("limit", GAUGE, "limit", "Most weight in one window."),
        ),
        left_out={"per": "is the label"},
    ),
    "bulkhead": Kind(
        prefix="bulkhead",
        measures=(
            Measure("running", GAUGE, "running", "Places taken."),
            Measure("waiting", GAUGE, "waiting", "Threads in the queue."),
            Measure("refused", COUNTER, "refused", "Calls refused for want of a place or of time."),
            Measure("max_concurrent", GAUGE, "places", "All places."),
        ),
        left_out=_NAME,
    ),
    "retry_budget": Kind(
        prefix="retry_budget",
        measures=(
            Measure("tokens", GAUGE, "tokens", "Retries that could be made now."),
            Measure("capacity", GAUGE, "capacity", "Retries in a full bucket."),
            Measure("granted", COUNTER, "retries", "Retries made."),
            Measure("refused", COUNTER, "refused", "Retries not made for want of budget."),
        ),
        left_out={"target": "is the label"},
    ),
    "pool": Kind(
        prefix="pool",
        measures=(
            _states("status", "new", "running", "stopping", "stopped"),
            Measure("min_connections", GAUGE, "min_clients", "Clients that are kept ready."),
            Measure("max_connections", GAUGE, "max_clients", "Most clients."),
            Measure("size", GAUGE, "clients", "Clients, idle and in use."),
            Measure("idle", GAUGE, "idle", "Clients that wait to be lent."),
            Measure("in_use", GAUGE, "in_use", "Clients that are lent, or being checked or reset."),
            Measure("creating", GAUGE, "creating", "Calls of the factory that are running."),
            Measure("waiting", GAUGE, "waiting", "Callers that wait for a client."),
            Measure("down", GAUGE, "down", "1 when the factory's last call failed."),
            Measure("acquired", COUNTER, "acquired", "Clients lent."),
            Measure("created", COUNTER, "created", "Clients made."),
            Measure("create_failures", COUNTER, "create_failures", "Calls of the factory that failed."),
            Measure("discards", COUNTER, "discarded", "Clients given up, by reason.", by="reason"),
            Measure("timeouts", COUNTER, "timeouts", "Calls that got no client in time."),
            *_one_of("refused", "reason", "Calls refused at once.", refused_full="full", refused_down="down"),
            Measure("leaks", COUNTER, "leaks", "Clients in use for longer than leak_timeout."),
            Measure("close_errors", COUNTER, "close_errors", "Clients whose close() raised."),
        ),
        left_out={**_NAME, "discarded": "is the sum over the reasons"},
    ),
    "pipeline": Kind(
        prefix="pipeline",
        measures=(
            Measure("verdicts", COUNTER, "transactions", "Transactions decided, by verdict.", by="verdict"),
            Measure("events", COUNTER, "transitions", "Transitions of transactions, by event.", by="event"),
            Measure("reads", COUNTER, "reads", "Look-ups and listings, by answer.", by="answer"),
            Measure("running", GAUGE, "running", "Transactions in a thread of their own."),
            Measure("unresolved", GAUGE, "unresolved", "Transactions whose outcome is not known."),
            Measure("oldest_unresolved", GAUGE, "oldest_unresolved_seconds", "Age of the oldest of them."),
            Measure("needs_human", GAUGE, "needs_human", "Those of them that only a person can decide."),
            Measure("resting", GAUGE, "resting", "Decided orders that rest in the book."),
            Measure("watched", GAUGE, "watched", "Orders that are presumed absent and still looked for."),
            Measure("orphans", GAUGE, "orphans", "Orders at the venue with our prefix and no transaction."),
            Measure("halt", GAUGE, "halt", "1 for the halt in force.", by="mode", states=("HALTED", "REDUCING")),
            Measure("resolver_alive", GAUGE, "resolver_alive", "1 when the resolver's thread runs."),
            Measure("blind", GAUGE, "blind", "1 when for a minute no read of the exchange has worked."),
            Measure("phases", HISTOGRAM, "phase_seconds", "Seconds of one transaction, by phase.", by="phase"),
        ),
        within=(Within("journal", "journal"), Within("outbox", "outbox")),
        left_out=_NAME,
    ),
    "journal": Kind(
        prefix="journal",
        measures=(
            Measure("commits", COUNTER, "commits", "Commits, each of them one fdatasync."),
            Measure("operations", COUNTER, "operations", "Records, fills and facts written."),
            Measure("barriers", COUNTER, "barriers", "Writes that somebody waited for."),
            Measure("batch_sizes", HISTOGRAM, "batch_size", "Operations in each commit."),
            Measure("commit_seconds", HISTOGRAM, "commit_seconds", "Seconds until a batch was on disk."),
            Measure("file_bytes", GAUGE, "file_bytes", "Bytes of the file."),
            Measure("wal_bytes", GAUGE, "wal_bytes", "Bytes of its write-ahead log."),
            Measure("poisoned", GAUGE, "poisoned", "1 when a write failed, so that nothing more is sent."),
            Measure("full", GAUGE, "full", "1 when the disk is full, so that nothing new is sent."),
        ),
    ),
    "outbox": Kind(
        prefix="outbox",
        measures=(
            Measure("pending", GAUGE, "pending", "Events that are not published yet."),
            Measure("oldest", GAUGE, "oldest_seconds", "Age of the oldest of them."),
            Measure("in_flight", GAUGE, "in_flight", "Events without an answer of the bus."),
            Measure("published", COUNTER, "published", "Events that the bus confirmed."),
            Measure("retries", COUNTER, "retries", "Times that an event had to be published again."),
            *_one_of(
                "failures", "reason", "Publications without a confirmation, by reason.",
                returned="returned", nacked="nacked", unknown="unknown", errors="error",
            ),
            *_one_of("given_up", "reason", "Events that were given up, by reason.", dropped="too many", unrouted="unrouted"),
            Measure("late", GAUGE, "late", "1 when events are late."),
        ),
        left_out=_TEXT,
    ),
    "inbox": Kind(
        prefix="inbox",
        measures=(
            *_one_of(
                "deliveries", "outcome", "Deliveries, by what became of them.",
                handled="handled", duplicates="duplicate", failed="failed", conflicts="conflict", old="old", held="held",
            ),
            Measure("taken_over", COUNTER, "taken_over", "Claims of dead processes among the handled and failed."),
        ),
    ),
    "bus": Kind(
        prefix="bus",
        measures=(
            _states("state", "new", "running", "stopping", "stopped"),
            Measure("durable", GAUGE, "durable", "1 when confirmed messages survive this process."),
            Measure("connected", GAUGE, "connected", "1 when the connection that publishes is up."),
            Measure("blocked", GAUGE, "blocked", "1 when the broker has asked to publish nothing for now."),
            *_one_of(
                "messages", "outcome", "Messages published, by what became of them.",
                published="confirmed", returned="returned", nacked="nacked", unknown="unknown", rejected="rejected",
                buffered="buffered",
            ),
            Measure("full", COUNTER, "full", "Calls of publish that ended in BusFullError."),
            Measure("in_flight", GAUGE, "in_flight", "Messages taken and not settled."),
            Measure("in_flight_bytes", GAUGE, "in_flight_bytes", "Their bytes."),
            Measure("reconnects", COUNTER, "reconnects", "Times that a connection was made again."),
            Measure("republished", COUNTER, "republished", "Sendings after a message's first."),
        ),
        within=(
            Within("subscriptions", "subscription", lambda one: {"pattern": one.pattern, "group": one.group or ""}),
        ),
        left_out={**_NAME, **_TEXT, "generation": "reconnects says it"},
    ),
    "subscription": Kind(
        prefix="bus_subscription",
        measures=(
            Measure("handlers", GAUGE, "handlers", "Handler threads."),
            Measure("accepted", COUNTER, "accepted", "Messages taken."),
            Measure("queued", GAUGE, "queued", "Messages that wait for a handler."),
            Measure("retrying", GAUGE, "retrying", "Messages that failed and wait to be redelivered."),
            Measure("in_flight", GAUGE, "in_flight", "Messages that are being handled."),
            *_one_of(
                "ended", "outcome", "Messages that it is done with, by what became of them.",
                acked="acked", dead_lettered="dead-lettered", unfinished="unfinished",
            ),
            Measure("failures", COUNTER, "failures", "Times that a handler raised."),
            Measure("ready", GAUGE, "ready", "Queues under these labels that are fed now."),
            Measure("redelivered", COUNTER, "redelivered", "Messages that were delivered before."),
            Measure("stale", COUNTER, "stale", "Messages whose connection was gone when their handler ended."),
        ),
        left_out={
            **_TEXT,
            "pattern": "is a label",
            "group": "is a label",
            "generation": "the bus's reconnects say it",
        },
    ),
    "alerts": Kind(
        prefix="alerts",
        measures=(
            _states("state", "not_started", "running", "stopped"),
            Measure("silenced", COUNTER, "silenced", "Alerts that a silence kept from all channels."),
            Measure("silences", GAUGE, "silences", "Silences that have not ended.", size=True),
            Measure("heartbeats", COUNTER, "heartbeats", "Signs of life that were taken."),
        ),
        within=(
            Within("channels", "channel", lambda one: {"channel": one.name}),
            Within("spool", "spool"),
        ),
    ),
    "channel": Kind(
        prefix="alert_channel",
        measures=(
            _states(
                "state", "not_started", "ready", "degraded", "paused", "misconfigured", "down", "stuck", "stopped"
            ),
            Measure("accepted", COUNTER, "accepted", "Alerts that it wants, and messages of its own."),
            Measure("queued", GAUGE, "queued", "Messages that wait, also for another attempt."),
            Measure("held", GAUGE, "held", "Alerts that wait for group_wait."),
            Measure("in_flight", GAUGE, "in_flight", "1 while a message is being sent."),
            Measure("spooled", GAUGE, "spooled", "Messages that are only in the spool."),
            *_one_of(
                "ended", "outcome", "Alerts that it is done with, by what became of them.",
                delivered="delivered", failed="failed", dropped="dropped", deduplicated="deduplicated",
            ),
            Measure("below_threshold", COUNTER, "below_threshold", "Alerts that it did not want."),
            Measure("refused", COUNTER, "refused", "Alerts offered after it was stopped."),
            Measure("groups", GAUGE, "groups", "Troubles that it keeps in mind."),
            Measure("late", COUNTER, "late", "Messages delivered more than 30 s after they were queued."),
            Measure("retries", COUNTER, "retries", "Attempts that failed and were not the last."),
            Measure("abandoned", GAUGE, "abandoned_sends", "Sends that do not come back."),
            Measure("busy_for", GAUGE, "busy_seconds", "Seconds that the present send has taken."),
            Measure("oldest", GAUGE, "oldest_seconds", "Seconds that the oldest message has waited."),
        ),
        left_out={**_TEXT, "name": "is the label", "threshold": "a setting"},
    ),
    "spool": Kind(
        prefix="alert_spool",
        measures=(
            _states("state", "closed", "open", "full", "broken"),
            Measure("rows", GAUGE, "rows", "Alerts in the file."),
            Measure("bytes", GAUGE, "bytes", "Their size."),
            Measure("evicted", COUNTER, "evicted", "Alerts that were deleted because there were too many."),
            Measure("not_durable", COUNTER, "not_durable", "Alerts that could not be written."),
            Measure("set_aside", COUNTER, "set_aside", "Files that could not be read and were renamed."),
        ),
        left_out={**_TEXT, "folder": "a path"},
    ),
}  # fmt: skip
"""By kind of part, and by kind of snapshot within another."""

Name = tuple[str, str, str]
"""A metric's name, type and help."""
UP: Name = ("hireliab_up", GAUGE, "1 when the part answered, 0 when it could not be asked.")


def name_of(kind: Kind, measure: Measure) -> Name:
    """The metric of a measure."""
    name = f"hireliab_{kind.prefix}_{measure.name}{'_total' if measure.type == COUNTER else ''}"
    return name, measure.type, measure.help


def all_names() -> list[Name]:
    """Every metric that there can be, each once."""
    return sorted({UP, *(name_of(kind, measure) for kind in TABLE.values() for measure in kind.measures)})
