"""The steps of the demo; each says in one sentence what it shows and why that matters, then what happened."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from hireliab import (
    AlertLevel,
    AlertSource,
    AlertSystem,
    CircuitBreaker,
    CircuitOpenError,
    ConnectError,
    PartialFillError,
    Transaction,
    TransactionResult,
    TransactionVerificationPipeline,
)
from hireliab.examples._demo_books import Belief, belief_of
from hireliab.examples._demo_bot import Bot, bot
from hireliab.examples._demo_screen import Screen, figure, seconds
from hireliab.examples._demo_venue import ADD, Venue

BASE, QUOTE = "BTC", "USDT"
SYMBOL = f"{BASE}/{QUOTE}"
MARKET = f"{BASE}{QUOTE}"
KILLED: dict[str, Any] = {
    "type": "market_buy",
    "symbol": SYMBOL,
    "amount": "0.03",
    "exchange": "nobitex",
    "idempotency_key": "rebalance-7",
}
"""The order of the bot that is killed. Its amount is used once here, so the truth file shows which one it is."""
START_CAP = 60.0
"""Seconds in which a process must have started and sent an order: one, where nothing else runs."""


@dataclass(kw_only=True)
class Stage:
    """
    What the steps share.

    Attributes:
        orders: Transaction id, label and whether the bot cancelled it, in the order of the steps.
        heirs: What the recovered bot believes; it has a journal of its own.
        events: Topics that the message bus delivered.
    """

    screen: Screen
    venue: Venue
    bot: Bot
    breaker: CircuitBreaker
    alerts: AlertSystem
    folder: Path
    orders: list[tuple[str, str, bool]] = field(default_factory=list)
    heirs: list[Belief] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def create(self, kind: str, amount: str, key: str, **more: Any) -> Transaction:
        """Describe an order and note it for the last table; nothing is sent yet."""
        transaction = self.bot.verifier.create_transaction(
            type=kind, symbol=SYMBOL, amount=Decimal(amount), exchange="nobitex", idempotency_key=key, **more
        )
        self.orders.append((transaction.id, f"{kind.replace('_', ' ')} {amount} {BASE}", False))
        return transaction

    def market_data(self) -> Any:
        """Order book, last price and statistics, through the bot's breaker and pool."""
        return self.breaker.execute(self.bot.pool.execute, "get_market_data", SYMBOL)

    def adds(self, client_order_id: str) -> int:
        """How many requests to place this order the exchange received, by its truth file."""
        return sum(
            record["kind"] == "request"
            and record["path"] == ADD.split()[1]
            and record["client_order_id"] == client_order_id
            for record in self.venue.records()
        )

    def show(self, transaction: Transaction, took: float) -> None:
        """Verdict and figures of a market order."""
        result = transaction.result()
        self.screen.fact("verdict", f"{result.verdict.value} after {seconds(took)}, proven by: {result.proof.value}")
        if result.average_price is not None:
            # Nobitex takes the fee from what is received: base currency for a buy, quote currency for a sell.
            fee = figure(result.fee, BASE if transaction.record.order.side == "buy" else QUOTE)
            self.screen.fact(
                "fill",
                f"{figure(result.filled, BASE)} at {figure(result.average_price, QUOTE)} on average, fee {fee}",
            )
            self.screen.fact("order", f"{result.order_id}, which the exchange shows as {result.order_status}")

    def show_path(self, result: TransactionResult) -> None:
        """The journal's states of an order with the time of each."""
        steps = [(wall, state) for wall, state, _ in result.timeline if state != "NEW"]
        path = [f"{state} +{(wall - steps[0][0]) * 1000:.0f} ms" for wall, state in steps]
        self.screen.fact("journal", ", ".join(path))

    def settle(self) -> None:
        """Let the alerts of a step come out before the next one begins; a real bot never waits for them."""
        give_up = time.monotonic() + 2.0
        while time.monotonic() < give_up:
            if not any(c.queued or c.in_flight for c in self.alerts.status().channels.values()):
                return
            time.sleep(0.01)


def timed(verifier: TransactionVerificationPipeline, transaction: Transaction) -> tuple[TransactionResult, float]:
    """Execute, and the seconds that it took."""
    began = time.perf_counter()
    result = verifier.execute(transaction)
    return result, time.perf_counter() - began


# -- the steps ----------------------------------------------------------------------------------------------------


