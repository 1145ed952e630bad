"""Currencies and markets that the simulator lists, with the steps of the public documents."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

DISPLAY_NAMES = {
    "rls": "\ufdfc",  # the one-character rial sign the API sends
    "usdt": "Tether",
    "btc": "Bitcoin",
    "eth": "Ethereum",
    "doge": "Dogecoin",
}
RIAL_WORD = "\u0631\u06cc\u0627\u0644"


@dataclass(frozen=True)
class Market:
    """One market: names, steps, and where the house starts to quote."""

    symbol: str
    """As in paths: ``BTCIRT``."""
    base: str
    """Lower-case code of what is bought and sold."""
    quote: str
    """``rls`` or ``usdt``."""
    amount_step: Decimal
    price_step: Decimal
    mid: Decimal
    lot: Decimal
    """Largest amount of one house level."""

    @property
    def key(self) -> str:
        """As in market/stats: ``btc-rls``."""
        return f"{self.base}-{self.quote}"

    @property
    def label(self) -> str:
        """As in orders and trades: ``BTC-RLS``."""
        return self.key.upper()


def _market(symbol: str, base: str, quote: str, *numbers: str) -> Market:
    amount_step, price_step, mid, lot = map(Decimal, numbers)
    return Market(symbol, base, quote, amount_step, price_step, mid, lot)


DEFAULT_MARKETS = (
    _market("BTCIRT", "btc", "rls", "0.000001", "10", "49980000000", "0.5"),
    _market("BTCUSDT", "btc", "usdt", "0.000001", "0.01", "98000", "0.5"),
    _market("ETHIRT", "eth", "rls", "0.00001", "10", "1785000000", "8"),
    _market("ETHUSDT", "eth", "usdt", "0.00001", "0.01", "3500", "8"),
    _market("USDTIRT", "usdt", "rls", "0.01", "10", "510000", "20000"),
    _market("DOGEIRT", "doge", "rls", "1", "1", "102000", "50000"),
)

DEFAULT_BALANCES = {
    "rls": Decimal(500_000_000_000),
    "usdt": Decimal(1_000_000),
    "btc": Decimal(10),
    "eth": Decimal(100),
    "doge": Decimal(1_000_000),
}
