"""
A bus between processes: what was confirmed arrives, also when the process that had it in its hands is killed.

``python -m hireliab.examples.several_processes`` runs on the bus in memory, with threads.
``python -m hireliab.examples.several_processes amqp://user:password@host:5672/vhost`` runs the same functions in
processes of their own over RabbitMQ, and kills one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hireliab import BusError, Inbox, Message, MessageBus, open_message_bus
from hireliab.examples._offline import folder, run, table

ORDERS = 30
NAMESPACE = "hireliab-example"
"""How the names of the queues at the broker begin; a system of your own has a name of its own."""


# -- what runs in each process --------------------------------------------------------------------------------------


def publish(bus: MessageBus, orders: Sequence[str]) -> None:
    """The bot: tell of filled orders, each confirmed before the next."""
    for order in orders:
        # mandatory: an error, if nobody has ever asked for these messages
        bus.publish_sync("order.filled", {"order": order, "amount": "0.01"}, message_id=order, mandatory=True)


def book(who: str, books: Path, message: Message) -> None:
    """A bookkeeper's handler: a line for each order. What it raises would bring the message back."""
    time.sleep(0.01)  # the work of a real one
    with (books / "lines").open("a") as lines:
        lines.write(f"{who} {message.data['order']}\n")


def keep_books(bus: MessageBus, who: str, books: Path) -> None:
    """
    A bookkeeper: one of a group, each of whose messages goes to one of them.

    A message may come twice, so an inbox, shared by the group's processes of this machine, handles it once.
    """
    inbox = Inbox(books / "inbox.db", group="bookkeeping")
    bus.subscribe("order.*", inbox.once(functools.partial(book, who, books)), group="bookkeeping", prefetch=4)


# -- who runs where -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(bus: MessageBus) -> Iterator[None]:
    """For a bot a broker that is away is no error: its messages wait. An example that waits would only look stuck."""
    bus.start()
    wait_for(lambda: bus.status().connected or bus.status().last_error != "")
    status = bus.status()
    if not status.connected:
        raise BusError(f"no connection to the broker: {status.last_error or 'no answer'}")
    yield


@contextlib.contextmanager
def bookkeeper_process(url: str, namespace: str, who: str, books: Path) -> Iterator[Callable[[], None]]:
    """A bookkeeper in a process of its own; gives a function that kills it in the middle of whatever it does."""
    command = [sys.executable, "-m", "hireliab.examples.several_processes", "--bookkeeper"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        # Through a pipe, because anybody can read a command line, and the address holds a password.
        given = {"url": url, "namespace": namespace, "who": who, "books": str(books)}
        child.stdin.write(json.dumps(given) + "\n")
        child.stdin.flush()
        if child.stdout.readline() != "ready\n":
            raise OSError(f"{who} did not start; its words are above")
        yield child.kill
    finally:
        with contextlib.suppress(OSError):  # it may be dead already
            child.stdin.close()  # asks it to end
        try:
            child.wait(10.0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def bookkeeper_main() -> None:
    """What that process does: keep books until its standard input ends."""
    given = json.loads(sys.stdin.readline())
    with open_message_bus(given["url"], config={"amqp_exchange": given["namespace"]}) as bus:
        keep_books(bus, given["who"], Path(given["books"]))
        print("ready", flush=True)
        sys.stdin.read()


def over_rabbitmq(url: str, namespace: str, orders: Sequence[str], books: Path) -> None:
    """A bot here, two bookkeepers elsewhere; one of them is killed with messages in its hands."""
    with (
        open_message_bus(url, config={"amqp_exchange": namespace}) as bus,
        connected(bus),
        bookkeeper_process(url, namespace, "bookkeeper 1", books) as kill,
        bookkeeper_process(url, namespace, "bookkeeper 2", books),
    ):
        publish(bus, orders[:10])
        wait_for(lambda: "bookkeeper 1" in dict(booked(books)))
        kill()
        print("bookkeeper 1 was killed; what it had in its hands goes to the other one")
        publish(bus, orders[10:])
        publish(bus, orders[-1:])  # as a publisher does that got no confirmation: the same id again
        wait_for(lambda: set(orders) <= {order for _, order in booked(books)})


def in_memory(orders: Sequence[str], books: Path) -> None:
    """The same in one process: the bus calls the handlers from threads of its own."""
    with open_message_bus("memory://") as bus:
        keep_books(bus, "bookkeeper 1", books)
        keep_books(bus, "bookkeeper 2", books)
        publish(bus, orders)
        publish(bus, orders[-1:])
        wait_for(lambda: set(orders) <= {order for _, order in booked(books)})


def booked(books: Path) -> list[tuple[str, str]]:
    """Who booked what."""
    path = books / "lines"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(who, order) for who, _, order in (line.rpartition(" ") for line in lines)]


def wait_for(happened: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it happens in time."""
    give_up = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def example(url: str, namespace: str) -> None:
    """All of it, and the books at the end."""
    run_id = f"{time.time():.0f}"
    orders = [f"{run_id}-{number}" for number in range(1, ORDERS + 1)]
    with folder() as books:
        if url.startswith("memory:"):
            in_memory(orders, books)
        else:
            over_rabbitmq(url, namespace, orders, books)
        lines = [(who, order) for who, order in booked(books) if order in orders]
    counts = Counter(order for _, order in lines)
    table(("bookkeeper", "booked"), sorted(Counter(who for who, _ in lines).items()), right=(1,))
    print(f"\n{ORDERS} orders were published, the last one twice. Booked: {len(counts)}; more than once:", end=" ")
    print(f"{sum(count > 1 for count in counts.values())}; not at all: {ORDERS - len(counts)}.")
    if url.startswith("memory:"):
        print("With an address, such as amqp://guest:guest@127.0.0.1:5672, each runs in a process of its own.")
    else:
        print(f"At the broker are left, empty: the exchanges and queues whose names begin with {namespace!r}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hireliab.examples.several_processes")
    parser.add_argument("url", nargs="?", default="memory://", help="memory:// (the default), amqp://… or amqps://…")
    parser.add_argument(
        "--namespace", default=NAMESPACE, help="how the names at the broker begin (default: %(default)s)"
    )
    parser.add_argument("--bookkeeper", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    return run(bookkeeper_main if given.bookkeeper else functools.partial(example, given.url, given.namespace))


if __name__ == "__main__":
    sys.exit(main())
