"""The layers of a container's root: what its image brought, and what it has written since, which no policy can mean.

Of an overlay: what is in its upper layer, and what is on another mount where the container may write, is the container's own, and is not
enrolled, whatever it is called. Another root file system does not tell: there a file is enrolled as it is found. A path is asked about in
two places, one after the other, so nobody in the container may run meanwhile: see `still`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from stockade.attach.mounts import Mount, mount_of, mounts, named
from stockade.sandbox import libc
from stockade.sandbox.root import Foreign
from stockade.types import StockadeError


class Layered(Foreign):
    """upper: a descriptor of where the container writes, the caller's; None for an overlay without such a layer.

    there: what is mounted in the container. written: what was asked for and is its own.
    """

    def __init__(self, directory: int, upper: int | None, there: tuple[Mount, ...]) -> None:
        super().__init__(directory)
        self._upper, self._mount = upper, mount_of(directory)
        self._there = {mount.id: mount for mount in there}
        self.written: set[str] = set()

    def open(self, path: str, flags: int) -> int:
        """Raises PermissionError for a file that the container has written, or could have."""
        descriptor = super().open(path, flags)
        if flags & (os.O_PATH | os.O_DIRECTORY):
            return descriptor
        try:
            real = self.real(path, descriptor)
            if not self._is_its_own(real, mount_of(descriptor)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        self.written.add(real)
        raise PermissionError(errno.EPERM, "written by the container", path)

    def _is_its_own(self, real: str, mount: int) -> bool:
        if mount != self._mount:
            return self._could_write(real, self._there.get(mount))
        if self._upper is None:
            return False
        try:
            os.close(libc.open_beneath(self._upper, real.lstrip("/"), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC))
        except FileNotFoundError:
            return False
        except OSError:  # a link on the way, or a file where a directory is: nothing that the kernel opened above
            return True
        return True

    def _could_write(self, real: str, mount: Mount | None) -> bool:
        """Through that mount, or another that shows the same file."""
        if mount is None or self._mount not in self._there:  # it came or went just now
            return True
        try:
            within = Path(mount.root) / Path(f"{self._there[self._mount].point.rstrip('/')}{real}").relative_to(mount.point)
        except ValueError:
            return True
        return any(each.writable and each.device == mount.device and within.is_relative_to(each.root) for each in self._there.values())


@contextlib.contextmanager
def layered(directory: int, pid: int, root: str, runtime: Path = Path("/"), *, arriving: bool = False) -> Iterator[Foreign]:
    """A root to look names up in. directory: of it, the caller's. root: the same as the mount namespace of this process calls it.
    runtime: the root that its runtime sees, by which layers are named. arriving: that process is its runtime's still, and stands where the
    root before may not be taken away yet: the container will not have it.

    Raises StockadeError when it has a layer of its own that is not to be seen from here: nobody could say what the container has written.
    """
    there = mounts(pid)
    if arriving:
        there = named(there)
    # the last one on a mount point is the one that shows
    own = next((mount for mount in reversed(named(there)) if mount.point == root), None)
    if own is None or own.kind != "overlay":
        yield Foreign(directory)
        return
    upperdir = next((option.partition("=")[2] for option in own.options if option.startswith("upperdir=")), None)
    if upperdir is None:
        yield Layered(directory, None, there)
        return
    upper = _seen(Path(upperdir), runtime)
    try:
        yield Layered(directory, upper, there)
    finally:
        os.close(upper)


def _seen(path: Path, runtime: Path) -> int:
    try:
        if path.is_absolute():
            return os.open(runtime / str(path).lstrip("/"), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        pass
    said = f"the container's own layer is {path}, which is not to be seen from here"
    raise StockadeError(said, hint="attach in the mount namespace of its runtime", code="layers")
