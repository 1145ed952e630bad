"""
Resolver: one thread that finds out what became of every order whose outcome is not known.

It looks up single orders by id or client id, which may run fast, and asks for listings, which are few and serve every
case at once: one that was started after a case came up is good for it. An error, a throttle or an open breaker is
never a negative. It also follows the orders that rest in the book until they close.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from hireliab.core import _kill_points, money
from hireliab.core._threads import Stop, join_all, run_forever, start_thread
from hireliab.core.clock import Clock
from hireliab.errors import NotSentError, OrderNotFoundError
from hireliab.exchange import evidence
from hireliab.exchange._commit_rule import CommitRule
from hireliab.exchange._conclusion import conclude
from hireliab.exchange._ledger import Ledger
from hireliab.exchange._orphans import Orphans
from hireliab.exchange._pipeline_settings import PipelineConfig
from hireliab.exchange._resolver_case import (
    CANCEL_AGAIN_AFTER,
    LOOKUP_DELAYS,
    LOOKUP_SPACING,
    Case,
    listing_pace,
    lookup_pace,
)
from hireliab.exchange._resolver_sight import Sight
from hireliab.exchange._verified_calls import CallBook
from hireliab.exchange._watching import FEW, Watching
from hireliab.exchange.adapter import (
    Absent,
    ExchangeAdapter,
    FillListing,
    Found,
    OrderListing,
    OrderRead,
    OrderState,
    Unavailable,
)
from hireliab.exchange.transaction import Proof, Record, State, Transaction, seen

_log = logging.getLogger("hireliab.transactions")

_IDLE = 3600.0


class Resolver:
    """The one owner of every transaction that no runner has."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        adapter: ExchangeAdapter,
        config: PipelineConfig,
        clock: Clock,
        stop: Stop,
        orphans: Orphans,
        calls: CallBook,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._orphans = orphans
        self._calls = calls
        self._on_step = on_step
        self._adapter = adapter
        self._config = config
        self._clock = clock
        self._stop = stop
        # Guards _incoming; re-entrant: a signal handler may ask on the thread that has it.
        self._lock = threading.RLock()
        self._incoming: list[Case] = []
        self._first: OrderListing | None = None  # set before the thread starts
        self._cases: dict[str, Case] = {}  # the resolver thread's own, like everything below
        self._last_listing = self._last_resting = -_IDLE
        self._sight = Sight(ledger=ledger, clock=clock)
        self._thread: threading.Thread | None = None
        self._told_no_ids = False
        self._kept_capability: bool | None = None
        self.commit_rule = CommitRule(ledger=ledger, adapter=adapter, clock=clock, check_open=self._check_open)
        self._watching = Watching(
            ledger=ledger,
            adapter=adapter,
            clock=clock,
            most=config.afterwatch,
            resurrected=self._take_back,
            saw=self._sight.saw,
            guarded=self._guarded,
        )

    def start(self, first: OrderListing | None) -> None:
        """
        Start the thread.

        Args:
            first: A listing that was started after the journal's lock was taken: it serves every recovered case,
                because the process that sent their orders was dead by then.
        """
        self._first = first
        self._thread = start_thread(
            lambda: run_forever(self.step, self._stop, what="resolver"), name=f"hireliab.resolver.{self._config.name}"
        )

    @property
    def is_started(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_blind(self) -> bool:
        """Whether something is undecided, and for a minute no read of the exchange has worked."""
        return self._sight.is_blind

    def join(self, timeout: float) -> None:
        """Wait for the thread to end; the stop flag is the caller's."""
        if self._thread is not None:
            join_all([self._thread], timeout=timeout)

    def add(self, transaction: Transaction, *, refused: bool = False) -> None:
        """
        Take over an undecided transaction, now that no more bytes of it will leave.

        Args:
            transaction: In RESOLVING, UNKNOWN, ACKED, WORKING or CANCELLING.
            refused: The venue said no but hinted at an equal order: nothing can arrive late, so the fence is now.
        """
        now = self._clock.monotonic()
        bound = self._config.late_arrival_bound
        if bound is None:
            bound = self._adapter.capabilities.late_arrival_bound
        proof = evidence.AbsenceProof(fence=now + (0.0 if refused else bound), window=self._config.visibility_window)
        with self._lock:
            self._incoming.append(Case(transaction, proof, now, refused, next_look=now))
        self._stop.wake()

    def _take_back(self, transaction: Transaction, order: OrderState) -> None:
        """A transaction that was presumed absent is not."""
        self.add(transaction)
        conclude(transaction, order, ledger=self._ledger)

    def follow(self) -> None:
        """Wake up: an order rests in the book now."""
        self._stop.wake()

    # -- the loop ---------------------------------------------------------------------------------------------

    def step(self) -> float | None:
        """Do what is due; returns the seconds until the next step."""
        with self._lock:
            incoming, self._incoming = self._incoming, []
        for place, case in enumerate(incoming):
            if len(incoming) > FEW:  # a recovery: a listing serves them all, single look-ups would go over the limit
                case.next_look += (place + 1) * LOOKUP_SPACING
            self._cases[case.transaction.id] = case
        if self._first is not None:
            first, self._first = self._first, None
            self._use(first, list(self._cases.values()))
        for case in list(self._cases.values()):
            self._on_step()
            if self._stop.is_set:
                return None
            if case.transaction.state.is_terminal:
                self._close(case)
            elif case.next_look <= self._clock.monotonic():
                self._guarded(case.transaction, partial(self._look, case))
        if not self._stop.is_set and self._listing_due() <= 0:
            self._list()
        if not self._stop.is_set and self._resting_due() <= 0:
            self._last_resting = self._clock.monotonic()
            self._watching.look_at_resting()
        self._on_step()
        self._sight.watch(len(self._cases))
        self._keep_capability()
        return self._pause()

    def _guarded(self, transaction: Transaction, work: Callable[[], None]) -> None:
        """One transaction's trouble must not keep the others waiting."""
        try:
            work()
        except (Exception, SystemExit):
            _log.exception("transaction %s: the resolver failed; looking again later", transaction.id)
            case = self._cases.get(transaction.id)
            if case is not None:
                case.next_look = self._clock.monotonic() + LOOKUP_DELAYS[-1]

    def _close(self, case: Case) -> None:
        self._cases.pop(case.transaction.id, None)

    def _pause(self) -> float:
        now = self._clock.monotonic()
        waits = [max(0.0, case.next_look - now) for case in self._cases.values()]
        waits += [self._listing_due(), self._resting_due()]
        if self._config.operator_interval is not None:
            waits.append(self._config.operator_interval)
        with self._lock:
            if self._incoming:
                return 0.0
        return max(0.0, min(waits))

    def _listing_due(self) -> float:
        """Seconds until the next listing is due; 0 or less when it is."""
        now = self._clock.monotonic()
        pace = self._config.listing_interval
        paces = [listing_pace(now - c.added, pace) for c in self._cases.values() if c.is_lost]
        waits = [self._last_listing + min(paces) - now] if paces else []
        # Not more often than listings may be, whatever failed the last time.
        soonest = self._last_listing + self._config.watch_interval
        watched = [t for t in self._ledger.live() if t.record.watch_until is not None]
        waits += [max(self._watching.due(t), soonest) - now for t in watched]
        return min(waits, default=_IDLE)

    def _resting_due(self) -> float:
        """Seconds until the orders that rest in the book are looked at; 0 or less when it is time."""
        if not any(t.record.is_open_at_venue for t in self._ledger.live()):
            return _IDLE
        return self._last_resting + self._config.watch_interval - self._clock.monotonic()

    # -- single look-ups --------------------------------------------------------------------------------------

    def _look(self, case: Case) -> None:
        record = case.transaction.record
        age = self._clock.monotonic() - case.added
        case.looks += 1
        started = self._clock.monotonic()
        if record.kind == "CALL":
            read = self._calls.look(record)
        elif record.order_id is not None and not (case.is_second_look and record.kind == "ORDER"):
            read = self._adapter.find_by_id(record.order_id)
        else:
            read = self._adapter.find_by_client_id(record.order.client_order_id)
        # Counted from the end of the read: a dead exchange must not keep the thread in one case's time-outs.
        delay = lookup_pace(case.looks, age, cases=len(self._cases), shortest=self._config.listing_interval)
        left = self.commit_rule.time_left(case.transaction)
        case.next_look = self._clock.monotonic() + (min(delay, left) if left > 0 else delay)
        if record.kind != "CALL" or self._calls.knows(record):
            self._sight.saw(read)
        if _kill_points.ARMED and isinstance(read, Absent):
            _kill_points.at("L20")
        if record.kind == "CALL":
            self._look_at_call(case, record, read, started)
        elif isinstance(read, Found):
            conclude(case.transaction, read.order, ledger=self._ledger)
            if evidence.speaks_of(record, read.order) and record.kind == "ORDER":
                if evidence.has_fields_of(record.order, read.order):
                    case.unknown_id = False
                else:
                    self._shout(case, record, (read.order.order_id,), "a venue order that is different carries its id")
            if case.transaction.record.is_rollback and evidence.speaks_of(case.transaction.record, read.order):
                self._cancel_again(case, read.order)
        elif isinstance(read, Absent) and record.order_id is not None and record.kind == "ORDER":
            self._lost_by_id(case, record)
        self.commit_rule.enforce(case.transaction)
        if case.transaction.state.is_terminal:
            self._close(case)

    def _look_at_call(self, case: Case, record: Record, read: OrderRead, started: float) -> None:
        """A call of the user's own function, seen through the user's own look-up."""
        if isinstance(read, Found):
            cause = f"the look-up shows {read.order.raw_status or read.order.status.value or 'it'}"
            self._ledger.move(
                case.transaction,
                record,
                "T11",
                State.COMPLETED,
                cause=cause,
                proof=Proof.LIVE,
                reason="",
                candidates=(),
                needs_human=False,
                **seen(read.order),
            )
        elif isinstance(read, Absent) and self._calls.complete(record):
            if case.proof.negative(started=started, canary_shown=True):
                self._absent(case, record)
        elif not self._calls.knows(record):
            self._shout(case, record, (), "no look-up is known for its function, so only a person can find out")

    def _lost_by_id(self, case: Case, record: Record) -> None:
        """The venue gave an id and does not know it: after the visibility window that is a riddle for listings."""
        if self._clock.monotonic() - case.added <= self._config.visibility_window:
            return
        if not case.unknown_id:
            case.unknown_id = True
            case.proof.restart()
        if record.state in (State.ACKED, State.WORKING):
            cause = f"order {record.order_id} not found by its id"
            self._ledger.move(case.transaction, record, "T13", State.RESOLVING, cause=cause)

    def _cancel_again(self, case: Case, order: OrderState) -> None:
        now = self._clock.monotonic()
        if order.status.is_closed or now < case.next_cancel:
            return
        case.next_cancel = now + CANCEL_AGAIN_AFTER
        try:
            prepared = self._adapter.prepare_cancel(order.order_id)
            conclude(case.transaction, prepared.submit(self._check_open), ledger=self._ledger)
        except OrderNotFoundError:
            pass  # the next look by id tells
        except Exception as error:
            self._ledger.note(case.transaction, case.transaction.record, cause=f"cancel again: {error}")

    def _check_open(self) -> None:
        """Run just before the first byte of a repeated cancel."""
        if self._stop.is_set or self._ledger.journal.poisoned:
            raise NotSentError(f"pipeline {self._config.name}: stopped, or its journal failed; nothing was sent")

    # -- listings ---------------------------------------------------------------------------------------------

    def _list(self) -> None:
        started = self._last_listing = self._clock.monotonic()
        lost = [
            c for c in self._cases.values() if c.is_lost and not c.transaction.state.is_terminal and c.added <= started
        ]
        watched = [t for t in self._ledger.live() if t.record.watch_until and self._watching.due(t) <= started]
        floors = [int(c.transaction.record.baseline) for c in lost]
        floors += [int(t.record.baseline) for t in watched]
        if not floors:
            return
        orders = self._adapter.list_orders_since(str(min(floors)))
        self._sight.saw(orders)
        if isinstance(orders, Unavailable):
            return
        self._use(orders, lost)
        for transaction in watched:
            self._guarded(transaction, partial(self._watching.look, transaction, orders))
        # Fills are asked for only where the orders did not tell: their pages are many when the bot is busy.
        lost = [case for case in lost if case.is_lost and not case.transaction.state.is_terminal]
        if not lost:
            return
        since = min(c.transaction.record.baseline_time for c in lost) - evidence.CLOCK_MARGIN
        fills = self._adapter.list_fills_since(since)
        self._ledger.metrics.count_read(fills)
        listed = fills if isinstance(fills, FillListing) else None
        for case in lost:
            self._guarded(case.transaction, partial(self._weigh, case, orders, listed))

    def _use(self, orders: OrderListing, cases: list[Case]) -> None:
        """Take from a listing what it shows of resting orders, of cases, and of orders that nobody knows."""
        by_id = {order.order_id: order for order in orders.orders}
        by_client_id: dict[str, list[OrderState]] = {}
        for order in orders.orders:
            if order.client_order_id is not None:
                by_client_id.setdefault(order.client_order_id, []).append(order)
        for transaction in self._ledger.live():
            shown = by_id.get(transaction.record.order_id or "")
            if shown is not None and transaction.record.is_open_at_venue:
                self._guarded(transaction, partial(self._watching.follow, transaction, shown))
        for case in cases:
            record = case.transaction.record
            ours = by_client_id.get(record.order.client_order_id, [])
            if not ours and record.order_id in by_id:
                ours = [by_id[record.order_id]]
            if len(ours) == 1 and record.kind != "CALL":
                self._guarded(case.transaction, partial(conclude, case.transaction, ours[0], ledger=self._ledger))
        if orders.orders:
            self._ledger.note_watermark(max(by_id, key=int))
            self._orphans.notice(orders.orders)

    def _keep_capability(self) -> None:
        """What the adapter has learnt of closed orders' client ids must survive a restart."""
        shown = self._adapter.capabilities.listing_shows_client_id
        if shown is not None and shown is not self._kept_capability:
            self._kept_capability = shown
            self._ledger.journal.note_fact("listing_shows_client_id", "yes" if shown else "no")

    def _weigh(self, case: Case, orders: OrderListing, fills: FillListing | None) -> None:
        transaction, record = case.transaction, case.transaction.record
        if record.state.is_terminal or not case.is_lost:
            return
        finding = evidence.search(
            record,
            orders.orders,
            () if fills is None else fills.fills,
            is_bound=lambda order_id: self._ledger.is_bound(order_id, to_other_than=record.txn_id),
        )
        finding = self._follow_leads(record, finding)
        if len(finding.ours) > 1 or (finding.ours and not evidence.has_fields_of(record.order, finding.ours[0])):
            self._shout(
                case, record, _ids(finding.ours), "several venue orders, or a different one, carry its client order id"
            )
        elif finding.ours:
            conclude(transaction, finding.ours[0], ledger=self._ledger)
        elif finding.candidates:
            case.proof.restart()
            self._tell_no_ids(finding.candidates)
            case.listings += orders.started >= case.proof.fence
            if case.listings >= evidence.NEGATIVES:
                self._shout(
                    case, record, _ids(finding.candidates), "venue orders without a client order id look like it"
                )
        elif finding.nameless:
            case.proof.restart()
            case.listings += orders.started >= case.proof.fence
            if case.listings >= evidence.NEGATIVES:
                self._shout(case, record, (), "fills that do not name their order could be its")
        elif finding.leads:
            case.listings += orders.started >= case.proof.fence
            if case.listings >= evidence.NEGATIVES:
                self._shout(case, record, finding.leads, "fills of venue orders that are not shown could be its")
        elif fills is not None and fills.since > record.baseline_time - evidence.CLOCK_MARGIN:
            case.listings += orders.started >= case.proof.fence
            if case.listings >= evidence.NEGATIVES:
                self._shout(
                    case, record, (), "it is not listed, and fills as old as it would be are not listed any more"
                )
        elif fills is not None:
            canary = self._ledger.canary(orders.started - self._config.visibility_window)
            shown = (
                canary is None
                or not evidence.is_newer(canary, orders.since)
                or any(order.order_id == canary for order in orders.orders)
            )
            if case.proof.negative(started=orders.started, canary_shown=shown):
                self._absent(case, record)

    def _follow_leads(self, record: Record, finding: evidence.Finding) -> evidence.Finding:
        """Fills may be visible before their orders are: ask for those orders by id."""
        if finding.ours or not finding.leads:
            return finding
        ours, candidates, open_leads = [], list(finding.candidates), []
        for order_id in finding.leads[:5]:
            read = self._adapter.find_by_id(order_id)
            if not isinstance(read, Found):
                open_leads.append(order_id)
            elif read.order.client_order_id == record.order.client_order_id:
                ours.append(read.order)
            elif read.order.client_order_id is None and evidence.has_fields_of(record.order, read.order):
                candidates.append(read.order)
        return evidence.Finding(tuple(ours), tuple(candidates), (*open_leads, *finding.leads[5:]), finding.nameless)

    def _absent(self, case: Case, record: Record) -> None:
        # All of it: only the acknowledgement said so, because a read would have decided it.
        if money.ZERO < record.filled < record.order.amount:
            self._shout(case, record, (), "a part of it was filled, and the exchange does not show it any more")
            return
        if record.state is State.CANCELLING:  # the exchange forgot an order that it had acknowledged
            back = self._ledger.move(case.transaction, record, "T15", State.UNKNOWN, cause="not found any more")
            if back is None:
                return
            record = back
        row = "T14" if record.state is State.RESOLVING else "T17"
        acknowledged = record.order_id is not None  # then neither a refusal nor a fence explains its absence
        if case.refused and not acknowledged:
            proof, watch = Proof.REJECTED, None
        elif self._adapter.capabilities.late_arrival_is_proof and not acknowledged:
            proof, watch = Proof.FENCED, None
        else:
            proof = Proof.ABSENT
            watch = self._clock.time() + self._config.afterwatch if self._config.afterwatch > 0 else None
        unseen = f"{evidence.NEGATIVES} complete listings after the fence do not show it"
        self._ledger.move(
            case.transaction,
            record,
            row,
            State.FAILED,
            cause=f"{record.reason or 'refused'}; {unseen}" if proof is Proof.REJECTED else unseen,
            proof=proof,
            watch_until=watch,
            needs_human=False,
        )

    def _shout(self, case: Case, record: Record, candidates: tuple[str, ...], why: str) -> None:
        """Only a person can decide this one: say so once, keep the candidates, go on looking."""
        if record.candidates != candidates or not record.needs_human:
            self._ledger.note(case.transaction, record, cause=why, candidates=candidates, needs_human=True, reason=why)
        if not case.shouted:
            case.shouted = True
            self._ledger.alert(
                "critical",
                f"{record.order.type} {record.order.side} {record.order.symbol}: needs a person",
                f"transaction {record.txn_id}: {': '.join(filter(None, (why, ', '.join(candidates))))}; look at the"
                " exchange's order history",
                record,
            )
            self._ledger.settled(record.txn_id)

    def _tell_no_ids(self, orders: tuple[OrderState, ...]) -> None:
        if not self._told_no_ids and any(order.status.is_closed for order in orders):
            self._told_no_ids = True
            self._ledger.alert(
                "warning",
                "The exchange hides client order ids",
                "closed orders are listed without their client order id; lost answers may stay undecidable",
            )


def _ids(orders: tuple[OrderState, ...]) -> tuple[str, ...]:
    return tuple(sorted(order.order_id for order in orders))
