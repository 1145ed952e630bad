"""``hireliab status``: its words and exit codes, for a bot that runs, died, hangs, starts, or left nonsense behind."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from hireliab import _cli_status, cli
from hireliab.core._file_lock import FileLock
from hireliab.core.clock import SYSTEM_CLOCK, SystemClock
from hireliab.exchange import _halt, _operator

NOW = SYSTEM_CLOCK.time()
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX's owners and modes")
PID = os.getpid()

PHASE = {"count": 2, "mean": 0.1, "p50": 0.1, "p99": 0.2, "most": 0.25}
SAID = {
    "pid": PID,
    "name": "default",
    "started": NOW - 7200,
    "state": "running",
    "verdicts": {"COMPLETED": 2},
    "events": {},
    "reads": {"found": 3},
    "running": 0,
    "unresolved": 0,
    "oldest_unresolved": None,
    "needs_human": 0,
    "resting": 1,
    "watched": 0,
    "orphans": 0,
    "halt": None,
    "resolver_alive": True,
    "blind": False,
    "phases": {"send": PHASE, "total": {"count": 0}},
    "journal": {"poisoned": False, "full": False},
    "outbox": {"pending": 0, "oldest": None, "late": False, "last_error": ""},
    "updated": NOW - 2,
}
HEALTHY = {"status": "healthy", "reasons": [], "checks": {"pool venue": "healthy", "check disk": "healthy"}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path))
    monkeypatch.setattr(SystemClock, "time", lambda _: NOW)
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "default"
    folder.mkdir(mode=0o700)
    (folder / "journal.db").touch()
    (folder / "owner.pid").write_text(f"{PID}\n")
    return folder


@pytest.fixture
def lock(folder):
    """The lock of the bot that runs: this process."""
    with FileLock(folder / "journal.lock"):
        yield


@pytest.fixture
def run(capsys):
    def run(*args):
        code = cli.main(["status", *args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def say(folder, **more):
    _operator._replace(folder / "status.json", {**SAID, **more}, sync=False)


def read(run, *args):
    code, out, err = run("--json", *args)
    assert err == ""
    return code, json.loads(out)


# -- a bot that runs ----------------------------------------------------------------------------------------------


def test_a_healthy_bot(folder, lock, run):
    say(folder, health=HEALTHY)
    code, out, err = run()
    assert (code, err) == (0, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0] == "bot default: healthy"
    assert f" process            {PID}, running, started " in out
    assert "(2 h ago)" in out
    assert "(2 s ago)" in out
    assert ["verdicts", "COMPLETED", "2"] in [line.split() for line in lines]
    assert "2 times, p50 100.0 ms, p99 200.0 ms, most 250.0 ms" in out
    assert "phase total" not in out  # nothing was measured
    assert "\x1b" not in out
    assert any(line.split() == ["check", "disk", "healthy"] for line in lines)


def test_json_has_everything(folder, lock, run):
    say(folder, health=HEALTHY)
    code, found = read(run)
    assert (code, found["health"], found["reasons"]) == (0, "healthy", [])
    assert found["status"] == {**SAID, "health": HEALTHY}


@pytest.mark.parametrize(
    ("health", "code"), [("degraded", 1), ("down", 2)],
)  # fmt: skip
def test_what_the_health_monitor_says_counts(folder, lock, run, health, code):
    say(folder, health={"status": health, "reasons": ["breaker orders: open"], "checks": {"breaker orders": health}})
    assert run()[0] == code
    assert f"bot default: {health}\n  - breaker orders: open\n" in run()[1]


@pytest.mark.parametrize(
    ("figures", "code", "words"),
    [
        ({}, 0, "No HealthMonitor is set up"),
        ({"halt": "HALTED"}, 1, "halted by an operator"),
        ({"needs_human": 2, "unresolved": 2}, 1, "only a person can decide 2 transactions"),
        ({"journal": {"poisoned": True, "full": False}}, 2, "a write failed"),
        ({"outbox": {"late": True, "last_error": "refused"}}, 1, "events are late (refused)"),
        ({"health_error": "OSError: x"}, 1, "health error: OSError: x"),
        ({"status_error": "OSError: x"}, 1, "status error: OSError: x"),
        ({"journal": None}, 1, "no figures that this version of hireliab knows"),
        ({"oldest_unresolved": "old"}, 1, "no figures that this version of hireliab knows"),
        ({"health": {"status": "splendid"}}, 0, "bot default: healthy"),
        ({"health": ["degraded"]}, 0, "bot default: healthy"),
    ],
)
def test_without_a_monitor_the_figures_are_judged(folder, lock, run, figures, code, words):
    say(folder, **figures)
    found, out, err = run()
    assert (found, err) == (code, "")
    assert words in out


def test_a_monitor_that_does_not_know_the_pipeline_cannot_hide_its_trouble(folder, lock, run):
    say(folder, health=HEALTHY, journal={"poisoned": True, "full": False})
    assert run()[0] == 2


def test_what_both_say_is_said_once(folder, lock, run):
    why = "halted by an operator: no order is sent until 'hireliab unhalt'"
    say(folder, halt="HALTED", health={"status": "degraded", "reasons": [f"pipeline default: {why}"], "checks": {}})
    assert read(run)[1]["reasons"] == [f"pipeline default: {why}"]


def test_it_changes_nothing(folder, lock, run):
    say(folder)

    def files():
        # filelock 3.13 touches the lock's file when it looks whether somebody has it.
        return {
            path.name: (path.read_bytes(), path.name == "journal.lock" or path.stat().st_mtime_ns)
            for path in folder.iterdir()
        }

    before = files()
    run()
    assert files() == before


def test_what_came_from_elsewhere_cannot_colour_the_terminal(folder, lock, run):
    say(
        folder,
        name="\x1b[31mred",
        health={"status": "down", "reasons": ["\x1b]0;x\x07"], "checks": {"\x1b[1m": "\x1b[2m"}},
    )
    assert "\x1b" not in run()[1]


# -- a bot that does not run --------------------------------------------------------------------------------------


def test_a_bot_that_died(folder, run):
    say(folder, pid=4711)
    code, out, err = run()
    assert (code, err) == (2, "")
    assert "bot default: down\n  - no bot runs: process 4711 is gone and did not stop in order" in out


def test_a_process_id_that_another_program_has_now_is_no_bot(folder, run):
    say(folder)  # the id of this test's process, which is alive and holds no lock
    assert run()[0] == 2
    assert "is gone" in run()[1]


def test_a_bot_that_was_stopped(folder, run):
    say(folder, state="stopped")
    assert run()[0] == 2
    assert "no bot runs: it was stopped" in run()[1]


def test_a_halt_is_told_of_a_bot_that_does_not_run_and_of_one_that_has_not_seen_it(folder, run):
    _halt.write(folder, _halt.Halt(mode="HALTED", reason="look first", who="sara", since=NOW))
    say(folder, state="stopped", oldest_unresolved=90.0)
    code, out, _ = run()
    assert code == 2
    assert "  - halted by an operator, from the next start on, too\n" in out
    assert re.search(r"^  halt +HALTED since .* by sara: look first$", out, re.MULTILINE)
    assert re.search(r"^  oldest unresolved +90 s$", out, re.MULTILINE)
    with FileLock(folder / "journal.lock"):
        say(folder, health=HEALTHY)
        assert run()[0] == 1
        say(folder, halt="HALTED", health=HEALTHY)
        reasons = read(run, "--name", "default")[1]["reasons"]
        assert [reason for reason in reasons if "halted" in reason] == [
            "halted by an operator: no order is sent until 'hireliab unhalt --name default'"
        ]


def test_a_folder_with_backslashes_is_named_as_it_is(folder, run):
    windows = folder.with_name(r"C:\Users\g<9>\1")
    folder.rename(windows)
    with FileLock(windows / "journal.lock"):
        say(windows, halt="HALTED", health=HEALTHY)
        reasons = read(run, "--journal", str(windows))[1]["reasons"]
    assert f"until 'hireliab unhalt --journal {shlex.quote(str(windows))}'" in reasons[0]


def test_a_bot_that_is_stopping(folder, lock, run):
    say(folder, state="stopped")
    assert (run()[0], read(run)[1]["reasons"]) == (2, ["the bot is stopping"])


def test_a_bot_that_hangs(folder, lock, run):
    say(folder, updated=NOW - 15.0, health=HEALTHY)
    code, found = read(run)
    assert (code, found["health"]) == (2, "down")
    assert found["reasons"] == ["the bot is there, but last said something 15 s ago: it is stuck, or suspended"]
    say(folder, updated=NOW - 14.9, health=HEALTHY)
    assert run()[0] == 0


def test_a_clock_that_was_set_back(folder, lock, run):
    say(folder, updated=NOW + 3600)
    assert (run()[0], read(run)[1]["reasons"]) == (1, ["what it said last is of the future: a clock was set back"])


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_bot_that_starts_is_not_taken_for_its_predecessor(folder, lock, run, state):
    say(folder, pid=4711, state=state, updated=NOW - 9999)
    code, found = read(run)
    assert code == 1
    assert found["reasons"] == [f"process {PID} owns the journal and has not said anything yet: it is starting"]


@posix
def test_where_the_lock_cannot_be_tried_the_process_decides(folder, run, monkeypatch):
    from hireliab.errors import JournalError
    from hireliab.exchange import _operator_client

    def refuse(_):
        raise JournalError("not yours")

    monkeypatch.setattr(_operator_client, "is_owned", refuse)
    say(folder)
    assert run()[0] == 0
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    say(folder, pid=gone.pid)
    assert run()[0] == 2

    def kill(*_):
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    say(folder)
    assert run()[0] == 0


# -- nothing to tell ----------------------------------------------------------------------------------------------


def unknown(run, words):
    """A clear line, exit code 3; for machines too."""
    code, out, err = run()
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert words in err
    code, out, err = run("--json")
    found = json.loads(out)
    assert (code, err, found["health"], found["status"]) == (3, "", "unknown", None)
    assert words in found["reasons"][0]


def test_no_journal(folder, run):
    (folder / "journal.db").rename(folder / "other.db")
    unknown(run, "no journal in")
    code, _, err = run("--name", "defualt")
    assert code == 3
    assert "no journal in" in err


def test_known_names_are_told(folder, run):
    code, _, err = run("--name", "other")
    assert (code, "known names: default" in err) == (3, True)


def test_no_status(folder, run):
    unknown(run, "no bot has run here with operator_interval, or it has not started yet")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", json.dumps(SAID).encode()[:-20], b"null", b"[]", b"{}", b'{"state": "running"}', b"\xff\xfe", b"[" * 100_000,
        b'{"state": 1, "updated": 1}', b'{"state": "running", "updated": NaN}', b'{"state": "running", "updated": true}',
        b'{"state": "running", "updated": 1e999}', b'{"state": "running", "updated": ' + b"9" * 400 + b"}",
    ],
)  # fmt: skip
def test_a_torn_status(folder, lock, run, content):
    (folder / "status.json").touch(0o600)
    (folder / "status.json").write_bytes(content)
    unknown(run, "torn, or no bot's")


def test_a_status_that_is_too_large(folder, lock, run, monkeypatch):
    monkeypatch.setattr(_cli_status, "MOST_BYTES", 100)
    say(folder)
    unknown(run, "larger than 100 bytes")


@posix
@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_status_that_others_may_write_is_not_believed(folder, lock, run, mode):
    say(folder)
    (folder / "status.json").chmod(mode)
    unknown(run, f"can be written by others (mode {mode:o})")


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_status_that_others_may_read_is_told(folder, lock, run, mode):
    say(folder)
    (folder / "status.json").chmod(mode)
    assert (run()[0], read(run)[1]["reasons"]) == (
        1,
        [f"status.json can be read by others (mode {mode:o}); the bot writes 600"],
    )


@posix
def test_a_status_of_another_user_is_not_believed(folder, lock, run, monkeypatch):
    say(folder)
    real = os.fstat

    def fstat(descriptor):
        found = real(descriptor)
        return os.stat_result((*found[:4], found.st_uid + 1, *found[5:]))

    monkeypatch.setattr(_cli_status.os, "fstat", fstat)
    unknown(run, f"belongs to user {os.geteuid() + 1}, and the folder to user {os.geteuid()}")


@posix
@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_a_status_that_is_no_plain_file(folder, lock, run, kind, tmp_path):
    path = folder / "status.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        say(tmp_path)
        path.symlink_to(tmp_path / "status.json")
    unknown(run, "is no plain file" if kind == "pipe" else "cannot be read (")


@posix
def test_no_permission(folder, lock, run, monkeypatch):
    say(folder)
    real = os.open

    def refuse(path, *args, **kwargs):
        if str(path).endswith("status.json"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(_cli_status.os, "open", refuse)
    unknown(run, "cannot be read (Permission denied); run this as the bot's user")


# -- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--jsno"], "no such option"),
        (["--name"], "requires an argument"),
        (["--name", "a", "--journal", "b"], "give --name or --journal, not both"),
        (["--name", "a/b"], "name"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_usage_errors_are_not_taken_for_a_bot_that_is_down(folder, run, args, words):
    code, out, err = run(*args)
    assert (code, out) == (3, "")
    assert words in err.lower()
    assert len(err.splitlines()) == 1


def test_the_near_miss_of_the_command_is_told(capsys):
    assert cli.main(["staus"]) == 2
    assert "did you mean 'status'?" in capsys.readouterr().err


def test_help_tells_the_exit_codes(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "0 healthy; 1 degraded; 2 down, stopped or not running; 3" in " ".join(out.split())
