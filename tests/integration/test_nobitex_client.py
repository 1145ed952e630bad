"""NobitexClient over real loopback sockets that misbehave on purpose, and against the simulator."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable

import pytest

from hireliab.errors import (
    ConfigError,
    ConnectError,
    MalformedResponseError,
    OrderNotFoundError,
    OutcomeUnknownError,
    ResponseLostError,
    ResponseTimeoutError,
    ThrottledError,
)
from hireliab.exchange._nobitex_signing import credentials
from hireliab.exchange.nobitex_client import NobitexClient

TOKEN = "a" * 40
ORDER = {
    "id": 5_000_000_000,
    "type": "buy",
    "execution": "Limit",
    "market": "BTC-USDT",
    "price": "50000",
    "amount": "0.001",
    "matchedAmount": 0,
    "status": "Active",
    "fee": 0,
    "created_at": "2026-01-02T03:04:05.678901+00:00",
    "clientOrderId": "a1",
}


def http(body: bytes | dict, *, status: str = "200 OK", headers: str = "", kind: str = "application/json") -> bytes:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data


OK_ORDER = http({"status": "ok", "order": ORDER})
OK_WALLETS = http({"status": "ok", "wallets": {"RLS": {"id": 1, "balance": "0E-10", "blocked": "0"}}})


class Wire:
    """A TCP server: the n-th connection is handled by the n-th script, which gets a Peer."""

    def __init__(self, *scripts: Callable[[Peer], None]) -> None:
        self.scripts = scripts
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        for script in self.scripts:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(conn, script))
            self.threads.append(thread)
            thread.start()

    def _serve(self, conn: socket.socket, script: Callable[[Peer], None]) -> None:
        with conn:
            try:
                script(Peer(self, conn))
            except OSError:
                pass  # the client went away, as several tests want

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()


class Peer:
    def __init__(self, wire: Wire, conn: socket.socket) -> None:
        self.wire, self.conn = wire, conn
        conn.settimeout(5)

    def read(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self.conn.recv(65536)
            if not chunk:
                raise ConnectionError
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), 0
        )
        while len(body) < length:
            chunk = self.conn.recv(65536)
            if not chunk:
                raise ConnectionError
            body += chunk
        self.wire.requests.append(head + b"\r\n\r\n" + body)
        return body

    def write(self, data: bytes) -> None:
        self.conn.sendall(data)

    def reset(self) -> None:
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.conn.close()

    def drip(self, data: bytes) -> None:
        for byte in data:
            if self.wire.over.wait(0.05):
                return
            self.conn.sendall(bytes([byte]))


def answering(*answers: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        for answer in answers:
            peer.read()
            peer.write(answer)
        peer.wire.over.wait(5)

    return script


def client_for(wire: Wire, **settings) -> NobitexClient:
    settings = {"token": TOKEN, "total_timeout": 3.0} | settings
    return NobitexClient(base_url=wire.url, **settings)


def place(client: NobitexClient):
    return client.place_limit(symbol="BTC/USDT", side="buy", amount="0.001", price=50000, client_order_id="a1")


def test_the_bytes_of_an_order_are_plain_digits_and_its_answer_is_typed():
    with Wire(answering(OK_ORDER)) as wire:
        order = place(client_for(wire))
    head, _, body = wire.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /market/orders/add HTTP/1.1\r\n")
    assert b"Authorization: Token " + TOKEN.encode() in head
    assert b"User-Agent: TraderBot/" in head
    assert body == (
        b'{"type":"buy","srcCurrency":"btc","dstCurrency":"usdt","amount":"0.001","clientOrderId":"a1",'
        b'"execution":"limit","price":"50000"}'
    )
    assert (order.order_id, order.symbol, order.type, order.filled) == ("5000000000", "BTC/USDT", "limit", 0)


def test_what_is_signed_is_what_is_on_the_wire():
    import base64

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key, secret = "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA=", "S5y19KewZzheCWCO4xqMcwwvtR8vQ-hHjE_cdjz-XxE="
    listing = http({"status": "ok", "orders": []})
    with Wire(answering(listing, OK_ORDER)) as wire:
        client = NobitexClient(base_url=wire.url, api_key=key, api_secret=secret)
        client.list_since(7)
        place(client)
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key))
    for request in wire.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *rest = head.split(b"\r\n")
        method, path, _ = first.split(b" ")
        headers = dict(line.split(b": ", 1) for line in rest)
        assert b"Authorization" not in headers
        assert headers[b"Nobitex-Key"] == key.encode()
        public.verify(
            base64.urlsafe_b64decode(headers[b"Nobitex-Signature"]),
            headers[b"Nobitex-Timestamp"] + method + path + body,
        )
    assert b"fromId=7" in wire.requests[0] and b"order=id" in wire.requests[0]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("where", ["headers", "body"])
def test_an_answer_that_drips_ends_at_the_total_limit(where, kept):
    def script(peer: Peer) -> None:
        if kept:
            peer.read()
            peer.write(OK_WALLETS)
        peer.read()
        if where == "headers":
            peer.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000)
        else:
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            peer.drip(b" " * 10_000)

    with Wire(script) as wire:
        client = client_for(wire, total_timeout=0.4, read_timeout=5.0)
        if kept:
            client.get_balances()
        with pytest.raises(ResponseTimeoutError):
            place(client)


def test_endless_informational_answers_end_at_the_total_limit():
    def script(peer: Peer) -> None:
        peer.read()
        while not peer.wire.over.wait(0.02):
            peer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    with Wire(script) as wire, pytest.raises(ResponseTimeoutError):
        place(client_for(wire, total_timeout=0.4, read_timeout=5.0))


def test_silence_after_the_request_is_a_response_timeout_and_the_order_is_sent_once():
    def script(peer: Peer) -> None:
        peer.read()
        peer.wire.over.wait(5)

    with Wire(script, script) as wire:
        with pytest.raises(ResponseTimeoutError):
            place(client_for(wire, read_timeout=0.3))
        assert len(wire.requests) == 1


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("after", ["request", "part of the head", "part of the body"])
def test_a_connection_that_breaks_after_the_first_byte_is_unknown_and_never_repeated(after, kept):
    def script(peer: Peer) -> None:
        if kept:
            peer.read()
            peer.write(OK_WALLETS)
        peer.read()
        if after == "part of the head":
            peer.write(b"HTTP/1.1 200 OK\r\nContent-")
        elif after == "part of the body":
            peer.write(OK_ORDER[:-5])
            peer.conn.shutdown(socket.SHUT_RDWR)
            return
        peer.reset()

    with Wire(script, answering(OK_ORDER)) as wire:
        client = client_for(wire)
        if kept:
            client.get_balances()
        with pytest.raises(OutcomeUnknownError):
            place(client)
        assert len(wire.requests) == 1 + kept


def test_a_reset_before_the_request_is_read_is_still_unknown():
    def script(peer: Peer) -> None:
        peer.conn.recv(1, socket.MSG_PEEK)  # some of it has arrived; a reset before that may end the connecting itself
        peer.reset()

    with Wire(script, answering(OK_ORDER)) as wire:
        with pytest.raises(ResponseLostError):
            place(client_for(wire))
        assert wire.requests == []


def test_a_refused_connection_is_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectError) as caught:
        place(NobitexClient(base_url=f"http://127.0.0.1:{port}", token=TOKEN))
    assert TOKEN not in str(caught.value)


def test_a_name_that_does_not_resolve_is_not_sent():
    with pytest.raises(ConnectError):
        place(NobitexClient(base_url="http://nobody.invalid", token=TOKEN))


def test_a_tls_handshake_that_fails_is_not_sent():
    def script(peer: Peer) -> None:
        peer.conn.recv(10)
        peer.write(b"this is no TLS\r\n\r\n")

    with Wire(script) as wire, pytest.raises(ConnectError):
        place(NobitexClient(base_url=wire.url.replace("http:", "https:"), token=TOKEN))


def test_a_tls_handshake_that_hangs_ends_at_the_total_limit_and_is_not_sent():
    with Wire(lambda peer: peer.wire.over.wait(5)) as wire, pytest.raises(ConnectError):
        place(NobitexClient(base_url=wire.url.replace("http:", "https:"), token=TOKEN, total_timeout=0.3))


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<html>bad gateway</html>", status="502 Bad Gateway", kind="text/html"),
        http({"status": "failed", "code": "SmallOrder"}, status="500 Internal Server Error"),
        http(b"", status="200 OK"),
        http(b'{"status": "ok", "order": {"id": 5'),
        http(b"[]"),
        http(b'{"status": "ok"}'),
        http(b'{"status": "ok", "order": {"id": null}}'),
        http({"status": "failed", "code": "SomethingNew"}),
        http({"status": "failed"}),
        http(b"<html>not found</html>", status="404 Not Found"),
        http({"status": "ok", "order": ORDER}, status="302 Found", headers="Location: /elsewhere\r\n"),
        http({"status": "ok", "order": ORDER}, status="307 Temporary Redirect", headers="Location: http://[bad\r\n"),
        http(b'{"status":"ok","order":{"id":NaN}}'),
        http(b"[" * 100_000),
        http(b"not gzip at all", headers="Content-Encoding: gzip\r\n"),
    ],
    ids=lambda answer: answer[:60].decode("ascii", "replace"),
)
@pytest.mark.parametrize("kept", [False, True])
def test_an_answer_without_a_documented_meaning_is_unknown(answer, kept):
    with Wire(answering(*[OK_WALLETS] * kept, answer), answering(OK_ORDER)) as wire:
        client = client_for(wire)
        if kept:
            client.get_balances()
        with pytest.raises(MalformedResponseError):
            place(client)
        assert len(wire.requests) == 1 + kept


def test_a_body_longer_than_the_limit_is_not_read_to_its_end():
    bomb = gzip.compress(b'{"status": "ok", "wallets": {}' + b" " * 3_000_000 + b"}")
    with Wire(answering(OK_WALLETS, http(bomb, headers="Content-Encoding: gzip\r\n"))) as wire:
        client = client_for(wire, max_response_bytes=1_000_000)
        client.get_balances()
        with pytest.raises(
            MalformedResponseError, match=r"nobitex /v2/wallets: the answer is longer than 1000000 bytes"
        ):
            client.get_balances()


def test_a_read_on_a_kept_connection_that_died_is_sent_again_once_on_a_new_one():
    def dies(peer: Peer) -> None:
        peer.read()
        peer.write(OK_WALLETS)
        peer.read()
        peer.reset()

    with Wire(dies, answering(OK_WALLETS)) as wire:
        client = client_for(wire)
        client.get_balances()
        assert client.get_balances()["IRT"].total == 0
        assert len(wire.requests) == 3


def test_a_read_is_not_sent_a_third_time_nor_again_on_a_new_connection():
    def dies(peer: Peer) -> None:
        peer.read()
        peer.reset()

    with Wire(dies, dies, dies) as wire:
        with pytest.raises(ResponseLostError):
            client_for(wire).get_balances()
        assert len(wire.requests) == 1


def test_the_status_look_up_is_a_post_but_is_repeated_like_a_read():
    def dies(peer: Peer) -> None:
        peer.read()
        peer.write(OK_WALLETS)
        peer.read()
        peer.reset()

    with Wire(dies, answering(OK_ORDER)) as wire:
        client = client_for(wire)
        client.get_balances()
        assert client.get_order(order_id=5_000_000_000).order_id == "5000000000"


@pytest.mark.parametrize("send", [place, lambda client: client.cancel(order_id=1)], ids=["place", "cancel"])
def test_what_changes_something_is_never_sent_again_by_the_transport(send):
    def dies(peer: Peer) -> None:
        peer.read()
        peer.write(OK_WALLETS)
        peer.read()
        peer.reset()

    with Wire(dies, answering(OK_ORDER)) as wire:
        client = client_for(wire)
        client.get_balances()
        with pytest.raises(ResponseLostError):
            send(client)
        assert len(wire.requests) == 2
        assert wire.connections == 1


class SteppedClock:
    """The real clock plus an offset: the sockets need real time."""

    def __init__(self) -> None:
        from hireliab.core.clock import SYSTEM_CLOCK

        self.real, self.offset = SYSTEM_CLOCK, 0.0

    def monotonic(self) -> float:
        return self.real.monotonic() + self.offset

    def time(self) -> float:
        return self.real.time() + self.offset


@pytest.mark.parametrize(("idle", "connections"), [(4.0, 1), (6.0, 2)])
def test_an_order_uses_a_new_connection_or_one_that_answered_within_five_seconds(idle, connections):
    clock = SteppedClock()
    with Wire(answering(OK_WALLETS, OK_ORDER), answering(OK_ORDER)) as wire:
        client = client_for(wire, clock=clock)
        client.get_balances()
        clock.offset += idle
        place(client)
        assert wire.connections == connections


def test_reads_keep_a_connection_for_longer():
    clock = SteppedClock()
    with Wire(answering(OK_WALLETS, OK_WALLETS)) as wire:
        client = client_for(wire, clock=clock)
        client.get_balances()
        clock.offset += 20.0
        client.get_balances()
        assert wire.connections == 1


@pytest.mark.parametrize(
    ("looks", "error", "sent"),
    [(1, ConnectError, 0), (2, ConnectError, 0), (3, ResponseTimeoutError, 1)],
    ids=["before the connection", "before the first byte", "before the answer"],
)
def test_when_the_total_limit_is_over_nothing_more_is_written_or_read(looks, error, sent):
    class Running(SteppedClock):
        calls = 0

        def monotonic(self) -> float:
            # Looks: at the start, when it connects, before the write, before the read.
            self.calls += 1
            return 0.0 if self.calls <= looks else 100.0

    read = threading.Event()

    def script(peer: Peer) -> None:
        peer.read()
        read.set()

    with Wire(script) as wire:
        with pytest.raises(error):
            place(client_for(wire, clock=Running()))
        assert not sent or read.wait(5)
    assert len(wire.requests) == sent


def test_a_throttled_call_says_how_long_the_venue_asks_to_wait():
    body = {"status": "failed", "code": "TooManyRequests", "backOff": 12, "limit": 60}
    answer = http(body, status="429 Too Many Requests", headers="Retry-After: 7\r\n")
    with Wire(answering(answer)) as wire, pytest.raises(ThrottledError) as caught:
        place(client_for(wire))
    assert caught.value.retry_after == 12


def test_only_nobitex_own_not_found_says_that_an_order_is_absent():
    own = http({"error": "NotFound", "message": "No Order matches the given query."}, status="404 Not Found")
    page = http(b"<html></html>", status="404 Not Found")
    path = http({"detail": "Not found."}, status="404 Not Found")
    with Wire(answering(own, page, path)) as wire:
        client = client_for(wire)
        with pytest.raises(OrderNotFoundError):
            client.get_order(client_order_id="a1")
        for _ in range(2):
            with pytest.raises(MalformedResponseError):
                client.get_order(client_order_id="a1")


def test_the_date_of_an_answer_gives_the_skew():
    from email.utils import formatdate

    from hireliab.core.clock import SYSTEM_CLOCK

    dated = http(
        {"status": "ok", "wallets": {}}, headers=f"Date: {formatdate(SYSTEM_CLOCK.time() + 100, usegmt=True)}\r\n"
    )
    old = formatdate(0, usegmt=True)
    book = http({"status": "ok", "asks": [], "bids": []}, headers=f"Date: {old}\r\n")
    with Wire(answering(dated, book)) as wire:
        client = client_for(wire)
        assert client.skew is None
        client.get_balances()
        assert client.skew == pytest.approx(100, abs=2)
        client.get_orderbook("BTC/USDT")  # may come from a cache
        assert client.skew == pytest.approx(100, abs=2)


def test_credentials_and_base_url_of_one_call_change_nothing_of_the_client():
    with Wire(answering(OK_WALLETS)) as own, Wire(answering(OK_WALLETS)) as other:
        client = client_for(own)
        client.get_balances(credentials=credentials(token="b" * 40), base_url=other.url + "/")
        client.get_balances()
        assert b"Token " + b"b" * 40 in other.requests[0]
        assert b"Token " + TOKEN.encode() in own.requests[0]


def test_cookies_of_the_venue_are_not_sent_back():
    cookie = http({"status": "ok", "wallets": {}}, headers="Set-Cookie: a=b; Path=/\r\n")
    with Wire(answering(cookie, OK_WALLETS)) as wire:
        client = client_for(wire)
        client.get_balances()
        client.get_balances()
    assert b"ookie" not in wire.requests[1]


def test_the_environment_is_read_once(monkeypatch):
    with Wire(answering(OK_WALLETS, OK_WALLETS)) as wire:
        client = client_for(wire)
        client.get_balances()
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        client.get_balances()
        assert len(wire.requests) == 2


def test_a_mistake_in_the_environment_is_not_sent_or_told_at_once(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://[bad")
    with Wire() as wire, pytest.raises(ConnectError):
        place(client_for(wire))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(ConfigError, match="REQUESTS_CA_BUNDLE"):
        NobitexClient()


def test_a_proxy_that_refuses_the_tunnel_got_no_byte_of_the_request(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Wire(answering(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")) as wire:
        monkeypatch.setenv("https_proxy", wire.url)
        with pytest.raises(ConnectError):
            place(NobitexClient(base_url="https://venue.invalid", token=TOKEN))
        assert len(wire.requests) == 1 and wire.requests[0].startswith(b"CONNECT venue.invalid:443 ")
        assert TOKEN.encode() not in wire.requests[0]


@pytest.mark.parametrize("kept", [False, True])
def test_an_interrupt_in_the_middle_of_an_answer_leaves_no_half_read_connection(kept):
    class Interrupting(SteppedClock):
        armed = False

        def monotonic(self) -> float:
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            return super().monotonic()

    clock = Interrupting()

    def script(peer: Peer) -> None:
        if kept:
            peer.read()
            peer.write(OK_WALLETS)
        peer.read()
        clock.armed = True
        peer.write(OK_WALLETS[:-10])
        peer.wire.over.wait(0.2)
        peer.write(OK_WALLETS[-10:])
        peer.wire.over.wait(5)

    with Wire(script, answering(OK_WALLETS)) as wire:
        client = client_for(wire, clock=clock)
        if kept:
            client.get_balances()
        with pytest.raises(KeyboardInterrupt):
            client.get_balances()
        assert client.get_balances()["IRT"].total == 0
        assert wire.connections == 2


def test_a_cancel_of_a_closed_order_is_an_answer_and_not_an_error():
    closed = http({"status": "failed", "updatedStatus": "Done"})
    done = http({"status": "ok", "updatedStatus": "Canceled", "order": ORDER | {"status": "Canceled"}})
    with Wire(answering(closed, done)) as wire:
        client = client_for(wire)
        first = client.cancel(order_id=5_000_000_000)
        assert (first.status.value, first.order, first.already_closed) == ("Done", None, True)
        second = client.cancel(order_id=5_000_000_000)
        assert second.order is not None and second.order.status.value == "Canceled" and not second.already_closed
    assert b'{"order":5000000000,"status":"canceled"}' in wire.requests[0]


def test_candles_of_rial_markets_are_given_in_rial():
    chart = http(b'{"s":"ok","t":[1562095800],"o":[146272500.5],"h":[2],"l":[1],"c":[1.5],"v":[0.1]}')
    with Wire(answering(chart, chart)) as wire:
        client = client_for(wire)
        rial = client.get_ohlc("BTC/IRT", resolution="D", end=1562230967)
        tether = client.get_ohlc("BTC/USDT", resolution="D", end=1562230967)
    assert str(rial[0].open) == "1462725005.0"
    assert str(tether[0].open) == "146272500.5"


@pytest.mark.parametrize("field", ["order", "absent"])
def test_cancel_all_cancels_waiting_stops_one_by_one_and_looks_again(field):
    stop = ORDER | {"id": 9, "status": "Inactive", "execution": "StopLimit", "param1": "1"}
    listing = http({"status": "ok", "orders": [stop] if field == "order" else []})
    answers = [http({"status": "ok"}), listing]
    if field == "order":
        answers.append(http({"status": "ok", "updatedStatus": "Canceled"}))
    answers.append(http({"status": "ok", "orders": []}))
    with Wire(answering(*answers)) as wire:
        assert client_for(wire).cancel_all("BTC/USDT") == ()
    assert len(wire.requests) == len(answers)
