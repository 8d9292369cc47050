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
from stockade.attach.attachment import Attachment, Charged, Existing, Standing, load_for
from stockade.attach.entered import Entered
from stockade.attach.target import Target
from stockade.attach.volumes import refuse_writable
from stockade.audit import Trail
from stockade.kernel.load import Kernel, mounted_bpffs
from stockade.policy import Policy
from stockade.policy.rego import judge
from stockade.sandbox.joined import Joined
from stockade.sandbox.launch import Sockets, listen_again
from stockade.service.control import Json, Peer, Verb
from stockade.service.order import Order
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.station import Station
from stockade.service.watch import Watch
from stockade.service.workers import Workers
from stockade.types import StockadeError

_FAILED = 70  # EX_SOFTWARE (sysexits.h)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
Trust = Callable[[bytes], str]


def attach(
    order: Order,
    settings: Settings,
    target: Target,
    done: Callable[[Standing], None],
    *,
    existing: Existing = "cut",
    trust: Trust | None = None,
    stays: bool = False,
) -> int:
    """Govern the target until it ends, a signal comes, or the verb `let_go`. Returns 0, or the status of a container that ended.

    done: called when it is governed. trust: gives the container the sandbox's own CA, while it has not started; says what it was given.
    stays: no signal lets go.
    Raises StockadeError: it is not governed.
    """
    if os.geteuid() != 0:
        raise StockadeError("stockade attach needs root", hint="sudo stockade attach …", code="not_root")
    judge.use(None)  # as in `run`
    if order.approved is not None:
        order.approved.create()
    watch, load = Watch(), load_for(order, target, prepared)
    with watch.reading() as named:
        policy = load(1, named)
        named += policy.sources
    for warning in policy.warnings if order.verbose else ():
        print(f"stockade: {warning}", file=sys.stderr)
    bpffs = mounted_bpffs(settings.run / "bpf")
    with contextlib.ExitStack() as stack:
        stack.enter_context(berth.taken(settings.run / "attached", bpffs, target.cgroup, target.called))
        slot = Slot.take(settings, bpffs)
        stack.callback(slot.release)
        workers = Workers.of(settings)
        joined = Joined(target.init)
        stack.callback(joined.close)
        network = addresses.choose(joined, settings.network)
        settings = dataclasses.replace(settings, network=network)
        joined.add_addresses(network)
        init = os.pidfd_open(target.init)
        try:
            sockets = listen_again(init, network, slot.listeners)
        finally:
            os.close(init)
        pins = bpffs / f"{berth.pins_of(target.cgroup.id)}{os.getpid()}"
        agent = _Agent(order, settings, target, policy, watch, existing, trust, done, stays)
        return asyncio.run(agent.main(slot, workers, joined, sockets, pins))


def prepared(policy: Policy, target: Target) -> Policy:
    """A policy for what Stockade did not start: labels of its own, no promise that its files are not its own to write, and no doors."""
    exec_ = dataclasses.replace(policy.exec, writable=True)
    return Entered.of(dataclasses.replace(policy, labels=dict(policy.labels) | target.labels, exec=exec_))


def _let_go(leave: asyncio.Event) -> Verb:
    async def let_go(_arguments: Json, peer: Peer) -> Json:
        print(f"stockade: let go of by a command of {peer}", file=sys.stderr, flush=True)
        leave.set()
        return {"let_go": True}

    return let_go


class _Agent:
    def __init__(
        self,
        order: Order,
        settings: Settings,
        target: Target,
        policy: Policy,
        watch: Watch,
        existing: Existing,
        trust: Trust | None,
        done: Callable[[Standing], None],
        stays: bool,
    ) -> None:
        self._order, self._settings, self._target, self._policy = order, settings, target, policy
        self._watch, self._existing, self._trust, self._done, self._stays = watch, existing, trust, done, stays

    async def main(self, slot: Slot, workers: Workers, joined: Joined, sockets: Sockets, pins: Path) -> int:
        leave, loop, order, target = asyncio.Event(), asyncio.get_running_loop(), self._order, self._target
        for number in _SIGNALS:
            if self._stays:
                loop.add_signal_handler(number, self._stay, number)
            else:
                loop.add_signal_handler(number, leave.set)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(workers.end)
            name = order.name or target.called
            kernel = await asyncio.to_thread(Kernel, self._settings.network, pins)
            stack.callback(kernel.close)
            authority = await asyncio.to_thread(signing.begin, name, self._settings.configured.ca, self._policy)
            trusted = await asyncio.to_thread(self._trust, authority.certificate_pem) if self._trust is not None else ""
            policy = dataclasses.replace(self._policy, sandbox=name)
            load = load_for(order, target, lambda found, at: dataclasses.replace(prepared(found, at), sandbox=name))
            trail = Trail.open(self._path(name), self._settings.configured.audit, human=sys.stderr if order.verbose else None)
            stack.callback(trail.close)
            charged = Charged(order, policy, self._watch, load, authority, self._existing, trusted, {"let_go": _let_go(leave)})
            station = Station(name, self._settings, kernel, trail, workers, order.listen(self._settings.configured.metrics))
            attachment = Attachment(station, slot, target, charged, joined, sockets)
            standing = await attachment.begin(stack, station.begin)
            station.serve_metrics()
            loop.add_signal_handler(signal.SIGHUP, attachment.tenure.generations.ask, "signal")
            self._done(standing)
            status = await self._hold(attachment, leave)
        return 0 if leave.is_set() or status is None else status

    def _stay(self, number: signal.Signals) -> None:
        name = self._order.name or self._target.called
        said = f"stays until its container ends, or `stockade attach --let-go {name}`"
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
        path = self._order.audit or self._settings.log / f"{name}.jsonl"
        if self._order.audit is None:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        refuse_writable(path.absolute(), self._target, "the audit trail")
        return path
