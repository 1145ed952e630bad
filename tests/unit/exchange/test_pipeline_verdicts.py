"""Each row of the table in ARCHITECTURE.md section 3, and what is sent while it comes about."""

import dataclasses
from decimal import Decimal

import pytest

from hireliab.errors import (
    ConfigError,
    IdempotencyConflictError,
    InsufficientFundsError,
    InvalidOrderError,
    OutcomeUnknownError,
    PartialFillError,
    ThrottledError,
    TransactionDeniedError,
)
from hireliab.exchange.adapter import OrderStatus
from hireliab.exchange.transaction import Phase, Proof, State, Status, Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.testing import ScriptedExchange
from tests.support.pipeline import Alerts, decide, finish, limit, market
from tests.support.together import until


@pytest.fixture
def exchange(clock):
    return ScriptedExchange(clock=clock)


@pytest.fixture
def alerts():
    return Alerts()


@pytest.fixture
def events():
    class Events(list):
        """What the outbox's thread published."""

        def publish(self, topic, data, *, message_id):
            assert message_id == data["event_id"]
            self.append((topic, data))

        def topics(self, count):
            """Those of the first so many, once they are published; no fake time passes meanwhile."""
            until(lambda: len(self) >= count)
            return [topic for topic, _ in self]

    return Events()


@pytest.fixture
def make(clock, exchange, alerts, events, tmp_path):
    made = []

    def make(**settings):
        pipeline = TransactionVerificationPipeline(
            exchange_adapter=exchange,
            journal=tmp_path / "journal",
            alert_system=alerts,
            message_bus=events,
            clock=clock,
            **{"operator_interval": None, **settings},
        )
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.stop()


@pytest.fixture
def pipeline(make):
    return make()


def test_a_filled_market_order_is_true_with_its_fill(clock, exchange, pipeline, events):
    transaction = market(pipeline)
    assert (transaction.phase, transaction.status) == (Phase.PREPARE, Status.PENDING)
    result = finish(clock, pipeline, transaction)
    assert bool(result) is True
    assert (result.verdict, result.proof, result.filled) == (Verdict.COMPLETED, Proof.FILLED, Decimal("0.5"))
    assert (transaction.phase, transaction.status) == (Phase.COMPLETE, Status.COMPLETED)
    assert exchange.sends() == 1
    assert events.topics(1) == ["transaction.completed"]
    assert (events[0][1]["verdict"], events[0][1]["filled"]) == ("COMPLETED", "0.5")


def test_an_accepted_limit_order_is_true_while_it_rests(clock, pipeline):
    result = finish(clock, pipeline, limit(pipeline))
    assert bool(result) is True
    assert (result.proof, result.filled, result.order_status) == (Proof.LIVE, 0, "Active")


def test_a_new_order_is_not_live_yet(clock, exchange, pipeline):
    exchange.script.append("new")
    transaction = limit(pipeline)
    result = finish(clock, pipeline, transaction)
    assert result.verdict is Verdict.UNKNOWN
    exchange.change(result.order_id, status=OrderStatus.ACTIVE)
    assert decide(clock, transaction).verdict is Verdict.COMPLETED


def test_an_order_rejected_after_its_acknowledgement_is_false(clock, exchange, pipeline):
    exchange.script.append("rejected_later")
    result = finish(clock, pipeline, limit(pipeline))
    assert bool(result) is False
    assert result.verdict is Verdict.REJECTED


@pytest.mark.parametrize("word", ["partial", "partial_answer_lost"])
def test_a_partial_fill_raises_with_both_amounts(clock, exchange, pipeline, word):
    exchange.script.append(word)
    result = finish(clock, pipeline, market(pipeline))
    with pytest.raises(PartialFillError) as caught:
        bool(result)
    assert (caught.value.filled, caught.value.remaining) == (Decimal("0.25"), Decimal("0.25"))
    assert caught.value.result is result


def test_a_partial_fill_is_true_where_the_caller_accepts_it(clock, exchange, pipeline):
    exchange.script.append("partial")
    assert bool(finish(clock, pipeline, market(pipeline, on_partial="accept"))) is True


