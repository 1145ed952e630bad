"""One limit of a rate limiter: what is in its window now, and what will be. Pure; called with its lock held."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from operator import attrgetter

from hireliab.core import config
from hireliab.errors import ConfigError

NORMAL = "normal"
RESERVED = "reserved"


class Token:
    """One admission; `RateLimiter.give_back` takes it if the request did not go out."""

    __slots__ = ("at", "lane", "owner", "weight")

    def __init__(self, at: float, weight: int, lane: str, owner: object) -> None:
        self.at = at  # the clock's reading
        self.weight = weight
        self.lane = lane
        self.owner = owner  # the limiter, until it is given back


@dataclasses.dataclass(frozen=True)
class WindowStats:
    """
    One of a limiter's limits.

    Attributes:
        limit: Most weight in one window.
        per: Seconds of the window.
        used: Weight in the present window; after a `preload` or an `observe` it may exceed the limit.
    """

    limit: int
    per: float
    used: int


@dataclasses.dataclass(frozen=True)
class RateLimiterStats:
    """
    One consistent look at a limiter.

    Attributes:
        name: The limiter's name.
        used: Weight in the fullest of the present windows; see `WindowStats`.
        limit: Most weight in that one.
        per: Seconds of that one.
        waiting: Threads that wait in `acquire`.
        blocked_for: Seconds until a penalty ends, else 0.0.
        windows: All of them, the shortest first.
    """

    name: str
    used: int
    limit: int
    per: float
    waiting: int
    blocked_for: float
    windows: tuple[WindowStats, ...]


class Window:
    """
    One limit and the admissions of its last `per` seconds.

    Args:
        limit: Most weight in any `per` seconds.
        per: Seconds.
        normal: How much of the limit the normal lane may use.

    Attributes:
        used: Weight in the window, as of the last `expire`.
        used_normal: That of the normal lane.
        log: The admissions in it, in the order in which they leave it.
    """

    __slots__ = ("limit", "log", "normal", "per", "used", "used_normal")

    def __init__(self, limit: int, per: float, normal: int) -> None:
        self.limit = limit
        self.per = per
        self.normal = normal
        self.used = 0
        self.used_normal = 0
        self.log: deque[Token] = deque()

    def most(self, lane: str) -> int:
        """How much of the limit a lane may use."""
        return self.limit if lane == RESERVED else self.normal

    def expire(self, now: float) -> None:
        """Forget what left the window."""
        log = self.log
        while log and log[0].at + self.per <= now:
            self._leave(log.popleft())

    def fits(self, weight: int, lane: str, now: float) -> bool:
        """Whether there is room now."""
        log = self.log
        if log and log[0].at + self.per <= now:
            self.expire(now)
        return self.used + weight <= self.limit and (lane == RESERVED or self.used_normal + weight <= self.normal)

    def admit(self, token: Token) -> None:
        """Count an admission of this moment."""
        self.log.append(token)
        self.used += token.weight
        if token.lane == NORMAL:
            self.used_normal += token.weight

    def enter(self, tokens: Iterable[Token]) -> None:
        """Count admissions of any time."""
        for token in tokens:
            self.admit(token)
        self.log = deque(sorted(self.log, key=attrgetter("at")))

    def remove(self, token: Token) -> None:
        """Undo an admission, unless it left the window."""
        if self.log and self.log[-1] is token:
            self.log.pop()  # the usual case, and `remove` would begin at the other end
        else:
            try:
                self.log.remove(token)
            except ValueError:
                return
        self._leave(token)

    def _leave(self, token: Token) -> None:
        self.used -= token.weight
        if token.lane == NORMAL:
            self.used_normal -= token.weight


class Played:
    """A window's future: what is in it leaves, and those that wait are admitted."""

    __slots__ = ("_leaving", "_played", "_room_at", "_used", "_used_normal", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self._used = window.used
        self._used_normal = window.used_normal
        self._played: list[Token] = []
        self._leaving: Iterator[Token] = itertools.chain(window.log, self._played)
        self._room_at = -math.inf

    def make_room(self, weight: int, lane: str) -> float:
        """Let admissions leave until there is room for this one; when the last of them leaves."""
        window = self.window
        while self._used + weight > window.limit or (lane == NORMAL and self._used_normal + weight > window.normal):
            gone = next(self._leaving)
            self._room_at = gone.at + window.per
            self._used -= gone.weight
            if gone.lane == NORMAL:
                self._used_normal -= gone.weight
        return self._room_at

    def admit(self, at: float, weight: int, lane: str) -> None:
        """Admit one that waits."""
        self._played.append(Token(at, weight, lane, None))
        self._used += weight
        if lane == NORMAL:
            self._used_normal += weight


def make_windows(
    name: str,
    limit: int | None,
    per: float | None,
    limits: Iterable[tuple[int, float]] | None,
    reserved: float,
) -> tuple[Window, ...]:
    """
    Check a limiter's limits.

    Returns:
        A window for each, the shortest first.

    Raises:
        ConfigError: A value is out of range, or there are none or two forms of the limit.
    """
    where = f"rate limiter {name!r}"
    share = config.number("reserved", reserved, low=0, high=1)
    if limits is None:
        pairs = [(config.whole("limit", limit, low=1), config.number("per", per, above=0))]
    elif limit is not None or per is not None:
        raise ConfigError(
            f"{where}: limit, per and limits are one setting; give limit and per, or limits", setting="limits"
        )
    else:
        pairs = _pairs(where, limits)
    windows = []
    for most, seconds in sorted(pairs, key=lambda pair: pair[1]):
        # The tiny addition undoes binary rounding: 10 * (1 - 0.9) is 0.9999999999999998.
        normal = math.floor(most * (1 - share) + 1e-9)
        if normal < 1:
            raise ConfigError(
                f"{where}: reserved={reserved!r} of {most!r} leaves nothing to the normal lane",
                setting="reserved",
                value=reserved,
                allowed="a share that leaves at least 1",
            )
        windows.append(Window(most, seconds, normal))
    return tuple(windows)


def _pairs(where: str, limits: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    allowed = "pairs of a limit and its seconds, such as [(10, 1.0), (1200, 60.0)]"
    try:
        given = [tuple(pair) for pair in limits]
    except TypeError:
        given = []
    if not given or any(len(pair) != 2 for pair in given):
        raise ConfigError(
            f"{where}: limits must be {allowed}, got {config.shown(limits)}",
            setting="limits",
            value=limits,
            allowed=allowed,
        )
    pairs = [(config.whole("limits", most, low=1), config.number("limits", per, above=0)) for most, per in given]
    if len({per for _, per in pairs}) < len(pairs):
        raise ConfigError(
            f"{where}: limits has two limits for the same seconds; keep the lower one", setting="limits", value=limits
        )
    return pairs
