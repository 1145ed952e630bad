"""
Recovery: what a start finds in the journal, and the gate that new orders wait at until it is decided.

Recovery never sends an order. A durable SUBMITTING row is taken as possibly sent up to this moment: the process that
wrote it is dead (it held the folder's lock), so its last byte has left by now.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from hireliab.core.clock import Clock
from hireliab.exchange._ledger import Ledger
from hireliab.exchange._resolver import Resolver
from hireliab.exchange.transaction import Proof, State, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryReport:
    """
    What a start found.

    Attributes:
        found: How many rows were not finished.
        not_sent: Ids of those that never left.
        undecided: Ids of those that the resolver is looking for.
        resting: Ids of decided orders that rest in the book, or are presumed absent, and are still looked at.
        gated: Symbols whose new orders wait.
    """

    found: int = 0
    not_sent: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    resting: tuple[str, ...] = ()
    gated: tuple[str, ...] = ()


class Gate:
    """Holds new orders on a symbol back until its recovered rows are decided."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()  # guards _waiting_for
        self._waiting_for: dict[str, str] = {}

    def shut(self, txn_id: str, symbol: str) -> None:
        """New orders on the symbol wait for this transaction."""
        with self._changed:
            self._waiting_for[txn_id] = symbol

    def release(self, txn_id: str) -> None:
        """This transaction is decided, or only a person can decide it."""
        with self._changed:
            if self._waiting_for.pop(txn_id, None) is not None:
                self._changed.notify_all()

    def wait(self, symbol: str, timeout: float, *, unless: Callable[[], bool]) -> bool:
        """Wait until the symbol is free; False after `timeout` seconds or when `unless` holds."""
        with self._changed:
            self._clock.wait_for(
                self._changed, lambda: unless() or symbol not in self._waiting_for.values(), timeout
            )
            return symbol not in self._waiting_for.values()

    def nudge(self) -> None:
        """Make waiters look at `unless` again."""
        with self._changed:
            self._changed.notify_all()

    def symbols(self) -> tuple[str, ...]:
        """Those that are held back."""
        with self._changed:
            return tuple(sorted(set(self._waiting_for.values())))


def recover(*, ledger: Ledger, resolver: Resolver, gate: Gate, clock: Clock) -> RecoveryReport:
    """Take over what the last process left unfinished."""
    records = ledger.journal.unfinished()
    not_sent, undecided, resting = [], [], []
    for record in records:
        transaction = Transaction(record, clock=clock)
        ledger.add(transaction)
        if record.state is State.PREPARED:
            ledger.move(
                transaction, record, "T4", State.FAILED, cause="found prepared at start", proof=Proof.NOT_SENT
            )
            not_sent.append(record.txn_id)
            continue
        if record.state.is_terminal:
            resting.append(record.txn_id)
            if record.order_id is not None and record.is_open_at_venue:
                ledger.note_order_id(record.order_id)
            continue
        if record.state is State.SUBMITTING:
            ledger.move(transaction, record, "T9", State.RESOLVING, cause="found submitting at start")
        undecided.append(record.txn_id)
        if record.kind == "ORDER" and not record.needs_human:  # else it would wait for a person at every start
            gate.shut(record.txn_id, record.order.symbol)
        resolver.add(transaction)
    report = RecoveryReport(
        found=len(records),
        not_sent=tuple(not_sent),
        undecided=tuple(undecided),
        resting=tuple(resting),
        gated=gate.symbols(),
    )
    if undecided:
        ledger.alert(
            "warning",
            "Recovery found undecided orders",
            f"looked for from before the restart: {len(undecided)}; new orders on"
            f" {', '.join(report.gated) or 'no symbol'} wait; nothing is sent again",
        )
    return report
