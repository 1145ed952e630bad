"""How the Nobitex client goes over hireliab's Session: signatures, second sendings, TLS, environment, labels."""

from __future__ import annotations

import base64
import os
import threading
import urllib.parse

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.core import _kill_points
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import ConfigError, OutcomeUnknownError, ResponseLostError
from hireliab.exchange import _tls
from hireliab.exchange._nobitex_transport import address
from hireliab.exchange.nobitex_client import NobitexClient
from tests.support.http_servers import Certificates, answer, closes_after_request, serve
from tests.support.scripted_nobitex import KEY, SECRET, TOKEN, order_row
from tests.support.together import together

PUBLIC = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(KEY))
WALLETS = {"status": "ok", "wallets": {}}
ORDER = {"status": "ok", "order": order_row(), "updatedStatus": "Canceled"}
LISTING = {"status": "ok", "orders": []}
ODD = "é&=%/?#+ ~|\\\"'*%2f%zz\u202e[]"


def place(client: NobitexClient):
    return client.place_limit(symbol="BTC/USDT", side="buy", amount="0.001", price=50000, client_order_id="a1")


def check_signature(request) -> None:
    signed = f"{request.header('Nobitex-Timestamp')}{request.method}{request.target}".encode() + request.body
    PUBLIC.verify(base64.urlsafe_b64decode(request.header("Nobitex-Signature")), signed)


# -- signatures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/api/v9", "/a|b/../c%7e%zz/'\"{}[]"])
def test_the_signed_path_is_on_the_wire_byte_for_byte_whatever_is_in_it(prefix):
    with serve(answer(LISTING)) as server:
        client = NobitexClient(base_url=server.url + prefix, api_key=KEY, api_secret=SECRET)
        for _ in range(2):  # on a new connection, and on one that is kept
            client.list_orders(status=ODD, order="-created_at")
            client.list_orders(order="&", from_id=7)
            client.list_orders()
    assert server.connections == 1 and len(server.requests) == 6
    for request in server.requests:
        check_signature(request)
    assert "%C3%A9%26%3D%25%2F%3F%23%2B+~%7C" in server.requests[0].target
    assert server.requests[0].target == server.requests[3].target


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None)
@given(params=st.dictionaries(words, words, min_size=1, max_size=3))
def test_requests_leaves_an_encoded_query_as_it_is(params):
    query = "?" + urllib.parse.urlencode(params)
    whole = address("http://venue.test/market/orders/list")
    assert address("http://venue.test/market/orders/list" + query) == (whole[0] + query, whole[1] + query)


def test_a_signed_order_and_a_signed_cancel_are_on_the_wire_as_signed():
    with serve(answer(ORDER)) as server:
        client = NobitexClient(base_url=server.url, api_key=KEY, api_secret=SECRET)
        for _ in range(2):
            place(client)
            client.cancel(order_id=7)
    assert server.connections == 1
    for request in server.requests:
        check_signature(request)
        assert request.header("Content-Type") == "application/json"
        assert request.header("User-Agent").startswith("TraderBot/hireliab-")
        assert request.header("Authorization") is None


class SteppedClock:
    """The real clock plus an offset: the sockets need real time."""

    offset = 0.0

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic() + self.offset

    def time(self) -> float:
        return SYSTEM_CLOCK.time() + self.offset


def test_what_is_sent_again_is_signed_again_and_goes_out_on_a_new_connection():
    clock = SteppedClock()

    def dies(peer) -> None:
        peer.read()
        peer.reply(body=LISTING)
        peer.read()
        clock.offset += 3
        peer.reset()

    with serve(dies, answer(LISTING)) as server:
        client = NobitexClient(base_url=server.url, api_key=KEY, api_secret=SECRET, clock=clock)
        client.list_orders()
        client.list_orders()
    first, second = server.requests[1:]
    assert (first.connection, second.connection) == (0, 1)
    assert int(second.header("Nobitex-Timestamp")) - int(first.header("Nobitex-Timestamp")) >= 3
    check_signature(first)
    check_signature(second)


