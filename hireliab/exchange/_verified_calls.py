"""CallBook: the look-ups of the user's own functions, for rows of kind CALL."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hireliab.core import config
from hireliab.errors import ConfigError, MalformedResponseError, NotSentError
from hireliab.exchange._verified_values import (
    Parameters,
    client_id_of,
    from_text,
    order_state,
    orders_in,
    to_text,
    words_of,
)
from hireliab.exchange.adapter import Absent, Found, OrderRead, Unavailable
from hireliab.exchange.journal import Journal
from hireliab.exchange.transaction import Record, Transaction

_log = logging.getLogger("hireliab.transactions")

FACT = "call "
"""Which function a row of kind CALL belongs to, and its arguments, is a fact of the journal: this and the row's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finder:
    """
    A user's look-up.

    Attributes:
        find: Called with those of the call's values that it takes by name.
        parameters: Of `find`.
        finds_closed: Whether it sees closed orders, too, so that a "no" of it counts.
        keep: Whether the arguments of decided calls are kept as well, for a later cancel.
        alert: Tells a person: level, title, message, record.
    """

    find: Callable[..., Any]
    parameters: Parameters
    finds_closed: bool
    keep: bool
    alert: Callable[[str, str, str, Record], None]


class CallBook:
    """
    Look-ups by the name of the function that they belong to. Any thread may call any method.

    Rows of this process are looked up with the very arguments of the call; those of an earlier one with what the
    journal kept of them.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        # Guards everything below; re-entrant: a signal handler may ask on the thread that has it.
        self._lock = threading.RLock()
        self._finders: dict[str, Finder] = {}
        self._live: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._handed: list[Transaction] = []
        self._told: set[str] = set()
        self._failing: dict[str, str] = {}  # how the last look-up of a call failed
        self._swept = False

    def register(self, name: str, finder: Finder) -> None:
        """Look up the calls of the function with this name so; the last one counts."""
        with self._lock:
            self._finders[name] = finder

    def begin(self, txn_id: str, name: str, arguments: Mapping[str, Any]) -> None:
        """Keep what a call is about to do; on disk with the next barrier."""
        self._sweep()
        self._journal.note_fact(f"{FACT}{txn_id}", to_text(name, arguments))
        with self._lock:
            self._live[txn_id] = (name, arguments)

    def hand_over(self, transaction: Transaction) -> None:
        """The resolver has it now; its arguments are dropped some time after it is decided."""
        with self._lock:
            self._handed.append(transaction)

    def end(self, txn_id: str) -> None:
        """The call is decided."""
        with self._lock:
            self._failing.pop(txn_id, None)
            name, _ = self._live.pop(txn_id, ("", {}))
            finder = self._finders.get(name)
        if finder is None or not finder.keep:
            self._journal.note_fact(f"{FACT}{txn_id}", None)

    def _sweep(self) -> None:
        with self._lock:
            decided = [transaction.id for transaction in self._handed if transaction.state.is_terminal]
            self._handed = [transaction for transaction in self._handed if not transaction.state.is_terminal]
            first, self._swept = not self._swept, True
        for txn_id in decided:
            self.end(txn_id)
        for fact, text in self._journal.facts(FACT).items() if first else ():
            record = self._journal.get(fact.removeprefix(FACT))
            with self._lock:
                finder = self._finders.get(from_text(text)[0])
            if record is None or (record.state.is_terminal and finder is not None and not finder.keep):
                self._journal.note_fact(fact, None)

    def call_of(self, txn_id: str) -> tuple[str, Mapping[str, Any]]:
        """The function's name and the arguments of a call, as far as they are known; "" for an unknown function."""
        with self._lock:
            live = self._live.get(txn_id)
        if live is not None:
            return live
        text = self._journal.fact(f"{FACT}{txn_id}")
        return ("", {}) if text is None else from_text(text)

    def _finder(
        self, record: Record, call: tuple[str, Mapping[str, Any]] | None = None
    ) -> tuple[Finder | None, dict[str, Any]]:
        """
        The look-up of a row, and what it would be called with; None where it cannot be called.

        The row of a cancel has no fact, so no look-up is known for it: what an order that is found means for it is not
        for the resolver to say.
        """
        name, arguments = self.call_of(record.txn_id) if call is None else call
        with self._lock:
            finder = self._finders.get(name)
        if finder is None:
            return None, {}
        known = values_of(record, arguments)
        return (None if finder.parameters.required - known.keys() else finder), known

    def knows(self, record: Record) -> bool:
        """Whether there is a look-up that can be called."""
        return self._finder(record)[0] is not None

    def complete(self, record: Record) -> bool:
        """Whether the look-up sees closed orders, too, so that its "no" counts; without an id it never does."""
        finder = self._finder(record)[0]
        return finder is not None and finder.finds_closed and record.order.client_order_id != ""

    def look(self, record: Record) -> OrderRead:
        """Ask the look-up of the record's function; for the resolver."""
        return self.ask(record)[0]

    def ask(self, record: Record, call: tuple[str, Mapping[str, Any]] | None = None) -> tuple[OrderRead, Any]:
        """
        Ask the look-up of the record's function.

        Args:
            call: The function's name and the call's arguments, where the caller knows them better than the journal.

        Returns:
            What it means, and the order as the look-up returned it: the very value, or the first of a list that is ours.
        """
        finder, known = self._finder(record, call)
        if finder is None:
            error = NotSentError(f"transaction {record.txn_id}: no look-up is known for its function")
            return Unavailable(error), None
        try:
            value = finder.find(**finder.parameters.pick(known))
            shown = orders_in(value)
        except Exception as error:  # the user's function may raise anything; none of it is a "no"
            self._log_failure(record.txn_id, words_of(error))
            return Unavailable(error), None
        with self._lock:
            self._failing.pop(record.txn_id, None)
        if not shown:
            return Absent("the function's look-up"), None
        ours = record.order.client_order_id
        mine = [order for order in shown if not ours or client_id_of(order) in (None, ours)]
        if not mine:
            return Unavailable(MalformedResponseError("look-up: shows another order than was asked for")), None
        if len(mine) > 1:
            self._tell_duplicate(finder, record, [order_state(order, record.order).order_id or "?" for order in mine])
        return Found(order_state(mine[0], record.order)), mine[0]

    def failure(self, txn_id: str) -> str | None:
        """How the last look-up of a call failed, or None where it worked."""
        with self._lock:
            return self._failing.get(txn_id)

    def _log_failure(self, txn_id: str, words: str) -> None:
        """A warning, but not again for each look at an exchange that is down."""
        with self._lock:
            again = self._failing.get(txn_id) == words
            self._failing[txn_id] = words
        level = logging.DEBUG if again else logging.WARNING
        _log.log(level, "transaction %s: its look-up failed: %s", txn_id, words)

    def _tell_duplicate(self, finder: Finder, record: Record, order_ids: list[str]) -> None:
        with self._lock:
            if record.txn_id in self._told:
                return
            self._told.add(record.txn_id)
        finder.alert(
            "critical",
            f"{record.order.type} {record.order.side} {record.order.symbol}: one call, {len(order_ids)} orders",
            f"transaction {record.txn_id}: the look-up shows the venue orders {', '.join(order_ids)} for one call: the"
            " function or something below it sends again by itself; look at the exchange, and switch those retries off",
            record,
        )


def values_of(record: Record, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a look-up or cancel may ask for by name: the call's arguments, and the order's ids where they are known."""
    known: dict[str, Any] = {}
    if record.order.client_order_id:
        known["client_order_id"] = record.order.client_order_id
    order_id = record.order_id or next(iter(record.candidates), None)
    if order_id:
        known["order_id"] = order_id
    return {**known, **arguments}


def check_finder(find: Callable[..., Any], names: frozenset[str], *, takes_all: bool, what: str) -> Parameters:
    """
    The parameters of a look-up or cancel, all of which the call must be able to give.

    Raises:
        ConfigError: It asks for something that the decorated function does not have.
    """
    config.blocking_function(what, find)
    parameters = Parameters(what, find)
    missing = sorted(parameters.required - names)
    if missing and not takes_all:
        raise ConfigError(
            f"{what}: takes {', '.join(missing)}, which the decorated function does not have; it may take"
            f" {', '.join(sorted(names))}",
            setting=what,
            allowed=", ".join(sorted(names)),
        )
    return parameters
