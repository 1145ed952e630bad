"""What only a person may decide, and the orders that a journal does not know."""

from decimal import Decimal

import pytest

from hireliab.errors import ConfigError, InvalidOrderError, PartialFillError
from hireliab.exchange.adapter import Order, OrderStatus
from hireliab.exchange.transaction import Proof, State, Verdict
from tests.support.pipeline import decide, finish, limit, market
from tests.support.together import together


@pytest.fixture
def lost(clock, exchange, make):
    """A pipeline and a transaction that only a person can decide: filled, and the exchange hides whose it is."""
    pipeline = make(verification_timeout=5.0)
    exchange.null_client_ids = True
    exchange.script.append("fill_answer_lost")
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    clock.advance_until(lambda: transaction.record.needs_human)
    return pipeline, transaction


WORD = {"evidence": "seen in the order history", "who": "sara"}


def test_a_person_names_the_order_and_its_facts_are_read_from_the_exchange(exchange, lost):
    pipeline, transaction = lost
    (order,) = exchange.orders
    result = pipeline.resolve(transaction.id, "completed", order_id=order, **WORD)
    assert (result.verdict, result.proof, result.order_id) == (Verdict.COMPLETED, Proof.OPERATOR, order)
    assert (result.filled, bool(result)) == (Decimal("0.5"), True)
    assert "sara" in result.reason and "order history" in result.reason
    assert not pipeline.unresolved()


def test_the_word_is_durable_and_has_the_name_in_the_log(clock, exchange, lost, make):
    pipeline, transaction = lost
    pipeline.resolve(transaction.id, "failed", **WORD)
    pipeline.stop()
    again = make()
    found = again.get(transaction.id)
    assert (found.state, found.record.proof, found.record.reason) == (
        State.FAILED,
        Proof.OPERATOR,
        "sara: seen in the order history",
    )
    assert bool(found.result()) is False


def test_a_person_may_say_how_much_was_filled(lost):
    pipeline, transaction = lost
    result = pipeline.resolve(transaction.id, "completed", filled="0.2", **WORD)
    assert result.verdict is Verdict.PARTIAL
    with pytest.raises(PartialFillError):
        bool(result)


def test_cancelled_is_rolled_back(lost):
    pipeline, transaction = lost
    assert bool(pipeline.resolve(transaction.id, "cancelled", **WORD)) is False
    assert transaction.state is State.ROLLED_BACK


@pytest.mark.parametrize(
    "given",
    [
        {"as_": "done"},
        {"as_": "failed", "evidence": ""},
        {"as_": "failed", "who": ""},
        {"as_": "failed", "order_id": "3000000001"},
        {"as_": "cancelled", "filled": "0.1"},
        {"as_": "completed", "filled": "0.6"},
        {"as_": "completed", "filled": "0"},
        {"as_": "completed", "order_id": "1"},
        {"as_": "completed", "order_id": "3000000001", "filled": "0.4"},
    ],
)
def test_a_word_that_makes_no_sense_changes_nothing(lost, given):
    pipeline, transaction = lost
    before = transaction.record
    with pytest.raises((ConfigError, InvalidOrderError)):
        pipeline.resolve(transaction.id, **{**WORD, **given})
    assert transaction.record.state is before.state


def test_a_foreign_or_different_order_cannot_be_named(clock, exchange, lost):
    pipeline, transaction = lost
    other = exchange._accept(
        Order(symbol="BTC/USDT", side="buy", type="market", amount=Decimal("0.7"), client_order_id="abc-1"), "fill"
    )
    with pytest.raises(InvalidOrderError, match="another order"):
        pipeline.resolve(transaction.id, "completed", order_id=other.order_id, **WORD)
    ours = market(pipeline, amount="0.6")
    finish(clock, pipeline, ours)
    with pytest.raises(InvalidOrderError, match="belongs to another transaction"):
        pipeline.resolve(transaction.id, "completed", order_id=ours.result().order_id, **WORD)


def test_what_is_decided_cannot_be_decided_again(clock, pipeline):
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    with pytest.raises(InvalidOrderError, match="COMPLETED"):
        pipeline.resolve(transaction.id, "failed", **WORD)
    with pytest.raises(InvalidOrderError, match="unknown"):
        pipeline.resolve("NOBODY", "failed", **WORD)


