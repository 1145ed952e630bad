"""The code blocks of the documents, to be run as the user would run them: one after the other, in one module."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def blocks(page):
    """Every ``code-block:: python`` of a page (a path from the project's folder), each with its line."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in re.finditer(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text):
        yield text[: match.start(1)].count("\n"), textwrap.dedent(match[1])


def settings(page):
    """The first two columns of a page's table of settings: name and default, as texts."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text.split("\nSettings\n----", 1)[1].split("\n=====", 3)[2]
    return {name: default.strip("`") for name, default in re.findall(r"^``(\w+)``  +(\S.*?)  ", table, re.MULTILINE)}


def run(page, space, *, replace=(), only=None):
    """
    Run the page's blocks in the mapping `space`, and return it.

    Args:
        page: Path from the project's folder.
        space: The names that the blocks find; what they define is added.
        replace: Pairs of texts: what a user fills in, and what stands in its place here. Each must occur.
        only: Numbers of the blocks to run, from 0; left out, all.
    """
    found = list(blocks(page))
    assert found, f"{page} has no code block"
    for old, _new in replace:
        assert any(old in source for _line, source in found), f"{page}: {old!r} is in no code block"
    space.setdefault("__name__", "a_users_bot")
    for number, (line, source) in enumerate(found):
        if only is None or number in only:
            filled_in = source
            for old, new in replace:
                filled_in = filled_in.replace(old, new)
            exec(compile("\n" * line + filled_in, page, "exec"), space)
    return space
