"""What the review of the review's repairs broke; each names the way in which it did."""

import dataclasses
import json
import sys
import threading
from decimal import Decimal

import pytest

from hireliab.core import money
from hireliab.errors import (
    ConnectError,
    DuplicateOrderError,
    InsufficientFundsError,
    ThrottledError,
)
from hireliab.exchange import _admission
from hireliab.exchange._conclusion import conclude
from hireliab.exchange.adapter import Order, OrderStatus
from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import State, Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from tests.support.pipeline import decide, finish, limit, market
from tests.support.scripted_nobitex import TOKEN, Script, order_row, scripted_pool


# r16: An idle thread that dies (SetAsyncExc, as time-out libraries do) takes the next transaction with it: its caller waits for ever.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_while_idle_does_not_take_a_transaction_with_it(clock, exchange, make, monkeypatch):
    pipeline = make()
    handed_over = threading.Event()
    rest = pipeline._admission._rest

    def dying(worker):
        rest(worker)
        assert handed_over.wait(10.0)  # the next transaction is given to it, and it dies before it takes it
        raise SystemExit

    monkeypatch.setattr(pipeline._admission, "_rest", dying)
    monkeypatch.setattr(_admission._Worker, "wake", lambda _worker: handed_over.set())
    finish(clock, pipeline, market(pipeline))
    clock.advance_until(lambda: bool(pipeline._admission._idle), threads=("hireliab.resolver.",))
    monkeypatch.setattr(pipeline._admission, "_rest", rest)
    handle = pipeline.submit(market(pipeline))
    assert handle.result(timeout=None).verdict is Verdict.NOT_SENT
    assert exchange.sends() == 1


# r17: A key's row is read, its recovered transaction is decided and dropped, then the ledger is asked: an ownerless stale copy.
def test_a_key_whose_recovered_transaction_is_decided_meanwhile(clock, exchange, make):
    pipeline = make()
    exchange.script.append("new")
    finish(clock, pipeline, market(pipeline, idempotency_key="k"))
    pipeline.stop()
    again = make()
    again.start()
    (recovered,) = again.unresolved()
    find_key = again._journal.find_key

    def raced(key):
        row = find_key(key)
        (order_id,) = exchange.orders
        from hireliab.exchange.adapter import OrderStatus

        exchange.change(order_id, status=OrderStatus.DONE, filled=row.order.amount)
        conclude(recovered, exchange.orders[order_id], ledger=again._ledger)  # the resolver, right now
        return row

    again._journal.find_key = raced
    t = market(again, idempotency_key="k")
    assert t.state is State.COMPLETED, t


# r18: A first start while the exchange is down: baseline "0", so a lost answer asks for the account's whole history, for ever.
def test_the_first_order_has_a_baseline_although_the_exchange_was_down_at_the_start(clock, exchange, make):
    for _ in range(5):
        exchange._accept(
            Order(symbol="BTC/USDT", side="buy", type="market", amount=Decimal("0.5"), client_order_id=""), "fill"
        )
    exchange.blind = ConnectError("down")
    pipeline = make()
    pipeline.start()
    exchange.blind = None
    t = market(pipeline)
    finish(clock, pipeline, t)
    assert t.record.baseline != "0"


# r19: sys.exit() in an alert sink ends the resolver's thread without a word: nobody looks at what is undecided any more.
class Exits_r19(list):
    def send_alert(self, **alert):
        self.append(alert)
        if alert["level"] in ("critical", "error", "warning"):
            sys.exit(1)


def test_a_sink_that_exits_does_not_end_the_resolver(clock, exchange, make):
    pipeline = make(alert_system=Exits_r19(), late_arrival_bound=1.0)
    exchange.script.append("unfilled_answer_lost")  # the resolver finds CLOSED_UNFILLED, and alerts
    t = market(pipeline)
    pipeline.submit(t)
    decide(clock, t)
    exchange.script.append("fill_answer_lost")
    t = market(pipeline)
    pipeline.submit(t)
    decide(clock, t, limit=60)


def test_a_sink_that_exits_does_not_lose_a_transaction_of_the_runner(clock, exchange, make):
    pipeline = make(alert_system=Exits_r19(), late_arrival_bound=1.0)

    def broken(order):
        exchange._accept(order, "rest")
        raise KeyError("a bug in an adapter")

    exchange.script.append("new")
    t = market(pipeline)
    finish(clock, pipeline, t)  # UNKNOWN: alert in the runner's thread
    (order_id,) = exchange.orders
    exchange.change(order_id, status=OrderStatus.DONE, filled=t.record.order.amount)
    decide(clock, t, limit=600)


