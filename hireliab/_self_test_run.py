"""Runs the checks of the self-test one after the other, each on a thread of its own that is left behind when it hangs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hireliab._install_parts import Failed
from hireliab.core._threads import join_all, start_thread
from hireliab.core.clock import SYSTEM_CLOCK, Clock

CHECK_LIMIT = 20.0
"""Seconds for one check; each takes about one, on a machine that is very busy ten."""
TOTAL_LIMIT = 90.0
"""Seconds for all of them. They take five; a machine that is too busy to do them in thirty is no broken installation."""

OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"


class Skipped(Exception):  # noqa: N818 - said in the table, raised to nobody
    """There is nothing here to check it with."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """
    One part.

    Attributes:
        part: Its name in the table.
        work: Uses the part against the stage; returns what that proved, or raises.
    """

    part: str
    work: Callable[[Any], str]


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    What became of one check.

    Attributes:
        part: Its name.
        verdict: "ok", "FAILED" or "skipped".
        seconds: That it took.
        text: What was proved, or why not.
    """

    part: str
    verdict: str
    seconds: float
    text: str


def run_checks(
    checks: Sequence[Check],
    stage: Any,
    *,
    begin: Callable[[int, Check], object] = lambda _number, _check: None,
    limit: float = CHECK_LIMIT,
    total: float = TOTAL_LIMIT,
    clock: Clock = SYSTEM_CLOCK,
) -> list[Row]:
    """
    Run every check, whatever becomes of those before it.

    Args:
        checks: In their order.
        stage: What each is given.
        begin: Told the number and the check before it begins.
        limit: Seconds for one check; one that does not end in time has failed, and its thread is left behind.
        total: Seconds for all; what does not begin in time has failed.
        clock: Where the time comes from.
    """
    until = clock.monotonic() + total
    rows = []
    for number, check in enumerate(checks, 1):
        began = clock.monotonic()
        left = until - began
        if left <= 0:
            rows.append(Row(part=check.part, verdict=FAILED, seconds=0.0, text=f"not begun: the {total:g} s are over"))
            continue
        begin(number, check)
        outcome: list[tuple[str, str]] = []
        thread = start_thread(partial(_judge, check, stage, outcome), name=f"hireliab.self-test.{number}")
        join_all([thread], timeout=min(limit, left), clock=clock)
        took = clock.monotonic() - began
        verdict, text = outcome[0] if outcome else (FAILED, f"did not end within {took:.0f} s")
        rows.append(Row(part=check.part, verdict=verdict, seconds=took, text=" ".join(text.split())))
    return rows


def _judge(check: Check, stage: Any, outcome: list[tuple[str, str]]) -> None:
    try:
        outcome.append((OK, check.work(stage)))
    except Skipped as reason:
        outcome.append((SKIPPED, str(reason)))
    except Failed as error:
        outcome.append((FAILED, str(error)))
    except BaseException as error:  # a part that ends its thread has failed, too
        outcome.append((FAILED, f"{type(error).__name__}: {error} (at {_place(error)})"))


def _place(error: BaseException) -> str:
    """Where it was raised, for whoever reports it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
