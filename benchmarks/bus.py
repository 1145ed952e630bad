"""The message bus: confirmed publishes, consuming, latency and CPU; beside pika, kombu and amqpstorm, on one broker."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks import _bus_broker, harness
from benchmarks._bus_broker import Broker, unbalanced
from benchmarks._bus_report import (
    AMQPSTORM,
    BARE,
    BLOCKING,
    KINDS,
    KOMBU,
    MEMORY,
    OURS,
    PIPELINED,
    SYNC,
    Calls,
    Findings,
    Part,
    lines,
    plain,
)
from benchmarks._bus_work import Done, Place
from benchmarks._bus_worker import Worker
from benchmarks.harness import Contestant, Sample

CLASSES = {
    OURS: "benchmarks._bus_ours:Hireliab",
    SYNC: "benchmarks._bus_ours:HireliabSync",
    MEMORY: "benchmarks._bus_ours:Memory",
    BLOCKING: "benchmarks._bus_peers:Blocking",
    PIPELINED: "benchmarks._bus_peers:Pipelined",
    KOMBU: "benchmarks._bus_peers:Kombu",
    AMQPSTORM: "benchmarks._bus_peers:AMQPStorm",
}
"""Each contestant's class, for its own process."""

PUBLISHING = {
    1: (BLOCKING, OURS, SYNC, PIPELINED, KOMBU, AMQPSTORM, MEMORY),
    8: (BLOCKING, OURS, SYNC, KOMBU, AMQPSTORM),
}
"""By the number of threads. A SelectConnection belongs to one thread."""

CONSUMING = (BLOCKING, f"{BLOCKING}, {BARE}", OURS, KOMBU, AMQPSTORM, MEMORY)
LATENCY = (BLOCKING, OURS, KOMBU, AMQPSTORM, MEMORY)
CALLS = (OURS, MEMORY)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured: rounds, seconds of publishing, messages to consume, pings, calls to time."""

    rounds: int
    seconds: float
    messages: int
    pings: int
    calls: int


FULL = Size(rounds=5, seconds=1.5, messages=20_000, pings=1_000, calls=20_000)
QUICK = Size(rounds=1, seconds=0.15, messages=500, pings=30, calls=1_000)


def run(quick: bool) -> harness.Report:
    """All parts; `quick` finds breakage only."""
    harness.quiet("hireliab")
    if why := _bus_broker.absent():
        return harness.Report(lines=(f"bus: not measured, {why}",), data={"absent": why}, problems=(why,))
    found = find(QUICK if quick else FULL)
    return harness.Report(lines=tuple(lines(found)), data=plain(found), problems=found.problems())


def find(
    size: Size, *, classes: Mapping[str, str] = CLASSES, kinds: Sequence[str] = KINDS, only: str | None = None
) -> Findings:
    """
    Measure.

    Args:
        classes: Contestants, each with the class that its process runs.
        kinds: Of queues.
        only: The one part that is wanted, for tests; None: all.
    """
    before, broker = harness.load(), Broker()
    race = _Race(broker, size, {name: path for name, path in classes.items() if version(name) is not None})
    parts: list[Part] = []
    calls: list[Calls] = []
    with contextlib.closing(race):
        for kind in kinds:
            for threads, names in PUBLISHING.items():
                if only in (None, "publish"):
                    parts.append(race.part(f"publish, {harness.threads(threads)}", kind, names, _publish(threads)))
            if only in (None, "consume"):
                parts.append(race.part("consume", kind, CONSUMING, _consume))
            if only in (None, "latency"):
                parts.append(race.part("latency", kind, LATENCY, _latency))
            if only in (None, "calls"):
                calls += race.calls(kind)
    return Findings(
        broker=broker.name,
        rounds=size.rounds,
        load=harness.load_line(before, harness.load()),
        parts=parts,
        calls=calls,
    )


def version(name: str) -> str | None:
    """Of the library that a contestant needs; None when it is not installed."""
    library = name if name in (KOMBU, AMQPSTORM) else "pika"
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass
class _Turn:
    """One contestant's turn: where, how much, and how it is done by whom."""

    broker: Broker
    size: Size
    worker: Worker
    place: Place
    name: str
    problems: list[str] = field(default_factory=list)


Way = Callable[[_Turn], Done]


