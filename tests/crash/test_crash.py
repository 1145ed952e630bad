"""
The crash campaign as tests: short and seeded. The full one: ``python tests/crash/campaign.py --kills 200``.

HIRELIAB_CRASH_SEED and HIRELIAB_CRASH_KILLS override the seed and the number of kills.
"""

import ast
import faulthandler
import importlib.util
import json
import os
import shutil
import signal
import sqlite3
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
    faulthandler.cancel_dump_traceback_later()  # it takes longer than pytest's patience, and has a limit of its own
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
    imported = set()
    for name in ("checker.py", "books.py"):
        for node in ast.walk(ast.parse((HERE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert imported <= {*sys.stdlib_module_names, "books"}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A short run: its folder, exit code and table."""
    folder = tmp_path_factory.mktemp("crash") / "run"
    code, printed = campaign("--kills", KILLS, "--keep", str(folder), timeout=120 + 5 * int(KILLS))
    return folder, code, printed


@pytest.mark.slow
def test_a_bot_that_is_killed_again_and_again_keeps_its_books_equal_to_the_exchanges(killed, capsys):
    _, code, printed = killed
    with capsys.disabled():
        print("\n" + printed)
    assert code == 0, printed


PICK = "(SELECT txn_id FROM txn WHERE kind = 'ORDER' AND state = 'COMPLETED' AND proof = 'FILLED' LIMIT 1)"
LOG = "INSERT INTO txn_log (txn_id, version, wall, state, attempt, cause)"
FORGERIES = {
    "an intent that is missing": (f"DELETE FROM txn_log WHERE state = 'SUBMITTING' AND txn_id = {PICK}", "I1"),
    "an intent that is dated later": (
        f"UPDATE txn_log SET wall = wall + 1000 WHERE state = 'SUBMITTING' AND txn_id = {PICK}",
        "I1",
    ),
    "a cancel without an intent": ("DELETE FROM txn_log WHERE state = 'CANCELLING'", "I1"),
    "an order that is forgotten": (f"DELETE FROM txn WHERE txn_id = {PICK}", "I4"),
    "an order that is never decided": (f"UPDATE txn SET state = 'UNKNOWN' WHERE txn_id = {PICK}", "I4"),
    "another end": (f"UPDATE txn SET order_status = 'Canceled' WHERE txn_id = {PICK}", "I4"),
    "a refusal that was a fill": (f"UPDATE txn SET state = 'FAILED', proof = 'REJECTED' WHERE txn_id = {PICK}", "I4"),
    "a decided row that changed": (
        f"{LOG} SELECT txn_id, version + 1, updated + 1, 'RESOLVING', attempt, 'T9 again' FROM txn WHERE txn_id = {PICK}",
        "I5",
    ),
    "a version that is missing": (f"DELETE FROM txn_log WHERE version = 2 AND txn_id = {PICK}", "I5"),
    "a sum of fills that is wrong": (f"UPDATE txn SET filled = '0.5' WHERE txn_id = {PICK}", "I7"),
    "a fee that is wrong": (f"UPDATE txn SET fee = '0.5' WHERE txn_id = {PICK}", "I7"),
    "a fill that never was": (
        "INSERT INTO fill (trade_id, txn_id, order_id, symbol, side, amount, price, fee, time)"
        f" SELECT '1', txn_id, order_id, symbol, side, '1', '1', '0', 0 FROM txn WHERE txn_id = {PICK}",
        "I7",
    ),
    "a promise that is contradicted": (f"UPDATE txn SET state = 'FAILED' WHERE txn_id = {PICK}", "I11"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FORGERIES)
def test_the_checker_sees_a_journal_that_was_tampered_with(killed, what, tmp_path):
    statement, kind = FORGERIES[what]
    folder = tmp_path / "run"
    shutil.copytree(killed[0], folder)
    connection = sqlite3.connect(folder / "journal" / "journal.db")
    with connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()
    assert f"VIOLATION {kind}:" in check(folder)


PROMISES = {
    "a True that names another order": ('"value": true', "order_id", "1", "I3"),
    "a True with other fills": ('"value": true', "filled", "77", "I3"),
    "a True with another fee": ('"value": true', "fee", "77", "I3"),
    "a False for an order that was filled": ('"value": true', "value", False, "I3"),
    "an answer that was not durable": ('"value": true', "durable", False, "I3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", PROMISES)
def test_the_checker_sees_a_promise_that_was_not_kept(killed, what, tmp_path):
    mark, name, value, kind = PROMISES[what]
    folder = tmp_path / "run"
    shutil.copytree(killed[0], folder)
    path = folder / "promises.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next(i for i, line in enumerate(lines) if '"t": "end",' in line and mark in line)
    lines[number] = json.dumps({**json.loads(lines[number]), name: value})
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert f"VIOLATION {kind}:" in check(folder)


def check(folder):
    """What the checker prints about a folder in which it must find something."""
    done = subprocess.run([sys.executable, str(HERE / "checker.py"), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_where_the_exchange_hides_client_ids_only_what_cannot_be_known_stays_undecided(capsys):
    code, printed = campaign("--kills", "10", "--profile", "null-client-ids", timeout=180, show=capsys)
    assert code == 0, printed


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(_mutants()))
def test_the_checker_catches_a_pipeline_that_is_broken_on_purpose(name):
    kills = "4" if name == "network_error_is_absent" else "6"
    code, printed = campaign("--kills", kills, "--break", name, timeout=120)
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
