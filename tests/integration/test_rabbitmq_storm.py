"""
A broker that is killed again and again under load, an outage under load, and large and small messages at once.

HIRELIAB_BROKER_KILLS (5) and HIRELIAB_OUTAGE_SECONDS (6) say how much of it; releases run 20 and 60.
"""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from hireliab.errors import BusFullError
from hireliab.messaging.bus import PublishStatus
from hireliab.messaging.inbox import Inbox
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from tests.support.bus_traffic import CAP, Collector, impatient, make_bus, until
from tests.support.tcp_proxy import TcpProxy
from tests.support.together import Background, together

__all__ = ["impatient"]

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
KILLS = int(os.environ.get("HIRELIAB_BROKER_KILLS", "5"))
CLASSIC_KILLS = int(os.environ.get("HIRELIAB_BROKER_KILLS", "2"))
OUTAGE = float(os.environ.get("HIRELIAB_OUTAGE_SECONDS", "6"))
LAG = 600
"""Messages that a publisher may be ahead of those who handle them."""
CONFIRMED, UNKNOWN = PublishStatus.CONFIRMED, PublishStatus.UNKNOWN


class Seen:
    """A handler that keeps of each message what the books need."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rows = []  # (publisher, number), id, redelivered
        self.counts = Counter()

    def __call__(self, message):
        with self.lock:
            self.rows.append((tuple(message.data), message.id, message.redelivered))
            self.counts[message.data[0]] += 1

    def count(self, publisher):
        return self.counts[publisher]

    def keys(self):
        with self.lock:
            return {row[0] for row in self.rows}


class Traffic:
    """
    Eight publishers, each with a topic and numbers of its own; they publish in bursts.

    `behind(publisher, published)` tells one to wait for those who handle its messages.
    """

    def __init__(self, bus, behind):
        self.bus, self.behind = bus, behind
        self.enough = threading.Event()
        self.receipts = [[] for _ in range(8)]
        self.threads = [Background(self._publish, p) for p in range(8)]

    def _publish(self, publisher):
        receipts = self.receipts[publisher]
        while not self.enough.wait(0.1):
            if self.behind(publisher, len(receipts)):
                continue
            for _ in range(60):
                with contextlib.suppress(BusFullError):
                    receipts.append(self.bus.publish(f"load.{publisher}", [publisher, len(receipts)], timeout=0.5))

    def end(self):
        """Stop publishing; the statuses of all messages by (publisher, number)."""
        self.enough.set()
        for thread in self.threads:
            thread.result()
        return {
            (publisher, number): receipt.wait(CAP)
            for publisher, receipts in enumerate(self.receipts)
            for number, receipt in enumerate(receipts)
        }


@pytest.mark.parametrize(("queue_type", "kills"), [("quorum", KILLS), ("classic", CLASSIC_KILLS)])
def test_a_broker_killed_again_and_again_loses_no_confirmed_message(broker, tmp_path, capsys, queue_type, kills):
    node, seed = broker.node, random.randrange(1_000_000)
    rng = random.Random(seed)
    in_order, anyhow, raw, effects = Seen(), Seen(), Seen(), Seen()
    with (
        Inbox(tmp_path / "inbox.db", group="inbox") as inbox,
        make_bus(broker.url, name="there", queue_type=queue_type) as there,
        make_bus(broker.url, name="here", queue_type=queue_type) as here,
    ):
        once = inbox.once(effects)
        there.subscribe("load.*", in_order, group="order", in_order=True)
        there.subscribe("load.#", anyhow, group="anyhow", concurrency=2)
        there.subscribe("load.0", lambda message: (raw(message), once(message)), group="inbox", concurrency=1)
        began = time.monotonic()
        # The inbox commits each message, and a group in order gets one at a time: publishers wait for them.
        traffic = Traffic(
            here,
            lambda publisher, published: (
                published - in_order.count(publisher) > LAG or (publisher == 0 and published - effects.count(0) > 200)
            ),
        )
        for _ in range(kills):
            start = here.status().published
            until(lambda start=start: here.status().published > start + 500)
            time.sleep(rng.random() * 0.3)
            node.kill()
            node.start()
        start = here.status().published
        until(lambda: here.status().published > start + 500)
        statuses = traffic.end()
        confirmed = {key for key, status in statuses.items() if status is CONFIRMED}
        for seen, wanted in (
            (in_order, confirmed), (anyhow, confirmed), (effects, {key for key in confirmed if key[0] == 0}),
        ):  # fmt: skip
            until(lambda s=seen, w=wanted: w <= s.keys(), lambda s=seen, w=wanted: lost(w, s))
        until(lambda: not any(one.in_flight or one.queued for one in there.status().subscriptions))
        took = time.monotonic() - began
        stats, status = inbox.stats(), here.status()
    assert set(statuses.values()) <= {CONFIRMED, UNKNOWN}
    for seen in (in_order, anyhow, raw):
        ids = {}
        for key, message_id, _ in seen.rows:
            assert ids.setdefault(key, message_id) == message_id, "a repetition under another id"
        assert len(set(ids.values())) == len(ids), "one id for two messages"
    assert max(Counter(effects.rows).values()) == 1, "the inbox let a repetition through"
    assert len({key for key, *_ in effects.rows}) == len(effects.rows)
    for publisher in range(8):
        # Without its repetitions, as behind an inbox.
        numbers = list(dict.fromkeys(key[1] for key, *_ in in_order.rows if key[0] == publisher))
        assert numbers == sorted(numbers), f"publisher {publisher} overtook itself, seed {seed}: {jumps(numbers)}"
    # One that is not in order: what it had in hand comes again when the broker notices, marked, and behind newer ones.
    late = {key for key, _, again in raw.rows if again}
    numbers = [key[1] for key in dict.fromkeys(key for key, *_ in raw.rows) if key not in late]
    assert numbers == sorted(numbers), f"seed {seed}: {jumps(numbers)}"
    assert (stats.failed, stats.conflicts) == (0, 0)
    repeated = len(in_order.rows) - len(in_order.keys())
    with capsys.disabled():
        print(
            f"\n{kills} kills, {queue_type} queues, in {took:.0f} s, seed {seed}: {len(statuses)} published, {len(confirmed)} confirmed, 0 of "
            f"them lost, {len(statuses) - len(confirmed)} unknown, {status.republished} sent again, {repeated} came more "
            f"than once to the group in order, {stats.duplicates} of {len(raw.rows)} taken out by the inbox"
        )


def jumps(numbers):
    """Where the order is broken, with what stands around it."""
    return [numbers[max(0, i - 3) : i + 4] for i in range(1, len(numbers)) if numbers[i] < numbers[i - 1]]


def lost(wanted, seen):
    missing = wanted - seen.keys()
    return f"{len(missing)} of {len(wanted)} are lost, such as {sorted(missing)[:10]}"


def test_messages_of_all_sizes_from_many_threads_arrive_whole_while_connections_break(broker):
    rng = random.Random(1)
    largest = 1_048_576 - 64
    sizes = [[0, 1, largest, *(int(2 ** rng.uniform(0, 20)) - 1 for _ in range(27))] for _ in range(8)]
    texts = {}
    with (
        TcpProxy(broker.node.host, broker.node.port) as proxy,
        make_bus(broker.url, name="there") as there,
        make_bus(broker.at(proxy.host, proxy.port), name="here") as here,
    ):
        digests = Collector()
        there.subscribe("size.*", lambda m: digests(Digest(m)), group="g", concurrency=2)
        here.publish_sync("a", 0, timeout=CAP)

        def publish(t):
            settled, chance = [], random.Random(t)
            for n, size in enumerate(sizes[t]):
                text = chance.choice("abä€") * max(0, min(size, largest) // 3) if size != largest else "z" * largest
                texts[t, n] = hashlib.sha256(text.encode()).hexdigest()
                data = text if n % 2 else {"k": [t, n], "text": text}
                settled.append(here.publish(f"size.{t}", data, headers={"key": f"{t},{n}"}, timeout=CAP))
                if t == 0 and n in (5, 12, 20):
                    proxy.cut_after(100_000, "up")
            return settled

        receipts = together(8, publish)
        assert {receipt.wait(CAP) for some in receipts for receipt in some} == {CONFIRMED}
        digests.wait(lambda messages: len({message.key for message in messages}) == len(texts))
        status = here.status()
        assert (status.published, status.in_flight, status.in_flight_bytes) == (len(texts) + 1, 0, 0)
        assert {message.key: message.digest for message in digests.messages} == texts
        assert not any(one.dead_lettered or one.failures for one in there.status().subscriptions)


class Digest:
    """What is kept of a large message."""

    def __init__(self, message):
        self.key = tuple(int(part) for part in message.headers["key"].split(","))
        self.data = self.key
        text = message.data if isinstance(message.data, str) else message.data["text"]
        self.digest = hashlib.sha256(text.encode()).hexdigest()


OUTAGE_SCRIPT = """
import gc, json, logging, sys, time
from hireliab.errors import BusFullError
from hireliab.messaging.bus import PublishStatus
from hireliab.messaging.message_bus import open_message_bus

