"""The pool benchmark: what it calls a pool, whom it calls overtaken, and when a goal is reached."""

import dataclasses
import itertools
import json
import time

import pytest

from benchmarks import _pool_crowd as crowd
from benchmarks import _pool_report as report
from benchmarks import harness
from benchmarks._calls import Cost
from benchmarks._pool_crowd import Spike
from benchmarks._pool_peers import LIFO, OURS, QUEUE_POOL, Client, LifoPool, not_a_pool, open_lifo, open_ours
from benchmarks._pool_report import Findings
from benchmarks.harness import Spread

MS = 1_000_000

# -- who was overtaken --------------------------------------------------------------------------------------------


def test_who_is_served_in_the_order_of_arrival_is_not_overtaken():
    assert crowd.overtaken([(i * MS, (i + 5) * MS) for i in range(10)], 0) == 0


def test_each_turn_that_waited_while_a_later_one_was_served_is_counted_once():
    turns = [(0, 50 * MS), (1 * MS, 60 * MS), (20 * MS, 21 * MS), (22 * MS, 23 * MS), (70 * MS, 71 * MS)]
    assert crowd.overtaken(turns, 0) == 2


def test_what_may_be_noise_of_the_notes_is_not_counted():
    assert crowd.overtaken([(0, 9 * MS), (4 * MS, 1 * MS)], 5 * MS) == 0  # it came too close behind
    assert crowd.overtaken([(0, 9 * MS), (6 * MS, 8 * MS)], 5 * MS) == 0  # it was served too close before
    assert crowd.overtaken([(0, 19 * MS), (6 * MS, 8 * MS)], 5 * MS) == 1


@pytest.mark.parametrize(("order", "count"), [([0, 1, 2, 3], 0), ([3, 0, 1, 2], 3), ([0, 2, 1, 3], 1)])
def test_in_a_queue_everybody_behind_a_later_one_was_overtaken(order, count):
    assert crowd.passed(order) == count


def test_in_a_queue_at_our_pool_nobody_is_overtaken_and_who_comes_back_is_last():
    assert crowd.queue_order(open_ours) == list(range(crowd.THREADS + 1))


# -- work that was not done ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", [open_ours, open_lifo])
def test_a_pool_of_four_lends_four(opener):
    opened = opener(Client, 1, 4)
    try:
        assert not_a_pool(opened, 4) == ""
        assert not_a_pool(opened, 4) == ""  # it has given back all that it took
        assert "lends more than 3" in not_a_pool(opened, 3)
        assert "lends 4 clients, not 5" in not_a_pool(opened, 5)
    finally:
        opened.close()


def test_a_pool_that_lends_one_client_twice_is_none():
    client = Client()
    opened = open_lifo(lambda: client, 1, 2)
    assert not_a_pool(opened, 2) == "it lends a client twice"


def test_the_hand_made_pool_keeps_the_place_of_a_client_that_could_not_be_made():
    answers = iter([OSError("down"), "client"])

    def create():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pool = LifoPool(create, 1)
    with pytest.raises(OSError, match="down"):
        pool.acquire(timeout=0)
    with pool.connection() as client:
        assert client == "client"


def test_a_client_finds_out_that_two_use_it_at_once():
    client = Client()
    client.use(lambda: client.use(lambda: None))
    assert (client.served, client.shared) == (2, 1)


def test_a_crowd_that_shares_clients_does_not_count():
    def opener(create, least, most):
        client = create()
        opened = open_lifo(create, least, most)
        return dataclasses.replace(opened, use=lambda work: work(client))

    contestant = crowd.crowd("sharing", opener, seconds=0.005)
    sample = contestant.run(0)
    assert sample.operations >= crowd.THREADS
    assert "two threads at once" in contestant.check()


def test_a_crowd_that_does_not_use_its_clients_does_not_count():
    def opener(create, least, most):
        idle = Client()
        return dataclasses.replace(open_lifo(create, least, most), use=lambda work: work(idle))

    contestant = crowd.crowd("idle", opener, seconds=0.005)
    contestant.run(0)
    assert "its clients served 0" in contestant.check()


def test_every_thread_of_a_crowd_has_a_turn_also_where_all_begin_late():
    contestant = crowd.crowd(OURS, open_ours, seconds=0.0)
    assert contestant.run(0).operations == crowd.THREADS
    assert contestant.check() == ""


def test_a_crowd_whose_turns_fail_raises():
    def opener(create, least, most):
        def use(_work):
            raise ValueError("broken")

        return dataclasses.replace(open_lifo(create, least, most), use=use)

    with pytest.raises(ValueError, match="broken"):
        crowd.crowd("broken", opener, seconds=0.005).run(0)


def test_a_crowd_at_our_pool_counts_and_measures_its_waits():
    contestant = crowd.crowd(OURS, open_ours, seconds=0.1)  # a turn of all threads takes 8 ms at least
    sample = contestant.run(0)
    assert len(sample.latencies_ns) == sample.operations >= crowd.THREADS
    assert sample.extra["longest_ns"] == max(sample.latencies_ns)
    assert contestant.check() == ""


def test_a_spike_whose_threads_are_not_all_served_raises(monkeypatch):
    monkeypatch.setattr(crowd, "CONNECT", 0.0)
    monkeypatch.setattr(crowd, "USE", 0.0)
    numbers = itertools.count()

    def opener(create, least, most):
        opened = open_lifo(create, least, most)
        return dataclasses.replace(opened, use=lambda work: opened.use(work) if next(numbers) else None)

    with pytest.raises(AssertionError, match="49 of 50"):
        crowd.spike({"lazy": opener}, warm=1, rounds=1)


