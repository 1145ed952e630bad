"""The bus benchmark: whose books balance, when a goal is reached, and what is called a loss."""

import json
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from benchmarks import _bus_peers, bus, harness
from benchmarks._bus_broker import unbalanced
from benchmarks._bus_report import (
    BARE,
    BLOCKING,
    KOMBU,
    MEMORY,
    OURS,
    PIPELINED,
    SYNC,
    Calls,
    Findings,
    Part,
    goals,
    lines,
    losses,
    plain,
)
from benchmarks._bus_work import THREAD, Done, Sink, ping, publish_for
from benchmarks.harness import Result, Spread

# -- books ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "found", "why"),
    [
        (3, [0, 1, 2], ""),
        (3, [2, 0, 1], ""),
        (3, [0, 1], "held 2"),
        (3, [0, 1, 2, 3], "held 4"),
        (3, [0, 1, 1], "held 2"),
        (3, [0, 1, 2, 2], "twice"),
        (0, [], "nothing"),
    ],
)
def test_books_balance_when_each_confirmed_message_is_in_the_queue_once(said, found, why):
    problem = unbalanced(said, found)
    assert (why in problem) and bool(problem) == bool(why)


SIZE = bus.Size(rounds=1, seconds=1, messages=5, pings=5, calls=1000)


class _Books:
    """A worker and a broker: what the one says and the other holds."""

    def __init__(self, done, *, found=(), left=0, name=BLOCKING):
        self.done, self.found, self.left_over, self.filled, self.name = done, found, left, [], name

    def ask(self, do, place, **arguments):
        self.asked = do, arguments
        return self.done

    def drain(self, place, said):
        return list(self.found)

    def left(self, place):
        return self.left_over

    def fill(self, place, count, *, bare):
        self.filled.append((count, bare))

    def problems(self, way):
        turn = bus._Turn(self, SIZE, self, None, self.name)
        way(turn)
        return turn.problems


def test_a_publisher_counts_when_the_queue_holds_what_it_says():
    assert _Books(Done(count=3), found=[0, 1, 2]).problems(bus._publish(1)) == []
    assert _Books(Done(count=3), found=[0, 1]).problems(bus._publish(8)) != []
    assert _Books(Done(count=3), found=[0, 1, 2, 2]).problems(bus._publish(1)) != []
    assert _Books(Done(count=3), name=MEMORY).problems(bus._publish(1)) == []
    assert _Books(Done(count=0), name=MEMORY).problems(bus._publish(1)) != []


@pytest.mark.parametrize("way", [bus._consume, bus._latency])
def test_a_consumer_counts_when_each_message_came_through_once_and_none_is_left(way):
    assert _Books(Done(count=5, distinct=5)).problems(way) == []
    assert _Books(Done(count=4, distinct=4)).problems(way) != []
    assert _Books(Done(count=5, distinct=4)).problems(way) != []
    assert _Books(Done(count=6, distinct=5)).problems(way) != []
    assert _Books(Done(count=5, distinct=5), left=1).problems(way) != []
    assert _Books(Done(count=5, distinct=5), left=1, name=MEMORY).problems(way) == []


@pytest.mark.parametrize(
    ("name", "filled"),
    [(OURS, [(5, False)]), (BLOCKING, [(5, False)]), (f"{BLOCKING}, {BARE}", [(5, True)]), (MEMORY, [])],
)
def test_what_is_consumed_are_our_messages_unless_it_is_said(name, filled):
    books = _Books(Done(count=5, distinct=5), name=name)
    books.problems(bus._consume)
    assert books.filled == filled


def test_a_sink_counts_from_the_first_message_to_the_last_and_notices_repeats():
    sink = Sink(3)
    assert [sink.take(0), sink.take(1), sink.take(1)] == [False, False, True]
    done = sink.result()
    assert (done.count, done.distinct) == (3, 2)
    assert done.elapsed_ns > 0
    assert sink.done.is_set()


class _Publisher:
    def __init__(self):
        self.numbers, self.finished = [], 0

    def publish(self, number):
        self.numbers.append(number)

    def finish(self):
        self.finished += 1
        return len(self.numbers)


