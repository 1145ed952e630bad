"""``alerts.watch``: what a breaker, a pool and a pipeline tell."""

import pytest

from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.errors import ConfigError, PoolError
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.transaction import Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.monitoring.alert import AlertLevel
from hireliab.testing import ScriptedExchange
from tests.support.alerts import Scripted, system
from tests.support.pipeline import decide, finish, market


@pytest.fixture
def mine():
    return Scripted()


@pytest.fixture
def alerts(clock, mine):
    made = system(clock, mine=mine)
    with made:
        yield made


def rest(clock):
    clock.wait_parked(2)


def fail():
    raise OSError("connection refused")


def test_a_breaker_that_opens_is_told_and_so_is_its_closing(clock, alerts, mine):
    breaker = CircuitBreaker(name="api", failure_threshold=2, reset_timeout=10.0, clock=clock)
    alerts.watch(breaker)
    for _ in range(2):
        with pytest.raises(OSError, match="refused"):
            breaker.execute(fail)
    rest(clock)
    (opened,) = mine.alerts
    assert (opened.level, opened.title) == (AlertLevel.ERROR, "circuit breaker 'api' is open")
    assert "connection refused" in opened.message
    clock.advance(10.0)
    breaker.execute(lambda: None)
    rest(clock)
    assert [alert.resolved for alert in mine.alerts] == [False, True]
    assert mine.alerts[1].message.startswith("it is closed again")


def test_a_breaker_that_would_have_opened_is_a_warning(clock, alerts, mine):
    breaker = CircuitBreaker(name="api", failure_threshold=1, mode="metrics_only", clock=clock)
    alerts.watch(breaker)
    with pytest.raises(OSError, match="refused"):
        breaker.execute(fail)
    rest(clock)
    assert [(one.level, one.title) for one in mine.alerts] == [
        (AlertLevel.WARNING, "circuit breaker 'api' would have opened")
    ]


def test_a_breaker_that_a_person_isolates_is_told(clock, alerts, mine):
    breaker = CircuitBreaker(name="api", clock=clock)
    alerts.watch(breaker)
    breaker.isolate()
    rest(clock)
    breaker.reset()
    rest(clock)
    assert [(one.title, one.resolved) for one in mine.alerts] == [
        ("circuit breaker 'api' is isolated", False),
        ("circuit breaker 'api' is isolated", True),
    ]


def test_a_pool_that_is_exhausted_or_down_is_told(alerts, mine):
    broken = [False]

    def make():
        if broken[0]:
            raise OSError("no route")
        return object()

    pool = ConnectionPool(
        name="venue",
        create_client_func=make,
        config={"min_connections": 0, "max_connections": 1, "connection_timeout": 0.01},
    )
    alerts.watch(pool)
    pool.initialize()
    try:
        with pool.connection(), pytest.raises(PoolError), pool.connection(timeout=0.0):
            pass
        titles = _wait_for(mine, 1)
        assert titles == ["connection pool 'venue' is exhausted"]
    finally:
        pool.stop()


class Pool:
    """As `watch` sees a pool."""

    def add_listener(self, listener):
        self.tell = listener


class Event:
    def __init__(self, pool, kind, reason=None):
        self.pool, self.kind, self.reason = pool, kind, reason


def test_what_a_pool_tells(clock, alerts, mine):
    pool = Pool()
    alerts.watch(pool)
    for kind, reason in (("created", None), ("down", "OSError"), ("discarded", "x"), ("leaked", "bot.py:7")):
        pool.tell(Event("venue", kind, reason))
        rest(clock)
    pool.tell(Event("venue", "up"))
    rest(clock)
    pool.tell(Event("venue", "exhausted", "full"))
    rest(clock)
    assert [(one.title, one.resolved) for one in mine.alerts] == [
        ("connection pool 'venue' is down", False),
        ("connection pool 'venue' leaks", False),
        ("connection pool 'venue' is down", True),
        ("connection pool 'venue' is exhausted", False),
    ]
    assert "bot.py:7" in mine.alerts[1].message


class Pipeline:
    """As `watch` sees a pipeline."""

    def add_alert_system(self, sink):
        self.sink = sink


def tell(pipeline, level="error", verdict="UNKNOWN", txn="T1"):
    pipeline.sink.send_alert(
        source="execution",
        level=level,
        title="limit buy BTC/USDT: unknown",
        message="no answer",
        context={"transaction_id": txn, "verdict": verdict},
    )


def test_an_unknown_outcome_stands_until_it_is_decided(clock, alerts, mine):
    pipeline = Pipeline()
    alerts.watch(pipeline)
    tell(pipeline, txn="T1")
    tell(pipeline, txn="T2")
    rest(clock)
    assert [one.dedup_key for one in mine.alerts] == ["transaction:T1", "transaction:T2"]
    pipeline.sink.decided("T1", "COMPLETED")
    rest(clock)
    assert (mine.alerts[2].resolved, mine.alerts[2].message) == (True, "decided: COMPLETED")
    pipeline.sink.decided("T3", "COMPLETED")
    rest(clock)
    assert len(mine.alerts) == 3


def test_what_is_decided_already_is_an_event(clock, alerts, mine):
    pipeline = Pipeline()
    alerts.watch(pipeline)
    tell(pipeline, level="critical", verdict="PARTIAL")
    pipeline.sink.send_alert(source="execution", level="critical", title="Trading is halted", message="m", context=None)
    rest(clock)
    assert [one.dedup_key for one in mine.alerts] == [None, None]


def test_a_real_pipelines_unknown_outcome_is_told_and_resolved(clock, tmp_path, mine):
    exchange = ScriptedExchange(clock=clock)
    made = system(clock, mine=mine)
    pipeline = TransactionVerificationPipeline(
        exchange_adapter=exchange,
        journal=tmp_path / "journal",
        clock=clock,
        verification_timeout=2.0,
        operator_interval=None,
    )
    made.watch(pipeline)
    with made, pipeline:
        exchange.script.append("fill_answer_lost")
        exchange.blind = ConnectionError("cut")
        transaction = market(pipeline)
        assert finish(clock, pipeline, transaction).verdict is Verdict.UNKNOWN
        exchange.blind = None
        decide(clock, transaction)
    unknown = [one for one in mine.alerts if one.dedup_key == f"transaction:{transaction.id}"]
    assert [one.resolved for one in unknown] in ([False, True], [True])
    assert unknown[-1].message == "decided: COMPLETED"


@pytest.mark.parametrize("thing", [None, 7, object(), "breaker"])
def test_what_cannot_be_watched_is_named(alerts, thing):
    with pytest.raises(ConfigError, match=f"watch: {type(thing).__name__} cannot be watched; give a CircuitBreaker"):
        alerts.watch(thing)


def _wait_for(mine, count):
    import time

    give_up = time.monotonic() + 10.0
    while len(mine.alerts) < count and time.monotonic() < give_up:
        time.sleep(0.001)
    return mine.titles
