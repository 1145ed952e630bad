"""
The crash campaign with other bots: the same exchange, faults, orders and kills, and what each got wrong.

    python tests/crash/baselines.py --kills 150 --seed 7 [--bots hireliab,naive,dbos,dbos-careful] [--keep DIR]

Each bot trades market orders and resting limit orders with eight threads in "stormy" weather, is killed again and
again by the same plan, and gets a last life without faults in which it asks again for every order that it began and
never finished. Lives are counted from the moment that a bot is ready, so that a slow start costs nobody its time to
trade; every fifth life or so ends before or soon after that. Then a bot's own books are compared with the exchange's
truth file:

duplicates   orders beyond the first that came to be for one order of the bot; "by kills" are those of them that a later
             life sent, the others are retries within one life
orphans      orders at the exchange that the bot does not know, or believes not placed (a duplicate that the bot does
             not know is one, too)
wrong        final verdicts that are not true: "placed" without an order or naming one that is not there, "not placed"
             with an order
unresolved   orders of which the bot says itself that it does not know

An order that the exchange refused, or closed unfilled, counts nowhere. A bot that lost the answer and says so is
believed: the order that it means is no orphan. hireliab's bot is that of worker.py; it also cancels some of its resting
orders, and is examined by checker.py besides. Exit code: 0 when hireliab had none of the first three, 1 otherwise, 2
when the campaign could not run. What the others got wrong changes no exit code.
"""

import argparse
import bisect
import importlib.util
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import campaign  # noqa: E402
from books import OPEN, TERMINAL, Journal, Truth, lines  # noqa: E402

KINDS = ("market", "resting")
BOTS = {
    "hireliab": "hireliab",
    "naive": "requests + 3 retries, file of finished orders",
    "dbos": "DBOS workflow, as documented",
    "dbos-careful": "DBOS + fixed client order id + look before sending",
}
READY = 20.0  # seconds that a bot has to become ready


@dataclass
class Row:
    """What one bot did."""

    bot: str
    installed: bool = True
    kills: int = 0
    asked: int = 0  # orders that the bot began
    sent: int = 0  # order requests that the exchange received
    accepted: int = 0  # orders that came to be
    duplicates: int = 0
    after_kill: int = 0  # of the duplicates: sent in a later life than the first
    orphans: int = 0
    wrong: int = 0
    unresolved: int = 0
    seconds: float = 0.0
    ready: float = 0.0  # median seconds from a bot's first line to "ready"
    checker: str = ""  # what checker.py says, for hireliab
    examples: tuple[str, ...] = ()

    def per_thousand(self, name):
        return 1000 * getattr(self, name) / self.asked if self.asked else 0.0


class Options(argparse.Namespace):
    """The campaign's options; one that it learns later is simply not given."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class BaselineCampaign(campaign.Campaign):
    """The kills and the exchange of campaign.py around any of the bots."""

    def __init__(self, folder, bot, kills, seed, weather="stormy"):
        folder.mkdir(parents=True, exist_ok=True)
        options = Options(kills=kills, seed=seed, profile="default", stage="baselines", break_=None, quiet=True)
        super().__init__(folder, options)
        self.bot, self.kills_wanted, self.storm_weather = bot, kills, weather

    def start(self):
        super().start()
        if self.bot != "hireliab":
            self.zygote.end()
            command = [str(HERE / "baseline_worker.py"), str(self.folder), self.bot]
            self.zygote = campaign.Child(command, self.folder / "zygote.log")

    def plan(self, **more):
        plan = super().plan(kinds=KINDS, **more)
        plan["venue"] = {**plan["venue"], "token": self.venue["token"]}
        return plan

    def requirements(self):
        return {}

    def await_ready(self):
        """Wait until the bot of this life has said that it is ready."""
        mark, give_up = f'"inc": {self.inc}', time.monotonic() + READY
        while time.monotonic() < give_up:
            for line in self.promises.read_text().splitlines()[-400:] if self.promises.exists() else ():
                if '"t": "ready"' in line and mark in line:
                    return
            time.sleep(0.005)
        raise campaign.CampaignError(f"{self.bot}: life {self.inc} was not ready within {READY:g} s; see worker.log")

    def cycle(self, n):
        rng = random.Random(f"{self.seed}/baseline kill/{n}")
        deck = list(campaign.DECK)
        random.Random(f"{self.seed}/baseline deck/{n // len(deck)}").shuffle(deck)
        mode, life = deck[n % len(deck)], rng.uniform(0.2, 2.5)
        pid = self.fork(self.plan())
        if mode == "early" and n % 2:
            time.sleep(rng.uniform(0.0, 0.09))
        else:
            self.await_ready()
            time.sleep(rng.uniform(0.0, 0.3) if mode == "early" else life)
        if mode == "received":
            campaign.watch(self.truth, b"/market/orders/add", 1.0)
        elif mode == "begun":
            campaign.watch(self.promises, b'"begin"', 1.0)
            time.sleep(rng.uniform(0, 0.003))
        elif mode == "held":
            stopped = self.exchange.process
            stopped.send_signal(signal.SIGSTOP)
            try:
                time.sleep(rng.uniform(0.005, campaign.HOLD / 2))
                self.kill(pid, n=n, mode=mode)
            finally:
                stopped.send_signal(signal.SIGCONT)
            return
        self.kill(pid, n=n, mode=mode)

    def storm(self):
        self.weather(self.storm_weather)
        for n in range(self.kills_wanted):
            if n % 5 == 4:
                self.sweep()
            self.cycle(n)

    def last_life(self):
        self.weather("calm")
        self.admin("POST", "/settings", {"reject_probability": 0})
        self.faults_off = time.time()
        self.run_last(settle=25.0, calm=0)

    def check(self):
        (self.folder / "run.json").write_text(json.dumps(self.facts()))
        if self.bot != "hireliab":
            return ""
        done = subprocess.run(
            [sys.executable, str(HERE / "checker.py"), str(self.folder)], capture_output=True, text=True, check=False
        )
        (self.folder / "checker.txt").write_text(done.stdout + done.stderr)
        last = [line for line in done.stdout.splitlines() if line.startswith("violations:")]
        return last[-1] if last else f"checker.py: exit code {done.returncode}"


# -- the books -------------------------------------------------------------------------------------------------------


def came_to_be(truth, order):
    """Whether an order lived, filled, or was cancelled by its owner: refused and unfilled ones are nobody's loss."""
    last = truth.last(order)
    return last["status"] in OPEN or Decimal(last["matched"]) > 0 or last.get("reason") == "cancel"


