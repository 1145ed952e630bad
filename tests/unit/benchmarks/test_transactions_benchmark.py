"""The transactions benchmark: what it calls done work, what it counts, and when a goal is reached."""

import dataclasses
import importlib.metadata
import io
import json
from decimal import Decimal

import pytest

from benchmarks import _transactions_bots as bots
from benchmarks import _transactions_report as report
from benchmarks import _transactions_worker as worker
from benchmarks import harness, transactions
from benchmarks._transactions_bots import COMPLETED, OURS, Outcome, amount_of, key_of, undone
from benchmarks._transactions_recovery import DeafAdapter, Recovery
from benchmarks._transactions_report import Cell, Findings, Flight
from benchmarks._transactions_stub import StubAdapter, StubExchange
from hireliab.errors import OutcomeUnknownError
from hireliab.exchange.adapter import Absent, Found, OrderStatus, Unavailable

# -- work that was not done ---------------------------------------------------------------------------------------


def traded(exchange, number=1, **changes):
    """An order at the stub, and what an honest contestant says of it."""
    state = exchange.place(f"c-{number}", "buy", amount_of(number))
    exchange.read(state.order_id)
    told = Outcome(
        key=key_of(number),
        client_order_id=f"c-{number}",
        order_id=state.order_id,
        filled=state.filled,
        verdict=COMPLETED,
    )
    return dataclasses.replace(told, **changes)


def judged(exchange, outcomes, **changes):
    return undone(outcomes, exchange.orders(), **({"calls": exchange.calls, "stored": len(outcomes)} | changes))


def test_honest_work_is_done():
    exchange = StubExchange()
    assert judged(exchange, [traded(exchange, 2), traded(exchange, 1)]) == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"verdict": "UNKNOWN"}, "did not end completed"),
        ({"order_id": "7"}, "the contestant says"),
        ({"client_order_id": "other"}, "the contestant says"),
        ({"filled": Decimal("0.5")}, "the contestant says"),
    ],
)
def test_a_contestant_that_says_something_else_than_the_exchange_does_not_count(changes, why):
    exchange = StubExchange()
    assert why in judged(exchange, [traded(exchange, **changes)])


def test_an_order_sent_twice_does_not_count():
    exchange = StubExchange()
    told = traded(exchange)
    exchange.place("c-1", "buy", amount_of(1))
    assert "holds 2 orders" in judged(exchange, [told])


def test_an_order_that_was_never_placed_does_not_count():
    exchange = StubExchange()
    told = Outcome(key=key_of(4), client_order_id="c", order_id="1", filled=amount_of(4), verdict=COMPLETED)
    assert "holds 0 orders" in judged(exchange, [told])


def test_an_order_that_nobody_asked_for_does_not_count():
    exchange = StubExchange()
    told = traded(exchange)
    exchange.place("stray", "buy", amount_of(9))
    assert "were not asked for" in judged(exchange, [told])


def test_an_order_that_is_not_in_the_file_does_not_count():
    exchange = StubExchange()
    assert "0 are in its file" in judged(exchange, [traded(exchange)], stored=0)


def test_a_contestant_that_does_not_read_the_order_back_does_not_count():
    exchange = StubExchange()
    assert "1 calls for 1 orders" in judged(exchange, [traded(exchange)], calls=1)


def test_an_order_whose_call_raised_does_not_count():
    exchange = StubExchange()
    assert "ValueError: locked" in judged(exchange, [bots.failed(1, ValueError("locked"))])


# -- contestants --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hireliab", "hireliab relaxed", "naive"])
def test_a_contestant_does_its_work_and_leaves_it_in_its_file(name, tmp_path):
    exchange = StubExchange()
    bot = bots.BOTS[name](exchange, tmp_path / "data")
    try:
        assert bot.facts()
        outcomes = [bot.trade(number) for number in (1, 2, 3)]
    finally:
        stored = bot.close()
    assert judged(exchange, outcomes, stored=stored) == ""


def test_hireliab_tells_how_its_writing_connection_is_set(tmp_path):
    bot = bots.BOTS[OURS](StubExchange(), tmp_path)
    try:
        facts = bot.facts()
    finally:
        bot.close()
    assert (facts["journal_mode"], facts["synchronous"]) == ("wal", 2)


def test_a_worker_answers_each_line_and_counts_every_order_of_a_round(tmp_path):
    commands = io.StringIO(
        '{"do": "facts"}\n{"do": "round", "threads": 3, "latency": 0, "seconds": 0.01}\n{"do": "close"}\n'
    )
    output = io.StringIO()
    worker.serve("naive", tmp_path, commands, output)
    hello, facts, told, end = map(json.loads, output.getvalue().splitlines())
    assert "pid" in hello
    assert "fsync" in facts
    assert told["operations"] == len(told["latencies_ns"]) >= 3
    assert told["began"] <= told["ended"]
    assert end == {"problem": ""}


