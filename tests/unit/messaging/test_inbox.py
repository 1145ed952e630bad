"""At-least-once made once: claims, duplicates, conflicts, failures, age, and a user's own transaction."""

import os
import random
import sqlite3
import threading

import pytest

from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import BusError, ClosedError, ConfigError
from hireliab.messaging import inbox as module
from hireliab.messaging.bus import Message, Reject
from hireliab.messaging.inbox import Inbox
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.testing import FakeClock
from tests.support.together import Background, in_child, together, until

DAY = 86400.0


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def make(folder, clock):
    made = []

    def make(path=folder, *, group="accounting", clock=clock, **settings):
        inbox = Inbox(path, group=group, clock=clock, **settings)
        made.append(inbox)
        return inbox

    yield make
    for inbox in made:
        inbox.close(0.0)


class Handler:
    """Keeps the ids that it handled; does what the script says first."""

    def __init__(self):
        self.ids, self.script = [], []

    def __call__(self, message):
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, BaseException):
                raise step
            step()
        self.ids.append(message.id)
        return f"handled {message.id}"


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def message(clock):
    def message(number=1, *, source="bot", topic="transaction.completed", age=0.0, clock=clock, **data):
        return Message(
            id=f"T:{number}", source=source, topic=topic, time=clock.time() - age, data=data or {"filled": "0.5"}
        )

    return message


# -- once -----------------------------------------------------------------------------------------------------------


def test_a_message_is_handled_once_however_often_it_comes(make, handler, message):
    inbox = make()
    once = inbox.once(handler)
    assert once(message()) == "handled T:1"
    assert [once(message()) for _ in range(3)] == [None] * 3
    assert handler.ids == ["T:1"]
    assert (inbox.stats().handled, inbox.stats().duplicates) == (1, 3)


def test_it_is_remembered_over_a_restart(make, handler, message):
    first = make()
    first.once(handler)(message())
    first.close()
    assert make().once(handler)(message()) is None
    assert handler.ids == ["T:1"]


def test_the_same_id_of_another_source_or_group_is_another_message(make, handler, message):
    accounting, risk = make(), make(group="risk")
    for inbox in (accounting, risk):
        inbox.once(handler)(message())
        inbox.once(handler)(message(source="other bot"))
    assert handler.ids == ["T:1"] * 4


def test_a_message_that_is_published_again_by_another_clock_is_the_same(make, handler, message):
    once = make().once(handler)
    once(message())
    assert once(message(age=-5.0)) is None
    assert once(message(age=60.0)) is None


def test_another_body_under_the_same_id_is_refused_and_not_skipped(make, handler, message, caplog):
    inbox = make()
    once = inbox.once(handler)
    once(message(filled="0.5"))
    with pytest.raises(Reject, match="another body"):
        once(message(filled="0.6"))
    with pytest.raises(Reject, match="another body"):
        once(message(topic="transaction.partial", filled="0.5"))
    assert (handler.ids, inbox.stats().conflicts) == (["T:1"], 2)
    assert "another body" in caplog.text


def test_the_order_of_a_bodys_names_is_no_difference(make, handler, message):
    once = make().once(handler)
    once(message(a="1", b="2"))
    assert once(message(b="2", a="1")) is None


@pytest.mark.parametrize("error", [ValueError("x"), Reject("never"), SystemExit(1), KeyboardInterrupt()])
def test_a_handler_that_raises_gives_its_message_back(make, handler, message, error):
    inbox = make()
    once = inbox.once(handler)
    handler.script = [error]
    with pytest.raises(type(error)):
        once(message())
    assert once(message()) == "handled T:1"
    assert (inbox.stats().failed, inbox.stats().taken_over) == (1, 0)


def test_the_wrapper_looks_like_the_handler(make):
    def book(message):
        """Write it down."""

    once = make().once(book)
    assert (once.__name__, once.__doc__) == ("book", "Write it down.")
    assert callable(make().once(Handler()))


# -- never two at once ----------------------------------------------------------------------------------------------


def test_of_many_threads_one_handles_and_the_others_wait_for_it(make, message, clock):
    inside, most, lock, go = 0, 0, threading.Lock(), threading.Event()

    def slow(message):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        go.wait(10.0)
        with lock:
            inside -= 1

    inbox = make(clock=FakeClock())
    once = inbox.once(slow)
    running = Background(together, 8, lambda _: once(message()))
    until(lambda: inside == 1)
    go.set()
    running.result()
    assert (most, inbox.stats().handled, inbox.stats().duplicates) == (1, 1, 7)


