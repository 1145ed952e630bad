"""What every MessageBus promises. One suite over all implementations; it uses real time only as a cap on hangs."""

import os
import signal
import threading
import time
from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from hireliab.errors import BusError, BusFullError, ClosedError, ConfigError
from hireliab.messaging.bus import PublishReceipt, PublishStatus, Reject
from tests.support import buses
from tests.support.buses import CAP, until
from tests.support.together import Background, handler, in_child, together

KINDS = ["memory", "faulty", "rabbitmq-quorum", "rabbitmq-classic"]


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    """One of the implementations: it opens buses."""
    if request.param.startswith("rabbitmq"):
        url, prefix = (request.getfixturevalue(name) for name in ("amqp_url", "amqp_prefix"))
        kind = buses.RabbitMQ(url, prefix, request.param.removeprefix("rabbitmq-"))
    else:
        kind = {"memory": buses.Memory, "faulty": buses.Faulty}[request.param](monkeypatch)
    yield kind
    kind.close()


@pytest.fixture
def open_bus(kind):
    """Open buses that are stopped at the end."""
    opened = []

    def open_bus(**options):
        opened.append(kind.open(**options))
        return opened[-1]

    yield open_bus
    for bus in opened:
        bus.stop(0.0)
        bus.stop(CAP)


@pytest.fixture
def bus(open_bus):
    return open_bus()


class Collector:
    """A handler that keeps what it gets; `wait(n)` waits for the n-th message."""

    def __init__(self, then=None):
        self._arrived = threading.Condition()
        self.messages = []
        self._then = then

    def __call__(self, message):
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()
        if self._then is not None:
            self._then(message)

    def wait(self, count):
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, CAP), self.messages
            return [message.data for message in self.messages]


class Held(Collector):
    """One that keeps its thread until it is let go."""

    def __init__(self):
        super().__init__(self._hold)
        self._go = threading.Event()

    def _hold(self, message):
        assert self._go.wait(CAP)

    def release(self):
        self._go.set()


def fail(message):
    raise ValueError("cannot")


def queue_of(bus, pattern):
    """The status of the only queue with this pattern; its sum must be right at any moment."""
    (status,) = [s for s in bus.status().subscriptions if s.pattern == pattern]
    held = status.queued + status.retrying + status.in_flight
    assert status.accepted == held + status.acked + status.dead_lettered + status.unfinished, status
    return status


# -- topics and data ----------------------------------------------------------------------------------------------


def test_events_reach_every_subscription_that_matches(bus):
    wide, narrow, other = Collector(), Collector(), Collector()
    bus.subscribe("transaction.*", wide)
    bus.subscribe("transaction.completed", narrow)
    bus.subscribe("order.#", other)
    for topic in ("transaction.created", "transaction.completed", "order.btc.filled"):
        bus.publish_sync(topic, topic)
    assert wide.wait(2) == ["transaction.created", "transaction.completed"]
    assert narrow.wait(1) == ["transaction.completed"]
    assert other.wait(1) == ["order.btc.filled"]


def test_a_message_carries_what_its_publisher_said_and_the_cloudevents_attributes(open_bus):
    bus, collector = open_bus(source="bot-1"), Collector()
    bus.subscribe("order.filled", collector)
    before = time.time()
    headers = {"trace": "0af7", "größe": "数量 = 1\n\t", "empty": ""}
    receipt = bus.publish_sync("order.filled", None, headers=headers, subject="txn-1 → BTC", message_id="txn-1:3")
    after = time.time()
    collector.wait(1)
    (message,) = collector.messages
    assert (message.id, message.source, message.topic, message.type) == (
        "txn-1:3",
        "bot-1",
        "order.filled",
        "order.filled",
    )
    assert (message.subject, message.data, dict(message.headers)) == ("txn-1 → BTC", None, headers)
    assert before - 0.001 <= message.time <= after + 0.001
    assert (message.attempt, message.redelivered) == (1, False)
    assert (receipt.message_id, receipt.topic) == ("txn-1:3", "order.filled")
    with pytest.raises(TypeError):
        message.headers["trace"] = "x"


