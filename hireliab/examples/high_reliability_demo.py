"""
Everything together, offline: ``python -m hireliab.examples.high_reliability_demo``.

A bot trades at a simulated Nobitex in a process of its own, while answers are lost, the exchange is cut off and a bot
is killed in mid-order. At the end the bot's books are laid beside the exchange's truth file, one row for each order;
the exit code is 1 when a row differs. It takes less than a minute, uses nothing but loopback, and leaves no file.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence

from hireliab import AlertSystem, CircuitBreaker, InMemoryMessageBus, Message
from hireliab.examples import _offline as offline
from hireliab.examples._demo_books import Belief, Row, belief_of, compare, table
from hireliab.examples._demo_bot import PIPELINE, bot
from hireliab.examples._demo_screen import Screen, seconds
from hireliab.examples._demo_steps import STEPS, Stage
from hireliab.examples._demo_venue import Venue

ACCOUNT = "user"  # the simulator's first account
RESET_TIMEOUT = 1.0
"""Seconds until an open breaker lets a probe through; a real bot takes 30 or more."""


def beliefs(stage: Stage) -> list[Belief]:
    """What the bot believes at the end, read from its pipeline by id."""
    found = []
    for transaction_id, label, cancelled in stage.orders:
        transaction = stage.bot.verifier.get(transaction_id)
        if transaction is None:
            raise RuntimeError(f"demo: the pipeline has forgotten transaction {transaction_id}")
        found.append(belief_of(transaction.result(), label, cancelled=cancelled))
    return found + stage.heirs


def conclude(screen: Screen, rows: Sequence[Row]) -> int:
    """Print the table; the exit code: 0 when no row differs."""
    wrong = sum(bool(row.differences) for row in rows)
    title = "What the bot believes, and what the exchange's truth file says"
    screen.lines(["", title, "=" * len(title), *table(rows), ""])
    screen.lines(
        [
            "Compared are id, status, filled amount, average price and fee. Sent: how many requests to place the",
            "order arrived at the exchange. The limit order was live (COMPLETED) until the bot cancelled it.",
            f"{wrong} of {len(rows)} rows differ."
            if wrong
            else f"All {len(rows)} rows agree: nothing was sent twice, nothing forgotten, every verdict true.",
        ]
    )
    return 1 if wrong else 0


def run(screen: Screen) -> int:
    """The whole demo; the exit code."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(offline.folder())
        venue = stack.enter_context(Venue(folder))
        screen.title(
            "hireliab: the high-reliability demo",
            "A trading bot against a simulated Nobitex that runs in a process of its own on this machine. No real"
            " exchange, no real money, no network, no service.",
        )
        screen.fact(
            "exchange",
            f"{venue.where['base_url']}, process {venue.where['pid']}, up in {seconds(time.monotonic() - began)}",
        )
        screen.fact("books", f"{folder} (removed at the end)")
        screen.fact(
            "settings", ", ".join(f"{name} {value:g} s" for name, value in PIPELINE.items()) + ": short, for a demo"
        )
        events: list[str] = []

        def hear(message: Message) -> None:
            events.append(message.topic)

        bus = stack.enter_context(InMemoryMessageBus())
        bus.subscribe("transaction.#", hear)
        # The console channel of the library prints one long line for each alert; this one fits it to the demo.
        alerts = stack.enter_context(
            AlertSystem(
                {
                    "channels": {"console": screen.alert},
                    "level_thresholds": {"console": "info"},
                    "group_wait": 0,  # a demonstration does not wait to see whether more is to come
                    "spool": False,
                }
            )
        )
        mine = stack.enter_context(
            bot(venue.where, journal=str(folder / "journal"), name="demo", message_bus=bus, alert_system=alerts)
        )
        breaker = CircuitBreaker(
            name="exchange_api", failure_threshold=3, reset_timeout=RESET_TIMEOUT, success_threshold=2
        )
        stage = Stage(
            screen=screen, venue=venue, bot=mine, breaker=breaker, alerts=alerts, folder=folder, events=events
        )
        for step in STEPS:
            step(stage)
            stage.settle()
        believed = beliefs(stage)
        code = conclude(screen, compare(believed, venue.records(), account=ACCOUNT))
    screen.lines([f"Done in {time.monotonic() - began:.1f} s; processes ended, files removed."])
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0: all rows agree, 1: one differs, or the machine refuses something, 130: interrupted."""
    argparse.ArgumentParser(
        prog="python -m hireliab.examples.high_reliability_demo",
        description="A bot, a simulated exchange and everything that goes wrong between them. Under a minute, offline.",
    ).parse_args(arguments)
    return offline.run(lambda: run(Screen()))


if __name__ == "__main__":
    sys.exit(main())
