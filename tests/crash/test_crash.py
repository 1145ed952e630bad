"""
The crash campaign as tests: short and seeded. The full one: ``python -m benchmarks crash --kills 10000``.

HIRELIAB_CRASH_SEED and HIRELIAB_CRASH_KILLS override the seed and the number of random kills, of which each profile of
the exchange gets half; .ci/run asks for more than a developer needs. What every label costs comes on top.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hireliab.core._kill_points import LABELS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEED = os.environ.get("HIRELIAB_CRASH_SEED", "7")
KILLS = os.environ.get("HIRELIAB_CRASH_KILLS", "60")
PROFILES = ("default", "null-client-ids")
AT_ONCE = 2 * (os.cpu_count() or 1)

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
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


MUTANTS = _mutants()


def run(command, timeout):
    """Exit code and what was printed; nothing of it outlives the test."""
    faulthandler.cancel_dump_traceback_later()  # it takes longer than pytest's patience, and has a limit of its own
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=timeout)
    except BaseException:
        process.terminate()  # a crew ends its campaigns, each of which is a session of its own
        try:
            process.communicate(timeout=10)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, printed


def campaign(*arguments, timeout):
    """One campaign: exit code and what it printed."""
    return run([str(HERE / "campaign.py"), "--quiet", "--seed", SEED, *arguments], timeout)


def test_the_checker_imports_nothing_of_what_it_checks():
    imported = set()
    own = {"books", "checks_conduct", "checks_events", "checks_kills"}
    for name in ("checker.py", *(f"{module}.py" for module in own)):
        for node in ast.walk(ast.parse((HERE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert imported <= {*sys.stdlib_module_names, *own}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Both profiles, at every label and at random: the folder of all campaigns, exit code, report and figures."""
    folder = tmp_path_factory.mktemp("crash")
    command = [
        "-m",
        "benchmarks",
        "crash",
        "--kills",
        KILLS,
        "--seed",
        SEED,
        "--shard",
        "125",
        "--classes",
        "calm,stormy",
    ]
    command += ["--jobs", str(AT_ONCE), "--keep", str(folder / "runs"), "--json", str(folder / "figures.json")]
    code, printed = run(command, timeout=600 + 3 * int(KILLS))
    return folder / "runs", code, printed, json.loads((folder / "figures.json").read_text())


@pytest.mark.slow
def test_a_bot_that_is_killed_again_and_again_keeps_its_books_equal_to_the_exchanges(killed, capsys):
    _, code, printed, figures = killed
    with capsys.disabled():
        print("\n" + printed)  # the tables belong into CI's log
    assert code == 0, printed
    assert figures["violations"] == {}
    assert figures["kills"] > int(KILLS)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_the_bot_died_at_every_label_in_each_profile(killed, profile):
    report = json.loads((killed[0] / f"labels-{profile}-{SEED}" / "report.json").read_text())
    assert {name.split()[0] for name, deaths in report["deaths"].items() if deaths} == set(LABELS)
    assert all(report["nested"][label] for label in ("L19", "L20", "L21")), "no recovery was killed while it recovered"


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_gets_its_half_of_the_random_kills(killed, profile):
    reports = [json.loads(path.read_text()) for path in killed[0].glob(f"storm-{profile}-*/report.json")]
    assert sum(report["kills"] for report in reports) == int(KILLS) // 2
    assert (sum(report["undecidable"] for report in reports) > 0) == (profile == "null-client-ids")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A campaign that is quickly checked: its folder."""
    folder = tmp_path_factory.mktemp("small") / "run"
    code, printed = campaign("--kills", "20", "--keep", str(folder), timeout=600)
    assert code == 0, printed
    return folder


def copy_of(run_folder, folder):
    """The run's files, of which the journal and the promises may be changed."""
    shutil.copytree(run_folder, folder, ignore=shutil.ignore_patterns("truth.jsonl"))
    (folder / "truth.jsonl").symlink_to(run_folder / "truth.jsonl")
    return folder


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
    "a row of nobody": (f"UPDATE txn SET owner = 'nobody' WHERE txn_id = {PICK}", "I9"),
    "a row of an older epoch": (
        "UPDATE txn SET epoch = epoch - 1 WHERE txn_id = (SELECT txn_id FROM txn WHERE epoch > 1 LIMIT 1)",
        "I9",
    ),
    "a claim that is missing": (
        "UPDATE txn_log SET cause = 'a note' WHERE seq = (SELECT min(seq) FROM txn_log WHERE cause LIKE 'T27%')",
        "I9",
    ),
    "a version from when no bot lived": (f"UPDATE txn_log SET wall = 1.0 WHERE version = 1 AND txn_id = {PICK}", "I9"),
    "an event that is missing": (f"DELETE FROM event WHERE txn_id = {PICK} AND topic = 'transaction.completed'", "I6"),
    "an event that was not told": (
        "INSERT INTO event (event_id, txn_id, topic, body, created) SELECT txn_id || ':1', txn_id, 'order.updated',"
        f" json_object('event_id', txn_id || ':1', 'transaction_id', txn_id, 'state', 'SUBMITTING'), 1 FROM txn"
        f" WHERE txn_id = {PICK}",
        "I6",
    ),
    "an event that is not marked": ("UPDATE event SET published = NULL WHERE seq = (SELECT min(seq) FROM event)", "I6"),
    "an event with another body": ('UPDATE event SET body = replace(body, \'"filled":"\', \'"filled":"9\')', "I6"),
    "an event on another topic": (
        "UPDATE event SET topic = 'transaction.failed' WHERE topic = 'transaction.completed'",
        "I6",
    ),
    "a log that goes on without its row": (
        f"{LOG} SELECT txn_id, version + 1, updated, 'COMPLETED', attempt, 'T20' FROM txn WHERE txn_id = {PICK}",
        "I5",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FORGERIES)
