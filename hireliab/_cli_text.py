"""How the command line writes: times, ages, and errors with an exit code; tables are those of _cli_table."""

from __future__ import annotations

import difflib
import json
import os
import textwrap
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import click

from hireliab._cli_table import clean, prepare_streams, table, width

__all__ = [
    "BAD",
    "Fail",
    "Group",
    "Misplaced",
    "Whole",
    "age",
    "ago",
    "clean",
    "echo_json",
    "facts",
    "local_time",
    "paragraph",
    "prepare_streams",
    "table",
    "title",
    "width",
]

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


class Whole(click.IntRange):
    """A whole number of a range, which its errors name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f"must be a whole number from {self.min} to {self.max}, got {clean(str(value))!r:.60}", param, ctx
            )


def echo_json(value: Any) -> None:
    """One JSON value."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


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


# -- lines -------------------------------------------------------------------------------------------------------


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
