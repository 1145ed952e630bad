"""The relay of journalled events: order, ids, answers of every kind, outages, and that nobody waits for it."""

import itertools
import logging
import threading
from collections import Counter

import pytest

from hireliab.errors import BusError, BusFullError, ClosedError
from hireliab.messaging import outbox as module
from hireliab.messaging.bus import PublishReceipt, PublishStatus
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.messaging.outbox import Outbox, OutboxEvent
from tests.support.together import Background, together, until

RELAY = ("hireliab.outbox.",)


class Store:
    """A journal's events, in memory."""

    def __init__(self, clock):
        self.clock = clock
        self.lock = threading.Lock()
        self.events, self.marked = {}, []
        self.numbers = itertools.count(1)
        self.failures = []  # raised by the next reads
        self.mark_failures = []
        self.mark_delay, self.unwritten = 0.0, []
        self.most_read = 0

    def add(self, key, topic="transaction.completed", version=None):
        with self.lock:
            seq = next(self.numbers)
            version = version or 1 + sum(event.key == key for event in self.events.values())
            event_id = f"{key}:{version}"
            body = f'{{"event_id": "{event_id}"}}'
            self.events[seq] = OutboxEvent(
                event_id=event_id, key=key, topic=topic, body=body, created=self.clock.time(), seq=seq
            )
            return event_id

    def pending(self, after, limit):
        if self.failures:
            raise self.failures.pop()
        with self.lock:
            while self.unwritten and self.unwritten[0][0] <= self.clock.monotonic():
                self.marked += self.unwritten.pop(0)[1]
            found = [e for seq, e in sorted(self.events.items()) if seq > after and seq not in self.marked][:limit]
            self.most_read = max(self.most_read, len(found))
            return found

    def mark(self, seqs):
        if self.mark_failures:
            raise self.mark_failures.pop()
        with self.lock:
            if self.mark_delay:
                self.unwritten.append((self.clock.monotonic() + self.mark_delay, seqs))
            else:
                self.marked += seqs

    def backlog(self):
        with self.lock:
            waiting = [e for seq, e in self.events.items() if seq not in self.marked]
            return len(waiting), waiting[0].created if waiting else None

    def drop(self, count):
        with self.lock:
            gone = [seq for seq in sorted(self.events) if seq not in self.marked][:count]
            for seq in gone:
                del self.events[seq]
            return len(gone)

    def ids(self):
        """Of those that are marked, in the order of the marks."""
        with self.lock:
            return [self.events[seq].event_id for seq in self.marked if seq in self.events]


class Bus:
    """A bus that answers as told: by status, by an error, or not at all (None); CONFIRMED when nothing is told."""

    durable = True

    def __init__(self, clock):
        self.clock = clock
        self.script, self.always, self.unwanted, self.refused = [], None, set(), None
        self.connected = True
        self.calls, self.receipts = [], []
        self.mandatory = set()

    def publish(self, topic, data, *, subject, message_id, mandatory):
        assert data == {"event_id": message_id}
        assert message_id.startswith(subject + ":")
        self.calls.append(message_id)
        self.mandatory.add(mandatory)
        answer = self.script.pop(0) if self.script else self.always or PublishStatus.CONFIRMED
        if topic in self.unwanted:
            answer = PublishStatus.RETURNED
        if message_id == self.refused:
            answer = PublishStatus.NACKED
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer()
            answer = PublishStatus.CONFIRMED
        receipt = PublishReceipt(message_id=message_id, topic=topic, clock=self.clock)
        self.receipts.append(receipt)
        if answer != "open":
            receipt.settle(answer, "as told")
        return receipt

    def publish_sync(self):
        raise AssertionError("the relay must not wait")

    def status(self):
        return self


@pytest.fixture
def store(clock):
    return Store(clock)


@pytest.fixture
def bus(clock):
    return Bus(clock)


@pytest.fixture
def alerts():
    class Told(list):
        def tell(self, level, title, message):
            self.append((level, title, message))

    return Told()


@pytest.fixture
def relay(clock, store, bus, alerts):
    made = []

    def relay(bus=bus, **settings):
        given = {
            "pending": store.pending,
            "mark_published": store.mark,
            "backlog": store.backlog,
            "drop": store.drop,
            "alert": alerts.tell,
            "clock": clock,
            **settings,
        }
        outbox = Outbox(bus, name="test", **given)
        made.append(outbox)
        return outbox

    yield relay
    for outbox in made:
        outbox.stop(0.0)