def show_market_data(stage: Stage) -> None:
    """Step 1."""
    screen = stage.screen
    screen.step(
        "Market data through pool and breaker",
        "Every read borrows a kept-alive connection from a pool and passes a circuit breaker, so that threads share"
        " connections safely and a dead exchange cannot hang the loop.",
    )
    took = []
    for _ in range(5):
        began = time.perf_counter()
        data = stage.market_data()
        took.append(time.perf_counter() - began)
    screen.fact("best ask", figure(data.best_ask, f"{QUOTE} per {BASE}"))
    screen.fact("best bid", figure(data.best_bid, f"{QUOTE} per {BASE}"))
    screen.fact("5 reads", f"median {seconds(statistics.median(took))}, slowest {seconds(max(took))}")
    stats = stage.bot.pool.stats()
    screen.fact("pool", f"{stats.created} connection made, lent {stats.acquired} times")
    screen.fact("breaker", stage.breaker.current_state)


def buy(stage: Stage) -> None:
    """Step 2."""
    stage.screen.step(
        "A verified market buy",
        "The intent is on disk before the first byte leaves, and the verdict is a read of the exchange, not the"
        " answer to the order: True means that it is really filled.",
    )
    transaction = stage.create("market_buy", "0.01", "rebalance-2")
    result, took = timed(stage.bot.verifier, transaction)
    stage.show(transaction, took)
    stage.show_path(result)
    stage.screen.fact("returned", f"execute_transaction() says {bool(result)}")


def rest_and_cancel(stage: Stage) -> None:
    """Step 3."""
    stage.screen.step(
        "A limit order accepted, then cancelled",
        "A limit order is a success when the exchange shows it live; its cancel is journalled and verified like an"
        " order, because an order may fill while it is being cancelled.",
    )
    price = stage.market_data().best_bid * Decimal("0.95")
    transaction = stage.create("limit_buy", "0.002", "rebalance-3", price=price)
    result, took = timed(stage.bot.verifier, transaction)
    stage.screen.fact(
        "accepted",
        f"{result.verdict.value} after {seconds(took)}: order {result.order_id} is {result.order_status} at"
        f" {figure(transaction.record.order.price or Decimal(0), QUOTE)}, 5 % below the market",
    )
    began = time.perf_counter()
    cancel = stage.bot.verifier.cancel(transaction.id)
    stage.screen.fact(
        "cancelled",
        f"{cancel.verdict.value} after {seconds(time.perf_counter() - began)}: the exchange shows"
        f" {cancel.order_status}, {figure(cancel.filled, BASE)} filled",
    )
    stage.orders[-1] = (*stage.orders[-1][:2], True)


def lose_the_answer(stage: Stage) -> None:
    """Step 4."""
    stage.screen.step(
        "An order whose answer is lost after it executed",
        "The commonest way to lose money: the exchange filled the order and the answer never came. A bot that sends"
        " again sells twice; this one looks until it finds the order.",
    )
    stage.venue.admin("/faults", route=ADD, kind="answer_lost", count=1)
    transaction = stage.create("market_sell", "0.02", "rebalance-4")
    result, took = timed(stage.bot.verifier, transaction)
    stage.screen.fact("fault", "the exchange executed the order, then closed the connection without an answer")
    stage.screen.fact("bot saw", type(result.error).__name__ if result.error is not None else "an answer")
    stage.show(transaction, took)
    stage.show_path(result)
    stage.screen.fact("sent", f"{stage.adds(result.client_order_id)} request to place it arrived at the exchange")


def fill_a_part(stage: Stage) -> None:
    """Step 5."""
    stage.screen.step(
        "A market order that the collar fills in part",
        "Nobitex fills a market order only within 1 % of the expected price and cancels the rest; that is neither True"
        " nor False, so the caller gets an error that carries both amounts.",
    )
    stage.venue.admin("/book", market=MARKET, thin="0.004")
    transaction = stage.create("market_buy", "0.012", "rebalance-5")
    began = time.perf_counter()
    try:
        stage.bot.verifier.execute_transaction(transaction)
        stage.screen.fact("returned", "True: the book was deeper than this demo wanted")
    except PartialFillError as error:
        stage.screen.fact(
            "raised",
            f"PartialFillError: {figure(error.filled, BASE)} filled, {figure(error.remaining, BASE)} not",
        )
    stage.show(transaction, time.perf_counter() - began)
    stage.venue.admin("/book", market=MARKET, mid="98000")


