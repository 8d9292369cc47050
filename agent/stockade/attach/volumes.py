"""Files of this machine that a container could write, through what is mounted in it: its own policy must not be among them.

Compares file systems, not paths: a file is shown when some mount of the container shows a directory of the same file system that it is
below. A mount that hides another is not taken into account, and one that is only left by `/..` is, which refuses too much and never too
little. Who has the machine's own root, as most units of systemd, sees its files anyway: there modes and owners say who writes what.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from stockade.attach.mounts import Mount, mounts, named, namespace_of
from stockade.attach.target import Target
from stockade.types import StockadeError


def refuse_writable(path: Path, target: Target, what: str) -> None:
    """Raises StockadeError when somebody in the target could write that file through a mount of theirs, and when nobody can be asked."""
    here, found = mounts(os.getpid()), list(_views(target))
    if not found:
        said = f"nothing runs in {target.called} any more, so nobody can say whether it could write {what} {path}"
        raise StockadeError(said, code="no_process")
    for there in found:
        root = "/"
        if _root(there) == _root(here):
            if not target.root:
                continue
            root = target.root_inside
        if (shown := shown_as(path.resolve(), there, here, root)) is not None:
            said = f"{what} {path} can be written in {target.called}, as {shown}"
            raise StockadeError(said, hint="keep it outside of its volumes, or mount them read-only", code="writable_source")


def _views(target: Target) -> Iterable[tuple[Mount, ...]]:
    """The mounts of each mount namespace that somebody in the cgroup is in."""
    seen: set[int] = set()
    for pid in target.cgroup.processes():
        namespace = namespace_of(pid)
        if namespace is not None and namespace not in seen and (found := mounts(pid)):
            seen.add(namespace)
            yield found


def _root(found: tuple[Mount, ...]) -> tuple[str, str] | None:
    return next(((mount.device, mount.root) for mount in named(found) if mount.point == "/"), None)


def shown_as(path: Path, there: Iterable[Mount], here: Iterable[Mount], root: str = "/") -> str | None:
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
