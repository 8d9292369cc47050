"""The mutating admission webhook: HTTPS, a question of the API server's about a pod, an answer; nothing is kept, and nobody is asked.

Owns the port and what little of HTTP that takes (h11). The answer is a function of the question: who else asks learns nothing. A client
gets one answer, some seconds and some megabytes, and one address some of the connections: the API server's are not used up by a pod.

It is not what holds a pod. Where it is away, and the cluster is told to go on without it, a pod starts without a trust store: its HTTP
rules refuse, because its clients do not take our certificate, and what it keeps of capabilities is told by its node's agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

import h11

from stockade.kubernetes.certificate import Certificate
from stockade.kubernetes.patch import Malformed, Patch, added, made
from stockade.kubernetes.review import LARGEST, Json, Question, answer, parse
from stockade.metrics.figures import Histogram
from stockade.metrics.listen import Listen
from stockade.types import StockadeError

log = logging.getLogger(__name__)

PATH, HEALTH = "/mutate", "/healthz"
SECONDS = 5.0  # for a handshake, a whole request, its answer
CLIENTS, OF_ONE = 128, 32  # connections at once, of all and of one address
ROOM = 32 << 20  # octets of bodies that are not whole yet, of all clients
_PIECE = 64 * 1024
OURS = ("kube-system", "kube-public", "kube-node-lease")


class Result(StrEnum):
    """What came of a review."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"  # it is so already
    LEFT = "left"  # not ours to change
    MALFORMED = "malformed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Whom:
    """left: namespaces whose pods are left alone. may_keep: namespace ("": every one) and a capability that its pods may keep.

    chosen: whether a policy means a pod, as the API server's question has it, in a namespace.
    """

    left: frozenset[str] = frozenset(OURS)
    may_keep: frozenset[tuple[str, str]] = frozenset()
    chosen: Callable[[str, Json], bool] = lambda _namespace, _pod: True

    def patch(self, question: Question) -> Patch:
        """Raises Malformed."""
        if question.resource not in ("pods", "pods/ephemeralcontainers"):
            return Patch(left=f"no pod: {question.resource[:60]}")
        if question.namespace in self.left:
            return Patch(left=f"the namespace {question.namespace}")
        keep = frozenset(capability for namespace, capability in self.may_keep if namespace in ("", question.namespace))
        if question.resource == "pods" and question.operation != "CREATE":
            return Patch(left="a pod that is there: its containers do not change")
        if not self.chosen(question.namespace, question.subject):
            return Patch(left="no policy means it")
        if question.resource == "pods":
            return made(question.subject, keep)
        return added(question.subject, question.before, keep)


