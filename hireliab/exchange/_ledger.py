"""
Ledger: the live transactions of one pipeline, and the only way to change a record.

A change is claimed on the transaction, written to the journal together with the event that tells of it, and settled on
the transaction, in this order and without any lock held while writing; an outbox publishes the event. Of two threads
that want to change the same version (the runner at its timeout, the resolver with its finding) exactly one claims it;
the other gets None and looks again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hireliab.core import _kill_points, money
from hireliab.core.clock import Clock
from hireliab.errors import ClosedError, JournalError, JournalPoisonedError
from hireliab.exchange._pipeline_stats import PipelineMetrics
from hireliab.exchange.adapter import Account, Order
from hireliab.exchange.journal import Journal
from hireliab.exchange.transaction import BY_ID, Proof, Record, State, Transaction
from hireliab.messaging.outbox import OutboxEvent

_log = logging.getLogger("hireliab.transactions")

_LEVELS = {
    "unknown": "error",
    "resurrected": "critical",
    "absent": "warning",
    "partial": "warning",
    "rejected": "warning",
    "closed_unfilled": "warning",
    "denied": "info",
}
"""Which events are alerts, and how loud."""
MOST_WORDS = 2000
"""Characters of a text of others that are kept and told: an exchange may answer with ten megabytes."""
DUPLICATE_WINDOW = 15.0
"""Seconds within which Nobitex refuses an equal order: 10 (nobitex-api.md 8.2), and 5 for the way."""
_ALERT_FACTS = ("transaction_id", "client_order_id", "order_id", "amount", "filled", "verdict", "candidates")
"""What a person needs to find the order; the title and the message say the rest."""
_EVENT = "log:"
"""How a dedup key begins whose trouble has no end; `monitoring.alert.EVENT_KEY`, which this package does not import."""


class AlertSink(Protocol):
    """What the ledger needs of an alert system."""

    def send_alert(
        self, *, source: str, level: str, title: str, message: str, context: Mapping[str, Any] | None
    ) -> object:
        """
        Hand over an alert without waiting.

        One that takes a `dedup_key`, too, is given one for each transaction: two of them are not one trouble.
        """


def prefix_of(account: Account, name: str) -> str:
    """The five characters that mark a pipeline's client order ids, so that a lost journal still finds its orders."""
    number = int.from_bytes(hashlib.sha256(f"{account}|{name}".encode()).digest()[:4], "big")
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return "".join(letters[(number >> shift) & 31] for shift in (20, 15, 10, 5, 0))


