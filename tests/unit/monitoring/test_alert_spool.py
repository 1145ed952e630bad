import json
import logging
import os
import sqlite3
import threading

import pytest

from hireliab.monitoring import _spool_file, _spool_folder, _spool_rows, alert_spool
from hireliab.monitoring.alert import AlertLevel, make_alert
from hireliab.monitoring.alert_spool import AlertSpool, Notified
from hireliab.testing import FakeClock
from tests.support.together import Background, in_child, together

SOON = 10.0  # seconds after which a hang is a failure

pytestmark = pytest.mark.filterwarnings("ignore:unclosed database")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def spools():
    """Spools to be closed at the end, whatever happens."""
    made = []
    yield made
    for spool in made:
        assert spool.close(SOON)


@pytest.fixture
def make(folder, clock, spools):
    def make(**more):
        spool = AlertSpool(folder, clock=clock, **more)
        spools.append(spool)
        spool.open()
        return spool

    return make


def alert(name="a1", level="error", message="m"):
    return make_alert(
        id=name, time=1_760_000_000.5, source="exchange", level=level, title="t", message=message, context={"n": 1},
        dedup_key="k",
    )  # fmt: skip


def written(ticket):
    assert ticket.wait(SOON)


def told(fingerprint="x", channel="c", time=0.0, **more):
    return Notified(channel=channel, fingerprint=fingerprint, level=40, time=time, keyed=False, **more)


def left(spool):
    """(id, channels) of what former processes left."""
    return [(one.id, set(channels)) for one, channels in spool.pending()]


def sync(spool):
    """Wait until everything that was handed over is done."""
    written(spool.settle([], "nobody"))


# -- keeping and forgetting ---------------------------------------------------------------------------------------


def test_an_alert_is_there_after_a_restart_with_its_time_and_a_mark(make):
    first = make()
    written(first.add(alert(), ["mail", "chat"]))
    first.close(SOON)
    second = make()
    ((kept, channels),) = second.pending()
    assert set(channels) == {"mail", "chat"}
    assert kept.replayed
    given = alert().to_dict()
    assert kept.to_dict() == {**given, "replayed": True}


def test_a_delivery_that_is_settled_is_not_repeated(make):
    first = make()
    first.add(alert("a"), ["mail", "chat"])
    first.add(alert("b"), ["mail"])
    written(first.settle(["a", "b"], "mail"))
    assert first.status().rows == 1
    first.close(SOON)
    second = make()
    assert left(second) == [("a", {"chat"})]
    written(second.settle(["a"], "chat"))
    assert (second.status().rows, second.status().bytes) == (0, 0)


def test_what_this_process_added_is_not_pending_in_it(make):
    spool = make()
    written(spool.add(alert(), ["mail"]))
    assert left(spool) == []
    assert list(spool.load(["a1", "unknown"])) == ["a1"]
    assert not spool.load(["a1"])["a1"].replayed


def test_pending_gives_every_row_oldest_first_in_pages(make, monkeypatch):
    monkeypatch.setattr(alert_spool, "_PAGE", 7)
    first = make()
    for i in range(30):
        first.add(alert(f"a{i}", level="critical" if i % 3 else "error"), ["mail"])
    first.close(SOON)
    second = make()
    second.add(alert("new"), ["mail"])
    assert [id_ for id_, _ in left(second)] == [f"a{i}" for i in range(30)]


def test_an_id_is_kept_once_and_gets_further_channels(make):
    spool = make()
    spool.add(alert("a", message="first"), ["mail"])
    written(spool.add(alert("a", message="second"), ["mail", "chat"]))
    assert spool.status().rows == 1
    assert spool.load(["a"])["a"].message == "first"
    spool.close(SOON)
    assert left(make()) == [("a", {"mail", "chat"})]


def test_an_empty_table_does_not_make_old_numbers_new(make):
    first = make()
    first.add(alert("old"), ["mail"])
    first.close(SOON)
    second = make()
    written(second.settle(["old"], "mail"))
    written(second.add(alert("new"), ["mail"]))
    assert left(second) == []


