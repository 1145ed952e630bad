"""What the rest of the market does when the admin port asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from hireliab.simulator import money
from hireliab.simulator.engine import Engine

_PRINTED_SHARE = Decimal("0.01")


def house_trade(engine: Engine, symbol: str, price: Decimal, amount: Decimal | None = None, side: str = "buy") -> None:
    """
    Let others trade at a price.

    Users' resting orders that accept the price are filled first, best price first and at their
    own prices; then the trade goes on the tape, so that `price` is the last price and stops see it.

    Args:
        amount: At most this much is filled; None fills everything that accepts the price.
        side: The taker's side as the tape shows it.
    """
    pit = engine.pits[symbol]
    engine.trade_at(pit, price, amount)
    printed = money.floor_to(money.mul(pit.market.lot, _PRINTED_SHARE), pit.market.amount_step)
    engine.print_trade(pit, price, amount or printed or pit.market.amount_step, side)


def move_market(engine: Engine, symbol: str, mid: Decimal) -> None:
    """Quote around another price, after filling the users' orders that it passes; `mid` is traded."""
    pit = engine.pits[symbol]
    pit.house.quote([])
    engine.trade_at(pit, mid, None)
    pit.house.quote_around(mid)
    house_trade(engine, symbol, mid)


def quote(engine: Engine, symbol: str, levels: Iterable[tuple[str, Decimal, Decimal]]) -> None:
    """Replace the house's quotes by explicit (side, price, amount) levels."""
    engine.pits[symbol].house.quote(levels)


def thin(engine: Engine, symbol: str, depth: Decimal) -> None:
    """Leave only `depth` per side within reach of a market order; 0 leaves nothing."""
    engine.pits[symbol].house.thin(depth, engine.settings.collar)
