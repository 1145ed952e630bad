"""What every example shares: a simulated exchange for as long as it runs, aligned tables, one way to end."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hireliab.errors import HireliabError
from hireliab.examples._demo_venue import Venue


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="hireliab-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextlib.contextmanager
def exchange(*options: str) -> Iterator[Venue]:
    """
    ``python -m hireliab.simulator`` with these options, in a process of its own.

    Its truth file and whatever the example puts beside it (``venue.folder``) are removed at the end.
    """
    with folder() as here, Venue(here, *options) as venue:
        yield venue


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Print rows under their heads; `right` are the columns with numbers."""
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(heads), *lines]) for i in range(len(heads))]
    for line in [list(heads), ["-" * width for width in widths], *lines]:
        cells = (
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


def run(example: Callable[[], int | None]) -> int:
    """
    Run an example as a program: no traceback for what the machine refuses.

    Returns:
        The exit code. Its own, or 0: it ran. 1: the machine refused something, and one line on standard error says what.
        130: Ctrl-C. Processes are ended and files removed in each case.
    """
    # A proxy that the environment names must not see calls of loopback.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))
    # What the library logs is about the very faults that the example shows in its own words.
    logging.getLogger("hireliab").addHandler(logging.NullHandler())
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A console that knows no "µ" shows a question mark and goes on.
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a terminated example cleans up as well
    try:
        code = example() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nInterrupted; processes ended, files removed.")
        return 130
    except BrokenPipeError:  # its reader is gone, such as `head`; nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, HireliabError) as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 1
    return code
