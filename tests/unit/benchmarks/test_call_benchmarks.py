"""What the benchmarks of single calls count, and what they do not."""

from benchmarks import _calls
from benchmarks._calls import Subject
from benchmarks.harness import Spread


def subject(name="a", call=_calls.work, problem="", **settings):
    return Subject(name=name, call=call, check=lambda: problem, **settings)


def test_the_first_is_what_the_others_are_compared_with():
    costs = _calls.measure([subject("bare"), subject("other")], rounds=2, calls=50)
    assert [cost.name for cost in costs] == ["bare", "other"]
    assert costs[0].ratio is None
    assert costs[1].ratio > 0
    assert all(cost.nanoseconds.low > 0 for cost in costs)


def test_slow_ones_make_fewer_calls_and_are_called_as_they_wish():
    made = []
    _calls.measure([subject(call=lambda: made.append(1), takes=False, share=0.1)], rounds=2, calls=50)
    assert len(made) == 3 * 5


def test_work_that_was_not_done_is_marked_and_a_problem_of_the_report():
    costs = _calls.measure([subject("bare"), subject("idle", problem="did nothing")], rounds=1, calls=5)
    assert _calls.rows(costs)[1][0] == "idle NOT COUNTED"
    report = _calls.report("T", ["ratio"], [], ["table"], {"group": costs}, more=1)
    assert report.problems == ("group, idle: did nothing",)
    assert report.lines[:3] == ("T", "=", "ratio")
    assert report.lines[-1] == "table"
    assert report.data["goals"] == []
    assert report.data["more"] == 1
    assert [row["name"] for row in report.data["group"]] == ["bare", "idle"]


def cost(name, ns, ratio=None, problem=""):
    return _calls.Cost(name=name, nanoseconds=Spread(median=ns, low=ns, high=ns), ratio=ratio, problem=problem)


def test_goals_are_held_to_the_medians_and_to_what_counts():
    costs = [
        cost("bare", 40),
        cost("hireliab", 100, 2.5),
        cost("peer", 1000, 25.0),
        cost("idle", 9, 0.2, "did nothing"),
    ]
    assert _calls.bare_goal("a call", costs, "hireliab", most=2).reached is False
    assert _calls.bare_goal("a call", costs, "hireliab", most=3).measured == "2.5 x its time"
    found = _calls.peer_goal("a call", costs, "hireliab", "peer", least=10)
    assert (found.what, found.wanted, found.measured, found.reached) == (
        "a call: against peer",
        ">= 10.0 x",
        "10.0 x",
        True,
    )
    assert _calls.peer_goal("a call", costs, "hireliab", "idle", least=1).reached is None
    assert _calls.peer_goal("a call", costs, "hireliab", "missing", least=1).reached is None
    assert _calls.peer_goal("a call", costs, "idle", "peer", least=1).reached is None
    assert _calls.cost_goal("a call", costs[1], "{:.2f} us", most=0.05).reached is False
    assert _calls.cost_goal("a call", None, "{:.2f} us", most=1).reached is None


def test_a_breaker_that_does_not_open_or_does_not_return_is_found_out():
    assert _calls.opens(_calls.work, _calls.broken)() == "100 failures did not open it"
    assert "return" in _calls.opens(lambda _: None, _calls.broken)()

    def refuses(_):
        raise RuntimeError("open")

    assert _calls.opens(_calls.work, refuses)() == ""


def test_nobody_is_compared_with_figures_that_do_not_count():
    costs = [cost("hireliab", 100, 2.5), cost("peer", 1000, 25.0), cost("idle", 9, 0.2, "did nothing")]
    assert _calls.against(costs, "hireliab", "peer") == "10.0 x as fast as peer"
    assert _calls.against(costs, "hireliab", "idle") == "idle: not counted"
    assert _calls.against(costs, "idle", "peer") == "peer: not compared, idle is not counted"


def test_missing_peers_are_named():
    lines = _calls.missing({"no-such-peer": "it needs another Python", "pytest": ""})
    assert lines[0].startswith("peers: pytest ")
    assert "no-such-peer (it needs another Python)" in lines[1]
    assert _calls.peer("no_such_peer") is None
    assert _calls.against([], "hireliab", "no-such-peer") == "no-such-peer: not installed"
