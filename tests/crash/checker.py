"""
Compare what the exchange did with what the bot's journal and its promises say. Imports nothing of hireliab.

    python tests/crash/checker.py FOLDER

Reads ``truth.jsonl`` (the exchange's), ``journal/journal.db`` (plain sqlite3), ``promises.jsonl`` (written by the bot
before it asked and after it was told), ``heard.jsonl`` (the listener's), ``kills.jsonl`` and ``run.json`` (the driver's). Prints a table, then every
violation with the ids it is about. Exit code: 0 without a violation, 1 with one, 2 when a file makes no sense.

Kinds of violation: I1 a request without a durable intent before it; I2 more than one order, or a second sending of one
that may have been executed; I3 a verdict that is not true; I4 undecided, or decided otherwise than the exchange; I5 a
decided row that changed; I6 an event that was not heard, or out of order, or of nothing; I7 sums of fills; I9 a row without exactly one owner for each epoch, or written by one that was
dead or replaced; I10 more requests than the work is worth, or one that was throttled and came again too soon; I11 a
promise that the journal contradicts later; HALT an order that was sent although trading was halted; LIMIT a request
over a rate limit; LIVENESS too little was decided or done; HARNESS the run did not exercise what it should.
"""

import itertools
import json
import sqlite3
import sys
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

from books import CANCEL, CLOCKS, OPEN, TERMINAL, Journal, Truth, lines
from checks_conduct import Conduct
from checks_events import Events
from checks_kills import Kills

ZERO = Decimal(0)
SHOWN = 15  # violations of each kind that are printed


