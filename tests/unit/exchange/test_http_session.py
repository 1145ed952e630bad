"""Session: what is sent, how often, in what time, and what a failure says; on the short way and on the long one."""

import copy
import errno
import gc
import gzip
import http.client
import pickle
import socket
import tracemalloc

import pytest
import requests
import urllib3

from hireliab import errors
from hireliab.core.deadline import deadline
from hireliab.exchange import _http_adapter, http_session
from hireliab.exchange._http_wire import Watch
from hireliab.exchange.http_session import Session, pool_of_sessions
from tests.support.http_fakes import ECHO, at_write, reply
from tests.support.together import together

URL = "http://venue.test/v2/orders?secret=1"
PLACE = "http://venue.test:8080/v2/place"


pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def session(clock):
    with Session(clock=clock) as session:
        yield session


def warm(session, network, *script, **first):
    """A connection that answered once and then follows the script."""
    network.scripts.append([reply(**first), *script])
    assert session.get("http://venue.test/").status_code == 200


def caught(call):
    with pytest.raises(errors.HireliabError) as caught:
        call()
    error = caught.value
    assert "secret" not in str(error)
    assert "secret" not in repr(error.__cause__)
    assert error.__suppress_context__ or error.__context__ is None
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
    return error


# -- what is written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"json": {"a": 1}}, {"data": b"x" * 1000}, {"data": {"a": "b"}}])
def test_head_and_body_are_one_write(session, network, way, body):
    warm(session, network, reply())
    session.post(PLACE.replace(":8080", ""), **body)
    assert len(network.sent) == 1
    assert len(network.sent[0]) == 2
    head, _, tail = network.sent[0][1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/place HTTP/1.1\r\nHost: venue.test\r\n")
    assert b"Content-Length: %d" % len(tail) in head


def test_a_long_body_is_written_in_pieces_so_that_the_total_limit_can_end_it(session, network, way, clock):
    warm(session, network)
    network.sockets[0].settimeout = lambda seconds: network.sockets[0].timeouts.append(seconds) or clock.advance(2.0)
    error = caught(lambda: session.post("http://venue.test/", data=b"x" * 1_000_000, total_timeout=5.0))
    assert isinstance(error, errors.ResponseTimeoutError)
    assert len(network.sent[0]) <= 5


def test_the_two_ways_write_the_same_bytes(network, monkeypatch, clock):
    calls = [
        ("GET", "/a b/é?x=1", {}), ("GET", "/", {"params": {"q": "ü &", "n": 1}}), ("HEAD", "/", {}), ("DELETE", "/x", {}),
        ("POST", "/", {}), ("POST", "/", {"data": "é"}), ("POST", "/", {"json": [1.5, "é"], "headers": {"accept": "x"}}),
    ]  # fmt: skip
    written = {}
    for way in ("short", "long"):
        network.scripts.append([reply(b"") for _ in range(20)])
        with Session(clock=clock) as session:
            session.get("http://venue.test/")
            with monkeypatch.context() as patch:
                if way == "long":
                    patch.setattr(http_session, "attempt", lambda *_: None)
                for method, path, more in calls:
                    session.request(method, f"http://venue.test{path}", **more)
        written[way] = network.sent[-1]
    assert written["short"] == written["long"]
    assert len(network.sockets) == 2


def test_sockets_do_not_wait_and_notice_a_dead_peer(session, network):
    warm(session, network)
    options = network.asked[0][2]
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in options
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in options
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000) in options


# -- sending twice ------------------------------------------------------------------------------------------------

