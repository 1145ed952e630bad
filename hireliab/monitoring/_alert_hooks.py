"""
One-line hooks: ``alerts.watch(breaker | pool | pipeline)``.

What is watched is known by its methods and its events by their attributes: this package imports no other part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hireliab.errors import ConfigError
from hireliab.monitoring.alert import AlertLevel, AlertSource


class Alerts(Protocol):
    """What the hooks need of an alert system."""

    def send_alert(  # noqa: PLR0917 - the original's parameters
        self,
        source: AlertSource | str,
        level: AlertLevel | str,
        title: str,
        message: str,
        context: Mapping[str, Any] | None = None,
        dedup_key: str | None = None,
    ) -> object:
        """Hand over an alert without waiting."""

    def resolve(self, dedup_key: str, message: str = "", *, source: AlertSource | str | None = None) -> bool:
        """The trouble is over."""


def watch(alerts: Alerts, watched: object) -> None:
    """Listen to a breaker, a pool or a pipeline."""
    add_sink = getattr(watched, "add_alert_system", None)
    if callable(add_sink):
        add_sink(PipelineSink(alerts))
        return
    add_listener = getattr(watched, "add_listener", None)
    if not callable(add_listener):
        raise ConfigError(
            f"watch: {type(watched).__name__} cannot be watched; give a CircuitBreaker, a ConnectionPool or a"
            " TransactionVerificationPipeline",
            setting="watched",
            allowed="a CircuitBreaker, a ConnectionPool or a TransactionVerificationPipeline",
        )
    add_listener(_listener(alerts))


def _listener(alerts: Alerts) -> Callable[[Any], None]:
    def hear(event: Any) -> None:
        if hasattr(event, "pool"):
            _pool(alerts, str(event.pool), str(event.kind), event.reason)
        else:
            _breaker(alerts, event)

    return hear


def _breaker(alerts: Alerts, event: Any) -> None:
    key = f"breaker:{event.name}"
    new = str(event.new)
    if new in ("open", "isolated"):
        alerts.send_alert(
            AlertSource.EXCHANGE,
            AlertLevel.ERROR,
            f"circuit breaker {event.name!r} is {new}",
            event.reason if event.last_error is None else f"{event.reason}; last error: {event.last_error}",
            {"breaker": event.name, "state": new},
            key,
        )
    elif new == "closed":
        alerts.resolve(key, f"it is closed again: {event.reason}")
    elif new == "metrics-only" and str(event.old) == new:
        alerts.send_alert(
            AlertSource.EXCHANGE,
            AlertLevel.WARNING,
            f"circuit breaker {event.name!r} would have opened",
            event.reason,
            {"breaker": event.name, "state": new},
        )


def _pool(alerts: Alerts, pool: str, kind: str, reason: str | None) -> None:
    key = f"pool:{pool}:down"
    context = {"pool": pool}
    if kind == "down":
        message = f"no client can be made: {reason}"
        alerts.send_alert(
            AlertSource.EXCHANGE, AlertLevel.ERROR, f"connection pool {pool!r} is down", message, context, key
        )
    elif kind == "up":
        alerts.resolve(key, "a client was made again")
    elif kind == "exhausted":
        title = f"connection pool {pool!r} is exhausted"
        message = "a caller waited in vain" if reason == "timeout" else "a caller was refused, too many wait already"
        alerts.send_alert(AlertSource.EXCHANGE, AlertLevel.ERROR, title, message, context)
    elif kind == "leaked":
        title = f"connection pool {pool!r} leaks"
        alerts.send_alert(
            AlertSource.SYSTEM, AlertLevel.WARNING, title, f"a client was not given back: {reason}", context
        )


class PipelineSink:
    """
    Stands between a pipeline and the alerts: an alert about a transaction gets a dedup key, and is resolved when the
    transaction is decided.
    """

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts

    def send_alert(
        self, *, source: str, level: str, title: str, message: str, context: Mapping[str, Any] | None
    ) -> object:
        """Pass an alert on."""
        facts = {} if context is None else context
        # Of a transaction that is decided already nothing stands open: it is an event, which nobody will resolve.
        open_ = str(facts.get("verdict")).upper() == "UNKNOWN" and level in ("error", "critical")
        key = _key(facts["transaction_id"]) if open_ and facts.get("transaction_id") else None
        return self._alerts.send_alert(source, level, title, message, context, key)

    def decided(self, transaction_id: str, verdict: str) -> None:
        """Nothing about this transaction is unknown any more."""
        self._alerts.resolve(_key(transaction_id), f"decided: {verdict}")


def _key(transaction_id: object) -> str:
    return f"transaction:{transaction_id}"
