"""What every MessageBus promises. One suite over all implementations; it uses real time only as a cap on hangs."""

import threading
from decimal import Decimal

import pytest

from hireliab.errors import BusError, BusFullError, ClosedError, ConfigError
from hireliab.messaging.bus import MessageBus, PublishStatus, Reject
from hireliab.messaging.memory_bus import InMemoryMessageBus

CAP = 20.0


def _memory(**config) -> MessageBus:
    return InMemoryMessageBus(name="contract", config={"retry_delays": [0.0, 0.0], **config})


@pytest.fixture(params=[_memory], ids=["memory"])
def bus(request):
    with request.param() as bus:
        yield bus
    for thread in threading.enumerate():
        if thread.name.startswith("hireliab."):
            thread.join(CAP)
            assert not thread.is_alive(), thread.name


class Collector:
    """A handler that keeps what it gets; `wait(n)` waits for the n-th message."""

    def __init__(self, fail=None):
        self._arrived = threading.Condition()
        self.messages = []
        self._fail = fail

    def __call__(self, message):
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()
        if self._fail is not None:
            self._fail(message)

    def wait(self, count):
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, CAP), self.messages
            return [message.data for message in self.messages]


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


def test_a_confirmed_message_says_so(bus):
    bus.subscribe("a", Collector())
    assert bus.publish("a", 1).result(CAP) is PublishStatus.CONFIRMED
    assert bus.publish_sync("a", 1).status is PublishStatus.CONFIRMED


def test_one_thread_keeps_the_order_of_one_publisher(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    for i in range(200):
        bus.publish("a", i)
    assert collector.wait(200) == list(range(200))


def test_a_group_shares_its_messages(bus):
    one, two = Collector(), Collector()
    done = threading.Barrier(2)

    def meet(message):
        if message.data < 2:  # each member must take one of the first two, or nobody goes on
            done.wait(CAP)

    one._fail = two._fail = meet
    bus.subscribe("a", one, group="g")
    bus.subscribe("a", two, group="g")
    for i in range(20):
        bus.publish_sync("a", i)
    bus.stop(CAP)
    assert one.messages
    assert two.messages
    assert sorted(m.data for m in one.messages + two.messages) == list(range(20))


def test_a_raising_handler_gets_the_same_message_again(bus):
    def fail(message):
        if message.attempt == 1:
            raise ValueError("not yet")

    collector = Collector(fail)
    bus.subscribe("a", collector)
    receipt = bus.publish_sync("a", {"x": 1})
    collector.wait(2)
    first, second = collector.messages
    assert first.id == second.id == receipt.message_id
    assert (first.redelivered, second.redelivered, second.attempt) == (False, True, 2)


def test_a_failing_handler_disturbs_no_other_and_not_the_publisher(bus):
    def fail(message):
        raise ValueError

    good = Collector()
    bus.subscribe("a", Collector(fail))
    bus.subscribe("a", good)
    for i in range(10):
        bus.publish_sync("a", i)
    assert good.wait(10) == list(range(10))


def test_redelivery_ends(bus):
    def fail(message):
        raise ValueError

    poison, tail = Collector(fail), Collector()
    bus.subscribe("a", poison)
    bus.subscribe("b", tail)
    bus.publish_sync("a", 1)
    poison.wait(3)
    bus.publish_sync("b", 1)
    tail.wait(1)
    bus.stop(CAP)
    assert len(poison.messages) == 3
    (status,) = [s for s in bus.status().subscriptions if s.pattern == "a"]
    assert status.dead_lettered == 1


def test_a_rejected_message_does_not_come_again(bus):
    def reject(message):
        raise Reject("never")

    collector = Collector(reject)
    bus.subscribe("a", collector)
    bus.publish_sync("a", 1)
    collector.wait(1)
    bus.stop(CAP)
    assert len(collector.messages) == 1


def test_decimals_arrive_as_text_and_data_is_copied(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    data = {"amount": Decimal("0.0010"), "fills": [1]}
    bus.publish("a", data)
    data["fills"].append(2)
    assert collector.wait(1) == [{"amount": "0.001", "fills": [1]}]


def test_data_that_is_not_json_is_refused_and_nothing_is_sent(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    with pytest.raises(BusError, match="not JSON"):
        bus.publish("a", object())
    bus.publish_sync("a", "next")
    assert collector.wait(1) == ["next"]


def test_wrong_topics_and_patterns_are_refused(bus):
    with pytest.raises(ConfigError):
        bus.publish("a.*", 1)
    with pytest.raises(ConfigError):
        bus.subscribe("a b", print)


def test_a_mandatory_message_that_nobody_wants_is_returned(bus):
    assert bus.publish("nobody", 1, mandatory=True).wait(CAP) is PublishStatus.RETURNED


def test_the_id_of_a_message_can_be_given(bus):
    collector = Collector()
    bus.subscribe("a", collector)
    bus.publish_sync("a", 1, message_id="txn-1:3")
    collector.wait(1)
    assert collector.messages[0].id == "txn-1:3"


def test_an_unsubscribed_handler_gets_nothing_more(bus):
    gone, here = Collector(), Collector()
    subscription = bus.subscribe("a", gone)
    bus.subscribe("a", here)
    bus.publish_sync("a", 1)
    gone.wait(1)
    assert subscription.unsubscribe(CAP) is True
    bus.publish_sync("a", 2)
    assert here.wait(2) == [1, 2]
    assert len(gone.messages) == 1


def test_publish_and_publish_sync_work_inside_a_handler(bus):
    derived = Collector()

    def derive(message):
        bus.publish("b", message.data + 1)
        bus.publish_sync("b", message.data + 2)

    bus.subscribe("a", derive)
    bus.subscribe("b", derived)
    bus.publish_sync("a", 1)
    assert derived.wait(2) == [2, 3]


def test_stop_in_a_handler_does_not_deadlock(bus):
    called = threading.Event()

    def stop(message):
        bus.stop()
        called.set()

    bus.subscribe("a", stop)
    bus.publish("a", 1)
    assert called.wait(CAP)
    bus.stop(CAP)
    assert bus.status().state == "stopped"


def test_after_stop_every_use_is_a_closed_error(bus):
    bus.stop()
    bus.stop()
    for use in (lambda: bus.publish("a", 1), lambda: bus.subscribe("a", print), bus.start):
        with pytest.raises(ClosedError):
            use()


def test_many_publishers_and_handlers_lose_and_invent_nothing(bus):
    collector = Collector()
    bus.subscribe("load.#", collector, concurrency=4)
    publishers, each = 8, 100
    barrier = threading.Barrier(publishers)
    errors = []

    def publish(number):
        try:
            barrier.wait(CAP)
            for i in range(each):
                assert bus.publish(f"load.{number}", [number, i], timeout=CAP).result(CAP)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(CAP)
    assert errors == []
    collector.wait(publishers * each)
    bus.stop(CAP)
    assert sorted(m.data for m in collector.messages) == [[n, i] for n in range(publishers) for i in range(each)]


@pytest.mark.parametrize("make", [_memory], ids=["memory"])
def test_a_full_bus_raises_instead_of_blocking_the_publisher(make):
    release = threading.Event()
    with make(queue_size=2) as bus:
        bus.subscribe("a", lambda m: release.wait(CAP))
        taken = 0
        with pytest.raises(BusFullError):
            for _ in range(10):
                bus.publish("a", 1)
                taken += 1
        assert taken == 2
        release.set()
