"""The processes of the transactions benchmark: contestants, transactions in flight, and a recovery after a kill."""

import shutil

import pytest

from benchmarks import _transactions_recovery, transactions
from benchmarks._transactions_report import THREADS_BESIDE


def work(bot, folder):
    child = transactions.Child(bot, folder)
    try:
        facts = child.ask(do="facts")
        told = child.ask(do="round", threads=2, latency=0.001, seconds=0.1)
        return facts, told, child.ask(do="close")
    finally:
        child.end()


@pytest.mark.parametrize(("bot", "mode"), [("DBOS", "delete"), ("DBOS WAL+FULL", "wal")])
def test_dbos_does_its_work_with_the_file_set_as_its_row_says(bot, mode, tmp_path):
    pytest.importorskip("dbos", reason="the peer of the transactions benchmark: pip install '.[bench]'")
    facts, told, end = work(bot, tmp_path)
    assert (facts["journal_mode"], facts["synchronous"]) == (mode, 2)
    assert told["operations"] == len(told["latencies_ns"]) >= 2
    assert min(told["latencies_ns"]) >= 2_000_000, "two calls of a millisecond each are in every latency"
    assert end == {"problem": ""}


def test_hireliab_does_its_work_in_a_process_of_its_own(tmp_path):
    facts, told, end = work("hireliab", tmp_path)
    assert (facts["journal_mode"], facts["synchronous"]) == ("wal", 2)
    assert told["commits"] >= 2
    assert end == {"problem": ""}


def test_a_contestant_that_dies_is_reported_with_its_last_words(tmp_path):
    with pytest.raises(RuntimeError, match="invalid choice"):
        transactions.Child("nobody", tmp_path)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_strace_counts_the_syncs_of_the_naive_bot(tmp_path):
    each = transactions.count_syncs(tmp_path / "traced", "naive", 1, 0.2)
    if each is None:
        pytest.skip("strace is not allowed here")
    assert 2.9 <= each <= 3.1


def test_transactions_in_flight_take_a_thread_each_and_end_completed(tmp_path):
    flight = transactions._flight(tmp_path, 40)
    assert flight.problem == ""
    assert flight.threads_beside == THREADS_BESIDE
    assert flight.rss_each > 0


def test_a_killed_process_leaves_orders_that_the_next_one_decides_without_sending(tmp_path):
    found = _transactions_recovery.measure(tmp_path, 12)
    assert found.problem == ""
    assert found.throttled == 0
    assert sum(found.by_path.values()) == found.requests <= 15
    assert not any(path.endswith("/orders/add") for path in found.by_path)
