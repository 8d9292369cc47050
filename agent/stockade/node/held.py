"""One pod's time with the node's agent, from its cgroup's first moment to its last.

A new pod is closed before anything of it runs (the programs on its cgroup know nothing in it, so they deny everything), and stays so until
somebody says what it is to be held to, or that no policy means it. Whatever fails leaves it closed, with the reason in its standing. What
an agent died over stays held by the programs it had, until this one's hold it: both together deny what either does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockade import signing
from stockade.attach.attachment import Charged
from stockade.attach.authority import forget, keep, kept
from stockade.attach.entered import Entered
from stockade.attach.target import Target
from stockade.node import trust, ungoverned
from stockade.node.addresses import IPNetwork, gateways
from stockade.node.arriving import Arrival, arrival
from stockade.node.attached import Joining, PodAttachment
from stockade.node.closure import Closure
from stockade.node.container import First
from stockade.node.pod import Standing, State, Wanted
from stockade.node.powers import Powers, powers
from stockade.policy import Policy, PolicyError, Problem
from stockade.policy.model import Inbound
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.joined import Joined
from stockade.service.order import Order
from stockade.service.slots import Slot
from stockade.service.watch import Watch
from stockade.types import StockadeError

if TYPE_CHECKING:
    from stockade.node.station import Pods

log = logging.getLogger(__name__)

PARENT = "stockade-pods"  # of cgroups that only say which numbers are taken
AGAIN = 5.0  # seconds after which what closes or opens it is tried again
LOOK = 5.0  # seconds between two looks at whether one that is closed has other devices
DECIDES = 10.0  # seconds for which a new container stands still until somebody says what its pod is to be held to

ORPHANED = "no container of it is known to hold its namespaces, as one of containerd's does for each pod: everything it asks for is refused"


@dataclass(slots=True)
class _Container:
    cgroup: Cgroup
    task: asyncio.Task[None]
    holds: bool = False  # the pod's namespaces, and is none of the API's
    process: First | None = None  # in these namespaces
    name: str = ""
    powers: Powers | None = None  # None: nobody has seen it yet
    begins: asyncio.Task[None] | None = None  # was let go on, and is seen to do so
    passes: int = 0  # its cgroup, where whoever begins in it (`kubectl exec` does, too) waits for nobody

    def cancel(self) -> None:
        self.task.cancel()
        if self.begins is not None:
            self.begins.cancel()


class HeldPod:
    """new: it came while the agent looked on. Methods are called on the loop, and return at once."""

    def __init__(self, pods: Pods, uid: str, cgroup: Cgroup, *, new: bool) -> None:
        self._pods, self.uid, self.cgroup = pods, uid, cgroup
        self.id, self._new = cgroup.id, new
        self.closure = Closure(pods, cgroup)
        self._wanted: Wanted | None = None
        self._left = False
        self._stirred = asyncio.Event()  # something else is wanted, or another process holds its namespaces
        self._leave: asyncio.Event | None = None  # of the attachment
        self._attachment: PodAttachment | None = None
        self._settled = asyncio.Event()  # what becomes of its containers is known
        self._holder: First | None = None
        self._orphaned = False  # containers begin, and none of them is known to hold the pod's namespaces
        self._containers: dict[str, _Container] = {}
        self._joined: dict[str, Joining] = {}
        self._trust, self._unheld = "", tuple[str, ...]()
        self._gateways: tuple[IPNetwork, ...] = ()  # by which the node comes in
        self._standing = Standing(uid, "waiting")
        if new:
            try:
                self.closure.close()
                self.closure.take_off_the_old()
            except (StockadeError, OSError) as error:  # its life tries again, and says so
                log.error("pod %s cannot be closed: %s", uid, error)
        self._life = asyncio.create_task(self._live())

    # what is told

    def want(self, wanted: Wanted) -> None:
        if wanted == self._wanted:
            return
        before, self._wanted, self._left = self._wanted, wanted, False
        if self._attachment is not None and before is not None and wanted.policies and before.trusts == wanted.trusts:
            self._pods.keep(self._reload(self._attachment))
        else:
            self._stir()

    def leave(self) -> None:
        if not self._left:
            self._left, self._wanted = True, None
            self._stir()

    def _stir(self) -> None:
        self._stirred.set()
        if self._leave is not None:
            self._leave.set()

    def container_came(self, identity: str, cgroup: Cgroup) -> None:
        self._containers[identity] = _Container(cgroup, asyncio.create_task(self._take_up(identity, cgroup)))

    def container_went(self, identity: str) -> None:
        if (container := self._containers.pop(identity, None)) is not None:
            container.cancel()
            self._pods.station.kernel.maps.ungate(container.passes)
            if container.holds and not any(each.holds for each in self._containers.values()):
                self._holder = None  # its number is another process's soon
        if self._attachment is not None:
            self._pods.keep(self._part(self._attachment, identity))

    async def end(self) -> None:
        """Its cgroup is gone, or the agent ends: then what holds it stays, and nobody answers it."""
        self._life.cancel()
        for container in self._containers.values():
            container.cancel()
        await asyncio.gather(self._life, *(container.task for container in self._containers.values()), return_exceptions=True)
        await asyncio.to_thread(self.closure.devices.end, gone=not self._pods.ending)
        if not self._pods.ending:
            await self._open()
            forget(self._pods.settings.run / "pods" / self.uid)
            self._say("ended")

    # its life

    async def _live(self) -> None:
        while True:
            self._stirred.clear()
            wanted = self._wanted
            try:
                if self._left:
                    await self._open()
                    self._settle()
                    self._say("ended", why="no policy means it")
                elif wanted is None:
                    if self._new:
                        self.closure.close()
                        await self._shut()
                elif not await self._refused(wanted):
                    await self._hold(wanted)
            except Exception as error:  # of what closes it or opens it: tried again, since until then nobody knows what holds it
                if not isinstance(error, StockadeError | OSError):
                    log.exception("%s", self.uid)
                self._say("failed", wanted, why=f"what holds it cannot be changed: {error or type(error).__name__}")
                asyncio.get_running_loop().call_later(AGAIN, self._stirred.set)
            await self._rest()

    async def _rest(self) -> None:
        """Until there is something to do. Some runtimes give a pod its devices when its first process runs already."""
        while not self._stirred.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), LOOK if self.closure.programs else None)
            if not self._stirred.is_set():
                await self._shut()

    async def _refused(self, wanted: Wanted) -> bool:
        """Whether everything it asks for is, because of what it is."""
        self.closure.close()
        await self._shut()
        if not wanted.pod.host_network and wanted.policies:
            return False
        await asyncio.to_thread(self.closure.devices.silence)
        why = "it shares the node's network" if wanted.pod.host_network else "no policy that means it could be read"
        self._settle()
        self._say("refused", wanted, why=f"{why}: everything it asks for is refused")
        return True

    async def _hold(self, wanted: Wanted) -> None:
        """Until it ends, or something else is wanted. What goes wrong is said, and it stays closed."""
        leave = self._leave = asyncio.Event()
        if (holder := self._holder) is None:  # whoever finds it stirs
            self._say("failed" if self._orphaned else "waiting", wanted, why=ORPHANED if self._orphaned else "")
            return
        self._say("waiting", wanted)
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(self._settled.clear)
                attachment = await self._attach(stack, wanted, holder)
                await attachment.hold(leave)
                if self._holder is holder:
                    self._holder = None  # it has ended
        except PolicyError as error:
            self._say("failed", wanted, why="its policy cannot be read", problems=_located(error.problems))
        except Exception as error:
            if not isinstance(error, StockadeError | OSError):
                log.exception("%s", wanted.pod.called)
            self._say("failed", wanted, why=str(error) or type(error).__name__)
        finally:
            if self._attachment is None and not self._pods.ending:
                self.closure.take_off_the_old()  # which judges by old policies, while ours closes it
            self._attachment, self._leave = None, None
            self._joined.clear()
        if not self._stirred.is_set():
            await asyncio.to_thread(self.closure.devices.silence)
            self._say_again()
            self._settle()

    async def _attach(self, stack: contextlib.AsyncExitStack, wanted: Wanted, holder: First) -> PodAttachment:
        pods, settings, name = self._pods, self._pods.settings, wanted.pod.called
        joined = Joined(holder.pid)
        stack.callback(joined.close)
        if holder.pid not in self.cgroup.processes():
            raise StockadeError("the process that held its namespaces has ended", code="no_process")
        self._gateways = await asyncio.to_thread(gateways, joined)
        order, watch = self._order(wanted), Watch()
        policy = await asyncio.to_thread(self._read, order, watch)
        slot = await asyncio.to_thread(lambda: Slot.take(settings, pods.bpffs, parent=PARENT))
        stack.callback(slot.release)
        await asyncio.to_thread(joined.add_addresses, settings.network)
        init = os.pidfd_open(holder.pid)
        try:
            sockets = await pods.nursery.sockets(init, settings.network)
        finally:
            os.close(init)
        for each in sockets:  # whoever serves one closes it before; else the next attempt would find its port taken
            stack.callback(each.close)
        file = settings.run / "pods" / self.uid
        authority = await asyncio.to_thread(kept, file, name)
        if authority is None:
            authority = await asyncio.to_thread(signing.begin, name, settings.configured.ca, policy)
            keep(file, authority)
        volume = wanted.trusts or self._volume()
        self._trust = await asyncio.to_thread(trust.give, volume, authority.certificate_pem) if volume is not None else ""
        before = self.closure.left_behind()
        charged = Charged(order, policy, watch, self._load, authority, "keep" if before else "cut", self._trust)
        target = Target(self.cgroup, holder.pid, name=name)
        attachment = PodAttachment(pods.station, slot, target, charged, joined, sockets, self.closure.programs, pods.shared)
        stood = await attachment.begin(stack, _serving)
        self.closure.take_off_the_old()
        self._attachment, self._unheld = attachment, stood.unheld
        tenure = attachment.tenure
        tenure.generations.kept = self._say_governed
        tenure.renewal.changed = lambda: keep(file, tenure.renewal.authority)
        await tenure.renewal.prepare(policy, ())  # a key that was kept is good for what was named then
        self._say_governed()
        self._settle()
        for identity, container in self._containers.items():
            if container.task.done() and not container.holds:
                self._take_up_again(identity, container)
        return attachment

    def _settle(self) -> None:
        self._settled.set()

    def _volume(self) -> Path | None:
        """Where it has its trust store, if it has one."""
        return trust.directory(self.uid, self._pods.settings.configured.kubernetes.kubelet)

    # its policy

    def _order(self, wanted: Wanted) -> Order:
        labels, file = tuple(wanted.pod.labels.items()), self._pods.settings.configured.file
        return Order((), wanted.policies, name=wanted.pod.called, labels=labels, observe=wanted.observe, settings=file)

    def _read(self, order: Order, watch: Watch) -> Policy:
        with watch.reading() as named:
            policy = self._load(1, named)
            named += policy.sources
        return policy

    def _load(self, generation: int, named: list[Path]) -> Policy:
        """What is wanted now. In a thread. Raises StockadeError."""
        wanted, networks = self._wanted, (*self._pods.node_networks, *self._gateways)
        if wanted is None:
            raise StockadeError("no policy means it any more", code="no_policy")
        found = self._order(wanted).policy(generation, named)
        probes = tuple(Inbound(port, networks) for port in wanted.pod.ports) if networks else ()
        exec_ = dataclasses.replace(found.exec, writable=True)
        return Entered.of(dataclasses.replace(found, sandbox=wanted.pod.called, exec=exec_, inbound=(*found.inbound, *probes)))

    async def _reload(self, attachment: PodAttachment) -> None:
        done = await attachment.tenure.generations.reload("cluster")
        if self._attachment is attachment:
            self._say_governed(why=done.why, problems=_located(done.problems), switched=done.switched)

    # its containers

    async def _take_up(self, identity: str, cgroup: Cgroup) -> None:
        """From its cgroup to its being governed. Whatever fails leaves it without a way out."""
        try:
            found = await arrival(identity, cgroup)
            if found is None:
                return
            try:
                await self._arrived(found)
            finally:
                container = self._containers.get(identity)
                if self._pods.ending:
                    found.thaw()  # one that waits at its gate waits for the next agent
                else:
                    if container is not None and not self._governs(identity):
                        self._let_begin(container)
                    found.go_on()
                    if container is not None:
                        container.begins = asyncio.create_task(found.begin())
            if self._attachment is not None:  # which may have come when this was decided already, and left out who was not done
                asyncio.get_running_loop().call_soon(self._again, identity)
        except Exception as error:
            if not isinstance(error, StockadeError | OSError):
                log.exception("%s", self.uid)
            log.error("%s: container %s is not governed, and reaches nothing: %s", self.uid, identity[:12], error)
            self._say_governed(why=f"container {identity[:12]} is not governed, and reaches nothing: {error or type(error).__name__}")
            asyncio.get_running_loop().call_later(AGAIN, self._again, identity)

    def _again(self, identity: str) -> None:
        """Take it up once more, where that failed and it is still there."""
        container = self._containers.get(identity)
        if (
            container is not None
            and container.task.done()
            and not container.holds
            and not self._pods.ending
            and not self._governs(identity)
        ):
            self._take_up_again(identity, container)

    def _take_up_again(self, identity: str, container: _Container) -> None:
        container.cancel()
        self._pods.station.kernel.maps.ungate(container.passes)
        container.task = asyncio.create_task(self._take_up(identity, container.cgroup))

    def _governs(self, identity: str) -> bool:
        attachment = self._attachment
        return attachment is not None and any(place.identity == identity for place in attachment.governed.places.values())

    def _let_begin(self, container: _Container) -> None:
        """Also who comes into it later, until it is taken up again."""
        with contextlib.suppress(OSError):
            container.passes = container.cgroup.id
            self._pods.station.kernel.maps.let_begin(container.passes, container.cgroup.level)

    async def _arrived(self, found: Arrival) -> None:
        if found.bundle.holds:
            self._containers[found.identity].holds = True
            self._holder, self._orphaned = found.process, False
            if self._new and self._wanted is None and not self._left and _is_the_nodes(found.process):
                self._new = False
                await self._open()  # the way to the API may lead through it, and nothing in the node's network is told from the node
            elif self._left and not self._new:
                await asyncio.to_thread(self.closure.devices.open, found.process.pid)  # an agent before this one may have closed them
            else:
                await self._shut()
            self._stirred.set()
            return
        if (container := self._containers.get(found.identity)) is None:
            return  # it has just ended
        container.process, container.name = found.process, found.bundle.name or found.identity[:12]
        container.powers = await asyncio.to_thread(powers, found)
        await self._shut()
        self._say_again()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), DECIDES)
        if self._attachment is not None:
            await self._join(self._attachment, found)
            return
        if self._holder is None and not self._settled.is_set():
            self._orphaned = True
            if self._wanted is not None:
                self._settle()  # no other container of it waits for what does not come
                self._say("failed", self._wanted, why=ORPHANED)
        if self.closure.programs:
            await self._shut()
            said = ungoverned.record(self._standing, self._wanted, container.name, found, self._loose_of(container))
            self._pods.station.trail.append(*said)
        if (volume := self._volume()) is not None:  # the variables of its containers lead there
            await asyncio.to_thread(trust.give, volume)

    async def _join(self, attachment: PodAttachment, found: Arrival) -> None:
        wanted = self._wanted
        image = wanted.pod.containers.get(found.bundle.name, "") if wanted is not None else ""
        joining = await attachment.join(found, image)
        self._joined[joining.name] = joining
        log.info("%s: container %s is governed, %d µs after its first instruction", self.uid, joining.name, joining.gap_us)
        self._say_governed()

    async def _part(self, attachment: PodAttachment, identity: str) -> None:
        with contextlib.suppress(StockadeError):
            await attachment.part(identity)

    # what holds it

    async def _shut(self) -> None:
        """Its devices too, where it is closed and somebody knows where they are. One that cannot be is tried again, and told."""
        if self.closure.programs and self._attachment is None and (process := self._known_process()) is not None:
            before = self.closure.devices.failure, self.closure.devices.shared
            await asyncio.to_thread(self.closure.devices.shut, process.pid, holds=process is self._holder)
            if (self.closure.devices.failure, self.closure.devices.shared) != before:
                self._say_again()

    def _known_process(self) -> First | None:
        """One that is in its network namespace."""
        others = (container.process for container in self._containers.values() if container.process is not None)
        return self._holder or next(others, None)

    async def _open(self) -> None:
        """Nothing of ours holds it."""
        await self.closure.open([container.passes for container in self._containers.values()], self._known_process())

    # what is said of it

    def _say_governed(self, *, why: str = "", problems: tuple[str, ...] = (), switched: bool = True) -> None:
        attachment, wanted = self._attachment, self._wanted
        if attachment is None or wanted is None:
            return
        unheld = (*self._unheld, *(word for each in self._joined.values() for word in each.unheld))
        self._standing = Standing(
            self.uid,
            "governed",
            attachment.governed.policy.generation,
            wanted.revision if switched else self._standing.revision,
            why,
            problems,
            unheld,
            self._trust,
            {name: each.gap_us for name, each in self._joined.items()},
        )
        self._pods.tell(self._standing)

    def _say(self, state: State, wanted: Wanted | None = None, *, why: str = "", problems: tuple[str, ...] = ()) -> None:
        revision = wanted.revision if wanted is not None else ""
        self._standing = Standing(self.uid, state, revision=revision, why=why, problems=problems, unheld=self._loose())
        self._pods.tell(self._standing)

    def _say_again(self) -> None:
        """Where it is not governed, and more is known of what is not held of it."""
        if self._standing.state != "governed" and (unheld := self._loose()) != self._standing.unheld:
            self._standing = dataclasses.replace(self._standing, unheld=unheld)
            self._pods.tell(self._standing)

    def _loose(self) -> tuple[str, ...]:
        """By what it could get out while it is closed."""
        if not self.closure.programs:
            return ()
        known = [container for container in self._containers.values() if container.powers is not None]
        found = [word for container in known for word in self._loose_of(container)]
        if self.closure.devices.failure and not known:
            found.append(f"its devices are open: {self.closure.devices.failure}")
        return tuple(found)

    def _loose_of(self, container: _Container) -> list[str]:
        return ungoverned.loose(container.name, container.powers or Powers(), self.closure.devices)


def _is_the_nodes(process: First) -> bool:
    """Whether it shares the network with the agent, where that one has the node's."""
    try:
        own, theirs = Path("/proc/self/ns/net").stat().st_ino, Path(f"/proc/{process.pid}/ns/net").stat().st_ino
    except OSError:
        return False
    return own == theirs


async def _serving(_stack: contextlib.AsyncExitStack) -> None:
    """Events are read, and the worker is there, for every pod."""


def _located(problems: tuple[Problem, ...]) -> tuple[str, ...]:
    return tuple(f"{each.path}:{each.line}:{each.column}: {each.message} [{each.code}]" for each in problems)
