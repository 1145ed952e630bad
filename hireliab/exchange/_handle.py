"""Handle: a transaction that was handed over."""

from __future__ import annotations

import os

from hireliab.errors import ClosedError
from hireliab.exchange.transaction import Transaction, TransactionResult


class Handle:
    """A transaction that was handed over; any thread may ask it."""

    def __init__(self, transaction: Transaction, patience: float | None) -> None:
        self.transaction = transaction
        self._patience = patience
        self._pid = os.getpid()

    @property
    def done(self) -> bool:
        """Whether the transaction is decided."""
        return self.transaction.state.is_terminal

    def result(self, timeout: float | None = None) -> TransactionResult:
        """
        Wait for the answer: decided, or UNKNOWN after the verification timeout.

        Interrupting this wait (Ctrl-C) abandons nothing: the transaction goes on in its own thread.

        Args:
            timeout: Seconds to wait at most; None waits for the answer. When it ends first, what is known now is
                returned, with the verdict UNKNOWN.

        Raises:
            ClosedError: In a forked child: nobody would ever answer there.
        """
        if os.getpid() != self._pid:
            raise ClosedError(
                f"transaction {self.transaction.id}: runs in process {self._pid}; ask there, not in a forked child"
            )
        self.transaction.wait_answered(self._patience if timeout is None else timeout)
        return self.transaction.result()
