"""
Recovery: what a start finds in the journal, and the gate that new orders wait at until it is decided.

Recovery never sends an order. A durable SUBMITTING row is taken as possibly sent up to this moment: the process that
wrote it is dead (it held the folder's lock), so its last byte has left by now.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hireliab.core import _kill_points
from hireliab.core.clock import Clock
from hireliab.exchange._ledger import DUPLICATE_WINDOW, Ledger
from hireliab.exchange._resolver import Resolver
from hireliab.exchange.adapter import ExchangeAdapter, OrderListing, Unavailable
from hireliab.exchange.journal import Journal
from hireliab.exchange.transaction import Proof, Record, State, Transaction


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
            self._clock.wait_for(self._changed, lambda: unless() or symbol not in self._waiting_for.values(), timeout)
            return symbol not in self._waiting_for.values()

    def nudge(self) -> None:
        """Make waiters look at `unless` again."""
        with self._changed:
            self._changed.notify_all()

    def symbols(self) -> tuple[str, ...]:
        """Those that are held back."""
        with self._changed:
            return tuple(sorted(set(self._waiting_for.values())))


class FirstLook(NamedTuple):
    """
    What a start saw of the exchange.

    Attributes:
        listing: None where the exchange could not be asked.
        knows_newest: Whether the newest order's id was read, so that nobody has to ask for it again.
    """

    listing: OrderListing | None
    knows_newest: bool


def first_listing(records: Sequence[Record], *, journal: Journal, adapter: ExchangeAdapter) -> FirstLook:
    """
    One look at the exchange's orders that serves all of a start: the watermark, orphans, and what is unfinished.

    A new journal knows no order to list from: there it is the open orders, and the newest id is asked for.
    """
    if journal.watermark == "0" and not records:
        newest = adapter.newest_order_id()
        listing = adapter.list_open_orders()
        knows_newest = not isinstance(newest, Unavailable)
        if not isinstance(newest, Unavailable):
            journal.note_watermark(newest)
    else:
        floors = [int(journal.watermark)] if journal.watermark != "0" else []
        lost = [r for r in records if r.kind == "ORDER" and (not r.state.is_terminal or r.watch_until is not None)]
        floors += [int(r.baseline) for r in lost]
        # Resting orders are followed by the list of open ones: theirs may be a month old.
        known = [r for r in records if r.kind != "CALL" and not r.state.is_terminal]
        floors += [int(r.order_id) - 1 for r in known if r.order_id is not None]
        listing = adapter.list_orders_since(str(max(0, min(floors, default=0))))
        knows_newest = not isinstance(listing, Unavailable)
        if isinstance(listing, Unavailable):  # such as too many pages: at least new orders get a baseline of today
            newest = adapter.newest_order_id()
            if not isinstance(newest, Unavailable):
                journal.note_watermark(newest)
                knows_newest = True
    return FirstLook(None if isinstance(listing, Unavailable) else listing, knows_newest)


def recover(
    *, records: Sequence[Record], ledger: Ledger, resolver: Resolver, gate: Gate, clock: Clock, owner: str
) -> RecoveryReport:
    """
    Take over what the last process left unfinished.

    Args:
        records: What the journal holds unfinished, under its lock.
        owner: Who claims them (T27): one barrier for all.
    """
    records = [record if record.state.is_terminal else _claimed(record, owner, clock) for record in records]
    # The newest first; what was sent a moment before the restart explains a "duplicate order" right after it.
    now = clock.time()
    recent = [r for r in ledger.journal.select(limit=100) if r.sent_wall and 0 <= now - r.sent_wall < DUPLICATE_WINDOW]
    recent = [r for r in recent if r.proof not in (Proof.NOT_SENT, Proof.DENIED)]
    for record in reversed(recent):
        ledger.note_send(record.order, age=now - (record.sent_wall or now))
    claims = [(record, f"T27 claimed by {owner}") for record in records if not record.state.is_terminal]
    if claims:
        ledger.journal.write_many(claims, barrier=True)
        if _kill_points.ARMED:
            _kill_points.at("L19")
    not_sent, undecided, resting = [], [], []
    for record in records:
        transaction = Transaction(record, clock=clock)
        ledger.add(transaction)
        if record.state is State.PREPARED:
            ledger.move(transaction, record, "T4", State.FAILED, cause="found prepared at start", proof=Proof.NOT_SENT)
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
        waits = f" new orders on {', '.join(report.gated)} wait;" if report.gated else ""
        ledger.alert(
            "warning",
            "Recovery found undecided orders",
            f"looked for from before the restart: {len(undecided)};{waits} nothing is sent again",
        )
    return report


def _claimed(record: Record, owner: str, clock: Clock) -> Record:
    claimed = record.move("T27", record.state, owner=owner, epoch=record.epoch + 1)
    return dataclasses.replace(claimed, updated=clock.time())
