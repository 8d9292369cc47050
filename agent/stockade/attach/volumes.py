"""Files of this machine that a container could write, through what is mounted in it: its own policy must not be among them.

Compares file systems, not paths: a file is shown when some mount of the container shows a directory of the same file system that it is
below. A mount that hides another is not taken into account, which refuses too much and never too little. Who has the machine's own root, as
most units of systemd, sees its files anyway: there modes and owners say who writes what.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stockade.attach.target import Target
from stockade.types import StockadeError

_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


class Mount(NamedTuple):
    """A line of mountinfo (proc_pid_mountinfo(5)). root: what of its file system is mounted, at point."""

    device: str
    root: str
    point: str
    writable: bool


def refuse_writable(path: Path, target: Target, what: str) -> None:
    """Raises StockadeError when the target could write that file through a mount of its own."""
    if not target.root and _root(mounts(target.init)) == _root(mounts(os.getpid())):
        return
    if (shown := shown_as(path.resolve(), mounts(target.init), mounts(os.getpid()), target.root_inside)) is not None:
        said = f"{what} {path} can be written in {target.called}, as {shown}"
        raise StockadeError(said, hint="keep it outside of its volumes, or mount them read-only", code="writable_source")


def _root(found: Iterator[Mount]) -> tuple[str, str] | None:
    return next(((mount.device, mount.root) for mount in found if mount.point == "/"), None)


def shown_as(path: Path, there: Iterator[Mount], here: Iterator[Mount], root: str = "/") -> str | None:
    """As which path a writable mount shows it below `root`; None when none does."""
    holding = [mount for mount in here if path.is_relative_to(mount.point)]
    if not holding:
        return None
    own = max(reversed(holding), key=lambda mount: len(mount.point))
    within = Path(own.root) / path.relative_to(own.point)
    for mount in there:
        if mount.writable and mount.device == own.device and within.is_relative_to(mount.root) and Path(mount.point).is_relative_to(root):
            return str(Path("/") / Path(mount.point).relative_to(root) / within.relative_to(mount.root))
    return None


def mounts(pid: int) -> Iterator[Mount]:
    """In the order in which they were made. Nothing for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return
    yield from map(_mount, lines)


def _mount(line: str) -> Mount:
    fields = line.split(" ")
    return Mount(fields[2], _plain(fields[3]), _plain(fields[4]), "ro" not in fields[5].split(","))


def _plain(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text
