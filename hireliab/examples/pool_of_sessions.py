"""
A pool of sessions: threads share connections to the exchange, never a session.

``python -m hireliab.examples.pool_of_sessions``. Eight threads of a bot read prices through at most four connections;
then the exchange goes away and comes back, and the pool mends itself.
"""

from __future__ import annotations

import sys
import threading
import time
from decimal import Decimal

from hireliab import ConnectionPool, NotSentError, OutcomeUnknownError, Session, pool_of_sessions
from hireliab.examples._demo_venue import Venue
from hireliab.examples._offline import exchange, run, table

THREADS, READS = 8, 25


def last_price(pool: ConnectionPool[Session], symbol: str) -> Decimal:
    """What was ``session.get(url, timeout=10)`` before; it borrows a session for one call."""
    answer = pool.execute("get", f"/v3/orderbook/{symbol}")
    answer.raise_for_status()
    return Decimal(answer.json()["lastTradePrice"])


def trade(venue: Venue) -> None:
    """Read prices with eight threads: in peace, without an exchange, and again."""
    rows = []
    # total_timeout ends each call for certain, however slowly the answer drips.
    config = {"max_connections": 4, "connection_timeout": 5.0}
    with pool_of_sessions("exchange", venue.where["base_url"], config=config, total_timeout=10.0) as pool:
        rows.append(read_together(pool, "exchange is up"))
        venue.admin("/down")
        rows.append(read_together(pool, "it is cut off"))
        venue.admin("/up")
        rows.append(read_together(pool, "it is back"))
        stats = pool.stats()
    table(("when", "reads", "not sent", "unknown", "took s", "sessions made", "most"), rows, right=(1, 2, 3, 4, 5, 6))
    print(
        f"\n{THREADS} threads. Sessions were lent {stats.acquired} times; {stats.discarded} broken ones were replaced."
    )
    print(
        "Not sent: no connection was made. Unknown: the connection broke under a request; for a read that is all one."
    )


def read_together(pool: ConnectionPool[Session], when: str) -> tuple[object, ...]:
    """One row: what became of the reads of all threads."""
    counts = {"prices": 0, "not sent": 0, "unknown": 0}
    lock = threading.Lock()  # guards counts

    def read() -> None:
        for _ in range(READS):
            try:
                last_price(pool, "BTCUSDT")
                outcome = "prices"
            except NotSentError:
                outcome = "not sent"
            except OutcomeUnknownError:
                outcome = "unknown"
            with lock:
                counts[outcome] += 1

    threads = [threading.Thread(target=read) for _ in range(THREADS)]
    began, made = time.perf_counter(), pool.stats().created
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = f"{time.perf_counter() - began:.2f}"
    return (when, *counts.values(), took, pool.stats().created - made, pool.stats().max_connections)


def main() -> None:
    """The pool at a simulated exchange."""
    with exchange("--no-limits") as venue:
        trade(venue)


if __name__ == "__main__":
    sys.exit(run(main))
