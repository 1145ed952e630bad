"""
CallRunner: makes one call of a user's function in the caller's thread, with the journal around it.

The same order of steps as for an order of our own: what can refuse, barrier, the call, a verdict that rests on a read
where there is a look-up. What differs: nobody here sees the bytes, so only the function's exception tells.
"""

from __future__ import annotations

import dataclasses
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from hireliab.core import _kill_points
from hireliab.errors import (
    ClosedError,
    DuplicateOrderError,
    HireliabError,
    JournalError,
    JournalPoisonedError,
    NotSentError,
    OrderRejectedError,
    OutcomeUnknownError,
    RefusedError,
    TransactionDeniedError,
)
from hireliab.exchange._runner import VERIFY_DELAYS
from hireliab.exchange._verified_arguments import Call, Shape
from hireliab.exchange._verified_values import order_state, words_of
from hireliab.exchange.adapter import Found, OrderState
from hireliab.exchange.transaction import BY_ID, Proof, Record, State, Transaction, Verdict, new_id, seen
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline

_log = logging.getLogger("hireliab.transactions")

Judge = Callable[[BaseException], bool]
"""Whether an exception of the function means this."""


class CallRunner:
    """
    The calls of one decorated function. Any thread may call any method.

    Args:
        shape: Of the function.
        has_find: Whether a look-up is registered under the shape's name.
        key: Makes the idempotency key from the call's arguments, or None.
        not_sent: Whether an exception proves that nothing left.
        refused: Whether an exception is the venue's definite no.
    """

    def __init__(
        self,
        *,
        pipeline: TransactionVerificationPipeline,
        shape: Shape,
        func: Callable[..., Any],
        has_find: bool,
        key: Callable[[Mapping[str, Any]], str | None],
        not_sent: Judge,
        refused: Judge,
    ) -> None:
        self._pipeline = pipeline
        self._shape = shape
        self._func = func
        self._has_find = has_find
        self._key = key
        self._not_sent = not_sent
        self._refused = refused
        self._ledger = pipeline._ledger
        self._book = pipeline._calls
        self._clock = pipeline._clock
        self._config = pipeline.config
        # What this process's calls returned, for those who asked at the same time with the same key.
        self._values: weakref.WeakKeyDictionary[Transaction, tuple[Any]] = weakref.WeakKeyDictionary()

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Make the call, or join the one that has its key."""
        self._shape.check(args, kwargs)
        pipeline = self._pipeline
        pipeline.start()
        if pipeline._journal.poisoned:
            raise JournalPoisonedError(f"{self._shape.name}: the journal failed; restart; nothing was called")
        prefix = pipeline._bind_account()
        call = self._shape.bind(args, kwargs, "")
        transaction = Transaction(self._record(call), clock=self._clock)
        key = self._key(call.known)
        if key is not None:
            wanted = dataclasses.replace(transaction.record, idempotency_key=key)
            transaction = pipeline._keys.transaction(key, wanted)
        call = self._shape.bind(args, kwargs, f"{prefix}-{transaction.id}")
        if not transaction.begin(object()):
            return self._join(transaction, call)
        record = transaction.record
        if transaction.claim(record.version):
            transaction.settle(dataclasses.replace(record, order=call.order), cause="created")
        try:
            return self._run(transaction, call)
        finally:
            transaction.answer()

    def _record(self, call: Call) -> Record:
        now = self._clock.time()
        return Record(
            txn_id=new_id(now),
            kind="CALL",
            order=call.order,
            payload_hash=call.payload_hash,
            on_partial="accept",
            owner=self._pipeline._owner,
            created=now,
            updated=now,
        )

    # -- before the call --------------------------------------------------------------------------------------

    def _run(self, transaction: Transaction, call: Call) -> Any:
        runner = self._pipeline._runner
        try:
            self._wait_for_siblings(transaction, call)
            runner._check_send(transaction)
        except TransactionDeniedError as error:
            runner.endings.deny(transaction, error)
            raise
        except NotSentError as error:
            runner.endings.not_sent(transaction, error)
            raise
        try:
            self._barrier(transaction, call)
            return self._call(transaction, call)
        except Exception:
            raise
        except BaseException:  # Ctrl-C, wherever it struck: the row is looked after in the background
            self._abandon(transaction)
            raise

    def _wait_for_siblings(self, transaction: Transaction, call: Call) -> None:
        """
        Let no call go out while an equal one may have placed its order: after a restart wait until that is known.

        Raises:
            TransactionDeniedError: It is not known yet.
        """
        deadline = self._clock.monotonic() + self._config.verification_timeout
        stop = self._pipeline._stop
        symbol = call.order.symbol
        free = not symbol or self._pipeline._runner._wait_for_gate(symbol, self._config.verification_timeout)
        if not free and not stop.is_set:
            raise self._denied(transaction, "recovering", f"{symbol} has undecided orders from before the restart")
        if not self._config.duplicate_guard:
            return
        for sibling in self._siblings(call):
            if sibling.restored:
                sibling.wait_until(
                    lambda record: record.state.is_terminal or record.needs_human or stop.is_set,
                    max(0.0, deadline - self._clock.monotonic()),
                )
        left = [sibling.id for sibling in self._siblings(call)]
        left += self._ledger.unknown_equals(call.order, to_other_than=transaction.id)
        if left:
            raise self._denied(
                transaction, "sibling", f"an equal call may have placed its order (transaction {', '.join(left)})"
            )

    def _siblings(self, call: Call) -> list[Transaction]:
        return [
            other
            for other in self._ledger.undecided()
            if other.record.kind == "CALL"
            and other.record.parent_id is None
            and other.record.payload_hash == call.payload_hash
            and other.state in (State.RESOLVING, State.UNKNOWN)
        ]

    def _denied(self, transaction: Transaction, reason: str, why: str) -> TransactionDeniedError:
        return TransactionDeniedError(
            f"{self._shape.name}: {why}; nothing was called; wait_resolved() first, or resolve() it by hand",
            reason=reason,
            transaction_id=transaction.id,
        )

    def _barrier(self, transaction: Transaction, call: Call) -> None:
        """Make the intent durable before the function is called."""
        pipeline = self._pipeline
        self._ledger.add(transaction)
        try:
            self._book.begin(transaction.id, self._shape.name, call.known)
            self._move(
                transaction,
                "T3",
                State.SUBMITTING,
                cause=f"call of {self._shape.name}",
                attempt=1,
                sent_wall=self._clock.time(),
                baseline=pipeline._journal.watermark,
                baseline_time=pipeline._adapter.server_time(),
            )
            assert transaction.state is State.SUBMITTING, "bug: only the caller moves a call before it is made"
        except BaseException as error:
            # Not called, so whatever the disk holds now, the verdict is true.
            reason = error if isinstance(error, HireliabError) else NotSentError(f"{self._shape.name}: {error!r}")
            self._quietly(transaction, lambda: pipeline._runner.endings.not_sent(transaction, reason))
            self._quietly(transaction, lambda: self._book.end(transaction.id))
            raise

    # -- the call ---------------------------------------------------------------------------------------------

    def _call(self, transaction: Transaction, call: Call) -> Any:
        if _kill_points.ARMED:
            _kill_points.at("L04")
        transaction.mark_sent(self._clock.monotonic())
        try:
            self._pipeline._runner._check_send(transaction)  # a halt since the barrier: nothing is called
        except TransactionDeniedError as error:
            self._fail(transaction, "T5", Proof.DENIED, error)
            raise
        except NotSentError as error:
            self._fail(transaction, "T5", Proof.NOT_SENT, error)
            raise
        try:
            value = self._func(*call.args, **call.kwargs)
        except Exception as error:
            if self._proves(self._not_sent, error, NotSentError):
                self._fail(transaction, "T5", Proof.NOT_SENT, error)
                raise
            # "Duplicate" may be the answer to a second delivery of the same order: it is not a no.
            if not isinstance(error, DuplicateOrderError) and self._proves(self._refused, error, RefusedError):
                self._fail(transaction, "T7", Proof.REJECTED, error)
                raise
            return self._ambiguous(transaction, call, error)
        return self._returned(transaction, call, value)

    @staticmethod
    def _proves(judge: Judge, error: Exception, of_ours: type[HireliabError]) -> bool:
        if isinstance(error, of_ours):
            return True
        try:
            return bool(judge(error))
        except Exception as failure:
            _log.error("the judge of a %s failed, so it is ambiguous: %s", type(error).__name__, words_of(failure))
            return False

    def _returned(self, transaction: Transaction, call: Call, value: Any) -> Any:
        """It returned: what it returned is the caller's, once a look-up shows the order."""
        self._values[transaction] = (value,)
        order = order_state(value, call.order)
        # Kept as a candidate until the verdict: a start reads the venue ids of undecided rows as Nobitex's numbers.
        candidates = (order.order_id,) if order.order_id else ()
        self._move(transaction, "T8", State.ACKED, cause="the function returned", candidates=candidates)
        if not self._has_find:
            self._found(transaction, order, Proof.ACKNOWLEDGED, "the function returned; there is no look-up")
            return value
        if self._look(transaction, call) is None:
            failure = self._book.failure(transaction.id)
            saw = "does not show the order" if failure is None else f"failed: {failure}"
            raise self._unknown(transaction, f"the function returned, but its look-up {saw}")
        return value

    def _ambiguous(self, transaction: Transaction, call: Call, error: Exception) -> Any:
        """It raised, and may have placed the order: find out; never call again."""
        transaction.answer_error(error)
        words = words_of(error)
        self._move(transaction, "T9", State.RESOLVING, cause=words, reason=words)
        found = self._look(transaction, call) if self._has_find else None
        if found is None:
            raise self._unknown(transaction, words) from error
        return found[0]

    def _look(self, transaction: Transaction, call: Call) -> tuple[Any] | None:
        """Look, in the caller's thread, until the order is shown or the time is over; the order as it is shown."""
        deadline = self._clock.monotonic() + self._config.verification_timeout
        looks = 0
        while True:
            read, value = self._book.ask(transaction.record, (self._shape.name, call.known))
            self._ledger.metrics.count_read(read)
            if isinstance(read, Found):
                self._values.setdefault(transaction, (value,))
                self._found(transaction, read.order, Proof.LIVE, f"the look-up shows {read.order.raw_status or 'it'}")
                return (value,)
            now = self._clock.monotonic()
            delay = VERIFY_DELAYS[min(looks, len(VERIFY_DELAYS) - 1)]
            looks += 1
            if now >= deadline or self._pipeline._stop.sleep(max(0.0, min(delay, deadline - now))):
                return None

    def _found(self, transaction: Transaction, order: OrderState, proof: Proof, cause: str) -> None:
        facts = {**seen(order), "order_id": order.order_id or None}
        self._move(
            transaction,
            "T11",
            State.COMPLETED,
            cause=cause,
            proof=proof,
            reason="",
            candidates=(),
            needs_human=False,
            **facts,
        )
        self._quietly(transaction, lambda: self._book.end(transaction.id))

    def _unknown(self, transaction: Transaction, why: str) -> OutcomeUnknownError:
        """Nobody knows: write it, tell a person, let the resolver go on; the error for the caller."""
        self._move(transaction, "T15", State.UNKNOWN, cause=why, reason=why, needs_human=not self._has_find)
        self._hand_over(transaction)
        then = (
            "it is looked for in the background"
            if self._has_find
            else "nobody looks for it, because there is no look-up (find=): look at the exchange, then resolve() it"
        )
        record = transaction.record
        return OutcomeUnknownError(
            f"{self._shape.name}: transaction {transaction.id} (client order id {record.order.client_order_id or 'none'}):"
            f" the order may be live ({why}); {then}; do not call again",
            transaction_id=transaction.id,
            client_order_id=record.order.client_order_id or None,
            candidates=record.candidates,
        )

    def _hand_over(self, transaction: Transaction) -> None:
        if self._has_find and not transaction.state.is_terminal:
            self._book.hand_over(transaction)
            self._pipeline._resolver.add(transaction)

    def _abandon(self, transaction: Transaction) -> None:
        """The caller was interrupted; its row must not be forgotten."""
        why = "the caller was interrupted"
        if transaction.state is State.NEW:
            return
        if transaction.state is State.SUBMITTING:
            self._move(transaction, "T9", State.RESOLVING, cause=why, reason=why)
        if not self._has_find and not transaction.state.is_terminal:
            self._move(transaction, "T15", State.UNKNOWN, cause=why, reason=why, needs_human=True)
        self._hand_over(transaction)

    # -- a key that was used before ---------------------------------------------------------------------------

    def _join(self, transaction: Transaction, call: Call) -> Any:
        """The outcome of the call that has the key, without calling again."""
        stop = self._pipeline._stop
        patience = self._config.verification_timeout
        if transaction.restored:
            transaction.wait_until(lambda record: record.state.is_terminal or stop.is_set, patience)
        else:
            transaction.wait_answered(patience)
        record, result = transaction.record, transaction.result()
        where = f"{self._shape.name}: idempotency key {record.idempotency_key!r}: transaction {transaction.id}"
        if record.state is State.COMPLETED:
            kept = self._values.get(transaction)
            if kept is not None:
                return kept[0]
            read, value = self._book.ask(record, (self._shape.name, call.known))
            if isinstance(read, Found):
                return value
            raise TransactionDeniedError(
                f"{where} placed the order already ({record.order_id or 'its id is not known'}), and what it returned"
                " is not known any more; nothing was called",
                reason="executed",
                transaction_id=transaction.id,
            )
        if not record.state.is_terminal or result.verdict is Verdict.ABSENT:
            raise OutcomeUnknownError(
                f"{where} may have placed the order ({record.reason or record.state.value}); nothing was called",
                transaction_id=transaction.id,
                client_order_id=record.order.client_order_id or None,
                candidates=record.candidates,
                presumed_absent=result.verdict is Verdict.ABSENT,
            )
        if record.proof in (Proof.NOT_SENT, Proof.DENIED):  # of a call at the same time: the key is free again
            raise NotSentError(
                f"{where} was not made ({record.reason}); nothing was called; try again"
            ) from result.error
        raise OrderRejectedError(
            f"{where} is {result.verdict.value} ({record.reason}); nothing was called; use a new key", by="hireliab"
        ) from result.error

    # -- writing ----------------------------------------------------------------------------------------------

    def _move(self, transaction: Transaction, row: str, to: State, *, cause: str, **changes: Any) -> None:
        """
        Make a transition, unless a person decided the row meanwhile.

        After the barrier a journal that is closed or refuses is only logged: the caller must get what the function
        did, and the next start finds the row as it is on disk.
        """
        record = transaction.record
        if record.state not in BY_ID[row].sources:
            return
        try:
            if self._ledger.move(transaction, record, row, to, cause=cause, **changes) is None:
                transaction.wait_settled()
        except (JournalError, ClosedError) as error:
            if to is State.SUBMITTING:
                raise
            _log.warning("transaction %s: %s was not journalled: %s", transaction.id, to.value, error)
            if transaction.claim(record.version):
                moved = record.move(row, to, updated=self._clock.time(), **changes)
                transaction.settle(moved, cause=cause, durable=False)
        except Exception:
            raise
        except BaseException:
            # Ctrl-C while the disk was waited for: whether this version is on it is not known, so it is skipped.
            record = transaction.record
            if transaction.claim(record.version):
                transaction.settle(dataclasses.replace(record, version=record.version + 1))
            raise

    def _fail(self, transaction: Transaction, row: str, proof: Proof, error: Exception) -> None:
        transaction.answer_error(error)
        words = words_of(error)
        # Proven never to have left: the key is free, so that the bot's loop may ask again with it.
        key = transaction.record.idempotency_key if proof is Proof.REJECTED else None
        self._move(transaction, row, State.FAILED, cause=words, proof=proof, reason=words, idempotency_key=key)
        self._quietly(transaction, lambda: self._book.end(transaction.id))

    @staticmethod
    def _quietly(transaction: Transaction, write: Callable[[], None]) -> None:
        try:
            write()
        except (JournalError, ClosedError) as error:
            _log.warning("transaction %s: left to the next start: %s", transaction.id, error)
