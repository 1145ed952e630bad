"""The command line beside a real bot process on the simulator, and after that bot died."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from hireliab import cli
from hireliab.simulator.server import Simulator
from hireliab.simulator.truth import read

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")

BOT = """
import json, sys
from hireliab import EnhancedNobitexAdapter, TransactionVerificationPipeline
token, url, journal = sys.argv[1:]
adapter = EnhancedNobitexAdapter(config={"token": token, "base_url": url})
adapter.initialize()
settings = {
    "verification_timeout": 1.5, "listing_interval": 0.3, "visibility_window": 0.5, "late_arrival_bound": 300.0,
    "operator_interval": 0.1,
}
with TransactionVerificationPipeline(exchange_adapter=adapter, journal=journal, **settings) as pipeline:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "get" in asked:
            answer = pipeline.get(asked["get"]).result()
        else:
            if "below" in asked:
                asked["price"] = int(adapter.get_market_data("BTC/USDT").best_bid * 9 / 10)
                del asked["below"]
            answer = pipeline.execute(pipeline.create_transaction(symbol="BTC/USDT", amount="0.001", **asked))
        told = {"id": answer.transaction_id, "verdict": answer.verdict.value, "order_id": answer.order_id}
        print(json.dumps({**told, "reason": answer.reason, "filled": str(answer.filled)}), flush=True)
"""


class Bot:
    """A process that trades when it is told to."""

    def __init__(self, simulator, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(BOT), simulator.token, simulator.base_url, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.read() == "ready"

    def read(self):
        return json.loads(self.process.stdout.readline())

    def ask(self, **asked):
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return self.read()

    def buy(self):
        return self.ask(type="market_buy")

    def rest(self):
        return self.ask(type="limit_buy", below=True)

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self.process.stdout.close()


@pytest.fixture
def simulator(tmp_path):
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl", limits=False) as simulator:
        yield simulator


@pytest.fixture
def start(simulator, tmp_path):
    made = []

    def start():
        bot = Bot(simulator, tmp_path / "journal")
        made.append(bot)
        return bot

    yield start
    for bot in made:
        if bot.process.poll() is None:
            bot.process.send_signal(signal.SIGCONT)
            bot.kill()


@pytest.fixture
def run(capsys, tmp_path):
    """Run a command on the bot's journal: (exit code, stdout, stderr)."""

    def run(*args):
        code = cli.main([*args, "--journal", str(tmp_path / "journal")])
        return code, *capsys.readouterr()

    return run


def read_json(run, *args):
    code, out, err = run(*args, "--json")
    assert code == 0, err
    return json.loads(out)


def placed(tmp_path):
    rows = read(tmp_path / "truth.jsonl")
    return {str(row["id"]) for row in rows if row["kind"] == "order" and row["account"] != "house"}


def make_blind(simulator):
    """The next order's answer is lost, and no read works: nobody can find out about it."""
    for route in ("/market/orders/status", "/market/orders/list", "/market/trades/list"):
        simulator.faults.add({"route": route, "kind": "http_502"})
        simulator.faults.add({"route": f"GET {route}", "kind": "http_502"})
        simulator.faults.add({"route": f"POST {route}", "kind": "http_502"})
    simulator.faults.add({"route": "POST /market/orders/add", "kind": "answer_lost", "count": 1})


