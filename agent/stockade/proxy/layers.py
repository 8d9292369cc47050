"""mitmproxy's HTTP layers, held tighter where they face the sandbox. With `handler`, the only code that uses mitmproxy's private API.

What is different from the originals:

- a refusal is answered as JSON at once, and the body that follows is read and dropped, never kept (theirs is buffered first);
- errors of the other side become that answer too, instead of an HTML page;
- an HTTP/1 head is bounded and read strictly: CRLF line ends, no obs-fold, HTTP/1.x only; what waits behind a running answer is bounded;
- single requests of a connection can be ended because the policy changed;
- trailers of a chunked body are dropped; theirs ends the connection with an internal error;
- an HTTP/2 body without a length goes chunked to an HTTP/1 server: theirs goes out unframed, so its bytes would be read as another request;
- a 101 that nobody asked for is an error of the server: theirs opens a WebSocket on it, whatever the request was;
- pings, pongs and the reason for closing a WebSocket carry nothing of the client's: nobody reads them, counts them or asks who sent them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h2.errors
import h2.events
from h11 import EndOfMessage
from h11._readers import ChunkedReader
from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.flow import Error
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.http import DropStream, HttpLayer, HTTPMode, HttpStream, SendHttp, _http1
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook
from mitmproxy.proxy.layers.http._http1 import Http1Server, make_body_reader
from mitmproxy.proxy.layers.http._http2 import Http2Connection, Http2Server

from stockade.proxy.settings import Settings
from stockade.proxy.upstream_http1 import ServerHttp1
from stockade.proxy.websocket import GovernedWebsocket, Incoming

Commands = layer.CommandGenerator[Any]

EMPTY_FRAMES = 1000  # of an HTTP/2 connection beyond the others: no flow control counts them, each costs as much as one (CVE-2019-9518)
ANSWER = "stockade.answer"  # in flow.metadata: the Answer that we give ourselves
HANG_UP = "stockade.hang_up"  # the head cannot be trusted to say where it ends: close after the answer
HOLDING = "stockade.holding"  # the Holding of a body that is read before it is passed on
BY_CLIENT = "stockade.by_client"  # the error that ended the flow came from the client's side

_REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [^\x00-\x20\x7f]+ HTTP/1\.[01]\r\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_METHOD_START = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}(?: |\Z)")


class _ChunkedReader(ChunkedReader):
    """A chunked body without its trailers: mitmproxy gives up on any, and a recipient may drop them (RFC 9110, 6.5.1)."""

    def __call__(self, *arguments: Any) -> Any:
        event: Any = super().__call__(*arguments)
        return EndOfMessage() if isinstance(event, EndOfMessage) else event


_http1.ChunkedReader = _ChunkedReader  # type: ignore[attr-defined]  # make_body_reader looks it up here, for both sides
http_layers.Http1Client = ServerHttp1  # type: ignore[attr-defined]  # HttpClient and HttpLayer look it up there
websocket.WebsocketLayer = GovernedWebsocket  # type: ignore[misc]  # HttpStream looks it up here


@dataclass
class BodyTooLongHook(commands.StartHook):  # type: ignore[no-untyped-call]
    """A body that was to be read first is longer than what is held. The engine refuses the flow, or lets its body stream."""

    flow: http.HTTPFlow


@dataclass
class HeadUnreadableHook(commands.StartHook):  # type: ignore[no-untyped-call]
    """A client sent what is not a request. The engine records it and sets answer."""

    client: Client
    problem: str
    answer: bytes = b""


def head_length(data: bytes, limit: int) -> int | None:
    """Length of the request head at the start of data, with its blank line; None while it is incomplete.

    Raises ValueError as soon as it cannot become one: parsers that disagree about these would see different requests.
    """
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[: end + 4]
    line_end = head.find(b"\n")
    if not _METHOD_START.match(head[:33]):
        raise ValueError("not an HTTP request")
    if line_end >= 0 and not _REQUEST_LINE.match(head):
        raise ValueError("not an HTTP/1 request line")
    if len(head) > limit:
        raise ValueError(f"request head longer than {limit} octets")
    if re.search(rb"(?<!\r)\n|\r(?!\n)[\x00-\xff]", head):
        raise ValueError("line end that is not CRLF in the request head")
    if b"\r\n " in head or b"\r\n\t" in head:
        raise ValueError("folded header line")
    if _CONTROL.search(head):
        raise ValueError("control character in the request head")
    return None if end < 0 else end + 4


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer of ours: a refusal, or a page of stockade.internal."""

    body: bytes
    status: HTTPStatus = HTTPStatus.FORBIDDEN

    def head(self, *, close: bool) -> http.Response:
        fields = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(self.body)), (b"Cache-Control", b"no-store")]
        if close:
            fields.append((b"Connection", b"close"))
        return http.Response(b"HTTP/1.1", self.status, self.status.phrase.encode(), http.Headers(fields), None, None, 0, 0)


