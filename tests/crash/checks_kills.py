"""What the kills hit, whether that was enough, and the table. Part of checker.py."""

import bisect
from collections import Counter, defaultdict
from decimal import Decimal

from books import OPEN, TERMINAL


class Kills:
    """HARNESS and LIVENESS, and what is printed; the other half of `Check` knows the books."""

    # -- what the kills hit ---------------------------------------------------------------------------------------

    def kill_phases(self):
        """For each kill, what was in flight: from the journal's log, the truth file and the promise log."""
        begun, past_gate, ended, starts, ready = defaultdict(set), defaultdict(set), defaultdict(set), {}, {}
        for note in self.promises:
            if note["t"] == "begin":
                begun[note["inc"]].add(note["txn"])
            elif note["t"] == "past_gate":
                past_gate[note["inc"]].add(note["txn"])
            elif note["t"] == "end":
                ended[note["inc"]].add(note["txn"])
            elif note["t"] == "start":
                starts[note["inc"]] = note
            elif note["t"] == "ready":
                ready[note["inc"]] = note
        state, submitted, position, log = {}, set(), 0, self.journal.log
        open_at_start, histogram = set(), Counter()
        for kill in self.kills:
            while position < len(log) and log[position]["wall"] <= kill["wall"]:
                state[log[position]["txn_id"]] = log[position]["state"]
                if log[position]["state"] == "SUBMITTING":
                    submitted.add(log[position]["txn_id"])
                position += 1
            now_open = {txn for txn, is_ in state.items() if is_ not in TERMINAL}
            labels, inc = set(), kill["inc"]
            old = open_at_start & now_open - set(self.undecidable)
            if inc not in starts:
                labels.add("before its first line")
            elif inc not in ready:
                labels.add("in start(), rows to recover" if open_at_start else "in start(), nothing to recover")
            elif old:
                labels.add("recovered rows undecided")
            if "in start(), rows to recover" in labels or "recovered rows undecided" in labels:
                labels.add("during recovery")
            for txn in now_open:
                if txn in open_at_start and txn in self.undecidable:
                    labels.add("only a person can decide a row")
                elif state[txn] == "SUBMITTING" and txn not in old:
                    labels.add("submitting")
                    labels.add("after the send" if self.adds_by_txn.get(txn) else "intent durable, nothing received")
                elif state[txn] in ("ACKED", "WORKING"):
                    labels.add("acknowledged, being read back")
                elif state[txn] in ("RESOLVING", "UNKNOWN"):
                    labels.add("being resolved")
                elif state[txn] == "CANCELLING":
                    labels.add("cancelling")
            for txn in begun[inc] - submitted - ended[inc]:
                labels.add("before the barrier" if txn in past_gate[inc] else "waiting at the gate")
            histogram.update(labels or {"idle"})
            if inc in starts:  # a life that never began has changed nothing
                open_at_start = now_open
        return histogram

    def decided_share(self):
        """
        Of the orders sent while faults were on: how many were decided within the bound of uninterrupted life, counted
        from the send or from the restart. An order that a kill took from under the clock is counted apart.
        """
        bound, off = self.run["bound"], self.run["faults_off"]
        lives, kills = [], {kill["inc"]: kill["wall"] for kill in self.kills}
        ready = {note["inc"]: note["wall"] for note in self.promises if note["t"] == "ready"}
        for inc, wall in sorted(ready.items()):
            lives.append((wall, kills.get(inc, float("inf"))))
        starts = [life[0] for life in lives]
        counts = Counter()
        for txn, entries in self.journal.history.items():
            row = self.journal.rows.get(txn)
            sends = [entry["wall"] for entry in entries if entry["state"] == "SUBMITTING"]
            if row is None or row["kind"] != "ORDER" or not sends or sends[0] >= off or txn in self.undecidable:
                continue
            decided = next((entry["wall"] for entry in entries if entry["state"] in TERMINAL), float("inf"))
            verdict = "cut short"
            for begin, end in lives[max(0, bisect.bisect(starts, sends[0]) - 1) :]:
                since = max([begin, *(wall for wall in sends if wall <= max(begin, sends[0]))])
                until = min(decided, end, off)
                if since >= until and decided > end:
                    continue
                if min(until, decided) - since > bound:
                    verdict = "late"
                    break
                if decided <= min(end, off):
                    verdict = "in time"
                    break
            counts[verdict] += 1
        return counts

    def requirements(self):
        need, kills = self.run["require"], [kill for kill in self.kills if kill["killed"]]
        for kill in self.kills:
            if not kill["killed"]:
                self.blame("LIVENESS", f"life {kill['inc']} ended by itself before kill {kill['n']}: see worker.log")
        accepted = sum(map(len, self.truth.by_client.values()))
        if len(kills) < need.get("kills", 0):
            self.blame("HARNESS", f"{len(kills)} kills, {need['kills']} are required")
        if accepted < need.get("accepted", 0):
            self.blame("LIVENESS", f"{accepted} orders were accepted, {need['accepted']} are required")
        for phase, share in need.get("shares", {}).items():
            if self.phases[phase] < share * len(kills):
                self.blame("HARNESS", f"{self.phases[phase]} of {len(kills)} kills {phase}, {share:.0%} are required")
        timed = self.decided["in time"] + self.decided["late"]
        if "decided" in need and self.decided["in time"] < need["decided"] * timed:
            self.blame("LIVENESS", f"{self.decided['in time']} of {timed} orders decided within the bound")
        unknown = sum(any(e["state"] == "RESOLVING" for e in h) for h in self.journal.history.values())
        if unknown < need.get("unknown", 0):
            self.blame("HARNESS", f"{unknown} orders were unknown for a time, {need['unknown']} are required")

        for label in need.get("labels", ()):
            if not any(name.startswith(label) for name, number in self.run["deaths"].items() if number):
                self.blame("HARNESS", f"no life died at {label}; it was passed {self.run['hits'].get(label, 0)} times")

    # -- the table ------------------------------------------------------------------------------------------------

    def table(self):
        run, kills = self.run, len(self.kills)
        accepted = [self.truth.last(order) for orders in self.truth.by_client.values() for order in orders]
        unknown = sum(any(e["state"] == "RESOLVING" for e in h) for h in self.journal.history.values())
        print(
            f"\ncrash campaign: stage {run['stage']}, profile {run['profile']}, seed {run['seed']}, break {run['break']}"
        )
        print(f"  requests {len(self.truth.requests)}, order requests {sum(map(len, self.adds.values()))}")
        print(f"  orders accepted {len(accepted)}: " + count(self.end_of(order) for order in accepted))
        print("  faults on order requests: " + count(r["fault"] for rs in self.adds.values() for r in rs if r["fault"]))
        print(
            "  journal: "
            + count(f"{row['kind']} {row['state']} {row['proof']}".strip() for row in self.journal.rows.values())
        )
        print(f"  unknown for a time: {unknown}; undecidable in this profile: {len(self.undecidable)}")
        print(
            f"  faults off: {self.calm_count} fundable orders asked for; fills of {self.fills_compared} orders compared"
        )
        kept, heard, again = self.heard_counts
        print(f"  events in the journal: {kept}; heard: {heard}, of them again: {again}")
        print(f"  rows claimed by a later life: {self.claims}; seconds halted: {self.halted:.1f}")
        print(
            "  requests, and the most that is allowed: "
            + ", ".join(f"{w} {n} of {m:.0f}" for w, (n, m) in self.spent.items())
        )
        timed = self.decided["in time"] + self.decided["late"]
        share = f"{self.decided['in time'] / timed:.1%}" if timed else "none"
        print(
            f"  decided within {run['bound']:g} s with faults on: {share} ({self.decided['in time']} in time,"
            f" {self.decided['late']} late, {self.decided['cut short']} cut short by a kill or by the faults' end)"
        )
        print("  told to callers:")
        for answer, number in sorted(self.told.items()):
            print(f"    {answer:<48}{number:>6}")
        print(f"  in flight at {kills} kills (a kill may hit several):")
        for phase, number in self.phases.most_common():
            print(
                f"    {phase:<48}{number:>6}  {number / max(1, kills):>5.0%} {'#' * round(40 * number / max(1, kills))}"
            )
        if "deaths" in run:
            self.label_table()
        if run["limits"]:
            print("  most requests in a window, and what is allowed:")
            for path, (most, allowed, seconds) in self.most.items():
                print(f"    {path:<34}{most:>4} of {allowed} in {seconds} s")

    def label_table(self):
        classes = sorted({name.split()[1] for name in self.run["deaths"]})
        print(f"    {'died at':<9}" + "".join(f"{name:>9}" for name in classes) + f"{'passed':>9}{'nested':>9}")
        for label in self.run["require"]["labels"]:
            died = "".join(f"{self.run['deaths'].get(f'{label} {name}', 0):>9}" for name in classes)
            print(f"    {label:<9}{died}{self.run['hits'].get(label, 0):>9}{self.run['nested'].get(label, 0):>9}")

    def report(self):
        """The figures that can be added up over several runs."""
        return {
            "seed": self.run["seed"],
            "profile": self.run["profile"],
            "stage": self.run["stage"],
            "kills": sum(kill["killed"] for kill in self.kills),
            "accepted": sum(map(len, self.truth.by_client.values())),
            "requests": len(self.truth.requests),
            "undecidable": len(self.undecidable),
            "claims": self.claims,
            "events": getattr(self, "heard_counts", (0, 0, 0)),
            "decided": self.decided,
            "phases": self.phases,
            "told": self.told,
            "deaths": self.run.get("deaths", {}),
            "hits": self.run.get("hits", {}),
            "nested": self.run.get("nested", {}),
            "violations": Counter(kind for kind, _ in self.problems),
        }

    @staticmethod
    def end_of(order):
        matched = Decimal(order["matched"])
        if order["status"] in OPEN:
            return "live"
        if order["status"] == "Done":
            return "completed"
        if order["status"] == "Rejected":
            return "rejected"
        if matched > 0:
            return "partial"
        return "cancelled" if order["reason"] == "cancel" else "closed unfilled"


def count(words):
    return ", ".join(f"{word} {number}" for word, number in Counter(words).most_common()) or "none"
