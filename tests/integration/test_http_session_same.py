"""The same calls as with requests.Session put the same on the wire and return the same."""

import io
from http.cookiejar import DefaultCookiePolicy

import pytest
import requests
import urllib3
from requests.auth import HTTPBasicAuth, HTTPDigestAuth

from hireliab.exchange.http_session import Session
from tests.support.http_servers import serve
from tests.support.side_by_side import PAGES, attempt, call, get, kept, on_the_wire, post, seen, site

pytestmark = pytest.mark.usefixtures("plain_environment", "one_boundary")


class Token(requests.auth.AuthBase):
    def __call__(self, request):
        request.headers["X-Token"] = f"{request.method} {request.path_url} {len(request.body or b'')}"
        return request


def prepared(session, url):
    request = requests.Request("POST", f"{url}/json", data=b"raw", headers={"X": "1"}, cookies={"c": "1"})
    return session.send(session.prepare_request(request))


def bare(session, url):
    return session.send(requests.Request("GET", f"{url}/json").prepare())


def streamed(session, url):
    with session.get(f"{url}/chunked", stream=True) as response:
        chunks = list(response.iter_content(3))
        return b"".join(chunks), response.status_code, response.raw.read()


def raw(session, url):
    with session.get(f"{url}/gzip", stream=True) as response:
        return response.raw.read(decode_content=True)


def hooked(session, url):
    heard = []
    response = session.get(
        f"{url}/redirect", hooks={"response": lambda r, **kw: heard.append((r.status_code, sorted(kw)))}
    )
    return heard, seen(response)


def replaced(session, url):
    def replace(response, **_):
        response.headers["X-Hook"] = "yes"
        return response

    return session.get(f"{url}/json", hooks={"response": [replace]})


def step_by_step(session, url):
    response = session.get(f"{url}/twice", allow_redirects=False)
    return [seen(r) for r in session.resolve_redirects(response, response.request)]


def with_cookies_of_its_own(session, url):
    session.cookies.set("mine", "1")
    session.cookies.set("path", "2", path="/deep")
    return [seen(session.get(url + path, cookies={"once": "3"})) for path in ("/json", "/deep/er", "/json")]


def with_settings(**settings):
    def call(session, url):
        for name, value in settings.items():
            if isinstance(value, dict):
                getattr(session, name).update(value)
            else:
                setattr(session, name, value)
        return [seen(session.get(f"{url}/json", params={"q": 1})), seen(session.post(f"{url}/json", json={"a": 1}))]

    return call


def with_policy(session, url):
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return [seen(session.get(f"{url}/cookie")), seen(session.get(f"{url}/json"))]


