"""
The bot of power_loss.py: one life, traced by strace. ``python power_loss_bot.py FOLDER PLAN`` with the plan as JSON.

It trades with several threads through the real pipeline and SQLiteJournal against an exchange in its own memory, and
writes to the file ``acks`` what it was promised, one `os.write` each: `row ID VERSION` when a barrier returned, `told
ID COMPLETED` when a caller was told so. The mutants break the journal in this process.
"""

import json
import logging
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

JOURNAL = "journal.db"
CHECKPOINT = 96 * 1024  # bytes of WAL; 8 MiB would never be reached in a short run
THREADS = 6
# What the exchange does with an order, and how often.
WORDS = {
    "fill": 12, "rest": 5, "partial": 2, "unfilled": 1, "reject": 1, "rejected_later": 1, "not_sent": 1,
    "fill_answer_lost": 3, "rest_answer_lost": 2, "request_lost": 1,
}  # fmt: skip


class PowerError(Exception):
    """The stage itself could not run."""


def _mutant_synchronous(level):
    from hireliab.core import _sqlite

    pragmas = [(name, level if name == "synchronous" else value) for name, value in _sqlite._PRAGMAS]
    if pragmas == list(_sqlite._PRAGMAS):
        raise PowerError("mutant: _sqlite._PRAGMAS sets no synchronous")
    _sqlite._PRAGMAS = tuple(pragmas)


def _mutant_unsynced_checkpoint():
    """The WAL is copied into the file and used again before the file was synced."""
    from hireliab.core._sqlite import SQLiteFile

    name = "_checkpoint" if hasattr(SQLiteFile, "_checkpoint") else "_checkpoint_when_large"
    checkpoint = getattr(SQLiteFile, name)

    def hasty(self, connection):
        connection.execute("PRAGMA synchronous=0")
        try:
            checkpoint(self, connection)
        finally:
            connection.execute("PRAGMA synchronous=2")

    setattr(SQLiteFile, name, hasty)


def _mutant_barrier_does_not_wait():
    """`write` returns before the commit."""
    from hireliab.exchange.sqlite_journal import SQLiteJournal

    write = SQLiteJournal.write

    def careless(self, record, *, cause, barrier, event=None):
        return write(self, record, cause=cause, barrier=False, event=event)

    SQLiteJournal.write = careless


MUTANTS = {
    "synchronous_off": lambda: _mutant_synchronous(0),
    "synchronous_normal": lambda: _mutant_synchronous(1),
    "unsynced_checkpoint": _mutant_unsynced_checkpoint,
    "barrier_does_not_wait": _mutant_barrier_does_not_wait,
}


class Bus:
    """Takes every event: that they are in the journal is what matters here."""

    def publish(self, topic, data, *, message_id):
        pass