@dataclass
class Withdrawn(events.Event):
    """The newest policy denies these requests of a connection: each ends on both sides, and the others go on."""

    flows: frozenset[str]


class GovernedHttp(HttpLayer):
    """One client connection's HTTP, with our layers towards the client."""

    def __init__(self, context: Context, settings: Settings) -> None:
        super().__init__(context, HTTPMode.transparent)
        self.settings = settings

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            facing = ClientHttp2 if self.context.client.alpn == b"h2" else ClientHttp1
            self.connections[self.context.client] = facing(self.context.fork(), self)
        if isinstance(event, Withdrawn):
            for stream in [stream for stream in self.streams.values() if _flow_of(stream) in event.flows]:
                yield from self.event_to_child(stream, event)
            return
        yield from super()._handle_event(event)

    def separable(self, flows: Collection[str]) -> bool:
        """Whether these requests can be ended without the connection: streams of HTTP/2, none of which waits for a dial or a hook.

        One that waits would go on with what it waits for before it heard of its end.
        """
        streams = [stream for stream in self.streams.values() if _flow_of(stream) in flows]
        return self.context.client.alpn == b"h2" and len(streams) == len(flows) and all(stream._paused is None for stream in streams)

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        self.streams[stream_id] = GovernedStream(self.context.fork(), stream_id, self)
        yield from self.event_to_child(self.streams[stream_id], events.Start())

    def held(self, *, towards_client: bool) -> int:
        """Octets that wait for an HTTP/2 peer to open its window, on one of the two sides."""
        held = 0
        for connection, facing in self.connections.items():
            if (connection is self.context.client) is towards_client:
                while not isinstance(facing, Http2Connection) and hasattr(facing, "child_layer"):
                    facing = facing.child_layer
                if isinstance(facing, Http2Connection):
                    held += sum(len(chunk.data) for chunks in facing.h2_conn.stream_buffers.values() for chunk in chunks)
        return held

    def unfinished(self) -> tuple[int, int]:
        """Octets that the WebSocket messages take that are still coming in, and how many fragments they have."""
        messages = self._incoming()
        return sum(message.octets for message in messages), sum(message.fragments for message in messages)

    def forget(self) -> None:
        """Keep nothing of them: what is left of a connection waits for the garbage collector, which goes by numbers and not by sizes."""
        for message in self._incoming():
            message.forget()

    def _incoming(self) -> list[Incoming]:
        sockets = [stream.child_layer for stream in self.streams.values() if isinstance(stream.child_layer, GovernedWebsocket)]
        return [message for each in sockets for message in each.incoming]

    def answer(self, stream_id: int) -> Answer | None:
        """What we answer ourselves on a stream."""
        stream = self.streams.get(stream_id)
        flow = getattr(stream, "flow", None)
        return flow.metadata.get(ANSWER) if flow is not None else None

    def hang_up(self, stream_id: int) -> bool:
        flow = getattr(self.streams.get(stream_id), "flow", None)
        return flow is not None and HANG_UP in flow.metadata


def _flow_of(stream: HttpStream) -> str | None:
    flow = getattr(stream, "flow", None)
    return flow.id if flow is not None else None


