"""
``python -m benchmarks._alerts_worker PART NAME JSON``: one contestant of the alert benchmark, in a process of its own.

A process each, because Apprise's pool of threads outlives whoever used it, and waits for hung sends at the exit; each
ends without that.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import logging.handlers
import os
import queue
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HIRELIAB = ("hireliab, WARNING", "hireliab, ERROR and spooled")
INLINE, POOL, LISTENER = "Apprise.notify()", "Apprise in a thread pool", "QueueHandler and Apprise"
PEERS = (INLINE, POOL, LISTENER)
KNOWN = "hireliab, a known trouble"
OURS = (*HIRELIAB, KNOWN)
CONTESTANTS = (*OURS, *PEERS)
WORKERS = 8
"""Threads of the pool: as many as hooks, so that it does its best."""


@dataclass(kw_only=True)
class Open:
    """
    One way to alert, in use.

    Attributes:
        send: Called with a title on the bot's thread.
        handed_over: How many alerts it says that it has taken.
        problem: Why its books do not balance, or "".
    """

    send: Callable[[str], Any]
    handed_over: Callable[[], int]
    problem: Callable[[], str] = field(default=lambda: "")


def opened(name: str, urls: list[str]) -> Open:
    """Make a contestant that sends to these Apprise URLs."""
    if name in OURS:
        return _hireliab(urls, "error" if "ERROR" in name else "warning")
    import apprise  # noqa: PLC0415 - not in hireliab's processes before it loads it itself

    logging.getLogger("apprise").addHandler(logging.NullHandler())
    sender = apprise.Apprise()
    for url in urls:
        sender.add(url)
    if name == INLINE:
        return _inline(sender)
    return _pool(sender) if name == POOL else _listener(sender)


def _hireliab(urls: list[str], level: str) -> Open:
    from hireliab.monitoring.alert_system import AlertSystem  # noqa: PLC0415 - see above

    spool = Path(tempfile.mkdtemp(prefix="hireliab-alerts-"))
    system = AlertSystem({"channels": {f"c{i}": {"url": url} for i, url in enumerate(urls)}, "spool": str(spool)})
    system.start()
    receipts = []

    def send(title: str) -> None:
        receipts.append(system.send_alert("system", level, title, "benchmark").accepted)

    def problem() -> str:
        for one in system.status().channels.values():
            there = one.queued + one.held + one.in_flight + one.spooled + one.deduplicated
            ended = one.delivered + one.failed + one.dropped
            if one.accepted != there + ended:
                return f"{one.name}: accepted {one.accepted}, found {there + ended}"
            if one.accepted < len(receipts):
                return f"{one.name}: sent {len(receipts)}, accepted {one.accepted}"
        return "" if all(receipts) else "an alert was not accepted"

    return Open(send=send, handed_over=lambda: len(receipts), problem=problem)


def _inline(sender: Any) -> Open:
    count = []

    def send(title: str) -> None:
        sender.notify(title=title, body="benchmark")
        count.append(title)

    return Open(send=send, handed_over=lambda: len(count))


def _pool(sender: Any) -> Open:
    pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
    futures = []

    def send(title: str) -> None:
        futures.append(pool.submit(sender.notify, title=title, body="benchmark"))

    return Open(send=send, handed_over=lambda: len(futures))


def _listener(sender: Any) -> Open:
    class ToApprise(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sender.notify(title=record.getMessage(), body="benchmark")

    lines: queue.Queue[Any] = queue.Queue()
    logger = logging.getLogger("a_bot")
    logger.propagate = False
    logger.addHandler(logging.handlers.QueueHandler(lines))
    logging.handlers.QueueListener(lines, ToApprise()).start()
    count = []

    def send(title: str) -> None:
        logger.error(title)
        count.append(title)

    return Open(send=send, handed_over=lambda: len(count))


# -- the parts ------------------------------------------------------------------------------------------------------


def calls(name: str, urls: list[str], *, number: int) -> dict[str, Any]:
    """What a call costs the bot."""
    one = opened(name, urls)
    took = []
    began = time.perf_counter_ns()
    for i in range(number):
        before = time.perf_counter_ns()
        one.send("trouble" if name == KNOWN else f"trouble {i}")
        took.append(time.perf_counter_ns() - before)
    elapsed = time.perf_counter_ns() - began
    problem = one.problem() or ("" if one.handed_over() == number else "not every call was taken")
    return {"elapsed_ns": elapsed, "latencies_ns": took, "problem": problem}


def delivery(name: str, urls: list[str], *, number: int, well: int, patience: float) -> dict[str, Any]:
    """How long it takes until the hook that works has an alert; None where it never came."""
    one = opened(name, urls)
    called = {}
    for i in range(number):
        title = f"{name} {i}"
        called[title] = time.monotonic_ns()
        # Whoever blocks the bot blocks it here, too.
        threading.Thread(target=one.send, args=(title,), daemon=True).start()
        give_up = time.monotonic() + patience
        while title not in _arrived(well) and time.monotonic() < give_up:
            time.sleep(0.002)
    arrived = _arrived(well)
    took = [arrived[title] - at if title in arrived else None for title, at in called.items()]
    return {"took_ns": took, "problem": one.problem()}


def burst(name: str, urls: list[str], *, number: int, well: int) -> dict[str, Any]:
    """What the same alert, again and again, makes of memory and of the receivers."""
    one = opened(name, urls)
    one.send("warm-up")
    before = _rss()
    began = time.perf_counter()
    for _ in range(number):
        one.send("the same trouble")
    elapsed = time.perf_counter() - began
    grown = _rss() - before
    if name in HIRELIAB:
        give_up = time.monotonic() + 10
        while "the same trouble" not in _arrived(well) and time.monotonic() < give_up:
            time.sleep(0.002)
    sends = sum(title == "the same trouble" for title in _titles(well))
    return {"calls": number, "seconds": elapsed, "grown": grown, "sends": sends, "problem": one.problem()}


def _rss() -> int:
    """Bytes of resident memory; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _titles(port: int) -> list[str]:
    """As they were given: hireliab puts level and source in front, and behind how often."""
    return [_plain(title) for title, _ in _fetch(port)]


def _arrived(port: int) -> dict[str, int]:
    """When each title came first."""
    found: dict[str, int] = {}
    for title, at in _fetch(port):
        found.setdefault(_plain(title), at)
    return found


def _plain(title: str) -> str:
    return title.partition("system: ")[2].partition(" (x")[0] or title


def _fetch(port: int) -> list[tuple[str, int]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/arrivals", timeout=10) as answer:
        found: list[tuple[str, int]] = json.loads(answer.read())
        return found


def main() -> None:
    """The process."""
    part, name, given = sys.argv[1:]
    parts: dict[str, Callable[..., dict[str, Any]]] = {"calls": calls, "delivery": delivery, "burst": burst}
    logging.getLogger("hireliab").addHandler(logging.NullHandler())
    logging.getLogger("hireliab").propagate = False
    print(json.dumps(parts[part](name, **json.loads(given))), flush=True)
    os._exit(0)  # not one of the peers ends while a hook hangs


if __name__ == "__main__":
    main()
