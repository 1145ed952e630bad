"""
Rate limits as the exchange counts them. Pure: time comes in as an argument.

Windows slide, per endpoint, and are kept per credential and per IP address; a request must pass
both. A refused request is not counted. `backOff` is the time until enough old hits leave.

Two further guards, with the thresholds of the settings:

- *Token ban.* A credential that collected `ban_after` (20) throttled answers within `ban_window`
  (60 s) gets nothing but 429 on every endpoint for `ban_seconds` (120 s). The documents say
  "repeatedly" without a number.
- *Failed authentications.* The window starts with the first 401 of an IP address and lasts
  `unauthorized_window` (30 min); after `unauthorized_limit` (100) of them every call of that
  address is answered 429 until the window ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hireliab.simulator.message import Reply, answer
from hireliab.simulator.settings import Settings


@dataclass(frozen=True)
class Limit:
    """So many calls per window; endpoints with the same name share it."""

    name: str
    calls: int
    seconds: float


ORDERS = Limit("orders", 300, 600)
"""Shared by every call that places orders, counted in orders."""


@dataclass(frozen=True)
class Throttled:
    """A request that must wait."""

    back_off: int
    limit: int


class Limiter:
    """
    All windows of the exchange.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self) -> None:
        self._hits: dict[tuple[str, str], deque[float]] = {}
        self._throttled: dict[str, deque[float]] = {}
        self._banned_until: dict[str, float] = {}
        self._unauthorized: dict[str, tuple[float, int]] = {}

    def admit(
        self, limit: Limit, keys: Sequence[str], now: float, settings: Settings, cost: int = 1
    ) -> Throttled | None:
        """
        Count a call under every key, or say why not.

        Args:
            keys: Credential and IP address.
            cost: How many hits the call is worth.
        """
        if not settings.limits:
            return None
        allowed = max(1, int(limit.calls * settings.limit_scale))
        windows = [self._window(limit, key, now) for key in keys]
        for window in windows:
            excess = len(window) + cost - allowed
            if excess > 0:
                oldest = window[min(excess, len(window)) - 1] if window else now
                return Throttled(_whole(oldest + limit.seconds - now), allowed)
        for window in windows:
            window.extend([now] * cost)
        return None

    def note_throttled(self, credential: str, now: float, settings: Settings) -> None:
        """Count a 429 answer; too many ban the credential."""
        recent = self._throttled.setdefault(credential, deque())
        _expire(recent, now - settings.ban_window)
        recent.append(now)
        if len(recent) >= settings.ban_after:
            recent.clear()
            self._banned_until[credential] = now + settings.ban_seconds

    def banned(self, credential: str, now: float) -> Throttled | None:
        """Whether a credential is banned now."""
        left = self._banned_until.get(credential, now) - now
        return Throttled(_whole(left), 0) if left > 0 else None

    def note_unauthorized(self, ip: str, now: float, settings: Settings) -> None:
        """Count a failed authentication."""
        started, count = self._unauthorized.get(ip, (now, 0))
        if now - started >= settings.unauthorized_window:
            started, count = now, 0
        self._unauthorized[ip] = (started, count + 1)

    def blocked(self, ip: str, now: float, settings: Settings) -> Throttled | None:
        """Whether an address had too many failed authentications."""
        started, count = self._unauthorized.get(ip, (now, 0))
        left = started + settings.unauthorized_window - now
        if count < settings.unauthorized_limit or left <= 0:
            return None
        return Throttled(_whole(left), settings.unauthorized_limit)

    def _window(self, limit: Limit, key: str, now: float) -> deque[float]:
        window = self._hits.setdefault((limit.name, key), deque())
        _expire(window, now - limit.seconds)
        return window


def too_many(throttled: Throttled, settings: Settings) -> Reply:
    """The 429 answer, literally."""
    seconds = throttled.back_off
    body = {
        "status": "failed",
        "code": "TooManyRequests",
        "message": (f"تعداد درخواست‌های شما بیش از حد مجاز است. لطفا {seconds} ثانیه دیگر دوباره تلاش کنید."),
        "backOff": seconds,
        "limit": throttled.limit,
    }
    headers = (("Retry-After", str(seconds)),) if settings.retry_after else ()
    return answer(body, 429, headers)


def _expire(times: deque[float], before: float) -> None:
    while times and times[0] <= before:
        times.popleft()


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
