"""The two-step form of a guarded call: leave first, the outcome when it is known."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from hireliab.core._gate import Gate, Outcome


class _Breaker(Protocol):
    def _settle(self, permit: Permit, outcome: Outcome, error: BaseException | str | None = None) -> None: ...

    def _classify(self, error: BaseException) -> Outcome: ...


class Permit:
    """
    Leave to make one call, and the duty to say how it ended.

    Say it with `success`, `failure` or `ignore`; the first word counts, later ones do nothing. Or put the call
    into ``with permit:``, which applies the breaker's rule to the exception that leaves the block. A permit that is
    forgotten costs nothing while the circuit is closed; half-open it blocks its place for `PROBE_LEASE` seconds or
    `reset_timeout`, whichever is longer, and then counts as a failed probe.
    """

    __slots__ = ("_breaker", "_ended", "_gate", "_lease", "_started")

    def __init__(self, breaker: _Breaker, gate: Gate, lease: int | None, started: float) -> None:
        self._breaker = breaker
        self._gate = gate
        self._lease = lease
        self._started = started  # the clock's reading, if slow calls matter
        self._ended = False

    def success(self) -> None:
        """The other side answered."""
        self._breaker._settle(self, Outcome.SUCCESS)

    def failure(self, error: BaseException | str | None = None) -> None:
        """
        The other side failed.

        Args:
            error: What happened; its text becomes `last_error`.
        """
        self._breaker._settle(self, Outcome.FAILURE, error)

    def ignore(self) -> None:
        """The call says nothing about the other side, or was never made."""
        self._breaker._settle(self, Outcome.IGNORE)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Against None and not by truth: an exception class may define __len__ or __bool__.
        if error is None:
            self._breaker._settle(self, Outcome.SUCCESS)
            return
        try:
            outcome = self._breaker._classify(error)
        except BaseException:
            # Ctrl-C while the user's predicate ran: the probe's place must not stay taken.
            self.ignore()
            raise
        self._breaker._settle(self, outcome, error)
