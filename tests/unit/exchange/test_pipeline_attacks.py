"""Attacks on the transaction pipeline: what a venue, a disk, a signal or a second thread can do at the worst moment."""

import copy
import dataclasses
import gc
import pickle
import shutil
import sqlite3
import threading
from decimal import Decimal

import pytest

from hireliab import testing
from hireliab.errors import (
    DuplicateOrderError,
    IdempotencyConflictError,
    InvalidOrderError,
    JournalError,
    JournalPoisonedError,
    NotSentError,
    OrderRejectedError,
    OutcomeUnknownError,
    PartialFillError,
    ResponseLostError,
    TransactionDeniedError,
)
from hireliab.exchange import _admission, transaction_verification
from hireliab.exchange.adapter import Absent, FillListing, Found, OrderStatus
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Proof, State, Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.testing import ScriptedExchange
from tests.support.pipeline import Alerts, finish, limit, market
from tests.support.together import Background, together

UNKNOWN = (OutcomeUnknownError,)


@pytest.fixture
def exchange(clock):
    return ScriptedExchange(clock=clock)


@pytest.fixture
def alerts():
    return Alerts()


def burn(pipeline):
    """Stop a pipeline whatever an attack has made of it, so that one failing test does not fail the others."""
    threads = pipeline._admission.threads
    pipeline._admission.threads = {name: thread for name, thread in threads.items() if thread.ident}
    if pipeline._phase in ("stopping", "starting"):
        pipeline._phase = "open"
    pipeline.stop()
    pipeline._stop.set()
    pipeline._resolver_stop.set()
    pipeline._resolver.join(5.0)
    pipeline._journal.close()


@pytest.fixture
def make(clock, exchange, alerts, tmp_path):
    made = []

    def make(adapter=exchange, **settings):
        given = {"alert_system": alerts, "journal": tmp_path / "journal", **settings}
        pipeline = TransactionVerificationPipeline(
            exchange_adapter=adapter, clock=clock, **{"operator_interval": None, **given}
        )
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        burn(pipeline)


@pytest.fixture
def pipeline(make):
    return make()


def pass_time(clock, seconds):
    """Let the threads do what they do in this time."""
    end = clock.monotonic() + seconds
    while clock.monotonic() < end:
        before = clock.monotonic()
        clock.advance_until(lambda: clock.monotonic() > before, limit=4000.0)  # noqa: B023 - called at once


def cancel(clock, exchange, pipeline, transaction):
    """Cancel in fake time; the clock moves only once the cancel has a thread, and until that thread has ended."""
    begun, prepare = threading.Event(), exchange.prepare_cancel

    def prepare_cancel(order_id):
        begun.set()
        return prepare(order_id)

    exchange.prepare_cancel = prepare_cancel
    running = Background(pipeline.cancel, transaction.id)
    assert begun.wait(10.0)
    clock.advance_until(lambda: not any(t.name.startswith("hireliab.txn.") for t in threading.enumerate()), limit=300.0)
    return running.result()


def told(result):
    """What execute_transaction would do: a bool, or the class of what it raises."""
    try:
        return bool(result)
    except Exception as error:
        return type(error)


def only_order(exchange):
    (order,) = exchange.orders.values()
    return order


# -- what the venue says ------------------------------------------------------------------------------------------


def test_a_closed_order_that_shows_less_than_was_already_seen_filled_is_not_unfilled(clock, exchange, pipeline):
    exchange.script.append("rest")
    transaction = limit(pipeline, commit="filled")
    handle = pipeline.submit(transaction)
    clock.advance_until(lambda: bool(exchange.orders) and transaction.state in (State.ACKED, State.WORKING))
    order_id = only_order(exchange).order_id
    exchange.change(order_id, filled=Decimal("0.2"))
    clock.advance_until(lambda: transaction.record.filled == Decimal("0.2"))
    exchange.change(order_id, status=OrderStatus.CANCELED, filled=Decimal(0))
    clock.advance_until(lambda: handle.done or transaction._answered)
    assert told(handle.result()) in (PartialFillError, *UNKNOWN)


def test_a_cancel_does_not_call_an_order_unfilled_whose_fills_were_seen(clock, exchange, pipeline):
    transaction = limit(pipeline)
    order_id = finish(clock, pipeline, transaction).order_id
    exchange.change(order_id, filled=Decimal("0.2"))
    clock.advance_until(lambda: transaction.record.filled == Decimal("0.2"))
    exchange.change(order_id, filled=Decimal(0))  # a replica that is behind answers the cancel
    cancelled = cancel(clock, exchange, pipeline, transaction)
    assert cancelled.verdict is not Verdict.CANCELLED
    assert transaction.record.filled == Decimal("0.2")


def test_a_status_by_id_that_answers_with_another_order_binds_nothing(clock, exchange, pipeline):
    stranger = exchange._accept(limit(pipeline).record.order, "rest")
    exchange.script.append("new")
    exchange.find_by_id = lambda order_id: Found(exchange.orders[stranger.order_id])
    result = finish(clock, pipeline, limit(pipeline))
    assert told(result) is not True
    assert result.order_id != stranger.order_id


def test_a_cancel_is_not_verified_by_the_status_of_another_order(clock, exchange, pipeline):
    transaction = limit(pipeline)
    order_id = finish(clock, pipeline, transaction).order_id
    other = exchange._accept(dataclasses.replace(transaction.record.order, client_order_id="other"), "unfilled")

    def withdraw(order_id):
        raise ResponseLostError("the cancel's answer was lost")

    exchange.withdraw = withdraw
    exchange.find_by_id = lambda order_id: Found(exchange.orders[other.order_id])
    cancelled = cancel(clock, exchange, pipeline, transaction)
    assert exchange.orders[order_id].status is OrderStatus.ACTIVE
    assert told(cancelled) is not True


