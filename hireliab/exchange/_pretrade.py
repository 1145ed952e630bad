"""
PreTrade: what refuses an order of ours before a byte of it is sent: halt, limits, and an equal order that is not decided.

The halt is looked at twice: before anything is prepared, and again just before the first byte. The others are looked at
with the order as it would be sent, quantised and priced.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path

from hireliab.core import money
from hireliab.core.clock import Clock
from hireliab.core.rate_limiter import RateLimiter
from hireliab.errors import ConfigError, InvalidOrderError, RateLimitedError, TransactionDeniedError
from hireliab.exchange import _halt
from hireliab.exchange._ledger import Ledger, fingerprint
from hireliab.exchange._pipeline_settings import PipelineConfig
from hireliab.exchange.adapter import ExchangeAdapter, Order, Unavailable
from hireliab.exchange.transaction import State, Transaction

SIBLING_WAIT = 5.0
"""Seconds that an order waits for an equal one that is on its way, where the exchange cannot tell the two apart."""


class PreTrade:
    """
    Args:
        folder: Of the journal, where the file HALT lives; None where the journal has none.

    Raises:
        ConfigError: A price collar, and an adapter that knows no price.
    """

    def __init__(
        self, *, ledger: Ledger, adapter: ExchangeAdapter, config: PipelineConfig, clock: Clock, folder: Path | None
    ) -> None:
        if config.price_collar is not None and not hasattr(adapter, "reference_price"):
            raise ConfigError(
                f"price_collar: the adapter {adapter.name!r} has no reference_price(symbol) to compare with",
                setting="price_collar",
            )
        self._ledger = ledger
        self._adapter = adapter
        self._config = config
        self._clock = clock
        self._folder = folder
        self._rate = (
            None
            if config.orders_per_minute is None
            else RateLimiter(name="orders_per_minute", limit=config.orders_per_minute, per=60.0, clock=clock)
        )
        self._changed = threading.Condition()  # guards _on_their_way
        self._on_their_way: set[tuple[object, ...]] = set()

    def restore(self, send_ages: Iterable[float]) -> None:
        """What was sent before the restart counts, too."""
        if self._rate is not None:
            self._rate.preload(age for age in send_ages if age < self._rate.per)

    def check_halt(self, order: Order) -> None:
        """
        Refuse what the file HALT forbids: everything, or with REDUCING everything that buys. Cancels are never asked.

        Raises:
            TransactionDeniedError: With the mode as reason.
        """
        halt = None if self._folder is None else _halt.read(self._folder)
        if halt is None or (halt.mode == "REDUCING" and order.side == "sell"):
            return
        what = "no order is sent" if halt.mode == "HALTED" else "only sells and cancels are sent"
        raise TransactionDeniedError(
            f"halt: {what} ({halt.reason or 'no reason given'}, by {halt.who or 'unknown'}); nothing was sent;"
            " 'hireliab unhalt' ends it",
            reason=halt.mode.lower(),
        )

    @contextmanager
    def alone(self, transaction: Transaction) -> Iterator[None]:
        """
        Let no equal order be on its way at the same time, where listings do not tell whose order is whose.

        Raises:
            TransactionDeniedError: The other one took too long.
        """
        order = transaction.record.order
        if not self._config.duplicate_guard or self._adapter.capabilities.listing_shows_client_id is not False:
            yield
            return
        with suppress(InvalidOrderError):  # what it breaks is said where it is prepared
            order = self._adapter.validate(order)  # as it would be sent: two roundings of one amount are equal
        key = fingerprint(order)
        with self._changed:
            if not self._clock.wait_for(self._changed, lambda: key not in self._on_their_way, SIBLING_WAIT):
                raise TransactionDeniedError(
                    f"transaction {transaction.id}: an equal order is on its way, and the exchange does not show whose"
                    " order is whose; nothing was sent; ask again",
                    reason="sibling",
                    transaction_id=transaction.id,
                )
            self._on_their_way.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._on_their_way.discard(key)
                self._changed.notify_all()

    def reference(self, order: Order) -> Decimal | Unavailable | None:
        """The price that a collar compares with; None where it compares nothing."""
        if self._config.price_collar is None or order.type not in ("limit", "market"):
            return None  # the price of a stop order is far away on purpose
        return self._adapter.reference_price(order.symbol)

    def check(self, transaction: Transaction, order: Order, reference: Decimal | Unavailable | None) -> None:
        """
        Judge the order as it would be sent.

        Args:
            reference: What `reference` answered.

        Raises:
            TransactionDeniedError: Its reason is "sibling", "max_notional", "price_collar" or "orders_per_minute".
        """
        self._check_sibling(transaction, order)
        self._check_notional(transaction, order)
        self._check_collar(transaction, order, reference)
        if self._rate is not None and transaction.record.state is State.NEW:  # a further attempt is no further order
            try:
                self._rate.acquire(timeout=0.0)
            except RateLimitedError as error:
                raise self._denied(
                    transaction,
                    "orders_per_minute",
                    f"{self._config.orders_per_minute} orders were sent within 60 s (orders_per_minute);"
                    f" the next fits in {error.retry_after:.1f} s",
                ) from None

    def _check_sibling(self, transaction: Transaction, order: Order) -> None:
        if not self._config.duplicate_guard:
            return
        siblings = self._ledger.unknown_equals(order, to_other_than=transaction.id)
        if siblings:
            raise self._denied(
                transaction,
                "sibling",
                f"an equal order may be live already (transaction {', '.join(siblings)} is not decided);"
                " wait_resolved() first, or set duplicate_guard=False",
            )

    def _check_notional(self, transaction: Transaction, order: Order) -> None:
        quote = order.symbol.rpartition("/")[2]
        most = (self._config.max_notional or {}).get(quote)
        price = order.price or order.stop_price
        if not isinstance(most, Decimal) or price is None:
            return
        value = money.multiply(order.amount, price)
        if value > most:
            raise self._denied(
                transaction,
                "max_notional",
                f"it is worth {money.text(value)} {quote}, more than {money.text(most)} (max_notional)",
            )

    def _check_collar(self, transaction: Transaction, order: Order, reference: Decimal | Unavailable | None) -> None:
        collar = self._config.price_collar
        if collar is None or order.price is None or reference is None:
            return
        if isinstance(reference, Unavailable):
            raise self._denied(
                transaction, "price_collar", f"there is no fresh price to compare with ({reference.error})"
            )
        away = money.divide(abs(money.subtract(order.price, reference)), reference)
        if away > Decimal(str(collar)):
            raise self._denied(
                transaction,
                "price_collar",
                f"its price {money.text(order.price)} is {away:.2%} away from the market's {money.text(reference)},"
                f" more than {collar:.2%} (price_collar)",
            )

    def _denied(self, transaction: Transaction, reason: str, why: str) -> TransactionDeniedError:
        return TransactionDeniedError(
            f"transaction {transaction.id}: {why}; nothing was sent", reason=reason, transaction_id=transaction.id
        )
