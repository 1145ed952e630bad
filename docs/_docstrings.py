"""
Docstrings of attributes, constants and properties, as they stand.

Napoleon takes what stands before the first colon of such a docstring for its type ("Seconds: ..."). Ours are sentences.
"""

from __future__ import annotations

from typing import Any

_KINDS = ("attribute", "data", "property")
_BEFORE, _AFTER = 100, 900  # napoleon comes at 500

_kept: dict[str, list[str]] = {}


def _keep(_app: Any, what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    if what in _KINDS:
        _kept[name] = list(lines)


def _restore(_app: Any, _what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    if name in _kept:
        lines[:] = _kept.pop(name)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _keep, priority=_BEFORE)
    app.connect("autodoc-process-docstring", _restore, priority=_AFTER)