def test_alerts_before_open_are_written_after_it(folder, clock, spools):
    spool = AlertSpool(folder, clock=clock)
    spools.append(spool)
    ticket = spool.add(alert(), ["mail"])
    assert not ticket.wait(0)
    spool.open()
    written(ticket)
    assert left(spool) == []


def test_after_close_nothing_is_durable_and_nothing_raises(make):
    spool = make()
    spool.close(SOON)
    assert not spool.add(alert(), ["mail"]).wait(SOON)
    assert not spool.settle(["a"], "mail").wait(SOON)
    spool.note(told())
    spool.bury(alert(), "mail", "why")
    assert list(spool.pending()) == []
    assert spool.load(["a"]) is None
    assert spool.status().state == "closed"
    assert spool.status().not_durable == 1
    assert spool.close(SOON)


def test_everything_that_was_handed_over_is_written_by_close(make):
    first = make()
    for i in range(1000):
        first.add(alert(f"a{i}"), ["mail"])
    assert first.close(SOON)
    assert len(left(make())) == 1000


def test_many_threads_add_and_settle_at_once(make):
    spool = make()

    def work(i):
        for n in range(50):
            spool.add(alert(f"{i}-{n}"), ["mail", "chat"])
            spool.settle([f"{i}-{n}"], "mail")

    together(8, work)
    sync(spool)
    assert spool.status().rows == 400
    assert len(spool.load([f"3-{n}" for n in range(50)])) == 50


def test_a_signal_handler_may_add_in_the_middle_of_add(make, monkeypatch):
    spool = make()
    inner = []
    ring = spool._ring

    def interrupted():
        if not inner:
            inner.append(None)
            inner[0] = spool.add(alert("inner"), ["mail"])
        ring()

    monkeypatch.setattr(spool, "_ring", interrupted)
    written(spool.add(alert("outer"), ["mail"]))
    written(inner[0])


# -- the notification log -----------------------------------------------------------------------------------------


def test_what_was_told_is_known_after_a_restart_for_four_hours(make, clock):
    first = make()
    first.note(told("recent", time=clock.time()))
    first.note(told("old", time=clock.time() - 4 * 3600 - 1))
    first.note(told("recent", channel="other", time=clock.time(), count=137))
    first.close(SOON)
    second = make()
    assert {(one.channel, one.fingerprint, one.count) for one in second.notified()} == {
        ("c", "recent", 1),
        ("other", "recent", 137),
    }
    sync(second)
    second.close(SOON)
    connection = sqlite3.connect(second._folder / _spool_file.FILE)
    assert connection.execute("SELECT count(*) FROM notified").fetchone() == (2,)
    connection.close()


def test_what_was_told_is_written_with_the_delivery_and_replaced_and_forgotten(make, clock):
    first = make()
    first.add(alert("a"), ["c"])
    first.settle(["a"], "c", told("with it", time=clock.time(), count=7))
    first.note(told("x", time=clock.time(), count=1))
    first.note(told("x", time=clock.time(), count=2))
    first.note(told("y", time=clock.time()))
    first.forget("c", "y")
    first.close(SOON)
    assert sorted((one.fingerprint, one.count) for one in make().notified()) == [("with it", 7), ("x", 2)]


# -- bounds -------------------------------------------------------------------------------------------------------


def test_too_many_alerts_evict_the_lowest_level_oldest_first(make):
    spool = make(max_rows=5)
    for i, level in enumerate(["critical", "error", "critical", "error", "critical"]):
        spool.add(alert(f"a{i}", level=level), ["mail"])
    spool.add(alert("a5", level="critical"), ["mail"])
    written(spool.add(alert("a6", level="critical"), ["mail"]))
    assert set(spool.load([f"a{i}" for i in range(7)])) == {"a0", "a2", "a4", "a5", "a6"}
    written(spool.add(alert("low", level="error"), ["mail"]))  # itself the lowest
    assert "low" not in spool.load(["low"])
    status = spool.status()
    assert (status.rows, status.evicted) == (5, 3)