def test_the_checker_sees_a_journal_that_was_tampered_with(small, what, tmp_path):
    statement, kind = FORGERIES[what]
    folder = copy_of(small, tmp_path / "run")
    connection = sqlite3.connect(folder / "journal" / "journal.db")
    with connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()
    assert f"VIOLATION {kind}:" in check(folder)


END = '"t": "end",'
PROMISES = {
    "a True that names another order": (END, '"value": true', "order_id", "1", "I3"),
    "a True with other fills": (END, '"value": true', "filled", "77", "I3"),
    "a True with another fee": (END, '"value": true', "fee", "77", "I3"),
    "a False for an order that was filled": (END, '"value": true', "value", False, "I3"),
    "an answer that was not durable": (END, '"value": true', "durable", False, "I3"),
    "a listing of fills that leaves them out": ('"t": "fills",', '"fills": [[', "fills", [], "I7"),
    "fills that could not be listed": ('"t": "fills",', '"fills": [[', "t", "no_fills", "I7"),
    "a thread that died": (END, '"value": true', "t", "dead", "I4"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", PROMISES)
def test_the_checker_sees_a_promise_that_was_not_kept(small, what, tmp_path):
    event, mark, name, value, kind = PROMISES[what]
    folder = copy_of(small, tmp_path / "run")
    path = folder / "promises.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next(i for i, line in enumerate(lines) if event in line and mark in line)
    lines[number] = json.dumps(
        {**json.loads(lines[number]), "error": None, name: value} | ({"error": "x"} if name == "t" else {})
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert f"VIOLATION {kind}:" in check(folder)


def _swap(heard):
    """Of one transaction, the first two events in the other order."""
    seen = {}
    for number, note in enumerate(heard):
        txn = note["id"].partition(":")[0]
        if txn in seen and heard[seen[txn]]["id"] != note["id"]:
            heard[seen[txn]], heard[number] = note, heard[seen[txn]]
            return heard
        seen.setdefault(txn, number)
    raise AssertionError("no transaction had two events")


HEARD = {
    "an event that was never heard": lambda heard: [note for note in heard if note["id"] != heard[0]["id"]],
    "an event that nobody wrote down": lambda heard: [*heard, {**heard[0], "id": "01K4M8F7003A6QW24TA3DXDX5X:1"}],
    "an event that was heard before an earlier one": _swap,
    "an event that said something else": lambda heard: [
        {**heard[0], "data": {**heard[0]["data"], "filled": "77"}},
        *heard,
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HEARD)
def test_the_checker_sees_what_was_heard_otherwise(small, what, tmp_path):
    folder = copy_of(small, tmp_path / "run")
    path = folder / "heard.jsonl"
    heard = HEARD[what]([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    path.write_text("".join(json.dumps(note) + "\n" for note in heard), encoding="utf-8")
    assert "VIOLATION I6:" in check(folder)


@pytest.mark.slow
def test_an_event_that_is_heard_again_is_no_violation(small, tmp_path):
    folder = copy_of(small, tmp_path / "run")
    with (folder / "heard.jsonl").open("a", encoding="utf-8") as heard:
        heard.write((folder / "heard.jsonl").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, str(HERE / "checker.py"), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_checker_sees_an_order_that_was_sent_although_trading_was_halted(small, tmp_path):
    folder = copy_of(small, tmp_path / "run")
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "halts": [["HALTED", 0, None]]}))
    assert "VIOLATION HALT:" in check(folder)


def check(folder):
    """What the checker prints about a folder in which it must find something."""
    done = subprocess.run(
        [sys.executable, str(HERE / "checker.py"), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def broken(request):
    """Every broken pipeline that was selected, and the unbroken one beside them, run side by side: name -> outcome."""
    mine = [
        item for item in request.session.items if item.path == request.path
    ]  # others call a fixture of theirs so, too
    names = [item.callspec.params["name"] for item in mine if "broken" in getattr(item, "fixturenames", ())]
    with ThreadPoolExecutor(AT_ONCE) as crew:
        outcomes = crew.map(lambda name: campaign("--kills", "6", "--break", name, timeout=600), names)
    return dict(zip(names, outcomes, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS.MUTANTS)
def test_the_checker_catches_a_pipeline_that_is_broken_on_purpose(name, broken):
    code, printed = broken[name]
    assert code == 1, printed
    assert f"VIOLATION {MUTANTS.MUTANTS[name].kind}:" in printed, printed


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS.CONTROLS)
def test_the_unbroken_pipeline_passes_where_the_broken_ones_fail(name, broken):
    code, printed = broken[name]
    assert code == 0, printed


@pytest.mark.slow
def test_orders_that_a_restored_back_up_does_not_know_are_found_and_adopted():
    code, printed = campaign("--stage", "restore", "--kills", "12", timeout=600)
    assert code == 0, printed


@pytest.mark.slow
def test_under_the_real_limits_fifty_unknowns_are_decided_without_one_request_too_many(capsys):
    code, printed = campaign("--stage", "limits", timeout=300)
    with capsys.disabled():
        print("\n" + printed)
    assert code == 0, printed


def test_a_line_that_a_kill_has_torn_is_none_and_spoils_no_other(tmp_path):
    spec = importlib.util.spec_from_file_location("crash_books", HERE / "books.py")
    books = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(books)
    path = tmp_path / "promises.jsonl"
    path.write_text('\n{"t": "start"}\n{"t": "rea\n{"t": "start"}\n{"t": "begin"}\n{"t": "en')
    assert [note["t"] for note in books.lines(path)] == ["start", "start", "begin"]
    with pytest.raises(ValueError, match="Unterminated"):
        books.lines(path, torn=False)
