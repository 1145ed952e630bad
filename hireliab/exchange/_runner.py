"""
Runner: takes one transaction through its phases, in a thread of its own.

Prepare (everything that can wait or refuse), barrier, send, read back, decide. Whatever is ambiguous goes to the
resolver; the runner then only waits, and answers "unknown" when the caller's time is over.
"""

from __future__ import annotations

import enum
import logging
import os
import random
from collections.abc import Callable

from hireliab.core import _kill_points
from hireliab.core._threads import Stop
from hireliab.core.clock import Clock
from hireliab.errors import (
    AuthenticationError,
    ClosedError,
    ConfigError,
    DuplicateOrderError,
    HireliabError,
    InsufficientFundsError,
    InvalidOrderError,
    MalformedResponseError,
    NotSentError,
    OrderNotFoundError,
    OutcomeUnknownError,
    RefusedError,
    ThrottledError,
    TransactionDeniedError,
)
from hireliab.exchange import evidence
from hireliab.exchange._conclusion import conclude
from hireliab.exchange._endings import Endings
from hireliab.exchange._ledger import Ledger
from hireliab.exchange._pipeline_settings import PipelineConfig
from hireliab.exchange._pretrade import PreTrade
from hireliab.exchange._resolver import Resolver
from hireliab.exchange.adapter import Absent, ExchangeAdapter, Found, Order, OrderState, Prepared, Unavailable
from hireliab.exchange.transaction import Proof, State, Transaction, seen

_log = logging.getLogger("hireliab.transactions")

VERIFY_DELAYS = (0.05, 0.15, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0)
"""Seconds between reads of an acknowledged order; the last one repeats."""
RETRY_BASE = 0.2
RETRY_MOST = 2.0
"""Seconds of the full-jitter pause before a further send, and the longest throttle that is waited for: a stale order
is worse than none."""


class _Sent(enum.Enum):
    """What a send led to."""

    DECIDED = "decided"
    UNDECIDED = "undecided"
    AGAIN = "again"


STALE = 10.0
"""Seconds after the barrier at which nothing is sent any more: the machine slept, or the disk hung, and the price is old."""


class StaleError(NotSentError):
    """Too much time passed between the barrier and the first byte."""

    retryable = True


class StoppedError(NotSentError, ClosedError):
    """The pipeline was stopped before the first byte."""