DEATHS = {
    "closed": b"",
    "reset": ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "reset at the write": at_write(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")),
    "broken at the write": at_write(BrokenPipeError(errno.EPIPE, "Broken pipe")),
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_read_is_sent_once_more_when_a_reused_connection_died_unanswered(session, network, way, death, method):
    warm(session, network, DEATHS[death])
    network.scripts.append([reply(b"")])
    assert session.request(method, URL.replace("?secret=1", "")).status_code == 200
    assert len(network.sockets) == 2
    assert network.sent[0][1] == network.sent[1][0]
    assert network.sockets[0].closed


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_what_may_change_something_is_sent_once(session, network, way, death, method):
    warm(session, network, DEATHS[death])
    network.scripts.append([reply()])
    error = caught(lambda: session.request(method, URL, data=b"x"))
    assert isinstance(error, errors.ResponseLostError)
    assert isinstance(error, requests.ConnectionError)
    assert error.stale
    assert len(network.sockets) == 1
    assert network.sockets[0].closed


def test_a_post_that_says_so_is_sent_once_more(session, network, way):
    warm(session, network, b"")
    network.scripts.append([reply()])
    assert session.post("http://venue.test/v2/status", json={"id": 7}, retry_safe=True).status_code == 200
    assert network.sent[0][1] == network.sent[1][0]


def test_a_get_that_says_not_is_sent_once(session, network, way):
    warm(session, network, b"")
    caught(lambda: session.get(URL, retry_safe=False))
    assert len(network.sockets) == 1


def test_nothing_is_sent_a_third_time(session, network, way):
    warm(session, network, b"")
    network.scripts += [[b""], [reply()]]
    error = caught(lambda: session.get(URL))
    assert isinstance(error, errors.ResponseLostError)
    assert not error.stale
    assert len(network.sockets) == 2


def test_another_idle_connection_is_no_new_one(session, network, way):
    warm(session, network, [reply(b"slowly"), b""], b"", reply())
    stream = session.get("http://venue.test/", stream=True)
    network.scripts.append([reply(), b"", reply()])
    session.get("http://venue.test/")
    assert stream.content == b"slowly"  # now both connections are idle
    network.scripts.append([reply()])
    assert session.get("http://venue.test/").status_code == 200
    assert list(map(len, network.sent)) == [3, 1, 1]


def test_a_new_connection_that_dies_is_no_reason_to_send_again(session, network, way):
    network.scripts += [[b""], [reply()]]
    caught(lambda: session.get(URL))
    assert len(network.sockets) == 1


@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Le", reply(b"abc")[:-1]])
def test_after_one_byte_of_an_answer_nothing_is_sent_again(session, network, way, part):
    warm(session, network, [part, b""])
    network.scripts.append([reply()])
    error = caught(lambda: session.get(URL))
    assert isinstance(error, errors.ResponseLostError)
    assert isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError)
    assert not error.stale
    assert len(network.sockets) == 1
    assert network.sockets[0].closed


def test_a_time_out_is_no_reason_to_send_again(session, network, way):
    warm(session, network, TimeoutError("timed out"))
    network.scripts.append([reply()])
    error = caught(lambda: session.get(URL))
    assert isinstance(error, errors.ResponseTimeoutError)
    assert isinstance(error, requests.ReadTimeout)
    assert len(network.sockets) == 1


def test_a_body_that_cannot_be_read_twice_is_sent_once(session, network, way):
    warm(session, network, b"", b"", b"")
    network.scripts.append([reply()] * 5)
    caught(lambda: session.get(URL, data=iter([b"a", b"b"])))
    assert len(network.sockets) == 1


# -- connections that rested --------------------------------------------------------------------------------------


def test_a_connection_that_was_silent_for_too_long_is_not_used_again(session, network, way, clock):
    warm(session, network, reply())
    network.scripts.append([reply(), reply()])
    clock.advance(30.1)
    session.post(PLACE.replace(":8080", ""))
    clock.advance(29.9)
    session.post(PLACE.replace(":8080", ""))
    assert list(map(len, network.sent)) == [1, 2]
    assert network.sockets[0].closed


@pytest.mark.parametrize("hint", ["timeout=5", "max=100, Timeout=5"])
def test_the_servers_limit_less_a_second_holds_where_it_is_shorter(session, network, way, clock, hint):
    warm(session, network, reply(headers=[("Keep-Alive", hint)]), headers=[("Keep-Alive", hint)])
    clock.advance(3.9)
    session.get("http://venue.test/")
    network.scripts.append([reply()])
    clock.advance(4.1)
    session.get("http://venue.test/")
    assert list(map(len, network.sent)) == [2, 1]


def test_a_call_may_ask_for_a_fresher_connection(session, network, way, clock):
    warm(session, network, reply())
    clock.advance(5.1)
    network.scripts.append([reply()])
    session.post("http://venue.test/", max_idle=5.0)
    assert list(map(len, network.sent)) == [1, 1]


def test_a_connection_on_which_the_server_spoke_unasked_is_not_used(session, network, way):
    warm(session, network, reply())
    network.sockets[0].speak()
    network.scripts.append([reply()])
    session.post("http://venue.test/")
    assert list(map(len, network.sent)) == [1, 1]


def test_a_connection_that_the_server_will_close_is_not_kept(session, network, way):
    warm(session, network, reply(headers=[("Connection", "close")]))
    session.get("http://venue.test/")
    network.scripts.append([reply()])
    session.post("http://venue.test/")
    assert list(map(len, network.sent)) == [2, 1]


@pytest.mark.parametrize("place", ["head", "body"])
def test_ctrl_c_leaves_no_half_answer_for_the_next_call(session, network, way, place):
    half = [reply(b"a" * 10)[: 5 if place == "head" else -5], KeyboardInterrupt()]
    warm(session, network, half)
    with pytest.raises(KeyboardInterrupt):
        session.get("http://venue.test/")
    assert network.sockets[0].closed
    network.scripts.append([reply(b"whole")])
    assert session.get("http://venue.test/").content == b"whole"


# -- time ---------------------------------------------------------------------------------------------------------


def test_a_call_has_limits_unless_it_says_otherwise(session, network, way):
    warm(session, network, reply(), reply(), reply())
    assert network.asked[0][1] == 3.05
    sock = network.sockets[0]
    for given, limit in (({}, 10.0), ({"timeout": 2}, 2), ({"timeout": None}, None)):
        sock.timeouts.clear()
        session.get("http://venue.test/", **given)
        assert sock.timeouts[-1] == limit


def test_send_has_the_limits_of_request(session, network):
    network.scripts.append([reply()])
    session.send(requests.Request("GET", URL).prepare())
    assert network.asked[0][1] == 3.05
    assert network.sockets[0].timeouts[-1] == 10.0


@pytest.mark.parametrize(
    "timeout", [0, -1, 0.0, True, "5", (0, 1), (1, -1), (1,), (1, 2, 3), [1, 2], float("nan"), float("inf")]
)
def test_a_calls_timeout_that_is_none_is_refused_before_anything_is_sent(session, network, way, timeout):
    warm(session, network)
    prepared = requests.Request("POST", "http://venue.test/").prepare()
    for call in (
        lambda: session.post("http://venue.test/", timeout=timeout),
        lambda: session.send(prepared, timeout=timeout),
    ):
        error = caught(call)
        assert isinstance(error, errors.ConfigError)
        assert (
            str(error)
            .partition("timeout must be ")[2]
            .startswith(("a number, more than 0, got ", "seconds, a pair of "))
        )
    assert list(map(len, network.sent)) == [1]


@pytest.mark.parametrize(
    "timeout", [None, 1, 2.5, (None, 1), (1, None), urllib3.Timeout(connect=1, read=2), urllib3.Timeout(total=3)]
)
def test_a_calls_timeout_may_be_whatever_requests_takes(session, network, way, timeout):
    warm(session, network, reply())
    assert session.post("http://venue.test/", timeout=timeout).content == b"{}"


def dripping(clock, data, seconds=1.0):
    def one(byte):
        def drop():
            clock.advance(seconds)
            return byte

        return drop

    return [one(data[i : i + 1]) for i in range(len(data))]


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_drips_ends_at_the_total_limit(session, network, way, clock, part):
    answer = reply(b"x" * 100)
    cut = 0 if part == "head" else len(answer) - 100
    warm(session, network, [answer[:cut], *dripping(clock, answer[cut:])] if cut else dripping(clock, answer))
    started = clock.monotonic()
    error = caught(lambda: session.get(URL, total_timeout=5.0))
    assert isinstance(error, errors.ResponseTimeoutError)
    assert isinstance(error, requests.ReadTimeout)
    assert isinstance(error, requests.ConnectionError) or part == "head"
    assert 5.0 <= clock.monotonic() - started <= 6.0
    assert network.sockets[0].closed
    assert all(seconds <= 5.0 for seconds in network.sockets[0].timeouts[-3:])


def test_the_total_limit_holds_while_a_stream_is_read(session, network, clock):
    answer = reply(b"x" * 100)
    network.scripts.append([[answer[:-100], *dripping(clock, answer[-100:])]])
    response = session.get(URL, stream=True, total_timeout=5.0)
    error = caught(lambda: list(response.iter_content(10)))
    assert isinstance(error, errors.ResponseTimeoutError)


def test_the_sessions_total_limit_holds_for_prepared_requests(network, clock):
    with Session(total_timeout=5.0, clock=clock) as session:
        network.scripts.append([dripping(clock, reply(b"x" * 100))])
        assert isinstance(
            caught(lambda: session.send(requests.Request("GET", URL).prepare())), errors.ResponseTimeoutError
        )


def test_all_hops_of_a_call_share_its_total_limit(session, network, way, clock):
    def hop():
        clock.advance(2.0)
        return reply(status="302 Found", headers=[("Location", "/next")])

    warm(session, network, *[hop] * 20)
    error = caught(lambda: session.get("http://venue.test/", total_timeout=5.0))
    assert isinstance(error, errors.OutcomeUnknownError)
    assert len(network.sent[0]) == 4


@pytest.mark.parametrize("total", [None, 60.0])
def test_a_hop_has_the_calls_total_limit_instead_of_the_sessions(network, way, clock, total):
    with Session(total_timeout=5.0, clock=clock) as session:
        to_next = reply(b"", "302 Found", [("Location", "/next")])
        warm(session, network, to_next, dripping(clock, reply(), 0.5))
        started = clock.monotonic()
        assert session.get("http://venue.test/", total_timeout=total).content == b"{}"
        assert clock.monotonic() - started > 5.0


def test_a_hop_asks_for_a_connection_as_fresh_as_the_call_does(session, network, way, clock):
    to_other = reply(b"", "307 Temporary Redirect", [("Location", "http://other.test/")])
    warm(session, network, reply())
    network.scripts.append([reply(), reply()])
    session.get("http://other.test/")
    clock.advance(6.0)
    network.scripts += [[to_other], [reply()]]
    session.post("http://venue.test/", max_idle=5.0)
    assert list(map(len, network.sent)) == [1, 1, 1, 1]


@pytest.mark.parametrize(("method", "retry_safe"), [("POST", True), ("POST", None), ("GET", False), ("GET", None)])
def test_a_hop_may_be_sent_twice_where_the_call_may(session, network, way, method, retry_safe):
    warm(session, network, reply(b"", "307 Temporary Redirect", [("Location", "http://other.test/")]))
    network.scripts.append([reply()])  # and then closes
    session.get("http://other.test/")
    network.scripts.append([reply()])
    if retry_safe is True or (method == "GET" and retry_safe is None):
        session.request(method, "http://venue.test/", retry_safe=retry_safe)
        assert list(map(len, network.sent)) == [2, 2, 1]
    else:
        error = caught(lambda: session.request(method, "http://venue.test/", retry_safe=retry_safe))
        assert isinstance(error, errors.OutcomeUnknownError)
        assert list(map(len, network.sent)) == [2, 2]


def test_a_hooks_request_has_the_sessions_limits_and_not_those_of_the_call(session, network):
    network.scripts.append([reply()])
    session.get(PLACE)  # and then closes
    network.scripts += [[reply()], [reply()]]  # the second one is for a second sending, which must not be
    prepared = requests.Request("POST", PLACE).prepare()
    with pytest.raises(errors.ResponseLostError):
        session.get(URL, retry_safe=True, hooks={"response": lambda *_, **__: session.send(prepared)})
    assert list(map(len, network.sent)) == [2, 1]


def test_time_that_is_over_before_the_first_byte_means_not_sent(session, network, clock):
    def connect():
        clock.advance(6.0)
        return [reply()]

    network.scripts.append(connect)
    error = caught(lambda: session.post(URL, total_timeout=5.0))
    assert isinstance(error, errors.ConnectError)
    assert isinstance(error, requests.ConnectTimeout)
    assert network.sent == [[]]


def test_connecting_gets_no_more_time_than_the_call_has(session, network):
    warm(session, network)
    network.scripts.append([reply()])
    session.get(PLACE, total_timeout=1.0)
    assert network.asked[1][1] == 1.0


def test_the_deadline_around_a_call_is_a_total_limit(session, network, way, clock):
    warm(session, network, dripping(clock, reply(b"x" * 100)))
    with deadline(5.0, clock=clock):
        assert isinstance(caught(lambda: session.get(URL)), errors.ResponseTimeoutError)


def test_after_the_deadline_nothing_is_sent(session, network, way, clock):
    warm(session, network, reply())
    with deadline(5.0, clock=clock):
        clock.advance(5.0)
        error = caught(lambda: session.get(URL))
    assert isinstance(error, errors.DeadlineExceededError)
    assert isinstance(error, requests.ConnectTimeout)
    assert len(network.sent[0]) == 1


# -- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), requests.ConnectionError),
        (socket.gaierror(-2, "Name or service not known"), requests.ConnectionError),
        (TimeoutError("timed out"), requests.ConnectTimeout),
    ],
)
def test_without_a_connection_nothing_was_sent(session, network, raised, kind):
    network.scripts.append(raised)
    error = caught(lambda: session.post(URL))
    assert isinstance(error, errors.ConnectError)
    assert isinstance(error, kind)
    assert error.request.url == URL
    assert str(error).startswith(f"POST {URL.partition('?')[0]}: no connection (")