class _Race:
    def __init__(self, broker: Broker, size: Size, classes: Mapping[str, str]) -> None:
        self._broker, self._size = broker, size
        self._classes = classes
        self._workers: dict[str, Worker] = {}

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()

    def _worker(self, name: str) -> Worker:
        base = name.partition(",")[0]
        if base not in self._workers:
            self._workers[base] = Worker(self._classes[base])
        return self._workers[base]

    def _discard(self, name: str) -> None:
        """A worker that failed may hold anything: the next turn gets another."""
        if (worker := self._workers.pop(name.partition(",")[0], None)) is not None:
            worker.close()

    def part(self, what: str, kind: str, names: Sequence[str], way: Way) -> Part:
        harness.progress(f"bus: {what}, {kind} queue, {self._size.rounds} rounds and one to warm up")
        chosen = [name for name in names if name.partition(",")[0] in self._classes]
        if kind != KINDS[0]:
            chosen = [name for name in chosen if name != MEMORY]  # it knows no kinds of queues
        problems: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            contestants = [
                self._contestant(name, stack.enter_context(self._broker.place(kind)), way, problems) for name in chosen
            ]
            samples = harness.interleave(contestants, rounds=self._size.rounds)
        results = [harness.summarise(one, taken) for one, taken in zip(contestants, samples, strict=True)]
        return Part(what=what, kind=kind, results=results)

    def _contestant(self, name: str, place: Place, way: Way, problems: dict[str, str]) -> Contestant:
        def take_turn(_number: int) -> Sample:
            try:
                self._broker.empty(place)
                turn = _Turn(self._broker, self._size, self._worker(name), place, name)
                done = way(turn)
                if turn.problems:
                    problems.setdefault(name, turn.problems[0])
            except RuntimeError as error:
                problems.setdefault(name, str(error))
                self._discard(name)
                done = Done()
            # What does not count has to be summarised all the same.
            count, elapsed = max(1, done.count), max(1, done.elapsed_ns)
            each = tuple(done.calls_ns) or (elapsed // count,)
            return Sample(operations=count, elapsed_ns=elapsed, latencies_ns=each, extra={"cpu_ns": done.cpu_ns})

        return Contestant(name=name, run=take_turn, check=lambda: problems.get(name, ""))

    def calls(self, kind: str) -> Iterator[Calls]:
        for name in CALLS:
            if name not in self._classes or (name == MEMORY and kind != KINDS[0]):
                continue
            harness.progress(f"bus: what {name}'s publish() takes, {kind} queue")
            with self._broker.place(kind) as place:
                try:
                    done = self._worker(name).ask("calls", place, count=self._size.calls)
                    problem = (
                        "" if done.count == done.distinct == self._size.calls else _handled(done, self._size.calls)
                    )
                except RuntimeError as error:
                    done, problem = Done(), str(error)
                    self._discard(name)
                if name != MEMORY and not problem and self._broker.left(place):
                    problem = "messages were left in the queue"
            ordered = sorted(done.calls_ns) or [0]
            yield Calls(
                name=name,
                kind=kind,
                median_us=harness.percentile(ordered, 50) / 1000,
                p99_us=harness.percentile(ordered, 99) / 1000,
                problem=problem,
            )


def _handled(done: Done, count: int) -> str:
    return f"{count} messages were published, {done.count} came through, {done.distinct} different ones"


def _publish(threads: int) -> Way:
    def way(turn: _Turn) -> Done:
        done = turn.worker.ask("publish", turn.place, threads=threads, seconds=turn.size.seconds)
        if turn.name != MEMORY:  # whose confirmed messages were handled, and counted there
            found = turn.broker.drain(turn.place, done.count)
            if problem := unbalanced(done.count, found):
                turn.problems.append(problem)
        elif not done.count:
            turn.problems.append("nothing was handled")
        return done

    return way


def _consume(turn: _Turn) -> Done:
    count = turn.size.messages
    if turn.name != MEMORY:
        turn.broker.fill(turn.place, count, bare=turn.name.endswith(BARE))
    done = turn.worker.ask("consume", turn.place, count=count)
    if not done.count == done.distinct == count:
        turn.problems.append(_handled(done, count))
    elif turn.name != MEMORY and (left := turn.broker.left(turn.place)):
        turn.problems.append(f"{left} messages were not acknowledged")
    return done


def _latency(turn: _Turn) -> Done:
    count = turn.size.pings
    done = turn.worker.ask("latency", turn.place, count=count)
    if not done.count == done.distinct == count:
        turn.problems.append(_handled(done, count))
    elif turn.name != MEMORY and (left := turn.broker.left(turn.place)):
        turn.problems.append(f"{left} messages were not acknowledged")
    done.elapsed_ns = sum(done.calls_ns)
    return done