class Bot:
    """One life: trades until its orders are done, or until it kills itself."""

    def __init__(self, folder, plan):
        self.folder, self.plan = folder, plan
        self.rng = random.Random(f"{plan['seed']}/{plan['recording']}/{plan['life']}")
        self.acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.lock = threading.Lock()  # guards numbers and acknowledged
        self.numbers = iter(range(plan["orders"]))
        self.acknowledged = 0

    def acknowledge(self, *words):
        """Say that something is durable; the trace shows when."""
        os.write(self.acks, (" ".join(map(str, words)) + "\n").encode())
        if self.plan["how"] == "killed":
            with self.lock:
                self.acknowledged += 1
                over = self.acknowledged == self.plan["kill_after"]
            if over:
                threading.Thread(target=self.die, daemon=True).start()

    def die(self):
        time.sleep(self.rng.uniform(0, 0.004))
        os.kill(os.getpid(), signal.SIGKILL)

    def venue(self):
        """The exchange in memory; what it accepted outlives the bot in a file."""
        from hireliab.core.clock import SystemClock
        from hireliab.testing import ScriptedExchange

        book = self.folder / "venue.pickle"

        class Venue(ScriptedExchange):
            def _accept(self, order, action):
                state = super()._accept(order, action)
                with self._lock, book.open("ab") as file:
                    pickle.dump((state.order_id, self.orders[state.order_id]), file)
                return state

        exchange = Venue(clock=SystemClock(), late_arrival_bound=0.3)
        if book.exists():
            with book.open("rb") as file:
                while True:
                    try:
                        order_id, state = pickle.load(file)
                    except (EOFError, pickle.UnpicklingError):
                        break
                    exchange.orders[order_id] = state
        exchange._next += 1_000_000 * self.plan["life"]
        exchange.script.extend(self.rng.choices(list(WORDS), list(WORDS.values()), k=2 * self.plan["orders"]))
        return exchange

    def watch_barriers(self):
        """Acknowledge every barrier as the journal's caller sees it."""
        from hireliab.exchange.sqlite_journal import SQLiteJournal

        write = SQLiteJournal.write

        def told(journal, record, *, cause, barrier, event=None):
            write(journal, record, cause=cause, barrier=barrier, event=event)
            if barrier:
                self.acknowledge("row", record.txn_id, record.version)

        SQLiteJournal.write = told

    def live(self):
        from hireliab.core import _sqlite
        from hireliab.exchange.transaction_verification import TransactionVerificationPipeline

        if not isinstance(getattr(_sqlite, "CHECKPOINT_BYTES", None), int):
            raise PowerError("hireliab.core._sqlite.CHECKPOINT_BYTES is gone: this stage cannot reach a checkpoint")
        _sqlite.CHECKPOINT_BYTES = CHECKPOINT
        if self.plan["break"]:
            MUTANTS[self.plan["break"]]()
        if self.plan["how"] == "version 1":
            self.make_old()
            return
        self.watch_barriers()
        self.pipeline = TransactionVerificationPipeline(
            exchange_adapter=self.venue(),
            journal=self.folder / "journal",
            message_bus=Bus(),
            name="power",
            verification_timeout=1.0,
            visibility_window=0.1,
            listing_interval=0.05,
            watch_interval=0.2,
        )
        self.pipeline.start()
        threads = [threading.Thread(target=self.trade, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.pipeline.stop()

    def make_old(self):
        """A journal as the first version of the schema made it."""
        from hireliab.core._sqlite import SQLiteFile
        from hireliab.exchange import sqlite_journal

        folder = self.folder / "journal"
        folder.mkdir(mode=0o700)
        schema, mark = sqlite_journal._SCHEMA[:1], sqlite_journal.APPLICATION_ID
        file = SQLiteFile(folder / JOURNAL, what="journal-old", application_id=mark, schema=schema)
        file.open()
        file.write(lambda db: db.execute("INSERT INTO meta VALUES ('watermark', '7')") and None)
        file.close()

    def trade(self):
        from hireliab.errors import HireliabError

        while True:
            with self.lock:
                i = next(self.numbers, None)
                side, resting = self.rng.choice(("buy", "sell")), self.rng.random() < 0.3
            if i is None:
                return
            # A symbol for each thread and life: an order that stays unknown gates nobody else.
            symbol = f"C{self.plan['life']}{threading.get_ident() % 97}/USDT"
            wanted = {"symbol": symbol, "amount": f"{1 + i}.5", "type": f"market_{side}"}
            if resting:
                wanted.update(type=f"limit_{side}", price="100")
            key = f"{self.plan['recording']}-{self.plan['life']}-{i}"
            try:
                transaction = self.pipeline.create_transaction(**wanted, idempotency_key=key)
                result = self.pipeline.execute(transaction)
            except HireliabError as error:
                print(f"order {i}: {type(error).__name__}: {error}", flush=True)
                continue
            if result.durable and result.verdict.value in ("COMPLETED", "PARTIAL"):
                self.acknowledge("told", transaction.id, "COMPLETED")
            if result.order_status == "Active" and i % 2:
                self.pipeline.cancel(transaction.id)


def bot(folder, plan):
    logging.basicConfig(level=logging.ERROR)
    try:
        Bot(folder, plan).live()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    bot(Path(sys.argv[1]), json.loads(sys.argv[2]))
