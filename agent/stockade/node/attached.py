"""A pod that is governed: an attachment to its cgroup, which its containers join one by one, each before its first instruction if it can.

What closes the pod (closure.py) is there before and stays when this ends. Owns how a container is taken up: it stands still while its
binaries are looked up, and goes on when the kernel knows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass

from stockade.attach.attachment import Attachment, Charged
from stockade.attach.layers import Layered, layered
from stockade.attach.running import Known, Running
from stockade.attach.still import still
from stockade.attach.target import Target
from stockade.kernel.links import Link
from stockade.node.arriving import Arrival
from stockade.node.podded import Place, Podded
from stockade.node.powers import powers
from stockade.policy import Policy, load_families
from stockade.sandbox.joined import Joined
from stockade.sandbox.launch import Sockets
from stockade.sandbox.roster import PATH, Resolver, Roster
from stockade.service.enforcement import Common, lost_of
from stockade.service.governed import Governed
from stockade.service.slots import Slot
from stockade.service.station import Station
from stockade.types import Action, Effect, Level, Outcome, Reason, Record, Sandbox, StockadeError

_DEVICES = 5  # looks, a second apart, of which one is at a pod's devices too


@dataclass(frozen=True, slots=True)
class Joining:
    """What came of one. gap_us: for how long its own instructions may have run ungoverned, without a way out; 0: not one of them did."""

    name: str
    gap_us: int
    unheld: tuple[str, ...]
    written: tuple[str, ...]


class PodAttachment(Attachment):
    """gate: what holds the pod's cgroup. shared: what holds every pod. The pod's devices stay closed when this ends."""

    every = 1.0
    governed: Podded

    def __init__(
        self,
        station: Station,
        slot: Slot,
        target: Target,
        charged: Charged,
        joined: Joined,
        sockets: Sockets,
        gate: list[Link],
        shared: Common,
    ) -> None:
        super().__init__(station, slot, target, charged, joined, sockets)
        self._gate, self._all = gate, shared
        self._next = 1
        self._looks = 0

    def _roster(self, policy: Policy) -> Roster:
        return Roster()

    def _made(self, sandbox: Sandbox, roster: Roster) -> Podded:
        kernel = self._kernel
        cgroup, policy = self.target.cgroup, self._charged.policy
        return Podded(self._slot.number, sandbox, cgroup, policy, kernel.maps, kernel.network, self._device, shared=self._shared)

    def _register(self, governed: Governed) -> None:
        try:
            self._kernel.maps.begin(governed.number)
            governed.enrol()
            governed.compile(governed.policy)
        except (OSError, ValueError) as error:
            raise StockadeError(f"the policy does not fit into the kernel's maps: {error}", code="maps") from None

    def _identified(self) -> list[Known]:
        self._running = Running(self.governed, self._kernel.maps)
        return []

    def _govern(self) -> None:
        """It is already."""

    def _sweep(self) -> None:
        """What held the pod before is taken away by what holds it now."""

    def _open_device(self) -> None:
        """Whoever lets go of the pod does."""

    async def _forget(self) -> None:
        maps = self._kernel.maps
        for place in list(self.governed.places.values()):
            await asyncio.to_thread(self.governed.part, place)
        await asyncio.to_thread(maps.untag, self.governed.number)
        await asyncio.to_thread(maps.release, self.governed.number, self._cgroup)

    def _fatal(self) -> list[str]:
        """Each container is asked as it joins; until then it may be its runtime's process, which keeps everything."""
        return []

    def _lost_links(self) -> list[str]:
        return [*self._all.lost(), *lost_of(self._gate)]

    async def _look(self, thoroughly: bool) -> list[str]:
        """Its devices are looked at less often than what is on its cgroup, which takes no thread and waits for nobody."""
        self._looks += 1
        return self._lost_links() if self._looks % _DEVICES else await super()._look(thoroughly)

    async def _ended(self) -> int | None:
        """When the process ends that holds the pod's namespaces: whatever comes after it has others."""
        return await self._status()

    # containers

    async def join(self, arrival: Arrival, image: str) -> Joining:
        """image: as it was asked for. Raises StockadeError, OSError: nothing of the container is governed, so it reaches nothing."""
        number, self._next = self._next, self._next + 1
        written: set[str] = set()
        name = arrival.bundle.name or arrival.identity[:12]
        place = Place(
            number,
            name,
            image or arrival.bundle.image,
            arrival.identity,
            arrival.cgroup,
            arrival.cgroup.id,
            arrival.process.mounts,
            lambda policy: _drawn(policy, arrival, written),
        )
        await self.tenure.generations.between(lambda: self.governed.join(place))
        begun, waits = arrival.process.begun, arrival.waits
        processes: list[Known] = []
        if begun:
            processes = await self.tenure.generations.between(lambda: self._running.identify_in(arrival.cgroup, number))
            if waits:
                self._judge(processes)
        if not begun or waits:
            gap_us = 0
        elif arrival.seen is not None:
            gap_us = max(1, round((time.monotonic() - arrival.seen) * 1e6))
        else:
            gap_us = _age_us(arrival.process.pid)
        unheld = tuple(f"{name} keeps {each}" for each in (await asyncio.to_thread(powers, arrival)).fatal)
        self._tell(place, arrival, processes, gap_us, unheld, written)
        await self.tenure.generations.between(arrival.go_on)  # not while its files are looked up for the next policy
        return Joining(name, gap_us, unheld, tuple(sorted(written)))

    def _judge(self, processes: list[Known]) -> None:
        """Those that stand before their first instruction, and whose exec nobody judged: one that may not run does not begin."""
        governed, policy = self.governed, self.governed.policy
        for known in processes:
            runs = any(enrolment.runs and enrolment.binary is known.binary for enrolment in governed.roster)
            if runs or policy.exec.unlisted == "no-network":
                continue
            effect = Effect.REFUSE if policy.enforced else Effect.PASS
            if policy.enforced:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(known.pid, signal.SIGKILL)
            self.station.agent.write(
                governed,
                Record(
                    *(Action.EXEC, Outcome.DENY, effect, Level.EXEC, Reason.EXEC_UNLISTED),
                    enforced=policy.enforced,
                    binary=known.binary,
                    exec_id=known.exec_id,
                    pid=known.pid,
                ),
            )

    def _tell(
        self, place: Place, arrival: Arrival, processes: list[Known], gap_us: int, unheld: tuple[str, ...], written: set[str]
    ) -> None:
        now = time.monotonic()
        detail: dict[str, str | int | list[str]] = {
            "started": "container",
            "governed": "before its first instruction" if not gap_us else "after its first instruction",
            "gap_us": gap_us,
            "since_cgroup_us": round((now - arrival.came) * 1e6),
            **({"stood_us": round((now - arrival.seen) * 1e6)} if arrival.seen is not None and not gap_us else {}),
            "processes": [str(each) for each in processes],
            "missing_binaries": list(place.roster.missing),
            "written_binaries": sorted(written),
            "held": "yes" if not unheld else "no",
            "not_held": list(unheld),
        }
        self.station.agent.lifecycle(self.governed, Reason.STARTED, detail, sandbox=self.governed.within(place))

    async def part(self, identity: str) -> None:
        """A container has ended."""

        def parted() -> list[Place]:
            """In its turn: it may just be joining."""
            found = [place for place in self.governed.places.values() if place.identity == identity]
            for place in found:
                self.governed.part(place)
            return found

        for place in await self.tenure.generations.between(parted):
            within = self.governed.within(place)
            self.station.agent.lifecycle(self.governed, Reason.STOPPED, {"stopped": "container"}, sandbox=within)


def _drawn(policy: Policy, arrival: Arrival, written: set[str]) -> Roster:
    """The policy's names, as they are in the container, which stands still meanwhile. In a thread. Raises StockadeError."""
    pid = arrival.process.pid
    directory = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        search = ":".join(dict.fromkeys((*filter(None, arrival.bundle.search.split(":")), *PATH.split(":"))))
        with still(arrival.cgroup), layered(directory, pid, "/", arrival.process.root, arriving=arrival.arriving) as root:
            resolver = Resolver(policy, load_families(), search, weak=True, root=root)
            roster = resolver.roster(arrival.bundle.command[0] if arrival.bundle.command else None)
            if isinstance(root, Layered):
                written |= root.written
        return roster
    finally:
        os.close(directory)


def _age_us(pid: int) -> int:
    """How long ago a process was made, in microseconds; its first instruction cannot have been before."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 (of the kernel's)
            began = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 1
    return max(1, round((time.clock_gettime(time.CLOCK_BOOTTIME) - began) * 1e6))
