"""`python -m hal0.cli`: hal0ctl without an installed command."""

import sys

from hal0.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
