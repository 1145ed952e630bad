"""
The three books that the checker compares, read with the standard library only: the exchange's truth file, the bot's
journal (plain sqlite3) and files of JSON lines.
"""

import json
import sqlite3
from collections import defaultdict

TERMINAL = {"COMPLETED", "FAILED", "ROLLED_BACK"}
OPEN = {"New", "Active", "Inactive"}
CLOCKS = 0.002  # seconds by which wall and monotonic clock may drift apart in a run
ADD, CANCEL = "/market/orders/add", "/market/orders/update-status"


def lines(path, *, torn=True):
    """
    Complete lines of a file of JSON objects. One that a SIGKILL has torn is none: the kernel gives up a write between
    two pages. `torn` says whether the file's writers are killed, so that there may be such lines.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    found = []
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            if line.strip():
                found.append(json.loads(line))
        except ValueError:
            if not torn:
                raise
    return found


class Truth:
    """What the exchange received and did."""

    def __init__(self, path, wall_minus_mono):
        self.offset = wall_minus_mono
        self.requests, self.by_n = [], {}
        self.versions = defaultdict(list)  # order id -> versions
        self.by_client = defaultdict(list)  # client order id -> order ids, in order of acceptance
        self.fills = defaultdict(list)
        for record in lines(path, torn=False):
            kind = record["kind"]
            if kind == "request":
                self.requests.append(record)
                self.by_n[record["n"]] = record
            elif kind == "outcome" and record["n"] in self.by_n:
                self.by_n[record["n"]].update(status=record["status"], code=record["code"], late=True)
            elif kind == "order":
                order = str(record["id"])
                if order not in self.versions:
                    self.by_client[record["client_order_id"]].append(order)
                self.versions[order].append(record)
            elif kind == "fill":
                self.fills[str(record["order_id"])].append(record)

    def wall(self, mono):
        """The machine's wall clock at a monotonic moment, Unix seconds."""
        return (mono + self.offset) / 1e9

    def last(self, order):
        return self.versions[order][-1]

    def adds(self):
        """Requests to place an order, by client order id; a proxy's second delivery is not one of ours."""
        found, seen = defaultdict(list), set()
        for request in self.requests:
            if request["path"].partition("?")[0] != ADD:
                continue
            key = (request["client_order_id"], request["received_mono"])
            if key not in seen:
                seen.add(key)
                found[request["client_order_id"]].append(request)
        for requests in found.values():
            requests.sort(key=lambda r: r["received_mono"])
        return found


class Journal:
    """The bot's journal."""

    def __init__(self, path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        self.sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
        self.rows = {row["txn_id"]: dict(row) for row in connection.execute("SELECT * FROM txn")}
        self.log = [dict(row) for row in connection.execute("SELECT * FROM txn_log ORDER BY seq")]
        self.fills = [dict(row) for row in connection.execute("SELECT * FROM fill")]
        self.events = [dict(row) for row in connection.execute("SELECT * FROM event ORDER BY seq")]
        connection.close()
        self.history = defaultdict(list)
        for entry in self.log:
            self.history[entry["txn_id"]].append(entry)
        self.orders = {row["client_order_id"]: row for row in self.rows.values() if row["kind"] == "ORDER"}
