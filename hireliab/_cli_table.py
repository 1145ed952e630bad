"""Tables for people, on a terminal and elsewhere. Needs nothing but the standard library: rich where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Sequence


def prepare_streams() -> None:
    """Let a terminal that cannot show a letter show something else instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def clean(text: str) -> str:
    """Without what could move the cursor or change colours: it may come from the exchange."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


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
        sys.stdout.write(f"{plain_table(heads, rows, right=right)}\n")


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
            cells = [
                p.rjust(w) if i in right else p.ljust(w) for i, (p, w) in enumerate(zip(parts, widths, strict=True))
            ]
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
            Text(head),
            justify="right" if n in right else "left",
            no_wrap=not last,
            overflow="fold" if last else "ellipsis",
        )
    for n, row in enumerate(rows):
        made.add_row(*(Text(cell) for cell in row), style="bold red" if n < len(marked) and marked[n] else None)
    Console(file=sys.stdout, color_system=None if os.environ.get("NO_COLOR") else "auto", highlight=False).print(made)
    return True
