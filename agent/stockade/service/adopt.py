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
import math
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from stockade import signing
from stockade.audit import Trail
from stockade.kernel.load import Kernel, Lost, mounted_bpffs
from stockade.policy import Policy
from stockade.policy.rego import judge
from stockade.policy.summary import summary
from stockade.sandbox import exited
from stockade.sandbox.launch import Sockets, listen_again
from stockade.sandbox.limits import Limits, Wanted
from stockade.sandbox.roster import Enrolment, Roster
from stockade.service import orphans, state, verbs
from stockade.service.control import Control
from stockade.service.enforcement import lost_of
from stockade.service.generations import Detail
from stockade.service.governed import Governed
from stockade.service.session import load_for
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.state import Process, State
from stockade.service.static import demand_same
from stockade.service.station import Station
from stockade.service.tenure import Charge, Tenure
from stockade.service.watch import Watch
from stockade.service.workers import Workers
from stockade.settings import configured
from stockade.types import Action, Effect, Level, Outcome, Reason, Record, Sandbox, StockadeError

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
        self._watch = Watch()
        self._load = load_for(found.kept.order, found.sandbox.name, found.kept.binds)

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
            except Lost as lost:
                raise self._end(trail, [str(word) for word in lost.args]) from None
            stack.callback(lambda: kernel.close(unpin=self.ours))
            in_force = kernel.maps.generation(slot.sandbox.id)
            if in_force is None:
                raise self._end(trail, ["the sandbox's cgroup is no longer governed"])
            following, why = await asyncio.to_thread(self._following, in_force + 1)
            roster = _roster(kept.enrolments)
            sandbox = Sandbox(found.sandbox.id, found.sandbox.name, kept.policy.name, in_force, dict(kept.policy.labels))
            governed = Governed(slot.number, sandbox, slot.sandbox, kept.policy, roster, kernel.maps, network)
            try:
                changed = governed.resume(following, in_force, kept.facts, self._names)
            except (OSError, ValueError) as error:
                raise self._end(trail, [f"its policy cannot be put in force again: {error}"]) from None
            process = following.process
            wanted = Wanted(process.pids, process.memory, process.cpu)
            limits = Limits.impose(slot.sandbox, wanted, best_effort="limits" in following.best_effort)
            kept = dataclasses.replace(kept, policy=following)
            listen = kept.order.listen(self._settings.configured.metrics)
            station = Station(found.sandbox.name, self._settings, kernel, trail, self._workers, listen)
            held = functools.partial(lost_of, kernel.links)
            tenure = Tenure(station, Charge(slot, governed, self._sockets, limits, self._watch, self._load, held, kept, found.build))
            silence, counted = slot.last_beat()
            tenure.resume(counted)
            await station.begin(stack)
            await tenure.begin(stack)
            station.serve_metrics()
            self.ours = True
            gap = math.ceil(silence + time.monotonic() - began)
            detail: Detail = {
                "gap_seconds": gap,
                "init": found.init.pid,
                "sources": [str(path) for path in following.sources],
                "changed_binaries": changed,
                **signing.said(tenure.renewal.authority),
                **summary(following),
            }
            station.agent.lifecycle(governed, Reason.ADOPTED, detail)
            if why is not None:
                said: Detail = {"why": str(why), "cause": ["adoption"]}
                station.agent.write(
                    governed, Record(Action.POLICY, Outcome.DENY, Effect.REFUSE, Level.STATIC, Reason.RELOAD_REFUSED, detail=said)
                )
            control.serve(verbs.of(governed, tenure.generations, tenure.desk, tenure.doors, tenure.observed, tenure.renewal))
            loop.add_signal_handler(signal.SIGHUP, tenure.generations.ask, "signal")
            ended = asyncio.create_task(self._ended())
            holding = asyncio.create_task(tenure.hold(found.init.pid, ended))
            self._done(Adopted(found.sandbox.name, found.sandbox.id, found.init.pid, following.generation, gap, tuple(changed)))
            return await holding

    async def _ended(self) -> int:
        status = await exited.status(self._init, self._state.init.pid)
        return UNKNOWN if status is None else status

    def _forward(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init, number)

    def _following(self, generation: int) -> tuple[Policy, StockadeError | None]:
        """The policy as it is on disk now, when a reload would take it; else the one that was in force, and why. In a thread."""
        kept = self._state.kept
        enrolled = frozenset(kept.policy.binary_names()).union(*(enrolment.binary.names for enrolment in kept.enrolments))
        try:
            with self._watch.reading() as named:
                found = self._load(generation, named)
                named += found.sources
                demand_same(kept.policy, found, enrolled)
        except StockadeError as error:
            return kept.policy.with_generation(generation), error
        return found, None

    def _end(self, trail: Trail, lost: list[str]) -> StockadeError:
        """What held it is gone: nothing of it may live on."""
        self.ours = True
        found, policy = self._state, self._state.kept.policy
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
        self._slot.sandbox.kill()
        sandbox = Sandbox(found.sandbox.id, found.sandbox.name, policy.name, policy.generation, dict(policy.labels))
        for outcome, effect, reason, detail in (
            (Outcome.DENY, Effect.REFUSE, Reason.ENFORCEMENT_LOST, {"lost": lost}),
            (Outcome.ALLOW, Effect.PASS, Reason.STOPPED, {"status": 137}),
        ):
            trail.append(sandbox, Record(Action.LIFECYCLE, outcome, effect, Level.STATIC, reason, detail=dict(detail)))
        said = f"what holds {found.sandbox.name} was taken away while it had no agent, so it was killed: {'; '.join(lost)}"
        return StockadeError(said, hint="somebody with root's rights did that", code="enforcement_lost")


def _roster(enrolments: tuple[Enrolment, ...]) -> Roster:
    """The same numbers for the same files, opened again; a file that is gone has descriptor -1."""
    opened: dict[str, int] = {}
    roster = Roster()
    for enrolment in enrolments:
        path = enrolment.file.path
        if path not in opened:
            try:
                opened[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                opened[path] = -1
        file = dataclasses.replace(enrolment.file, descriptor=opened[path])
        roster.enrolments[enrolment.number] = dataclasses.replace(enrolment, file=file)
    return roster
