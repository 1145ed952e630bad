"""What an adversarial review of the pipeline broke; each names the way in which it did."""

import gc
import threading
from decimal import Decimal

import pytest

from hireliab.errors import (
    DuplicateOrderError,
    InsufficientFundsError,
    InvalidOrderError,
    RateLimitedError,
    ResponseLostError,
    ResponseTimeoutError,
    ThrottledError,
)
from hireliab.exchange._conclusion import conclude
from hireliab.exchange.adapter import OrderStatus, Unavailable
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Proof, State, Verdict
from hireliab.testing import ScriptedExchange
from tests.support.pipeline import decide, finish, limit, market
from tests.support.pools import cheap_collections


# r01: Blind exchange while an ABSENT order's afterwatch look is due: the resolver lists without any pause.
def test_a_watch_that_is_due_while_the_exchange_is_blind_does_not_spin(clock, exchange, make):
    pipeline = make(late_arrival_bound=1.0)
    exchange.script.append("request_lost")
    t = market(pipeline)
    pipeline.submit(t)
    assert decide(clock, t).proof is Proof.ABSENT
    exchange.blind = ResponseTimeoutError("down")
    clock.advance(61.0)  # the first look of the afterwatch is due
    began = clock.monotonic()
    before = len([c for c in exchange.calls if c[0] == "list_orders_since"])
    # It comes to rest between two listings: a resolver that spins is never parked, and this fails.
    clock.advance_until(lambda: clock.monotonic() > began + 60.0)
    after = len([c for c in exchange.calls if c[0] == "list_orders_since"])
    exchange.blind = None
    assert after - before <= 8


# r02: A roll back whose order the exchange forgot (ABSENT) and shows again (T25): RESOLVING with goal ROLLBACK has no way on.
def test_a_roll_back_that_was_presumed_absent_and_appears_is_decided(clock, exchange, make, caplog):
    pipeline = make(late_arrival_bound=1.0, visibility_window=1.0)
    t = limit(pipeline, commit="filled_or_cancel", timeout=20.0)
    kept = {}

    def withdraw(order_id):  # the cancel's answer is lost and the exchange forgets the order for a while
        kept[order_id] = exchange.orders.pop(order_id)
        raise ResponseLostError("lost")

    exchange.withdraw = withdraw
    pipeline.submit(t)
    clock.advance_until(lambda: t.state is State.WORKING, limit=5)
    finish(clock, pipeline, market(pipeline))  # a newer order, which listings show
    clock.advance_until(lambda: t.state.is_terminal, limit=600)
    assert (t.state, t.record.proof, t.record.goal) == (State.FAILED, Proof.ABSENT, "ROLLBACK")
    exchange.orders.update(kept)  # it is there after all, and live
    exchange.withdraw = lambda order_id: ScriptedExchange.withdraw(exchange, order_id)
    clock.advance_until(lambda: not t.state.is_terminal, limit=600)
    clock.advance_until(lambda: t.state.is_terminal, limit=600)
    assert t.state is State.ROLLED_BACK
    assert "bug:" not in caplog.text


# r03: Rows that the retention deleted are reported as critical orphans by the next listing that reaches back so far.
def test_an_order_whose_row_was_deleted_by_retention_is_no_orphan(clock, exchange, make, tmp_path, alerts):
    pipeline = make(journal=SQLiteJournal(tmp_path / "j", clock=clock))
    resting = limit(pipeline, type="limit_sell")  # rests in the book for months
    finish(clock, pipeline, resting)
    old = market(pipeline)
    finish(clock, pipeline, old)
    pipeline.stop()
    # 40 days later: the retention deletes the finished row
    clock.step_wall(40 * 86400)
    pipeline = make(journal=SQLiteJournal(tmp_path / "j", clock=clock))
    finish(clock, pipeline, market(pipeline))  # the newest order knows the venue's time
    from hireliab.exchange._journal_retention import Retention

    r = Retention(30 * 86400.0, clock)
    db = pipeline._journal._db
    while db.write(r.sweep) == 0.0:
        pass
    assert pipeline._journal.get(old.id) is None
    pipeline.stop()
    alerts.clear()
    pipeline = make(journal=SQLiteJournal(tmp_path / "j", clock=clock))
    pipeline.start()  # the first listing goes back to the resting order
    clock.advance_until(lambda: clock.parked(("hireliab.resolver.",)) == 1, limit=60)
    assert [a["title"] for a in alerts if a["level"] == "critical"] == []
    assert pipeline.orphans() == ()
    assert pipeline.sweep_orphans() == ()


