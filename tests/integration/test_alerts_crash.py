"""Alerts of bots that are killed, crash again and again, share a folder, fork, exit, or have no disk left."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter

import pytest

from tests.support import alert_endpoints as ends
from tests.support.alert_endpoints import endpoint

CAP = 60.0  # seconds after which a hang is a failure

# Each bot is a process of its own: this, and then its lines. Its channels and its spool stand in the arguments.
BOT = """
import json, os, signal, sys, threading, time
from hireliab.monitoring.alert_system import AlertSystem
channels, spool = json.loads(sys.argv[1])
def system(**more):
    return AlertSystem({"channels": {name: {"url": url} for name, url in channels.items()}, "spool": spool, **more})
def until(condition):
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up, (alerts.status(), alerts.status().spool)
        time.sleep(0.01)
def pending():
    return sum(one.queued + one.in_flight + one.held + one.spooled for one in alerts.status().channels.values())
def quiet():
    until(lambda: alerts._crew._watchdog._asleep_until is not None)  # its first round, which replays, is over
    until(lambda: alerts.status().spool.rows == 0 and not pending())
"""


def start(script, spool, **channels):
    urls = {name: f"json://{made.address}/" for name, made in channels.items()}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", BOT + script, json.dumps([urls, str(spool)])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(bot, code=0):
    try:
        out, err = bot.communicate(timeout=CAP)
    finally:
        bot.kill()
    assert bot.returncode == code, err[-3000:]
    return out


def run(script, spool, *, code=0, **channels):
    return finish(start(script, spool, **channels), code)


def ids(made):
    """How often each alert was accepted, by its id; messages of the system itself are left out."""
    found = Counter()
    for one in made.accepted:
        if "hireliab" not in one["title"] and "alert channel" not in one["title"]:
            found[one["message"].rpartition("[")[2].rstrip("]")] += 1
    return found


SEND_AND_DIE = """
alerts = system()
alerts.start()
for number in range(200):
    receipt = alerts.send_alert("risk", "critical", f"position {number} is not hedged", "look at once")
    assert receipt.accepted, receipt
    until(lambda: True)
    print(receipt.id, receipt.durable)
sys.stdout.flush()
until(lambda: alerts.status().spool.rows == 200)  # some may have taken longer than the 20 ms of the call
os.kill(os.getpid(), signal.SIGKILL)
"""
DELIVER = """
alerts = system()
alerts.start()
quiet()
alerts.stop()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_after_kill_9_with_200_alerts_pending_each_arrives_once_and_no_restart_repeats_one(tmp_path):
    with endpoint(ends.hang) as mail, endpoint(ends.hang) as chat:
        out = run(SEND_AND_DIE, tmp_path, mail=mail, chat=chat, code=-signal.SIGKILL)
        sent = {line.split()[0] for line in out.splitlines()}
        assert len(sent) == 200
        mail.mode = chat.mode = ends.ok
        run(DELIVER, tmp_path, mail=mail, chat=chat)
        for made in (mail, chat):
            assert ids(made) == dict.fromkeys(sent, 1)
            assert all("sent late" in one["message"] for one in made.accepted)
        before = len(mail.accepted), len(chat.accepted)
        for _ in range(2):
            run(DELIVER, tmp_path, mail=mail, chat=chat)
        assert (len(mail.accepted), len(chat.accepted)) == before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_in_the_middle_of_deliveries_loses_none_and_repeats_at_most_the_one_in_flight(tmp_path):
    script = SEND_AND_DIE.replace(
        "until(lambda: alerts.status().spool.rows == 200)",
        "until(lambda: alerts.status().channels['mail'].delivered >= 50)",
    )
    with endpoint(ends.slow(0.005)) as mail:
        out = run(script, tmp_path, mail=mail, code=-signal.SIGKILL)
        durable = {line.split()[0] for line in out.splitlines() if line.endswith("True")}
        run(DELIVER, tmp_path, mail=mail)
    got = ids(mail)
    assert durable <= set(got)
    assert sum(got.values()) - len(got) <= 1
    assert max(got.values()) <= 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_crash_loop_pages_once(tmp_path):
    script = """
alerts = system()
alerts.start()
alerts.send_alert("system", "critical", "the bot crashed", "in the same place as ever")
quiet()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with endpoint() as mail:
        for _ in range(20):
            run(script, tmp_path, mail=mail, code=-signal.SIGKILL)
        pages = [one for one in mail.accepted if "the bot crashed" in one["title"]]
        assert len(pages) == 1, [one["title"] for one in mail.accepted]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_two_bots_on_one_folder_send_nothing_twice_and_lose_nothing(tmp_path):
    script = """
