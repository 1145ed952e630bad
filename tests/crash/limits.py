"""The stages under the exchange's real limits, in real time."""

import time

from campaign import Campaign
from weather import ADD


class LimitsCampaign(Campaign):
    """
    The exchange's real limits (300 orders in 10 min, 30 listings a minute, ...) against the library's own defaults:
    its limiters, listing pace, fence and windows, in real time. Nothing is scaled; the only settings below their
    defaults are the client's timeouts (2 s). A first life places 45 orders and is killed when it is idle; the second
    wants more orders than the limit allows, and of every second order the answer, or the order itself, is lost.
    """

    limited = True
    LIVES = ((45, 30.0),)  # orders wanted by the end, seconds at most
    WANTED = 330
    FAULTS_FROM = 1  # this life on

    def settings(self):
        return {"duplicate_window": 10}

    def lags(self):
        return {"list": "1", "trades": "1"}

    def pipeline(self):
        return {"name": "limits", "verification_timeout": 30.0, "watch_interval": 10.0}

    def requirements(self):
        return {"kills": len(self.LIVES), "accepted": 200, "unknown": 50}

    def plan(self, **more):
        plan = {
            "rate_limits": None,
            "fills": 0,  # the listing that they need has a limit, too
            "timeouts": {"connect_timeout": 2, "read_timeout": 2, "total_timeout": 2},
            "kinds": ("market", "resting", "crossing"),
            "threads": 60,
            **more,
        }
        return super().plan(**plan)

    def lose(self):
        """From now on, of every second order the answer is lost, or it never arrives."""
        lost = [("answer_lost", 4), ("request_lost", 2)]
        self.admin("POST", "/faults", [{"route": ADD, "kind": kind, "every": k} for kind, k in lost])

    def storm(self):
        for n, (last, seconds) in enumerate(self.LIVES):
            if n == self.FAULTS_FROM:
                self.lose()
            pid = self.fork(self.plan(last=last))
            give_up = time.monotonic() + seconds
            while time.monotonic() < give_up:
                time.sleep(0.1)
                self.read_promises()
                if self.highest >= last and not set(self.begun) - self.ended:
                    break
            self.kill(pid, n=n, mode="limits")

    def last_life(self):
        if self.FAULTS_FROM == len(self.LIVES):
            self.lose()
        self.run_last(settle=150.0, calm=0)

    def run_last(self, *, settle, calm):
        pid = self.fork(self.plan(final=True, settle=settle, calm=calm, last=self.WANTED))
        self.await_last(pid, settle)
        self.faults_off = time.time()


class RestartsCampaign(LimitsCampaign):
    """The same with four kills within a minute, two of them while fifty orders are being resolved."""

    LIVES = ((120, 30.0), (180, 30.0), (330, 9.0), (330, 6.0))
    FAULTS_FROM = 2