def test_a_further_hop_without_a_connection_does_not_say_that_nothing_was_sent(session, network, way):
    warm(session, network, reply(status="307 Temporary Redirect", headers=[("Location", PLACE)]))
    error = caught(lambda: session.post("http://venue.test/order"))
    assert isinstance(error, errors.ResponseLostError)
    assert isinstance(error, requests.ConnectionError)


def test_a_further_hop_for_which_no_time_is_left_is_a_time_out_of_an_unknown_outcome(session, network, way, clock):
    def slow():
        clock.advance(4.0)
        return reply(status="307 Temporary Redirect", headers=[("Location", "http://other.test/")])

    def connect():
        clock.advance(2.0)
        return [reply()]

    warm(session, network, slow)
    network.scripts.append(connect)
    error = caught(lambda: session.post("http://venue.test/order", total_timeout=5.0))
    assert isinstance(error, errors.ResponseTimeoutError)
    assert isinstance(error, requests.ConnectTimeout)
    assert network.sent[1] == []


def test_a_further_hop_after_the_deadline_does_not_say_that_nothing_was_sent(session, network, way, clock):
    def slow():
        clock.advance(6.0)
        return reply(b"", "307 Temporary Redirect", [("Location", PLACE)])

    warm(session, network, slow)
    with deadline(5.0, clock=clock):
        error = caught(lambda: session.post("http://venue.test/order"))
    assert isinstance(error, errors.OutcomeUnknownError)
    assert isinstance(error, requests.ConnectTimeout)
    assert not isinstance(error, errors.NotSentError)
    assert len(network.sent) == 1