@pytest.fixture
def pass_until(clock):
    """Let fake time pass, as far as it must, until the predicate holds; the seconds that passed."""

    def pass_until(predicate, limit=600.0):
        return clock.advance_until(predicate, limit=limit, threads=RELAY)

    return pass_until


def rest(clock):
    """Until the relay has nothing to do but to wait."""
    until(lambda: clock.parked(RELAY) == 1)


# -- order, ids, marks --------------------------------------------------------------------------------------------


def test_events_are_published_in_order_and_marked(store, bus, relay):
    for n in range(20):
        store.add(f"T{n % 3}")
    relay().start()
    until(lambda: len(store.marked) == 20)
    assert bus.calls == store.ids() == [event.event_id for event in store.events.values()]


def test_a_new_event_is_published_as_soon_as_its_record_is_there(clock, store, bus, relay):
    outbox = relay()
    outbox.start()
    rest(clock)
    store.add("T1")
    outbox.wake()
    until(lambda: store.ids() == ["T1:1"])  # no fake time has passed
    assert clock.monotonic() == 1000.0


def test_an_event_that_nobody_told_about_is_found_all_the_same(clock, store, relay, pass_until):
    relay().start()
    rest(clock)
    store.add("T1")
    assert pass_until(lambda: store.ids() == ["T1:1"]) <= module.POLL


def test_an_event_is_marked_after_its_confirmation_and_not_before(clock, store, bus, relay, pass_until):
    bus.script = ["open"]
    store.add("T1")
    relay().start()
    until(lambda: len(bus.receipts) == 1)
    rest(clock)
    assert store.marked == []
    bus.receipts[0].settle(PublishStatus.CONFIRMED)
    assert pass_until(lambda: store.ids() == ["T1:1"]) <= 1.0
    assert bus.calls == ["T1:1"]


def test_of_one_transaction_one_event_is_under_way_and_of_others_many(clock, store, bus, relay, pass_until):
    bus.always = "open"
    for n in range(3):
        for key in ("T1", "T2", "T3"):
            store.add(key, version=n + 1)
    relay().start()
    for turn in range(1, 4):
        until(lambda turn=turn: len(bus.calls) == 3 * turn)
        rest(clock)
        assert bus.calls[-3:] == [f"T1:{turn}", f"T2:{turn}", f"T3:{turn}"]
        for receipt in bus.receipts[-3:]:
            receipt.settle(PublishStatus.CONFIRMED)
        pass_until(lambda turn=turn: len(store.marked) == 3 * turn)
    assert len(bus.calls) == 9


def test_the_window_bounds_what_is_under_way(clock, store, bus, relay, pass_until, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 4)
    bus.always = "open"
    for n in range(10):
        store.add(f"T{n}")
    relay().start()
    until(lambda: len(bus.calls) == 4)
    rest(clock)
    assert len(bus.calls) == 4
    bus.receipts[2].settle(PublishStatus.CONFIRMED)
    pass_until(lambda: len(bus.calls) == 5)
    assert bus.calls == [f"T{n}:1" for n in range(5)]


def test_what_is_buffered_on_this_machines_disk_is_published(store, bus, relay):
    bus.always = PublishStatus.BUFFERED
    store.add("T1")
    relay().start()
    until(lambda: store.ids() == ["T1:1"])


def test_only_a_part_of_a_long_backlog_is_in_memory(store, bus, relay, monkeypatch):
    monkeypatch.setattr(module, "HELD", 7)
    for n in range(50):
        store.add(f"T{n % 5}")
    relay().start()
    until(lambda: len(store.marked) == 50)
    assert bus.calls == [event.event_id for event in store.events.values()]
    assert store.most_read == 7


# -- answers that are none ------------------------------------------------------------------------------------------


