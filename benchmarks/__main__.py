"""``python -m benchmarks [name …] [--quick] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import breaker, crash, harness, http, limiter, orders, policy, pool, retry, transactions
from benchmarks.harness import Report

BENCHMARKS: dict[str, Callable[[bool], Report]] = {
    "orders": orders.run,
    "breaker": breaker.run,
    "retry": retry.run,
    "limiter": limiter.run,
    "policy": policy.run,
    "transactions": transactions.run,
    "pool": pool.run,
    "http": http.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when a contestant did not do its work."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["crash"]:  # no comparison of speeds, and with options of its own
        return crash.main(words[1:])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares hireliab with the bare call. What the numbers mean: benchmarks/README.rst."
        " 'crash' is the crash campaign: see 'python -m benchmarks crash --help'.",
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="name", help=f"which ones: {', '.join(BENCHMARKS)} (default: all)")
    add("--quick", action="store_true", help="a few seconds: finds breakage, measures nothing")
    add("--json", metavar="FILE", type=Path, help="write the figures to this file, too")
    given = parser.parse_args(words)
    for name in given.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    facts = harness.machine()
    print("\n".join(harness.header(facts)), flush=True)
    data: dict[str, object] = {}
    failures: list[str] = []
    for name in given.names or BENCHMARKS:
        report = BENCHMARKS[name](given.quick)
        print("\n" + "\n".join(report.lines), flush=True)
        data[name] = report.data
        failures += [f"{name}: {problem}" for problem in report.problems]
    if given.quick:
        print("\n--quick: the rounds are too short for these figures to be quoted.")
    if given.json is not None:
        text = json.dumps({"machine": facts, "quick": given.quick, "benchmarks": data}, indent=2)
        given.json.write_text(text + "\n", encoding="utf-8")
    for failure in failures:
        print(f"NOT COUNTED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a terminated run ends its simulators
    sys.exit(main())
