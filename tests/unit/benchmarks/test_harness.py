"""The harness: turns, warm-up, figures, checks and tables."""

import json

import pytest

from benchmarks import harness
from benchmarks.harness import Contestant, Sample


def sample(operations=2, elapsed_ns=1_000_000_000, latencies_ns=(1_000_000, 3_000_000), **extra):
    return Sample(operations=operations, elapsed_ns=elapsed_ns, latencies_ns=latencies_ns, extra=extra)


def contestant(name="a", run=lambda _: sample(), problem=""):
    return Contestant(name=name, run=run, check=lambda: problem)


def result(rates, name="a", problem=""):
    samples = [sample(operations=rate, latencies_ns=(1,) * rate) for rate in rates]
    return harness.summarise(contestant(name, problem=problem), samples)


def test_contestants_take_turns_and_the_order_is_reversed_each_round():
    turns = []

    def runner(name):
        def run(number):
            turns.append((number, name))
            return sample()

        return run

    harness.interleave([contestant(n, runner(n)) for n in "ab"], rounds=2)
    assert turns == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]


def test_the_warm_up_is_thrown_away():
    (taken,) = harness.interleave([contestant(run=lambda number: sample(operations=number + 10))], rounds=3)
    assert [s.operations for s in taken] == [11, 12, 13]


def test_each_contestant_keeps_its_own_samples():
    a, b = harness.interleave(
        [contestant("a", lambda _: sample(operations=1)), contestant("b", lambda _: sample(operations=2))], rounds=2
    )
    assert [s.operations for s in a] == [1, 1]
    assert [s.operations for s in b] == [2, 2]


def test_a_rate_is_operations_by_wall_time_with_median_least_and_most():
    samples = [sample(operations=n, elapsed_ns=500_000_000) for n in (10, 40, 20)]
    rate = harness.summarise(contestant(), samples).rate
    assert (rate.low, rate.median, rate.high) == (20.0, 40.0, 80.0)
    assert rate.text() == "40 (20-80)"


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (95, 95), (99, 99), (100, 100), (0, 1), (99.5, 100)])
def test_percentiles_are_by_nearest_rank(percent, expected):
    assert harness.percentile(range(1, 101), percent) == expected


def test_the_percentile_of_one_value_is_that_value():
    assert harness.percentile([7], 50) == harness.percentile([7], 99) == 7


def test_latencies_are_over_all_rounds_and_in_milliseconds():
    samples = [sample(latencies_ns=(9_000_000, 1_000_000)), sample(latencies_ns=(2_000_000, 4_000_000))]
    found = harness.summarise(contestant(), samples)
    assert (found.p50, found.p99, found.mean) == (2.0, 9.0, 4.0)


def test_further_figures_are_for_each_operation():
    samples = [sample(operations=2, commits=6.0), sample(operations=4, commits=3.0)]
    assert harness.summarise(contestant(), samples).extra == {"commits": 1.5}


def test_work_that_was_not_done_does_not_count():
    assert result([5]).checked
    failed = result([5], problem="4 of 5 exist")
    assert not failed.checked
    assert failed.problem == "4 of 5 exist"


def test_the_check_runs_once_after_all_rounds():
    checks = []
    entry = Contestant(name="a", run=lambda _: sample(), check=lambda: checks.append(1) or "")
    (taken,) = harness.interleave([entry], rounds=2)
    assert checks == []
    harness.summarise(entry, taken)
    assert checks == [1]


def test_the_ratio_is_ours_by_theirs_and_its_worst_is_our_worst_against_their_best():
    share = harness.ratio(result([20, 10, 30]), result([100, 80, 200]))
    assert share.median == 0.2
    assert share.worst == 0.05
    assert share.text().startswith("0.20x")


def test_a_table_is_aligned_words_left_and_numbers_right():
    lines = harness.table("T", ("bot", "ms"), [("bare", "1.0"), ("a longer name", "12.5")])
    assert lines == [
        "T",
        "bot              ms",
        "-------------  ----",
        "bare            1.0",
        "a longer name  12.5",
    ]


def test_the_header_names_what_the_figures_depend_on(tmp_path):
    facts = harness.machine(tmp_path, syncs=2)
    assert list(facts) == ["cpu", "system", "python", "sqlite", "disk"]
    assert all(facts.values())
    assert "fdatasync" in facts["disk"]
    assert len(harness.header(facts)) == 5


def test_tables_name_who_is_not_counted_and_count_threads():
    assert [harness.named("pika", problem) for problem in ("", "lost")] == ["pika", "pika NOT COUNTED"]
    assert [harness.threads(number) for number in (1, 8)] == ["1 thread", "8 threads"]


def test_a_result_is_plain_data():
    json.dumps(harness.plain(result([1, 2])))


def test_the_load_of_the_machine_is_told_where_it_is_known():
    line = harness.load_line(0.25, 3.0)
    assert line.startswith("load of the machine: 0.2 before, 3.0 after, on ")
    assert harness.load_line(None, 3.0) == "load of the machine: unknown"
    assert harness.load() is None or harness.load() >= 0
