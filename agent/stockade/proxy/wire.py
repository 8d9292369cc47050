"""One HTTP/1.1 exchange with a server of ours, by the worker itself: TCP, or TLS over memory, with h11 on it.

For the local model alone, whose address the agent gave. Follows no redirect, keeps no connection, decodes no content encoding.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence

import h11
from OpenSSL import SSL

from stockade.proxy.upstream import Trust, dial

_PIECE = 64 * 1024


class Broken(Exception):
    """The exchange cannot go on. str(): what happened, in words."""


class Wire:
    """send, then read what comes: head(), then pieces until None. Closes with `close`, from any state."""

    def __init__(self, sock: socket.socket, session: SSL.Connection | None) -> None:
        self._sock, self._session = sock, session
        self._http = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=64 * 1024)
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, addresses: Sequence[str], port: int, seconds: float, trust: Trust | None, name: str) -> Wire:
        """trust: where it is TLS, who may vouch for `name`. Raises Broken."""
        try:
            sock = await dial(addresses, port, seconds)
        except OSError as error:
            raise Broken(f"it cannot be reached: {os.strerror(error.errno) if error.errno else 'no answer in time'}") from error
        wire = cls(sock, None if trust is None else trust.connection(name, (b"http/1.1",)))
        if wire._session is not None:
            try:
                await wire._handshake(wire._session)
            except BaseException:
                wire.close()
                raise
        return wire

    def close(self) -> None:
        self._sock.close()

    async def send(self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes = b"") -> None:
        """Raises Broken."""
        framed = [*headers, ("content-length", str(len(body)))] if body else list(headers)
        head = self._http.send(h11.Request(method=method, target=path, headers=framed))
        data = self._http.send(h11.Data(data=body)) if body else b""
        await self._write((head or b"") + (data or b"") + (self._http.send(h11.EndOfMessage()) or b""))

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers, these by their lower-case names. Raises Broken."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event.status_code, {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            if not isinstance(event, h11.InformationalResponse):
                raise Broken("it ended before it answered")

    async def piece(self) -> bytes | None:
        """What comes next of the body; None at its end. Raises Broken, also for one that is not whole."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return None
        raise Broken("it broke off")

    async def _event(self) -> object:
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(await self._read())
                    continue
            except h11.RemoteProtocolError as error:
                raise Broken("what it said is no HTTP, or broke off") from error
            return event

    async def _read(self) -> bytes:
        if self._session is None:
            return await self._receive()
        while True:
            try:
                return bytes(self._session.recv(_PIECE))
            except SSL.WantReadError:
                if not await self._feed(self._session):
                    raise Broken("it broke off") from None
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as error:
                raise Broken("its TLS failed") from error

    async def _write(self, data: bytes) -> None:
        if self._session is None:
            await self._transmit(data)
            return
        for at in range(0, len(data), _PIECE):
            self._session.sendall(data[at : at + _PIECE])
            await self._flush(self._session)

    async def _handshake(self, session: SSL.Connection) -> None:
        while True:
            try:
                session.do_handshake()
            except SSL.WantReadError:
                await self._flush(session)
                if not await self._feed(session):
                    raise Broken("it broke off in the TLS handshake") from None
            except SSL.Error as error:
                raise Broken("its certificate is not one for its name that this host trusts, or its TLS failed") from error
            else:
                await self._flush(session)
                return

    async def _feed(self, session: SSL.Connection) -> bool:
        data = await self._receive()
        if data:
            session.bio_write(data)
        return bool(data)

    async def _flush(self, session: SSL.Connection) -> None:
        while True:
            try:
                data = session.bio_read(_PIECE)
            except SSL.WantReadError:
                return
            await self._transmit(data)

    async def _receive(self) -> bytes:
        try:
            return await self._loop.sock_recv(self._sock, _PIECE)
        except OSError as error:
            raise Broken("it broke off") from error

    async def _transmit(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._sock, data)
        except OSError as error:
            raise Broken("it took no more of the call") from error
