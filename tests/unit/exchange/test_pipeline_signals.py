"""A signal handler, or a finaliser, that asks or stops the pipeline upon the very thread that is inside of it."""

from collections import deque

import pytest

from hireliab.exchange.sqlite_journal import SQLiteJournal
from tests.support.pipeline import finish, limit, market
from tests.support.together import Background, until


@pytest.mark.parametrize("part", ["_ledger", "_keys", "_orphans", "_resolver", "_calls", "_journal"])
def test_a_handler_that_interrupts_any_part_of_the_pipeline_may_ask_it(clock, exchange, make, tmp_path, part):
    pipeline = make(journal=SQLiteJournal(tmp_path / "journal", durability="relaxed", clock=clock))
    done = market(pipeline, idempotency_key="k")
    finish(clock, pipeline, done)
    rests = limit(pipeline)
    finish(clock, pipeline, rests)

    def interrupted():
        with getattr(pipeline, part)._lock:
            assert pipeline.stats().verdicts == {"COMPLETED": 2}
            assert {transaction.id for transaction in pipeline.transactions()} == {done.id, rests.id}
            assert pipeline.get(rests.id) is rests
            assert pipeline.unresolved() == []
            assert market(pipeline, idempotency_key="k").id == done.id
        return True

    assert Background(interrupted).result()


def test_a_handler_that_interrupts_the_journals_watermark_may_wait_for_what_is_queued(exchange, pipeline):
    pipeline.start()
    journal = pipeline._journal

    def interrupted():
        with journal._lock:  # the writer must not need it
            journal._db.post(journal._write_watermark, what="watermark")
            return journal.facts("")

    assert Background(interrupted).result() == {}


class Interrupted(deque):
    """The queue of a journal's writer, with a signal that comes when something is put into it."""

    handler = None

    def append(self, write):
        handler, self.handler = self.handler, None
        if handler is not None:
            handler()
        super().append(write)


def test_a_handler_that_stops_the_pipeline_in_the_middle_of_a_write_does_not_wait_for_itself(exchange, make, tmp_path):
    pipeline = make()
    pipeline.start()
    journal = pipeline._journal
    file = journal._file
    file._queue = Interrupted()
    file._queue.handler = pipeline.stop
    assert (
        Background(journal._db.write, lambda db: db.execute("INSERT INTO meta VALUES ('a', 'b')") and 1).result() == 1
    )
    assert pipeline.state == "stopped"
    until(lambda: not file._thread.is_alive())
    again = make()  # the folder was let go of when the writer had ended
    again.start()
    assert again._journal._meta("a") == "b"


def test_a_handler_that_stops_what_its_own_thread_is_stopping_answers_at_once(pipeline, monkeypatch):
    pipeline.start()
    close, answers = pipeline._journal.close, []

    def interrupted():
        answers.append(pipeline.stop())
        close()

    monkeypatch.setattr(pipeline._journal, "close", interrupted)
    assert Background(pipeline.stop).result() == ()
    assert answers == [()]
    assert pipeline.state == "stopped"


def test_a_handler_that_stops_what_its_own_thread_is_starting_lets_nothing_be_sent(
    clock, exchange, pipeline, monkeypatch
):
    open_, answers = pipeline._journal.open, []

    def interrupted():
        answers.append(pipeline.stop())
        open_()

    monkeypatch.setattr(pipeline._journal, "open", interrupted)
    Background(pipeline.start).result()
    assert answers == [()]
    result = finish(clock, pipeline, market(pipeline))
    assert result.verdict.value == "NOT_SENT"
    assert exchange.orders == {}