def test_a_refused_event_stays_and_is_told_once_and_holds_up_only_its_own(clock, store, bus, alerts, relay, pass_until):
    store.add("T1", version=1)
    store.add("T1", version=2)
    store.add("T2", version=1)
    bus.script = [PublishStatus.NACKED]
    outbox = relay()
    outbox.start()
    until(lambda: store.ids() == ["T2:1"])
    rest(clock)
    assert bus.calls == ["T1:1", "T2:1"]
    bus.script = [PublishStatus.NACKED] * 4
    pass_until(lambda: len(store.marked) == 3)
    assert bus.calls == ["T1:1", "T2:1", *["T1:1"] * 5, "T1:2"]
    pass_until(lambda: len(alerts) == 2)
    assert [(level, title) for level, title, _ in alerts] == [
        ("error", "Events are late"),
        ("info", "Events have caught up"),
    ]
    assert "T1:1 on transaction.completed" in alerts[0][2]
    stats = outbox.stats()
    assert (stats.nacked, stats.published, stats.retries, stats.pending, stats.late) == (5, 3, 5, 0, False)


# -- events that nobody wants -----------------------------------------------------------------------------------------


def test_an_event_that_no_queue_wants_stays_unpublished_and_holds_up_nothing(
    clock, store, bus, alerts, relay, pass_until
):
    store.add("T1", topic="order.filled")
    store.add("T1", topic="transaction.completed")
    store.add("T2", topic="order.filled")
    store.add("T3", topic="transaction.completed")
    bus.unwanted = {"order.filled"}
    outbox = relay()
    outbox.start()
    until(lambda: store.ids() == ["T1:2", "T3:1"])
    rest(clock)
    assert bus.calls == ["T1:1", "T1:2", "T3:1"]
    assert outbox.stats().pending == 2
    assert "subscribe a group to it" in alerts[0][2]
    pass_until(lambda: bus.calls.count("T1:1") == 4)
    assert (len(alerts), outbox.stats().returned) == (1, 4)
    bus.unwanted = set()
    pass_until(lambda: len(store.marked) == 4)
    assert store.ids()[2:] == ["T1:1", "T2:1"]
    assert max(bus.calls.count(event_id) for event_id in ("T1:2", "T3:1", "T2:1")) == 1


def test_whoever_subscribes_first_late_gets_everything_in_order(clock, store, bus, relay, pass_until):
    for n in range(12):
        store.add(f"T{n % 3}", topic=("transaction.resolving", "transaction.completed")[n % 2])
    bus.unwanted = {"transaction.resolving", "transaction.completed"}
    outbox = relay()
    outbox.start()
    pass_until(lambda: outbox.stats().returned >= 8)
    rest(clock)
    assert store.marked == []
    bus.unwanted, began = set(), len(bus.calls)
    pass_until(lambda: len(store.marked) == 12)
    assert bus.calls[began:] == [event.event_id for event in store.events.values()]


def test_what_nobody_wants_is_let_go_after_a_day_and_costs_no_memory(clock, store, bus, relay, pass_until, monkeypatch):
    monkeypatch.setattr(module, "HELD", 5)
    monkeypatch.setattr(module, "UNROUTED_KEEP", 600.0)
    bus.unwanted = {"order.filled"}
    for n in range(40):
        store.add(f"T{n}", topic="order.filled")
    store.add("T99")
    outbox = relay()
    outbox.start()
    pass_until(lambda: store.ids() == ["T99:1"])
    assert outbox.stats().unrouted == 0
    passed = pass_until(lambda: outbox.stats().pending == 0, limit=1000.0)
    assert passed == pytest.approx(module.UNROUTED_KEEP, abs=2 * module.BACKOFF_MOST)
    assert (outbox.stats().unrouted, outbox.stats().published) == (40, 1)


def test_events_that_nobody_wants_are_not_published_twice_by_the_look_back(clock, store, bus, relay, pass_until):
    bus.unwanted = {"order.filled"}
    store.mark_delay = 0.9
    store.add("T0", topic="order.filled")
    outbox = relay()
    outbox.start()
    for n in range(1, 60):
        store.add(f"T{n}")
        outbox.wake()
        until(lambda n=n: f"T{n}:1" in bus.calls)
        rest(clock)
        clock.advance(0.5 if n % 9 else 3.0)
    assert bus.calls.count("T0:1") > 2
    assert {count for event_id, count in Counter(bus.calls).items() if event_id != "T0:1"} == {1}


