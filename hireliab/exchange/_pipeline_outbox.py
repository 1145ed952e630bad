"""The outbox of a pipeline: its journal's events and a message bus."""

from __future__ import annotations

from hireliab.core.clock import Clock
from hireliab.exchange._ledger import Ledger
from hireliab.exchange._pipeline_settings import PipelineConfig
from hireliab.exchange.journal import Journal
from hireliab.messaging.outbox import EventBus, Outbox


def outbox_of(
    bus: EventBus | None, *, journal: Journal, ledger: Ledger, config: PipelineConfig, clock: Clock
) -> Outbox | None:
    """Attached to the journal, and not started; None without a bus."""
    if bus is None:
        return None
    outbox = Outbox(
        bus,
        name=config.name,
        pending=journal.pending_events,
        mark_published=journal.mark_published,
        backlog=journal.event_backlog,
        drop=journal.drop_events,
        alert=ledger.alert,
        keep_unrouted=config.unrouted_events == "keep",
        clock=clock,
    )
    journal.attach_outbox(outbox.wake)
    return outbox
