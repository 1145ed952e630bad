"""
Orders: what verifying them costs, and what not verifying them costs.

The first part measures: orders a second and latency of the whole stack against the simulator, beside a bare requests
bot that sends and reads once. The second part counts: what each of the two did to the books under the same faults.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from benchmarks import harness
from benchmarks._bots import NOT_PLACED, UNKNOWN, BareBot, Bot, Intent, Outcome, hireliab_bot
from benchmarks._exchange import ADD, STATUS, Exchange

SEED = 11
BUSY = 8
"""Threads of the busy bots."""
FAULTS: tuple[Mapping[str, object], ...] = (
    {"route": f"POST {ADD}", "kind": "answer_lost", "probability": "0.05"},
    {"route": f"POST {ADD}", "kind": "request_lost", "probability": "0.03"},
    {"route": f"POST {ADD}", "kind": "http_502", "probability": "0.03"},
    {"route": f"POST {ADD}", "kind": "http_502", "probability": "0.03", "processed": True},
    {"route": f"POST {ADD}", "kind": "reset", "probability": "0.02"},
    {"route": f"POST {ADD}", "kind": "reset", "probability": "0.02", "processed": True},
    {"route": f"POST {ADD}", "kind": "truncated_json", "probability": "0.03"},
    {"route": f"POST {STATUS}", "kind": "answer_lost", "probability": "0.03"},
    {"route": f"POST {STATUS}", "kind": "http_502", "probability": "0.02"},
)
"""About one in five requests to place an order, and one in twenty that read one."""
PATIENCE = {"late_arrival_bound": 1.0, "visibility_window": 0.5, "listing_interval": 0.25, "verification_timeout": 60.0}
"""
Of the pipeline in the second part, in seconds. These are the truth about this exchange, which delays nothing; against
a real one they would be 40 or 70, 5 and 4, so that a proven absence takes a minute, not two seconds.
"""
SETTLE = 60.0
"""Seconds that a bot gets after its last order to find out what it does not know."""


def run(quick: bool) -> harness.Report:
    """Both parts; `quick` finds breakage only."""
    harness.quiet("hireliab")  # faults are the point here, not news
    with tempfile.TemporaryDirectory(prefix="hireliab-bench-", ignore_cleanup_errors=True) as folder:
        speed = measure(
            Path(folder), rounds=1 if quick else 5, orders={1: 20, BUSY: 48} if quick else {1: 150, BUSY: 400}
        )
        books = damage(Path(folder), orders=60 if quick else 600)
    problems = [f"{result.name}, {threads} threads: {result.problem}" for threads, result in speed if result.problem]
    ours = books[-1]
    if ours.duplicates or ours.is_wrong:
        problems.append(f"{ours.bot}: its books are wrong, see the second table")
    lines = [*_speed_lines(speed), "", *_books_lines(books), "", *_READING]
    data = {
        "throughput": [{"threads": threads, **harness.plain(result)} for threads, result in speed],
        "ratio": {str(threads): asdict(share) for threads, share in _ratios(speed).items()},
        "books": [{**asdict(row), "off_by_btc": f"{row.off_by_btc:f}"} for row in books],
    }
    return harness.Report(lines=tuple(lines), data=data, problems=tuple(problems))


def intents(name: str, number: int, *, start: int = 0) -> list[Intent]:
    """
    Market orders, buys and sells in turn, so that neither balance runs dry.

    Their amounts differ, because the exchange refuses an order that equals one of the last ten seconds; they come
    again after 20,000 orders.

    Args:
        start: How many orders the account has seen before.
    """
    return [
        Intent(key=f"{name}-{i}", side="buy" if i % 2 == 0 else "sell", amount=Decimal(1000 + i % 20_000) / 1_000_000)
        for i in range(start, start + number)
    ]


def trade_all(bot: Bot, wanted: Sequence[Intent], *, threads: int) -> tuple[harness.Sample, list[Outcome]]:
    """Let some threads take the intents one by one; what that took, and what the bot believes."""
    before = bot.counts()
    todo = iter(wanted)
    lock = threading.Lock()  # guards todo, latencies, outcomes and errors
    latencies: list[int] = []
    outcomes: list[Outcome] = []
    errors: list[BaseException] = []
    ready = threading.Barrier(threads + 1)

    def work() -> None:
        ready.wait()
        while True:
            with lock:
                intent = next(todo, None)
            if intent is None:
                return
            began = time.perf_counter_ns()
            try:
                outcome = bot.trade(intent)
            except BaseException as error:
                with lock:
                    errors.append(error)
                return
            took = time.perf_counter_ns() - began
            with lock:
                latencies.append(took)
                outcomes.append(outcome)

    workers = [threading.Thread(target=work, name=f"bench-{i}", daemon=True) for i in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter_ns()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter_ns() - began
    if errors:
        raise errors[0]
    extra = {name: count - before[name] for name, count in bot.counts().items()}
    return harness.Sample(
        operations=len(outcomes), elapsed_ns=elapsed, latencies_ns=tuple(latencies), extra=extra
    ), outcomes


# -- first part: speed --------------------------------------------------------------------------------------------

Speed = list[tuple[int, harness.Result]]


def measure(folder: Path, *, rounds: int, orders: Mapping[int, int]) -> Speed:
    """
    Orders a second of both bots.

    Args:
        rounds: Counted ones.
        orders: For each number of threads, how many orders make a round.

    Returns:
        For each number of threads: bare, then hireliab.
    """
    entries: list[tuple[int, harness.Contestant]] = []
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(Exchange(folder / "speed.jsonl", seed=SEED))
        for threads, number in orders.items():
            for name in ("bare", "hireliab"):
                account = f"{name}{threads}"
                token = exchange.open_account(account)
                bot: Bot = (
                    BareBot(base_url=exchange.base_url, token=token)
                    if name == "bare"
                    else stack.enter_context(
                        hireliab_bot(base_url=exchange.base_url, token=token, folder=folder / account, name=account)
                    )
                )
                entries.append((threads, _contestant(name, bot, exchange, account, threads=threads, number=number)))
        harness.progress(f"orders: {rounds} rounds of {len(entries)} contestants, and one to warm up")
        samples = harness.interleave([contestant for _, contestant in entries], rounds=rounds)
        return [
            (threads, harness.summarise(contestant, taken))
            for (threads, contestant), taken in zip(entries, samples, strict=True)
        ]


def _contestant(
    name: str, bot: Bot, exchange: Exchange, account: str, *, threads: int, number: int
) -> harness.Contestant:
    outcomes: list[Outcome] = []

    def one_round(which: int) -> harness.Sample:
        sample, found = trade_all(bot, intents(account, number, start=which * number), threads=threads)
        outcomes.extend(found)
        return sample

    def check() -> str:
        return undone(audit(name, outcomes, exchange.records(), account=account, faults=0))

    return harness.Contestant(name=name, run=one_round, check=check)


def undone(books: Books) -> str:
    """Why the work of a round without faults is not done, or ""."""
    if books.duplicates or books.is_wrong or books.unresolved or books.at_exchange != books.asked:
        return f"of {books.asked} orders the truth file shows {books.at_exchange}; {books}"
    return ""


# -- second part: books -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """
    A bot's books against the truth.

    Attributes:
        asked: Orders that the bot wanted.
        faults: Requests that met a fault.
        at_exchange: Orders that exist.
        duplicates: Orders beyond the first of an intent.
        forgotten: Intents that the bot believes not placed, and that are.
        imagined: Intents that the bot believes placed, and that are not.
        wrong_figures: Intents placed as believed, but id, status or filled amount differ.
        unresolved: Intents of which the bot says that it does not know.
        off_by_btc: Sum over all intents of the difference between believed and real filled amount.
        seconds: From the first order to the last belief.
    """

    bot: str
    asked: int
    faults: int
    at_exchange: int
    duplicates: int
    forgotten: int
    imagined: int
    wrong_figures: int
    unresolved: int
    off_by_btc: Decimal
    seconds: float = 0.0

    @property
    def is_wrong(self) -> bool:
        """Whether the bot believes anything that is not so."""
        return bool(self.forgotten or self.imagined or self.wrong_figures)


def audit(
    bot: str,
    outcomes: Sequence[Outcome],
    records: Iterable[Mapping[str, object]],
    *,
    account: str,
    faults: int,
    seconds: float = 0.0,
) -> Books:
    """
    Lay what a bot believes beside the truth file. Pure.

    Args:
        outcomes: One for each intent.
        records: Of the truth file, in order.
        account: Whose orders.
    """
    last: dict[int, Mapping[str, object]] = {}
    for record in records:
        if record["kind"] == "order" and record["account"] == account and isinstance(number := record["id"], int):
            last[number] = record
    by_client_id: dict[str, list[Mapping[str, object]]] = {}
    for record in last.values():
        by_client_id.setdefault(str(record["client_order_id"]), []).append(record)
    duplicates = forgotten = imagined = wrong = unresolved = 0
    off = Decimal(0)
    for outcome in outcomes:
        orders = by_client_id.pop(outcome.client_order_id, [])
        filled = sum((Decimal(str(order["matched"])) for order in orders), Decimal(0))
        duplicates += max(0, len(orders) - 1)
        off += abs(filled - outcome.filled)
        if outcome.belief == UNKNOWN:
            unresolved += 1
        elif outcome.belief == NOT_PLACED:
            forgotten += bool(orders)
        elif not orders:
            imagined += 1
        else:
            wrong += not any(_agrees(outcome, order) for order in orders)
    strays = [order for orders in by_client_id.values() for order in orders]
    return Books(
        bot=bot,
        asked=len(outcomes),
        faults=faults,
        at_exchange=len(last),
        duplicates=duplicates,
        forgotten=forgotten + len(strays),
        imagined=imagined,
        wrong_figures=wrong,
        unresolved=unresolved,
        off_by_btc=off + sum((Decimal(str(order["matched"])) for order in strays), Decimal(0)),
        seconds=seconds,
    )


def _agrees(outcome: Outcome, order: Mapping[str, object]) -> bool:
    return (
        outcome.order_id == str(order["id"])
        and outcome.status == order["status"]
        and outcome.filled == Decimal(str(order["matched"]))
    )


def damage(folder: Path, *, orders: int) -> list[Books]:
    """The books of the bare bot, of the bare bot with pro=yes, and of hireliab; each at an exchange of its own."""

    def bare(base_url: str, token: str) -> contextlib.AbstractContextManager[Bot]:
        return contextlib.nullcontext(BareBot(base_url=base_url, token=token))

    def bare_pro(base_url: str, token: str) -> contextlib.AbstractContextManager[Bot]:
        return contextlib.nullcontext(BareBot(base_url=base_url, token=token, pro=True))

    def ours(base_url: str, token: str) -> contextlib.AbstractContextManager[Bot]:
        return hireliab_bot(base_url=base_url, token=token, folder=folder / "faults", name="faults", **PATIENCE)

    bots: dict[str, Callable[[str, str], contextlib.AbstractContextManager[Bot]]] = {
        "bare": bare,
        "bare, pro=yes": bare_pro,
        "hireliab": ours,
    }
    rows = []
    for i, (name, make) in enumerate(bots.items()):
        harness.progress(f"orders: {name} under faults")
        # The same seed for each: the n-th request to place an order meets the same fate.
        with Exchange(folder / f"faults-{i}.jsonl", seed=SEED, faults=FAULTS) as exchange:
            with make(exchange.base_url, exchange.open_account("bot")) as bot:
                began = time.perf_counter()
                _, outcomes = trade_all(bot, intents("order", orders), threads=BUSY)
                outcomes = bot.settle(outcomes, SETTLE)
                took = time.perf_counter() - began
            books = audit(name, outcomes, exchange.records(), account="bot", faults=exchange.faults_met(), seconds=took)
        rows.append(books)
    return rows


# -- tables -------------------------------------------------------------------------------------------------------

_READING = (
    "How to read: the first table is the price of verifying (this exchange answers in a millisecond, a",
    "real one in 50 to 200: look at added ms), the second what it buys. More: benchmarks/README.rst.",
)


def _pairs(speed: Speed) -> Iterator[tuple[int, harness.Result, harness.Result]]:
    """For each number of threads: bare, and hireliab."""
    for threads in dict.fromkeys(threads for threads, _ in speed):
        theirs, ours = (result for of, result in speed if of == threads)
        yield threads, theirs, ours


def _ratios(speed: Speed) -> dict[int, harness.Ratio]:
    """By the number of threads, where both count."""
    return {
        threads: harness.ratio(ours, theirs)
        for threads, theirs, ours in _pairs(speed)
        if ours.checked and theirs.checked
    }


def _speed_lines(speed: Speed) -> list[str]:
    title = "orders: a market order, sent and read back; a simulated exchange on loopback"
    lines = [title, "=" * len(title)]
    lines += [
        f"orders/s, hireliab against bare, {harness.threads(threads)}: {share.text()}"
        for threads, share in _ratios(speed).items()
    ]
    rows = []
    for threads, theirs, ours in _pairs(speed):
        rows += [_speed_row(threads, result, theirs) for result in (theirs, ours)]
    rounds = speed[0][1].rounds
    heads = (
        "bot", "threads", "orders/s (low-high)", "p50 ms", "p95 ms", "p99 ms", "added ms", "syncs/order", "in commit",
    )  # fmt: skip
    lines += ["", *harness.table(f"Speed, median of {rounds} rounds after one to warm up", heads, rows)]
    return lines


def _speed_row(threads: int, result: harness.Result, bare: harness.Result) -> tuple[str, ...]:
    own: tuple[str, str, str] = ("-", "-", "-")
    if result is not bare:
        own = (
            f"{result.p50 - bare.p50:+.1f}",
            f"{result.extra['commits']:.2f}",
            f"{result.extra['commit_wait_ns'] / 1e6 / result.mean:.0%}",
        )
    name = harness.named(result.name, result.problem)
    figures = (f"{result.p50:.1f}", f"{result.p95:.1f}", f"{result.p99:.1f}")
    return (name, str(threads), result.rate.text(), *figures, *own)


def _books_lines(books: Sequence[Books]) -> list[str]:
    heads = (
        "bot", "asked", "faults", "placed", "double", "forgotten", "imagined", "wrong", "unknown", "off by BTC", "s",
    )  # fmt: skip
    rows = [
        (
            row.bot,
            *map(str, (row.asked, row.faults, row.at_exchange, row.duplicates, row.forgotten, row.imagined)),
            str(row.wrong_figures),
            str(row.unresolved),
            f"{row.off_by_btc:f}",
            f"{row.seconds:.1f}",
        )
        for row in books
    ]
    title = f"Books under the same faults (seed {SEED}), {harness.threads(BUSY)}, against the truth file"
    return harness.table(title, heads, rows)
