"""Metrics: names of parts, what dies or raises, labels, threads and forks. (Completeness: tests/contract/test_metrics.py.)"""

import dataclasses
import gc
import logging
import os
import sys

import pytest

from hireliab.core._breaker_registry import Registry
from hireliab.core._metrics import SECONDS, Histogram
from hireliab.core.bulkhead import Bulkhead
from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.core.policy import Policy
from hireliab.core.rate_limiter import RateLimiter
from hireliab.core.retry import Retry, RetryBudget
from hireliab.errors import CircuitOpenError, ConfigError, MissingDependencyError
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.monitoring import _parts
from hireliab.monitoring._metrics_prometheus import Bridge
from hireliab.monitoring.metrics import MOST_VALUES, Family, Metrics, MetricsSnapshot, Sample
from tests.support.together import Background, in_child, together
from tests.support.whole_bot import whole_bot


def breaker(name="orders", **more):
    return CircuitBreaker(name=name, **more)


def fail():
    raise OSError("down")


def names(snapshot, family="hireliab_up"):
    return [sample.labels["name"] for one in snapshot.families if one.name == family for sample in one.samples]


class Odd:
    """A part that is a limiter by its methods, and does what a test wants."""

    preload = None
    name = "odd"

    def __init__(self, stats=None):
        self._stats = stats

    def stats(self):
        return self._stats()


# -- what is told -------------------------------------------------------------------------------------------------


def test_a_figure_is_found_by_its_name_and_labels():
    one = breaker(failure_threshold=2)
    metrics = Metrics(one)
    for _ in range(3):
        with pytest.raises((OSError, CircuitOpenError)):
            one.execute(fail)
    snapshot = metrics.snapshot()
    assert snapshot.value("hireliab_breaker_trips_total", name="orders") == 1
    assert snapshot.value("hireliab_breaker_rejected_total", name="orders") == 1
    assert snapshot.value("hireliab_breaker_state", name="orders", state="open") == 1
    assert snapshot.value("hireliab_breaker_state", name="orders", state="closed") == 0
    assert snapshot.value("hireliab_breaker_state", name="orders") is None
    assert snapshot.value("hireliab_breaker_trips", name="orders") is None


def test_families_are_sorted_and_each_is_there_once():
    snapshot = Metrics(breaker("a"), breaker("b"), RateLimiter(name="a", limit=1, per=1.0)).snapshot()
    listed = [family.name for family in snapshot.families]
    assert listed == sorted(set(listed))


def test_a_limiter_tells_of_each_window():
    limiter = RateLimiter(name="r", limits=[(10, 1.0), (100, 60.0)])
    limiter.acquire(3)
    snapshot = Metrics(limiter).snapshot()
    assert snapshot.value("hireliab_limiter_window_used", name="r", window="1s") == 3
    assert snapshot.value("hireliab_limiter_window_limit", name="r", window="60s") == 100


def test_subscriptions_under_the_same_labels_are_added_up():
    with InMemoryMessageBus(name="m") as bus:
        for _ in range(3):
            bus.subscribe("a.*", lambda _: None)
        snapshot = Metrics(bus).snapshot()
        assert snapshot.value("hireliab_bus_subscription_handlers", name="m", pattern="a.*", group="") == 3


def test_what_is_none_is_left_out(clock):
    assert all(family.samples for family in Metrics(breaker(clock=clock)).snapshot().families)


# -- which parts --------------------------------------------------------------------------------------------------


def test_a_part_that_the_bot_forgets_disappears():
    one, other = breaker("one"), breaker("other")
    metrics = Metrics(one, other)
    del one
    gc.collect()
    assert names(metrics.snapshot()) == ["other"]


def test_a_part_that_is_added_twice_is_told_once():
    one = breaker()
    metrics = Metrics(one, one)
    metrics.add(one)
    assert names(metrics.snapshot()) == ["orders"]
    assert metrics.snapshot().value("hireliab_breaker_transitions_total", name="orders") == 0