def test_swapped_answers_of_two_equal_orders_bind_neither_to_the_others(clock, exchange, pipeline):
    both = threading.Barrier(2)
    placed = {}

    def swapped(order):
        placed[order.client_order_id] = exchange._accept(order, "fill")
        both.wait(10.0)
        (other,) = [state for client_id, state in placed.items() if client_id != order.client_order_id]
        return other

    exchange.script.extend([swapped, swapped])
    transactions = [market(pipeline), market(pipeline)]
    handles = [pipeline.submit(transaction) for transaction in transactions]
    clock.advance_until(lambda: all(h.done or h.transaction._answered for h in handles), limit=600.0)
    for transaction in transactions:
        result = transaction.result()
        if told(result) is True:
            assert exchange.orders[result.order_id].client_order_id == transaction.client_order_id
        else:
            assert told(result) in UNKNOWN
    assert exchange.sends() == 2


def test_an_acknowledgement_that_names_another_client_order_id_is_no_acknowledgement(clock, exchange, pipeline):
    def swapped(order):
        return dataclasses.replace(exchange._accept(order, "fill"), client_order_id="somebody-else")

    exchange.script.append(swapped)
    result = finish(clock, pipeline, market(pipeline))
    assert told(result) is True
    assert [state for _, state, _ in result.timeline][2] == "RESOLVING"


def test_an_acknowledgement_with_another_transactions_id_is_looked_into(clock, exchange, pipeline):
    first = finish(clock, pipeline, limit(pipeline))

    def wrong_id(order):
        exchange._accept(order, "rest")
        return dataclasses.replace(exchange.orders[first.order_id], client_order_id=order.client_order_id)

    exchange.script.append(wrong_id)
    second = limit(pipeline)
    finish(clock, pipeline, second)
    clock.advance_until(lambda: second.state.is_terminal, limit=600.0)
    assert second.result().order_id != first.order_id
    assert told(second.result()) is True


def test_an_absurd_id_in_an_acknowledgement_does_not_blind_later_look_ups(clock, exchange, make):
    pipeline = make(late_arrival_bound=0.0)

    def absurd(order):
        return dataclasses.replace(exchange._accept(order, "fill"), order_id="9" * 25)

    exchange.script.extend([absurd, "fill_answer_lost"])
    finish(clock, pipeline, market(pipeline))
    lost = market(pipeline)
    finish(clock, pipeline, lost)
    clock.advance_until(lambda: lost.state.is_terminal, limit=3000.0)
    assert lost.result().verdict is Verdict.COMPLETED


def test_an_acknowledged_order_that_becomes_absent_is_never_proven_absent_by_a_fence(clock, exchange, make):
    exchange.capabilities = dataclasses.replace(
        exchange.capabilities, late_arrival_bound=5.0, late_arrival_is_proof=True
    )
    pipeline = make()
    forgotten = {}

    def forget(order):
        state = exchange._accept(order, "rest")
        forgotten.update(exchange.orders)
        exchange.orders.clear()
        return state

    exchange.script.append(forget)
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    finish(clock, pipeline, limit(pipeline))  # a later order that every listing shows: the canary is content
    pass_time(clock, 300.0)
    assert told(transaction.result()) in UNKNOWN  # the venue acknowledged it: the fence says nothing about it


def test_an_acknowledged_order_is_found_by_its_id_when_the_status_lags(clock, exchange, pipeline):
    exchange.null_client_ids = True  # closed rows show no client id: the acknowledged id is the only handle
    exchange.script.append("fill")
    see = exchange.find_by_id
    start = clock.monotonic()
    exchange.find_by_id = lambda order_id: see(order_id) if clock.monotonic() - start > 8.0 else Absent("lag")
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    pass_time(clock, 200.0)
    assert told(transaction.result()) is True


def test_a_duplicate_answer_that_nothing_explains_is_not_a_rejection(clock, exchange, pipeline):
    """Case 23 with the lag of case 2: the proxy's first copy was filled, and the listings lag by 40 s."""
    start = clock.monotonic()

    def twice(order):
        state = exchange._accept(order, "fill")
        exchange.hidden.add(state.order_id)
        raise DuplicateOrderError("duplicate", code="DuplicateOrder")

    exchange.script.append(twice)
    fills = exchange.list_fills_since
    empty = FillListing(fills=(), since=0.0, started=0.0)
    exchange.list_fills_since = lambda since: fills(since) if clock.monotonic() - start > 20.0 else empty
    transaction = market(pipeline)
    result = finish(clock, pipeline, transaction)
    assert told(result) is not False
    assert only_order(exchange).filled == Decimal("0.5")


def test_a_duplicate_answer_is_not_bound_to_another_transactions_equal_order(clock, exchange, pipeline):
    first = finish(clock, pipeline, limit(pipeline))
    exchange.script.append("duplicate")
    second = limit(pipeline)
    result = finish(clock, pipeline, second)
    assert told(result) is False
    assert (result.verdict, result.order_id) == (Verdict.REJECTED, None)
    assert (first.verdict, len(exchange.orders), exchange.sends()) == (Verdict.COMPLETED, 1, 2)


def test_an_order_whose_amount_the_venue_rounded_is_never_absent_and_never_ours(clock, exchange, pipeline, alerts):
    def rounded(order):
        exchange._accept(dataclasses.replace(order, amount=Decimal("0.4")), "fill")
        raise ResponseLostError("lost")

    exchange.script.append(rounded)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    pass_time(clock, 400.0)
    assert told(transaction.result()) in UNKNOWN
    assert transaction.result().candidates == tuple(exchange.orders)


def test_a_lead_with_our_client_id_and_another_amount_is_no_negative(clock, exchange, make):
    """The same, seen through its fill while the listing does not show the order."""
    pipeline = make(late_arrival_bound=0.0)

    def rounded(order):
        state = exchange._accept(dataclasses.replace(order, amount=Decimal("0.4")), "fill")
        exchange.hidden.add(state.order_id)
        raise ResponseLostError("lost")

    exchange.script.append(rounded)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    pass_time(clock, 100.0)
    assert transaction.state is not State.FAILED


