"""The layers of a container's root: what its image brought, and what it has written since, which no policy can mean.

On an overlay the upper layer is the container's own to write: a file in it is not enrolled, whatever it is called. Another root file system
does not tell: there a file is enrolled as it is found.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from stockade.sandbox.root import Foreign
from stockade.types import StockadeError

_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


class Layered(Foreign):
    """upper: where the container writes, on this machine; None for a root without such a layer. written: what was asked for there."""

    def __init__(self, directory: int, upper: Path | None) -> None:
        super().__init__(directory)
        self._upper = upper
        self.written: set[str] = set()

    def open(self, path: str, flags: int) -> int:
        """Raises PermissionError for a file that the container has written."""
        descriptor = super().open(path, flags)
        real = self.real(path, descriptor)
        if self._upper is None or flags & (os.O_PATH | os.O_DIRECTORY) or not os.path.lexists(f"{self._upper}{real}"):
            return descriptor
        os.close(descriptor)
        self.written.add(real)
        raise PermissionError(errno.EPERM, "written by the container", path)


def upper(pid: int, root: str) -> Path | None:
    """Of the overlay that is mounted as `root` in the mount namespace of this process; None when no overlay is, or it has no such layer.

    Raises StockadeError when it has one that is not to be seen from here: nobody could say what the container has written.
    """
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in reversed(lines):  # the last one on a mount point is the one that shows
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if _plain(left.split(" ")[4]) == root:
            named = [option.partition("=")[2] for option in options.split(",") if option.startswith("upperdir=")]
            return _seen(Path(_plain(named[0]))) if kind == "overlay" and named else None
    return None


def _seen(path: Path) -> Path:
    if not path.is_absolute() or not path.is_dir():
        said = f"the container's own layer is {path}, which is not to be seen from here"
        raise StockadeError(said, hint="attach in the mount namespace of its runtime", code="layers")
    return path


def _plain(text: str) -> str:
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return text
