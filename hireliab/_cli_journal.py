"""``hireliab journal``, ``hireliab halt`` and ``hireliab unhalt``."""

from __future__ import annotations

import sys
from typing import Any

import click

from hireliab._cli_reader import (
    UNRESOLVED,
    Place,
    Reader,
    json_option,
    place_options,
    reading,
)
from hireliab._cli_text import BAD, Group, age, ago, clean, echo_json, facts, local_time, paragraph, table, title
from hireliab._cli_transactions import halt_line, user
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import HireliabError
from hireliab.exchange import _halt
from hireliab.exchange._operator_desk import plain


@click.group(cls=Group)
def journal() -> None:
    """The journal's files."""


@journal.command()
@place_options
@json_option
def check(*, place: Place, as_json: bool) -> None:
    """
    Look for damage, without changing anything; a bot may run meanwhile.

    SQLite's integrity check over the whole file, and every record is read. Exit code 1: it is damaged.
    """
    problems: list[str] = []
    counts: dict[str, int] = {}
    try:
        with reading(place) as reader:
            problems += reader.check()
            if not problems:
                counts = {"transactions": sum(1 for _ in reader.all()), "log entries": reader.count("txn_log")}
                counts["fills"] = reader.count("fill")
                counts["not decided"] = sum(n for state, n in reader.counts().items() if state in UNRESOLVED)
    except HireliabError as error:
        problems.append(str(error))
    if as_json:
        echo_json({"journal": str(place.folder), "ok": not problems, "problems": problems, "counts": counts})
    elif problems:
        click.echo(clean(f"journal {place.folder}: damaged, or not to be read"))
        for problem in problems:
            click.echo(f"  {clean(problem)}")
        click.echo(
            "Stop the bot, and copy the folder before you do anything else. A new journal finds the orders of a lost one by"
            " their prefix; it reports them as orphans."
        )
    else:
        click.echo(clean(f"journal {place.folder}: sound"))
        facts([(word, str(count)) for word, count in counts.items()])
    if problems:
        sys.exit(BAD)


@journal.command()
@place_options
@json_option
def stats(*, place: Place, as_json: bool) -> None:
    """Sizes, transactions by state, what is not decided, orphans, the halt, and the bot's own figures."""
    with reading(place) as reader:
        found = _collect(place, reader)
    if as_json:
        echo_json(found)
        return
    now = SYSTEM_CLOCK.time()
    title(clean(f"journal {place.folder}"))
    bot = found["bot"]
    account = found["account"]
    facts(
        [
            (
                "account",
                "none yet" if account is None else f"{account['identity']} at {account['venue']} ({account['host']})",
            ),
            ("bot", "none seems to run" if bot is None else _bot_words(bot, now)),
            ("halt", halt_line(place)),
            (
                "oldest",
                "" if found["oldest"] is None else f"{local_time(found['oldest'])} ({age(now - found['oldest'])})",
            ),
            ("not decided", _undecided_words(found, now)),
            ("in the book", str(found["resting"] or "")),
            ("presumed absent", f"{found['watched']}, still watched" if found["watched"] else ""),
            ("newest order id", found["watermark"]),
            ("events", _event_words(found, now)),
            ("version", str(found["version"])),
        ]
    )
    click.echo()
    table(["file", "size (bytes)"], [[file, f"{bytes_:,}"] for file, bytes_ in found["files"].items()], right=(1,))
    if found["states"]:
        click.echo()
        table(["state", "transactions"], [[state, str(n)] for state, n in found["states"].items()], right=(1,))
    if found["orphans"]:
        click.echo()
        title("orders with our prefix and no transaction ('hireliab transactions adopt' takes one in)")
        table(["order id", "client order id"], [[order_id, client] for order_id, client in found["orphans"].items()])


