"""CallBook: the look-ups of the user's own functions, for rows of kind CALL."""

from __future__ import annotations

from hireliab.errors import NotSentError
from hireliab.exchange.adapter import OrderRead, Unavailable
from hireliab.exchange.journal import Journal
from hireliab.exchange.transaction import Record


class CallBook:
    """Look-ups by the name of the function that they belong to."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def look(self, record: Record) -> OrderRead:
        """Ask the look-up of the record's function."""
        return Unavailable(NotSentError(f"transaction {record.txn_id}: no look-up is known for its function"))

    def complete(self, record: Record) -> bool:  # noqa: ARG002
        """Whether that look-up sees closed orders, too, so that its "no" counts."""
        return False

    def knows(self, record: Record) -> bool:  # noqa: ARG002
        """Whether there is one."""
        return False