def test_a_hooks_request_without_a_connection_does_not_say_that_nothing_was_sent(session, network):
    network.scripts.append([reply()])
    with pytest.raises(errors.OutcomeUnknownError):
        session.post(URL, hooks={"response": lambda answer, **__: (answer.content, session.get(PLACE))})


@pytest.mark.parametrize("name", ["declared", "chunked", "endless", "gzip"])
def test_an_answer_that_is_too_long_is_not_collected(network, way, clock, name):
    long = b"x" * 300_000
    answer = {
        "declared": reply(long),
        "chunked": reply(
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(long), long), headers=[("Transfer-Encoding", "chunked")], length=False
        ),
        "endless": reply(long, length=False),
        "gzip": reply(gzip.compress(b"\0" * 10_000_000), headers=[("Content-Encoding", "gzip")]),
    }[name]
    with Session(max_response_bytes=100_000, clock=clock) as session:
        warm(session, network, answer)
        tracemalloc.start()
        error = caught(lambda: session.get(URL))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert isinstance(error, errors.MalformedResponseError)
    assert isinstance(error, requests.RequestException)
    assert "100000 bytes" in str(error)
    if (way, name) != ("long", "gzip") or tuple(map(int, urllib3.__version__.split(".")[:2])) >= (2, 6):
        assert peak < 3_000_000  # urllib3 before 2.6 unpacks all that one read brought


