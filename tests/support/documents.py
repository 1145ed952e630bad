"""The code blocks of the documents, to be run as the user would run them: one after the other, in one module."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def pages():
    """Every document that has code blocks, as paths from the project's folder."""
    found = [ROOT / "README.rst", ROOT / "CHANGELOG.rst", ROOT / "benchmarks" / "README.rst"]
    found += [
        path for path in (ROOT / "docs").rglob("*") if path.suffix in (".rst", ".md") and "_build" not in path.parts
    ]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def all_blocks(page):
    """Every literal block of a page: (line, language or "", source). The language of a bare ``::`` is ""."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if page.endswith(".md"):
            fence = re.match(r"( *)(```+|~~~+|:::+)\s*(?:\{([\w-]+)\})?\s*([\w-]*)", line)
            if fence:
                end = number
                while end < len(lines) and lines[end].strip() != fence[2]:
                    end += 1
                if fence[3] in (None, "code", "code-block"):  # any other directive shows no code
                    yield number, fence[4], textwrap.dedent("\n".join(lines[number:end]) + "\n")
                number = end + 1
            continue
        named = re.match(r" *\.\. (?:code-block|code|sourcecode)::\s*(\S*)", line)
        if not (
            named
            or (line.endswith("::") and not re.match(r" *\.\.( |$)", line))
            or re.match(r" *\.\. parsed-literal", line)
        ):
            continue
        indent = len(line) - len(line.lstrip())
        end = number
        while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent):
            end += 1
        body = [text for text in lines[number:end] if not re.match(r" +:[\w-]+:", text)]
        yield number, named[1] if named else "", textwrap.dedent("\n".join(body)).strip("\n") + "\n"
        number = end


def blocks(page):
    """Every ``code-block:: python`` of a page (a path from the project's folder), each with its line."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".md"):
        pattern = r"^```\{?(?:code-block\} *)?python\n((?:.*\n)*?)```$"
    else:
        pattern = r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)"
    for match in re.finditer(pattern, text, re.MULTILINE):
        yield text[: match.start(1)].count("\n"), textwrap.dedent(match[1])


def settings(page, title="Settings"):
    """The first two columns of the table under that title: name and default, as texts."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text.split(f"\n{title}\n----", 1)[1].split("\n=====", 3)[2]
    return {name: default.strip("`") for name, default in re.findall(r"^``(\w+)``  +(\S.*?)  ", table, re.MULTILINE)}


def first_column(page, title, mark="-"):
    """The first cells of the rows of the table under that title, as they stand."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text.split(f"\n{title}\n{mark * len(title)}\n", 1)[1]
    rule = re.search(r"^=+(?= )", table, re.MULTILINE)[0]
    rows = re.split(r"^=+ .*\n", table, maxsplit=3, flags=re.MULTILINE)[2]
    return [line[: len(rule)].strip() for line in rows.splitlines() if line[: len(rule)].strip()]


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
