"""`python -m jupyter_portproxy`: the commands, where `jupyter` is not on the PATH."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