def test_a_spike_counts_the_clients_that_were_open_before(monkeypatch):
    monkeypatch.setattr(crowd, "CONNECT", 0.0)
    monkeypatch.setattr(crowd, "USE", 0.0)
    (found,) = crowd.spike({LIFO: open_lifo}, warm=5, rounds=2)
    assert 5 <= found.opened.low <= found.opened.high <= crowd.SPIKE_LIMIT
    assert 0 < found.half_served.median <= found.all_served.median < time.perf_counter()


# -- goals --------------------------------------------------------------------------------------------------------


def test_a_spike_may_open_what_little_needs_and_two_more():
    assert [crowd.bound(warm) for warm in (0, 1, 5, 49)] == [3, 3, 7, 50]


def cost(name, ns, problem=""):
    return Cost(name=name, nanoseconds=Spread(median=ns, low=ns * 0.9, high=ns * 1.1), ratio=1.0, problem=problem)


def result(name, rate, problem=""):
    return harness.Result(
        name=name, rounds=5, operations=9000, rate=Spread(median=rate, low=rate, high=rate), mean=1.0, p50=8.1, p95=9.0,
        p99=12.0, extra={}, checked=not problem, problem=problem,
    )  # fmt: skip


def spike(name, warm, opened):
    seconds = Spread(median=0.2, low=0.1, high=0.3)
    return Spike(
        name=name, warm=warm, opened=Spread(median=opened, low=opened, high=opened), all_served=seconds,
        half_served=seconds,
    )  # fmt: skip


def findings(**changes):
    names = (OURS, LIFO, QUEUE_POOL)
    found = Findings(
        rounds=15,
        load="load of the machine: 0.4 before, 1.1 after, on 2 cores",
        alone=[cost(LIFO, 1400), cost(OURS, 1200), cost(f"{OURS}, {report.WITH}", 1300), cost(QUEUE_POOL, 5000)],
        crowd=[result(OURS, 3600), result(LIFO, 3500), result(QUEUE_POOL, 3500)],
        longest_ms={OURS: 12.0, LIFO: 1500.0, QUEUE_POOL: 1500.0},
        overtaken={OURS: 0, LIFO: 28, QUEUE_POOL: 28},
        order={OURS: 0, LIFO: 32, QUEUE_POOL: 32},
        spikes=[spike(name, warm, crowd.bound(warm) if name == OURS else 50) for warm in (5, 0) for name in names],
    )
    return dataclasses.replace(found, **changes)


def missed(found):
    return [goal.what for goal in report.goals(found) if goal.reached is not True]


def test_goals_that_are_reached():
    assert len(report.goals(findings())) == 7
    assert missed(findings()) == []


@pytest.mark.parametrize(
    ("changes", "which"),
    [
        ({"alone": [cost(OURS, 1510), cost(QUEUE_POOL, 9000)]}, "acquire and release"),
        ({"alone": [cost(OURS, 1200), cost(QUEUE_POOL, 4700)]}, "as a multiple"),
        ({"crowd": [result(OURS, 3400), result(LIFO, 3500)]}, "throughput"),
        ({"overtaken": {OURS: 1}}, "turns that were overtaken"),
        ({"order": {OURS: 1}}, "a queue of 32"),
        ({"spikes": [spike(OURS, 5, 8)]}, "from 5"),
        ({"spikes": [spike(OURS, 0, 4)]}, "from 0"),
    ],
)
def test_a_goal_that_is_just_missed_is_missed(changes, which):
    (one,) = missed(findings(**changes))
    assert which in one


def test_figures_that_do_not_count_reach_no_goal_and_are_named():
    found = findings(
        alone=[cost(LIFO, 1400), cost(OURS, 1200, "it lends a client twice")],
        crowd=[result(OURS, 3600, "idle"), result(LIFO, 3500)],
        spikes=[],
    )
    assert {goal.measured for goal in report.goals(found) if goal.reached is None} == {"not measured"}
    assert len(missed(found)) == 4
    assert found.problems() == (f"one thread, {OURS}: it lends a client twice", f"32 threads, {OURS}: idle")


def test_the_report_has_the_ratios_first_says_where_it_loses_and_fits():
    lines = list(report.lines(findings(crowd=[result(OURS, 3000), result(LIFO, 3600), result(QUEUE_POOL, 3500)])))
    assert max(map(len, lines)) <= harness.WIDTH
    assert lines[2:4] == [f"{OURS}, against {QUEUE_POOL}:", "  4.2x (our worst round against their best: 3.4x)"]
    text = "\n".join(lines)
    assert text.index("0.83x") < text.index("Goals") < text.index("One thread")
    assert f"{LIFO}, 32 threads: 1.20 x as many turns" in text
    assert "32 of 33" in text


def test_who_loses_nowhere_says_so():
    even = [spike(name, 5, 7) for name in (OURS, LIFO)]
    assert "hireliab loses to nobody here." in list(report.losses(findings(spikes=even)))


def test_who_was_not_measured_does_not_win():
    found = findings(alone=[cost(OURS, 1200, "idle")], crowd=[result(OURS, 3600, "idle")], spikes=[])
    assert list(report.losses(found)) == ["hireliab was not measured."]


def test_the_figures_are_json():
    data = json.loads(json.dumps(report.plain(findings())))
    assert data["goals"][0]["reached"] is True
    assert data["crowd"][1]["longest_ms"] == 1500.0


def test_it_is_known_to_the_command_line():
    from benchmarks.__main__ import BENCHMARKS

    assert callable(BENCHMARKS["pool"])