@pytest.mark.parametrize("word", ["unfilled", "unfilled_answer_lost"])
def test_an_order_that_the_venue_closed_unfilled_is_false(clock, exchange, pipeline, word):
    exchange.script.append(word)
    result = finish(clock, pipeline, market(pipeline))
    assert bool(result) is False
    assert result.verdict is Verdict.CLOSED_UNFILLED


def test_a_rejected_order_is_false_and_not_sent_again(clock, exchange, pipeline):
    exchange.script.append("reject")
    result = finish(clock, pipeline, market(pipeline))
    assert bool(result) is False
    assert (result.verdict, exchange.sends()) == (Verdict.REJECTED, 1)


def test_a_send_that_did_not_leave_is_repeated_up_to_max_retries(clock, exchange, make):
    pipeline = make(max_retries=2)
    exchange.script.extend(["not_sent"] * 3)
    result = finish(clock, pipeline, market(pipeline))
    assert bool(result) is False
    assert (result.verdict, exchange.sends(), result.attempts) == (Verdict.NOT_SENT, 3, 3)


def test_a_send_that_did_not_leave_is_repeated_and_succeeds(clock, exchange, pipeline):
    exchange.script.extend(["not_sent", "throttle", "fill"])
    result = finish(clock, pipeline, market(pipeline))
    assert bool(result) is True
    assert exchange.sends() == 3


@pytest.mark.parametrize("word", ["fill_answer_lost", "rest_answer_lost"])
def test_a_lost_answer_is_found_and_never_sent_again(clock, exchange, pipeline, word):
    exchange.script.append(word)
    result = finish(clock, pipeline, market(pipeline) if word.startswith("fill") else limit(pipeline))
    assert bool(result) is True
    assert exchange.sends() == 1
    assert result.order_id in exchange.orders


def test_a_lost_request_is_unknown_then_absent_and_never_sent_again(clock, exchange, pipeline, alerts):
    exchange.script.append("request_lost")
    transaction = market(pipeline)
    started = clock.monotonic()
    result = finish(clock, pipeline, transaction)
    assert clock.monotonic() - started == pytest.approx(30.0)
    with pytest.raises(OutcomeUnknownError) as caught:
        bool(result)
    assert not caught.value.presumed_absent
    assert caught.value.client_order_id == transaction.client_order_id
    assert any("unknown" in alert["title"] for alert in alerts)
    result = decide(clock, transaction)
    assert clock.monotonic() - started >= 70.0
    with pytest.raises(OutcomeUnknownError) as caught:
        bool(result)
    assert caught.value.presumed_absent
    assert (result.verdict, exchange.sends()) == (Verdict.ABSENT, 1)


def test_absence_behind_a_fence_that_the_venue_guarantees_is_false(clock, exchange, pipeline):
    import dataclasses

    exchange.capabilities = dataclasses.replace(
        exchange.capabilities, late_arrival_bound=5.0, late_arrival_is_proof=True
    )
    exchange.script.append("request_lost")
    result = finish(clock, pipeline, market(pipeline))
    assert bool(result) is False
    assert result.verdict is Verdict.FENCED


def test_a_request_that_arrives_late_is_found(clock, exchange, pipeline):
    def late(order):
        exchange.later = order
        raise TimeoutError("the proxy held it")

    exchange.script.append(late)
    transaction = market(pipeline)
    assert finish(clock, pipeline, transaction).verdict is Verdict.UNKNOWN
    exchange._accept(exchange.later, "fill")
    assert decide(clock, transaction).verdict is Verdict.COMPLETED


def test_an_absent_order_that_appears_within_a_day_is_resurrected(clock, exchange, pipeline, alerts):
    kept = []

    def late(order):
        kept.append(order)
        raise TimeoutError("the proxy held it")

    exchange.script.append(late)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    assert decide(clock, transaction).verdict is Verdict.ABSENT
    exchange._accept(kept[0], "fill")
    clock.advance_until(lambda: transaction.state is State.COMPLETED, limit=90000)
    assert any(alert["level"] == "critical" and "resurrected" in alert["title"] for alert in alerts)


