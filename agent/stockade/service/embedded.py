"""`stockade run` without a daemon: an agent for one sandbox, inside the command itself.

The order matters. Launcher and worker are forked first, while this process holds no key, no thread and no loop; the sandbox's command is
exec'd last, when every program is attached and every listener answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from stockade.audit import Trail
from stockade.kernel.links import Link
from stockade.kernel.load import Kernel, mounted_bpffs
from stockade.policy.rego import judge
from stockade.sandbox import libc
from stockade.sandbox.launch import Launcher
from stockade.sandbox.plan import Plan
from stockade.service import blueprint
from stockade.service.blueprint import Surroundings
from stockade.service.enforcement import lost_of
from stockade.service.order import Order
from stockade.service.orphans import orphans
from stockade.service.session import Held, Session
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.station import Station
from stockade.service.stdio import Stdio
from stockade.service.watch import Watch
from stockade.service.workers import Workers
from stockade.types import StockadeError

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
        workers = Workers.of(settings)
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        session = Session(settings, order, policy, watch, slot, launcher, Surroundings.here(), stdio.finish, _say)
        return asyncio.run(_Run(order, settings, slot, workers, session).main())
    finally:
        if launcher is not None:
            launcher.abandon()
        slot.release()


class _Run:
    """The agent of one session, which is its `Post`."""

    def __init__(self, order: Order, settings: Settings, slot: Slot, workers: Workers, session: Session) -> None:
        self._order, self._settings, self._slot, self._workers, self._session = order, settings, slot, workers, session
        self._stopped: int | None = None  # by this signal, before there was a command
        self._task: asyncio.Task[int] | None = None
        self._loading: asyncio.Task[Kernel] | None = None
        self._station: Station | None = None
        self._stack = contextlib.AsyncExitStack()

    async def main(self) -> int:
        """The exit status. A signal before the command exists unwinds what stands; afterwards it is the command's."""
        loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        ignored = {number for number in (*_FORWARDED, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_IGN}  # as nohup has it
        for number in set(_FORWARDED) - ignored:
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up, _has_terminal() and signal.SIGHUP not in ignored)
        try:
            async with self._stack as stack:
                stack.push_async_callback(self._workers.end)
                # the compiler, the verifier, the launcher and the worker's imports work at the same time
                self._loading = asyncio.create_task(asyncio.to_thread(Kernel, self._settings.network, self._slot.pins))
                stack.push_async_callback(_unload, self._loading)
                return await self._session.run(self)
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
            return 128 + self._stopped

    async def station(self, plan: Plan) -> Station:
        assert self._loading is not None
        path = self._audit_path(plan)
        listen = self._order.listen(self._settings.configured.metrics)
        kernel = await asyncio.shield(self._loading)
        trail = Trail.open(path, self._settings.configured.audit, human=sys.stderr if self._order.verbose else None)
        self._stack.callback(trail.close)
        self._station = Station(self._session.name, self._settings, kernel, trail, self._workers, listen)
        return self._station

    def hold(self, kernel: Kernel, slot: Slot, guard: Callable[[], Link]) -> Held:
        kernel.govern(slot.sandbox.path)
        guard()
        kernel.answer_origins(slot.listeners.path)
        kernel.attach_tracepoints()
        return Held(kernel.held_by(), lambda: lost_of(kernel.links))

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        assert self._station is not None
        await self._station.begin(stack)

    def _audit_path(self, plan: Plan) -> Path:
        path = self._order.audit or self._settings.log / f"{self._session.name}.jsonl"
        if self._order.audit is None:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        blueprint.refuse_inside(path.absolute(), plan.binds, "the audit trail")
        return path

    def _signalled(self, number: int) -> None:
        session = self._session
        if session.init is not None and number in (signal.SIGINT, signal.SIGQUIT) and _in_foreground():
            return  # Ctrl-C reaches the whole foreground group: the command has it already
        session.forward(number)
        if session.init is None and not session.launching and self._task is not None:
            self._stopped = number if self._stopped is None else self._stopped
            self._task.cancel()

    def _hung_up(self, had_terminal: bool) -> None:
        """SIGHUP asks for a reload, unless the terminal it was started on is gone: then it means what it always meant."""
        if had_terminal and not _has_terminal():
            self._signalled(signal.SIGHUP)
        else:
            self._session.reload()


def _say(line: str) -> None:
    print(line, file=sys.stderr)


async def _unload(loading: asyncio.Task[Kernel]) -> None:
    """Also when something else failed while it was still loading: pins must not outlive this."""
    with contextlib.suppress(StockadeError):
        (await loading).close()


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
