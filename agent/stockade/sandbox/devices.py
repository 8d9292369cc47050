"""Device files that a policy asks for, as far as this machine has them, and the libraries of their drivers."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# What each word of process.devices stands for. A GPU's control and capability nodes belong to it, and what renders without a screen.
FAMILIES = {"nvidia": ("nvidia*", "nvidia-caps/*", "dri/*")}

# And which libraries speak to them: those that the driver brings, which have its very version. What is built on them, as cuDNN, comes
# with the programs that use it, or below /usr.
LIBRARIES = {
    "nvidia": (
        *("libcuda.so*", "libcudadebugger.so*", "libnvidia-*.so*", "libnvcuvid.so*", "libnvoptix.so*", "libnvrtc*.so*"),
        *("libGLX_nvidia.so*", "libEGL_nvidia.so*", "libGLESv?_*nvidia.so*", "libvdpau_nvidia.so*"),
    )
}
_CACHED = re.compile(r"^\t(\S+) \(.*\) => (/\S+)$", re.MULTILINE)


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


def libraries(names: Iterable[str]) -> tuple[str, ...]:
    """Where ldconfig's cache has the libraries of these families: what a program finds that asks for one by its name.

    Those that the distribution installs are below /usr, which every sandbox sees; an installer of its maker, or a container's toolkit, may
    have put them anywhere. None at all is no error either.
    """
    patterns = tuple(pattern for name in names for pattern in LIBRARIES[name])
    if not patterns:
        return ()
    try:
        said = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, errors="replace", check=False, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = {path for name, path in _CACHED.findall(said) if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}
    return tuple(sorted(path for path in found if Path(path).is_file()))


def _nodes(directory: Path, pattern: str) -> Iterator[Node]:
    for path in directory.glob(pattern):
        state = path.lstat()
        if stat.S_ISCHR(state.st_mode):
            open_to_all = state.st_mode & 0o006 == 0o006
            group = None if open_to_all or state.st_gid == 0 else state.st_gid
            yield Node(str(path), os.major(state.st_rdev), os.minor(state.st_rdev), group)