alerts = system()
alerts.start()
for number in range(20):
    receipt = alerts.send_alert("risk", "critical", f"{os.getpid()}: trouble {number}", "m")
    print(receipt.id, flush=True)
until(lambda: alerts.status().spool.rows == 20)
print(alerts.status().spool.folder, flush=True)
sys.stdin.read()
"""
    with endpoint(ends.hang) as mail:
        bots = [start(script, tmp_path, mail=mail) for _ in range(2)]
        said = [[bot.stdout.readline().strip() for _ in range(21)] for bot in bots]
        assert {lines[-1] for lines in said} == {str(tmp_path), str(tmp_path / "2")}
        for bot in bots:
            bot.kill()
            finish(bot, -signal.SIGKILL)
        mail.mode = ends.ok
        run(DELIVER, tmp_path, mail=mail)
        wanted = {id_ for lines in said for id_ in lines[:-1]}
        assert ids(mail) == dict.fromkeys(wanted, 1)
        run(DELIVER, tmp_path, mail=mail)
        assert sum(ids(mail).values()) == 40


def test_what_was_not_sent_at_a_clean_stop_is_sent_by_the_next_start(tmp_path):
    script = """
alerts = system()
alerts.start()
for number in range(10):
    print(alerts.send_alert("risk", "error", f"trouble {number}", "m").id)
alerts.send_alert("risk", "info", "unimportant", "m")
alerts.stop(timeout=0.2)
"""
    with endpoint(ends.hang) as mail:
        out = run(script, tmp_path, mail=mail)
        mail.mode = ends.ok
        run(DELIVER, tmp_path, mail=mail)
    assert ids(mail) == dict.fromkeys(out.split(), 1)


def test_an_alert_of_an_exit_handler_goes_through_apprise(tmp_path):
    script = """
import atexit
alerts = system()
alerts.start()
atexit.register(lambda: alerts.send_alert("system", "critical", "the bot ends", "m"))
"""
    with endpoint() as mail:
        run(script, tmp_path, mail=mail)
    assert [one["title"] for one in mail.accepted] == ["CRITICAL system: the bot ends"]


def test_an_exit_waits_for_no_hung_channel(tmp_path):
    script = """
alerts = system()
alerts.start()
for name in range(5):
    alerts.send_alert("system", "critical", f"trouble {name}", "m")
began = time.monotonic()
alerts.stop(timeout=0.5)
assert time.monotonic() - began < 8, time.monotonic() - began  # a channel hangs for 15
"""
    with contextlib.ExitStack() as stack:
        run(script, tmp_path, **{f"c{i}": stack.enter_context(endpoint(ends.hang)) for i in range(6)})


def test_an_uncaught_exception_is_told_before_the_process_is_gone(tmp_path):
    script = """
from hireliab.monitoring.log_handler import install_excepthooks
alerts = system()
alerts.start()
install_excepthooks(alerts)
raise ValueError("the strategy broke")
"""
    with endpoint() as mail:
        run(script, tmp_path, mail=mail, code=1)
    (one,) = mail.accepted
    assert one["title"] == "CRITICAL system: the program ends: ValueError"
    assert "the strategy broke" in one["message"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_with_channels_at_work_neither_hangs_nor_sends_twice(tmp_path):
    script = """
alerts = system()
alerts.start()
for number in range(50):
    alerts.send_alert("system", "error", f"of the parent {number}", "m")
child = os.fork()
if child == 0:
    for number in range(10):
        alerts.send_alert("system", "error", f"of the child {number}", "m")
    quiet()
    alerts.stop()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
quiet()
alerts.stop()
"""
    with endpoint(ends.slow(0.002)) as mail:
        run(script, tmp_path, mail=mail)
    titles = Counter(one["title"].removeprefix("ERROR system: ") for one in mail.accepted)
    wanted = [f"of the parent {n}" for n in range(50)] + [f"of the child {n}" for n in range(10)]
    assert titles == dict.fromkeys(wanted, 1)


# -- disks --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit of a file's size")
def test_a_file_that_may_not_grow_costs_durability_and_nothing_else(tmp_path):
    script = """
