"""The resolver's sockets: UDP and TCP 53 on the sandbox's lo.

Owns datagrams, length prefixes, time-outs and bounds; the answers are the resolver's. The sockets were made in the sandbox's network
namespace and stay there; this code runs in the agent's event loop. What a sandbox can spend here is bounded: a share of datagrams per
turn of the loop, connections, idle seconds, and one query at a time per connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence

import dns.rcode

from stockade.dns.message import LONGEST_QUERY, failure
from stockade.dns.resolver import Asker, Resolver

log = logging.getLogger(__name__)

Peer = tuple[str, int]
WhoUdp = Callable[[Peer, socket.AddressFamily], Asker | None]
WhoTcp = Callable[[socket.socket], Asker | None]

DATAGRAMS_PER_TURN = 32  # then the loop's other work has its turn
CONNECTIONS = 64  # per listening socket; more wait in its backlog
IDLE_SECONDS = 10.0  # RFC 7766 6.2.3: of the order of seconds


class Server:
    """Serving sockets. close() stops at once and closes them; wait_closed() returns when the last connection is gone."""

    def __init__(self, resolver: Resolver, who_udp: WhoUdp, who_tcp: WhoTcp) -> None:
        self._resolver, self._who_udp, self._who_tcp = resolver, who_udp, who_tcp
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, sock: socket.socket) -> None:
        """Serve one more socket, UDP or listening TCP; it is closed with the server."""
        sock.setblocking(False)
        self._sockets.append(sock)
        if sock.type == socket.SOCK_DGRAM:
            self._loop.add_reader(sock, self._read, sock)
        else:
            self._start(self._accept(sock))

    def close(self) -> None:
        for sock in self._sockets:
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock)
        for task in self._tasks:
            task.cancel()
        for sock in self._sockets:
            sock.close()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answer(self, query: bytes, who: Callable[[], Asker | None], *, tcp: bool) -> bytes | None:
        try:
            return self._resolver.answer(query, who(), tcp=tcp)
        except Exception:  # a bug of ours must neither stop the resolver nor let anything through
            log.exception("dns query not answered")
            return failure(query, dns.rcode.SERVFAIL)

    def _read(self, sock: socket.socket) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                query, peer = sock.recvfrom(65535)
            except OSError:  # nothing left; or an ICMP error for an earlier answer, which is nobody's concern
                return
            answer = self._answer(query, functools.partial(self._who_udp, (peer[0], peer[1]), sock.family), tcp=False)
            if answer is not None:
                with contextlib.suppress(OSError):  # the asker is gone, or does not read: UDP promises nothing
                    sock.sendto(answer, peer)

    async def _accept(self, listener: socket.socket) -> None:
        room = asyncio.Semaphore(CONNECTIONS)
        while True:
            await room.acquire()
            try:
                connection, _ = await self._loop.sock_accept(listener)
            except OSError as error:  # aborted before it was accepted, or no descriptors left
                room.release()
                log.warning("dns connection not accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            self._start(self._converse(connection, room))

    async def _converse(self, connection: socket.socket, room: asyncio.Semaphore) -> None:
        """Queries of one connection, in order (RFC 7766). Its asker is asked for once: who connected is who asks."""
        writer = None
        try:
            asker = self._who_tcp(connection)
            reader, writer = await asyncio.open_connection(sock=connection)
            writer.transport.set_write_buffer_limits(0)  # drain() then waits for the last byte
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    length = int.from_bytes(await reader.readexactly(2))
                    if length > LONGEST_QUERY:
                        return
                    answer = self._answer(await reader.readexactly(length), lambda: asker, tcp=True)
                    if answer is None:
                        return
                    writer.write(len(answer).to_bytes(2) + answer)
                    await writer.drain()
        except (OSError, EOFError, TimeoutError):  # it hung up, fell silent, or does not read
            return
        finally:
            if writer is None:
                connection.close()
            else:
                writer.transport.abort()  # every answer was drained: what is left is for a peer that did not read
            room.release()


async def serve(resolver: Resolver, sockets: Sequence[socket.socket], who_udp: WhoUdp, who_tcp: WhoTcp) -> Server:
    """Serve bound UDP and listening TCP sockets, which become the server's.

    who_udp: the asker behind a datagram's (address, port). who_tcp: the asker behind an accepted connection. Both are quick and None
    means unknown.
    """
    server = Server(resolver, who_udp, who_tcp)
    for sock in sockets:
        server.add(sock)
    return server