def hireliab_books(folder, numbers):
    """From journal and promises: order number by client order id, and what the bot believes of each number."""
    journal = Journal(folder / "journal" / "journal.db")
    by_client = {
        row["client_order_id"]: numbers[row["txn_id"]]
        for row in journal.rows.values()
        if row["kind"] == "ORDER" and row["txn_id"] in numbers
    }
    rows, beliefs = defaultdict(list), {}
    for row in journal.rows.values():
        if row["kind"] == "ORDER" and row["txn_id"] in numbers:
            rows[numbers[row["txn_id"]]].append(row)
    for i, own in rows.items():
        placed = [row for row in own if row["state"] in ("COMPLETED", "ROLLED_BACK") and row["order_id"]]
        if placed:
            beliefs[i] = {"belief": "placed", "order": placed[0]["order_id"]}
        elif any(row["state"] not in TERMINAL for row in own):
            beliefs[i] = {"belief": "unknown", "order": None}
        else:
            beliefs[i] = {"belief": "not placed", "order": None}
    for i in numbers.values():  # begun, but never written down: the library says that nothing was sent
        beliefs.setdefault(i, {"belief": "not placed", "order": None})
    return by_client, beliefs


def baseline_books(folder, truth):
    """The same for the others: the client order id names the number, the belief file the rest."""
    by_client = {client: int(client.split("-")[1]) for client in truth.by_client if client}
    path = folder / "belief.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    return by_client, {int(key.rpartition("-")[2]): belief for key, belief in told.items()}


def compare(folder, bot, row):
    """Fill in a row from the books of a folder."""
    run = json.loads((folder / "run.json").read_text())
    truth, promises = Truth(folder / "truth.jsonl", run["wall_minus_mono"]), lines(folder / "promises.jsonl")
    numbers = {note["txn"]: note["i"] for note in promises if note["t"] == "begin"}
    if bot == "hireliab":
        by_client, beliefs = hireliab_books(folder, numbers)
    else:
        by_client, beliefs = baseline_books(folder, truth)
    orders, strangers = defaultdict(list), []
    for client, accepted in truth.by_client.items():
        alive = [order for order in accepted if came_to_be(truth, order)]
        if client in by_client:
            orders[by_client[client]] += alive
        else:
            strangers += alive
    row.asked = len(set(numbers.values()))
    row.sent = sum(map(len, truth.adds().values()))
    row.accepted = sum(map(len, orders.values())) + len(strangers)
    kills = [kill for kill in lines(folder / "kills.jsonl") if kill["killed"] and kill["n"] >= 0]
    row.kills, ends = len(kills), [kill["mono"] for kill in kills]
    starts = {note["inc"]: note["mono"] for note in promises if note["t"] == "start"}
    waits = [(note["mono"] - starts[note["inc"]]) / 1e9 for note in promises if note["t"] == "ready"]
    row.ready = statistics.median(waits) if waits else 0.0
    row.orphans = len(strangers)
    examples = [f"order {order}: nobody's" for order in strangers]
    for i in sorted(set(numbers.values()) | set(orders)):
        alive, belief = orders[i], beliefs.get(i, {"belief": "none", "order": None})
        lives = sorted(bisect.bisect(ends, truth.versions[order][0]["mono"]) for order in alive)
        row.duplicates += max(0, len(alive) - 1)
        row.after_kill += sum(life > lives[0] for life in lives[1:])
        word = belief["belief"]
        known = {"placed": 1, "unknown": 1}.get(word, 0)  # one order is the one that it means
        lost = max(0, len(alive) - known)
        row.orphans += lost
        wrong = (word == "placed" and not alive) or (word == "not placed" and bool(alive))
        wrong = wrong or (word == "placed" and belief["order"] is not None and belief["order"] not in alive)
        row.wrong += wrong
        row.unresolved += word in ("unknown", "none")
        if len(alive) > 1 or lost or wrong:
            examples.append(f"number {i}: orders {alive}, the bot says {belief}")
    row.examples = tuple(examples[:5])
    return row


