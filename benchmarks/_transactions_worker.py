"""
A contestant in a process of its own, so that its interpreter lock, its memory and its processor time are its own.

``python -m benchmarks._transactions_worker serve BOT FOLDER`` reads one JSON line for each thing to do and answers it
with one: ``{"do": "round", "threads": 8, "latency": 0.02, "seconds": 1.5}``, ``{"do": "facts"}``, ``{"do": "close"}``.

``… flight FOLDER NUMBER`` lets so many of hireliab's transactions wait at once, and prints what each of them takes.

What may be written to standard output by anybody else goes to standard error.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from benchmarks._transactions_bots import BOTS, Bot, HireliabBot, Tally, amount_of, failed, undone
from benchmarks._transactions_stub import SYMBOL, StubExchange
from hireliab import Verdict
from hireliab.exchange.transaction import State

WARM_UP = 64
"""Transactions that ran before memory is measured: pools, caches and the interpreter's arenas have grown by then."""
PATIENCE = 120.0
"""Seconds after which a thing that should have happened did not."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._transactions_worker")
    modes = parser.add_subparsers(dest="mode", required=True)
    serving = modes.add_parser("serve")
    serving.add_argument("bot", choices=BOTS)
    serving.add_argument("folder", type=Path)
    flying = modes.add_parser("flight")
    flying.add_argument("folder", type=Path)
    flying.add_argument("number", type=int)
    given = parser.parse_args(arguments)
    logging.getLogger("hireliab").addHandler(logging.NullHandler())
    output = private_output()
    if given.mode == "serve":
        serve(given.bot, given.folder, sys.stdin, output)
    else:
        print(json.dumps(flight(given.folder, given.number)), file=output, flush=True)
    return 0


def private_output() -> TextIO:
    """What answers are written to; everybody else's standard output becomes standard error."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return output


# -- serve --------------------------------------------------------------------------------------------------------


def serve(name: str, folder: Path, commands: TextIO, output: TextIO) -> None:
    """Do what each line says until they end."""
    exchange = StubExchange()
    bot = BOTS[name](exchange, folder)
    tally = Tally()
    closed = False
    print(json.dumps({"pid": os.getpid()}), file=output, flush=True)
    for line in commands:
        command = json.loads(line)
        answer: dict[str, Any]
        if command["do"] == "round":
            exchange.latency = command["latency"]
            answer = one_round(bot, tally, threads=command["threads"], seconds=command["seconds"])
        elif command["do"] == "facts":
            answer = dict(bot.facts())
        else:
            stored, closed = bot.close(), True
            answer = {"problem": undone(tally.outcomes, exchange.orders(), calls=exchange.calls, stored=stored)}
        print(json.dumps(answer), file=output, flush=True)
    if not closed:
        bot.close()


def one_round(bot: Bot, tally: Tally, *, threads: int, seconds: float) -> dict[str, Any]:
    """
    Place orders with some threads; no new one is begun after `seconds`.

    Returns:
        operations, elapsed_ns (until the last one ended), latencies_ns, cpu_ns of the whole process, commits or None,
        and began and ended as Unix seconds.
    """
    ready = threading.Barrier(threads + 1)
    deadline = 0.0

    def work() -> None:
        ready.wait()
        ready.wait()  # the deadline is set
        while time.perf_counter() < deadline:
            number = tally.take()
            began = time.perf_counter_ns()
            try:
                outcome = bot.trade(number)
            except Exception as error:  # an order that failed; the check says that this contestant does not count
                outcome = failed(number, error)
            tally.note(outcome, time.perf_counter_ns() - began)

    workers = [threading.Thread(target=work, name=f"bench-{i}", daemon=True) for i in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    gc.collect()
    commits, cpu, wall = bot.commits(), time.process_time_ns(), time.time()
    began = time.perf_counter_ns()
    deadline = time.perf_counter() + seconds
    ready.wait()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter_ns() - began
    latencies = tally.round()
    return {
        "operations": len(latencies),
        "elapsed_ns": elapsed,
        "latencies_ns": latencies,
        "cpu_ns": time.process_time_ns() - cpu,
        "commits": None if commits is None else (bot.commits() or 0) - commits,
        "began": wall,
        "ended": time.time(),
    }


# -- flight -------------------------------------------------------------------------------------------------------


def flight(folder: Path, number: int) -> dict[str, Any]:
    """
    Let transactions wait for an exchange that shows their orders as New, then let it fill them.

    Returns:
        number, rss_each (bytes), threads (of the whole process while they wait), problem.
    """
    exchange = StubExchange()
    bot = HireliabBot(exchange, folder, durability="strict", max_running=number, verification_timeout=600.0)
    pipeline = bot.pipeline
    for i in range(WARM_UP):
        bot.trade(i)
    gc.collect()
    exchange.held = True
    before = rss()
    handles = [
        pipeline.submit(
            pipeline.create_transaction(type="market_buy", symbol=SYMBOL, amount=amount_of(i), idempotency_key=f"f-{i}")
        )
        for i in range(WARM_UP, WARM_UP + number)
    ]
    waiting = wait_until(lambda: all(h.transaction.state is State.ACKED for h in handles), PATIENCE)
    gc.collect()
    during, threads = rss(), kernel_threads()
    exchange.held = False
    results = [handle.result(PATIENCE) for handle in handles]
    completed = sum(result.verdict is Verdict.COMPLETED for result in results)
    stored = bot.close()
    problem = ""
    if not waiting:
        problem = "not all of them were waiting when memory was measured"
    elif completed != number or stored != number + WARM_UP or len(exchange.orders()) != number + WARM_UP:
        problem = f"of {number} only {completed} completed; {stored - WARM_UP} are in the journal"
    return {
        "number": number,
        "rss_each": (during - before) / number,
        "threads": threads,
        "problem": problem,
    }


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll; whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def rss() -> int:
    """Resident memory in bytes, as Linux tells it."""
    return _status("VmRSS") * 1024


def kernel_threads() -> int:
    """Threads of this process, those that Python does not know included."""
    return _status("Threads")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    sys.exit(main())
