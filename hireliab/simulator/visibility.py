"""How much later a change shows up in each kind of read."""

from __future__ import annotations

from collections.abc import Mapping

from hireliab.simulator import money
from hireliab.simulator.settings import SettingError

READS = ("status", "clientid", "list", "trades", "wallets")
"""status by id, status by client id, orders/list and open-count, trades/list, all wallet reads."""


class Visibility:
    """
    Seconds of lag per kind of read.

    A read with lag L sees the world as it was L seconds ago. Setting a lag never makes something
    invisible that this read could already see.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self) -> None:
        self._lags = dict.fromkeys(READS, 0.0)
        self._floors = dict.fromkeys(READS, float("-inf"))

    def set(self, lags: Mapping[str, object], now: float) -> None:
        """
        Change some lags from now on.

        Raises:
            SettingError: An unknown kind of read, or a lag that is no number of at least 0.
        """
        checked: dict[str, float] = {}
        for read, value in lags.items():
            seconds = money.parse(str(value) if isinstance(value, float) else value)
            if read not in self._lags or seconds is None or seconds < 0:
                message = f"lag {read}={value!r}; {', '.join(READS)} with seconds are allowed"
                raise SettingError(message)
            checked[read] = float(seconds)
        for read, lag in checked.items():
            self._floors[read] = self.cutoff(read, now)
            self._lags[read] = lag

    def cutoff(self, read: str, now: float) -> float:
        """Changes up to this moment are visible."""
        return max(now - self._lags[read], self._floors[read])

    def lag(self, read: str) -> float:
        """The present lag of one kind of read."""
        return self._lags[read]

    def as_json(self) -> dict[str, float]:
        """All lags."""
        return dict(self._lags)
