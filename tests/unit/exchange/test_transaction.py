"""The transition table, derived words, verdicts and ids."""

import dataclasses
import re
from decimal import Decimal

import pytest

from hireliab.errors import OutcomeUnknownError, TransactionDeniedError
from hireliab.exchange.adapter import Order
from hireliab.exchange.transaction import (
    BY_ID,
    PHASES,
    TRANSITIONS,
    Proof,
    Record,
    State,
    Transaction,
    Verdict,
    new_id,
    payload_hash,
)

ORDER = Order(symbol="BTC/USDT", side="buy", type="limit", amount=Decimal(1), price=Decimal(2), client_order_id="a-1")
RECORD = Record(txn_id="T1", order=ORDER)


def test_the_table_has_the_rows_of_the_design_and_no_other():
    wanted = [f"T{n}" for n in (*range(1, 22), *range(25, 29))]
    assert sorted(BY_ID) == sorted([*wanted, "T11b", "T12b"])


def test_a_decided_state_is_left_only_by_the_afterwatch():
    leaving = [row.id for row in TRANSITIONS if any(source.is_terminal for source in row.sources)]
    assert leaving == ["T25"]


def test_nothing_leads_back_to_a_send_but_a_proven_non_execution():
    rows = [row for row in TRANSITIONS if State.SUBMITTING in row.targets and row.id != "T27"]
    assert {row.id: row.sources for row in rows} == {
        "T3": (State.NEW, State.PREPARED),
        "T6": (State.SUBMITTING,),
    }


def test_what_the_caller_is_told_and_what_precedes_a_send_is_a_barrier():
    for row in TRANSITIONS:
        after_send = State.NEW not in row.sources and State.PREPARED not in row.sources
        if any(target.is_terminal for target in row.targets) and after_send:
            assert row.barrier, row
        if State.SUBMITTING in row.targets or State.CANCELLING in row.targets:
            # T10 and T16 come back to a cancel whose intent has been on disk since T18.
            assert row.barrier or row.id in ("T10", "T16"), row


def test_a_pair_that_is_not_in_the_table_is_a_bug():
    acked = dataclasses.replace(RECORD, state=State.ACKED)
    with pytest.raises(AssertionError, match="bug: T3"):
        acked.move("T3", State.SUBMITTING)
    with pytest.raises(AssertionError, match="bug: T11"):
        acked.move("T11", State.FAILED)


def test_every_state_has_its_phase_and_status():
    assert set(PHASES) == set(State)


def test_every_proof_of_a_failed_record_has_a_verdict():
    for proof in (Proof.DENIED, Proof.NOT_SENT, Proof.REJECTED, Proof.CLOSED_UNFILLED, Proof.FENCED, Proof.ABSENT):
        assert dataclasses.replace(RECORD, state=State.FAILED, proof=proof).verdict.value == proof.value


def test_a_restored_denial_still_raises():
    denied = Transaction(dataclasses.replace(RECORD, state=State.FAILED, proof=Proof.DENIED, reason="recovering"))
    with pytest.raises(TransactionDeniedError, match="recovering"):
        bool(denied.result())


@pytest.mark.parametrize("state", [s for s in State if not s.is_terminal])
def test_every_undecided_state_raises_unknown(state):
    result = Transaction(dataclasses.replace(RECORD, state=state)).result()
    assert result.verdict is Verdict.UNKNOWN
    with pytest.raises(OutcomeUnknownError) as caught:
        bool(result)
    assert caught.value.transaction_id == "T1"


def test_ids_sort_by_time_fit_and_differ():
    ids = [new_id(wall) for wall in (1.0, 1000.0, 1_760_000_000.123)]
    assert ids == sorted(ids)
    many = {new_id(1_760_000_000.0) for _ in range(5000)}
    assert len(many) == 5000
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", one) for one in many)


def test_a_key_is_bound_to_what_was_asked_for():
    same = dataclasses.replace(ORDER, amount=Decimal("1.000"), client_order_id="other")
    assert payload_hash(same, "accepted") == payload_hash(ORDER, "accepted")
    for change in ({"amount": Decimal(2)}, {"price": None}, {"side": "sell"}, {"symbol": "X/Y"}, {"type": "market"}):
        assert payload_hash(dataclasses.replace(ORDER, **change), "accepted") != payload_hash(ORDER, "accepted")
    assert payload_hash(ORDER, "filled") != payload_hash(ORDER, "accepted")


def test_of_two_who_claim_one_version_one_wins():
    transaction = Transaction(RECORD)
    assert transaction.claim(0)
    assert not transaction.claim(0)
    transaction.settle(RECORD.move("T3", State.SUBMITTING))
    assert not transaction.claim(0)
    assert transaction.claim(1)
