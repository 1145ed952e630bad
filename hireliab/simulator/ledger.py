"""Balances with blocked parts. Every movement is a transfer, so that the sum of a currency is constant."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from hireliab.simulator import money
from hireliab.simulator.money import ZERO

HOUSE = "@house"
"""Counterparty of the users; may go below zero, because it stands for the rest of the market."""
FEES = "@fees"
"""Where fees go."""


@dataclass(frozen=True)
class Balance:
    """What an account has of one currency; `blocked` is part of `total`."""

    total: Decimal = ZERO
    blocked: Decimal = ZERO

    @property
    def free(self) -> Decimal:
        """What a new order may use."""
        return money.sub(self.total, self.blocked)


EMPTY = Balance()


@dataclass(frozen=True)
class Entry:
    """One line of a user's account statement."""

    id: int
    account: str
    currency: str
    amount: Decimal
    """Signed."""
    balance: Decimal
    tp: str
    """deposit, buy (credit leg), sell (debit leg) or manual."""
    description: str
    at_ns: int


class Ledger:
    """
    Balances of all accounts, their history for lagged reads, and account statements.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self) -> None:
        self._balances: dict[str, dict[str, Balance]] = defaultdict(dict)
        self._wallet_ids: dict[tuple[str, str], int] = {}
        self._history: dict[tuple[str, str], list[tuple[float, Balance]]] = {}
        self._touched: dict[tuple[str, str], Balance | None] = {}
        self._statement: dict[str, list[Entry]] = defaultdict(list)
        self._next_entry = 1

    def get(self, account: str, currency: str) -> Balance:
        """The present balance; zero for a wallet that does not exist."""
        return self._balances[account].get(currency, EMPTY)

    def wallets(self, account: str) -> dict[str, Balance]:
        """All wallets of an account; they come into being with the first movement."""
        return dict(self._balances[account])

    def wallet_id(self, account: str, currency: str) -> int:
        """A stable number for a wallet."""
        return self._wallet_ids.setdefault((account, currency), 133_777 + len(self._wallet_ids))

    def move(self, currency: str, amount: Decimal, *, source: str, target: str) -> None:
        """Transfer an amount of free balance."""
        self._set(source, currency, money.sub(self.get(source, currency).total, amount))
        self._set(target, currency, money.add(self.get(target, currency).total, amount))

    def block(self, account: str, currency: str, amount: Decimal) -> None:
        """Change the blocked part by a signed amount."""
        old = self.get(account, currency)
        self._put(account, currency, Balance(old.total, money.add(old.blocked, amount)))

    def touched(self) -> list[tuple[str, str, Balance]]:
        """Wallets that changed since the last call, with their present balance."""
        changed = [(*key, self.get(*key)) for key, old in self._touched.items() if self.get(*key) != old]
        self._touched.clear()
        return changed

    def remember(self, account: str, currency: str, at: float, horizon: float) -> None:
        """Keep the present balance for reads that lag by up to `horizon` seconds."""
        history = self._history.setdefault((account, currency), [])
        if not horizon:
            history.clear()
        while len(history) > 1 and history[1][0] < at - horizon:
            del history[0]
        history.append((at, self.get(account, currency)))

    def visible(self, account: str, currency: str, cutoff: float) -> Balance | None:
        """The balance as it was at `cutoff`; None when the wallet did not exist."""
        for at, balance in reversed(self._history.get((account, currency), ())):
            if at <= cutoff:
                return balance
        return None

    def note(self, account: str, currency: str, amount: Decimal, *, tp: str, text: str, at_ns: int) -> None:
        """Add a line to the account statement."""
        entry = Entry(
            self._next_entry,
            account,
            currency,
            amount,
            self.get(account, currency).total,
            tp,
            text,
            at_ns,
        )
        self._next_entry += 1
        self._statement[account].append(entry)

    def statement(self, account: str) -> list[Entry]:
        """The account statement, oldest first."""
        return self._statement[account]

    def total(self, currency: str) -> Decimal:
        """Sum over all accounts; constant."""
        amount = ZERO
        for wallets in self._balances.values():
            amount = money.add(amount, wallets.get(currency, EMPTY).total)
        return amount

    def _set(self, account: str, currency: str, total: Decimal) -> None:
        self._put(account, currency, Balance(total, self.get(account, currency).blocked))

    def _put(self, account: str, currency: str, balance: Balance) -> None:
        self._touched.setdefault((account, currency), self._balances[account].get(currency))
        self._balances[account][currency] = balance
