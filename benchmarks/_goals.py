"""What the project asks of itself, beside what was measured. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import harness


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`reached` is None where it could not be measured."""

    what: str
    wanted: str
    measured: str
    reached: bool | None


def goal(
    what: str,
    measured: float | None,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
) -> Goal:
    """
    Hold a figure to its bound as both are printed: 2.004 syncs are 2.00, some open the file.

    Args:
        measured: None when it could not be measured or does not count.
        text: Format of both, a number first.
        least, most, above: The bound, one of them.
    """
    sign, bound = next(
        (sign, bound) for sign, bound in ((">=", least), ("<=", most), (">", above)) if bound is not None
    )
    limit = text.format(bound)
    wanted = f"{sign} {limit}"
    if measured is None:
        return Goal(what=what, wanted=wanted, measured="not measured", reached=None)
    shown = text.format(measured)
    ours, theirs = _printed(shown), _printed(limit)
    reached = {">=": ours >= theirs, "<=": ours <= theirs, ">": ours > theirs}[sign]
    return Goal(what=what, wanted=wanted, measured=shown, reached=reached)


def table(goals: Sequence[Goal]) -> list[str]:
    """The block that every report with goals has."""
    words = {True: "yes", False: "NO", None: "-"}
    rows = [(goal.what, goal.wanted, goal.measured, words[goal.reached]) for goal in goals]
    return harness.table("Goals", ("goal", "wanted", "measured", "reached"), rows)


def _printed(text: str) -> float:
    return float(text.split(maxsplit=1)[0].replace(",", ""))
