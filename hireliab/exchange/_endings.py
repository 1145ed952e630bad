"""Endings: the verdicts of what was refused or never left, from which nobody has to look for an order."""

from __future__ import annotations

import dataclasses
import logging

from hireliab.core.clock import Clock
from hireliab.errors import ClosedError, JournalError
from hireliab.exchange._ledger import MOST_WORDS, Ledger
from hireliab.exchange.transaction import Proof, Record, State, Transaction

_log = logging.getLogger("hireliab.transactions")


class Endings:
    """Of one pipeline's transactions, whoever runs them. A transaction's runner alone calls it."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def fail(self, transaction: Transaction, row: str, proof: Proof, error: Exception) -> None:
        """It was sent or about to be, and is proven not to have been placed; `row` is T5 or T7."""
        transaction.answer_error(error)
        record = transaction.record
        # Proven never to have left: the key is free, so that the bot's loop may ask again with it.
        key = None if proof in (Proof.NOT_SENT, Proof.DENIED) else record.idempotency_key
        self._ledger.move(
            transaction,
            record,
            row,
            State.FAILED,
            cause=str(error),
            proof=proof,
            reason=str(error),
            idempotency_key=key,
        )

    def not_sent(self, transaction: Transaction, error: Exception) -> None:
        """Nothing of this transaction ever left: say so. The idempotency key stays free."""
        record = transaction.record
        transaction.answer_error(error)
        if record.state is State.SUBMITTING:  # an earlier attempt was proven not to have left
            self.fail(transaction, "T5", Proof.NOT_SENT, error)
            return
        self._unsent(transaction, record, "T4", Proof.NOT_SENT, error)

    def deny(self, transaction: Transaction, error: Exception) -> None:
        """Refused before sending: as `not_sent`, with proof DENIED."""
        record = transaction.record
        transaction.answer_error(error)
        if record.state is State.SUBMITTING:
            self.fail(transaction, "T5", Proof.DENIED, error)
            return
        self._unsent(transaction, record, "T1", Proof.DENIED, error)

    def _unsent(self, transaction: Transaction, record: Record, row: str, proof: Proof, error: Exception) -> None:
        try:
            self._ledger.move(
                transaction,
                record,
                row,
                State.FAILED,
                cause=str(error),
                proof=proof,
                reason=str(error),
                idempotency_key=None,
            )
        except (JournalError, ClosedError) as closed:
            # Closed: a record that nobody needs cannot be written. The verdict is true without it.
            _log.warning("transaction %s: %s was not journalled: %s", transaction.id, proof.value, closed)
            if transaction.claim(record.version):
                reason = str(error)[:MOST_WORDS]
                failed = record.move(row, State.FAILED, proof=proof, reason=reason, idempotency_key=None)
                transaction.settle(dataclasses.replace(failed, updated=self._clock.time()), durable=False)
