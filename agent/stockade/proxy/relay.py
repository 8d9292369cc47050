"""Bytes from one socket to the other, for rules that look no deeper than the name: `tls: passthrough` and `protocol: tcp`.

Nothing is terminated or parsed but the ClientHello, whose server name must be the dialled one: otherwise a shared address (a CDN) would
carry a connection to any other host of it. The client's first flight is held until that is checked, so no byte of a refused one leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from stockade.proxy import clienthello
from stockade.proxy.ladder import same_host
from stockade.proxy.settings import Settings
from stockade.types import Reason

CHUNK = 256 * 1024


Heard = Callable[[], bool]


class Refused(Exception):
    """The first flight may not pass: reason for the record, error in words."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(error)
        self.reason, self.error = reason, error


class ClientGone(Exception):
    """The client reset the connection before its first flight was whole: nothing was decided, nothing is to be recorded."""


class Cut(Exception):
    """Cut before anything was passed on."""


class Half(asyncio.BufferedProtocol):
    """One side of a relay. What it reads goes to `other`; a full write buffer there pauses reading here."""

    def __init__(self, heard: Heard = lambda: True) -> None:
        self._heard = heard
        self.transport: asyncio.Transport | None = None
        self.other: Half | None = None
        self.received = 0
        self.closed = asyncio.get_running_loop().create_future()
        self._buffer = memoryview(bytearray(CHUNK))
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._heard():
            return
        self.received += nbytes
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        """Half-close: the other side hears of it and may go on answering. True keeps our own transport open for that."""
        self._ended = True
        other = self.other
        if other is None or other.transport is None or other._ended:
            return False
        with contextlib.suppress(OSError):
            other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard()  # the last word has passed, and is yet told of
        if not self.closed.done():
            self.closed.set_result(None)
        if self.other is not None and self.other.transport is not None:
            if isinstance(exc, ConnectionResetError):  # what was cut off must not look complete to the other side
                reset_on_close(self.other.transport.get_extra_info("socket"))
            self.other.transport.close()  # flushes what it still holds


class Relay:
    """One relayed connection from its first byte to its end; `cut` ends it at once."""

    def __init__(self, client: socket.socket, host: str, *, tls: bool, settings: Settings, heard: Heard = lambda: True) -> None:
        """heard: asked at each piece from the client whether it may pass; it has cut when it may not."""
        self._client, self._host, self._tls, self._settings, self._heard = client, host, tls, settings, heard
        self._server: socket.socket | None = None
        self._halves: tuple[Half, Half] | None = None
        self._cut = False

    @property
    def tls(self) -> bool:
        """Whether its first flight had to be a ClientHello."""
        return self._tls

    @property
    def sent(self) -> int:
        """Bytes from the client so far."""
        return self._halves[0].received if self._halves else 0

    @property
    def received(self) -> int:
        return self._halves[1].received if self._halves else 0

    def cut(self) -> None:
        """Reset both sides: nothing that is still in a buffer arrives. Before anything was passed on, nothing will be."""
        self._cut = True
        for sock in (self._client, self._server):
            if sock is not None:
                reset_on_close(sock)
        for half in self._halves or ():
            if half.transport is not None:
                half.transport.abort()
        if self._halves is None:
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)  # whoever waits for its first flight wakes up

    async def run(self, reach: Callable[[], Awaitable[socket.socket]]) -> None:
        """Until both sides are done. reach() dials the other side. Raises Refused, ClientGone, Cut, or what reach() does."""
        try:
            if self._tls:
                first = await self._first_flight(b"")
                self._server = await self._dialled(reach)
            else:
                # A server of a plain protocol may speak first (SSH, SMTP): it is dialled before the client has said anything.
                self._server = await self._dialled(reach)
                first = await self._first_of_plain()
            self._demand_uncut()
        except BaseException:
            if self._server is not None:
                self._server.close()
            raise
        await self._pass_on(self._server, first)

    async def join(self, server: socket.socket) -> None:
        """Until both sides are done, where the other side is connected already and nothing is to be checked. Raises Cut."""
        self._server = server
        self._demand_uncut()
        await self._pass_on(server, b"")

    async def _dialled(self, reach: Callable[[], Awaitable[socket.socket]]) -> socket.socket:
        self._demand_uncut()
        return await reach()

    def _demand_uncut(self) -> None:
        """While a first flight was awaited or a server dialled, the policy may have changed. Raises Cut."""
        if self._cut:
            raise Cut

    async def _pass_on(self, server: socket.socket, first: bytes) -> None:
        loop = asyncio.get_running_loop()
        left, right = Half(self._heard), Half()
        self._halves = (left, right)
        await loop.connect_accepted_socket(lambda: right, server)
        assert right.transport is not None
        right.transport.pause_reading()
        left.other, right.other = right, left
        if first and not self._heard():
            raise Cut
        if first:
            left.received += len(first)
            right.transport.write(first)
        await loop.connect_accepted_socket(lambda: left, self._client)
        right.transport.resume_reading()
        await asyncio.gather(left.closed, right.closed)

    async def _first_of_plain(self) -> bytes:
        """What a client of a plain protocol said before its server did: checked when it is TLS after all."""
        loop = asyncio.get_running_loop()
        assert self._server is not None
        readable: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not readable.done():
                readable.set_result(None)

        loop.add_reader(self._client, wake)
        loop.add_reader(self._server, wake)
        try:
            await readable
        finally:
            loop.remove_reader(self._client)
            loop.remove_reader(self._server)
        try:
            said = self._client.recv(CHUNK)
        except BlockingIOError:
            return b""  # the server spoke first: no TLS client is on this side
        except OSError as error:
            raise ClientGone from error
        if clienthello.looks_like_tls(said) and said:
            return await self._first_flight(said)
        if not said:
            self._server.shutdown(socket.SHUT_WR)
        return said

    async def _first_flight(self, said: bytes) -> bytes:
        """Read a whole ClientHello and check its name. Raises Refused, ClientGone."""
        loop = asyncio.get_running_loop()
        data = bytearray(said)
        try:
            async with asyncio.timeout(self._settings.head_seconds):
                while True:
                    hello = clienthello.parse(bytes(data)) if data else None
                    if hello is not None:
                        break
                    if len(data) > self._settings.hello_bytes:
                        raise Refused(Reason.PROTOCOL_ERROR, "ClientHello too long")
                    more = await loop.sock_recv(self._client, 16 * 1024)
                    if not more:
                        raise Refused(Reason.PROTOCOL_ERROR, "closed before the end of its ClientHello")
                    data += more
        except TimeoutError:
            raise Refused(Reason.HEADER_TIMEOUT, "no ClientHello in time") from None
        except OSError as error:
            raise ClientGone from error
        except ValueError as error:
            raise Refused(Reason.PROTOCOL_ERROR, f"TLS is wanted here: {error}") from None
        name = hello.server_name
        if name is None and (self._tls and not is_literal(self._host)):
            raise Refused(Reason.SNI_MISMATCH, "the ClientHello names no server")
        if name is not None and not same_host(name, self._host):
            raise Refused(Reason.SNI_MISMATCH, f"the ClientHello names {name[:256]}")
        return bytes(data)


def is_literal(host: str) -> bool:
    """Whether host is an address: RFC 6066 forbids those in SNI, so none can be wanted."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        return False
    return True


def reset_on_close(sock: socket.socket) -> None:
    """From now on closing drops what the kernel still holds for the peer and sends RST instead of FIN."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