class Check(Conduct, Events, Kills):
    """Every comparison; `problems` is what was found."""

    def __init__(self, folder):
        self.run = json.loads((folder / "run.json").read_text())
        self.truth = Truth(folder / "truth.jsonl", self.run["wall_minus_mono"])
        self.journal = Journal(folder / "journal" / "journal.db")
        self.promises = lines(folder / "promises.jsonl")
        self.heard = lines(folder / "heard.jsonl", torn=False)
        self.kills = lines(folder / "kills.jsonl")
        self.adds = self.truth.adds()
        self.problems = []
        self.undecidable = []

    def blame(self, kind, text):
        self.problems.append((kind, text))

    def orders_of(self, txn):
        """The exchange's orders of a transaction: its id is the second half of the client order id."""
        return self.by_txn.get(txn, [])

    def all(self):
        self.by_txn = defaultdict(list)
        for client, orders in self.truth.by_client.items():
            self.by_txn[str(client).rpartition("-")[2]] += orders
        self.adds_by_txn = defaultdict(list)
        for client, requests in self.adds.items():
            self.adds_by_txn[str(client).rpartition("-")[2]] += requests
        if self.journal.sound != "ok":
            self.blame("I4", f"the journal is damaged: {self.journal.sound}")
        if self.run["restored"]:
            self.after_restore()
            return
        self.sent_after_intent()
        self.sent_once()
        self.obeyed_halts()
        self.cancels_after_intent()
        self.ends()
        self.history()
        self.events()
        self.lives = self.find_lives()
        self.owners()
        self.sums()
        self.listed_fills()
        self.verdicts()
        self.keys()
        self.calm()
        self.budget()
        self.phases = self.kill_phases()
        self.decided = self.decided_share()
        if self.run["limits"]:
            self.limits()
        self.requirements()

    def after_restore(self):
        """The journal came from a back-up: what it holds at the end must be what the exchange holds."""
        self.told, self.phases, self.decided, self.claims = Counter(), Counter(), Counter(), 0
        self.sums()
        self.ends()
        swept = {order for note in self.promises if note["t"] == "swept" for order in note["orders"]}
        adopted = [note["order_id"] for note in self.promises if note["t"] == "adopted"]
        words = {
            entry["txn_id"] for entry in self.journal.log if entry["cause"].startswith("T28 adopted by the campaign")
        }
        rows = {row["order_id"] for row in self.journal.rows.values() if row["txn_id"] in words}
        if not swept == set(adopted) == rows or len(adopted) != len(rows):
            self.blame("I4", f"orphans {sorted(swept)}, adopted {adopted}, rows of adopted orders {sorted(rows)}")
        if len(adopted) < self.run["require"]["adopted"]:
            self.blame("HARNESS", f"{len(adopted)} orders were adopted, {self.run['require']['adopted']} are required")
        for note in self.promises:
            if note["t"] == "dead":
                self.blame("I4", f"life {note['inc']}: something raised that must not: {note['error'][-600:]}")
        print(
            f"\ncrash campaign: stage restore, seed {self.run['seed']}: {len(self.truth.by_client)} orders at the exchange,"
        )
        print(f"  {len(self.journal.rows)} rows in the journal, {len(adopted)} of them adopted")

    # -- I1, I2: what was sent ------------------------------------------------------------------------------------

    def sent_after_intent(self):
        for client, requests in self.adds.items():
            row = self.journal.orders.get(client)
            sent = [] if row is None else self.intents(row["txn_id"], "SUBMITTING")
            if not sent:
                when = [request["received_mono"] for request in requests]
                self.blame("I1", f"order request {client} (received at {when}) has no SUBMITTING row in the journal")
                continue
            for number, request in enumerate(requests):
                received = self.truth.wall(request["received_mono"]) + CLOCKS
                earlier = sum(entry["wall"] <= received for entry in sent)
                if earlier < number + 1:
                    self.blame(
                        "I1",
                        f"transaction {row['txn_id']}: request n={request['n']} is number {number + 1} that the exchange"
                        f" received, but only {earlier} intents were written before {received:.6f}",
                    )

    def intents(self, txn, state):
        """When the transaction entered a sending state: one entry per attempt."""
        found, attempt = [], None
        for entry in self.journal.history[txn]:
            if entry["state"] == state and entry["attempt"] != attempt:
                attempt = entry["attempt"]
                found.append(entry)
        return found

    def sent_once(self):
        for client, orders in self.truth.by_client.items():
            if client is None:
                self.blame("I2", f"orders {orders} were accepted without a client order id")
            elif len(orders) > 1:
                self.blame("I2", f"client order id {client}: {len(orders)} orders were accepted: {', '.join(orders)}")
        for client, requests in self.adds.items():
            for before, after in itertools.pairwise(requests):
                if before["status"] == 429 or (before["status"] is None and before["fault"] == "throttle"):
                    continue  # refused by the limiter, before the order book
                self.blame(
                    "I2",
                    f"client order id {client}: sent again (n={after['n']}) although request n={before['n']} (fault"
                    f" {before['fault']}, status {before['status']}, code {before['code']}) was not proven unexecuted",
                )

    def cancels_after_intent(self):
        sent = defaultdict(list)
        for row in self.journal.rows.values():  # a cancel of its own, or the roll back of an order
            entries = [e["wall"] for e in self.journal.history[row["txn_id"]] if e["state"] == "CANCELLING"]
            sent[row["order_id"]] += entries[:1]
        self.cancel_intents = sent
        for request in self.truth.requests:
            if request["path"].partition("?")[0] != CANCEL:
                continue
            order = str(json.loads(request["body"])["order"])
            received = self.truth.wall(request["received_mono"]) + CLOCKS
            if not any(wall <= received for wall in sent[order]):
                self.blame("I1", f"cancel request n={request['n']} of order {order} has no CANCELLING row before it")

    # -- I4, I5, I7: the journal at the end -----------------------------------------------------------------------

    def ends(self):
        finals = [note for note in self.promises if note["t"] == "final"]
        if not finals:
            self.blame("I4", "the last life never ended: see worker.log")
        for client, orders in self.truth.by_client.items():
            row = self.journal.orders.get(client)
            if row is None:
                self.blame("I4", f"orders {', '.join(orders)} with client order id {client}: unknown to the journal")
            elif len(orders) == 1:
                self.end(row, orders[0])
        for row in self.journal.rows.values():
            if row["kind"] == "ORDER" and not self.truth.by_client.get(row["client_order_id"]):
                self.end_without_order(row)
            elif row["kind"] == "CANCEL" and row["state"] not in TERMINAL:
                self.blame("I4", f"cancel {row['txn_id']} of order {row['order_id']} is still {row['state']}")

    def end(self, row, order):
        """A row whose order the exchange accepted."""
        txn, truth, state = row["txn_id"], self.truth.last(order), row["state"]
        matched, fee, status = Decimal(truth["matched"]), Decimal(truth["fee"]), truth["status"]
        said = f"transaction {txn}: journal says {state} {row['proof']} order {row['order_id']} {row['order_status']}"
        said += f" filled {row['filled']} fee {row['fee']}; the exchange has order {order} {status} {matched} fee {fee}"
        if state not in TERMINAL:
            seen = (row["order_id"], row["order_status"], Decimal(row["filled"] or 0), Decimal(row["fee"] or 0))
            if row["commit_rule"] == "filled" and status in OPEN and seen == (order, status, matched, fee):
                return  # it rests, for an order of ours took the book that it was to cross: no answer is the answer
            self.blame("I4", said + f"; undecided, needs_human {row['needs_human']}, candidates {row['candidates']}")
            return
        if row["proof"] == "OPERATOR":
            self.undecidable.append(txn)
            if self.run["profile"] != "null-client-ids" or status in OPEN:
                self.blame("I4", said + "; a person had to decide what the exchange shows")
            elif (state == "COMPLETED") != (matched > 0):
                self.blame("I4", said)
            if state != "COMPLETED":
                return
        elif state == "FAILED":
            if status in OPEN or matched > 0:
                self.blame("I4", said)
            elif row["proof"] not in ("REJECTED", "CLOSED_UNFILLED"):
                self.blame("I4", said + "; there was an order")
            elif (row["proof"] == "REJECTED") != (status == "Rejected"):
                self.blame("I4", said)
        elif state == "COMPLETED":
            full = matched >= Decimal(truth["amount"])
            if status in OPEN and self.intents(txn, "CANCELLING"):
                self.blame("I4", said + "; it was to be rolled back")
            allowed = {"FILLED": full, "PARTIAL": status == "Canceled" and 0 < matched and not full, "LIVE": True}
            if not allowed.get(row["proof"], False):
                self.blame("I4", said)
        elif state == "ROLLED_BACK" and (row["proof"] != "CANCELLED" or status in OPEN or matched > 0):
            self.blame("I4", said)
        if row["order_id"] != order or row["order_status"] != status:
            self.blame("I4", said)
        elif Decimal(row["filled"]) != matched or Decimal(row["fee"]) != fee:
            self.blame("I7", said)

    def end_without_order(self, row):
        """A row that the exchange has no order for."""
        txn, state = row["txn_id"], row["state"]
        if state not in TERMINAL:
            self.blame("I4", f"transaction {txn}: {state} at the end, and the exchange has no order of it")
        elif state != "FAILED" or Decimal(row["filled"]) != ZERO:
            self.blame("I4", f"transaction {txn}: {state} {row['proof']} filled {row['filled']}, and there is no order")
        elif row["proof"] == "OPERATOR" and self.run["profile"] == "null-client-ids" and row["sent_wall"] is not None:
            self.undecidable.append(txn)  # another order looked like it
        elif row["proof"] not in ("NOT_SENT", "REJECTED", "ABSENT", "FENCED", "DENIED"):
            self.blame("I4", f"transaction {txn}: FAILED {row['proof']}, and the exchange never had an order of it")
        elif row["proof"] in ("NOT_SENT", "DENIED"):
            for request in self.adds_by_txn.get(txn, []):
                if not (request["status"] == 429 or request["fault"] == "throttle"):
                    self.blame("I3", f"transaction {txn}: {row['proof']}, but the exchange received n={request['n']}")

    def history(self):
        for txn, entries in self.journal.history.items():
            ended = None
            for before, entry in itertools.pairwise([None, *entries]):
                if before is not None and entry["version"] != before["version"] + 1:
                    self.blame(
                        "I5", f"transaction {txn}: version {before['version']} is followed by {entry['version']}"
                    )
                if ended is not None and entry["state"] != ended["state"]:
                    absent = ended["state"] == "FAILED" and ended["cause"].startswith(("T14", "T17"))
                    if not (absent and entry["state"] == "RESOLVING" and entry["cause"].startswith("T25")):
                        self.blame(
                            "I5", f"transaction {txn}: {ended['state']} ({ended['cause']}) became {entry['state']}"
                        )
                if entry["state"] not in TERMINAL:
                    ended = None
                elif ended is None:
                    ended = entry
            row = self.journal.rows.get(txn)
            if row is None or row["state"] != entries[-1]["state"] or row["version"] != entries[-1]["version"]:
                self.blame("I5", f"transaction {txn}: its row and the last entry of its log differ")

    def sums(self):
        for order, fills in self.truth.fills.items():
            if sum(Decimal(fill["amount"]) for fill in fills) != Decimal(self.truth.last(order)["matched"]):
                self.blame("HARNESS", f"truth file: the fills of order {order} are not its matched amount")
        known = {(str(fill["id"]), order): fill for order, fills in self.truth.fills.items() for fill in fills}
        for fill in self.journal.fills:
            real = known.get((fill["trade_id"], fill["order_id"]))
            if real is None or any(Decimal(real[name]) != Decimal(fill[name]) for name in ("amount", "price", "fee")):
                self.blame("I7", f"journal fill {fill['trade_id']} of {fill['txn_id']}: the exchange has {real}")

    def listed_fills(self):
        """What the library listed as the executions of an order is what there was, each once."""
        self.fills_compared = 0
        for note in self.promises:
            if note["t"] == "no_fills":
                self.blame("I7", f"transaction {note['txn']}: its fills could not be listed: {note['error']}")
            elif note["t"] == "fills":
                self.fills_compared += 1
                real = sorted((str(f["id"]), Decimal(f["amount"])) for f in self.truth.fills[note["order_id"]])
                told = sorted((trade, Decimal(amount)) for trade, amount in note["fills"])
                kept = sorted(
                    (f["trade_id"], Decimal(f["amount"])) for f in self.journal.fills if f["txn_id"] == note["txn"]
                )
                if not real == told == kept:
                    self.blame(
                        "I7", f"transaction {note['txn']}: the exchange has fills {real}, told {told}, journal {kept}"
                    )

    # -- I3, I11: what the caller was told ------------------------------------------------------------------------

    def verdicts(self):
        self.told = Counter()
        for note in self.promises:
            if note["t"] == "dead":
                self.blame("I4", f"life {note['inc']}: something raised that must not: {note['error'][-600:]}")
            elif note["t"] == "end":
                answer = note["error"] or str(note["value"])
                self.told[f"{answer} {note['verdict']}"] += 1
                self.promise(note)
            elif note["t"] == "end_cancel":
                self.told[f"cancel: {note['error'] or note['value']} {note.get('verdict', '')}".strip()] += 1
                if note["txn"] is not None:
                    self.cancel_promise(note)

    def promise(self, note):
        """One answer to `execute_transaction`."""
        txn, value, error = note["txn"], note["value"], note["error"]
        orders, row = self.orders_of(txn), self.journal.rows.get(txn)
        said = f"transaction {txn}: the caller was told {error or value} {note['verdict']} (order {note['order_id']},"
        said += f" {note['status']}, filled {note['filled']}, fee {note['fee']})"
        if not note["durable"]:
            self.blame("I3", said + "; not durable, but the journal never failed")
        if value is True or error == "PartialFillError":
            if len(orders) != 1 or note["order_id"] != orders[0]:
                self.blame("I3", f"{said}, but the exchange accepted {orders}")
                return
            if not self.was(orders[0], note):
                self.blame("I3", f"{said}, but the order was never like that before the answer")
            partial = self.truth.last(orders[0])["status"] == "Canceled" and note["verdict"] == "PARTIAL"
            if (error == "PartialFillError" or note["verdict"] == "PARTIAL") and not partial:
                self.blame("I3", f"{said}, but the order ended {self.truth.last(orders[0])['status']}")
            if row is None or row["state"] != "COMPLETED" or row["order_id"] != note["order_id"]:
                self.blame("I11", f"{said}, but the journal says {row and (row['state'], row['order_id'])}")
            elif Decimal(row["filled"]) < Decimal(note["filled"]):
                self.blame("I11", f"{said}, but the journal says filled {row['filled']}")
        elif value is False:
            for order in orders:
                then = [version for version in self.truth.versions[order] if version["mono"] <= note["mono"]]
                for version in (then[-1:] or [None]) + [self.truth.last(order)]:
                    if version is None or version["status"] in OPEN or Decimal(version["matched"]) > 0:
                        seen = version and (version["status"], version["matched"])
                        self.blame("I3", f"{said}, but order {order} was {seen} then, or at the end")
                        break
            if row is None and note["verdict"] != "NOT_SENT":
                self.blame("I11", f"{said}, but the journal does not know it")
            elif row is not None and (row["state"] not in ("FAILED", "ROLLED_BACK") or Decimal(row["filled"]) != ZERO):
                self.blame("I11", f"{said}, but the journal says {row['state']}, filled {row['filled']}")
            elif row is not None and row["proof"] != note["proof"]:
                self.blame("I11", f"{said} because of {note['proof']}, but the journal says {row['proof']}")
        elif error == "OutcomeUnknownError":
            if note["verdict"] == "ABSENT" and orders:
                self.blame("I3", f"{said}, but the exchange accepted {orders}")
        elif error in ("TransactionDeniedError", "InvalidOrderError"):
            if any(
                request["status"] != 429 and request["fault"] != "throttle" for request in self.adds_by_txn.get(txn, [])
            ):
                self.blame("I3", f"{said}, but the exchange received it")  # throttled ones were proven not placed
        else:
            self.blame("I3", f"{said}: no answer that the contract knows")
        if value is False and note["verdict"] == "NOT_SENT":
            for request in self.adds_by_txn.get(txn, []):
                if not (request["status"] == 429 or request["fault"] == "throttle"):
                    self.blame("I3", f"{said}, but the exchange received n={request['n']}")

    def was(self, order, note):
        """Whether the order looked as told at some moment before the answer."""
        return any(
            version["mono"] <= note["mono"]
            and version["status"] == note["status"]
            and Decimal(version["matched"]) == Decimal(note["filled"])
            and Decimal(version["fee"]) == Decimal(note["fee"])
            for version in self.truth.versions[order]
        )

    def cancel_promise(self, note):
        """One answer to `cancel`."""
        row = self.journal.rows.get(note["txn"])
        said = f"cancel {note['txn']} of order {note['order_id']}: the caller was told {note['error'] or note['value']}"
        said += f" {note['verdict']} filled {note['filled']}"
        if note["verdict"] in ("CANCELLED", "PARTIAL", "COMPLETED"):
            if not self.was(note["order_id"], note):
                self.blame("I3", said + ", but the order was never like that before the answer")
            if row is None or row["state"] not in ("COMPLETED", "ROLLED_BACK"):
                self.blame("I11", f"{said}, but the journal says {row and row['state']}")
            if (note["value"] is True) != (note["verdict"] != "COMPLETED"):
                self.blame("I3", said)
        elif note["value"] is True:
            self.blame("I3", said)

    def keys(self):
        """At most one accepted order for each idempotency key, over all lives."""
        orders = defaultdict(set)
        for note in self.promises:
            if note["t"] == "begin":
                orders[note["key"]].update(self.orders_of(note["txn"]))
        for key, accepted in orders.items():
            if len(accepted) > 1:
                self.blame("I2", f"idempotency key {key}: {len(accepted)} orders were accepted: {sorted(accepted)}")

    def calm(self):
        """With faults off, every order that can be paid for is a success."""
        asked = {n["txn"]: n for n in self.promises if n["t"] == "begin" and n["stage"] == "calm"}
        answers = {n["txn"]: n for n in self.promises if n["t"] == "end" and n["stage"] == "calm"}
        self.calm_count = len(asked)
        for txn, note in asked.items():
            answer = answers.get(txn)
            if any(self.truth.last(order)["reason"] == "collar" for order in self.orders_of(txn)):
                continue  # the price of our own resting orders was in its way, and the exchange closed it
            if any(request["code"] == "PriceConditionFailed" for request in self.adds_by_txn[txn]):
                continue  # our own orders had moved the price past its trigger
            if answer is None or answer["value"] is not True:
                told = (
                    None
                    if answer is None
                    else (answer["error"] or answer["value"], answer["verdict"], answer["reason"])
                )
                self.blame("LIVENESS", f"faults off: transaction {txn} ({note['kind']}): the caller was told {told}")
        for note in self.promises:
            if note["t"] == "refused":
                self.blame("LIVENESS", f"key {note['key']}: create_transaction raised {note['error']}: {note['text']}")


def main(folder):
    check = Check(Path(folder))
    check.all()
    if not check.run["restored"]:
        check.table()
    (Path(folder) / "report.json").write_text(json.dumps(check.report()))
    kinds = Counter(kind for kind, _ in check.problems)
    shown = Counter()
    for kind, text in check.problems:
        shown[kind] += 1
        if shown[kind] <= SHOWN:
            print(f"VIOLATION {kind}: {text}")
    for kind, number in sorted(kinds.items()):
        if number > SHOWN:
            print(f"... and {number - SHOWN} more of kind {kind}")
    print("violations: " + (", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items())) or "none"))
    return 1 if check.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        import traceback

        traceback.print_exc()
        print(f"checker: cannot read the run: {error!r}")
        sys.exit(2)