def test_a_message_without_them_has_no_subject_no_headers_and_an_id_of_its_own(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    receipts = [bus.publish_sync("a", i) for i in range(3)]
    collector.wait(3)
    assert [(message.subject, dict(message.headers)) for message in collector.messages] == [(None, {})] * 3
    assert [message.id for message in collector.messages] == [receipt.message_id for receipt in receipts]
    assert len({receipt.message_id for receipt in receipts}) == 3


@pytest.mark.parametrize("data", [None, 0, "", [], {}, {"ö": [1.5, True, {"x": None}]}, "😀\x00\u2028", 10**30, -0.1])
def test_data_arrives_as_json_makes_it(bus, data):
    collector = Collector()
    bus.subscribe("a", collector)
    bus.publish_sync("a", data)
    assert collector.wait(1) == [data]


def test_decimals_arrive_as_text_and_data_is_copied(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    data = {"amount": Decimal("0.0010"), "fills": [1]}
    bus.publish("a", data)
    data["fills"].append(2)
    assert collector.wait(1) == [{"amount": "0.001", "fills": [1]}]


def test_every_delivery_has_its_own_copy_of_the_data(bus):
    def spoil(message):
        message.data["x"] = "spoilt"
        if message.attempt == 1:
            raise ValueError

    seen, other = [], Collector()

    def handler(message):
        seen.append(dict(message.data))
        spoil(message)

    bus.subscribe("a", handler)
    bus.subscribe("a", other)
    bus.publish_sync("a", {"x": 1})
    until(lambda: len(seen) == 2)
    assert seen == [{"x": 1}] * 2
    assert other.wait(1) == [{"x": 1}]


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [object(), float("nan"), Decimal("Infinity"), {1, 2}, "\ud800"])
def test_data_that_is_not_json_is_refused_and_nothing_is_sent(bus, data):
    collector = Collector()
    bus.subscribe("a", collector)
    with pytest.raises(BusError, match="not JSON"):
        bus.publish("a", data)
    bus.publish_sync("a", "next")
    assert collector.wait(1) == ["next"]


def test_too_much_data_is_refused_before_it_is_queued(open_bus):
    bus, collector = open_bus(max_message_bytes=10), Collector()
    bus.subscribe("a", collector)
    with pytest.raises(BusError, match="11 bytes, at most 10"):
        bus.publish("a", "x" * 9)
    bus.publish_sync("a", "x" * 8)
    assert collector.wait(1) == ["x" * 8]
    until(lambda: bus.status().in_flight_bytes == 0)


@pytest.mark.parametrize("topic", ["a.*", "#", "*", "a.#.b", "", "a..b", "a b", "x" * 256, None])
def test_what_is_no_topic_cannot_be_published(bus, topic):
    collector = Collector()
    bus.subscribe("#", collector)
    with pytest.raises(ConfigError, match="topic"):
        bus.publish(topic, 1)
    bus.publish_sync("a", "next")
    assert collector.wait(1) == ["next"]


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"a": 1}},
        {"headers": ["a"]},
        {"headers": {"a": "x" * 1001}},
        {"headers": {"": "a"}},
        {"headers": {"n" * 256: "a"}},
        {"headers": {"a": "\ud800"}},
        {"headers": {"CC": "a"}},
        {"headers": {"BCC": "a"}},
        {"headers": {"x-death": "a"}},
        {"headers": {"cloudEvents_id": "a"}},
        {"headers": {"hireliab_reason": "a"}},
        {"headers": {f"h{i}": "ü" * 1000 for i in range(40)}},
        {"subject": ""},
        {"subject": 7},
        {"message_id": ""},
        {"message_id": "x" * 201},
        {"message_id": "😀" * 64},
        {"message_id": "line\nbreak"},
    ],
)
def test_wrong_options_publish_nothing(bus, options):
    collector = Collector()
    bus.subscribe("a", collector)
    with pytest.raises(ConfigError, match="header" if "headers" in options else next(iter(options)).replace("_", ".")):
        bus.publish("a", 1, **options)
    bus.publish_sync("a", "next")
    assert collector.wait(1) == ["next"]


def generator(message):
    yield message


async def coroutine(message):
    pass


@pytest.mark.parametrize(
    "arguments",
    [
        {"pattern": "a b"},
        {"pattern": "a*"},
        {"handler": None},
        {"handler": generator},
        {"handler": coroutine},
        {"group": ""},
        {"group": "x" * 121},
        {"group": "ü" * 91},
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"prefetch": 0},
        {"concurrency": 3, "prefetch": 2},
        {"prefetch": 301},
    ],
)
def test_wrong_arguments_subscribe_nothing(bus, arguments):
    arguments = {"pattern": "a", "handler": print, **arguments}
    pattern, handler = arguments.pop("pattern"), arguments.pop("handler")
    with pytest.raises(ConfigError):
        bus.subscribe(pattern, handler, **arguments)
    assert bus.status().subscriptions == ()