def test_a_second_sending_that_fails_is_the_last_one():
    def dies(peer) -> None:
        if peer.number == 0:
            peer.read()
            peer.reply(body=WALLETS)
        peer.read()
        peer.reset()

    with serve(dies) as server:
        client = NobitexClient(base_url=server.url, token=TOKEN)
        client.get_balances()
        with pytest.raises(ResponseLostError, match="^nobitex /v2/wallets: the connection broke"):
            client.get_balances()
    assert [request.connection for request in server.requests] == [0, 0, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_a_connection_of_its_own_and_leaves_the_parents_alone():
    with serve(answer(WALLETS)) as server:
        client = NobitexClient(base_url=server.url, token=TOKEN)
        client.get_balances()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                client.get_balances()
                client.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.get_balances()
    assert [request.connection for request in server.requests] == [0, 1, 0]


def test_a_base_url_that_requests_refuses_is_a_setting_that_is_wrong():
    for url in ("http://*.test", "http://.test", "http://" + "x" * 70 + ".é"):
        with pytest.raises(ConfigError, match="base_url"):
            NobitexClient(base_url=url)


# -- the environment ------------------------------------------------------------------------------------------------


def test_a_login_of_netrc_is_for_other_programs(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serve(answer({"status": "ok", "stats": {}, "wallets": {}})) as server:
        client = NobitexClient(base_url=server.url, api_key=KEY, api_secret=SECRET)
        for _ in range(2):
            client.get_stats()
            client.get_balances()
    assert [request.header("Authorization") for request in server.requests] == [None] * 4


def test_through_a_proxy_the_path_is_signed_as_without_one(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(answer(LISTING)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        client = NobitexClient(base_url="http://venue.invalid", api_key=KEY, api_secret=SECRET)
        for _ in range(2):
            client.list_orders(status=ODD)
    for request in proxy.requests:
        assert request.target.startswith("http://venue.invalid/market/orders/list?")
        request.target = request.target.removeprefix("http://venue.invalid")
        check_signature(request)


def test_clients_share_one_tls_context_and_read_the_ca_file_once(tmp_path, monkeypatch):
    certificates = Certificates(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.ca)
    built = []
    build = _tls._build
    monkeypatch.setattr(_tls, "_build", lambda *key: built.append(key) or build(*key))
    _tls.forget()
    try:
        with serve(answer(WALLETS), tls=certificates.server_context()) as server:
            clients = [NobitexClient(base_url=server.url, token=TOKEN) for _ in range(8)]
            together(8, lambda number: clients[number].get_balances())
            for client in clients:
                client.get_balances()
                client.close()
        assert server.connections == 8 and len(server.requests) == 16
        assert len(built) == 1
    finally:
        _tls.forget()


# -- the labels of the crash campaign -------------------------------------------------------------------------------


@pytest.fixture
def marks(monkeypatch):
    """The labels that were passed, and at each what `look` says."""
    passed: list = []
    monkeypatch.setattr(_kill_points, "ARMED", "all")
    monkeypatch.setattr(_kill_points, "at", passed.append)
    return passed


@pytest.mark.parametrize("kept", [False, True])
def test_an_order_passes_each_label_once_and_a_cancel_its_own(marks, kept):
    with serve(answer({**ORDER, **WALLETS})) as server:
        client = NobitexClient(base_url=server.url, api_key=KEY, api_secret=SECRET)
        if kept:
            client.get_balances()
            assert marks == []
        place(client)
        assert marks == ["L05", "L06", "L07", "L08", "L09"]
        marks.clear()
        client.cancel(order_id=7)
        assert marks == ["L23"]
    for request in server.requests[kept:]:
        check_signature(request)


@pytest.mark.parametrize("kept", [False, True])
def test_the_labels_stand_where_their_names_say(monkeypatch, kept):
    has: list[bytes] = []
    heard, answered = threading.Event(), threading.Event()

    def script(peer) -> None:
        if kept:
            peer.read()
            peer.reply(body=WALLETS)
        peer.sock.settimeout(5)
        whole = b""
        while not whole.endswith(b"}"):
            whole += peer.sock.recv(65536)
            has.append(whole)
            heard.set()
        answered.wait(5)
        peer.reply(body=ORDER)
        peer.wait_until_closed()

    def at(label: str) -> None:
        if label == "L05":
            assert has == []
        elif label == "L06":
            assert heard.wait(5) and has[-1].endswith(b"\r\n\r\n")
        elif label == "L07":
            answered.set()
        seen.append((label, answered.is_set()))

    seen: list = []
    with serve(script) as server:
        client = NobitexClient(base_url=server.url, token=TOKEN)
        if kept:
            client.get_balances()
        monkeypatch.setattr(_kill_points, "ARMED", "all")
        monkeypatch.setattr(_kill_points, "at", at)
        place(client)
        client.close()
    assert seen == [("L05", False), ("L06", False), ("L07", True), ("L08", True), ("L09", True)]


def test_without_an_answer_no_label_speaks_of_one(marks):
    with serve(closes_after_request(0)) as server, pytest.raises(OutcomeUnknownError):
        place(NobitexClient(base_url=server.url, token=TOKEN))
    assert marks == ["L05", "L06", "L07"]
