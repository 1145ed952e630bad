"""
Where alerts go in tests: HTTP and SMTP servers on loopback, and Telegram's API as far as alerts use it.

``endpoint()`` starts an HTTP endpoint that Apprise's json://, form:// and, below a base address, tgram:// reach. Its
`mode` may be changed while it runs, and says what becomes of the next request; one mode or a list of them, one for
each request, the last staying. What was accepted is in `accepted`, decoded; everything that came is in
`server.requests`. ``mail_server()`` is the same for mailto://, on aiosmtpd.
"""

import contextlib
import json
import re
import threading
import warnings
from urllib.parse import parse_qs

from tests.support.http_servers import PATIENCE, serve

TOKEN = "123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"
"""A Telegram bot's token in its form; the secret that no log may show."""


# -- modes: what becomes of one request -------------------------------------------------------------------------------


def ok(peer, request):
    peer.server.note(request)
    peer.reply(body={"ok": True, "result": {"message_id": 1}})


def ok_late(peer, request):
    """Accepted, but the answer never comes: the client cannot know."""
    peer.server.note(request)
    peer.wait_until_closed()


def slow(seconds):
    def mode(peer, request):
        peer.server.stopping.wait(seconds)
        ok(peer, request)

    return mode


def hang(peer, request):
    """Takes the request and says nothing, until the client leaves or the server stops."""
    peer.wait_until_closed()


def drip(interval=0.2):
    """One byte of the answer at a time, each soon enough for a read's timeout: only a total deadline ends it."""

    def mode(peer, request):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        peer.drip(b" " * 1_000_000, interval)

    return mode


def drip_head(interval=0.2):
    """The same within the status line and headers."""

    def mode(peer, request):
        peer.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 1\r\n" * 100_000, interval)

    return mode


def reset(peer, request):
    """RST after the request was read."""
    peer.reset()


def reset_on_accept(peer):
    """RST before anything is read; a mode of the connection, not of a request."""
    peer.reset()


reset_on_accept.of_connection = True


def status(line, body=b"", headers=()):
    """Any answer: ``status("500 Internal Server Error")``."""

    def mode(peer, request):
        peer.reply(line, body, headers)

    return mode


def rate_limited(retry_after=None, *, header=True):
    """429; as Telegram says it, with a Retry-After header of this text unless `header` is false."""

    def mode(peer, request):
        body = {"ok": False, "error_code": 429, "description": "Too Many Requests"}
        if isinstance(retry_after, int):
            body["description"] += f": retry after {retry_after}"
            body["parameters"] = {"retry_after": retry_after}
        headers = [("Retry-After", str(retry_after))] if header and retry_after is not None else []
        peer.reply("429 Too Many Requests", body, headers)

    return mode


def _refusal(code, words, description):
    return status(f"{code} {words}", {"ok": False, "error_code": code, "description": description})


too_long = _refusal(400, "Bad Request", "Bad Request: message is too long")
bad_markup = _refusal(400, "Bad Request", "Bad Request: can't parse entities: Unsupported start tag at byte offset 5")
no_chat = _refusal(400, "Bad Request", "Bad Request: chat not found")
unauthorized = _refusal(401, "Unauthorized", "Unauthorized")
forbidden = _refusal(403, "Forbidden", "Forbidden: bot was blocked by the user")
server_error = _refusal(500, "Internal Server Error", "Internal Server Error")


def huge(size=50_000_000):
    """200, with an answer of this many bytes."""

    def mode(peer, request):
        peer.server.note(request)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 100_000):
            peer.send(b" " * 100_000)

    return mode


def telegram(peer, request):
    """
    Telegram's sendMessage: the token, the length of the text, and the markup of parse_mode HTML are checked.

    Its errors are those of the real one, as far as the documents and reports quote them.
    """
    _judge(request)(peer, request)


def _judge(request):
    if not request.target.startswith(f"/bot{TOKEN}/"):
        return unauthorized
    if not request.target.endswith("/sendMessage"):
        return _refusal(404, "Not Found", "Not Found")
    message = decode(request)
    text, markup = message["text"], message.get("parse_mode", "")
    if markup == "HTML":
        for tag in re.findall(r"<(/?[^<>]*)", text):
            name = tag.lstrip("/").split(" ")[0]
            if name not in {"b", "i", "u", "s", "code", "pre", "a", "strong", "em"}:
                return bad_markup
        text = re.sub(r"<[^<>]*>", "", text)
        if re.search(r"&(?!(?:lt|gt|amp|quot|#\d+);)", text):
            return bad_markup
        text = re.sub(r"&[a-z0-9#]+;", "x", text)
    if len(text) > 4096:
        return too_long
    return ok


