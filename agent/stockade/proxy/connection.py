"""One accepted connection and the sandbox it belongs to: who, to where, under which policy, and how to end it.

Owns the records about connections. What flows inside is the business of `relay` or `engine`, which it holds as `live`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stockade.kernel.abi import Origin, Verdict
from stockade.metrics.figures import Stage
from stockade.policy.neighbour import neighbour_of
from stockade.proxy.agent import Agent
from stockade.proxy.ladder import Decide
from stockade.proxy.leaves import Leaves
from stockade.proxy.metering import Meter
from stockade.proxy.relay import Relay, reset_on_close
from stockade.proxy.settings import Settings
from stockade.proxy.spine import Caller, Recorded, Unreached
from stockade.proxy.taint import SpeakerOf, Taint
from stockade.proxy.upstream import Unreachable, dial
from stockade.types import Action, Decision, Destination, Effect, Http, Level, Outcome, Reason, Record, Request


@dataclass(slots=True, eq=False)
class Served:
    """A sandbox as its worker knows it. policy is always the newest; every decision reads it anew."""

    sandbox: int
    policy: Any
    leaves: Leaves
    listeners: list[socket.socket]
    connections: set[Open] = field(default_factory=set)
    accepting: list[asyncio.Task[None]] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)
    _room: asyncio.Semaphore | None = None

    def room(self, connections: int) -> asyncio.Semaphore:
        """One count of connections for all listeners of the sandbox."""
        if self._room is None:
            self._room = asyncio.Semaphore(connections)
        return self._room


class Live(Protocol):
    """What carries an admitted connection."""

    def cut(self) -> None:
        """Reset both sides now."""

    async def redecide(self) -> None:
        """The policy is new: cut and record what it denies."""

    def interrupt(self) -> None:
        """The worker stops: complete the records that are open, then cut."""


class Open(Protocol):
    """A connection that is not closed yet. live: what carries it, once it is admitted."""

    @property
    def live(self) -> Live | None: ...

    def reset(self) -> None:
        """End it at once; nothing is recorded."""


class Connection:
    """From accept to close. origin and caller are set as they become known; both stay the same for the connection's life.

    taint: who else speaks on it.
    """

    def __init__(self, served: Served, client: socket.socket, agent: Agent, decide: Decide, speaker_of: SpeakerOf) -> None:
        self.served, self.client, self.agent, self.decider = served, client, agent, decide
        self.taint = Taint(client, speaker_of)
        self.origin: Origin | None = None
        self.caller: Caller | None = None
        self.live: Live | None = None
        self._decided: Any = None  # the policy by which it was admitted

    def decide(self) -> Decision:
        """What the newest policy says to this connection as such, without method and path."""
        caller = self.caller
        assert caller is not None and caller.host is not None
        self._decided = self.served.policy
        return self.decider(Request(caller.binary, caller.host, caller.port, ancestors=caller.ancestry), self.served.policy)

    @property
    def enforced(self) -> bool:
        """Whether the policy refuses what it denies, rather than observe it."""
        return bool(getattr(self.served.policy, "enforced", True))

    @property
    def stale(self) -> bool:
        """Whether the policy has changed since this connection was decided."""
        return self._decided is not self.served.policy

    def relayed(self, decision: Decision) -> bool:
        """Whether a passing decision means the relay. A denial that `mode: observe` lets pass goes the way the kernel sent it."""
        if decision.effect is Effect.REFUSE:
            return self.origin is not None and self.origin.verdict is Verdict.RELAY
        return decision.effect is Effect.RELAY

    def demands_tls(self, decision: Decision) -> bool:
        """Whether the rule that relays says `tls: passthrough`; only an explicit `protocol: tcp` may carry anything else."""
        rules = getattr(self.served.policy, "rules", ())
        return not any(rule.name == decision.rule and rule.protocol == "tcp" for rule in rules)

    async def other(self) -> Caller | None:
        """Who else speaks on it; every decision is made for both. Raises Gone, ConnectionError."""
        assert self.origin is not None and self.caller is not None
        return await self.taint.look(self.origin, self.caller, self.agent)

    def record(
        self,
        level: Level,
        reason: Reason,
        *,
        action: Action = Action.CONNECT,
        effect: Effect = Effect.REFUSE,
        decision: Decision | None = None,
        http: Http | None = None,
        detail: Mapping[str, str | int] | None = None,
    ) -> Record:
        """A record about this connection, complete with all that is known of it."""
        origin, caller = self.origin, self.caller
        host = str(origin.address) if origin is not None else ""
        port = origin.port if origin is not None else None
        if caller is not None and caller.host is not None:
            host, port = caller.host, caller.port
        binary = caller.binary if caller is not None else None
        said: dict[str, str | int | list[str]] = dict(detail or {})
        if binary is not None and self.taint.caller is not None:
            binary = dataclasses.replace(binary, identity="tainted")
            said |= {"speaker": self.taint.caller.binary.path, "speaker_pid": self.taint.pid or 0}
        return Record(
            action=action,
            outcome=decision.outcome if decision is not None else Outcome.DENY,
            effect=effect,
            level=level,
            reason=reason,
            rule=decision.rule if decision is not None else None,
            enforced=decision.enforced if decision is not None else True,
            binary=binary,
            exec_id=origin.exec_id if origin is not None else None,
            pid=origin.pid if origin is not None else None,
            ancestry=caller.ancestry if caller is not None else (),
            destination=Destination(host, port) if host else None,
            http=http,
            generation=decision.generation if decision is not None else None,
            detail=said,
        )

    async def refuse(self, level: Level, reason: Reason, error: str, decision: Decision | None = None) -> Recorded:
        """Record that this connection ends here. The caller closes it, whether or not the record could be written."""
        return await self.agent.record(self.served.sandbox, self.record(level, reason, decision=decision, detail={"error": error[:1024]}))

    async def cut_and_record(self, level: Level, reason: Reason, decision: Decision | None = None, **detail: str | int) -> None:
        """Reset first, then write it down: a trail that is full must not keep a denied connection open."""
        self.reset()
        record = self.record(level, reason, effect=Effect.CUT, decision=decision, detail=detail)
        await self.agent.record(self.served.sandbox, record)

    def reset(self) -> None:
        reset_on_close(self.client)
        if self.live is not None:
            self.live.cut()


async def reach(connection: Connection, settings: Settings) -> socket.socket:
    """A socket to the other side: resolved and checked by the agent, dialled as it stands. Raises Unreachable."""
    began = time.perf_counter()
    reached = await _reach(connection, settings)
    connection.served.meter.since(Stage.UPSTREAM_CONNECT, began)
    return reached


async def _reach(connection: Connection, settings: Settings) -> socket.socket:
    caller = connection.caller
    assert caller is not None and caller.host is not None and connection.origin is not None
    if neighbour_of(caller.host) is not None:
        return await _reach_neighbour(connection, connection.origin)
    try:
        resolved = await connection.agent.resolve(connection.origin, connection.served.policy.generation)
    except ConnectionError as error:
        raise Unreachable(Reason.RESOLVE_FAILED, str(error)) from error
    if resolved.refused is not None:
        raise Unreachable(Reason.ADDRESS_REFUSED, resolved.refused)
    if not resolved.addresses:
        raise Unreachable(Reason.RESOLVE_FAILED, f"{caller.host} does not resolve")
    try:
        return await dial(resolved.addresses, caller.port, settings.dial_seconds)
    except OSError as error:
        raise Unreachable(Reason.UPSTREAM_UNREACHABLE, str(error) or "no answer in time") from error


async def _reach_neighbour(connection: Connection, origin: Origin) -> socket.socket:
    """Raises Unreachable."""
    try:
        reached = await connection.agent.reach(origin, connection.served.policy.generation)
    except ConnectionError as error:
        raise Unreachable(Reason.UPSTREAM_UNREACHABLE, str(error)) from error
    if isinstance(reached, Unreached):
        raise Unreachable(reached.reason, reached.error)
    reached.setblocking(False)
    return reached


class RelayedConnection:
    """`Live` for a relay. withheld: whether the policy in force wants what passes here to be read, which nobody can."""

    def __init__(self, connection: Connection, relay: Relay, withheld: Callable[[Connection], bool]) -> None:
        self._connection, self._relay, self._withheld = connection, relay, withheld
        self.ended = False
        self.tainted = False

    def heard(self) -> bool:
        """Whether what came from the client may pass: a relay cannot tell where a request begins, so anybody else's word ends it."""
        self.tainted = self.tainted or self._connection.taint.stirred() is not None
        if not self.tainted or not self._connection.enforced:
            return True
        self._connection.reset()
        return False

    async def over(self) -> None:
        """Record that somebody else spoke, also when it was noticed after the last piece had passed."""
        connection = self._connection
        assert connection.origin is not None and connection.caller is not None
        if await connection.taint.recall(connection.origin, connection.caller, connection.agent) is None:
            return
        sizes = {"bytes_sent": self._relay.sent, "bytes_received": self._relay.received}
        record = connection.record(Level.BINARY, Reason.SOCKET_TAINTED, effect=Effect.CUT, detail=sizes)
        if not connection.enforced:
            record = dataclasses.replace(record, effect=Effect.PASS, enforced=False)
        await connection.agent.record(connection.served.sandbox, record)

    def cut(self) -> None:
        self.ended = True
        self._relay.cut()

    async def redecide(self) -> None:
        connection = self._connection
        decision = connection.decide()
        kept = decision.passes and connection.relayed(decision) and (self._relay.tls or not connection.demands_tls(decision))
        withheld = kept and self._withheld(connection)
        if kept and not withheld:
            return
        # A rule that now wants to look inside cannot look into a session that it did not terminate; one that wants TLS would have looked
        # at the first flight.
        sent, received = self._relay.sent, self._relay.received
        denial = None if decision.passes else decision
        level = Level.PRIVACY if withheld else decision.level
        await connection.cut_and_record(level, Reason.POLICY_CHANGED, denial, bytes_sent=sent, bytes_received=received)

    def interrupt(self) -> None:
        self.cut()
