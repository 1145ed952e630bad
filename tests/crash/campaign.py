"""
Kill a trading bot again and again, then compare its books with the exchange's.

    python tests/crash/campaign.py --kills 200 --seed 7 [--profile null-client-ids] [--keep DIR]
    python tests/crash/campaign.py --stage labels --seed 7      (one kill at each label of core/_kill_points.py)
    python tests/crash/campaign.py --stage restore --kills 20 --seed 7      (the journal comes from a back-up)
    python tests/crash/campaign.py --stage limits --seed 7      (or limits-restarts)
    python tests/crash/campaign.py --kills 10 --seed 7 --break no_barrier

``python -m benchmarks crash --kills 10000`` runs many of these side by side.

The exchange (``python -m hireliab.simulator``), the zygote that forks bots (worker.py), the listener that their events
are published to (listener.py) and the checker (checker.py) are processes of their own. The same seed gives the same orders, faults and plan of kills; what was in flight at a kill
depends on the scheduler. Exit code: 0 when the checker found nothing, 1 for violations, 2 when the campaign itself
could not run.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import mutants
import workload
from weather import faults

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# How late things may be: what the exchange does, and what the bot is told that it may do. Seconds.
HOLD = 0.12  # the whole exchange is stopped for at most so long
LAGS = {"status": "0.05", "clientid": "0.05", "list": "0.15", "trades": "0.1"}
TIMEOUTS = {"connect_timeout": 0.5, "read_timeout": 0.6, "total_timeout": 0.7}
PIPELINE = {
    "name": "crash",
    "verification_timeout": 3.0,
    "late_arrival_bound": 0.9,  # more than weather.LATE + HOLD
    "visibility_window": 0.5,  # more than the largest lag
    "listing_interval": 0.2,
    "watch_interval": 1.0,
}
VENUE = {"new_delay": 0.03, "reject_probability": 0.03, "reject_delay": 0.08}

# How lives end, shuffled for each twenty: soon after the start (recovery is hit), at any time, when the bot has just
# begun an order (before the barrier), when the exchange has just received one (after the send), and while the whole
# exchange stands still. Most lives are short, because a kill counts and not the time before it; the longer ones are
# what it takes to prove that an order does not exist, so that its symbol is free again.
DECK = ["early"] * 4 + ["random"] * 3 + ["begun"] * 4 + ["received"] * 6 + ["held"] * 3

SHORT, LONG = (0.12, 0.6), (1.7, 2.6)
LONG_SHARE = {"default": 0.3, "null-client-ids": 0.4}
HALTED_SHARE = 0.05  # of the lives in which somebody halts the bot half-way


def watch(path, mark, timeout):
    """Wait until something with a mark in it is appended to a file."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        give_up = time.monotonic() + timeout
        tail = b""
        while time.monotonic() < give_up:
            data = file.read()
            if data:
                tail = tail[-200:] + data
                if mark in tail:
                    return
            else:
                time.sleep(0.0003)


class CampaignError(Exception):
    """The campaign itself could not run."""


