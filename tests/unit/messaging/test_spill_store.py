"""Messages on disk while the bus cannot take them."""

import os
import stat

import pytest

from hireliab.errors import BusError
from hireliab.messaging._spill_store import OVERHEAD, SpillStore
from hireliab.testing import FakeClock
from tests.support.together import Background, in_child, together


@pytest.fixture
def store(tmp_path):
    made = []

    def store(path=None, **settings):
        one = SpillStore(path or tmp_path / "spill" / "bus.db", name="test", **settings)
        made.append(one)
        one.open()
        return one

    yield store
    for one in made:
        one.close()


def put(store, n, topic="a.b", body=b"body"):
    return store.put(topic, body, {"n": str(n)}, f"id-{n}")


def ids(store, limit=100, after=0):
    return [message.message_id for message in store.oldest(limit, after)]


def test_messages_come_back_in_order_and_as_they_were(store):
    spill = store()
    assert spill.put("a.b", b"\x00\xff{}", {"cloudEvents_id": "x", "fa": "\u06f5"}, "x") is True
    assert put(spill, 2) is True
    first, second = spill.oldest(10)
    assert first[1:] == ("a.b", b"\x00\xff{}", {"cloudEvents_id": "x", "fa": "\u06f5"}, "x")
    assert (second.message_id, len(spill)) == ("id-2", 2)
    assert ids(spill, after=first.seq) == ["id-2"]
    assert ids(spill, limit=1) == ["x"]


def test_what_is_kept_outlives_its_process_with_the_same_ids(store):
    first = store()
    for n in range(5):
        put(first, n)
    first.remove([message.seq for message in first.oldest(2)])
    first.close()
    second = store()
    assert (ids(second), len(second)) == (["id-2", "id-3", "id-4"], 3)


def test_a_seq_is_not_used_again_after_everything_was_removed(store):
    spill = store()
    put(spill, 1)
    [message] = spill.oldest(9)
    spill.remove([message.seq, message.seq])
    put(spill, 2)
    assert ids(spill, after=message.seq) == ["id-2"]
    assert len(spill) == 1


def test_a_full_store_refuses_until_something_is_removed(store):
    spill = store(most_rows=2, clock=FakeClock())
    assert [put(spill, n) for n in range(3)] == [True, True, False]
    spill.remove([spill.oldest(1)[0].seq])
    assert put(spill, 3) is False  # a removal does not wait for the disk
    spill._file.flush()
    assert put(spill, 4) is True
    assert len(spill) == 2


def test_bytes_are_bounded_too(store):
    one = len(b"body") + len("a.b") + len('{"n": "0"}') + len("id-0") + OVERHEAD
    spill = store(most_bytes=2 * one)
    assert [put(spill, n) for n in range(3)] == [True, True, False]
    assert spill.put("a.b", b"x" * 10_000, {}, "large") is False
    assert len(spill) == 2


def test_many_threads_keep_every_message_once(store):
    spill = store()
    assert all(together(8, lambda t: all(put(spill, f"{t}-{n}") for n in range(25))))
    found = ids(spill, limit=1000)
    assert (len(found), len(set(found)), len(spill)) == (200, 200, 200)
    for t in range(8):
        own = [i for i in found if i.startswith(f"id-{t}-")]
        assert own == [f"id-{t}-{n}" for n in range(25)]


def test_a_signal_handler_may_keep_a_message_while_its_thread_has_the_lock(store):
    spill = store()

    def interrupted():
        # A signal handler runs in the main thread, in the middle of what that was doing.
        with spill._lock:
            return put(spill, 1)

    assert Background(interrupted).result() is True
    assert ids(spill) == ["id-1"]


def test_a_second_owner_is_refused_and_takes_over_afterwards(store):
    first = store()
    put(first, 1)
    with pytest.raises(BusError, match="another process has it"):
        store()
    first.close()
    assert ids(store()) == ["id-1"]


def test_a_closed_store_keeps_nothing_and_says_so(store, tmp_path):
    spill = store()
    spill.close()
    spill.close()
    assert (put(spill, 1), spill.oldest(9), len(spill)) == (False, [], 0)
    spill.remove([1])
    assert put(SpillStore(tmp_path / "never.db", name="never"), 1) is False


def test_a_file_of_another_program_is_refused(store, tmp_path):
    (tmp_path / "other.db").write_bytes(b"something else " * 1000)
    with pytest.raises(BusError, match="not a readable SQLite file"):
        store(tmp_path / "other.db")
    with pytest.raises(BusError, match="cannot be used"):
        store(tmp_path / "other.db" / "below" / "x.db")


def test_a_message_that_cannot_be_stored_is_refused_and_counts_for_nothing(store):
    spill = store()
    assert spill.put("a.\udcff", b"", {}, "x") is False
    assert put(spill, 1) is True
    assert len(spill) == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_nobody_else_can_read_it(store):
    spill = store()
    put(spill, 1)
    assert stat.S_IMODE(spill.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spill.path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_child_keeps_nothing_and_does_not_keep_the_file(store):
    spill = store()
    put(spill, 1)
    in_child(lambda: put(spill, 2) is False)
    assert ids(spill) == ["id-1"]
    spill.close()
    assert ids(store()) == ["id-1"]