class GovernedStream(HttpStream):
    """One request and its answer."""

    bodiless = False

    def __init__(self, context: Context, stream_id: int, parent: GovernedHttp) -> None:
        super().__init__(context, stream_id)
        self._parent = parent

    def _handle_event(self, event: events.Event) -> Commands:
        if not isinstance(event, Withdrawn):
            yield from super()._handle_event(event)
            return
        if self.context.server in self._parent.connections and self.server_state not in (self.state_done, self.state_errored):
            yield SendHttp(RequestProtocolError(self.stream_id, "the policy changed", ErrorCode.CANCEL), self.context.server)
        yield from self.handle_protocol_error(ResponseProtocolError(self.stream_id, "the policy changed", ErrorCode.CANCEL))

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        self.bodiless = event.end_stream
        yield from super().state_wait_for_request_headers(event)

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        response = self.flow.response
        asked = self.flow.request.headers.get("upgrade", "").strip().lower() == "websocket"  # which the ladder admits, and nothing else
        if request or asked or response is None or response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return (yield from super().check_invalid(request))
        error = "the server switched to a protocol that nobody asked for"
        self.flow.error = Error(error)
        yield commands.CloseConnection(self.flow.server_conn)
        yield HttpErrorHook(self.flow)
        yield SendHttp(ResponseProtocolError(self.stream_id, error, ErrorCode.RESPONSE_VALIDATION_FAILED), self.context.client)
        self.flow.live = False
        self.client_state = self.server_state = self.state_errored
        return True

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        holding = self.flow.metadata.get(HOLDING)
        if not request or holding is None or self.flow.request.stream or holding.grow(len(self.request_body_buf)):
            return False
        yield BodyTooLongHook(self.flow)
        if (yield from self.check_killed(True)):
            self.request_body_buf.clear()  # type: ignore[no-untyped-call]
            return True
        held = bytes(self.request_body_buf)
        self.request_body_buf.clear()  # type: ignore[no-untyped-call]
        yield from self.start_request_stream()
        yield from self.handle_event(RequestData(self.stream_id, held))
        return False

    def state_stream_request_body(self, event: RequestData | RequestTrailers | RequestEndOfMessage) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestData) and not event.data:
            return  # an empty DATA frame: a chunk of nothing would end the body on an HTTP/1 server, and the rest be another request
        yield from super().state_stream_request_body(event)

    def state_stream_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseData) and not event.data:
            return  # an empty DATA frame: to whoever reads along, no octets are the end
        yield from super().state_stream_response_body(event)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        connected = yield from super().make_server_connection()
        request = self.flow.request
        unframed = request.is_http2 and not self.bodiless and "content-length" not in request.headers
        if connected and unframed and self.context.server.alpn != b"h2":
            request.headers["transfer-encoding"] = "chunked"
        return connected

    def check_killed(self, emit_error_hook: bool) -> layer.CommandGenerator[bool]:
        if any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue):
            self.flow.metadata[BY_CLIENT] = True  # it left while its request was being judged
        return (yield from super().check_killed(emit_error_hook))

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> layer.CommandGenerator[None]:
        self.flow.metadata[BY_CLIENT] = isinstance(event, RequestProtocolError)
        yield from super().handle_protocol_error(event)