class Webhook:
    """reviews: by what came of them. requests: by status. seconds: from a whole question to its answer."""

    def __init__(self, listen: Listen, certificate: Certificate, whom: Whom) -> None:
        self._listen, self.certificate, self._whom = listen, certificate, whom
        self.reviews: Counter[Result] = Counter(dict.fromkeys(Result, 0))
        self.requests: Counter[str] = Counter()
        self.seconds = Histogram()
        self._sock: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._speaking: set[asyncio.Task[None]] = set()
        self._of: Counter[str] = Counter()
        self._hearing = 0  # octets

    def open(self) -> str:
        """Take the port. Returns where. Raises StockadeError."""
        family = socket.AF_INET6 if ":" in self._listen.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._listen.host, self._listen.port))
            sock.listen(CLIENTS)
        except OSError as error:
            sock.close()
            said = f"webhook: {self._listen} cannot be listened at: {os.strerror(error.errno or 0)}"
            raise StockadeError(said, hint="--listen 0.0.0.0:8443", code="webhook_port") from None
        sock.setblocking(False)
        self._sock = sock
        host, port = sock.getsockname()[:2]
        return str(Listen(host, port))

    def serve(self) -> None:
        """Answer on the running loop."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def close(self) -> None:
        """Take nobody else; who is being answered is, for some seconds."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        if self._sock is not None:
            self._sock.close()
        if self._speaking:
            _, late = await asyncio.wait(self._speaking, timeout=SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self) -> None:
        assert self._sock is not None
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(self._sock)
            except OSError as error:
                log.error("webhook: %s", error)
                await asyncio.sleep(1)
                continue
            peer = str(address[0])
            if len(self._speaking) >= CLIENTS or self._of[peer] >= OF_ONE:
                client.close()
                self.requests["busy"] += 1
                continue
            self._of[peer] += 1
            task = loop.create_task(self._speak(client, peer))
            self._speaking.add(task)
            task.add_done_callback(self._speaking.discard)

    async def _speak(self, client: socket.socket, peer: str) -> None:
        try:
            # a client that says nothing, trickles, speaks no TLS, or never reads its answer
            with client, contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(3 * SECONDS):
                    await self._converse(client, self.certificate.context())
        except Exception as error:  # a mistake of ours, at one connection
            log.error("webhook: a connection failed: %r", error)
        finally:
            self._of[peer] -= 1
            if not self._of[peer]:
                del self._of[peer]

    async def _converse(self, client: socket.socket, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_PIECE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=tls, ssl_handshake_timeout=SECONDS)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            http = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
            try:
                async with asyncio.timeout(SECONDS):
                    request, body = await self._heard(http, reader, writer)
                status, text = self._answer(request, body)
            except h11.RemoteProtocolError as error:
                status, text = HTTPStatus(error.error_status_hint), b"no request that can be read\n"
            except _Full:
                status, text = HTTPStatus.SERVICE_UNAVAILABLE, b"too much at a time\n"
            except _TooLarge:
                status, text = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"a review is smaller\n"
            except _Gone:
                return
            self.requests[str(status.value)] += 1
            async with asyncio.timeout(SECONDS):
                writer.write(_said(http, status, text))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        finally:
            transport.abort()

    async def _heard(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[h11.Request, bytes]:
        """One request, whole. Raises RemoteProtocolError, _TooLarge, _Full, _Gone."""
        request: h11.Request | None = None
        body = bytearray()
        try:
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    if http.they_are_waiting_for_100_continue:
                        writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                    piece = await reader.read(_PIECE)
                    if not piece:
                        raise _Gone
                    http.receive_data(piece)
                elif isinstance(event, h11.Request):
                    request = event
                    declared = next((value for name, value in event.headers if name == b"content-length"), b"0")
                    if int(declared) > LARGEST:
                        raise _TooLarge
                elif isinstance(event, h11.Data):
                    body += event.data
                    self._hearing += len(event.data)
                    if len(body) > LARGEST:
                        raise _TooLarge
                    if self._hearing > ROOM:
                        raise _Full
                elif isinstance(event, h11.EndOfMessage):
                    assert request is not None
                    return request, bytes(body)
                else:
                    raise _Gone
        finally:
            self._hearing -= len(body)

    def _answer(self, request: h11.Request, body: bytes) -> tuple[HTTPStatus, bytes]:
        path, method = request.target.partition(b"?")[0].decode("latin-1"), request.method
        if path == HEALTH:
            return (HTTPStatus.OK, b"ok\n") if method == b"GET" else (HTTPStatus.METHOD_NOT_ALLOWED, b"GET\n")
        if path != PATH:
            return HTTPStatus.NOT_FOUND, f"{PATH}\n".encode()
        if method != b"POST":
            return HTTPStatus.METHOD_NOT_ALLOWED, b"POST\n"
        began = time.perf_counter()
        try:
            return self._reviewed(body)
        finally:
            self.seconds.observe(time.perf_counter() - began)

    def _reviewed(self, body: bytes) -> tuple[HTTPStatus, bytes]:
        try:
            question = parse(body)
            patch = self._whom.patch(question)
            said = answer(question, patch)
        except Malformed as error:
            self.reviews[Result.MALFORMED] += 1
            return HTTPStatus.BAD_REQUEST, f"{error.message}\n".encode(errors="replace")
        except Exception as error:  # a mistake of ours may not stop the cluster's pods: the API server goes on without us
            self.reviews[Result.FAILED] += 1
            log.error("webhook: a review failed: %r", error)
            return HTTPStatus.INTERNAL_SERVER_ERROR, b"see the webhook's log\n"
        result = Result.CHANGED if patch.operations else Result.LEFT if patch.left else Result.UNCHANGED
        self.reviews[result] += 1
        log.info("webhook: %s %s/%s: %s", question.operation, question.namespace, question.name, patch.left or result.value)
        return HTTPStatus.OK, said


class _TooLarge(Exception):
    """Of a body."""


class _Full(Exception):
    """Of all bodies together."""


class _Gone(Exception):
    """Who asked left before the question was whole."""


def _said(http: h11.Connection, status: HTTPStatus, text: bytes) -> bytes:
    kind = b"application/json" if text.startswith(b"{") else b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(text)), (b"connection", b"close")]
    answered = h11.Response(status_code=status.value, reason=status.phrase.encode("ascii"), headers=headers)
    return b"".join(filter(None, map(http.send, (answered, h11.Data(data=text), h11.EndOfMessage()))))
