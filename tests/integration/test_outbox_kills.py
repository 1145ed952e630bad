"""The bot dies between its journal and a real broker, at each of L16 to L18; the next start tells what it had not told."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hireliab.messaging.message_bus import open_message_bus
from tests.support.together import until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL"),
]
BOT = """
import contextlib, json, sys, time
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import HireliabError
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.messaging.message_bus import open_message_bus
from hireliab.testing import ScriptedExchange

folder, url, orders = sys.argv[1], sys.argv[2], int(sys.argv[3])
exchange = ScriptedExchange(clock=SYSTEM_CLOCK)
exchange._next = int(time.time() * 1000)  # it dies with the bot, and no order id may come twice
with open_message_bus(url, name="bot") as bus:
    pipeline = TransactionVerificationPipeline(
        exchange_adapter=exchange, journal=folder, message_bus=bus, operator_interval=None, late_arrival_bound=0.2,
        visibility_window=0.1, listing_interval=0.1,
    )
    pipeline.start()
    for n in range(orders):
        kind = "market_buy" if n % 2 else "limit_buy"
        price = None if n % 2 else "100"
        order = pipeline.create_transaction(type=kind, symbol="BTC/USDT", amount=f"0.{n + 1:02}", price=price)
        pipeline.execute(order)
        if not n % 2:
            with contextlib.suppress(HireliabError):
                pipeline.cancel(order.id)
    give_up = time.monotonic() + 30.0
    while pipeline.stats().outbox.pending and time.monotonic() < give_up:
        time.sleep(0.02)
    print(json.dumps(pipeline.stats().outbox.as_dict()))
    pipeline.stop()
"""


def bot(folder, url, orders, kill_at=None):
    """The exit code, and the outbox's figures where it came to an end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | ({"HIRELIAB_KILL_AT": kill_at} if kill_at else {})
    done = subprocess.run(
        [sys.executable, "-c", BOT, str(folder), url, str(orders)],
        env=environment, capture_output=True, text=True, timeout=90, check=False, cwd=ROOT,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr


def journalled(folder):
    db = sqlite3.connect(f"{(folder / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        return db.execute("SELECT event_id, topic, body, published IS NOT NULL FROM event ORDER BY seq").fetchall()
    finally:
        db.close()


@pytest.mark.parametrize("label", ["L16", "L17", "L18"])
def test_what_the_bot_died_over_is_told_by_the_next_start_under_the_same_id(broker, tmp_path, label):
    heard = []
    with open_message_bus(broker.url, name="ear") as ear:
        ear.subscribe("#", heard.append, group="ear")
        for hit in (1, 5, 9):
            code, said = bot(tmp_path / "journal", broker.url, 8, f"{label}:{hit}")
            assert code == -signal.SIGKILL, said
        code, stats = bot(tmp_path / "journal", broker.url, 2)
        assert (code, stats["pending"]) == (0, 0), stats
        rows = journalled(tmp_path / "journal")
        until(lambda: {message.id for message in heard} >= {row[0] for row in rows}, 30.0)
    bodies = {event_id: (topic, json.loads(body)) for event_id, topic, body, _ in rows}
    assert len(rows) > 15
    assert all(published for *_, published in rows)
    assert {message.id: (message.topic, message.data) for message in heard} == bodies
    first = list(dict.fromkeys(message.id for message in heard))
    for txn in {event_id.partition(":")[0] for event_id in first}:
        versions = [int(event_id.partition(":")[2]) for event_id in first if event_id.startswith(txn)]
        assert versions == sorted(versions)
    if label == "L18":  # confirmed and not marked: told again
        assert len(heard) > len(first)
