"""
Transactions: what it costs to make an order durable step by step, beside a durable-execution engine.

Every contestant is a process of its own that works at a stub exchange inside it. They take turns; what each of them
said is checked against its exchange's truth before a figure counts.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _transactions_recovery, harness, orders
from benchmarks._transactions_bots import BOTS, OURS
from benchmarks._transactions_report import MANY, Cell, Findings, Flight, lines, plain

DBOS_FROM = (3, 4)
THREADS = (1, 8, MANY)
LATENCIES = (0.0, 0.02)
SYNCS = 50
"""How often the disk is measured in each round."""
SETTLE = 2.5
"""Seconds after the warm-up in which a journal may checkpoint what it left: that is no sync of the orders to come."""
_SYNC_CALL = re.compile(r"^\d+\s+(\d+\.\d+) (?:fdatasync|fsync)\(")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is done: rounds and their seconds, transactions in flight, rows to recover, orders over HTTP."""

    rounds: int
    seconds: float
    flight: int
    rows: int
    http: Mapping[int, int]
    traced: tuple[str, ...]


FULL = Plan(rounds=5, seconds=1.5, flight=1000, rows=1000, http={1: 150, 8: 400}, traced=tuple(BOTS))
QUICK = Plan(rounds=1, seconds=0.15, flight=100, rows=40, http={1: 20}, traced=(OURS,))


def run(quick: bool) -> harness.Report:
    """Everything; `quick` finds breakage only."""
    harness.quiet("hireliab")
    plan = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="hireliab-bench-", ignore_cleanup_errors=True) as name:
        found = measure(Path(name), plan)
    return harness.Report(lines=tuple(lines(found)), data=plain(found), problems=found.problems())


def measure(folder: Path, plan: Plan) -> Findings:
    """All parts, one after another."""
    absent = missing()
    bots = [bot for bot in BOTS if bot not in absent]
    speed, disk, facts = _speed(folder, bots, plan)
    syncs: dict[tuple[str, int], float | None] = {}
    for bot in bots:
        for threads in (1, MANY) if bot in plan.traced else ():
            harness.progress(f"transactions: counting the syncs of {bot}, {threads} threads")
            syncs[bot, threads] = count_syncs(folder / f"traced-{bot}-{threads}", bot, threads, plan.seconds)
    harness.progress(f"transactions: {plan.flight} in flight")
    flight = _flight(folder / "flight", plan.flight)
    harness.progress(f"transactions: recovery of {plan.rows} rows")
    recovery = _transactions_recovery.measure(folder / "recovery", plan.rows)
    http = orders.measure(folder, rounds=plan.rounds, orders=plan.http)
    return Findings(
        speed=speed, disk=disk, syncs=syncs, facts=facts, absent=absent, flight=flight, recovery=recovery, http=http
    )


def missing() -> dict[str, str]:
    """Contestants that cannot take part, and why."""
    try:
        version = importlib.metadata.version("dbos")
    except importlib.metadata.PackageNotFoundError:
        why = "not installed; pip install 'hireliab[bench]'"
    else:
        found = tuple(int(part) for part in version.split(".")[:2])
        why = "" if found >= DBOS_FROM else f"{version} is older than {'.'.join(map(str, DBOS_FROM))}"
    return {bot: why for bot in BOTS if bot.startswith("DBOS")} if why else {}


# -- contestants in processes of their own ------------------------------------------------------------------------


