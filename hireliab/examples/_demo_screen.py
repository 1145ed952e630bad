"""How the demo speaks: steps, facts and alerts as plain text of at most 100 columns."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterable
from decimal import Decimal

from hireliab.monitoring.alert import Alert

WIDTH = 100
_NAME = 14


class Screen:
    """Prints whole blocks, so that an alert of another thread never splits a line."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the terminal; only `print` runs under it
        self._steps = 0

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines as they are."""
        text = "\n".join(lines)
        with self._lock:
            print(text, flush=True)

    def title(self, title: str, text: str) -> None:
        """What comes before the first step."""
        self.lines([title, "=" * len(title), *textwrap.wrap(text, WIDTH)])

    def step(self, title: str, why: str) -> None:
        """Begin a step: its number, and one sentence of what it shows and why that matters."""
        self._steps += 1
        self.lines(
            ["", f"{self._steps}. {title}", *textwrap.wrap(why, WIDTH, initial_indent="   ", subsequent_indent="   ")]
        )

    def fact(self, name: str, text: str) -> None:
        """One thing that happened, with its figures."""
        self.lines(_hung(f"     {name:<{_NAME}}", text))

    def alert(self, alert: Alert) -> None:
        """A channel of the alert system: the console, in this demo's width."""
        self.lines(
            _hung(f"     {'! ' + alert.level.name:<{_NAME}}", f"[{alert.source}] {alert.title}: {alert.message}")
        )


def _hung(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def figure(number: Decimal, unit: str) -> str:
    """A number with its unit, thousands apart, as exact as it is."""
    return f"{number:,f} {unit}"


def seconds(duration: float) -> str:
    """A duration for people: "12.3 ms" or "1.42 s"."""
    return f"{duration * 1000:.1f} ms" if duration < 1.0 else f"{duration:.2f} s"
