"""
An old bot on requests, as it is: one order is forgotten, another one is placed twice.

``python -m hireliab.examples.legacy_bot_before``. It follows four signals. The second order is executed, but a
gateway answers 502; the third one is executed, but its answer is lost. The same bot with hireliab is
legacy_bot_after.py; docs/from-a-legacy-bot.rst goes from one to the other.
"""

from __future__ import annotations

import sys
import time
from decimal import Decimal
from typing import Any

import requests

from hireliab.examples._legacy_day import OPTIONS, PAUSE, SIGNALS, report
from hireliab.examples._offline import exchange, run


class Refused(Exception):  # noqa: N818 - the bot's own word
    """The exchange's no, such as too little money."""


def trade(url: str, token: str) -> dict[str, Decimal]:
    """The bot; for each signal the amount that it believes to have bought."""
    session = requests.Session()
    session.headers["Authorization"] = f"Token {token}"
    bought: dict[str, Decimal] = {}

    def place_order(amount: str) -> dict[str, Any]:
        order = {"type": "buy", "execution": "market", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": amount}
        answer = session.post(f"{url}/market/orders/add", json=order, timeout=10)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()
        if data["status"] == "failed":
            raise Refused(data["code"])
        placed: dict[str, Any] = data["order"]
        return placed

    for signal, amount in SIGNALS:
        for _attempt in range(3):
            try:
                bought[signal] = Decimal(place_order(amount)["matchedAmount"])
                print(f"{signal}  bought {bought[signal]} BTC")
                break
            except requests.ConnectionError:
                print(f"{signal}  no answer: send it again")
                time.sleep(PAUSE)
            except requests.HTTPError as error:
                print(f"{signal}  error {error.response.status_code}: no order, next signal")
                break
            except Refused as error:
                print(f"{signal}  refused: {error}")
                break
    session.close()
    return bought


def main() -> None:
    """The bot's day at a simulated exchange."""
    with exchange(*OPTIONS) as venue:
        report(venue, trade(venue.where["base_url"], venue.where["token"]))


if __name__ == "__main__":
    sys.exit(run(main))
