"""What refuses an order before a byte is sent: the halt, the limits, and an equal order that is not decided."""

import dataclasses
import threading
from decimal import Decimal

import pytest

from hireliab.errors import ConfigError, TransactionDeniedError
from hireliab.exchange.adapter import Unavailable
from hireliab.exchange.transaction import Proof, State, Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.testing import ScriptedExchange
from tests.support.pipeline import decide, finish, limit, market


def denied(result):
    with pytest.raises(TransactionDeniedError) as caught:
        bool(result)
    assert result.verdict is Verdict.DENIED
    return caught.value


# -- halt -------------------------------------------------------------------------------------------------------------


def test_a_halt_stops_the_next_order_and_names_who_and_why(clock, exchange, pipeline, alerts):
    pipeline.halt("prices look wrong", who="sara")
    error = denied(finish(clock, pipeline, market(pipeline)))
    assert error.reason == "halted"
    assert "prices look wrong" in str(error) and "sara" in str(error)
    assert (exchange.sends(), [call for call in exchange.calls if call[0] == "prepare"]) == (0, [])
    assert [alert["level"] for alert in alerts if "halted" in alert["title"]] == ["critical"]


def test_a_halt_survives_a_restart_and_ends_with_unhalt(clock, exchange, make):
    first = make()
    first.halt("stop", who="sara")
    first.stop()
    second = make()
    denied(finish(clock, second, market(second)))
    assert (second.halted.mode, second.halted.who) == ("HALTED", "sara")
    assert second.unhalt(who="sara") is True
    assert second.unhalt(who="sara") is False
    assert second.halted is None
    assert finish(clock, second, market(second)).verdict is Verdict.COMPLETED


def test_a_halt_that_comes_between_barrier_and_first_byte_stops_the_order(clock, exchange, pipeline):
    prepare = exchange.prepare

    def slow(order):
        prepared = prepare(order)
        submit = prepared.submit

        def halted(before_send):
            pipeline.halt("just now", who="sara")
            return submit(before_send)

        prepared.submit = halted
        return prepared

    exchange.prepare = slow
    transaction = market(pipeline, idempotency_key="k")
    result = finish(clock, pipeline, transaction)
    assert denied(result).reason == "halted"
    assert (transaction.state, result.proof, result.attempts, exchange.sends()) == (State.FAILED, Proof.DENIED, 1, 0)
    pipeline.unhalt(who="sara")
    exchange.prepare = prepare
    again = market(pipeline, idempotency_key="k")
    assert again.id != transaction.id  # nothing was sent, so the key is free
    assert finish(clock, pipeline, again).verdict is Verdict.COMPLETED


def test_cancels_and_look_ups_go_on_during_a_halt(clock, exchange, pipeline):
    transaction = limit(pipeline)
    assert finish(clock, pipeline, transaction).verdict is Verdict.COMPLETED
    pipeline.halt("stop", who="sara")
    assert pipeline.cancel(transaction.id).verdict is Verdict.CANCELLED


def test_reducing_lets_sells_go_and_stops_buys(clock, exchange, pipeline):
    pipeline.halt("too much of it", who="sara", mode="REDUCING")
    assert denied(finish(clock, pipeline, market(pipeline))).reason == "reducing"
    assert finish(clock, pipeline, market(pipeline, type="market_sell")).verdict is Verdict.COMPLETED


def test_a_file_that_another_process_wrote_halts(clock, pipeline, tmp_path):
    pipeline.start()
    (tmp_path / "journal" / "HALT").write_text("whatever")
    assert denied(finish(clock, pipeline, market(pipeline))).reason == "halted"


def test_a_mode_that_is_none_is_refused(pipeline):
    with pytest.raises(ConfigError, match="mode"):
        pipeline.halt("x", who="sara", mode="PAUSED")


# -- limits -----------------------------------------------------------------------------------------------------------


def test_an_order_worth_more_than_max_notional_is_denied_and_its_permits_are_given_back(clock, exchange, make):
    pipeline = make(max_notional={"usdt": 49})
    abandoned = []
    prepare = exchange.prepare

    def noting(order):
        prepared = prepare(order)
        prepared.abandon = lambda: abandoned.append(order)
        return prepared

    exchange.prepare = noting
    error = denied(finish(clock, pipeline, limit(pipeline)))  # 0.5 at 100
    assert error.reason == "max_notional"
    assert "50 USDT" in str(error) and "49" in str(error)
    assert (len(abandoned), exchange.sends()) == (1, 0)
    assert finish(clock, pipeline, limit(pipeline, amount="0.49")).verdict is Verdict.COMPLETED


def test_max_notional_judges_a_market_order_by_the_price_that_it_would_carry(clock, exchange, make):
    pipeline = make(max_notional={"USDT": 49})
    exchange.last_price = Decimal(99)
    assert denied(finish(clock, pipeline, market(pipeline))).reason == "max_notional"
    exchange.last_price = Decimal(98)
    assert finish(clock, pipeline, market(pipeline)).verdict is Verdict.COMPLETED


def test_another_quote_currency_has_no_limit(clock, make):
    pipeline = make(max_notional={"IRT": 1})
    assert finish(clock, pipeline, limit(pipeline)).verdict is Verdict.COMPLETED


def test_a_price_outside_the_collar_is_denied_and_at_its_edge_it_is_not(clock, exchange, make):
    pipeline = make(price_collar=0.05)
    for price in ("105.01", "94.99"):
        assert denied(finish(clock, pipeline, limit(pipeline, price=price))).reason == "price_collar"
    for price in ("105", "95"):
        assert finish(clock, pipeline, limit(pipeline, price=price)).verdict is Verdict.COMPLETED


