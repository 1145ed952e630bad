"""Market data, which needs no credential."""

from __future__ import annotations

from decimal import Decimal

from hireliab.simulator import money, params
from hireliab.simulator.engine import Pit
from hireliab.simulator.markets import DISPLAY_NAMES
from hireliab.simulator.message import Reply, answer, refuse
from hireliab.simulator.money import ZERO
from hireliab.simulator.state import Call, ExchangeState
from hireliab.simulator.tape import RESOLUTIONS, Candle

_TRADES = 20
_CANDLES = 500
_TEN = Decimal(10)
_HUNDRED = Decimal(100)


class BookCache:
    """
    Order book answers, kept while the book has not changed, or for `book_cache` seconds.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], tuple[int, float, dict[str, object]]] = {}

    def sides(self, exchange: ExchangeState, pit: Pit, count: int, call: Call) -> dict[str, object]:
        """`lastUpdate`, `asks` and `bids` with so many levels."""
        key = (pit.market.symbol, count)
        kept = self._kept.get(key)
        if kept is not None and (kept[0] == pit.book.version or call.now - kept[1] < exchange.settings.book_cache):
            return kept[2]
        sides: dict[str, object] = {
            "lastUpdate": call.now_ns // 1_000_000,
            "lastTradePrice": money.text(pit.tape.last),
            "asks": _levels(pit, "sell", count),
            "bids": _levels(pit, "buy", count),
        }
        self._kept[key] = (pit.book.version, call.now, sides)
        return sides


class PublicData:
    """Handlers of market data; they share one book cache."""

    def __init__(self) -> None:
        self._cache = BookCache()

    def orderbook(self, exchange: ExchangeState, call: Call) -> Reply:
        """GET /v3/orderbook/SYMBOL, or `all`."""
        settings = exchange.settings
        if call.rest == "all":
            books: dict[str, object] = {}
            for symbol, pit in exchange.engine.pits.items():
                sides = dict(self._cache.sides(exchange, pit, settings.levels_all, call))
                del sides["lastTradePrice"]  # absent from the documents' example
                books[symbol] = sides
            return answer({"status": "ok", **books})
        pit = _pit(exchange, call)
        return answer({"status": "ok", **self._cache.sides(exchange, pit, settings.levels, call)})

    def legacy_orderbook(self, exchange: ExchangeState, call: Call) -> Reply:
        """/v2/orderbook/SYMBOL: sell orders under `bids`, buy orders under `asks`."""
        sides = dict(self._cache.sides(exchange, _pit(exchange, call), exchange.settings.levels, call))
        sides["bids"], sides["asks"] = sides["asks"], sides["bids"]
        return answer({"status": "ok", **sides})


def depth(exchange: ExchangeState, call: Call) -> Reply:
    """GET /v2/depth/SYMBOL: amounts grow outwards; bids are ascending, as in the example."""
    pit = _pit(exchange, call)
    bids, asks = _cumulative(pit, "buy"), _cumulative(pit, "sell")
    return answer(
        {
            "status": "ok",
            "lastUpdate": str(call.now_ns // 1_000_000),
            "bids": bids[::-1],
            "asks": asks,
            "lastTradePrice": money.text(pit.tape.last),
        }
    )


def trades(exchange: ExchangeState, call: Call) -> Reply:
    """GET /v2/trades/SYMBOL: newest first, without ids."""
    rows = [
        {
            "time": trade.at_ns // 1_000_000,
            "price": money.text(trade.price),
            "volume": money.text(trade.amount),
            "type": trade.side,
        }
        for trade in _pit(exchange, call).tape.recent(_TRADES)
    ]
    return answer({"status": "ok", "trades": rows})


def stats(exchange: ExchangeState, call: Call) -> Reply:
    """GET /market/stats, filtered by comma lists of codes."""
    bases, quotes = _codes(call, "srcCurrency"), _codes(call, "dstCurrency")
    found = {
        pit.market.key: _day_stats(pit, call.now_ns // 1_000_000_000)
        for pit in exchange.engine.pits.values()
        if (not bases or pit.market.base in bases) and (not quotes or pit.market.quote in quotes)
    }
    return answer({"status": "ok", "stats": found})


def candles(exchange: ExchangeState, call: Call) -> Reply:
    """GET /market/udf/history: at most 500 candles per page, rial markets in toman."""
    pit = exchange.engine.pits.get(str(call.params.get("symbol", "")))
    resolution = RESOLUTIONS.get(str(call.params.get("resolution", "")))
    if pit is None:
        return answer({"s": "error", "errmsg": "Invalid symbol!"})
    if resolution is None:
        return answer({"s": "error", "errmsg": "Invalid resolution!"})
    last, first, count, page = (params.whole(call.params, name) for name in ("to", "from", "countback", "page"))
    if last is None:
        return answer({"s": "error", "errmsg": "Invalid to!"})
    now = call.now_ns // 1_000_000_000
    last = min(last, now)
    if count is not None:
        first = last - resolution * count + 1
    page = max(1, page or 1)
    newest = last - resolution * _CANDLES * (page - 1)
    oldest = max(newest - resolution * _CANDLES + 1, 0 if first is None else first)
    found = pit.tape.candles(resolution, oldest, newest, now)
    if not found:
        return answer({"s": "no_data"})
    return _udf(found, _TEN if pit.market.quote == "rls" else money.ONE)


def options(exchange: ExchangeState, call: Call) -> Reply:  # noqa: ARG001 - one signature for all handlers
    """GET /v2/options: currencies, minimums, steps."""
    markets = [pit.market for pit in exchange.engine.pits.values()]
    codes = list(DISPLAY_NAMES)
    minimum = {"rls": money.text(exchange.settings.min_order_rls), "usdt": money.text(exchange.settings.min_order_usdt)}
    return answer(
        {
            "status": "ok",
            "features": {
                "fcmEnabled": True,
                "chat": "livechat",
                "walletsToNet": True,
                "autoKYC": True,
                "enabledFeatures": ["StopLoss", "OCO"],
                "betaFeatures": [],
            },
            "coins": [_coin(code) for code in codes],
            "nobitex": {
                "allCurrencies": codes,
                "activeCurrencies": codes,
                "xchangeCurrencies": [],
                "topCurrencies": codes,
                "testingCurrencies": [],
                "withdrawLimits": {},
                "minOrders": {**minimum, "2": minimum["rls"], "13": minimum["usdt"]},
                "amountPrecisions": {market.symbol: money.text(market.amount_step) for market in markets},
                "pricePrecisions": {market.symbol: money.text(market.price_step) for market in markets},
                "giftCard": {},
            },
        }
    )


def _coin(code: str) -> dict[str, object]:
    network = code.upper()
    standard = {"depositMin": "0.0000000000", "depositMax": "4_000_0.00000000"}
    return {
        "coin": code,
        "name": DISPLAY_NAMES[code],
        "defaultNetwork": network,
        "displayPrecision": "0.00000001",
        "stdName": DISPLAY_NAMES[code],
        "networkList": {
            network: {
                "network": network,
                "name": DISPLAY_NAMES[code],
                "coin": code,
                "isDefault": True,
                "beta": False,
                "addressRegex": "",
                "memoRequired": False,
                "memoRegex": "",
                "depositEnable": True,
                "minConfirm": 2,
                "depositInfo": {"standard": standard},
                "withdrawEnable": True,
                "withdrawFee": "0.0001",
                "withdrawIntegerMultiple": "0.00000001",
                "withdrawMin": "0.001",
                "withdrawMax": "4_000_0.00000000",
            }
        },
    }


def _pit(exchange: ExchangeState, call: Call) -> Pit:
    pit = exchange.engine.pits.get(call.rest)
    if pit is None:
        raise refuse("InvalidSymbol", f'The symbol "{call.rest}" is not a valid pair.', 400)
    return pit


def _levels(pit: Pit, side: str, count: int) -> list[list[str]]:
    return [[money.text(price), money.text(amount)] for price, amount in pit.book.levels(side, count)]


def _cumulative(pit: Pit, side: str) -> list[list[str]]:
    total, rows = ZERO, []
    for price, amount in pit.book.levels(side, 100):
        total = money.add(total, amount)
        rows.append([money.text(price), money.text(total)])
    return rows


def _codes(call: Call, name: str) -> set[str]:
    return {code.strip().lower() for code in str(call.params.get(name, "")).split(",") if code.strip()}


def _day_stats(pit: Pit, now: int) -> dict[str, object]:
    day = pit.tape.day(now)
    change = money.mul(money.div(money.sub(day.close, day.open), day.open), _HUNDRED)
    best = {side: pit.book.best(side) or ZERO for side in ("buy", "sell")}
    volume = day.volume
    numbers = {
        "bestSell": best["sell"],
        "bestBuy": best["buy"],
        "volumeSrc": volume,
        "volumeDst": money.mul(volume, day.close),
        "latest": pit.tape.last,
        "mark": pit.house.mid,
        "dayLow": day.low,
        "dayHigh": day.high,
        "dayOpen": day.open,
        "dayClose": day.close,
        "dayChange": money.round_to(change, Decimal("0.01")),
    }
    return {"isClosed": pit.is_closed, **{name: money.text(value) for name, value in numbers.items()}}


def _udf(found: list[Candle], divisor: Decimal) -> Reply:
    """Written by hand, because its numbers are bare and must not pass through float."""

    def numbers(values: list[Decimal]) -> str:
        return "[" + ",".join(money.text(value) for value in values) + "]"

    prices = {
        "o": [money.div(candle.open, divisor) for candle in found],
        "h": [money.div(candle.high, divisor) for candle in found],
        "l": [money.div(candle.low, divisor) for candle in found],
        "c": [money.div(candle.close, divisor) for candle in found],
        "v": [candle.volume for candle in found],
    }
    starts = ",".join(str(candle.start) for candle in found)
    parts = ['"s":"ok"', f'"t":[{starts}]', *(f'"{name}":{numbers(values)}' for name, values in prices.items())]
    return Reply(200, ("{" + ",".join(parts) + "}").encode())