@pytest.mark.parametrize("grows", ["chunk marks", "trailer"])
def test_an_answer_that_grows_on_the_wire_alone_is_not_read_on(network, way, clock, grows):
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    more = b"1;" + b"x" * 1000 + b"\r\ny\r\n" if grows == "chunk marks" else b"0\r\n" + b"X: y\r\n" * 50_000
    with Session(max_response_bytes=100_000, clock=clock) as session:
        warm(session, network, chunks + more * (250 if grows == "chunk marks" else 1) + b"\r\n")
        error = caught(lambda: session.get(URL))
    assert isinstance(error, errors.MalformedResponseError)
    assert network.sockets[0].closed


def test_an_answer_of_just_the_limit_is_collected(network, way, clock):
    with Session(max_response_bytes=1000, clock=clock) as session:
        warm(
            session,
            network,
            reply(gzip.compress(b"x" * 1000), headers=[("Content-Encoding", "gzip")]),
            reply(b"y" * 1000),
        )
        assert session.get(URL).content == b"x" * 1000
        assert session.get(URL).content == b"y" * 1000


def test_an_answer_that_cannot_be_decoded_is_malformed(session, network, way):
    warm(session, network, reply(b"no gzip at all", headers=[("Content-Encoding", "gzip")]))
    error = caught(lambda: session.get(URL))
    assert isinstance(error, errors.MalformedResponseError)
    assert isinstance(error, requests.exceptions.ContentDecodingError)