def test_too_many_bytes_evict_too(make):
    spool = make(max_bytes=20_000)
    for i in range(20):
        spool.add(alert(f"a{i}", message="x" * 3000), ["mail"])
    sync(spool)
    assert spool.status().bytes <= 20_000
    assert "a19" in spool.load(["a19"])


def test_bytes_are_bytes_in_any_alphabet(make):
    spool = make()
    written(spool.add(alert("a", message="\u0633" * 3000), ["mail"]))
    assert spool.status().bytes > 6000


def test_a_spool_that_was_larger_is_brought_to_its_bounds_in_small_steps(make, monkeypatch):
    first = make()
    for i in range(300):
        first.add(alert(f"a{i}"), ["mail"])
    first.close(SOON)
    monkeypatch.setattr(_spool_rows, "EVICTED_AT_ONCE", 10)
    second = make(max_rows=50)
    assert len(left(second)) <= 300
    for _ in range(40):
        sync(second)
    written(second.add(alert("new", level="critical"), ["mail"]))
    assert second.status().rows <= 51
    assert "new" in second.load(["new"])


def test_one_commit_evicts_a_few_rows(tmp_path):
    connection = _spool_file.open_file(tmp_path / "file")
    size = _spool_rows.Size()
    connection.execute("BEGIN")
    for i in range(100):
        _spool_rows.add(connection, size, id=f"a{i}", level=40, body="{}", channels=["mail"])
    assert _spool_rows.evict(connection, size, rows=0, bytes=0) == _spool_rows.EVICTED_AT_ONCE == 64
    assert size == _spool_rows.measure(connection)
    connection.close()


def test_more_than_memory_should_hold_is_refused(folder, clock, spools, monkeypatch):
    monkeypatch.setattr(alert_spool, "_WAITING", 10)
    spool = AlertSpool(folder, clock=clock)
    spools.append(spool)
    tickets = [spool.add(alert(f"a{i}"), ["mail"]) for i in range(12)]
    assert not tickets[10].wait(SOON)
    spool.settle(["a0"], "mail")  # is never refused
    spool.open()
    written(tickets[9])
    sync(spool)
    assert set(spool.load([f"a{i}" for i in range(12)])) == {f"a{i}" for i in range(1, 10)}
    assert spool.status().not_durable == 2


# -- whose folder it is -------------------------------------------------------------------------------------------


def test_a_second_spool_gets_a_folder_of_its_own_and_the_next_owner_takes_its_alerts_over(make, folder, clock):
    first, second = make(), make()
    assert first.status().folder == folder
    assert second.status().folder == folder / "2"
    written(first.add(alert("of the first"), ["mail"]))
    written(second.add(alert("of the second"), ["mail", "chat"]))
    second.note(told("x", time=clock.time()))
    assert left(first) == left(second) == []
    second.close(SOON)
    first.close(SOON)
    third = make()
    assert left(third) == [("of the first", {"mail"}), ("of the second", {"mail", "chat"})]
    assert not (folder / "2" / _spool_file.FILE).exists()
    third.close(SOON)
    fourth = make()
    assert [id_ for id_, _ in left(fourth)] == ["of the first", "of the second"]


def test_a_living_processs_folder_is_left_alone(make, folder):
    first, second = make(), make()
    written(second.add(alert("a"), ["mail"]))
    first.close(SOON)
    third = make()
    assert third.status().folder == folder
    assert left(third) == []
    assert second.status().rows == 1


def test_when_every_folder_is_taken_alerts_are_not_durable_and_it_is_said(make, monkeypatch, caplog):
    monkeypatch.setattr(_spool_folder, "MOST", 1)
    make()
    second = make()
    assert second.status().state == "broken"
    assert "belong to other processes" in second.status().last_error
    assert not second.add(alert(), ["mail"]).wait(SOON)
    assert "alerts go on in memory" in caplog.text


