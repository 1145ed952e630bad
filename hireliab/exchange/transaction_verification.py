"""
TransactionVerificationPipeline: the door to verified transactions.

An order goes out at most once for each transaction, and its outcome is read back from the exchange before anybody is
told. What cannot be known is called unknown, said aloud, and looked for until it is.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from hireliab.core import config as config_
from hireliab.core._threads import Stop, join_all
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import (
    ClosedError,
    ConfigError,
    HireliabError,
    IdempotencyConflictError,
    JournalPoisonedError,
    NotSentError,
)
from hireliab.exchange._admission import Admission
from hireliab.exchange._cancel import cancel_of, close_parent
from hireliab.exchange._decision import Decisions
from hireliab.exchange._handle import Handle
from hireliab.exchange._idempotency import IdempotencyKeys
from hireliab.exchange._intent import make_record, with_symbol
from hireliab.exchange._ledger import AlertSink, Ledger, prefix_of
from hireliab.exchange._operator import Operator
from hireliab.exchange._operator_desk import handlers
from hireliab.exchange._orphans import Orphans
from hireliab.exchange._pipeline_desk import Desk
from hireliab.exchange._pipeline_exit import stop_at_exit
from hireliab.exchange._pipeline_outbox import outbox_of
from hireliab.exchange._pipeline_settings import PipelineConfig, checked_adapter, default_folder
from hireliab.exchange._pretrade import PreTrade
from hireliab.exchange._recovery import Gate, RecoveryReport, first_listing, recover
from hireliab.exchange._resolver import Resolver
from hireliab.exchange._runner import Runner
from hireliab.exchange._verified_calls import CallBook
from hireliab.exchange.adapter import ExchangeAdapter
from hireliab.exchange.journal import Journal
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Transaction, TransactionResult, new_id
from hireliab.messaging.outbox import EventBus

__all__ = ["Handle", "TransactionVerificationPipeline"]

_log = logging.getLogger("hireliab.transactions")

ORDER_WINDOW = 600.0
"""Seconds of sends that a restart tells the adapter's limiters about (nobitex-api.md 4.1: 300 orders in 10 min)."""
STOP_TIMEOUT = 15.0
"""Seconds that stop() gives to requests that are on their way; the client's total timeout is shorter."""
OUTBOX_TIMEOUT = 2.0
"""Seconds of them for events that the bus has not confirmed; the next start publishes the rest."""


