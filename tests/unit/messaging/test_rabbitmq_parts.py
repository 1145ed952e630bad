"""The parts of the RabbitMQ bus that decide: confirms, pauses, failures, topology."""

import random
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import exceptions
from pika.adapters.utils import connection_workflow as workflow

from hireliab.messaging.rabbitmq import _backoff as backoff
from hireliab.messaging.rabbitmq._confirms import ConfirmBook
from hireliab.messaging.rabbitmq._failures import failure_of
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq.topology import Binding, Exchange, Queue, subscribing, topology_error

# -- confirms -----------------------------------------------------------------------------------------------------


def _book(count):
    book = ConfirmBook()
    for number in range(1, count + 1):
        book.sent(number)
    return book


def test_single_answers_may_come_in_any_order():
    book = _book(4)
    assert [book.answered(number, multiple=False) for number in (3, 1, 4, 2)] == [[3], [1], [4], [2]]
    assert len(book) == 0
    assert book.stray == 0


def test_a_multiple_answer_takes_what_is_open_up_to_its_number():
    book = _book(5)
    assert book.answered(2, multiple=False) == [2]
    assert book.answered(4, multiple=True) == [1, 3, 4]
    assert book.waiting() == [5]
    book.sent(6)
    assert book.answered(0, multiple=True) == [5, 6]


@pytest.mark.parametrize(("number", "multiple"), [(0, False), (3, False), (2, False), (9, True), (9, False), (1, True)])
def test_an_answer_to_nothing_is_counted_and_changes_nothing(number, multiple):
    book = _book(4)
    assert book.answered(3, multiple=True) == [1, 2, 3]
    assert book.answered(number, multiple=multiple) == []
    assert book.stray == 1
    assert book.answered(4, multiple=False) == [4]


def test_another_channel_counts_from_one_again():
    book = _book(3)
    book.answered(2, multiple=False)
    assert book.forget() == [1, 3]
    book.sent("a")
    assert book.answered(1, multiple=False) == ["a"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40), st.integers(0, 25))
def test_each_message_comes_out_once_whatever_is_answered(answers, count):
    book = _book(count)
    out = [message for number, multiple in answers for message in book.answered(number, multiple=multiple)]
    assert len(out) == len(set(out))
    assert sorted(out + book.waiting()) == list(range(1, count + 1))
    assert len(book) == count - len(out)


# -- pauses -------------------------------------------------------------------------------------------------------


class _Longest(random.Random):
    def uniform(self, low, high):
        return high


