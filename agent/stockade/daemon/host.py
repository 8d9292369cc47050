"""The daemon's agent: one kernel, one trail and one worker for every sandbox of the machine, and what its predecessor left of them.

The programs are attached once, to the cgroup that all of its sandboxes lie in; a sandbox of its own has its devices, and its entries in the
maps. When the daemon dies they go on deciding, and what they do not know they deny: the sandboxes live on without egress until the next
daemon takes all of them over. What it finds of another build it leaves held, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockade import __version__
from stockade.audit import AuditError, Trail
from stockade.daemon.attachments import Attachments
from stockade.daemon.nursery import Nursery
from stockade.daemon.programs import NAME, Programs, populated
from stockade.kernel.links import Link
from stockade.kernel.load import Kernel, Lost, Pinned
from stockade.sandbox import exited
from stockade.sandbox.cgroup import HOSTED
from stockade.sandbox.plan import Plan
from stockade.service import verbs
from stockade.service.control import Control
from stockade.service.orphans import BUSY, DIES, orphans
from stockade.service.resume import Resumed, end, resume
from stockade.service.session import Held, Session
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.station import Station
from stockade.service.workers import Workers
from stockade.types import StockadeError

log = logging.getLogger(__name__)


UNKNOWN = 125  # exit status of a command that nobody was told of
BEGINS = 4.0  # seconds in which it is known that a command has begun, when the daemon is to end


@dataclass(slots=True)
class Hosted:
    """A sandbox that is served. reload: asks for one. session: of one that was started here, and not taken over."""

    name: str
    slot: Slot
    reload: Callable[[], object]
    task: asyncio.Task[object]
    session: Session | None = None

    @property
    def begins(self) -> bool:
        """Whether its command may run already, and nobody knows its PID yet."""
        return self.session is not None and self.session.launching and self.session.init is None


class Host:
    """The `Post` of every session. bpffs: where programs and maps are pinned. attachments: what it did not start, once it has begun."""

    def __init__(self, settings: Settings, nursery: Nursery, workers: Workers, programs: Programs, bpffs: Path) -> None:
        self._settings, self._nursery, self._workers, self.programs, self._bpffs = settings, nursery, workers, programs, bpffs
        self.hosted: dict[int, Hosted] = {}
        self._keeping = False

    async def begin_all(self, stack: contextlib.AsyncExitStack) -> list[str]:
        """Take over what is there, and be ready for more. Lines for whoever started the daemon. Raises StockadeError."""
        settings = self._settings
        settings.log.mkdir(mode=0o750, parents=True, exist_ok=True)
        trail = Trail.open(settings.log / f"{NAME}.jsonl", settings.configured.audit)
        stack.callback(trail.close)
        await asyncio.to_thread(orphans, settings, self._bpffs)  # sweeps what ended while there was no daemon
        found = [slot for number in populated(f"{HOSTED}-*") if (slot := await self._seize(number)) is not None]
        lost = await asyncio.to_thread(self.programs.have)
        stack.callback(self.programs.close)
        self._station = station = Station(NAME, settings, self.programs.kernel, trail, self._workers, settings.configured.metrics.listen)
        station.agent.expect(slot.number for slot in found)
        station.patrol.common = lambda: not self.programs.lost(now=True)
        await station.begin(stack)
        self.attachments = Attachments(settings, self._nursery, station, self._bpffs)
        stack.push_async_callback(self._workers.end)
        stack.push_async_callback(self.keep_all)
        said = [await self._taken_over(slot, lost) for slot in found]
        await asyncio.to_thread(self.programs.forget_others, set(self.hosted))
        station.serve_metrics()
        return said

    async def _seize(self, number: int) -> Slot | None:
        """None while somebody else holds it for longer than a look takes."""
        until = time.monotonic() + BUSY
        while (slot := Slot.seize(self._settings, self._bpffs, number)) is None and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return slot

    # of one sandbox: the Post of its session

    async def station(self, plan: Plan) -> Station:
        return self._station

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Everything has begun."""

    def hold(self, kernel: Kernel, slot: Slot, guard: Callable[[], Link]) -> Held:
        if lost := self.programs.lost(now=True):
            raise StockadeError(f"what holds every sandbox was taken away: {'; '.join(lost)}", code="enforcement_lost")
        self.programs.write_down()  # counting opens may have added to it
        link = guard()
        return Held((Pinned.of(link),), self.programs.guard(slot.number, link))

    def _let_go(self, slot: Slot) -> None:
        """Nothing of the sandbox runs any more, or it is kept for the next daemon."""
        if self._keeping:
            slot.let_go()
            return
        slot.empty()
        self.programs.unguard(slot.number)
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
        if self._keeping or self.programs.broken:
            raise StockadeError("the daemon is ending", hint="the next one is asked like this one", code="ending")
        return Slot.take(self._settings, self._bpffs, parent=self.programs.parent)

    # of one that was there

    async def _taken_over(self, slot: Slot, lost: list[str]) -> str:
        """A line on what became of it. Whatever goes wrong with one is no reason not to take over the next."""
        try:
            return await self._take_over(slot, lost)
        except Exception as error:
            log.exception("%s", slot.sandbox.path.name)
            return f"{slot.sandbox.path.name} was not taken over: {error!r}"

    async def _take_over(self, slot: Slot, lost: list[str]) -> str:
        kernel, trail = self._station.kernel, self._station.trail
        try:
            found = slot.state.read(self.programs.build)
            names = slot.state.names()
        except StockadeError as error:
            if lost and slot.sandbox.path.parent.name == self.programs.parent:
                slot.release()
                return f"{error.message}; {'; '.join(lost)}: it was killed"
            slot.let_go()
            return f"{error.message}: it stays held"
        init = -1
        try:
            if lost:
                raise Lost(*lost)
            if not found.kept.links:
                raise Lost("what was written down of it names nothing that holds it")
            held = self.programs.guard(slot.number, kernel.take_over(found.kept.links[0]))
            init = os.pidfd_open(found.init.pid)
            sockets = await self._nursery.sockets(init, self._settings.network)
            resumed = await resume(self._station, slot, found, names, sockets, held)
        except Lost as gone:
            _close(init)
            try:
                said = end(slot, found, trail, [str(word) for word in gone.args]).message
            finally:
                await asyncio.to_thread(self._let_go, slot)
            return said
        except (OSError, StockadeError) as failed:
            _close(init)
            slot.let_go()
            return f"{found.sandbox.name} was not taken over, and stays held: {failed}"
        serving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._serve_on(slot, resumed, init, serving))
        self.hosted[slot.number] = Hosted(found.sandbox.name, slot, lambda: resumed.tenure.generations.ask("signal"), task)
        try:
            await serving
        except (OSError, StockadeError, AuditError) as failed:
            return f"{found.sandbox.name} was not taken over, and stays held: {failed}"
        return f"took over {found.sandbox.name}"

    async def _serve_on(self, slot: Slot, resumed: Resumed, init: int, serving: asyncio.Future[None]) -> None:
        """serving: settled when it is served. Until then whatever fails leaves it as it was: held, and for the next daemon."""
        began, tenure, found = time.monotonic(), resumed.tenure, resumed.found
        number, agent = slot.number, self._station.agent
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(os.close, init)
                stack.callback(resumed.governed.roster.close)
                control = Control.take(self._settings.control, found.sandbox.name)
                stack.callback(control.close)
                stack.push_async_callback(self._forget, slot, slot.sandbox.id, serving)
                await tenure.begin(stack)
                resumed.tell(time.monotonic() - began)
                control.serve(verbs.of(resumed.governed, tenure.generations, tenure.desk, tenure.doors, tenure.observed, tenure.renewal))
                serving.set_result(None)
                await tenure.hold(found.init.pid, init, asyncio.create_task(_status(init, found.init.pid)))
        except Exception as error:
            if not serving.done():
                serving.set_exception(error)
            else:
                log.error("%s: %s", found.sandbox.name, error)
        finally:
            self.hosted.pop(number, None)
            if number in agent.governed:  # it failed before that was on the stack
                agent.forget(number)
            if serving.done() and serving.exception() is not None:
                agent.expect([number])
                slot.let_go()
            else:
                await asyncio.to_thread(self._let_go, slot)

    async def _forget(self, slot: Slot, cgroup_id: int, serving: asyncio.Future[None]) -> None:
        if serving.done() and not self._keeping:
            await asyncio.to_thread(slot.empty)
            await asyncio.to_thread(self._station.kernel.maps.release, slot.number, cgroup_id)

    async def emptied(self) -> None:
        """Until everybody who was killed is on record; not for ever."""
        until = time.monotonic() + DIES
        while self.hosted and time.monotonic() < until:
            await asyncio.sleep(0.02)

    async def keep_all(self) -> None:
        """Leave every sandbox to the next daemon: held, and from now on without egress."""
        self._keeping = True
        until = time.monotonic() + BEGINS
        while any(hosted.begins for hosted in self.hosted.values()) and time.monotonic() < until:
            await asyncio.sleep(0.02)  # a command may have begun
        for hosted in list(self.hosted.values()):
            if hosted.session is not None:
                hosted.session.kept = hosted.session.init is not None
        await self._workers.end()  # what is open gets its record now
        await self.attachments.keep_all()
        tasks = [hosted.task for hosted in self.hosted.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def node(self) -> dict[str, Any]:
        """This daemon and its sandboxes, for whoever looks after many."""
        observed = self._station.observed
        return {
            "version": __version__,
            "build": self.programs.build,
            "pid": os.getpid(),
            "backend": self._station.kernel.backend.value,
            "audit": str(self._station.trail.path),
            "metrics": self._station.metrics,
            "entries": {name: held for name, (held, _) in self._station.kernel.maps.entries().items()},
            "sandboxes": [observed[number].snapshot().statistics() for number in sorted(observed)],
        }


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


async def _status(init: int, pid: int) -> int:
    status = await exited.status(init, pid)
    return UNKNOWN if status is None else status
