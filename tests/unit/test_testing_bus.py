import threading

import pytest

from hireliab.errors import BusError, BusFullError, ClosedError, ConfigError, UnconfirmedPublishError
from hireliab.messaging.bus import PublishStatus, Reject
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.testing import FakeClock, FaultyBus
from tests.support.together import Background, together

CAP = 10.0


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    """Open faulty buses around one in memory; they are stopped at the end."""
    buses = []

    def make(config=None, **options):
        inside = InMemoryMessageBus(name="t", config={"retry_delays": [0.0, 0.0], **(config or {})}, clock=clock)
        bus = FaultyBus(inside, clock=clock, **options)
        buses.append(bus)
        return bus

    yield make
    for bus in buses:
        bus.stop(0.0)


class Seen:
    """A handler that keeps what it gets."""

    def __init__(self):
        self._arrived = threading.Condition()
        self.messages = []

    def __call__(self, message):
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def data(self, count):
        """What the first `count` messages say, waiting for them."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, CAP), self.messages
            return [message.data for message in self.messages]


class Held(Seen):
    """Which keeps the handler's thread, too, until it is let go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Semaphore(0)

    def __call__(self, message):
        super().__call__(message)
        assert self.go.acquire(timeout=CAP)


def finished(bus, seen):
    """All that the handlers got once everything has been handed out."""
    bus.stop(CAP)
    return [message.data for message in seen.messages]


def test_without_a_fault_it_is_the_bus_inside(make):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    receipt = bus.publish("a", 1, headers={"h": "1"}, subject="s", message_id="m")
    assert receipt.status is PublishStatus.CONFIRMED
    seen.data(1)
    (message,) = seen.messages
    assert (message.id, message.subject, dict(message.headers)) == ("m", "s", {"h": "1"})
    assert (message.attempt, message.redelivered) == (1, False)
    assert bus.injected == {}
    assert bus.name == "t"
    assert bus.status() == bus.bus.status()


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ("drop", PublishStatus.UNKNOWN, UnconfirmedPublishError),
        ("nack", PublishStatus.NACKED, UnconfirmedPublishError),
        ("return", PublishStatus.RETURNED, BusError),
    ],
)
def test_a_message_that_is_lost_says_so_in_its_receipt(make, fault, status, error):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.next(fault, 2)
    assert bus.publish("a", 1).status is status
    with pytest.raises(error):
        bus.publish_sync("a", 2)
    bus.publish_sync("a", 3)
    assert finished(bus, seen) == [3]
    assert bus.injected == {fault: 2}


def test_an_unconfirmed_message_may_well_arrive(make):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.next("drop_confirm")
    with pytest.raises(UnconfirmedPublishError):
        bus.publish_sync("a", 1)
    assert finished(bus, seen) == [1]


def test_a_duplicate_has_the_same_id_and_does_not_know_it(make):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.next("duplicate")
    receipt = bus.publish_sync("a", 1)
    assert finished(bus, seen) == [1, 1]
    assert {message.id for message in seen.messages} == {receipt.message_id}
    assert [message.redelivered for message in seen.messages] == [False, False]


def test_a_reordered_message_is_overtaken_by_its_successor(make):
    bus, seen = make(), Seen()
    bus.subscribe("#", seen)
    bus.next("reorder")
    assert bus.publish_sync("a", 1).status is PublishStatus.CONFIRMED
    bus.publish("a", 2)
    bus.publish("a", 3)
    assert seen.data(3) == [2, 1, 3]


def test_a_reordered_message_without_a_successor_comes_late(make, clock):
    bus, seen = make(delay_by=2.0), Seen()
    bus.subscribe("a", seen)
    clock.wait_parked(1)
    bus.next("reorder")
    bus.publish("a", 1)
    clock.wait_parked(2)  # the handler thread and the one of late messages
    clock.advance(1.9)
    clock.wait_parked(2)
    assert seen.messages == []
    clock.advance(0.1)
    assert seen.data(1) == [1]


def test_a_delayed_message_comes_after_its_time(make, clock):
    bus, seen = make(delay_by=5.0), Seen()
    bus.subscribe("a", seen)
    bus.next("delay")
    assert bus.publish("a", "late").status is PublishStatus.CONFIRMED
    bus.publish("a", "next")
    assert seen.data(1) == ["next"]
    clock.wait_parked(2)
    assert clock.next_deadline() == 5.0
    clock.advance(5.0)
    assert seen.data(2) == ["next", "late"]


def test_release_passes_on_what_is_held_back(make):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.next("delay", 3)
    for i in range(3):
        bus.publish("a", i)
    bus.release()
    assert seen.data(3) == [0, 1, 2]


def test_a_delayed_message_that_finds_no_room_is_delayed_again(make, clock, caplog):
    bus, held = make({"queue_size": 1}, delay_by=1.0), Held()
    bus.subscribe("a", held)
    bus.next("delay")
    bus.publish("a", "late")
    bus.publish("a", "first")
    held.data(1)
    clock.wait_parked(1)
    clock.advance(1.0)
    clock.wait_parked(1)
    assert held.data(1) == ["first"]
    held.go.release(2)
    clock.wait_parked(2)
    clock.advance(1.0)
    assert held.data(2) == ["first", "late"]
    assert caplog.text == ""


