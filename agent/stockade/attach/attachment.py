"""A container that is governed although somebody else started it: begun, held, and let go of.

Takes a station (kernel, trail, worker) and a target; forks nothing and owns no process, so that a foreground command and a daemon can both
have one. What cannot be given to processes that run is said: in the record of its start, and to whoever attached.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stockade import signing
from stockade.attach import berth, existing
from stockade.attach.contained import Contained
from stockade.attach.device import NOTHING, Closed
from stockade.attach.entered import entrances
from stockade.attach.existing import Conversation
from stockade.attach.layers import Layered, layered
from stockade.attach.running import Known, Running
from stockade.attach.still import still
from stockade.attach.target import Target, elsewhere
from stockade.kernel.links import Link
from stockade.policy import Policy, load_families
from stockade.policy.summary import summary
from stockade.proxy import Authority
from stockade.sandbox import exited
from stockade.sandbox.joined import Joined
from stockade.sandbox.launch import Sockets
from stockade.sandbox.limits import Limits
from stockade.sandbox.roster import PATH, Resolver, Roster
from stockade.service import verbs
from stockade.service.control import Control, Verb
from stockade.service.enforcement import lost_of
from stockade.service.generations import Load
from stockade.service.governed import Governed
from stockade.service.order import Order
from stockade.service.slots import Slot
from stockade.service.state import Kept
from stockade.service.station import Station
from stockade.service.tenure import Charge, Tenure
from stockade.service.watch import Watch
from stockade.types import Outcome, Reason, Sandbox, StockadeError

log = logging.getLogger(__name__)

EVERY = 0.5  # seconds between two looks at what holds it
DEVICES_EVERY = 10  # of these looks: whether the filter on its devices is still there
NEVER = "trust store, Landlock, seccomp"  # of processes that run already
Existing = Literal["cut", "keep"]
Serve = Callable[[contextlib.AsyncExitStack], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Charged:
    """What somebody attaches with. trusted: what of the trust store the container was given before it started, in words.

    verbs: of its control socket, besides those of every sandbox.
    """

    order: Order
    policy: Policy
    watch: Watch
    load: Load
    authority: Authority
    existing: Existing = "cut"
    trusted: str = ""
    verbs: Mapping[str, Verb] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """What came of it, for people. unheld: by what it could get out, as far as that shows: capabilities, and network namespaces."""

    name: str
    processes: tuple[str, ...]
    connections: tuple[str, ...]
    device: str
    unheld: tuple[str, ...]
    missing: tuple[str, ...]
    written: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Nothing of that kind is known; what a process was given before nobody saw."""
        return not self.unheld