def test_the_latencies_of_a_round_are_not_counted_again_in_the_next():
    tally = bots.Tally()
    numbers = [tally.take(), tally.take()]
    tally.note(bots.failed(numbers[0], ValueError()), 5)
    assert (numbers, tally.round(), tally.round()) == ([1, 2], [5], [])
    assert len(tally.outcomes) == 1


# -- the stub -----------------------------------------------------------------------------------------------------


def test_a_held_order_is_read_as_new_until_it_is_let_go():
    exchange = StubExchange()
    adapter = StubAdapter(exchange)
    exchange.held = True
    placed = exchange.place("c-1", "buy", amount_of(1))
    read = adapter.find_by_id(placed.order_id)
    assert isinstance(read, Found)
    assert (read.order.status, read.order.filled) == (OrderStatus.NEW, 0)
    exchange.held = False
    read = adapter.find_by_id(placed.order_id)
    assert (read.order.status, read.order.filled) == (OrderStatus.DONE, amount_of(1))
    assert isinstance(adapter.find_by_id("7"), Absent)


def test_the_stub_lists_what_is_newer_and_finds_by_our_own_id():
    exchange = StubExchange()
    adapter = StubAdapter(exchange)
    first, second = (exchange.place(f"c-{n}", "buy", amount_of(n)) for n in (1, 2))
    assert adapter.newest_order_id() == second.order_id
    assert [state.order_id for state in adapter.list_orders_since(first.order_id).orders] == [second.order_id]
    assert adapter.find_by_client_id("c-1").order.order_id == first.order_id
    assert isinstance(adapter.find_by_client_id("c-3"), Absent)


def test_the_process_that_is_killed_sees_nothing_and_gets_no_answer():
    adapter = DeafAdapter(config={"token": "t", "base_url": "http://127.0.0.1:9"})
    reads = (
        adapter.find_by_id("1"),
        adapter.find_by_client_id("c"),
        adapter.list_orders_since("0"),
        adapter.list_open_orders(),
    )
    assert all(isinstance(read, Unavailable) for read in reads)

    class Answering:
        def submit(self, before_send):
            before_send()
            return StubExchange().place("c-1", "buy", amount_of(1))

    from benchmarks._transactions_recovery import _Unheard

    sent = []
    with pytest.raises(OutcomeUnknownError):
        _Unheard(Answering()).submit(lambda: sent.append(1))
    assert sent == [1]


# -- counting -----------------------------------------------------------------------------------------------------

TRACE = """\
71 100.000001 fdatasync(9) = 0
72 101.500000 fdatasync(9 <unfinished ...>
73 101.600000 fsync(4) = 0
72 101.700000 <... fdatasync resumed>) = 0
71 103.000000 fdatasync(9) = 0
73 103.100000 +++ exited with 0 +++
"""


def test_strace_counts_a_call_once_and_only_between_the_two_times():
    assert transactions.syncs_between(TRACE, 101.0, 102.0) == 2
    assert transactions.syncs_between(TRACE, 0.0, 200.0) == 4
    assert transactions.syncs_between("", 0.0, 200.0) == 0


def test_syncs_are_not_measured_where_strace_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(transactions.shutil, "which", lambda _: None)
    assert transactions.count_syncs(tmp_path / "traced", OURS, 1, 0.1) is None


@pytest.mark.parametrize(("version", "absent"), [("3.4.0", False), ("4.0.1", False), ("3.3.9", True), (None, True)])
def test_dbos_takes_part_from_3_4_on_and_its_absence_is_named(monkeypatch, version, absent):
    def told(_):
        if version is None:
            raise importlib.metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(importlib.metadata, "version", told)
    lost = transactions.missing()
    assert sorted(lost) == (["DBOS", "DBOS WAL+FULL"] if absent else [])
    assert all(lost.values())


# -- goals --------------------------------------------------------------------------------------------------------


def result(rate, p50=1.0, problem="", name="x"):
    return harness.Result(
        name=name, rounds=5, operations=100, rate=harness.Spread(median=rate, low=rate * 0.9, high=rate * 1.1), mean=p50,
        p50=p50, p95=p50, p99=2 * p50, extra={"cpu_ns": 500_000.0}, checked=not problem, problem=problem,
    )  # fmt: skip


def findings(**changes):
    speed = {
        Cell(OURS, 1, 0.0): result(600, p50=1.0),
        Cell("DBOS", 1, 0.0): result(50, p50=20.0),
        Cell("naive", 1, 0.0): result(1200, p50=0.5),
        Cell(OURS, 32, 0.0): result(1500),
        Cell("DBOS", 32, 0.0): result(50),
        Cell("DBOS WAL+FULL", 32, 0.0): result(100),
    }
    return Findings(
        **{
            "speed": speed,
            "disk": result(5000, p50=0.2),
            "syncs": {(OURS, 1): 2.0, (OURS, 32): 0.1},
            "facts": {OURS: {"journal_mode": "wal"}},
            "absent": {},
            "flight": Flight(number=1000, rss_each=30 * 1024.0, threads_beside=3, problem=""),
            "recovery": Recovery(rows=1000, seconds=1.0, requests=3, by_path={"GET /x": 3}, throttled=0, problem=""),
            "http": [(1, result(300, name="bare")), (1, result(100, name="hireliab"))],
        }
        | changes
    )


