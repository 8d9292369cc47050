"""An agent's time with one sandbox: everything that serves it, from the first event that is read to the last record.

`run` begins it with a sandbox that is not started yet, `adopt` with one whose agent died. Owns the order in which things begin to serve and
end; makes and finds nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stockade import dns
from stockade.kernel.abi import FAILURES
from stockade.sandbox.inside import Inside
from stockade.sandbox.launch import Sockets
from stockade.sandbox.limits import Limits
from stockade.service.approvals import Approvals
from stockade.service.bounds import Bounds
from stockade.service.desk import Desk
from stockade.service.enforcement import Enforcement
from stockade.service.generations import Generations, Load
from stockade.service.governed import Governed
from stockade.service.inbound import Doors
from stockade.service.observed import Observed
from stockade.service.patrol import Beat
from stockade.service.renewal import Renewal
from stockade.service.slots import Slot
from stockade.service.state import Kept, Process, State, now
from stockade.service.station import Station
from stockade.service.watch import Watch
from stockade.types import Outcome, Reason, StockadeError

log = logging.getLogger(__name__)

_LIMIT = "limit "  # before the name of a limit, among what is counted
_DOMAIN = "landlock domain"  # beside them, once it is known


@dataclass(frozen=True, slots=True)
class Charge:
    """A sandbox that is governed already. sockets: the agent's, in its network namespace. load: reads its policy again.

    lost: what no longer holds it, in words.
    """

    slot: Slot
    governed: Governed
    sockets: Sockets
    limits: Limits
    watch: Watch
    load: Load
    lost: Callable[[], list[str]]
    kept: Kept
    build: str


class Tenure:
    """generations, desk, doors, renewal and observed: there once it has begun."""

    def __init__(self, station: Station, charge: Charge) -> None:
        self._station, self._charge = station, charge
        self._init: Process | None = None
        self._hosted = charge.slot.hosted  # then what the kernel counts is of all of a daemon's, and its own to go on with
        self._since = now()
        station.agent.govern(charge.governed)

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Everything answers when this returns. What is to be undone goes onto the stack. Raises StockadeError."""
        station, charge, governed = self._station, self._charge, self._charge.governed
        agent, workers = station.agent, station.workers
        stack.callback(agent.forget, governed.number)
        governed.named = charge.slot.state.name
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
        self.doors = Doors(governed, agent, Inside(charge.sockets.resolve_tcp4), lambda: workers.current)
        stack.push_async_callback(self.doors.close)
        self.generations = Generations(governed, charge.watch, charge.load, lambda: workers.current, agent.write, table.rules, self.doors)
        self.desk = agent.desks[governed.number] = Desk(governed, table, self.generations, charge.kept.order.approved, agent.write)
        self.renewal = Renewal(governed, charge.kept.authority, station.settings.configured.ca, lambda: workers.current, agent.write)
        self.generations.prepare = self.renewal.prepare
        await workers.serve(agent, governed, charge.sockets, lambda: self.renewal.authority.signing, self._keep)
        stack.push_async_callback(workers.release, governed.number)
        stack.push_async_callback(self.generations.close)  # before the others: what is under way speaks of this number
        certificate = station.listen.certificate if station.listen is not None else None
        self.observed = Observed(agent, governed, workers, self.renewal, certificate)
        self.observed.metrics = station.metrics
        station.observed[governed.number] = self.observed
        stack.callback(station.observed.pop, governed.number, None)
        self.doors.open(governed.policy)

    async def hold(self, init: int, pidfd: int, ended: asyncio.Task[int], finish: Callable[[], None] = lambda: None) -> int:
        """Until the sandbox ends, by itself or because what holds it is gone. Returns what `ended` did: the status of its init.

        pidfd: of init, and the caller's. finish: called when nothing of the sandbox runs any more. Raises StockadeError when it was lost.
        """
        station, charge, governed = self._station, self._charge, self._charge.governed
        agent, workers = station.agent, station.workers
        self._init = Process.of(init)
        governed.init = init
        self.generations.kept = self.renewal.changed = self._keep
        self._keep()
        bounds, enforcement = Bounds(charge.limits, governed, agent.write), Enforcement(charge.lost, init, pidfd)
        self._live()

        def seldom() -> None:
            bounds.look()
            self._live()

        async with contextlib.AsyncExitStack() as stack:
            self.watch(stack, enforcement.look, seldom)
            lost = await enforcement.until(ended)
            charge.slot.sandbox.kill()
            if lost:
                await workers.release(governed.number)  # before the rest: what is open must not outlive what held it
            status = await ended
            await asyncio.to_thread(finish)  # somebody may take what was written slowly
            await self.doors.close()
            await workers.release(governed.number)
            await agent.settle()
            bounds.look()
        if lost:
            station.leave_target()
            agent.lifecycle(governed, Reason.ENFORCEMENT_LOST, {"lost": lost}, outcome=Outcome.DENY)
        if agent.audit_failure:  # there may be room again for one record of it
            agent.lifecycle(governed, Reason.AUDIT_UNAVAILABLE, {"error": agent.audit_failure}, outcome=Outcome.DENY)
        agent.lifecycle(governed, Reason.STOPPED, {"status": status})
        if lost:
            said = f"what holds the sandbox was taken away, so it was killed: {'; '.join(lost)}"
            raise StockadeError(said, hint="somebody with root's rights did that", code="enforcement_lost")
        return status

    def watch(
        self, stack: contextlib.AsyncExitStack, often: Callable[[], None] = lambda: None, seldom: Callable[[], None] = lambda: None
    ) -> None:
        """Have it looked at on every round, until the stack is unwound: its policy's files, its approvals, its key, and what is given."""

        def now_and_then() -> None:
            self.desk.look()
            seldom()

        beat = Beat(self._charge.watch, lambda: self.generations.ask("file"), often, now_and_then)
        stack.enter_context(self._station.patrol.walking(beat))
        stack.callback(asyncio.create_task(self.renewal.watch()).cancel)

    def _keep(self) -> None:
        """Write down what the next agent needs, should this one die."""
        charge, sandbox = self._charge, self._charge.governed.sandbox
        if self._init is None:  # it has ended
            return
        kept = dataclasses.replace(charge.kept, policy=self.generations.on_disk, authority=self.renewal.authority)
        worker = Process.of(self._station.workers.current.pid)
        try:
            charge.slot.state.write(State(sandbox, self._init, worker, charge.build, self._since, kept))
        except OSError as error:  # everything is governed as it was; the next agent will find what was written before, or nothing
            log.error("nothing is kept for the next agent: %s", error)

    def _live(self) -> None:
        counted = {_LIMIT + name: count for name, count in self._charge.limits.counted.items()}
        if not self._hosted:
            counted |= self._station.agent.counted
        if (domain := self._station.agent.landlocked.own(self._charge.governed)) is not None:
            counted[_DOMAIN] = domain
        try:
            self._charge.slot.beat(counted)
        except OSError as error:  # the gap will be told longer than it was, and what was counted twice
            log.error("no sign of life is given: %s", error)

    def count_on(self, counted: Mapping[str, int]) -> None:
        """Go on where a dead agent left off: what the kernel counted since is news."""
        if not self._hosted:
            self._station.agent.counted |= {name: count for name, count in counted.items() if name in FAILURES}
        if _DOMAIN in counted:
            self._station.agent.landlocked.again(self._charge.governed.number, counted[_DOMAIN])
        self._charge.limits.counted = {name.removeprefix(_LIMIT): count for name, count in counted.items() if name.startswith(_LIMIT)}
