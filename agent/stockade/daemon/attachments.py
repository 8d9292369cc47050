"""What a daemon governs and did not start: attachments in its own process, beside its sandboxes.

Each has programs, maps and an agent of its own, so any version follows any other, and several may live in one network namespace. Trail,
worker, metrics and nursery are the daemon's. When it ends, however it does, what holds them stays; the next daemon attaches again by what
was written down, and takes the old off last.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from stockade import signing
from stockade.attach import addresses, berth
from stockade.attach.attachment import Attachment, Standing
from stockade.attach.authority import keep, kept
from stockade.attach.target import Target
from stockade.attach.volumes import refuse_writable
from stockade.attach.wanted import Wanted
from stockade.audit import AuditError
from stockade.daemon import handed
from stockade.daemon.nursery import Nursery
from stockade.kernel.abi import Network
from stockade.kernel.load import Kernel
from stockade.sandbox.joined import Joined
from stockade.sandbox.launch import Sockets
from stockade.service.orphans import BUSY
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.station import Station
from stockade.types import StockadeError

log = logging.getLogger(__name__)

BEGINS = 4.0  # seconds in which one that is being attached is governed, or is not, when the daemon is to end


@dataclass(slots=True, eq=False)
class Attached:
    """leave: set by whoever lets go of it. governed: settled when it is, or cannot be. again: by what a daemon before this one wrote down.

    attachment: once there is one. cgroup: its id, once its place is taken. life: its task. Returns the status of a container that ended,
    if that is known.
    """

    wanted: Wanted
    again: bool
    governed: asyncio.Future[Standing]
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    attachment: Attachment | None = None
    cgroup: int | None = None
    life: asyncio.Task[int | None] | None = None

    @property
    def kept(self) -> bool:
        """Whether what holds it stays when its life ends."""
        return self.attachment is not None and self.attachment.kept

    def reload(self) -> None:
        if self.attachment is not None and self.governed.done() and self.governed.exception() is None:
            self.attachment.tenure.generations.ask("signal")


class Attachments:
    """station: the daemon's. bpffs: where programs and maps are pinned."""

    def __init__(self, settings: Settings, nursery: Nursery, station: Station, bpffs: Path) -> None:
        self._settings, self._nursery, self._station, self._bpffs = settings, nursery, station, bpffs
        self._directory = settings.run / "attached"
        self._turn = asyncio.Lock()  # addresses and ports of a network namespace are chosen by one at a time
        self.held: set[Attached] = set()
        self._keeping = False

    def begin(self, wanted: Wanted, *, again: bool = False) -> Attached:
        """On the running loop. Whoever asked may go away: it lives until it ends, or is let go of."""
        attached = Attached(wanted, again, asyncio.get_running_loop().create_future())
        attached.governed.add_done_callback(lambda governed: governed.cancelled() or governed.exception())  # somebody may wait for it
        self.held.add(attached)
        attached.life = asyncio.create_task(self._live(attached))
        attached.life.add_done_callback(lambda life: life.cancelled() or life.exception())
        return attached

    async def take_up(self) -> AsyncIterator[str]:
        """What daemons before this one held, by what they wrote down. A line on each; what fails with one it stays held, and is said."""
        if self._directory.is_dir():
            await asyncio.to_thread(berth.sweep, self._directory, self._bpffs)
        for cgroup, path in sorted(berth.ordered(self._directory).items()):
            name = f"cgroup {cgroup}"
            try:
                wanted = await asyncio.to_thread(handed.read, path)
                name = wanted.name
                await asyncio.shield(self.begin(wanted, again=True).governed)
            except Exception as error:
                if not isinstance(error, StockadeError | OSError):
                    log.exception("%s", name)
                held = "stays held" if berth.left_on(self._bpffs, cgroup) else "nothing holds it"
                yield f"{name} was not taken over, and {held}: {error or type(error).__name__}"
            else:
                yield f"took over {name}"

    async def keep_all(self) -> None:
        """Leave them to the next daemon: held, and from now on nobody answers them."""
        self._keeping = True
        until = time.monotonic() + BEGINS
        while any(not attached.governed.done() for attached in self.held) and time.monotonic() < until:
            await asyncio.sleep(0.02)
        lives = [attached.life for attached in self.held if attached.life is not None]
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    async def _live(self, attached: Attached) -> int | None:
        name = attached.wanted.name
        try:
            async with contextlib.AsyncExitStack() as stack:
                standing = await self._attach(stack, attached)
                attached.governed.set_result(standing)
                status = await self._hold(attached)
                assert attached.cgroup is not None
                berth.forget_order(self._directory, attached.cgroup)  # at once: from here on no daemon is to take it over
                return status
        except Exception as error:
            if not attached.governed.done():
                attached.governed.set_exception(error)
            elif isinstance(error, StockadeError | OSError | AuditError):
                log.error("%s: %s", name, error)
            else:
                log.exception("%s", name)
            raise
        except asyncio.CancelledError:  # the daemon ends
            if not attached.governed.done():
                attached.governed.set_exception(_ending())
            raise
        finally:
            self.held.discard(attached)

    @staticmethod
    async def _hold(attached: Attached) -> int | None:
        """Whatever fails here, or ends the daemon, must not let go of it: it stays held as after kill -9, and reaches nothing."""
        attachment = attached.attachment
        assert attachment is not None
        try:
            return await attachment.hold(attached.leave)
        except StockadeError as error:
            attachment.kept = error.code != "enforcement_lost"  # then everything in it was killed
            raise
        except BaseException:
            attachment.kept = True
            raise

    async def _attach(self, stack: contextlib.AsyncExitStack, attached: Attached) -> Standing:
        """Governed when this returns. What is to be undone goes onto the stack. Raises StockadeError, OSError."""
        if self._keeping:
            raise _ending()
        wanted, settings = attached.wanted, self._settings
        target = wanted.target
        read = await asyncio.to_thread(wanted.read)
        await asyncio.to_thread(refuse_writable, self._station.trail.path.absolute(), target, "the audit trail")
        attached.cgroup = cgroup = await self._taken(stack, target)
        if attached.again and not berth.order_of(self._directory, cgroup).exists():
            raise StockadeError(f"{target.called} was let go of meanwhile", code="let_go")
        held = bool(berth.left_on(self._bpffs, cgroup))  # by what a dead agent left
        slot = await asyncio.to_thread(Slot.take, settings, self._bpffs)
        stack.push_async_callback(asyncio.to_thread, slot.release)
        joined = Joined(target.init)
        stack.push_async_callback(asyncio.to_thread, lambda: joined.close(take_out=not berth.left_on(self._bpffs, cgroup)))
        network, sockets = await self._listening(joined, target.init, slot, again=held)
        for each in sockets:  # whoever serves one closes it before; else the next attempt would find its port taken
            stack.callback(each.close)
        pins = self._bpffs / f"{berth.pins_of(cgroup)}{os.getpid()}-{secrets.token_hex(4)}"  # one that died, or was kept, had others
        kernel = await self._kernel(network, pins)
        stack.push_async_callback(asyncio.to_thread, lambda: kernel.close(unpin=not attached.kept))
        file, order = berth.authority_of(self._directory, cgroup), berth.order_of(self._directory, cgroup)
        authority = await asyncio.to_thread(kept, file, wanted.name)
        if authority is not None:
            wanted = dataclasses.replace(wanted, trusted=await asyncio.to_thread(handed.trusted, order))
        else:
            authority = await asyncio.to_thread(signing.begin, wanted.name, settings.configured.ca, read.policy)
            wanted = dataclasses.replace(wanted, trusted="")  # whatever it was given is another's
        trusted = await asyncio.to_thread(wanted.give, berth.bundles_of(self._directory, cgroup), authority)
        station = self._station.beside(dataclasses.replace(settings, network=network), kernel, stack)
        charged = wanted.charged(read, authority, trusted, attached.leave)
        attached.attachment = attachment = Attachment(station, slot, target, charged, joined, sockets)
        standing = await attachment.begin(stack, station.begin_beside)
        try:
            renewal = attachment.tenure.renewal
            renewal.changed = lambda: keep(file, renewal.authority)
            renewal.changed()
            if not attached.again:
                handed.write_down(order, wanted, trusted)
            await renewal.prepare(read.policy, ())  # a key that was kept is good for what was named then
        except BaseException:
            attachment.kept = held  # what held it before is gone
            raise
        return standing

    async def _taken(self, stack: contextlib.AsyncExitStack, target: Target) -> int:
        """The id of the cgroup. Waits for who only looks, or sweeps. Raises StockadeError."""
        until = time.monotonic() + BUSY
        while True:
            try:
                return stack.enter_context(berth.taken(self._directory, self._bpffs, target.cgroup, target.called))
            except StockadeError as error:
                if error.code != "attached" or time.monotonic() > until:
                    raise
            await asyncio.sleep(0.02)

    async def _listening(self, joined: Joined, init: int, slot: Slot, *, again: bool) -> tuple[Network, Sockets]:
        descriptor = os.pidfd_open(init)
        try:
            async with self._turn:
                network = await asyncio.to_thread(addresses.choose, joined, self._settings.network)
                await asyncio.to_thread(joined.add_addresses, network, again=again)
                return network, await self._nursery.sockets(descriptor, network, slot.listeners)
        finally:
            os.close(descriptor)

    @staticmethod
    async def _kernel(network: Network, pins: Path) -> Kernel:
        """Made whole also for somebody who does not wait for it, or its pins would look like some that hold."""
        making = asyncio.ensure_future(asyncio.to_thread(Kernel, network, pins))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            (await making).close()
            raise


def _ending() -> StockadeError:
    return StockadeError("the daemon is ending", hint="the next one is asked like this one", code="ending")
