"""
Recovery: a process dies with orders whose answers it never got, and another finds out what became of them.

The first process places its orders at the simulator over HTTP; the answer of each is thrown away and every look-up
fails, so that nothing is decided when it is killed. The second one starts on the same journal with hireliab's own rate
limits and the exchange's. What it asked for is counted in the exchange's truth file.

``python -m benchmarks._transactions_recovery place|recover FOLDER URL TOKEN NUMBER`` is such a process.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks import orders
from benchmarks._bots import Intent, Outcome, _outcome
from benchmarks._exchange import Exchange
from benchmarks._transactions_worker import private_output
from hireliab import ConnectionPool, EnhancedNobitexAdapter, NobitexClient, TransactionVerificationPipeline
from hireliab.errors import NotSentError, ResponseLostError
from hireliab.exchange.adapter import ListingRead, Order, OrderRead, OrderState, PreparedOrder, Unavailable
from hireliab.exchange.transaction import State

ACCOUNT = "recovery"
PLACERS = 8
"""Threads that place the orders."""
PATIENCE = 480.0
"""Seconds after which a recovery is called stuck: the exchange would allow 2,400 look-ups by id in that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """
    What one recovery took.

    Attributes:
        rows: Undecided ones in the journal at the start.
        seconds: From the start of the pipeline until all were decided.
        requests: How many the second process made, of every kind.
        by_path: The same by path.
        throttled: How many of them the exchange answered 429.
        problem: Why it does not count, or "".
    """

    rows: int
    seconds: float
    requests: int
    by_path: dict[str, int]
    throttled: int
    problem: str


