"""
The contestants of the transactions benchmark: each makes an order durable step by step, at the same stub exchange.

hireliab  the pipeline with its journal, strict or relaxed; each order with an idempotency key.
dbos      a DBOS workflow for each order with the steps prepare, submit and verify, its id the order's key; the SQLite
          file as shipped, or set to WAL and synchronous=FULL like hireliab's.
naive     a line for each step appended to a file, with an fsync behind each: three for an order.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from benchmarks._calls import peer
from benchmarks._transactions_stub import CALLS, SYMBOL, StubAdapter, StubExchange
from hireliab import SQLiteJournal, TransactionVerificationPipeline, Verdict
from hireliab.exchange.adapter import OrderState, OrderStatus

COMPLETED = "COMPLETED"
NAIVE_SYNCS = 3
"""The naive bot's for each order: intent, answer, verdict."""
PRAGMAS = ("journal_mode", "synchronous", "wal_autocheckpoint", "busy_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a contestant says of an order when its call returns."""

    key: str
    client_order_id: str
    order_id: str
    filled: Decimal
    verdict: str


def amount_of(number: int) -> Decimal:
    """Every order of a contestant has an amount of its own, so that the truth tells which intent it came from."""
    return Decimal(1000 + number) / 1_000_000


def key_of(number: int) -> str:
    """Its idempotency key."""
    return f"order-{number}"


def failed(number: int, error: Exception) -> Outcome:
    """An order whose call raised."""
    verdict = f"{type(error).__name__}: {error}"
    return Outcome(key=key_of(number), client_order_id="", order_id="", filled=Decimal(0), verdict=verdict)


class Bot(Protocol):
    """A contestant; any thread may call `trade`."""

    def trade(self, number: int) -> Outcome:
        """Place the order with this number, read it back, and return when the verdict is kept."""

    def facts(self) -> Mapping[str, object]:
        """How its file is set, asked on a connection of its own."""

    def commits(self) -> int | None:
        """How many commits it made, where it counts them."""

    def close(self) -> int:
        """End it; how many orders its file holds as done."""


# -- hireliab -----------------------------------------------------------------------------------------------------


class HireliabBot:
    """The pipeline with a SQLite journal."""

    def __init__(self, exchange: StubExchange, folder: Path, *, durability: str, **settings: Any) -> None:
        self._journal = SQLiteJournal(folder, durability=durability)
        self.pipeline = TransactionVerificationPipeline(
            exchange_adapter=StubAdapter(exchange), journal=self._journal, **settings
        )
        self.pipeline.start()

    def trade(self, number: int) -> Outcome:
        """See Bot."""
        key = key_of(number)
        transaction = self.pipeline.create_transaction(
            type="market_buy", symbol=SYMBOL, amount=amount_of(number), idempotency_key=key
        )
        result = self.pipeline.execute(transaction)
        return Outcome(
            key=key,
            client_order_id=result.client_order_id,
            order_id=result.order_id or "",
            filled=result.filled,
            verdict=COMPLETED if result.verdict is Verdict.COMPLETED else result.verdict.value,
        )

    def facts(self) -> Mapping[str, object]:
        """See Bot; asked on the writer's connection, by its thread."""
        return self._journal._db.write(_pragmas)

    def commits(self) -> int | None:
        """See Bot."""
        return self._journal._db.commits

    def close(self) -> int:
        """See Bot."""
        self.pipeline.stop()
        return _count(self._journal.folder / "journal.db", "SELECT count(*) FROM txn WHERE state = 'COMPLETED'")


def _pragmas(connection: sqlite3.Connection) -> dict[str, object]:
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in PRAGMAS}


def _count(file: Path, query: str) -> int:
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


# -- DBOS ---------------------------------------------------------------------------------------------------------


