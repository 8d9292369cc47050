"""What closes one pod, whoever governs it or nobody: the programs on its cgroup, where they are pinned, and its devices.

Closed it lets out nothing but what the kernel is told to let out. What an agent that died had on the same cgroup stays beside it until that
is taken off: both together deny what either does.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from stockade.kernel.links import Link
from stockade.node.container import First
from stockade.node.devices import Devices
from stockade.sandbox.cgroup import Cgroup

if TYPE_CHECKING:
    from stockade.node.station import Pods


def pins_of(cgroup: int) -> str:
    """What the names of the directories begin with, in which what closes a pod is pinned. cgroup: its id."""
    return f"pod-{cgroup}-"


class Closure:
    """programs: those on its cgroup; none while it is open."""

    def __init__(self, pods: Pods, cgroup: Cgroup) -> None:
        self._pods, self._cgroup = pods, cgroup
        self._number = cgroup.id  # known also when it is gone
        self._pins = pods.bpffs / f"{pins_of(self._number)}{pods.life}"
        self.programs: list[Link] = []
        self.devices = Devices(cgroup)

    def close(self) -> None:
        """Its devices when somebody knows where they are (Devices.shut). Raises StockadeError, OSError."""
        if not self.programs:
            kernel = self._pods.station.kernel
            kernel.maps.gate(self._number, self._cgroup.level)  # first: what fails here is tried again as long as there are no programs
            self.programs = kernel.govern(self._cgroup.path, self._pins)
        self.devices.closed = True

    async def open(self, passes: Iterable[int], process: First | None) -> None:
        """Nothing of ours closes it. passes: cgroups in it in which who begins waits for nobody. process: one in its network, if there is
        one.
        """
        kernel = self._pods.station.kernel
        self.devices.closed = False
        for each in (self._number, *passes):
            kernel.maps.ungate(each)
        for link in self.programs:
            kernel.take_off(link)
        self.programs = []
        shutil.rmtree(self._pins, ignore_errors=True)
        self.take_off_the_old()
        await asyncio.to_thread(self.devices.open, process.pid if process is not None else None)

    def take_off_the_old(self) -> None:
        for pins in self.left_behind():
            shutil.rmtree(pins, ignore_errors=True)
        self._pods.taken_over()

    def left_behind(self) -> list[Path]:
        """What an agent that died had on this cgroup."""
        return [pins for pins in self._pods.bpffs.glob(f"{pins_of(self._number)}*") if pins != self._pins]
