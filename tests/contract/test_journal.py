"""What every journal promises. SQLite is the only one so far; the suite is ready for the next."""

import dataclasses
import json
import queue
import threading
from decimal import Decimal

import pytest

from hireliab.errors import (
    ClosedError,
    ConfigError,
    IdempotencyConflictError,
    JournalCorruptError,
    JournalError,
    JournalLockedError,
)
from hireliab.exchange import _journal_retention
from hireliab.exchange._ledger import event_of
from hireliab.exchange.adapter import Account, Fill, Order
from hireliab.exchange.sqlite_journal import SQLiteJournal, open_reader
from hireliab.exchange.transaction import Proof, Record, State, new_id
from hireliab.testing import FakeClock
from tests.support.together import together

ACCOUNT = Account(venue="nobitex", host="example.test", identity="abc")


@pytest.fixture(params=[SQLiteJournal])
def open_journal(request, tmp_path):
    made = []

    def open_journal(**settings):
        journal = request.param(tmp_path / "j", **settings)
        journal.open()
        made.append(journal)
        return journal

    yield open_journal
    for journal in made:
        journal.close()


def record(txn_id="T1", **changes):
    order = Order(
        symbol="BTC/IRT",
        side="buy",
        type="limit",
        amount=Decimal("0.00100000"),
        price=Decimal("50000000000"),
        client_order_id=f"abcde-{txn_id}",
    )
    base = Record(txn_id=txn_id, order=order, state=State.SUBMITTING, version=1, created=1.5, updated=2.5)
    return dataclasses.replace(base, **changes)


def test_a_record_comes_back_as_it_was(open_journal):
    journal = open_journal()
    written = record(
        idempotency_key="k",
        order_id="2147483650",
        order_status="Active",
        filled=Decimal("0.0005"),
        average_price=Decimal("49999999990"),
        fee=Decimal("0.00000125"),
        candidates=("1", "2"),
        needs_human=True,
        watch_until=7.25,
        proof=Proof.ABSENT,
        reason="because",
        baseline="2147483640",
        baseline_time=1.25,
        sent_wall=3.5,
        payload_hash="h",
    )
    journal.write(written, cause="test", barrier=True)
    assert journal.get("T1") == written
    assert journal.find_key("k") == written
    assert journal.find_order("2147483650") == written
    assert journal.get("T2") is None


def test_a_record_survives_a_restart(open_journal):
    first = open_journal()
    first.write(record(), cause="test", barrier=True)
    first.note_watermark("2147483999")
    first.note_watermark("5")
    first.close()
    second = open_journal()
    assert [r.txn_id for r in second.unfinished()] == ["T1"]
    assert second.watermark == "2147483999"


def test_the_newest_watermark_is_kept_however_often_it_moves(open_journal):
    first = open_journal()
    for order_id in ("5", "7"):
        first.note_watermark(order_id)
        first.write(record(order_id), cause="test", barrier=True)
    first.note_watermark("8")
    first.note_watermark("9")
    first.close()
    assert open_journal().watermark == "9"


def test_a_version_is_written_once(open_journal):
    journal = open_journal()
    journal.write(record(), cause="test", barrier=True)
    journal.write(record(version=2, state=State.RESOLVING), cause="test", barrier=True)
    with pytest.raises(JournalError, match="version 2"):
        journal.write(record(version=2, state=State.ACKED), cause="test", barrier=True)
    assert journal.get("T1").state is State.RESOLVING


def test_an_idempotency_key_is_held_once(open_journal):
    journal = open_journal()
    journal.write(record("T1", idempotency_key="k"), cause="test", barrier=True)
    with pytest.raises(IdempotencyConflictError, match="'k'"):
        journal.write(record("T2", idempotency_key="k"), cause="test", barrier=True)


def test_a_venue_order_belongs_to_one_transaction(open_journal):
    journal = open_journal()
    journal.write(record("T1", order_id="9"), cause="test", barrier=True)
    with pytest.raises(JournalError, match="another transaction"):
        journal.write(record("T2", order_id="9"), cause="test", barrier=True)
    journal.write(record("T3", order_id="9", kind="CANCEL", parent_id="T1"), cause="a cancel may name it", barrier=True)


