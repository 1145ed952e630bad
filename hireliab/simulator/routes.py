"""Which handler, permission and rate limit belongs to a method and path. Slashes count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hireliab.simulator import accounts, private, public, trading
from hireliab.simulator.auth import TOKEN_ONLY
from hireliab.simulator.limits import ORDERS, Limit
from hireliab.simulator.message import Reply
from hireliab.simulator.state import Call, ExchangeState

Handler = Callable[[ExchangeState, Call], Reply]

_MINUTE = 60
_READ, _TRADE = "READ", "TRADE"


@dataclass(frozen=True)
class Route:
    """One endpoint. A path that ends with a slash and `takes_rest` is followed by one more segment."""

    methods: tuple[str, ...]
    path: str
    handler: Handler
    permission: str | None = None
    limit: Limit | None = None
    takes_rest: bool = False
    places_order: bool = False
    """Its cost on the limit depends on the order."""


class Routes:
    """All endpoints of one exchange."""

    def __init__(self) -> None:
        self._exact: dict[str, Route] = {}
        self._prefixed: list[Route] = []
        for route in _table(public.PublicData()):
            if route.takes_rest:
                self._prefixed.append(route)
            else:
                self._exact[route.path] = route

    def find(self, path: str) -> tuple[Route, str] | None:
        """The route of a path and the rest of the path; None for an unknown path."""
        route = self._exact.get(path)
        if route is not None:
            return route, ""
        for route in self._prefixed:
            rest = path[len(route.path) :]
            if path.startswith(route.path) and rest and "/" not in rest:
                return route, rest
        return None


def _table(data: public.PublicData) -> list[Route]:
    return [*_public(data), *_accounts(), *_private(), *_trading()]


def _public(data: public.PublicData) -> list[Route]:
    get = ("GET",)
    return [
        Route(get, "/v3/orderbook/", data.orderbook, limit=Limit("orderbook", 300, _MINUTE), takes_rest=True),
        Route(
            ("GET", "POST"),
            "/v2/orderbook/",
            data.legacy_orderbook,
            limit=Limit("orderbook2", 300, _MINUTE),
            takes_rest=True,
        ),
        Route(get, "/v2/depth/", public.depth, limit=Limit("depth", 300, _MINUTE), takes_rest=True),
        Route(get, "/v2/trades/", public.trades, limit=Limit("trades", 60, _MINUTE), takes_rest=True),
        Route(get, "/market/stats", public.stats, limit=Limit("stats", 20, _MINUTE)),
        Route(get, "/market/udf/history", public.candles, limit=Limit("udf", 60, _MINUTE)),
        Route(get, "/v2/options", public.options),
    ]


def _accounts() -> list[Route]:
    post = ("POST",)
    return [
        Route(post, "/auth/login/", accounts.login, limit=Limit("login", 30, 10 * _MINUTE)),
        Route(post, "/auth/logout/", accounts.logout, TOKEN_ONLY),
        Route(post, "/apikeys/create", accounts.create_key, TOKEN_ONLY),
        Route(("GET",), "/apikeys/list", accounts.list_keys, TOKEN_ONLY),
        Route(post, "/apikeys/update/", accounts.update_key, TOKEN_ONLY, takes_rest=True),
        Route(post, "/apikeys/delete/", accounts.delete_key, TOKEN_ONLY, takes_rest=True),
    ]


def _private() -> list[Route]:
    both = ("GET", "POST")
    get = ("GET",)
    return [
        Route(both, "/users/profile", private.profile, _READ),
        Route(both, "/users/limitations", private.limitations, _READ),
        Route(both, "/users/wallets/list", private.list_wallets, _READ, Limit("wallets-list", 20, 2 * _MINUTE)),
        Route(both, "/v2/wallets", private.wallets, _READ, Limit("wallets", 15, _MINUTE)),
        Route(("POST",), "/users/wallets/balance", private.balance, _READ, Limit("balance", 60, 2 * _MINUTE)),
        Route(
            get,
            "/users/wallets/transactions/list",
            private.wallet_transactions,
            _READ,
            Limit("transactions", 60, 2 * _MINUTE),
        ),
        Route(
            get, "/users/transactions-history", private.transactions_history, _READ, Limit("history", 60, 60 * _MINUTE)
        ),
        Route(get, "/users/wallets/deposits/list", private.deposits, _READ, Limit("deposits", 60, 2 * _MINUTE)),
    ]


def _trading() -> list[Route]:
    post, get = ("POST",), ("GET",)
    return [
        Route(post, "/market/orders/add", trading.add, _TRADE, ORDERS, places_order=True),
        Route(post, "/market/orders/batch-add", trading.batch_add, _TRADE, Limit("batch-add", 300, 10 * _MINUTE)),
        Route(("POST", "GET"), "/market/orders/status", trading.status, _READ, Limit("status", 300, _MINUTE)),
        Route(get, "/market/orders/list", trading.list_orders, _READ, Limit("list", 30, _MINUTE)),
        Route(post, "/market/orders/update-status", trading.update_status, _TRADE, Limit("update-status", 90, _MINUTE)),
        Route(post, "/market/orders/cancel-old", trading.cancel_old, _TRADE, Limit("cancel-old", 30, _MINUTE)),
        Route(post, "/market/orders/cancel-batch", trading.cancel_batch, _TRADE, Limit("cancel-batch", 10, _MINUTE)),
        Route(get, "/market/orders/open-count", trading.open_count, TOKEN_ONLY, Limit("open-count", 15, _MINUTE)),
        Route(get, "/market/trades/list", trading.list_trades, _READ, Limit("own-trades", 30, _MINUTE)),
    ]
