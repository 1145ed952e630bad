"""Sphinx settings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from hireliab import __version__

project = "hireliab"
author = "The hireliab developers"
version = release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
html_theme = "furo"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
nitpicky = True
nitpick_ignore = [
    ("py:class", "hireliab.core._gate.CircuitState"),  # the base of a value type, in a private module
    ("py:exc", "requests.RequestException"),  # another project's
]