class TransactionVerificationPipeline(Desk):
    """
    Verified transactions on one account of one exchange, with a journal.

    Guarantees: no transaction is sent twice, also not after a crash; every verdict rests on a read of the exchange;
    an unknown outcome is looked for until it is decided. Does not: decide for you to send an order again.

    Args:
        exchange_adapter: An ExchangeAdapter.
        message_bus: A MessageBus, or anything with ``publish(topic, data, message_id=...)``; gets transaction.* and
            order.* events from a thread of their own, each at least once: they are journalled with what they tell of.
        alert_system: Anything with ``send_alert(...)``; gets what a person should see.
        journal: A Journal, or the path of its folder; None uses $HIRELIAB_HOME or the user's state folder.
        config: A PipelineConfig or mapping; its settings may be given as keywords instead.
        health: Called now and then by the resolver; what it returns is added to status.json.
        settings: See PipelineConfig: verification_timeout, max_retries, name, ...

    Thread safety: any thread. Context manager: start() and stop().
    """

    def __init__(
        self,
        *,
        exchange_adapter: ExchangeAdapter,
        message_bus: EventBus | None = None,
        alert_system: AlertSink | None = None,
        journal: Journal | str | os.PathLike[str] | None = None,
        config: PipelineConfig | Mapping[str, Any] | None = None,
        health: Callable[[], Mapping[str, Any]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **settings: Any,
    ) -> None:
        if config is not None and settings:
            raise ConfigError("pipeline: give config or keywords, not both", setting="config")
        self.config = config_.load(PipelineConfig, settings if config is None else config, where="pipeline")
        self._adapter = checked_adapter(exchange_adapter)
        self._clock = clock
        if journal is None:
            journal = default_folder(self.config.name)
        self._journal: Journal = SQLiteJournal(journal) if isinstance(journal, str | os.PathLike) else journal
        self._ledger = Ledger(journal=self._journal, clock=clock, tells=message_bus is not None, alerts=alert_system)
        self._outbox = outbox_of(
            message_bus, journal=self._journal, ledger=self._ledger, config=self.config, clock=clock
        )
        self._gate = Gate(clock)
        self._ledger.when_decided(self._gate.release)
        self._stop = Stop(clock)
        self._resolver_stop = Stop(clock)
        self._calls = CallBook(self._journal)
        self._orphans = Orphans(ledger=self._ledger, prefix=lambda: self._prefix)
        self._resolver = Resolver(
            ledger=self._ledger,
            adapter=exchange_adapter,
            config=self.config,
            clock=clock,
            stop=self._resolver_stop,
            orphans=self._orphans,
            calls=self._calls,
            on_step=self._on_resolver_step,
        )
        self._owner = new_id(clock.time())
        self._pretrade = PreTrade(
            ledger=self._ledger,
            adapter=exchange_adapter,
            config=self.config,
            clock=clock,
            folder=self._journal.folder,
        )
        self._runner = Runner(
            ledger=self._ledger,
            adapter=exchange_adapter,
            resolver=self._resolver,
            config=self.config,
            clock=clock,
            stop=self._stop,
            pretrade=self._pretrade,
            owner=self._owner,
            wait_for_gate=lambda symbol, timeout: self._gate.wait(symbol, timeout, unless=lambda: self._stop.is_set),
        )
        self._admission = Admission(runner=self._runner, ledger=self._ledger, config=self.config, clock=clock)
        self._decisions = Decisions(
            ledger=self._ledger,
            adapter=exchange_adapter,
            resolver=self._resolver,
            orphans=self._orphans,
            clock=clock,
            owner=self._owner,
        )
        self._keys = IdempotencyKeys(journal=self._journal, ledger=self._ledger, clock=clock)
        self._pid = os.getpid()
        # guards _phase, _mover, _report and _prefix
        self._changed = threading.Condition()
        self._phase = "new"
        self._mover: int | None = None  # the thread that starts or stops it
        self._report = RecoveryReport()
        self._operator: Operator | None = None
        self._health = health
        self._prefix: str | None = None

    def __repr__(self) -> str:
        return f"<TransactionVerificationPipeline {self.config.name} {self._phase}>"

    def __enter__(self) -> TransactionVerificationPipeline:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # -- life -------------------------------------------------------------------------------------------------

    def start(self) -> RecoveryReport:
        """
        Open the journal, recover, and gate what is undecided; idempotent, and done by the first use otherwise.

        A dead exchange does not fail the start.

        Raises:
            JournalLockedError: Another pipeline owns the journal.
            JournalError: The journal is damaged, or another account's.
            ClosedError: After stop(), or in a forked child.
        """
        self._check_process()
        ours, phase = False, "new"
        try:
            with self._changed:
                if self._phase == "starting" and self._mover == threading.get_ident():
                    return self._report  # an alert or event of the recovery asks back
                self._clock.wait_for(self._changed, lambda: self._phase != "starting", None)
                if self._phase == "open":
                    return self._report
                if self._phase != "new":
                    raise ClosedError(f"pipeline {self.config.name}: stopped; make a new one")
                ours = True
                self._phase = "starting"
                self._mover = threading.get_ident()
            report = self._open()
            phase = "open"
        finally:
            if ours:
                with self._changed:
                    self._phase = "stopped" if phase == "new" and self._resolver.is_started else phase
                    if phase == "open":
                        self._report = report
                    self._changed.notify_all()
        atexit.register(stop_at_exit, weakref.ref(self))
        return report

    def _open(self) -> RecoveryReport:
        self._journal.open()
        try:
            with contextlib.suppress(NotSentError):  # who we are is asked again before the first order
                self._bind_account()
            now = self._clock.time()
            ages = [max(0.0, now - wall) for wall in self._journal.send_times(now - ORDER_WINDOW)]
            if self._journal.bound is not None and (ages or self._journal.watermark != "0"):
                self._adapter.restore_limits(ages)
            self._pretrade.restore(ages)
            if self._journal.fact("listing_shows_client_id") is not None:
                self._adapter.note_listing_shows_client_id(self._journal.fact("listing_shows_client_id") == "yes")
            records = self._journal.unfinished()
            first = first_listing(records, journal=self._journal, adapter=self._adapter)
            self._runner.knows_watermark = first.knows_newest
            report = recover(
                records=records,
                ledger=self._ledger,
                resolver=self._resolver,
                gate=self._gate,
                clock=self._clock,
                owner=self._owner,
            )
            if self._journal.folder is not None and self.config.operator_interval is not None:
                interval = min(0.5, self.config.operator_interval)
                self._operator = Operator(
                    self._journal.folder, handlers(self), self._status, self._clock, interval=interval
                )
            self._resolver.start(first.listing)
            if self._outbox is not None:  # last: what its bus calls may ask back, and wait until the start is over
                self._outbox.start()
            return report
        except BaseException:  # Ctrl-C, too: the lock must not stay with a pipeline that did not start
            if self._resolver.is_started:
                self._resolver_stop.set()
                self._resolver.join(1.0)
            self._journal.close()
            raise

    def _on_resolver_step(self) -> None:
        """Between two requests of the resolver: what else its thread looks after."""
        if self._resolver_stop.is_set:
            return  # a resolver that ends late must not write beside stop(), which has the operator's files by now
        self._admission.trim()
        if self._outbox is not None:
            self._outbox.watch()
        if self._operator is not None:
            self._operator.poll()

    def _status(self) -> dict[str, Any]:
        """What status.json says."""
        try:
            more = {} if self._health is None else dict(self._health())
        except (Exception, SystemExit) as error:
            more = {"health_error": f"{type(error).__name__}: {error}"[:500]}
        return {"name": self.config.name, **self._snapshot().as_dict(), **more}

    def _bind_account(self) -> str:
        with self._changed:
            if self._prefix is not None:
                return self._prefix
        account = self._adapter.account
        self._journal.bind(account)
        prefix = prefix_of(account, self.config.name)
        with self._changed:
            self._prefix = prefix
        return prefix

    def recover(self) -> RecoveryReport:
        """What the start found; starts first where that is still to be done."""
        return self.start()

    def stop(self, timeout: float = STOP_TIMEOUT) -> tuple[str, ...]:
        """
        Send nothing more, let requests that are on their way end, and close the journal; idempotent.

        Waits for nothing unknown: the next start goes on with it. In a signal handler that interrupted start() or another
        stop() of its own thread it only makes sure that nothing more is sent, and answers at once.

        Args:
            timeout: Seconds for everything.

        Returns:
            Ids of the transactions that are not decided, which are also logged.
        """
        if os.getpid() != self._pid:
            return ()  # a forked child: the threads, the journal and its lock are the parent's
        ours, phase = False, "open"  # a stop that is interrupted by Ctrl-C, wherever, can be done again
        try:
            with self._changed:
                interrupts = self._phase in ("starting", "stopping") and self._mover == threading.get_ident()
            if interrupts:  # a wait for it would be a wait for this very thread
                self._stop.set()
                return ()
            with self._changed:
                settled = self._clock.wait_for(
                    self._changed, lambda: self._phase not in ("starting", "stopping"), timeout + 5.0
                )
                if self._phase != "open":
                    self._phase = "stopped" if settled else self._phase
                    return ()
                ours = True
                self._phase = "stopping"
                self._mover = threading.get_ident()
            undecided = self._close(self._admission.close(), timeout)
            phase = "stopped"
            return undecided
        finally:
            if ours:
                with self._changed:
                    self._phase = phase
                    self._changed.notify_all()

    def _close(self, threads: list[threading.Thread], timeout: float) -> tuple[str, ...]:
        deadline = self._clock.monotonic() + timeout
        self._stop.set()
        self._gate.nudge()
        for transaction in self._ledger.live():
            transaction.nudge()
        join_all(threads, timeout=timeout, clock=self._clock)
        self._resolver_stop.set()
        self._resolver.join(max(1.0, deadline - self._clock.monotonic()))
        if self._operator is not None:
            self._operator.close()
        if self._outbox is not None:
            self._outbox.stop(min(OUTBOX_TIMEOUT, max(0.2, deadline - self._clock.monotonic())))
        undecided = tuple(transaction.id for transaction in self._ledger.undecided())
        self._journal.close()
        if undecided:
            _log.warning(
                "pipeline %s: stopped with %d undecided: %s; the next start goes on with them",
                self.config.name,
                len(undecided),
                ", ".join(undecided),
            )
        return undecided

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ClosedError(
                f"pipeline {self.config.name}: belongs to process {self._pid}; make a new one after fork()"
            )

    # -- transactions -----------------------------------------------------------------------------------------

    def create_transaction(
        self,
        *,
        type: str,  # noqa: A002 - the original's name
        symbol: str,
        amount: object,
        exchange: str | None = None,
        price: object = None,
        stop_price: object = None,
        idempotency_key: str | None = None,
        commit: str | None = None,
        on_partial: str = "raise",
        timeout: float | None = None,
    ) -> Transaction:
        """
        Describe an order; nothing is sent.

        Args:
            type: market_buy, market_sell, limit_buy, limit_sell, stop_limit_buy, stop_market_sell and so on.
            symbol: "BTC/USDT", "BTCUSDT" or "btc-usdt".
            amount: In the base currency: Decimal, text, int, or float (taken as the decimal it prints as).
            exchange: None or the adapter's name.
            price: Limit price; for a market order the price it is expected at, read from the book when left out.
            stop_price: Trigger of a stop order.
            idempotency_key: The same key and order give the same transaction, also after a restart: use it.
            commit: What makes it a success: "accepted" (live at the exchange), "filled", or "filled_or_cancel"
                (filled within `timeout`, else cancelled). None: "filled" for market orders, else "accepted".
            on_partial: "raise", or "accept" to count an order that was filled in part as a success.
            timeout: Seconds from the send until an order that is not as `commit` asks is cancelled; what was filled
                until then is kept. None waits for ever, but "filled_or_cancel" takes `verification_timeout`.

        Raises:
            ConfigError: A word that is not one of the choices, or another exchange's name.
            InvalidOrderError: A number or symbol that cannot be an order's.
            IdempotencyConflictError: The key belongs to another order.
            JournalError, ClosedError: See start().
        """
        if exchange is not None and exchange != self._adapter.name:
            raise ConfigError(
                f"exchange: this pipeline trades at {self._adapter.name!r}, got {exchange!r:.80}",
                setting="exchange",
                value=exchange,
                allowed=self._adapter.name,
            )
        record = make_record(
            txn_id=new_id(self._clock.time()),
            type=type,
            symbol=symbol,
            amount=amount,
            price=price,
            stop_price=stop_price,
            idempotency_key=idempotency_key,
            commit=commit,
            on_partial=on_partial,
            timeout=timeout,
            created=self._clock.time(),
            patience=self.config.verification_timeout,
        )
        record = with_symbol(record, self._adapter.validate(record.order).symbol)
        self.start()
        if idempotency_key is None:
            return Transaction(record, clock=self._clock)
        return self._keys.transaction(idempotency_key, record)

    def submit(self, transaction: Transaction) -> Handle:
        """
        Hand a transaction over to its own thread; a second call joins the first.

        Raises:
            JournalPoisonedError: The journal failed earlier: nothing is sent until a restart.
            JournalError, ClosedError: See start().
        """
        if not isinstance(transaction, Transaction):
            raise ConfigError(
                f"transaction: must be what create_transaction() returns, got {transaction!r:.60}",
                setting="transaction",
            )
        self.start()
        if self._journal.poisoned:
            raise JournalPoisonedError(f"pipeline {self.config.name}: the journal failed; restart; nothing was sent")
        caller = object()
        try:
            if not transaction.begin(caller):
                # One of an earlier process has no runner that will answer, so the wait has an end of its own.
                return Handle(transaction, self.config.verification_timeout if transaction.restored else None)
            self._admit(transaction)
        except NotSentError as error:
            self._admission.refuse(transaction, error)
        except BaseException as error:
            if transaction.is_owned_by(caller):
                wrapped = error if isinstance(error, HireliabError) else None
                self._admission.refuse(transaction, wrapped or NotSentError(f"transaction {transaction.id}: {error!r}"))
            raise
        return Handle(transaction, None)

    def _admit(self, transaction: Transaction) -> None:
        prefix = self._bind_account()
        transaction.name_order(f"{prefix}-{transaction.id}")
        self._admission.admit(transaction)

    def execute(self, transaction: Transaction) -> TransactionResult:
        """
        Execute a transaction and wait for its verdict.

        Returns:
            The result; its verdict is UNKNOWN when the outcome is not known within `verification_timeout`, and
            ``bool(result)`` then raises. Never raises for what happened to the order.

        Raises:
            IdempotencyConflictError: The key was taken by another order at the same moment; nothing was sent.
            JournalError, ClosedError: See start().
        """
        result = self.submit(transaction).result()
        if isinstance(result.error, IdempotencyConflictError):
            raise result.error
        return result

    def execute_transaction(self, transaction: Transaction) -> bool:
        """
        Execute a transaction; True when a read of the exchange shows that its goal is reached.

        Returns:
            True: reached. False: proven that nothing is live and nothing was filled.

        Raises:
            PartialFillError: The exchange closed it with a part filled (unless on_partial="accept").
            OutcomeUnknownError: It may be live. Do not send it again; see wait_resolved() and get().
            TransactionDeniedError: Refused before sending by halt, limits, the duplicate guard or the recovery gate.
            InvalidOrderError: Refused before sending because the order breaks a rule.
            IdempotencyConflictError, JournalError, ClosedError: See execute().
        """
        return bool(self.execute(transaction))

    def cancel(self, transaction_id: str) -> TransactionResult:
        """
        Cancel a transaction's order at the exchange, and verify that it is closed.

        The cancel is a transaction of its own (a child row), so that it survives a crash like an order does.

        Returns:
            The child's result: CANCELLED (nothing was filled), PARTIAL, COMPLETED (it was filled before the cancel),
            NOT_SENT, or UNKNOWN. ``bool(result)`` is True when the cancel closed the order.

        Raises:
            InvalidOrderError: There is no such transaction, or it has no order that could be cancelled.
            OutcomeUnknownError: The order itself has not been found yet.
        """
        parent = self._known(transaction_id)
        child = Transaction(cancel_of(parent.record, wall=self._clock.time()), clock=self._clock)
        result = self.submit(child).result()
        close_parent(self._ledger, parent, child.record)
        return result
