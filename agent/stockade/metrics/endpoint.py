"""The page over HTTP: GET /metrics, and nothing else. On loopback unless somebody says otherwise; TLS and a bearer token where they do.

Owns the listening socket and what little of HTTP that takes. A client gets one answer, a few seconds and a few kilobytes; a sandbox gets
nothing (see `peers`).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hmac
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from stockade.metrics.listen import Listen
from stockade.metrics.peers import governed
from stockade.types import StockadeError

log = logging.getLogger(__name__)

PATH = "/metrics"
SECONDS = 5.0  # for a whole request, and for its answer
HEAD = 16 * 1024  # octets
CLIENTS = 16  # at once

Render = Callable[[str], Awaitable[tuple[bytes, str]]]


class Endpoint:
    """render(Accept) gives the page and its content type; it is not asked twice at a time. requests: by status."""

    def __init__(self, listen: Listen, render: Render) -> None:
        self._listen, self._render = listen, render
        self.requests: Counter[str] = Counter()
        self.address, self.port = "", 0
        self._sock: socket.socket | None = None
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        self._token: str | None = None

    def open(self) -> None:
        """Take the port. `address` is where, also when any port would do. Raises StockadeError."""
        self._tls, self._token = self._listen.context(), self._listen.secret()
        host, port = self._listen.host, self._listen.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            sock.listen(CLIENTS)
        except OSError as error:
            sock.close()
            raise _not_opened(self._listen, error) from None
        sock.setblocking(False)
        self._sock = sock
        self.port = sock.getsockname()[1]
        self.address = str(dataclasses.replace(self._listen, port=self.port))

    def serve(self) -> None:
        """Answer on the running loop."""
        self._keep(self._accept())

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sock is not None:
            self._sock.close()

    def _keep(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        assert self._sock is not None
        loop, room = asyncio.get_running_loop(), asyncio.Semaphore(CLIENTS)
        while True:
            await room.acquire()
            try:
                client, _ = await loop.sock_accept(self._sock)
            except OSError as error:
                log.error("metrics: %s", error)
                room.release()
                await asyncio.sleep(1)
                continue
            self._keep(self._speak(client, room))

    async def _speak(self, client: socket.socket, room: asyncio.Semaphore) -> None:
        try:
            with client:
                if await asyncio.to_thread(_is_governed, client):
                    self.requests["peer"] += 1
                    return
                # a client that says nothing, trickles, or never reads its answer
                with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    async with asyncio.timeout(2 * SECONDS):
                        await self._converse(client)
        finally:
            room.release()

    async def _converse(self, client: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=HEAD)
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, client, ssl=self._tls, ssl_handshake_timeout=SECONDS if self._tls else None
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            async with asyncio.timeout(SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            status, body, content_type = await self._answer(head)
            self.requests[str(status.value)] += 1
            writer.write(_head(status, len(body), content_type))
            if not head.startswith(b"HEAD "):
                writer.write(body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except asyncio.LimitOverrunError:
            self.requests["400"] += 1
            writer.write(_head(HTTPStatus.BAD_REQUEST, 0, "text/plain"))
        finally:
            transport.close()

    async def _answer(self, head: bytes) -> tuple[HTTPStatus, bytes, str]:
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return HTTPStatus.BAD_REQUEST, b"not a request\n", "text/plain"
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if not self._admits(fields.get("authorization", "")):
            return HTTPStatus.UNAUTHORIZED, b"a bearer token is wanted\n", "text/plain"
        if words[1].partition("?")[0] != PATH:
            return HTTPStatus.NOT_FOUND, b"/metrics\n", "text/plain"
        if words[0] not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, b"GET\n", "text/plain"
        try:
            async with self._turn:
                body, content_type = await self._render(fields.get("accept", ""))
        except Exception:
            log.exception("the page of metrics could not be made")
            return HTTPStatus.SERVICE_UNAVAILABLE, b"see the agent's log\n", "text/plain"
        return HTTPStatus.OK, body, content_type

    def _admits(self, authorization: str) -> bool:
        if self._token is None:
            return True
        scheme, _, said = authorization.partition(" ")
        return hmac.compare_digest(said.strip().encode("latin-1"), self._token.encode()) and scheme.lower() == "bearer"


def _is_governed(client: socket.socket) -> bool:
    try:
        return governed(client)
    except OSError as error:  # not knowing who asks is a reason not to answer
        log.error("metrics: who asks cannot be told: %s", error)
        return True


def _head(status: HTTPStatus, length: int, content_type: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {length}",
        "Cache-Control: no-store",
        "Connection: close",
        *(["WWW-Authenticate: Bearer"] if status is HTTPStatus.UNAUTHORIZED else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _not_opened(listen: Listen, error: OSError) -> StockadeError:
    if error.errno == errno.EADDRINUSE:
        hint = f"another run has it? Port 0 takes any that is free: --metrics {dataclasses.replace(listen, port=0)}"
        return StockadeError(f"metrics: {listen} is taken", hint=hint, code="port_taken")
    return StockadeError(f"metrics: {listen} cannot be listened at: {os.strerror(error.errno or 0)}", hint="127.0.0.1:0", code="metrics")
