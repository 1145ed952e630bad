"""The day that both legacy bots live through: their signals, what goes wrong at the exchange, and its truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal

from hireliab.examples._demo_venue import ADD, Venue
from hireliab.examples._offline import table

SIGNALS = [("09:00", "0.01"), ("10:00", "0.02"), ("11:00", "0.03"), ("12:00", "0.04")]
"""When to buy how much BTC. Each amount is used once, so the truth file shows which signal an order is for."""
FAULTS = [
    {"route": ADD, "kind": "http_502", "processed": True, "nth": 2},  # executed; a gateway answers for the exchange
    {"route": ADD, "kind": "answer_lost", "nth": 3},  # executed; the connection breaks
]
PAUSE = 0.7
"""Seconds that the old bot waits before it sends again."""
# Nobitex refuses an equal order for 10 s. Bots wait longer than that, so their second order is taken. Here both times
# are shorter, for the sake of your time.
OPTIONS = ("--settings", '{"duplicate_window": 0.5}', "--faults", json.dumps(FAULTS))
"""For the simulator's command line."""


def report(venue: Venue, believed: Mapping[str, Decimal]) -> None:
    """
    Lay what the bot believes beside what the exchange did.

    Args:
        venue: With its truth file.
        believed: Signal to amount of BTC that the bot takes for bought.
    """
    rows: list[tuple[object, ...]] = []
    ours = true = Decimal(0)
    for signal, amount in SIGNALS:
        sent, bought = truth_of(venue, amount)
        belief = believed.get(signal, Decimal(0))
        wrong = "" if belief == sum(bought) else f"{sum(bought) - belief:+f} BTC that the bot does not know of"
        rows.append((signal, amount, f"{belief:f}", sent, len(bought), f"{sum(bought):f}", wrong))
        ours, true = ours + belief, true + sum(bought)
    rows.append(("all", "0.10", f"{ours:f}", "", "", f"{true:f}", ""))
    print()
    table(
        ("signal", "wanted BTC", "bot believes BTC", "requests", "orders", "bought BTC", ""),
        rows,
        right=(1, 2, 3, 4, 5),
    )
    print("\nWanted and believed are the bot's; requests, orders and bought are from the exchange's truth file.")


def truth_of(venue: Venue, amount: str) -> tuple[int, list[Decimal]]:
    """How many requests for an order of this amount arrived, and what each order that came of them bought."""
    requests, orders = 0, dict[object, Decimal]()
    for record in venue.records():
        if record["kind"] == "request" and str(record["path"]).startswith(ADD.split()[1]):
            requests += json.loads(str(record["body"]))["amount"] == amount
        elif record["kind"] == "order" and record["account"] == "user" and record["amount"] == amount:
            orders[record["id"]] = Decimal(str(record["matched"]))
    return requests, list(orders.values())
