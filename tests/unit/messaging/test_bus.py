import threading
from decimal import Decimal

import pytest

from hireliab.errors import BusError, ConfigError, MessageDecodeError, UnconfirmedPublishError
from hireliab.messaging.bus import (
    Message,
    PublishReceipt,
    PublishStatus,
    check_headers,
    check_pattern,
    check_topic,
    decode_data,
    encode_data,
    topic_matches,
)
from hireliab.testing import FakeClock
from tests.support.together import Background, together


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("transaction.completed", "transaction.completed", True),
        ("transaction.completed", "transaction.failed", False),
        ("transaction.*", "transaction.completed", True),
        ("transaction.*", "transaction", False),
        ("transaction.*", "transaction.completed.late", False),
        ("*.completed", "transaction.completed", True),
        ("transaction.#", "transaction", True),
        ("transaction.#", "transaction.completed.late", True),
        ("transaction.#", "order.filled", False),
        ("#", "anything.at.all", True),
        ("#.filled", "filled", True),
        ("#.filled", "order.btc.filled", True),
        ("#.filled", "order.filled.late", False),
        ("*.#.*", "one", False),
        ("*.#.*", "one.two", True),
        ("a.#.b.#", "a.x.b.y.z", True),
        ("a.#.b.#", "a.x.y", False),
        ("*", "two.words", False),
    ],
)
def test_wildcards_match_like_those_of_amqp(pattern, topic, matches):
    assert topic_matches(pattern, topic) is matches


def test_a_pattern_of_many_hashes_does_not_explode():
    assert topic_matches(".".join(["#", "a"] * 50), ".".join(["a"] * 120)) is True
    assert topic_matches(".".join(["#", "a"] * 60 + ["b"]), ".".join(["a"] * 120)) is False


@pytest.mark.parametrize("topic", ["", ".", "a.", ".a", "a..b", "a b", "a.*", "#", "a\n", "٣", "x" * 256, None, 7])
def test_what_is_no_topic_is_refused(topic):
    with pytest.raises(ConfigError, match="no topic"):
        check_topic(topic)


@pytest.mark.parametrize("pattern", ["", "a.", "a*", "a.b#", "**", None, "x" * 256])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(ConfigError, match="no topic pattern"):
        check_pattern(pattern)


def test_decimals_travel_as_exact_text():
    data = {"amount": Decimal("0.00100"), "big": Decimal("1E+5"), "n": 1, "list": [Decimal("-2.50"), None, True]}
    assert decode_data(encode_data(data, limit=1000)) == {
        "amount": "0.001",
        "big": "100000",
        "n": 1,
        "list": ["-2.5", None, True],
    }


def test_a_huge_exponent_is_not_written_out():
    assert decode_data(encode_data(Decimal("1E+999999"), limit=100)) == "1E+999999"


@pytest.mark.parametrize(
    "data", [float("nan"), float("inf"), Decimal("NaN"), {1, 2}, b"bytes", object(), {"x": object()}, "\ud800"]
)
def test_what_json_cannot_say_is_refused(data):
    with pytest.raises(BusError, match="not JSON"):
        encode_data(data, limit=1000)


def test_data_that_contains_itself_is_refused():
    data: list[object] = []
    data.append(data)
    with pytest.raises(BusError, match="not JSON"):
        encode_data(data, limit=1000)


def test_the_size_limit_counts_bytes_not_characters():
    assert encode_data("é" * 4, limit=10) == '"éééé"'.encode()
    with pytest.raises(BusError, match="10 bytes, at most 9"):
        encode_data("é" * 4, limit=9)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_json_is_a_decode_error(body):
    with pytest.raises(MessageDecodeError):
        decode_data(body)


def test_headers_are_copied_and_read_only():
    given = {"a": "1"}
    headers = check_headers(given)
    given["a"] = "2"
    assert headers == {"a": "1"}
    with pytest.raises(TypeError):
        headers["a"] = "3"  # type: ignore[index]


@pytest.mark.parametrize("headers", [{"a": 1}, {1: "a"}, ["a"], {"a": "x" * 1001}, {str(i): "" for i in range(51)}])
def test_headers_that_are_not_short_texts_are_refused(headers):
    with pytest.raises(ConfigError, match="headers"):
        check_headers(headers)


def test_a_message_is_frozen_and_has_the_cloudevents_type():
    message = Message(id="1", source="s", topic="a.b", time=0.0)
    assert message.type == "a.b"
    assert message.attempt == 1
    assert not message.redelivered
    with pytest.raises(AttributeError):
        message.topic = "c"  # type: ignore[misc]


def _receipt(clock=None):
    return PublishReceipt(message_id="m1", topic="a.b", clock=clock or FakeClock())


def test_a_receipt_settles_once():
    receipt = _receipt()
    assert receipt.status is None
    assert receipt.settle(PublishStatus.RETURNED, "no queue") is True
    assert receipt.settle(PublishStatus.CONFIRMED) is False
    assert receipt.status is PublishStatus.RETURNED
    assert receipt.reason == "no queue"
    assert "returned" in repr(receipt)


@pytest.mark.parametrize("status", [PublishStatus.CONFIRMED, PublishStatus.BUFFERED])
def test_a_good_outcome_is_the_result(status):
    receipt = _receipt()
    receipt.settle(status)
    assert receipt.result(0) is status


@pytest.mark.parametrize("status", [PublishStatus.RETURNED, PublishStatus.REJECTED])
def test_a_definite_no_raises_and_says_that_nobody_will_see_it(status):
    receipt = _receipt()
    receipt.settle(status, "why")
    with pytest.raises(BusError, match=rf"{status.value} \(why\); nobody will see it"):
        receipt.result(0)


def test_a_refusal_of_one_queue_raises_that_another_may_hold_it():
    receipt = _receipt()
    receipt.settle(PublishStatus.NACKED, "full")
    with pytest.raises(UnconfirmedPublishError, match=r"nacked \(full\), another queue may hold it"):
        receipt.result(0)


def test_unknown_raises_that_it_may_have_been_published():
    receipt = _receipt()
    receipt.settle(PublishStatus.UNKNOWN)
    with pytest.raises(UnconfirmedPublishError, match="may have been published"):
        receipt.result(0)


def test_waiting_for_an_open_receipt_ends_with_the_time():
    clock = FakeClock()
    receipt = _receipt(clock)
    outcome = []

    def wait():
        try:
            receipt.result(5.0)
        except UnconfirmedPublishError as error:
            outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    clock.wait_parked(1)
    clock.advance(5.0)
    thread.join(10)
    assert len(outcome) == 1
    assert receipt.status is None  # still open: it may settle later
    assert receipt.settle(PublishStatus.CONFIRMED)


def test_settling_wakes_a_waiter():
    clock = FakeClock()
    receipt = _receipt(clock)
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(receipt.wait()))
    thread.start()
    clock.wait_parked(1)
    receipt.settle(PublishStatus.CONFIRMED)
    thread.join(10)
    assert outcome == [PublishStatus.CONFIRMED]


def test_of_many_that_settle_one_receipt_one_wins():
    for _ in range(50):
        receipt = _receipt()
        waiting = Background(receipt.wait, 10)
        won = together(4, lambda i, receipt=receipt: receipt.settle(PublishStatus.NACKED, str(i)))
        assert sorted(won) == [False, False, False, True]
        assert receipt.reason == str(won.index(True))
        assert waiting.result() is PublishStatus.NACKED