def decode(request):
    """What a request says, as a mapping."""
    kind = request.header("Content-Type") or ""
    if "json" in kind:
        return json.loads(request.body)
    if "urlencoded" in kind:
        return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    return {"raw": request.body.decode("utf-8", "replace")}


# -- HTTP -------------------------------------------------------------------------------------------------------------


class Endpoint:
    """Made by `endpoint`."""

    def __init__(self, mode):
        self.mode = mode
        self.accepted = []  # requests that got their mode's yes, decoded, in order
        self.taken = 0  # requests that came, whatever became of them
        self.server = None  # of http_servers; set by `endpoint`

    @property
    def url(self):
        return self.server.url

    @property
    def address(self):
        """host:port, as it stands in an Apprise URL."""
        return f"{self.server.host}:{self.server.port}"

    def note(self, request):
        with self.server.changed:
            self.accepted.append(decode(request))
            self.server.changed.notify_all()

    def wait_accepted(self, count):
        self.server.wait_for(lambda _: len(self.accepted) >= count)
        return self.accepted

    def wait_taken(self, count):
        self.server.wait_for(lambda _: self.taken >= count)

    def texts(self):
        """Title and text of each accepted alert, in one text."""
        return [
            f"{one.get('title', '')}\n{one.get('message', one.get('text', one.get('raw', '')))}"
            for one in self.accepted
        ]

    def _next(self):
        if isinstance(self.mode, list):
            return self.mode.pop(0) if len(self.mode) > 1 else self.mode[0]
        return self.mode

    def _script(self, peer):
        if getattr(self.mode, "of_connection", False):
            self._next()(peer)
            return
        while (request := peer.read()) is not None:
            with self.server.changed:
                self.taken += 1
                mode = self._next()
                self.server.changed.notify_all()
            mode(peer, request)
            if peer.number in self.server.closed:
                return


@contextlib.contextmanager
def endpoint(mode=ok, *, tls=None):
    """An HTTP endpoint in this mode."""
    made = Endpoint(mode)
    with serve(made._script, tls=tls) as server:
        server.note = made.note
        made.server = server
        yield made


@contextlib.contextmanager
def telegram_endpoint(monkeypatch, mode=telegram):
    """Telegram's API: Apprise's tgram:// goes here for as long as the test runs. Yields endpoint and Apprise URL."""
    with warnings.catch_warnings():  # of what the plugins load
        warnings.simplefilter("ignore")
        import apprise

        plugin = type(apprise.Apprise.instantiate(f"tgram://{TOKEN}/12345"))
    with endpoint(mode) as made:
        monkeypatch.setattr(plugin, "notify_url", f"{made.url}/bot")
        yield made, f"tgram://{TOKEN}/12345"


# -- SMTP -------------------------------------------------------------------------------------------------------------


class MailServer:
    """Made by `mail_server`. `mode` is "ok" or an SMTP answer such as "550 5.1.1 no such user"."""

    def __init__(self):
        self.mode = "ok"
        self.accepted = []  # email.message.Message
        self._changed = threading.Condition()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.mode != "ok":
            return self.mode
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        import email

        with self._changed:
            self.accepted.append(email.message_from_bytes(envelope.content))
            self._changed.notify_all()
        return "250 OK"

    def wait_accepted(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.accepted) >= count, PATIENCE), "no mail came"
        return self.accepted


@contextlib.contextmanager
def mail_server(*, login=None, made=None):
    """
    An SMTP server; with `login` (a pair) it wants that login. Yields the server, or the one given as `made`, its Apprise
    URL in `url`.
    """
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult, LoginPassword

    def check(_server, _session, _envelope, _mechanism, data):
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login.decode(), data.password.decode()) == login, handled=False)

    class OnAnyPort(Controller):
        def _trigger_server(self):  # it looks whether it is there, at the port that it was given
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    made = made or MailServer()
    more = {"authenticator": check, "auth_required": True, "auth_require_tls": False} if login else {}
    controller = OnAnyPort(made, hostname="127.0.0.1", port=0, **more)
    with warnings.catch_warnings():  # of the server's own doings, in its own thread, where one would end a session
        warnings.simplefilter("ignore")
        controller.start()
        try:
            made.address = f"127.0.0.1:{controller.port}"
            made.url = f"mailto://{made.address}/?from=bot@example.com&to=trader@example.com"
            yield made
        finally:
            controller.stop()