import resource
alerts = system()
alerts.start()
assert alerts.send_alert("system", "error", "there is room", "m").accepted
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
receipts = [alerts.send_alert("system", "error", f"trouble {n}", "x" * 3000) for n in range(100)]
assert all(receipt.accepted for receipt in receipts)
assert not receipts[-1].durable
until(lambda: not pending() and alerts.status().channels["mail"].delivered >= 102)
print(alerts.status().spool.state)
print(sum(receipt.durable for receipt in receipts))
alerts.stop()
"""
    with endpoint() as mail:
        out = run(script, tmp_path, mail=mail)
        titles = Counter(one["title"].partition(": ")[2] for one in mail.accepted)
        assert all(titles[f"trouble {n}"] == 1 for n in range(100))
        told = [title for title in titles if "spool" in title]
        assert len(told) == 1, titles
        assert titles[told[0]] == 1
        run(DELIVER, tmp_path, mail=mail)
        again = Counter(one["title"].partition(": ")[2] for one in mail.accepted)
        assert all(again[f"trouble {n}"] == 1 for n in range(100))
    assert out.split()[0] in {"full", "broken", "open"}


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a tmpfs needs root on Linux")
def test_a_full_disk_costs_durability_and_nothing_else(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("this machine mounts no tmpfs")
    script = """
alerts = system()
alerts.start()
receipts = [alerts.send_alert("system", "error", f"trouble {n}", "x" * 3000) for n in range(900)]
assert all(receipt.accepted for receipt in receipts)
assert not receipts[-1].durable
print(alerts.status().spool.state)
release.set()
until(lambda: not pending())
alerts.stop()
"""
    try:
        with endpoint(ends.hang) as mail:
            gate = script.replace("release.set()", "print('go', flush=True); sys.stdin.readline()")
            bot = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", BOT + gate, json.dumps([{"mail": f"json://{mail.address}/"}, str(disk / "spool")])],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            state = bot.stdout.readline().strip()
            bot.stdout.readline()
            mail.mode = ends.ok
            bot.stdin.write("\n")
            bot.stdin.flush()
            finish(bot)
            assert state == "full"
            titles = Counter(one["title"].partition(": ")[2] for one in mail.accepted)
            assert all(titles[f"trouble {n}"] >= 1 for n in range(900))
            run(DELIVER, disk / "spool", mail=mail)
            again = Counter(one["title"].partition(": ")[2] for one in mail.accepted)
            assert {title: n for title, n in again.items() if title.startswith("trouble")} == {
                title: n for title, n in titles.items() if title.startswith("trouble")
            }
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.slow
def test_a_spool_of_one_gigabyte_does_not_hold_up_the_start(tmp_path):
    from hireliab.monitoring import _spool_file, _spool_rows

    tmp_path.joinpath("spool").mkdir()
    path = tmp_path / "spool" / _spool_file.FILE
    _spool_file.open_file(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN")
    for number in range(1000):
        connection.execute(
            "INSERT INTO alerts (id, level, size, body) VALUES (?, 40, 1000000, zeroblob(1000000))", (f"old{number}",)
        )
        connection.execute("INSERT INTO deliveries VALUES (?, 'mail')", (number + 1,))
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")  # as a spool is; the switch would wait until all of it is on the disk
    connection.close()
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    assert path.stat().st_size > 1_000_000_000
    script = """
alerts = system()
began, worked = time.monotonic(), time.thread_time()
alerts.start()
took, worked = time.monotonic() - began, time.thread_time() - worked
receipt = alerts.send_alert("system", "critical", "new", "m")
assert worked < 0.5 and took < 20, (worked, took)  # others may have the processor meanwhile
assert receipt.accepted
until(lambda: alerts.status().channels["mail"].delivered >= 1)
until(lambda: alerts.status().spool.bytes <= 64 * 1024 * 1024)
alerts.stop()
"""
    assert _spool_rows.SCHEMA
    with endpoint() as mail:
        run(script, tmp_path / "spool", mail=mail)
    assert "CRITICAL system: new" in [one["title"] for one in mail.accepted]
