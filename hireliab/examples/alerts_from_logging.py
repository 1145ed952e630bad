"""
A bot's log lines as alerts: one line of set-up, no line of the bot changed.

``python -m hireliab.examples.alerts_from_logging``. The bot logs as it always did. Errors arrive at once, a thousand
equal ones arrive as one with a number, and what is not worth waking somebody for stays in the log.
"""

from __future__ import annotations

import logging
import sys
import threading

from hireliab import AlertHandler, AlertSystem
from hireliab.examples._offline import run, table
from hireliab.monitoring.alert import Alert

log = logging.getLogger("grid_bot")


def bot() -> None:
    """The old bot: it knows logging, and nothing of alerts."""
    log.info("started with 3 markets")
    for attempt in range(1000):
        log.error("price of BTC/USDT is %d s old, not quoting", attempt)
    try:
        {"BTC": 1}["DOGE"]
    except KeyError:
        log.exception("cannot rebalance")
    log.critical("position is not hedged", extra={"symbol": "BTC/USDT"})


def main() -> None:
    """Let the bot log, and show what a person was told."""
    told: list[Alert] = []
    lock = threading.Lock()  # guards told: a channel runs on a thread of its own

    def phone(alert: Alert) -> None:
        with lock:
            told.append(alert)

    # "phone" stands for {"url": "tgram://…"}, or for any other of the services of docs/alerts.rst.
    alerts = AlertSystem({"channels": {"phone": phone}, "level_thresholds": {"phone": "error"}, "spool": False})
    handler = AlertHandler(alerts, level="error")
    log.addHandler(handler)
    log.propagate = False  # here only: the log itself would fill your screen
    log.setLevel(logging.INFO)
    with alerts:
        bot()
    log.removeHandler(handler)
    rows = [(alert.level.name, alert.title, alert.count) for alert in told]
    print("The bot logged 1003 lines. This is what the phone showed:\n")
    table(("level", "title", "lines so far"), rows, right=(2,))


if __name__ == "__main__":
    sys.exit(run(main))