def test_unfinished_is_what_a_restart_goes_on_with(open_journal):
    journal = open_journal()
    rows = {
        "A": {"state": State.SUBMITTING},
        "B": {"state": State.COMPLETED, "proof": Proof.LIVE, "order_status": "Active", "order_id": "1"},
        "C": {"state": State.COMPLETED, "proof": Proof.FILLED, "order_status": "Done", "order_id": "2"},
        "D": {"state": State.FAILED, "proof": Proof.ABSENT, "watch_until": 9.0},
        "E": {"state": State.FAILED, "proof": Proof.REJECTED},
        "F": {"state": State.UNKNOWN},
        "G": {"state": State.ROLLED_BACK, "proof": Proof.CANCELLED, "kind": "CANCEL"},
    }
    for txn_id, changes in rows.items():
        journal.write(record(txn_id, **changes), cause="test", barrier=True)
    assert [r.txn_id for r in journal.unfinished()] == ["A", "B", "D", "F"]
    assert [r.txn_id for r in journal.select(states=["COMPLETED"])] == ["C", "B"]


def test_send_times_are_those_of_intents(open_journal):
    journal = open_journal()
    journal.write(record("T1", updated=100.0), cause="test", barrier=True)
    journal.write(record("T1", updated=101.0, version=2, state=State.ACKED), cause="test", barrier=True)
    journal.write(record("T2", updated=50.0), cause="test", barrier=True)
    assert journal.send_times(60.0) == [100.0]


def test_fills_are_kept_once(open_journal):
    journal = open_journal()
    fill = Fill(
        trade_id="7",
        order_id="9",
        symbol="BTC/IRT",
        side="buy",
        amount=Decimal("0.1"),
        price=Decimal(5),
        fee=Decimal("0.001"),
        time=4.5,
    )
    journal.write_fills("T1", [fill])
    journal.write_fills("T1", [fill])
    journal.write(record(), cause="so that the fills are written", barrier=True)
    assert journal.fills("T1") == [fill]


def test_both_sides_of_a_trade_between_two_own_orders_are_kept(open_journal):
    journal = open_journal()
    bought = Fill(
        trade_id="7",
        order_id="9",
        symbol="BTC/IRT",
        side="buy",
        amount=Decimal("0.1"),
        price=Decimal(5),
        fee=Decimal("0.001"),
        time=4.5,
    )
    sold = dataclasses.replace(bought, order_id="8", side="sell")
    journal.write_fills("T1", [bought])
    journal.write_fills("T2", [sold])
    journal.write(record(), cause="so that the fills are written", barrier=True)
    assert (journal.fills("T1"), journal.fills("T2")) == ([bought], [sold])


def test_a_second_owner_is_refused_with_the_firsts_pid(open_journal):
    import os

    open_journal()
    with pytest.raises(JournalLockedError, match=str(os.getpid())):
        open_journal()


def test_another_accounts_journal_is_refused(open_journal):
    first = open_journal()
    first.bind(ACCOUNT)
    first.bind(ACCOUNT)
    first.close()
    second = open_journal()
    with pytest.raises(JournalError, match="not of xyz"):
        second.bind(dataclasses.replace(ACCOUNT, identity="xyz"))
    assert second.bound == ACCOUNT


def test_two_that_bind_at_once_both_succeed_with_one_account(open_journal):
    journal = open_journal()
    looks = threading.Barrier(2)
    meta = journal._meta
    first = threading.local()

    def look(key):
        found = meta(key)
        if key == "account" and not hasattr(first, "done"):
            first.done = True
            looks.wait(10.0)  # both look before either writes
        return found

    journal._meta = look
    together(2, lambda _: journal.bind(ACCOUNT))
    journal._meta = meta
    assert journal.bound == ACCOUNT


def test_a_foreign_file_is_refused(open_journal, tmp_path):
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "journal.db").write_bytes(b"something else " * 1000)
    with pytest.raises(JournalCorruptError):
        open_journal()


