"""
The bot under test, and the zygote that forks it.

``python worker.py FOLDER`` reads one JSON object per line from standard input and answers each with one:
``{"fork": PLAN}`` forks a worker that follows the plan and answers its pid; ``{"wait": PID}`` reaps it. The zygote has
imported everything and has neither threads nor sockets, so that a fork costs milliseconds and shares nothing that
the library owns.

The worker appends to ``promises.jsonl``, one `os.write` per line: `start`, `ready`, `begin` before it hands an order
over, `past_gate` when the runner goes on to prepare it, `end` after the library returned, `dead` when something that must not raise did.
"""

import gc
import itertools
import json
import logging
import os
import random
import sys
import threading
import time
import traceback
from decimal import Decimal
from pathlib import Path

import mutants
import workload
from books import Truth
from listener_bus import ListenerBus

from hireliab.core import _kill_points
from hireliab.core import _sqlite as sqlite_file

THREADS = 8


class Notes:
    """The promise log."""

    def __init__(self, path):
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self._handle, b"\n")  # the last life's last line may be torn

    def write(self, event, **facts):
        line = json.dumps({"t": event, "mono": time.monotonic_ns(), "wall": time.time(), **facts}) + "\n"
        os.write(self._handle, line.encode())


class Bot:
    """One life of the bot: builds the stack, asks for orders, and is killed, or ends when the plan is final."""

    def __init__(self, folder, plan):
        self.folder, self.plan, self.inc = folder, plan, plan["inc"]
        self.notes = Notes(folder / "promises.jsonl")
        self.rng = random.Random(f"{plan['seed']}/life/{self.inc}")
        self.lock = threading.Lock()  # guards the iterator
        self.numbers = iter(())

    def note(self, event, **facts):
        self.notes.write(event, inc=self.inc, **facts)

    def build(self):
        from hireliab.exchange.connection_pool import ConnectionPool
        from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
        from hireliab.exchange.nobitex_client import NobitexClient
        from hireliab.exchange.transaction_verification import TransactionVerificationPipeline

        venue, timeouts = self.plan["venue"], self.plan["timeouts"]
        self.pool = ConnectionPool(
            name="crash",
            create_client_func=lambda: NobitexClient(base_url=venue["base_url"], **timeouts),
            config={"min_connections": 0, "max_connections": 16, "connection_timeout": 2},
        )
        self.pool.initialize()
        self.adapter = EnhancedNobitexAdapter(
            config={
                "api_key": venue["api_key"],
                "api_secret": venue["api_secret"],
                "base_url": venue["base_url"],
                "connection_pool": self.pool,
                "rate_limits": self.plan["rate_limits"],
            }
        )
        self.adapter.initialize()
        self.pipeline = TransactionVerificationPipeline(
            exchange_adapter=self.adapter,
            journal=self.folder / "journal",
            message_bus=ListenerBus(self.plan["listener"]),
            **self.plan["pipeline"],
        )

    def mark_gate(self):
        """Write down who has passed the recovery gate, so that the checker can tell waiting from preparing."""
        runner = self.pipeline._runner
        wait = runner._wait_for_gate

        def marked(symbol, timeout):
            free = wait(symbol, timeout)
            if free:
                self.note("past_gate", txn=threading.current_thread().name.rpartition(".")[2])
            return free

        runner._wait_for_gate = marked

    def live(self):
        self.note("start", pid=os.getpid())
        if self.plan.get("disk_delay"):
            mutants.slow_disk(self.plan["disk_delay"])
        if self.plan.get("break"):
            mutants.apply(self.plan["break"])
        if self.plan.get("checkpoint_bytes"):
            sqlite_file.CHECKPOINT_BYTES = self.plan["checkpoint_bytes"]
        _kill_points.arm(self.plan.get("kill_at"))
        self.build()
        self.note("owner", owner=self.pipeline._owner)
        self.mark_gate()
        report = self.pipeline.start()
        self.note("ready", found=report.found, undecided=list(report.undecided), gated=list(report.gated))
        if self.plan.get("final"):
            self.finish()
            return
        self.run(itertools.chain(self.plan["resume"], self.fresh()), wait=False)
        zygote = os.getppid()
        while os.getppid() == zygote:  # the driver kills us; without it we end
            time.sleep(0.5)

    def fresh(self):
        """New order numbers; now and then one twice, so that two threads ask for the same key at once."""
        last, only = self.plan.get("last"), self.plan.get("only")
        for i in itertools.count(self.plan["next"]):
            if last is not None and i > last:
                return
            if only and workload.order(self.plan["seed"], i)["kind"] not in only:
                continue
            yield i
            if self.rng.random() < 0.05:
                yield i

    def run(self, numbers, *, stage="storm", wait=True):
        """Work through order numbers in all threads."""
        self.numbers = iter(numbers)
        threads = [
            threading.Thread(target=self.work, args=(stage,), daemon=True)
            for _ in range(self.plan.get("threads", THREADS))
        ]
        for thread in threads:
            thread.start()
        if wait:
            for thread in threads:
                thread.join()

    def work(self, stage):
        try:
            while True:
                with self.lock:
                    i = next(self.numbers, None)
                if i is None:
                    return
                self.place(i, stage)
        except BaseException:
            self.note("dead", error=traceback.format_exc())
            raise

    def place(self, i, stage):
        from hireliab.errors import HireliabError

        kinds = workload.FUNDABLE if stage == "calm" else tuple(self.plan.get("kinds") or workload.KINDS)
        wanted = workload.order(self.plan["seed"], i - i % 2 if self.plan.get("twins") else i, kinds=kinds)
        key = f"{self.plan['seed']}-{i}"
        for attempt in range(3):
            try:
                transaction = self.pipeline.create_transaction(**wanted["args"], idempotency_key=key)
            except HireliabError as error:
                self.note("refused", key=key, error=type(error).__name__, text=str(error))
                return
            self.note(
                "begin",
                key=key,
                i=i,
                txn=transaction.id,
                kind=wanted["kind"],
                stage=stage,
                symbol=wanted["args"]["symbol"],
            )
            value, error, result = None, None, self.pipeline.execute(transaction)
            try:
                value = bool(result)
            except HireliabError as raised:
                error = type(raised).__name__
            self.note("end", key=key, i=i, txn=transaction.id, stage=stage, **told(value, error, result))
            if result.verdict.value not in ("NOT_SENT", "DENIED"):
                break
            time.sleep(0.1 * 2**attempt)  # nothing was sent: the bot asks again with the same key
        if wanted["cancel"] and value and result.order_status in ("Active", "Inactive"):
            self.cancel(transaction)

    def cancel(self, transaction):
        from hireliab.errors import HireliabError

        self.note("begin_cancel", parent=transaction.id)
        try:
            result = self.pipeline.cancel(transaction.id)
        except HireliabError as error:
            self.note("end_cancel", parent=transaction.id, txn=None, value=None, error=type(error).__name__)
            return
        value, error = None, None
        try:
            value = bool(result)
        except HireliabError as raised:
            error = type(raised).__name__
        self.note("end_cancel", parent=transaction.id, txn=result.transaction_id, **told(value, error, result))

    # -- the last life: faults are off ------------------------------------------------------------------------

    def finish(self):
        plan = self.plan
        if plan.get("sweep"):
            self.adopt()
        rest = range(plan["next"], plan["last"] + 1) if plan.get("last") else ()
        self.run(itertools.chain(plan["resume"], rest), stage="after")
        self.settle(plan["settle"])
        self.note("settled", unresolved=[t.id for t in self.pipeline.unresolved()])
        self.run(range(plan["next"], plan["next"] + plan["calm"]), stage="calm")
        self.settle(plan["settle"])
        self.decide()
        time.sleep(2 * plan["pipeline"]["watch_interval"] + 1.0)  # fills of resting orders are read back
        self.list_fills()
        unresolved = [t.id for t in self.pipeline.unresolved()]
        give_up = time.monotonic() + 10.0
        while self.pipeline.stats().outbox.pending and time.monotonic() < give_up:
            time.sleep(0.05)
        self.pipeline.stop()
        self.adapter.stop()
        self.pool.stop()
        self.note("final", unresolved=unresolved)

    def decide(self):
        """The operator asks the exchange's own books about what only a person can decide, and gives a word on it."""
        truth = Truth(self.folder / "truth.jsonl", 0)
        for transaction in self.pipeline.unresolved():
            record = transaction.record
            if not record.needs_human or record.kind != "ORDER":
                continue
            orders = truth.by_client.get(record.order.client_order_id)
            order = truth.last(orders[0]) if orders else None
            if order is None or order["status"] == "Rejected":
                word = "failed"
            else:
                word = "completed" if Decimal(order["matched"]) > 0 else "cancelled"
            result = self.pipeline.resolve(
                transaction.id,
                word,
                evidence=f"the exchange's books say {order and order['status']}",
                who="the campaign",
                order_id=str(order["id"]) if word == "completed" else None,
            )
            self.note("resolved", txn=transaction.id, word=word, verdict=result.verdict.value)

    def adopt(self):
        """The operator looks for orders that a restored journal does not know, and takes each in."""
        time.sleep(1.0)  # listings lag: an order of the last life's last moment is not shown at once
        orphans = self.pipeline.sweep_orphans()
        self.note("swept", orders=[order.order_id for order in orphans])
        for order in orphans:
            transaction = self.pipeline.adopt(order.order_id, who="the campaign")
            self.note("adopted", order_id=order.order_id, txn=transaction.id)

    def list_fills(self):
        """Ask for the executions of some decided orders, so that the journal holds them."""
        from hireliab.errors import HireliabError

        filled = [t for t in self.pipeline.transactions(limit=400) if t.record.kind == "ORDER" and t.record.filled > 0]
        for transaction in self.rng.sample(filled, min(self.plan.get("fills", 12), len(filled))):
            try:
                fills = self.pipeline.fills(transaction.id)
            except HireliabError as error:
                self.note("no_fills", txn=transaction.id, error=repr(error))
                continue
            told = [[fill.trade_id, str(fill.amount)] for fill in fills]
            self.note("fills", txn=transaction.id, order_id=transaction.record.order_id, fills=told)

    def settle(self, seconds):
        """Wait until nothing is undecided but what the library says that only a person can decide."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            if all(t.record.needs_human for t in self.pipeline.unresolved()):
                return
            time.sleep(0.05)


def told(value, error, result):
    """What the caller was told."""
    return {
        "value": value,
        "error": error,
        "verdict": result.verdict.value,
        "proof": result.proof.value,
        "order_id": result.order_id,
        "client_order_id": result.client_order_id,
        "filled": str(result.filled),
        "fee": str(result.fee),
        "status": result.order_status,
        "durable": result.durable,
        "reason": result.reason[:300],
    }


def child(folder, plan):
    """The forked worker; never returns."""
    code = 1
    try:
        null, log = (
            os.open(os.devnull, os.O_RDONLY),
            os.open(folder / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        )
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        bot = Bot(folder, plan)
        try:
            bot.live()
            code = 0
        except BaseException:
            bot.note("dead", error=traceback.format_exc())
    finally:
        os._exit(code)


def zygote(folder):
    """Fork workers as told, until standard input ends."""
    import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401 - imported before the forks
    import filelock  # noqa: F401
    import pybreaker  # noqa: F401
    import requests  # noqa: F401

    import hireliab.exchange.enhanced_nobitex_adapter
    import hireliab.exchange.transaction_verification  # noqa: F401

    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(process)d %(threadName)s %(message)s")
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if "fork" in request:
            pid = os.fork()
            if pid == 0:
                child(folder, request["fork"])
            answer = {"pid": pid}
        else:
            flags = os.WNOHANG if request.get("poll") else 0
            pid, status = os.waitpid(request["wait"], flags)
            answer = {"status": None if pid == 0 else status}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    zygote(Path(sys.argv[1]))
