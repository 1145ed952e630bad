"""Sphinx settings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from hireliab import __version__

project = "hireliab"
author = "The hireliab developers"
version = release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser", "_diagrams", "_docstrings"]
html_theme = "furo"
html_title = f"hireliab {__version__}"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# Types are in the signatures' own language, Python; the sections of a docstring say what they mean.
napoleon_attr_annotations = False
napoleon_use_ivar = True
napoleon_use_rtype = False
nitpicky = True
nitpick_ignore = [
    ("py:class", "hireliab.core._gate.CircuitState"),  # the base of a value type, in a private module
    ("py:class", "collections.abc.Mapping"),  # Python's own
    ("py:class", "collections.abc.Sequence"),
    ("py:class", "collections.abc.Callable"),
    ("py:exc", "requests.exceptions.JSONDecodeError"),  # another project's
    ("py:exc", "requests.RequestException"),
]
