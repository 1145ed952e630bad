"""When the session goes the short way and when it steps aside; that nobody can tell by the response."""

import copy
import datetime as dt
import functools
import http.client
import logging
import pickle

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from urllib3.connectionpool import HTTPConnectionPool

from hireliab.exchange import http_session
from hireliab.exchange._http_adapter import Adapter
from hireliab.exchange._http_wire import Watched
from hireliab.exchange.http_session import Session
from tests.support.http_fakes import reply

HOME = "http://venue.test/"


pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def ways(monkeypatch):
    """Which way each call went."""
    went = []
    attempt = http_session.attempt

    @functools.wraps(attempt)
    def noting(*args):
        response = attempt(*args)
        went.append("long" if response is None else "short")
        return response

    monkeypatch.setattr(http_session, "attempt", noting)
    return went


@pytest.fixture
def session(network, ways, clock):
    with Session(clock=clock) as session:
        network.scripts += [
            [reply(b'{"a": 1}', headers=[("Content-Type", "application/json")])] * 50,
            *[[reply()] * 50] * 5,
        ]
        session.get(HOME)
        ways.clear()
        yield session


# -- which way ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("GET", {}), ("get", {}), ("HEAD", {}), ("OPTIONS", {}), ("DELETE", {}), ("POST", {}), ("PUT", {"data": b"x"}),
        ("POST", {"json": {"a": 1}}), ("POST", {"data": {"a": 1}}), ("PATCH", {"data": "é"}), ("GET", {"params": {"a": "b", "c": 1}}),
        ("GET", {"headers": {"X-Key": "k"}}), ("GET", {"timeout": 5}), ("GET", {"timeout": (1, None)}), ("GET", {"timeout": None}),
        ("POST", {"data": "", "files": None, "proxies": None, "verify": True, "allow_redirects": False}), ("GET", {"stream": False}),
        ("GET", {"total_timeout": 5.0, "retry_safe": False, "max_idle": 10.0}),
    ],
)  # fmt: skip
def test_what_is_common_and_simple_goes_the_short_way(session, ways, method, more):
    session.request(method, f"{HOME}path?x=1", **more)
    assert ways == ["short"]


@pytest.mark.parametrize(
    "more",
    [
        {"auth": ("u", "p")}, {"cookies": {"a": "b"}}, {"files": {"f": b"x"}}, {"hooks": {"response": [lambda *_, **__: None]}},
        {"stream": True}, {"proxies": {"https": "http://proxy.test"}}, {"verify": False}, {"cert": "/client.pem"},
        {"params": [("a", 1)]}, {"params": {"a": None}}, {"params": {"a": ["b", "c"]}}, {"params": "a=b"}, {"data": iter([b"x"])},
        {"data": [("a", "b")]}, {"data": bytearray(b"x")}, {"headers": {"Accept": None}}, {"headers": {"X": b"bytes"}},
        {"headers": {"Host": "other.test"}}, {"headers": {"Transfer-Encoding": "chunked"}}, {"headers": [("a", "b")]},
        {"timeout": urllib3.Timeout(3)},
    ],
)  # fmt: skip
def test_what_it_does_not_speed_up_goes_the_long_way(session, ways, more):
    try:
        session.post(HOME, **more)
    except (OSError, AttributeError, ValueError):
        pass  # what requests makes of it
    assert "short" not in ways


def setting(name, value):
    return lambda session: setattr(session, name, value)


@pytest.mark.parametrize(
    "change",
    [
        setting("auth", ("u", "p")),
        setting("params", {"a": 1}),
        setting("proxies", {"ftp": "http://proxy.test"}),
        setting("stream", True),
        lambda session: session.cookies.set("a", "b"),
        lambda session: session.hooks["response"].append(lambda *_, **__: None),
        lambda session: session.mount(HOME, HTTPAdapter()),
        lambda session: session.adapters.update({"http://": HTTPAdapter()}),
        lambda session: session.headers.update({"User-Agent": None}),
        setting("cookies", type("Jar", (RequestsCookieJar,), {})()),
        setting("send", lambda *_, **__: requests.Response()),
        lambda session: setting("get_adapter", functools.partial(Session.get_adapter, session))(session),
    ],
)
def test_a_session_with_more_than_defaults_goes_the_long_way(session, ways, change):
    change(session)
    session.get(HOME)
    assert "short" not in ways


@pytest.mark.parametrize("name", ["send", "prepare_request", "merge_environment_settings", "get_adapter"])
def test_a_subclass_that_overrides_what_would_be_bypassed_is_asked(network, ways, name):
    asked = []

    def override(self, *args, **kwargs):
        asked.append(name)
        return getattr(Session, name)(self, *args, **kwargs)

    network.scripts.append([reply()] * 5)
    with type("Sub", (Session,), {name: override})() as session:
        session.get(HOME)
        asked.clear()
        session.get(HOME)
    assert asked


