"""Where the names of a policy are looked up: under the machine's own root, or under that of a container that somebody else made.

A container's files are the container's to arrange: a symbolic link in it leads wherever its owner likes. So each step is taken by the
kernel with that directory as the root (openat2(2), RESOLVE_IN_ROOT), and no path of a container is ever opened under the machine's.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from pathlib import Path
from typing import Protocol

from stockade.sandbox import libc

_LONGEST = 4096  # entries of one directory that a glob looks at: a container may have made any number


class Root(Protocol):
    def open(self, path: str, flags: int) -> int:
        """A descriptor. Raises OSError."""

    def real(self, path: str, descriptor: int) -> str:
        """How the file is called without symbolic links. descriptor: of the file, opened."""

    def matching(self, pattern: str) -> list[str]:
        """Paths that exist for an absolute path or glob, sorted."""


class Host:
    """The machine's own."""

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags)

    def real(self, path: str, descriptor: int) -> str:
        return os.path.realpath(path)

    def matching(self, pattern: str) -> list[str]:
        if not glob.has_magic(pattern):
            return [pattern] if os.path.lexists(pattern) else []
        return sorted(str(path) for path in Path("/").glob(pattern.lstrip("/")))


class Foreign:
    """directory: a descriptor of it, the caller's."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._name = _named(directory).rstrip("/")

    def open(self, path: str, flags: int) -> int:
        return libc.open_in_root(self._directory, path, flags)

    def real(self, path: str, descriptor: int) -> str:
        found = _named(descriptor)
        return found.removeprefix(self._name) if found.startswith(f"{self._name}/") else found

    def matching(self, pattern: str) -> list[str]:
        found = [""]
        for step in pattern.strip("/").split("/"):
            found = [f"{place}/{name}" for place in found for name in self._names(place, step)]
        return sorted(found)

    def _names(self, place: str, step: str) -> list[str]:
        if not glob.has_magic(step):
            return [step] if self._is_there(f"{place}/{step}") else []
        try:
            directory = self.open(place or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            names = os.listdir(directory)[:_LONGEST]  # noqa: PTH208 (of a descriptor)
        finally:
            os.close(directory)
        return [name for name in fnmatch.filter(names, step) if not name.startswith(".") or step.startswith(".")]

    def _is_there(self, path: str) -> bool:
        try:
            os.close(self.open(path, os.O_PATH | os.O_CLOEXEC))
        except OSError:
            return False
        return True


def _named(descriptor: int) -> str:
    """As the kernel spells it from the root of its mount namespace (d_path)."""
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 (a text: it may lead nowhere here)
