"""Case: one undecided transaction in the resolver's hands, and how often it is looked for. Pure."""

from __future__ import annotations

import dataclasses

from hireliab.exchange import evidence
from hireliab.exchange.transaction import Transaction

LOOKUP_DELAYS = (0.0, 0.3, 0.7, 1.5, 3.0, 5.0)
"""Seconds between single look-ups of a young case; the last one repeats, and grows with the listings' pace."""
LOOKUP_SPACING = 0.25
"""Seconds between any two single look-ups on average: 240 a minute of the 300 that orders/status allows."""
CANCEL_AGAIN_AFTER = 3.0
"""Seconds after which a cancel is sent again when the order is still open; cancelling by id is idempotent."""


def listing_pace(age: float, shortest: float) -> float:
    """
    Seconds between two listings for a case (ARCHITECTURE.md section 6).

    Args:
        age: Seconds since it came up.
        shortest: Seconds, for a young one.
    """
    if age < 60.0:
        return shortest
    if age < 600.0:
        return max(shortest, 10.0)
    return max(shortest, 30.0) if age < 3600.0 else max(shortest, 300.0)


def lookup_pace(looks: int, age: float, *, cases: int, shortest: float) -> float:
    """
    Seconds from the end of a single look-up to the next one of the same case.

    Args:
        looks: How many there were.
        age: Seconds since it came up.
        cases: How many share the endpoint's limit: each is looked up less often the more there are.
        shortest: As in `listing_pace`.
    """
    own = LOOKUP_DELAYS[min(looks, len(LOOKUP_DELAYS) - 1)] if age < 60.0 else listing_pace(age, shortest)
    return max(own, cases * LOOKUP_SPACING)


@dataclasses.dataclass(slots=True)
class Case:
    """One undecided transaction in the resolver's hands; only its thread touches it."""

    transaction: Transaction
    proof: evidence.AbsenceProof
    added: float
    refused: bool = False
    unknown_id: bool = False
    looks: int = 0
    next_look: float = 0.0
    next_cancel: float = 0.0
    listings: int = 0
    shouted: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether listings must find it: no venue id is known, or the venue does not know the one that it gave."""
        record = self.transaction.record
        return record.kind == "ORDER" and (record.order_id is None or self.unknown_id)

    @property
    def is_second_look(self) -> bool:
        """Every second look goes by the client order id where the venue does not know its own."""
        return self.unknown_id and self.looks % 2 == 0
