"""Views: the part of the pipeline's door that only looks: transactions by id and status, fills, what is not decided."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hireliab.core import config
from hireliab.core._threads import Stop
from hireliab.core.clock import Clock
from hireliab.errors import InvalidOrderError
from hireliab.exchange._fills import list_fills
from hireliab.exchange._ledger import Ledger
from hireliab.exchange._recovery import RecoveryReport
from hireliab.exchange.adapter import ExchangeAdapter, Fill
from hireliab.exchange.journal import Journal
from hireliab.exchange.transaction import PHASES, Record, Status, Transaction


class Views(ABC):
    """Base of `Desk`, and so of TransactionVerificationPipeline."""

    _adapter: ExchangeAdapter
    _clock: Clock
    _journal: Journal
    _ledger: Ledger
    _stop: Stop

    @abstractmethod
    def start(self) -> RecoveryReport:
        """Open and recover, once."""

    def get(self, transaction_id: str) -> Transaction | None:
        """A transaction by its id, or None."""
        self.start()
        if not isinstance(transaction_id, str) or not transaction_id.isascii():
            return None
        record: Record | None = None
        # A row that is not finished belongs to a live transaction, or to one that ended between the two looks.
        for _ in range(3):
            live = self._ledger.find(transaction_id)
            if live is not None:
                return live
            record = self._journal.get(transaction_id)
            if record is None or record.is_finished:
                break
        if record is None:
            return None
        return Transaction(record, fills=tuple(self._journal.fills(transaction_id)), clock=self._clock)

    def _known(self, transaction_id: str) -> Transaction:
        transaction = self.get(transaction_id)
        if transaction is None:
            raise InvalidOrderError(f"transaction {transaction_id!r:.60}: unknown; see transactions()", by="hireliab")
        return transaction

    def fills(self, transaction_id: str) -> tuple[Fill, ...]:
        """
        The executions of a transaction's order, listed at the exchange now and kept in the journal, each once.

        Args:
            transaction_id: Of an order.

        Returns:
            Those known, oldest first; `TransactionResult.filled` says how much they should add up to. An exchange
            keeps its list for a few days only (Nobitex: 3).

        Raises:
            InvalidOrderError: There is no such transaction.
            NotSentError, OutcomeUnknownError: The exchange's list could not be read.
        """
        return list_fills(self._known(transaction_id), adapter=self._adapter, journal=self._journal)

    def transactions(self, *, status: str | Status | None = None, limit: int = 1000) -> list[Transaction]:
        """
        Transactions, newest first.

        Args:
            status: One of the statuses' words (pending, in_progress, completed, failed, rolled_back, unknown).
            limit: Most of them.
        """
        states = None
        if status is not None:
            word = status.value if isinstance(status, Status) else status
            config.choice("status", word, [s.value for s in Status])
            states = [state.value for state, (_, of) in PHASES.items() if of.value == word]
        config.whole("limit", limit, low=0, high=1_000_000)
        self.start()
        found = []
        for record in self._journal.select(states=states, limit=limit):
            live = self._ledger.find(record.txn_id)
            if live is None:  # decided, or decided since the row was read: then it is read again
                live = Transaction(record, clock=self._clock) if record.is_finished else self.get(record.txn_id)
            if live is not None and (states is None or live.state.value in states):
                found.append(live)
        return found

    def unresolved(self) -> list[Transaction]:
        """Those that may be live at the exchange and are being looked for."""
        self.start()
        return self._ledger.undecided()

    def wait_resolved(self, timeout: float | None = None) -> bool:
        """Wait until nothing is undecided; False when `timeout` seconds were not enough."""
        self.start()
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        for transaction in self._ledger.undecided():
            left = None if deadline is None else max(0.0, deadline - self._clock.monotonic())
            transaction.wait_until(lambda record: record.state.is_terminal or self._stop.is_set, left)
        return not self._ledger.undecided()