def test_two_parts_of_one_name_are_told_apart_for_good():
    parts = [breaker("x") for _ in range(3)]
    limiter = RateLimiter(name="x", limit=1, per=1.0)
    metrics = Metrics(*parts, limiter)
    assert names(metrics.snapshot(), "hireliab_breaker_trips_total") == ["x", "x#2", "x#3"]
    assert metrics.snapshot().value("hireliab_limiter_waiting", name="x") == 0
    del parts[0]
    gc.collect()
    assert names(metrics.snapshot(), "hireliab_breaker_trips_total") == ["x#2", "x#3"]
    again = breaker("x")
    metrics.add(again)
    assert names(metrics.snapshot(), "hireliab_breaker_trips_total") == ["x#2", "x#3", "x"]


def test_a_journal_is_told_apart_from_that_of_a_pipeline_of_its_name(tmp_path, clock):
    with whole_bot(tmp_path, clock) as parts:
        snapshot = Metrics(parts["pipeline"], parts["journal"]).snapshot()
    assert names(snapshot, "hireliab_journal_full") == ["default", "default#2"]


def test_a_part_can_be_discarded():
    one = breaker()
    metrics = Metrics(one)
    assert metrics.discard(one)
    assert not metrics.discard(one)
    assert metrics.snapshot().families == ()


def test_a_policy_stands_for_its_parts():
    budget = RetryBudget(target="venue")
    policy = Policy(
        name="p",
        retry=Retry(budget=budget),
        breaker=breaker("b"),
        bulkhead=Bulkhead(name="h", max_concurrent=1),
        limiter=RateLimiter(name="l", limit=5, per=1.0),
    )
    assert sorted(names(Metrics(policy, budget).snapshot())) == ["b", "h", "l", "venue"]


def test_a_registry_stands_for_the_breakers_that_it_will_have():
    registry = Registry(CircuitBreaker)
    metrics = Metrics(registry)
    assert metrics.snapshot().families == ()
    registry.get("later")
    assert names(metrics.snapshot()) == ["later"]


@pytest.mark.parametrize("what", [None, 7, "pool", object(), CircuitBreaker, Policy, dict])
def test_what_is_no_part_is_refused_and_nothing_is_added(what):
    metrics = Metrics()
    one = breaker()
    with pytest.raises(ConfigError, match="cannot look at"):
        metrics.add(one, what)
    assert metrics.snapshot().families == ()


def test_a_part_that_cannot_be_referred_to_is_refused():
    class Slotted:
        __slots__ = ()
        preload = None

        def stats(self):
            pass

    with pytest.raises(ConfigError, match="__weakref__"):
        Metrics(Slotted())


def test_the_number_of_parts_is_bounded(monkeypatch, caplog):
    monkeypatch.setattr(_parts, "MOST_PARTS", 3)
    parts = [breaker(str(n)) for n in range(5)]
    metrics = Metrics(*parts)
    with caplog.at_level(logging.WARNING):
        assert names(metrics.snapshot()) == names(metrics.snapshot()) == ["0", "1", "2"]
    assert [record.getMessage() for record in caplog.records] == [
        "metrics: 5 parts, and only the first 3 are looked at; does the bot make one for every order?"
    ]


# -- what goes wrong ----------------------------------------------------------------------------------------------


class Rude(Exception):
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize("error", [OSError("disk"), Rude(), RecursionError()])
def test_a_part_that_raises_costs_its_own_lines(error, caplog):
    def stats():
        raise error

    odd, good = Odd(stats), breaker()
    metrics = Metrics(odd, good)
    snapshot = metrics.snapshot()
    metrics.snapshot()
    assert snapshot.value("hireliab_up", kind="limiter", name="odd") == 0
    assert snapshot.value("hireliab_up", kind="breaker", name="orders") == 1
    assert list(snapshot.failures) == ["limiter odd"]
    assert snapshot.failures["limiter odd"].startswith(type(error).__name__)
    assert snapshot.value("hireliab_breaker_trips_total", name="orders") == 0
    assert len(caplog.records) == 1  # told once


