"""What ``import hireliab`` brings along, and what it costs."""

import json
import statistics
import subprocess
import sys
import time

ROUNDS = 20
ALLOWED_MS = 10.0
BARE, OURS = "pass", "import hireliab"
NEW_MODULES = """
import json, sys
before = set(sys.modules)
import hireliab
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_it_loads_its_own_three_modules_and_none_of_others():
    """What was there before is the interpreter's and the environment's own."""
    done = subprocess.run([sys.executable, "-c", NEW_MODULES], capture_output=True, text=True, check=True)
    new = json.loads(done.stdout)
    ours = [name for name in new if name.partition(".")[0] == "hireliab"]
    assert ours == ["hireliab", "hireliab._lazy", "hireliab._version"]
    others = {name.partition(".")[0] for name in new} - {"hireliab"}
    assert others <= set(sys.stdlib_module_names)
    # Of the standard library, too, only what is cheap.
    assert not others & {"asyncio", "concurrent", "dataclasses", "logging", "sqlite3", "ssl", "threading", "typing"}


def test_it_costs_less_than_ten_milliseconds():
    """
    The figure is the difference of the medians of 20 starts in turn. What is asserted is that of the least ones, which a
    busy machine disturbs far less.
    """
    took = {BARE: [], OURS: []}
    for _ in range(ROUNDS + 1):
        for code, times in took.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append((time.perf_counter() - began) * 1000)
    bare, ours = (times[1:] for times in took.values())  # the first ones warm the disk's cache
    print(
        f"\nimport hireliab: {statistics.median(ours) - statistics.median(bare):.1f} ms more than a bare interpreter"
        f" ({statistics.median(ours):.1f} and {statistics.median(bare):.1f}, medians of {ROUNDS} in turn)"
    )
    assert min(ours) - min(bare) < ALLOWED_MS
