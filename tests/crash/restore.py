"""
The stage of a restored back-up: half-way the journal's folder is copied between two lives, at the end it is put back.

What was sent since then is unknown to the journal; the last life looks for orders that carry its client order ids and
adopts them on the operator's word. In the end every order of the exchange has one row, and each says what the exchange
says. What callers were told after the copy, and their idempotency keys, are lost with the journal: nothing brings them
back, so the last life asks for no order, and the checker compares the rows alone.
"""

import shutil
import time

from campaign import Campaign


class RestoreCampaign(Campaign):
    """A few ordinary lives, a back-up in their middle."""

    restored = True
    long_share = 1.0

    def storm(self):
        journal, copy = self.folder / "journal", self.folder / "back-up"
        kills = self.options.kills
        self.weather("stormy")
        for n in range(kills):
            self.cycle(n)
            if n == kills // 2:
                shutil.copytree(journal, copy)  # nobody lives: the file and its WAL belong together
            self.progress(n + 1)
        shutil.rmtree(journal)
        shutil.copytree(copy, journal)
        self.halts.clear()
        (journal / "HALT").unlink(missing_ok=True)

    def requirements(self):
        return {"kills": self.options.kills, "adopted": 5}

    def last_life(self):
        self.weather("calm")
        self.admin("POST", "/settings", {"reject_probability": 0})
        self.faults_off = time.time()
        plan = self.plan(final=True, settle=25.0, calm=0, sweep=True)
        self.await_last(self.fork({**plan, "resume": []}), 25.0)
