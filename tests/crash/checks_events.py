"""I6: what the listener heard is what the journal holds. Part of checker.py."""

import json
from collections import defaultdict

# What is told of each transition of the library's table; the checker has its own copy.
TOLD = {
    "T1": "denied", "T4": "failed", "T5": "failed", "T7": "rejected", "T9": "resolving", "T11": "completed",
    "T11b": "partial", "T12": "rejected", "T12b": "closed_unfilled", "T13": "resolving", "T14": "absent", "T15": "unknown",
    "T17": "absent", "T18": "cancelling", "T19": "cancelled", "T20": "late_fill", "T21": "partial", "T25": "resurrected",
    "T26": "resolved_by_operator", "T28": "orphan_adopted",
}  # fmt: skip


class Events:
    """Each event is in the journal with its version, was heard at least once, and in the order of versions."""

    def events(self):
        log = {(entry["txn_id"], entry["version"]): entry for entry in self.journal.log}
        kept = {event["event_id"]: event for event in self.journal.events}
        self.kept_with_their_versions(log, kept)
        first, times = {}, defaultdict(int)
        for note in self.heard:
            event, known = note["id"], kept.get(note["id"])
            times[event] += 1
            first.setdefault(event, note)
            if known is None:
                self.blame("I6", f"event {event} ({note['topic']}) was heard, and the journal does not hold it")
            elif note["topic"] != known["topic"] or note["data"] != json.loads(known["body"]):
                self.blame("I6", f"event {event} was heard as {note['topic']} {note['data']}, the journal has another")
        for event, known in kept.items():
            if event not in times:
                self.blame("I6", f"event {event} ({known['topic']}) was never heard, published {known['published']}")
            elif known["published"] is None:
                self.blame("I6", f"event {event} was heard {times[event]} times and is not marked")
        newest = {}
        for event in first:  # in the order in which they were heard first
            txn, _, version = event.partition(":")
            if int(version) < newest.get(txn, (0, ""))[0]:
                self.blame("I6", f"event {event} was heard for the first time after {newest[txn][1]}")
            newest[txn] = max(newest.get(txn, (0, "")), (int(version), event))
        self.heard_counts = (len(kept), len(self.heard), len(self.heard) - len(first))

    def kept_with_their_versions(self, log, kept):
        for event, row in kept.items():
            txn, _, version = event.partition(":")
            entry = log.get((txn, int(version)))
            body = json.loads(row["body"])
            if entry is None:
                self.blame("I6", f"event {event}: the journal has no such version")
            elif (body["event_id"], body["transaction_id"], body["state"]) != (event, txn, entry["state"]):
                self.blame(
                    "I6", f"event {event}: says {body['event_id']} {body['state']}, its version is {entry['state']}"
                )
        for (txn, version), entry in log.items():
            told = TOLD.get(entry["cause"].partition(" ")[0])
            row = kept.get(f"{txn}:{version}")
            if told is not None and (row is None or row["topic"] != f"transaction.{told}"):
                self.blame("I6", f"transaction {txn}: version {version} ({entry['cause'][:60]}) has no event {told}")
