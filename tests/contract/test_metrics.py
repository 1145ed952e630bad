"""
Every part's figures are told or left out on purpose: a new field of a stats() fails here until it is in the table of
hireliab/monitoring/_metrics_table.py.
"""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import hireliab
from hireliab.core._gate import CircuitStats
from hireliab.core._limiter_window import RateLimiterStats, WindowStats
from hireliab.core._retry_budget import RetryBudgetStats
from hireliab.core.bulkhead import BulkheadStats
from hireliab.exchange._pipeline_stats import PipelineStats
from hireliab.exchange.connection_pool import PoolStats
from hireliab.exchange.journal import JournalStats
from hireliab.messaging.bus import BusStatus, SubscriptionStatus
from hireliab.messaging.inbox import InboxStats
from hireliab.messaging.outbox import OutboxStats
from hireliab.monitoring._channel_status import ChannelStatus
from hireliab.monitoring._metrics_table import COUNTER, TABLE
from hireliab.monitoring._parts import KINDS
from hireliab.monitoring.alert_spool import SpoolStatus
from hireliab.monitoring.alert_system import AlertSystemStatus
from hireliab.monitoring.metrics import Metrics
from tests.support.whole_bot import whole_bot

SNAPSHOTS = {
    "breaker": CircuitStats,
    "limiter": RateLimiterStats,
    "window": WindowStats,
    "bulkhead": BulkheadStats,
    "retry_budget": RetryBudgetStats,
    "pool": PoolStats,
    "pipeline": PipelineStats,
    "journal": JournalStats,
    "outbox": OutboxStats,
    "inbox": InboxStats,
    "bus": BusStatus,
    "subscription": SubscriptionStatus,
    "alerts": AlertSystemStatus,
    "channel": ChannelStatus,
    "spool": SpoolStatus,
}


def test_the_table_has_every_kind_of_snapshot():
    assert set(TABLE) == set(SNAPSHOTS)
    assert set(KINDS) <= set(SNAPSHOTS)


@pytest.mark.parametrize("kind", SNAPSHOTS)
def test_each_field_of_a_snapshot_is_told_once_or_left_out(kind):
    known = TABLE[kind]
    told = [measure.field for measure in known.measures] + [within.field for within in known.within]
    assert sorted([*told, *known.left_out]) == sorted(field.name for field in dataclasses.fields(SNAPSHOTS[kind]))
    assert all(known.left_out.values())


@pytest.mark.parametrize("kind", SNAPSHOTS)
def test_the_words_that_a_field_can_be_are_those_of_its_docstring(kind):
    for measure in TABLE[kind].measures:
        if not measure.states or kind == "breaker":
            continue
        said = re.search(rf"^ +{measure.field}: (.*?)^ +\w[\w, ]*:", SNAPSHOTS[kind].__doc__, re.DOTALL | re.MULTILINE)
        assert set(re.findall(r'"(\w+)"', said[1])) == set(measure.states)


def test_the_words_that_a_breaker_can_be_are_those_of_its_gates():
    from hireliab.core import _gate

    states = {str(value) for value in vars(_gate).values() if isinstance(value, _gate.CircuitState)}
    assert set(TABLE["breaker"].measures[0].states) == states


def test_every_part_with_a_snapshot_is_known():
    """Whatever says ``def stats(self) -> SomethingStats`` anywhere in the package."""
    found = set()
    for path in Path(hireliab.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.FunctionDef)
                and node.name in ("stats", "status")
                and isinstance(node.returns, ast.Name)
            ):
                found.add(node.returns.id)
    found = {name for name in found if name.endswith(("Stats", "Status")) and name not in ("PublishStatus", "Status")}
    assert len(found) >= 12
    assert found <= {cls.__name__ for cls in SNAPSHOTS.values()}


def test_every_kind_of_part_is_measured_completely(tmp_path, clock):
    with whole_bot(tmp_path, clock) as parts:
        assert set(parts) == set(KINDS)
        clock.wait_parked(1)
        snapshot = Metrics(*parts.values()).snapshot()
        told = {family.name for family in snapshot.families}
        up = {
            sample.labels["kind"]: sample.value
            for f in snapshot.families
            if f.name == "hireliab_up"
            for sample in f.samples
        }
    assert snapshot.failures == {}
    assert up == dict.fromkeys(KINDS, 1.0)
    for kind, known in TABLE.items():
        for measure in known.measures:
            if (kind, measure.field) in _ABSENT_WHEN_NOTHING_HAPPENED:
                continue
            assert f"hireliab_{known.prefix}_{measure.name}{'_total' if measure.type == COUNTER else ''}" in told


_ABSENT_WHEN_NOTHING_HAPPENED = {
    ("pool", "discards"),
    ("pipeline", "verdicts"),
    ("pipeline", "events"),
    ("pipeline", "reads"),
    ("pipeline", "oldest_unresolved"),
    ("outbox", "oldest"),
}


def test_names_and_help_follow_the_conventions(tmp_path, clock):
    names = []
    for known in TABLE.values():
        for measure in known.measures:
            name = f"hireliab_{known.prefix}_{measure.name}"
            names.append((name, measure.type, measure.help))
            assert re.fullmatch(r"[a-z][a-z_]*[a-z]", name)
            assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
            assert measure.help.endswith(".")
            assert measure.type in ("gauge", "counter", "histogram")
    # Fields that share a metric share everything of it.
    assert len({name for name, _, _ in names}) == len(set(names))
