"""The bridge to prometheus_client; the only file that names it."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hireliab.core._metrics import HistogramSnapshot
from hireliab.errors import ConfigError, MissingDependencyError
from hireliab.monitoring._metrics_table import all_names

if TYPE_CHECKING:
    from hireliab.monitoring.metrics import MetricsSnapshot


def _prometheus(module: str = "prometheus_client") -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError("metrics for Prometheus: pip install 'hireliab[prometheus]'") from error


def default_registry() -> Any:
    """prometheus_client's own."""
    return _prometheus().REGISTRY


def own_registry(bridge: Bridge) -> Any:
    """A new registry with nothing but these metrics."""
    registry = _prometheus().CollectorRegistry()
    bridge.join(registry)
    return registry


def wsgi_app(registry: Any) -> Any:
    """What answers a scrape."""
    return _prometheus().make_wsgi_app(registry)


class Bridge:
    """
    A collector of prometheus_client.

    Args:
        snapshot: What is collected.
    """

    def __init__(self, snapshot: Callable[[], MetricsSnapshot]) -> None:
        self._snapshot = snapshot
        self._registries: weakref.WeakSet[Any] = weakref.WeakSet()

    def join(self, registry: Any) -> None:
        """Be collected by this registry, once."""
        if registry in self._registries:
            return
        try:
            registry.register(self)
        except ValueError as error:  # each metric would be there twice, which Prometheus refuses
            raise ConfigError(
                "metrics: this registry has a metric of one of these names already; add the parts to the Metrics that it"
                " collects",
                setting="registry",
            ) from error
        self._registries.add(registry)

    def describe(self) -> Iterator[Any]:
        """Every metric that there can be, without asking a part: registries know by it whose a name is."""
        metric_of = _prometheus("prometheus_client.core").Metric
        for name, type_, help_ in all_names():
            yield metric_of(name.removesuffix("_total"), help_, type_)

    def collect(self) -> Iterator[Any]:
        """Each family as a Metric."""
        metric_of = _prometheus("prometheus_client.core").Metric
        for family in self._snapshot().families:
            metric = metric_of(family.name.removesuffix("_total"), family.help, family.type)
            for sample in family.samples:
                if isinstance(sample.value, HistogramSnapshot):
                    _add_histogram(metric, family.name, dict(sample.labels), sample.value)
                else:
                    metric.add_sample(family.name, dict(sample.labels), sample.value)
            yield metric


def _add_histogram(metric: Any, name: str, labels: dict[str, str], histogram: HistogramSnapshot) -> None:
    below = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        below += count
        metric.add_sample(f"{name}_bucket", {**labels, "le": repr(float(bound))}, below)
    metric.add_sample(f"{name}_bucket", {**labels, "le": "+Inf"}, histogram.count)
    metric.add_sample(f"{name}_count", labels, histogram.count)
    metric.add_sample(f"{name}_sum", labels, histogram.total)
