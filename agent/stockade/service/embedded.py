"""`stockade run`: an agent for one sandbox, inside the command itself.

The order matters. Launcher and worker are forked first, while this process holds no key, no thread and no loop; the sandbox's command is
exec'd last, when every program is attached and every listener answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from stockade.audit import Trail
from stockade.kernel.abi import Event
from stockade.kernel.devices import Device
from stockade.kernel.load import Kernel, mounted_bpffs
from stockade.policy import Policy, load_families
from stockade.policy.rego import judge
from stockade.policy.summary import summary
from stockade.proxy import Authority
from stockade.sandbox import landlock, libc
from stockade.sandbox.launch import COULD_NOT_RUN, Launcher, Sockets
from stockade.sandbox.limits import Limits, Wanted
from stockade.sandbox.plan import Bind, Plan
from stockade.sandbox.roster import Resolver
from stockade.service import blueprint, opened, state, verbs
from stockade.service.control import Control
from stockade.service.generations import Load
from stockade.service.governed import Governed
from stockade.service.order import Order
from stockade.service.orphans import orphans
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.state import Kept
from stockade.service.stdio import Stdio
from stockade.service.tenure import Charge, Tenure
from stockade.service.watch import Watch
from stockade.service.workers import Workers
from stockade.types import Reason, Sandbox, StockadeError

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def run(order: Order, settings: Settings) -> int:
    """Run the command governed. Returns its exit status; raises StockadeError when it could not be started."""
    if os.geteuid() != 0:
        raise StockadeError("stockade run needs root", hint="sudo stockade run …", code="not_root")
    judge.use(None)  # the workers evaluate Rego, on requests that are known whole
    if order.approved is not None:
        order.approved.create()
    watch = Watch()
    with watch.reading() as named:
        policy = order.policy(1, named)
        named += policy.sources
    for warning in policy.warnings if order.verbose else ():
        print(f"stockade: {warning}", file=sys.stderr)
    bpffs = mounted_bpffs(settings.run / "bpf")
    orphans(settings, bpffs)  # sweeps what ended without an agent
    slot = Slot.take(settings, bpffs)
    launcher = None
    stdio = Stdio()
    try:
        launcher = Launcher.fork(stdio.given)
        stdio.handed_over()
        slot.listeners.add(launcher.pid)
        workers = Workers(Workers.fork(settings), settings)
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        return asyncio.run(_Run(order, settings, policy, watch, slot, launcher, workers, stdio).main())
    finally:
        if launcher is not None:
            launcher.abandon()
        slot.release()


class _Run:
    def __init__(
        self,
        order: Order,
        settings: Settings,
        policy: Policy,
        watch: Watch,
        slot: Slot,
        launcher: Launcher,
        workers: Workers,
        stdio: Stdio,
    ) -> None:
        self._order, self._settings, self._policy, self._watch, self._slot = order, settings, policy, watch, slot
        self._launcher, self._workers, self._stdio = launcher, workers, stdio
        self._name = f"box-{slot.number}" if order.name is None else order.name
        self._policy = dataclasses.replace(policy, sandbox=self._name)
        self._refused_command: Event | None = None
        self._init: int | None = None  # PID of the sandbox's init, once it runs
        self._signals: list[int] = []  # that came before that
        self._launching = False
        self._task: asyncio.Task[int] | None = None
        self._reload: Callable[[], object] = lambda: None

    async def main(self) -> int:
        """The exit status. A signal before the command exists unwinds what stands; afterwards it is the command's."""
        loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        for number in _FORWARDED:
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up, _has_terminal())
        try:
            return await self._main()
        except asyncio.CancelledError:
            if not self._signals:
                raise
            return 128 + self._signals[0]

    def _signalled(self, number: int) -> None:
        if self._init is not None:
            self._forward(self._init, number)
            return
        self._signals.append(number)
        if not self._launching and self._task is not None:
            self._task.cancel()

    def _hung_up(self, had_terminal: bool) -> None:
        """SIGHUP asks for a reload, unless the terminal it was started on is gone: then it means what it always meant."""
        if had_terminal and not _has_terminal():
            self._signalled(signal.SIGHUP)
        else:
            self._reload()

    @staticmethod
    def _forward(init: int, number: int) -> None:
        if number in (signal.SIGINT, signal.SIGQUIT) and _in_foreground():
            return  # Ctrl-C reaches the whole foreground group: the command has it already
        with contextlib.suppress(ProcessLookupError):
            os.kill(init, number)

    async def _main(self) -> int:
        order, policy, slot = self._order, self._policy, self._slot
        network = self._settings.network
        async with contextlib.AsyncExitStack() as stack:
            control = Control.take(self._settings.control, self._name)
            stack.callback(control.close)
            stack.push_async_callback(self._workers.end)
            # the compiler, the verifier, the launcher and the worker's imports work at the same time
            loading = asyncio.create_task(asyncio.to_thread(Kernel, network, slot.pins))
            stack.push_async_callback(_unload, loading)
            build = asyncio.create_task(asyncio.to_thread(state.build, network))
            stack.callback(build.cancel)
            networking = asyncio.create_task(asyncio.to_thread(self._launcher.open_network, network))
            stack.push_async_callback(_forsake, networking)
            authority = Authority.create(self._name)
            roster = Resolver(policy, load_families(), weak=policy.exec.writable).roster(order.command[0])
            wanted = Wanted(policy.process.pids, policy.process.memory, policy.process.cpu)
            limits = Limits.impose(slot.sandbox, wanted, best_effort="limits" in policy.best_effort)
            plan = blueprint.draw(
                name=self._name,
                command=order.command,
                workdir=order.workdir,
                binds=order.binds,
                policy=policy,
                roster=roster,
                user=slot.user,
                cgroup=slot.sandbox,
                limits=limits,
                network=network,
                authority_pem=authority.certificate_pem,
            )
            for source in self._watch.watched:
                blueprint.refuse_inside(source, plan.binds, "a policy source")
            if (file := self._settings.configured.file) is not None:
                blueprint.refuse_inside(file, plan.binds, "the settings file")
            kernel = await asyncio.shield(loading)
            sockets = await asyncio.shield(networking)
            trail = Trail.open(self._audit_path(plan), self._settings.configured.audit, human=sys.stderr if order.verbose else None)
            stack.callback(trail.close)
            sandbox = Sandbox(uuid.uuid4().hex[:12], self._name, policy.name, policy.generation, dict(policy.labels))
            governed = Governed(slot.number, sandbox, slot.sandbox, policy, roster, kernel.maps, network)
            self._govern(kernel, governed, plan)
            stack.callback(opened.let_go, opened.ask(kernel, governed, plan))
            kept = Kept(
                order.anywhere(trail.path),
                policy,
                tuple(roster),
                governed.facts,
                plan.binds,
                kernel.held_by(),
                kernel.backend,
                authority,
            )
            load = load_for(order, self._name, plan.binds)
            charge = Charge(slot, kernel, trail, governed, sockets, limits, self._watch, load, kept, await build)
            tenure = Tenure(self._settings, charge, self._workers)
            tenure.agent.exec_refused = self._exec_refused
            await tenure.begin(stack)
            started: dict[str, str | int | list[str]] = {
                "command": list(order.command),
                "exec_backend": kernel.backend.value,
                "senders": "told by the kernel" if kernel.tells_senders else "unknown: a socket speaks for whoever connected it",
                "landlock": landlock.said(plan.landlock),
                "limits": limits.said,
                "devices": [node.path for node in plan.devices],
                "sources": [str(path) for path in policy.sources],
                "missing_binaries": list(roster.missing),
                "seccomp_allow": list(policy.process.seccomp.allow),
                "seccomp_deny": list(policy.process.seccomp.deny),
                **summary(policy),
                **({"metrics": tenure.metrics} if tenure.metrics else {}),
            }
            tenure.agent.lifecycle(governed, Reason.STARTED, started)
            self._launching = True  # from here on the command may run: a signal waits until there is somebody to forward it to
            self._init = await asyncio.to_thread(self._launcher.start, plan)
            control.serve(verbs.of(governed, tenure.generations, tenure.desk, tenure.doors, tenure.observed))
            self._reload = lambda: tenure.generations.ask("signal")
            status = await tenure.hold(self._init, asyncio.create_task(self._wait(self._init)), self._stdio.finish)
            return status if self._refused_command is None else COULD_NOT_RUN

    def _govern(self, kernel: Kernel, governed: Governed, plan: Plan) -> None:
        """Everything the kernel must know before the first exec. A map that is full, a hook that is refused: no sandbox."""
        try:
            kernel.maps.register(governed.number, governed.cgroup.id, governed.cgroup.level, governed.policy.generation, governed.flags)
            governed.enrol()
            governed.compile(governed.policy)
        except (OSError, ValueError) as error:
            raise StockadeError(f"the policy does not fit into the kernel's maps: {error}", code="maps") from None
        kernel.govern(governed.cgroup.path)
        kernel.guard_devices(governed.cgroup.path, governed.number, [Device(node.major, node.minor) for node in plan.devices])
        kernel.answer_origins(self._slot.listeners.path)
        kernel.attach_tracepoints()

    async def _wait(self, init: int) -> int:
        """Until the sandbox's init ends."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        descriptor = os.pidfd_open(init)

        def ended() -> None:
            loop.remove_reader(descriptor)
            done.set_result(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]))

        loop.add_reader(descriptor, ended)
        for number in self._signals:
            self._forward(init, number)
        try:
            status = await done
        finally:
            os.close(descriptor)
        return status if status >= 0 else 128 - status

    def _exec_refused(self, event: Event) -> None:
        if self._refused_command is None and not event.parent_exec_id:
            self._refused_command = event
            print(f"stockade: {os.fsdecode(event.tail)}: the policy does not let it run ({event.why.name.lower()})", file=sys.stderr)

    def _audit_path(self, plan: Plan) -> Path:
        path = self._order.audit or self._settings.log / f"{self._name}.jsonl"
        if self._order.audit is None:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        blueprint.refuse_inside(path.absolute(), plan.binds, "the audit trail")
        return path


def load_for(order: Order, name: str, binds: Iterable[Bind]) -> Load:
    """A policy that could be rewritten from inside is refused when it is read again, as it was at start."""

    def load(generation: int, named: list[Path]) -> Policy:
        found = order.policy(generation, named)
        for source in (*named, *found.sources):
            blueprint.refuse_inside(source, binds, "a policy source")
        return dataclasses.replace(found, sandbox=name)

    return load


async def _unload(loading: asyncio.Task[Kernel]) -> None:
    """Also when something else failed while it was still loading: pins must not outlive this."""
    with contextlib.suppress(StockadeError):
        (await loading).close()


async def _forsake(networking: asyncio.Task[Sockets]) -> None:
    """When something else failed first: what the launcher says then is nobody's news."""
    with contextlib.suppress(StockadeError, OSError):
        await networking


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _in_foreground() -> bool:
    """Whether this process belongs to its terminal's foreground group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
