"""
Deliberately broken pipelines, for the worker process only: each must be caught by the checker.

Each is a real bug of a real bot, made by replacing a function of the library after the fork.
"""

import dataclasses
import random
import time


@dataclasses.dataclass(frozen=True)
class Setting:
    """
    What a mutant, or the unbroken library beside it, is exposed to.

    Attributes:
        kind: Of violation that must be among the checker's; "" for the unbroken library, which must pass.
        weather: Of campaign.faults; None for the storm's own.
        mode: How every life ends; None for any.
        lives: Seconds of a life, from and to.
        pipeline: Settings of the pipeline that differ.
        twins: Whether every order is asked for twice, under keys of their own.
        halted: Whether every life is halted half-way.
    """

    kind: str
    weather: str | None = None
    mode: str | None = None
    lives: tuple[float, float] = (0.3, 1.2)
    profile: str = "default"
    pipeline: dict = dataclasses.field(default_factory=dict)
    twins: bool = False
    halted: bool = False


_BLIND = {"weather": "blind", "mode": "random", "lives": (1.8, 2.6)}  # a false proof of absence takes its time, too
# Requests arrive up to 1.2 s late here, so the fence must be further away than elsewhere.
_LATE = {"weather": "late", "mode": "random", "lives": (1.8, 2.6), "pipeline": {"late_arrival_bound": 2.2}}
_TWINS = {
    "weather": "half lost",
    "mode": "random",
    "lives": (1.8, 2.6),
    "profile": "null-client-ids",
    "pipeline": {"duplicate_guard": False},
    "twins": True,
}
_TOLD = {"weather": "calm", "mode": "random"}

MUTANTS = {
    "no_barrier": Setting("I1", mode="received"),
    "cancel_not_journaled": Setting("I1", weather="calm", mode="random"),
    "resend_on_timeout": Setting("I2", weather="lost"),
    "recovery_resends": Setting("I2", weather="calm", mode="received"),
    "not_found_is_absent": Setting("I3", weather="lost"),
    "network_error_is_absent": Setting("I3", **_BLIND),
    "rejected_on_any_error": Setting("I3", weather="lost"),
    "fence_ignored": Setting("I3", **_LATE),
    "ack_trusted": Setting("I4", weather="wrong"),
    "likeness_binds": Setting("I3", **_TWINS),
    "no_claim": Setting("I9", mode="received"),
    "throttled_comes_again": Setting("I10", weather="throttled"),
    "halt_ignored": Setting("HALT", weather="calm", mode="random", lives=(1.8, 2.2), halted=True),
    "marked_before_published": Setting("I6", **_TOLD),
    "event_beside_the_commit": Setting("I6", **_TOLD),
    "told_before_the_commit": Setting("I6", **_TOLD),
    "never_sends": Setting("LIVENESS"),
    "always_unknown": Setting("LIVENESS"),
}
# The unbroken library where the broken ones fail.
CONTROLS = {
    "none_blind": Setting("", **_BLIND),
    "none_lost": Setting("", weather="lost"),
    "none_late": Setting("", **_LATE),
    "none_wrong": Setting("", weather="wrong"),
    "none_twins": Setting("", **_TWINS),
    "none_throttled": Setting("", weather="throttled"),
    "none_told": Setting("", **_TOLD),
    "none_halted": Setting("", weather="calm", mode="random", lives=(1.8, 2.2), halted=True),
}
SETTINGS = {**MUTANTS, **CONTROLS}


def apply(name):
    """Break the library in this process."""
    if name not in CONTROLS:
        globals()["_" + name]()


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

    def careless(self, record, *, cause, barrier, event=None):
        write(self, record, cause=cause, barrier=barrier and record.state is not State.SUBMITTING, event=event)

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


def _cancel_not_journaled():
    """A cancel is sent without a word in the journal before it."""
    from hireliab.exchange.sqlite_journal import SQLiteJournal
    from hireliab.exchange.transaction import State

    write = SQLiteJournal.write

    def forgetful(self, record, *, cause, barrier, event=None):
        if record.state is not State.CANCELLING:
            write(self, record, cause=cause, barrier=barrier, event=event)

    SQLiteJournal.write = forgetful


def _recovery_resends():
    """A start sends again what it finds as being sent."""
    from hireliab.exchange import transaction_verification as pipeline
    from hireliab.exchange.transaction import State

    recover = pipeline.recover

    def eager(*, records, resolver, **rest):
        for record in records:
            if record.state is State.SUBMITTING and record.kind == "ORDER":
                try:
                    resolver._adapter.prepare(record.order).submit(lambda: None)
                except Exception as error:
                    print(f"recovery_resends: {error!r}")
        return recover(records=records, resolver=resolver, **rest)

    pipeline.recover = eager


