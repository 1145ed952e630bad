"""Alerts: what a call costs the bot while every channel hangs, who delivers meanwhile, and what a storm makes of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import harness
from benchmarks._alerts_report import Burst, Delivery, Findings, lines, plain
from benchmarks._alerts_worker import CONTESTANTS, HIRELIAB, INLINE, PEERS, POOL

HUNG = 6
"""Hooks that hang; the reference's case of one more than Apprise has threads on two cores."""
PATIENCE = 15.0
"""Seconds after which an alert counts as not delivered."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Where the hooks are: as Apprise URLs, and the port of the one that answers."""

    hung: list[str]
    well: str
    port: int


@contextlib.contextmanager
def hooks() -> Iterator[Hooks]:
    """Start them in a process of their own."""
    command = [sys.executable, "-m", "benchmarks._alerts_endpoint", str(HUNG)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            ports = json.loads(server.stdout.readline())
            urls = [f"json://127.0.0.1:{port}/" for port in ports["hung"]]
            yield Hooks(hung=urls, well=f"json://127.0.0.1:{ports['well']}/", port=ports["well"])
        except BaseException:
            server.kill()  # on Ctrl-C Popen hardly waits for its end; and it has nothing to keep
            raise
        finally:
            server.stdin.close()


def run(quick: bool) -> harness.Report:
    """All parts; `quick` finds breakage only."""
    found = find(
        rounds=1 if quick else 5,
        calls=300 if quick else 20_000,
        alerts=2 if quick else 30,
        storm=2_000 if quick else 100_000,
    )
    return harness.Report(lines=tuple(lines(found)), data=plain(found), problems=found.problems())


def find(*, rounds: int, calls: int, alerts: int, storm: int) -> Findings:
    """Measure everything."""
    before = harness.load()
    harness.progress(f"alerts: {rounds} rounds of calls while {HUNG} hooks hang, and one to warm up")
    with hooks() as there:
        contestants = [_caller(name, there, calls) for name in CONTESTANTS]
        samples = harness.interleave(contestants, rounds=rounds)
        results = [harness.summarise(one, taken) for one, taken in zip(contestants, samples, strict=True)]
    harness.progress(f"alerts: {alerts} alerts to one hook that works, alone and beside {HUNG} that hang")
    deliveries = [_deliver(name, hung, alerts) for name in (HIRELIAB[1], *PEERS) for hung in (0, HUNG)]
    harness.progress(f"alerts: {storm:,} times the same alert")
    bursts = [_burst(name, storm) for name in (*HIRELIAB, POOL)]
    return Findings(
        rounds=rounds,
        hung=HUNG,
        load=harness.load_line(before, harness.load()),
        calls=results,
        deliveries=deliveries,
        bursts=bursts,
    )


def _caller(name: str, there: Hooks, calls: int) -> harness.Contestant:
    problems: list[str] = []
    # Apprise's call lasts as long as the slowest hook's time-out. Ours make a message each, as many as a queue holds.
    number = 1 if name == INLINE else min(calls, 1000) if name in HIRELIAB else calls

    def one(_round: int) -> harness.Sample:
        said = _work("calls", name, urls=there.hung, number=number)
        if said["problem"]:
            problems.append(said["problem"])
        return harness.Sample(
            operations=number, elapsed_ns=said["elapsed_ns"], latencies_ns=tuple(said["latencies_ns"]), extra={}
        )

    return harness.Contestant(name=name, run=one, check=lambda: problems[0] if problems else "")


def _deliver(name: str, hung: int, number: int) -> Delivery:
    with hooks() as there:
        # A peer's alert takes seconds, or is given up after 15.
        number = number if name in HIRELIAB else max(1, number // 3)
        urls = [*there.hung[:hung], there.well]
        said = _work("delivery", name, urls=urls, number=number, well=there.port, patience=PATIENCE)
    took = [None if ns is None else ns / 1e6 for ns in said["took_ns"]]
    return Delivery(name=name, hung=hung, took_ms=took, problem=said["problem"])


def _burst(name: str, number: int) -> Burst:
    with hooks() as there:
        said = _work("burst", name, urls=[there.well], number=number, well=there.port)
    return Burst(
        name=name,
        calls=said["calls"],
        seconds=said["seconds"],
        grown_mib=said["grown"] / 2**20,
        sends=said["sends"],
        problem=said["problem"],
    )


def _work(part: str, name: str, **given: Any) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks._alerts_worker", part, name, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"alerts, {part}, {name}: {done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said
