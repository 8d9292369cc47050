"""An agent's time with one sandbox: everything that serves it, from the first event that is read to the last record.

`run` begins it with a sandbox that is not started yet, `adopt` with one whose agent died. Owns the order in which things begin to serve and
end; makes and finds nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade import dns
from stockade.audit import Trail
from stockade.audit.sinks import Shipper
from stockade.kernel.abi import FAILURES
from stockade.kernel.load import Kernel
from stockade.metrics.snapshot import Sink
from stockade.sandbox.inside import Inside
from stockade.sandbox.launch import Sockets
from stockade.sandbox.limits import Limits
from stockade.service.agent import Agent
from stockade.service.approvals import Approvals
from stockade.service.bounds import Bounds
from stockade.service.desk import Desk
from stockade.service.enforcement import Enforcement
from stockade.service.generations import Generations, Load
from stockade.service.governed import Governed
from stockade.service.inbound import Doors
from stockade.service.observed import Observed
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.state import Kept, Process, State, now
from stockade.service.watch import Watch
from stockade.service.workers import Workers
from stockade.types import Outcome, Reason, StockadeError

if TYPE_CHECKING:
    from stockade.service.exported import Exported

log = logging.getLogger(__name__)

_LIMIT = "limit "  # before the name of a limit, among what is counted


@dataclass(frozen=True, slots=True)
class Charge:
    """A sandbox that is governed already. sockets: the agent's, in its network namespace. load: reads its policy again."""

    slot: Slot
    kernel: Kernel
    trail: Trail
    governed: Governed
    sockets: Sockets
    limits: Limits
    watch: Watch
    load: Load
    kept: Kept
    build: str


