"""The executions of one order, listed when they are asked for: a listing costs a share of a small rate limit."""

from __future__ import annotations

from hireliab.core import money
from hireliab.exchange.adapter import ExchangeAdapter, Fill, Unavailable
from hireliab.exchange.evidence import CLOCK_MARGIN
from hireliab.exchange.journal import Journal
from hireliab.exchange.transaction import Transaction


def list_fills(transaction: Transaction, *, adapter: ExchangeAdapter, journal: Journal) -> tuple[Fill, ...]:
    """Those in the journal, and where they do not add up to what was filled, those that the exchange lists."""
    record = transaction.record
    known = {fill.trade_id: fill for fill in journal.fills(record.txn_id)}
    if record.order_id is not None and money.total(fill.amount for fill in known.values()) < record.filled:
        listing = adapter.list_fills_since(record.baseline_time - CLOCK_MARGIN)
        if isinstance(listing, Unavailable):
            raise listing.error
        new = [fill for fill in listing.fills if fill.order_id == record.order_id and fill.trade_id not in known]
        journal.write_fills(record.txn_id, new)
        known.update((fill.trade_id, fill) for fill in new)
    fills = tuple(sorted(known.values(), key=lambda fill: fill.time))
    transaction.note_fills(fills)
    return fills
