"""Records of runs: how they are joined, and what they say of themselves."""

import pytest

from benchmarks._record import Record, RecordError, header


def run(*names, cpu="a CPU", **more):
    facts = {"date": "2026-01-02 03:04 UTC", "commit": "abc", "changed": False, "load": [0.5, 1.25], "note": "", **more}
    return {"machine": {"cpu": cpu, "disk": more.get("disk", "a disk")}, "benchmarks": list(names), **facts}


def record(*names, problems=(), **more):
    return Record(
        runs=[run(*names, **more)],
        benchmarks={name: {"of": more.get("date", "first")} for name in names},
        reports={name: [name] for name in names},
        problems=list(problems),
    )


def test_what_comes_later_replaces_the_same_benchmark_and_leaves_the_others():
    found = record("pool", "bus", problems=["bus: FAILED: x", "pool: slow"])
    found.add(record("bus", date="later"))
    assert found.benchmarks == {"pool": {"of": "first"}, "bus": {"of": "later"}}
    assert [one["benchmarks"] for one in found.runs] == [["pool"], ["bus"]]
    assert found.problems == ["pool: slow"]


def test_a_run_of_which_nothing_is_left_is_forgotten():
    found = record("bus")
    found.add(record("bus", date="later"))
    assert [one["date"] for one in found.runs] == ["later"]


def test_a_benchmark_that_failed_leaves_the_older_figures():
    found = record("bus")
    found.add(Record(runs=[run()], problems=["bus: FAILED: no broker"]))
    assert list(found.benchmarks) == ["bus"]
    assert found.problems == ["bus: FAILED: no broker"]


def test_a_failure_is_told_until_a_later_file_has_the_figures():
    found = record("pool", problems=["bus: FAILED: no broker"])
    found.add(record("http", date="later"))
    assert found.problems == ["bus: FAILED: no broker"]
    found.add(record("bus", date="last"))
    assert found.problems == []


def test_the_chosen_benchmarks_keep_their_own_problems_alone():
    found = record("pool", "bus", problems=["bus: lost a message", "pool: slow"])
    found.keep(["pool"])
    assert (list(found.benchmarks), found.problems) == (["pool"], ["pool: slow"])


def test_two_machines_do_not_stand_in_one_report():
    found = record("pool")
    with pytest.raises(RecordError, match="two machines in one report: cpu is 'a CPU' and 'another'"):
        found.add(record("bus", cpu="another"))


def test_a_disk_may_have_another_time():
    found = record("pool")
    found.add(record("bus", disk="another time"))
    assert len(found.runs) == 2


def test_the_header_has_the_machine_once_and_a_line_for_each_run():
    found = record("pool")
    found.add(record("bus", changed=True, load=None, note="by hand"))
    assert header(found) == [
        "cpu     a CPU",
        "disk    a disk",
        "run     2026-01-02 03:04 UTC, commit abc, load 0.5 before, 1.2 after",
        "        of pool",
        "run     2026-01-02 03:04 UTC, commit abc and changes, load unknown",
        "        of bus",
        "        by hand",
    ]
