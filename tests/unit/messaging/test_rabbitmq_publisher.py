import random

import pytest
from pika import exceptions, spec

from hireliab.messaging.bus import PublishReceipt, PublishStatus
from hireliab.messaging.rabbitmq._envelope import Times, template
from hireliab.messaging.rabbitmq._failures import Failure
from hireliab.messaging.rabbitmq._outgoing import Outgoing
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._url import Address
from hireliab.messaging.rabbitmq.publisher import MOST_STRIKES, NACK_PAUSES, Publisher
from hireliab.testing import FakeClock
from tests.support.fake_link import FakeLink, ack, nack

TEMPLATE = template(channel=1, amqp_exchange="hireliab", topic="a.b", source="bot")


class _Scene:
    def __init__(self):
        self.clock = FakeClock()
        self.missing = 0
        self.publisher = Publisher(
            name="b",
            addresses=(Address(host="h", port=1),),
            config=RabbitMQConfig(confirm_timeout=30),
            missing=self._is_missing,
            clock=self.clock,
            rng=random.Random(1),
        )
        self.link = None

    def _is_missing(self):
        self.missing += 1

    def connect(self, **options):
        self.link = FakeLink(**options)
        self.publisher.opened(self.link)
        self.run()

    def disconnect(self, *, blames=False):
        self.link.connection.is_open = False
        self.publisher.closed(self.link.given_up or Failure("gone", blames=blames))

    def publish(self, *names, mandatory=False, done=None):
        messages = []
        for name in names:
            receipt = PublishReceipt(message_id=name, topic="a.b", clock=self.clock)
            wire = TEMPLATE.marshal(name.encode(), Times().text(1.0), 1, b"{}", mandatory=mandatory)
            messages.append(Outgoing(receipt, wire, None, mandatory, done))
            self.publisher.send(messages[-1], 0.0)
        self.run()
        return [message.receipt for message in messages]

    def run(self):
        if self.link is not None and self.link.connection.is_open:
            self.publisher.turn()
            self.link.run()

    def pass_time(self, seconds):
        self.clock.advance(seconds)
        self.publisher.tick()

    def wait(self, pause):
        self.clock.advance(pause + 0.001)
        self.link.run(within=pause + 0.001)

    def sent(self):
        """Ids of the messages written since the last look."""
        return [one.properties.message_id for one in self.link.written() if one.frame_type == 2]

    @property
    def tally(self):
        return {name: count for name, count in self.publisher.window.picture()[2].items() if count}


@pytest.fixture
def scene():
    scene = _Scene()
    scene.connect()
    return scene


def _statuses(receipts):
    return [None if receipt.status is None else receipt.status.value for receipt in receipts]


def test_the_exchange_is_declared_before_the_first_message(scene):
    channel = scene.link.channels[0]
    assert channel.called("exchange_declare") == [("hireliab",)]
    assert channel.channel_number == 1


def test_receipts_settle_as_the_broker_answers(scene):
    receipts = scene.publish("1", "2", "3", "4")
    assert scene.sent() == ["1", "2", "3", "4"]
    scene.link.put_in(ack(2))
    assert _statuses(receipts) == [None, "confirmed", None, None]
    scene.link.put_in(ack(3, multiple=True), ack(4))
    assert _statuses(receipts) == ["confirmed"] * 4
    assert scene.tally == {"confirmed": 4}
    assert scene.publisher.window.picture()[:2] == (0, 0)


def test_what_is_published_without_a_connection_is_sent_on_the_first():
    scene = _Scene()
    receipts = scene.publish("1", "2")
    assert _statuses(receipts) == [None, None]
    scene.connect()
    assert scene.sent() == ["1", "2"]


def test_without_the_short_ways_pika_publishes_and_answers():
    scene = _Scene()
    scene.connect(fast=False)
    receipts = scene.publish("1", "2", mandatory=True)
    channel = scene.link.channels[0]
    assert [args[3].message_id for args in channel.called("basic_publish")] == ["1", "2"]

    class Told:
        method = spec.Basic.Ack(2, multiple=True)

    channel.on_answer(Told)
    assert _statuses(receipts) == ["confirmed"] * 2


def _come_back(scene, name, key="a.b"):
    method = spec.Basic.Return(312, "NO_ROUTE", "hireliab", key)
    scene.link.channels[0].on_return(None, method, spec.BasicProperties(message_id=name), b"{}")