def test_money_is_plain_text_on_disk(open_journal, tmp_path):
    import sqlite3

    journal = open_journal()
    journal.write(record(filled=Decimal("0E-10"), fee=Decimal("1.2500E-6")), cause="test", barrier=True)
    db = sqlite3.connect(tmp_path / "j" / "journal.db")
    row = db.execute("SELECT amount, price, filled, fee, typeof(amount), typeof(fee) FROM txn").fetchone()
    db.close()
    assert row == ("0.001", "50000000000", "0", "0.00000125", "text", "text")


def test_goal_timeout_deadline_owner_and_epoch_come_back(open_journal):
    journal = open_journal()
    written = record(kind="CALL", goal="ROLLBACK", timeout=2.5, deadline=99.5, owner="one", epoch=3)
    journal.write(written, cause="test", barrier=True)
    assert journal.get("T1") == written
    changed = dataclasses.replace(written, version=2, goal="COMMIT", timeout=None, deadline=None, owner="two", epoch=4)
    journal.write(changed, cause="test", barrier=True)
    assert journal.get("T1") == changed


def test_a_stale_epoch_is_refused(open_journal):
    journal = open_journal()
    journal.write(record(epoch=2, owner="new"), cause="claimed", barrier=True)
    with pytest.raises(JournalError, match="epoch 1 is stale.*epoch 2"):
        journal.write(record(version=9, epoch=1, owner="old"), cause="late", barrier=True)
    assert journal.get("T1").owner == "new"
    assert len(journal.log("T1")) == 1


def test_the_log_holds_every_version_in_order(open_journal):
    journal = open_journal()
    journal.write(record(attempt=1), cause="T3 attempt 1", barrier=True)
    journal.write(record(version=2, state=State.ACKED, attempt=1, updated=3.5), cause="T8 acknowledged", barrier=False)
    journal.write(record("T2"), cause="another", barrier=False)
    assert journal.log("T1") == [(2.5, 1, "SUBMITTING", 1, "T3 attempt 1"), (3.5, 2, "ACKED", 1, "T8 acknowledged")]
    assert journal.log("none") == []


def test_what_is_no_barrier_is_read_all_the_same(open_journal):
    journal = open_journal()
    journal.write(record(idempotency_key="k", order_id="9"), cause="test", barrier=False)
    assert journal.get("T1") is not None
    journal.write(record(version=2, state=State.ACKED), cause="test", barrier=False)
    assert [r.version for r in journal.select()] == [2]
    journal.write(record(version=3, state=State.WORKING), cause="test", barrier=False)
    assert [r.version for r in journal.unfinished()] == [3]


def test_an_order_of_three_records_is_two_commits(open_journal):
    journal = open_journal(clock=FakeClock())
    journal.write(record(), cause="intent", barrier=True)
    journal.write(record(version=2, state=State.ACKED, order_id="9"), cause="answer", barrier=False)
    journal.note_watermark("9")
    journal.write(record(version=3, state=State.COMPLETED, order_status="Done"), cause="verdict", barrier=True)
    stats = journal.stats()
    assert (stats.commits, stats.operations, stats.barriers) == (2, 4, 2)
    assert (stats.batch_sizes.count, stats.batch_sizes.total, stats.commit_seconds.count) == (2, 4.0, 2)
    assert stats.file_bytes > 0
    assert stats.wal_bytes > 0
    assert not stats.poisoned
    assert not stats.full


def test_select_takes_states_a_time_and_a_limit(open_journal):
    journal = open_journal()
    for n in range(5):
        journal.write(record(f"T{n}", updated=float(n), state=State.UNKNOWN), cause="test", barrier=False)
    assert [r.txn_id for r in journal.select(since=2.0)] == ["T4", "T3", "T2"]
    assert [r.txn_id for r in journal.select(since=2.0, states=["UNKNOWN"], limit=2)] == ["T4", "T3"]
    assert journal.select(since=2.0, states=["FAILED"]) == []