def test_a_subclass_that_overrides_request_keeps_the_short_way(network, ways):
    class Sub(Session):
        def request(self, method, url, **kwargs):
            return super().request(method, f"http://venue.test{url}", **kwargs)

    network.scripts.append([reply()] * 5)
    with Sub() as session:
        session.get("/")
        session.get("/")
    assert ways == ["long", "short"]


def test_an_adapter_that_overrides_is_asked(session, ways):
    class Sub(Adapter):
        def send(self, *args, **kwargs):
            asked.append(1)
            return super().send(*args, **kwargs)

    asked = []
    session.mount("http://", Sub())
    session.get(HOME)
    session.get(HOME)
    assert len(asked) == 2


class Proxy:
    """As wrapt's: it says that it is a function, and that it equals the one it wraps."""

    def __init__(self, wrapped, called):
        self.wrapped, self.called = wrapped, called

    def __get__(self, instance, owner):
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args, **kwargs):
        self.called.append(self.wrapped.__name__)
        return self.wrapped(*args, **kwargs)

    def __eq__(self, other):
        return self.wrapped == other

    __hash__ = None

    @property
    def __class__(self):
        return type(self.wrapped)


REPLACED = [
    (requests.Session, "send"),
    (requests.Session, "request"),
    (requests.Session, "prepare_request"),
    (requests.Session, "get_adapter"),
    (Session, "send"),
    (HTTPAdapter, "send"),
    (HTTPAdapter, "build_response"),
    (HTTPConnectionPool, "urlopen"),
    (http.client.HTTPConnection, "putrequest"),
    (http.client.HTTPConnection, "endheaders"),
    (http.client.HTTPConnection, "getresponse"),
    (http.client.HTTPConnection, "send"),
    (requests.Session, "merge_environment_settings"),
    (urllib3.connection.HTTPConnection, "request"),
]


@pytest.mark.parametrize("wrapper", ["function", "copied function", "proxy"])
@pytest.mark.parametrize(("where", "name"), REPLACED)
def test_a_tool_that_replaced_what_would_be_bypassed_is_asked(session, ways, monkeypatch, where, name, wrapper):
    called = []
    original = getattr(where, name)

    def replacement(*args, **kwargs):
        called.append(name)
        return original(*args, **kwargs)

    if wrapper == "copied function":
        replacement = functools.wraps(original)(replacement)
    elif wrapper == "proxy":
        replacement = Proxy(original, called)
    session.get(HOME)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, replacement)
        session.get(HOME)
        assert called
    session.get(HOME)
    assert ways == ["short", "long", "short"]


def test_a_tool_that_exchanged_the_connection_class_gets_its_class_used(session, ways, monkeypatch):
    class Theirs(urllib3.connection.HTTPConnection):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(HTTPConnectionPool, "ConnectionCls", Theirs)
        pool = session.adapters["http://"].poolmanager.connection_from_url("http://other.test/")
        assert type(pool._new_conn()) is Theirs
        session.get(HOME)
    assert isinstance(pool._new_conn(), Watched)
    session.get(HOME)
    assert ways == ["long", "short"]


def test_whoever_reads_urllib3s_log_gets_it(session, ways, caplog):
    with caplog.at_level(logging.DEBUG, "urllib3.connectionpool"):
        session.get(HOME)
    assert ways == ["long"]
    assert "GET /" in caplog.text


def test_a_setting_that_changes_is_noticed(session, ways, network):
    session.get(HOME)
    session.headers["X-New"] = "1"
    session.get(HOME)
    session.headers = {"User-Agent": "bot", "Accept-Encoding": "identity"}
    session.get(HOME)
    assert ways == ["short", "short", "short"]
    assert b"X-New: 1\r\n" in network.sent[0][2]
    assert (
        network.sent[0][3]
        == b"GET / HTTP/1.1\r\nHost: venue.test\r\nUser-Agent: bot\r\nAccept-Encoding: identity\r\n\r\n"
    )


def test_many_urls_do_not_fill_the_memory(session, ways):
    for i in range(2000):
        session._lane.target(session, f"{HOME}{i}")
    assert len(session._lane.targets) <= 512


# -- the response -------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(network, clock):
    """The same answer by the short way, and by requests."""
    answer = reply(
        b'{"id": 123456789012345678901234567890}',
        "201 Made it",
        [
            ("Content-Type", "application/json; charset=utf-8"),
            ("X-Two", "a"),
            ("x-two", "b"),
            ("Link", "<http://n/>; rel=next"),
        ],
    )
    network.scripts += [[reply(), answer], [answer]]
    with Session(clock=clock) as session, requests.Session() as theirs:
        session.get(HOME)
        yield session.post(HOME, json={"a": 1}), theirs.post(HOME, json={"a": 1})


