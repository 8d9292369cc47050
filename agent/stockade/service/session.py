"""One `stockade run` at whichever agent serves it: from the order to the status of its command.

Owns the order of steps between a slot and an exec. Whose the kernel's programs, the trail and the worker are is its `Post`'s to say: of the
command itself, or of a daemon that serves many.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stockade import signing
from stockade.kernel.abi import Event
from stockade.kernel.devices import Device
from stockade.kernel.links import Link
from stockade.kernel.load import Kernel, Pinned
from stockade.policy import Policy, load_families
from stockade.policy.summary import summary
from stockade.proxy import Authority
from stockade.sandbox import landlock
from stockade.sandbox.launch import COULD_NOT_RUN, Launcher, Sockets
from stockade.sandbox.limits import Limits, Wanted
from stockade.sandbox.plan import Bind, Plan
from stockade.sandbox.roster import Resolver, Roster
from stockade.service import blueprint, opened, state, verbs
from stockade.service.blueprint import Surroundings
from stockade.service.control import Control
from stockade.service.generations import Load
from stockade.service.governed import Governed
from stockade.service.order import Order
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.state import Kept
from stockade.service.station import Station
from stockade.service.tenure import Charge, Tenure
from stockade.service.watch import Watch
from stockade.types import Reason, Sandbox, StockadeError


@dataclass(frozen=True, slots=True)
class Held:
    """What holds one sandbox: the links that are its own, and what is lost of all that holds it, in words."""

    links: tuple[Pinned, ...]
    lost: Callable[[], list[str]]


class Post(Protocol):
    """The agent that a sandbox is started at."""

    async def station(self, plan: Plan) -> Station:
        """With its trail open. Raises StockadeError."""

    def hold(self, kernel: Kernel, slot: Slot, guard: Callable[[], Link]) -> Held:
        """Attach what governs this slot's cgroups; `guard` attaches what is the sandbox's alone. Raises StockadeError."""

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Events are read and the worker is there when this returns. Raises StockadeError."""


