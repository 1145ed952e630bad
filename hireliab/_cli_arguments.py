"""The arguments of the commands that must run where no third party is installed; argparse with the near miss."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import NoReturn

USAGE = 2


class Parser(argparse.ArgumentParser):
    """
    An ArgumentParser that answers what it does not know with one line that names the near miss, and exit code 2.

    Args:
        prog: How the command is called.
        description: For ``--help``.
    """

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # a misspelt option is named, not guessed
        )

    def read(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The options of a command without positional arguments; None reads those of the process."""
        given = sys.argv[1:] if arguments is None else list(arguments)
        options, unknown = self.parse_known_args(given)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
            self.error(f"no option {unknown[0]!r:.60}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return options

    def error(self, message: str) -> NoReturn:
        """End with one line on standard error."""
        text = " ".join(message.split())
        see = f" See '{self.prog} --help'" if text.endswith("?") else f"; see '{self.prog} --help'"
        self.exit(USAGE, f"{self.prog}: {text}{see}\n")
