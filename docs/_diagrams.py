"""
Pictures of the code's own tables, as SVG. Each is made when the documents are built, so none can be out of date.

No clock, no random number and no outside tool: the same tables give the same text. Colours follow the page's, by
``currentColor``.
"""

from __future__ import annotations

import ast
import html
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WIDTH = 760
GUTTER = 52  # for the name of a row
HEAD = 46
LINE = 14
FONT = 'font-family="ui-monospace, Menlo, Consolas, monospace"'


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a picture: where it begins, where it leads, and what it says."""

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    text: str
    is_bold: bool = False


def lanes(title: str, columns: Sequence[str], rows: Iterable[Row], bands: Sequence[str] = ()) -> str:
    """
    A picture of columns with names at the top, and rows of arrows between them.

    Args:
        title: For those who cannot see it.
        columns: Their names; an underscore may break a long one.
        rows: A source is a dot, a target an arrow head, one that is both a ring; bold rows have a thick line.
        bands: For each column a word that is shown above its name, once for neighbours that share it.
    """
    step = (WIDTH - GUTTER) / len(columns)
    centre = {name: GUTTER + step * (place + 0.5) for place, name in enumerate(columns)}
    parts = list(_bands(bands, step))
    for name, x in centre.items():
        for place, word in enumerate(_broken(name, int(step / 6.2))):
            parts.append(_text(x, 28 + 11 * place, word, size=9, anchor="middle", weight="bold"))
    y = float(HEAD)
    body = []
    for row in rows:
        lines = textwrap.wrap(row.text, (WIDTH - GUTTER) // 7) or [""]
        body.append(_text(0, y + 9 + LINE * len(lines), row.name, size=11, weight="bold" if row.is_bold else "normal"))
        for place, line in enumerate(lines):
            body.append(_text(GUTTER, y + 9 + LINE * place, line, size=11, opacity=0.75))
        y += LINE * len(lines)
        body.extend(_arrow(row, centre, y + 6))
        y += 18
    parts.extend(
        f'<path d="M{x:.1f} {HEAD}V{y:.0f}" stroke="currentColor" stroke-opacity="0.18"/>' for x in centre.values()
    )
    return _svg(title, y + 4, [*parts, *body])


def _arrow(row: Row, centre: dict[str, float], y: float) -> Iterator[str]:
    ends = [centre[name] for name in (*row.sources, *row.targets)]
    width = 2.4 if row.is_bold else 1.1
    if min(ends) < max(ends):
        yield (
            f'<path d="M{min(ends):.1f} {y:.0f}H{max(ends):.1f}" stroke="currentColor" stroke-width="{width}" fill="none"/>'
        )
    for name in dict.fromkeys((*row.sources, *row.targets)):
        x = centre[name]
        if name in row.sources and name in row.targets:
            yield f'<circle cx="{x:.1f}" cy="{y:.0f}" r="5.5" fill="none" stroke="currentColor" stroke-width="{width}"/>'
        if name in row.sources:
            yield f'<circle cx="{x:.1f}" cy="{y:.0f}" r="2.6" fill="currentColor"/>'
        else:  # the head points away from where most of the sources are
            side = 1 if sum(centre[source] for source in row.sources) <= x * len(row.sources) else -1
            yield f'<path d="M{x:.1f} {y:.0f}l{-9 * side} -5v10z" fill="currentColor"/>'


def _bands(bands: Sequence[str], step: float) -> Iterator[str]:
    first = 0
    for place, word in enumerate(bands):
        if place + 1 == len(bands) or bands[place + 1] != word:
            x, width = GUTTER + step * first, step * (place + 1 - first)
            yield (
                f'<rect x="{x + 1.5:.1f}" y="0" width="{width - 3:.1f}" height="{HEAD - 2}" rx="4"'
                ' fill="currentColor" fill-opacity="0.07"/>'
            )
            yield _text(x + width / 2, 12, word, size=10, anchor="middle", opacity=0.75)
            first = place + 1


def _broken(name: str, most: int) -> list[str]:
    words = [word for word in name.split("_") if word]
    return ["_".join(words)] if len("_".join(words)) <= most else words


def _text(
    x: float, y: float, text: str, *, size: int, anchor: str = "start", weight: str = "normal", opacity: float = 1.0
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="currentColor" fill-opacity="{opacity}" {FONT}>{html.escape(text)}</text>'
    )


def _svg(title: str, height: float, parts: Iterable[str]) -> str:
    name = html.escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="100%" role="img"'
        f' aria-label="{name}"><title>{name}</title>\n' + "\n".join(parts) + "\n</svg>\n"
    )


# -- the pictures -------------------------------------------------------------------------------------------------


def transaction_states() -> str:
    """The table of transitions in hireliab/exchange/_transaction_states.py."""
    from hireliab.exchange.transaction import PHASES, TRANSITIONS, State

    rows = [
        Row(
            row.id,
            tuple(state.value for state in row.sources),
            tuple(state.value for state in row.targets),
            row.guard + (f"  [{row.event}]" if row.event else ""),
            row.barrier,
        )
        for row in TRANSITIONS
    ]
    bands = [PHASES[state][0].value for state in State]
    return lanes("The states of a transaction and the transitions between them", [s.value for s in State], rows, bands)


def places(package: Path | None = None) -> dict[str, list[str]]:
    """For each label of hireliab/core/_kill_points.py the modules whose code passes it, found in their text."""
    found: dict[str, list[str]] = {}
    folder = package or ROOT / "hireliab"
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "_kill_points.at(" in text else ():
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "at"
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "_kill_points"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                modules = found.setdefault(str(node.args[0].value), [])
                if path.stem not in modules:
                    modules.append(path.stem)
    return found


BEGINNINGS = ("L01", "L19", "L22", "L26", "L27")
"""Labels that follow upon nothing: an order, a restart, a cancel, a checkpoint, a migration."""


def way_of_an_order() -> str:
    """The labels of the crash campaign, in their order, each in the module whose code passes it."""
    from hireliab.core._kill_points import LABELS

    where = places()
    columns = list(dict.fromkeys(name for label in LABELS for name in where[label]))
    rows = []
    before: tuple[str, ...] = ()
    for label, text in LABELS.items():
        here = tuple(where[label])
        rows.append(Row(label, here if label in BEGINNINGS else before[:1], here, text, label in BEGINNINGS))
        before = here
    return lanes("The way of an order through the modules", columns, rows)


def parts() -> str:
    """The ranks of tests/test_layers.py: what stands lower is imported by what stands higher, never the reverse."""
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    (ranks,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROWS"
    ]
    shapes: list[str] = []
    y = 0.0
    for rank, modules in reversed(list(enumerate(ranks))):
        boxes = []
        x, top = 84.0, y + 8
        for module in modules:
            _folder, _, name = module.rpartition(".")
            width = 7.0 * len(name) + 14
            if x + width > WIDTH:
                x, top = 84.0, top + 26
            boxes.append(
                f'<rect x="{x:.0f}" y="{top:.0f}" width="{width:.0f}" height="20" rx="4" fill="none" stroke="currentColor"'
                ' stroke-opacity="0.5"/>'
            )
            boxes.append(_text(x + width / 2, top + 14, name, size=11, anchor="middle"))
            x += width + 6
        whose = ", ".join(dict.fromkeys(module.rpartition(".")[0] for module in modules if "." in module)) or "-"
        shapes.append(
            f'<rect x="0" y="{y:.0f}" width="{WIDTH}" height="{top + 28 - y:.0f}" rx="4" fill="currentColor"'
            f' fill-opacity="{0.04 if rank % 2 else 0.09}"/>'
        )
        shapes.extend(boxes)
        shapes.append(_text(6, y + 22, "" if whose == "-" else whose, size=10, weight="bold"))
        y = top + 34
    return _svg("The modules by rank", y, shapes)


PICTURES = {"transaction-states": transaction_states, "way-of-an-order": way_of_an_order, "parts": parts}


def setup(app: Any) -> None:
    """Add ``.. picture:: NAME`` to Sphinx; it draws one of `PICTURES`, and an unknown name stops the build."""
    from docutils import nodes
    from docutils.parsers.rst import Directive

    class Picture(Directive):
        required_arguments = 1

        def run(self) -> list[nodes.Node]:
            return [nodes.raw("", PICTURES[self.arguments[0]](), format="html")]

    app.add_directive("picture", Picture)