def test_data_that_is_held_back_was_copied(make):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.next("delay")
    data = {"fills": [1]}
    bus.publish("a", data)
    data["fills"].append(2)
    bus.release()
    assert seen.data(1) == [{"fills": [1]}]


def test_stop_hands_out_what_is_held_back(make):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.next("reorder", 2)
    bus.publish("a", 1)
    bus.publish("a", 2)
    assert finished(bus, seen) == [1, 2]


def test_a_lost_acknowledgement_brings_the_message_again(make):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.next("drop_ack")
    bus.publish("a", {"x": 1})
    bus.publish("a", {"x": 2})
    assert finished(bus, seen) == [{"x": 1}, {"x": 1}, {"x": 2}]
    assert [(m.attempt, m.redelivered) for m in seen.messages] == [(1, False), (2, True), (1, False)]
    assert bus.injected == {"drop_ack": 1}


def test_a_message_that_comes_again_is_a_fresh_copy_and_its_attempts_are_counted_on(make):
    bus, seen, done = make(), [], threading.Event()

    def spoil(message):
        seen.append((dict(message.data), message.attempt, message.redelivered))
        message.data["x"] = "spoilt"
        if message.attempt == 2:
            raise ValueError
        if message.attempt == 3:
            done.set()

    bus.subscribe("a", spoil)
    bus.next("drop_ack")
    bus.publish("a", {"x": 1})
    assert done.wait(CAP)
    assert seen == [({"x": 1}, 1, False), ({"x": 1}, 2, True), ({"x": 1}, 3, True)]


def test_an_interrupted_connection_repeats_what_is_published_and_what_is_in_hand(make):
    bus, held = make(), Held()
    bus.subscribe("a", held)
    bus.publish("a", 1)
    held.data(1)
    bus.next("disconnect")
    receipt = bus.publish("a", 2)
    assert receipt.status is PublishStatus.CONFIRMED
    held.go.release(4)
    assert finished(bus, held) == [1, 1, 2, 2]
    assert [m.redelivered for m in held.messages] == [False, True, False, False]


def test_a_disconnected_bus_takes_messages_and_hands_out_none(make, clock):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.publish("a", 0)
    assert seen.data(1) == [0]
    bus.disconnect()
    receipts = [bus.publish("a", i) for i in (1, 2)]
    assert [receipt.status for receipt in receipts] == [None, None]
    assert (bus.status().connected, bus.status().in_flight) == (False, 2)
    bus.bus.publish("a", "from another process")
    clock.wait_parked(1)  # the handler thread waits for the connection
    assert seen.data(1) == [0]
    bus.reconnect()
    assert [receipt.status for receipt in receipts] == [PublishStatus.CONFIRMED] * 2
    assert (bus.status().connected, bus.status().in_flight) == (True, 0)
    assert seen.data(4) == [0, "from another process", 1, 2]


def test_what_is_published_while_an_outage_is_made_up_for_goes_behind_it(make, monkeypatch):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.disconnect()
    for i in (1, 2):
        bus.publish("a", i)
    inside, newer = bus.bus.publish, []

    def publish(topic, data, **options):
        if not newer:
            newer.append(None)
            bus.publish("a", "newer")
        return inside(topic, data, **options)

    monkeypatch.setattr(bus.bus, "publish", publish)
    bus.reconnect()
    assert seen.data(3) == [1, 2, "newer"]


@pytest.mark.parametrize("outcome", ["return", "raise", "reject"])
def test_what_a_handler_did_with_a_message_is_lost_with_the_connection(make, outcome):
    bus, held = make({"retry_delays": []}), Held()

    def handler(message):
        held(message)
        if message.redelivered:
            return
        if outcome == "raise":
            raise ValueError
        if outcome == "reject":
            raise Reject("no")

    bus.subscribe("a", handler)
    bus.publish("a", 1)
    held.data(1)
    bus.disconnect()
    held.go.release(2)
    bus.reconnect()
    assert finished(bus, held) == [1, 1]
    assert bus.bus.dead_letters() == ()


def test_publish_sync_gives_up_at_its_timeout_while_disconnected(make, clock):
    bus = make()
    bus.disconnect()
    attempt = Background(bus.publish_sync, "a", 1, timeout=3.0)
    clock.wait_parked(1)
    clock.advance(3.0)
    with pytest.raises(UnconfirmedPublishError):
        attempt.result()
    bus.reconnect()
    assert bus.status().published == 1  # it may have been published, and was


