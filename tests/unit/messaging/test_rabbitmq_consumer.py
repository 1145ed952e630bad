import itertools
import random
import threading

import pytest
from pika import exceptions

from hireliab.errors import ClosedError, ConfigError, TopologyError
from hireliab.messaging.bus import PublishStatus, Reject
from hireliab.messaging.rabbitmq import _lanes as lanes
from hireliab.messaging.rabbitmq._envelope import Times, template
from hireliab.messaging.rabbitmq._failures import Failure
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._url import Address
from hireliab.messaging.rabbitmq.consumer import Consumer
from hireliab.testing import FakeClock
from tests.support.fake_link import FakeLink, delivery
from tests.support.together import Background

CAP = 10.0
TEMPLATE = template(channel=1, amqp_exchange="hireliab", topic="a.b", source="bot")
DIFFERS = exceptions.ChannelClosedByBroker(
    406,
    "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '5' but current is '6'",
)


class _Publisher:
    """Takes the dead letters."""

    def __init__(self):
        self.letters = []
        self.settled = 0
        self.arrived = threading.Condition()

    def send_own(self, message):
        with self.arrived:
            self.letters.append(message)
            self.arrived.notify_all()

    def wait(self, count=1):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.letters) >= count, CAP)
        return self.letters[count - 1]

    def settle_all(self, status):
        with self.arrived:
            open_letters, self.settled = self.letters[self.settled :], len(self.letters)
        for letter in open_letters:
            letter.done(status, "why")


class _Handler:
    """Keeps what it gets, and does what the test says."""

    def __init__(self):
        self.changed = threading.Condition()
        self.messages = []
        self.errors = []
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, message):
        with self.changed:
            self.messages.append(message)
            error = self.errors.pop(0) if self.errors else None
            self.changed.notify_all()
        assert self.hold.wait(CAP)
        if error is not None:
            raise error

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= count, CAP)
        return self.messages[count - 1]


class _Scene:
    def __init__(self):
        self.clock = FakeClock()
        self.publisher = _Publisher()
        self.consumer = Consumer(
            name="b",
            addresses=(Address(host="h", port=1),),
            config=RabbitMQConfig(retry_delays=(1.0, 5.0)),
            publisher=self.publisher,
            clock=self.clock,
            rng=random.Random(1),
        )
        self.consumer.connection.start = lambda: None
        self.lanes = self.consumer._lanes
        self.link = None
        self.handler = _Handler()
        self.numbers = itertools.count(1)

    def connect(self, **options):
        self.link = FakeLink(**options)
        self.lanes.opened(self.link)
        self.run()

    def disconnect(self):
        self.link.connection.is_open = False
        for channel in self.link.channels:
            if channel.is_open:
                channel.lose(Exception("the line is cut"))
        self.link.ended = True
        self.lanes.closed(Failure("gone"))

    def run(self):
        self.lanes.turn()
        self.link.run()

    def subscribe(self, pattern="a.#", group="g", **options):
        options = {"concurrency": 1, "prefetch": 18, **options}
        before = self.consumer.status()[1]
        waiting = Background(self.consumer.subscribe, pattern, self.handler, group=group, **options)
        self.clock.wait_parked(1 + before + options["concurrency"])
        self.run()
        return waiting

    def ready(self, *args, **options):
        """A subscription that is fed over the newest channel."""
        waiting = self.subscribe(*args, **options)
        self.link.channels[-1].on_consume(None)
        return waiting.result()

    def deliver(self, *names, redelivered=False, body=b"{}"):
        self.deliver_to(len(self.link.channels), *names, redelivered=redelivered, body=body)

    def deliver_to(self, number, *names, redelivered=False, body=b"{}"):
        for name in names:
            wire = TEMPLATE.marshal(name.encode(), Times().text(1.0), 1, body)
            self.link.put_in(
                delivery(next(self.numbers), wire, redelivered=redelivered, channel=number), channel=number
            )

    def until(self, condition):
        """Handlers' threads are real: wait for what they will do, writing their answers."""
        for _ in range(2000):
            self.run()
            if condition():
                return
            threading.Event().wait(0.002)
        raise AssertionError("it never came about")

    def acked(self):
        return [one.method.delivery_tag for one in self.link.written()]

    def status(self):
        (status,) = self.consumer.status()[0]
        assert status.accepted == (
            status.queued + status.retrying + status.in_flight + status.acked + status.dead_lettered + status.unfinished
        )
        return status