@pytest.mark.parametrize(
    "name",
    [
        "status_code",
        "reason",
        "url",
        "encoding",
        "ok",
        "headers",
        "content",
        "text",
        "history",
        "links",
        "next",
        "is_redirect",
    ],
)
def test_each_attribute_is_as_in_requests(pair, name):
    ours, theirs = pair
    assert getattr(ours, name) == getattr(theirs, name)
    setattr_works = name not in ("ok", "content", "text", "links", "next", "is_redirect")
    if setattr_works:
        setattr(ours, name, "mine")
        assert getattr(ours, name) == "mine"


def test_what_was_sent_is_as_in_requests(pair):
    ours, theirs = (response.request for response in pair)
    assert list(ours.headers.items()) == list(theirs.headers.items())
    for name in ("method", "url", "body", "hooks", "path_url", "_body_position"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_the_raw_response_is_as_in_requests(pair):
    ours, theirs = (response.raw for response in pair)
    for name in ("status", "reason", "version", "length_remaining", "closed", "data"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert list(ours.headers.items()) == list(theirs.headers.items())
    assert ours.tell() == theirs.tell()
    assert ours.read() == theirs.read() == b""
    assert ours._original_response.msg.items() == theirs._original_response.msg.items()


def test_a_response_is_a_response(pair):
    ours, theirs = pair
    assert isinstance(ours, requests.Response)
    assert repr(ours) == repr(theirs)
    assert isinstance(ours.elapsed, dt.timedelta)
    assert isinstance(ours.cookies, RequestsCookieJar)
    assert isinstance(ours.connection, HTTPAdapter)
    assert list(ours.iter_content(5)) == list(theirs.iter_content(5))
    assert list(ours.iter_lines()) == list(theirs.iter_lines())
    for twin in (pickle.loads(pickle.dumps(ours)), copy.copy(ours)):
        assert (twin.status_code, twin.content, twin.headers) == (201, ours.content, theirs.headers)
    with ours:
        pass
    with pytest.raises(AttributeError, match="no_such_thing"):
        ours.no_such_thing


def test_a_failed_status_is_requests_error(session, network, ways):
    network.sockets[0].script[0] = reply(b"no", "404 Not Found")
    response = session.get(HOME)
    with pytest.raises(requests.HTTPError, match="404 Client Error: Not Found"):
        response.raise_for_status()
    assert not response
    assert ways == ["short"]


def test_long_integers_are_exact(pair):
    assert pair[0].json() == {"id": 123456789012345678901234567890}


def test_what_is_no_json_is_requests_error(session, network):
    network.sockets[0].script[0] = reply(b"<html>", headers=[("Content-Type", "application/json")])
    with pytest.raises(requests.exceptions.JSONDecodeError):
        session.get(HOME).json()


def test_a_cookie_is_kept_and_sent(session, network, ways):
    network.sockets[0].script[0] = reply(headers=[("Set-Cookie", "sid=7; Path=/")])
    response = session.get(HOME)
    assert response.cookies["sid"] == session.cookies["sid"] == "7"
    session.get(HOME)
    assert ways == ["short", "long"]
    assert b"Cookie: sid=7\r\n" in network.sent[0][2]


@pytest.mark.parametrize("follow", [True, False])
def test_a_redirect_is_followed_by_requests_code(session, network, ways, follow):
    network.sockets[0].script[0] = reply(status="302 Found", headers=[("Location", "/there")])
    response = session.post(HOME, data=b"x", allow_redirects=follow)
    assert ways == ["short"]
    if follow:
        assert [hop.status_code for hop in response.history] == [302]
        assert response.url == f"{HOME}there"
        assert response.request.method == "GET"
    else:
        assert response.status_code == 302
        assert response.next.url == f"{HOME}there"
        assert len(network.sent[0]) == 2


def test_a_redirect_to_another_host_takes_no_credentials_along(session, network):
    network.sockets[0].script[0] = reply(status="302 Found", headers=[("Location", "http://evil.test/")])
    session.get(HOME, headers={"Authorization": "Token t"})
    assert b"Authorization: Token t" in network.sent[0][1]
    assert b"Authorization" not in network.sent[1][0]
    assert network.asked[1][0] == ("evil.test", 80)


def test_an_informal_answer_does_not_become_the_answer_of_the_next_call(session, network):
    network.sockets[0].script[0] = b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply(b"late")
    session.get(HOME)
    assert session.get(HOME).content == b"{}"
