"""Desk: the part of the pipeline's door that persons use: resolve, adopt, halt, alerts. Each word is kept with its name."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from hireliab.core import config
from hireliab.errors import ConfigError
from hireliab.exchange import _halt
from hireliab.exchange._admission import Admission
from hireliab.exchange._decision import Decisions
from hireliab.exchange._ledger import AlertSink
from hireliab.exchange._orphans import Orphans
from hireliab.exchange._pipeline_settings import PipelineConfig
from hireliab.exchange._pipeline_stats import PipelineStats
from hireliab.exchange._pipeline_views import Views
from hireliab.exchange._resolver import Resolver
from hireliab.exchange.adapter import OrderState, Unavailable
from hireliab.exchange.transaction import State, Transaction, TransactionResult
from hireliab.messaging.outbox import Outbox


class Desk(Views):
    """Base of TransactionVerificationPipeline."""

    config: PipelineConfig
    _orphans: Orphans
    _decisions: Decisions
    _admission: Admission
    _resolver: Resolver
    _outbox: Outbox | None
    _phase: str

    @abstractmethod
    def _bind_account(self) -> str:
        """Make sure whose orders these are; the prefix of their client order ids."""

    @property
    def state(self) -> str:
        """One of "new", "starting", "running", "stopping" and "stopped"; looking at it starts nothing."""
        phase = self._phase
        return "running" if phase == "open" else phase

    @property
    def parts(self) -> tuple[object, ...]:
        """What else is to be measured where the pipeline is: its adapter."""
        return (self._adapter,)

    def resolve(
        self,
        transaction_id: str,
        as_: str,
        *,
        evidence: str,
        who: str,
        order_id: str | None = None,
        filled: object = None,
    ) -> TransactionResult:
        """
        Decide a transaction whose outcome is not known, on a person's word; it is kept in the journal with their name.

        Args:
            as_: "completed"; "failed" (nothing of it exists, nothing was filled); "cancelled" (closed without a fill).
            evidence: What the person saw, for the record.
            who: Their name.
            order_id: The exchange's order, for "completed": it is read, and must be what was asked for.
            filled: How much was filled, for "completed" without an order id; the whole amount when left out.

        Raises:
            InvalidOrderError: There is no such transaction, it is decided, or the word contradicts the exchange.
            NotSentError, OutcomeUnknownError: The exchange could not be asked about `order_id`; nothing changed.
        """
        transaction = self._known(transaction_id)
        self._decisions.resolve(transaction, as_, evidence=evidence, who=who, order_id=order_id, filled=filled)
        return transaction.result()

    def add_alert_system(self, alert_system: AlertSink) -> None:
        """Alert here, too, from now on; its ``decided(id, verdict)``, if it has one, is called at every end."""
        self._ledger.add_alerts(alert_system)

    def orphans(self) -> tuple[str, ...]:
        """Venue ids of orders that carry our prefix and have no transaction, seen so far and not adopted yet."""
        self.start()
        return self._orphans.ids()

    def sweep_orphans(self) -> tuple[OrderState, ...]:
        """
        Look through the account's whole order list for orphans, as after restoring the journal from a back-up.

        An order of the last seconds may not be listed yet (`visibility_window`): look again after them.

        Raises:
            NotSentError, OutcomeUnknownError: The list could not be read.
        """
        self.start()
        self._bind_account()
        listing = self._adapter.list_orders_since("0")
        if isinstance(listing, Unavailable):
            raise listing.error
        return self._orphans.notice(listing.orders)

    def adopt(self, order_id: str, *, who: str) -> Transaction:
        """
        Take an orphan into the journal: it becomes a transaction, and is followed until it closes.

        Raises:
            InvalidOrderError: The exchange does not know it, it is not ours, or it has a transaction already.
            NotSentError, OutcomeUnknownError: The exchange could not be asked; nothing changed.
        """
        self.start()
        return self._decisions.adopt(order_id, who=who, prefix=self._bind_account())

    def halt(self, reason: str, *, who: str, mode: str = "HALTED") -> None:
        """
        Send no more orders, also after a restart, until `unhalt`. Cancels and look-ups go on.

        Args:
            mode: "HALTED", or "REDUCING": sells are still sent.

        Raises:
            ConfigError: Another mode, or a journal without a folder.
            JournalError: The file HALT cannot be written.
        """
        config.choice("mode", mode, _halt.MODES)
        config.text("who", who)
        reason = str(reason)[:500]  # a halt never fails for its words
        halt = _halt.Halt(mode=mode, reason=reason, who=who, since=self._clock.time())
        _halt.write(self._halt_folder(), halt)
        self._ledger.alert("critical", f"Trading is {mode.lower()}", f"by {who}: {reason}")

    def unhalt(self, *, who: str) -> bool:
        """End a halt; whether there was one."""
        ended = _halt.clear(self._halt_folder())
        if ended:
            self._ledger.alert("warning", "The halt has ended", f"by {who}")
        return ended

    @property
    def halted(self) -> _halt.Halt | None:
        """The halt that is in force, or None."""
        return None if self._journal.folder is None else _halt.read(self._journal.folder)

    def _halt_folder(self) -> Path:
        folder = self._journal.folder
        if folder is None:
            raise ConfigError("halt: this journal has no folder to keep it in", setting="journal")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def stats(self) -> PipelineStats:
        """What was done and what is open, as one snapshot."""
        self.start()
        return self._snapshot()

    def _snapshot(self) -> PipelineStats:
        metrics, now = self._ledger.metrics, self._clock.time()
        live = [transaction.record for transaction in self._ledger.live()]
        undecided = [record for record in live if not record.state.is_terminal and record.state is not State.NEW]
        halt = self.halted
        return PipelineStats(
            name=self.config.name,
            verdicts=metrics.verdicts.snapshot(),
            events=metrics.events.snapshot(),
            reads=metrics.reads.snapshot(),
            running=len(self._admission.threads),
            unresolved=len(undecided),
            oldest_unresolved=max((max(0.0, now - record.created) for record in undecided), default=None),
            needs_human=sum(record.needs_human for record in undecided),
            resting=sum(record.is_open_at_venue for record in live),
            watched=sum(record.watch_until is not None for record in live),
            orphans=len(self._orphans.ids()),
            halt=None if halt is None else halt.mode,
            resolver_alive=self._resolver.is_alive,
            blind=self._resolver.is_blind,
            phases={name: histogram.snapshot() for name, histogram in metrics.phases.items()},
            journal=self._journal.stats(),
            outbox=None if self._outbox is None else self._outbox.stats(),
        )