# -- all of it -------------------------------------------------------------------------------------------------------


def is_installed(bot):
    return not bot.startswith("dbos") or importlib.util.find_spec("dbos") is not None


def run(kills, seed, folder, *, bots=tuple(BOTS), weather="stormy", say=lambda text: None):
    """
    The campaign with each of the bots, one after the other.

    Args:
        kills: For each bot.
        folder: Where each bot's files go, in a folder of its name.
        weather: Of the exchange while bots are killed, see campaign.py; "calm" shows the kills alone.
        say: Called with a line of progress.

    Returns:
        One `Row` for each bot, in order; `installed` is False where a bot's library is missing.
    """
    rows = []
    for bot in bots:
        row = Row(bot)
        rows.append(row)
        if not is_installed(bot):
            row.installed = False
            continue
        began = time.monotonic()
        one = BaselineCampaign(Path(folder) / bot, bot, kills, seed, weather)
        row.checker = one.run()
        row.seconds = time.monotonic() - began
        compare(one.folder, bot, row)
        say(f"  {bot}: {row.kills} kills, {row.asked} orders, {row.seconds:.0f} s")
    return rows


def table(rows, kills, seed, weather="stormy"):
    """The rows as text; per 1,000 orders that the bot began, with the count in parentheses."""
    counts = ("duplicates", "after_kill", "orphans", "wrong", "unresolved")
    heads = {"after_kill": "by kills"}
    text = [
        f"per 1,000 orders, counts in parentheses; {kills} kills each, seed {seed}, weather {weather}",
        f"{'':<52}{'kills':>6}{'orders':>8}{'ready':>8}" + "".join(f"{heads.get(name, name):>14}" for name in counts),
    ]
    for row in rows:
        line = f"{BOTS[row.bot]:<52}"
        if row.installed:
            line += f"{row.kills:>6}{row.asked:>8}{row.ready:>6.2f} s"
            line += "".join(f"{row.per_thousand(name):.1f} ({getattr(row, name)})".rjust(14) for name in counts)
        else:
            line += "  not installed"
        text.append(line)
    text += [f"checker.py about hireliab: {row.checker}" for row in rows if row.checker]
    return "\n".join(text)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=150, help="for each bot")
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock; it is printed")
    parser.add_argument("--bots", default=",".join(BOTS), help="some of: " + ", ".join(BOTS))
    parser.add_argument("--weather", choices=("stormy", "calm"), default="stormy", help="calm: kills alone")
    parser.add_argument("--keep", metavar="DIR", default=None, help="keep all files there")
    parser.add_argument("--json", metavar="FILE", default=None, help="write the rows there")
    options = parser.parse_args(arguments)
    seed = int(time.time()) % 1_000_000 if options.seed is None else options.seed
    bots = tuple(options.bots.split(","))
    if set(bots) - set(BOTS):
        parser.error(f"--bots: {', '.join(set(bots) - set(BOTS))}: some of {', '.join(BOTS)} are expected")
    folder = Path(options.keep or tempfile.mkdtemp(prefix="hireliab-baselines-"))
    again = f"--kills {options.kills} --seed {seed} --bots {options.bots} --weather {options.weather}"
    print(f"seed {seed}; once more: python tests/crash/baselines.py {again}", flush=True)
    try:
        rows = run(
            options.kills, seed, folder, bots=bots, weather=options.weather, say=lambda text: print(text, flush=True)
        )
    except campaign.CampaignError as error:
        print(f"baselines: {error}; see {folder}")
        return 2
    print(table(rows, options.kills, seed, options.weather))
    for row in rows:
        for example in row.examples:
            print(f"  {row.bot}: {example}")
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows]))
    ours = sum(row.duplicates + row.orphans + row.wrong for row in rows if row.bot == "hireliab")
    if options.keep is None and not ours:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"files: {folder}")
    return 1 if ours else 0


if __name__ == "__main__":
    sys.exit(main())
