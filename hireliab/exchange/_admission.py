"""
Admission: gives each transaction a thread of its own, at most so many at once, and each to exactly one taker.

A thread whose transaction has ended waits a moment for the next one: starting a thread costs more than everything else
that Python does for an order.
"""

from __future__ import annotations

import contextlib
import threading

from hireliab.core.clock import Clock
from hireliab.errors import BulkheadFullError, ClosedError, HireliabError, NotSentError
from hireliab.exchange._ledger import Ledger
from hireliab.exchange._pipeline_settings import PipelineConfig
from hireliab.exchange._runner import Runner
from hireliab.exchange.transaction import Transaction

ADMISSION_WAIT = 1.0
"""Seconds that a transaction waits for a free place before it is NOT_SENT: a stale order is worse than none."""
IDLE = 5.0
"""Seconds after which a thread without a transaction is let go, at the resolver's next step."""
MOST_IDLE = 32


class _Worker:
    """A thread, the transaction that it is to run next, and the lock that it waits on without one."""

    __slots__ = ("idle_since", "signal", "thread", "transaction")

    def __init__(self, transaction: Transaction) -> None:
        self.transaction: Transaction | None = transaction
        self.signal = threading.Lock()  # held while there is nothing to do; guards nothing
        self.signal.acquire()
        self.idle_since = 0.0
        self.thread = threading.Thread()

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # awake already
            self.signal.release()


class Admission:
    """The threads of one pipeline's running transactions."""

    def __init__(self, *, runner: Runner, ledger: Ledger, config: PipelineConfig, clock: Clock) -> None:
        self._runner = runner
        self._ledger = ledger
        self._config = config
        self._clock = clock
        self._changed = threading.Condition()  # guards threads, _workers, _idle, _closed and what is in the workers
        self.threads: dict[str, threading.Thread] = {}
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._closed = False

    def close(self) -> list[threading.Thread]:
        """Admit nobody more; the threads that still end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            workers = list(self._workers)
        for worker in workers:
            worker.wake()
        return [worker.thread for worker in workers]

    def trim(self) -> None:
        """Let threads go that had nothing to do for a while."""
        if not self._idle:
            return
        before = self._clock.monotonic() - IDLE
        with self._changed:
            old = [worker for worker in self._idle if worker.idle_since < before]
            self._idle = [worker for worker in self._idle if worker.idle_since >= before]
            for worker in old:
                self._workers.discard(worker)
        for worker in old:
            worker.wake()

    def admit(self, transaction: Transaction) -> None:
        """
        Start the transaction in a thread of its own.

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
            if self._idle:
                worker = self._idle.pop()
                worker.transaction = transaction
                worker.thread.name = _name(transaction)
            else:
                worker = _Worker(transaction)
                worker.thread = threading.Thread(
                    target=self._work, args=(worker,), name=_name(transaction), daemon=True
                )
                self._workers.add(worker)
            self.threads[transaction.id] = worker.thread
        self._ledger.add(transaction)
        if worker.thread.ident is not None:
            worker.wake()
            return
        try:
            worker.thread.start()
        except RuntimeError as error:  # the machine has no room for another thread
            with self._changed:
                self._workers.discard(worker)
            self._leave(transaction)
            raise NotSentError(
                f"pipeline {self._config.name}: cannot start a thread ({error}); nothing was sent"
            ) from error

    def refuse(self, transaction: Transaction, error: HireliabError) -> None:
        """
        Answer a transaction that could not start.

        Ctrl-C may strike while it is being handed to its thread. Whoever takes the transaction first, the thread or
        this refusal, has it: it is either run or answered, never both and never neither.
        """
        if self._runner.refuse(transaction, error):
            self._leave(transaction)

    def _work(self, worker: _Worker) -> None:
        try:
            self._work_on(worker)
        finally:
            # Also when something out of order ended it (memory, an exception from outside): what it was to run is
            # refused, and nobody hands it more.
            with self._changed:
                self._workers.discard(worker)
                if worker in self._idle:
                    self._idle.remove(worker)
                left, worker.transaction = worker.transaction, None
            if left is not None:
                self.refuse(left, NotSentError(f"transaction {left.id}: its thread ended; nothing was sent"))

    def _work_on(self, worker: _Worker) -> None:
        while True:
            with self._changed:
                transaction = worker.transaction  # it stays there until it has run, see _work
                if transaction is None and (self._closed or worker not in self._workers):
                    return
            if transaction is not None:
                try:
                    self._runner.run(transaction)
                finally:
                    self._leave(transaction)
                del transaction  # an idle thread keeps nothing alive, and neither does its worker
                if not self._rest(worker):
                    return
            worker.signal.acquire()

    def _rest(self, worker: _Worker) -> bool:
        """Line up for the next transaction; False when the thread is not needed."""
        with self._changed:
            worker.transaction = None
            if self._closed or len(self._idle) >= MOST_IDLE:
                return False
            worker.thread.name = f"hireliab.idle.{self._config.name}"
            worker.idle_since = self._clock.monotonic()
            self._idle.append(worker)
            return True

    def _leave(self, transaction: Transaction) -> None:
        with self._changed:
            self.threads.pop(transaction.id, None)
            self._changed.notify_all()


def _name(transaction: Transaction) -> str:
    return f"hireliab.txn.{transaction.id}"
