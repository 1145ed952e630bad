"""
The crash campaign as tests: short and seeded. The full one: ``python tests/crash/campaign.py --kills 200``.

HIRELIAB_CRASH_SEED and HIRELIAB_CRASH_KILLS override the seed and the number of kills.
"""

import ast
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SEED = os.environ.get("HIRELIAB_CRASH_SEED", "7")
KILLS = os.environ.get("HIRELIAB_CRASH_KILLS", "30")

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(
        not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"),
        reason="this system has no fork() or no SIGKILL: a bot cannot be killed as the campaign does it",
    ),
]


def _mutants():
    spec = importlib.util.spec_from_file_location("crash_mutants", HERE / "mutants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXPECTED


def campaign(*arguments, timeout, show=None):
    """Run the campaign; its exit code and what it printed. `show` is capsys: the table belongs into CI's log."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "campaign.py"), "--quiet", "--seed", SEED, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if show is not None:
        with show.disabled():
            print("\n" + printed)
    return process.returncode, printed


def test_the_checker_imports_nothing_of_what_it_checks():
    tree = ast.parse((HERE / "checker.py").read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported <= set(sys.stdlib_module_names)


@pytest.mark.slow
def test_a_bot_that_is_killed_again_and_again_keeps_its_books_equal_to_the_exchanges(capsys):
    code, printed = campaign("--kills", KILLS, timeout=120 + 5 * int(KILLS), show=capsys)
    assert code == 0, printed


@pytest.mark.slow
def test_where_the_exchange_hides_client_ids_only_what_cannot_be_known_stays_undecided(capsys):
    code, printed = campaign("--kills", "10", "--profile", "null-client-ids", timeout=180, show=capsys)
    assert code == 0, printed


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(_mutants()))
def test_the_checker_catches_a_pipeline_that_is_broken_on_purpose(name):
    code, printed = campaign("--kills", "6", "--break", name, timeout=120)
    assert code == 1, printed
    assert f"VIOLATION {_mutants()[name]}:" in printed, printed


@pytest.mark.slow
@pytest.mark.parametrize("weather", ["none_lost", "none_blind"])
def test_the_unbroken_pipeline_passes_where_the_broken_ones_fail(weather):
    code, printed = campaign("--kills", "4", "--break", weather, timeout=120)
    assert code == 0, printed


@pytest.mark.slow
def test_under_the_real_limits_fifty_unknowns_are_decided_without_one_request_too_many(capsys):
    code, printed = campaign("--stage", "limits", timeout=300, show=capsys)
    assert code == 0, printed