def test_many_records_are_one_commit_and_all_or_none(open_journal):
    journal = open_journal(clock=FakeClock())
    claims = [(record(f"T{n:03}", epoch=2, state=State.RESOLVING), "T27 claimed") for n in range(300)]
    journal.write_many(claims, barrier=True)
    assert journal.stats().commits == 1
    assert len(journal.unfinished()) == 300
    journal.write_many([], barrier=True)
    again = [(dataclasses.replace(r, version=2), cause) for r, cause in claims[:2]]
    again.append((dataclasses.replace(claims[2][0], version=2, epoch=1), "late"))
    with pytest.raises(JournalError, match="T002: epoch 1 is stale"):
        journal.write_many(again, barrier=True)
    assert {r.version for r in journal.unfinished()} == {1}
    assert len(journal.log("T000")) == 1


def test_facts_are_found_by_the_beginning_of_their_name_and_forgotten(open_journal):
    journal = open_journal()
    for name, value in (("orphan 1", "a"), ("orphan 2", "b"), ("orphan_3", "c"), ("ORPHAN 4", "d"), ("100% sure", "e")):
        journal.note_fact(name, value)
    assert journal.facts("orphan ") == {"orphan 1": "a", "orphan 2": "b"}
    assert journal.facts("100% ") == {"100% sure": "e"}
    assert journal.facts("%") == {}
    journal.note_fact("orphan 1", None)
    journal.note_fact("orphan 2", "z")
    assert journal.facts("orphan ") == {"orphan 2": "z"}
    assert journal.fact("orphan 1") is None


def test_equal_trade_ids_of_two_symbols_are_two_fills(open_journal):
    journal = open_journal()
    fill = Fill(
        trade_id="7", order_id="9", symbol="BTC/IRT", side="buy", amount=Decimal("0.1"), price=Decimal(5),
        fee=Decimal("0.001"), time=4.5,
    )  # fmt: skip
    other = dataclasses.replace(fill, symbol="ETH/IRT", time=5.5)
    journal.write_fills("T1", [fill, other])
    assert journal.fills("T1") == [fill, other]


def test_the_folder_is_named(open_journal, tmp_path):
    assert open_journal().folder == tmp_path / "j"


@pytest.mark.parametrize("settings", [{"durability": "lax"}, {"retention_days": -1}, {"retention_days": float("nan")}])
def test_settings_that_make_no_sense_are_refused(settings, tmp_path):
    with pytest.raises(ConfigError) as caught:
        SQLiteJournal(tmp_path / "j", **settings)
    assert caught.value.setting == next(iter(settings))


# -- durability -------------------------------------------------------------------------------------------------


def test_relaxed_verdicts_do_not_wait_for_the_disk_but_intents_do(open_journal):
    journal = open_journal(durability="relaxed", clock=FakeClock())
    journal.write(record(), cause="intent", barrier=True)
    assert journal.stats().commits == 1
    done = record(version=2, state=State.COMPLETED, order_status="Done")
    journal.write(done, cause="verdict", barrier=True)
    assert journal.stats().commits == 1
    journal.write(record("T2", state=State.UNKNOWN), cause="unknown", barrier=True)
    assert journal.stats().commits == 2
    assert journal.get("T1") == done


def test_a_relaxed_verdict_is_found_by_key_and_order_before_it_is_written(open_journal):
    journal = open_journal(durability="relaxed", clock=FakeClock())
    journal.write(record(idempotency_key="k", order_id="9"), cause="intent", barrier=True)
    done = record(version=2, state=State.COMPLETED, order_status="Done", idempotency_key="k", order_id="9")
    journal.write(done, cause="verdict", barrier=True)
    cancel = record("T2", kind="CANCEL", state=State.ROLLED_BACK, order_id="9", parent_id="T1")
    journal.write(cancel, cause="verdict of a cancel", barrier=True)
    assert journal.find_key("k") == journal.find_order("9") == done
    assert journal.stats().commits == 1
    journal.write(record("T3"), cause="intent", barrier=True)
    assert journal._told == {}
    assert journal.find_key("k") == journal.find_order("9") == done


def test_a_relaxed_failure_that_frees_a_key_waits_so_that_the_key_is_free(open_journal):
    journal = open_journal(durability="relaxed", clock=FakeClock())
    journal.write(record(idempotency_key="k"), cause="intent", barrier=True)
    journal.write(record(version=2, state=State.FAILED, proof=Proof.NOT_SENT), cause="not sent", barrier=True)
    assert journal.find_key("k") is None


