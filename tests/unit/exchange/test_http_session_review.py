"""What the session must not do though a server, a header or an earlier sending invites it to."""

import gzip
import traceback
import zlib

import pytest
import requests
import urllib3
from urllib3.util import Retry

from hireliab import errors
from hireliab.exchange._http_wire import Watch, current
from hireliab.exchange.http_session import Session
from tests.support.http_fakes import reply
from tests.support.together import Background

HOME = "http://venue.test/"


pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def session(clock):
    with Session(clock=clock) as session:
        yield session


@pytest.fixture
def plain():
    with requests.Session() as session:
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


# -- limits that a call says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [float("nan"), "1", True, -1, 0, float("inf"), b"1", (1, 2)], ids=repr)
@pytest.mark.parametrize("name", ["total_timeout", "max_idle"])
def test_a_calls_own_limit_is_checked_as_the_sessions_is(session, network, way, name, wrong):
    warm(session, network, reply())
    try:
        Session(**{name: wrong}).close()
    except errors.ConfigError as error:
        expected = error
    else:
        pytest.skip("a limit that is allowed")
    request = requests.Request("GET", HOME).prepare()
    for call in (
        lambda: session.get(HOME, **{name: wrong}),
        lambda: session.post(HOME, json={}, **{name: wrong}),
        lambda: session.send(request, **{name: wrong}),
    ):
        with pytest.raises(errors.ConfigError) as caught:
            call()
        assert str(caught.value) == str(expected)
        assert caught.value.setting == name
    assert len(network.sent[0]) == 1
    assert session.get(HOME).status_code == 200  # and nothing of it sticks


@pytest.mark.parametrize("most", [100, None])
@pytest.mark.parametrize("stream", [False, True])
def test_interim_answers_without_end_are_not_read_on(network, way, clock, most, stream):
    with Session(max_response_bytes=most, clock=clock) as session:
        warm(session, network, b"HTTP/1.1 100 Continue\r\n\r\n" * 60_000 + reply())
        with pytest.raises(errors.MalformedResponseError, match="head of the answer does not end"):
            session.get(HOME, stream=stream)
        assert network.sockets[0].closed


# -- unpacking takes time, too -----------------------------------------------------------------------------------


class _Slow:
    """A clock that goes on by a second with each look."""

    def __init__(self, clock):
        self.clock = clock

    def monotonic(self):
        self.clock.advance(1)
        return self.clock.monotonic()

    def __getattr__(self, name):
        return getattr(self.clock, name)


PACKED = {
    "gzip": gzip.compress(bytes(5_000_000)),
    "deflate": zlib.compress(bytes(5_000_000)),
    "gzip, gzip": gzip.compress(gzip.compress(bytes(5_000_000))),
}


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("most", [None, 10_000_000])
def test_the_total_time_ends_the_unpacking_too(clock, network, way, monkeypatch, encoding, most):
    with Session(clock=clock, max_response_bytes=most) as session:
        body = reply(PACKED[encoding], headers=[("Content-Encoding", encoding)])
        warm(session, network, body, reply())
        assert len(session.get(HOME, total_timeout=5).content) == 5_000_000
        network.sockets[0].inbox.clear()
    with Session(clock=_Slow(clock), max_response_bytes=most, max_idle=1e6) as session:
        warm(session, network, body)
        # Enough for what is done before: five looks at most, and for the first steps of unpacking.
        with pytest.raises(requests.RequestException) as caught:
            session.get(HOME, total_timeout=8)
        assert isinstance(caught.value, errors.ResponseTimeoutError)
        assert isinstance(caught.value, requests.Timeout)


