"""What a pipeline counts: verdicts, unresolved and their age, reads by answer, phases."""

from tests.support.pipeline import decide, finish, limit, market


def test_the_snapshot_counts_what_happened(clock, exchange, make):
    pipeline = make(verification_timeout=5.0)
    finish(clock, pipeline, market(pipeline))
    finish(clock, pipeline, limit(pipeline, price="99"))
    exchange.script.append("reject")
    finish(clock, pipeline, market(pipeline, amount="0.6"))
    clock.advance_until(lambda: not pipeline._admission.threads)  # a thread leaves a moment after its answer
    stats = pipeline.stats()
    assert stats.verdicts == {"COMPLETED": 2, "REJECTED": 1}
    assert (stats.unresolved, stats.oldest_unresolved, stats.resting, stats.running) == (0, None, 1, 0)
    assert stats.reads["found"] >= 2
    assert {name: histogram.count for name, histogram in stats.phases.items()} == {
        "prepare": 3, "intent": 3, "send": 2, "verify": 2, "total": 3,
    }  # fmt: skip


def test_an_unknown_outcome_shows_with_its_age_and_its_failed_reads(clock, exchange, make):
    pipeline = make(verification_timeout=5.0)
    exchange.script.append("fill_answer_lost")
    exchange.blind = ConnectionError("cut")
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    stats = pipeline.stats()
    assert (stats.unresolved, stats.needs_human) == (1, 0)
    assert stats.oldest_unresolved >= 5.0
    assert stats.reads["unavailable"] >= 1
    assert stats.events["unknown"] == 1
    exchange.blind = None
    decide(clock, transaction)
    stats = pipeline.stats()
    assert (stats.unresolved, stats.reads["listed"]) == (0, 1)


def test_the_status_is_plain(clock, pipeline):
    import json

    finish(clock, pipeline, market(pipeline))
    pipeline.halt("x", who="sara")
    plain = json.loads(json.dumps(pipeline.stats().as_dict()))
    assert (plain["halt"], plain["verdicts"], plain["phases"]["total"]["count"]) == ("HALTED", {"COMPLETED": 1}, 1)
