"""Inspected connections: one narrow interface, `Engine.handle`, and mitmproxy's sans-io layers as what stands behind it.

mitmproxy brings the protocols; this module brings sockets, TLS contexts, timers and the hooks. There is no Master, no addon and no
`mitmproxy.ctx`: `Handler.handle_hook` is called by the layers directly, which keeps the policy between the head and the dial without
anything else in the way. Which protocol a connection speaks is never guessed: TLS or HTTP, or it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import socket
import time
from http import HTTPStatus
from typing import Any

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy import options as moptions
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events, layer, mode_specs, server
from mitmproxy.proxy.layers import tls as tls_layers
from mitmproxy.proxy.layers import websocket as websocket_layers
from mitmproxy.proxy.layers.http import _hooks as http_hooks
from mitmproxy.tls import TlsData

from stockade.metrics.figures import Stage
from stockade.policy import own
from stockade.privacy.local import LocalFailure
from stockade.privacy.serve.client import Client
from stockade.proxy import clienthello, refusal
from stockade.proxy.connection import Connection, reach
from stockade.proxy.exchange import Exchange
from stockade.proxy.ladder import Head, Refusal, same_host
from stockade.proxy.layers import (
    ANSWER,
    BY_CLIENT,
    HANG_UP,
    HOLDING,
    Answer,
    BodyTooLongHook,
    GovernedHttp,
    HeadUnreadableHook,
    Withdrawn,
)
from stockade.proxy.leaves import Expired
from stockade.proxy.local import LocalModels
from stockade.proxy.relay import is_literal, reset_on_close
from stockade.proxy.router import Router
from stockade.proxy.screen import Answering, Budget, Screening, Verdict
from stockade.proxy.settings import Settings
from stockade.proxy.taint import Gone
from stockade.proxy.tls import Tls
from stockade.proxy.upstream import Unreachable
from stockade.types import Effect, Level, Reason

EXCHANGE = "stockade.exchange"
SCREENING = "stockade.screening"
LED = ".led.invalid"  # ends the names that answers of the local model come from. A host that a rule calls so resolves for nobody (RFC 6761)
UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # a fatal TLS alert, RFC 6066

_log = logging.getLogger("stockade.proxy")


def _options(quiet: int) -> moptions.Options:
    options = moptions.Options()
    for name, kind, value in (
        ("store_streamed_bodies", bool, False),
        ("stream_large_bodies", str | None, None),
        ("body_size_limit", str | None, None),
        ("connection_strategy", str, "lazy"),  # eager dials before the policy has spoken
        ("keep_host_header", bool, True),
        ("proxy_debug", bool, False),
        ("normalize_outbound_headers", bool, True),
        ("validate_inbound_headers", bool, True),
    ):
        options.add_option(name, kind, value, "")
    switches = {"rawtcp": False, "upstream_cert": False, "http2": True, "http3": False, "websocket": True}
    options.update(**switches, http2_ping_keepalive=0, tcp_timeout=quiet)  # type: ignore[no-untyped-call]
    return options


class Engine:
    """mitmproxy behind the interface that another engine would have: `handle` one admitted connection until it is over."""

    def __init__(self, tls: Tls, settings: Settings) -> None:
        self.tls, self.settings = tls, settings
        self.classifier = Client()
        self.router = Router(self.classifier, LocalModels(tls.trust, settings), settings)
        self.budget = Budget(settings.read_bytes, settings.read_total)
        self.options = _options(settings.quiet_seconds)
        self.mode = mode_specs.ProxyMode.parse("transparent")

    def rehearse(self) -> None:
        """Load what Python loads on first use: after the drop there is no file to load it from."""
        import cryptography.hazmat.backends.openssl.backend  # noqa: F401 - signing a leaf asks for it by name

        "xn--bcher-kva.example".encode("idna").decode("idna")
        self.tls.trust.connection("rehearsal.example", (b"h2",))
        self.router.rehearse()

    def forget(self, sandbox: int) -> None:
        """Keep nothing of a sandbox that has ended."""
        self.router.forget(sandbox)

    async def handle(self, connection: Connection) -> None:
        reader, writer = await asyncio.open_connection(sock=connection.client)
        handler = Handler(connection, self, reader, writer)
        connection.live = handler
        if connection.stale:  # the reload that came in between did not see it
            await handler.redecide()
        await handler.run()


class Handler(server.LiveConnectionHandler):
    """One inspected client connection; `Live` for its Connection."""

    def __init__(self, connection: Connection, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer, engine.options, engine.mode)
        caller = connection.caller
        assert caller is not None and caller.host is not None
        self.connection, self.engine, self.settings = connection, engine, engine.settings
        self.caller, self.host, self.port = caller, caller.host, caller.port
        self.exchanges: dict[str, Exchange] = {}
        self._led_to: dict[tuple[str, int] | None, Answering] = {}  # who answers instead of the server, until it is dialled
        self._led = itertools.count()
        self._read: set[str] = set()  # flows whose bodies are awaited or looked at, before they are exchanges
        self._writer = writer
        self._failure: Unreachable | None = None
        self._refused = False
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
        denied = {flow: exchange for flow, exchange in self.exchanges.items() if not exchange.finished and exchange.denial() is not None}
        going_on = [exchange for flow, exchange in self.exchanges.items() if flow not in denied and not exchange.finished]
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
                del self.exchanges[flow]
            await self.server_event(Withdrawn(frozenset(denied)))
        elif not denied:
            await self.connection.cut_and_record(decision.level, Reason.POLICY_CHANGED, decision)

    def interrupt(self) -> None:
        """Whatever ends the connection ends the open records with it."""
        for exchange in self.exchanges.values():
            exchange.finish(Effect.CUT, Reason.INTERRUPTED)
        self.exchanges.clear()
        self.cut()

    # timers

    def _expire(self, first: bool) -> None:
        if first and not self._refused:
            self._spawn(self.connection.cut_and_record(Level.DESTINATION, Reason.HEADER_TIMEOUT, error="no request in time"))
        else:
            self.cut()

    def _busy(self) -> None:
        self._deadline.cancel()

    def _idle(self) -> None:
        self._deadline.cancel()
        if not self.exchanges and not self._read:
            self._deadline = asyncio.get_running_loop().call_later(self.settings.idle_seconds, self._expire, False)

    def _spawn(self, work: Any) -> None:
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
            self._failure = failure
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
        """What the local model answers never goes to the server that the client dialled, also when nobody knows any more who answers it."""
        if address is None or not address[0].endswith(LED):
            return await reach(self.connection, self.settings)
        ask = self._led_to.pop(address, None)
        if ask is None or (answer := ask.take()) is None:
            raise Unreachable(Reason.PRIVACY_LOCAL_FAILURE, "the local model is asked once for each request")
        return answer

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
        if self._http is not None and self._http.longest_message() > self.settings.message_bytes:
            _log.warning("a WebSocket message for %s is longer than %d octets: closed", self.host, self.settings.message_bytes)
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
                if not self._refused:
                    await self._shown(start)
            case tls_layers.TlsStartServerHook(data=start):
                protocols = (b"h2", b"http/1.1") if self.client.alpn == b"h2" else (b"http/1.1",)
                start.conn.alpn_offers = protocols
                start.ssl_conn = self.engine.tls.trust.connection(self.host, protocols)
            case tls_layers.TlsEstablishedServerHook(data=done) if b"h2" in done.conn.alpn_offers:
                self.engine.tls.learn((self.host, self.port), done.conn.alpn)
            case tls_layers.TlsFailedServerHook(data=failed):
                self._failure = Unreachable(Reason.UPSTREAM_TLS, failed.conn.error or "TLS failed")
            case tls_layers.TlsFailedClientHook(data=failed):
                self._distrusted(failed.conn.error or "")
            case HeadUnreadableHook():
                await self._unreadable(hook)
            case http_hooks.HttpRequestHeadersHook(flow=flow):
                await self._request(flow)
            case http_hooks.HttpRequestHook(flow=flow) if SCREENING in flow.metadata:
                await self._screened(flow, flow.request.raw_content or b"")
            case BodyTooLongHook(flow=flow):
                await self._screened(flow, None)
            case http_hooks.HttpResponseHeadersHook(flow=flow):
                self._response_head(flow)
            case http_hooks.HttpResponseHook(flow=flow) if flow.websocket is None:
                self._over(flow)
            case http_hooks.HttpErrorHook(flow=flow):
                await self._error(flow)
            case websocket_layers.WebsocketMessageHook(flow=flow):
                await self._message(flow)
            case websocket_layers.WebsocketEndHook(flow=flow):
                self._over(flow)

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
        self._refused = True
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
            self._refused = True
            await self.connection.refuse(Level.DESTINATION, Reason.AUTHORITY_EXPIRED, str(error))

    async def _unreadable(self, hook: HeadUnreadableHook) -> None:
        self._refused = True
        refused = Refusal(Level.DESTINATION, Reason.PROTOCOL_ERROR, hook.problem, "")
        written = await self.connection.refuse(refused.level, refused.reason, refused.error)
        hook.answer = refusal.body(dataclasses.replace(refused, record=written.id), self.caller, "")

    async def _request(self, flow: http.HTTPFlow) -> None:
        self._busy()
        request = flow.request
        malformed = flow.error.msg if flow.error is not None else None
        absolute = request.data.authority.decode("latin-1") or None  # as said: mitmproxy decodes A-labels, and no name is compared decoded
        head = Head(
            method=request.data.method.decode("ascii", "replace"),
            path=request.data.path.decode("utf-8", "surrogateescape"),
            authority=absolute,
            headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.fields),
            malformed=malformed,
        )
        screening = None if malformed is not None else await self.engine.router.screening(self.connection, head, self.engine.budget)
        if screening is not None:
            flow.metadata[SCREENING], flow.metadata[HOLDING] = screening, screening.holding
            self._read.add(flow.id)
            if not screening.holding.grow(_declared(request)):
                await self._screened(flow, None)
            return
        began = time.perf_counter()
        outcome = await Exchange.open(self.connection, head)
        self.connection.served.meter.since(Stage.DECIDE, began)
        if isinstance(outcome, Refusal):
            self._refuse(flow, outcome, head.method, hang_up=malformed is not None)
            return
        assert outcome is not None
        if self.host == own.HOST:
            await self._answer_own(flow, outcome)
            return
        self._admit(flow, outcome)
        request.stream = outcome.count_request

    def _admit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        request = flow.request
        flow.metadata[EXCHANGE] = exchange
        self.exchanges[flow.id] = exchange
        request.path = exchange.admitted.target
        if not request.is_http2:
            request.authority = ""  # origin form: the absolute form names nothing that the connection does not
        if exchange.admitted.drop_upgrade:
            for name in ("upgrade", "http2-settings", "connection"):
                request.headers.pop(name, None)

    def _refuse(self, flow: http.HTTPFlow, refused: Refusal, method: str, *, hang_up: bool = False, body: bytes | None = None) -> None:
        told = refusal.named(body, refused) if body is not None else refusal.body(refused, self.caller, method)
        flow.metadata[ANSWER] = Answer(told)
        if hang_up:
            flow.metadata[HANG_UP] = True
        else:
            flow.error = mflow.Error(mflow.Error.KILLED_MESSAGE)
        self._refused = True
        self._idle()

    async def _screened(self, flow: http.HTTPFlow, body: bytes | None) -> None:
        """A body is there, or is too long to wait for: what is in it decides, under the newest policy."""
        screening: Screening = flow.metadata.pop(SCREENING)
        head = screening.head
        try:
            while True:
                policy, began = self.connection.served.policy, time.perf_counter()
                verdict = await self.engine.router.verdict(self.connection, screening, policy, body)
                self.connection.served.meter.since(Stage.CLASSIFICATION, began)
                began = time.perf_counter()
                outcome = await Exchange.open(self.connection, head, verdict, policy)
                self.connection.served.meter.since(Stage.DECIDE, began)
                if isinstance(outcome, Exchange) and verdict is not None and verdict.ask is not None:
                    verdict, outcome = await self._asked(flow, head, outcome, verdict, policy)
                if outcome is not None:
                    break
        finally:
            self._read.discard(flow.id)
            screening.holding.release()
        if isinstance(outcome, Refusal):
            self._refuse(flow, outcome, head.method, body=verdict.refusal if verdict is not None else None)
            return
        self._admit(flow, outcome)
        flow.request.trailers = None  # nobody looked at them
        if body is None:
            flow.request.stream = outcome.count_request
            return
        if verdict is not None:
            self._rewrite(flow.request, verdict)
            if verdict.ask is not None:
                self._lead(flow, outcome, verdict.ask)
                return
        outcome.count_request(flow.request.raw_content or b"")

    async def _asked(
        self, flow: http.HTTPFlow, head: Head, exchange: Exchange, verdict: Verdict, policy: Any
    ) -> tuple[Verdict, Exchange | Refusal | None]:
        """Wait until the local model begins to answer. A call that it does not take and that goes somewhere else is opened anew, with a
        record of its own: by then two places may have got it.
        """
        assert verdict.ask is not None and verdict.otherwise is not None
        self.exchanges[flow.id] = exchange  # whatever ends the connection meanwhile ends this too
        try:
            await verdict.ask.begin()
        except LocalFailure as failure:
            otherwise = verdict.otherwise(failure)
            self.exchanges.pop(flow.id, None)
            gone = exchange.finished
            name = await exchange.refuse(otherwise.reason)
            if not gone and otherwise.effect is not Effect.REFUSE:
                return otherwise, await Exchange.open(self.connection, head, otherwise, policy)
            path, decision = exchange.admitted.path, exchange.admitted.decision
            refused = Refusal(Level.PRIVACY, otherwise.reason, otherwise.error, path, otherwise.hint, decision, otherwise.action)
            return otherwise, dataclasses.replace(refused, record=name)
        return verdict, exchange

    def _lead(self, flow: http.HTTPFlow, exchange: Exchange, ask: Answering) -> None:
        """To whoever answers instead, under a name that no other request has. The call is there already: what goes now is an empty one."""
        address = (f"{next(self._led)}{LED}", 80)
        self._led_to[address] = ask
        request = flow.request
        request.data.host, request.data.port = address
        request.scheme, request.authority = "http", ""
        request.headers = http.Headers([(b"host", b"local"), (b"content-length", b"0")])
        request.data.content = b""
        exchange.request_bytes = ask.size

    def _rewrite(self, request: http.Request, verdict: Verdict) -> None:
        """What goes out instead of what came."""
        if verdict.headers is not None:
            fields = ((name.encode("latin-1"), value.encode("latin-1")) for name, value in verdict.headers)
            request.headers = http.Headers(list(fields))
        if verdict.target is not None:
            request.path = verdict.target
        if verdict.body is not None:
            request.data.content = verdict.body
            for name in ("content-encoding", "transfer-encoding", "content-md5", "digest", "content-digest"):
                request.headers.pop(name, None)
            request.headers["content-length"] = str(len(verdict.body))
        if verdict.answer is not None:
            request.headers["accept-encoding"] = "identity"  # the answer is read too

    async def _answer_own(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """A page of stockade.internal: nobody is dialled."""
        identifier = own.approval_of(exchange.admitted.path)
        assert identifier is not None, "the ladder admits nothing else"
        page = await self.connection.agent.approval(self.connection.served.sandbox, identifier)
        status = HTTPStatus.NOT_FOUND if page is None else HTTPStatus.OK
        answer = Answer(json.dumps(page or {"error": f"no approval {identifier} in this sandbox"}).encode() + b"\n", status)
        exchange.status, exchange.response_bytes = status, len(answer.body)
        exchange.finish()
        flow.metadata[ANSWER] = answer
        flow.error = mflow.Error(mflow.Error.KILLED_MESSAGE)
        self._idle()

    def _response_head(self, flow: http.HTTPFlow) -> None:
        exchange = self._exchange(flow)
        assert flow.response is not None
        if exchange is not None:
            self.connection.served.meter.since(Stage.FIRST_BYTE, exchange.released)
            exchange.status = flow.response.status_code
            flow.response.stream = exchange.count_response
            if exchange.verdict is not None and exchange.verdict.answer is not None:
                self._read_answer(flow, exchange, exchange.verdict)

    def _read_answer(self, flow: http.HTTPFlow, exchange: Exchange, verdict: Verdict) -> None:
        """Its octets pass through a reader, which may change how many there are."""
        response, request = flow.response, flow.request
        assert response is not None
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.fields]
        reader = verdict.answer(response.status_code, fields)
        if request.method != "HEAD" and response.status_code not in (204, 304):
            response.headers.pop("content-length", None)
            if self.client.alpn == b"h2":
                response.headers.pop("transfer-encoding", None)
            elif request.http_version != "HTTP/1.0":  # which is read to its end
                response.headers["transfer-encoding"] = "chunked"
        if verdict.ask is not None:
            response.headers.pop("connection", None)

        def passed(data: bytes) -> list[bytes]:
            made: bytes = reader.feed(data) if data else reader.end()
            if not data:
                exchange.told |= reader.said()
            return [exchange.count_response(made)] if made else []  # a chunk of no octets would end a chunked body

        response.stream = passed

    async def _error(self, flow: http.HTTPFlow) -> None:
        exchange = self._exchange(flow)
        if exchange is None or exchange.finished:
            return
        if flow.metadata.get(BY_CLIENT):
            self._over(flow, Effect.PASS, Reason.INTERRUPTED)
            return
        message = flow.error.msg if flow.error is not None else "the server failed"
        reason = self._failure.reason if self._failure is not None and str(self._failure) == message else Reason.UPSTREAM_ERROR
        if exchange.status is None:
            refused = Refusal(Level.DESTINATION, reason, message[:1024], exchange.admitted.path)
            refused = dataclasses.replace(refused, record=await exchange.refuse(reason))
            flow.metadata[ANSWER] = Answer(refusal.body(refused, self.caller, exchange.method))
            self._over(flow)
        else:
            self._over(flow, Effect.PASS, reason)

    async def _message(self, flow: http.HTTPFlow) -> None:
        assert flow.websocket is not None
        message = flow.websocket.messages[-1]
        flow.websocket.messages.clear()  # kept for ever otherwise
        exchange = self._exchange(flow)
        if exchange is None or exchange.finished:
            message.drop()  # type: ignore[no-untyped-call]  # killing the flow stops no message
            self.cut()
        elif message.from_client and self.connection.enforced and (stirred := self.connection.taint.stirred()) is not None:
            message.drop()  # type: ignore[no-untyped-call]  # what passes inside is not judged: it is for who was, when it was opened
            exchange.finish(Effect.CUT, stirred)
            self._spawn(self._spoken_over())
        elif message.from_client:
            verdict = await self.engine.router.message(self.connection, exchange, message.content)
            if verdict is not None and verdict.effect is Effect.REFUSE:
                message.drop()  # type: ignore[no-untyped-call]
                exchange.told |= verdict.detail | {"error": verdict.error[:1024]}
                exchange.finish(Effect.CUT, verdict.reason)
                self.cut()
            elif not exchange.finished:
                if verdict is not None:
                    exchange.told |= verdict.detail | {"found": verdict.reason.value}
                    message.content = message.content if verdict.body is None else verdict.body
                exchange.count_request(message.content)
        else:
            exchange.count_response(message.content)

    async def _spoken_over(self) -> None:
        try:
            await self.connection.other()
        except Gone:
            self.cut()
        else:
            await self.connection.cut_and_record(Level.BINARY, Reason.SOCKET_TAINTED)

    def _over(self, flow: http.HTTPFlow, effect: Effect = Effect.PASS, reason: Reason | None = None) -> None:
        exchange = self.exchanges.pop(flow.id, None)
        if exchange is not None:
            exchange.finish(effect, reason)
            self._idle()

    def _exchange(self, flow: http.HTTPFlow) -> Exchange | None:
        exchange: Exchange | None = flow.metadata.get(EXCHANGE)
        return exchange

    def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
        """mitmproxy goes on after an exception in a layer, with the connection in no state at all: it is closed instead."""
        if exc_info:
            _log.error("%s", message)
            self.cut()


def _declared(request: http.Request) -> int:
    """Octets that a body is announced with; 0 where nothing is said, or nothing that is a number."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 19 else 0
