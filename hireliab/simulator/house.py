"""The house's quotes: seeded levels around a mid price, restored after they were taken."""

from __future__ import annotations

import random
from collections.abc import Iterable
from decimal import Decimal

from hireliab.simulator import money
from hireliab.simulator.book import OTHER, Book, Resting
from hireliab.simulator.markets import Market
from hireliab.simulator.money import ONE, ZERO

LEVELS = 24


class House:
    """
    What the house wants to quote in one market, and what of it stands in the book.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self, market: Market, book: Book, seed: int) -> None:
        self._market = market
        self._book = book
        self._rng = random.Random(f"{seed}/house/{market.symbol}")
        self._targets: dict[tuple[str, Decimal], Decimal] = {}
        self._standing: dict[tuple[str, Decimal], Resting] = {}
        self._short: dict[tuple[str, Decimal], None] = {}
        self.mid = market.mid
        self.quote_around(market.mid)

    def quote_around(self, mid: Decimal) -> None:
        """Replace all quotes by the usual ladder around a price: 24 levels from 0.02 % to 3 %."""
        self.mid = mid
        self.quote([(side, *self._level(side, mid, i)) for i in range(LEVELS) for side in ("buy", "sell")])

    def quote(self, levels: Iterable[tuple[str, Decimal, Decimal]]) -> None:
        """
        Replace all quotes.

        A quote that would cross a user's order waits until that order has gone.
        """
        for entry in self._standing.values():
            self._book.remove(entry)
        self._standing.clear()
        self._targets.clear()
        for side, price, amount in levels:
            key = (side, price)
            self._targets[key] = money.add(self._targets.get(key, ZERO), amount)
        self._short = dict.fromkeys(self._targets)
        self.refill()

    def thin(self, depth: Decimal, collar: Decimal) -> None:
        """Offer only `depth` per side within the collar around the mid; 0 offers nothing there."""
        edge = {"buy": money.mul(self.mid, money.sub(ONE, collar)), "sell": money.mul(self.mid, money.add(ONE, collar))}
        # Twice the collar, because a market order may give a price of its own as reference.
        far = money.mul(collar, self.mid)
        levels = []
        for (side, price), amount in self._targets.items():
            outside = price < money.sub(edge[side], far) if side == "buy" else price > money.add(edge[side], far)
            if outside:
                levels.append((side, price, amount))
        if depth:
            levels += [(side, self._level(side, self.mid, 0)[0], depth) for side in edge]
        self.quote(levels)

    def taken(self, entry: Resting) -> None:
        """Note that a quote lost a part, or all."""
        key = (entry.side, entry.price)
        self._short[key] = None
        if not entry.remaining:
            self._standing.pop(key, None)

    def refill(self) -> None:
        """Restore quotes that were taken, except where they would cross somebody's order."""
        waiting: dict[tuple[str, Decimal], None] = {}
        for key in self._short:
            side, price = key
            best = self._book.best(OTHER[side])
            if best is not None and ((price >= best) if side == "buy" else (price <= best)):
                waiting[key] = None
                continue
            entry = self._standing.get(key)
            if entry is None:
                entry = self._standing[key] = Resting(side, price, self._targets[key])
                self._book.rest(entry)
            else:
                entry.remaining = self._targets[key]
                self._book.version += 1
        self._short = waiting

    def _level(self, side: str, mid: Decimal, i: int) -> tuple[Decimal, Decimal]:
        away = 200 + 56 * i * i + self._rng.randrange(40)
        factor = money.millionths(1_000_000 + (away if side == "sell" else -away))
        price = money.round_to(money.mul(mid, factor), self._market.price_step)
        share = money.millionths(10_000 * self._rng.randint(20, 100))
        amount = money.floor_to(money.mul(self._market.lot, share), self._market.amount_step)
        return price, amount