def test_who_subscribes_while_others_never_rest_gets_what_was_kept(clock, store, bus, relay):
    bus.unwanted = {"order.filled"}
    store.mark_delay = 0.9
    kept = [store.add(f"K{n}", topic="order.filled") for n in range(3)]
    outbox = relay()
    outbox.start()
    until(lambda: kept[0] in bus.calls)
    rest(clock)
    for n in range(200):
        bus.unwanted = bus.unwanted if n < 20 else set()
        store.add(f"T{n}")
        bus.refused = f"T{n}:1"  # so that one waits for its next try at any moment
        clock.advance(0.4)
        outbox.wake()
        until(lambda n=n: f"T{n}:1" in bus.calls)
        rest(clock)
        if n > 20 and set(kept) <= set(store.ids()):
            break
    assert set(kept) <= set(store.ids())
    confirmed = [receipt.message_id for receipt in bus.receipts if receipt.status is PublishStatus.CONFIRMED]
    assert max(Counter(confirmed).values()) == 1
    assert [event_id for event_id in confirmed if event_id in kept] == kept
    assert len(outbox._marked_at) < 10


def test_a_confirmation_that_comes_with_the_look_back_is_not_passed_by(clock, store, bus, relay, monkeypatch):
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)
    bus.unwanted = {"order.filled"}
    store.add("K", topic="order.filled")
    store.add("T1")
    bus.script = [PublishStatus.RETURNED, "open"]
    relay().start()
    until(lambda: bus.calls == ["K:1", "T1:1"])
    rest(clock)
    bus.receipts[-1].settle(PublishStatus.CONFIRMED, "as told")
    clock.advance(module.BACKOFF)  # one step sees both
    until(lambda: bus.calls.count("K:1") == 2)
    rest(clock)
    assert bus.calls.count("T1:1") == 1


def test_what_comes_back_goes_before_later_ones_of_its_key(clock, store, bus, relay, pass_until):
    bus.unwanted = {"order.filled"}
    first = store.add("T1")
    outbox = relay()
    bus.script = ["open"]
    outbox.start()
    until(lambda: bus.calls == [first])
    kept = store.add("K", topic="order.filled")
    outbox.wake()
    until(lambda: kept in bus.calls)
    rest(clock)
    bus.script = ["open"]
    later = [store.add("K") for _ in range(3)]
    outbox.wake()
    until(lambda: later[0] in bus.calls)
    rest(clock)
    bus.unwanted = set()
    clock.advance(module.BACKOFF)  # the look-back: the key has one under way, and two in its line
    rest(clock)
    bus.receipts[-1].settle(PublishStatus.CONFIRMED, "as told")
    pass_until(lambda: len(store.marked) == 4)
    assert store.ids() == [later[0], kept, *later[1:]]


# -- answers that do not come -----------------------------------------------------------------------------------------


def test_an_event_whose_data_the_bus_refuses_stays_too(clock, store, bus, alerts, relay, pass_until):
    bus.script = [BusError("too large")]
    store.add("T1")
    store.add("T2")
    relay().start()
    until(lambda: store.ids() == ["T2:1"])
    assert "too large" in alerts[0][2]
    pass_until(lambda: len(store.marked) == 2)


def test_an_event_without_a_known_outcome_is_published_again_under_its_id(clock, store, bus, alerts, relay, pass_until):
    bus.script = [PublishStatus.UNKNOWN, PublishStatus.REJECTED]
    store.add("T1")
    outbox = relay()
    outbox.start()
    pass_until(lambda: store.ids() == ["T1:1"])
    assert bus.calls == ["T1:1"] * 3
    assert (outbox.stats().unknown, alerts) == (2, [])


def test_without_an_answer_an_event_is_published_again(store, bus, relay, pass_until):
    bus.script = ["open", "open"]
    store.add("T1")
    relay().start()
    passed = pass_until(lambda: len(bus.calls) == 2)
    assert module.CONFIRM_TIMEOUT <= passed <= module.CONFIRM_TIMEOUT + module.BACKOFF + 1.0
    pass_until(lambda: store.ids() == ["T1:1"])
    assert bus.calls == ["T1:1"] * 3


