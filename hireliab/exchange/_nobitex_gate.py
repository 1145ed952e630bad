"""
After the first 401: nothing of the account goes out but one probe a minute.

Nobitex blocks an address after 100 requests with bad credentials in 30 minutes (nobitex-api.md 2.4), and with it
the look-ups that would tell what became of open orders.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.core.clock import Clock
from hireliab.errors import CircuitOpenError

PROBE_EVERY = 60.0
"""Seconds between two probes: 30 of them in the 30 minutes in which 100 are forgiven."""

_log = logging.getLogger("hireliab.nobitex")


class AccountGate:
    """
    Open until the venue refuses the credentials; then closed until a probe succeeds. Thread-safe.

    Args:
        breakers: Isolated while it is closed, so that whoever watches them sees why nothing goes out.
    """

    def __init__(self, breakers: Sequence[CircuitBreaker], *, clock: Clock) -> None:
        self._breakers = breakers
        self._clock = clock
        self._lock = threading.Lock()  # guards _closed, _next_probe and _why
        self._closed = False
        self._next_probe = 0.0
        self._why = ""

    @property
    def is_closed(self) -> bool:
        """Whether the credentials were refused and no probe has succeeded since."""
        return self._closed

    def admit(self) -> bool:
        """
        Ask for leave to make a call with credentials.

        Returns:
            Whether this call is the probe of this minute; its maker must tell `accepted`, `refused` or `unused`.

        Raises:
            CircuitOpenError: No leave.
        """
        now = self._clock.monotonic()
        with self._lock:
            if not self._closed:
                return False
            if now >= self._next_probe:
                self._next_probe = now + PROBE_EVERY
                return True
            wait, why = self._next_probe - now, self._why
        raise CircuitOpenError(name="nobitex credentials", state="isolated", retry_after=wait, last_error=why)

    def refused(self, error: Exception) -> None:
        """A call was answered with 401, or the like."""
        now = self._clock.monotonic()
        with self._lock:
            first = not self._closed
            self._closed = True
            self._why = str(error)[:200]
            self._next_probe = now + PROBE_EVERY
        if first:
            for breaker in self._breakers:
                breaker.isolate()
            _log.error(
                "nobitex: credentials refused; no private calls but one probe every %.0f s: %s", PROBE_EVERY, error
            )

    def accepted(self) -> None:
        """The probe was answered as to somebody known."""
        with self._lock:
            opened = self._closed
            self._closed = False
        if opened:
            for breaker in self._breakers:
                breaker.reset()
            _log.warning("nobitex: credentials accepted again; private calls go on")

    def unused(self) -> None:
        """The probe did not go out: the next caller may make it."""
        with self._lock:
            self._next_probe = self._clock.monotonic()
