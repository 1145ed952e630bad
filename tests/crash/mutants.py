"""
Deliberately broken pipelines, for the worker process only: each must be caught by the checker.

Each is a real bug of a real bot, made by replacing a function of the library after the fork.
"""

import dataclasses
import random
import time

# name -> kind of violation that must be among the checker's
EXPECTED = {
    "no_barrier": "I1",
    "resend_on_timeout": "I2",
    "not_found_is_absent": "I3",
    "never_sends": "LIVENESS",
    "always_unknown": "LIVENESS",
    "network_error_is_absent": "I3",
}


def apply(name):
    """Break the library in this process."""
    globals()["_" + name]()


def _none_lost():
    """The unbroken library: it must pass where the mutants fail."""


_none_blind = _none_lost


def slow_disk(most):
    """Not a mutant: commits take up to this many seconds longer, as on a disk that is busy."""
    from hireliab.core._sqlite import SQLiteFile

    commit, rng = SQLiteFile._commit, random.Random()

    def slow(self, connection, batch):
        time.sleep(rng.uniform(0, most))
        commit(self, connection, batch)

    SQLiteFile._commit = slow


def _no_barrier():
    """The intent is written, but the send does not wait for it."""
    from hireliab.exchange.sqlite_journal import SQLiteJournal
    from hireliab.exchange.transaction import State

    write = SQLiteJournal.write

    def careless(self, record, *, cause, barrier):
        write(self, record, cause=cause, barrier=barrier and record.state is not State.SUBMITTING)

    SQLiteJournal.write = careless


def _resend_on_timeout():
    """An answer that never came is read as "not sent", so the runner sends again."""
    from hireliab.errors import ConnectError, OutcomeUnknownError
    from hireliab.exchange._nobitex_prepared import NobitexPreparedOrder

    submit = NobitexPreparedOrder.submit

    def again(self, before_send):
        try:
            return submit(self, before_send)
        except OutcomeUnknownError as error:
            raise ConnectError(str(error)) from error

    NobitexPreparedOrder.submit = again


def _not_found_is_absent():
    """404 by client order id is taken for proof that there is no order; the venue finds open orders only."""
    from hireliab.exchange._resolver import Resolver
    from hireliab.exchange.adapter import Absent
    from hireliab.exchange.transaction import Proof, State

    look = Resolver._look

    def hasty(self, case):
        record = case.transaction.record
        if record.kind == "ORDER" and record.order_id is None and record.state in (State.RESOLVING, State.UNKNOWN):
            read = self._adapter.find_by_client_id(record.order.client_order_id)
            if isinstance(read, Absent):
                row = "T14" if record.state is State.RESOLVING else "T17"
                self._ledger.move(case.transaction, record, row, State.FAILED, cause="404", proof=Proof.FENCED)
        look(self, case)

    Resolver._look = hasty


def _never_sends():
    """Every order is said to have failed before the first byte: safe, and useless."""
    from hireliab.errors import ConnectError
    from hireliab.exchange._nobitex_prepared import NobitexPreparedOrder

    def not_today(self, before_send):
        self.abandon()
        raise ConnectError("not sent")

    NobitexPreparedOrder.submit = not_today


def _always_unknown():
    """Every outcome is called unknown: safe, and useless."""
    from hireliab.exchange.transaction import Transaction, Verdict

    result = Transaction.result

    def shrug(self):
        return dataclasses.replace(result(self), verdict=Verdict.UNKNOWN)

    Transaction.result = shrug


def _network_error_is_absent():
    """A read that failed counts as one that shows nothing."""
    from hireliab.exchange.adapter import Absent, FillListing, OrderListing, Unavailable
    from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter as Adapter

    find, orders, fills = Adapter._find, Adapter.list_orders_since, Adapter.list_fills_since

    def no_order(self, source, **one_id):
        read = find(self, source, **one_id)
        return Absent(source) if isinstance(read, Unavailable) else read

    def no_orders(self, order_id):
        started = self._clock.monotonic()
        read = orders(self, order_id)
        return OrderListing(orders=(), since=order_id, started=started) if isinstance(read, Unavailable) else read

    def no_fills(self, since):
        started = self._clock.monotonic()
        read = fills(self, since)
        return FillListing(fills=(), since=since, started=started) if isinstance(read, Unavailable) else read

    Adapter._find, Adapter.list_orders_since, Adapter.list_fills_since = no_order, no_orders, no_fills