def test_what_a_disconnected_bus_still_has_is_not_given_to_it_again(clock, store, bus, relay, pass_until):
    bus.always, bus.connected = "open", False
    for n in range(3):
        store.add(f"T{n}")
    relay().start()
    until(lambda: len(bus.receipts) == 3)
    while clock.monotonic() < 1000.0 + 10 * module.CONFIRM_TIMEOUT:
        rest(clock)
        clock.advance(clock.next_deadline())
    assert len(bus.calls) == 3
    bus.connected = True
    for receipt in bus.receipts:
        receipt.settle(PublishStatus.CONFIRMED)
    pass_until(lambda: len(store.marked) == 3)
    assert len(bus.calls) == 3


def test_an_answer_that_comes_between_two_tries_saves_the_second(clock, store, bus, relay, pass_until):
    bus.script = ["open"]
    store.add("T1")
    relay().start()
    until(lambda: len(bus.receipts) == 1)
    while clock.monotonic() < 1000.0 + module.CONFIRM_TIMEOUT:
        rest(clock)
        clock.advance(clock.next_deadline())
    rest(clock)
    bus.receipts[0].settle(PublishStatus.CONFIRMED)
    pass_until(lambda: store.ids() == ["T1:1"])
    assert bus.calls == ["T1:1"]


# -- a bus that is down ---------------------------------------------------------------------------------------------


def test_a_bus_that_raises_is_tried_again_after_growing_pauses_and_order_is_kept(clock, store, bus, relay, pass_until):
    bus.script = [OSError("no broker")] * 12
    for n in range(6):
        store.add(f"T{n % 2}")
    relay().start()
    began = []
    for n in range(1, 13):
        pass_until(lambda n=n: len(bus.calls) >= n)
        began.append(clock.monotonic())
    pass_until(lambda: len(store.marked) == 6)
    assert bus.calls == ["T0:1"] * 12 + [event.event_id for event in store.events.values()]
    pauses = [after - before for before, after in itertools.pairwise(began)]
    for n, pause in enumerate(pauses):
        whole = min(module.BACKOFF_MOST, module.BACKOFF * 2.0**n)
        assert whole / 2 <= pause <= whole + 0.01, (n, pause)


def test_a_full_bus_is_tried_again_soon(clock, store, bus, relay, pass_until):
    bus.script = [BusFullError("full")] * 20
    store.add("T1")
    relay().start()
    passed = pass_until(lambda: store.ids() == ["T1:1"])
    assert passed == pytest.approx(20 * module.FULL_PAUSE)


def test_a_bus_that_calls_exit_ends_nothing(clock, store, bus, relay, pass_until):
    bus.script = [SystemExit(1), KeyError("x")]
    store.add("T1")
    outbox = relay()
    outbox.start()
    pass_until(lambda: store.ids() == ["T1:1"])
    assert outbox.stats().errors == 2


def test_a_stopped_bus_leaves_the_events_to_the_next_start(clock, store, relay, pass_until):
    stopped = InMemoryMessageBus(clock=clock)
    stopped.start()
    stopped.stop()
    store.add("T1")
    first = relay(stopped)
    first.start()
    until(lambda: first.stats().errors == 1)
    assert ClosedError.__name__ in first.stats().last_error
    assert first.stop(2.0)
    heard = []
    with InMemoryMessageBus(clock=clock) as bus:
        bus.subscribe("#", lambda message: heard.append(message.id))
        relay(bus).start()
        until(lambda: heard == ["T1:1"])
    assert store.ids() == ["T1:1"]


def test_waking_costs_the_caller_nothing_while_the_bus_hangs(store, relay):
    inside, go = threading.Event(), threading.Event()

    class Hangs:
        def publish(self, topic, data, *, message_id):
            inside.set()
            go.wait(10.0)

    store.add("T1")
    outbox = relay(Hangs())
    outbox.start()
    inside.wait(10.0)
    together(4, lambda _: [outbox.wake() for _ in range(1000)])
    assert store.marked == []
    go.set()
    until(lambda: store.ids() == ["T1:1"])


def test_while_the_bus_hangs_somebody_else_can_tell_that_events_are_late(clock, store, alerts, relay):
    inside, go = threading.Event(), threading.Event()

    class Hangs:
        def publish(self, topic, data, *, message_id):
            inside.set()
            go.wait(10.0)

    store.add("T1")
    outbox = relay(Hangs(), late_after=60.0)
    outbox.start()
    inside.wait(10.0)
    for _ in range(3):
        clock.advance(59.0)
        outbox.watch()
    assert [title for _, title, _ in alerts] == ["Events are late"]
    go.set()
    until(lambda: store.ids() == ["T1:1"])


