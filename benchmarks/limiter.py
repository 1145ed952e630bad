"""The rate limiter: what it costs to take room where there is some, and to be refused where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks import harness
from benchmarks._calls import HEADS, Cost, Subject, against, cost_goal, find, measure, missing, peer, report, rows
from benchmarks._goals import Goal
from hireliab.core.rate_limiter import RateLimiter
from hireliab.errors import RateLimitedError

PEERS = {"pyrate-limiter": ""}
LIMITS = ((100_000_000, 1.0), (1_000_000_000, 60.0))
"""Room for every call that a round can make."""
SMALL = ((2_000, 0.005), (2_000_000, 1.0))
"""So that admissions leave the short window while it is measured."""


def run(quick: bool) -> harness.Report:
    """Both parts; `quick` finds breakage only."""
    harness.quiet("hireliab")
    rounds, calls = (2, 500) if quick else (15, 20_000)
    harness.progress(f"limiter: {rounds} rounds of two groups, and one to warm up")
    room = measure(_room(), rounds=rounds, calls=calls)
    full = measure(_full(), rounds=rounds, calls=calls // 4)
    ratios = [
        f"two limits, room in both: {against(room, 'hireliab', 'pyrate-limiter')}",
        f"no room: {against(full, 'hireliab', 'pyrate-limiter')}",
        *missing(PEERS),
    ]
    tables = [
        *harness.table(f"Room in both of two limits, one thread, median of {rounds} rounds", HEADS, rows(room)),
        "",
        *harness.table("No room, and no wish to wait; the refusal caught", HEADS, rows(full)),
    ]
    return report("limiter: what it costs to be paced", ratios, goals(room), tables, {"room": room, "full": full})


def goals(room: Sequence[Cost]) -> list[Goal]:
    """What the project asks of itself, beside what was measured."""
    return [cost_goal("room in both limits", find(room, "hireliab"), "{:.2f} us", most=2.5)]


def _room() -> list[Subject]:
    subjects = []
    for name, limits in (("hireliab", LIMITS), ("hireliab, a window that turns", SMALL)):
        limiter = RateLimiter(name=name, limits=limits)
        subjects.append(Subject(name=name, call=_taking(limiter), takes=False, check=_counts(limiter)))
    weighted = RateLimiter(name="weighted", limits=LIMITS, reserved=0.1)
    subjects.append(
        Subject(
            name="hireliab, weight and reserve",
            call=lambda: weighted.acquire(2, timeout=1.0, lane="reserved"),
            takes=False,
            check=_counts(weighted),
        )
    )
    if pyrate := peer("pyrate_limiter"):
        theirs = pyrate.Limiter([pyrate.Rate(limit, int(per * 1000)) for limit, per in LIMITS])
        subjects.append(
            Subject(
                name="pyrate-limiter",
                call=lambda: theirs.try_acquire("bench", blocking=False),
                takes=False,
                share=0.2,
                check=lambda: (
                    "" if theirs.try_acquire("bench", blocking=False) else "it refused although there is room"
                ),
            )
        )
    return subjects


def _taking(limiter: RateLimiter) -> Callable[[], object]:
    def take() -> None:
        try:
            limiter.acquire()
        except RateLimitedError:
            return

    return limiter.acquire if limiter.limits[-1] == LIMITS[-1] else take


def _counts(limiter: RateLimiter) -> Callable[[], str]:
    def check() -> str:
        before = limiter.stats().windows[-1].used
        limiter.acquire(timeout=None)
        after = limiter.stats().windows[-1].used
        return "" if 0 < after <= before + 1 else f"it counted {before}, then {after}"

    return check


def _full() -> list[Subject]:
    limiter = RateLimiter(name="full", limits=[(1, 3600.0), (2, 7200.0)])
    limiter.acquire()

    def refused() -> None:
        try:
            limiter.acquire()
        except RateLimitedError:
            return

    subjects = [
        Subject(
            name="hireliab",
            call=refused,
            takes=False,
            check=lambda: "" if limiter.stats().used == 1 else "it let calls through",
        )
    ]
    if pyrate := peer("pyrate_limiter"):
        theirs = pyrate.Limiter([pyrate.Rate(1, 3_600_000), pyrate.Rate(2, 7_200_000)])
        theirs.try_acquire("bench", blocking=False)
        subjects.append(
            Subject(
                name="pyrate-limiter",
                call=lambda: theirs.try_acquire("bench", blocking=False),
                takes=False,
                share=0.5,
                check=lambda: "it let a call through" if theirs.try_acquire("bench", blocking=False) else "",
            )
        )
    return subjects