class Child:
    """A process that talks in lines of JSON."""

    def __init__(self, arguments, log):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=environment,
            )

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise CampaignError(f"process {self.process.args[1:3]} ended")
        return json.loads(line)

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.read()

    def end(self):
        self.process.stdin.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Campaign:
    """Exchange, zygote, kills; `run()` returns the checker's exit code."""

    def __init__(self, folder, options):
        self.folder, self.options, self.seed = folder, options, options.seed
        self.truth, self.promises = folder / "truth.jsonl", folder / "promises.jsonl"
        self.begun, self.ended, self.highest = {}, set(), 0
        self.halts = []
        self._promises_read = 0
        self.inc = 0
        self.zygote = self.exchange = self.listener = None

    # -- processes ----------------------------------------------------------------------------------------------

    def start(self):
        arguments = ["-m", "hireliab.simulator", "--truth", str(self.truth), "--seed", str(self.seed)]
        arguments += ["--balances", json.dumps(workload.BALANCES)]
        arguments += ["--settings", json.dumps(self.settings())]
        if self.lags():
            arguments += ["--lag", ",".join(f"{read}={lag}" for read, lag in self.lags().items())]
        if not self.limited:
            arguments.append("--no-limits")
        if self.profile == "null-client-ids":
            arguments.append("--null-client-ids")
        self.exchange = Child(arguments, self.folder / "exchange.log")
        self.venue = self.exchange.read()
        self.listener = Child(
            [str(HERE / "listener.py"), str(self.folder / "heard.jsonl"), str(self.seed)], self.folder / "listener.log"
        )
        self.port = self.listener.read()["port"]
        self.zygote = Child([str(HERE / "worker.py"), str(self.folder)], self.folder / "zygote.log")
        self.wall_minus_mono = time.time_ns() - time.monotonic_ns()

    limited = restored = False
    long_share = None  # of the lives that are long, where it differs from LONG_SHARE

    @property
    def profile(self):
        return self.mutant.profile if self.mutant else self.options.profile

    @property
    def mutant(self):
        """What a mutant, or the unbroken library beside it, is exposed to; None in a campaign proper."""
        return mutants.SETTINGS[self.options.break_] if self.options.break_ else None

    def settings(self):
        return {**VENUE, "duplicate_window": 0}

    def lags(self):
        return LAGS

    def admin(self, method, path, body=None):
        request = urllib.request.Request(
            self.venue["admin_url"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def weather(self, name):
        self.admin("DELETE", "/faults")
        self.admin("POST", "/settings", {"duplicate_window": 10 if name == "repeating" else 0})
        rules = faults(name)
        if rules:
            self.admin("POST", "/faults", rules)

    # -- lives ----------------------------------------------------------------------------------------------------

    def read_promises(self):
        """Which order numbers were begun and have no answer yet."""
        if not self.promises.exists():
            return
        with self.promises.open("rb") as file:
            file.seek(self._promises_read)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._promises_read += len(data)
        for line in data.splitlines():
            try:
                note = json.loads(line)
            except ValueError:
                continue  # blank, or torn by a kill
            if note["t"] == "begin":
                self.begun[note["i"]] = note["txn"]
                self.highest = max(self.highest, note["i"])
            elif note["t"] == "end":
                self.ended.add(note["i"])

    def plan(self, **more):
        self.read_promises()
        self.inc += 1
        if more.get("final"):
            self.listener.ask({"calm": True})
        open_numbers = sorted(set(self.begun) - self.ended)
        rng = random.Random(f"{self.seed}/ask again/{self.inc}")
        old = rng.sample(sorted(self.ended), min(2, len(self.ended)))  # a bot may well ask for what it was told
        return {
            "inc": self.inc,
            "seed": self.seed,
            "listener": self.port,
            "venue": {name: self.venue[name] for name in ("base_url", "api_key", "api_secret")},
            "timeouts": TIMEOUTS,
            "pipeline": self.pipeline(),
            # Not "off": then nobody would wait where the exchange asks for a pause.
            "rate_limits": "off" if self.mutant else {"scale": 1000},
            "break": self.options.break_,
            "twins": bool(self.mutant and self.mutant.twins),
            "resume": open_numbers + old,
            "next": self.highest + 1,
            **more,
        }

    def pipeline(self):
        return {**PIPELINE, "max_retries": 1, **self.mutant.pipeline} if self.mutant else PIPELINE

    def fork(self, plan):
        return self.zygote.ask({"fork": plan})["pid"]

    def kill(self, pid, **facts):
        """SIGKILL, reap, and note when it was certainly dead."""
        before = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        status = self.zygote.ask({"wait": pid})["status"]
        after, wall = time.monotonic_ns(), time.time()
        by_us = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        self.log_kill(inc=self.inc, pid=pid, mono_before=before, mono=after, wall=wall, killed=by_us, **facts)

    def log_kill(self, **facts):
        with (self.folder / "kills.jsonl").open("a") as file:
            file.write(json.dumps(facts) + "\n")

    def cycle(self, n):
        """One life and its end, as the seed says."""
        rng = random.Random(f"{self.seed}/kill/{n}")
        deck = list(DECK)
        random.Random(f"{self.seed}/deck/{n // len(DECK)}").shuffle(deck)
        mode = deck[n % len(deck)]
        if n == 0 and mode == "early":
            mode = "random"
        lives = LONG if rng.random() < (self.long_share or LONG_SHARE[self.profile]) else SHORT
        if self.mutant:
            lives, mode = self.mutant.lives, self.mutant.mode or mode
        life = rng.uniform(0.0, 0.09) if mode == "early" else rng.uniform(*lives)
        slow = rng.uniform(0.005, 0.02) if mode == "begun" or rng.random() < 0.3 else 0.0
        if self.options.break_ == "no_barrier":
            slow = 0.03
        outage = rng.uniform(0.2, 0.8) if mode != "early" and rng.random() < 0.1 and not self.options.break_ else 0.0
        halted = rng.choice(("HALTED", "REDUCING")) if rng.random() < HALTED_SHARE and not self.mutant else ""
        if self.mutant and self.mutant.halted:
            halted = "HALTED"
        pid = self.fork(self.plan(disk_delay=slow))
        time.sleep(life / 2)
        if outage:
            self.admin("POST", "/down", {"seconds": outage})
        if halted:
            self.halt(halted)
        time.sleep(life / 2)
        if halted and rng.random() < 0.7:  # else a restart finds it
            self.unhalt()
        if mode == "received":
            watch(self.truth, b"/market/orders/add", 1.0)
            self.kill(pid, n=n, mode=mode)
        elif mode == "begun":
            watch(self.promises, b'"past_gate"', 1.0)
            time.sleep(rng.uniform(0, 0.003))
            self.kill(pid, n=n, mode=mode)
        elif mode == "held":
            stopped = self.exchange.process
            stopped.send_signal(signal.SIGSTOP)
            try:
                time.sleep(rng.uniform(0.005, HOLD / 2))
                self.kill(pid, n=n, mode=mode)
            finally:
                stopped.send_signal(signal.SIGCONT)
        else:
            self.kill(pid, n=n, mode=mode)
        if outage:
            self.admin("POST", "/up", {})
        if halted and n % 2:
            self.unhalt()

    def halt(self, mode):
        """What `hireliab halt` does; the checker compares the file's times with what the exchange received."""
        self.unhalt()
        path = self.folder / "journal" / "HALT"
        if path.parent.exists():
            path.with_suffix(".new").write_text(f"{mode} the campaign\n")
            path.with_suffix(".new").rename(path)
            self.halts.append([mode, time.monotonic_ns(), None])

    def unhalt(self):
        if self.halts and self.halts[-1][2] is None:
            self.halts[-1][2] = time.monotonic_ns()
            (self.folder / "journal" / "HALT").unlink()

    def sweep(self):
        """Move the markets up and down and back: resting orders fill, stops trigger."""
        for symbol, middle, step, _, _ in workload.MARKETS:
            for change in ("1.025", "0.975", "1"):
                price = (middle * workload.Decimal(change) / step).to_integral_value() * step
                self.admin("POST", "/book", {"market": symbol.replace("/", ""), "mid": str(price)})

    def storm(self):
        own = self.mutant and self.mutant.weather
        for n in range(self.options.kills):
            if n % 10 == 0:
                self.weather(own or ("repeating" if n // 20 % 2 else "stormy"))
            if n % 5 == 4 and not self.mutant:
                self.sweep()
            self.cycle(n)
            self.progress(n + 1)

    def progress(self, kills):
        if self.options.progress:
            print(json.dumps({"kills": kills, "answers": len(self.ended)}), flush=True)
        elif kills % 20 == 0 and not self.options.quiet:
            print(f"  {kills} kills, {len(self.ended)} answers", flush=True)

    def last_life(self):
        self.unhalt()
        self.weather("calm")
        self.sweep()  # our own orders have moved the prices
        self.admin("POST", "/settings", {"reject_probability": 0})
        self.faults_off = time.time()
        broken = self.options.break_ in mutants.MUTANTS  # it may never decide; the unbroken one beside it does in time
        self.run_last(settle=10.0 if broken else 25.0, calm=8 if self.options.break_ else 40)

    def run_last(self, *, settle, calm):
        """The life that is not killed: everything must be decided in it."""
        self.await_last(self.fork(self.plan(final=True, settle=settle, calm=calm)), settle)

    def await_last(self, pid, settle):
        give_up = time.monotonic() + 3 * settle + 40
        while time.monotonic() < give_up:
            status = self.zygote.ask({"wait": pid, "poll": True})["status"]
            if status is not None:
                return
            time.sleep(0.05)
        self.kill(pid, n=-1, mode="hung")

    # -- all of it ------------------------------------------------------------------------------------------------

    def requirements(self):
        """What the run must have shown, beside having no violation; scaled down for short runs."""
        kills = self.options.kills
        if self.options.break_:
            return {}
        shares = {"submitting": 0.08, "before the barrier": 0.05, "after the send": 0.05, "during recovery": 0.05}
        return {
            "kills": kills,
            "accepted": kills if self.profile == "null-client-ids" else 2 * kills,
            "decided": 0.9,  # one life whose recovery meets a dead listing is 20 late ones; the crew asks 0.95 of all
            "shares": shares if kills >= 100 else {},
        }

    def run(self):
        self.faults_off = time.time()
        try:
            self.start()
            self.storm()
            self.last_life()
        finally:
            for child in (self.zygote, self.exchange, self.listener):
                if child is not None:
                    child.end()
        return self.check()

    def facts(self):
        return {
            "seed": self.seed,
            "profile": self.profile,
            "stage": self.options.stage,
            "break": self.options.break_,
            "bound": self.pipeline()["verification_timeout"],
            "listing_interval": self.pipeline().get("listing_interval", 4.0),
            "wall_minus_mono": self.wall_minus_mono,
            "faults_off": self.faults_off,
            "limits": self.limited,
            "restored": self.restored,
            "pauses": not self.mutant,  # whether the library's limiters are on, and wait where the exchange asks for it
            "halts": self.halts,
            "require": self.requirements(),
        }

    def check(self):
        (self.folder / "run.json").write_text(json.dumps(self.facts()))
        return subprocess.run([sys.executable, str(HERE / "checker.py"), str(self.folder)], check=False).returncode


def stage(name):
    """The class of a stage."""
    if name == "labels":
        import labels

        return labels.LabelsCampaign
    if name == "restore":
        import restore

        return restore.RestoreCampaign
    if name.startswith("limits"):
        import limits

        return limits.RestartsCampaign if name == "limits-restarts" else limits.LimitsCampaign
    return Campaign


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock; it is printed")
    parser.add_argument("--profile", choices=("default", "null-client-ids"), default="default")
    parser.add_argument("--stage", choices=("storm", "labels", "restore", "limits", "limits-restarts"), default="storm")
    parser.add_argument("--classes", default="calm,lost,dropped,stormy", help="of faults, for the stage of labels")
    parser.add_argument(
        "--break",
        dest="break_",
        default=None,
        choices=tuple(mutants.SETTINGS),
        help="a deliberately broken pipeline, see mutants.py",
    )
    parser.add_argument(
        "--keep", metavar="DIR", default=None, help="keep all files there; else they go when all is well"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    parser.add_argument("--progress", action="store_true", help="progress as lines of JSON")
    options = parser.parse_args(arguments)
    if not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"):
        print("crash campaign: this system has no fork() or no SIGKILL")
        return 2
    if options.seed is None:
        options.seed = int(time.time()) % 1_000_000
    folder = Path(options.keep or tempfile.mkdtemp(prefix="hireliab-crash-"))
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "truth.jsonl").exists():
        print(f"crash campaign: {folder} holds another run; give an empty folder")
        return 2
    again = f"--stage {options.stage} --kills {options.kills} --seed {options.seed} --profile {options.profile}"
    again += f" --break {options.break_}" if options.break_ else ""
    print(f"seed {options.seed}; once more: python tests/crash/campaign.py {again}", flush=True)
    started = time.monotonic()
    try:
        code = stage(options.stage)(folder, options).run()
    except CampaignError as error:
        print(f"crash campaign: {error}; see {folder}")
        return 2
    print(f"took {time.monotonic() - started:.0f} s; files: {folder}")
    if code == 0 and options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    import campaign  # the name under which the other stages know this module

    sys.exit(campaign.main())
