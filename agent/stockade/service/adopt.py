"""`stockade adopt`: an agent for a sandbox whose own has died.

What the kernel holds is taken over as it is; what died with the agent is made again: the sockets inside, the worker, the resolver.
Everything is checked before anything is opened, and the newest policy is in force before anybody listens. What was taken away ends the
sandbox; what cannot be read, or cannot be had now, leaves it as it was: held, and reaching nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from stockade.audit import Trail
from stockade.kernel.load import Kernel, Lost, mounted_bpffs
from stockade.policy.rego import judge
from stockade.sandbox import exited
from stockade.sandbox.launch import Sockets, listen_again
from stockade.service import orphans, state, verbs
from stockade.service.control import Control
from stockade.service.enforcement import lost_of
from stockade.service.resume import end, resume
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.state import Process, State
from stockade.service.station import Station
from stockade.service.workers import Workers
from stockade.settings import configured
from stockade.types import StockadeError

UNKNOWN = 125  # exit status when the command's is not known
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_WORKER_ENDS = 5000  # ms


@dataclass(frozen=True, slots=True)
class Adopted:
    """What is said when it is done. gap: seconds for which there was no agent, at most."""

    sandbox: str
    id: str
    init: int
    generation: int
    gap: int
    changed: tuple[str, ...]


def adopt(name: str, settings: Settings, done: Callable[[Adopted], None]) -> int:
    """Take over one sandbox and serve it to its end. Returns the status of its command, UNKNOWN where the kernel does not tell it.

    done: called when it is governed again. Raises StockadeError: it was not adopted.
    """
    if os.geteuid() != 0:
        raise StockadeError("stockade adopt needs root", hint="sudo stockade adopt …", code="not_root")
    judge.use(None)  # as in `run`
    slot = orphans.seized(settings, mounted_bpffs(settings.run / "bpf"), name)
    with contextlib.ExitStack() as stack:
        let_go = stack.enter_context(contextlib.ExitStack())
        let_go.callback(slot.let_go)
        if slot.hosted:
            hint = "systemctl start stockade, or `stockade daemon`: it takes over all that it finds"
            raise StockadeError(f"{name} is a daemon's", hint=hint, code="hosted")
        found = slot.state.read(state.build(settings.network))
        settings = dataclasses.replace(settings, configured=configured(found.kept.order.settings))
        init = os.pidfd_open(found.init.pid)
        stack.callback(os.close, init)
        if not found.init.lives:  # looked at once more: now the descriptor is this process's, whoever gets its PID next
            raise StockadeError(f"{name} has ended", code="no_orphan")
        names = slot.state.names()
        if found.worker is not None:
            _end_worker(found.worker)
        sockets = listen_again(init, settings.network, slot.listeners)
        workers = Workers.of(settings)
        adoption = _Adoption(settings, slot, found, names, init, sockets, workers, done)
        try:
            return asyncio.run(adoption.main())
        finally:
            if adoption.ours:
                let_go.pop_all()
                slot.release()


def _end_worker(worker: Process) -> None:
    """It ends by itself when its agent does, unless it was stopped: then it still holds the ports."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(worker.pid)
        try:
            if worker.lives:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll(_WORKER_ENDS)
        finally:
            os.close(descriptor)


class _Adoption:
    """ours: from when it is served, or ended. Until then whatever fails leaves it as it was: held, and without an agent."""

    def __init__(
        self,
        settings: Settings,
        slot: Slot,
        found: State,
        names: list[tuple[int, str]],
        init: int,
        sockets: Sockets,
        workers: Workers,
        done: Callable[[Adopted], None],
    ) -> None:
        self._settings, self._slot, self._state, self._names = settings, slot, found, names
        self._init, self._sockets, self._workers, self._done = init, sockets, workers, done
        self.ours = False

    async def main(self) -> int:
        loop = asyncio.get_running_loop()
        for number in _FORWARDED:
            loop.add_signal_handler(number, self._forward, number)
        began = time.monotonic()
        found, slot, network, kept = self._state, self._slot, self._settings.network, self._state.kept
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._workers.end)
            control = Control.take(self._settings.control, found.sandbox.name)
            stack.callback(control.close)
            assert kept.order.audit is not None, "it was written down where the trail is"
            trail = Trail.open(kept.order.audit, self._settings.configured.audit)
            stack.callback(trail.close)
            try:
                kernel = await asyncio.to_thread(Kernel.adopt, network, slot.pins, kept.links, kept.refuses_by)
                stack.callback(lambda: kernel.close(unpin=self.ours))
                listen = kept.order.listen(self._settings.configured.metrics)
                station = Station(found.sandbox.name, self._settings, kernel, trail, self._workers, listen)
                resumed = await resume(station, slot, found, self._names, self._sockets, functools.partial(lost_of, kernel.links))
            except Lost as lost:
                self.ours = True
                raise end(slot, found, trail, [str(word) for word in lost.args]) from None
            await station.begin(stack)
            await resumed.tenure.begin(stack)
            station.serve_metrics()
            self.ours = True
            gap = resumed.tell(time.monotonic() - began)
            tenure = resumed.tenure
            control.serve(verbs.of(resumed.governed, tenure.generations, tenure.desk, tenure.doors, tenure.observed, tenure.renewal))
            loop.add_signal_handler(signal.SIGHUP, tenure.generations.ask, "signal")
            ended = asyncio.create_task(self._ended())
            holding = asyncio.create_task(tenure.hold(found.init.pid, self._init, ended))
            generation = resumed.governed.policy.generation
            self._done(Adopted(found.sandbox.name, found.sandbox.id, found.init.pid, generation, gap, tuple(resumed.changed)))
            return await holding

    async def _ended(self) -> int:
        status = await exited.status(self._init, self._state.init.pid)
        return UNKNOWN if status is None else status

    def _forward(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init, number)