logging.disable(logging.CRITICAL)
url, seconds = sys.argv[1], float(sys.argv[2])

def rss():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))

body = "x" * 1000
with open_message_bus(url, name="outage", config={"heartbeat": 5}) as bus:
    warm = [bus.publish("a", body, timeout=30) for _ in range(3000)]
    assert {receipt.wait(30) for receipt in warm} == {PublishStatus.CONFIRMED}
    del warm
    gc.collect()
    print("ready", flush=True)
    sys.stdin.readline()  # the broker is dead now
    before, most = rss(), 0
    began = time.monotonic()
    offered = refused = 0
    receipts, slowest = [], 0.0
    while (now := time.monotonic()) - began < seconds:
        for _ in range(int((now - began) * 10_000) - offered):
            offered += 1
            start = time.perf_counter()
            try:
                receipts.append(bus.publish("a", body))
            except BusFullError:
                refused += 1
            slowest = max(slowest, time.perf_counter() - start)
        most = max(most, rss())
        time.sleep(0.005)
    status = bus.status()
    print(json.dumps({
        "offered": offered, "taken": len(receipts), "refused": refused, "growth": most - before, "slowest": slowest,
        "in_flight": status.in_flight, "bytes": status.in_flight_bytes, "connected": status.connected,
    }), flush=True)
    sys.stdin.readline()  # the broker lives again
    print(json.dumps(sorted(str(receipt.wait(90)) for receipt in receipts)), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to weigh a process")
def test_an_outage_under_load_costs_no_more_memory_than_the_window(broker, capsys):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OUTAGE_SCRIPT), broker.url, str(OUTAGE)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready\n"
        broker.node.kill()
        process.stdin.write("dead\n")
        process.stdin.flush()
        figures = json.loads(process.stdout.readline())
        broker.node.start()
        process.stdin.write("alive\n")
        process.stdin.flush()
        statuses = json.loads(process.stdout.readline())
        assert process.wait(CAP) == 0
    finally:
        process.kill()
        process.communicate()
    with capsys.disabled():
        print(
            f"\nan outage of {OUTAGE:.0f} s: {figures['offered']} offered, {figures['taken']} taken, memory grew by "
            f"{figures['growth'] / 2**20:.1f} MiB, the slowest publish() took {figures['slowest'] * 1000:.1f} ms"
        )
    assert figures["offered"] >= OUTAGE * 9_000
    assert figures["taken"] == figures["in_flight"] <= RabbitMQConfig().window
    assert figures["taken"] + figures["refused"] == figures["offered"]
    assert not figures["connected"]
    assert figures["bytes"] <= RabbitMQConfig().window_bytes
    assert figures["growth"] <= RabbitMQConfig().window_bytes + 20 * 2**20
    assert set(statuses) <= {"PublishStatus.CONFIRMED", "PublishStatus.UNKNOWN"}
    assert len(statuses) == figures["taken"]