class Runner:
    """
    Args:
        owner: This instance of the pipeline, for the journal.
        wait_for_gate: Waits until a symbol's recovered rows are decided; whether they are, given symbol and seconds.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        adapter: ExchangeAdapter,
        resolver: Resolver,
        config: PipelineConfig,
        clock: Clock,
        stop: Stop,
        pretrade: PreTrade,
        owner: str,
        wait_for_gate: Callable[[str, float], bool],
    ) -> None:
        self._ledger = ledger
        self._adapter = adapter
        self._resolver = resolver
        self._config = config
        self._clock = clock
        self._stop = stop
        self._pretrade = pretrade
        self._owner = owner
        self._wait_for_gate = wait_for_gate
        self.knows_watermark = False  # only spares a request; any thread may set it
        self.endings = Endings(ledger=ledger, clock=clock)
        self._pid = os.getpid()

    def run(self, transaction: Transaction) -> None:
        """Run to an answer; never raises."""
        began = self._clock.monotonic()
        try:
            if not transaction.take():
                return
            if transaction.record.kind == "CANCEL":
                self._cancel(transaction)
            else:
                self._order(transaction)
        except BaseException as error:
            _log.exception("transaction %s: the runner failed", transaction.id)
            try:
                self._rescue(transaction, error)
            except Exception:
                # The journal is closed or broken: the next start finds the record as it is on disk.
                _log.exception("transaction %s: left to the next start", transaction.id)
        finally:
            transaction.answer()
            self._ledger.metrics.phases["total"].observe(self._clock.monotonic() - began)

    def refuse(self, transaction: Transaction, error: HireliabError) -> bool:
        """Give the verdict of a transaction that could not even start; False when it did start."""
        if not transaction.take():
            return False
        try:
            self.endings.not_sent(transaction, error)
        finally:
            transaction.answer()
        return True

    def _rescue(self, transaction: Transaction, error: BaseException) -> None:
        """Whatever went wrong here, a record that may have been sent must reach the resolver."""
        record = transaction.record
        if record.state is State.SUBMITTING:
            self._ledger.move(transaction, record, "T9", State.RESOLVING, cause=f"runner failed: {error!r}")
        if not transaction.state.is_terminal and transaction.state is not State.NEW:
            self._resolver.add(transaction)
        if transaction.state is State.NEW:
            wrapped = error if isinstance(error, HireliabError) else NotSentError(f"not sent: {error!r}")
            self.endings.not_sent(transaction, wrapped)
        # Last: whatever an alert sink does, somebody looks after the transaction by now.
        self._ledger.alert("critical", "Transaction runner failed", f"{transaction.id}: {error!r}", transaction.record)

    # -- an order ---------------------------------------------------------------------------------------------

    def _order(self, transaction: Transaction) -> None:
        symbol = transaction.record.order.symbol
        if not self._wait_for_gate(symbol, self._config.verification_timeout) and not self._stop.is_set:
            self.endings.deny(
                transaction,
                TransactionDeniedError(
                    f"transaction {transaction.id}: {symbol} has orders from before the restart that are not decided;"
                    " call unresolved() or wait_resolved(), then ask again",
                    reason="recovering",
                    transaction_id=transaction.id,
                ),
            )
            return
        try:
            with self._pretrade.alone(transaction):
                self._attempts(transaction)
        except TransactionDeniedError as error:
            self.endings.deny(transaction, error)

    def _attempts(self, transaction: Transaction) -> None:
        """Send until it is answered, or proven not to have left often enough."""
        self._find_watermark()
        wanted = transaction.record.order  # as it was asked for: a further attempt is priced anew
        for attempt in range(1, self._config.max_retries + 2):
            last = attempt > self._config.max_retries
            began = self._clock.monotonic()
            try:
                self._check_open()
                self._pretrade.check_halt(wanted)
                # Before anything is held: it may need a client of the same pool.
                reference = self._pretrade.reference(wanted)
                prepared = self._adapter.prepare(wanted)
            except TransactionDeniedError as error:
                self.endings.deny(transaction, error)
                return
            except NotSentError as error:
                if last or not error.retryable or not self._pause(attempt):
                    self.endings.not_sent(transaction, error)
                    return
                continue
            except (InvalidOrderError, ConfigError) as error:
                self.endings.deny(transaction, error)
                return
            except HireliabError as error:
                self.endings.not_sent(transaction, error)
                return
            try:
                self._pretrade.check(transaction, prepared.order, reference)
            except BaseException as error:
                prepared.abandon()
                if not isinstance(error, TransactionDeniedError):
                    raise
                self.endings.deny(transaction, error)
                return
            ready = self._clock.monotonic()
            self._ledger.metrics.phases["prepare"].observe(ready - began)
            if not self._barrier(transaction, prepared, prepared.order, attempt):
                return
            self._ledger.metrics.phases["intent"].observe(self._clock.monotonic() - ready)
            outcome = self._send(transaction, prepared, last=last)
            if outcome is _Sent.AGAIN:
                continue
            if outcome is _Sent.UNDECIDED:
                self._await_answer(transaction)
            return

    def _find_watermark(self) -> None:
        """A first start without the exchange knows no order to look from; one look now shortens every later listing."""
        if self._ledger.journal.watermark != "0" or self.knows_watermark:
            return
        newest = self._adapter.newest_order_id()
        if not isinstance(newest, Unavailable):
            self._ledger.note_watermark(newest)
            self.knows_watermark = True  # "0" is an account without orders

    def _barrier(self, transaction: Transaction, prepared: Prepared, order: Order, attempt: int) -> bool:
        """Make the intent durable; False, with the verdict given, when that failed."""
        record = transaction.record
        venue_time = self._adapter.server_time()
        again = record.state is State.SUBMITTING
        if _kill_points.ARMED:
            _kill_points.at("L01")
        try:
            moved = self._ledger.move(
                transaction,
                record,
                "T3" if record.state is State.NEW else "T6",
                State.SUBMITTING,
                cause=f"attempt {attempt}",
                order=order,
                attempt=attempt,
                sent_wall=self._clock.time(),
                # A further attempt keeps the first one's: what the first placed after all must not be too old to be
                # looked for.
                baseline=record.baseline if again else self._ledger.journal.watermark,
                baseline_time=record.baseline_time if again else venue_time,
                deadline=None if record.timeout is None else venue_time + record.timeout,
                owner=self._owner,
            )
            assert moved is not None, "bug: only the runner moves a transaction before it is sent"
        except BaseException as error:
            prepared.abandon()
            if not isinstance(error, HireliabError):
                raise
            self.endings.not_sent(transaction, error)
            return False
        return True

    def _send(self, transaction: Transaction, prepared: Prepared, *, last: bool) -> _Sent:
        """Send once and draw the conclusion."""
        record = transaction.record
        transaction.mark_sent(self._clock.monotonic())
        self._ledger.note_send(record.order)
        if _kill_points.ARMED:
            _kill_points.at("L04")
        try:
            state = prepared.submit(lambda: self._check_send(transaction))
        except TransactionDeniedError as error:  # a halt since the barrier: no byte left
            self._ledger.forget_send(record.order)
            self.endings.deny(transaction, error)
            return _Sent.DECIDED
        except NotSentError as error:
            self._ledger.forget_send(record.order)
            if not last and error.retryable and self._pause(record.attempt):
                return _Sent.AGAIN
            self.endings.fail(transaction, "T5", Proof.NOT_SENT, error)
            return _Sent.DECIDED
        except ThrottledError as error:
            # Refused by the limiter before it reached the book (nobitex-api.md 4.1): proven not placed.
            if not last and error.retry_after <= RETRY_MOST and self._sleep(error.retry_after):
                return _Sent.AGAIN
            self.endings.fail(transaction, "T7", Proof.REJECTED, error)
            return _Sent.DECIDED
        except DuplicateOrderError as error:
            # A proxy may have delivered ours twice, and this may be the answer to the second. Only an equal order
            # of another transaction explains it otherwise; then nothing of ours can arrive late.
            self._ambiguous(transaction, error, refused=self._ledger.explains_duplicate(record.order))
        except RefusedError as error:
            if record.attempt > 1 and isinstance(error, InsufficientFundsError):
                # The throttle before it may have been a proxy's, after the order was executed: then our own first
                # attempt holds the money.
                self._ambiguous(transaction, error)
                return _Sent.UNDECIDED
            self.endings.fail(transaction, "T7", Proof.REJECTED, error)
            if isinstance(error, AuthenticationError):
                self._ledger.alert("critical", "The exchange refuses the credentials", str(error), transaction.record)
            return _Sent.DECIDED
        except BaseException as error:
            if not isinstance(error, OutcomeUnknownError):
                _log.exception("transaction %s: unexpected error while sending", transaction.id)
            self._ambiguous(transaction, error)
        else:
            answered = self._clock.monotonic()
            self._ledger.metrics.phases["send"].observe(answered - (transaction.sent_at or answered))
            if self._acknowledge(transaction, state):
                self._verify(transaction)
                self._ledger.metrics.phases["verify"].observe(self._clock.monotonic() - answered)
        return _Sent.DECIDED if transaction.state.is_terminal else _Sent.UNDECIDED

    def _ambiguous(self, transaction: Transaction, error: BaseException, *, refused: bool = False) -> None:
        """It may have happened: never send again, find out."""
        if isinstance(error, Exception):
            transaction.answer_error(error)
        self._ledger.move(
            transaction,
            transaction.record,
            "T9",
            State.RESOLVING,
            cause=f"{type(error).__name__}: {error}",
            reason=str(error),
        )
        self._resolver.add(transaction, refused=refused)

    def _acknowledge(self, transaction: Transaction, state: OrderState) -> bool:
        """Record the answer; False when it cannot be the answer to this order, and the resolver has it."""
        record = transaction.record
        if (
            state.client_order_id not in (None, record.order.client_order_id)
            or not evidence.has_fields_of(record.order, state)
            or not evidence.is_newer(state.order_id, record.baseline)
        ):
            error = MalformedResponseError(f"order {state.order_id}: the answer is another order's; look it up")
            self._ambiguous(transaction, error)
            return False
        hidden = self._adapter.capabilities.listing_shows_client_id is not True
        if _kill_points.ARMED:
            _kill_points.at("L10")
        self._ledger.move(
            transaction,
            transaction.record,
            "T8",
            State.ACKED,
            cause=f"acknowledged as {state.order_id}",
            # Where listings hide the client order id, or may do, this id is the only way back to the order.
            barrier=hidden,
            **seen(state),
        )
        if _kill_points.ARMED:
            _kill_points.at("L11")
        return True

    def _verify(self, transaction: Transaction) -> None:
        """Read the order until it is decided or the time is over."""
        since = self._clock.monotonic()
        deadline = (transaction.sent_at or since) + self._patience(transaction)
        looks = 0
        while not transaction.state.is_terminal:
            record = transaction.record
            assert record.order_id is not None, "bug: acknowledged without an id"
            if _kill_points.ARMED:
                _kill_points.at("L12")
            read = self._adapter.find_by_id(record.order_id)
            self._ledger.metrics.count_read(read)
            now = self._clock.monotonic()
            if isinstance(read, Found):
                conclude(transaction, read.order, ledger=self._ledger)
            elif isinstance(read, Absent) and now - since > self._config.visibility_window:
                cause = f"order {record.order_id} not found by its id"
                self._ledger.move(transaction, record, "T13", State.RESOLVING, cause=cause)
            self._resolver.commit_rule.enforce(transaction)  # also while reads fail: the rule's time is over
            if transaction.record.state not in (State.ACKED, State.WORKING):
                break
            delay = VERIFY_DELAYS[min(looks, len(VERIFY_DELAYS) - 1)]
            looks += 1
            left = self._resolver.commit_rule.time_left(transaction)
            if now >= deadline or not self._sleep(max(0.0, min(delay, deadline - now, left if left > 0 else delay))):
                break
        if not transaction.state.is_terminal:
            self._resolver.add(transaction)
        elif transaction.record.is_open_at_venue:
            self._resolver.follow()

    def _await_answer(self, transaction: Transaction) -> None:
        """Wait for the resolver until the caller's time is over, then say that the outcome is unknown."""
        sent = transaction.sent_at or self._clock.monotonic()
        left = sent + self._config.verification_timeout - self._clock.monotonic()
        transaction.wait_until(lambda record: record.state.is_terminal or self._stop.is_set, max(0.0, left))
        if transaction.state in (State.ACKED, State.WORKING, State.CANCELLING):
            # It is known what there is; the caller asked to wait for the commit rule.
            left = sent + self._patience(transaction) - self._clock.monotonic()
            transaction.wait_until(lambda record: record.state.is_terminal or self._stop.is_set, max(0.0, left))
        while not transaction.state.is_terminal and transaction.state is not State.UNKNOWN:
            record = transaction.record
            why = "pipeline stopped" if self._stop.is_set else f"not decided in {self._config.verification_timeout:g} s"
            moved = self._ledger.move(transaction, record, "T15", State.UNKNOWN, cause=why, reason=record.reason or why)
            if moved is None:  # the resolver moves it, perhaps while its verdict waits for the disk
                transaction.wait_settled()

    def _patience(self, transaction: Transaction) -> float:
        """Seconds from the send that the caller of an order waits that is known to be live."""
        return (transaction.record.timeout or 0.0) + self._config.verification_timeout

    # -- a cancel ---------------------------------------------------------------------------------------------

    def _cancel(self, transaction: Transaction) -> None:
        record = transaction.record
        order_id = record.order_id
        assert order_id is not None, "bug: a cancel without an order id"
        try:
            self._check_open()
            prepared = self._adapter.prepare_cancel(order_id)
        except HireliabError as error:
            self.endings.not_sent(transaction, error)
            return
        try:
            moved = self._ledger.move(
                transaction,
                record,
                "T18",
                State.CANCELLING,
                cause="cancel",
                attempt=1,
                sent_wall=self._clock.time(),
                owner=self._owner,
            )
            assert moved is not None, "bug: only the runner moves a cancel before it is sent"
        except BaseException as error:
            prepared.abandon()
            if not isinstance(error, HireliabError):
                raise
            self.endings.not_sent(transaction, error)
            return
        transaction.mark_sent(self._clock.monotonic())
        if _kill_points.ARMED:
            _kill_points.at("L22")
        try:
            conclude(transaction, prepared.submit(self._check_open), ledger=self._ledger)
        except OrderNotFoundError:
            pass  # the reads by id tell
        except Exception as error:
            transaction.answer_error(error)
            self._ledger.note(transaction, transaction.record, cause=f"cancel: {type(error).__name__}: {error}")
        if not transaction.state.is_terminal:
            self._resolver.add(transaction)
            self._await_answer(transaction)

    # -- last checks and pauses --------------------------------------------------------------------------------------

    def _check_send(self, transaction: Transaction) -> None:
        """Run just before the first byte of an order, which a halt forbids, too."""
        self._check_open()
        record = transaction.record
        self._pretrade.check_halt(record.order)
        # The wall clock, because the monotonic one stands still while the machine sleeps; a step of it costs an attempt.
        waited = 0.0 if record.sent_wall is None else self._clock.time() - record.sent_wall
        if waited > STALE:
            raise StaleError(
                f"transaction {transaction.id}: {waited:.0f} s passed before it was sent; nothing was sent"
            )

    def _check_open(self) -> None:
        """Run just before the first byte: the last moment at which nothing has happened."""
        if os.getpid() != self._pid:
            raise StoppedError(f"pipeline {self._config.name}: belongs to process {self._pid}; make one after fork()")
        if self._stop.is_set:
            raise StoppedError(f"pipeline {self._config.name}: stopped; nothing was sent")
        if self._ledger.journal.poisoned:
            raise StoppedError(f"pipeline {self._config.name}: the journal failed; restart; nothing was sent")

    def _pause(self, attempt: int) -> bool:
        """Full-jitter back-off before a further send; False when the pipeline stops meanwhile."""
        return self._sleep(random.uniform(0.0, min(RETRY_MOST, RETRY_BASE * 2**attempt)))

    def _sleep(self, seconds: float) -> bool:
        return not self._stop.sleep(seconds)
