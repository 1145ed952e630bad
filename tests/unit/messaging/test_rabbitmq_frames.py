"""What we write is what pika reads, and the other way round."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame, spec

from hireliab.errors import MessageDecodeError
from hireliab.messaging.bus import check_headers
from hireliab.messaging.rabbitmq import _frames as frames
from hireliab.messaging.rabbitmq import _link
from hireliab.messaging.rabbitmq._dead_letter import dead_letter
from hireliab.messaging.rabbitmq._envelope import Times, further_headers, read_message, subject_of, template
from hireliab.messaging.rabbitmq._readers import Answer, AnswerReader, DeliveryReader
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq.publisher import publish_slowly
from hireliab.messaging.rabbitmq.topology import subscribing

WHEN = 1_764_081_216.25


def _decode(wire):
    """All frames, by pika."""
    found = []
    while wire:
        size, one = frame.decode_frame(wire)
        assert one is not None
        found.append(one)
        wire = wire[size:]
    return found


def _wire(body=b"{}", *, topic="a.b", headers=None, subject=None, message_id="id-1", mandatory=False):
    made = template(channel=1, amqp_exchange="hireliab", topic=topic, source="bot")
    more = further_headers(check_headers(headers), subject)
    return made.marshal(message_id.encode(), Times().text(WHEN), int(WHEN), body, more=more, mandatory=mandatory)


def _properties(wire):
    return frames.content(wire)[1][12:]


def test_pika_reads_the_envelope_that_we_write():
    publish, header, body = _decode(_wire(b'{"a":1}', headers={"k": "é"}, subject="txn-1", mandatory=True))
    assert (publish.method.exchange, publish.method.routing_key, publish.method.mandatory) == ("hireliab", "a.b", True)
    assert publish.channel_number == 1
    properties = header.properties
    assert properties.headers == {
        "cloudEvents_specversion": "1.0",
        "cloudEvents_source": "bot",
        "cloudEvents_type": "a.b",
        "cloudEvents_datacontenttype": "application/json",
        "cloudEvents_id": "id-1",
        "cloudEvents_time": "2025-11-25T14:33:36.250000Z",
        "cloudEvents_subject": "txn-1",
        "k": "é",
    }
    assert (properties.message_id, properties.type, properties.timestamp) == ("id-1", "a.b", int(WHEN))
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert header.body_size == 7
    assert body.fragment == b'{"a":1}'


@settings(max_examples=60, deadline=None)
@given(
    body=st.integers(0, 300_000).map(lambda size: b"x" * size),
    headers=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map("h".__add__),
        st.text(st.characters(exclude_categories=["Cs"])),
        max_size=4,
    ),
    subject=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    message_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
)
def test_any_message_is_split_into_frames_that_pika_puts_together(body, headers, subject, message_id):
    found = _decode(_wire(body, headers=headers, subject=subject, message_id=message_id))
    assert b"".join(one.fragment for one in found[2:]) == body
    assert found[1].body_size == len(body)
    assert all(len(one.fragment) <= frames.LARGEST_FRAME - 8 for one in found[2:])
    wanted = {f"{name}": text for name, text in headers.items()}
    assert {name: text for name, text in found[1].properties.headers.items() if name in wanted} == wanted
    assert found[1].properties.message_id == message_id


@settings(max_examples=60, deadline=None)
@given(
    headers=st.dictionaries(
        st.text("abc", min_size=1, max_size=5),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        max_size=4,
    ),
    subject=st.none() | st.text("xyz", min_size=1, max_size=9),
)
def test_a_message_comes_back_as_it_was(headers, subject):
    wire = _wire(b'{"a":[1,"2"]}', headers=headers, subject=subject)
    message = read_message(_properties(wire), b'{"a":[1,"2"]}', redelivered=True, attempt=3)
    assert (message.id, message.source, message.topic, message.time) == ("id-1", "bot", "a.b", WHEN)
    assert (message.data, message.subject, dict(message.headers)) == ({"a": [1, "2"]}, subject, headers)
    assert (message.redelivered, message.attempt) == (True, 3)
    assert subject_of(frames.content(wire)[1]) == subject


def test_deliveries_counted_by_the_broker_are_added():
    _, header, _ = _decode(_wire())
    header.properties.headers["x-delivery-count"] = 2**33
    raw = b"".join(header.properties.encode())
    assert frames.read_headers(raw) is not None  # the fast way
    assert read_message(raw, b"{}", redelivered=True, attempt=1).attempt == 2**33 + 1
    header.properties.headers["x-death"] = [{"count": 1}]
    raw = b"".join(header.properties.encode())
    assert frames.read_headers(raw) is None  # left to pika
    message = read_message(raw, b"{}", redelivered=True, attempt=1)
    assert message.attempt == 2**33 + 1
    assert dict(message.headers) == {}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"cloudEvents_specversion": "1.1"}, "specversion is '1.1'"),
        ({"cloudEvents_specversion": None}, "specversion is None"),
        ({"cloudEvents_source": None}, "no source"),
        ({"cloudEvents_type": 7}, "no type"),
        ({"cloudEvents_id": ""}, "no id"),
        ({"cloudEvents_time": "yesterday"}, "time 'yesterday'"),
        ({"cloudEvents_time": None}, "no time"),
        ({"cloudEvents_datacontenttype": "text/xml"}, "'text/xml'"),
        ({"huge": "x" * 100_000}, "headers must be"),
    ],
)
def test_an_envelope_that_we_do_not_know_is_a_decode_error_with_the_reason(change, what):
    _, header, _ = _decode(_wire())
    header.properties.headers = {
        name: value for name, value in (header.properties.headers | change).items() if value is not None
    }
    raw = b"".join(header.properties.encode())
    with pytest.raises(MessageDecodeError, match=what):
        read_message(raw, b"{}", redelivered=False, attempt=1)


@pytest.mark.parametrize(
    ("properties", "what"),
    [
        (spec.BasicProperties(), "specversion is None"),
        (spec.BasicProperties(content_encoding="gzip"), "encoding is 'gzip'"),
        (spec.BasicProperties(content_type="text/plain", message_id="1"), "specversion is None"),
    ],
)
def test_a_message_of_another_program_is_a_decode_error(properties, what):
    with pytest.raises(MessageDecodeError, match=what):
        read_message(b"".join(properties.encode()), b"{}", redelivered=False, attempt=1)


def test_without_an_id_in_its_headers_the_property_counts():
    _, header, _ = _decode(_wire())
    del header.properties.headers["cloudEvents_id"]
    message = read_message(b"".join(header.properties.encode()), b"{}", redelivered=False, attempt=1)
    assert message.id == "id-1"


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=300), cut=st.integers(0, 400))
def test_whatever_comes_is_a_message_or_a_decode_error(raw, cut):
    for properties in (raw, _properties(_wire())[:cut], _properties(_wire())[:cut] + raw):
        try:
            read_message(properties, b"{}", redelivered=False, attempt=1)
        except MessageDecodeError:
            pass


def test_times_of_one_second_share_their_beginning_and_are_exact():
    times = Times()
    assert times.text(WHEN) == b"2025-11-25T14:33:36.250000Z"
    assert times.text(WHEN + 0.5) == b"2025-11-25T14:33:36.750000Z"
    assert times.text(WHEN + 1) == b"2025-11-25T14:33:37.250000Z"


class _Channel:
    def __init__(self):
        self.published = []

    def basic_publish(self, *args, **kwargs):
        self.published.append((args, kwargs))


def test_a_pika_without_the_short_way_publishes_the_same():
    channel = _Channel()
    publish_slowly(channel, _wire(b'{"a":1}', headers={"k": "v"}, mandatory=True))
    ((exchange, key, body, properties), options) = channel.published[0]
    assert (exchange, key, body, options) == ("hireliab", "a.b", b'{"a":1}', {"mandatory": True})
    assert properties.headers["k"] == "v"
    assert properties.message_id == "id-1"


# -- readers ------------------------------------------------------------------------------------------------------


def _feed(reader, wire, step):
    """Bytes as they come, through the connection's own way of cutting them into frames."""
    connection = _link.Connection.__new__(_link.Connection)
    connection.readers = {1: reader}
    connection._frame_buffer = b""
    connection.bytes_received = 0
    left = []
    connection._process_frame = left.append
    for start in range(0, len(wire), step):
        connection._on_data_available(wire[start : start + step])
    assert connection.bytes_received == len(wire)
    assert connection._frame_buffer == b""
    return left


