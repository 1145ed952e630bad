"""How the command line writes: tables, times, ages, and errors with an exit code."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import click

BAD = 1


class Fail(click.ClickException):
    """It was asked well and the answer is bad: one line on stderr, exit code 1."""

    exit_code = BAD


class Misplaced(Fail):
    """There is nothing of the kind here: one line on stderr, exit code 2."""

    exit_code = 2


class Group(click.Group):
    """Names the near miss of a command that does not exist, and helps who names none."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Without arguments: the help on stderr, as click's versions do not agree what then happens."""
        if not args:
            click.echo(context.get_help(), err=True)
            context.exit(2)
        return super().parse_args(context, args)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the first argument."""
        known = self.list_commands(context)
        if args and not args[0].startswith("-") and args[0] not in known:
            near = difflib.get_close_matches(args[0], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            context.fail(f"no command {clean(args[0])!r:.60}; {hint}")
        return super().resolve_command(context, args)


def prepare_streams() -> None:
    """Let a terminal that cannot show a letter show something else instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def echo_json(value: Any) -> None:
    """One JSON value."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


def clean(text: str) -> str:
    """Without what could move the cursor or change colours: it may come from the exchange."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


# -- times --------------------------------------------------------------------------------------------------------


def local_time(seconds: float | None) -> str:
    """A time of this machine's zone, with the zone."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    except (OverflowError, ValueError, OSError):
        return "?"


def age(seconds: float | None) -> str:
    """A length of time in words."""
    if seconds is None:
        return "-"
    if seconds < -1:
        return "in the future"
    if seconds < 1:
        return "just now"
    for most, size, word in ((120, 1, "s"), (120 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < most:
            return f"{int(seconds // size)} {word}"
    return f"{int(seconds // 86400)} days"


def ago(seconds: float | None) -> str:
    """How long ago, in words."""
    words = age(seconds)
    return words if words in ("-", "just now", "in the future") else f"{words} ago"


# -- tables -------------------------------------------------------------------------------------------------------


def width() -> int | None:
    """The terminal's columns, or None where the output is no terminal."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), marked: Sequence[bool] = ()
) -> None:
    """
    Print a table: with rich on a terminal where it is installed, else as plain aligned text.

    Args:
        heads: With units; a line break begins a second line, as in the cells.
        rows: Texts.
        right: The columns of figures.
        marked: Which rows stand out, where there are colours.
    """
    rows = [[_lines_clean(cell) for cell in row] for row in rows]
    if width() is None or not _rich(heads, rows, right, marked):
        click.echo(plain_table(heads, rows, right=right))


def _lines_clean(cell: str) -> str:
    return "\n".join(clean(line) for line in cell.split("\n"))


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """The table as text; its columns are as wide as their longest cell, whatever the terminal."""
    split = [[cell.split("\n") for cell in row] for row in (heads, *rows)]
    widths = [max(len(line) for row in split for line in row[n]) for n in range(len(heads))]

    def lines(row: list[list[str]]) -> list[str]:
        made = []
        for n in range(max(len(cell) for cell in row)):
            parts = [cell[n] if n < len(cell) else "" for cell in row]
            cells = [p.rjust(w) if i in right else p.ljust(w) for i, (p, w) in enumerate(zip(parts, widths, strict=True))]
            made.append("  ".join(cells).rstrip())
        return made

    rule = "  ".join("-" * w for w in widths)
    return "\n".join([*lines(split[0]), rule, *(line for row in split[1:] for line in lines(row))])


def _rich(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int], marked: Sequence[bool]) -> bool:
    try:
        from rich import box  # noqa: PLC0415 - an extra
        from rich.console import Console  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        return False
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for n, head in enumerate(heads):
        last = n == len(heads) - 1
        made.add_column(
            Text(head), justify="right" if n in right else "left", no_wrap=not last, overflow="fold" if last else "ellipsis"
        )
    for n, row in enumerate(rows):
        made.add_row(*(Text(cell) for cell in row), style="bold red" if n < len(marked) and marked[n] else None)
    Console(file=sys.stdout, color_system=None if os.environ.get("NO_COLOR") else "auto", highlight=False).print(made)
    return True


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Aligned lines of a name and what it is; an empty one is left out."""
    pairs = [(name, text) for name, text in pairs if text]
    wide = max((len(name) for name, _ in pairs), default=0)
    columns = width()
    for name, text in pairs:
        head = f"  {name.ljust(wide)}  "
        if columns is None:
            click.echo(head + clean(text))
            continue
        lines = textwrap.wrap(clean(text), max(20, columns - len(head)), break_on_hyphens=False) or [""]
        click.echo(head + f"\n{' ' * len(head)}".join(lines))


def title(text: str) -> None:
    """A heading."""
    click.echo(click.style(text, bold=True) if width() is not None and not os.environ.get("NO_COLOR") else text)


def paragraph(text: str, *, indent: str = "  ") -> None:
    """Text that is folded, but for lines that begin with a space: they are commands to copy."""
    columns = min(width() or 100, 100)
    for line in text.split("\n"):
        if line.startswith(" "):
            click.echo(indent + line)
        else:
            folded = textwrap.wrap(clean(line), columns - len(indent), break_on_hyphens=False, break_long_words=False)
            click.echo("\n".join(indent + part for part in folded))