class Attachment:
    """joined: its network namespace. sockets: the agent's, in there.

    kept: when this ends, what holds it stays, and nobody answers it: as after kill -9 of its agent.
    """

    every = EVERY

    def __init__(self, station: Station, slot: Slot, target: Target, charged: Charged, joined: Joined, sockets: Sockets) -> None:
        self.station, self._slot, self.target, self._charged = station, slot, target, charged
        self._kernel, self._joined, self._sockets = station.kernel, joined, sockets
        self._links: list[Link] = []
        self._written: tuple[str, ...] = ()  # files that the policy names and the container has written
        self._uncut: tuple[Conversation, ...] = ()
        self._cgroup = target.cgroup.id  # known also when it is gone
        self._shared = joined.inode == Path("/proc/self/ns/net").stat().st_ino  # the network is the host's: there is no device to close
        self._device = Closed(joined, self._cgroup)
        self.name = charged.order.name or target.called
        self.kept = False

    async def begin(self, stack: contextlib.AsyncExitStack, serve: Serve) -> Standing:
        """Governed when this returns. What is to be undone goes onto the stack. Raises StockadeError: it is as it was, and not governed.

        serve: begins to read the kernel's events and has a worker ready; called when its processes are known and before it is held.
        """
        station, policy = self.station, self._charged.policy
        control = Control.take(station.settings.control, self.name)
        stack.callback(control.close)
        roster = await asyncio.to_thread(self._roster, policy)
        stack.callback(roster.close)
        sandbox = Sandbox(uuid.uuid4().hex[:12], self.name, policy.name, policy.generation, dict(policy.labels))
        self.governed = governed = self._made(sandbox, roster)
        stack.push_async_callback(self._forget)
        self._register(governed)
        # 1) who is there: exec and fork are told of from here on, so that nobody is missed between two looks
        processes = await asyncio.to_thread(self._identified)
        # 2) who answers
        self.tenure = tenure = Tenure(station, self._charge(governed))
        await serve(stack)
        await tenure.begin(stack)
        # 3) the rules, and the devices beside them
        self._govern()
        stack.push_async_callback(asyncio.to_thread, self._open_device)  # others of a daemon's wait for the loop
        if not self._shared:
            await asyncio.to_thread(self._device.close)
            await asyncio.to_thread(self._device.admit, entrances(policy))
        # 4) what it had before
        connections = await asyncio.to_thread(self._connections)
        standing = Standing(
            self.name,
            tuple(map(str, processes)),
            tuple(map(str, connections)),
            self._device.by,
            tuple(await asyncio.to_thread(self._unheld)),  # it asks of every process
            roster.missing,
            self._written,
        )
        station.agent.lifecycle(governed, Reason.STARTED, self._said(standing, policy))
        # 5) last, what a dead agent left: until here it held the container, and still does where any of this failed
        self.kept = bool(self._predecessors())
        await asyncio.to_thread(self._sweep)
        self.kept = False
        every = verbs.of(governed, tenure.generations, tenure.desk, tenure.doors, tenure.observed, tenure.renewal)
        control.serve({**every, **self._charged.verbs})
        return standing

    def _made(self, sandbox: Sandbox, roster: Roster) -> Contained:
        kernel, policy = self._kernel, self._charged.policy
        return Contained(
            self._slot.number,
            sandbox,
            self.target.cgroup,
            policy,
            roster,
            kernel.maps,
            kernel.network,
            self._device,
            shared=self._shared,
        )

    def _identified(self) -> list[Known]:
        return Running(self.governed, self._kernel.maps).identify()

    def _open_device(self) -> None:
        if not self.kept and not self._predecessors():  # else somebody's programs hold it on, which see no frames
            self._device.open()

    def _govern(self) -> None:
        self._own(lambda: self._kernel.govern(self.target.cgroup.path))

    def _roster(self, policy: Policy) -> Roster:
        """The policy's names, as they are in the container. Everything in it may be written by it: weak."""
        target = self.target
        try:
            directory = os.open(target.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StockadeError(f"the root of {target.called} cannot be opened: {error.strerror}", code="no_process") from None
        try:
            container = target.container
            search = ":".join(dict.fromkeys((*filter(None, (container.search if container else "").split(":")), *PATH.split(":"))))
            with still(target.cgroup), layered(directory, target.init, target.root_inside) as root:
                roster = Resolver(policy, load_families(), search, weak=True, root=root).roster(self._command())
            self._written = tuple(sorted(root.written)) if isinstance(root, Layered) else ()
            return roster
        finally:
            os.close(directory)

    def _command(self) -> str | None:
        container = self.target.container
        if container is not None and container.command:
            return container.command[0]
        try:
            return os.readlink(f"/proc/{self.target.init}/exe")  # noqa: PTH115 (a path of the container's)
        except OSError:
            return None

    def _register(self, governed: Governed) -> None:
        kernel = self._kernel
        try:
            kernel.maps.register(governed.number, governed.cgroup.id, governed.cgroup.level, governed.policy.generation, governed.flags)
            governed.enrol()
            governed.compile(governed.policy)
        except (OSError, ValueError) as error:
            raise StockadeError(f"the policy does not fit into the kernel's maps: {error}", code="maps") from None
        self._own(lambda: kernel.answer_origins(self._slot.listeners.path))
        if not any(link.name == "on_exec" for link in kernel.links):
            kernel.attach_tracepoints()

    def _own(self, attach: Callable[[], object]) -> None:
        """Remember the links that this makes, also when it fails on the way."""
        before = len(self._kernel.links)
        try:
            attach()
        finally:
            self._links += self._kernel.links[before:]

    async def _forget(self) -> None:
        """Nothing in the kernel speaks of it any more; what runs there runs on as it did before."""
        if self.kept:
            return
        await asyncio.to_thread(self._take_off)

    def _take_off(self) -> None:
        for link in self._links:
            if link in self._kernel.links:
                self._kernel.take_off(link)
        self._kernel.maps.release(self.governed.number, self._cgroup)

    def _charge(self, governed: Governed) -> Charge:
        charged, kernel = self._charged, self._kernel
        order = charged.order.anywhere(self.station.trail.path)
        kept = Kept(order, charged.policy, tuple(governed.roster), governed.facts, (), kernel.held_by(), kernel.backend, charged.authority)
        limits = Limits(governed.cgroup)  # its runtime's
        return Charge(self._slot, governed, self._sockets, limits, charged.watch, charged.load, self._lost_links, kept, "")

    def _sweep(self) -> None:
        """What an agent that died left on this cgroup. Beside it nothing gets through: each takes the other's address for a trick."""
        for pins in self._predecessors():
            shutil.rmtree(pins, ignore_errors=True)

    def _predecessors(self) -> list[Path]:
        """Where dead agents of this cgroup pinned what still holds it."""
        pins = self._kernel.pins
        return [each for each in berth.left_on(pins.parent, self._cgroup) if each != pins]

    def _connections(self) -> tuple[Conversation, ...]:
        """Those that lead out of the namespace, or on the host's, to anybody. Raises StockadeError when they cannot be listed."""
        found = self._listed()
        if self._charged.existing == "cut":
            for each in found:
                existing.cut(self._joined, each)
            if self._shared:  # there a packet to loopback is refused by nobody
                before = {each.identifier for each in found}
                self._uncut = tuple(each for each in self._listed() if each.on_loopback and each.identifier in before)
        else:
            for each in found:
                self._keep(each)
        return tuple(found)

    def _listed(self) -> list[Conversation]:
        try:
            every = existing.conversations(self._joined, self.target.cgroup.processes())
        except OSError as error:
            raise StockadeError(str(error.strerror or error), code="connections") from None
        return [each for each in every if each.leaves(self._kernel.network, shared=self._shared)]

    def _keep(self, each: Conversation) -> None:
        try:
            existing.keep(self._kernel.maps, self.governed.number, self.governed.policy.generation, each)
            self._device.keep(each.protocol, each.local, each.peer)
        except OSError as error:  # it has just ended, or this kernel has no pidfd_getfd: nothing passes on it any more
            log.warning("not kept: %s: %s", each, error)

    def _fatal(self) -> list[str]:
        return self.target.fatal()

    def _unheld(self) -> list[str]:
        """Why it can get out all the same."""
        target = self.target
        found = [f"it keeps {capability}" for capability in self._fatal()]
        if self._shared and target.raw:
            found.append("it shares the host's network and may send raw packets (CAP_NET_RAW)")
        found += [f"it had {each}, which this kernel cannot cut" for each in self._uncut]
        return found + [
            f"process {pid} is in another network namespace, whose devices stay open" for pid in elsewhere(target, self._joined)
        ]

    def _said(self, standing: Standing, policy: Policy) -> dict[str, str | int | list[str]]:
        target, kernel, charged = self.target, self._kernel, self._charged
        container = target.container
        return {
            "attached": str(target.cgroup.path),
            "pid": target.init,
            **({"runtime": container.runtime} if container is not None else {}),
            "processes": list(standing.processes),
            "connections": list(standing.connections),
            "existing": charged.existing,
            "inbound": [f"{each.port} from {source}" for each in entrances(policy) for source in each.networks],
            "device": standing.device,
            "held": "yes" if standing.held else "no",
            "not_held": list(standing.unheld),
            "not_given": NEVER if not charged.trusted else "Landlock, seccomp",
            "trust_store": charged.trusted or "not given: HTTP rules refuse what does not trust the sandbox's own CA",
            "exec_backend": kernel.backend.value,
            "senders": "told by the kernel" if kernel.tells_senders else "unknown: a socket speaks for whoever connected it",
            "sources": [str(path) for path in policy.sources],
            "missing_binaries": list(standing.missing),
            "written_binaries": list(standing.written),
            **signing.said(charged.authority),
            **summary(policy),
            **({"metrics": self.station.metrics} if self.station.metrics else {}),
        }

    async def hold(self, leave: asyncio.Event) -> int | None:
        """Until the container ends, or `leave` is set. The status of its first process; None when it was let go of, or nobody knows.

        Raises StockadeError when what holds it was taken away: everything in it was killed.
        """
        tenure, governed, agent, workers = self.tenure, self.governed, self.station.agent, self.station.workers
        async with contextlib.AsyncExitStack() as stack:
            tenure.watch(stack)
            ended = asyncio.create_task(self._ended())
            stack.callback(ended.cancel)
            leaving = asyncio.create_task(leave.wait())
            stack.callback(leaving.cancel)
            lost = await self._watch({ended, leaving})
            status = ended.result() if ended.done() else None
        if lost:
            governed.cgroup.kill()
            await workers.release(governed.number)
        await tenure.doors.close()
        await workers.release(governed.number)
        await agent.settle()
        if lost:
            self.station.leave_target()
            agent.lifecycle(governed, Reason.ENFORCEMENT_LOST, {"lost": lost}, outcome=Outcome.DENY)
        if agent.audit_failure:
            agent.lifecycle(governed, Reason.AUDIT_UNAVAILABLE, {"error": agent.audit_failure}, outcome=Outcome.DENY)
        why = {"why": "it was let go of, and is not governed any more"} if leave.is_set() else {}
        agent.lifecycle(governed, Reason.STOPPED, {"status": status if status is not None else "unknown", **why})
        if lost:
            said = f"what holds {self.name} was taken away, so everything in it was killed: {'; '.join(lost)}"
            raise StockadeError(said, hint="somebody with root's rights did that", code="enforcement_lost")
        return status

    async def _watch(self, until: set[asyncio.Task[bool] | asyncio.Task[int | None]]) -> list[str]:
        """What was lost, when something was; devices that have come are closed."""
        looks = 0
        while True:
            done, _ = await asyncio.wait(until, timeout=self.every, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return []
            looks += 1
            if lost := await self._look(looks % DEVICES_EVERY == 0):
                return lost

    async def _look(self, thoroughly: bool) -> list[str]:
        """In a thread: what asks for the devices enters a namespace, and waits for answers."""
        return await asyncio.to_thread(self._lost, thoroughly)

    def _lost(self, thoroughly: bool) -> list[str]:
        found = self._lost_links()
        if self._shared:
            return found
        try:
            self._device.close()
        except (StockadeError, OSError) as error:
            if self.target.cgroup.populated():
                found.append(str(error))
        if thoroughly and self._device.by != NOTHING and (words := self._device.holds()) is not None and self.target.cgroup.populated():
            found.append(words)
        return found

    def _lost_links(self) -> list[str]:
        return lost_of(self._kernel.links)

    async def _ended(self) -> int | None:
        """When the last process is gone: with a PID namespace that is not its own, a container's others outlive its first."""
        status = await self._status() if self.target.container is not None else None
        while self.target.cgroup.populated():
            await asyncio.sleep(EVERY)
        return status

    async def _status(self) -> int | None:
        try:
            init = os.pidfd_open(self.target.init)
        except ProcessLookupError:
            return None
        try:
            return await exited.status(init, self.target.init)
        finally:
            os.close(init)