def _rejected_on_any_error():
    """Whatever goes wrong with a send is read as the exchange's no."""
    from hireliab.errors import OrderRejectedError, OutcomeUnknownError
    from hireliab.exchange._nobitex_prepared import NobitexPreparedOrder

    submit = NobitexPreparedOrder.submit

    def sure(self, before_send):
        try:
            return submit(self, before_send)
        except OutcomeUnknownError as error:
            raise OrderRejectedError(str(error)) from error

    NobitexPreparedOrder.submit = sure


def _fence_ignored():
    """Absence is proven although a request may still be on its way."""
    from hireliab.exchange import evidence

    make = evidence.AbsenceProof.__init__

    def at_once(self, *, fence, window):
        make(self, fence=float("-inf"), window=window)

    evidence.AbsenceProof.__init__ = at_once


def _ack_trusted():
    """The id in an answer is taken for ours, whatever else the answer and later reads say."""
    from hireliab.exchange import _nobitex_prepared as prepared
    from hireliab.exchange import evidence

    prepared.check_echo = lambda order, state: None
    submit = prepared.NobitexPreparedOrder.submit

    def trusting(self, before_send):
        return dataclasses.replace(submit(self, before_send), client_order_id=None)

    prepared.NobitexPreparedOrder.submit = trusting
    evidence.has_fields_of = lambda wanted, order: True
    evidence.is_newer = lambda order_id, than: True
    evidence.is_anothers = lambda record, order: False
    evidence.speaks_of = lambda record, order: order.order_id == record.order_id


def _likeness_binds():
    """An order that looks like ours is taken for ours."""
    from hireliab.exchange import _resolver, evidence

    search = evidence.search

    def hopeful(record, orders, fills, *, is_bound):
        finding = search(record, orders, fills, is_bound=is_bound)
        if finding.candidates and not finding.ours:
            mine = dataclasses.replace(finding.candidates[0], client_order_id=record.order.client_order_id)
            return evidence.Finding((mine,), (), ())
        return finding

    _resolver.evidence.search = hopeful


def _no_claim():
    """A start goes on with the rows of a dead process without taking them over."""
    from hireliab.exchange import _recovery

    _recovery._claimed = lambda record, owner, clock: record

    class Silent:
        """The journal, without the claims' write."""

        def __init__(self, journal):
            self._journal = journal

        def __getattr__(self, name):
            return getattr(self._journal, name)

        def write_many(self, records, *, barrier):
            pass

    recover = _recovery.recover
    from hireliab.exchange import transaction_verification as pipeline

    def careless(*, ledger, **rest):
        journal, ledger.journal = ledger.journal, Silent(ledger.journal)
        try:
            return recover(ledger=ledger, **rest)
        finally:
            ledger.journal = journal

    pipeline.recover = careless


def _throttled_comes_again():
    """Who is told to come again later comes again at once."""
    from hireliab.exchange._runner import Runner

    Runner._sleep = lambda self, seconds: True


def _halt_ignored():
    """The file HALT is not looked at."""
    from hireliab.exchange._pretrade import PreTrade

    PreTrade.check_halt = lambda self, order: None


def _marked_before_published():
    """An event is marked, and then published."""
    from hireliab.messaging.outbox import Outbox

    publish = Outbox._publish

    def hasty(self, event, now):
        self._mark_published([event.seq])
        time.sleep(0.06)  # the mark is on disk
        publish(self, event, now)

    Outbox._publish = hasty


def _event_beside_the_commit():
    """An event has a commit of its own, after the one of its record."""
    from hireliab.exchange._journal_rows import INSERT_EVENT, to_event_row
    from hireliab.exchange.sqlite_journal import SQLiteJournal

    write = SQLiteJournal.write

    def apart(self, record, *, cause, barrier, event=None):
        write(self, record, cause=cause, barrier=barrier)
        if event is not None:
            time.sleep(0.02)
            self._db.post(
                lambda db: db.execute(INSERT_EVENT, to_event_row(event)) and None, what="event", then=self._wake
            )

    SQLiteJournal.write = apart


def _told_before_the_commit():
    """An event is published as soon as something happens, and written down with it afterwards."""
    from hireliab.exchange.sqlite_journal import SQLiteJournal
    from hireliab.messaging.outbox import Outbox

    make, write, made = Outbox.__init__, SQLiteJournal.write, []

    def known(self, *arguments, **more):
        made.append(self)
        make(self, *arguments, **more)

    def early(self, record, *, cause, barrier, event=None):
        if event is not None:
            made[-1]._hand_over(event)
            time.sleep(0.02)
        write(self, record, cause=cause, barrier=barrier, event=event)

    Outbox.__init__, SQLiteJournal.write = known, early