class DbosBot:
    """
    A workflow with three steps, as the documents of DBOS suggest: whatever is not deterministic, or calls another
    service, is a step, and the workflow's id is the idempotency key.

    Args:
        wal: Set every connection to WAL and synchronous=FULL. It is a "connect" event of SQLAlchemy for all engines,
            so that DBOS makes its own engine as it always does.
    """

    def __init__(self, exchange: StubExchange, folder: Path, *, wal: bool) -> None:
        dbos = peer("dbos")
        if dbos is None:
            raise RuntimeError("dbos: not installed")
        if wal:
            _listen_for_connections()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "dbos.sqlite"
        config = {"name": "transactions", "system_database_url": f"sqlite:///{self._file}", "log_level": "ERROR"}
        self._dbos = dbos.DBOS(config=config)
        self._class = dbos.DBOS
        self._with_id = dbos.SetWorkflowID
        self._place_order = _workflow(dbos.DBOS, exchange)
        dbos.DBOS.launch()

    def trade(self, number: int) -> Outcome:
        """See Bot."""
        key = key_of(number)
        with self._with_id(key):
            told = self._place_order(f"{amount_of(number):f}")
        return Outcome(
            key=key,
            client_order_id=told["client_order_id"],
            order_id=told["order_id"],
            filled=Decimal(told["filled"]),
            verdict=told["verdict"],
        )

    def facts(self) -> Mapping[str, object]:
        """See Bot; asked on a connection of the pool that DBOS writes with."""
        with self._dbos._sys_db.engine.connect() as connection:
            return _pragmas(connection.connection.dbapi_connection)

    def commits(self) -> int | None:
        """See Bot."""
        return None

    def close(self) -> int:
        """See Bot."""
        self._class.destroy()
        return _count(self._file, "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'")