class Tenure:
    """agent, generations, desk, doors and observed: there once it has begun. metrics: where they are served, empty for nowhere."""

    def __init__(self, settings: Settings, charge: Charge, workers: Workers) -> None:
        self._settings, self._charge, self._workers = settings, charge, workers
        self.agent = Agent(charge.kernel, charge.trail, settings.failures_every, settings.control)
        self.agent.govern(charge.governed)
        self.metrics = ""
        self._exported: Exported | None = None
        self._init: Process | None = None
        self._since = now()

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Everything answers when this returns. What is to be undone goes onto the stack. Raises StockadeError."""
        agent, charge, governed = self.agent, self._charge, self._charge.governed
        await self._export(stack)
        self._ship(stack)
        governed.named = charge.slot.state.name
        agent.start()
        stack.push_async_callback(agent.close)
        server = await dns.serve(
            dns.Resolver(
                table=governed.table, decide=agent.may_ask(governed), publish=governed.publish, record=agent.record_query(governed)
            ),
            charge.sockets[4:],
            agent.asker_of_datagram(governed),
            agent.asker_of_connection(governed),
        )
        stack.callback(server.close)
        table = Approvals()
        self.doors = Doors(governed, agent, Inside.of(charge.sockets.inspect4), lambda: self._workers.current)
        stack.push_async_callback(self.doors.close)
        self.generations = Generations(
            governed, charge.watch, charge.load, lambda: self._workers.current, agent.write, table.rules, self.doors
        )
        self.desk = agent.desks[governed.number] = Desk(governed, table, self.generations, charge.kept.order.approved, agent.write)
        await self._workers.serve(agent, governed, charge.sockets, charge.kept.authority)
        listen = self._listen
        self.observed = Observed(agent, governed, self._workers, charge.kept.authority, listen.certificate if listen is not None else None)
        self.observed.metrics = self.metrics
        if self._exported is not None:
            self._exported.serve(self.observed, self._settings.control)
        self.doors.open(governed.policy)

    def _ship(self, stack: contextlib.AsyncExitStack) -> None:
        """Begin to deliver to the sinks of the settings. Raises StockadeError for one that cannot be made."""
        audit = self._settings.configured.audit
        if not audit.sinks:
            return
        shipper = Shipper(self._charge.trail, audit.sinks, audit.drain)
        stack.push_async_callback(asyncio.to_thread, shipper.close)
        self.agent.sinks = lambda: tuple(
            Sink(each.name, each.type, each.sent, each.retried, each.lost, each.behind, bool(each.failing))
            for each in list(shipper.standing.values())
        )

    async def _export(self, stack: contextlib.AsyncExitStack) -> None:
        """Take the port of the metrics, where there is to be one, before anything runs that could. Raises StockadeError."""
        self._listen = listen = self._charge.kept.order.listen(self._settings.configured.metrics)
        if listen is None:
            return
        from stockade.service.exported import Exported

        directory = self._settings.configured.metrics.targets or self._settings.run / "metrics"
        exported = Exported(listen, directory, self._charge.governed.sandbox.name)
        exported.open()
        self._exported = exported
        stack.push_async_callback(exported.close)
        self.agent.own_ports.add(exported.endpoint.port)
        self.metrics = f"{listen.scheme}://{exported.endpoint.address}/metrics"
        if not listen.port:
            print(f"stockade: metrics at {self.metrics}", file=sys.stderr)
        if not listen.loopback and listen.token is None:
            print(f"stockade: whoever reaches {exported.endpoint.address} may read the metrics: no token is set", file=sys.stderr)

    async def hold(self, init: int, ended: asyncio.Task[int], finish: Callable[[], None] = lambda: None) -> int:
        """Until the sandbox ends, by itself or because what holds it is gone. Returns what `ended` did: the status of its init.

        finish: called when nothing of the sandbox runs any more. Raises StockadeError when it was lost.
        """
        agent, charge, governed = self.agent, self._charge, self._charge.governed
        self._init = Process.of(init)
        self.generations.kept = self._workers.changed = self._keep
        self._keep()
        bounds = Bounds(charge.limits, governed, agent.write)
        self._beat()
        async with contextlib.AsyncExitStack() as stack:
            every = self._settings.failures_every
            for watching in (self.generations.watch(), self.desk.watch(), bounds.watch(every), self._live(every)):
                stack.callback(asyncio.create_task(watching).cancel)
            lost = await Enforcement(charge.kernel.links, init).until(ended)
            charge.slot.sandbox.kill()
            if lost:
                await self._workers.end()  # before anything is waited for: connections that are open must not outlive what held them
            status = await ended
            finish()
            await self.doors.close()
            await self._workers.end()
            await agent.settle()
            bounds.look()
        if lost:
            if self._exported is not None:
                self._exported.kept = True
            agent.lifecycle(governed, Reason.ENFORCEMENT_LOST, {"lost": lost}, outcome=Outcome.DENY)
        if agent.audit_failure:  # there may be room again for one record of it
            agent.lifecycle(governed, Reason.AUDIT_UNAVAILABLE, {"error": agent.audit_failure}, outcome=Outcome.DENY)
        agent.lifecycle(governed, Reason.STOPPED, {"status": status})
        if lost:
            said = f"what holds the sandbox was taken away, so it was killed: {'; '.join(lost)}"
            raise StockadeError(said, hint="somebody with root's rights did that", code="enforcement_lost")
        return status

    def _keep(self) -> None:
        """Write down what the next agent needs, should this one die."""
        charge, sandbox = self._charge, self._charge.governed.sandbox
        if self._init is None:  # it has ended
            return
        kept = dataclasses.replace(charge.kept, policy=self.generations.on_disk)
        worker = Process.of(self._workers.current.pid)
        try:
            charge.slot.state.write(State(sandbox, self._init, worker, charge.build, self._since, kept))
        except OSError as error:  # everything is governed as it was; the next agent will find what was written before, or nothing
            log.error("nothing is kept for the next agent: %s", error)

    async def _live(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            self._beat()

    def _beat(self) -> None:
        limits = {_LIMIT + name: count for name, count in self._charge.limits.counted.items()}
        try:
            self._charge.slot.beat(self.agent.counted | limits)
        except OSError as error:  # the gap will be told longer than it was, and what was counted twice
            log.error("no sign of life is given: %s", error)

    def resume(self, counted: Mapping[str, int]) -> None:
        """Go on counting where a dead agent left off: what the kernel counted since is news."""
        self.agent.counted |= {name: count for name, count in counted.items() if name in FAILURES}
        self._charge.limits.counted = {name.removeprefix(_LIMIT): count for name, count in counted.items() if name.startswith(_LIMIT)}
