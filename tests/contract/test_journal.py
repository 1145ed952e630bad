"""What every journal promises. SQLite is the only one so far; the suite is ready for the next."""

import dataclasses
from decimal import Decimal

import pytest

from hireliab.errors import IdempotencyConflictError, JournalCorruptError, JournalError, JournalLockedError
from hireliab.exchange.adapter import Account, Fill, Order
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Proof, Record, State

ACCOUNT = Account(venue="nobitex", host="example.test", identity="abc")


@pytest.fixture(params=[SQLiteJournal])
def open_journal(request, tmp_path):
    made = []

    def open_journal():
        journal = request.param(tmp_path / "j")
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
        trade_id="7", order_id="9", symbol="BTC/IRT", side="buy", amount=Decimal("0.1"), price=Decimal(5),
        fee=Decimal("0.001"), time=4.5,
    )
    journal.write_fills("T1", [fill])
    journal.write_fills("T1", [fill])
    journal.write(record(), cause="so that the fills are written", barrier=True)
    assert journal.fills("T1") == [fill]


def test_both_sides_of_a_trade_between_two_own_orders_are_kept(open_journal):
    journal = open_journal()
    bought = Fill(
        trade_id="7", order_id="9", symbol="BTC/IRT", side="buy", amount=Decimal("0.1"), price=Decimal(5),
        fee=Decimal("0.001"), time=4.5,
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
