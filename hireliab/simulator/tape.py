"""Last price, recent trades, candles and day statistics of one market."""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass
from decimal import Decimal

from hireliab.simulator import money
from hireliab.simulator.markets import Market
from hireliab.simulator.money import ONE, ZERO

DAY = 86_400
# Daily candles start at Tehran midnight, 20:30 UTC.
TEHRAN_OFFSET = 12_600
RESOLUTIONS = {
    "1": 60, "5": 300, "15": 900, "30": 1800, "60": 3600, "180": 10_800, "240": 14_400,
    "360": 21_600, "720": 43_200, "D": DAY, "1D": DAY, "2D": 2 * DAY, "3D": 3 * DAY,
}  # fmt: skip
KEPT = 500
_HOUR = 3600


@dataclass(frozen=True)
class Print:
    """One public trade; `side` is the taker's."""

    at_ns: int
    price: Decimal
    amount: Decimal
    side: str


@dataclass(frozen=True)
class Candle:
    """Open, high, low, close and volume from `start` (Unix seconds) on."""

    start: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class Tape:
    """
    Trades of one market since the start, after an invented past.

    The past is a pure function of seed, market and time, so that two runs agree.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self, market: Market, seed: int, now_ns: int) -> None:
        self._market = market
        self._key = f"{seed}/{market.symbol}/"
        self._shift = ZERO
        self.last = market.mid
        self._prints: deque[Print] = deque(maxlen=KEPT)
        now = now_ns // 1_000_000_000
        # The invented past ends at the price with which the market opens.
        self._shift = money.sub(market.mid, self._past_price(now))
        for i in range(20, 0, -1):
            side = "buy" if self._noise(i) % 2 else "sell"
            amount = money.floor_to(money.mul(market.lot, Decimal("0.01")), market.amount_step)
            price = self._past_price(now - 7 * i)
            self._prints.append(Print(now_ns - i * 7_000_000_000, price, amount or ONE, side))

    def print(self, trade: Print) -> None:
        """Record a trade and make its price the last one."""
        self._prints.append(trade)
        self.last = trade.price

    def recent(self, count: int) -> list[Print]:
        """The newest trades, newest first."""
        return list(self._prints)[: -count - 1 : -1]

    def candles(self, resolution: int, first: int, last: int, now: int) -> list[Candle]:
        """Candles whose start lies in ``[first, last]``, ascending; none in the future."""
        offset = TEHRAN_OFFSET if resolution >= DAY else 0
        start = -(-(first + offset) // resolution) * resolution - offset
        found = []
        while start <= min(last, now):
            found.append(self._candle(start, resolution, now))
            start += resolution
        return found

    def day(self, now: int) -> Candle:
        """The candle since Tehran midnight."""
        start = (now + TEHRAN_OFFSET) // DAY * DAY - TEHRAN_OFFSET
        return self._candle(start, DAY, now)

    def _candle(self, start: int, resolution: int, now: int) -> Candle:
        end = start + resolution
        opened = self._past_price(start)
        closed = self.last if end > now else self._past_price(end)
        swing = money.mul(self._market.mid, money.millionths(self._noise(start) % 800))
        high, low = max(opened, closed), min(opened, closed)
        volume = money.mul(self._market.lot, Decimal(1 + self._noise(end) % 400))
        real = [trade for trade in self._prints if start <= trade.at_ns // 1_000_000_000 < end]
        for trade in real:
            high, low = max(high, trade.price), min(low, trade.price)
            volume = money.add(volume, trade.amount)
        step = self._market.price_step
        high = money.round_to(money.add(high, swing), step)
        low = money.round_to(money.sub(low, swing), step)
        return Candle(start, opened, high, max(low, ZERO), closed, volume)

    def _past_price(self, at: int) -> Decimal:
        """Within 6 % of the market's first mid: linear between hourly random points."""
        hour, rest = divmod(at, _HOUR)
        before, after = self._noise(hour) % 60_001, self._noise(hour + 1) % 60_001
        factor = money.millionths(970_000 + before + (after - before) * rest // _HOUR)
        price = money.mul(self._market.mid, factor)
        return money.add(money.round_to(price, self._market.price_step), self._shift)

    def _noise(self, n: int) -> int:
        return zlib.crc32(f"{self._key}{n}".encode())
