"""What the pipeline still knows after its journal has deleted old rows, and of what it keeps them."""

from hireliab.exchange.adapter import OrderStatus
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import State, Verdict
from tests.support.pipeline import decide, finish, limit, market

HALF_AN_HOUR = 1800.0


def pass_time(clock, seconds):
    end = clock.monotonic() + seconds
    clock.advance_until(lambda: clock.monotonic() >= end, limit=seconds + 7200.0)


def test_only_what_is_decided_closed_and_watched_no_more_is_forgotten_and_with_it_its_key(
    clock, exchange, make, tmp_path
):
    journal = SQLiteJournal(tmp_path / "journal", retention_days=HALF_AN_HOUR / 86400, clock=clock)
    pipeline = make(journal=journal, afterwatch=2 * 3600.0, watch_interval=1200.0, listing_interval=600.0)
    finish(clock, pipeline, market(pipeline, idempotency_key="done"))
    rests = limit(pipeline, idempotency_key="rests")
    finish(clock, pipeline, rests)
    exchange.script.append("request_lost")
    absent = market(pipeline, amount="0.6", idempotency_key="absent")
    finish(clock, pipeline, absent)
    assert decide(clock, absent, limit=7200.0).verdict is Verdict.ABSENT
    exchange.script.append("new_answer_lost")  # never live and never closed: nobody can decide it
    unknown = limit(pipeline, amount="0.7", idempotency_key="unknown")
    finish(clock, pipeline, unknown)
    assert not unknown.state.is_terminal

    def kept():
        return {t.record.idempotency_key for t in pipeline.transactions()}

    def later(key):
        """A young order comes, whose time the retention believes, and the writer is idle for long enough."""
        pass_time(clock, 3700.0)
        finish(clock, pipeline, market(pipeline, amount="0.9", idempotency_key=key))
        while journal._db.write(journal._retention.sweep) == 0.0:
            pass

    later("first")
    assert kept() == {"rests", "absent", "unknown", "first"}
    # A key that is forgotten is a new order's; those that are kept are what they were.
    assert market(pipeline, idempotency_key="done").state is State.NEW
    assert {t.id for t in (rests, absent, unknown)} == {
        limit(pipeline, idempotency_key="rests").id,
        market(pipeline, amount="0.6", idempotency_key="absent").id,
        limit(pipeline, amount="0.7", idempotency_key="unknown").id,
    }
    exchange.change(rests.result().order_id, status=OrderStatus.CANCELED)
    exchange.change(unknown.result().order_id, status=OrderStatus.CANCELED)
    for key in ("second", "third", "fourth"):  # they close, the watch ends, and then they are kept for their time
        later(key)
    assert kept() == {"fourth"}
    assert exchange.sends() == 8
