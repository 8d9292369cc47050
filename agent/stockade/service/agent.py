"""The agent: the spine between kernel, resolver, workers and the audit trail, on one event loop.

`handle` is the product: one attempt, from kernel event to audit record. The workers' questions (class Spine of the proxy) are answered here
too, always after the kernel's own events were read: an exec or connect is in the trail before anything that follows from it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stockade.audit import AuditError, Trail
from stockade.audit.record import Json, record_id
from stockade.dns import Asker
from stockade.kernel.abi import Event, EventType, Origin
from stockade.kernel.events import Ring, explain_packet
from stockade.kernel.load import Kernel
from stockade.metrics.figures import Figures, Stage
from stockade.metrics.ledger import Ledger
from stockade.metrics.namespaces import Namespaces
from stockade.metrics.snapshot import Sink
from stockade.policy import decide
from stockade.policy.neighbour import neighbour_of
from stockade.proxy import Begun, Caller, Resolved
from stockade.proxy.spine import Local, Recorded, Unreached
from stockade.service import attempts, neighbours, opened, refused, upstream
from stockade.service.desk import Desk
from stockade.service.governed import Governed
from stockade.service.landlocked import Landlocked
from stockade.service.settings import Settings
from stockade.types import (
    Action,
    Decision,
    Effect,
    Http,
    Level,
    Outcome,
    Reason,
    Record,
    Request,
    Sandbox,
)

log = logging.getLogger(__name__)

CONTROL, FIRST_USER = Settings().control, Settings().first_sandbox_user
ASIDE = 16384  # events of a sandbox that is not served yet, which is what the ring holds
GATHER = 0.005  # seconds that events lie in the ring: to wake the agent for each costs its process two interrupts and a switch
BUSY = 0.02  # the same while there are always some: read together, each takes the agent a third less

Detail = dict[str, str | int | list[str]]


class Agent:
    """Serves any number of sandboxes. Single-threaded: everything but the upstream look-ups and scapy runs on the loop.

    counted: what the kernel counted that is on record.
    """

    def __init__(self, kernel: Kernel, trail: Trail, failures_every: float, control: Path = CONTROL, first_user: int = FIRST_USER) -> None:
        """control: the directory of control sockets, where other sandboxes are found. first_user: the user of sandbox n is n above."""
        self.kernel, self.trail, self._control = kernel, trail, control
        self.governed: dict[int, Governed] = {}
        self.desks: dict[int, Desk] = {}
        self.ledgers: dict[int, Ledger] = {}
        self.namespaces = Namespaces()
        self._counting: dict[str, Ledger] = {}  # by the sandbox's id
        trail.subscribers.append(self._written_down)
        self.sinks: Callable[[], tuple[Sink, ...]] = tuple  # how they stand, where the trail has any
        self.own_ports: set[int] = set()  # of this host that no sandbox is led to
        self.refusing: dict[int, Callable[[Event], None]] = {}  # told of each exec of a sandbox that is refused
        self._ring = Ring(kernel.maps.events, self.handle)
        self.landlocked = Landlocked.listen(first_user)
        self.counted = kernel.maps.failures() | self._ring.lost
        self._every = failures_every
        self._opens_told = time.monotonic()
        self._audit_failure: str | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._aside: dict[int, list[Event]] = {}  # of sandboxes that are to be served and are not yet
        self._unserved: set[int] = set()

    def govern(self, governed: Governed) -> Ledger:
        """Serve this sandbox from now on, and count what is written of it."""
        ledger = self.ledgers[governed.number] = Ledger()
        if governed.sandbox.namespace:
            self.namespaces.begun(governed.sandbox.namespace, ledger)
        self.governed[governed.number] = governed
        self._counting[governed.sandbox.id] = ledger
        for event in self._aside.pop(governed.number, ()):
            self.handle(event)
        return ledger

    def _written_down(self, record: Json) -> None:
        if (ledger := self._counting.get(record["sandbox"]["id"])) is not None:
            ledger.record(record)

    def expect(self, numbers: Iterable[int]) -> None:
        """Sandboxes that are to be taken over: what the kernel told of them meanwhile is kept until each is served."""
        self._aside.update((number, []) for number in numbers)

    def forget(self, number: int) -> None:
        """It has ended, and everything of it is on record."""
        governed = self.governed.pop(number)
        self.namespaces.ended(self.ledgers.pop(number))
        del self._counting[governed.sandbox.id]
        self.desks.pop(number, None)
        self.refusing.pop(number, None)
        self.landlocked.forget(number)

    def start(self) -> None:
        """Read the kernel's events on the running loop."""
        self._listen()
        self._keep(self._watch_failures())

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._ring.descriptor, self._stirred)

    def _stirred(self) -> None:
        """The first event after a silence. The kernel wakes nobody for those that follow while this one lies there."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._ring.descriptor)
        self._gathering = loop.call_later(GATHER, self._gather)

    def _gather(self) -> None:
        more = self._ring.consume()
        if self._ring.taken:
            self._gathering = asyncio.get_running_loop().call_later(GATHER if more else BUSY, self._gather)
        else:
            self._listen()

    async def settle(self) -> None:
        """Record everything that the kernel has told and counted so far."""
        self._ring.drain()
        self._count_failures()
        self._tell_refusals(everything=True)
        self._tell_opens()
        await asyncio.gather(*(task for task in self._tasks if task.get_name() == "packet"))

    async def close(self) -> None:
        """Settle, and let go of the ring."""
        await self.settle()
        asyncio.get_running_loop().remove_reader(self._ring.descriptor)
        if self._gathering is not None:
            self._gathering.cancel()
        for task in self._tasks:
            task.cancel()
        for number, events in self._aside.items():
            if events:
                log.error(
                    "sandbox %d was held and not served: %d things that it tried were refused, and are on no record", number, len(events)
                )
        self._ring.close()
        self.landlocked.close()
        self.trail.subscribers.remove(self._written_down)

    # the spine

    def handle(self, event: Event) -> None:
        """One attempt, from kernel event to audit record."""
        governed = self.governed.get(event.sandbox)
        if governed is None:
            self._put_aside(event)
            return
        if event.type is EventType.EXEC:
            governed.executed(event.exec_id, attempts.executed_binary(event, governed), event.parent_exec_id, event.name)
        record = attempts.record_of(event, governed)
        if event.type is EventType.PACKET:
            self._keep(self._explain(governed, record, event.tail), "packet")
            return
        self.write(governed, record)
        self.ledgers[event.sandbox].happened(Stage.EXEC if event.type is EventType.EXEC else None, event.time)
        if event.type is EventType.EXEC and record.outcome is Outcome.DENY:
            self.refusing.get(event.sandbox, _nobody)(event)

    def _put_aside(self, event: Event) -> None:
        """Of a sandbox that nobody serves. One that has ended said its last; one that is to be taken over is waited for."""
        aside = self._aside.get(event.sandbox)
        if aside is None:
            return
        if len(aside) < ASIDE:
            aside.append(event)
        elif event.sandbox not in self._unserved:
            self._unserved.add(event.sandbox)
            log.error("sandbox %d is held and not served: what it tries is refused, and on no record from here on", event.sandbox)

    async def _explain(self, governed: Governed, record: Record, packet: bytes) -> None:
        record.detail["packet"] = await asyncio.to_thread(explain_packet, packet)
        self.write(governed, record)

    def write(self, governed: Governed, record: Record) -> None:
        """Into the trail, or remember that the trail is broken: from then on nothing is allowed."""
        self._note(governed, record)
        try:
            self.trail.append(governed.sandbox_of(record), record)
        except AuditError as error:
            self._fail_audit(error, governed)
        else:
            self._written(governed)

    def _note(self, governed: Governed, record: Record) -> str | None:
        """A refusal that a person may lift waits for one; the id of it."""
        desk = self.desks.get(governed.number) if record.outcome is Outcome.DENY else None
        return desk.note(record) if desk is not None else None

    def _fail_audit(self, error: Exception, governed: Governed | None = None) -> None:
        if self._audit_failure is None:
            goes_on = governed is not None and self._goes_on(governed)
            then = "it goes on without, as the policy says" if goes_on else "nothing is allowed from here on"
            log.error("audit trail: %s; %s", error, then)
        self._audit_failure = str(error)

    def _goes_on(self, governed: Governed) -> bool:
        """Whether what cannot be recorded happens all the same. The trail counts it, and says how much when it can be written again."""
        return governed.policy.on_audit_failure == "continue"

    def _written(self, governed: Governed) -> None:
        if self._audit_failure is not None and all(map(self._goes_on, self.governed.values())):
            self._audit_failure = None  # else somebody is refused until the end, as was said

    @property
    def audit_failure(self) -> str | None:
        """Why the trail could not be written, if that ever happened: nothing was allowed after it."""
        return self._audit_failure

    def _require_audit(self, governed: Governed) -> None:
        if self._audit_failure is not None and not self._goes_on(governed):
            raise AuditError(self._audit_failure)

    def lifecycle(
        self, governed: Governed, reason: Reason, detail: Detail, *, outcome: Outcome = Outcome.ALLOW, sandbox: Sandbox | None = None
    ) -> None:
        """A record about the sandbox itself. sandbox: as that record is to name it. Raises AuditError."""
        effect = Effect.PASS if outcome is Outcome.ALLOW else Effect.REFUSE
        self.trail.append(sandbox or governed.sandbox, Record(Action.LIFECYCLE, outcome, effect, Level.STATIC, reason, detail=detail))

    # what the kernel counted: helpers that failed, packets dropped, events lost

    async def _watch_failures(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            self._count_failures()
            self._tell_refusals()
            if time.monotonic() - self._opens_told >= opened.EVERY:
                self._tell_opens()

    def _count_failures(self) -> None:
        counted = self.kernel.maps.failures() | self._ring.lost
        grown: Detail = {name: count - self.counted[name] for name, count in counted.items() if count != self.counted[name]}
        self.counted = counted
        if not grown:
            return
        reason = Reason.EVENTS_LOST if grown.keys() & {"event", *self._ring.lost} else Reason.PACKET_DROPPED
        for governed in self.governed.values():
            try:
                self.lifecycle(governed, reason, grown, outcome=Outcome.DENY)
            except AuditError as error:
                self._fail_audit(error)

    def _tell_refusals(self, *, everything: bool = False) -> None:
        """What the kernel refused without asking us. After the events: an exec is known before what it was refused."""
        self._ring.consume()
        for refusal in self.kernel.refusals.take(everything=everything):
            if governed := self.governed.get(refusal.sandbox):
                self.write(governed, refused.record_of(refusal, governed))
        for governed, record in self.landlocked.news(self.governed):
            self.write(governed, record)

    def _tell_opens(self) -> None:
        """What was opened below the directories that a policy asks about, since it was last told."""
        self._opens_told = time.monotonic()
        for found in self.kernel.opens.news():
            governed = self.governed.get(found.sandbox)
            if governed is None:
                continue
            try:
                self.trail.append(governed.sandbox, opened.record_of(found, governed))
                self.kernel.opens.recorded(found)
            except AuditError as error:  # it is told when there is a trail again
                self._fail_audit(error)
                return
            except OSError as error:
                log.error("opens will be told twice: %s", error)

    def _catch_up(self, governed: Governed, exec_id: int) -> None:
        """Read the kernel's events before answering a question about a process: all of them when its exec is still among them.

        Otherwise one turn, which is all there is unless somebody floods the ring; a flood must not hold up the others.
        """
        if governed.knows(exec_id):
            self._ring.consume()
        else:
            self._ring.drain()

    # the resolver's questions

    def may_ask(self, governed: Governed) -> Callable[[Asker, str], Decision]:
        return lambda asker, name: decide(Request(asker.binary, name, ancestors=asker.ancestry), governed.policy)

    def record_query(self, governed: Governed) -> Callable[[Asker, Record], None]:
        def record(_asker: Asker, found: Record) -> None:
            self._require_audit(governed)
            self._note(governed, found)
            try:
                self.trail.append(governed.sandbox_of(found), found)
            except AuditError as error:
                self._fail_audit(error, governed)
                if not self._goes_on(governed):
                    raise

        return record

    def asker_of_datagram(self, governed: Governed) -> Callable[[tuple[str, int], socket.AddressFamily], Asker | None]:
        def who(peer: tuple[str, int], family: socket.AddressFamily) -> Asker | None:
            found = self.kernel.maps.asker(governed.number, peer[1], 6 if family == socket.AF_INET6 else 4)
            self._catch_up(governed, found.exec_id if found else 0)
            return self._asker(governed, found.identity, found.exec_id, found.pid) if found else None

        return who

    def asker_of_connection(self, governed: Governed) -> Callable[[socket.socket], Asker | None]:
        def who(connection: socket.socket) -> Asker | None:
            try:
                origin = Origin.of(connection)
            except (OSError, ValueError):
                return None
            self._catch_up(governed, origin.exec_id)
            return self._asker(governed, origin.identity, origin.exec_id, origin.pid)

        return who

    def _asker(self, governed: Governed, identity: int, exec_id: int, pid: int) -> Asker:
        return Asker(governed.binary(identity, exec_id), pid, exec_id, governed.ancestry(exec_id))

    # the workers' questions

    async def identify(self, origin: Origin) -> Caller:
        governed = self.governed[origin.sandbox]
        self._catch_up(governed, origin.exec_id)
        self._require_audit(governed)
        binary = governed.binary(origin.identity, origin.exec_id)
        return Caller(binary, governed.ancestry(origin.exec_id), governed.host(origin.name, origin.address), origin.port)

    async def resolve(self, origin: Origin, generation: int) -> Resolved:
        governed = self.governed[origin.sandbox]
        host = governed.host(origin.name, origin.address)
        if host is None:
            return Resolved(())
        policy = self.desks[origin.sandbox].policy_for(host, origin.port, generation)
        # what is only observed passes for any binary, and so does its way to a host that the policy names
        binary = governed.binary(origin.identity, origin.exec_id) if policy.enforced else None
        found = await upstream.resolve(host, origin.port, policy, binary)
        return upstream.but_for_own(found, origin.port) if origin.port in self.own_ports else found

    async def reach(self, origin: Origin, generation: int) -> socket.socket | Unreached:
        """Into another sandbox: asked here once more, since a worker is not believed, and then of that sandbox's own agent."""
        governed = self.governed[origin.sandbox]
        host = governed.host(origin.name, origin.address)
        name = neighbour_of(host) if host is not None else None
        if host is None or name is None:
            return Unreached(Reason.RESOLVE_FAILED, f"{host} is no sandbox")
        binary, ancestry = governed.binary(origin.identity, origin.exec_id), governed.ancestry(origin.exec_id)
        policy = self.desks[origin.sandbox].policy_for(host, origin.port, generation)
        decision = decide(Request(binary, host, origin.port, ancestors=ancestry), policy)
        if not decision.passes:
            return Unreached(decision.reason, f"the policy does not let {binary.name} reach {host}:{origin.port}")
        return await neighbours.reach(self._control, name, origin.port, neighbours.caller(governed.sandbox, binary, origin.pid))

    async def local(self, sandbox: int, generation: int) -> Local:
        return await upstream.local(self.governed[sandbox].policy_of(generation))

    async def record(self, sandbox: int, record: Record) -> Recorded:
        governed = self.governed[sandbox]
        approval = self._note(governed, record)
        try:
            written = self.trail.enter(governed.sandbox_of(record), record)
        except AuditError as error:
            self._fail_audit(error, governed)
            if not self._goes_on(governed):
                raise
            return Recorded("", approval)
        self._written(governed)
        return Recorded(record_id(written), approval)

    async def begin(self, sandbox: int, record: Record) -> Begun | None:
        governed, desk = self.governed[sandbox], self.desks[sandbox]
        self._require_audit(governed)
        rules = desk.take(record)
        if rules is None:
            await desk.withdrawn()
            return None
        try:
            token = self.trail.begin(governed.sandbox_of(record), record)
        except AuditError as error:
            self._fail_audit(error, governed)
            if not self._goes_on(governed):
                raise
            token = self.trail.begin(governed.sandbox_of(record), record, required=False)
        desk.began(token, record, rules)
        return Begun(token, once=bool(rules))

    async def approval(self, sandbox: int, identifier: str) -> dict[str, Any] | None:
        return self.desks[sandbox].page(identifier)

    async def finish(self, token: int, http: Http | None, effect: Effect, reason: Reason, detail: Detail | None = None) -> str:
        for desk in self.desks.values():
            desk.over(token)
        # `mode: observe` let it pass, and something that it never lifts stood in the way: refused is refused
        enforced = True if effect is Effect.REFUSE or reason is Reason.POLICY_CHANGED else None
        required = not all(map(self._goes_on, self.governed.values()))
        try:
            written = self.trail.complete(
                token, http=http, effect=effect, reason=reason, enforced=enforced, detail=detail, required=required
            )
        except AuditError as error:
            self._fail_audit(error)
            raise
        return record_id(written) if written is not None else ""

    def figures(self, sandbox: int, figures: Figures) -> None:
        self.ledgers[sandbox].figures(figures)

    def _keep(self, work: object, name: str = "watch") -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _nobody(_event: Event) -> None:
    """Asked to be told."""
