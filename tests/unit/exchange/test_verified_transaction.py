"""@verified_transaction: a bot's own place_order with the journal around it, in fake time."""

import dataclasses
import functools
import json
import threading
from concurrent.futures import Future
from decimal import Decimal
from typing import NamedTuple

import pytest

from hireliab.errors import (
    BulkheadFullError,
    ConfigError,
    ConnectError,
    DuplicateOrderError,
    IdempotencyConflictError,
    InvalidOrderError,
    JournalPoisonedError,
    NotSentError,
    OrderRejectedError,
    OutcomeUnknownError,
    TransactionDeniedError,
)
from hireliab.exchange._verified_values import to_text
from hireliab.exchange.adapter import Order, OrderState, OrderStatus
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Proof, Record, State, Verdict
from hireliab.exchange.verified_transaction import never_connected, verified_transaction
from tests.support.together import together

NAME = "bot.place_order"


class ApiError(Exception):
    """What some SDK raises for everything."""


class FundsError(ApiError):
    """What it raises when the wallet is empty."""


class Venue:
    """An exchange as an SDK shows it; `script` holds what the next orders lead to."""

    def __init__(self):
        self.orders = {}
        self.placed = []
        self.looks = []
        self.script = []
        self.blind = None
        self.hidden = False

    def place_order(self, symbol, side, amount, price=None, *, order_type="limit", client_order_id=None):
        word = self.script.pop(0) if self.script else ""
        if isinstance(word, BaseException) and not hasattr(word, "placed"):
            raise word
        self.placed.append(client_order_id)
        order = {
            "id": f"v{len(self.placed)}",
            "clientOrderId": client_order_id,
            "status": "open",
            "filled": "0",
            "amount": str(amount),
        }
        self.orders[client_order_id] = order
        if isinstance(word, BaseException):
            raise word
        return order

    def find(self, client_order_id):
        self.looks.append(client_order_id)
        if self.blind is not None:
            raise self.blind
        return None if self.hidden else self.orders.get(client_order_id)


def lost(error=None):
    """The order arrives, the answer does not come back."""
    error = error or ApiError("timed out")
    error.placed = True
    return error


@pytest.fixture
def venue():
    return Venue()


@pytest.fixture
def wrap(pipeline, venue):
    def wrap(func=venue.place_order, to=pipeline, **settings):
        return verified_transaction(to, **{"name": NAME, "find": venue.find, **settings})(func)

    return wrap