def test_a_group_has_one_pattern(bus):
    collector = Collector()
    bus.subscribe("a", collector, group="g")
    with pytest.raises(ConfigError, match="cannot take 'b' too"):
        bus.subscribe("b", print, group="g")
    bus.publish_sync("a", 1)
    assert collector.wait(1) == [1]


# -- receipts -----------------------------------------------------------------------------------------------------


def test_a_confirmed_message_says_so(bus):
    bus.subscribe("a", Collector())
    for mandatory in (False, True):
        assert bus.publish("a", 1, mandatory=mandatory).result(CAP) is PublishStatus.CONFIRMED
        assert bus.publish_sync("a", 1, mandatory=mandatory).status is PublishStatus.CONFIRMED
    until(lambda: bus.status().published == 4)  # counted a moment after the receipt is settled


def test_a_mandatory_message_that_nobody_wants_is_returned(bus):
    assert bus.publish("nobody", 1, mandatory=True).wait(CAP) is PublishStatus.RETURNED
    with pytest.raises(BusError, match="returned .*nobody will see it"):
        bus.publish_sync("nobody", 1, mandatory=True)
    assert bus.publish("nobody", 1).wait(CAP) is PublishStatus.CONFIRMED
    until(lambda: (bus.status().returned, bus.status().published) == (2, 1))


