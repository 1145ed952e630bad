"""What every MessageBus promises with ``in_order=True``; the suite of test_message_bus.py holds for it, too."""

import threading

import pytest

from hireliab.errors import ConfigError
from hireliab.messaging.bus import Reject
from tests.contract.test_message_bus import Collector, Held, bus, kind, open_bus, queue_of
from tests.support.buses import CAP, until

__all__ = ["bus", "kind", "open_bus"]

GROUPS = pytest.mark.parametrize("group", ["g", None])


class Trail:
    """Handlers that write down, in one list, what they begin and end; `act` may fail for them."""

    def __init__(self, act=None):
        self._changed = threading.Condition()
        self._act = act
        self.steps = []

    def member(self, name):
        def handle(message):
            self._note((name, "begins", message.data))
            try:
                if self._act is not None:
                    self._act(message)
            finally:
                self._note((name, "ends", message.data))

        return handle

    def _note(self, step):
        with self._changed:
            self.steps.append(step)
            self._changed.notify_all()

    def wait(self, begun):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun()) >= begun, CAP), self.steps
        return self.begun()

    def begun(self):
        return [data for _, step, data in self.steps if step == "begins"]

    def check_one_at_a_time(self):
        assert [step for _, step, _ in self.steps] == ["begins", "ends"] * (len(self.steps) // 2), self.steps


@GROUPS
def test_in_order_a_message_that_fails_holds_up_those_behind_it(bus, group):
    def act(message):
        if message.data == 2 and message.attempt < 3:
            raise ValueError("not yet")

    trail = Trail(act)
    bus.subscribe("a", trail.member("one"), group=group, in_order=True)
    for i in range(6):
        bus.publish("a", i, timeout=CAP)
    assert trail.wait(8) == [0, 1, 2, 2, 2, 3, 4, 5]
    until(lambda: queue_of(bus, "a").acked == 6)
    trail.check_one_at_a_time()


@GROUPS
def test_in_order_a_dead_message_lets_the_next_one_come(kind, bus, group):
    def act(message):
        if message.data == 1:
            raise Reject("no")
        if message.data == 3:
            raise ValueError("never")

    trail = Trail(act)
    bus.subscribe("a", trail.member("one"), group=group, in_order=True)
    for i in range(5):
        bus.publish("a", i, timeout=CAP)
    assert trail.wait(7) == [0, 1, 2, 3, 3, 3, 4]
    until(lambda: (queue_of(bus, "a").acked, queue_of(bus, "a").dead_lettered) == (3, 2))
    assert [reason for _, reason in kind.dead_letters(bus, group, count=2)] == ["no", "ValueError: never"]
    trail.check_one_at_a_time()


def test_of_a_group_in_order_one_member_handles_and_the_next_one_goes_on_where_it_ended(bus):
    gate = threading.Event()
    trail = Trail(lambda message: message.data == 3 and gate.wait(CAP))
    leaving = bus.subscribe("a", trail.member("one"), group="g", in_order=True)
    bus.subscribe("a", trail.member("two"), group="g", in_order=True)
    for i in range(10):
        bus.publish("a", i, timeout=CAP)
    trail.wait(4)
    assert leaving.unsubscribe(0.0) is False  # it has the fourth in hand
    gate.set()
    assert leaving.unsubscribe(CAP) is True
    assert trail.wait(10) == list(range(10))
    trail.check_one_at_a_time()
    assert [name for name, step, _ in trail.steps if step == "begins"] == ["one"] * 4 + ["two"] * 6


def test_members_that_come_and_go_keep_the_order(bus):
    trail = Trail()
    members = [bus.subscribe("a", trail.member(0), group="g", in_order=True)]
    for i in range(12):
        members.append(bus.subscribe("a", trail.member(i + 1), group="g", in_order=True))
        for j in range(10):
            bus.publish("a", 10 * i + j, timeout=CAP)
        assert members[i].unsubscribe(CAP)
    until(lambda: len(set(trail.begun())) == 120)
    assert list(dict.fromkeys(trail.begun())) == list(range(120))
    until(lambda: len(trail.steps) % 2 == 0)
    trail.check_one_at_a_time()


def test_what_is_not_begun_when_a_bus_in_order_stops_is_overtaken_by_nothing(bus):
    held = Held()
    bus.subscribe("a", held, group="g", in_order=True)
    for i in range(5):
        bus.publish("a", i, timeout=CAP)
    held.wait(1)
    bus.stop(0.0)
    held.release()
    bus.stop(CAP)
    assert [message.data for message in held.messages] == [0]


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        ({"in_order": 1}, "in_order"),
        ({"in_order": "yes"}, "in_order"),
        ({"in_order": True, "concurrency": 2}, "concurrency"),
        ({"in_order": True, "prefetch": 2}, "prefetch"),
    ],
)
def test_in_order_goes_with_one_message_at_a_time_only(bus, arguments, setting):
    with pytest.raises(ConfigError) as caught:
        bus.subscribe("a", print, group="g", **arguments)
    assert caught.value.setting == setting
    assert bus.status().subscriptions == ()


@pytest.mark.parametrize("first", [True, False])
def test_a_group_is_in_order_for_all_its_members_or_for_none(bus, first):
    collector = Collector()
    bus.subscribe("a", collector, group="g", in_order=first)
    with pytest.raises(ConfigError, match=f"has in_order={first} for its other members") as caught:
        bus.subscribe("a", print, group="g", in_order=not first)
    assert caught.value.setting == "in_order"
    bus.publish_sync("a", 1)
    assert collector.wait(1) == [1]
