"""A connection that the server has closed, or closes in this moment: what is sent again, and what never is."""

import io

import pytest
import requests

from hireliab.errors import NotSentError, OutcomeUnknownError, ResponseLostError
from hireliab.exchange.http_session import Session
from hireliab.testing import FakeClock
from tests.support.http_servers import (
    Peer,
    answer,
    closes_after_request,
    closes_idle,
    drips,
    echo,
    half_status_line,
    head,
    resets_after_request,
    serve,
)
from tests.support.http_sessions import stock

pytestmark = pytest.mark.usefixtures("plain_environment")

ENDS = [closes_after_request, resets_after_request]
ends = pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)


def lost(call):
    """`call` must say that the outcome is unknown, in our words and in requests'."""
    with pytest.raises(requests.ConnectionError) as caught:
        call()
    error = caught.value
    assert isinstance(error, ResponseLostError) and isinstance(error, OutcomeUnknownError)
    assert not isinstance(error, NotSentError)
    return error


# -- the server closed while the connection lay idle -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_connection_closed_while_idle_is_replaced_before_anything_is_sent(session, method):
    with serve(closes_idle, echo) as server:
        session.get(f"{server.url}/1")
        server.wait_for(lambda s: 0 in s.closed)
        assert session.request(method, f"{server.url}/2").json()["connection"] == 1
        assert server.targets == ["/1", "/2"]


@stock
@pytest.mark.parametrize("end", [closes_after_request, resets_after_request])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_read_that_meets_the_servers_close_is_sent_once_more_on_a_new_connection(session, method, end):
    with serve(end(after=1), echo) as server:
        session.get(f"{server.url}/1", headers={"X-First": "yes"})
        response = session.request(method, f"{server.url}/2?q=1", headers={"X-Tag": "a"})
        assert response.status_code == 200
        assert [(r.connection, r.target) for r in server.requests] == [(0, "/1"), (0, "/2?q=1"), (1, "/2?q=1")]
        assert server.requests[1].raw == server.requests[2].raw
        assert session.get(f"{server.url}/3").json()["connection"] == 1


@ends
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
def test_what_may_have_changed_something_is_sent_exactly_once(session, method, end):
    with serve(end(after=1), echo) as server:
        session.get(f"{server.url}/1")
        error = lost(lambda: session.request(method, f"{server.url}/2", json={"side": "buy"}))
        assert error.request.method == method
        assert server.targets == ["/1", "/2"]
        # Nothing of the lost one is left.
        assert session.get(f"{server.url}/3").json()["connection"] == 1


@ends
def test_a_post_helper_with_a_body_is_sent_exactly_once(session, end):
    with serve(end(after=1), echo) as server:
        session.post(f"{server.url}/1", json={"n": 1})
        lost(lambda: session.post(f"{server.url}/2", json={"n": 2}))
        assert [r.json() for r in server.requests] == [{"n": 1}, {"n": 2}]


@stock
@ends
def test_a_post_marked_retry_safe_is_sent_once_more_whole(session, end):
    with serve(end(after=1), echo) as server:
        session.get(f"{server.url}/1")
        response = session.post(f"{server.url}/status", json={"id": 2**70}, retry_safe=True)
        assert response.json()["body"] == f'{{"id": {2**70}}}'
        assert server.targets == ["/1", "/status", "/status"]
        assert server.requests[1].raw == server.requests[2].raw


@ends
def test_a_get_marked_not_retry_safe_is_sent_exactly_once(session, end):
    with serve(end(after=1), echo) as server:
        session.get(f"{server.url}/1")
        lost(lambda: session.get(f"{server.url}/2", retry_safe=False))
        assert server.targets == ["/1", "/2"]


# -- never otherwise ---------------------------------------------------------------------------------------------------


@ends
def test_on_a_new_connection_nothing_is_sent_again(session, end):
    with serve(end(after=0), echo) as server:
        lost(lambda: session.get(f"{server.url}/1"))
        assert server.targets == ["/1"]


@stock
@ends
def test_the_second_sending_is_the_last(session, end):
    with serve(end(after=1), end(after=0), echo) as server:
        session.get(f"{server.url}/1")
        lost(lambda: session.get(f"{server.url}/2"))
        assert server.targets == ["/1", "/2", "/2"]


@stock
@ends
def test_another_idle_connection_is_no_new_one(session, end):
    """Two connections lie idle and both are dying: the second sending must not take the other one."""
    with serve(end(after=1), end(after=1), echo) as server:
        with session.get(f"{server.url}/1", stream=True) as first:
            session.get(f"{server.url}/2").close()
            first.content  # both connections are free now
        assert server.connections == 2
        assert session.get(f"{server.url}/3").json()["connection"] == 2
        assert server.targets == ["/1", "/2", "/3", "/3"]


