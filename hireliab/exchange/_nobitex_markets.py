"""
Nobitex's public JSON to typed values: books, trades, candles, statistics, and the rules of each market; pure.

Sources: nobitex-api.md section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hireliab.core import money
from hireliab.errors import InvalidOrderError, MalformedResponseError
from hireliab.exchange._nobitex_values import (
    Symbol,
    amount,
    malformed,
    mapping,
    milliseconds,
    number,
    positive_or_none,
    rows,
    side_of,
    symbol,
)
from hireliab.exchange.adapter import MarketData

_TEN = Decimal(10)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderBook:
    """One market's book; see MarketData for the order of its sides."""

    symbol: str
    asks: tuple[tuple[Decimal, Decimal], ...]
    bids: tuple[tuple[Decimal, Decimal], ...]
    last_price: Decimal | None
    updated: float


def order_book(payload: Mapping[str, Any], market: Symbol, *, now: float, what: str) -> OrderBook:
    """v3/orderbook of one market; an empty book has no last price and perhaps no time."""
    updated = payload.get("lastUpdate")
    return OrderBook(
        symbol=str(market),
        asks=tuple(sorted(_levels(payload.get("asks"), what))),
        bids=tuple(sorted(_levels(payload.get("bids"), what), reverse=True)),
        last_price=positive_or_none(payload.get("lastTradePrice"), what),
        updated=now if updated is None else milliseconds(updated, what),
    )


def _levels(value: object, what: str) -> list[tuple[Decimal, Decimal]]:
    levels = []
    for level in rows(value, what):
        if not isinstance(level, list) or len(level) < 2:
            raise malformed(what, "a level is not a price and an amount")
        levels.append((amount(level[0], what), amount(level[1], what)))
    return levels


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTrade:
    """Somebody's trade; `time` in Unix seconds."""

    time: float
    price: Decimal
    amount: Decimal
    side: str


def public_trade(row: object, what: str) -> PublicTrade:
    """One row of v2/trades."""
    row = mapping(row, what)
    return PublicTrade(
        time=milliseconds(row.get("time"), what),
        price=amount(row.get("price"), what),
        amount=amount(row.get("volume"), what),
        side=side_of(row.get("type"), what),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """Prices in rial for IRT markets; `time` is the start, in Unix seconds. The newest may be unfinished."""

    time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def candles(payload: Mapping[str, Any], market: Symbol, what: str) -> tuple[Candle, ...]:
    """market/udf/history, oldest first. Its prices of IRT markets are in toman: ten rial each."""
    if payload.get("s") == "no_data":
        return ()
    if payload.get("s") != "ok":
        raise malformed(what, f"a chart error, {payload.get('errmsg')!r:.80}")
    columns = [rows(payload.get(key), what) for key in "tohlcv"]
    if len({len(column) for column in columns}) != 1:
        raise malformed(what, "columns of different lengths")
    scale = _TEN if market.quote == "IRT" else Decimal(1)
    result = []
    for start, *prices, volume in zip(*columns, strict=True):
        opened, high, low, close = (money.multiply(amount(price, what), scale) for price in prices)
        result.append(
            Candle(
                time=int(number(start, what)),
                open=opened,
                high=high,
                low=low,
                close=close,
                volume=amount(volume, what),
            )
        )
    return tuple(sorted(result, key=lambda candle: candle.time))


def stats(payload: object, what: str) -> dict[str, dict[str, Decimal | bool | str]]:
    """market/stats by symbol ("BTC/IRT"); numbers as Decimal, what is none stays as it came."""
    found: dict[str, dict[str, Decimal | bool | str]] = {}
    for key, row in mapping(payload, what).items():
        try:
            market = symbol(key)
        except InvalidOrderError:
            continue  # a market with another quote currency is none that we can trade
        found[str(market)] = {name: _statistic(value) for name, value in mapping(row, what).items()}
    return found


def _statistic(value: object) -> Decimal | bool | str:
    if isinstance(value, bool):
        return value
    try:
        return number(value, "statistic")
    except MalformedResponseError:
        return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketRules:
    """What an order on one market must fit; in base and quote currency."""

    amount_step: Decimal
    price_step: Decimal
    min_value: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    v2/options, as far as orders need it.

    Attributes:
        markets: Rules by symbol ("BTC/IRT").
        names: Display name in lower case ("bitcoin") to code ("BTC").
    """

    markets: Mapping[str, MarketRules]
    names: Mapping[str, str] = field(default_factory=dict)


def options(payload: Mapping[str, Any], what: str) -> Options:
    """v2/options; a market without both steps is left out."""
    section = mapping(payload.get("nobitex"), what)
    amounts = mapping(section.get("amountPrecisions"), what)
    prices = mapping(section.get("pricePrecisions"), what)
    minimums = mapping(section.get("minOrders"), what)
    markets = {}
    for key, step in amounts.items():
        try:
            market = symbol(key)
        except InvalidOrderError:
            continue
        if key not in prices or market.dst not in minimums:
            continue
        rules = MarketRules(
            amount_step=amount(step, what),
            price_step=amount(prices[key], what),
            min_value=amount(minimums[market.dst], what),
        )
        if money.ZERO in (rules.amount_step, rules.price_step):
            raise malformed(what, f"a step of 0 for {key}")
        markets[str(market)] = rules
    names = {}
    for coin in payload.get("coins") or ():
        if isinstance(coin, dict) and isinstance(coin.get("coin"), str):
            code = coin["coin"].upper()
            names[code.lower()] = code
            for key in ("name", "stdName"):
                if isinstance(coin.get(key), str):
                    names[coin[key].lower()] = code
    return Options(markets=markets, names=names)


def market_data(book: OrderBook, statistics: dict[str, Decimal | bool | str]) -> MarketData:
    """Join a book and its market's statistics; the last price is the book's, else that of the statistics."""
    last = book.last_price
    latest = statistics.get("latest")
    if last is None and isinstance(latest, Decimal) and latest > money.ZERO:
        last = latest
    return MarketData(
        symbol=book.symbol, asks=book.asks, bids=book.bids, last_price=last, stats=statistics, updated=book.updated
    )