def test_errors_of_reads_are_no_negatives(clock, exchange, pipeline):
    exchange.script.append("fill_answer_lost")
    exchange.blind = ConnectionError("the exchange is down")
    transaction = market(pipeline)
    assert finish(clock, pipeline, transaction).verdict is Verdict.UNKNOWN
    with pytest.raises(AssertionError, match="not reached"):
        decide(clock, transaction, limit=1000.0)
    exchange.blind = None
    assert decide(clock, transaction).verdict is Verdict.COMPLETED


def test_blindness_of_a_minute_is_told_once(clock, exchange, pipeline, alerts):
    exchange.script.append("request_lost")
    exchange.blind = ConnectionError("the exchange is down")
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    with pytest.raises(AssertionError, match="not reached"):
        decide(clock, transaction, limit=600.0)
    assert len([a for a in alerts if a["title"] == "Cannot see the exchange"]) == 1


def test_an_order_without_its_client_id_is_a_candidate_and_never_bound(clock, exchange, pipeline, alerts):
    exchange.null_client_ids = True
    exchange.script.append("fill_answer_lost")
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    with pytest.raises(AssertionError, match="not reached"):
        decide(clock, transaction, limit=3000.0)
    result = transaction.result()
    assert result.candidates == tuple(exchange.orders)
    assert transaction.record.needs_human
    assert any("needs a person" in alert["title"] for alert in alerts)


def test_a_listing_that_lags_proves_nothing_when_a_later_order_is_missing_from_it(clock, exchange, make):
    pipeline = make(late_arrival_bound=0.0)
    exchange.script.append("fill_answer_lost")

    first = market(pipeline)
    exchange.hidden.update(str(3_000_000_000 + n) for n in range(1, 50))
    exchange.blind = ConnectionError("so that the next order is acknowledged first")
    handle = pipeline.submit(first)
    clock.advance_until(lambda: first.state is State.RESOLVING)
    exchange.blind = None
    fills = exchange.list_fills_since
    exchange.list_fills_since = lambda since: dataclasses.replace(fills(since), fills=())
    second = market(pipeline, amount="0.6")  # an equal one would be denied
    pipeline.submit(second)
    clock.advance_until(lambda: second.state.is_terminal)
    with pytest.raises(AssertionError, match="not reached"):
        clock.advance_until(lambda: handle.done, limit=500.0)
    exchange.hidden.clear()
    clock.advance_until(lambda: handle.done, limit=1000.0)
    assert handle.result().verdict is Verdict.COMPLETED


def test_a_fill_leads_to_an_order_that_the_listing_does_not_show_yet(clock, exchange, make):
    pipeline = make(late_arrival_bound=0.0)
    exchange.hidden.add("3000000001")
    exchange.script.append("fill_answer_lost")
    assert finish(clock, pipeline, market(pipeline)).verdict is Verdict.COMPLETED


def test_a_duplicate_answer_that_our_own_equal_order_explains_is_false_after_a_look(clock, exchange, pipeline):
    finish(clock, pipeline, market(pipeline))
    exchange.script.append("duplicate")
    result = finish(clock, pipeline, market(pipeline))
    assert bool(result) is False
    assert result.verdict is Verdict.REJECTED
    assert any(name == "list_orders_since" for name, _ in exchange.calls)


def test_an_order_that_was_refused_as_a_duplicate_is_told_as_rejected(clock, exchange, pipeline, alerts, events):
    finish(clock, pipeline, market(pipeline))
    exchange.script.append("duplicate")
    finish(clock, pipeline, market(pipeline))
    until(lambda: alerts)  # told by the resolver's thread, after the caller has his answer
    (last,) = alerts
    assert last["title"].endswith(": rejected") and "duplicate says the script" in last["message"]
    assert events.topics(3) == ["transaction.completed", "transaction.resolving", "transaction.rejected"]


def test_a_duplicate_answer_to_an_order_that_a_proxy_delivered_twice_is_true(clock, exchange, pipeline):
    from hireliab.errors import DuplicateOrderError

    def twice(order):
        exchange._accept(order, "fill")
        raise DuplicateOrderError("duplicate", code="DuplicateOrder")

    exchange.script.append(twice)
    result = finish(clock, pipeline, market(pipeline))
    assert bool(result) is True
    assert exchange.sends() == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt("ctrl-c"), SystemExit(1), RuntimeError("a bug"), MemoryError()])
