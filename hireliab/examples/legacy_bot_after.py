"""
The same old bot on requests with hireliab around its place_order: each order is placed once, and known.

``python -m hireliab.examples.legacy_bot_after``. Signals and faults are those of legacy_bot_before.py. What is new: the
adapter, the pipeline with its journal, a look-up, one decorator, and no second attempt.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from hireliab import (
    EnhancedNobitexAdapter,
    NotSentError,
    OutcomeUnknownError,
    RefusedError,
    TransactionVerificationPipeline,
    verified_transaction,
)
from hireliab.examples._legacy_day import OPTIONS, SIGNALS, report
from hireliab.examples._offline import exchange, run


class Refused(Exception):  # noqa: N818 - the bot's own word
    """The exchange's no, such as too little money."""


def trade(url: str, token: str, journal: Path) -> dict[str, Decimal]:
    """The bot; for each signal the amount that it knows to have bought."""
    session = requests.Session()
    session.headers["Authorization"] = f"Token {token}"
    bought: dict[str, Decimal] = {}
    adapter = EnhancedNobitexAdapter(config={"token": token, "base_url": url})
    verifier = TransactionVerificationPipeline(exchange_adapter=adapter, journal=journal)

    def find_order(client_order_id: str) -> list[dict[str, Any]]:
        answer = session.get(f"{url}/market/orders/list?details=2&status=all&pageSize=100", timeout=10)
        answer.raise_for_status()
        return [order for order in answer.json()["orders"] if order.get("clientOrderId") == client_order_id]

    @verified_transaction(
        verifier, find=find_order, finds_closed=True, refused=Refused, idempotency_key=lambda signal: signal
    )
    def place_order(signal: str, amount: str, client_order_id: str = "") -> dict[str, Any]:  # noqa: ARG001 - for the key
        order = {"type": "buy", "execution": "market", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": amount}
        order["clientOrderId"] = client_order_id
        answer = session.post(f"{url}/market/orders/add", json=order, timeout=10)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()
        if data["status"] == "failed" and data["code"] == "DuplicateOrder":  # the equal order may be this very one
            raise OutcomeUnknownError("Nobitex had an equal order within the last 10 seconds")
        if data["status"] == "failed":
            raise Refused(data["code"])
        placed: dict[str, Any] = data["order"]
        return placed

    with adapter, verifier:
        for signal, amount in SIGNALS:
            try:
                bought[signal] = Decimal(place_order(signal, amount)["matchedAmount"])
                print(f"{signal}  bought {bought[signal]} BTC")
            except (Refused, RefusedError, NotSentError) as error:
                print(f"{signal}  there is no order: {error}")
            except OutcomeUnknownError as unknown:
                print(f"{signal}  not known yet, not sent again, looked for: {unknown.client_order_id}")
    session.close()
    return bought


def main() -> None:
    """The bot's day at a simulated exchange."""
    with exchange(*OPTIONS) as venue:
        report(venue, trade(venue.where["base_url"], venue.where["token"], venue.folder / "journal"))


if __name__ == "__main__":
    sys.exit(run(main))