class Ledger:
    """
    Args:
        journal: Where the records go.
        clock: For the stamps of records.
        tells: Whether "transaction.*" and "order.*" events are written beside the records that they are about.
        alerts: Gets what a person should see, or None.
    """

    def __init__(self, *, journal: Journal, clock: Clock, tells: bool, alerts: AlertSink | None) -> None:
        self.journal = journal
        self.metrics = PipelineMetrics()
        self._clock = clock
        self._tells = tells
        self._alerts: tuple[tuple[AlertSink, bool], ...] = ()  # each with whether it takes a dedup key
        # Guards _live, _unknown, _acks, _sends and _on_decided, and the writing of _alerts. Re-entrant, because a signal
        # handler may ask the pipeline on the thread that has it.
        self._lock = threading.RLock()
        self._live: dict[str, Transaction] = {}
        self._unknown: dict[str, tuple[object, ...]] = {}  # fingerprints of those whose outcome is not known
        self._acks: list[tuple[float, str]] = []
        self._sends: deque[tuple[float, Order]] = deque()
        self._on_decided: Callable[[str], None] = lambda _txn_id: None
        if alerts is not None:
            self.add_alerts(alerts)

    def when_decided(self, hook: Callable[[str], None]) -> None:
        """Call the hook with the id of every transaction that becomes decided, or that only a person can decide."""
        with self._lock:
            self._on_decided = hook

    def settled(self, txn_id: str) -> None:
        """Nothing more can be found out about this one without a person: let go of whoever waits for it."""
        with self._lock:
            hook = self._on_decided
        hook(txn_id)

    def add(self, transaction: Transaction) -> None:
        """Take a transaction among the live ones."""
        with self._lock:
            self._live[transaction.id] = transaction
            self._mark_locked(transaction.record)

    def _mark_locked(self, record: Record) -> None:
        if record.state in (State.RESOLVING, State.UNKNOWN) and record.kind == "ORDER":
            self._unknown[record.txn_id] = fingerprint(record.order)
        else:
            self._unknown.pop(record.txn_id, None)

    def unknown_equals(self, order: Order, *, to_other_than: str) -> list[str]:
        """Ids of the other transactions that ask for the same and whose outcome is not known."""
        with self._lock:
            if not self._unknown:
                return []
            key = fingerprint(order)
            return [txn_id for txn_id, of in self._unknown.items() if of == key and txn_id != to_other_than]

    def find(self, txn_id: str) -> Transaction | None:
        """A live transaction by id."""
        with self._lock:
            return self._live.get(txn_id)

    def live(self) -> list[Transaction]:
        """Those not decided, or decided and still open at the venue."""
        with self._lock:
            return list(self._live.values())

    def undecided(self) -> list[Transaction]:
        """Those of which somebody still has to find out something."""
        return [t for t in self.live() if t.state is not State.NEW and not t.state.is_terminal]

    # -- changing a record ------------------------------------------------------------------------------------

    def move(
        self,
        transaction: Transaction,
        expected: Record,
        row: str,
        to: State,
        *,
        cause: str,
        barrier: bool = False,
        **changes: Any,
    ) -> Record | None:
        """
        Make a transition of the table.

        Args:
            transaction: Whose.
            expected: The record that the decision was made on.
            row: The table's row, such as "T11".
            to: The target state.
            cause: What led to it, for the journal's log.
            barrier: Wait for the disk even where the table does not ask for it.
            changes: Fields of the record that change with it.

        Returns:
            The new record, or None when the transaction had moved on.

        Raises:
            JournalPoisonedError: Before a send: the intent could not be made durable, so nothing may be sent. After
                a send the record is kept in memory instead and marked as not durable.
            JournalError: The journal refuses the record.
        """
        transition = BY_ID[row]
        cause = cause[:MOST_WORDS]
        if "reason" in changes:
            changes["reason"] = changes["reason"][:MOST_WORDS]
        sending = to in (State.SUBMITTING, State.CANCELLING)
        event = transition.event
        if event == "absent" and changes.get("proof") is Proof.REJECTED:
            event = "rejected"  # the venue said no, and the look-ups only confirm it: what people and bots hear is the verdict
        new = self._write(
            transaction,
            expected,
            lambda: expected.move(row, to, updated=self._clock.time(), **changes),
            cause=f"{row} {cause}",
            barrier=transition.barrier or barrier,
            must_be_durable=sending,
            topic=f"transaction.{event}" if event else "",
        )
        if new is None:
            return None
        if to.is_terminal:
            self.metrics.verdicts.add(new.verdict.value)
        if event:
            self.metrics.events.add(event)
            self._alert_of(event, new, cause)
        return new

    def note(
        self, transaction: Transaction, expected: Record, *, cause: str, topic: str = "", **changes: Any
    ) -> Record | None:
        """
        Write new facts without a transition; not a barrier, because losing them only costs look-ups.

        Args:
            topic: Of the event that tells of them, or none.
            transaction, expected, cause, changes: As `move`, and so is what it returns.
        """
        cause = cause[:MOST_WORDS]
        return self._write(
            transaction,
            expected,
            lambda: expected.note(updated=self._clock.time(), **changes),
            cause=cause,
            barrier=False,
            must_be_durable=False,
            topic=topic,
        )

    def _write(
        self,
        transaction: Transaction,
        expected: Record,
        make: Callable[[], Record],
        *,
        cause: str,
        barrier: bool,
        must_be_durable: bool,
        topic: str,
    ) -> Record | None:
        new: Record | None = None
        failure: JournalPoisonedError | None = None
        claim = object()
        try:
            if not transaction.claim(expected.version, claim):
                return None
            candidate = make()
            try:
                if topic and self._tells:
                    self.journal.write(candidate, cause=cause, barrier=barrier, event=event_of(topic, candidate))
                else:
                    self.journal.write(candidate, cause=cause, barrier=barrier)
            except JournalPoisonedError as error:
                if must_be_durable:
                    raise
                failure = error
            except Exception:
                raise
            except BaseException:
                new = candidate  # Ctrl-C while it waits for the disk: it is queued, and will be there
                raise
            if _kill_points.ARMED and barrier and candidate.state.is_terminal:
                _kill_points.at("L15")
            new = candidate
        finally:
            if transaction.is_claimed_by(claim):  # asked, because Ctrl-C may strike just after the claim
                transaction.settle(new, cause=cause, durable=failure is None)
                if new is not None:
                    self._after(transaction, new)
        if failure is not None:
            self.alert("critical", "Journal cannot be written", str(failure), new)
        return new

    def _after(self, transaction: Transaction, new: Record) -> None:
        """What follows from a new version, whether or not its writer was interrupted."""
        with self._lock:
            # Not `new`: since it was settled another thread may have made the next one.
            record = transaction.record
            self._mark_locked(record)
            if record.is_finished:
                self._live.pop(transaction.id, None)
        if new.state.is_terminal:
            self.settled(transaction.id)

    # -- watermark and canary ---------------------------------------------------------------------------------

    def note_order_id(self, order_id: str) -> None:
        """An own order with this venue id was read: later orders are newer, and listings must show it."""
        self.note_watermark(order_id)
        now = self._clock.monotonic()
        with self._lock:
            if not self._acks or int(order_id) > int(self._acks[-1][1]):
                self._acks.append((now, order_id))
                del self._acks[:-1000]

    def note_watermark(self, order_id: str) -> None:
        """Keep the newest own venue order id; an old one only lengthens listings, so a failure is only logged."""
        try:
            self.journal.note_watermark(order_id)
        except (JournalError, ClosedError) as error:
            _log.warning("watermark %s was not kept: %s", order_id, error)

    def note_send(self, order: Order, *, age: float = 0.0) -> None:
        """An order was sent `age` seconds ago: an equal one within the venue's duplicate window is refused for it."""
        now = self._clock.monotonic() - age
        with self._lock:
            self._sends.append((now, order))
            while self._sends and self._sends[0][0] < now - DUPLICATE_WINDOW:
                self._sends.popleft()

    def forget_send(self, order: Order) -> None:
        """It was proven not to have left: it explains nothing."""
        with self._lock:
            self._sends = deque(sent for sent in self._sends if sent[1].client_order_id != order.client_order_id)

    def explains_duplicate(self, order: Order) -> bool:
        """Whether we sent an equal order, of another transaction, so recently that the venue takes this for it."""
        since = self._clock.monotonic() - DUPLICATE_WINDOW
        blank = dataclasses.replace(order, client_order_id="")
        with self._lock:
            sends = list(self._sends)
        return any(
            at >= since
            and sent.client_order_id != order.client_order_id
            and dataclasses.replace(sent, client_order_id="", price=blank.price) == blank
            for at, sent in sends
        )

    def canary(self, before: float) -> str | None:
        """The newest own venue order id that was known at this monotonic second, if any."""
        with self._lock:
            for at, order_id in reversed(self._acks):
                if at <= before:
                    return order_id
        return None

    def is_bound(self, order_id: str, *, to_other_than: str) -> bool:
        """Whether a venue order belongs to another transaction of ours."""
        for transaction in self.live():
            record = transaction.record
            if record.order_id == order_id and record.kind == "ORDER":
                return record.txn_id != to_other_than
        known = self.journal.find_order(order_id)
        return known is not None and known.txn_id != to_other_than

    # -- telling ----------------------------------------------------------------------------------------------

    def _alert_of(self, event: str, record: Record, cause: str) -> None:
        """Alert where an event is one, or where it ends one. Never raises into the trading path."""
        level = _LEVELS.get(event)
        if level is not None:
            # Of a call not all of them are known: no blanks instead.
            words = " ".join(filter(None, (record.order.type, record.order.side, record.order.symbol))) or "call"
            title = f"{words}: {event.replace('_', ' ')}"
            self.alert(level, title, f"transaction {record.txn_id}: {cause or event}", record)
        if record.state.is_terminal:
            for sink, _ in self._alerts:
                self._tell_decided(sink, record)

    def _tell_decided(self, sink: AlertSink, record: Record) -> None:
        """Tell an alert sink that wants to know that nothing about a transaction is unknown any more."""
        hook = getattr(sink, "decided", None)
        if hook is None:
            return
        try:
            hook(record.txn_id, record.verdict.value)
        except (Exception, SystemExit) as error:
            _log.warning("the end of %s was not taken by the alerts: %s", record.txn_id, error)

    def add_alerts(self, sink: AlertSink) -> None:
        """Tell this sink, too, from now on; its ``decided(id, verdict)``, if it has one, hears of every end."""
        entry = (sink, _takes_a_key(sink))
        with self._lock:
            self._alerts = (*self._alerts, entry)

    def alert(self, level: str, title: str, message: str, record: Record | None = None) -> None:
        """Tell a person. Never raises into the trading path."""
        message = message[:MOST_WORDS]
        _log.log({"critical": 50, "error": 40, "warning": 30}.get(level, 20), "%s: %s", title, message)
        if not self._alerts:
            return
        context = None
        if record is not None:
            known = facts(record)
            context = {name: known[name] for name in _ALERT_FACTS}
        for sink, takes_a_key in self._alerts:
            try:
                key = {"dedup_key": _key(title, record)} if takes_a_key and record is not None else {}
                sink.send_alert(source="execution", level=level, title=title, message=message, context=context, **key)
            except (Exception, SystemExit) as error:
                _log.warning("alert %r was not taken: %s", title, error)