# r04: An unfinished CANCEL row has baseline "0": the first listing of a start then asks for the account's whole history.
def test_a_cancel_that_is_not_decided_does_not_list_the_whole_account(clock, exchange, make):
    pipeline = make()
    for _ in range(3):
        finish(clock, pipeline, market(pipeline))
    parent = limit(pipeline)
    finish(clock, pipeline, parent)

    def withdraw(order_id):
        raise ResponseLostError("lost")

    exchange.withdraw = withdraw
    from hireliab.exchange._cancel import cancel_of
    from hireliab.exchange.transaction import Transaction

    child = Transaction(cancel_of(parent.record, wall=clock.time()), clock=clock)
    finish(clock, pipeline, child)
    pipeline.stop()
    exchange.calls.clear()
    again = make()
    again.start()
    floors = [a for n, a in exchange.calls if n == "list_orders_since"]
    assert floors[0] != "0", floors


# r05: Ledger.move marks `unknown` after the claim is over: a later, faster move is overwritten, and equals are denied for ever.
def test_a_decided_transaction_is_no_sibling_although_its_unknown_was_marked_late(clock, exchange, make):
    pipeline = make(verification_timeout=3.0)
    exchange.script.append("new")
    t = market(pipeline)
    settle, once = t.settle, []

    def preempted(record, **more):
        settle(record, **more)
        if record is not None and record.state is State.UNKNOWN and not once:
            once.append(1)  # here the runner's thread is preempted, and the resolver decides
            order_id = record.order_id
            exchange.change(order_id, status=OrderStatus.DONE, filled=record.order.amount)
            th = threading.Thread(target=lambda: conclude(t, exchange.orders[order_id], ledger=pipeline._ledger))
            th.start()
            th.join(5)

    t.settle = preempted
    pipeline.submit(t)
    assert decide(clock, t).verdict is Verdict.COMPLETED
    assert finish(clock, pipeline, market(pipeline)).verdict is Verdict.COMPLETED


# r06: adopt() of one orphan by two threads at once: the loser's zombie (state NEW) replaces the winner among the live ones.
def test_two_adopts_at_once_leave_one_live_transaction(clock, exchange, make, tmp_path):
    pipeline = make(journal=tmp_path / "a")
    t = limit(pipeline)
    finish(clock, pipeline, t)
    (order_id,) = exchange.orders
    pipeline.stop()
    again = make(journal=tmp_path / "b")  # the journal was lost
    again.start()
    barrier = threading.Barrier(2)
    find = exchange.find_by_id

    def find_by_id(i):
        r = find(i)
        barrier.wait(5)
        return r

    exchange.find_by_id = find_by_id
    get = again._journal.get
    gate = threading.Barrier(2)

    def slow_get(txn_id):
        r = get(txn_id)
        if r is None:
            try:
                gate.wait(2)
            except threading.BrokenBarrierError:
                pass
        return r

    again._journal.get = slow_get
    out = []

    def adopt():
        try:
            out.append(again.adopt(order_id, who="me"))
        except Exception as e:
            out.append(e)

    ths = [threading.Thread(target=adopt) for _ in range(2)]
    [x.start() for x in ths]
    [x.join(10) for x in ths]
    exchange.find_by_id = find
    again._journal.get = get
    live = again._ledger.find(t.id)
    assert live is not None and live.state is State.COMPLETED, live
    exchange.change(order_id, status=OrderStatus.DONE, filled=live.record.order.amount)
    clock.advance_until(lambda: again.get(t.id).record.order_status == "Done", limit=120)