def test_a_mandatory_message_that_came_back_is_returned_not_confirmed(scene):
    receipts = scene.publish("1", "2", mandatory=True)
    _come_back(scene, "1")
    scene.link.put_in(ack(2, multiple=True))
    assert _statuses(receipts) == ["returned", "confirmed"]
    assert scene.tally == {"returned": 1, "confirmed": 1}


def test_of_two_messages_with_one_id_the_one_that_came_back_is_told_by_its_topic(scene):
    first, second = scene.publish("1", "1", mandatory=True)
    second.topic = "c"
    _come_back(scene, "1", key="c")
    scene.link.put_in(ack(2, multiple=True))
    assert _statuses([first, second]) == ["confirmed", "returned"]


def test_a_message_that_came_back_twice_is_returned_twice(scene):
    receipts = scene.publish("1", "1", mandatory=True)
    _come_back(scene, "1")
    _come_back(scene, "1")
    scene.link.put_in(ack(2, multiple=True))
    assert _statuses(receipts) == ["returned", "returned"]


def test_what_came_back_on_a_former_connection_is_forgotten(scene):
    (receipt,) = scene.publish("1", mandatory=True)
    _come_back(scene, "1")
    scene.disconnect()
    scene.connect()
    scene.link.put_in(ack(1))
    assert receipt.status is PublishStatus.CONFIRMED


def test_unconfirmed_messages_are_sent_again_first_and_in_their_order(scene):
    scene.publish("1", "2", "3", "4")
    scene.link.put_in(ack(2))
    scene.disconnect()
    scene.publish("5")
    scene.connect()
    assert scene.sent() == ["1", "3", "4", "5"]
    scene.link.put_in(ack(4, multiple=True))
    assert scene.tally == {"confirmed": 5, "republished": 3}


def test_a_message_that_may_be_what_ends_each_connection_is_unknown_in_the_end(scene):
    (receipt,) = scene.publish("1")
    for _ in range(MOST_STRIKES - 1):
        scene.disconnect(blames=True)
        scene.connect()
        assert scene.sent() == ["1"]
        assert receipt.status is None
    scene.disconnect(blames=True)
    assert receipt.status is PublishStatus.UNKNOWN
    scene.connect()
    assert scene.sent() == []
    assert scene.publisher.window.picture()[0] == 0


def test_a_line_that_is_cut_again_and_again_costs_no_message(scene):
    (receipt,) = scene.publish("1")
    for _ in range(20):
        scene.disconnect()
        scene.publisher.closed(Failure("could not be made"))
        scene.connect()
    scene.link.put_in(ack(1))
    assert receipt.status is PublishStatus.CONFIRMED


def test_without_an_answer_a_message_is_unknown_and_sent_again_on_another_connection(scene):
    first, second = scene.publish("1", "2")
    scene.sent()
    scene.link.put_in(ack(1))
    scene.pass_time(29.0)
    assert second.status is None
    scene.pass_time(1.0)
    assert (first.status, second.status) == (PublishStatus.CONFIRMED, PublishStatus.UNKNOWN)
    assert "no answer in 30 s" in second.reason
    assert "not confirmed a message" in scene.link.given_up.text
    scene.disconnect()
    scene.connect()
    assert scene.sent() == ["2"]
    scene.link.put_in(ack(1))
    assert second.status is PublishStatus.UNKNOWN  # settled once
    assert scene.tally == {"confirmed": 1, "unknown": 1, "republished": 1}
    assert scene.publisher.window.picture()[0] == 0


def test_what_waits_for_another_connection_becomes_unknown_too(scene):
    sent, unsent = scene.publish("1")[0], None
    scene.disconnect()
    (unsent,) = scene.publish("2")
    scene.pass_time(31.0)
    assert sent.status is PublishStatus.UNKNOWN
    assert unsent.status is None  # it may still be sent for the first time


def test_a_broker_that_is_short_of_memory_gets_nothing_and_keeps_its_connection(scene):
    (sent,) = scene.publish("1")
    scene.sent()
    scene.publisher.blocked("low on memory")
    scene.publish("2")
    assert scene.sent() == []
    scene.pass_time(31.0)
    assert sent.status is PublishStatus.UNKNOWN
    assert scene.link.given_up is None
    scene.publisher.blocked(None)
    scene.run()
    assert scene.sent() == ["2"]
    assert not scene.publisher.is_blocked


def test_a_new_connection_is_not_blocked(scene):
    scene.publisher.blocked("low on memory")
    scene.publish("1")
    scene.disconnect()
    scene.connect()
    assert scene.sent() == ["1"]


