"""
The small bot of the demo, in whatever process it runs: pool, adapter and pipeline from one description.

``python -m hireliab.examples._demo_bot`` is the bot that the demo kills: it reads its description and its order from
standard input, sends the order, and prints the verdict, if it lives to see it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hireliab import ConnectionPool, EnhancedNobitexAdapter, NobitexClient, TransactionVerificationPipeline

# Far shorter than a real bot's, because this exchange is on the same machine and shows every order at once: 1 s
# instead of 5 s for listings that lag, and 2 s instead of 40 s for a request that may still arrive.
PIPELINE: dict[str, Any] = {
    "visibility_window": 1.0,
    "late_arrival_bound": 2.0,
    "listing_interval": 0.5,
    "watch_interval": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Bot:
    """The three objects that place an order one can trust."""

    pool: ConnectionPool[NobitexClient]
    adapter: EnhancedNobitexAdapter
    verifier: TransactionVerificationPipeline


@contextlib.contextmanager
def bot(where: Mapping[str, Any], *, journal: str, name: str, **parts: Any) -> Iterator[Bot]:
    """
    A running bot.

    Args:
        where: The simulator's first line: base_url, api_key, api_secret.
        journal: Folder of the pipeline's journal.
        name: Of the pipeline and the pool.
        parts: message_bus and alert_system for the pipeline.
    """
    pool = ConnectionPool(
        name=name,
        create_client_func=lambda: NobitexClient(base_url=where["base_url"]),
        config={"min_connections": 1, "max_connections": 4, "connection_timeout": 5},
    )
    config = {"api_key": where["api_key"], "api_secret": where["api_secret"], "connection_pool": pool}
    with contextlib.ExitStack() as stack:
        stack.callback(pool.stop)
        pool.initialize()
        adapter = stack.enter_context(EnhancedNobitexAdapter(config=config))
        verifier = TransactionVerificationPipeline(
            exchange_adapter=adapter, journal=journal, name=name, **PIPELINE, **parts
        )
        stack.callback(verifier.stop, timeout=5.0)
        yield Bot(pool=pool, adapter=adapter, verifier=verifier)


def main() -> int:
    """Place one order; the exit code."""
    given = json.load(sys.stdin)
    with bot(given["where"], journal=given["journal"], name=given["name"]) as mine:
        transaction = mine.verifier.create_transaction(**given["order"])
        print(mine.verifier.execute(transaction).verdict.value, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