def measure(folder: Path, rows: int) -> Recovery:
    """Place, kill, recover, and lay the result beside the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    with Exchange(folder / "truth.jsonl", seed=orders.SEED) as exchange:
        token = exchange.open_account(ACCOUNT)
        placed = _told("place", folder, exchange, token, rows)
        exchange._admin("POST", "/settings", {"limits": True})
        restart = time.monotonic_ns()
        found = _told("recover", folder, exchange, token, rows)
        records = exchange.records()
    asked = [
        record
        for record in records
        if record["kind"] == "request" and isinstance(mono := record["received_mono"], int) and mono >= restart
    ]
    paths = Counter(f"{record['method']} {str(record['path']).partition('?')[0]}" for record in asked)
    outcomes = [Outcome(**{**told, "filled": Decimal(told["filled"])}) for told in found["outcomes"]]
    problem = orders.undone(orders.audit("hireliab", outcomes, records, account=ACCOUNT, faults=0))
    if placed["undecided"] != rows:
        problem = f"only {placed['undecided']} of {rows} orders were undecided when the process was killed"
    elif len(outcomes) != rows:
        problem = f"the journal holds {len(outcomes)} of {rows} orders"
    elif sent := sum(number for path, number in paths.items() if path.endswith("/orders/add")):
        problem = f"{sent} orders were sent after the restart"
    return Recovery(
        rows=rows,
        seconds=found["seconds"],
        requests=len(asked),
        by_path=dict(paths.most_common()),
        throttled=sum(record["status"] == 429 for record in asked),
        problem=problem,
    )


def _told(mode: str, folder: Path, exchange: Exchange, token: str, rows: int) -> dict[str, Any]:
    """Run a process until its answer, and kill it."""
    command = [sys.executable, "-m", "benchmarks._transactions_recovery", mode]
    command += [str(folder / "journal"), exchange.base_url, token, str(rows)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
        finally:
            process.kill()
        if not line:
            raise RuntimeError(f"{mode}: ended with code {process.wait()} and no answer")
        answer: dict[str, Any] = json.loads(line)
        return answer


# -- the two processes --------------------------------------------------------------------------------------------


class DeafAdapter(EnhancedNobitexAdapter):
    """Sends for real, and then loses the answer; sees nothing afterwards."""

    def prepare(self, order: Order) -> PreparedOrder:  # type: ignore[override]
        """See ExchangeAdapter."""
        return _Unheard(super().prepare(order))

    def find_by_id(self, order_id: str) -> OrderRead:
        """See ExchangeAdapter."""
        return _blind(order_id)

    def find_by_client_id(self, client_order_id: str) -> OrderRead:
        """See ExchangeAdapter."""
        return _blind(client_order_id)

    def list_orders_since(self, order_id: str) -> ListingRead:
        """See ExchangeAdapter."""
        return _blind(order_id)

    def list_open_orders(self) -> ListingRead:
        """See ExchangeAdapter."""
        return _blind("all")


def _blind(what: str) -> Unavailable:
    return Unavailable(NotSentError(f"look-up of {what}: this process sees nothing"))


@dataclass(frozen=True, slots=True)
class _Unheard:
    _inner: PreparedOrder

    @property
    def order(self) -> Order:
        return self._inner.order

    def submit(self, before_send: Callable[[], None]) -> OrderState:
        state = self._inner.submit(before_send)
        raise ResponseLostError(f"order {state.client_order_id}: the answer was thrown away")

    def abandon(self) -> None:
        self._inner.abandon()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._transactions_recovery")
    parser.add_argument("mode", choices=("place", "recover"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("base_url")
    parser.add_argument("token")
    parser.add_argument("rows", type=int)
    given = parser.parse_args(arguments)
    logging.getLogger("hireliab").addHandler(logging.NullHandler())
    output = private_output()
    run = _place if given.mode == "place" else _recover
    print(json.dumps(run(given.folder, given.base_url, given.token, given.rows)), file=output, flush=True)
    if given.mode == "place":
        time.sleep(PATIENCE)  # until it is killed
    return 0


def _pool(base_url: str) -> ConnectionPool[NobitexClient]:
    return ConnectionPool(
        name=ACCOUNT,
        create_client_func=lambda: NobitexClient(base_url=base_url),
        config={"min_connections": 2, "max_connections": 10},
    )


def _place(folder: Path, base_url: str, token: str, rows: int) -> dict[str, Any]:
    # Without limits of either side: 300 orders in 10 minutes would make this stage last half an hour.
    adapter = DeafAdapter(config={"token": token, "connection_pool": _pool(base_url), "rate_limits": "off"})
    adapter.initialize()
    pipeline = TransactionVerificationPipeline(
        exchange_adapter=adapter, journal=folder, max_running=rows, verification_timeout=3600.0
    )
    pipeline.start()
    todo = iter(orders.intents(ACCOUNT, rows))
    lock = threading.Lock()  # guards todo

    def work() -> None:
        while True:
            with lock:
                intent: Intent | None = next(todo, None)
            if intent is None:
                return
            transaction = pipeline.create_transaction(
                type=f"market_{intent.side}", symbol="BTC/USDT", amount=intent.amount, idempotency_key=intent.key
            )
            pipeline.submit(transaction)
            transaction.wait_until(lambda record: record.state not in (State.NEW, State.SUBMITTING), 30.0)

    placers = [threading.Thread(target=work, name=f"place-{i}", daemon=True) for i in range(PLACERS)]
    for placer in placers:
        placer.start()
    for placer in placers:
        placer.join()
    return {"undecided": len(pipeline.unresolved())}


def _recover(folder: Path, base_url: str, token: str, rows: int) -> dict[str, Any]:
    pool = _pool(base_url)
    adapter = EnhancedNobitexAdapter(config={"token": token, "connection_pool": pool})
    pipeline = TransactionVerificationPipeline(exchange_adapter=adapter, journal=folder)
    began = time.monotonic()
    adapter.initialize()
    pipeline.start()
    pipeline.wait_resolved(PATIENCE)
    seconds = time.monotonic() - began
    outcomes = [_outcome(transaction.result()) for transaction in pipeline.transactions(limit=rows + 100)]
    pipeline.stop()
    adapter.stop()
    pool.stop()
    return {
        "seconds": seconds,
        "outcomes": [{**asdict(outcome), "filled": f"{outcome.filled:f}"} for outcome in outcomes],
    }


if __name__ == "__main__":
    sys.exit(main())