def start(func, *args, **kwargs):
    """Call in a thread of its own."""
    future = Future()

    def work():
        try:
            future.set_result(func(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="bot", daemon=True).start()
    return future


THREADS = ("bot", "hireliab.resolver.")


@pytest.fixture
def run(clock):
    """Call in a thread of its own while fake time passes; returns its value or raises its error."""

    def run(func, *args, **kwargs):
        future = start(func, *args, **kwargs)
        clock.advance_until(future.done, threads=THREADS)
        return future.result()

    return run


@pytest.fixture
def decide(clock):
    """Let time pass until a transaction is decided; returns its result."""

    def decide(pipeline, txn_id, limit=3600.0):
        clock.advance_until(lambda: pipeline.get(txn_id).state.is_terminal, limit=limit)
        return pipeline.get(txn_id).result()

    return decide


@pytest.fixture
def left(clock, exchange, tmp_path):
    """Write a call as a dead process left it."""

    def left(txn_id="T1", name=NAME, arguments=None, **changes):
        order = Order(
            symbol="BTC/USDT", side="buy", type="limit", amount=Decimal(1), price=None, client_order_id=f"x-{txn_id}"
        )
        record = Record(
            **{
                "txn_id": txn_id,
                "kind": "CALL",
                "order": order,
                "state": State.SUBMITTING,
                "version": 1,
                "attempt": 1,
                "sent_wall": clock.time(),
                "created": clock.time(),
                "updated": clock.time(),
                "on_partial": "accept",
                **changes,
            }
        )
        journal = SQLiteJournal(tmp_path / "journal")
        journal.open()
        journal.bind(exchange.account)
        if name is not None:
            known = {"symbol": "BTC/USDT", "client_order_id": order.client_order_id, **(arguments or {})}
            journal.note_fact(f"call {txn_id}", to_text(name, known))
        journal.write(record, cause="left by a dead process", barrier=True)
        journal.close()
        return record

    return left


def only(pipeline):
    (transaction,) = pipeline.transactions()
    return transaction


def children(pipeline):
    return [transaction for transaction in pipeline.transactions() if transaction.record.parent_id is not None]


def verdicts(pipeline):
    """By the amount that was asked for."""
    return {int(t.record.order.amount): t.result().verdict for t in pipeline.transactions()}


# -- what a call is ------------------------------------------------------------------------------------------------


def test_a_call_that_returns_and_is_found_is_completed_and_returns_what_the_function_returned(wrap, venue, pipeline):
    place = wrap()
    assert place("BTC/USDT", "buy", 0.5, price="100.5") is venue.orders[venue.placed[0]]
    record = only(pipeline).record
    assert (record.kind, record.state, record.proof) == ("CALL", State.COMPLETED, Proof.LIVE)
    assert (record.order_id, record.order_status, record.candidates) == ("v1", "open", ())
    order = record.order
    assert (order.symbol, order.side, order.type) == ("BTC/USDT", "buy", "limit")
    assert (order.amount, order.price) == (Decimal("0.5"), Decimal("100.5"))


def test_the_client_order_id_is_the_pipelines_and_belongs_to_the_row(wrap, venue, pipeline):
    wrap()("BTC/USDT", "buy", 1)
    transaction = only(pipeline)
    assert venue.placed == [transaction.client_order_id] == venue.looks
    prefix, _, txn_id = venue.placed[0].rpartition("-")
    assert (len(prefix), txn_id) == (5, transaction.id)


def test_a_client_order_id_of_the_callers_own_is_kept_and_recorded(wrap, venue, pipeline):
    wrap()("BTC/USDT", "buy", 1, client_order_id="mine-7")
    assert venue.placed == ["mine-7"]
    assert only(pipeline).client_order_id == "mine-7"


@pytest.mark.parametrize(
    ("func", "given"),
    [
        (lambda symbol, clientOrderId=None: clientOrderId, {}),
        (lambda symbol, newClientOrderId=None: newClientOrderId, {}),
        (lambda symbol, tag=None: tag, {"client_order_id_arg": "tag"}),
        (lambda symbol, **params: params.get("cid"), {"client_order_id_arg": "cid"}),
    ],
)
def test_the_id_goes_where_the_signature_takes_it(pipeline, func, given):
    place = verified_transaction(pipeline, name="f", **given)(func)
    assert place("BTC/USDT") == only(pipeline).client_order_id != ""


@pytest.mark.parametrize(
    "func", [lambda symbol, client_id=None: client_id, lambda symbol, **params: params.get("client_order_id")]
)
def test_the_id_goes_nowhere_else(pipeline, func):
    assert verified_transaction(pipeline, name="f")(func)("BTC/USDT") is None
    assert only(pipeline).client_order_id == ""


def test_the_row_is_on_disk_before_the_function_is_called(pipeline, tmp_path):
    seen = []

    @verified_transaction(pipeline)
    def place_order(symbol):
        (record,) = pipeline._journal.unfinished()
        seen.append((record.state, record.kind, record.order.symbol))

    place_order("BTC/USDT")
    assert seen == [(State.SUBMITTING, "CALL", "BTC/USDT")]


def test_the_function_runs_in_the_callers_thread_and_keeps_its_name(wrap, pipeline):
    @verified_transaction(pipeline)
    def place_order(symbol):
        """Places."""
        return threading.current_thread()

    assert place_order("BTC/USDT") is threading.current_thread()
    assert (place_order.__name__, place_order.__doc__) == ("place_order", "Places.")
    assert callable(place_order.__wrapped__)


def test_a_method_is_decorated_like_a_function(pipeline):
    class Bot:
        def __init__(self):
            self.seen = []

        @verified_transaction(pipeline, find=lambda self, client_order_id: self.seen)
        def place(self, symbol, client_order_id=None):
            self.seen.append({"id": 7})
            return symbol

    assert Bot().place("BTC/USDT") == "BTC/USDT"
    assert only(pipeline).result().order_id == "7"


def test_a_call_inside_a_call_is_two_rows(pipeline):
    @verified_transaction(pipeline)
    def inner(symbol):
        return symbol

    @verified_transaction(pipeline)
    def outer(symbol):
        return inner(symbol) + "!"

    assert outer("BTC/USDT") == "BTC/USDT!"
    assert [t.result().verdict for t in pipeline.transactions()] == [Verdict.COMPLETED] * 2


def test_arguments_that_do_not_fit_are_the_functions_own_type_error_and_no_row(wrap, pipeline):
    with pytest.raises(TypeError, match="amount"):
        wrap()("BTC/USDT", "buy")
    assert pipeline.transactions() == []


def test_many_threads_call_at_once_and_each_call_is_one_row(wrap, venue, pipeline):
    place = wrap()
    values = together(16, lambda i: place("BTC/USDT", "buy", i + 1))
    assert len({value["id"] for value in values}) == len(set(venue.placed)) == 16
    assert {t.result().verdict for t in pipeline.transactions()} == {Verdict.COMPLETED}


# -- what it raises ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ConnectError("no connection"), BulkheadFullError("full")])
def test_an_error_that_says_not_sent_passes_untouched_and_the_row_says_so(wrap, venue, pipeline, error):
    venue.script.append(error)
    with pytest.raises(type(error)) as caught:
        wrap()("BTC/USDT", "buy", 1)
    assert caught.value is error
    assert only(pipeline).result().verdict is Verdict.NOT_SENT
    assert venue.looks == []


@pytest.mark.parametrize("refused", [FundsError, (KeyError, FundsError), lambda error: isinstance(error, FundsError)])
def test_a_refusal_that_was_named_passes_untouched_and_the_row_is_rejected(wrap, venue, pipeline, refused):
    error = FundsError("empty")
    venue.script.append(error)
    with pytest.raises(FundsError) as caught:
        wrap(refused=refused)("BTC/USDT", "buy", 1)
    assert caught.value is error
    assert (only(pipeline).result().verdict, only(pipeline).result().reason) == (Verdict.REJECTED, "FundsError: empty")


def test_hireliabs_own_refusals_need_no_naming_but_duplicate_is_no_refusal(wrap, venue, pipeline, run):
    venue.script.append(OrderRejectedError("too small"))
    with pytest.raises(OrderRejectedError):
        wrap()("BTC/USDT", "buy", 1)
    venue.script.append(lost(DuplicateOrderError("an equal order exists")))
    assert run(wrap(), "BTC/USDT", "buy", 2)["id"] == "v1"
    assert verdicts(pipeline) == {1: Verdict.REJECTED, 2: Verdict.COMPLETED}


def test_a_judge_that_fails_decides_nothing(wrap, venue, pipeline, run):
    def judge(error):
        raise KeyError("code")

    venue.script.append(lost())
    assert run(wrap(refused=judge, not_sent=judge), "BTC/USDT", "buy", 1)["id"] == "v1"


def test_a_lost_answer_is_looked_up_and_what_the_look_up_shows_is_returned(wrap, venue, pipeline, run):
    venue.script.append(lost())
    assert run(wrap(), "BTC/USDT", "buy", 1) == venue.find(venue.placed[0])
    result = only(pipeline).result()
    assert (result.verdict, result.order_id, len(venue.placed)) == (Verdict.COMPLETED, "v1", 1)


def test_a_look_up_that_fails_or_shows_nothing_yet_is_asked_again(wrap, venue, pipeline, run):
    calls = iter([ApiError("502"), None, [], {}, None])

    def find(client_order_id):
        word = next(calls, venue.orders.get(client_order_id))
        if isinstance(word, Exception):
            raise word
        return word

    venue.script.append(lost())
    assert run(wrap(find=find), "BTC/USDT", "buy", 1)["id"] == "v1"


@pytest.mark.parametrize("placed", [True, False])
def test_what_is_not_found_in_time_is_unknown_and_looked_for_in_the_background(
    wrap, venue, pipeline, run, decide, alerts, placed
):
    error = lost() if placed else ApiError("timed out")
    venue.script.append(error)
    venue.hidden = True
    with pytest.raises(OutcomeUnknownError, match="may be live") as caught:
        run(wrap(), "BTC/USDT", "buy", 1)
    assert caught.value.__cause__ is error
    transaction = pipeline.get(caught.value.transaction_id)
    assert (transaction.state, transaction.record.needs_human) == (State.UNKNOWN, False)
    assert caught.value.client_order_id == transaction.client_order_id
    assert [alert["level"] for alert in alerts] == ["error"]
    venue.hidden = False
    venue.orders[transaction.client_order_id] = {"id": "late", "status": "filled", "filled": "1"}
    result = decide(pipeline, transaction.id)
    assert (result.verdict, result.order_id, result.filled) == (Verdict.COMPLETED, "late", Decimal(1))


def test_a_returned_call_that_no_look_up_shows_is_unknown_and_names_its_order(wrap, venue, pipeline, run):
    venue.hidden = True
    with pytest.raises(OutcomeUnknownError, match="does not show") as caught:
        run(wrap(), "BTC/USDT", "buy", 1)
    assert caught.value.candidates == ("v1",)
    assert only(pipeline).state is State.UNKNOWN


def test_an_empty_look_up_proves_nothing_unless_it_sees_closed_orders(make, venue, run, clock, tmp_path):
    pipeline = make(verification_timeout=5.0)
    place = verified_transaction(pipeline, name=NAME, find=venue.find)(venue.place_order)
    venue.script.append(ApiError("timed out"))
    with pytest.raises(OutcomeUnknownError) as caught:
        run(place, "BTC/USDT", "buy", 1)
    looks = len(venue.looks)
    clock.advance_until(lambda: len(venue.looks) > looks + 30, limit=36000)
    assert pipeline.get(caught.value.transaction_id).state is State.UNKNOWN


def test_a_look_up_that_sees_closed_orders_ends_in_absent_after_the_bound_and_not_before(
    make, venue, run, decide, clock
):
    pipeline = make(verification_timeout=5.0, visibility_window=10.0)
    place = verified_transaction(pipeline, name=NAME, find=venue.find, finds_closed=True)(venue.place_order)
    venue.script.append(ApiError("timed out"))
    with pytest.raises(OutcomeUnknownError) as caught:
        run(place, "BTC/USDT", "buy", 1)
    began = clock.monotonic()
    result = decide(pipeline, caught.value.transaction_id)
    assert result.verdict is Verdict.ABSENT
    assert clock.monotonic() - began >= 70.0 + 10.0


def test_an_error_of_the_look_up_is_never_a_no_and_is_said_once(make, venue, run, clock, caplog):
    pipeline = make(verification_timeout=5.0)
    place = verified_transaction(pipeline, name=NAME, find=venue.find, finds_closed=True)(venue.place_order)
    venue.script.append(lost())
    venue.blind = ApiError("maintenance")
    with pytest.raises(OutcomeUnknownError) as caught:
        run(place, "BTC/USDT", "buy", 1)
    looks = len(venue.looks)
    clock.advance_until(lambda: len(venue.looks) > looks + 30, limit=36000)
    assert pipeline.get(caught.value.transaction_id).state is State.UNKNOWN
    assert [r.levelname for r in caplog.records if "its look-up failed" in r.getMessage()] == ["WARNING"]
    venue.blind, venue.hidden = None, True
    before = len(venue.looks)
    clock.advance_until(lambda: len(venue.looks) > before, limit=36000)
    venue.blind = ApiError("maintenance")
    clock.advance_until(lambda: len(venue.looks) > before + 4, limit=36000)
    assert len([r for r in caplog.records if "its look-up failed" in r.getMessage()]) == 2


def test_the_title_of_an_alert_has_no_blanks_for_what_a_call_does_not_show(make, run, alerts):
    def buy(quantity_of_mine, client_order_id=None):
        raise ApiError("no funds")

    place = verified_transaction(make(), name=NAME, refused=ApiError)(buy)
    with pytest.raises(ApiError):
        run(place, 1)
    assert [alert["title"] for alert in alerts] == ["call: rejected"]


def test_a_look_up_with_a_bug_is_told_to_the_caller_of_an_order_that_was_placed(make, venue, run):
    place = verified_transaction(make(verification_timeout=5.0), name=NAME, find=venue.find)(venue.place_order)
    venue.blind = NameError("name 'sesion' is not defined")
    with pytest.raises(OutcomeUnknownError, match="but its look-up failed: NameError: name 'sesion' is not defined"):
        run(place, "BTC/USDT", "buy", 1)
    venue.blind, venue.hidden = None, True
    with pytest.raises(OutcomeUnknownError, match="but its look-up does not show the order"):
        run(place, "BTC/USDT", "sell", 1)


def test_a_look_up_without_a_client_order_id_never_proves_absence(make, run, clock):
    pipeline = make(verification_timeout=5.0)
    looks = []

    @verified_transaction(pipeline, find=lambda symbol: looks.append(symbol) or None, finds_closed=True)
    def place_order(symbol):
        raise ApiError("timed out")

    with pytest.raises(OutcomeUnknownError) as caught:
        run(place_order, "BTC/USDT")
    before = len(looks)
    clock.advance_until(lambda: len(looks) > before + 30, limit=36000)
    assert pipeline.get(caught.value.transaction_id).state is State.UNKNOWN


def test_an_order_of_somebody_else_is_not_ours(wrap, venue, pipeline, run):
    venue.script.append(lost())
    with pytest.raises(OutcomeUnknownError):
        run(wrap(find=lambda client_order_id: {"id": "v9", "clientOrderId": "another"}), "BTC/USDT", "buy", 1)
    assert only(pipeline).state is State.UNKNOWN


def test_of_a_list_the_order_that_is_ours_is_returned(wrap, venue, run):
    venue.script.append(lost())
    ours = lambda client_order_id: [{"clientOrderId": "another"}, venue.orders[client_order_id], None]
    assert run(wrap(find=ours), "BTC/USDT", "buy", 1) is venue.orders[venue.placed[0]]


def test_two_orders_for_one_call_are_told_once_as_a_duplicate(wrap, venue, pipeline, alerts):
    def find(client_order_id):
        return [
            {"id": 1, "clientOrderId": client_order_id},
            {"id": 2, "clientOrderId": client_order_id},
            {"id": 3, "clientOrderId": "x"},
        ]

    wrap(find=find)("BTC/USDT", "buy", 1)
    (alert,) = [alert for alert in alerts if alert["level"] == "critical"]
    assert "one call, 2 orders" in alert["title"]
    assert "1, 2 for one call" in alert["message"]


# -- without a look-up ---------------------------------------------------------------------------------------------


def test_without_a_look_up_a_return_is_acknowledged_and_nothing_more(wrap, pipeline):
    assert wrap(find=None)("BTC/USDT", "buy", 1)["id"] == "v1"
    result = only(pipeline).result()
    assert (result.verdict, result.proof, result.order_id) == (Verdict.COMPLETED, Proof.ACKNOWLEDGED, "v1")


@pytest.mark.parametrize("value", [None, 0, "", object(), {"status": "Active", "id": True}, [1, 2]])
def test_odd_values_are_returned_as_they_are(pipeline, value):
    assert verified_transaction(pipeline)(lambda: value)() is value
    assert only(pipeline).result().verdict is Verdict.COMPLETED
    assert pipeline._journal.unfinished() == []


def test_without_a_look_up_a_lost_answer_is_unknown_at_once_and_needs_a_person(wrap, venue, pipeline, alerts, clock):
    venue.script.append(lost())
    began = clock.monotonic()
    with pytest.raises(OutcomeUnknownError, match="nobody looks for it") as caught:
        wrap(find=None)("BTC/USDT", "buy", 1)
    transaction = only(pipeline)
    assert clock.monotonic() == began
    assert isinstance(caught.value.__cause__, ApiError)
    assert (transaction.state, transaction.record.needs_human) == (State.UNKNOWN, True)
    assert [alert["level"] for alert in alerts] == ["error"]
    pipeline.resolve(transaction.id, "completed", evidence="order history", who="you")
    assert transaction.result().verdict is Verdict.COMPLETED


# -- interrupted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_interrupted_call_passes_as_it_is_and_is_found_in_the_background(wrap, venue, pipeline, decide, error):
    venue.script.append(lost(error))
    with pytest.raises(type(error)) as caught:
        wrap()("BTC/USDT", "buy", 1)
    assert caught.value is error
    result = decide(pipeline, only(pipeline).id)
    assert (result.verdict, result.order_id) == (Verdict.COMPLETED, "v1")


def test_an_interrupted_call_without_a_look_up_is_unknown(wrap, venue, pipeline):
    venue.script.append(lost(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        wrap(find=None)("BTC/USDT", "buy", 1)
    assert (only(pipeline).state, only(pipeline).record.needs_human) == (State.UNKNOWN, True)


def test_ctrl_c_while_looking_leaves_the_row_to_the_resolver(wrap, venue, pipeline, decide):
    def find(client_order_id):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return venue.orders[client_order_id]

    venue.script.append(lost())
    with pytest.raises(KeyboardInterrupt):
        wrap(find=find)("BTC/USDT", "buy", 1)
    assert decide(pipeline, only(pipeline).id).verdict is Verdict.COMPLETED


@pytest.mark.parametrize("state", [State.SUBMITTING, State.ACKED, State.COMPLETED])
def test_ctrl_c_while_the_disk_is_waited_for_loses_nothing(wrap, venue, pipeline, clock, decide, monkeypatch, state):
    """The record is written, but whoever waits for it is torn away and does not know."""
    pipeline.start()
    write = pipeline._journal.write
    struck = []

    def interrupted(record, *, cause, barrier):
        write(record, cause=cause, barrier=barrier)
        if record.state is state and not struck:
            struck.append(record.txn_id)
            raise KeyboardInterrupt

    monkeypatch.setattr(pipeline._journal, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        wrap()("BTC/USDT", "buy", 1)
    result = decide(pipeline, struck[0])
    expected = Verdict.NOT_SENT if state is State.SUBMITTING else Verdict.COMPLETED
    assert (result.verdict, len(venue.placed)) == (expected, int(state is not State.SUBMITTING))
    assert pipeline._journal.get(struck[0]).state.is_terminal


# -- what refuses a call -------------------------------------------------------------------------------------------


def test_a_halt_refuses_before_the_call(wrap, venue, pipeline):
    pipeline.halt("stop", who="me")
    with pytest.raises(TransactionDeniedError) as caught:
        wrap()("BTC/USDT", "buy", 1)
    assert (caught.value.reason, venue.placed) == ("halted", [])
    result = only(pipeline).result()
    assert (result.verdict, result.attempts) == (Verdict.DENIED, 0)


def test_a_halt_is_looked_at_once_more_after_the_barrier(wrap, venue, pipeline, monkeypatch):
    place = wrap(idempotency_key=lambda symbol: "k")
    pipeline.start()
    note = pipeline._journal.note_fact

    def note_and_halt(name, value):
        note(name, value)
        if value is not None:
            pipeline.halt("now", who="me")

    monkeypatch.setattr(pipeline._journal, "note_fact", note_and_halt)
    with pytest.raises(TransactionDeniedError):
        place("BTC/USDT", "buy", 1)
    assert (venue.placed, only(pipeline).result().verdict) == ([], Verdict.DENIED)
    pipeline.unhalt(who="me")
    monkeypatch.undo()
    assert place("BTC/USDT", "buy", 1)["id"] == "v1"  # the key is free


def test_reducing_lets_sells_pass_however_they_are_spelt(wrap, venue, pipeline):
    pipeline.halt("stop", who="me", mode="REDUCING")
    with pytest.raises(TransactionDeniedError):
        wrap()("BTC/USDT", "buy", 1)
    assert wrap()("BTC/USDT", "SELL", 1)["id"] == "v1"


def test_a_journal_that_cannot_keep_the_intent_means_no_call(wrap, venue, pipeline, monkeypatch):
    pipeline.start()

    def write(record, *, cause, barrier):
        raise JournalPoisonedError("disk")

    monkeypatch.setattr(pipeline._journal, "write", write)
    with pytest.raises(JournalPoisonedError):
        wrap()("BTC/USDT", "buy", 1)
    assert venue.placed == []


def test_a_stopped_pipeline_calls_nothing(wrap, venue, pipeline):
    place = wrap()
    pipeline.start()
    pipeline.stop()
    with pytest.raises(Exception, match="stopped"):
        place("BTC/USDT", "buy", 1)
    assert venue.placed == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_pipeline_that_stops_during_the_call_hides_nothing_from_the_caller(make, venue, run, fails):
    pipeline = make()

    @verified_transaction(pipeline, name=NAME, find=venue.find)
    def place_order(symbol, client_order_id=None):
        venue.place_order(symbol, "buy", 1, client_order_id=client_order_id)
        pipeline.stop()
        if fails:
            raise ApiError("timed out")
        return "mine"

    value = run(place_order, "BTC/USDT")
    assert value == (venue.orders[venue.placed[0]] if fails else "mine")
    again = make()
    verified_transaction(again, name=NAME, find=venue.find)(venue.place_order)
    report = again.start()
    assert len(report.undecided) == 1


def test_an_equal_call_waits_for_nothing_and_is_denied_while_the_first_is_unknown(wrap, venue, pipeline, run):
    venue.script.append(lost())
    venue.hidden = True
    place = wrap()
    with pytest.raises(OutcomeUnknownError):
        run(place, "BTC/USDT", "buy", 1)
    with pytest.raises(TransactionDeniedError) as caught:
        place("BTC/USDT", "buy", 1)
    assert caught.value.reason == "sibling"
    with pytest.raises(OutcomeUnknownError):
        run(place, "BTC/USDT", "buy", 2)  # another order is no sibling
    assert len(venue.placed) == 2


def test_the_duplicate_guard_can_be_switched_off(make, venue, run):
    pipeline = make(duplicate_guard=False)
    place = verified_transaction(pipeline, name=NAME)(venue.place_order)
    venue.script += [lost()]
    with pytest.raises(OutcomeUnknownError):
        place("BTC/USDT", "buy", 1)
    assert place("BTC/USDT", "buy", 1)["id"] == "v2"


# -- once for each key ---------------------------------------------------------------------------------------------


def keyed(wrap, **settings):
    return wrap(idempotency_key=lambda price: None if price is None else f"signal-{price}", **settings)


def test_a_key_calls_once_and_returns_the_same_value(wrap, venue, pipeline):
    place = keyed(wrap)
    first = place("BTC/USDT", "buy", 1, price=5)
    assert place("BTC/USDT", "buy", 1, price=5) == first
    assert place("BTC/USDT", "buy", 1, price=6) != first
    assert (len(venue.placed), len(pipeline.transactions())) == (2, 2)


def test_no_key_means_every_call_counts(wrap, venue):
    place = keyed(wrap)
    place("BTC/USDT", "buy", 1)
    place("BTC/USDT", "buy", 1)
    assert len(venue.placed) == 2


def test_a_key_with_other_arguments_is_a_conflict(wrap, venue):
    place = keyed(wrap)
    place("BTC/USDT", "buy", 1, price=5)
    with pytest.raises(IdempotencyConflictError):
        place("BTC/USDT", "sell", 1, price=5)
    assert len(venue.placed) == 1


def test_a_key_outlives_a_restart_and_the_look_up_gives_the_value(wrap, make, venue, pipeline):
    first = keyed(wrap)("BTC/USDT", "buy", 1, price=5)
    pipeline.stop()
    again = keyed(wrap, to=make())
    venue.looks.clear()
    assert again("BTC/USDT", "buy", 1, price=5) == first
    assert (len(venue.placed), venue.looks) == (1, venue.placed)


def test_a_key_whose_value_is_lost_says_executed(wrap, make, venue, pipeline):
    keyed(wrap, find=None)("BTC/USDT", "buy", 1, price=5)
    pipeline.stop()
    again = keyed(wrap, to=make(), find=None)
    with pytest.raises(TransactionDeniedError, match="placed the order already \\(v1\\)") as caught:
        again("BTC/USDT", "buy", 1, price=5)
    assert (caught.value.reason, len(venue.placed)) == ("executed", 1)


def test_a_key_is_free_after_not_sent_and_taken_after_a_refusal(wrap, venue):
    place = keyed(wrap, refused=FundsError)
    venue.script += [ConnectError("no"), FundsError("empty")]
    with pytest.raises(ConnectError):
        place("BTC/USDT", "buy", 1, price=5)
    with pytest.raises(FundsError):
        place("BTC/USDT", "buy", 1, price=5)
    with pytest.raises(OrderRejectedError, match="use a new key"):
        place("BTC/USDT", "buy", 1, price=5)
    assert venue.placed == []


def test_threads_with_one_key_call_once_and_get_one_value(wrap, venue):
    place = keyed(wrap)
    values = together(12, lambda _: place("BTC/USDT", "buy", 1, price=5))
    assert (len(venue.placed), {value["id"] for value in values}) == (1, {"v1"})


def test_a_key_of_an_unknown_outcome_is_unknown_again_and_calls_nothing(wrap, venue, pipeline, run, clock):
    venue.script.append(lost())
    venue.hidden = True
    place = keyed(wrap)
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError):
            run(place, "BTC/USDT", "buy", 1, price=5)
    assert len(venue.placed) == 1


def test_who_joins_a_call_is_answered_together_with_it(wrap, venue, clock):
    venue.script.append(lost())
    venue.hidden = True
    place = keyed(wrap)
    began = clock.monotonic()
    first = start(place, "BTC/USDT", "buy", 1, price=5)
    clock.advance_until(lambda: clock.monotonic() >= began + 15, threads=THREADS)
    second = start(place, "BTC/USDT", "buy", 1, price=5)
    clock.advance_until(lambda: first.done() and second.done(), threads=THREADS)
    assert isinstance(second.exception(), OutcomeUnknownError)
    assert clock.monotonic() - began < 31.0


@pytest.mark.parametrize("key", ["", 7, "x" * 201])
def test_a_key_that_is_no_text_is_refused_before_the_call(wrap, venue, key):
    with pytest.raises(ConfigError, match="idempotency_key"):
        wrap(idempotency_key=lambda symbol: key)("BTC/USDT", "buy", 1)
    assert venue.placed == []


# -- after a restart -----------------------------------------------------------------------------------------------


def test_a_call_of_a_dead_process_is_found_through_the_look_up_of_its_name(make, left, venue, decide):
    left()
    venue.orders["x-T1"] = {"id": 5, "status": "Active", "filled": "0.25"}
    pipeline = make()
    verified_transaction(pipeline, name=NAME, find=venue.find)(venue.place_order)
    assert pipeline.start().undecided == ("T1",)
    result = decide(pipeline, "T1")
    assert (result.verdict, result.order_id, result.filled) == (Verdict.COMPLETED, "5", Decimal("0.25"))
    assert venue.placed == []
    assert pipeline._journal.unfinished() == []


def test_the_look_up_gets_the_arguments_that_the_journal_kept(make, left, decide):
    left(arguments={"amount": Decimal("0.10"), "tags": ["a", {"b": 1}], "api_secret": "hidden", "session": object()})
    seen = []

    def find(**known):
        seen.append(known)
        return {"id": 1}

    pipeline = make()
    place = lambda symbol, amount, tags, api_secret, session, client_order_id=None: None
    verified_transaction(pipeline, name=NAME, find=find)(place)
    decide(pipeline, "T1")
    assert seen[0] == {
        "client_order_id": "x-T1", "symbol": "BTC/USDT", "amount": Decimal("0.10"), "tags": ["a", {"b": 1}],
    }  # fmt: skip


@pytest.mark.parametrize("why", ["no look-up", "another name", "no fact", "an argument is lost"])
def test_without_a_look_up_that_can_be_asked_a_person_is_told_once(make, left, venue, alerts, clock, why):
    left(name=None if why == "no fact" else NAME)
    pipeline = make()
    if why == "an argument is lost":
        verified_transaction(pipeline, name=NAME, find=lambda session: {"id": 1})(lambda session: None)
    elif why != "no look-up":
        name = "another" if why == "another name" else NAME
        verified_transaction(pipeline, name=name, find=venue.find)(venue.place_order)
    pipeline.start()
    clock.advance_until(lambda: pipeline.get("T1").record.needs_human)
    clock.advance_until(lambda: clock.monotonic() > 1030.0)
    critical = [alert for alert in alerts if alert["level"] == "critical"]
    assert len(critical) == 1
    assert "only a person" in critical[0]["message"]
    assert pipeline.get("T1").state in (State.RESOLVING, State.UNKNOWN)


def test_a_decoration_that_comes_late_still_resolves(make, left, venue, clock, decide):
    left()
    venue.orders["x-T1"] = {"id": 5}
    pipeline = make()
    pipeline.start()
    clock.advance_until(lambda: pipeline.get("T1").record.needs_human)
    verified_transaction(pipeline, name=NAME, find=venue.find)(venue.place_order)
    result = decide(pipeline, "T1")
    assert result.verdict is Verdict.COMPLETED
    assert pipeline.get("T1").record.needs_human is False


def test_an_equal_call_waits_until_the_one_from_before_the_restart_is_decided(make, wrap, venue, pipeline, run, clock):
    venue.script.append(lost())
    venue.hidden = True
    with pytest.raises(OutcomeUnknownError):
        run(wrap(), "BTC/USDT", "buy", 1)
    pipeline.stop()
    again = make()
    place = wrap(to=again)
    again.start()
    with pytest.raises(TransactionDeniedError) as caught:
        run(place, "BTC/USDT", "buy", 1)
    assert (caught.value.reason, len(venue.placed)) == ("sibling", 1)
    venue.hidden = False
    assert run(place, "BTC/USDT", "buy", 1)["id"] == "v2"  # the first is found meanwhile


def test_a_call_waits_for_an_order_from_before_the_restart_on_its_symbol(make, wrap, left, venue, exchange, run):
    left(kind="ORDER", name=None)
    exchange.blind = ApiError("maintenance")
    pipeline = make()
    place = wrap(to=pipeline)
    with pytest.raises(TransactionDeniedError) as caught:
        run(place, "BTC/USDT", "sell", 1)
    assert (caught.value.reason, venue.placed) == ("recovering", [])
    assert place("ETH/USDT", "sell", 1)["id"] == "v1"


def test_the_facts_of_decided_calls_do_not_pile_up(make, wrap, venue, pipeline, run, decide):
    place = wrap()
    place("BTC/USDT", "buy", 1)
    venue.script.append(lost())
    venue.hidden = True
    with pytest.raises(OutcomeUnknownError) as caught:
        run(place, "BTC/USDT", "buy", 2)
    assert list(pipeline._journal.facts("call ")) == [f"call {caught.value.transaction_id}"]
    venue.hidden = False
    decide(pipeline, caught.value.transaction_id)
    place("BTC/USDT", "buy", 3)
    assert pipeline._journal.facts("call ") == {}


def test_no_secret_and_no_long_argument_reaches_the_journal():
    kept = json.loads(to_text("f", {"api_key": "s1", "token": "s2", "password": "s3", "params": {"secret": "s4", "a": 1},
                                    "note": "x" * 5000, "symbol": "BTC"}))  # fmt: skip
    assert kept == {"function": "f", "arguments": {"params": {"a": 1}, "symbol": "BTC"}}


@pytest.mark.parametrize("settings", [{}, {"refused": ApiError}, {"not_sent": ApiError}])
def test_no_key_of_a_signed_address_reaches_journal_log_or_alert(wrap, venue, pipeline, alerts, run, caplog, settings):
    secret = "Max retries exceeded with url: /order?apiKey=SECRET&signature=SECRET (Caused by Reset('x'))"
    venue.script.append(lost(ApiError(secret)))
    venue.blind = ApiError(secret)
    with pytest.raises((ApiError, OutcomeUnknownError)) as caught:
        run(wrap(**settings), "BTC/USDT", "buy", 1)
    pipeline._journal.facts("")
    told = [
        repr(only(pipeline).record),
        repr(pipeline._journal.log(only(pipeline).id)),
        repr(list(alerts)),
        caplog.text,
    ]
    if isinstance(caught.value, OutcomeUnknownError):
        told.append(str(caught.value))
    assert [text for text in told if "SECRET" in text] == []
    assert "url: /order?... (Caused by" in only(pipeline).record.reason


# -- cancelling ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cancellable(venue):
    """What the venue does with a cancel: the status it gives the order, or an error."""
    state = {"sent": [], "status": "canceled", "filled": "0", "error": None}

    def cancel(client_order_id, symbol):
        state["sent"].append((client_order_id, symbol))
        if state["status"] is not None:
            venue.orders[client_order_id].update(status=state["status"], filled=state["filled"])
        if state["error"] is not None:
            raise state["error"]

    state["cancel"] = cancel
    return state


@pytest.mark.parametrize(
    ("status", "filled", "answer", "verdict"),
    [
        ("canceled", "0", True, Verdict.CANCELLED),
        ("canceled", "0.4", True, Verdict.PARTIAL),
        ("filled", "1", False, Verdict.COMPLETED),
        ("closed", "1", False, Verdict.COMPLETED),
    ],
)
def test_a_cancel_is_a_row_of_its_own_and_decided_by_the_look_up(
    wrap, pipeline, cancellable, status, filled, answer, verdict
):
    place = wrap(cancel=cancellable["cancel"])
    place("BTC/USDT", "buy", 1)
    parent = only(pipeline)
    cancellable.update(status=status, filled=filled, error=ApiError("answer lost"))
    assert place.cancel(parent.id) is answer
    (child,) = children(pipeline)
    assert (child.record.parent_id, child.result().verdict) == (parent.id, verdict)
    assert cancellable["sent"] == [(parent.client_order_id, "BTC/USDT")]
    assert parent.result().verdict is Verdict.COMPLETED


def test_the_cancels_intent_is_on_disk_before_it_is_sent(wrap, venue, pipeline):
    seen = []

    def cancel(order_id):
        seen.append((order_id, [record.state for record in pipeline._journal.unfinished()]))
        venue.orders[venue.placed[0]].update(status="canceled")

    place = wrap(cancel=cancel)
    place("BTC/USDT", "buy", 1)
    place.cancel(only(pipeline).id)
    assert seen == [("v1", [State.CANCELLING])]


def test_a_cancel_that_nobody_sees_is_unknown_and_a_later_one_decides_both(wrap, pipeline, cancellable, run, alerts):
    place = wrap(cancel=cancellable["cancel"])
    place("BTC/USDT", "buy", 1)
    parent = only(pipeline)
    cancellable["status"] = None
    with pytest.raises(OutcomeUnknownError, match="cancel it again"):
        run(place.cancel, parent.id)
    assert children(pipeline)[0].record.needs_human
    cancellable["status"] = "canceled"
    assert place.cancel(parent.id) is True
    assert [child.result().verdict for child in children(pipeline)] == [Verdict.CANCELLED] * 2


def test_a_cancel_also_works_after_a_restart(wrap, make, pipeline, cancellable):
    wrap(cancel=cancellable["cancel"])("BTC/USDT", "buy", 1)
    parent = only(pipeline).id
    pipeline.stop()
    again = make()
    place = wrap(to=again, cancel=cancellable["cancel"])
    place("BTC/USDT", "sell", 2)
    assert place.cancel(parent) is True
    assert len(cancellable["sent"]) == 1


def test_a_cancel_that_a_dead_process_left_is_told_to_a_person_and_never_called_completed(
    make, left, venue, alerts, clock
):
    left("T1", state=State.COMPLETED, proof=Proof.LIVE)
    left("T2", name=None, parent_id="T1", state=State.CANCELLING, goal="ROLLBACK")
    venue.orders["x-T2"] = venue.orders["x-T1"] = {"id": 1, "status": "open"}
    pipeline = make()
    verified_transaction(pipeline, name=NAME, find=venue.find, cancel=lambda order_id: None)(venue.place_order)
    pipeline.start()
    clock.advance_until(lambda: pipeline.get("T2").record.needs_human)
    assert not pipeline.get("T2").state.is_terminal


def test_what_cannot_be_cancelled_says_why(wrap, venue, pipeline, cancellable, run):
    plain = wrap()
    plain("BTC/USDT", "buy", 1)
    with pytest.raises(InvalidOrderError, match="without cancel="):
        plain.cancel(only(pipeline).id)
    place = wrap(cancel=cancellable["cancel"], refused=FundsError, name="other")
    with pytest.raises(InvalidOrderError, match="no call of other"):
        place.cancel(only(pipeline).id)
    venue.script.append(FundsError("empty"))
    with pytest.raises(FundsError):
        place("BTC/USDT", "buy", 2)
    (failed,) = pipeline.transactions(status="failed")
    with pytest.raises(InvalidOrderError, match="no order to cancel"):
        place.cancel(failed.id)
    venue.script.append(lost())
    venue.hidden = True
    with pytest.raises(OutcomeUnknownError) as caught:
        run(place, "BTC/USDT", "buy", 3)
    with pytest.raises(OutcomeUnknownError, match="not found yet"):
        place.cancel(caught.value.transaction_id)
    with pytest.raises(InvalidOrderError, match="own function"):
        pipeline.cancel(caught.value.transaction_id)
    assert cancellable["sent"] == []


async def find_async():
    return {"id": 1}


# -- at decoration -------------------------------------------------------------------------------------------------


async def placed_async(symbol):
    pass


def placed_lazily(symbol):
    yield symbol


@pytest.mark.parametrize("func", [placed_async, placed_lazily, int, 7])
def test_what_is_no_blocking_function_is_refused(pipeline, func):
    with pytest.raises(ConfigError):
        verified_transaction(pipeline)(func)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"find": lambda order_ref: None}, "find: takes order_ref"),
        ({"find": lambda client_order_id: None}, "find: takes client_order_id"),
        ({"find": lambda symbol: None, "cancel": lambda ref: None}, "cancel: takes ref"),
        ({"cancel": lambda symbol: None}, "need find"),
        ({"finds_closed": True}, "need find"),
        ({"find": lambda symbol: None, "finds_closed": 1}, "finds_closed"),
        ({"refused": "InsufficientFunds"}, "refused must be"),
        ({"not_sent": (int,)}, "not_sent must be"),
        ({"client_order_id_arg": "cid"}, "client_order_id_arg names 'cid'"),
        ({"idempotency_key": lambda signal: signal}, "idempotency_key: takes signal"),
        ({"name": ""}, "name must be"),
        ({"find": find_async}, "find: find_async is an async function"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_decoration(pipeline, settings, match):
    with pytest.raises(ConfigError, match=match):
        verified_transaction(pipeline, **settings)(lambda symbol: None)


def test_forgetting_the_pipeline_is_named():
    with pytest.raises(ConfigError, match="write @verified_transaction\\(pipeline\\)"):
        verified_transaction(lambda symbol: None)


def test_a_partial_can_be_decorated_and_named(pipeline, venue):
    place = verified_transaction(pipeline, name="p", find=venue.find)(
        functools.partial(venue.place_order, side="buy", amount=1)
    )
    assert place("BTC/USDT")["id"] == "v1"


# -- orders and arguments of any shape -----------------------------------------------------------------------------


@dataclasses.dataclass
class SdkOrder:
    orderId: int
    status: OrderStatus
    executedQty: str


class Row(NamedTuple):
    id: str
    status: str


class Response:
    """Like one of requests: false for errors, and true for a "not found" in JSON."""

    def __init__(self, status_code):
        self.status_code = status_code
        self.headers = {}

    def __bool__(self):
        return self.status_code < 400


@pytest.mark.parametrize(
    "shown",
    [
        Response(200),
        Response(404),
        Response(500),
        {"status": "failed", "code": "NotFound"},
        True,
        False,
        "",
        0.0,
        [False],
    ],
)
def test_what_is_no_order_is_neither_found_nor_a_no(make, venue, run, clock, shown):
    pipeline = make(verification_timeout=5.0)
    looks = []

    def find(client_order_id):
        looks.append(client_order_id)
        return shown

    place = verified_transaction(pipeline, name=NAME, find=find, finds_closed=True)(venue.place_order)
    venue.script.append(lost())
    with pytest.raises(OutcomeUnknownError) as caught:
        run(place, "BTC/USDT", "buy", 1)
    before = len(looks)
    clock.advance_until(lambda: len(looks) > before + 30, limit=36000)
    assert pipeline.get(caught.value.transaction_id).state is State.UNKNOWN


@pytest.mark.parametrize(
    ("shown", "order_id", "filled", "status"),
    [
        ({"id": "a", "status": "closed", "filled": 0.5}, "a", "0.5", "closed"),
        ({"status": "ok", "order": {"id": 7, "status": "Active", "matchedAmount": "0.1"}}, "7", "0.1", "active"),
        (SdkOrder(9, OrderStatus.DONE, "1"), "9", "1", "done"),
        ([{"orderId": "b"}], "b", "0", ""),
        ({"id": "f", "status": "Filled"}, "f", "1", "filled"),  # the word says all of it
        ({"id": "f", "status": "filled", "filled": "0.4"}, "f", "0.4", "filled"),
        ("c", "c", "0", ""),
        (12, "12", "0", ""),
        ({"orderId": "x", "filled": "lots", "status": 5, "extra": 1}, "x", "0", ""),
        (Row("r", "canceled"), "r", "0", "canceled"),
        (iter([{"txid": "t"}]), "t", "0", ""),
        ({1: {"ordId": "d"}}.values(), "d", "0", ""),
        (OrderState(order_id="3", symbol="BTC/USDT", side="buy", type="limit", amount=Decimal(1), filled=Decimal(1),
                    status=OrderStatus.INACTIVE), "3", "1", "inactive"),
    ],
)  # fmt: skip
def test_whatever_the_look_up_shows_is_read_as_far_as_it_goes(wrap, pipeline, shown, order_id, filled, status):
    wrap(find=lambda client_order_id: shown)("BTC/USDT", "buy", 1)
    result = only(pipeline).result()
    assert (result.verdict, result.order_id) == (Verdict.COMPLETED, order_id)
    assert (result.filled, result.order_status) == (Decimal(filled), status)
    assert pipeline._journal.unfinished() == []  # also where the exchange's word is one that a start would follow


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"market": "ETH", "side": "SELL", "qty": 2}, ("ETH", "sell", "", "2")),
        ({"srcCurrency": "btc", "dstCurrency": "usdt", "type": "buy", "execution": "market", "amount": "1"},
         ("btc/usdt", "buy", "market", "1")),
        ({"type": "sell", "amount": float("nan")}, ("", "sell", "", "0")),
        ({"symbol": "\ud800" * 60, "amount": "1" * 90, "side": 3}, ("?" * 40, "", "", "0")),
    ],
)  # fmt: skip
def test_what_the_arguments_say_is_for_people_and_never_in_the_way(pipeline, arguments, words):
    verified_transaction(pipeline)(lambda **params: None)(**arguments)
    order = only(pipeline).record.order
    assert (order.symbol, order.side, order.type, str(order.amount)) == words


