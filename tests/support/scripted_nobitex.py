"""A NobitexClient whose transport is a script: the whole client runs, no socket is opened."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from hireliab.exchange._nobitex_transport import Answer
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.nobitex_client import NobitexClient
from hireliab.testing import FakeClock

TOKEN = "f" * 40
KEY = "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA="
SECRET = "S5y19KewZzheCWCO4xqMcwwvtR8vQ-hHjE_cdjz-XxE="  # the docs' published example pair

OPTIONS = {
    "status": "ok",
    "coins": [{"coin": "btc", "name": "Bitcoin"}, {"coin": "usdt", "name": "Tether"}],
    "nobitex": {
        "minOrders": {"rls": "3_000_000", "usdt": "11"},
        "amountPrecisions": {"BTCIRT": "0.000001", "BTCUSDT": "0.000001", "DOGEIRT": "1"},
        "pricePrecisions": {"BTCIRT": "10", "BTCUSDT": "0.01", "DOGEIRT": "1"},
    },
}
BOOK = {
    "status": "ok",
    "lastUpdate": 1_760_000_000_000,
    "lastTradePrice": "50000",
    "asks": [["50010", "1"], ["50020", "2"]],
    "bids": [["49990", "1"], ["49980", "2"]],
}
RIAL_BOOK = BOOK | {"lastTradePrice": "50000000000", "asks": [["50010000000", "1"]], "bids": [["49990000000", "1"]]}


def order_row(**fields: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "type": "buy",
        "execution": "Limit",
        "tradeType": "Spot",
        "market": "BTC-USDT",
        "price": "50000",
        "amount": "0.001",
        "matchedAmount": "0",
        "status": "Active",
        "fee": 0,
        "averagePrice": "0",
        "created_at": "2026-01-02T03:04:05.678901+00:00",
        "clientOrderId": "a1",
    } | fields


class Script:
    """
    Answers by path prefix, the longest one that fits; an answer is a body, (status, body), an exception or a callable
    of the request's body that gives one of these. A list is answered one by one, the last for ever.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.answers: dict[str, Any] = {
            "/v2/options": OPTIONS,
            "/v3/orderbook/": BOOK,
            "/v3/orderbook/BTCIRT": RIAL_BOOK,
        }
        self.requests: list[Any] = []
        self.lock = threading.Lock()

    def request(self, make: Callable[[], Any], *, what: str, read: bool) -> Answer:
        sent = make()
        with self.lock:
            self.requests.append(sent)
        path = sent.path
        key = max((known for known in self.answers if path.startswith(known)), key=len)
        answer = self.answers[key]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer) and not isinstance(answer, type):
            answer = answer(sent)
        if isinstance(answer, BaseException):
            raise answer
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        now = self.clock.time()
        return Answer(status=status, headers={}, body=raw, sent=now, received=now)

    def close(self) -> None:
        pass

    def paths(self) -> list[str]:
        return [sent.path for sent in self.requests]

    def bodies(self, path: str) -> list[bytes]:
        return [sent.body for sent in self.requests if sent.path.startswith(path)]

    def private(self) -> int:
        return sum("Authorization" in sent.headers or "Nobitex-Key" in sent.headers for sent in self.requests)


def scripted_client(script: Script, **settings: Any) -> NobitexClient:
    client = NobitexClient(base_url="http://venue.test", clock=script.clock, **settings)
    client._calls.transport = script  # type: ignore[assignment]
    return client


def scripted_pool(script: Script, **settings: Any) -> ConnectionPool[NobitexClient]:
    return ConnectionPool(
        name="scripted",
        create_client_func=lambda: scripted_client(script, **settings),
        config={"min_connections": 0, "max_connections": 4},
        clock=script.clock,
    )