@pytest.fixture
def scene():
    scene = _Scene()
    scene.connect()
    yield scene
    scene.consumer.connection.connected = False
    scene.handler.hold.set()
    scene.publisher.settle_all(PublishStatus.CONFIRMED)
    scene.consumer.stop(CAP)


def test_a_subscription_is_there_when_the_broker_has_its_consumer(scene):
    waiting = scene.subscribe()
    channel = scene.link.channels[0]
    assert [args[0] for args in channel.called("queue_declare")] == ["hireliab.dead.queue.g", "hireliab.queue.g"]
    assert channel.called("basic_consume") == [("hireliab.queue.g",)]
    channel.on_consume(None)
    assert waiting.result().is_ready
    assert scene.status().ready


def test_a_message_is_acknowledged_when_its_handler_has_returned(scene):
    scene.ready()
    scene.handler.hold.clear()
    scene.deliver("1", "2")
    assert scene.handler.wait(1).id == "1"
    scene.run()
    assert scene.acked() == []
    scene.handler.hold.set()
    scene.until(lambda: scene.status().acked == 2)
    assert scene.acked() == [1, 2]
    assert [message.attempt for message in scene.handler.messages] == [1, 1]


def test_without_the_short_ways_pika_delivers_and_acknowledges(scene):
    scene.disconnect()
    scene.connect(fast=False)
    scene.ready()
    channel = scene.link.channels[-1]
    wire = TEMPLATE.marshal(b"1", Times().text(1.0), 1, b"[1]")
    deliver = delivery(7, wire, redelivered=True)
    method, header = _by_pika(deliver)
    channel.on_message(channel, method, header.properties, b"[1]")
    assert scene.handler.wait(1).data == [1]
    assert scene.handler.messages[0].redelivered
    scene.until(lambda: channel.called("basic_ack") == [(7,)])


def _by_pika(wire):
    from pika import frame

    size, method = frame.decode_frame(wire)
    _, header = frame.decode_frame(wire[size:])
    return method.method, header


def test_a_failed_message_comes_again_after_its_pause_and_then_dies_with_the_reason(scene):
    scene.ready()
    scene.handler.errors = [ValueError("one"), ValueError("two"), ValueError("three")]
    scene.deliver("1")
    for count, pause in ((1, 1.0), (2, 5.0)):
        scene.handler.wait(count)
        scene.until(lambda: scene.status().retrying == 1)
        scene.clock.wait_parked(1)
        scene.clock.advance(pause)
    scene.handler.wait(3)
    assert [message.attempt for message in scene.handler.messages] == [1, 2, 3]
    assert [message.redelivered for message in scene.handler.messages] == [False, True, True]
    letter = scene.publisher.wait()
    assert b"ValueError: three" in letter.wire
    scene.run()
    assert scene.acked() == []  # not before the dead letter is confirmed
    scene.publisher.settle_all(PublishStatus.CONFIRMED)
    scene.run()
    assert scene.acked() == [1]
    status = scene.status()
    assert (status.failures, status.dead_lettered, status.in_flight) == (3, 1, 0)


