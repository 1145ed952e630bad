"""``python -m hireliab`` is the command line ``hireliab``."""

import sys

from hireliab.cli import main

if __name__ == "__main__":
    sys.exit(main())
