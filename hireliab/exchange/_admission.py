"""Admission: gives each transaction a thread of its own, at most so many at once, and each to exactly one taker."""

from __future__ import annotations

import threading

from hireliab.core.clock import Clock
from hireliab.errors import BulkheadFullError, ClosedError, HireliabError, NotSentError
from hireliab.exchange._ledger import Ledger
from hireliab.exchange._pipeline_settings import PipelineConfig
from hireliab.exchange._runner import Runner
from hireliab.exchange.transaction import Transaction

ADMISSION_WAIT = 1.0
"""Seconds that a transaction waits for a free place before it is NOT_SENT: a stale order is worse than none."""


class Admission:
    """The threads of one pipeline's running transactions."""

    def __init__(self, *, runner: Runner, ledger: Ledger, config: PipelineConfig, clock: Clock) -> None:
        self._runner = runner
        self._ledger = ledger
        self._config = config
        self._clock = clock
        self._changed = threading.Condition()  # guards threads and _closed
        self.threads: dict[str, threading.Thread] = {}
        self._closed = False

    def close(self) -> list[threading.Thread]:
        """Admit nobody more; those that still run."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return list(self.threads.values())

    def admit(self, transaction: Transaction) -> None:
        """
        Start the transaction's thread.

        Raises:
            BulkheadFullError, ClosedError, NotSentError: It was not started, and nothing was sent.
        """
        # Cancels reduce risk: they have places of their own.
        places = self._config.max_running * (1 if transaction.record.kind == "ORDER" else 2)
        with self._changed:
            free = self._clock.wait_for(
                self._changed, lambda: len(self.threads) < places or self._closed, ADMISSION_WAIT
            )
            if self._closed:
                raise ClosedError(f"pipeline {self._config.name}: stopped; nothing was sent")
            if not free:
                raise BulkheadFullError(
                    f"pipeline {self._config.name}: {self._config.max_running} transactions are running (max_running);"
                    " nothing was sent; try again"
                )
            # Registered before it runs, so that its end cannot come before its entry.
            thread = threading.Thread(
                target=self._run, args=(transaction,), name=f"hireliab.txn.{transaction.id}", daemon=True
            )
            self.threads[transaction.id] = thread
        self._ledger.add(transaction)
        try:
            thread.start()
        except RuntimeError as error:  # the machine has no room for another thread
            self._leave(transaction)
            raise NotSentError(
                f"pipeline {self._config.name}: cannot start a thread ({error}); nothing was sent"
            ) from error

    def refuse(self, transaction: Transaction, error: HireliabError) -> None:
        """
        Answer a transaction that could not start.

        Ctrl-C may strike while its thread is being started. Whoever takes the transaction first, the new thread or
        this refusal, has it: it is either run or answered, never both and never neither.
        """
        if self._runner.refuse(transaction, error):
            self._leave(transaction)

    def _run(self, transaction: Transaction) -> None:
        try:
            self._runner.run(transaction)
        finally:
            self._leave(transaction)

    def _leave(self, transaction: Transaction) -> None:
        with self._changed:
            self.threads.pop(transaction.id, None)
            self._changed.notify_all()
