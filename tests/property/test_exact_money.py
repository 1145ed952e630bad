"""No float reaches wire, journal or comparison, whatever the user did to the ambient decimal context."""

import decimal
import sqlite3
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hireliab.core import money
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.testing import FakeClock, ScriptedExchange

numbers = st.decimals(
    min_value=Decimal("1e-10"), max_value=Decimal("1e14"), allow_nan=False, allow_infinity=False, places=10
).filter(lambda n: n > 0)


@pytest.fixture
def hostile_context():
    """Five digits, and an exception when a float meets a Decimal; in this thread and in every new one."""
    kept, kept_default = decimal.getcontext().copy(), decimal.DefaultContext.copy()
    for context in (decimal.getcontext(), decimal.DefaultContext):
        context.prec = 5
        context.traps[decimal.FloatOperation] = True
    yield
    decimal.setcontext(kept)
    decimal.DefaultContext.prec = kept_default.prec
    decimal.DefaultContext.traps[decimal.FloatOperation] = False


@pytest.fixture
def world(tmp_path, hostile_context):
    clock = FakeClock()
    exchange = ScriptedExchange(clock=clock)
    pipeline = TransactionVerificationPipeline(exchange_adapter=exchange, journal=tmp_path / "j", clock=clock)
    pipeline.start()
    yield clock, exchange, pipeline, tmp_path / "j" / "journal.db"
    pipeline.stop()


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amount=numbers, price=numbers, word=st.sampled_from(["rest", "fill", "fill_answer_lost", "partial", "unfilled"]))
def test_money_is_exact_from_the_caller_to_the_disk(world, amount, price, word):
    clock, exchange, pipeline, path = world
    exchange.script.append(word)
    transaction = pipeline.create_transaction(
        type="limit_buy", symbol="BTC/USDT", amount=format(amount, "f"), price=price, on_partial="accept"
    )
    handle = pipeline.submit(transaction)
    clock.advance_until(lambda: handle.done)
    sent = next(argument for name, argument in reversed(exchange.calls) if name == "submit")
    assert (sent.amount, sent.price) == (amount, price)
    assert pipeline.get(transaction.id).record.order.amount == amount
    with sqlite3.connect(path) as db:
        row = db.execute(
            "SELECT amount, price, filled, fee, typeof(amount), typeof(price), typeof(filled), typeof(fee)"
            " FROM txn WHERE txn_id=?",
            (transaction.id,),
        ).fetchone()
    db.close()
    assert row[4:] == ("text",) * 4
    assert Decimal(row[0]) == amount
    assert Decimal(row[1]) == price
    assert "E" not in "".join(row[:4])
    result = handle.result()
    assert money.add(result.filled, result.remaining) == amount