def test_a_message_that_waits_holds_up_nobody(scene):
    scene.ready()
    scene.handler.errors = [ValueError("no")]
    scene.deliver("bad", "good", "better")
    scene.until(lambda: scene.status().acked == 2)
    assert scene.acked() == [2, 3]
    assert scene.status().retrying == 1


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError(), GeneratorExit()])
def test_no_error_of_a_handler_ends_its_thread_or_acknowledges(scene, error):
    scene.ready()
    scene.handler.errors = [error]
    scene.deliver("1", "2")
    scene.until(lambda: scene.status().acked == 1)
    assert scene.acked() == [2]
    assert scene.status().handlers == 1


def test_a_rejected_message_dies_at_once(scene):
    scene.ready()
    scene.handler.errors = [Reject("never")]
    scene.deliver("1")
    letter = scene.publisher.wait()
    assert b"hireliab_reason" in letter.wire
    assert b"never" in letter.wire
    assert letter.mandatory


@pytest.mark.parametrize("body", [b"\xff", b"{", b""])
def test_a_body_that_cannot_be_read_dies_unseen(scene, body):
    scene.ready()
    scene.deliver("1", body=body)
    letter = scene.publisher.wait()
    assert b"not JSON" in letter.wire
    assert scene.handler.messages == []


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (PublishStatus.RETURNED, ("basic_reject", {"requeue": False})),
        (PublishStatus.NACKED, ("basic_reject", {"requeue": False})),
        (PublishStatus.UNKNOWN, ("basic_nack", {"multiple": False, "requeue": True})),
        (PublishStatus.REJECTED, ("basic_nack", {"multiple": False, "requeue": True})),
    ],
)
def test_a_dead_letter_that_is_not_confirmed_is_the_brokers_again(scene, status, answer):
    scene.ready()
    scene.handler.errors = [Reject("never")]
    scene.deliver("1")
    scene.publisher.wait()
    scene.publisher.settle_all(status)
    scene.run()
    calls = [(name, options) for name, args, options in scene.link.channels[0].calls if args == (1,)]
    assert calls == [answer]
    assert scene.status().in_flight == 0


def test_a_late_acknowledgement_never_reaches_another_connection(scene):
    scene.ready()
    scene.handler.hold.clear()
    scene.deliver("1")
    scene.handler.wait(1)
    for _ in range(2):
        scene.disconnect()
        scene.connect()
        scene.link.channels[-1].on_consume(None)
    scene.numbers = itertools.count(1)
    scene.handler.hold.set()
    scene.until(lambda: scene.status().stale == 1)
    assert scene.acked() == []
    scene.deliver("1", redelivered=True)
    scene.until(lambda: scene.status().acked == 1)
    assert scene.acked() == [1]
    status = scene.status()
    assert (status.redelivered, status.unfinished, status.generation) == (1, 1, 3)


def test_failures_are_remembered_over_a_reconnection(scene):
    scene.ready()
    scene.handler.errors = [ValueError("no")] * 3
    scene.deliver("1")
    scene.until(lambda: scene.status().retrying == 1)
    scene.disconnect()
    assert scene.status().retrying == 0
    scene.connect()
    scene.link.channels[-1].on_consume(None)
    scene.deliver("1", redelivered=True)
    assert scene.handler.wait(2).attempt == 2
    scene.until(lambda: scene.status().retrying == 1)
    scene.clock.wait_parked(1)
    scene.clock.advance(5.0)
    assert b"hireliab_attempts" in scene.publisher.wait().wire


def test_a_differing_queue_is_a_topology_error_of_subscribe_and_leaves_the_others_alone(scene):
    scene.ready(group="fine")
    waiting = scene.subscribe(group="other")
    scene.link.channels[-1].lose(DIFFERS)
    with pytest.raises(TopologyError, match="x-max-length is 6 at the broker and 5 here"):
        waiting.result()
    assert scene.status().group == "fine"
    assert scene.status().ready
    scene.link.run(within=1000)
    assert len(scene.link.channels) == 2  # not tried again


