"""The sockets, on loopback: datagrams, prefixes, pipelines, time-outs, bounds."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator

import dns.asyncquery
import dns.message
import dns.rcode
import pytest

import stockade.dns.server as server_module
from stockade.dns import Asker, Server, serve
from unit.dns.samples import PIP, World

Work = Callable[[], Awaitable[None]]


class Listening:
    """UDP and TCP on both loopbacks, and who asked."""

    def __init__(self) -> None:
        self.world = World()
        self.peers: list[tuple[str, int, socket.AddressFamily]] = []
        self.connections: list[tuple[str, int]] = []
        self.asker: Asker | None = PIP
        self.sockets = []
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                sock = socket.socket(family, kind)
                sock.bind((address, 0))
                if kind == socket.SOCK_STREAM:
                    sock.listen()
                self.sockets.append(sock)
        self.udp4, self.tcp4, self.udp6, self.tcp6 = (sock.getsockname()[1] for sock in self.sockets)

    def who_udp(self, peer: tuple[str, int], family: socket.AddressFamily) -> Asker | None:
        self.peers.append((*peer, family))
        return self.asker

    def who_tcp(self, connection: socket.socket) -> Asker | None:
        self.connections.append(connection.getpeername()[:2])
        return self.asker

    def run(self, work: Work) -> None:
        async def all_of_it() -> None:
            server = await serve(self.world.resolver, self.sockets, self.who_udp, self.who_tcp)
            try:
                async with asyncio.timeout(20):
                    await work()
            finally:
                server.close()
                await server.wait_closed()

        asyncio.run(all_of_it())
        assert all(sock.fileno() == -1 for sock in self.sockets)


@pytest.fixture
def listening() -> Iterator[Listening]:
    here = Listening()
    yield here
    for sock in here.sockets:
        sock.close()


def query(name: str, kind: str = "A") -> dns.message.Message:
    return dns.message.make_query(name, kind, use_edns=0)


def framed(*names: str) -> bytes:
    return b"".join(len(wire).to_bytes(2) + wire for wire in (query(name).to_wire() for name in names))


async def answers(reader: asyncio.StreamReader, count: int) -> list[dns.message.Message]:
    return [dns.message.from_wire(await reader.readexactly(int.from_bytes(await reader.readexactly(2)))) for _ in range(count)]


def test_udp_and_tcp_on_both_families(listening: Listening) -> None:
    async def work() -> None:
        for address, port in (("127.0.0.1", listening.udp4), ("::1", listening.udp6)):
            reply = await dns.asyncquery.udp(query("repo.test"), address, port=port, timeout=5)
            assert str(reply.answer[0][0]) == "198.18.1.0"
        for address, port in (("127.0.0.1", listening.tcp4), ("::1", listening.tcp6)):
            reply = await dns.asyncquery.tcp(query("evil.com"), address, port=port, timeout=5)
            assert reply.rcode() == dns.rcode.NXDOMAIN

    listening.run(work)
    assert [(peer[0], peer[2]) for peer in listening.peers] == [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
    assert [peer[0] for peer in listening.connections] == ["127.0.0.1", "::1"]
    assert len(listening.world.records) == 4


def test_a_burst_is_answered_whole(listening: Listening) -> None:
    """More than one turn's share, from one socket."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(("127.0.0.1", listening.udp4))
            for number in range(100):
                await loop.sock_sendall(sock, query(f"h{number}.repo.test").to_wire())
            seen = {str(dns.message.from_wire(await loop.sock_recv(sock, 4096)).answer[0][0]) for _ in range(100)}
        assert len(seen) == 100

    listening.run(work)


def test_garbage_stops_nothing(listening: Listening) -> None:
    async def work() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for data in (b"", b"x", b"\xff" * 2000, b"\0" * 12):
                sock.sendto(data, ("127.0.0.1", listening.udp4))
            reply = await dns.asyncquery.udp(query("repo.test"), "127.0.0.1", port=listening.udp4, timeout=5)
            assert reply.answer

    listening.run(work)


def test_a_fault_of_ours_is_a_failure_and_not_an_answer(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Asker | None:
        raise RuntimeError("bug")

    monkeypatch.setattr(listening, "who_udp", broken)

    async def work() -> None:
        for _ in range(2):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(("127.0.0.1", listening.udp4))
                await asyncio.get_running_loop().sock_sendall(sock, query("repo.test").to_wire())
                assert (await asyncio.get_running_loop().sock_recv(sock, 512))[3] & 15 == dns.rcode.SERVFAIL

    listening.run(work)


def test_pipelined_queries_are_answered_in_order_also_after_a_half_close(listening: Listening) -> None:
    names = [f"h{number}.repo.test" for number in range(50)]

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.tcp4)
        writer.write(framed(*names))
        writer.write_eof()
        assert [str(one.question[0].name)[:-1] for one in await answers(reader, 50)] == names
        assert await reader.read() == b""
        writer.close()

    listening.run(work)
    assert len(listening.connections) == 1, "who asks is who connected: asked for once"


def test_a_query_in_single_bytes(listening: Listening) -> None:
    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.tcp4)
        for byte in framed("repo.test"):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await answers(reader, 1))[0].answer
        writer.close()

    listening.run(work)


@pytest.mark.parametrize("data", [b"\xff\xff", b"\0\0", b"\0\x05hello", b"\0"], ids=["too long", "empty", "no query", "nothing more"])
def test_what_ends_a_connection(listening: Listening, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.tcp4)
        writer.write(data)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(1)
        writer.close()

    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.2)
    listening.run(work)


def test_silent_connections_end_and_make_room(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(server_module, "CONNECTIONS", 2)

    async def work() -> None:
        silent = [await asyncio.open_connection("127.0.0.1", listening.tcp4) for _ in range(3)]
        assert (await dns.asyncquery.tcp(query("repo.test"), "127.0.0.1", port=listening.tcp4, timeout=5)).answer
        for _, writer in silent:
            writer.close()

    listening.run(work)


def test_who_does_not_read_is_cut_off(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.3)

    async def work() -> None:
        listening.sockets[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        burst = framed("repo.test") * 200
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", listening.tcp4))
        _, writer = await asyncio.open_connection(sock=sock, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises((ConnectionError, TimeoutError)):
            async with asyncio.timeout(15):
                while True:
                    writer.write(burst)
                    await writer.drain()
        writer.transport.abort()

    listening.run(work)


def test_close_ends_open_connections(listening: Listening) -> None:
    async def work() -> None:
        server = Server(listening.world.resolver, listening.who_udp, listening.who_tcp)
        server.add(listening.sockets[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.tcp4)
        writer.write(framed("repo.test"))
        await answers(reader, 1)
        server.close()
        server.close()
        await server.wait_closed()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", listening.tcp4)
        writer.close()

    asyncio.run(asyncio.wait_for(work(), 20))


@pytest.mark.skipif(shutil.which("dig") is None, reason="no dig on this machine (bind9-dnsutils)")
def test_dig_understands_a_refusal(listening: Listening) -> None:
    async def work() -> None:
        command = ["dig", "@127.0.0.1", "-p", str(listening.udp4), "evil.com", "A"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        assert "status: NXDOMAIN" in done.stdout and "EDE: 15 (Blocked)" in done.stdout

    listening.run(work)