# -- events -----------------------------------------------------------------------------------------------------


def told(journal):
    return [(event.event_id, event.topic) for event in journal.pending_events(0, 100)]


def test_an_event_is_in_the_commit_of_its_record(open_journal):
    journal = open_journal(clock=FakeClock())
    journal.write(record(), cause="intent", barrier=True)
    done = record(version=2, state=State.COMPLETED, order_status="Done", reason="\udcff said \u06f5")
    journal.write(done, cause="verdict", barrier=True, event=event_of("transaction.completed", done))
    assert journal.stats().commits == 2
    [event] = journal.pending_events(0, 100)
    assert (event.event_id, event.key, event.topic) == ("T1:2", "T1", "transaction.completed")
    assert event.created == done.updated
    body = json.loads(event.body)
    assert (body["event_id"], body["state"], body["amount"]) == ("T1:2", "COMPLETED", "0.001")
    assert body["reason"] == "? said \u06f5"


def test_the_event_of_a_record_that_is_refused_is_not_there(open_journal):
    journal = open_journal()
    journal.write(record(version=2), cause="test", barrier=True)
    stale, other = record(version=1, state=State.UNKNOWN), record("T2", version=1)
    with pytest.raises(JournalError, match="version 1 is not the next one"):
        journal.write(stale, cause="late", barrier=True, event=event_of("transaction.unknown", stale))
    with pytest.raises(JournalError):
        journal.write_many(
            [(other, "first"), (stale, "late")], barrier=True, events=[event_of("transaction.unknown", other)]
        )
    assert told(journal) == []
    assert journal.event_backlog() == (0, None)


def test_events_come_in_the_order_of_their_commits_and_after_a_seq(open_journal):
    journal = open_journal()
    for n in range(5):
        written = record(f"T{5 - n}", updated=float(n))
        journal.write(written, cause="test", barrier=n == 4, event=event_of("order.updated", written))
    pairs = [(record("A"), "claimed"), (record("B"), "claimed")]
    journal.write_many(pairs, barrier=True, events=[event_of("transaction.resolving", r) for r, _ in pairs])
    events = journal.pending_events(0, 100)
    assert [event.event_id for event in events] == ["T5:1", "T4:1", "T3:1", "T2:1", "T1:1", "A:1", "B:1"]
    assert [event.event_id for event in journal.pending_events(events[1].seq, 2)] == ["T3:1", "T2:1"]
    assert journal.event_backlog() == (7, 0.0)


def test_a_published_event_is_marked_and_stays_with_its_transaction(open_journal):
    first = open_journal()
    for txn_id in ("T1", "T2"):
        written = record(txn_id)
        first.write(written, cause="test", barrier=True, event=event_of("transaction.unknown", written))
    first.mark_published([first.pending_events(0, 1)[0].seq])
    first.close()
    second = open_journal()
    assert told(second) == [("T2:1", "transaction.unknown")]
    assert second._query("SELECT event_id FROM event ORDER BY seq") == [("T1:1",), ("T2:1",)]


def test_the_oldest_events_can_be_given_up(open_journal):
    journal = open_journal()
    for n in range(4):
        written = record(f"T{n}")
        journal.write(written, cause="test", barrier=True, event=event_of("transaction.unknown", written))
    assert journal.drop_events(3) == 3
    assert told(journal) == [("T3:1", "transaction.unknown")]
    assert journal.drop_events(3) == 1


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_an_outbox_is_woken_when_the_event_is_there(open_journal, durability):
    journal = open_journal(durability=durability)
    woken = queue.Queue()
    journal.attach_outbox(lambda: woken.put(len(journal.pending_events(0, 9))))
    written = record(state=State.COMPLETED, order_status="Done")
    journal.write(record("T0"), cause="no event", barrier=True)
    journal.write(written, cause="test", barrier=True, event=event_of("transaction.completed", written))
    assert woken.get(timeout=10.0) == 1
    other = record("T2")
    journal.write_many([(other, "test")], barrier=False, events=[event_of("transaction.unknown", other)])
    assert woken.get(timeout=10.0) == 2
    if durability == "strict":
        with pytest.raises(JournalError, match="version 1"):
            journal.write(written, cause="again", barrier=True, event=event_of("transaction.completed", written))
    assert woken.empty()