def test_of_two_people_who_decide_at_once_one_wins(lost):
    pipeline, transaction = lost

    def say(word):
        try:
            return pipeline.resolve(transaction.id, word, **WORD).verdict
        except InvalidOrderError:
            return None

    said = together(2, lambda i: say(("failed", "cancelled")[i]))
    assert said.count(None) == 1
    versions = [entry for entry in transaction.result().timeline if entry[1] in ("FAILED", "ROLLED_BACK")]
    assert len(versions) == 1


def test_a_row_from_before_the_restart_can_be_resolved_before_anybody_called_it_unknown(clock, exchange, lost, make):
    pipeline, transaction = lost
    pipeline.stop()
    exchange.blind = ConnectionError("cut")
    again = make()
    again.start()
    assert bool(again.resolve(transaction.id, "failed", **WORD)) is False


# -- orphans ----------------------------------------------------------------------------------------------------------


def orphan(exchange, pipeline, word="rest", txn_id="01KORPHAN00000000000000000"):
    pipeline.start()
    prefix = pipeline._bind_account()
    order = Order(
        symbol="BTC/USDT",
        side="buy",
        type="limit",
        amount=Decimal("0.5"),
        price=Decimal(100),
        client_order_id=f"{prefix}-{txn_id}",
    )
    return exchange._accept(order, word)


@pytest.mark.parametrize("as_", ["failed", "cancelled"])
def test_a_person_may_not_say_unfilled_of_what_the_exchange_showed_filled(clock, exchange, make, as_):
    pipeline = make(verification_timeout=5.0)
    transaction = limit(pipeline, commit="filled")
    pipeline.submit(transaction)
    clock.advance_until(lambda: bool(exchange.orders))
    (order_id,) = exchange.orders
    exchange.change(order_id, filled=Decimal("0.2"))
    clock.advance_until(lambda: transaction.record.filled == Decimal("0.2"))
    exchange.orders.clear()  # it is forgotten now
    with pytest.raises(InvalidOrderError, match="showed 0.2 of it filled"):
        pipeline.resolve(transaction.id, as_, **WORD)
    assert not transaction.state.is_terminal


def test_a_restored_journal_finds_the_orders_that_it_does_not_know(clock, exchange, make, alerts):
    first = make()
    finish(clock, first, market(first))
    strange = orphan(exchange, first)
    foreign = exchange._accept(
        Order(
            symbol="BTC/USDT", side="buy", type="limit", amount=Decimal(1), price=Decimal(100), client_order_id="me-1"
        ),
        "rest",
    )
    first.stop()
    alerts.clear()
    second = make()
    second.start()
    clock.advance_until(lambda: any("not in the journal" in alert["title"] for alert in alerts))
    assert second.orphans() == (strange.order_id,)
    told = [alert for alert in alerts if "not in the journal" in alert["title"]]
    assert [alert["level"] for alert in told] == ["critical"]
    assert strange.order_id in told[0]["message"] and foreign.order_id not in str(alerts)
    assert second.unresolved() == []  # nothing is adopted without a word


def test_a_lost_journal_finds_what_still_rests_in_the_book(clock, exchange, make, tmp_path):
    first = make()
    transaction = limit(first)
    finish(clock, first, transaction)
    first.stop()
    again = make(journal=tmp_path / "new")
    again.start()
    clock.advance_until(lambda: bool(again.orphans()))
    assert again.orphans() == (transaction.result().order_id,)


def test_an_orphan_is_told_once_also_after_a_restart(clock, exchange, make, alerts):
    first = make()
    finish(clock, first, market(first))
    orphan(exchange, first)
    assert len(first.sweep_orphans()) == 1
    assert len(first.sweep_orphans()) == 1
    first.stop()
    make().start()
    assert len([alert for alert in alerts if "not in the journal" in alert["title"]]) == 1


def test_the_sweep_knows_its_own_orders(clock, exchange, pipeline):
    for word in ("fill", "rest", "fill_answer_lost"):
        exchange.script.append(word)
        transaction = limit(pipeline, price=str(100 + len(exchange.orders)))
        finish(clock, pipeline, transaction)
        decide(clock, transaction)
    assert pipeline.sweep_orphans() == ()