def test_returned_and_confirmed_messages_are_not_mixed_up(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    receipts = [(i, bus.publish("a" if i % 3 else "nobody", i, mandatory=True)) for i in range(300)]
    for i, receipt in receipts:
        assert receipt.wait(CAP) is (PublishStatus.CONFIRMED if i % 3 else PublishStatus.RETURNED)
    assert collector.wait(200) == [i for i in range(300) if i % 3]


def test_the_same_id_may_be_published_again_with_both_in_flight(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    receipts = [bus.publish("a", 1, message_id="m", mandatory=True) for _ in range(5)]
    receipts.append(bus.publish("nobody", 1, message_id="m", mandatory=True))
    statuses = [receipt.wait(CAP) for receipt in receipts]
    assert statuses == [PublishStatus.CONFIRMED] * 5 + [PublishStatus.RETURNED]
    collector.wait(5)
    assert {message.id for message in collector.messages} == {"m"}


def test_publish_waits_for_no_handler(bus):
    held = Held()
    bus.subscribe("a", held)
    for i in range(20):
        assert bus.publish_sync("a", i).status is PublishStatus.CONFIRMED
    held.release()
    assert held.wait(20) == list(range(20))


def test_a_full_bus_raises_and_what_it_refused_does_not_arrive(open_bus):
    bus, held = open_bus(room=5), Held()
    bus.subscribe("a", held)
    taken = []
    with pytest.raises(BusFullError):
        for i in range(100_000):
            taken.append((i, bus.publish("a", i)))
    assert bus.status().full == 1
    held.release()
    assert [receipt.wait(CAP) for _, receipt in taken] == [PublishStatus.CONFIRMED] * len(taken)
    bus.publish_sync("a", "last")
    assert held.wait(len(taken) + 1) == [i for i, _ in taken] + ["last"]


def test_a_publisher_may_wait_for_room(open_bus):
    bus, collector = open_bus(room=3), Collector()
    bus.subscribe("a", collector)
    for i in range(300):
        bus.publish("a", i, timeout=CAP)
    assert collector.wait(300) == list(range(300))
    assert bus.status().full == 0


def test_every_receipt_is_settled_once_and_for_good(bus, monkeypatch):
    settled, real = Counter(), PublishReceipt.settle
    lock = threading.Lock()

    def settle(receipt, status, reason=""):
        done = real(receipt, status, reason)
        with lock:
            settled[id(receipt)] += done
        return done

    monkeypatch.setattr(PublishReceipt, "settle", settle)
    bus.subscribe("a", Collector(), concurrency=2)
    parts = together(
        4, lambda n: [bus.publish("a" if i % 2 else "b", i, mandatory=True, timeout=CAP) for i in range(100)]
    )
    receipts = [receipt for part in parts for receipt in part]
    first = [receipt.wait(CAP) for receipt in receipts]
    bus.stop(CAP)
    assert [receipt.status for receipt in receipts] == first
    assert [settled[id(receipt)] for receipt in receipts] == [1] * 400
    status = bus.status()
    assert (status.published, status.returned, status.in_flight, status.in_flight_bytes) == (200, 200, 0, 0)


def test_after_stop_no_receipt_is_open(bus):
    bus.subscribe("a", Collector())
    receipts = [bus.publish("a", i) for i in range(500)]
    bus.stop(CAP)
    statuses = Counter(receipt.status for receipt in receipts)
    assert set(statuses) <= {PublishStatus.CONFIRMED, PublishStatus.REJECTED, PublishStatus.UNKNOWN}
    assert statuses[PublishStatus.CONFIRMED] == bus.status().published


# -- redelivery and dead letters ----------------------------------------------------------------------------------


def test_a_raising_handler_gets_the_same_message_again(bus):
    def once(message):
        if message.attempt == 1:
            raise ValueError("not yet")

    collector = Collector(once)
    bus.subscribe("a", collector)
    receipt = bus.publish_sync("a", {"x": 1}, headers={"h": "1"}, subject="s")
    collector.wait(2)
    first, second = collector.messages
    assert first.id == second.id == receipt.message_id
    assert (first.redelivered, second.redelivered, second.attempt) == (False, True, 2)
    assert (second.subject, dict(second.headers), second.time) == ("s", {"h": "1"}, first.time)
    until(lambda: queue_of(bus, "a").acked == 1)
    assert queue_of(bus, "a").failures == 1


def test_redelivery_ends_in_the_dead_letters_with_the_reason(kind, bus):
    poison, tail = Collector(fail), Collector()
    bus.subscribe("a", poison, group="g")
    bus.subscribe("b", tail)
    receipt = bus.publish_sync("a", 1)
    poison.wait(3)
    until(lambda: queue_of(bus, "a").dead_lettered == 1)
    bus.publish_sync("b", 1)
    tail.wait(1)
    assert [(m.attempt, m.redelivered) for m in poison.messages] == [(1, False), (2, True), (3, True)]
    assert kind.dead_letters(bus, "g") == [(receipt.message_id, "ValueError: cannot")]
    status = queue_of(bus, "a")
    assert (status.failures, status.acked, status.retrying, status.in_flight) == (3, 0, 0, 0)


def test_a_rejected_message_is_dead_lettered_at_once(kind, bus):
    def reject(message):
        raise Reject("no such market")

    collector = Collector(reject)
    bus.subscribe("a", collector)
    receipt = bus.publish_sync("a", 1)
    collector.wait(1)
    until(lambda: queue_of(bus, "a").dead_lettered == 1)
    assert kind.dead_letters(bus) == [(receipt.message_id, "no such market")]
    assert len(collector.messages) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_is_dead_lettered_and_holds_up_nobody(kind, bus, body):
    collector = Collector()
    bus.subscribe("a", collector, group="g")
    kind.publish_raw(bus, "a", body)
    bus.publish_sync("a", "next")
    assert collector.wait(1) == ["next"]
    until(lambda: queue_of(bus, "a").dead_lettered == 1)
    ((message_id, reason),) = kind.dead_letters(bus, "g")
    assert message_id == "raw"
    assert "not JSON" in reason


def test_a_failing_handler_disturbs_no_other_and_not_the_publisher(bus):
    good = Collector()
    bus.subscribe("a", Collector(fail))
    bus.subscribe("a", good)
    for i in range(10):
        bus.publish_sync("a", i)
    assert good.wait(10) == list(range(10))


def test_poison_among_good_messages_delays_none_of_them_for_good(bus):
    def handler(message):
        if message.data % 10 == 0:
            raise ValueError

    collector = Collector(handler)
    bus.subscribe("a", collector, concurrency=2)
    for i in range(50):
        bus.publish_sync("a", i)
    until(lambda: queue_of(bus, "a").acked == 45 and queue_of(bus, "a").dead_lettered == 5, bus.status)
    assert Counter(message.data for message in collector.messages) == {i: 3 if i % 10 == 0 else 1 for i in range(50)}


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError, GeneratorExit])
def test_whatever_a_handler_raises_the_bus_goes_on(kind, bus, error):
    def handler(message):
        if message.data == 1:
            raise error("why")

    collector = Collector(handler)
    bus.subscribe("a", collector)
    bus.publish_sync("a", 1, message_id="m")
    bus.publish_sync("a", 2)
    until(lambda: queue_of(bus, "a").dead_lettered == 1 and queue_of(bus, "a").acked == 1)
    assert kind.dead_letters(bus) == [("m", f"{error.__name__}: why")]


