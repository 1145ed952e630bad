"""Each example as a newcomer runs it: python -m, in an empty folder, without a terminal, with the network closed."""

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

import hireliab.examples
from hireliab.examples import _legacy_day, legacy_bot_after, legacy_bot_before
from hireliab.examples._offline import exchange
from tests.support.broker import sweep

PACKAGE = Path(hireliab.examples.__file__).parents[2]
"""Where the code under test lies; the examples run in folders of their own, and must not find another one."""
HERE = {"PYTHONPATH": str(PACKAGE)}
NAMES = re.findall(r"^(\w+)  +\S", hireliab.examples.__doc__, re.MULTILINE)


def run_example(tmp_path, *arguments, code=0):
    """Run it; its lines. A proxy that cannot be reached: whoever asks it has left loopback."""
    for folder in ("tmp", "empty"):
        (tmp_path / folder).mkdir()
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://192.0.2.1:9")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in ("no_proxy", "columns")}
    places = dict.fromkeys(("TMPDIR", "TEMP"), str(tmp_path / "tmp")) | {"HIRELIAB_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "hireliab.examples", *arguments],
        cwd=tmp_path / "empty",
        env=kept | proxies | places | HERE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert [list(folder.iterdir()) for folder in (tmp_path / "tmp", tmp_path / "empty")] == [[], []]
    assert not (tmp_path / "home").exists()
    if code == 0:
        assert done.stderr == ""
        return done.stdout.splitlines()
    return done.stderr.splitlines()


def rows(lines):
    """The cells of the table among the lines, by the columns that its ruler shows."""
    ruler = next(i for i, line in enumerate(lines) if re.fullmatch(r"(-+  )+-+", line))
    columns = [match.span() for match in re.finditer("-+", lines[ruler])]
    table = lines[ruler + 1 :]
    table = table[: table.index("")] if "" in table else table
    return [[line[begin:end].strip() for begin, end in columns] for line in table]


# -- the list -----------------------------------------------------------------------------------------------------


def test_the_list_names_every_example_and_nothing_else(tmp_path):
    folder = os.path.dirname(hireliab.examples.__file__)
    files = {name.removesuffix(".py") for name in os.listdir(folder) if name.endswith(".py") and name[0] != "_"}
    assert set(NAMES) == files
    lines = run_example(tmp_path)
    assert [line.split("  ")[0] for line in lines[2:]] == NAMES
    assert max(map(len, lines)) <= 100


def test_a_name_that_is_none_gets_the_near_miss(tmp_path):
    (line,) = run_example(tmp_path, "circuit_braker", code=2)
    assert line == "examples: there is no example 'circuit_braker'; did you mean circuit_breaker?"


# -- the same bot without and with hireliab -----------------------------------------------------------------------


def day(trade):
    """What a bot believes after the day, and what the exchange's truth file says: requests and amounts by signal."""
    with exchange(*_legacy_day.OPTIONS) as venue:
        believed = trade(venue)
        return believed, {signal: _legacy_day.truth_of(venue, amount) for signal, amount in _legacy_day.SIGNALS}


def test_the_old_bot_forgets_an_order_and_doubles_another():
    believed, true = day(lambda venue: legacy_bot_before.trade(venue.where["base_url"], venue.where["token"]))
    assert believed == {"09:00": Decimal("0.01"), "11:00": Decimal("0.03"), "12:00": Decimal("0.04")}
    assert true == {
        "09:00": (1, [Decimal("0.01")]),
        "10:00": (1, [Decimal("0.02")]),  # bought, and the bot does not know of it
        "11:00": (2, [Decimal("0.03"), Decimal("0.03")]),  # bought twice
        "12:00": (1, [Decimal("0.04")]),
    }


def test_with_one_decorator_it_knows_every_order_and_doubles_none(tmp_path):
    believed, true = day(
        lambda venue: legacy_bot_after.trade(venue.where["base_url"], venue.where["token"], tmp_path / "journal")
    )
    assert believed == {signal: Decimal(amount) for signal, amount in _legacy_day.SIGNALS}
    assert true == {signal: (1, [Decimal(amount)]) for signal, amount in _legacy_day.SIGNALS}


@pytest.mark.parametrize(("name", "total", "wrong"), [("before", ["0.08", "0.13"], 2), ("after", ["0.10", "0.10"], 0)])
def test_the_legacy_bots_print_the_difference(tmp_path, name, total, wrong):
    lines = run_example(tmp_path, f"legacy_bot_{name}")
    table = rows(lines)
    assert [row[0] for row in table] == ["09:00", "10:00", "11:00", "12:00", "all"]
    assert [table[-1][2], table[-1][5]] == total
    assert sum("does not know of" in line for line in lines) == wrong


# -- the others ---------------------------------------------------------------------------------------------------


def test_decorators(tmp_path):
    table = rows(run_example(tmp_path, "decorators"))
    assert [row[4] for row in table] == ["98000", "OutcomeUnknownError", "bought 0.02 BTC", "OutcomeUnknownError"]
    # A read after two lost answers, an order after one, an order that had not left, a read whose time was over.
    assert [row[2] for row in table] == ["3", "1", "4", "1"]


def test_circuit_breaker(tmp_path):
    lines = run_example(tmp_path, "circuit_breaker")
    table = rows(lines)
    assert [row[3] for row in table[:4]] == ["closed", "closed", "closed", "open"]
    assert table[-1][3] == "closed"
    refused = sum("not tried" in row[1] for row in table)
    assert f"{refused} calls were refused without touching the network." in lines
    heard = next(line for line in lines if line.startswith("The listener heard"))
    assert heard.startswith("The listener heard: closed -> open")
    assert heard.endswith("half-open -> closed.")


def test_pool_of_sessions(tmp_path):
    table = rows(run_example(tmp_path, "pool_of_sessions"))
    up, down, back = table
    assert (up[1:4], back[1:4]) == (["200", "0", "0"], ["200", "0", "0"])
    assert (int(down[1]), int(down[2]) + int(down[3])) == (0, 200)
    assert int(up[5]) <= 4


def test_alerts_from_logging(tmp_path):
    table = rows(run_example(tmp_path, "alerts_from_logging"))
    assert len(table) <= 6  # for 1003 lines
    assert max(int(row[2]) for row in table) == 1000
    titles = [row[1] for row in table if row[2] == "1"]
    assert {"position is not hedged", "cannot rebalance"} <= set(titles)


def test_several_processes_in_memory(tmp_path):
    lines = run_example(tmp_path, "several_processes")
    assert sum(int(row[1]) for row in rows(lines)) == 30
    assert "Booked: 30; more than once: 0; not at all: 0." in "\n".join(lines)


def test_several_processes_over_rabbitmq(tmp_path, amqp_url, amqp_prefix):
    try:
        lines = run_example(tmp_path, "several_processes", amqp_url, "--namespace", amqp_prefix)
        counts = {row[0]: int(row[1]) for row in rows(lines)}
        # The one that was killed may have died between its line and the inbox: once more, and it says so.
        assert 30 <= sum(counts.values()) <= 31
        assert set(counts) == {"bookkeeper 1", "bookkeeper 2"}
        assert counts["bookkeeper 2"] >= 20
        assert "not at all: 0." in "\n".join(lines)
        assert lines[-1].endswith(f"begin with {amqp_prefix!r}.")
    finally:
        queues = [f"{amqp_prefix}.{kind}.bookkeeping" for kind in ("queue", "dead.queue")]
        sweep(amqp_url, queues=queues, exchanges=[amqp_prefix, f"{amqp_prefix}.dead"])


def test_several_processes_says_that_there_is_no_broker(tmp_path):
    (line,) = run_example(tmp_path, "several_processes", "amqp://guest:secret@127.0.0.1:1", code=1)
    assert line.startswith("several_processes: no connection to the broker: 127.0.0.1:1")
    assert "secret" not in line


# -- what the machine refuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["high_reliability_demo", "legacy_bot_after", "several_processes"])
def test_where_nothing_can_be_written_one_line_says_so(tmp_path, name):
    program = f"import sys, tempfile; tempfile.tempdir = {str(tmp_path / 'gone')!r}; sys.argv = ['examples', {name!r}]"
    program += "; from hireliab.examples.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | HERE, capture_output=True, text=True, timeout=150, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: ")
    assert "No such file or directory" in line


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    command = [sys.executable, "-m", "hireliab.examples", "alerts_from_logging"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | HERE, **pipes) as done:
        done.stdout.close()
        errors = done.stderr.read()
        done.wait(60)
    assert (done.returncode, errors) == (1, "")


def test_the_faults_of_the_legacy_bots_are_those_that_their_texts_tell():
    assert [fault["kind"] for fault in _legacy_day.FAULTS] == ["http_502", "answer_lost"]
    assert json.loads(_legacy_day.OPTIONS[3]) == _legacy_day.FAULTS
