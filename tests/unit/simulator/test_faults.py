import pytest

from hireliab.simulator.faults import KINDS, FaultError, FaultPlan

ADD = ("POST", "/market/orders/add", "user")


def fates(plan, calls, route=ADD):
    return [None if fault is None else fault.kind for fault in (plan.decide(*route) for _ in range(calls))]


def test_nth_fires_once_and_every_fires_again_and_again():
    plan = FaultPlan()
    plan.add({"kind": "reset", "nth": 2})
    plan.add(kind="http_500", every=3)
    assert fates(plan, 6) == [None, "reset", "http_500", None, None, "http_500"]


def test_count_bounds_how_often_a_rule_fires():
    plan = FaultPlan()
    plan.add(kind="reset", count=2)
    assert fates(plan, 4) == ["reset", "reset", None, None]


def test_the_same_seed_and_calls_give_the_same_faults():
    def run(seed):
        plan = FaultPlan(seed)
        plan.add(kind="reset", probability=0.3)
        plan.add(kind="http_500", probability=0.3)
        return fates(plan, 200)

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert 30 < run(7).count("reset") < 90


def test_a_rule_draws_for_every_matching_call_whether_or_not_another_fired():
    alone, behind = FaultPlan(1), FaultPlan(1)
    alone.add(kind="delay", count=1, nth=1000)
    alone.add(kind="reset", probability=0.5)
    behind.add(kind="delay", every=2)
    behind.add(kind="reset", probability=0.5)
    pairs = zip(fates(alone, 50), fates(behind, 50), strict=True)
    assert all(second == "delay" if i % 2 else first == second for i, (first, second) in enumerate(pairs))


@pytest.mark.parametrize(
    ("route", "matches"),
    [
        ("*", True),
        ("POST /market/orders/add", True),
        ("GET /market/orders/add", False),
        ("/market/orders/*", True),
        ("/market", True),
        ("/users", False),
    ],
)
def test_a_route_is_a_method_and_a_prefix(route, matches):
    plan = FaultPlan()
    plan.add(route=route, kind="reset")
    assert (plan.decide(*ADD) is not None) is matches


def test_a_rule_can_be_for_one_account():
    plan = FaultPlan()
    plan.add(kind="reset", account="second")
    assert plan.decide(*ADD) is None
    assert plan.decide("GET", "/v2/wallets", "second") is not None


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({}, "request_lost"),
        ({"kind": "nope"}, "request_lost"),
        ({"kind": "reset", "nht": 2}, "nht"),
        ({"kind": "reset", "nth": 0}, "whole number"),
        ({"kind": "reset", "nth": 2, "every": 2}, "only one"),
        ({"kind": "reset", "probability": 2}, "0 to 1"),
        ({"kind": "answer_lost", "processed": False}, "always true"),
        ({"kind": "reset", "variant": "cut"}, "none"),
        ({"kind": "reset", "route": "add"}, "slash"),
        ({"kind": "delay", "seconds": -1}, "at least 0"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_name(rule, named):
    with pytest.raises(FaultError, match=named):
        FaultPlan().add(rule)


def test_of_several_rules_all_are_added_or_none():
    plan = FaultPlan()
    with pytest.raises(FaultError):
        plan.add_all([{"kind": "reset"}, {"kind": "nope"}])
    assert plan.as_json() == []
    assert plan.add_all([{"kind": kind} for kind in KINDS]) == list(range(1, len(KINDS) + 1))


def test_rules_are_removed_one_by_one_or_all():
    plan = FaultPlan()
    first, second = plan.add(kind="reset"), plan.add(kind="delay")
    plan.clear(first)
    assert [rule["id"] for rule in plan.as_json()] == [second]
    plan.clear()
    assert plan.decide(*ADD) is None