def _takes_a_key(sink: AlertSink) -> bool:
    """Whether its `send_alert` takes a dedup key; one whose signature cannot be read is not given any."""
    try:
        parameters = inspect.signature(sink.send_alert).parameters.values()
    except Exception:  # somebody's own object
        return False
    return any(
        one.kind is one.VAR_KEYWORD or (one.name == "dedup_key" and one.kind is not one.POSITIONAL_ONLY)
        for one in parameters
    )


def _key(title: str, record: Record) -> str:
    """Of one trouble of one transaction. It begins as events do, which are not repeated until somebody resolves them."""
    return f"{_EVENT}{record.txn_id}:{title}"


def fingerprint(order: Order) -> tuple[object, ...]:
    """What makes two orders equal; the price of a market order is only expected."""
    price = None if order.type in ("market", "stop_market") else order.price
    return (order.symbol, order.side, order.type, order.amount, price, order.stop_price)


def event_id(record: Record) -> str:
    """Of what is told about this version of a record: a version is written once, and tells one event at most."""
    return f"{record.txn_id}:{record.version}"


def event_of(topic: str, record: Record) -> OutboxEvent:
    """What the world is told about this version."""
    body = json.dumps(facts(record), ensure_ascii=False, separators=(",", ":"))
    if not body.isascii():
        body = body.encode("utf-8", "replace").decode("utf-8")  # a text of others may hold lone surrogates
    return OutboxEvent(event_id=event_id(record), key=record.txn_id, topic=topic, body=body, created=record.updated)


def facts(record: Record) -> dict[str, Any]:
    """A record as events and alerts show it: money as text, nothing secret."""
    order = record.order
    return {
        "event_id": event_id(record),
        "time": record.updated,
        "transaction_id": record.txn_id,
        "kind": record.kind,
        "parent_id": record.parent_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "amount": money.text(order.amount),
        "price": None if order.price is None else money.text(order.price),
        "client_order_id": order.client_order_id,
        "order_id": record.order_id,
        "order_status": record.order_status,
        "state": record.state.value,
        "verdict": record.verdict.value,
        "proof": record.proof.value,
        "reason": record.reason,
        "filled": money.text(record.filled),
        "fee": money.text(record.fee),
        "candidates": list(record.candidates),
    }
