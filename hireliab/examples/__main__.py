"""``python -m hireliab.examples``: lists the examples, or runs the one that is named."""

from __future__ import annotations

import difflib
import re
import runpy
import sys
from collections.abc import Sequence

import hireliab.examples


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code: 0, or 2 for a name that is none."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    known = dict(re.findall(r"^(\w+)  +(\S.*)$", hireliab.examples.__doc__ or "", re.MULTILINE))
    if not given or given[0] in ("-h", "--help"):
        width = max(map(len, known))
        print("Each runs offline, and ends by itself: python -m hireliab.examples.<name>\n")
        for name, line in known.items():
            print(f"{name:<{width}}  {line}")
        return 0
    name = given[0]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "python -m hireliab.examples lists them"
        print(f"examples: there is no example {name!r}; {hint}", file=sys.stderr)
        return 2
    sys.argv = [name, *given[1:]]
    runpy.run_module(f"hireliab.examples.{name}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