def test_the_total_time_ends_a_stream_that_unpacks(clock, network):
    with Session(clock=clock) as session:
        network.scripts.append([reply(PACKED["gzip"], headers=[("Content-Encoding", "gzip")]), reply(b"next")])
        response = session.get(HOME, stream=True, total_timeout=5)
        chunks = response.iter_content(65536)
        assert len(next(chunks)) == 65536
        clock.advance(6)
        with pytest.raises(requests.RequestException) as caught:
            next(chunks)
        assert isinstance(caught.value, errors.ResponseTimeoutError)
        network.scripts.append([reply(b"next")])  # should the connection be closed
        assert session.get(HOME).content == b"next"


# -- secrets in texts ------------------------------------------------------------------------------------------


SECRETS = ("s3cret", "passw0rd", "sig-nature")


@pytest.mark.parametrize(
    "url",
    [
        "venue.test/orders?key=s3cret",
        "//venue.test/orders?key=s3cret",
        "me:passw0rd@venue.test/orders?key=s3cret",
        "me:passw0rd@venue.test//orders?key=s3cret",
        "http://?key=s3cret",
        "http://me:passw0rd@/?key=s3cret",
        "http://me:passw0rd@venue.test:port/?key=s3cret#sig-nature",
        "http://me:pa/passw0rd@venue.test/?key=s3cret",
        "ftp://s3cret@venue.test/",
        "http://me:?passw0rd@venue.test/?key=s3cret",
        "http://me:#passw0rd@[venue.test/?key=s3cret",
        "http://[::1/?key=s3cret",
        "http://[::1/?key='s3cret\"",
        "http://\N{SNOWMAN}:x/?key=s3cret",
        "ftp://me:passw0rd@venue.test/?key=s3cret",
        "wss://me:passw0rd@venue.test/?key=s3cret#sig-nature",
        b"ftp://me:passw0rd@venue.test/?key=s3cret",
        "http://*venue.test/?key=s3cret",
        "http://.venue.test/?key=s3cret",
    ],
)
@pytest.mark.parametrize("asked", ["request", "prepare", "send"])
def test_an_error_about_a_url_is_requests_own_and_shows_no_secret(session, plain, url, asked):
    def call(session):
        if asked == "request":
            session.get(url)
        elif asked == "prepare":
            session.get_adapter(session.prepare_request(requests.Request("GET", url)).url)
        else:
            request = requests.Request("GET", "http://venue.test/").prepare()
            request.url = url if isinstance(url, str) else url.decode()
            session.send(request)

    try:
        call(plain)
    except (ValueError, urllib3.exceptions.HTTPError, requests.RequestException) as error:
        expected = error
    else:
        return  # it can be prepared
    if asked == "prepare" and isinstance(expected, requests.exceptions.InvalidSchema):
        return  # get_adapter is requests' own
    with pytest.raises((ValueError, requests.RequestException)) as caught:
        call(session)
    assert isinstance(caught.value, type(expected) | errors.NotSentError)
    trace = "".join(traceback.format_exception(caught.value))
    shown = [line for line in trace.splitlines() if "Error" in line or "Invalid" in line or "Missing" in line]
    assert not [secret for secret in SECRETS if secret in "".join(shown)]


def test_an_error_about_a_url_shows_what_is_no_secret(session):
    with pytest.raises(
        requests.exceptions.InvalidURL, match=r"^Invalid URL 'http://venue.test:port/orders': it cannot be parsed$"
    ):
        session.get("http://venue.test:port/orders?key=s3cret")
    with pytest.raises(
        requests.exceptions.MissingSchema, match=r"^Invalid URL 'venue.test/orders': No scheme supplied; "
    ):
        session.get("venue.test/orders?key=s3cret")
    with pytest.raises(
        requests.exceptions.InvalidSchema, match=r"^Invalid URL 'ftp://venue.test/@me': No connection adapters"
    ):
        session.get("ftp://me:passw0rd@venue.test/@me?key=s3cret")


