"""`python -m benchmarks bus`: every contestant's books balance, and whoever loses or doubles a message is not counted."""

import pika
import pytest

from benchmarks import bus
from benchmarks._bus_report import AMQPSTORM, BLOCKING, KINDS, KOMBU, MEMORY, OURS, PIPELINED, SYNC, lines

pytestmark = pytest.mark.usefixtures("amqp_url")

TINY = bus.Size(rounds=1, seconds=0.1, messages=200, pings=10, calls=1000)
LOSERS = "tests.support.bus_losers"


@pytest.fixture(scope="module")
def found():
    if why := bus._bus_broker.absent():
        pytest.skip(why)
    return bus.find(TINY)


def test_the_books_of_every_contestant_balance(found):
    assert found.problems() == ()
    for part in found.parts:
        for one in part.results:
            assert one.checked
            assert one.operations > 0


def test_everybody_takes_part_in_everything_that_his_library_can(found):
    peers = {name for name in (KOMBU, AMQPSTORM) if bus.version(name)}
    for kind in KINDS:
        memory = {MEMORY} if kind == KINDS[0] else set()
        assert {one.name for one in found.part("publish, 1 thread", kind).results} == {
            BLOCKING, PIPELINED, OURS, SYNC, *peers, *memory
        }  # fmt: skip
        assert {one.name for one in found.part("publish, 8 threads", kind).results} == {BLOCKING, OURS, SYNC, *peers}
        assert {OURS, BLOCKING} <= {one.name for one in found.part("consume", kind).results}
        assert {OURS, BLOCKING} <= {one.name for one in found.part("latency", kind).results}
    assert [(one.name, one.kind) for one in found.calls] == [(OURS, "classic"), (MEMORY, "classic"), (OURS, "quorum")]


def test_the_report_has_its_goals_and_fits(found):
    text = list(lines(found))
    assert max(map(len, text)) <= 100
    assert text.count("Goals") == 1
    assert "not measured" not in "\n".join(text)


def test_nothing_is_left_at_the_broker():
    broker = bus.Broker()
    with broker.place("classic") as place:
        assert broker.left(place) == 0
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        broker.left(place)


@pytest.mark.parametrize(
    ("only", "what", "loser", "why"),
    [
        ("publish", "publish, 1 thread", "Forgets", "were confirmed, and the queue held"),
        ("publish", "publish, 8 threads", "Forgets", "were confirmed, and the queue held"),
        ("publish", "publish, 1 thread", "Repeats", "in the queue twice"),
        ("publish", "publish, 1 thread", "Dies", "its process has ended"),
        ("consume", "consume", "Unacknowledged", "were not acknowledged"),
        ("consume", "consume", "Skips", "came through"),
    ],
)
def test_a_contestant_that_loses_messages_is_not_counted(only, what, loser, why):
    classes = {BLOCKING: bus.CLASSES[BLOCKING], KOMBU: f"{LOSERS}:{loser}", OURS: bus.CLASSES[OURS]}
    if bus.version(KOMBU) is None:
        pytest.skip("kombu, whose place the loser takes, is not installed")
    found = bus.find(TINY, classes=classes, kinds=("classic",), only=only)
    part = found.part(what, "classic")
    assert part.result(KOMBU) is None
    assert part.result(BLOCKING) is not None
    assert part.result(OURS) is not None
    assert any(problem.startswith(f"{what}, classic, {KOMBU}: ") and why in problem for problem in found.problems())
    assert f"{KOMBU} NOT COUNTED" in "\n".join(lines(found))


def test_where_ours_loses_messages_no_goal_is_reached():
    classes = {BLOCKING: bus.CLASSES[BLOCKING], OURS: f"{LOSERS}:Forgets"}
    found = bus.find(TINY, classes=classes, kinds=("classic",), only="publish")
    assert found.share("publish, 1 thread", "classic", OURS, BLOCKING) is None
    assert {goal["reached"] for goal in bus.plain(found)["goals"]} == {None}


def test_a_contestant_that_fails_while_its_calls_are_timed_costs_nobody_elses_figures():
    classes = {OURS: f"{LOSERS}:Full", MEMORY: bus.CLASSES[MEMORY]}
    found = bus.find(TINY, classes=classes, kinds=("classic",), only="calls")
    ours, memory = found.calls
    assert "BusFullError" in ours.problem
    assert (memory.name, memory.problem) == (MEMORY, "")
    assert memory.median_us > 0
    assert any("BusFullError" in problem for problem in found.problems())
