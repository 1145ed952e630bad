"""Price-time order book of one market. It knows amounts and prices, not orders or balances."""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from hireliab.simulator import money
from hireliab.simulator.money import ZERO

OTHER = {"buy": "sell", "sell": "buy"}


@dataclass(eq=False)
class Resting:
    """An amount that waits at a price. `order_id` is None for the house's quotes."""

    side: str
    price: Decimal
    remaining: Decimal
    order_id: int | None = None


@dataclass
class _Side:
    prices: list[Decimal] = field(default_factory=list)  # ascending
    queues: dict[Decimal, deque[Resting]] = field(default_factory=dict)


class Book:
    """
    Two sides of resting amounts.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self) -> None:
        self._sides = {"buy": _Side(), "sell": _Side()}
        self.version = 0
        """Grows with every change; for caches."""

    def rest(self, entry: Resting) -> None:
        """Add an entry behind all others at its price."""
        side = self._sides[entry.side]
        queue = side.queues.get(entry.price)
        if queue is None:
            queue = side.queues[entry.price] = deque()
            insort(side.prices, entry.price)
        queue.append(entry)
        self.version += 1

    def remove(self, entry: Resting) -> None:
        """Take an entry out; it must be in the book."""
        side = self._sides[entry.side]
        queue = side.queues[entry.price]
        queue.remove(entry)
        if not queue:
            self._drop_price(side, entry.price)
        self.version += 1

    def reduce(self, entry: Resting, amount: Decimal) -> None:
        """Take a part of an entry away; nothing left removes it."""
        entry.remaining = money.sub(entry.remaining, amount)
        if not entry.remaining:
            self.remove(entry)
        self.version += 1

    def best(self, side: str) -> Decimal | None:
        """Highest buy price or lowest sell price."""
        prices = self._sides[side].prices
        if not prices:
            return None
        return prices[-1] if side == "buy" else prices[0]

    def crossing(self, taker_side: str, limit: Decimal) -> Iterator[Resting]:
        """Entries that a taker with this limit meets, best price first, oldest first in a price."""
        for price, queue in self._queues(OTHER[taker_side]):
            if (price > limit) if taker_side == "buy" else (price < limit):
                return
            yield from list(queue)

    def take(self, taker_side: str, amount: Decimal, limit: Decimal) -> list[tuple[Resting, Decimal]]:
        """Remove up to `amount` from the other side, at `limit` or better; what was taken."""
        taken: list[tuple[Resting, Decimal]] = []
        for entry in list(self._until(taker_side, amount, limit)):
            part = min(entry.remaining, amount)
            amount = money.sub(amount, part)
            self.reduce(entry, part)
            taken.append((entry, part))
        return taken

    def _until(self, taker_side: str, amount: Decimal, limit: Decimal) -> Iterator[Resting]:
        for entry in self.crossing(taker_side, limit):
            if not amount:
                return
            yield entry
            amount = money.sub(amount, min(entry.remaining, amount))

    def levels(self, side: str, count: int) -> list[tuple[Decimal, Decimal]]:
        """Price and summed amount of the best levels, best first."""
        found = []
        for price, queue in itertools.islice(self._queues(side), count):
            total = ZERO
            for entry in queue:
                total = money.add(total, entry.remaining)
            found.append((price, total))
        return found

    def entries(self, side: str) -> list[Resting]:
        """Every entry of a side, best first."""
        return [entry for _, queue in self._queues(side) for entry in queue]

    def _queues(self, side: str) -> Iterator[tuple[Decimal, deque[Resting]]]:
        half = self._sides[side]
        prices = reversed(half.prices) if side == "buy" else iter(half.prices)
        return ((price, half.queues[price]) for price in prices)

    def _drop_price(self, side: _Side, price: Decimal) -> None:
        del side.queues[price]
        del side.prices[bisect_left(side.prices, price)]