def test_a_fill_without_its_orders_id_is_no_negative(clock, exchange, make):
    """A3 asks that the fills show no execution that could be ours."""
    pipeline = make(late_arrival_bound=0.0)
    fills = exchange.list_fills_since

    def anonymous(since):
        listing = fills(since)
        return dataclasses.replace(
            listing, fills=tuple(dataclasses.replace(fill, order_id=None) for fill in listing.fills)
        )

    def hidden(order):
        exchange.hidden.add(exchange._accept(order, "fill").order_id)
        raise ResponseLostError("lost")

    exchange.list_fills_since = anonymous
    exchange.script.append(hidden)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    pass_time(clock, 100.0)
    assert transaction.state is not State.FAILED


def test_a_fill_of_an_order_that_the_venue_shows_nowhere_is_told_to_a_person(clock, exchange, make, alerts):
    pipeline = make(late_arrival_bound=0.0)

    def forgotten(order):
        exchange.hidden.add(exchange._accept(order, "fill").order_id)
        raise ResponseLostError("lost")

    exchange.find_by_id = lambda order_id: Absent("status by id")
    exchange.script.append(forgotten)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    pass_time(clock, 100.0)
    assert (transaction.state, transaction.record.needs_human) == (State.UNKNOWN, True)
    assert transaction.record.candidates == tuple(exchange.orders)
    assert sum("needs a person" in alert["title"] for alert in alerts) == 1


def test_a_likeness_that_appears_after_absence_is_told_to_a_person(clock, exchange, make, alerts):
    """Closed rows show no client id, and the order arrived after every bound (case 5 on such a venue)."""
    pipeline = make(late_arrival_bound=0.0)
    exchange.null_client_ids = True
    kept = []

    def late(order):
        kept.append(order)
        raise TimeoutError("a proxy held it")

    exchange.script.append(late)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    clock.advance_until(lambda: transaction.state is State.FAILED, limit=600.0)
    alerts.clear()
    arrived = exchange._accept(kept[0], "fill")
    pass_time(clock, 8000.0)
    assert any(arrived.order_id in alert["message"] for alert in alerts)


def test_a_resting_order_is_followed_whatever_the_venue_calls_live(clock, exchange, pipeline):
    def open_(order):
        state = dataclasses.replace(exchange._accept(order, "rest"), raw_status="OPEN")
        exchange.orders[state.order_id] = state
        return state

    exchange.script.append(open_)
    transaction = limit(pipeline)
    order_id = finish(clock, pipeline, transaction).order_id
    exchange.change(order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
    clock.advance_until(lambda: transaction.record.filled == Decimal("0.5"), limit=60.0)


def test_an_order_that_stays_new_is_unknown_and_looked_at_for_ever(clock, exchange, pipeline):
    exchange.script.append("new")
    transaction = limit(pipeline)
    assert told(finish(clock, pipeline, transaction)) in UNKNOWN
    pass_time(clock, 7200.0)
    assert transaction.state is State.UNKNOWN
    assert pipeline.unresolved() == [transaction]
    exchange.change(only_order(exchange).order_id, status=OrderStatus.REJECTED)
    clock.advance_until(lambda: transaction.state.is_terminal, limit=600.0)
    assert told(transaction.result()) is False


def test_done_with_less_than_the_amount_decides_nothing(clock, exchange, pipeline):
    def half_done(order):
        state = exchange._accept(order, "fill")
        exchange.change(state.order_id, filled=Decimal("0.1"))
        return exchange.orders[state.order_id]

    exchange.script.append(half_done)
    transaction = market(pipeline)
    assert told(finish(clock, pipeline, transaction)) in UNKNOWN
    exchange.change(only_order(exchange).order_id, filled=Decimal("0.5"))
    clock.advance_until(lambda: transaction.state.is_terminal, limit=60.0)
    assert told(transaction.result()) is True


def test_two_equal_lost_orders_with_null_client_ids_are_never_bound(clock, exchange, make):
    pipeline = make(duplicate_guard=False)  # else the second may be denied as the first one's equal
    exchange.null_client_ids = True
    exchange.script.extend(["fill_answer_lost", "fill_answer_lost"])
    transactions = [market(pipeline), market(pipeline)]
    together(2, lambda i: pipeline.submit(transactions[i]))
    clock.advance_until(lambda: all(t._answered for t in transactions), limit=100.0)
    pass_time(clock, 300.0)
    for transaction in transactions:
        assert told(transaction.result()) in UNKNOWN
        # A listing between the two sends makes the first order older than the second's baseline.
        candidates = set(transaction.result().candidates)
        assert candidates and candidates <= set(exchange.orders)
    assert exchange.sends() == 2


def test_an_equal_order_of_a_person_is_a_candidate_and_never_bound(clock, exchange, pipeline):
    exchange.null_client_ids = True
    exchange.script.append("request_lost")
    transaction = market(pipeline)
    pipeline.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.RESOLVING)
    byhand = exchange._accept(dataclasses.replace(transaction.record.order, client_order_id=None), "fill")
    pass_time(clock, 300.0)
    assert told(transaction.result()) in UNKNOWN
    assert transaction.result().candidates == (byhand.order_id,)
    assert transaction.result().order_id is None


def test_two_orders_with_our_client_id_are_shouted_about_and_none_is_chosen(clock, exchange, pipeline, alerts):
    def twice(order):
        exchange._accept(order, "fill")
        exchange._accept(order, "fill")
        raise ResponseLostError("lost")

    exchange.script.append(twice)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    assert told(transaction.result()) in UNKNOWN
    assert any("several" in alert["message"] and alert["level"] == "critical" for alert in alerts)


def test_a_cancel_of_an_order_that_the_venue_forgets_stays_unknown(clock, exchange, pipeline):
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    exchange.orders.clear()
    cancelled = cancel(clock, exchange, pipeline, transaction)
    assert told(cancelled) in UNKNOWN


