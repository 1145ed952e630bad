"""``hireliab venue check`` against the simulator in a process of its own: each verdict, and what it never does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hireliab._cli_venue import venue
from hireliab.exchange.nobitex_client import NobitexClient

CHANGES = ("/market/orders/add", "/market/orders/update-status", "/market/orders/cancel-old", "/market/orders/batch-add",
           "/market/orders/cancel-batch", "/wallets/transfer", "/users/wallets/convert")  # fmt: skip


class Venue:
    """A running simulator."""

    def __init__(self, told: dict, truth: Path) -> None:
        self.url, self.admin_url = told["base_url"], told["admin_url"]
        self.token, self.api_key, self.api_secret = told["token"], told["api_key"], told["api_secret"]
        self.truth = truth

    def admin(self, path: str, body: object) -> None:
        request = urllib.request.Request(
            self.admin_url + path, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def client(self) -> NobitexClient:
        return NobitexClient(base_url=self.url, token=self.token)

    def requests(self) -> list[dict]:
        records = [json.loads(line) for line in self.truth.read_text("utf-8").splitlines()]
        return [record for record in records if record["kind"] == "request"]

    def orders(self) -> dict[int, dict]:
        """The last version of each order."""
        records = [json.loads(line) for line in self.truth.read_text("utf-8").splitlines()]
        return {record["id"]: record for record in records if record["kind"] == "order"}


@contextlib.contextmanager
def simulator(folder: Path, *arguments: str) -> Iterator[Venue]:
    truth = folder / "truth.jsonl"
    command = [sys.executable, "-m", "hireliab.simulator", "--seed", "7", "--truth", str(truth), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Venue(json.loads(process.stdout.readline()), truth)
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def sim(tmp_path) -> Iterator[Venue]:
    with simulator(tmp_path) as running:
        yield running


def run(sim: Venue, *arguments: str, pair: bool = False, ask: str | None = None) -> Result:
    env = {"T": sim.token, "K": sim.api_key, "S": sim.api_secret}
    who = ["--api-key-env", "K", "--api-secret-env", "S"] if pair else ["--token-env", "T"]
    command = ["check", *who, "--base-url", sim.url, *arguments]
    done = CliRunner().invoke(venue, command, env=env, input=ask)
    for secret in env.values():
        assert secret not in done.output
    assert "user@example.com" not in done.output
    return done


def report(done: Result) -> dict:
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit), done.exception
    return json.loads(done.stdout)


def rows(done: Result) -> dict[int, dict]:
    return {row["row"]: row for row in report(done)["rows"]}


def place(sim: Venue, tmp_path: Path, *arguments: str, **options) -> Result:
    return run(
        sim,
        "--place-minimal-order",
        "--yes",
        "--json",
        "--journal",
        str(tmp_path / "j"),
        "--hold",
        "3",
        *arguments,
        **options,
    )


def trade(sim: Venue) -> None:
    """A history: a purchase, a sale, a cancelled order and an open one."""
    client = sim.client()
    book = client.get_orderbook("BTC/USDT")
    client.place_market(symbol="BTC/USDT", side="buy", amount="0.002", price=book.asks[0][0], client_order_id="one")
    client.place_market(symbol="BTC/USDT", side="sell", amount="0.001", price=book.bids[0][0], client_order_id="two")
    for name, share in (("three", "0.9"), ("four", "0.85")):
        price = (book.bids[0][0] * Decimal(share)).quantize(Decimal(1))
        client.place_limit(symbol="BTC/USDT", side="buy", amount="0.001", price=price, client_order_id=name)
    client.cancel(client_order_id="three")
    client.close()


@pytest.mark.parametrize("pair", [False, True])
def test_a_run_without_leave_only_reads_and_stays_below_its_number_of_requests(sim, pair):
    trade(sim)
    before = len(sim.requests())
    orders = sim.orders()
    done = run(sim, "--json", pair=pair)
    made = sim.requests()[before:]
    assert done.exit_code == 0, done.output
    assert 10 < len(made) == report(done)["requests"] <= 40
    assert {request["method"] + " " + request["path"] for request in made if request["method"] != "GET"} == {
        "POST /market/orders/status"
    }
    assert not [request for request in made if request["path"].startswith(CHANGES)]
    assert sim.orders() == orders
    assert not [request for request in made if request["status"] in (401, 403, 429)]
    found = rows(done)
    assert sorted(found) == list(range(1, 38))
    assumed = {2, 6, 7, 8, 13, 15, 21, 30, 31, 32, 33}
    assert {number for number, row in found.items() if row["verdict"] == "as assumed"} == assumed
    assert not [number for number, row in found.items() if row["verdict"] == "differs"]
    assert "0.2 %" in found[21]["observed"]


def test_one_small_order_is_placed_watched_cancelled_and_verified(sim, tmp_path):
    done = place(sim, tmp_path)
    assert done.exit_code == 0, done.output
    (order,) = sim.orders().values()
    assert (order["status"], order["matched"], order["execution"]) == ("Canceled", "0", "limit")
    assert Decimal(11) < Decimal(order["amount"]) * Decimal(order["price"]) < Decimal("11.1")
    assert "limit buy" in done.stderr and order["price"] in done.stderr
    found = rows(done)
    assumed = {2, 5, 6, 7, 8, 19, 25, 26, 27, 28, 36}
    assert not assumed - {number for number, row in found.items() if row["verdict"] == "as assumed"}
    told = report(done)["order"]
    assert told == {"client_order_id": order["client_order_id"], "verdict": "CANCELLED"}
    placed = [request for request in sim.requests() if request["path"] == "/market/orders/add"]
    assert len(placed) == 1 and (tmp_path / "j").is_dir()


def test_a_rial_market_and_a_sale_where_only_coins_are_free(sim, tmp_path):
    sim.admin("/balances", {"balances": {"rls": "1000", "usdt": "0"}})
    done = place(sim, tmp_path, "--market", "BTC/IRT")
    assert done.exit_code == 0, done.output
    (order,) = sim.orders().values()
    assert (order["market"], order["side"], order["status"]) == ("BTCIRT", "sell", "Canceled")
    assert rows(done)[27]["verdict"] == "as assumed" and "rial" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "row", "text"),
    [
        (["--null-client-ids"], 8, "duplicate_guard"),
        (["--lag", "list=6.5"], 5, "visibility_window"),
    ],
)
@pytest.mark.slow
def test_what_a_placed_order_shows_to_differ_makes_the_exit_code_one(tmp_path, arguments, row, text):
    with simulator(tmp_path, *arguments) as sim:
        done = place(sim, tmp_path, "--hold", "10" if row == 5 else "3")
        assert done.exit_code == 1, done.output
        found = rows(done)
        assert [number for number, one in found.items() if one["matters"]] == [row]
        assert text in found[row]["action"]
        assert {order["status"] for order in sim.orders().values()} == {"Canceled"}


@pytest.mark.slow
def test_delays_that_the_pipeline_waits_out_are_told_and_are_no_difference(tmp_path):
    settings = json.dumps({"new_delay": 1.2, "cancel_delay": 1.2})
    with simulator(tmp_path, "--settings", settings, "--lag", "clientid=1.5,wallets=1") as sim:
        done = place(sim, tmp_path, "--hold", "8")
        assert done.exit_code == 0, done.output
        found = rows(done)
        assert found[19]["verdict"] == "as assumed" and found[19]["observed"].startswith("New, then Active between")
        assert found[36]["verdict"] == "as assumed" and "closed between" in found[36]["observed"]
        assert "status by client id: between" in found[5]["observed"]
        assert {order["status"] for order in sim.orders().values()} == {"Canceled"}


def test_the_history_alone_shows_lost_client_ids_and_lost_orders(tmp_path):
    with simulator(tmp_path, "--null-client-ids", "--settings", '{"prune_after": 1}') as sim:
        trade(sim)
        done = run(sim, "--json")
        assert done.exit_code == 1 and rows(done)[8]["matters"]
        sim.admin("/clock", {"advance": 2})
        found = rows(run(sim, "--json"))
        assert found[7]["matters"] and "trades/list" in found[7]["evidence"]


def test_a_clock_that_is_off_matters_with_signed_requests(sim):
    sim.admin("/clock", {"advance": 12})
    done = run(sim, "--json", pair=True)
    assert done.exit_code == 1
    found = rows(done)
    assert [number for number, row in found.items() if row["matters"]] == [15]
    assert "+1" in found[15]["observed"] and "NTP" in found[15]["action"]
    assert run(sim, "--json").exit_code == 0


def test_a_rejected_order_of_the_history_shows_its_spelling(tmp_path):
    with simulator(tmp_path, "--settings", '{"reject_probability": 1}') as sim:
        client = sim.client()
        client.place_limit(symbol="BTC/USDT", side="buy", amount="0.001", price="80000")
        client.close()
        assert rows(run(sim, "--json"))[20]["verdict"] == "as assumed"


@pytest.mark.slow
def test_a_rejected_order_of_ours_says_why_nothing_was_learnt(tmp_path):
    with simulator(tmp_path) as sim:
        sim.admin("/accounts", {"name": "user", "refuse": "TradingUnavailable"})
        done = place(sim, tmp_path)
        found = rows(done)
        assert found[5]["verdict"] == "not seen" and "TradingUnavailable" in found[5]["observed"]
        assert report(done)["order"]["verdict"] == "REJECTED" and not sim.orders()


@pytest.mark.parametrize(("header", "verdict"), [(False, "as assumed"), (True, "differs")])
def test_a_429_that_comes_by_itself_is_looked_at_and_costs_one_read_only(tmp_path, header, verdict):
    settings = json.dumps({"retry_after": header})
    fault = json.dumps({"route": "GET /market/trades/list", "kind": "throttle", "seconds": 9})
    with simulator(tmp_path, "--settings", settings, "--faults", fault) as sim:
        done = run(sim, "--json")
        found = rows(done)
        assert done.exit_code == 0 and found[12]["verdict"] == verdict and not found[12]["matters"]
        assert [line.partition(":")[0] for line in report(done)["unread"]] == ["trades/list"]
        assert found[13]["verdict"] == "as assumed"


@pytest.mark.parametrize(("kind", "code", "row34"), [("http_503", 0, "as assumed"), ("truncated_json", 1, "differs")])
def test_an_answer_that_cannot_be_read_is_told(tmp_path, kind, code, row34):
    fault = json.dumps({"route": "GET /market/trades/list", "kind": kind})
    with simulator(tmp_path, "--faults", fault) as sim:
        done = run(sim, "--json")
        assert done.exit_code == code, done.output
        assert rows(done)[34]["verdict"] == row34 and len(report(done)["unread"]) == 1
        assert ("could not be read: trades/list" in run(sim).output) and rows(done)[31]["verdict"] == "as assumed"


def test_one_wrong_signature_is_sent_with_leave_only_and_only_once(sim):
    done = run(sim, "--json", "--one-wrong-signature", pair=True)
    assert done.exit_code == 0 and rows(done)[14]["verdict"] == "as assumed"
    assert [request["path"] for request in sim.requests() if request["status"] == 401] == ["/users/profile"]
    before = len(sim.requests())
    assert rows(run(sim, "--json", pair=True))[14]["verdict"] == "not asked"
    assert rows(run(sim, "--json", "--one-wrong-signature"))[14]["verdict"] == "not asked"  # a token signs nothing
    assert not [request for request in sim.requests()[before:] if request["status"] == 401]


def test_a_lost_answer_to_the_order_loses_no_order(sim, tmp_path):
    sim.admin("/faults", {"route": "POST /market/orders/add", "kind": "answer_lost", "count": 1})
    done = place(sim, tmp_path)
    assert {order["status"] for order in sim.orders().values()} == {"Canceled"}
    assert len([request for request in sim.requests() if request["path"] == "/market/orders/add"]) == 1
    assert report(done)["left_open"] == [] and done.exit_code == 0, done.output


@pytest.mark.slow
@pytest.mark.parametrize(("exempts", "verdict"), [(False, "as assumed"), (True, "differs")])
def test_a_second_order_shows_whether_a_client_id_exempts_and_neither_stays(tmp_path, exempts, verdict):
    with simulator(tmp_path, "--settings", json.dumps({"duplicate_by_client_id": exempts})) as sim:
        done = place(sim, tmp_path, "--second-order")
        assert done.exit_code == 0, done.output
        found = rows(done)
        assert (found[3]["verdict"], found[3]["matters"]) == (verdict, False)
        assert found[27]["verdict"] == "as assumed"  # the second order is not taken for the first
        assert len([request for request in sim.requests() if request["path"] == "/market/orders/add"]) == 2
        assert [order["status"] for order in sim.orders().values()] == ["Canceled"] * (2 if exempts else 1)
        assert "two real orders" in done.stderr


@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt()])
def test_a_watch_that_fails_or_is_interrupted_leaves_no_order(sim, tmp_path, monkeypatch, error):
    def fails(*_args, **_options):
        raise error

    monkeypatch.setattr("hireliab.exchange._nobitex_survey_reads.Watch.run", fails)
    done = place(sim, tmp_path)
    assert done.exit_code == 0 and "waiting for" in done.stderr
    assert [order["status"] for order in sim.orders().values()] == ["Canceled"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.slow
def test_the_run_after_a_killed_one_closes_its_order(sim, tmp_path):
    env = {**os.environ, "T": sim.token, "PYTHONPATH": str(Path(__file__).parents[2])}
    code = "from hireliab._cli_venue import venue; venue()"
    command = [sys.executable, "-c", code, "check", "--token-env", "T", "--base-url", sim.url, "--place-minimal-order",
               "--yes", "--hold", "4", "--journal", str(tmp_path / "j")]  # fmt: skip
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        give_up = time.monotonic() + 20
        while not sim.orders() and time.monotonic() < give_up:
            time.sleep(0.02)
        process.kill()
    assert [order["status"] for order in sim.orders().values()] == ["Active"]
    done = place(sim, tmp_path, "--hold", "6")
    assert done.exit_code == 0, done.output
    assert [order["status"] for order in sim.orders().values()] == ["Canceled", "Canceled"]


def test_without_consent_nothing_is_placed(sim, tmp_path):
    for ask in ("n\n", ""):
        done = run(sim, "--place-minimal-order", "--json", "--journal", str(tmp_path / "j"), ask=ask)
        assert done.exit_code == 0 and "nothing was placed" in done.stderr
        assert "you did not agree" in rows(done)[5]["observed"]
    assert not sim.orders() and not (tmp_path / "j").exists()
    done = run(sim, "--place-minimal-order", "--hold", "2", "--journal", str(tmp_path / "j"), ask="y\n")
    assert done.exit_code == 0 and len(sim.orders()) == 1


def test_without_balance_it_says_what_is_needed(sim, tmp_path):
    sim.admin("/balances", {"balances": {"usdt": "1", "btc": "0"}})
    done = place(sim, tmp_path)
    assert done.exit_code == 2 and "USDT to buy or" in done.stderr and not sim.orders()
    assert rows(done)[31]["verdict"] == "as assumed"  # what could be read is told all the same


def test_the_table_is_for_people(sim):
    done = run(sim)
    assert done.exit_code == 0
    assert "all of them reads" in done.output and "14 requests" in done.output
    for word in ("as assumed", "not seen", "not asked", "clientOrderId"):
        assert word in done.output


def test_the_table_needs_no_rich(sim, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    done = run(sim)
    assert done.exit_code == 0 and "assumed: toman for IRT" in done.output


@pytest.mark.parametrize(
    ("arguments", "env", "text"),
    [
        ([], {}, "no credentials"),
        (["--token-env", "NOPE"], {}, "is not set"),
        (["--token-env", "T"], {"T": " "}, "is not set"),
        (["--token-file", "/nowhere/secret-value"], {}, "cannot be read"),
        (["--api-key-env", "K"], {"K": "x"}, "api_secret: missing"),
        (["--token-env", "T", "--token-file", "x"], {"T": "a" * 40}, "give one of them"),
        (["--token-env", "T", "--base-url", "nonsense"], {"T": "a" * 40}, "base_url"),
        (["--token-env", "T", "--second-order"], {"T": "a" * 40}, "needs --place-minimal-order"),
        (["--token-env", "T", "--market", "DOLLAR"], {"T": "a" * 40}, "no Nobitex market"),
        (["--token-env", "T", "--base-url", "http://127.0.0.1:9"], {"T": "a" * 40}, "no connection"),
    ],
)
def test_what_keeps_it_from_running_makes_the_exit_code_two(arguments, env, text):
    done = CliRunner().invoke(venue, ["check", "--timeout", "1", *arguments], env=env)
    assert done.exit_code == 2 and text in done.output
    assert "secret-value" not in done.output and "NOPE" not in done.output and "a" * 40 not in done.output
    as_json = CliRunner().invoke(venue, ["check", "--timeout", "1", "--json", *arguments], env=env)
    assert json.loads(as_json.stdout)["exit_code"] == 2


def test_credentials_from_files_and_a_token_that_nobody_knows(sim, tmp_path):
    (tmp_path / "token").write_text(sim.token + "\n")
    (tmp_path / "secret").write_text(sim.api_secret + "\n")
    common = ["check", "--base-url", sim.url, "--json"]
    done = CliRunner().invoke(venue, [*common, "--token-file", str(tmp_path / "token")])
    assert done.exit_code == 0
    pair = ["--api-key-env", "K", "--api-secret-file", str(tmp_path / "secret")]
    assert CliRunner().invoke(venue, [*common, *pair], env={"K": sim.api_key}).exit_code == 0
    before = len(sim.requests())
    done = CliRunner().invoke(venue, [*common, "--token-env", "T"], env={"T": "0" * 40})
    assert done.exit_code == 2 and "refuses the credentials" in done.stderr
    assert len([request for request in sim.requests()[before:] if request["status"] == 401]) == 1


def test_a_market_that_is_not_traded_is_refused(sim):
    done = run(sim, "--market", "XYZ/USDT")
    assert done.exit_code == 2 and "XYZ/USDT" in done.output