class Session:
    """watch: has seen the reading of the policy. around: of whoever asked. finish: called when nothing of the sandbox runs any more."""

    def __init__(
        self,
        settings: Settings,
        order: Order,
        policy: Policy,
        watch: Watch,
        slot: Slot,
        launcher: Launcher,
        around: Surroundings,
        finish: Callable[[], None],
        say: Callable[[str], None],
        *,
        apart: bool = False,
    ) -> None:
        """say: a line to whoever asked. apart: the command gets a session of its own, since the launcher is in nobody's."""
        self._settings, self._order, self._watch, self._slot, self._launcher = settings, order, watch, slot, launcher
        self._around, self._finish, self._say, self._apart = around, finish, say, apart
        self.name = f"box-{slot.number}" if order.name is None else order.name
        self._policy = dataclasses.replace(policy, sandbox=self.name)
        self._refused_command: Event | None = None
        self.init: int | None = None  # PID of the sandbox's init, once it runs
        self._pidfd = -1  # of it, until it has ended
        self._roster: Roster | None = None
        self.launching = False  # from then on the command may run: who wants to end it waits for `init`
        self.kept = False  # for the next agent: it lives on as it is, whatever becomes of this one
        self._signals: list[int] = []  # that came before that
        self.reload: Callable[[], object] = lambda: None

    def forward(self, number: int) -> None:
        """A signal to the command; kept for it until it runs."""
        if self.init is None:
            self._signals.append(number)
            return
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def run(self, post: Post, started: Callable[[Sandbox, int], None] = lambda _sandbox, _init: None) -> int:
        """The exit status of the command. started: called with its PID. Raises StockadeError."""
        order, policy, slot = self._order, self._policy, self._slot
        network = self._settings.network
        async with contextlib.AsyncExitStack() as stack:
            control = Control.take(self._settings.control, self.name)
            stack.callback(control.close)
            build = asyncio.create_task(asyncio.to_thread(state.build, network))
            stack.callback(build.cancel)
            networking = asyncio.create_task(asyncio.to_thread(self._launcher.open_network, network))
            stack.push_async_callback(_forsake, networking)
            authority = await asyncio.to_thread(signing.begin, self.name, self._settings.configured.ca, policy)
            stack.callback(self._close_roster)
            roster, limits, plan = await _whole(self._drawn, authority)
            station = await post.station(plan)
            sockets = await asyncio.shield(networking)
            kernel = station.kernel
            blueprint.refuse_inside(station.trail.path.absolute(), plan.binds, "the audit trail")
            sandbox = Sandbox(uuid.uuid4().hex[:12], self.name, policy.name, policy.generation, dict(policy.labels))
            governed = Governed(slot.number, sandbox, slot.sandbox, policy, roster, kernel.maps, network)
            stack.push_async_callback(self._forget, kernel, slot.sandbox.id)
            await _whole(_enrol, kernel, governed)
            stack.callback(opened.let_go, opened.ask(kernel, governed, plan))
            allowed = [Device(node.major, node.minor) for node in plan.devices]
            held = post.hold(kernel, slot, lambda: kernel.guard_devices(slot.sandbox.path, slot.number, allowed))
            kept = Kept(
                order.anywhere(station.trail.path),
                policy,
                tuple(roster),
                governed.facts,
                plan.binds,
                held.links,
                kernel.backend,
                authority,
            )
            load = load_for(order, self.name, plan.binds)
            tenure = Tenure(station, Charge(slot, governed, sockets, limits, self._watch, load, held.lost, kept, await build))
            station.agent.refusing[slot.number] = self._exec_refused
            await post.begin(stack)
            await tenure.begin(stack)
            station.serve_metrics()
            detail: dict[str, str | int | list[str]] = {
                "command": list(order.command),
                "exec_backend": kernel.backend.value,
                "senders": "told by the kernel" if kernel.tells_senders else "unknown: a socket speaks for whoever connected it",
                "landlock": landlock.said(plan.landlock),
                "limits": limits.said,
                "devices": [node.path for node in plan.devices],
                "device_libraries": list(plan.libraries),
                "sources": [str(path) for path in policy.sources],
                "missing_binaries": list(roster.missing),
                "seccomp_allow": list(policy.process.seccomp.allow),
                "seccomp_deny": list(policy.process.seccomp.deny),
                **signing.said(authority),
                **summary(policy),
                **({"metrics": station.metrics} if station.metrics else {}),
            }
            station.agent.lifecycle(governed, Reason.STARTED, detail)
            self.launching = True
            init = await _whole(self._launcher.start, plan)
            del plan  # with half a megabyte of files, which nobody reads again
            self.init, self._pidfd = init, os.pidfd_open(init)
            stack.callback(self._let_go_of_init)
            control.serve(verbs.of(governed, tenure.generations, tenure.desk, tenure.doors, tenure.observed, tenure.renewal))
            self.reload = lambda: tenure.generations.ask("signal")
            started(governed.sandbox, init)
            status = await tenure.hold(init, self._pidfd, asyncio.create_task(self._wait(init)), self._finish)
            return status if self._refused_command is None else COULD_NOT_RUN

    async def _forget(self, kernel: Kernel, cgroup_id: int) -> None:
        """What the kernel knows of the sandbox, once nothing of it runs."""
        if not self.kept:
            await asyncio.to_thread(self._slot.empty)
            await asyncio.to_thread(kernel.maps.release, self._slot.number, cgroup_id)

    def _drawn(self, authority: Authority) -> tuple[Roster, Limits, Plan]:
        """What may run, what it may use, and what it sees. In a thread: it hashes files, and looks at paths of whoever asked."""
        order, policy, slot = self._order, self._policy, self._slot
        roster = self._roster = Resolver(policy, load_families(), weak=policy.exec.writable).roster(order.command[0])
        wanted = Wanted(policy.process.pids, policy.process.memory, policy.process.cpu)
        limits = Limits.impose(slot.sandbox, wanted, best_effort="limits" in policy.best_effort)
        plan = blueprint.draw(
            name=self.name,
            command=order.command,
            workdir=order.workdir,
            binds=order.binds,
            policy=policy,
            roster=roster,
            user=slot.user,
            cgroup=slot.sandbox,
            limits=limits,
            network=self._settings.network,
            authority_pem=authority.certificate_pem,
            around=self._around,
        )
        for source in self._watch.watched:
            blueprint.refuse_inside(source, plan.binds, "a policy source")
        if (file := self._settings.configured.file) is not None:
            blueprint.refuse_inside(file, plan.binds, "the settings file")
        return roster, limits, dataclasses.replace(plan, apart=self._apart)

    def _close_roster(self) -> None:
        if self._roster is not None:
            self._roster.close()

    def _let_go_of_init(self) -> None:
        descriptor, self._pidfd = self._pidfd, -1
        os.close(descriptor)

    async def _wait(self, init: int) -> int:
        """Until the sandbox's init ends."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        descriptor = self._pidfd

        def ended() -> None:
            loop.remove_reader(descriptor)
            done.set_result(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]))

        loop.add_reader(descriptor, ended)
        for number in self._signals:
            self.forward(number)
        try:
            status = await done
        finally:
            loop.remove_reader(descriptor)
        return status if status >= 0 else 128 - status

    def _exec_refused(self, event: Event) -> None:
        if self._refused_command is None and not event.parent_exec_id:
            self._refused_command = event
            self._say(f"stockade: {os.fsdecode(event.tail)}: the policy does not let it run ({event.why.name.lower()})")


def load_for(order: Order, name: str, binds: Iterable[Bind]) -> Load:
    """A policy that could be rewritten from inside is refused when it is read again, as it was at start."""

    def load(generation: int, named: list[Path]) -> Policy:
        found = order.policy(generation, named)
        for source in (*named, *found.sources):
            blueprint.refuse_inside(source, binds, "a policy source")
        return dataclasses.replace(found, sandbox=name)

    return load


def _enrol(kernel: Kernel, governed: Governed) -> None:
    """Everything the maps must know before the first exec. One that is full: no sandbox. In a thread."""
    try:
        kernel.maps.register(governed.number, governed.cgroup.id, governed.cgroup.level, governed.policy.generation, governed.flags)
        governed.enrol()
        governed.compile(governed.policy)
    except (OSError, ValueError) as error:
        raise StockadeError(f"the policy does not fit into the kernel's maps: {error}", code="maps") from None


async def _whole[**P, T](work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """In a thread, and to its end also when this is cancelled: nothing of it may come after what undoes it."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await task
        raise


async def _forsake(networking: asyncio.Task[Sockets]) -> None:
    """When something else failed first: what the launcher says then is nobody's news."""
    with contextlib.suppress(StockadeError, OSError):
        await networking