def test_any_exception_while_sending_is_ambiguous(clock, exchange, pipeline, error):
    def explode(order):
        exchange._accept(order, "fill")
        raise error

    exchange.script.append(explode)
    result = finish(clock, pipeline, market(pipeline))
    assert bool(result) is True
    assert exchange.sends() == 1


def test_executing_twice_joins_the_first(clock, exchange, pipeline):
    transaction = market(pipeline)
    first, second = pipeline.submit(transaction), pipeline.submit(transaction)
    clock.advance_until(lambda: first.done)
    assert first.result().order_id == second.result().order_id
    assert exchange.sends() == 1


def test_one_key_and_order_is_one_transaction(clock, exchange, pipeline):
    first = market(pipeline, idempotency_key="signal-1")
    assert market(pipeline, idempotency_key="signal-1") is first
    assert bool(finish(clock, pipeline, first)) is True
    again = market(pipeline, idempotency_key="signal-1")
    assert again.id == first.id
    assert bool(finish(clock, pipeline, again)) is True
    assert exchange.sends() == 1


def test_one_key_and_another_order_is_a_conflict(clock, exchange, pipeline):
    finish(clock, pipeline, market(pipeline, idempotency_key="signal-1"))
    with pytest.raises(IdempotencyConflictError, match="signal-1"):
        market(pipeline, idempotency_key="signal-1", amount="0.6")
    assert exchange.sends() == 1


def test_a_key_is_free_again_when_nothing_was_ever_sent(clock, exchange, pipeline):
    from hireliab.errors import CircuitOpenError

    exchange.prepare, prepare = None, exchange.prepare

    def refuse(order):
        raise CircuitOpenError(name="placing")

    exchange.prepare = refuse
    first = market(pipeline, idempotency_key="signal-1")
    result = finish(clock, pipeline, first)
    assert bool(result) is False
    assert result.verdict is Verdict.NOT_SENT
    exchange.prepare = prepare
    second = market(pipeline, idempotency_key="signal-1")
    assert second.id != first.id
    assert bool(finish(clock, pipeline, second)) is True


def test_a_key_is_free_again_when_every_send_was_proven_not_to_have_left(clock, exchange, make):
    pipeline = make(max_retries=0)
    exchange.script.append("not_sent")
    first = market(pipeline, idempotency_key="signal-1")
    assert finish(clock, pipeline, first).verdict is Verdict.NOT_SENT
    second = market(pipeline, idempotency_key="signal-1")
    assert second.id != first.id
    assert bool(finish(clock, pipeline, second)) is True


def test_a_key_is_kept_by_an_order_that_the_venue_refused(clock, exchange, pipeline):
    exchange.script.append("reject")
    first = market(pipeline, idempotency_key="signal-1")
    assert finish(clock, pipeline, first).verdict is Verdict.REJECTED
    assert market(pipeline, idempotency_key="signal-1").id == first.id


def test_a_stop_that_ctrl_c_interrupts_can_be_done_again(clock, pipeline, monkeypatch):
    from hireliab.exchange import transaction_verification

    pipeline.start()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transaction_verification, "join_all", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pipeline.stop()
    assert pipeline.stop() == ()
    assert "stopped" in repr(pipeline)


def test_an_invalid_order_is_refused_before_anything_is_sent(clock, exchange, pipeline):
    with pytest.raises(InvalidOrderError, match="NO/SUCH"):
        market(pipeline, symbol="NO/SUCH")

    def refuse(order):
        raise InvalidOrderError("amount: below the minimum", by="hireliab")

    exchange.prepare = refuse
    result = finish(clock, pipeline, market(pipeline))
    assert result.verdict is Verdict.DENIED
    with pytest.raises(InvalidOrderError, match="minimum"):
        bool(result)
    assert exchange.sends() == 0


