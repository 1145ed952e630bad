"""
What a transaction is: its record, its result, and the caller's hold on it.

The states and the table of transitions are in _transaction_states.py and are public under this module's name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hireliab.core import money
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import OutcomeUnknownError, PartialFillError, TransactionDeniedError
from hireliab.exchange._transaction_states import (
    BY_ID,
    FAILED_VERDICTS,
    PHASES,
    TRANSITIONS,
    Phase,
    Proof,
    State,
    Status,
    Transition,
    Verdict,
)
from hireliab.exchange.adapter import Fill, Order, OrderState, OrderStatus

__all__ = [
    "BY_ID",
    "COMMIT_RULES",
    "NOTHING_SEEN",
    "PARTIAL_RULES",
    "PHASES",
    "TRANSITIONS",
    "Phase",
    "Proof",
    "Record",
    "State",
    "Status",
    "Transaction",
    "TransactionResult",
    "Transition",
    "Verdict",
    "new_id",
    "payload_hash",
    "seen",
]

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
COMMIT_RULES = ("accepted", "filled", "filled_or_cancel")
PARTIAL_RULES = ("raise", "accept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    One row of the journal: everything that recovery needs. Money is Decimal here and plain text on disk.

    Attributes:
        kind: "ORDER", "CANCEL" for a child that cancels the parent's order, or "CALL" for a call of the user's own
            function (@verified_transaction).
        goal: "COMMIT", or "ROLLBACK" once a durable intent to cancel the order was written; kept while unknown.
        timeout: Seconds after the send until the commit rule gives up and cancels, or None.
        deadline: The same as Unix seconds of the venue's clock, fixed before the send.
        owner: Which pipeline instance wrote it; epoch counts the claims by recovering ones.
        attempt: How many sends were intended.
        sent_wall: Unix seconds (ours) of the last barrier before a send, or None.
        baseline: The newest own venue order id known before the send: ours is newer.
        baseline_time: Unix seconds of the venue's clock before the send.
        order_id: The venue's id, once known.
        order_status: The venue's word for the order, as last read.
        watch_until: Unix seconds until which an ABSENT verdict is checked again, or None.
    """

    txn_id: str
    order: Order
    state: State = State.NEW
    kind: str = "ORDER"
    parent_id: str | None = None
    payload_hash: str = ""
    idempotency_key: str | None = None
    commit: str = "accepted"
    on_partial: str = "raise"
    goal: str = "COMMIT"
    timeout: float | None = None
    deadline: float | None = None
    owner: str = ""
    epoch: int = 1
    proof: Proof = Proof.NONE
    reason: str = ""
    version: int = 0
    attempt: int = 0
    sent_wall: float | None = None
    baseline: str = "0"
    baseline_time: float = 0.0
    order_id: str | None = None
    order_status: str = ""
    filled: Decimal = money.ZERO
    average_price: Decimal | None = None
    fee: Decimal = money.ZERO
    candidates: tuple[str, ...] = ()
    needs_human: bool = False
    watch_until: float | None = None
    created: float = 0.0
    updated: float = 0.0

    def move(self, row: str, to: State, **changes: Any) -> Record:
        """The next version of this record; a pair that is not in the table is a bug."""
        transition = BY_ID[row]
        if self.state not in transition.sources or to not in transition.targets:
            raise AssertionError(f"bug: {row} does not lead from {self.state.value} to {to.value} ({self.txn_id})")
        return dataclasses.replace(self, state=to, version=self.version + 1, **changes)

    def note(self, **changes: Any) -> Record:
        """The next version in the same state, with new facts."""
        return dataclasses.replace(self, version=self.version + 1, **changes)

    @property
    def remaining(self) -> Decimal:
        """The amount that is not filled."""
        return money.subtract(self.order.amount, self.filled)

    @property
    def is_rollback(self) -> bool:
        """Whether it aims at having the order closed."""
        return self.kind == "CANCEL" or self.goal == "ROLLBACK"

    @property
    def is_open_at_venue(self) -> bool:
        """A decided order that still rests in the book, so that its fills must be followed."""
        return (
            self.kind == "ORDER"
            and self.state is State.COMPLETED
            and self.order_status in (OrderStatus.ACTIVE.value, OrderStatus.INACTIVE.value)
        )

    @property
    def is_finished(self) -> bool:
        """Decided, with nothing left to follow or to watch."""
        return self.state.is_terminal and not self.is_open_at_venue and self.watch_until is None

    @property
    def verdict(self) -> Verdict:
        """What a caller is told when asked now."""
        if self.state is State.COMPLETED:
            by_word = self.proof is Proof.OPERATOR and money.ZERO < self.filled < self.order.amount
            return Verdict.PARTIAL if self.proof is Proof.PARTIAL or by_word else Verdict.COMPLETED
        if self.state is State.FAILED:
            return FAILED_VERDICTS[self.proof]
        if self.state is State.ROLLED_BACK:
            return Verdict.CANCELLED
        return Verdict.UNKNOWN


