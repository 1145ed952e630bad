"""Bad input fails as it does with requests, and nothing is sent that requests would not send."""

import io

import pytest
import requests
from urllib3.exceptions import LocationParseError

from hireliab.exchange.http_session import Session
from tests.support.http_servers import serve
from tests.support.side_by_side import call, get, on_the_wire, post, seen, site

pytestmark = pytest.mark.usefixtures("plain_environment", "one_boundary")


def at(url):
    return lambda session, _: session.get(url)


BAD = {
    **{
        f"url {url!r}": at(url)
        for url in (
            "exchange.example/orders", "/orders", "", "   ", "http://", "http:///orders", "https://", "//exchange.example/", "http:/x",
            "http://[::1", "http://[::1]x/", "http://exchange.example:port/", "http://127.0.0.1:99999/", "http://127.0.0.1:-1/",
            "ftp://exchange.example/", "mailto:a@b", "http://*.example.com/", "http://.example.com/", "http://a..b.example/",
            f"http://{'a' * 64}.example/", "http://exa mple.invalid/", "http://\x00/", "http://\ud800.example/", "http://é\u2028.invalid/",
            None, 5, b"\xff", ["http://x"], "http://user:pass@/", "http://#/", "http://?", "file:///etc/passwd", "1", "javascript:1", "http:",
        )
    },
    **{
        f"headers {headers!r}": get("/json", headers=headers)
        for headers in (
            {"X": "a\nb"}, {"X": "a\r\nY: b"}, {"X": "a\r"}, {"X\n": "a"}, {"X:Y": "a"}, {"": "a"}, {"X": 5}, {"X": 2.5}, {"X": ["a"]},
            {"X": " a"}, {"X": "a "}, {"X": "€"}, {"X": b"a\nb"}, {"é": "a"}, {"€": "a"}, {5: "a"}, {None: "a"}, {b"X": "a"}, {"X": ""},
            {"X": "a\x00b"}, {"X ": "a"}, {" X": "a"}, "X: a", 5, ["X"],
        )
    },
    **{
        f"params {params!r}": get("/json", params=params)
        for params in (5, object, {"a": object}, [1, 2], {"a": {"b": 1}}, "\ud800", {"\ud800": 1})
    },
    **{
        f"body {name}": post("/json", **kwargs)
        for name, kwargs in {
            "json set": {"json": {1}}, "json nan": {"json": float("nan")}, "json object": {"json": object()}, "json bytes": {"json": b"x"},
            "json keys": {"json": {(1, 2): 3}}, "data 5": {"data": 5}, "data €": {"data": "€"}, "data object": {"data": object()},
            "files 5": {"files": 5}, "files none": {"files": {"f": None}}, "data list": {"data": [1]},
            "data \ud800": {"data": "\ud800"}, "json \ud800": {"json": "\ud800"},
        }.items()
    },
    **{
        f"timeout {timeout!r}": get("/json", timeout=timeout)
        for timeout in ("5", -1, 0, (1, 2, 3), (1,), (0, 1), (1, -1), True, [1, 2], "x", (None, None), (None, "x"), object, b"")
    },
    **{
        f"method {method!r}": call(method, "/json")
        for method in ("", "GE T", "GET\r\nX: y", "GET ", b"GET", "é", 5, "GET:", "\x00")
    },
    **{
        f"proxies {proxies!r}": get("/json", proxies=proxies)
        for proxies in ({"http": "http://"}, {"http": "http:///x"}, {"http": 5}, {"http": "socks9://x"}, {"all": "http://[::1"}, "http://x", 5)
    },
    **{
        f"auth {auth!r}": get("/json", auth=auth)
        for auth in ("text", ("a",), ("a", "b", "c"), 5, ("€", "x"), (1, 2), ("a\nb", "c"))
    },
    **{
        f"cookies {cookies!r}": get("/json", cookies=cookies)
        for cookies in ("a=b", 5, {"a": "b\nc"}, {"a": 5}, {"a": None}, {"é": "ü"}, {"€": "1"}, ["a"])
    },
    "body text file": lambda s, url: s.post(f"{url}/json", data=io.StringIO("x")),
    "hook of another name": get("/json", hooks={"bogus": print}),
    "hook that is none": get("/json", hooks={"response": 5}),
    "hook that fails": get("/json", hooks={"response": lambda *_, **__: 1 / 0}),
    "auth that fails": get("/json", auth=lambda _: 1 / 0),
    "auth that returns nothing": get("/json", auth=lambda _: None),
    "an unknown argument": get("/json", bogus=1),
    "a prepared request that is none": lambda s, _: s.send(5),
    "a request that is not prepared": lambda s, url: s.send(requests.Request("GET", url)),
    "an unprepared URL": lambda s, _: s.send(requests.PreparedRequest()),
    "a missing CA file": lambda s, url: s.get(url.replace("http:", "https:"), verify="/nowhere"),
    "a missing certificate": lambda s, url: s.get(url.replace("http:", "https:"), cert="/nowhere"),
    "TLS to a plain server": lambda s, url: s.get(url.replace("http:", "https:") + "/json"),
    "a closed port": lambda s, url: s.get("http://127.0.0.1:1/"),
    "an unknown host": lambda s, url: s.get("http://exchange.invalid/"),
}  # fmt: skip


@pytest.fixture
def server():
    with serve(site) as server:
        yield server


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore")
def test_bad_input_is_the_same_error_as_in_requests(server, name):
    def outcome(session):
        with session:
            try:
                session.get(f"{server.url}/json")  # so that the next finds a warm connection, should it get so far
                return seen(BAD[name](session, server.url)), None
            except Exception as error:
                return None, error

    theirs, their_error = outcome(requests.Session())
    their_wire = [r[1:] for r in on_the_wire(server)]
    ours, our_error = outcome(Session())
    assert [r[1:] for r in on_the_wire(server)] == their_wire
    assert ours == theirs
    if their_error is None:
        assert our_error is None
    else:
        expected = type(their_error)
        if expected in (AttributeError, TypeError, ValueError):
            expected = (AttributeError, TypeError, ValueError)  # requests did not mean to raise it
        elif isinstance(their_error, LocationParseError):
            expected = (expected, requests.ConnectionError)  # urllib3's error, which requests lets out
        assert isinstance(our_error, expected), f"{our_error!r} instead of {their_error!r}"
        with Session() as session:
            assert session.get(f"{server.url}/json").status_code == 200
        on_the_wire(server)
