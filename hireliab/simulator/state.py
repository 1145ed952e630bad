"""Everything the exchange knows, in one place for the handlers; and what one call brings along."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from hireliab.simulator import auth, money
from hireliab.simulator.auth import ApiKey, Credentials, Login
from hireliab.simulator.clock import Clock
from hireliab.simulator.engine import FIRST_FILL_ID, FIRST_ORDER_ID, Engine
from hireliab.simulator.limits import Limiter, Throttled
from hireliab.simulator.markets import DEFAULT_BALANCES, DEFAULT_MARKETS, Market
from hireliab.simulator.message import Request
from hireliab.simulator.settings import SettingError, Settings
from hireliab.simulator.truth import TruthFile

DEFAULT_ACCOUNT = "user"
DEFAULT_PASSWORD = "password"  # noqa: S105 - of an invented user
DEFAULT_OTP = "123456"


@dataclass(frozen=True)
class Opened:
    """A new account's credentials; shown once, never in the truth file."""

    name: str
    token: str = field(repr=False)
    api_key: str | None
    api_secret: str | None = field(repr=False)
    """None, with the key, when `cryptography` is not installed."""


@dataclass
class Call:
    """One authenticated call, as handlers see it."""

    request: Request
    params: Mapping[str, object]
    """Query parameters of a GET, body parameters of anything else."""
    rest: str
    """What follows the route's path: a symbol, a key."""
    account: str
    now: float
    now_ns: int
    charge: Callable[[int], Throttled | None]
    """Counts more orders on the shared order limit."""


class ExchangeState:
    """
    Clock, settings, engine, credentials, limiter and truth file of one exchange.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int = 0,
        settings: Settings | None = None,
        truth: str | os.PathLike[str] | None = None,
        markets: Sequence[Market] = DEFAULT_MARKETS,
    ) -> None:
        self.clock = clock
        self.seed = seed
        self.truth = TruthFile(truth, clock)
        self.credentials = Credentials()
        self.limiter = Limiter()
        self.accounts: list[str] = []
        self.engine = Engine(
            markets,
            clock,
            seed=seed,
            settings=settings,
            record=self.truth.add,
            first_order_id=max(FIRST_ORDER_ID, self.truth.last_ids["order"] + 1),
            first_fill_id=max(FIRST_FILL_ID, self.truth.last_ids["fill"] + 1),
        )

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.engine.settings

    def change_settings(self, changes: Mapping[str, object]) -> None:
        """Change some settings from now on; SettingError names what is wrong."""
        self.engine.settings = self.settings.changed(changes)

    def open_account(
        self,
        name: str = DEFAULT_ACCOUNT,
        balances: Mapping[str, object] | None = None,
        token: str | None = None,
        api_secret: str | None = None,
    ) -> Opened:
        """
        Open a user account with a token, a key pair with READ and TRADE, and a login.

        Args:
            name: As the truth file and fault rules call it.
            balances: By currency code; None gives generous amounts of everything.
            token: None invents one from the seed.
            api_secret: Private seed, URL-safe base64; None invents one from the seed.

        Raises:
            SettingError: The name is taken or not plain, a balance or secret is unusable.
        """
        if not name.isidentifier() or name in self.accounts:
            raise SettingError(f"account {name!r}; a new plain name is expected")
        amounts = DEFAULT_BALANCES if balances is None else checked_balances(balances)
        token = token or auth.invented_token(self.seed, name)
        secret: str | None = api_secret or auth.invented_seed(self.seed, name)
        try:
            public = auth.public_key_of(secret or "")
        except ImportError:
            public = secret = None  # type: ignore[assignment]  # an account without key pair
        except ValueError as error:
            raise SettingError(f"api_secret: {error}") from error
        self.accounts.append(name)
        self.credentials.add_token(token, name)
        if public is not None:
            now_ns = self.clock.time_ns()
            self.credentials.add_key(ApiKey(public, name, "default", ("READ", "TRADE"), now_ns, now_ns))
        self.credentials.logins[name] = Login(f"{name}@example.com", DEFAULT_PASSWORD, DEFAULT_OTP)
        for currency, amount in amounts.items():
            self.engine.set_balance(name, currency, amount)
        return Opened(name, token, public, secret)

    def describe_start(self) -> dict[str, object]:
        """The fields of the truth file's ``start`` record."""
        return {
            "seed": self.seed,
            "settings": self.settings.as_json(),
            "markets": list(self.engine.pits),
            "accounts": {
                name: {code: money.text(held.total) for code, held in self.engine.ledger.wallets(name).items()}
                for name in self.accounts
            },
            "lag": self.engine.visibility.as_json(),
            "pid": os.getpid(),
        }


def checked_balances(balances: Mapping[str, object]) -> dict[str, Decimal]:
    """Balances from JSON values; SettingError names the bad one."""
    checked = {}
    for currency, value in balances.items():
        amount = money.parse(str(value) if isinstance(value, float) else value)
        if amount is None or amount < 0 or currency not in DEFAULT_BALANCES:
            raise SettingError(f"balance {currency}={value!r}; a known currency with an amount is expected")
        checked[currency] = amount
    return checked