def test_an_adopted_order_that_rests_is_followed_until_it_fills(clock, exchange, pipeline):
    strange = orphan(exchange, pipeline)
    pipeline.sweep_orphans()
    transaction = pipeline.adopt(strange.order_id, who="sara")
    assert (transaction.state, transaction.record.proof) == (State.COMPLETED, Proof.LIVE)
    assert transaction.client_order_id == strange.client_order_id
    assert pipeline.orphans() == ()
    exchange.change(strange.order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
    clock.advance_until(lambda: transaction.record.filled == Decimal("0.5"), limit=100.0)
    assert pipeline.get(transaction.id).record.order_status == "Done"


@pytest.mark.parametrize(
    ("word", "state", "proof"),
    [
        ("fill", State.COMPLETED, Proof.FILLED),
        ("partial", State.COMPLETED, Proof.PARTIAL),
        ("unfilled", State.FAILED, Proof.CLOSED_UNFILLED),
        ("rejected_later", State.FAILED, Proof.REJECTED),
    ],
)
def test_an_adopted_order_that_is_closed_has_its_true_verdict(exchange, pipeline, word, state, proof):
    strange = orphan(exchange, pipeline, word)
    transaction = pipeline.adopt(strange.order_id, who="sara")
    assert (transaction.state, transaction.record.proof) == (state, proof)


def test_an_adopted_order_that_is_not_live_yet_is_looked_after(clock, exchange, pipeline):
    strange = orphan(exchange, pipeline, "new")
    transaction = pipeline.adopt(strange.order_id, who="sara")
    assert transaction.state is State.WORKING
    exchange.change(strange.order_id, status=OrderStatus.ACTIVE)
    assert decide(clock, transaction).proof is Proof.LIVE


def test_a_foreign_order_and_one_that_is_known_are_not_adopted(clock, exchange, pipeline):
    foreign = exchange._accept(
        Order(
            symbol="BTC/USDT", side="buy", type="limit", amount=Decimal(1), price=Decimal(100), client_order_id="me-1"
        ),
        "rest",
    )
    with pytest.raises(InvalidOrderError, match="only an order of this pipeline's"):
        pipeline.adopt(foreign.order_id, who="sara")
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    with pytest.raises(InvalidOrderError, match="already"):
        pipeline.adopt(transaction.result().order_id, who="sara")
    with pytest.raises(InvalidOrderError, match="does not know"):
        pipeline.adopt("1", who="sara")


def test_an_order_that_appears_after_it_was_presumed_absent_is_told_with_its_equal(clock, exchange, make, alerts):
    pipeline = make(late_arrival_bound=1.0, duplicate_guard=True)
    exchange.script.append("request_lost")
    first = market(pipeline)
    finish(clock, pipeline, first)
    assert decide(clock, first).verdict is Verdict.ABSENT
    second = market(pipeline)
    assert finish(clock, pipeline, second).verdict is Verdict.COMPLETED  # absence was decided, so it may be asked again
    exchange._accept(first.record.order, "fill")
    clock.advance_until(lambda: first.record.proof is Proof.FILLED, limit=90_000.0)
    told = [alert for alert in alerts if "resurrected" in alert["title"]]
    assert [alert["level"] for alert in told] == ["critical"]
    assert second.id in told[0]["message"]


def test_executing_an_adopted_order_sends_nothing(exchange, pipeline):
    strange = orphan(exchange, pipeline)
    transaction = pipeline.adopt(strange.order_id, who="sara")
    assert bool(pipeline.execute(transaction)) is True
    assert exchange.sends() == 0


@pytest.mark.parametrize("bad", [{"who": ""}, {"who": 5}, {"mode": None}])
def test_a_halt_without_a_name_or_with_another_mode_is_refused(pipeline, bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        pipeline.halt("x", **{"who": "sara", **bad})


@pytest.mark.parametrize("reason", [None, 5, "x" * 10_000, "\ud800\n\x00"])
def test_a_halt_never_fails_for_its_words(pipeline, reason):
    pipeline.halt(reason, who="sara")
    assert pipeline.halted.mode == "HALTED"


@pytest.mark.parametrize("bad", [None, 2.5, -1, "5", 10**30])
def test_a_limit_of_a_list_that_is_no_number_is_refused(pipeline, bad):
    with pytest.raises(ConfigError, match="limit"):
        pipeline.transactions(limit=bad)


def test_an_id_that_cannot_be_one_is_unknown(pipeline):
    assert (pipeline.get("\ud800"), pipeline.get(5)) == (None, None)
    with pytest.raises(InvalidOrderError, match="unknown"):
        pipeline.cancel("\ud800")
