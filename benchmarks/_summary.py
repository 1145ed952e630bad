"""The table at the end: a row for each comparison and each goal, over all benchmarks, ratios first. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import harness


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One comparison, one goal, or both.

    Attributes:
        part: The benchmark.
        what: What was done.
        against: With whom hireliab is compared; "" when a figure stands for itself.
        ratio: How many times as fast as they hireliab is: below 1 it loses. None when there is nobody to compare with.
        absolute: Hireliab's own figure, with its unit.
        wanted: The goal, or "".
        reached: Whether the goal is; None: there is none, or it was not measured.
    """

    part: str
    what: str
    against: str
    ratio: float | None
    absolute: str
    wanted: str
    reached: bool | None


def times(ratio: float) -> str:
    """A ratio with as many digits as it deserves, such as "0.98 x" and "33,940 x"."""
    digits = 0 if ratio >= 100 else 1 if ratio >= 10 else 2
    if ratio < 0.1:
        digits = 3
    return f"{ratio:,.{digits}f} x"


def cells(row: Row) -> tuple[str, ...]:
    """The same as words."""
    ratio = "-" if row.ratio is None else times(row.ratio)
    reached = "" if not row.wanted else {True: "yes", False: "NO", None: "not measured"}[row.reached]
    return (ratio, row.part, row.what, row.against, row.absolute, row.wanted, reached)


HEADS = ("x as fast", "part", "what", "against", "hireliab", "wanted", "reached")


def lines(rows: Sequence[Row]) -> list[str]:
    """For people; how many goals are reached stands first."""
    goals = [row for row in rows if row.wanted]
    missed = [row for row in goals if row.reached is False]
    unknown = [row for row in goals if row.reached is None]
    lost = [row for row in rows if row.ratio is not None and row.ratio < 1]
    compared = [row for row in rows if row.ratio is not None]
    title = "all benchmarks: how many times as fast as they hireliab is"
    text = f"{len(goals)} goals: {len(goals) - len(missed) - len(unknown)} reached, {len(missed)} missed"
    return [
        title,
        "=" * len(title),
        text + (f", {len(unknown)} not measured" if unknown else ""),
        f"{len(compared)} comparisons: hireliab is slower in {len(lost)} of them (below 1 x)",
        "",
        *_table(rows),
    ]


def _table(rows: Sequence[Row]) -> list[str]:
    """The comparisons, and below them the goals that stand for themselves."""
    compared = [cells(row) for row in rows if row.ratio is not None]
    alone = [cells(row) for row in rows if row.ratio is None]
    # The ratio stands at the left and is a number all the same: aligned by hand.
    width = max([len(HEADS[0]), *(len(cell[0]) for cell in compared)])
    shown = [(cell[0].rjust(width), *cell[1:]) for cell in compared]
    lines = harness.table("", (HEADS[0].rjust(width), *HEADS[1:]), shown, words=len(HEADS))[1:] if compared else []
    if alone:
        short = [(cell[1], cell[2], *cell[4:]) for cell in alone]
        lines += ["", *harness.table("Goals without a peer", ("part", "what", *HEADS[4:]), short, words=5)]
    return lines


def as_csv(rows: Sequence[Row]) -> str:
    """For spreadsheets and for the documents: missed goals first, then the other goals, then the other comparisons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADS)
    writer.writerows(cells(row) for row in sorted(rows, key=lambda row: (row.reached is not False, not row.wanted)))
    return text.getvalue()
