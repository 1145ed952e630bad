"""What the contestants of the bus benchmark are asked to do, and how it is timed: in the process of one of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

WINDOW = 4000
"""Most messages that a pipelining contestant has unconfirmed: hireliab's own setting."""

PREFETCH = 200
SETTLE = 0.5
"""
Seconds for which a consumer stays after its last message, outside of what is timed: a quorum queue that is busy forgets
acknowledgements whose channel is closed right behind them, and delivers again.
"""
THREAD = 1_000_000_000
"""The numbers of a thread's messages begin at a multiple of this."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """
    Where messages go.

    Attributes:
        url: Of the broker.
        exchange: A topic exchange.
        key: The topic.
        queue: The durable queue that takes it.
        group: hireliab's name for that queue.
        kind: "classic" or "quorum".
    """

    url: str
    exchange: str
    key: str
    queue: str
    group: str
    kind: str


def order(number: int) -> dict[str, Any]:
    """The message: an event of an order."""
    return {
        "n": number,
        "order": "hl01-01JD8Y3N2K4QZ7W5V6X8A9B0CD",
        "symbol": "BTC/USDT",
        "side": "buy",
        "price": "65000.10",
        "amount": "0.0015",
        "status": "filled",
    }


def body(number: int) -> bytes:
    """The same as JSON."""
    return json.dumps(order(number)).encode()


@dataclass(kw_only=True)
class Done:
    """
    What a contestant says that it did.

    Attributes:
        count: Messages confirmed, or consumed and acknowledged.
        elapsed_ns: Wall time for them.
        cpu_ns: User and system time of its process for them.
        distinct: Different ones among those consumed.
        calls_ns: Of each call of publish(), or from publish to handler, where it was asked for.
    """

    count: int = 0
    elapsed_ns: int = 0
    cpu_ns: int = 0
    distinct: int = 0
    calls_ns: list[int] = field(default_factory=list)


class Publisher(Protocol):
    """One that is ready."""

    def publish(self, number: int) -> None:
        """Hand one message over, or publish it."""

    def finish(self) -> int:
        """Wait for what is open; how many were confirmed."""


class Timed:
    """Measures a block: wall and CPU time of the process."""

    def __enter__(self) -> Timed:
        self.cpu_ns = -time.process_time_ns()
        self.elapsed_ns = -time.perf_counter_ns()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.elapsed_ns += time.perf_counter_ns()
        self.cpu_ns += time.process_time_ns()


def publish_for(seconds: float, opened: Sequence[Publisher], *, threads: int) -> Done:
    """
    Publish for so long, then until everything is confirmed.

    Args:
        opened: One for each thread, or one for all.
    """
    ends = threading.Barrier(threads + 1)
    confirmed = [0] * threads
    errors: list[BaseException] = []

    def run(i: int) -> None:
        publisher = opened[i % len(opened)]
        publish, clock, number = publisher.publish, time.perf_counter, i * THREAD
        ends.wait()
        try:
            end = clock() + seconds
            while clock() < end:
                publish(number)
                number += 1
            if len(opened) == threads:
                confirmed[i] = publisher.finish()
        except BaseException as error:
            errors.append(error)

    crew = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(threads)]
    for thread in crew:
        thread.start()
    with Timed() as timed:
        ends.wait()
        for thread in crew:
            thread.join()
        if not errors and len(opened) != threads:
            confirmed = [publisher.finish() for publisher in opened]
    if errors:
        raise errors[0]
    return Done(count=sum(confirmed), elapsed_ns=timed.elapsed_ns, cpu_ns=timed.cpu_ns)


class Sink:
    """Counts what a consumer handles, from its first message to its last; `done` is set then."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._seen: list[int] = []
        self._began = (0, 0)
        self._ended = (0, 0)
        self.done = threading.Event()

    def take(self, number: int) -> bool:
        """One message was handled; whether it was the last."""
        seen = self._seen
        if not seen:
            self._began = time.perf_counter_ns(), time.process_time_ns()
        seen.append(number)
        if len(seen) == self._count:
            self._ended = time.perf_counter_ns(), time.process_time_ns()
            self.done.set()
            return True
        return False

    def result(self) -> Done:
        """What it came to."""
        return Done(
            count=len(self._seen),
            distinct=len(set(self._seen)),
            elapsed_ns=self._ended[0] - self._began[0],
            cpu_ns=self._ended[1] - self._began[1],
        )


def ping(count: int, publish: Callable[[int], object], arrived: Callable[[], object]) -> list[int]:
    """
    From publish() to the handler, one message after another: the nanoseconds of each.

    Args:
        publish: Publishes the message of this number.
        arrived: Waits until it was handled.
    """
    taken = []
    for number in range(count):
        began = time.perf_counter_ns()
        publish(number)
        arrived()
        taken.append(time.perf_counter_ns() - began)
    return taken


class Contestant(Protocol):
    """
    Implemented for each library; every method is called in the contestant's own process.

    Attributes:
        shared: Whether its publisher may be used by several threads at once.
    """

    shared: bool

    def publisher(self, place: Place) -> AbstractContextManager[Publisher]:
        """Connect, and be ready to publish with confirms."""

    def consume(self, place: Place, count: int) -> Done:
        """Take `count` messages from the queue, parse and acknowledge each."""

    def latency(self, place: Place, count: int) -> Done:
        """From publish to handler, within one process."""
