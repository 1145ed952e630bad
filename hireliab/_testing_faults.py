"""Which fault comes next: planned ones first, then those that a seed draws. Pure; guarded by its owner's lock."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping

from hireliab.core import config as checks
from hireliab.errors import ConfigError

AT_PUBLISH = ("drop", "drop_confirm", "duplicate", "reorder", "delay", "disconnect", "nack", "return")
AT_DELIVERY = ("drop_ack",)


class FaultPlan:
    """
    The faults of one `FaultyBus`.

    Args:
        seed: Two plans of one seed draw the same.
        rates: The probability of each fault; those at publishing exclude each other, so their sum is at most 1.
    """

    def __init__(self, seed: object, rates: Mapping[str, float] | None) -> None:
        self._seed = seed
        self._publishing = self.source("publish")
        self._planned: dict[tuple[str, ...], deque[str]] = {AT_PUBLISH: deque(), AT_DELIVERY: deque()}
        self.rates = _checked(rates or {})
        self.injected: Counter[str] = Counter()

    def source(self, what: str) -> random.Random:
        """Random numbers of one purpose: those of another do not shift them."""
        return random.Random(f"{self._seed}/{what}")

    def plan(self, fault: str, count: int) -> None:
        """The next `count` publishes or deliveries, behind those planned before."""
        checks.choice("fault", fault, (*AT_PUBLISH, *AT_DELIVERY))
        checks.whole("count", count, low=1, high=1_000_000)
        self._planned[AT_PUBLISH if fault in AT_PUBLISH else AT_DELIVERY].extend([fault] * count)

    def clear(self) -> None:
        """No further faults."""
        self.rates = {}
        for planned in self._planned.values():
            planned.clear()

    def at_publish(self) -> str | None:
        """The fault of this publish."""
        return self._draw(AT_PUBLISH, self._publishing)

    def at_delivery(self, source: random.Random) -> str | None:
        """The fault of this delivery; `source` is its subscription's own."""
        return self._draw(AT_DELIVERY, source)

    def _draw(self, faults: tuple[str, ...], source: random.Random) -> str | None:
        drawn = source.random()  # drawn also where a planned fault wins: what is planned shifts nothing
        if self._planned[faults]:
            return self._planned[faults].popleft()
        for fault in faults:
            drawn -= self.rates.get(fault, 0.0)
            if drawn < 0:
                return fault
        return None


def _checked(rates: Mapping[str, float]) -> dict[str, float]:
    checks.refuse_unknown(rates, (*AT_PUBLISH, *AT_DELIVERY), where="faulty bus")
    # Nine lost acknowledgements of ten: with all of them lost a message would come again for ever.
    found = {
        name: checks.number(name, rate, low=0, high=1 if name in AT_PUBLISH else 0.9) for name, rate in rates.items()
    }
    total = sum(rate for name, rate in found.items() if name in AT_PUBLISH)
    if total > 1.000001:
        raise ConfigError(
            f"rates: the faults at publishing exclude each other, and their sum is {total:g}; write at most 1",
            setting="rates",
            allowed="a sum of at most 1",
        )
    return found
