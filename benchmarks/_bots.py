"""The two bots that are compared: a bare one on requests, as many were written, and one on hireliab."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import requests

from benchmarks._exchange import ADD, STATUS
from hireliab import (
    CircuitOpenError,
    ConnectionPool,
    EnhancedNobitexAdapter,
    NobitexClient,
    SQLiteJournal,
    TransactionResult,
    TransactionVerificationPipeline,
    Verdict,
)
from hireliab.exchange.transaction import Record
from hireliab.messaging.outbox import OutboxEvent

PLACED = "placed"
NOT_PLACED = "not placed"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A market order that a bot wants: `key` is unique in the run."""

    key: str
    side: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What a bot believes about an intent.

    Attributes:
        client_order_id: Under which the truth file knows it.
        belief: PLACED, NOT_PLACED or UNKNOWN.
        order_id: And the two below: as the bot knows them, when it believes that it was placed.
    """

    client_order_id: str
    belief: str
    order_id: str | None = None
    status: str = ""
    filled: Decimal = Decimal(0)
    transaction_id: str = ""


class Bot(Protocol):
    """What a benchmark needs of a bot; any thread may call it."""

    def trade(self, intent: Intent) -> Outcome:
        """Place the order and read it back."""

    def settle(self, outcomes: Sequence[Outcome], timeout: float) -> list[Outcome]:
        """What the bot believes in the end, given some seconds to find out."""

    def counts(self) -> dict[str, float]:
        """Totals so far of whatever it counts."""


# -- bare ---------------------------------------------------------------------------------------------------------


class BareBot:
    """
    A requests bot as many are written: POST the order, POST for its status once, and after an exception once more.

    Better than most in two things: each thread has a session of its own, and an order carries a client order id.

    Args:
        pro: Send ``pro=yes``, as busy bots do: it switches off the exchange's own check for equal orders.
    """

    def __init__(self, *, base_url: str, token: str, pro: bool = False) -> None:
        self._base_url = base_url
        self._headers = {"Authorization": f"Token {token}", "User-Agent": "TraderBot/bare"}
        self._pro = pro
        self._local = threading.local()

    def trade(self, intent: Intent) -> Outcome:
        """See `Bot.trade`."""
        body = {
            "type": intent.side,
            "execution": "market",
            "srcCurrency": "btc",
            "dstCurrency": "usdt",
            "amount": f"{intent.amount:f}",
            "clientOrderId": intent.key,
        }
        if self._pro:
            body["pro"] = "yes"
        try:
            order = self._again(ADD, body)
        except (requests.RequestException, ValueError, KeyError):
            return Outcome(client_order_id=intent.key, belief=NOT_PLACED)
        with contextlib.suppress(requests.RequestException, ValueError, KeyError):
            order = self._again(STATUS, {"id": order["id"]})
        return Outcome(
            client_order_id=intent.key,
            belief=PLACED,
            order_id=str(order["id"]),
            status=str(order["status"]),
            filled=Decimal(str(order["matchedAmount"])),
        )

    def _again(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._post(path, body)
        except _RefusedError:
            raise
        except (requests.RequestException, ValueError, KeyError):
            return self._post(path, body)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._session().post(self._base_url + path, json=body, timeout=5.0)
        answer.raise_for_status()
        payload = answer.json()
        if payload["status"] != "ok":
            raise _RefusedError(payload["code"])
        order: dict[str, Any] = payload["order"]
        return order

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.headers.update(self._headers)
            session.trust_env = False  # loopback needs no proxy
        return session

    def settle(self, outcomes: Sequence[Outcome], timeout: float) -> list[Outcome]:  # noqa: ARG002 - it never looks again
        """See `Bot.settle`."""
        return list(outcomes)

    def counts(self) -> dict[str, float]:
        """See `Bot.counts`."""
        return {}


class _RefusedError(ValueError):
    """The exchange answered no."""


# -- hireliab -----------------------------------------------------------------------------------------------------

ASK_AGAIN = 20
"""Most times that one order is asked for again: a half-open breaker lets few through at once."""
_BELIEFS = {
    Verdict.COMPLETED: PLACED,
    Verdict.PARTIAL: PLACED,
    Verdict.CLOSED_UNFILLED: PLACED,
    Verdict.CANCELLED: PLACED,
    Verdict.UNKNOWN: UNKNOWN,
}
"""Every other verdict says that nothing was placed."""


class TimedJournal(SQLiteJournal):
    """A journal that adds up how long callers wait for the disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._waits = threading.Lock()  # guards waited_ns
        self.waited_ns = 0

    def write(self, record: Record, *, cause: str, barrier: bool, event: OutboxEvent | None = None) -> None:
        """See `Journal.write`."""
        began = time.perf_counter_ns()
        super().write(record, cause=cause, barrier=barrier, event=event)
        if barrier:
            took = time.perf_counter_ns() - began
            with self._waits:
                self.waited_ns += took

    @property
    def commits(self) -> int:
        """How many commits were made, each of them one fdatasync."""
        return self._db.commits