def test_a_refused_message_is_sent_again_and_then_nacked(scene):
    first, second = scene.publish("1", "2")
    scene.link.put_in(nack(2, multiple=True))
    assert scene.sent() == ["1", "2"]
    for number, pause in enumerate(NACK_PAUSES):
        assert (first.status, second.status) == (None, None)
        scene.wait(pause)
        assert scene.sent() == ["1", "2"]
        scene.link.put_in(nack(3 + 2 * number), nack(4 + 2 * number))
    assert _statuses([first, second]) == ["nacked", "nacked"]
    assert scene.tally == {"nacked": 2, "republished": 4}
    assert scene.publisher.window.picture()[0] == 0


def test_a_refused_message_may_be_confirmed_the_next_time(scene):
    (receipt,) = scene.publish("1")
    scene.link.put_in(nack(1))
    scene.wait(NACK_PAUSES[0])
    scene.link.put_in(ack(2))
    assert receipt.status is PublishStatus.CONFIRMED


def test_a_refused_message_whose_connection_ends_is_sent_on_the_next(scene):
    scene.publish("1")
    scene.link.put_in(nack(1))
    scene.disconnect()
    scene.connect()
    assert scene.sent() == ["1"]


def test_answers_to_nothing_are_counted_and_harm_nothing(scene):
    (receipt,) = scene.publish("1")
    scene.link.put_in(ack(7), nack(9), ack(9, multiple=True))
    assert receipt.status is None
    scene.link.put_in(ack(1))
    assert receipt.status is PublishStatus.CONFIRMED
    assert scene.publisher._book.stray == 3


def test_a_message_of_the_bus_itself_tells_its_end_once_and_is_not_counted(scene):
    told = []
    scene.publish("1", "2", mandatory=True, done=lambda status, _: told.append(status.value))
    _come_back(scene, "2")
    scene.link.put_in(ack(2, multiple=True))
    assert told == ["confirmed", "returned"]
    assert scene.tally == {}


def test_an_end_that_cannot_be_told_does_not_hold_up_the_others(scene, caplog):
    def fail(*_):
        raise ValueError("no")

    scene.publish("1", done=fail)
    (receipt,) = scene.publish("2")
    scene.link.put_in(ack(2, multiple=True))
    assert receipt.status is PublishStatus.CONFIRMED
    assert scene.publisher.window.picture()[0] == 0
    assert "this is a bug" in caplog.text


@pytest.mark.parametrize(("code", "missing"), [(404, 1), (406, 0)])
def test_a_closed_channel_ends_the_connection_and_a_missing_exchange_is_told(scene, code, missing):
    scene.link.channels[0].lose(exceptions.ChannelClosedByBroker(code, "why"))
    assert scene.link.given_up.text == f"{code} why"
    assert scene.missing == missing


def test_stopping_settles_what_is_open():
    scene = _Scene()
    scene.connect()
    scene.publish("1")
    scene.disconnect()
    scene.publish("2")
    asked = []

    def outcome(message):
        asked.append((message.receipt.message_id, message.sendings))
        return PublishStatus.REJECTED, "stopped"

    assert scene.publisher.stop(0.0, outcome) == 2
    assert asked == [("1", 1), ("2", 0)]
    assert scene.tally == {"rejected": 2}
    assert scene.publisher.window.picture()[0] == 0


def test_a_stop_that_was_cut_short_is_finished_by_the_next():
    scene = _Scene()
    told = []
    receipts = scene.publish("1", "2", "3", done=lambda *_: told.append(1)) + scene.publish("4", "5")
    asked = iter(range(3))

    def outcome(message):
        if next(asked, None) is None:
            raise KeyboardInterrupt
        return PublishStatus.REJECTED, "stopped"

    with pytest.raises(KeyboardInterrupt):
        scene.publisher.stop(0.0, outcome)
    asked = iter(range(9))
    assert scene.publisher.stop(0.0, outcome) == 5
    assert _statuses(receipts) == ["rejected"] * 5
    assert len(told) == 3
    assert scene.publisher.window.picture()[0] == 0
    assert scene.publisher.stop(0.0, outcome) == 0


def test_an_interrupted_publisher_is_made_up_for_by_the_next_tick(scene):
    message = Outgoing(PublishReceipt(message_id="1", topic="a.b"), TEMPLATE.marshal(b"1", b"", 1, b""), None, False)
    assert scene.publisher.window.offer(message, 0.0)  # and is interrupted before it wakes the thread
    scene.pass_time(1.0)
    assert scene.sent() == ["1"]