@pytest.mark.parametrize("beginning", [b"H", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Le"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_after_the_first_byte_of_an_answer_nothing_is_sent_again(session, beginning, method):
    def script(peer):
        peer.read()
        peer.reply(body={})
        peer.read()
        peer.send(beginning)

    with serve(script, echo) as server:
        session.get(f"{server.url}/1")
        with pytest.raises(OutcomeUnknownError) as caught:
            session.request(method, f"{server.url}/2")
        assert isinstance(caught.value, requests.RequestException)
        assert server.targets == ["/1", "/2"]


def test_half_a_status_line_is_no_reason_to_send_again(session):
    with serve(half_status_line(after=1), echo) as server:
        session.get(f"{server.url}/1")
        lost(lambda: session.get(f"{server.url}/2"))
        assert server.targets == ["/1", "/2"]


def test_an_answer_in_the_middle_of_which_the_server_leaves_is_lost_and_not_asked_for_again(session):
    def script(peer):
        peer.read()
        peer.reply(body={})
        peer.read()
        peer.send(head(headers=[("Content-Length", "100")]) + b"half")

    with serve(script, echo) as server:
        session.get(f"{server.url}/1")
        with pytest.raises(ResponseLostError) as caught:
            session.get(f"{server.url}/2")
        assert isinstance(caught.value, requests.exceptions.ChunkedEncodingError)
        assert server.targets == ["/1", "/2"]


def test_a_timeout_is_no_reason_to_send_again(session):
    with serve(drips(after=1, slowly=b"\r\n" * 5000), echo) as server:
        session.get(f"{server.url}/1")
        with pytest.raises(OutcomeUnknownError):
            session.get(f"{server.url}/2", total_timeout=0.2)
        server.wait_for(lambda s: len(s.requests) == 2)
        assert server.targets == ["/1", "/2"]


@ends
def test_a_body_that_cannot_be_replayed_is_sent_exactly_once(session, end):
    with serve(end(after=1), echo) as server:
        session.get(f"{server.url}/1")
        lost(lambda: session.post(f"{server.url}/2", data=iter([b"a", b"b"]), retry_safe=True))
        assert server.targets == ["/1", "/2"]
        assert server.requests[1].body == b"ab"


@ends
def test_a_file_is_sent_whole_each_time_or_only_once(session, end):
    with serve(end(after=1), echo) as server:
        session.get(f"{server.url}/1")
        try:
            session.post(f"{server.url}/2", data=io.BytesIO(b"file" * 10_000), retry_safe=True)
        except ResponseLostError:
            assert len(server.requests) == 2
        assert all(r.body == b"file" * 10_000 for r in server.requests[1:])


# -- idle for too long ---------------------------------------------------------------------------------------------


@stock
def test_a_connection_idle_for_longer_than_max_idle_is_not_used():
    clock = FakeClock()
    with Session(max_idle=20, clock=clock) as session, serve(echo) as server:
        numbers = []
        for pause in (0, 19.9, 20.1, 19.9):
            clock.advance(pause)
            numbers.append(session.get(server.url).json()["connection"])
        assert numbers == [0, 0, 1, 1]


@stock
def test_the_limit_of_idleness_may_be_another_one_for_one_call():
    clock = FakeClock()
    with Session(clock=clock) as session, serve(echo) as server:
        session.get(server.url)
        clock.advance(6)
        assert session.post(server.url, json={}, max_idle=5).json()["connection"] == 1
        clock.advance(6)
        assert session.get(server.url).json()["connection"] == 1
        clock.advance(1)
        assert session.post(server.url, json={}, max_idle=0).json()["connection"] == 2


@stock
@pytest.mark.parametrize("hint", ["timeout=5", "timeout=5, max=100", "max=9,timeout=5", "Timeout=5"])
def test_the_servers_own_limit_of_idleness_holds_with_a_second_to_spare(hint):
    clock = FakeClock()
    with Session(clock=clock) as session, serve(answer(headers=[("Keep-Alive", hint)])) as server:
        for pause in (0, 3.9, 4.1, 3.9):
            clock.advance(pause)
            session.get(server.url)
        assert [r.connection for r in server.requests] == [0, 0, 1, 1]


@stock
@pytest.mark.parametrize(
    "hint", ["", "timeout=", "timeout=x", "timeout=1e9999", "timeout=99999999999999", "=", ",,", "é"]
)
def test_a_hint_that_makes_no_sense_is_ignored(hint):
    clock = FakeClock()
    with Session(clock=clock) as session, serve(answer(headers=[("Keep-Alive", hint)])) as server:
        session.get(server.url)
        clock.advance(10)
        session.get(server.url)
        clock.advance(31)
        session.get(server.url)
        assert [r.connection for r in server.requests] == [0, 0, 1]


def test_a_server_that_says_close_gets_a_new_connection(session):
    with serve(answer(headers=[("Connection", "close")])) as server:
        session.get(server.url)
        session.get(server.url)
        assert [r.connection for r in server.requests] == [0, 1]


def test_what_follows_an_answer_unasked_is_never_the_answer_to_the_next_request(session):
    evil = head(headers=[("Content-Length", "4")]) + b"evil"

    def script(peer):
        while peer.read() is not None:
            peer.send(head(headers=[("Content-Length", "4")]) + b"good" + evil)

    with serve(script) as server:
        for i in range(3):
            assert session.get(f"{server.url}/{i}").content == b"good"
        assert server.targets == ["/0", "/1", "/2"]


@stock  # there the next request is a RuntimeError
def test_what_follows_an_answer_late_is_never_the_answer_to_the_next_request(session):
    evil = head(headers=[("Content-Length", "4")]) + b"evil"

    def script(peer: Peer):
        while peer.read() is not None:
            peer.reply(body=b"good")
            peer.send(evil)
            with peer.server.changed:
                peer.server.late = True
                peer.server.changed.notify_all()

    with serve(script) as server:
        for i in range(3):
            server.late = False
            assert session.get(f"{server.url}/{i}").content == b"good"
            server.wait_for(lambda s: s.late)
