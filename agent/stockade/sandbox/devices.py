"""Device files that a policy asks for, as far as this machine has them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# What each word of process.devices stands for. A GPU's control and capability nodes belong to it, and what renders without a screen.
FAMILIES = {"nvidia": ("nvidia*", "nvidia-caps/*", "dri/*")}


@dataclass(frozen=True, slots=True)
class Node:
    """A character device under /dev. group: the gid without which it cannot be opened, None when anybody may."""

    path: str
    major: int
    minor: int
    group: int | None


def found(names: Iterable[str], directory: Path = Path("/dev")) -> tuple[Node, ...]:
    """The nodes of these families, by path. None at all is no error: the policy may be for machines with and without."""
    return tuple(
        sorted({node for name in names for pattern in FAMILIES[name] for node in _nodes(directory, pattern)}, key=lambda n: n.path)
    )


def _nodes(directory: Path, pattern: str) -> Iterator[Node]:
    for path in directory.glob(pattern):
        state = path.lstat()
        if stat.S_ISCHR(state.st_mode):
            open_to_all = state.st_mode & 0o006 == 0o006
            group = None if open_to_all or state.st_gid == 0 else state.st_gid
            yield Node(str(path), os.major(state.st_rdev), os.minor(state.st_rdev), group)
