"""Doors: the ports of the host through which others come in to one sandbox, as its policy's `inbound` says. Without it there are none.
Other sandboxes come by their agent's word instead (`visit`), and for them alone no port is opened.

Owns the listening sockets, who may come in, and the one record of everybody who tries. It reads no byte of what comes: an admitted
connection is dialled on inside and both ends go to the proxy worker. The listeners stay with the agent, so that they end with it, and so
that a worker cannot let anybody in.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from stockade.audit import AuditError
from stockade.policy import Policy
from stockade.policy.hosts import Address
from stockade.policy.neighbour import Visitor
from stockade.proxy.spine import Passed
from stockade.sandbox.inside import Inside
from stockade.sandbox.listener import holder_of
from stockade.service.agent import Agent
from stockade.service.governed import Governed
from stockade.service.neighbours import REFUSED, Caller, pair
from stockade.types import Action, Destination, Effect, Level, Outcome, Reason, Record, StockadeError

log = logging.getLogger(__name__)

DIAL_SECONDS = 10.0  # for a listener inside whose backlog is full
PASSAGES = 256  # of one sandbox at once: beyond, whoever comes waits in the kernel's backlog
LAST_WORDS = 1.0  # seconds in which connections may end by themselves when the sandbox has
_BACKLOG = 128
_AFTER_FAILURE = 0.1  # seconds without accepting when it failed, which is for want of descriptors
_FAMILIES = ((4, "127.0.0.1", "0.0.0.0"), (6, "::1", "::"))
_RESET, _NO_RESET = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)  # struct linger: closing drops what is queued and sends RST


class Carries(Protocol):
    """A worker, as far as a door needs it. Raises ConnectionError."""

    async def carry(self, sandbox: int, port: int, source: str, outer: socket.socket, inner: socket.socket) -> Passed: ...


class Door(NamedTuple):
    """What is listened at for a sandbox: a numeric address, of the loopback or of all, and a port."""

    address: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


def doors_of(policy: Policy) -> frozenset[Door]:
    """Where a policy wants to be listened: for each port and family that has sources, on loopback when they are nothing else."""
    return frozenset(_doors_of(policy))


def _doors_of(policy: Policy) -> Iterator[Door]:
    for inbound in policy.inbound:
        for version, loopback, anywhere in _FAMILIES:
            sources = [network for network in inbound.networks if network.version == version]
            if sources:
                yield Door(loopback if all(network.is_loopback for network in sources) else anywhere, inbound.port)


class Doors:
    """One sandbox's, on the running loop. worker: the one that serves now."""

    def __init__(self, governed: Governed, agent: Agent, inside: Inside, worker: Callable[[], Carries]) -> None:
        self._governed, self._agent, self._inside, self._worker = governed, agent, inside, worker
        self._loop = asyncio.get_running_loop()
        self._open: dict[Door, socket.socket] = {}
        self._passages: set[asyncio.Task[Any]] = set()
        self._closed = False

    def open(self, policy: Policy) -> None:
        """Listen where this policy wants to, beside what is open. Who may come in is still the policy in force to say.

        Raises StockadeError when a port cannot be had; then everything is as it was.
        """
        wanted = doors_of(policy)
        missing = wanted - self._open.keys()
        ports = {(door.port, door.family) for door in missing}
        in_the_way = [door for door in self._open.keys() - wanted if (door.port, door.family) in ports]  # loopback, and now all, or back
        for door in in_the_way:
            self._shut(door)
        try:
            for door in sorted(missing):
                self._listen(door)
        except StockadeError:
            for door in missing & self._open.keys():
                self._shut(door)
            self._listen_again(in_the_way)
            raise

    def settle(self) -> None:
        """Keep open what the policy in force wants, and shut the rest."""
        wanted = doors_of(self._governed.policy)
        for door in self._open.keys() - wanted:
            self._shut(door)
        self._listen_again(wanted - self._open.keys())

    async def close(self) -> None:
        """Shut everything. What is still under way is given a moment, and is then on record as interrupted."""
        self._closed = True
        for door in list(self._open):
            self._shut(door)
        if self._passages:
            _, unfinished = await asyncio.wait(self._passages, timeout=LAST_WORDS)
            for passage in unfinished:
                passage.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        self._inside.close()

    def _listen(self, door: Door) -> None:
        listener = socket.socket(door.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            # Over connections of a former sandbox that the kernel still remembers; never over another listener (no SO_REUSEPORT)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if door.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(door)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise _not_opened(door, error) from None
        listener.setblocking(False)
        self._open[door] = listener
        self._loop.add_reader(listener, self._knock, door, listener)

    def _listen_again(self, doors: Iterable[Door]) -> None:
        for door in doors:
            try:
                self._listen(door)
            except StockadeError as error:  # somebody took it in between: nobody comes in, which is the safe side
                log.error("%s", error)

    def _shut(self, door: Door) -> None:
        listener = self._open.pop(door)
        self._loop.remove_reader(listener)
        listener.close()

    def _knock(self, door: Door, listener: socket.socket) -> None:
        """Somebody is at the door."""
        try:
            outer, peer = listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            log.error("accept on port %d: %s", door.port, error)
            self._pause()
            self._loop.call_later(_AFTER_FAILURE, self._resume)
            return
        outer.setblocking(False)
        source = ipaddress.ip_address(peer[0].partition("%")[0])
        record = self._record(door.port, outer.getsockname()[0], {"source": str(source), "source_port": peer[1]})
        if not self._governed.policy.admits(door.port, source):
            _reset(outer)
            self._agent.write(self._governed, record)
            return
        self._keep(self._admit(door.port, source, outer, record))

    async def visit(self, port: int, caller: Caller) -> socket.socket:
        """Let another sandbox in: a socket that leads to a port of this one. Raises StockadeError when it may not, or nobody is there."""
        name = self._governed.sandbox.name
        record = self._record(port, None, caller.detail())
        if not self._governed.policy.admits(port, caller.neighbour):
            self._agent.write(self._governed, record)
            raise StockadeError(f"{name} does not let {caller.neighbour} in on port {port}", code=REFUSED)
        if self._closed or len(self._passages) >= PASSAGES:
            why = "is ending" if self._closed else f"has {PASSAGES} connections that came in"
            self._agent.write(
                self._governed, dataclasses.replace(record, reason=Reason.LIMIT_REACHED, detail=record.detail | {"error": why})
            )
            raise StockadeError(f"{name} {why}", code="busy")
        return await asyncio.shield(self._keep(self._enter(port, caller, record)))

    def _keep[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        passage = self._loop.create_task(work)
        self._passages.add(passage)
        passage.add_done_callback(self._ended)
        if len(self._passages) >= PASSAGES:
            self._pause()
        return passage

    def _record(self, port: int, address: str | None, who: dict[str, str | int | list[str]]) -> Record:
        """Of a refusal, until somebody says better."""
        sandbox = self._governed.sandbox
        return Record(
            Action.INBOUND,
            Outcome.DENY,
            Effect.REFUSE,
            Level.DESTINATION,
            Reason.SOURCE_REFUSED,
            destination=Destination(sandbox.name, port, address),
            generation=sandbox.generation,
            detail=who,
        )

    async def _admit(self, port: int, source: Address, outer: socket.socket, record: Record) -> None:
        """One connection from its admission to its end, written ahead before anything of it is inside."""
        with outer:
            outer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # however this ends here, no half-open door is left
            try:
                token = await self._begin(port, record)
            except AuditError:
                return
            try:
                inner = await self._dial(token, port)
            except OSError:
                return
            with inner:
                await self._carry(token, port, source, outer, inner)

    async def _enter(self, port: int, caller: Caller, record: Record) -> socket.socket:
        """The same for another sandbox, which hears how it went: its end of the connection, carried from here on. Raises StockadeError."""
        name = self._governed.sandbox.name
        try:
            token = await self._begin(port, record)
            inner = await self._dial(token, port)
        except AuditError:
            raise StockadeError(f"{name} lets nobody in: its audit trail cannot be written", code="audit") from None
        except OSError as error:
            raise StockadeError(f"nobody listens on port {port} of {name}: {error or 'no answer in time'}", code="unreachable") from None
        try:
            outer, theirs = await pair(DIAL_SECONDS)
        except OSError as error:
            inner.close()
            self._finish(token, Reason.UPSTREAM_UNREACHABLE, Effect.REFUSE, Outcome.DENY, {"error": f"no connection on loopback: {error}"})
            raise StockadeError(f"no connection to {name}: {error}", code="unreachable") from None
        self._keep(self._carried(token, port, caller, outer, inner))
        return theirs

    async def _carried(self, token: int, port: int, caller: Caller, outer: socket.socket, inner: socket.socket) -> None:
        with outer, inner:
            await self._carry(token, port, caller.neighbour, outer, inner)

    async def _begin(self, port: int, record: Record) -> int:
        """Write an admission ahead, with who listens. Returns its token. Raises AuditError."""
        who = await self._listener(port)
        allowed = dataclasses.replace(record, outcome=Outcome.ALLOW, effect=Effect.RELAY, reason=Reason.RULE_ALLOW, **who)
        begun = await self._agent.begin(self._governed.number, allowed)
        assert begun is not None, "nothing that comes in rests on an approval"
        return begun.token

    async def _dial(self, token: int, port: int) -> socket.socket:
        """Raises OSError, with the record complete."""
        try:
            return await self._inside.dial(port, DIAL_SECONDS)
        except OSError as error:
            detail = {"error": str(error) or "no answer in time"}
            self._finish(token, Reason.UPSTREAM_UNREACHABLE, Effect.REFUSE, Outcome.DENY, detail)
            raise

    async def _listener(self, port: int) -> dict[str, Any]:
        """Who listens there, as fields of a record: nothing, where that cannot be told."""
        governed = self._governed
        try:
            inode = await self._inside.listening(port)
            pid = await asyncio.to_thread(holder_of, inode, governed.cgroup.processes()) if inode is not None else None
            tag = self._agent.kernel.maps.task(pid) if pid is not None else None
        except OSError as error:
            log.error("who listens on port %d: %s", port, error)
            return {}
        if tag is None or tag.sandbox != governed.number:
            return {}
        binary, ancestry = governed.binary(tag.identity, tag.exec_id), governed.ancestry(tag.exec_id)
        return {"binary": binary, "exec_id": tag.exec_id, "pid": pid, "ancestry": ancestry}

    async def _carry(self, token: int, port: int, source: Visitor, outer: socket.socket, inner: socket.socket) -> None:
        for sock in (outer, inner):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        outer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_RESET)
        try:
            passed = await self._worker().carry(self._governed.number, port, str(source), outer, inner)
        except (ConnectionError, asyncio.CancelledError) as error:
            self._finish(token, Reason.INTERRUPTED if isinstance(error, asyncio.CancelledError) else Reason.WORKER_LOST, Effect.CUT)
            return
        effect = Effect.RELAY if passed.reason is Reason.RULE_ALLOW else Effect.CUT
        self._finish(token, passed.reason, effect, detail={"bytes_received": passed.sent, "bytes_sent": passed.received})

    def _finish(
        self, token: int, reason: Reason, effect: Effect, outcome: Outcome | None = None, detail: Mapping[str, str | int] | None = None
    ) -> None:
        try:
            required = self._governed.policy.on_audit_failure == "deny"
            self._agent.trail.finish(token, outcome=outcome, effect=effect, reason=reason, detail=detail, required=required)
        except AuditError as error:  # the next one is not admitted: begin() cannot write either
            log.error("audit trail: %s", error)

    def _pause(self) -> None:
        for listener in self._open.values():
            self._loop.remove_reader(listener)

    def _resume(self) -> None:
        for door, listener in self._open.items():
            self._loop.add_reader(listener, self._knock, door, listener)

    def _ended(self, passage: asyncio.Task[Any]) -> None:
        self._passages.discard(passage)
        if not passage.cancelled() and (error := passage.exception()) is not None and not isinstance(error, StockadeError):
            log.error("inbound: %r", error)
        if len(self._passages) == PASSAGES - 1:
            self._resume()


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def _not_opened(door: Door, error: OSError) -> StockadeError:
    where = f"port {door.port} of {door.address}"
    if error.errno == errno.EADDRINUSE:
        hint = f"ss -Hltnp 'sport = :{door.port}' says who has it; or another port under `inbound`"
        return StockadeError(f"inbound {where} is taken on this host", hint=hint, code="port_taken")
    return StockadeError(f"inbound {where} cannot be opened: {os.strerror(error.errno or 0)}", code="inbound")
