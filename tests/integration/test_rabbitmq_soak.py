"""
A soak: publishers, consumers, and a network and a broker that fail every few seconds (case F17 of the design).

HIRELIAB_SOAK_SECONDS (15) says for how long, HIRELIAB_SOAK_FAULT_EVERY (2) how many seconds lie between two faults; a
release runs 1200.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.tcp_proxy import TcpProxy

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("HIRELIAB_SOAK_SECONDS", "15"))
EVERY = float(os.environ.get("HIRELIAB_SOAK_FAULT_EVERY", "2"))
MOST_GROWTH = 6 * 2**20
"""Bytes by which the last third of the run may need more than the first; a message that is kept is half a KiB."""
FIRST = ["cut in a frame", "kill"]
"""What happens in any case."""

FAULTS = {"cut": 4, "cut in a frame": 4, "refuse": 2, "stall": 2, "swallow": 1, "restart": 1, "kill": 1}
"""What happens, and how often in proportion."""


def inflict(fault, broker, proxy, rng):
    """One fault, from its beginning to its end."""
    if fault == "cut":
        proxy.cut(how=rng.choice(["rst", "fin"]))
    elif fault == "cut in a frame":
        proxy.cut_after(rng.randrange(1, 400), rng.choice(["up", "down"]))
    elif fault == "refuse":
        proxy.refuse()
        proxy.cut()
        time.sleep(rng.random() * 2)
        proxy.heal()
    elif fault in ("stall", "swallow"):
        (proxy.stall if fault == "stall" else proxy.drop)(rng.choice(["up", "down", None]))
        time.sleep(rng.random() * 2)
        proxy.heal()
        proxy.cut()  # what was swallowed is missing: the connection makes no sense any more
    else:
        (broker.node.kill if fault == "kill" else broker.node.stop)()
        broker.node.start()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="weighs a process by /proc")
def test_hours_of_faults_lose_nothing_and_leave_nothing_behind(broker, tmp_path, capsys):
    seed = random.randrange(1_000_000)
    rng, faults = random.Random(seed), dict.fromkeys(FAULTS, 0)
    with TcpProxy(broker.node.host, broker.node.port) as proxy:
        child = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.support.bus_soak", broker.at(proxy.host, proxy.port), tmp_path],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert child.stdout.readline() == "ready\n", child.stderr.read()
            began = time.monotonic()
            while time.monotonic() < began + SECONDS:
                time.sleep(EVERY * rng.uniform(0.5, 1.5))
                done = sum(faults.values())
                fault = FIRST[done] if done < len(FIRST) else rng.choices(list(FAULTS), FAULTS.values())[0]
                faults[fault] += 1
                inflict(fault, broker, proxy, rng)
            child.stdin.write("drain\n")
            child.stdin.flush()
            out, complaints = child.communicate(timeout=300)
        finally:
            child.kill()
            child.communicate()
    assert (child.returncode, complaints) == (0, ""), f"seed {seed}: {complaints}"
    found = json.loads(out)
    samples = found.pop("samples")
    third = len(samples) // 3
    early, late = (
        [statistics.median(part) for part in zip(*some, strict=True)] for some in (samples[:third], samples[-third:])
    )
    counts = found["counts"]
    with capsys.disabled():
        print(
            f"\nsoak of {SECONDS:.0f} s, seed {seed}: {counts['confirmed']} confirmed, {len(found['lost'])} lost, "
            f"{found['reconnects']} reconnects, {found['republished']} sent again, {found['duplicates']} taken out by the "
            f"inbox; threads {early[0]:.0f} -> {late[0]:.0f}, files {early[1]:.0f} -> {late[1]:.0f}, memory "
            f"{early[2] / 2**20:.1f} -> {late[2] / 2**20:.1f} MiB; {', '.join(f'{n} x {name}' for name, n in faults.items())}"
        )
    assert (found["lost"], found["wrong"], found["errors"]) == ([], [], []), f"seed {seed}"
    unknown, refused = counts.get("unknown", 0), counts.get("refused", 0)
    assert counts["published"] == counts["confirmed"] + unknown + refused
    assert counts["done"] + found["open"] == counts["published"] - refused
    assert found["open"] <= unknown
    assert found["balanced"]
    assert (found["in_flight"], found["dead_lettered"]) == (0, 0)
    assert found["reconnects"] > 0
    assert late[0] <= early[0] + 1, f"threads, seed {seed}: {samples}"
    # The most, because a client that is cut off at the moment has half of its files.
    most = [max(sample[1] for sample in some) for some in (samples[:third], samples[-third:])]
    assert most[1] <= most[0] + 3, f"open files, seed {seed}: {samples}"
    assert late[2] <= early[2] + MOST_GROWTH, f"memory, seed {seed}: {samples}"
    assert found["after"][:2] == found["before"][:2], "the buses left a thread or a file behind"