@pytest.mark.parametrize("wish", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["stats", "figures", "kind", "parts"])
def test_ctrl_c_and_what_a_handler_of_sigterm_raises_are_not_swallowed(wish, where):
    class Struck(Odd):
        armed = False

        def strike(self, here):
            if self.armed and where == here:
                raise wish

        @property
        def half_open(self):  # what only a breaker has; asked for first
            self.strike("kind")
            raise AttributeError

        @property
        def parts(self):
            self.strike("parts")
            return ()

        @property
        def waiting(self):
            self.strike("figures")
            return 1

    def stats():
        odd.strike("stats")
        return odd

    odd = Struck(stats)
    metrics = Metrics(odd)
    odd.armed = True
    with pytest.raises(wish):
        metrics.snapshot()


@pytest.mark.parametrize("answer", [None, object(), {"waiting": 1}])
def test_a_snapshot_of_another_shape_is_a_failure_and_not_half_a_part(answer):
    odd = Odd(lambda: answer)
    snapshot = Metrics(odd).snapshot()
    assert [family.name for family in snapshot.families] == ["hireliab_up"]
    assert "limiter odd" in snapshot.failures


def test_half_a_snapshot_tells_nothing():
    @dataclasses.dataclass
    class Half:
        waiting: int = 1
        blocked_for: float = 0.0
        windows: tuple = (object(),)

    odd = Odd(Half)
    snapshot = Metrics(odd).snapshot()
    assert snapshot.value("hireliab_limiter_waiting", name="odd") is None


def test_a_composite_that_raises_costs_itself():
    class Adapter:
        @property
        def parts(self):
            raise OSError

    adapter, good = Adapter(), breaker()
    with pytest.raises(OSError):
        Metrics(adapter)  # said when it is added

    class Later:
        asked = 0

        @property
        def parts(self):
            self.asked += 1
            if self.asked > 1:
                raise OSError
            return ()

    later = Later()
    assert names(Metrics(later, good).snapshot()) == ["orders"]


def test_parts_that_hold_each_other_end():
    class Ring:
        @property
        def parts(self):
            return (self, one)

    ring, one = Ring(), breaker()
    assert names(Metrics(ring).snapshot()) == ["orders"]


# -- labels -------------------------------------------------------------------------------------------------------

SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ('a "b" \\c', 'a "b" \\c'),
        ("a\nb\tc", "a b c"),
        ("\x1b[31mred", "[31mred"),
        ("\ud800", "\\ud800"),
        ("قیمت", "قیمت"),
        (f"token={SECRET}", "token=***"),
        (SECRET, "***"),
        ("x" * 500, "x" * 100 + "… [400 characters cut]"),
        ("", "limiter"),
    ],
)
def test_labels_are_one_short_line_without_secrets(name, label):
    odd = Odd(lambda: RateLimiter(name="real", limit=1, per=1.0).stats())
    odd.name = name
    assert names(Metrics(odd).snapshot()) == [label]


def test_no_secret_of_an_error_is_told(caplog):
    def stats():
        raise OSError(f"https://bot:{SECRET}@example.com/?token={SECRET}")

    odd = Odd(stats)
    snapshot = Metrics(odd).snapshot()
    assert SECRET not in repr(snapshot)
    assert SECRET not in caplog.text


def test_the_values_of_a_label_are_bounded():
    with InMemoryMessageBus(name="m") as bus:
        for n in range(MOST_VALUES + 20):
            bus.subscribe(f"order.{n}", lambda _: None)
        snapshot = Metrics(bus).snapshot()
        (family,) = [one for one in snapshot.families if one.name == "hireliab_bus_subscription_handlers"]
        assert len(family.samples) == MOST_VALUES + 1
        assert snapshot.value(family.name, name="m", pattern="other", group="other") == 20


def test_the_keys_of_a_mapping_are_bounded():
    class Pool:
        name = "p"

        def invalidate_all(self):
            pass

        def stats(self):
            return _pool_stats({f"reason {n}": 1 for n in range(MOST_VALUES + 7)})

    pool = Pool()
    snapshot = Metrics(pool).snapshot()
    assert snapshot.value("hireliab_pool_discarded_total", name="p", reason="other") == 7


def _pool_stats(discards):
    from hireliab.exchange.connection_pool import ConnectionPool

    return dataclasses.replace(ConnectionPool(name="p", create_client_func=object).stats(), discards=discards)