def test_an_error_that_cannot_be_printed_is_a_failure_like_any_other(kind, bus):
    class Awful(Exception):
        def __str__(self):
            raise RuntimeError("not even its text")

    def handler(message):
        raise Awful

    bus.subscribe("a", handler)
    bus.publish_sync("a", 1, message_id="m")
    assert kind.dead_letters(bus) == [("m", "Awful")]


# -- groups, threads, order ---------------------------------------------------------------------------------------


def test_a_group_shares_its_messages(bus):
    done = threading.Barrier(2)

    def meet(message):
        if message.data < 2:  # each member must take one of the first two, or nobody goes on
            done.wait(CAP)

    one, two = Collector(meet), Collector(meet)
    bus.subscribe("a", one, group="g", prefetch=1)
    bus.subscribe("a", two, group="g", prefetch=1)
    for i in range(20):
        bus.publish_sync("a", i)
    until(lambda: len(one.messages) + len(two.messages) == 20)
    assert one.messages
    assert two.messages
    assert sorted(m.data for m in one.messages + two.messages) == list(range(20))


def test_each_group_and_each_subscription_without_one_gets_every_message(bus):
    everyone = [Collector() for _ in range(4)]
    for collector, group in zip(everyone, ("g", "h", None, None), strict=True):
        bus.subscribe("a", collector, group=group)
    for i in range(10):
        bus.publish_sync("a", i)
    assert [collector.wait(10) for collector in everyone] == [list(range(10))] * 4


def test_a_group_goes_on_when_one_of_its_members_leaves(bus):
    first, second = Collector(), Collector()
    leaving = bus.subscribe("a", first, group="g")
    bus.subscribe("a", second, group="g")
    assert leaving.unsubscribe(CAP) is True
    for i in range(5):
        bus.publish_sync("a", i)
    assert second.wait(5) == list(range(5))
    assert first.messages == []


def test_no_more_handlers_run_than_asked_for_and_so_many_do(bus):
    lock = threading.Lock()
    running, most = 0, 0
    three = threading.Barrier(3)

    def handler(message):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        three.wait(CAP)
        with lock:
            running -= 1

    collector = Collector(handler)
    bus.subscribe("a", collector, concurrency=3)
    for i in range(9):
        bus.publish_sync("a", i)
    collector.wait(9)
    until(lambda: queue_of(bus, "a").acked == 9)
    assert most == 3


@pytest.mark.parametrize("prefetch", [1, 3])
def test_no_more_messages_are_in_one_members_hands_than_its_prefetch(bus, prefetch):
    slow, quick = Held(), Collector()
    bus.subscribe("a", slow, group="g", prefetch=prefetch)
    bus.publish_sync("a", 0)
    slow.wait(1)
    bus.subscribe("a", quick, group="g")
    for i in range(1, 20):
        bus.publish_sync("a", i)
    least = 20 - prefetch
    assert set(quick.wait(least)) <= set(range(1, 20))
    slow.release()
    until(lambda: len(slow.messages) + len(quick.messages) == 20)
    assert sorted(m.data for m in slow.messages + quick.messages) == list(range(20))