class Child:
    """
    A contestant's process; see _transactions_worker.py.

    Args:
        before: A command that runs it, such as strace.
    """

    def __init__(self, bot: str, folder: Path, *, before: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "stderr"
        command = [*before, sys.executable, "-m", "benchmarks._transactions_worker", "serve", bot, str(folder / "data")]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            self._read()
        except BaseException:
            self.end()
            raise

    def ask(self, **command: object) -> dict[str, Any]:
        """Let it do something; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"{self._process.args!r}: ended with code {self._process.wait()}: {tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """End it; idempotent."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it may be gone
                self._process.stdin.close()
        try:
            self._process.wait(timeout=15.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _speed(
    folder: Path, bots: list[str], plan: Plan
) -> tuple[dict[Cell, harness.Result], harness.Result, dict[str, Mapping[str, object]]]:
    with contextlib.ExitStack() as stack:
        children: dict[str, Child] = {}
        for bot in bots:
            children[bot] = Child(bot, folder / bot)
            stack.callback(children[bot].end)
        facts: dict[str, Mapping[str, object]] = {bot: child.ask(do="facts") for bot, child in children.items()}
        cells = [Cell(bot, threads, latency) for latency in LATENCIES for threads in THREADS for bot in bots]
        problems: dict[str, str] = {}

        def check(bot: str) -> str:
            if bot not in problems:
                problems[bot] = children[bot].ask(do="close")["problem"]
            return problems[bot]

        disk = _disk(folder / "disk")
        contestants = [disk, *(_contestant(cell, children[cell.bot], check, plan.seconds) for cell in cells)]
        harness.progress(f"transactions: {plan.rounds} rounds of {len(cells)} contestants, and one to warm up")
        samples = harness.interleave(contestants, rounds=plan.rounds)
        results = [harness.summarise(one, taken) for one, taken in zip(contestants, samples, strict=True)]
    return dict(zip(cells, results[1:], strict=True)), results[0], facts


def _contestant(cell: Cell, child: Child, check: Callable[[str], str], seconds: float) -> harness.Contestant:
    def one_round(_number: int) -> harness.Sample:
        told = child.ask(do="round", threads=cell.threads, latency=cell.latency, seconds=seconds)
        extra = {"cpu_ns": told["cpu_ns"]}
        if told["commits"] is not None:
            extra["commits"] = told["commits"]
        return harness.Sample(
            operations=told["operations"],
            elapsed_ns=told["elapsed_ns"],
            latencies_ns=tuple(told["latencies_ns"]),
            extra=extra,
        )

    return harness.Contestant(name=cell.bot, run=one_round, check=lambda: check(cell.bot))


def _disk(file: Path) -> harness.Contestant:
    """An fdatasync after each append of 4 KiB, as the journal's file grows."""
    sync = getattr(os, "fdatasync", os.fsync)

    def one_round(_number: int) -> harness.Sample:
        took = []
        with file.open("ab", buffering=0) as handle:
            for _ in range(SYNCS):
                handle.write(b"x" * 4096)
                began = time.perf_counter_ns()
                sync(handle.fileno())
                took.append(time.perf_counter_ns() - began)
        return harness.Sample(operations=SYNCS, elapsed_ns=sum(took), latencies_ns=tuple(took), extra={})

    return harness.Contestant(name="fdatasync", run=one_round, check=lambda: "")


def count_syncs(folder: Path, bot: str, threads: int, seconds: float) -> float | None:
    """How many fsync and fdatasync an order takes; None where strace is missing or not allowed."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    folder.mkdir(parents=True)
    trace = folder / "trace"
    before = (
        strace,
        "-f",
        "--seccomp-bpf",
        "-ttt",
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        "signal=none",
        "-o",
        str(trace),
    )
    try:
        child = Child(bot, folder, before=before)
    except RuntimeError as error:
        harness.progress(f"transactions: strace does not run: {error}")
        return None
    try:
        child.ask(do="round", threads=threads, latency=0.0, seconds=seconds / 3)
        time.sleep(SETTLE)
        told = child.ask(do="round", threads=threads, latency=0.0, seconds=seconds)
    finally:
        child.end()
    text = trace.read_text(encoding="utf-8", errors="replace")
    return syncs_between(text, told["began"], told["ended"]) / int(told["operations"])


def syncs_between(trace: str, began: float, ended: float) -> int:
    """How many calls strace saw begin between two Unix seconds; the lines on which one ends are not counted again."""
    times = (float(match[1]) for line in trace.splitlines() if (match := _SYNC_CALL.match(line)))
    return sum(began <= at <= ended for at in times)


def _flight(folder: Path, number: int) -> Flight:
    command = [sys.executable, "-m", "benchmarks._transactions_worker", "flight", str(folder), str(number)]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return Flight(
        number=number,
        rss_each=told["rss_each"],
        threads_beside=told["threads"] - number,
        problem=told["problem"],
    )