def _deliver(number, wire, redelivered=False):
    _, header, body = frames.content(wire)
    method = frame.Method(1, spec.Basic.Deliver("tag.1", number, redelivered, "hireliab", "a.b")).marshal()
    return method + frames.FRAME_START.pack(2, 1, len(header)) + header + b"\xce" + frames.body(1, body)


@pytest.mark.parametrize("step", [1, 7, 1000, 10**6])
def test_answers_are_collected_however_the_bytes_come(step):
    got = []
    wire = b"".join(
        frame.Method(1, method).marshal()
        for method in (
            spec.Basic.Ack(1),
            spec.Basic.Ack(5, multiple=True),
            spec.Basic.Nack(6, multiple=False),
            spec.Basic.Nack(2**40, multiple=True),
        )
    )
    assert _feed(AnswerReader(got.extend), wire, step) == []
    assert got == [Answer(1, False, False), Answer(5, True, False), Answer(6, False, True), Answer(2**40, True, True)]


@pytest.mark.parametrize("step", [1, 13, 5000, 10**7])
def test_deliveries_are_put_together_however_the_bytes_come(step):
    if step == 1:
        sizes = (0, 1, 100)
    else:
        sizes = (0, 1, 4087, 4088, 4089, 140_000)
    got = []
    wires = [_wire(b"x" * size) for size in sizes]
    wire = b"".join(_deliver(number, one, number == 2) for number, one in enumerate(wires, 1))
    assert _feed(DeliveryReader(got.extend), wire, step) == []
    assert [(one.number, one.redelivered, len(one.body)) for one in got] == [
        (number, number == 2, size) for number, size in enumerate(sizes, 1)
    ]
    assert all(one.properties == _properties(wire) for one, wire in zip(got, wires, strict=True))