# r07: resolve("failed"/"cancelled") of an order that the exchange shows live and partly filled is believed without a look.
@pytest.mark.parametrize("word", ["failed", "cancelled"])
def test_a_word_that_contradicts_the_exchange_is_refused(clock, exchange, make, word):
    pipeline = make(verification_timeout=5.0)
    t = limit(pipeline, commit="filled")
    finish(clock, pipeline, t)
    (order_id,) = exchange.orders
    exchange.change(order_id, filled=Decimal("0.2"))
    assert t.record.order_id == order_id and not t.state.is_terminal
    with pytest.raises(InvalidOrderError):
        pipeline.resolve(t.id, word, evidence="I think so", who="me")
    assert not t.state.is_terminal


def test_completed_without_an_id_does_not_overwrite_what_the_resolver_read_meanwhile(clock, exchange, make):
    pipeline = make(verification_timeout=5.0)
    exchange.script.append("rest_answer_lost")
    exchange.blind = RuntimeError("x")
    t = limit(pipeline, commit="filled")
    finish(clock, pipeline, t)
    assert t.state is State.UNKNOWN and t.record.order_id is None
    (order_id,) = exchange.orders
    exchange.blind = None
    facts = pipeline._decisions._facts

    def racing(*a):
        r = facts(*a)  # decided on a record without an id; now the resolver reads it
        exchange.change(order_id, filled=Decimal("0.2"))
        conclude(t, exchange.orders[order_id], ledger=pipeline._ledger)
        return r

    pipeline._decisions._facts = racing
    try:
        pipeline.resolve(t.id, "completed", evidence="I think so", who="me")
    except InvalidOrderError:
        pass
    assert t.record.order_id == order_id
    assert t.record.filled == Decimal("0.2"), (t.state, t.record.filled, t.record.proof)


# r08: T6 takes a new baseline: what the first, throttled attempt placed after all is then "older than the send".
@pytest.mark.parametrize("second", ["funds", "duplicate"])
def test_an_order_that_a_throttled_attempt_placed_is_found_by_the_next_ones_look(clock, exchange, make, second):
    pipeline = make(late_arrival_bound=10.0)
    other = market(pipeline, amount="0.7")

    def first(order):
        exchange._accept(order, "fill")  # placed and filled, and a proxy says 429
        raise ThrottledError("proxy", retry_after=1.0)

    def again(order):
        if second == "funds":
            raise InsufficientFundsError("x", code="OverValueOrder")
        raise DuplicateOrderError("x", code="DuplicateOrder", http_status=200)

    exchange.script.extend([first, "fill", again])
    t = market(pipeline)
    pipeline.submit(t)
    clock.advance_until(lambda: len(exchange.orders) == 1, limit=0.5)
    pipeline.submit(other).result(timeout=None)  # acknowledged during the pause: the watermark passes
    decide(clock, t)
    assert t.result().verdict is Verdict.COMPLETED, (t.result().verdict, t.result().reason)


# r09: relaxed: find_key() reads past what is queued: the same key asked again within 50 ms is a stale, ownerless SUBMITTING.
def test_the_same_key_asked_again_at_once_is_the_decided_transaction(clock, exchange, make, tmp_path):
    pipeline = make(journal=SQLiteJournal(tmp_path / "j", durability="relaxed"))
    bad = []
    with cheap_collections():  # one of all that a run of all tests has made takes longer than the 50 ms
        for i in range(30):
            t = market(pipeline, idempotency_key=f"k{i}", amount=f"0.{i + 1}")
            r = finish(clock, pipeline, t)
            assert r.verdict is Verdict.COMPLETED
            del t
            gc.collect()
            again = market(pipeline, idempotency_key=f"k{i}", amount=f"0.{i + 1}")
            bad.append(again.state)
    assert set(bad) == {State.COMPLETED}, bad


