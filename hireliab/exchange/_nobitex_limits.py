"""Nobitex's documented rate limits, one sliding window for each endpoint. Source: nobitex-api.md section 4.2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hireliab.core.clock import Clock
from hireliab.core.config import number, refuse_unknown, whole
from hireliab.core.rate_limiter import RateLimiter, Token
from hireliab.errors import ConfigError

TABLE: dict[str, tuple[int, float]] = {
    "orderbook": (300, 60.0),
    "stats": (20, 60.0),
    "options": (10, 60.0),  # not documented; it is kept for minutes
    "profile": (10, 60.0),  # not documented
    "wallets": (15, 60.0),
    "orders/add": (300, 600.0),
    "orders/status": (300, 60.0),
    "orders/list": (30, 60.0),
    "orders/update-status": (90, 60.0),
    "trades/list": (30, 60.0),
}
"""Requests and seconds by endpoint."""

_RESERVED = {"orders/list": 0.5, "trades/list": 0.5}
# The venue counts arrivals and we count departures: requests may travel up to a second faster than those before.
_SLACK = 1.0
_OFF = ("off", None)


class Limits:
    """
    The limiters of one account at one venue. Thread-safe.

    Args:
        given: None for the table above; "off" for no limits; or a mapping whose keys are endpoints of the table,
            with (limit, seconds) or "off", and "scale", a factor for every limit that is not given.

    Raises:
        ConfigError: An unknown endpoint or an impossible limit.
    """

    def __init__(self, given: object, *, clock: Clock) -> None:
        self._limiters: dict[str, RateLimiter | None] = {}
        settings: Mapping[str, Any] = {}
        if isinstance(given, Mapping):
            settings = given
        elif given is not None and given != "off":
            raise _wrong(given)
        refuse_unknown(settings, [*TABLE, "scale"], where="rate_limits")
        scale = number("rate_limits scale", settings.get("scale", 1.0), above=0)
        for endpoint, (limit, per) in TABLE.items():
            most, window = max(1, int(limit * scale)), per + _SLACK
            if endpoint in settings:
                own = settings[endpoint]
                if own in _OFF:
                    self._limiters[endpoint] = None
                    continue
                if not isinstance(own, Sequence) or isinstance(own, str) or len(own) != 2:
                    raise _wrong(own)
                most = whole(f"rate_limits {endpoint}", own[0], low=1)
                window = number(f"rate_limits {endpoint} seconds", own[1], above=0)
            self._limiters[endpoint] = (
                None
                if given == "off"
                else RateLimiter(
                    name=f"nobitex {endpoint}",
                    limit=most,
                    per=window,
                    reserved=_RESERVED.get(endpoint, 0.0) if most > 1 else 0.0,
                    clock=clock,
                )
            )

    @property
    def parts(self) -> tuple[RateLimiter, ...]:
        """The limiters."""
        return tuple(limiter for limiter in self._limiters.values() if limiter is not None)

    def acquire(self, endpoint: str, *, timeout: float, lane: str) -> Token | None:
        """
        Take room for one request; None where there is no limit.

        Raises:
            RateLimitedError: No room within `timeout` seconds.
        """
        limiter = self._limiters[endpoint]
        return None if limiter is None else limiter.acquire(timeout=timeout, lane=lane)

    def give_back(self, endpoint: str, token: Token | None) -> None:
        """The request did not go out."""
        limiter = self._limiters[endpoint]
        if limiter is not None and token is not None:
            limiter.give_back(token)

    def penalize(self, endpoint: str, seconds: float) -> None:
        """The venue asked for a pause of an endpoint; nothing heeds it where our own limit is off."""
        limiter = self._limiters[endpoint]
        if limiter is not None:
            limiter.penalize(seconds)

    def restore(self, send_ages: Sequence[float]) -> None:
        """After a restart: orders are known by their ages, of everything else half is taken as used."""
        for endpoint, limiter in self._limiters.items():
            if limiter is None:
                continue
            if endpoint == "orders/add":
                limiter.preload(send_ages)
            else:
                limiter.fill(0.5)


def _wrong(value: object) -> ConfigError:
    allowed = '"off", or a mapping of endpoints to (limit, seconds) or "off"'
    return ConfigError(
        f"rate_limits must be {allowed}, got {value!r:.80}", setting="rate_limits", value=value, allowed=allowed
    )