# -- threads and forks --------------------------------------------------------------------------------------------


def test_parts_come_and_go_while_others_look():
    metrics = Metrics()

    def work(i):
        for n in range(20):
            one = breaker(f"{i} {n % 3}")
            metrics.add(one)
            assert set(names(metrics.snapshot())) >= {f"{i} {n % 3}"} or any(
                name.startswith(f"{i} {n % 3}#") for name in names(metrics.snapshot())
            )
            if n % 2:
                metrics.discard(one)

    together(4, work)
    gc.collect()
    assert metrics.snapshot().families == ()


def test_no_lock_is_held_while_a_part_is_asked():
    def stats():
        Background(lambda: Metrics.add(metrics, one)).result()
        return RateLimiter(name="real", limit=1, per=1.0).stats()

    one = breaker()
    odd = Odd(stats)
    metrics = Metrics(odd)
    assert names(metrics.snapshot()) == ["odd"]
    assert "orders" in names(metrics.snapshot())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_goes_on_although_the_parent_was_inside():
    one = breaker()
    metrics = Metrics(one)
    with metrics._parts._lock:
        thread = Background(lambda: metrics._parts._lock.acquire(timeout=0.01))  # the parent's other thread waits
        assert thread.result() is False
        in_child(lambda: Background(lambda: names(metrics.snapshot())).result() == ["orders"])


# -- prometheus_client --------------------------------------------------------------------------------------------


def test_without_prometheus_client_the_pip_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    metrics = Metrics()
    for use in (metrics.register, metrics.serve):
        with pytest.raises(MissingDependencyError, match=r"pip install 'hireliab\[prometheus\]'"):
            use()
    assert metrics.snapshot().families == ()


def test_a_histogram_becomes_cumulative():
    pytest.importorskip("prometheus_client")
    histogram = Histogram(SECONDS)
    for seconds in (0.0001, 0.004, 0.004, 100.0):
        histogram.observe(seconds)
    family = Family("x_seconds", "histogram", "X.", (Sample({"name": "a"}, histogram.snapshot()),))
    (metric,) = Bridge(lambda: MetricsSnapshot((family,), {})).collect()
    samples = {(sample.name, sample.labels.get("le")): sample.value for sample in metric.samples}
    assert samples["x_seconds_bucket", "0.0005"] == 1
    assert samples["x_seconds_bucket", "0.005"] == samples["x_seconds_bucket", "60.0"] == 3
    assert samples["x_seconds_bucket", "+Inf"] == samples["x_seconds_count", None] == 4
    assert samples["x_seconds_sum", None] == pytest.approx(100.0081)


def test_registering_twice_collects_once():
    prometheus = pytest.importorskip("prometheus_client")
    registry = prometheus.CollectorRegistry()
    one = breaker()
    metrics = Metrics(one)
    metrics.register(registry)
    metrics.register(registry)
    text = prometheus.generate_latest(registry).decode()
    assert text.count('hireliab_breaker_trips_total{name="orders"} 0.0') == 1


@pytest.mark.parametrize("port", [-1, 65536, "9464", 1.5, True])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ConfigError):
        Metrics().serve(port)


def test_a_registry_has_one_metrics_only():
    prometheus = pytest.importorskip("prometheus_client")
    registry = prometheus.CollectorRegistry()
    Metrics().register(registry)
    with pytest.raises(ConfigError, match="add the parts to the Metrics that it collects"):
        Metrics().register(registry)


def test_what_is_described_is_what_is_collected():
    prometheus = pytest.importorskip("prometheus_client")
    one = breaker()
    bridge = Metrics(one)._bridge
    described = {metric.name: (metric.type, metric.documentation) for metric in bridge.describe()}
    for metric in bridge.collect():
        assert described[metric.name] == (metric.type, metric.documentation)
    registry = prometheus.CollectorRegistry()
    registry.register(bridge)
    assert registry.get_sample_value("hireliab_breaker_trips_total", {"name": "orders"}) == 0
    some = registry.restricted_registry(["hireliab_up"])
    assert [metric.name for metric in some.collect()] == ["hireliab_up"]