def test_threads_publish_different_messages_and_all_are_waited_for():
    shared = _Publisher()
    done = publish_for(0.01, [shared], threads=3)
    assert shared.finished == 1
    assert done.count == len(shared.numbers) == len(set(shared.numbers))
    assert {number // THREAD for number in shared.numbers} == {0, 1, 2}
    own = [_Publisher() for _ in range(2)]
    done = publish_for(0.01, own, threads=2)
    assert done.count == sum(len(one.numbers) for one in own)
    assert [one.finished for one in own] == [1, 1]


def test_an_error_of_a_publisher_is_told():
    publisher = _Publisher()
    publisher.publish = lambda number: 1 / 0
    with pytest.raises(ZeroDivisionError):
        publish_for(0.01, [publisher], threads=1)


def test_each_ping_is_timed_until_its_message_was_handled():
    said = []
    taken = ping(3, said.append, lambda: said.append("handled"))
    assert said == [0, "handled", 1, "handled", 2, "handled"]
    assert len(taken) == 3


# -- the pipelined contestant -----------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(monkeypatch):
    """One that is connected to nothing, with four messages unconfirmed."""
    closed = []
    connection = SimpleNamespace(ioloop=SimpleNamespace(call_later=lambda *_: None), close=lambda: closed.append(1))
    monkeypatch.setattr(_bus_peers.pika, "SelectConnection", lambda *_, **__: connection)
    monkeypatch.setattr(_bus_peers.pika, "URLParameters", lambda url: url)
    work = _bus_peers._Pipeline(SimpleNamespace(url="", exchange="", key=""), 0.0, 4)
    work._channel = SimpleNamespace(basic_publish=lambda *_: None)
    work.closed = closed
    work._begin(None)
    return work


def answer(tag, *, multiple=False, name="Basic.Ack"):
    return SimpleNamespace(method=SimpleNamespace(delivery_tag=tag, multiple=multiple, NAME=name))


@pytest.mark.parametrize(
    "answers",
    [
        [(1, False), (2, False), (3, False), (4, False)],
        [(4, True)],
        [(2, False), (1, False), (4, True)],
        [(3, False), (2, True), (4, False)],
        [(2, True), (4, True)],
    ],
)
def test_the_pipelined_contestant_ends_when_each_message_was_confirmed_once(pipeline, answers):
    for tag, multiple in answers:
        assert not pipeline.done.count
        pipeline._on_answer(answer(tag, multiple=multiple))
    assert pipeline.done.count == 4
    assert pipeline.closed == [1]


def test_the_pipelined_contestant_takes_no_refusal_for_a_confirmation(pipeline):
    with pytest.raises(RuntimeError):
        pipeline._on_answer(answer(1, name="Basic.Nack"))


# -- goals and losses -----------------------------------------------------------------------------------------------


def result(name, rate, *, problem="", cpu=1000.0, p50=1.0):
    return Result(
        name=name,
        rounds=3,
        operations=100,
        rate=Spread(median=rate, low=rate * 0.9, high=rate * 1.1),
        mean=1.0,
        p50=p50,
        p95=2.0,
        p99=3.0,
        extra={"cpu_ns": cpu},
        checked=not problem,
        problem=problem,
    )


def findings(*, publish=(8.0, 1.0, 0.6), consume=(0.9, 1.0), median_us=20.0, problem="", extra=()):
    ours, blocking, pipelined = publish
    parts = [
        Part(
            what="publish, 1 thread",
            kind="quorum",
            results=[
                result(BLOCKING, blocking),
                result(OURS, ours, problem=problem),
                result(PIPELINED, ours / pipelined),
                *extra,
            ],
        ),
        Part(what="consume", kind="quorum", results=[result(BLOCKING, consume[1]), result(OURS, consume[0])]),
        Part(what="latency", kind="quorum", results=[result(BLOCKING, 1, p50=0.5), result(OURS, 1, p50=1.0)]),
    ]
    calls = [Calls(name=OURS, kind="quorum", median_us=median_us, p99_us=90.0, problem=problem)]
    return Findings(broker="RabbitMQ 3.10.8", rounds=3, load="", parts=parts, calls=calls)


def reached(found):
    return [goal.reached for goal in goals(found)]


def test_goals_are_reached_at_their_bounds_and_not_below():
    assert reached(findings()) == [True, False, True, True, True]
    assert reached(findings(publish=(10.0, 1.0, 0.6))) == [True, True, True, True, True]
    assert reached(findings(publish=(7.9, 1.0, 0.59), consume=(0.89, 1.0), median_us=20.1)) == [False] * 5


def test_what_does_not_count_reaches_no_goal():
    assert reached(findings(problem="lost")) == [None, None, None, True, None]


def test_a_report_names_who_is_not_counted_and_fits():
    found = findings(problem="3 messages were confirmed, and the queue held 2")
    text = list(lines(found))
    assert max(map(len, text)) <= 100
    assert any(f"{OURS} NOT COUNTED" in line for line in text)
    assert found.problems() == (
        f"publish, 1 thread, quorum, {OURS}: 3 messages were confirmed, and the queue held 2",
        f"publish(), quorum, {OURS}: 3 messages were confirmed, and the queue held 2",
    )
    json.dumps(plain(found))


def test_losses_are_named_in_rate_in_latency_and_in_cpu_time():
    found = findings(
        publish=(8.0, 1.0, 0.5), extra=[result(KOMBU, 1.0, cpu=500.0), result(SYNC, 99.0), result(MEMORY, 99.0)]
    )
    text = "\n".join(losses(found))
    assert "pika SelectConnection, publish, 1 thread, quorum queue: 2.00 x as many" in text
    assert "kombu, publish, 1 thread, quorum queue: 0.50 x our CPU time a message" in text
    assert "pika BlockingConnection, latency, quorum queue: 2.00 x as early" in text
    assert SYNC not in text
    assert MEMORY not in text


def test_where_nobody_is_faster_it_says_so():
    parts = [Part(what="consume", kind="quorum", results=[result(BLOCKING, 0.9), result(OURS, 1.0)])]
    assert list(losses(Findings(broker="", rounds=1, load="", parts=parts, calls=[]))) == [
        "hireliab loses to nobody here."
    ]


def test_figures_that_do_not_count_are_no_win():
    parts = [Part(what="consume", kind="quorum", results=[result(BLOCKING, 0.9), result(OURS, 1.0, problem="lost")])]
    assert list(losses(Findings(broker="", rounds=1, load="", parts=parts, calls=[]))) == ["hireliab was not measured."]
    parts.append(Part(what="consume", kind="classic", results=[result(OURS, 1.0)]))
    assert list(losses(Findings(broker="", rounds=1, load="", parts=parts, calls=[]))) == [
        "hireliab loses to nobody where its figures count; not all of them do."
    ]


# -- the race ---------------------------------------------------------------------------------------------------------


class _Broker:
    name = "a broker"

    def __init__(self):
        self.emptied = 0

    @contextmanager
    def place(self, kind):
        yield kind

    def empty(self, place):
        self.emptied += 1


def test_a_problem_of_any_round_the_warm_up_included_refuses_the_contestant(monkeypatch):
    monkeypatch.setattr(bus, "Worker", lambda path: nullcontext())
    race = bus._Race(_Broker(), SIZE, {OURS: "", BLOCKING: ""})
    rounds = []

    def way(turn):
        rounds.append(turn.name)
        if turn.name == OURS and rounds.count(OURS) == 1:
            turn.problems.append("lost")
        return Done(count=1, elapsed_ns=1)

    part = race.part("publish, 1 thread", "classic", [BLOCKING, OURS, KOMBU], way)
    assert [(one.name, one.problem) for one in part.results] == [(BLOCKING, ""), (OURS, "lost")]
    assert rounds == [BLOCKING, OURS, OURS, BLOCKING]


def test_a_contestant_whose_process_fails_is_refused_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(bus, "Worker", lambda path: SimpleNamespace(close=lambda: None))
    race = bus._Race(_Broker(), SIZE, {OURS: "", BLOCKING: ""})

    def way(turn):
        if turn.name == BLOCKING:
            raise RuntimeError("its process has ended")
        return Done(count=1, elapsed_ns=1)

    part = race.part("consume", "classic", [BLOCKING, OURS], way)
    assert part.result(BLOCKING) is None
    assert part.result(OURS) is not None


def test_without_a_broker_it_fails_and_says_why(monkeypatch):
    monkeypatch.setattr(bus._bus_broker, "absent", lambda: "no broker (AMQPConnectionError)")
    report = bus.run(True)
    assert report.problems == ("no broker (AMQPConnectionError)",)
    assert isinstance(report, harness.Report)
