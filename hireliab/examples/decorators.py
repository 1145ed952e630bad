"""
Decorators: what is done again after an error, and what never is.

``python -m hireliab.examples.decorators``. A read may be done twice; an order may not, unless it is certain that it did
not go out. The decorators know the difference from the error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hireliab import NotSentError, OutcomeUnknownError, RateLimiter, Session, deadline, reliable, retry
from hireliab.examples._demo_venue import ADD, Venue
from hireliab.examples._offline import exchange, run, table

BOOK = "/v3/orderbook/BTCUSDT"


def trade(venue: Venue) -> None:
    """Decorate four functions, and let the exchange fail under each."""
    session = Session(base_url=venue.where["base_url"], headers={"Authorization": f"Token {venue.where['token']}"})
    limiter = RateLimiter(name="prices", limit=300, per=60.0)
    calls = 0

    def place_order(amount: str) -> str:
        order = {"type": "buy", "execution": "market", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": amount}
        answer = session.request("POST", "/market/orders/add", json=order, max_idle=0.0)  # on a new connection
        return f"bought {answer.json()['order']['matchedAmount']} BTC"

    # A read: repeated after a lost answer, within 30 s in all; with a breaker of this name, and a limiter.
    @reliable("prices", idempotent=True, limiter=limiter)
    def last_price() -> Decimal:
        nonlocal calls
        calls += 1
        return Decimal(session.get(BOOK).json()["lastTradePrice"])

    # An order: repeated only if no byte of it can have left.
    @reliable("orders", attempts=5)
    def buy() -> str:
        nonlocal calls
        calls += 1
        return place_order("0.01")

    # The same rule by itself, with waits of your own.
    @retry(attempts=10, wait=0.1)
    def buy_more() -> str:
        nonlocal calls
        calls += 1
        if calls == 4:
            venue.admin("/up")
        return place_order("0.02")

    # Any function: everything that hireliab does below it shares one budget of time.
    @deadline(1.0)
    def patient_price() -> Decimal:
        nonlocal calls
        calls += 1
        return Decimal(session.get(BOOK).json()["lastTradePrice"])

    rows = []

    def show(decorator: str, fault: str, func: Callable[[], Any]) -> None:
        nonlocal calls
        calls = 0
        began = time.perf_counter()
        try:
            said = f"{func()}"
        except NotSentError:
            said = "NotSentError"
        except OutcomeUnknownError:
            said = "OutcomeUnknownError"
        rows.append((decorator, fault, calls, f"{time.perf_counter() - began:.2f}", said))

    venue.admin("/faults", route=f"GET {BOOK}", kind="answer_lost", count=2)
    show('@reliable("prices", idempotent=True)', "two answers are lost", last_price)
    venue.admin("/faults", route=ADD, kind="answer_lost", count=1)
    show('@reliable("orders", attempts=5)', "one answer is lost", buy)
    venue.admin("/down")
    show("@retry(attempts=10, wait=0.1)", "three times no connection", buy_more)
    venue.admin("/faults", route=f"GET {BOOK}", kind="delay", seconds=5, count=1)
    show("@deadline(1.0)", "the answer takes 5 s", patient_price)
    session.close()
    table(("decorator", "what happens", "calls", "took s", "the caller gets"), rows, right=(2, 3))
    print("\nThe order whose answer was lost was executed. Calling again would have bought twice.")


def main() -> None:
    """The decorators at a simulated exchange."""
    with exchange() as venue:
        trade(venue)


if __name__ == "__main__":
    sys.exit(run(main))