# r20: orders_per_minute counts attempts that were proven not to have left: the retry is DENIED although nothing was sent.
def test_a_retry_after_not_sent_needs_no_second_permit(clock, exchange, make):
    pipeline = make(orders_per_minute=1)
    exchange.script.extend(["not_sent", "fill"])
    result = finish(clock, pipeline, market(pipeline))
    assert result.verdict is Verdict.COMPLETED, (result.verdict, result.reason)


# r21: The price collar asks for a book while the prepared order holds a client: a burst as large as the pool denies itself.
def test_a_burst_of_limit_orders_with_a_collar_is_not_denied_for_want_of_a_client(clock, tmp_path):
    script = Script(clock)

    def add(sent):
        body = json.loads(sent.body)
        return {
            "status": "ok",
            "order": order_row(
                type=body["type"],
                amount=body["amount"],
                price=body["price"],
                clientOrderId=body["clientOrderId"],
                id=hash(body["clientOrderId"]) % 10**6 + 10,
            ),
        }

    script.answers["/market/orders/add"] = add
    script.answers["/market/orders/list"] = {"status": "ok", "orders": [], "hasNext": False}
    script.answers["/users/profile"] = {"status": "ok", "profile": {"email": "a@b.c"}}
    pool = scripted_pool(script)  # max_connections 4
    adapter = EnhancedNobitexAdapter({"token": TOKEN, "connection_pool": pool}, clock=clock)
    pipeline = TransactionVerificationPipeline(
        exchange_adapter=adapter,
        clock=clock,
        journal=tmp_path / "j",
        price_collar=0.05,
        operator_interval=None,
        verification_timeout=2.0,
    )
    pipeline.start()
    adapter.account
    prepare, together = adapter.prepare, threading.Barrier(4)

    def slow(order):
        p = prepare(order)
        try:
            together.wait(10)
        except threading.BrokenBarrierError:
            pass
        return p

    adapter.prepare = slow
    try:
        ts = [
            pipeline.create_transaction(type="limit_buy", symbol="BTC/USDT", amount="0.001", price=str(50000 + i))
            for i in range(4)
        ]
        handles = [pipeline.submit(t) for t in ts]
        clock.advance_until(lambda: all(t._answered for t in ts), limit=60)
        got = [(h.result().verdict.value, h.result().reason[-150:]) for h in handles]
        assert all(v != "DENIED" for v, _ in got), got
    finally:
        together.abort()
        pipeline.stop()
        pool.stop()


# r22: After a night without the bot each closed order is looked up by its id, all at once, in the resolver's thread.
def test_many_resting_orders_that_closed_are_no_burst_of_lookups(clock, exchange, make):
    pipeline = make()
    for i in range(60):
        finish(clock, pipeline, limit(pipeline, price=str(100 + i)))
    pipeline.stop()
    for order_id, order in list(exchange.orders.items()):
        exchange.change(order_id, status=OrderStatus.DONE, filled=order.amount)
    exchange.calls.clear()
    again = make()
    again.start()
    clock.advance_until(lambda: clock.parked(("hireliab.resolver.",)) == 1, limit=1)
    looks = sum(name == "find_by_id" for name, _ in exchange.calls)
    assert looks <= 15, looks


# r23: Ctrl-C in resolve() after the word was written: decided, but still marked unknown: equals are DENIED until a restart.
def test_an_interrupted_word_lets_equal_orders_go_on(clock, exchange, make):
    pipeline = make(verification_timeout=5.0)
    exchange.script.append("request_lost")
    t = market(pipeline)
    finish(clock, pipeline, t)
    assert t.state is State.UNKNOWN
    write = pipeline._journal.write

    def interrupted(record, **more):
        write(record, **more)
        raise KeyboardInterrupt

    pipeline._journal.write = interrupted
    with pytest.raises(KeyboardInterrupt):
        pipeline.resolve(t.id, "failed", evidence="e", who="me")
    pipeline._journal.write = write
    assert t.state is pipeline._journal.get(t.id).state is State.FAILED
    assert pipeline._ledger.find(t.id) is None
    assert finish(clock, pipeline, market(pipeline)).verdict is Verdict.COMPLETED


