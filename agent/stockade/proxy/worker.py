"""The forked process: it accepts from the sandboxes' listeners, asks who is calling, decides again, and hands over to relay or engine.

It owns sockets and nothing else: no file, no resolver, no way to start a program. What it cannot identify, decide or record it closes.
When the channel ends it resets every connection and is gone: nothing is answered or forwarded without an agent that writes it down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from stockade.kernel.abi import Origin, Speaker
from stockade.memory import unhurried
from stockade.metrics.figures import Kind, Stage
from stockade.policy import load_families
from stockade.policy.rego import judge
from stockade.proxy import codec, metering
from stockade.proxy import confine as confinement
from stockade.proxy.agent import Agent
from stockade.proxy.authority import Signing
from stockade.proxy.channel import Channel
from stockade.proxy.connection import Connection, Open, RelayedConnection, Served, reach
from stockade.proxy.engine import Engine
from stockade.proxy.inbound import Passage
from stockade.proxy.ladder import Decide
from stockade.proxy.leaves import LeafKeys, Leaves
from stockade.proxy.relay import ClientGone, Cut, Refused, Relay
from stockade.proxy.settings import Settings, system_bundle
from stockade.proxy.spine import Caller, Passed
from stockade.proxy.taint import SpeakerOf
from stockade.proxy.tls import Tls
from stockade.proxy.upstream import Trust, Unreachable
from stockade.types import Decision, Level, Reason

LAST_WORDS = 5.0  # seconds in which connections of a sandbox that has ended get their records
_DESCRIPTORS = {"judge": 1, "classifier": 1, "serve": 4, "pass": 2}  # that come with a command

_log = logging.getLogger("stockade.proxy")


def main(
    channel: socket.socket,
    *,
    uid: int,
    gid: int,
    confine: Callable[[], None] | None,
    settings: Settings,
    decide: Decide | None,
    origin_of: Callable[[socket.socket], Origin] | None,
    speaker_of: SpeakerOf | None,
) -> None:
    """The whole life of a worker, from just after the fork. Everything that reads a file comes before `drop`."""
    confinement.detach(channel.fileno())
    _log_to_stderr()
    if decide is None:
        from stockade.policy import decide as policy_decide

        decide = policy_decide
    load_families()  # rules may ask who started a binary, by any name
    judge.use(None)
    tls = Tls(Trust.load(settings.trust or system_bundle()), LeafKeys.generate())
    engine = Engine(tls, settings)
    with unhurried():  # all of mitmproxy, which is there to stay
        engine.rehearse()
    confinement.drop(uid, gid)
    if confine is not None:
        confine()
    asyncio.run(Proxy(channel, engine, settings, decide, origin_of or Origin.of, speaker_of or Speaker.of).run())


class Lines(logging.Formatter):
    """One line per event on stderr, and never a traceback: formatting one reads source files, which the worker may not."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"proxy[{os.getpid()}] {record.levelname.lower()} {record.getMessage()}"
        error = record.exc_info[1] if record.exc_info else None
        return f"{line} error={error!r}" if error is not None else line


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(os.fdopen(2, "w", buffering=1, closefd=False))
    handler.setFormatter(Lines())
    logging.getLogger().handlers[:] = [handler]  # the agent's own handlers stand on descriptors that `detach` closed


