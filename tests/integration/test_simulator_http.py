"""The simulator on real loopback sockets: wire behaviour, faults, admin port, command line."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from decimal import Decimal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hireliab.simulator import truth
from hireliab.simulator.faults import KINDS
from hireliab.simulator.server import Simulator

D = Decimal
ADD = "POST /market/orders/add"
LIMIT = {"type": "buy", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "0.001", "price": "49000000000"}


class Client:
    """One keep-alive connection."""

    def __init__(self, sim, timeout=5.0):
        self.sim = sim
        self.timeout = timeout
        self.http = http.client.HTTPConnection("127.0.0.1", int(sim.base_url.rpartition(":")[2]), timeout=timeout)

    def send(self, method, path, body=None, headers=None):
        """HTTP status and raw body."""
        given = {"Authorization": f"Token {self.sim.token}", "Content-Type": "application/json", **(headers or {})}
        self.http.request(method, path, None if body is None else json.dumps(body), given)
        response = self.http.getresponse()
        return response.status, response.read()

    def json(self, method, path, body=None):
        status, raw = self.send(method, path, body)
        assert status == 200, (status, raw)
        return json.loads(raw, parse_float=Decimal)

    def add(self, **changes):
        return self.json("POST", "/market/orders/add", {**LIMIT, **changes})

    def listed(self):
        return self.json("GET", "/market/orders/list?status=all&details=2&order=id")["orders"]

    def close(self):
        self.http.close()


@pytest.fixture
def run(tmp_path):
    """Start a simulator, and stop it in the end; no thread may be left."""
    sims, clients = [], []

    def start(**given):
        sims.append(Simulator(**{"seed": 1, "truth": tmp_path / "truth.jsonl", "limits": False, **given}))
        sims[-1].start()
        return sims[-1]

    def client(sim, **given):
        clients.append(Client(sim, **given))
        return clients[-1]

    start.client = client
    yield start
    for one in clients:
        one.close()
    for sim in sims:
        sim.stop()
    assert [thread.name for thread in threading.enumerate() if "simulator" in thread.name] == []


def admin(sim, method, path, body=None):
    """The admin port's HTTP status and decoded answer."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sim.admin_url.rpartition(":")[2]), timeout=5)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read(), parse_float=Decimal)
    finally:
        connection.close()


def records(sim, kind=None):
    return [record for record in truth.read(sim.truth) if kind in (None, record["kind"])]


