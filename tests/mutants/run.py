"""
Apply small breakages one at a time to a copy of the tree, and see that a test catches each.

    python tests/mutants/run.py [part ...] [--most N] [--seed N] [--jobs N]

A mutant that no test catches is printed and makes the exit code 1. With --most only N of each part, drawn by the
seed, are tried.
"""

import argparse
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CAP = 180.0


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_tree(to):
    for name in ("hireliab", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.rst"):
        shutil.copy(ROOT / name, to)


def survives(tree, tests, file, old, new):
    """Whether the tests pass with the breakage; raises when the source text does not occur exactly once."""
    path = tree / file
    source = path.read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise LookupError(f"{file}: the text occurs {source.count(old)} times: {old!r}")
    path.write_text(source.replace(old, new), encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
            cwd=tree,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            timeout=CAP,
            check=False,
        )
        if done.returncode < 0 and "Timeout (" in done.stdout + done.stderr:
            return False  # it hung, and pytest's look at the stacks of a busy loop may end the interpreter
        if done.returncode not in (0, 1, 2):
            raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False  # a test that hangs has noticed
    finally:
        path.write_text(source, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--most", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    known = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem != "run"}
    work = []
    for part in options.parts or known:
        module = load(known[part])
        assert len(module.MUTANTS) >= 8, f"{part}: fewer than eight mutants"
        chosen = random.Random(f"{options.seed}/{part}").sample(module.MUTANTS, min(options.most, len(module.MUTANTS)))
        work += [(part, module.TESTS, *mutant) for mutant in chosen]
    print(f"{len(work)} mutants, seed {options.seed}", flush=True)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        trees = [Path(folder) / str(n) for n in range(options.jobs)]
        for tree in trees:
            tree.mkdir()
            copy_tree(tree)

        def one(job):
            part, tests, name, file, old, new = job
            tree = trees.pop()
            try:
                verdict = "SURVIVED" if survives(tree, tests, file, old, new) else "caught"
            except (LookupError, RuntimeError) as error:
                verdict = f"BROKEN {error}"
            finally:
                trees.append(tree)
            print(f"{verdict:<9} {part}: {name}", flush=True)
            return verdict == "caught"

        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(one, work))
    bad = results.count(False)
    print(f"{len(results) - bad} of {len(results)} mutants caught")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