def test_two_lengths_are_malformed(session, network, way):
    warm(session, network, reply(b"abc", headers=[("Content-Length", "2")]))
    error = caught(lambda: session.get(URL))
    assert isinstance(error, errors.MalformedResponseError)
    assert isinstance(error, requests.exceptions.InvalidHeader)
    assert network.sockets[0].closed


@pytest.mark.parametrize(
    ("url", "more", "kind"),
    [
        ("/no/scheme", {}, requests.exceptions.MissingSchema),
        ("http://", {}, requests.exceptions.InvalidURL),
        ("http://[::1", {}, requests.exceptions.InvalidURL),
        ("ftp://venue.test/", {}, requests.exceptions.InvalidSchema),
        (URL, {"headers": {"a": "b\nc: d"}}, requests.exceptions.InvalidHeader),
        (URL, {"headers": {"é": "b"}}, UnicodeEncodeError),
        (URL, {"headers": {"a": "☃"}}, UnicodeEncodeError),
        (URL, {"json": float("nan")}, requests.exceptions.InvalidJSONError),
        (URL, {"timeout": (1, 2, 3)}, ValueError),
    ],
)
def test_a_bad_request_is_requests_own_error(session, network, way, url, more, kind):
    warm(session, network, reply())
    with pytest.raises(kind):
        session.get(url, **more)
    assert len(network.sent[0]) == 1


def test_the_exceptions_of_a_test_double_pass_through(session, monkeypatch):
    error = requests.ConnectionError("as the test wants it")

    def send(*_args, **_options):
        raise error

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    with pytest.raises(requests.ConnectionError) as caught:
        session.get(URL)
    assert caught.value is error


@pytest.mark.parametrize(
    "death", [b"", [b"HTTP/1.1 2", b""], TimeoutError("timed out"), [b"HTTP/1.1 200 OK\r\n", KeyboardInterrupt()]]
)
def test_a_failed_call_leaves_nothing_for_the_collector_to_complain_of(session, network, way, monkeypatch, death):
    complaints = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    warm(session, network, death)
    with pytest.raises((errors.OutcomeUnknownError, KeyboardInterrupt)):
        session.post(URL)
    gc.collect()
    assert not complaints


def test_an_answer_that_a_failing_hook_drops_leaves_nothing_for_the_collector_to_complain_of(
    session, network, monkeypatch
):
    complaints = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    network.scripts.append([reply()])
    with pytest.raises(errors.OutcomeUnknownError):
        session.post(URL, hooks={"response": lambda answer, **__: (answer.content, session.get(PLACE))})
    gc.collect()
    assert not complaints


# -- watched by other parts ---------------------------------------------------------------------------------------


class Noting(Watch):
    __slots__ = ("notes",)

    def begin(self, read_timeout, *, stream):
        super().begin(read_timeout, stream=stream)
        self.notes = []

    def write(self, sock, data):
        self.notes.append(("write", self.sent))
        super().write(sock, data)

    def before_answer(self):
        self.notes.append(("before answer", self.answered))

    def took(self, count):
        super().took(count)
        self.notes.append(("took", count))