def test_who_waits_handles_it_when_the_first_one_fails(make, message):
    entered, go = threading.Event(), threading.Event()
    calls = []

    def fails_first(message):
        calls.append(1)
        if len(calls) == 1:
            entered.set()
            go.wait(10.0)
            raise ValueError("x")

    inbox = make()
    once = inbox.once(fails_first)
    first = Background(once, message())
    entered.wait(10.0)
    second = Background(once, message())
    go.set()
    with pytest.raises(ValueError, match="x"):
        first.result()
    second.result()
    assert (len(calls), inbox.stats().handled, inbox.stats().failed) == (2, 1, 1)


def test_who_has_waited_long_enough_gives_it_back_to_the_bus(make, message, clock):
    entered, go = threading.Event(), threading.Event()

    def slow(message):
        entered.set()
        go.wait(10.0)

    inbox = make(patience=5.0)
    once = inbox.once(slow)
    first = Background(once, message())
    entered.wait(10.0)
    second = Background(once, message())
    clock.wait_parked(1)
    until(lambda: clock.next_deadline() is not None)
    while inbox.stats().held == 0:
        clock.advance(1.0)
    with pytest.raises(BusError, match="delivered again later"):
        second.result()
    go.set()
    first.result()
    assert once(message()) is None


def test_two_inboxes_on_one_file_never_handle_a_message_at_once(make, message, clock):
    entered, go = threading.Event(), threading.Event()

    def slow(message):
        entered.set()
        go.wait(10.0)

    one, other = make(), make(patience=3.0)
    handled = []
    first = Background(one.once(slow), message())
    entered.wait(10.0)
    second = Background(other.once(handled.append), message())
    while other.stats().held == 0:
        clock.advance(0.25)
        until(lambda: True)
    with pytest.raises(BusError, match="elsewhere"):
        second.result()
    assert handled == []
    go.set()
    first.result()
    assert other.once(handled.append)(message()) is None
    assert handled == []


def test_what_a_dead_owner_held_is_taken_over(make, handler, message):
    dead = make()
    dead.open()
    answer = dead._ask(
        module.rows.key_of("accounting", message()), module.rows.digest_of(message()), message(), force=False
    )
    assert answer.name == "FIRST"
    dead._owner._lock.release()  # as the kernel does
    inbox = make()
    assert inbox.once(handler)(message()) == "handled T:1"
    assert inbox.stats().taken_over == 1


def test_a_claim_that_was_left_by_a_failed_release_is_taken_over_by_its_owner(make, handler, message):
    inbox = make()
    handler.script = [ValueError("x")]
    inbox._release = lambda key: None
    with pytest.raises(ValueError, match="x"):
        inbox.once(handler)(message())
    assert inbox.once(handler)(message()) == "handled T:1"
    assert inbox.stats().taken_over == 1


def test_of_two_who_take_over_from_the_dead_one_gets_it(make, message):
    dead = make()
    dead.open()
    key, digest = module.rows.key_of("accounting", message()), module.rows.digest_of(message())
    dead._ask(key, digest, message(), force=False)
    dead._owner._lock.release()
    handled = []
    inboxes = [make(clock=SYSTEM_CLOCK, patience=5.0) for _ in range(4)]
    together(4, lambda i: inboxes[i].once(handled.append)(message()))
    assert len(handled) == 1
    assert sum(inbox.stats().taken_over for inbox in inboxes) == 1


def test_a_storm_of_duplicates_in_any_order_is_handled_once_each(make, message):
    inboxes = [make(clock=SYSTEM_CLOCK) for _ in range(2)]
    handled, lock = [], threading.Lock()

    def book(message):
        with lock:
            handled.append(message.id)

    messages = [message(n, clock=SYSTEM_CLOCK) for n in range(60)]

    def consume(i):
        mine = messages * 2
        random.Random(i).shuffle(mine)
        for one in mine:
            inboxes[i % 2].once(book)(one)

    together(6, consume)
    assert sorted(handled) == sorted(one.id for one in messages)


# -- age (case 25) ----------------------------------------------------------------------------------------------------


def test_what_was_handled_is_forgotten_after_its_time_and_a_replay_is_refused_unless_forced(
    make, handler, message, clock
):
    inbox = make(keep=7 * DAY)
    replay = message()
    inbox.once(handler)(replay)
    inbox.once(handler)(message(2))
    clock.advance(6.9 * DAY)
    assert inbox.once(handler)(replay) is None
    clock.advance(0.2 * DAY)
    while inbox._file.write(inbox._prune) == 0.0:
        pass
    with pytest.raises(Reject, match="older than the 7 days"):
        inbox.once(handler)(replay)
    assert inbox.stats().old == 1
    assert inbox.once(handler, force=True)(replay) == "handled T:1"
    assert inbox.once(handler, force=True)(replay) is None  # remembered from now on
    assert handler.ids == ["T:1", "T:2", "T:1"]