def test_one_thread_keeps_the_order_of_one_publisher(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    for i in range(500):
        bus.publish("a", i, timeout=CAP)
    assert collector.wait(500) == list(range(500))


def test_one_thread_keeps_the_order_of_each_of_many_publishers(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    together(4, lambda n: [bus.publish("a", [n, i], timeout=CAP) for i in range(200)] and None)
    collector.wait(800)
    orders = defaultdict(list)
    for message in collector.messages:
        orders[message.data[0]].append(message.data[1])
    assert dict(orders) == {n: list(range(200)) for n in range(4)}


def test_many_publishers_and_handlers_lose_and_invent_nothing(bus):
    collector = Collector()
    bus.subscribe("load.#", collector, concurrency=4)
    receipts = together(8, lambda n: [bus.publish(f"load.{n}", [n, i], timeout=CAP) for i in range(100)])
    assert {receipt.wait(CAP) for part in receipts for receipt in part} == {PublishStatus.CONFIRMED}
    collector.wait(800)
    until(lambda: queue_of(bus, "load.#").acked == 800)
    assert sorted(m.data for m in collector.messages) == [[n, i] for n in range(8) for i in range(100)]


def test_handlers_run_on_the_buss_own_daemon_threads(bus):
    threads = []
    bus.subscribe("a", Collector(lambda m: threads.append(threading.current_thread())))
    bus.publish_sync("a", 1)
    until(lambda: threads)
    assert threads[0].name.startswith("hireliab.bus.contract-handler-")
    assert threads[0].daemon


def test_the_figures_of_a_queue_add_up_at_every_moment(bus):
    def handler(message):
        if message.data % 7 == 0:
            raise Reject
        if message.data % 5 == 0 and message.attempt < 2:
            raise ValueError

    bus.subscribe("a", handler, concurrency=3)
    over = threading.Event()

    def look():
        looks = 0
        while not over.is_set():
            queue_of(bus, "a")
            looks += 1
        return looks

    looking = Background(look)
    together(3, lambda n: [bus.publish("a", i, timeout=CAP) for i in range(140)] and None)
    until(lambda: (queue_of(bus, "a").acked, queue_of(bus, "a").dead_lettered) == (360, 60), bus.status)
    over.set()
    assert looking.result() > 0
    status = queue_of(bus, "a")
    assert (status.dead_lettered, status.queued, status.retrying, status.unfinished) == (60, 0, 0, 0)
    assert status.failures == 60 + 3 * 24  # of 140, 28 are multiples of 5 and 4 of these of 35


# -- calls from handlers ------------------------------------------------------------------------------------------


def test_publish_and_publish_sync_work_inside_a_handler(bus):
    derived = Collector()

    def derive(message):
        bus.publish("b", message.data + 1)
        bus.publish_sync("b", message.data + 2)

    bus.subscribe("a", derive)
    bus.subscribe("b", derived)
    bus.publish_sync("a", 1)
    assert derived.wait(2) == [2, 3]


def test_a_handler_may_subscribe(bus):
    found = Collector()
    bus.subscribe("a", lambda message: bus.subscribe("b", found))
    bus.publish_sync("a", 1)
    until(lambda: len(bus.status().subscriptions) == 2 and bus.status().subscriptions[1].ready)
    bus.publish_sync("b", 2)
    assert found.wait(1) == [2]


def test_stop_in_a_handler_only_signals(bus):
    called = threading.Event()

    def handler(message):
        bus.stop()
        bus.stop(None)
        called.set()

    collector = Collector(handler)
    bus.subscribe("a", collector)
    bus.publish("a", 1)
    assert called.wait(CAP)
    with pytest.raises(ClosedError):
        bus.publish("a", 2)
    bus.stop(CAP)
    assert bus.status().state == "stopped"
    assert queue_of(bus, "a").acked == 1


def test_unsubscribe_in_a_handler_only_signals(bus):
    results = []

    def leave(message):
        results.append(subscription.unsubscribe(CAP))

    collector, here = Collector(leave), Collector()
    subscription = bus.subscribe("a", collector)
    bus.subscribe("a", here)
    bus.publish_sync("a", 1)
    collector.wait(1)
    assert subscription.unsubscribe(CAP) is True
    assert results == [False]
    bus.publish_sync("a", 2)
    assert here.wait(2) == [1, 2]
    assert len(collector.messages) == 1


# -- life ---------------------------------------------------------------------------------------------------------


def test_the_first_use_starts_the_bus_and_a_with_block_stops_it(open_bus):
    bus = open_bus()
    assert bus.status().state == "new"
    assert "contract" in repr(bus)
    with bus as same:
        assert same is bus
        assert bus.status().state == "running"
        bus.start()
        assert bus.status().state == "running"
    assert bus.status().state == "stopped"
    other, collector = open_bus(), Collector()
    other.subscribe("a", collector)
    assert other.status().state == "running"
    other.publish_sync("a", 1)
    assert collector.wait(1) == [1]


def test_an_unused_bus_can_be_stopped(open_bus):
    bus = open_bus()
    bus.stop()
    assert bus.status().state == "stopped"


def test_an_unsubscribed_handler_gets_nothing_more(bus):
    gone, here = Collector(), Collector()
    subscription = bus.subscribe("a", gone)
    bus.subscribe("a", here)
    bus.publish_sync("a", 1)
    gone.wait(1)
    assert (subscription.pattern, subscription.group) == ("a", None)
    assert subscription.unsubscribe(CAP) is True
    bus.publish_sync("a", 2)
    assert here.wait(2) == [1, 2]
    assert len(gone.messages) == 1
    assert subscription.unsubscribe() is True


def test_unsubscribe_waits_for_the_running_handler_and_no_longer_than_told(bus):
    held = Held()
    subscription = bus.subscribe("a", held)
    bus.publish_sync("a", 1)
    held.wait(1)
    assert subscription.unsubscribe(0.0) is False
    waiting = Background(subscription.unsubscribe, CAP)
    held.release()
    assert waiting.result() is True


def test_stop_waits_for_the_handlers_and_starts_none_afterwards(bus):
    held = Held()
    bus.subscribe("a", held, concurrency=2)
    for i in range(10):
        bus.publish_sync("a", i)
    held.wait(2)
    bus.stop(0.0)
    status = queue_of(bus, "a")
    assert status.in_flight == 2
    held.release()
    bus.stop(CAP)
    status = queue_of(bus, "a")
    assert (status.in_flight, status.queued, status.retrying) == (0, 0, 0)
    assert len(held.messages) == 2
    assert bus.status().state == "stopped"


def test_stop_refuses_new_messages_while_it_waits(bus):
    held = Held()
    bus.subscribe("a", held)
    bus.publish_sync("a", 1)
    held.wait(1)
    stopping = Background(bus.stop, CAP)
    until(lambda: bus.status().state == "stopping")
    for use in (lambda: bus.publish("a", 2), lambda: bus.subscribe("b", print), bus.start):
        with pytest.raises(ClosedError):
            use()
    held.release()
    stopping.result()
    assert queue_of(bus, "a").acked == 1


def test_after_stop_every_use_is_a_closed_error(bus):
    bus.start()
    bus.stop()
    bus.stop()
    for use in (
        lambda: bus.publish("a", 1),
        lambda: bus.publish_sync("a", 1),
        lambda: bus.subscribe("a", print),
        bus.start,
        bus.__enter__,
    ):
        with pytest.raises(ClosedError, match="stopped"):
            use()


def test_threads_that_publish_while_it_stops_get_a_receipt_or_a_closed_error(bus):
    bus.subscribe("a", Collector())
    begun = threading.Barrier(5)

    def publish(n):
        begun.wait(CAP)
        receipts = []
        try:
            while True:
                receipts.append(bus.publish("a", len(receipts), timeout=CAP))
        except ClosedError:
            return receipts

    publishers = [Background(publish, n) for n in range(4)]
    begun.wait(CAP)
    bus.stop(CAP)
    receipts = [receipt for publisher in publishers for receipt in publisher.result()]
    assert all(receipt.status is not None for receipt in receipts)
    assert sum(receipt.status is PublishStatus.CONFIRMED for receipt in receipts) == bus.status().published


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this platform")
def test_a_signal_handler_may_publish_wherever_it_interrupts(bus):
    collector, receipts = Collector(), []
    bus.subscribe("a", collector)

    def interrupt(number, frame):
        receipts.append(bus.publish("a", None))

    before = signal.signal(signal.SIGALRM, handler(interrupt))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
    try:
        for _ in range(400):
            receipts.append(bus.publish_sync("a", None))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert {receipt.wait(CAP) for receipt in receipts} == {PublishStatus.CONFIRMED}
    collector.wait(len(receipts))
    until(lambda: queue_of(bus, "a").acked == len(receipts))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_gets_a_clear_error_and_leaves_the_parents_bus_alone(bus):
    collector = Collector()
    subscription = bus.subscribe("a", collector)
    bus.publish_sync("a", 1)
    collector.wait(1)

    def refused():
        uses = (
            lambda: bus.publish("a", 2),
            lambda: bus.subscribe("a", print),
            bus.start,
            bus.status,
            subscription.unsubscribe,
        )
        for use in uses:
            with pytest.raises(ClosedError, match=f"belongs to process {os.getppid()}"):
                use()
        bus.stop()
        return True

    in_child(refused)
    bus.publish_sync("a", 3)
    assert collector.wait(2) == [1, 3]
    assert bus.status().state == "running"