def test_a_watch_that_is_given_sees_each_step(session, network, way, clock):
    warm(session, network, [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n{}"])
    watch = Noting(clock.monotonic)
    session.post("http://venue.test/", data=b"x", watch=watch)
    assert watch.notes == [("write", False), ("before answer", False), ("took", 17), ("took", 23)]
    assert (watch.seen, watch.sent, watch.connected, watch.answered, watch.received) == (True, True, False, True, 40)


def test_a_watch_with_a_negative_max_idle_gets_a_new_connection(session, network, way, clock):
    warm(session, network, reply())
    network.scripts.append([reply()])
    watch = Watch(clock.monotonic, max_idle=-1.0)
    session.post("http://venue.test/", watch=watch)
    assert watch.connected
    assert len(network.sockets) == 2


def test_a_watch_knows_that_a_reused_connection_died_unanswered(session, network, way, clock):
    warm(session, network, b"")
    watch = Watch(clock.monotonic, retry_safe=False)
    caught(lambda: session.post(URL, watch=watch))
    assert watch.stale


# -- sharing, copying, closing ------------------------------------------------------------------------------------


def test_threads_that_share_a_session_get_their_own_answers(network, way):
    network.scripts += [ECHO] * 300
    with Session() as session:

        def calls(number):
            return [session.get(f"http://venue.test/{number}/{i}").text for i in range(30)]

        answers = together(6, calls)
    assert answers == [[f"GET /{number}/{i} HTTP/1.1" for i in range(30)] for number in range(6)]


def test_a_forked_child_neither_uses_nor_closes_the_parents_connections(session, network, way):
    warm(session, network)
    session.renew_in_child()
    network.scripts.append([reply()])
    session.get("http://venue.test/")
    session.close()
    assert list(map(len, network.sent)) == [1, 1]
    assert not network.sockets[0].closed
    assert _http_adapter._left_behind


def test_a_closed_session_opens_a_new_connection(session, network, way):
    warm(session, network, reply())
    session.close()
    assert network.sockets[0].closed
    network.scripts.append([reply()])
    session.get("http://venue.test/")
    assert list(map(len, network.sent)) == [1, 1]


def test_a_session_pickles_with_its_settings(network):
    with Session(
        base_url="https://venue.test/v2/", headers={"Key": "k"}, timeout=2.0, total_timeout=7, max_idle=4
    ) as session:
        session.max_response_bytes = 1000
        twin = pickle.loads(pickle.dumps(session))
    assert type(twin) is Session
    assert (twin.base_url, twin.timeout, twin.total_timeout, twin.max_idle) == ("https://venue.test/v2", 2.0, 7.0, 4.0)
    assert (twin.max_response_bytes, twin.headers["key"]) == (1000, "k")
    network.scripts.append([reply()])
    twin.get("http://venue.test/")
    assert network.asked[0][1] == 2.0


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/orders", "http://venue.test/v2/orders"),
        ("orders?a=1", "http://venue.test/v2/orders?a=1"),
        ("//evil.test/x", "http://venue.test/v2/evil.test/x"),
        ("?a=http://evil.test", "http://venue.test/v2/?a=http://evil.test"),
        ("http://venue.test/other", "http://venue.test/other"),
        ("", "http://venue.test/v2"),
    ],
)
def test_a_path_is_joined_to_the_base(network, way, path, url):
    network.scripts.append([reply(), reply()])
    with Session(base_url="http://venue.test/v2/") as session:
        session.get("http://venue.test/")
        assert session.get(path).url == url
        assert session.prepare_request(requests.Request("GET", path)).url == url


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "venue.test"}, {"base_url": "ftp://venue.test"}, {"base_url": "http://venue.test/?a=1"}, {"base_url": 7},
        {"timeout": 0}, {"timeout": (1, 2, 3)}, {"timeout": (1, -2)}, {"timeout": "1"}, {"total_timeout": 0}, {"max_idle": -1},
        {"max_response_bytes": 0}, {"max_response_bytes": True},
    ],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_a_config_error(options):
    with pytest.raises(errors.ConfigError) as caught:
        Session(**options)
    assert caught.value.setting == next(iter(options))
    with pytest.raises(errors.ConfigError):
        pool_of_sessions("venue", **options)


def test_a_pool_of_sessions_takes_one_line(network):
    pool = pool_of_sessions("venue", "http://venue.test", headers={"Key": "k"}, config={"max_connections": 2})
    network.scripts.append([reply(b'{"a": 1}')])
    try:
        assert pool.execute("get", "/orders").json() == {"a": 1}
        with pool.connection() as session:
            assert type(session) is Session
    finally:
        pool.stop()
    assert network.sent[0][0].startswith(b"GET /orders ")
    assert b"Key: k\r\n" in network.sent[0][0]
    assert network.sockets[0].closed


def test_what_http_client_says_of_a_lost_connection_is_the_cause(session, network, way):
    warm(session, network, [b"nonsense\r\n\r\n"])
    assert isinstance(caught(lambda: session.post(URL)).__cause__, http.client.BadStatusLine)
