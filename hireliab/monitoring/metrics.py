"""
Metrics: the figures of every part in one snapshot, under names by the conventions of Prometheus.

    metrics = Metrics(pipeline, bus, alerts)
    metrics.serve(port=9464)        # for Prometheus; needs the extra "prometheus"

Nothing is counted for it: it reads what the parts' own ``stats()`` and ``status()`` say when it is asked, so a part
that is measured is no slower than one that is not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hireliab.core._metrics import HistogramSnapshot
from hireliab.core.config import text, whole
from hireliab.monitoring._freeze import clean
from hireliab.monitoring._metrics_exporter import Exporter
from hireliab.monitoring._metrics_prometheus import Bridge, default_registry, own_registry
from hireliab.monitoring._metrics_table import TABLE, UP, Measure, Name, name_of
from hireliab.monitoring._parts import NotRunningError, Parts

__all__ = ["Exporter", "Family", "Metrics", "MetricsSnapshot", "Sample"]

_log = logging.getLogger("hireliab.metrics")

MOST_VALUES = 100
"""Values of one label that one part may have; the others are added up under "other"."""
OTHER = "other"
PORT = 9464
_LABEL = 100  # characters

_Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One figure, or one histogram.

    Attributes:
        labels: By name.
        value: A number, or a `HistogramSnapshot`, whose counts are not cumulative.
    """

    labels: Mapping[str, str]
    value: float | HistogramSnapshot


@dataclass(frozen=True, slots=True)
class Family:
    """
    The samples of one metric.

    Attributes:
        name: With the unit; a counter's ends in ``_total``.
        type: "gauge", "counter" or "histogram".
        help: What it says.
    """

    name: str
    type: str
    help: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """
    All parts at one instant; what is told of one part is consistent in itself.

    Attributes:
        families: Sorted by name.
        failures: What went wrong at a part that could not be asked, by its kind and name.
    """

    families: tuple[Family, ...]
    failures: Mapping[str, str]

    def value(self, name: str, /, **labels: str) -> float | HistogramSnapshot | None:
        """One figure by its metric's name and all its labels, or None: ``value("hireliab_pool_idle", name="venue")``."""
        for family in self.families:
            if family.name == name:
                for sample in family.samples:
                    if sample.labels == labels:
                        return sample.value
        return None


class Metrics:
    """
    Reads the figures of the parts that were added.

    Parts are held weakly: one that is forgotten by the bot disappears. What consists of others stands for them: an
    adapter for its pools, breakers and limiters; a pipeline for its adapter, journal and outbox; a policy for its parts;
    the breakers' registry for all breakers in it. Two parts of one kind and name are told apart by ``#2``.

    Guarantees: a part that raises costs its own lines, and ``hireliab_up`` of it is 0. Labels are redacted, one line,
    at most 100 characters long, and a part has at most 100 values of one label. Nothing is started by looking.

    Thread safety: any thread. A forked child goes on with the same parts.

    Args:
        parts: As for `add`.

    Raises:
        ConfigError: As for `add`.
    """

    def __init__(self, *parts: object) -> None:
        self._parts = Parts("metrics")
        self._bridge = Bridge(self.snapshot)
        self._told: set[str] = set()
        self.add(*parts)

    def add(self, *parts: object) -> None:
        """
        Measure these, too; one that is measured already changes nothing.

        Args:
            parts: Circuit breakers or their registry, rate limiters, bulkheads, retry budgets, policies, connection
                pools, adapters, pipelines, journals, outboxes, inboxes, message buses, alert systems.

        Raises:
            ConfigError: One of them is something else; none was added.
        """
        self._parts.add(parts)

    def discard(self, part: object) -> bool:
        """Measure this one no more; whether it was known."""
        return self._parts.discard(part)

    def snapshot(self) -> MetricsSnapshot:
        """Ask every part; it never raises for what a part does."""
        collected = _Collected()
        failures = {}
        for look in self._parts.look():
            labels = (("name", look.name),)
            error = look.error
            if error is None:
                try:
                    collected.merge(_tell(look.kind, look.snapshot, labels))
                except Exception as wrong:  # a snapshot of another shape than we know
                    error = wrong
            collected.put(UP, (("kind", look.kind), *labels), float(error is None))
            if error is not None:
                part = f"{look.kind} {look.name}"
                failures[part] = _words(error)
                if not isinstance(error, NotRunningError):
                    self._tell_once(part, failures[part])
        return MetricsSnapshot(collected.families(), MappingProxyType(failures))

    def register(self, registry: Any = None) -> None:
        """
        Have a registry of prometheus_client collect these metrics, beside what it has; a second time changes nothing.

        Args:
            registry: A ``CollectorRegistry``; None: prometheus_client's own.

        Raises:
            ConfigError: It has those of another `Metrics` already: add the parts to that one.
            MissingDependencyError: prometheus_client is not installed.
        """
        self._bridge.join(default_registry() if registry is None else registry)

    def serve(self, port: int = PORT, address: str = "127.0.0.1", *, registry: Any = None) -> Exporter:
        """
        Serve the metrics over HTTP, on a thread of its own, until the exporter's `stop`.

        There is no password and no encryption: whoever reaches the port sees the figures. Keep it on this machine or in
        a private network.

        Args:
            port: 0 for one that is free, see `Exporter.port`.
            address: Where to listen; "0.0.0.0" on every interface.
            registry: A ``CollectorRegistry`` to serve instead; None: these metrics alone.

        Raises:
            ConfigError: The port cannot be had.
            MissingDependencyError: prometheus_client is not installed.
        """
        whole("port", port, low=0, high=65535)
        text("address", address)
        return Exporter(own_registry(self._bridge) if registry is None else registry, port, address)

    def _tell_once(self, part: str, why: str) -> None:
        if part not in self._told and len(self._told) < 1000:
            self._told.add(part)
            _log.warning("metrics: %s cannot be asked: %s", part, why)