# r10: Ctrl-C in resolve() while the record waits for the disk: journal N+1, memory N; every later write is refused.
def test_ctrl_c_while_a_word_is_written_does_not_wedge_the_transaction(clock, exchange, make, caplog):
    pipeline = make(verification_timeout=5.0)
    exchange.script.append("new")
    t = market(pipeline)
    finish(clock, pipeline, t)
    assert t.state is State.UNKNOWN
    write = pipeline._journal.write

    def interrupted(record, **more):
        write(record, **more)  # it is on disk, and Ctrl-C strikes in the wait for it
        pipeline._journal.write = write
        raise KeyboardInterrupt

    pipeline._journal.write = interrupted
    with pytest.raises(KeyboardInterrupt):
        pipeline.resolve(t.id, "completed", evidence="e", who="me")
    (order_id,) = exchange.orders
    exchange.change(order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
    try:
        clock.advance_until(lambda: t.state.is_terminal, limit=900)
    finally:
        stored = pipeline._journal.get(t.id)
    assert stored.state is t.state


# r11: An interrupt at the end of start(): the journal stays locked, start() again fails and stop() does nothing.
def test_start_can_be_done_again_after_ctrl_c(clock, exchange, make):
    pipeline = make()
    start = pipeline._resolver.start

    def interrupted(first):
        pipeline._resolver.start = start
        raise KeyboardInterrupt

    pipeline._resolver.start = interrupted
    with pytest.raises(KeyboardInterrupt):
        pipeline.start()
    pipeline.start()


# r12: One old resting order sets the floor of every listing: once that is too long to be read, lost answers are never found.
def test_a_lost_answer_is_found_although_an_old_order_rests(clock, exchange, make):
    pipeline = make()
    finish(clock, pipeline, limit(pipeline))
    for i in range(20):
        finish(clock, pipeline, market(pipeline, amount=f"0.{i + 1}"))
    real = exchange.list_orders_since

    def at_most(order_id):  # as the adapter: more pages than the limiter lets through are no listing
        if sum(int(o) > int(order_id) for o in exchange.orders) > 10:
            exchange.calls.append(("list_orders_since", order_id))
            return Unavailable(RateLimitedError("too many pages", retry_after=1.0))
        return real(order_id)

    exchange.list_orders_since = at_most
    exchange.script.append("fill_answer_lost")
    t = market(pipeline, amount="0.77")
    pipeline.submit(t)
    assert decide(clock, t, limit=900).verdict is Verdict.COMPLETED


# r13: Ctrl-C in stop() before its try: phase stays "stopping", and every later stop(), atexit's too, waits for ever.
def test_stop_can_be_done_again_after_ctrl_c(clock, make):
    pipeline = make()
    pipeline.start()
    close = pipeline._admission.close

    def interrupted():
        pipeline._admission.close = close
        raise KeyboardInterrupt

    pipeline._admission.close = interrupted
    with pytest.raises(KeyboardInterrupt):
        pipeline.stop()
    th = threading.Thread(target=pipeline.stop, daemon=True)
    th.start()
    th.join(3)
    hangs = th.is_alive()
    with pipeline._changed:  # let the fixture go on
        pipeline._phase = "open" if hangs else pipeline._phase
        pipeline._changed.notify_all()
    th.join(3)
    assert not hangs


# r14: Ctrl-C while the journal's close() waits for its writer: the lock is never given back, the second close does nothing.
def test_a_journal_can_be_closed_again_after_ctrl_c(tmp_path):
    journal = SQLiteJournal(tmp_path / "j")
    journal.open()
    close = journal._file.close

    def interrupted():
        close()
        raise KeyboardInterrupt

    journal._file.close = interrupted
    with pytest.raises(KeyboardInterrupt):
        journal.close()
    journal._file.close = close
    journal.close()
    again = SQLiteJournal(tmp_path / "j")
    again.open()
    again.close()


# r15: Ctrl-C in submit() between claim and settle: never sent, but UNKNOWN for ever, and its key is wedged.
def test_an_order_whose_submit_was_interrupted_before_it_was_handed_over_is_not_sent(clock, exchange, make):
    pipeline = make()
    t = market(pipeline, idempotency_key="k")
    name_order = t.name_order

    def interrupted(*a, **k):
        t.name_order = name_order
        raise KeyboardInterrupt

    t.name_order = interrupted
    with pytest.raises(KeyboardInterrupt):
        pipeline.submit(t)
    assert pipeline.submit(t).result().verdict is Verdict.NOT_SENT
    assert pipeline.execute(market(pipeline, idempotency_key="k")).verdict is Verdict.COMPLETED
