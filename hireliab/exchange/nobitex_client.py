"""
`NobitexClient`: one blocking method for each REST call of Nobitex that spot trading needs.

It neither limits rates nor retries what may change something: that is the adapter's and the pipeline's business.
What a method raises says whether the call went out (see `hireliab.errors`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from hireliab._version import __version__
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.core.config import number as config_number
from hireliab.core.config import whole
from hireliab.errors import ConfigError, InvalidOrderError
from hireliab.exchange import _nobitex_markets as markets
from hireliab.exchange import _nobitex_values as values
from hireliab.exchange._nobitex_calls import (
    Calls,
    CancelResult,
    FillPage,
    Number,
    OrderPage,
    checked_base_url,
    checked_client_id,
    flag,
    one_id,
    pair,
    wire,
)
from hireliab.exchange._nobitex_signing import Credentials
from hireliab.exchange._nobitex_signing import credentials as make_credentials
from hireliab.exchange._nobitex_transport import Transport
from hireliab.exchange.adapter import Balance, MarketData, OrderState, OrderStatus

PRODUCTION = "https://apiv2.nobitex.ir"
MAX_PAGE = 1000
FILLS_PAGE = 100
_AGENT = re.compile(r"TraderBot/[!-~]{1,100}", re.ASCII)


class NobitexClient:
    """
    Nobitex over REST, spot markets only. One thread at a time: take clients from a ConnectionPool.

    Making one does no I/O. Amounts and prices may be Decimal, text, int or float (a float is the decimal that it
    prints as); they go out as plain digits. Prices of IRT markets are in **rial**. `credentials=` and `base_url=`
    of a method replace the client's own for that call only.

    Every method may raise ConnectError (nothing was sent), RefusedError and its children (a definite no) and
    OutcomeUnknownError and its children (anything else; for a method that only reads it just means "no answer").

    Args:
        base_url: With scheme; the production address unless given.
        token: The user token; instead of the pair.
        api_key: The public key as issued.
        api_secret: The private key as issued.
        user_agent: Must start with "TraderBot/": it decides the rate-limit class.
        connect_timeout: Seconds to make a connection.
        read_timeout: Seconds without a byte.
        total_timeout: Seconds for a whole call, however slowly the answer drips.
        max_response_bytes: The longest answer that is read.

    Raises:
        ConfigError: A setting is wrong; see the text.
    """

    def __init__(
        self,
        *,
        base_url: str = PRODUCTION,
        token: str | None = None,
        api_key: str | None = None,
        api_secret: str | None = None,
        user_agent: str = f"TraderBot/hireliab-{__version__}",
        connect_timeout: float = 3.05,
        read_timeout: float = 10.0,
        total_timeout: float = 10.0,
        max_response_bytes: int = 32 * 1024 * 1024,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not isinstance(user_agent, str) or not _AGENT.fullmatch(user_agent):
            raise ConfigError(
                f"user_agent: must be printable ASCII that starts with 'TraderBot/', got {user_agent!r:.80}",
                setting="user_agent",
                value=user_agent,
                allowed="TraderBot/<name>",
            )
        self._clock = clock
        self._calls = Calls(
            base_url=checked_base_url(base_url),
            credentials=make_credentials(token=token, api_key=api_key, api_secret=api_secret),
            user_agent=user_agent,
            transport=Transport(
                connect_timeout=config_number("connect_timeout", connect_timeout, above=0, high=600),
                read_timeout=config_number("read_timeout", read_timeout, above=0, high=600),
                total_timeout=config_number("total_timeout", total_timeout, above=0, high=600),
                max_bytes=whole("max_response_bytes", max_response_bytes, low=1024),
                clock=clock,
            ),
            clock=clock,
        )

    def __repr__(self) -> str:
        who = self._calls.credentials
        return f"<{type(self).__name__} {self.base_url} {'public' if who is None else who.public}>"

    @property
    def base_url(self) -> str:
        """The address it talks to, without a trailing slash."""
        return self._calls.base_url

    @property
    def credentials(self) -> Credentials | None:
        """Who it is, safe to print; None for public data only."""
        return self._calls.credentials

    @property
    def skew(self) -> float | None:
        """Seconds that the venue's clock is ahead of ours, by the Date of its last private answer; None before one."""
        return self._calls.skew

    def close(self) -> None:
        """Close the connections; the client may still be used, and opens new ones."""
        self._calls.transport.close()

    # -- public data --------------------------------------------------------------------------------------------

    def get_orderbook(self, symbol: str, *, base_url: str | None = None) -> markets.OrderBook:
        """The order book of one market, and its last price."""
        market = values.symbol(symbol)
        payload = self._calls.public(f"/v3/orderbook/{market.path}", base_url=base_url)
        return markets.order_book(payload, market, now=self._clock.time(), what="orderbook")

    def get_trades(self, symbol: str, *, base_url: str | None = None) -> tuple[markets.PublicTrade, ...]:
        """The latest trades of everybody, newest first."""
        payload = self._calls.public(f"/v2/trades/{values.symbol(symbol).path}", base_url=base_url)
        trades = [markets.public_trade(row, "trades") for row in values.rows(payload.get("trades"), "trades")]
        return tuple(sorted(trades, key=lambda trade: trade.time, reverse=True))

    def get_stats(
        self, symbol: str | None = None, *, base_url: str | None = None
    ) -> dict[str, dict[str, Decimal | bool | str]]:
        """24 h statistics by symbol, by the venue's names; of one market, or of all of them."""
        params = None if symbol is None else pair(values.symbol(symbol))
        payload = self._calls.public("/market/stats", params=params, base_url=base_url)
        return markets.stats(payload.get("stats"), "stats")

    def get_ohlc(
        self,
        symbol: str,
        *,
        resolution: str,
        end: int,
        start: int | None = None,
        count: int | None = None,
        base_url: str | None = None,
    ) -> tuple[markets.Candle, ...]:
        """
        Candles, oldest first, at most 500; none is an empty tuple. In rial, though the venue sends toman.

        Args:
            resolution: 1, 5, 15, 30, 60, 180, 240, 360, 720 (minutes), D, 2D or 3D.
            end: Unix seconds.
            start: Unix seconds.
            count: How many before `end`, instead of `start`.
        """
        market = values.symbol(symbol)
        params: dict[str, object] = {"symbol": market.path, "resolution": resolution}
        params |= {} if start is None else {"from": int(start)}
        params |= {"to": int(end)} | ({} if count is None else {"countback": int(count)})
        payload = self._calls.public("/market/udf/history", params=params, base_url=base_url)
        return markets.candles(payload, market, "udf/history")

    def get_options(self, *, base_url: str | None = None) -> markets.Options:
        """Steps, minimums and names of all markets; keep it for minutes."""
        return markets.options(self._calls.public("/v2/options", base_url=base_url), "options")

    def get_market_data(self, symbol: str, *, base_url: str | None = None) -> MarketData:
        """Order book, last price and statistics of one market in one value; two requests."""
        book = self.get_orderbook(symbol, base_url=base_url)
        return markets.market_data(book, self.get_stats(symbol, base_url=base_url).get(book.symbol, {}))

    # -- account ------------------------------------------------------------------------------------------------

    def get_profile(self, *, credentials: Credentials | None = None, base_url: str | None = None) -> dict[str, Any]:
        """The account's profile as the venue writes it; numbers as text or Decimal."""
        payload = self._calls.private("GET", "/users/profile", credentials=credentials, base_url=base_url)
        return values.mapping(payload.get("profile"), "profile")

    def get_balances(
        self, *, credentials: Credentials | None = None, base_url: str | None = None
    ) -> dict[str, Balance]:
        """Spot balances by upper-case code, the rial as "IRT"; a currency that is absent is zero."""
        payload = self._calls.private("GET", "/v2/wallets", credentials=credentials, base_url=base_url)
        return values.balances(payload.get("wallets"), "wallets")

    # -- placing ------------------------------------------------------------------------------------------------

    def place_limit(
        self,
        *,
        symbol: str,
        side: str,
        amount: Number,
        price: Number,
        client_order_id: str | None = None,
        credentials: Credentials | None = None,
        base_url: str | None = None,
    ) -> OrderState:
        """Place a limit order."""
        body, market = self._order_body(symbol, side, amount, client_order_id)
        body |= {"execution": "limit", "price": wire("price", price)}
        return self._place(body, market, credentials=credentials, base_url=base_url)

    def place_market(
        self,
        *,
        symbol: str,
        side: str,
        amount: Number,
        price: Number,
        client_order_id: str | None = None,
        credentials: Credentials | None = None,
        base_url: str | None = None,
    ) -> OrderState:
        """
        Place a market order.

        Args:
            price: What is expected; fills happen within 1 % beyond it, the rest is cancelled by the venue.
        """
        body, market = self._order_body(symbol, side, amount, client_order_id)
        body |= {"execution": "market", "price": wire("price", price)}
        return self._place(body, market, credentials=credentials, base_url=base_url)

    def place_stop(
        self,
        *,
        symbol: str,
        side: str,
        amount: Number,
        stop_price: Number,
        price: Number | None = None,
        client_order_id: str | None = None,
        credentials: Credentials | None = None,
        base_url: str | None = None,
    ) -> OrderState:
        """Place a stop order: a limit order with `price`, else a market order, once `stop_price` is reached."""
        body, market = self._order_body(symbol, side, amount, client_order_id)
        body["execution"] = "stop_market" if price is None else "stop_limit"
        body |= {} if price is None else {"price": wire("price", price)}
        body["stopPrice"] = wire("stop_price", stop_price)
        return self._place(body, market, credentials=credentials, base_url=base_url)

    def place_oco(
        self,
        *,
        symbol: str,
        side: str,
        amount: Number,
        price: Number,
        stop_price: Number,
        stop_limit_price: Number,
        client_order_id: str | None = None,
        credentials: Credentials | None = None,
        base_url: str | None = None,
    ) -> tuple[OrderState, OrderState]:
        """Place a pair of which one cancels the other: (limit leg, stop leg). Only the limit leg has the client id."""
        body, market = self._order_body(symbol, side, amount, client_order_id)
        body |= {
            "execution": "limit",
            "mode": "oco",
            "price": wire("price", price),
            "stopPrice": wire("stop_price", stop_price),
            "stopLimitPrice": wire("stop_limit_price", stop_limit_price),
        }
        payload = self._calls.private(
            "POST", "/market/orders/add", body=body, changes=True, credentials=credentials, base_url=base_url
        )
        legs = [values.order(row, what="orders/add", sent=market) for row in values.rows(payload.get("orders"), "oco")]
        if [leg.type for leg in legs] != ["limit", "stop_limit"]:
            raise values.malformed("orders/add", "the answer to an OCO order is not its two legs")
        return legs[0], legs[1]

    # -- looking ------------------------------------------------------------------------------------------------

    def get_order(
        self,
        *,
        order_id: str | int | None = None,
        client_order_id: str | None = None,
        names: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        base_url: str | None = None,
    ) -> OrderState:
        """
        One own order, by the venue's id (any state) or by ours (open orders only).

        Args:
            names: `Options.names`, for answers without a market.

        Raises:
            OrderNotFoundError: The venue does not know it at this address.
        """
        body = one_id("id", order_id, client_order_id)
        payload = self._calls.private(
            "POST", "/market/orders/status", body=body, credentials=credentials, base_url=base_url
        )
        order = values.order(payload.get("order"), what="orders/status", names=names)
        if order_id is not None and order.order_id != str(int(order_id)):
            raise values.malformed("orders/status", "the answer is about another order")
        return order

    def list_orders(
        self,
        *,
        status: str = "open",
        order: str = "id",
        from_id: str | int | None = None,
        symbol: str | None = None,
        page_size: int = MAX_PAGE,
        names: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        base_url: str | None = None,
    ) -> OrderPage:
        """
        One page of own spot orders.

        Args:
            status: open, all, done or close.
            order: "id", "-id", "created_at", "-created_at", "price" or "-price".
            from_id: Only orders with ids above it.
        """
        params: dict[str, object] = {"status": status, "details": 2, "tradeType": "spot", "order": order}
        params |= {} if symbol is None else pair(values.symbol(symbol))
        params |= {} if from_id is None else {"fromId": int(from_id)}
        params["pageSize"] = int(page_size)
        payload = self._calls.private(
            "GET", "/market/orders/list", params=params, credentials=credentials, base_url=base_url
        )
        listed = values.rows(payload.get("orders"), "orders/list")
        return OrderPage(
            orders=tuple(values.order(row, what="orders/list", names=names) for row in listed if values.is_spot(row)),
            has_next=flag(payload.get("hasNext")),
            rows=len(listed),
        )

    def list_open(
        self, symbol: str | None = None, *, credentials: Credentials | None = None, base_url: str | None = None
    ) -> tuple[OrderState, ...]:
        """Own open orders, waiting stops included, oldest first; at most 1000."""
        return self.list_orders(symbol=symbol, credentials=credentials, base_url=base_url).orders

    def list_since(
        self, from_id: str | int, *, credentials: Credentials | None = None, base_url: str | None = None
    ) -> tuple[OrderState, ...]:
        """Own orders in any state with ids above `from_id`, oldest first; one page of at most 1000."""
        return self.list_orders(status="all", from_id=from_id, credentials=credentials, base_url=base_url).orders

    def list_fills(
        self,
        *,
        symbol: str | None = None,
        from_id: str | int | None = None,
        page: int = 1,
        page_size: int = FILLS_PAGE,
        credentials: Credentials | None = None,
        base_url: str | None = None,
    ) -> FillPage:
        """One page of own fills; the venue keeps at least the last 3 days."""
        params: dict[str, object] = {} if symbol is None else pair(values.symbol(symbol))
        params |= {} if from_id is None else {"fromId": int(from_id)}
        params |= {"page": int(page), "pageSize": int(page_size)}
        payload = self._calls.private(
            "GET", "/market/trades/list", params=params, credentials=credentials, base_url=base_url
        )
        return FillPage(
            fills=tuple(values.fill(row, "trades/list") for row in values.rows(payload.get("trades"), "trades/list")),
            has_next=flag(payload.get("hasNext")),
        )

    # -- cancelling ---------------------------------------------------------------------------------------------

    def cancel(
        self,
        *,
        order_id: str | int | None = None,
        client_order_id: str | None = None,
        credentials: Credentials | None = None,
        base_url: str | None = None,
    ) -> CancelResult:
        """
        Cancel one order; one that is closed already is no error.

        Raises:
            OrderNotFoundError: The venue does not know it (by client id: or it is closed).
        """
        body = one_id("order", order_id, client_order_id) | {"status": "canceled"}
        payload = self._calls.private(
            "POST", "/market/orders/update-status", body=body, changes=True, credentials=credentials, base_url=base_url
        )
        what = "orders/update-status"
        state = None if payload.get("order") is None else values.order(payload["order"], what=what)
        if state is not None and order_id is not None and state.order_id != str(int(order_id)):
            raise values.malformed(what, "the answer is about another order")
        word = payload.get("updatedStatus")
        if not isinstance(word, str):
            raise values.malformed(what, "no updatedStatus")
        status = OrderStatus(word) if word in {known.value for known in OrderStatus} else OrderStatus.OTHER
        refused = payload.get("status") == "failed"
        if refused and not status.is_closed:
            raise values.malformed(what, f"the cancel failed while the order is {word[:40]!r}")
        return CancelResult(status=status, order=state, already_closed=refused)

    def cancel_all(
        self, symbol: str, *, credentials: Credentials | None = None, base_url: str | None = None
    ) -> tuple[OrderState, ...]:
        """
        Cancel every open spot order of a market, waiting stops included, and look again.

        Returns:
            What is still open afterwards: empty when it worked.

        Raises:
            HireliabError: One of its calls failed, and those after it were not made. Call it again: it is repeatable.
        """
        market = values.symbol(symbol)
        self._calls.private(
            "POST",
            "/market/orders/cancel-old",
            body={"tradeType": "spot", **pair(market)},
            changes=True,
            credentials=credentials,
            base_url=base_url,
        )
        # cancel-old leaves waiting stops alone, and says neither what it found nor what it did.
        for order in self.list_open(symbol, credentials=credentials, base_url=base_url):
            self.cancel(order_id=order.order_id, credentials=credentials, base_url=base_url)
        return self.list_open(symbol, credentials=credentials, base_url=base_url)

    # -- machinery ----------------------------------------------------------------------------------------------

    def _order_body(
        self, symbol: str, side: str, amount: Number, client_order_id: str | None
    ) -> tuple[dict[str, object], values.Symbol]:
        market = values.symbol(symbol)
        if side not in ("buy", "sell"):
            raise InvalidOrderError(f"side: must be 'buy' or 'sell', got {side!r:.40}", by="hireliab")
        body: dict[str, object] = {"type": side, **pair(market), "amount": wire("amount", amount)}
        if client_order_id is not None:
            body["clientOrderId"] = checked_client_id(client_order_id)
        return body, market

    def _place(
        self,
        body: dict[str, object],
        market: values.Symbol,
        *,
        credentials: Credentials | None,
        base_url: str | None,
    ) -> OrderState:
        payload = self._calls.private(
            "POST", "/market/orders/add", body=body, changes=True, credentials=credentials, base_url=base_url
        )
        return values.order(payload.get("order"), what="orders/add", sent=market, sent_type=str(body["execution"]))