class Proxy:
    """The loop of one worker and the sandboxes it serves."""

    def __init__(
        self,
        sock: socket.socket,
        engine: Engine,
        settings: Settings,
        decide: Decide,
        origin_of: Callable[[socket.socket], Origin],
        speaker_of: SpeakerOf,
    ) -> None:
        self._sock, self._engine, self._settings, self._decide = sock, engine, settings, decide
        self._origin_of, self._speaker_of = origin_of, speaker_of
        self._agent = Agent(self._command)
        self._served: dict[int, Served] = {}
        self._callers: OrderedDict[tuple[object, ...], Caller] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        engine.classifier.changed = self._stir
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: _log.error("loop: %s %r", context.get("message"), context.get("exception")))
        channel = Channel(self._sock, received=self._agent.received, lost=self._orphaned)
        self._agent.attach(channel)
        self._agent.say("ready")
        await self._stopped.wait()
        await self._agent.drain()

    def _orphaned(self) -> None:
        """The agent is gone: at once, from the callback that saw it, with no further turn of the loop."""
        for served in self._served.values():
            for connection in served.connections:
                connection.reset()
        os._exit(1)

    # commands of the agent

    def _command(self, number: int, command: tuple[Any, ...]) -> None:
        """Descriptors are taken here and now: those of the next frame must not be taken for this one's."""
        count = _DESCRIPTORS.get(command[0], 0)
        try:
            sockets = [socket.socket(fileno=descriptor) for descriptor in self._agent.take_descriptors(count)]
        except ValueError as error:
            self._agent.done(number, repr(error))
            return
        self._spawn(self._obey(number, command, sockets))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task: %r", error)

    async def _obey(self, number: int, command: tuple[Any, ...], sockets: list[socket.socket]) -> None:
        value = None
        try:
            match command:
                case ("judge",):
                    judge.use(judge.Judge(sockets[0]))
                case ("classifier",):
                    self._engine.classifier.attach(sockets[0])
                case ("serve", sandbox, signing, policy):
                    self._serve(sandbox, signing, policy, sockets)
                case ("renew", sandbox, signing):
                    self._served[sandbox].leaves = self._leaves(signing)
                case ("reload", sandbox, packed):
                    with unhurried():
                        await self._reload(sandbox, pickle.loads(packed))  # noqa: S301 - from the agent
                case ("release", sandbox):
                    await self._release(sandbox)
                case ("pass", sandbox, port, source):
                    value = codec.encode_passed(await self._pass(sandbox, port, source, *sockets))
                case ("stop",):
                    await self._stop()
            self._agent.done(number, value=value)
        except Exception as error:  # the agent hears of it and decides what a worker is worth that cannot obey
            self._agent.done(number, repr(error)[:1024])
        if command == ("stop",):
            self._stopped.set()

    def _leaves(self, signing: Signing) -> Leaves:
        return Leaves(signing, self._engine.tls.keys, self._settings.leaves)

    def _serve(self, sandbox: int, signing: Signing, policy: Any, listeners: list[socket.socket]) -> None:
        served = Served(sandbox, policy, self._leaves(signing), listeners)
        self._served[sandbox] = served
        loop = asyncio.get_running_loop()

        def later() -> None:
            loop.call_later(metering.EVERY, self._tell, served)

        served.meter.stirred = later
        for listener in listeners:
            listener.setblocking(False)
            served.accepting.append(self._spawn(self._accept(served, listener)))

    async def _reload(self, sandbox: int, policy: Any) -> None:
        served = self._served[sandbox]
        served.policy = policy
        # All are cut before the first record is waited for. Those that are not live yet were decided, but nothing has passed: they look
        # again when they become live (Engine.handle), and what is not decided yet meets the new policy.
        scans = [connection.live.redecide() for connection in served.connections if connection.live is not None]
        for failure in await asyncio.gather(*scans, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure

    async def _pass(self, sandbox: int, port: int, source: str, outer: socket.socket, inner: socket.socket) -> Passed:
        """Carry what came in on a port of the sandbox, to its end."""
        for sock in (outer, inner):
            sock.setblocking(False)
        served = self._served[sandbox]
        passage = Passage(served, port, source, outer, inner, self._settings)
        with self._open(served, passage):
            return await passage.run()

    @contextlib.contextmanager
    def _open(self, served: Served, connection: Open) -> Iterator[None]:
        """While it is one of the sandbox's open connections."""
        served.connections.add(connection)
        served.meter.stir()
        try:
            yield
        finally:
            served.connections.discard(connection)
            served.meter.stir()

    def _stir(self) -> None:
        """What all sandboxes share has changed."""
        for served in self._served.values():
            served.meter.stir()

    def _tell(self, served: Served) -> None:
        """What was measured since the last time. Not evidence: nobody waits for it."""
        if self._served.get(served.sandbox) is not served:  # it has been released since
            return
        local = self._engine.router.figures(served.policy)
        found = served.meter.take(map(_kind, served.connections), self._engine.classifier.figures(), local)
        self._agent.say("figures", sandbox=served.sandbox, **metering.encode(found))

    async def _stop(self) -> None:
        for served in self._served.values():
            self._close(served)

    def _close(self, served: Served) -> None:
        """Accept nothing more of a sandbox, and cut what is there."""
        for listener in served.listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        for connection in list(served.connections):
            if connection.live is not None:
                connection.live.interrupt()
        self._tell(served)

    async def _release(self, sandbox: int) -> None:
        """The sandbox has ended: what it had here goes, once it is on record, and nothing of it is left for the next."""
        served = self._served[sandbox]
        self._close(served)
        for accepting in served.accepting:
            accepting.cancel()
        until = time.monotonic() + LAST_WORDS
        while served.connections and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for connection in list(served.connections):
            connection.reset()
        del self._served[sandbox]
        for key in [key for key in self._callers if key[0] == sandbox]:
            del self._callers[key]
        self._engine.forget(sandbox)

    # connections of a sandbox

    async def _accept(self, served: Served, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        room = served.room(self._settings.connections)
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                if listener.fileno() < 0:
                    return
                _log.error("accept: %r", error)
                await asyncio.sleep(0.1)
                continue
            await room.acquire()  # at the limit this one and the kernel's backlog wait: refusing would need a record for each
            self._spawn(self._connection(served, client, room))

    async def _connection(self, served: Served, client: socket.socket, room: asyncio.Semaphore) -> None:
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a relay has no other way to learn of a client that is no more
        try:
            await self._handle(Connection(served, client, self._agent, self._decide, self._speaker_of))
        except ConnectionError as error:
            _log.error("not recorded: %s", error)  # the connection falls with it
        finally:
            client.close()
            room.release()

    async def _handle(self, connection: Connection) -> None:
        began = time.perf_counter()
        # 1) who, as the kernel recorded it before the SYN
        try:
            origin = self._origin_of(connection.client)
        except (OSError, ValueError):
            await connection.refuse(Level.DESTINATION, Reason.NO_ORIGIN, "the kernel knows nothing of this connection")
            return
        connection.origin = origin
        if origin.sandbox != connection.served.sandbox:
            await connection.refuse(Level.BINARY, Reason.IDENTITY_MISMATCH, f"an origin of sandbox {origin.sandbox}")
            return
        # 2) which binary and name that is, as the agent knows them
        connection.caller = caller = await self._identify(origin)
        if caller.host is None:
            await connection.refuse(Level.DESTINATION, Reason.UNKNOWN_SYNTHETIC, "no name is known for the dialled address")
            return
        # 3) the newest policy, which may be newer than the kernel's verdict
        decision = connection.decide()
        connection.served.meter.since(Stage.CONNECT, began)
        if not decision.passes:
            await connection.refuse(decision.level, decision.reason, "the policy denies this connection", decision)
            return
        if connection.relayed(decision):
            if self._engine.router.withheld(connection):
                await connection.refuse(Level.PRIVACY, Reason.PRIVACY_UNREADABLE, "a call of a model, relayed where nobody can read it")
                return
            await self._relay(connection, decision)
        else:
            with self._open(connection.served, connection):
                await self._engine.handle(connection)

    async def _identify(self, origin: Origin) -> Caller:
        key = (origin.sandbox, origin.identity, origin.exec_id, origin.name or origin.address, origin.port)
        caller = self._callers.get(key)
        if caller is None:
            caller = await self._agent.identify(origin)
            if caller.host is not None:
                self._callers[key] = caller
            if len(self._callers) > self._settings.callers:
                self._callers.popitem(last=False)
        return caller

    async def _relay(self, connection: Connection, decision: Decision) -> None:
        caller = connection.caller
        assert caller is not None and caller.host is not None
        tls = connection.demands_tls(decision)
        relay = Relay(connection.client, caller.host, tls=tls, settings=self._settings, heard=lambda: live.heard())
        connection.live = live = RelayedConnection(connection, relay, self._engine.router.withheld)
        with self._open(connection.served, connection):
            await self._relayed(connection, relay, live)

    async def _relayed(self, connection: Connection, relay: Relay, live: RelayedConnection) -> None:
        meter = connection.served.meter
        meter.relay(relay)
        try:
            await relay.run(lambda: reach(connection, self._settings))
        except (Refused, Unreachable) as failure:
            if not live.ended:
                await connection.refuse(Level.DESTINATION, failure.reason, str(failure))
        except (ClientGone, Cut):
            pass  # before it had asked for anything; what was cut is on record
        finally:
            meter.over(relay)
            try:
                await live.over()
            finally:
                relay.cut()


def _kind(connection: Open) -> Kind:
    if isinstance(connection, Passage):
        return Kind.INBOUND
    return Kind.RELAYED if isinstance(connection.live, RelayedConnection) else Kind.INSPECTED
