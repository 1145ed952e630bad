"""
The stage of labels: the bot kills itself at every label of ``hireliab/core/_kill_points.py``, in every class of faults.

After each of these deaths come one to five lives that are killed during the recovery that follows (L19, L20, L21), so
that what a recovery leaves half done is recovered itself. A life that does not reach its label in time is killed by
the driver and counts for nothing; a label at which no life died in the whole run is a violation.
"""

import os
import random
import signal
import time
from collections import Counter

from campaign import Campaign

# Label -> what a life needs to come to it quickly: kinds of orders, a label to die at before, or other settings.
PLACES = {
    "L01": {},
    "L02": {},
    "L03": {},
    "L04": {},
    "L05": {},
    "L06": {},
    "L07": {},
    "L08": {},
    "L09": {},
    "L10": {},
    "L11": {},
    "L12": {},
    "L13": {"only": ("market", "crossing", "give_up_filled")},
    "L14": {},
    "L15": {},
    "L16": {},
    "L17": {},
    "L18": {},
    "L19": {"before": "L04"},
    "L20": {"before": "L05"},
    "L21": {"before": "L07", "only_before": ("resting", "stop_limit")},  # what rests shows its client order id
    "L22": {"only": ("resting", "give_up")},
    "L23": {"only": ("resting", "give_up")},
    "L24": {"only": ("resting", "give_up")},
    "L26": {"checkpoint_bytes": 20_000},
    "L27": {"empty": True},  # a new journal is brought up to date schema by schema
}
NESTED = ("L19", "L20", "L21")
PATIENCE, NESTED_PATIENCE = 4.0, 0.9  # seconds until the driver kills a life that does not come to its label
TRIES = 3


class LabelsCampaign(Campaign):
    """One life for each label and class of faults, and the recoveries after it."""

    def requirements(self):
        return {"labels": sorted(PLACES), "accepted": 2 * len(PLACES)}

    def storm(self):
        self.deaths, self.hits, self.nested = Counter(), Counter(), Counter()
        classes = self.options.classes.split(",")
        self.n = 0
        for weather in classes:
            self.weather(weather)
            places = [label for label in PLACES if label != "L27"]
            random.Random(f"{self.seed}/labels/{weather}").shuffle(places)
            if self.n == 0:  # a new journal comes once
                places.insert(0, "L27")
            for label in places:
                self.die_at(label, weather, PLACES[label])
            self.sweep()

    def die_at(self, label, weather, needs):
        more = {name: needs[name] for name in ("only", "checkpoint_bytes") if name in needs}
        rng = random.Random(f"{self.seed}/{weather}/{label}")
        for turn in range(TRIES):
            if "before" in needs:
                kinds = {"only": needs["only_before"]} if "only_before" in needs else {}
                self.life(needs["before"], weather, PATIENCE, **kinds)
            hit = rng.randint(1, 4) if turn == 0 and not needs.get("empty") and "before" not in needs else 1
            if self.life(label, weather, PATIENCE, hit=hit, **more):
                self.deaths[f"{label} {weather}"] += 1
                break
        for place, nested in enumerate(rng.choices(NESTED, k=rng.randint(1, 5))):
            # The first recovery must claim what was left, before anything can be found about it.
            if self.life("L19" if place == 0 else nested, weather, NESTED_PATIENCE):
                self.nested["L19" if place == 0 else nested] += 1

    def life(self, label, weather, patience, *, hit=1, **more):
        """Whether the bot died at the label."""
        self.n += 1
        hits = self.folder / "hits"
        hits.unlink(missing_ok=True)
        plan = self.plan(kill_at=f"{label}:{hit}@{hits}", **more)
        before = time.monotonic_ns()
        pid = self.fork(plan)
        give_up = time.monotonic() + patience
        status = None
        while status is None and time.monotonic() < give_up:
            time.sleep(0.004)
            status = self.zygote.ask({"wait": pid, "poll": True})["status"]
        if status is None:
            self.kill(pid, n=self.n, mode=f"{label} not reached in {weather}")
            died = False
        else:
            died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            facts = {"mono_before": before, "mono": time.monotonic_ns(), "wall": time.time()}
            self.log_kill(inc=self.inc, pid=pid, killed=died, n=self.n, mode=f"{label} in {weather}", **facts)
        self.hits.update(label for label in (hits.read_text().split() if hits.exists() else ()) if label in PLACES)
        self.progress(self.n)
        return died

    def facts(self):
        return {**super().facts(), "deaths": self.deaths, "hits": self.hits, "nested": self.nested}
