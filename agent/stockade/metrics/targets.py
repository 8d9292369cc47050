"""Where a Prometheus finds the agents of this machine: one small file for each, in the form of its `file_sd_configs`.

A sandbox that ends well takes its file away. One whose agent was killed, or which was killed because what held it was taken away, leaves
it: its target is down, which is an alert. Such a file goes with the next start, once it is an hour old.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Collection
from pathlib import Path

log = logging.getLogger(__name__)

OLD = 3600.0  # seconds


class Target:
    """The file of one agent."""

    def __init__(self, directory: Path, name: str) -> None:
        self._path = directory / f"{name}.json"

    def write(self, address: str, scheme: str) -> None:
        """Raises OSError."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._path.parent.chmod(0o755)
        group = {"targets": [address], "labels": {"__scheme__": scheme, "job": "stockade"}}
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps([group]) + "\n")
        part.chmod(0o644)
        part.replace(self._path)  # Prometheus reads a whole file or none

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()


def sweep(directory: Path, running: Collection[str]) -> None:
    """Remove what agents left that are not there any more."""
    try:
        for path in directory.glob("*.json"):
            if path.stem not in running and time.time() - path.stat().st_mtime > OLD:
                path.unlink(missing_ok=True)
    except OSError as error:
        log.error("metrics: old targets stay in %s: %s", directory, error)
