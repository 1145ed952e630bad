"""
`EnhancedNobitexAdapter`: Nobitex behind a pool of clients, rate limits and circuit breakers.

It speaks `hireliab.exchange.adapter.ExchangeAdapter`: what can refuse an order does so before a byte is sent, and a
read that did not work is `Unavailable`, never an absent order or an empty list.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import TracebackType
from typing import Any

from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.core.config import load, refuse_unknown
from hireliab.errors import (
    ConfigError,
    HireliabError,
    InvalidOrderError,
    MalformedResponseError,
    NotSentError,
    OrderNotFoundError,
)
from hireliab.exchange import _nobitex_rules as rules
from hireliab.exchange._nobitex_access import Access
from hireliab.exchange._nobitex_calls import checked_base_url, checked_client_id, is_in_the_clear
from hireliab.exchange._nobitex_fresh import Fresh
from hireliab.exchange._nobitex_listings import Listings
from hireliab.exchange._nobitex_markets import MarketRules, Options, OrderBook, market_data
from hireliab.exchange._nobitex_prepared import NobitexPreparedCancel, NobitexPreparedOrder
from hireliab.exchange._nobitex_signing import credentials as make_credentials
from hireliab.exchange._nobitex_values import symbol as parse_symbol
from hireliab.exchange.adapter import (
    Absent,
    Account,
    Balance,
    Capabilities,
    FillsRead,
    Found,
    ListingRead,
    MarketData,
    Order,
    OrderRead,
    OrderState,
    Unavailable,
)
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.nobitex_client import PRODUCTION, NobitexClient

_log = logging.getLogger("hireliab.nobitex")

OPTIONS_AGE = 600.0
_OPTIONS_RETRY = 30.0
PRICE_AGE = 2.0
"""Seconds: the oldest best price that a market order may carry."""
REFERENCE_AGE = 60.0
"""Seconds: the oldest last price against which a limit price is checked for rial and toman."""
_STATS_AGE = 10.0  # market/stats allows 20 calls a minute for all markets together
_WAIT = 2.0

_SIGNED_BOUND = 30.0 + 10.0  # a signed time is accepted for 30 s (nobitex-api.md 3.4), plus allowance
_TOKEN_BOUND = 70.0


@dataclass(frozen=True, kw_only=True)
class NobitexConfig:
    """
    Settings of an EnhancedNobitexAdapter.

    Args:
        api_key: Public key of a key pair, as issued.
        api_secret: Its private key.
        token: The user token, instead of the pair. With neither, the pooled clients use their own.
        connection_pool: A ConnectionPool of NobitexClient; left out, the adapter makes and owns one of 16 clients,
            and a second one of 4 for cancels that find it in use. In a pool of yours a cancel waits like any other
            call, so make it larger than the number of your threads.
        base_url: Left out, each client's own.
        rate_limits: See nobitex-api.md 4.2 for the defaults; a mapping of endpoint to (limit, seconds) or "off",
            with "scale" for all others; or "off".
        timeouts: Of the clients of an own pool: connect, read and total, in seconds.
    """

    api_key: str | None = field(default=None, repr=False)
    api_secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    connection_pool: Any = None
    base_url: str | None = None
    rate_limits: Any = None
    timeouts: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        pool = self.connection_pool
        if pool is not None and not isinstance(pool, ConnectionPool):
            allowed = "a hireliab ConnectionPool of NobitexClient, or None"
            raise ConfigError(
                f"connection_pool must be {allowed}, got {type(pool).__name__}",
                setting="connection_pool",
                allowed=allowed,
            )
        if self.timeouts is not None:
            if pool is not None:
                raise ConfigError(
                    "timeouts: the clients come from connection_pool; give them their timeouts where they are made",
                    setting="timeouts",
                    allowed="None with a connection_pool",
                )
            refuse_unknown(self.timeouts, ("connect", "read", "total"), where="timeouts")
        if self.base_url is not None:
            object.__setattr__(self, "base_url", checked_base_url(self.base_url))


class EnhancedNobitexAdapter:
    """
    Nobitex as an ExchangeAdapter. Any thread may call any method.

    Market data, account reads, placing and cancelling each have a circuit breaker. Each endpoint has a sliding
    window of the documented size, half of orders/list and trades/list being reserved for the look-ups of the
    pipeline. After a first 401 nothing private goes out but one probe a minute.

    Args:
        config: A NobitexConfig or a mapping of its settings.
        clock: The time; a FakeClock in tests.
        **settings: The same settings as keywords; one given in both places is an error.

    Raises:
        ConfigError: A setting is unknown, out of range or contradicts another.
    """

    def __init__(
        self,
        config: NobitexConfig | Mapping[str, Any] | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        **settings: Any,
    ) -> None:
        if settings:
            if isinstance(config, NobitexConfig):
                raise ConfigError("nobitex adapter: give config or keywords, not both", setting="config")
            config = _merged(config or {}, settings)
        self._config = load(NobitexConfig, config, where="nobitex adapter")
        self._clock = clock
        who = make_credentials(
            token=self._config.token, api_key=self._config.api_key, api_secret=self._config.api_secret
        )
        given = self._config.connection_pool
        self._own_pools = self._make_pools() if given is None else []
        self._access = Access(
            pool=self._own_pools[0] if given is None else given,
            reserve=self._own_pools[1] if given is None else None,
            credentials=who,
            base_url=self._config.base_url,
            rate_limits=self._config.rate_limits,
            clock=clock,
        )
        self._options: Fresh[Options] = Fresh("nobitex market rules", clock=clock)
        self._books: Fresh[OrderBook] = Fresh("nobitex order book", clock=clock)
        self._stats: Fresh[dict[str, Any]] = Fresh("nobitex statistics", clock=clock)
        self._listings = Listings(self._access, names=self._names, clock=clock)
        self._lock = threading.Lock()  # guards _account and _signed
        self._account: Account | None = None
        self._signed: bool | None = None if who is None else who.is_key_pair

    def _make_pools(self) -> list[ConnectionPool[NobitexClient]]:
        url, timeouts = self._config.base_url or PRODUCTION, self._config.timeouts or {}

        def make() -> NobitexClient:
            return NobitexClient(
                base_url=url,
                connect_timeout=timeouts.get("connect", 3.05),
                read_timeout=timeouts.get("read", 10.0),
                total_timeout=timeouts.get("total", 10.0),
                clock=self._clock,
            )

        make().close()  # wrong timeouts are an error here, and not in the first order
        return [
            ConnectionPool(
                name=name,
                create_client_func=make,
                config={"min_connections": 0, "max_connections": most},
                clock=self._clock,
            )
            for name, most in (("nobitex", 16), ("nobitex cancels", 4))
        ]

    def __repr__(self) -> str:
        who = self._access.credentials
        facts = [type(self).__name__, self._access.base_url, None if who is None else who.public]
        return f"<{' '.join(fact for fact in facts if fact)}>"

    # -- start and stop -------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """
        Start: read the markets' rules. A dead exchange does not fail it: orders are refused until they are known.

        Raises:
            ConfigError: The pool's clients are no NobitexClient.
        """
        self._access.start()
        url = self._access.base_url
        if url is not None and is_in_the_clear(url):
            _log.warning("nobitex: %s is no https: whoever is on the way can read the token and the orders", url)
        for pool in self._own_pools:
            pool.initialize()
        try:
            self._rules_now()
        except NotSentError as error:
            _log.warning("nobitex: the markets' rules cannot be read yet, orders are refused until then: %s", error)

    def stop(self) -> None:
        """Refuse later calls; own pools are stopped too. Idempotent."""
        self._access.stop()
        for pool in self._own_pools:
            pool.stop()

    def __enter__(self) -> EnhancedNobitexAdapter:
        self.initialize()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- who and what ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The venue's name."""
        return "nobitex"

    @property
    def parts(self) -> tuple[object, ...]:
        """What can be measured of it: its pools, circuit breakers and rate limiters."""
        return self._access.parts

    @property
    def account(self) -> Account:
        """
        Whose orders these are. A key pair is known by its public key, a token by the account's profile, which is
        read once: a renewed token is still the same account.

        Raises:
            NotSentError: The profile cannot be read yet.
        """
        with self._lock:
            known = self._account
        if known is None:
            known = self._read_account()
            with self._lock:
                self._account = known
        return known

    def _read_account(self) -> Account:
        who, url = self._access.credentials, self._access.base_url
        if who is None or url is None:
            with self._access.pool.connection() as client:
                who, url = who or client.credentials, url or client.base_url
        if who is None:
            raise ConfigError(
                "nobitex adapter: no credentials; give a token, or api_key and api_secret", setting="token"
            )
        identity = who.public
        if not who.is_key_pair:
            try:
                profile = self._access.call(
                    "profile",
                    lambda client: client.get_profile(
                        credentials=self._access.credentials, base_url=self._access.base_url
                    ),
                )
            except HireliabError as error:
                raise _not_sent("the account's profile cannot be read", error) from error
            person = profile.get("email") or profile.get("username")
            if not isinstance(person, str):
                raise NotSentError("nobitex: the account's profile has neither e-mail nor user name; use a key pair")
            identity = hashlib.sha256(person.strip().lower().encode()).hexdigest()[:16]
        return Account(venue=self.name, host=urllib.parse.urlsplit(url).netloc, identity=identity)

    @property
    def capabilities(self) -> Capabilities:
        """What Nobitex's answers prove, as known now (ARCHITECTURE.md section 6)."""
        with self._lock:
            signed = self._signed
        if signed is None:
            signed = self._learn_kind()
        return Capabilities(
            late_arrival_bound=_SIGNED_BOUND + abs(self._access.skew) if signed else _TOKEN_BOUND,
            late_arrival_is_proof=False,
            finds_closed_by_client_id=False,
            listing_shows_client_id=self._listings.shows_client_id,
        )

    def _learn_kind(self) -> bool:
        """Whether the pooled clients' own credentials are a key pair; no, while no client is to be had."""
        try:
            with self._access.pool.connection(timeout=_WAIT) as client:
                signed = client.credentials is not None and client.credentials.is_key_pair
        except NotSentError:
            return False  # the longer bound
        with self._lock:
            self._signed = signed
        return signed

    def note_listing_shows_client_id(self, shows: bool) -> None:
        """Tell what was learnt earlier: whether listings show the client id of closed orders."""
        self._listings.shows_client_id = shows

    def restore_limits(self, send_ages: Sequence[float]) -> None:
        """See `ExchangeAdapter.restore_limits`."""
        self._access.limits.restore(send_ages)

    def server_time(self) -> float:
        """The venue's clock as far as known. Unix seconds."""
        return self._clock.time() + self._access.skew

    # -- orders ---------------------------------------------------------------------------------------------------

    def validate(self, order: Order) -> Order:
        """See `ExchangeAdapter.validate`."""
        order = rules.form(order)
        options = self._options.peek("", max_age=float("inf"))
        if options is None:
            return order
        book = self._books.peek(order.symbol, max_age=REFERENCE_AGE)
        last = None if book is None else rules.reference(book)
        return rules.fit(order, _market(options, order.symbol), last=last)

    def prepare(self, order: Order) -> NobitexPreparedOrder:
        """
        Everything that can wait or refuse; see `ExchangeAdapter.prepare`.

        A market order without an expected price gets the best opposite price of a book at most 2 s old.

        Raises:
            InvalidOrderError: The order breaks a rule; nothing was sent.
            NotSentError: Credentials refused, limiter, breaker, pool; or rules or price could not be read.
        """
        order = rules.form(order)
        market = _market(self._rules_now(), order.symbol)
        last = None
        if order.type == "market" and order.price is None:
            book = self._book(order.symbol, max_age=PRICE_AGE)
            price = rules.best_opposite(book, order.side)
            if price is None:
                raise NotSentError(
                    f"nobitex {order.symbol}: nobody {'sells' if order.side == 'buy' else 'buys'}, so a market order"
                    " has no expected price; nothing was sent"
                )
            order = dataclasses.replace(order, price=price)
        elif order.symbol.endswith("/IRT"):
            last = rules.reference(self._book(order.symbol, max_age=REFERENCE_AGE))
        order = rules.fit(order, market, last=last)
        self._access.probe()
        ticket = self._access.admit("orders/add")
        return NobitexPreparedOrder(order, ticket=ticket, access=self._access, placed=self._listings.remember)

    def prepare_cancel(self, order_id: str) -> NobitexPreparedCancel:
        """See `ExchangeAdapter.prepare_cancel`."""
        _checked_id(order_id)
        self._access.probe()
        ticket = self._access.admit("orders/update-status")
        return NobitexPreparedCancel(
            order_id, ticket=ticket, access=self._access, look=lambda: self._status(order_id=order_id)
        )

    # -- look-ups -------------------------------------------------------------------------------------------------

    def find_by_id(self, order_id: str) -> OrderRead:
        """See `ExchangeAdapter.find_by_id`."""
        return self._find("orders/status by id", order_id=_checked_id(order_id))

    def find_by_client_id(self, client_order_id: str) -> OrderRead:
        """See `ExchangeAdapter.find_by_client_id`; Nobitex finds open orders only."""
        try:
            checked_client_id(client_order_id)
        except InvalidOrderError as error:
            raise ConfigError(str(error), setting="client_order_id", value=client_order_id) from None
        return self._find("orders/status by client id", client_order_id=client_order_id)

    def _find(self, source: str, **one_id: str) -> OrderRead:
        try:
            return Found(self._status(**one_id))
        except OrderNotFoundError:
            return Absent(source)
        except ConfigError:
            raise
        except Exception as error:  # whatever it is, it proves nothing
            return Unavailable(error)

    def _status(self, **one_id: str) -> OrderState:
        names, who, url = self._names(), self._access.credentials, self._access.base_url
        state = self._access.call(
            "orders/status", lambda client: client.get_order(names=names, credentials=who, base_url=url, **one_id)
        )
        wanted = one_id.get("client_order_id")
        if wanted is not None and state.client_order_id not in (wanted, None):
            raise MalformedResponseError("nobitex orders/status: answered with another order", http_status=200)
        return state

    def list_orders_since(self, order_id: str) -> ListingRead:
        """See `ExchangeAdapter.list_orders_since`; spot orders, on the reserved lane."""
        return self._listings.orders_since(_checked_id(order_id))

    def newest_order_id(self) -> str | Unavailable:
        """See `ExchangeAdapter.newest_order_id`."""
        return self._listings.newest_order_id()

    def list_open_orders(self) -> ListingRead:
        """See `ExchangeAdapter.list_open_orders`; on the reserved lane."""
        return self._listings.open_now()

    def reference_price(self, symbol: str) -> Decimal | Unavailable:
        """See `ExchangeAdapter.reference_price`: the last price, else the best one, of a book at most 2 s old."""
        try:
            price = rules.reference(self._book(str(parse_symbol(symbol)), max_age=PRICE_AGE))
        except ConfigError:
            raise
        except Exception as error:  # whatever it is, it proves nothing
            return Unavailable(error)
        return price or Unavailable(NotSentError(f"nobitex {symbol}: has no price yet"))

    def list_fills_since(self, since: float) -> FillsRead:
        """See `ExchangeAdapter.list_fills_since`; the venue keeps at least the last 3 days."""
        return self._listings.fills_since(since)

    def balances(self) -> dict[str, Balance] | Unavailable:
        """Every currency of the account by its upper-case code; the rial is "IRT", as in symbols."""
        who, url = self._access.credentials, self._access.base_url
        try:
            return self._access.call("wallets", lambda client: client.get_balances(credentials=who, base_url=url))
        except ConfigError:
            raise
        except Exception as error:  # whatever it is, it proves nothing
            return Unavailable(error)

    # -- for the bot itself ---------------------------------------------------------------------------------------

    def get_market_data(self, symbol: str) -> MarketData:
        """
        Order book (at most 1 s old), last price and statistics (at most 10 s old) of one market.

        Raises:
            InvalidOrderError: No such market.
            HireliabError: Not to be had now.
        """
        market = str(parse_symbol(symbol))
        book = self._books.get(market, lambda: self._read_book(market), max_age=1.0, wait=_WAIT)
        url = self._access.base_url
        stats = self._stats.get(
            market,
            lambda: self._access.call("stats", lambda client: client.get_stats(market, base_url=url)).get(market, {}),
            max_age=_STATS_AGE,
            wait=_WAIT,
        )
        return market_data(book, stats)

    def list_open(self, symbol: str | None = None) -> tuple[OrderState, ...]:
        """
        Own open spot orders, waiting stops included, oldest first; at most 1000.

        Raises:
            HireliabError: Not to be had now, where the protocol's reads are Unavailable.
        """
        return self._listings.open_orders(symbol)

    # -- machinery ------------------------------------------------------------------------------------------------

    def _names(self) -> Mapping[str, str]:
        options = self._options.peek("", max_age=float("inf"))
        return {} if options is None else options.names

    def _rules_now(self) -> Options:
        """The markets' rules, at most ten minutes old; older ones while they cannot be read; NotSentError without."""
        url = self._access.base_url
        try:
            return self._options.get(
                "",
                lambda: self._access.call("options", lambda client: client.get_options(base_url=url)),
                max_age=OPTIONS_AGE,
                wait=_WAIT,
            )
        except ConfigError:
            raise
        except HireliabError as error:
            old = self._options.peek("", max_age=float("inf"))
            if old is None:
                raise _not_sent("the markets' rules cannot be read", error) from error
            self._options.put("", old, age=OPTIONS_AGE - _OPTIONS_RETRY)
            return old

    def _book(self, market: str, *, max_age: float) -> OrderBook:
        try:
            return self._books.get(market, lambda: self._read_book(market), max_age=max_age, wait=_WAIT)
        except (ConfigError, InvalidOrderError):
            raise
        except HireliabError as error:
            raise _not_sent(f"the order book of {market} cannot be read", error) from error

    def _read_book(self, market: str) -> OrderBook:
        url = self._access.base_url
        return self._access.call("orderbook", lambda client: client.get_orderbook(market, base_url=url))


def _merged(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    both = sorted(set(config) & set(settings))
    if both:
        raise ConfigError(
            f"nobitex adapter: {', '.join(both)} given in config and as a keyword; give it once", setting=both[0]
        )
    return {**config, **settings}


def _market(options: Options, symbol: str) -> MarketRules:
    found = options.markets.get(symbol)
    if found is None:
        raise InvalidOrderError(f"symbol: Nobitex has no market {symbol} that can be traded by steps", by="hireliab")
    return found


def _checked_id(order_id: str) -> str:
    if not (isinstance(order_id, str) and order_id.isascii() and order_id.isdigit() and len(order_id) <= 30):
        raise ConfigError(
            f"order_id: must be the venue's number as text, got {order_id!r:.60}", setting="order_id", value=order_id
        )
    return order_id


def _not_sent(what: str, error: HireliabError) -> NotSentError:
    """An error of a preparing read, as what it means for the order: nothing was sent."""
    if isinstance(error, NotSentError):
        return error
    return NotSentError(f"nobitex: {what}, nothing was sent: {error}")