class ClientHttp1(Http1Server):
    """HTTP/1 towards the sandbox."""

    def __init__(self, context: Context, parent: GovernedHttp) -> None:
        super().__init__(context)
        self._parent, self._settings = parent, parent.settings
        self._dropped = 0

    def _handle_event(self, event: events.Event) -> Commands:
        yield from super()._handle_event(event)
        if not isinstance(event, events.DataReceived) or self.state == self.done:
            return
        if self.response_done and not self.request_done:
            self._dropped += len(event.data)
        if self._dropped > self._settings.discard_bytes or (self.state == self.wait and len(self.buf) > self._settings.pipeline_bytes):
            yield commands.CloseConnection(self.conn)
            self.state = self.done

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        if not isinstance(event, events.DataReceived):
            yield from super().read_headers(event)
            return
        while self.buf and bytes(self.buf)[:2] == b"\r\n":  # RFC 9112, 2.2: an empty line before the request line is skipped
            self.buf.maybe_extract_at_most(2)
        if not self.buf:
            return
        try:
            if head_length(bytes(self.buf), self._settings.head_bytes) is None:
                return
            lines = self.buf.maybe_extract_lines()
            assert lines is not None
            self.request = http1.read_request_head([bytes(line) for line in lines])
            expected = http1.expected_http_body_size(self.request)
        except ValueError as problem:
            hook = HeadUnreadableHook(self.context.client, str(problem)[:512])
            yield hook
            answer = Answer(hook.answer)
            head = http1.assemble_response_head(answer.head(close=True))  # type: ignore[no-untyped-call]
            yield commands.SendData(self.conn, head + answer.body)
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, expected == 0))
        self.body_reader = make_body_reader(expected)
        self.state = self.read_body
        yield from self.state(event)

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError) and event.stream_id != self.stream_id:
            return  # refused and answered; meanwhile the client had left, which ends the stream a second time
        answered = self.response is not None and self.response.status_code != HTTPStatus.CONTINUE  # which precedes an answer
        answer = self._parent.answer(event.stream_id) if isinstance(event, ResponseProtocolError) and not answered else None
        if answer is None:
            yield from super().send(event)
            return
        assert self.request is not None
        hang_up = self._parent.hang_up(event.stream_id)
        yield DropStream(event.stream_id)
        response = answer.head(close=hang_up or not self.request_done)
        yield from super().send(ResponseHeaders(event.stream_id, response))
        if self.request.method != "HEAD":
            yield from super().send(ResponseData(event.stream_id, answer.body))
        if hang_up:
            yield commands.CloseConnection(self.conn)
            self.state = self.done
        else:
            yield from super().send(ResponseEndOfMessage(event.stream_id))


class ClientHttp2(Http2Server):
    """HTTP/2 towards the sandbox."""

    def __init__(self, context: Context, parent: GovernedHttp) -> None:
        super().__init__(context)
        self._parent = parent
        self._dropped = self._empty = 0
        self._methods: dict[int, str] = {}

    def _handle_event(self, event: events.Event) -> Commands:
        answer = self._parent.answer(event.stream_id) if isinstance(event, ResponseProtocolError) else None
        if answer is None or not isinstance(event, ResponseProtocolError) or self._answered(event.stream_id):
            yield from super()._handle_event(event)
            return
        stream_id = event.stream_id
        head_only = self._parent.streams[stream_id].flow.request.method == "HEAD"
        yield DropStream(stream_id)
        yield from super()._handle_event(ResponseHeaders(stream_id, answer.head(close=False), end_stream=head_only))
        if not head_only:
            yield from super()._handle_event(ResponseData(stream_id, answer.body))
            yield from super()._handle_event(ResponseEndOfMessage(stream_id))

    def _answered(self, stream_id: int) -> bool:
        stream = self.h2_conn.streams.get(stream_id)
        return stream is None or bool(stream.state_machine.headers_sent)

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        if isinstance(event, h2.events.RequestReceived) and event.stream_ended:
            # h2 counts the octets of DATA frames against content-length, and does not look when there is no frame to count.
            lengths = [value for name, value in event.headers if name == b"content-length"]
            if any(value != b"0" for value in lengths):
                yield from self.protocol_error("content-length of a request without a body")
                return True
        if isinstance(event, h2.events.DataReceived) and event.data:
            self._empty = max(0, self._empty - 1)
        elif isinstance(event, h2.events.DataReceived) and not event.stream_ended:
            self._empty += 1
            if self._empty > EMPTY_FRAMES:
                yield from self.protocol_error("too many empty frames", h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                return True
        if isinstance(event, h2.events.DataReceived) and event.stream_id not in self._parent.streams:
            self._dropped += len(event.data)
            if self._dropped > self._parent.settings.discard_bytes:
                yield from self.protocol_error("too much sent on refused streams", h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                return True
        return (yield from super().handle_h2_event(event))

    def protocol_error(self, message: str, error_code: int = h2.errors.ErrorCodes.PROTOCOL_ERROR) -> layer.CommandGenerator[None]:
        yield HeadUnreadableHook(self.context.client, message[:512])
        yield from super().protocol_error(message, error_code)
