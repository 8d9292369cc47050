"""How many processes, how much memory and how many cores a sandbox may have, in whichever cgroup hierarchy has the controller.

A controller belongs either to the v2 hierarchy, where the sandbox's own cgroup gets the limit, or to a v1 hierarchy, where a cgroup of the
same name is made for it. Looked up, never assumed (cgroups(7)). Owns the files of these three controllers and nothing else of a cgroup.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stockade.policy.model import DEFAULT_PIDS
from stockade.sandbox.cgroup import Cgroup, mounted
from stockade.types import StockadeError

CONTROLLERS = ("pids", "memory", "cpu")
_MOUNTINFO = Path("/proc/self/mountinfo")
_PERIOD = 100_000  # µs, the kernel's own default

# Where a hierarchy says how often a limit stopped something: the file, and the word before the number.
_COUNTERS = {
    (1, "pids"): ("pids.events", "max"),
    (2, "pids"): ("pids.events", "max"),
    (1, "memory"): ("memory.oom_control", "oom_kill"),
    (2, "memory"): ("memory.events", "oom_kill"),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """pids: processes and threads of the command, beside the sandbox's own init. memory: bytes, swap included. cpu: cores."""

    pids: int | None = None
    memory: int | None = None
    cpu: float | None = None


class Limits:
    """The limits of one sandbox, in force. joins: the cgroup.procs that it must join beside its own cgroup. said: a word on each, for the
    record.

    counted: what has been told of by `struck`. processes: what RLIMIT_NPROC must hold, where no cgroup counts processes; the sandbox's uid
    is its own, so both count the same.
    """

    def __init__(self, cgroup: Cgroup) -> None:
        self.joins: list[Path] = []
        self.said: list[str] = []
        self.processes: int | None = None
        self._counters: dict[str, tuple[Path, str]] = {}
        self._read: dict[str, bytes] = {}  # what each counter's file said last
        self.counted: dict[str, int] = {}

    @classmethod
    def impose(cls, cgroup: Cgroup, wanted: Wanted, *, best_effort: bool, mountinfo: Path = _MOUNTINFO) -> Limits:
        """Set them on a cgroup that has no process yet. Raises StockadeError for one that is asked for and has no controller here, unless
        best_effort; the limit on processes that every sandbox has is then RLIMIT_NPROC's.
        """
        limits = cls(cgroup)
        hierarchies = _v1(mountinfo)
        for controller in CONTROLLERS:
            value = getattr(wanted, controller)
            asked = value is not None
            if controller == "pids":
                value = value or DEFAULT_PIDS
            if value is None:
                continue
            where = cls._place(cgroup, controller, hierarchies)
            if where is None:
                if asked and not best_effort:
                    hint = "enable it in cgroup.subtree_control, or mount it; or `best_effort: [limits]` in the policy"
                    raise StockadeError(f"process.{controller}: no cgroup hierarchy offers this controller", hint=hint, code="no_limit")
                if controller == "pids":
                    limits.processes = value + 1
                    limits.said.append(f"pids {value} by RLIMIT_NPROC")
                else:
                    limits.said.append(f"{controller} missing, best effort")
                continue
            version, path = where
            limits._set(version, path, controller, value)
            limits.said.append(f"{controller} {_word(value)}" + ("" if asked else " by default"))
        return limits

    @staticmethod
    def _place(cgroup: Cgroup, controller: str, hierarchies: dict[str, Path]) -> tuple[int, Path] | None:
        """The version of the hierarchy that has a controller, and the sandbox's cgroup there."""
        if (root := hierarchies.get(controller)) is not None:
            path = _like(cgroup, root)
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError:  # read-only, or not ours to divide
                return None
            return 1, path
        return (2, cgroup.path) if _enabled(cgroup.path, controller) else None

    def _set(self, version: int, path: Path, controller: str, value: float) -> None:
        for name, text, needed in _settings(version, controller, value):
            if not needed and not (path / name).exists():
                continue
            try:
                (path / name).write_text(text)
            except OSError as error:
                raise StockadeError(f"process.{controller}: {path / name} does not take {text}: {error.strerror}", code="limit") from None
        if version == 1:
            self.joins.append(path / "cgroup.procs")
        if (counter := _COUNTERS.get((version, controller))) is not None:
            self._counters[controller] = path / counter[0], counter[1]

    def struck(self) -> dict[str, int]:
        """What a limit has stopped since this was asked last: forks refused (pids), processes killed (memory)."""
        news = {}
        for controller, (path, word) in self._counters.items():
            with contextlib.suppress(OSError):
                if (said := _read(path)) == self._read.get(controller):
                    continue
                self._read[controller] = said
                found = re.search(rf"^{word} (\d+)$", said.decode(), re.M)
                if found is not None and int(found[1]) > self.counted.get(controller, 0):
                    news[controller] = int(found[1]) - self.counted.get(controller, 0)
                    self.counted[controller] = int(found[1])
        return news