def test_an_outage_is_told_once_and_its_end_once(clock, store, bus, alerts, relay, pass_until):
    bus.always = OSError("no broker")
    outbox = relay(late_after=60.0, late_rows=5)
    outbox.start()
    store.add("T1")
    outbox.wake()
    pass_until(lambda: bool(alerts))
    assert 60.0 <= clock.monotonic() - 1000.0 <= 95.0
    assert alerts[0][0] == "error"
    assert "1 events wait for the message bus" in alerts[0][2]
    assert "no broker" in alerts[0][2]
    for n in range(10):
        store.add(f"T{n}")
    pass_until(lambda: len(bus.calls) > 30, limit=3600.0)
    assert len(alerts) == 1
    bus.always = None
    pass_until(lambda: len(alerts) == 2)
    assert (alerts[1][:2], len(store.marked)) == (("info", "Events have caught up"), 11)
    bus.always = OSError("again")
    for n in range(5):
        store.add(f"U{n}")
    outbox.wake()
    pass_until(lambda: len(alerts) == 3)
    assert "5 events wait" in alerts[2][2]


def test_too_many_events_cost_the_oldest_and_are_told_and_counted(
    clock, store, bus, alerts, relay, pass_until, monkeypatch
):
    monkeypatch.setattr(module, "HELD", 2)
    bus.always = OSError("no broker")
    for n in range(25):
        store.add(f"T{n}")
    outbox = relay(most_rows=20, late_after=1e9, late_rows=10**9)
    outbox.start()
    until(lambda: bool(alerts))
    assert (alerts[0][0], alerts[0][1]) == ("critical", "Events are given up")
    assert outbox.stats().dropped == 5
    for n in range(25, 30):
        store.add(f"T{n}")
    pass_until(lambda: outbox.stats().dropped == 10)
    assert len(alerts) == 1
    bus.always = None
    pass_until(lambda: len(alerts) == 2)
    assert store.ids() == [f"T{n}:1" for n in range(10, 30)]


# -- the store ------------------------------------------------------------------------------------------------------


def test_a_failed_read_of_the_journal_is_tried_again(clock, store, bus, relay, pass_until, caplog):
    store.failures = [RuntimeError("disk"), SystemExit(2)]
    store.add("T1")
    relay().start()
    assert pass_until(lambda: store.ids() == ["T1:1"]) == pytest.approx(2.0)
    assert "a step failed" in caplog.text


def test_marks_that_cannot_be_written_stop_nothing_and_the_next_start_publishes_again(store, bus, relay, caplog):
    store.mark_failures = [ClosedError("closed")]
    store.add("T1")
    first = relay()
    first.start()
    until(lambda: bus.calls == ["T1:1"])
    store.add("T2")
    first.wake()
    until(lambda: store.ids() == ["T2:1"])
    assert first.stop(1.0)
    assert bus.calls == ["T1:1", "T2:1"]
    relay().start()
    until(lambda: store.ids() == ["T2:1", "T1:1"])
    assert bus.calls == ["T1:1", "T2:1", "T1:1"]


# -- buses of every kind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, 5, "sent", object()])
def test_a_bus_of_the_users_own_needs_one_method(store, relay, answer):
    calls = []

    class Own:
        def publish(self, topic, data, *, message_id):
            calls.append((topic, data, message_id))
            return answer

    store.add("T1", topic="order.filled")
    relay(Own()).start()
    until(lambda: store.ids() == ["T1:1"])
    assert calls == [("order.filled", {"event_id": "T1:1"}, "T1:1")]


