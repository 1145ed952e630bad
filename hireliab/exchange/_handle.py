"""Handle: a transaction that was handed over."""

from __future__ import annotations

from hireliab.exchange.transaction import Transaction, TransactionResult


class Handle:
    """A transaction that was handed over; any thread may ask it."""

    def __init__(self, transaction: Transaction, patience: float | None) -> None:
        self.transaction = transaction
        self._patience = patience

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
        """
        self.transaction.wait_answered(self._patience if timeout is None else timeout)
        return self.transaction.result()