def _collect(place: Place, reader: Reader) -> dict[str, Any]:
    waiting = reader.unfinished()
    undecided = [record for record in waiting if not record.state.is_terminal]
    files = sorted(path for path in place.folder.iterdir() if path.is_file())
    account = reader.bound
    waiting_events, oldest_event = reader.event_backlog()
    return {
        "journal": str(place.folder),
        "version": reader.version,
        "account": plain(account),
        "bot": place.bot(),
        "halt": plain(place.halt),
        "files": {path.name: path.stat().st_size for path in files},
        "states": reader.counts(),
        "oldest": reader.oldest(),
        "unresolved": len(undecided),
        "oldest_unresolved": min((record.created for record in undecided), default=None),
        "needs_human": sum(record.needs_human for record in undecided),
        "resting": sum(record.is_open_at_venue for record in waiting),
        "watched": sum(record.watch_until is not None for record in waiting),
        "orphans": reader.orphans(),
        "watermark": reader.watermark,
        "waiting_events": waiting_events,
        "oldest_waiting_event": oldest_event,
    }


def _bot_words(bot: dict[str, Any], now: float) -> str:
    started, updated = bot.get("started"), bot.get("updated")
    words = f"process {bot.get('pid')}, {bot.get('state')}"
    if isinstance(started, int | float):
        words += f", started {local_time(started)}"
    return f"{words}, last sign {ago(now - updated)}" if isinstance(updated, int | float) else words


def _undecided_words(found: dict[str, Any], now: float) -> str:
    words = str(found["unresolved"])
    if found["oldest_unresolved"] is not None:
        words += f", the oldest for {age(now - found['oldest_unresolved'])}"
    return f"{words}, only a person can decide {found['needs_human']}" if found["needs_human"] else words


def _event_words(found: dict[str, Any], now: float) -> str:
    if not found["waiting_events"]:
        return ""
    words = f"{found['waiting_events']} not published yet"
    oldest = found["oldest_waiting_event"]
    return words if oldest is None else f"{words}, the oldest for {age(now - oldest)}"


# -- halt ---------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("reason", required=False, default="")
@place_options
@click.option("--reducing", is_flag=True, help="Still send orders that sell.")
@click.option("--who", default=user, show_default="your user name", help="Your name, for the record.")
@json_option
def halt(*, place: Place, reason: str, reducing: bool, who: str, as_json: bool) -> None:
    """
    Send no more orders, until 'unhalt', also after a restart.

    Works whether a bot runs or not. It is looked at before each send.
    """
    before, line = place.halt, halt_line(place)
    wanted = _halt.Halt(mode="REDUCING" if reducing else "HALTED", reason=reason, who=who, since=SYSTEM_CLOCK.time())
    _halt.write(place.folder, wanted)
    if as_json:
        echo_json(
            {"journal": str(place.folder), "halt": plain(place.halt), "replaced": plain(before), "bot": _pid(place)}
        )
        return
    click.echo(clean(halt_line(place)))
    if before is not None:
        click.echo(clean(f"It takes the place of: {line}"))
    paragraph(
        f"It holds from now on: the bot looks before each send, so {'only orders that sell are' if reducing else 'no order is'}"
        " sent any more; a request whose bytes are on their way is not stopped. Cancels and look-ups go on, and orders that"
        f" rest in the book stay there. It holds after a restart, too, until:\n  hireliab unhalt{place.options}",
        indent="",
    )
    if place.bot() is None:
        click.echo("No bot seems to run on this journal: it holds from the next start on.")


@click.command()
@place_options
@click.option("--who", default=user, show_default="your user name", help="Your name, for the record.")
@json_option
def unhalt(*, place: Place, who: str, as_json: bool) -> None:
    """End a halt: orders are sent again, from the next one on."""
    before, line = place.halt, halt_line(place)
    ended = _halt.clear(place.folder)
    if as_json:
        echo_json(
            {"journal": str(place.folder), "ended": plain(before) if ended else None, "who": who, "bot": _pid(place)}
        )
    elif ended:
        click.echo(clean(f"ended by {who}: {line}"))
        click.echo("The bot sends again, from its next order on.")
    else:
        click.echo("there was no halt")


def _pid(place: Place) -> Any:
    bot = place.bot()
    return None if bot is None else bot.get("pid")
