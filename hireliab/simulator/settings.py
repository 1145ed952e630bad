"""
Every switch of the simulator, with its default.

The defaults are section 10 of the API sheet: where the exchange's documents are silent, the
simulator does the less convenient thing. Settings change as a whole (`Settings.changed`), never
field by field, so that a request sees one consistent set.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from hireliab.simulator import money

QUIRKS = frozenset(
    {
        "int_zero",
        "ten_decimals",
        "rial_word",
        "missing_fields",
        "extra_fields",
        "no_echo",
        "no_next_page",
        "short_pages",
        "no_market",
    }
)
"""
Allowed members of `Settings.quirks`: `int_zero` (zeros of add answers as bare ints),
`ten_decimals` (``3.0000000000`` and ``0E-10``), `rial_word` (the Persian word instead of the
sign), `missing_fields` (add answers lack execution, market and averagePrice), `extra_fields`
(unknown fields appear), `no_echo` (add answers lack clientOrderId), `no_next_page` (orders/list says
that no page follows, also where one does), `short_pages` (orders and trades come 50 a page, however
many were asked for), `no_market` (rows of orders/list lack market and currencies).
"""


SHORT_PAGE = 50


class SettingError(ValueError):
    """A setting that does not exist, or a value out of its range."""


@dataclass(frozen=True)
class Settings:
    """What the exchange does where its documents leave room. Times are seconds."""

    fee: Decimal = Decimal("0.25")
    """Percent, rial markets; taken from what the buyer or seller receives."""
    fee_usdt: Decimal = Decimal("0.2")
    """Percent, tether markets."""
    min_order_rls: Decimal = Decimal(3_000_000)
    min_order_usdt: Decimal = Decimal(11)
    collar: Decimal = Decimal("0.01")
    """How far beyond its reference price a market order may fill."""
    band: Decimal = Decimal("0.30")
    """How far from the last trade a limit price may be."""
    duplicate_window: float = 10.0
    """An equal order within this time is refused; 0 switches the check off."""
    duplicate_by_client_id: bool = False
    """True: a different clientOrderId makes an order a different order for that check."""
    refill: bool = True
    """The house restores its quotes after they were taken."""
    self_trade: bool = True
    """False: the resting order of the same account is cancelled instead of matched."""
    new_delay: float = 0.0
    """How long an accepted order stays New before it enters the book."""
    reject_probability: float = 0.0
    """Share of acknowledged orders that end Rejected without touching the book."""
    reject_delay: float = 0.0
    cancel_delay: float = 0.0
    """How long an acknowledged cancel takes; the order may fill meanwhile."""
    null_client_ids: bool = False
    """Terminal rows lose their clientOrderId."""
    prune_after: float | None = None
    """Terminal orders vanish from every read after this time; None keeps them for ever."""
    trade_days: float = 3.0
    """How far back trades/list goes."""
    levels: int = 24
    levels_all: int = 8
    book_cache: float = 0.0
    """How old an order book answer may be; the real exchange caches about 1 s."""
    limits: bool = True
    """False switches off rate limits, token ban and the count of failed authentications."""
    limit_scale: float = 1.0
    """Multiplies every rate limit."""
    ban_after: int = 20
    """So many throttled answers within `ban_window` ban the credential for `ban_seconds`."""
    ban_window: float = 60.0
    ban_seconds: float = 120.0
    unauthorized_limit: int = 100
    """So many failed authentications of one IP are answered 401 per `unauthorized_window`."""
    unauthorized_window: float = 1800.0
    retry_after: bool = False
    """429 answers carry a Retry-After header; the documents show none."""
    timestamp_window: float = 30.0
    """How far a signed timestamp may be from the exchange's clock, either way."""
    standard_base64: bool = False
    """Also take signatures in the standard base64 alphabet."""
    refuse_replay: bool = False
    """Refuse a signature that was seen before."""
    login_needs_user_agent: bool = True
    maintenance: bool = False
    """Every call is answered 503 with an HTML page."""
    quirks: frozenset[str] = frozenset()
    """See QUIRKS."""

    def changed(self, changes: Mapping[str, object]) -> Settings:
        """
        A copy with some fields replaced, from JSON values.

        Raises:
            SettingError: An unknown name (with the nearest known one) or an impossible value.
        """
        known = {field.name: field for field in dataclasses.fields(self)}
        values: dict[str, object] = {}
        for name, value in changes.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                message = f"no setting {name!r}{hint}"
                raise SettingError(message)
            values[name] = _converted(name, value, getattr(_DEFAULTS, name))
        return dataclasses.replace(self, **values)  # type: ignore[arg-type]  # values were checked

    def as_json(self) -> dict[str, object]:
        """The settings as JSON values; `Settings().changed(...)` takes them back."""
        shown: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Decimal):
                value = money.text(value)
            elif isinstance(value, frozenset):
                value = sorted(value)
            shown[field.name] = value
        return shown


_DEFAULTS = Settings()


def _converted(name: str, value: object, default: object) -> object:
    """A JSON value as the type of the default; ranges are: not negative, probability up to 1."""
    if name == "quirks":
        return _quirks(value)
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        return _refuse(name, value, "true or false")
    if value is None and default is None:
        return None
    number = money.parse(str(value) if isinstance(value, float) else value)
    if number is None or number < 0:
        return _refuse(name, value, "a number of at least 0")
    if isinstance(default, Decimal):
        return number
    if isinstance(default, int):
        if number != int(number):
            return _refuse(name, value, "a whole number")
        return int(number)
    if name == "reject_probability" and number > 1:
        return _refuse(name, value, "a number between 0 and 1")
    return float(number)


def _quirks(value: object) -> frozenset[str]:
    if isinstance(value, (list, tuple, set, frozenset)) and QUIRKS.issuperset(value):
        return frozenset(str(member) for member in value)
    message = f"quirks is {value!r}; a list of {', '.join(sorted(QUIRKS))} is allowed"
    raise SettingError(message)


def _refuse(name: str, value: object, allowed: str) -> object:
    message = f"{name} is {value!r}; {allowed} is allowed"
    raise SettingError(message)