def _read(path: Path) -> bytes:
    """All of a counter's file: it is read once a second for each sandbox, and a Path does it at four times the price. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def remove(cgroup: Cgroup, mountinfo: Path = _MOUNTINFO) -> None:
    """Take away the v1 cgroups of a sandbox, as its own run or one that was killed left them. What still has processes stays."""
    for root in dict.fromkeys(_v1(mountinfo).values()):
        Cgroup(_like(cgroup, root)).remove()


def _like(cgroup: Cgroup, root: Path) -> Path:
    """The cgroup of the same name below the same parent in a v1 hierarchy."""
    return root / cgroup.path.parent.name / cgroup.path.name


def places(mountinfo: Path = _MOUNTINFO) -> dict[str, str]:
    """For `stockade doctor`: controller → the hierarchy that offers it; one that none does is left out."""
    found = {controller: f"v1 at {root}" for controller, root in _v1(mountinfo).items()}
    with contextlib.suppress(StockadeError, OSError):
        root = mounted(mountinfo)
        found |= {word: f"v2 at {root}" for word in (root / "cgroup.controllers").read_text().split() if word in CONTROLLERS}
    return found


def _v1(mountinfo: Path) -> dict[str, Path]:
    """Where each controller's v1 hierarchy is mounted: its super block options name it."""
    found = {}
    for line in mountinfo.read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup":
            for option in options.split(","):
                if option in CONTROLLERS:
                    found[option] = Path(left.split()[4].replace("\\040", " "))
    return found


def _enabled(cgroup: Path, controller: str) -> bool:
    """Have the v2 controller passed down to a cgroup. False when it is not there, or a cgroup above may not pass it on."""
    with contextlib.suppress(OSError):
        for above in reversed(list(_above(cgroup))):
            if controller not in (above / "cgroup.subtree_control").read_text().split():
                (above / "cgroup.subtree_control").write_text(f"+{controller}")
        return controller in (cgroup / "cgroup.controllers").read_text().split()
    return False


def _above(cgroup: Path) -> Iterator[Path]:
    for above in cgroup.parents:
        if not (above / "cgroup.subtree_control").exists():
            return
        yield above


def _settings(version: int, controller: str, value: float) -> list[tuple[str, str, bool]]:
    """(file, text, whether it must exist), in the order in which the kernel takes them."""
    if controller == "pids":
        return [("pids.max", str(int(value) + 1), True)]  # init is one
    if controller == "cpu":
        quota = str(int(value * _PERIOD))
        v1 = [("cpu.cfs_period_us", str(_PERIOD), True), ("cpu.cfs_quota_us", quota, True)]
        return v1 if version == 1 else [("cpu.max", f"{quota} {_PERIOD}", True)]
    size = str(int(value))
    if version == 1:
        return [("memory.limit_in_bytes", size, True), ("memory.memsw.limit_in_bytes", size, False)]
    return [("memory.max", size, True), ("memory.swap.max", "0", False)]


def _word(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
