"""``hireliab transactions``: look at them, and decide what only a person can."""

from __future__ import annotations

import getpass
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from hireliab._cli_advice import advice, unit, words
from hireliab._cli_reader import (
    UNRESOLVED,
    Place,
    Reader,
    check_owner,
    json_option,
    place_options,
    reading,
    record_json,
    shows_filled,
)
from hireliab._cli_text import (
    BAD,
    Fail,
    Group,
    Misplaced,
    Whole,
    age,
    ago,
    clean,
    echo_json,
    facts,
    local_time,
    paragraph,
    table,
    title,
    width,
)
from hireliab.core import money
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import JournalLockedError
from hireliab.exchange import _operator_client, _operator_offline
from hireliab.exchange._decision import WORDS
from hireliab.exchange._operator_desk import plain
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import PHASES, Record, Status, Verdict

WIDE = 116
"""Columns that the whole list needs; a narrower terminal gets two lines for each transaction."""
ROOM_FOR_TIMES = 110
"""Columns from which on a timeline has both its times and room for what happened."""


@click.group(cls=Group)
def transactions() -> None:
    """Look at transactions, and decide what only a person can."""


def user() -> str:
    """The name of whoever types."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


_who = click.option("--who", default=user, show_default="your user name", help="Your name, for the record.")


def _no_nan(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which no range excludes
        raise click.BadParameter("nan is no number of seconds")
    return value


def _timeout(seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--timeout",
        type=click.FloatRange(0.1, 3600),
        callback=_no_nan,
        default=seconds,
        show_default=True,
        help="Seconds to wait for the bot's answer.",
    )


# -- looking ------------------------------------------------------------------------------------------------------


@transactions.command("list")
@place_options
@click.option(
    "--status", type=click.Choice([s.value for s in Status]), multiple=True, help="Only these; may be repeated."
)
@click.option("--unresolved", is_flag=True, help="Only those that are not decided.")
@click.option("--limit", type=Whole(1, 100_000), default=50, show_default=True, help="Most of them.")
@json_option
def list_(*, place: Place, status: tuple[str, ...], unresolved: bool, limit: int, as_json: bool) -> None:
    """Transactions, newest first."""
    states = None
    if status or unresolved:
        states = [s.value for s, (_, of) in PHASES.items() if not status or of.value in status]
        states = [state for state in states if not unresolved or state in UNRESOLVED]
    with reading(place) as reader:
        records = reader.select(states=states, limit=limit) if states != [] else []
        counts = reader.counts()
    _show_list(place, records, counts, as_json=as_json)


def _show_list(place: Place, records: list[Record], counts: dict[str, int], *, as_json: bool) -> None:
    bot, halt, total = place.bot(), place.halt, sum(counts.values())
    undecided = sum(n for state, n in counts.items() if state in UNRESOLVED)
    if as_json:
        echo_json(
            {
                "journal": str(place.folder),
                "bot": None if bot is None else bot.get("pid"),
                "halt": plain(halt),
                "total": total,
                "unresolved": undecided,
                "transactions": [record_json(record) for record in records],
            }
        )
        return
    if records:
        columns = width()
        _narrow_table(records) if columns is not None and columns < WIDE else _wide_table(records)
    need = sum(record.needs_human for record in records)
    line = f"{len(records)} of {total} transactions; not decided: {undecided}"
    click.echo(f"{line}; needs you: {need}, see 'hireliab transactions show'" if need else line)
    click.echo(clean(_bot_line(place, bot)))
    if halt is not None:
        click.echo(clean(halt_line(place)))


def _bot_line(place: Place, bot: dict[str, Any] | None) -> str:
    if bot is None:
        return f"journal {place.folder}; no bot seems to run"
    return f"journal {place.folder}; a bot runs (process {bot.get('pid')})"


def halt_line(place: Place) -> str:
    """The halt in force, in one line."""
    halt = place.halt
    if halt is None:
        return "not halted"
    since = "" if halt.since is None else f" since {local_time(halt.since)}"
    return f"{halt.mode}{since} by {halt.who or 'somebody'}: {halt.reason or 'no reason given'}"


def _wide_table(records: list[Record]) -> None:
    now = SYSTEM_CLOCK.time()
    heads = [
        "id", "age", "symbol", "side", "type", "amount\n(base)", "filled\n(base)", "state", "verdict", "order id", "needs\nyou",
    ]  # fmt: skip
    rows = [
        [
            record.txn_id,
            age(now - record.created),
            record.order.symbol or "-",
            record.order.side or "-",
            _type(record),
            money.text(record.order.amount),
            _filled(record),
            record.state.value,
            record.verdict.value,
            record.order_id or "-",
            "yes" if record.needs_human else "",
        ]
        for record in records
    ]
    table(heads, rows, right=(1, 5, 6), marked=[record.needs_human for record in records])


def _narrow_table(records: list[Record]) -> None:
    now = SYSTEM_CLOCK.time()
    heads = ["id\norder id", "age", "order (base)\nfilled (base)", "state\nverdict"]
    rows = [
        [
            f"{record.txn_id}\n{record.order_id or '-'}",
            age(now - record.created) + ("\nneeds you" if record.needs_human else ""),
            f"{_asked(record)}\n{_type(record)}, {_filled(record)} filled",
            f"{record.state.value}\n{record.verdict.value}",
        ]
        for record in records
    ]
    table(heads, rows, marked=[record.needs_human for record in records])


def _asked(record: Record) -> str:
    return f"{record.order.side} {money.text(record.order.amount)} {record.order.symbol}"


def _filled(record: Record) -> str:
    return money.text(record.filled) if shows_filled(record) else "-"


def _type(record: Record) -> str:
    return record.order.type if record.kind == "ORDER" else record.kind.lower()


def _find(reader: Reader, given: str) -> Record:
    """The transaction of an id, or of a client order id."""
    txn_id = given.strip().rpartition("-")[2].upper()
    record = reader.get(txn_id) if txn_id.isascii() else None
    if record is None:
        raise Misplaced(f"transaction {given!r:.80}: not in {reader.folder}; see 'hireliab transactions list'")
    return record


@transactions.command()
@click.argument("transaction_id")
@place_options
@json_option
def show(*, place: Place, transaction_id: str, as_json: bool) -> None:
    """One transaction: its record, its timeline, its fills, and what to do next."""
    with reading(place) as reader:
        record = _find(reader, transaction_id)
        log, fills, children = reader.log(record.txn_id), reader.fills(record.txn_id), reader.children(record.txn_id)
    next_step = advice(record, live=place.bot() is not None, options=place.options)
    if as_json:
        echo_json(
            {**_whole(record, log, fills), "cancels": [record_json(child) for child in children], "next": next_step}
        )
        return
    title(f"transaction {record.txn_id}")
    facts(_record_facts(record, children))
    click.echo()
    title("timeline")
    _timeline(log)
    if fills:
        click.echo()
        title("fills")
        base, quote = unit(record.order.symbol), unit(record.order.symbol, quote=True)
        heads = ["time", f"amount\n({base})", f"price\n({quote})", f"fee\n({_fee_unit(record)})", "trade id"]
        found = [
            [local_time(f.time), money.text(f.amount), money.text(f.price), money.text(f.fee), f.trade_id]
            for f in fills
        ]
        table(heads, found, right=(1, 2, 3))
    click.echo()
    title("what to do")
    paragraph(next_step)


def _timeline(log: list[tuple[float, int, str, int, str]]) -> None:
    start = log[0][0] if log else 0.0
    heads = ["time", "after\n(s)", "version", "state", "attempt", "cause"]
    rows = [[local_time(w), f"{w - start:.3f}", str(v), s, str(a), c or "-"] for w, v, s, a, c in log]
    columns = width()
    if columns is not None and columns < ROOM_FOR_TIMES:
        table(heads[1:], [row[1:] for row in rows], right=(0, 1, 3))
    else:
        table(heads, rows, right=(1, 2, 4))


def _fee_unit(record: Record) -> str:
    """As the exchange charges it: a buy in base, a sell in quote."""
    return unit(record.order.symbol, quote=record.order.side == "sell")


def _record_facts(record: Record, children: list[Record]) -> list[tuple[str, str]]:
    now = SYSTEM_CLOCK.time()
    base, quote = unit(record.order.symbol), unit(record.order.symbol, quote=True)
    proof = f", proof {record.proof.value}" if record.proof.value else ""
    filled = f"{_filled(record)} of {money.text(record.order.amount)} {base}"
    if record.average_price is not None:
        filled += f", on average at {money.text(record.average_price)} {quote}"
    fee = "" if record.fee == money.ZERO else f"{money.text(record.fee)} {_fee_unit(record)}"
    return [
        ("order", words(record)),
        ("kind", "" if record.kind == "ORDER" else f"{record.kind}, of transaction {record.parent_id or '-'}"),
        ("state", f"{record.state.value}, verdict {record.verdict.value}{proof}"),
        ("needs you", "yes: only a person can decide it" if record.needs_human else ""),
        ("reason", record.reason),
        ("order id", f"{record.order_id or '-'} {f'({record.order_status})' if record.order_status else ''}".strip()),
        ("client order id", record.order.client_order_id or "-"),
        ("filled", filled),
        ("fee", fee),
        ("candidates", ", ".join(record.candidates)),
        ("commit rule", f"{record.commit}" + ("" if record.timeout is None else f" within {record.timeout:g} s")),
        ("goal", "" if record.goal == "COMMIT" else "the order is to be closed (ROLLBACK)"),
        ("idempotency key", record.idempotency_key or ""),
        ("made", f"{local_time(record.created)} ({ago(now - record.created)})"),
        ("sent", "" if record.sent_wall is None else f"{local_time(record.sent_wall)}, attempt {record.attempt}"),
        ("changed", f"{local_time(record.updated)} (version {record.version})"),
        ("watched until", "" if record.watch_until is None else local_time(record.watch_until)),
        ("cancels", ", ".join(f"{child.txn_id} {child.verdict.value}" for child in children)),
    ]


def _whole(record: Record, log: list[tuple[float, int, str, int, str]], fills: list[Any]) -> dict[str, Any]:
    names = ("time", "version", "state", "attempt", "cause")
    return {
        "transaction": record_json(record),
        "log": [dict(zip(names, entry, strict=True)) for entry in log],
        "fills": [plain(fill) for fill in fills],
    }


@transactions.command()
@click.argument("transaction_id", required=False)
@place_options
@click.option("--json", "as_json", is_flag=True, help="Nothing else is possible; for symmetry.")
def export(*, place: Place, transaction_id: str | None, as_json: bool) -> None:  # noqa: ARG001
    """Everything of one transaction, or of all, as JSON lines: record, log, fills. Money is text."""
    with reading(place) as reader:
        records = reader.all() if transaction_id is None else iter([_find(reader, transaction_id)])
        for record in records:
            line = _whole(record, reader.log(record.txn_id), reader.fills(record.txn_id))
            click.echo(json.dumps(line, ensure_ascii=False))


# -- deciding -----------------------------------------------------------------------------------------------------


@transactions.command()
@click.argument("transaction_id")
@place_options
@click.option("--as", "as_", type=click.Choice(list(WORDS)), required=True, help="What became of it.")
@click.option("--evidence", required=True, help="What you saw, for the record.")
@_who
@click.option("--order-id", help="The exchange's order, for completed.")
@click.option("--filled", help="How much was filled (base currency), for completed; all of it when left out.")
@_timeout(30.0)
@json_option
def resolve(
    *,
    place: Place,
    transaction_id: str,
    as_: str,
    evidence: str,
    who: str,
    order_id: str | None,
    filled: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """
    Decide a transaction that nobody else can decide.

    completed: it was executed. failed: nothing of it exists, and nothing was filled. cancelled: it was closed without a
    fill. The words and the name are kept. A bot that runs reads the order before it believes you; without a bot your
    word goes into the journal as it is.
    """
    check_owner(place)
    with reading(place) as reader:
        txn_id = _find(reader, transaction_id).txn_id
    given: dict[str, Any] = {"evidence": evidence, "who": who, "order_id": order_id, "filled": filled}
    file = SQLiteJournal(place.folder)
    try:
        file.open()
    except JournalLockedError:
        args = {"transaction_id": txn_id, "as": as_, **given}
        _tell(_answer(place, "resolve", args, timeout), as_json=as_json)
        return
    try:
        record = _operator_offline.resolve(file, txn_id, as_, clock=SYSTEM_CLOCK, **given)
    finally:
        file.close()
    if as_json:
        echo_json({"bot": False, **record_json(record)})
    else:
        click.echo(
            f"transaction {txn_id}: {record.verdict.value} on the word of {clean(who)}; no bot runs, the exchange was not asked"
        )


@transactions.command()
@click.argument("order_id")
@place_options
@_who
@_timeout(30.0)
@json_option
def adopt(*, place: Place, order_id: str, who: str, timeout: float, as_json: bool) -> None:
    """
    Take an order at the exchange into the journal.

    For an order that carries this pipeline's prefix and has no transaction, as 'journal stats' lists them. The bot must run.
    """
    if not (order_id.isascii() and order_id.isdigit()):
        raise click.UsageError(f"ORDER_ID must be the exchange's number of the order, got {order_id!r:.60}")
    _tell(_ask_bot(place, "adopt", {"order_id": order_id, "who": who}, timeout), as_json=as_json)


@transactions.command()
@click.argument("transaction_id")
@place_options
@_who
@_timeout(60.0)
@json_option
def cancel(*, place: Place, transaction_id: str, who: str, timeout: float, as_json: bool) -> None:
    """Cancel a transaction's order at the exchange, and verify that it is closed. The bot must run."""
    with reading(place) as reader:
        txn_id = _find(reader, transaction_id).txn_id
    answer = _ask_bot(place, "cancel", {"transaction_id": txn_id, "who": who}, timeout)
    _tell(answer, as_json=as_json, subject=f"cancel of transaction {txn_id}")


