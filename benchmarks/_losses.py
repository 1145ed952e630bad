"""Where somebody else is faster than hireliab, as every report says it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

HEADING = "Where hireliab loses:"


def told(lost: Sequence[str], counts: Sequence[bool], heading: str = HEADING) -> Iterator[str]:
    """
    The block that every report with peers has.

    Args:
        lost: A line for each loss, indented; nothing is added to it.
        counts: For each part of the benchmark, whether hireliab's own figures count there: without them nobody knows.
        heading: Stands above the losses.
    """
    if lost:
        yield heading
        yield from lost
    elif not any(counts):
        yield "hireliab was not measured."
    elif not all(counts):
        yield "hireliab loses to nobody where its figures count; not all of them do."
    else:
        yield "hireliab loses to nobody here."
