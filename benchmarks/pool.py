"""The connection pool: what a client's way out and back costs, who is served when, and a spike; beside other pools."""

from __future__ import annotations

from typing import Any

from benchmarks import _pool_crowd, harness
from benchmarks._calls import Subject, measure
from benchmarks._pool_peers import LIFO, OURS, QUEUE_POOL, Client, Open, Opener, not_a_pool, peers
from benchmarks._pool_report import EXECUTE, WITH, Findings, lines, plain

WARM = 5
"""Clients that are open before the spike, in HikariCP's own experiment."""


def run(quick: bool) -> harness.Report:
    """All parts; `quick` finds breakage only."""
    harness.quiet("hireliab")
    found = find(rounds=2 if quick else 15, calls=2_000 if quick else 50_000, seconds=0.2 if quick else 1.5)
    return harness.Report(lines=tuple(lines(found)), data=plain(found), problems=found.problems())


def find(*, rounds: int, calls: int, seconds: float) -> Findings:
    """Measure everything."""
    before, openers = harness.load(), peers()
    harness.progress(f"pool: {rounds} rounds of one thread, and one to warm up")
    subjects, opened = _subjects(openers)
    alone = measure(subjects, rounds=rounds, calls=calls)
    for one in opened:
        one.close()
    few = max(1, rounds // 3)
    harness.progress(f"pool: {few} rounds of {_pool_crowd.THREADS} threads, and one to warm up")
    contestants = [_pool_crowd.crowd(name, opener, seconds=seconds) for name, opener in openers.items()]
    samples = harness.interleave(contestants, rounds=few)
    crowd = [harness.summarise(one, taken) for one, taken in zip(contestants, samples, strict=True)]
    order = {name: _pool_crowd.queue_order(opener) for name, opener in openers.items()}
    harness.progress(f"pool: {few} rounds of the spike, twice")
    spikes = [one for warm in (WARM, 0) for one in _pool_crowd.spike(openers, warm=warm, rounds=few)]
    return Findings(
        rounds=rounds,
        load=harness.load_line(before, harness.load()),
        alone=alone,
        crowd=crowd,
        longest_ms={
            name: max(sample.extra["longest_ns"] for sample in taken) / 1e6
            for name, taken in zip(openers, samples, strict=True)
        },
        overtaken={
            name: round(sum(sample.extra["overtaken"] for sample in taken))
            for name, taken in zip(openers, samples, strict=True)
        },
        order={name: _pool_crowd.passed(order) for name, order in order.items()},
        spikes=spikes,
    )


def _subjects(openers: dict[str, Opener]) -> tuple[list[Subject], list[Open]]:
    """The hand-made pool first: the others are compared with it."""
    opened = {name: opener(_Caller, 1, _pool_crowd.CLIENTS) for name, opener in openers.items()}
    lifo, ours = opened[LIFO].pool, opened[OURS].pool
    subjects = [
        _subject(LIFO, opened[LIFO], lifo, "call.release(call.acquire())"),
        _subject(f"{LIFO}, {WITH}", opened[LIFO], lifo.connection, "with call(): pass"),
        _subject(OURS, opened[OURS], ours.acquire, "call().release()"),
        _subject(f"{OURS}, {WITH}", opened[OURS], ours.connection, "with call(): pass"),
        _subject(f"{OURS}, {EXECUTE}", opened[OURS], ours.execute, 'call("work")'),
    ]
    if QUEUE_POOL in opened:
        subjects.append(
            _subject(QUEUE_POOL, opened[QUEUE_POOL], opened[QUEUE_POOL].pool.connect, "call().close()", 0.3)
        )
    return subjects, list(opened.values())


def _subject(name: str, opened: Open, call: Any, code: str, share: float = 1.0) -> Subject:
    def check() -> str:
        return not_a_pool(opened, _pool_crowd.CLIENTS)

    return Subject(name=name, call=call, code=code, check=check, share=share)


class _Caller(Client):
    """A client with a method that does nothing."""

    __slots__ = ()

    def work(self) -> None:
        """Nothing: what is left is the pool."""
