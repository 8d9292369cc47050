"""What is mounted where, as the kernel says it of a process (proc_pid_mountinfo(5))."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


class Mount(NamedTuple):
    """A line of mountinfo. root: what of its file system is mounted, at point. id: the kernel's, unique on this machine. above: of the one
    that it is mounted in."""

    device: str
    root: str
    point: str
    writable: bool
    id: int = 0
    kind: str = ""
    options: tuple[str, ...] = ()
    above: int = 0


def mounts(pid: int) -> tuple[Mount, ...]:
    """In the order in which they were made. Nothing for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return ()
    return tuple(map(_mount, lines))


def named(there: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Those that a name in the root leads to: without what lies upon the root itself, and is reached by `/..` alone. There a runtime has
    the root before, until it takes it away (pivot_root(2), `pivot_root(".", ".")`): who has begun and still has it can go there."""
    ids = {mount.id for mount in there}
    left = {mount.id for mount in there if mount.point == "/" and mount.above in ids - {mount.id}}
    while left and (more := {mount.id for mount in there if mount.above in left} - left):
        left |= more
    return tuple(mount for mount in there if mount.id not in left)


def mount_of(descriptor: int) -> int:
    """The id of the mount that this file was opened through."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("mnt_id:"))


def namespace_of(pid: int) -> int | None:
    """The mount namespace of a process; None when it is gone."""
    try:
        return Path(f"/proc/{pid}/ns/mnt").stat().st_ino
    except OSError:
        return None


def _mount(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    fields = left.split(" ")
    kind, _, options = right.split(" ", 2)
    writable = "ro" not in fields[5].split(",")
    said = tuple(map(_plain, options.split(",")))
    return Mount(fields[2], _plain(fields[3]), _plain(fields[4]), writable, int(fields[0]), kind, said, int(fields[1]))


def _plain(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text