def test_a_reader_sees_what_waits_for_the_bus(open_journal, tmp_path):
    journal = open_journal()
    written = record()
    journal.write(written, cause="test", barrier=True, event=event_of("transaction.unknown", written))
    with open_reader(tmp_path / "j") as reader:
        assert told(reader) == [("T1:1", "transaction.unknown")]
        assert reader.event_backlog() == (1, written.updated)


# -- retention --------------------------------------------------------------------------------------------------

DAY = 86400.0


@pytest.fixture
def old(open_journal):
    """A journal of long ago, and a way to make its writer clean up."""
    clock = FakeClock()
    journal = open_journal(clock=clock, retention_days=30.0)

    class Old:
        def add(self, *, age=31.0, event=None, **changes):
            wall = clock.time() - age * DAY
            written = record(new_id(wall), created=wall, updated=wall, **changes)
            journal.write(written, cause="test", barrier=True, event=event and event_of(event, written))
            return written.txn_id

        def clean(self):
            sweeps = journal.stats().operations
            clock.advance_until(
                lambda: journal.stats().operations > sweeps and journal._file._idle_due > clock.monotonic(),
                limit=2 * _journal_retention.INTERVAL,
                threads=("hireliab.sqlite.",),
            )
            return {r.txn_id for r in journal.select()} - {old.fresh}

    old = Old()
    old.journal, old.clock = journal, clock
    old.fresh = old.add(age=0.0, state=State.UNKNOWN)
    return old


DONE = {"state": State.COMPLETED, "order_status": "Done"}


def test_finished_transactions_are_deleted_after_a_month_with_their_log_and_fills(old):
    gone = old.add(idempotency_key="k", **DONE)
    fill = Fill(
        trade_id="7", order_id="9", symbol="BTC/IRT", side="buy", amount=Decimal("0.1"), price=Decimal(5),
        fee=Decimal(0), time=4.5,
    )  # fmt: skip
    old.journal.write_fills(gone, [fill])
    young = old.add(age=29.0, **DONE)
    assert old.clean() == {young}
    assert old.journal.log(gone) == old.journal.fills(gone) == []
    assert old.journal.find_key("k") is None
    assert len(old.journal.log(young)) == 1


def test_the_newest_id_that_was_deleted_is_kept_and_never_moves_back(old):
    late = old.add(age=33.0, state=State.UNKNOWN)
    gone = old.add(age=32.0, **DONE)
    assert old.clean() == {late}
    assert old.journal.fact("forgotten") == gone
    changed = old.clock.time() - 31 * DAY
    old.journal.write(
        dataclasses.replace(old.journal.get(late), version=2, updated=changed, **DONE), cause="", barrier=True
    )
    assert old.clean() == set()
    assert old.journal.fact("forgotten") == gone


def test_what_is_not_finished_is_kept(old):
    kept = {
        old.add(state=State.UNKNOWN),
        old.add(state=State.FAILED, proof=Proof.ABSENT, watch_until=1.0),
        old.add(state=State.COMPLETED, order_status="Active"),
        old.add(state=State.COMPLETED, order_status="Inactive"),
    }
    parent = old.add(**DONE)
    child = old.add(kind="CANCEL", parent_id=parent, state=State.CANCELLING)
    finished_parent = old.add(**DONE)
    old.add(kind="CANCEL", parent_id=finished_parent, state=State.ROLLED_BACK)
    old.add(kind="CANCEL", state=State.COMPLETED, order_status="Active")
    assert old.clean() == kept | {parent, child}


def test_what_changed_lately_is_kept_however_old_it_is(old):
    txn_id = old.add(state=State.UNKNOWN)
    changed = dataclasses.replace(old.journal.get(txn_id), version=2, updated=old.clock.time(), **DONE)
    old.journal.write(changed, cause="resolved", barrier=True)
    assert old.clean() == {txn_id}


