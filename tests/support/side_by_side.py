"""The same call with requests' Session and with ours, and everything in which they may differ."""

import datetime as dt
import gzip
import json
import zlib

import requests

from tests.support.http_servers import head

# path: status, body, headers
PAGES = {
    "/json": ("200 OK", b'{"a": [1, 2.5, null, "\xc3\xa9"]}', [("Content-Type", "application/json")]),
    "/charset": ("200 OK", '{"a": "é"}'.encode("utf-16"), [("Content-Type", "application/json; charset=utf-16")]),
    "/bom": ("200 OK", b"\xef\xbb\xbf{}", []),
    "/no-json": ("200 OK", b"<html>", [("Content-Type", "application/json")]),
    "/not-utf-8": ("200 OK", b'{"a": "\xff"}', [("Content-Type", "application/json")]),
    "/nan": ("200 OK", b"[NaN, 1e400, 123456789012345678901234567890]", [("Content-Type", "application/json")]),
    "/latin": ("200 OK", b"caf\xe9\nline\r\nlast", [("Content-Type", "text/plain")]),
    "/html": ("200 OK", "<p>ü</p>".encode("cp1252"), [("Content-Type", "text/html; charset=windows-1252")]),
    "/unknown-charset": ("200 OK", b"abc", [("Content-Type", "text/plain; charset=klingon")]),
    "/empty": ("200 OK", b"", []),
    "/none": ("204 No Content", b"", []),
    "/gzip": ("200 OK", gzip.compress(b"zipped" * 99), [("Content-Encoding", "gzip")]),
    "/deflate": ("200 OK", zlib.compress(b"deflated" * 99), [("Content-Encoding", "deflate")]),
    "/odd-encoding": ("200 OK", b"as is", [("Content-Encoding", "x-odd")]),
    "/404": ("404 Not Found", b'{"error": 1}', [("Content-Type", "application/json")]),
    "/429": ("429 Too Many Requests", b"", [("Retry-After", "3")]),
    "/500": ("500 Oops, sorry", b"x", []),
    "/304": ("304 Not Modified", b"", [("ETag", '"x"')]),
    "/299": ("299", b"no reason", []),
    "/cookie": (
        "200 OK",
        b"",
        [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/other"), ("Set-Cookie", "c=3; Secure")],
    ),
    "/uncookie": ("200 OK", b"", [("Set-Cookie", "a=; Max-Age=0; Path=/")]),
    "/bad-cookie": ("200 OK", b"", [("Set-Cookie", "=;;;"), ("Set-Cookie", "x=1; domain=.other.example")]),
    "/links": (
        "200 OK",
        b"",
        [("Link", '<https://x.example/?page=2>; rel="next", <https://x.example/?page=9>; rel="last"')],
    ),
    "/double": (
        "200 OK",
        b"",
        [("X-Twice", "1"), ("x-twice", "2"), ("X-Latin", "é"), ("X-Empty", ""), ("X-Space", "  a  ")],
    ),
    "/folded": ("200 OK", b"", [("X-Folded", "one\r\n two"), ("X-After", "1")]),
    "/content-type": ("200 OK", b"x", [("Content-Type", ' Text/HTML ; Charset="UTF-8" ; x=y')]),
    "/chunked-1.0": ("200 OK", b"", [("Connection", "close")]),
    "/redirect": ("302 Found", b"elsewhere", [("Location", "/json")]),
    "/twice": ("301 Moved Permanently", b"", [("Location", "/redirect?again=1#part")]),
    "/see-other": ("303 See Other", b"", [("Location", "json")]),
    "/keep": ("307 Temporary Redirect", b"", [("Location", "/json"), ("Set-Cookie", "hop=1; Path=/")]),
    "/keep-for-ever": ("308 Permanent Redirect", b"", [("Location", "//{host}/json")]),
    "/odd-redirect": ("302 Found", b"", [("Location", "/caf\u00c3\u00a9 /%7e")]),
    "/redirect-nowhere": ("302 Found", b"no location", []),
    "/basic": ("401 Unauthorized", b"", [("WWW-Authenticate", 'Basic realm="x"')]),
}


def site(peer):
    while (request := peer.read()) is not None:
        path = request.target.partition("?")[0]
        if path == "/digest":
            if request.header("Authorization"):
                peer.reply("200 OK", b"in")
            else:
                peer.reply(
                    "401 Unauthorized",
                    b"out",
                    [("WWW-Authenticate", 'Digest realm="x", nonce="n", qop="auth", opaque="o"')],
                )
        elif path == "/chunked":
            peer.send(
                head(headers=[("Transfer-Encoding", "chunked")])
                + b"4\r\nwith\r\n5;ext=1\r\n more\r\n0\r\nX-Trailer: t\r\n\r\n"
            )
        elif path == "/until-close":
            peer.send(head(headers=[("Content-Type", "text/plain")]) + b"until the end")
            return
        elif path == "/http-1.0":
            peer.send(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold")
            return
        elif path == "/continue":
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + head(headers=[("Content-Length", "2")]) + b"ok")
        else:
            status, body, headers = PAGES.get(path, ("200 OK", json.dumps({"path": path}).encode(), [("Server", "x")]))
            headers = [
                (name, value.format(host=request.header("Host")) if name == "Location" else value)
                for name, value in headers
            ]
            if request.method == "HEAD":
                peer.send(head(status, [*headers, ("Content-Length", str(len(body)))]))
            elif status[:3] in ("204", "304"):
                peer.send(head(status, headers))
            else:
                peer.reply(status, body, headers)
            if ("Connection", "close") in headers:
                return


def seen(response):
    """What a caller can see of a response, its history included; None of another type stays what it is."""
    if not isinstance(response, requests.Response):
        return response
    request = response.request
    return {
        "status": (response.status_code, response.reason, response.ok),
        "url": response.url,
        "headers": sorted(response.headers.items()),
        "encoding": (response.encoding, response.apparent_encoding),
        "content": response.content,
        "text": response.text,
        "json": attempt(response.json),
        "lines": list(response.iter_lines()),
        "cookies": sorted((c.name, c.value, c.domain, c.path, c.expires is None) for c in response.cookies),
        "links": response.links,
        "redirect": (response.is_redirect, response.is_permanent_redirect, response.next and response.next.url),
        "history": [seen(earlier) for earlier in response.history],
        "elapsed": isinstance(response.elapsed, dt.timedelta) and dt.timedelta(0) < response.elapsed < dt.timedelta(minutes=1),
        "raw": (response.raw.status, response.raw.version, response.raw.reason, sorted(response.raw.headers.items())),
        "original": hasattr(response.raw, "_original_response") and response.raw._original_response is not None,
        "adapter": isinstance(response.connection, requests.adapters.HTTPAdapter),
        "request": (
            isinstance(request, requests.PreparedRequest), request.method, request.url, request.path_url,
            sorted(request.headers.items()), request.body if isinstance(request.body, str | bytes | None) else type(request.body),
            sorted(request.hooks), sorted((c.name, c.value) for c in request._cookies),
        ),
    }  # fmt: skip


def attempt(func):
    """What `func` returns, or the type of its error."""
    try:
        return func()
    except Exception as error:
        return type(error)


def on_the_wire(server):
    """Each request that arrived since the last time; the order of headers set apart."""
    requests_ = [
        # A digest holds random numbers.
        (
            r.connection,
            r.method,
            r.target,
            sorted((k, "Digest" if v.startswith("Digest ") else v) for k, v in r.headers),
            r.body,
        )
        for r in server.requests
    ]
    server.requests.clear()
    return requests_


def kept(session):
    """What a call may leave behind in the session."""
    cookies = sorted((c.name, c.value, c.domain, c.path) for c in session.cookies)
    return cookies, sorted(session.headers.items()), session.auth, session.params, sorted(session.hooks)


# -- calls of (session, url) ------------------------------------------------------------------------------------------


def get(path, **kwargs):
    return lambda session, url: session.get(url + path, **kwargs)


def post(path, **kwargs):
    return lambda session, url: session.post(url + path, **kwargs)


def call(method, path, **kwargs):
    return lambda session, url: session.request(method, url + path, **kwargs)
