"""The part of ``hireliab venue check`` that places one small order: through the pipeline, with a journal of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from hireliab.core import money
from hireliab.core._threads import Stop
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.exchange._handle import Handle
from hireliab.exchange._nobitex_survey import Facts, Placed
from hireliab.exchange._nobitex_survey_order import with_client_id
from hireliab.exchange._nobitex_survey_reads import Notebook, Reads, Watch
from hireliab.exchange.adapter import Order
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.nobitex_client import NobitexClient
from hireliab.exchange.transaction import TransactionResult, Verdict
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline

NAME = "venue-check"
APART = 12.0
"""Seconds between equal orders: the exchange ignores the second of two within 10 s."""
HALF = {"scale": 0.5}
"""Of every rate limit."""
GRACE = 15.0
"""Seconds after the pipeline's verdict in which the closed order should show everywhere."""
PATIENCE = 120.0
"""Seconds to wait for a verdict that did not come in time."""

_NOTHING_LIVE = (
    Verdict.NOT_SENT, Verdict.DENIED, Verdict.REJECTED, Verdict.CLOSED_UNFILLED, Verdict.CANCELLED, Verdict.FENCED,
)  # fmt: skip


def describe(order: Order, last: Decimal, *, where: str, who: str, hold: float, twice: bool, folder: Path) -> str:
    """What will be placed, for the person who has to agree."""
    price = order.price or money.ZERO
    away = abs(float(money.divide(price, last)) - 1) * 100
    quote = order.symbol.partition("/")[2]
    return (
        f"This will place {'two real orders' if twice else 'one real order'} at {where} (account: {who}):\n"
        f"  {'twice: ' if twice else ''}limit {order.side} {money.text(order.amount)} {order.symbol} at {money.text(price)}"
        f"{' rial' if quote == 'IRT' else ''}, worth {money.text(money.multiply(order.amount, price))},\n"
        f"  {away:.0f} % {'below' if order.side == 'buy' else 'above'} the last price of {money.text(last)}, so that it rests;\n"
        f"  and cancel {'both' if twice else 'it'} about {hold:g} s later. The cancel is decided before the order is sent and survives a crash:\n"
        f"  the journal is in {folder}, and the next run goes on with what this one leaves."
    )


def place(
    order: Order,
    last: Decimal,
    *,
    pool: ConnectionPool[NobitexClient],
    reads: Reads,
    notebook: Notebook,
    facts: Callable[[Placed], Facts],
    folder: Path,
    hold: float,
    twice: bool,
    say: Callable[[str], None],
    clock: Clock = SYSTEM_CLOCK,
) -> tuple[Placed, list[TransactionResult], tuple[str, ...]]:
    """
    Place it, look at it, let the pipeline cancel it, and look again.

    Args:
        twice: Place an equal one, with a client order id of its own, once the first was seen.

    Returns:
        What was placed, the pipeline's results, and the ids of transactions that are still undecided.

    Raises:
        HireliabError: The journal cannot be used; nothing was sent.
    """
    notebook.may_change, notebook.most = True, None
    # The reads have limits of their own: each of the two gets half of what the venue allows.
    adapter = EnhancedNobitexAdapter({"connection_pool": pool, "rate_limits": HALF}, clock=clock)
    adapter.initialize()
    pipeline = TransactionVerificationPipeline(exchange_adapter=adapter, journal=folder, name=NAME, clock=clock)
    placed = Placed(
        order=order,
        last=last,
        verdict="UNKNOWN",
        window=pipeline.config.visibility_window,
        patience=pipeline.config.verification_timeout,
    )
    try:
        with pipeline:
            if pipeline.unresolved():
                say("an earlier run has left an order; finding out what became of it first")
                pipeline.wait_resolved(PATIENCE)
            _space(pipeline, clock)

            def submit() -> Handle:
                return pipeline.submit(
                    pipeline.create_transaction(
                        type=f"limit_{order.side}",
                        symbol=order.symbol,
                        amount=order.amount,
                        price=order.price,
                        commit="filled_or_cancel",
                        on_partial="accept",
                        timeout=hold,
                    )
                )

            handles = [submit()]
            placed = with_client_id(placed, handles[0].transaction.client_order_id)
            watch = Watch(reads, lambda: facts(placed), clock)
            try:
                watch.run(
                    is_over=lambda: all(handle.done for handle in handles),
                    once_seen=(lambda: handles.append(submit())) if twice else None,
                    grace=GRACE,
                    most=hold + GRACE + PATIENCE,
                )
            except KeyboardInterrupt:
                say("waiting for the cancel of the order; Ctrl-C again leaves it to the next run of this command")
            except Exception as error:  # the order matters more than what is learnt from it
                say(f"looking at the order failed ({type(error).__name__}: {error}); waiting for its cancel")
            for handle in handles:
                handle.result()
            if pipeline.unresolved():
                say("an outcome is not known yet; looking on")
                pipeline.wait_resolved(PATIENCE)
            results = [handle.transaction.result() for handle in handles]
            undecided = tuple(t.id for t in pipeline.unresolved())
    finally:
        adapter.stop()
    return dataclasses.replace(placed, verdict=results[0].verdict.value), results, undecided


def _space(pipeline: TransactionVerificationPipeline, clock: Clock) -> None:
    """Wait until the exchange would not take the order for the one of a run just before."""
    for earlier in pipeline.transactions(limit=1):
        sent = earlier.record.sent_wall
        if sent is not None:
            Stop(clock).sleep(min(APART, max(0.0, sent + APART - clock.time())))


def was_sent(result: TransactionResult) -> bool:
    """Whether the exchange was asked at all."""
    return result.verdict not in (Verdict.NOT_SENT, Verdict.DENIED)


def is_closed(result: TransactionResult) -> bool:
    """Whether it is proven that nothing of it rests in the book."""
    return result.verdict in _NOTHING_LIVE or result.order_status in ("Done", "Canceled", "Rejected")