# -- never connected -----------------------------------------------------------------------------------------------


def test_never_connected_knows_what_requests_raises_before_a_byte_left():
    requests = pytest.importorskip("requests")
    exceptions = requests.exceptions
    urllib3 = pytest.importorskip("urllib3").exceptions
    refused = urllib3.NewConnectionError(None, "refused")
    timeout = urllib3.ReadTimeoutError(None, "/", "slow")
    reset = urllib3.ProtocolError("Connection aborted.", ConnectionResetError(104, "reset"))
    assert never_connected(exceptions.ConnectTimeout())
    assert never_connected(exceptions.ConnectionError(urllib3.MaxRetryError(None, "/", refused)))
    assert not never_connected(exceptions.ReadTimeout(timeout))
    assert not never_connected(exceptions.ConnectionError(reset))
    assert not never_connected(exceptions.ConnectionError(urllib3.MaxRetryError(None, "/", timeout)))
    assert not never_connected(OSError())


def test_never_connected_is_asked_only_where_it_was_given(wrap, venue, pipeline, run):
    venue.script += [ConnectionRefusedError("refused"), lost(ConnectionRefusedError("of a second request"))]
    with pytest.raises(ConnectionRefusedError):
        wrap(not_sent=never_connected)("BTC/USDT", "buy", 1)
    assert run(wrap(), "BTC/USDT", "buy", 2)["id"] == "v1"
    assert verdicts(pipeline) == {1: Verdict.NOT_SENT, 2: Verdict.COMPLETED}


def test_an_ended_chain_and_a_circle_of_causes_end():
    error = ValueError("a")
    error.__cause__ = error
    assert not never_connected(error)


def test_a_not_sent_error_is_one_of_ours(wrap, venue):
    venue.script.append(NotSentError("x"))
    with pytest.raises(NotSentError):
        wrap()("BTC/USDT", "buy", 1)
