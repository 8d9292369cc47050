"""One inspected client connection: mitmproxy's sans-io layers with our sockets, TLS contexts, timers and hooks.

There is no Master, no addon and no `mitmproxy.ctx`: `Handler.handle_hook` is called by the layers directly, which keeps the policy between
the head and the dial without anything else in the way. Which protocol a connection speaks is never guessed: TLS or HTTP, or it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events, layer, server
from mitmproxy.proxy.layers import tls as tls_layers
from mitmproxy.proxy.layers import websocket as websocket_layers
from mitmproxy.proxy.layers.http import _hooks as http_hooks
from mitmproxy.tls import TlsData

from stockade.metrics.figures import Stage
from stockade.proxy import clienthello, refusal
from stockade.proxy.connection import Connection, reach
from stockade.proxy.ladder import Refusal, same_host
from stockade.proxy.layers import BodyTooLongHook, GovernedHttp, HeadUnreadableHook, Withdrawn
from stockade.proxy.leaves import Expired
from stockade.proxy.relay import is_literal, reset_on_close
from stockade.proxy.requests import SCREENING, Requests
from stockade.proxy.upstream import Unreachable
from stockade.types import Effect, Level, Reason

if TYPE_CHECKING:
    from stockade.proxy.engine import Engine

UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # a fatal TLS alert, RFC 6066

_SMALL = 64 * 1024  # so much of a message is not asked about beside the others: all connections together come to no more than 32 MiB

_log = logging.getLogger("stockade.proxy")


class Handler(server.LiveConnectionHandler):
    """One inspected client connection; `Live` for its Connection."""

    def __init__(self, connection: Connection, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer, engine.options, engine.mode)
        caller = connection.caller
        assert caller is not None and caller.host is not None
        self.connection, self.engine, self.settings = connection, engine, engine.settings
        self.caller, self.host, self.port = caller, caller.host, caller.port
        self.requests = Requests(self)
        self._writer = writer
        self.failure: Unreachable | None = None  # the last, of the other side
        self.refused = False
        self._http: GovernedHttp | None = None
        self._moved = asyncio.Event()
        self._handshakes: dict[object, float] = {}  # that have begun: when
        # Set once, before the first request: mitmproxy finds an open server connection again by its address. Dialled is what `reach` says.
        self.layer.context.server.address = (self.host, self.port)
        self.layer.context.server.sni = self.host
        self._deadline = asyncio.get_running_loop().call_later(self.settings.head_seconds, self._expire, True)

    async def run(self) -> None:
        try:
            await self.handle_client()
        finally:
            self._deadline.cancel()
            self.interrupt()
            if self._http is not None:
                self._http.forget()

    # Live

    def cut(self) -> None:
        for io in list(self.transports.values()):
            if isinstance(io.writer, asyncio.StreamWriter):
                sock = io.writer.get_extra_info("socket")
                if sock is not None:
                    reset_on_close(sock)
                io.writer.transport.abort()

    async def redecide(self) -> None:
        decision = self.connection.decide()
        exchanges = self.requests.exchanges
        denied = self.requests.withdrawn()
        going_on = [exchange for flow, exchange in exchanges.items() if flow not in denied and not exchange.finished]
        # a request that used up its approval rests on no rule any more: it goes on, and the connection with it
        passes = decision.passes or (decision.reason is Reason.NO_RULE and any(exchange.once for exchange in going_on))
        if passes and not denied:
            return
        apart = passes and bool(going_on) and self._http is not None and self._http.separable(denied)
        if not apart:
            self.cut()
        for exchange in denied.values():
            exchange.finish(Effect.CUT, Reason.POLICY_CHANGED)
        if apart:
            for flow in denied:
                del exchanges[flow]
            await self.server_event(Withdrawn(frozenset(denied)))
        elif not denied:
            await self.connection.cut_and_record(decision.level, Reason.POLICY_CHANGED, decision)

    def interrupt(self) -> None:
        self.requests.interrupt()
        self.cut()

    # timers

    def _expire(self, first: bool) -> None:
        if first and not self.refused:
            self.spawn(self.connection.cut_and_record(Level.DESTINATION, Reason.HEADER_TIMEOUT, error="no request in time"))
        else:
            self.cut()

    def busy(self) -> None:
        self._deadline.cancel()

    def idle(self) -> None:
        self._deadline.cancel()
        if not self.requests.exchanges and not self.requests.waiting:
            self._deadline = asyncio.get_running_loop().call_later(self.settings.idle_seconds, self._expire, False)

    def spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self.wakeup_timer.add(task)
        task.add_done_callback(self.wakeup_timer.discard)

    async def _guarded(self, work: Any) -> None:
        with contextlib.suppress(ConnectionError):
            await work

    # the other side

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """Replaces mitmproxy's: the address comes from the agent and is dialled as it stands, within our own time."""
        upstream = command.connection
        try:
            sock = await self._dial(upstream.address)
            reader, writer = await asyncio.open_connection(sock=sock)
        except Unreachable as failure:
            self.failure = failure
            self.transports.pop(upstream, None)
            await self.server_event(events.OpenConnectionCompleted(command, str(failure)))
            return
        upstream.state = ConnectionState.OPEN
        upstream.peername = writer.get_extra_info("peername")
        upstream.sockname = writer.get_extra_info("sockname")
        self.transports[upstream] = server.ConnectionIO(handler=asyncio.current_task(), reader=reader, writer=writer)
        timer = asyncio.get_running_loop().call_later(self.settings.upstream_tls_seconds, self._demand_tls, upstream, writer)
        try:
            await self.server_event(events.OpenConnectionCompleted(command, None))
            await self.handle_connection(upstream)
        finally:
            timer.cancel()

    async def _dial(self, address: tuple[str, int] | None) -> socket.socket:
        return self.requests.detours.taken(address) or await reach(self.connection, self.settings)

    def _demand_tls(self, upstream: Server, writer: asyncio.StreamWriter) -> None:
        if upstream.tls and not upstream.tls_established:
            writer.transport.abort()

    # back-pressure

    async def server_event(self, event: events.Event) -> None:
        await super().server_event(event)
        self._moved.set()

    async def drain_writers(self) -> None:
        """Called by each side's reader before it reads on: it waits for the window of the other side.

        mitmproxy's own waits for the sockets only, and keeps what a closed HTTP/2 window holds back in memory without end.
        """
        await super().drain_writers()  # type: ignore[no-untyped-call]
        from_client = asyncio.current_task() is self._client_reader()
        message, fragments = self.unfinished()
        if message > self.settings.message_bytes or fragments > self.settings.message_fragments:
            most = f"{self.settings.message_bytes} octets or {self.settings.message_fragments} fragments"
            _log.warning("a WebSocket message for %s is longer than %s: closed", self.host, most)
            self.interrupt()
            return
        if message > _SMALL and self._unfinished_of_all() > self.settings.messages_bytes:
            _log.warning("a WebSocket message for %s, with all others, is longer than %d: closed", self.host, self.settings.messages_bytes)
            self.interrupt()
            return
        if self._http is None or self._http.held(towards_client=not from_client) <= self.settings.window_bytes:
            return
        self._moved.clear()
        # Not for ever: a client whose window updates lie behind the data we do not read would never be heard again.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.window_seconds):
                while self._http.held(towards_client=not from_client) > self.settings.window_bytes:
                    await self._moved.wait()
                    self._moved.clear()

    def unfinished(self) -> tuple[int, int]:
        """Octets that the WebSocket messages take that are still coming in here, and how many fragments they have."""
        return self._http.unfinished() if self._http is not None else (0, 0)

    def _unfinished_of_all(self) -> int:
        others = (connection.live for connection in self.connection.served.connections)
        return sum(other.unfinished()[0] for other in others if isinstance(other, Handler))

    def _client_reader(self) -> asyncio.Task[None] | None:
        io = self.transports.get(self.client)
        return io.handler if io is not None else None

    # hooks

    async def handle_hook(self, hook: commands.StartHook) -> None:
        try:
            await self._hook(hook)
        except Exception as error:  # a layer that waits for a hook that failed would wait for ever: closed instead
            _log.error("hook %s failed: %r", hook.name, error)
            self.cut()

    def _time(self, hook: commands.StartHook) -> None:
        """Handshakes. One that fails is not timed: it is on record."""
        match hook:
            case tls_layers.TlsStartClientHook(data=start) | tls_layers.TlsStartServerHook(data=start):
                self._handshakes[start.conn] = time.perf_counter()
            case tls_layers.TlsEstablishedClientHook(data=done) if done.conn in self._handshakes:
                self.connection.served.meter.since(Stage.CLIENT_TLS, self._handshakes.pop(done.conn))
            case tls_layers.TlsEstablishedServerHook(data=done) if done.conn in self._handshakes:
                self.connection.served.meter.since(Stage.UPSTREAM_TLS, self._handshakes.pop(done.conn))
            case tls_layers.TlsFailedServerHook(data=failed):
                self._handshakes.pop(failed.conn, None)

    async def _hook(self, hook: commands.StartHook) -> None:
        self._time(hook)
        match hook:
            case layer.NextLayerHook(data=following):
                self._next_layer(following)
            case tls_layers.TlsClienthelloHook(data=hello):
                await self._client_hello(hello.context.client.sni)
            case tls_layers.TlsStartClientHook(data=start):
                if not self.refused:
                    await self._shown(start)
            case tls_layers.TlsStartServerHook(data=start):
                protocols = (b"h2", b"http/1.1") if self.client.alpn == b"h2" else (b"http/1.1",)
                start.conn.alpn_offers = protocols
                start.ssl_conn = self.engine.tls.trust.connection(self.host, protocols)
            case tls_layers.TlsEstablishedServerHook(data=done) if b"h2" in done.conn.alpn_offers:
                self.engine.tls.learn((self.host, self.port), done.conn.alpn)
            case tls_layers.TlsFailedServerHook(data=failed):
                self.failure = Unreachable(Reason.UPSTREAM_TLS, failed.conn.error or "TLS failed")
            case tls_layers.TlsFailedClientHook(data=failed):
                self._distrusted(failed.conn.error or "")
            case HeadUnreadableHook():
                await self._unreadable(hook)
            case http_hooks.HttpRequestHeadersHook(flow=flow):
                await self.requests.begun(flow)
            case http_hooks.HttpRequestHook(flow=flow) if SCREENING in flow.metadata:
                await self.requests.whole(flow, flow.request.raw_content or b"")
            case http_hooks.HttpRequestHook(flow=flow):
                self.requests.sent(flow)
            case BodyTooLongHook(flow=flow):
                await self.requests.whole(flow, None)
            case http_hooks.HttpResponseHeadersHook(flow=flow):
                self.requests.answered(flow)
            case http_hooks.HttpResponseHook(flow=flow) if flow.websocket is None:
                self.requests.over(flow)
            case http_hooks.HttpErrorHook(flow=flow):
                await self.requests.failed(flow)
            case websocket_layers.WebsocketMessageHook(flow=flow):
                await self.requests.said(flow)
            case websocket_layers.WebsocketEndHook(flow=flow):
                self.requests.over(flow)

    def _next_layer(self, following: layer.NextLayer) -> None:
        data, context = following.data_client(), following.context  # type: ignore[no-untyped-call]
        if not data:
            return  # asked before the client said anything
        if not context.layers and clienthello.looks_like_tls(data):
            outer = tls_layers.ServerTLSLayer(context)  # inert: marks the other side as TLS, which is dialled per request
            outer.child_layer = tls_layers.ClientTLSLayer(context)
            following.layer = outer
        else:
            following.layer = self._http = GovernedHttp(context, self.settings)

    async def _client_hello(self, sni: str | None) -> None:
        if sni is None and is_literal(self.host):
            return
        if sni is not None and same_host(sni, self.host):
            return
        self.refused = True
        self._writer.write(UNRECOGNIZED_NAME)
        said = f"the ClientHello names {sni[:256]}" if sni is not None else "the ClientHello names no server"
        await self.connection.refuse(Level.DESTINATION, Reason.SNI_MISMATCH, said)

    def _distrusted(self, error: str) -> None:
        """A client that pins its server or brings its own roots says so with an alert; a mere hang-up says nothing."""
        if "certificate" in error or "unknown ca" in error:
            name, host = self.caller.binary.name, self.host
            _log.warning("%s does not trust this sandbox's authority for %s: use `tls: passthrough` or its own trust settings", name, host)

    async def _shown(self, start: TlsData) -> None:
        """What the client is shown of a certificate; without one that is valid, nothing."""
        protocols = self.engine.tls.protocols((self.host, self.port))
        try:
            start.ssl_conn = self.connection.served.leaves.connection(self.host, protocols)
        except Expired as error:
            self.refused = True
            await self.connection.refuse(Level.DESTINATION, Reason.AUTHORITY_EXPIRED, str(error))

    async def _unreadable(self, hook: HeadUnreadableHook) -> None:
        self.refused = True
        refused = Refusal(Level.DESTINATION, Reason.PROTOCOL_ERROR, hook.problem, "")
        written = await self.connection.refuse(refused.level, refused.reason, refused.error)
        hook.answer = refusal.body(dataclasses.replace(refused, record=written.id), self.caller, "")

    def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
        """mitmproxy goes on after an exception in a layer, with the connection in no state at all: it is closed instead."""
        if exc_info:
            _log.error("%s", message)
            self.cut()