def test_more_than_one_batch_is_deleted(old, monkeypatch):
    monkeypatch.setattr(_journal_retention, "ROWS", 3)
    kept = old.add(state=State.UNKNOWN)
    for _ in range(10):
        old.add(**DONE)
    young = old.add(age=1.0, **DONE)
    assert old.clean() == {kept, young}
    again = old.add(**DONE)
    assert again not in old.clean()


def test_with_an_outbox_transactions_are_kept_until_their_events_are_published(old):
    old.journal.attach_outbox(lambda: None)
    first, second = old.add(event="transaction.completed", **DONE), old.add(event="transaction.completed", **DONE)
    old.journal.mark_published([event.seq for event in old.journal.pending_events(0, 9) if event.key == first])
    assert len(old.journal.log(first)) == 1  # what was asked for before is written
    assert old.clean() == {second}
    old.journal.mark_published([event.seq for event in old.journal.pending_events(0, 9)])
    assert len(old.journal.log(second)) == 1  # what was asked for before is written
    assert old.clean() == set()
    assert old.journal._query("SELECT count(*) FROM event") == [(0,)]


def test_without_an_outbox_nobody_waits_for_events(old):
    kept = old.add(age=1.0, event="transaction.completed", **DONE)
    old.add(event="transaction.completed", **DONE)
    assert old.clean() == {kept}
    assert [event.key for event in old.journal.pending_events(0, 9)] == [kept]


def test_a_seq_is_not_used_again_after_the_newest_event_was_deleted(old):
    old.add(event="transaction.completed", **DONE)
    [before] = old.journal.pending_events(0, 9)
    assert old.clean() == set()
    old.add(event="transaction.completed", **DONE)
    assert [event.seq for event in old.journal.pending_events(before.seq, 9)] == [before.seq + 1]


def test_a_clock_that_jumped_ahead_deletes_nothing(old):
    kept = old.add(age=1.0, **DONE)
    old.clock.step_wall(1000 * DAY)
    assert old.clean() == {kept}
    # An order that is sent meanwhile knows the venue's time.
    old.add(age=0.0, baseline_time=old.clock.time() - 1000 * DAY, state=State.UNKNOWN)
    assert kept in old.clean()
    old.add(age=0.0, baseline_time=old.clock.time(), state=State.UNKNOWN)
    assert kept not in old.clean()


def test_without_retention_everything_is_kept(open_journal):
    clock = FakeClock()
    journal = open_journal(clock=clock, retention_days=None)
    wall = clock.time() - 1000 * DAY
    journal.write(record(new_id(wall), created=wall, updated=wall, **DONE), cause="test", barrier=True)
    for _ in range(60):
        clock.wait_parked()
        clock.advance(1.0)
    assert len(journal.select()) == 1


# -- versions of the schema, and other readers --------------------------------------------------------------------


def make_version(folder, version):
    from hireliab.core._sqlite import SQLiteFile
    from hireliab.exchange import sqlite_journal

    folder.mkdir()
    file = SQLiteFile(
        folder / "journal.db", what="old", application_id=sqlite_journal.APPLICATION_ID,
        schema=sqlite_journal._SCHEMA[:version],
    )  # fmt: skip
    file.open()
    if version > 1:
        file.write(lambda db: db.execute("INSERT INTO meta VALUES ('watermark', '11')") and None)
        file.close()
        return
    row = (
        "'T1','ORDER',NULL,'BTC/IRT','buy','limit','0.001','5',NULL,'abcde-T1','h','k','accepted','raise','COMPLETED',"
        "'FILLED','why',4,1,3.5,'10',1.25,'11','Done','0.001','5','0.0001','[\"12\"]',0,NULL,1.5,2.5"
    )
    for sql in (
        f"INSERT INTO txn VALUES ({row})",
        "INSERT INTO txn_log VALUES (7, 'T1', 4, 2.5, 'COMPLETED', 1, 'T11')",
        "INSERT INTO fill VALUES ('99', 'T1', '11', 'BTC/IRT', 'buy', '0.001', '5', '0.0001', 2.25)",
        "INSERT INTO meta VALUES ('watermark', '11')",
    ):
        file.write(lambda db, sql=sql: db.execute(sql) and None)
    file.close()