@pytest.mark.parametrize(
    ("durable", "keep", "mandatory"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_only_a_durable_bus_is_asked_whether_anybody_wants_an_event(store, bus, relay, durable, keep, mandatory):
    bus.durable = durable
    store.add("T1")
    relay(keep_unrouted=keep).start()
    until(lambda: store.ids() == ["T1:1"])
    assert bus.mandatory == {mandatory}


def test_in_memory_an_event_that_nobody_subscribed_to_is_published(clock, store, relay):
    with InMemoryMessageBus(clock=clock) as bus:
        store.add("T1")
        relay(bus).start()
        until(lambda: store.ids() == ["T1:1"])


# -- life -----------------------------------------------------------------------------------------------------------


def test_stop_publishes_what_can_be_published_and_ends(store, bus, relay, monkeypatch):
    monkeypatch.setattr(module, "HELD", 50)
    inside, go = threading.Event(), threading.Event()
    bus.script = [lambda: (inside.set(), go.wait(10.0))]
    outbox = relay()
    for n in range(600):
        store.add(f"T{n % 7}")
    outbox.start()
    inside.wait(10.0)
    stopping = Background(outbox.stop, 10.0)
    until(lambda: outbox._deadline is not None)
    go.set()
    assert stopping.result()
    assert len(store.marked) == 600
    outbox.wake()
    outbox.start()
    assert outbox.stop(0.0)
    assert not [t for t in threading.enumerate() if t.name == "hireliab.outbox.test"]


def test_stop_does_not_wait_for_a_bus_that_is_down(clock, store, bus, relay):
    bus.always = OSError("no broker")
    store.add("T1")
    outbox = relay()
    outbox.start()
    until(lambda: bool(bus.calls))
    assert outbox.stop(60.0)  # in fake time, which stands still
    assert store.marked == []


def test_stop_waits_for_answers_and_gives_up_at_its_deadline(clock, store, bus, relay):
    bus.always = "open"
    store.add("T1")
    store.add("T2")
    outbox = relay()
    outbox.start()
    until(lambda: len(bus.receipts) == 2)
    stopping = Background(outbox.stop, 3.0)
    until(lambda: outbox._deadline is not None and not outbox._woken)
    rest(clock)
    bus.receipts[0].settle(PublishStatus.CONFIRMED)
    clock.advance_until(lambda: store.ids() == ["T1:1"], threads=RELAY)
    clock.advance_until(lambda: not outbox._thread.is_alive(), threads=RELAY, limit=3.5)
    assert stopping.result()
    assert store.ids() == ["T1:1"]


def test_stop_from_within_the_bus_only_signals(store, relay):
    answers = []

    class Own:
        def publish(self, topic, data, *, message_id):
            answers.append(outbox.stop(5.0))

    store.add("T1")
    store.add("T2")
    outbox = relay(Own())
    outbox.start()
    until(lambda: len(store.marked) == 2)
    until(lambda: outbox.stop(1.0))
    assert answers == [False, False]


def test_a_stop_before_the_start_keeps_it_from_starting(store, bus, relay):
    outbox = relay()
    assert outbox.stop(1.0)
    store.add("T1")
    outbox.start()
    assert (outbox._thread, bus.calls) == (None, [])


# -- case 29 of transactions.md -----------------------------------------------------------------------------------------


def test_three_connections_that_drop_before_the_confirm_are_four_deliveries_of_one_id(
    clock, store, bus, relay, pass_until
):
    bus.script = [PublishStatus.UNKNOWN] * 3  # the broker has taken it each time
    store.add("T1")
    relay().start()
    pass_until(lambda: store.ids() == ["T1:1"])
    assert bus.calls == ["T1:1"] * 4


def test_an_hour_without_a_broker_keeps_every_event_and_their_order(clock, store, bus, alerts, relay, pass_until):
    bus.always = OSError("connection refused")
    outbox = relay()
    outbox.start()
    for minute in range(60):
        for key in ("A", "B", f"C{minute}"):
            store.add(key)
            outbox.wake()
        end = 1000.0 + 60.0 * (minute + 1)
        while clock.monotonic() < end:
            rest(clock)
            clock.advance(min(clock.next_deadline(), end - clock.monotonic()))
    assert store.marked == []
    bus.always = None
    assert pass_until(lambda: len(store.marked) == 180) <= module.BACKOFF_MOST
    assert store.ids() == [event.event_id for event in store.events.values()]
    pass_until(lambda: len(alerts) == 2)
    assert [level for level, _, _ in alerts] == ["error", "info"]
    assert outbox.stats().errors <= 250


def test_the_relay_writes_no_body_into_the_log(store, bus, relay, pass_until, caplog):
    caplog.set_level(logging.DEBUG)
    bus.script = [OSError("x"), PublishStatus.NACKED]
    store.add("T1")
    relay().start()
    pass_until(lambda: store.ids() == ["T1:1"])
    assert "event_id" not in caplog.text