# r24: relaxed: the verdict of a @verified_transaction call is not found by its key until it is on disk (kind is CALL, not ORDER).
def test_find_key_sees_the_told_verdict_of_a_call(clock, exchange, make, tmp_path):
    import dataclasses
    from decimal import Decimal

    from hireliab.exchange.adapter import Order
    from hireliab.exchange.transaction import Proof, Record

    journal = SQLiteJournal(tmp_path / "j", durability="relaxed")
    journal.open()
    try:
        base = Record(
            txn_id="01K742SG00T3GAW6046R7RKB96",
            kind="CALL",
            order=Order(symbol="BTC/USDT", side="buy", type="market", amount=Decimal(1)),
            idempotency_key="k",
        )
        sent = dataclasses.replace(base, state=State.SUBMITTING, version=1)
        journal.write(sent, cause="x", barrier=True)
        journal.write(
            dataclasses.replace(base, state=State.COMPLETED, version=2, proof=Proof.LIVE), cause="x", barrier=True
        )
        assert journal.find_key("k").state is State.COMPLETED
    finally:
        journal.close()


# r26: A send that is proven not to have left still "explains" the duplicate answer to an equal order: fence 0, REJECTED.
def test_what_never_left_does_not_explain_a_duplicate(clock, exchange, make):
    pipeline = make(max_retries=0, late_arrival_bound=70.0)
    exchange.script.append("not_sent")
    assert finish(clock, pipeline, market(pipeline)).verdict is Verdict.NOT_SENT

    def twice(order):  # a proxy delivers it twice; this is the answer to the second; listings lag by 20 s
        exchange.hidden.add(exchange._accept(order, "fill").order_id)
        raise DuplicateOrderError("dup", code="DuplicateOrder", http_status=200)

    exchange.script.append(twice)
    fills = exchange.list_fills_since
    exchange.list_fills_since = lambda since: (
        dataclasses.replace(fills(since), fills=()) if exchange.hidden else fills(since)
    )
    t = market(pipeline)
    began = clock.monotonic()
    pipeline.submit(t)
    clock.advance_until(lambda: t.state.is_terminal or clock.monotonic() - began > 20, limit=100)
    exchange.hidden.clear()
    decide(clock, t)
    assert t.result().verdict is Verdict.COMPLETED, t.result().verdict


# r27: Two orders that are equal after quantising are on their way at once where listings hide client ids.
def test_orders_that_are_equal_as_sent_are_serialised(clock, exchange, make):
    exchange.note_listing_shows_client_id(False)
    prepare = exchange.prepare

    def validate(order):
        return dataclasses.replace(order, amount=money.snap_down(order.amount, Decimal("0.1")))

    exchange.validate, exchange.prepare = validate, lambda order: prepare(validate(order))
    inside, most = [], []

    def place(order):
        inside.append(order)
        most.append(len(inside))
        threading.Event().wait(0.01)
        inside.remove(order)
        return exchange._accept(order, "fill")

    exchange.place = place
    pipeline = make()
    ts = [market(pipeline, amount=a) for a in ("0.3", "0.30000000000000004")]
    for t in ts:
        pipeline.submit(t)
    clock.advance_until(lambda: all(t._answered for t in ts), limit=60)
    assert max(most) == 1


# r28: Throttled (by a proxy, executed), then InsufficientFunds; listings lag 20 s (case 2): REJECTED/False without a watch.
def test_an_executed_throttled_attempt_is_found_although_listings_lag(clock, exchange, make):
    pipeline = make(late_arrival_bound=70.0)

    def first(order):
        exchange.hidden.add(exchange._accept(order, "fill").order_id)
        raise ThrottledError("proxy", retry_after=1.0)

    def again(order):
        raise InsufficientFundsError("x", code="OverValueOrder")

    exchange.script.extend([first, again])
    fills = exchange.list_fills_since
    exchange.list_fills_since = lambda since: (
        dataclasses.replace(fills(since), fills=()) if exchange.hidden else fills(since)
    )
    t = market(pipeline)
    began = clock.monotonic()
    pipeline.submit(t)
    clock.advance_until(lambda: t.state.is_terminal or clock.monotonic() - began > 20, limit=100)
    exchange.hidden.clear()
    clock.advance_until(lambda: t.result().verdict is Verdict.COMPLETED, limit=4000)