def until(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "not reached"
        time.sleep(0.02)
    return found


def test_list_and_show_beside_a_live_bot(start, run):
    bot = start()
    bought, resting = bot.buy(), bot.rest()
    found = until(lambda: (it := read_json(run, "transactions", "list"))["bot"] and it)
    assert found["bot"] == bot.process.pid
    assert [row["txn_id"] for row in found["transactions"]] == [resting["id"], bought["id"]]
    code, out, _ = run("transactions", "show", resting["id"])
    assert code == 0
    assert f"{resting['order_id']} (Active)" in out
    assert f"hireliab transactions cancel {resting['id']} --journal" in out
    assert read_json(run, "journal", "stats")["bot"]["name"] == "default"
    assert run("journal", "check")[0] == 0
    lines = run("transactions", "export")[1].splitlines()
    assert [json.loads(line)["transaction"]["verdict"] for line in lines] == ["COMPLETED", "COMPLETED"]
    assert bot.ask(type="market_sell")["verdict"] == "COMPLETED"
    bot.stop()
    assert read_json(run, "transactions", "list")["bot"] is None


def test_halt_stops_the_next_send_and_unhalt_lets_it_go(start, run, tmp_path):
    bot = start()
    assert bot.buy()["verdict"] == "COMPLETED"
    assert run("halt", "prices look wrong", "--who", "sara")[0] == 0
    assert bot.buy()["verdict"] == "DENIED"
    assert bot.ask(type="market_sell")["verdict"] == "DENIED"
    assert len(placed(tmp_path)) == 1
    bot.kill()
    bot = start()
    assert bot.buy()["verdict"] == "DENIED"
    assert run("halt", "--reducing", "wind down")[0] == 0
    assert bot.buy()["verdict"] == "DENIED"
    assert bot.ask(type="market_sell")["verdict"] == "COMPLETED"
    assert run("unhalt")[0] == 0
    assert bot.rest()["verdict"] == "COMPLETED"
    assert len(placed(tmp_path)) == 3


def test_a_person_decides_beside_a_live_bot(simulator, start, run, tmp_path):
    bot = start()
    make_blind(simulator)
    lost = bot.buy()
    assert lost["verdict"] == "UNKNOWN"
    shown = read_json(run, "transactions", "show", lost["id"])
    assert shown["transaction"]["verdict"] == "UNKNOWN"
    word = [
        "resolve",
        lost["id"],
        "--as",
        "completed",
        "--filled",
        "0.001",
        "--evidence",
        "order history",
        "--who",
        "sara",
    ]
    answer = read_json(run, "transactions", *word)
    assert (answer["bot"], answer["verdict"], answer["proof"]) == (True, "COMPLETED", "OPERATOR")
    told = bot.ask(get=lost["id"])
    assert (told["verdict"], told["reason"], told["filled"]) == ("COMPLETED", "sara: order history", "0.001")
    code, _, err = run("transactions", *word)
    assert code == 1
    assert "only one whose outcome is not known can be resolved" in err
    assert len(placed(tmp_path)) == 1


def test_a_person_decides_after_the_bot_died_and_the_next_start_believes_it(simulator, start, run, tmp_path):
    bot = start()
    make_blind(simulator)
    lost = bot.buy()
    assert lost["verdict"] == "UNKNOWN"
    bot.kill()
    word = ["resolve", lost["id"], "--as", "completed", "--evidence", "order history", "--who", "sara"]
    answer = read_json(run, "transactions", *word)
    assert (answer["bot"], answer["verdict"]) == (False, "COMPLETED")
    simulator.faults.clear()
    bot = start()
    assert bot.ask(get=lost["id"])["reason"] == "sara: order history"
    assert read_json(run, "transactions", "list")["unresolved"] == 0
    assert len(placed(tmp_path)) == 1


def test_an_order_is_cancelled_and_the_cancel_is_verified(start, run):
    bot = start()
    resting = bot.rest()
    answer = read_json(run, "transactions", "cancel", resting["id"])
    assert (answer["verdict"], answer["kind"], answer["order_id"]) == ("CANCELLED", "CANCEL", resting["order_id"])
    shown = read_json(run, "transactions", "show", resting["id"])
    assert shown["transaction"]["order_status"] == "Canceled"
    assert [cancel["txn_id"] for cancel in shown["cancels"]] == [answer["transaction_id"]]
    code, out, _ = run("transactions", "cancel", resting["id"])
    assert code == 0
    assert out.startswith(f"cancel of transaction {resting['id']}: CANCELLED; order {resting['order_id']} Canceled;")
    bot.stop()


def test_an_orphan_is_swept_and_adopted(start, run, tmp_path):
    bot = start()
    resting = bot.rest()
    bot.stop()
    for path in (tmp_path / "journal").glob("journal.db*"):
        path.unlink()
    bot = start()
    orphans = read_json(run, "transactions", "sweep")["orphans"]
    assert [orphan["order_id"] for orphan in orphans] == [resting["order_id"]]
    assert resting["order_id"] in read_json(run, "journal", "stats")["orphans"]
    answer = read_json(run, "transactions", "adopt", resting["order_id"], "--who", "sara")
    assert (answer["transaction_id"], answer["verdict"]) == (resting["id"], "COMPLETED")
    assert read_json(run, "transactions", "sweep")["orphans"] == []
    code, _, err = run("transactions", "adopt", resting["order_id"])
    assert code == 1
    assert "already" in err
    assert read_json(run, "transactions", "cancel", resting["id"])["verdict"] == "CANCELLED"


def test_a_command_for_a_dead_bot_is_refused_and_leaves_nothing(start, run, tmp_path):
    bot = start()
    resting = bot.rest()
    until(lambda: read_json(run, "transactions", "list")["bot"])
    bot.kill()
    code, _, err = run("transactions", "cancel", resting["id"])
    assert code == 1
    assert "start the bot" in err
    assert list((tmp_path / "journal" / "commands").iterdir()) == []


def test_a_command_that_a_frozen_bot_does_not_take_is_withdrawn(start, run, tmp_path):
    bot = start()
    resting = bot.rest()
    until((tmp_path / "journal" / "commands").exists)
    bot.process.send_signal(signal.SIGSTOP)
    code, _, err = run("transactions", "cancel", resting["id"], "--timeout", "0.5")
    assert code == 1
    assert "withdrawn, nothing was done" in err
    bot.process.send_signal(signal.SIGCONT)
    assert bot.buy()["verdict"] == "COMPLETED"
    assert read_json(run, "transactions", "show", resting["id"])["cancels"] == []


def test_a_command_in_which_the_bot_died_is_answered_and_not_done_again(simulator, start, run, tmp_path):
    bot = start()
    resting = bot.rest()
    simulator.faults.add({"route": "POST /market/orders/update-status", "kind": "late", "seconds": 60})
    asking = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "hireliab",
            "transactions",
            "cancel",
            resting["id"],
            "--journal",
            str(tmp_path / "journal"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: list((tmp_path / "journal" / "commands").glob("*.running")))
    until(lambda: any("update-status" in r["path"] for r in read(tmp_path / "truth.jsonl") if r["kind"] == "request"))
    bot.kill()
    simulator.faults.clear()
    start()
    _, err = asking.communicate(timeout=30)
    assert asking.returncode == 1
    assert "interrupted" in err
    # The cancel's own row survives, and the next start goes on with it; the command is not done a second time.
    shown = until(lambda: (it := read_json(run, "transactions", "show", resting["id"]))["cancels"] and it)
    assert len(shown["cancels"]) == 1
    until(lambda: read_json(run, "transactions", "list")["unresolved"] == 0)
    assert len(read_json(run, "transactions", "show", resting["id"])["cancels"]) == 1