def eventually(condition):
    """Wait until something that another thread does has happened."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@contextmanager
def lost():
    """The connection ends without a whole answer."""
    with pytest.raises((http.client.HTTPException, OSError)):
        yield


# --- the wire -------------------------------------------------------------------------------


def test_many_requests_go_over_one_connection_and_carry_a_date(run):
    sim = run()
    client = run.client(sim)
    for _ in range(3):
        client.http.request("GET", "/v3/orderbook/BTCIRT")
        response = client.http.getresponse()
        assert response.getheader("Date").endswith("GMT")
        assert response.getheader("Content-Type") == "application/json"
        response.read()
        connection = client.http.sock
    assert client.http.sock is connection is not None


def test_both_authentications_work_over_sockets(run):
    sim = run()
    client = run.client(sim)
    assert client.add()["status"] == "ok"
    private = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(sim.api_secret))
    stamp, target = str(int(time.time())), "/market/orders/list?status=open&details=2"
    signature = base64.urlsafe_b64encode(private.sign(f"{stamp}GET{target}".encode())).decode()
    headers = {"Nobitex-Key": sim.api_key, "Nobitex-Timestamp": stamp, "Nobitex-Signature": signature}
    assert len(json.loads(fetch(sim.base_url + target, headers))["orders"]) == 1
    with pytest.raises(urllib.error.HTTPError, match="401") as caught:
        fetch(sim.base_url + target, {**headers, "Nobitex-Signature": signature.swapcase()})
    caught.value.close()


def fetch(url, headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as response:
        return response.read()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno-colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, 431),
        (b"GET /v2/options HTTP/1.0\r\n\r\n", 200),
    ],
)
def test_bytes_that_are_no_request_get_a_page_and_the_connection_closes(run, raw, status):
    sim = run()
    with socket.create_connection(("127.0.0.1", int(sim.base_url.rpartition(":")[2])), timeout=5) as sock:
        sock.sendall(raw)
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    assert data.startswith(b"HTTP/1.1 %d " % status)


def test_requests_may_be_pipelined_and_arrive_in_pieces(run):
    sim = run()
    one = b"GET /v2/trades/BTCIRT HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /v2/trades/BTCIRT HTTP/1.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(sim.base_url.rpartition(":")[2])), timeout=5) as sock:
        for piece in (one[:7], one[7:] + one, last):
            sock.sendall(piece)
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    assert data.count(b"HTTP/1.1 200 OK") == 3


def test_an_idle_connection_is_closed(run):
    sim = run(keep_alive=0.05)
    client = run.client(sim)
    client.json("GET", "/v2/options")
    assert client.http.sock.recv(1) == b""


# --- faults ---------------------------------------------------------------------------------


def test_a_lost_request_has_no_effect_but_is_in_the_truth(run):
    sim = run(faults=[{"route": ADD, "kind": "request_lost", "nth": 1}])
    client = run.client(sim)
    with lost():
        client.add(clientOrderId="lost-1")
    assert client.listed() == []
    request = records(sim, "request")[0]
    assert (request["fault"], request["status"], request["client_order_id"]) == ("request_lost", None, "lost-1")
    assert records(sim, "fault")[0]["n"] == request["n"]


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "answer_lost"},
        {"kind": "reset", "processed": True},
        {"kind": "truncated_json", "variant": "cut"},
        {"kind": "drip", "seconds": 60},
    ],
)
def test_an_answer_that_is_lost_after_processing_leaves_an_order(run, rule):
    sim = run(faults=[{"route": ADD, "nth": 1, **rule}])
    client = run.client(sim, timeout=0.3)
    with lost():
        client.add(clientOrderId="here")
    client.close()
    assert [row["clientOrderId"] for row in client.listed()] == ["here"]
    request = records(sim, "request")[0]
    assert (request["fault"], request["status"]) == (rule["kind"], 200)


def test_a_reset_is_a_reset(run):
    sim = run(faults=[{"kind": "reset"}])
    with pytest.raises(ConnectionResetError):
        run.client(sim).json("GET", "/v2/options")


def test_a_delayed_answer_comes_after_its_processing(run):
    sim = run(faults=[{"route": ADD, "kind": "delay", "seconds": 3600, "nth": 1}])
    client, other, answers = run.client(sim), run.client(sim), []
    thread = threading.Thread(target=lambda: answers.append(client.add()))
    thread.start()
    eventually(other.listed)
    assert answers == []
    eventually(lambda: admin(sim, "POST", "/clock", {"advance": 3600}) and answers)
    thread.join(5)
    assert answers[0]["status"] == "ok"


@pytest.mark.parametrize("kind", ["late", "late_close"])
def test_a_late_request_takes_effect_after_the_client_gave_up(run, kind):
    sim = run(faults=[{"route": ADD, "kind": kind, "seconds": 3600, "nth": 1}])
    client = run.client(sim, timeout=0.2)
    with lost():
        client.add(clientOrderId="late-1")
    client.close()
    assert client.listed() == []
    assert (records(sim, "request")[0]["fault"], records(sim, "request")[0]["status"]) == (kind, None)
    eventually(lambda: admin(sim, "POST", "/clock", {"advance": 3600}) and client.listed())
    assert client.listed()[0]["clientOrderId"] == "late-1"
    kinds = [record["kind"] for record in records(sim) if record.get("n") == 1 or record.get("cause") == 1]
    assert kinds == ["request", "fault", "outcome", "order"]


def test_a_late_signed_request_is_stale_unless_it_was_checked_on_arrival(run):
    sim = run(
        faults=[
            {"route": ADD, "kind": "late_close", "seconds": 60, "nth": 1},
            {"route": ADD, "kind": "late_close", "seconds": 60, "nth": 2, "variant": "after_auth"},
        ]
    )
    private = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(sim.api_secret))
    for amount in ("0.001", "0.002"):
        client, stamp, body = run.client(sim), str(int(time.time())), json.dumps({**LIMIT, "amount": amount})
        signature = private.sign(f"{stamp}POST/market/orders/add{body}".encode())
        headers = {
            "Nobitex-Key": sim.api_key,
            "Nobitex-Timestamp": stamp,
            "Nobitex-Signature": base64.urlsafe_b64encode(signature).decode(),
            "Content-Type": "application/json",
        }
        client.http.request("POST", "/market/orders/add", body, headers)
        with lost():
            client.http.getresponse()
    eventually(lambda: len(records(sim, "outcome")) == 2 or not admin(sim, "POST", "/clock", {"advance": 60}))
    assert sorted(record["status"] for record in records(sim, "outcome")) == [200, 401]
    assert [row["amount"] for row in run.client(sim).listed()] == ["0.002"]


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize(
    ("kind", "status", "html"),
    [
        ("throttle", 429, False),
        ("http_500", 500, False),
        ("http_502", 502, True),
        ("http_503", 503, True),
        ("http_504", 504, True),
        ("unauthorized", 401, False),
    ],
)
def test_an_error_answer_is_the_same_whether_or_not_the_order_was_placed(run, kind, status, html, processed):
    sim = run(faults=[{"route": ADD, "kind": kind, "processed": processed, "nth": 1}])
    client = run.client(sim)
    got, raw = client.send("POST", "/market/orders/add", LIMIT)
    assert got == status
    assert raw.startswith(b"<html>") is html
    if kind == "throttle":
        assert json.loads(raw)["backOff"] == 5
    assert len(client.listed()) == processed
    assert records(sim, "request")[0]["status"] == (200 if processed else None)


def test_truncated_json_fits_its_content_length(run):
    sim = run(faults=[{"route": ADD, "kind": "truncated_json", "nth": 1}])
    client = run.client(sim)
    status, raw = client.send("POST", "/market/orders/add", LIMIT)
    assert status == 200
    with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting"):
        json.loads(raw)
    assert len(client.listed()) == 1


def test_a_drip_comes_byte_by_byte(run):
    sim = run(faults=[{"kind": "drip", "seconds": 0.0001}])
    assert run.client(sim).json("GET", "/market/stats?srcCurrency=btc&dstCurrency=rls")["status"] == "ok"


def test_a_duplicated_request_reaches_the_exchange_twice(run):
    sim = run(faults=[{"route": ADD, "kind": "duplicate", "nth": 1}])
    client = run.client(sim)
    assert client.add(clientOrderId="twin")["code"] == "DuplicateClientOrderId"
    assert len(client.listed()) == 1
    assert [record["n"] for record in records(sim, "request")][:2] == [1, 2]


def test_an_answer_can_name_a_strangers_order_or_none(run):
    sim = run(faults=[{"route": ADD, "kind": "wrong_id", "nth": 1}, {"route": ADD, "kind": "no_id", "nth": 2}])
    client = run.client(sim)
    wrong, missing = client.add(clientOrderId="a")["order"], client.add(clientOrderId="b", amount="0.002")["order"]
    rows = client.listed()
    assert wrong["id"] not in [row["id"] for row in rows]
    assert wrong["clientOrderId"] != "a"
    assert not {"id", "clientOrderId"} & set(missing)


def test_a_listing_can_lack_its_second_half(run):
    sim = run(faults=[{"route": "GET /market/orders/list", "kind": "short_list", "nth": 1}])
    client = run.client(sim)
    for amount in ("0.001", "0.002"):
        client.add(amount=amount)
    assert [len(client.listed()) for _ in range(2)] == [1, 2]


def test_a_fault_can_cut_the_exchange_off_for_a_time(run):
    sim = run(faults=[{"route": ADD, "kind": "down", "seconds": 3600, "processed": True, "nth": 1}])
    client, idle = run.client(sim), run.client(sim)
    idle.json("GET", "/v2/options")
    with lost():
        client.add()
    eventually(lambda: not sim.is_up)
    client.close()
    with pytest.raises(ConnectionRefusedError):
        client.listed()
    with lost():
        idle.json("GET", "/v2/options")
    admin(sim, "POST", "/clock", {"advance": 3600})
    eventually(lambda: sim.is_up)
    client.close()
    assert len(client.listed()) == 1


def test_every_kind_of_fault_has_a_delivery(run):
    rules = [{"route": f"/nothing/{kind}/", "kind": kind, "seconds": 0.001} for kind in KINDS]
    sim = run(faults=rules)
    for kind in KINDS:
        client = run.client(sim, timeout=2)
        try:
            client.send("GET", f"/nothing/{kind}/")
        except (http.client.HTTPException, OSError):
            pass
        eventually(lambda: sim.is_up)
    assert {rule["fired"] for rule in sim.faults.as_json()} == {1}


def test_faults_can_be_for_one_account_only(run):
    sim = run(faults=[{"kind": "http_500", "account": "second"}])
    _, second = admin(sim, "POST", "/accounts", {"name": "second", "balances": {"rls": "1000000"}})
    client = run.client(sim)
    assert client.send("GET", "/v2/wallets")[0] == 200
    assert client.send("GET", "/v2/wallets", headers={"Authorization": "Token " + second["token"]})[0] == 500


# --- stop -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [{"kind": "delay", "seconds": 3600}, {"kind": "late", "seconds": 3600}, {"kind": "drip", "seconds": 3600}]
)
def test_stop_ends_every_thread_however_long_a_fault_would_wait(run, rule):
    sim = run(faults=[{"route": ADD, **rule}])
    client = run.client(sim)
    client.http.request("POST", "/market/orders/add", json.dumps(LIMIT), {"Authorization": f"Token {sim.token}"})
    eventually(lambda: records(sim, "request"))
    started = time.monotonic()
    sim.stop()
    assert time.monotonic() - started < 30
    assert not [thread for thread in threading.enumerate() if "simulator" in thread.name]
    assert records(sim)[-1]["kind"] == "stop"
    sim.stop()


def test_a_taken_port_is_an_error_and_leaves_nothing_running(run):
    sim = run()
    with pytest.raises(OSError, match=r"."):
        Simulator(port=int(sim.base_url.rpartition(":")[2])).start()
    assert sim.is_up


# --- admin ----------------------------------------------------------------------------------


def test_the_exchange_comes_back_although_its_port_was_taken_meanwhile(run):
    sim = run()
    assert admin(sim, "POST", "/down")[0] == 200
    up = threading.Thread(target=sim.go_up)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(sim.base_url.rpartition(":")[2])))
        other.listen()
        up.start()
        up.join(0.3)
        assert not sim.is_up
    up.join(10)
    assert sim.is_up
    assert run.client(sim).listed() == []


def test_the_exchange_can_be_cut_off_and_come_back_at_the_same_address(run):
    sim = run()
    client = run.client(sim)
    client.json("GET", "/v2/options")
    assert admin(sim, "POST", "/down")[0] == 200
    with lost():
        client.json("GET", "/v2/options")
    client.close()
    with pytest.raises(ConnectionRefusedError):
        client.json("GET", "/v2/options")
    client.close()
    assert admin(sim, "GET", "/state")[1]["up"] is False
    assert admin(sim, "POST", "/up")[0] == 200
    assert client.json("GET", "/v2/options")["status"] == "ok"


def test_admin_moves_the_market_and_trades(run):
    sim = run()
    client = run.client(sim)
    resting = client.add()["order"]["id"]
    stop = client.add(type="sell", execution="stop_market", stopPrice="48000000000", price=None)["order"]["id"]
    assert admin(sim, "POST", "/trade", {"market": "BTCIRT", "price": "49000000000", "amount": "0.0004"})[0] == 200
    rows = {row["id"]: row for row in client.listed()}
    assert rows[resting]["matchedAmount"] == "0.0004"
    admin(sim, "POST", "/book", {"market": "BTCIRT", "mid": "47900000000"})
    rows = {row["id"]: row for row in client.listed()}
    assert (rows[resting]["status"], rows[stop]["status"]) == ("Done", "Done")
    admin(sim, "POST", "/book", {"market": "BTCIRT", "thin": "0.0001"})
    assert client.add(execution="market", price=None)["order"]["matchedAmount"] == "0.0001"
    admin(sim, "POST", "/book", {"market": "BTCIRT", "asks": [["48000000000", "0.0002"]], "closed": False})
    assert client.json("GET", "/v3/orderbook/BTCIRT")["asks"] == [["48000000000", "0.0002"]]
    admin(sim, "POST", "/book", {"market": "BTCIRT", "closed": True})
    assert client.add(amount="0.004")["code"] == "MarketClosed"


def test_admin_sets_balances_settings_lags_and_accounts(run):
    sim = run()
    client = run.client(sim)
    admin(sim, "POST", "/balances", {"balances": {"rls": "1000"}})
    assert client.add()["code"] == "OverValueOrder"
    admin(sim, "POST", "/accounts", {"name": "user", "refuse": "TradeLimitation"})
    assert client.add()["code"] == "TradeLimitation"
    admin(sim, "POST", "/settings", {"fee": "0.35", "maintenance": False})
    assert client.json("GET", "/users/profile")["profile"]["options"]["fee"] == "0.35"
    admin(sim, "POST", "/lag", {"wallets": 30})
    state = admin(sim, "GET", "/state")[1]
    assert (state["settings"]["fee"], state["lag"]["wallets"], state["accounts"]["user"]["rls"]["balance"]) == (
        "0.35",
        30,
        "1000",
    )
    count = admin(sim, "GET", "/truth-count")[1]
    assert count["records"] == len(records(sim))
    assert count["requests"] == 3


def test_admin_adds_and_clears_faults(run):
    sim = run()
    client = run.client(sim)
    rules = [{"kind": "http_500", "route": "/v2"}, {"kind": "http_502", "route": "/market/stats", "probability": 0.5}]
    assert admin(sim, "POST", "/faults", rules)[1] == {"ids": [1, 2]}
    assert client.send("GET", "/v2/options")[0] == 500
    assert [rule["fired"] for rule in admin(sim, "GET", "/state")[1]["faults"]] == [1, 0]
    admin(sim, "DELETE", "/faults?id=1")
    assert client.send("GET", "/v2/options")[0] == 200
    admin(sim, "DELETE", "/faults")
    assert admin(sim, "GET", "/state")[1]["faults"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/faults", {"kind": "nope"}),
        ("/faults", [1]),
        ("/settings", {"nope": 1}),
        ("/lag", {"nope": 1}),
        ("/balances", {"account": "nobody", "balances": {}}),
        ("/balances", {"balances": {"rls": "-1"}}),
        ("/book", {"market": "NOPE"}),
        ("/book", {"market": "BTCIRT", "mid": "0"}),
        ("/book", {"market": "BTCIRT", "asks": [["1"]]}),
        ("/trade", {"market": "BTCIRT"}),
        ("/trade", {"market": "BTCIRT", "price": "1", "side": "x"}),
        ("/clock", {"advance": "x"}),
        ("/accounts", {"name": "not plain"}),
        ("/accounts", {"name": "a", "api_secret": "short"}),
        ("/down", {"seconds": "x"}),
    ],
)
def test_an_admin_call_that_makes_no_sense_changes_nothing(run, path, body):
    sim = run()
    status, answer = admin(sim, "POST", path, body)
    assert status == 400
    assert answer["error"]
    assert sim.is_up
    assert sim.faults.as_json() == []


def test_admin_secrets_stay_out_of_the_truth(run):
    sim = run()
    _, opened = admin(sim, "POST", "/accounts", {"name": "second", "token": "f" * 40})
    assert opened["token"] == "f" * 40
    text = json.dumps(records(sim))
    assert "f" * 40 not in text
    assert opened["api_secret"] not in text


def test_an_unknown_admin_call_is_404(run):
    assert admin(run(), "GET", "/nope")[0] == 404


def test_a_request_counts_against_limits_over_sockets(run):
    sim = run(limits=True, limit_scale=0.1)
    client = run.client(sim)
    statuses = [client.send("GET", "/market/orders/list")[0] for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    admin(sim, "POST", "/clock", {"advance": 60})
    assert client.send("GET", "/market/orders/list")[0] == 200


# --- command line ---------------------------------------------------------------------------


@contextmanager
def command(*arguments):
    """The simulator as a process; its first line and the process."""
    with subprocess.Popen(
        [sys.executable, "-m", "hireliab.simulator", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield json.loads(process.stdout.readline()), process
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=10)


def test_the_command_prints_one_line_of_json_and_ends_cleanly_on_sigterm(tmp_path):
    path = tmp_path / "truth.jsonl"
    token = "0123456789abcdef0123456789abcdef01234567"
    with command("--seed", "7", "--token", token, "--truth", str(path), "--lag", "status=2,list=5", "--no-limits") as (
        line,
        process,
    ):
        assert set(line) == {"base_url", "admin_url", "token", "api_key", "api_secret", "seed", "truth", "pid"}
        assert (line["token"], line["seed"], line["truth"], line["pid"]) == (token, 7, str(path), process.pid)
        with urllib.request.urlopen(line["base_url"] + "/v3/orderbook/BTCIRT", timeout=5) as response:
            assert json.loads(response.read())["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=10)
        assert (rest, errors) == (b"", b"")
        if os.name == "posix":
            assert process.returncode == 0
    kinds = [record["kind"] for record in truth.read(path)]
    assert kinds[0] == "start"
    assert kinds[-1] == "stop"
    assert token not in path.read_text("utf-8")


def test_the_same_seed_gives_the_same_credentials():
    lines = []
    for _ in range(2):
        with command("--seed", "3") as (line, _process):
            lines.append((line["token"], line["api_key"], line["api_secret"]))
    assert lines[0] == lines[1]


def test_a_second_run_appends_to_the_truth(tmp_path):
    path = tmp_path / "truth.jsonl"
    for _ in range(2):
        with command("--truth", str(path)):
            pass
    kinds = [record["kind"] for record in truth.read(path)]
    assert kinds.count("start") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--token", "short"],
        ["--faults", '{"kind": "nope"}'],
        ["--faults", "[1]"],
        ["--faults", "@/does/not/exist"],
        ["--lag", "status"],
        ["--lag", "nope=1"],
        ["--settings", '{"nope": 1}'],
        ["--settings", "[]"],
        ["--balances", '{"xyz": 1}'],
        ["--no-limits", "--limit-scale", "2"],
        ["--api-secret", "short"],
        ["--port", "99999"],
        ["--admin-port", "-1"],
        ["--port", "http"],
    ],
)
def test_wrong_arguments_end_the_command_with_a_reason(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "hireliab.simulator", *arguments], capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert arguments[0] in done.stderr.decode() or "simulator: " in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["port", "file", "host"])
def test_what_the_system_refuses_is_named(tmp_path, what):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments, words = {
            "port": (["--port", str(port)], f"simulator: 127.0.0.1:{port}: Address already in use\n"),
            "file": (["--truth", f"{tmp_path}/no/file"], f"simulator: {tmp_path}/no/file: No such file or directory\n"),
            "host": (["--host", "nope.invalid"], "simulator: nope.invalid:0: "),
        }[what]
        done = subprocess.run(
            [sys.executable, "-m", "hireliab.simulator", *arguments], capture_output=True, timeout=20, check=False
        )
    assert done.returncode == 2
    assert done.stderr.decode().startswith(words)


def test_help_names_every_flag():
    done = subprocess.run(
        [sys.executable, "-m", "hireliab.simulator", "--help"], capture_output=True, timeout=20, check=True
    )
    for flag in (
        "port",
        "admin-port",
        "seed",
        "truth",
        "token",
        "api-secret",
        "faults",
        "no-limits",
        "limit-scale",
        "null-client-ids",
        "lag",
        "settings",
        "balances",
        "keep-alive",
        "host",
    ):
        assert f"--{flag}".encode() in done.stdout


def test_the_simulator_imports_nothing_of_hireliab_outside_its_folder():
    code = (
        "import sys, hireliab; known = set(sys.modules)\n"
        "import hireliab.simulator.__main__\n"
        "print([n for n in set(sys.modules) - known if n.startswith('hireliab.') and not n.startswith('hireliab.simulator')])\n"
        "print([n for n in ('cryptography', 'requests', 'urllib3') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=True, text=True)
    assert done.stdout.splitlines() == ["[]", "[]"]