def test_pauses_grow_to_half_a_minute_and_start_again_after_what_lasted():
    pauses = backoff.Backoff(_Longest())
    assert [pauses.pause(refused=False) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert pauses.pause(refused=False, lasted=29) == 30
    assert pauses.pause(refused=True) == backoff.REFUSED_PAUSE
    assert pauses.pause(refused=False, lasted=30) == 0.5
    assert pauses.pause(refused=False, lasted=0.9) == 1


def test_what_never_lasts_longer_than_its_pause_is_tried_ever_more_rarely():
    pauses = backoff.Backoff(_Longest())
    pause = 0.5
    for _ in range(20):
        pause = pauses.pause(refused=False, lasted=min(0.9, pause * 0.9))
    assert pause == backoff.LONGEST_PAUSE


def test_pauses_are_spread_and_a_refusal_waits_half_a_minute_at_least():
    pauses = backoff.Backoff(random.Random(1))
    assert len({pauses.pause(refused=False) for _ in range(20)}) == 20
    assert all(30 <= pauses.pause(refused=True) <= 60 for _ in range(50))


# -- failures -----------------------------------------------------------------------------------------------------


def _failed(*inner):
    return exceptions.AMQPConnectionError(workflow.AMQPConnectionWorkflowFailed(inner))


@pytest.mark.parametrize(
    ("error", "refused", "text"),
    [
        (_failed(workflow.AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "no"))), False, "Refused"),
        (_failed(workflow.AMQPConnectorStackTimeout("slow")), False, "StackTimeout"),
        (
            workflow.AMQPConnectionWorkflowFailed(
                [workflow.AMQPConnectorAMQPHandshakeError(exceptions.ProbableAuthenticationError("Closed (403)"))]
            ),
            True,
            "the user or the password",
        ),
        (exceptions.ProbableAccessDeniedError("ConnectionClosedByBroker: (530) 'no'"), True, "the vhost"),
        (exceptions.ProbableAccessDeniedError("StreamLostError: ('EOF',)"), False, "was cut"),
        (exceptions.ProbableAuthenticationError("StreamLostError: ('EOF',)"), False, "was cut"),
        (exceptions.IncompatibleProtocolError("StreamLostError: ('EOF',)"), False, "was cut"),
        (exceptions.IncompatibleProtocolError("AMQP 1.0"), True, "another protocol"),
        (exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost x not found"), True, "530 NOT_ALLOWED"),
        (exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED"), False, "320"),
        (exceptions.ConnectionClosedByBroker(541, "INTERNAL_ERROR"), False, "541"),
        (exceptions.ChannelClosedByBroker(403, "ACCESS_REFUSED"), True, "403"),
        (exceptions.ChannelClosedByBroker(404, "NOT_FOUND"), False, "404"),
        (exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - unknown delivery tag 1"), False, "406"),
        (exceptions.StreamLostError("gone"), False, "StreamLostError: gone"),
        (exceptions.AMQPConnectionError(), False, "AMQPConnectionError"),
        (
            _failed(workflow.AMQPConnectorTransportSetupError(ssl.SSLCertVerificationError(1, "self-signed"))),
            True,
            "self-signed",
        ),
        (None, False, "None"),
    ],
)
def test_a_failure_says_what_was_at_its_root_and_whether_it_was_a_no(error, refused, text):
    failure = failure_of(error)
    assert failure.refused is refused
    assert text in failure.text
    assert failure.text


@pytest.mark.parametrize(
    ("error", "blames"),
    [
        (exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - message too large"), True),
        (exceptions.ConnectionClosedByBroker(501, "FRAME_ERROR"), True),
        (exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - by the operator"), False),
        (exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no exchange"), False),
        (exceptions.StreamLostError("cut"), False),
        (_failed(workflow.AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "no"))), False),
    ],
)
def test_only_what_the_broker_complained_of_may_have_been_a_message(error, blames):
    assert failure_of(error).blames is blames


def test_another_queue_under_our_name_is_a_topology_error():
    failure = failure_of(
        exceptions.ChannelClosedByBroker(
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'h.queue.g' in vhost '/': received '5' but "
            "current is '6'",
        )
    )
    assert failure.refused
    assert "x-max-length is 6 at the broker and 5 here" in str(failure.error)
    assert failure.text == str(failure.error)


# -- topology -----------------------------------------------------------------------------------------------------


def test_dead_letters_have_their_place_before_the_queue_that_needs_it():
    topology = subscribing(RabbitMQConfig(), "a.#", "g", unique="1")
    names = [
        one.name if not isinstance(one, Binding) else f"{one.exchange}>{one.queue}" for one in topology.declarations
    ]
    assert names == [
        "hireliab",
        "hireliab.dead",
        "hireliab.dead.queue.g",
        "hireliab.dead>hireliab.dead.queue.g",
        "hireliab.queue.g",
        "hireliab>hireliab.queue.g",
    ]
    assert topology.declarations[0] == Exchange("hireliab", "topic")
    assert topology.declarations[-1].key == "a.#"


def _queue(topology):
    return next(one for one in topology.declarations if isinstance(one, Queue) and one.name == topology.queue)


def test_a_group_has_a_durable_quorum_queue_that_refuses_rather_than_drops():
    queue = _queue(subscribing(RabbitMQConfig(max_length=7), "a", "g", unique="1"))
    assert (queue.durable, queue.exclusive) == (True, False)
    assert queue.arguments == {
        "x-queue-type": "quorum",
        "x-max-length": 7,
        "x-overflow": "reject-publish",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "hireliab.dead",
        "x-dead-letter-routing-key": "hireliab.queue.g",
        "x-dead-letter-strategy": "at-least-once",
    }


def test_a_classic_queue_has_no_argument_that_only_quorum_queues_know():
    queue = _queue(subscribing(RabbitMQConfig(queue_type="classic", max_length=None), "a", "g", unique="1"))
    assert set(queue.arguments) == {
        "x-queue-type",
        "x-overflow",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
    }


def test_without_a_group_the_queue_goes_with_its_connection():
    topology = subscribing(RabbitMQConfig(), "a", None, unique="u1")
    queue = _queue(topology)
    assert (queue.name, queue.durable, queue.exclusive) == ("hireliab.own.u1", False, True)
    assert "x-queue-type" not in queue.arguments
    assert topology.dead_key == "own"


@pytest.mark.parametrize("group", ["dead", "own", "queue.g", "g.dead", "dead.queue.g"])
def test_no_group_has_the_queue_of_another_purpose(group):
    others = [subscribing(RabbitMQConfig(), "a", other, unique="1") for other in ("g", None)]
    taken = {one.name for topology in others for one in topology.declarations if isinstance(one, Queue)}
    topology = subscribing(RabbitMQConfig(), "a", group, unique="1")
    mine = {one.name for one in topology.declarations if isinstance(one, Queue)}
    assert not mine & taken


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'", "queue 'q': its durable is true"),
        ("arg 'type' for exchange 'x' in vhost '/': received 'topic' but current is 'fanout'", "its type is fanout at the broker and topic here"),
        (
            "arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received the value 'a'b' of type 'longstr' but current "
            "is none",
            "is none at the broker and a'b here",
        ),
    ],
)  # fmt: skip
def test_a_differing_queue_is_told_with_both_values(told, says):
    assert says in str(topology_error(f"PRECONDITION_FAILED - inequivalent {told}"))


@pytest.mark.parametrize("told", ["", "PRECONDITION_FAILED - unknown delivery tag 7", "NOT_FOUND - no queue 'x'"])
def test_another_refusal_is_no_topology_error(told):
    assert topology_error(told) is None