def test_frames_of_other_kinds_and_channels_are_left_to_pika_in_their_order():
    events = []
    reader = AnswerReader(lambda answers: events.append([answer.number for answer in answers]))
    other = frame.Method(1, spec.Channel.Close(406, "why", 0, 0)).marshal()
    elsewhere = frame.Method(2, spec.Basic.Ack(7)).marshal()
    ack = [frame.Method(1, spec.Basic.Ack(number)).marshal() for number in (1, 2, 3)]
    connection = _link.Connection.__new__(_link.Connection)
    connection.readers, connection._frame_buffer, connection.bytes_received = {1: reader}, b"", 0
    connection._process_frame = lambda one: events.append(type(one.method).__name__)
    connection._on_data_available(ack[0] + ack[1] + other + ack[2] + elsewhere)
    assert events == [[1, 2], "Close", [3], "Ack"]


def test_content_of_a_returned_message_is_left_to_pika():
    returned = frame.Method(1, spec.Basic.Return(312, "NO_ROUTE", "hireliab", "a.b")).marshal()
    _, header, body = frames.content(_wire(b"{}"))
    rest = frames.FRAME_START.pack(2, 1, len(header)) + header + b"\xce" + frames.body(1, body)
    got = []
    assert len(_feed(DeliveryReader(got.extend), returned + rest, 10**6)) == 3
    assert len(_feed(AnswerReader(got.extend), returned + rest, 10**6)) == 3
    assert got == []


def test_a_frame_without_its_end_is_no_frame():
    wire = bytearray(frame.Method(1, spec.Basic.Ack(1)).marshal())
    wire[-1] = 0
    with pytest.raises(_link.InvalidFrameError):
        _feed(AnswerReader(lambda _: None), bytes(wire), 10**6)


def test_acks_are_written_one_by_one():
    found = _decode(frames.acks(3, [1, 2**40]))
    assert [(one.channel_number, one.method.delivery_tag, one.method.multiple) for one in found] == [
        (3, 1, False),
        (3, 2**40, False),
    ]


# -- dead letters -------------------------------------------------------------------------------------------------

TOPOLOGY = subscribing(RabbitMQConfig(), "a.#", "g", unique="1")


def test_a_dead_letter_is_the_message_with_the_reason():
    wire = _wire(b'{"a":1}', headers={"k": "v"})
    letter, message_id = dead_letter(1, TOPOLOGY, _properties(wire), b'{"a":1}', reason="why", attempts=4)
    publish, header, body = _decode(letter)
    assert (publish.method.exchange, publish.method.routing_key) == ("hireliab.dead", "hireliab.queue.g")
    assert publish.method.mandatory
    headers = header.properties.headers
    assert (headers["hireliab_reason"], headers["hireliab_queue"]) == ("why", "hireliab.queue.g")
    assert (headers["hireliab_attempts"], headers["k"], headers["cloudEvents_id"]) == ("4", "v", "id-1")
    assert message_id == header.properties.message_id == "id-1"
    assert body.fragment == b'{"a":1}'


def test_a_dead_letter_goes_nowhere_else_and_does_not_expire():
    given = spec.BasicProperties(headers={"CC": ["x"], "BCC": ["y"]}, expiration="1", user_id="other", delivery_mode=1)
    letter, message_id = dead_letter(1, TOPOLOGY, b"".join(given.encode()), b"", reason="r", attempts=0)
    _, header = _decode(letter)
    assert set(header.properties.headers) == {"hireliab_reason", "hireliab_queue", "hireliab_attempts"}
    assert (header.properties.expiration, header.properties.user_id) == (None, None)
    assert header.properties.delivery_mode == 2
    assert message_id == ""


@pytest.mark.parametrize(
    "raw", [b"\xff\xff\xff", b"", b"".join(spec.BasicProperties(headers={"big": "x" * 131_000}).encode())]
)
def test_of_properties_that_cannot_be_kept_the_body_is(raw):
    letter, _ = dead_letter(1, TOPOLOGY, raw, b"body", reason="r" * 1000 + "\ud800", attempts=1)
    _, header, body = _decode(letter)
    assert body.fragment == b"body"
    assert header.properties.headers["hireliab_reason"] == "r" * 500
    assert len(letter) < frames.LARGEST_FRAME
