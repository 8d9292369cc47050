"""`python -m stockade`: the command by another name, for an agent that starts others of its own build."""

import sys

from stockade.cli import main

sys.exit(main())