def test_while_disconnected_the_window_bounds_what_is_taken(make, clock):
    bus = make(window=2)
    bus.disconnect()
    first, second = bus.publish("a", 1), bus.publish("a", 2)
    with pytest.raises(BusFullError, match="2 messages wait for the connection"):
        bus.publish("a", 3)
    patient = Background(bus.publish, "a", 4, timeout=None)
    clock.wait_parked(1)
    bus.reconnect()
    assert patient.result().wait(CAP) is PublishStatus.CONFIRMED
    assert (first.status, second.status) == (PublishStatus.CONFIRMED, PublishStatus.CONFIRMED)


def test_stopping_while_disconnected_rejects_what_waits_and_frees_the_handlers(make, clock):
    bus, seen = make(), Seen()
    bus.subscribe("a", seen)
    bus.disconnect()
    bus.bus.publish("a", "undelivered")
    clock.wait_parked(1)
    receipt = bus.publish("a", 1)
    bus.stop(CAP)
    assert receipt.status is PublishStatus.REJECTED
    assert seen.messages == []
    (status,) = bus.status().subscriptions
    assert (status.unfinished, status.in_flight) == (1, 0)


def test_a_stopped_bus_refuses_also_what_a_fault_would_swallow(make):
    bus = make()
    bus.next("drop")
    bus.stop()
    with pytest.raises(ClosedError):
        bus.publish("a", 1)
    bus.disconnect()
    with pytest.raises(ClosedError):
        bus.publish("a", 1)


def test_what_the_bus_refuses_is_refused_also_when_a_fault_is_due(make):
    bus = make()
    bus.next("drop", 9)
    with pytest.raises(ConfigError):
        bus.publish("a.*", 1)
    with pytest.raises(ConfigError):
        bus.publish("a", 1, headers={"a": 1})
    with pytest.raises(BusError):
        bus.publish("a", object())
    assert bus.injected == {}


def test_heal_ends_every_fault_and_loses_nothing(make):
    bus, seen = make(rates={"drop": 1.0}), Seen()
    bus.subscribe("a", seen)
    bus.next("delay", 2)
    bus.publish("a", 1)
    bus.disconnect()
    bus.publish("a", 2)
    bus.heal()
    bus.publish("a", 3)
    assert finished(bus, seen) == [2, 1, 3]


def run(make, seed):
    """What 60 messages come to under one seed: receipts, deliveries, counts."""
    bus, seen = make(seed=seed, delay_by=1000.0, rates=RATES), Seen()
    bus.subscribe("a", seen)
    statuses = []
    for i in range(60):
        statuses.append(bus.publish("a", i, message_id=str(i)).status)
        seen.data(bus.status().subscriptions[0].accepted)  # one at a time: what is in hand belongs to the outcome
    return statuses, finished(bus, seen), dict(bus.injected)


RATES = {"drop": 0.1, "duplicate": 0.1, "reorder": 0.1, "delay": 0.05, "nack": 0.1, "return": 0.1, "drop_ack": 0.2}


def test_a_seed_does_the_same_each_time_and_another_does_something_else(make):
    first = run(make, 7)
    assert run(make, 7) == first
    assert run(make, 8) != first
    assert set(first[2]) == set(RATES)


@pytest.mark.parametrize("seed", range(5))
def test_confirmed_messages_arrive_and_refused_ones_do_not(make, seed):
    statuses, data, _ = run(make, seed)
    good = {i for i, status in enumerate(statuses) if status is PublishStatus.CONFIRMED}
    unknown = {i for i, status in enumerate(statuses) if status is PublishStatus.UNKNOWN}
    assert good <= set(data) <= good | unknown


def test_many_threads_lose_no_confirmed_message(make):
    rates = {"drop": 0.1, "drop_confirm": 0.1, "duplicate": 0.2, "reorder": 0.2, "delay": 0.1, "disconnect": 0.1}
    bus, seen = make({"queue_size": 10_000}, rates=rates | {"drop_ack": 0.2}), Seen()
    bus.subscribe("a", seen, concurrency=3)
    confirmed = together(
        4,
        lambda n: [(n, i) for i in range(100) if bus.publish("a", [n, i]).wait(CAP) is PublishStatus.CONFIRMED],
    )
    data = finished(bus, seen)
    assert {pair for part in confirmed for pair in part} <= {tuple(pair) for pair in data}
    (status,) = bus.status().subscriptions
    assert status.acked == status.accepted


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rates": {"dorp": 0.1}}, "did you mean 'drop'"),
        ({"rates": {"drop": -0.1}}, "drop must be"),
        ({"rates": {"drop": 0.6, "nack": 0.6}}, "their sum is 1.2"),
        ({"rates": {"drop_ack": 1.0}}, "drop_ack must be"),
        ({"delay_by": -1}, "delay_by must be"),
        ({"window": -1}, "window must be"),
    ],
)
def test_wrong_options_are_refused(make, options, named):
    with pytest.raises(ConfigError, match=named):
        make(**options)


def test_an_unknown_fault_is_refused(make):
    with pytest.raises(ConfigError, match="did you mean 'drop'"):
        make().next("dropp")


def test_a_generator_function_is_no_handler(make):
    def handler(message):
        yield message

    with pytest.raises(ConfigError, match="generator"):
        make().subscribe("a", handler)
