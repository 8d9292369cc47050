"""What a trail holds, over all its files, and one who writes it and is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stockade.audit.parts import files


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for _, file in files(path) for line in file]


def records(path: Path) -> list[dict[str, Any]]:
    return [line for line in lines(path) if "checkpoint" not in line]


def in_child(work: Callable[[], None]) -> int:
    """Run work in a forked child that is killed, never cleaned up, when it returns. Returns its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return os.waitpid(child, 0)[1]
