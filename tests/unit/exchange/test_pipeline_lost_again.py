"""Orders that were found, or seemed to be, and are lost again: what was read before proves nothing about them now."""

import dataclasses
from decimal import Decimal

import pytest

from hireliab.errors import ResponseTimeoutError
from hireliab.exchange.adapter import Absent, FillListing, OrderStatus
from hireliab.exchange.transaction import Proof, Verdict
from tests.support.pipeline import decide, finish, limit, market


def pass_time(clock, seconds):
    end = clock.monotonic() + seconds
    clock.advance_until(lambda: clock.monotonic() >= end, limit=seconds + 60.0)


# The answers of two equal orders are swapped, neither names a client order id, and no read works until the caller was
# told "unknown": the id that was given is another's, which only a listing can mend.
@pytest.mark.parametrize("seen", ["Done", "New"])
def test_an_unknown_order_that_was_given_anothers_id_is_looked_for_in_listings(clock, exchange, make, seen):
    pipeline = make(verification_timeout=5.0)
    wanted = limit(pipeline, commit="filled")
    placed = []

    def swapped(order):
        own = exchange._accept(order, "fill")
        other = exchange._accept(dataclasses.replace(order, client_order_id="somebody-else"), "new")
        exchange.change(other.order_id, status=OrderStatus(seen), filled=Decimal("0.5" if seen == "Done" else 0))
        placed.append(own.order_id)
        exchange.blind = ResponseTimeoutError("down")
        return dataclasses.replace(exchange.orders[other.order_id], client_order_id=None)

    exchange.script.append(swapped)
    assert finish(clock, pipeline, wanted).verdict is Verdict.UNKNOWN
    exchange.blind = None
    result = decide(clock, wanted, limit=600.0)
    assert (result.verdict, result.order_id) == (Verdict.COMPLETED, placed[0])


def test_negatives_from_before_an_order_was_found_do_not_count_when_it_is_lost_again(clock, exchange, make):
    pipeline = make(verification_timeout=5.0, late_arrival_bound=0.0, visibility_window=1.0)
    finish(clock, pipeline, market(pipeline))
    listings = []
    look, history = exchange.find_by_client_id, exchange.list_orders_since

    def list_orders_since(order_id):
        listings.append(clock.monotonic())
        return history(order_id)

    exchange.list_orders_since = list_orders_since
    exchange.find_by_client_id = lambda client_id: look(client_id) if len(listings) >= 2 else Absent("lag")

    def lost(order):
        state = exchange._accept(order, "rest")
        exchange.hidden.add(state.order_id)  # listings of a replica that lags do not show it
        raise ResponseTimeoutError("the answer was lost")

    exchange.script.append(lost)
    wanted = limit(pipeline, commit="filled")
    pipeline.submit(wanted)
    clock.advance_until(lambda: wanted.record.order_id is not None, limit=120.0)
    assert len(listings) == 2
    del exchange.orders[wanted.record.order_id]  # and then the exchange forgets it for good
    finish(clock, pipeline, market(pipeline))  # a newer order, which listings show
    decide(clock, wanted, limit=600.0)
    assert wanted.record.proof is Proof.ABSENT
    assert len(listings) >= 5


def test_an_order_of_which_a_part_was_filled_is_never_presumed_absent(clock, exchange, make, alerts):
    pipeline = make(verification_timeout=5.0, late_arrival_bound=0.0, visibility_window=1.0)
    wanted = limit(pipeline, commit="filled")
    pipeline.submit(wanted)
    clock.advance_until(lambda: bool(exchange.orders), limit=10.0)
    (order_id,) = exchange.orders
    exchange.change(order_id, filled=Decimal("0.2"))
    clock.advance_until(lambda: wanted.record.filled == Decimal("0.2"), limit=60.0)
    exchange.orders.clear()
    exchange.list_fills_since = lambda since: FillListing(fills=(), since=since, started=clock.monotonic())
    finish(clock, pipeline, market(pipeline))
    pass_time(clock, 600.0)
    assert not wanted.state.is_terminal
    assert wanted.record.needs_human
    assert [a["title"] for a in alerts if a["level"] == "critical"] == ["limit buy BTC/USDT: needs a person"]


# The bot was away for a week, the exchange keeps fills for three days, and has dropped the closed order from its list.
def test_an_order_older_than_the_fills_that_are_listed_is_never_presumed_absent(clock, exchange, make, alerts):
    pipeline = make(verification_timeout=5.0, late_arrival_bound=0.0, visibility_window=1.0)
    exchange.script.append("fill_answer_lost")
    exchange.blind = ResponseTimeoutError("down")
    lost = market(pipeline)
    assert finish(clock, pipeline, lost).verdict is Verdict.UNKNOWN
    pipeline.stop()
    clock.advance(7 * 86400.0)
    exchange.orders.clear()
    exchange.blind = None
    exchange.list_fills_since = lambda since: FillListing(
        fills=(), since=max(since, clock.time() - 3 * 86400.0), started=clock.monotonic()
    )
    again = make(verification_timeout=5.0, late_arrival_bound=0.0, visibility_window=1.0)
    again.start()
    pass_time(clock, 1800.0)
    found = again.get(lost.id)
    assert not found.state.is_terminal
    assert found.record.needs_human
    assert "needs a person" in [a["title"] for a in alerts if a["level"] == "critical"][-1]
    assert finish(clock, again, market(again, amount="0.6")).verdict is Verdict.COMPLETED  # others need not wait
