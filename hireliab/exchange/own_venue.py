"""`OwnVenue`: stands in for the adapter where the bot's own functions trade, at any venue."""

# ruff: noqa: ARG002 - the protocol names what nothing here needs

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NoReturn

from hireliab.core import config
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import InvalidOrderError, NotSentError
from hireliab.exchange.adapter import Account, Balance, Capabilities, Order, Unavailable

__all__ = ["OwnVenue"]


class OwnVenue:
    """
    An ExchangeAdapter for a venue that hireliab does not know: it sends nothing and reads nothing.

    For `verified_transaction`, whose decorated function sends and whose ``find=`` reads::

        verifier = TransactionVerificationPipeline(exchange_adapter=OwnVenue("kraken", account="main"))

    Guarantees: no network, no thread; every read is Unavailable, which proves nothing. Does not: place orders.
    ``create_transaction`` and ``cancel`` of the pipeline are refused; call the decorated function, and its ``cancel``.

    Args:
        name: The venue's, such as "kraken".
        account: A name of yours for the account. A journal belongs to one venue and account.
        late_arrival_bound: Seconds after which a request that was sent can no longer reach the venue. An order that
            ``find=`` does not show before that is not presumed absent.

    Raises:
        ConfigError: An empty name, or a bound that is negative.
    """

    def __init__(
        self, name: str, *, account: str = "default", late_arrival_bound: float = 70.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._account = Account(venue=config.text("name", name), host=name, identity=config.text("account", account))
        self._capabilities = Capabilities(
            late_arrival_bound=config.number("late_arrival_bound", late_arrival_bound, low=0, high=86400),
            late_arrival_is_proof=False,
            finds_closed_by_client_id=False,
            listing_shows_client_id=None,
        )
        self._clock = clock

    @property
    def name(self) -> str:
        """The venue's name."""
        return self._account.venue

    @property
    def account(self) -> Account:
        """Whose orders these are."""
        return self._account

    @property
    def capabilities(self) -> Capabilities:
        """Nothing but the bound."""
        return self._capabilities

    def restore_limits(self, send_ages: Sequence[float]) -> None:
        """Nothing: the limits are the function's business."""

    def note_listing_shows_client_id(self, shown: bool) -> None:
        """Nothing: it has no listing."""

    def server_time(self) -> float:
        """Our own clock."""
        return self._clock.time()

    def validate(self, order: Order) -> NoReturn:
        """Refuse: raises InvalidOrderError."""
        raise self._no_order()

    def prepare(self, order: Order) -> NoReturn:
        """Refuse: raises InvalidOrderError."""
        raise self._no_order()

    def prepare_cancel(self, order_id: str) -> NoReturn:
        """Refuse: raises InvalidOrderError."""
        raise self._no_order()

    def find_by_id(self, order_id: str) -> Unavailable:
        """Nothing."""
        return self._no_read()

    def find_by_client_id(self, client_order_id: str) -> Unavailable:
        """Nothing."""
        return self._no_read()

    def list_orders_since(self, order_id: str) -> Unavailable:
        """Nothing."""
        return self._no_read()

    def list_open_orders(self) -> Unavailable:
        """Nothing."""
        return self._no_read()

    def newest_order_id(self) -> Unavailable:
        """Nothing."""
        return self._no_read()

    def reference_price(self, symbol: str) -> Decimal | Unavailable:
        """Nothing."""
        return self._no_read()

    def list_fills_since(self, since: float) -> Unavailable:
        """Nothing."""
        return self._no_read()

    def balances(self) -> dict[str, Balance] | Unavailable:
        """Nothing."""
        return self._no_read()

    def _no_order(self) -> InvalidOrderError:
        return InvalidOrderError(
            f"{self.name}: this pipeline places no order itself; call the function that @verified_transaction decorates"
        )

    def _no_read(self) -> Unavailable:
        return Unavailable(NotSentError(f"{self.name}: hireliab reads nothing there; the function's find= does"))
