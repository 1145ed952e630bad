"""
One progress bar on standard error, or plain lines; nothing is drawn while a round runs.

There is no thread that refreshes: the bar is drawn when a benchmark says what it does next, and between two rounds.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

PAUSE = 0.5
"""Seconds between two drawings at least."""


class Progress(Protocol):
    """What benchmarks tell, and the command line."""

    def begin(self, name: str) -> None:
        """The next benchmark starts."""

    def step(self, text: str) -> None:
        """What is being done now."""

    def between_rounds(self, done: int, rounds: int) -> None:
        """So many are over: of `rounds`, and one to warm up."""

    def end(self) -> None:
        """Clear the line, so that a report can be printed; idempotent."""


class Lines:
    """
    A line for each step; for pipes, logs, and where rich is missing.

    Args:
        names: The benchmarks that will run; they are counted when there are several.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._names, self._at = list(names), 0

    def begin(self, name: str) -> None:
        """Count it."""
        self._at = self._names.index(name) + 1

    def step(self, text: str) -> None:
        """Print it."""
        where = f"[{self._at}/{len(self._names)}] " if len(self._names) > 1 else ""
        print(f"benchmarks: {where}{text}", file=sys.stderr, flush=True)

    def between_rounds(self, done: int, rounds: int) -> None:
        """Nothing: a line for each round would be noise."""

    def end(self) -> None:
        """Nothing to clear."""


class Bar:
    """
    One bar over all benchmarks, by time: what they take as a rule.

    Args:
        seconds: Of each benchmark that will run, in order; a guess, nothing depends on it.
        console: Rich's; None: one on standard error.
    """

    def __init__(self, seconds: Mapping[str, float], console: Any = None) -> None:
        from rich import console as consoles  # noqa: PLC0415 - an extra
        from rich import progress as rich  # noqa: PLC0415

        self._seconds = dict(seconds)
        self._done: list[str] = []
        self._now, self._began, self._drawn = "", 0.0, 0.0
        self._text, self._rounds = "", ""
        columns = (
            rich.TextColumn("{task.fields[place]}"),
            rich.BarColumn(bar_width=24),
            rich.TaskProgressColumn(),
            rich.TimeElapsedColumn(),
            rich.TextColumn("{task.description}", markup=False),
        )
        self._bar = rich.Progress(
            *columns,
            console=console or consoles.Console(stderr=True),
            auto_refresh=False,  # a thread that draws would take time from whoever is measured
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=sum(self._seconds.values()), place="")

    def begin(self, name: str) -> None:
        """The bar moves by whole benchmarks, and within one by the clock."""
        if self._now:
            self._done.append(self._now)
        self._now, self._began = name, time.monotonic()
        self.step(name)

    def step(self, text: str) -> None:
        """Draw it."""
        self._text, self._rounds = text, ""
        self._bar.start()
        self._draw()

    def between_rounds(self, done: int, rounds: int) -> None:
        """Draw, but not too often."""
        self._rounds = f", {done} of {rounds + 1} rounds" if done else ""
        if time.monotonic() - self._drawn >= PAUSE:
            self._draw()

    def end(self) -> None:
        """Take it off the screen."""
        self._bar.stop()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        wanted = self._seconds.get(self._now, 0.0)
        part = min(self._drawn - self._began, 0.95 * wanted)
        self._bar.update(
            self._task,
            completed=sum(self._seconds[name] for name in self._done) + part,
            description=f"{self._text}{self._rounds}"[:100],
            place=f"{len(self._done) + 1}/{len(self._seconds)}",
        )
        self._bar.refresh()


current: Progress = Lines()


@contextlib.contextmanager
def shown(seconds: Mapping[str, float]) -> Iterator[Progress]:
    """
    Show the progress of these benchmarks for a block: a bar where a person looks and rich is there, else lines.

    Args:
        seconds: As for `Bar`.
    """
    global current
    before = current
    progress: Progress = Lines(list(seconds))
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            progress = Bar(seconds)
    current = progress
    try:
        yield progress
    finally:
        progress.end()
        current = before
