"""
Draws the last table of the demo, as a real run prints it, into docs/images/demo.svg: ``python docs/_demo_picture.py``.

tests/integration/test_demo.py compares the picture with what the demo prints.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).parent / "images" / "demo.svg"
TITLE = "What the bot believes, and what the exchange's truth file says"
COLUMN, LINE, EDGE = 7.85, 18, 16
"""Pixels: the width of a character at 13 px, the height of a line, the margin."""


def last_table(printed: str) -> list[str]:
    """The lines of the demo's end that are the same in every run."""
    lines = printed.splitlines()
    begin = lines.index(TITLE)
    end = next(i for i in range(begin, len(lines)) if "rows" in lines[i])
    return lines[begin : end + 1]


def draw(lines: list[str]) -> str:
    """The lines as an SVG of one terminal."""
    width = round(max(map(len, lines)) * COLUMN * 1.03 + 2 * EDGE)  # some viewers ignore textLength
    height = len(lines) * LINE + 2 * EDGE
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        "<style>text { font: 13px 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #e6e6e6; white-space: pre }",
        ".yes { fill: #7ee787 }</style>",
        '<rect width="100%" height="100%" rx="6" fill="#161b22"/>',
    ]
    for number, line in enumerate(lines, 1):
        good = line.endswith(" yes") or "rows agree" in line
        length = f' textLength="{len(line) * COLUMN:.1f}"' if line else ""  # columns align, whatever the font
        mark = ' class="yes"' if good else ""
        out.append(
            f'<text x="{EDGE}" y="{EDGE + number * LINE - 5}"{length}{mark} xml:space="preserve">{escape(line)}</text>'
        )
    return "\n".join([*out, "</svg>", ""])


def main() -> int:
    """Run the demo, and draw its end."""
    command = [sys.executable, "-m", "hireliab.examples.high_reliability_demo"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own demo
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(last_table(printed)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
