"""`stockade attach`: an agent for one container that runs already, inside the command itself. Ends with it, or lets go when told to.

Told by a signal, where somebody runs the command; the agent that `oci-hook` leaves behind is told by a verb of its control socket alone. A
signal there comes from who ends whatever is in the way (earlyoom, a shutdown), and not from who wants the container ungoverned.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from stockade import signing
from stockade.attach import addresses, berth
from stockade.attach.attachment import Attachment, Standing
from stockade.attach.volumes import refuse_writable
from stockade.attach.wanted import Read, Wanted
from stockade.audit import Trail
from stockade.kernel.load import Kernel, mounted_bpffs
from stockade.policy.rego import judge
from stockade.sandbox.joined import Joined
from stockade.sandbox.launch import Sockets, listen_again
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.station import Station
from stockade.service.workers import Workers
from stockade.types import StockadeError

_FAILED = 70  # EX_SOFTWARE (sysexits.h)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def attach(wanted: Wanted, settings: Settings, done: Callable[[Standing], None], *, stays: bool = False) -> int:
    """Govern it until it ends, a signal comes, or the verb `let_go`. Returns 0, or the status of a container that ended.

    done: called when it is governed. stays: no signal lets go. Raises StockadeError: it is not governed.
    """
    if os.geteuid() != 0:
        raise StockadeError("stockade attach needs root", hint="sudo stockade attach …", code="not_root")
    judge.use(None)  # as in `run`
    target, read = wanted.target, wanted.read()
    for warning in read.policy.warnings if wanted.order.verbose else ():
        print(f"stockade: {warning}", file=sys.stderr)
    bpffs = mounted_bpffs(settings.run / "bpf")
    with contextlib.ExitStack() as stack:
        cgroup = stack.enter_context(berth.taken(settings.run / "attached", bpffs, target.cgroup, target.called))
        again = bool(berth.left_on(bpffs, cgroup))
        slot = Slot.take(settings, bpffs)
        stack.callback(slot.release)
        workers = Workers.of(settings)
        joined = Joined(target.init)
        stack.callback(lambda: joined.close(take_out=not berth.left_on(bpffs, cgroup)))
        network = addresses.choose(joined, settings.network)
        settings = dataclasses.replace(settings, network=network)
        joined.add_addresses(network, again=again)
        init = os.pidfd_open(target.init)
        try:
            sockets = listen_again(init, network, slot.listeners)
        finally:
            os.close(init)
        pins = bpffs / f"{berth.pins_of(cgroup)}{os.getpid()}"
        return asyncio.run(_Agent(wanted, settings, read, done, stays).main(slot, workers, joined, sockets, pins))


class _Agent:
    def __init__(self, wanted: Wanted, settings: Settings, read: Read, done: Callable[[Standing], None], stays: bool) -> None:
        self._wanted, self._settings, self._read, self._done, self._stays = wanted, settings, read, done, stays

    async def main(self, slot: Slot, workers: Workers, joined: Joined, sockets: Sockets, pins: Path) -> int:
        leave, loop, wanted = asyncio.Event(), asyncio.get_running_loop(), self._wanted
        order, target, name = wanted.order, wanted.target, wanted.name
        for number in _SIGNALS:
            if self._stays:
                loop.add_signal_handler(number, self._stay, number)
            else:
                loop.add_signal_handler(number, leave.set)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(workers.end)
            kernel = await asyncio.to_thread(Kernel, self._settings.network, pins)
            stack.callback(kernel.close)
            directory, cgroup = self._settings.run / "attached", target.cgroup.id
            authority = await asyncio.to_thread(signing.begin, name, self._settings.configured.ca, self._read.policy)
            trusted = await asyncio.to_thread(wanted.give, berth.bundles_of(directory, cgroup), authority)
            trail = Trail.open(self._path(name), self._settings.configured.audit, human=sys.stderr if order.verbose else None)
            stack.callback(trail.close)
            charged = wanted.charged(self._read, authority, trusted, leave)
            station = Station(name, self._settings, kernel, trail, workers, order.listen(self._settings.configured.metrics))
            attachment = Attachment(station, slot, target, charged, joined, sockets)
            standing = await attachment.begin(stack, station.begin)
            berth.forget_order(directory, cgroup)  # of a daemon that held it before: no other is to take it over to that
            station.serve_metrics()
            loop.add_signal_handler(signal.SIGHUP, attachment.tenure.generations.ask, "signal")
            self._done(standing)
            status = await self._hold(attachment, leave)
        return 0 if leave.is_set() or status is None else status

    def _stay(self, number: signal.Signals) -> None:
        said = f"stays until its container ends, or `stockade attach --let-go {self._wanted.name}`"
        print(f"stockade: {signal.Signals(number).name}: the agent {said}", file=sys.stderr, flush=True)

    @staticmethod
    async def _hold(attachment: Attachment, leave: asyncio.Event) -> int | None:
        """Whatever fails here must not let go of the container: it stays held as after kill -9, and reaches nothing."""
        try:
            return await attachment.hold(leave)
        except Exception as error:
            if isinstance(error, StockadeError):
                if error.code == "enforcement_lost":
                    raise  # everything in it was killed
                print(f"stockade: {error.message} [{error.code}]", file=sys.stderr)
            else:
                traceback.print_exc()
            print("stockade: the agent has failed; what holds the container stays, and nobody answers it", file=sys.stderr, flush=True)
            os._exit(_FAILED)

    def _path(self, name: str) -> Path:
        path = self._wanted.order.audit or self._settings.log / f"{name}.jsonl"
        if self._wanted.order.audit is None:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        refuse_writable(path.absolute(), self._wanted.target, "the audit trail")
        return path