class HireliabBot:
    """The whole stack: pool, breakers, adapter, pipeline, journal with real fsync."""

    def __init__(self, pipeline: TransactionVerificationPipeline, journal: TimedJournal) -> None:
        self._pipeline = pipeline
        self._journal = journal

    def trade(self, intent: Intent) -> Outcome:
        """
        See `Bot.trade`. What was proven not sent is asked for again, as a new transaction, when the breaker that
        refused it lets calls through; nothing else is.
        """
        for attempt in range(ASK_AGAIN + 1):
            transaction = self._pipeline.create_transaction(
                type=f"market_{intent.side}",
                symbol="BTC/USDT",
                amount=intent.amount,
                idempotency_key=f"{intent.key}/{attempt}",
            )
            result = self._pipeline.execute(transaction)
            if result.verdict is not Verdict.NOT_SENT or not isinstance(result.error, CircuitOpenError):
                break
            time.sleep(result.error.retry_after or 0.1)
        return _outcome(result)

    def settle(self, outcomes: Sequence[Outcome], timeout: float) -> list[Outcome]:
        """See `Bot.settle`."""
        self._pipeline.wait_resolved(timeout)
        found = []
        for outcome in outcomes:
            transaction = self._pipeline.get(outcome.transaction_id)
            found.append(outcome if transaction is None else _outcome(transaction.result()))
        return found

    def counts(self) -> dict[str, float]:
        """See `Bot.counts`."""
        return {"commits": self._journal.commits, "commit_wait_ns": self._journal.waited_ns}


def _outcome(result: TransactionResult) -> Outcome:
    outcome = Outcome(
        client_order_id=result.client_order_id,
        belief=_BELIEFS.get(result.verdict, NOT_PLACED),
        transaction_id=result.transaction_id,
    )
    if outcome.belief != PLACED:
        return outcome
    return replace(outcome, order_id=result.order_id, status=result.order_status, filled=result.filled)


@contextlib.contextmanager
def hireliab_bot(*, base_url: str, token: str, folder: Path, **settings: Any) -> Iterator[HireliabBot]:
    """
    A running bot.

    Args:
        folder: Of its journal.
        settings: Of the pipeline.
    """
    pool = ConnectionPool(
        name=folder.name,
        create_client_func=lambda: NobitexClient(base_url=base_url),
        config={"min_connections": 2, "max_connections": 10},
    )
    journal = TimedJournal(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(pool.stop)
        adapter = stack.enter_context(
            # The limits of the real exchange, 300 orders in 10 minutes, would be all that is measured.
            EnhancedNobitexAdapter(config={"token": token, "connection_pool": pool, "rate_limits": "off"})
        )
        pipeline = stack.enter_context(
            TransactionVerificationPipeline(exchange_adapter=adapter, journal=journal, **settings)
        )
        yield HireliabBot(pipeline, journal)