def test_a_cancel_whose_answer_is_lost_while_the_order_fills_says_so(clock, exchange, pipeline):
    transaction = limit(pipeline)
    order_id = finish(clock, pipeline, transaction).order_id

    def withdraw(order_id):
        exchange.change(order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
        raise ResponseLostError("lost")

    exchange.withdraw = withdraw
    cancelled = cancel(clock, exchange, pipeline, transaction)
    result = cancelled
    assert (result.verdict, told(result), transaction.record.filled) == (Verdict.COMPLETED, False, Decimal("0.5"))
    assert transaction.record.order_id == order_id


def test_a_cancel_that_closes_a_partly_filled_order_conserves_its_fills(clock, exchange, pipeline):
    transaction = limit(pipeline)
    exchange.change(finish(clock, pipeline, transaction).order_id, filled=Decimal("0.2"))
    result = pipeline.cancel(transaction.id)
    assert (result.verdict, result.filled, told(result)) == (Verdict.PARTIAL, Decimal("0.2"), True)
    assert transaction.record.filled == Decimal("0.2")


def test_sixteen_cancels_at_once_agree(clock, exchange, pipeline):
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    results = together(16, lambda _: pipeline.cancel(transaction.id))
    assert {result.verdict for result in results} == {Verdict.CANCELLED}
    assert pipeline.unresolved() == []


# -- the disk -----------------------------------------------------------------------------------------------------


def disk_fails(pipeline, error=None):
    """The next commit fails, as it does when fdatasync returns EIO."""

    def fail(_db):
        raise error or sqlite3.OperationalError("disk I/O error")

    pipeline._journal._file.submit(fail)


def test_a_disk_that_fails_at_the_intent_sends_nothing(clock, exchange, pipeline):
    transaction = market(pipeline)
    prepare = exchange.prepare

    def prepare_and_fail(order):
        disk_fails(pipeline)
        return prepare(order)

    exchange.prepare = prepare_and_fail
    result = finish(clock, pipeline, transaction)
    assert (told(result), result.verdict, result.durable) == (False, Verdict.NOT_SENT, False)
    assert exchange.sends() == 0
    with pytest.raises(JournalPoisonedError):
        pipeline.execute(market(pipeline))
    assert exchange.sends() == 0


def test_a_disk_that_fails_at_the_verdict_is_told_and_a_restart_finds_the_same(clock, exchange, make, alerts):
    first = make()

    def fill(order):
        disk_fails(first)
        return exchange._accept(order, "fill")

    exchange.script.append(fill)
    transaction = market(first, idempotency_key="k")
    result = finish(clock, first, transaction)
    assert (told(result), result.durable) == (True, False)
    clock.advance_until(lambda: any("Journal cannot be written" in alert["title"] for alert in alerts))
    first.stop()
    second = make()
    again = market(second, idempotency_key="k")
    assert again.id == transaction.id
    clock.advance_until(lambda: again.state.is_terminal, limit=100.0)
    assert told(second.execute(again)) is True
    assert exchange.sends() == 1


def test_a_full_disk_at_the_intent_sends_nothing(clock, exchange, make):
    pipeline = make()
    transaction = market(pipeline, idempotency_key="x" * 200)

    def fill_up(db):
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={pages}")

    pipeline._journal._file.write(fill_up)
    results = [finish(clock, pipeline, transaction)]
    with pytest.raises(JournalPoisonedError):
        for n in range(200):
            results.append(finish(clock, pipeline, market(pipeline, idempotency_key=f"{n:0200d}")))
    assert exchange.sends() == len(exchange.orders)
    for result in results:
        if result.verdict is Verdict.NOT_SENT:
            assert result.order_id is None
        else:
            assert told(result) is True


def test_a_text_that_cannot_be_stored_does_not_wedge_a_transaction(clock, exchange, pipeline):
    def lost(order):
        exchange._accept(order, "fill")
        raise ResponseLostError("the proxy said \ud800")

    exchange.script.append(lost)
    transaction = market(pipeline)
    result = finish(clock, pipeline, transaction)
    assert told(result) is True


def test_a_journal_closed_under_a_running_transaction_leaves_it_to_the_next_start(clock, exchange, make):
    first = make()

    def close(order):
        state = exchange._accept(order, "fill")
        first._journal.close()
        return state

    exchange.script.append(close)
    transaction = market(first, idempotency_key="k")
    assert told(finish(clock, first, transaction)) in UNKNOWN
    first.stop()
    second = make()
    again = market(second, idempotency_key="k")
    clock.advance_until(lambda: again.state.is_terminal, limit=100.0)
    assert (again.id, told(again.result()), exchange.sends()) == (transaction.id, True, 1)


# -- stop, start and signals --------------------------------------------------------------------------------------


def test_a_stop_that_was_interrupted_can_be_repeated(pipeline, monkeypatch):
    """A second Ctrl-C during stop(); the interpreter's exit calls stop() once more."""
    pipeline.start()
    join_all = transaction_verification.join_all

    def interrupted(*args, **kwargs):
        monkeypatch.setattr(transaction_verification, "join_all", join_all)
        raise KeyboardInterrupt

    monkeypatch.setattr(transaction_verification, "join_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.stop()
    monkeypatch.setattr(testing, "HANG_CAP", 0.1)
    pipeline.stop()
    assert pipeline._journal._file is None


def test_a_stop_between_a_transactions_entry_and_its_threads_start_works(clock, exchange, pipeline):
    transaction = market(pipeline)
    add = pipeline._ledger.add

    def add_and_stop(added):
        add(added)
        Background(pipeline.stop).result()

    pipeline._ledger.add = add_and_stop
    result = pipeline.execute(transaction)
    assert (result.verdict, exchange.sends()) == (Verdict.NOT_SENT, 0)
    pipeline.stop()


def test_an_interrupt_right_after_a_transaction_was_begun_leaves_no_one_waiting(clock, exchange, pipeline):
    transaction = market(pipeline, idempotency_key="k")
    begin = transaction.begin

    def interrupted(*args):
        begin(*args)
        raise KeyboardInterrupt  # the signal handler runs before the caller's next instruction

    transaction.begin = interrupted
    with pytest.raises(KeyboardInterrupt):
        pipeline.execute(transaction)
    transaction.begin = begin
    again = market(pipeline, idempotency_key="k")
    result = finish(clock, pipeline, again)
    assert result.verdict in (Verdict.NOT_SENT, Verdict.COMPLETED)
    assert exchange.sends() <= 1


def test_an_interrupt_before_the_thread_starts_leaks_no_place(clock, exchange, make, monkeypatch):
    monkeypatch.setattr(_admission, "ADMISSION_WAIT", 0.0)
    pipeline = make(max_running=1)
    transaction = market(pipeline)
    add = pipeline._ledger.add

    def interrupted(added):
        add(added)
        raise KeyboardInterrupt

    pipeline._ledger.add = interrupted
    with pytest.raises(KeyboardInterrupt):
        pipeline.execute(transaction)
    pipeline._ledger.add = add
    assert transaction.result().verdict is Verdict.NOT_SENT
    assert told(finish(clock, pipeline, market(pipeline))) is True
    pipeline.stop()
    assert exchange.sends() == 1


def test_a_stop_during_prepare_sends_nothing(clock, exchange, pipeline):
    prepare = exchange.prepare

    def stop(order):
        pipeline.stop()
        return prepare(order)

    exchange.prepare = stop
    result = finish(clock, pipeline, market(pipeline))
    assert (told(result), result.verdict, exchange.sends()) == (False, Verdict.NOT_SENT, 0)


def test_a_stop_right_after_the_barrier_sends_nothing(clock, exchange, make):
    first = make()
    write = first._journal.write

    def write_and_stop(record, *, cause, barrier):
        write(record, cause=cause, barrier=barrier)
        if record.state is State.SUBMITTING:
            first.stop()

    first._journal.write = write_and_stop
    transaction = market(first)
    result = finish(clock, first, transaction)
    assert exchange.sends() == 0
    assert told(result) in (False, *UNKNOWN)
    second = make()
    (found,) = second.transactions()
    clock.advance_until(lambda: not second.unresolved(), limit=600.0)
    assert (found.id, told(found.result()), exchange.sends()) == (transaction.id, OutcomeUnknownError, 0)


@pytest.mark.parametrize("where", ["send", "verify"])
def test_a_stop_after_the_first_byte_leaves_the_order_to_the_next_start(clock, exchange, make, where):
    first = make()
    find = exchange.find_by_id

    def stop(order):
        state = exchange._accept(order, "fill")
        if where == "send":
            first.stop()
        return state

    def stop_and_find(order_id):
        exchange.find_by_id = find
        first.stop()
        return find(order_id)

    if where == "verify":
        exchange.find_by_id = stop_and_find
    exchange.script.append(stop)
    transaction = market(first, idempotency_key="k")
    assert told(finish(clock, first, transaction)) in (True, *UNKNOWN)
    second = make()
    again = market(second, idempotency_key="k")
    clock.advance_until(lambda: again.state.is_terminal, limit=100.0)
    assert (again.id, told(again.result()), exchange.sends()) == (transaction.id, True, 1)


def test_an_alert_sink_may_ask_the_pipeline_while_it_starts(clock, exchange, make, monkeypatch):
    first = make()
    exchange.script.append("request_lost")
    transaction = market(first)
    first.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.RESOLVING)
    first.stop()
    asked = []

    class Nosy:
        def send_alert(self, **alert):
            with monkeypatch.context() as patience:
                patience.setattr(testing, "HANG_CAP", 0.1)  # a wait that nobody ends is a hang
                asked.append(second.get(transaction.id))

    second = make(alert_system=Nosy())
    assert second.start().undecided == (transaction.id,)
    assert asked


def test_an_event_handler_may_cancel_from_within_the_event(clock, exchange, make):
    cancelled = []

    class Bus:
        def publish(self, topic, data, *, message_id):
            if topic == "transaction.completed" and data["kind"] == "ORDER":
                cancelled.append(pipeline.cancel(data["transaction_id"]))

    pipeline = make(message_bus=Bus())
    transaction = limit(pipeline)
    assert told(finish(clock, pipeline, transaction)) is True
    clock.advance_until(lambda: bool(cancelled))
    clock.advance_until(lambda: transaction.record.order_status == "Canceled", limit=60.0)
    assert cancelled[0].verdict is Verdict.CANCELLED


def test_an_event_handler_may_stop_the_pipeline(clock, exchange, make):
    class Bus:
        def publish(self, topic, data, *, message_id):
            pipeline.stop()

    pipeline = make(message_bus=Bus())
    assert told(finish(clock, pipeline, market(pipeline))) is True


def test_sinks_that_raise_change_no_verdict(clock, exchange, make):
    class Broken:
        def publish(self, topic, data, *, message_id):
            raise RuntimeError("no bus")

        def send_alert(self, **alert):
            raise RuntimeError("no alerts")

    pipeline = make(message_bus=Broken(), alert_system=Broken())
    exchange.script.extend(["fill_answer_lost", "partial", "reject", "fill"])
    results = [finish(clock, pipeline, market(pipeline)) for _ in range(4)]
    assert [told(result) for result in results] == [True, PartialFillError, False, True]


# -- threads and keys ---------------------------------------------------------------------------------------------


def test_sixteen_threads_with_one_key_send_one_order(clock, exchange, pipeline):
    pipeline.start()
    results = together(16, lambda _: pipeline.execute(market(pipeline, idempotency_key="k")))
    assert {told(result) for result in results} == {True}
    assert len({result.transaction_id for result in results}) == 1
    assert exchange.sends() == 1


def test_sixteen_threads_with_one_key_and_different_orders_send_one_and_refuse_fifteen(clock, exchange, pipeline):
    pipeline.start()

    def execute(i):
        try:
            return pipeline.execute(market(pipeline, idempotency_key="k", amount=f"1.{i + 10}"))
        except IdempotencyConflictError:
            return None

    results = together(16, execute)
    assert len([result for result in results if result is not None]) == 1
    assert exchange.sends() == 1


def test_a_key_looked_up_before_its_first_use_and_used_after_it_ended_is_the_same_transaction(
    clock, exchange, pipeline
):
    """Thread B reads "no such key"; thread A does everything and is forgotten; then B goes on."""
    pipeline.start()
    find_key, first = pipeline._journal.find_key, []

    def stale(key):
        pipeline._journal.find_key = find_key
        stored = find_key(key)
        first.append(finish(clock, pipeline, market(pipeline, idempotency_key="k")))
        gc.collect()
        return stored

    pipeline._journal.find_key = stale
    second = finish(clock, pipeline, market(pipeline, idempotency_key="k"))
    assert exchange.sends() == 1
    assert (second.transaction_id, told(second)) == (first[0].transaction_id, True)


def test_a_key_looked_up_while_its_order_is_on_its_way_is_not_the_stale_row(clock, exchange, pipeline):
    """Thread B reads a row in SUBMITTING; thread A completes it and is forgotten; then B makes a transaction of it."""
    pipeline.start()
    find_key, rows, first = pipeline._journal.find_key, [], []

    def read_row(order):
        rows.append(find_key("k"))
        return exchange._accept(order, "fill")

    def stale(key):
        pipeline._journal.find_key = find_key
        exchange.script.append(read_row)
        first.append(finish(clock, pipeline, market(pipeline, idempotency_key="k")))
        gc.collect()
        assert rows[0].state is State.SUBMITTING
        return rows[0]

    pipeline._journal.find_key = stale
    second = market(pipeline, idempotency_key="k")
    handle = pipeline.submit(second)
    assert second.state is State.COMPLETED, "nobody owns this transaction: it waits, is unknown, and stays so"
    assert (handle.result().transaction_id, told(handle.result())) == (first[0].transaction_id, True)
    assert exchange.sends() == 1


def test_a_key_conflicts_after_a_restart_too(clock, exchange, make):
    first = make()
    assert told(finish(clock, first, market(first, idempotency_key="k"))) is True
    first.stop()
    second = make()
    with pytest.raises(IdempotencyConflictError):
        market(second, idempotency_key="k", amount="0.6")
    assert told(second.execute(market(second, idempotency_key="k"))) is True
    assert exchange.sends() == 1


def test_one_transaction_executed_by_sixteen_threads_is_sent_once(clock, exchange, pipeline):
    transaction = market(pipeline)
    results = together(16, lambda _: pipeline.execute(transaction))
    assert {told(result) for result in results} == {True}
    assert exchange.sends() == 1


def test_sixty_four_threads_share_a_few_places_and_nothing_is_lost(clock, exchange, make):
    pipeline = make(max_running=4)
    pipeline.start()
    results = together(64, lambda _: pipeline.execute(market(pipeline)))
    sent = [result for result in results if told(result) is True]
    assert len({result.order_id for result in sent}) == len(sent) == exchange.sends()
    assert {result.verdict for result in results} <= {Verdict.COMPLETED, Verdict.NOT_SENT}
    assert pipeline._admission.threads == {}


def test_nothing_is_kept_of_transactions_that_are_over(clock, exchange, pipeline):
    exchange.script.extend(["fill", "reject", "partial", "not_sent"] * 4)
    for _ in range(20):
        finish(clock, pipeline, market(pipeline, idempotency_key=None))
    resting = limit(pipeline)
    finish(clock, pipeline, resting)
    pipeline.cancel(resting.id)
    clock.advance_until(lambda: not pipeline._resolver._cases, limit=60.0)
    assert pipeline._ledger.live() == []
    assert (pipeline._admission.threads, pipeline._resolver._watching._watches) == ({}, {})
    assert len(pipeline._keys._known) == 0
    assert [t.name for t in threading.enumerate() if t.name.startswith("hireliab.txn")] == []


def test_no_lock_is_held_while_the_outside_is_called(clock, exchange, make):
    """Adapter, bus and alerts are called with every lock of the pipeline free for another thread."""
    held = []

    def look():
        def probe():
            for name, lock in locks():
                if not lock.acquire(timeout=2.0):
                    held.append(name)
                else:
                    lock.release()

        Background(probe).result()

    class Sink:
        def publish(self, topic, data, *, message_id):
            look()

        def send_alert(self, **alert):
            look()

    pipeline = make(message_bus=Sink(), alert_system=Sink())
    transaction = market(pipeline)

    def locks():
        yield "pipeline", pipeline._changed
        yield "ledger", pipeline._ledger._lock
        yield "gate", pipeline._gate._changed
        yield "resolver", pipeline._resolver._lock
        yield "transaction", transaction._changed
        yield "journal", pipeline._journal._lock

    for name in ("prepare", "find_by_id", "find_by_client_id", "list_orders_since", "list_fills_since"):

        def wrap(real):
            def wrapped(argument):
                look()
                return real(argument)

            return wrapped

        setattr(exchange, name, wrap(getattr(exchange, name)))

    def lost(order):
        look()
        exchange._accept(order, "fill")
        raise ResponseLostError("lost")

    exchange.script.append(lost)
    assert told(finish(clock, pipeline, transaction)) is True
    assert held == []


# -- values -------------------------------------------------------------------------------------------------------


def test_results_and_their_errors_pickle_and_copy(clock, exchange, make):
    pipeline = make(late_arrival_bound=0.0)
    exchange.script.extend(["fill", "partial", "reject", "request_lost"])
    results = [finish(clock, pipeline, market(pipeline)) for _ in range(4)]
    for result in results:
        assert copy.deepcopy(result).transaction_id == result.transaction_id
        again = pickle.loads(pickle.dumps(result))
        assert (again.verdict, again.filled, told(again)) == (result.verdict, result.filled, told(result))
    for result in (results[1], results[3]):
        with pytest.raises((PartialFillError, OutcomeUnknownError)) as caught:
            bool(result)
        error = pickle.loads(pickle.dumps(caught.value))
        assert (type(error), str(error)) == (type(caught.value), str(caught.value))


@pytest.mark.parametrize(
    "bad",
    [
        {"amount": "1" * 29},
        {"amount": Decimal("0E-10")},
        {"amount": Decimal("NaN")},
        {"amount": Decimal("sNaN")},
        {"amount": "۰٫۱"},
        {"amount": b"1"},
        {"price": "1." + "3" * 30},
        {"price": "-0"},
        {"symbol": "BTC/USDT'; DROP TABLE txn; --" + "x" * 40},
        {"symbol": "بیت/تتر"},
        {"symbol": ""},
        {"symbol": 7},
    ],
)
def test_hostile_values_are_refused_by_name_and_write_nothing(exchange, pipeline, bad):
    with pytest.raises(InvalidOrderError, match=f"^{next(iter(bad))}: "):
        limit(pipeline, **bad)
    assert pipeline.transactions() == []
    assert {name for name, _ in exchange.calls} <= {"list_orders_since"}  # the look that every start takes


def test_a_quoted_symbol_is_only_text(clock, exchange, pipeline):
    transaction = limit(pipeline, symbol="A'B/\"C;--")
    assert told(finish(clock, pipeline, transaction)) is True
    (stored,) = pipeline.transactions()
    assert stored.record.order.symbol == "A'B/\"C;--"


def test_a_float_sum_means_the_decimal_that_it_prints_as(pipeline):
    assert limit(pipeline, amount=0.1 + 0.2).record.order.amount == Decimal("0.30000000000000004")


def test_client_order_ids_are_all_different_also_when_the_clock_steps_back(clock, exchange, pipeline):
    ids = set()
    for n in range(2000):
        clock.step_wall(-60.0 if n % 7 == 0 else 1.0)
        ids.add(limit(pipeline).id)
    assert len(ids) == 2000


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_wall_clock_step_between_send_and_answer_changes_no_verdict(clock, exchange, pipeline, step):
    def stepping(order):
        clock.step_wall(step)
        exchange._accept(order, "fill")
        raise ResponseLostError("lost")

    exchange.script.append(stepping)
    assert told(finish(clock, pipeline, market(pipeline))) is True


def test_an_error_text_of_ten_megabytes_is_cut(clock, exchange, pipeline):
    def long(order):
        raise OrderRejectedError("x" * 10_000_000, code="Bad", http_status=200)

    exchange.script.append(long)
    transaction = market(pipeline)
    assert told(finish(clock, pipeline, transaction)) is False
    assert len(pipeline._journal.get(transaction.id).reason) <= 4000


def test_a_breach_of_contract_in_prepare_is_not_sent(clock, exchange, pipeline):
    def broken(order):
        raise ZeroDivisionError("a bug in the adapter")

    exchange.prepare = broken
    result = finish(clock, pipeline, market(pipeline))
    assert (told(result), result.verdict, exchange.sends()) == (False, Verdict.NOT_SENT, 0)


def test_a_failure_of_the_second_prepare_after_a_proven_non_send_is_never_a_second_send(clock, exchange, pipeline):
    exchange.script.append("not_sent")
    prepare, tries = exchange.prepare, []

    def once(order):
        tries.append(order)
        if len(tries) > 1:
            raise NotSentError("the breaker opened")
        return prepare(order)

    exchange.prepare = once
    result = finish(clock, pipeline, market(pipeline))
    assert (told(result), result.verdict, result.proof) == (False, Verdict.NOT_SENT, Proof.NOT_SENT)
    assert exchange.sends() == 1


def test_a_denied_transaction_pickles_its_reason():
    error = TransactionDeniedError("transaction T: no", reason="recovering", transaction_id="T")
    assert pickle.loads(pickle.dumps(error)).reason == "recovering"


# -- what is on disk ----------------------------------------------------------------------------------------------


def journalled(pipeline):
    """Every record that the pipeline writes, in order."""
    records = []
    write = pipeline._journal.write

    def note(record, *, cause, barrier):
        write(record, cause=cause, barrier=barrier)
        records.append(record)

    pipeline._journal.write = note
    return records


def restart_from(make, exchange, folder, records):
    """A pipeline on a journal that holds only these records, as after a crash."""
    journal = SQLiteJournal(folder)
    journal.open()
    journal.bind(exchange.account)
    for record in records:
        journal.write(record, cause="before the crash", barrier=True)
    journal.close()
    return make(journal=folder)


@pytest.mark.parametrize("word", ["fill", "fill_answer_lost", "rest", "partial", "rejected_later", "new"])
def test_every_prefix_of_the_journal_leads_to_the_truth_without_another_send(clock, exchange, make, tmp_path, word):
    first = make(verification_timeout=3.0)
    records = journalled(first)
    exchange.script.append(word)
    transaction = limit(first)
    finish(clock, first, transaction)
    first.stop()
    if word == "new":
        exchange.change(only_order(exchange).order_id, status=OrderStatus.ACTIVE)
    truth = {"partial": PartialFillError, "rejected_later": False}.get(word, True)
    for cut in range(1, len(records) + 1):
        pipeline = restart_from(make, exchange, tmp_path / f"cut{cut}", records[:cut])
        pipeline.start()
        clock.advance_until(lambda: not pipeline.unresolved(), limit=300.0)  # noqa: B023 - called at once
        assert told(pipeline.get(transaction.id).result()) is truth, f"after {cut} of {len(records)} records"
        pipeline.stop()
    assert exchange.sends() == 1


def test_every_prefix_of_a_cancels_journal_closes_the_order(clock, exchange, make, tmp_path):
    first = make()
    records = journalled(first)
    transaction = limit(first)
    order_id = finish(clock, first, transaction).order_id
    before = len(records)
    first.cancel(transaction.id)
    first.stop()
    for cut in range(before + 1, len(records) + 1):
        exchange.change(order_id, status=OrderStatus.ACTIVE)  # killed before the cancel left
        pipeline = restart_from(make, exchange, tmp_path / f"cut{cut}", records[:cut])
        pipeline.start()
        clock.advance_until(lambda: not pipeline.unresolved(), limit=300.0)  # noqa: B023 - called at once
        child = next(t for t in pipeline.transactions() if t.record.kind == "CANCEL")
        if records[cut - 1].state is State.CANCELLING:
            assert exchange.orders[order_id].status is OrderStatus.CANCELED
        assert child.result().verdict is Verdict.CANCELLED
        pipeline.stop()
    assert exchange.sends() == 1


def test_the_intent_is_on_disk_before_the_first_byte(clock, exchange, pipeline):
    seen = []

    def look(order):
        with sqlite3.connect(f"file:{pipeline._journal.folder / 'journal.db'}?mode=ro", uri=True) as other:
            seen.append(other.execute("SELECT state, client_order_id, attempt FROM txn").fetchall())
        other.close()
        return exchange._accept(order, "fill")

    exchange.script.extend(["not_sent", look])
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    assert seen == [[("SUBMITTING", transaction.client_order_id, 2)]]


def test_the_runner_does_not_spin_while_the_resolver_writes(clock, exchange, pipeline):
    """The runner's time is over while the resolver waits for the disk with the verdict."""
    exchange.script.append("fill_answer_lost")
    transaction = market(pipeline)
    write, claim, tries, enough = pipeline._journal.write, transaction.claim, [], threading.Event()

    def counted(version, *more):
        tries.append(version)
        if len(tries) > 500:
            enough.set()
        return claim(version, *more)

    def slow(record, *, cause, barrier):
        if record.state is State.COMPLETED:
            clock.advance(60.0)  # the runner's wait ends
            enough.wait(0.03)
        write(record, cause=cause, barrier=barrier)

    transaction.claim = counted
    pipeline._journal.write = slow
    assert told(finish(clock, pipeline, transaction)) is True
    assert len(tries) < 500


def test_an_alert_about_the_journal_finds_the_transaction_free(clock, exchange, make):
    """A sink that waits for the transaction, from within the alert, must not wait for its own claim."""
    moving = []

    class Sink:
        def send_alert(self, **alert):
            if alert["title"] == "Journal cannot be written":
                moving.append(transaction._moving)

    pipeline = make(alert_system=Sink())

    def fill(order):
        disk_fails(pipeline)
        return exchange._accept(order, "fill")

    exchange.script.append(fill)
    transaction = market(pipeline)
    assert told(finish(clock, pipeline, transaction)) is True
    clock.advance_until(lambda: bool(moving))
    assert not any(moving)


def test_a_journal_of_another_account_that_shows_only_at_the_first_order_is_an_error(clock, exchange, make):
    first = make()
    finish(clock, first, market(first))
    first.stop()
    stranger = ScriptedExchange(clock=clock, account="somebody else")
    account = stranger.account
    answers = [NotSentError("the profile cannot be read yet")]

    class Late(ScriptedExchange):
        @property
        def account(self):
            if answers:
                raise answers.pop()
            return account

        @account.setter
        def account(self, value):
            pass

    late = Late(clock=clock)
    second = make(adapter=late)
    with pytest.raises(JournalError, match="somebody else"):
        second.execute_transaction(market(second))
    assert late.sends() == 0


def test_a_place_is_kept_for_cancels(clock, exchange, make, monkeypatch):
    monkeypatch.setattr(_admission, "ADMISSION_WAIT", 0.0)
    pipeline = make(max_running=1)
    resting = limit(pipeline)
    finish(clock, pipeline, resting)
    exchange.script.append("request_lost")
    stuck = market(pipeline)
    pipeline.submit(stuck)
    clock.advance_until(lambda: stuck.state is State.RESOLVING)
    assert pipeline.cancel(resting.id).verdict is Verdict.CANCELLED


@pytest.mark.parametrize("torn", [1, 512, 4096])
def test_a_torn_last_frame_loses_only_the_last_record(clock, exchange, pipeline, tmp_path, torn):
    """Case 17: power went while the second intent was written; its send had not been allowed yet."""
    first, second = market(pipeline), market(pipeline)
    finish(clock, pipeline, first)
    folder = tmp_path / "image"
    folder.mkdir()
    live = pipeline._journal.folder
    record = dataclasses.replace(second.record.move("T3", State.SUBMITTING), attempt=1)
    pipeline._journal.write(record, cause="T3", barrier=True)
    shutil.copy(live / "journal.db", folder)
    wal = (live / "journal.db-wal").read_bytes()
    (folder / "journal.db-wal").write_bytes(wal[:-torn])
    journal = SQLiteJournal(folder)
    journal.open()
    assert journal.get(second.id) is None
    assert journal.get(first.id) == pipeline._journal.get(first.id)
    assert journal.get(first.id).state is State.COMPLETED
    journal.close()


def test_a_foreign_order_with_our_client_id_is_left_alone(clock, exchange, pipeline):
    """Case 24: an id collision; the venue refuses ours, and the other's order is neither bound nor touched."""
    foreign = []

    def collide(order):
        foreign.append(exchange._accept(dataclasses.replace(order, amount=Decimal(7)), "rest"))
        raise DuplicateOrderError("duplicate", code="DuplicateClientOrderId")

    exchange.script.append(collide)
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    pass_time(clock, 200.0)
    assert told(transaction.result()) in (False, *UNKNOWN)
    assert transaction.result().order_id is None
    assert exchange.orders[foreign[0].order_id] == foreign[0]
    assert not any(name in ("prepare_cancel", "cancel") for name, _ in exchange.calls)


def test_a_recovered_order_that_is_found_live_holds_nobody_back(clock, exchange, make):
    """It waits to be filled, perhaps for days; what became of its send is known."""
    first = make()
    transaction = limit(first, commit="filled")
    first.submit(transaction)
    clock.advance_until(lambda: transaction.record.order_status == "Active")
    first.stop()
    second = make()
    second.start()
    clock.advance_until(lambda: bool(second.get(transaction.id).record.order_id))
    assert told(finish(clock, second, market(second))) is True
