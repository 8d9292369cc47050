"""The daemon's agent: one kernel, one trail and one worker for every sandbox of the machine, and what its predecessor left of them.

The programs are attached once, to the cgroup that all of its sandboxes lie in; a sandbox of its own has its devices, and its entries in the
maps. When the daemon dies they go on deciding, and what they do not know they deny: the sandboxes live on without egress until the next
daemon takes all of them over. What it finds of another build it leaves held, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockade import __version__
from stockade.audit import Trail
from stockade.daemon.nursery import Nursery
from stockade.kernel.backend import Backend
from stockade.kernel.links import Link
from stockade.kernel.load import Kernel, Lost, Pinned
from stockade.kernel.syscall import LinkInfo
from stockade.sandbox import exited
from stockade.sandbox.cgroup import HOSTED, Cgroup
from stockade.sandbox.plan import Plan
from stockade.service import state, verbs
from stockade.service.control import Control
from stockade.service.enforcement import lost_of
from stockade.service.orphans import orphans
from stockade.service.resume import Resumed, end, resume
from stockade.service.session import Held, Session
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.station import Station
from stockade.service.workers import Workers
from stockade.types import StockadeError

log = logging.getLogger(__name__)

NAME = "daemon"
_DIGITS = 12  # of a build's digest
LOOK = 0.4  # seconds for which what was seen of the programs that hold everybody is good
UNKNOWN = 125  # exit status of a command that nobody was told of


@dataclass(frozen=True, slots=True)
class _Machine:
    """What holds every sandbox of a daemon, as it writes it down for the next one."""

    build: str
    backend: str
    links: tuple[Pinned, ...]

    def write(self, path: Path) -> None:
        """Whole or not at all. Raises OSError."""
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123 (a descriptor)
            json.dump(dataclasses.asdict(self), file)
        new.rename(path)

    @classmethod
    def read(cls, path: Path) -> _Machine | None:
        """None: none is there, or it is not what a daemon wrote. Whatever it names is looked at before it is believed."""
        try:
            found: dict[str, Any] = json.loads(path.read_text())
            links = tuple(Pinned(str(link["name"]), str(link["pin"]), LinkInfo(**link["info"])) for link in found["links"])
            return cls(str(found["build"]), str(found["backend"]), links)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s is not what a daemon wrote: %s", path, error)
            return None


@dataclass(slots=True)
class Hosted:
    """A sandbox that is served. reload: asks for one. session: of one that was started here, and not taken over."""

    name: str
    slot: Slot
    reload: Callable[[], object]
    task: asyncio.Task[object]
    session: Session | None = None


class Host:
    """The `Post` of every session. bpffs: where programs and maps are pinned."""

    def __init__(self, settings: Settings, nursery: Nursery, workers: Workers, bpffs: Path) -> None:
        self._settings, self._nursery, self._workers, self._bpffs = settings, nursery, workers, bpffs
        self.hosted: dict[int, Hosted] = {}
        self._guards: dict[int, Link] = {}  # by slot: what is of one sandbox alone
        self._looked, self._lost = 0.0, list[str]()
        self._keeping = False

    async def begin_all(self, stack: contextlib.AsyncExitStack) -> list[str]:
        """Take over what is there, and be ready for more. Lines for whoever started the daemon. Raises StockadeError."""
        settings = self._settings
        settings.log.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._build = await asyncio.to_thread(state.build, settings.network)
        waiting = [orphan.number for orphan in await asyncio.to_thread(orphans, settings, self._bpffs)]
        trail = Trail.open(settings.log / f"{NAME}.jsonl", settings.configured.audit)
        stack.callback(trail.close)
        found = [slot for number in waiting if (slot := self._seize(number)) is not None]
        kernel, lost = await asyncio.to_thread(self._kernel, found)
        stack.callback(lambda: kernel.close(unpin=not self._guards))
        self._station = station = Station(NAME, settings, kernel, trail, self._workers, settings.configured.metrics.listen)
        await station.begin(stack)
        stack.push_async_callback(self._workers.end)
        said = []
        for slot in found:
            said.append(await self._take_over(slot, lost))
        await asyncio.to_thread(kernel.maps.release_but, {slot.number for slot in found if slot.number in self.hosted})
        station.serve_metrics()
        return said

    def _seize(self, number: int) -> Slot | None:
        slot = Slot.seize(self._settings, self._bpffs, number)
        if slot is not None and not slot.hosted:  # the agent of a `stockade run` died: `stockade adopt`
            slot.let_go()
            return None
        return slot

    def _kernel(self, found: list[Slot]) -> tuple[Kernel, list[str]]:
        """What another daemon of this build pinned while sandboxes of it live, else everything anew; and what was lost of the former."""
        network, name = self._settings.network, f"{NAME}-{self._build[:_DIGITS]}"
        pins, path = self._bpffs / name, self._settings.run / f"{name}.json"
        self._sweep(name)
        lost: list[str] = []
        machine = _Machine.read(path)
        if found and machine is not None:
            try:
                return Kernel.adopt(network, pins, machine.links, Backend(machine.backend)), lost
            except Lost as error:
                lost = [str(word) for word in error.args]
        elif found:
            lost = ["what the daemon before this one wrote down is gone"]
        shutil.rmtree(pins, ignore_errors=True)
        path.unlink(missing_ok=True)
        kernel = Kernel(network, pins)
        try:
            kernel.govern(Cgroup.make("", self._parent).path)
            kernel.answer_origins(listeners().path)
            kernel.attach_tracepoints()
            _Machine(self._build, kernel.backend.value, kernel.held_by()).write(path)
        except BaseException:
            kernel.close()
            raise
        return kernel, lost

    @property
    def _parent(self) -> str:
        """Of the sandboxes of this build: another's programs would have them for strangers."""
        return f"{HOSTED}-{self._build[:_DIGITS]}"

    def _sweep(self, own: str) -> None:
        """What daemons of other builds left, and nobody lives under."""
        for pins in self._bpffs.glob(f"{NAME}-*"):
            parent = Cgroup.named("", f"{HOSTED}-{pins.name.removeprefix(f'{NAME}-')}")
            if pins.name != own and not parent.populated():
                shutil.rmtree(pins, ignore_errors=True)
                (self._settings.run / f"{pins.name}.json").unlink(missing_ok=True)
                parent.remove()

    # of one sandbox: the Post of its session

    async def station(self, plan: Plan) -> Station:
        return self._station

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Everything has begun."""

    def hold(self, kernel: Kernel, slot: Slot, guard: Callable[[], Link]) -> Held:
        link = self._guards[slot.number] = guard()
        return Held((Pinned.of(link),), self._watching(link))

    def _watching(self, link: Link) -> Callable[[], list[str]]:
        return lambda: [*self._machine_lost(), *lost_of([link])]

    def _machine_lost(self) -> list[str]:
        """Of what holds everybody: looked at once for all who ask at about the same time."""
        if time.monotonic() - self._looked > LOOK:
            guards = set(map(id, self._guards.values()))
            self._lost = lost_of(link for link in self._station.kernel.links if id(link) not in guards)
            self._looked = time.monotonic()
        return self._lost

    def _let_go(self, slot: Slot) -> None:
        """Nothing of the sandbox runs any more, or it is kept for the next daemon."""
        link = self._guards.get(slot.number)
        if self._keeping:
            slot.let_go()
            return
        if link is not None:
            self._station.kernel.take_off(link)
            del self._guards[slot.number]
        slot.release()

    async def run(self, slot: Slot, session: Session, started: Callable[..., None]) -> int:
        """One sandbox from its start to its end. Raises StockadeError."""
        task = asyncio.current_task()
        assert task is not None
        self.hosted[slot.number] = Hosted(session.name, slot, lambda: session.reload(), task, session)
        try:
            return await session.run(self, started)
        finally:
            session.kept = session.kept and session.init is not None
            self.hosted.pop(slot.number, None)
            await asyncio.to_thread(self._let_go, slot)

    def take(self) -> Slot:
        """A slot for one more. Raises StockadeError."""
        return Slot.take(self._settings, self._bpffs, parent=self._parent)

    # of one that was there

    async def _take_over(self, slot: Slot, lost: list[str]) -> str:
        """A line on what became of it."""
        kernel, trail = self._station.kernel, self._station.trail
        try:
            found = slot.state.read(self._build)
            names = slot.state.names()
        except StockadeError as error:
            slot.let_go()
            return f"{error.message}: it stays held"
        try:
            if lost:
                raise Lost(*lost)
            link = self._guards[slot.number] = kernel.take_over(found.kept.links[0])
            init = os.pidfd_open(found.init.pid)
            try:
                sockets = await self._nursery.sockets(init, self._settings.network)
            except BaseException:
                os.close(init)
                raise
            resumed = await resume(self._station, slot, found, names, sockets, self._watching(link))
        except Lost as gone:
            said = end(slot, found, trail, [str(word) for word in gone.args]).message
            await asyncio.to_thread(self._let_go, slot)
            return said
        except (OSError, StockadeError) as failed:
            slot.let_go()
            return f"{found.sandbox.name} was not taken over: {failed}"
        serving = asyncio.Event()
        task = asyncio.create_task(self._serve_on(slot, resumed, init, serving))
        self.hosted[slot.number] = Hosted(found.sandbox.name, slot, lambda: resumed.tenure.generations.ask("signal"), task)
        waits = [asyncio.ensure_future(serving.wait()), task]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        waits[0].cancel()
        return f"took over {found.sandbox.name}"

    async def _serve_on(self, slot: Slot, resumed: Resumed, init: int, serving: asyncio.Event) -> None:
        began, tenure, found = time.monotonic(), resumed.tenure, resumed.found
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(os.close, init)
                stack.callback(resumed.governed.roster.close)
                control = Control.take(self._settings.control, found.sandbox.name)
                stack.callback(control.close)
                stack.push_async_callback(self._forget, slot, slot.sandbox.id)
                await tenure.begin(stack)
                resumed.tell(time.monotonic() - began)
                control.serve(verbs.of(resumed.governed, tenure.generations, tenure.desk, tenure.doors, tenure.observed, tenure.renewal))
                serving.set()
                await tenure.hold(found.init.pid, asyncio.create_task(_status(init, found.init.pid)))
        except StockadeError as error:
            log.error("%s: %s", found.sandbox.name, error.message)
        finally:
            self.hosted.pop(slot.number, None)
            await asyncio.to_thread(self._let_go, slot)

    async def _forget(self, slot: Slot, cgroup_id: int) -> None:
        if not self._keeping:
            await asyncio.to_thread(slot.empty)
            await asyncio.to_thread(self._station.kernel.maps.release, slot.number, cgroup_id)

    async def keep_all(self) -> None:
        """Leave every sandbox to the next daemon: held, and from now on without egress."""
        self._keeping = True
        for hosted in list(self.hosted.values()):
            if hosted.session is not None:
                hosted.session.kept = hosted.session.init is not None
        await self._workers.end()  # what is open gets its record now
        tasks = [hosted.task for hosted in self.hosted.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def node(self) -> dict[str, Any]:
        """This daemon and its sandboxes, for whoever looks after many."""
        observed = self._station.observed
        return {
            "version": __version__,
            "build": self._build,
            "pid": os.getpid(),
            "backend": self._station.kernel.backend.value,
            "audit": str(self._station.trail.path),
            "metrics": self._station.metrics,
            "entries": {name: held for name, (held, _) in self._station.kernel.maps.entries().items()},
            "sandboxes": [observed[number].snapshot().statistics() for number in sorted(observed)],
        }


def listeners() -> Cgroup:
    """Where the agent's sockets in all sandboxes are made: they answer ORIGIN."""
    return Cgroup.make("listeners-daemon")


async def _status(init: int, pid: int) -> int:
    status = await exited.status(init, pid)
    return UNKNOWN if status is None else status