def test_a_message_is_remembered_as_long_as_it_is_not_too_old_to_be_handled(make, handler, message, clock):
    """Also when its publisher's clock is ahead of ours, at any moment."""
    inbox = make(keep=DAY)
    ahead = message(age=-3600.0 * 5)
    inbox.once(handler)(ahead)
    for _ in range(60):
        clock.advance(DAY / 40)
        inbox._file.write(inbox._prune)
        try:
            assert inbox.once(handler)(ahead) is None
        except Reject:
            break
    assert handler.ids == ["T:1"]
    assert inbox.stats().old == 1


def test_a_message_from_the_far_future_is_not_remembered_for_ever(make, handler, message, clock):
    inbox = make(keep=DAY)
    inbox.once(handler)(message(age=-10_000 * DAY))
    clock.advance(3 * DAY)
    inbox._file.write(inbox._prune)
    with inbox._file.reader() as db:
        assert db.execute("SELECT count(*) FROM hireliab_inbox").fetchone() == (0,)


def test_a_claim_is_not_pruned(make, handler, message, clock):
    inbox = make(keep=DAY)
    entered, go = threading.Event(), threading.Event()
    handler.script = [lambda: (entered.set(), go.wait(10.0))]
    running = Background(inbox.once(handler), message())
    entered.wait(10.0)
    clock.advance(30 * DAY)
    inbox._file.write(inbox._prune)
    with inbox._file.reader() as db:
        assert db.execute("SELECT count(*) FROM hireliab_inbox").fetchone() == (1,)
    go.set()
    running.result()


# -- the user's own transaction ------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "books.db"
    local, opened = threading.local(), []

    def connect():
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect(path, timeout=10.0, check_same_thread=False)
            opened.append(local.connection)
        return local.connection

    db = connect()
    db.execute("CREATE TABLE trade (id TEXT)")
    db.commit()
    yield connect
    for connection in opened:
        connection.close()


def trades(connect):
    return [row[0] for row in connect().execute("SELECT id FROM trade ORDER BY rowid").fetchall()]


def book(message, db):
    db.execute("INSERT INTO trade VALUES (?)", (message.id,))
    return "booked"


def test_the_users_rows_and_the_memory_are_one_transaction(make, message, database):
    inbox = make(None)
    once = inbox.once(book, connect=database)
    assert once(message()) == "booked"
    assert once(message()) is None
    assert trades(database) == ["T:1"]
    assert (inbox.stats().handled, inbox.stats().duplicates) == (1, 1)

    def fails(message, db):
        book(message, db)
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        inbox.once(fails, connect=database)(message(2))
    assert trades(database) == ["T:1"]
    assert once(message(2)) == "booked"
    with pytest.raises(Reject, match="another body"):
        once(message(2, other="body"))
    assert not database().in_transaction


def test_threads_with_a_connection_each_book_a_message_once(make, message, database):
    inbox = make(None, clock=SYSTEM_CLOCK)
    once = inbox.once(book, connect=database)
    together(4, lambda _: [once(message(n, clock=SYSTEM_CLOCK)) for n in range(20)])
    assert sorted(trades(database)) == sorted(f"T:{n}" for n in range(20))


def test_within_a_transaction_of_ones_own_the_first_is_known(make, message, database):
    inbox = make(None)
    db = database()
    with db:
        assert inbox.is_first(message(), db) is True
        book(message(), db)
    with db:
        assert inbox.is_first(message(), db) is False
    with pytest.raises(ZeroDivisionError), db:
        assert inbox.is_first(message(2), db) is True
        raise ZeroDivisionError
    assert inbox.is_first(message(2), db) is True
    db.rollback()
    with pytest.raises(Reject, match="older than"):
        inbox.is_first(message(3, age=8 * DAY), db)
    assert inbox.is_first(message(3, age=8 * DAY), db, force=True) is True
    assert trades(database) == ["T:1"]


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "autocommit"), reason="from Python 3.12 on")
def test_a_connection_that_is_always_in_a_transaction_will_do(make, message, tmp_path):
    db = sqlite3.connect(tmp_path / "books.db", autocommit=False)
    db.execute("CREATE TABLE trade (id TEXT)")
    db.commit()
    once = make(None).once(book, connect=lambda: db)
    assert (once(message()), once(message())) == ("booked", None)
    with pytest.raises(Reject, match="another body"):
        once(message(other="body"))
    assert db.execute("SELECT id FROM trade").fetchall() == [("T:1",)]
    db.close()


