"""
The campaign with other bots as a test: short and seeded. The full one: ``python tests/crash/baselines.py --kills 150``.

Of hireliab it is asserted that it got nothing wrong; of the others only that they took part, and that what they did is
in the table. HIRELIAB_CRASH_SEED overrides the seed.
"""

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
KILLS = 4

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"),
        reason="this system has no fork() or no SIGKILL: a bot cannot be killed as the campaign does it",
    ),
]


def run(*arguments, timeout):
    """Exit code and what was printed; nothing of it outlives the test."""
    faulthandler.cancel_dump_traceback_later()  # it takes longer than pytest's patience, and has a limit of its own
    process = subprocess.Popen(
        [sys.executable, str(HERE / "baselines.py"), *arguments],
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
    return process.returncode, printed


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A short run with every bot: its folder, exit code, output and rows by bot."""
    folder = tmp_path_factory.mktemp("baselines")
    code, printed = run(
        "--kills", str(KILLS), "--seed", SEED, "--keep", str(folder / "run"), "--json", str(folder / "rows.json"), timeout=300
    )  # fmt: skip
    assert code in (0, 1), printed
    rows = {row["bot"]: row for row in json.loads((folder / "rows.json").read_text(encoding="utf-8"))}
    return folder / "run", code, printed, rows


def test_hireliab_duplicates_nothing_loses_nothing_and_tells_nothing_wrong(compared, capsys):
    _, code, printed, rows = compared
    with capsys.disabled():
        print("\n" + printed)
    ours = rows["hireliab"]
    assert code == 0, printed
    assert (ours["duplicates"], ours["orphans"], ours["wrong"]) == (0, 0, 0), printed
    assert ours["kills"] == KILLS
    assert ours["asked"] >= 5 * KILLS
    assert ours["accepted"] > 0
    assert ours["checker"] == "violations: none", printed


def test_the_table_has_every_bot_and_each_of_them_traded_and_was_killed(compared):
    _, _, printed, rows = compared
    assert list(rows) == ["hireliab", "naive", "dbos", "dbos-careful"]
    for name, row in rows.items():
        if name.startswith("dbos") and importlib.util.find_spec("dbos") is None:
            assert not row["installed"]
            assert "not installed" in printed
            continue
        assert row["kills"] == KILLS
        assert row["asked"] >= 5 * KILLS
        assert row["sent"] >= row["accepted"] >= row["asked"] / 2  # most orders of such a bot do come to be
        assert row["duplicates"] >= row["after_kill"] >= 0
    assert printed.count(" s  ") >= 2  # the rows themselves, beside the progress


def test_a_library_that_is_missing_is_said_to_be_missing(tmp_path, monkeypatch):
    baselines = load(monkeypatch)
    monkeypatch.setattr(baselines, "is_installed", lambda bot: False)
    rows = baselines.run(1, 1, tmp_path, bots=("dbos",))
    assert "not installed" in baselines.table(rows, 1, 1)


def load(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import baselines

    return baselines


def recount(monkeypatch, folder, bot):
    baselines = load(monkeypatch)
    return baselines.compare(folder, bot, baselines.Row(bot))


def filled_order(folder):
    """The records of a filled order in the truth file."""
    lines = (folder / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    done = next(r for r in records if r["kind"] == "order" and r["status"] == "Done" and r["client_order_id"])
    return [r for r in records if r["kind"] == "order" and r["id"] == done["id"]]


@pytest.mark.parametrize("bot", ["hireliab", "naive"])
def test_a_second_order_is_counted_as_a_duplicate_and_as_an_orphan(compared, bot, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(compared[0] / bot, folder)
    before = recount(monkeypatch, folder, bot)
    with (folder / "truth.jsonl").open("a", encoding="utf-8") as file:
        for record in filled_order(folder):
            file.write(json.dumps({**record, "id": 1}) + "\n")
    after = recount(monkeypatch, folder, bot)
    assert (after.duplicates, after.orphans) == (before.duplicates + 1, before.orphans + 1)


def test_a_filled_order_that_the_journal_calls_failed_is_counted_as_wrong_and_as_an_orphan(
    compared, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(compared[0] / "hireliab", folder)
    client = filled_order(folder)[0]["client_order_id"]
    connection = sqlite3.connect(folder / "journal" / "journal.db")
    with connection:
        changed = connection.execute("UPDATE txn SET state = 'FAILED' WHERE client_order_id = ?", (client,)).rowcount
    connection.close()
    assert changed == 1
    row = recount(monkeypatch, folder, "hireliab")
    assert (row.wrong, row.orphans) == (1, 1)


def test_an_order_that_nobody_asked_for_is_an_orphan(compared, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(compared[0] / "hireliab", folder)
    with (folder / "truth.jsonl").open("a", encoding="utf-8") as file:
        for record in filled_order(folder):
            file.write(json.dumps({**record, "id": 1, "client_order_id": "stranger"}) + "\n")
    row = recount(monkeypatch, folder, "hireliab")
    assert (row.duplicates, row.orphans) == (0, 1)


def test_an_order_that_is_still_undecided_is_counted_as_unresolved_not_as_wrong(compared, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(compared[0] / "hireliab", folder)
    client = filled_order(folder)[0]["client_order_id"]
    connection = sqlite3.connect(folder / "journal" / "journal.db")
    with connection:
        connection.execute("UPDATE txn SET state = 'UNKNOWN', order_id = NULL WHERE client_order_id = ?", (client,))
    connection.close()
    row = recount(monkeypatch, folder, "hireliab")
    assert (row.unresolved, row.wrong, row.orphans) == (1, 0, 0)
