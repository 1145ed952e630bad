"""
Orphans: orders at the exchange that carry our client order id's prefix and have no row in the journal.

They are what a lost journal, or one restored from an old back-up, leaves. Each is kept in the journal, alerted once,
and adopted on the operator's word only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from hireliab.exchange._ledger import Ledger
from hireliab.exchange.adapter import OrderState
from hireliab.exchange.journal import FORGOTTEN

FACT = "orphan "
"""Orphans are facts of the journal: this and the venue's order id, with the client order id as value."""
_REMEMBERED = 100_000


class Orphans:
    """
    Args:
        prefix: What our client order ids begin with, or None while it is not known whose account this is.
    """

    def __init__(self, *, ledger: Ledger, prefix: Callable[[], str | None]) -> None:
        self._ledger = ledger
        self._prefix = prefix
        self._ours: set[str] = set()  # client order ids that have a row; only a cache, any thread may fill it
        self._lock = threading.RLock()  # guards _kept; re-entrant: a signal handler may ask on the thread that has it
        self._kept: dict[str, str] | None = None  # client order ids by venue id, as in the journal's facts

    def notice(self, orders: Iterable[OrderState]) -> tuple[OrderState, ...]:
        """Those of a listing that are orphans; the new ones are kept and alerted."""
        prefix = self._prefix()
        if prefix is None:
            return ()
        start = f"{prefix}-"
        found = tuple(o for o in orders if (o.client_order_id or "").startswith(start) and not self._is_known(o))
        for order in found:
            if self.client_id(order.order_id) is None:
                self._keep(order)
        return found

    def _known(self) -> dict[str, str]:
        """A copy of what is kept; the journal is read once."""
        with self._lock:
            if self._kept is not None:
                return dict(self._kept)
        read = {name.removeprefix(FACT): client_id for name, client_id in self._ledger.journal.facts(FACT).items()}
        with self._lock:
            if self._kept is None:
                self._kept = read
            return dict(self._kept)

    def client_id(self, order_id: str) -> str | None:
        """The client order id under which a listing showed this orphan, or None for no orphan."""
        return self._known().get(order_id)

    def _keep(self, order: OrderState) -> None:
        client_id = order.client_order_id or ""
        with self._lock:
            if self._kept is not None:
                self._kept[order.order_id] = client_id
        self._ledger.journal.note_fact(f"{FACT}{order.order_id}", client_id)
        self._ledger.alert(
            "critical",
            f"{order.type} {order.side} {order.symbol}: an order of ours that is not in the journal",
            f"venue order {order.order_id} ({order.status.value}) carries the client order id {client_id}, which begins"
            " as ours do, and no transaction has it: was the journal lost or restored? Look at it, and adopt it with"
            f" adopt({order.order_id!r}) or 'hireliab transactions adopt {order.order_id}'",
        )

    def _is_known(self, order: OrderState) -> bool:
        client_id = order.client_order_id or ""
        if client_id in self._ours:
            return True
        txn_id = client_id.rpartition("-")[2]
        if self._ledger.find(txn_id) is None and self._ledger.journal.get(txn_id) is None:
            # The retention deletes finished rows in order of their ids.
            forgotten = self._ledger.journal.fact(FORGOTTEN)
            if forgotten is None or txn_id > forgotten:
                return False
        if len(self._ours) >= _REMEMBERED:
            self._ours.clear()
        self._ours.add(client_id)
        return True

    def ids(self) -> tuple[str, ...]:
        """Venue ids of the orphans that nobody adopted yet."""
        return tuple(sorted(self._known(), key=int))

    def forget(self, order_id: str) -> None:
        """It has a row now."""
        with self._lock:
            if self._kept is not None:
                self._kept.pop(order_id, None)
        self._ledger.journal.note_fact(f"{FACT}{order_id}", None)