def cut_off(stage: Stage) -> None:
    """Step 6."""
    screen = stage.screen
    screen.step(
        "The exchange cut off, and back",
        "While the exchange is gone the breaker answers at once instead of making every thread wait, an order that"
        " never left is a proven False, and the bot recovers by itself.",
    )
    stage.venue.admin("/down")
    failed = []
    while True:
        began = time.perf_counter()
        try:
            stage.market_data()
        except CircuitOpenError as error:
            refused, wait = time.perf_counter() - began, error.retry_after
            break
        except ConnectError:
            failed.append(time.perf_counter() - began)
    screen.fact("cut off", f"{len(failed)} reads failed with ConnectError, the slowest after {seconds(max(failed))}")
    screen.fact(
        "breaker",
        f"{stage.breaker.current_state}: the next read failed after {refused * 1e6:.0f} µs without touching the"
        f" network, and says to come back in {seconds(wait or 0.0)}",
    )
    result, took = timed(stage.bot.verifier, stage.create("market_buy", "0.015", "rebalance-6"))
    screen.fact("order", f"{result.verdict.value} after {seconds(took)}: execute_transaction() says {bool(result)}")
    screen.fact("why", result.reason)
    stage.venue.admin("/up")
    screen.fact("back", "the exchange can be reached again")
    states: list[str] = []
    while not states or states[-1] != "closed":
        try:
            stage.market_data()
        except CircuitOpenError as error:
            time.sleep(error.retry_after or 0.05)
        if not states or states[-1] != stage.breaker.current_state:
            states.append(stage.breaker.current_state)
    screen.fact("breaker", f"{' -> '.join(states)}, by the reads that the bot makes anyway")
    # The first one is decided for good, so this is a new order with a key of its own.
    result, took = timed(stage.bot.verifier, stage.create("market_buy", "0.015", "rebalance-6-again"))
    screen.fact("order again", f"{result.verdict.value} after {seconds(took)}: a new transaction, sent and filled")


def kill_a_bot(stage: Stage) -> None:
    """Step 7."""
    screen = stage.screen
    screen.step(
        "A bot killed between send and answer, and its recovery",
        "The process dies when the order is at the exchange and the answer is not back: the worst moment. A new one"
        " on the same journal must find the order, and must not send it again.",
    )
    stage.venue.admin("/faults", route=ADD, kind="delay", seconds=30, count=1)
    journal = str(stage.folder / "journal-of-the-killed-bot")
    given = {"where": dict(stage.venue.where), "journal": journal, "name": "killed", "order": KILLED}
    # Its own program in its own process; the keys go through a pipe, because anybody can read a command line.
    child = subprocess.Popen(
        [sys.executable, "-m", "hireliab.examples._demo_bot"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert child.stdin is not None
        child.stdin.write(json.dumps(given))
        child.stdin.close()
        arrived = stage.venue.wait_for(
            lambda record: record["kind"] == "order" and record["amount"] == KILLED["amount"],
            timeout=START_CAP,
            unless=lambda: child.poll() is not None,
        )
    finally:
        child.kill()
        child.wait()
    if not arrived:
        how = (
            f"ended by itself with code {child.returncode}"
            if child.returncode > 0
            else f"sent no order in {START_CAP:.0f} s"
        )
        raise RuntimeError(f"demo: the bot that was to be killed {how}")
    screen.fact(
        "killed", f"process {child.pid}, while it waited for the answer to: market buy {KILLED['amount']} {BASE}"
    )
    began = time.perf_counter()
    with bot(stage.venue.where, journal=journal, name="killed", alert_system=stage.alerts) as heir:
        report = heir.verifier.start()
        screen.fact(
            "found", f"{len(report.undecided)} undecided order in the journal; new orders on {SYMBOL} wait for it"
        )
        heir.verifier.wait_resolved(timeout=20.0)
        # What a restarted bot does: it asks for the same order again, and the key gives it the old transaction.
        transaction = heir.verifier.create_transaction(**KILLED)
        result, _ = timed(heir.verifier, transaction)
        stage.show(transaction, time.perf_counter() - began)
        screen.fact("asked again", "the same idempotency key gave the same transaction; nothing was sent")
        screen.fact("sent", f"{stage.adds(result.client_order_id)} request to place it arrived at the exchange, ever")
        stage.heirs.append(belief_of(result, f"market buy {KILLED['amount']} {BASE}"))


def alert(stage: Stage) -> None:
    """Step 8."""
    stage.screen.step(
        "Alerts on the console",
        "The lines with ! above are alerts: sent by the pipeline, delivered by a thread of their own, so that a stuck"
        " channel never delays an order. The bot sends its own in the same way.",
    )
    began = time.perf_counter()
    receipt = stage.alerts.send_alert(
        source=AlertSource.EXCHANGE,
        level=AlertLevel.WARNING,
        title="API rate limit approaching",
        message="the exchange's rate limit is at 80 % of its capacity",
        context={"exchange": "nobitex", "rate_limit": 80},
    )
    took = time.perf_counter() - began
    stage.settle()
    console = stage.alerts.status().channels["console"]
    stage.screen.fact("send_alert", f"{receipt.reason} after {took * 1e6:.0f} µs")
    stage.screen.fact(
        "console", f"{console.delivered} alerts delivered, {console.dropped} dropped, {console.failed} failed"
    )
    stage.screen.fact("bus", f"{len(stage.events)} events of orders delivered to a subscriber of 'transaction.#'")


STEPS = (show_market_data, buy, rest_and_cancel, lose_the_answer, fill_a_part, cut_off, kill_a_bot, alert)
