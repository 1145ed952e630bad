"""CommitRule: gives up on an order that did not reach its commit rule within its timeout, and cancels it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from hireliab.core.clock import Clock
from hireliab.errors import HireliabError
from hireliab.exchange._cancel import roll_back
from hireliab.exchange._conclusion import conclude
from hireliab.exchange._ledger import Ledger
from hireliab.exchange.adapter import ExchangeAdapter
from hireliab.exchange.transaction import State, Transaction

_log = logging.getLogger("hireliab.transactions")
NEVER = 3600.0
"""Seconds that stand for "no timeout": longer than any pause between two looks."""


class CommitRule:
    """
    Safe from any thread: the runner asks it while the caller waits, the resolver afterwards and after a restart.

    Args:
        check_open: Run just before the first byte of a cancel.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        adapter: ExchangeAdapter,
        clock: Clock,
        check_open: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._adapter = adapter
        self._clock = clock
        self._check_open = check_open

    def time_left(self, transaction: Transaction) -> float:
        """Seconds until it gives up, 0 or less when it is time; NEVER without a timeout or where it gave up already."""
        record = transaction.record
        if record.timeout is None or record.kind != "ORDER" or record.is_rollback or record.state.is_terminal:
            return NEVER
        if transaction.sent_at is not None:
            return transaction.sent_at + record.timeout - self._clock.monotonic()
        # After a restart only the exchange's clock is common to the two processes.
        return NEVER if record.deadline is None else record.deadline - self._adapter.server_time()

    def enforce(self, transaction: Transaction) -> None:
        """Cancel the order if it is known, live and out of time; what cannot be cancelled now is tried again later."""
        record = transaction.record
        if record.state not in (State.ACKED, State.WORKING) or self.time_left(transaction) > 0:
            return
        try:
            order = roll_back(
                transaction,
                ledger=self._ledger,
                adapter=self._adapter,
                check_open=self._check_open,
                cause=f"not {record.commit} within {record.timeout:g} s",
            )
        except HireliabError as error:
            _log.warning("transaction %s: cannot cancel yet: %s", transaction.id, error)
            return
        if order is not None:
            conclude(transaction, order, ledger=self._ledger)
