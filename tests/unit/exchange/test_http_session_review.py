"""What the session must not do though a server, a header or an earlier sending invites it to."""

import gzip

import pytest
import requests
from urllib3.util import Retry

from hireliab import errors
from hireliab.exchange import http_session
from hireliab.exchange._http_wire import Watch, current
from hireliab.exchange.http_session import Session
from tests.support.http_fakes import Network, reply

HOME = "http://venue.test/"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def network(monkeypatch):
    network = Network(monkeypatch)
    yield network
    network.close()


@pytest.fixture(params=["short", "long"])
def way(request, monkeypatch):
    if request.param == "long":
        monkeypatch.setattr(http_session, "attempt", lambda *_: None)
    return request.param


@pytest.fixture
def session(clock):
    with Session(clock=clock) as session:
        yield session


def warm(session, network, *script):
    network.scripts.append([reply(), *script])
    assert session.get(HOME).status_code == 200


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


# -- another answer's bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", reply() + reply(b"other")),
        ("GET", reply() + b"H"),
        ("GET", CHUNKED + reply(b"other")),
        ("HEAD", reply(b"a body that HEAD does not have")),
        ("GET", reply(b"x", "204 No Content")),
        ("GET", reply(b"x", "304 Not Modified")),
        ("GET", reply(b"") + b"x"),
    ],
    ids=["answer", "byte", "after chunks", "head", "204", "304", "empty"],
)
def test_a_connection_that_said_more_than_its_answer_is_not_used_again(session, network, way, method, answer):
    warm(session, network, answer, reply(b"another request's"))
    session.request(method, HOME)
    network.scripts.append([reply(b"mine")])
    assert session.get(HOME).content == b"mine"
    assert len(network.sockets) == 2


@pytest.mark.parametrize("status", ["101 Switching Protocols", "102 Processing", "103 Early Hints"])
def test_a_connection_whose_answer_was_only_preliminary_is_not_used_again(session, network, way, status):
    """The final answer would be taken for that of the next request, however late it comes."""
    warm(session, network, reply(b"", status, length=False), reply(b"the first request's"))
    assert session.post(HOME, json={}).status_code == int(status[:3])
    network.scripts.append([reply(b"mine")])
    assert session.post(HOME, json={}).content == b"mine"


# -- headers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{"X-Key": "abc\n"}, {"X-Key\n": "abc"}])
@pytest.mark.parametrize("where", ["call", "session"])
def test_a_header_that_ends_in_a_newline_is_refused(session, network, way, headers, where):
    warm(session, network, reply())
    network.scripts.append([reply()])
    if where == "session":
        session.headers.update(headers)
        headers = None
    with pytest.raises(ValueError, match="(?i)header"):
        session.post(HOME, json={}, headers=headers)
    assert sum(map(len, network.sent)) == 1


def test_encodings_in_two_fields_are_undone_both(session, network, way):

    fields = [("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")]
    warm(session, network, reply(gzip.compress(gzip.compress(b"plain")), headers=fields))
    assert session.get(HOME).content == b"plain"


# -- "not sent" ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "more"), [("GET", {}), ("POST", {"json": {}, "retry_safe": True})])
def test_a_second_sending_without_a_connection_does_not_say_that_nothing_was_sent(session, network, way, method, more):
    warm(session, network, b"")
    with pytest.raises(requests.ConnectionError) as caught:
        session.request(method, HOME, **more)
    assert network.sent[0][1:], "the test is to have sent it once"
    assert isinstance(caught.value, errors.OutcomeUnknownError)
    assert not isinstance(caught.value, errors.NotSentError)


def test_an_auth_object_that_sends_again_without_a_connection_does_not_say_that_nothing_was_sent(session, network):
    challenge = [("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"'), ("Connection", "close")]
    network.scripts.append([reply(b"", "401 Unauthorized", challenge)])
    with pytest.raises(requests.ConnectionError) as caught:
        session.post(HOME, data=b"x", auth=requests.auth.HTTPDigestAuth("a", "b"))
    assert len(network.sent) == 1
    assert isinstance(caught.value, errors.OutcomeUnknownError)


# -- what the short way has to notice -----------------------------------------------------------------------------


def test_an_adapter_whose_send_was_replaced_is_asked(session, network, monkeypatch):
    warm(session, network, reply(), reply())
    session.get(HOME)
    adapter = session.get_adapter(HOME)
    asked = []
    send = adapter.send
    monkeypatch.setattr(adapter, "send", lambda *args, **kwargs: asked.append(1) or send(*args, **kwargs))
    session.get(HOME)
    assert asked


def test_retries_that_the_user_gave_the_adapter_count(session, network):
    warm(session, network, reply(), reply(b"", "503 Busy"), reply(b"second"))
    session.get(HOME)
    session.get_adapter(HOME).max_retries = Retry(1, status_forcelist=[503])
    assert session.get(HOME).content == b"second"


@pytest.mark.parametrize("error", [BrokenPipeError, ConnectionResetError])
def test_an_answer_that_came_before_the_request_was_written_is_read(session, network, way, error):
    """A server that refuses a long body answers and closes; what the write meets is that close."""
    warm(session, network)
    sock = network.sockets[0]
    sock.inbox.append(b"")

    def sendall(data):
        sock.sent.append(bytes(data))
        sock.inbox[:] = [reply(b"", "413 Too Large", [("Connection", "close")])]
        raise error(32 if error is BrokenPipeError else 104, "gone")

    sock.sendall = sendall
    assert session.post(HOME, data=b"x" * 1000).status_code == 413
    assert len(sock.sent) == 2


# -- Ctrl-C -------------------------------------------------------------------------------------------------------


def test_a_call_that_ctrl_c_cut_off_at_its_very_end_limits_no_later_call(session, network, way, clock, monkeypatch):
    monkeypatch.setattr(current, "watch", Watch(clock.monotonic, deadline=clock.monotonic() - 1))  # what it leaves
    warm(session, network, reply(b"second"))
    assert session.get(HOME).content == b"second"
