"""Names that are imported at their first use (PEP 562), so that `import hireliab` costs two milliseconds."""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False  # not typing's: it would be imported for this line alone
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """
    Make a package's ``__getattr__``, ``__dir__`` and ``__all__``.

    Args:
        package: The package's ``__name__``.
        homes: For each public name, the module that defines it, relative to the package.

    Returns:
        The three, in this order. A name is stored in the package at its first use, so that it is looked up once;
        two threads that use it first at the same time store the same object.
    """

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home}"), name)
        setattr(sys.modules[package], name, value)
        return value

    names = sorted(homes)
    return get, lambda: sorted({*names, *vars(sys.modules[package])}), names