def test_a_connection_in_somebody_elses_transaction_is_refused(make, message, database):
    db = database()
    db.execute("INSERT INTO trade VALUES ('mine')")
    with pytest.raises(ConfigError, match="in a transaction already"):
        make(None).once(book, connect=database)(message())
    db.rollback()


def test_the_users_database_is_pruned_too(make, message, database, clock, monkeypatch):
    monkeypatch.setattr(module, "PRUNE_EVERY", 4)
    once = make(None, keep=DAY).once(book, connect=database)
    for n in range(8):
        once(message(n))
    clock.advance(3 * DAY)
    for n in range(8, 12):
        once(message(n))
    assert database().execute("SELECT count(*) FROM hireliab_inbox").fetchone() == (4,)


# -- settings and life ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"group": ""}, "group"), ({"keep": 0}, "keep"), ({"keep": "week"}, "keep"), ({"patience": -1}, "patience")],
)
def test_settings_that_make_no_sense_are_refused(folder, settings, name):
    with pytest.raises(ConfigError) as caught:
        Inbox(folder, **{"group": "g", **settings})
    assert caught.value.setting == name


def test_without_a_file_a_connection_is_needed(make):
    with pytest.raises(ConfigError, match="it has no file"):
        make(None).once(print)
    with pytest.raises(ConfigError, match="must be a function"):
        make().once("handler")
    with pytest.raises(ConfigError, match="it has no file"):
        make(None).open()


def test_a_handler_that_would_not_run_when_it_is_called_is_refused(make):
    async def later(message):
        pass

    def lazily(message):
        yield

    for handler in (later, lazily):
        with pytest.raises(ConfigError, match="async function|generator function"):
            make().once(handler)


def test_a_file_that_cannot_be_used_is_a_bus_error_and_nothing_is_handled(make, handler, message, folder):
    (folder / "inbox.db").write_bytes(b"something else " * 1000)
    inbox = make()
    with pytest.raises(BusError, match="cannot be used"):
        inbox.once(handler)(message())
    assert handler.ids == []
    (folder / "inbox.db").unlink()
    assert inbox.once(handler)(message()) == "handled T:1"


def test_a_disk_that_fails_after_the_handler_is_told_to_the_bus(make, handler, message):
    inbox = make()
    inbox.open()
    handler.script = [lambda: inbox._file._poison_with(OSError("EIO"), "a test")]
    with pytest.raises(BusError, match="EIO"):
        inbox.once(handler)(message())
    assert inbox.stats().handled == 0


def test_a_closed_inbox_handles_nothing(make, handler, message):
    inbox = make()
    with inbox:
        inbox.once(handler)(message())
    assert inbox.close()
    with pytest.raises(ClosedError, match="closed"):
        inbox.once(handler)(message(2))
    assert handler.ids == ["T:1"]


def test_closing_while_a_message_is_handled_does_not_let_others_have_it(make, handler, message, clock):
    entered, go = threading.Event(), threading.Event()
    handler.script = [lambda: (entered.set(), go.wait(10.0))]
    inbox, other = make(), make(patience=0.0)
    running = Background(inbox.once(handler), message())
    entered.wait(10.0)
    assert inbox.close(0.0) is False
    with pytest.raises(BusError, match="handled elsewhere"):
        other.once(handler)(message())
    go.set()
    assert running.result() == "handled T:1"
    assert inbox.close(0.0) is True
    assert other.once(handler)(message()) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_child_is_refused_and_holds_nothing(make, handler, message):
    inbox = make()
    inbox.once(handler)(message())

    def child():
        with pytest.raises(ClosedError, match="belongs to process"):
            inbox.once(handler)(message(2))
        return inbox.close() is False

    in_child(child)
    assert inbox.once(handler)(message(2)) == "handled T:2"


def test_the_one_line_that_makes_a_subscription_handle_each_message_once(make, clock):
    handled = []
    inbox = make()
    with InMemoryMessageBus(clock=clock) as bus:
        bus.subscribe("transaction.#", inbox.once(handled.append), group="accounting")
        for _ in range(3):
            bus.publish("transaction.completed", {"event_id": "T:1"}, message_id="T:1")
        bus.publish("transaction.completed", {"event_id": "other"}, message_id="T:1")
        until(lambda: inbox.stats().duplicates == 2 and bus.status().subscriptions[0].dead_lettered == 1)
        assert [message.id for message in handled] == ["T:1"]
        assert "another body" in bus.dead_letters()[0].reason
