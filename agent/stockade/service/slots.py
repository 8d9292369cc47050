"""Slots: which numbers, users and cgroups an agent may use beside others on the same machine.

A slot is a lock that dies with its agent, and a cgroup that may outlive it: both must be free, or two sandboxes would share a user.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from stockade.sandbox import limits
from stockade.sandbox.cgroup import HOSTED, Cgroup, mounted
from stockade.service.settings import Settings
from stockade.service.state import StateFile
from stockade.types import StockadeError

_TURNS = 200  # of other processes, in which what was killed has gone
_BEAT = 1024  # octets: what is written over the last one covers it


class Slot:
    """number from 1. user: the sandbox's uid and gid. pins: where its links and maps are pinned, unless they are a daemon's."""

    def __init__(self, number: int, lock: int, settings: Settings, bpffs: Path) -> None:
        self.number, self._lock, self._path = number, lock, _lock_of(settings, number)
        self.user = settings.first_sandbox_user + number
        self.pins = bpffs / str(number)
        self.state = StateFile(settings.run / "slots", number)
        hosted = [Cgroup(path) for path in mounted().glob(f"{HOSTED}-*/sandbox-{number}")]
        self.sandbox = hosted[0] if hosted else Cgroup.named(f"sandbox-{number}")
        self.listeners = Cgroup.named(f"listeners-{number}")
        self._counted: tuple[dict[str, int], bytes] = {}, b"{}"  # as it was written last: it seldom changes

    @property
    def hosted(self) -> bool:
        """Whether its sandbox is a daemon's."""
        return self.sandbox.path.parent.name.startswith(f"{HOSTED}-")

    @classmethod
    def take(cls, settings: Settings, bpffs: Path, *, parent: str = "") -> Slot:
        """The first free one, swept of what a dead agent left. parent: of a daemon's. Raises StockadeError when all are taken."""
        directory = settings.run / "slots"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(1, settings.slots + 1):
            if (slot := cls.seize(settings, bpffs, number)) is None:
                continue
            if not slot.sandbox.populated():
                slot.sweep()
                if not parent:
                    slot.listeners = Cgroup.make(slot.listeners.path.name)
                slot.sandbox = Cgroup.make(slot.sandbox.path.name, parent)
                return slot
            slot.let_go()  # its agent died, its sandbox lives on without egress
        raise StockadeError(f"all {settings.slots} sandboxes of this machine are in use", code="no_slot")

    @classmethod
    def seize(cls, settings: Settings, bpffs: Path, number: int) -> Slot | None:
        """This one, as it is; None while an agent holds it."""
        path = _lock_of(settings, number)
        while True:
            lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return None
            if os.fstat(lock).st_nlink:
                return cls(number, lock, settings, bpffs)
            os.close(lock)  # whoever had it released it since it was opened: another file has the name, or none

    def let_go(self) -> None:
        """Leave everything as it is."""
        os.close(self._lock)

    @property
    def left_behind(self) -> bool:
        """Whether a dead agent left something here."""
        return self.state.exists() or self.pins.exists() or self.sandbox.path.exists()

    def sweep(self) -> None:
        """What a dead agent left must not hold for the next one: its programs, and the limits of its cgroups. Nothing may live there."""
        shutil.rmtree(self.pins, ignore_errors=True)
        self.state.remove()
        limits.remove(self.sandbox)
        self.sandbox.remove()
        self.listeners.remove()

    def empty(self) -> None:
        """Kill what is left in the sandbox, and let it be gone."""
        for _ in range(_TURNS):
            self.sandbox.kill()
            if not self.sandbox.populated():
                break
            os.sched_yield()

    def release(self) -> None:
        """Kill what is left in the sandbox, and take its cgroups, what was written down of it, and the lock away."""
        self.empty()
        self.sandbox.remove()
        self.listeners.remove()
        limits.remove(self.sandbox)
        self.state.remove()
        self._path.unlink(missing_ok=True)
        os.close(self._lock)

    def beat(self, counted: Mapping[str, int]) -> None:
        """Say that whoever holds this slot is alive: the lock holds the moment, of a clock that nobody sets.

        counted: what the kernel has counted that is on record. Raises OSError.
        """
        if counted != self._counted[0]:
            self._counted = dict(counted), json.dumps(dict(counted)).encode()
        said = b'{"at": %d, "counted": %b}' % (time.clock_gettime_ns(time.CLOCK_BOOTTIME), self._counted[1])
        os.pwrite(self._lock, said.ljust(_BEAT) + b"\n", 0)

    def last_beat(self) -> tuple[float, dict[str, int]]:
        """Seconds since the last holder said so, and what it had recorded; nothing when none ever did."""
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            said = json.loads(os.pread(self._lock, 1 << 16, 0).partition(b"\n")[0])
            counted = {str(name): int(count) for name, count in said["counted"].items()}
            return max(0.0, (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(said["at"])) / 1e9), counted
        return 0.0, {}


def _lock_of(settings: Settings, number: int) -> Path:
    return settings.run / "slots" / str(number)
