"""Many threads at a pool of few clients: throughput, order of service, and a spike while connecting is slow."""

from __future__ import annotations

import bisect
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import harness
from benchmarks._pool_peers import Client, Open, Opener, not_a_pool

THREADS, CLIENTS, HOLD = 32, 4, 0.001
NOISE_NS = 5_000_000
"""
What a thread may lie between its arrival and our note of it, or between being served and our note: the interpreter's
switch interval. Only who came later by more and was served earlier by more has certainly overtaken.
"""
SPIKE, CONNECT, USE = 50, 0.150, 0.002
SPIKE_LIMIT = 50


# -- 32 threads on four clients -----------------------------------------------------------------------------------


def crowd(name: str, opener: Opener, *, seconds: float) -> harness.Contestant:
    """A contestant whose rounds are `seconds` of borrowing, holding and giving back by all threads."""
    clients: list[Client] = []

    def create() -> Client:
        clients.append(Client())
        return clients[-1]

    opened = opener(create, CLIENTS, CLIENTS)
    done = 0

    def one_round(_number: int) -> harness.Sample:
        nonlocal done
        turns, elapsed = _trade(opened, seconds)
        done += len(turns)
        waits = tuple(served - came for came, served in turns)
        extra = {"overtaken": float(overtaken(turns, NOISE_NS)), "longest_ns": float(max(waits))}
        return harness.Sample(operations=len(turns), elapsed_ns=elapsed, latencies_ns=waits, extra=extra)

    def check() -> str:
        served = sum(client.served for client in clients)
        shared = sum(client.shared for client in clients)
        problem = not_a_pool(opened, CLIENTS)
        opened.close()
        if served != done or shared:
            return f"{done} turns, but its clients served {served}, {shared} of them two threads at once"
        return problem

    return harness.Contestant(name=name, run=one_round, check=check)


def _trade(opened: Open, seconds: float) -> tuple[list[tuple[int, int]], int]:
    now = time.perf_counter_ns
    ready = threading.Barrier(THREADS + 1)
    turns: list[list[tuple[int, int]]] = [[] for _ in range(THREADS)]
    failures: list[BaseException] = []
    end = 0

    def trade(mine: list[tuple[int, int]]) -> None:
        def work(client: Client) -> None:
            mine.append((came, now()))
            client.use(lambda: time.sleep(HOLD))

        try:
            ready.wait()
            came = now()
            while True:  # one turn at least: on a busy machine a thread may begin when the time is over
                opened.use(work)
                if (came := now()) >= end:
                    return
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=trade, args=(mine,), daemon=True) for mine in turns]
    for thread in threads:
        thread.start()
    began = now()
    end = began + round(seconds * 1e9)
    ready.wait()
    for thread in threads:
        thread.join()
    took = now() - began
    if failures:
        raise failures[0]
    return [turn for mine in turns for turn in mine], took


def overtaken(turns: Sequence[tuple[int, int]], noise: int) -> int:
    """
    How many turns were overtaken: somebody came later, by more than `noise`, and was served earlier, by more.

    Args:
        turns: Of each: when it came, and when it was served.
    """
    ordered = sorted(turns)
    arrivals = [came for came, _ in ordered]
    earliest = [served for _, served in ordered]  # from here on: the first to be served
    for i in range(len(earliest) - 2, -1, -1):
        earliest[i] = min(earliest[i], earliest[i + 1])
    count = 0
    for came, served in ordered:
        later = bisect.bisect_right(arrivals, came + noise)
        if later < len(ordered) and earliest[later] < served - noise:
            count += 1
    return count


def queue_order(opener: Opener) -> list[int]:
    """
    The order in which threads are served that came in the order 0, 1, 2 …, exactly.

    There is one client, so a turn is noted by the only thread that can have it. Whoever holds it comes back for it
    at once, as a bot's loop does: it is the last number.
    """
    opened = opener(Client, 1, 1)
    order: list[int] = []

    def serve(number: int) -> None:
        opened.use(lambda _client: order.append(number))

    threads = [threading.Thread(target=serve, args=(number,), daemon=True) for number in range(THREADS)]

    def queue_up(_client: Client) -> None:
        for number, thread in enumerate(threads):
            thread.start()
            _until(lambda expected=number + 1: opened.waiting() >= expected)  # type: ignore[misc]

    opened.use(queue_up)
    serve(THREADS)
    for thread in threads:
        thread.join()
    opened.close()
    return order


def passed(order: Sequence[int]) -> int:
    """How many of an order were overtaken by somebody with a greater number."""
    most, count = -1, 0
    for number in order:
        if number < most:
            count += 1
        most = max(most, number)
    return count


def _until(true: Callable[[], bool]) -> None:
    limit = time.perf_counter() + 10.0
    while not true():
        if time.perf_counter() > limit:
            raise RuntimeError("a thread did not come to wait within 10 s")
        time.sleep(0.0002)


# -- the spike ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """
    Fifty threads at once, over some rounds.

    Attributes:
        warm: Clients that were open before.
        opened: Clients in the end, those before included; the median and the extremes.
        all_served: Seconds from the barrier until the last thread had its client and was done.
        half_served: Until half of them were.
    """

    name: str
    warm: int
    opened: harness.Spread
    all_served: harness.Spread
    half_served: harness.Spread


def bound(warm: int) -> int:
    """
    How many clients a spike may open: what Little's law needs and two more, and no more than the maximum.

    Fifty calls of 2 ms, to be served in the 150 ms that one connect takes, keep 50 / 0.15 s * 0.002 s = 0.67 clients
    busy: one is enough. Those that were open before are counted, because they are not closed for it.
    """
    return min(SPIKE_LIMIT, max(warm, math.ceil(SPIKE / CONNECT * USE)) + 2)


def spike(openers: dict[str, Opener], *, warm: int, rounds: int) -> list[Spike]:
    """All contestants in turn, each time with a new pool; no round is thrown away, because nothing warms up."""
    taken: dict[str, list[tuple[int, list[float]]]] = {name: [] for name in openers}
    for number in range(rounds):
        turn = list(openers.items())
        for name, opener in turn if number % 2 == 0 else reversed(turn):
            taken[name].append(_one_spike(opener, warm))
    return [
        Spike(
            name=name,
            warm=warm,
            opened=harness.spread([opened for opened, _ in rounds_of]),
            all_served=harness.spread([times[-1] for _, times in rounds_of]),
            half_served=harness.spread([times[len(times) // 2 - 1] for _, times in rounds_of]),
        )
        for name, rounds_of in taken.items()
    ]


def _one_spike(opener: Opener, warm: int) -> tuple[int, list[float]]:
    clients: list[Client] = []

    def create() -> Client:
        time.sleep(CONNECT)
        clients.append(Client())
        return clients[-1]

    opened = opener(create, warm, SPIKE_LIMIT)
    ready = threading.Barrier(SPIKE + 1)
    ended: list[float] = []

    def call() -> None:
        ready.wait()
        opened.use(lambda client: client.use(lambda: time.sleep(USE)))
        ended.append(time.perf_counter())

    threads = [threading.Thread(target=call, daemon=True) for _ in range(SPIKE)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    opened.close()
    served = sum(client.served for client in clients)
    if served != SPIKE or any(client.shared for client in clients):
        raise AssertionError(f"{served} of {SPIKE} threads were served, or two by one client at once")
    return len(clients), sorted(end - began for end in ended)