def test_without_a_fresh_price_the_collar_denies(clock, exchange, make):
    pipeline = make(price_collar=0.05)
    exchange.reference_price = lambda symbol: Unavailable(ConnectionError("cut"))
    assert denied(finish(clock, pipeline, limit(pipeline))).reason == "price_collar"


def test_a_stop_order_is_far_away_on_purpose(clock, exchange, make):
    pipeline = make(price_collar=0.05)
    stop = pipeline.create_transaction(
        type="stop_limit_sell", symbol="BTC/USDT", amount="0.5", price="50", stop_price="51"
    )
    assert finish(clock, pipeline, stop).verdict is Verdict.COMPLETED


def test_a_collar_needs_an_adapter_that_knows_prices(clock, exchange, tmp_path):
    class Priceless(ScriptedExchange):
        reference_price = property()

    with pytest.raises(ConfigError, match="price_collar"):
        TransactionVerificationPipeline(
            exchange_adapter=Priceless(clock=clock), clock=clock, journal=tmp_path / "j", price_collar=0.1
        )


def test_orders_per_minute_is_a_limit_of_any_sixty_seconds_and_counts_over_restarts(clock, exchange, make):
    first = make(orders_per_minute=2)
    for amount in ("0.1", "0.2"):
        assert finish(clock, first, market(first, amount=amount)).verdict is Verdict.COMPLETED
    assert denied(finish(clock, first, market(first, amount="0.3"))).reason == "orders_per_minute"
    first.stop()
    second = make(orders_per_minute=2)
    assert denied(finish(clock, second, market(second, amount="0.3"))).reason == "orders_per_minute"
    clock.advance(60.0)
    assert finish(clock, second, market(second, amount="0.3")).verdict is Verdict.COMPLETED


@pytest.mark.parametrize(
    "bad",
    [
        {"max_notional": 5},
        {"max_notional": {"USDT": 0}},
        {"max_notional": {"USDT": "much"}},
        {"price_collar": 0},
        {"price_collar": "5 %"},
        {"orders_per_minute": 0},
        {"orders_per_minute": 2.5},
        {"duplicate_guard": "false"},
        {"operator_interval": 0},
    ],
)
def test_a_limit_that_is_none_is_refused_by_name(make, bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        make(**bad)


# -- siblings ---------------------------------------------------------------------------------------------------------


def test_an_order_that_equals_one_that_is_not_decided_is_denied(clock, exchange, make):
    pipeline = make(verification_timeout=1.0)
    exchange.script.append("fill_answer_lost")
    exchange.blind = ConnectionError("cut")
    lost = market(pipeline)
    assert finish(clock, pipeline, lost).verdict is Verdict.UNKNOWN
    error = denied(finish(clock, pipeline, market(pipeline)))
    assert error.reason == "sibling"
    assert lost.id in str(error)
    assert finish(clock, pipeline, market(pipeline, amount="0.6")).error is None  # another amount is another order
    assert exchange.sends() == 2
    exchange.blind = None
    assert decide(clock, lost).verdict is Verdict.COMPLETED
    assert finish(clock, pipeline, market(pipeline)).verdict is Verdict.COMPLETED


def test_the_guard_holds_over_a_restart(clock, exchange, make):
    first = make(verification_timeout=1.0)
    exchange.script.append("fill_answer_lost")
    exchange.blind = ConnectionError("cut")
    lost = market(first)
    finish(clock, first, lost)
    first.stop()
    second = make(verification_timeout=1.0)
    second.start()
    second._gate.release(lost.id)  # the gate would wait for it, too
    assert denied(finish(clock, second, market(second))).reason == "sibling"


def test_the_guard_can_be_switched_off(clock, exchange, make):
    pipeline = make(verification_timeout=1.0, duplicate_guard=False)
    exchange.script.append("fill_answer_lost")
    exchange.blind = ConnectionError("cut")
    finish(clock, pipeline, market(pipeline))
    finish(clock, pipeline, market(pipeline))
    assert exchange.sends() == 2


def test_equal_orders_go_one_after_the_other_where_the_exchange_hides_client_ids(clock, exchange, make):
    pipeline = make()
    exchange.capabilities = dataclasses.replace(exchange.capabilities, listing_shows_client_id=False)
    inside, most, lock = [], [], threading.Lock()
    place = exchange.place

    def slow(order):
        with lock:
            inside.append(order)
            most.append(len(inside))
        state = place(order)
        threading.Event().wait(0.005)
        with lock:
            inside.remove(order)
        return state

    exchange.place = slow
    handles = [pipeline.submit(market(pipeline)) for _ in range(4)]
    clock.advance_until(lambda: all(handle.done for handle in handles))
    assert [handle.result().verdict for handle in handles] == [Verdict.COMPLETED] * 4
    assert (max(most), exchange.sends()) == (1, 4)


def test_different_orders_do_not_wait_for_each_other_there(clock, exchange, make):
    pipeline = make()
    exchange.capabilities = dataclasses.replace(exchange.capabilities, listing_shows_client_id=False)
    both = threading.Barrier(2, timeout=10.0)
    place = exchange.place

    def meeting(order):
        both.wait()
        return place(order)

    exchange.place = meeting
    handles = [pipeline.submit(market(pipeline, amount=amount)) for amount in ("0.1", "0.2")]
    clock.advance_until(lambda: all(handle.done for handle in handles))
    assert [handle.result().verdict for handle in handles] == [Verdict.COMPLETED] * 2