def missed(found):
    return {goal.what: goal.reached for goal in report.goals(found) if goal.reached is not True}


def test_goals_that_are_reached():
    assert missed(findings()) == {}
    assert len(report.goals(findings())) == 10


@pytest.mark.parametrize(
    ("changes", "which"),
    [
        ({"speed": {Cell(OURS, 32, 0.0): 999}}, "orders/s, 32 threads, 0 ms"),
        ({"speed": {Cell("DBOS", 32, 0.0): 101}}, "orders/s, 32 threads, 0 ms, as a multiple of DBOS as shipped"),
        (
            {"speed": {Cell("DBOS WAL+FULL", 32, 0.0): 151}},
            "orders/s, 32 threads, 0 ms, as a multiple of DBOS set to WAL+FULL",
        ),
        ({"syncs": {(OURS, 1): 2.01, (OURS, 32): 0.1}}, "fdatasync for each order, 1 thread"),
        ({"syncs": {(OURS, 1): 2.0, (OURS, 32): 0.51}}, "fdatasync for each order, 32 threads"),
        ({"disk": result(5000, p50=0.14)}, "p50 of added latency, 1 thread, 0 ms"),
        (
            {"flight": Flight(number=10, rss_each=65 * 1024.0, threads_beside=3, problem="")},
            "RSS for each of 10 in flight",
        ),
        (
            {"flight": Flight(number=10, rss_each=9.0, threads_beside=4, problem="")},
            "threads beside one for each of them",
        ),
    ],
)
def test_a_goal_that_is_just_missed_is_missed(changes, which):
    if "speed" in changes:
        changes = {"speed": findings().speed | {cell: result(rate) for cell, rate in changes["speed"].items()}}
    assert missed(findings(**changes)).get(which) is False


def test_a_recovery_over_its_requests_or_over_a_limit_is_missed():
    recovery = dataclasses.replace(findings().recovery, requests=16, throttled=1)
    assert missed(findings(recovery=recovery)) == {
        "requests to recover 1,000 rows": False,
        "of these over a limit of the exchange": False,
    }


def test_a_figure_is_held_to_its_bound_as_both_are_printed():
    assert missed(findings(syncs={(OURS, 1): 2.004, (OURS, 32): 0.5})) == {}


def test_what_was_not_measured_or_does_not_count_reaches_no_goal():
    speed = findings().speed | {Cell("DBOS", 32, 0.0): result(1, problem="it lost an order")}
    found = findings(
        speed=speed,
        syncs={(OURS, 1): None},
        flight=dataclasses.replace(findings().flight, problem="no"),
        recovery=dataclasses.replace(findings().recovery, problem="no"),
    )
    assert set(missed(found).values()) == {None}
    assert len(missed(found)) == 7
    assert {goal.measured for goal in report.goals(found) if goal.reached is None} == {"not measured"}
    assert len(found.problems()) == 3


def test_the_report_says_where_hireliab_loses_and_who_is_missing():
    text = "\n".join(report.lines(findings(absent={"DBOS": "not installed"})))
    assert "naive: 2.0 x with 1 thread at 0 ms" in text
    assert "over HTTP, nothing durable: 3.0 x with 1 thread" in text
    assert "NOT COMPARED: DBOS as shipped: not installed" in text
    assert "30.00x" in text
    assert max(map(len, text.splitlines())) <= harness.WIDTH + 8


def test_the_report_marks_what_does_not_count_and_claims_no_loss_to_it():
    speed = findings().speed | {Cell("naive", 1, 0.0): result(9999, problem="lost an order")}
    http = [(1, result(100, name="bare")), (1, result(100, name="hireliab"))]
    text = "\n".join(report.lines(findings(speed=speed, http=http)))
    assert "naive NOT COUNTED" in text
    assert "hireliab loses to nobody here." in text


def test_an_order_that_was_lost_is_no_win():
    lazy = {Cell(OURS, 1, 0.0): result(600, problem="lost an order"), Cell("naive", 1, 0.0): result(1200)}
    http = [(1, result(100, name="bare")), (1, result(100, name="hireliab"))]
    assert list(report.losses(findings(speed=lazy, http=http))) == [
        "hireliab loses to nobody where its figures count; not all of them do."
    ]


def test_the_figures_are_fit_for_json():
    data = json.loads(json.dumps(report.plain(findings())))
    assert data["goals"][0]["reached"] is True
    assert {row["bot"] for row in data["speed"]} == {OURS, "DBOS", "DBOS WAL+FULL", "naive"}