@pytest.mark.parametrize(
    "amount", [0, -1, "0", float("nan"), float("inf"), "1_000", "۱۲", "", None, True, "1e400", "0E-10"]
)
def test_a_bad_amount_names_the_field(pipeline, amount):
    with pytest.raises(InvalidOrderError, match="^amount: "):
        market(pipeline, amount=amount)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"type": "market_buyy"}, "market_buy"),
        ({"exchange": "binance"}, "scripted"),
        ({"on_partial": "ignore"}, "on_partial"),
        ({"commit": "someday"}, "commit"),
        ({"idempotency_key": ""}, "idempotency_key"),
    ],
)
def test_a_wrong_word_is_a_config_error_that_names_it(pipeline, exchange, wrong, named):
    with pytest.raises(ConfigError, match=named):
        market(pipeline, **wrong)
    assert exchange.sends() == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"verification_timeout": -1},
        {"verification_timeout": float("nan")},
        {"max_retries": 1.5},
        {"max_retries": -1},
        {"verification_timout": 3},
        {"name": "../up"},
        {"max_running": 0},
    ],
)
def test_bad_settings_are_config_errors(make, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        make(**settings)


def test_a_resting_order_is_followed_until_it_closes(clock, exchange, pipeline, events):
    transaction = limit(pipeline)
    result = finish(clock, pipeline, transaction)
    exchange.change(result.order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
    clock.advance_until(lambda: transaction.record.filled == Decimal("0.5"))
    assert transaction.state is State.COMPLETED
    assert events.topics(2) == ["transaction.completed", "order.filled"]


def test_a_cancel_is_verified_and_closes_the_parents_order(clock, exchange, pipeline):
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    result = pipeline.cancel(transaction.id)
    assert (result.verdict, bool(result)) == (Verdict.CANCELLED, True)
    assert transaction.record.order_status == "Canceled"
    assert transaction.state is State.COMPLETED


def test_a_cancel_that_comes_too_late_says_that_the_order_was_filled(clock, exchange, pipeline):
    transaction = limit(pipeline)
    order_id = finish(clock, pipeline, transaction).order_id
    exchange.change(order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
    result = pipeline.cancel(transaction.id)
    assert (result.verdict, bool(result)) == (Verdict.COMPLETED, False)
    assert transaction.record.filled == Decimal("0.5")


def test_a_cancel_of_nothing_is_refused(clock, exchange, pipeline):
    exchange.script.append("reject")
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    with pytest.raises(InvalidOrderError, match="nothing|no order"):
        pipeline.cancel(transaction.id)
    with pytest.raises(InvalidOrderError, match="unknown"):
        pipeline.cancel("nonsense")


def test_client_order_ids_fit_the_venue(pipeline, clock):
    import re

    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    assert re.fullmatch(r"[a-z2-7]{5}-[0-9A-Z]{26}", transaction.client_order_id)
    assert transaction.client_order_id.endswith(transaction.id)


def test_transactions_are_listed_by_status(clock, exchange, pipeline):
    done = market(pipeline)
    finish(clock, pipeline, done)
    exchange.script.append("request_lost")
    lost = market(pipeline)
    finish(clock, pipeline, lost)
    assert [t.id for t in pipeline.transactions(status="completed")] == [done.id]
    assert [t.id for t in pipeline.transactions(status="unknown")] == [lost.id]
    assert [t.id for t in pipeline.unresolved()] == [lost.id]
    assert pipeline.get(done.id).result().verdict is Verdict.COMPLETED
    assert pipeline.get("nonsense") is None


def test_a_gated_symbol_denies_after_the_verification_timeout(clock, exchange, make):
    first = make()
    exchange.script.append("request_lost")
    transaction = market(first)
    handle = first.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.RESOLVING)
    first.stop()
    assert handle.result().verdict is Verdict.UNKNOWN
    exchange.blind = ConnectionError("still down")
    second = make()
    report = second.start()
    assert report.undecided == (transaction.id,)
    assert report.gated == ("BTC/USDT",)
    result = finish(clock, second, market(second))
    with pytest.raises(TransactionDeniedError, match="before the restart"):
        bool(result)
    other = market(second, symbol="ETH/USDT")
    exchange.blind = None
    assert bool(finish(clock, second, other)) is True
    clock.advance_until(lambda: not second.unresolved(), limit=600)
    assert bool(finish(clock, second, market(second))) is True
    assert exchange.sends() == 3


@pytest.mark.parametrize("broken", ["list_orders_since", "list_fills_since"])
def test_absence_takes_both_listings(clock, exchange, make, broken):
    from hireliab.exchange.adapter import Unavailable

    pipeline = make(late_arrival_bound=0.0)
    exchange.script.append("request_lost")
    setattr(exchange, broken, lambda _: Unavailable(ConnectionError("only this one is down")))
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    with pytest.raises(AssertionError, match="not reached"):
        decide(clock, transaction, limit=1000.0)
    delattr(exchange, broken)
    assert decide(clock, transaction).verdict is Verdict.ABSENT


def test_fills_are_listed_when_asked_for_and_kept(clock, exchange, pipeline):
    transaction = market(pipeline)
    assert finish(clock, pipeline, transaction).fills == ()
    fills = pipeline.fills(transaction.id)
    assert [(fill.order_id, fill.amount) for fill in fills] == [(transaction.record.order_id, Decimal("0.5"))]
    assert pipeline.get(transaction.id).result().fills == fills
    exchange.blind = ConnectionError("down")
    assert pipeline.fills(transaction.id) == fills
    with pytest.raises(InvalidOrderError, match="unknown"):
        pipeline.fills("nonsense")


def test_a_listing_that_lags_does_not_stop_an_order_from_being_followed(clock, exchange, pipeline):
    transaction = limit(pipeline)
    order_id = finish(clock, pipeline, transaction).order_id
    listing = exchange.list_orders_since

    def lagging(since):
        import dataclasses

        found = listing(since)
        old = [dataclasses.replace(o, status=OrderStatus.NEW, raw_status="New") for o in found.orders]
        return dataclasses.replace(found, orders=tuple(old))

    exchange.list_orders_since = lagging
    clock.advance_until(lambda: len([c for c in exchange.calls if c[0] == "list_orders_since"]) >= 2)
    assert transaction.record.order_status == "Active"
    exchange.list_orders_since = listing
    exchange.change(order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
    clock.advance_until(lambda: transaction.record.order_status == "Done")


def test_what_was_learnt_of_client_ids_in_listings_survives_a_restart(clock, exchange, make):
    first = make()
    exchange.note_listing_shows_client_id(False)
    finish(clock, first, market(first))
    exchange.script.append("fill_answer_lost")
    finish(clock, first, market(first))
    first.stop()
    exchange.note_listing_shows_client_id(None)
    make().start()
    assert exchange.capabilities.listing_shows_client_id is False


@pytest.mark.parametrize("executed", [True, False])
def test_no_money_after_a_throttled_attempt_is_looked_into(clock, exchange, pipeline, executed):
    """The throttle may have been a proxy's, after the order was executed: then our own order holds the money."""

    def throttle(order):
        if executed:
            exchange._accept(order, "fill")
        raise ThrottledError("slow down", retry_after=1.0)

    def no_money(order):
        raise InsufficientFundsError("no money", code="OverValueOrder")

    exchange.script.extend([throttle, no_money])
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    result = decide(clock, transaction)
    assert result.verdict is (Verdict.COMPLETED if executed else Verdict.ABSENT)  # presumed, and watched


def test_an_order_whose_machine_slept_before_the_first_byte_is_prepared_again(clock, exchange, pipeline):
    prepare, prices = exchange.prepare, []

    def sleepy(order):
        prepared = prepare(order)
        submit = prepared.submit

        def after_sleep(before_send):
            if len(prices) == 1:
                clock.step_wall(3600.0)  # the monotonic clock stands still while a machine sleeps
            return submit(before_send)

        prices.append(prepared.order.price)
        prepared.submit = after_sleep
        exchange.last_price += 1
        return prepared

    exchange.prepare = sleepy
    result = finish(clock, pipeline, market(pipeline))
    assert (result.verdict, result.attempts, exchange.sends()) == (Verdict.COMPLETED, 2, 1)
    assert prices[1] == prices[0] + 1