class _Collected:
    """Samples by metric and labels; what has the same labels is added up."""

    def __init__(self) -> None:
        self._families: dict[Name, dict[_Labels, float | HistogramSnapshot]] = {}

    def put(self, family: Name, labels: _Labels, value: float | HistogramSnapshot) -> None:
        samples = self._families.setdefault(family, {})
        before = samples.get(labels)
        if isinstance(before, float) and isinstance(value, float):
            value += before
        samples[labels] = value

    def merge(self, told: Sequence[tuple[Name, _Labels, float | HistogramSnapshot]]) -> None:
        for family, labels, value in told:
            self.put(family, labels, value)

    def families(self) -> tuple[Family, ...]:
        return tuple(
            Family(
                name, type_, help_, tuple(Sample(MappingProxyType(dict(labels)), value) for labels, value in of.items())
            )
            for (name, type_, help_), of in sorted(self._families.items())
        )


def _tell(kind: str, snapshot: Any, labels: _Labels) -> list[tuple[Name, _Labels, float | HistogramSnapshot]]:
    """Everything that is told of a snapshot, before any of it is used: half a part would be a lie."""
    known = TABLE[kind]
    told: list[tuple[Name, _Labels, float | HistogramSnapshot]] = []
    for measure in known.measures:
        family = name_of(known, measure)
        told += [(family, labels + more, value) for more, value in _values(measure, getattr(snapshot, measure.field))]
    for within in known.within:
        inner = getattr(snapshot, within.field)
        if inner is None:
            continue
        several = (
            inner.values() if isinstance(inner, Mapping) else inner if isinstance(inner, tuple | list) else (inner,)
        )
        seen: set[_Labels] = set()
        for one in several:
            more = tuple(
                (label, clean(str(value), _LABEL, one_line=True)) for label, value in within.labels(one).items()
            )
            if more not in seen and len(seen) >= MOST_VALUES:
                more = tuple((label, OTHER) for label, _ in more)
            else:
                seen.add(more)
            told += _tell(within.kind, one, labels + more)
    return told


def _values(measure: Measure, value: Any) -> Iterator[tuple[_Labels, float | HistogramSnapshot]]:
    if measure.states:
        for state in measure.states:
            yield ((measure.by, state),), float(state == str(value))
    elif measure.by:
        for number_, (key, one) in enumerate(value.items()):
            label = clean(str(key), _LABEL, one_line=True) if number_ < MOST_VALUES else OTHER
            yield ((measure.by, label),), _figure(one)
    elif value is not None:
        yield ((measure.fixed,) if measure.fixed else ()), _figure(len(value) if measure.size else value)


def _figure(value: Any) -> float | HistogramSnapshot:
    return value if isinstance(value, HistogramSnapshot) else float(value)


def _words(error: BaseException) -> str:
    try:
        return clean(f"{type(error).__name__}: {error}", 300, one_line=True)
    except Exception:  # an error that cannot be printed
        return type(error).__name__