def test_a_queue_that_differs_later_is_told_and_tried_rarely(scene):
    scene.ready()
    scene.link.channels[0].lose(DIFFERS)
    status = scene.status()
    assert not status.ready
    assert "x-max-length" in status.last_error
    scene.link.run(within=29)
    assert len(scene.link.channels) == 1
    scene.link.run(within=60)
    assert len(scene.link.channels) == 2


def test_a_missing_right_is_a_topology_error_too(scene):
    waiting = scene.subscribe()
    scene.link.channels[-1].lose(exceptions.ChannelClosedByBroker(403, "ACCESS_REFUSED - no"))
    with pytest.raises(TopologyError, match="403 ACCESS_REFUSED"):
        waiting.result()


def test_a_cancelled_consumer_is_opened_again(scene):
    scene.ready()
    scene.link.channels[0].on_cancel(None)
    assert not scene.status().ready
    scene.link.run(within=1.0)
    scene.link.channels[-1].on_consume(None)
    assert len(scene.link.channels) == 2
    assert scene.status().ready


def test_without_a_broker_subscribing_does_not_fail():
    scene = _Scene()
    waiting = Background(scene.consumer.subscribe, "a", scene.handler, group=None, concurrency=1, prefetch=9)
    scene.clock.wait_parked(2)
    scene.lanes.closed(Failure("gone"))
    subscription = waiting.result()
    assert not subscription.is_ready
    scene.connect()
    scene.link.channels[-1].on_consume(None)
    assert subscription.is_ready
    scene.consumer.stop(CAP)


def test_stopping_ends_the_wait_of_subscribe():
    scene = _Scene()
    waiting = Background(scene.consumer.subscribe, "a", scene.handler, group=None, concurrency=1, prefetch=9)
    scene.clock.wait_parked(2)
    scene.consumer.stop(CAP)
    assert not waiting.result().is_ready
    with pytest.raises(ClosedError):
        scene.consumer.subscribe("a", scene.handler, group=None, concurrency=1, prefetch=9)


def test_a_group_has_one_pattern(scene):
    scene.ready()
    with pytest.raises(ConfigError, match="cannot take 'b' too"):
        scene.consumer.subscribe("b", scene.handler, group="g", concurrency=1, prefetch=9)


def test_what_no_handler_has_begun_goes_back_when_it_unsubscribes(scene):
    subscription = scene.ready()
    scene.handler.hold.clear()
    scene.deliver("1", "2", "3")
    scene.handler.wait(1)
    assert subscription.unsubscribe(0.0) is False
    scene.run()
    channel = scene.link.channels[0]
    assert channel.called("basic_nack") == [(2,), (3,)]
    assert len(channel.called("basic_cancel")) == 2  # the careful consumer, and the one that took over
    scene.deliver("4")  # was on its way
    scene.run()
    assert channel.called("basic_nack") == [(2,), (3,), (4,)]
    assert channel.is_open
    scene.handler.hold.set()
    assert subscription.unsubscribe(CAP) is True
    scene.run()
    assert scene.acked() == [1]
    assert not channel.is_open
    scene.link.run(within=1000)
    assert len(scene.link.channels) == 1


def test_a_subscription_that_ends_just_when_its_connection_does_breaks_no_other_connection(scene):
    scene.ready()
    leaving = scene.ready(group="leaving")
    scene.clock.wait_parked(2)
    assert leaving.unsubscribe(CAP) is True
    scene.disconnect()  # before its thread has come to the closing of the channel
    scene.connect()
    scene.link.channels[-1].on_consume(None)
    assert scene.status().ready


def test_a_subscription_that_ends_while_it_is_opened_is_never_fed(scene):
    held = []
    scene.link.channel = lambda number, opened: held.append(opened)
    waiting = scene.subscribe()
    scene.lanes.subscriptions[0].unsubscribe(CAP)
    waiting.result()
    link = FakeLink()
    link.channel(1, held[0])
    channel = link.channels[0]
    assert channel.called("basic_consume") == []
    assert not channel.is_open


