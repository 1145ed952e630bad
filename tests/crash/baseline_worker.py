"""
The baseline bots, and the zygote that forks them: as worker.py, but without hireliab.

``python baseline_worker.py FOLDER naive|dbos|dbos-careful`` answers the same lines as worker.py. A bot writes the same
promise log (`start`, `ready`, `begin`, `end`, `dead`, `final`) and, in its last life, ``belief.json``: what it thinks
of every order that it ever began.

naive          `requests`, three retries after any exception or 5xx, a file of finished orders that a restart reads.
dbos           a DBOS workflow per order with the steps prepare, submit and verify; the workflow's id is the order's
               key; steps are retried as the documents show; DBOS recovers at launch; its SQLite file as shipped.
dbos-careful   the same, with a client order id that follows from the order, and a look-up before each sending.
"""

import contextlib
import gc
import itertools
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

import baseline_client
import workload
from baseline_client import Client, Trouble

THREADS = 8
RETRIES = 3
PAUSE = 0.1  # seconds before the first retry; doubled each time
THINK = 0.05  # seconds between two orders of a thread


class Bot:
    """What the three have in common: threads that ask for the order numbers of a plan."""

    def __init__(self, folder, plan):
        self.folder, self.plan, self.inc = folder, plan, plan["inc"]
        self.handle = os.open(folder / "promises.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.client = Client(plan["venue"], plan["timeouts"])
        self.lock = threading.Lock()  # guards the iterator, and what a child class keeps

    def note(self, event, **facts):
        line = {"t": event, "mono": time.monotonic_ns(), "wall": time.time(), "inc": self.inc, **facts}
        os.write(self.handle, (json.dumps(line) + "\n").encode())

    def key(self, i):
        return f"{self.plan['seed']}-{i}"

    def live(self):
        self.note("start", pid=os.getpid())
        self.start()
        self.note("ready")
        plan = self.plan
        if plan.get("final"):
            self.run(plan["resume"], wait=True)
            self.settle()
            (self.folder / "belief.json").write_text(json.dumps(self.belief()))
            self.note("final", unresolved=[])
            return
        self.run(itertools.chain(plan["resume"], itertools.count(plan["next"])), wait=False)
        zygote = os.getppid()
        while os.getppid() == zygote:  # the driver kills us; without it we end
            time.sleep(0.5)

    def run(self, numbers, *, wait):
        self.numbers = iter(numbers)
        threads = [threading.Thread(target=self.work, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        if wait:
            for thread in threads:
                thread.join()

    def work(self):
        try:
            while True:
                with self.lock:
                    i = next(self.numbers, None)
                if i is None:
                    return
                wanted = workload.order(self.plan["seed"], i, kinds=tuple(self.plan["kinds"]))
                self.note("begin", key=self.key(i), i=i, txn=self.key(i), kind=wanted["kind"], stage="storm")
                self.note("end", key=self.key(i), i=i, txn=self.key(i), answer=self.place(i, wanted["args"]))
                time.sleep(THINK)
        except BaseException:
            self.note("dead", error=traceback.format_exc())
            raise

    def settle(self):
        """Wait until nothing is under way."""


class Naive(Bot):
    """Answers are trusted, errors are retried, and what is finished is in a file."""

    def start(self):
        path, self.done = self.folder / "done.jsonl", {}
        for line in path.read_text().split("\n")[:-1] if path.exists() else ():
            with contextlib.suppress(ValueError):  # cut off by a kill
                key, told = json.loads(line)
                self.done[key] = told
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def place(self, i, wanted):
        with self.lock:
            if self.key(i) in self.done:
                return self.done[self.key(i)]
        told = self.try_hard(i, wanted)
        os.write(self.file, (json.dumps([self.key(i), told]) + "\n").encode())
        os.fsync(self.file)
        with self.lock:
            self.done[self.key(i)] = told
        return told

    def try_hard(self, i, wanted):
        client_order_id = baseline_client.fixed_id(i)
        try:
            order = self.retried(lambda: self.client.add(baseline_client.body(wanted, client_order_id)))
        except Trouble as error:
            return {"belief": "not placed", "order": None, "why": str(error)}
        if isinstance(order, dict):
            return {"belief": "not placed", "order": None, "why": order["refused"]}
        try:
            seen = self.retried(lambda: self.client.settled(client_order_id, order))
        except Trouble:
            seen = None
        if seen is not None and seen["status"] == "Rejected":
            return {"belief": "not placed", "order": order, "why": "Rejected"}
        if seen is not None:
            order = str(seen["id"])
        return {"belief": "placed", "order": order}

    @staticmethod
    def retried(call):
        for attempt in range(RETRIES):
            try:
                return call()
            except Trouble:
                time.sleep(PAUSE * 2**attempt)
        return call()

    def belief(self):
        return self.done


class Durable(Bot):
    """DBOS does the remembering."""

    careful = False

    def start(self):
        from dbos import DBOS, SetWorkflowID

        client, careful = self.client, self.careful
        DBOS(
            config={
                "name": "baseline",
                "system_database_url": f"sqlite:///{self.folder / 'dbos.sqlite'}",
                "log_level": "ERROR",
            }
        )

        @DBOS.step(name="prepare")
        def prepare(i, wanted):
            given = baseline_client.fixed_id(i) if careful else baseline_client.fresh_id(i)
            return baseline_client.body(wanted, given)

        # The documents: "automatically retry any exception a set number of times with exponential backoff".
        @DBOS.step(name="submit", retries_allowed=True, max_attempts=1 + RETRIES, interval_seconds=PAUSE)
        def submit(given):
            if careful:
                known = client.status(clientOrderId=given["clientOrderId"])
                if known is not None:
                    return str(known["id"])
            return client.add(given)

        @DBOS.step(name="verify", retries_allowed=True, max_attempts=1 + RETRIES, interval_seconds=PAUSE)
        def verify(client_order_id, order):
            return client.settled(client_order_id, order)

        @DBOS.workflow(name="place_order")
        def place_order(i, wanted):
            given = prepare(i, wanted)
            sure, order = True, None
            try:
                order = submit(given)
            except Exception:  # every attempt failed: only a look-up can tell
                sure = False
            if isinstance(order, dict):
                return {"belief": "not placed", "order": None, "why": order["refused"]}
            try:
                seen = verify(given["clientOrderId"], order)
            except Exception:
                seen = None
            if seen is not None:
                placed = seen["status"] != "Rejected"
                return {"belief": "placed" if placed else "not placed", "order": str(seen["id"])}
            return {"belief": "placed" if sure else "unknown", "order": order}

        self.workflow, self.dbos, self.set_id = place_order, DBOS, SetWorkflowID
        DBOS.launch()  # recovers what is pending, in the background

    def place(self, i, wanted):
        with self.set_id(self.key(i)):
            return self.workflow(i, wanted)

    def settle(self):
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            if not self.dbos.list_workflows(status=["PENDING", "ENQUEUED"], load_input=False, load_output=False):
                return
            time.sleep(0.2)

    def belief(self):
        found = {}
        for workflow in self.dbos.list_workflows():
            told = workflow.output if workflow.status == "SUCCESS" else None
            found[workflow.workflow_id] = told or {"belief": "unknown", "order": None, "why": workflow.status}
        return found


class Careful(Durable):
    careful = True


BOTS = {"naive": Naive, "dbos": Durable, "dbos-careful": Careful}


def child(folder, plan, kind):
    """The forked bot; never returns."""
    code = 1
    try:
        null, log = (
            os.open(os.devnull, os.O_RDONLY),
            os.open(folder / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        )
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        bot = BOTS[kind](folder, plan)
        try:
            bot.live()
            code = 0
        except BaseException:
            bot.note("dead", error=traceback.format_exc())
    finally:
        os._exit(code)


def zygote(folder, kind):
    """Fork bots as told, until standard input ends."""
    if kind.startswith("dbos"):
        import dbos  # noqa: F401 - imported before the forks
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if "fork" in request:
            pid = os.fork()
            if pid == 0:
                child(folder, request["fork"], kind)
            answer = {"pid": pid}
        else:
            flags = os.WNOHANG if request.get("poll") else 0
            pid, status = os.waitpid(request["wait"], flags)
            answer = {"status": None if pid == 0 else status}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    zygote(Path(sys.argv[1]), sys.argv[2])
