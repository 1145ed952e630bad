"""How the bot behaved at the exchange and in its journal: owners, halts, and how much it asked for. Part of checker.py."""

import bisect
import itertools
import json
from collections import Counter

from books import ADD, CANCEL, CLOCKS, TERMINAL

# Section 4.2 of the public API documents: requests and seconds.
LIMITS = {
    "/market/orders/add": (300, 600),
    "/market/orders/list": (30, 60),
    "/market/trades/list": (30, 60),
    "/market/orders/status": (300, 60),
    "/market/orders/update-status": (90, 60),
    "/v3/orderbook/": (300, 60),
    "/market/stats": (20, 60),
    "/v2/wallets": (15, 60),
}


class Conduct:
    """I9, I10, HALT and LIMIT; the other half of `Check` knows the books."""

    # -- I9: owners -----------------------------------------------------------------------------------------------

    def find_lives(self):
        """Owner -> (from, until), wall seconds: one owner is one life of the bot."""
        dead = {kill["inc"]: kill["wall"] for kill in self.kills}
        return {
            note["owner"]: (note["wall"], dead.get(note["inc"], float("inf")))
            for note in self.promises
            if note["t"] == "owner"
        }

    def owners(self):
        """Each version of a row was written in the life that owned it; owners change by a claim, with a new epoch."""
        owned = sorted((begin, end, owner) for owner, (begin, end) in self.lives.items())
        starts = [life[0] for life in owned]
        self.claims = 0
        for txn, entries in self.journal.history.items():
            row, epoch, owner = self.journal.rows.get(txn), None, None
            for entry in entries:
                place = bisect.bisect(starts, entry["wall"] + CLOCKS) - 1
                writer = owned[place][2] if place >= 0 else None
                if writer is None or entry["wall"] > owned[place][1] + CLOCKS:
                    self.blame("I9", f"transaction {txn}: version {entry['version']} was written when no bot lived")
                claimed = entry["cause"].startswith("T27")
                self.claims += claimed
                if epoch is None:
                    epoch, owner = 1, writer
                elif claimed:
                    epoch, owner = epoch + 1, writer
                    if not entry["cause"].endswith(writer or "nobody"):
                        self.blame("I9", f"transaction {txn}: {entry['cause']!r} was written by {writer}")
                elif writer != owner and entry["state"] not in TERMINAL:
                    # Only what is decided may be kept up to date by a later life without a claim.
                    self.blame(
                        "I9",
                        f"transaction {txn}: version {entry['version']} ({entry['cause']}) was written by {writer}, and"
                        f" its owner was {owner} with epoch {epoch}",
                    )
                elif writer != owner and entry["cause"].startswith("T"):
                    self.blame("I9", f"transaction {txn}: decided ({entry['cause']}) by {writer}, owned by {owner}")
                for name, real in (("owner", owner), ("epoch", epoch)):
                    if name in entry and entry[name] != real and entry["state"] not in TERMINAL:
                        self.blame(
                            "I9", f"transaction {txn}: version {entry['version']} says {name} {entry[name]}, not {real}"
                        )
            if row is not None and epoch is not None and "epoch" in row and row["sent_wall"] is not None:
                if (row["epoch"], row["owner"]) != (epoch, owner):
                    self.blame(
                        "I9",
                        f"transaction {txn}: its row says owner {row['owner']} epoch {row['epoch']}; its log says owner"
                        f" {owner} epoch {epoch}",
                    )

    # -- I10: how much was asked of the exchange ------------------------------------------------------------------

    def budget(self):
        """No storm of requests: what was throttled waits, and reads are bounded by the work and by the time."""
        back_off = 1e9  # ns: what the campaign's throttle asks for
        for client, requests in self.adds.items():
            for before, after in itertools.pairwise(requests):
                throttled = before["status"] == 429 or before["fault"] == "throttle"
                if throttled and after["received_mono"] - before["received_mono"] < back_off:
                    early = (after["received_mono"] - before["received_mono"]) / 1e9
                    self.blame("I10", f"client order id {client}: throttled, and sent again after {early:.3f} s")
        self.throttled_reads()
        lived, begun = 0.0, [note["wall"] for note in self.promises if note["t"] == "start"]
        last = max((note["wall"] for note in self.promises), default=0.0)
        for begin, end in self.lives.values():
            lived += min(end, last) - begin
        orders = sum(map(len, self.adds.values()))
        cancels = Counter(
            str(json.loads(r["body"])["order"]) for r in self.truth.requests if r["path"].startswith(CANCEL)
        )
        reads = [r for r in self.truth.requests if r["path"].partition("?")[0] not in (ADD, CANCEL)]
        # The first page of each: how many follow depends on how much was traded.
        firsts = ("/market/orders/list", "/market/trades/list?page=1&")
        listings = sum(r["path"].startswith(firsts) for r in reads)
        pages = sum(r["path"].startswith("/market/trades/list") for r in reads)
        interval = self.run["listing_interval"]
        # Two kinds of listings; a look that failed on a connection is made once more.
        self.spent = {
            "reads": (len(reads) - pages, 15 * (orders + sum(cancels.values())) + 12 * lived + 30 * len(begun)),
            "listings": (listings, 4 * lived / interval + 10 * len(begun)),
            "cancels": (sum(cancels.values()), 4 * sum(map(len, self.cancel_intents.values())) + lived / 3),
        }
        for what, (number, most) in self.spent.items():
            if number > most:
                self.blame(
                    "I10", f"{number} {what}, at most {most:.0f} are allowed for {orders} orders in {lived:.0f} s"
                )

    def throttled_reads(self):
        """
        The same read does not come again before the pause is over; one that was under way already, or that the next
        life makes, may. Few of them: which is which cannot be told exactly.
        """
        starts = sorted(begin for begin, _ in self.lives.values())
        last, throttled, early = {}, 0, []
        for request in self.truth.requests:
            key = (request["path"], request["body"])
            if request["path"].startswith((ADD, CANCEL)):
                continue
            before = last.pop(key, None)
            if before is not None:
                passed = (request["received_mono"] - before["received_mono"]) / 1e9
                walls = [self.truth.wall(r["received_mono"]) for r in (before, request)]
                if 0.1 < passed < 0.95 and bisect.bisect(starts, walls[0]) == bisect.bisect(starts, walls[1]):
                    early.append(f"n={request['n']} after {passed:.2f} s")
            if request["fault"] == "throttle" or request["status"] == 429:
                throttled += 1
                last[key] = request
        if self.run["pauses"] and len(early) > max(2, throttled / 10):
            self.blame(
                "I10", f"{len(early)} of {throttled} throttled reads came again too soon: {', '.join(early[:5])}"
            )

    def obeyed_halts(self):
        """While the file HALT was there, nothing was sent that it forbids; half a second for what was on its way."""
        self.halted = 0.0
        for mode, begin, ended in self.run["halts"]:
            end = ended or float("inf")
            self.halted += (end - begin) / 1e9
            for requests in self.adds.values():
                for request in requests:
                    forbidden = mode == "HALTED" or '"type":"buy"' in request["body"].replace(" ", "")
                    if forbidden and begin + 5e8 < request["received_mono"] < end:
                        self.blame("HALT", f"request n={request['n']} was sent while trading was {mode}")

    def limits(self):
        """No request over a limit: 429 answers, bans, and our own count of every window."""
        self.most = {}
        for request in self.truth.requests:
            if request["status"] == 429:
                self.blame(
                    "LIMIT", f"request n={request['n']} {request['path'][:60]} was answered 429 ({request['code']})"
                )
        for path, (allowed, seconds) in LIMITS.items():
            times = sorted(r["received_mono"] / 1e9 for r in self.truth.requests if r["path"].startswith(path))
            most = max((i + 1 - bisect.bisect_right(times, t - seconds) for i, t in enumerate(times)), default=0)
            self.most[path] = (most, allowed, seconds)
            if most > allowed:
                self.blame("LIMIT", f"{path}: {most} requests within {seconds} s, {allowed} are allowed")
