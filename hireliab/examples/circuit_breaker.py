"""
A circuit breaker: a dead exchange costs each thread a few failures instead of a timeout for every call.

``python -m hireliab.examples.circuit_breaker``. The exchange is cut off and comes back; nobody resets anything.
"""

from __future__ import annotations

import sys
import time
from decimal import Decimal

from hireliab import CircuitBreaker, CircuitOpenError, ConnectError, OutcomeUnknownError, Session
from hireliab.core.circuit_breaker import CircuitEvent
from hireliab.examples._demo_venue import Venue
from hireliab.examples._offline import exchange, run, table

changes: list[str] = []


def tell(event: CircuitEvent) -> None:
    """A listener: it is told of each change after it was made, in order, with no lock held."""
    changes.append(f"{event.old} -> {event.new}")


breaker = CircuitBreaker(
    name="exchange_api",
    failure_threshold=3,  # failures in a row that open it
    reset_timeout=0.5,  # seconds until it lets a probe through; 30 or more at a real exchange
    half_open_max_requests=1,  # probes at the same time
    success_threshold=2,  # good probes that close it
    listeners=[tell],
)


def trade(venue: Venue) -> None:
    """Read prices before, during and after an outage."""
    session = Session(base_url=venue.where["base_url"], total_timeout=5.0)

    @breaker  # or: breaker.execute(last_price), or: @circuit_breaker(name=…, …)
    def last_price() -> Decimal:
        return Decimal(session.get("/v3/orderbook/BTCUSDT").json()["lastTradePrice"])

    rows: list[tuple[object, ...]] = []

    def read(when: str) -> None:
        began = time.perf_counter()
        try:
            said = f"{last_price()} USDT"
        except ConnectError:
            said = "ConnectError: tried, not sent"
        except OutcomeUnknownError:  # the connection of an earlier read was cut under this one
            said = "OutcomeUnknownError: sent, no answer"
        except CircuitOpenError as error:
            said = f"CircuitOpenError: not tried, again in {error.retry_after or 0.0:.1f} s"
        rows.append((when, said, f"{(time.perf_counter() - began) * 1000:.2f}", breaker.current_state))

    read("exchange is up")
    venue.admin("/down")
    for _ in range(4):
        read("it is cut off")
    venue.admin("/up")
    read("it is back")
    time.sleep(breaker.stats().retry_after or 0.0)
    for _ in range(3):
        read("a little later")
    session.close()
    table(("when", "answer", "took ms", "breaker"), rows, right=(2,))
    print(f"\nThe listener heard: {', '.join(changes)}.")
    stats = breaker.stats()
    print(f"{stats.rejected} calls were refused without touching the network.")


def main() -> None:
    """The breaker at a simulated exchange."""
    with exchange() as venue:
        trade(venue)


if __name__ == "__main__":
    sys.exit(run(main))
