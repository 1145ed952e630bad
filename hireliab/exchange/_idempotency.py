"""IdempotencyKeys: the one transaction of a key, whoever asks, and also after a restart."""

from __future__ import annotations

import threading
import weakref

from hireliab.core.clock import Clock
from hireliab.errors import IdempotencyConflictError
from hireliab.exchange._ledger import Ledger
from hireliab.exchange.journal import Journal
from hireliab.exchange.transaction import Record, State, Transaction

_STRIPES = 64
"""How many counters tell the look-ups of different keys apart."""


class IdempotencyKeys:
    """Transactions by key; those that nobody holds any more are found in the journal."""

    def __init__(self, *, journal: Journal, ledger: Ledger, clock: Clock) -> None:
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        # Guards _known and _registrations; re-entrant: a signal handler may ask on the thread that has it.
        self._lock = threading.RLock()
        self._known: weakref.WeakValueDictionary[str, Transaction] = weakref.WeakValueDictionary()
        self._registrations = [0] * _STRIPES

    def transaction(self, key: str, record: Record) -> Transaction:
        """
        The key's transaction, or a new one for this record.

        Raises:
            IdempotencyConflictError: The key's transaction is another order.
        """
        found = self._find(key, record)
        if found.record.payload_hash != record.payload_hash:
            raise IdempotencyConflictError(
                f"idempotency key {key!r}: belongs to transaction {found.id}, which is another order; use a new key",
                idempotency_key=key,
                transaction_id=found.id,
            )
        return found

    def _find(self, key: str, record: Record) -> Transaction:
        stripe = hash(key) % _STRIPES
        again = 3
        while True:
            with self._lock:
                before = self._registrations[stripe]
                known = self._known.get(key)
            if known is not None and not _is_free(known):
                return known
            stored = self._journal.find_key(key)
            live = None if stored is None else self._ledger.find(stored.txn_id)
            if stored is not None and live is None and not stored.is_finished and again:
                again -= 1  # it was decided between the two looks: its row says so now
                continue
            with self._lock:
                if self._registrations[stripe] != before:
                    continue  # another thread registered a key meanwhile, and may even be done: what we read is old
                if stored is None:
                    known = Transaction(record, clock=self._clock)
                else:
                    known = live or Transaction(stored, clock=self._clock)
                self._known[key] = known
                self._registrations[stripe] += 1
                return known


def _is_free(transaction: Transaction) -> bool:
    """Whether it was refused before it was ever sent, so that its key may be used again."""
    return transaction.state is State.FAILED and transaction.record.idempotency_key is None