def _listen_for_connections() -> None:
    event, engine = peer("sqlalchemy.event"), peer("sqlalchemy.engine")
    assert event is not None and engine is not None, "bug: DBOS needs SQLAlchemy"  # noqa: PT018 - no test

    def set_up(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    event.listen(engine.Engine, "connect", set_up)


def _workflow(dbos: Any, exchange: StubExchange) -> Callable[[str], dict[str, str]]:
    """Register the steps and the workflow; the workflow."""

    def prepare(amount: str) -> dict[str, str]:
        return {"client_order_id": f"bot-{uuid.uuid4().hex[:26]}", "amount": amount}

    def submit(order: dict[str, str]) -> str:
        return exchange.place(order["client_order_id"], "buy", Decimal(order["amount"])).order_id

    def verify(order_id: str) -> dict[str, str]:
        state = exchange.read(order_id)
        return {"order_id": order_id, "filled": f"{state.filled:f}", "verdict": _verdict(state)}

    prepare_step, submit_step, verify_step = (dbos.step()(step) for step in (prepare, submit, verify))

    def place_order(amount: str) -> dict[str, str]:
        order = prepare_step(amount)
        seen = verify_step(submit_step(order))
        return {"client_order_id": order["client_order_id"], **seen}

    registered: Callable[[str], dict[str, str]] = dbos.workflow()(place_order)
    return registered


def _verdict(state: OrderState) -> str:
    filled = state.status is OrderStatus.DONE and state.filled == state.amount
    return COMPLETED if filled else state.status.value


# -- naive --------------------------------------------------------------------------------------------------------


class NaiveBot:
    """A line for each step, appended and synced; without a lock, because an append is atomic."""

    def __init__(self, exchange: StubExchange, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._exchange = exchange
        self._file = folder / "orders.jsonl"
        self._handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _note(self, step: str, **facts: str) -> None:
        os.write(self._handle, (json.dumps({"step": step, **facts}) + "\n").encode())
        os.fsync(self._handle)

    def trade(self, number: int) -> Outcome:
        """See Bot."""
        key = key_of(number)
        client_order_id = f"bot-{uuid.uuid4().hex[:26]}"
        amount = amount_of(number)
        self._note("intent", key=key, client_order_id=client_order_id, amount=f"{amount:f}")
        order_id = self._exchange.place(client_order_id, "buy", amount).order_id
        self._note("answer", key=key, order_id=order_id)
        state = self._exchange.read(order_id)
        verdict = _verdict(state)
        self._note("verdict", key=key, order_id=order_id, verdict=verdict, filled=f"{state.filled:f}")
        return Outcome(
            key=key, client_order_id=client_order_id, order_id=order_id, filled=state.filled, verdict=verdict
        )

    def facts(self) -> Mapping[str, object]:
        """See Bot."""
        return {"file": "O_APPEND", "fsync": f"{NAIVE_SYNCS} for each order"}

    def commits(self) -> int | None:
        """See Bot."""
        return None

    def close(self) -> int:
        """See Bot."""
        os.close(self._handle)
        lines = self._file.read_text(encoding="utf-8").splitlines()
        return sum(1 for line in lines if json.loads(line)["step"] == "verdict")


# -- all ----------------------------------------------------------------------------------------------------------

BOTS: dict[str, Callable[[StubExchange, Path], Bot]] = {
    "hireliab": lambda exchange, folder: HireliabBot(exchange, folder, durability="strict"),
    "hireliab relaxed": lambda exchange, folder: HireliabBot(exchange, folder, durability="relaxed"),
    "DBOS": lambda exchange, folder: DbosBot(exchange, folder, wal=False),
    "DBOS WAL+FULL": lambda exchange, folder: DbosBot(exchange, folder, wal=True),
    "naive": NaiveBot,
}
OURS = "hireliab"


def undone(outcomes: Sequence[Outcome], truth: Sequence[OrderState], *, calls: int, stored: int) -> str:
    """
    Why the work was not done, or "". Pure.

    Args:
        outcomes: One for each order that was asked for.
        truth: Every order that the exchange holds.
        calls: How many the exchange answered.
        stored: How many orders the contestant's file holds as done.
    """
    wrong = [outcome for outcome in outcomes if outcome.verdict != COMPLETED]
    if wrong:
        return f"{len(wrong)} of {len(outcomes)} orders did not end completed, such as {wrong[0]}"
    doubles = [key for key, number in Counter(outcome.key for outcome in outcomes).items() if number > 1]
    if doubles:
        return f"bug of the benchmark: {doubles[0]} was asked for twice"
    by_amount: dict[Decimal, list[OrderState]] = {}
    for state in truth:
        by_amount.setdefault(state.amount, []).append(state)
    for outcome in outcomes:
        amount = amount_of(int(outcome.key.rpartition("-")[2]))
        orders = by_amount.pop(amount, [])
        if len(orders) != 1:
            return f"{outcome.key}: the exchange holds {len(orders)} orders for it"
        if (orders[0].client_order_id, orders[0].order_id, orders[0].filled) != (
            outcome.client_order_id, outcome.order_id, outcome.filled,
        ):  # fmt: skip
            return f"{outcome.key}: the exchange shows {orders[0]}, the contestant says {outcome}"
    if by_amount:
        return f"{len(by_amount)} orders at the exchange were not asked for"
    if stored != len(outcomes):
        return f"{len(outcomes)} orders ended, {stored} are in its file as done"
    if calls != CALLS * len(outcomes):
        return f"{calls} calls for {len(outcomes)} orders, {CALLS} for each were expected"
    return ""


class Tally:
    """Numbers the orders of a contestant's rounds, and keeps what it said of them; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards everything below
        self._next = 0
        self.outcomes: list[Outcome] = []
        self.latencies: list[int] = []

    def take(self) -> int:
        """The next order's number."""
        with self._lock:
            self._next += 1
            return self._next

    def note(self, outcome: Outcome, nanoseconds: int) -> None:
        """An order ended."""
        with self._lock:
            self.outcomes.append(outcome)
            self.latencies.append(nanoseconds)

    def round(self) -> list[int]:
        """The latencies since the last call."""
        with self._lock:
            taken, self.latencies = self.latencies, []
        return taken
