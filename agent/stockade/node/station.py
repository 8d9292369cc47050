"""The node's agent: one kernel, trail and worker for every pod, and each pod's time with it.

Begins anew whenever it starts. What the agent before it had attached holds on by its pins; each pod is taken up again from what the node
shows of it, and only then is the old taken off. So any version follows any other, and nothing is open between two.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from stockade.audit import Trail
from stockade.audit.record import Json
from stockade.daemon.nursery import Nursery
from stockade.kernel.load import Kernel
from stockade.node.addresses import IPNetwork, of_node
from stockade.node.closure import pins_of
from stockade.node.held import HeldPod
from stockade.node.places import Places, of_a_file
from stockade.node.pod import Listener, Standing, Wanted
from stockade.sandbox.cgroup import Cgroup
from stockade.service.enforcement import Common
from stockade.service.settings import Settings
from stockade.service.station import Station
from stockade.service.workers import Workers
from stockade.types import StockadeError

log = logging.getLogger(__name__)

NAME = "node"
_LOOK = 1.0  # seconds between two looks at whether a pod has ended
_PINS = "node-"  # begins the name of the directory of pins of one agent's own programs


def listeners() -> Cgroup:
    """Where the agent's sockets in all pods are made: they answer ORIGIN."""
    return Cgroup.make("listeners-node")


class Pods:
    """The `Node` of whoever knows the cluster. node_networks: from where the node itself comes into its pods, beside its own addresses."""

    def __init__(
        self, settings: Settings, nursery: Nursery, workers: Workers, bpffs: Path, node_networks: tuple[IPNetwork, ...] = ()
    ) -> None:
        self.settings, self.nursery, self.bpffs = settings, nursery, bpffs
        self.node_networks = (*node_networks, *of_node())
        self._workers = workers
        self.life = f"{os.getpid()}-{secrets.token_hex(4)}"  # names what this agent pins: an agent that died may have had its number
        self.ending = False
        self._held: dict[str, HeldPod] = {}
        self._wanted: dict[str, Wanted] = {}  # of those whose cgroup is not there yet, too
        self._left: set[str] = set()
        self._forgotten: set[str] = set()  # by the API, while something of them may run
        self._watching = False  # everything that was there before has been told
        self._listener: Listener | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._before: list[Path] = []

    async def begin(self, stack: contextlib.AsyncExitStack, listener: Listener) -> None:
        """Pods can be wanted when this returns. What is to be undone goes onto the stack. Raises StockadeError."""
        settings, self._listener = self.settings, listener
        settings.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock(stack)
        settings.log.mkdir(mode=0o750, parents=True, exist_ok=True)
        trail = Trail.open(settings.log / f"{NAME}.jsonl", settings.configured.audit)
        stack.callback(trail.close)
        trail.subscribers.append(self._recorded)
        self._before = list(self.bpffs.glob(f"{_PINS}*"))
        kernel = await asyncio.to_thread(Kernel, settings.network, self.bpffs / f"{_PINS}{self.life}")
        stack.callback(lambda: kernel.close(unpin=not self._held))
        kernel.answer_origins(listeners().path)
        kernel.attach_tracepoints()
        self.shared = Common(kernel.links)
        self.station = Station(NAME, settings, kernel, trail, self._workers, settings.configured.metrics.listen)
        await self.station.begin(stack)
        stack.push_async_callback(self._workers.end)
        stack.push_async_callback(self._end)
        self._places = Places(self)
        places = asyncio.create_task(self._places.watch())
        stack.callback(places.cancel)
        await asyncio.sleep(0)  # what is there is told before its first wait
        self._watching = True
        self._sweep()
        self.taken_over()
        self.station.serve_metrics()

    def _lock(self, stack: contextlib.AsyncExitStack) -> None:
        """One agent for a node: two would each take the other's pods for strangers. Raises StockadeError."""
        lock = os.open(self.settings.run / f"{NAME}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StockadeError("this node has an agent", hint="it ends before the next one begins", code="busy") from None

    def _sweep(self) -> None:
        """What held pods that are no more."""
        held = {pins for each in self._held.values() for pins in self.bpffs.glob(f"{pins_of(each.id)}*")}
        for pins in set(self.bpffs.glob("pod-*")) - held:
            shutil.rmtree(pins, ignore_errors=True)
        for file in (self.settings.run / "pods").glob("*"):
            if file.name not in self._held:
                file.unlink(missing_ok=True)

    def taken_over(self) -> None:
        """Let go of the programs that agents before this one had for all pods, once none of these is held by what they left."""
        if self._before and not any(held.closure.left_behind() for held in self._held.values()):
            for pins in self._before:
                shutil.rmtree(pins, ignore_errors=True)
            self._before.clear()

    async def _end(self) -> None:
        self.ending = True
        await asyncio.gather(*(held.end() for held in self._held.values()))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Node: what is wanted

    def want(self, wanted: Wanted) -> None:
        uid = wanted.pod.uid
        self._left.discard(uid)
        self._forgotten.discard(uid)
        self._wanted[uid] = wanted
        if uid not in self._held:
            self._places.tell_again(uid)  # one that had ended, and whose cgroup is still there
        if (held := self._held.get(uid)) is not None:
            held.want(wanted)
        else:
            self.tell(Standing(uid, "waiting", revision=wanted.revision))

    def leave(self, uid: str) -> None:
        self._forgotten.discard(uid)
        self._wanted.pop(uid, None)
        self._left.add(uid)
        if (held := self._held.get(uid)) is not None:
            held.leave()

    def forget(self, uid: str) -> None:
        self._left.discard(uid)
        if uid in self._held:
            self._forgotten.add(uid)
            self.keep(self._outlived(uid))
        else:
            self._wanted.pop(uid, None)

    async def _outlived(self, uid: str) -> None:
        """A kubelet may leave a pod's cgroup where it is: it has ended when nothing is in it."""
        while (held := self._held.get(uid)) is not None and held.cgroup.populated() and not self.ending:
            await asyncio.sleep(_LOOK)
        if held is not None and uid in self._forgotten and not self.ending:
            self.pod_went(uid)

    # Told: what is there

    def pod_came(self, uid: str, cgroup: Cgroup) -> None:
        try:
            new = (self._watching or not cgroup.populated()) and uid not in self._left and not of_a_file(uid)
            held = self._held[uid] = HeldPod(self, uid, cgroup, new=new)
        except (StockadeError, OSError) as error:
            log.error("pod %s cannot be held: %s", uid, error)
            return
        if (wanted := self._wanted.get(uid)) is not None:
            held.want(wanted)
        elif uid in self._left:
            held.leave()

    def pod_went(self, uid: str) -> None:
        if (held := self._held.pop(uid, None)) is not None:
            self._wanted.pop(uid, None)
            self._left.discard(uid)
            self._forgotten.discard(uid)
            self.keep(held.end())

    def container_came(self, uid: str, identity: str, cgroup: Cgroup) -> None:
        if (held := self._held.get(uid)) is not None:
            held.container_came(identity, cgroup)

    def container_went(self, uid: str, identity: str) -> None:
        if (held := self._held.get(uid)) is not None:
            held.container_went(identity)

    # of its pods

    def tell(self, standing: Standing) -> None:
        if self._listener is not None:
            self._listener.stands(standing)

    def _recorded(self, record: Json) -> None:
        uid = record["sandbox"]["labels"].get("pod_uid")
        if uid is not None and self._listener is not None:
            self._listener.recorded(uid, record)

    def keep(self, work: Coroutine[Any, Any, object]) -> None:
        """Do it, and do not wait for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what a pod needed was not done", exc_info=error)