def seen(order: OrderState) -> dict[str, Any]:
    """The record's fields that a read of the order fills."""
    return {
        "order_id": order.order_id,
        # The venue's own word only where it has no meaning here: what follows a resting order looks at this.
        "order_status": order.raw_status if order.status is OrderStatus.OTHER else order.status.value,
        "filled": order.filled,
        "average_price": order.average_price,
        "fee": order.fee,
    }


NOTHING_SEEN: dict[str, Any] = {
    "order_id": None,
    "order_status": "",
    "filled": money.ZERO,
    "average_price": None,
    "fee": money.ZERO,
}
"""The same fields before any read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionResult:
    """
    What became of a transaction. `bool(result)` follows the table in ARCHITECTURE.md section 3 and raises what
    `execute_transaction` raises.

    Attributes:
        filled: Executed so far, base currency, as of the verdict's read.
        remaining: The rest of the amount.
        fee: As the venue charges it (Nobitex: a buy in base, a sell in quote).
        fills: Those in the journal, where `pipeline.fills(id)` puts them; `filled` and `fee` do not need them.
        proof: What the verdict rests on.
        timeline: (Unix seconds, state, cause) of every step of this process.
        durable: False when the journal failed to keep the verdict; a restart finds it again.
        error: The last error on the way, also where it ended well, or None.
    """

    transaction_id: str
    verdict: Verdict
    proof: Proof
    reason: str
    order_id: str | None
    client_order_id: str
    filled: Decimal
    remaining: Decimal
    average_price: Decimal | None
    fee: Decimal
    order_status: str
    attempts: int
    kind: str = "ORDER"
    on_partial: str = "raise"
    fills: tuple[Fill, ...] = ()
    candidates: tuple[str, ...] = ()
    timeline: tuple[tuple[float, str, str], ...] = ()
    durable: bool = True
    error: Exception | None = None

    def __bool__(self) -> bool:
        verdict = self.verdict
        if self.kind == "CANCEL" and verdict in (Verdict.CANCELLED, Verdict.PARTIAL):
            return True  # the goal of a cancel: the order is closed, and not because it was filled
        if verdict is Verdict.COMPLETED:
            return self.kind != "CANCEL"
        if verdict is Verdict.PARTIAL:
            if self.on_partial == "accept":
                return True
            raise PartialFillError(
                f"transaction {self.transaction_id}: the venue closed order {self.order_id} with {money.text(self.filled)}"
                f" filled and {money.text(self.remaining)} not; read .result, or pass on_partial='accept'",
                result=self,
                filled=self.filled,
                remaining=self.remaining,
            )
        if verdict is Verdict.DENIED:
            raise self.error or TransactionDeniedError(
                f"transaction {self.transaction_id}: denied before sending ({self.reason}); nothing was sent",
                reason=self.reason,
                transaction_id=self.transaction_id,
            )
        if verdict is Verdict.UNKNOWN or verdict is Verdict.ABSENT:
            raise self._unknown()
        return False

    def _unknown(self) -> OutcomeUnknownError:
        presumed = self.verdict is Verdict.ABSENT
        what = (
            "no look-up shows it, but the venue gives no proof; it is watched for 24 h"
            if presumed
            else f"it may be live at the venue ({self.reason or 'not decided yet'}); it is looked for in the background"
        )
        return OutcomeUnknownError(
            f"transaction {self.transaction_id} (client order id {self.client_order_id}): {what}; do not send it again,"
            f" ask get({self.transaction_id!r}) or wait_resolved()",
            transaction_id=self.transaction_id,
            client_order_id=self.client_order_id,
            candidates=self.candidates,
            presumed_absent=presumed,
        )


def new_id(wall: float) -> str:
    """A ULID: 48 bits of milliseconds, 80 random bits, 26 characters (github.com/ulid/spec)."""
    number = (int(wall * 1000) & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def payload_hash(order: Order, commit: str) -> str:
    """What an idempotency key is bound to: the order as it was asked for."""
    parts = [order.symbol, order.side, order.type, commit]
    parts += ["-" if n is None else money.text(n) for n in (order.amount, order.price, order.stop_price)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


class Transaction:
    """
    The caller's hold on one transaction; any thread may read it.

    Attributes:
        id: 26 characters; also the second half of the client order id.
        restored: Whether it was read from the journal, so that an earlier process executed it.
    """

    def __init__(self, record: Record, *, fills: tuple[Fill, ...] = (), clock: Clock = SYSTEM_CLOCK) -> None:
        self.id = record.txn_id
        self.restored = record.state is not State.NEW
        self._clock = clock
        # guards everything below; notified when any of it changes
        self._changed = threading.Condition()
        self._record = record
        self._moving: object = False
        self._owner: object | None = None
        self._taken = self.restored
        self._answered = False
        self._durable = True
        self._error: Exception | None = None
        self._sent_at: float | None = None
        self._timeline: list[tuple[float, str, str]] = []
        self._fills = fills

    def __repr__(self) -> str:
        record = self._record
        order = record.order
        return f"<Transaction {self.id} {order.type}_{order.side} {order.symbol} {record.state.value}>"

    @property
    def record(self) -> Record:
        """The last version that may be acted on."""
        return self._record

    @property
    def state(self) -> State:
        """The fine state."""
        return self._record.state

    @property
    def phase(self) -> Phase:
        """In the original's words."""
        return PHASES[self._record.state][0]

    @property
    def status(self) -> Status:
        """In the original's words."""
        return PHASES[self._record.state][1]

    @property
    def client_order_id(self) -> str:
        """The id to look for at the venue."""
        return self._record.order.client_order_id

    def result(self) -> TransactionResult:
        """What is known now; never waits and never raises."""
        with self._changed:
            record = self._record
            return TransactionResult(
                transaction_id=self.id,
                verdict=record.verdict,
                proof=record.proof,
                reason=record.reason,
                order_id=record.order_id,
                client_order_id=record.order.client_order_id,
                filled=record.filled,
                remaining=record.remaining,
                average_price=record.average_price,
                fee=record.fee,
                order_status=record.order_status,
                attempts=record.attempt,
                kind=record.kind,
                on_partial=record.on_partial,
                fills=self._fills,
                candidates=record.candidates,
                timeline=tuple(self._timeline),
                durable=self._durable,
                error=self._error,
            )

    # -- for the pipeline -------------------------------------------------------------------------------------

    def begin(self, caller: object) -> bool:
        """Whether this caller is the first to execute it; the others join."""
        with self._changed:
            if self._owner is None and not self.restored:
                self._owner = caller
            return self._owner is caller

    def is_owned_by(self, caller: object) -> bool:
        """Whether this caller was the first, also when Ctrl-C struck before `begin` could tell."""
        with self._changed:
            return self._owner is caller

    def take(self) -> bool:
        """Whether the caller is the one to run or refuse it."""
        with self._changed:
            first = not self._taken
            self._taken = True
            return first

    def name_order(self, client_order_id: str) -> None:
        """Give the order its id at the exchange, unless it has one."""
        with self._changed:
            record = self._record
            if record.order.client_order_id:
                return
            self._timeline.append((record.updated, record.state.value, "created"))
            order = dataclasses.replace(record.order, client_order_id=client_order_id)
            self._record = dataclasses.replace(record, order=order)

    def claim(self, version: int, claimant: object = None) -> bool:
        """Take the right to write the next version; False when somebody else wrote or is writing one."""
        with self._changed:
            if self._moving or self._record.version != version:
                return False
            self._moving = claimant or True
            return True

    def is_claimed_by(self, claimant: object) -> bool:
        """Whether this claim holds."""
        with self._changed:
            return self._moving is claimant

    def settle(self, record: Record | None, *, cause: str = "", durable: bool = True) -> None:
        """End a claim with the new version, or with None when it could not be written."""
        with self._changed:
            self._moving = False
            if record is not None:
                if record.state is not self._record.state or not self._timeline:
                    self._timeline.append((record.updated, record.state.value, cause))
                self._record = record
                self._durable = self._durable and durable
            self._changed.notify_all()

    def answer(self) -> None:
        """Let those go who wait for an answer."""
        with self._changed:
            self._answered = True
            self._changed.notify_all()

    def answer_error(self, error: Exception) -> None:
        """Keep the error behind the verdict."""
        with self._changed:
            self._error = error

    def mark_sent(self, monotonic: float) -> None:
        """The first byte may leave from now on."""
        with self._changed:
            self._sent_at = monotonic

    @property
    def sent_at(self) -> float | None:
        """Monotonic seconds of the last send of this process, or None."""
        return self._sent_at

    def note_fills(self, fills: tuple[Fill, ...]) -> None:
        """Keep the fills that were listed."""
        with self._changed:
            self._fills = fills

    def wait_answered(self, timeout: float | None) -> bool:
        """Wait for the first answer: decided, or unknown after the verification timeout."""
        with self._changed:
            return self._clock.wait_for(
                self._changed, lambda: self._answered or self._record.state.is_terminal, timeout
            )

    def wait_until(self, predicate: Callable[[Record], bool], timeout: float | None) -> bool:
        """Wait until the predicate holds for the settled record; `nudge()` makes it look again."""
        with self._changed:
            return self._clock.wait_for(self._changed, lambda: predicate(self._record), timeout)

    def wait_settled(self) -> None:
        """Wait until nobody is writing a version."""
        with self._changed:
            self._clock.wait_for(self._changed, lambda: not self._moving, None)

    def nudge(self) -> None:
        """Make every waiter look again: something outside the record changed."""
        with self._changed:
            self._changed.notify_all()
