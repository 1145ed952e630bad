"""
A program that publishes and consumes over a network that fails, and keeps books: the child of test_rabbitmq_soak.py.

    python -m tests.support.bus_soak URL FOLDER

It says "ready", works until its standard input says "drain", ends its books, and prints what it found as JSON.
"""

import gc
import json
import logging
import os
import sys
import threading
import time
from collections import Counter

from hireliab.errors import BusFullError
from hireliab.messaging.bus import PublishStatus
from hireliab.messaging.inbox import Inbox
from hireliab.messaging.rabbitmq import _backoff
from hireliab.messaging.rabbitmq.bus import RabbitMQMessageBus

PUBLISHERS = 4
GROUPS = ("ordered", "shared", "inbox")
SETTLED = (PublishStatus.CONFIRMED, PublishStatus.UNKNOWN)
CAP = 120.0


class Books:
    """
    What was published and is not yet seen by every group. What is done is forgotten, so that a long run needs no more
    memory than a short one.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.open = {}  # (publisher, number) -> groups that have not seen it
        self.confirmed = {}  # those of them that are confirmed -> when
        self.newest = Counter()  # (group, publisher) -> the highest number seen
        self.counts = Counter()
        self.wrong = []

    def publish(self, key):
        with self.lock:
            self.open[key] = set(GROUPS)
            self.counts["published"] += 1

    def refuse(self, key):
        """Nobody will see it."""
        with self.lock:
            del self.open[key]
            self.counts["refused"] += 1

    def settle(self, key, status):
        with self.lock:
            self.counts[status.value] += 1
            if status not in SETTLED:
                self.wrong.append(f"{key}: {status}")
            elif status is PublishStatus.CONFIRMED and key in self.open:
                self.confirmed[key] = time.monotonic()

    def see(self, group, message):
        key = tuple(message.data)
        with self.lock:
            self.counts[f"seen by {group}"] += 1
            waiting = self.open.get(key)
            first = waiting is not None and group in waiting
            if not first:
                self.counts[f"repeated for {group}"] += 1
                if group == "inbox":
                    self.wrong.append(f"{key}: the inbox let a repetition through")
                return
            if group == "ordered":
                if key[1] < self.newest[key[0]]:
                    self.wrong.append(f"{key}: came behind {self.newest[key[0]]}")
                self.newest[key[0]] = max(self.newest[key[0]], key[1])
            waiting.discard(group)
            if not waiting:
                del self.open[key]
                self.confirmed.pop(key, None)
                self.counts["done"] += 1


def figures():
    """Threads, open files and bytes of this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        rss = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))
    return threading.active_count(), len(os.listdir("/proc/self/fd")), rss


class Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.texts = []

    def emit(self, record):
        self.texts.append(f"{record.name}: {record.getMessage()} {record.exc_info}")


def main():
    url, folder = sys.argv[1:]
    errors, books, drain = Errors(), Books(), threading.Event()
    logging.getLogger().addHandler(errors)
    threading.excepthook = lambda args: errors.texts.append(f"{args.thread}: {args.exc_value!r}")
    samples, before = [], figures()

    def publish(bus, publisher):
        number = 0
        while not drain.wait(0.05):
            if len(books.open) > 2000:
                continue  # the consumers are cut off: what waits is not to become more and more
            receipts = []
            for _ in range(5):
                number += 1
                key = (publisher, number)
                books.publish(key)
                try:
                    receipts.append((key, bus.publish(f"soak.{publisher}", list(key), timeout=1.0)))
                except BusFullError:
                    books.refuse(key)
            for key, receipt in receipts:
                books.settle(key, receipt.wait(CAP))

    def sample():
        while not drain.wait(1.0):
            gc.collect()
            samples.append(figures())

    _backoff.LONGEST_PAUSE = 1.0  # or most of the time would be spent waiting for the next try
    settings = {"heartbeat": 5, "retry_delays": [0.1, 0.2], "source": "soak"}
    with (
        Inbox(f"{folder}/inbox.db", group="inbox") as inbox,
        RabbitMQMessageBus(settings, url=url, name="there") as there,
        RabbitMQMessageBus(settings, url=url, name="here") as here,
    ):
        once = inbox.once(lambda message: books.see("inbox", message))
        there.subscribe("soak.#", lambda message: books.see("ordered", message), group="ordered", in_order=True)
        there.subscribe("soak.#", lambda message: books.see("shared", message), group="shared", concurrency=2)
        there.subscribe("soak.*", once, group="inbox")
        threads = [threading.Thread(target=publish, args=(here, n)) for n in range(PUBLISHERS)]
        threads.append(threading.Thread(target=sample))
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        sys.stdin.readline()
        drain.set()
        for thread in threads:
            thread.join()
        give_up = time.monotonic() + CAP
        while time.monotonic() < give_up:
            with books.lock:
                if not books.confirmed:
                    break
            time.sleep(0.05)
        time.sleep(0.5)  # whoever is handling ends
        status, consumed = here.status(), there.status().subscriptions
        lost = sorted(books.confirmed)
        stats = inbox.stats()
    gc.collect()
    balanced = all(
        one.accepted == one.queued + one.retrying + one.in_flight + one.acked + one.dead_lettered + one.unfinished
        for one in consumed
    )
    print(
        json.dumps(
            {
                "lost": [list(key) for key in lost],
                "wrong": books.wrong,
                "errors": errors.texts,
                "counts": books.counts,
                "open": len(books.open),
                "samples": samples,
                "before": before,
                "after": figures(),
                "balanced": balanced,
                "in_flight": status.in_flight,
                "dead_lettered": sum(one.dead_lettered for one in consumed),
                "reconnects": status.reconnects,
                "republished": status.republished,
                "duplicates": stats.duplicates,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