@transactions.command()
@place_options
@_timeout(60.0)
@json_option
def sweep(*, place: Place, timeout: float, as_json: bool) -> None:
    """Look through the account's orders for some that carry our prefix and have no transaction. The bot must run."""
    answer = _ask_bot(place, "sweep", {}, timeout)
    found = answer.get("orphans", [])
    if as_json:
        echo_json(answer)
    elif found:
        table(["order id", "client order id"], [[str(o["order_id"]), str(o["client_order_id"])] for o in found])
        click.echo("'hireliab transactions adopt' takes one into the journal")
    else:
        click.echo("every order with our prefix has its transaction")


def _ask_bot(place: Place, command: str, args: dict[str, Any], timeout: float) -> dict[str, Any]:
    """What only a bot can do, because the exchange must be asked."""
    if not _operator_client.is_owned(place.folder):
        raise Fail(
            f"{command}: no bot runs on {place.folder}, and the exchange must be asked; start the bot, then ask again;"
            " nothing was done"
        )
    return _answer(place, command, args, timeout)


def _answer(place: Place, command: str, args: dict[str, Any], timeout: float) -> dict[str, Any]:
    check_owner(place)
    answer = _operator_client.ask(place.folder, command, args, timeout=timeout, clock=SYSTEM_CLOCK)
    if not answer.get("ok"):
        raise Fail(f"{command}: the bot refuses: {answer.get('error', 'without a reason')}")
    content = answer.get("answer")
    return content if isinstance(content, dict) else {}


def _tell(result: dict[str, Any], *, as_json: bool, subject: str = "") -> None:
    """A result that the bot answered; exits with 1 where its outcome is not known."""
    verdict = result.get("verdict")
    if as_json:
        echo_json({"bot": True, **result})
    else:
        parts = [f"{subject or 'transaction ' + str(result.get('transaction_id'))}: {verdict}"]
        if result.get("order_id"):
            parts.append(f"order {result['order_id']} {result.get('order_status') or ''}".strip())
        parts.append(f"filled {result.get('filled')}, not filled {result.get('remaining')}")
        if result.get("reason"):
            parts.append(str(result["reason"]))
        click.echo(clean("; ".join(parts)))
        if verdict == Verdict.UNKNOWN.value:
            click.echo("the outcome is not known yet; the bot goes on with it: see 'show'")
    if verdict == Verdict.UNKNOWN.value and result.get("kind") == "CANCEL":
        sys.exit(BAD)
