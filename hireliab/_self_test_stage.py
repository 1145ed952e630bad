"""What the checks of the self-test share: a simulated exchange, a folder, bots, and a wait that ends."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hireliab._install_parts import require
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.examples._demo_books import belief_of, compare
from hireliab.examples._demo_bot import Bot, bot
from hireliab.examples._demo_venue import ADD, Venue
from hireliab.exchange.nobitex_client import NobitexClient
from hireliab.exchange.transaction import TransactionResult

__all__ = ["ADD", "BOOK", "PATIENCE", "STARTING", "SYMBOL", "Stage", "closed_port", "together", "until"]

SYMBOL = "BTC/USDT"
BOOK = "GET /v3/orderbook"
PATIENCE = 8.0
"""Seconds that a check waits for what should take a moment."""
STARTING = 15.0
"""The same, where a process must start first."""
ACCOUNT = "user"  # the simulator's first account


@dataclass(frozen=True, kw_only=True)
class Stage:
    """
    What a check is given.

    Attributes:
        folder: For its files; removed at the end.
        venue: The simulated exchange, or what kept it from starting.
    """

    folder: Path
    venue: Venue | BaseException

    @property
    def exchange(self) -> Venue:
        """The simulated exchange; a check that needs it fails without."""
        if isinstance(self.venue, BaseException):
            raise self.venue
        return self.venue

    @property
    def where(self) -> Mapping[str, Any]:
        """Its addresses and keys."""
        return self.exchange.where

    def client(self, **credentials: Any) -> contextlib.closing[NobitexClient]:
        """A client of its own, for a `with` block."""
        return contextlib.closing(NobitexClient(base_url=self.where["base_url"], **credentials))

    def fault(self, route: str, kind: str, **more: object) -> None:
        """The next request on that route meets this."""
        self.exchange.admin("/faults", route=route, kind=kind, count=1, **more)

    def calm(self) -> None:
        """Take back the faults that a check before this one did not meet, so that it fails alone."""
        if isinstance(self.venue, BaseException):
            return
        where = urlsplit(self.where["admin_url"])
        connection = HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("DELETE", "/faults")
            connection.getresponse().read()

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """Nobody reaches the exchange within the block."""
        self.exchange.admin("/down")
        try:
            yield
        finally:
            self.exchange.admin("/up")

    def bot(self, name: str, **parts: Any) -> contextlib.AbstractContextManager[Bot]:
        """A bot with a journal of that name."""
        return bot(self.where, journal=str(self.folder / name), name=name, **parts)

    def placings(self) -> int:
        """How many requests to place an order have arrived, whoever sent them."""
        place = ADD.partition(" ")[2]
        return sum(r["kind"] == "request" and str(r["path"]).startswith(place) for r in self.exchange.records())

    def bear_out(self, result: TransactionResult, *, before: int) -> None:
        """
        A failure unless the exchange's truth file says what the result says, and that it was sent once.

        Args:
            result: Of the only order that was placed since.
            before: `placings()` before it.
        """
        (row, *_) = compare([belief_of(result, "the order")], self.exchange.records(), account=ACCOUNT)
        require(not row.differences, f"the exchange's truth file differs: {'; '.join(row.differences)}")
        self.sent_once(before)

    def sent_once(self, before: int) -> None:
        """A failure unless one request to place an order arrived since `placings()` was `before`."""
        sent = self.placings() - before
        require(sent == 1, f"{sent} requests to place an order arrived, not 1")


def closed_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(predicate: Callable[[], object]) -> bool:
    """Whether it becomes true within PATIENCE seconds."""
    give_up = SYSTEM_CLOCK.monotonic() + PATIENCE
    pause = threading.Event()
    while not predicate():
        if SYSTEM_CLOCK.monotonic() > give_up:
            return False
        pause.wait(0.005)
    return True


def together(count: int, work: Callable[[int], object]) -> None:
    """Call `work` on so many threads at the same time; what one of them raises is raised here."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(PATIENCE)
            work(number)
        except BaseException as error:  # raised below, by the thread that waits
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(number,), name=f"hireliab.self-test.caller-{number}", daemon=True)
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    most = 2 * PATIENCE  # what they do may itself wait so long
    give_up = SYSTEM_CLOCK.monotonic() + most
    for thread in threads:
        thread.join(max(0.0, give_up - SYSTEM_CLOCK.monotonic()))
    if errors:
        raise errors[0]
    require(not any(thread.is_alive() for thread in threads), f"{count} threads did not end within {most:g} s")