def test_stopping_hands_out_what_is_in_hand_and_gives_back_what_waits(scene):
    scene.ready()
    scene.handler.errors = [ValueError("no")]
    scene.deliver("bad")
    scene.until(lambda: scene.status().retrying == 1)
    scene.handler.hold.clear()
    scene.deliver("1", "2")
    scene.handler.wait(2)
    stopping = Background(scene.consumer.stop, CAP)
    scene.until(lambda: scene.link.channels[0].called("basic_nack") == [(1,)])
    scene.handler.hold.set()
    assert stopping.result() is True
    assert [message.id for message in scene.handler.messages] == ["bad", "1", "2"]
    status = scene.status()
    assert (status.acked, status.unfinished, status.queued, status.in_flight) == (2, 1, 0, 0)


@pytest.mark.parametrize(
    ("group", "in_order", "before", "rests"),
    [("g", True, 0.0, True), ("g", True, lanes.REST, False), ("g", False, 0.0, False), (None, True, 0.0, False)],
)
def test_a_quorum_queues_channel_in_order_stays_open_for_a_moment_behind_the_last_acknowledgement(
    scene, group, in_order, before, rests
):
    subscription = scene.ready(group=group, in_order=in_order, prefetch=1)
    channel = scene.link.channels[0]
    scene.deliver("1")
    scene.until(lambda: scene.status().acked == 1)
    scene.clock.wait_parked(1)
    scene.clock.advance(before)
    declared = len(channel.called("queue_declare"))

    def ended():
        return not channel.is_open or len(channel.called("queue_declare")) > declared

    assert subscription.unsubscribe(CAP)
    scene.run()
    assert ended() is not rests
    scene.link.run(within=lanes.REST)
    assert ended()