def test_a_journal_of_version_1_is_brought_up_to_date_with_everything_in_it(open_journal, tmp_path):
    make_version(tmp_path / "j", 1)
    with pytest.raises(JournalError, match="version 1 is old"), open_reader(tmp_path / "j"):
        pass
    journal = open_journal()
    found = journal.get("T1")
    assert (found.state, found.filled, found.idempotency_key) == (State.COMPLETED, Decimal("0.001"), "k")
    assert (found.goal, found.timeout, found.deadline, found.owner, found.epoch) == ("COMMIT", None, None, "", 1)
    assert found.candidates == ("12",)
    assert [fill.trade_id for fill in journal.fills("T1")] == ["99"]
    assert journal.log("T1") == [(2.5, 4, "COMPLETED", 1, "T11")]
    assert journal.watermark == "11"
    journal.write(dataclasses.replace(found, version=5, epoch=2), cause="goes on", barrier=True)
    with journal._file.reader() as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 3
        assert db.execute("SELECT lease_until FROM txn").fetchone()[0] is None


def test_a_journal_of_version_2_is_brought_up_to_date_and_takes_events(open_journal, tmp_path):
    make_version(tmp_path / "j", 2)
    with pytest.raises(JournalError, match="version 2 is old"), open_reader(tmp_path / "j"):
        pass
    journal = open_journal()
    assert journal._query("PRAGMA user_version") == [(3,)]
    assert (journal.event_backlog(), journal.watermark) == ((0, None), "11")
    written = record()
    journal.write(written, cause="test", barrier=True, event=event_of("transaction.unknown", written))
    assert told(journal) == [("T1:1", "transaction.unknown")]


def test_a_reader_beside_the_bot_sees_what_is_committed(open_journal, tmp_path):
    journal = open_journal()
    journal.bind(ACCOUNT)
    journal.note_watermark("5")
    journal.note_fact("orphan 1", "a")
    with open_reader(tmp_path / "j") as reader:
        journal.write(record(), cause="test", barrier=True)
        assert reader.get("T1") == record()
        journal.write(record(version=2, state=State.ACKED), cause="test", barrier=True)
        assert [r.state for r in reader.select(states=["ACKED"])] == [State.ACKED]
        assert len(reader.log("T1")) == 2
        assert reader.bound == ACCOUNT
        assert reader.watermark == "5"
        assert reader.facts("orphan ") == {"orphan 1": "a"}
        assert reader.counts() == {"ACKED": 1}
        assert reader.check() == []
        assert reader.fills("T1") == []
        assert len(reader.unfinished()) == 1
    with pytest.raises(ClosedError):
        reader.get("T1")


def test_a_reader_goes_on_while_the_bot_stops_and_starts(open_journal, tmp_path):
    first = open_journal()
    first.write(record(), cause="test", barrier=True)
    with open_reader(tmp_path / "j") as reader:
        assert reader.get("T1").version == 1
        first.close()
        assert reader.get("T1").version == 1
        second = open_journal()
        second.write(record(version=2), cause="test", barrier=True)
        assert reader.get("T1").version == 2
        second.close()
        assert reader.get("T1").version == 2


def test_a_reader_of_a_closed_journal_sees_what_is_written_after_the_next_start(open_journal, tmp_path):
    open_journal().close()
    with open_reader(tmp_path / "j") as reader:
        assert reader.select() == []
        second = open_journal()
        second.write(record(), cause="test", barrier=True)
        assert reader.get("T1") == record()
        second.close()
        assert reader.get("T1") == record()


def test_a_reader_of_a_folder_without_a_journal_says_so(tmp_path):
    with pytest.raises(JournalError, match="there is none"), open_reader(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_reader_refuses_another_programs_file(tmp_path):
    import sqlite3

    db = sqlite3.connect(tmp_path / "journal.db")
    db.execute("CREATE TABLE meta (key, value)")
    db.close()
    with pytest.raises(JournalCorruptError, match="not a journal of hireliab"), open_reader(tmp_path):
        pass
    (tmp_path / "journal.db").write_bytes(b"something else " * 1000)
    with pytest.raises(JournalCorruptError, match="not a readable SQLite file"), open_reader(tmp_path):
        pass
