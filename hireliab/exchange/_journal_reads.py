"""The questions that can be asked of a journal's tables, beside its writer or without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hireliab.exchange._journal_rows import (
    EVENT_BACKLOG,
    SELECT,
    SELECT_EVENTS,
    SELECT_FILLS,
    UNFINISHED,
    from_event_row,
    from_fill_row,
    from_row,
)
from hireliab.exchange.adapter import Account, Fill
from hireliab.exchange.transaction import Record
from hireliab.messaging.outbox import OutboxEvent


class JournalReads:
    """What `SQLiteJournal` and `JournalReader` have in common; see `hireliab.exchange.journal.Journal`."""

    def _query(self, sql: str, values: Sequence[Any] = (), /) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def _settle(self) -> None:
        """Let what was written before become visible."""

    def _meta(self, key: str) -> str | None:
        rows = self._query("SELECT value FROM meta WHERE key=?", (key,))
        return rows[0][0] if rows else None

    @property
    def bound(self) -> Account | None:
        """Whose orders these are, as written, or None for a new journal."""
        account = self._meta("account")
        return None if account is None else Account(**json.loads(account))

    def fact(self, name: str) -> str | None:
        """See `Journal.fact`."""
        self._settle()
        return self._meta(f"fact {name}")

    def facts(self, prefix: str) -> dict[str, str]:
        """See `Journal.facts`."""
        self._settle()
        beginning = f"fact {prefix}"
        rows = self._query("SELECT key, value FROM meta WHERE substr(key, 1, ?) = ?", (len(beginning), beginning))
        return {key.removeprefix("fact "): value for key, value in rows}

    def unfinished(self) -> list[Record]:
        """See `Journal.unfinished`."""
        self._settle()
        return [from_row(row) for row in self._query(UNFINISHED)]

    def get(self, txn_id: str) -> Record | None:
        """See `Journal.get`."""
        self._settle()
        return self._one(f"{SELECT} WHERE txn_id=?", txn_id)

    def find_key(self, idempotency_key: str) -> Record | None:
        """See `Journal.find_key`."""
        return self._one(f"{SELECT} WHERE idempotency_key=?", idempotency_key)

    def find_order(self, order_id: str) -> Record | None:
        """See `Journal.find_order`."""
        return self._one(f"{SELECT} WHERE order_id=? AND kind='ORDER'", order_id)

    def _one(self, sql: str, value: str) -> Record | None:
        rows = self._query(sql, (value,))
        return from_row(rows[0]) if rows else None

    def select(
        self, *, states: Sequence[str] | None = None, since: float | None = None, limit: int = 1000
    ) -> list[Record]:
        """See `Journal.select`."""
        self._settle()
        terms, values = [], list[Any]()
        if states is not None:
            terms.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if since is not None:
            terms.append("updated >= ?")
            values.append(since)
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        return [from_row(row) for row in self._query(f"{SELECT}{where} ORDER BY txn_id DESC LIMIT ?", [*values, limit])]

    def fills(self, txn_id: str) -> list[Fill]:
        """See `Journal.fills`."""
        self._settle()
        return [from_fill_row(row) for row in self._query(SELECT_FILLS, (txn_id,))]

    def log(self, txn_id: str) -> list[tuple[float, int, str, int, str]]:
        """See `Journal.log`."""
        self._settle()
        rows = self._query(
            "SELECT wall, version, state, attempt, cause FROM txn_log WHERE txn_id=? ORDER BY seq", (txn_id,)
        )
        return [(wall, version, state, attempt, cause) for wall, version, state, attempt, cause in rows]

    def send_times(self, since: float) -> list[float]:
        """See `Journal.send_times`."""
        rows = self._query("SELECT wall FROM txn_log WHERE state='SUBMITTING' AND wall >= ?", (since,))
        return [row[0] for row in rows]

    def pending_events(self, after: int, limit: int) -> list[OutboxEvent]:
        """See `Journal.pending_events`."""
        return [from_event_row(row) for row in self._query(SELECT_EVENTS, (after, limit))]

    def event_backlog(self) -> tuple[int, float | None]:
        """See `Journal.event_backlog`."""
        count, first = self._query(EVENT_BACKLOG)[0]
        if not count:
            return 0, None
        created = self._query("SELECT created FROM event WHERE seq=?", (first,))
        return count, created[0][0] if created else None
