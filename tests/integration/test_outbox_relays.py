"""
Two relays on one outbox, the leader killed (case F16 of the design).

A journal belongs to one process: the kernel's lock on its folder. So the second process stands by, refused each time
that it asks, until the first one is dead, however that died; then it publishes what the first one had not.
"""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from hireliab.messaging.message_bus import open_message_bus
from tests.support.bus_traffic import until

ROOT = Path(__file__).resolve().parents[2]
KILLS = 3
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")

BOT = """
import contextlib, os, sys, time
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import HireliabError, JournalLockedError
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.messaging.message_bus import open_message_bus
from hireliab.testing import ScriptedExchange

folder, url, orders = sys.argv[1], sys.argv[2], int(sys.argv[3])

def say(word):
    os.write(1, f"{word}\\n".encode())

exchange = ScriptedExchange(clock=SYSTEM_CLOCK)
exchange._next = int(time.time() * 1000)  # it dies with the bot, and no order id may come twice
bus = open_message_bus(url, name="bot")
stood_by = False
while True:
    pipeline = TransactionVerificationPipeline(
        exchange_adapter=exchange, journal=folder, message_bus=bus, operator_interval=None, late_arrival_bound=0.2,
        visibility_window=0.1, listing_interval=0.1,
    )
    try:
        pipeline.start()
        break
    except JournalLockedError:
        if not stood_by:
            say("stands by")
        stood_by = True
say("leads")
n = 0
while n < orders or orders == 0:
    n += 1
    order = pipeline.create_transaction(type="limit_buy", symbol="BTC/USDT", amount=f"0.{n + 1:06}", price="100")
    pipeline.execute(order)
    with contextlib.suppress(HireliabError):
        pipeline.cancel(order.id)
    if n % 10 == 0:
        say("works")
while pipeline.stats().outbox.pending:
    time.sleep(0.02)
pipeline.stop()
bus.stop()
say("is done")
"""


class Relay:
    """A bot that leads, or stands by."""

    def __init__(self, folder, url, orders=0):
        self.process = subprocess.Popen(
            [sys.executable, "-c", BOT, str(folder), url, str(orders)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for(self, word):
        """Read what it says up to this word; it must say so before it ends."""
        said = ""
        while said != word:
            line = self.process.stdout.readline()
            assert line, f"it ended with {self.process.wait()}: {self.process.stderr.read()}"
            said = line.rstrip("\n")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def events(folder):
    db = sqlite3.connect(f"{(folder / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        return db.execute("SELECT event_id, topic, body, published IS NOT NULL FROM event ORDER BY seq").fetchall()
    finally:
        db.close()


@pytest.mark.slow
def test_the_second_relay_takes_over_when_the_first_is_killed_and_no_event_is_lost(broker, tmp_path, capsys):
    folder, seed = tmp_path / "journal", random.randrange(1_000_000)
    rng, relays, heard, left = random.Random(seed), [], [], []
    with open_message_bus(broker.url, name="ear") as ear:
        ear.subscribe("#", heard.append, group="ear", in_order=True)
        try:
            relays = [Relay(folder, broker.url)]
            relays[0].wait_for("leads")
            for _ in range(KILLS):
                leader, follower = relays[-1], Relay(folder, broker.url)
                relays.append(follower)
                follower.wait_for("stands by")  # the leader is alive, and has the journal
                leader.wait_for("works")
                if rng.random() < 0.5:
                    broker.node.pause()  # events pile up in the journal
                    leader.wait_for("works")
                time.sleep(rng.random() * 0.1)
                leader.process.send_signal(signal.SIGKILL)
                assert leader.process.wait() == -signal.SIGKILL
                left.append(sum(not published for *_, published in events(folder)))
                broker.node.resume()
                follower.wait_for("leads")
            last = Relay(folder, broker.url, orders=10)
            relays.append(last)
            last.wait_for("stands by")
            relays[-2].process.send_signal(signal.SIGKILL)
            last.wait_for("is done")
            assert last.process.wait() == 0
        finally:
            for relay in relays:
                relay.end()
        rows = events(folder)
        until(lambda: {message.id for message in heard} >= {row[0] for row in rows})
    assert all(published for *_, published in rows)
    bodies = {event_id: (topic, json.loads(body)) for event_id, topic, body, _ in rows}
    # Each repetition is the same event under the same id, and nothing was told that is not journalled.
    assert all(bodies[message.id] == (message.topic, message.data) for message in heard)
    versions = defaultdict(list)
    for event_id in dict.fromkeys(message.id for message in heard):
        key, _, version = event_id.partition(":")
        versions[key].append(int(version))
    assert all(found == sorted(found) for found in versions.values()), f"seed {seed}"
    assert sum(left), "no kill left an event unpublished"
    with capsys.disabled():
        print(
            f"\n{KILLS + 1} leaders killed, seed {seed}: {len(rows)} events of {len(versions)} transactions, 0 lost, "
            f"{len(heard) - len(bodies)} told twice, {left} waited at the kills"
        )
