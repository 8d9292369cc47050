"""cgroup v2: where it is mounted, and the siblings Stockade makes below one parent that carries no program."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stockade.types import StockadeError

PARENT = "stockade"
HOSTED = "stockade-daemon"  # begins the name of the parent of a daemon's sandboxes, which carries the programs for all of them


def mounted(mountinfo: Path = Path("/proc/self/mountinfo")) -> Path:
    """The cgroup v2 mount, looked up: hybrid set-ups have it at /sys/fs/cgroup/unified. Raises StockadeError."""
    for line in mountinfo.read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4].replace("\\040", " "))
    raise StockadeError("no cgroup v2 hierarchy is mounted", hint="mount -t cgroup2 none /sys/fs/cgroup", code="no_cgroup2")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A cgroup of the v2 hierarchy, by its path; whether it is there is another question."""

    path: Path

    @classmethod
    def named(cls, name: str, parent: str = "") -> Cgroup:
        """One of the parent's, which may not be there."""
        return cls(mounted() / (parent or PARENT) / name)

    @classmethod
    def make(cls, name: str, parent: str = "") -> Cgroup:
        """Create it below the parent. Raises StockadeError; one that exists is taken as it is."""
        path = mounted() / (parent or PARENT) / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StockadeError(f"cannot make cgroup {path}: {error.strerror}", code="cgroup") from None
        return cls(path)

    @property
    def id(self) -> int:
        """What bpf_get_current_ancestor_cgroup_id answers."""
        return self.path.stat().st_ino

    @property
    def level(self) -> int:
        """Depth below the hierarchy's root as the kernel counts it, from the machine's root. Raises StockadeError where a namespace hides
        it.
        """
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        if own.startswith("/.."):
            raise StockadeError("this cgroup namespace hides the level of its root", code="cgroup")
        return len(self.path.relative_to(mounted()).parts)

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def populated(self) -> bool:
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except OSError:
            return False

    def processes(self) -> Iterator[int]:
        """The PIDs in it and below, of this moment."""
        for directory, _, _ in os.walk(self.path):
            with contextlib.suppress(OSError):
                yield from map(int, Path(directory, "cgroup.procs").read_text().split())

    def kill(self) -> None:
        """SIGKILL to everything in it and below: cgroup.kill (5.14), which no fork outruns, then process by process: cgroup.kill signals
        the leader's thread, and nobody dies when that one has ended before the others (seen on 6.18)."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def remove(self) -> None:
        """Children first; a cgroup that still has processes stays."""
        for directory, _, _ in os.walk(self.path, topdown=False):
            try:
                Path(directory).rmdir()
            except OSError:
                return