def test_stopping_rests_for_a_moment_behind_the_last_acknowledgement(scene):
    scene.ready(in_order=True, prefetch=1)
    channel = scene.link.channels[0]
    scene.consumer.connection.connected = True
    scene.deliver("1")
    scene.until(lambda: scene.status().acked == 1)
    scene.clock.wait_parked(1)
    scene.clock.advance(lanes.REST / 2)
    stopping = Background(scene.consumer.stop, CAP)
    scene.until(lambda: scene.consumer.status()[1] == 0)
    scene.clock.wait_parked(1)
    scene.run()
    assert channel.calls[-1][2] != {"passive": True}
    scene.clock.advance(lanes.REST / 2)
    scene.until(lambda: channel.calls[-1][2] == {"passive": True})
    channel.lose(exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no queue"))
    assert stopping.result() is True


@pytest.mark.parametrize("gone", ["the time", "the connection", "the order"])
def test_stopping_does_not_rest_for_nothing(scene, gone):
    scene.ready(in_order=gone != "the order", prefetch=1)
    scene.consumer.connection.connected = True
    scene.deliver("1")
    scene.until(lambda: scene.status().acked == 1)
    scene.clock.wait_parked(1)
    if gone == "the connection":
        scene.consumer.connection.connected = False
    scene.consumer.stop(0.0 if gone == "the time" else CAP)  # nobody moves the clock


def test_a_member_in_order_leaves_without_cancelling_and_answers_nothing_that_comes_then(scene):
    subscription = scene.ready(in_order=True, prefetch=1)
    channel = scene.link.channels[0]
    scene.handler.hold.clear()
    scene.deliver("1")
    scene.handler.wait(1)
    assert subscription.unsubscribe(0.0) is False
    scene.handler.hold.set()
    assert subscription.unsubscribe(CAP) is True
    scene.run()
    assert scene.acked() == [1]
    scene.deliver("2")
    scene.run()
    declared = len(channel.called("queue_declare"))
    scene.link.run(within=lanes.REST)
    assert len(channel.called("queue_declare")) == declared + 1  # of what does not exist: the broker closes the channel
    assert not any(channel.called(name) for name in ("basic_cancel", "basic_nack", "basic_reject", "close"))
    assert scene.acked() == []
    assert [message.id for message in scene.handler.messages] == ["1"]
    channel.lose(exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no queue"))
    scene.link.run(within=1000)
    assert len(scene.link.channels) == 1


def test_a_stopping_bus_waits_until_the_broker_has_closed_what_is_in_order(scene):
    scene.ready(in_order=True, prefetch=1)
    scene.ready(group="other")
    scene.consumer.connection.connected = True
    stopping = Background(scene.consumer.stop, CAP)
    first, second = scene.link.channels
    scene.until(lambda: first.calls[-1][2] == {"passive": True})
    assert first.called("basic_cancel") == []
    assert len(second.called("basic_cancel")) == 1
    scene.deliver_to(1, "late")
    scene.clock.wait_parked(1)
    first.lose(exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no queue"))
    assert stopping.result() is True
    assert scene.handler.messages == []
    assert first.called("basic_nack") == []


def test_stopping_does_not_wait_for_ever_for_a_handler_that_hangs(scene):
    scene.ready()
    scene.handler.hold.clear()
    scene.deliver("1", "2")
    scene.handler.wait(1)
    assert scene.consumer.stop(0.0) is False
    assert scene.status().unfinished == 1
    scene.handler.hold.set()
    assert scene.consumer.stop(CAP) is True


def test_a_channel_that_does_not_open_ends_the_connection(scene):
    waiting = scene.subscribe()
    scene.clock.advance(4.0)
    scene.lanes.tick()
    assert scene.link.given_up is None
    scene.clock.advance(lanes.STUCK)
    scene.lanes.tick()
    assert "has not opened 'a.#'" in scene.link.given_up.text
    waiting.result()


def test_queues_are_bound_again_now_and_then_and_when_asked(scene):
    scene.ready()
    channel = scene.link.channels[0]
    assert len(channel.called("queue_bind")) == 2
    scene.consumer.bind_again()
    scene.run()
    assert len(channel.called("queue_bind")) == 4
    scene.clock.advance(lanes.BIND_AGAIN - 1)
    scene.lanes.tick()
    assert len(channel.called("queue_bind")) == 4
    scene.clock.advance(2)
    scene.lanes.tick()
    assert len(channel.called("queue_bind")) == 6
    assert len(channel.called("queue_declare")) == 2


def _prefetches(channel):
    return [options["prefetch_count"] for name, _, options in channel.calls if name == "basic_qos"]


def test_what_was_delivered_before_is_taken_with_nothing_beside_it(scene):
    scene.ready(prefetch=18)
    channel = scene.link.channels[0]
    scene.deliver("1", redelivered=True)
    scene.until(lambda: scene.status().acked == 1)
    assert _prefetches(channel) == [1]
    scene.deliver("2")
    scene.deliver("3")
    assert _prefetches(channel) == [1, 17]
    assert channel.called("basic_consume") == [("hireliab.queue.g",)] * 2
    assert len(channel.called("basic_cancel")) == 1
    assert scene.status().ready


def test_a_redelivered_message_that_waits_holds_up_nobody_either(scene):
    scene.ready(prefetch=18)
    scene.handler.errors = [ValueError("no")]
    scene.deliver("1", redelivered=True)
    scene.until(lambda: _prefetches(scene.link.channels[0]) == [1, 17])


def test_a_queue_of_its_own_is_fed_in_full_at_once(scene):
    scene.ready(group=None, prefetch=18)
    assert _prefetches(scene.link.channels[0]) == [18]


def test_many_handlers_share_a_queue(scene):
    scene.ready(concurrency=4, prefetch=100)
    scene.deliver(*(str(number) for number in range(100)))
    scene.until(lambda: scene.status().acked == 100)
    assert sorted(scene.acked()) == list(range(1, 101))
    assert {message.id for message in scene.handler.messages} == {str(number) for number in range(100)}