# A function makes each value anew where a call uses it up.
CALLS = {
    **{f"get {path}": get(path) for path in PAGES},
    **{f"get {path}": get(path) for path in ("/chunked", "/until-close", "/http-1.0", "/continue")},
    **{f"{method} /json": call(method, "/json") for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "Post", "BREW")},
    "head": lambda s, url: s.head(f"{url}/json"),
    "head, redirected": lambda s, url: s.head(f"{url}/redirect", allow_redirects=True),
    "options": lambda s, url: s.options(f"{url}/json"),
    "put": lambda s, url: s.put(f"{url}/json", b"x"),
    "patch": lambda s, url: s.patch(f"{url}/json", "x"),
    "delete with a body": call("DELETE", "/json", json={"id": 1}),
    "get with a body": get("/json", data="body"),
    "no path": get(""),
    "query without path": get("?a=1"),
    "path and query": get("/a/../b//c/%7e/%E9/é?x=ü y&z#frag"),
    "odd characters": get("/a b|c\"<>`{}^\\[]'"),
    "percent": get("/100%/%zz"),
    "userinfo": lambda s, url: s.get(url.replace("//", "//us%20er:p%40ss@") + "/json"),
    "upper case": lambda s, url: s.get(url.replace("http", "HTTP") + "/json"),
    "spaces around": lambda s, url: s.get(f"  {url}/json"),
    "bytes": lambda s, url: s.get(f"{url}/json".encode()),
    "params": get("/json?a=0", params={"b": 1, "c": [2, 3], "d": None, "é": "ü &=", "e": True, "f": b"x"}),
    "params, pairs": get("/json", params=[("b", 1), ("a", 2), ("b", 3)]),
    "params, text": get("/json", params="x=1&y=ü"),
    "params, bytes": get("/json", params=b"x=1"),
    "params, empty": get("/json?", params={}),
    "headers": get("/json", headers={"X-A": "1", "user-agent": "mine", "Accept": None, "X-Latin": "é", "X-Bytes": b"b"}),
    "headers, none left": get("/json", headers={"User-Agent": None, "Accept-Encoding": None, "Connection": None, "Accept": None}),
    "header Host": get("/json", headers={"Host": "other.example"}),
    "json": post("/json", json={"a": [1, 2.5, None, True, "é\u2028"], "b": 2**70}),
    "json, empty": post("/json", json={}),
    "json, list": post("/json", json=[]),
    "json, text": post("/json", json="x"),
    "json, 0": post("/json", json=0),
    "json and data": post("/json", json={"a": 1}, data={"b": 2}),
    "json and its type": post("/json", json={"a": 1}, headers={"content-type": "application/vnd.x+json"}),
    "form": post("/json", data={"a": "1", "b": ["2", "é"], "c": None}),
    "form, pairs": post("/json", data=[("a", 1), ("a", 2)]),
    "data, text": post("/json", data="é"),
    "data, bytes": post("/json", data=b"\x00\xff"),
    "data, bytearray": post("/json", data=bytearray(b"abc")),
    "data, empty": post("/json", data=b""),
    "data, file": lambda s, url: s.post(f"{url}/json", data=io.BytesIO(b"file")),
    "data, half a file": lambda s, url: s.post(f"{url}/json", data=_half_read()),
    "data, iterator": lambda s, url: s.post(f"{url}/json", data=iter([b"a", b"bc"])),
    "big": post("/json", data=b"x" * 300_000),
    "files": post("/json", files={"f": ("name.txt", b"text", "text/plain")}, data={"a": "1"}),
    "cookies": get("/json", cookies={"a": "1", "b": "x y"}),
    "cookies of the session": with_cookies_of_its_own,
    "cookies, kept": lambda s, url: [seen(s.get(url + p)) for p in ("/cookie", "/json", "/other/x", "/uncookie", "/json")],
    "cookies on a redirect": lambda s, url: [seen(s.post(f"{url}/keep", json={"a": 1})), seen(s.get(f"{url}/json"))],
    "cookie policy": with_policy,
    "basic auth": get("/json", auth=("us:er", "pässword")),
    "basic auth object": get("/json", auth=HTTPBasicAuth("a", "b")),
    "digest": lambda s, url: s.get(f"{url}/digest", auth=HTTPDigestAuth("a", "b")).status_code,
    "auth object": post("/json", json={"a": 1}, auth=Token()),
    "auth function": get("/json", auth=lambda r: r),
    "auth of the session": with_settings(auth=("a", "b")),
    "headers of the session": with_settings(headers={"X-Key": "k", "Accept": "x/y"}),
    "params of the session": with_settings(params={"key": "k"}),
    "stream of the session": with_settings(stream=True),
    "header taken away": lambda s, url: [s.headers.update({"X": "1"}), seen(s.get(f"{url}/json", headers={"X": None})), seen(s.get(f"{url}/json"))][1:],
    **{f"{method} {path}": call(method, path, data=b"x") for method in ("POST", "PUT", "DELETE")
       for path in ("/redirect", "/twice", "/see-other", "/keep", "/keep-for-ever")},
    "no redirects": get("/twice", allow_redirects=False),
    "redirects step by step": step_by_step,
    "at most one redirect": lambda s, url: [setattr(s, "max_redirects", 1), attempt(lambda: s.get(f"{url}/twice"))][1],
    "prepared": prepared,
    "prepared by hand": bare,
    "streamed": streamed,
    "raw": raw,
    "hook": hooked,
    "hook that replaces": replaced,
    "hook of the session": lambda s, url: [s.hooks["response"].append(lambda r, **_: r.headers.update(h="1")), seen(s.get(f"{url}/json"))][1],
    "timeout": get("/json", timeout=3),
    "timeouts": get("/json", timeout=(3, 4)),
    "urllib3's timeout": get("/json", timeout=urllib3.Timeout(3)),
    "no timeout": get("/json", timeout=None),
    "raise for status": lambda s, url: attempt(s.get(f"{url}/404").raise_for_status),
    "closed and used again": lambda s, url: [seen(s.get(f"{url}/json")), s.close(), seen(s.get(f"{url}/json"))],
    "proxies, none": get("/json", proxies={"http": None, "https": None}),
    "proxies, other scheme": get("/json", proxies={"ftp": "http://127.0.0.1:1"}),
}  # fmt: skip


def _half_read():
    file = io.BytesIO(b"0123456789")
    file.read(4)
    return file


@pytest.fixture
def server():
    with serve(site) as server:
        yield server


def told(session, call, server):
    """What two calls one after the other return, put on the wire, and leave behind."""
    first = server.connections
    with session:
        results = [seen(call(session, server.url)) for _ in range(2)]
        wire = [(number - first, *rest) for number, *rest in on_the_wire(server)]
        return results, wire, kept(session)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_the_same_as_with_requests(server, name):
    theirs = told(requests.Session(), CALLS[name], server)
    ours = told(Session(), CALLS[name], server)
    assert ours[1] == theirs[1]
    assert ours[0] == theirs[0]
    assert ours[2] == theirs[2]


def test_the_header_parsers_defects_are_kept(server):
    """Tools look at `raw._original_response.msg`."""
    with requests.Session() as theirs, Session() as ours:
        for path in ("/double", "/folded", "/cookie"):
            a, b = theirs.get(server.url + path), ours.get(server.url + path)
            assert a.raw._original_response.msg.items() == b.raw._original_response.msg.items()
            assert a.raw.headers.getlist("x-twice") == b.raw.headers.getlist("x-twice")
            assert type(a.raw) is type(b.raw) or isinstance(b.raw, type(a.raw))