def test_an_error_about_a_redirects_url_shows_no_secret(session, network, way):
    for location in ("ftp://me:passw0rd@venue.test/?key=s3cret", "http://me:passw0rd@[::1/?key=s3cret"):
        warm(session, network, reply(b"", "302 Found", [("Location", location)]))
        with pytest.raises((requests.RequestException, ValueError)) as caught:
            session.get(HOME + "?key=s3cret")
        assert not [secret for secret in SECRETS if secret in str(caught.value)]
        session.close()


def test_raise_for_status_shows_the_url_without_its_query(session, network, way):
    warm(session, network, reply(b"", "404 Not Found"), reply(b"", "503 Busy for url: x"), reply())
    for status in (404, 503):
        answer = session.get(HOME + "orders?key=s3cret#sig-nature")
        with pytest.raises(requests.HTTPError, match=f"{status} .* for url: http://venue.test/orders$") as caught:
            answer.raise_for_status()
        assert caught.value.response is answer
    session.get(HOME).raise_for_status()


# -- absurd numbers -----------------------------------------------------------------------------------------------


MANY = "9" * 5000  # int() reads 4300 digits


@pytest.mark.parametrize("hint", ["-1", "1" + "0" * 400, MANY, "1_0", "nan", "inf", ""], ids=lambda hint: hint[:5])
def test_an_absurd_keep_alive_does_no_harm(session, network, way, hint):
    warm(session, network, reply(b"1", headers=[("Keep-Alive", f"timeout={hint}")]), reply(b"2"))
    assert session.get(HOME).content == b"1"
    assert session.get(HOME).content == b"2"


@pytest.mark.parametrize(
    "length", ["-1", "1" + "0" * 400, "99999999999999999", MANY, "1_0", "0x2"], ids=lambda length: length[:5]
)
@pytest.mark.parametrize("limit", [None, 1000])
def test_an_absurd_length_is_no_error_of_the_callers(network, way, clock, length, limit):
    with Session(max_response_bytes=limit, clock=clock) as session:
        warm(session, network, reply(b"{}", headers=[("Content-Length", length)], length=False))
        if length in ("-1", MANY, "0x2"):
            assert session.post(HOME).content == b"{}"  # http.client takes it for none
        else:
            with pytest.raises(errors.OutcomeUnknownError) as caught:
                session.post(HOME)
            assert isinstance(caught.value, requests.RequestException)
        assert network.sockets[0].closed


@pytest.mark.parametrize(
    "size", ["-5", "-1", "f" * 400, "f" * 5000, "7" + "f" * 15, "1_0", "zz", ""], ids=lambda size: size[:5]
)
@pytest.mark.parametrize("limit", [None, 1000])
@pytest.mark.parametrize("stream", [False, True])
def test_an_absurd_size_of_a_chunk_is_no_error_of_the_callers(network, way, clock, size, limit, stream):
    answer = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n{{}}\r\n0\r\n\r\n".encode()
    with Session(max_response_bytes=limit, clock=clock) as session:
        warm(session, network, answer)
        with pytest.raises(errors.OutcomeUnknownError) as caught:
            list(session.post(HOME, stream=stream).iter_content(100))
        assert isinstance(caught.value, requests.RequestException)
        assert network.sockets[0].closed


# -- fork -------------------------------------------------------------------------------------------------------


def test_a_child_does_not_wait_for_a_thread_of_its_parent_that_was_inside_the_cookies(session, network, way):
    with session.cookies._cookies_lock:
        thread = Background(session.renew_in_child)  # as in a child: the holder of the lock is not there
        thread.result()
        assert Background(session.cookies._cookies_lock.acquire, False).result()


# -- Ctrl-C -------------------------------------------------------------------------------------------------------


def test_a_call_that_ctrl_c_cut_off_at_its_very_end_limits_no_later_call(session, network, way, clock, monkeypatch):
    monkeypatch.setattr(current, "watch", Watch(clock.monotonic, deadline=clock.monotonic() - 1))  # what it leaves
    warm(session, network, reply(b"second"))
    assert session.get(HOME).content == b"second"
