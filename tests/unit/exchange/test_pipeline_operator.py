"""The pipeline's side of the operator's files: commands are done by the resolver's thread, status.json tells."""

import json
import os

from hireliab.exchange._operator_client import ask
from hireliab.exchange.transaction import State, Verdict
from tests.support.pipeline import decide, finish, limit, market
from tests.support.together import Background


def asked(clock, folder, command, **args):
    """Ask as the command line does, in fake time."""
    running = Background(ask, folder, command, args, timeout=60.0, clock=clock)
    clock.advance_until(running._future.done, limit=200.0)
    return running.result()


def test_a_cancel_by_file_is_verified_and_answered(clock, exchange, make, tmp_path):
    pipeline = make(operator_interval=1.0)
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    answer = asked(clock, tmp_path / "journal", "cancel", transaction_id=transaction.id, who="sara")
    assert (answer["ok"], answer["answer"]["verdict"]) == (True, "CANCELLED")
    assert pipeline.get(transaction.id).record.order_status == "Canceled"


def test_a_resolve_by_file_decides_and_an_error_is_the_answer(clock, exchange, make, tmp_path):
    pipeline = make(operator_interval=1.0, verification_timeout=5.0)
    exchange.blind = ConnectionError("cut")
    exchange.script.append("fill_answer_lost")
    transaction = market(pipeline)
    assert finish(clock, pipeline, transaction).verdict is Verdict.UNKNOWN
    words = {"transaction_id": transaction.id, "as": "failed", "evidence": "not in the history", "who": "sara"}
    answer = asked(clock, tmp_path / "journal", "resolve", **words)
    assert answer["ok"] and transaction.state is State.FAILED
    again = asked(clock, tmp_path / "journal", "resolve", **words)
    assert not again["ok"] and "FAILED" in again["error"]


def test_the_status_file_tells_what_is_open_and_what_health_adds(clock, exchange, make, tmp_path):
    pipeline = make(operator_interval=1.0, health=lambda: {"strategy": "calm"})
    transaction = limit(pipeline)
    finish(clock, pipeline, transaction)
    path = tmp_path / "journal" / "status.json"

    def status():
        return json.loads(path.read_text()) if path.exists() else {}

    clock.advance_until(lambda: status().get("resting") == 1, limit=100.0)
    told = status()
    assert (told["pid"], told["name"], told["state"], told["strategy"]) == (os.getpid(), "default", "running", "calm")
    assert (told["verdicts"], told["unresolved"], told["halt"]) == ({"COMPLETED": 1}, 0, None)
    assert path.stat().st_mode & 0o777 == 0o600
    pipeline.halt("x", who="sara")
    clock.advance_until(lambda: status()["halt"] == "HALTED", limit=100.0)
    pipeline.stop()
    assert status()["state"] == "stopped"


def test_a_health_that_fails_does_not_stop_the_resolver(clock, exchange, make):
    pipeline = make(operator_interval=1.0, health=lambda: 1 / 0)
    exchange.script.append("fill_answer_lost")
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    assert decide(clock, transaction).verdict is Verdict.COMPLETED


def test_a_resolver_that_ends_after_the_stop_writes_no_more(clock, exchange, make, tmp_path):
    """A read may keep its thread longer than stop() waits for it."""
    pipeline = make(operator_interval=1.0)
    finish(clock, pipeline, limit(pipeline))
    pipeline.stop()
    clock.advance(60.0)
    pipeline._on_resolver_step()
    assert json.loads((tmp_path / "journal" / "status.json").read_text())["state"] == "stopped"
