"""How many times longer than on a machine of its own a test waits for what must come: an emulated guest sets STOCKADE_PATIENCE."""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("STOCKADE_PATIENCE", "1"))
