"""The settings of a pipeline, and where its journal lives."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from hireliab.core import config, money
from hireliab.errors import ConfigError, InvalidOrderError
from hireliab.exchange.adapter import ExchangeAdapter

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_NEEDED = ("prepare", "prepare_cancel", "find_by_id", "find_by_client_id", "list_orders_since", "list_open_orders")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """
    Settings of a TransactionVerificationPipeline; all times are seconds.

    Attributes:
        name: Names the journal's folder and the client order ids' prefix; one pipeline for each name and account.
        verification_timeout: From the first byte until the caller is answered "unknown"; it cancels nothing.
        max_retries: Further sends after a proven non-execution.
        late_arrival_bound: How long a request may arrive after its last byte left; None asks the adapter.
        visibility_window: Lag that the venue's listings are allowed.
        listing_interval: Least time between two listings while an outcome is unknown and young.
        watch_interval: Time between two looks at orders that rest in the book.
        afterwatch: How long an order that is presumed absent is looked for all the same.
        max_running: Most transactions at once.
        max_notional: Most value of one order for each quote currency, such as {"USDT": 500}; others are not limited.
        price_collar: Most distance of a limit or expected price from the market's, as a share of it (0.05 is 5 %).
        orders_per_minute: Most orders within any 60 seconds, counted over restarts.
        duplicate_guard: Refuse an order that equals one whose outcome is not known.
        operator_interval: Time between looks at the commands of ``hireliab transactions``, and between writes of
            status.json; None switches both off.
        unrouted_events: What becomes of an event that no queue of a durable message bus wants: "keep" tells a person
            and publishes it again until one does, "drop" lets it go.
    """

    name: str = "default"
    verification_timeout: float = 30.0
    max_retries: int = 3
    late_arrival_bound: float | None = None
    visibility_window: float = 5.0
    listing_interval: float = 4.0
    watch_interval: float = 10.0
    afterwatch: float = 86400.0
    max_running: int = 64
    max_notional: Mapping[str, object] | None = None
    price_collar: float | None = None
    orders_per_minute: int | None = None
    duplicate_guard: bool = True
    operator_interval: float | None = 1.0
    unrouted_events: str = "keep"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            allowed = "1 to 64 characters of A-Z, a-z, 0-9, dot, dash and underscore, starting with a letter or digit"
            raise ConfigError(f"name must be {allowed}, got {self.name!r:.80}", setting="name", allowed=allowed)
        config.number("verification_timeout", self.verification_timeout, above=0, high=86400)
        config.whole("max_retries", self.max_retries, low=0, high=100)
        config.number_or_none("late_arrival_bound", self.late_arrival_bound, low=0, high=86400)
        config.number("visibility_window", self.visibility_window, low=0, high=3600)
        config.number("listing_interval", self.listing_interval, above=0, high=3600)
        config.number("watch_interval", self.watch_interval, above=0, high=3600)
        config.number("afterwatch", self.afterwatch, low=0, high=30 * 86400)
        config.whole("max_running", self.max_running, low=1, high=10000)
        if self.max_notional is not None:
            object.__setattr__(self, "max_notional", _amounts(self.max_notional))
        config.number_or_none("price_collar", self.price_collar, above=0, high=10)
        if self.orders_per_minute is not None:
            config.whole("orders_per_minute", self.orders_per_minute, low=1, high=100_000)
        config.flag("duplicate_guard", self.duplicate_guard)
        config.number_or_none("operator_interval", self.operator_interval, above=0, high=3600)
        config.choice("unrouted_events", self.unrouted_events, ("keep", "drop"))


def _amounts(given: object) -> dict[str, Decimal]:
    allowed = "a mapping of quote currency to amount, such as {'USDT': 500}"
    if not isinstance(given, Mapping):
        raise ConfigError(f"max_notional must be {allowed}, got {given!r:.60}", setting="max_notional", allowed=allowed)
    try:
        return {str(currency).upper(): money.positive(most, what="max_notional") for currency, most in given.items()}
    except InvalidOrderError as error:
        raise ConfigError(str(error), setting="max_notional", value=given, allowed=allowed) from None


def checked_adapter(given: ExchangeAdapter) -> ExchangeAdapter:
    """
    An adapter that can do what no pipeline does without; nothing of it is called, nor a property read.

    Raises:
        ConfigError: It is something else, such as the client of an SDK.
    """
    if isinstance(given, type) or not all(callable(getattr(given, name, None)) for name in _NEEDED):
        # Not its repr: that of an SDK's client may show a key.
        what = f"the class {given.__qualname__}" if isinstance(given, type) else f"a {type(given).__qualname__}"
        raise ConfigError(
            f"pipeline: exchange_adapter must be an ExchangeAdapter such as EnhancedNobitexAdapter(...), got {what};"
            ' for an exchange of your own give OwnVenue("its name"), and put @verified_transaction around your function',
            setting="exchange_adapter",
            allowed="an ExchangeAdapter",
        )
    return given


def default_folder(name: str) -> Path:
    """The journal's folder of a pipeline: below $HIRELIAB_HOME, or the platform's folder for a user's state."""
    home = os.environ.get("HIRELIAB_HOME")
    if home:
        return Path(home) / name
    import platformdirs  # noqa: PLC0415 - third parties are imported where they are used

    return Path(platformdirs.user_state_dir("hireliab", appauthor=False)) / name
