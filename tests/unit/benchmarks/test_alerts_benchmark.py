import dataclasses

import pytest

from benchmarks import harness
from benchmarks._alerts_report import Burst, Delivery, Findings, goals, lines, losses, plain
from benchmarks._alerts_worker import CONTESTANTS, HIRELIAB, PEERS, POOL

SPOOLED = HIRELIAB[1]


def result(name, microseconds, problem=""):
    at = microseconds / 1000
    rate = harness.Spread(median=1e6 / microseconds, low=1e6 / microseconds, high=1e6 / microseconds)
    return harness.Result(
        name=name, rounds=1, operations=1, rate=rate, mean=at, p50=at, p95=at, p99=at, extra={}, checked=not problem,
        problem=problem,
    )  # fmt: skip


@pytest.fixture
def found():
    return Findings(
        rounds=1,
        hung=6,
        load="load of the machine: unknown",
        calls=[result(name, 100.0 if name in HIRELIAB else 10.0) for name in CONTESTANTS],
        deliveries=[
            Delivery(name=name, hung=hung, took_ms=[3.0, None] if name in PEERS and hung else [3.0, 5.0], problem="")
            for name in (SPOOLED, *PEERS)
            for hung in (0, 6)
        ],
        bursts=[
            Burst(name=name, calls=10, seconds=1.0, grown_mib=1.0, sends=1, problem="") for name in (*HIRELIAB, POOL)
        ],
    )


def reached(found):
    return {goal.what.strip(): goal.reached for goal in goals(found)}


def test_an_alert_that_never_came_is_lost_and_in_no_median():
    one = Delivery(name="x", hung=0, took_ms=[1.0, None, 3.0], problem="")
    assert (one.lost, one.median, one.longest) == (1, 2.0, 3.0)
    none = Delivery(name="x", hung=0, took_ms=[None], problem="")
    assert (none.lost, none.median, none.longest) == (1, None, None)


def test_goals_are_reached_or_not_and_unknown_where_nothing_counts(found):
    assert set(reached(found).values()) == {True}
    slow = dataclasses.replace(found, calls=[result(name, 300.0) for name in CONTESTANTS])
    assert reached(slow)["send_alert below ERROR while all hang, p99"] is False
    wrong = dataclasses.replace(found, calls=[result(name, 1.0, "broken") for name in CONTESTANTS])
    assert reached(wrong)["send_alert below ERROR while all hang, p99"] is None
    lost = [dataclasses.replace(one, took_ms=[None]) if one.name == SPOOLED else one for one in found.deliveries]
    assert reached(dataclasses.replace(found, deliveries=lost))["alerts that never came there"] is False
    twice = [dataclasses.replace(one, sends=3) for one in found.bursts]
    assert reached(dataclasses.replace(found, bursts=twice))["a storm of one alert: messages"] is False


def test_what_does_not_count_is_a_problem_and_says_so(found):
    wrong = dataclasses.replace(found, calls=[result(name, 1.0, "broken") for name in CONTESTANTS])
    assert len(wrong.problems()) == len(CONTESTANTS)
    assert any("NOT COUNTED" in line for line in lines(wrong))
    assert found.problems() == ()


def test_where_hireliab_loses_is_said(found):
    assert any("10.0 x as fast" in line for line in losses(found))


def test_whose_calls_do_not_count_does_not_win(found):
    calls = [result(name, 100.0, "an alert was not accepted" if name in HIRELIAB else "") for name in CONTESTANTS]
    (one,) = losses(dataclasses.replace(found, calls=calls, deliveries=[]))
    assert one == "hireliab was not measured."


def test_lines_fit_and_figures_are_plain(found):
    assert max(map(len, lines(found))) <= harness.WIDTH
    assert {"goals", "calls", "deliveries", "bursts"} <= set(plain(found))
