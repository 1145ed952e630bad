"""The benchmark of ``import hireliab``: what it compares, and what makes it not count."""

from benchmarks import imports
from benchmarks.harness import Spread
from benchmarks.imports import BARE, OURS, Started


def started(name, ms, problem=""):
    return Started(name=name, ms=Spread(median=ms, low=ms, high=ms), problem=problem)


def test_each_program_is_measured_beside_a_bare_interpreter(monkeypatch):
    monkeypatch.setattr(imports, "CODE", {BARE: "pass", OURS: "pass", "broken": "raise SystemExit('no such module')"})
    monkeypatch.setattr(imports, "foreign_modules", list)
    found, added = imports.measure(rounds=1)
    assert [one.name for one in found] == [BARE, OURS, "broken"]
    assert all(one.ms.median > 0 for one in found)
    assert [bool(one.problem) for one in found] == [False, False, True]
    assert "no such module" in found[2].problem
    assert set(added) == {OURS, "broken"}


def test_a_module_of_somebody_else_makes_it_not_count(monkeypatch):
    monkeypatch.setattr(imports, "CODE", {BARE: "pass", OURS: "pass"})
    monkeypatch.setattr(imports, "foreign_modules", lambda: ["requests"])
    found, added = imports.measure(rounds=1)
    assert found[1].problem == "it loads modules of others: requests"
    assert imports.goals(found, added)[0].reached is None


def test_import_hireliab_loads_nobody_elses_modules():
    assert imports.foreign_modules() == []


def test_the_goal_is_what_it_adds():
    both = [started(BARE, 10.0), started(OURS, 25.0)]
    assert imports.goals(both, {OURS: 10.04})[0].reached is True
    assert imports.goals(both, {OURS: 10.06})[0].reached is False


def test_a_start_that_does_not_count_is_compared_with_nobody():
    def said(problem):
        found = [started(BARE, 10.0), started(OURS, 20.0, problem)]
        return [
            line for line in imports._lines(found, {OURS: 10.0}, [], 2) if line.startswith("import hireliab, against")
        ]

    assert said("") == [f"import hireliab, against {BARE}: 0.50x"]
    assert said("it loads modules of others: requests") == []