def test_a_network_file_system_is_refused(make, monkeypatch):
    monkeypatch.setattr(_spool_folder, "network_type_of", lambda folder: "nfs4")
    spool = make()
    assert spool.status().state == "broken"
    assert "network file system (nfs4)" in spool.status().last_error


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_begins_anew_and_leaves_the_parents_file_alone(make, folder):
    spool = make()
    written(spool.add(alert("of the parent"), ["mail"]))

    def child():
        spool.after_fork()
        assert spool.status().state == "closed"
        spool.open()
        assert spool.status().folder == folder / "2"
        written(spool.add(alert("of the child"), ["mail"]))
        assert left(spool) == []
        return spool.close(SOON)

    in_child(child)
    written(spool.add(alert("later"), ["mail"]))
    assert spool.status().rows == 2
    spool.close(SOON)
    assert {id_ for id_, _ in left(make())} == {"of the parent", "later", "of the child"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_waits_until_the_writer_is_out_of_the_database(make):
    spool = make()
    entered, go, done = threading.Event(), threading.Event(), []

    class Slow:
        id, level = "slow", AlertLevel.ERROR

        def to_dict(self):
            entered.set()
            assert go.wait(SOON)
            done.append(True)
            return alert("slow").to_dict()

    ticket = spool.add(Slow(), ["mail"])
    assert entered.wait(SOON)
    helper = Background(lambda: (threading.Event().wait(0.05), go.set()))
    in_child(lambda: done == [True])
    helper.result()
    written(ticket)


# -- files that are not as they should be -------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_set_aside(make, folder, caplog):
    folder.mkdir()
    (folder / _spool_file.FILE).write_bytes(b"not a database at all" * 1000)
    spool = make()
    written(spool.add(alert(), ["mail"]))
    status = spool.status()
    assert (status.state, status.set_aside) == ("open", 1)
    (aside,) = folder.glob("*.aside")
    assert aside.read_bytes().startswith(b"not a database")
    assert "not a readable SQLite file" in caplog.text


@pytest.mark.parametrize(("owner", "version"), [(_spool_rows.APPLICATION_ID, 99), (0x1234, 1)])
def test_a_newer_file_and_one_of_another_program_are_set_aside_unchanged(make, folder, owner, version):
    folder.mkdir()
    connection = sqlite3.connect(folder / _spool_file.FILE)
    connection.executescript(
        f"CREATE TABLE precious (x); INSERT INTO precious VALUES (1); PRAGMA application_id={owner}; PRAGMA user_version={version}"
    )
    connection.close()
    before = (folder / _spool_file.FILE).read_bytes()
    spool = make()
    written(spool.add(alert(), ["mail"]))
    (aside,) = folder.glob("*.aside")
    assert aside.read_bytes() == before


def test_a_file_that_turns_out_to_be_damaged_is_set_aside_and_alerts_go_on(make, folder):
    first = make()
    for i in range(500):
        first.add(alert(f"a{i}", message="x" * 500), ["mail"])
    first.close(SOON)
    path = folder / _spool_file.FILE
    data = bytearray(path.read_bytes())
    for page in range(8192, len(data), 4096):
        data[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    second = make()
    for _ in range(3):
        second.add(alert("probe"), ["mail"]).wait(SOON)
    written(second.add(alert("new"), ["mail"]))
    assert second.status().state == "open"
    assert second.status().set_aside == 1


def test_only_the_last_few_unreadable_files_are_kept(folder, clock, spools):
    folder.mkdir()
    for _ in range(6):
        (folder / _spool_file.FILE).write_bytes(b"rubbish" * 1000)
        spool = AlertSpool(folder, clock=clock)
        spool.open()
        spool.close(SOON)
        clock.advance(1)
    assert len(list(folder.glob("*.aside"))) == _spool_file.MAX_ASIDE


def test_a_row_of_an_unknown_form_is_buried_and_the_others_are_given(make, folder):
    first = make()
    first.add(alert("a"), ["mail"])
    first.add(alert("b"), ["mail"])
    first.close(SOON)
    connection = sqlite3.connect(folder / _spool_file.FILE)
    connection.execute("UPDATE alerts SET body = '{\"of\": \"the future\"}' WHERE id = 'a'")
    connection.commit()
    connection.close()
    second = make()
    assert left(second) == [("b", {"mail"})]
    sync(second)
    assert second.status().rows == 1
    (line,) = (folder / _spool_file.DEAD).read_text().splitlines()
    assert "the future" in json.loads(line)["body"]


def test_a_file_that_is_deleted_while_it_is_open_is_made_anew(make, folder):
    spool = make()
    written(spool.add(alert("a"), ["mail"]))
    for path in folder.glob(f"{_spool_file.FILE}*"):
        path.unlink()
    written(spool.add(alert("b"), ["mail"]))
    assert (folder / _spool_file.FILE).exists()
    assert (spool.status().state, spool.status().rows) == ("open", 1)


# -- a disk that fails --------------------------------------------------------------------------------------------


class Failing:
    """Stands before the spool's connection and fails as a disk does, when told so."""

    def __init__(self, connection):
        self.connection = connection
        self.error = None
        self.words = ("INSERT INTO alerts",)

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def execute(self, sql, *arguments):
        if self.error is not None and any(word in sql for word in self.words):
            raise self.error
        return self.connection.execute(sql, *arguments)


def full():
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = 13
    return error


def broken():
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = 10
    return error


@pytest.fixture
def disk(make, monkeypatch):
    """A spool on a disk that fails on demand; both."""
    disks = []
    open_file = _spool_file.open_file

    def opened(path):
        disks.append(Failing(open_file(path)))
        return disks[-1]

    monkeypatch.setattr(_spool_file, "open_file", opened)
    spool = make()
    return spool, disks


def test_a_full_disk_takes_no_alerts_but_forgets_and_goes_on_when_there_is_room(disk, caplog, clock):
    spool, (one,) = disk
    caplog.set_level(logging.INFO, "hireliab.alerts")
    written(spool.add(alert("a"), ["mail"]))
    one.error = full()
    assert not spool.add(alert("b"), ["mail"]).wait(SOON)
    assert not spool.add(alert("c"), ["mail"]).wait(SOON)
    assert spool.status().state == "full"
    assert caplog.text.count("the disk is full") == 1
    written(spool.settle(["a"], "mail"))
    one.error = None
    assert not spool.add(alert("d"), ["mail"]).wait(SOON)  # it is looked at once a second
    clock.advance(_spool_file.SPACE_CHECK)
    written(spool.add(alert("e"), ["mail"]))
    sync(spool)
    status = spool.status()
    assert (status.state, status.rows, status.not_durable) == ("open", 1, 3)
    assert "it can be written again" in caplog.text


def test_a_disk_that_has_room_again_is_noticed_without_an_alert(disk, clock):
    spool, (one,) = disk
    one.error = full()
    assert not spool.add(alert("a"), ["mail"]).wait(SOON)
    one.error = None
    clock.wait_parked(1)
    clock.advance(_spool_file.TRY_AGAIN)
    sync(spool)
    sync(spool)
    assert spool.status().state == "open"


def test_a_settled_delivery_is_not_forgotten_because_the_disk_was_full(disk, clock, make):
    spool, (one,) = disk
    written(spool.add(alert("a"), ["mail"]))
    one.error, one.words = full(), ("DELETE", "INSERT", "REPLACE")
    assert not spool.settle(["a"], "mail").wait(SOON)
    assert spool.status().state == "full"
    one.error = None
    clock.wait_parked(1)
    clock.advance(_spool_file.TRY_AGAIN)
    sync(spool)
    assert spool.status().rows == 0
    spool.close(SOON)
    assert left(make()) == []


def test_a_broken_disk_is_tried_again_and_what_is_settled_meanwhile_is_not_repeated(disk, clock, caplog):
    spool, disks = disk
    written(spool.add(alert("a"), ["mail"]))
    written(spool.add(alert("b"), ["mail"]))
    disks[0].error, disks[0].words = broken(), ("BEGIN",)
    assert not spool.settle(["a"], "mail").wait(SOON)
    assert not spool.add(alert("c"), ["mail"]).wait(SOON)
    assert spool.status().state == "broken"
    assert "alerts go on in memory" in caplog.text
    clock.advance(_spool_file.TRY_AGAIN)
    written(spool.add(alert("d"), ["mail"]))
    assert set(spool.load(["a", "b", "c", "d"])) == {"b", "d"}
    status = spool.status()
    assert (status.state, status.rows, status.not_durable) == ("open", 2, 1)


def test_the_ballast_makes_room_for_what_was_sent(disk, folder, monkeypatch):
    spool, (one,) = disk
    ballast = folder / "ballast"
    written(spool.add(alert("a"), ["mail"]))
    assert ballast.stat().st_size == _spool_file.BALLAST
    execute = one.execute

    def until_there_is_room(sql, *arguments):
        one.error = full() if ballast.exists() else None
        return execute(sql, *arguments)

    one.words = ("DELETE",)
    monkeypatch.setattr(one, "execute", until_there_is_room)
    written(spool.settle(["a"], "mail"))
    assert spool.status().rows == 0
    assert not ballast.exists()


def test_counts_are_those_of_the_file_when_a_commit_fails(disk, clock):
    spool, (one,) = disk
    one.error, one.words = full(), ("COMMIT",)
    assert not spool.add(alert("a"), ["mail"]).wait(SOON)
    one.error = None
    clock.advance(_spool_file.SPACE_CHECK)
    written(spool.add(alert("b"), ["mail"]))
    assert spool.status().rows == 1


def test_a_folder_that_cannot_be_made_is_said_and_tried_again(tmp_path, clock, spools):
    (tmp_path / "file").write_text("in the way")
    spool = AlertSpool(tmp_path / "file" / "spool", clock=clock)
    spools.append(spool)
    spool.open()
    assert spool.status().state == "broken"
    assert not spool.add(alert("a"), ["mail"]).wait(SOON)
    (tmp_path / "file").unlink()
    clock.advance(_spool_file.TRY_AGAIN)
    written(spool.add(alert("b"), ["mail"]))
    assert spool.status().state == "open"


def test_a_mistake_of_ours_in_one_operation_loses_that_one_alone(make, caplog):
    spool = make()

    class Bad:
        id, level = "bad", AlertLevel.ERROR

        def to_dict(self):
            raise RuntimeError("bug")

    bad = spool.add(Bad(), ["mail"])
    good = spool.add(alert("good"), ["mail"])
    written(good)
    assert not bad.wait(SOON)
    sync(spool)
    assert "an operation failed" in caplog.text


# -- the dead letters ---------------------------------------------------------------------------------------------


def test_an_alert_that_nobody_will_get_is_written_down_without_secrets(make, folder):
    spool = make()
    spool.bury(alert("a"), "mail", "refused: token=abcdefgh12345")
    sync(spool)
    (line,) = (folder / _spool_file.DEAD).read_text().splitlines()
    told = json.loads(line)
    assert (told["channel"], told["reason"], told["alert"]["id"]) == ("mail", "refused: token=***", "a")
    assert oct((folder / _spool_file.DEAD).stat().st_mode & 0o777) == "0o600" or os.name == "nt"


def test_the_dead_letters_do_not_grow_for_ever(make, folder, monkeypatch):
    monkeypatch.setattr(_spool_file, "MAX_DEAD", 5000)
    spool = make()
    for i in range(100):
        spool.bury(alert(f"a{i}"), "mail", "refused")
    sync(spool)
    sizes = [path.stat().st_size for path in folder.glob(f"{_spool_file.DEAD}*")]
    assert len(sizes) == 2
    assert max(sizes) < 6000


# -- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_nobody_else_may_read_the_folder(make, folder):
    written(make().add(alert(), ["mail"]))
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert {oct(path.stat().st_mode & 0o777) for path in folder.glob(f"{_spool_file.FILE}*")} == {"0o600"}


def test_the_thread_is_named_and_a_daemon(make):
    make()
    (thread,) = [one for one in threading.enumerate() if one.name.startswith("hireliab.sqlite.alerts-")]
    assert thread.daemon


def test_the_clock_is_the_callers(folder):
    assert AlertSpool(folder, clock=FakeClock()).status().state == "closed"
